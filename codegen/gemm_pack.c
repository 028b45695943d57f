/* Operands of C[m, n] = sum over k of A(m, k) * B(k, n) made ready for the register tiles of gemm.c, and the
   choice between tiles and the forms for few rows (gemm_thin.c).

   Row-major B is read in place while it is small or serves few rows. Else it is packed: [panel][k][width], anything
   beyond N. Weights may come so (matmul_panels). A panel of row-major B is packed by the task that needs it, for all
   its rows, while it multiplies the first of them; so tasks then take many rows, and A passes by a panel that stays in
   L2. It prefetches what it packs. A transposed B is packed before a task's first tile, or, if it is small, once for all tasks. Packed A: rows of k
   elements, a few elements apart from a power of two, so that the rows of a tile do not fall into one cache set. */
#include "codegen/codegen.h"

#include <limits.h>

enum {
  THIN_ROWS = 4,
  THIN_ROWS_BESIDE_TILES = 2,
  THIN_ROWS_LARGE = 8,
  ROW_GAP = 16,
  IN_PLACE_TILES = 3,
  IN_PLACE_TILES_LARGE = 9,
  IN_PLACE_SIZES = 4, /* of L2: then, too */
  LEAST_FLAT_ROWS = 8,
  SPARE_REGISTERS = 1,
  LINE_BYTES = 64,
  WAYS = 8, /* of the caches */
  WAYS_OF_PANEL = 6,
  COPY_PANELS = 8,
  PAIRED_ROWS = 3,
  SHORT_ROW_BYTES = 4096,
  LEAST_THIN_LINES = 4,
  LEAST_ROW_LINES = 2,
  SMALL_PANELS = 8 /* of L2 */
};

typedef struct product {
  const nn_gemm *g;
  nn_tile tile;
  nn_buf *a, *b;   /* packed, or NULL */
  bool own_panel;  /* b is the task's own, one panel, */
  nn_x *own_at;    /* which begins here; NULL: 0 */
  int64_t b_width; /* of its panels: a tile's, or of several tiles: packed for wider vectors */
  nn_x *a_pitch, *k;
  nn_x *lines;     /* of a panel of b */
  nn_x *distance;  /* of what is prefetched from the element at hand, in panels */
} product;

/* A panel with one row tile is read once, and the processor fetches such a stream by itself: best if it is about to be used up,
   too little where many multiply-adds of a line fill the window of what is in flight. Measured on Zen 4. */
typedef struct stream_row {
  int adds;         /* at most, of a line */
  bool from_memory; /* only if weights come from there */
  int ahead_bytes;  /* 0: none */
} stream_row;
static const stream_row stream_rows[] = {{2, true, 4160}, {6, false, 0}, {INT_MAX, false, 8320}};

nn_x *nn_gemm_a(nn_lower *L, const nn_gemm *g, nn_x *m, nn_x *k) {
  nn_kernel *kn = L->kernel;
  if (!g->a_plain) return g->a(L, g->data, m, k);
  nn_x *at = nn_xi_add(kn, nn_xi_add(kn, g->a_base, nn_xi_mul(kn, m, g->a_stride_m)), nn_xi_mul(kn, k, g->a_stride_k));
  return nn_x_cast(kn, nn_x_load(kn, g->a_plain, at, nn_guard(L)), g->acc);
}

nn_x *nn_gemm_b(nn_lower *L, const nn_gemm *g, nn_x *k, nn_x *n) {
  nn_kernel *kn = L->kernel;
  if (!g->b_plain) return g->b(L, g->data, k, n);
  nn_x *at = nn_xi_add(kn, nn_xi_add(kn, g->b_base, nn_xi_mul(kn, k, g->b_stride_k)), nn_xi_mul(kn, n, g->b_stride_n));
  return nn_x_cast(kn, nn_x_load(kn, g->b_plain, at, nn_guard(L)), g->acc);
}

static bool is_one(const nn_x *x) {
  int64_t value;
  return nn_x_is_const(x, &value) && value == 1;
}

