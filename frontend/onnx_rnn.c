/* ONNX LSTM, GRU, RNN: one matmul projects the whole input for each direction, the core op runs the
   recurrence, and the directions are stacked again. */
#include "frontend/onnx.h"

#include <ctype.h>
#include <string.h>

enum { MAX_ACTIVATIONS = 3 };

/* What tells the three cells apart. */
typedef struct cell {
  nn_opcode code;
  int ngates, nactivations, nstates;
  const char *defaults[MAX_ACTIVATIONS];
  int nin; /* most inputs: X W R B lengths h0 c0 P */
} cell;

static const cell lstm_cell = {NN_OP_LSTM, 4, 3, 2, {"Sigmoid", "Tanh", "Tanh"}, 8};
static const cell gru_cell = {NN_OP_GRU, 3, 2, 1, {"Sigmoid", "Tanh"}, 6};
static const cell rnn_cell = {NN_OP_RNN, 1, 1, 1, {"Tanh"}, 6};

typedef struct layer {
  const cell *cell;
  int ndirections;
  bool starts_reversed; /* direction "reverse" */
  bool batch_first;     /* attribute layout */
  bool linear_before_reset;
  nn_value *x;       /* [T,B,I] */
  nn_value *lengths; /* i64[B] or NULL */
  nn_dim time, batch, features, hidden;
  const char *activations[2 * MAX_ACTIVATIONS];
  double alpha[2 * MAX_ACTIVATIONS], beta[2 * MAX_ACTIVATIONS];
} layer;

/* ---- attributes ------------------------------------------------------------------------------- */

/* alpha, beta: what ONNX gives where the node does not; takes_..: whether values of activation_alpha and
   activation_beta, which are for all activations in order, are used up by this one. */
static const struct activation {
  const char *name;
  bool takes_alpha, takes_beta;
  double alpha, beta;
} known_activations[] = {
    {"Sigmoid", false, false, 0, 0},  {"Tanh", false, false, 0, 0},          {"Relu", false, false, 0, 0},
    {"Affine", true, true, 1, 0},     {"LeakyRelu", true, false, 0.01, 0},   {"ThresholdedRelu", true, false, 1, 0},
    {"ScaledTanh", true, true, 1, 1}, {"HardSigmoid", true, true, 0.2, 0.5}, {"Elu", true, false, 1, 0},
    {"Softsign", false, false, 0, 0}, {"Softplus", false, false, 0, 0}};

static bool equal_ignoring_case(const char *a, const char *b) {
  while (*a && tolower((unsigned char)*a) == tolower((unsigned char)*b)) a++, b++;
  return !*a && !*b;
}

static const struct activation *find_activation(const char *name) {
  for (size_t i = 0; i < sizeof known_activations / sizeof *known_activations; i++)
    if (equal_ignoring_case(known_activations[i].name, name)) return &known_activations[i];
  return NULL;
}

static nn_status read_activations(onnx_node *n, layer *l) {
  int per_direction = l->cell->nactivations, want = per_direction * l->ndirections;
  int count = 0, nalpha = 0, nbeta = 0, alphas_used = 0, betas_used = 0;
  const char *const *names = onnx_strs(n, "activations", &count);
  const double *alpha = onnx_floats(n, "activation_alpha", &nalpha), *beta = onnx_floats(n, "activation_beta", &nbeta);
  if (count != 0 && count != want) return onnx_fail(n, "attribute activations has %d names, expected %d", count, want);
  for (int i = 0; i < want; i++) {
    const char *name = count ? names[i] : l->cell->defaults[i % per_direction];
    const struct activation *a = find_activation(name);
    if (!a) return onnx_fail(n, "attribute activations holds '%s', which is no activation of recurrent layers", name);
    l->activations[i] = a->name;
    l->alpha[i] = a->takes_alpha && alphas_used < nalpha ? alpha[alphas_used++] : a->alpha;
    l->beta[i] = a->takes_beta && betas_used < nbeta ? beta[betas_used++] : a->beta;
  }
  return NN_OK;
}

static nn_status read_direction(onnx_node *n, layer *l) {
  const char *direction = onnx_str(n, "direction", "forward");
  l->starts_reversed = !strcmp(direction, "reverse");
  l->ndirections = strcmp(direction, "bidirectional") ? 1 : 2;
  if (l->ndirections == 2 || l->starts_reversed || !strcmp(direction, "forward")) return NN_OK;
  return onnx_fail(n, "attribute direction is '%s', expected forward, reverse or bidirectional", direction);
}

/* ---- inputs ----------------------------------------------------------------------------------- */

static nn_value *input(onnx_node *n, int i) { return i < n->nin ? n->in[i] : NULL; }

