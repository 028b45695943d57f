/* conv_depthwise: one filter for each channel, channels in blocks. A vector is a pixel of a block; a register tile is a few pixels of a
   row. Rows of the kernel that lie outside the image are left out while running; at the ends of a row, whose distances from
   its begin or its end are known while compiling, so are columns.

   A row whose width is a symbol has the same tiles at its begin and inside. The last one, of as few pixels as do,
   ends where the row ends; what it has in common with the tile before it is not stored again, nor what lies before the row. */
#include "codegen/codegen.h"

enum {
  MOST_PIXELS = 14,       /* of a tile */
  FEW_AT_END = 4,         /* pixels whose windows reach beyond the row: the last tile has room for them, and for as many as other tiles have */
  UNROLLED_KERNEL = 16,   /* columns of a kernel that are copied out for all pixels */
  LIKELY_SIDE = 224,      /* of the network's input, for estimates */
  LARGE = 1 << 24
};

typedef struct depthwise {
  nn_value *x, *y;
  nn_buf *w;
  int lanes, pixels;
  int64_t block, kernel[2], stride[2], dilation[2], before[2], after[2];
  nn_x *in[2], *out[2];
  int64_t width;                /* of the output, or what is likely */
  int64_t left, right;          /* pixels at the begin and at the end of a row whose windows may reach beyond the image */
  int64_t columns[2];           /* of the image from the first tap of a row's last pixel on: at least, at most */
  int most;                     /* pixels of a row's last tile */
  nn_buf *stage;                /* its results; NULL: the width is known */
  nn_x *image, *channels, *row; /* block of channels */
  nn_x *vector0;                /* first lane of the present vector in the block */
  nn_x *tap_lo, *tap_hi;        /* rows of the kernel */
} depthwise;

/* Pixels of a row, and what is known of where they lie. */
typedef struct tile {
  nn_x *x0;
  int pixels;
  bool is_inside;      /* all their windows lie in the row of the image */
  int64_t begin[2];    /* x0: at least, at most */
  int64_t end[2];      /* pixels from x0 to the end of the row: at least, at most */
} tile;

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
    c->after[d] = nn_op_attr(op, "pads")->count ? nn_dim_value(pads[2 + d]) : 0;
    c->in[d] = nn_dim_x(L, c->x->type.dims[2 + d]);
    c->out[d] = nn_dim_x(L, c->y->type.dims[2 + d]);
  }
  c->width = nn_dim_likely(L->module, c->y->type.dims[3], LIKELY_SIDE);
}

/* in = (out - 1) * stride + extent - before - after + what the last window leaves over. */
static void set_ends(nn_lower *L, depthwise *c) {
  int64_t extent = (c->kernel[1] - 1) * c->dilation[1] + 1, in, out;
  c->left = c->before[1] > 0 ? ceil_div(c->before[1], c->stride[1]) : 0;
  c->right = c->after[1] > 0 ? ceil_div(c->after[1], c->stride[1]) : 0;
  c->most = c->pixels + (c->right > 1 && c->right <= FEW_AT_END ? (int)c->right - 1 : 0);
  c->columns[0] = extent - c->after[1];
  c->columns[1] = c->columns[0] + c->stride[1] - 1;
  if (nn_x_is_const(c->in[1], &in) && nn_x_is_const(c->out[1], &out))
    c->columns[0] = c->columns[1] = in + c->before[1] - (out - 1) * c->stride[1];
  else
    c->stage = nn_temp(L, NN_BUF_WORKER, NN_F32, nn_dim_const(L->module, (int64_t)c->most * c->lanes));
}

/* Registers: a sum for each pixel; inputs and weights of a row of the kernel. */
static int pixels_of(const nn_lower *L, const depthwise *c) {
  int64_t most = L->target->vector_registers / 2 - 2;
  if (most > MOST_PIXELS) most = MOST_PIXELS;
  if (most < 1) most = 1;
  most = nn_schedule(L->module, L->op, NN_KNOB_TILE_ROWS, most, 1, most);
  if (!nn_x_is_const(c->out[1], NULL)) return (int)most;
  return (int)(c->width ? ceil_div(c->width, ceil_div(c->width, most)) : 1);
}

