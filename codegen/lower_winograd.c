/* Winograd's convolution F(m x m, 3 x 3), m = 2 or 4: a tile of m x m results costs (m+2)^2 products
   instead of 9 m^2, a quarter of them for m = 4.

     u = G w G^T   once for each weight (winograd_weights: evaluated while compiling)
     v = B^T d B   for each tile of (m+2) x (m+2) input pixels; tiles overlap by two
     Y = A^T (sum over channels of u * v) A

   For each of the (m+2)^2 positions the sum over channels is a matrix product M = U V of outputs x channels
   x tiles, on register tiles (gemm.c).

   The matrices come from interpolation (Toom and Cook, transposed) at 0, pairs +-p, and infinity. With
   R(x^2) = product of (x^2 - p^2), and R_p without the factor of p, their rows are the coefficients of
     B^T:  0: R(x^2)       +-p: (x^2 +- p x) R_p(x^2)        infinity: x R(x^2)
     G:    0: (1,0,0)/R(0) +-p: (1,+-p,p^2)/(2 p^2 R_p(p^2)) infinity: (0,0,1)
     A:    powers 0..m-1 of the point; infinity: the last one only.
   Rows of +p and -p share their even and their odd part. {3/4, 3/2} has a third of the rounding error of the usual {1, 2}.

   Tiles are the columns of the products. A block is R lines of tiles (of all images, one below the other) by
   S tiles of a line. Vectors run along a line; its last vector may overhang, into columns that the
   next line then overwrites or nobody asks for. Those hold numbers too: what memory happens to contain could
   be denormal, which makes arithmetic slow. Small blocks are tasks whose V and M stay in the worker's cache;
   where there would be too few of them, blocks are as large as the caches allow and their three steps are
   parallel each. */
#include "codegen/codegen.h"

enum {
  MOST_SIDE = 6,
  MOST_AREA = MOST_SIDE * MOST_SIDE,
  MOST_TERMS = 3,         /* of R */
  SLAB_GAP = 16,          /* between positions, so that their rows do not share sets of the cache */
  BLOCKS_ENOUGH = 6,      /* to be tasks */
  TASK_COLUMNS_LEAST = 24, /* of a block that is a task */
  TASK_COLUMNS = 32,      /* at most, even where they do not fit the cache */
  TASK_COLUMNS_MOST = 96,
  BLOCK_COLUMNS = 64,     /* of one that is not */
  BLOCK_COLUMNS_MOST = 1024,
  BLOCK_COST = 4,         /* in columns: U is read again for each block */
  INPUT_COST = 60,        /* rough operations per tile and channel, both transforms */
  LARGE = 1 << 24
};

typedef struct points {
  int m, npairs;
  double pair[2];
} points;

static const points points_2 = {2, 1, {1}}, points_4 = {4, 2, {0.75, 1.5}};

static const points *points_of(const nn_op *op) { return nn_attr_int(op, "tile") == 2 ? &points_2 : &points_4; }

/* ---- one dimension of the transforms ---------------------------------------------------------------------- */

/* Coefficients of R in x^2, without the factor of pair `skip`; the degree. The first coefficient is R(0), the last one 1. */
static int polynomial(const points *f, int skip, double *r) {
  int degree = 0;
  r[0] = 1;
  for (int i = 0; i < f->npairs; i++) {
    double square = f->pair[i] * f->pair[i];
    if (i == skip) continue;
    r[degree + 1] = r[degree];
    for (int j = degree; j > 0; j--) r[j] = r[j - 1] - square * r[j];
    r[0] *= -square;
    degree++;
  }
  return degree;
}

static nn_x *scaled_sum(nn_lower *L, double factor, nn_x *x, nn_x *sum) {
  nn_kernel *k = L->kernel;
  if (factor == 1) return nn_let(k, nn_x_binary(k, NN_X_ADD, sum, x));
  if (factor == -1) return nn_let(k, nn_x_binary(k, NN_X_SUB, sum, x));
  return nn_let(k, nn_x_fma(k, nn_x_const(k, x->dtype, factor), x, sum));
}

