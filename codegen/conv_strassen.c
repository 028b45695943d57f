/* Convolutions of one point on channels in blocks, in Strassen's form (gemm_strassen.c): pixels of all images are the rows of A,
   input channels the depth, panels of weights are B. Pairs of whole panels take it; conv_blocked.c does what is left of them. */
#include "codegen/codegen.h"
#include "passes/passes.h"

typedef struct point {
  nn_value *x, *y;
  nn_type pixels;    /* images, height, width of y */
  int64_t stride[2], block;
} point;

static nn_x *read_pixel(nn_lower *L, void *data, nn_x *m, nn_x *ki) {
  const point *p = data;
  nn_kernel *k = L->kernel;
  nn_x *at[3], *block = nn_x_int(k, p->block);
  nn_unflatten(L, p->pixels, m, at);
  nn_x *index[5] = {at[0], nn_xi_floordiv(k, ki, block), nn_xi_mulc(k, at[1], p->stride[0]), nn_xi_mulc(k, at[2], p->stride[1]),
                    nn_xi_mod(k, ki, block)};
  return nn_read(L, p->x, index);
}

static void write_pixel(nn_lower *L, void *data, nn_x *m, nn_x *n, nn_x *value) {
  const point *p = data;
  nn_write_pixel(L, p->y, m, n, value);
}

static point describe(nn_lower *L, nn_op *op) {
  nn_type y = op->out[0]->type;
  int count;
  const int64_t *strides = nn_attr_ints(op, "strides", &count);
  point p = {.x = op->in[0], .y = op->out[0], .block = nn_attr_int(op, "block"), .stride = {1, 1}};
  for (int d = 0; d < count; d++) p.stride[d] = strides[d];
  p.pixels = nn_type_make(L->module, NN_I64, 3, (nn_dim[]){y.dims[0], y.dims[2], y.dims[3]});
  return p;
}

nn_x *nn_conv_strassen(nn_lower *L, nn_op *op, nn_buf *w, bool store_direct) {
  nn_kernel *k = L->kernel;
  nn_module *m = L->module;
  nn_type weights = op->in[1]->type;
  point p = describe(L, op);
  int64_t least = nn_attr_int(op, "strassen"), width = nn_dim_value(weights.dims[5]), panels = 2 * nn_strassen_pairs(nn_attr_int(op, "outputs"), width), fewest, most;
  nn_gemm g = {.m = nn_type_count(m, p.pixels),
               .n = nn_dim_const(m, panels * width),
               .k = nn_dim_const(m, nn_attr_int(op, "channels")),
               .acc = NN_F32,
               .a = read_pixel,
               .store = write_pixel,
               .b_panels = w,
               .panel_width = width,
               .strassen = least,
               .a_block = p.block,
               .store_direct = store_direct,
               .data = &p};
  nn_dim_range(g.m, &fewest, &most);
  bool has_rest = nn_attr_int(op, "channels") % p.block != 0; /* panels have whole blocks, whose middle is elsewhere */
  if (!least || most < least || has_rest || !nn_gemm_strassen_fits(L, &g)) return nn_x_int(k, 0);
  if (fewest >= least) {
    nn_gemm_strassen(L, &g);
    return nn_x_int(k, panels);
  }
  nn_x *takes_it = nn_let(k, nn_x_binary(k, NN_X_LE, nn_x_int(k, least), nn_dim_x(L, g.m)));
  nn_if_begin(k, takes_it);
  nn_gemm_strassen(L, &g);
  nn_end(k);
  return nn_let(k, nn_x_select(k, takes_it, nn_x_int(k, panels), nn_x_int(k, 0)));
}
