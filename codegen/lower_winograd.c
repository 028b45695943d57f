/* conv_winograd: Winograd's convolution F(m x m, 3 x 3), channels in blocks. A tile of m x m results costs (m+2)^2 products
   instead of 9 m^2, a quarter of them for m = 4; winograd_transform.c has the formulas.

   Tiles are numbered through all images. For each of the (m+2)^2 positions the sum over channels is a matrix product of
   tiles x channels by channels x outputs, on the register tiles of conv_tile.c: rows are tiles, columns a panel of outputs.

     V[position][C/B][tile][B]      transformed input of a block of tiles
     M[position][tile][panel]       products of a panel, from which its results are made at once

   Blocks whose V fits half of L2 are tasks, if there are enough of them. Else a block is larger and a task is a chunk of it in one panel;
   a worker makes V of the whole block for himself, and keeps it for his next tasks: another core's would come slower than its sums are made.
   Tasks of a block come one after the other, so that of two workers each has half of the blocks, which are rows of the image where there is one:
   what he reads of x he has mostly written.
   Where U is of paired_weights the products are made in pairs (gemm_paired.c); rows of V are then scaled when a block's are there. If the number of tiles is a symbol, V has room for a large block, and what a block
   takes is decided while running. Where the number of images decides which tile is faster, and is a symbol, there are weights for both. */
#include "codegen/gemm_paired.h"

enum {
  SLAB_GAP = 16,        /* between positions, so that they do not share sets of the cache */
  TASKS_WANTED = 12,
  TASK_TILES_LEAST = 12, TASK_TILES_MOST = 64,
  BLOCK_TILES_LEAST = 8, BLOCK_TILES_MOST = 1024, /* of a block that is no task */
  CHUNK_TILES = 48,
  PARTS_WANTED = 8,     /* tasks, where the number of tiles is a symbol */
  REREAD_COST = 3,      /* of U for a block, in tiles */
  LIKELY_SIDE = 224,    /* of the network's input, for estimates */
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
  int64_t before[2], likely_tiles;            /* tiles of an image */
  nn_x *in[2], *out[2], *tiles[2];            /* y, x */
  nn_dim total;              /* tiles */
  bool blocks_are_tasks;
  int64_t block_tiles, chunk_tiles; /* room for them */
  nn_x *block_now, *chunk_now;      /* of a block, of a chunk; the last ones may have fewer */
  bool is_symbolic;
  int mr;
  bool is_ahead;             /* U is prefetched */
  nn_conv_tile tile;
  bool is_paired;
  nn_paired pairs;           /* its panels: positions of a panel of U */
  nn_x *tile0, *count;       /* of the present block: its first tile, their number */
  nn_x *panel, *position, *chunk0, *first;
  nn_x *tail_block;          /* the incomplete block of x's channels, or NULL */
} winograd;

static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

static int64_t clamp64(int64_t x, int64_t low, int64_t high) { return x > high ? high : x < low ? low : x; }

