/* Matrix products over register tiles.

   A tile is mr rows by nv vectors of columns, held in registers while k runs: for each k it loads nv
   vectors of B and broadcasts mr elements of A, so 2 loads feed several multiply-adds and the vector units,
   not memory, are the limit. Columns come in panels of one tile's width; rows are cut evenly (16 = 6+5+5),
   which needs at most two row counts where M is known; else the last tile asks for each row whether it is there.

   B is read in place, or from panels that lie in the order of use; a panel may be packed while its first row tile
   runs, which has loads and stores to spare. A is read in place if it is a plain buffer, else its rows are copied.
   There is no blocking over k: a panel that leaves L1 streams from L2, which feeds a tile this wide. What comes from
   farther is prefetched: the next panel by all row tiles of this one, each its part, and the next tile's rows of A. A
   row tile that packs or is the panel's only one prefetches its own panel: in a matrix it lies in too few sets of L2 to
   wait there.

   Tasks depend on shapes and target alone, and each element is summed in the order of k: the same bits for
   any number of threads. */
#include "codegen/codegen.h"

enum {
  TASK_FLOPS = 1 << 21,
  TASK_LEAST_FLOPS = 1 << 17,
  TASKS_WANTED = 16,
  MANY_PANELS = 16,
  FEW_VECTORS = 4,
  LEAST_SUMS = 10,
  REUSING_PANELS = 16,
  PACKED_ROWS = 512,
  PACKING_TILES = 24,
  ROUND_STEPS = 4,
  AHEAD_LINES = 4,       /* of what later steps need, in a round */
  PACK_AHEAD_ADDS = 768, /* multiply-adds, which take longer than memory needs */
  ALONE_AHEAD_BYTES = 8192,
  SPARE_REGISTERS = 3,
  LINE_BYTES = 64
};

typedef struct tile_row {
  int registers;
  bool fma;
  int mr, nv;
} tile_row;

/* By vector registers: accumulators, nv for B, and one or two to spare. */
static const tile_row tile_rows[] = {
    {32, true, 12, 2}, {32, false, 8, 2}, {16, true, 6, 2}, {16, false, 4, 2}, {8, false, 2, 2}, {0, false, 2, 1},
};

static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

/* At most nv, but more than half of it: the most vectors that cut the width evenly, if any do. Not fewer than a few where a
   rest is little: B's rows in place are then many pages for few lines of each. */
static int without_rest(int nv, int64_t width, int lanes) {
  if (nv < FEW_VECTORS && width >= (int64_t)MANY_PANELS * nv * lanes) return nv;
  for (int n = nv; 2 * n > nv; n--)
    if (width % ((int64_t)n * lanes) == 0) return n;
  return nv;
}

nn_tile nn_tile_choose(const nn_target *t, nn_dtype acc, nn_dim m, nn_dim n) {
  const tile_row *row = tile_rows;
  while (t->vector_registers < row->registers || (row->fma && !t->has_fma)) row++;
  nn_tile tile = {nn_target_lanes(t, acc), row->nv, row->mr};
  int64_t width;
  bool known_n = nn_dim_is_const(n, &width);
  int64_t rows;
  if (nn_dim_is_const(m, &rows) && rows > 0 && rows < tile.mr) {
    int wide = (t->vector_registers - SPARE_REGISTERS) / ((int)rows + 1); /* sums, and as many of B */
    tile.nv = wide > 8 ? 8 : wide > tile.nv ? wide : tile.nv;
    if (known_n) tile.nv = without_rest(tile.nv, width, tile.lanes);
    tile.mr = (int)rows;
  }
  if (!known_n || width <= 0) return tile;
  while (tile.lanes > 1 && tile.lanes / 2 >= width) tile.lanes /= 2;
  if (tile.nv > ceil_div(width, tile.lanes)) tile.nv = (int)ceil_div(width, tile.lanes);
  return tile;
}

/* ---- one tile ---------------------------------------------------------------------------------------- */

typedef struct run {
  nn_lower *L;
  const nn_tiles *t;
  nn_x *m, *n;
  int64_t static_m, static_n;  /* -1: symbolic */
  int64_t ntiles, rows, extra; /* static m: the first `extra` of ntiles row tiles have rows + 1 rows */
  nn_x *ntiles_x;
  nn_x *part, *lines; /* of the next panel's lines that a row tile prefetches: all, in a round */
  nn_buf *stage;      /* finished sums, unless stores are direct */
} run;

