/* C = A B by one step of Strassen's algorithm: seven products of half the size in place of eight, for large products.
   Rows 2i and 2i+1, the halves of k, and panel p and the one half of the panels behind it are the halves of A, B and C;
   what is beyond pairs of whole panels is left to others:

     product  A            B            goes to           product  A            B            goes to
     0        a11 + a22    b11 + b22    +c11 +c22         4        a11 + a12    b22          -c11 +c12
     1        a21 + a22    b11          +c21 -c22         5        a21 - a11    b11 + b12    +c22
     2        a11          b12 - b22    +c12 +c22         6        a12 - a22    b21 + b22    +c11
     3        a22          b21 - b11    +c11 +c21

   Rows go in chunks, so that A's seven sums, which are made beforehand for all of a chunk, stay in a cache; a product of
   few rows is one chunk. A task has a pair of panels and some pairs of rows, half of the chunk's at most where that makes workers
   read what they have written (nn_strassen_half_rows). The first row tile of a product makes the
   sum of B on the way, and the tiles keep their products in the task's own memory until all seven are there.
   Panels come from memory while the tiles run. Where B is no constant, a task of the first chunk packs its panels before
   it multiplies, so they are in L2 then; the last products ask for what the next task packs. If there is one chunk only,
   panels are not kept, and first row tiles read a row-major B in its own order. A transposed A is turned in squares
   while its sums are made.

   Where A lies in blocks of k, as in convolutions, nobody waits: a worker makes the sums of a task's rows for himself and
   keeps them for his next tasks, which have the same rows and the panels that follow. To read what another core has made,
   or to write where it has read, costs more. Of an odd number of pairs the last one is two tasks, of half the rows each.

   The number of rows may be a symbol: chunks and tasks are then cut while running. Row tiles may reach beyond a task's
   rows, into rows that mean nothing and are not used. A's sums are in gemm_strassen_sums.c.

   The error is bounded by the largest elements of the operands, not of the row and column: a few times that of the sum
   in order. What is not finite in one of two neighbouring rows is not finite in the other. passes/strassen.c decides. */
#include "codegen/gemm_strassen.h"
#include "passes/passes.h"

enum {
  ROW_GAP = 16,
  LINE_BYTES = 64,
  TASK_PAIRS = 128,      /* at most; each task makes B's sums again */
  TASKS_WANTED = 4,      /* of few panels tasks have fewer rows, */
  LEAST_PAIRS = 36,      /* but so many */
  CHUNK_BYTES = 3 << 18, /* of A's sums; more, if there are fewer rows than TASK_PAIRS */
  FEW_PANELS = 12,       /* pairs; an odd one among them would keep a worker waiting */
  OWN_TASKS = 16         /* of workers who keep A's sums; more only if there are many rows: panels fetch what follows them in their task */
};

const nn_strassen_term nn_strassen_terms[NN_STRASSEN_PRODUCTS] = {
    {{NN_A11, NN_A22}, 1, {NN_A11, NN_A22}, 1, {NN_A11, NN_A22}, {1, 1}, NN_A12},
    {{NN_A21, NN_A22}, 1, {NN_A11, NN_A11}, 0, {NN_A21, NN_A22}, {1, -1}, NN_A21},
    {{NN_A11, NN_A11}, 0, {NN_A12, NN_A22}, -1, {NN_A12, NN_A22}, {1, 1}, NN_A21},
    {{NN_A22, NN_A22}, 0, {NN_A21, NN_A11}, -1, {NN_A11, NN_A21}, {1, 1}, NN_A21},
    {{NN_A11, NN_A12}, 1, {NN_A22, NN_A22}, 0, {NN_A11, NN_A12}, {-1, 1}, NN_STRASSEN_QUADRANTS + NN_A11},
    {{NN_A21, NN_A11}, -1, {NN_A11, NN_A12}, 1, {NN_A22, NN_NOWHERE}, {1, 1}, NN_STRASSEN_QUADRANTS + NN_A22},
    {{NN_A12, NN_A22}, -1, {NN_A21, NN_A22}, 1, {NN_A11, NN_NOWHERE}, {1, 1}, NN_STRASSEN_QUADRANTS + NN_A22},
};

static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

/* A number that depends on the product, chosen while running. */
static nn_x *by_product(nn_lower *L, const nn_strassen *s, int (*of)(const nn_strassen_term *t)) {
  nn_kernel *k = L->kernel;
  nn_x *chosen = nn_x_int(k, of(&nn_strassen_terms[NN_STRASSEN_PRODUCTS - 1]));
  for (int q = NN_STRASSEN_PRODUCTS - 2; q >= 0; q--) {
    nn_x *is_this = nn_x_binary(k, NN_X_EQ, s->product, nn_x_int(k, q));
    chosen = nn_x_select(k, is_this, nn_x_int(k, of(&nn_strassen_terms[q])), chosen);
  }
  return nn_let(k, chosen);
}

