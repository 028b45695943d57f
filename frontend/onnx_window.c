/* Window functions: HannWindow, HammingWindow, BlackmanWindow. Sums of cosines over the index. */
#include "frontend/onnx.h"

static const double TWO_PI = 6.283185307179586;

/* cos(harmonic * 2 pi i / steps) * factor */
static nn_value *cosine(onnx_node *n, nn_value *turns, double harmonic, double factor) {
  nn_value *angle = nn_b_scalar_op(n->b, NN_OP_MUL, turns, harmonic * TWO_PI);
  return nn_b_scalar_op(n->b, NN_OP_MUL, nn_b_unary(n->b, NN_OP_COS, angle), factor);
}

/* i / steps, where steps is the size of a periodic window, and one less of a symmetric one. */
static nn_value *turns(onnx_node *n, nn_dim size) {
  bool is_periodic = onnx_int(n, "periodic", 1) != 0;
  nn_module *m = n->m;
  nn_dim one = nn_dim_const(m, 1);
  nn_dim steps = nn_dim_max(m, is_periodic ? size : nn_dim_sub(m, size, one), one);
  nn_value *number = onnx_as_scalar(n, nn_b_dims(n->b, &steps, 1));
  return nn_b_binary(n->b, NN_OP_DIV, nn_b_iota(n->b, NN_F64, 1, &size, 0), nn_b_cast(n->b, number, NN_F64));
}

/* a0 + a1 cos(x) + a2 cos(2x) */
static nn_status give_window(onnx_node *n, double a0, double a1, double a2) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  nn_dtype t;
  const nn_dim *size;
  int count;
  if (!nn_dtype_from_onnx((int)onnx_int(n, "output_datatype", 1), &t))
    return onnx_fail(n, "attribute 'output_datatype' is no element type");
  NN_TRY(onnx_dims(n, 0, 0, true, &size, &count));
  if (count != 1) return onnx_fail(n, "size has %d elements, expected 1", count);
  nn_value *x = turns(n, size[0]);
  nn_value *y = nn_b_scalar_op(n->b, NN_OP_ADD, cosine(n, x, 1, a1), a0);
  if (a2 != 0) y = nn_b_binary(n->b, NN_OP_ADD, y, cosine(n, x, 2, a2));
  ONNX_GIVE(n, nn_b_cast(n->b, y, t));
}

nn_status onnx_HannWindow(onnx_node *n) { return give_window(n, 0.5, -0.5, 0); }
nn_status onnx_HammingWindow(onnx_node *n) { return give_window(n, 25.0 / 46, -21.0 / 46, 0); }
nn_status onnx_BlackmanWindow(onnx_node *n) { return give_window(n, 0.42, -0.5, 0.08); }
