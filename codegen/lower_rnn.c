/* Recurrent cells: lstm, gru, rnn. One direction of one layer, time major; xw[T, B, gates * H] already holds
   x W^T with the biases. For each step

     sums[B, gates * H] = h R^T            register tiles, in parallel tasks
     h, c = cell(xw[t] + sums, h, c)       elements, in vectors over H

   R is packed into panels of one tile's width before the first step, so that every step streams it in order;
   for a few steps it is read as it is.
   h and c are updated in their places: the product is complete before the first element of h changes. States
   and sums are f32 (f64 for f64), and are rounded to the tensors' type only where they are given out.

   A gru whose reset gate comes before the product has two products a step: for its gates z and r, and then
   (r * h) Rh^T. Rows whose sequence is over keep their state and give 0; a reversed sequence starts at its own
   last element. */
#include "codegen/codegen.h"

enum { ROW_GAP = 16, CELL_COST = 16, FEW_STEPS = 16, FEW_ROWS = 4 };

/* One product a step: sums[b, first + n] = sum over k of a[b, k] * r[first + n, k], n < count. */
typedef struct product {
  nn_dim first, count;
  nn_buf *a;        /* [B][pitch] */
  nn_buf *packed;   /* r as [panel][k][width], 0 beyond count; NULL: r as it is */
  nn_tile tile;     /* if packed */
} product;

typedef struct recurrence recurrence;
struct recurrence {
  nn_op *op;
  nn_value *xw, *r, *lengths, *peephole, *bias; /* the last three: NULL if not given */
  nn_value *y, *last[2];    /* NULL if not used */
  nn_dtype acc;
  nn_dim time, batch, hidden, columns; /* columns: of all gates */
  bool is_reversed, input_forget, linear_before_reset;
  nn_buf *state[2];         /* h, c: [B][pitch] of type acc */
  nn_dim pitch;
  nn_buf *sums;             /* [B][columns] */
  nn_buf *reset;            /* gru: r * h, [B][pitch] */
  nn_buf *steps;            /* lengths that have been checked: i64[B] */
  nn_x *step;               /* of the time loop */
};

/* ---- the product h R^T ----------------------------------------------------------------------------------------- */

typedef struct panel {
  const recurrence *rec;
  const product *p;
  nn_x *n0, *c;     /* the panel's first column, a vector of its columns */
  bool is_partial;  /* columns beyond count are 0 */
} panel;

static int width_of(const product *p) { return p->tile.nv * p->tile.lanes; }

/* Rows of r are read along k, as they lie in memory, and stored across a square of one vector by one vector. */
static void pack_square(nn_lower *L, nn_x *k0, int lanes, bool is_tail, void *data) {
  const panel *at = data;
  const product *p = at->p;
  nn_kernel *k = L->kernel;
  nn_x *hidden = nn_dim_x(L, at->rec->hidden);
  nn_x *u = nn_loop_range(k, NN_FOR, "u", p->tile.lanes);
  nn_x *j = nn_xi_add(k, nn_xi_mulc(k, at->c, p->tile.lanes), u), *n = nn_xi_add(k, at->n0, j);
  nn_x *ki = nn_xi_add(k, k0, nn_lanes_begin(L, lanes));
  nn_x *in_row = is_tail ? nn_x_binary(k, NN_X_LT, ki, hidden) : NULL;
  nn_x *is_column = at->is_partial ? nn_x_binary(k, NN_X_LT, n, nn_dim_x(L, p->count)) : NULL;
  if (in_row) nn_guard_push(L, in_row);
  if (is_column) nn_guard_push(L, is_column);
  nn_x *index[2] = {nn_xi_add(k, nn_dim_x(L, p->first), n), ki};
  nn_x *value = nn_let(k, nn_x_cast(k, nn_read(L, at->rec->r, index), at->rec->acc));
  if (is_column) nn_guard_pop(L);
  nn_x *to = nn_xi_add(k, nn_xi_mul(k, at->n0, hidden), nn_xi_add(k, nn_xi_mulc(k, ki, width_of(p)), j));
  nn_store(k, p->packed, to, value, nn_guard(L));
  if (in_row) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
  nn_end(k);
}