static int first_b(const nn_strassen_term *t) { return t->b[0]; }
static int second_b(const nn_strassen_term *t) { return t->b[1]; }
static int sign_b(const nn_strassen_term *t) { return t->b_sign; }
static int ahead_b(const nn_strassen_term *t) { return t->ahead; }

nn_x *nn_signed_sum(nn_kernel *k, nn_x *a, nn_x *b, int sign) {
  return sign == 0 ? a : nn_x_binary(k, sign > 0 ? NN_X_ADD : NN_X_SUB, a, b);
}

/* ---- one product of a task -------------------------------------------------------------------------------- */

/* First element of the quadrant's part of the panels. */
static nn_x *panel_at(nn_lower *L, const nn_strassen *s, nn_x *panel, nn_x *quadrant) {
  nn_kernel *k = L->kernel;
  nn_x *two = nn_x_int(k, 2), *right = nn_xi_mulc(k, nn_xi_mod(k, quadrant, two), s->panels);
  nn_x *lower = nn_xi_mulc(k, nn_xi_floordiv(k, quadrant, two), s->half);
  nn_x *number = s->own_pair ? nn_xi_mod(k, quadrant, two) : nn_xi_add(k, panel, right);
  nn_x *line = nn_xi_add(k, nn_xi_mulc(k, number, 2 * s->half), lower);
  return nn_let(k, nn_xi_mulc(k, line, s->width));
}

static nn_x *tile_a(nn_lower *L, void *data, nn_x *m, nn_x *const *ks) {
  const nn_strassen *s = data;
  nn_kernel *k = L->kernel;
  nn_x *pair = nn_xi_add(k, s->row, nn_xi_add(k, m, s->first_row));
  return nn_x_load(k, s->a, nn_strassen_sum_at(k, s, s->product, pair, ks[0]), NULL);
}

/* Of the products that take a quadrant of B as it is. */
static nn_x *panel_b(nn_lower *L, void *data, nn_x *const *ks, nn_x *n0, nn_x *j) {
  const nn_strassen *s = data;
  nn_kernel *k = L->kernel;
  (void)n0;
  return nn_x_load(k, s->panels_b, nn_xi_add(k, s->from[0], nn_xi_add(k, nn_xi_mulc(k, ks[0], s->width), j)), NULL);
}

/* Of the i-th quadrant of a sum: element `at` of its panel, which is in row ki and column j. */
static nn_x *quadrant_b(nn_lower *L, const nn_strassen *s, int i, nn_x *ki, nn_x *at, nn_x *j) {
  nn_kernel *k = L->kernel;
  if (!s->reads_matrix) return nn_x_load(k, s->panels_b, nn_xi_add(k, s->from[i], at), NULL);
  return nn_gemm_b(L, s->g, nn_xi_add(k, s->from_k[i], ki), nn_xi_add(k, s->from_n[i], j));
}

/* The first row tile makes the sum that the others read. */
static nn_x *first_tile_b(nn_lower *L, void *data, nn_x *const *ks, nn_x *n0, nn_x *j) {
  const nn_strassen *s = data;
  nn_kernel *k = L->kernel;
  (void)n0;
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, ks[0], s->width), j);
  nn_x *first = quadrant_b(L, s, 0, ks[0], at, j), *second = s->sign ? quadrant_b(L, s, 1, ks[0], at, j) : NULL;
  nn_x *value = nn_let(k, nn_signed_sum(k, first, second, s->sign));
  nn_store(k, s->b, at, value, NULL);
  return value;
}

static nn_x *tile_b(nn_lower *L, void *data, nn_x *const *ks, nn_x *n0, nn_x *j) {
  const nn_strassen *s = data;
  nn_kernel *k = L->kernel;
  (void)n0;
  return nn_x_load(k, s->b, nn_xi_add(k, nn_xi_mulc(k, ks[0], s->width), j), NULL);
}

static void panel_ahead(nn_lower *L, const nn_strassen *s, nn_x *at) {
  nn_prefetch(L->kernel, s->panels_b, nn_xi_add(L->kernel, s->ahead, at));
}

