/* conv_blocked: convolution over channels in blocks, x[N, C/B, H, W, B], with weights in panels of two vectors of output
   channels. x may also be planar, x[N, C, H, W]: images of few channels, where a network begins.

   A task takes a band of rows of one image and a group of panels. It runs over the band once for each panel, in register
   tiles of a few pixels (conv_tile.c), so that the panel comes from L1 or L2 and the band of x from L2. Numbers of x are
   broadcast, so they may lie anywhere. Where x is plain, without padding, it is read in place. Else the task first copies
   what its band reads, with zeros around (`patch`): this is where producers fused into the reads are evaluated. Of
   1x1 convolutions with a stride it copies just the pixels that count.

   The channels of x beyond C in its last block are never read; those of y beyond K are computed of zero weights. */
#include "codegen/codegen.h"

enum {
  TASKS_WANTED = 32,
  TASK_FLOPS = 1 << 18,  /* at least */
  DIRECT_COST = 6,       /* of an epilogue that is copied out for each register */
  UNROLLED_CHANNELS = 4,
  MOST_PASSES = 12,      /* over a panel that still wait for the next one */
  LARGE = 1 << 24
};

typedef struct blocked {
  nn_op *op;
  nn_value *x, *y;
  nn_buf *w;
  bool is_planar;
  int64_t channels, outputs, block;      /* C, K, B */
  int64_t kernel[2], stride[2], dilation[2], before[2], in[2], out[2];
  int64_t blocks, inner;                 /* of x's channels in a group: blocks, and channels in each */
  int64_t groups, out_blocks, width, panels;
  int mr;
  bool is_patch, is_flat, is_sampled;    /* x is copied; tiles run over rows; the copy has every stride-th pixel */
  nn_buf *a;                             /* x or the patch */
  int64_t step[4];                       /* in a: from block to block, row to row, pixel to pixel, channel to channel */
  int64_t a_stride[2];                   /* of windows in a */
  int64_t band, nbands, group_panels, ngroups; /* tasks */
  nn_buf *stage;
  int64_t stage_size;
  /* of the present task, panel and tile */
  nn_x *image, *y0, *rows, *a_base, *panel, *block0, *row, *pass, *first;
  int64_t passes;                        /* row tiles of a band */
  nn_conv_tile tile;
  int64_t tile_blocks;                   /* of y that a tile writes */
  nn_x *tail_block;                      /* the incomplete block of x's channels, or NULL */
} blocked;

static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

static int64_t clamp64(int64_t x, int64_t low, int64_t high) { return x > high ? high : x < low ? low : x; }

/* ---- sizes ------------------------------------------------------------------------------------------------- */

static void set_sizes(nn_lower *L, nn_op *op, blocked *c) {
  const int64_t *strides = nn_attr_ints(op, "strides", NULL), *dilations = nn_attr_ints(op, "dilations", NULL);
  const nn_dim *pads = nn_attr_dims(op, "pads", NULL);
  nn_type w = op->in[1]->type;
  c->op = op;
  c->x = op->in[0];
  c->y = op->out[0];
  c->is_planar = c->x->type.rank == 4;
  c->channels = nn_attr_int(op, "channels");
  c->outputs = nn_attr_int(op, "outputs");
  c->block = nn_attr_int(op, "block");
  c->groups = nn_attr_int(op, "groups");
  c->panels = nn_dim_value(w.dims[0]);
  c->blocks = nn_dim_value(w.dims[1]);
  c->inner = nn_dim_value(w.dims[4]);
  c->width = nn_dim_value(w.dims[5]);
  c->out_blocks = nn_dim_value(c->y->type.dims[1]);
  for (int d = 0; d < 2; d++) {
    c->kernel[d] = nn_dim_value(w.dims[2 + d]);
    c->stride[d] = nn_op_attr(op, "strides")->count ? strides[d] : 1;
    c->dilation[d] = nn_op_attr(op, "dilations")->count ? dilations[d] : 1;
    c->before[d] = nn_op_attr(op, "pads")->count ? nn_dim_value(pads[d]) : 0;
    c->in[d] = nn_dim_value(c->x->type.dims[2 + d]);
    c->out[d] = nn_dim_value(c->y->type.dims[2 + d]);
  }
  c->tile.lanes = nn_target_lanes(L->target, NN_F32);
  if (c->tile.lanes > c->block) c->tile.lanes = (int)c->block;
}

