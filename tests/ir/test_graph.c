/* Graphs: use lists, moving, removing, cloning; attributes. */
#include "ir/ir.h"
#include <criterion/criterion.h>
#include <string.h>

static nn_type vector_type(nn_module *m, int64_t n) { return nn_type_static(m, NN_F32, 1, &n); }

/* main(x) { a = neg x; b = add a, x; return b } */
static nn_graph *make_graph(nn_module *m, nn_op **neg, nn_op **add) {
  nn_graph *g = nn_graph_new(m, "main");
  nn_value *x = nn_graph_param(g, "x", vector_type(m, 4));
  *neg = nn_op_new(g, NULL, NN_OP_NEG, &x, 1, -1);
  nn_value *in[2] = {(*neg)->out[0], x};
  *add = nn_op_new(g, NULL, NN_OP_ADD, in, 2, -1);
  cr_assert_eq(nn_op_infer(*neg), NN_OK);
  cr_assert_eq(nn_op_infer(*add), NN_OK);
  nn_graph_set_return(g, (*add)->out, 1);
  return g;
}

Test(graph, use_lists) {
  nn_module *m = nn_module_new("test");
  nn_op *neg, *add;
  nn_graph *g = make_graph(m, &neg, &add);
  nn_value *x = g->params[0];
  cr_expect_eq(nn_value_nuses(x), 2);
  nn_op_set_input(add, 0, x);
  cr_expect_eq(nn_value_nuses(x), 3);
  cr_expect_eq(nn_value_nuses(neg->out[0]), 0);
  nn_op_set_input(add, 1, NULL);
  cr_expect_eq(nn_value_nuses(x), 2);
  nn_op_set_input(add, 1, neg->out[0]);
  nn_value_replace(x, add->out[0]);
  cr_expect_eq(nn_value_nuses(x), 0);
  cr_expect_eq(nn_value_nuses(add->out[0]), 3);
  for (nn_use *use = add->out[0]->uses; use; use = use->next) cr_expect_eq(use->user->in[use->index], add->out[0]);
  nn_module_free(m);
}

Test(graph, order) {
  nn_module *m = nn_module_new(NULL);
  nn_op *neg, *add;
  nn_graph *g = make_graph(m, &neg, &add);
  nn_op *ret = nn_graph_return(g);
  nn_op *relu = nn_op_new(g, add, NN_OP_RELU, neg->out, 1, -1);
  cr_expect(neg->next == relu && relu->next == add && add->prev == relu);
  nn_op_move_before(relu, neg);
  cr_expect(g->first == relu && relu->next == neg && neg->next == add);
  nn_op_move_before(relu, neg);
  cr_expect(g->first == relu);
  nn_op_remove(relu);
  cr_expect(g->first == neg && !neg->prev);
  cr_expect_eq(nn_value_nuses(neg->out[0]), 1);
  nn_op *other = nn_graph_set_return(g, neg->out, 1);
  cr_expect(other != ret && g->last == other && other->prev == add);
  cr_expect_eq(nn_value_nuses(add->out[0]), 0);
  nn_module_free(m);
}

Test(graph, graphs_keep_their_order) {
  nn_module *m = nn_module_new(NULL);
  nn_graph *a = nn_graph_new(m, "main"), *b = nn_graph_new(m, "b"), *c = nn_graph_new(m, "c");
  cr_expect(m->main == a && m->graphs == a && a->next == b && b->next == c && !c->next);
  nn_module_free(m);
}

Test(graph, clone) {
  nn_module *m = nn_module_new(NULL);
  nn_op *neg, *add;
  nn_graph *g = make_graph(m, &neg, &add);
  add->loc = "Add_1";
  nn_graph *copy = nn_graph_clone(g, "copy");
  nn_op *last = copy->last->prev;
  cr_expect_str_eq(copy->name, "copy");
  cr_expect_eq(last->code, NN_OP_ADD);
  cr_expect_str_eq(last->loc, "Add_1");
  cr_expect(last->in[1] == copy->params[0] && last->in[0] == copy->first->out[0]);
  cr_expect(nn_type_equal(last->out[0]->type, add->out[0]->type));
  cr_expect_eq(nn_value_nuses(g->params[0]), 2);
  nn_module_free(m);
}

Test(graph, clone_copies_bodies_and_shares_constants) {
  nn_module *m = nn_module_new(NULL);
  nn_op *neg, *add;
  nn_graph *body = make_graph(m, &neg, &add), *g = nn_graph_new(m, "outer");
  nn_value *c = nn_module_const(m, "w", nn_tensor_new(m, vector_type(m, 4)));
  nn_op *fused = nn_op_new(g, NULL, NN_OP_FUSED, &c, 1, 1);
  nn_set_graph(fused, "body", body);
  cr_expect_eq(nn_op_infer(fused), NN_OK);
  nn_op *copy = nn_graph_clone(g, "copy")->first;
  cr_expect(copy->in[0] == c && nn_value_nuses(c) == 2);
  cr_expect(nn_attr_graph(copy, "body") != body);
  cr_expect_str_eq(nn_attr_graph(copy, "body")->name, "copy.main");
  nn_module_free(m);
}

