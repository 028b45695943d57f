/* Pointwise ops: the element of the result from the operands' elements at the same indices. What loop IR
   computes directly is one node; elementary functions are math.c's. */
#include "codegen/codegen.h"

#include <math.h>

static nn_x *operand(nn_lower *L, nn_op *op, int i, nn_x *const *index) { return nn_read(L, op->in[i], index); }

static bool is_float(const nn_x *x) { return nn_dtype_is_float(x->dtype); }

/* ---- ops that are one node ----------------------------------------------------------------------- */

#define UNARY(name, xop)                                                                                               \
  nn_x *elem_##name(nn_lower *L, nn_op *op, nn_x *const *index) {                                                      \
    return nn_x_unary(L->kernel, xop, operand(L, op, 0, index));                                                       \
  }
/* Identity on integers. */
#define ROUNDING(name, xop)                                                                                            \
  nn_x *elem_##name(nn_lower *L, nn_op *op, nn_x *const *index) {                                                      \
    nn_x *x = operand(L, op, 0, index);                                                                                \
    return is_float(x) ? nn_x_unary(L->kernel, xop, x) : x;                                                            \
  }
#define BINARY(name, xop)                                                                                              \
  nn_x *elem_##name(nn_lower *L, nn_op *op, nn_x *const *index) {                                                      \
    nn_x *x = operand(L, op, 0, index);                                                                                \
    return nn_x_binary(L->kernel, xop, x, operand(L, op, 1, index));                                                   \
  }
#define FUNCTION(name, code)                                                                                           \
  nn_x *elem_##name(nn_lower *L, nn_op *op, nn_x *const *index) {                                                      \
    return nn_math(L, NN_OP_##code, operand(L, op, 0, index));                                                         \
  }

UNARY(neg, NN_X_NEG)
UNARY(sqrt, NN_X_SQRT)
UNARY(not, NN_X_NOT)
UNARY(bitnot, NN_X_NOT)
ROUNDING(floor, NN_X_FLOOR)
ROUNDING(ceil, NN_X_CEIL)
ROUNDING(round, NN_X_ROUND)
ROUNDING(trunc, NN_X_TRUNC)
BINARY(add, NN_X_ADD)
BINARY(sub, NN_X_SUB)
BINARY(div, NN_X_DIV)
BINARY(and, NN_X_AND)
BINARY(or, NN_X_OR)
BINARY(xor, NN_X_XOR)
BINARY(bitand, NN_X_AND)
BINARY(bitor, NN_X_OR)
BINARY(bitxor, NN_X_XOR)
BINARY(eq, NN_X_EQ)
BINARY(ne, NN_X_NE)
BINARY(lt, NN_X_LT)
BINARY(le, NN_X_LE)
BINARY(min, NN_X_MIN)
BINARY(max, NN_X_MAX)
FUNCTION(exp, EXP)
FUNCTION(log, LOG)
FUNCTION(expm1, EXPM1)
FUNCTION(log1p, LOG1P)
FUNCTION(sin, SIN)
FUNCTION(cos, COS)
FUNCTION(tan, TAN)
FUNCTION(asin, ASIN)
FUNCTION(acos, ACOS)
FUNCTION(atan, ATAN)
FUNCTION(sinh, SINH)
FUNCTION(cosh, COSH)
FUNCTION(tanh, TANH)
FUNCTION(asinh, ASINH)
FUNCTION(acosh, ACOSH)
FUNCTION(atanh, ATANH)
FUNCTION(erf, ERF)
FUNCTION(sigmoid, SIGMOID)
FUNCTION(silu2, SILU2)
FUNCTION(softplus, SOFTPLUS)

nn_x *elem_copy(nn_lower *L, nn_op *op, nn_x *const *index) { return operand(L, op, 0, index); }

/* ---- products ------------------------------------------------------------------------------------- */

/* The op of operand i where it is a sigmoid made for this product, else NULL. */
static nn_op *gate_of(const nn_lower *L, const nn_op *op, int i) {
  nn_dtype t = op->in[i]->type.dtype;
  nn_op *made = nn_read_op(L, op->in[i]);
  return made && made->code == NN_OP_SIGMOID && (t == NN_F32 || t == NN_F64) ? made : NULL;
}

/* y * sigmoid(x) = y / (1 + exp(-x)). */
nn_x *elem_mul(nn_lower *L, nn_op *op, nn_x *const *index) {
  for (int i = 0; i < 2; i++) {
    nn_op *gate = gate_of(L, op, i);
    if (!gate) continue;
    nn_x *y = operand(L, op, 1 - i, index);
    return nn_math_gate(L, y, nn_read(L, gate->in[0], index));
  }
  nn_x *x = operand(L, op, 0, index);
  return nn_x_binary(L->kernel, NN_X_MUL, x, operand(L, op, 1, index));
}

/* ---- signs --------------------------------------------------------------------------------------- */

static bool is_unsigned(const nn_x *x) {
  nn_dtype_kind kind = nn_dtype_kind_of(x->dtype);
  return kind == NN_KIND_UINT || kind == NN_KIND_BOOL;
}