/* Pixels of x that `count` results reach along axis d. */
static int64_t reach_of(const blocked *c, int d, int64_t count) {
  if (c->is_sampled) return count;
  return (count - 1) * c->stride[d] + (c->kernel[d] - 1) * c->dilation[d] + 1;
}

static bool has_padding(const blocked *c) {
  for (int d = 0; d < 2; d++)
    if (c->before[d] != 0 || reach_of(c, d, c->out[d]) > c->in[d]) return true;
  return false;
}

static void choose_form(nn_lower *L, blocked *c) {
  bool is_point = c->kernel[0] == 1 && c->kernel[1] == 1, strides = c->stride[0] > 1 || c->stride[1] > 1;
  c->is_patch = !nn_read_is_plain(L, c->x, &c->a) || has_padding(c) || (is_point && strides);
  c->is_sampled = is_point && strides;
  c->is_flat = is_point && (c->is_patch || !strides);
  for (int d = 0; d < 2; d++) c->a_stride[d] = c->is_sampled ? 1 : c->stride[d];
}

static double flops_of(const blocked *c) {
  double taps = (double)(c->kernel[0] * c->kernel[1]);
  return 2 * taps * (double)c->channels / (double)c->groups * (double)c->outputs * (double)c->out[0] * (double)c->out[1];
}

/* Rows of a band: as many as fit half of L2, in bands of equal size. */
static int64_t rows_that_fit(const nn_lower *L, const blocked *c) {
  int64_t line = c->blocks * c->inner * reach_of(c, 1, c->out[1]) * 4 + 1, most = L->target->l2_bytes / 2 / line;
  int64_t rows = c->is_sampled ? most : (most - reach_of(c, 0, 1)) / c->stride[0] + 1;
  rows = clamp64(rows, 1, c->out[0]);
  return ceil_div(c->out[0], ceil_div(c->out[0], rows));
}

/* Equal bands where there is a size near enough. */
static int64_t even_band(const blocked *c, int64_t rows) {
  for (int64_t n = rows; n >= 1 && 3 * n >= 2 * rows; n--)
    if (c->out[0] % n == 0) return n;
  return rows;
}

static void choose_tasks(const nn_lower *L, blocked *c) {
  int64_t images = clamp64(nn_dim_guess(c->y->type.dims[0], 1), 1, LARGE);
  double enough = flops_of(c) * (double)images / TASK_FLOPS;
  int64_t wanted = enough < TASKS_WANTED ? (int64_t)enough + 1 : TASKS_WANTED;
  int64_t npanels = ceil_div(c->out_blocks * c->block, c->width);
  int64_t least = c->is_flat ? ceil_div(c->mr, c->out[1]) : c->kernel[0] > 1 && c->is_patch ? 4 : 1; /* rows */
  c->band = even_band(c, rows_that_fit(L, c));
  c->ngroups = 1;
  if (!c->is_patch) c->ngroups = clamp64(ceil_div(wanted, images * ceil_div(c->out[0], c->band)), 1, npanels);
  int64_t bands = ceil_div(wanted, images * c->ngroups);
  if (bands > ceil_div(c->out[0], c->band)) c->band = even_band(c, clamp64(ceil_div(c->out[0], bands), least, c->band));
  c->nbands = ceil_div(c->out[0], c->band);
  if (c->is_patch) c->ngroups = clamp64(ceil_div(wanted, images * c->nbands), 1, npanels);
  c->group_panels = ceil_div(npanels, c->ngroups);
  c->ngroups = ceil_div(npanels, c->group_panels);
}