/* A quadrant of the next pair of panels where it will be packed from: line by line in its own order. */
static void matrix_ahead(nn_lower *L, const nn_strassen *s, nn_x *at) {
  const nn_gemm *g = s->g;
  nn_kernel *k = L->kernel;
  int64_t stride;
  bool by_rows = nn_x_is_const(g->b_stride_n, &stride) && stride == 1;
  nn_x *line = nn_x_int(k, by_rows ? s->width : LINE_BYTES * 8 / nn_dtype_bits(g->acc)), *width = nn_x_int(k, s->width);
  nn_x *ki = nn_xi_floordiv(k, at, line), *n = nn_xi_mod(k, at, line);
  if (!by_rows) {
    nn_x *number = ki;
    n = nn_xi_mod(k, number, width);
    ki = nn_xi_mul(k, nn_xi_floordiv(k, number, width), line);
  }
  n = nn_xi_add(k, s->next_n, n);
  ki = nn_xi_add(k, s->next_k, ki);
  nn_prefetch(k, g->b_plain, nn_xi_add(k, g->b_base, nn_xi_add(k, nn_xi_mul(k, ki, g->b_stride_k), nn_xi_mul(k, n, g->b_stride_n))));
}

static void tile_ahead(nn_lower *L, void *data, nn_x *n0, nn_x *at) {
  const nn_strassen *s = data;
  nn_kernel *k = L->kernel;
  (void)n0;
  if (s->asks_matrix) {
    nn_if_begin(k, s->asks_matrix);
    matrix_ahead(L, s, at);
    if (!s->own_pair) nn_else(k);
  }
  if (!s->own_pair) panel_ahead(L, s, at);
  if (s->asks_matrix) nn_end(k);
}

/* Rows of c that a product has: tiles may reach beyond those of the task. */
static int64_t c_rows(const nn_strassen *s) { return s->most_rows + s->tile.mr; }

static nn_x *product_at(nn_kernel *k, const nn_strassen *s, nn_x *product, nn_x *row, nn_x *j) {
  nn_x *line = nn_xi_add(k, nn_xi_mulc(k, product, c_rows(s)), row);
  return nn_xi_add(k, nn_xi_mulc(k, line, s->width), j);
}

static void tile_store(nn_lower *L, void *data, nn_x *m, nn_x *n, int lanes, bool is_tail, nn_buf *src, nn_x *at) {
  const nn_strassen *s = data;
  nn_kernel *k = L->kernel;
  (void)is_tail;
  nn_x *l = nn_lanes_begin(L, lanes);
  nn_x *to = product_at(k, s, s->product, nn_xi_add(k, m, s->first_row), nn_xi_add(k, n, l));
  nn_store(k, s->c, to, nn_x_load(k, src, nn_xi_add(k, at, l), NULL), NULL);
  nn_lanes_end(L, lanes);
}

typedef nn_x *b_fn(nn_lower *L, void *data, nn_x *const *ks, nn_x *n0, nn_x *j);

/* `count` rows from `first_row` on, at most those of a task. Most of the time prefetching should go on. */
static void multiply_rows(nn_lower *L, nn_strassen *s, nn_x *first_row, nn_x *count, b_fn *b, bool looks_ahead) {
  nn_module *m = L->module;
  int64_t known;
  bool is_known = nn_x_is_const(count, &known);
  nn_tiles t = {.tile = s->tile,
                .m = nn_dim_const(m, is_known ? known : s->most_rows),
                .m_now = is_known ? NULL : count,
                .n = nn_dim_const(m, s->width),
                .acc = s->g->acc,
                .nk = 1,
                .kcount = {nn_dim_const(m, s->half)},
                .a = tile_a,
                .b = b,
                .store = tile_store,
                .store_direct = true,
                .rows_padded = true,
                .ahead = looks_ahead ? tile_ahead : NULL,
                .data = s,
                .in_parallel = true};
  if (is_known && known <= 0) return;
  s->first_row = first_row;
  nn_tiles_emit(L, &t);
}

/* Rows of the first tile: all tiles are of nearly the same size where the number of rows is known. */
static int64_t first_rows(const nn_strassen *s) {
  int64_t ntiles = (s->static_rows + s->tile.mr - 1) / s->tile.mr;
  return s->static_rows < 0 ? s->tile.mr : (s->static_rows + ntiles - 1) / ntiles;
}

/* The tile of the first rows, which makes b. */
static void multiply_first(nn_lower *L, nn_strassen *s, int sign, int64_t rows) {
  s->sign = sign;
  multiply_rows(L, s, nn_x_int(L->kernel, 0), nn_x_int(L->kernel, rows), first_tile_b, s->static_rows == rows);
}

static void multiply_sum(nn_lower *L, nn_strassen *s, nn_x *sign) {
  nn_kernel *k = L->kernel;
  int64_t rows = first_rows(s);
  nn_x *zero = nn_x_int(k, 0), *first = nn_x_int(k, rows);
  nn_x *rest = nn_let(k, nn_xi_max(k, zero, nn_xi_sub(k, s->rows, first)));
  nn_if_begin(k, nn_x_binary(k, NN_X_LT, zero, sign));
  multiply_first(L, s, 1, rows);
  nn_else(k);
  if (s->reads_matrix) {
    nn_if_begin(k, nn_x_binary(k, NN_X_EQ, sign, zero));
    multiply_first(L, s, 0, rows);
    nn_else(k);
  }
  multiply_first(L, s, -1, rows);
  if (s->reads_matrix) nn_end(k);
  nn_end(k);
  multiply_rows(L, s, first, rest, tile_b, true);
}

