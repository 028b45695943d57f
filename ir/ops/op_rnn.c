/* Shape rules of recurrent layers: one direction, time major, xw[T, B, gates * H] holds the input
   projection. y[T, B, H] and the last states [B, H]. Recurrent weights are a matrix r[gates * H, H], or stand in the
   order in which codegen/rnn_product.c reads them. With weights for the input, too, the layer projects x[T, 1, I]
   itself (codegen/rnn_ahead.c). */
#include "ir/ir.h"

typedef struct cell {
  int ngates;
  int nactivations;
  int nstates; /* operands 2.. and results 1..: h, c */
  int lengths; /* operand of the sequence lengths */
} cell;

static nn_status check_activations(nn_op *op, int nactivations) {
  static const char *const names[] = {"Sigmoid",    "Tanh",        "Relu", "Affine",   "LeakyRelu", "ThresholdedRelu",
                                      "ScaledTanh", "HardSigmoid", "Elu",  "Softsign", "Softplus",  NULL};
  static const char *const parameters[] = {"alpha", "beta"};
  if (nn_op_attr(op, "activations")->count) NN_TRY(nn_need_count(op, "activations", nactivations));
  for (int i = 0; i < 2; i++) {
    int count = nn_op_attr(op, parameters[i])->count;
    if (count > nactivations) {
      return nn_fail(op, "%s has %d entries, expected at most %d", parameters[i], count, nactivations);
    }
  }
  if (!(nn_attr_float(op, "clip") >= 0))
    return nn_fail(op, "clip is %g, expected 0 or more", nn_attr_float(op, "clip"));
  NN_TRY(nn_need_range(op, "reverse", 0, 1));
  return nn_need_one_of(op, "activations", names);
}

/* Operand i has xw's type and these dims. */
static nn_status check_operand(nn_op *op, int i, int rank, const nn_dim *dims) {
  NN_TRY(nn_need_same_dtype(op, 0, i));
  NN_TRY(nn_need_rank(op, i, rank, rank));
  for (int d = 0; d < rank; d++) NN_TRY(nn_need_dim(op, i, d, dims[d]));
  return NN_OK;
}

static nn_status check_lengths(nn_op *op, int i, nn_dim batch) {
  if (i >= op->nin || !op->in[i]) return NN_OK;
  NN_TRY(nn_need_dtype(op, i, NN_I64));
  NN_TRY(nn_need_rank(op, i, 1, 1));
  return nn_need_dim(op, i, 0, batch);
}

/* Panels [ceil(H / W), gates * H, W]. */
static nn_status check_panels(nn_op *op, nn_dim gates, nn_dim hidden) {
  nn_module *m = op->graph->module;
  nn_type r = op->in[1]->type;
  int64_t width;
  if (!nn_dim_is_const(r.dims[2], &width) || width < 1)
    return nn_fail(op, "found panels of %s units, expected a number, at least 1", nn_dim_text(m->arena, r.dims[2]));
  nn_dim dims[3] = {nn_dim_ceildiv(m, hidden, r.dims[2]), gates, r.dims[2]};
  return check_operand(op, 1, 3, dims);
}

static nn_status check_weights(nn_op *op, nn_dim gates, nn_dim hidden) {
  NN_TRY(nn_need_rank(op, 1, 2, 3));
  nn_dim dims[2] = {gates, hidden};
  return op->in[1]->type.rank == 3 ? check_panels(op, gates, hidden) : check_operand(op, 1, 2, dims);
}

int nn_projected_operand(nn_opcode code) { return code == NN_OP_LSTM ? 6 : code == NN_OP_GRU ? 5 : 4; }

static nn_value *operand(const nn_op *op, int i) { return i < op->nin ? op->in[i] : NULL; }

/* What codegen/rnn_ahead.c is made for: whole panels of whole columns, one row, steps enough for its blocks. */
static nn_status check_projection(nn_op *op, const cell *c, nn_dim gates) {
  nn_module *m = op->graph->module;
  int at = nn_projected_operand(op->code);
  nn_type x = op->in[0]->type, r = op->in[1]->type;
  int64_t time, units, width, lanes, depth;
  NN_TRY(nn_need_rank(op, at, 3, 3));
  if (x.dtype != NN_F32 && x.dtype != NN_F64)
    return nn_fail(op, "found weights of the input for x %s, expected f32 or f64", nn_type_text(m->arena, x));
  const nn_dim *w = op->in[at]->type.dims;
  bool is_static = nn_dim_is_const(x.dims[0], &time) && nn_dim_is_const(x.dims[2], &depth);
  if (!is_static || time < NN_PROJECTED_STEPS || depth < 1 || !nn_dim_is(x.dims[1], 1))
    return nn_fail(op, "found weights of the input for x %s, expected at least %d steps, one row and a known size",
                   nn_type_text(m->arena, x), NN_PROJECTED_STEPS);
  is_static = nn_dim_is_const(op->in[2]->type.dims[1], &units) && nn_dim_is_const(w[2], &lanes) && lanes > 0;
  if (!is_static || r.rank != 3 || !nn_dim_is_const(r.dims[2], &width) || width % lanes || units < 1 || units % width)
    return nn_fail(op, "weights of the input need whole panels of recurrent weights, of whole columns");
  bool is_one_product = op->code != NN_OP_GRU || nn_attr_int(op, "linear_before_reset");
  if (!is_one_product || c->ngates * (width / lanes) > NN_PROJECTED_STEPS || operand(op, c->lengths))
    return nn_fail(op, "weights of the input need all gates in one product, at most %d columns a panel, and no lengths",
                   NN_PROJECTED_STEPS);
  nn_dim dims[3] = {nn_dim_floordiv(m, gates, w[2]), x.dims[2], w[2]};
  NN_TRY(check_operand(op, at, 3, dims));
  return operand(op, at + 1) ? check_operand(op, at + 1, 1, &gates) : NN_OK;
}

