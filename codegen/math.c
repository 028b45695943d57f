/* Elementary functions as loop IR: which function serves which op, and the small helpers that all of them
   use. f32 and f64 are computed in their own type (a few f32 functions through f64 where the target has it,
   see docs/math.md), the narrower types in f32. Each function's error is measured by tests/loop/test_loop_math.c. */
#include "codegen/math.h"

#include <assert.h>
#include <math.h>

/* ---- short names ---------------------------------------------------------------------------------------- */

nn_mx nn_mx_of(nn_kernel *k, nn_dtype t) {
  assert(t == NN_F32 || t == NN_F64);
  bool wide = t == NN_F64;
  nn_mx m = {.k = k, .t = t, .ti = wide ? NN_I64 : NN_I32, .has_f64 = true, .mantissa = wide ? 52 : 23, .bias = wide ? 1023 : 127};
  m.magic = ldexp(1.5, m.mantissa);
  m.magic_bits = wide ? INT64_C(0x4338000000000000) : INT64_C(0x4b400000);
  return m;
}

bool nn_mx_is_f64(const nn_mx *m) { return m->t == NN_F64; }

nn_x *nn_mx_c(const nn_mx *m, double value) { return nn_x_const(m->k, m->t, value); }
nn_x *nn_mx_let(const nn_mx *m, nn_x *x) { return nn_let(m->k, x); }
nn_x *nn_mx_add(const nn_mx *m, nn_x *a, nn_x *b) { return nn_x_binary(m->k, NN_X_ADD, a, b); }
nn_x *nn_mx_sub(const nn_mx *m, nn_x *a, nn_x *b) { return nn_x_binary(m->k, NN_X_SUB, a, b); }
nn_x *nn_mx_mul(const nn_mx *m, nn_x *a, nn_x *b) { return nn_x_binary(m->k, NN_X_MUL, a, b); }
nn_x *nn_mx_div(const nn_mx *m, nn_x *a, nn_x *b) { return nn_x_binary(m->k, NN_X_DIV, a, b); }
nn_x *nn_mx_mulc(const nn_mx *m, nn_x *a, double b) { return nn_mx_mul(m, a, nn_mx_c(m, b)); }
nn_x *nn_mx_addc(const nn_mx *m, nn_x *a, double b) { return nn_mx_add(m, a, nn_mx_c(m, b)); }
nn_x *nn_mx_fma(const nn_mx *m, nn_x *a, nn_x *b, nn_x *c) { return nn_x_fma(m->k, a, b, c); }
nn_x *nn_mx_fmac(const nn_mx *m, nn_x *a, double b, nn_x *c) { return nn_x_fma(m->k, a, nn_mx_c(m, b), c); }
nn_x *nn_mx_neg(const nn_mx *m, nn_x *a) { return nn_x_unary(m->k, NN_X_NEG, a); }
nn_x *nn_mx_abs(const nn_mx *m, nn_x *a) { return nn_x_unary(m->k, NN_X_ABS, a); }
nn_x *nn_mx_sqrt(const nn_mx *m, nn_x *a) { return nn_x_unary(m->k, NN_X_SQRT, a); }
nn_x *nn_mx_round(const nn_mx *m, nn_x *a) { return nn_x_unary(m->k, NN_X_ROUND, a); }
nn_x *nn_mx_lt(const nn_mx *m, nn_x *a, nn_x *b) { return nn_x_binary(m->k, NN_X_LT, a, b); }
nn_x *nn_mx_ltc(const nn_mx *m, nn_x *a, double b) { return nn_mx_lt(m, a, nn_mx_c(m, b)); }
nn_x *nn_mx_gtc(const nn_mx *m, nn_x *a, double b) { return nn_mx_lt(m, nn_mx_c(m, b), a); }
nn_x *nn_mx_eqc(const nn_mx *m, nn_x *a, double b) { return nn_x_binary(m->k, NN_X_EQ, a, nn_mx_c(m, b)); }
nn_x *nn_mx_select(const nn_mx *m, nn_x *cond, nn_x *yes, nn_x *no) { return nn_x_select(m->k, cond, yes, no); }
nn_x *nn_mx_bits(const nn_mx *m, nn_x *a) { return nn_x_bitcast(m->k, a, m->ti); }
nn_x *nn_mx_float(const nn_mx *m, nn_x *bits) { return nn_x_bitcast(m->k, bits, m->t); }
nn_x *nn_mx_int(const nn_mx *m, int64_t value) { return nn_x_iconst(m->k, m->ti, value); }
nn_x *nn_mx_iop(const nn_mx *m, nn_xop op, nn_x *a, int64_t b) { return nn_x_binary(m->k, op, a, nn_mx_int(m, b)); }
nn_x *nn_mx_lookup(const nn_mx *m, const char *name, const int32_t *values, int count, nn_x *index) {
  return nn_x_lookup(m->k, nn_kernel_table(m->k, name, values, count), index);
}
nn_x *nn_mx_wide(const nn_mx *m, nn_x *a) { return nn_x_cast(m->k, nn_x_cast(m->k, a, NN_U32), NN_U64); }

nn_x *nn_mx_clamp(const nn_mx *m, nn_x *x, double lo, double hi) {
  nn_x *above = nn_mx_let(m, nn_mx_select(m, nn_mx_ltc(m, x, lo), nn_mx_c(m, lo), x));
  return nn_mx_select(m, nn_mx_gtc(m, above, hi), nn_mx_c(m, hi), above);
}