/* The i-th quadrant of b. */
static void set_quadrant(nn_lower *L, nn_strassen *s, int i, nn_x *quadrant) {
  nn_kernel *k = L->kernel;
  nn_x *two = nn_x_int(k, 2), *panel = nn_xi_add(k, s->panel, nn_xi_mulc(k, nn_xi_mod(k, quadrant, two), s->panels));
  if (s->reads_matrix) {
    s->from_k[i] = nn_let(k, nn_xi_mulc(k, nn_xi_floordiv(k, quadrant, two), s->half));
    s->from_n[i] = nn_let(k, nn_xi_mulc(k, panel, s->width));
  } else {
    s->from[i] = panel_at(L, s, s->panel, quadrant);
  }
}

/* The last products ask for a quadrant each, of the pair that comes next. */
static void look_at_matrix(nn_lower *L, nn_strassen *s) {
  nn_kernel *k = L->kernel;
  nn_x *first = nn_x_int(k, NN_STRASSEN_PRODUCTS - NN_STRASSEN_QUADRANTS), *two = nn_x_int(k, 2), *quadrant = nn_let(k, nn_xi_sub(k, s->product, first));
  if (!s->packs || !s->g->b_plain) return;
  nn_x *asks = nn_x_binary(k, NN_X_LE, first, s->product);
  if (!s->own_pair) asks = nn_x_binary(k, NN_X_AND, asks, nn_x_binary(k, NN_X_EQ, s->chunk, nn_x_int(k, 0)));
  s->asks_matrix = nn_let(k, asks);
  s->next_k = nn_let(k, nn_xi_mulc(k, nn_xi_floordiv(k, quadrant, two), s->half));
  nn_x *panel = nn_xi_add(k, nn_xi_addc(k, s->panel, 1), nn_xi_mulc(k, nn_xi_mod(k, quadrant, two), s->panels));
  s->next_n = nn_let(k, nn_xi_mulc(k, panel, s->width));
}

static void multiply(nn_lower *L, nn_strassen *s) {
  nn_kernel *k = L->kernel;
  nn_x *zero = nn_x_int(k, 0), *four = nn_x_int(k, NN_STRASSEN_QUADRANTS);
  set_quadrant(L, s, 0, by_product(L, s, first_b));
  set_quadrant(L, s, 1, by_product(L, s, second_b));
  nn_x *ahead = by_product(L, s, ahead_b), *sign = by_product(L, s, sign_b);
  nn_x *next = s->next ? s->next : nn_xi_addc(k, s->panel, 1);
  nn_x *panel = nn_let(k, nn_x_select(k, nn_x_binary(k, NN_X_LT, ahead, four), s->panel, next));
  s->ahead = panel_at(L, s, panel, nn_let(k, nn_xi_mod(k, ahead, four)));
  look_at_matrix(L, s);
  if (s->reads_matrix) {
    multiply_sum(L, s, sign);
    return;
  }
  nn_if_begin(k, nn_x_binary(k, NN_X_EQ, sign, zero));
  multiply_rows(L, s, zero, s->rows, panel_b, true);
  nn_else(k);
  multiply_sum(L, s, sign);
  nn_end(k);
}

/* ---- tasks ------------------------------------------------------------------------------------------------ */

/* Of the products that go to this quadrant, in order; the first goes there as it is. */
static nn_x *quadrant_c(nn_kernel *k, nn_x *const *products, int quadrant) {
  nn_x *sum = NULL;
  for (int q = 0; q < NN_STRASSEN_PRODUCTS; q++)
    for (int i = 0; i < 2; i++)
      if (nn_strassen_terms[q].c[i] == quadrant) sum = sum ? nn_signed_sum(k, sum, products[q], nn_strassen_terms[q].c_sign[i]) : products[q];
  return nn_let(k, sum);
}

/* Through the epilogue: column j of the panel in the left or the right half. */
static void store_vector(nn_lower *L, const nn_strassen *s, nn_x *m, nn_x *right, nn_x *j, nn_x *value) {
  nn_kernel *k = L->kernel;
  nn_x *n = nn_xi_add(k, nn_xi_mulc(k, nn_xi_add(k, s->panel, nn_xi_mulc(k, right, s->panels)), s->width), j);
  s->g->store(L, s->g->data, m, n, value);
}

