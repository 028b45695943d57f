/* Small compositions of core ops, and checks, that the operator importers share. */
#include "frontend/onnx.h"

nn_status onnx_need_kind(onnx_node *n, int i, unsigned kinds) {
  nn_dtype t = n->in[i]->type.dtype;
  if ((kinds & ONNX_FLOAT) && nn_dtype_is_float(t)) return NN_OK;
  if ((kinds & ONNX_INT) && nn_dtype_is_int(t)) return NN_OK;
  if ((kinds & ONNX_BOOL) && t == NN_BOOL) return NN_OK;
  const char *names[] = {"nothing",
                         "floats",
                         "integers",
                         "floats or integers",
                         "booleans",
                         "floats or booleans",
                         "integers or booleans",
                         "numbers or booleans"};
  return onnx_fail(n, "input %d has element type %s, expected %s", i, nn_dtype_name(t), names[kinds & 7]);
}

nn_status onnx_need_rank(onnx_node *n, int i, int min, int max) {
  int rank = n->in[i]->type.rank;
  if (rank >= min && (max < 0 || rank <= max)) return NN_OK;
  if (max < 0) return onnx_fail(n, "input %d has rank %d, expected at least %d", i, rank, min);
  if (min == max) return onnx_fail(n, "input %d has rank %d, expected %d", i, rank, min);
  return onnx_fail(n, "input %d has rank %d, expected %d to %d", i, rank, min, max);
}

nn_status onnx_need_size(onnx_node *n, int i, nn_dim count) {
  NN_TRY(onnx_need_rank(n, i, 1, 1));
  return nn_b_check(n->b, "eq", n->in[i]->type.dims[0], count, nn_sprintf(n->m->arena, "size of input %d", i));
}

void onnx_warn(onnx_node *n, const char *format, ...) {
  va_list args;
  va_start(args, format);
  nn_vreport(&n->m->diags, NN_WARNING, n->name, n->op, NULL, format, args);
  va_end(args);
}

nn_dtype onnx_compute_dtype(nn_dtype t) { return nn_dtype_is_float(t) && nn_dtype_bits(t) < 32 ? NN_F32 : t; }

nn_value *onnx_wide(onnx_node *n, nn_value *x) {
  return x ? nn_b_cast(n->b, x, onnx_compute_dtype(x->type.dtype)) : NULL;
}

nn_value *onnx_as_scalar(onnx_node *n, nn_value *x) {
  if (!x || x->type.rank == 0) return x;
  return nn_b_reshape(n->b, x, 0, NULL);
}

nn_value *onnx_as_channel(onnx_node *n, nn_value *x, int rank, int axis) {
  if (!x) return NULL;
  nn_dim dims[NN_MAX_RANK];
  for (int i = 0; i < rank; i++) dims[i] = i == axis ? nn_type_count(n->m, x->type) : nn_dim_const(n->m, 1);
  return nn_b_reshape(n->b, x, rank, dims);
}

nn_value *onnx_as_matrix(onnx_node *n, nn_value *x, int axis) {
  if (!x || axis + 1 == x->type.rank) return x;
  nn_dim dims[NN_MAX_RANK];
  for (int i = 0; i < axis; i++) dims[i] = x->type.dims[i];
  dims[axis] = nn_dim_product(n->m, x->type.dims + axis, x->type.rank - axis);
  return nn_b_reshape(n->b, x, axis + 1, dims);
}

nn_value *onnx_count(onnx_node *n, nn_type x, const int64_t *axes, int naxes, nn_dtype t) {
  nn_dim count = nn_dim_const(n->m, 1);
  for (int i = 0; i < naxes; i++) count = nn_dim_mul(n->m, count, x.dims[axes[i]]);
  int64_t value;
  if (nn_dim_is_const(count, &value)) return nn_b_scalar(n->b, t, (double)value);
  return nn_b_cast(n->b, onnx_as_scalar(n, nn_b_dims(n->b, &count, 1)), t);
}

nn_value *onnx_mean(onnx_node *n, nn_value *x, const int64_t *axes, int naxes, bool keepdims) {
  if (!x) return NULL;
  nn_value *wide = onnx_wide(n, x);
  nn_value *sum = nn_b_reduce(n->b, NN_OP_REDUCE_SUM, wide, axes, naxes, keepdims);
  if (!sum) return NULL;
  nn_value *count = onnx_count(n, x->type, axes, naxes, sum->type.dtype);
  return nn_b_cast(n->b, nn_b_binary(n->b, NN_OP_DIV, sum, count), x->type.dtype);
}

nn_value *onnx_gelu(onnx_node *n, nn_value *x, bool by_tanh) {
  nn_builder *b = n->b;
  nn_value *gate;
  if (by_tanh) {
    nn_value *cubic = nn_b_scalar_op(b, NN_OP_MUL, onnx_square(n, x), 0.044715);
    nn_value *inner = nn_b_binary(b, NN_OP_MUL, x, nn_b_scalar_op(b, NN_OP_ADD, cubic, 1));
    gate = nn_b_unary(b, NN_OP_TANH, nn_b_scalar_op(b, NN_OP_MUL, inner, 0.79788456080286536)); /* sqrt(2/pi) */
  } else {
    gate = nn_b_unary(b, NN_OP_ERF, nn_b_scalar_op(b, NN_OP_MUL, x, 0.70710678118654752)); /* sqrt(1/2) */
  }
  nn_value *half = nn_b_scalar_op(b, NN_OP_MUL, x, 0.5);
  return nn_b_binary(b, NN_OP_MUL, half, nn_b_scalar_op(b, NN_OP_ADD, gate, 1));
}

nn_value *onnx_square(onnx_node *n, nn_value *x) { return nn_b_binary(n->b, NN_OP_MUL, x, x); }

nn_value *onnx_scale(onnx_node *n, nn_value *x, double factor) {
  return factor == 1 ? x : nn_b_scalar_op(n->b, NN_OP_MUL, x, factor);
}

nn_value *onnx_clamp(onnx_node *n, nn_value *x, double low, double high) {
  return nn_b_scalar_op(n->b, NN_OP_MIN, nn_b_scalar_op(n->b, NN_OP_MAX, x, low), high);
}

nn_value *onnx_matmul_trans(onnx_node *n, nn_value *x, nn_value *y, bool trans_x, bool trans_y) {
  if (!x || !y) return NULL;
  nn_op *op = nn_b_begin(n->b, NN_OP_MATMUL, (nn_value *[]){x, y}, 2, -1);
  if (!op) return NULL;
  nn_set_int(op, "trans_a", trans_x);
  nn_set_int(op, "trans_b", trans_y);
  return nn_b_end(n->b, op);
}

nn_value *onnx_equals_index(onnx_node *n, nn_value *index, nn_type like, int axis) {
  if (!index) return NULL;
  nn_dim dims[NN_MAX_RANK];
  for (int i = 0; i < like.rank; i++) dims[i] = i == axis ? like.dims[i] : nn_dim_const(n->m, 1);
  return nn_b_binary(n->b, NN_OP_EQ, nn_b_iota(n->b, index->type.dtype, like.rank, dims, axis), index);
}
