/* C = A B with two multiplications for three, by Winograd's inner product of 1968: a pair of numbers of the depth takes one multiply-add and two additions,

     (x1 + w2) (x2 + w1) = x1 w1 + x2 w2 + x1 x2 + w1 w2

   where the last two products belong to a row or to a column alone: they are summed once and taken off where the sums begin. That pays where
   additions have units of their own beside the multipliers (nn_target.adds_aside). Of a unit of 16 numbers ten are in pairs:
   11 multiply-adds and 10 additions that run side by side take 11 steps in place of 16.

   Tasks have some rows of A and a group of panels of weights. They copy their rows, scaled (gemm_paired_rows.c), in the order of use, and a
   worker keeps them for his next tasks, which have the same rows. What is fused into the reads of A is evaluated then. All tasks have as many
   rows; those beyond the last one are computed of it again and not stored. Where their number is known while running, tasks are cut then, and the last tile
   of one is of 16, 8 or 4 rows.

   With rows and columns scaled to about the same length, the error is bounded as that of the sum in order, up to a small factor, by the product of the
   lengths of row and column. What is not finite in a row makes all of its results NaN. passes/paired.c decides. */
#include "codegen/gemm_paired.h"

enum {
  MOST_TILE_ROWS = 16,
  WEIGHTS_HELD = 6, SPARE_VECTORS = 6, /* registers beside the sums: numbers of a unit that are held at a time; sums of pairs */
  TASKS_WANTED = 16,
  CHUNK_UNITS = 64,                    /* a task's rows are then few enough for L2, and enough for a panel that comes from memory */
  PANELS_TOGETHER = 6,                 /* neighbouring results of a row, where rows of results are apart: tiles by themselves would write few lines of many pages */
  LEAST_ROWS = 48, FEWEST_ROWS = 24,   /* of each of two workers, if there are so many; where panels cannot be halved */
  LAST_ROWS = 4, USUAL_TILES = 3,      /* of rows whose number is not known: at most so many are computed in vain; what is prefetched is for so many tiles */
  LINE_ELEMENTS = 16, AHEAD_LINES = 8  /* AHEAD_LINES: of what later steps need, in each unit */
};

static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

static int64_t clamp64(int64_t x, int64_t low, int64_t high) { return x > high ? high : x < low ? low : x; }

static int64_t gcd(int64_t a, int64_t b) { return b ? gcd(b, a % b) : a; }

/* ---- tiles -------------------------------------------------------------------------------------------------- */

typedef struct tile {
  const nn_paired *p;
  const nn_pair_span *span;
  nn_buf *sums, *held; /* [row][vector]; [number][vector] of weights */
  nn_x *unit;
} tile;

/* In weights: column j of a panel, number ki of the depth. */
static nn_x *index_in(nn_kernel *k, const nn_paired *p, nn_x *panel, nn_x *ki, nn_x *j) {
  nn_x *together = nn_x_int(k, p->line / p->width), *first = nn_xi_mulc(k, nn_xi_floordiv(k, panel, together), p->depth + NN_PAIR_ROWS);
  nn_x *column = nn_xi_add(k, nn_xi_mulc(k, nn_xi_mod(k, panel, together), p->width), j);
  return nn_xi_add(k, nn_xi_mulc(k, nn_xi_add(k, first, ki), p->line), column);
}

static nn_x *weight_index(nn_kernel *k, const nn_paired *p, nn_x *ki, nn_x *j) { return index_in(k, p, p->panel, ki, j); }

nn_x *nn_pair_sum_at(nn_kernel *k, const nn_paired *p, nn_x *row, nn_x *vector, nn_x *l) {
  return nn_tile_vector(k, nn_xi_add(k, nn_xi_mulc(k, row, p->nv), vector), p->lanes, l);
}

static nn_x *in_stage(nn_kernel *k, const nn_paired *p, nn_x *row, nn_x *j) {
  nn_x *line = nn_xi_add(k, nn_xi_mulc(k, row, p->together), nn_xi_sub(k, p->panel, p->first_panel));
  return nn_xi_add(k, nn_xi_mulc(k, line, p->width), j);
}

typedef nn_x *first_sum(nn_lower *L, const tile *t, nn_x *row, nn_x *own, nn_x *j);

