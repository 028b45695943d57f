/* Operands of products in pairs (gemm_paired.c): rows of A, which a task copies, and panels of weights, which are made once. Both are scaled by
   powers of two, so that a row and a column have about the same length: what a pair adds to a product, x1 x2 + w1 w2, is then about as
   large as the product, and so is what rounding makes of it.

   The length is the root of the sum of all sizes times the largest one, which is no less than the length and neither overflows nor vanishes: its
   exponent is half of the sum of both exponents. */
#include "codegen/gemm_paired.h"

enum {
  ROWS_TOGETHER = 4,    /* whose vectors are read in turns */
  EXPONENT_BITS = 0x7f800000,
  LEAST_LENGTH = 0x00800000, MOST_LENGTH = 0x7e800000, /* 2^-126 and 2^126: normal numbers, and so are their reciprocals */
  RECIPROCAL = 0x7f000000 /* minus the bits of a power of two are those of its reciprocal */
};

static nn_x *int_of(nn_kernel *k, int32_t value) { return nn_x_iconst(k, NN_I32, value); }

/* Bits of the power of two that is near the length; 0 for 0, where its reciprocal is large and finite. most: bits of the largest size. */
static nn_x *length_bits(nn_kernel *k, nn_x *sum, nn_x *most) {
  nn_x *one = int_of(k, 1);
  nn_x *half = nn_x_binary(k, NN_X_SHR, nn_x_bitcast(k, sum, NN_I32), one), *other = nn_x_binary(k, NN_X_SHR, most, one);
  nn_x *bits = nn_x_binary(k, NN_X_AND, nn_x_binary(k, NN_X_ADD, half, other), int_of(k, EXPONENT_BITS));
  nn_x *is_zero = nn_x_binary(k, NN_X_EQ, most, int_of(k, 0)), *least = nn_x_select(k, is_zero, int_of(k, 0), int_of(k, LEAST_LENGTH));
  return nn_let(k, nn_x_binary(k, NN_X_MAX, nn_x_binary(k, NN_X_MIN, bits, int_of(k, MOST_LENGTH)), least));
}

static nn_x *reciprocal(nn_kernel *k, nn_x *bits) {
  return nn_let(k, nn_x_bitcast(k, nn_x_binary(k, NN_X_SUB, int_of(k, RECIPROCAL), bits), NN_F32));
}

static nn_x *size_of(nn_kernel *k, nn_x *x) { return nn_let(k, nn_x_unary(k, NN_X_ABS, x)); }

/* Sizes are ordered as their bits are; what is not a number is the largest. */
static void measure(nn_lower *L, nn_buf *sums, nn_buf *most, nn_x *at, nn_x *value) {
  nn_kernel *k = L->kernel;
  nn_x *size = size_of(k, value);
  nn_store(k, sums, at, nn_x_binary(k, NN_X_ADD, nn_x_load(k, sums, at, NULL), size), NULL);
  nn_store(k, most, at, nn_x_binary(k, NN_X_MAX, nn_x_load(k, most, at, NULL), nn_x_bitcast(k, size, NN_I32)), NULL);
}

/* ---- rows of A -------------------------------------------------------------------------------------------- */

nn_x *nn_pair_at(nn_kernel *k, const nn_pair_span *span, nn_x *row, nn_x *ki) {
  nn_x *unit = nn_x_int(k, NN_PAIR_UNIT);
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, nn_xi_floordiv(k, ki, unit), span->line), nn_xi_mulc(k, row, NN_PAIR_UNIT));
  return nn_xi_add(k, span->at, nn_xi_add(k, at, nn_xi_mod(k, ki, unit)));
}

typedef struct row_group {
  const nn_paired *p;
  const nn_pair_span *span;
  nn_x *first;       /* row of the span */
  int count;
  nn_buf *sums, *most, *own; /* registers, a vector for each row */
  nn_x *scale[ROWS_TOGETHER];
} row_group;

static nn_x *row_of(nn_kernel *k, const row_group *r, int i) { return nn_xi_addc(k, r->first, i); }