static nn_status shape_cell(nn_op *op, const cell *c) {
  nn_module *m = op->graph->module;
  NN_TRY(nn_need_kind(op, 0, NN_SET_FLOAT));
  NN_TRY(nn_need_rank(op, 0, 3, 3));
  NN_TRY(nn_need_rank(op, 2, 2, 2));
  NN_TRY(check_activations(op, c->nactivations));
  nn_dim time = op->in[0]->type.dims[0], batch = op->in[0]->type.dims[1], hidden = op->in[2]->type.dims[1];
  nn_dim gates = nn_dim_mul(m, nn_dim_const(m, c->ngates), hidden);
  nn_dim y[3] = {time, batch, hidden}, state[2] = {batch, hidden};
  NN_TRY(check_weights(op, gates, hidden));
  bool projects = operand(op, nn_projected_operand(op->code)) != NULL;
  NN_TRY(projects ? check_projection(op, c, gates) : nn_need_dim(op, 0, 2, gates));
  for (int i = 0; i < c->nstates; i++) NN_TRY(check_operand(op, 2 + i, 2, state));
  NN_TRY(check_lengths(op, c->lengths, batch));
  nn_dtype dtype = op->in[0]->type.dtype;
  NN_TRY(nn_give(op, 0, dtype, 3, y));
  for (int i = 0; i < c->nstates; i++) NN_TRY(nn_give(op, 1 + i, dtype, 2, state));
  return NN_OK;
}

/* An optional operand of `ngates` vectors: peephole weights, recurrent bias. */
static nn_status check_gate_vectors(nn_op *op, int i, int ngates) {
  nn_module *m = op->graph->module;
  if (i >= op->nin || !op->in[i]) return NN_OK;
  nn_dim hidden = op->in[2]->type.dims[1], dim = nn_dim_mul(m, nn_dim_const(m, ngates), hidden);
  return check_operand(op, i, 1, &dim);
}

nn_status shape_lstm(nn_op *op) {
  static const cell lstm = {.ngates = 4, .nactivations = 3, .nstates = 2, .lengths = 4};
  NN_TRY(shape_cell(op, &lstm));
  NN_TRY(nn_need_range(op, "input_forget", 0, 1));
  return check_gate_vectors(op, 5, 3);
}

nn_status shape_gru(nn_op *op) {
  static const cell gru = {.ngates = 3, .nactivations = 2, .nstates = 1, .lengths = 3};
  NN_TRY(shape_cell(op, &gru));
  NN_TRY(nn_need_range(op, "linear_before_reset", 0, 1));
  return check_gate_vectors(op, 4, 3);
}

nn_status shape_rnn(nn_op *op) {
  static const cell rnn = {.ngates = 1, .nactivations = 1, .nstates = 1, .lengths = 3};
  return shape_cell(op, &rnn);
}

/* Panels with few sums a row leave registers for more rows; a single row wants sums enough to hide the latency of
   its additions. Then as wide as goes without much padding. */
int64_t nn_recurrent_width(int64_t lanes, nn_dim batch, nn_dim hidden, int64_t ngates) {
  enum { ONE_ROW_SUMS = 8, SUMS = 4, MOST_PADDING = 8 };
  int64_t units, vectors = nn_dim_is(batch, 1) ? ONE_ROW_SUMS : SUMS;
  vectors = vectors / ngates > 1 ? vectors / ngates : 1;
  if (!nn_dim_is_const(hidden, &units) || units < 1) return lanes * vectors;
  while (lanes > 1 && lanes / 2 >= units) lanes /= 2;
  int64_t blocks = units / lanes + (units % lanes != 0);
  if (vectors > blocks) vectors = blocks;
  while (vectors > 1 && (vectors - blocks % vectors) % vectors > blocks / MOST_PADDING) vectors--;
  return lanes * vectors;
}

/* Beside the sums of a panel, its column and one number of x, as many sums as there are registers for, but no more than
   are of use. Each column of the panel takes the same number of steps. */
int64_t nn_projected_rows(int64_t registers, int64_t columns, int64_t vectors) {
  enum { MOST_ROWS = 20 };
  int64_t rows = (registers - columns * vectors - vectors - 1) / vectors;
  return (rows > MOST_ROWS ? MOST_ROWS : rows < 0 ? 0 : rows) / columns * columns;
}