/* Minus the own products of row and column. */
static nn_x *minus_own(nn_lower *L, const tile *t, nn_x *row, nn_x *own, nn_x *j) {
  const nn_paired *p = t->p;
  nn_kernel *k = L->kernel;
  (void)row;
  return nn_x_binary(k, NN_X_SUB, nn_x_load(k, p->weights, weight_index(k, p, nn_x_int(k, p->depth), j), NULL), own);
}

static nn_x *sum_so_far(nn_lower *L, const tile *t, nn_x *row, nn_x *own, nn_x *j) {
  (void)own;
  return nn_x_load(L->kernel, t->p->stage, in_stage(L->kernel, t->p, row, j), NULL);
}

static void set_sums(nn_lower *L, const tile *t, first_sum *first) {
  const nn_paired *p = t->p;
  nn_kernel *k = L->kernel;
  nn_x *r = nn_loop_range(k, NN_UNROLL, "r", t->span->rows), *row = nn_xi_add(k, t->span->row, r);
  nn_x *own = nn_let(k, nn_x_load(k, p->own, row, NULL));
  nn_x *v = nn_loop_range(k, NN_UNROLL, "v", p->nv), *l = nn_lanes_begin(L, p->lanes);
  nn_store(k, t->sums, nn_pair_sum_at(k, p, r, v, l), first(L, t, row, own, nn_tile_vector(k, v, p->lanes, l)), NULL);
  nn_lanes_end(L, p->lanes);
  nn_end(k);
  nn_end(k);
}

static void begin_sums(nn_lower *L, tile *t) {
  const nn_paired *p = t->p;
  nn_kernel *k = L->kernel;
  t->sums = nn_regs(L, NN_F32, (int64_t)t->span->rows * p->width);
  t->held = nn_regs(L, NN_F32, (int64_t)WEIGHTS_HELD * p->width);
  if (p->chunks > 1) {
    nn_if_begin(k, nn_x_binary(k, NN_X_LT, nn_x_int(k, 0), p->chunk));
    set_sums(L, t, sum_so_far);
    nn_else(k);
  }
  set_sums(L, t, minus_own);
  if (p->chunks > 1) nn_end(k);
}

static void hold_weight(nn_lower *L, const tile *t, int slot, nn_x *ki) {
  const nn_paired *p = t->p;
  nn_kernel *k = L->kernel;
  nn_x *v = nn_loop_range(k, NN_UNROLL, "v", p->nv), *l = nn_lanes_begin(L, p->lanes), *j = nn_tile_vector(k, v, p->lanes, l);
  nn_store(k, t->held, nn_pair_sum_at(k, p, nn_x_int(k, slot), v, l), nn_x_load(k, p->weights, weight_index(k, p, ki, j), NULL), NULL);
  nn_lanes_end(L, p->lanes);
  nn_end(k);
}

static nn_x *held_at(nn_kernel *k, const tile *t, int slot, nn_x *v, nn_x *l) {
  return nn_x_load(k, t->held, nn_pair_sum_at(k, t->p, nn_x_int(k, slot), v, l), NULL);
}

static nn_x *row_at(nn_lower *L, const tile *t, nn_x *r, nn_x *ki) {
  return nn_let(L->kernel, nn_x_load(L->kernel, t->p->a, nn_pair_at(L->kernel, t->span, r, ki), NULL));
}

/* Minus signs go into the first factor: x1 w1 + x2 w2 = (w1 + x2)(w2 + x1) - .. = -(w1 - x2)(w2 - x1) + .. */
static void add_pair(nn_lower *L, const tile *t, nn_x *r, int slot, nn_x *ki, bool is_minus) {
  const nn_paired *p = t->p;
  nn_kernel *k = L->kernel;
  nn_x *one = row_at(L, t, r, ki), *other = row_at(L, t, r, nn_xi_addc(k, ki, NN_PAIR_HALF));
  nn_x *v = nn_loop_range(k, NN_UNROLL, "v", p->nv), *l = nn_lanes_begin(L, p->lanes), *at = nn_pair_sum_at(k, p, r, v, l);
  nn_xop op = is_minus ? NN_X_SUB : NN_X_ADD;
  nn_x *first = nn_let(k, nn_x_binary(k, op, held_at(k, t, slot + 1, v, l), one));
  nn_x *second = nn_let(k, nn_x_binary(k, op, held_at(k, t, slot, v, l), other));
  if (is_minus) first = nn_x_unary(k, NN_X_NEG, first);
  nn_store(k, t->sums, at, nn_mul_add(L, first, second, nn_x_load(k, t->sums, at, NULL)), NULL);
  nn_lanes_end(L, p->lanes);
  nn_end(k);
}