static void pack_panel(nn_lower *L, const recurrence *rec, const product *p, nn_x *n0, bool is_partial) {
  nn_kernel *k = L->kernel;
  panel at = {rec, p, n0, nn_loop_range(k, NN_FOR, "c", p->tile.nv), is_partial};
  nn_block_loops(L, nn_let(k, nn_dim_x(L, rec->hidden)), p->tile.lanes, pack_square, &at);
  nn_end(k);
}

static void pack(nn_lower *L, const recurrence *rec, product *p) {
  nn_kernel *k = L->kernel;
  nn_module *m = L->module;
  nn_dim width = nn_dim_const(m, width_of(p)), npanels = nn_dim_ceildiv(m, p->count, width);
  p->packed = nn_temp(L, NN_BUF_WORKSPACE, rec->acc, nn_dim_mul(m, nn_dim_mul(m, npanels, width), rec->hidden));
  nn_x *n0 = nn_xi_mulc(k, nn_task_loop(L, false, "panel", nn_dim_x(L, npanels)), width_of(p));
  int64_t count;
  bool has_rest = !nn_dim_is_const(p->count, &count) || count % width_of(p);
  if (has_rest) nn_if_begin(k, nn_x_binary(k, NN_X_LE, nn_xi_addc(k, n0, width_of(p)), nn_dim_x(L, p->count)));
  pack_panel(L, rec, p, n0, false);
  if (has_rest) {
    nn_else(k);
    pack_panel(L, rec, p, n0, true);
    nn_end(k);
  }
  nn_end(k);
}

/* Packing costs as much as a few steps. Products of few rows read R well as it is; others would pack it for
   each step, so only a single step is better off that way. */
static bool is_worth_packing(const recurrence *rec) {
  int64_t time, batch;
  if (!nn_dim_is_const(rec->time, &time)) return true;
  return time > (nn_dim_is_const(rec->batch, &batch) && batch <= FEW_ROWS ? FEW_STEPS : 1);
}

static product new_product(nn_lower *L, const recurrence *rec, nn_buf *a, nn_dim first, nn_dim count) {
  product p = {.first = first, .count = count, .a = a};
  if (!is_worth_packing(rec)) return p;
  p.tile = nn_tile_choose(L->target, rec->acc, rec->batch, count);
  pack(L, rec, &p);
  return p;
}

typedef struct product_data { const recurrence *rec; const product *p; } product_data;

static nn_x *flat_sum(nn_lower *L, const product_data *d, nn_x *b, nn_x *n) {
  nn_kernel *k = L->kernel;
  nn_x *row = nn_xi_add(k, nn_xi_mul(k, b, nn_dim_x(L, d->rec->columns)), nn_dim_x(L, d->p->first));
  return nn_xi_add(k, row, n);
}

static nn_x *tile_a(nn_lower *L, void *data, nn_x *m, nn_x *const *ks) {
  const product_data *d = data;
  nn_kernel *k = L->kernel;
  return nn_x_load(k, d->p->a, nn_xi_add(k, nn_xi_mul(k, m, nn_dim_x(L, d->rec->pitch)), ks[0]), NULL);
}

static nn_x *tile_b(nn_lower *L, void *data, nn_x *const *ks, nn_x *n0, nn_x *j) {
  const product_data *d = data;
  nn_kernel *k = L->kernel;
  nn_x *row = nn_xi_add(k, nn_xi_mul(k, n0, nn_dim_x(L, d->rec->hidden)), nn_xi_mulc(k, ks[0], width_of(d->p)));
  return nn_x_load(k, d->p->packed, nn_xi_add(k, row, j), NULL);
}

static void tile_store(nn_lower *L, void *data, nn_x *m, nn_x *n, int lanes, bool is_tail, nn_buf *src, nn_x *at) {
  const product_data *d = data;
  nn_kernel *k = L->kernel;
  nn_x *l = nn_lanes_begin(L, lanes), *column = nn_xi_add(k, n, l);
  nn_x *mask = is_tail ? nn_x_binary(k, NN_X_LT, column, nn_dim_x(L, d->p->count)) : NULL;
  nn_store(k, d->rec->sums, flat_sum(L, d, m, column), nn_x_load(k, src, nn_xi_add(k, at, l), NULL), mask);
  nn_lanes_end(L, lanes);
}

