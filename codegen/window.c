/* Sliding windows along rows of the result, in vectors.

   The border costs nothing inside: rows of results whose windows lie in the input get unrolled taps, the
   others loop over the taps that do.

   With stride 1, vectors that touch the left or right border get a condition for each lane, which a masked load
   takes. With a larger stride vectors cover the inner part only, the last one overlapping the one before it, and
   results at the border are computed one by one. */
#include "codegen/codegen.h"

enum { UNROLLED_TAPS = 49, UNROLLED_ROW = 16 };

typedef struct state {
  nn_window *w;
  nn_x *tap_lo[NN_SPATIAL], *tap_hi[NN_SPATIAL]; /* taps of the row that lie in the input; all axes but the last */
  nn_x *whole;                                   /* all of them do; NULL: always */
  int64_t halves;                                /* 2: tasks have half the rows of the first axis */
  bool guard_x;                                  /* code for vectors at the border */
  nn_x *count;                                   /* length of a row */
  nn_x *x_lo, *x_hi;                             /* vectors in x_lo..x_hi are inside */
} state;

static nn_x *both(nn_lower *L, nn_x *a, nn_x *b) { return a ? nn_x_binary(L->kernel, NN_X_AND, a, b) : b; }

static nn_x *input_place(nn_lower *L, const nn_window *w, int d, nn_x *out, nn_x *tap) {
  nn_kernel *k = L->kernel;
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, out, w->stride[d]), nn_xi_mulc(k, tap, w->dilation[d]));
  return nn_xi_sub(k, at, nn_dim_x(L, w->before[d]));
}

static void emit_tap(nn_lower *L, const state *s, int lanes, bool is_tail, nn_x *depth, nn_x *const *tap) {
  nn_kernel *k = L->kernel;
  nn_window *w = s->w;
  int last = w->nd - 1;
  nn_x *place[NN_SPATIAL], *cond = NULL;
  nn_x *uniform = w->uniform ? nn_let(k, w->uniform(L, w, depth, tap)) : NULL;
  for (int d = 0; d < last; d++) place[d] = nn_let(k, input_place(L, w, d, w->at[2 + d], tap[d]));
  nn_x *l = nn_lanes_begin(L, lanes), *x = nn_xi_add(k, w->at[2 + last], l);
  place[last] = input_place(L, w, last, x, tap[last]);
  if (s->guard_x) {
    cond = nn_x_binary(k, NN_X_LE, nn_x_int(k, 0), place[last]);
    cond = both(L, cond, nn_x_binary(k, NN_X_LT, place[last], nn_dim_x(L, w->in[last])));
  }
  if (is_tail) cond = both(L, cond, nn_x_binary(k, NN_X_LT, x, s->count));
  w->tap(L, w, uniform, depth, place, l, cond);
  nn_lanes_end(L, lanes);
}

static nn_x *tap_loop(nn_lower *L, const state *s, int d) {
  nn_kernel *k = L->kernel;
  const nn_window *w = s->w;
  int64_t taps = 0;
  bool is_last = d == w->nd - 1, is_static = nn_dim_is_const(w->kernel[d], &taps) && taps > 0;
  bool copied = w->few_taps ? w->copies_taps || is_last : is_last && is_static && taps <= UNROLLED_ROW;
  if (copied && is_static) return nn_loop_range(k, NN_UNROLL, "tap", taps);
  if (is_last || !s->whole) return nn_loop_begin(k, NN_FOR, "tap", nn_x_int(k, 0), nn_dim_x(L, w->kernel[d]));
  return nn_loop_begin(k, NN_FOR, "tap", s->tap_lo[d], s->tap_hi[d]);
}

static void emit_vector(nn_lower *L, const state *s, int lanes, bool is_tail) {
  nn_kernel *k = L->kernel;
  nn_window *w = s->w;
  nn_x *tap[NN_SPATIAL], *depth = nn_x_int(k, 0);
  bool is_deep = !nn_dim_is(w->depth, 1);
  w->open(L, w, lanes);
  if (is_deep) depth = nn_loop_begin(k, NN_FOR, "c", depth, nn_dim_x(L, w->depth));
  for (int d = 0; d < w->nd; d++) tap[d] = tap_loop(L, s, d);
  emit_tap(L, s, lanes, is_tail, depth, tap);
  for (int d = 0; d < w->nd; d++) nn_end(k);
  if (is_deep) nn_end(k);
  w->close(L, w, lanes, is_tail);
}

