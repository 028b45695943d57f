/* Casts. Float to integer truncates and saturates, NaN gives 0; everything rounds once, to nearest even.
   An integer goes to a small float through f32, as the loop IR says. */
#include "codegen/llvm.h"

static int bits_of(nn_dtype t) { return t == NN_BOOL ? 1 : nn_dtype_bits(t) < 8 ? 8 : nn_dtype_bits(t); }

static bool needs_calls(nn_emod *e, nn_dtype t) { return nn_dtype_bits(t) == 64 && !nn_has_wide_ints(e->target); }

/* A prelude function on each lane. */
static nn_v call_lanes(nn_emod *e, const char *name, LLVMTypeRef result, nn_v v) {
  nn_v fn = nn_emod_function(e, name);
  LLVMTypeRef type = LLVMGlobalGetValueType(fn);
  if (!nn_is_vector(v)) return LLVMBuildCall2(e->b, type, fn, &v, 1, "");
  nn_v all = LLVMGetPoison(nn_like(e, result, v));
  for (int i = 0; i < nn_lanes_of(v); i++) {
    nn_v lane = nn_lane(e, v, i);
    lane = LLVMBuildCall2(e->b, type, fn, &lane, 1, "");
    all = LLVMBuildInsertElement(e->b, all, lane, LLVMConstInt(e->i32, (unsigned long long)i, false), "");
  }
  return all;
}

static nn_v int_to_int(nn_emod *e, nn_dtype to, nn_dtype from, nn_v v) {
  LLVMTypeRef type = nn_like(e, nn_reg_type(e, to), v);
  if (to == NN_BOOL) return LLVMBuildICmp(e->b, LLVMIntNE, v, nn_const_int(e, v, 0), "");
  int wide = bits_of(to), narrow = bits_of(from);
  if (wide > narrow)
    v = nn_is_signed(from) ? LLVMBuildSExt(e->b, v, type, "") : LLVMBuildZExt(e->b, v, type, "");
  else if (wide < narrow)
    v = LLVMBuildTrunc(e->b, v, type, "");
  return nn_emit_wrap(e, to, v);
}

/* Only an explicit CAST_SAT saturates. */
static nn_v round_cast(nn_emod *e, nn_xop op, nn_dtype to, nn_v v) {
  return op == NN_X_CAST_SAT ? nn_emit_round_to(e, to, v) : nn_emit_round_strict(e, to, v);
}

static nn_v int_to_float(nn_emod *e, nn_xop op, nn_dtype to, nn_dtype from, nn_v v) {
  bool is_signed = nn_is_signed(from);
  LLVMTypeRef type = nn_like(e, to == NN_F64 ? e->f64 : e->f32, v);
  if (needs_calls(e, from) && to == NN_F64)
    v = call_lanes(e, is_signed ? "nn_i64_to_f64" : "nn_u64_to_f64", e->f64, v);
  else if (needs_calls(e, from))
    v = call_lanes(e, is_signed ? "nn_i64_to_f32" : "nn_u64_to_f32", e->f32, v);
  else
    v = is_signed ? LLVMBuildSIToFP(e->b, v, type, "") : LLVMBuildUIToFP(e->b, v, type, "");
  return round_cast(e, op, to, v);
}

static nn_v saturating(nn_emod *e, bool is_signed, LLVMTypeRef to, nn_v v) {
  LLVMTypeRef types[] = {nn_like(e, to, v), LLVMTypeOf(v)};
  return nn_call(e, is_signed ? "llvm.fptosi.sat" : "llvm.fptoui.sat", types, 2, &v, 1);
}

static nn_v clamp_float(nn_emod *e, nn_v v, double low, double high) {
  nn_v least = nn_const_float(e, v, low), most = nn_const_float(e, v, high);
  v = LLVMBuildSelect(e->b, LLVMBuildFCmp(e->b, LLVMRealOGE, v, least, ""), v, least, "");
  return LLVMBuildSelect(e->b, LLVMBuildFCmp(e->b, LLVMRealOLE, v, most, ""), v, most, "");
}

/* Lanes to integers of at most 32 bits with a sign, or fewer without: LLVM takes its saturating conversion apart into
   scalars with branches, so the limits are set before converting. */
static nn_v saturating_lanes(nn_emod *e, nn_dtype to, nn_dtype from, nn_v v) {
  int bits = nn_dtype_bits(to);
  bool is_signed = nn_is_signed(to), is_rounded = bits == 32 && from != NN_F64; /* 2^31 - 1 is no f32 */
  double low = is_signed ? -(double)(INT64_C(1) << (bits - 1)) : 0;
  double high = (double)((INT64_C(1) << (is_signed ? bits - 1 : bits)) - 1);
  nn_v x = LLVMBuildFPToSI(e->b, clamp_float(e, v, low, is_rounded ? 2147483520.0 : high), nn_like(e, e->i32, v), "");
  nn_v is_nan = LLVMBuildFCmp(e->b, LLVMRealUNO, v, v, "");
  nn_v is_above = LLVMBuildFCmp(e->b, LLVMRealOGT, v, nn_const_float(e, v, 2147483520.0), "");
  if (is_rounded) x = LLVMBuildSelect(e->b, is_above, nn_const_int(e, x, INT32_MAX), x, "");
  x = LLVMBuildSelect(e->b, is_nan, nn_const_int(e, x, 0), x, "");
  return bits < 32 ? LLVMBuildTrunc(e->b, x, nn_like(e, nn_reg_type(e, to), v), "") : x;
}

