/* ONNX Conv and ConvTranspose. */
#include "frontend/onnx.h"

#include <string.h>

enum { MAX_SPATIAL = 3 };

typedef struct window {
  int nsp;
  int64_t kernel[MAX_SPATIAL], strides[MAX_SPATIAL], dilations[MAX_SPATIAL], groups;
  nn_dim pads[2 * MAX_SPATIAL];
} window;

/* Checks x[N,C,spatial..] and w[..,..,kernel..]. */
static nn_status check_operands(onnx_node *n, window *win) {
  NN_TRY(onnx_need(n, 2, 3, 1));
  NN_TRY(onnx_need_float(n, 0));
  NN_TRY(onnx_same_dtype(n, 0, n->nin - 1));
  nn_type x = n->in[0]->type, w = n->in[1]->type;
  if (x.rank < 3) return onnx_fail(n, "input has rank %d, expected at least 3: batch, channels, space", x.rank);
  if (x.rank > 2 + MAX_SPATIAL) return onnx_unsupported(n, "input has %d spatial dimensions, at most %d are supported", x.rank - 2, MAX_SPATIAL);
  if (w.rank != x.rank) return onnx_fail(n, "weight has rank %d, expected %d as the input", w.rank, x.rank);
  win->nsp = x.rank - 2;
  win->groups = onnx_int(n, "group", 1);
  if (win->groups < 1) return onnx_fail(n, "attribute group is %lld, expected at least 1", (long long)win->groups);
  for (int i = 2; i < w.rank; i++)
    if (!nn_dim_is_const(w.dims[i], NULL))
      return onnx_unsupported(n, "weight dimension %d is %s: kernel sizes must be known while compiling", i, nn_dim_text(n->m->arena, w.dims[i]));
  return NN_OK;
}

static nn_value *make_conv(onnx_node *n, nn_value *x, nn_value *w, const window *win) {
  nn_op *op = nn_b_begin(n->b, NN_OP_CONV, (nn_value *[]){x, w}, 2, -1);
  if (!op) return NULL;
  nn_set_ints(op, "strides", win->strides, win->nsp);
  nn_set_ints(op, "dilations", win->dilations, win->nsp);
  nn_set_dims(op, "pads", win->pads, 2 * win->nsp);
  nn_set_int(op, "groups", win->groups);
  return nn_b_end(n->b, op);
}

static nn_status give_with_bias(onnx_node *n, nn_value *y) {
  if (!y) return NN_FAIL;
  if (n->nin > 2 && n->in[2]) {
    NN_TRY(onnx_need_size(n, 2, y->type.dims[1]));
    y = nn_b_binary(n->b, NN_OP_ADD, y, onnx_as_channel(n, n->in[2], y->type.rank, 1));
  }
  return onnx_give(n, 0, y);
}

nn_status onnx_Conv(onnx_node *n) {
  window win;
  NN_TRY(check_operands(n, &win));
  nn_type x = n->in[0]->type, w = n->in[1]->type;
  NN_TRY(onnx_window(n, x, win.nsp, w.dims + 2, win.kernel, win.strides, win.dilations, win.pads));
  nn_dim per_group = nn_dim_mul(n->m, w.dims[1], nn_dim_const(n->m, win.groups));
  NN_TRY(nn_b_check(n->b, "eq", x.dims[1], per_group, "input channels against weight"));
  return give_with_bias(n, make_conv(n, n->in[0], n->in[1], &win));
}

/* ---- ConvTranspose ---------------------------------------------------------------------------- */
/* The gradient of Conv for its input: zeros between the input's elements (dilate by the strides), then a
   convolution with the kernel turned around and its channel dimensions exchanged, padded by what is left
   of the kernel's reach after the node's own pads. */

static int64_t reach(const window *win, int i) { return (win->kernel[i] - 1) * win->dilations[i] + 1; }