/* The results of a pair of rows, [quadrant][width]. */
static void make_line(nn_lower *L, const nn_strassen *s, nn_x *row) {
  nn_kernel *k = L->kernel;
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", s->tile.nv);
  nn_x *j = nn_xi_add(k, nn_xi_mulc(k, c, s->lanes), nn_lanes_begin(L, s->lanes)), *products[NN_STRASSEN_PRODUCTS];
  for (int q = 0; q < NN_STRASSEN_PRODUCTS; q++)
    products[q] = nn_let(k, nn_x_load(k, s->c, product_at(k, s, nn_x_int(k, q), row, j), NULL));
  for (int q = 0; q < NN_STRASSEN_QUADRANTS; q++) nn_store(k, s->line, nn_xi_addc(k, j, q * s->width), quadrant_c(k, products, q), NULL);
  nn_lanes_end(L, s->lanes);
  nn_end(k);
}

/* Each quadrant's store is code of its own: results of a pair then stay in registers. */
static bool copies_stores(const nn_strassen *s) { return s->g->store_direct && s->is_even; }

/* Rows of the task to the product's results: quadrants 0 and 1 are one row, 2 and 3 the next, if there is one. */
static void store_rows(nn_lower *L, const nn_strassen *s) {
  nn_kernel *k = L->kernel;
  nn_x *count = nn_xi_min(k, s->rows, nn_xi_sub(k, s->left, s->row));
  nn_x *row = nn_loop_begin(k, NN_FOR, "row", nn_x_int(k, 0), nn_let(k, count));
  nn_x *first = nn_let(k, nn_xi_mulc(k, nn_xi_add(k, s->chunk, nn_xi_add(k, s->row, row)), 2));
  make_line(L, s, row);
  nn_x *quadrants = nn_x_int(k, NN_STRASSEN_QUADRANTS), *two = nn_x_int(k, 2);
  if (!s->is_even) quadrants = nn_let(k, nn_xi_mulc(k, nn_xi_min(k, two, nn_xi_sub(k, s->m, first)), 2));
  nn_x *quadrant = nn_loop_begin(k, copies_stores(s) ? NN_UNROLL : NN_FOR, "quadrant", nn_x_int(k, 0), quadrants);
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", s->tile.nv);
  nn_x *j = nn_xi_add(k, nn_xi_mulc(k, c, s->lanes), nn_lanes_begin(L, s->lanes));
  nn_x *value = nn_let(k, nn_x_load(k, s->line, nn_xi_add(k, nn_xi_mulc(k, quadrant, s->width), j), NULL));
  store_vector(L, s, nn_xi_add(k, first, nn_xi_floordiv(k, quadrant, two)), nn_xi_mod(k, quadrant, two), j, value);
  nn_lanes_end(L, s->lanes);
  nn_end(k);
  nn_end(k);
  nn_end(k);
}

static void emit_task(nn_lower *L, nn_strassen *s) {
  nn_kernel *k = L->kernel;
  nn_module *m = L->module;
  if (!s->b) {
    s->b = nn_temp(L, NN_BUF_WORKER, s->g->acc, nn_dim_const(m, s->half * s->width));
    s->c = nn_temp(L, NN_BUF_WORKER, s->g->acc, nn_dim_const(m, NN_STRASSEN_PRODUCTS * c_rows(s) * s->width));
  }
  if (copies_stores(s)) s->line = nn_regs(L, s->g->acc, (int64_t)NN_STRASSEN_QUADRANTS * s->width);
  else s->line = nn_temp(L, NN_BUF_WORKER, s->g->acc, nn_dim_const(m, (int64_t)NN_STRASSEN_QUADRANTS * s->width));
  s->product = nn_loop_range(k, NN_FOR, "product", NN_STRASSEN_PRODUCTS);
  multiply(L, s);
  nn_end(k);
  store_rows(L, s);
}

/* ---- chunks ----------------------------------------------------------------------------------------------- */

static int64_t most_task_rows(const nn_strassen *s, int64_t pairs) {
  int64_t blocks = ceil_div(TASKS_WANTED, s->panels), rows = ceil_div(pairs, blocks);
  if (rows < LEAST_PAIRS) rows = pairs < LEAST_PAIRS ? pairs : LEAST_PAIRS;
  return rows < TASK_PAIRS ? rows : TASK_PAIRS;
}

static int64_t own_groups(const nn_strassen *s, int64_t blocks) {
  int64_t groups = ceil_div(OWN_TASKS, blocks);
  return groups < s->panels ? groups : s->panels;
}

static bool is_odd(const nn_strassen *s) { return s->panels % 2 != 0 && s->panels < FEW_PANELS; }

