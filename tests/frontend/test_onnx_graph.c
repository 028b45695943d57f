/* Names, order, constants, branches and functions. */
#include "load.h"

#include <string.h>

Test(onnx_graph, nodes_in_any_order) {
  expect_type("in x 1 N,4\nnode Relu c q r\nnode Relu b p q\nnode Relu a x p\nout r 1 N,4", "f32[N,4]");
}

Test(onnx_graph, values_and_ops_keep_their_names) {
  nn_module *m = load_text("in x 1 2\nnode Neg first x y\nnode Relu second y z\nout z 1 2");
  EXPECT_OK(m);
  nn_op *op = m->main->first;
  cr_expect_str_eq(op->loc, "first");
  cr_expect_str_eq(op->loc_op, "Neg");
  cr_expect_str_eq(op->out[0]->name, "y");
  cr_expect_str_eq(op->next->loc, "second");
  free_module(m);
}

Test(onnx_graph, outputs_keep_their_names) {
  nn_module *m =
      load_text("in x 1 2\nnode Identity a x y\nnode Relu b x z\nnode Identity c z w\nout y 1 2\nout z 1 2\nout w 1 2");
  EXPECT_OK(m);
  nn_op *op = nn_graph_return(m->main);
  const nn_attr *names = nn_op_attr(op, "names");
  cr_assert(names->count == 3);
  cr_expect_str_eq(names->strs[0], "y");
  cr_expect_str_eq(names->strs[1], "z");
  cr_expect_str_eq(names->strs[2], "w");
  cr_expect(op->in[0]->kind == NN_PARAM && op->in[1] == op->in[2]);
  free_module(m);
}

Test(onnx_graph, an_input_that_is_an_initializer_is_a_constant) {
  nn_module *m = load_text("in x 1 2\nin w 1 2\ninit w 1 2 1 2\nnode Add a x,w y\nout y 1 2");
  EXPECT_OK(m);
  cr_expect(m->main->nparams == 1);
  cr_expect(nn_map_get(m->names, "w") != NULL);
  free_module(m);
}

Test(onnx_graph, old_files_do_not_say_what_kind_an_attribute_is) {
  pb attr = {0}, node = write_node("Transpose", "t", "x", "y", ""), graph = write_graph("in x 1 2,3\nout y 1 3,2");
  pb_str(&attr, 1, "perm");
  pb_int(&attr, 8, 1);
  pb_int(&attr, 8, 0);
  pb_message(&node, 5, attr);
  pb_message(&graph, 1, node);
  nn_module *m = load_pb(write_model_of(graph, 7));
  EXPECT_OK(m);
  cr_expect_str_eq(result_type(m, 0), "f32[3,2]");
  free_module(m);
}

/* ---- If ------------------------------------------------------------------------------------------ */

static pb write_if(const char *condition, const char *then_text, const char *else_text) {
  pb node = write_node("If", "choose", condition, "y", "");
  const char *names[] = {"then_branch", "else_branch"}, *texts[] = {then_text, else_text};
  for (int i = 0; i < 2; i++) {
    pb attr = {0};
    pb_str(&attr, 1, names[i]);
    pb_message(&attr, 6, write_graph(texts[i]));
    pb_int(&attr, 20, 5);
    pb_message(&node, 5, attr);
  }
  return node;
}

static nn_module *load_if(const char *outer, const char *then_text, const char *else_text) {
  pb graph = write_graph(outer);
  pb_message(&graph, 1, write_if("c", then_text, else_text));
  return load_pb(write_model_of(graph, 13));
}

static const char *then_text = "node Relu r x z\nout z 1 2", *else_text = "node Neg n x z\nout z 1 2";

Test(onnx_graph, if_with_a_constant_condition) {
  nn_module *m = load_if("in x 1 2\ninit c 9 - 1\nout y 1 2", then_text, else_text);
  EXPECT_OK(m);
  cr_expect(has_op(m, "relu") && !has_op(m, "neg"));
  cr_expect_str_eq(m->main->first->loc, "choose/r");
  free_module(m);
  m = load_if("in x 1 2\ninit c 9 - 0\nout y 1 2", then_text, else_text);
  EXPECT_OK(m);
  cr_expect(has_op(m, "neg") && !has_op(m, "relu"));
  free_module(m);
}

Test(onnx_graph, if_decided_while_running) {
  nn_module *m = load_if("in x 1 2\nin c 9 -\nout y 1 2", then_text, else_text);
  EXPECT_OK(m);
  EXPECT_DIAG(m, "both branches are computed");
  cr_expect(has_op(m, "relu") && has_op(m, "neg") && has_op(m, "select"));
  free_module(m);
}

Test(onnx_graph, if_whose_branches_differ) {
  nn_module *m = load_if("in x 1 2\nin c 9 -\nout y 1 ?", then_text, "node Concat n x,x z axis=i:0\nout z 1 4");
  EXPECT_DIAG(m, "output 0 is f32[2] or f32[4]");
  free_module(m);
  m = load_if("in x 1 2\nin c 9 -\nout y 1 ?", then_text, "node NonZero n x z\nout z 7 1,?");
  EXPECT_DIAG(m, "the else_branch has sizes that are checked then");
  free_module(m);
}