static void set_steps(nn_lower *L, blocked *c) {
  int64_t rows = c->is_patch ? reach_of(c, 0, c->band) : c->in[0], pitch = c->is_patch ? reach_of(c, 1, c->out[1]) : c->in[1];
  int64_t blocks = c->is_planar ? 1 : c->blocks * c->groups, inner = c->inner * (c->is_planar ? c->groups : 1);
  bool planar = c->is_planar;
  c->step[3] = planar ? rows * pitch : 1;
  c->step[2] = planar ? 1 : inner;
  c->step[1] = pitch * c->step[2];
  c->step[0] = rows * pitch * inner;
  if (c->is_patch) c->a = nn_temp(L, NN_BUF_WORKER, NN_F32, nn_dim_const(L->module, blocks * c->step[0]));
}

/* ---- the patch ------------------------------------------------------------------------------------------------ */

typedef struct patch_line {
  const blocked *c;
  nn_x *outer, *to, *y;  /* channel or block of channels; element of the patch; row of x */
} patch_line;

/* Pixels first .. end of a line in a block of channels: copied, or zeros. */
static void copy_blocks(nn_lower *L, const patch_line *line, int64_t first, int64_t end, bool is_inside) {
  const blocked *c = line->c;
  nn_kernel *k = L->kernel;
  int64_t scale = c->is_sampled ? c->stride[1] : 1;
  int lanes = c->tile.lanes;
  nn_x *p = nn_loop_begin(k, NN_FOR, "p", nn_x_int(k, first), nn_x_int(k, end));
  nn_x *v = nn_loop_range(k, NN_UNROLL, "v", c->block / lanes);
  nn_x *l = nn_lanes_begin(L, lanes), *lane = nn_xi_add(k, nn_xi_mulc(k, v, lanes), l);
  nn_x *index[5] = {c->image, line->outer, line->y, nn_xi_addc(k, nn_xi_mulc(k, p, scale), -c->before[1]), lane};
  nn_x *value = is_inside ? nn_read(L, c->x, index) : nn_zero(L, NN_F32);
  nn_store(k, c->a, nn_xi_add(k, nn_xi_add(k, line->to, nn_xi_mulc(k, p, c->step[2])), lane), value, NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
  nn_end(k);
}

typedef struct planar_piece {
  const patch_line *line;
  int64_t first, count;
  bool is_inside;
} planar_piece;

/* Of a planar x, a vector of pixels. */
static void copy_planar(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  const planar_piece *piece = data;
  const blocked *c = piece->line->c;
  nn_kernel *k = L->kernel;
  int64_t scale = c->is_sampled ? c->stride[1] : 1;
  nn_x *j = nn_xi_add(k, i, nn_lanes_begin(L, lanes)), *p = nn_xi_addc(k, j, piece->first);
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, j, nn_x_int(k, piece->count)));
  nn_x *index[4] = {c->image, piece->line->outer, piece->line->y, nn_xi_addc(k, nn_xi_mulc(k, p, scale), -c->before[1])};
  nn_x *value = piece->is_inside ? nn_read(L, c->x, index) : nn_zero(L, NN_F32);
  nn_store(k, c->a, nn_xi_add(k, piece->line->to, p), value, nn_guard(L));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

static void copy_pixels(nn_lower *L, const patch_line *line, int64_t first, int64_t end, bool is_inside) {
  planar_piece piece = {line, first, end - first, is_inside};
  if (first >= end) return;
  if (!line->c->is_planar) copy_blocks(L, line, first, end, is_inside);
  else nn_block_loops(L, nn_x_int(L->kernel, piece.count), line->c->tile.lanes, copy_planar, &piece);
}