static void emit_block(nn_lower *L, nn_x *x0, int lanes, bool is_tail, void *data) {
  state *s = data;
  nn_kernel *k = L->kernel;
  nn_window *w = s->w;
  bool whole_rows = w->is_whole;
  w->at[1 + w->nd] = x0 = nn_let(k, x0);
  if (!is_tail) {
    nn_x *inside =
        both(L, nn_x_binary(k, NN_X_LE, s->x_lo, x0), nn_x_binary(k, NN_X_LE, nn_xi_addc(k, x0, lanes), s->x_hi));
    nn_if_begin(k, inside);
    s->guard_x = false;
    emit_vector(L, s, lanes, false);
    nn_else(k);
  }
  s->guard_x = true;
  w->is_whole = false;
  emit_vector(L, s, lanes, is_tail);
  w->is_whole = whole_rows;
  if (!is_tail) nn_end(k);
}

/* Result number i of those that no vector covers: before x_lo, or from `end` on. */
static void emit_single(nn_lower *L, state *s, nn_x *end) {
  nn_kernel *k = L->kernel;
  nn_window *w = s->w;
  bool whole_rows = w->is_whole;
  nn_x *left = nn_let(k, nn_xi_min(k, s->x_lo, s->count));
  nn_x *total = nn_let(k, nn_xi_add(k, left, nn_xi_sub(k, s->count, end)));
  nn_x *i = nn_loop_begin(k, NN_FOR, "x", nn_x_int(k, 0), total);
  nn_x *right = nn_xi_add(k, nn_xi_sub(k, i, left), end);
  w->at[1 + w->nd] = nn_let(k, nn_x_select(k, nn_x_binary(k, NN_X_LT, i, left), i, right));
  s->guard_x = true;
  w->is_whole = false;
  emit_vector(L, s, 1, false);
  w->is_whole = whole_rows;
  nn_end(k);
}

/* Vectors over the inner part of the row. Where the target can mask stores, the last one ends with it and
   leaves out what is already done. */
static nn_x *emit_inner(nn_lower *L, state *s) {
  nn_kernel *k = L->kernel;
  nn_window *w = s->w;
  nn_x *lanes = nn_x_int(k, w->lanes), *n = nn_let(k, nn_xi_max(k, nn_xi_sub(k, s->x_hi, s->x_lo), nn_x_int(k, 0)));
  bool overlaps = L->target->has_masked_memory;
  nn_x *whole = nn_xi_floordiv(k, n, lanes), *blocks = whole, *end = nn_xi_add(k, s->x_lo, nn_xi_mul(k, whole, lanes));
  if (overlaps) {
    nn_x *enough = nn_x_binary(k, NN_X_LE, lanes, n);
    blocks = nn_x_select(k, enough, nn_ceildiv_x(L, n, w->lanes), nn_x_int(k, 0));
    end = nn_x_select(k, enough, s->x_hi, nn_xi_min(k, s->x_lo, s->count));
  }
  end = nn_let(k, end);
  nn_x *b = nn_loop_begin(k, NN_FOR, "v", nn_x_int(k, 0), nn_let(k, blocks));
  nn_x *first = nn_let(k, nn_xi_add(k, s->x_lo, nn_xi_mul(k, b, lanes)));
  w->at[1 + w->nd] = overlaps ? nn_let(k, nn_xi_min(k, first, nn_xi_addc(k, s->x_hi, -w->lanes))) : first;
  w->first = overlaps ? first : NULL;
  s->guard_x = false;
  emit_vector(L, s, w->lanes, false);
  w->first = NULL;
  nn_end(k);
  return end;
}

static void emit_line(nn_lower *L, state *s) {
  const nn_window *w = s->w;
  if (w->stride[w->nd - 1] == 1 || w->lanes == 1)
    nn_block_loops(L, s->count, w->lanes, emit_block, s);
  else
    emit_single(L, s, emit_inner(L, s));
}

bool nn_window_guard_push(nn_lower *L, const nn_window *w, nn_x *x, bool is_tail) {
  nn_kernel *k = L->kernel;
  nn_x *cond = NULL;
  if (w->first) cond = nn_x_binary(k, NN_X_LE, w->first, x);
  if (is_tail) cond = both(L, cond, nn_x_binary(k, NN_X_LT, x, nn_dim_x(L, w->out[w->nd - 1])));
  if (cond) nn_guard_push(L, cond);
  return cond != NULL;
}

/* Taps of axis d that lie in the input, for the present place. */
static void tap_range(nn_lower *L, state *s, int d) {
  nn_kernel *k = L->kernel;
  const nn_window *w = s->w;
  nn_x *zero = nn_x_int(k, 0), *taps = nn_dim_x(L, w->kernel[d]);
  nn_x *shift = nn_xi_sub(k, nn_dim_x(L, w->before[d]), nn_xi_mulc(k, w->at[2 + d], w->stride[d]));
  nn_x *lo = nn_let(k, nn_ceildiv_x(L, shift, w->dilation[d]));
  nn_x *hi = nn_let(k, nn_ceildiv_x(L, nn_xi_add(k, nn_dim_x(L, w->in[d]), shift), w->dilation[d]));
  s->tap_lo[d] = nn_let(k, nn_xi_max(k, lo, zero));
  s->tap_hi[d] = nn_let(k, nn_xi_min(k, hi, taps));
  s->whole = both(L, s->whole, both(L, nn_x_binary(k, NN_X_LE, lo, zero), nn_x_binary(k, NN_X_LE, taps, hi)));
}

