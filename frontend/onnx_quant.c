/* ONNX quantisation: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear. The integer products are in
   onnx_qproduct.c. */
#include "frontend/onnx.h"

#include <math.h>

/* ---- the two formulas ------------------------------------------------------------------------- */

/* (x - zero) * scale. 16 bits and less are exact in f32; i32 is subtracted as such. */
nn_value *onnx_dequantize(onnx_node *n, nn_value *x, nn_value *scale, nn_value *zero) {
  if (!x) return NULL;
  nn_builder *b = n->b;
  bool is_wide = nn_dtype_is_int(x->type.dtype) && nn_dtype_bits(x->type.dtype) > 16;
  if (is_wide && zero) x = nn_b_binary(b, NN_OP_SUB, x, zero);
  nn_value *y = nn_b_cast(b, x, NN_F32);
  if (!is_wide && zero) y = nn_b_binary(b, NN_OP_SUB, y, nn_b_cast(b, zero, NN_F32));
  return scale ? nn_b_binary(b, NN_OP_MUL, y, nn_b_cast(b, scale, NN_F32)) : y;
}

/* saturate(round(ratio) + zero) for integers; floats are rounded by the cast. */
static nn_value *round_to(onnx_node *n, nn_value *ratio, nn_value *zero, nn_dtype to, bool saturate) {
  nn_builder *b = n->b;
  bool to_int = nn_dtype_is_int(to);
  nn_value *y = to_int ? nn_b_unary(b, NN_OP_ROUND, ratio) : ratio;
  if (zero) y = nn_b_binary(b, NN_OP_ADD, y, nn_b_cast(b, zero, NN_F32));
  if (!to_int) return onnx_cast_saturate(n, y, to, saturate);
  bool is_signed = nn_dtype_kind_of(to) == NN_KIND_INT;
  double span = ldexp(1, nn_dtype_bits(to)), low = is_signed ? -span / 2 : 0;
  return nn_b_cast(b, onnx_clamp(n, y, low, low + span - 1), to);
}

nn_value *onnx_quantize(onnx_node *n, nn_value *x, nn_value *scale, nn_value *zero, nn_dtype to) {
  if (!x) return NULL;
  nn_value *ratio = nn_b_cast(n->b, x, NN_F32);
  if (scale) ratio = nn_b_binary(n->b, NN_OP_DIV, ratio, nn_b_cast(n->b, scale, NN_F32));
  return round_to(n, ratio, zero, to, true);
}

/* ---- scale and zero point: for the tensor, for each index of an axis, or for blocks of it ----- */

typedef struct params {
  nn_value *scale, *zero; /* broadcast to x; zero may be NULL */
} params;

/* Each entry of v along axis repeated block times, cut to x's size. */
static nn_status repeat_blocks(onnx_node *n, nn_value *v, nn_type x, int axis, int64_t block, nn_value **result) {
  nn_module *m = n->m;
  nn_type t = v->type;
  nn_dim bs = nn_dim_const(m, block), dims[NN_MAX_RANK + 1];
  if (t.rank != x.rank || t.rank + 1 > NN_MAX_RANK)
    return onnx_fail(n, "scale has rank %d, expected %d with attribute block_size", t.rank, x.rank);
  for (int i = 0; i < t.rank; i++) {
    nn_dim want = i == axis ? nn_dim_ceildiv(m, x.dims[i], bs) : x.dims[i];
    NN_TRY(nn_b_check(n->b, "eq", t.dims[i], want, nn_sprintf(m->arena, "dimension %d of scale and zero point", i)));
  }
  for (int i = 0; i <= t.rank; i++) dims[i] = i <= axis ? t.dims[i] : i == axis + 1 ? bs : t.dims[i - 1];
  v = nn_b_broadcast(n->b, nn_b_unsqueeze(n->b, v, axis + 1), t.rank + 1, dims);
  for (int i = 0; i < t.rank; i++) dims[i] = i == axis ? nn_dim_mul(m, t.dims[i], bs) : t.dims[i];
  v = nn_b_reshape(n->b, v, t.rank, dims);
  if (v && dims[axis] != x.dims[axis])
    v = nn_b_slice(n->b, v, axis, nn_dim_const(m, 0), x.dims[axis], nn_dim_const(m, 1));
  *result = v;
  return v ? NN_OK : NN_FAIL;
}

static nn_status align_param(onnx_node *n, int i, nn_value **result) {
  nn_value *v = i < n->nin ? n->in[i] : NULL;
  nn_type x = n->in[0]->type;
  int64_t block = onnx_int(n, "block_size", 0);
  int axis = 0;
  *result = NULL;
  if (!v) return NN_OK;
  if (block == 0 && v->type.rank <= 1 && nn_dim_is(nn_type_count(n->m, v->type), 1)) {
    *result = onnx_as_scalar(n, v);
    return *result ? NN_OK : NN_FAIL;
  }
  NN_TRY(onnx_axis(n, onnx_int(n, "axis", 1), x.rank, &axis));
  if (block < 0 || block > INT32_MAX)
    return onnx_fail(n, "attribute block_size is %lld, expected 0 or more", (long long)block);
  if (block > 0) return repeat_blocks(n, v, x, axis, block, result);
  NN_TRY(onnx_need_size(n, i, x.dims[axis]));
  *result = onnx_as_channel(n, v, x.rank, axis);
  return *result ? NN_OK : NN_FAIL;
}

