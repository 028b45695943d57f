/* Expressions of the loop IR: nodes, interning, constant folding, ranges, strides.

   A node is built once: an equal request gives the same pointer, so comparing pointers compares values and
   a lowering may build the same index as often as it likes. Loads and lane reductions are the exception,
   since memory changes. Each node knows, from its birth, its bounds, the loop variables it depends on and
   whether it reads memory; nothing here walks a whole expression. */
#include "ir/loop.h"

#include <assert.h>
#include <math.h>
#include <string.h>

struct nn_x_table { nn_x **slots; int cap, count; };

static const struct { const char *name; int arity; } xops[NN_XOP_COUNT] = {
  [NN_X_CONST] = {"const", 0}, [NN_X_VAR] = {"var", 0}, [NN_X_SYMBOL] = {"symbol", 0}, [NN_X_LOAD] = {"load", 1},
  [NN_X_ADD] = {"add", 2}, [NN_X_SUB] = {"sub", 2}, [NN_X_MUL] = {"mul", 2}, [NN_X_DIV] = {"div", 2},
  [NN_X_REM] = {"rem", 2}, [NN_X_FLOORDIV] = {"floordiv", 2}, [NN_X_FLOORMOD] = {"mod", 2},
  [NN_X_MIN] = {"min", 2}, [NN_X_MAX] = {"max", 2}, [NN_X_LIMIT] = {"limit", 2}, [NN_X_FMA] = {"fma", 3}, [NN_X_NEG] = {"neg", 1},
  [NN_X_ABS] = {"abs", 1}, [NN_X_SQRT] = {"sqrt", 1}, [NN_X_FLOOR] = {"floor", 1}, [NN_X_CEIL] = {"ceil", 1},
  [NN_X_TRUNC] = {"trunc", 1}, [NN_X_ROUND] = {"round", 1}, [NN_X_AND] = {"and", 2}, [NN_X_OR] = {"or", 2},
  [NN_X_XOR] = {"xor", 2}, [NN_X_NOT] = {"not", 1}, [NN_X_SHL] = {"shl", 2}, [NN_X_SHR] = {"shr", 2},
  [NN_X_EQ] = {"eq", 2}, [NN_X_NE] = {"ne", 2}, [NN_X_LT] = {"lt", 2}, [NN_X_LE] = {"le", 2},
  [NN_X_SELECT] = {"select", 3}, [NN_X_CAST] = {"cast", 1}, [NN_X_CAST_SAT] = {"cast_sat", 1},
  [NN_X_BITCAST] = {"bitcast", 1}, [NN_X_LOOKUP] = {"lookup", 1}, [NN_X_INDEX] = {"index", 2}, [NN_X_LANES_SUM] = {"lanes_sum", 1},
  [NN_X_LANES_PROD] = {"lanes_prod", 1}, [NN_X_LANES_MAX] = {"lanes_max", 1}, [NN_X_LANES_MIN] = {"lanes_min", 1},
};

const char *nn_xop_name(nn_xop op) { return xops[op].name; }

int nn_xop_arity(nn_xop op) { return xops[op].arity; }

static bool reads_memory(nn_xop op) { return op == NN_X_LOAD || (op >= NN_X_LANES_SUM && op <= NN_X_LANES_MIN); }

/* ---- interning ------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
  return hash ^ (hash >> 29);
}

static uint64_t bits_of(double f) {
  uint64_t bits;
  memcpy(&bits, &f, sizeof bits);
  return bits;
}

static uint64_t hash_of(const nn_x *x) {
  uint64_t h = mix((uint64_t)x->op, (uint64_t)x->dtype);
  for (int i = 0; i < 3; i++) h = mix(h, (uint64_t)(uintptr_t)x->a[i]);
  h = mix(mix(h, (uint64_t)x->i), bits_of(x->f));
  return mix(h, (uint64_t)(uintptr_t)x->var);
}

static bool same_node(const nn_x *x, const nn_x *y) {
  return x->op == y->op && x->dtype == y->dtype && x->a[0] == y->a[0] && x->a[1] == y->a[1] && x->a[2] == y->a[2] &&
         x->i == y->i && bits_of(x->f) == bits_of(y->f) && x->var == y->var;
}

static nn_x **find_slot(struct nn_x_table *t, const nn_x *x) {
  uint64_t mask = (uint64_t)t->cap - 1;
  uint64_t at = hash_of(x) & mask;
  while (t->slots[at] && !same_node(t->slots[at], x)) at = (at + 1) & mask;
  return &t->slots[at];
}

static struct nn_x_table *table_with_room(nn_kernel *k) {
  nn_arena *arena = k->module->arena;
  if (!k->table) k->table = NN_NEW(arena, struct nn_x_table);
  struct nn_x_table *t = k->table;
  if (t->count * 2 < t->cap) return t;
  struct nn_x_table old = *t;
  t->cap = old.cap ? old.cap * 2 : 128;
  t->slots = NN_NEW_ARRAY(arena, nn_x *, t->cap);
  for (int i = 0; i < old.cap; i++)
    if (old.slots[i]) *find_slot(t, old.slots[i]) = old.slots[i];
  return t;
}

/* ---- what is known of a node ------------------------------------------------------------------------ */