static bool reads_rows(const nn_gemm *g) { return g->b_plain ? is_one(g->b_stride_n) : !g->b_unit_k; }

static bool is_row_major(const nn_gemm *g) { return g->b_plain && is_one(g->b_stride_n); }

static int64_t tile_row_bytes(const nn_tile *tile, nn_dtype acc) {
  return (int64_t)tile->nv * tile->lanes * nn_dtype_bits(acc) / 8;
}

static int64_t tile_width(const product *p) { return (int64_t)p->tile.nv * p->tile.lanes; }

/* ---- packing -------------------------------------------------------------------------------------------- */

static nn_buf_space temp_space(const nn_gemm *g) { return g->in_parallel ? NN_BUF_WORKER : NN_BUF_WORKSPACE; }

/* Of b. */
static nn_x *first_column(nn_lower *L, const product *p) { return nn_x_int(L->kernel, p->g->b_panels ? 0 : p->g->first_column); }

/* Where column n0 + j of row k is kept. */
static nn_x *packed_place(nn_lower *L, const product *p, nn_x *ki, nn_x *n0, nn_x *j) {
  nn_kernel *k = L->kernel;
  nn_x *first = !p->own_panel ? nn_xi_mul(k, nn_xi_sub(k, n0, first_column(L, p)), p->k) : p->own_at ? p->own_at : nn_x_int(k, 0);
  return nn_xi_add(k, nn_xi_add(k, first, nn_xi_mulc(k, ki, tile_width(p))), j);
}

/* A vector of row k, the c-th of the panel that begins with column n0. */
static void pack_vector(nn_lower *L, const product *p, nn_x *ki, nn_x *n0, nn_x *c, bool is_tail) {
  nn_kernel *k = L->kernel;
  nn_x *l = nn_lanes_begin(L, p->tile.lanes);
  nn_x *j = nn_xi_add(k, nn_xi_mulc(k, c, p->tile.lanes), l), *n = nn_xi_add(k, n0, j);
  nn_x *to = packed_place(L, p, ki, n0, j);
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, n, nn_dim_x(L, p->g->n)));
  nn_x *value = nn_gemm_b(L, p->g, ki, n);
  if (is_tail) nn_guard_pop(L);
  nn_store(k, p->b, to, value, NULL);
  nn_lanes_end(L, p->tile.lanes);
}

/* The same within a tile. */
static nn_x *keep_packed(nn_lower *L, void *data, nn_x *ki, nn_x *n0, nn_x *j) {
  const product *p = data;
  nn_kernel *k = L->kernel;
  nn_x *value = nn_let(k, nn_gemm_b(L, p->g, ki, nn_xi_add(k, n0, j)));
  nn_store(k, p->b, nn_xi_add(k, nn_xi_mulc(k, ki, tile_width(p)), j), value, NULL);
  return value;
}

static void pack_panel_by_rows(nn_lower *L, const product *p, nn_x *n0, bool is_tail) {
  nn_kernel *k = L->kernel;
  nn_x *ki = nn_loop_begin(k, NN_FOR, "k", nn_x_int(k, 0), p->k);
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", p->tile.nv);
  pack_vector(L, p, ki, n0, c, is_tail);
  nn_end(k);
  nn_end(k);
}

/* `lanes` columns from n0 + c * lanes on, for as many k: a square that is read by columns and kept by rows. */
static void pack_square(nn_lower *L, const product *p, nn_x *first, nn_x *n0, nn_x *c, bool is_tail) {
  nn_kernel *k = L->kernel;
  int lanes = p->tile.lanes;
  nn_buf *square = nn_regs(L, p->g->acc, (int64_t)lanes * lanes);
  nn_x *i = nn_loop_range(k, NN_UNROLL, "i", lanes), *n = nn_xi_add(k, n0, nn_tile_vector(k, c, lanes, i));
  nn_x *l = nn_lanes_begin(L, lanes);
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, n, nn_dim_x(L, p->g->n)));
  nn_store(k, square, nn_tile_vector(k, i, lanes, l), nn_gemm_b(L, p->g, nn_xi_add(k, first, l), n), NULL);
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
  nn_end(k);
  nn_transpose(k, square);
  i = nn_loop_range(k, NN_UNROLL, "i", lanes);
  l = nn_lanes_begin(L, lanes);
  nn_x *to = packed_place(L, p, nn_xi_add(k, first, i), n0, nn_tile_vector(k, c, lanes, l));
  nn_store(k, p->b, to, nn_x_load(k, square, nn_tile_vector(k, i, lanes, l), NULL), NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
}

