/* Every operation of the loop IR on every element type, scalar and in vectors, for machines with and without
   what hardware has: the machine code gives what the interpreter gives. */
#include "tests/codegen/emit_case.h"

enum { COUNT = 96 };

static const nn_dtype dtypes[] = {NN_F32,    NN_F16,      NN_BF16,       NN_F64,    NN_I8,         NN_I16,
                                  NN_I32,    NN_I64,      NN_U8,         NN_U16,    NN_U32,        NN_U64,
                                  NN_BOOL,   NN_F8E4M3FN, NN_F8E4M3FNUZ, NN_F8E5M2, NN_F8E5M2FNUZ, NN_F8E8M0,
                                  NN_F4E2M1, NN_U4,       NN_I4,         NN_U2,     NN_I2};
enum { NDTYPES = (int)(sizeof dtypes / sizeof dtypes[0]) };

typedef nn_x *make_fn(nn_kernel *k, int op, nn_x *a, nn_x *b, nn_x *c);

/* y = make(op, a, b, c) for all elements; lanes 1: a serial loop. */
static void add_loop(emit_case *c, nn_buf *const *x, nn_buf *y, int lanes, int op, make_fn *make) {
  nn_kernel *k = c->k;
  bool vector = lanes > 1 && nn_dtype_bits(y->dtype) >= 8;
  nn_x *i = nn_loop_range(k, NN_FOR, "i", vector ? COUNT / lanes : COUNT);
  if (vector) i = nn_xi_add(k, nn_xi_mulc(k, i, lanes), nn_loop_range(k, NN_VECTOR, "l", lanes));
  nn_x *a = nn_let(k, nn_x_load(k, x[0], i, NULL)), *b = nn_let(k, nn_x_load(k, x[1], i, NULL)),
       *z = nn_let(k, nn_x_load(k, x[2], i, NULL));
  nn_store(k, y, i, make(k, op, a, b, z), NULL);
  nn_end(k);
  if (vector) nn_end(k);
}

static nn_x *make_op(nn_kernel *k, int op, nn_x *a, nn_x *b, nn_x *c) {
  switch (op) {
  case NN_X_NEG:
  case NN_X_ABS:
  case NN_X_SQRT:
  case NN_X_FLOOR:
  case NN_X_CEIL:
  case NN_X_TRUNC:
  case NN_X_ROUND:
  case NN_X_NOT: return nn_x_unary(k, (nn_xop)op, a);
  case NN_X_FMA: return nn_x_fma(k, a, b, c);
  case NN_X_SELECT: return nn_x_select(k, nn_x_binary(k, NN_X_LT, a, b), b, c);
  default: return nn_x_binary(k, (nn_xop)op, a, b);
  }
}

static bool has_op(const nn_target *t, nn_xop op, nn_dtype d) {
  bool is_float = nn_dtype_is_float(d);
  switch (op) {
  case NN_X_REM:
  case NN_X_FLOORDIV:
  case NN_X_FLOORMOD: return !is_float && d != NN_BOOL;
  case NN_X_AND:
  case NN_X_OR:
  case NN_X_XOR:
  case NN_X_NOT: return !is_float;
  case NN_X_SHL:
  case NN_X_SHR: return !is_float && d != NN_BOOL;
  case NN_X_FMA: return is_float && t->has_fma; /* the interpreter fuses always */
  case NN_X_SQRT:
  case NN_X_FLOOR:
  case NN_X_CEIL:
  case NN_X_TRUNC:
  case NN_X_ROUND: return is_float;
  default: return true;
  }
}

static const nn_xop ops[] = {NN_X_ADD,  NN_X_SUB,   NN_X_MUL,   NN_X_DIV, NN_X_REM, NN_X_FLOORDIV, NN_X_FLOORMOD,
                             NN_X_MIN,  NN_X_MAX,   NN_X_FMA,   NN_X_NEG, NN_X_ABS, NN_X_SQRT,     NN_X_FLOOR,
                             NN_X_CEIL, NN_X_TRUNC, NN_X_ROUND, NN_X_AND, NN_X_OR,  NN_X_XOR,      NN_X_NOT,
                             NN_X_SHL,  NN_X_SHR,   NN_X_EQ,    NN_X_NE,  NN_X_LT,  NN_X_LE,       NN_X_SELECT};
