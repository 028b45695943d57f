/* Recurrent cells: lstm, gru, rnn. One direction of one layer, time major; xw[T, B, gates * H] already holds
   x W^T with the biases, or is made on the way (rnn_ahead.c). For each step

     sums[B, gates * H] = h R^T            rnn_product.c
     h, c = cell(xw[t] + sums, h, c)       rnn_cell.c, on the sums of a register tile

   States and sums are f32 (f64 for f64), and are rounded to the tensors' type only where they are given out. h is
   kept twice: a step reads one and writes the other; c, which no product reads, changes in its place.

   A gru whose reset gate comes before the product has two products a step: for its gates z and r, and then
   (r * h) Rh^T; so h changes in its place. Rows whose sequence is over keep their state and give 0; a reversed
   sequence starts at its own last element. */
#include "codegen/rnn.h"

enum { ROW_GAP = 16 };

static void over_units(nn_lower *L, nn_rnn *rec, nn_body *body) {
  nn_dim dims[2] = {rec->batch, rec->hidden};
  nn_box_loops(L, dims, 2, nn_target_lanes(L->target, rec->acc), 1, body, rec);
}

static int nstates(const nn_rnn *rec) { return rec->op->code == NN_OP_LSTM ? 2 : 1; }

static void start_states(nn_lower *L, nn_x *const *index, void *data) {
  nn_kernel *k = L->kernel;
  nn_rnn *rec = data;
  nn_x *at = nn_rnn_state_index(L, rec, NULL, index[0], index[1]);
  for (int i = 0; i < nstates(rec); i++)
    nn_store(k, rec->state[i], at, nn_x_cast(k, nn_read(L, rec->op->in[2 + i], index), rec->acc), NULL);
}

static void give_states(nn_lower *L, nn_x *const *index, void *data) {
  nn_rnn *rec = data;
  nn_rnn_unit u = {.rec = rec, .b = index[0], .j = index[1]};
  for (int i = 0; i < nstates(rec); i++)
    if (rec->last[i])
      nn_write(L, rec->last[i], index, nn_x_cast(L->kernel, nn_rnn_state(L, &u, i), rec->last[i]->type.dtype));
}

/* A length outside of 0..T is an error of the run. */
static void check_lengths(nn_lower *L, nn_rnn *rec) {
  nn_kernel *k = L->kernel;
  if (!rec->lengths) return;
  rec->steps = nn_temp(L, NN_BUF_WORKSPACE, NN_I64, rec->batch);
  nn_x *limit = nn_xi_addc(k, nn_dim_x(L, rec->time), 1);
  nn_x *b = nn_loop_begin(k, NN_FOR, "b", nn_x_int(k, 0), nn_dim_x(L, rec->batch));
  nn_store(k, rec->steps, b, nn_x_index(k, nn_read(L, rec->lengths, &b), limit, NULL), NULL);
  nn_end(k);
}

static nn_buf *new_state(nn_lower *L, const nn_rnn *rec, int copies) {
  nn_module *m = L->module;
  nn_dim count = nn_dim_mul(m, rec->batch, rec->pitch);
  return nn_temp(L, NN_BUF_WORKSPACE, rec->acc, nn_dim_mul(m, count, nn_dim_const(m, copies)));
}

static nn_value *operand(const nn_op *op, int i) { return i < op->nin ? op->in[i] : NULL; }

static nn_value *used(nn_op *op, int i) { return nn_value_nuses(op->out[i]) ? op->out[i] : NULL; }

/* Rows of the state are a few elements apart from a power of two, or those of a tile fall into one cache set. */
static nn_dim row_pitch(nn_module *m, nn_dim batch, nn_dim hidden) {
  return nn_dim_is(batch, 1) ? hidden : nn_dim_add(m, hidden, nn_dim_const(m, ROW_GAP));
}

