/* Integers. Division by zero gives 0 and MIN/-1 wraps, so divisors are made harmless first, unless they are
   constants that are. 64-bit division on a 32-bit machine goes to the prelude's own functions, or to the
   32-bit instruction where the operands' ranges allow. Types narrower than their register (4 and 2 bits)
   are kept sign- or zero-extended. Lookups in tables of integers stand here, too. */
#include "codegen/llvm.h"

nn_v nn_emit_wrap(nn_emod *e, nn_dtype t, nn_v v) {
  if (!nn_is_sub_byte(t)) return v;
  int bits = nn_dtype_bits(t);
  if (!nn_is_signed(t)) return LLVMBuildAnd(e->b, v, nn_const_int(e, v, (1 << bits) - 1), "");
  nn_v shift = nn_const_int(e, v, 8 - bits);
  return LLVMBuildAShr(e->b, LLVMBuildShl(e->b, v, shift, ""), shift, "");
}

/* ---- division ------------------------------------------------------------------------------------------ */

static int width_of(nn_v v) {
  LLVMTypeRef type = LLVMTypeOf(v);
  if (nn_is_vector(v)) type = LLVMGetElementType(type);
  return (int)LLVMGetIntTypeWidth(type);
}

static nn_v call_prelude(nn_emod *e, const char *name, nn_v a, nn_v b) {
  nn_v fn = nn_emod_function(e, name), args[] = {a, b};
  return LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, 2, "");
}

static nn_v divide_by_call(nn_emod *e, bool is_signed, nn_v a, nn_v b) {
  const char *name = is_signed ? "nn_sdiv64" : "nn_udiv64";
  if (!nn_is_vector(a)) return call_prelude(e, name, a, b);
  nn_v result = LLVMGetPoison(LLVMTypeOf(a));
  for (int i = 0; i < nn_lanes_of(a); i++) {
    nn_v q = call_prelude(e, name, nn_lane(e, a, i), nn_lane(e, b, i));
    result = LLVMBuildInsertElement(e->b, result, q, LLVMConstInt(e->i32, (unsigned long long)i, false), "");
  }
  return result;
}

/* b is neither 0 nor, for the smallest a, -1. */
static nn_v divide(nn_emod *e, bool is_signed, nn_v a, nn_v b) {
  int64_t known;
  bool is_shift = nn_const_of(b, &known) && known > 0 && (known & (known - 1)) == 0;
  if (width_of(a) == 64 && !nn_has_wide_ints(e->target) && !is_shift) return divide_by_call(e, is_signed, a, b);
  return is_signed ? LLVMBuildSDiv(e->b, a, b, "") : LLVMBuildUDiv(e->b, a, b, "");
}

/* a / b and what it takes to make the remainder: the divisor that was used. */
typedef struct quotient {
  nn_v q, divisor, by_zero;
} quotient;

static quotient divide_guarded(nn_emod *e, bool is_signed, nn_v a, nn_v b) {
  nn_v one = nn_const_int(e, b, 1), zero = nn_const_int(e, b, 0);
  nn_v by_zero = LLVMBuildICmp(e->b, LLVMIntEQ, b, zero, "");
  nn_v divisor = LLVMBuildSelect(e->b, by_zero, one, b, "");
  if (!is_signed)
    return (quotient){LLVMBuildSelect(e->b, by_zero, zero, divide(e, false, a, divisor), ""), divisor, by_zero};
  nn_v by_minus = LLVMBuildICmp(e->b, LLVMIntEQ, b, nn_const_int(e, b, -1), "");
  nn_v safe = LLVMBuildSelect(e->b, by_minus, one, divisor, "");
  nn_v q = LLVMBuildSelect(e->b, by_minus, LLVMBuildNeg(e->b, a, ""), divide(e, true, a, safe), "");
  return (quotient){LLVMBuildSelect(e->b, by_zero, zero, q, ""), divisor, by_zero};
}

