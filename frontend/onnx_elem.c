/* Element-wise ONNX operators: arithmetic, comparison, logic, Where, Clip, Dropout. Casts are in onnx_cast.c,
   activations in onnx_activation.c. */
#include "frontend/onnx.h"

#include <string.h>

/* ---- one operand ------------------------------------------------------------------------------ */

static nn_status give_unary(onnx_node *n, nn_opcode code, unsigned kinds) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  NN_TRY(onnx_need_kind(n, 0, kinds));
  return onnx_give(n, 0, nn_b_unary(n->b, code, n->in[0]));
}

#define UNARY(Name, CODE, KINDS)                                                                                       \
  nn_status onnx_##Name(onnx_node *n) { return give_unary(n, NN_OP_##CODE, KINDS); }

UNARY(Abs, ABS, ONNX_NUMBER)
UNARY(Acos, ACOS, ONNX_FLOAT)
UNARY(Acosh, ACOSH, ONNX_FLOAT)
UNARY(Asin, ASIN, ONNX_FLOAT)
UNARY(Asinh, ASINH, ONNX_FLOAT)
UNARY(Atan, ATAN, ONNX_FLOAT)
UNARY(Atanh, ATANH, ONNX_FLOAT)
UNARY(BitwiseNot, BITNOT, ONNX_INT)
UNARY(Ceil, CEIL, ONNX_FLOAT)
UNARY(Cos, COS, ONNX_FLOAT)
UNARY(Cosh, COSH, ONNX_FLOAT)
UNARY(Exp, EXP, ONNX_FLOAT)
UNARY(Floor, FLOOR, ONNX_FLOAT)
UNARY(IsNaN, IS_NAN, ONNX_FLOAT)
UNARY(Log, LOG, ONNX_FLOAT)
UNARY(Neg, NEG, ONNX_NUMBER)
UNARY(Not, NOT, ONNX_BOOL)
UNARY(Reciprocal, RECIP, ONNX_FLOAT)
UNARY(Relu, RELU, ONNX_NUMBER)
UNARY(Round, ROUND, ONNX_FLOAT)
UNARY(Sigmoid, SIGMOID, ONNX_FLOAT)
UNARY(Sign, SIGN, ONNX_NUMBER)
UNARY(Sin, SIN, ONNX_FLOAT)
UNARY(Sinh, SINH, ONNX_FLOAT)
UNARY(Softplus, SOFTPLUS, ONNX_FLOAT)
UNARY(Sqrt, SQRT, ONNX_FLOAT)
UNARY(Tan, TAN, ONNX_FLOAT)
UNARY(Tanh, TANH, ONNX_FLOAT)

/* ONNX has Erf of integers: it is computed in float and truncated back. */
nn_status onnx_Erf(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  NN_TRY(onnx_need_kind(n, 0, ONNX_NUMBER));
  nn_dtype t = n->in[0]->type.dtype;
  nn_value *x = nn_dtype_is_float(t) ? n->in[0] : nn_b_cast(n->b, n->in[0], NN_F64);
  ONNX_GIVE(n, nn_b_cast(n->b, nn_b_unary(n->b, NN_OP_ERF, x), t));
}

nn_status onnx_Identity(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  ONNX_GIVE(n, n->in[0]);
}

nn_status onnx_IsInf(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  NN_TRY(onnx_need_float(n, 0));
  nn_op *op = nn_b_begin(n->b, NN_OP_IS_INF, n->in, 1, -1);
  if (!op) return NN_FAIL;
  nn_set_int(op, "positive", onnx_int(n, "detect_positive", 1) != 0);
  nn_set_int(op, "negative", onnx_int(n, "detect_negative", 1) != 0);
  ONNX_GIVE(n, nn_b_end(n->b, op));
}

/* ---- two operands ----------------------------------------------------------------------------- */

/* Before opset 7 the second operand was stretched only where `broadcast` was set: its dimensions are
   those of the first one from `axis` on (without it: the last ones). Gives it trailing 1s to suit. */
