/* conv_depthwise: one filter for each channel, channels in blocks. A vector is a pixel of a block; a register tile is a few pixels of a
   row. Rows of the kernel that lie outside the image are left out while running; at the ends of a row, whose places
   in the image are known while compiling, so are columns. */
#include "codegen/codegen.h"

enum {
  MOST_PIXELS = 14,       /* of a tile */
  UNROLLED_KERNEL = 16    /* columns of a kernel that are copied out for all pixels */
};

typedef struct depthwise {
  nn_value *x, *y;
  nn_buf *w;
  int lanes, pixels;
  int64_t block, kernel[2], stride[2], dilation[2], before[2], in[2], out[2];
  nn_x *image, *channels, *row; /* block of channels */
  nn_x *vector0;                /* first lane of the present vector in the block */
  nn_x *tap_lo, *tap_hi;        /* rows of the kernel */
  nn_x *x0;                     /* first pixel of the tile */
} depthwise;

static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

static void set_sizes(nn_lower *L, nn_op *op, depthwise *c) {
  const int64_t *strides = nn_attr_ints(op, "strides", NULL), *dilations = nn_attr_ints(op, "dilations", NULL);
  const nn_dim *pads = nn_attr_dims(op, "pads", NULL);
  c->x = op->in[0];
  c->y = op->out[0];
  c->block = nn_dim_value(c->x->type.dims[4]);
  c->lanes = nn_target_lanes(L->target, NN_F32);
  if (c->lanes > c->block) c->lanes = (int)c->block;
  for (int d = 0; d < 2; d++) {
    c->kernel[d] = nn_dim_value(op->in[1]->type.dims[1 + d]);
    c->stride[d] = nn_op_attr(op, "strides")->count ? strides[d] : 1;
    c->dilation[d] = nn_op_attr(op, "dilations")->count ? dilations[d] : 1;
    c->before[d] = nn_op_attr(op, "pads")->count ? nn_dim_value(pads[d]) : 0;
    c->in[d] = nn_dim_value(c->x->type.dims[2 + d]);
    c->out[d] = nn_dim_value(c->y->type.dims[2 + d]);
  }
}

/* Registers: a sum for each pixel; inputs and weights of a row of the kernel. */
static int pixels_of(const nn_lower *L, const depthwise *c) {
  int64_t most = L->target->vector_registers / 2 - 2;
  if (most > MOST_PIXELS) most = MOST_PIXELS;
  if (most < 1) most = 1;
  return (int)(c->out[1] ? ceil_div(c->out[1], ceil_div(c->out[1], most)) : 1);
}

/* Column of the input under column `tap` of the kernel at pixel x. */
static nn_x *input_column(nn_lower *L, const depthwise *c, nn_x *x, nn_x *tap) {
  nn_kernel *k = L->kernel;
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, x, c->stride[1]), nn_xi_mulc(k, tap, c->dilation[1]));
  return nn_xi_addc(k, at, -c->before[1]);
}

static void add_tap(nn_lower *L, depthwise *c, nn_buf *acc, int pixels, nn_x *ty, nn_x *tx, bool is_inside) {
  nn_kernel *k = L->kernel;
  nn_x *row = nn_xi_add(k, nn_xi_mulc(k, c->row, c->stride[0]), nn_xi_mulc(k, ty, c->dilation[0]));
  row = nn_let(k, nn_xi_addc(k, row, -c->before[0]));
  nn_x *r = nn_loop_range(k, NN_UNROLL, "r", pixels);
  nn_x *column = input_column(L, c, nn_xi_add(k, c->x0, r), tx);
  if (!is_inside)
    nn_if_begin(k, nn_x_binary(k, NN_X_AND, nn_x_binary(k, NN_X_LE, nn_x_int(k, 0), column),
                               nn_x_binary(k, NN_X_LT, column, nn_x_int(k, c->in[1]))));
  nn_x *l = nn_lanes_begin(L, c->lanes), *lane = nn_xi_add(k, c->vector0, l);
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, c->channels, c->kernel[0]), ty);
  at = nn_xi_add(k, nn_xi_mulc(k, nn_xi_add(k, nn_xi_mulc(k, at, c->kernel[1]), tx), c->block), lane);
  nn_x *index[5] = {c->image, c->channels, row, column, lane};
  nn_x *to = nn_xi_add(k, nn_xi_mulc(k, r, c->lanes), l);
  nn_x *product = nn_mul_add(L, nn_read(L, c->x, index), nn_x_load(k, c->w, at, NULL), nn_x_load(k, acc, to, NULL));
  nn_store(k, acc, to, product, NULL);
  nn_lanes_end(L, c->lanes);
  if (!is_inside) nn_end(k);
  nn_end(k);
}

