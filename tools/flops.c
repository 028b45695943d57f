/* Operation counts of core ops. */
#include "tools/tools.h"

static double count_of(nn_type t, const int64_t *symbols) {
  double n = 1;
  for (int i = 0; i < t.rank; i++) {
    int64_t d = 0;
    if (!nn_dim_eval(t.dims[i], symbols, &d)) return 0;
    n *= (double)d;
  }
  return n;
}

static double dim_of(nn_type t, int i, const int64_t *symbols) {
  int64_t d = 0;
  return nn_dim_eval(t.dims[i < 0 ? i + t.rank : i], symbols, &d) ? (double)d : 0;
}

static double conv_flops(const nn_op *op, const int64_t *symbols) {
  nn_type w = op->in[1]->type;
  return 2 * count_of(op->out[0]->type, symbols) * count_of(w, symbols) / dim_of(w, 0, symbols);
}

/* Of the convolution that it stands for. */
static double winograd_flops(const nn_op *op, const int64_t *symbols) {
  return 2 * 9 * count_of(op->out[0]->type, symbols) * dim_of(op->in[0]->type, 1, symbols);
}

static double matmul_flops(const nn_op *op, const int64_t *symbols) {
  double k = dim_of(op->in[0]->type, op->code == NN_OP_MATMUL && nn_attr_int(op, "trans_a") ? -2 : -1, symbols);
  return 2 * count_of(op->out[0]->type, symbols) * k;
}

static double recurrent_flops(const nn_op *op, const int64_t *symbols) {
  double steps = dim_of(op->in[0]->type, 0, symbols) * dim_of(op->in[0]->type, 1, symbols);
  return 2 * steps * count_of(op->in[1]->type, symbols);
}

double op_flops(const nn_op *op, const int64_t *symbols) {
  unsigned flags = nn_op_infos[op->code].flags;
  switch (op->code) {
    case NN_OP_CONV: return conv_flops(op, symbols);
    case NN_OP_CONV_WINOGRAD: return winograd_flops(op, symbols);
    case NN_OP_MATMUL: case NN_OP_MATMUL_PANELS: return matmul_flops(op, symbols);
    case NN_OP_LSTM: case NN_OP_GRU: case NN_OP_RNN: return recurrent_flops(op, symbols);
    case NN_OP_FUSED: return graph_flops(nn_attr_graph(op, "body"), symbols);
    default: break;
  }
  if (flags & NN_NEST) return op->nin ? count_of(op->in[0]->type, symbols) : 0;
  return flags & NN_POINTWISE ? count_of(op->out[0]->type, symbols) : 0;
}

double graph_flops(const nn_graph *g, const int64_t *symbols) {
  double sum = 0;
  for (const nn_op *op = g->first; op; op = op->next) sum += op_flops(op, symbols);
  return sum;
}
