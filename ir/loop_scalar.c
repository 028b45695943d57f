/* What each operation of the loop IR means, on one value. Constant folding and the interpreter both come
   here, so they cannot disagree; the emitter is tested against them.

   Floats narrower than f32 are held as f32 numbers: the f32 operation, then one rounding, which saturates for
   8 bits and fewer. f64 to a narrow type rounds once; an integer goes to a narrow float type through f32. */
#include "ir/loop.h"

#include <math.h>
#include <string.h>

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

static bool is_float(nn_dtype t) { return nn_dtype_kind_of(t) == NN_KIND_FLOAT; }

static bool is_signed(nn_dtype t) { return nn_dtype_kind_of(t) == NN_KIND_INT; }

static int width_of(nn_dtype t) { return t == NN_BOOL ? 1 : nn_dtype_bits(t); }

int64_t nn_int_wrap(nn_dtype t, int64_t value) {
  if (t == NN_BOOL) return value != 0;
  int unused = 64 - width_of(t);
  uint64_t up = (uint64_t)value << unused;
  return is_signed(t) ? (int64_t)up >> unused : (int64_t)(up >> unused);
}

bool nn_int_limits(nn_dtype t, int64_t *min, int64_t *max) {
  nn_dtype_kind kind = nn_dtype_kind_of(t);
  if ((kind != NN_KIND_INT && kind != NN_KIND_UINT && kind != NN_KIND_BOOL) || t == NN_U64) return false;
  int bits = width_of(t);
  *min = is_signed(t) ? -(INT64_C(1) << (bits - 2)) * 2 : 0;
  *max = is_signed(t) ? -(*min + 1) : (INT64_C(1) << bits) - 1;
  return true;
}

/* ---- integers -------------------------------------------------------------------------------------- */

static int64_t divide(nn_dtype t, int64_t a, int64_t b) {
  if (b == 0) return 0;
  if (t == NN_U64) return (int64_t)((uint64_t)a / (uint64_t)b);
  return b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b;
}

static int64_t remainder_of(nn_dtype t, int64_t a, int64_t b) {
  if (b == 0) return 0;
  if (t == NN_U64) return (int64_t)((uint64_t)a % (uint64_t)b);
  return b == -1 ? 0 : a % b;
}

/* The remainder is nonzero and of the other sign than the divisor: truncation was not the floor. */
static bool floor_differs(nn_dtype t, int64_t a, int64_t b) {
  return is_signed(t) && remainder_of(t, a, b) != 0 && (a < 0) != (b < 0);
}

static bool less(nn_dtype t, int64_t a, int64_t b) { return t == NN_U64 ? (uint64_t)a < (uint64_t)b : a < b; }

static int64_t shift_right(nn_dtype t, int64_t a, int64_t by) {
  return is_signed(t) ? a >> by : (int64_t)((uint64_t)a >> by);
}

static int64_t int_op(nn_xop op, nn_dtype t, int64_t a, int64_t b) {
  uint64_t x = (uint64_t)a, y = (uint64_t)b;
  int64_t shift = (int64_t)(y % (uint64_t)width_of(t));
  switch (op) {
    case NN_X_ADD: return (int64_t)(x + y);
    case NN_X_SUB: return (int64_t)(x - y);
    case NN_X_MUL: return (int64_t)(x * y);
    case NN_X_DIV: return divide(t, a, b);
    case NN_X_REM: return remainder_of(t, a, b);
    case NN_X_FLOORDIV: return divide(t, a, b) - (floor_differs(t, a, b) ? 1 : 0);
    case NN_X_FLOORMOD: return remainder_of(t, a, b) + (floor_differs(t, a, b) ? b : 0);
    case NN_X_MIN: return less(t, a, b) ? a : b;
    case NN_X_MAX: return less(t, a, b) ? b : a;
    case NN_X_NEG: return (int64_t)(0 - x);
    case NN_X_ABS: return is_signed(t) && a < 0 ? (int64_t)(0 - x) : a;
    case NN_X_AND: return a & b;
    case NN_X_OR: return a | b;
    case NN_X_XOR: return a ^ b;
    case NN_X_NOT: return t == NN_BOOL ? !a : ~a;
    case NN_X_SHL: return (int64_t)(x << shift);
    case NN_X_SHR: return shift_right(t, a, shift);
    default: return a; /* floor, ceil, trunc, round, sqrt of an integer: the integer */
  }
}