static void set_sizes(nn_lower *L, nn_op *op, const nn_value *weights, winograd *w) {
  const nn_dim *pads = nn_op_attr(op, "pads")->count ? nn_attr_dims(op, "pads", NULL) : NULL;
  nn_type u = weights->type;
  w->x = op->in[0];
  w->y = op->out[0];
  w->area = nn_dim_value(u.dims[1]);
  while (w->side * w->side < w->area) w->side++;
  w->m = w->side - 2;
  w->is_paired = nn_attr_int(op, "paired") != 0;
  w->channels = nn_dim_value(u.dims[2]) - (w->is_paired ? NN_PAIR_ROWS : 0);
  w->width = nn_dim_value(u.dims[3]);
  w->npanels = nn_dim_value(u.dims[0]);
  w->block = nn_dim_value(w->x->type.dims[4]);
  w->blocks = nn_dim_value(w->x->type.dims[1]);
  w->out_blocks = nn_dim_value(w->y->type.dims[1]);
  w->likely_tiles = 1;
  w->total = w->y->type.dims[0];
  for (int d = 0; d < 2; d++) {
    w->before[d] = pads ? nn_dim_value(pads[d]) : 0;
    nn_dim out = w->y->type.dims[2 + d], tiles = nn_dim_ceildiv(L->module, out, nn_dim_const(L->module, w->m));
    w->in[d] = nn_dim_x(L, w->x->type.dims[2 + d]);
    w->out[d] = nn_dim_x(L, out);
    w->tiles[d] = nn_dim_x(L, tiles);
    w->likely_tiles *= clamp64(nn_dim_likely(L->module, tiles, ceil_div(LIKELY_SIDE, w->m)), 1, 1 << 12);
    w->total = nn_dim_mul(L->module, w->total, tiles);
  }
  w->is_symbolic = !nn_dim_is_const(w->total, NULL);
  w->tile.lanes = nn_target_lanes(L->target, NN_F32);
  if (w->tile.lanes > w->block) w->tile.lanes = (int)w->block;
  w->tile.nv = (int)(w->width / w->tile.lanes);
  w->mr = nn_conv_tile_rows(L->target, w->tile.nv);
  if (w->is_paired) {
    nn_pair_set_depth(L, &w->pairs, w->channels, w->width, w->block);
    w->mr = w->pairs.most_rows;
  }
  w->mr = (int)nn_schedule(L->module, L->op, NN_KNOB_TILE_ROWS, w->mr, 1, w->mr);
}

/* Tiles whose V fits half of L2. */
static int64_t most_task_tiles(const nn_lower *L, const winograd *w) {
  int64_t column = w->area * 4 * clamp64(w->channels, 1, LARGE);
  return clamp64(nn_percent(L, NN_KNOB_CACHE, L->target->l2_bytes / 2) / column, 0, TASK_TILES_MOST);
}

/* Tiles of blocks that are tasks: the least work, counting what U costs; 0: there are too few. */
static int64_t task_tiles(const nn_lower *L, const winograd *w, int64_t total) {
  int64_t best = INT64_MAX, found = 0, most = most_task_tiles(L, w);
  for (int64_t n = TASK_TILES_LEAST; n <= most; n++) {
    int64_t blocks = ceil_div(total, n), cost = blocks * (n + ceil_div(n, w->mr) + REREAD_COST);
    if (blocks < TASKS_WANTED) break;
    if (cost < best) best = cost, found = n;
  }
  return found;
}

/* Parts of one size, as few as have `most` each: the size. */
static nn_x *even_x(nn_lower *L, nn_x *count, nn_x *most) {
  nn_kernel *k = L->kernel;
  nn_x *parts = nn_xi_floordiv(k, nn_xi_addc(k, nn_xi_add(k, count, most), -1), most);
  parts = nn_let(k, nn_xi_max(k, parts, nn_x_int(k, 1)));
  return nn_let(k, nn_xi_floordiv(k, nn_xi_addc(k, nn_xi_add(k, count, parts), -1), parts));
}

static int64_t chunks_of(int64_t tiles) { return ceil_div(tiles, CHUNK_TILES); }

static double weight_bytes(const winograd *w) { return 4.0 * (double)(w->area * w->channels) * (double)(w->npanels * w->width); }

/* U comes from the last cache as fast as it is needed; from memory it may not. */
static bool streams_weights(const nn_lower *L, const winograd *w) { return weight_bytes(w) > (double)L->target->l3_bytes; }

/* Blocks that one of so many workers has parts of, at most: tasks are dealt in order. */
static int64_t blocks_visited(int64_t blocks, int64_t parts, int64_t nworkers) {
  int64_t most = 0, each = blocks * parts / nworkers, rest = blocks * parts % nworkers;
  for (int64_t i = 0, first = 0; i < nworkers; i++) {
    int64_t next = first + each + (i < rest);
    if (next > first && (next - 1) / parts - first / parts + 1 > most) most = (next - 1) / parts - first / parts + 1;
    first = next;
  }
  return most;
}