static void multiply_packed(nn_lower *L, product_data *d) {
  const recurrence *rec = d->rec;
  nn_tiles t = {.tile = d->p->tile, .m = rec->batch, .n = d->p->count, .acc = rec->acc, .nk = 1, .kcount = {rec->hidden},
                .a = tile_a, .b = tile_b, .b_padded = true, .store = tile_store, .store_direct = true, .data = d};
  nn_tiles_emit(L, &t);
}

static nn_x *read_a(nn_lower *L, void *data, nn_x *m, nn_x *k) { return tile_a(L, data, m, &k); }

static nn_x *read_r(nn_lower *L, void *data, nn_x *k, nn_x *n) {
  const product_data *d = data;
  nn_x *index[2] = {nn_xi_add(L->kernel, nn_dim_x(L, d->p->first), n), k};
  return nn_x_cast(L->kernel, nn_read(L, d->rec->r, index), d->rec->acc);
}

static void store_sum(nn_lower *L, void *data, nn_x *m, nn_x *n, nn_x *value) {
  const product_data *d = data;
  nn_store(L->kernel, d->rec->sums, flat_sum(L, d, m, n), value, nn_guard(L));
}

static void multiply_in_place(nn_lower *L, product_data *d) {
  nn_kernel *k = L->kernel;
  const recurrence *rec = d->rec;
  nn_x *one = nn_x_int(k, 1), *hidden = nn_dim_x(L, rec->hidden);
  nn_gemm g = {.m = rec->batch, .n = d->p->count, .k = rec->hidden, .acc = rec->acc, .a = read_a, .b = read_r,
               .store = store_sum, .store_direct = true, .data = d, .a_unit_k = true};
  g.a_plain = d->p->a;
  g.a_base = nn_x_int(k, 0);
  g.a_stride_m = nn_dim_x(L, rec->pitch);
  g.a_stride_k = one;
  g.b_unit_k = nn_read_is_unit(L, rec->r, 1);
  if (nn_read_is_plain(L, rec->r, &g.b_plain)) {
    g.b_base = nn_xi_mul(k, nn_dim_x(L, d->p->first), hidden);
    g.b_stride_k = one;
    g.b_stride_n = hidden;
  }
  nn_gemm_emit(L, &g);
}

static void multiply(nn_lower *L, const recurrence *rec, const product *p) {
  product_data data = {rec, p};
  if (p->packed) multiply_packed(L, &data);
  else multiply_in_place(L, &data);
}

/* ---- one element of one step -------------------------------------------------------------------------------------- */

/* Where the loops are: a row of the batch, a unit of the hidden state. */
typedef struct unit {
  recurrence *rec;
  nn_x *b, *j;
  nn_x *t;        /* of xw and y */
  nn_x *is_live;  /* the row's sequence is not over; NULL: there are no lengths */
} unit;

static unit unit_at(nn_lower *L, recurrence *rec, nn_x *const *index) {
  nn_kernel *k = L->kernel;
  unit u = {rec, index[0], index[1], rec->step, NULL};
  nn_x *end = nn_dim_x(L, rec->time);
  if (rec->steps) {
    end = nn_let(k, nn_x_load(k, rec->steps, u.b, NULL));
    u.is_live = nn_let(k, nn_x_binary(k, NN_X_LT, rec->step, end));
  }
  if (!rec->is_reversed) return u;
  u.t = nn_let(k, nn_xi_addc(k, nn_xi_sub(k, end, rec->step), -1));
  if (u.is_live) u.t = nn_let(k, nn_x_select(k, u.is_live, u.t, rec->step));
  return u;
}

static nn_x *flat_state(nn_lower *L, const unit *u) {
  return nn_xi_add(L->kernel, nn_xi_mul(L->kernel, u->b, nn_dim_x(L, u->rec->pitch)), u->j);
}

static nn_x *load_state(nn_lower *L, const unit *u, int i) {
  return nn_let(L->kernel, nn_x_load(L->kernel, u->rec->state[i], flat_state(L, u), NULL));
}

static nn_x *column_of(nn_lower *L, const unit *u, int gate) {
  return nn_xi_add(L->kernel, nn_xi_mulc(L->kernel, nn_dim_x(L, u->rec->hidden), gate), u->j);
}

/* This gate's entry of an optional vector of all gates; NULL if there is none. */
static nn_x *gate_entry(nn_lower *L, const unit *u, nn_value *vector, int gate) {
  if (!vector) return NULL;
  nn_x *column = column_of(L, u, gate);
  return nn_let(L->kernel, nn_x_cast(L->kernel, nn_read(L, vector, &column), u->rec->acc));
}

