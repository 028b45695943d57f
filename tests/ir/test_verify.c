/* The verifier finds what a wrong pass may leave behind. Each test breaks one thing in a good module. */
#include <criterion/criterion.h>

#include <string.h>

#include "ir/ir.h"

static const char good[] =
    "nncc 1\n"
    "const $w : f32[3,4] = hex "
    "\"000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\"\n"
    "graph @main(%x: f32[N,3]) -> (f32[N,4]) {\n"
    "  %a = matmul %x, $w : f32[N,4]\n"
    "  %b = relu %a : f32[N,4]\n"
    "  %c = add %a, %b : f32[N,4]\n"
    "  return %c\n"
    "}\n"
    "graph @other(%y: f32[N,4]) -> (f32[N,4]) {\n"
    "  return %y\n"
    "}\n";

static nn_module *m;
static nn_op *matmul, *relu, *add;

static void set_up(void) {
  m = nn_text_parse("net.nn", good, strlen(good));
  for (int i = 0; i < m->diags.count; i++) nn_diag_print(stderr, &m->diags.items[i]);
  cr_assert_eq(m->diags.count, 0);
  cr_assert_eq(nn_verify(m), NN_OK);
  matmul = m->main->first;
  relu = matmul->next;
  add = relu->next;
}

static void tear_down(void) { nn_module_free(m); }
TestSuite(verify, .init = set_up, .fini = tear_down);

static void expect_problem(const char *message) {
  cr_assert_eq(nn_verify(m), NN_FAIL);
  bool found = false;
  for (int i = 0; i < m->diags.count; i++) found |= strstr(m->diags.items[i].message, message) != NULL;
  for (int i = 0; !found && i < m->diags.count; i++) nn_diag_print(stderr, &m->diags.items[i]);
  cr_assert(found, "expected: %s", message);
}

Test(verify, use_before_definition) {
  nn_op_set_input(matmul, 0, relu->out[0]);
  expect_problem("operand 0 ('b') is used before its definition");
}

Test(verify, value_of_another_graph) {
  nn_op_set_input(relu, 0, m->graphs->next->params[0]);
  expect_problem("operand 0 ('y') is a parameter of another graph");
}

Test(verify, op_in_the_wrong_order) {
  nn_op_move_before(add, relu);
  expect_problem("operand 1 ('b') is used before its definition");
}

Test(verify, type_that_the_rule_does_not_give) {
  nn_dim dims[] = {nn_dim_symbol(m, "N"), nn_dim_const(m, 5)};
  relu->out[0]->type.dims = dims;
  expect_problem("result 0 ('b') is f32[N,5], expected f32[N,4] by the rule of relu");
}

Test(verify, operand_that_is_missing) {
  nn_op_set_input(add, 1, NULL);
  expect_problem("operand 1 of add is missing");
}

Test(verify, use_list_that_forgot_a_user) {
  add->in[1] = matmul->out[0];
  expect_problem("result 0 ('b') has a list of uses that names an operand that does not read it");
}

Test(verify, attribute_of_another_kind) {
  nn_op_attr(matmul, "trans_a")->kind = NN_ATTR_STR;
  expect_problem("attribute 'trans_a' is of another kind");
}

Test(verify, overflow_in_a_type) {
  nn_dim dims[] = {nn_dim_mul(m, nn_dim_const(m, INT64_MAX), nn_dim_const(m, 2)), nn_dim_const(m, 4)};
  m->main->params[0]->type.dims = dims;
  expect_problem("parameter 0 ('x') has a dimension that overflows 64 bits");
}

Test(verify, names_that_are_taken) {
  relu->out[0]->name = "x";
  expect_problem("two values have the name 'x'");
}

Test(verify, graph_names_that_are_taken) {
  m->graphs->next->name = "main";
  expect_problem("two graphs have the name 'main'");
}

Test(verify, graph_without_return) {
  nn_op_remove(m->main->last);
  expect_problem("the graph does not end with a return");
}

Test(verify, constant_without_contents_and_of_the_wrong_size) {
  m->consts[0]->tensor->size_bytes--;
  expect_problem("$w has 47 bytes, expected 48");
  m->consts[0]->tensor = NULL;
  expect_problem("$w has no contents");
}

Test(verify, constant_that_the_module_lost) {
  m->nconsts = 0;
  expect_problem("operand 1 ('w') is a constant that the module does not have");
}

Test(verify, links_that_do_not_agree) {
  add->prev = NULL;
  expect_problem("not linked to the one before it");
}

Test(verify, list_of_ops_in_a_circle) {
  m->main->last->next = relu;
  expect_problem("the list of operations runs in a circle");
}

Test(verify, all_problems_are_reported) {
  nn_op_attr(matmul, "trans_a")->kind = NN_ATTR_STR;
  relu->out[0]->name = "x";
  nn_op_set_input(add, 1, NULL);
  cr_assert_eq(nn_verify(m), NN_FAIL);
  cr_assert_eq(m->diags.nerrors, 3);
}
