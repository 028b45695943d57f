/* Random kernels: nested loops of all kinds, masks, register arrays, worker memory, strided and gathered
   accesses. Machine code and interpreter must agree bit for bit, serially and in a pool.

   What makes such a kernel valid: a store statement has an output of its own, in it each task of a parallel
   loop has its own part, and in a vector loop each lane its own elements. */
#include "tests/codegen/emit_case.h"

enum { PART = 64, TASKS = 3, INPUT = 200, MAX_VALUES = 64, REGS = 16, MAX_STORES = 24, LANES = 8 };

typedef struct maker {
  emit_case *c;
  nn_kernel *k;
  nn_buf *f32, *i32, *f16, *u8, *i64, *boolean, *i4; /* inputs */
  nn_buf *worker;
  nn_x *floats[MAX_VALUES], *ints[MAX_VALUES]; /* values in scope; ints are i64 */
  int nfloats, nints, nstores, depth;
  nn_x *task, *lane; /* of the open parallel and vector loops, or NULL */
  bool worker_filled;
} maker;

static int below(maker *g, int n) { return (int)((emit_random(g->c) >> 17) % (unsigned)n); }

static void add_float(maker *g, nn_x *x) {
  if (g->nfloats < MAX_VALUES) g->floats[g->nfloats++] = x;
}

static void add_int(maker *g, nn_x *x) {
  if (g->nints < MAX_VALUES) g->ints[g->nints++] = x;
}

static nn_x *any_int(maker *g) {
  return g->nints && below(g, 8) ? g->ints[below(g, g->nints)] : nn_x_int(g->k, below(g, 9) - 2);
}

static nn_x *make_int(maker *g) {
  nn_kernel *k = g->k;
  switch (below(g, 9)) {
  case 0: return nn_xi_add(k, any_int(g), any_int(g));
  case 1: return nn_xi_sub(k, any_int(g), any_int(g));
  case 2: return nn_xi_mulc(k, any_int(g), below(g, 7) - 3);
  case 3: return nn_x_binary(k, NN_X_FLOORDIV, any_int(g), nn_x_int(k, below(g, 5) + 1));
  case 4: return nn_x_binary(k, NN_X_FLOORMOD, any_int(g), any_int(g));
  case 5: return nn_xi_min(k, any_int(g), any_int(g));
  case 6: return nn_x_binary(k, NN_X_DIV, any_int(g), any_int(g));
  default: return nn_xi_addc(k, any_int(g), below(g, 9));
  }
}

/* In range for any values: often linear in loop variables, sometimes wrapped. */
static nn_x *input_index(maker *g) {
  nn_kernel *k = g->k;
  if (g->lane && below(g, 3)) { /* linear in the lane */
    static const int strides[] = {1, 1, 1, 2, -1, 3};
    int stride = strides[below(g, 6)];
    nn_x *base = nn_x_int(k, 40 + below(g, 60));
    if (g->task && below(g, 2)) base = nn_xi_add(k, base, nn_xi_mulc(k, g->task, 4));
    return nn_xi_add(k, base, nn_xi_mulc(k, g->lane, stride));
  }
  return nn_x_binary(k, NN_X_FLOORMOD, make_int(g), nn_x_int(k, INPUT));
}

static nn_x *any_float(maker *g) {
  return g->nfloats && below(g, 8) ? g->floats[below(g, g->nfloats)] : nn_x_const(g->k, NN_F32, below(g, 17) - 8);
}

static nn_x *make_bool(maker *g) {
  nn_kernel *k = g->k;
  switch (below(g, 4)) {
  case 0: return nn_x_binary(k, NN_X_LT, any_float(g), any_float(g));
  case 1: return nn_x_load(k, g->boolean, input_index(g), NULL);
  case 2:
    return nn_x_binary(k, NN_X_AND, nn_x_binary(k, NN_X_LE, any_int(g), any_int(g)),
                       nn_x_binary(k, NN_X_NE, any_float(g), any_float(g)));
  default: return nn_x_binary(k, NN_X_LT, any_int(g), any_int(g));
  }
}

static nn_x *make_load(maker *g) {
  nn_kernel *k = g->k;
  nn_buf *const all[] = {g->f32, g->f32, g->i32, g->f16, g->u8, g->i4};
  nn_x *mask = below(g, 3) ? NULL : make_bool(g), *index = input_index(g);
  if (mask && below(g, 2))
    index = nn_x_select(k, mask, index, nn_x_int(k, INT64_C(1) << 40)); /* far outside where masked */
  if (g->worker_filled && below(g, 4) == 0)
    return nn_x_load(k, g->worker, nn_x_binary(k, NN_X_FLOORMOD, make_int(g), nn_x_int(k, PART)), NULL);
  return nn_x_cast(k, nn_x_load(k, all[below(g, 6)], index, mask), NN_F32);
}

