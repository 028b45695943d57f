/* Models that are wrong: the message says what, where and why, and all of them come at once. */
#include "load.h"

#include <string.h>

Test(onnx_errors, missing_file) {
  nn_module *m = nn_onnx_load("/nonexistent/model.onnx", NULL, NULL, NULL);
  EXPECT_DIAG(m, "cannot open the file: No such file or directory");
  nn_module_free(m);
}

Test(onnx_errors, a_folder) {
  nn_module *m = nn_onnx_load("/tmp", NULL, NULL, NULL);
  EXPECT_DIAG(m, "cannot read the file: is not a regular file");
  nn_module_free(m);
}

Test(onnx_errors, no_opset) {
  pb model = {0};
  pb_message(&model, 7, write_graph("in x 1 2\nout x 1 2"));
  nn_module *m = load_pb(model);
  EXPECT_DIAG(m, "does not say which opset it uses");
  free_module(m);
}

Test(onnx_errors, unknown_opset) {
  expect_failure("opset 99\nin x 1 2\nnode Relu r x y\nout y 1 2", "opset 99 of domain '' is unknown, expected 1 to");
  expect_failure("opset 0\nin x 1 2\nnode Relu r x y\nout y 1 2", "opset 0 of domain '' is unknown");
}

/* Five of them give five reports, also where one reads another's result. */
Test(onnx_errors, unsupported_operators_all_at_once) {
  nn_module *m = load_text("in x 1 2\nnode Foo a x p\nnode Foo b p q\nnode Bar c q r\nnode Relu d r s\n"
                           "node Baz e x t\nnode my.domain/Foo f x u\nout s 1 2\nout t 1 2");
  cr_expect(m->diags.nerrors == 5, "%s", all_diags(m));
  cr_expect(count_diags(m, "unsupported operator 'Foo' (domain '', opset 13)") == 2);
  EXPECT_DIAG(m, "unsupported operator 'Bar' (domain '', opset 13)");
  EXPECT_DIAG(m, "unsupported operator 'Baz' (domain '', opset 13)");
  EXPECT_DIAG(m, "the model imports no version of domain 'my.domain'");
  free_module(m);
}

Test(onnx_errors, what_depends_on_a_fault_is_silent) {
  expect_failure("in x 1 2\nnode Concat c x,x y axis=i:7\nnode Relu a y z\nnode Add b z,x w\nout w 1 2",
                 "axis is 7, expected -1 to 0");
}

Test(onnx_errors, undefined_names) {
  expect_failure("in x 1 2\nnode Add a x,nowhere y\nnode Add b y,nowhere z\nout z 1 2",
                 "input 'nowhere' is given by no node, input or initializer");
  expect_failure("in x 1 2\nnode Relu a x y\nout z 1 2", "graph output 'z' is given by no node");
}

Test(onnx_errors, names_defined_twice) {
  expect_failure("in x 1 2\nnode Relu a x y\nnode Relu b x y\nout y 1 2",
                 "output 'y' is defined twice, before by node 'a'");
  expect_failure("in x 1 2\nnode Relu a x x\nout x 1 2", "output 'x' is defined twice");
  expect_failure("in x 1 2\nin x 1 2\nnode Relu a x y\nout y 1 2", "'x' is defined twice, again by a graph input");
  expect_failure("init w 1 1 1\ninit w 1 1 1\nnode Relu a w y\nout y 1 1",
                 "'w' is defined twice, again by an initializer");
}

Test(onnx_errors, a_cycle) {
  nn_module *m = load_text("in x 1 2\nnode Add a x,r p\nnode Relu b p q\nnode Relu c q r\nnode Relu d r s\nout s 1 2");
  cr_expect(m->diags.nerrors == 1, "%s", all_diags(m));
  EXPECT_DIAG(m, "in a cycle of 3: 'a' needs 'c' needs 'b' needs 'a'");
  free_module(m);
}

