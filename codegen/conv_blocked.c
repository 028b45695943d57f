/* conv_blocked: convolution over channels in blocks, x[N, C/B, H, W, B], with weights in panels of two vectors of output
   channels. x may also be planar, x[N, C, H, W]: images of few channels, where a network begins.

   A task takes a band of rows of one image and a group of panels (conv_tasks.c). It runs over the band once for each panel, in register
   tiles of a few pixels (conv_tile.c), so that the panel comes from L1 or L2 and the band of x from L2. Numbers of x are
   broadcast, so they may lie anywhere. Where x is plain, without padding, it is read in place. Else the task first copies
   what its band reads, with zeros around (conv_patch.c): this is where producers fused into the reads are evaluated. Of
   1x1 convolutions with a stride it copies just the pixels that count. A band of a planar x that is copied is fetched while the one
   before is computed. Weights that are computed while running (pass_scale.c) are made by the task, a panel at a time, on the way of
   its first tile.

   Height and width may be symbols. Then bands are cut while running, and the loops over pixels have a rest (conv_tile.c).

   The channels of x beyond C in its last block are never read; those of y beyond K are computed of zero weights. */
#include "codegen/conv_blocked.h"

enum {
  COPIED_CHANNELS = 8,   /* fewer are copied out */
  COPIED_LINES = 64,     /* fetched ahead: more are a loop */
  LINE_ELEMENTS = 16,    /* of a line of the cache */
  LIKELY_SIDE = 224,     /* of the network's input, for estimates */
  LARGE = 1 << 24
};

static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

static int64_t clamp64(int64_t x, int64_t low, int64_t high) { return x > high ? high : x < low ? low : x; }

/* ---- sizes ------------------------------------------------------------------------------------------------- */

static void set_sizes(nn_lower *L, nn_op *op, nn_blocked *c) {
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
    c->after[d] = nn_op_attr(op, "pads")->count ? nn_dim_value(pads[2 + d]) : 0;
    c->in_dim[d] = c->x->type.dims[2 + d];
    c->out_dim[d] = c->y->type.dims[2 + d];
    c->in[d] = nn_dim_x(L, c->in_dim[d]);
    c->out[d] = nn_dim_x(L, c->out_dim[d]);
    c->size[d] = clamp64(nn_dim_likely(L->module, c->out_dim[d], LIKELY_SIDE), 1, LARGE);
  }
  c->tile.lanes = nn_target_lanes(L->target, NN_F32);
  if (c->tile.lanes > c->block) c->tile.lanes = (int)c->block;
}

/* Pixels of x that `count` results reach along axis d. */
int64_t nn_blocked_reach(const nn_blocked *c, int d, int64_t count) {
  if (c->is_sampled) return count;
  return (count - 1) * c->stride[d] + (c->kernel[d] - 1) * c->dilation[d] + 1;
}

nn_dim nn_blocked_reach_dim(nn_module *m, const nn_blocked *c, int d, nn_dim count) {
  if (c->is_sampled) return count;
  nn_dim more = nn_dim_const(m, nn_blocked_reach(c, d, 1) - c->stride[d]);
  return nn_dim_add(m, nn_dim_mul(m, count, nn_dim_const(m, c->stride[d])), more);
}

nn_x *nn_blocked_reach_x(nn_lower *L, const nn_blocked *c, int d, nn_x *count) {
  if (c->is_sampled) return count;
  return nn_xi_addc(L->kernel, nn_xi_mulc(L->kernel, count, c->stride[d]), nn_blocked_reach(c, d, 1) - c->stride[d]);
}

/* The last window may need none of what was added behind. */
static bool has_padding(const nn_lower *L, const nn_blocked *c) {
  for (int d = 0; d < 2; d++) {
    int64_t least, most;
    nn_dim_range(nn_dim_sub(L->module, nn_blocked_reach_dim(L->module, c, d, c->out_dim[d]), c->in_dim[d]), &least, &most);
    if (c->before[d] != 0 || (c->after[d] > 0 && most > 0)) return true;
  }
  return false;
}