/* Column of the input under column `tap` of the kernel at pixel x. */
static nn_x *input_column(nn_lower *L, const depthwise *c, nn_x *x, nn_x *tap) {
  nn_kernel *k = L->kernel;
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, x, c->stride[1]), nn_xi_mulc(k, tap, c->dilation[1]));
  return nn_xi_addc(k, at, -c->before[1]);
}

static int64_t above(int64_t most, int64_t by) { return most == INT64_MAX ? most : most + by; }

typedef enum where { OUTSIDE, INSIDE, UNKNOWN } where;

/* Column `tap` of the kernel at pixel r of the tile: does it lie in the image? */
static where place_of_tap(const depthwise *c, const tile *t, int64_t r, int64_t tap) {
  int64_t s = c->stride[1], at = r * s + tap * c->dilation[1]; /* from the first tap of the tile's first pixel */
  int64_t most = t->begin[1] < LARGE ? t->begin[1] * s : INT64_MAX;
  int64_t room[2] = {c->columns[0] + (t->end[0] - 1) * s, t->end[1] < LARGE ? c->columns[1] + (t->end[1] - 1) * s : INT64_MAX};
  if (above(most, at) < c->before[1] || at >= room[1]) return OUTSIDE;
  return t->begin[0] * s + at >= c->before[1] && at < room[0] ? INSIDE : UNKNOWN;
}

static void add_product(nn_lower *L, depthwise *c, nn_buf *acc, nn_x *row, nn_x *ty, nn_x *tx, nn_x *r, nn_x *column) {
  nn_kernel *k = L->kernel;
  nn_x *l = nn_lanes_begin(L, c->lanes), *lane = nn_xi_add(k, c->vector0, l);
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, c->channels, c->kernel[0]), ty);
  at = nn_xi_add(k, nn_xi_mulc(k, nn_xi_add(k, nn_xi_mulc(k, at, c->kernel[1]), tx), c->block), lane);
  nn_x *index[5] = {c->image, c->channels, row, column, lane};
  nn_x *to = nn_xi_add(k, nn_xi_mulc(k, r, c->lanes), l);
  nn_x *product = nn_mul_add(L, nn_read(L, c->x, index), nn_x_load(k, c->w, at, NULL), nn_x_load(k, acc, to, NULL));
  nn_store(k, acc, to, product, NULL);
  nn_lanes_end(L, c->lanes);
}

static void add_guarded(nn_lower *L, depthwise *c, nn_buf *acc, nn_x *row, nn_x *ty, nn_x *tx, nn_x *r, nn_x *column) {
  nn_kernel *k = L->kernel;
  nn_if_begin(k, nn_x_binary(k, NN_X_AND, nn_x_binary(k, NN_X_LE, nn_x_int(k, 0), column), nn_x_binary(k, NN_X_LT, column, c->in[1])));
  add_product(L, c, acc, row, ty, tx, r, column);
  nn_end(k);
}

static void add_inside(nn_lower *L, depthwise *c, const tile *t, nn_buf *acc, nn_x *row, nn_x *ty, nn_x *tx, bool is_guarded) {
  nn_kernel *k = L->kernel;
  nn_x *r = nn_loop_range(k, NN_UNROLL, "r", t->pixels), *column = input_column(L, c, nn_xi_add(k, t->x0, r), tx);
  if (is_guarded) add_guarded(L, c, acc, row, ty, tx, r, column);
  else add_product(L, c, acc, row, ty, tx, r, column);
  nn_end(k);
}

/* All columns of the kernel at the ends of a row: those that are certain to lie outside are left out. */
static void add_at_ends(nn_lower *L, depthwise *c, const tile *t, nn_buf *acc, nn_x *row, nn_x *ty) {
  nn_kernel *k = L->kernel;
  for (int64_t tap = 0; tap < c->kernel[1]; tap++)
    for (int i = 0; i < t->pixels; i++) {
      where place = place_of_tap(c, t, i, tap);
      nn_x *r = nn_x_int(k, i), *tx = nn_x_int(k, tap), *column = input_column(L, c, nn_xi_add(k, t->x0, r), tx);
      if (place == INSIDE) add_product(L, c, acc, row, ty, tx, r, column);
      if (place == UNKNOWN) add_guarded(L, c, acc, row, ty, tx, r, column);
    }
}