typedef struct variant {
  int rows, nv, lanes;
  bool is_tail;   /* columns beyond N are masked */
  bool is_any;    /* the panel may be a tail or not: B is padded, and stores look */
  nn_x *rows_now; /* of a tile with fewer rows, known while running; or NULL */
  bool packs;     /* the panel is whole, and packed on the way */
  nn_x *m0, *n0;  /* of the row tile and of the panel */
  nn_x *tile;     /* number of the row tile */
  nn_x *j0;       /* first column in the panel */
} variant;

/* One step of k. */
typedef struct k_step {
  const run *r;
  const variant *v;
  nn_x *const *ks;
} k_step;

static nn_x *step_b(nn_lower *L, const void *data, nn_x *column) {
  const k_step *s = data;
  const run *r = s->r;
  const variant *v = s->v;
  nn_kernel *k = L->kernel;
  nn_x *j = nn_xi_add(k, v->j0, column);
  bool masked = v->is_tail && !r->t->b_padded;
  if (masked) nn_guard_push(L, nn_x_binary(k, NN_X_LT, nn_xi_add(k, v->n0, j), r->n));
  nn_x *value = v->packs ? r->t->pack_line(L, r->t->data, s->ks[0], v->n0, j) : r->t->b(L, r->t->data, s->ks, v->n0, j);
  if (masked) nn_guard_pop(L);
  return value;
}

static nn_x *step_a(nn_lower *L, const void *data, nn_x *i) {
  const k_step *s = data;
  nn_kernel *k = L->kernel;
  return s->r->t->a(L, s->r->t->data, nn_xi_add(k, s->v->m0, i), s->ks);
}

static void accumulate(const run *r, const variant *v, nn_x *const *ks, nn_buf *acc, nn_buf *b) {
  k_step s = {r, v, ks};
  nn_tile_step tile = {
      .rows = v->rows, .rows_now = v->rows_now, .nv = v->nv, .lanes = v->lanes, .a = step_a, .b = step_b, .data = &s};
  nn_tile_add(r->L, &tile, b, acc);
}

/* The row tiles of a panel together ask for the next panel: each for its part, some lines in each round. */
static void share_lines(run *r) {
  nn_kernel *k = r->L->kernel;
  const nn_tiles *t = r->t;
  int64_t width = (int64_t)t->tile.nv * t->tile.lanes, line = LINE_BYTES * 8 / nn_dtype_bits(t->acc);
  nn_x *ntiles = nn_xi_max(k, r->ntiles_x, nn_x_int(k, 1)),
       *all = nn_ceildiv_x(r->L, nn_xi_mulc(k, nn_dim_x(r->L, t->kcount[0]), width), line);
  r->part = nn_let(k, nn_xi_floordiv(k, nn_xi_addc(k, nn_xi_add(k, all, ntiles), -1), ntiles));
  nn_x *before_last = nn_x_int(k, ceil_div(ROUND_STEPS * width, line) - 1);
  r->lines = nn_let(k, nn_xi_addc(k, nn_xi_floordiv(k, before_last, ntiles), 1));
}

static void look_ahead(const run *r, const variant *v, nn_x *round, nn_x *lines) {
  nn_kernel *k = r->L->kernel;
  int64_t line = LINE_BYTES * 8 / nn_dtype_bits(r->t->acc);
  nn_x *first = nn_xi_add(k, nn_xi_mul(k, v->tile, r->part), nn_xi_mul(k, round, lines));
  nn_x *i = nn_loop_begin(k, nn_x_is_const(lines, NULL) ? NN_UNROLL : NN_FOR, "line", nn_x_int(k, 0), lines);
  r->t->ahead(r->L, r->t->data, v->n0, nn_xi_mulc(k, nn_xi_add(k, first, i), line));
  nn_end(k);
}