enum { NOPS = (int)(sizeof ops / sizeof ops[0]) };

static bool is_compare(nn_xop op) { return op == NN_X_EQ || op == NN_X_NE || op == NN_X_LT || op == NN_X_LE; }

static void check_ops(const char *cpu, nn_dtype d, int lanes) {
  emit_case c = emit_begin(cpu);
  nn_buf *x[3], *y[NOPS] = {0};
  for (int i = 0; i < 3; i++) x[i] = emit_param(&c, d, COUNT, false);
  for (int i = 0; i < NOPS; i++)
    if (has_op(&c.target, ops[i], d)) y[i] = emit_param(&c, is_compare(ops[i]) ? NN_BOOL : d, COUNT, true);
  for (int i = 0; i < NOPS; i++)
    if (y[i]) add_loop(&c, x, y[i], lanes, ops[i], make_op);
  char what[64];
  snprintf(what, sizeof what, "%s on %s, %d lanes", nn_dtype_name(d), cpu ? cpu : "native", lanes);
  cr_assert_eq(emit_check(&c, what), 0);
}

static void check_all_ops(const char *cpu) {
  for (int d = 0; d < NDTYPES; d++) {
    check_ops(cpu, dtypes[d], 1);
    check_ops(cpu, dtypes[d], 8);
  }
}

Test(emit_ops, native) { check_all_ops(NULL); }
Test(emit_ops, without_fma_and_rounding) { check_all_ops("x86-64"); }

/* ---- casts --------------------------------------------------------------------------------------------- */

static nn_dtype cast_to;

static nn_x *make_cast(nn_kernel *k, int op, nn_x *a, nn_x *b, nn_x *c) {
  (void)b;
  (void)c;
  if (op == NN_X_CAST_SAT) return nn_x_cast_sat(k, a, cast_to);
  return op == NN_X_BITCAST ? nn_x_bitcast(k, a, cast_to) : nn_x_cast(k, a, cast_to);
}

static void check_casts(const char *cpu, nn_dtype from, int lanes) {
  emit_case c = emit_begin(cpu);
  nn_buf *in = emit_param(&c, from, COUNT, false), *x[3] = {in, in, in}, *y[3 * NDTYPES] = {0};
  for (int t = 0; t < NDTYPES; t++) {
    y[t] = emit_param(&c, dtypes[t], COUNT, true);
    if (nn_dtype_is_float(dtypes[t]) && nn_dtype_bits(dtypes[t]) <= 8)
      y[NDTYPES + t] = emit_param(&c, dtypes[t], COUNT, true);
    if (nn_dtype_bits(dtypes[t]) == nn_dtype_bits(from) && dtypes[t] != NN_BOOL && from != NN_BOOL)
      y[2 * NDTYPES + t] = emit_param(&c, dtypes[t], COUNT, true);
  }
  for (int t = 0; t < 3 * NDTYPES; t++) {
    if (!y[t]) continue;
    cast_to = y[t]->dtype;
    add_loop(&c, x, y[t], lanes, t < NDTYPES ? NN_X_CAST : t < 2 * NDTYPES ? NN_X_CAST_SAT : NN_X_BITCAST, make_cast);
  }
  char what[64];
  snprintf(what, sizeof what, "casts from %s on %s, %d lanes", nn_dtype_name(from), cpu ? cpu : "native", lanes);
  cr_assert_eq(emit_check(&c, what), 0);
}

static void check_all_casts(const char *cpu) {
  for (int d = 0; d < NDTYPES; d++) {
    check_casts(cpu, dtypes[d], 1);
    check_casts(cpu, dtypes[d], 16);
  }
}

Test(emit_casts, native) { check_all_casts(NULL); }
Test(emit_casts, without_half_conversions) { check_all_casts("x86-64-v2"); }