Test(onnx_errors, a_node_that_reads_itself) {
  expect_failure("in x 1 2\nnode Add a x,y y\nout y 1 2", "in a cycle of 1: 'a' needs 'a'");
}

Test(onnx_errors, no_outputs) { expect_failure("in x 1 2\nnode Relu a x y", "the graph has no outputs"); }

Test(onnx_errors, attribute_types) {
  expect_failure("in x 1 2,2\nnode LeakyRelu a x y alpha=i:1\nout y 1 2,2",
                 "attribute 'alpha' is an int, expected a float");
  expect_failure("in x 1 2,2\nnode Transpose a x y perm=i:1\nout y 1 2,2",
                 "attribute 'perm' is an int, expected a list of ints");
}

Test(onnx_errors, a_nul_in_a_string) {
  pb graph = write_graph("in x 1 2,2\nout y 1 2,2"), node = write_node("Pad", "p", "x,w", "y", ""), attr = {0};
  pb_message(&graph, 5, write_tensor("w", 7, "4", "0 0 0 0"));
  pb_str(&attr, 1, "mode");
  pb_bytes(&attr, 4, "edge\0x", 6);
  pb_int(&attr, 20, 3);
  pb_message(&node, 5, attr);
  pb_message(&graph, 1, node);
  nn_module *m = load_pb(write_model_of(graph, 13));
  EXPECT_DIAG(m, "attribute 'mode' holds a NUL byte");
  free_module(m);
}

Test(onnx_errors, counts_of_inputs) {
  expect_failure("in x 1 2\nnode Relu a x,x y\nout y 1 2", "has 2 inputs, expected at most 1");
  expect_failure("in x 1 2\nnode Add a x y\nout y 1 2", "input 1 is missing, expected 2 inputs");
}

Test(onnx_errors, inputs_that_are_no_tensors) {
  pb graph = write_graph("in x 1 2\nnode Relu a x y\nout y 1 2"), info = {0}, type = {0}, sequence = {0}, element = {0};
  pb_message(&sequence, 1, element);
  pb_message(&type, 4, sequence);
  pb_str(&info, 1, "s");
  pb_message(&info, 2, type);
  pb_message(&graph, 11, info);
  nn_module *m = load_pb(write_model_of(graph, 13));
  EXPECT_DIAG(m, "unsupported: input 's' is a sequence, expected a tensor");
  free_module(m);
  expect_failure("in x 8 2\nnode Identity a x y\nout y 8 2", "unsupported: input 'x' is a tensor of strings");
  expect_failure("in x 99 2\nnode Identity a x y\nout y 99 2", "element type 99");
}

Test(onnx_errors, a_declared_type_that_is_another) {
  expect_failure("in x 1 2\nnode Relu a x y\nout y 7 2", "output 'y' is declared as i64, but is f32");
}

Test(onnx_errors, a_declared_shape_that_is_another_is_a_warning) {
  nn_module *m = load_text("in x 1 2\nnode Relu a x y\nout y 1 3");
  EXPECT_OK(m);
  EXPECT_DIAG(m, "output 'y' is declared with shape [3], but is f32[2]");
  cr_expect_str_eq(result_type(m, 0), "f32[2]");
  free_module(m);
}

/* The node is named, in the diagnostic and in the printed text. */
Test(onnx_errors, where) {
  nn_module *m = load_text("in x 1 2,2\nnode Transpose turn x y perm=is:0,0\nout y 1 2,2");
  cr_assert(m->diags.count == 1);
  cr_expect_str_eq(m->diags.items[0].node, "turn");
  cr_expect_str_eq(m->diags.items[0].op, "Transpose");
  free_module(m);
  m = load_text("in x 1 2,2\nnode Transpose - x y perm=is:0,0\nout y 1 2,2");
  cr_expect_str_eq(m->diags.items[0].node, "Transpose_0");
  free_module(m);
}