static void emit_row(nn_lower *L, state *s) {
  nn_kernel *k = L->kernel;
  nn_window *w = s->w;
  nn_x *whole = s->whole;
  if (whole) nn_if_begin(k, whole);
  w->is_whole = true;
  w->copies_taps = w->few_taps;
  s->whole = NULL;
  emit_line(L, s);
  s->whole = whole;
  if (!whole) return;
  nn_else(k);
  w->is_whole = w->copies_taps = false;
  emit_line(L, s);
  nn_end(k);
}

/* The results of a row whose windows lie between the left and the right border. */
static void inner_range(nn_lower *L, state *s) {
  nn_kernel *k = L->kernel;
  const nn_window *w = s->w;
  int d = w->nd - 1;
  nn_x *before = nn_dim_x(L, w->before[d]);
  nn_x *reach = nn_xi_mulc(k, nn_xi_addc(k, nn_dim_x(L, w->kernel[d]), -1), w->dilation[d]);
  nn_x *room = nn_xi_sub(k, nn_xi_add(k, nn_dim_x(L, w->in[d]), before), reach);
  s->x_lo = nn_let(k, nn_xi_max(k, nn_ceildiv_x(L, before, w->stride[d]), nn_x_int(k, 0)));
  s->x_hi = nn_let(k, nn_xi_min(k, nn_ceildiv_x(L, room, w->stride[d]), s->count));
}

/* index: half of the rows (nn_split_task's reason), image, channel. */
static void emit_half_plane(nn_lower *L, nn_x *const *index, void *data) {
  state *s = data;
  nn_kernel *k = L->kernel;
  nn_window *w = s->w;
  w->at[0] = index[1];
  w->at[1] = index[2];
  if (w->start) w->start(L, w);
  inner_range(L, s);
  s->whole = NULL;
  for (int d = 0; d + 1 < w->nd; d++) {
    nn_x *rows = nn_dim_x(L, w->out[d]), *half = nn_ceildiv_x(L, rows, 2), *first = nn_let(k, nn_xi_mul(k, index[0], half));
    bool is_cut = d == 0 && s->halves > 1;
    w->at[2 + d] = is_cut ? nn_loop_begin(k, NN_FOR, "row", first, nn_let(k, nn_xi_min(k, nn_xi_add(k, first, half), rows)))
                          : nn_loop_begin(k, NN_FOR, "row", nn_x_int(k, 0), rows);
    tap_range(L, s, d);
  }
  if (s->whole) s->whole = nn_let(k, s->whole);
  emit_row(L, s);
  for (int d = 0; d + 1 < w->nd; d++) nn_end(k);
}

static int64_t plane_cost(const nn_window *w) {
  int64_t cost = w->cost * nn_dim_guess(w->depth, 16);
  for (int d = 0; d < w->nd; d++)
    if (cost < (1 << 24)) cost *= (nn_dim_guess(w->kernel[d], 3) + 1) * (nn_dim_guess(w->out[d], 32) + 1);
  return cost;
}

/* Of some images each worker has whole ones. */
static int64_t count_halves(const nn_window *w) {
  int64_t rows;
  bool is_short = w->nd < 2 || (nn_dim_is_const(w->out[0], &rows) && rows < 2);
  return is_short || !nn_dim_is(w->rows[0], 1) ? 1 : 2;
}

static bool has_few_taps(const nn_window *w) {
  int64_t taps = 1, n = 0;
  for (int d = 0; d < w->nd; d++) {
    if (!nn_dim_is_const(w->kernel[d], &n) || n > UNROLLED_TAPS) return false;
    taps *= n;
  }
  return taps <= UNROLLED_TAPS;
}

void nn_window_emit(nn_lower *L, nn_window *w) {
  state s = {.w = w, .count = nn_dim_x(L, w->out[w->nd - 1]), .halves = count_halves(w)};
  int64_t width;
  w->few_taps = has_few_taps(w);
  if (nn_x_is_const(s.count, &width)) {
    while (w->lanes > 1 && w->lanes / 2 >= width) w->lanes /= 2;
    /* room for a vector between the borders */
    while (w->stride[w->nd - 1] > 1 && w->lanes > 1 && w->lanes > width - 2) w->lanes /= 2;
  }
  nn_dim dims[3] = {nn_dim_const(L->module, s.halves), w->rows[0], w->rows[1]};
  int64_t cost = plane_cost(w) / s.halves;
  nn_parallel_rows(L, dims, 3, cost > 0 ? cost : 1, emit_half_plane, &s);
}
