/* Convolutions of one point on channels in blocks, as products in pairs (gemm_paired.c): pixels of all images are the rows of A, input channels the
   depth. Panels are blocks of output channels. */
#include "codegen/codegen.h"

typedef struct point {
  nn_value *x, *y;
  nn_type pixels; /* images, height, width of y */
  int64_t stride[2], block;
} point;

static nn_x *read_pixel(nn_lower *L, void *data, nn_x *m, nn_x *ki) {
  const point *p = data;
  nn_kernel *k = L->kernel;
  nn_x *at[3], *block = nn_x_int(k, p->block);
  nn_unflatten(L, p->pixels, m, at);
  nn_x *index[5] = {at[0], nn_xi_floordiv(k, ki, block), nn_xi_mulc(k, at[1], p->stride[0]), nn_xi_mulc(k, at[2], p->stride[1]), nn_xi_mod(k, ki, block)};
  return nn_read(L, p->x, index);
}

static void write_pixel(nn_lower *L, void *data, nn_x *m, nn_x *n, nn_x *value) {
  const point *p = data;
  nn_kernel *k = L->kernel;
  nn_x *at[3], *block = nn_x_int(k, p->block);
  nn_unflatten(L, p->pixels, m, at);
  nn_x *index[5] = {at[0], nn_xi_floordiv(k, n, block), at[1], at[2], nn_xi_mod(k, n, block)};
  nn_write(L, p->y, index, value);
}

nn_status lower_conv_paired(nn_lower *L, nn_op *op) {
  nn_type w = op->in[1]->type, y = op->out[0]->type;
  int64_t panels = nn_dim_value(w.dims[0]), width = nn_dim_value(w.dims[2]), count;
  if (nn_type_static_count(y, &count) && count == 0) return NN_OK;
  nn_buf *weights;
  if (!nn_read_is_plain(L, op->in[1], &weights)) return nn_fail(op, "its weights are not in memory");
  point p = {.x = op->in[0], .y = op->out[0], .block = width, .stride = {1, 1}};
  int nstrides;
  const int64_t *strides = nn_attr_ints(op, "strides", &nstrides);
  for (int d = 0; d < nstrides; d++) p.stride[d] = strides[d];
  p.pixels = nn_type_make(L->module, NN_I64, 3, (nn_dim[]){y.dims[0], y.dims[2], y.dims[3]});
  nn_gemm_paired(L, &(nn_gemm){.m = nn_type_count(L->module, p.pixels),
                               .n = nn_dim_const(L->module, panels * width),
                               .k = nn_dim_const(L->module, nn_attr_int(op, "channels")),
                               .acc = NN_F32,
                               .a = read_pixel,
                               .store = write_pixel,
                               .b_panels = weights,
                               .panel_width = width,
                               .a_block = width,
                               .store_direct = nn_epilogue_is_short(L),
                               .data = &p});
  return NN_OK;
}
