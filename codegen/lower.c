/* One op, or one fused group of ops, becomes one kernel. Here are the hooks through which lowerings read
   and write tensors, and nn_lower_op, which drives them.

   A value inside a group is one of: a kernel buffer (loaded), a constant of one element (becomes a
   number), the result of an element op (computed at the asked indices, by asking its elem_<op>), or a
   result of the group's nest (known only at the indices at which the nest writes it just now).

   Whatever is read is bound to a name and remembered until the block that is open now closes, so that a
   value used twice is computed once. */
#include "codegen/codegen.h"

#include <assert.h>
#include <string.h>

typedef enum source_kind { FROM_BUFFER, FROM_CONSTANT, FROM_OP, FROM_NEST } source_kind;

typedef struct source {
  source_kind kind;
  nn_buf *buf;               /* FROM_BUFFER */
  const nn_tensor *tensor;   /* a constant's contents, or NULL */
  unsigned needs;            /* results of the nest that it is computed from: bit of each */
  unsigned unit_asked, unit; /* nn_read_is_unit: dimensions asked for so far, and the answers */
} source;

typedef struct memo {
  const nn_value *value; /* NULL: a bound expression, index[0] */
  nn_x **index;
  int rank;
  nn_x *guard;
  nn_x *result;
  int depth, serial; /* of the block that it is named in */
  int next;          /* in the hash chain, -1 ends */
} memo;

typedef struct nn_lower_state nn_lower_state;
struct nn_lower_state {
  nn_group group;
  nn_map *sources;  /* nn_value -> source */
  nn_buf **targets; /* buffer of group.results[i] */
  nn_x **guards;    /* each the conjunction up to it */
  int nguards, guards_cap;
  memo *memos;
  int nmemos, memos_cap;
  int *buckets;
  int nbuckets;
  int nesting;  /* of elem_<op> calls */
  nn_part part; /* of a concat, that the open loops run over */
};

static nn_arena *arena_of(const nn_lower *L) { return L->module->arena; }

/* ---- what is remembered -------------------------------------------------------------------------- */

static uint32_t hash_key(const nn_value *v, nn_x *const *index, int rank, const nn_x *guard) {
  uint64_t h = (uint64_t)(uintptr_t)v * 0x9e3779b97f4a7c15u ^ (guard ? (uint64_t)guard->id + 1 : 0);
  for (int i = 0; i < rank; i++) h = (h ^ (uint64_t)(uint32_t)index[i]->id) * 0x100000001b3u;
  return (uint32_t)(h ^ h >> 32);
}

static bool is_open(const nn_lower *L, const memo *e) {
  return e->depth <= nn_open_depth(L->kernel) && nn_open_serial(L->kernel, e->depth) == e->serial;
}

static nn_x *recall(const nn_lower *L, const nn_value *v, nn_x *const *index, int rank, const nn_x *guard) {
  const nn_lower_state *s = L->state;
  if (!s->nbuckets) return NULL;
  uint32_t h = hash_key(v, index, rank, guard);
  for (int i = s->buckets[h & (uint32_t)(s->nbuckets - 1)]; i >= 0; i = s->memos[i].next) {
    const memo *e = &s->memos[i];
    if (e->value == v && e->guard == guard && e->rank == rank &&
        (rank == 0 || memcmp(e->index, index, (size_t)rank * sizeof *index) == 0) && is_open(L, e))
      return e->result;
  }
  return NULL;
}

static void chain_memo(nn_lower_state *s, int i) {
  memo *e = &s->memos[i];
  int *bucket = &s->buckets[hash_key(e->value, e->index, e->rank, e->guard) & (uint32_t)(s->nbuckets - 1)];
  e->next = *bucket;
  *bucket = i;
}

static void grow_buckets(nn_lower *L) {
  nn_lower_state *s = L->state;
  s->nbuckets = s->nbuckets ? 4 * s->nbuckets : 64;
  s->buckets = NN_NEW_ARRAY(arena_of(L), int, s->nbuckets);
  for (int i = 0; i < s->nbuckets; i++) s->buckets[i] = -1;
  for (int i = 0; i < s->nmemos; i++) chain_memo(s, i);
}

