/* Shape rules of gathers, scatters and searches. Indices are i64. */
#include "ir/ir.h"

static const char *const reductions[] = {"none", "add", "mul", "max", "min", NULL};

/* Appends dims[from..to) of a type; false if they do not fit. */
static bool append_dims(nn_dim *dims, int *rank, nn_type type, int from, int to) {
  if (*rank + (to - from) > NN_MAX_RANK) return false;
  for (int d = from; d < to; d++) dims[(*rank)++] = type.dims[d];
  return true;
}

static nn_status fail_rank(nn_op *op, int rank) {
  return nn_fail(op, "the result has rank %d, expected at most %d", rank, NN_MAX_RANK);
}

nn_status shape_gather(nn_op *op) {
  int axis, rank = 0;
  nn_dim dims[NN_MAX_RANK];
  nn_type x = op->in[0]->type, indices = op->in[1]->type;
  NN_TRY(nn_need_dtype(op, 1, NN_I64));
  NN_TRY(nn_need_axis(op, "axis", x.rank, &axis));
  if (!append_dims(dims, &rank, x, 0, axis) || !append_dims(dims, &rank, indices, 0, indices.rank) ||
      !append_dims(dims, &rank, x, axis + 1, x.rank)) {
    return fail_rank(op, x.rank - 1 + indices.rank);
  }
  return nn_give(op, 0, x.dtype, rank, dims);
}

/* Off the axis, indices must not reach beyond the data. */
static nn_status check_indices_within(nn_op *op, int axis) {
  nn_type x = op->in[0]->type, indices = op->in[1]->type;
  for (int d = 0; d < x.rank; d++) {
    if (d == axis) continue;
    NN_TRY(nn_need_check(op, "le", indices.dims[d], x.dims[d], "dimension %d of the indices (axis is %d)", d, axis));
  }
  return NN_OK;
}

nn_status shape_gather_elements(nn_op *op) {
  int axis;
  nn_type x = op->in[0]->type, indices = op->in[1]->type;
  NN_TRY(nn_need_dtype(op, 1, NN_I64));
  NN_TRY(nn_need_axis(op, "axis", x.rank, &axis));
  NN_TRY(nn_need_rank(op, 1, x.rank, x.rank));
  NN_TRY(check_indices_within(op, axis));
  return nn_give(op, 0, x.dtype, indices.rank, indices.dims);
}

/* The last dim of ND indices: how many leading dims of the data (after the batch dims) an index fixes. */
static nn_status index_depth(nn_op *op, int batch, int *depth) {
  int64_t count;
  nn_type x = op->in[0]->type, indices = op->in[1]->type;
  NN_TRY(nn_need_dtype(op, 1, NN_I64));
  NN_TRY(nn_need_rank(op, 1, batch + 1, NN_MAX_RANK));
  nn_dim last = indices.dims[indices.rank - 1];
  if (!nn_dim_is_const(last, &count) || count < 1 || count > x.rank - batch) {
    return nn_fail(op, "the last dimension of the indices is %s, expected a number from 1 to %d",
                   nn_dim_text(op->graph->module->arena, last), x.rank - batch);
  }
  *depth = (int)count;
  return NN_OK;
}

nn_status shape_gather_nd(nn_op *op) {
  int depth, rank = 0;
  nn_dim dims[NN_MAX_RANK];
  nn_type x = op->in[0]->type, indices = op->in[1]->type;
  NN_TRY(nn_need_rank(op, 0, 1, NN_MAX_RANK));
  NN_TRY(nn_need_range(op, "batch_dims", 0, x.rank - 1));
  int batch = (int)nn_attr_int(op, "batch_dims");
  NN_TRY(index_depth(op, batch, &depth));
  for (int d = 0; d < batch; d++) NN_TRY(nn_need_dim(op, 1, d, x.dims[d]));
  if (!append_dims(dims, &rank, indices, 0, indices.rank - 1) || !append_dims(dims, &rank, x, batch + depth, x.rank)) {
    return fail_rank(op, indices.rank - 1 + x.rank - batch - depth);
  }
  for (int d = 0; d < batch; d++) dims[d] = nn_dim_prefer(op->graph->module, x.dims[d], indices.dims[d]);
  return nn_give(op, 0, x.dtype, rank, dims);
}

