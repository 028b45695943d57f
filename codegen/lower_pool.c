/* max_pool and avg_pool: sliding windows along rows of the result (window.c). */
#include "codegen/codegen.h"

typedef struct pool {
  nn_op *op;
  nn_value *x, *y, *places; /* places: max_pool's indices, NULL if unused */
  nn_dtype acc;
  nn_dim after[NN_SPATIAL];
  nn_buf *best, *place; /* registers */
  bool is_max;
} pool;

static void set_window(nn_lower *L, pool *p, nn_window *w) {
  nn_module *m = L->module;
  nn_op *op = p->op;
  w->nd = p->x->type.rank - 2;
  const int64_t *kernel = nn_attr_ints(op, "kernel", NULL), *strides = nn_attr_ints(op, "strides", NULL);
  const int64_t *dilations = nn_attr_ints(op, "dilations", NULL);
  const nn_dim *pads = nn_attr_dims(op, "pads", NULL);
  bool has_strides = nn_op_attr(op, "strides")->count, has_dilations = nn_op_attr(op, "dilations")->count;
  bool has_pads = nn_op_attr(op, "pads")->count;
  for (int d = 0; d < w->nd; d++) {
    w->kernel[d] = nn_dim_const(m, kernel[d]);
    w->stride[d] = has_strides ? strides[d] : 1;
    w->dilation[d] = has_dilations ? dilations[d] : 1;
    w->before[d] = has_pads ? pads[d] : nn_dim_const(m, 0);
    p->after[d] = has_pads ? pads[w->nd + d] : nn_dim_const(m, 0);
    w->in[d] = p->x->type.dims[2 + d];
    w->out[d] = p->y->type.dims[2 + d];
  }
  w->rows[0] = p->y->type.dims[0];
  w->rows[1] = p->y->type.dims[1];
  w->depth = nn_dim_const(m, 1);
  w->cost = 1;
  w->lanes = nn_target_lanes(L->target, p->acc);
  w->data = p;
}

static void open_pool(nn_lower *L, nn_window *w, int lanes) {
  pool *p = w->data;
  p->best = nn_row_regs(L, p->is_max ? nn_lowest(L, p->acc) : nn_zero(L, p->acc), 1, lanes);
  if (p->places) p->place = nn_row_regs(L, nn_x_int(L->kernel, 0), 1, lanes);
}

static nn_x *value_at(nn_lower *L, const nn_window *w, nn_x *const *place, nn_x *cond) {
  const pool *p = w->data;
  nn_kernel *k = L->kernel;
  nn_x *index[NN_MAX_RANK] = {w->at[0], w->at[1]};
  for (int d = 0; d < w->nd; d++) index[2 + d] = place[d];
  if (cond) nn_guard_push(L, cond);
  nn_x *value = nn_x_cast(k, nn_read(L, p->x, index), p->acc);
  if (cond) nn_guard_pop(L);
  return cond ? nn_x_select(k, cond, value, p->is_max ? nn_lowest(L, p->acc) : nn_zero(L, p->acc)) : value;
}

/* ---- max_pool ------------------------------------------------------------------------------------------------------
 */

/* Flat index into x of this place; storage_order 1 counts the spatial axes column-major. */
static nn_x *place_index(nn_lower *L, const nn_window *w, nn_x *const *place) {
  const pool *p = w->data;
  nn_kernel *k = L->kernel;
  bool by_columns = nn_attr_int(p->op, "storage_order") != 0;
  nn_x *flat = nn_xi_add(k, nn_xi_mul(k, w->at[0], nn_dim_x(L, p->x->type.dims[1])), w->at[1]);
  nn_x *inner = nn_x_int(k, 0);
  for (int i = 0; i < w->nd; i++) {
    int d = by_columns ? w->nd - 1 - i : i;
    flat = nn_xi_mul(k, flat, nn_dim_x(L, w->in[d]));
    inner = nn_xi_add(k, nn_xi_mul(k, inner, nn_dim_x(L, w->in[d])), place[d]);
  }
  return nn_xi_add(k, flat, inner);
}

static void max_tap(nn_lower *L, nn_window *w, nn_x *uniform, nn_x *depth, nn_x *const *place, nn_x *l, nn_x *cond) {
  const pool *p = w->data;
  nn_kernel *k = L->kernel;
  (void)uniform, (void)depth;
  nn_x *value = nn_let(k, value_at(L, w, place, cond)), *best = nn_let(k, nn_x_load(k, p->best, l, NULL));
  nn_store(k, p->best, l, nn_x_binary(k, NN_X_MAX, best, value), NULL);
  if (!p->places) return;
  nn_x *better = nn_x_binary(k, NN_X_LT, best, value);
  if (nn_dtype_is_float(p->acc)) {
    nn_x *first_nan =
        nn_x_binary(k, NN_X_AND, nn_x_binary(k, NN_X_NE, value, value), nn_x_binary(k, NN_X_EQ, best, best));
    better = nn_x_binary(k, NN_X_OR, better, first_nan);
  }
  nn_x *old = nn_x_load(k, p->place, l, NULL);
  nn_store(k, p->place, l, nn_x_select(k, better, place_index(L, w, place), old), NULL);
}