/* The element of A, which is kept in a if it is not there yet. */
static nn_x *read_element(nn_lower *L, const row_group *r, nn_x *m, nn_x *ki, nn_x *at, bool is_rest) {
  nn_kernel *k = L->kernel;
  if (!r->p->g) return nn_let(k, nn_x_load(k, r->p->a, at, nn_guard(L)));
  nn_x *value = nn_let(k, nn_gemm_a(L, r->p->g, m, ki));
  if (is_rest && nn_guard(L)) value = nn_let(k, nn_x_select(k, nn_guard(L), value, nn_zero(L, NN_F32))); /* without one the vector is whole */
  return value;
}

/* Of row i of the group: read, kept, and measured. */
static void read_vector(nn_lower *L, const row_group *r, nn_x *m, nn_x *first, int v, int i, bool is_rest) {
  const nn_paired *p = r->p;
  nn_kernel *k = L->kernel;
  nn_x *l = nn_lanes_begin(L, p->read_lanes);
  nn_x *ki = nn_xi_add(k, first, nn_xi_addc(k, l, (int64_t)v * p->read_lanes));
  if (is_rest) nn_guard_push(L, nn_x_binary(k, NN_X_LT, ki, nn_x_int(k, p->depth)));
  nn_x *at = nn_pair_at(k, r->span, row_of(k, r, i), ki), *value = read_element(L, r, m, ki, at, is_rest);
  if (is_rest) nn_guard_pop(L);
  if (p->g) nn_store(k, p->a, at, value, NULL);
  measure(L, r->sums, r->most, nn_xi_addc(k, l, (int64_t)i * p->read_lanes), value);
  nn_lanes_end(L, p->read_lanes);
}

/* first: the unit's, in the depth. */
static void read_unit(nn_lower *L, const row_group *r, nn_x *const *m, nn_x *first, int count, bool is_rest) {
  for (int v = 0; v < count; v++)
    for (int i = 0; i < r->count; i++) read_vector(L, r, m[i], first, v, i, is_rest && v == count - 1);
}

static void read_rows(nn_lower *L, row_group *r) {
  const nn_paired *p = r->p;
  nn_kernel *k = L->kernel;
  nn_x *m[ROWS_TOGETHER] = {NULL};
  r->sums = nn_tile_clear(L, NN_F32, ROWS_TOGETHER, p->read_lanes);
  r->most = nn_tile_clear(L, NN_I32, ROWS_TOGETHER, p->read_lanes);
  for (int i = 0; i < r->count && p->g; i++) {
    m[i] = nn_xi_add(k, p->row0, nn_xi_add(k, r->span->row, row_of(k, r, i)));
    if (p->has_surplus) m[i] = nn_xi_min(k, m[i], nn_xi_addc(k, p->m, -1));
    m[i] = nn_let(k, m[i]);
  }
  nn_x *run = p->run < p->units ? nn_loop_range(k, NN_FOR, "run", p->units / p->run) : nn_x_int(k, 0);
  nn_x *unit = nn_xi_mulc(k, nn_loop_range(k, NN_FOR, "unit", p->run), NN_PAIR_UNIT);
  read_unit(L, r, m, nn_xi_add(k, nn_xi_mulc(k, run, p->run * NN_PAIR_UNIT), unit), NN_PAIR_UNIT / p->read_lanes, false);
  nn_end(k);
  if (p->run < p->units) nn_end(k);
  int64_t vectors = (p->rest + p->read_lanes - 1) / p->read_lanes;
  if (p->rest) read_unit(L, r, m, nn_x_int(k, p->units * NN_PAIR_UNIT), (int)vectors, p->rest % p->read_lanes != 0);
}

static nn_x *over_lanes(nn_kernel *k, nn_xop op, nn_buf *registers, nn_x *first, int lanes) {
  return nn_let(k, lanes > 1 ? nn_x_lanes(k, op, registers, first, lanes) : nn_x_load(k, registers, first, NULL));
}

static void set_scales(nn_lower *L, row_group *r) {
  const nn_paired *p = r->p;
  nn_kernel *k = L->kernel;
  for (int i = 0; i < r->count; i++) {
    nn_x *first = nn_x_int(k, (int64_t)i * p->read_lanes);
    nn_x *sum = over_lanes(k, NN_X_LANES_SUM, r->sums, first, p->read_lanes);
    nn_x *bits = length_bits(k, sum, over_lanes(k, NN_X_LANES_MAX, r->most, first, p->read_lanes));
    r->scale[i] = reciprocal(k, bits);
    nn_store(k, p->factor, nn_xi_add(k, r->span->row, row_of(k, r, i)), nn_x_bitcast(k, bits, NN_F32), NULL);
  }
}