static nn_status align_params(onnx_node *n, params *p) {
  NN_TRY(onnx_need_float(n, 1));
  NN_TRY(align_param(n, 1, &p->scale));
  return align_param(n, 2, &p->zero);
}

static nn_status read_dtype(onnx_node *n, const char *name, nn_dtype fallback, nn_dtype *dtype) {
  int64_t number = onnx_int(n, name, 0);
  *dtype = fallback;
  if (number == 0) return NN_OK;
  if (number < 0 || number > 1000 || !nn_dtype_from_onnx((int)number, dtype))
    return onnx_fail(n, "attribute %s is %lld, expected the number of an element type", name, (long long)number);
  return NN_OK;
}

/* ---- operators -------------------------------------------------------------------------------- */

nn_status onnx_DequantizeLinear(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 3, 1));
  NN_TRY(onnx_need_kind(n, 0, ONNX_NUMBER));
  params p;
  nn_dtype to;
  if (n->nin > 2 && n->in[2] && n->in[2]->type.dtype != n->in[0]->type.dtype)
    return onnx_fail(n, "zero point has element type %s, expected %s as the input", nn_dtype_name(n->in[2]->type.dtype),
                     nn_dtype_name(n->in[0]->type.dtype));
  NN_TRY(align_params(n, &p));
  NN_TRY(read_dtype(n, "output_dtype", n->in[1]->type.dtype, &to));
  ONNX_GIVE(n, nn_b_cast(n->b, onnx_dequantize(n, n->in[0], p.scale, p.zero), to));
}

static nn_status find_target(onnx_node *n, nn_dtype *to) {
  bool has_zero = n->nin > 2 && n->in[2];
  NN_TRY(read_dtype(n, "output_dtype", has_zero ? n->in[2]->type.dtype : NN_U8, to));
  if (has_zero && n->in[2]->type.dtype != *to)
    return onnx_fail(n, "zero point has element type %s, attribute output_dtype asks for %s",
                     nn_dtype_name(n->in[2]->type.dtype), nn_dtype_name(*to));
  bool is_narrow = nn_dtype_bits(*to) <= 16 && (nn_dtype_is_int(*to) || nn_dtype_is_float(*to));
  return is_narrow
             ? NN_OK
             : onnx_fail(n, "output has element type %s, expected a number of at most 16 bits", nn_dtype_name(*to));
}

/* The division is done in the type of the scale, or in the one that attribute precision names. */
nn_status onnx_QuantizeLinear(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 3, 1));
  NN_TRY(onnx_need_kind(n, 0, ONNX_NUMBER));
  nn_builder *b = n->b;
  params p;
  nn_dtype to, work;
  NN_TRY(find_target(n, &to));
  NN_TRY(align_params(n, &p));
  NN_TRY(read_dtype(n, "precision", n->in[1]->type.dtype, &work));
  if (!nn_dtype_is_float(work) || nn_dtype_bits(work) < 16) work = NN_F32; /* f8e8m0 scales: powers of two */
  nn_value *ratio = nn_b_binary(b, NN_OP_DIV, nn_b_cast(b, n->in[0], work), nn_b_cast(b, p.scale, work));
  ONNX_GIVE(n, round_to(n, nn_b_cast(b, ratio, NN_F32), p.zero, to, onnx_int(n, "saturate", 1) != 0));
}

/* The range of x, stretched to hold 0, onto 0..255; an all-zero x gets scale 1. */
nn_status onnx_DynamicQuantizeLinear(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, 3));
  NN_TRY(onnx_need_float(n, 0));
  nn_builder *b = n->b;
  nn_value *x = onnx_wide(n, n->in[0]);
  int64_t axes[NN_MAX_RANK];
  int rank = n->in[0]->type.rank;
  for (int i = 0; i < rank; i++) axes[i] = i;
  nn_value *max = nn_b_scalar_op(b, NN_OP_MAX, nn_b_reduce(b, NN_OP_REDUCE_MAX, x, axes, rank, false), 0);
  nn_value *min = nn_b_scalar_op(b, NN_OP_MIN, nn_b_reduce(b, NN_OP_REDUCE_MIN, x, axes, rank, false), 0);
  nn_value *range = nn_b_scalar_op(b, NN_OP_DIV, nn_b_binary(b, NN_OP_SUB, max, min), 255);
  if (!range) return NN_FAIL;
  nn_value *scale = nn_b_select(b, nn_b_scalar_op(b, NN_OP_EQ, range, 0), nn_b_scalar(b, range->type.dtype, 1), range);
  nn_value *lowest = nn_b_unary(b, NN_OP_NEG, nn_b_binary(b, NN_OP_DIV, min, scale));
  nn_value *zero = nn_b_cast(b, nn_b_unary(b, NN_OP_ROUND, onnx_clamp(n, lowest, 0, 255)), NN_U8);
  if (onnx_wants(n, 1)) NN_TRY(onnx_give(n, 1, scale));
  if (onnx_wants(n, 2)) NN_TRY(onnx_give(n, 2, zero));
  ONNX_GIVE(n, onnx_quantize(n, x, scale, zero, NN_U8));
}
