/* Floats. f16, bf16 and the 8- and 4-bit floats live in registers as f32 numbers that the type can hold:
   an operation is the f32 operation and one rounding. All conversions are written out in integer and f32
   operations, since LLVM would call library functions for them; only f16 uses hardware where it exists. */
#include "codegen/llvm.h"

/* A small float: exponent and mantissa bits, bias, code of the largest finite value, of infinity (0: none,
   overflow saturates), of NaN, and whether there is a negative zero. As the table in ir/value.c. */
typedef struct format {
  int mantissa, bias;
  uint32_t largest, infinity, nan, sign;
  bool has_negative_zero;
} format;

static format format_of(nn_dtype t) {
  switch (t) {
  case NN_F16: return (format){10, 15, 0x7bff, 0x7c00, 0x7e00, 0x8000, true};
  case NN_F8E4M3FN: return (format){3, 7, 0x7e, 0, 0x7f, 0x80, true};
  case NN_F8E4M3FNUZ: return (format){3, 8, 0x7f, 0, 0x80, 0x80, false};
  case NN_F8E5M2: return (format){2, 15, 0x7b, 0, 0x7f, 0x80, true};
  case NN_F8E5M2FNUZ: return (format){2, 16, 0x7f, 0, 0x80, 0x80, false};
  default: return (format){1, 1, 0x7, 0, 0x7, 0x8, true}; /* f4e2m1 */
  }
}

static nn_v to_bits(nn_emod *e, nn_v v) { return LLVMBuildBitCast(e->b, v, nn_like(e, e->i32, v), ""); }

static nn_v to_f32(nn_emod *e, nn_v bits) { return LLVMBuildBitCast(e->b, bits, nn_like(e, e->f32, bits), ""); }

static nn_v c32(nn_emod *e, nn_v like, uint32_t bits) { return nn_const_bits(e, like, bits); }

static nn_v is_nan(nn_emod *e, nn_v v) { return LLVMBuildFCmp(e->b, LLVMRealUNO, v, v, ""); }

/* ---- f32 to codes --------------------------------------------------------------------------------------- */

/* The magnitude's code when the value is normal in the format: add half a quantum minus one, plus one if
   the kept mantissa is odd, and rebias; a carry runs into the exponent as it should. */
static nn_v normal_code(nn_emod *e, format f, nn_v magnitude) {
  int shift = 23 - f.mantissa;
  nn_v down = c32(e, magnitude, (uint32_t)shift);
  nn_v odd = LLVMBuildAnd(e->b, LLVMBuildLShr(e->b, magnitude, down, ""), c32(e, magnitude, 1), "");
  uint32_t rebias = (uint32_t)(127 - f.bias) << 23, half = (1u << (shift - 1)) - 1;
  nn_v sum = LLVMBuildAdd(e->b, LLVMBuildAdd(e->b, magnitude, c32(e, magnitude, half - rebias), ""), odd, "");
  return LLVMBuildLShr(e->b, sum, down, "");
}

/* And when it is subnormal there: adding a power of two whose last bit is the format's quantum makes the
   adder round; the sum's low bits are the code. */
static nn_v subnormal_code(nn_emod *e, format f, nn_v magnitude) {
  uint32_t anchor = (uint32_t)(127 + 23 + 1 - f.bias - f.mantissa) << 23;
  nn_v sum = LLVMBuildFAdd(e->b, to_f32(e, magnitude), to_f32(e, c32(e, magnitude, anchor)), "");
  return LLVMBuildSub(e->b, to_bits(e, sum), c32(e, magnitude, anchor), "");
}

static nn_v limit_code(nn_emod *e, format f, nn_v code) {
  nn_v most = c32(e, code, f.infinity ? f.infinity : f.largest);
  nn_v beyond = LLVMBuildICmp(e->b, LLVMIntUGT, code, c32(e, code, f.largest), "");
  return LLVMBuildSelect(e->b, beyond, most, code, "");
}

static nn_v add_sign(nn_emod *e, format f, nn_v bits, nn_v code) {
  int places = f.sign == 0x8000 ? 16 : f.sign == 0x80 ? 24 : 28;
  nn_v sign =
      LLVMBuildAnd(e->b, LLVMBuildLShr(e->b, bits, c32(e, bits, (uint32_t)places), ""), c32(e, bits, f.sign), "");
  nn_v both = LLVMBuildOr(e->b, code, sign, "");
  if (f.has_negative_zero) return both;
  nn_v zero = c32(e, bits, 0);
  return LLVMBuildSelect(e->b, LLVMBuildICmp(e->b, LLVMIntEQ, code, zero, ""), zero, both, "");
}

