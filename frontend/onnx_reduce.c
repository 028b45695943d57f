/* ONNX reductions, ArgMax, ArgMin, CumSum. */
#include "frontend/onnx.h"

/* What to reduce, and over which axes. shape: of the result, where it is not the one that follows from x
   and axes (axes that are known only while running); else NULL. */
typedef struct reduction {
  nn_value *x;
  int64_t axes[NN_MAX_RANK];
  int naxes;
  bool keepdims;
  const nn_dim *shape;
  int shape_rank;
} reduction;

/* ---- axes that are known only while running --------------------------------------------------- */
/* x is gathered into [kept, reduced], so that axis 1 is what is reduced. The sizes of x are split for that
   in two: kept[i] is 1 where axis i is reduced, reduced[i] is 1 where it is not. Element (o, r) is x at
   offset(o in kept) + offset(r in reduced). */

/* bool[rank]: is axis i among the values of input 1? Their range is checked on a copy, so that they stay
   values: as symbols they would make every size below a formula of them. */
static nn_value *mark_axes(onnx_node *n, int rank) {
  nn_builder *b = n->b;
  nn_value *axes = onnx_to_i64(n, n->in[1]);
  const nn_dim *bound;
  int count;
  if (nn_b_elems(b, nn_b_unary(b, NN_OP_COPY, axes), -rank, NULL, &bound, &count) != NN_OK) return NULL;
  for (int i = 0; i < count; i++)
    if (nn_b_check(b, "le", bound[i], nn_dim_const(n->m, rank - 1), "axis to reduce") != NN_OK) return NULL;
  nn_value *positive =
      nn_b_select(b, nn_b_scalar_op(b, NN_OP_LT, axes, 0), nn_b_scalar_op(b, NN_OP_ADD, axes, rank), axes);
  nn_dim dims[2] = {nn_dim_const(n->m, count), nn_dim_const(n->m, 1)}, all = nn_dim_const(n->m, rank);
  nn_value *column = nn_b_reshape(b, positive, 2, dims);
  nn_value *is_equal = nn_b_binary(b, NN_OP_EQ, column, nn_b_iota(b, NN_I64, 1, &all, 0));
  return nn_b_reduce(b, NN_OP_REDUCE_MAX, is_equal, (int64_t[]){0}, 1, false);
}

static nn_value *as_value(onnx_node *n, nn_dim d) { return onnx_as_scalar(n, nn_b_dims(n->b, &d, 1)); }

/* i64[count of sizes]: for each index of a tensor of these sizes, its offset in x. */
static nn_value *offsets(onnx_node *n, nn_type x, const nn_dim *sizes) {
  nn_builder *b = n->b;
  nn_module *m = n->m;
  nn_dim total = nn_dim_product(m, sizes, x.rank), inner = nn_dim_const(m, 1), stride = nn_dim_const(m, 1);
  nn_value *flat = nn_b_iota(b, NN_I64, 1, &total, 0), *sum = nn_b_fill(b, NN_I64, 0, 1, &total);
  for (int i = x.rank - 1; i >= 0; i--) {
    nn_value *outer = nn_b_binary(b, NN_OP_DIV, flat, as_value(n, inner));
    nn_value *index = nn_b_binary(b, NN_OP_FMOD, outer, as_value(n, sizes[i]));
    sum = nn_b_binary(b, NN_OP_ADD, sum, nn_b_binary(b, NN_OP_MUL, index, as_value(n, stride)));
    inner = nn_dim_mul(m, inner, sizes[i]);
    stride = nn_dim_mul(m, stride, x.dims[i]);
  }
  return sum;
}

/* i64[rank - count]: the sizes of x whose axes are not marked, in order. */
static nn_value *unmarked_sizes(onnx_node *n, nn_value *marks, nn_value *sizes, int count) {
  nn_builder *b = n->b;
  nn_value *is_kept = nn_b_cast(b, nn_b_unary(b, NN_OP_NOT, marks), NN_I64);
  nn_op *op = is_kept ? nn_b_begin(b, NN_OP_CUM_SUM, &is_kept, 1, -1) : NULL;
  if (!op) return NULL;
  nn_set_int(op, "exclusive", 1);
  nn_dim dims[2] = {nn_dim_const(n->m, count), nn_dim_const(n->m, 1)};
  nn_value *is_at = nn_b_binary(b, NN_OP_EQ, nn_b_end(b, op), nn_b_iota(b, NN_I64, 2, dims, 0));
  nn_value *taken = nn_b_select(b, is_at, nn_b_binary(b, NN_OP_MUL, sizes, is_kept), nn_b_scalar(b, NN_I64, 0));
  return nn_b_reduce(b, NN_OP_REDUCE_SUM, taken, (int64_t[]){1}, 1, false);
}