/* What PyTorch makes of squeeze(x, 1). */
Test(onnx_graph, if_that_squeezes) {
  nn_module *m = load_if("in x 1 2,N\nin c 9 -\ninit a 7 1 1\nout y 1 ?", "node Squeeze r x,a z\nout z 1 2",
                         "node Identity n x z\nout z 1 2,N");
  EXPECT_OK(m);
  cr_expect_str_eq(result_type(m, 0), "f32[2]");
  cr_expect(has_op(m, "check"));
  free_module(m);
}

Test(onnx_graph, if_comes_after_what_its_branch_captures) {
  pb graph = write_graph("in x 1 2\ninit c 9 - 1\nout y 1 2");
  pb_message(&graph, 1, write_if("c", "node Relu r w z\nout z 1 2", else_text));
  pb_message(&graph, 1, write_node("Neg", "later", "x", "w", ""));
  nn_module *m = load_pb(write_model_of(graph, 13));
  EXPECT_OK(m);
  free_module(m);
}

/* ---- functions ----------------------------------------------------------------------------------- */

static pb write_function(const char *name, const char *in, const char *out, const char *attr, pb node) {
  pb f = {0}, import = {0};
  pb_str(&f, 1, name);
  pb_str(&f, 4, in);
  pb_str(&f, 5, out);
  if (attr) pb_str(&f, 6, attr);
  pb_message(&f, 7, node);
  pb_str(&import, 1, "");
  pb_int(&import, 2, 13);
  pb_message(&f, 9, import);
  pb_str(&f, 10, "my");
  return f;
}

Test(onnx_graph, functions_are_inlined) {
  pb model = write_model("in x 1 2,3\nnode my/Turn call x y at=i:0\nnode my/Turn again y z at=i:1\nout z 1 2,1,3,1");
  pb_message(&model, 25, write_function("Turn", "a", "b", "at", write_node("Unsqueeze", "u", "a,axes", "b", "")));
  nn_module *m = load_pb(model);
  EXPECT_DIAG(m, "input 'axes' is given by no node"); /* the body captures nothing */
  free_module(m);
  model = write_model("in x 1 2,3\nnode my/Soft call x y at=i:0\nnode my/Soft again y z\nout z 1 2,3");
  pb_message(&model, 25, write_function("Soft", "a", "b", "at", write_node("Softmax", "s", "a", "b", "axis=ref:at")));
  m = load_pb(model);
  EXPECT_OK(m);
  nn_op *first = m->main->first;
  while (first->code != NN_OP_SOFTMAX) first = first->next;
  cr_expect_str_eq(first->loc, "call/s");
  free_module(m);
}

Test(onnx_graph, defaults_of_attributes_of_functions) {
  pb model = write_model("in x 1 2,3\nnode my/Flat call x y\nout y 1 1,6");
  pb f = write_function("Flat", "a", "b", NULL, write_node("Flatten", "s", "a", "b", "axis=ref:at"));
  pb_message(&f, 11, write_attr("at=i:0"));
  pb_message(&model, 25, f);
  nn_module *m = load_pb(model);
  EXPECT_OK(m);
  cr_expect_str_eq(result_type(m, 0), "f32[1,6]");
  free_module(m);
}

Test(onnx_graph, a_function_that_calls_itself) {
  pb model = write_model("in x 1 2\nnode my/F call x y\nout y 1 2");
  pb_message(&model, 25, write_function("F", "a", "b", NULL, write_node("my/F", "s", "a", "b", "")));
  nn_module *m = load_pb(model);
  EXPECT_DIAG(m, "function 'F' calls itself");
  free_module(m);
}

/* Each calls the next twice: 2 to 40 nodes if nobody stops it. */
Test(onnx_graph, functions_that_explode, .timeout = 120) {
  pb model = write_model("in x 1 2\nnode my/F0 call x y\nout y 1 2");
  for (int i = 0; i < 40; i++) {
    char name[16], next[20];
    snprintf(name, sizeof name, "F%d", i);
    snprintf(next, sizeof next, i == 39 ? "Nothing" : "my/F%d", i + 1);
    pb f = write_function(name, "a", "b", NULL, write_node(next, "s", "a", "c", ""));
    pb_message(&f, 7, write_node(next, "t", "c", "b", ""));
    pb_message(&model, 25, f);
  }
  nn_module *m = load_pb(model);
  cr_expect(m->diags.nerrors > 0);
  free_module(m);
}

Test(onnx_graph, an_error_inside_a_function_is_reported_once) {
  pb model = write_model("in x 1 2\nnode my/F call x y\nnode Relu r y z\nout z 1 2");
  pb_message(&model, 25, write_function("F", "a", "b", NULL, write_node("Nothing", "s", "a", "b", "")));
  nn_module *m = load_pb(model);
  cr_expect(m->diags.nerrors == 1, "%s", all_diags(m));
  EXPECT_DIAG(m, "unsupported operator 'Nothing'");
  cr_expect_str_eq(m->diags.items[0].node, "call/s");
  free_module(m);
}
