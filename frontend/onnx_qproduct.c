/* ONNX products of quantised operands: ConvInteger, QLinearConv, MatMulInteger, QLinearMatMul.

   With x = X - x0 and w = W - w0, sum(x w) is summed in i32 (it wraps, as ONNX says). Where w0 is 0 the
   operands keep their 8 bits, which is what dot-product instructions take:
     sum((X - x0) W) = sum(X W) - x0 sum(W),
   and sum(W) is a constant for constant weights. (A convolution pads X with x0 first.) Weights of type u8
   around 128 are turned into i8 around 0. Otherwise both are made i16, which holds every difference. */
#include "frontend/onnx.h"

static nn_value *input(onnx_node *n, int i) { return i < n->nin ? n->in[i] : NULL; }

/* Is zero point i absent, or known to hold only `value`? */
static bool zero_is(onnx_node *n, int i, double value) {
  if (!input(n, i)) return value == 0;
  const double *values;
  int count;
  if (!onnx_is_const(n, i) || onnx_const_floats(n, i, &values, &count) != NN_OK) return false;
  for (int k = 0; k < count; k++)
    if (values[k] != value) return false;
  return true;
}

static nn_value *widen(onnx_node *n, nn_value *x, nn_value *zero) {
  nn_value *wide = nn_b_cast(n->b, x, NN_I16);
  return zero ? nn_b_binary(n->b, NN_OP_SUB, wide, nn_b_cast(n->b, zero, NN_I16)) : wide;
}

/* Weights as 8 bits around 0 if their zero point (input i) allows; else NULL. */
static nn_value *centred_weight(onnx_node *n, nn_value *w, int i) {
  if (zero_is(n, i, 0)) return w;
  if (w->type.dtype != NN_U8 || !zero_is(n, i, 128)) return NULL;
  return nn_b_cast(n->b, nn_b_scalar_op(n->b, NN_OP_SUB, nn_b_cast(n->b, w, NN_I16), 128), NN_I8);
}

/* product - zero * sum(w over axes): zero is aligned with the product, as is the sum. */
static nn_value *subtract_zero_part(onnx_node *n, nn_value *product, nn_value *zero, nn_value *sum) {
  nn_value *part = nn_b_binary(n->b, NN_OP_MUL, nn_b_cast(n->b, zero, NN_I32), sum);
  return nn_b_binary(n->b, NN_OP_SUB, product, part);
}

static nn_status check_quantised(onnx_node *n, int i, int zero) {
  nn_dtype t = n->in[i]->type.dtype;
  if (!nn_dtype_is_int(t) || nn_dtype_bits(t) != 8)
    return onnx_fail(n, "input %d has element type %s, expected an integer of 8 bits", i, nn_dtype_name(t));
  if (input(n, zero) && n->in[zero]->type.dtype != t)
    return onnx_fail(n, "zero point (input %d) has element type %s, expected %s", zero,
                     nn_dtype_name(n->in[zero]->type.dtype), nn_dtype_name(t));
  return NN_OK;
}

/* ---- convolution ------------------------------------------------------------------------------ */

/* A parameter of input i: for the tensor, or for each output channel (at `axis` of `rank` dims). */
static nn_status align_channel(onnx_node *n, int i, nn_dim channels, int rank, int axis, nn_value **result) {
  nn_value *v = input(n, i);
  *result = NULL;
  if (!v) return NN_OK;
  if (nn_dim_is(nn_type_count(n->m, v->type), 1)) {
    *result = onnx_as_scalar(n, v);
  } else {
    NN_TRY(onnx_need_size(n, i, channels));
    *result = onnx_as_channel(n, v, rank, axis);
  }
  return *result ? NN_OK : NN_FAIL;
}

static nn_status need_scalar(onnx_node *n, int i, nn_value **result) {
  nn_value *v = input(n, i);
  *result = NULL;
  if (!v) return NN_OK;
  if (!nn_dim_is(nn_type_count(n->m, v->type), 1))
    return onnx_unsupported(n, "input %d is %s, expected one value for the whole tensor", i,
                            nn_type_text(n->m->arena, v->type));
  *result = onnx_as_scalar(n, v);
  return *result ? NN_OK : NN_FAIL;
}