/* Every code of the small floats, to f32 and back. */
Test(emit_casts, all_codes) {
  for (int d = 0; d < NDTYPES; d++) {
    int bits = nn_dtype_bits(dtypes[d]);
    if (!nn_dtype_is_float(dtypes[d]) || bits > 16) continue;
    int64_t count = bits == 16 ? 65536 : 256;
    for (int native = 0; native < 2; native++) {
      emit_case c = emit_begin(native ? NULL : "x86-64");
      nn_buf *x = emit_param(&c, dtypes[d], count, false), *y = emit_param(&c, NN_F32, count, true),
             *z = emit_param(&c, dtypes[d], count, true);
      nn_x *i = nn_loop_range(c.k, NN_FOR, "i", count), *v = nn_let(c.k, nn_x_load(c.k, x, i, NULL));
      nn_store(c.k, y, i, nn_x_cast(c.k, v, NN_F32), NULL);
      nn_store(c.k, z, i, v, NULL);
      nn_end(c.k);
      emit_make_data(&c);
      for (int64_t e = 0; e < count; e++) {
        if (bits == 16)
          ((uint16_t *)c.data[0])[e] = (uint16_t)e;
        else if (bits == 8)
          ((uint8_t *)c.data[0])[e] = (uint8_t)e;
        else if (e < count / 2)
          ((uint8_t *)c.data[0])[e] = (uint8_t)(e * 17);
      }
      cr_assert_eq(emit_check(&c, nn_dtype_name(dtypes[d])), 0);
    }
  }
}

/* ---- reductions over registers --------------------------------------------------------------------------- */

static void check_lanes(nn_dtype d, int count, const char *cpu) {
  static const nn_xop reductions[] = {NN_X_LANES_SUM, NN_X_LANES_PROD, NN_X_LANES_MAX, NN_X_LANES_MIN};
  emit_case c = emit_begin(cpu);
  nn_kernel *k = c.k;
  nn_buf *x = emit_param(&c, d, count, false), *y = emit_param(&c, d, 8, true);
  nn_buf *regs = nn_kernel_buf(k, "r", NN_BUF_REG, d, emit_dim(&c, count), false);
  nn_x *i = nn_loop_range(k, NN_UNROLL, "i", count);
  nn_store(k, regs, i, nn_x_load(k, x, i, NULL), NULL);
  nn_end(k);
  for (int r = 0; r < 4; r++)
    nn_store(k, y, nn_x_int(k, r), nn_x_lanes(k, reductions[r], regs, nn_x_int(k, 0), count), NULL);
  char what[64];
  snprintf(what, sizeof what, "lanes of %d %s", count, nn_dtype_name(d));
  cr_assert_eq(emit_check(&c, what), 0);
}

Test(emit_ops, lanes) {
  for (int d = 0; d < NDTYPES; d++)
    for (int count = 1; count <= 64; count *= count < 4 ? 2 : 4)
      check_lanes(dtypes[d], count, count == 16 ? "x86-64" : NULL);
}

static void check_lookup(int lanes, int count, const char *cpu) {
  static int32_t values[NN_TABLE_MOST];
  for (int i = 0; i < NN_TABLE_MOST; i++) values[i] = (i + 3) * 1000003 * (i % 2 ? -7 : 7);
  emit_case c = emit_begin(cpu);
  nn_kernel *k = c.k;
  nn_buf *x = emit_param(&c, NN_I32, COUNT, false), *y = emit_param(&c, NN_I32, COUNT, true);
  nn_x *i = nn_loop_range(k, NN_FOR, "i", COUNT / lanes);
  if (lanes > 1) i = nn_xi_add(k, nn_xi_mulc(k, i, lanes), nn_loop_range(k, NN_VECTOR, "l", lanes));
  nn_store(k, y, i, nn_x_lookup(k, nn_kernel_table(k, "t", values, count), nn_x_load(k, x, i, NULL)), NULL);
  nn_end(k);
  if (lanes > 1) nn_end(k);
  char what[64];
  snprintf(what, sizeof what, "lookup of %d lanes among %d on %s", lanes, count, cpu ? cpu : "native");
  cr_assert_eq(emit_check(&c, what), 0);
}

