/* C = A B by one step of Strassen's algorithm: seven products of half the size in place of eight, for large products
   with constant B in panels. Rows 2i and 2i+1, the halves of k, and panel p and the one half of the panels behind it
   are the halves of A, B and C:

     product  A            B            goes to           product  A            B            goes to
     0        a11 + a22    b11 + b22    +c11 +c22         4        a11 + a12    b22          -c11 +c12
     1        a21 + a22    b11          +c21 -c22         5        a21 - a11    b11 + b12    +c22
     2        a11          b12 - b22    +c12 +c22         6        a12 - a22    b21 + b22    +c11
     3        a22          b21 - b11    +c11 +c21

   A's seven sums are made beforehand for all. A task has a pair of panels and some rows; the first row tile of a
   product makes the sum of B on the way, and the tiles add what they find to four blocks of C in the task's own memory.
   Panels come from memory while the tiles run.

   The error is bounded by the largest elements of the operands, not of the row and column: a few times that of the sum
   in order. What is not finite in one of two neighbouring rows is not finite in the other. pass_panels.c decides. */
#include "codegen/codegen.h"

enum { PRODUCTS = 7, QUADRANTS = 4, ROW_GAP = 16, MOST_ROWS = 128 };
enum {
  A11,
  A12,
  A21,
  A22,
  NOWHERE
}; /* also of B and C: bit 1 the row half, bit 0 the column half. A block that nobody reads */

typedef struct term {
  int a[2], a_sign; /* of the second; 0: there is none */
  int b[2], b_sign;
  int c[2], c_sign[2];
  int ahead; /* quadrant of B that later products need; + QUADRANTS: of the next pair */
} term;

static const term terms[PRODUCTS] = {
    {{A11, A22}, 1, {A11, A22}, 1, {A11, A22}, {1, 1}, A12},
    {{A21, A22}, 1, {A11, A11}, 0, {A21, A22}, {1, -1}, A21},
    {{A11, A11}, 0, {A12, A22}, -1, {A12, A22}, {1, 1}, A21},
    {{A22, A22}, 0, {A21, A11}, -1, {A11, A21}, {1, 1}, A21},
    {{A11, A12}, 1, {A22, A22}, 0, {A11, A12}, {-1, 1}, QUADRANTS + A11},
    {{A21, A11}, -1, {A11, A12}, 1, {A22, NOWHERE}, {1, 1}, QUADRANTS + A22},
    {{A12, A22}, -1, {A21, A22}, 1, {A11, NOWHERE}, {1, 1}, QUADRANTS + A22},
};

typedef struct strassen {
  const nn_gemm *g;
  nn_tile tile;
  int64_t m, n, k, pairs; /* pairs: of rows */
  int64_t panels;         /* pairs of them */
  int64_t rows, blocks;   /* of pairs of a task; row blocks */
  int lanes, width;
  nn_buf *a, *b, *c;           /* [product][pair][pitch]; [k / 2][width]; [quadrant][row][width] */
  nn_x *row, *panel, *product; /* first pair of rows of the task; its panel in the left half */
  nn_x *block[2], *sign[2];    /* of c: where the product goes */
  nn_x *from[2], *factor;      /* of the panels: what b is the sum of; of the second */
  int64_t first_row;           /* of the tiles, in the task's rows */
  nn_x *ahead;                 /* element of the panels that is the first of the quadrant to prefetch */
} strassen;

static int64_t pitch_of(const strassen *s) { return s->k / 2 + ROW_GAP; }

/* A number that depends on the product, chosen while running. */
static nn_x *by_product(nn_lower *L, const strassen *s, int (*of)(const term *t)) {
  nn_kernel *k = L->kernel;
  nn_x *chosen = nn_x_int(k, of(&terms[PRODUCTS - 1]));
  for (int q = PRODUCTS - 2; q >= 0; q--) {
    nn_x *is_this = nn_x_binary(k, NN_X_EQ, s->product, nn_x_int(k, q));
    chosen = nn_x_select(k, is_this, nn_x_int(k, of(&terms[q])), chosen);
  }
  return nn_let(k, chosen);
}

static int first_b(const term *t) { return t->b[0]; }
static int second_b(const term *t) { return t->b[1]; }
static int sign_b(const term *t) { return t->b_sign; }
static int first_c(const term *t) { return t->c[0]; }
static int second_c(const term *t) { return t->c[1]; }
static int sign_c(const term *t) { return t->c_sign[0]; }
static int second_sign_c(const term *t) { return t->c_sign[1]; }
static int ahead_b(const term *t) { return t->ahead; }