/* Vectors of both halves of a unit, in place, and what their pairs' own products add to the row's sum. */
static void scale_pair(nn_lower *L, const row_group *r, nn_x *unit, int v, int i) {
  const nn_paired *p = r->p;
  nn_kernel *k = L->kernel;
  nn_x *l = nn_xi_addc(k, nn_lanes_begin(L, p->pair_lanes), (int64_t)v * p->pair_lanes), *value[2];
  for (int half = 0; half < 2; half++) {
    nn_x *at = nn_pair_at(k, r->span, row_of(k, r, i), nn_xi_add(k, nn_xi_mulc(k, unit, NN_PAIR_UNIT), nn_xi_addc(k, l, (int64_t)half * NN_PAIR_HALF)));
    value[half] = nn_let(k, nn_x_binary(k, NN_X_MUL, nn_x_load(k, p->a, at, NULL), r->scale[i]));
    nn_store(k, p->a, at, value[half], NULL);
  }
  nn_x *to = nn_xi_addc(k, l, (int64_t)i * NN_PAIR_HALF);
  nn_store(k, r->own, to, nn_mul_add(L, value[0], value[1], nn_x_load(k, r->own, to, NULL)), NULL);
  nn_lanes_end(L, p->pair_lanes);
}

static void scale_rest(nn_lower *L, const row_group *r, int v, int i) {
  const nn_paired *p = r->p;
  nn_kernel *k = L->kernel;
  nn_x *ki = nn_xi_addc(k, nn_lanes_begin(L, p->pair_lanes), p->units * NN_PAIR_UNIT + (int64_t)v * p->pair_lanes);
  nn_x *at = nn_pair_at(k, r->span, row_of(k, r, i), ki);
  nn_store(k, p->a, at, nn_x_binary(k, NN_X_MUL, nn_x_load(k, p->a, at, NULL), r->scale[i]), NULL);
  nn_lanes_end(L, p->pair_lanes);
}

/* Pairs are added and subtracted in turns, so that the products of numbers of one sign do not add up. */
static nn_x *pair_sign(nn_kernel *k, nn_x *pair, nn_dtype t) {
  nn_x *odd = nn_x_binary(k, NN_X_EQ, nn_xi_mod(k, pair, nn_x_int(k, 2)), nn_x_int(k, 1));
  nn_x *sign = nn_x_select(k, odd, nn_x_const(k, t, -1), nn_x_const(k, t, 1));
  return nn_x_select(k, nn_x_binary(k, NN_X_LT, pair, nn_x_int(k, NN_PAIRS)), sign, nn_x_const(k, t, 0));
}

/* The numbers that are in pairs, in order. */
static void keep_own(nn_lower *L, const row_group *r, int i) {
  nn_kernel *k = L->kernel;
  int64_t first = (int64_t)i * NN_PAIR_HALF;
  for (int v = 0; v < NN_PAIR_HALF / r->p->pair_lanes; v++) {
    nn_x *l = nn_xi_addc(k, nn_lanes_begin(L, r->p->pair_lanes), (int64_t)v * r->p->pair_lanes), *at = nn_xi_addc(k, l, first);
    nn_x *own = nn_let(k, nn_x_load(k, r->own, at, NULL)), *zero = nn_zero(L, NN_F32);
    nn_x *sign = pair_sign(k, l, NN_F32), *is_pair = nn_x_binary(k, NN_X_LT, l, nn_x_int(k, NN_PAIRS));
    nn_store(k, r->own, at, nn_x_select(k, is_pair, nn_x_binary(k, NN_X_MUL, own, sign), zero), NULL);
    nn_lanes_end(L, r->p->pair_lanes);
  }
  nn_x *sum = nn_x_lanes(k, NN_X_LANES_SUM, r->own, nn_x_int(k, first), NN_PAIR_HALF);
  nn_store(k, r->p->own, nn_xi_add(k, r->span->row, row_of(k, r, i)), sum, NULL);
}