static void remember(nn_lower *L, const nn_value *v, nn_x *const *index, int rank, nn_x *guard, nn_x *result) {
  nn_lower_state *s = L->state;
  if (s->nmemos >= s->nbuckets) grow_buckets(L);
  memo e = {.value = v, .rank = rank, .guard = guard, .result = result, .depth = nn_open_depth(L->kernel)};
  e.index = rank ? nn_memdup(arena_of(L), index, (size_t)rank * sizeof *index) : NULL;
  e.serial = nn_open_serial(L->kernel, e.depth);
  NN_PUSH(arena_of(L), s->memos, s->nmemos, s->memos_cap, e);
  chain_memo(s, s->nmemos - 1);
}

nn_x *nn_bind(nn_lower *L, nn_x *x) {
  nn_x *known = recall(L, NULL, &x, 1, NULL);
  if (known) return known;
  nn_x *named = nn_let(L->kernel, x);
  if (named != x) remember(L, NULL, &x, 1, NULL, named);
  return named;
}

/* ---- numbers and indices ------------------------------------------------------------------------- */

nn_x *nn_number(nn_lower *L, nn_dtype dtype, double value) {
  if (nn_dtype_is_float(dtype)) return nn_x_const(L->kernel, dtype, value);
  return nn_x_iconst(L->kernel, dtype, (int64_t)value);
}

nn_x *nn_dim_x(nn_lower *L, nn_dim d) { return nn_x_dim(L->kernel, d); }

nn_x *nn_flat_index(nn_lower *L, nn_type type, nn_x *const *index) {
  nn_x *flat = nn_x_int(L->kernel, 0);
  for (int i = 0; i < type.rank; i++) {
    flat = nn_xi_mul(L->kernel, flat, nn_dim_x(L, type.dims[i]));
    flat = nn_xi_add(L->kernel, flat, index[i]);
  }
  return flat;
}

void nn_unflatten(nn_lower *L, nn_type type, nn_x *flat, nn_x **index) {
  int first = 0; /* which takes what is left */
  while (first < type.rank - 1 && nn_dim_is(type.dims[first], 1)) index[first++] = nn_x_int(L->kernel, 0);
  for (int i = type.rank - 1; i >= first; i--) {
    nn_x *dim = nn_dim_x(L, type.dims[i]);
    index[i] = i == first ? flat : nn_xi_mod(L->kernel, flat, dim);
    if (i > first) flat = nn_xi_floordiv(L->kernel, flat, dim);
  }
}

nn_buf *nn_temp(nn_lower *L, nn_buf_space space, nn_dtype dtype, nn_dim count) {
  const char *name = nn_sprintf(arena_of(L), "t%d", L->kernel->nbufs);
  return nn_kernel_buf(L->kernel, name, space, dtype, count, false);
}

nn_buf *nn_regs(nn_lower *L, nn_dtype dtype, int64_t count) {
  const char *name = nn_sprintf(arena_of(L), "r%d", L->kernel->nbufs);
  return nn_kernel_buf(L->kernel, name, NN_BUF_REG, dtype, nn_dim_const(L->module, count), false);
}

bool nn_has_packed_output(const nn_lower *L) {
  for (int i = 0; i < L->kernel->nparams; i++)
    if (L->kernel->bufs[i]->is_output && nn_dtype_bits(L->kernel->bufs[i]->dtype) < 8) return true;
  return false;
}

/* ---- guards -------------------------------------------------------------------------------------- */

nn_x *nn_guard(nn_lower *L) { return L->state->nguards ? L->state->guards[L->state->nguards - 1] : NULL; }

void nn_guard_push(nn_lower *L, nn_x *cond) {
  nn_lower_state *s = L->state;
  nn_x *outer = nn_guard(L);
  int64_t known = 0;
  nn_x *all = outer ? nn_x_binary(L->kernel, NN_X_AND, outer, cond) : cond;
  if (nn_x_is_const(all, &known) && known)
    all = NULL;
  else
    all = nn_bind(L, all);
  NN_PUSH(arena_of(L), s->guards, s->nguards, s->guards_cap, all);
}

