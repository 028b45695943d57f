/* ONNX reductions, ArgMax, ArgMin, CumSum. */
#include "frontend/onnx.h"

typedef struct reduction {
  int64_t axes[NN_MAX_RANK];
  int naxes;
  bool keepdims;
} reduction;

/* Axes were an attribute until opset 13 (ReduceSum) or 18 (the others), an input since. The form that the
   node has is taken. No axes: all of them, or none if noop_with_empty_axes is set. */
static nn_status read_axes(onnx_node *n, reduction *r) {
  int rank = n->in[0]->type.rank, count = 0;
  const int64_t *axes = onnx_ints(n, "axes", &count);
  if (n->nin > 1 && n->in[1]) NN_TRY(onnx_const_ints(n, 1, &axes, &count));
  r->keepdims = onnx_int(n, "keepdims", 1) != 0;
  r->naxes = 0;
  if (count > rank) return onnx_fail(n, "%d axes, expected at most %d, the rank of the input", count, rank);
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
  return read_axes(n, r);
}

static nn_value *reduce(onnx_node *n, const reduction *r, nn_opcode code, nn_value *x) {
  return nn_b_reduce(n->b, code, x, r->axes, r->naxes, r->keepdims);
}

static nn_status give_reduction(onnx_node *n, nn_opcode code, unsigned kinds) {
  reduction r;
  NN_TRY(begin_reduction(n, kinds, &r));
  return onnx_give(n, 0, reduce(n, &r, code, n->in[0]));
}

nn_status onnx_ReduceMax(onnx_node *n) { return give_reduction(n, NN_OP_REDUCE_MAX, ONNX_NUMBER | ONNX_BOOL); }
nn_status onnx_ReduceMin(onnx_node *n) { return give_reduction(n, NN_OP_REDUCE_MIN, ONNX_NUMBER | ONNX_BOOL); }
nn_status onnx_ReduceProd(onnx_node *n) { return give_reduction(n, NN_OP_REDUCE_PROD, ONNX_NUMBER); }
nn_status onnx_ReduceSum(onnx_node *n) { return give_reduction(n, NN_OP_REDUCE_SUM, ONNX_NUMBER); }

nn_status onnx_ReduceMean(onnx_node *n) {
  reduction r;
  NN_TRY(begin_reduction(n, ONNX_NUMBER, &r));
  ONNX_GIVE(n, onnx_mean(n, n->in[0], r.axes, r.naxes, r.keepdims));
}

/* What is done before and after the sum. wide: the type computed in; narrow floats go through f32, since
   squares and sums may leave their range; integers go through f64 where the formula has a root or a
   logarithm. */
typedef nn_value *reduce_fn(onnx_node *n, const reduction *r, nn_value *wide);

static nn_status give_composed(onnx_node *n, reduce_fn *formula, bool needs_float) {
  reduction r;
  NN_TRY(begin_reduction(n, ONNX_NUMBER, &r));
  nn_dtype t = n->in[0]->type.dtype;
  nn_value *wide = needs_float && nn_dtype_is_int(t) ? nn_b_cast(n->b, n->in[0], NN_F64) : onnx_wide(n, n->in[0]);
  ONNX_GIVE(n, nn_b_cast(n->b, formula(n, &r, wide), t));
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
  int axis;
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

nn_status onnx_CumSum(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 2, 1));
  NN_TRY(onnx_need_kind(n, 0, ONNX_NUMBER));
  const int64_t *given;
  int count, axis;
  NN_TRY(onnx_const_ints(n, 1, &given, &count));
  if (count != 1) return onnx_fail(n, "axis has %d values, expected 1", count);
  NN_TRY(onnx_axis(n, given[0], n->in[0]->type.rank, &axis));
  nn_op *op = nn_b_begin(n->b, NN_OP_CUM_SUM, n->in, 1, -1);
  if (!op) return NN_FAIL;
  nn_set_int(op, "axis", axis);
  nn_set_int(op, "exclusive", onnx_int(n, "exclusive", 0) != 0);
  nn_set_int(op, "reverse", onnx_int(n, "reverse", 0) != 0);
  ONNX_GIVE(n, nn_b_end(n->b, op));
}