static bool const_divisor(nn_v b, int64_t *known) {
  if (nn_is_vector(b)) {
    if (!LLVMIsConstant(b)) return false;
    nn_v first = LLVMGetAggregateElement(b, 0);
    for (int i = 1; i < nn_lanes_of(b); i++)
      if (LLVMGetAggregateElement(b, (unsigned)i) != first) return false;
    b = first;
  }
  return nn_const_of(b, known) && *known != 0 && *known != -1;
}

static quotient quotient_of(nn_emod *e, bool is_signed, nn_v a, nn_v b) {
  int64_t known;
  if (const_divisor(b, &known)) return (quotient){divide(e, is_signed, a, b), b, NULL};
  return divide_guarded(e, is_signed, a, b);
}

static nn_v remainder_of(nn_emod *e, nn_v a, quotient d) {
  nn_v r = LLVMBuildSub(e->b, a, LLVMBuildMul(e->b, d.q, d.divisor, ""), "");
  return d.by_zero ? LLVMBuildSelect(e->b, d.by_zero, nn_const_int(e, r, 0), r, "") : r;
}

/* The remainder is not 0 and has the other sign than the divisor. */
static nn_v floor_differs(nn_emod *e, nn_v r, nn_v b) {
  nn_v zero = nn_const_int(e, r, 0);
  nn_v opposite = LLVMBuildICmp(e->b, LLVMIntSLT, LLVMBuildXor(e->b, r, b, ""), zero, "");
  return LLVMBuildAnd(e->b, opposite, LLVMBuildICmp(e->b, LLVMIntNE, r, zero, ""), "");
}

static nn_v division(nn_emod *e, nn_xop op, bool is_signed, nn_v a, nn_v b) {
  quotient d = quotient_of(e, is_signed, a, b);
  if (op == NN_X_DIV || (op == NN_X_FLOORDIV && !is_signed)) return d.q;
  nn_v r = remainder_of(e, a, d);
  if (op == NN_X_REM || !is_signed) return r;
  nn_v differs = floor_differs(e, r, b);
  if (op == NN_X_FLOORMOD) return LLVMBuildSelect(e->b, differs, LLVMBuildAdd(e->b, r, b, ""), r, "");
  return LLVMBuildSub(e->b, d.q, LLVMBuildZExt(e->b, differs, LLVMTypeOf(r), ""), "");
}

/* Indices are seldom negative and seldom large: with a known range, floor is plain division, and on a
   32-bit machine the machine's own. */
static nn_v divide_index(nn_emod *e, const nn_x *x, nn_v a, nn_v b) {
  int64_t a_min, a_max, b_min, b_max;
  nn_x_range(x->a[0], &a_min, &a_max);
  nn_x_range(x->a[1], &b_min, &b_max);
  if (a_min < 0 || b_min < 1) return division(e, x->op, true, a, b);
  bool is_quotient = x->op == NN_X_DIV || x->op == NN_X_FLOORDIV;
  bool is_small = !nn_has_wide_ints(e->target) && a_max <= UINT32_MAX && b_max <= UINT32_MAX;
  if (!is_small)
    return is_quotient ? divide(e, false, a, b) : remainder_of(e, a, (quotient){divide(e, false, a, b), b, NULL});
  LLVMTypeRef half = nn_like(e, e->i32, a);
  nn_v low_a = LLVMBuildTrunc(e->b, a, half, ""), low_b = LLVMBuildTrunc(e->b, b, half, "");
  nn_v r = is_quotient ? LLVMBuildUDiv(e->b, low_a, low_b, "") : LLVMBuildURem(e->b, low_a, low_b, "");
  return LLVMBuildZExt(e->b, r, LLVMTypeOf(a), "");
}

nn_v nn_emit_floordiv64(nn_emod *e, nn_v a, nn_v b) { return division(e, NN_X_FLOORDIV, true, a, b); }

