/* Convolution along rows of the output: for each image and output channel, each row of pixels in vectors,
   the sum over taps in registers. For depthwise convolutions, where each input channel serves one output
   channel or a few, this is the best form; it also takes whatever conv_gemm.c cannot (a kernel whose size is
   known only at run time).

   The border costs nothing inside: rows whose taps all lie in the input get unrolled taps, the others loop
   over the taps that do; vectors that touch the left or right border read under a guard. */
#include "codegen/codegen.h"

enum { UNROLLED_TAPS = 49, UNROLLED_ROW = 16 };

typedef struct direct {
  const nn_conv *c;
  nn_x *image, *channel, *group;
  nn_x *place[NN_SPATIAL];                  /* of the row; the last is the vector's first */
  nn_x *tap_lo[NN_SPATIAL], *tap_hi[NN_SPATIAL]; /* taps of the row that lie in the input, by axis; not the last */
  nn_x *whole;                              /* all of them do; NULL: always */
  nn_buf *taps;                             /* weights of the channel in registers, or NULL */
  nn_buf *acc;
  int lanes;
  bool few_taps;                            /* all of them may be copied out */
  bool guard_x, unroll;                     /* of the code being emitted: border in the row; all taps of it apply */
  nn_x *count;                              /* length of a row */
  nn_x *x_lo, *x_hi;                        /* vectors in [x_lo, x_hi] are inside */
} direct;

static nn_x *both(nn_lower *L, nn_x *a, nn_x *b) { return a ? nn_x_binary(L->kernel, NN_X_AND, a, b) : b; }

/* ---- one vector ------------------------------------------------------------------------------------------ */

static nn_x *weight(nn_lower *L, const direct *t, nn_x *const *ks) {
  nn_kernel *k = L->kernel;
  const nn_conv *c = t->c;
  if (t->taps && t->unroll) {
    nn_x *at = nn_x_int(k, 0);
    for (int d = 0; d < c->nd; d++) at = nn_xi_add(k, nn_xi_mulc(k, at, c->kernel[d]), ks[1 + d]);
    return nn_x_load(k, t->taps, at, NULL);
  }
  nn_x *index[NN_MAX_RANK] = {t->channel, ks[0]};
  for (int d = 0; d < c->nd; d++) index[2 + d] = ks[1 + d];
  return nn_x_cast(k, nn_read(L, c->w, index), c->acc);
}

static nn_x *input_place(nn_lower *L, const nn_conv *c, int d, nn_x *out, nn_x *tap) {
  nn_kernel *k = L->kernel;
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, out, c->stride[d]), nn_xi_mulc(k, tap, c->dilation[d]));
  return nn_xi_sub(k, at, nn_dim_x(L, c->before[d]));
}

static void add_tap(nn_lower *L, const direct *t, int lanes, bool is_tail, nn_x *const *ks) {
  nn_kernel *k = L->kernel;
  const nn_conv *c = t->c;
  int last = c->nd - 1;
  nn_x *w = nn_let(k, weight(L, t, ks)), *index[NN_MAX_RANK] = {t->image};
  index[1] = nn_xi_add(k, nn_xi_mul(k, t->group, nn_dim_x(L, c->group_in)), ks[0]);
  for (int d = 0; d < last; d++) index[2 + d] = nn_let(k, input_place(L, c, d, t->place[d], ks[1 + d]));
  nn_x *l = nn_lanes_begin(L, lanes), *x = nn_xi_add(k, t->place[last], l);
  index[2 + last] = input_place(L, c, last, x, ks[1 + last]);
  nn_x *cond = NULL;
  if (t->guard_x) {
    cond = nn_x_binary(k, NN_X_LE, nn_x_int(k, 0), index[2 + last]);
    cond = both(L, cond, nn_x_binary(k, NN_X_LT, index[2 + last], nn_dim_x(L, c->in[last])));
  }
  if (is_tail) cond = both(L, cond, nn_x_binary(k, NN_X_LT, x, t->count));
  if (cond) nn_guard_push(L, cond);
  nn_x *value = nn_x_cast(k, nn_read(L, c->x, index), c->acc);
  if (cond) nn_guard_pop(L);
  nn_store(k, t->acc, l, nn_mul_add(L, w, value, nn_x_load(k, t->acc, l, NULL)), NULL);
  nn_lanes_end(L, lanes);
}

