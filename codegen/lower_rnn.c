/* lstm, gru, rnn: one direction of a recurrent layer.

   Each step adds h * R^T to the projected input and computes the cell. R is packed once per call so that a tile of
   the product holds the same columns of all gates:

     packed[panel][k][gate][column], width columns a panel (whole vectors), zero beyond H

   so that the sums of all gates of some hidden units are at hand together and the cell is computed right after
   them, without going through memory. Steps follow one another; side by side run the groups of batch rows, or, if
   there is one group only and a step is long, the panels. A gru that resets before the product needs two
   products a step: the gates, then the candidate from r * h.

   Rows beyond their length keep their state and give 0. */
#include "codegen/codegen.h"

enum { PARALLEL_FLOPS = 1 << 21, MOST_GATES = 4 };

typedef struct rnn_pass rnn_pass;

typedef struct rnn {
  nn_op *op;
  nn_value *xw, *r, *h0, *c0, *lengths, *peephole, *bias;
  nn_value *y, *h_out, *c_out;      /* NULL: unused */
  nn_dtype acc;
  nn_dim time, batch, hidden;
  nn_x *time_x, *batch_x, *hidden_x;
  int lanes, nv, rows;              /* vectors of a panel for one gate; batch rows of a tile */
  nn_buf *h, *c;                    /* states [2][batch][hidden] by parity of the step, [batch][hidden] */
  nn_buf *z, *reset_h;              /* gru: update gate and r * h, [batch][hidden] */
  nn_buf *stage;                    /* sums [row][gate][column] */
  nn_x *step, *step_base, *next_base; /* the step, and where its states and the next one's are in h */
  nn_x *group;                      /* first batch row of the tile */
} rnn;

struct rnn_pass {
  int first, count;                 /* gates */
  nn_buf *packed;
  bool from_reset;                  /* multiplies reset_h rather than h */
  void (*cell)(nn_lower *L, rnn *t, const rnn_pass *p, nn_x *b, nn_x *j, nn_x **sums);
};

static nn_x *binary(nn_lower *L, nn_xop op, nn_x *a, nn_x *b) { return nn_x_binary(L->kernel, op, a, b); }

static nn_x *state_at(nn_lower *L, const rnn *t, nn_x *b, nn_x *j) {
  return nn_xi_add(L->kernel, nn_xi_mul(L->kernel, b, t->hidden_x), j);
}

/* ---- packing ------------------------------------------------------------------------------------------------------- */

static int width_of(const rnn *t) { return t->lanes * t->nv; }

/* Row k of a panel: the elements R[gate*H + j, k]. */
static void pack_row(nn_lower *L, const rnn *t, const rnn_pass *p, nn_x *panel, nn_x *ki) {
  nn_kernel *k = L->kernel;
  int64_t hidden;
  int width = width_of(t);
  bool even = nn_dim_is_const(t->hidden, &hidden) && hidden % width == 0;
  nn_x *gate = nn_loop_range(k, NN_UNROLL, "gate", p->count), *c = nn_loop_range(k, NN_UNROLL, "c", t->nv);
  nn_x *l = nn_lanes_begin(L, t->lanes), *column = nn_xi_add(k, nn_xi_mulc(k, c, t->lanes), l);
  nn_x *j = nn_xi_add(k, nn_xi_mulc(k, panel, width), column);
  nn_x *row = nn_xi_add(k, nn_xi_mul(k, nn_xi_addc(k, gate, p->first), t->hidden_x), j);
  if (!even) nn_guard_push(L, binary(L, NN_X_LT, j, t->hidden_x));
  nn_x *index[2] = {row, ki}, *value = nn_x_cast(k, nn_read(L, t->r, index), t->acc);
  if (!even) nn_guard_pop(L);
  if (!even && !nn_read_is_plain(L, t->r, NULL)) value = nn_x_select(k, binary(L, NN_X_LT, j, t->hidden_x), value, nn_zero(L, t->acc));
  nn_x *at = nn_xi_add(k, nn_xi_mul(k, panel, t->hidden_x), ki);
  at = nn_xi_add(k, nn_xi_mulc(k, at, p->count), gate);
  nn_store(k, p->packed, nn_xi_add(k, nn_xi_mulc(k, at, width), column), value, NULL);
  nn_lanes_end(L, t->lanes);
  nn_end(k);
  nn_end(k);
}