static void choose_form(nn_lower *L, nn_blocked *c) {
  bool is_point = c->kernel[0] == 1 && c->kernel[1] == 1, strides = c->stride[0] > 1 || c->stride[1] > 1;
  c->is_patch = !nn_read_is_plain(L, c->x, &c->a) || has_padding(L, c) || (is_point && strides);
  c->is_sampled = is_point && strides;
  c->is_flat = is_point && (c->is_patch || !strides);
  for (int d = 0; d < 2; d++) c->a_stride[d] = c->is_sampled ? 1 : c->stride[d];
  nn_blocked_set_lead(c);
}

bool nn_blocked_is_symbolic(const nn_blocked *c) { return !nn_dim_is_const(c->out_dim[0], NULL) || !nn_dim_is_const(c->out_dim[1], NULL); }

/* ---- tiles ------------------------------------------------------------------------------------------------------ */

/* ks: block of channels, row and column of the kernel, channel. */
static nn_x *pixel_at(nn_lower *L, void *data, nn_x *r, nn_x *const *ks) {
  const nn_blocked *c = data;
  nn_kernel *k = L->kernel;
  nn_x *cb = c->tail_block ? c->tail_block : ks[0];
  nn_x *at = nn_xi_add(k, c->a_base, nn_xi_mul(k, nn_xi_add(k, c->block0, cb), c->step[0]));
  nn_x *y = nn_xi_mulc(k, ks[1], c->dilation[0]), *x = nn_xi_mulc(k, ks[2], c->dilation[1]);
  if (!c->is_flat) y = nn_xi_add(k, y, nn_xi_mulc(k, c->row, c->a_stride[0]));
  x = nn_xi_add(k, x, nn_xi_mulc(k, nn_xi_add(k, c->first, r), c->a_stride[1]));
  at = nn_xi_add(k, at, nn_xi_add(k, nn_xi_mul(k, y, c->step[1]), nn_xi_mul(k, x, c->step[2])));
  return nn_x_load(k, c->a, nn_xi_add(k, at, nn_xi_mul(k, ks[3], c->step[3])), NULL);
}

static nn_x *weight_at(nn_lower *L, void *data, nn_x *const *ks, nn_x *j) {
  const nn_blocked *c = data;
  nn_kernel *k = L->kernel;
  const int64_t sizes[4] = {c->blocks, c->kernel[0], c->kernel[1], c->inner};
  nn_x *at = c->is_made ? nn_x_int(k, 0) : c->panel, *index[6] = {c->panel};
  for (int i = 0; i < 4; i++) {
    index[1 + i] = i == 0 && c->tail_block ? c->tail_block : ks[i];
    at = nn_xi_add(k, nn_xi_mulc(k, at, sizes[i]), index[1 + i]);
  }
  at = nn_xi_add(k, nn_xi_mulc(k, at, c->width), j);
  if (!c->is_making) return nn_x_load(k, c->w, at, NULL);
  index[5] = j;
  nn_x *value = nn_let(k, nn_read(L, c->op->in[1], index));
  nn_store(k, c->w, at, value, NULL);
  return value;
}

static int64_t panel_size(const nn_blocked *c) { return c->blocks * c->kernel[0] * c->kernel[1] * c->inner * c->width; }

/* The panel's weights, which are computed while running, where tiles are of many kinds. */
static void make_panel(nn_lower *L, const nn_blocked *c) {
  nn_kernel *k = L->kernel;
  const int64_t sizes[4] = {c->blocks, c->kernel[0], c->kernel[1], c->inner};
  nn_x *index[6] = {c->panel}, *at = nn_x_int(k, 0);
  for (int i = 0; i < 4; i++) {
    index[1 + i] = nn_loop_range(k, NN_FOR, "w", sizes[i]);
    at = nn_xi_add(k, nn_xi_mulc(k, at, sizes[i]), index[1 + i]);
  }
  nn_x *v = nn_xi_mulc(k, nn_loop_range(k, NN_UNROLL, "v", c->width / c->tile.lanes), c->tile.lanes);
  index[5] = nn_xi_add(k, v, nn_lanes_begin(L, c->tile.lanes));
  nn_store(k, c->w, nn_xi_add(k, nn_xi_mulc(k, at, c->width), index[5]), nn_read(L, c->op->in[1], index), NULL);
  nn_lanes_end(L, c->tile.lanes);
  for (int i = 0; i < 5; i++) nn_end(k);
}