nn_x *elem_abs(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_x *x = operand(L, op, 0, index);
  return is_unsigned(x) ? x : nn_x_unary(L->kernel, NN_X_ABS, x);
}

/* A zero and a NaN stand for themselves. */
nn_x *elem_sign(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_kernel *k = L->kernel;
  nn_x *x = operand(L, op, 0, index), *zero = nn_number(L, x->dtype, 0), *one = nn_number(L, x->dtype, 1);
  if (is_unsigned(x)) return nn_x_select(k, nn_x_binary(k, NN_X_EQ, x, zero), zero, one);
  nn_x *is_negative = nn_x_binary(k, NN_X_LT, x, zero);
  nn_x *not_positive = nn_x_select(k, is_negative, nn_number(L, x->dtype, -1), x);
  return nn_x_select(k, nn_x_binary(k, NN_X_LT, zero, x), one, not_positive);
}

nn_x *elem_relu(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_x *x = operand(L, op, 0, index);
  return is_unsigned(x) ? x : nn_x_binary(L->kernel, NN_X_MAX, x, nn_number(L, x->dtype, 0));
}

nn_x *elem_recip(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_x *x = operand(L, op, 0, index);
  return nn_x_binary(L->kernel, NN_X_DIV, nn_number(L, x->dtype, 1), x);
}

/* ---- tests and types ----------------------------------------------------------------------------- */

/* Narrow floats as f32, where infinity exists. */
static nn_x *widen(nn_lower *L, nn_x *x) {
  return x->dtype == NN_F64 || x->dtype == NN_F32 || !is_float(x) ? x : nn_bind(L, nn_x_cast(L->kernel, x, NN_F32));
}

nn_x *elem_is_nan(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_x *x = widen(L, operand(L, op, 0, index));
  return is_float(x) ? nn_x_binary(L->kernel, NN_X_NE, x, x) : nn_number(L, NN_BOOL, 0);
}

nn_x *elem_is_inf(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_kernel *k = L->kernel;
  nn_x *x = widen(L, operand(L, op, 0, index)), *found = nn_number(L, NN_BOOL, 0);
  if (!is_float(x)) return found;
  if (nn_attr_int(op, "positive")) found = nn_x_binary(k, NN_X_EQ, x, nn_x_const(k, x->dtype, INFINITY));
  if (!nn_attr_int(op, "negative")) return found;
  return nn_x_binary(k, NN_X_OR, found, nn_x_binary(k, NN_X_EQ, x, nn_x_const(k, x->dtype, -INFINITY)));
}

nn_x *elem_cast(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_dtype to = (nn_dtype)nn_attr_int(op, "to");
  nn_x *x = operand(L, op, 0, index);
  if (nn_dtype_is_float(to) && nn_dtype_bits(to) <= 8 && nn_attr_int(op, "saturate"))
    return nn_x_cast_sat(L->kernel, x, to);
  return nn_x_cast(L->kernel, x, to);
}

nn_x *elem_bitcast(nn_lower *L, nn_op *op, nn_x *const *index) {
  return nn_x_bitcast(L->kernel, operand(L, op, 0, index), (nn_dtype)nn_attr_int(op, "to"));
}

/* ---- choice -------------------------------------------------------------------------------------- */

nn_x *elem_select(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_x *cond = operand(L, op, 0, index), *yes = operand(L, op, 1, index);
  return nn_x_select(L->kernel, cond, yes, operand(L, op, 2, index));
}

/* ---- remainders ---------------------------------------------------------------------------------- */

nn_x *elem_fmod(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_x *x = operand(L, op, 0, index), *y = operand(L, op, 1, index);
  return is_float(x) ? nn_math_fmod(L, x, y) : nn_x_binary(L->kernel, NN_X_REM, x, y);
}

/* Floats as Python: the C remainder, moved by y where their signs differ. */
nn_x *elem_mod(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_kernel *k = L->kernel;
  nn_x *x = operand(L, op, 0, index), *y = operand(L, op, 1, index);
  if (!is_float(x)) return nn_x_binary(k, NN_X_FLOORMOD, x, y);
  nn_x *zero = nn_number(L, x->dtype, 0), *r = nn_bind(L, nn_math_fmod(L, x, y));
  nn_x *differ = nn_x_binary(k, NN_X_NE, nn_x_binary(k, NN_X_LT, r, zero), nn_x_binary(k, NN_X_LT, y, zero));
  differ = nn_x_binary(k, NN_X_AND, differ, nn_x_binary(k, NN_X_NE, r, zero));
  return nn_x_select(k, differ, nn_x_binary(k, NN_X_ADD, r, y), r);
}

/* ---- powers -------------------------------------------------------------------------------------- */