nn_v nn_emit_floormod64(nn_emod *e, nn_v a, nn_v b) { return division(e, NN_X_FLOORMOD, true, a, b); }

/* ---- the rest ------------------------------------------------------------------------------------------ */

static nn_v shift(nn_emod *e, nn_xop op, nn_dtype t, nn_v a, nn_v by) {
  nn_v amount = LLVMBuildAnd(e->b, by, nn_const_int(e, by, nn_dtype_bits(t) - 1), "");
  if (op == NN_X_SHL) return LLVMBuildShl(e->b, a, amount, "");
  return nn_is_signed(t) ? LLVMBuildAShr(e->b, a, amount, "") : LLVMBuildLShr(e->b, a, amount, "");
}

static nn_v absolute(nn_emod *e, nn_v a) {
  nn_v negative = LLVMBuildICmp(e->b, LLVMIntSLT, a, nn_const_int(e, a, 0), "");
  return LLVMBuildSelect(e->b, negative, LLVMBuildNeg(e->b, a, ""), a, "");
}

static nn_v plain_op(nn_emod *e, nn_xop op, nn_dtype t, nn_v a, nn_v b) {
  bool is_signed = nn_is_signed(t);
  switch (op) {
  case NN_X_ADD: return LLVMBuildAdd(e->b, a, b, "");
  case NN_X_SUB: return LLVMBuildSub(e->b, a, b, "");
  case NN_X_MUL: return LLVMBuildMul(e->b, a, b, "");
  case NN_X_MIN: return nn_call2(e, is_signed ? "llvm.smin" : "llvm.umin", a, b);
  case NN_X_MAX: return nn_call2(e, is_signed ? "llvm.smax" : "llvm.umax", a, b);
  case NN_X_NEG: return LLVMBuildNeg(e->b, a, "");
  case NN_X_ABS: return is_signed ? absolute(e, a) : a;
  case NN_X_AND: return LLVMBuildAnd(e->b, a, b, "");
  case NN_X_OR: return LLVMBuildOr(e->b, a, b, "");
  case NN_X_XOR: return LLVMBuildXor(e->b, a, b, "");
  case NN_X_NOT: return LLVMBuildNot(e->b, a, "");
  case NN_X_SHL:
  case NN_X_SHR: return shift(e, op, t, a, b);
  default: return a; /* floor, ceil, trunc, round, sqrt of an integer: the integer */
  }
}

nn_v nn_emit_int_op(nn_emod *e, const nn_x *x, nn_v a, nn_v b) {
  bool is_division = x->op == NN_X_DIV || x->op == NN_X_REM || x->op == NN_X_FLOORDIV || x->op == NN_X_FLOORMOD;
  if (is_division && x->dtype == NN_I64) return divide_index(e, x, a, b);
  if (is_division) return nn_emit_wrap(e, x->dtype, division(e, x->op, nn_is_signed(x->dtype), a, b));
  return nn_emit_wrap(e, x->dtype, plain_op(e, x->op, x->dtype, a, b));
}

/* ---- lookups ------------------------------------------------------------------------------------------ */

enum { REGISTER = 16, MOST_LANES = 256 }; /* a register's elements: two registers are what one instruction chooses from */

/* count elements of v from first on; those that it lacks may be anything. */
static nn_v take_lanes(nn_emod *e, nn_v v, int first, int count) {
  nn_v from[MOST_LANES];
  int n = nn_lanes_of(v);
  for (int i = 0; i < count; i++) from[i] = first + i < n ? LLVMConstInt(e->i32, (unsigned)(first + i), false) : LLVMGetPoison(e->i32);
  return LLVMBuildShuffleVector(e->b, v, LLVMGetPoison(LLVMTypeOf(v)), LLVMConstVector(from, (unsigned)count), "");
}