/* Code in an i32. What is too large, infinities too, saturates in a format without infinities, unless
   is_strict: then it becomes an infinity in e5m2, NaN in the other 8-bit formats. */
static nn_v encode(nn_emod *e, nn_dtype t, nn_v v, bool is_strict) {
  format f = format_of(t);
  if (t == NN_F8E5M2 && is_strict) f.infinity = 0x7c;
  nn_v bits = to_bits(e, v), magnitude = LLVMBuildAnd(e->b, bits, c32(e, bits, 0x7fffffff), "");
  nn_v least_normal = c32(e, bits, (uint32_t)(127 + 1 - f.bias) << 23);
  nn_v is_subnormal = LLVMBuildICmp(e->b, LLVMIntULT, magnitude, least_normal, "");
  nn_v code = LLVMBuildSelect(e->b, is_subnormal, subnormal_code(e, f, magnitude), normal_code(e, f, magnitude), "");
  nn_v unlimited = code;
  code = add_sign(e, f, bits, limit_code(e, f, code));
  if (is_strict && nn_dtype_bits(t) == 8 && !f.infinity)
    code = LLVMBuildSelect(e->b, LLVMBuildICmp(e->b, LLVMIntUGT, unlimited, c32(e, bits, f.largest), ""),
                           c32(e, bits, f.nan), code, "");
  return LLVMBuildSelect(e->b, is_nan(e, v), c32(e, bits, f.nan), code, "");
}

/* e8m0: powers of two; zero and what is too small become the least one; ties go up; negative and infinite
   values are NaN. */
static nn_v encode_e8m0(nn_emod *e, nn_v v) {
  nn_v bits = to_bits(e, v);
  nn_v half = LLVMBuildAnd(e->b, LLVMBuildLShr(e->b, bits, c32(e, bits, 22), ""), c32(e, bits, 1), "");
  nn_v code = LLVMBuildAdd(e->b, LLVMBuildLShr(e->b, bits, c32(e, bits, 23), ""), half, "");
  code = nn_call2(e, "llvm.umin", code, c32(e, bits, 0xfe));
  /* below 2^-127 bit 22 of a subnormal is not the half: 2^-127 itself and up to its 1.5-fold are code 0 */
  nn_v low = LLVMBuildICmp(e->b, LLVMIntULT, bits, c32(e, bits, 0x00600000), "");
  code = LLVMBuildSelect(e->b, low, c32(e, bits, 0), code, "");
  nn_v finite = LLVMBuildICmp(e->b, LLVMIntULT, bits, c32(e, bits, 0x7f800000), "");
  nn_v zero = LLVMBuildICmp(e->b, LLVMIntEQ, bits, c32(e, bits, 0x80000000u), "");
  code = LLVMBuildSelect(e->b, finite, code, c32(e, bits, 0xff), "");
  return LLVMBuildSelect(e->b, zero, c32(e, bits, 0), code, "");
}

/* ---- codes to f32 --------------------------------------------------------------------------------------- */

static nn_v decode_e8m0(nn_emod *e, nn_v code) {
  nn_v bits = LLVMBuildShl(e->b, code, c32(e, code, 23), "");
  bits = LLVMBuildSelect(e->b, LLVMBuildICmp(e->b, LLVMIntEQ, code, c32(e, code, 0), ""), c32(e, code, 0x00400000),
                         bits, "");
  nn_v nan = LLVMBuildICmp(e->b, LLVMIntEQ, code, c32(e, code, 0xff), "");
  return to_f32(e, LLVMBuildSelect(e->b, nan, c32(e, code, 0x7fc00000), bits, ""));
}

/* Moves the code's exponent and mantissa to their places in an f32 and multiplies by the difference of
   the biases, which also makes subnormals right. */
