/* Operands of C[m, n] = sum over k of A(m, k) * B(k, n) made ready for the register tiles of gemm.c, and the
   choice between tiles and the forms for few rows (gemm_thin.c).

   Packed B: [panel][k][width], anything beyond N. Weights may come so (matmul_panels); else, if a panel serves one
   task, the task packs it for itself, so that it never leaves the worker's cache, else all are packed beforehand, row
   by row. Packed A: rows of k elements, a few elements apart from a power of two, so that the rows of a tile do not
   fall into one cache set. */
#include "codegen/codegen.h"

enum {
  THIN_ROWS = 4,
  THIN_ROWS_LARGE = 8,
  ROW_GAP = 16,
  IN_PLACE_TILES = 3,
  LINE_BYTES = 64,
  L1_WAYS = 8,
  COPY_PANELS = 8,
  STREAM_AHEAD = 2080,
  PACKED_AT_ONCE = 32
};

typedef struct product {
  const nn_gemm *g;
  nn_tile tile;
  nn_buf *a, *b;   /* packed, or NULL */
  bool own_panel;  /* b is the task's own, one panel */
  int64_t b_width; /* of its panels: a tile's, or of several tiles: packed for wider vectors */
  nn_x *a_pitch, *k;
} product;

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

static int64_t tile_width(const product *p) { return (int64_t)p->tile.nv * p->tile.lanes; }

/* ---- packing -------------------------------------------------------------------------------------------- */

static nn_buf_space temp_space(const nn_gemm *g) { return g->in_parallel ? NN_BUF_WORKER : NN_BUF_WORKSPACE; }

/* Row k of the panel that begins with column n0. */
static void pack_line(nn_lower *L, const product *p, nn_x *ki, nn_x *n0, bool is_tail) {
  nn_kernel *k = L->kernel;
  int width = p->tile.nv * p->tile.lanes;
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", p->tile.nv);
  nn_x *l = nn_lanes_begin(L, p->tile.lanes);
  nn_x *j = nn_xi_add(k, nn_xi_mulc(k, c, p->tile.lanes), l), *n = nn_xi_add(k, n0, j);
  nn_x *first = p->own_panel ? nn_x_int(k, 0) : nn_xi_mul(k, n0, p->k);
  nn_x *to = nn_xi_add(k, nn_xi_add(k, first, nn_xi_mulc(k, ki, width)), j);
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, n, nn_dim_x(L, p->g->n)));
  nn_x *value = nn_gemm_b(L, p->g, ki, n);
  if (is_tail) nn_guard_pop(L);
  nn_store(k, p->b, to, value, NULL);
  nn_lanes_end(L, p->tile.lanes);
  nn_end(k);
}