static bool is_subset(const nn_varset *a, const nn_varset *b) {
  int j = 0;
  for (int i = 0; i < a->count; i++) {
    while (j < b->count && b->ids[j] < a->ids[i]) j++;
    if (j == b->count || b->ids[j] != a->ids[i]) return false;
  }
  return true;
}

/* Sets are as large as loop nests are deep, and mostly shared. */
static const nn_varset *merge_sets(nn_kernel *k, const nn_varset *a, const nn_varset *b) {
  if (!a || !b) return a ? a : b;
  if (is_subset(a, b)) return b;
  if (is_subset(b, a)) return a;
  nn_varset *set = nn_alloc(k->module->arena, sizeof(nn_varset) + (size_t)(a->count + b->count) * sizeof(int));
  int i = 0, j = 0;
  while (i < a->count || j < b->count) {
    bool from_a = j == b->count || (i < a->count && a->ids[i] <= b->ids[j]);
    int id = from_a ? a->ids[i] : b->ids[j];
    if (i < a->count && a->ids[i] == id) i++;
    if (j < b->count && b->ids[j] == id) j++;
    set->ids[set->count++] = id;
  }
  return set;
}

static const nn_varset *set_of_var(nn_kernel *k, int id) {
  nn_varset *set = nn_alloc(k->module->arena, sizeof(nn_varset) + sizeof(int));
  set->count = 1;
  set->ids[0] = id;
  return set;
}

typedef struct nn_bounds { int64_t min, max; bool overflow; } nn_bounds;

static int64_t sat_add(int64_t a, int64_t b, bool *overflow) {
  if (b > 0 ? a > INT64_MAX - b : a < INT64_MIN - b) {
    *overflow = true;
    return b > 0 ? INT64_MAX : INT64_MIN;
  }
  return a + b;
}

static int64_t sat_mul(int64_t a, int64_t b, bool *overflow) {
  if (a == 0 || b == 0) return 0;
  uint64_t ua = a < 0 ? 0 - (uint64_t)a : (uint64_t)a, ub = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
  if (ua > (uint64_t)INT64_MAX / ub) {
    *overflow = true;
    return (a < 0) == (b < 0) ? INT64_MAX : INT64_MIN;
  }
  return a * b;
}

static int64_t sat_neg(int64_t a, bool *overflow) {
  if (a != INT64_MIN) return -a;
  *overflow = true;
  return INT64_MAX;
}

static nn_bounds add_bounds(const nn_xinfo *a, const nn_xinfo *b) {
  nn_bounds r = {0};
  r.min = sat_add(a->min, b->min, &r.overflow);
  r.max = sat_add(a->max, b->max, &r.overflow);
  return r;
}

static nn_bounds sub_bounds(const nn_xinfo *a, const nn_xinfo *b) {
  nn_bounds r = {0};
  r.min = sat_add(a->min, sat_neg(b->max, &r.overflow), &r.overflow);
  r.max = sat_add(a->max, sat_neg(b->min, &r.overflow), &r.overflow);
  return r;
}

static nn_bounds mul_bounds(const nn_xinfo *a, const nn_xinfo *b) {
  nn_bounds r = {INT64_MAX, INT64_MIN, false};
  for (int i = 0; i < 4; i++) {
    int64_t p = sat_mul(i & 1 ? a->max : a->min, i & 2 ? b->max : b->min, &r.overflow);
    if (p < r.min) r.min = p;
    if (p > r.max) r.max = p;
  }
  return r;
}

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && a < 0 ? 1 : 0); } /* b > 0 */