Test(graph, fused_ops_fit_their_body) {
  nn_module *m = nn_module_new(NULL);
  nn_op *neg, *add;
  nn_graph *body = make_graph(m, &neg, &add), *g = nn_graph_new(m, "outer");
  nn_dim n = nn_dim_symbol(m, "N");
  nn_value *longer = nn_graph_param(g, NULL, vector_type(m, 5));
  nn_value *open = nn_graph_param(g, NULL, nn_type_make(m, NN_F32, 1, &n));
  nn_op *fused = nn_op_new(g, NULL, NN_OP_FUSED, &open, 1, 1);
  cr_expect_eq(nn_op_infer(fused), NN_FAIL, "no body");
  nn_set_graph(fused, "body", body);
  cr_expect_eq(nn_op_infer(fused), NN_OK);
  nn_op_set_input(fused, 0, longer);
  cr_expect_eq(nn_op_infer(fused), NN_FAIL);
  nn_module_free(m);
}

Test(graph, constants) {
  nn_module *m = nn_module_new(NULL);
  int64_t dim = 3;
  nn_tensor *ints = nn_tensor_new(m, nn_type_static(m, NN_I8, 1, &dim));
  nn_store_i64(NN_I8, ints->owned, 1, -5);
  nn_value *a = nn_module_const(m, "w", ints), *b = nn_module_const(m, "w", ints);
  cr_expect_str_eq(a->name, "w");
  cr_expect(strcmp(b->name, "w") != 0 && nn_map_get(m->names, b->name) == b);
  cr_expect(a->elems && nn_dim_is(a->elems[1], -5));
  nn_tensor *big = nn_tensor_new(m, nn_type_make(m, NN_U64, 0, NULL));
  nn_store_i64(NN_U64, big->owned, 0, -1);
  cr_expect_null(nn_module_const(m, NULL, big)->elems, "2^64 - 1 has no expression");
  cr_expect_null(nn_module_const(m, NULL, nn_tensor_new(m, vector_type(m, 2)))->elems);
  cr_expect_eq(m->nconsts, 4);
  nn_module_free(m);
}

Test(op, table) {
  nn_opcode code;
  for (int i = 0; i < NN_OP_COUNT; i++) {
    const nn_op_info *info = &nn_op_infos[i];
    cr_expect(nn_opcode_find(info->text, strlen(info->text), &code) && (int)code == i);
    for (int k = 0; k < info->nattrs; k++) cr_expect(info->attrs[k].name[0], "%s attribute %d", info->text, k);
  }
  cr_expect_not(nn_opcode_find("addx", 4, &code));
  cr_expect_not(nn_opcode_find("", 0, &code));
  cr_expect_eq(nn_op_infos[NN_OP_COPY].nattrs, 0);
  cr_expect_eq(nn_op_infos[NN_OP_CONCAT].nattrs, 1);
  cr_expect_str_eq(nn_op_infos[NN_OP_LSTM].attrs[5].name, "input_forget");
}

Test(op, attributes) {
  nn_module *m = nn_module_new(NULL);
  nn_graph *g = nn_graph_new(m, "main");
  nn_value *x = nn_graph_param(g, "x", vector_type(m, 4));
  nn_op *a = nn_op_new(g, NULL, NN_OP_RESIZE, &x, 1, -1), *b = nn_op_new(g, NULL, NN_OP_RESIZE, &x, 1, -1);
  cr_expect_eq(nn_attr_float(a, "cubic_a"), -0.75);
  cr_expect_eq(nn_attr_float(nn_op_new(g, NULL, NN_OP_NORMALIZE, &x, 1, -1), "epsilon"), 1e-05);
  cr_expect_str_eq(nn_attr_str(a, "mode"), "nearest");
  cr_expect_not(nn_op_attr(a, "mode")->is_set);
  cr_expect(nn_attrs_equal(a, b));
  nn_set_str(a, "mode", "nearest");
  cr_expect(nn_op_attr(a, "mode")->is_set && nn_attrs_equal(a, b), "set to its default");
  double scales[1] = {2.5};
  nn_set_floats(a, "scales", scales, 1);
  cr_expect_not(nn_attrs_equal(a, b));
  scales[0] = 0;
  int count;
  cr_expect(nn_attr_floats(a, "scales", &count)[0] == 2.5 && count == 1, "lists are copied");
  nn_dim dims[1] = {nn_dim_symbol(m, "N")};
  nn_set_dims(b, "dims", dims, 1);
  cr_expect_eq(nn_attr_dims(b, "dims", NULL)[0], dims[0]);
  nn_module_free(m);
}

Test(op, errors_name_the_node) {
  nn_module *m = nn_module_new("net.onnx");
  nn_graph *g = nn_graph_new(m, "main");
  nn_value *x = nn_graph_param(g, "x", vector_type(m, 4));
  nn_op *op = nn_op_new(g, NULL, NN_OP_NOT, &x, 1, -1);
  cr_expect_eq(nn_op_infer(op), NN_FAIL);
  cr_expect(m->diags.items[0].node == NULL && strcmp(m->diags.items[0].op, "not") == 0);
  op->loc = "Not_7";
  op->loc_op = "Not";
  cr_expect_eq(nn_op_infer(op), NN_FAIL);
  cr_expect_str_eq(m->diags.items[1].node, "Not_7");
  cr_expect_str_eq(m->diags.items[1].op, "Not");
  nn_module_free(m);
}

Test(op, inference_keeps_a_chosen_layout) {
  nn_module *m = nn_module_new(NULL);
  nn_op *neg, *add;
  make_graph(m, &neg, &add);
  neg->out[0]->type.layout = "blocked";
  cr_expect_eq(nn_op_infer(neg), NN_OK);
  cr_expect_str_eq(neg->out[0]->type.layout, "blocked");
  nn_module_free(m);
}