/* Rows of A lie one behind the other: asks for the next tile's, some lines in each round. */
static void look_ahead_rows(const run *r, const variant *v, nn_x *round) {
  nn_kernel *k = r->L->kernel;
  int64_t line = LINE_BYTES * 8 / nn_dtype_bits(r->t->acc), lines = ceil_div((int64_t)ROUND_STEPS * v->rows, line);
  nn_x *first = nn_xi_mulc(k, round, lines);
  nn_x *next = nn_xi_addc(k, v->m0, v->rows);
  for (int64_t i = 0; i < lines; i++)
    r->t->ahead_a(r->L, r->t->data, next, nn_xi_mulc(k, nn_xi_addc(k, first, i), line));
}

/* Step k of a row tile that reads B's rows for the first time: a later step's; in the last steps, those of the first ones
   in the next panel. */
static void look_ahead_of_row(const run *r, const variant *v, nn_x *ki, int64_t distance, int step) {
  nn_kernel *k = r->L->kernel;
  const nn_tiles *t = r->t;
  int64_t line = LINE_BYTES * 8 / nn_dtype_bits(t->acc), width = (int64_t)v->nv * v->lanes;
  nn_x *later = nn_xi_addc(k, ki, distance), *depth = nn_dim_x(r->L, t->kcount[0]);
  nn_x *is_here = nn_let(k, nn_x_binary(k, NN_X_LT, later, depth));
  nn_x *row = nn_let(k, nn_x_select(k, is_here, later, nn_xi_sub(k, later, depth)));
  nn_x *n0 = nn_let(k, nn_x_select(k, is_here, v->n0, nn_xi_addc(k, v->n0, width)));
  for (int64_t j = 0; j < width; j += line * step) t->ahead_row(r->L, t->data, row, n0, nn_x_int(k, j));
}

/* In step k of a panel's only row tile: many lines, one k's at a time. */
static void look_ahead_alone(const run *r, const variant *v, nn_x *ki) {
  const nn_tile *tile = &r->t->tile;
  int64_t bytes = (int64_t)tile->nv * tile->lanes * nn_dtype_bits(r->t->acc) / 8;
  if (r->t->ahead_row)
    look_ahead_of_row(r, v, ki, ceil_div(ALONE_AHEAD_BYTES, bytes), r->t->ahead_step ? r->t->ahead_step : 1);
  else
    look_ahead(r, v, ki, nn_x_int(r->L->kernel, ceil_div(bytes, LINE_BYTES)));
}

static void look_ahead_in_rounds(const run *r, const variant *v, nn_x *ki) {
  nn_kernel *k = r->L->kernel;
  nn_x *steps = nn_x_int(k, ROUND_STEPS), *round = nn_xi_floordiv(k, ki, steps);
  nn_if_begin(k, nn_x_binary(k, NN_X_EQ, nn_xi_mod(k, ki, steps), nn_x_int(k, 0)));
  if (r->t->ahead) look_ahead(r, v, round, r->lines);
  nn_tile_ahead(r->L, AHEAD_LINES);
  if (r->t->ahead_a) look_ahead_rows(r, v, round);
  nn_end(k);
}

/* What is to be prefetched in step k of the only k loop. */
static void prefetch_ahead(const run *r, const variant *v, nn_x *ki) {
  nn_kernel *k = r->L->kernel;
  const nn_tiles *t = r->t;
  bool may_be_alone = t->ahead && r->static_m < 0 && v->rows_now;
  if (v->packs && t->ahead_row) look_ahead_of_row(r, v, ki, ceil_div(PACK_AHEAD_ADDS, (int64_t)v->rows * v->nv), 1);
  if (!t->ahead && !t->ahead_a) return;
  if (t->ahead && r->static_m >= 0 && r->ntiles == 1) {
    look_ahead_alone(r, v, ki);
    return;
  }
  if (may_be_alone) {
    nn_if_begin(k, nn_x_binary(k, NN_X_LE, r->ntiles_x, nn_x_int(k, 1)));
    look_ahead_alone(r, v, ki);
    nn_else(k);
  }
  look_ahead_in_rounds(r, v, ki);
  if (may_be_alone) nn_end(k);
}

