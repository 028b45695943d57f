/* The formulas of recurrent cells: one unit of the hidden state at one step, from the sums of the product with the
   recurrent weights and xw, the projected input. Gates stand in the order of ONNX. */
#include "codegen/rnn.h"

enum { LSTM_I, LSTM_O, LSTM_F, LSTM_C };
enum { PEEPHOLE_I, PEEPHOLE_O, PEEPHOLE_F };
enum { GRU_Z, GRU_R, GRU_H };

static nn_x *load(nn_lower *L, nn_buf *buf, nn_x *at) {
  return nn_let(L->kernel, nn_x_load(L->kernel, buf, at, nn_guard(L)));
}

nn_x *nn_rnn_state_index(nn_lower *L, const nn_rnn *rec, nn_x *base, nn_x *b, nn_x *j) {
  nn_kernel *k = L->kernel;
  nn_x *at = nn_xi_add(k, nn_xi_mul(k, b, nn_dim_x(L, rec->pitch)), j);
  return base ? nn_xi_add(k, base, at) : at;
}

static nn_x *index_of(nn_lower *L, const nn_rnn_unit *u, nn_x *base) {
  return nn_rnn_state_index(L, u->rec, base, u->b, u->j);
}

nn_x *nn_rnn_state(nn_lower *L, const nn_rnn_unit *u, int i) {
  return load(L, u->rec->state[i], index_of(L, u, i == 0 ? u->rec->h_from : NULL));
}

static nn_x *column_of(nn_lower *L, const nn_rnn_unit *u, int gate) {
  return nn_xi_add(L->kernel, nn_xi_mulc(L->kernel, nn_dim_x(L, u->rec->hidden), gate), u->j);
}

/* This gate's entry of an optional vector of all gates; NULL if there is none. */
static nn_x *gate_entry(nn_lower *L, const nn_rnn_unit *u, nn_value *vector, int gate) {
  if (!vector) return NULL;
  nn_x *column = column_of(L, u, gate);
  return nn_let(L->kernel, nn_x_cast(L->kernel, nn_read(L, vector, &column), u->rec->acc));
}

static nn_x *add(nn_lower *L, nn_x *a, nn_x *b) {
  return b ? nn_let(L->kernel, nn_x_binary(L->kernel, NN_X_ADD, a, b)) : a;
}

static nn_x *input_part(nn_lower *L, const nn_rnn_unit *u, int gate) {
  nn_kernel *k = L->kernel;
  if (u->input) return load(L, u->rec->ahead.inputs, nn_xi_add(k, u->input, nn_xi_mulc(k, u->gate_stride, gate)));
  nn_x *index[3] = {u->t, u->b, column_of(L, u, gate)};
  return nn_let(L->kernel, nn_x_cast(L->kernel, nn_read(L, u->rec->xw, index), u->rec->acc));
}

static nn_x *recurrent_part(nn_lower *L, const nn_rnn_unit *u, int gate) {
  nn_kernel *k = L->kernel;
  nn_x *at = nn_xi_add(k, u->sum, nn_xi_mulc(k, u->gate_stride, gate - u->product->first));
  return add(L, load(L, u->sums, at), gate_entry(L, u, u->rec->bias, gate));
}

static nn_x *gate_input(nn_lower *L, const nn_rnn_unit *u, int gate) {
  return add(L, input_part(L, u, gate), recurrent_part(L, u, gate));
}

/* Activation number `which` of the op, f g h of ONNX. */
static nn_x *activate(nn_lower *L, const nn_rnn_unit *u, int which, nn_x *x) {
  const char *fallback = u->rec->op->code != NN_OP_RNN && which == 0 ? "Sigmoid" : "Tanh";
  return nn_rnn_activation(L, u->rec->op, which, fallback, x);
}