static nn_v join(nn_emod *e, nn_v low, nn_v high) {
  nn_v from[MOST_LANES];
  int n = 2 * nn_lanes_of(low);
  for (int i = 0; i < n; i++) from[i] = LLVMConstInt(e->i32, (unsigned)i, false);
  return LLVMBuildShuffleVector(e->b, low, high, LLVMConstVector(from, (unsigned)n), "");
}

/* The instruction takes the index modulo 32: a smaller table stands there several times. */
static nn_v permute(nn_emod *e, const nn_table *table, nn_v index) {
  nn_v values[2 * REGISTER];
  for (int i = 0; i < 2 * REGISTER; i++) values[i] = nn_const_bits(e, LLVMConstInt(e->i32, 0, false), (uint32_t)table->values[i % table->count]);
  nn_v args[] = {LLVMConstVector(values, REGISTER), index, LLVMConstVector(values + REGISTER, REGISTER)};
  return nn_call(e, "llvm.x86.avx512.vpermi2var.d.512", NULL, 0, args, 3);
}

/* By registers: scalars, parts of a register, and several. */
static nn_v look_up_registers(nn_emod *e, const nn_table *table, nn_v index) {
  int n = nn_lanes_of(index);
  if (!nn_is_vector(index)) {
    nn_v one = LLVMBuildInsertElement(e->b, LLVMGetPoison(LLVMVectorType(e->i32, REGISTER)), index, LLVMConstInt(e->i32, 0, false), "");
    return nn_lane(e, permute(e, table, one), 0);
  }
  if (n == REGISTER) return permute(e, table, index);
  if (n < REGISTER) return take_lanes(e, permute(e, table, take_lanes(e, index, 0, REGISTER)), 0, n);
  nn_v low = take_lanes(e, index, 0, n / 2), high = take_lanes(e, index, n / 2, n / 2);
  return join(e, look_up_registers(e, table, low), look_up_registers(e, table, high));
}

/* A tree of selects, bit by bit of the index. */
static nn_v look_up_bits(nn_emod *e, const nn_table *table, nn_v index) {
  nn_v values[NN_TABLE_MOST];
  int count = table->count;
  for (int i = 0; i < count; i++) values[i] = nn_const_bits(e, index, (uint32_t)table->values[i]);
  for (int bit = 1; count > 1; bit *= 2) {
    nn_v masked = LLVMBuildAnd(e->b, index, nn_const_bits(e, index, (uint32_t)bit), "");
    nn_v is_zero = LLVMBuildICmp(e->b, LLVMIntEQ, masked, nn_const_bits(e, index, 0), "");
    count /= 2;
    for (int i = 0; i < count; i++) values[i] = LLVMBuildSelect(e->b, is_zero, values[2 * i], values[2 * i + 1], "");
  }
  return values[0];
}

nn_v nn_emit_lookup(nn_emod *e, const nn_table *table, nn_v index) {
  int n = nn_lanes_of(index);
  bool fits = n <= REGISTER || (n % REGISTER == 0 && n <= MOST_LANES);
  return e->target->has_lookup && fits ? look_up_registers(e, table, index) : look_up_bits(e, table, index);
}

/* Integers of one bit that saturate: 1 + 1 is not 0, it wraps to "not zero". */
nn_v nn_emit_bool_op(nn_emod *e, nn_xop op, nn_v a, nn_v b) {
  switch (op) {
  case NN_X_ADD:
  case NN_X_OR:
  case NN_X_MAX: return LLVMBuildOr(e->b, a, b, "");
  case NN_X_SUB:
  case NN_X_XOR: return LLVMBuildXor(e->b, a, b, "");
  case NN_X_MUL:
  case NN_X_AND:
  case NN_X_MIN:
  case NN_X_DIV:
  case NN_X_FLOORDIV: return LLVMBuildAnd(e->b, a, b, "");
  case NN_X_REM:
  case NN_X_FLOORMOD: return nn_const_int(e, a, 0);
  case NN_X_NOT: return LLVMBuildNot(e->b, a, "");
  default: return a;
  }
}