Test(emit_ops, lookup) {
  static const int lanes[] = {1, 2, 3, 4, 8, 16, 24, 32, 48, 96};
  for (int count = 1; count <= NN_TABLE_MOST; count *= 2)
    for (size_t i = 0; i < sizeof lanes / sizeof *lanes; i++) {
      check_lookup(lanes[i], count, NULL);
      check_lookup(lanes[i], count, "x86-64");
    }
}

static void check_limit(nn_dtype d, int lanes, const char *cpu) {
  static const double bounds[] = {0, 1, 254, INFINITY};
  enum { NBOUNDS = (int)(sizeof bounds / sizeof *bounds) };
  emit_case c = emit_begin(cpu);
  nn_kernel *k = c.k;
  nn_buf *x = emit_param(&c, d, COUNT, false), *y[NBOUNDS];
  for (int b = 0; b < NBOUNDS; b++) y[b] = emit_param(&c, d, COUNT, true);
  nn_x *i = nn_loop_range(k, NN_FOR, "i", COUNT / lanes);
  if (lanes > 1) i = nn_xi_add(k, nn_xi_mulc(k, i, lanes), nn_loop_range(k, NN_VECTOR, "l", lanes));
  for (int b = 0; b < NBOUNDS; b++) nn_store(k, y[b], i, nn_x_binary(k, NN_X_LIMIT, nn_x_load(k, x, i, NULL), nn_x_const(k, d, bounds[b])), NULL);
  nn_end(k);
  if (lanes > 1) nn_end(k);
  char what[64];
  snprintf(what, sizeof what, "limit of %s, %d lanes on %s", nn_dtype_name(d), lanes, cpu ? cpu : "native");
  cr_assert_eq(emit_check(&c, what), 0);
}

Test(emit_ops, limit) {
  static const int lanes[] = {1, 3, 8, 16, 32};
  static const nn_dtype types[] = {NN_F64, NN_F32, NN_F16, NN_BF16};
  for (size_t t = 0; t < sizeof types / sizeof *types; t++)
    for (size_t i = 0; i < sizeof lanes / sizeof *lanes; i++) {
      check_limit(types[t], lanes[i], NULL);
      check_limit(types[t], lanes[i], "x86-64");
    }
}

/* Copies of a loop's body that divides run side by side, unless that would show: one statement adds
   to what it stored in an earlier copy, loads what another one stored, or stores where another one did. */
typedef enum braid_kind { BRAID_ADDS, BRAID_LOADS, BRAID_STORES, BRAID_KINDS } braid_kind;

static void check_braid(braid_kind what, nn_loop_kind loop, int copies) {
  enum { LANES = 8 };
  emit_case c = emit_begin(NULL);
  nn_kernel *k = c.k;
  int count = (copies + 3) * LANES;
  nn_buf *x = emit_param(&c, NN_F32, count, false), *y = emit_param(&c, NN_F32, count, true);
  nn_x *i = nn_xi_mulc(k, nn_loop_range(k, loop, "i", copies), LANES), *l = nn_loop_range(k, NN_VECTOR, "l", LANES);
  nn_x *at = nn_xi_add(k, i, l), *next = nn_xi_addc(k, at, LANES);
  nn_x *a = nn_let(k, nn_x_load(k, x, at, NULL)), *q = nn_let(k, nn_x_binary(k, NN_X_DIV, nn_x_const(k, NN_F32, 1), a));
  if (what == BRAID_LOADS) q = nn_let(k, nn_x_binary(k, NN_X_SUB, q, nn_x_load(k, y, at, NULL)));
  if (what == BRAID_STORES) nn_store(k, y, at, a, NULL);
  nn_store(k, y, next, what == BRAID_ADDS ? nn_x_binary(k, NN_X_SUB, q, nn_x_load(k, y, at, NULL)) : q, NULL);
  nn_end(k);
  nn_end(k);
  char name[64];
  snprintf(name, sizeof name, "braid %d of %d copies, loop %d", (int)what, copies, (int)loop);
  cr_assert_eq(emit_check(&c, name), 0);
}

Test(emit_ops, copies_side_by_side) {
  for (int what = 0; what < BRAID_KINDS; what++)
    for (int copies = 1; copies <= 9; copies++) {
      check_braid((braid_kind)what, NN_UNROLL, copies);
      check_braid((braid_kind)what, NN_FOR, copies);
    }
}