/* A known number of rows: all tasks are of one size, the last ones maybe with surplus rows. */
static void cut_known(nn_lower *L, nn_strassen *s, int64_t m) {
  nn_kernel *k = L->kernel;
  int64_t pairs = ceil_div(m, 2), nchunks = s->is_own ? 1 : ceil_div(pairs, s->room);
  s->room = ceil_div(pairs, nchunks);
  int64_t unit = s->room >= s->halved || (!s->is_own && is_odd(s)) ? 2 : 1, blocks = unit * ceil_div(s->room, unit * most_task_rows(s, s->room));
  s->static_rows = s->most_rows = ceil_div(s->room, blocks);
  s->groups = own_groups(s, blocks);
  s->has_odd = s->is_own && blocks == 1 && s->panels > 1 && is_odd(s);
  s->is_even = m % 2 == 0;
  s->nchunks = nn_x_int(k, nchunks);
  s->chunk_pairs = nn_x_int(k, s->room);
  s->blocks = nn_x_int(k, blocks);
  s->parts = nn_x_int(k, unit);
  s->rows = nn_x_int(k, s->static_rows);
  s->a_rows = s->is_own ? s->static_rows + s->has_odd : s->static_rows * blocks;
}

static void cut_symbolic(nn_lower *L, nn_strassen *s) {
  nn_kernel *k = L->kernel;
  nn_x *one = nn_x_int(k, 1);
  s->static_rows = -1;
  s->groups = own_groups(s, 1);
  s->most_rows = most_task_rows(s, s->room);
  s->nchunks = s->is_own ? one : nn_let(k, nn_ceildiv_x(L, s->pairs, s->room));
  nn_x *nchunks = nn_xi_max(k, s->nchunks, one);
  s->chunk_pairs = nn_let(k, nn_xi_floordiv(k, nn_xi_addc(k, nn_xi_add(k, s->pairs, nchunks), -1), nchunks));
  nn_x *is_halved = nn_x_binary(k, NN_X_LE, nn_x_int(k, is_odd(s) ? 0 : s->halved), s->chunk_pairs), *two = nn_x_int(k, 2);
  nn_x *halves = nn_xi_mul(k, nn_ceildiv_x(L, s->chunk_pairs, 2 * s->most_rows), two), *blocks = nn_ceildiv_x(L, s->chunk_pairs, s->most_rows);
  s->blocks = nn_let(k, nn_xi_max(k, one, nn_x_select(k, is_halved, halves, blocks)));
  s->parts = nn_let(k, nn_x_select(k, is_halved, two, one));
  s->rows = nn_let(k, nn_xi_floordiv(k, nn_xi_addc(k, nn_xi_add(k, s->chunk_pairs, s->blocks), -1), s->blocks));
  s->a_rows = (s->is_own ? s->most_rows : s->room + ceil_div(s->room, s->most_rows)) + s->tile.mr;
}

/* The products' sums of one place are written side by side: into different cache sets. */
static int64_t spread(int64_t elements, int64_t line) {
  enum { SETS = 64, STEP = 9 };
  int64_t lines = ceil_div(elements, line);
  return (lines + (STEP + SETS - lines % SETS) % SETS) * line;
}

/* Pairs of a chunk: sums of all products stay in L2, or come from L3, each for its product, to as many rows as a task may have. */
static int64_t choose_room(const nn_lower *L, const nn_strassen *s, int64_t pair_bytes) {
  int64_t room = CHUNK_BYTES / pair_bytes, most = L->target->l3_bytes / 2 / pair_bytes;
  if (most > TASK_PAIRS) most = TASK_PAIRS;
  if (room < most) room = most;
  return room < 2 * s->tile.mr ? 2 * s->tile.mr : room;
}

static void set_sizes(nn_lower *L, nn_strassen *s) {
  const nn_gemm *g = s->g;
  nn_kernel *k = L->kernel;
  int64_t m = 0, block = g->a_block, element = nn_dtype_bits(g->acc) / 8;
  s->tile = nn_tile_choose(L->target, g->acc, nn_dim_const(L->module, TASK_PAIRS), g->n);
  s->lanes = s->tile.lanes;
  s->tile.nv = 2;
  s->width = s->tile.nv * s->lanes;
  s->panels = nn_strassen_pairs(nn_dim_value(g->n), s->width);
  s->m = nn_let(k, nn_dim_x(L, g->m));
  s->pairs = nn_let(k, nn_ceildiv_x(L, s->m, 2));
  s->pitch = block ? ceil_div(s->half, block) * block : s->half + ROW_GAP;
  s->room = choose_room(L, s, NN_STRASSEN_PRODUCTS * s->half * element);
  s->halved = ceil_div(nn_strassen_half_rows(2 * s->half, nn_dim_value(g->n), s->packs), 2);
  if (nn_dim_is_const(g->m, &m)) cut_known(L, s, m);
  else cut_symbolic(L, s);
  s->a_size = spread(s->a_rows * s->pitch, LINE_BYTES / element);
}