void nn_guard_pop(nn_lower *L) {
  assert(L->state->nguards > 0);
  L->state->nguards--;
}

/* ---- reading ------------------------------------------------------------------------------------- */

static source *source_of(const nn_lower *L, const nn_value *v) {
  source *from = nn_map_get_ptr(L->state->sources, v);
  assert(from && "every value of a group has a source");
  return from;
}

static nn_x *tensor_element(nn_lower *L, const nn_tensor *tensor, size_t at) {
  if (tensor->dtype == NN_F64 || nn_dtype_is_float(tensor->dtype))
    return nn_x_const(L->kernel, tensor->dtype, nn_load_f64(tensor->dtype, tensor->data, at));
  return nn_x_iconst(L->kernel, tensor->dtype, nn_load_i64(tensor->dtype, tensor->data, at));
}

/* Integer constants up to this size become numbers where the index is one: axes, sizes, indices. Floats do not:
   kernels that differ only in them stay equal. */
enum { MAX_INLINED_TABLE = 16 };

static nn_x *load_element(nn_lower *L, const nn_value *v, const source *from, nn_x *const *index) {
  nn_x *flat = nn_flat_index(L, v->type, index);
  int64_t at = 0, count = 0;
  if (from->tensor && nn_dtype_is_int(v->type.dtype) && nn_x_is_const(flat, &at) &&
      nn_type_static_count(v->type, &count) && count <= MAX_INLINED_TABLE && at >= 0 && at < count && !nn_guard(L))
    return tensor_element(L, from->tensor, (size_t)at);
  return nn_let(L->kernel, nn_x_load(L->kernel, from->buf, flat, nn_guard(L)));
}

static nn_x *compute_element(nn_lower *L, nn_value *v, nn_x *const *index) {
  nn_op *asking = L->op;
  L->op = v->def;
  L->state->nesting++;
  nn_x *x = nn_lower_rows[v->def->code].elem(L, v->def, index);
  L->state->nesting--;
  L->op = asking;
  assert(x->dtype == v->type.dtype);
  return nn_bind(L, x);
}

/* A nest that reads under a guard counts on 0 where it is false; an inlined producer may make something
   else of the 0 it was given. Producers themselves select. */
static nn_x *zero_outside(nn_lower *L, nn_x *x) {
  nn_x *guard = nn_guard(L);
  if (!guard || L->state->nesting > 0) return x;
  return nn_bind(L, nn_x_select(L->kernel, guard, x, nn_number(L, x->dtype, 0)));
}

nn_x *nn_read(nn_lower *L, nn_value *v, nn_x *const *index) {
  const source *from = source_of(L, v);
  if (from->kind == FROM_CONSTANT) return zero_outside(L, tensor_element(L, from->tensor, 0));
  nn_x *x = recall(L, v, index, v->type.rank, nn_guard(L));
  if (!x && from->kind == FROM_NEST) {
    nn_fail(L->op, "internal error: a fused op reads result %d of its nest where it is not known", v->index);
    return nn_number(L, v->type.dtype, 0);
  }
  if (!x) {
    x = from->kind == FROM_BUFFER ? load_element(L, v, from, index) : compute_element(L, v, index);
    remember(L, v, index, v->type.rank, nn_guard(L), x);
  }
  return from->kind == FROM_BUFFER ? x : zero_outside(L, x);
}

bool nn_read_is_plain(nn_lower *L, nn_value *v, nn_buf **buf) {
  const source *from = source_of(L, v);
  if (from->kind != FROM_BUFFER) return false;
  if (buf) *buf = from->buf;
  return true;
}

bool nn_read_stems_from(nn_lower *L, nn_value *v, nn_buf **buf) {
  if (nn_read_is_plain(L, v, buf)) return true;
  const nn_op *op = nn_read_op(L, v);
  if (!op || !(nn_op_infos[op->code].flags & NN_POINTWISE)) return false;
  for (int i = 0; i < op->nin; i++)
    if (op->in[i] && nn_read_is_plain(L, op->in[i], buf)) return true;
  return false;
}