static nn_status check_dims(onnx_node *n, int i, const char *what, int rank, const nn_dim *dims) {
  if (!input(n, i)) return NN_OK;
  NN_TRY(onnx_need_rank(n, i, rank, rank));
  for (int d = 0; d < rank; d++)
    NN_TRY(nn_b_check(n->b, "eq", n->in[i]->type.dims[d], dims[d],
                      nn_sprintf(n->m->arena, "dimension %d of %s", d, what)));
  return NN_OK;
}

static nn_dim times(onnx_node *n, nn_dim d, int64_t factor) { return nn_dim_mul(n->m, d, nn_dim_const(n->m, factor)); }

static nn_status check_hidden(onnx_node *n, const layer *l) {
  if (!onnx_has(n, "hidden_size")) return NN_OK;
  return nn_b_check(n->b, "eq", l->hidden, nn_dim_const(n->m, onnx_int(n, "hidden_size", 0)), "hidden_size");
}

static nn_status check_shapes(onnx_node *n, const layer *l) {
  const cell *c = l->cell;
  nn_dim d = nn_dim_const(n->m, l->ndirections), gates = times(n, l->hidden, c->ngates);
  nn_dim state[3] = {d, l->batch, l->hidden}, batch_first_state[3] = {l->batch, d, l->hidden};
  const nn_dim *state_dims = l->batch_first ? batch_first_state : state;
  NN_TRY(check_dims(n, 1, "weight W", 3, (nn_dim[]){d, gates, l->features}));
  NN_TRY(check_dims(n, 2, "weight R", 3, (nn_dim[]){d, gates, l->hidden}));
  NN_TRY(check_dims(n, 3, "bias B", 2, (nn_dim[]){d, times(n, gates, 2)}));
  NN_TRY(check_dims(n, 4, "sequence_lens", 1, (nn_dim[]){l->batch}));
  NN_TRY(check_dims(n, 5, "initial_h", 3, state_dims));
  NN_TRY(check_dims(n, 6, "initial_c", 3, state_dims));
  return check_dims(n, 7, "peepholes P", 2, (nn_dim[]){d, times(n, l->hidden, 3)});
}

static nn_status read_layer(onnx_node *n, const cell *c, layer *l) {
  *l = (layer){.cell = c};
  NN_TRY(onnx_need(n, 3, c->nin, 1 + c->nstates));
  NN_TRY(onnx_need_float(n, 0));
  for (int i = 0; i < 3; i++) NN_TRY(onnx_need_rank(n, i, 3, 3));
  for (int i = 1; i < n->nin; i++)
    if (i != 4 && n->in[i] && n->in[i]->type.dtype != n->in[0]->type.dtype)
      return onnx_fail(n, "input %d has element type %s, expected %s as input 0", i,
                       nn_dtype_name(n->in[i]->type.dtype), nn_dtype_name(n->in[0]->type.dtype));
  if (input(n, 4)) NN_TRY(onnx_need_kind(n, 4, ONNX_INT));
  NN_TRY(read_direction(n, l));
  NN_TRY(read_activations(n, l));
  l->batch_first = onnx_int(n, "layout", 0) != 0;
  l->linear_before_reset = onnx_int(n, "linear_before_reset", 0) != 0;
  l->x = l->batch_first ? nn_b_transpose(n->b, n->in[0], (int64_t[]){1, 0, 2}) : n->in[0];
  if (!l->x) return NN_FAIL;
  l->time = l->x->type.dims[0];
  l->batch = l->x->type.dims[1];
  l->features = l->x->type.dims[2];
  l->hidden = n->in[2]->type.dims[2];
  NN_TRY(check_hidden(n, l));
  NN_TRY(check_shapes(n, l));
  if (input(n, 4)) l->lengths = onnx_to_i64(n, n->in[4]);
  return NN_OK;
}

/* ---- one direction ---------------------------------------------------------------------------- */

/* Entry d of the first axis of v, without that axis. */
static nn_value *take(onnx_node *n, nn_value *v, int axis, int d) {
  if (!v) return NULL;
  nn_module *m = n->m;
  nn_dim dims[NN_MAX_RANK];
  int rank = 0;
  for (int i = 0; i < v->type.rank; i++)
    if (i != axis) dims[rank++] = v->type.dims[i];
  if (!nn_dim_is(v->type.dims[axis], 1))
    v = nn_b_slice(n->b, v, axis, nn_dim_const(m, d), nn_dim_const(m, 1), nn_dim_const(m, 1));
  return nn_b_reshape(n->b, v, rank, dims);
}

/* The input half (0) or the recurrent half (1) of the bias of direction d: [gates*H]; NULL without bias. */
static nn_value *bias_half(onnx_node *n, const layer *l, int d, int half) {
  nn_value *bias = take(n, input(n, 3), 0, d);
  if (!bias) return NULL;
  nn_dim size = times(n, l->hidden, l->cell->ngates);
  return nn_b_slice(n->b, bias, 0, times(n, size, half), size, nn_dim_const(n->m, 1));
}

/* x W^T and every bias that may be added before the recurrence. With linear_before_reset the recurrent
   bias may not: the reset gate multiplies a part of it. */
