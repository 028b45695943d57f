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

/* ---- channels in blocks ------------------------------------------------------------------------------ */

/* The form of the loops depends on channels, kernels and padding. */
static nn_status need_known(nn_op *op, const nn_dim *dims, int count, const char *what) {
  for (int i = 0; i < count; i++)
    if (!nn_dim_is_const(dims[i], &(int64_t){0}))
      return nn_fail(op, "found %s %s, expected a number", what, nn_dim_text(op->graph->module->arena, dims[i]));
  return NN_OK;
}

/* Spatial dims of a window over dims 2 and 3 of x, which may be symbols; whatever comes after them. */
static nn_status blocked_window(nn_op *op, const nn_dim *kernel, bool has_strides, nn_dim *dims) {
  nn_module *m = op->graph->module;
  nn_type x = op->in[0]->type;
  NN_TRY(need_known(op, x.dims + 1, 1, "number of channels"));
  NN_TRY(need_known(op, x.dims + 4, x.rank - 4, "size of a block"));
  NN_TRY(need_known(op, op->in[1]->type.dims, op->in[1]->type.rank, "size of the weights"));
  const int64_t *strides = NULL, *dilations = NULL;
  if (has_strides) {
    NN_TRY(check_window_attrs(op, 2));
    if (nn_op_attr(op, "strides")->count) strides = nn_attr_ints(op, "strides", NULL);
    if (nn_op_attr(op, "dilations")->count) dilations = nn_attr_ints(op, "dilations", NULL);
  } else if (nn_op_attr(op, "pads")->count) {
    NN_TRY(nn_need_count(op, "pads", 4));
  }
  int npads;
  const nn_dim *pads = nn_attr_dims(op, "pads", &npads);
  NN_TRY(need_known(op, pads, npads, "padding"));
  nn_dim zero = nn_dim_const(m, 0), one = nn_dim_const(m, 1);
  for (int d = 0; d < 2; d++) {
    nn_dim padded = npads ? nn_dim_add(m, nn_dim_add(m, x.dims[2 + d], pads[d]), pads[2 + d]) : x.dims[2 + d];
    nn_dim reach = nn_dim_mul(m, nn_dim_sub(m, kernel[d], one), nn_dim_const(m, dilations ? dilations[d] : 1));
    nn_dim extent = nn_dim_add(m, reach, one);
    NN_TRY(nn_need_check(op, "le", extent, padded, "the window along dimension %d of operand 0, padding included,", 2 + d));
    dims[d] = count_windows(m, padded, zero, zero, extent, nn_dim_const(m, strides ? strides[d] : 1), false);
  }
  return NN_OK;
}

static nn_status need_number(nn_op *op, const char *what, nn_dim found, int64_t expected) {
  if (nn_dim_is(found, expected)) return NN_OK;
  return nn_fail(op, "%s is %s, expected %lld", what, nn_dim_text(op->graph->module->arena, found), (long long)expected);
}

static int64_t blocks_of(int64_t channels, int64_t block) { return channels / block + (channels % block != 0); }

static nn_status check_blocked_weights(nn_op *op, int64_t block) {
  nn_type x = op->in[0]->type, w = op->in[1]->type;
  int64_t channels = nn_attr_int(op, "channels"), outputs = nn_attr_int(op, "outputs"), groups = nn_attr_int(op, "groups");
  int64_t width, panels, inner = x.rank == 4 ? channels : block;
  if (!nn_dim_is_const(w.dims[5], &width) || width < block || width % block)
    return nn_fail(op, "panels are of %s channels, expected a multiple of %lld", nn_dim_text(op->graph->module->arena, w.dims[5]), (long long)block);
  if (!nn_dim_is_const(w.dims[0], &panels) || panels != blocks_of(outputs, width))
    return nn_fail(op, "found %s panels, expected %lld", nn_dim_text(op->graph->module->arena, w.dims[0]), (long long)blocks_of(outputs, width));
  if (groups > 1 && (x.rank == 4 || channels % (groups * block) || outputs % (groups * width)))
    return nn_fail(op, "groups of %lld are no whole blocks and panels", (long long)groups);
  NN_TRY(need_number(op, "number of input channels in a block of the weights", w.dims[4], inner));
  return need_number(op, "number of blocks of the weights", w.dims[1], blocks_of(channels / groups, inner));
}

