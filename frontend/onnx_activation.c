/* ONNX activations that are no core op of their own. Each is a formula of x, computed in f32 where x is a
   narrower float, so that only the result is rounded. */
#include "frontend/onnx.h"

#include <string.h>

typedef nn_value *formula_fn(onnx_node *n, nn_value *x);

static nn_status give_formula(onnx_node *n, formula_fn *formula) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  NN_TRY(onnx_need_float(n, 0));
  nn_value *x = n->in[0];
  ONNX_GIVE(n, nn_b_cast(n->b, formula(n, onnx_wide(n, x)), x->type.dtype));
}

static nn_value *binary(onnx_node *n, nn_opcode code, nn_value *x, nn_value *y) {
  return nn_b_binary(n->b, code, x, y);
}
static nn_value *scalar(onnx_node *n, nn_opcode code, nn_value *x, double y) {
  return nn_b_scalar_op(n->b, code, x, y);
}

/* x < 0 ? negative : positive */
static nn_value *pick_by_sign(onnx_node *n, nn_value *x, nn_value *negative, nn_value *positive) {
  return nn_b_select(n->b, scalar(n, NN_OP_LT, x, 0), negative, positive);
}

static nn_value *elu(onnx_node *n, nn_value *x, double alpha) {
  return pick_by_sign(n, x, onnx_scale(n, nn_b_unary(n->b, NN_OP_EXPM1, x), alpha), x);
}

/* max(0, x) + min(0, alpha * (exp(x / alpha) - 1)) */
static nn_value *make_celu(onnx_node *n, nn_value *x) {
  double alpha = onnx_float(n, "alpha", 1);
  nn_value *grow = nn_b_unary(n->b, NN_OP_EXPM1, alpha == 1 ? x : scalar(n, NN_OP_DIV, x, alpha));
  nn_value *low = scalar(n, NN_OP_MIN, onnx_scale(n, grow, alpha), 0);
  return binary(n, NN_OP_ADD, nn_b_unary(n->b, NN_OP_RELU, x), low);
}

static nn_value *make_elu(onnx_node *n, nn_value *x) { return elu(n, x, onnx_float(n, "alpha", 1)); }

static nn_value *make_selu(onnx_node *n, nn_value *x) {
  double alpha = onnx_float(n, "alpha", n->since < 6 ? 1.6732 : 1.67326319217681884765625);
  double gamma = onnx_float(n, "gamma", n->since < 6 ? 1.0507 : 1.05070102214813232421875);
  return onnx_scale(n, elu(n, x, alpha), gamma);
}

static nn_value *make_gelu(onnx_node *n, nn_value *x) {
  const char *how = onnx_str(n, "approximate", "none");
  if (!strcmp(how, "tanh")) return onnx_gelu(n, x, true);
  if (!strcmp(how, "none")) return onnx_gelu(n, x, false);
  onnx_fail(n, "attribute approximate is '%s', expected none or tanh", how);
  return NULL;
}

static nn_value *make_hard_sigmoid(onnx_node *n, nn_value *x) {
  nn_value *line = scalar(n, NN_OP_ADD, onnx_scale(n, x, onnx_float(n, "alpha", 0.2)), onnx_float(n, "beta", 0.5));
  return onnx_clamp(n, line, 0, 1);
}

static nn_value *make_hard_swish(onnx_node *n, nn_value *x) {
  nn_value *line = scalar(n, NN_OP_ADD, scalar(n, NN_OP_MUL, x, 1.0 / 6), 0.5);
  return binary(n, NN_OP_MUL, x, onnx_clamp(n, line, 0, 1));
}

static nn_value *make_leaky_relu(onnx_node *n, nn_value *x) {
  return pick_by_sign(n, x, scalar(n, NN_OP_MUL, x, onnx_float(n, "alpha", 0.01)), x);
}

static nn_value *make_mish(onnx_node *n, nn_value *x) {
  return binary(n, NN_OP_MUL, x, nn_b_unary(n->b, NN_OP_TANH, nn_b_unary(n->b, NN_OP_SOFTPLUS, x)));
}

static nn_value *make_softsign(onnx_node *n, nn_value *x) {
  return binary(n, NN_OP_DIV, x, scalar(n, NN_OP_ADD, nn_b_unary(n->b, NN_OP_ABS, x), 1));
}