static void close_pool(nn_lower *L, nn_window *w, int lanes, bool is_tail,
                       nn_x *(*result)(nn_lower *, nn_window *, nn_x *, nn_x *)) {
  const pool *p = w->data;
  nn_kernel *k = L->kernel;
  nn_x *index[NN_MAX_RANK], *l = nn_lanes_begin(L, lanes);
  for (int d = 0; d < 2 + w->nd; d++) index[d] = w->at[d];
  nn_x *x = index[1 + w->nd] = nn_xi_add(k, index[1 + w->nd], l);
  bool guarded = nn_window_guard_push(L, w, x, is_tail);
  nn_x *value = nn_let(k, nn_x_load(k, p->best, l, NULL));
  nn_write(L, p->y, index, nn_x_cast(k, result ? result(L, w, value, x) : value, p->y->type.dtype));
  if (p->places) nn_write(L, p->places, index, nn_let(k, nn_x_load(k, p->place, l, NULL)));
  if (guarded) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

static void close_max(nn_lower *L, nn_window *w, int lanes, bool is_tail) { close_pool(L, w, lanes, is_tail, NULL); }

nn_status lower_max_pool(nn_lower *L, nn_op *op) {
  pool p = {.op = op, .x = op->in[0], .y = op->out[0], .is_max = true};
  nn_window w = {.open = open_pool, .tap = max_tap, .close = close_max};
  p.acc = nn_acc_dtype(p.x->type.dtype);
  if (nn_value_nuses(op->out[1])) p.places = op->out[1];
  set_window(L, &p, &w);
  nn_window_emit(L, &w);
  return NN_OK;
}

/* ---- avg_pool ------------------------------------------------------------------------------------------------------
 */

/* Taps of axis d that count for result `at`: those in the input, or in the padded input. */
static nn_x *count_taps(nn_lower *L, const nn_window *w, int d, nn_x *at) {
  const pool *p = w->data;
  nn_kernel *k = L->kernel;
  bool pads = nn_attr_int(p->op, "count_include_pad") != 0;
  nn_x *before = nn_dim_x(L, w->before[d]), *taps = nn_dim_x(L, w->kernel[d]), *zero = nn_x_int(k, 0);
  nn_x *first = nn_xi_sub(k, nn_xi_mulc(k, at, w->stride[d]), before), *end = nn_dim_x(L, w->in[d]);
  if (pads) end = nn_xi_add(k, end, nn_dim_x(L, p->after[d]));
  nn_x *hi = nn_xi_min(k, taps, nn_ceildiv_x(L, nn_xi_sub(k, end, first), w->dilation[d]));
  nn_x *lo = pads ? zero : nn_xi_max(k, zero, nn_ceildiv_x(L, nn_xi_sub(k, zero, first), w->dilation[d]));
  return nn_xi_sub(k, hi, lo);
}

static nn_x *average_of(nn_lower *L, nn_window *w, nn_x *sum, nn_x *x) {
  const pool *p = w->data;
  nn_kernel *k = L->kernel;
  nn_x *count = nn_x_int(k, 1);
  if (nn_attr_int(p->op, "sum")) return sum;
  for (int d = 0; d < w->nd; d++) {
    nn_x *taps = w->is_whole ? nn_dim_x(L, w->kernel[d]) : count_taps(L, w, d, d == w->nd - 1 ? x : w->at[2 + d]);
    count = nn_xi_mul(k, count, taps);
  }
  int64_t n;
  bool is_const = nn_x_is_const(count, &n);
  if (!is_const || n == 0) count = nn_xi_max(k, count, nn_x_int(k, 1));
  if (!nn_dtype_is_float(p->acc)) return nn_x_binary(k, NN_X_DIV, sum, nn_x_cast(k, count, p->acc));
  if (is_const && n > 0) return nn_x_binary(k, NN_X_MUL, sum, nn_x_const(k, p->acc, 1.0 / (double)n));
  return nn_x_binary(k, NN_X_DIV, sum, nn_x_cast(k, count, p->acc));
}

static void add_tap(nn_lower *L, nn_window *w, nn_x *uniform, nn_x *depth, nn_x *const *place, nn_x *l, nn_x *cond) {
  const pool *p = w->data;
  nn_kernel *k = L->kernel;
  (void)uniform, (void)depth;
  nn_x *value = value_at(L, w, place, cond);
  nn_store(k, p->best, l, nn_x_binary(k, NN_X_ADD, nn_x_load(k, p->best, l, NULL), value), NULL);
}

static void close_average(nn_lower *L, nn_window *w, int lanes, bool is_tail) {
  close_pool(L, w, lanes, is_tail, average_of);
}

nn_status lower_avg_pool(nn_lower *L, nn_op *op) {
  pool p = {.op = op, .x = op->in[0], .y = op->out[0]};
  nn_window w = {.open = open_pool, .tap = add_tap, .close = close_average};
  p.acc = nn_acc_dtype(p.x->type.dtype);
  set_window(L, &p, &w);
  nn_window_emit(L, &w);
  return NN_OK;
}