static void k_loops(const run *r, const variant *v, nn_buf *acc, nn_buf *b) {
  nn_kernel *k = r->L->kernel;
  const nn_tiles *t = r->t;
  nn_x *ks[NN_TILE_LOOPS];
  for (int i = 0; i < t->nk; i++) {
    if (t->kunroll[i]) {
      ks[i] = nn_loop_range(k, NN_UNROLL, "k", nn_dim_value(t->kcount[i]));
      continue;
    }
    ks[i] = nn_loop_begin(k, NN_FOR, "k", nn_x_int(k, 0), i == 0 && t->k_now ? t->k_now : nn_dim_x(r->L, t->kcount[i]));
    if (i == t->nk - 1 && !v->rows_now) nn_loop_unroll_by(k, nn_tile_unroll(v->rows * v->nv));
  }
  if (t->nk == 1) prefetch_ahead(r, v, ks[0]);
  accumulate(r, v, ks, acc, b);
  for (int i = 0; i < t->nk; i++) nn_end(k);
}

static nn_x *first_column(const run *r, const variant *v, nn_x *c) {
  nn_kernel *k = r->L->kernel;
  return nn_xi_add(k, nn_xi_add(k, v->n0, v->j0), nn_xi_mulc(k, c, v->lanes));
}

static void store_registers(const run *r, const variant *v, nn_buf *acc, nn_x *rows) {
  nn_kernel *k = r->L->kernel;
  (void)rows;
  nn_x *i = nn_loop_range(k, NN_UNROLL, "r", v->rows);
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", v->nv);
  nn_x *n = first_column(r, v, c);
  nn_x *at = nn_xi_mulc(k, nn_xi_add(k, nn_xi_mulc(k, i, v->nv), c), v->lanes);
  r->t->store(r->L, r->t->data, nn_xi_add(k, v->m0, i), n, v->lanes, v->is_tail, acc, at);
  nn_end(k);
  nn_end(k);
}

typedef void store_fn(const run *r, const variant *v, nn_buf *acc, nn_x *rows);

/* Stores a tile: where it may reach beyond N, with masks only if it does. */
static void store_tile(const run *r, variant v, nn_buf *acc, nn_x *rows, store_fn *store) {
  nn_kernel *k = r->L->kernel;
  if (v.is_any && !r->t->store_checks && !r->t->store_row) {
    nn_x *end = nn_xi_addc(k, nn_xi_add(k, v.n0, v.j0), (int64_t)v.nv * v.lanes);
    nn_if_begin(k, nn_x_binary(k, NN_X_LE, end, r->n));
    store(r, &v, acc, rows);
    nn_else(k);
    v.is_tail = true;
    store(r, &v, acc, rows);
    nn_end(k);
  } else {
    store(r, &v, acc, rows);
  }
}

static void emit_tile(const run *r, variant v, int rows) {
  nn_lower *L = r->L;
  v.rows = rows;
  nn_buf *acc = nn_tile_clear(L, r->t->acc, rows * v.nv, v.lanes);
  nn_buf *b = nn_regs(L, r->t->acc, (int64_t)v.nv * v.lanes);
  k_loops(r, &v, acc, b);
  if (r->stage)
    nn_tile_move(L, &(nn_tile_step){.rows = rows, .rows_now = v.rows_now, .nv = v.nv, .lanes = v.lanes}, acc, r->stage);
  else
    store_tile(r, v, acc, NULL, store_registers);
}

/* ---- row tiles ---------------------------------------------------------------------------------------- */

/* Rows of the stage, one loop for all row counts: the epilogue's code exists once. */
static void store_rows(const run *r, const variant *v, nn_buf *stage, nn_x *rows) {
  nn_kernel *k = r->L->kernel;
  nn_x *i = nn_loop_begin(k, NN_FOR, "r", nn_x_int(k, 0), rows);
  if (r->t->store_row) {
    r->t->store_row(r->L, r->t->data, nn_xi_add(k, v->m0, i), v->n0, stage,
                    nn_xi_mulc(k, i, (int64_t)v->nv * v->lanes));
    nn_end(k);
    return;
  }
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", v->nv);
  nn_x *n = first_column(r, v, c);
  nn_x *at = nn_xi_mulc(k, nn_xi_add(k, nn_xi_mulc(k, i, v->nv), c), v->lanes);
  r->t->store(r->L, r->t->data, nn_xi_add(k, v->m0, i), n, v->lanes, v->is_tail, stage, at);
  nn_end(k);
  nn_end(k);
}