/* Updates are combined with the data: numbers, unless they replace. */
static nn_status check_reduction(nn_op *op) {
  NN_TRY(nn_need_one_of(op, "reduction", reductions));
  NN_TRY(nn_need_same_dtype(op, 0, 2));
  return nn_need_kind(op, 0, nn_attr_str(op, "reduction")[0] == 'n' ? NN_SET_ANY : NN_SET_NUMBER);
}

nn_status shape_scatter_elements(nn_op *op) {
  int axis;
  nn_type x = op->in[0]->type, indices = op->in[1]->type;
  NN_TRY(nn_need_dtype(op, 1, NN_I64));
  NN_TRY(check_reduction(op));
  NN_TRY(nn_need_axis(op, "axis", x.rank, &axis));
  NN_TRY(nn_need_rank(op, 1, x.rank, x.rank));
  NN_TRY(nn_need_rank(op, 2, x.rank, x.rank));
  for (int d = 0; d < x.rank; d++) NN_TRY(nn_need_dim(op, 2, d, indices.dims[d]));
  NN_TRY(check_indices_within(op, axis));
  return nn_give(op, 0, x.dtype, x.rank, x.dims);
}

nn_status shape_scatter_nd(nn_op *op) {
  int depth, rank = 0;
  nn_dim dims[NN_MAX_RANK];
  nn_type x = op->in[0]->type, indices = op->in[1]->type;
  NN_TRY(nn_need_rank(op, 0, 1, NN_MAX_RANK));
  NN_TRY(check_reduction(op));
  NN_TRY(index_depth(op, 0, &depth));
  if (!append_dims(dims, &rank, indices, 0, indices.rank - 1) || !append_dims(dims, &rank, x, depth, x.rank)) {
    return fail_rank(op, indices.rank - 1 + x.rank - depth);
  }
  NN_TRY(nn_need_rank(op, 2, rank, rank));
  for (int d = 0; d < rank; d++) NN_TRY(nn_need_dim(op, 2, d, dims[d]));
  return nn_give(op, 0, x.dtype, x.rank, x.dims);
}

nn_status shape_top_k(nn_op *op) {
  int axis;
  nn_dim dims[NN_MAX_RANK];
  nn_type x = op->in[0]->type;
  NN_TRY(nn_need_kind(op, 0, NN_SET_NUMBER));
  NN_TRY(nn_need_axis(op, "axis", x.rank, &axis));
  NN_TRY(nn_need_range(op, "largest", 0, 1));
  NN_TRY(nn_need_range(op, "sorted", 0, 1));
  NN_TRY(nn_need_count(op, "k", 1));
  nn_dim k = nn_attr_dims(op, "k", NULL)[0];
  NN_TRY(nn_need_check(op, "le", k, x.dims[axis], "k"));
  for (int d = 0; d < x.rank; d++) dims[d] = d == axis ? k : x.dims[d];
  NN_TRY(nn_give(op, 0, x.dtype, x.rank, dims));
  return nn_give(op, 1, NN_I64, x.rank, dims);
}

/* One column per non-zero element, with room for all of them; the second result says how many. */
nn_status shape_non_zero(nn_op *op) {
  nn_module *m = op->graph->module;
  nn_type x = op->in[0]->type;
  NN_TRY(nn_need_kind(op, 0, NN_SET_NUMBER | NN_SET_BOOL));
  nn_dim dims[2] = {nn_dim_const(m, x.rank), nn_type_count(m, x)};
  NN_TRY(nn_give(op, 0, NN_I64, 2, dims));
  return nn_give(op, 1, NN_I64, 0, NULL);
}
