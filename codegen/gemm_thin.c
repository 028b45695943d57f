/* Products with few rows: every element of B is used a few times only, so what counts is that B streams
   from memory once, in its own order.

   axpy: B's rows are contiguous. A task takes a range of columns whose sums stay in L1; for a few k at a
   time, all columns: sum[m, n] += A[m, k] * B[k, n], so that as many rows of B stream side by side.
   dot: B is contiguous along k. Lanes run along k, for a few columns at once, and are summed at the end in
   the tree of LANES_SUM. Columns that come from memory are as many streams, each asked for ahead of its use: by half of the
   group that comes next, if so much stays in L2. */
#include "codegen/codegen.h"

enum { NEAR_AHEAD_BYTES = 1024 };

typedef struct thin {
  const nn_gemm *g;
  int lanes, rows;
  nn_x *k, *n;
  nn_x *n0;         /* axpy: first column of the task */
  int width;        /* axpy: columns of a task */
  nn_buf *sums, *a; /* axpy: [rows][width] in memory; A's elements at hand */
  int depth;        /* axpy: values of k at a time */
  nn_x *k0;
  int columns; /* dot: at a time */
  nn_x *ahead; /* dot: elements from one that is read to the one that is asked for; NULL: none */
  nn_buf *acc; /* dot: [column][row][lane] */
} thin;

static int64_t clamp64(int64_t x, int64_t low, int64_t high) { return x > high ? high : x < low ? low : x; }

static nn_x *less(nn_lower *L, nn_x *a, nn_x *b) { return nn_x_binary(L->kernel, NN_X_LT, a, b); }

/* ---- axpy ------------------------------------------------------------------------------------------------ */

static nn_x *sum_at(nn_lower *L, const thin *t, nn_x *m, nn_x *j) {
  return nn_xi_add(L->kernel, nn_xi_mulc(L->kernel, m, t->width), j);
}

static void clear_sums(nn_lower *L, const thin *t) {
  nn_kernel *k = L->kernel;
  nn_x *v = nn_loop_range(k, NN_FOR, "v", (int64_t)t->rows * t->width / t->lanes);
  nn_x *l = nn_lanes_begin(L, t->lanes);
  nn_store(k, t->sums, nn_xi_add(k, nn_xi_mulc(k, v, t->lanes), l), nn_zero(L, t->g->acc), NULL);
  nn_lanes_end(L, t->lanes);
  nn_end(k);
}

