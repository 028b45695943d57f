/* conv: which form. Depthwise convolutions have no product worth tiling and run along rows of the output
   (conv_direct.c), as do those whose kernel size is not known; all others are products over register tiles
   (conv_gemm.c). */
#include "codegen/codegen.h"

enum { DEPTHWISE_OUTPUTS = 4, MOST_TAPS = 1 << 20 };

static void set_spatial(nn_lower *L, nn_op *op, nn_conv *c) {
  nn_module *m = L->module;
  const int64_t *strides = nn_attr_ints(op, "strides", NULL), *dilations = nn_attr_ints(op, "dilations", NULL);
  const nn_dim *pads = nn_attr_dims(op, "pads", NULL);
  bool has_strides = nn_op_attr(op, "strides")->count, has_dilations = nn_op_attr(op, "dilations")->count;
  bool has_pads = nn_op_attr(op, "pads")->count;
  int64_t taps = 1;
  c->static_kernel = true;
  for (int d = 0; d < c->nd; d++) {
    c->stride[d] = has_strides ? strides[d] : 1;
    c->dilation[d] = has_dilations ? dilations[d] : 1;
    c->before[d] = has_pads ? pads[d] : nn_dim_const(m, 0);
    c->kernel_dim[d] = c->w->type.dims[2 + d];
    c->in[d] = c->x->type.dims[2 + d];
    c->out[d] = c->y->type.dims[2 + d];
    bool known = nn_dim_is_const(c->kernel_dim[d], &c->kernel[d]) && c->kernel[d] <= MOST_TAPS;
    taps = known && c->static_kernel ? taps * c->kernel[d] : taps;
    c->static_kernel = c->static_kernel && known && taps <= MOST_TAPS;
  }
}

nn_status lower_conv(nn_lower *L, nn_op *op) {
  nn_module *m = L->module;
  nn_conv c = {.x = op->in[0], .w = op->in[1], .y = op->out[0], .nd = op->in[0]->type.rank - 2};
  c.groups = nn_attr_int(op, "groups");
  c.batch = c.y->type.dims[0];
  c.group_in = c.w->type.dims[1];
  c.group_out = nn_dim_floordiv(m, c.w->type.dims[0], nn_dim_const(m, c.groups));
  c.acc = nn_acc_dtype(c.y->type.dtype);
  set_spatial(L, op, &c);
  int64_t count, outputs;
  if (nn_type_static_count(c.y->type, &count) && count == 0) return NN_OK;
  bool depthwise = nn_dim_is(c.group_in, 1) && nn_dim_is_const(c.group_out, &outputs) && outputs <= DEPTHWISE_OUTPUTS &&
                   c.groups > 1;
  if (c.static_kernel && !depthwise)
    nn_conv_gemm(L, &c);
  else
    nn_conv_direct(L, &c);
  return NN_OK;
}