static void copy_line(nn_lower *L, const patch_line *line) {
  const blocked *c = line->c;
  nn_kernel *k = L->kernel;
  int64_t width = reach_of(c, 1, c->out[1]), scale = c->is_sampled ? c->stride[1] : 1;
  int64_t lo = clamp64(ceil_div(clamp64(c->before[1], 0, INT64_MAX - scale), scale), 0, width);
  int64_t hi = clamp64(ceil_div(c->in[1] + c->before[1], scale), lo, width);
  nn_x *inside = nn_x_binary(k, NN_X_AND, nn_x_binary(k, NN_X_LE, nn_x_int(k, 0), line->y),
                             nn_x_binary(k, NN_X_LT, line->y, nn_x_int(k, c->in[0])));
  nn_if_begin(k, inside);
  copy_pixels(L, line, 0, lo, false);
  copy_pixels(L, line, lo, hi, true);
  copy_pixels(L, line, hi, width, false);
  nn_else(k);
  copy_pixels(L, line, 0, width, false);
  nn_end(k);
}

static void make_patch(nn_lower *L, blocked *c) {
  nn_kernel *k = L->kernel;
  patch_line line = {.c = c};
  int64_t outer = c->is_planar ? c->channels : c->blocks * c->groups, rows_step = c->is_sampled ? 1 : c->stride[0];
  nn_x *more = nn_x_int(k, reach_of(c, 0, 1) - rows_step); /* of the last row's window */
  nn_x *rows = nn_let(k, nn_xi_add(k, nn_xi_mulc(k, c->rows, rows_step), more));
  line.outer = nn_loop_range(k, NN_FOR, "outer", outer);
  nn_x *r = nn_loop_begin(k, NN_FOR, "r", nn_x_int(k, 0), rows);
  nn_x *at = c->is_sampled ? nn_xi_mulc(k, nn_xi_add(k, c->y0, r), c->stride[0]) : nn_xi_add(k, nn_xi_mulc(k, c->y0, c->stride[0]), r);
  line.y = nn_let(k, nn_xi_addc(k, at, -c->before[0]));
  int64_t step = c->is_planar ? c->step[3] : c->step[0];
  line.to = nn_let(k, nn_xi_add(k, nn_xi_mulc(k, line.outer, step), nn_xi_mulc(k, r, c->step[1])));
  copy_line(L, &line);
  nn_end(k);
  nn_end(k);
}

/* ---- tiles ------------------------------------------------------------------------------------------------------ */

/* ks: block of channels, row and column of the kernel, channel. */
static nn_x *pixel_at(nn_lower *L, void *data, nn_x *r, nn_x *const *ks) {
  const blocked *c = data;
  nn_kernel *k = L->kernel;
  nn_x *cb = c->tail_block ? c->tail_block : ks[0];
  nn_x *at = nn_xi_add(k, c->a_base, nn_xi_mulc(k, nn_xi_add(k, c->block0, cb), c->step[0]));
  nn_x *y = nn_xi_mulc(k, ks[1], c->dilation[0]), *x = nn_xi_mulc(k, ks[2], c->dilation[1]);
  if (!c->is_flat) y = nn_xi_add(k, y, nn_xi_mulc(k, c->row, c->a_stride[0]));
  x = nn_xi_add(k, x, nn_xi_mulc(k, nn_xi_add(k, c->first, r), c->a_stride[1]));
  at = nn_xi_add(k, at, nn_xi_add(k, nn_xi_mulc(k, y, c->step[1]), nn_xi_mulc(k, x, c->step[2])));
  return nn_x_load(k, c->a, nn_xi_add(k, at, nn_xi_mulc(k, ks[3], c->step[3])), NULL);
}

static nn_x *weight_at(nn_lower *L, void *data, nn_x *const *ks, nn_x *j) {
  const blocked *c = data;
  nn_kernel *k = L->kernel;
  const int64_t sizes[4] = {c->blocks, c->kernel[0], c->kernel[1], c->inner};
  nn_x *at = c->panel;
  for (int i = 0; i < 4; i++)
    at = nn_xi_add(k, nn_xi_mulc(k, at, sizes[i]), i == 0 && c->tail_block ? c->tail_block : ks[i]);
  return nn_x_load(k, c->w, nn_xi_add(k, nn_xi_mulc(k, at, c->width), j), NULL);
}

static int64_t panel_size(const blocked *c) { return c->blocks * c->kernel[0] * c->kernel[1] * c->inner * c->width; }