/* naxes axes, all different, were asked for. */
static nn_status find_shape(onnx_node *n, reduction *r, nn_value *marks, nn_value *sizes, const nn_dim *kept) {
  r->shape = kept;
  r->shape_rank = r->x->type.rank;
  if (r->keepdims) return NN_OK;
  int count;
  r->shape_rank -= r->naxes;
  if (r->shape_rank < 0)
    return onnx_fail(n, "%d axes, expected at most %d, the rank of the input", r->naxes, r->x->type.rank);
  if (r->shape_rank == 0) return NN_OK;
  nn_value *left = unmarked_sizes(n, marks, sizes, r->shape_rank);
  return left ? nn_b_elems(n->b, left, 0, onnx_hints(n, 0, r->shape_rank), &r->shape, &count) : NN_FAIL;
}

static nn_status gather_by_axes(onnx_node *n, reduction *r) {
  nn_builder *b = n->b;
  nn_type x = r->x->type;
  const nn_dim *kept, *reduced, one = nn_dim_const(n->m, 1);
  int count;
  nn_value *marks = mark_axes(n, x.rank), *sizes = nn_b_dims(b, x.dims, x.rank), *unit = nn_b_scalar(b, NN_I64, 1);
  nn_value *kept_sizes = nn_b_select(b, marks, unit, sizes), *reduced_sizes = nn_b_select(b, marks, sizes, unit);
  if (!kept_sizes || !reduced_sizes) return NN_FAIL;
  NN_TRY(nn_b_elems(b, kept_sizes, 0, r->keepdims ? onnx_hints(n, 0, x.rank) : NULL, &kept, &count));
  NN_TRY(nn_b_elems(b, reduced_sizes, 0, NULL, &reduced, &count));
  NN_TRY(find_shape(n, r, marks, sizes, kept));
  nn_dim column[2] = {nn_dim_product(n->m, kept, x.rank), one}, total = nn_type_count(n->m, x);
  nn_value *at = nn_b_binary(b, NN_OP_ADD, nn_b_reshape(b, offsets(n, x, kept), 2, column), offsets(n, x, reduced));
  nn_op *op = at ? nn_b_begin(b, NN_OP_GATHER, (nn_value *[]){nn_b_reshape(b, r->x, 1, &total), at}, 2, -1) : NULL;
  if (!op) return NN_FAIL;
  r->x = nn_b_end(b, op);
  r->axes[0] = r->naxes = 1;
  r->keepdims = false;
  return r->x ? NN_OK : NN_FAIL;
}

/* ---- all reductions --------------------------------------------------------------------------- */

/* Axes were an attribute until opset 13 (ReduceSum) or 18 (the others), an input since. The form that the
   node has is taken. No axes: all of them, or none if noop_with_empty_axes is set. */
static nn_status read_axes(onnx_node *n, reduction *r) {
  int rank = r->x->type.rank, count = 0;
  int64_t length = 0;
  const int64_t *axes = onnx_ints(n, "axes", &count);
  bool is_input = n->nin > 1 && n->in[1];
  if (is_input && nn_type_static_count(n->in[1]->type, &length) && length > 0 && length <= rank &&
      !onnx_is_const(n, 1)) {
    NN_TRY(onnx_need_kind(n, 1, ONNX_INT));
    NN_TRY(onnx_need_rank(n, 1, 0, 1));
    r->naxes = (int)length;
    return gather_by_axes(n, r);
  }
  if (is_input && length > 0) NN_TRY(onnx_const_ints(n, 1, &axes, &count));
  if (count > 0) {
    NN_TRY(onnx_axes(n, axes, count, rank, r->axes));
    r->naxes = count;
  } else if (!onnx_int(n, "noop_with_empty_axes", 0)) {
    for (int i = 0; i < rank; i++) r->axes[i] = i;
    r->naxes = rank;
  }
  return NN_OK;
}