/* B's columns are contiguous. */
static void pack_panel_by_columns(nn_lower *L, const product *p, nn_x *n0, bool is_tail) {
  nn_kernel *k = L->kernel;
  nn_x *whole = nn_let(k, nn_xi_floordiv(k, p->k, nn_x_int(k, p->tile.lanes)));
  nn_x *c = nn_loop_range(k, NN_FOR, "c", p->tile.nv);
  nn_x *at = nn_loop_begin(k, NN_FOR, "square", nn_x_int(k, 0), whole);
  pack_square(L, p, nn_xi_mulc(k, at, p->tile.lanes), n0, c, is_tail);
  nn_end(k);
  nn_x *ki = nn_loop_begin(k, NN_FOR, "k", nn_xi_mulc(k, whole, p->tile.lanes), p->k);
  pack_vector(L, p, ki, n0, c, is_tail);
  nn_end(k);
  nn_end(k);
}

static void pack_panel(nn_lower *L, const product *p, nn_x *n0, bool is_tail) {
  if (reads_rows(p->g))
    pack_panel_by_rows(L, p, n0, is_tail);
  else
    pack_panel_by_columns(L, p, n0, is_tail);
}

static void pack_any_panel(nn_lower *L, void *data, nn_x *n0) {
  const product *p = data;
  nn_kernel *k = L->kernel;
  int width = p->tile.nv * p->tile.lanes;
  int64_t n;
  bool is_static = nn_dim_is_const(p->g->n, &n), rest = !is_static || n % width, whole = !is_static || n >= width;
  if (rest && whole) nn_if_begin(k, nn_x_binary(k, NN_X_LE, nn_xi_addc(k, n0, width), nn_dim_x(L, p->g->n)));
  if (whole) pack_panel(L, p, n0, false);
  if (rest && whole) nn_else(k);
  if (rest) pack_panel(L, p, n0, true);
  if (rest && whole) nn_end(k);
}

static void pack_b(nn_lower *L, product *p) {
  nn_module *m = L->module;
  const nn_gemm *g = p->g;
  nn_dim width = nn_dim_const(m, (int64_t)p->tile.nv * p->tile.lanes), columns = nn_dim_add(m, g->n, nn_dim_const(m, -g->first_column));
  nn_dim panels = nn_dim_ceildiv(m, columns, width);
  if (p->own_panel) {
    p->b = nn_temp(L, NN_BUF_WORKER, g->acc, nn_dim_mul(m, width, g->k));
    return;
  }
  p->b = nn_temp(L, temp_space(g), g->acc, nn_dim_mul(m, nn_dim_mul(m, panels, width), g->k));
  nn_x *panel = nn_task_loop(L, g->in_parallel, "panel", nn_dim_x(L, panels));
  pack_any_panel(L, p, nn_let(L->kernel, nn_xi_addc(L->kernel, nn_xi_mul(L->kernel, panel, nn_dim_x(L, width)), g->first_column)));
  nn_end(L->kernel);
}

void nn_gemm_pack_panel(nn_lower *L, const nn_gemm *g, const nn_tile *tile, nn_buf *b, nn_x *at, nn_x *n0) {
  product p = {.g = g, .tile = *tile, .b = b, .k = nn_let(L->kernel, nn_dim_x(L, g->k)), .own_panel = true, .own_at = at};
  pack_panel(L, &p, n0, false);
}

typedef struct row_copy {
  const product *p;
  nn_x *m;
} row_copy;