static nn_x *add(nn_lower *L, nn_x *a, nn_x *b) {
  return b ? nn_let(L->kernel, nn_x_binary(L->kernel, NN_X_ADD, a, b)) : a;
}

static nn_x *input_part(nn_lower *L, const unit *u, int gate) {
  nn_x *index[3] = {u->t, u->b, column_of(L, u, gate)};
  return nn_let(L->kernel, nn_x_cast(L->kernel, nn_read(L, u->rec->xw, index), u->rec->acc));
}

static nn_x *recurrent_part(nn_lower *L, const unit *u, int gate) {
  nn_kernel *k = L->kernel;
  nn_x *row = nn_xi_mul(k, u->b, nn_dim_x(L, u->rec->columns));
  nn_x *sum = nn_let(k, nn_x_load(k, u->rec->sums, nn_xi_add(k, row, column_of(L, u, gate)), NULL));
  return add(L, sum, gate_entry(L, u, u->rec->bias, gate));
}

static nn_x *gate_input(nn_lower *L, const unit *u, int gate) {
  return add(L, input_part(L, u, gate), recurrent_part(L, u, gate));
}

/* Activation number `which` of the op, f g h of ONNX. */
static nn_x *activate(nn_lower *L, const unit *u, int which, nn_x *x) {
  const char *fallback = u->rec->op->code != NN_OP_RNN && which == 0 ? "Sigmoid" : "Tanh";
  return nn_rnn_activation(L, u->rec->op, which, fallback, x);
}

static nn_x *activate_clipped(nn_lower *L, const unit *u, int which, nn_x *x) {
  return activate(L, u, which, nn_rnn_clip(L, u->rec->op, x));
}

static nn_x *one_minus(nn_lower *L, nn_x *x) {
  return nn_let(L->kernel, nn_x_binary(L->kernel, NN_X_SUB, nn_x_const(L->kernel, x->dtype, 1), x));
}

/* a * b + c * d */
static nn_x *mix(nn_lower *L, nn_x *a, nn_x *b, nn_x *c, nn_x *d) {
  nn_kernel *k = L->kernel;
  return nn_let(k, nn_x_fma(k, a, b, nn_x_binary(k, NN_X_MUL, c, d)));
}

static void store_state(nn_lower *L, const unit *u, int i, nn_x *value) {
  nn_kernel *k = L->kernel;
  if (u->is_live) value = nn_x_select(k, u->is_live, value, load_state(L, u, i));
  nn_store(k, u->rec->state[i], flat_state(L, u), value, NULL);
}

static void give_output(nn_lower *L, const unit *u, nn_x *h) {
  nn_kernel *k = L->kernel;
  nn_value *y = u->rec->y;
  nn_x *index[3] = {u->t, u->b, u->j};
  store_state(L, u, 0, h);
  if (!y) return;
  if (u->is_live) h = nn_x_select(k, u->is_live, h, nn_zero(L, h->dtype));
  nn_write(L, y, index, nn_x_cast(k, h, y->type.dtype));
}

/* ---- cells ----------------------------------------------------------------------------------------------------------- */

/* Places in xw and r. */
enum { LSTM_I, LSTM_O, LSTM_F, LSTM_C, LSTM_GATES };
enum { PEEPHOLE_I, PEEPHOLE_O, PEEPHOLE_F };
enum { GRU_Z, GRU_R, GRU_H, GRU_GATES };

static nn_x *lstm_gate(nn_lower *L, const unit *u, int gate, int peephole, nn_x *c) {
  nn_x *x = gate_input(L, u, gate), *p = gate_entry(L, u, u->rec->peephole, peephole);
  if (p) x = nn_let(L->kernel, nn_x_fma(L->kernel, p, c, x));
  return activate_clipped(L, u, 0, x);
}