static nn_status begin_reduction(onnx_node *n, unsigned kinds, reduction *r) {
  NN_TRY(onnx_need(n, 1, 2, 1));
  NN_TRY(onnx_need_kind(n, 0, kinds));
  *r = (reduction){.x = n->in[0], .keepdims = onnx_int(n, "keepdims", 1) != 0};
  return read_axes(n, r);
}

static nn_status give_shaped(onnx_node *n, const reduction *r, nn_value *y) {
  return onnx_give(n, 0, r->shape ? nn_b_reshape(n->b, y, r->shape_rank, r->shape) : y);
}

static nn_value *reduce(onnx_node *n, const reduction *r, nn_opcode code, nn_value *x) {
  return nn_b_reduce(n->b, code, x, r->axes, r->naxes, r->keepdims);
}

static nn_status give_reduction(onnx_node *n, nn_opcode code, unsigned kinds) {
  reduction r;
  NN_TRY(begin_reduction(n, kinds, &r));
  return give_shaped(n, &r, reduce(n, &r, code, r.x));
}

nn_status onnx_ReduceMax(onnx_node *n) { return give_reduction(n, NN_OP_REDUCE_MAX, ONNX_NUMBER | ONNX_BOOL); }
nn_status onnx_ReduceMin(onnx_node *n) { return give_reduction(n, NN_OP_REDUCE_MIN, ONNX_NUMBER | ONNX_BOOL); }
nn_status onnx_ReduceProd(onnx_node *n) { return give_reduction(n, NN_OP_REDUCE_PROD, ONNX_NUMBER); }
nn_status onnx_ReduceSum(onnx_node *n) { return give_reduction(n, NN_OP_REDUCE_SUM, ONNX_NUMBER); }

nn_status onnx_ReduceMean(onnx_node *n) {
  reduction r;
  NN_TRY(begin_reduction(n, ONNX_NUMBER, &r));
  return give_shaped(n, &r, onnx_mean(n, r.x, r.axes, r.naxes, r.keepdims));
}

/* What is done before and after the sum. wide: the type computed in; narrow floats go through f32, since
   squares and sums may leave their range; integers go through f64 where the formula has a root or a
   logarithm. */
typedef nn_value *reduce_fn(onnx_node *n, const reduction *r, nn_value *wide);

static nn_status give_composed(onnx_node *n, reduce_fn *formula, bool needs_float) {
  reduction r;
  NN_TRY(begin_reduction(n, ONNX_NUMBER, &r));
  nn_dtype t = n->in[0]->type.dtype;
  nn_value *wide = needs_float && nn_dtype_is_int(t) ? nn_b_cast(n->b, r.x, NN_F64) : onnx_wide(n, r.x);
  return give_shaped(n, &r, nn_b_cast(n->b, formula(n, &r, wide), t));
}

static nn_value *reduce_l1(onnx_node *n, const reduction *r, nn_value *x) {
  return reduce(n, r, NN_OP_REDUCE_SUM, nn_b_unary(n->b, NN_OP_ABS, x));
}

static nn_value *reduce_squares(onnx_node *n, const reduction *r, nn_value *x) {
  return reduce(n, r, NN_OP_REDUCE_SUM, onnx_square(n, x));
}

static nn_value *reduce_l2(onnx_node *n, const reduction *r, nn_value *x) {
  return nn_b_unary(n->b, NN_OP_SQRT, reduce_squares(n, r, x));
}

static nn_value *reduce_log_sum(onnx_node *n, const reduction *r, nn_value *x) {
  return nn_b_unary(n->b, NN_OP_LOG, reduce(n, r, NN_OP_REDUCE_SUM, x));
}

/* max + log(sum(exp(x - max))), with 0 for an infinite maximum: no inf - inf. */
static nn_value *reduce_log_sum_exp(onnx_node *n, const reduction *r, nn_value *x) {
  nn_builder *b = n->b;
  nn_value *max = nn_b_reduce(b, NN_OP_REDUCE_MAX, x, r->axes, r->naxes, true);
  if (!max) return NULL;
  nn_value *shift = nn_b_select(b, nn_b_unary(b, NN_OP_IS_INF, max), nn_b_scalar(b, max->type.dtype, 0), max);
  nn_value *sum = reduce(n, r, NN_OP_REDUCE_SUM, nn_b_unary(b, NN_OP_EXP, nn_b_binary(b, NN_OP_SUB, x, shift)));
  if (!sum) return NULL;
  nn_value *back = nn_b_reshape(b, shift, sum->type.rank, sum->type.dims);
  return nn_b_binary(b, NN_OP_ADD, nn_b_unary(b, NN_OP_LOG, sum), back);
}

