/* ONNX Conv and ConvTranspose. */
#include "frontend/onnx.h"

#include <string.h>

enum { MAX_SPATIAL = 3 };

/* x[N,C,spatial..] against w[..,..,kernel..]: ranks, kernel, channels. */
static nn_status check_shapes(onnx_node *n, nn_type x, nn_type w, bool transposed, int64_t groups) {
  if (x.rank < 3) return onnx_fail(n, "input has rank %d, expected at least 3: batch, channels, space", x.rank);
  if (x.rank > 2 + MAX_SPATIAL)
    return onnx_unsupported(n, "input has %d spatial dimensions, at most %d are supported", x.rank - 2, MAX_SPATIAL);
  if (w.rank != x.rank) return onnx_fail(n, "weight has rank %d, expected %d as the input", w.rank, x.rank);
  if (groups < 1) return onnx_fail(n, "attribute group is %lld, expected at least 1", (long long)groups);
  for (int i = 2; i < w.rank; i++)
    if (!nn_dim_is_const(w.dims[i], NULL))
      return onnx_unsupported(n, "weight dimension %d is %s: kernel sizes must be known while compiling", i,
                              nn_dim_text(n->m->arena, w.dims[i]));
  nn_dim expected = transposed ? w.dims[0] : nn_dim_mul(n->m, w.dims[1], nn_dim_const(n->m, groups));
  return nn_b_check(n->b, "eq", x.dims[1], expected, "input channels, against the weight");
}

nn_status onnx_conv_read(onnx_node *n, nn_type x, nn_type w, bool transposed, onnx_conv *c) {
  c->groups = onnx_int(n, "group", 1);
  NN_TRY(check_shapes(n, x, w, transposed, c->groups));
  c->nsp = x.rank - 2;
  return onnx_window(n, x, c->nsp, w.dims + 2, c->kernel, c->strides, c->dilations, c->pads);
}

nn_value *onnx_conv_make(onnx_node *n, nn_value *x, nn_value *w, const onnx_conv *c) {
  if (!x || !w) return NULL;
  nn_op *op = nn_b_begin(n->b, NN_OP_CONV, (nn_value *[]){x, w}, 2, -1);
  if (!op) return NULL;
  nn_set_ints(op, "strides", c->strides, c->nsp);
  nn_set_ints(op, "dilations", c->dilations, c->nsp);
  nn_set_dims(op, "pads", c->pads, 2 * c->nsp);
  nn_set_int(op, "groups", c->groups);
  return nn_b_end(n->b, op);
}

nn_value *onnx_pad_space(onnx_node *n, nn_value *x, nn_value *fill, const onnx_conv *c) {
  if (!x || !fill) return NULL;
  nn_dim zero = nn_dim_const(n->m, 0), before[NN_MAX_RANK], after[NN_MAX_RANK];
  bool any = false;
  for (int i = 0; i < x->type.rank; i++) {
    before[i] = i < 2 ? zero : c->pads[i - 2];
    after[i] = i < 2 ? zero : c->pads[c->nsp + i - 2];
    any |= before[i] != zero || after[i] != zero;
  }
  if (!any) return x;
  nn_op *op = nn_b_begin(n->b, NN_OP_PAD, (nn_value *[]){x, fill}, 2, -1);
  if (!op) return NULL;
  nn_set_dims(op, "before", before, x->type.rank);
  nn_set_dims(op, "after", after, x->type.rank);
  return nn_b_end(n->b, op);
}

static nn_status check_operands(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 3, 1));
  NN_TRY(onnx_need_float(n, 0));
  return onnx_same_dtype(n, 0, n->nin - 1);
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
  onnx_conv c;
  NN_TRY(check_operands(n));
  NN_TRY(onnx_conv_read(n, n->in[0]->type, n->in[1]->type, false, &c));
  return give_with_bias(n, onnx_conv_make(n, n->in[0], n->in[1], &c));
}

/* ---- ConvTranspose ---------------------------------------------------------------------------- */
/* The gradient of Conv for its input: zeros between the input's elements (dilate by the strides), then a
   convolution with the kernel turned around and its channel dimensions exchanged, padded by what is left
   of the kernel's reach after the node's own pads. */

static int64_t reach(const onnx_conv *c, int i) { return (c->kernel[i] - 1) * c->dilations[i] + 1; }

/* [C, M/g, kernel] -> [M, C/g, kernel], kernel reversed. */
static nn_value *turn_weight(onnx_node *n, const onnx_conv *c) {
  nn_module *m = n->m;
  nn_value *w = n->in[1];
  nn_type t = w->type;
  nn_dim g = nn_dim_const(m, c->groups), per_group;
  if (!nn_dim_divides(m, t.dims[0], g, &per_group)) {
    onnx_fail(n, "weight has %s input channels, expected a multiple of group %lld", nn_dim_text(m->arena, t.dims[0]),
              (long long)c->groups);
    return NULL;
  }
  nn_dim dims[MAX_SPATIAL + 3] = {g, per_group, t.dims[1]};
  int64_t perm[MAX_SPATIAL + 3] = {0, 2, 1};
  for (int i = 2; i < t.rank; i++) dims[i + 1] = t.dims[i], perm[i + 1] = i + 1;
  for (int i = 0; i < c->nsp && w; i++)
    if (c->kernel[i] > 1)
      w = nn_b_slice(n->b, w, i + 2, nn_dim_const(m, c->kernel[i] - 1), t.dims[i + 2], nn_dim_const(m, -1));
  w = nn_b_transpose(n->b, nn_b_reshape(n->b, w, t.rank + 1, dims), perm);
  dims[0] = nn_dim_mul(m, g, t.dims[1]);
  dims[1] = per_group;
  for (int i = 2; i < t.rank; i++) dims[i] = t.dims[i];
  return nn_b_reshape(n->b, w, t.rank, dims);
}