static void copy_row_block(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  const row_copy *row = data;
  nn_kernel *k = L->kernel;
  nn_x *ki = nn_xi_add(k, i, nn_lanes_begin(L, lanes));
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, ki, row->p->k));
  nn_x *at = nn_xi_add(k, nn_xi_mul(k, row->m, row->p->a_pitch), ki);
  nn_store(k, row->p->a, at, nn_gemm_a(L, row->p->g, row->m, ki), nn_guard(L));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

static void pack_a(nn_lower *L, product *p) {
  nn_kernel *k = L->kernel;
  nn_module *m = L->module;
  const nn_gemm *g = p->g;
  nn_dim pitch = nn_dim_add(m, g->k, nn_dim_const(m, ROW_GAP));
  p->a = nn_temp(L, temp_space(g), g->acc, nn_dim_mul(m, pitch, g->m));
  p->a_pitch = nn_dim_x(L, pitch);
  row_copy row = {p, nn_task_loop(L, g->in_parallel, "row", nn_dim_x(L, g->m))};
  nn_block_loops(L, p->k, nn_target_lanes(L->target, g->acc), copy_row_block, &row);
  nn_end(k);
}

/* ---- the tile's operands --------------------------------------------------------------------------------- */

static nn_x *tile_a(nn_lower *L, void *data, nn_x *m, nn_x *const *ks) {
  const product *p = data;
  nn_kernel *k = L->kernel;
  if (!p->a) return nn_gemm_a(L, p->g, m, ks[0]);
  return nn_x_load(k, p->a, nn_xi_add(k, nn_xi_mul(k, m, p->a_pitch), ks[0]), NULL);
}

/* Of the columns from n0 on. */
static nn_x *panel_start(nn_lower *L, const product *p, nn_x *n0) {
  nn_kernel *k = L->kernel;
  if (p->own_panel) return nn_x_int(k, 0);
  if (p->b_width == tile_width(p)) return nn_xi_mul(k, nn_xi_sub(k, n0, first_column(L, p)), p->lines);
  nn_x *within = nn_xi_mod(k, n0, nn_x_int(k, p->b_width));
  return nn_xi_add(k, nn_xi_mul(k, nn_xi_sub(k, n0, within), p->lines), within);
}

static nn_x *tile_b(nn_lower *L, void *data, nn_x *const *ks, nn_x *n0, nn_x *j) {
  const product *p = data;
  nn_kernel *k = L->kernel;
  if (!p->b) return nn_gemm_b(L, p->g, ks[0], nn_xi_add(k, n0, j));
  nn_x *row = nn_xi_add(k, panel_start(L, p, n0), nn_xi_mulc(k, ks[0], p->b_width));
  return nn_x_load(k, p->b, nn_xi_add(k, row, j), NULL);
}

static void tile_store(nn_lower *L, void *data, nn_x *m, nn_x *n, int lanes, bool is_tail, nn_buf *src, nn_x *at) {
  const product *p = data;
  nn_kernel *k = L->kernel;
  nn_x *l = nn_lanes_begin(L, lanes);
  nn_x *column = nn_xi_add(k, n, l);
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, column, nn_dim_x(L, p->g->n)));
  p->g->store(L, p->g->data, m, column, nn_let(k, nn_x_load(k, src, nn_xi_add(k, at, l), NULL)));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

/* Panels lie one behind the other. */
static void ahead_in_panels(nn_lower *L, void *data, nn_x *n0, nn_x *at) {
  const product *p = data;
  nn_kernel *k = L->kernel;
  nn_prefetch(k, p->b, nn_xi_add(k, nn_xi_add(k, nn_xi_mul(k, n0, p->lines), p->distance), at));
}

/* The same where B is read in its own order. */
static void next_panel_in_place(nn_lower *L, void *data, nn_x *n0, nn_x *at) {
  const product *p = data;
  const nn_gemm *g = p->g;
  nn_kernel *k = L->kernel;
  nn_x *width = nn_x_int(k, tile_width(p));
  nn_x *column = nn_xi_add(k, nn_xi_addc(k, n0, tile_width(p)), nn_xi_mod(k, at, width));
  nn_x *row = nn_xi_mul(k, nn_xi_floordiv(k, at, width), g->b_stride_k);
  nn_prefetch(k, g->b_plain, nn_xi_add(k, nn_xi_add(k, g->b_base, row), column));
}