static nn_value *project(onnx_node *n, const layer *l, int d) {
  nn_dim gates = times(n, l->hidden, l->cell->ngates);
  nn_dim rows = nn_dim_mul(n->m, l->time, l->batch);
  nn_value *flat = nn_b_reshape(n->b, l->x, 2, (nn_dim[]){rows, l->features});
  nn_value *xw = onnx_matmul_trans(n, flat, take(n, input(n, 1), 0, d), false, true);
  nn_value *bias = bias_half(n, l, d, 0);
  if (bias && !l->linear_before_reset) bias = nn_b_binary(n->b, NN_OP_ADD, bias, bias_half(n, l, d, 1));
  if (bias) xw = nn_b_binary(n->b, NN_OP_ADD, xw, bias);
  return nn_b_reshape(n->b, xw, 3, (nn_dim[]){l->time, l->batch, gates});
}

static nn_value *initial_state(onnx_node *n, const layer *l, int i, int d) {
  if (input(n, i)) return take(n, n->in[i], l->batch_first ? 1 : 0, d);
  return nn_b_fill(n->b, l->x->type.dtype, 0, 2, (nn_dim[]){l->batch, l->hidden});
}

/* The operands in the order of ops.def; the optional ones last. */
static int collect_operands(onnx_node *n, const layer *l, int d, nn_value **in) {
  int nin = 0;
  in[nin++] = project(n, l, d);
  in[nin++] = take(n, input(n, 2), 0, d);
  for (int i = 0; i < l->cell->nstates; i++) in[nin++] = initial_state(n, l, 5 + i, d);
  in[nin++] = l->lengths;
  if (l->cell->code == NN_OP_LSTM) in[nin++] = take(n, input(n, 7), 0, d);
  if (l->cell->code == NN_OP_GRU) in[nin++] = l->linear_before_reset ? bias_half(n, l, d, 1) : NULL;
  while (!in[nin - 1] && nin > 2 + l->cell->nstates) nin--;
  return nin;
}

static nn_status run_direction(onnx_node *n, const layer *l, int d, nn_value **results) {
  nn_value *in[6];
  const cell *c = l->cell;
  int nin = collect_operands(n, l, d, in), first = d * c->nactivations;
  nn_op *op = nn_b_begin(n->b, c->code, in, nin, -1);
  if (!op) return NN_FAIL;
  nn_set_int(op, "reverse", l->starts_reversed || d == 1);
  nn_set_strs(op, "activations", l->activations + first, c->nactivations);
  nn_set_floats(op, "alpha", l->alpha + first, c->nactivations);
  nn_set_floats(op, "beta", l->beta + first, c->nactivations);
  nn_set_float(op, "clip", onnx_float(n, "clip", 0));
  if (c->code == NN_OP_LSTM) nn_set_int(op, "input_forget", onnx_int(n, "input_forget", 0) != 0);
  if (c->code == NN_OP_GRU) nn_set_int(op, "linear_before_reset", l->linear_before_reset);
  return nn_b_end_all(n->b, op, results);
}

/* ---- results ---------------------------------------------------------------------------------- */

/* The directions' results along a new axis. */
static nn_value *stack(onnx_node *n, nn_value *const *parts, int count, int axis) {
  nn_value *wide[2];
  for (int d = 0; d < count; d++) wide[d] = parts[d] ? nn_b_unsqueeze(n->b, parts[d], axis) : NULL;
  return count == 1 ? wide[0] : nn_b_concat(n->b, wide, count, axis);
}

/* y is [T,D,B,H], or [B,T,D,H] batch first; states are [D,B,H] or [B,D,H]. */
static nn_status give_results(onnx_node *n, const layer *l, nn_value *results[2][3]) {
  for (int r = 0; r < 1 + l->cell->nstates; r++) {
    if (!onnx_wants(n, r)) continue;
    nn_value *parts[2] = {results[0][r], results[1][r]};
    bool is_state = r > 0;
    nn_value *y = stack(n, parts, l->ndirections, is_state ? (l->batch_first ? 1 : 0) : 1);
    if (!is_state && l->batch_first) y = nn_b_transpose(n->b, y, (int64_t[]){2, 0, 1, 3});
    NN_TRY(onnx_give(n, r, y));
  }
  return NN_OK;
}

static nn_status import_layer(onnx_node *n, const cell *c) {
  layer l;
  nn_value *results[2][3] = {{NULL}};
  NN_TRY(read_layer(n, c, &l));
  for (int d = 0; d < l.ndirections; d++) NN_TRY(run_direction(n, &l, d, results[d]));
  return give_results(n, &l, results);
}

nn_status onnx_LSTM(onnx_node *n) { return import_layer(n, &lstm_cell); }
nn_status onnx_GRU(onnx_node *n) { return import_layer(n, &gru_cell); }
nn_status onnx_RNN(onnx_node *n) { return import_layer(n, &rnn_cell); }