/* The tile's sums, in registers. */
static nn_buf *compute_tile(nn_lower *L, depthwise *c, const tile *t) {
  nn_kernel *k = L->kernel;
  nn_buf *acc = nn_row_regs(L, nn_zero(L, NN_F32), t->pixels, c->lanes);
  nn_x *ty = nn_loop_begin(k, NN_FOR, "ty", c->tap_lo, c->tap_hi);
  nn_x *row = nn_xi_add(k, nn_xi_mulc(k, c->row, c->stride[0]), nn_xi_mulc(k, ty, c->dilation[0]));
  row = nn_let(k, nn_xi_addc(k, row, -c->before[0]));
  bool is_unrolled = c->kernel[1] <= UNROLLED_KERNEL;
  if (is_unrolled && !t->is_inside) {
    add_at_ends(L, c, t, acc, row, ty);
  } else {
    nn_x *tx = nn_loop_range(k, is_unrolled ? NN_UNROLL : NN_FOR, "tx", c->kernel[1]);
    add_inside(L, c, t, acc, row, ty, tx, !t->is_inside);
    nn_end(k);
  }
  nn_end(k);
  return acc;
}

static void write_pixel(nn_lower *L, depthwise *c, nn_buf *src, nn_x *x0, nn_x *r) {
  nn_kernel *k = L->kernel;
  nn_x *l = nn_lanes_begin(L, c->lanes);
  nn_x *index[5] = {c->image, c->channels, c->row, nn_xi_add(k, x0, r), nn_xi_add(k, c->vector0, l)};
  nn_write(L, c->y, index, nn_let(k, nn_x_load(k, src, nn_xi_add(k, nn_xi_mulc(k, r, c->lanes), l), NULL)));
  nn_lanes_end(L, c->lanes);
}

static void emit_tile(nn_lower *L, depthwise *c, const tile *t) {
  nn_buf *acc = compute_tile(L, c, t);
  write_pixel(L, c, acc, t->x0, nn_loop_range(L->kernel, NN_UNROLL, "r", t->pixels));
  nn_end(L->kernel);
}

/* ---- rows of a known width ---------------------------------------------------------------------------------------- */

static tile tile_at(nn_lower *L, const depthwise *c, int64_t i) {
  int64_t first = i * c->pixels, end = c->width - first;
  tile t = {nn_x_int(L->kernel, first), (int)(end < c->pixels ? end : c->pixels), true, {first, first}, {end, end}};
  t.is_inside = first >= c->left && place_of_tap(c, &t, t.pixels - 1, c->kernel[1] - 1) == INSIDE;
  return t;
}

static bool is_whole_inside(nn_lower *L, const depthwise *c, int64_t i) {
  tile t = tile_at(L, c, i);
  return t.is_inside && t.pixels == c->pixels;
}

static void emit_inner(nn_lower *L, depthwise *c, nn_x *lo, nn_x *hi) {
  nn_kernel *k = L->kernel;
  nn_x *i = nn_loop_begin(k, NN_FOR, "tile", lo, hi);
  emit_tile(L, c, &(tile){.x0 = nn_let(k, nn_xi_mulc(k, i, c->pixels)), .pixels = c->pixels, .is_inside = true});
  nn_end(k);
}

static void emit_tiles(nn_lower *L, depthwise *c, int64_t first, int64_t end) {
  for (int64_t i = first; i < end; i++) {
    tile t = tile_at(L, c, i);
    t.is_inside = false;
    emit_tile(L, c, &t);
  }
}

/* Tiles at the ends, and a loop over those between them that lie inside. */
static void emit_known_row(nn_lower *L, depthwise *c) {
  nn_kernel *k = L->kernel;
  int64_t tiles = ceil_div(c->width, c->pixels), lo = 0, hi = tiles;
  while (lo < tiles && !is_whole_inside(L, c, lo)) lo++;
  while (hi > lo && !is_whole_inside(L, c, hi - 1)) hi--;
  emit_tiles(L, c, 0, lo);
  if (hi > lo) emit_inner(L, c, nn_x_int(k, lo), nn_x_int(k, hi));
  emit_tiles(L, c, hi, tiles);
}