static void prefetch_weights(nn_lower *L, void *data, nn_x *const *ks) {
  const blocked *c = data;
  nn_kernel *k = L->kernel;
  nn_x *at = c->tail_block ? c->tail_block : ks[0];
  for (int i = 1; i < 3; i++) at = nn_xi_add(k, nn_xi_mulc(k, at, c->kernel[i - 1]), ks[i]);
  at = nn_xi_add(k, nn_xi_mulc(k, at, c->inner), ks[3]);
  nn_conv_tile_prefetch(L, c->w, c->panel, panel_size(c), nn_xi_mulc(k, at, c->width), c->pass, c->passes, c->width);
}

static void set_k_loops(nn_lower *L, blocked *c, int64_t blocks, int64_t inner) {
  nn_kernel *k = L->kernel;
  nn_conv_tile *t = &c->tile;
  t->nk = 4;
  t->count[0] = nn_x_int(k, blocks);
  t->count[1] = nn_x_int(k, c->kernel[0]);
  t->count[2] = nn_x_int(k, c->kernel[1]);
  t->count[3] = nn_x_int(k, inner);
  t->unroll_by[0] = t->unroll_by[1] = t->unroll_by[2] = 0;
  t->unroll_by[3] = inner < 2 * UNROLLED_CHANNELS ? NN_TILE_COPIED : UNROLLED_CHANNELS;
}

/* Result r of the tile, `lanes` channels from channel `at` of the panel on; src NULL: zeros. */
static void write_vector(nn_lower *L, const blocked *c, nn_buf *src, nn_x *r, nn_x *at, int lanes) {
  nn_kernel *k = L->kernel;
  nn_x *block = nn_x_int(k, c->block), *width = nn_x_int(k, c->out[1]);
  nn_x *pixel = nn_xi_add(k, c->first, r), *row = c->row;
  if (c->is_flat) row = nn_xi_floordiv(k, pixel, width);
  nn_x *kb = nn_xi_add(k, nn_xi_mulc(k, c->panel, c->width / c->block), nn_xi_floordiv(k, at, block));
  nn_x *l = nn_lanes_begin(L, lanes);
  nn_x *index[5] = {c->image, kb, nn_xi_add(k, c->y0, row), c->is_flat ? nn_xi_mod(k, pixel, width) : pixel,
                    nn_xi_add(k, nn_xi_mod(k, at, block), l)};
  nn_x *from = nn_xi_add(k, nn_xi_add(k, nn_xi_mulc(k, r, (int64_t)c->tile.nv * c->tile.lanes), at), l);
  nn_write(L, c->y, index, src ? nn_let(k, nn_x_load(k, src, from, NULL)) : nn_zero(L, NN_F32));
  nn_lanes_end(L, lanes);
}

/* The tile's channels, and those beyond K that are in the same blocks. */
static void write_results(nn_lower *L, const blocked *c, nn_buf *src, int rows) {
  nn_kernel *k = L->kernel;
  int lanes = c->tile.lanes;
  nn_x *r = nn_loop_range(k, c->stage ? NN_FOR : NN_UNROLL, "r", rows), *v = nn_loop_range(k, NN_UNROLL, "c", c->tile.nv);
  write_vector(L, c, src, r, nn_xi_mulc(k, v, lanes), lanes);
  nn_end(k);
  for (int64_t at = (int64_t)c->tile.nv * lanes; at < c->tile_blocks * c->block; at += lanes)
    write_vector(L, c, NULL, r, nn_x_int(k, at), lanes);
  nn_end(k);
}