static nn_status align_legacy(onnx_node *n, nn_value **y) {
  nn_type x = n->in[0]->type, t = (*y)->type;
  bool stretch = onnx_int(n, "broadcast", 0) != 0;
  if (!stretch && t.rank != x.rank)
    return onnx_fail(n, "input 1 has rank %d and input 0 rank %d, expected equal ranks without attribute broadcast",
                     t.rank, x.rank);
  if (t.rank > x.rank)
    return onnx_fail(n, "input 1 has rank %d, expected at most %d, the rank of input 0", t.rank, x.rank);
  if (!stretch || !onnx_has(n, "axis")) return NN_OK;
  int axis = 0;
  int64_t given = onnx_int(n, "axis", 0);
  if (t.rank == 0 || (given == x.rank - t.rank)) return NN_OK;
  NN_TRY(onnx_axis(n, given, x.rank, &axis));
  if (axis + t.rank > x.rank)
    return onnx_fail(n, "axis %d and rank %d of input 1 do not fit in rank %d of input 0", axis, t.rank, x.rank);
  nn_dim dims[NN_MAX_RANK];
  int rank = x.rank - axis;
  for (int i = 0; i < rank; i++) dims[i] = i < t.rank ? t.dims[i] : nn_dim_const(n->m, 1);
  *y = nn_b_reshape(n->b, *y, rank, dims);
  return *y ? NN_OK : NN_FAIL;
}

/* Checks the two operands; y: the second one, aligned for broadcasting. */
static nn_status take_operands(onnx_node *n, unsigned kinds, nn_value **y) {
  NN_TRY(onnx_need(n, 2, 2, 1));
  NN_TRY(onnx_need_kind(n, 0, kinds));
  NN_TRY(onnx_need_kind(n, 1, kinds));
  *y = n->in[1];
  return n->since < 7 ? align_legacy(n, y) : NN_OK;
}

static nn_status give_binary(onnx_node *n, nn_opcode code, unsigned kinds) {
  nn_value *y;
  NN_TRY(take_operands(n, kinds, &y));
  NN_TRY(onnx_same_dtype(n, 0, 1));
  return onnx_give(n, 0, nn_b_binary(n->b, code, n->in[0], y));
}

/* x > y is y < x. */
static nn_status give_swapped(onnx_node *n, nn_opcode code) {
  nn_value *y;
  NN_TRY(take_operands(n, ONNX_NUMBER, &y));
  NN_TRY(onnx_same_dtype(n, 0, 1));
  return onnx_give(n, 0, nn_b_binary(n->b, code, y, n->in[0]));
}

#define BINARY(Name, CODE, KINDS)                                                                                      \
  nn_status onnx_##Name(onnx_node *n) { return give_binary(n, NN_OP_##CODE, KINDS); }

BINARY(Add, ADD, ONNX_NUMBER)
BINARY(And, AND, ONNX_BOOL)
BINARY(BitwiseAnd, BITAND, ONNX_INT)
BINARY(BitwiseOr, BITOR, ONNX_INT)
BINARY(BitwiseXor, BITXOR, ONNX_INT)
BINARY(Div, DIV, ONNX_NUMBER)
BINARY(Equal, EQ, ONNX_NUMBER | ONNX_BOOL)
BINARY(Less, LT, ONNX_NUMBER)
BINARY(LessOrEqual, LE, ONNX_NUMBER)
BINARY(Mul, MUL, ONNX_NUMBER)
BINARY(Or, OR, ONNX_BOOL)
BINARY(Sub, SUB, ONNX_NUMBER)
BINARY(Xor, XOR, ONNX_BOOL)

nn_status onnx_Greater(onnx_node *n) { return give_swapped(n, NN_OP_LT); }
nn_status onnx_GreaterOrEqual(onnx_node *n) { return give_swapped(n, NN_OP_LE); }