static void pack_panel(nn_lower *L, nn_x *const *index, void *data) {
  void **both = data;
  nn_kernel *k = L->kernel;
  const rnn *t = both[0];
  nn_x *ki = nn_loop_begin(k, NN_FOR, "k", nn_x_int(k, 0), t->hidden_x);
  pack_row(L, t, both[1], index[0], ki);
  nn_end(k);
}

static nn_dim panels_of(nn_lower *L, const rnn *t) { return nn_dim_ceildiv(L->module, t->hidden, nn_dim_const(L->module, width_of(t))); }

static void pack_gates(nn_lower *L, rnn *t, rnn_pass *p) {
  nn_module *m = L->module;
  nn_dim panels = panels_of(L, t);
  nn_dim size = nn_dim_mul(m, nn_dim_mul(m, panels, t->hidden), nn_dim_const(m, (int64_t)p->count * width_of(t)));
  p->packed = nn_temp(L, NN_BUF_WORKSPACE, t->acc, size);
  void *both[2] = {t, p};
  nn_parallel_rows(L, &panels, 1, nn_dim_guess(t->hidden, 128) * p->count * width_of(t) + 1, pack_panel, both);
}

/* ---- the product ----------------------------------------------------------------------------------------------------- */

/* Row r of the group; surplus rows repeat the last. */
static nn_x *batch_row(nn_lower *L, const rnn *t, nn_x *r) {
  nn_kernel *k = L->kernel;
  int64_t batch;
  nn_x *b = nn_xi_add(k, t->group, r);
  if (nn_dim_is_const(t->batch, &batch) && batch % t->rows == 0) return b;
  return nn_xi_min(k, b, nn_xi_addc(k, t->batch_x, -1));
}

