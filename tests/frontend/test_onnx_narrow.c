/* Which nodes of a model with f16 values round: those that store f16, unless what is around them computes. */
#include "load.h"

#include <string.h>

#define MATMUL(name, in, out) "node MatMul " name " " in ",w " out "\n"
static const char head[] = "in x 10 4,4\nin w 10 4,4\nin v 10 4\ninit s 7 2 4 4\n";

/* The names of the nodes that round, in order, a space after each. */
static void expect_rounding_in(int opset, const char *nodes, const char *expected) {
  char text[1000], found[200] = "";
  snprintf(text, sizeof text, "opset %d\n%s%s", opset, head, nodes);
  nn_module *m = load_text(text);
  EXPECT_OK(m);
  const char *last = "";
  for (const nn_op *op = m->main->first; op; op = op->next) {
    if (!op->rounds || strcmp(op->loc, last) == 0) continue;
    last = op->loc;
    strncat(found, last, sizeof found - strlen(found) - 2);
    strcat(found, " ");
  }
  cr_expect_str_eq(found, expected, "%s", nodes);
  free_module(m);
}

static void expect_rounding(const char *nodes, const char *expected) { expect_rounding_in(17, nodes, expected); }

Test(onnx_narrow, a_mover_between_products_does_not_round) {
  expect_rounding(MATMUL("m", "x", "a") "node Transpose t a b\n" MATMUL("n", "b", "y") "out y 10 4,4", "");
  expect_rounding(MATMUL("m", "x", "a") "node Concat c a,x b axis=i:0\nnode Tanh t b y\nout y 10 8,4", "");
}

Test(onnx_narrow, movers_that_follow_each_other_round) {
  expect_rounding(
      MATMUL("m", "x", "a") "node Transpose t a b\nnode Reshape r b,s c\n" MATMUL("n", "c", "y") "out y 10 4,4", "t ");
  expect_rounding(
      MATMUL("m", "x", "a") "node Transpose t a b\nnode Slice r b,i,j c\ninit i 7 1 0\ninit j 7 1 2\n" MATMUL(
          "n", "c", "y") "out y 10 2,4",
      "t r ");
}

Test(onnx_narrow, what_the_graph_stores_is_rounded) {
  expect_rounding(MATMUL("m", "x", "a") "node Transpose t a y\nout y 10 4,4", "t ");
  expect_rounding("node Transpose t x a\n" MATMUL("n", "a", "y") "out y 10 4,4", "t ");
  expect_rounding(MATMUL("m", "x", "a") "node Transpose t a b\n" MATMUL("n", "b", "y") "out y 10 4,4\nout b 10 4,4",
                  "t ");
}

Test(onnx_narrow, versions_differ) {
  const char *nodes = "node Tanh m x a\nnode Max n a,v b\nnode Transpose t b y\nout y 10 4,4";
  expect_rounding_in(11, nodes, "t ");
  expect_rounding_in(12, nodes, "n t ");
}

Test(onnx_narrow, norms_round_next_to_others_that_do) {
  expect_rounding("node LayerNormalization l x,v a\n" MATMUL("n", "a", "y") "out y 10 4,4", "l ");
  expect_rounding(MATMUL("m", "x", "a") "node LayerNormalization l a,v b\n" MATMUL("n", "b", "y") "out y 10 4,4", "");
}

Test(onnx_narrow, casts_of_the_model) {
  expect_rounding(MATMUL("m", "x", "a") "node Cast c a b to=i:1\nnode Exp e b y\nout y 1 4,4", "");
  expect_rounding("in z 1 4,4\nnode Cast c z a to=i:10\nnode Cast d a y to=i:1\nout y 1 4,4", "d ");
  expect_rounding("in z 1 4,4\nnode Cast c z a to=i:10\nnode Transpose t a b\n" MATMUL("n", "b", "y") "out y 10 4,4",
                  "t ");
}

Test(onnx_narrow, models_of_f32_have_no_marks) { expect_rounding("in z 1 4,4\nnode Transpose t z y\nout y 1 4,4", ""); }
