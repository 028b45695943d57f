/* conv_winograd: Winograd's convolution F(m x m, 3 x 3), channels in blocks. A tile of m x m results costs (m+2)^2 products
   instead of 9 m^2, a quarter of them for m = 4; winograd_transform.c has the formulas.

   Tiles are numbered through all images. For each of the (m+2)^2 positions the sum over channels is a matrix product of
   tiles x channels by channels x outputs, on the register tiles of conv_tile.c: rows are tiles, columns a panel of outputs.

     V[position][C/B][tile][B]      transformed input of a block of tiles
     M[position][tile][panel]       products of a panel, from which its results are made at once

   Blocks whose V fits half of L2 are tasks, if there are enough of them; else V is that of all tiles (or as many as the last
   cache holds) and tasks are chunks of it in one panel each. */
#include "codegen/codegen.h"

enum {
  SLAB_GAP = 16,        /* between positions, so that they do not share sets of the cache */
  TASKS_WANTED = 12,
  TASK_TILES_LEAST = 12, TASK_TILES_MOST = 64,
  BLOCK_TILES_MOST = 1024,
  CHUNK_TILES = 48,     /* of a block that is no task */
  CHUNKS_WANTED = 8,
  REREAD_COST = 3,      /* of U for a block, in tiles */
  INPUT_COST = 400,     /* rough operations per tile and block of channels */
  UNROLLED_CHANNELS = 4,
  LARGE = 1 << 24
};

/* ---- weights ---------------------------------------------------------------------------------------------- */

/* In f64: they are transformed once. place: panel, channel, output of the panel. */
static void transform_weights(nn_lower *L, nn_x *const *place, void *data) {
  nn_kernel *k = L->kernel;
  nn_op *op = data;
  int64_t m = nn_attr_int(op, "tile");
  nn_x *g[9], *u[NN_WINOGRAD_AREA];
  nn_x *output = nn_xi_add(k, nn_xi_mulc(k, place[0], nn_attr_int(op, "width")), place[2]);
  nn_guard_push(L, nn_x_binary(k, NN_X_LT, output, nn_dim_x(L, op->in[0]->type.dims[0])));
  for (int i = 0; i < 9; i++) {
    nn_x *index[4] = {output, place[1], nn_x_int(k, i / 3), nn_x_int(k, i % 3)};
    g[i] = nn_let(k, nn_x_cast(k, nn_read(L, op->in[0], index), NN_F64));
  }
  nn_guard_pop(L);
  nn_winograd_weights(L, m, g, u);
  for (int i = 0; i < (m + 2) * (m + 2); i++) {
    nn_x *index[4] = {place[0], nn_x_int(k, i), place[1], place[2]};
    nn_write(L, op->out[0], index, nn_x_cast(k, u[i], NN_F32));
  }
}

nn_status lower_winograd_weights(nn_lower *L, nn_op *op) {
  enum { COST = 300 };
  const nn_dim *u = op->out[0]->type.dims;
  nn_box_loops(L, (const nn_dim[]){u[0], u[2], u[3]}, 3, nn_target_lanes(L->target, NN_F32), COST, transform_weights, op);
  return NN_OK;
}

/* ---- sizes -------------------------------------------------------------------------------------------------- */

typedef struct winograd {
  nn_value *x, *y;
  nn_buf *u, *v, *products;
  nn_buf *patch, *results;   /* of one tile, a vector of channels */
  int64_t m, side, area;
  int64_t channels, outputs, block, blocks, width, out_blocks, npanels;
  int64_t before[2], in[2], out[2], tiles[2]; /* y, x; tiles of an image */
  nn_dim total;              /* tiles */
  bool blocks_are_tasks;
  int64_t block_tiles, chunk_tiles;
  int mr;
  nn_conv_tile tile;
  nn_x *tile0, *count;       /* of the present block: its first tile, their number */
  nn_x *panel, *position, *chunk0, *pass, *first;
  nn_x *tail_block;          /* the incomplete block of x's channels, or NULL */
} winograd;