static void rows_static(const run *r, variant v, nn_x *tile) {
  nn_kernel *k = r->L->kernel;
  nn_x *extra = nn_x_int(k, r->extra);
  v.m0 = nn_let(k, nn_xi_add(k, nn_xi_mulc(k, tile, r->rows), nn_xi_min(k, tile, extra)));
  nn_x *rows = nn_x_int(k, r->rows);
  if (r->extra) {
    nn_x *more = nn_let(k, nn_x_binary(k, NN_X_LT, tile, extra));
    rows = nn_x_select(k, more, nn_x_int(k, r->rows + 1), rows);
    nn_if_begin(k, more);
    emit_tile(r, v, (int)r->rows + 1);
    nn_else(k);
  }
  emit_tile(r, v, (int)r->rows);
  if (r->extra) nn_end(k);
  if (r->stage) store_tile(r, v, r->stage, nn_let(k, rows), store_rows);
}

static void rows_symbolic(const run *r, variant v, nn_x *tile) {
  nn_kernel *k = r->L->kernel;
  int mr = r->t->tile.mr;
  v.m0 = nn_let(k, nn_xi_mulc(k, tile, mr));
  nn_x *left = nn_let(k, nn_xi_sub(k, r->m, v.m0));
  if (mr > 1) nn_if_begin(k, nn_x_binary(k, NN_X_LE, nn_x_int(k, mr), left));
  emit_tile(r, v, mr);
  if (mr > 1) {
    nn_else(k);
    v.rows_now = left;
    emit_tile(r, v, mr - 1);
    nn_end(k);
  }
  if (r->stage) store_tile(r, v, r->stage, nn_let(k, nn_xi_min(k, left, nn_x_int(k, mr))), store_rows);
}

static void emit_rows(const run *r, variant v, nn_x *tile) {
  v.tile = tile;
  if (r->static_m >= 0)
    rows_static(r, v, tile);
  else
    rows_symbolic(r, v, tile);
}

/* ---- panels --------------------------------------------------------------------------------------------- */

static void emit_columns(const run *r, variant v, nn_x *tile) {
  nn_kernel *k = r->L->kernel;
  nn_x *left = nn_let(k, nn_xi_sub(k, r->n, v.n0));
  v.nv = v.lanes = 1;
  v.j0 = nn_loop_begin(k, NN_FOR, "j", v.j0, left);
  emit_rows(r, v, tile);
  nn_end(k);
}

static bool masks_tail(const run *r) {
  return r->t->tile.lanes > 1 && (r->L->target->has_masked_memory || r->t->b_padded);
}

/* The last, narrower panel: masked, or what is left of whole vectors column by column where the target
   cannot mask. */
static void emit_tail(const run *r, variant v, nn_x *tile) {
  nn_kernel *k = r->L->kernel;
  bool masks = masks_tail(r);
  if (r->static_n < 0) {
    v.is_tail = true;
    if (masks)
      emit_rows(r, v, tile);
    else
      emit_columns(r, v, tile);
    return;
  }
  int64_t width = r->static_n % ((int64_t)v.nv * v.lanes);
  v.is_tail = masks && width % v.lanes != 0;
  v.nv = (int)(v.is_tail ? ceil_div(width, v.lanes) : width / v.lanes);
  if (v.nv > 0) emit_rows(r, v, tile);
  if (v.is_tail || width % v.lanes == 0) return;
  v.j0 = nn_x_int(k, (int64_t)v.nv * v.lanes);
  emit_columns(r, v, tile);
}

/* One code for whole panels and the last one: possible if B is padded, good if the columns beyond N cost little. */
static bool is_one_code(const run *r, int width) {
  if (!r->t->b_padded || r->t->tile.lanes == 1) return false;
  int64_t rest = r->static_n % width;
  return r->static_n < 0 || ceil_div(rest, r->t->tile.lanes) == r->t->tile.nv ||
         r->static_n >= (int64_t)MANY_PANELS * width;
}