static nn_x *number(nn_lower *L, const strassen *s, nn_x *i) {
  return nn_let(L->kernel, nn_x_cast(L->kernel, i, s->g->acc));
}

/* ---- sums of A -------------------------------------------------------------------------------------------- */

static nn_x *quadrant_a(nn_lower *L, const strassen *s, nn_x *pair, nn_x *ki, int quadrant) {
  nn_kernel *k = L->kernel;
  nn_x *m = nn_xi_addc(k, nn_xi_mulc(k, pair, 2), quadrant >> 1);
  if (s->m % 2 && quadrant >> 1) m = nn_xi_min(k, m, nn_x_int(k, s->m - 1));
  return nn_let(k, nn_gemm_a(L, s->g, m, nn_xi_addc(k, ki, (quadrant & 1) * s->k / 2)));
}

static nn_x *signed_sum(nn_kernel *k, nn_x *a, nn_x *b, int sign) {
  return sign == 0 ? a : nn_x_binary(k, sign > 0 ? NN_X_ADD : NN_X_SUB, a, b);
}

static void sum_a_block(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  const strassen *s = data;
  nn_kernel *k = L->kernel;
  nn_x *ki = nn_xi_add(k, i, nn_lanes_begin(L, lanes)), *quadrants[QUADRANTS];
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, ki, nn_x_int(k, s->k / 2)));
  for (int q = 0; q < QUADRANTS; q++) quadrants[q] = quadrant_a(L, s, s->row, ki, q);
  for (int q = 0; q < PRODUCTS; q++) {
    const term *t = &terms[q];
    nn_x *at = nn_xi_add(k, nn_xi_mulc(k, nn_xi_addc(k, s->row, q * s->pairs), pitch_of(s)), ki);
    nn_store(k, s->a, at, signed_sum(k, quadrants[t->a[0]], quadrants[t->a[1]], t->a_sign), nn_guard(L));
  }
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

static void sum_a(nn_lower *L, strassen *s) {
  nn_kernel *k = L->kernel;
  nn_buf_space space = s->g->in_parallel ? NN_BUF_WORKER : NN_BUF_WORKSPACE;
  s->a = nn_temp(L, space, s->g->acc, nn_dim_const(L->module, PRODUCTS * s->pairs * pitch_of(s)));
  s->row = nn_task_loop(L, s->g->in_parallel, "pair", nn_x_int(k, s->pairs));
  nn_block_loops(L, nn_x_int(k, s->k / 2), s->lanes, sum_a_block, s);
  nn_end(k);
}

/* ---- one product of a task -------------------------------------------------------------------------------- */

/* First element of the quadrant's part of the panels. */
static nn_x *panel_at(nn_lower *L, const strassen *s, nn_x *panel, nn_x *quadrant) {
  nn_kernel *k = L->kernel;
  nn_x *two = nn_x_int(k, 2), *right = nn_xi_mulc(k, nn_xi_mod(k, quadrant, two), s->panels);
  nn_x *at = nn_xi_mulc(k, nn_xi_add(k, panel, right), s->k * s->width);
  return nn_let(k, nn_xi_add(k, at, nn_xi_mulc(k, nn_xi_floordiv(k, quadrant, two), s->k / 2 * s->width)));
}

static nn_x *tile_a(nn_lower *L, void *data, nn_x *m, nn_x *const *ks) {
  const strassen *s = data;
  nn_kernel *k = L->kernel;
  nn_x *pair = nn_xi_add(k, s->row, nn_xi_addc(k, m, s->first_row));
  if (s->rows * s->blocks > s->pairs) pair = nn_xi_min(k, pair, nn_x_int(k, s->pairs - 1));
  nn_x *row = nn_xi_add(k, nn_xi_mulc(k, s->product, s->pairs), pair);
  return nn_x_load(k, s->a, nn_xi_add(k, nn_xi_mulc(k, row, pitch_of(s)), ks[0]), NULL);
}

/* The first row tile makes the sum that the others read. */
static nn_x *first_tile_b(nn_lower *L, void *data, nn_x *const *ks, nn_x *n0, nn_x *j) {
  const strassen *s = data;
  nn_kernel *k = L->kernel;
  (void)n0;
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, ks[0], s->width), j);
  nn_x *first = nn_x_load(k, s->g->b_panels, nn_xi_add(k, s->from[0], at), NULL);
  nn_x *second = nn_x_load(k, s->g->b_panels, nn_xi_add(k, s->from[1], at), NULL);
  nn_x *value = nn_let(k, nn_x_fma(k, second, s->factor, first));
  nn_store(k, s->b, at, value, NULL);
  return value;
}