/* [C, M/g, kernel] -> [M, C/g, kernel], kernel reversed. */
static nn_value *turn_weight(onnx_node *n, const window *win) {
  nn_module *m = n->m;
  nn_value *w = n->in[1];
  nn_type t = w->type;
  nn_dim g = nn_dim_const(m, win->groups), per_group;
  if (!nn_dim_divides(m, t.dims[0], g, &per_group)) {
    onnx_fail(n, "weight has %s input channels, expected a multiple of group %lld", nn_dim_text(m->arena, t.dims[0]), (long long)win->groups);
    return NULL;
  }
  nn_dim dims[MAX_SPATIAL + 3] = {g, per_group, t.dims[1]};
  int64_t perm[MAX_SPATIAL + 3] = {0, 2, 1};
  for (int i = 2; i < t.rank; i++) dims[i + 1] = t.dims[i], perm[i + 1] = i + 1;
  for (int i = 0; i < win->nsp && w; i++)
    if (win->kernel[i] > 1)
      w = nn_b_slice(n->b, w, i + 2, nn_dim_const(m, win->kernel[i] - 1), t.dims[i + 2], nn_dim_const(m, -1));
  w = nn_b_transpose(n->b, nn_b_reshape(n->b, w, t.rank + 1, dims), perm);
  dims[0] = nn_dim_mul(m, g, t.dims[1]);
  dims[1] = per_group;
  for (int i = 2; i < t.rank; i++) dims[i] = t.dims[i];
  return nn_b_reshape(n->b, w, t.rank, dims);
}

/* Total padding, split as auto_pad says: the odd one at the end for SAME_UPPER, else at the start. What is
   negative lengthens the result at its end. */
static void split_total(onnx_node *n, window *win, int i, nn_dim total, bool upper) {
  nn_module *m = n->m;
  nn_dim zero = nn_dim_const(m, 0), two = nn_dim_const(m, 2);
  nn_dim positive = nn_dim_max(m, total, zero);
  nn_dim small = nn_dim_floordiv(m, positive, two);
  win->pads[i] = upper ? small : nn_dim_sub(m, positive, small);
  win->pads[win->nsp + i] = nn_dim_sub(m, total, win->pads[i]);
}

static nn_status read_counts(onnx_node *n, const char *name, int want, const int64_t **values) {
  int count = 0;
  *values = onnx_ints(n, name, &count);
  if (count != 0 && count != want) return onnx_fail(n, "attribute %s has %d values, expected %d", name, count, want);
  if (count == 0) *values = NULL;
  return NN_OK;
}

/* output_shape may hold the spatial dims only, or all of them. */
static nn_status read_output_shape(onnx_node *n, int nsp, const int64_t **shape) {
  int count = 0;
  *shape = onnx_ints(n, "output_shape", &count);
  if (count == 0) *shape = NULL;
  if (count == nsp + 2) *shape += 2;
  else if (count != 0 && count != nsp) return onnx_fail(n, "attribute output_shape has %d values, expected %d", count, nsp);
  for (int i = 0; *shape && i < nsp; i++)
    if ((*shape)[i] < 0) return onnx_fail(n, "attribute output_shape holds %lld, expected no negative size", (long long)(*shape)[i]);
  return NN_OK;
}

/* win->pads become the node's pads: of what the full transposed convolution gives, (in-1)*stride + reach +
   output padding, how much is cut off. */
static nn_status find_cuts(onnx_node *n, window *win, const int64_t *extra) {
  nn_module *m = n->m;
  const char *auto_pad = onnx_str(n, "auto_pad", "NOTSET");
  bool upper = !strcmp(auto_pad, "SAME_UPPER"), same = upper || !strcmp(auto_pad, "SAME_LOWER");
  const int64_t *shape;
  NN_TRY(read_output_shape(n, win->nsp, &shape));
  for (int i = 0; (shape || same) && i < win->nsp; i++) {
    nn_dim in = n->in[0]->type.dims[i + 2], stride = nn_dim_const(m, win->strides[i]);
    nn_dim full = nn_dim_mul(m, nn_dim_sub(m, in, nn_dim_const(m, 1)), stride);
    full = nn_dim_add(m, full, nn_dim_const(m, reach(win, i) + extra[i]));
    nn_dim out = shape ? nn_dim_const(m, shape[i]) : nn_dim_mul(m, in, stride);
    split_total(n, win, i, nn_dim_sub(m, full, out), upper);
  }
  return NN_OK;
}