static void sum_taps(nn_lower *L, direct *t, int lanes, bool is_tail) {
  nn_kernel *k = L->kernel;
  const nn_conv *c = t->c;
  nn_x *ks[1 + NN_SPATIAL], *zero = nn_x_int(k, 0);
  ks[0] = nn_loop_begin(k, NN_FOR, "c", zero, nn_dim_x(L, c->group_in));
  for (int d = 0; d < c->nd; d++) {
    bool is_last = d == c->nd - 1;
    bool copied = c->static_kernel && c->kernel[d] > 0 &&
                  (t->few_taps ? t->unroll || is_last : is_last && c->kernel[d] <= UNROLLED_ROW);
    if (copied) ks[1 + d] = nn_loop_range(k, NN_UNROLL, "tap", c->kernel[d]);
    else if (is_last || t->unroll) ks[1 + d] = nn_loop_begin(k, NN_FOR, "tap", zero, nn_dim_x(L, c->kernel_dim[d]));
    else ks[1 + d] = nn_loop_begin(k, NN_FOR, "tap", t->tap_lo[d], t->tap_hi[d]);
  }
  add_tap(L, t, lanes, is_tail, ks);
  for (int d = 0; d <= c->nd; d++) nn_end(k);
}

static void emit_vector(nn_lower *L, direct *t, int lanes, bool is_tail) {
  nn_kernel *k = L->kernel;
  const nn_conv *c = t->c;
  t->acc = nn_regs(L, c->acc, lanes);
  nn_x *l = nn_lanes_begin(L, lanes);
  nn_store(k, t->acc, l, nn_zero(L, c->acc), NULL);
  nn_lanes_end(L, lanes);
  sum_taps(L, t, lanes, is_tail);
  nn_x *index[NN_MAX_RANK] = {t->image, t->channel};
  l = nn_lanes_begin(L, lanes);
  for (int d = 0; d < c->nd; d++) index[2 + d] = t->place[d];
  index[1 + c->nd] = nn_xi_add(k, index[1 + c->nd], l);
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, index[1 + c->nd], t->count));
  nn_write(L, c->y, index, nn_x_cast(k, nn_let(k, nn_x_load(k, t->acc, l, NULL)), c->y->type.dtype));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

/* ---- rows ------------------------------------------------------------------------------------------------- */

static void emit_block(nn_lower *L, nn_x *x0, int lanes, bool is_tail, void *data) {
  direct *t = data;
  nn_kernel *k = L->kernel;
  x0 = nn_let(k, x0);
  t->place[t->c->nd - 1] = x0;
  t->guard_x = true;
  if (is_tail) {
    emit_vector(L, t, lanes, is_tail);
    return;
  }
  nn_x *inside = both(L, nn_x_binary(k, NN_X_LE, t->x_lo, x0), nn_x_binary(k, NN_X_LE, nn_xi_addc(k, x0, lanes), t->x_hi));
  nn_if_begin(k, inside);
  t->guard_x = false;
  emit_vector(L, t, lanes, is_tail);
  nn_else(k);
  t->guard_x = true;
  emit_vector(L, t, lanes, is_tail);
  nn_end(k);
}

/* Taps of axis d that lie in the input, for the present place. */
static void tap_range(nn_lower *L, direct *t, int d) {
  nn_kernel *k = L->kernel;
  const nn_conv *c = t->c;
  nn_x *zero = nn_x_int(k, 0), *taps = nn_dim_x(L, c->kernel_dim[d]);
  nn_x *shift = nn_xi_sub(k, nn_dim_x(L, c->before[d]), nn_xi_mulc(k, t->place[d], c->stride[d]));
  nn_x *lo = nn_ceildiv_x(L, shift, c->dilation[d]);
  nn_x *hi = nn_ceildiv_x(L, nn_xi_add(k, nn_dim_x(L, c->in[d]), shift), c->dilation[d]);
  t->tap_lo[d] = nn_let(k, nn_xi_max(k, lo, zero));
  t->tap_hi[d] = nn_let(k, nn_xi_min(k, hi, taps));
  nn_x *all = both(L, nn_x_binary(k, NN_X_LE, lo, zero), nn_x_binary(k, NN_X_LE, taps, hi));
  t->whole = both(L, t->whole, all);
}

