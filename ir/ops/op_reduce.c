/* Shape rules of reductions along axes, and of cumulative sums. */
#include "ir/ir.h"

/* axes of a reduction: sorted, non-negative, each once; marks them. */
static nn_status check_axes(nn_op *op, bool *is_reduced) {
  int naxes, rank = op->in[0]->type.rank;
  const int64_t *axes = nn_attr_ints(op, "axes", &naxes);
  for (int i = 0; i < naxes; i++) {
    int64_t least = i ? axes[i - 1] + 1 : 0;
    if (axes[i] < least || axes[i] >= rank) {
      return nn_fail(op, "axes[%d] is %lld, expected %lld to %d (sorted, each axis once)", i, (long long)axes[i],
                     (long long)least, rank - 1);
    }
    is_reduced[axes[i]] = true;
  }
  return NN_OK;
}

static nn_status give_reduced(nn_op *op, nn_dtype dtype, const bool *is_reduced) {
  NN_TRY(nn_need_range(op, "keepdims", 0, 1));
  nn_type x = op->in[0]->type;
  bool keepdims = nn_attr_int(op, "keepdims") != 0;
  nn_dim dims[NN_MAX_RANK];
  int rank = 0;
  for (int d = 0; d < x.rank; d++) {
    if (!is_reduced[d])
      dims[rank++] = x.dims[d];
    else if (keepdims)
      dims[rank++] = nn_dim_const(op->graph->module, 1);
  }
  return nn_give(op, 0, dtype, rank, dims);
}

static nn_status shape_reduce(nn_op *op, unsigned set) {
  bool is_reduced[NN_MAX_RANK] = {false};
  NN_TRY(nn_need_kind(op, 0, set));
  NN_TRY(check_axes(op, is_reduced));
  return give_reduced(op, op->in[0]->type.dtype, is_reduced);
}

nn_status shape_reduce_sum(nn_op *op) { return shape_reduce(op, NN_SET_NUMBER); }
nn_status shape_reduce_prod(nn_op *op) { return shape_reduce(op, NN_SET_NUMBER); }
nn_status shape_reduce_max(nn_op *op) { return shape_reduce(op, NN_SET_NUMBER | NN_SET_BOOL); }
nn_status shape_reduce_min(nn_op *op) { return shape_reduce(op, NN_SET_NUMBER | NN_SET_BOOL); }

/* Nothing has no largest element: an empty axis is refused unless there is no result element either. */
static nn_status check_not_empty(nn_op *op, int axis) {
  nn_type x = op->in[0]->type;
  if (!nn_dim_is(x.dims[axis], 0)) return NN_OK;
  for (int d = 0; d < x.rank; d++) {
    if (d != axis && nn_dim_is(x.dims[d], 0)) return NN_OK;
  }
  return nn_fail(op, "axis %d of operand 0 is empty, expected at least one element to choose from", axis);
}

static nn_status shape_arg(nn_op *op) {
  int axis;
  bool is_reduced[NN_MAX_RANK] = {false};
  NN_TRY(nn_need_kind(op, 0, NN_SET_NUMBER));
  NN_TRY(nn_need_axis(op, "axis", op->in[0]->type.rank, &axis));
  NN_TRY(nn_need_range(op, "last", 0, 1));
  NN_TRY(check_not_empty(op, axis));
  is_reduced[axis] = true;
  return give_reduced(op, NN_I64, is_reduced);
}

nn_status shape_arg_max(nn_op *op) { return shape_arg(op); }
nn_status shape_arg_min(nn_op *op) { return shape_arg(op); }

nn_status shape_cum_sum(nn_op *op) {
  int axis;
  nn_type x = op->in[0]->type;
  NN_TRY(nn_need_kind(op, 0, NN_SET_NUMBER));
  NN_TRY(nn_need_axis(op, "axis", x.rank, &axis));
  NN_TRY(nn_need_range(op, "exclusive", 0, 1));
  NN_TRY(nn_need_range(op, "reverse", 0, 1));
  return nn_give(op, 0, x.dtype, x.rank, x.dims);
}
