/* Shape rules of batched matrix products, and of products with weights in panels. */
#include "ir/ir.h"

/* Products of integers of 16 bits and less are summed in i32; signedness may differ then. */
nn_status nn_product_dtype(nn_op *op, nn_dtype *result) {
  nn_dtype x = op->in[0]->type.dtype, y = op->in[1]->type.dtype;
  NN_TRY(nn_need_kind(op, 0, NN_SET_NUMBER));
  NN_TRY(nn_need_kind(op, 1, NN_SET_NUMBER));
  if (nn_dtype_is_int(x) && nn_dtype_is_int(y) && nn_dtype_bits(x) <= 16 && nn_dtype_bits(y) <= 16) {
    *result = NN_I32;
    return NN_OK;
  }
  *result = x;
  return nn_need_same_dtype(op, 0, 1);
}

/* A batch dim is the result's or 1. */
static nn_status merge_batch_dims(nn_op *op, int nbatch, nn_dim *dims) {
  nn_type x = op->in[0]->type, y = op->in[1]->type;
  for (int d = 0; d < nbatch; d++) {
    bool x_is_one = nn_dim_is(x.dims[d], 1), y_is_one = nn_dim_is(y.dims[d], 1);
    if (!x_is_one && !y_is_one) NN_TRY(nn_need_dim(op, 1, d, x.dims[d]));
    dims[d] = x_is_one ? y.dims[d] : y_is_one ? x.dims[d] : nn_dim_prefer(op->graph->module, x.dims[d], y.dims[d]);
  }
  return NN_OK;
}

nn_status shape_matmul(nn_op *op) {
  nn_dtype dtype;
  nn_dim dims[NN_MAX_RANK];
  NN_TRY(nn_product_dtype(op, &dtype));
  NN_TRY(nn_need_rank(op, 0, 2, NN_MAX_RANK));
  NN_TRY(nn_need_range(op, "trans_a", 0, 1));
  NN_TRY(nn_need_range(op, "trans_b", 0, 1));
  nn_type x = op->in[0]->type, y = op->in[1]->type;
  NN_TRY(nn_need_rank(op, 1, x.rank, x.rank));
  int last = x.rank - 1;
  int trans_a = (int)nn_attr_int(op, "trans_a"), trans_b = (int)nn_attr_int(op, "trans_b");
  NN_TRY(nn_need_dim(op, 1, last - 1 + trans_b, x.dims[last - trans_a]));
  NN_TRY(merge_batch_dims(op, last - 1, dims));
  dims[last - 1] = x.dims[last - 1 + trans_a];
  dims[last] = y.dims[last - trans_b];
  return nn_give(op, 0, dtype, x.rank, dims);
}

nn_status shape_paired_weights(nn_op *op) {
  nn_module *m = op->graph->module;
  NN_TRY(nn_need_dtype(op, 0, NN_F32));
  NN_TRY(nn_need_rank(op, 0, 2, 3));
  nn_type p = op->in[0]->type;
  for (int d = 0; d < p.rank; d++)
    if (!nn_dim_is_const(p.dims[d], NULL)) return nn_fail(op, "dimension %d of the weights is %s, expected a number", d, nn_dim_text(m->arena, p.dims[d]));
  nn_dim depth = nn_dim_add(m, p.dims[1], nn_dim_const(m, 2));
  if (p.rank == 3) return nn_give(op, 0, NN_F32, 3, (nn_dim[]){p.dims[0], depth, p.dims[2]});
  NN_TRY(nn_need_range(op, "width", 1, INT32_MAX));
  nn_dim width = nn_dim_const(m, nn_attr_int(op, "width"));
  return nn_give(op, 0, NN_F32, 3, (nn_dim[]){nn_dim_ceildiv(m, p.dims[0], width), depth, width});
}

/* more: lines of a panel beyond the depth. */
static nn_status shape_of_panels(nn_op *op, int64_t more) {
  nn_module *m = op->graph->module;
  for (int i = 0; i < 2; i++) NN_TRY(nn_need_dtype(op, i, NN_F32));
  NN_TRY(nn_need_rank(op, 0, 2, NN_MAX_RANK));
  NN_TRY(nn_need_rank(op, 1, 3, 3));
  NN_TRY(nn_need_range(op, "columns", 0, INT64_MAX));
  nn_type x = op->in[0]->type, y = op->in[1]->type;
  NN_TRY(nn_need_dim(op, 1, 1, nn_dim_add(m, x.dims[x.rank - 1], nn_dim_const(m, more))));
  int64_t width, columns = nn_attr_int(op, "columns");
  if (!nn_dim_is_const(y.dims[2], &width) || width < 1)
    return nn_fail(op, "found panels of %s columns, expected a number, at least 1", nn_dim_text(m->arena, y.dims[2]));
  NN_TRY(nn_need_dim(op, 1, 0, nn_dim_const(m, columns / width + (columns % width != 0))));
  nn_dim dims[NN_MAX_RANK];
  for (int i = 0; i < x.rank; i++) dims[i] = i < x.rank - 1 ? x.dims[i] : nn_dim_const(m, columns);
  return nn_give(op, 0, NN_F32, x.rank, dims);
}

nn_status shape_matmul_panels(nn_op *op) { return shape_of_panels(op, 0); }

nn_status shape_matmul_paired(nn_op *op) {
  nn_type x = op->in[0]->type;
  NN_TRY(nn_need_rank(op, 0, 2, NN_MAX_RANK));
  if (!nn_dim_is_const(x.dims[x.rank - 1], NULL)) return nn_fail(op, "the depth is %s, expected a number", nn_dim_text(op->graph->module->arena, x.dims[x.rank - 1]));
  return shape_of_panels(op, 2);
}