static nn_value *make_swish(onnx_node *n, nn_value *x) {
  return binary(n, NN_OP_MUL, x, nn_b_unary(n->b, NN_OP_SIGMOID, onnx_scale(n, x, onnx_float(n, "alpha", 1))));
}

/* x > alpha ? x : 0, so NaN gives 0, as in the reference. */
static nn_value *make_thresholded_relu(onnx_node *n, nn_value *x) {
  if (!x) return NULL;
  nn_value *alpha = nn_b_scalar(n->b, x->type.dtype, onnx_float(n, "alpha", 1));
  return nn_b_select(n->b, binary(n, NN_OP_LT, alpha, x), x, nn_b_scalar(n->b, x->type.dtype, 0));
}

/* x < -lambd ? x + bias : x > lambd ? x - bias : 0 */
static nn_value *shrink(onnx_node *n, nn_value *x) {
  if (!x) return NULL;
  double lambd = onnx_float(n, "lambd", 0.5), bias = onnx_float(n, "bias", 0);
  nn_value *is_high = binary(n, NN_OP_LT, nn_b_scalar(n->b, x->type.dtype, lambd), x);
  nn_value *high = nn_b_select(n->b, is_high, scalar(n, NN_OP_SUB, x, bias), nn_b_scalar(n->b, x->type.dtype, 0));
  return nn_b_select(n->b, scalar(n, NN_OP_LT, x, -lambd), scalar(n, NN_OP_ADD, x, bias), high);
}

/* The slope of channel c for opset < 7 ([C], or one for all); since then it broadcasts to x. */
static nn_value *align_slope(onnx_node *n, nn_value *x, nn_value *slope) {
  if (n->since >= 7) return nn_b_broadcast(n->b, slope, x->type.rank, x->type.dims);
  if (nn_dim_is(nn_type_count(n->m, slope->type), 1)) return onnx_as_scalar(n, slope);
  return onnx_as_channel(n, slope, x->type.rank, x->type.rank > 1 ? 1 : 0);
}

nn_status onnx_Celu(onnx_node *n) {
  if (onnx_float(n, "alpha", 1) == 0) return onnx_fail(n, "attribute alpha is 0, expected another number");
  return give_formula(n, make_celu);
}
nn_status onnx_Elu(onnx_node *n) { return give_formula(n, make_elu); }
nn_status onnx_Gelu(onnx_node *n) { return give_formula(n, make_gelu); }
nn_status onnx_HardSigmoid(onnx_node *n) { return give_formula(n, make_hard_sigmoid); }
nn_status onnx_HardSwish(onnx_node *n) { return give_formula(n, make_hard_swish); }
nn_status onnx_LeakyRelu(onnx_node *n) { return give_formula(n, make_leaky_relu); }
nn_status onnx_Mish(onnx_node *n) { return give_formula(n, make_mish); }
nn_status onnx_Selu(onnx_node *n) { return give_formula(n, make_selu); }
nn_status onnx_Softsign(onnx_node *n) { return give_formula(n, make_softsign); }
nn_status onnx_Swish(onnx_node *n) { return give_formula(n, make_swish); }
nn_status onnx_ThresholdedRelu(onnx_node *n) { return give_formula(n, make_thresholded_relu); }

/* Integers are shrunk in f64, since lambd and bias are floats. */
nn_status onnx_Shrink(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  NN_TRY(onnx_need_kind(n, 0, ONNX_NUMBER));
  nn_dtype t = n->in[0]->type.dtype;
  nn_value *x = nn_dtype_is_int(t) ? nn_b_cast(n->b, n->in[0], NN_F64) : onnx_wide(n, n->in[0]);
  ONNX_GIVE(n, nn_b_cast(n->b, shrink(n, x), t));
}

nn_status onnx_PRelu(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 2, 1));
  NN_TRY(onnx_need_kind(n, 0, ONNX_NUMBER));
  NN_TRY(onnx_same_dtype(n, 0, 1));
  nn_value *x = n->in[0], *slope = n->in[1];
  if (slope->type.rank > x->type.rank)
    return onnx_fail(n, "slope has rank %d, expected at most %d, the rank of the input", slope->type.rank,
                     x->type.rank);
  slope = align_slope(n, x, slope);
  ONNX_GIVE(n, pick_by_sign(n, x, binary(n, NN_OP_MUL, x, slope), x));
}