static nn_x *scaled(nn_lower *L, double factor, nn_x *x) {
  if (factor == 1) return x;
  return nn_let(L->kernel, nn_x_binary(L->kernel, NN_X_MUL, nn_x_const(L->kernel, x->dtype, factor), x));
}

/* R (without pair `skip`) applied to d[first], d[first + 2], ... */
static nn_x *apply(nn_lower *L, const points *f, int skip, nn_x *const *d, int first) {
  double r[MOST_TERMS];
  int degree = polynomial(f, skip, r);
  nn_x *sum = d[first + 2 * degree];
  for (int i = degree - 1; i >= 0; i--) sum = scaled_sum(L, r[i], d[first + 2 * i], sum);
  return sum;
}

/* B^T d */
static void input_line(nn_lower *L, const points *f, nn_x *const *d, nn_x **out) {
  out[0] = apply(L, f, -1, d, 0);
  for (int i = 0; i < f->npairs; i++) {
    nn_x *even = apply(L, f, i, d, 2), *odd = apply(L, f, i, d, 1);
    out[1 + 2 * i] = scaled_sum(L, f->pair[i], odd, even);
    out[2 + 2 * i] = scaled_sum(L, -f->pair[i], odd, even);
  }
  out[f->m + 1] = apply(L, f, -1, d, 1);
}

/* G g */
static void weight_line(nn_lower *L, const points *f, nn_x *const *g, nn_x **out) {
  double r[MOST_TERMS];
  polynomial(f, -1, r);
  out[0] = scaled(L, 1 / r[0], g[0]);
  for (int i = 0; i < f->npairs; i++) {
    double p = f->pair[i], square = p * p, value = 0;
    for (int j = polynomial(f, i, r); j >= 0; j--) value = value * square + r[j];
    double factor = 1 / (2 * square * value);
    nn_x *even = scaled_sum(L, square * factor, g[2], scaled(L, factor, g[0]));
    out[1 + 2 * i] = scaled_sum(L, p * factor, g[1], even);
    out[2 + 2 * i] = scaled_sum(L, -p * factor, g[1], even);
  }
  out[f->m + 1] = g[2];
}

/* A^T s */
static void output_line(nn_lower *L, const points *f, nn_x *const *s, nn_x **out) {
  nn_kernel *k = L->kernel;
  nn_x *part[2][2];
  double power[2] = {1, 1};
  for (int i = 0; i < f->npairs; i++) {
    part[0][i] = nn_let(k, nn_x_binary(k, NN_X_ADD, s[1 + 2 * i], s[2 + 2 * i]));
    part[1][i] = nn_let(k, nn_x_binary(k, NN_X_SUB, s[1 + 2 * i], s[2 + 2 * i]));
  }
  for (int j = 0; j < f->m; j++) {
    nn_x *sum = j == 0 ? s[0] : j == f->m - 1 ? s[f->m + 1] : NULL;
    for (int i = 0; i < f->npairs; i++) {
      nn_x *x = part[j % 2][i];
      sum = sum ? scaled_sum(L, power[i], x, sum) : scaled(L, power[i], x);
      power[i] *= f->pair[i];
    }
    out[j] = sum;
  }
}

typedef void line_fn(nn_lower *L, const points *f, nn_x *const *in, nn_x **out);

/* T x T^T for the matrix T of `line`, from n x n values to k x k, row-major. */
static void transform(nn_lower *L, const points *f, line_fn *line, int n, int k, nn_x *const *in, nn_x **out) {
  nn_x *half[MOST_AREA], *column[MOST_SIDE], *result[MOST_SIDE];
  for (int j = 0; j < n; j++) {
    for (int i = 0; i < n; i++) column[i] = in[i * n + j];
    line(L, f, column, result);
    for (int i = 0; i < k; i++) half[i * n + j] = result[i];
  }
  for (int i = 0; i < k; i++) line(L, f, half + i * n, out + i * k);
}