static nn_v decode(nn_emod *e, nn_dtype t, nn_v code) {
  format f = format_of(t);
  nn_v magnitude = LLVMBuildAnd(e->b, code, c32(e, code, f.sign - 1), "");
  nn_v moved = to_f32(e, LLVMBuildShl(e->b, magnitude, c32(e, code, (uint32_t)(23 - f.mantissa)), ""));
  nn_v scale = to_f32(e, c32(e, code, (uint32_t)(254 - f.bias) << 23));
  nn_v bits = to_bits(e, LLVMBuildFMul(e->b, moved, scale, ""));
  if (t == NN_F16 || t == NN_F8E5M2) { /* infinities, and NaN above them */
    uint32_t infinity = t == NN_F16 ? 0x7c00 : 0x7c;
    nn_v beyond = LLVMBuildICmp(e->b, LLVMIntUGT, magnitude, c32(e, code, infinity), "");
    nn_v at = LLVMBuildICmp(e->b, LLVMIntEQ, magnitude, c32(e, code, infinity), "");
    bits = LLVMBuildSelect(e->b, at, c32(e, code, 0x7f800000), bits, "");
    bits = LLVMBuildSelect(e->b, beyond, c32(e, code, 0x7fc00000), bits, "");
  }
  int places = f.sign == 0x8000 ? 16 : f.sign == 0x80 ? 24 : 28;
  nn_v sign =
      LLVMBuildShl(e->b, LLVMBuildAnd(e->b, code, c32(e, code, f.sign), ""), c32(e, code, (uint32_t)places), "");
  bits = LLVMBuildOr(e->b, bits, sign, "");
  if (t == NN_F8E4M3FN)
    bits = LLVMBuildSelect(e->b, LLVMBuildICmp(e->b, LLVMIntEQ, magnitude, c32(e, code, 0x7f), ""),
                           c32(e, code, 0x7fc00000), bits, "");
  if (!f.has_negative_zero)
    bits = LLVMBuildSelect(e->b, LLVMBuildICmp(e->b, LLVMIntEQ, code, c32(e, code, f.sign), ""),
                           c32(e, code, 0x7fc00000), bits, "");
  return to_f32(e, bits);
}

/* ---- rounding ------------------------------------------------------------------------------------------- */

static nn_v round_bf16_bits(nn_emod *e, nn_v v) {
  nn_v bits = to_bits(e, v);
  nn_v odd = LLVMBuildAnd(e->b, LLVMBuildLShr(e->b, bits, c32(e, bits, 16), ""), c32(e, bits, 1), "");
  nn_v sum = LLVMBuildAdd(e->b, LLVMBuildAdd(e->b, bits, c32(e, bits, 0x7fff), ""), odd, "");
  return LLVMBuildSelect(e->b, is_nan(e, v), c32(e, bits, 0x7fc00000), sum, "");
}

static LLVMTypeRef half_type(nn_emod *e, nn_v like) { return nn_like(e, LLVMHalfTypeInContext(e->c), like); }

static nn_v round_to(nn_emod *e, nn_dtype t, nn_v v, bool is_strict) {
  switch (t) {
  case NN_BF16: {
    nn_v bits = round_bf16_bits(e, v);
    return to_f32(e, LLVMBuildAnd(e->b, bits, c32(e, bits, 0xffff0000u), ""));
  }
  case NN_F16:
    if (e->target->has_f16_convert)
      return LLVMBuildFPExt(e->b, LLVMBuildFPTrunc(e->b, v, half_type(e, v), ""), LLVMTypeOf(v), "");
    return decode(e, t, encode(e, t, v, false));
  case NN_F8E8M0: return decode_e8m0(e, encode_e8m0(e, v));
  default: return nn_is_small_float(t) ? decode(e, t, encode(e, t, v, is_strict)) : v;
  }
}

nn_v nn_emit_round_to(nn_emod *e, nn_dtype t, nn_v v) { return round_to(e, t, v, false); }

nn_v nn_emit_round_strict(nn_emod *e, nn_dtype t, nn_v v) { return round_to(e, t, v, true); }

nn_v nn_emit_unpack(nn_emod *e, nn_dtype t, nn_v bits) {
  if (t == NN_F16 && e->target->has_f16_convert) {
    nn_v half = LLVMBuildBitCast(e->b, bits, half_type(e, bits), "");
    return LLVMBuildFPExt(e->b, half, nn_like(e, e->f32, bits), "");
  }
  nn_v code = LLVMBuildZExt(e->b, bits, nn_like(e, e->i32, bits), "");
  if (t == NN_BF16) return to_f32(e, LLVMBuildShl(e->b, code, c32(e, code, 16), ""));
  return t == NN_F8E8M0 ? decode_e8m0(e, code) : decode(e, t, code);
}