static nn_x *activate_clipped(nn_lower *L, const nn_rnn_unit *u, int which, nn_x *x) {
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

static void store_state(nn_lower *L, const nn_rnn_unit *u, int i, nn_x *value) {
  nn_kernel *k = L->kernel;
  if (u->is_live) value = nn_x_select(k, u->is_live, value, nn_rnn_state(L, u, i));
  nn_store(k, u->rec->state[i], index_of(L, u, i == 0 ? u->rec->h_to : NULL), value, nn_guard(L));
}

static void give_output(nn_lower *L, const nn_rnn_unit *u, nn_x *h) {
  nn_kernel *k = L->kernel;
  nn_value *y = u->rec->y;
  nn_x *index[3] = {u->t, u->b, u->j};
  store_state(L, u, 0, h);
  if (!y) return;
  if (u->is_live) h = nn_x_select(k, u->is_live, h, nn_zero(L, h->dtype));
  nn_write(L, y, index, nn_x_cast(k, h, y->type.dtype));
}

static nn_x *lstm_gate(nn_lower *L, const nn_rnn_unit *u, int gate, int peephole, nn_x *c) {
  nn_x *x = gate_input(L, u, gate), *p = gate_entry(L, u, u->rec->peephole, peephole);
  if (p) x = nn_let(L->kernel, nn_x_fma(L->kernel, p, c, x));
  return activate_clipped(L, u, 0, x);
}

void nn_rnn_lstm(nn_lower *L, const nn_rnn_unit *u) {
  nn_x *c = nn_rnn_state(L, u, 1);
  nn_x *i = lstm_gate(L, u, LSTM_I, PEEPHOLE_I, c);
  nn_x *f = u->rec->input_forget ? one_minus(L, i) : lstm_gate(L, u, LSTM_F, PEEPHOLE_F, c);
  nn_x *g = activate_clipped(L, u, 1, gate_input(L, u, LSTM_C));
  c = mix(L, f, c, i, g);
  nn_x *o = lstm_gate(L, u, LSTM_O, PEEPHOLE_O, c);
  nn_x *h = nn_let(L->kernel, nn_x_binary(L->kernel, NN_X_MUL, o, activate(L, u, 2, c)));
  store_state(L, u, 1, c);
  give_output(L, u, h);
}

static nn_x *gru_gate(nn_lower *L, const nn_rnn_unit *u, int gate) {
  return activate_clipped(L, u, 0, gate_input(L, u, gate));
}

void nn_rnn_gru(nn_lower *L, const nn_rnn_unit *u) {
  nn_kernel *k = L->kernel;
  nn_x *z = gru_gate(L, u, GRU_Z), *r = gru_gate(L, u, GRU_R);
  nn_x *x = nn_x_fma(k, r, recurrent_part(L, u, GRU_H), input_part(L, u, GRU_H));
  nn_x *candidate = activate_clipped(L, u, 1, nn_let(k, x));
  give_output(L, u, mix(L, z, nn_rnn_state(L, u, 0), one_minus(L, z), candidate));
}

void nn_rnn_gru_gates(nn_lower *L, const nn_rnn_unit *u) {
  nn_kernel *k = L->kernel;
  nn_x *r = gru_gate(L, u, GRU_R), *at = index_of(L, u, NULL);
  nn_store(k, u->rec->mix, at, gru_gate(L, u, GRU_Z), nn_guard(L));
  nn_store(k, u->rec->reset, at, nn_x_binary(k, NN_X_MUL, r, nn_rnn_state(L, u, 0)), nn_guard(L));
}

void nn_rnn_gru_update(nn_lower *L, const nn_rnn_unit *u) {
  nn_x *z = load(L, u->rec->mix, index_of(L, u, NULL));
  nn_x *candidate = activate_clipped(L, u, 1, gate_input(L, u, GRU_H));
  give_output(L, u, mix(L, z, nn_rnn_state(L, u, 0), one_minus(L, z), candidate));
}

void nn_rnn_plain(nn_lower *L, const nn_rnn_unit *u) {
  give_output(L, u, activate_clipped(L, u, 0, gate_input(L, u, 0)));
}