static void emit_whole_or_tail(const run *r, variant v, nn_x *tile) {
  nn_kernel *k = r->L->kernel;
  int width = v.nv * v.lanes;
  bool whole = r->static_n < 0 || r->static_n >= width, rest = r->static_n < 0 || r->static_n % width;
  if (rest && is_one_code(r, width)) {
    v.is_any = true;
    emit_rows(r, v, tile);
    return;
  }
  if (whole && rest) nn_if_begin(k, nn_x_binary(k, NN_X_LE, nn_xi_addc(k, v.n0, width), r->n));
  if (whole) emit_rows(r, v, tile);
  if (whole && rest) nn_else(k);
  if (rest) emit_tail(r, v, tile);
  if (whole && rest) nn_end(k);
}

/* A panel; of a number of columns that is a symbol the last one may have half its vectors or fewer. */
static void emit_panel(const run *r, nn_x *n0, nn_x *tile) {
  nn_kernel *k = r->L->kernel;
  variant v = {.nv = r->t->tile.nv, .lanes = r->t->tile.lanes, .n0 = n0, .j0 = nn_x_int(k, 0)}, half = v;
  half.nv = (v.nv + 1) / 2;
  half.is_any = r->t->b_padded;
  bool has_half = r->static_n < 0 && v.nv > 1 && masks_tail(r) && !r->t->store_row;
  if (has_half) {
    nn_if_begin(k, nn_x_binary(k, NN_X_LE, r->n, nn_xi_addc(k, n0, (int64_t)half.nv * v.lanes)));
    if (half.is_any)
      emit_rows(r, half, tile);
    else
      emit_tail(r, half, tile);
    nn_else(k);
  }
  emit_whole_or_tail(r, v, tile);
  if (has_half) nn_end(k);
}

/* ---- tasks ---------------------------------------------------------------------------------------------- */

typedef struct blocks {
  int64_t tiles, panels, row_blocks;
} blocks; /* of one task; tasks side by side in a column */

static int64_t clamp64(int64_t x, int64_t low, int64_t high) { return x > high ? high : x < low ? low : x; }

static int64_t guess_depth(const nn_tiles *t) {
  int64_t depth = 1;
  for (int i = 0; i < t->nk; i++) depth *= clamp64(nn_dim_guess(t->kcount[i], 64), 1, 1 << 12);
  return clamp64(depth, 1, 1 << 24);
}

/* Whole columns of row tiles if A then stays in L2 and there are enough tasks; else cut along the rows. */
static blocks choose_blocks(const nn_lower *L, const nn_tiles *t) {
  const int64_t width = (int64_t)t->tile.nv * t->tile.lanes, depth = guess_depth(t);
  int64_t flops = 2 * t->tile.mr * width * depth, outer = t->outer ? clamp64(nn_dim_guess(t->outer, 1), 1, 1 << 20) : 1;
  int64_t ntiles = clamp64(ceil_div(nn_dim_guess(t->m, 128), t->tile.mr), 1, 1 << 20);
  int64_t npanels = clamp64(ceil_div(nn_dim_guess(t->n, 1024), width) - t->first_panel, 1, 1 << 20), columns = npanels * outer;
  int64_t keeps = t->pack ? L->target->l3_bytes : L->target->l2_bytes; /* rows pass by a panel that stays */
  int64_t cache = nn_percent(L, NN_KNOB_CACHE, keeps / 2), work = nn_percent(L, NN_KNOB_TASK, TASK_FLOPS);
  int64_t tasks = clamp64(TASKS_WANTED * TASK_FLOPS / work, 1, 64 * TASKS_WANTED);
  int64_t fit = clamp64(cache / (depth * t->tile.mr * nn_dtype_bits(t->acc) / 8 + 1), 1, ntiles);
  int64_t cuts = clamp64(ceil_div(tasks, columns), 1, ntiles),
          least = clamp64(ceil_div(TASK_LEAST_FLOPS, flops), t->pack ? PACKING_TILES : 1, 1 << 20);
  int64_t tiles = clamp64(ntiles / cuts, least < ntiles ? least : ntiles, ntiles);
  if (tiles > fit) tiles = fit;
  int64_t row_blocks = ceil_div(ntiles, tiles);
  tiles = ceil_div(ntiles, row_blocks);
  if (t->panels) return (blocks){tiles, t->panels, row_blocks};
  int64_t most = clamp64(columns * row_blocks / tasks, 1, npanels);
  int64_t wanted = ceil_div(work, flops * tiles), needed = ceil_div(TASK_LEAST_FLOPS, flops * tiles);
  if (row_blocks > 1 && wanted < REUSING_PANELS) wanted = REUSING_PANELS; /* A's block comes from far */
  if (t->most_panels) wanted = t->most_panels;
  if (wanted > most) wanted = most;
  return (blocks){tiles, clamp64(wanted > needed ? wanted : needed, 1, npanels), row_blocks};
}

