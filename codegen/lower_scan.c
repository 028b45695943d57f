/* Walks along one axis that keep a running state: arg_max, arg_min, cum_sum.

   Lanes run along the innermost dimension if that is not the axis; else a row is walked one by one. */
#include "codegen/codegen.h"

typedef struct scan {
  nn_op *op;
  nn_value *x, *y;
  int axis, inner; /* inner: dimension that has lanes, or -1 */
  int outer[NN_MAX_RANK], nouter;
  int lanes;
  nn_dtype acc;
  nn_x *index[NN_MAX_RANK]; /* of x, outer dimensions set */
  nn_block_body *block;
} scan;

static void set_scan(scan *s, int lanes) {
  int rank = s->x->type.rank;
  int64_t n;
  s->axis = (int)nn_attr_int(s->op, "axis");
  if (s->axis < 0) s->axis += rank;
  s->inner = -1;
  for (int d = 0; d < rank; d++)
    if (!nn_dim_is(s->x->type.dims[d], 1)) s->inner = d;
  if (s->inner <= s->axis) s->inner = -1;
  for (int d = 0; d < rank; d++)
    if (d != s->axis && d != s->inner) s->outer[s->nouter++] = d;
  s->lanes = s->inner < 0 ? 1 : lanes;
  if (s->inner >= 0 && nn_dim_is_const(s->x->type.dims[s->inner], &n))
    while (s->lanes > 1 && s->lanes / 2 >= n) s->lanes /= 2;
}

static void scan_rows(nn_lower *L, nn_x *const *outer, void *data) {
  scan *s = data;
  for (int i = 0; i < s->nouter; i++) s->index[s->outer[i]] = outer[i];
  if (s->inner < 0)
    s->block(L, nn_x_int(L->kernel, 0), 1, false, s);
  else
    nn_block_loops(L, nn_dim_x(L, s->x->type.dims[s->inner]), s->lanes, s->block, s);
}

static void emit_scan(nn_lower *L, scan *s) {
  nn_dim dims[NN_MAX_RANK];
  int64_t cost = nn_dim_guess(s->x->type.dims[s->axis], 256) + 1;
  if (s->inner >= 0 && cost < (1 << 24)) cost *= nn_dim_guess(s->x->type.dims[s->inner], 64) + 1;
  for (int i = 0; i < s->nouter; i++) dims[i] = s->x->type.dims[s->outer[i]];
  if (s->nouter == 0)
    scan_rows(L, NULL, s);
  else
    nn_parallel_rows(L, dims, s->nouter, cost, scan_rows, s);
}

/* The index of a vector at `at` along the axis; opens nothing. */
static void lane_index(nn_lower *L, const scan *s, nn_x *i, nn_x *l, nn_x *at, nn_x **index) {
  for (int d = 0; d < s->x->type.rank; d++) index[d] = s->index[d];
  index[s->axis] = at;
  if (s->inner >= 0) index[s->inner] = nn_xi_add(L->kernel, i, l);
}

static nn_x *tail_mask(nn_lower *L, const scan *s, nn_x *const *index, bool is_tail) {
  if (!is_tail) return NULL;
  return nn_x_binary(L->kernel, NN_X_LT, index[s->inner], nn_dim_x(L, s->x->type.dims[s->inner]));
}

/* ---- arg_max, arg_min -------------------------------------------------------------------------------------------- */

/* Does value replace best? NaN counts as the best of all (numpy). */
static nn_x *is_better(nn_lower *L, const scan *s, nn_x *value, nn_x *best) {
  nn_kernel *k = L->kernel;
  bool last = nn_attr_int(s->op, "last") != 0, is_max = s->op->code == NN_OP_ARG_MAX;
  nn_x *cond = nn_x_binary(k, last ? NN_X_LE : NN_X_LT, is_max ? best : value, is_max ? value : best);
  if (!nn_dtype_is_float(s->acc)) return cond;
  nn_x *is_nan = nn_x_binary(k, NN_X_NE, value, value);
  if (!last) is_nan = nn_x_binary(k, NN_X_AND, is_nan, nn_x_binary(k, NN_X_EQ, best, best));
  return nn_x_binary(k, NN_X_OR, cond, is_nan);
}