nn_op *nn_read_op(const nn_lower *L, const nn_value *v) { return source_of(L, v)->kind == FROM_OP ? v->def : NULL; }

static bool buffer_is_unit(nn_type type, int dim) {
  if (nn_dim_is(type.dims[dim], 1)) return true;
  for (int i = dim + 1; i < type.rank; i++)
    if (!nn_dim_is(type.dims[i], 1)) return false;
  return true;
}

static bool broadcast_is_unit(nn_lower *L, const nn_op *op, int dim) {
  int inner = dim - (op->out[0]->type.rank - op->in[0]->type.rank);
  return inner < 0 || nn_dim_is(op->in[0]->type.dims[inner], 1) || nn_read_is_unit(L, op->in[0], inner);
}

static bool reshape_is_unit(nn_lower *L, const nn_op *op, int dim) {
  nn_type from = op->in[0]->type, to = op->out[0]->type;
  return dim == to.rank - 1 && from.rank > 0 && from.dims[from.rank - 1] == to.dims[dim] &&
         nn_read_is_unit(L, op->in[0], from.rank - 1);
}

static bool pointwise_is_unit(nn_lower *L, const nn_op *op, int dim) {
  for (int i = 0; i < op->nin; i++)
    if (op->in[i] && !nn_read_is_unit(L, op->in[i], dim)) return false;
  return true;
}

static bool op_is_unit(nn_lower *L, nn_value *v, int dim) {
  const nn_op *op = v->def;
  if (nn_op_infos[op->code].flags & NN_POINTWISE) return pointwise_is_unit(L, op, dim);
  switch (op->code) {
  case NN_OP_BROADCAST: return broadcast_is_unit(L, op, dim);
  case NN_OP_TRANSPOSE: return nn_read_is_unit(L, op->in[0], (int)nn_attr_ints(op, "perm", NULL)[dim]);
  case NN_OP_SLICE: return nn_dim_is(nn_attr_dims(op, "steps", NULL)[dim], 1) && nn_read_is_unit(L, op->in[0], dim);
  case NN_OP_RESHAPE: return reshape_is_unit(L, op, dim);
  case NN_OP_IOTA: return true;
  default: return false;
  }
}

bool nn_read_is_unit(nn_lower *L, nn_value *v, int dim) {
  source *from = source_of(L, v);
  if (from->kind == FROM_CONSTANT || from->kind == FROM_NEST) return true;
  if (from->kind == FROM_BUFFER) return buffer_is_unit(v->type, dim);
  unsigned bit = 1u << dim;
  if (!(from->unit_asked & bit)) {
    from->unit_asked |= bit;
    if (op_is_unit(L, v, dim)) from->unit |= bit;
  }
  return (from->unit & bit) != 0;
}

/* ---- writing ------------------------------------------------------------------------------------- */

/* True if computing group result r needs what the nest gives as v. */
static bool depends_on(const nn_lower *L, int r, const nn_value *v) {
  return (source_of(L, L->state->group.results[r])->needs & source_of(L, v)->needs) != 0;
}

void nn_store_result(nn_lower *L, int r, nn_x *const *index, nn_x *value) {
  nn_x *flat = nn_flat_index(L, L->state->group.results[r]->type, index);
  nn_store(L->kernel, L->state->targets[r], flat, value, nn_guard(L));
}

/* All values before the first store: a result may lie in the place of an operand that another one reads. */
void nn_write(nn_lower *L, nn_value *v, nn_x *const *index, nn_x *value) {
  const nn_group *g = &L->state->group;
  nn_x **values = NN_NEW_ARRAY(arena_of(L), nn_x *, g->nresults + 1);
  assert(value->dtype == v->type.dtype);
  value = nn_bind(L, value);
  remember(L, v, index, v->type.rank, nn_guard(L), value);
  for (int r = 0; r < g->nresults; r++)
    if (depends_on(L, r, v)) values[r] = nn_read(L, g->results[r], index);
  if (v->def == g->nest) nn_sums_take(L, index);
  for (int r = 0; r < g->nresults; r++)
    if (values[r]) nn_store_result(L, r, index, values[r]);
}

