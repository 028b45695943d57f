/* Shape rules of ops that move elements: broadcast, reshape, transpose, slice, pad, concat, tile, ... */
#include "ir/ir.h"

static const char *type_text(nn_op *op, int i) { return nn_type_text(op->graph->module->arena, op->in[i]->type); }
static const char *dim_text(nn_op *op, nn_dim d) { return nn_dim_text(op->graph->module->arena, d); }

/* ---- same elements, other shape ------------------------------------------------------------------- */

nn_status shape_broadcast(nn_op *op) {
  int rank;
  nn_type x = op->in[0]->type;
  const nn_dim *dims = nn_attr_dims(op, "dims", &rank);
  if (rank < x.rank) {
    return nn_fail(op, "broadcast of %s to rank %d, expected rank %d or more", type_text(op, 0), rank, x.rank);
  }
  for (int d = 0; d < x.rank; d++) {
    NN_TRY(nn_need_check(op, "broadcast", x.dims[d], dims[rank - x.rank + d], "dimension %d of operand 0", d));
  }
  return nn_give(op, 0, x.dtype, rank, dims);
}

nn_status shape_reshape(nn_op *op) {
  int rank;
  nn_module *m = op->graph->module;
  nn_type x = op->in[0]->type;
  const nn_dim *dims = nn_attr_dims(op, "dims", &rank);
  NN_TRY(nn_give(op, 0, x.dtype, rank, dims));
  nn_dim found = nn_type_count(m, x), wanted = nn_dim_product(m, dims, rank);
  return nn_need_check(op, "eq", found, wanted, "the number of elements of operand 0");
}

nn_status shape_transpose(nn_op *op) {
  nn_type x = op->in[0]->type;
  NN_TRY(nn_need_count(op, "perm", x.rank));
  const int64_t *perm = nn_attr_ints(op, "perm", NULL);
  bool is_taken[NN_MAX_RANK] = {false};
  nn_dim dims[NN_MAX_RANK];
  for (int d = 0; d < x.rank; d++) {
    if (perm[d] < 0 || perm[d] >= x.rank || is_taken[perm[d]]) {
      return nn_fail(op, "perm[%d] is %lld, expected a permutation of 0 to %d", d, (long long)perm[d], x.rank - 1);
    }
    is_taken[perm[d]] = true;
    dims[d] = x.dims[perm[d]];
  }
  return nn_give(op, 0, x.dtype, x.rank, dims);
}

/* ---- parts ---------------------------------------------------------------------------------------- */

/* least >= 0 and end <= dim: the slice stays inside its operand. */
static nn_status check_slice_range(nn_op *op, int axis, nn_dim least, nn_dim end) {
  nn_dim zero = nn_dim_const(op->graph->module, 0), dim = op->in[0]->type.dims[axis];
  NN_TRY(nn_need_check(op, "le", zero, least, "0, against the least index along dimension %d of operand 0,", axis));
  return nn_need_check(op, "le", end, dim, "the end of the slice along dimension %d of operand 0", axis);
}

/* Forward, an empty slice passes if its start is in 0..dim. Otherwise the claims are scaled by
   min(count, 1), so that they are 0 <= 0 for an empty slice. */
static nn_status check_slice_axis(nn_op *op, int axis, nn_dim start, nn_dim step, nn_dim count) {
  nn_module *m = op->graph->module;
  int64_t by;
  nn_dim one = nn_dim_const(m, 1);
  nn_dim last = nn_dim_add(m, start, nn_dim_mul(m, nn_dim_sub(m, count, one), step));
  if (nn_dim_is(step, 0)) return nn_fail(op, "steps[%d] is 0, expected another number", axis);
  if (nn_dim_is(count, 0)) return NN_OK;
  if (nn_dim_is_const(step, &by) && by > 0) return check_slice_range(op, axis, start, nn_dim_add(m, last, one));
  nn_dim any = nn_dim_min(m, count, one);
  nn_dim least = nn_dim_mul(m, nn_dim_min(m, start, last), any);
  nn_dim most = nn_dim_mul(m, nn_dim_max(m, start, last), any);
  return check_slice_range(op, axis, least, nn_dim_add(m, most, any));
}

nn_status shape_slice(nn_op *op) {
  nn_type x = op->in[0]->type;
  NN_TRY(nn_need_count(op, "starts", x.rank));
  NN_TRY(nn_need_count(op, "steps", x.rank));
  NN_TRY(nn_need_count(op, "dims", x.rank));
  const nn_dim *starts = nn_attr_dims(op, "starts", NULL), *steps = nn_attr_dims(op, "steps", NULL);
  const nn_dim *dims = nn_attr_dims(op, "dims", NULL);
  for (int d = 0; d < x.rank; d++) NN_TRY(check_slice_axis(op, d, starts[d], steps[d], dims[d]));
  return nn_give(op, 0, x.dtype, x.rank, dims);
}