static void begin(nn_lower *L, nn_op *op, int ngates, int copies, nn_rnn *rec) {
  nn_value *xw = op->in[0];
  *rec = (nn_rnn){.op = op,
                  .xw = xw,
                  .r = op->in[1],
                  .y = used(op, 0),
                  .time = xw->type.dims[0],
                  .batch = xw->type.dims[1],
                  .hidden = op->in[2]->type.dims[1],
                  .ngates = ngates};
  rec->acc = nn_acc_dtype(xw->type.dtype);
  nn_rnn_ahead_find(rec);
  rec->is_reversed = nn_attr_int(op, "reverse") != 0;
  rec->lengths = operand(op, 2 + nstates(rec));
  rec->pitch = row_pitch(L->module, rec->batch, rec->hidden);
  for (int i = 0; i < nstates(rec); i++) {
    rec->state[i] = new_state(L, rec, i == 0 ? copies : 1);
    rec->last[i] = used(op, 1 + i);
  }
  check_lengths(L, rec);
  over_units(L, rec, start_states);
}

/* Which of the two h a step reads: even ones the first, which is where the initial state is. */
static nn_x *copy_of_h(nn_lower *L, const nn_rnn *rec, nn_x *step) {
  nn_kernel *k = L->kernel;
  nn_x *size = nn_dim_x(L, nn_dim_mul(L->module, rec->batch, rec->pitch));
  return nn_let(k, nn_xi_mul(k, nn_xi_mod(k, step, nn_x_int(k, 2)), size));
}

/* All gates in one product. */
static void run_plain(nn_lower *L, nn_rnn *rec, nn_rnn_cell *cell) {
  nn_kernel *k = L->kernel;
  nn_rnn_choose_panels(L, rec, rec->ngates);
  nn_rnn_product p = nn_rnn_product_new(L, rec, rec->state[0], 0, rec->ngates);
  if (rec->ahead.w) nn_rnn_ahead_start(L, rec, &p);
  rec->step = nn_loop_begin(k, NN_FOR, "s", nn_x_int(k, 0), nn_dim_x(L, rec->time));
  rec->h_from = copy_of_h(L, rec, rec->step);
  rec->h_to = copy_of_h(L, rec, nn_xi_addc(k, rec->step, 1));
  nn_rnn_product_emit(L, rec, &p, cell);
  nn_end(k);
  rec->h_from = copy_of_h(L, rec, nn_dim_x(L, rec->time));
}

static void run_reset_first(nn_lower *L, nn_rnn *rec) {
  nn_kernel *k = L->kernel;
  nn_rnn_choose_panels(L, rec, 2);
  rec->reset = new_state(L, rec, 1);
  rec->mix = new_state(L, rec, 1);
  nn_rnn_product gates = nn_rnn_product_new(L, rec, rec->state[0], 0, 2);
  nn_rnn_product candidate = nn_rnn_product_new(L, rec, rec->reset, 2, 1);
  rec->step = nn_loop_begin(k, NN_FOR, "s", nn_x_int(k, 0), nn_dim_x(L, rec->time));
  nn_rnn_product_emit(L, rec, &gates, nn_rnn_gru_gates);
  nn_rnn_product_emit(L, rec, &candidate, nn_rnn_gru_update);
  nn_end(k);
}

static nn_status finish(nn_lower *L, nn_rnn *rec) {
  if (rec->last[0] || rec->last[1]) over_units(L, rec, give_states);
  return NN_OK;
}

nn_status lower_lstm(nn_lower *L, nn_op *op) {
  nn_rnn rec;
  begin(L, op, 4, 2, &rec);
  rec.peephole = operand(op, 5);
  rec.input_forget = nn_attr_int(op, "input_forget") != 0;
  run_plain(L, &rec, nn_rnn_lstm);
  return finish(L, &rec);
}

nn_status lower_gru(nn_lower *L, nn_op *op) {
  nn_rnn rec;
  bool reset_last = nn_attr_int(op, "linear_before_reset") != 0;
  begin(L, op, 3, reset_last ? 2 : 1, &rec);
  rec.bias = operand(op, 4);
  rec.linear_before_reset = reset_last;
  if (reset_last)
    run_plain(L, &rec, nn_rnn_gru);
  else
    run_reset_first(L, &rec);
  return finish(L, &rec);
}

nn_status lower_rnn(nn_lower *L, nn_op *op) {
  nn_rnn rec;
  begin(L, op, 1, 2, &rec);
  run_plain(L, &rec, nn_rnn_plain);
  return finish(L, &rec);
}
