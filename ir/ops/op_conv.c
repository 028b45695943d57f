/* Shape rule of convolution, and of the sliding windows that pools share. */
#include "ir/ir.h"

/* One axis of a window: places = floor((dim + before + after - extent) / stride) + 1, with extent =
   (kernel - 1) * dilation + 1. With ceil, a last partial window counts too if it starts inside the input
   or its left padding (ONNX 1.15, PyTorch, ONNX Runtime). */
static nn_dim count_windows(nn_module *m, nn_dim dim, nn_dim before, nn_dim after, nn_dim extent, nn_dim stride,
                            bool ceil) {
  nn_dim one = nn_dim_const(m, 1);
  nn_dim from = nn_dim_add(m, dim, before);
  nn_dim room = nn_dim_sub(m, nn_dim_add(m, from, after), extent);
  if (!ceil) return nn_dim_add(m, nn_dim_floordiv(m, room, stride), one);
  nn_dim places = nn_dim_add(m, nn_dim_ceildiv(m, room, stride), one);
  return nn_dim_min(m, places, nn_dim_ceildiv(m, from, stride));
}

static nn_status check_window_attrs(nn_op *op, int nsp) {
  static const char *const names[] = {"strides", "dilations"};
  for (int i = 0; i < 2; i++) {
    if (nn_op_attr(op, names[i])->count) NN_TRY(nn_need_count(op, names[i], nsp));
    NN_TRY(nn_need_ints_min(op, names[i], 1));
  }
  if (nn_op_attr(op, "pads")->count) NN_TRY(nn_need_count(op, "pads", 2 * nsp));
  return NN_OK;
}

nn_status nn_window_dims(nn_op *op, const nn_dim *kernel, bool ceil, nn_dim *dims) {
  nn_module *m = op->graph->module;
  nn_type x = op->in[0]->type;
  int nsp = x.rank - 2;
  NN_TRY(check_window_attrs(op, nsp));
  const int64_t *strides = nn_attr_ints(op, "strides", NULL), *dilations = nn_attr_ints(op, "dilations", NULL);
  const nn_dim *pads = nn_attr_dims(op, "pads", NULL);
  bool has_strides = nn_op_attr(op, "strides")->count, has_dilations = nn_op_attr(op, "dilations")->count;
  bool has_pads = nn_op_attr(op, "pads")->count;
  nn_dim zero = nn_dim_const(m, 0), one = nn_dim_const(m, 1);
  for (int d = 0; d < nsp; d++) {
    nn_dim before = has_pads ? pads[d] : zero, after = has_pads ? pads[nsp + d] : zero;
    nn_dim dilation = has_dilations ? nn_dim_const(m, dilations[d]) : one;
    nn_dim stride = has_strides ? nn_dim_const(m, strides[d]) : one;
    nn_dim extent = nn_dim_add(m, nn_dim_mul(m, nn_dim_sub(m, kernel[d], one), dilation), one);
    nn_dim padded = nn_dim_add(m, nn_dim_add(m, x.dims[2 + d], before), after);
    nn_dim room = ceil ? nn_dim_add(m, padded, nn_dim_sub(m, stride, one)) : padded; /* for one window */
    NN_TRY(
        nn_need_check(op, "le", extent, room, "the window along dimension %d of operand 0, padding included,", 2 + d));
    dims[d] = count_windows(m, x.dims[2 + d], before, after, extent, stride, ceil);
  }
  return NN_OK;
}

static nn_status check_channels(nn_op *op) {
  nn_module *m = op->graph->module;
  nn_type x = op->in[0]->type, w = op->in[1]->type;
  NN_TRY(nn_need_range(op, "groups", 1, INT32_MAX));
  nn_dim groups = nn_dim_const(m, nn_attr_int(op, "groups"));
  nn_dim expected = nn_dim_mul(m, w.dims[1], groups);
  if (nn_check_known(m, "eq", x.dims[1], expected) < 0) {
    return nn_fail(op, "input has %s channels, weight expects %s (%s in each of %s groups)",
                   nn_dim_text(m->arena, x.dims[1]), nn_dim_text(m->arena, expected), nn_dim_text(m->arena, w.dims[1]),
                   nn_dim_text(m->arena, groups));
  }
  NN_TRY(nn_need_dim(op, 0, 1, expected));
  nn_dim rest = nn_dim_mod(m, w.dims[0], groups);
  return nn_need_check(op, "eq", rest, nn_dim_const(m, 0), "number of output channels modulo groups");
}

