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

void nn_conv_tile_move(nn_lower *L, const nn_conv_tile *t, const nn_tile_span *span, nn_buf *from, nn_buf *to) {
  nn_tile_move(L, &(nn_tile_step){.rows = span->rows, .rows_now = span->rows_now, .nv = t->nv, .lanes = t->lanes}, from, to);
}

enum { LINE_ELEMENTS = 16, AHEAD_LINES = 8 }; /* AHEAD_LINES: of what later steps need, in each step of the outermost loop */

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

static void open_k_loops(nn_lower *L, const nn_conv_tile *t, const nn_tile_span *span, nn_x **ks) {
  nn_kernel *k = L->kernel;
  int depth = t->ahead ? prefetch_depth(t) : -1;
  for (int i = 0; i <= t->nk; i++) {
    if (i == depth) prefetch_lines(L, t, ks, depth);
    if (i == 1) nn_tile_ahead(L, AHEAD_LINES);
    if (i == t->nk) break;
    ks[i] = nn_loop_begin(k, t->is_copied[i] && !span->rows_now ? NN_UNROLL : NN_FOR, "k", nn_x_int(k, 0), t->count[i]);
    if (i == t->nk - 1 && !span->rows_now) nn_loop_unroll_by(k, nn_tile_unroll(span->rows * t->nv));
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

void nn_conv_tile_add(nn_lower *L, nn_conv_tile *t, const nn_tile_span *span, nn_buf *acc) {
  nn_x *ks[NN_TILE_LOOPS];
  nn_buf *w = nn_regs(L, NN_F32, (int64_t)t->nv * t->lanes);
  k_step s = {t, ks};
  open_k_loops(L, t, span, ks);
  nn_tile_add(L, &(nn_tile_step){span->rows, t->nv, t->lanes, span->rows_now, step_place, step_weight, &s}, w, acc);
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
    body(L, &(nn_tile_span){i, nn_let(k, nn_xi_mulc(k, i, cut.rows + 1)), (int)cut.rows + 1, NULL}, data);
    nn_end(k);
  }
  if (cut.tiles == cut.extra) return;
  nn_x *i = nn_loop_range(k, NN_FOR, "tile", cut.tiles - cut.extra);
  nn_x *first = nn_let(k, nn_xi_addc(k, nn_xi_mulc(k, i, cut.rows), cut.extra * (cut.rows + 1)));
  body(L, &(nn_tile_span){nn_xi_addc(k, i, cut.extra), first, (int)cut.rows, NULL}, data);
  nn_end(k);
}

void nn_tile_any_loops(nn_lower *L, nn_x *count, int most, nn_tile_body *body, void *data) {
  nn_kernel *k = L->kernel;
  int64_t known;
  if (nn_x_is_const(count, &known)) {
    nn_tile_cut_loops(L, nn_tile_cut_rows(known, most), body, data);
    return;
  }
  nn_x *whole = nn_let(k, nn_xi_floordiv(k, count, nn_x_int(k, most)));
  nn_x *i = nn_loop_begin(k, NN_FOR, "tile", nn_x_int(k, 0), whole);
  body(L, &(nn_tile_span){i, nn_let(k, nn_xi_mulc(k, i, most)), most, NULL}, data);
  nn_end(k);
  if (most < 2) return;
  nn_x *done = nn_let(k, nn_xi_mulc(k, whole, most)), *left = nn_let(k, nn_xi_sub(k, count, done));
  nn_if_begin(k, nn_x_binary(k, NN_X_LT, nn_x_int(k, 0), left));
  body(L, &(nn_tile_span){whole, done, most - 1, left}, data);
  nn_end(k);
}

void nn_write_pixel(nn_lower *L, nn_value *y, nn_x *m, nn_x *n, nn_x *value) {
  nn_kernel *k = L->kernel;
  const nn_dim *dims = y->type.dims;
  nn_x *at[3], *block = nn_x_int(k, nn_dim_value(dims[4]));
  nn_unflatten(L, nn_type_make(L->module, NN_I64, 3, (nn_dim[]){dims[0], dims[2], dims[3]}), m, at);
  nn_x *index[5] = {at[0], nn_xi_floordiv(k, n, block), at[1], at[2], nn_xi_mod(k, n, block)};
  nn_write(L, y, index, value);
}