int64_t nn_tiles_row_blocks(const nn_lower *L, const nn_tiles *t) { return choose_blocks(L, t).row_blocks; }

int64_t nn_tiles_panels(const nn_lower *L, const nn_tiles *t) { return choose_blocks(L, t).panels; }

bool nn_tiles_pack_pays(const nn_lower *L, const nn_tiles *t) {
  blocks size = choose_blocks(L, t);
  return size.row_blocks == 1 || size.tiles * t->tile.mr >= PACKED_ROWS;
}

/* Blocks of one size: the first item of this block, and the first after it. */
static void block_range(nn_lower *L, nn_x *block, int64_t size, nn_x *count, nn_x **first, nn_x **end) {
  nn_kernel *k = L->kernel;
  *first = nn_let(k, nn_xi_mulc(k, block, size));
  *end = nn_let(k, nn_xi_min(k, nn_xi_addc(k, *first, size), count));
}

/* Makes the panel ready, in its first row tile if panel and tile are whole. Gives the first tile that is left. */
static nn_x *emit_packing(const run *r, nn_x *n0, nn_x *tile) {
  const nn_tiles *t = r->t;
  nn_kernel *k = r->L->kernel;
  int width = t->tile.nv * t->tile.lanes;
  variant v = {.nv = t->tile.nv, .lanes = t->tile.lanes, .n0 = n0, .j0 = nn_x_int(k, 0), .packs = true, .tile = tile};
  if (!t->pack_line || (r->static_n >= 0 && r->static_n < width)) {
    t->pack(r->L, t->data, n0);
    return tile;
  }
  nn_x *is_whole = NULL;
  if (r->static_n < 0 || r->static_n % width) is_whole = nn_x_binary(k, NN_X_LE, nn_xi_addc(k, n0, width), r->n);
  if (r->static_m < 0) {
    v.m0 = nn_let(k, nn_xi_mulc(k, tile, t->tile.mr));
    nn_x *fits = nn_x_binary(k, NN_X_LE, nn_xi_addc(k, v.m0, t->tile.mr), r->m);
    is_whole = is_whole ? nn_x_binary(k, NN_X_AND, is_whole, fits) : fits;
  }
  if (is_whole) {
    is_whole = nn_let(k, is_whole);
    nn_if_begin(k, is_whole);
  }
  if (r->static_m >= 0) {
    rows_static(r, v, tile);
  } else {
    emit_tile(r, v, t->tile.mr);
    store_tile(r, v, r->stage, nn_x_int(k, t->tile.mr), store_rows);
  }
  nn_x *next = nn_xi_addc(k, tile, 1);
  if (!is_whole) return next;
  nn_else(k);
  t->pack(r->L, t->data, n0);
  nn_end(k);
  return nn_let(k, nn_x_select(k, is_whole, next, tile));
}

static void emit_task(run *r, blocks size, nn_x *row_block, nn_x *column_block, nn_x *ntiles, nn_x *npanels) {
  nn_lower *L = r->L;
  nn_kernel *k = L->kernel;
  const nn_tiles *t = r->t;
  int64_t width = (int64_t)t->tile.nv * t->tile.lanes;
  nn_x *panel, *panel_end, *tile, *tile_end;
  block_range(L, column_block, size.panels, npanels, &panel, &panel_end);
  panel = nn_xi_addc(k, panel, t->first_panel);
  panel_end = nn_xi_addc(k, panel_end, t->first_panel);
  block_range(L, row_block, size.tiles, ntiles, &tile, &tile_end);
  if (t->prepare)
    t->prepare(L, t->data, nn_let(k, nn_xi_mulc(k, panel, width)), nn_let(k, nn_xi_mulc(k, panel_end, width)));
  panel = nn_loop_begin(k, NN_FOR, "panel", panel, panel_end);
  nn_x *n0 = nn_let(k, nn_xi_mulc(k, panel, width));
  if (t->pack) tile = emit_packing(r, n0, tile);
  tile = nn_loop_begin(k, NN_FOR, "tile", tile, tile_end);
  emit_panel(r, n0, tile);
  nn_end(k);
  nn_end(k);
}