static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

static int64_t clamp64(int64_t x, int64_t low, int64_t high) { return x > high ? high : x < low ? low : x; }

static void set_sizes(nn_lower *L, nn_op *op, winograd *w) {
  const nn_dim *pads = nn_op_attr(op, "pads")->count ? nn_attr_dims(op, "pads", NULL) : NULL;
  nn_type u = op->in[1]->type;
  w->x = op->in[0];
  w->y = op->out[0];
  w->m = nn_attr_int(op, "tile");
  w->side = w->m + 2;
  w->area = w->side * w->side;
  w->channels = nn_dim_value(u.dims[2]);
  w->width = nn_dim_value(u.dims[3]);
  w->npanels = nn_dim_value(u.dims[0]);
  w->block = nn_dim_value(w->x->type.dims[4]);
  w->blocks = nn_dim_value(w->x->type.dims[1]);
  w->out_blocks = nn_dim_value(w->y->type.dims[1]);
  for (int d = 0; d < 2; d++) {
    w->before[d] = pads ? nn_dim_value(pads[d]) : 0;
    w->in[d] = nn_dim_value(w->x->type.dims[2 + d]);
    w->out[d] = nn_dim_value(w->y->type.dims[2 + d]);
    w->tiles[d] = ceil_div(w->out[d], w->m);
  }
  w->total = nn_dim_mul(L->module, w->y->type.dims[0], nn_dim_const(L->module, w->tiles[0] * w->tiles[1]));
  w->tile.lanes = nn_target_lanes(L->target, NN_F32);
  if (w->tile.lanes > w->block) w->tile.lanes = (int)w->block;
  w->tile.nv = (int)(w->width / w->tile.lanes);
  w->mr = nn_conv_tile_rows(L->target, w->tile.nv);
}

/* Tiles of blocks that are tasks: the least work, counting what U costs; 0: there are too few. */
static int64_t task_tiles(const nn_lower *L, const winograd *w, int64_t total) {
  int64_t column = w->area * 4 * clamp64(w->channels, 1, LARGE), best = INT64_MAX, found = 0;
  int64_t most = clamp64(L->target->l2_bytes / 2 / column, 0, TASK_TILES_MOST);
  for (int64_t n = TASK_TILES_LEAST; n <= most; n++) {
    int64_t blocks = ceil_div(total, n), cost = blocks * (n + ceil_div(n, w->mr) + REREAD_COST);
    if (blocks < TASKS_WANTED) break;
    if (cost < best) best = cost, found = n;
  }
  return found;
}

static void choose_blocks(const nn_lower *L, winograd *w) {
  int64_t total = clamp64(nn_dim_guess(w->total, w->tiles[0] * w->tiles[1]), 1, LARGE);
  w->chunk_tiles = w->block_tiles = task_tiles(L, w, total);
  w->blocks_are_tasks = w->block_tiles > 0;
  if (w->blocks_are_tasks) return;
  int64_t column = w->area * 4 * clamp64(w->channels, 1, LARGE);
  int64_t most = clamp64((int64_t)L->target->l3_bytes / 4 / column, 16, BLOCK_TILES_MOST);
  w->block_tiles = ceil_div(total, ceil_div(total, most));
  int64_t chunks = ceil_div(w->block_tiles, CHUNK_TILES), wanted = ceil_div(CHUNKS_WANTED, w->npanels);
  chunks = clamp64(wanted, chunks, clamp64(w->block_tiles / w->mr, chunks, LARGE));
  w->chunk_tiles = ceil_div(w->block_tiles, chunks);
  w->block_tiles = chunks * w->chunk_tiles;
}

static int64_t slab_of(const winograd *w) { return w->blocks * w->block_tiles * w->block + SLAB_GAP; }