nn_status onnx_BitShift(onnx_node *n) {
  const char *direction = onnx_str(n, "direction", "");
  if (!strcmp(direction, "LEFT")) return give_binary(n, NN_OP_SHL, ONNX_INT);
  if (!strcmp(direction, "RIGHT")) return give_binary(n, NN_OP_SHR, ONNX_INT);
  return onnx_fail(n, "attribute direction is '%s', expected LEFT or RIGHT", direction);
}

/* fmod 0 is Python's %, which ONNX allows for integers only. */
nn_status onnx_Mod(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 2, 1));
  if (onnx_int(n, "fmod", 0)) return give_binary(n, NN_OP_FMOD, ONNX_NUMBER);
  if (nn_dtype_is_float(n->in[0]->type.dtype))
    return onnx_fail(n, "element type %s needs attribute fmod=1", nn_dtype_name(n->in[0]->type.dtype));
  return give_binary(n, NN_OP_MOD, ONNX_INT);
}

/* Are all values of constant input i whole and small enough for every integer type that takes part? */
static bool is_whole(onnx_node *n, int i) {
  const double *values;
  int count;
  if (!onnx_is_const(n, i) || onnx_const_floats(n, i, &values, &count) != NN_OK) return false;
  for (int k = 0; k < count; k++)
    if (!(values[k] >= 0 && values[k] < 64) || values[k] != (double)(int)values[k]) return false;
  return true;
}

/* The result has x's type; the two may differ. Computed in the wider of two floats; an integer to a
   whole power is exact, to any other float it goes through f64. */
nn_status onnx_Pow(onnx_node *n) {
  nn_value *y;
  NN_TRY(take_operands(n, ONNX_NUMBER, &y));
  nn_value *x = n->in[0];
  nn_dtype t = x->type.dtype, ty = y->type.dtype, work = t;
  if (nn_dtype_is_float(t) && nn_dtype_is_float(ty) && nn_dtype_bits(ty) > nn_dtype_bits(t)) work = ty;
  if (nn_dtype_is_int(t) && nn_dtype_is_float(ty) && !is_whole(n, 1)) work = NN_F64;
  nn_value *power = nn_b_binary(n->b, NN_OP_POW, nn_b_cast(n->b, x, work), nn_b_cast(n->b, y, work));
  ONNX_GIVE(n, nn_b_cast(n->b, power, t));
}

/* ---- any number of operands ------------------------------------------------------------------- */

static nn_value *chain_inputs(onnx_node *n, nn_opcode code, bool wide) {
  nn_value *y = wide ? onnx_wide(n, n->in[0]) : n->in[0];
  for (int i = 1; i < n->nin; i++) y = nn_b_binary(n->b, code, y, wide ? onnx_wide(n, n->in[i]) : n->in[i]);
  return y;
}

static nn_status check_variadic(onnx_node *n, unsigned kinds) {
  NN_TRY(onnx_need(n, n->nin > 0 ? n->nin : 1, -1, 1));
  NN_TRY(onnx_need_kind(n, 0, kinds));
  return onnx_same_dtype(n, 0, n->nin - 1);
}

nn_status onnx_Max(onnx_node *n) {
  NN_TRY(check_variadic(n, ONNX_NUMBER));
  ONNX_GIVE(n, chain_inputs(n, NN_OP_MAX, false));
}

nn_status onnx_Min(onnx_node *n) {
  NN_TRY(check_variadic(n, ONNX_NUMBER));
  ONNX_GIVE(n, chain_inputs(n, NN_OP_MIN, false));
}

nn_status onnx_Sum(onnx_node *n) {
  NN_TRY(check_variadic(n, ONNX_FLOAT));
  ONNX_GIVE(n, nn_b_cast(n->b, chain_inputs(n, NN_OP_ADD, true), n->in[0]->type.dtype));
}

nn_status onnx_Mean(onnx_node *n) {
  NN_TRY(check_variadic(n, ONNX_FLOAT));
  nn_value *mean = nn_b_scalar_op(n->b, NN_OP_DIV, chain_inputs(n, NN_OP_ADD, true), n->nin);
  ONNX_GIVE(n, nn_b_cast(n->b, mean, n->in[0]->type.dtype));
}