static void scale_rows(nn_lower *L, row_group *r) {
  const nn_paired *p = r->p;
  nn_kernel *k = L->kernel;
  r->own = nn_tile_clear(L, NN_F32, ROWS_TOGETHER * NN_PAIR_HALF / p->pair_lanes, p->pair_lanes);
  nn_x *unit = nn_loop_range(k, NN_FOR, "unit", p->units);
  for (int v = 0; v < NN_PAIR_HALF / p->pair_lanes; v++)
    for (int i = 0; i < r->count; i++) scale_pair(L, r, unit, v, i);
  nn_end(k);
  for (int v = 0; v * p->pair_lanes < p->rest; v++)
    for (int i = 0; i < r->count; i++) scale_rest(L, r, v, i);
  for (int i = 0; i < r->count; i++) keep_own(L, r, i);
}

static void make_group(nn_lower *L, const nn_paired *p, const nn_pair_span *span, nn_x *first, int count) {
  row_group r = {.p = p, .span = span, .first = first, .count = count};
  read_rows(L, &r);
  set_scales(L, &r);
  scale_rows(L, &r);
}

static void make_groups(nn_lower *L, const nn_paired *p, const nn_pair_span *span, nn_x *first, nn_x *groups, int rows) {
  nn_kernel *k = L->kernel;
  nn_x *group = nn_loop_begin(k, NN_FOR, "rows", nn_x_int(k, 0), groups);
  make_group(L, p, span, nn_let(k, nn_xi_add(k, first, nn_xi_mulc(k, group, rows))), rows);
  nn_end(k);
}

void nn_pair_rows(nn_lower *L, const nn_paired *p, const nn_pair_span *span, nn_x *count) {
  nn_kernel *k = L->kernel;
  nn_x *zero = nn_x_int(k, 0), *together = nn_x_int(k, ROWS_TOGETHER);
  nn_x *groups = nn_let(k, nn_xi_floordiv(k, count, together)), *done = nn_xi_mulc(k, groups, ROWS_TOGETHER), *rest = nn_let(k, nn_xi_sub(k, count, done));
  int64_t known, left;
  if (!nn_x_is_const(groups, &known) || known > 0) make_groups(L, p, span, zero, groups, ROWS_TOGETHER);
  if (!nn_x_is_const(rest, &left)) make_groups(L, p, span, done, rest, 1);
  else if (left > 0) make_group(L, p, span, done, (int)left);
}

/* ---- weights ------------------------------------------------------------------------------------------------ */

typedef struct weights {
  nn_op *op;
  int lanes;
  int64_t depth;
  nn_x *panel, *first; /* first column of the vector in it */
  nn_buf *sums, *most, *scale, *length, *own; /* registers of one vector */
} weights;

static nn_x *weight_at(nn_lower *L, const weights *w, nn_x *ki, nn_x *l) {
  nn_kernel *k = L->kernel;
  nn_value *from = w->op->in[0];
  nn_x *j = nn_xi_add(k, w->first, l);
  if (from->type.rank == 3) return nn_let(k, nn_read(L, from, (nn_x *[]){w->panel, ki, j}));
  nn_x *column = nn_xi_add(k, nn_xi_mulc(k, w->panel, nn_dim_value(w->op->out[0]->type.dims[2])), j);
  nn_guard_push(L, nn_x_binary(k, NN_X_LT, column, nn_dim_x(L, from->type.dims[0])));
  nn_x *value = nn_let(k, nn_read(L, from, (nn_x *[]){column, ki}));
  nn_guard_pop(L);
  return value;
}

static nn_x *scaled_at(nn_lower *L, const weights *w, nn_x *ki, nn_x *l) {
  nn_kernel *k = L->kernel;
  return nn_let(k, nn_x_binary(k, NN_X_MUL, weight_at(L, w, ki, l), nn_x_load(k, w->scale, l, NULL)));
}

static void give_weight(nn_lower *L, const weights *w, nn_x *ki, nn_x *l, nn_x *value) {
  nn_x *index[3] = {w->panel, ki, nn_xi_add(L->kernel, w->first, l)};
  nn_write(L, w->op->out[0], index, value);
}