static int64_t product_slab_of(const winograd *w) { return w->chunk_tiles * w->width + SLAB_GAP; }

static void make_buffers(nn_lower *L, winograd *w) {
  nn_module *m = L->module;
  nn_buf_space space = w->blocks_are_tasks ? NN_BUF_WORKER : NN_BUF_WORKSPACE;
  w->v = nn_temp(L, space, NN_F32, nn_dim_const(m, w->area * slab_of(w)));
  w->products = nn_temp(L, NN_BUF_WORKER, NN_F32, nn_dim_const(m, w->area * product_slab_of(w)));
  w->patch = nn_temp(L, NN_BUF_WORKER, NN_F32, nn_dim_const(m, w->area * w->tile.lanes));
  w->results = nn_temp(L, NN_BUF_WORKER, NN_F32, nn_dim_const(m, w->m * w->m * w->tile.lanes));
}

/* ---- V -------------------------------------------------------------------------------------------------------- */

/* Where a tile lies. */
typedef struct place {
  nn_x *image, *y, *x; /* y, x: of its first result */
} place;

static place place_of(nn_lower *L, const winograd *w, nn_x *tile) {
  nn_kernel *k = L->kernel;
  nn_x *row = nn_x_int(k, w->tiles[1]), *all = nn_x_int(k, w->tiles[0] * w->tiles[1]);
  bool single = nn_dim_is(w->y->type.dims[0], 1);
  place p = {.image = single ? nn_x_int(k, 0) : nn_let(k, nn_xi_floordiv(k, tile, all))};
  if (!single) tile = nn_let(k, nn_xi_mod(k, tile, all));
  p.y = nn_let(k, nn_xi_mulc(k, nn_xi_floordiv(k, tile, row), w->m));
  p.x = nn_let(k, nn_xi_mulc(k, nn_xi_mod(k, tile, row), w->m));
  return p;
}

/* first <= 0 and first + count <= limit, as code. */
static nn_x *lies_in(nn_lower *L, nn_x *first, int64_t count, int64_t limit) {
  nn_kernel *k = L->kernel;
  return nn_x_binary(k, NN_X_AND, nn_x_binary(k, NN_X_LE, nn_x_int(k, 0), first),
                     nn_x_binary(k, NN_X_LE, nn_xi_addc(k, first, count), nn_x_int(k, limit)));
}

typedef struct source {
  winograd *w;
  place at;              /* of the input: the tile's first result less the padding */
  nn_x *cb, *vector0;    /* block of channels, first lane in it */
  nn_x *to;              /* element of V */
} source;

static nn_x *input_at(nn_lower *L, const source *s, nn_x *i, nn_x *j, nn_x *l) {
  nn_kernel *k = L->kernel;
  nn_x *index[5] = {s->at.image, s->cb, nn_xi_add(k, s->at.y, i), nn_xi_add(k, s->at.x, j), nn_xi_add(k, s->vector0, l)};
  return nn_read(L, s->w->x, index);
}