nn_v nn_emit_pack(nn_emod *e, nn_dtype t, nn_v v) {
  LLVMTypeRef type = nn_like(e, nn_memory_type(e, t), v);
  if (t == NN_F16 && e->target->has_f16_convert)
    return LLVMBuildBitCast(e->b, LLVMBuildFPTrunc(e->b, v, half_type(e, v), ""), type, "");
  if (t == NN_BF16) {
    nn_v bits = round_bf16_bits(e, v);
    return LLVMBuildTrunc(e->b, LLVMBuildLShr(e->b, bits, c32(e, bits, 16), ""), type, "");
  }
  if (t == NN_F8E8M0) return LLVMBuildTrunc(e->b, encode_e8m0(e, v), type, "");
  nn_v code = encode(e, t, v, false);
  if (t == NN_F8E5M2) { /* an infinity that was read is written as one: only rounding saturates */
    nn_v bits = to_bits(e, v), magnitude = LLVMBuildAnd(e->b, bits, c32(e, bits, 0x7fffffff), "");
    nn_v infinite = LLVMBuildICmp(e->b, LLVMIntEQ, magnitude, c32(e, bits, 0x7f800000), "");
    code = LLVMBuildSelect(e->b, infinite, LLVMBuildAdd(e->b, code, c32(e, bits, 1), ""), code, "");
  }
  return LLVMBuildTrunc(e->b, code, type, "");
}

/* ---- operations ----------------------------------------------------------------------------------------- */

/* As loop_scalar.c: NaN wins, of equal operands (zeros) the second. */
nn_v nn_emit_minmax(nn_emod *e, bool is_max, nn_v a, nn_v b, bool b_is_number) {
  nn_unify(e, &a, &b);
  if (b_is_number) { /* one comparison that is true with NaN does both */
    nn_v first = LLVMBuildFCmp(e->b, is_max ? LLVMRealUGT : LLVMRealULT, a, b, "");
    return LLVMBuildSelect(e->b, first, a, b, "");
  }
  nn_v first = LLVMBuildFCmp(e->b, is_max ? LLVMRealOGT : LLVMRealOLT, a, b, "");
  return LLVMBuildSelect(e->b, is_nan(e, a), a, LLVMBuildSelect(e->b, first, a, b, ""), "");
}

static nn_v copy_sign(nn_emod *e, nn_v magnitude, nn_v sign) { return nn_call2(e, "llvm.copysign", magnitude, sign); }

/* Nearest integer, ties to even: beyond 2^23 (2^52) every number is one; below, adding that power rounds. */
static nn_v round_magic(nn_emod *e, nn_v v, bool is_double) {
  nn_v power = nn_const_float(e, v, is_double ? 4503599627370496.0 : 8388608.0), size = nn_call1(e, "llvm.fabs", v);
  nn_v rounded = LLVMBuildFSub(e->b, LLVMBuildFAdd(e->b, size, power, ""), power, "");
  nn_v is_small = LLVMBuildFCmp(e->b, LLVMRealOLT, size, power, "");
  return LLVMBuildSelect(e->b, is_small, copy_sign(e, rounded, v), v, "");
}

static nn_v floor_or_ceil_magic(nn_emod *e, nn_v v, nn_v rounded, bool is_floor) {
  nn_v one = nn_const_float(e, v, 1);
  nn_v off = LLVMBuildFCmp(e->b, is_floor ? LLVMRealOGT : LLVMRealOLT, rounded, v, "");
  nn_v moved = is_floor ? LLVMBuildFSub(e->b, rounded, one, "") : LLVMBuildFAdd(e->b, rounded, one, "");
  return copy_sign(e, LLVMBuildSelect(e->b, off, moved, rounded, ""), v);
}

static nn_v round_without_hardware(nn_emod *e, nn_xop op, nn_v v, bool is_double) {
  nn_v rounded = round_magic(e, v, is_double);
  if (op == NN_X_ROUND) return rounded;
  if (op != NN_X_TRUNC) return floor_or_ceil_magic(e, v, rounded, op == NN_X_FLOOR);
  nn_v size = nn_call1(e, "llvm.fabs", v), up = nn_call1(e, "llvm.fabs", rounded);
  nn_v off = LLVMBuildFCmp(e->b, LLVMRealOGT, up, size, "");
  return copy_sign(e, LLVMBuildSelect(e->b, off, LLVMBuildFSub(e->b, up, nn_const_float(e, v, 1), ""), up, ""), v);
}