void nn_given(nn_lower *L, nn_value *v, nn_x *const *index, nn_x *value) {
  assert(value->dtype == v->type.dtype);
  remember(L, v, index, v->type.rank, nn_guard(L), value);
}

bool nn_write_is_plain(nn_lower *L, nn_value *v, nn_buf **buf) {
  const nn_lower_state *s = L->state;
  int found = -1, count = 0;
  if (s->group.sums) return false;
  for (int r = 0; r < s->group.nresults; r++)
    if (depends_on(L, r, v)) found = r, count++;
  if (count != 1 || s->group.results[found] != v) return false;
  if (buf) *buf = s->targets[found];
  return true;
}

const nn_group *nn_group_of(const nn_lower *L) { return &L->state->group; }

void nn_part_set(nn_lower *L, nn_part part) { L->state->part = part; }

int nn_part_of(const nn_lower *L, const nn_op *concat, const nn_x *index) {
  const nn_part *p = &L->state->part;
  return p->concat == concat && p->index == index ? p->number : -1;
}

/* ---- from an op to a group ----------------------------------------------------------------------- */

static void add_input(nn_arena *arena, nn_group *g, nn_value *inner, nn_value *outer) {
  int cap = g->inputs_cap, n = g->ninputs;
  NN_PUSH(arena, g->inner, n, cap, inner);
  NN_PUSH(arena, g->outer, g->ninputs, g->inputs_cap, outer);
}

static bool has_input(const nn_group *g, const nn_value *inner) {
  for (int i = 0; i < g->ninputs; i++)
    if (g->inner[i] == inner) return true;
  return false;
}

static void add_result(nn_group *g, nn_value *result, nn_value *target) {
  g->results[g->nresults] = result;
  g->targets[g->nresults++] = target;
}

static void group_plain(nn_arena *arena, nn_op *op, nn_group *g) {
  g->ops = NN_NEW_ARRAY(arena, nn_op *, 1);
  g->ops[g->nops++] = op;
  for (int i = 0; i < op->nin; i++)
    if (op->in[i] && !has_input(g, op->in[i])) add_input(arena, g, op->in[i], op->in[i]);
  for (int i = 0; i < op->nout; i++)
    if (op->out[i]->uses) add_result(g, op->out[i], op->out[i]);
}

static void add_module_operands(nn_arena *arena, nn_group *g, const nn_op *op) {
  for (int i = 0; i < op->nin; i++) {
    nn_value *v = op->in[i];
    if (v && (v->kind == NN_CONST || v->kind == NN_STATE) && !has_input(g, v)) add_input(arena, g, v, v);
  }
}

static void group_fused(nn_arena *arena, nn_op *op, nn_group *g) {
  nn_graph *body = nn_attr_graph(op, "body");
  int count = 0;
  for (nn_op *o = body->first; o; o = o->next) count++;
  g->ops = NN_NEW_ARRAY(arena, nn_op *, count);
  for (int i = 0; i < body->nparams; i++) add_input(arena, g, body->params[i], op->in[i]);
  for (nn_op *o = body->first; o; o = o->next) {
    add_module_operands(arena, g, o);
    if (o->code != NN_OP_RETURN) g->ops[g->nops++] = o;
  }
  nn_op *ret = nn_graph_return(body);
  for (int i = 0; i < op->nout; i++)
    if (op->out[i]->uses) add_result(g, ret->in[i], op->out[i]);
}

enum { MAX_NESTS = 3 };