/* ---- weights ---------------------------------------------------------------------------------------------- */

/* In f64: they are transformed once. */
static void transform_weights(nn_lower *L, nn_x *const *place, void *data) {
  nn_kernel *k = L->kernel;
  nn_op *op = data;
  const points *f = points_of(op);
  nn_x *g[9], *u[MOST_AREA];
  for (int i = 0; i < 9; i++) {
    nn_x *index[4] = {place[0], place[1], nn_x_int(k, i / 3), nn_x_int(k, i % 3)};
    g[i] = nn_let(k, nn_x_cast(k, nn_read(L, op->in[0], index), NN_F64));
  }
  transform(L, f, weight_line, 3, f->m + 2, g, u);
  for (int i = 0; i < (f->m + 2) * (f->m + 2); i++) {
    nn_x *index[3] = {nn_x_int(k, i), place[0], place[1]};
    nn_write(L, op->out[0], index, nn_x_cast(k, u[i], NN_F32));
  }
}

nn_status lower_winograd_weights(nn_lower *L, nn_op *op) {
  enum { COST = 300 };
  nn_box_loops(L, op->out[0]->type.dims + 1, 2, nn_target_lanes(L->target, NN_F32), COST, transform_weights, op);
  return NN_OK;
}

/* ---- blocks ------------------------------------------------------------------------------------------------- */

typedef struct winograd {
  const points *f;
  nn_value *x, *y;
  nn_buf *u, *v, *products;
  nn_buf *patch;             /* input of a line of tiles in one channel */
  nn_buf *results;           /* results of a line of tiles in one channel */
  int side, area;
  int lanes, wide;           /* of the transforms; of the products */
  int64_t channels, outputs, before[2], in[2], out[2]; /* y, x */
  int64_t tiles[2];          /* of an image */
  nn_dim lines;              /* of tiles, of all images */
  bool blocks_are_tasks;
  int64_t block_lines, block_tiles, column_blocks;
  int64_t span;              /* block_tiles in whole vectors */
  int64_t pitch;             /* of rows of V and M */
  nn_x *line0, *line_count;  /* of the present block */
  nn_x *tile0;               /* its first tile of a line */
  nn_x *out_x, *out_count;   /* its results in a row of an image */
} winograd;

static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

static int64_t clamp64(int64_t x, int64_t low, int64_t high) { return x > high ? high : x < low ? low : x; }

/* Columns of a block: the last line ends with a whole vector, and the products take whole vectors of the target. */
static int64_t columns_of(const winograd *w, int64_t lines, int64_t tiles) {
  int64_t last = ceil_div(tiles, w->lanes) * w->lanes;
  return ceil_div((lines - 1) * tiles + last, w->wide) * w->wide;
}

/* Columns that are computed, a half panel counting as three quarters of a whole one. */
static int64_t cost_of(const winograd *w, int64_t lines, int64_t tiles, int64_t blocks) {
  int64_t columns = columns_of(w, lines, tiles);
  return blocks * (columns + (columns / w->wide % 2 ? w->wide / 2 : 0) + BLOCK_COST);
}

typedef struct limits {
  int64_t least, most; /* columns */
  int64_t blocks;      /* at least */
} limits;

/* The cheapest blocks within the limits; false if there are none. */
static bool cut_blocks(winograd *w, limits limit) {
  int64_t lines = nn_dim_guess(w->lines, w->tiles[0]), best = INT64_MAX;
  for (int64_t cuts = 1; cuts <= w->tiles[1] && cuts <= LARGE; cuts++) {
    int64_t tiles = ceil_div(w->tiles[1], cuts), most_lines = clamp64(limit.most / tiles, 0, lines);
    if (cuts > 1 && (tiles < w->lanes || tiles < limit.least) && best < INT64_MAX) break;
    for (int64_t n = most_lines; n >= 1 && n * tiles >= limit.least; n--) {
      int64_t blocks = ceil_div(lines, n) * ceil_div(w->tiles[1], tiles), cost = cost_of(w, n, tiles, blocks);
      if (blocks < limit.blocks || cost >= best) continue;
      best = cost;
      w->block_lines = n;
      w->block_tiles = tiles;
    }
    if (tiles == 1) break;
  }
  return best < INT64_MAX;
}