static nn_v emit_rounding(nn_emod *e, nn_xop op, nn_dtype t, nn_v v) {
  if (!e->target->has_round) return round_without_hardware(e, op, v, t == NN_F64);
  switch (op) {
  case NN_X_FLOOR: return nn_call1(e, "llvm.floor", v);
  case NN_X_CEIL: return nn_call1(e, "llvm.ceil", v);
  case NN_X_TRUNC: return nn_call1(e, "llvm.trunc", v);
  default: return nn_call1(e, "llvm.rint", v);
  }
}

static nn_v emit_fma(nn_emod *e, nn_v a, nn_v b, nn_v c) {
  if (!e->target->has_fma) return LLVMBuildFAdd(e->b, LLVMBuildFMul(e->b, a, b, ""), c, "");
  nn_v args[] = {a, b, c};
  LLVMTypeRef type = LLVMTypeOf(a);
  return nn_call(e, "llvm.fma", &type, 1, args, 3);
}

/* AVX-512 has an instruction for the one of smaller size, with the sign of the first. */
static nn_v emit_limit(nn_emod *e, nn_dtype t, nn_v a, nn_v b) {
  enum { LANES = 16, SMALLER_SIZE = 2, NO_ROUNDING = 4 };
  if (e->target->has_lookup && t == NN_F32 && nn_lanes_of(a) == LANES) {
    LLVMTypeRef mask = LLVMIntTypeInContext(e->c, LANES);
    nn_v args[] = {a, b, LLVMConstInt(e->i32, SMALLER_SIZE, false), a, LLVMConstAllOnes(mask), LLVMConstInt(e->i32, NO_ROUNDING, false)};
    return nn_call(e, "llvm.x86.avx512.mask.range.ps.512", NULL, 0, args, 6);
  }
  nn_v is_small = LLVMBuildFCmp(e->b, LLVMRealOLE, nn_call1(e, "llvm.fabs", a), b, "");
  return LLVMBuildSelect(e->b, is_small, a, copy_sign(e, b, a), "");
}

/* What --fp fast lets LLVM do: multiply and add in one, forget the sign of a zero, multiply by the inverse of a number. Not more: sums
   are in the order that the lowering chose, the elementary functions rely on how (x + big) - big rounds, and division by
   an approximate reciprocal would make NaN of x / 0 and x / infinity. */
static nn_v relaxed(nn_emod *e, nn_v v, bool divides_by_number) {
  if (e->target->fp != NNCC_FP_FAST || !LLVMCanValueUseFastMathFlags(v)) return v;
  LLVMFastMathFlags flags = LLVMFastMathAllowContract | LLVMFastMathNoSignedZeros;
  LLVMSetFastMathFlags(v, divides_by_number ? flags | LLVMFastMathAllowReciprocal : flags);
  return v;
}

static nn_v f_op(nn_emod *e, nn_xop op, nn_dtype t, nn_v a, nn_v b, nn_v c) {
  switch (op) {
  case NN_X_ADD: return relaxed(e, LLVMBuildFAdd(e->b, a, b, ""), false);
  case NN_X_SUB: return relaxed(e, LLVMBuildFSub(e->b, a, b, ""), false);
  case NN_X_MUL: return relaxed(e, LLVMBuildFMul(e->b, a, b, ""), false);
  case NN_X_DIV: return relaxed(e, LLVMBuildFDiv(e->b, a, b, ""), LLVMIsConstant(b));
  case NN_X_LIMIT: return emit_limit(e, t, a, b);
  case NN_X_FMA: return emit_fma(e, a, b, c);
  case NN_X_NEG: return LLVMBuildFNeg(e->b, a, "");
  case NN_X_ABS: return nn_call1(e, "llvm.fabs", a);
  case NN_X_SQRT: return nn_call1(e, "llvm.sqrt", a);
  case NN_X_FLOOR:
  case NN_X_CEIL:
  case NN_X_TRUNC:
  case NN_X_ROUND: return emit_rounding(e, op, t, a);
  default: return a;
  }
}

nn_v nn_emit_float_op(nn_emod *e, nn_xop op, nn_dtype t, nn_v a, nn_v b, nn_v c) {
  return nn_emit_round_to(e, t, f_op(e, op, t, a, b, c));
}