nn_x *nn_mx_copysign(const nn_mx *m, nn_x *size, nn_x *sign) {
  nn_x *bit = nn_mx_iop(m, NN_X_AND, nn_mx_bits(m, sign), nn_mx_is_f64(m) ? INT64_MIN : INT32_MIN);
  return nn_mx_float(m, nn_x_binary(m->k, NN_X_OR, nn_mx_bits(m, size), bit));
}

nn_x *nn_mx_poly(const nn_mx *m, nn_x *x, const double *c, int count) {
  nn_x *sum = nn_mx_c(m, c[count - 1]);
  for (int i = count - 2; i >= 0; i--) sum = nn_mx_fma(m, sum, x, nn_mx_c(m, c[i]));
  return sum;
}

nn_x *nn_mx_pow2(const nn_mx *m, nn_x *n) {
  return nn_mx_float(m, nn_mx_iop(m, NN_X_SHL, nn_mx_iop(m, NN_X_ADD, n, m->bias), m->mantissa));
}

nn_x *nn_mx_from_int(const nn_mx *m, nn_x *n) {
  return nn_mx_addc(m, nn_mx_float(m, nn_mx_iop(m, NN_X_ADD, n, m->magic_bits)), -m->magic);
}

/* ---- by op ------------------------------------------------------------------------------------------------- */

typedef nn_x *math_fn(const nn_mx *m, nn_x *x);

static math_fn *function_of(nn_opcode code) {
  switch (code) {
    case NN_OP_EXP: return nn_mx_exp;
    case NN_OP_LOG: return nn_mx_log;
    case NN_OP_EXPM1: return nn_mx_expm1;
    case NN_OP_LOG1P: return nn_mx_log1p;
    case NN_OP_SIN: return nn_mx_sin;
    case NN_OP_COS: return nn_mx_cos;
    case NN_OP_TAN: return nn_mx_tan;
    case NN_OP_ASIN: return nn_mx_asin;
    case NN_OP_ACOS: return nn_mx_acos;
    case NN_OP_ATAN: return nn_mx_atan;
    case NN_OP_SINH: return nn_mx_sinh;
    case NN_OP_COSH: return nn_mx_cosh;
    case NN_OP_TANH: return nn_mx_tanh;
    case NN_OP_ASINH: return nn_mx_asinh;
    case NN_OP_ACOSH: return nn_mx_acosh;
    case NN_OP_ATANH: return nn_mx_atanh;
    case NN_OP_ERF: return nn_mx_erf;
    case NN_OP_SIGMOID: return nn_mx_sigmoid;
    case NN_OP_SILU2: return nn_mx_silu2;
    case NN_OP_SOFTPLUS: return nn_mx_softplus;
    default: return NULL;
  }
}

/* Instead of function_of; NULL: there is none. */
static math_fn *near_function_of(nn_opcode code) {
  switch (code) {
    case NN_OP_EXP: return nn_mx_near_exp;
    case NN_OP_TANH: return nn_mx_near_tanh;
    case NN_OP_ERF: return nn_mx_near_erf;
    case NN_OP_SIGMOID: return nn_mx_near_sigmoid;
    default: return NULL;
  }
}

static nn_dtype computed_in(nn_dtype t) { return t == NN_F64 ? NN_F64 : NN_F32; }

static nn_mx numbers_of(const nn_lower *L, nn_dtype t) {
  nn_mx m = nn_mx_of(L->kernel, computed_in(t));
  m.has_f64 = !L->target || L->target->has_sqrt_f64;
  m.is_fused = L->target && L->target->has_fma;
  m.has_lookup = m.is_fused && L->target->has_lookup;
  m.is_near = L->target && L->target->fp == NNCC_FP_FAST && m.t == NN_F32;
  return m;
}

static nn_x *widen(nn_kernel *k, nn_x *x) { return nn_let(k, nn_x_cast(k, x, computed_in(x->dtype))); }

nn_x *nn_math(nn_lower *L, nn_opcode code, nn_x *x) {
  nn_kernel *k = L->kernel;
  nn_mx m = numbers_of(L, x->dtype);
  math_fn *near = m.is_near ? near_function_of(code) : NULL, *fn = near ? near : function_of(code);
  assert(fn && nn_dtype_is_float(x->dtype));
  return nn_let(k, nn_x_cast(k, fn(&m, widen(k, x)), x->dtype));
}

nn_x *nn_math_gate(nn_lower *L, nn_x *y, nn_x *x) {
  nn_mx m = numbers_of(L, x->dtype);
  return m.is_near ? nn_mx_near_gate(&m, y, x) : nn_mx_gate(&m, y, x);
}

nn_x *nn_math_pow(nn_lower *L, nn_x *x, nn_x *y) {
  nn_kernel *k = L->kernel;
  nn_mx m = numbers_of(L, x->dtype);
  return nn_let(k, nn_x_cast(k, nn_mx_pow(&m, widen(k, x), widen(k, y)), x->dtype));
}

nn_x *nn_math_fmod(nn_lower *L, nn_x *x, nn_x *y) {
  nn_kernel *k = L->kernel;
  nn_mx m = numbers_of(L, x->dtype);
  return nn_let(k, nn_x_cast(k, nn_mx_fmod(&m, widen(k, x), widen(k, y)), x->dtype));
}
