/* ONNX NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss. */
#include "frontend/onnx.h"

#include <string.h>

/* Each sample's loss and weight, in the type computed in. */
typedef struct samples {
  nn_value *loss, *weight; /* weight NULL: 1 for all */
} samples;

/* target must have the shape of the scores without the class axis. */
static nn_status check_loss(onnx_node *n, int nout) {
  NN_TRY(onnx_need(n, 2, 3, nout));
  NN_TRY(onnx_need_float(n, 0));
  NN_TRY(onnx_need_kind(n, 1, ONNX_INT));
  NN_TRY(onnx_need_rank(n, 0, 2, -1));
  nn_type x = n->in[0]->type, t = n->in[1]->type;
  NN_TRY(onnx_need_rank(n, 1, x.rank - 1, x.rank - 1));
  for (int i = 0; i < t.rank; i++)
    NN_TRY(nn_b_check(n->b, "eq", t.dims[i], x.dims[i == 0 ? 0 : i + 1],
                      nn_sprintf(n->m->arena, "dimension %d of the target", i)));
  if (n->nin < 3 || !n->in[2]) return NN_OK;
  NN_TRY(onnx_need_float(n, 2));
  return onnx_need_size(n, 2, x.dims[1]);
}

static nn_value *gather(onnx_node *n, nn_opcode code, nn_value *x, nn_value *index, int axis) {
  nn_op *op = nn_b_begin(n->b, code, (nn_value *[]){x, index}, 2, -1);
  if (!op) return NULL;
  nn_set_int(op, "axis", axis);
  return nn_b_end(n->b, op);
}

/* weight[target], 0 for ignored samples. */
static nn_value *sample_weight(onnx_node *n, nn_value *target, nn_value *is_ignored, nn_dtype work) {
  nn_builder *b = n->b;
  nn_value *weight = NULL;
  if (n->nin > 2 && n->in[2]) weight = gather(n, NN_OP_GATHER, nn_b_cast(b, n->in[2], work), target, 0);
  if (!is_ignored) return weight;
  return nn_b_select(b, is_ignored, nn_b_scalar(b, work, 0), weight ? weight : nn_b_scalar(b, work, 1));
}

/* -log_prob[n, target, ..] * weight. The target of an ignored sample may be out of range: class 0 stands in. */
static nn_status pick_samples(onnx_node *n, nn_value *log_prob, samples *s) {
  nn_builder *b = n->b;
  nn_value *target = onnx_to_i64(n, n->in[1]), *is_ignored = NULL;
  if (!target || !log_prob) return NN_FAIL;
  nn_type t = target->type;
  if (onnx_has(n, "ignore_index")) {
    is_ignored = nn_b_scalar_op(b, NN_OP_EQ, target, (double)onnx_int(n, "ignore_index", 0));
    target = nn_b_select(b, is_ignored, nn_b_scalar(b, NN_I64, 0), target);
  }
  s->weight = sample_weight(n, target, is_ignored, log_prob->type.dtype);
  nn_value *picked = gather(n, NN_OP_GATHER_ELEMENTS, log_prob, target ? nn_b_unsqueeze(b, target, 1) : NULL, 1);
  s->loss = nn_b_unary(b, NN_OP_NEG, nn_b_reshape(b, picked, t.rank, t.dims));
  if (is_ignored) s->loss = nn_b_select(b, is_ignored, nn_b_scalar(b, log_prob->type.dtype, 0), s->loss);
  if (s->weight) s->loss = nn_b_binary(b, NN_OP_MUL, s->loss, s->weight);
  return s->loss ? NN_OK : NN_FAIL;
}

/* The mean is weighted: by the sum of the samples' weights. */
static nn_value *reduce_samples(onnx_node *n, const samples *s, const char *reduction) {
  if (!strcmp(reduction, "none")) return s->loss;
  int64_t axes[NN_MAX_RANK];
  int rank = s->loss->type.rank;
  for (int i = 0; i < rank; i++) axes[i] = i;
  if (!strcmp(reduction, "mean") && !s->weight) return onnx_mean(n, s->loss, axes, rank, false);
  nn_value *sum = nn_b_reduce(n->b, NN_OP_REDUCE_SUM, s->loss, axes, rank, false);
  if (!strcmp(reduction, "sum")) return sum;
  nn_value *weights = nn_b_broadcast(n->b, s->weight, rank, s->loss->type.dims);
  return nn_b_binary(n->b, NN_OP_DIV, sum, nn_b_reduce(n->b, NN_OP_REDUCE_SUM, weights, axes, rank, false));
}

static nn_status give_loss(onnx_node *n, nn_value *log_prob) {
  const char *reduction = onnx_str(n, "reduction", "mean");
  if (strcmp(reduction, "none") && strcmp(reduction, "sum") && strcmp(reduction, "mean"))
    return onnx_fail(n, "attribute reduction is '%s', expected none, sum or mean", reduction);
  samples s;
  NN_TRY(pick_samples(n, log_prob, &s));
  return onnx_give(n, 0, nn_b_cast(n->b, reduce_samples(n, &s, reduction), n->in[0]->type.dtype));
}

nn_status onnx_NegativeLogLikelihoodLoss(onnx_node *n) {
  NN_TRY(check_loss(n, 1));
  return give_loss(n, onnx_wide(n, n->in[0]));
}

nn_status onnx_SoftmaxCrossEntropyLoss(onnx_node *n) {
  NN_TRY(check_loss(n, 2));
  nn_op *op = nn_b_begin(n->b, NN_OP_LOG_SOFTMAX, (nn_value *[]){onnx_wide(n, n->in[0])}, 1, -1);
  if (!op) return NN_FAIL;
  nn_set_int(op, "axis", 1);
  nn_value *log_prob = nn_b_end(n->b, op);
  if (onnx_wants(n, 1)) NN_TRY(onnx_give(n, 1, nn_b_cast(n->b, log_prob, n->in[0]->type.dtype)));
  return give_loss(n, log_prob);
}