/* What one of so many workers does if this is the number of blocks, in products of a tile. He makes V of each block that he has a part of,
   and for it reads x, which others may have written. */
static double span_of(const nn_lower *L, const winograd *w, int64_t total, int64_t blocks, int nworkers) {
  static const double input_cycles = 24, reread_tiles = 0.5; /* of a vector of V, which takes a cycle a channel of y in products; of U in L3 */
  int64_t tiles = ceil_div(total, blocks), chunks = chunks_of(tiles), chunk = ceil_div(tiles, chunks), parts = w->npanels * chunks;
  double reread = streams_weights(L, w) ? REREAD_COST : reread_tiles;
  double part = ((double)(chunk + ceil_div(chunk, w->mr)) + reread / (double)chunks) / (double)w->npanels;
  double input = (double)(blocks_visited(blocks, parts, nworkers) * tiles) * input_cycles / (double)(w->npanels * w->width);
  return (double)ceil_div(blocks * parts, nworkers) * part + input;
}

/* The number of blocks that are no tasks: the least time of cores, few or many. */
static int64_t best_blocks(const nn_lower *L, const winograd *w, int64_t total, int64_t fewest) {
  static const int workers[] = {1, 1, 2, 2, 4};
  int64_t found = fewest, most = clamp64(total / BLOCK_TILES_LEAST, fewest, fewest + PARTS_WANTED);
  double lowest = 0;
  for (int64_t n = fewest; n <= most; n++) {
    double cost = 0;
    for (size_t i = 0; i < sizeof workers / sizeof *workers; i++)
      cost += workers[i] * span_of(L, w, total, n, workers[i]);
    if (lowest > 0 && cost >= lowest) continue;
    lowest = cost;
    found = n;
  }
  return found;
}

/* Where a number of tiles is known while running, register tiles of products in pairs are whole ones, or halves: about n of them, or n and some more,
   so that few rows lie beyond. At most `room`. */
static nn_x *whole_halves(nn_lower *L, const winograd *w, nn_x *n, bool is_near, int64_t room) {
  nn_kernel *k = L->kernel;
  int64_t half = w->mr / 2, most = half ? room / half * half : 0;
  if (!w->is_paired || most < w->mr) return n;
  nn_x *halves = nn_xi_floordiv(k, nn_xi_addc(k, n, is_near ? half / 2 : half - 1), nn_x_int(k, half));
  nn_x *found = nn_xi_min(k, nn_xi_mulc(k, halves, half), nn_x_int(k, most));
  return nn_let(k, nn_x_select(k, nn_x_binary(k, NN_X_LT, n, nn_x_int(k, half)), n, found));
}

/* What blocks and chunks take of the tiles that there are now, if their number is a symbol. */
static void choose_now(nn_lower *L, winograd *w, nn_x *total) {
  nn_kernel *k = L->kernel;
  nn_x *most = nn_x_int(k, w->block_tiles), *one = nn_x_int(k, 1);
  nn_x *least = nn_x_int(k, w->blocks_are_tasks && !w->is_paired ? TASK_TILES_LEAST : w->mr);
  int64_t parts = ceil_div(PARTS_WANTED, w->npanels), wanted = w->blocks_are_tasks ? TASKS_WANTED : parts > 2 ? parts : 2;
  if (w->blocks_are_tasks || !streams_weights(L, w))
    most = nn_xi_min(k, most, nn_xi_max(k, least, nn_ceildiv_x(L, total, wanted)));
  w->block_now = nn_let(k, nn_xi_max(k, one, even_x(L, total, nn_let(k, most))));
  w->block_now = whole_halves(L, w, w->block_now, w->blocks_are_tasks, w->block_tiles);
  w->chunk_now = w->block_now;
  if (!w->blocks_are_tasks) w->chunk_now = whole_halves(L, w, even_x(L, w->block_now, nn_x_int(k, CHUNK_TILES)), false, CHUNK_TILES);
}