static void add_single(nn_lower *L, const tile *t, nn_x *r, int slot, nn_x *ki) {
  const nn_paired *p = t->p;
  nn_kernel *k = L->kernel;
  nn_x *one = row_at(L, t, r, ki);
  nn_x *v = nn_loop_range(k, NN_UNROLL, "v", p->nv), *l = nn_lanes_begin(L, p->lanes), *at = nn_pair_sum_at(k, p, r, v, l);
  nn_store(k, t->sums, at, nn_mul_add(L, one, held_at(k, t, slot, v, l), nn_x_load(k, t->sums, at, NULL)), NULL);
  nn_lanes_end(L, p->lanes);
  nn_end(k);
}

/* What is held of a unit at a time: pairs, in slots two by two, then single numbers. -1: none */
typedef struct part {
  int pairs[2], singles[2];
} part;
static const part parts[] = {{{0, 1}, {5, 13}}, {{2, 3}, {6, 14}}, {{4, -1}, {7, 15}}};

static void add_part(nn_lower *L, const tile *t, const part *now) {
  nn_kernel *k = L->kernel;
  nn_x *base = nn_xi_mulc(k, t->unit, NN_PAIR_UNIT);
  for (int i = 0; i < 2; i++) {
    for (int half = 0; half < 2 && now->pairs[i] >= 0; half++)
      hold_weight(L, t, 2 * i + half, nn_xi_addc(k, base, now->pairs[i] + half * NN_PAIR_HALF));
    hold_weight(L, t, 4 + i, nn_xi_addc(k, base, now->singles[i]));
  }
  nn_x *r = nn_loop_range(k, NN_UNROLL, "r", t->span->rows);
  for (int i = 0; i < 2; i++) {
    if (now->pairs[i] >= 0) add_pair(L, t, r, 2 * i, nn_xi_addc(k, base, now->pairs[i]), now->pairs[i] % 2 != 0);
    add_single(L, t, r, 4 + i, nn_xi_addc(k, base, now->singles[i]));
  }
  nn_end(k);
}

/* All tiles of a panel together prefetch what comes next: this part of the next panel, or the next part of the first one. */
static void prefetch_panel(nn_lower *L, const tile *t, nn_x *first) {
  const nn_paired *p = t->p;
  nn_kernel *k = L->kernel;
  int64_t part_lines = p->chunk_units * NN_PAIR_UNIT;
  int64_t lines = ceil_div((p->chunks == 1 ? p->depth + NN_PAIR_ROWS : part_lines) * p->width, LINE_ELEMENTS);
  int64_t each = ceil_div(lines, p->cut.tiles * p->chunk_units);
  nn_x *zero = nn_x_int(k, 0), *panel = nn_xi_addc(k, p->panel, 1), *chunk = p->chunk;
  if (p->chunks > 1) {
    nn_x *ends = nn_x_binary(k, NN_X_LE, p->end_panel, panel), *was_last = nn_x_binary(k, NN_X_LE, nn_x_int(k, p->chunks - 1), chunk);
    chunk = nn_x_select(k, ends, nn_x_select(k, was_last, zero, nn_xi_addc(k, chunk, 1)), chunk);
    panel = nn_x_select(k, nn_x_binary(k, NN_X_AND, ends, nn_x_unary(k, NN_X_NOT, was_last)), p->first_panel, panel);
  }
  nn_x *step = nn_xi_add(k, nn_xi_mulc(k, t->span->pass, p->chunk_units), nn_xi_sub(k, t->unit, first));
  nn_x *at = nn_xi_mulc(k, step, each * LINE_ELEMENTS), *width = nn_x_int(k, p->width);
  for (int64_t i = 0; i < each; i++) {
    nn_x *element = nn_xi_addc(k, at, i * LINE_ELEMENTS), *ki = nn_xi_add(k, nn_xi_mulc(k, chunk, part_lines), nn_xi_floordiv(k, element, width));
    nn_prefetch(k, p->weights, index_in(k, p, panel, ki, nn_xi_mod(k, element, width)));
  }
}