static nn_value *sum_filters(onnx_node *n, nn_value *w) {
  int64_t axes[NN_MAX_RANK];
  for (int i = 1; i < w->type.rank; i++) axes[i - 1] = i;
  nn_value *sum = nn_b_reduce(n->b, NN_OP_REDUCE_SUM, nn_b_cast(n->b, w, NN_I32), axes, w->type.rank - 1, false);
  return onnx_as_channel(n, sum, w->type.rank, 1);
}

/* The i32 sums of a convolution of inputs x and w with zero points x_zero and w_zero (input numbers). */
static nn_status convolve(onnx_node *n, int x, int x_zero, int w, int w_zero, nn_value **sums) {
  nn_value *data = n->in[x], *weight = n->in[w], *x0, *w0;
  nn_type t = weight->type;
  onnx_conv c;
  NN_TRY(check_quantised(n, x, x_zero));
  NN_TRY(check_quantised(n, w, w_zero));
  NN_TRY(onnx_conv_read(n, data->type, t, false, &c));
  NN_TRY(need_scalar(n, x_zero, &x0));
  NN_TRY(align_channel(n, w_zero, t.dims[0], t.rank, 0, &w0));
  nn_value *centred = centred_weight(n, weight, w_zero);
  if (!centred) {
    *sums = onnx_conv_make(n, widen(n, data, x0), widen(n, weight, w0), &c);
  } else if (zero_is(n, x_zero, 0)) {
    *sums = onnx_conv_make(n, data, centred, &c);
  } else {
    data = onnx_pad_space(n, data, x0, &c);
    for (int i = 0; i < 2 * c.nsp; i++) c.pads[i] = nn_dim_const(n->m, 0);
    *sums = subtract_zero_part(n, onnx_conv_make(n, data, centred, &c), x0, sum_filters(n, centred));
  }
  return *sums ? NN_OK : NN_FAIL;
}

nn_status onnx_ConvInteger(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 4, 1));
  nn_value *sums;
  NN_TRY(convolve(n, 0, 2, 1, 3, &sums));
  ONNX_GIVE(n, sums);
}

/* sums * (x_scale * w_scale / y_scale), rounded, and y's zero point: the order of operations of ONNX Runtime. */
static nn_value *requantise(onnx_node *n, nn_value *sums, nn_value *x_scale, nn_value *w_scale, nn_value *y_scale,
                            nn_value *y_zero) {
  nn_builder *b = n->b;
  nn_value *both = nn_b_binary(b, NN_OP_MUL, nn_b_cast(b, x_scale, NN_F32), nn_b_cast(b, w_scale, NN_F32));
  nn_value *factor = nn_b_binary(b, NN_OP_DIV, both, nn_b_cast(b, y_scale, NN_F32));
  nn_value *scaled = nn_b_binary(b, NN_OP_MUL, nn_b_cast(b, sums, NN_F32), factor);
  return y_zero ? onnx_quantize(n, scaled, NULL, y_zero, y_zero->type.dtype) : NULL;
}

nn_status onnx_QLinearConv(onnx_node *n) {
  NN_TRY(onnx_need(n, 8, 9, 1));
  nn_value *sums, *x_scale, *w_scale, *y_scale, *y_zero;
  int rank = n->in[0]->type.rank;
  for (int i = 0; i < 3; i++) NN_TRY(onnx_need_float(n, (int[]){1, 4, 6}[i]));
  NN_TRY(convolve(n, 0, 2, 3, 5, &sums));
  NN_TRY(need_scalar(n, 1, &x_scale));
  NN_TRY(align_channel(n, 4, n->in[3]->type.dims[0], rank, 1, &w_scale));
  NN_TRY(need_scalar(n, 6, &y_scale));
  NN_TRY(need_scalar(n, 7, &y_zero));
  if (input(n, 8)) {
    NN_TRY(onnx_need_kind(n, 8, ONNX_INT));
    NN_TRY(onnx_need_size(n, 8, sums->type.dims[1]));
    sums = nn_b_binary(n->b, NN_OP_ADD, sums, onnx_as_channel(n, nn_b_cast(n->b, n->in[8], NN_I32), rank, 1));
  }
  ONNX_GIVE(n, requantise(n, sums, x_scale, w_scale, y_scale, y_zero));
}