/* One block of columns for `depth` values of k. */
static void axpy_block(nn_lower *L, nn_x *j0, int lanes, bool is_tail, void *data) {
  const thin *t = data;
  nn_kernel *k = L->kernel;
  nn_buf *b = nn_regs(L, t->g->acc, (int64_t)t->depth * lanes), *sum = nn_regs(L, t->g->acc, lanes);
  nn_x *d = nn_loop_range(k, NN_UNROLL, "d", t->depth);
  nn_x *l = nn_lanes_begin(L, lanes);
  nn_x *n = nn_xi_add(k, t->n0, nn_xi_add(k, j0, l));
  if (is_tail) nn_guard_push(L, less(L, n, t->n));
  nn_store(k, b, nn_xi_add(k, nn_xi_mulc(k, d, lanes), l), nn_gemm_b(L, t->g, nn_xi_add(k, t->k0, d), n), NULL);
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
  nn_end(k);
  nn_x *m = nn_loop_range(k, NN_UNROLL, "m", t->rows);
  l = nn_lanes_begin(L, lanes);
  nn_x *at = sum_at(L, t, m, nn_xi_add(k, j0, l));
  nn_store(k, sum, l, nn_x_load(k, t->sums, at, NULL), NULL);
  nn_lanes_end(L, lanes);
  d = nn_loop_range(k, NN_UNROLL, "d", t->depth);
  nn_x *a = nn_let(k, nn_x_load(k, t->a, nn_xi_add(k, nn_xi_mulc(k, m, t->depth), d), NULL));
  l = nn_lanes_begin(L, lanes);
  nn_x *bv = nn_x_load(k, b, nn_xi_add(k, nn_xi_mulc(k, d, lanes), l), NULL);
  nn_store(k, sum, l, nn_mul_add(L, a, bv, nn_x_load(k, sum, l, NULL)), NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
  l = nn_lanes_begin(L, lanes);
  nn_store(k, t->sums, sum_at(L, t, m, nn_xi_add(k, j0, l)), nn_x_load(k, sum, l, NULL), NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
}

/* All columns of the task for k0 .. k0 + depth. */
static void axpy_step(nn_lower *L, thin *t, nn_x *count) {
  nn_kernel *k = L->kernel;
  t->a = nn_regs(L, t->g->acc, (int64_t)t->rows * t->depth);
  nn_x *m = nn_loop_range(k, NN_UNROLL, "m", t->rows);
  nn_x *d = nn_loop_range(k, NN_UNROLL, "d", t->depth);
  nn_store(k, t->a, nn_xi_add(k, nn_xi_mulc(k, m, t->depth), d), nn_gemm_a(L, t->g, m, nn_xi_add(k, t->k0, d)), NULL);
  nn_end(k);
  nn_end(k);
  nn_block_loops(L, count, t->lanes, axpy_block, t);
}

static void axpy_store(nn_lower *L, nn_x *j0, int lanes, bool is_tail, void *data) {
  const thin *t = data;
  nn_kernel *k = L->kernel;
  nn_x *m = nn_loop_range(k, NN_UNROLL, "m", t->rows);
  nn_x *j = nn_xi_add(k, j0, nn_lanes_begin(L, lanes)), *n = nn_xi_add(k, t->n0, j);
  if (is_tail) nn_guard_push(L, less(L, n, t->n));
  t->g->store(L, t->g->data, m, n, nn_let(k, nn_x_load(k, t->sums, sum_at(L, t, m, j), NULL)));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
  nn_end(k);
}

static void axpy_task(nn_lower *L, thin *t) {
  nn_kernel *k = L->kernel;
  int depth = t->depth;
  nn_x *count = nn_let(k, nn_xi_min(k, nn_x_int(k, t->width), nn_xi_sub(k, t->n, t->n0)));
  clear_sums(L, t);
  nn_x *steps = nn_let(k, nn_xi_floordiv(k, t->k, nn_x_int(k, depth)));
  nn_x *step = nn_loop_begin(k, NN_FOR, "k", nn_x_int(k, 0), steps);
  t->k0 = nn_xi_mulc(k, step, depth);
  axpy_step(L, t, count);
  nn_end(k);
  if (depth > 1) {
    t->k0 = nn_loop_begin(k, NN_FOR, "k", nn_xi_mulc(k, steps, depth), t->k);
    t->depth = 1;
    axpy_step(L, t, count);
    t->depth = depth;
    nn_end(k);
  }
  nn_block_loops(L, count, t->lanes, axpy_store, t);
}

/* Columns of a task: several tasks, each of at least some hundred columns (short pieces of rows do
   not stream well) and of sums that stay in L1. */
static int axpy_width(const thin *t) {
  int64_t n = clamp64(nn_dim_guess(t->g->n, 1024), 1, 1 << 30), unit = 4 * t->lanes;
  int64_t want = clamp64(n / 8, 512, 1024);
  if (want > n) want = n;
  return (int)((want + unit - 1) / unit * unit);
}

void nn_gemm_axpy(nn_lower *L, const nn_gemm *g) {
  nn_kernel *k = L->kernel;
  int rows = (int)nn_dim_value(g->m);
  thin t = {.g = g, .rows = rows, .lanes = nn_row_lanes(L, g->acc, g->n), .depth = rows <= 2 ? 8 : 4};
  t.k = nn_let(k, nn_dim_x(L, g->k));
  t.n = nn_let(k, nn_dim_x(L, g->n));
  t.width = axpy_width(&t);
  t.sums = nn_temp(L, NN_BUF_WORKER, g->acc, nn_dim_const(L->module, (int64_t)rows * t.width));
  nn_x *task = nn_task_loop(L, g->in_parallel, "task", nn_ceildiv_x(L, t.n, t.width));
  t.n0 = nn_let(k, nn_xi_mulc(k, task, t.width));
  axpy_task(L, &t);
  nn_end(k);
}

/* ---- dot --------------------------------------------------------------------------------------------------- */

static void dot_ask_ahead(nn_lower *L, const thin *t, nn_x *k0, nn_x *c) {
  nn_kernel *k = L->kernel;
  const nn_gemm *g = t->g;
  nn_x *at = nn_xi_add(k, nn_xi_mul(k, nn_xi_add(k, t->n0, c), g->b_stride_n), k0);
  nn_prefetch(k, g->b_plain, nn_xi_add(k, g->b_base, nn_xi_add(k, at, t->ahead)));
}

/* lanes values of k, all columns of the group. */
static void dot_block(nn_lower *L, nn_x *k0, int lanes, bool is_tail, void *data) {
  const thin *t = data;
  nn_kernel *k = L->kernel;
  nn_buf *a = nn_regs(L, t->g->acc, (int64_t)t->rows * lanes), *b = nn_regs(L, t->g->acc, lanes);
  nn_x *m = nn_loop_range(k, NN_UNROLL, "m", t->rows);
  nn_x *l = nn_lanes_begin(L, lanes), *ki = nn_xi_add(k, k0, l);
  if (is_tail) nn_guard_push(L, less(L, ki, t->k));
  nn_store(k, a, nn_xi_add(k, nn_xi_mulc(k, m, lanes), l), nn_gemm_a(L, t->g, m, ki), NULL);
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
  nn_end(k);
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", t->columns);
  l = nn_lanes_begin(L, lanes);
  ki = nn_xi_add(k, k0, l);
  if (is_tail) nn_guard_push(L, less(L, ki, t->k));
  nn_store(k, b, l, nn_gemm_b(L, t->g, ki, nn_xi_add(k, t->n0, c)), NULL);
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
  if (t->ahead && lanes == t->lanes) dot_ask_ahead(L, t, k0, c);
  m = nn_loop_range(k, NN_UNROLL, "m", t->rows);
  l = nn_lanes_begin(L, lanes);
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, nn_xi_add(k, nn_xi_mulc(k, c, t->rows), m), t->lanes), l);
  nn_x *av = nn_x_load(k, a, nn_xi_add(k, nn_xi_mulc(k, m, lanes), l), NULL);
  nn_store(k, t->acc, at, nn_mul_add(L, av, nn_x_load(k, b, l, NULL), nn_x_load(k, t->acc, at, NULL)), NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
  nn_end(k);
}

static void dot_group(nn_lower *L, thin *t) {
  nn_kernel *k = L->kernel;
  int count = t->rows * t->columns;
  t->acc = nn_regs(L, t->g->acc, (int64_t)count * t->lanes);
  nn_x *i = nn_loop_range(k, NN_UNROLL, "i", count);
  nn_x *l = nn_lanes_begin(L, t->lanes);
  nn_store(k, t->acc, nn_xi_add(k, nn_xi_mulc(k, i, t->lanes), l), nn_zero(L, t->g->acc), NULL);
  nn_lanes_end(L, t->lanes);
  nn_end(k);
  nn_block_loops(L, t->k, t->lanes, dot_block, t);
  for (int c = 0; c < t->columns; c++)
    for (int m = 0; m < t->rows; m++) {
      nn_x *first = nn_x_int(k, (int64_t)(c * t->rows + m) * t->lanes);
      nn_x *sum =
          t->lanes > 1 ? nn_x_lanes(k, NN_X_LANES_SUM, t->acc, first, t->lanes) : nn_x_load(k, t->acc, first, NULL);
      t->g->store(L, t->g->data, nn_x_int(k, m), nn_xi_addc(k, t->n0, c), nn_let(k, sum));
    }
}

/* Groups of columns a task works on: 256 KiB of B, but about sixteen tasks. */
static int64_t dot_groups(const thin *t) {
  int64_t n = clamp64(nn_dim_guess(t->g->n, 1024), 1, 1 << 30), depth = clamp64(nn_dim_guess(t->g->k, 256), 1, 1 << 24);
  int64_t columns = clamp64((1 << 18) / (depth * nn_dtype_bits(t->g->acc) / 8), 1, 4096),
          most = clamp64(n / 16, 1, 4096);
  if (depth * most < 4096) most = clamp64(4096 / depth, 1, 4096);
  return clamp64((columns < most ? columns : most) / t->columns, 1, 4096);
}

static void dot_range(nn_lower *L, thin *t, nn_x *first, nn_x *end) {
  nn_kernel *k = L->kernel;
  t->n0 = nn_loop_begin(k, NN_FOR, "n", first, end);
  if (t->columns > 1) {
    t->n0 = nn_let(k, nn_xi_mulc(k, t->n0, t->columns));
  }
  dot_group(L, t);
  nn_end(k);
}

static void choose_ahead(nn_lower *L, thin *t) {
  nn_kernel *k = L->kernel;
  int64_t size = nn_dtype_bits(t->g->acc) / 8, group = t->columns * nn_dim_guess(t->g->k, 256) * size;
  if (!t->g->b_plain || nn_gemm_b_bytes(t->g) <= L->target->l3_bytes) return;
  if (group > L->target->l2_bytes / 4)
    t->ahead = nn_x_int(k, NEAR_AHEAD_BYTES / size);
  else
    t->ahead = nn_let(k, nn_xi_sub(k, nn_xi_mulc(k, t->k, t->columns), nn_xi_floordiv(k, t->k, nn_x_int(k, 2))));
}

void nn_gemm_dot(nn_lower *L, const nn_gemm *g) {
  nn_kernel *k = L->kernel;
  int rows = (int)nn_dim_value(g->m), wide = L->target->vector_registers / 2 / rows;
  thin t = {.g = g,
            .rows = rows,
            .lanes = nn_target_lanes(L->target, g->acc),
            .columns = wide > 8   ? 8
                       : wide < 1 ? 1
                                  : wide};
  t.k = nn_let(k, nn_dim_x(L, g->k));
  t.n = nn_let(k, nn_dim_x(L, g->n));
  int64_t n, per_task;
  bool is_static = nn_dim_is_const(g->n, &n);
  if (is_static && n < t.columns) t.columns = (int)n;
  choose_ahead(L, &t);
  int columns = t.columns;
  per_task = dot_groups(&t);
  nn_x *groups = nn_let(k, nn_ceildiv_x(L, t.n, columns));
  nn_x *task = nn_task_loop(L, g->in_parallel, "task", nn_ceildiv_x(L, groups, per_task));
  nn_x *first = nn_let(k, nn_xi_mulc(k, task, per_task)), *end = nn_xi_addc(k, first, per_task);
  dot_range(L, &t, first, nn_let(k, nn_xi_min(k, end, nn_xi_floordiv(k, t.n, nn_x_int(k, columns)))));
  if (columns > 1 && (!is_static || n % columns)) { /* what is left, with the last task */
    nn_x *rest = nn_let(k, nn_xi_mulc(k, nn_xi_floordiv(k, t.n, nn_x_int(k, columns)), columns));
    nn_if_begin(k, nn_x_binary(k, NN_X_LE, groups, end));
    t.columns = 1;
    dot_range(L, &t, rest, t.n);
    nn_end(k);
  }
  nn_end(k);
}