/* Reflection, repetition and wrapping need something to repeat. */
static nn_status check_pad_source(nn_op *op, int axis, nn_dim before, nn_dim after) {
  if (nn_attr_str(op, "mode")[0] == 'c' || !nn_dim_is(op->in[0]->type.dims[axis], 0)) return NN_OK;
  if (nn_dim_is(before, 0) && nn_dim_is(after, 0)) return NN_OK;
  return nn_fail(op, "dimension %d of operand 0 (%s) is empty, expected elements for pad mode '%s'", axis,
                 type_text(op, 0), nn_attr_str(op, "mode"));
}

nn_status shape_pad(nn_op *op) {
  static const char *const modes[] = {"constant", "reflect", "edge", "wrap", NULL};
  nn_module *m = op->graph->module;
  nn_type x = op->in[0]->type;
  nn_dim dims[NN_MAX_RANK];
  NN_TRY(nn_need_same_dtype(op, 0, 1));
  NN_TRY(nn_need_rank(op, 1, 0, 0));
  NN_TRY(nn_need_count(op, "before", x.rank));
  NN_TRY(nn_need_count(op, "after", x.rank));
  NN_TRY(nn_need_one_of(op, "mode", modes));
  const nn_dim *before = nn_attr_dims(op, "before", NULL), *after = nn_attr_dims(op, "after", NULL);
  for (int d = 0; d < x.rank; d++) {
    NN_TRY(check_pad_source(op, d, before[d], after[d]));
    dims[d] = nn_dim_add(m, nn_dim_add(m, before[d], x.dims[d]), after[d]);
  }
  return nn_give(op, 0, x.dtype, x.rank, dims);
}

/* ---- more than there was -------------------------------------------------------------------------- */

nn_status shape_concat(nn_op *op) {
  int axis;
  nn_module *m = op->graph->module;
  nn_type first = op->in[0]->type;
  nn_dim dims[NN_MAX_RANK];
  NN_TRY(nn_need_axis(op, "axis", first.rank, &axis));
  for (int d = 0; d < first.rank; d++) dims[d] = first.dims[d];
  for (int i = 1; i < op->nin; i++) {
    NN_TRY(nn_need_same_dtype(op, 0, i));
    NN_TRY(nn_need_rank(op, i, first.rank, first.rank));
    for (int d = 0; d < first.rank; d++) {
      nn_dim dim = op->in[i]->type.dims[d];
      if (d != axis) NN_TRY(nn_need_dim(op, i, d, dims[d]));
      dims[d] = d == axis ? nn_dim_add(m, dims[d], dim) : nn_dim_prefer(m, dims[d], dim);
    }
  }
  return nn_give(op, 0, first.dtype, first.rank, dims);
}

nn_status shape_tile(nn_op *op) {
  nn_type x = op->in[0]->type;
  nn_dim dims[NN_MAX_RANK];
  NN_TRY(nn_need_count(op, "repeats", x.rank));
  const nn_dim *repeats = nn_attr_dims(op, "repeats", NULL);
  for (int d = 0; d < x.rank; d++) {
    int64_t repeat;
    if (nn_dim_is_const(repeats[d], &repeat) && repeat < 0) {
      return nn_fail(op, "repeats[%d] is %lld, expected 0 or more", d, (long long)repeat);
    }
    dims[d] = nn_dim_mul(op->graph->module, x.dims[d], repeats[d]);
  }
  return nn_give(op, 0, x.dtype, x.rank, dims);
}

/* (dim - 1) * step + 1, and nothing stays nothing: for dim 0 the formula is at most 0. */
static nn_dim dilate_dim(nn_module *m, nn_dim dim, int64_t step) {
  int64_t min, max;
  nn_dim one = nn_dim_const(m, 1);
  nn_dim dilated = nn_dim_add(m, nn_dim_mul(m, nn_dim_sub(m, dim, one), nn_dim_const(m, step)), one);
  nn_dim_range(dim, &min, &max);
  return min >= 1 || step == 1 ? dilated : nn_dim_max(m, dilated, nn_dim_const(m, 0));
}

nn_status shape_dilate(nn_op *op) {
  nn_type x = op->in[0]->type;
  nn_dim dims[NN_MAX_RANK];
  NN_TRY(nn_need_kind(op, 0, NN_SET_NUMBER));
  NN_TRY(nn_need_count(op, "steps", x.rank));
  NN_TRY(nn_need_ints_min(op, "steps", 1));
  const int64_t *steps = nn_attr_ints(op, "steps", NULL);
  for (int d = 0; d < x.rank; d++) dims[d] = dilate_dim(op->graph->module, x.dims[d], steps[d]);
  return nn_give(op, 0, x.dtype, x.rank, dims);
}

/* ---- made from nothing ---------------------------------------------------------------------------- */