static void add_rest(nn_lower *L, const tile *t) {
  nn_kernel *k = L->kernel;
  nn_x *ki = nn_xi_addc(k, nn_loop_range(k, NN_FOR, "k", t->p->rest), t->p->units * NN_PAIR_UNIT);
  hold_weight(L, t, 0, ki);
  nn_x *r = nn_loop_range(k, NN_UNROLL, "r", t->span->rows);
  add_single(L, t, r, 0, ki);
  nn_end(k);
  nn_end(k);
}

/* Both factors are one power of two first: large and small ones are then undone together, where one alone would overflow. */
nn_x *nn_pair_unscale(nn_lower *L, const nn_paired *p, nn_x *row, nn_x *j, nn_x *sum) {
  nn_kernel *k = L->kernel;
  nn_x *column = nn_x_load(k, p->weights, weight_index(k, p, nn_x_int(k, p->depth + 1), j), NULL), *factor = nn_x_load(k, p->factor, row, NULL);
  return nn_let(k, nn_x_binary(k, NN_X_MUL, sum, nn_x_binary(k, NN_X_MUL, column, factor)));
}

/* A row of the task: without its scales, to the product's results. From the stage, or from the registers of a tile that it is row r of. */
typedef struct result_row {
  nn_x *row, *r;
  const tile *t;
} result_row;

static void write_columns(nn_lower *L, const nn_paired *p, const result_row *w, bool is_tail) {
  nn_kernel *k = L->kernel;
  nn_x *v = nn_loop_range(k, NN_UNROLL, "v", p->nv), *l = nn_lanes_begin(L, p->lanes), *j = nn_tile_vector(k, v, p->lanes, l);
  nn_x *sum = w->t ? nn_x_load(k, w->t->sums, nn_pair_sum_at(k, p, w->r, v, l), NULL) : nn_x_load(k, p->stage, in_stage(k, p, w->row, j), NULL);
  nn_x *value = nn_pair_unscale(L, p, w->row, j, sum), *n = nn_xi_add(k, nn_xi_mulc(k, p->panel, p->width), j);
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, n, nn_dim_x(L, p->g->n)));
  p->g->store(L, p->g->data, nn_xi_add(k, p->row0, w->row), n, value);
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, p->lanes);
  nn_end(k);
}

static void write_tile(nn_lower *L, const tile *t) {
  nn_x *r = nn_loop_range(L->kernel, NN_UNROLL, "r", t->span->rows);
  write_columns(L, t->p, &(result_row){nn_xi_add(L->kernel, t->span->row, r), r, t}, false);
  nn_end(L->kernel);
}

/* What is staged: row by row, so that neighbours are written one after the other. */
static void write_stage(nn_lower *L, nn_paired *p) {
  nn_kernel *k = L->kernel;
  result_row w = {.row = nn_loop_begin(k, NN_FOR, "r", nn_x_int(k, 0), p->present_rows)};
  p->panel = nn_loop_begin(k, NN_FOR, "panel", p->first_panel, p->end_panel);
  if (p->has_tail) {
    nn_if_begin(k, nn_x_binary(k, NN_X_EQ, p->panel, nn_x_int(k, p->panels - 1)));
    write_columns(L, p, &w, true);
    nn_else(k);
  }
  write_columns(L, p, &w, false);
  if (p->has_tail) nn_end(k);
  nn_end(k);
  nn_end(k);
}

static void keep_sums(nn_lower *L, const tile *t) {
  const nn_paired *p = t->p;
  nn_kernel *k = L->kernel;
  nn_x *r = nn_loop_range(k, NN_UNROLL, "r", t->span->rows);
  nn_x *v = nn_loop_range(k, NN_UNROLL, "v", p->nv), *l = nn_lanes_begin(L, p->lanes);
  nn_x *to = in_stage(k, p, nn_xi_add(k, t->span->row, r), nn_tile_vector(k, v, p->lanes, l));
  nn_store(k, p->stage, to, nn_x_load(k, t->sums, nn_pair_sum_at(k, p, r, v, l), NULL), NULL);
  nn_lanes_end(L, p->lanes);
  nn_end(k);
  nn_end(k);
}