/* Total padding, split as auto_pad says: the odd one at the end for SAME_UPPER, else at the start. What is
   negative lengthens the result at its end. */
static void split_total(onnx_node *n, onnx_conv *c, int i, nn_dim total, bool upper) {
  nn_module *m = n->m;
  nn_dim zero = nn_dim_const(m, 0), two = nn_dim_const(m, 2);
  nn_dim positive = nn_dim_max(m, total, zero);
  nn_dim small = nn_dim_floordiv(m, positive, two);
  c->pads[i] = upper ? small : nn_dim_sub(m, positive, small);
  c->pads[c->nsp + i] = nn_dim_sub(m, total, c->pads[i]);
}

/* output_shape may hold the spatial dims only, or all of them. */
static nn_status read_output_shape(onnx_node *n, int nsp, const int64_t **shape) {
  int count = 0;
  *shape = onnx_ints(n, "output_shape", &count);
  if (count == 0) *shape = NULL;
  if (count == nsp + 2)
    *shape += 2;
  else if (count != 0 && count != nsp)
    return onnx_fail(n, "attribute output_shape has %d values, expected %d", count, nsp);
  for (int i = 0; *shape && i < nsp; i++)
    if ((*shape)[i] < 0)
      return onnx_fail(n, "attribute output_shape holds %lld, expected no negative size", (long long)(*shape)[i]);
  return NN_OK;
}

/* c->pads become the node's pads: of what the full transposed convolution gives, (in-1)*stride + reach +
   output padding, how much is cut off. */
static nn_status find_cuts(onnx_node *n, onnx_conv *c, const int64_t *extra) {
  nn_module *m = n->m;
  const char *auto_pad = onnx_str(n, "auto_pad", "NOTSET");
  bool upper = !strcmp(auto_pad, "SAME_UPPER"), same = upper || !strcmp(auto_pad, "SAME_LOWER");
  const int64_t *shape;
  NN_TRY(read_output_shape(n, c->nsp, &shape));
  for (int i = 0; (shape || same) && i < c->nsp; i++) {
    nn_dim in = n->in[0]->type.dims[i + 2], stride = nn_dim_const(m, c->strides[i]);
    nn_dim full = nn_dim_mul(m, nn_dim_sub(m, in, nn_dim_const(m, 1)), stride);
    full = nn_dim_add(m, full, nn_dim_const(m, reach(c, i) + extra[i]));
    nn_dim out = shape ? nn_dim_const(m, shape[i]) : nn_dim_mul(m, in, stride);
    split_total(n, c, i, nn_dim_sub(m, full, out), upper);
  }
  return NN_OK;
}

/* Pads that may be negative, which a convolution does not take, crop (or fill) beforehand. */
static nn_value *pad_or_crop(onnx_node *n, nn_value *x, onnx_conv *c) {
  bool any_negative = false;
  for (int i = 0; i < 2 * c->nsp; i++) {
    int64_t least, most;
    nn_dim_range(c->pads[i], &least, &most);
    any_negative |= least < 0;
  }
  if (!any_negative || !x) return x;
  nn_value *padded = onnx_pad_space(n, x, nn_b_scalar(n->b, x->type.dtype, 0), c);
  for (int i = 0; i < 2 * c->nsp; i++) c->pads[i] = nn_dim_const(n->m, 0);
  return padded;
}

static nn_value *dilate_input(onnx_node *n, const onnx_conv *c) {
  nn_value *x = n->in[0];
  int64_t steps[MAX_SPATIAL + 2] = {1, 1};
  bool any = false;
  for (int i = 0; i < c->nsp; i++) {
    steps[i + 2] = c->strides[i];
    any |= c->strides[i] != 1;
  }
  if (!any) return x;
  nn_op *op = nn_b_begin(n->b, NN_OP_DILATE, &x, 1, -1);
  if (!op) return NULL;
  nn_set_ints(op, "steps", steps, x->type.rank);
  return nn_b_end(n->b, op);
}

static nn_status read_output_padding(onnx_node *n, int nsp, int64_t *extra) {
  int count = 0;
  const int64_t *given = onnx_ints(n, "output_padding", &count);
  if (count != 0 && count != nsp)
    return onnx_fail(n, "attribute output_padding has %d values, expected %d", count, nsp);
  for (int i = 0; i < nsp; i++) {
    extra[i] = count ? given[i] : 0;
    if (extra[i] < 0 || extra[i] > INT32_MAX)
      return onnx_fail(n, "attribute output_padding holds %lld, expected 0 or more", (long long)extra[i]);
  }
  return NN_OK;
}

nn_status onnx_ConvTranspose(onnx_node *n) {
  onnx_conv c;
  nn_module *m = n->m;
  int64_t extra[MAX_SPATIAL];
  NN_TRY(check_operands(n));
  NN_TRY(onnx_conv_read(n, n->in[0]->type, n->in[1]->type, true, &c));
  NN_TRY(read_output_padding(n, c.nsp, extra));
  NN_TRY(find_cuts(n, &c, extra));
  for (int i = 0; i < c.nsp; i++) {
    c.pads[i] = nn_dim_sub(m, nn_dim_const(m, reach(&c, i) - 1), c.pads[i]);
    c.pads[c.nsp + i] = nn_dim_sub(m, nn_dim_const(m, reach(&c, i) - 1 + extra[i]), c.pads[c.nsp + i]);
  }
  nn_value *dilated = dilate_input(n, &c), *turned = turn_weight(n, &c);
  dilated = pad_or_crop(n, dilated, &c);
  for (int i = 0; i < c.nsp; i++) c.strides[i] = 1;
  return give_with_bias(n, onnx_conv_make(n, dilated, turned, &c));
}