/* Element n0 + j of row k, where B is read in its own order. */
static void row_in_place(nn_lower *L, void *data, nn_x *ki, nn_x *n0, nn_x *j) {
  const product *p = data;
  const nn_gemm *g = p->g;
  nn_kernel *k = L->kernel;
  nn_x *row = nn_xi_add(k, g->b_base, nn_xi_mul(k, ki, g->b_stride_k));
  nn_prefetch(k, g->b_plain, nn_xi_add(k, row, nn_xi_add(k, n0, j)));
}

static void next_rows(nn_lower *L, void *data, nn_x *m, nn_x *at) {
  const product *p = data;
  nn_kernel *k = L->kernel;
  if (p->a)
    nn_prefetch(k, p->a, nn_xi_add(k, nn_xi_mul(k, m, p->a_pitch), at));
  else
    nn_prefetch(k, p->g->a_plain, nn_xi_add(k, nn_xi_add(k, p->g->a_base, nn_xi_mul(k, m, p->g->a_stride_m)), at));
}

/* ---- the choice of a form ---------------------------------------------------------------------------------- */

static int64_t bytes_of(const nn_gemm *g, nn_dim rows, nn_dim columns) {
  return nn_dim_guess(rows, 256) * nn_dim_guess(columns, 256) * nn_dtype_bits(g->acc) / 8;
}

int64_t nn_gemm_b_bytes(const nn_gemm *g) { return bytes_of(g, g->k, g->n); }

/* B is not in L3, or will not be when it is read again. */
static bool b_is_far(const nn_lower *L, const nn_gemm *g) {
  return nn_gemm_b_bytes(g) > L->target->l3_bytes / (g->products > 1 ? g->products : 1);
}

/* How many of the lines that lie `pitch` bytes apart fall into one set of a cache. */
static int64_t lines_of_set(int64_t count, int64_t pitch, int64_t cache_bytes) {
  int64_t span = cache_bytes / WAYS, common = span;
  for (int64_t rest = pitch; rest != 0;) {
    int64_t next = common % rest;
    common = rest;
    rest = next;
  }
  int64_t places = common < 1 ? 1 : span / common;
  return (count + places - 1) / places;
}

/* The rows of a tile drive each other out of L1. */
static bool rows_collide(const nn_lower *L, const nn_gemm *g, int rows) {
  int64_t pitch;
  if (!g->a_plain || !is_one(g->a_stride_k) || !nn_x_is_const(g->a_stride_m, &pitch)) return false;
  return lines_of_set(rows, pitch * nn_dtype_bits(g->a_plain->dtype) / 8, L->target->l1_bytes) > WAYS;
}

/* A copy of A serves some panels. */
static bool copy_pays(const product *p) { return nn_dim_guess(p->g->n, 1024) >= COPY_PANELS * tile_width(p); }

static bool has_few_rows(const product *p, int64_t tiles) {
  int64_t m;
  return nn_dim_is_const(p->g->m, &m) && m <= tiles * p->tile.mr;
}

/* Half the rows and twice the vectors: A is read half as often, B twice. Good where the panel is small, or A comes from
   farther than the panel, which stays in L2. */
static void flatten_tile(const nn_lower *L, product *p) {
  const nn_gemm *g = p->g;
  nn_tile *tile = &p->tile;
  int64_t n, panel = 2 * tile_width(p) * nn_dim_guess(g->k, 128) * nn_dtype_bits(g->acc) / 8;
  if (tile->mr % 2 || tile->mr < LEAST_FLAT_ROWS || has_few_rows(p, IN_PLACE_TILES)) return;
  if (tile->mr * tile->nv + 2 * tile->nv + SPARE_REGISTERS > L->target->vector_registers) return;
  if (nn_dim_is_const(g->n, &n) && n < 2 * tile_width(p)) return;
  bool a_is_far = (!g->a_plain || is_one(g->a_stride_k)) && bytes_of(g, g->m, g->k) > L->target->l2_bytes;
  if (panel > 2 * L->target->l1_bytes && !a_is_far) return;
  if (panel > L->target->l2_bytes / 2 && (copy_pays(p) || !rows_collide(L, g, tile->mr))) return;
  tile->mr /= 2;
  tile->nv *= 2;
}

