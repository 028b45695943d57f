/* Shapes of inputs: symbols, pins, what exporters write for "any". */
#include "load.h"

#include <string.h>

static const char *one = "in x 1 N,3\nnode Relu r x y\nout y 1 N,3";
#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

Test(onnx_dims, names_become_symbols) { expect_type(one, "f32[N,3]"); }

Test(onnx_dims, unknown_dimensions_get_a_name) {
  expect_type("in x 1 ?,0,-1,3\nnode Relu r x y\nout y 1 ?,?,?,3", "f32[x_d0,x_d1,x_d2,3]");
}

Test(onnx_dims, symbols_are_spelled_as_identifiers) {
  expect_type("in x.1 1 batch:size,2d,min\nnode Relu r x.1 y\nout y 1 ?,?,?", "f32[batch_size,d2d,min_]");
  expect_type("in x 1 a:b,a_b\nnode Relu r x y\nout y 1 ?,?", "f32[a_b,a_b_2]");
}

Test(onnx_dims, an_expression_of_symbols) {
  expect_type("in past 1 P,4\nin now 1 S,4\nin mask 1 P+S,4\nnode Concat c past,now all axis=i:0\nnode Add a all,mask "
              "y\nout y 1 ?,4",
              "f32[P + S,4]");
  expect_type("in x 1 P+Q\nnode Relu r x y\nout y 1 ?", "f32[P_Q]"); /* P and Q are bound nowhere */
}

Test(onnx_dims, pinned_symbols) {
  nn_module *m = load_pinned(one, LIST("N=4"), NULL);
  EXPECT_OK(m);
  cr_expect_str_eq(result_type(m, 0), "f32[4,3]");
  free_module(m);
}

Test(onnx_dims, pinned_shapes) {
  nn_module *m = load_pinned("in x 1 N,3\nin y 1 N,1\nnode Add a x,y z\nout z 1 N,3", NULL, LIST("x=5,3"));
  EXPECT_OK(m);
  cr_expect_str_eq(result_type(m, 0), "f32[5,3]"); /* N is 5 everywhere */
  free_module(m);
}

static void expect_pin_failure(const char *const *dims, const char *const *shapes, const char *part) {
  nn_module *m = load_pinned(one, dims, shapes);
  EXPECT_DIAG(m, part);
  free_module(m);
}

Test(onnx_dims, wrong_pins) {
  expect_pin_failure(LIST("M=4"), NULL, "'M=4' pins a dimension that the model does not have");
  expect_pin_failure(LIST("N"), NULL, "expected NAME=VALUE");
  expect_pin_failure(LIST("N=x"), NULL, "dimension 'N' is pinned to 'x'");
  expect_pin_failure(LIST("N=-3"), NULL, "dimension 'N' is pinned to '-3'");
  expect_pin_failure(LIST("N=99999999999999999999"), NULL, "dimension 'N' is pinned to");
  expect_pin_failure(NULL, LIST("y=1,3"), "'y=1,3' pins a input that the model does not have");
  expect_pin_failure(NULL, LIST("x=1"), "has 1 dimensions, the model expects 2");
  expect_pin_failure(NULL, LIST("x=1,4"), "has 4 as dimension 1, the model has 3");
  expect_pin_failure(NULL, LIST("x=1,,3"), "malformed");
}

Test(onnx_dims, unknown_rank) {
  pb graph = write_graph("node Relu r x y");
  pb_message(&graph, 11, write_info("x", 1, NULL));
  pb_message(&graph, 12, write_info("y", 1, NULL));
  pb model = write_model_of(graph, 13);
  nn_module *m = nn_onnx_load_memory("test", model.data, model.size, NULL, NULL, NULL);
  EXPECT_DIAG(m, "input 'x' has no shape, not even a rank");
  nn_module_free(m);
  m = nn_onnx_load_memory("test", model.data, model.size, NULL, LIST("x=2,3"), NULL);
  EXPECT_OK(m);
  cr_expect_str_eq(result_type(m, 0), "f32[2,3]");
  nn_module_free(m);
  pb_free(&model);
}

Test(onnx_dims, a_pinned_value) {
  const char *text = "in x 1 6\nin n 7 1\nnode Slice s x,zero,n y\ninit zero 7 1 0\nout y 1 ?";
  nn_module *m = load_pinned(text, LIST("n=4"), NULL);
  EXPECT_OK(m);
  cr_expect_str_eq(result_type(m, 0), "f32[4]");
  cr_expect(has_op(m, "bind_dims")); /* checked while running */
  free_module(m);
}

/* A size computed from shapes needs nothing while running; one that is an input does. */
Test(onnx_dims, sizes_from_shapes) {
  nn_module *m = load_text("in x 1 N,3\nin w 1 N,M\nnode Shape s x shape\ninit i 7 1 0\nnode Gather g shape,i n\n"
                           "init minus 7 1 -1\nnode Concat c n,minus to axis=i:0\nnode Reshape r w,to y\nout y 1 ?,?");
  EXPECT_OK(m);
  cr_expect_str_eq(result_type(m, 0), "f32[N,M]");
  cr_expect(!has_op(m, "bind_dims"));
  free_module(m);
}
