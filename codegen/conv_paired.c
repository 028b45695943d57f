/* Convolutions of channels in blocks as products in pairs (gemm_paired.c): results' pixels of all images are the rows of A, the depth is (tap, input
   channel). Rows are copied anyway, so windows need no copy of their own. Panels are blocks of output channels. */
#include "codegen/codegen.h"

typedef struct windows {
  nn_value *x, *y;
  nn_type pixels; /* images, height, width of y */
  int64_t channels, run, block; /* run: channels of a tap in the depth */
  int64_t kernel[2], stride[2], dilation[2], before[2];
  bool is_padded;               /* windows reach beyond x */
} windows;

/* Where window m has its tap along axis d. */
static nn_x *place_in(nn_kernel *k, const windows *w, int d, nn_x *at, nn_x *tap) {
  return nn_xi_addc(k, nn_xi_add(k, nn_xi_mulc(k, at, w->stride[d]), nn_xi_mulc(k, tap, w->dilation[d])), -w->before[d]);
}

static nn_x *lies_within(nn_lower *L, nn_x *at, nn_dim size) {
  nn_kernel *k = L->kernel;
  return nn_x_binary(k, NN_X_AND, nn_x_binary(k, NN_X_LE, nn_x_int(k, 0), at), nn_x_binary(k, NN_X_LT, at, nn_dim_x(L, size)));
}

static nn_x *read_window(nn_lower *L, void *data, nn_x *m, nn_x *ki) {
  const windows *w = data;
  nn_kernel *k = L->kernel;
  nn_x *at[3], *block = nn_x_int(k, w->block), *run = nn_x_int(k, w->run), *columns = nn_x_int(k, w->kernel[1]);
  nn_unflatten(L, w->pixels, m, at);
  nn_x *tap = nn_xi_floordiv(k, ki, run), *channel = nn_xi_mod(k, ki, run), *inside = NULL;
  nn_x *y = nn_let(k, place_in(k, w, 0, at[1], nn_xi_floordiv(k, tap, columns))), *x = nn_let(k, place_in(k, w, 1, at[2], nn_xi_mod(k, tap, columns)));
  nn_x *index[5] = {at[0], nn_xi_floordiv(k, channel, block), y, x, nn_xi_mod(k, channel, block)};
  if (w->is_padded) inside = nn_let(k, nn_x_binary(k, NN_X_AND, lies_within(L, y, w->x->type.dims[2]), lies_within(L, x, w->x->type.dims[3])));
  if (w->run > w->channels) {
    nn_x *is_channel = nn_x_binary(k, NN_X_LT, channel, nn_x_int(k, w->channels));
    inside = nn_let(k, inside ? nn_x_binary(k, NN_X_AND, inside, is_channel) : is_channel);
  }
  if (!inside) return nn_read(L, w->x, index);
  nn_guard_push(L, inside);
  nn_x *value = nn_read(L, w->x, index);
  nn_guard_pop(L);
  return nn_x_select(k, inside, value, nn_zero(L, NN_F32));
}

static void write_pixel(nn_lower *L, void *data, nn_x *m, nn_x *n, nn_x *value) {
  const windows *w = data;
  nn_write_pixel(L, w->y, m, n, value);
}

static int64_t number_of(nn_op *op, const char *name, int d) {
  int count;
  const int64_t *values = nn_attr_ints(op, name, &count);
  return count ? values[d] : 1;
}

static windows describe(nn_lower *L, nn_op *op) {
  nn_type y = op->out[0]->type;
  windows w = {.x = op->in[0], .y = op->out[0], .channels = nn_attr_int(op, "channels"), .block = nn_dim_value(y.dims[4])};
  int npads;
  const nn_dim *pads = nn_attr_dims(op, "pads", &npads);
  for (int i = 0; i < npads; i++) w.is_padded |= !nn_dim_is(pads[i], 0);
  for (int d = 0; d < 2; d++) {
    w.kernel[d] = number_of(op, "kernel", d);
    w.stride[d] = number_of(op, "strides", d);
    w.dilation[d] = number_of(op, "dilations", d);
    w.before[d] = npads ? nn_dim_value(pads[d]) : 0;
  }
  w.run = w.kernel[0] * w.kernel[1] == 1 ? w.channels : nn_dim_value(w.x->type.dims[1]) * w.block;
  w.pixels = nn_type_make(L->module, NN_I64, 3, (nn_dim[]){y.dims[0], y.dims[2], y.dims[3]});
  return w;
}

nn_status lower_conv_paired(nn_lower *L, nn_op *op) {
  nn_type panels = op->in[1]->type;
  int64_t width = nn_dim_value(panels.dims[2]), count;
  if (nn_type_static_count(op->out[0]->type, &count) && count == 0) return NN_OK;
  windows w = describe(L, op);
  nn_buf *weights;
  if (!nn_read_is_plain(L, op->in[1], &weights)) return nn_fail(op, "internal error: weights that are no buffer");
  nn_gemm_paired(L, &(nn_gemm){.m = nn_type_count(L->module, w.pixels),
                               .n = nn_dim_const(L->module, nn_dim_value(panels.dims[0]) * width),
                               .k = nn_dim_const(L->module, w.run * w.kernel[0] * w.kernel[1]),
                               .acc = NN_F32,
                               .a = read_window,
                               .store = write_pixel,
                               .b_panels = weights,
                               .panel_width = width,
                               .a_block = w.block,
                               .a_run = w.run,
                               .store_direct = nn_epilogue_is_short(L),
                               .data = &w});
  return NN_OK;
}