static nn_bounds div_bounds(nn_xop op, const nn_xinfo *a, const nn_xinfo *b) {
  if (b->min < 0) return (nn_bounds){INT64_MIN, INT64_MAX, false};
  int64_t least = b->min > 0 ? b->min : 1; /* dividing by 0 gives 0: inside the bounds below */
  nn_bounds r = {0};
  r.min = a->min < 0 ? (op == NN_X_DIV ? a->min / least : floor_div(a->min, least)) : b->min == b->max && b->min > 0 ? a->min / b->min : 0;
  r.max = a->max > 0 ? a->max / least : b->min == b->max && b->min > 0 && op == NN_X_FLOORDIV ? floor_div(a->max, b->min) : 0;
  return r;
}

static nn_bounds mod_bounds(nn_xop op, const nn_xinfo *a, const nn_xinfo *b) {
  if (b->min < 0) return (nn_bounds){INT64_MIN, INT64_MAX, false};
  nn_bounds r = {0, b->max > 0 ? b->max - 1 : 0, false};
  if (op == NN_X_REM && a->min < 0) r.min = a->min > -r.max ? a->min : -r.max;
  if (a->min >= 0 && a->max < r.max) r.max = a->max;
  return r;
}

static nn_bounds minmax_bounds(nn_xop op, const nn_xinfo *a, const nn_xinfo *b) {
  bool min = op == NN_X_MIN;
  nn_bounds r = {0};
  r.min = (a->min < b->min) == min ? a->min : b->min;
  r.max = (a->max < b->max) == min ? a->max : b->max;
  return r;
}

static nn_bounds union_bounds(const nn_xinfo *a, const nn_xinfo *b) {
  return (nn_bounds){a->min < b->min ? a->min : b->min, a->max > b->max ? a->max : b->max, false};
}

static nn_bounds index_bounds(const nn_xinfo *limit) {
  return (nn_bounds){0, limit->max > 0 ? limit->max - 1 : 0, false};
}

/* Bounds of an i64 operation; full where nothing is known. */
static nn_bounds i64_bounds(const nn_x *x) {
  const nn_xinfo *a = nn_xinfo_of(x->a[0]), *b = nn_xinfo_of(x->a[1]), *c = nn_xinfo_of(x->a[2]);
  nn_bounds full = {INT64_MIN, INT64_MAX, false};
  switch (x->op) {
    case NN_X_CONST: return (nn_bounds){x->i, x->i, false};
    case NN_X_ADD: return add_bounds(a, b);
    case NN_X_SUB: return sub_bounds(a, b);
    case NN_X_MUL: return mul_bounds(a, b);
    case NN_X_DIV: case NN_X_FLOORDIV: return div_bounds(x->op, a, b);
    case NN_X_REM: case NN_X_FLOORMOD: return mod_bounds(x->op, a, b);
    case NN_X_MIN: case NN_X_MAX: return minmax_bounds(x->op, a, b);
    case NN_X_SELECT: return union_bounds(b, c);
    case NN_X_INDEX: return index_bounds(b);
    case NN_X_CAST: return nn_dtype_is_float(x->a[0]->dtype) || x->a[0]->dtype == NN_U64 ? full : (nn_bounds){a->min, a->max, false};
    default: return full;
  }
}

static void set_symbol_bounds(nn_xinfo *info) {
  const nn_symbol *symbol = info->kernel->module->symbols[info->x.i];
  info->min = symbol->min;
  info->max = symbol->max;
}

static void set_bounds(nn_xinfo *info) {
  const nn_x *x = &info->x;
  info->min = INT64_MIN;
  info->max = INT64_MAX;
  if (x->op == NN_X_SYMBOL) {
    set_symbol_bounds(info);
  } else if (x->op == NN_X_VAR) {
    info->min = x->var->min;
    info->max = x->var->max;
  } else if (x->op == NN_X_CONST || x->dtype == NN_I64) {
    nn_bounds r = i64_bounds(x);
    if (r.overflow && !info->is_index) return;
    info->min = r.min;
    info->max = r.max;
  } else {
    nn_int_limits(x->dtype, &info->min, &info->max);
  }
}