static nn_status find_nest(nn_group *g) {
  nn_op *nests[MAX_NESTS];
  int count = 0;
  for (int i = 0; i < g->nops; i++) {
    const nn_lower_row *row = &nn_lower_rows[g->ops[i]->code];
    if (row->elem) continue;
    if (!row->nest) return nn_fail(g->ops[i], "internal error: this op has no lowering to loops");
    if (count == MAX_NESTS) return nn_fail(g->ops[i], "internal error: a fused group has too many ops with loops of their own");
    nests[count++] = g->ops[i];
  }
  if (count == 2 && nests[1]->code == NN_OP_REDUCE_SUM) g->sums = nests[--count];
  if (count) g->nest = nests[count - 1];
  if (count < 2) return NN_OK;
  if (count != MAX_NESTS || nests[0]->code != NN_OP_MATMUL || nests[1]->code != NN_OP_SOFTMAX || nests[2]->code != NN_OP_MATMUL)
    return nn_fail(g->nest, "internal error: a fused group has several ops with loops of their own, and is no attention");
  g->scores = nests[0];
  g->softmax = nests[1];
  return NN_OK;
}

static nn_status check_type(nn_op *op, const nn_value *v) {
  nn_dtype_kind kind = nn_dtype_kind_of(v->type.dtype);
  if (kind == NN_KIND_COMPLEX || kind == NN_KIND_STRING)
    return nn_fail(op, "found element type %s, but code is generated only for real numbers and bool",
                   nn_dtype_name(v->type.dtype));
  if (v->type.layout) return nn_fail(op, "internal error: layout %s has no lowering", v->type.layout);
  return NN_OK;
}

static nn_status check_types(nn_op *op, const nn_group *g) {
  for (int i = 0; i < g->ninputs; i++) NN_TRY(check_type(op, g->inner[i]));
  for (int i = 0; i < g->nops; i++)
    for (int k = 0; k < g->ops[i]->nout; k++) NN_TRY(check_type(g->ops[i], g->ops[i]->out[k]));
  return NN_OK;
}

static nn_status make_group(nn_module *m, nn_op *op, nn_group *g) {
  g->results = NN_NEW_ARRAY(m->arena, nn_value *, op->nout ? op->nout : 1);
  g->targets = NN_NEW_ARRAY(m->arena, nn_value *, op->nout ? op->nout : 1);
  if (op->code == NN_OP_FUSED)
    group_fused(m->arena, op, g);
  else
    group_plain(m->arena, op, g);
  NN_TRY(find_nest(g));
  NN_TRY(check_types(op, g));
  if (!g->nest) nn_group_collapse(m, g);
  return NN_OK;
}

/* ---- from a group to a kernel -------------------------------------------------------------------- */

static bool is_nest(const nn_group *g, const nn_op *op) {
  return op == g->nest || op == g->scores || op == g->softmax || op == g->sums;
}

static bool is_number(const nn_value *v) {
  int64_t count = 0;
  return v->kind == NN_CONST && v->tensor && nn_type_static_count(v->type, &count) && count == 1;
}

static source *new_source(nn_lower *L, const nn_value *v, source_kind kind) {
  source *s = NN_NEW(arena_of(L), source);
  s->kind = kind;
  nn_map_put_ptr(L->state->sources, v, s);
  return s;
}

typedef struct arg_list {
  nn_value **items;
  int count, cap;
} arg_list;

static void declare_input(nn_lower *L, nn_value *inner, nn_value *outer, nn_map *bufs, arg_list *args) {
  if (is_number(outer)) {
    new_source(L, inner, FROM_CONSTANT)->tensor = outer->tensor;
    return;
  }
  nn_buf *buf = nn_map_get_ptr(bufs, outer);
  if (!buf) {
    const char *name = nn_sprintf(arena_of(L), "in%d", args->count);
    buf = nn_kernel_buf(L->kernel, name, NN_BUF_PARAM, outer->type.dtype, nn_type_count(L->module, outer->type), false);
    nn_map_put_ptr(bufs, outer, buf);
    NN_PUSH(arena_of(L), args->items, args->count, args->cap, outer);
  }
  source *from = new_source(L, inner, FROM_BUFFER);
  from->buf = buf;
  from->tensor = outer->kind == NN_CONST ? outer->tensor : NULL;
}