/* ---- floats ---------------------------------------------------------------------------------------- */

/* name(op, a, b, c) in TYPE; F gives the type's functions of math.h. */
#define FLOAT_OP(name, TYPE, F)                                                \
  static TYPE name(nn_xop op, TYPE a, TYPE b, TYPE c) {                        \
    switch (op) {                                                              \
    case NN_X_ADD: return a + b;                                               \
    case NN_X_SUB: return a - b;                                               \
    case NN_X_MUL: return a * b;                                               \
    case NN_X_DIV: return a / b;                                               \
    case NN_X_MIN: return isnan(a) ? a : isnan(b) ? b : a < b ? a : b;         \
    case NN_X_MAX: return isnan(a) ? a : isnan(b) ? b : a > b ? a : b;         \
    case NN_X_LIMIT: return F(fabs)(a) <= b ? a : F(copysign)(b, a);           \
    case NN_X_FMA: return F(fma)(a, b, c);                                     \
    case NN_X_NEG: return -a;                                                  \
    case NN_X_ABS: return F(fabs)(a);                                          \
    case NN_X_SQRT: return F(sqrt)(a);                                         \
    case NN_X_FLOOR: return F(floor)(a);                                       \
    case NN_X_CEIL: return F(ceil)(a);                                         \
    case NN_X_TRUNC: return F(trunc)(a);                                       \
    case NN_X_ROUND: return F(rint)(a);                                        \
    default: return a;                                                         \
    }                                                                          \
  }
#define F32(function) function##f
#define F64(function) function
FLOAT_OP(f32_op, float, F32)
FLOAT_OP(f64_op, double, F64)

static double float_of(nn_dtype t, nn_scalar v) { return t == NN_F64 ? v.f : (double)v.s; }

static bool float_compare(nn_xop op, double a, double b) {
  switch (op) {
    case NN_X_EQ: return a == b;
    case NN_X_NE: return a != b;
    case NN_X_LT: return a < b;
    default: return a <= b;
  }
}

static bool int_compare(nn_xop op, nn_dtype t, int64_t a, int64_t b) {
  switch (op) {
    case NN_X_EQ: return a == b;
    case NN_X_NE: return a != b;
    case NN_X_LT: return less(t, a, b);
    default: return !less(t, b, a);
  }
}

/* ---- casts ----------------------------------------------------------------------------------------- */

static int64_t int_from_float(nn_dtype t, double v) {
  if (isnan(v)) return 0;
  if (t == NN_U64) {
    if (v <= 0) return 0;
    return v >= 18446744073709551616.0 ? -1 : (int64_t)(uint64_t)v;
  }
  int64_t min = 0, max = 0;
  nn_int_limits(t, &min, &max);
  if (v <= (double)min) return min;
  return v >= (double)max ? max : (int64_t)v;
}

/* nn_round_to saturates; a cast that shall not gives infinity in e5m2, NaN in the other 8-bit types, for what
   rounds to more than the largest value. f4e2m1 has neither. */
static double round_strict(nn_dtype t, double v) {
  double limit = t == NN_F8E4M3FN ? 464 : t == NN_F8E4M3FNUZ ? 248 : 61440;
  bool limit_rounds_down = t == NN_F8E4M3FN; /* a tie goes to the even code */
  bool has_limit = t == NN_F8E4M3FN || t == NN_F8E4M3FNUZ || t == NN_F8E5M2 || t == NN_F8E5M2FNUZ;
  if (!has_limit || isnan(v) || fabs(v) < limit || (fabs(v) == limit && limit_rounds_down)) return nn_round_to(t, v);
  return t == NN_F8E5M2 ? copysign(INFINITY, v) : NAN;
}