/* Index arithmetic: what shapes and loops make, never what the data says (except checked: INDEX). */
static bool makes_index(const nn_x *x) {
  if (x->dtype != NN_I64) return false;
  switch (x->op) {
    case NN_X_CONST: case NN_X_SYMBOL: case NN_X_INDEX: return true;
    case NN_X_VAR: return x->var->is_loop || nn_xi_is_index(nn_varinfo_of(x->var)->value);
    case NN_X_ADD: case NN_X_SUB: case NN_X_MUL: case NN_X_DIV: case NN_X_REM: case NN_X_FLOORDIV:
    case NN_X_FLOORMOD: case NN_X_MIN: case NN_X_MAX: case NN_X_NEG:
      return nn_xi_is_index(x->a[0]) && (!x->a[1] || nn_xi_is_index(x->a[1]));
    case NN_X_SELECT: return nn_xi_is_index(x->a[1]) && nn_xi_is_index(x->a[2]);
    default: return false;
  }
}

bool nn_xi_is_index(const nn_x *x) { return nn_xinfo_of(x)->is_index; }

static const nn_varset *deps_of(nn_kernel *k, const nn_x *x) {
  if (x->op == NN_X_VAR)
    return x->var->is_loop ? set_of_var(k, x->var->id) : nn_xinfo_of(nn_varinfo_of(x->var)->value)->deps;
  const nn_varset *set = NULL;
  for (int i = 0; i < 3; i++)
    if (x->a[i]) set = merge_sets(k, set, nn_xinfo_of(x->a[i])->deps);
  return set;
}

static nn_x *new_node(nn_kernel *k, const nn_x *proto) {
  nn_xinfo *info = NN_NEW(k->module->arena, nn_xinfo);
  info->x = *proto;
  info->x.id = k->nxs++;
  info->kernel = k;
  info->deps = deps_of(k, proto);
  info->has_load = reads_memory(proto->op);
  for (int i = 0; i < 3; i++)
    if (proto->a[i]) info->has_load |= nn_xinfo_of(proto->a[i])->has_load;
  info->is_index = makes_index(proto);
  set_bounds(info);
  return &info->x;
}

nn_x *nn_x_intern(nn_kernel *k, const nn_x *proto) {
  if (reads_memory(proto->op)) return new_node(k, proto);
  nn_x **slot = find_slot(table_with_room(k), proto);
  if (!*slot) {
    *slot = new_node(k, proto);
    k->table->count++;
  }
  return *slot;
}

nn_varinfo *nn_var_new(nn_kernel *k, const char *name, nn_dtype dtype, bool is_loop) {
  nn_varinfo *info = NN_NEW(k->module->arena, nn_varinfo);
  info->v.name = nn_kernel_unique(k, name);
  info->v.id = k->nvars++;
  info->v.dtype = dtype;
  info->v.is_loop = is_loop;
  info->v.min = INT64_MIN;
  info->v.max = INT64_MAX;
  return info;
}

/* ---- constants -------------------------------------------------------------------------------------- */

static nn_x *make_const(nn_kernel *k, nn_dtype t, int64_t i, double f) {
  nn_x proto = {.op = NN_X_CONST, .dtype = t, .i = i, .f = f};
  return nn_x_intern(k, &proto);
}

nn_x *nn_x_iconst(nn_kernel *k, nn_dtype t, int64_t value) {
  if (nn_dtype_is_float(t)) return nn_x_const(k, t, (double)value);
  return make_const(k, t, nn_int_wrap(t, value), 0);
}

nn_x *nn_x_int(nn_kernel *k, int64_t value) { return make_const(k, NN_I64, value, 0); }

nn_x *nn_x_const(nn_kernel *k, nn_dtype t, double value) {
  nn_scalar v = {.f = value};
  v = nn_scalar_op(NN_X_CAST, t, NN_F64, v, v, v);
  if (!nn_dtype_is_float(t)) return make_const(k, t, v.i, 0);
  return make_const(k, t, 0, t == NN_F64 ? v.f : (double)v.s);
}

static nn_scalar scalar_of(const nn_x *x) {
  nn_scalar v = {0};
  if (!x) return v;
  if (!nn_dtype_is_float(x->dtype)) v.i = x->i;
  else if (x->dtype == NN_F64) v.f = x->f;
  else v.s = (float)x->f;
  return v;
}

