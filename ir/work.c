/* The work of an op: arithmetic operations, and bytes that must move at least. For profiles, benchmarks and reports.

   An operation is an addition, a multiplication, a comparison, or one elementary function; a multiply-add is two.
   What a schedule saves or adds does not count: a convolution in Winograd's form counts as the convolution. */
#include "ir/ir.h"

static double dim_of(nn_type t, int i, const int64_t *symbols) {
  int64_t d = 0;
  return nn_dim_eval(t.dims[i < 0 ? i + t.rank : i], symbols, &d) ? (double)d : 0;
}

static double elements_of(nn_type t, const int64_t *symbols) {
  double n = 1;
  for (int i = 0; i < t.rank; i++) n *= dim_of(t, i, symbols);
  return n;
}

static double operand(const nn_op *op, int i, const int64_t *symbols) { return elements_of(op->in[i]->type, symbols); }

static double result(const nn_op *op, const int64_t *symbols) { return elements_of(op->out[0]->type, symbols); }

/* ---- operations ------------------------------------------------------------------------------------------ */

static double count_conv(const nn_op *op, const int64_t *symbols) {
  return 2 * result(op, symbols) * operand(op, 1, symbols) / dim_of(op->in[1]->type, 0, symbols);
}

/* Channels in blocks: of the convolution that it stands for, without what fills the blocks up. */
static double count_blocked(const nn_op *op, double outputs, double inputs, double taps, const int64_t *symbols) {
  nn_type y = op->out[0]->type;
  return 2 * dim_of(y, 0, symbols) * dim_of(y, 2, symbols) * dim_of(y, 3, symbols) * outputs * inputs * taps;
}

static double count_winograd(const nn_op *op, const int64_t *symbols) {
  return count_blocked(op, (double)nn_attr_int(op, "outputs"), dim_of(op->in[1]->type, 2, symbols) - (nn_attr_int(op, "paired") ? 2 : 0), 9, symbols);
}

static double count_conv_blocked(const nn_op *op, const int64_t *symbols) {
  nn_type w = op->in[1]->type;
  double inputs = (double)nn_attr_int(op, "channels") / (double)nn_attr_int(op, "groups");
  return count_blocked(op, (double)nn_attr_int(op, "outputs"), inputs, dim_of(w, 2, symbols) * dim_of(w, 3, symbols), symbols);
}

static double count_conv_paired(const nn_op *op, const int64_t *symbols) {
  return count_blocked(op, (double)nn_attr_int(op, "outputs"), dim_of(op->in[1]->type, 1, symbols) - 2, 1, symbols);
}

static double count_depthwise(const nn_op *op, const int64_t *symbols) {
  nn_type w = op->in[1]->type;
  return 2 * result(op, symbols) * dim_of(w, 1, symbols) * dim_of(w, 2, symbols);
}

/* G g G' for each pair of channels, G of m + 2 by 3. */
static double count_winograd_weights(const nn_op *op, const int64_t *symbols) {
  double n = (double)nn_attr_int(op, "tile") + 2;
  return operand(op, 0, symbols) / 9 * 2 * (n * 3 * 3 + n * 3 * n);
}

static double count_matmul(const nn_op *op, const int64_t *symbols) {
  bool is_transposed = op->code == NN_OP_MATMUL && nn_attr_int(op, "trans_a");
  return 2 * result(op, symbols) * dim_of(op->in[0]->type, is_transposed ? -2 : -1, symbols);
}

static double count_pool(const nn_op *op, const int64_t *symbols) {
  int n;
  const int64_t *kernel = nn_attr_ints(op, "kernel", &n);
  double window = 1;
  for (int i = 0; i < n; i++) window *= (double)kernel[i];
  return window * result(op, symbols);
}

/* The recurrent product, that of the input if the layer has its weights, and `cell` operations for each element of the state. */
static double count_recurrent(const nn_op *op, const int64_t *symbols, double cell) {
  int w = nn_projected_operand(op->code);
  double steps = dim_of(op->in[0]->type, 0, symbols) * dim_of(op->in[0]->type, 1, symbols);
  double hidden = dim_of(op->in[2]->type, 1, symbols), gates = dim_of(op->in[1]->type, op->in[1]->type.rank - 2, symbols);
  double depth = w < op->nin && op->in[w] ? dim_of(op->in[0]->type, 2, symbols) : 0;
  return steps * (2 * gates * (hidden + depth) + hidden * cell);
}