static void lstm_cell(nn_lower *L, nn_x *const *index, void *data) {
  unit u = unit_at(L, data, index);
  nn_x *c = load_state(L, &u, 1);
  nn_x *i = lstm_gate(L, &u, LSTM_I, PEEPHOLE_I, c);
  nn_x *f = u.rec->input_forget ? one_minus(L, i) : lstm_gate(L, &u, LSTM_F, PEEPHOLE_F, c);
  nn_x *g = activate_clipped(L, &u, 1, gate_input(L, &u, LSTM_C));
  c = mix(L, f, c, i, g);
  nn_x *o = lstm_gate(L, &u, LSTM_O, PEEPHOLE_O, c);
  nn_x *h = nn_let(L->kernel, nn_x_binary(L->kernel, NN_X_MUL, o, activate(L, &u, 2, c)));
  store_state(L, &u, 1, c);
  give_output(L, &u, h);
}

static nn_x *gru_gate(nn_lower *L, const unit *u, int gate) {
  return activate_clipped(L, u, 0, gate_input(L, u, gate));
}

static void gru_reset(nn_lower *L, nn_x *const *index, void *data) {
  nn_kernel *k = L->kernel;
  unit u = unit_at(L, data, index);
  nn_x *r = gru_gate(L, &u, GRU_R);
  nn_store(k, u.rec->reset, flat_state(L, &u), nn_x_binary(k, NN_X_MUL, r, load_state(L, &u, 0)), NULL);
}

static nn_x *gru_candidate(nn_lower *L, const unit *u) {
  nn_kernel *k = L->kernel;
  nn_x *x = input_part(L, u, GRU_H), *h = recurrent_part(L, u, GRU_H);
  if (u->rec->linear_before_reset) x = nn_let(k, nn_x_fma(k, gru_gate(L, u, GRU_R), h, x));
  else x = add(L, x, h);
  return activate_clipped(L, u, 1, x);
}

static void gru_cell(nn_lower *L, nn_x *const *index, void *data) {
  unit u = unit_at(L, data, index);
  nn_x *z = gru_gate(L, &u, GRU_Z), *candidate = gru_candidate(L, &u);
  give_output(L, &u, mix(L, z, load_state(L, &u, 0), one_minus(L, z), candidate));
}

static void rnn_cell(nn_lower *L, nn_x *const *index, void *data) {
  unit u = unit_at(L, data, index);
  give_output(L, &u, activate_clipped(L, &u, 0, gate_input(L, &u, 0)));
}

/* ---- all steps ------------------------------------------------------------------------------------------------------- */

static void over_units(nn_lower *L, recurrence *rec, int64_t cost, nn_body *body) {
  nn_dim dims[2] = {rec->batch, rec->hidden};
  nn_box_loops(L, dims, 2, nn_target_lanes(L->target, rec->acc), cost, body, rec);
}

static int nstates(const recurrence *rec) { return rec->op->code == NN_OP_LSTM ? 2 : 1; }

static void start_states(nn_lower *L, nn_x *const *index, void *data) {
  nn_kernel *k = L->kernel;
  recurrence *rec = data;
  unit u = {rec, index[0], index[1], NULL, NULL};
  for (int i = 0; i < nstates(rec); i++)
    nn_store(k, rec->state[i], flat_state(L, &u), nn_x_cast(k, nn_read(L, rec->op->in[2 + i], index), rec->acc), NULL);
}

static void give_states(nn_lower *L, nn_x *const *index, void *data) {
  recurrence *rec = data;
  unit u = {rec, index[0], index[1], NULL, NULL};
  for (int i = 0; i < nstates(rec); i++)
    if (rec->last[i])
      nn_write(L, rec->last[i], index, nn_x_cast(L->kernel, load_state(L, &u, i), rec->last[i]->type.dtype));
}

/* A length outside of 0..T is an error of the run. */
static void check_lengths(nn_lower *L, recurrence *rec) {
  nn_kernel *k = L->kernel;
  if (!rec->lengths) return;
  rec->steps = nn_temp(L, NN_BUF_WORKSPACE, NN_I64, rec->batch);
  nn_x *limit = nn_xi_addc(k, nn_dim_x(L, rec->time), 1);
  nn_x *b = nn_loop_begin(k, NN_FOR, "b", nn_x_int(k, 0), nn_dim_x(L, rec->batch));
  nn_store(k, rec->steps, b, nn_x_index(k, nn_read(L, rec->lengths, &b), limit, NULL), NULL);
  nn_end(k);
}

static nn_buf *new_state(nn_lower *L, const recurrence *rec) {
  return nn_temp(L, NN_BUF_WORKSPACE, rec->acc, nn_dim_mul(L->module, rec->batch, rec->pitch));
}