static void set_k_loops(nn_lower *L, nn_blocked *c, int64_t blocks, int64_t inner) {
  const int64_t counts[4] = {blocks, c->kernel[0], c->kernel[1], inner};
  c->tile.nk = 4;
  for (int i = 0; i < 4; i++) c->tile.count[i] = nn_x_int(L->kernel, counts[i]);
  c->tile.is_copied[3] = inner < COPIED_CHANNELS;
}

/* Result r of the tile, `lanes` channels from channel `at` of the panel on; src NULL: zeros. */
static void write_vector(nn_lower *L, const nn_blocked *c, nn_buf *src, nn_x *r, nn_x *at, int lanes) {
  nn_kernel *k = L->kernel;
  nn_x *block = nn_x_int(k, c->block), *width = c->out[1];
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

/* A row of the tile: its channels, and those beyond K that are in the same blocks. */
static void write_row(nn_lower *L, const nn_blocked *c, nn_buf *src, nn_x *r) {
  nn_kernel *k = L->kernel;
  int lanes = c->tile.lanes;
  nn_x *v = nn_loop_range(k, NN_UNROLL, "c", c->tile.nv);
  write_vector(L, c, src, r, nn_xi_mulc(k, v, lanes), lanes);
  nn_end(k);
  for (int64_t at = (int64_t)c->tile.nv * lanes; at < c->tile_blocks * c->block; at += lanes)
    write_vector(L, c, NULL, r, nn_x_int(k, at), lanes);
}

/* From the registers to their places, or through the stage, row by row. */
static void write_tile(nn_lower *L, nn_blocked *c, const nn_tile_span *span, nn_buf *acc) {
  nn_kernel *k = L->kernel;
  bool is_staged = c->is_staged || span->rows_now;
  nn_x *zero = nn_x_int(k, 0), *rows = span->rows_now ? span->rows_now : nn_x_int(k, span->rows);
  if (is_staged) nn_conv_tile_move(L, &c->tile, span, acc, c->stage);
  write_row(L, c, is_staged ? c->stage : acc, nn_loop_begin(k, is_staged ? NN_FOR : NN_UNROLL, "r", zero, rows));
  nn_end(k);
}

/* A planar x mostly comes from memory: while a tile is computed, the same piece of what the next band adds to the patch is fetched. */
static void fetch_ahead(nn_lower *L, const nn_blocked *c, const nn_tile_span *span) {
  nn_kernel *k = L->kernel;
  int64_t lines = ceil_div(span->rows * c->stride[1], LINE_ELEMENTS);
  nn_loop_kind kind = c->channels * c->stride[0] * lines <= COPIED_LINES ? NN_UNROLL : NN_FOR;
  nn_x *channel = nn_loop_range(k, kind, "c", c->channels), *down = nn_loop_range(k, kind, "down", c->stride[0]);
  nn_x *i = nn_xi_mulc(k, nn_loop_range(k, kind, "i", lines), LINE_ELEMENTS);
  nn_x *row = nn_xi_mulc(k, nn_xi_add(k, nn_xi_add(k, c->y0, c->band), c->row), c->stride[0]);
  row = nn_xi_add(k, nn_xi_addc(k, row, nn_blocked_reach(c, 0, 1) - c->stride[0] - c->before[0]), down);
  nn_x *plane = nn_xi_add(k, nn_xi_mulc(k, c->image, c->channels), channel);
  nn_x *line = nn_xi_mul(k, nn_xi_add(k, nn_xi_mul(k, plane, c->in[0]), row), c->in[1]);
  nn_prefetch_near(k, c->far_x, nn_xi_add(k, line, nn_xi_add(k, nn_xi_mulc(k, c->first, c->stride[1]), i)));
  for (int d = 0; d < 3; d++) nn_end(k);
}

static void emit_tile(nn_lower *L, const nn_tile_span *span, void *data) {
  nn_blocked *c = data;
  nn_kernel *k = L->kernel;
  int64_t channels = c->channels / c->groups, whole = channels / c->inner, rest = channels % c->inner;
  c->pass = nn_xi_add(k, c->pass0, span->pass);
  if (!c->is_flat) c->pass = nn_xi_add(k, nn_xi_mulc(k, c->row, nn_tile_cut_rows(c->size[1], c->mr).tiles), c->pass);
  c->first = span->first;
  nn_buf *acc = nn_conv_tile_clear(L, &c->tile, span->rows);
  if (c->is_ahead) nn_conv_tile_prefetch(L, &c->tile, c->far_w, c->panel, panel_size(c), c->pass, c->passes);
  if (c->far_x) fetch_ahead(L, c, span);
  if (whole) {
    set_k_loops(L, c, whole, c->inner);
    nn_conv_tile_add(L, &c->tile, span, acc);
  }
  if (rest) {
    c->tail_block = nn_x_int(k, whole);
    set_k_loops(L, c, 1, rest);
    nn_conv_tile_add(L, &c->tile, span, acc);
    c->tail_block = NULL;
  }
  write_tile(L, c, span, acc);
}

static bool first_tile_makes(const nn_blocked *c) { return c->is_made && c->is_flat && !nn_blocked_is_symbolic(c); }

static void emit_later_tile(nn_lower *L, const nn_tile_span *span, void *data) {
  const nn_blocked *c = data;
  nn_tile_span later = *span;
  later.pass = nn_xi_addc(L->kernel, span->pass, 1);
  later.first = nn_let(L->kernel, nn_xi_addc(L->kernel, span->first, c->made_rows));
  emit_tile(L, &later, data);
}

static void emit_making(nn_lower *L, nn_blocked *c, int64_t pixels) {
  nn_tile_cut cut = nn_tile_cut_rows(pixels, c->mr);
  if (!cut.tiles) return;
  c->made_rows = cut.rows + (cut.extra > 0);
  nn_x *zero = nn_x_int(L->kernel, 0);
  c->is_making = true;
  emit_tile(L, &(nn_tile_span){zero, zero, (int)c->made_rows, NULL}, c);
  c->is_making = false;
  cut.tiles--;
  cut.extra -= cut.extra > 0;
  nn_tile_cut_loops(L, cut, emit_later_tile, c);
}

static void emit_pixels(nn_lower *L, nn_blocked *c, nn_x *rows) {
  nn_x *pixels = nn_let(L->kernel, nn_xi_mul(L->kernel, rows, c->out[1]));
  int64_t count = 0;
  nn_x_is_const(pixels, &count);
  if (first_tile_makes(c)) emit_making(L, c, count);
  else nn_tile_any_loops(L, pixels, c->mr, emit_tile, c);
}

/* All pixels of the band, for the present panel. */
static void emit_band(nn_lower *L, nn_blocked *c) {
  nn_kernel *k = L->kernel;
  int64_t last = c->size[0] - (c->likely_bands - 1) * c->likely_band;
  if (!c->is_flat) {
    c->row = nn_loop_begin(k, NN_FOR, "row", nn_x_int(k, 0), c->rows);
    emit_pixels(L, c, nn_x_int(k, 1));
    nn_end(k);
  } else if (nn_blocked_is_symbolic(c)) {
    emit_pixels(L, c, c->rows);
  } else if (last == c->likely_band) {
    emit_pixels(L, c, c->band);
  } else {
    nn_if_begin(k, nn_x_binary(k, NN_X_LE, c->band, c->rows));
    emit_pixels(L, c, c->band);
    nn_else(k);
    emit_pixels(L, c, nn_x_int(k, last));
    nn_end(k);
  }
}

static void set_panel(nn_lower *L, nn_blocked *c, nn_x *panel) {
  nn_kernel *k = L->kernel;
  c->panel = panel;
  nn_x *group = nn_xi_floordiv(k, panel, nn_x_int(k, ceil_div(c->panels, c->groups)));
  c->block0 = c->groups > 1 ? nn_let(k, nn_xi_mulc(k, group, c->blocks)) : nn_x_int(k, 0);
  if (c->is_made && !first_tile_makes(c)) make_panel(L, c);
}

/* The last panel, of `count` channels, which lie in `blocks` blocks. */
static void set_last_vectors(nn_lower *L, nn_blocked *c, int64_t count, int64_t blocks) {
  enum { FEWEST_LANES = 4 };
  int lanes = c->tile.lanes, half = lanes / 2;
  if (L->target->half_vectors && half >= FEWEST_LANES && ceil_div(count, half) % 2 != 0) c->tile.lanes = half;
  c->tile.nv = (int)ceil_div(count, c->tile.lanes);
  c->is_ahead = false; /* no panel follows */
  c->tile_blocks = blocks;
  c->mr = nn_conv_tile_rows(L->target, c->tile.nv);
  if (c->stage && c->mr * c->tile.nv * c->tile.lanes > c->stage_size) c->mr = (int)(c->stage_size / (c->tile.nv * c->tile.lanes));
}

/* The panels of a task's group: those that are whole, and the last one where it is not. */
static void emit_panels(nn_lower *L, nn_blocked *c, nn_x *group) {
  nn_kernel *k = L->kernel;
  int64_t in_panel = c->width / c->block, whole = c->groups > 1 ? c->panels : c->outputs / c->width, done = 0;
  int64_t rest = c->groups > 1 ? 0 : c->outputs % c->width;
  nn_x *lo = nn_let(k, nn_xi_add(k, c->first_panel, nn_xi_mulc(k, group, c->group_panels))), *hi = nn_xi_addc(k, lo, c->group_panels);
  nn_x_is_const(c->first_panel, &done);
  if (done < whole) {
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

static void emit_task(nn_lower *L, nn_blocked *c, nn_x *task, nn_x *ngroups) {
  nn_kernel *k = L->kernel;
  nn_x *band, *group;
  nn_blocked_find_task(L, c, task, ngroups, &band, &group);
  c->y0 = nn_let(k, nn_xi_mul(k, band, c->band));
  c->rows = nn_let(k, nn_xi_min(k, c->band, nn_xi_sub(k, c->out[0], c->y0)));
  nn_blocked_count_passes(L, c, band);
  if (c->is_patch) {
    nn_blocked_copy(L, c);
    c->a_base = nn_x_int(k, c->lead);
  } else {
    nn_x *image = c->is_planar ? nn_xi_mulc(k, c->step[3], c->channels) : nn_xi_mulc(k, c->step[0], c->blocks * c->groups);
    nn_x *down = nn_xi_mul(k, nn_xi_mulc(k, c->y0, c->stride[0]), c->step[1]);
    c->a_base = nn_let(k, nn_xi_add(k, nn_xi_mul(k, c->image, image), down));
  }
  emit_panels(L, c, group);
}

nn_status lower_conv_blocked(nn_lower *L, nn_op *op) {
  nn_kernel *k = L->kernel;
  nn_blocked c = {0};
  int64_t count;
  if (nn_type_static_count(op->out[0]->type, &count) && count == 0) return NN_OK;
  set_sizes(L, op, &c);
  c.is_made = !nn_read_is_plain(L, op->in[1], &c.w);
  if (c.is_made) c.w = nn_temp(L, NN_BUF_WORKER, NN_F32, nn_dim_const(L->module, panel_size(&c)));
  c.is_staged = !nn_epilogue_is_short(L);
  c.first_panel = c.is_made ? nn_x_int(k, 0) : nn_conv_strassen(L, op, c.w, !c.is_staged);
  if (nn_blocked_panels_left(&c) == 0) return NN_OK;
  choose_form(L, &c);
  c.tile.nv = (int)(c.width / c.tile.lanes);
  c.mr = nn_conv_tile_rows(L->target, c.tile.nv);
  c.mr = (int)nn_schedule(L->module, L->op, NN_KNOB_TILE_ROWS, c.mr, 1, c.mr);
  c.tile.place = pixel_at;
  c.tile.weight = weight_at;
  c.tile.data = &c;
  nn_blocked_cut(L, &c);
  nn_blocked_place(L, &c);
  c.is_ahead = c.panels > 1 && nn_read_stems_from(L, op->in[1], &c.far_w);
  if (c.is_planar && c.is_patch && !c.is_flat) nn_read_is_plain(L, c.x, &c.far_x);
  c.stage_size = c.mr * c.width;
  if (c.is_staged || nn_blocked_is_symbolic(&c))
    c.stage = nn_temp(L, NN_BUF_WORKER, NN_F32, nn_dim_const(L->module, c.stage_size));
  nn_x *ngroups = nn_ceildiv_x(L, nn_xi_sub(k, nn_x_int(k, nn_blocked_panels(&c)), c.first_panel), c.group_panels);
  nn_x *tasks = nn_xi_mul(k, nn_dim_x(L, c.y->type.dims[0]), nn_xi_mul(k, c.nbands, ngroups));
  emit_task(L, &c, nn_task_loop(L, false, "task", nn_let(k, tasks)), ngroups);
  nn_end(k);
  return NN_OK;
}