static double round_cast(nn_xop op, nn_dtype t, double v) { return op == NN_X_CAST_SAT ? nn_round_to(t, v) : round_strict(t, v); }

static nn_scalar cast_to_float(nn_xop op, nn_dtype t, nn_dtype from, nn_scalar a) {
  nn_scalar r = {0};
  if (is_float(from)) {
    if (t == NN_F64) r.f = float_of(from, a);
    else if (t == NN_F32) r.s = from == NN_F64 ? (float)a.f : a.s;
    else r.s = (float)round_cast(op, t, float_of(from, a));
    return r;
  }
  bool is_u64 = from == NN_U64;
  float single = is_u64 ? (float)(uint64_t)a.i : (float)a.i;
  if (t == NN_F64) r.f = is_u64 ? (double)(uint64_t)a.i : (double)a.i;
  else r.s = t == NN_F32 ? single : (float)round_cast(op, t, single);
  return r;
}

static nn_scalar cast(nn_xop op, nn_dtype t, nn_dtype from, nn_scalar a) {
  if (t == from) return a;
  if (is_float(t)) return cast_to_float(op, t, from, a);
  nn_scalar r = {0};
  if (!is_float(from)) r.i = nn_int_wrap(t, a.i);
  else if (t == NN_BOOL) r.i = float_of(from, a) != 0;
  else r.i = int_from_float(t, float_of(from, a));
  return r;
}

static nn_scalar bitcast(nn_dtype t, nn_dtype from, nn_scalar a) {
  uint64_t bits = 0;
  nn_scalar_store(from, &bits, 0, a);
  return nn_scalar_load(t, &bits, 0);
}

/* ---- memory ---------------------------------------------------------------------------------------- */

nn_scalar nn_scalar_load(nn_dtype t, const void *data, size_t index) {
  nn_scalar r = {0};
  if (t == NN_F32) memcpy(&r.s, (const char *)data + index * 4, 4);
  else if (t == NN_F64) memcpy(&r.f, (const char *)data + index * 8, 8);
  else if (is_float(t)) r.s = (float)nn_load_f64(t, data, index);
  else if (t == NN_BOOL) r.i = ((const unsigned char *)data)[index] != 0;
  else r.i = nn_load_i64(t, data, index);
  return r;
}

void nn_scalar_store(nn_dtype t, void *data, size_t index, nn_scalar value) {
  if (t == NN_F32) memcpy((char *)data + index * 4, &value.s, 4);
  else if (t == NN_F64) memcpy((char *)data + index * 8, &value.f, 8);
  else if (t == NN_F8E5M2 && isinf(value.s)) /* nn_store_f64 would saturate */
    ((unsigned char *)data)[index] = value.s < 0 ? 0xfc : 0x7c;
  else if (is_float(t)) nn_store_f64(t, data, index, (double)value.s);
  else if (t == NN_BOOL) ((unsigned char *)data)[index] = value.i != 0;
  else nn_store_i64(t, data, index, value.i);
}

/* ---- all of them ------------------------------------------------------------------------------------ */

nn_scalar nn_scalar_op(nn_xop op, nn_dtype t, nn_dtype from, nn_scalar a, nn_scalar b, nn_scalar c) {
  nn_scalar r = {0};
  switch (op) {
    case NN_X_EQ: case NN_X_NE: case NN_X_LT: case NN_X_LE:
      r.i = is_float(from) ? float_compare(op, float_of(from, a), float_of(from, b)) : int_compare(op, from, a.i, b.i);
      return r;
    case NN_X_SELECT: return a.i ? b : c;
    case NN_X_CAST: case NN_X_CAST_SAT: return cast(op, t, from, a);
    case NN_X_BITCAST: return bitcast(t, from, a);
    default: break;
  }
  if (t == NN_F32) r.s = f32_op(op, a.s, b.s, c.s);
  else if (t == NN_F64) r.f = f64_op(op, a.f, b.f, c.f);
  else if (is_float(t)) r.s = (float)nn_round_to(t, (double)f32_op(op, a.s, b.s, c.s));
  else r.i = nn_int_wrap(t, int_op(op, t, a.i, b.i));
  return r;
}