/* The input of a tile at the border, with zeros where there is none. */
static void copy_patch(nn_lower *L, const source *s) {
  nn_kernel *k = L->kernel;
  const winograd *w = s->w;
  int lanes = w->tile.lanes;
  nn_x *i = nn_loop_range(k, NN_FOR, "i", w->side), *j = nn_loop_range(k, NN_FOR, "j", w->side);
  nn_x *to = nn_let(k, nn_xi_mulc(k, nn_xi_add(k, nn_xi_mulc(k, i, w->side), j), lanes));
  nn_x *inside = nn_x_binary(k, NN_X_AND, lies_in(L, nn_xi_add(k, s->at.y, i), 1, w->in[0]),
                             lies_in(L, nn_xi_add(k, s->at.x, j), 1, w->in[1]));
  nn_if_begin(k, inside);
  nn_x *l = nn_lanes_begin(L, lanes);
  nn_store(k, w->patch, nn_xi_add(k, to, l), input_at(L, s, i, j, l), NULL);
  nn_lanes_end(L, lanes);
  nn_else(k);
  l = nn_lanes_begin(L, lanes);
  nn_store(k, w->patch, nn_xi_add(k, to, l), nn_zero(L, NN_F32), NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
  nn_end(k);
  nn_end(k);
}

static void transform_vector(nn_lower *L, const source *s, bool is_inside) {
  nn_kernel *k = L->kernel;
  const winograd *w = s->w;
  nn_x *d[NN_WINOGRAD_AREA], *v[NN_WINOGRAD_AREA];
  int lanes = w->tile.lanes;
  if (!is_inside) copy_patch(L, s);
  nn_x *l = nn_lanes_begin(L, lanes);
  for (int i = 0; i < w->area; i++)
    d[i] = is_inside ? input_at(L, s, nn_x_int(k, i / w->side), nn_x_int(k, i % w->side), l)
                     : nn_let(k, nn_x_load(k, w->patch, nn_xi_addc(k, l, (int64_t)i * lanes), NULL));
  nn_winograd_input(L, w->m, d, v);
  for (int i = 0; i < w->area; i++) nn_store(k, w->v, nn_xi_addc(k, nn_xi_add(k, s->to, l), i * slab_of(w)), v[i], NULL);
  nn_lanes_end(L, lanes);
}

/* One tile of the block in one block of channels. */
static void transform_input(nn_lower *L, winograd *w, nn_x *cb, nn_x *t) {
  nn_kernel *k = L->kernel;
  source s = {.w = w, .cb = cb, .at = place_of(L, w, nn_let(k, nn_xi_add(k, w->tile0, t)))};
  s.at.y = nn_let(k, nn_xi_addc(k, s.at.y, -w->before[0]));
  s.at.x = nn_let(k, nn_xi_addc(k, s.at.x, -w->before[1]));
  nn_x *inside = nn_x_binary(k, NN_X_AND, lies_in(L, s.at.y, w->side, w->in[0]), lies_in(L, s.at.x, w->side, w->in[1]));
  inside = nn_let(k, inside);
  nn_x *v = nn_loop_range(k, NN_FOR, "v", w->block / w->tile.lanes);
  s.vector0 = nn_let(k, nn_xi_mulc(k, v, w->tile.lanes));
  s.to = nn_xi_add(k, nn_xi_mulc(k, nn_xi_add(k, nn_xi_mulc(k, cb, w->block_tiles), t), w->block), s.vector0);
  s.to = nn_let(k, s.to);
  nn_if_begin(k, inside);
  transform_vector(L, &s, true);
  nn_else(k);
  transform_vector(L, &s, false);
  nn_end(k);
  nn_end(k);
}

/* Tiles that the last block lacks are computed all the same: memory might hold numbers that are slow. */
static void clear_input(nn_lower *L, const winograd *w, nn_x *cb, nn_x *t) {
  nn_kernel *k = L->kernel;
  nn_x *i = nn_loop_range(k, NN_FOR, "i", w->area), *v = nn_loop_range(k, NN_FOR, "v", w->block / w->tile.lanes);
  nn_x *at = nn_xi_mulc(k, nn_xi_add(k, nn_xi_mulc(k, cb, w->block_tiles), t), w->block);
  at = nn_xi_add(k, nn_xi_add(k, nn_xi_mulc(k, i, slab_of(w)), at), nn_xi_mulc(k, v, w->tile.lanes));
  nn_x *l = nn_lanes_begin(L, w->tile.lanes);
  nn_store(k, w->v, nn_xi_add(k, at, l), nn_zero(L, NN_F32), NULL);
  nn_lanes_end(L, w->tile.lanes);
  nn_end(k);
  nn_end(k);
}

static void transform_block(nn_lower *L, nn_x *const *cb, void *data) {
  winograd *w = data;
  nn_kernel *k = L->kernel;
  nn_x *t = nn_loop_begin(k, NN_FOR, "t", nn_x_int(k, 0), w->count);
  transform_input(L, w, cb[0], t);
  nn_end(k);
  t = nn_loop_begin(k, NN_FOR, "t", w->count, nn_x_int(k, w->block_tiles));
  clear_input(L, w, cb[0], t);
  nn_end(k);
}

static void transform_inputs(nn_lower *L, winograd *w) {
  nn_kernel *k = L->kernel;
  if (!w->blocks_are_tasks) {
    nn_parallel_rows(L, &w->x->type.dims[1], 1, INPUT_COST * w->block_tiles, transform_block, w);
    return;
  }
  nn_x *cb = nn_loop_range(k, NN_FOR, "cb", w->blocks);
  transform_block(L, &cb, w);
  nn_end(k);
}

/* ---- M ---------------------------------------------------------------------------------------------------------- */

static nn_x *place_at(nn_lower *L, void *data, nn_x *r, nn_x *const *ks) {
  const winograd *w = data;
  nn_kernel *k = L->kernel;
  nn_x *cb = w->tail_block ? w->tail_block : ks[0];
  nn_x *t = nn_xi_add(k, nn_xi_mulc(k, cb, w->block_tiles), nn_xi_add(k, nn_xi_add(k, w->chunk0, w->first), r));
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, w->position, slab_of(w)), nn_xi_mulc(k, t, w->block));
  return nn_x_load(k, w->v, nn_xi_add(k, at, ks[1]), NULL);
}