static void check_transpose(nn_dtype d, int side, const char *cpu) {
  emit_case c = emit_begin(cpu);
  nn_kernel *k = c.k;
  int count = side * side;
  nn_buf *x = emit_param(&c, d, count, false), *y = emit_param(&c, d, count, true);
  nn_buf *regs = nn_kernel_buf(k, "r", NN_BUF_REG, d, emit_dim(&c, count), false);
  for (int step = 0; step < 2; step++) {
    nn_x *i = nn_loop_range(k, NN_UNROLL, "i", side), *l = nn_loop_range(k, NN_VECTOR, "l", side);
    nn_x *at = nn_xi_add(k, nn_xi_mulc(k, i, side), l);
    nn_store(k, step ? y : regs, at, nn_x_load(k, step ? regs : x, at, NULL), NULL);
    nn_end(k);
    nn_end(k);
    if (!step) nn_transpose(k, regs);
  }
  char what[64];
  snprintf(what, sizeof what, "transpose of %d x %d %s", side, side, nn_dtype_name(d));
  cr_assert_eq(emit_check(&c, what), 0);
}

Test(emit_ops, transpose) {
  for (int side = 2; side <= 32; side *= 2) {
    check_transpose(NN_F32, side, NULL);
    check_transpose(NN_F32, side, "x86-64");
    check_transpose(NN_F64, side, side == 4 ? "x86-64-v3" : NULL);
    check_transpose(NN_U8, side, NULL);
    check_transpose(NN_F16, side, NULL);
  }
}

/* ---- steps ----------------------------------------------------------------------------------------------- */

enum { TASKS = 4, STEPS = 5 };

/* y[s, t] = y[s - 1, (t + 1) mod TASKS] + (2s + 1) * x[t], for s from FIRST: each task needs another one's last result. */
static void check_steps(int64_t first, int64_t end, bool between) {
  emit_case c = emit_begin(NULL);
  nn_kernel *k = c.k;
  nn_buf *x = emit_param(&c, NN_I32, TASKS, false), *y = emit_param(&c, NN_I32, (STEPS + 1) * TASKS, true);
  nn_buf *from = emit_param(&c, NN_I64, 1, false), *log = emit_param(&c, NN_I64, STEPS, true);
  c.data[2] = calloc(1, 9);
  c.bytes[2] = 8;
  memcpy(c.data[2], &first, 8);
  nn_x *lo = first ? nn_let(k, nn_x_load(k, from, nn_x_int(k, 0), NULL)) : nn_x_int(k, 0);
  nn_x *s = nn_loop_begin(k, NN_FOR, "s", lo, nn_x_int(k, end));
  nn_x *factor = nn_let(k, nn_xi_addc(k, nn_xi_mulc(k, s, 2), 1));
  if (between) nn_store(k, log, s, factor, NULL); /* no longer one job */
  nn_x *t = nn_loop_range(k, NN_PARALLEL, "t", TASKS);
  nn_x *other = nn_xi_mod(k, nn_xi_addc(k, t, 1), nn_x_int(k, TASKS));
  nn_x *last = nn_x_load(k, y, nn_xi_add(k, nn_xi_mulc(k, s, TASKS), other), NULL);
  nn_x *product = nn_x_binary(k, NN_X_MUL, nn_x_cast(k, factor, NN_I32), nn_x_load(k, x, t, NULL));
  nn_x *to = nn_xi_add(k, nn_xi_mulc(k, nn_xi_addc(k, s, 1), TASKS), t);
  nn_store(k, y, to, nn_x_binary(k, NN_X_ADD, last, product), NULL);
  nn_end(k);
  nn_end(k);
  cr_assert_eq(emit_check(&c, "steps"), 0);
}

Test(emit_steps, are_one_job) { check_steps(0, STEPS, false); }
Test(emit_steps, from_a_number_that_is_loaded) { check_steps(2, STEPS, false); }
Test(emit_steps, none) { check_steps(3, 3, false); }
Test(emit_steps, with_work_between_them) { check_steps(0, STEPS, true); }

/* ---- what workers keep ----------------------------------------------------------------------------------- */