/* Four sums with the projection, five activations, three products, a sum. */
static double count_lstm(const nn_op *op, const int64_t *symbols) { return count_recurrent(op, symbols, 13); }
/* Three sums, three activations, the reset's product, (1 - z) n + z h. */
static double count_gru(const nn_op *op, const int64_t *symbols) { return count_recurrent(op, symbols, 11); }
static double count_rnn(const nn_op *op, const int64_t *symbols) { return count_recurrent(op, symbols, 2); }

/* A multiply-add for each of the neighbours that a result is interpolated from. */
static double count_resize(const nn_op *op, const int64_t *symbols) {
  const char *mode = nn_attr_str(op, "mode");
  double along = mode[0] == 'l' ? 2 : mode[0] == 'c' ? 4 : 0, taps = along;
  for (int i = 1, seen = 0; along > 0 && i < op->in[0]->type.rank; i++) {
    bool changes = op->in[0]->type.dims[i] != op->out[0]->type.dims[i];
    if (changes && seen++) taps *= along;
  }
  return 2 * taps * result(op, symbols);
}

/* What the updates are combined with; a plain scatter computes nothing. */
static double count_scatter(const nn_op *op, const int64_t *symbols) {
  return nn_attr_str(op, "reduction")[0] == 'n' ? 0 : operand(op, 2, symbols);
}

static double count_none(const nn_op *op, const int64_t *symbols) {
  (void)op, (void)symbols;
  return 0;
}

/* Rows: `of_operand` operations for each element of the first operand and `of_result` for each of the first
   result, or a function. Pointwise ops without a row have one for each result, other element ops none. */
static const struct work_row {
  double of_operand, of_result;
  double (*count)(const nn_op *op, const int64_t *symbols);
} rows[NN_OP_COUNT] = {
    [NN_OP_COPY] = {.count = count_none},
    [NN_OP_BITCAST] = {.count = count_none},
    [NN_OP_RESIZE] = {.count = count_resize},
    [NN_OP_SHAPE_OF] = {.count = count_none},
    [NN_OP_SCATTER_ELEMENTS] = {.count = count_scatter},
    [NN_OP_SCATTER_ND] = {.count = count_scatter},
    [NN_OP_TOP_K] = {.of_operand = 1},
    [NN_OP_NON_ZERO] = {.of_operand = 1},
    [NN_OP_REDUCE_SUM] = {.of_operand = 1},
    [NN_OP_REDUCE_PROD] = {.of_operand = 1},
    [NN_OP_REDUCE_MAX] = {.of_operand = 1},
    [NN_OP_REDUCE_MIN] = {.of_operand = 1},
    [NN_OP_ARG_MAX] = {.of_operand = 1},
    [NN_OP_ARG_MIN] = {.of_operand = 1},
    [NN_OP_CUM_SUM] = {.of_operand = 1},
    [NN_OP_SOFTMAX] = {.of_operand = 5},     /* largest, minus it, exp, sum, division */
    [NN_OP_LOG_SOFTMAX] = {.of_operand = 5}, /* largest, minus it, exp, sum, minus its logarithm */
    [NN_OP_NORMALIZE] = {.of_operand = 5},   /* sum, minus the mean, square, sum, times the scale */
    [NN_OP_MATMUL] = {.count = count_matmul},
    [NN_OP_MATMUL_PANELS] = {.count = count_matmul},
    [NN_OP_MATMUL_PAIRED] = {.count = count_matmul},
    [NN_OP_CONV] = {.count = count_conv},
    [NN_OP_CONV_WINOGRAD] = {.count = count_winograd},
    [NN_OP_CONV_BLOCKED] = {.count = count_conv_blocked},
    [NN_OP_CONV_PAIRED] = {.count = count_conv_paired},
    [NN_OP_PAIRED_WEIGHTS] = {.of_operand = 4}, /* sum and maximum of sizes, scale, a pair's product */
    [NN_OP_CONV_DEPTHWISE] = {.count = count_depthwise},
    [NN_OP_WINOGRAD_WEIGHTS] = {.count = count_winograd_weights},
    [NN_OP_MAX_POOL] = {.count = count_pool},
    [NN_OP_AVG_POOL] = {.count = count_pool},
    [NN_OP_LSTM] = {.count = count_lstm},
    [NN_OP_GRU] = {.count = count_gru},
    [NN_OP_RNN] = {.count = count_rnn},
};

