/* Sums of A's quadrants for Strassen's products (gemm_strassen.c). Seven of a pair of rows, of a chunk's rows or of a task's: of rows as they lie, of
   blocks of k, or of a transposed A, which is turned in squares. */
#include "codegen/gemm_strassen.h"

static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

/* A pair's row in a. */
static nn_x *row_of_a(nn_kernel *k, const nn_strassen *s, nn_x *pair) { return s->is_own ? nn_xi_sub(k, pair, s->own_row) : pair; }

/* Where A lies in blocks of k, so do its sums: [product][block][pair][k]; else [product][pair][k]. */
nn_x *nn_strassen_sum_at(nn_kernel *k, const nn_strassen *s, nn_x *product, nn_x *pair, nn_x *ki) {
  int64_t block = s->g->a_block;
  nn_x *first = nn_xi_mulc(k, product, s->a_size);
  pair = row_of_a(k, s, pair);
  if (!block) return nn_xi_add(k, first, nn_xi_add(k, nn_xi_mulc(k, pair, s->pitch), ki));
  nn_x *line = nn_xi_add(k, nn_xi_mulc(k, nn_xi_floordiv(k, ki, nn_x_int(k, block)), s->a_rows), pair);
  return nn_xi_add(k, first, nn_xi_add(k, nn_xi_mulc(k, line, block), nn_xi_mod(k, ki, nn_x_int(k, block))));
}

static nn_x *quadrant_a(nn_lower *L, const nn_strassen *s, nn_x *pair, nn_x *ki, int quadrant) {
  nn_kernel *k = L->kernel;
  nn_x *m = nn_xi_addc(k, nn_xi_mulc(k, nn_xi_add(k, s->chunk, pair), 2), quadrant >> 1);
  if (!s->is_even && quadrant >> 1) m = nn_xi_min(k, m, nn_xi_addc(k, s->m, -1));
  return nn_let(k, nn_gemm_a(L, s->g, m, nn_xi_addc(k, ki, (quadrant & 1) * s->half)));
}

static void sum_vector(nn_lower *L, const nn_strassen *s, nn_x *pair, nn_x *ki, nn_x *const *quadrants) {
  nn_kernel *k = L->kernel;
  for (int q = 0; q < NN_STRASSEN_PRODUCTS; q++) {
    const nn_strassen_term *t = &nn_strassen_terms[q];
    nn_x *sum = nn_signed_sum(k, quadrants[t->a[0]], quadrants[t->a[1]], t->a_sign);
    nn_store(k, s->a, nn_strassen_sum_at(k, s, nn_x_int(k, q), pair, ki), sum, nn_guard(L));
  }
}

static void sum_in_place(nn_lower *L, const nn_strassen *s, nn_x *pair, nn_x *ki) {
  nn_x *quadrants[NN_STRASSEN_QUADRANTS];
  for (int q = 0; q < NN_STRASSEN_QUADRANTS; q++) quadrants[q] = quadrant_a(L, s, pair, ki, q);
  sum_vector(L, s, pair, ki, quadrants);
}

static void sum_a_block(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  const nn_strassen *s = data;
  nn_kernel *k = L->kernel;
  nn_x *ki = nn_xi_add(k, i, nn_lanes_begin(L, lanes));
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, ki, nn_x_int(k, s->half)));
  sum_in_place(L, s, s->row, ki);
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

static void sum_rows(nn_lower *L, nn_strassen *s) {
  nn_kernel *k = L->kernel;
  s->row = nn_task_loop(L, s->g->in_parallel, "pair", s->left);
  nn_block_loops(L, nn_x_int(k, s->half), s->lanes, sum_a_block, s);
  nn_end(k);
}

/* A transposed A is turned in squares of one vector's lanes, as many pairs of rows at a time as are in one. */
static bool reads_squares(const nn_strassen *s) {
  const nn_gemm *g = s->g;
  int64_t m, k;
  if (g->a_block || s->lanes < 2 || s->half < s->lanes) return false;
  if (!g->a_plain) return !g->a_unit_k;
  return nn_x_is_const(g->a_stride_m, &m) && m == 1 && !(nn_x_is_const(g->a_stride_k, &k) && k == 1);
}

/* Rows from m on for k from ki on, in one half of it. */
static void turn_square(nn_lower *L, const nn_strassen *s, nn_x *m, nn_x *ki, int half, bool is_tail) {
  nn_kernel *k = L->kernel;
  int lanes = s->lanes;
  nn_buf *square = nn_regs(L, s->g->acc, (int64_t)lanes * lanes);
  nn_x *i = nn_loop_range(k, NN_UNROLL, "i", lanes), *l = nn_lanes_begin(L, lanes), *row = nn_xi_add(k, m, l);
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, row, s->m));
  nn_store(k, square, nn_tile_vector(k, i, lanes, l), nn_gemm_a(L, s->g, row, nn_xi_add(k, nn_xi_addc(k, ki, half * s->half), i)), NULL);
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
  nn_end(k);
  nn_transpose(k, square);
  i = nn_loop_range(k, NN_UNROLL, "i", lanes);
  l = nn_lanes_begin(L, lanes);
  nn_x *at = nn_tile_vector(k, i, lanes, l);
  nn_store(k, s->squares, nn_xi_addc(k, at, (int64_t)half * lanes * lanes), nn_x_load(k, square, at, NULL), NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
}