static void pack_panel(nn_lower *L, const product *p, nn_x *n0, bool is_tail) {
  nn_kernel *k = L->kernel;
  nn_x *ki = nn_loop_begin(k, NN_FOR, "k", nn_x_int(k, 0), p->k);
  pack_line(L, p, ki, n0, is_tail);
  nn_end(k);
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

/* All panels, some rows in a task: rows of B are read as they lie in memory. */
static void pack_by_rows(nn_lower *L, const product *p) {
  nn_kernel *k = L->kernel;
  int width = p->tile.nv * p->tile.lanes;
  nn_x *n = nn_dim_x(L, p->g->n), *whole = nn_let(k, nn_xi_floordiv(k, n, nn_x_int(k, width)));
  nn_x *block = nn_task_loop(L, p->g->in_parallel, "rows", nn_ceildiv_x(L, p->k, PACKED_AT_ONCE));
  nn_x *first = nn_let(k, nn_xi_mulc(k, block, PACKED_AT_ONCE));
  nn_x *ki = nn_loop_begin(k, NN_FOR, "k", first, nn_let(k, nn_xi_min(k, nn_xi_addc(k, first, PACKED_AT_ONCE), p->k)));
  nn_x *panel = nn_loop_begin(k, NN_FOR, "panel", nn_x_int(k, 0), whole);
  pack_line(L, p, ki, nn_let(k, nn_xi_mulc(k, panel, width)), false);
  nn_end(k);
  nn_x *rest = nn_let(k, nn_xi_mulc(k, whole, width));
  nn_if_begin(k, nn_x_binary(k, NN_X_LT, rest, n));
  pack_line(L, p, ki, rest, true);
  nn_end(k);
  nn_end(k);
  nn_end(k);
}

static bool reads_rows(const nn_gemm *g) { return g->b_plain ? is_one(g->b_stride_n) : !g->b_unit_k; }

static void pack_b(nn_lower *L, product *p) {
  nn_module *m = L->module;
  const nn_gemm *g = p->g;
  nn_dim width = nn_dim_const(m, (int64_t)p->tile.nv * p->tile.lanes), panels = nn_dim_ceildiv(m, g->n, width);
  if (p->own_panel) {
    p->b = nn_temp(L, NN_BUF_WORKER, g->acc, nn_dim_mul(m, width, g->k));
    return;
  }
  p->b = nn_temp(L, temp_space(g), g->acc, nn_dim_mul(m, nn_dim_mul(m, panels, width), g->k));
  if (reads_rows(g)) {
    pack_by_rows(L, p);
    return;
  }
  nn_x *panel = nn_task_loop(L, g->in_parallel, "panel", nn_dim_x(L, panels));
  pack_any_panel(L, p, nn_let(L->kernel, nn_xi_mul(L->kernel, panel, nn_dim_x(L, width))));
  nn_end(L->kernel);
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
  if (p->b_width == tile_width(p)) return nn_xi_mul(k, n0, p->k);
  nn_x *within = nn_xi_mod(k, n0, nn_x_int(k, p->b_width));
  return nn_xi_add(k, nn_xi_mul(k, nn_xi_sub(k, n0, within), p->k), within);
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
static void next_panel(nn_lower *L, void *data, nn_x *n0, nn_x *at) {
  const product *p = data;
  nn_kernel *k = L->kernel;
  nn_x *next = nn_xi_mul(k, nn_xi_addc(k, n0, (int64_t)p->tile.nv * p->tile.lanes), p->k);
  nn_prefetch(k, p->b, nn_xi_add(k, next, at));
}

/* The only row tile of its panel reads each element once: some lines ahead of it, into the next panel at the end. */
static void same_panel(nn_lower *L, void *data, nn_x *n0, nn_x *at) {
  const product *p = data;
  nn_kernel *k = L->kernel;
  nn_prefetch(k, p->b, nn_xi_addc(k, nn_xi_add(k, nn_xi_mul(k, n0, p->k), at), STREAM_AHEAD));
}

static bool b_in_place(const product *p) {
  const nn_gemm *g = p->g;
  int64_t m;
  if (!g->b_plain || !is_one(g->b_stride_n)) return false;
  return !nn_dim_is_const(g->m, &m) || m <= (int64_t)IN_PLACE_TILES * p->tile.mr;
}

/* The rows of a tile fall into so few cache sets that they drive each other out of L1, and the product is large
   enough to pay for a copy. */
static bool rows_collide(const nn_lower *L, const product *p) {
  const nn_gemm *g = p->g;
  int64_t pitch, sets = L->target->l1_bytes / (LINE_BYTES * L1_WAYS), count = 1;
  if (!is_one(g->a_stride_k) || !nn_x_is_const(g->a_stride_m, &pitch) || sets < 1) return false;
  if (nn_dim_guess(g->n, 1024) < (int64_t)COPY_PANELS * p->tile.nv * p->tile.lanes) return false;
  pitch = pitch * nn_dtype_bits(g->a_plain->dtype) / 8;
  if (pitch < sets * LINE_BYTES / L1_WAYS) return false;
  for (int r = 1; r < p->tile.mr; r++) count += r * pitch / LINE_BYTES % sets == 0;
  return count >= L1_WAYS / 2;
}

static void emit_tiled(nn_lower *L, const nn_gemm *g) {
  product p = {
      .g = g, .tile = nn_tile_choose(L->target, g->acc, g->m, g->n), .k = nn_let(L->kernel, nn_dim_x(L, g->k))};
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
                .data = &p,
                .in_parallel = g->in_parallel};
  int64_t rows;
  if (!g->a_plain || rows_collide(L, &p)) pack_a(L, &p);
  p.b_width = tile_width(&p);
  if (g->b_panels && g->panel_width % p.b_width == 0) {
    p.b = g->b_panels;
    p.b_width = g->panel_width;
    if (p.b_width == tile_width(&p))
      t.ahead = nn_dim_is_const(g->m, &rows) && rows <= p.tile.mr ? same_panel : next_panel;
  } else if (!b_in_place(&p)) {
    p.own_panel = g->in_parallel || (reads_rows(g) ? nn_tiles_row_blocks(L, &t) == 1 : nn_tiles_pack_pays(L, &t));
    if (p.own_panel) t.pack = pack_any_panel;
    pack_b(L, &p);
  }
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

/* Few rows: each element of B is used a few times only, so it should be read once, in its own order. */
static bool is_thin(const nn_lower *L, const nn_gemm *g) {
  int64_t m, bytes = nn_dim_guess(g->k, 256) * nn_dim_guess(g->n, 256) / 8 * nn_dtype_bits(g->acc);
  if (!nn_dim_is_const(g->m, &m)) return false;
  if (g->b_panels) return false;
  return m <= THIN_ROWS || (m <= THIN_ROWS_LARGE && bytes > L->target->l2_bytes);
}

static bool reads_along_k(const nn_gemm *g) {
  return g->b_plain ? is_one(g->b_stride_k) && !is_one(g->b_stride_n) : g->b_unit_k;
}

static void emit_form(nn_lower *L, const nn_gemm *g) {
  if (g->strassen && nn_gemm_strassen_fits(L, g))
    nn_gemm_strassen(L, g);
  else if (!is_thin(L, g))
    emit_tiled(L, g);
  else if (reads_along_k(g))
    nn_gemm_dot(L, g);
  else
    nn_gemm_axpy(L, g);
}

void nn_gemm_emit(nn_lower *L, const nn_gemm *g) {
  int64_t m, n;
  if (nn_dim_is(g->m, 0) || nn_dim_is(g->n, 0)) return;
  bool swap = !g->b_panels && nn_dim_is_const(g->n, &n) && n <= THIN_ROWS && (!nn_dim_is_const(g->m, &m) || m > n);
  nn_gemm swapped = swap_operands(g);
  emit_form(L, swap ? &swapped : g);
}