nn_status shape_conv_blocked(nn_op *op) {
  nn_module *m = op->graph->module;
  for (int i = 0; i < 2; i++) NN_TRY(nn_need_dtype(op, i, NN_F32));
  NN_TRY(nn_need_rank(op, 0, 4, 5));
  NN_TRY(nn_need_rank(op, 1, 6, 6));
  static const char *const sizes[] = {"channels", "outputs", "block", "groups"};
  for (int i = 0; i < 4; i++) NN_TRY(nn_need_range(op, sizes[i], 1, INT32_MAX));
  nn_type x = op->in[0]->type, w = op->in[1]->type;
  int64_t block = nn_attr_int(op, "block"), channels = nn_attr_int(op, "channels");
  nn_dim dims[5] = {x.dims[0]};
  NN_TRY(blocked_window(op, w.dims + 2, true, dims + 2));
  if (x.rank == 5) NN_TRY(need_number(op, "size of a block", x.dims[4], block));
  NN_TRY(need_number(op, x.rank == 5 ? "number of blocks" : "number of channels", x.dims[1], x.rank == 5 ? blocks_of(channels, block) : channels));
  NN_TRY(check_blocked_weights(op, block));
  dims[1] = nn_dim_const(m, blocks_of(nn_attr_int(op, "outputs"), block));
  dims[4] = nn_dim_const(m, block);
  return nn_give(op, 0, NN_F32, 5, dims);
}

nn_status shape_conv_depthwise(nn_op *op) {
  for (int i = 0; i < 2; i++) NN_TRY(nn_need_dtype(op, i, NN_F32));
  NN_TRY(nn_need_rank(op, 0, 5, 5));
  NN_TRY(nn_need_rank(op, 1, 4, 4));
  nn_type x = op->in[0]->type, w = op->in[1]->type;
  NN_TRY(nn_need_dim(op, 1, 0, x.dims[1]));
  NN_TRY(nn_need_dim(op, 1, 3, x.dims[4]));
  nn_dim dims[5] = {x.dims[0], x.dims[1], NULL, NULL, x.dims[4]};
  NN_TRY(blocked_window(op, w.dims + 1, true, dims + 2));
  return nn_give(op, 0, NN_F32, 5, dims);
}

nn_status shape_conv_paired(nn_op *op) {
  nn_module *m = op->graph->module;
  for (int i = 0; i < 2; i++) NN_TRY(nn_need_dtype(op, i, NN_F32));
  NN_TRY(nn_need_rank(op, 0, 5, 5));
  NN_TRY(nn_need_rank(op, 1, 3, 3));
  NN_TRY(nn_need_range(op, "channels", 1, INT32_MAX));
  NN_TRY(nn_need_range(op, "outputs", 1, INT32_MAX));
  NN_TRY(nn_need_ints_min(op, "kernel", 1));
  if (nn_op_attr(op, "kernel")->count) NN_TRY(nn_need_count(op, "kernel", 2));
  nn_type x = op->in[0]->type, w = op->in[1]->type;
  int64_t channels = nn_attr_int(op, "channels"), block = 0, taps[2] = {1, 1};
  for (int d = 0; d < nn_op_attr(op, "kernel")->count; d++) taps[d] = nn_attr_ints(op, "kernel", NULL)[d];
  if (taps[0] > INT32_MAX || taps[1] > INT32_MAX / taps[0] || channels > INT32_MAX / 2 / (taps[0] * taps[1])) return nn_fail(op, "its kernel is too large");
  nn_dim dims[5] = {x.dims[0], w.dims[0], NULL, NULL, x.dims[4]};
  NN_TRY(blocked_window(op, (nn_dim[]){nn_dim_const(m, taps[0]), nn_dim_const(m, taps[1])}, true, dims + 2));
  nn_dim_is_const(x.dims[4], &block);
  if (block < 1) return nn_fail(op, "size of a block is %lld, expected at least 1", (long long)block);
  NN_TRY(need_number(op, "number of blocks", x.dims[1], blocks_of(channels, block)));
  NN_TRY(need_number(op, "number of panels", w.dims[0], blocks_of(nn_attr_int(op, "outputs"), block)));
  int64_t of_tap = taps[0] * taps[1] == 1 ? channels : blocks_of(channels, block) * block;
  NN_TRY(need_number(op, "number of lines of a panel", w.dims[1], taps[0] * taps[1] * of_tap + 2));
  NN_TRY(need_number(op, "number of channels of a panel", w.dims[2], block));
  return nn_give(op, 0, NN_F32, 5, dims);
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
  NN_TRY(nn_need_range(op, "width", 1, INT32_MAX));
  nn_type w = op->in[0]->type;
  nn_dim width = nn_dim_const(m, nn_attr_int(op, "width"));
  const nn_dim dims[] = {nn_dim_ceildiv(m, w.dims[0], width), nn_dim_const(m, area), w.dims[1], width};
  return nn_give(op, 0, NN_F32, 4, dims);
}