static void emit_tile(nn_lower *L, nn_x *pass, nn_x *first, int rows, void *data) {
  blocked *c = data;
  nn_kernel *k = L->kernel;
  int64_t channels = c->channels / c->groups, whole = channels / c->inner, rest = channels % c->inner;
  c->pass = c->is_flat ? pass : nn_let(k, nn_xi_add(k, nn_xi_mulc(k, c->row, nn_tile_cut_rows(c->out[1], c->mr).tiles), pass));
  c->first = first;
  nn_buf *acc = nn_conv_tile_clear(L, &c->tile, rows);
  if (whole) {
    set_k_loops(L, c, whole, c->inner);
    nn_conv_tile_add(L, &c->tile, rows, acc);
  }
  if (rest) {
    c->tail_block = nn_x_int(k, whole);
    set_k_loops(L, c, 1, rest);
    nn_conv_tile_add(L, &c->tile, rows, acc);
    c->tail_block = NULL;
  }
  if (c->stage) nn_conv_tile_move(L, &c->tile, rows, acc, c->stage);
  write_results(L, c, c->stage ? c->stage : acc, rows);
}

static void emit_flat(nn_lower *L, blocked *c, int64_t rows) {
  nn_tile_cut_loops(L, nn_tile_cut_rows(rows * c->out[1], c->mr), emit_tile, c);
}

/* All pixels of the band, for the present panel. */
static void emit_band(nn_lower *L, blocked *c) {
  nn_kernel *k = L->kernel;
  int64_t last = c->out[0] - (c->nbands - 1) * c->band;
  if (!c->is_flat) {
    c->row = nn_loop_begin(k, NN_FOR, "row", nn_x_int(k, 0), c->rows);
    emit_flat(L, c, 1);
    nn_end(k);
  } else if (last == c->band) {
    emit_flat(L, c, last);
  } else {
    nn_if_begin(k, nn_x_binary(k, NN_X_LE, nn_x_int(k, c->band), c->rows));
    emit_flat(L, c, c->band);
    nn_else(k);
    emit_flat(L, c, last);
    nn_end(k);
  }
}

static void set_panel(nn_lower *L, blocked *c, nn_x *panel) {
  nn_kernel *k = L->kernel;
  c->panel = panel;
  nn_x *group = nn_xi_floordiv(k, panel, nn_x_int(k, ceil_div(c->panels, c->groups)));
  c->block0 = c->groups > 1 ? nn_let(k, nn_xi_mulc(k, group, c->blocks)) : nn_x_int(k, 0);
}

/* The last panel, of `count` channels, which lie in `blocks` blocks. */
static void set_last_vectors(nn_lower *L, blocked *c, int64_t count, int64_t blocks) {
  enum { FEWEST_LANES = 4 };
  int lanes = c->tile.lanes, half = lanes / 2;
  if (L->target->half_vectors && half >= FEWEST_LANES && ceil_div(count, half) % 2 != 0) c->tile.lanes = half;
  c->tile.nv = (int)ceil_div(count, c->tile.lanes);
  c->tile.ahead = NULL; /* no panel follows */
  c->tile_blocks = blocks;
  c->mr = nn_conv_tile_rows(L->target, c->tile.nv);
  if (c->stage && c->mr * c->tile.nv * c->tile.lanes > c->stage_size) c->mr = (int)(c->stage_size / (c->tile.nv * c->tile.lanes));
}

/* The panels of a task's group: those that are whole, and the last one where it is not. */
static void emit_panels(nn_lower *L, blocked *c, nn_x *group) {
  nn_kernel *k = L->kernel;
  int64_t in_panel = c->width / c->block, whole = c->groups > 1 ? c->panels : c->outputs / c->width;
  int64_t rest = c->groups > 1 ? 0 : c->outputs % c->width;
  nn_x *lo = nn_let(k, nn_xi_mulc(k, group, c->group_panels)), *hi = nn_xi_addc(k, lo, c->group_panels);
  if (whole) {
    c->tile_blocks = in_panel;
    set_panel(L, c, nn_loop_begin(k, NN_FOR, "panel", lo, nn_let(k, nn_xi_min(k, hi, nn_x_int(k, whole)))));
    emit_band(L, c);
    nn_end(k);
  }
  if (!rest) return;
  set_last_vectors(L, c, rest, c->out_blocks - whole * in_panel);
  nn_if_begin(k, nn_x_binary(k, NN_X_LT, nn_x_int(k, whole), hi));
  set_panel(L, c, nn_x_int(k, whole));
  emit_band(L, c);
  nn_end(k);
}