static void emit_tile(nn_lower *L, depthwise *c, nn_x *x0, int pixels, bool is_inside) {
  nn_kernel *k = L->kernel;
  nn_buf *acc = nn_row_regs(L, nn_zero(L, NN_F32), pixels, c->lanes);
  c->x0 = x0;
  nn_x *ty = nn_loop_begin(k, NN_FOR, "ty", c->tap_lo, c->tap_hi);
  nn_x *tx = nn_loop_range(k, c->kernel[1] <= UNROLLED_KERNEL ? NN_UNROLL : NN_FOR, "tx", c->kernel[1]);
  add_tap(L, c, acc, pixels, ty, tx, is_inside);
  nn_end(k);
  nn_end(k);
  nn_x *r = nn_loop_range(k, NN_UNROLL, "r", pixels), *l = nn_lanes_begin(L, c->lanes);
  nn_x *index[5] = {c->image, c->channels, c->row, nn_xi_add(k, x0, r), nn_xi_add(k, c->vector0, l)};
  nn_write(L, c->y, index, nn_let(k, nn_x_load(k, acc, nn_xi_add(k, nn_xi_mulc(k, r, c->lanes), l), NULL)));
  nn_lanes_end(L, c->lanes);
  nn_end(k);
}

static bool is_inside(const depthwise *c, int64_t first, int64_t end) {
  int64_t reach = (c->kernel[1] - 1) * c->dilation[1];
  return first * c->stride[1] >= c->before[1] && (end - 1) * c->stride[1] + reach - c->before[1] < c->in[1];
}

/* Tiles at the ends, and a loop over those between them that lie inside. */
static void emit_row(nn_lower *L, depthwise *c) {
  nn_kernel *k = L->kernel;
  int64_t n = c->pixels, tiles = ceil_div(c->out[1], n), lo = 0, hi = tiles;
  while (lo < tiles && !is_inside(c, lo * n, (lo + 1) * n)) lo++;
  while (hi > lo && ((hi == tiles && c->out[1] % n) || !is_inside(c, (hi - 1) * n, hi * n))) hi--;
  for (int64_t i = 0; i < lo; i++) {
    int64_t left = c->out[1] - i * n;
    emit_tile(L, c, nn_x_int(k, i * n), (int)(left < n ? left : n), false);
  }
  if (hi > lo) {
    nn_x *i = nn_loop_begin(k, NN_FOR, "tile", nn_x_int(k, lo), nn_x_int(k, hi));
    emit_tile(L, c, nn_let(k, nn_xi_mulc(k, i, n)), (int)n, true);
    nn_end(k);
  }
  for (int64_t i = hi; i < tiles; i++) {
    int64_t left = c->out[1] - i * n;
    emit_tile(L, c, nn_x_int(k, i * n), (int)(left < n ? left : n), false);
  }
}

/* Rows of the kernel that lie in the image. */
static void set_taps(nn_lower *L, depthwise *c) {
  nn_kernel *k = L->kernel;
  nn_x *first = nn_xi_addc(k, nn_xi_mulc(k, c->row, c->stride[0]), -c->before[0]);
  nn_x *taps = nn_x_int(k, c->kernel[0]), *zero = nn_x_int(k, 0);
  nn_x *lo = nn_ceildiv_x(L, nn_xi_sub(k, zero, first), c->dilation[0]);
  nn_x *hi = nn_ceildiv_x(L, nn_xi_sub(k, nn_x_int(k, c->in[0]), first), c->dilation[0]);
  c->tap_lo = nn_let(k, nn_xi_max(k, lo, zero));
  c->tap_hi = nn_let(k, nn_xi_min(k, hi, taps));
}

static void emit_line(nn_lower *L, nn_x *const *index, void *data) {
  depthwise *c = data;
  nn_kernel *k = L->kernel;
  c->image = index[0];
  c->channels = index[1];
  c->row = index[2];
  set_taps(L, c);
  nn_x *v = nn_loop_range(k, NN_FOR, "v", c->block / c->lanes);
  c->vector0 = nn_xi_mulc(k, v, c->lanes);
  emit_row(L, c);
  nn_end(k);
}

nn_status lower_conv_depthwise(nn_lower *L, nn_op *op) {
  depthwise c = {0};
  int64_t count;
  if (nn_type_static_count(op->out[0]->type, &count) && count == 0) return NN_OK;
  set_sizes(L, op, &c);
  if (!nn_read_is_plain(L, op->in[1], &c.w)) return nn_fail(op, "internal error: weights that are no buffer");
  c.pixels = pixels_of(L, &c);
  int64_t cost = (c.kernel[0] * c.kernel[1] + 2) * c.out[1] * c.block;
  nn_parallel_rows(L, c.y->type.dims, 3, cost < (1 << 24) ? cost : 1 << 24, emit_line, &c);
  return NN_OK;
}