static nn_x *weight_at(nn_lower *L, void *data, nn_x *const *ks, nn_x *j) {
  const winograd *w = data;
  nn_kernel *k = L->kernel;
  nn_x *channel = nn_xi_add(k, nn_xi_mulc(k, w->tail_block ? w->tail_block : ks[0], w->block), ks[1]);
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, w->panel, w->area), w->position);
  at = nn_xi_add(k, nn_xi_mulc(k, at, w->channels), channel);
  return nn_x_load(k, w->u, nn_xi_add(k, nn_xi_mulc(k, at, w->width), j), NULL);
}

/* U of the next position, or of the next panel's first one. */
static void prefetch_weights(nn_lower *L, void *data, nn_x *const *ks) {
  const winograd *w = data;
  nn_kernel *k = L->kernel;
  nn_x *channel = nn_xi_add(k, nn_xi_mulc(k, w->tail_block ? w->tail_block : ks[0], w->block), ks[1]);
  nn_x *slab = nn_xi_add(k, nn_xi_mulc(k, w->panel, w->area), w->position);
  int64_t passes = nn_tile_cut_rows(w->chunk_tiles, w->mr).tiles;
  nn_conv_tile_prefetch(L, w->u, slab, w->channels * w->width, nn_xi_mulc(k, channel, w->width), w->pass, passes, w->width);
}

static void add_channels(nn_lower *L, winograd *w, int64_t blocks, int64_t channels, int rows, nn_buf *acc) {
  nn_kernel *k = L->kernel;
  nn_conv_tile *t = &w->tile;
  t->nk = 2;
  t->count[0] = nn_x_int(k, blocks);
  t->count[1] = nn_x_int(k, channels);
  t->unroll_by[0] = 0;
  t->unroll_by[1] = UNROLLED_CHANNELS;
  nn_conv_tile_add(L, t, rows, acc);
}