/* ---- rows of any width --------------------------------------------------------------------------------------------- */

/* The last tile has 1, 2, 4.. pixels up to a quarter of `most`, then a half, three quarters, all: each at most twice the one before. */
static int next_size(int n, int most) {
  for (int quarters = 1; quarters < 4; quarters++) {
    int size = (quarters * most + 3) / 4;
    if (size > n) return quarters == 1 && 2 * n < size ? 2 * n : size;
  }
  return most;
}

/* The least that is n or more. */
static nn_x *size_for(nn_lower *L, nn_x *n, int most) {
  nn_kernel *k = L->kernel;
  nn_x *found = nn_x_int(k, 1);
  for (int s = 1; s < most; s = next_size(s, most))
    found = nn_x_select(k, nn_x_binary(k, NN_X_LT, nn_x_int(k, s), n), nn_x_int(k, next_size(s, most)), found);
  return nn_let(k, found);
}

static void stage_tile(nn_lower *L, depthwise *c, const tile *t) {
  nn_kernel *k = L->kernel;
  nn_buf *acc = compute_tile(L, c, t);
  nn_x *r = nn_loop_range(k, NN_UNROLL, "r", t->pixels), *l = nn_lanes_begin(L, c->lanes), *at = nn_xi_add(k, nn_xi_mulc(k, r, c->lanes), l);
  nn_store(k, c->stage, at, nn_x_load(k, acc, at, NULL), NULL);
  nn_lanes_end(L, c->lanes);
  nn_end(k);
}

/* A tile of as few pixels as are enough for `count`, `size` or more, that ends with the row. It may begin before the row does. */
static void stage_sizes(nn_lower *L, depthwise *c, nn_x *count, int too_small, int size) {
  nn_kernel *k = L->kernel;
  tile t = {.x0 = nn_let(k, nn_xi_addc(k, c->out[1], -size)), .pixels = size, .begin = {too_small + 1 - size, INT64_MAX}, .end = {size, size}};
  if (size < c->most) nn_if_begin(k, nn_x_binary(k, NN_X_LE, count, nn_x_int(k, size)));
  stage_tile(L, c, &t);
  if (size == c->most) return;
  nn_else(k);
  stage_sizes(L, c, count, size, next_size(size, c->most));
  nn_end(k);
}

/* The pixels from `done` on, at most c->most. */
static void emit_end(nn_lower *L, depthwise *c, nn_x *done) {
  nn_kernel *k = L->kernel;
  nn_x *left = nn_let(k, nn_xi_sub(k, c->out[1], done));
  nn_if_begin(k, nn_x_binary(k, NN_X_LT, nn_x_int(k, 0), left));
  stage_sizes(L, c, left, 0, 1);
  nn_x *size = size_for(L, left, c->most), *x0 = nn_let(k, nn_xi_sub(k, c->out[1], size));
  write_pixel(L, c, c->stage, x0, nn_loop_begin(k, NN_FOR, "r", nn_let(k, nn_xi_sub(k, size, left)), size));
  nn_end(k);
  nn_end(k);
}

/* Tiles before the last one. The first one has nothing to do with the row's end, but for its last pixels. */
static nn_x *emit_tiles_inside(nn_lower *L, depthwise *c) {
  nn_kernel *k = L->kernel;
  int64_t n = c->pixels, tiles = c->left > 0;
  nn_x *zero = nn_x_int(k, 0), *is_long = nn_let(k, nn_x_binary(k, NN_X_LT, nn_x_int(k, n), c->out[1]));
  nn_x *hi = nn_xi_floordiv(k, nn_xi_addc(k, c->out[1], -c->right), nn_x_int(k, n));
  hi = nn_let(k, nn_x_select(k, is_long, nn_xi_max(k, hi, nn_x_int(k, tiles)), zero));
  if (tiles) {
    nn_if_begin(k, is_long);
    emit_tile(L, c, &(tile){.x0 = zero, .pixels = c->pixels, .end = {n + 1, INT64_MAX}});
    nn_end(k);
  }
  emit_inner(L, c, nn_x_int(k, tiles), hi);
  return hi;
}