/* A small B, or for few rows, unless a panel's rows drive each other out of L2 or are of another type. */
static bool b_in_place(const nn_lower *L, const product *p) {
  const nn_gemm *g = p->g;
  int64_t pitch;
  if (!is_row_major(g)) return false;
  if (!nn_dim_is_const(g->m, NULL) || has_few_rows(p, IN_PLACE_TILES)) return true;
  if (g->b_plain->dtype != g->acc) return false; /* converts once */
  if (nn_x_is_const(g->b_stride_k, &pitch)) {
    pitch = pitch * nn_dtype_bits(g->b_plain->dtype) / 8;
    if (lines_of_set(nn_dim_guess(g->k, 128), pitch, L->target->l2_bytes) > WAYS_OF_PANEL) return false;
  }
  int64_t most = L->target->l2_bytes * (has_few_rows(p, IN_PLACE_TILES_LARGE) ? IN_PLACE_SIZES : 1);
  return nn_gemm_b_bytes(g) <= most;
}

/* All weights are read before these are read again. */
static bool weights_leave_caches(const nn_lower *L) {
  const nn_module *m = L->module;
  size_t bytes = 0;
  for (int i = 0; i < m->nconsts; i++)
    if (m->consts[i]->uses && m->consts[i]->tensor) bytes += m->consts[i]->tensor->size_bytes;
  return bytes > (size_t)L->target->l3_bytes;
}

static nn_x *ahead_of_row(nn_lower *L, const product *p, const stream_row *row) {
  bool is_none = row->from_memory && !weights_leave_caches(L);
  return nn_x_int(L->kernel, is_none ? 0 : row->ahead_bytes * 8 / nn_dtype_bits(p->g->acc));
}

/* The next panel, or if the row tile is the only one of its panel some elements ahead: into the next one at the end. */
static nn_x *distance_ahead(nn_lower *L, const product *p) {
  enum { LAST = sizeof stream_rows / sizeof *stream_rows - 1 };
  nn_kernel *k = L->kernel;
  nn_x *m = nn_dim_x(L, p->g->m), *adds = nn_xi_mulc(k, m, LINE_BYTES / L->target->vector_bytes);
  nn_x *stream = ahead_of_row(L, p, &stream_rows[LAST]), *next = nn_xi_mulc(k, p->lines, tile_width(p));
  for (int i = LAST - 1; i >= 0; i--) {
    nn_x *is_row = nn_x_binary(k, NN_X_LE, adds, nn_x_int(k, stream_rows[i].adds));
    stream = nn_x_select(k, is_row, ahead_of_row(L, p, &stream_rows[i]), stream);
  }
  return nn_let(k, nn_x_select(k, nn_x_binary(k, NN_X_LE, m, nn_x_int(k, p->tile.mr)), stream, next));
}

static void set_panels(nn_lower *L, product *p, nn_tiles *t) {
  int64_t distance;
  p->b = p->g->b_panels;
  p->b_width = p->g->panel_width;
  p->lines = nn_let(L->kernel, nn_xi_addc(L->kernel, p->k, p->g->panel_more));
  if (p->b_width != tile_width(p)) return;
  p->distance = distance_ahead(L, p);
  if (!nn_x_is_const(p->distance, &distance) || distance) t->ahead = ahead_in_panels;
}