bool nn_op_is_cheap(nn_opcode code) {
  switch (code) {
  case NN_OP_COPY: case NN_OP_NEG: case NN_OP_ABS: case NN_OP_RELU: case NN_OP_ADD: case NN_OP_SUB: case NN_OP_MUL:
  case NN_OP_MIN: case NN_OP_MAX: case NN_OP_SELECT: case NN_OP_LT: case NN_OP_LE: case NN_OP_CAST: return true;
  default: return false;
  }
}

bool nn_op_has_work_row(nn_opcode code) {
  return rows[code].count || rows[code].of_operand > 0 || rows[code].of_result > 0;
}

double nn_op_flops(const nn_op *op, const int64_t *symbols) {
  const struct work_row *row = &rows[op->code];
  if (op->code == NN_OP_FUSED) return nn_graph_flops(nn_attr_graph(op, "body"), symbols);
  if (row->count) return row->count(op, symbols);
  double sum = 0;
  if (row->of_operand > 0) sum += row->of_operand * operand(op, 0, symbols);
  if (row->of_result > 0) sum += row->of_result * result(op, symbols);
  bool is_plain = !nn_op_has_work_row(op->code) && (nn_op_infos[op->code].flags & NN_POINTWISE);
  return is_plain ? result(op, symbols) : sum;
}

double nn_graph_flops(const nn_graph *g, const int64_t *symbols) {
  double sum = 0;
  for (const nn_op *op = g->first; op; op = op->next) sum += nn_op_flops(op, symbols);
  return sum;
}

/* ---- bytes ------------------------------------------------------------------------------------------------- */

static double smaller(double a, double b) { return a < b ? a : b; }

/* Elements of its results for which op reads an operand: a nest reads all of it, an element op as many elements as are
   wanted of it, so that a slice or a gather of a large tensor costs what it takes out. */
static double wanted_by(const nn_op *op, double wanted, double all) {
  bool is_element = nn_op_infos[op->code].flags & NN_ELEMENT;
  return is_element ? smaller(wanted, all) : all;
}

/* Elements that are read of each value of a fused body, from the results back. */
static nn_map *find_wanted(const nn_graph *body, const int64_t *symbols, nn_arena *scratch) {
  nn_map *wanted = nn_map_new(scratch);
  for (const nn_op *op = body->last; op; op = op->prev) {
    const double *of_result = op->nout > 0 ? nn_map_get_ptr(wanted, op->out[0]) : NULL;
    for (int i = 0; i < op->nin; i++) {
      if (!op->in[i]) continue;
      double *sum = nn_map_get_ptr(wanted, op->in[i]), all = operand(op, i, symbols);
      if (!sum) nn_map_put_ptr(wanted, op->in[i], sum = NN_NEW(scratch, double));
      *sum = smaller(all, *sum + wanted_by(op, of_result ? *of_result : 0, all));
    }
  }
  return wanted;
}

static double bytes_of(const nn_value *v, double elements) { return elements * nn_dtype_bits(v->type.dtype) / 8; }

static bool is_repeated(const nn_op *op, int i) {
  for (int j = 0; j < i; j++)
    if (op->in[j] == op->in[i]) return true;
  return false;
}

static double elements_read(const nn_op *op, int i, const int64_t *symbols, const nn_map *wanted) {
  if (!wanted) return wanted_by(op, op->nout > 0 ? result(op, symbols) : 0, operand(op, i, symbols));
  const double *sum = nn_map_get_ptr(wanted, nn_attr_graph(op, "body")->params[i]);
  return sum ? *sum : 0;
}

nn_traffic nn_op_traffic(const nn_op *op, const int64_t *symbols) {
  nn_traffic t = {0, 0, 0};
  nn_arena *scratch = op->code == NN_OP_FUSED ? nn_arena_new() : NULL;
  nn_map *wanted = scratch ? find_wanted(nn_attr_graph(op, "body"), symbols, scratch) : NULL;
  for (int i = 0; i < op->nin; i++) {
    if (!op->in[i] || is_repeated(op, i)) continue;
    bool is_weight = op->in[i]->kind == NN_CONST || op->in[i]->kind == NN_STATE;
    *(is_weight ? &t.weights : &t.read) += bytes_of(op->in[i], elements_read(op, i, symbols, wanted));
  }
  for (int i = 0; i < op->nout; i++)
    if (op->out[i]->uses) t.written += bytes_of(op->out[i], elements_of(op->out[i]->type, symbols));
  nn_arena_free(scratch);
  return t;
}