/* The sums are one result more of the nest. */
static void declare_op(nn_lower *L, const nn_op *op, bool has_loops) {
  const nn_group *g = &L->state->group;
  int first = op == g->sums ? g->nest->nout : 0;
  unsigned needs = 0;
  for (int i = 0; i < op->nin; i++)
    if (op->in[i]) needs |= source_of(L, op->in[i])->needs;
  for (int k = 0; k < op->nout; k++)
    new_source(L, op->out[k], has_loops ? FROM_NEST : FROM_OP)->needs = has_loops ? 1u << (first + k) : needs;
}

static void declare_group(nn_lower *L, arg_list *args) {
  nn_group *g = &L->state->group;
  nn_map *bufs = nn_map_new(arena_of(L));
  for (int i = 0; i < g->ninputs; i++) declare_input(L, g->inner[i], g->outer[i], bufs, args);
  for (int i = 0; i < g->nops; i++) declare_op(L, g->ops[i], is_nest(g, g->ops[i]));
  L->state->targets = NN_NEW_ARRAY(arena_of(L), nn_buf *, g->nresults ? g->nresults : 1);
  for (int r = 0; r < g->nresults; r++) {
    nn_type type = g->targets[r]->type;
    const char *name = nn_sprintf(arena_of(L), "out%d", r);
    L->state->targets[r] =
        nn_kernel_buf(L->kernel, name, NN_BUF_PARAM, type.dtype, nn_type_count(L->module, type), true);
    NN_PUSH(arena_of(L), args->items, args->count, args->cap, g->targets[r]);
  }
}

static bool keeps_names(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

enum { MAX_NAMED_OPS = 4, MAX_LOC = 60 };

/* nnk_<op>[_<op>..]_<dtype>__<ONNX node> */
static const char *kernel_name(nn_arena *arena, const nn_op *op, const nn_group *g) {
  const char *name = "nnk";
  int named = 0;
  const char *nest = g->softmax ? "attention" : g->nest ? nn_op_infos[g->nest->code].text : NULL;
  if (nest) name = nn_sprintf(arena, "%s_%s", name, nest), named++;
  for (int i = 0; i < g->nops && named < MAX_NAMED_OPS; i++) {
    if ((is_nest(g, g->ops[i]) && g->ops[i] != g->sums) || g->ops[i]->code == NN_OP_BROADCAST) continue;
    name = nn_sprintf(arena, "%s_%s", name, nn_op_infos[g->ops[i]->code].text);
    named++;
  }
  nn_dtype dtype = g->nresults ? g->results[0]->type.dtype : NN_F32;
  char *full = nn_sprintf(arena, "%s_%s%s%.*s", name, nn_dtype_name(dtype), *op->loc ? "__" : "", MAX_LOC, op->loc);
  for (char *c = full; *c; c++)
    if (!keeps_names(*c)) *c = '_';
  return full;
}

static nn_status lower_group(nn_lower *L) {
  nn_group *g = &L->state->group;
  if (!g->nest) return nn_lower_elements(L);
  L->op = g->nest;
  if (g->softmax) return nn_lower_attention(L, g->scores, g->softmax, g->nest);
  return nn_lower_rows[g->nest->code].nest(L, g->nest);
}

nn_kernel *nn_lower_op(nn_module *m, const nn_target *t, nn_op *op, nn_value ***args, int *nargs) {
  nn_lower_state state = {0};
  nn_lower L = {.module = m, .target = nn_target_of_loops(t, m->arena), .op = op, .state = &state};
  int errors = m->diags.nerrors;
  if (make_group(m, op, &state.group) != NN_OK) return NULL;
  L.group = op->code == NN_OP_FUSED ? nn_attr_graph(op, "body") : NULL;
  L.kernel = nn_kernel_new(m, kernel_name(m->arena, op, &state.group));
  L.kernel->loc = op->loc;
  L.kernel->is_unfused = t->fp == NNCC_FP_EXACT;
  state.sources = nn_map_new(m->arena);
  arg_list list = {0};
  declare_group(&L, &list);
  if (lower_group(&L) != NN_OK || m->diags.nerrors > errors) return NULL;
  assert(nn_open_depth(L.kernel) == 0 && state.nguards == 0);
  *args = list.items;
  *nargs = list.count;
  return L.kernel;
}