static void multiply(nn_lower *L, const rnn *t, const rnn_pass *p, nn_x *panel) {
  nn_kernel *k = L->kernel;
  int vectors = p->count * t->nv, lanes = t->lanes;
  nn_buf *acc = nn_row_regs(L, nn_zero(L, t->acc), t->rows * vectors, lanes), *b = nn_regs(L, t->acc, (int64_t)vectors * lanes);
  nn_x *first = nn_let(k, nn_xi_mul(k, nn_xi_mul(k, panel, t->hidden_x), nn_x_int(k, (int64_t)vectors * lanes)));
  nn_x *ki = nn_loop_begin(k, NN_FOR, "k", nn_x_int(k, 0), t->hidden_x);
  nn_loop_unroll_by(k, 4);
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", vectors), *l = nn_lanes_begin(L, lanes);
  nn_x *column = nn_xi_add(k, nn_xi_mulc(k, c, lanes), l);
  nn_x *from = nn_xi_add(k, first, nn_xi_add(k, nn_xi_mulc(k, ki, (int64_t)vectors * lanes), column));
  nn_store(k, b, column, nn_x_load(k, p->packed, from, NULL), NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
  nn_x *r = nn_loop_range(k, NN_UNROLL, "r", t->rows);
  nn_x *at = state_at(L, t, batch_row(L, t, r), ki);
  nn_x *a = nn_let(k, nn_x_load(k, p->from_reset ? t->reset_h : t->h, p->from_reset ? at : nn_xi_add(k, t->step_base, at), NULL));
  c = nn_loop_range(k, NN_UNROLL, "c", vectors);
  l = nn_lanes_begin(L, lanes);
  nn_x *sum = nn_xi_add(k, nn_xi_mulc(k, nn_xi_add(k, nn_xi_mulc(k, r, vectors), c), lanes), l);
  nn_x *bv = nn_x_load(k, b, nn_xi_add(k, nn_xi_mulc(k, c, lanes), l), NULL);
  nn_store(k, acc, sum, nn_mul_add(L, a, bv, nn_x_load(k, acc, sum, NULL)), NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
  nn_end(k);
  nn_end(k);
  nn_x *i = nn_loop_range(k, NN_UNROLL, "i", t->rows * vectors);
  l = nn_lanes_begin(L, lanes);
  at = nn_xi_add(k, nn_xi_mulc(k, i, lanes), l);
  nn_store(k, t->stage, at, nn_x_load(k, acc, at, NULL), NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
}

/* ---- one step ----------------------------------------------------------------------------------------------------------- */

static void cells(nn_lower *L, rnn *t, const rnn_pass *p, nn_x *panel) {
  nn_kernel *k = L->kernel;
  int64_t hidden;
  int width = width_of(t);
  bool even = nn_dim_is_const(t->hidden, &hidden) && hidden % width == 0;
  nn_x *rows = nn_let(k, nn_xi_min(k, nn_x_int(k, t->rows), nn_xi_sub(k, t->batch_x, t->group)));
  nn_x *r = nn_loop_begin(k, NN_FOR, "r", nn_x_int(k, 0), rows), *b = nn_let(k, nn_xi_add(k, t->group, r));
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", t->nv), *l = nn_lanes_begin(L, t->lanes);
  nn_x *column = nn_xi_add(k, nn_xi_mulc(k, c, t->lanes), l), *j = nn_xi_add(k, nn_xi_mulc(k, panel, width), column);
  nn_x *sums[MOST_GATES], *row = nn_xi_mulc(k, r, (int64_t)p->count * width);
  for (int g = 0; g < p->count; g++)
    sums[g] = nn_let(k, nn_x_load(k, t->stage, nn_xi_add(k, nn_xi_addc(k, row, (int64_t)g * width), column), NULL));
  if (!even) nn_guard_push(L, binary(L, NN_X_LT, j, t->hidden_x));
  p->cell(L, t, p, b, j, sums);
  if (!even) nn_guard_pop(L);
  nn_lanes_end(L, t->lanes);
  nn_end(k);
  nn_end(k);
}

static void run_pass(nn_lower *L, rnn *t, const rnn_pass *p, bool in_parallel) {
  nn_kernel *k = L->kernel;
  nn_x *panel = nn_task_loop(L, in_parallel, "panel", nn_dim_x(L, panels_of(L, t)));
  multiply(L, t, p, panel);
  cells(L, t, p, panel);
  nn_end(k);
}

/* The length of a row, within the steps there are; NULL: all. */
static nn_x *length_of(nn_lower *L, const rnn *t, nn_x *b) {
  nn_kernel *k = L->kernel;
  if (!t->lengths) return NULL;
  return nn_let(k, nn_xi_max(k, nn_xi_min(k, nn_read(L, t->lengths, &b), t->time_x), nn_x_int(k, 0)));
}

/* Time index of the present step of row b: from the end of the row if reversed. */
static nn_x *time_of(nn_lower *L, const rnn *t, nn_x *b) {
  nn_kernel *k = L->kernel;
  if (!nn_attr_int(t->op, "reverse")) return t->step;
  nn_x *length = length_of(L, t, b), *end = length ? length : t->time_x;
  nn_x *mirrored = nn_xi_sub(k, nn_xi_addc(k, end, -1), t->step);
  return nn_let(k, length ? nn_x_select(k, binary(L, NN_X_LT, t->step, length), mirrored, t->step) : mirrored);
}

/* Whether the row still runs; NULL: always. */
static nn_x *is_running(nn_lower *L, const rnn *t, nn_x *b) {
  nn_x *length = length_of(L, t, b);
  return length ? nn_let(L->kernel, binary(L, NN_X_LT, t->step, length)) : NULL;
}

static nn_x *load_state(nn_lower *L, nn_buf *buf, nn_x *at) { return nn_let(L->kernel, nn_x_load(L->kernel, buf, at, nn_guard(L))); }

/* Input of gate g before its activation. */
static nn_x *input_of(nn_lower *L, const rnn *t, nn_x *b, int g, nn_x *j) {
  nn_kernel *k = L->kernel;
  nn_x *index[3] = {time_of(L, t, b), b, nn_xi_add(k, nn_xi_mulc(k, t->hidden_x, g), j)};
  return nn_x_cast(k, nn_read(L, t->xw, index), t->acc);
}

/* Entry of gate g in a vector of gates*H, or 0. */
static nn_x *gate_vector(nn_lower *L, const rnn *t, nn_value *v, int g, nn_x *j) {
  nn_x *index = nn_xi_add(L->kernel, nn_xi_mulc(L->kernel, t->hidden_x, g), j);
  return nn_x_cast(L->kernel, nn_read(L, v, &index), t->acc);
}

static nn_x *gate(nn_lower *L, const rnn *t, int activation, const char *fallback, nn_x *x) {
  return nn_rnn_activation(L, t->op, activation, fallback, nn_rnn_clip(L, t->op, x));
}

/* The new hidden state of the row: stored, and given as y. */
static void give_h(nn_lower *L, const rnn *t, nn_x *b, nn_x *j, nn_x *h, nn_x *old) {
  nn_kernel *k = L->kernel;
  nn_x *running = is_running(L, t, b), *y = h;
  if (running) {
    y = nn_x_select(k, running, h, nn_zero(L, t->acc));
    h = nn_x_select(k, running, h, old);
  }
  nn_store(k, t->h, nn_xi_add(k, t->next_base, state_at(L, t, b, j)), h, nn_guard(L));
  nn_x *index[3] = {time_of(L, t, b), b, j};
  if (t->y) nn_write(L, t->y, index, nn_x_cast(k, y, t->y->type.dtype));
}

/* ---- the cells ------------------------------------------------------------------------------------------------------------ */

static nn_x *old_h(nn_lower *L, const rnn *t, nn_x *b, nn_x *j) {
  return load_state(L, t->h, nn_xi_add(L->kernel, t->step_base, state_at(L, t, b, j)));
}

static nn_x *with_peephole(nn_lower *L, const rnn *t, nn_x *x, int which, nn_x *j, nn_x *c) {
  return t->peephole ? nn_mul_add(L, gate_vector(L, t, t->peephole, which, j), c, x) : x;
}

static void lstm_cell(nn_lower *L, rnn *t, const rnn_pass *p, nn_x *b, nn_x *j, nn_x **sums) {
  enum { I, O, F, C };
  nn_kernel *k = L->kernel;
  nn_x *x[4], *at = state_at(L, t, b, j), *c = load_state(L, t->c, at), *one = nn_x_const(k, t->acc, 1);
  (void)p;
  for (int g = 0; g < 4; g++) x[g] = binary(L, NN_X_ADD, sums[g], input_of(L, t, b, g, j));
  nn_x *i = gate(L, t, 0, "Sigmoid", with_peephole(L, t, x[I], 0, j, c)), *f;
  if (nn_attr_int(t->op, "input_forget")) f = binary(L, NN_X_SUB, one, i);
  else f = gate(L, t, 0, "Sigmoid", with_peephole(L, t, x[F], 2, j, c));
  nn_x *candidate = gate(L, t, 1, "Tanh", x[C]);
  nn_x *new_c = nn_let(k, nn_mul_add(L, f, c, binary(L, NN_X_MUL, i, candidate)));
  nn_x *o = gate(L, t, 0, "Sigmoid", with_peephole(L, t, x[O], 1, j, new_c));
  nn_x *h = nn_let(k, binary(L, NN_X_MUL, o, gate(L, t, 2, "Tanh", new_c)));
  nn_x *running = is_running(L, t, b);
  nn_store(k, t->c, at, running ? nn_x_select(k, running, new_c, c) : new_c, nn_guard(L));
  give_h(L, t, b, j, h, old_h(L, t, b, j));
}

static void rnn_cell(nn_lower *L, rnn *t, const rnn_pass *p, nn_x *b, nn_x *j, nn_x **sums) {
  (void)p;
  nn_x *h = gate(L, t, 0, "Tanh", binary(L, NN_X_ADD, sums[0], input_of(L, t, b, 0, j)));
  give_h(L, t, b, j, h, old_h(L, t, b, j));
}

/* (1 - z) * candidate + z * h */
static void gru_give(nn_lower *L, const rnn *t, nn_x *b, nn_x *j, nn_x *z, nn_x *candidate) {
  nn_x *one = nn_x_const(L->kernel, t->acc, 1), *h = old_h(L, t, b, j);
  nn_x *kept = binary(L, NN_X_MUL, z, h);
  give_h(L, t, b, j, nn_let(L->kernel, nn_mul_add(L, binary(L, NN_X_SUB, one, z), candidate, kept)), h);
}

static nn_x *with_bias(nn_lower *L, const rnn *t, nn_x *sum, int g, nn_x *j) {
  return t->bias ? binary(L, NN_X_ADD, sum, gate_vector(L, t, t->bias, g, j)) : sum;
}

/* linear_before_reset: all gates at once. */
static void gru_cell(nn_lower *L, rnn *t, const rnn_pass *p, nn_x *b, nn_x *j, nn_x **sums) {
  enum { Z, R, H };
  (void)p;
  nn_x *z = gate(L, t, 0, "Sigmoid", binary(L, NN_X_ADD, with_bias(L, t, sums[Z], Z, j), input_of(L, t, b, Z, j)));
  nn_x *r = gate(L, t, 0, "Sigmoid", binary(L, NN_X_ADD, with_bias(L, t, sums[R], R, j), input_of(L, t, b, R, j)));
  nn_x *x = nn_mul_add(L, r, with_bias(L, t, sums[H], H, j), input_of(L, t, b, H, j));
  gru_give(L, t, b, j, z, gate(L, t, 1, "Tanh", x));
}

static void gru_gates(nn_lower *L, rnn *t, const rnn_pass *p, nn_x *b, nn_x *j, nn_x **sums) {
  enum { Z, R };
  nn_kernel *k = L->kernel;
  nn_x *at = state_at(L, t, b, j);
  (void)p;
  nn_x *z = gate(L, t, 0, "Sigmoid", binary(L, NN_X_ADD, with_bias(L, t, sums[Z], Z, j), input_of(L, t, b, Z, j)));
  nn_x *r = gate(L, t, 0, "Sigmoid", binary(L, NN_X_ADD, with_bias(L, t, sums[R], R, j), input_of(L, t, b, R, j)));
  nn_store(k, t->z, at, z, nn_guard(L));
  nn_store(k, t->reset_h, at, binary(L, NN_X_MUL, r, old_h(L, t, b, j)), nn_guard(L));
}

static void gru_candidate(nn_lower *L, rnn *t, const rnn_pass *p, nn_x *b, nn_x *j, nn_x **sums) {
  (void)p;
  nn_x *x = binary(L, NN_X_ADD, with_bias(L, t, sums[0], 2, j), input_of(L, t, b, 2, j));
  nn_x *candidate = gate(L, t, 1, "Tanh", x);
  gru_give(L, t, b, j, load_state(L, t->z, state_at(L, t, b, j)), candidate);
}

/* ---- the whole -------------------------------------------------------------------------------------------------------------- */

static void load_initial(nn_lower *L, nn_x *const *index, void *data) {
  const rnn *t = data;
  nn_kernel *k = L->kernel;
  nn_x *at = state_at(L, t, index[0], index[1]);
  nn_store(k, t->h, at, nn_x_cast(k, nn_read(L, t->h0, index), t->acc), nn_guard(L));
  if (t->c) nn_store(k, t->c, at, nn_x_cast(k, nn_read(L, t->c0, index), t->acc), nn_guard(L));
}

static void give_final(nn_lower *L, nn_x *const *index, void *data) {
  const rnn *t = data;
  nn_kernel *k = L->kernel;
  nn_x *at = state_at(L, t, index[0], index[1]);
  nn_x *base = nn_xi_mul(k, nn_xi_mod(k, t->time_x, nn_x_int(k, 2)), nn_xi_mul(k, t->batch_x, t->hidden_x));
  if (t->h_out) nn_write(L, t->h_out, index, nn_x_cast(k, load_state(L, t->h, nn_xi_add(k, base, at)), t->h_out->type.dtype));
  if (t->c_out) nn_write(L, t->c_out, index, nn_x_cast(k, load_state(L, t->c, at), t->c_out->type.dtype));
}

static void run_steps(nn_lower *L, rnn *t, const rnn_pass *passes, int npasses, bool in_parallel) {
  nn_kernel *k = L->kernel;
  nn_x *two = nn_x_int(k, 2), *size = nn_xi_mul(k, t->batch_x, t->hidden_x);
  t->step = nn_loop_begin(k, NN_FOR, "step", nn_x_int(k, 0), t->time_x);
  t->step_base = nn_let(k, nn_xi_mul(k, nn_xi_mod(k, t->step, two), size));
  t->next_base = nn_let(k, nn_xi_sub(k, size, t->step_base));
  for (int i = 0; i < npasses; i++) run_pass(L, t, &passes[i], in_parallel);
  nn_end(k);
}

static void run_groups(nn_lower *L, rnn *t, const rnn_pass *passes, int npasses) {
  nn_kernel *k = L->kernel;
  int64_t batch, flops = 2, factors[] = {nn_dim_guess(t->hidden, 64), nn_dim_guess(t->hidden, 64), nn_dim_guess(t->batch, 1), MOST_GATES};
  for (int i = 0; i < 4; i++) if (flops < PARALLEL_FLOPS) flops *= factors[i];
  bool single = nn_dim_is_const(t->batch, &batch) && batch <= t->rows;
  nn_x *group = nn_task_loop(L, false, "group", nn_ceildiv_x(L, t->batch_x, t->rows));
  t->group = nn_let(k, nn_xi_mulc(k, group, t->rows));
  run_steps(L, t, passes, npasses, !single || flops < PARALLEL_FLOPS);
  nn_end(k);
}

/* Tile sizes: as many accumulators as registers allow, over batch rows first. */
static void set_tile(nn_lower *L, rnn *t, int ngates) {
  int room = L->target->vector_registers * 3 / 4 / ngates;
  int64_t batch, hidden;
  t->lanes = nn_target_lanes(L->target, t->acc);
  if (nn_dim_is_const(t->hidden, &hidden))
    while (t->lanes > 1 && t->lanes / 2 >= hidden) t->lanes /= 2;
  t->rows = room < 1 ? 1 : room;
  if (nn_dim_is_const(t->batch, &batch) && batch < t->rows) t->rows = batch < 1 ? 1 : (int)batch;
  t->nv = room / t->rows < 1 ? 1 : room / t->rows > 4 ? 4 : room / t->rows;
  if (!nn_dim_is_const(t->hidden, &hidden)) return;
  while (t->nv > 1 && (t->nv - 1) * (int64_t)t->lanes >= hidden) t->nv--;
  while (t->nv > 1 && hidden % t->lanes == 0 && hidden % ((int64_t)t->nv * t->lanes)) t->nv--;
}

static nn_value *used(nn_op *op, int i) { return nn_value_nuses(op->out[i]) ? op->out[i] : NULL; }

static nn_value *optional(nn_op *op, int i) { return i < op->nin ? op->in[i] : NULL; }

static rnn make_rnn(nn_lower *L, nn_op *op, int ngates, bool has_c) {
  nn_module *m = L->module;
  nn_kernel *k = L->kernel;
  rnn t = {.op = op, .xw = op->in[0], .r = op->in[1], .h0 = op->in[2]};
  t.acc = nn_acc_dtype(t.xw->type.dtype);
  t.time = t.xw->type.dims[0];
  t.batch = t.xw->type.dims[1];
  t.hidden = t.r->type.dims[1];
  t.time_x = nn_let(k, nn_dim_x(L, t.time));
  t.batch_x = nn_let(k, nn_dim_x(L, t.batch));
  t.hidden_x = nn_let(k, nn_dim_x(L, t.hidden));
  t.y = used(op, 0);
  t.h_out = used(op, 1);
  t.lengths = optional(op, has_c ? 4 : 3);
  set_tile(L, &t, ngates);
  nn_dim states = nn_dim_mul(m, t.batch, t.hidden);
  t.h = nn_temp(L, NN_BUF_WORKSPACE, t.acc, nn_dim_mul(m, states, nn_dim_const(m, 2)));
  if (has_c) t.c = nn_temp(L, NN_BUF_WORKSPACE, t.acc, states);
  t.stage = nn_temp(L, NN_BUF_WORKER, t.acc, nn_dim_const(m, (int64_t)t.rows * ngates * width_of(&t)));
  return t;
}

static nn_status run(nn_lower *L, rnn *t, rnn_pass *passes, int npasses) {
  const nn_dim dims[2] = {t->batch, t->hidden};
  int lanes = nn_target_lanes(L->target, t->acc);
  for (int i = 0; i < npasses; i++) pack_gates(L, t, &passes[i]);
  nn_box_loops(L, dims, 2, lanes, 1, load_initial, t);
  run_groups(L, t, passes, npasses);
  if (t->h_out || t->c_out) nn_box_loops(L, dims, 2, lanes, 1, give_final, t);
  return NN_OK;
}

nn_status lower_lstm(nn_lower *L, nn_op *op) {
  rnn t = make_rnn(L, op, 4, true);
  rnn_pass pass = {0, 4, NULL, false, lstm_cell};
  t.c0 = op->in[3];
  t.c_out = used(op, 2);
  t.peephole = optional(op, 5);
  return run(L, &t, &pass, 1);
}

nn_status lower_gru(nn_lower *L, nn_op *op) {
  nn_module *m = L->module;
  bool linear = nn_attr_int(op, "linear_before_reset") != 0;
  rnn t = make_rnn(L, op, linear ? 3 : 2, false);
  rnn_pass all = {0, 3, NULL, false, gru_cell};
  rnn_pass two[2] = {{0, 2, NULL, false, gru_gates}, {2, 1, NULL, true, gru_candidate}};
  t.bias = optional(op, 4);
  if (linear) return run(L, &t, &all, 1);
  t.z = nn_temp(L, NN_BUF_WORKSPACE, t.acc, nn_dim_mul(m, t.batch, t.hidden));
  t.reset_h = nn_temp(L, NN_BUF_WORKSPACE, t.acc, nn_dim_mul(m, t.batch, t.hidden));
  return run(L, &t, two, 2);
}

nn_status lower_rnn(nn_lower *L, nn_op *op) {
  rnn t = make_rnn(L, op, 1, false);
  rnn_pass pass = {0, 1, NULL, false, rnn_cell};
  return run(L, &t, &pass, 1);
}