static void choose_blocks(nn_lower *L, winograd *w, nn_x *total_x) {
  int64_t total = clamp64(nn_dim_guess(w->total, w->likely_tiles), 1, LARGE);
  w->block_tiles = task_tiles(L, w, total);
  w->blocks_are_tasks = w->block_tiles > 0;
  if (w->blocks_are_tasks) {
    if (w->is_symbolic) w->block_tiles = most_task_tiles(L, w);
    w->chunk_tiles = w->block_tiles;
  } else {
    int64_t column = w->area * 4 * clamp64(w->channels, 1, LARGE);
    int64_t most = clamp64(nn_percent(L, NN_KNOB_CACHE, L->target->l3_bytes / 4) / column, 16, BLOCK_TILES_MOST);
    w->block_tiles = w->is_symbolic ? most : ceil_div(total, best_blocks(L, w, total, ceil_div(total, most)));
    w->chunk_tiles = w->is_symbolic ? CHUNK_TILES : ceil_div(w->block_tiles, chunks_of(w->block_tiles));
    if (!w->is_symbolic) w->block_tiles = chunks_of(w->block_tiles) * w->chunk_tiles;
  }
  w->block_now = nn_x_int(L->kernel, w->block_tiles);
  w->chunk_now = nn_x_int(L->kernel, w->chunk_tiles);
  if (w->is_symbolic) choose_now(L, w, total_x);
}

/* Register tiles of products in pairs may reach beyond the rows there are. */
static int64_t row_slack(const winograd *w) { return w->is_paired ? w->mr : 0; }

static int64_t slab_of(const winograd *w) { return w->blocks * w->block_tiles * w->block + SLAB_GAP; }

static int64_t product_slab_of(const winograd *w) { return w->chunk_tiles * w->width + SLAB_GAP; }

static void make_buffers(nn_lower *L, winograd *w) {
  nn_module *m = L->module;
  w->v = nn_temp(L, NN_BUF_WORKER, NN_F32, nn_dim_const(m, w->area * slab_of(w) + row_slack(w) * w->block));
  if (w->is_paired) {
    w->pairs.a = w->v;
    w->pairs.weights = w->u;
    w->pairs.own = nn_temp(L, NN_BUF_WORKER, NN_F32, nn_dim_const(m, w->area * w->block_tiles + row_slack(w)));
    w->pairs.factor = nn_temp(L, NN_BUF_WORKER, NN_F32, nn_dim_const(m, w->area * w->block_tiles + row_slack(w)));
  }
  w->products = nn_temp(L, NN_BUF_WORKER, NN_F32, nn_dim_const(m, w->area * product_slab_of(w) + row_slack(w) * w->width));
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
  nn_x *row = w->tiles[1], *all = nn_xi_mul(k, w->tiles[0], w->tiles[1]);
  bool single = nn_dim_is(w->y->type.dims[0], 1);
  place p = {.image = single ? nn_x_int(k, 0) : nn_let(k, nn_xi_floordiv(k, tile, all))};
  if (!single) tile = nn_let(k, nn_xi_mod(k, tile, all));
  p.y = nn_let(k, nn_xi_mulc(k, nn_xi_floordiv(k, tile, row), w->m));
  p.x = nn_let(k, nn_xi_mulc(k, nn_xi_mod(k, tile, row), w->m));
  return p;
}