static nn_x *tile_b(nn_lower *L, void *data, nn_x *const *ks, nn_x *n0, nn_x *j) {
  const strassen *s = data;
  nn_kernel *k = L->kernel;
  (void)n0;
  return nn_x_load(k, s->b, nn_xi_add(k, nn_xi_mulc(k, ks[0], s->width), j), NULL);
}

static void tile_ahead(nn_lower *L, void *data, nn_x *n0, nn_x *at) {
  const strassen *s = data;
  (void)n0;
  nn_prefetch(L->kernel, s->g->b_panels, nn_xi_add(L->kernel, s->ahead, at));
}

static void add_to(nn_lower *L, const strassen *s, int which, nn_x *at, nn_x *value) {
  nn_kernel *k = L->kernel;
  at = nn_xi_add(k, s->block[which], at);
  nn_store(k, s->c, at, nn_x_fma(k, value, s->sign[which], nn_x_load(k, s->c, at, NULL)), NULL);
}

static void tile_store(nn_lower *L, void *data, nn_x *m, nn_x *n, int lanes, bool is_tail, nn_buf *src, nn_x *at) {
  const strassen *s = data;
  nn_kernel *k = L->kernel;
  (void)is_tail;
  for (int which = 0; which < 2; which++) {
    nn_x *l = nn_lanes_begin(L, lanes),
         *to = nn_xi_add(k, nn_xi_mulc(k, nn_xi_addc(k, m, s->first_row), s->width), nn_xi_add(k, n, l));
    add_to(L, s, which, to, nn_x_load(k, src, nn_xi_add(k, at, l), NULL));
    nn_lanes_end(L, lanes);
  }
}

/* Rows from `first_row` on, `count` of them. */
static void multiply_rows(nn_lower *L, strassen *s, int64_t first_row, int64_t count) {
  nn_module *m = L->module;
  nn_tiles t = {.tile = s->tile,
                .m = nn_dim_const(m, count),
                .n = nn_dim_const(m, s->width),
                .acc = s->g->acc,
                .nk = 1,
                .kcount = {nn_dim_const(m, s->k / 2)},
                .a = tile_a,
                .b = first_row ? tile_b : first_tile_b,
                .store = tile_store,
                .store_direct = true,
                .ahead = first_row || count == s->rows ? tile_ahead : NULL, /* spread over most of the time */
                .data = s,
                .in_parallel = true};
  s->first_row = first_row;
  nn_tiles_emit(L, &t);
}

static void multiply(nn_lower *L, strassen *s) {
  nn_kernel *k = L->kernel;
  int (*const blocks[])(const term *) = {first_c, second_c}, (*const signs[])(const term *) = {sign_c, second_sign_c};
  int (*const froms[])(const term *) = {first_b, second_b};
  for (int which = 0; which < 2; which++) {
    s->block[which] = nn_let(k, nn_xi_mulc(k, by_product(L, s, blocks[which]), s->rows * s->width));
    s->sign[which] = number(L, s, by_product(L, s, signs[which]));
    s->from[which] = panel_at(L, s, s->panel, by_product(L, s, froms[which]));
  }
  s->factor = number(L, s, by_product(L, s, sign_b));
  nn_x *ahead = by_product(L, s, ahead_b), *four = nn_x_int(k, QUADRANTS);
  nn_x *panel = nn_let(k, nn_xi_add(k, s->panel, nn_xi_floordiv(k, ahead, four)));
  s->ahead = panel_at(L, s, panel, nn_let(k, nn_xi_mod(k, ahead, four)));
  int64_t ntiles = (s->rows + s->tile.mr - 1) / s->tile.mr, first = (s->rows + ntiles - 1) / ntiles;
  multiply_rows(L, s, 0, first);
  if (first < s->rows) multiply_rows(L, s, first, s->rows - first);
}

/* ---- tasks ------------------------------------------------------------------------------------------------ */

static void clear_c(nn_lower *L, const strassen *s) {
  nn_kernel *k = L->kernel;
  nn_x *i = nn_loop_range(k, NN_FOR, "i", QUADRANTS * s->rows * s->width / s->lanes), *l = nn_lanes_begin(L, s->lanes);
  nn_store(k, s->c, nn_xi_add(k, nn_xi_mulc(k, i, s->lanes), l), nn_zero(L, s->g->acc), NULL);
  nn_lanes_end(L, s->lanes);
  nn_end(k);
}