static void multiply_tile(nn_lower *L, nn_x *pass, nn_x *first, int rows, void *data) {
  winograd *w = data;
  nn_kernel *k = L->kernel;
  int64_t whole = w->channels / w->block, rest = w->channels % w->block;
  w->pass = pass;
  w->first = first;
  nn_buf *acc = nn_conv_tile_clear(L, &w->tile, rows);
  if (whole) add_channels(L, w, whole, w->block, rows, acc);
  if (rest) {
    w->tail_block = nn_x_int(k, whole);
    add_channels(L, w, 1, rest, rows, acc);
    w->tail_block = NULL;
  }
  nn_x *r = nn_loop_range(k, NN_UNROLL, "r", rows), *c = nn_loop_range(k, NN_UNROLL, "c", w->tile.nv);
  nn_x *from = nn_xi_mulc(k, nn_xi_add(k, nn_xi_mulc(k, r, w->tile.nv), c), w->tile.lanes);
  nn_x *to = nn_xi_add(k, nn_xi_mulc(k, w->position, product_slab_of(w)), nn_xi_mulc(k, nn_xi_add(k, first, r), w->width));
  to = nn_xi_add(k, to, nn_xi_mulc(k, c, w->tile.lanes));
  nn_x *l = nn_lanes_begin(L, w->tile.lanes);
  nn_store(k, w->products, nn_xi_add(k, to, l), nn_x_load(k, acc, nn_xi_add(k, from, l), NULL), NULL);
  nn_lanes_end(L, w->tile.lanes);
  nn_end(k);
  nn_end(k);
}

/* ---- Y ---------------------------------------------------------------------------------------------------------- */

/* A vector of channels of a tile's results, from `results`. */
static void write_results(nn_lower *L, const winograd *w, place at, nn_x *vector) {
  nn_kernel *k = L->kernel;
  int lanes = w->tile.lanes;
  nn_x *m = nn_x_int(k, w->m), *channel = nn_xi_mulc(k, vector, lanes), *block = nn_x_int(k, w->block);
  nn_x *rows = nn_let(k, nn_xi_min(k, m, nn_xi_sub(k, nn_x_int(k, w->out[0]), at.y)));
  nn_x *columns = nn_let(k, nn_xi_min(k, m, nn_xi_sub(k, nn_x_int(k, w->out[1]), at.x)));
  nn_x *kb = nn_let(k, nn_xi_add(k, nn_xi_mulc(k, w->panel, w->width / w->block), nn_xi_floordiv(k, channel, block)));
  nn_x *i = nn_loop_begin(k, NN_FOR, "i", nn_x_int(k, 0), rows), *j = nn_loop_begin(k, NN_FOR, "j", nn_x_int(k, 0), columns);
  nn_x *l = nn_lanes_begin(L, lanes);
  nn_x *index[5] = {at.image, kb, nn_xi_add(k, at.y, i), nn_xi_add(k, at.x, j), nn_xi_add(k, nn_xi_mod(k, channel, block), l)};
  nn_x *from = nn_xi_mulc(k, nn_xi_add(k, nn_xi_mulc(k, i, w->m), j), lanes);
  nn_write(L, w->y, index, nn_let(k, nn_x_load(k, w->results, nn_xi_add(k, from, l), NULL)));
  nn_lanes_end(L, lanes);
  nn_end(k);
  nn_end(k);
}

static void transform_output(nn_lower *L, winograd *w, nn_x *t) {
  nn_kernel *k = L->kernel;
  int lanes = w->tile.lanes;
  nn_x *s[NN_WINOGRAD_AREA], *y[NN_WINOGRAD_AREA];
  place at = place_of(L, w, nn_let(k, nn_xi_add(k, nn_xi_add(k, w->tile0, w->chunk0), t)));
  nn_x *v = nn_loop_range(k, NN_FOR, "v", w->tile.nv), *l = nn_lanes_begin(L, lanes);
  nn_x *from = nn_xi_add(k, nn_xi_mulc(k, t, w->width), nn_xi_add(k, nn_xi_mulc(k, v, lanes), l));
  for (int i = 0; i < w->area; i++)
    s[i] = nn_let(k, nn_x_load(k, w->products, nn_xi_addc(k, from, i * product_slab_of(w)), NULL));
  nn_winograd_output(L, w->m, s, y);
  for (int i = 0; i < w->m * w->m; i++) nn_store(k, w->results, nn_xi_addc(k, l, (int64_t)i * lanes), y[i], NULL);
  nn_lanes_end(L, lanes);
  write_results(L, w, at, v);
  nn_end(k);
}