static bool is_const(const nn_x *x) { return !x || x->op == NN_X_CONST; }

/* A bit pattern of a NaN would not survive being held as a double. */
static bool foldable(const nn_x *x) {
  if (x->op != NN_X_BITCAST) return true;
  nn_scalar r = nn_scalar_op(x->op, x->dtype, x->a[0]->dtype, scalar_of(x->a[0]), scalar_of(NULL), scalar_of(NULL));
  if (nn_dtype_is_float(x->a[0]->dtype)) return !isnan(x->a[0]->f);
  return !nn_dtype_is_float(x->dtype) || (x->dtype == NN_F64 ? !isnan(r.f) : !isnan(r.s));
}

/* The node, or its value when the operands are constants. */
static nn_x *fold(nn_kernel *k, const nn_x *x) {
  if (!is_const(x->a[0]) || !is_const(x->a[1]) || !is_const(x->a[2]) || !foldable(x)) return nn_x_intern(k, x);
  nn_dtype from = x->op == NN_X_SELECT ? x->dtype : x->a[0]->dtype;
  nn_scalar r = nn_scalar_op(x->op, x->dtype, from, scalar_of(x->a[0]), scalar_of(x->a[1]), scalar_of(x->a[2]));
  if (!nn_dtype_is_float(x->dtype)) return make_const(k, x->dtype, r.i, 0);
  return make_const(k, x->dtype, 0, x->dtype == NN_F64 ? r.f : (double)r.s);
}

static bool is_float_const(const nn_x *x, double value) {
  return x->op == NN_X_CONST && nn_dtype_is_float(x->dtype) && bits_of(x->f) == bits_of(value);
}

/* ---- operations -------------------------------------------------------------------------------------- */

nn_x *nn_x_unary(nn_kernel *k, nn_xop op, nn_x *a) {
  assert(nn_xop_arity(op) == 1 && op != NN_X_LOAD);
  bool is_rounding = op == NN_X_FLOOR || op == NN_X_CEIL || op == NN_X_TRUNC || op == NN_X_ROUND;
  if (is_rounding && (a->op == op || !nn_dtype_is_float(a->dtype))) return a;
  if ((op == NN_X_NEG || op == NN_X_NOT) && a->op == op) return a->a[0];
  if (op == NN_X_ABS && a->op == NN_X_ABS) return a;
  if (op == NN_X_NEG && nn_xi_is_index(a)) return nn_xi_mulc(k, a, -1);
  nn_x proto = {.op = op, .dtype = a->dtype, .a = {a}};
  return fold(k, &proto);
}

static bool is_compare(nn_xop op) { return op >= NN_X_EQ && op <= NN_X_LE; }

/* Rules of floats that hold for every value, signed zeros and NaN included. */
static nn_x *simplify_float(nn_xop op, nn_x *a, nn_x *b) {
  if (op == NN_X_MUL && is_float_const(b, 1)) return a;
  if (op == NN_X_MUL && is_float_const(a, 1)) return b;
  if (op == NN_X_DIV && is_float_const(b, 1)) return a;
  if (op == NN_X_SUB && is_float_const(b, 0.0)) return a;
  if (op == NN_X_ADD && is_float_const(b, -0.0)) return a;
  if (op == NN_X_ADD && is_float_const(a, -0.0)) return b;
  if ((op == NN_X_MIN || op == NN_X_MAX) && a == b) return a;
  return NULL;
}

static nn_x *simplify_binary(nn_kernel *k, nn_xop op, nn_x *a, nn_x *b) {
  if (is_compare(op)) return nn_simplify_compare(k, op, a, b);
  if (a->dtype == NN_BOOL) return nn_simplify_bool(k, op, a, b);
  if (nn_dtype_is_float(a->dtype)) return simplify_float(op, a, b);
  return nn_simplify_index(k, op, a, b);
}

nn_x *nn_x_binary(nn_kernel *k, nn_xop op, nn_x *a, nn_x *b) {
  assert(nn_xop_arity(op) == 2 && op != NN_X_INDEX && a->dtype == b->dtype);
  assert(!(op == NN_X_REM && nn_dtype_is_float(a->dtype)));
  nn_x *simple = is_const(a) && is_const(b) ? NULL : simplify_binary(k, op, a, b);
  if (simple) return simple;
  nn_x proto = {.op = op, .dtype = is_compare(op) ? NN_BOOL : a->dtype, .a = {a, b}};
  return fold(k, &proto);
}