static nn_x *make_float(maker *g) {
  static const nn_xop binary[] = {NN_X_ADD, NN_X_SUB, NN_X_MUL, NN_X_DIV, NN_X_MIN, NN_X_MAX};
  nn_kernel *k = g->k;
  switch (below(g, 7)) {
  case 0: return nn_x_select(k, make_bool(g), any_float(g), any_float(g));
  case 1: return nn_x_cast(k, nn_x_cast(k, any_float(g), NN_I32), NN_F32);
  case 2: return nn_x_cast(k, make_int(g), NN_F32);
  case 3:
    return nn_x_cast(
        k, nn_x_binary(k, NN_X_ADD, nn_x_cast(k, any_float(g), NN_BF16), nn_x_cast(k, any_float(g), NN_BF16)), NN_F32);
  case 4: return nn_x_unary(k, NN_X_FLOOR, any_float(g));
  default: return nn_x_binary(k, binary[below(g, 6)], any_float(g), any_float(g));
  }
}

static void make_store(maker *g) {
  nn_kernel *k = g->k;
  if (g->nstores >= MAX_STORES) return;
  nn_buf *y = k->bufs[7 + g->nstores++]; /* outputs were made before the rest */
  nn_dtype t = y->dtype;
  int lanes = g->lane ? LANES : 1;
  nn_x *at = nn_x_binary(k, NN_X_FLOORMOD, make_int(g), nn_x_int(k, PART / lanes));
  if (g->lane) {
    int64_t stride = 0;
    if (!nn_x_stride(at, nn_current_vector_var(k), &stride) || stride != 0) at = nn_x_int(k, 1);
    at = below(g, 2) ? nn_xi_add(k, nn_xi_mulc(k, at, LANES), g->lane)
                     : nn_xi_add(k, at, nn_xi_mulc(k, g->lane, PART / LANES));
  }
  if (g->task) at = nn_xi_add(k, nn_xi_mulc(k, g->task, PART), at);
  nn_store(k, y, at, nn_x_cast(k, any_float(g), t), below(g, 3) ? NULL : make_bool(g));
}

static void make_block(maker *g);

static void make_scope(maker *g) {
  int floats = g->nfloats, ints = g->nints;
  g->depth++;
  make_block(g);
  g->depth--;
  g->nfloats = floats;
  g->nints = ints;
}

static void make_if(maker *g) {
  nn_if_begin(g->k, make_bool(g));
  make_scope(g);
  if (below(g, 2)) {
    nn_else(g->k);
    make_scope(g);
  }
  nn_end(g->k);
}

static void make_for(maker *g, nn_loop_kind kind) {
  nn_x *hi = nn_x_int(g->k, below(g, 7));
  int before = g->nints;
  if (kind == NN_FOR && !g->lane && below(g, 3) == 0)
    hi = nn_x_binary(g->k, NN_X_FLOORMOD, make_int(g), nn_x_int(g->k, 6));
  nn_x *i = nn_loop_begin(g->k, kind, "i", nn_x_int(g->k, kind == NN_FOR ? below(g, 3) - 1 : 0), hi);
  if (kind == NN_FOR && below(g, 2)) nn_loop_unroll_by(g->k, 2 + below(g, 3));
  add_int(g, i);
  make_scope(g);
  nn_end(g->k);
  g->nints = before;
}

static void make_vector(maker *g) {
  int before = g->nints, floats = g->nfloats;
  g->lane = nn_loop_range(g->k, NN_VECTOR, "l", LANES);
  add_int(g, g->lane);
  make_scope(g);
  nn_end(g->k);
  g->lane = NULL;
  g->nints = before;
  g->nfloats = floats;
}

/* A sum in registers over a loop, and its reduction. */
static void make_sum(maker *g) {
  nn_kernel *k = g->k;
  nn_buf *regs = nn_kernel_buf(k, "acc", NN_BUF_REG, NN_F32, emit_dim(g->c, REGS), false);
  nn_x *r = nn_loop_range(k, NN_UNROLL, "r", REGS / LANES), *l = nn_loop_range(k, NN_VECTOR, "l", LANES);
  nn_store(k, regs, nn_xi_add(k, nn_xi_mulc(k, r, LANES), l), nn_x_const(k, NN_F32, 0), NULL);
  nn_end(k);
  nn_end(k);
  nn_x *i = nn_loop_range(k, NN_FOR, "k", 1 + below(g, 9));
  nn_loop_unroll_by(k, below(g, 2) ? 4 : 0);
  r = nn_loop_range(k, NN_UNROLL, "r", REGS / LANES), l = nn_loop_range(k, NN_VECTOR, "l", LANES);
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, r, LANES), l),
       *value = nn_x_load(k, g->f32, nn_xi_add(k, nn_xi_mulc(k, i, REGS), at), NULL);
  nn_x *mask = below(g, 2) ? NULL : nn_x_binary(k, NN_X_LT, nn_xi_add(k, at, i), nn_x_int(k, below(g, 30)));
  nn_store(k, regs, at, nn_x_binary(k, NN_X_ADD, nn_x_load(k, regs, at, NULL), value), mask);
  nn_end(k);
  nn_end(k);
  nn_end(k);
  add_float(g, nn_let(k, nn_x_lanes(k, NN_X_LANES_SUM, regs, nn_x_int(k, 0), REGS)));
}

