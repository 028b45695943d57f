/* Convolution along rows of the output: for each image and output channel, each row of pixels in vectors, the
   sum over taps in registers. For depthwise convolutions, where each input channel serves one output channel or a
   few, this is the best form; it also takes whatever conv_gemm.c cannot (a kernel whose size is known only at
   run time). */
#include "codegen/codegen.h"

typedef struct direct {
  const nn_conv *c;
  nn_x *group;
  nn_buf *taps; /* weights of the channel in registers, or NULL */
  nn_buf *acc;
} direct;

static nn_x *weight(nn_lower *L, nn_window *w, nn_x *depth, nn_x *const *tap) {
  const direct *t = w->data;
  nn_kernel *k = L->kernel;
  const nn_conv *c = t->c;
  if (t->taps && w->copies_taps) {
    nn_x *at = nn_x_int(k, 0);
    for (int d = 0; d < c->nd; d++) at = nn_xi_add(k, nn_xi_mulc(k, at, c->kernel[d]), tap[d]);
    return nn_x_load(k, t->taps, at, NULL);
  }
  nn_x *index[NN_MAX_RANK] = {w->at[1], depth};
  for (int d = 0; d < c->nd; d++) index[2 + d] = tap[d];
  return nn_x_cast(k, nn_read(L, c->w, index), c->acc);
}

/* The weights of a depthwise channel, at hand for all of its rows. */
static void load_taps(nn_lower *L, nn_window *w) {
  direct *t = w->data;
  nn_kernel *k = L->kernel;
  const nn_conv *c = t->c;
  t->taps = NULL;
  t->group = nn_let(k, nn_xi_floordiv(k, w->at[1], nn_dim_x(L, c->group_out)));
  if (!w->few_taps || !nn_dim_is(c->group_in, 1)) return;
  int64_t taps = 1;
  for (int d = 0; d < c->nd; d++) taps *= c->kernel[d];
  if (taps == 0) return;
  nn_buf *regs = nn_regs(L, c->acc, taps);
  nn_x *tap[NN_SPATIAL], *at = nn_x_int(k, 0);
  w->copies_taps = false;
  for (int d = 0; d < c->nd; d++) {
    tap[d] = nn_loop_range(k, NN_UNROLL, "tap", c->kernel[d]);
    at = nn_xi_add(k, nn_xi_mulc(k, at, c->kernel[d]), tap[d]);
  }
  nn_store(k, regs, at, weight(L, w, nn_x_int(k, 0), tap), NULL);
  for (int d = 0; d < c->nd; d++) nn_end(k);
  t->taps = regs;
}

static void open_sum(nn_lower *L, nn_window *w, int lanes) {
  direct *t = w->data;
  t->acc = nn_row_regs(L, nn_zero(L, t->c->acc), 1, lanes);
}

static void add_tap(nn_lower *L, nn_window *w, nn_x *uniform, nn_x *depth, nn_x *const *place, nn_x *l, nn_x *cond) {
  const direct *t = w->data;
  nn_kernel *k = L->kernel;
  const nn_conv *c = t->c;
  nn_x *index[NN_MAX_RANK] = {w->at[0], nn_xi_add(k, nn_xi_mul(k, t->group, nn_dim_x(L, c->group_in)), depth)};
  for (int d = 0; d < c->nd; d++) index[2 + d] = place[d];
  if (cond) nn_guard_push(L, cond);
  nn_x *value = nn_x_cast(k, nn_read(L, c->x, index), c->acc);
  if (cond) nn_guard_pop(L);
  if (cond && !nn_read_is_plain(L, c->x, NULL)) value = nn_x_select(k, cond, value, nn_zero(L, c->acc));
  nn_store(k, t->acc, l, nn_mul_add(L, uniform, value, nn_x_load(k, t->acc, l, NULL)), NULL);
}

static void close_sum(nn_lower *L, nn_window *w, int lanes, bool is_tail) {
  const direct *t = w->data;
  nn_kernel *k = L->kernel;
  nn_value *y = t->c->y;
  nn_x *index[NN_MAX_RANK], *l = nn_lanes_begin(L, lanes);
  for (int d = 0; d < 2 + w->nd; d++) index[d] = w->at[d];
  index[1 + w->nd] = nn_xi_add(k, index[1 + w->nd], l);
  bool guarded = nn_window_guard_push(L, w, index[1 + w->nd], is_tail);
  nn_write(L, y, index, nn_x_cast(k, nn_let(k, nn_x_load(k, t->acc, l, NULL)), y->type.dtype));
  if (guarded) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

void nn_conv_direct(nn_lower *L, const nn_conv *c) {
  direct t = {.c = c};
  nn_window w = {.nd = c->nd,
                 .rows = {c->y->type.dims[0], c->y->type.dims[1]},
                 .depth = c->group_in,
                 .cost = 1,
                 .data = &t,
                 .lanes = nn_target_lanes(L->target, c->acc),
                 .start = load_taps,
                 .open = open_sum,
                 .uniform = weight,
                 .tap = add_tap,
                 .close = close_sum};
  for (int d = 0; d < c->nd; d++) {
    w.kernel[d] = c->kernel_dim[d];
    w.in[d] = c->in[d];
    w.out[d] = c->out[d];
    w.before[d] = c->before[d];
    w.stride[d] = c->stride[d];
    w.dilation[d] = c->dilation[d];
  }
  nn_window_emit(L, &w);
}