static void emit_row(nn_lower *L, direct *t) {
  nn_kernel *k = L->kernel;
  bool split = t->whole && t->c->static_kernel;
  t->unroll = t->c->static_kernel;
  if (split) nn_if_begin(k, t->whole);
  if (split || !t->whole) nn_block_loops(L, t->count, t->lanes, emit_block, t);
  if (split) nn_else(k);
  t->unroll = false;
  if (t->whole) nn_block_loops(L, t->count, t->lanes, emit_block, t);
  if (split) nn_end(k);
}

/* The part of a row whose taps all lie between the left and the right border. */
static void inner_range(nn_lower *L, direct *t) {
  nn_kernel *k = L->kernel;
  const nn_conv *c = t->c;
  int d = c->nd - 1;
  nn_x *before = nn_dim_x(L, c->before[d]);
  nn_x *reach = nn_xi_mulc(k, nn_xi_addc(k, nn_dim_x(L, c->kernel_dim[d]), -1), c->dilation[d]);
  nn_x *room = nn_xi_sub(k, nn_xi_add(k, nn_dim_x(L, c->in[d]), before), reach);
  t->x_lo = nn_let(k, nn_xi_max(k, nn_ceildiv_x(L, before, c->stride[d]), nn_x_int(k, 0)));
  t->x_hi = nn_let(k, nn_xi_min(k, nn_ceildiv_x(L, room, c->stride[d]), t->count));
}

static void load_taps(nn_lower *L, direct *t) {
  nn_kernel *k = L->kernel;
  const nn_conv *c = t->c;
  t->taps = NULL;
  if (!t->few_taps || !nn_dim_is(c->group_in, 1)) return;
  int64_t taps = 1;
  for (int d = 0; d < c->nd; d++) taps *= c->kernel[d];
  if (taps == 0) return;
  nn_buf *regs = nn_regs(L, c->acc, taps);
  nn_x *ks[1 + NN_SPATIAL] = {nn_x_int(k, 0)}, *at = nn_x_int(k, 0);
  for (int d = 0; d < c->nd; d++) {
    ks[1 + d] = nn_loop_range(k, NN_UNROLL, "tap", c->kernel[d]);
    at = nn_xi_add(k, nn_xi_mulc(k, at, c->kernel[d]), ks[1 + d]);
  }
  nn_store(k, regs, at, weight(L, t, ks), NULL);
  for (int d = 0; d < c->nd; d++) nn_end(k);
  t->taps = regs;
}

static void emit_plane(nn_lower *L, nn_x *const *index, void *data) {
  direct *t = data;
  nn_kernel *k = L->kernel;
  const nn_conv *c = t->c;
  t->image = index[0];
  t->channel = index[1];
  t->group = nn_let(k, nn_xi_floordiv(k, t->channel, nn_dim_x(L, c->group_out)));
  load_taps(L, t);
  inner_range(L, t);
  t->whole = NULL;
  for (int d = 0; d + 1 < c->nd; d++) {
    t->place[d] = nn_loop_begin(k, NN_FOR, "row", nn_x_int(k, 0), nn_dim_x(L, c->out[d]));
    tap_range(L, t, d);
  }
  if (t->whole) t->whole = nn_let(k, t->whole);
  emit_row(L, t);
  for (int d = 0; d + 1 < c->nd; d++) nn_end(k);
}

void nn_conv_direct(nn_lower *L, const nn_conv *c) {
  direct t = {.c = c, .lanes = nn_target_lanes(L->target, c->acc)};
  int64_t cost = 16, width, factors[] = {nn_dim_guess(c->group_in, 1), nn_dim_guess(nn_type_count(L->module, c->y->type), 1 << 12) /
                                         (nn_dim_guess(c->batch, 1) * nn_dim_guess(c->y->type.dims[1], 1) + 1) + 1};
  for (int i = 0; i < 2; i++) if (cost < (1 << 28)) cost *= factors[i];
  for (int d = 0; d < c->nd; d++) if (cost < (1 << 28)) cost *= nn_dim_guess(c->kernel_dim[d], 3);
  int64_t taps = 1;
  for (int d = 0; d < c->nd && c->static_kernel; d++) taps = taps > UNROLLED_TAPS ? taps : taps * c->kernel[d];
  t.few_taps = c->static_kernel && taps <= UNROLLED_TAPS;
  t.count = nn_dim_x(L, c->out[c->nd - 1]);
  if (nn_x_is_const(t.count, &width))
    while (t.lanes > 1 && t.lanes / 2 >= width) t.lanes /= 2;
  nn_parallel_rows(L, c->y->type.dims, 2, cost, emit_plane, &t);
}