static void add_units(nn_lower *L, tile *t) {
  const nn_paired *p = t->p;
  nn_kernel *k = L->kernel;
  nn_x *first = nn_let(k, nn_xi_mulc(k, p->chunk, p->chunk_units)), *end = nn_xi_addc(k, first, p->chunk_units);
  t->unit = nn_loop_begin(k, NN_FOR, "unit", first, nn_let(k, nn_xi_min(k, end, nn_x_int(k, p->units))));
  prefetch_panel(L, t, first);
  nn_tile_ahead(L, AHEAD_LINES);
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) add_part(L, t, &parts[i]);
  nn_end(k);
}

static void add_all(nn_lower *L, tile *t) {
  const nn_paired *p = t->p;
  nn_kernel *k = L->kernel;
  begin_sums(L, t);
  if (p->units) add_units(L, t);
  if (p->rest && p->chunks > 1) nn_if_begin(k, nn_x_binary(k, NN_X_EQ, p->chunk, nn_x_int(k, p->chunks - 1)));
  if (p->rest) add_rest(L, t);
  if (p->rest && p->chunks > 1) nn_end(k);
}

nn_buf *nn_pair_sums(nn_lower *L, const nn_paired *p, const nn_pair_span *span) {
  tile t = {.p = p, .span = span};
  add_all(L, &t);
  return t.sums;
}

/* Rows of a tile lie together, units behind units, in the order of use. */
static nn_pair_span span_of(nn_kernel *k, const nn_paired *p, const nn_tile_span *span) {
  return (nn_pair_span){span->rows, span->pass, span->first, nn_xi_mulc(k, span->first, p->pitch), (int64_t)span->rows * NN_PAIR_UNIT};
}

static void emit_tile(nn_lower *L, const nn_tile_span *span, void *data) {
  const nn_paired *p = data;
  nn_pair_span rows = span_of(L->kernel, p, span);
  tile t = {.p = p, .span = &rows};
  add_all(L, &t);
  if (p->stage) keep_sums(L, &t);
  else write_tile(L, &t);
}

static void make_rows(nn_lower *L, const nn_tile_span *span, void *data) {
  nn_pair_span rows = span_of(L->kernel, data, span);
  nn_pair_rows(L, data, &rows, nn_x_int(L->kernel, span->rows));
}

/* ---- tasks -------------------------------------------------------------------------------------------------- */

/* What is left behind the last whole tile is a tile of its rows, or of half or a quarter as many. */
static void last_tile(nn_lower *L, nn_tile_span span, nn_x *left, nn_tile_body *body, void *data) {
  nn_kernel *k = L->kernel;
  bool has_smaller = span.rows > LAST_ROWS;
  if (has_smaller) nn_if_begin(k, nn_x_binary(k, NN_X_LT, nn_x_int(k, span.rows / 2), left));
  body(L, &span, data);
  if (!has_smaller) return;
  nn_else(k);
  span.rows /= 2;
  last_tile(L, span, left, body, data);
  nn_end(k);
}

void nn_pair_tile_loops(nn_lower *L, nn_x *count, int most, nn_tile_body *body, void *data) {
  nn_kernel *k = L->kernel;
  nn_x *whole = nn_let(k, nn_xi_floordiv(k, count, nn_x_int(k, most))), *i = nn_loop_begin(k, NN_FOR, "tile", nn_x_int(k, 0), whole);
  body(L, &(nn_tile_span){i, nn_let(k, nn_xi_mulc(k, i, most)), most, NULL}, data);
  nn_end(k);
  nn_x *first = nn_let(k, nn_xi_mulc(k, whole, most)), *left = nn_let(k, nn_xi_sub(k, count, first));
  nn_if_begin(k, nn_x_binary(k, NN_X_LT, nn_x_int(k, 0), left));
  last_tile(L, (nn_tile_span){whole, first, most, NULL}, left, body, data);
  nn_end(k);
}

/* The present task's rows. */
static void tile_loops(nn_lower *L, nn_paired *p, nn_tile_body *body) {
  if (p->task_rows) nn_pair_tile_loops(L, p->present_rows, p->most_rows, body, p);
  else nn_tile_cut_loops(L, p->cut, body, p);
}