/* The same where windows reach so far that any column may lie outside. */
static nn_x *emit_tiles_anywhere(nn_lower *L, depthwise *c) {
  nn_kernel *k = L->kernel;
  nn_x *hi = nn_let(k, nn_xi_floordiv(k, c->out[1], nn_x_int(k, c->pixels)));
  nn_x *i = nn_loop_begin(k, NN_FOR, "tile", nn_x_int(k, 0), hi);
  tile t = {.x0 = nn_let(k, nn_xi_mulc(k, i, c->pixels)), .pixels = c->pixels, .begin = {0, INT64_MAX}, .end = {c->pixels, INT64_MAX}};
  emit_tile(L, c, &t);
  nn_end(k);
  return hi;
}

static void emit_any_row(nn_lower *L, depthwise *c) {
  nn_x *tiles = c->right <= FEW_AT_END && c->left <= c->pixels ? emit_tiles_inside(L, c) : emit_tiles_anywhere(L, c);
  emit_end(L, c, nn_let(L->kernel, nn_xi_mulc(L->kernel, tiles, c->pixels)));
}

/* Rows of the kernel that lie in the image. */
static void set_taps(nn_lower *L, depthwise *c) {
  nn_kernel *k = L->kernel;
  nn_x *first = nn_xi_addc(k, nn_xi_mulc(k, c->row, c->stride[0]), -c->before[0]);
  nn_x *taps = nn_x_int(k, c->kernel[0]), *zero = nn_x_int(k, 0);
  nn_x *lo = nn_ceildiv_x(L, nn_xi_sub(k, zero, first), c->dilation[0]);
  nn_x *hi = nn_ceildiv_x(L, nn_xi_sub(k, c->in[0], first), c->dilation[0]);
  c->tap_lo = nn_let(k, nn_xi_max(k, lo, zero));
  c->tap_hi = nn_let(k, nn_xi_min(k, hi, taps));
}

static void emit_line(nn_lower *L, depthwise *c) {
  nn_kernel *k = L->kernel;
  set_taps(L, c);
  nn_x *v = nn_loop_range(k, NN_FOR, "v", c->block / c->lanes);
  c->vector0 = nn_xi_mulc(k, v, c->lanes);
  nn_sums_start(L, c->lanes);
  if (c->stage) emit_any_row(L, c);
  else emit_known_row(L, c);
  nn_sums_keep(L, c->image, c->channels, c->row, c->vector0, c->lanes);
  nn_end(k);
}

/* index: half of the image (nn_split_task's reason), image, block of channels, row of the half. */
static void emit_half_line(nn_lower *L, nn_x *const *index, void *data) {
  depthwise *c = data;
  nn_kernel *k = L->kernel;
  nn_x *half = nn_ceildiv_x(L, c->out[0], 2);
  int64_t rows;
  bool is_even = nn_x_is_const(c->out[0], &rows) && rows % 2 == 0;
  c->image = index[1];
  c->channels = index[2];
  c->row = nn_let(k, nn_xi_add(k, nn_xi_mul(k, index[0], half), index[3]));
  if (!is_even) nn_if_begin(k, nn_x_binary(k, NN_X_LT, c->row, c->out[0]));
  emit_line(L, c);
  if (!is_even) nn_end(k);
}

nn_status lower_conv_depthwise(nn_lower *L, nn_op *op) {
  depthwise c = {0};
  set_sizes(L, op, &c);
  if (!nn_read_is_plain(L, op->in[1], &c.w)) return nn_fail(op, "internal error: weights that are no buffer");
  c.pixels = pixels_of(L, &c);
  set_ends(L, &c);
  int64_t cost = (c.kernel[0] * c.kernel[1] + 2) * c.width * c.block;
  nn_sums_open(L);
  nn_module *m = L->module;
  const nn_dim *dims = c.y->type.dims;
  nn_dim halves[4] = {nn_dim_const(m, 2), dims[0], dims[1], nn_dim_ceildiv(m, dims[2], nn_dim_const(m, 2))};
  nn_parallel_rows(L, halves, 4, cost < (1 << 24) ? cost : 1 << 24, emit_half_line, &c);
  nn_sums_close(L);
  return NN_OK;
}