/* A small transposed B is packed beforehand, once for all tasks. */
static void set_packed(nn_lower *L, product *p, nn_tiles *t) {
  const nn_gemm *g = p->g;
  bool by_rows = reads_rows(g), is_large = nn_gemm_b_bytes(g) > L->target->l2_bytes;
  t->pack = pack_any_panel;
  p->own_panel = g->in_parallel || by_rows || (is_large && nn_tiles_pack_pays(L, t));
  if (!p->own_panel) t->pack = NULL;
  if (by_rows) t->pack_line = keep_packed;
  if (is_row_major(g) && is_large) t->ahead_row = row_in_place;
  pack_b(L, p);
}

/* For one to three rows memory is the limit, and each prefetch counts. The processor fetches lines in pairs, and runs ahead
   in each row, into the next panel; if that is still in L2 a panel later, half the prefetches do. */
static void set_ahead_in_place(const nn_lower *L, const product *p, nn_tiles *t) {
  const nn_gemm *g = p->g;
  const nn_target *target = L->target;
  bool is_thin = p->tile.mr <= PAIRED_ROWS && has_few_rows(p, 1);
  int64_t panel = tile_row_bytes(&p->tile, g->acc) * nn_dim_guess(g->k, 256);
  if (!is_row_major(g) || nn_gemm_b_bytes(g) <= target->l2_bytes / 2) return;
  if (is_thin && panel <= target->l2_bytes / SMALL_PANELS) return;
  t->ahead = next_panel_in_place;
  if (tile_row_bytes(&p->tile, g->acc) >= LEAST_ROW_LINES * LINE_BYTES) t->ahead_row = row_in_place;
  if (is_thin && panel < target->l2_bytes && !b_is_far(L, g)) t->ahead_step = 2;
}

static void emit_tiled(nn_lower *L, const nn_gemm *g) {
  product p = {
      .g = g, .tile = nn_tile_choose(L->target, g->acc, g->m, g->n), .k = nn_let(L->kernel, nn_dim_x(L, g->k))};
  if (!g->b_panels && !g->first_column) flatten_tile(L, &p);
  if (g->first_column) p.tile.nv = (int)(g->panel_width / p.tile.lanes);
  nn_tiles t = {.tile = p.tile,
                .m = g->m,
                .n = g->n,
                .acc = g->acc,
                .nk = 1,
                .kcount = {g->k},
                .a = tile_a,
                .b = tile_b,
                .store = tile_store,
                .store_direct = g->store_direct,
                .first_panel = g->first_column / tile_width(&p),
                .data = &p,
                .in_parallel = g->in_parallel};
  p.lines = p.k;
  t.tile.mr = p.tile.mr = (int)nn_schedule(L->module, L->op, NN_KNOB_TILE_ROWS, p.tile.mr, 1, p.tile.mr);
  if (!g->a_plain || (rows_collide(L, g, p.tile.mr) && copy_pays(&p))) pack_a(L, &p);
  p.b_width = tile_width(&p);
  if (g->b_panels && g->panel_width % p.b_width == 0)
    set_panels(L, &p, &t);
  else if (!b_in_place(L, &p))
    set_packed(L, &p, &t);
  if (!p.b) set_ahead_in_place(L, &p, &t);
  if ((p.a || is_one(g->a_stride_k)) && bytes_of(g, g->m, g->k) > 2 * L->target->l2_bytes) t.ahead_a = next_rows;
  t.b_padded = p.b != NULL;
  nn_tiles_emit(L, &t);
}

/* ---- forms ------------------------------------------------------------------------------------------------- */

/* C^T = B^T A^T, for products with few columns. */
static nn_x *swapped_a(nn_lower *L, void *data, nn_x *m, nn_x *k) {
  const nn_gemm *g = data;
  return g->b(L, g->data, k, m);
}

static nn_x *swapped_b(nn_lower *L, void *data, nn_x *k, nn_x *n) {
  const nn_gemm *g = data;
  return g->a(L, g->data, n, k);
}

static void swapped_store(nn_lower *L, void *data, nn_x *m, nn_x *n, nn_x *value) {
  const nn_gemm *g = data;
  g->store(L, g->data, n, m, value);
}