/* Two workers have rows of their own where there are enough, or where one would wait while the other has a panel more. */
static bool halves_rows(const nn_paired *p, int64_t m) {
  int64_t by_panels = m * ceil_div(p->panels, 2), by_rows = ceil_div(m, 2) * p->panels;
  return m >= 2 * LEAST_ROWS || (m >= 2 * FEWEST_ROWS && by_rows < by_panels);
}

/* The same while running, without looking at panels; tasks may have fewer rows than fit. */
static void cut_any_rows(nn_lower *L, nn_paired *p, int64_t most) {
  nn_kernel *k = L->kernel;
  nn_x *one = nn_x_int(k, 1), *is_halved = nn_x_binary(k, NN_X_LE, nn_x_int(k, 2 * LEAST_ROWS), p->m);
  p->rows = most / p->most_rows * p->most_rows;
  p->cut = nn_tile_cut_rows(clamp64(USUAL_TILES * p->most_rows, 1, p->rows), p->most_rows);
  p->has_surplus = true;
  nn_x *blocks = nn_let(k, nn_xi_max(k, one, nn_ceildiv_x(L, p->m, p->rows)));
  blocks = nn_let(k, nn_x_select(k, is_halved, nn_xi_mulc(k, nn_ceildiv_x(L, blocks, 2), 2), blocks));
  nn_x *each = nn_xi_max(k, one, nn_xi_floordiv(k, nn_xi_addc(k, nn_xi_add(k, p->m, blocks), -1), blocks));
  p->task_rows = nn_let(k, nn_xi_min(k, nn_x_int(k, p->rows), nn_xi_mulc(k, nn_ceildiv_x(L, nn_let(k, each), LAST_ROWS), LAST_ROWS)));
  p->blocks = nn_let(k, nn_xi_floordiv(k, nn_xi_addc(k, nn_xi_add(k, p->m, p->task_rows), -1), p->task_rows));
  nn_x *wanted = nn_xi_floordiv(k, nn_xi_addc(k, blocks, TASKS_WANTED - 1), blocks);
  p->groups = nn_let(k, nn_xi_max(k, one, nn_xi_min(k, wanted, nn_x_int(k, p->panels))));
}

/* Rows of a task: as many as fit half of L2. */
static void cut_rows(nn_lower *L, nn_paired *p) {
  nn_kernel *k = L->kernel;
  int64_t m, most = clamp64(L->target->l2_bytes / 2 / (p->chunk_units * NN_PAIR_UNIT * 4), p->most_rows, 1 << 12);
  if (!nn_dim_is_const(p->g->m, &m)) {
    cut_any_rows(L, p, most);
    return;
  }
  int64_t blocks = clamp64(ceil_div(m, most), 1, INT64_MAX);
  if (halves_rows(p, m)) blocks = 2 * ceil_div(blocks, 2);
  p->rows = clamp64(ceil_div(m, blocks), 1, most);
  p->cut = nn_tile_cut_rows(p->rows, p->most_rows);
  p->has_surplus = m % p->rows != 0;
  p->blocks = nn_x_int(k, ceil_div(m, p->rows));
  p->groups = nn_x_int(k, clamp64(ceil_div(TASKS_WANTED, clamp64(ceil_div(m, p->rows), 1, TASKS_WANTED)), 1, p->panels));
}

void nn_pair_set_depth(const nn_lower *L, nn_paired *p, int64_t depth, int64_t width, int64_t block) {
  p->width = p->line = width;
  p->lanes = nn_pair_lanes(L, width);
  p->nv = (int)(width / p->lanes);
  p->most_rows = (int)clamp64((L->target->vector_registers - WEIGHTS_HELD * p->nv - SPARE_VECTORS) / p->nv, 1, MOST_TILE_ROWS);
  p->read_lanes = nn_pair_lanes(L, block ? gcd(block, NN_PAIR_UNIT) : NN_PAIR_UNIT);
  p->pair_lanes = nn_pair_lanes(L, NN_PAIR_HALF);
  p->depth = depth;
  p->units = p->run = depth / NN_PAIR_UNIT;
  p->rest = depth % NN_PAIR_UNIT;
  p->pitch = ceil_div(depth, NN_PAIR_UNIT) * NN_PAIR_UNIT;
  p->chunks = 1;
  p->chunk_units = clamp64(p->units, 1, INT64_MAX);
  p->chunk = nn_x_int(L->kernel, 0);
}