/* The same weights for tiles of 2. */
static nn_status check_few(nn_op *op) {
  nn_type u = op->in[1]->type;
  NN_TRY(nn_need_dtype(op, 2, NN_F32));
  NN_TRY(nn_need_rank(op, 2, 4, 4));
  for (int d = 0; d < 4; d++)
    if (d != 1) NN_TRY(nn_need_dim(op, 2, d, u.dims[d]));
  return need_number(op, "number of positions of operand 2", op->in[2]->type.dims[1], 16);
}

nn_status shape_conv_winograd(nn_op *op) {
  nn_module *m = op->graph->module;
  int64_t area = 0, channels, block, width;
  NN_TRY(need_tile(op, &area));
  for (int i = 0; i < 2; i++) NN_TRY(nn_need_dtype(op, i, NN_F32));
  NN_TRY(nn_need_rank(op, 0, 5, 5));
  NN_TRY(nn_need_rank(op, 1, 4, 4));
  NN_TRY(nn_need_range(op, "outputs", 1, INT32_MAX));
  NN_TRY(nn_need_range(op, "paired", 0, 1));
  nn_type x = op->in[0]->type, u = op->in[1]->type;
  nn_dim dims[5] = {x.dims[0]}, three = nn_dim_const(m, 3);
  NN_TRY(blocked_window(op, (const nn_dim[]){three, three}, false, dims + 2));
  channels = nn_dim_value(u.dims[2]) - (nn_attr_int(op, "paired") ? 2 : 0), block = nn_dim_value(x.dims[4]), width = nn_dim_value(u.dims[3]);
  if (nn_attr_int(op, "paired")) NN_TRY(need_number(op, "size of a block", x.dims[4], 16));
  if (channels < 1) return nn_fail(op, "panels have %lld lines, expected those of a channel at least", (long long)nn_dim_value(u.dims[2]));
  if (block < 1 || width < block || width % block) return nn_fail(op, "panels are of %lld channels, expected a multiple of %lld", (long long)width, (long long)block);
  NN_TRY(need_number(op, "number of blocks", x.dims[1], blocks_of(channels, block)));
  NN_TRY(need_number(op, "number of positions", u.dims[1], area));
  NN_TRY(need_number(op, "number of panels", u.dims[0], blocks_of(nn_attr_int(op, "outputs"), width)));
  if (op->nin > 2) NN_TRY(check_few(op));
  dims[1] = nn_dim_const(m, blocks_of(nn_attr_int(op, "outputs"), block));
  dims[4] = x.dims[4];
  return nn_give(op, 0, NN_F32, 5, dims);
}
