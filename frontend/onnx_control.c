/* Control flow. An If whose condition is known while compiling is the branch it takes; one that is decided
   while running, and loops, are not imported. */
#include "frontend/onnx_import.h"

nn_status onnx_If(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, -1));
  const int64_t *condition;
  int count;
  if (n->in[0]->type.dtype != NN_BOOL)
    return onnx_fail(n, "the condition is %s, expected bool", nn_dtype_name(n->in[0]->type.dtype));
  if (!onnx_is_const(n, 0))
    return onnx_unsupported(
        n, "its condition is decided while running; only one that is known while compiling is imported");
  NN_TRY(onnx_const_ints(n, 0, &condition, &count));
  if (count != 1) return onnx_fail(n, "the condition has %d elements, expected 1", count);
  const Onnx__GraphProto *branch = onnx_graph_attr(n, condition[0] ? "then_branch" : "else_branch");
  return branch ? onnx_inline_graph((onnx_site *)n, branch) : NN_FAIL;
}
