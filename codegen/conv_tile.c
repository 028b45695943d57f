/* A register tile of a convolution in blocked layout: a few places (pixels, or tiles of Winograd's form) by nv vectors of
   output channels. Each step of k loads nv vectors of weights and broadcasts one number of each place. */
#include "codegen/codegen.h"

/* Registers: nv for weights, one for a broadcast and one to spare; without fused multiply-add also a product. */
int nn_conv_tile_rows(const nn_target *t, int nv) {
  int spare = t->has_fma ? 2 : 3, rows = (t->vector_registers - nv - spare) / nv;
  return rows < 1 ? 1 : rows;
}

nn_buf *nn_conv_tile_clear(nn_lower *L, const nn_conv_tile *t, int rows) {
  return nn_tile_clear(L, NN_F32, rows * t->nv, t->lanes);
}

void nn_conv_tile_move(nn_lower *L, const nn_conv_tile *t, int rows, nn_buf *from, nn_buf *to) {
  nn_tile_move(L, rows * t->nv, t->lanes, from, to);
}

enum { LINE_ELEMENTS = 16 };

/* In the k loops 0..depth - 1, each step prefetches the same number of lines. */
static void prefetch_lines(nn_lower *L, const nn_conv_tile *t, nn_x *const *ks, int depth) {
  nn_kernel *k = L->kernel;
  int64_t steps = 1, count;
  nn_x *step = nn_x_int(k, 0);
  for (int i = 0; i < depth && nn_x_is_const(t->count[i], &count); i++) {
    step = nn_xi_add(k, nn_xi_mulc(k, step, count), ks[i]);
    steps *= count;
  }
  int64_t lines = (t->lines + steps - 1) / steps;
  nn_x *at = nn_let(k, nn_xi_add(k, t->from, nn_xi_mulc(k, step, lines * LINE_ELEMENTS)));
  for (int64_t i = 0; i < lines; i++) nn_prefetch(k, t->ahead, nn_xi_addc(k, at, i * LINE_ELEMENTS));
}

/* The innermost loop prefetches only where each of its steps has a line to fetch. */
static int prefetch_depth(const nn_conv_tile *t) {
  int64_t steps = 1, count;
  for (int i = 0; i < t->nk && nn_x_is_const(t->count[i], &count); i++) steps *= count;
  return t->nk - (t->lines < steps);
}

static void open_k_loops(nn_lower *L, const nn_conv_tile *t, nn_x **ks) {
  nn_kernel *k = L->kernel;
  int depth = t->ahead ? prefetch_depth(t) : -1;
  for (int i = 0; i <= t->nk; i++) {
    if (i == depth) prefetch_lines(L, t, ks, depth);
    if (i == t->nk) break;
    if (t->unroll_by[i] == NN_TILE_COPIED) {
      ks[i] = nn_loop_begin(k, NN_UNROLL, "k", nn_x_int(k, 0), t->count[i]);
      continue;
    }
    ks[i] = nn_loop_begin(k, NN_FOR, "k", nn_x_int(k, 0), t->count[i]);
    if (t->unroll_by[i]) nn_loop_unroll_by(k, t->unroll_by[i]);
  }
}

typedef struct k_step {
  const nn_conv_tile *t;
  nn_x *const *ks;
} k_step;

static nn_x *step_place(nn_lower *L, const void *data, nn_x *row) {
  const k_step *s = data;
  return s->t->place(L, s->t->data, row, s->ks);
}

static nn_x *step_weight(nn_lower *L, const void *data, nn_x *j) {
  const k_step *s = data;
  return s->t->weight(L, s->t->data, s->ks, j);
}

void nn_conv_tile_add(nn_lower *L, nn_conv_tile *t, int rows, nn_buf *acc) {
  nn_x *ks[NN_TILE_LOOPS];
  nn_buf *w = nn_regs(L, NN_F32, (int64_t)t->nv * t->lanes);
  k_step s = {t, ks};
  open_k_loops(L, t, ks);
  nn_tile_add(L, &(nn_tile_step){rows, t->nv, t->lanes, step_place, step_weight, &s}, w, acc);
  for (int i = 0; i < t->nk; i++) nn_end(L->kernel);
  t->ahead = NULL;
}

void nn_conv_tile_prefetch(nn_lower *L, nn_conv_tile *t, nn_buf *w, nn_x *panel, int64_t size, nn_x *pass, int64_t passes) {
  nn_kernel *k = L->kernel;
  int64_t part = (size + passes - 1) / passes;
  t->ahead = w;
  t->lines = (part + LINE_ELEMENTS - 1) / LINE_ELEMENTS;
  nn_x *next = nn_xi_mulc(k, nn_xi_addc(k, panel, 1), size);
  t->from = nn_let(k, nn_xi_add(k, next, nn_xi_mulc(k, pass, t->lines * LINE_ELEMENTS)));
}

nn_tile_cut nn_tile_cut_rows(int64_t count, int most) {
  int64_t tiles = count / most + (count % most != 0);
  return tiles ? (nn_tile_cut){tiles, count / tiles, count % tiles} : (nn_tile_cut){0, 0, 0};
}