/* first <= 0 and first + count <= limit, as code. */
static nn_x *lies_in(nn_lower *L, nn_x *first, int64_t count, nn_x *limit) {
  nn_kernel *k = L->kernel;
  return nn_x_binary(k, NN_X_AND, nn_x_binary(k, NN_X_LE, nn_x_int(k, 0), first),
                     nn_x_binary(k, NN_X_LE, nn_xi_addc(k, first, count), limit));
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

/* Tiles that the last block lacks are computed all the same, if blocks are of one size: memory might hold numbers that are slow. */
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

/* Rows of V in the present position, from tile `first` of the block on. */
static nn_pair_span rows_of(nn_kernel *k, const winograd *w, nn_x *first, int rows, nn_x *pass) {
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, w->position, slab_of(w)), nn_xi_mulc(k, first, w->block));
  return (nn_pair_span){rows, pass, nn_xi_add(k, nn_xi_mulc(k, w->position, w->block_tiles), first), at, w->block_tiles * w->block};
}

static void scale_block(nn_lower *L, winograd *w) {
  nn_kernel *k = L->kernel;
  nn_x *zero = nn_x_int(k, 0);
  w->position = nn_loop_range(k, NN_FOR, "position", w->area);
  nn_pair_span rows = rows_of(k, w, zero, 0, zero);
  nn_pair_rows(L, &w->pairs, &rows, w->is_symbolic ? w->count : nn_x_int(k, w->block_tiles));
  nn_end(k);
}