enum { KEPT = 8, KEYS = 3, TASKS_OF_KEY = 4 };

typedef struct keeping {
  nn_buf *x, *y, *kept, *last, *made; /* made: counts, or NULL */
} keeping;

/* y[t] = kept[.] + t for all tasks t, where kept[i] = x[i] * (key + more) */
static void add_keeping_loop(nn_kernel *k, const keeping *b, nn_loop_kind loop, int more) {
  nn_x *t = nn_loop_range(k, loop, "t", KEYS * TASKS_OF_KEY), *zero = nn_x_int(k, 0);
  nn_x *key = nn_xi_floordiv(k, t, nn_x_int(k, TASKS_OF_KEY));
  nn_keep_begin(k, b->last, key);
  nn_x *i = nn_loop_range(k, NN_FOR, "i", KEPT);
  nn_store(k, b->kept, i, nn_xi_mul(k, nn_x_load(k, b->x, i, NULL), nn_xi_addc(k, key, more)), NULL);
  nn_end(k);
  if (b->made) nn_store(k, b->made, zero, nn_xi_addc(k, nn_x_load(k, b->made, zero, NULL), 1), NULL);
  nn_end(k);
  i = nn_loop_range(k, NN_FOR, "i", KEPT);
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, t, KEPT), i);
  nn_x *sum = nn_xi_add(k, nn_x_load(k, b->y, at, NULL), nn_xi_add(k, nn_x_load(k, b->kept, i, NULL), t));
  nn_store(k, b->y, at, sum, NULL);
  nn_end(k);
  nn_end(k);
}

static keeping keeping_buffers(emit_case *c, bool counts) {
  keeping b = {.x = emit_param(c, NN_I64, KEPT, false), .y = emit_param(c, NN_I64, KEYS * TASKS_OF_KEY * KEPT, true)};
  if (counts) b.made = emit_param(c, NN_I64, 1, true);
  b.kept = nn_kernel_buf(c->k, "kept", NN_BUF_WORKER, NN_I64, emit_dim(c, KEPT), false);
  b.last = nn_kernel_buf(c->k, "last", NN_BUF_WORKER, NN_I64, emit_dim(c, 1), false);
  return b;
}

/* Two loops: the second one must not take what the first has left for its own. */
static void check_keeping(nn_loop_kind loop) {
  emit_case c = emit_begin(NULL);
  keeping b = keeping_buffers(&c, false);
  add_keeping_loop(c.k, &b, loop, 1);
  add_keeping_loop(c.k, &b, loop, 5);
  cr_assert_eq(emit_check(&c, "keep"), 0);
}

Test(emit_keep, between_tasks) { check_keeping(NN_PARALLEL); }
Test(emit_keep, in_a_serial_loop) { check_keeping(NN_FOR); }

/* A loop around it does not make steps of one job of it. */
Test(emit_keep, in_each_round) {
  emit_case c = emit_begin(NULL);
  keeping b = keeping_buffers(&c, false);
  nn_loop_range(c.k, NN_FOR, "round", 3);
  add_keeping_loop(c.k, &b, NN_PARALLEL, 1);
  nn_end(c.k);
  cr_assert_eq(emit_check(&c, "keep in rounds"), 0);
}

/* As often as the key changes for a worker, and no more. */
static void count_made(emit_host host, int64_t most) {
  emit_case c = emit_begin(NULL);
  keeping b = keeping_buffers(&c, true);
  nn_kernel_fn *fn = NULL;
  int64_t x[KEPT] = {0}, y[KEYS * TASKS_OF_KEY * KEPT] = {0}, made = 0;
  add_keeping_loop(c.k, &b, NN_PARALLEL, 1);
  cr_assert_eq(nn_jit_kernel(c.jit, &c.target, c.k, &fn), NN_OK);
  cr_assert_eq(emit_run_compiled(&c, fn, (void *[]){x, y, &made}, host), 0);
  cr_assert_eq(made, most);
  emit_end(&c);
}

Test(emit_keep, once_for_a_key) {
  count_made(EMIT_ALONE, KEYS);
  count_made(EMIT_TASKS, KEYS * EMIT_WORKERS); /* who take tasks in turn */
}