/* ---- matrix product --------------------------------------------------------------------------- */

/* A parameter of the left matrix: for the tensor, for each row ([M]), or already aligned ([.., M, 1]). */
static nn_value *align_rows(onnx_node *n, nn_value *v) {
  if (!v) return NULL;
  if (nn_dim_is(nn_type_count(n->m, v->type), 1)) return onnx_as_scalar(n, v);
  return v->type.rank == 1 ? nn_b_unsqueeze(n->b, v, 1) : v;
}

/* Of the right matrix: [N] and [.., 1, N] align by themselves. */
static nn_value *align_columns(onnx_node *n, nn_value *v) {
  return v && nn_dim_is(nn_type_count(n->m, v->type), 1) ? onnx_as_scalar(n, v) : v;
}

static nn_value *sum_columns(onnx_node *n, nn_value *y) {
  int64_t axis = y->type.rank - 2;
  return nn_b_reduce(n->b, NN_OP_REDUCE_SUM, nn_b_cast(n->b, y, NN_I32), &axis, 1, true);
}

static nn_status multiply(onnx_node *n, int x, int x_zero, int y, int y_zero, nn_value **sums) {
  nn_value *left = n->in[x], *right = n->in[y];
  NN_TRY(check_quantised(n, x, x_zero));
  NN_TRY(check_quantised(n, y, y_zero));
  NN_TRY(onnx_need_rank(n, x, 1, -1));
  NN_TRY(onnx_need_rank(n, y, 1, -1));
  nn_value *x0 = align_rows(n, input(n, x_zero)), *y0 = align_columns(n, input(n, y_zero));
  bool are_matrices = left->type.rank > 1 && right->type.rank > 1;
  nn_value *centred = centred_weight(n, right, y_zero);
  if (centred && zero_is(n, x_zero, 0))
    *sums = nn_b_matmul(n->b, left, centred);
  else if (centred && are_matrices)
    *sums = subtract_zero_part(n, nn_b_matmul(n->b, left, centred), x0, sum_columns(n, centred));
  else
    *sums = nn_b_matmul(n->b, widen(n, left, x0), widen(n, right, y0));
  return *sums ? NN_OK : NN_FAIL;
}

nn_status onnx_MatMulInteger(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 4, 1));
  nn_value *sums;
  NN_TRY(multiply(n, 0, 2, 1, 3, &sums));
  ONNX_GIVE(n, sums);
}

nn_status onnx_QLinearMatMul(onnx_node *n) {
  NN_TRY(onnx_need(n, 8, 8, 1));
  for (int i = 0; i < 3; i++) NN_TRY(onnx_need_float(n, (int[]){1, 4, 6}[i]));
  nn_value *a_scale = align_rows(n, n->in[1]), *b_scale = align_columns(n, n->in[4]);
  nn_value *y_scale = align_rows(n, n->in[6]), *y_zero = align_rows(n, n->in[7]), *sums;
  if (nn_dtype_is_float(n->in[0]->type.dtype)) { /* f8: no integers to sum */
    nn_value *a = onnx_dequantize(n, n->in[0], a_scale, align_rows(n, n->in[2]));
    nn_value *b = onnx_dequantize(n, n->in[3], b_scale, align_columns(n, n->in[5]));
    return onnx_give(n, 0, onnx_quantize(n, nn_b_matmul(n->b, a, b), y_scale, y_zero, n->in[7]->type.dtype));
  }
  NN_TRY(multiply(n, 0, 2, 3, 5, &sums));
  ONNX_GIVE(n, requantise(n, sums, a_scale, b_scale, y_scale, y_zero));
}
