/* Activations of recurrent cells, by ONNX name. */
#include "codegen/codegen.h"

#include <math.h>
#include <string.h>

typedef enum activation_kind { SIGMOID, TANH, RELU, AFFINE, LEAKY_RELU, THRESHOLDED_RELU, SCALED_TANH, HARD_SIGMOID, ELU, SOFTSIGN, SOFTPLUS } activation_kind;

typedef struct activation_row { const char *name; double alpha, beta; } activation_row;

/* With the values that ONNX gives where the model does not. */
static const activation_row rows[] = {
  [SIGMOID] = {"Sigmoid", 0, 0}, [TANH] = {"Tanh", 0, 0}, [RELU] = {"Relu", 0, 0}, [AFFINE] = {"Affine", 1, 0},
  [LEAKY_RELU] = {"LeakyRelu", 0.01, 0}, [THRESHOLDED_RELU] = {"ThresholdedRelu", 1, 0}, [SCALED_TANH] = {"ScaledTanh", 1, 1},
  [HARD_SIGMOID] = {"HardSigmoid", 0.2, 0.5}, [ELU] = {"Elu", 1, 0}, [SOFTSIGN] = {"Softsign", 0, 0}, [SOFTPLUS] = {"Softplus", 0, 0},
};

static activation_kind find(const char *name) {
  for (int i = 0; i < (int)(sizeof rows / sizeof *rows); i++)
    if (strcmp(rows[i].name, name) == 0) return (activation_kind)i;
  return SIGMOID; /* not reached: shape rules check the name */
}

static nn_x *number(nn_lower *L, const nn_x *like, double value) { return nn_x_const(L->kernel, like->dtype, value); }

static nn_x *binary(nn_lower *L, nn_xop op, nn_x *a, nn_x *b) { return nn_x_binary(L->kernel, op, a, b); }

static nn_x *scaled(nn_lower *L, nn_x *x, double alpha, double beta) {
  return binary(L, NN_X_ADD, binary(L, NN_X_MUL, x, number(L, x, alpha)), number(L, x, beta));
}

static nn_x *apply(nn_lower *L, activation_kind kind, double alpha, double beta, nn_x *x) {
  nn_kernel *k = L->kernel;
  nn_x *zero = number(L, x, 0), *one = number(L, x, 1);
  nn_x *is_negative = binary(L, NN_X_LT, x, zero);
  switch (kind) {
    case SIGMOID: return nn_math(L, NN_OP_SIGMOID, x);
    case TANH: return nn_math(L, NN_OP_TANH, x);
    case RELU: return binary(L, NN_X_MAX, x, zero);
    case AFFINE: return scaled(L, x, alpha, beta);
    case LEAKY_RELU: return nn_x_select(k, is_negative, binary(L, NN_X_MUL, x, number(L, x, alpha)), x);
    case THRESHOLDED_RELU: return nn_x_select(k, binary(L, NN_X_LT, x, number(L, x, alpha)), zero, x); /* NaN stays */
    case SCALED_TANH: {
      nn_x *inner = nn_let(k, binary(L, NN_X_MUL, x, number(L, x, beta)));
      return binary(L, NN_X_MUL, nn_math(L, NN_OP_TANH, inner), number(L, x, alpha));
    }
    case HARD_SIGMOID: return binary(L, NN_X_MIN, binary(L, NN_X_MAX, scaled(L, x, alpha, beta), zero), one);
    case ELU: return nn_x_select(k, is_negative, binary(L, NN_X_MUL, nn_math(L, NN_OP_EXPM1, x), number(L, x, alpha)), x);
    case SOFTSIGN: return binary(L, NN_X_DIV, x, binary(L, NN_X_ADD, one, nn_x_unary(k, NN_X_ABS, x)));
    default: return nn_math(L, NN_OP_SOFTPLUS, x);
  }
}

nn_x *nn_rnn_activation(nn_lower *L, nn_op *op, int i, const char *fallback, nn_x *x) {
  int nalpha, nbeta;
  const nn_attr *names = nn_op_attr(op, "activations");
  const double *alpha = nn_attr_floats(op, "alpha", &nalpha), *beta = nn_attr_floats(op, "beta", &nbeta);
  activation_kind kind = find(i < names->count ? names->strs[i] : fallback);
  return nn_let(L->kernel, apply(L, kind, i < nalpha ? alpha[i] : rows[kind].alpha, i < nbeta ? beta[i] : rows[kind].beta, nn_let(L->kernel, x)));
}

nn_x *nn_rnn_clip(nn_lower *L, nn_op *op, nn_x *x) {
  double clip = nn_attr_float(op, "clip");
  if (clip <= 0 || isinf(clip)) return x;
  return binary(L, NN_X_MAX, binary(L, NN_X_MIN, x, number(L, x, clip)), number(L, x, -clip));
}