static void set_sizes(nn_lower *L, nn_paired *p) {
  const nn_gemm *g = p->g;
  nn_pair_set_depth(L, p, nn_dim_value(g->k), nn_pair_lanes(L, g->panel_width), g->a_block);
  p->line = g->panel_width;
  p->weights = g->b_panels;
  if (g->a_run && g->a_run % NN_PAIR_UNIT == 0 && p->depth % g->a_run == 0) p->run = g->a_run / NN_PAIR_UNIT;
  p->panels = ceil_div(nn_dim_value(g->n), p->width);
  p->has_tail = nn_dim_value(g->n) % p->width != 0;
  p->m = nn_let(L->kernel, nn_dim_x(L, g->m));
  p->chunks = clamp64(ceil_div(p->units, CHUNK_UNITS), 1, INT64_MAX);
  p->chunk_units = clamp64(ceil_div(p->units, p->chunks), 1, INT64_MAX);
  p->together = g->a_block ? 1 : clamp64(PANELS_TOGETHER, 1, p->panels);
}

static bool is_staged(const nn_paired *p) {
  return !p->g->store_direct || p->has_surplus || p->has_tail || p->chunks > 1 || p->together > 1;
}

static nn_buf *worker_temp(nn_lower *L, nn_dtype t, int64_t count) { return nn_temp(L, NN_BUF_WORKER, t, nn_dim_const(L->module, count)); }

static void multiply_panels(nn_lower *L, nn_paired *p, nn_x *first, nn_x *end) {
  nn_kernel *k = L->kernel;
  nn_x *i = nn_loop_begin(k, NN_FOR, "panels", nn_x_int(k, 0), nn_let(k, nn_ceildiv_x(L, nn_xi_sub(k, end, first), p->together)));
  p->first_panel = nn_let(k, nn_xi_add(k, first, nn_xi_mulc(k, i, p->together)));
  p->end_panel = nn_let(k, nn_xi_min(k, end, nn_xi_addc(k, p->first_panel, p->together)));
  p->chunk = nn_loop_range(k, NN_FOR, "part", p->chunks);
  p->panel = nn_loop_begin(k, NN_FOR, "panel", p->first_panel, p->end_panel);
  tile_loops(L, p, emit_tile);
  nn_end(k);
  nn_end(k);
  if (p->stage) write_stage(L, p);
  nn_end(k);
}

void nn_gemm_paired(nn_lower *L, const nn_gemm *g) {
  nn_kernel *k = L->kernel;
  nn_paired p = {.g = g};
  set_sizes(L, &p);
  cut_rows(L, &p);
  p.a = worker_temp(L, NN_F32, p.rows * p.pitch);
  p.own = worker_temp(L, NN_F32, p.rows);
  p.factor = worker_temp(L, NN_F32, p.rows);
  if (is_staged(&p)) p.stage = worker_temp(L, NN_F32, p.rows * p.together * p.width);
  nn_x *groups = p.groups, *task = nn_task_loop(L, g->in_parallel, "task", nn_let(k, nn_xi_mul(k, p.blocks, groups)));
  nn_x *block = nn_let(k, nn_xi_floordiv(k, task, groups)), *group = nn_let(k, nn_xi_mod(k, task, groups));
  nn_x *rows = p.task_rows ? p.task_rows : nn_x_int(k, p.rows);
  p.row0 = nn_let(k, nn_xi_mul(k, block, rows));
  p.present_rows = p.has_surplus ? nn_let(k, nn_xi_min(k, rows, nn_xi_sub(k, p.m, p.row0))) : rows;
  nn_keep_begin(k, worker_temp(L, NN_I64, 1), block);
  tile_loops(L, &p, make_rows);
  nn_end(k);
  nn_x *lo = nn_xi_floordiv(k, nn_xi_mulc(k, group, p.panels), groups), *hi = nn_xi_floordiv(k, nn_xi_mulc(k, nn_xi_addc(k, group, 1), p.panels), groups);
  multiply_panels(L, &p, nn_let(k, lo), nn_let(k, hi));
  nn_end(k);
}