static void keep_sums(nn_lower *L, nn_strassen *s, nn_x *block) {
  nn_kernel *k = L->kernel;
  s->row = s->own_row = nn_let(k, nn_xi_mul(k, block, s->rows));
  nn_keep_begin(k, nn_temp(L, NN_BUF_WORKER, NN_I64, nn_dim_const(L->module, 1)), block);
  nn_strassen_sum_own(L, s);
  nn_end(k);
}

/* Half of the rows of the last pair of panels. */
static void emit_half(nn_lower *L, const nn_strassen *s, nn_x *which, nn_x *next) {
  nn_kernel *k = L->kernel;
  nn_strassen half = *s;
  half.static_rows = half.most_rows = ceil_div(s->static_rows, 2);
  half.rows = nn_x_int(k, half.static_rows);
  half.row = nn_let(k, nn_xi_mul(k, which, half.rows));
  half.panel = nn_x_int(k, s->panels - 1);
  half.next = next;
  emit_task(L, &half);
}

/* Two series of tasks: half of the pairs of panels but for the last, and half of that. */
static void emit_odd(nn_lower *L, nn_strassen *s) {
  nn_kernel *k = L->kernel;
  nn_x *each = nn_x_int(k, s->panels / 2), *tasks = nn_x_int(k, s->panels / 2 + 1);
  nn_x *task = nn_task_loop(L, false, "task", nn_x_int(k, s->panels + 1));
  nn_x *series = nn_let(k, nn_xi_floordiv(k, task, tasks)), *i = nn_let(k, nn_xi_mod(k, task, tasks));
  nn_x *first = nn_xi_mul(k, series, each), *last = nn_x_int(k, s->panels - 1);
  keep_sums(L, s, nn_x_int(k, 0));
  nn_if_begin(k, nn_x_binary(k, NN_X_LT, i, each));
  s->panel = nn_let(k, nn_xi_add(k, first, i));
  nn_x *next = nn_xi_addc(k, i, 1);
  s->next = nn_let(k, nn_x_select(k, nn_x_binary(k, NN_X_LT, next, each), nn_xi_add(k, first, next), last));
  emit_task(L, s);
  nn_else(k);
  emit_half(L, s, series, nn_let(k, nn_xi_add(k, first, each)));
  nn_end(k);
  nn_end(k);
}

/* Tasks with the same rows come one after the other; each has a group of panels. */
static void emit_groups(nn_lower *L, nn_strassen *s) {
  nn_kernel *k = L->kernel;
  nn_x *groups = nn_x_int(k, s->groups);
  nn_x *task = nn_task_loop(L, false, "task", nn_let(k, nn_xi_mul(k, s->blocks, groups)));
  nn_x *block = nn_let(k, nn_xi_floordiv(k, task, groups)), *group = nn_let(k, nn_xi_mod(k, task, groups));
  keep_sums(L, s, block);
  nn_x *lo = nn_xi_floordiv(k, nn_xi_mulc(k, group, s->panels), groups);
  nn_x *hi = nn_xi_floordiv(k, nn_xi_mulc(k, nn_xi_addc(k, group, 1), s->panels), groups);
  s->panel = nn_loop_begin(k, NN_FOR, "panel", nn_let(k, lo), nn_let(k, hi));
  emit_task(L, s);
  nn_end(k);
  nn_end(k);
}

static void emit_own(nn_lower *L, nn_strassen *s) {
  s->chunk = nn_x_int(L->kernel, 0);
  s->left = s->pairs;
  if (s->has_odd) emit_odd(L, s);
  else emit_groups(L, s);
}

static void emit_tasks(nn_lower *L, nn_strassen *s) {
  nn_kernel *k = L->kernel;
  nn_x *task = nn_task_loop(L, s->g->in_parallel, "task", nn_let(k, nn_xi_mulc(k, s->blocks, s->panels)));
  nn_split split = nn_split_task(L, task, nn_x_int(k, s->panels), s->blocks);
  s->panel = split.outer;
  s->row = nn_let(k, nn_xi_mul(k, split.inner, s->rows));
  emit_task(L, s);
  nn_end(k);
}

int64_t nn_gemm_strassen_width(const nn_lower *L, const nn_gemm *g) { return 2 * (int64_t)nn_target_lanes(L->target, g->acc); }

static int64_t pair_size(const nn_strassen *s) { return 4 * s->half * s->width; }