nn_x *nn_x_fma(nn_kernel *k, nn_x *a, nn_x *b, nn_x *c) {
  assert(a->dtype == b->dtype && a->dtype == c->dtype);
  if (!nn_dtype_is_float(a->dtype) || k->is_unfused) return nn_x_binary(k, NN_X_ADD, nn_x_binary(k, NN_X_MUL, a, b), c);
  if (is_float_const(a, 1)) return nn_x_binary(k, NN_X_ADD, b, c);
  if (is_float_const(b, 1)) return nn_x_binary(k, NN_X_ADD, a, c);
  if (is_float_const(c, -0.0)) return nn_x_binary(k, NN_X_MUL, a, b);
  nn_x proto = {.op = NN_X_FMA, .dtype = a->dtype, .a = {a, b, c}};
  return fold(k, &proto);
}

nn_x *nn_x_select(nn_kernel *k, nn_x *cond, nn_x *yes, nn_x *no) {
  assert(cond->dtype == NN_BOOL && yes->dtype == no->dtype);
  if (cond->op == NN_X_CONST) return cond->i ? yes : no;
  if (yes == no) return yes;
  if (cond->op == NN_X_NOT) return nn_x_select(k, cond->a[0], no, yes);
  if (yes->dtype == NN_BOOL && yes->op == NN_X_CONST && no->op == NN_X_CONST) return yes->i ? cond : nn_x_unary(k, NN_X_NOT, cond);
  nn_x proto = {.op = NN_X_SELECT, .dtype = yes->dtype, .a = {cond, yes, no}};
  return nn_x_intern(k, &proto);
}

nn_x *nn_x_cast(nn_kernel *k, nn_x *a, nn_dtype to) {
  if (a->dtype == to) return a;
  nn_x proto = {.op = NN_X_CAST, .dtype = to, .a = {a}};
  return fold(k, &proto);
}

nn_x *nn_x_cast_sat(nn_kernel *k, nn_x *a, nn_dtype to) {
  if (!nn_dtype_is_float(to) || nn_dtype_bits(to) > 8) return nn_x_cast(k, a, to);
  if (a->dtype == to) return a;
  nn_x proto = {.op = NN_X_CAST_SAT, .dtype = to, .a = {a}};
  return fold(k, &proto);
}

nn_x *nn_x_bitcast(nn_kernel *k, nn_x *a, nn_dtype to) {
  assert(nn_dtype_bits(a->dtype) == nn_dtype_bits(to));
  if (a->dtype == to) return a;
  if (a->op == NN_X_BITCAST) return nn_x_bitcast(k, a->a[0], to);
  nn_x proto = {.op = NN_X_BITCAST, .dtype = to, .a = {a}};
  return fold(k, &proto);
}

static nn_x *zero_of(nn_kernel *k, nn_dtype t) { return nn_dtype_is_float(t) ? nn_x_const(k, t, 0) : nn_x_iconst(k, t, 0); }

/* A mask that is always true is none. */
static nn_x *mask_or_null(nn_x *mask) { return mask && mask->op == NN_X_CONST && mask->i ? NULL : mask; }

nn_x *nn_x_load(nn_kernel *k, nn_buf *buf, nn_x *index, nn_x *mask) {
  assert(index->dtype == NN_I64);
  mask = mask_or_null(mask);
  if (mask && mask->op == NN_X_CONST) return zero_of(k, buf->dtype);
  nn_x proto = {.op = NN_X_LOAD, .dtype = buf->dtype, .a = {index, mask}, .buf = buf};
  return nn_x_intern(k, &proto);
}

nn_x *nn_x_index(nn_kernel *k, nn_x *index, nn_x *limit, nn_x *mask) {
  assert(index->dtype == NN_I64 && limit->dtype == NN_I64);
  if (nn_known_in(index, limit)) return index;
  nn_x proto = {.op = NN_X_INDEX, .dtype = NN_I64, .a = {index, limit, mask_or_null(mask)}};
  k->can_fail = true;
  return nn_x_intern(k, &proto);
}