static nn_v float_to_int(nn_emod *e, nn_dtype to, nn_dtype from, nn_v v) {
  bool is_signed = nn_is_signed(to);
  if (to == NN_BOOL) return LLVMBuildFCmp(e->b, LLVMRealUNE, v, nn_const_float(e, v, 0), "");
  if (needs_calls(e, to) && from == NN_F64)
    return call_lanes(e, is_signed ? "nn_f64_to_i64" : "nn_f64_to_u64", e->i64, v);
  if (needs_calls(e, to)) return call_lanes(e, is_signed ? "nn_f32_to_i64" : "nn_f32_to_u64", e->i64, v);
  int bits = nn_dtype_bits(to);
  if (nn_is_vector(v) && (bits < 32 || (bits == 32 && is_signed))) return saturating_lanes(e, to, from, v);
  if (bits >= 32) return saturating(e, is_signed, nn_reg_type(e, to), v);
  nn_v wide = saturating(e, true, e->i32, v);
  int64_t low = is_signed ? -(1 << (bits - 1)) : 0, high = is_signed ? (1 << (bits - 1)) - 1 : (1 << bits) - 1;
  wide =
      nn_call2(e, "llvm.smin", nn_call2(e, "llvm.smax", wide, nn_const_int(e, wide, low)), nn_const_int(e, wide, high));
  return LLVMBuildTrunc(e->b, wide, nn_like(e, nn_reg_type(e, to), v), "");
}

/* f64 to f32 with the last bit set when the result is inexact: rounding that again to a smaller type gives
   what rounding once would have. */
static nn_v to_f32_odd(nn_emod *e, nn_v v) {
  nn_v single = LLVMBuildFPTrunc(e->b, v, nn_like(e, e->f32, v), ""),
       back = LLVMBuildFPExt(e->b, single, LLVMTypeOf(v), "");
  LLVMTypeRef type = nn_like(e, e->i32, v);
  nn_v inexact = LLVMBuildFCmp(e->b, LLVMRealONE, back, v, "");
  nn_v above = LLVMBuildFCmp(e->b, LLVMRealOGT, nn_call1(e, "llvm.fabs", back), nn_call1(e, "llvm.fabs", v), "");
  nn_v bits = LLVMBuildBitCast(e->b, single, type, "");
  bits = LLVMBuildSub(e->b, bits, LLVMBuildZExt(e->b, above, type, ""), "");
  bits = LLVMBuildOr(e->b, bits, LLVMBuildZExt(e->b, inexact, type, ""), "");
  return LLVMBuildBitCast(e->b, bits, LLVMTypeOf(single), "");
}

static nn_v float_to_float(nn_emod *e, nn_xop op, nn_dtype to, nn_dtype from, nn_v v) {
  if (to == NN_F64) return from == NN_F64 ? v : LLVMBuildFPExt(e->b, v, nn_like(e, e->f64, v), "");
  if (to == NN_F32) return from == NN_F64 ? LLVMBuildFPTrunc(e->b, v, nn_like(e, e->f32, v), "") : v;
  return round_cast(e, op, to, from == NN_F64 ? to_f32_odd(e, v) : v);
}

nn_v nn_emit_cast(nn_emod *e, nn_xop op, nn_dtype to, nn_dtype from, nn_v v) {
  if (to == from) return v;
  bool to_float = nn_dtype_is_float(to), from_float = nn_dtype_is_float(from);
  if (to_float) return from_float ? float_to_float(e, op, to, from, v) : int_to_float(e, op, to, from, v);
  return from_float ? float_to_int(e, to, from, v) : int_to_int(e, to, from, v);
}

static nn_v to_storage(nn_emod *e, nn_dtype t, nn_v v) {
  if (nn_is_small_float(t)) return nn_emit_pack(e, t, v);
  if (t == NN_BOOL) return LLVMBuildZExt(e->b, v, nn_like(e, e->i8, v), "");
  if (t != NN_F32 && t != NN_F64) return v;
  return LLVMBuildBitCast(e->b, v, nn_like(e, t == NN_F32 ? e->i32 : e->i64, v), "");
}

nn_v nn_emit_bitcast(nn_emod *e, nn_dtype to, nn_dtype from, nn_v v) {
  if (to == from) return v;
  v = to_storage(e, from, v);
  if (nn_is_sub_byte(from)) v = LLVMBuildAnd(e->b, v, nn_const_int(e, v, (1 << nn_dtype_bits(from)) - 1), "");
  if (nn_is_small_float(to)) return nn_emit_unpack(e, to, v);
  if (to == NN_BOOL) return LLVMBuildICmp(e->b, LLVMIntNE, v, nn_const_int(e, v, 0), "");
  if (to == NN_F32 || to == NN_F64) return LLVMBuildBitCast(e->b, v, nn_like(e, nn_reg_type(e, to), v), "");
  return nn_emit_wrap(e, to, v);
}