static void sum_square(nn_lower *L, const nn_strassen *s, nn_x *first, nn_x *ki, nn_x *count, bool is_tail) {
  nn_kernel *k = L->kernel;
  int64_t lanes = s->lanes;
  nn_x *m = nn_let(k, nn_xi_mulc(k, nn_xi_add(k, s->chunk, first), 2)), *quadrants[NN_STRASSEN_QUADRANTS];
  for (int half = 0; half < 2; half++) turn_square(L, s, m, ki, half, is_tail);
  nn_x *pair = nn_loop_begin(k, is_tail ? NN_FOR : NN_UNROLL, "pair", nn_x_int(k, 0), count), *l = nn_lanes_begin(L, s->lanes);
  for (int q = 0; q < NN_STRASSEN_QUADRANTS; q++) {
    nn_x *row = nn_xi_addc(k, nn_xi_mulc(k, pair, 2), (q & 1) * lanes + (q >> 1));
    quadrants[q] = nn_let(k, nn_x_load(k, s->squares, nn_xi_add(k, nn_xi_mulc(k, row, lanes), l), NULL));
  }
  sum_vector(L, s, nn_xi_add(k, first, pair), nn_xi_add(k, ki, l), quadrants);
  nn_lanes_end(L, s->lanes);
  nn_end(k);
}

/* The last squares of a half may overlap. */
static void sum_squares(nn_lower *L, nn_strassen *s) {
  nn_kernel *k = L->kernel;
  int64_t lanes = s->lanes, most = lanes / 2;
  s->squares = nn_temp(L, NN_BUF_WORKER, s->g->acc, nn_dim_const(L->module, 2 * lanes * lanes));
  nn_x *group = nn_task_loop(L, s->g->in_parallel, "pairs", nn_ceildiv_x(L, s->left, most));
  nn_x *first = nn_let(k, nn_xi_mulc(k, group, most)), *count = nn_let(k, nn_xi_min(k, nn_x_int(k, most), nn_xi_sub(k, s->left, first)));
  nn_x *here = nn_let(k, nn_xi_min(k, s->m, nn_xi_mulc(k, nn_xi_add(k, s->chunk, s->left), 2)));
  nn_x *square = nn_loop_range(k, NN_FOR, "square", ceil_div(s->half, lanes));
  nn_x *ki = nn_let(k, nn_xi_min(k, nn_xi_mulc(k, square, lanes), nn_x_int(k, s->half - lanes)));
  nn_if_begin(k, nn_x_binary(k, NN_X_LE, nn_xi_mulc(k, nn_xi_add(k, s->chunk, nn_xi_addc(k, first, most)), 2), here));
  sum_square(L, s, first, ki, nn_x_int(k, most), false);
  nn_else(k);
  sum_square(L, s, first, ki, count, true);
  nn_end(k);
  nn_end(k);
  nn_end(k);
}

/* Elements of k that lie together in both halves. */
static int lanes_of_block(const nn_strassen *s) {
  int lanes = s->lanes;
  while (s->half % lanes || s->g->a_block % lanes) lanes /= 2;
  return lanes;
}

/* Neighbouring rows lie together. */
static void sum_pairs(nn_lower *L, const nn_strassen *s, nn_x *ki, int lanes, nn_x *first, nn_x *end) {
  nn_x *pair = nn_loop_begin(L->kernel, NN_FOR, "pair", first, end);
  sum_in_place(L, s, pair, nn_xi_add(L->kernel, ki, nn_lanes_begin(L, lanes)));
  nn_lanes_end(L, lanes);
  nn_end(L->kernel);
}

/* Of the task's rows. */
void nn_strassen_sum_own(nn_lower *L, const nn_strassen *s) {
  nn_kernel *k = L->kernel;
  int lanes = lanes_of_block(s);
  nn_x *end = nn_let(k, nn_xi_min(k, nn_xi_add(k, s->row, s->rows), s->left));
  sum_pairs(L, s, nn_xi_mulc(k, nn_loop_range(k, NN_FOR, "k", s->half / lanes), lanes), lanes, s->row, end);
  nn_end(k);
}

void nn_strassen_sum_chunk(nn_lower *L, nn_strassen *s) {
  if (reads_squares(s)) sum_squares(L, s);
  else sum_rows(L, s);
}