static void arg_block(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  const scan *s = data;
  nn_kernel *k = L->kernel;
  nn_x *index[NN_MAX_RANK], *to[NN_MAX_RANK];
  nn_buf *best = nn_regs(L, s->acc, lanes), *place = nn_regs(L, NN_I64, lanes);
  nn_x *l = nn_lanes_begin(L, lanes);
  nn_store(k, best, l, s->op->code == NN_OP_ARG_MAX ? nn_lowest(L, s->acc) : nn_highest(L, s->acc), NULL);
  nn_store(k, place, l, nn_x_int(k, 0), NULL);
  nn_lanes_end(L, lanes);
  nn_x *at = nn_loop_begin(k, NN_FOR, "at", nn_x_int(k, 0), nn_dim_x(L, s->x->type.dims[s->axis]));
  l = nn_lanes_begin(L, lanes);
  lane_index(L, s, i, l, at, index);
  nn_x *mask = tail_mask(L, s, index, is_tail);
  if (mask) nn_guard_push(L, mask);
  nn_x *value = nn_let(k, nn_x_cast(k, nn_read(L, s->x, index), s->acc));
  if (mask) nn_guard_pop(L);
  nn_x *old = nn_let(k, nn_x_load(k, best, l, NULL)), *old_place = nn_let(k, nn_x_load(k, place, l, NULL));
  nn_x *better = nn_let(k, is_better(L, s, value, old));
  nn_store(k, best, l, nn_x_select(k, better, value, old), NULL);
  nn_store(k, place, l, nn_x_select(k, better, at, old_place), NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
  l = nn_lanes_begin(L, lanes);
  lane_index(L, s, i, l, nn_x_int(k, 0), index);
  mask = tail_mask(L, s, index, is_tail);
  int n = 0;
  for (int d = 0; d < s->x->type.rank; d++)
    if (d != s->axis || nn_attr_int(s->op, "keepdims")) to[n++] = index[d];
  if (mask) nn_guard_push(L, mask);
  nn_write(L, s->y, to, nn_let(k, nn_x_load(k, place, l, NULL)));
  if (mask) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

static nn_status lower_arg(nn_lower *L, nn_op *op) {
  scan s = {.op = op, .x = op->in[0], .y = op->out[0], .block = arg_block};
  nn_dtype t = s.x->type.dtype;
  s.acc = t == NN_BOOL ? NN_I32 : nn_acc_dtype(t);
  set_scan(&s, nn_target_lanes(L->target, s.acc));
  emit_scan(L, &s);
  return NN_OK;
}

nn_status lower_arg_max(nn_lower *L, nn_op *op) { return lower_arg(L, op); }
nn_status lower_arg_min(nn_lower *L, nn_op *op) { return lower_arg(L, op); }

/* ---- cum_sum -------------------------------------------------------------------------------------------------------
 */

static void sum_block(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  const scan *s = data;
  nn_kernel *k = L->kernel;
  bool exclusive = nn_attr_int(s->op, "exclusive") != 0;
  nn_x *index[NN_MAX_RANK], *count = nn_dim_x(L, s->x->type.dims[s->axis]);
  nn_buf *sum = nn_regs(L, s->acc, lanes);
  nn_x *l = nn_lanes_begin(L, lanes);
  nn_store(k, sum, l, nn_zero(L, s->acc), NULL);
  nn_lanes_end(L, lanes);
  nn_x *at = nn_loop_begin(k, NN_FOR, "at", nn_x_int(k, 0), count);
  if (nn_attr_int(s->op, "reverse")) at = nn_let(k, nn_xi_sub(k, nn_xi_addc(k, count, -1), at));
  l = nn_lanes_begin(L, lanes);
  lane_index(L, s, i, l, at, index);
  nn_x *mask = tail_mask(L, s, index, is_tail);
  if (mask) nn_guard_push(L, mask);
  nn_x *old = nn_let(k, nn_x_load(k, sum, l, NULL));
  nn_x *more = nn_let(k, nn_x_binary(k, NN_X_ADD, old, nn_x_cast(k, nn_read(L, s->x, index), s->acc)));
  nn_write(L, s->y, index, nn_x_cast(k, exclusive ? old : more, s->y->type.dtype));
  if (mask) nn_guard_pop(L);
  nn_store(k, sum, l, more, NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
}

nn_status lower_cum_sum(nn_lower *L, nn_op *op) {
  scan s = {.op = op, .x = op->in[0], .y = op->out[0], .block = sum_block};
  s.acc = nn_acc_dtype(s.x->type.dtype);
  set_scan(&s, nn_target_lanes(L->target, s.acc));
  emit_scan(L, &s);
  return NN_OK;
}