/* x to a small known exponent, or NULL. One half: sqrt, but -0 gives 0 and -inf gives inf. */
static nn_x *known_power(nn_lower *L, nn_x *x, double y) {
  nn_kernel *k = L->kernel;
  if (y == 1) return x;
  if (y == 2) return nn_x_binary(k, NN_X_MUL, x, x);
  if (y == 3) return nn_x_binary(k, NN_X_MUL, nn_x_binary(k, NN_X_MUL, x, x), x);
  if (y == -1) return nn_x_binary(k, NN_X_DIV, nn_number(L, x->dtype, 1), x);
  if (y != 0.5 || (x->dtype != NN_F32 && x->dtype != NN_F64)) return NULL;
  nn_x *root = nn_x_unary(k, NN_X_SQRT, nn_x_binary(k, NN_X_ADD, x, nn_number(L, x->dtype, 0)));
  nn_x *is_minus_inf = nn_x_binary(k, NN_X_EQ, x, nn_x_const(k, x->dtype, -INFINITY));
  return nn_x_select(k, is_minus_inf, nn_x_const(k, x->dtype, INFINITY), root);
}

/* x to a negative y: 0, but 1 for 1, +-1 for -1, and 0 for 0 (which has no answer). */
static nn_x *negative_power(nn_lower *L, nn_x *x, nn_x *y) {
  nn_kernel *k = L->kernel;
  nn_x *zero = nn_number(L, x->dtype, 0), *one = nn_number(L, x->dtype, 1), *minus = nn_number(L, x->dtype, -1);
  nn_x *is_odd = nn_x_cast(k, nn_x_binary(k, NN_X_AND, y, nn_number(L, y->dtype, 1)), NN_BOOL);
  nn_x *of_minus = nn_x_select(k, is_odd, minus, one);
  nn_x *other = nn_x_select(k, nn_x_binary(k, NN_X_EQ, x, minus), of_minus, zero);
  return nn_x_select(k, nn_x_binary(k, NN_X_EQ, x, one), one, other);
}

/* By squaring, one step for each bit of the exponent; wraps. */
static nn_x *integer_power(nn_lower *L, nn_x *x, nn_x *y) {
  nn_kernel *k = L->kernel;
  int bits = nn_dtype_bits(y->dtype);
  nn_x *result = nn_number(L, x->dtype, 1), *square = x, *one = nn_number(L, y->dtype, 1);
  for (int i = 0; i < bits; i++) {
    nn_x *bit = nn_x_binary(k, NN_X_AND, nn_x_binary(k, NN_X_SHR, y, nn_number(L, y->dtype, i)), one);
    nn_x *product = nn_x_binary(k, NN_X_MUL, result, square);
    result = nn_bind(L, nn_x_select(k, nn_x_cast(k, bit, NN_BOOL), product, result));
    if (i + 1 < bits) square = nn_bind(L, nn_x_binary(k, NN_X_MUL, square, square));
  }
  if (is_unsigned(y)) return result;
  nn_x *is_negative = nn_x_binary(k, NN_X_LT, y, nn_number(L, y->dtype, 0));
  return nn_x_select(k, is_negative, negative_power(L, x, y), result);
}

nn_x *elem_pow(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_x *x = operand(L, op, 0, index), *y = operand(L, op, 1, index), *known = NULL;
  int64_t exponent = 0;
  if (is_float(x)) {
    if (y->op == NN_X_CONST) known = known_power(L, x, y->f);
    return known ? known : nn_math_pow(L, x, y);
  }
  if (nn_x_is_const(y, &exponent) && exponent >= 1 && exponent <= 3) return known_power(L, x, (double)exponent);
  return integer_power(L, x, y);
}

/* ---- shifts -------------------------------------------------------------------------------------- */

/* 0 <= y < width */
static nn_x *is_in_width(nn_lower *L, nn_x *y) {
  nn_kernel *k = L->kernel;
  int width = nn_dtype_bits(y->dtype);
  nn_x *below = nn_x_binary(k, NN_X_LE, y, nn_number(L, y->dtype, width - 1));
  if (is_unsigned(y)) return below;
  return nn_x_binary(k, NN_X_AND, below, nn_x_binary(k, NN_X_LE, nn_number(L, y->dtype, 0), y));
}

static nn_x *shift(nn_lower *L, nn_xop xop, nn_x *x, nn_x *y, nn_x *beyond) {
  nn_x *inside = nn_bind(L, is_in_width(L, y));
  nn_x *amount = nn_x_select(L->kernel, inside, y, nn_number(L, y->dtype, 0));
  return nn_x_select(L->kernel, inside, nn_x_binary(L->kernel, xop, x, amount), beyond);
}

nn_x *elem_shl(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_x *x = operand(L, op, 0, index), *y = operand(L, op, 1, index);
  return shift(L, NN_X_SHL, x, y, nn_number(L, x->dtype, 0));
}

/* Signed types: beyond the width only the sign is left. */
nn_x *elem_shr(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_x *x = operand(L, op, 0, index), *y = operand(L, op, 1, index), *zero = nn_number(L, x->dtype, 0);
  nn_x *sign = is_unsigned(x)
                   ? zero
                   : nn_x_select(L->kernel, nn_x_binary(L->kernel, NN_X_LT, x, zero), nn_number(L, x->dtype, -1), zero);
  return shift(L, NN_X_SHR, x, y, sign);
}