/* Rows of the quadrants to the product's results, through the epilogue. */
static void store_c(nn_lower *L, const strassen *s) {
  nn_kernel *k = L->kernel;
  nn_x *two = nn_x_int(k, 2), *quadrant = nn_loop_range(k, NN_FOR, "quadrant", QUADRANTS);
  nn_x *right = nn_xi_mulc(k, nn_xi_mod(k, quadrant, two), s->panels), *low = nn_xi_floordiv(k, quadrant, two);
  nn_x *n0 = nn_let(k, nn_xi_mulc(k, nn_xi_add(k, s->panel, right), s->width));
  nn_x *left = nn_xi_sub(k, nn_xi_floordiv(k, nn_xi_sub(k, nn_x_int(k, s->m + 1), low), two), s->row);
  nn_x *row = nn_loop_begin(k, NN_FOR, "row", nn_x_int(k, 0), nn_let(k, nn_xi_min(k, left, nn_x_int(k, s->rows))));
  nn_x *m = nn_let(k, nn_xi_add(k, nn_xi_mulc(k, nn_xi_add(k, s->row, row), 2), low));
  nn_x *line = nn_let(k, nn_xi_mulc(k, nn_xi_add(k, nn_xi_mulc(k, quadrant, s->rows), row), s->width));
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", s->tile.nv);
  nn_x *j = nn_xi_add(k, nn_xi_mulc(k, c, s->lanes), nn_lanes_begin(L, s->lanes)), *n = nn_xi_add(k, n0, j);
  bool is_tail = s->n % s->width != 0;
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, n, nn_x_int(k, s->n)));
  s->g->store(L, s->g->data, m, n, nn_let(k, nn_x_load(k, s->c, nn_xi_add(k, line, j), NULL)));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, s->lanes);
  nn_end(k);
  nn_end(k);
  nn_end(k);
}

static void emit_task(nn_lower *L, strassen *s) {
  nn_kernel *k = L->kernel;
  nn_module *m = L->module;
  s->b = nn_temp(L, NN_BUF_WORKER, s->g->acc, nn_dim_const(m, s->k / 2 * s->width));
  s->c = nn_temp(L, NN_BUF_WORKER, s->g->acc, nn_dim_const(m, (QUADRANTS + 1) * s->rows * s->width));
  clear_c(L, s);
  s->product = nn_loop_range(k, NN_FOR, "product", PRODUCTS);
  multiply(L, s);
  nn_end(k);
  store_c(L, s);
}

bool nn_gemm_strassen_fits(const nn_lower *L, const nn_gemm *g) {
  int64_t m, n, k, width = (int64_t)nn_target_lanes(L->target, g->acc) * 2;
  if (!g->b_panels || g->panel_width != width) return false;
  if (!nn_dim_is_const(g->m, &m) || !nn_dim_is_const(g->n, &n) || !nn_dim_is_const(g->k, &k)) return false;
  return m >= 2 && k >= 2 && k % 2 == 0 && n > 0 && (n + width - 1) / width % 2 == 0;
}

void nn_gemm_strassen(nn_lower *L, const nn_gemm *g) {
  nn_kernel *k = L->kernel;
  strassen s = {.g = g, .m = nn_dim_value(g->m), .n = nn_dim_value(g->n), .k = nn_dim_value(g->k)};
  s.tile = nn_tile_choose(L->target, g->acc, nn_dim_const(L->module, s.m / 2), g->n);
  s.lanes = s.tile.lanes;
  s.tile.nv = 2;
  s.width = s.tile.nv * s.lanes;
  s.pairs = (s.m + 1) / 2;
  s.panels = (s.n + s.width - 1) / s.width / 2;
  s.blocks = (s.pairs + MOST_ROWS - 1) / MOST_ROWS;
  s.rows = (s.pairs + s.blocks - 1) / s.blocks;
  sum_a(L, &s);
  nn_x *task = nn_task_loop(L, g->in_parallel, "task", nn_x_int(k, s.panels * s.blocks)),
       *blocks = nn_x_int(k, s.blocks);
  s.panel = nn_let(k, nn_xi_floordiv(k, task, blocks));
  s.row = nn_let(k, nn_xi_mulc(k, nn_xi_mod(k, task, blocks), s.rows));
  emit_task(L, &s);
  nn_end(k);
}
