/* Shape rules of softmax and of normalisation. */
#include "ir/ir.h"

static nn_status like_operand(nn_op *op) {
  int axis;
  nn_type x = op->in[0]->type;
  NN_TRY(nn_need_kind(op, 0, NN_SET_FLOAT));
  NN_TRY(nn_need_axis(op, "axis", x.rank, &axis));
  return nn_give(op, 0, x.dtype, x.rank, x.dims);
}

nn_status shape_softmax(nn_op *op) { return like_operand(op); }
nn_status shape_log_softmax(nn_op *op) { return like_operand(op); }

/* Mean and 1/sqrt(var + epsilon) keep the normalised dims as 1, and are never narrower than f32. */
nn_status shape_normalize(nn_op *op) {
  int axis;
  nn_type x = op->in[0]->type;
  NN_TRY(nn_need_kind(op, 0, NN_SET_FLOAT));
  NN_TRY(nn_need_axis(op, "axis", x.rank, &axis));
  double epsilon = nn_attr_float(op, "epsilon");
  if (!(epsilon >= 0)) return nn_fail(op, "epsilon is %g, expected 0 or more", epsilon);
  nn_dim dims[NN_MAX_RANK];
  for (int d = 0; d < x.rank; d++) dims[d] = d < axis ? x.dims[d] : nn_dim_const(op->graph->module, 1);
  nn_dtype statistics = x.dtype == NN_F64 ? NN_F64 : NN_F32;
  NN_TRY(nn_give(op, 0, x.dtype, x.rank, x.dims));
  NN_TRY(nn_give(op, 1, statistics, x.rank, dims));
  return nn_give(op, 2, statistics, x.rank, dims);
}