nn_status shape_conv(nn_op *op) {
  nn_dtype dtype;
  nn_dim dims[NN_MAX_RANK];
  NN_TRY(nn_product_dtype(op, &dtype));
  NN_TRY(nn_need_rank(op, 0, 3, 5));
  nn_type x = op->in[0]->type, w = op->in[1]->type;
  NN_TRY(nn_need_rank(op, 1, x.rank, x.rank));
  NN_TRY(check_channels(op));
  dims[0] = x.dims[0];
  dims[1] = w.dims[0];
  NN_TRY(nn_window_dims(op, w.dims + 2, false, dims + 2));
  return nn_give(op, 0, dtype, x.rank, dims);
}

/* ---- Winograd's form -------------------------------------------------------------------------------- */

static nn_status need_tile(nn_op *op, int64_t *area) {
  int64_t m = nn_attr_int(op, "tile");
  if (m != 2 && m != 4) return nn_fail(op, "tile is %lld, expected 2 or 4", (long long)m);
  *area = (m + 2) * (m + 2);
  return NN_OK;
}

nn_status shape_winograd_weights(nn_op *op) {
  nn_module *m = op->graph->module;
  int64_t area = 0;
  NN_TRY(need_tile(op, &area));
  NN_TRY(nn_need_dtype(op, 0, NN_F32));
  NN_TRY(nn_need_rank(op, 0, 4, 4));
  NN_TRY(nn_need_dim(op, 0, 2, nn_dim_const(m, 3)));
  NN_TRY(nn_need_dim(op, 0, 3, nn_dim_const(m, 3)));
  nn_type w = op->in[0]->type;
  const nn_dim dims[] = {nn_dim_const(m, area), w.dims[0], w.dims[1]};
  return nn_give(op, 0, NN_F32, 3, dims);
}

/* The form and size of the loops depend on all sizes but the number of images. */
static nn_status need_known(nn_op *op, const nn_dim *dims, int count, const char *what) {
  for (int i = 0; i < count; i++)
    if (!nn_dim_is_const(dims[i], &(int64_t){0}))
      return nn_fail(op, "found %s %s, expected a number", what, nn_dim_text(op->graph->module->arena, dims[i]));
  return NN_OK;
}

nn_status shape_conv_winograd(nn_op *op) {
  nn_module *m = op->graph->module;
  int64_t area = 0;
  NN_TRY(need_tile(op, &area));
  for (int i = 0; i < 2; i++) NN_TRY(nn_need_dtype(op, i, NN_F32));
  NN_TRY(nn_need_rank(op, 0, 4, 4));
  NN_TRY(nn_need_rank(op, 1, 3, 3));
  NN_TRY(nn_need_dim(op, 1, 0, nn_dim_const(m, area)));
  nn_type x = op->in[0]->type, u = op->in[1]->type;
  NN_TRY(nn_need_dim(op, 0, 1, u.dims[2]));
  if (nn_op_attr(op, "pads")->count) NN_TRY(nn_need_count(op, "pads", 4));
  const nn_dim *pads = nn_attr_dims(op, "pads", NULL);
  bool has_pads = nn_op_attr(op, "pads")->count;
  nn_dim dims[4] = {x.dims[0], u.dims[1]}, three = nn_dim_const(m, 3), one = nn_dim_const(m, 1);
  for (int d = 0; d < 2; d++) {
    nn_dim padded = has_pads ? nn_dim_add(m, nn_dim_add(m, x.dims[2 + d], pads[d]), pads[2 + d]) : x.dims[2 + d];
    NN_TRY(nn_need_check(op, "le", three, padded, "the window along dimension %d of operand 0, padding included,", 2 + d));
    dims[2 + d] = count_windows(m, padded, nn_dim_const(m, 0), nn_dim_const(m, 0), three, one, false);
  }
  NN_TRY(need_known(op, x.dims + 1, 3, "size"));
  NN_TRY(need_known(op, dims + 1, 3, "size of the result"));
  if (has_pads) NN_TRY(need_known(op, pads, 4, "padding"));
  return nn_give(op, 0, NN_F32, 4, dims);
}
