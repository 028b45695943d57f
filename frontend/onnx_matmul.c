/* ONNX MatMul and Gemm. Einsum is in onnx_einsum.c. */
#include "frontend/onnx.h"

nn_status onnx_MatMul(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 2, 1));
  NN_TRY(onnx_need_kind(n, 0, ONNX_NUMBER));
  NN_TRY(onnx_same_dtype(n, 0, 1));
  NN_TRY(onnx_need_rank(n, 0, 1, -1));
  NN_TRY(onnx_need_rank(n, 1, 1, -1));
  nn_dtype t = n->in[0]->type.dtype;
  ONNX_GIVE(n, nn_b_cast(n->b, nn_b_matmul(n->b, n->in[0], n->in[1]), t));
}

/* C, scaled and stretched to the product's shape. */
static nn_value *scaled_bias(onnx_node *n, nn_type product) {
  nn_value *c = onnx_scale(n, n->in[2], onnx_float(n, "beta", 1));
  return nn_b_broadcast(n->b, c, 2, product.dims);
}

/* alpha * A * B + beta * C. alpha goes onto the product: one epilogue, weights stay as they are. */
nn_status onnx_Gemm(onnx_node *n) {
  NN_TRY(onnx_need(n, n->since < 11 ? 3 : 2, 3, 1));
  NN_TRY(onnx_need_kind(n, 0, ONNX_NUMBER));
  NN_TRY(onnx_same_dtype(n, 0, n->nin - 1));
  NN_TRY(onnx_need_rank(n, 0, 2, 2));
  NN_TRY(onnx_need_rank(n, 1, 2, 2));
  bool has_c = n->nin > 2 && n->in[2] && onnx_float(n, "beta", 1) != 0;
  if (has_c) NN_TRY(onnx_need_rank(n, 2, 0, 2));
  nn_value *y = onnx_matmul_trans(n, n->in[0], n->in[1], onnx_int(n, "transA", 0) != 0, onnx_int(n, "transB", 0) != 0);
  y = onnx_scale(n, y, onnx_float(n, "alpha", 1));
  if (y && has_c) y = nn_b_binary(n->b, NN_OP_ADD, y, scaled_bias(n, y->type));
  ONNX_GIVE(n, y);
}