nn_x *nn_x_lookup(nn_kernel *k, int table, nn_x *index) {
  assert(index->dtype == NN_I32 && table >= 0 && table < k->ntables);
  const nn_table *t = &k->tables[table];
  if (index->op == NN_X_CONST) return nn_x_iconst(k, NN_I32, t->values[index->i & (t->count - 1)]);
  nn_x proto = {.op = NN_X_LOOKUP, .dtype = NN_I32, .a = {index}, .i = table};
  return nn_x_intern(k, &proto);
}

nn_x *nn_x_lanes(nn_kernel *k, nn_xop op, nn_buf *reg, nn_x *first, int count) {
  assert(op >= NN_X_LANES_SUM && op <= NN_X_LANES_MIN && reg->space == NN_BUF_REG);
  assert(count > 0 && (count & (count - 1)) == 0);
  nn_x proto = {.op = op, .dtype = reg->dtype, .a = {first}, .i = count, .buf = reg};
  return nn_x_intern(k, &proto);
}

/* ---- questions --------------------------------------------------------------------------------------- */

bool nn_x_is_const(const nn_x *x, int64_t *value) {
  if (x->op != NN_X_CONST || nn_dtype_is_float(x->dtype)) return false;
  if (value) *value = x->i;
  return true;
}

void nn_x_range(const nn_x *x, int64_t *min, int64_t *max) {
  *min = nn_xinfo_of(x)->min;
  *max = nn_xinfo_of(x)->max;
}

static bool set_has(const nn_varset *set, int id) {
  for (int i = 0; set && i < set->count; i++)
    if (set->ids[i] == id) return true;
  return false;
}

/* Lets are few levels deep where this is asked; nodes seen are marked so that shared ones are walked once. */
static bool uses_let(const nn_x *x, const nn_var *var, int mark) {
  nn_xinfo *info = nn_xinfo_of(x);
  if (info->mark == mark) return false;
  info->mark = mark;
  if (x->op == NN_X_VAR)
    return x->var == var || (!x->var->is_loop && uses_let(nn_varinfo_of(x->var)->value, var, mark));
  for (int i = 0; i < 3; i++)
    if (x->a[i] && uses_let(x->a[i], var, mark)) return true;
  return false;
}

bool nn_x_uses_var(const nn_x *x, const nn_var *var) {
  if (var->is_loop) return set_has(nn_xinfo_of(x)->deps, var->id);
  return uses_let(x, var, ++nn_xinfo_of(x)->kernel->walk);
}

static bool stride_of(const nn_x *x, const nn_var *var, int64_t *stride);

static bool stride_of_sum(const nn_x *x, const nn_var *var, int64_t *stride) {
  int64_t a, b;
  if (!nn_x_stride(x->a[0], var, &a) || !nn_x_stride(x->a[1], var, &b)) return false;
  bool overflow = false;
  *stride = sat_add(a, x->op == NN_X_ADD ? b : sat_neg(b, &overflow), &overflow);
  return !overflow;
}

static bool stride_of_product(const nn_x *x, const nn_var *var, int64_t *stride) {
  int64_t factor, inner;
  const nn_x *other = x->a[0];
  if (!nn_x_is_const(x->a[1], &factor)) {
    if (!nn_x_is_const(x->a[0], &factor)) return false;
    other = x->a[1];
  }
  bool overflow = false;
  if (!nn_x_stride(other, var, &inner)) return false;
  *stride = sat_mul(factor, inner, &overflow);
  return !overflow;
}

static bool stride_of(const nn_x *x, const nn_var *var, int64_t *stride) {
  switch (x->op) {
    case NN_X_VAR:
      if (x->var != var) return nn_x_stride(nn_varinfo_of(x->var)->value, var, stride);
      *stride = 1;
      return true;
    case NN_X_ADD: case NN_X_SUB: return stride_of_sum(x, var, stride);
    case NN_X_MUL: return stride_of_product(x, var, stride);
    default: return false;
  }
}

bool nn_x_stride(const nn_x *x, const nn_var *var, int64_t *stride) {
  nn_xinfo *info = nn_xinfo_of(x);
  *stride = 0;
  if (!nn_x_uses_var(x, var)) return true;
  if (x->dtype != NN_I64) return false;
  if (info->stride_var != var) {
    info->stride_var = var;
    info->stride_ok = stride_of(x, var, &info->stride);
  }
  *stride = info->stride;
  return info->stride_ok;
}