static void transform_block(nn_lower *L, winograd *w) {
  nn_kernel *k = L->kernel;
  nn_x *cb = nn_loop_range(k, NN_FOR, "cb", w->blocks);
  nn_x *t = nn_loop_begin(k, NN_FOR, "t", nn_x_int(k, 0), w->count);
  transform_input(L, w, cb, t);
  nn_end(k);
  if (!w->is_symbolic) {
    t = nn_loop_begin(k, NN_FOR, "t", w->count, nn_x_int(k, w->block_tiles));
    clear_input(L, w, cb, t);
    nn_end(k);
  }
  nn_end(k);
  if (w->is_paired) scale_block(L, w);
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

static void add_channels(nn_lower *L, winograd *w, int64_t blocks, int64_t channels, const nn_tile_span *span, nn_buf *acc) {
  nn_kernel *k = L->kernel;
  nn_conv_tile *t = &w->tile;
  t->nk = 2;
  t->count[0] = nn_x_int(k, blocks);
  t->count[1] = nn_x_int(k, channels);
  nn_conv_tile_add(L, t, span, acc);
}

typedef struct product_tile {
  const winograd *w;
  nn_buf *sums;
  nn_x *row;     /* in pairs: the first one's number */
} product_tile;

static void store_products(nn_lower *L, nn_x *r, void *data) {
  const product_tile *t = data;
  const winograd *w = t->w;
  nn_kernel *k = L->kernel;
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", w->tile.nv);
  nn_x *from = nn_xi_mulc(k, nn_xi_add(k, nn_xi_mulc(k, r, t->row ? w->pairs.nv : w->tile.nv), c), w->tile.lanes);
  nn_x *to = nn_xi_add(k, nn_xi_mulc(k, w->position, product_slab_of(w)), nn_xi_mulc(k, nn_xi_add(k, w->first, r), w->width));
  to = nn_xi_add(k, to, nn_xi_mulc(k, c, w->tile.lanes));
  nn_x *l = nn_lanes_begin(L, w->tile.lanes), *value = nn_x_load(k, t->sums, nn_xi_add(k, from, l), NULL);
  if (t->row) value = nn_pair_unscale(L, &w->pairs, nn_xi_add(k, t->row, r), nn_tile_vector(k, c, w->tile.lanes, l), value);
  nn_store(k, w->products, nn_xi_add(k, to, l), value, NULL);
  nn_lanes_end(L, w->tile.lanes);
  nn_end(k);
}

static void multiply_pairs(nn_lower *L, const nn_tile_span *span, void *data) {
  winograd *w = data;
  nn_kernel *k = L->kernel;
  w->first = span->first;
  w->pairs.panel = nn_let(k, nn_xi_add(k, nn_xi_mulc(k, w->panel, w->area), w->position));
  w->pairs.cut.tiles = nn_tile_cut_rows(w->chunk_tiles, w->mr).tiles;
  nn_pair_span rows = rows_of(k, w, nn_let(k, nn_xi_add(k, w->chunk0, w->first)), span->rows, span->pass);
  nn_buf *sums = nn_pair_sums(L, &w->pairs, &rows);
  nn_tile_rows(L, span->rows, NULL, store_products, &(product_tile){w, sums, rows.row});
}

static void multiply_tile(nn_lower *L, const nn_tile_span *span, void *data) {
  winograd *w = data;
  nn_kernel *k = L->kernel;
  int64_t whole = w->channels / w->block, rest = w->channels % w->block;
  w->first = span->first;
  nn_buf *acc = nn_conv_tile_clear(L, &w->tile, span->rows);
  if (w->is_ahead) { /* U of the next position, or of the next panel's first one */
    nn_x *slab = nn_xi_add(k, nn_xi_mulc(k, w->panel, w->area), w->position);
    nn_conv_tile_prefetch(L, &w->tile, w->u, slab, w->channels * w->width, span->pass, nn_tile_cut_rows(w->chunk_tiles, w->mr).tiles);
  }
  if (whole) add_channels(L, w, whole, w->block, span, acc);
  if (rest) {
    w->tail_block = nn_x_int(k, whole);
    add_channels(L, w, 1, rest, span, acc);
    w->tail_block = NULL;
  }
  nn_tile_rows(L, span->rows, span->rows_now, store_products, &(product_tile){w, acc, NULL});
}

/* ---- Y ---------------------------------------------------------------------------------------------------------- */

/* A vector of channels of a tile's results, from `results`. */
static void write_results(nn_lower *L, const winograd *w, place at, nn_x *vector) {
  nn_kernel *k = L->kernel;
  int lanes = w->tile.lanes;
  nn_x *m = nn_x_int(k, w->m), *channel = nn_xi_mulc(k, vector, lanes), *block = nn_x_int(k, w->block);
  nn_x *rows = nn_let(k, nn_xi_min(k, m, nn_xi_sub(k, w->out[0], at.y)));
  nn_x *columns = nn_let(k, nn_xi_min(k, m, nn_xi_sub(k, w->out[1], at.x)));
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
  w->chunk0 = nn_let(k, nn_xi_mul(k, chunk, w->chunk_now));
  nn_x *count = nn_xi_min(k, nn_xi_sub(k, w->count, w->chunk0), w->chunk_now); /* the last block may lack a chunk */
  count = nn_let(k, nn_xi_max(k, count, nn_x_int(k, 0)));
  w->position = nn_loop_range(k, NN_FOR, "position", w->area);
  if (w->is_paired && w->is_symbolic) nn_pair_tile_loops(L, count, w->mr, multiply_pairs, w);
  else nn_tile_any_loops(L, w->is_symbolic ? count : w->chunk_now, w->mr, w->is_paired ? multiply_pairs : multiply_tile, w);
  nn_end(k);
  nn_x *t = nn_loop_begin(k, NN_FOR, "t", nn_x_int(k, 0), count);
  transform_output(L, w, t);
  nn_end(k);
}

/* A chunk of the block in a panel, of which the last one may be of fewer channels. */
static void emit_part(nn_lower *L, winograd *w, nn_x *part, nn_x *chunks) {
  nn_kernel *k = L->kernel;
  int64_t in_panel = w->width / w->block;
  int64_t whole = w->out_blocks / in_panel, rest = w->out_blocks % in_panel, per_block = w->block / w->tile.lanes;
  nn_x *panel = nn_let(k, nn_xi_floordiv(k, part, chunks)), *chunk = nn_xi_mod(k, part, chunks);
  if (whole && rest) nn_if_begin(k, nn_x_binary(k, NN_X_LT, panel, nn_x_int(k, whole)));
  if (whole) emit_chunk(L, w, panel, chunk, (int)(in_panel * per_block));
  if (whole && rest) nn_else(k);
  if (rest) emit_chunk(L, w, panel, chunk, (int)(rest * per_block));
  if (whole && rest) nn_end(k);
}

static void set_block(nn_lower *L, winograd *w, nn_x *block, nn_x *total) {
  nn_kernel *k = L->kernel;
  w->tile0 = nn_let(k, nn_xi_mul(k, block, w->block_now));
  w->count = nn_let(k, nn_xi_min(k, nn_xi_sub(k, total, w->tile0), w->block_now));
}

static void emit_blocks(nn_lower *L, winograd *w, nn_x *blocks, nn_x *total) {
  nn_kernel *k = L->kernel;
  set_block(L, w, nn_task_loop(L, false, "block", blocks), total);
  transform_block(L, w);
  emit_part(L, w, nn_loop_range(k, NN_FOR, "panel", w->npanels), nn_x_int(k, 1));
  nn_end(k);
  nn_end(k);
}

/* Tasks are parts of blocks. */
static void emit_parts(nn_lower *L, winograd *w, nn_x *blocks, nn_x *total) {
  nn_kernel *k = L->kernel;
  nn_x *chunks = nn_let(k, nn_xi_floordiv(k, nn_xi_addc(k, nn_xi_add(k, w->block_now, w->chunk_now), -1), w->chunk_now));
  nn_x *parts = nn_let(k, nn_xi_mulc(k, chunks, w->npanels));
  nn_x *task = nn_task_loop(L, false, "task", nn_let(k, nn_xi_mul(k, blocks, parts)));
  nn_x *block = nn_let(k, nn_xi_floordiv(k, task, parts));
  set_block(L, w, block, total);
  nn_keep_begin(k, nn_temp(L, NN_BUF_WORKER, NN_I64, nn_dim_const(L->module, 1)), block);
  transform_block(L, w);
  nn_end(k);
  emit_part(L, w, nn_let(k, nn_xi_mod(k, task, parts)), chunks);
  nn_end(k);
}

/* With these weights, operand `which`. */
static nn_status emit_form(nn_lower *L, nn_op *op, int which) {
  nn_kernel *k = L->kernel;
  winograd w = {0};
  set_sizes(L, op, op->in[which], &w);
  if (!nn_read_is_plain(L, op->in[which], &w.u)) return nn_fail(op, "internal error: weights that are no buffer");
  w.tile.place = place_at;
  w.tile.weight = weight_at;
  if (w.area * w.channels * (w.npanels * w.width) * 4 > L->target->l2_bytes / 2) w.is_ahead = true;
  w.tile.data = &w;
  nn_x *total = nn_let(k, nn_dim_x(L, w.total));
  choose_blocks(L, &w, total);
  make_buffers(L, &w);
  nn_x *blocks = nn_xi_floordiv(k, nn_xi_addc(k, nn_xi_add(k, total, w.block_now), -1), w.block_now);
  if (w.blocks_are_tasks) emit_blocks(L, &w, nn_let(k, blocks), total);
  else emit_parts(L, &w, nn_let(k, blocks), total);
  return NN_OK;
}

nn_status lower_conv_winograd(nn_lower *L, nn_op *op) {
  nn_kernel *k = L->kernel;
  nn_dim images = op->out[0]->type.dims[0];
  int64_t count, many = nn_attr_int(op, "many");
  if (nn_type_static_count(op->out[0]->type, &count) && count == 0) return NN_OK;
  if (op->nin < 3) return emit_form(L, op, 1);
  nn_if_begin(k, nn_x_binary(k, NN_X_LT, nn_dim_x(L, images), nn_x_int(k, many)));
  NN_TRY(emit_form(L, op, 2));
  nn_else(k);
  NN_TRY(emit_form(L, op, 1));
  nn_end(k);
  return NN_OK;
}