static void choose_blocks(nn_lower *L, winograd *w) {
  const nn_target *t = L->target;
  int64_t column = w->area * 4 * (clamp64(w->channels, 1, LARGE) + clamp64(w->outputs, 1, LARGE));
  int64_t in_task = clamp64(2 * (int64_t)t->l2_bytes / column, TASK_COLUMNS, TASK_COLUMNS_MOST);
  w->blocks_are_tasks = cut_blocks(w, (limits){TASK_COLUMNS_LEAST, in_task, BLOCKS_ENOUGH});
  if (!w->blocks_are_tasks) {
    int64_t all = clamp64((int64_t)t->l3_bytes / 2 / column, BLOCK_COLUMNS, BLOCK_COLUMNS_MOST);
    cut_blocks(w, (limits){1, all, 1});
  }
  w->column_blocks = ceil_div(w->tiles[1], w->block_tiles);
  w->span = ceil_div(w->block_tiles, w->lanes) * w->lanes;
  w->pitch = columns_of(w, w->block_lines, w->block_tiles);
}

static int64_t slab_of(const winograd *w, int64_t rows) { return rows * w->pitch + SLAB_GAP; }

/* Over rows 0..count: in parallel tasks, or serial within one. */
static void over_rows(nn_lower *L, winograd *w, int64_t count, nn_body *body) {
  nn_kernel *k = L->kernel;
  if (w->blocks_are_tasks) {
    nn_x *row = nn_loop_range(k, NN_FOR, "row", count);
    body(L, &row, w);
    nn_end(k);
    return;
  }
  nn_dim rows = nn_dim_const(L->module, count);
  nn_parallel_rows(L, &rows, 1, INPUT_COST * w->block_lines * w->block_tiles, body, w);
}

/* A line of tiles: its image and number in it. */
static nn_x *begin_line(nn_lower *L, const winograd *w, nn_x **image, nn_x **line) {
  nn_kernel *k = L->kernel;
  nn_x *r = nn_loop_begin(k, NN_FOR, "line", nn_x_int(k, 0), w->line_count);
  nn_x *flat = nn_xi_add(k, w->line0, r), *lines = nn_x_int(k, w->tiles[0]);
  bool single = nn_dim_is(w->y->type.dims[0], 1);
  *image = single ? nn_x_int(k, 0) : nn_let(k, nn_xi_floordiv(k, flat, lines));
  *line = nn_let(k, single ? flat : nn_xi_mod(k, flat, lines));
  return r;
}

/* ---- V -------------------------------------------------------------------------------------------------------- */

typedef struct patch_row {
  winograd *w;
  nn_x *image, *channel, *y;
  nn_x *to;         /* element of the patch where the row begins */
  nn_x *first, *x0; /* where the input begins in it; column of the image there */
  nn_x *count;
} patch_row;

static nn_x *in_block(nn_lower *L, nn_x *i, nn_x *count, bool is_tail) {
  if (is_tail) nn_guard_push(L, nn_x_binary(L->kernel, NN_X_LT, i, count));
  return i;
}