/* The pair of panels is packed in the first chunk, just before it is used. */
static void pack_pair(nn_lower *L, const nn_strassen *s) {
  nn_kernel *k = L->kernel;
  if (s->reads_matrix) return;
  if (!s->own_pair) nn_if_begin(k, nn_x_binary(k, NN_X_EQ, s->chunk, nn_x_int(k, 0)));
  for (int quadrant = NN_A11; quadrant <= NN_A12; quadrant++) {
    nn_x *panel = nn_xi_addc(k, s->panel, quadrant * s->panels);
    nn_gemm_pack_panel(L, s->g, &s->tile, s->panels_b, panel_at(L, s, s->panel, nn_x_int(k, quadrant)), nn_let(k, nn_xi_mulc(k, panel, s->width)));
  }
  if (!s->own_pair) nn_end(k);
}

/* Tasks that pack a pair of panels have all of a chunk's rows, or half of them if each packs for itself. */
static void emit_packing(nn_lower *L, nn_strassen *s) {
  nn_kernel *k = L->kernel;
  nn_x *one = nn_x_int(k, 1), *parts = s->parts;
  if (!s->own_pair) parts = nn_let(k, nn_x_select(k, nn_x_binary(k, NN_X_EQ, s->chunk, nn_x_int(k, 0)), one, parts));
  nn_x *task = nn_task_loop(L, s->g->in_parallel, "task", nn_let(k, nn_xi_mulc(k, parts, s->panels)));
  nn_split split = nn_split_task(L, task, nn_x_int(k, s->panels), parts);
  s->panel = split.outer;
  pack_pair(L, s);
  nn_x *first = nn_let(k, nn_xi_floordiv(k, nn_xi_mul(k, split.inner, s->blocks), parts));
  nn_x *end = nn_let(k, nn_xi_floordiv(k, nn_xi_mul(k, nn_xi_add(k, split.inner, one), s->blocks), parts));
  nn_x *block = nn_loop_begin(k, NN_FOR, "block", first, end);
  s->row = nn_let(k, nn_xi_mul(k, block, s->rows));
  emit_task(L, s);
  nn_end(k);
  nn_end(k);
}

/* How the tasks come to their panels. Every chunk would read a matrix again, in lines that fall into few sets of a cache. */
static void set_panels(nn_lower *L, nn_strassen *s) {
  int64_t nchunks = 0;
  s->own_pair = nn_x_is_const(s->nchunks, &nchunks) && nchunks == 1;
  int64_t stride;
  s->reads_matrix = s->own_pair && s->g->b_plain && nn_x_is_const(s->g->b_stride_n, &stride) && stride == 1;
  if (s->reads_matrix) return;
  nn_buf_space space = s->own_pair || s->g->in_parallel ? NN_BUF_WORKER : NN_BUF_WORKSPACE;
  s->panels_b = nn_temp(L, space, s->g->acc, nn_dim_const(L->module, pair_size(s) * (s->own_pair ? 1 : s->panels)));
}

static void emit_chunks(nn_lower *L, nn_strassen *s) {
  nn_kernel *k = L->kernel;
  nn_x *chunk = nn_loop_begin(k, NN_FOR, "chunk", nn_x_int(k, 0), s->nchunks);
  s->chunk = nn_let(k, nn_xi_mul(k, chunk, s->chunk_pairs));
  s->left = nn_let(k, nn_xi_min(k, s->chunk_pairs, nn_xi_sub(k, s->pairs, s->chunk)));
  nn_strassen_sum_chunk(L, s);
  if (s->packs) emit_packing(L, s);
  else emit_tasks(L, s);
  nn_end(k);
}

int64_t nn_gemm_strassen_columns(const nn_gemm *g) { return 2 * nn_strassen_pairs(nn_dim_value(g->n), g->panel_width) * g->panel_width; }

bool nn_gemm_strassen_fits(const nn_lower *L, const nn_gemm *g) {
  int64_t n, k, width = nn_gemm_strassen_width(L, g);
  if (g->b_panels && g->panel_width != width) return false;
  if (!nn_dim_is_const(g->n, &n) || !nn_dim_is_const(g->k, &k)) return false;
  return k >= 2 && k % 2 == 0 && n >= 2 * width;
}

void nn_gemm_strassen(nn_lower *L, const nn_gemm *g) {
  nn_strassen s = {.g = g, .half = nn_dim_value(g->k) / 2, .panels_b = g->b_panels, .packs = !g->b_panels, .is_own = g->a_block > 0};
  set_sizes(L, &s);
  if (s.packs) set_panels(L, &s);
  s.a = nn_temp(L, g->in_parallel || s.is_own ? NN_BUF_WORKER : NN_BUF_WORKSPACE, g->acc, nn_dim_const(L->module, NN_STRASSEN_PRODUCTS * s.a_size));
  if (s.is_own) emit_own(L, &s);
  else emit_chunks(L, &s);
}