static void emit_task(nn_lower *L, blocked *c, nn_x *task) {
  nn_kernel *k = L->kernel;
  nn_x *bands = nn_x_int(k, c->nbands), *images = nn_dim_x(L, c->y->type.dims[0]);
  nn_x *band = nn_xi_mod(k, task, bands), *rest = nn_let(k, nn_xi_floordiv(k, task, bands));
  bool single = nn_dim_is(c->y->type.dims[0], 1);
  c->image = single ? nn_x_int(k, 0) : nn_let(k, nn_xi_mod(k, rest, images));
  nn_x *group = single ? rest : nn_let(k, nn_xi_floordiv(k, rest, images));
  c->y0 = nn_let(k, nn_xi_mulc(k, band, c->band));
  c->rows = nn_let(k, nn_xi_min(k, nn_x_int(k, c->band), nn_xi_sub(k, nn_x_int(k, c->out[0]), c->y0)));
  if (c->is_patch) {
    make_patch(L, c);
    c->a_base = nn_x_int(k, 0);
  } else {
    int64_t image = c->is_planar ? c->channels * c->step[3] : c->blocks * c->groups * c->step[0];
    nn_x *down = nn_xi_mulc(k, c->y0, c->stride[0] * c->step[1]);
    c->a_base = nn_let(k, nn_xi_add(k, nn_xi_mulc(k, c->image, image), down));
  }
  emit_panels(L, c, group);
}

/* Rough: elementary functions are long code. */
static int epilogue_cost(const nn_group *g) {
  enum { FUNCTION = 10 };
  int cost = 0;
  for (int i = 0; i < g->nops; i++) {
    if (!(nn_op_infos[g->ops[i]->code].flags & NN_POINTWISE)) continue;
    switch (g->ops[i]->code) {
    case NN_OP_COPY: case NN_OP_NEG: case NN_OP_ABS: case NN_OP_RELU: case NN_OP_ADD: case NN_OP_SUB: case NN_OP_MUL:
    case NN_OP_MIN: case NN_OP_MAX: case NN_OP_SELECT: case NN_OP_LT: case NN_OP_LE: case NN_OP_CAST: cost++; break;
    default: cost += FUNCTION;
    }
  }
  return cost;
}

nn_status lower_conv_blocked(nn_lower *L, nn_op *op) {
  nn_kernel *k = L->kernel;
  blocked c = {0};
  int64_t count;
  if (nn_type_static_count(op->out[0]->type, &count) && count == 0) return NN_OK;
  set_sizes(L, op, &c);
  if (!nn_read_is_plain(L, op->in[1], &c.w)) return nn_fail(op, "internal error: weights that are no buffer");
  choose_form(L, &c);
  c.tile.nv = (int)(c.width / c.tile.lanes);
  c.mr = nn_conv_tile_rows(L->target, c.tile.nv);
  c.tile.place = pixel_at;
  c.tile.weight = weight_at;
  c.tile.data = &c;
  choose_tasks(L, &c);
  set_steps(L, &c);
  c.passes = c.is_flat ? nn_tile_cut_rows(c.band * c.out[1], c.mr).tiles : c.band * nn_tile_cut_rows(c.out[1], c.mr).tiles;
  if (c.panels > 1 && c.passes <= MOST_PASSES && panel_size(&c) * c.panels * 4 > L->target->l2_bytes / 2) c.tile.ahead = prefetch_weights;
  c.stage_size = c.mr * c.width;
  if (epilogue_cost(nn_group_of(L)) > DIRECT_COST)
    c.stage = nn_temp(L, NN_BUF_WORKER, NN_F32, nn_dim_const(L->module, c.stage_size));
  nn_x *tasks = nn_xi_mul(k, nn_dim_x(L, c.y->type.dims[0]), nn_x_int(k, c.nbands * c.ngroups));
  emit_task(L, &c, nn_task_loop(L, false, "task", nn_let(k, tasks)));
  nn_end(k);
  return NN_OK;
}