nn_status shape_iota(nn_op *op) {
  int rank, axis;
  NN_TRY(nn_need_range(op, "dtype", 0, NN_DTYPE_COUNT - 1));
  nn_dtype dtype = (nn_dtype)nn_attr_int(op, "dtype");
  if (!(NN_SET_NUMBER >> nn_dtype_kind_of(dtype) & 1)) {
    return nn_fail(op, "dtype is %s, expected a number type", nn_dtype_name(dtype));
  }
  const nn_dim *dims = nn_attr_dims(op, "dims", &rank);
  NN_TRY(nn_need_axis(op, "axis", rank, &axis));
  return nn_give(op, 0, dtype, rank, dims);
}

nn_status shape_shape_of(nn_op *op) {
  int count;
  nn_module *m = op->graph->module;
  nn_attr_dims(op, "dims", &count);
  nn_dim dim = nn_dim_const(m, count);
  return nn_give(op, 0, NN_I64, 1, &dim);
}

/* ---- resampling ----------------------------------------------------------------------------------- */

static nn_status check_resize_modes(nn_op *op) {
  static const char *const modes[] = {"nearest", "linear", "cubic", NULL};
  static const char *const coords[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
                                       "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize", NULL};
  static const char *const nearest[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple", NULL};
  NN_TRY(nn_need_one_of(op, "mode", modes));
  NN_TRY(nn_need_one_of(op, "coords", coords));
  NN_TRY(nn_need_one_of(op, "nearest", nearest));
  NN_TRY(nn_need_range(op, "exclude_outside", 0, 1));
  return nn_need_range(op, "antialias", 0, 1);
}

static nn_status check_resize_scales(nn_op *op, int rank) {
  int count;
  const double *scales = nn_attr_floats(op, "scales", &count);
  if (count) NN_TRY(nn_need_count(op, "scales", rank));
  for (int i = 0; i < count; i++) {
    if (!(scales[i] > 0)) return nn_fail(op, "scales[%d] is %g, expected more than 0", i, scales[i]);
  }
  if (nn_op_attr(op, "roi")->count) NN_TRY(nn_need_count(op, "roi", 2 * rank));
  return NN_OK;
}

/* Scales f32[rank] and region of interest [2 * rank] as operands. */
static nn_status check_resize_operands(nn_op *op, int rank) {
  nn_module *m = op->graph->module;
  if (op->nin > 1 && op->in[1]) {
    NN_TRY(nn_need_dtype(op, 1, NN_F32));
    NN_TRY(nn_need_rank(op, 1, 1, 1));
    NN_TRY(nn_need_dim(op, 1, 0, nn_dim_const(m, rank)));
  }
  if (op->nin > 2 && op->in[2]) {
    NN_TRY(nn_need_kind(op, 2, NN_SET_FLOAT));
    NN_TRY(nn_need_rank(op, 2, 1, 1));
    NN_TRY(nn_need_dim(op, 2, 0, nn_dim_const(m, 2 * rank)));
  }
  return NN_OK;
}

nn_status shape_resize(nn_op *op) {
  nn_type x = op->in[0]->type;
  NN_TRY(nn_need_kind(op, 0, NN_SET_NUMBER | NN_SET_BOOL));
  NN_TRY(nn_need_count(op, "dims", x.rank));
  NN_TRY(check_resize_modes(op));
  NN_TRY(check_resize_scales(op, x.rank));
  NN_TRY(check_resize_operands(op, x.rank));
  const nn_dim *dims = nn_attr_dims(op, "dims", NULL);
  for (int d = 0; d < x.rank; d++) {
    if (nn_dim_is(x.dims[d], 0) && nn_dim_is_const(dims[d], NULL) && !nn_dim_is(dims[d], 0)) {
      return nn_fail(op, "dimension %d of operand 0 (%s) is empty, but its result is to have %s elements", d,
                     type_text(op, 0), dim_text(op, dims[d]));
    }
  }
  return nn_give(op, 0, x.dtype, x.rank, dims);
}

nn_status shape_reverse_sequence(nn_op *op) {
  int batch_axis, time_axis;
  nn_type x = op->in[0]->type;
  NN_TRY(nn_need_rank(op, 0, 2, NN_MAX_RANK));
  NN_TRY(nn_need_axis(op, "batch_axis", x.rank, &batch_axis));
  NN_TRY(nn_need_axis(op, "time_axis", x.rank, &time_axis));
  if (batch_axis == time_axis)
    return nn_fail(op, "batch_axis and time_axis are both %d, expected two axes", batch_axis);
  NN_TRY(nn_need_dtype(op, 1, NN_I64));
  NN_TRY(nn_need_rank(op, 1, 1, 1));
  NN_TRY(nn_need_dim(op, 1, 0, x.dims[batch_axis]));
  return nn_give(op, 0, x.dtype, x.rank, x.dims);
}