/* One loop over all tasks; row blocks run fastest, so that neighbouring tasks share panels. */
static void emit_tasks(run *r, nn_x *ntiles, nn_x *npanels) {
  nn_lower *L = r->L;
  nn_kernel *k = L->kernel;
  const nn_tiles *t = r->t;
  blocks size = choose_blocks(L, t);
  nn_x *row_blocks = nn_let(k, nn_ceildiv_x(L, ntiles, size.tiles));
  nn_x *column_blocks = nn_let(k, nn_ceildiv_x(L, npanels, size.panels));
  nn_x *count = nn_xi_mul(k, row_blocks, column_blocks);
  if (t->outer) count = nn_xi_mul(k, count, nn_dim_x(L, t->outer));
  nn_x *task = nn_task_loop(L, t->in_parallel, "task", nn_let(k, count));
  nn_x *row_block = nn_let(k, nn_xi_mod(k, task, row_blocks));
  nn_x *rest = nn_let(k, nn_xi_floordiv(k, task, row_blocks));
  if (t->outer) {
    *t->outer_index = nn_let(k, nn_xi_floordiv(k, rest, column_blocks));
    rest = nn_let(k, nn_xi_mod(k, rest, column_blocks));
  }
  emit_task(r, size, row_block, rest, ntiles, npanels);
  nn_end(k);
}

/* As few tiles as possible; a few more if they then all have the same number of rows, which is one code less. Each
   tile reads the panel again: few more if it does not stay in L1. */
static void cut_rows(run *r) {
  const nn_tile *tile = &r->t->tile;
  int64_t panel = guess_depth(r->t) * tile->nv * tile->lanes * nn_dtype_bits(r->t->acc) / 8;
  int mr = tile->mr, least = panel <= r->L->target->l1_bytes ? (2 * mr + 2) / 3 : (5 * mr + 5) / 6;
  int latency = (int)ceil_div(LEAST_SUMS, r->t->tile.nv);
  if (r->static_m < 0) return;
  r->ntiles = ceil_div(r->static_m, mr);
  for (int rows = mr; rows >= least && rows >= latency; rows--) {
    if (r->static_m % rows) continue;
    r->ntiles = r->static_m / rows;
    break;
  }
  r->rows = r->ntiles ? r->static_m / r->ntiles : 0;
  r->extra = r->ntiles ? r->static_m % r->ntiles : 0;
}

void nn_tiles_emit(nn_lower *L, const nn_tiles *t) {
  nn_kernel *k = L->kernel;
  int width = t->tile.nv * t->tile.lanes;
  run r = {.L = L,
           .t = t,
           .m = nn_let(k, t->m_now ? t->m_now : nn_dim_x(L, t->m)),
           .n = nn_let(k, t->n_now ? t->n_now : nn_dim_x(L, t->n))};
  if (t->m_now || !nn_dim_is_const(t->m, &r.static_m)) r.static_m = -1;
  if (t->n_now || !nn_dim_is_const(t->n, &r.static_n)) r.static_n = -1;
  if (r.static_m == 0 || r.static_n == 0) return;
  cut_rows(&r);
  if (!t->store_direct || (r.static_m < 0 && !t->rows_padded))
    r.stage = nn_temp(L, NN_BUF_WORKER, t->acc, nn_dim_const(L->module, (int64_t)t->tile.mr * width));
  r.ntiles_x = r.static_m >= 0 ? nn_x_int(k, r.ntiles) : nn_let(k, nn_ceildiv_x(L, r.m, t->tile.mr));
  if (t->ahead) share_lines(&r);
  emit_tasks(&r, r.ntiles_x, nn_let(k, nn_xi_addc(k, nn_ceildiv_x(L, r.n, width), -t->first_panel)));
}