nn_status onnx_Where(onnx_node *n) {
  NN_TRY(onnx_need(n, 3, 3, 1));
  NN_TRY(onnx_need_kind(n, 0, ONNX_BOOL));
  NN_TRY(onnx_same_dtype(n, 1, 2));
  ONNX_GIVE(n, nn_b_select(n->b, n->in[0], n->in[1], n->in[2]));
}

/* ---- Clip, Dropout ---------------------------------------------------------------------------- */

static nn_status clip_by_attributes(onnx_node *n) {
  nn_value *y = n->in[0];
  if (onnx_has(n, "min")) y = nn_b_scalar_op(n->b, NN_OP_MAX, y, onnx_float(n, "min", 0));
  if (onnx_has(n, "max")) y = nn_b_scalar_op(n->b, NN_OP_MIN, y, onnx_float(n, "max", 0));
  return onnx_give(n, 0, y);
}

/* Opset 11 made the bounds inputs, each of them optional. */
nn_status onnx_Clip(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, n->since < 11 ? 1 : 3, 1));
  NN_TRY(onnx_need_kind(n, 0, ONNX_NUMBER));
  if (n->since < 11) return clip_by_attributes(n);
  static const nn_opcode codes[] = {NN_OP_COPY, NN_OP_MAX, NN_OP_MIN};
  nn_value *y = n->in[0];
  for (int i = 1; i < n->nin; i++) {
    if (!n->in[i]) continue;
    if (n->in[i]->type.dtype != n->in[0]->type.dtype)
      return onnx_fail(n, "input %d has element type %s, expected %s", i, nn_dtype_name(n->in[i]->type.dtype),
                       nn_dtype_name(n->in[0]->type.dtype));
    y = nn_b_binary(n->b, codes[i], y, onnx_as_scalar(n, n->in[i]));
  }
  ONNX_GIVE(n, y);
}

static nn_status find_ratio(onnx_node *n, double *ratio) {
  *ratio = onnx_float(n, "ratio", 0.5);
  if (n->since < 12 || n->nin < 2 || !n->in[1]) return NN_OK;
  const double *values;
  int count;
  NN_TRY(onnx_const_floats(n, 1, &values, &count));
  if (count != 1) return onnx_fail(n, "ratio has %d values, expected 1", count);
  *ratio = values[0];
  return NN_OK;
}

/* Does the node drop anything? Training mode is input 2 since opset 12; opset 7 to 11 have none; before
   that is_test says, which exporters often left out of inference models. */
static nn_status dropout_is_active(onnx_node *n, bool *active) {
  *active = false;
  if (n->since < 7 && !onnx_int(n, "is_test", 0))
    onnx_warn(n, "attribute is_test is 0, which asks for training: imported for inference, nothing is dropped");
  if (n->since < 12 || n->nin < 3 || !n->in[2]) return NN_OK;
  NN_TRY(onnx_need_kind(n, 2, ONNX_BOOL));
  const double *training;
  int count;
  NN_TRY(onnx_const_floats(n, 2, &training, &count));
  if (count != 1) return onnx_fail(n, "training_mode has %d values, expected 1", count);
  double ratio = 0;
  if (training[0] != 0) NN_TRY(find_ratio(n, &ratio));
  *active = ratio != 0;
  return NN_OK;
}

nn_status onnx_Dropout(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, n->since < 12 ? 1 : 3, 2));
  bool active;
  NN_TRY(dropout_is_active(n, &active));
  if (active) return onnx_unsupported(n, "dropout in training mode: random masks are not supported in imported models");
  nn_type x = n->in[0]->type;
  if (onnx_wants(n, 1)) NN_TRY(onnx_give(n, 1, nn_b_fill(n->b, n->since < 10 ? x.dtype : NN_BOOL, 1, x.rank, x.dims)));
  ONNX_GIVE(n, n->in[0]);
}