void nn_tile_cut_loops(nn_lower *L, nn_tile_cut cut, nn_tile_body *body, void *data) {
  nn_kernel *k = L->kernel;
  if (cut.extra) {
    nn_x *i = nn_loop_range(k, NN_FOR, "tile", cut.extra);
    body(L, &(nn_tile_span){i, nn_let(k, nn_xi_mulc(k, i, cut.rows + 1)), (int)cut.rows + 1, false}, data);
    nn_end(k);
  }
  if (cut.tiles == cut.extra) return;
  nn_x *i = nn_loop_range(k, NN_FOR, "tile", cut.tiles - cut.extra);
  nn_x *first = nn_let(k, nn_xi_addc(k, nn_xi_mulc(k, i, cut.rows), cut.extra * (cut.rows + 1)));
  body(L, &(nn_tile_span){nn_xi_addc(k, i, cut.extra), first, (int)cut.rows, false}, data);
  nn_end(k);
}

/* ---- a number of places that is known while running ------------------------------------------------------------- */

/* Tiles for a rest have 1, 2, 4.. rows up to a quarter of `most`, then a half and three quarters: each at most twice the one before. */
int nn_tile_next_size(int n, int most) {
  for (int quarters = 1; quarters < 4; quarters++) {
    int size = (quarters * most + 3) / 4;
    if (size > n) return quarters == 1 && 2 * n < size ? 2 * n : size;
  }
  return most;
}

nn_x *nn_tile_size_for(nn_lower *L, nn_x *n, int most, bool has_most) {
  nn_kernel *k = L->kernel;
  nn_x *found = nn_x_int(k, 1);
  for (int s = 1, next; s < most && ((next = nn_tile_next_size(s, most)) < most || has_most); s = next)
    found = nn_x_select(k, nn_x_binary(k, NN_X_LT, nn_x_int(k, s), n), nn_x_int(k, next), found);
  return nn_let(k, found);
}

/* The largest size that n places fill. */
static nn_x *filled_size(nn_kernel *k, nn_x *n, int most) {
  nn_x *found = nn_x_int(k, 1);
  for (int s = nn_tile_next_size(1, most); s < most; s = nn_tile_next_size(s, most))
    found = nn_x_select(k, nn_x_binary(k, NN_X_LE, nn_x_int(k, s), n), nn_x_int(k, s), found);
  return nn_let(k, found);
}

static void emit_sizes(nn_lower *L, const nn_tile_span *span, nn_x *size, int most, nn_tile_body *body, void *data) {
  nn_kernel *k = L->kernel;
  int next = nn_tile_next_size(span->rows, most);
  bool is_last = next >= most;
  if (!is_last) nn_if_begin(k, nn_x_binary(k, NN_X_LE, size, nn_x_int(k, span->rows)));
  body(L, span, data);
  if (is_last) return;
  nn_else(k);
  emit_sizes(L, &(nn_tile_span){span->pass, span->first, next, true}, size, most, body, data);
  nn_end(k);
}

/* Places done..count, fewer than `most`. One tile, if there is a size that is enough and there are so many places; it then ends with the last
   place. Else a tile that the rest fills, and another one for what it leaves, which is less than it is and so begins in it at the latest. */
static void emit_rest(nn_lower *L, nn_x *whole, nn_x *done, nn_x *count, int most, nn_tile_body *body, nn_tile_finish *finish, void *data) {
  nn_kernel *k = L->kernel;
  nn_x *left = nn_let(k, nn_xi_sub(k, count, done)), *zero = nn_x_int(k, 0);
  nn_x *enough = nn_tile_size_for(L, left, most, false), *filled = filled_size(k, left, most);
  nn_x *fits = nn_x_binary(k, NN_X_AND, nn_x_binary(k, NN_X_LE, enough, count), nn_x_binary(k, NN_X_LE, left, enough));
  fits = nn_let(k, fits);
  nn_x *tiles = nn_x_select(k, fits, nn_x_int(k, 1), nn_x_int(k, 2));
  tiles = nn_x_select(k, nn_x_binary(k, NN_X_LT, zero, left), tiles, zero);
  nn_x *step = nn_loop_begin(k, NN_FOR, "rest", zero, nn_let(k, tiles)), *is_second = nn_x_binary(k, NN_X_LT, zero, step);
  nn_x *now = nn_let(k, nn_x_select(k, is_second, nn_xi_add(k, done, filled), done)); /* the first place that is not done */
  nn_x *size = nn_tile_size_for(L, nn_xi_sub(k, count, now), most, false);
  size = nn_let(k, nn_x_select(k, nn_x_binary(k, NN_X_OR, fits, is_second), size, filled));
  nn_x *first = nn_let(k, nn_xi_min(k, now, nn_xi_sub(k, count, size)));
  emit_sizes(L, &(nn_tile_span){nn_xi_add(k, whole, step), first, 1, true}, size, most, body, data);
  if (finish) finish(L, first, nn_let(k, nn_xi_sub(k, now, first)), size, data);
  nn_end(k);
}

void nn_tile_any_loops(nn_lower *L, nn_x *count, int most, nn_tile_body *body, nn_tile_finish *finish, void *data) {
  nn_kernel *k = L->kernel;
  int64_t known;
  if (nn_x_is_const(count, &known)) {
    nn_tile_cut_loops(L, nn_tile_cut_rows(known, most), body, data);
    return;
  }
  nn_x *whole = nn_let(k, nn_xi_floordiv(k, count, nn_x_int(k, most)));
  nn_x *i = nn_loop_begin(k, NN_FOR, "tile", nn_x_int(k, 0), whole);
  body(L, &(nn_tile_span){i, nn_let(k, nn_xi_mulc(k, i, most)), most, false}, data);
  nn_end(k);
  if (most > 1) emit_rest(L, whole, nn_let(k, nn_xi_mulc(k, whole, most)), count, most, body, finish, data);
}