nn_status onnx_ReduceL1(onnx_node *n) { return give_composed(n, reduce_l1, false); }
nn_status onnx_ReduceL2(onnx_node *n) { return give_composed(n, reduce_l2, true); }
nn_status onnx_ReduceLogSum(onnx_node *n) { return give_composed(n, reduce_log_sum, true); }
nn_status onnx_ReduceLogSumExp(onnx_node *n) { return give_composed(n, reduce_log_sum_exp, true); }
nn_status onnx_ReduceSumSquare(onnx_node *n) { return give_composed(n, reduce_squares, false); }

static nn_status give_arg(onnx_node *n, nn_opcode code) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  NN_TRY(onnx_need_kind(n, 0, ONNX_NUMBER));
  int axis = 0;
  NN_TRY(onnx_axis(n, onnx_int(n, "axis", 0), n->in[0]->type.rank, &axis));
  nn_op *op = nn_b_begin(n->b, code, n->in, 1, -1);
  if (!op) return NN_FAIL;
  nn_set_int(op, "axis", axis);
  nn_set_int(op, "keepdims", onnx_int(n, "keepdims", 1) != 0);
  nn_set_int(op, "last", onnx_int(n, "select_last_index", 0) != 0);
  return onnx_give(n, 0, nn_b_end(n->b, op));
}

nn_status onnx_ArgMax(onnx_node *n) { return give_arg(n, NN_OP_ARG_MAX); }
nn_status onnx_ArgMin(onnx_node *n) { return give_arg(n, NN_OP_ARG_MIN); }

static nn_value *cum_sum(onnx_node *n, int axis) {
  nn_op *op = nn_b_begin(n->b, NN_OP_CUM_SUM, n->in, 1, -1);
  if (!op) return NULL;
  nn_set_int(op, "axis", axis);
  nn_set_int(op, "exclusive", onnx_int(n, "exclusive", 0) != 0);
  nn_set_int(op, "reverse", onnx_int(n, "reverse", 0) != 0);
  return nn_b_end(n->b, op);
}

/* An axis that is known only while running: the sums along each axis, of which it picks one. */
static nn_status pick_cum_sum(onnx_node *n, nn_value **y) {
  nn_builder *b = n->b;
  nn_value *axis = onnx_as_scalar(n, onnx_to_i64(n, n->in[1]));
  int rank = n->in[0]->type.rank, count;
  const nn_dim *bound;
  if (!axis) return NN_FAIL;
  NN_TRY(nn_b_elems(b, axis, -rank, NULL, &bound, &count));
  NN_TRY(nn_b_check(b, "le", bound[0], nn_dim_const(n->m, rank - 1), "axis"));
  *y = cum_sum(n, 0);
  for (int i = 1; i < rank; i++) {
    nn_value *is_it =
        nn_b_binary(b, NN_OP_OR, nn_b_scalar_op(b, NN_OP_EQ, axis, i), nn_b_scalar_op(b, NN_OP_EQ, axis, i - rank));
    *y = nn_b_select(b, is_it, cum_sum(n, i), *y);
  }
  return *y ? NN_OK : NN_FAIL;
}

nn_status onnx_CumSum(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 2, 1));
  NN_TRY(onnx_need_kind(n, 0, ONNX_NUMBER));
  NN_TRY(onnx_need_kind(n, 1, ONNX_INT));
  NN_TRY(onnx_need_rank(n, 0, 1, -1));
  int64_t length;
  if (!nn_type_static_count(n->in[1]->type, &length) || length != 1)
    return onnx_fail(n, "axis is %s, expected one value", nn_type_text(n->m->arena, n->in[1]->type));
  nn_value *y;
  if (!onnx_is_const(n, 1)) {
    NN_TRY(pick_cum_sum(n, &y));
  } else {
    const int64_t *given;
    int count, axis;
    NN_TRY(onnx_const_ints(n, 1, &given, &count));
    NN_TRY(onnx_axis(n, given[0], n->in[0]->type.rank, &axis));
    y = cum_sum(n, axis);
  }
  ONNX_GIVE(n, y);
}