/* Pads of the convolution over the dilated input; negative ones, which it does not take, crop beforehand. */
static nn_value *pad_or_crop(onnx_node *n, nn_value *x, window *win) {
  nn_module *m = n->m;
  nn_dim zero = nn_dim_const(m, 0), before[NN_MAX_RANK], after[NN_MAX_RANK];
  bool any_negative = false;
  for (int i = 0; i < 2 * win->nsp; i++) {
    int64_t least, most;
    nn_dim_range(win->pads[i], &least, &most);
    any_negative |= least < 0;
  }
  if (!any_negative || !x) return x;
  for (int i = 0; i < x->type.rank; i++) {
    before[i] = i < 2 ? zero : win->pads[i - 2];
    after[i] = i < 2 ? zero : win->pads[win->nsp + i - 2];
  }
  for (int i = 0; i < 2 * win->nsp; i++) win->pads[i] = zero;
  nn_op *op = nn_b_begin(n->b, NN_OP_PAD, (nn_value *[]){x, nn_b_scalar(n->b, x->type.dtype, 0)}, 2, -1);
  if (!op) return NULL;
  nn_set_dims(op, "before", before, x->type.rank);
  nn_set_dims(op, "after", after, x->type.rank);
  return nn_b_end(n->b, op);
}

static nn_value *dilate_input(onnx_node *n, const window *win) {
  nn_value *x = n->in[0];
  int64_t steps[MAX_SPATIAL + 2] = {1, 1};
  bool any = false;
  for (int i = 0; i < win->nsp; i++) {
    steps[i + 2] = win->strides[i];
    any |= win->strides[i] != 1;
  }
  if (!any) return x;
  nn_op *op = nn_b_begin(n->b, NN_OP_DILATE, &x, 1, -1);
  if (!op) return NULL;
  nn_set_ints(op, "steps", steps, x->type.rank);
  return nn_b_end(n->b, op);
}

nn_status onnx_ConvTranspose(onnx_node *n) {
  window win;
  NN_TRY(check_operands(n, &win));
  nn_module *m = n->m;
  nn_type x = n->in[0]->type, w = n->in[1]->type;
  const int64_t *given, none[MAX_SPATIAL] = {0};
  NN_TRY(onnx_window(n, x, win.nsp, w.dims + 2, win.kernel, win.strides, win.dilations, win.pads));
  NN_TRY(read_counts(n, "output_padding", win.nsp, &given));
  const int64_t *extra = given ? given : none;
  for (int i = 0; i < win.nsp; i++)
    if (extra[i] < 0 || extra[i] > INT32_MAX) return onnx_fail(n, "attribute output_padding holds %lld, expected 0 or more", (long long)extra[i]);
  NN_TRY(nn_b_check(n->b, "eq", x.dims[1], w.dims[0], "input channels against weight"));
  NN_TRY(find_cuts(n, &win, extra));
  for (int i = 0; i < win.nsp; i++) {
    win.pads[i] = nn_dim_sub(m, nn_dim_const(m, reach(&win, i) - 1), win.pads[i]);
    win.pads[win.nsp + i] = nn_dim_sub(m, nn_dim_const(m, reach(&win, i) - 1 + extra[i]), win.pads[win.nsp + i]);
  }
  nn_value *dilated = dilate_input(n, &win), *turned = turn_weight(n, &win);
  dilated = pad_or_crop(n, dilated, &win);
  for (int i = 0; i < win.nsp; i++) win.strides[i] = 1;
  return give_with_bias(n, make_conv(n, dilated, turned, &win));
}