static nn_gemm swap_operands(const nn_gemm *g) {
  nn_gemm s = *g;
  s.m = g->n;
  s.n = g->m;
  s.a = swapped_a;
  s.b = swapped_b;
  s.store = swapped_store;
  s.a_plain = g->b_plain;
  s.a_base = g->b_base;
  s.a_stride_m = g->b_stride_n;
  s.a_stride_k = g->b_stride_k;
  s.b_plain = g->a_plain;
  s.b_base = g->a_base;
  s.b_stride_n = g->a_stride_m;
  s.b_stride_k = g->a_stride_k;
  s.a_unit_k = g->b_unit_k;
  s.b_unit_k = g->a_unit_k;
  s.data = (void *)(uintptr_t)g;
  return s;
}

static bool reads_along_k(const nn_gemm *g) {
  return g->b_plain ? is_one(g->b_stride_k) && !is_one(g->b_stride_n) : g->b_unit_k;
}

/* Few rows: each element of B is used a few times only, so it should be read once, in its own order. Tiles that need no
   copy of it read it as well if their rows are some lines, and add faster; but from memory axpy is better for a single
   row, and for two where it reads B nearly from one end to the other. */
static bool is_thin(const nn_lower *L, const nn_gemm *g) {
  int64_t m, bytes = nn_gemm_b_bytes(g);
  if (g->b_panels || !nn_dim_is_const(g->m, &m)) return false;
  if (!is_row_major(g)) return m <= THIN_ROWS || (m <= THIN_ROWS_LARGE && bytes > L->target->l2_bytes);
  nn_tile tile = nn_tile_choose(L->target, g->acc, g->m, g->n);
  bool is_far = b_is_far(L, g), is_few = m <= THIN_ROWS_BESIDE_TILES;
  int64_t least = (is_few ? LEAST_THIN_LINES : LEAST_ROW_LINES) * LINE_BYTES;
  bool is_short = bytes_of(g, nn_dim_const(L->module, 1), g->n) <= SHORT_ROW_BYTES;
  if (tile_row_bytes(&tile, g->acc) >= least) return is_far && m <= (is_short ? 2 : 1);
  return is_few || (m <= THIN_ROWS_LARGE && is_far);
}

static void emit_plain(nn_lower *L, const nn_gemm *g) {
  if (!is_thin(L, g))
    emit_tiled(L, g);
  else if (reads_along_k(g))
    nn_gemm_dot(L, g);
  else
    nn_gemm_axpy(L, g);
}

static void emit_strassen(nn_lower *L, const nn_gemm *g) {
  nn_gemm rest = *g;
  rest.panel_width = nn_gemm_strassen_width(L, g);
  rest.first_column = nn_gemm_strassen_columns(&rest);
  nn_gemm_strassen(L, g);
  if (rest.first_column < nn_dim_value(g->n)) emit_tiled(L, &rest);
}

static void emit_form(nn_lower *L, const nn_gemm *g) {
  nn_kernel *k = L->kernel;
  int64_t fewest, most;
  nn_dim_range(g->m, &fewest, &most);
  if (!g->strassen || most < g->strassen || !nn_gemm_strassen_fits(L, g)) {
    emit_plain(L, g);
    return;
  }
  bool is_certain = fewest >= g->strassen;
  if (!is_certain) nn_if_begin(k, nn_x_binary(k, NN_X_LE, nn_x_int(k, g->strassen), nn_dim_x(L, g->m)));
  emit_strassen(L, g);
  if (is_certain) return;
  nn_else(k);
  emit_plain(L, g);
  nn_end(k);
}

void nn_gemm_emit(nn_lower *L, const nn_gemm *g) {
  int64_t m, n;
  if (nn_dim_is(g->m, 0) || nn_dim_is(g->n, 0)) return;
  bool swap = !g->b_panels && nn_dim_is_const(g->n, &n) && n <= THIN_ROWS && (!nn_dim_is_const(g->m, &m) || m > n);
  nn_gemm swapped = swap_operands(g);
  emit_form(L, swap ? &swapped : g);
}