/* ---- the whole ------------------------------------------------------------------------------------------------ */

/* A chunk of tiles of the block in one panel. */
static void emit_chunk(nn_lower *L, winograd *w, nn_x *panel, nn_x *chunk, int nv) {
  nn_kernel *k = L->kernel;
  w->tile.nv = nv;
  w->panel = panel;
  w->chunk0 = nn_let(k, nn_xi_mulc(k, chunk, w->chunk_tiles));
  w->position = nn_loop_range(k, NN_FOR, "position", w->area);
  nn_tile_cut_loops(L, nn_tile_cut_rows(w->chunk_tiles, w->mr), multiply_tile, w);
  nn_end(k);
  nn_x *count = nn_xi_min(k, nn_xi_sub(k, w->count, w->chunk0), nn_x_int(k, w->chunk_tiles));
  nn_x *t = nn_loop_begin(k, NN_FOR, "t", nn_x_int(k, 0), nn_let(k, count));
  transform_output(L, w, t);
  nn_end(k);
}

/* All chunks in all panels; the last panel may be of fewer channels. */
static void emit_chunks(nn_lower *L, winograd *w) {
  nn_kernel *k = L->kernel;
  int64_t chunks = ceil_div(w->block_tiles, w->chunk_tiles), in_panel = w->width / w->block;
  int64_t whole = w->out_blocks / in_panel, rest = w->out_blocks % in_panel, per_block = w->block / w->tile.lanes;
  nn_x *task = nn_task_loop(L, w->blocks_are_tasks, "chunk", nn_x_int(k, chunks * w->npanels));
  nn_x *panel = nn_let(k, nn_xi_floordiv(k, task, nn_x_int(k, chunks))), *chunk = nn_xi_mod(k, task, nn_x_int(k, chunks));
  if (whole && rest) nn_if_begin(k, nn_x_binary(k, NN_X_LT, panel, nn_x_int(k, whole)));
  if (whole) emit_chunk(L, w, panel, chunk, (int)(in_panel * per_block));
  if (whole && rest) nn_else(k);
  if (rest) emit_chunk(L, w, panel, chunk, (int)(rest * per_block));
  if (whole && rest) nn_end(k);
  nn_end(k);
}

nn_status lower_conv_winograd(nn_lower *L, nn_op *op) {
  nn_kernel *k = L->kernel;
  winograd w = {0};
  int64_t count;
  if (nn_type_static_count(op->out[0]->type, &count) && count == 0) return NN_OK;
  set_sizes(L, op, &w);
  if (!nn_read_is_plain(L, op->in[1], &w.u)) return nn_fail(op, "internal error: weights that are no buffer");
  w.tile.place = place_at;
  w.tile.weight = weight_at;
  if (w.area * w.channels * (w.npanels * w.width) * 4 > L->target->l2_bytes / 2) w.tile.ahead = prefetch_weights;
  w.tile.data = &w;
  choose_blocks(L, &w);
  make_buffers(L, &w);
  nn_x *total = nn_let(k, nn_dim_x(L, w.total));
  nn_x *block = nn_task_loop(L, !w.blocks_are_tasks, "block", nn_let(k, nn_ceildiv_x(L, total, w.block_tiles)));
  w.tile0 = nn_let(k, nn_xi_mulc(k, block, w.block_tiles));
  w.count = nn_let(k, nn_xi_min(k, nn_xi_sub(k, total, w.tile0), nn_x_int(k, w.block_tiles)));
  transform_inputs(L, &w);
  emit_chunks(L, &w);
  nn_end(k);
  return NN_OK;
}