static void measure_columns(nn_lower *L, const weights *w) {
  nn_kernel *k = L->kernel;
  nn_x *ki = nn_loop_range(k, NN_FOR, "k", w->depth), *l = nn_lanes_begin(L, w->lanes);
  measure(L, w->sums, w->most, l, weight_at(L, w, ki, l));
  nn_lanes_end(L, w->lanes);
  nn_end(k);
  l = nn_lanes_begin(L, w->lanes);
  nn_x *bits = length_bits(k, nn_let(k, nn_x_load(k, w->sums, l, NULL)), nn_let(k, nn_x_load(k, w->most, l, NULL)));
  nn_store(k, w->scale, l, reciprocal(k, bits), NULL);
  nn_store(k, w->length, l, nn_x_bitcast(k, bits, NN_F32), NULL);
  nn_lanes_end(L, w->lanes);
}

static void scale_columns(nn_lower *L, const weights *w) {
  nn_kernel *k = L->kernel;
  nn_x *ki = nn_loop_range(k, NN_FOR, "k", w->depth), *l = nn_lanes_begin(L, w->lanes);
  give_weight(L, w, ki, l, scaled_at(L, w, ki, l));
  nn_lanes_end(L, w->lanes);
  nn_end(k);
}

static void sum_pairs(nn_lower *L, const weights *w) {
  nn_kernel *k = L->kernel;
  nn_x *unit = nn_loop_range(k, NN_FOR, "unit", w->depth / NN_PAIR_UNIT), *pair = nn_loop_range(k, NN_FOR, "pair", NN_PAIRS);
  nn_x *ki = nn_let(k, nn_xi_add(k, nn_xi_mulc(k, unit, NN_PAIR_UNIT), pair)), *sign = nn_let(k, pair_sign(k, pair, NN_F32));
  nn_x *l = nn_lanes_begin(L, w->lanes);
  nn_x *one = nn_let(k, nn_x_binary(k, NN_X_MUL, sign, scaled_at(L, w, ki, l))), *other = scaled_at(L, w, nn_xi_addc(k, ki, NN_PAIR_HALF), l);
  nn_store(k, w->own, l, nn_mul_add(L, one, other, nn_x_load(k, w->own, l, NULL)), NULL);
  nn_lanes_end(L, w->lanes);
  nn_end(k);
  nn_end(k);
}

static void make_panel(nn_lower *L, nn_x *const *index, void *data) {
  weights w = *(const weights *)data;
  nn_kernel *k = L->kernel;
  w.panel = index[0];
  nn_x *vector = nn_loop_range(k, NN_FOR, "v", nn_dim_value(w.op->out[0]->type.dims[2]) / w.lanes);
  w.first = nn_let(k, nn_xi_mulc(k, vector, w.lanes));
  w.sums = nn_tile_clear(L, NN_F32, 1, w.lanes), w.most = nn_tile_clear(L, NN_I32, 1, w.lanes), w.own = nn_tile_clear(L, NN_F32, 1, w.lanes);
  w.scale = nn_regs(L, NN_F32, w.lanes), w.length = nn_regs(L, NN_F32, w.lanes);
  measure_columns(L, &w);
  scale_columns(L, &w);
  sum_pairs(L, &w);
  nn_x *l = nn_lanes_begin(L, w.lanes);
  give_weight(L, &w, nn_x_int(k, w.depth), l, nn_x_unary(k, NN_X_NEG, nn_let(k, nn_x_load(k, w.own, l, NULL))));
  give_weight(L, &w, nn_x_int(k, w.depth + 1), l, nn_let(k, nn_x_load(k, w.length, l, NULL)));
  nn_lanes_end(L, w.lanes);
  nn_end(k);
}

/* Lanes of a vector that a count of elements is whole vectors of. */
int nn_pair_lanes(const nn_lower *L, int64_t count) {
  int lanes = nn_target_lanes(L->target, NN_F32);
  while (count % lanes) lanes /= 2;
  return lanes;
}

nn_status lower_paired_weights(nn_lower *L, nn_op *op) {
  enum { COST = 6 };
  nn_type y = op->out[0]->type;
  weights w = {.op = op, .lanes = nn_pair_lanes(L, nn_dim_value(y.dims[2])), .depth = nn_dim_value(y.dims[1]) - NN_PAIR_ROWS};
  nn_parallel_rows(L, y.dims, 1, COST * nn_dim_value(y.dims[1]) * nn_dim_value(y.dims[2]), make_panel, &w);
  return NN_OK;
}
