/* Shape rules of pools: windows (op_conv.c) over the spatial dims of x[N,C,spatial..]. */
#include "ir/ir.h"

/* A window must see at least one element: padding is smaller than its extent. Negative padding would crop,
   which is pad's job. */
static nn_status check_pool_pads(nn_op *op, int nsp) {
  int npads;
  const nn_dim *pads = nn_attr_dims(op, "pads", &npads);
  const int64_t *kernel = nn_attr_ints(op, "kernel", NULL), *dilations = nn_attr_ints(op, "dilations", NULL);
  if (npads) NN_TRY(nn_need_count(op, "pads", 2 * nsp));
  if (nn_op_attr(op, "dilations")->count) NN_TRY(nn_need_count(op, "dilations", nsp));
  for (int i = 0; i < npads; i++) {
    int64_t pad, dilation = nn_op_attr(op, "dilations")->count ? dilations[i % nsp] : 1;
    if (!nn_dim_is_const(pads[i], &pad)) continue;
    if (pad >= 0 && (dilation < 1 || pad / dilation + (pad % dilation != 0) <= kernel[i % nsp] - 1)) continue;
    return nn_fail(op, "pads[%d] is %lld, expected 0 or more, and less than the window of %lld (dilation %lld)", i,
                   (long long)pad, (long long)kernel[i % nsp], (long long)dilation);
  }
  return NN_OK;
}

static nn_status pool_dims(nn_op *op, nn_dim *dims) {
  nn_module *m = op->graph->module;
  nn_type x = op->in[0]->type;
  nn_dim kernel[NN_MAX_RANK];
  NN_TRY(nn_need_rank(op, 0, 3, 5));
  int nsp = x.rank - 2;
  NN_TRY(nn_need_count(op, "kernel", nsp));
  NN_TRY(nn_need_ints_min(op, "kernel", 1));
  NN_TRY(nn_need_range(op, "ceil", 0, 1));
  NN_TRY(check_pool_pads(op, nsp));
  for (int d = 0; d < nsp; d++) kernel[d] = nn_dim_const(m, nn_attr_ints(op, "kernel", NULL)[d]);
  dims[0] = x.dims[0];
  dims[1] = x.dims[1];
  return nn_window_dims(op, kernel, nn_attr_int(op, "ceil") != 0, dims + 2);
}

nn_status shape_max_pool(nn_op *op) {
  nn_dim dims[NN_MAX_RANK];
  NN_TRY(nn_need_kind(op, 0, NN_SET_NUMBER));
  NN_TRY(nn_need_range(op, "storage_order", 0, 1));
  NN_TRY(pool_dims(op, dims));
  nn_type x = op->in[0]->type;
  NN_TRY(nn_give(op, 0, x.dtype, x.rank, dims));
  return nn_give(op, 1, NN_I64, x.rank, dims);
}

nn_status shape_avg_pool(nn_op *op) {
  nn_dim dims[NN_MAX_RANK];
  NN_TRY(nn_need_kind(op, 0, NN_SET_FLOAT));
  NN_TRY(nn_need_range(op, "count_include_pad", 0, 1));
  NN_TRY(nn_need_range(op, "sum", 0, 1));
  NN_TRY(pool_dims(op, dims));
  return nn_give(op, 0, op->in[0]->type.dtype, op->in[0]->type.rank, dims);
}