static void copy_block(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  const patch_row *row = data;
  nn_kernel *k = L->kernel;
  nn_x *at = in_block(L, nn_xi_add(k, i, nn_lanes_begin(L, lanes)), row->count, is_tail);
  nn_x *index[4] = {row->image, row->channel, row->y, nn_xi_add(k, row->x0, at)};
  nn_x *value = nn_read(L, row->w->x, index);
  nn_store(k, row->w->patch, nn_xi_add(k, nn_xi_add(k, row->to, row->first), at), value, nn_guard(L));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

static void zero_block(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  const patch_row *row = data;
  nn_kernel *k = L->kernel;
  nn_x *at = in_block(L, nn_xi_add(k, i, nn_lanes_begin(L, lanes)), row->count, is_tail);
  nn_store(k, row->w->patch, nn_xi_add(k, nn_xi_add(k, row->to, row->first), at), nn_zero(L, NN_F32), nn_guard(L));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

static void zero_range(nn_lower *L, patch_row row, nn_x *from, nn_x *to) {
  nn_kernel *k = L->kernel;
  row.first = from;
  row.count = nn_let(k, nn_xi_sub(k, to, from));
  nn_block_loops(L, row.count, row.w->lanes, zero_block, &row);
}

static int64_t patch_pitch(const winograd *w) { return w->f->m * w->span + 2; }

/* The rows of input of a line of tiles, with zeros where there is none. */
static void copy_patch(nn_lower *L, winograd *w, nn_x *image, nn_x *channel, nn_x *line) {
  nn_kernel *k = L->kernel;
  patch_row row = {.w = w, .image = image, .channel = channel};
  nn_x *zero = nn_x_int(k, 0), *width = nn_x_int(k, patch_pitch(w));
  nn_x *left = nn_let(k, nn_xi_addc(k, nn_xi_mulc(k, w->tile0, w->f->m), -w->before[1]));
  nn_x *lo = nn_let(k, nn_xi_min(k, nn_xi_max(k, nn_xi_sub(k, zero, left), zero), width));
  nn_x *hi = nn_let(k, nn_xi_max(k, nn_xi_min(k, nn_xi_sub(k, nn_x_int(k, w->in[1]), left), width), lo));
  nn_x *i = nn_loop_range(k, NN_FOR, "i", w->side);
  row.y = nn_let(k, nn_xi_addc(k, nn_xi_add(k, nn_xi_mulc(k, line, w->f->m), i), -w->before[0]));
  row.to = nn_let(k, nn_xi_mulc(k, i, patch_pitch(w)));
  nn_x *inside = nn_x_binary(k, NN_X_AND, nn_x_binary(k, NN_X_LE, zero, row.y),
                             nn_x_binary(k, NN_X_LT, row.y, nn_x_int(k, w->in[0])));
  nn_if_begin(k, inside);
  zero_range(L, row, zero, lo);
  zero_range(L, row, hi, width);
  row.first = lo;
  row.x0 = nn_let(k, nn_xi_add(k, left, lo));
  row.count = nn_let(k, nn_xi_sub(k, hi, lo));
  nn_block_loops(L, row.count, w->lanes, copy_block, &row);
  nn_else(k);
  zero_range(L, row, zero, width);
  nn_end(k);
  nn_end(k);
}

static nn_x *begin_vectors(nn_lower *L, const winograd *w) {
  nn_kernel *k = L->kernel;
  return nn_let(k, nn_xi_mulc(k, nn_loop_range(k, NN_FOR, "v", w->span / w->lanes), w->lanes));
}

/* Columns after those of the last line. */
static void clear_rest(nn_lower *L, const winograd *w, nn_x *channel) {
  nn_kernel *k = L->kernel;
  nn_x *last = nn_xi_mulc(k, nn_xi_addc(k, w->line_count, -1), w->block_tiles);
  nn_x *first = nn_xi_floordiv(k, nn_xi_addc(k, last, w->span), nn_x_int(k, w->lanes));
  nn_x *v = nn_loop_begin(k, NN_FOR, "v", nn_let(k, first), nn_x_int(k, w->pitch / w->lanes));
  nn_x *i = nn_loop_range(k, NN_FOR, "i", w->area), *l = nn_lanes_begin(L, w->lanes);
  nn_x *row = nn_xi_add(k, nn_xi_mulc(k, i, slab_of(w, w->channels)), nn_xi_mulc(k, channel, w->pitch));
  nn_store(k, w->v, nn_xi_add(k, row, nn_xi_add(k, nn_xi_mulc(k, v, w->lanes), l)), nn_zero(L, NN_F32), NULL);
  nn_lanes_end(L, w->lanes);
  nn_end(k);
  nn_end(k);
}

/* One channel of the block. */
static void transform_input(nn_lower *L, nn_x *const *channel, void *data) {
  winograd *w = data;
  nn_kernel *k = L->kernel;
  nn_x *image, *line, *d[MOST_AREA], *v[MOST_AREA];
  clear_rest(L, w, channel[0]);
  nn_x *r = begin_line(L, w, &image, &line);
  copy_patch(L, w, image, channel[0], line);
  nn_x *row = nn_xi_add(k, nn_xi_mulc(k, channel[0], w->pitch), nn_xi_mulc(k, r, w->block_tiles));
  nn_x *tile = begin_vectors(L, w), *l = nn_lanes_begin(L, w->lanes), *column = nn_xi_add(k, tile, l);
  for (int i = 0; i < w->area; i++) {
    int64_t offset = i / w->side * patch_pitch(w) + i % w->side;
    nn_x *at = nn_xi_addc(k, nn_xi_mulc(k, column, w->f->m), offset);
    d[i] = nn_let(k, nn_x_load(k, w->patch, at, NULL));
  }
  transform(L, w->f, input_line, w->side, w->side, d, v);
  for (int i = 0; i < w->area; i++) {
    nn_x *at = nn_xi_addc(k, nn_xi_add(k, row, column), i * slab_of(w, w->channels));
    nn_store(k, w->v, at, v[i], NULL);
  }
  nn_lanes_end(L, w->lanes);
  nn_end(k);
  nn_end(k);
}

/* ---- M ---------------------------------------------------------------------------------------------------------- */

typedef struct product {
  const winograd *w;
  nn_x *position;
} product;

static nn_x *weight_at(nn_lower *L, void *data, nn_x *m, nn_x *const *ks) {
  const product *p = data;
  nn_kernel *k = L->kernel;
  nn_x *row = nn_xi_add(k, nn_xi_mulc(k, p->position, p->w->outputs), m);
  return nn_x_load(k, p->w->u, nn_xi_add(k, nn_xi_mulc(k, row, p->w->channels), ks[0]), NULL);
}

static nn_x *input_at(nn_lower *L, void *data, nn_x *const *ks, nn_x *n0, nn_x *j) {
  const product *p = data;
  nn_kernel *k = L->kernel;
  nn_x *slab = nn_xi_mulc(k, p->position, slab_of(p->w, p->w->channels));
  nn_x *at = nn_xi_add(k, nn_xi_add(k, slab, nn_xi_mulc(k, ks[0], p->w->pitch)), n0);
  return nn_x_load(k, p->w->v, nn_xi_add(k, at, j), nn_guard(L));
}

static void store_product(nn_lower *L, void *data, nn_x *m, nn_x *n, int lanes, bool is_tail, nn_buf *src, nn_x *at) {
  const product *p = data;
  nn_kernel *k = L->kernel;
  (void)is_tail; /* columns are whole vectors */
  nn_x *slab = nn_xi_mulc(k, p->position, slab_of(p->w, p->w->outputs));
  nn_x *to = nn_xi_add(k, nn_xi_add(k, slab, nn_xi_mulc(k, m, p->w->pitch)), n);
  nn_x *l = nn_lanes_begin(L, lanes);
  nn_store(k, p->w->products, nn_xi_add(k, to, l), nn_x_load(k, src, nn_xi_add(k, at, l), NULL), NULL);
  nn_lanes_end(L, lanes);
}

static void multiply(nn_lower *L, const winograd *w) {
  nn_module *m = L->module;
  product p = {.w = w};
  nn_tiles t = {.m = nn_dim_const(m, w->outputs),
                .n = nn_dim_const(m, w->pitch),
                .acc = NN_F32,
                .nk = 1,
                .kcount = {nn_dim_const(m, w->channels)},
                .a = weight_at,
                .b = input_at,
                .store = store_product,
                .store_direct = true,
                .outer = nn_dim_const(m, w->area),
                .outer_index = &p.position,
                .data = &p,
                .in_parallel = w->blocks_are_tasks};
  t.tile = nn_tile_choose(L->target, NN_F32, t.m, t.n);
  nn_tiles_emit(L, &t);
}

/* ---- Y ---------------------------------------------------------------------------------------------------------- */

typedef struct result_row {
  const winograd *w;
  nn_x *image, *channel, *y;
  nn_x *from; /* element of `results` */
} result_row;

static void write_block(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  const result_row *row = data;
  nn_kernel *k = L->kernel;
  nn_x *at = in_block(L, nn_xi_add(k, i, nn_lanes_begin(L, lanes)), row->w->out_count, is_tail);
  nn_x *index[4] = {row->image, row->channel, row->y, nn_xi_add(k, row->w->out_x, at)};
  nn_write(L, row->w->y, index, nn_let(k, nn_x_load(k, row->w->results, nn_xi_add(k, row->from, at), nn_guard(L))));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

static int64_t results_pitch(const winograd *w) { return w->f->m * w->span; }

static void transform_output(nn_lower *L, nn_x *const *channel, void *data) {
  winograd *w = data;
  nn_kernel *k = L->kernel;
  nn_x *line, *s[MOST_AREA], *y[MOST_AREA];
  result_row row = {.w = w, .channel = channel[0]};
  nn_x *r = begin_line(L, w, &row.image, &line);
  nn_x *from = nn_xi_add(k, nn_xi_mulc(k, channel[0], w->pitch), nn_xi_mulc(k, r, w->block_tiles));
  nn_x *tile = begin_vectors(L, w), *l = nn_lanes_begin(L, w->lanes), *column = nn_xi_add(k, tile, l);
  for (int i = 0; i < w->area; i++) {
    nn_x *at = nn_xi_addc(k, nn_xi_add(k, from, column), i * slab_of(w, w->outputs));
    s[i] = nn_let(k, nn_x_load(k, w->products, at, NULL));
  }
  transform(L, w->f, output_line, w->side, w->f->m, s, y);
  for (int i = 0; i < w->f->m * w->f->m; i++) {
    int64_t offset = i / w->f->m * results_pitch(w) + i % w->f->m;
    nn_store(k, w->results, nn_xi_addc(k, nn_xi_mulc(k, column, w->f->m), offset), y[i], NULL);
  }
  nn_lanes_end(L, w->lanes);
  nn_end(k);
  nn_x *i = nn_loop_range(k, NN_FOR, "i", w->f->m);
  row.y = nn_let(k, nn_xi_add(k, nn_xi_mulc(k, line, w->f->m), i));
  row.from = nn_let(k, nn_xi_mulc(k, i, results_pitch(w)));
  nn_if_begin(k, nn_x_binary(k, NN_X_LT, row.y, nn_x_int(k, w->out[0])));
  nn_block_loops(L, w->out_count, w->lanes, write_block, &row);
  nn_end(k);
  nn_end(k);
  nn_end(k);
}

/* ---- the whole ------------------------------------------------------------------------------------------------ */

static void set_sizes(nn_lower *L, nn_op *op, winograd *w) {
  const nn_dim *pads = nn_op_attr(op, "pads")->count ? nn_attr_dims(op, "pads", NULL) : NULL;
  w->f = points_of(op);
  w->x = op->in[0];
  w->y = op->out[0];
  w->side = w->f->m + 2;
  w->area = w->side * w->side;
  w->lanes = w->wide = nn_target_lanes(L->target, NN_F32);
  w->channels = nn_dim_value(w->x->type.dims[1]);
  w->outputs = nn_dim_value(w->y->type.dims[1]);
  for (int d = 0; d < 2; d++) {
    w->before[d] = pads ? nn_dim_value(pads[d]) : 0;
    w->in[d] = nn_dim_value(w->x->type.dims[2 + d]);
    w->out[d] = nn_dim_value(w->y->type.dims[2 + d]);
    w->tiles[d] = ceil_div(w->out[d], w->f->m);
  }
  w->lines = nn_dim_mul(L->module, w->y->type.dims[0], nn_dim_const(L->module, w->tiles[0]));
  while (w->lanes > 1 && w->lanes / 2 >= w->tiles[1]) w->lanes /= 2;
}

static nn_buf *slabs(nn_lower *L, const winograd *w, int64_t rows) {
  nn_module *m = L->module;
  nn_dim slab = nn_dim_add(m, nn_dim_mul(m, nn_dim_const(m, rows), nn_dim_const(m, w->pitch)), nn_dim_const(m, SLAB_GAP));
  nn_buf_space space = w->blocks_are_tasks ? NN_BUF_WORKER : NN_BUF_WORKSPACE;
  return nn_temp(L, space, NN_F32, nn_dim_mul(m, slab, nn_dim_const(m, w->area)));
}

static void make_buffers(nn_lower *L, winograd *w) {
  nn_module *m = L->module;
  w->v = slabs(L, w, w->channels);
  w->products = slabs(L, w, w->outputs);
  w->patch = nn_temp(L, NN_BUF_WORKER, NN_F32, nn_dim_const(m, w->side * patch_pitch(w)));
  w->results = nn_temp(L, NN_BUF_WORKER, NN_F32, nn_dim_const(m, w->f->m * results_pitch(w)));
}

static void emit_block(nn_lower *L, winograd *w, nn_x *line_block, nn_x *column_block) {
  nn_kernel *k = L->kernel;
  w->line0 = nn_let(k, nn_xi_mulc(k, line_block, w->block_lines));
  nn_x *left = nn_xi_sub(k, nn_dim_x(L, w->lines), w->line0);
  w->line_count = nn_let(k, nn_xi_min(k, left, nn_x_int(k, w->block_lines)));
  w->tile0 = nn_let(k, nn_xi_mulc(k, column_block, w->block_tiles));
  w->out_x = nn_let(k, nn_xi_mulc(k, w->tile0, w->f->m));
  nn_x *rest = nn_xi_sub(k, nn_x_int(k, w->out[1]), w->out_x);
  w->out_count = nn_let(k, nn_xi_min(k, rest, nn_x_int(k, w->f->m * w->block_tiles)));
  over_rows(L, w, w->channels, transform_input);
  multiply(L, w);
  over_rows(L, w, w->outputs, transform_output);
}

nn_status lower_conv_winograd(nn_lower *L, nn_op *op) {
  nn_kernel *k = L->kernel;
  winograd w = {0};
  int64_t count;
  if (nn_type_static_count(op->out[0]->type, &count) && count == 0) return NN_OK;
  set_sizes(L, op, &w);
  if (!nn_read_is_plain(L, op->in[1], &w.u)) return nn_fail(op, "internal error: weights that are no buffer");
  if (w.outputs == 0) return NN_OK;
  choose_blocks(L, &w);
  make_buffers(L, &w);
  nn_x *columns = nn_x_int(k, w.column_blocks);
  nn_x *blocks = nn_xi_mul(k, nn_ceildiv_x(L, nn_dim_x(L, w.lines), w.block_lines), columns);
  nn_x *block = nn_task_loop(L, !w.blocks_are_tasks, "block", nn_let(k, blocks));
  emit_block(L, &w, nn_let(k, nn_xi_floordiv(k, block, columns)), nn_let(k, nn_xi_mod(k, block, columns)));
  nn_end(k);
  return NN_OK;
}
