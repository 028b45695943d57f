/* ONNX BatchNormalization: x * s + b with s and b of the stored statistics, which folding turns into
   constants; or, in training mode, of the batch's own. */
#include "frontend/onnx.h"

typedef struct batch_norm {
  nn_value *x, *scale, *bias, *mean, *var; /* the last four in the type computed in */
  nn_dtype work;
  double epsilon, momentum;
} batch_norm;

static nn_value *binary(onnx_node *n, nn_opcode code, nn_value *x, nn_value *y) {
  return nn_b_binary(n->b, code, x, y);
}

/* Which form is asked for: attribute training_mode since opset 14; from 7 to 13 the use of the statistics'
   outputs says it; before 7 is_test. */
static bool is_training(onnx_node *n) {
  if (n->since >= 14) return onnx_int(n, "training_mode", 0) != 0;
  bool wants_statistics = onnx_wants(n, 1) || onnx_wants(n, 2) || onnx_wants(n, 3) || onnx_wants(n, 4);
  return wants_statistics && (n->since >= 7 || !onnx_int(n, "is_test", 0));
}

/* Statistics have shape [C], or that of one sample where spatial is 0 (opset < 9): every element of a
   sample has its own. Aligns v with x. */
static nn_value *align(onnx_node *n, nn_value *v, nn_type x, bool spatial) {
  if (spatial) return onnx_as_channel(n, v, x.rank, x.rank > 1 ? 1 : 0);
  return nn_b_reshape(n->b, v, x.rank - 1, x.dims + 1);
}

static nn_value *scale_and_shift(onnx_node *n, const batch_norm *p, nn_value *mean, nn_value *var, bool spatial) {
  nn_builder *b = n->b;
  nn_dtype t = p->x->type.dtype;
  nn_value *deviation = nn_b_unary(b, NN_OP_SQRT, nn_b_scalar_op(b, NN_OP_ADD, var, p->epsilon));
  nn_value *s = binary(n, NN_OP_DIV, p->scale, deviation);
  nn_value *shift = binary(n, NN_OP_SUB, p->bias, binary(n, NN_OP_MUL, mean, s));
  s = nn_b_cast(b, align(n, s, p->x->type, spatial), t);
  shift = nn_b_cast(b, align(n, shift, p->x->type, spatial), t);
  return binary(n, NN_OP_ADD, binary(n, NN_OP_MUL, p->x, s), shift);
}

/* old * momentum + batch * (1 - momentum), in the type of input i. */
static nn_status give_running(onnx_node *n, int output, int i, nn_value *old, nn_value *batch, double momentum) {
  if (!onnx_wants(n, output)) return NN_OK;
  nn_value *mixed =
      binary(n, NN_OP_ADD, onnx_scale(n, old, momentum), nn_b_scalar_op(n->b, NN_OP_MUL, batch, 1 - momentum));
  return onnx_give(n, output, nn_b_cast(n->b, mixed, n->in[i]->type.dtype));
}

static nn_status give_saved(onnx_node *n, int output, nn_value *batch) {
  return onnx_wants(n, output) ? onnx_give(n, output, nn_b_cast(n->b, batch, n->in[3]->type.dtype)) : NN_OK;
}

static nn_status give_training(onnx_node *n, const batch_norm *p, bool spatial) {
  if (!spatial) return onnx_unsupported(n, "training mode with spatial=0");
  int64_t axes[NN_MAX_RANK];
  int naxes = 0;
  for (int i = 0; i < p->x->type.rank; i++)
    if (i != 1) axes[naxes++] = i;
  nn_value *x = nn_b_cast(n->b, p->x, p->work);
  nn_value *mean = onnx_mean(n, x, axes, naxes, false);
  nn_value *centred = binary(n, NN_OP_SUB, x, onnx_as_channel(n, mean, p->x->type.rank, 1));
  nn_value *var = onnx_mean(n, onnx_square(n, centred), axes, naxes, false);
  NN_TRY(give_running(n, 1, 3, p->mean, mean, p->momentum));
  NN_TRY(give_running(n, 2, 4, p->var, var, p->momentum));
  NN_TRY(give_saved(n, 3, mean));
  NN_TRY(give_saved(n, 4, var));
  return onnx_give(n, 0, scale_and_shift(n, p, mean, var, true));
}

/* Inference gives the stored statistics where a model names those outputs. */
static nn_status give_inference(onnx_node *n, const batch_norm *p, bool spatial) {
  for (int i = 1; i < 5; i++)
    if (onnx_wants(n, i)) NN_TRY(onnx_give(n, i, n->in[i % 2 ? 3 : 4]));
  return onnx_give(n, 0, scale_and_shift(n, p, p->mean, p->var, spatial));
}

nn_status onnx_BatchNormalization(onnx_node *n) {
  NN_TRY(onnx_need(n, 5, 5, n->since < 14 ? 5 : 3));
  for (int i = 0; i < 5; i++) NN_TRY(onnx_need_float(n, i));
  bool spatial = n->since >= 9 || onnx_int(n, "spatial", 1) != 0;
  NN_TRY(onnx_need_rank(n, 0, spatial ? 1 : 2, -1));
  nn_type x = n->in[0]->type;
  for (int i = 1; spatial && i < 5; i++) NN_TRY(onnx_need_size(n, i, x.rank > 1 ? x.dims[1] : nn_dim_const(n->m, 1)));
  nn_dtype work = onnx_compute_dtype(x.dtype);
  batch_norm p = {.x = n->in[0],
                  .work = work,
                  .scale = nn_b_cast(n->b, n->in[1], work),
                  .bias = nn_b_cast(n->b, n->in[2], work),
                  .mean = nn_b_cast(n->b, n->in[3], work),
                  .var = nn_b_cast(n->b, n->in[4], work),
                  .epsilon = onnx_float(n, "epsilon", 1e-5),
                  .momentum = onnx_float(n, "momentum", 0.9)};
  bool training = is_training(n);
  if (training) NN_TRY(onnx_need_rank(n, 0, 2, -1));
  return training ? give_training(n, &p, spatial) : give_inference(n, &p, spatial);
}