static nn_value *operand(const nn_op *op, int i) { return i < op->nin ? op->in[i] : NULL; }

static nn_value *used(nn_op *op, int i) { return nn_value_nuses(op->out[i]) ? op->out[i] : NULL; }

/* Rows of the state are a few elements apart from a power of two, or those of a tile fall into one cache set. */
static nn_dim row_pitch(nn_module *m, nn_dim batch, nn_dim hidden) {
  return nn_dim_is(batch, 1) ? hidden : nn_dim_add(m, hidden, nn_dim_const(m, ROW_GAP));
}

static void begin(nn_lower *L, nn_op *op, recurrence *rec) {
  nn_value *xw = op->in[0], *r = op->in[1];
  *rec = (recurrence){.op = op, .xw = xw, .r = r, .y = used(op, 0), .time = xw->type.dims[0],
                      .batch = xw->type.dims[1], .hidden = r->type.dims[1], .columns = xw->type.dims[2]};
  rec->acc = nn_acc_dtype(xw->type.dtype);
  rec->is_reversed = nn_attr_int(op, "reverse") != 0;
  rec->lengths = operand(op, 2 + nstates(rec));
  rec->pitch = row_pitch(L->module, rec->batch, rec->hidden);
  rec->sums = nn_temp(L, NN_BUF_WORKSPACE, rec->acc, nn_dim_mul(L->module, rec->batch, rec->columns));
  for (int i = 0; i < nstates(rec); i++) {
    rec->state[i] = new_state(L, rec);
    rec->last[i] = used(op, 1 + i);
  }
  check_lengths(L, rec);
  over_units(L, rec, 1, start_states);
}

static nn_dim gates_dim(nn_lower *L, const recurrence *rec, int count) {
  return nn_dim_mul(L->module, rec->hidden, nn_dim_const(L->module, count));
}

/* All gates in one product, then the cell. */
static void run_plain(nn_lower *L, recurrence *rec, int ngates, nn_body *cell) {
  nn_kernel *k = L->kernel;
  product p = new_product(L, rec, rec->state[0], gates_dim(L, rec, 0), gates_dim(L, rec, ngates));
  rec->step = nn_loop_begin(k, NN_FOR, "s", nn_x_int(k, 0), nn_dim_x(L, rec->time));
  multiply(L, rec, &p);
  over_units(L, rec, CELL_COST * ngates, cell);
  nn_end(k);
}

static void run_reset_first(nn_lower *L, recurrence *rec) {
  nn_kernel *k = L->kernel;
  rec->reset = new_state(L, rec);
  product gates = new_product(L, rec, rec->state[0], gates_dim(L, rec, GRU_Z), gates_dim(L, rec, 2));
  product candidate = new_product(L, rec, rec->reset, gates_dim(L, rec, GRU_H), gates_dim(L, rec, 1));
  rec->step = nn_loop_begin(k, NN_FOR, "s", nn_x_int(k, 0), nn_dim_x(L, rec->time));
  multiply(L, rec, &gates);
  over_units(L, rec, CELL_COST, gru_reset);
  multiply(L, rec, &candidate);
  over_units(L, rec, CELL_COST * 2, gru_cell);
  nn_end(k);
}

static nn_status finish(nn_lower *L, recurrence *rec) {
  if (rec->last[0] || rec->last[1]) over_units(L, rec, 1, give_states);
  return NN_OK;
}

nn_status lower_lstm(nn_lower *L, nn_op *op) {
  recurrence rec;
  begin(L, op, &rec);
  rec.peephole = operand(op, 5);
  rec.input_forget = nn_attr_int(op, "input_forget") != 0;
  run_plain(L, &rec, LSTM_GATES, lstm_cell);
  return finish(L, &rec);
}

nn_status lower_gru(nn_lower *L, nn_op *op) {
  recurrence rec;
  begin(L, op, &rec);
  rec.bias = operand(op, 4);
  rec.linear_before_reset = nn_attr_int(op, "linear_before_reset") != 0;
  if (rec.linear_before_reset) run_plain(L, &rec, GRU_GATES, gru_cell);
  else run_reset_first(L, &rec);
  return finish(L, &rec);
}

nn_status lower_rnn(nn_lower *L, nn_op *op) {
  recurrence rec;
  begin(L, op, &rec);
  run_plain(L, &rec, 1, rnn_cell);
  return finish(L, &rec);
}
