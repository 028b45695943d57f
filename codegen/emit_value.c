/* Values of the emitter: LLVM values that are scalars or, in a vector loop, vectors of its lanes. */
#include <string.h>

#include "codegen/llvm.h"

bool nn_has_wide_ints(const nn_target *t) { return t->pointer_bits == 64 || strncmp(t->triple, "wasm", 4) == 0; }

bool nn_is_sub_byte(nn_dtype t) { return nn_dtype_bits(t) < 8; }

bool nn_is_small_float(nn_dtype t) { return nn_dtype_is_float(t) && t != NN_F32 && t != NN_F64; }

bool nn_is_signed(nn_dtype t) { return nn_dtype_kind_of(t) == NN_KIND_INT; }

static LLVMTypeRef int_type(nn_emod *e, int bits) {
  return bits <= 8 ? e->i8 : bits == 16 ? e->i16 : bits == 32 ? e->i32 : e->i64;
}

LLVMTypeRef nn_reg_type(nn_emod *e, nn_dtype t) {
  if (t == NN_BOOL) return e->i1;
  if (t == NN_F64) return e->f64;
  if (nn_dtype_is_float(t)) return e->f32;
  return int_type(e, nn_dtype_bits(t));
}

LLVMTypeRef nn_memory_type(nn_emod *e, nn_dtype t) {
  if (t == NN_F32) return e->f32;
  return t == NN_F64 ? e->f64 : int_type(e, nn_dtype_bits(t));
}

bool nn_is_vector(nn_v v) { return LLVMGetTypeKind(LLVMTypeOf(v)) == LLVMVectorTypeKind; }

int nn_lanes_of(nn_v v) { return nn_is_vector(v) ? (int)LLVMGetVectorSize(LLVMTypeOf(v)) : 1; }

LLVMTypeRef nn_like(nn_emod *e, LLVMTypeRef scalar, nn_v shape) {
  (void)e;
  return nn_is_vector(shape) ? LLVMVectorType(scalar, LLVMGetVectorSize(LLVMTypeOf(shape))) : scalar;
}

nn_v nn_splat(nn_emod *e, nn_v scalar, int lanes) {
  if (nn_is_vector(scalar)) return scalar;
  LLVMTypeRef type = LLVMVectorType(LLVMTypeOf(scalar), (unsigned)lanes);
  nn_v one = LLVMBuildInsertElement(e->b, LLVMGetPoison(type), scalar, LLVMConstInt(e->i32, 0, false), "");
  nn_v zeros = LLVMConstNull(LLVMVectorType(e->i32, (unsigned)lanes));
  return LLVMBuildShuffleVector(e->b, one, LLVMGetPoison(type), zeros, "");
}

void nn_unify(nn_emod *e, nn_v *a, nn_v *b) {
  if (nn_is_vector(*a) && !nn_is_vector(*b))
    *b = nn_splat(e, *b, nn_lanes_of(*a));
  else if (nn_is_vector(*b) && !nn_is_vector(*a))
    *a = nn_splat(e, *a, nn_lanes_of(*b));
}

static nn_v splat_const(nn_v scalar, nn_v like) {
  if (!nn_is_vector(like)) return scalar;
  nn_v items[256];
  int n = nn_lanes_of(like);
  for (int i = 0; i < n && i < 256; i++) items[i] = scalar;
  return LLVMConstVector(items, (unsigned)n);
}

nn_v nn_const_int(nn_emod *e, nn_v like, int64_t value) {
  (void)e;
  LLVMTypeRef type = LLVMTypeOf(like);
  if (nn_is_vector(like)) type = LLVMGetElementType(type);
  return splat_const(LLVMConstInt(type, (unsigned long long)value, true), like);
}

nn_v nn_const_float(nn_emod *e, nn_v like, double value) {
  (void)e;
  LLVMTypeRef type = LLVMTypeOf(like);
  if (nn_is_vector(like)) type = LLVMGetElementType(type);
  return splat_const(LLVMConstReal(type, value), like);
}

nn_v nn_const_bits(nn_emod *e, nn_v like, uint32_t bits) {
  return splat_const(LLVMConstInt(e->i32, bits, false), like);
}

nn_v nn_const_i64(nn_emod *e, int64_t value) { return LLVMConstInt(e->i64, (unsigned long long)value, true); }

nn_v nn_call(nn_emod *e, const char *intrinsic, LLVMTypeRef *overloads, int noverloads, nn_v *args, int nargs) {
  unsigned id = LLVMLookupIntrinsicID(intrinsic, strlen(intrinsic));
  nn_v fn = LLVMGetIntrinsicDeclaration(e->m, id, overloads, (size_t)noverloads);
  LLVMTypeRef type = LLVMIntrinsicGetType(e->c, id, overloads, (size_t)noverloads);
  return LLVMBuildCall2(e->b, type, fn, args, (unsigned)nargs, "");
}

nn_v nn_call1(nn_emod *e, const char *intrinsic, nn_v a) {
  LLVMTypeRef type = LLVMTypeOf(a);
  return nn_call(e, intrinsic, &type, 1, &a, 1);
}

nn_v nn_call2(nn_emod *e, const char *intrinsic, nn_v a, nn_v b) {
  nn_unify(e, &a, &b);
  nn_v args[] = {a, b};
  LLVMTypeRef type = LLVMTypeOf(a);
  return nn_call(e, intrinsic, &type, 1, args, 2);
}

nn_v nn_select(nn_emod *e, nn_v cond, nn_v yes, nn_v no) {
  nn_unify(e, &yes, &no);
  if (nn_is_vector(cond)) nn_unify(e, &cond, &yes), nn_unify(e, &yes, &no);
  return LLVMBuildSelect(e->b, cond, yes, no, "");
}

nn_v nn_any(nn_emod *e, nn_v mask) {
  if (!nn_is_vector(mask)) return mask;
  LLVMTypeRef bits = LLVMIntTypeInContext(e->c, (unsigned)nn_lanes_of(mask));
  return LLVMBuildICmp(e->b, LLVMIntNE, LLVMBuildBitCast(e->b, mask, bits, ""), LLVMConstNull(bits), "");
}

nn_v nn_and(nn_emod *e, nn_v a, nn_v b) {
  if (!a || !b) return a ? a : b;
  nn_unify(e, &a, &b);
  return LLVMBuildAnd(e->b, a, b, "");
}

nn_v nn_lane(nn_emod *e, nn_v v, int lane) {
  if (!nn_is_vector(v)) return v;
  return LLVMBuildExtractElement(e->b, v, LLVMConstInt(e->i32, (unsigned long long)lane, false), "");
}

bool nn_const_of(nn_v v, int64_t *value) {
  if (!LLVMIsAConstantInt(v) || LLVMGetIntTypeWidth(LLVMTypeOf(v)) > 64) return false;
  *value = LLVMConstIntGetSExtValue(v);
  return true;
}