static void fill_worker(maker *g) {
  nn_kernel *k = g->k;
  nn_x *i = nn_loop_range(k, NN_FOR, "w", PART);
  nn_x *value = nn_x_load(k, g->f32, nn_x_binary(k, NN_X_FLOORMOD, nn_xi_add(k, i, g->task), nn_x_int(k, INPUT)), NULL);
  nn_store(k, g->worker, i, value, NULL);
  nn_end(k);
  g->worker_filled = true;
}

static void make_parallel(maker *g) {
  int ints = g->nints, floats = g->nfloats;
  g->task = nn_loop_range(g->k, NN_PARALLEL, "p", TASKS);
  add_int(g, g->task);
  if (below(g, 2)) fill_worker(g);
  make_scope(g);
  nn_end(g->k);
  g->task = NULL;
  g->worker_filled = false;
  g->nints = ints;
  g->nfloats = floats;
}

static void make_statement(maker *g) {
  bool deep = g->depth > 4;
  switch (below(g, 20)) {
  case 0:
  case 1:
  case 2: add_int(g, nn_let(g->k, make_int(g))); break;
  case 3:
  case 4:
  case 5: add_float(g, nn_let(g->k, make_load(g))); break;
  case 6:
  case 7:
  case 8: add_float(g, nn_let(g->k, make_float(g))); break;
  case 9:
  case 10:
    if (!deep) make_if(g);
    break;
  case 11:
    if (!deep) make_for(g, NN_FOR);
    break;
  case 12:
    if (!deep) make_for(g, NN_UNROLL);
    break;
  case 13:
  case 14:
    if (!g->lane) make_vector(g);
    break;
  case 15:
    if (!g->lane && !deep) make_sum(g);
    break;
  case 16:
    if (!g->lane && !g->task && g->depth == 0) make_parallel(g);
    break;
  default: make_store(g);
  }
}

static void make_block(maker *g) {
  for (int n = 4 + below(g, 8); n > 0; n--) make_statement(g);
}

static void make_buffers(maker *g) {
  static const nn_dtype types[] = {NN_F32, NN_F16, NN_I64, NN_U8, NN_F64, NN_I32};
  emit_case *c = g->c;
  g->f32 = emit_param(c, NN_F32, INPUT, false);
  g->i32 = emit_param(c, NN_I32, INPUT, false);
  g->f16 = emit_param(c, NN_F16, INPUT, false);
  g->u8 = emit_param(c, NN_U8, INPUT, false);
  g->i64 = emit_param(c, NN_I64, INPUT, false);
  g->boolean = emit_param(c, NN_BOOL, INPUT, false);
  g->i4 = emit_param(c, NN_I4, INPUT, false);
  for (int i = 0; i < MAX_STORES; i++) emit_param(c, types[below(g, 6)], PART * TASKS, true);
  g->worker = nn_kernel_buf(c->k, "worker", NN_BUF_WORKER, NN_F32, emit_dim(c, PART), false);
}

static void check_seed(uint64_t seed, const char *cpu) {
  emit_case c = emit_begin(cpu);
  c.random ^= seed * UINT64_C(0x9e3779b97f4a7c15);
  for (int i = 0; i < 8; i++) emit_random(&c);
  maker g = {.c = &c, .k = c.k};
  make_buffers(&g);
  make_parallel(&g);
  while (g.nstores < 12) make_block(&g);
  char what[64];
  snprintf(what, sizeof what, "seed %llu on %s", (unsigned long long)seed, cpu ? cpu : "native");
  cr_assert_eq(emit_check(&c, what), 0);
}

Test(emit_random, native) {
  for (uint64_t seed = 1; seed <= 120; seed++) check_seed(seed, NULL);
}

Test(emit_random, avx2) {
  for (uint64_t seed = 1001; seed <= 1060; seed++) check_seed(seed, "x86-64-v3");
}

Test(emit_random, sse2) {
  for (uint64_t seed = 2001; seed <= 2060; seed++) check_seed(seed, "x86-64");
}
