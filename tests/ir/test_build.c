/* Builders: broadcasting, run-time checks, folding, matmul's ranks, contents of shape tensors. */
#include "ir/ir.h"
#include <criterion/criterion.h>
#include <string.h>

typedef struct fixture {
  nn_module *m;
  nn_graph *g;
  nn_builder b;
  nn_dim n, k;
} fixture;

static fixture start(void) {
  fixture f = {.m = nn_module_new("test")};
  f.g = nn_graph_new(f.m, "main");
  f.b = (nn_builder){.graph = f.g, .loc = "node", .loc_op = "Op", .fold = true};
  f.n = nn_dim_symbol(f.m, "N");
  f.k = nn_dim_symbol(f.m, "K");
  return f;
}

static nn_dim num(fixture *f, int64_t v) { return nn_dim_const(f->m, v); }

static nn_value *param(fixture *f, nn_dtype t, int rank, nn_dim a, nn_dim b, nn_dim c) {
  nn_dim dims[3] = {a, b, c};
  return nn_graph_param(f->g, NULL, nn_type_make(f->m, t, rank, dims));
}

static int count_ops(const nn_graph *g, nn_opcode code) {
  int count = 0;
  for (const nn_op *op = g->first; op; op = op->next) count += op->code == code;
  return count;
}

static void expect_type(fixture *f, nn_value *v, const char *text) {
  cr_assert(v, "no value: %s", f->m->diags.count ? f->m->diags.items[0].message : "");
  cr_expect_str_eq(nn_type_text(f->m->arena, v->type), text);
}

static const char *last_message(fixture *f) {
  return f->m->diags.count ? f->m->diags.items[f->m->diags.count - 1].message : "";
}

Test(build, null_in_null_out) {
  fixture f = start();
  cr_expect_null(nn_b_binary(&f.b, NN_OP_ADD, NULL, nn_b_scalar(&f.b, NN_F32, 1)));
  cr_expect_null(nn_b_reshape(&f.b, nn_b_unary(&f.b, NN_OP_EXP, NULL), 0, NULL));
  cr_expect_null(nn_b_matmul(&f.b, NULL, NULL));
  nn_value *parts[2] = {NULL, NULL};
  cr_expect_null(nn_b_concat(&f.b, parts, 2, 0));
  cr_expect_null(nn_b_select(&f.b, NULL, NULL, NULL));
  cr_expect_null(nn_b_scalar_op(&f.b, NN_OP_ADD, NULL, 1));
  cr_expect_null(nn_b_end(&f.b, NULL));
  cr_expect_eq(f.m->diags.count, 0);
  nn_module_free(f.m);
}

Test(build, errors_are_reported_and_leave_no_op) {
  fixture f = start();
  nn_value *x = param(&f, NN_F32, 1, num(&f, 2), NULL, NULL), *y = param(&f, NN_I32, 1, num(&f, 2), NULL, NULL);
  cr_expect_null(nn_b_binary(&f.b, NN_OP_ADD, x, y));
  cr_expect_str_eq(f.m->diags.items[0].node, "node");
  cr_expect_str_eq(f.m->diags.items[0].op, "Op");
  cr_expect_null(nn_b_unary(&f.b, NN_OP_NOT, x));
  cr_expect_null(nn_b_slice(&f.b, x, 3, num(&f, 0), num(&f, 1), num(&f, 1)));
  cr_expect_null(nn_b_scalar(&f.b, NN_STRING, 0));
  cr_expect_eq(f.m->diags.count, 4);
  cr_expect_null(f.g->first);
  cr_expect_eq(nn_value_nuses(x), 0);
  nn_module_free(f.m);
}

Test(build, binary_broadcasts) {
  fixture f = start();
  nn_value *x = param(&f, NN_F32, 2, f.n, num(&f, 4), NULL), *bias = param(&f, NN_F32, 1, num(&f, 4), NULL, NULL);
  expect_type(&f, nn_b_binary(&f.b, NN_OP_ADD, x, bias), "f32[N,4]");
  cr_expect_eq(count_ops(f.g, NN_OP_BROADCAST), 1);
  cr_expect_eq(count_ops(f.g, NN_OP_CHECK), 0);
  expect_type(&f, nn_b_binary(&f.b, NN_OP_ADD, x, x), "f32[N,4]");
  cr_expect_eq(count_ops(f.g, NN_OP_BROADCAST), 1, "equal shapes need none");
  expect_type(&f, nn_b_scalar_op(&f.b, NN_OP_MUL, x, 2), "f32[N,4]");
  cr_expect_eq(count_ops(f.g, NN_OP_BROADCAST), 2);
  nn_value *three = param(&f, NN_F32, 1, num(&f, 3), NULL, NULL);
  cr_expect_null(nn_b_binary(&f.b, NN_OP_ADD, x, three));
  cr_expect(strstr(last_message(&f), "do not broadcast: found 4 and 3"), "%s", last_message(&f));
  nn_module_free(f.m);
}

Test(build, open_symbols_are_checked_while_running) {
  fixture f = start();
  nn_value *x = param(&f, NN_F32, 1, f.n, NULL, NULL), *y = param(&f, NN_F32, 1, f.k, NULL, NULL);
  cr_assert(nn_b_binary(&f.b, NN_OP_ADD, x, y));
  cr_expect_eq(count_ops(f.g, NN_OP_CHECK), 2);
  cr_expect_eq(count_ops(f.g, NN_OP_BROADCAST), 2);
  cr_expect_eq(f.g->first->code, NN_OP_CHECK, "a check stands before what relies on it");
  cr_expect_str_eq(nn_attr_str(f.g->first, "kind"), "broadcast");
  cr_assert(nn_b_binary(&f.b, NN_OP_SUB, x, y));
  cr_expect_eq(count_ops(f.g, NN_OP_CHECK), 2, "the same check once");
  nn_value *four = param(&f, NN_F32, 1, num(&f, 4), NULL, NULL);
  expect_type(&f, nn_b_binary(&f.b, NN_OP_ADD, x, four), "f32[4]");
  cr_expect_eq(count_ops(f.g, NN_OP_CHECK), 3);
  nn_module_free(f.m);
}

Test(build, checks_known_at_once) {
  fixture f = start();
  nn_dim n1 = nn_dim_add(f.m, f.n, num(&f, 1));
  cr_expect_eq(nn_b_check(&f.b, "eq", f.n, f.n, "a"), NN_OK);
  cr_expect_eq(nn_b_check(&f.b, "le", f.n, n1, "a"), NN_OK);
  cr_expect_eq(nn_b_check(&f.b, "broadcast", num(&f, 1), f.n, "a"), NN_OK);
  cr_expect_null(f.g->first);
  cr_expect_eq(nn_b_check(&f.b, "eq", f.n, n1, "a"), NN_FAIL);
  cr_expect_eq(nn_b_check(&f.b, "le", n1, f.n, "a"), NN_FAIL);
  cr_expect_eq(nn_b_check(&f.b, "broadcast", num(&f, 3), num(&f, 4), "a"), NN_FAIL);
  cr_expect_str_eq(last_message(&f), "a is 3, expected 1 or 4");
  cr_expect_eq(nn_b_check(&f.b, "le", f.n, f.k, "a"), NN_OK);
  cr_expect_eq(count_ops(f.g, NN_OP_CHECK), 1);
  nn_module_free(f.m);
}

Test(build, reshape) {
  fixture f = start();
  nn_value *x = param(&f, NN_F32, 2, f.n, num(&f, 4), NULL);
  nn_dim twice[2] = {nn_dim_mul(f.m, f.n, num(&f, 2)), num(&f, 2)}, open[1] = {f.k};
  expect_type(&f, nn_b_reshape(&f.b, x, 2, twice), "f32[2*N,2]");
  cr_expect_eq(count_ops(f.g, NN_OP_CHECK), 0);
  expect_type(&f, nn_b_reshape(&f.b, x, 1, open), "f32[K]");
  cr_expect_eq(count_ops(f.g, NN_OP_CHECK), 1);
  cr_expect_eq(nn_b_reshape(&f.b, x, 2, x->type.dims), x);
  expect_type(&f, nn_b_unsqueeze(&f.b, x, 1), "f32[N,1,4]");
  expect_type(&f, nn_b_unsqueeze(&f.b, x, -1), "f32[N,4,1]");
  cr_expect_null(nn_b_unsqueeze(&f.b, x, 4));
  nn_module_free(f.m);
}

Test(build, constants_change_shape_without_an_op) {
  fixture f = start();
  int64_t dims[2] = {100, 100};
  nn_value *w = nn_b_const(&f.b, nn_tensor_new(f.m, nn_type_static(f.m, NN_F32, 2, dims)));
  nn_value *v = nn_b_unsqueeze(&f.b, w, 0);
  expect_type(&f, v, "f32[1,100,100]");
  cr_expect(v->kind == NN_CONST && v->tensor->data == w->tensor->data);
  cr_expect_null(f.g->first);
  nn_dim wrong[1] = {num(&f, 7)};
  cr_expect_null(nn_b_reshape(&f.b, w, 1, wrong));
  nn_module_free(f.m);
}

Test(build, slice_is_kept_inside) {
  fixture f = start();
  nn_value *x = param(&f, NN_F32, 1, f.n, NULL, NULL);
  nn_dim one = num(&f, 1), zero = num(&f, 0);
  nn_dim rest = nn_dim_sub(f.m, f.n, one);
  cr_expect_eq(nn_b_slice(&f.b, x, 0, zero, f.n, one), x);
  expect_type(&f, nn_b_slice(&f.b, x, -1, zero, nn_dim_min(f.m, f.n, num(&f, 4)), one), "f32[min(N, 4)]");
  cr_expect_eq(count_ops(f.g, NN_OP_CHECK), 0, "min(N, 4) <= N is known");
  expect_type(&f, nn_b_slice(&f.b, x, 0, one, rest, one), "f32[N - 1]");
  cr_expect_eq(count_ops(f.g, NN_OP_CHECK), 1, "N may be 0");
  expect_type(&f, nn_b_slice(&f.b, x, 0, rest, f.n, num(&f, -1)), "f32[N]");
  cr_assert(nn_b_slice(&f.b, x, 0, zero, f.k, one));
  cr_expect_geq(count_ops(f.g, NN_OP_CHECK), 2);
  nn_module_free(f.m);
}

Test(build, matmul_ranks) {
  fixture f = start();
  nn_dim two = num(&f, 2), three = num(&f, 3);
  nn_value *vec = param(&f, NN_F32, 1, three, NULL, NULL), *mat = param(&f, NN_F32, 2, two, three, NULL);
  nn_value *mat2 = param(&f, NN_F32, 2, three, two, NULL), *batch = param(&f, NN_F32, 3, f.n, two, three);
  expect_type(&f, nn_b_matmul(&f.b, vec, vec), "f32[]");
  expect_type(&f, nn_b_matmul(&f.b, mat, vec), "f32[2]");
  expect_type(&f, nn_b_matmul(&f.b, vec, mat2), "f32[2]");
  expect_type(&f, nn_b_matmul(&f.b, mat, mat2), "f32[2,2]");
  expect_type(&f, nn_b_matmul(&f.b, batch, mat2), "f32[N,2,2]");
  cr_expect_eq(count_ops(f.g, NN_OP_BROADCAST) + count_ops(f.g, NN_OP_CHECK), 0);
  nn_value *other = param(&f, NN_F32, 3, f.k, three, two);
  cr_assert(nn_b_matmul(&f.b, batch, other));
  cr_expect_eq(count_ops(f.g, NN_OP_BROADCAST), 2);
  cr_expect_eq(count_ops(f.g, NN_OP_CHECK), 2);
  cr_expect_null(nn_b_matmul(&f.b, mat, mat));
  cr_expect_null(nn_b_matmul(&f.b, mat, nn_b_scalar(&f.b, NN_F32, 1)));
  nn_module_free(f.m);
}

Test(build, reduce_and_concat) {
  fixture f = start();
  nn_value *x = param(&f, NN_F32, 3, f.n, num(&f, 2), num(&f, 3));
  const int64_t axes[2] = {-1, 0};
  expect_type(&f, nn_b_reduce(&f.b, NN_OP_REDUCE_SUM, x, axes, 2, false), "f32[2]");
  cr_expect_eq(nn_b_reduce(&f.b, NN_OP_REDUCE_SUM, x, axes, 0, false), x);
  const int64_t bad[2] = {0, 0};
  cr_expect_null(nn_b_reduce(&f.b, NN_OP_REDUCE_SUM, x, bad, 2, false));
  nn_value *y = param(&f, NN_F32, 3, f.k, num(&f, 5), num(&f, 3));
  nn_value *parts[2] = {x, y};
  expect_type(&f, nn_b_concat(&f.b, parts, 2, -2), "f32[N,7,3]");
  cr_expect_eq(count_ops(f.g, NN_OP_CHECK), 1);
  cr_expect_eq(nn_b_concat(&f.b, parts, 1, 0), x);
  nn_module_free(f.m);
}

Test(build, shape_arithmetic_folds) {
  fixture f = start();
  const int64_t values[2] = {2, 3};
  nn_value *a = nn_b_ints(&f.b, NN_I64, values, 2);
  nn_value *sum = nn_b_scalar_op(&f.b, NN_OP_ADD, a, 1);
  cr_expect(sum->kind == NN_CONST && nn_dim_is(sum->elems[1], 4));
  cr_expect_eq(nn_load_i64(NN_I64, sum->tensor->data, 0), 3);
  nn_dim dims[2] = {f.n, num(&f, 3)};
  nn_value *shape = nn_b_dims(&f.b, dims, 2);
  cr_expect(shape->kind == NN_RESULT && shape->elems[0] == f.n);
  nn_value *index = nn_b_ints(&f.b, NN_I64, values, 1), *parts[2] = {shape, a};
  cr_expect_eq(nn_b_concat(&f.b, parts, 2, 0)->elems[3], num(&f, 3));
  nn_value *last = nn_b_slice(&f.b, shape, 0, num(&f, 1), num(&f, 1), num(&f, 1));
  cr_expect(last->kind == NN_CONST && nn_dim_is(last->elems[0], 3), "an element that is a number");
  cr_expect(index->kind == NN_CONST);
  nn_module_free(f.m);
}

/* Evaluates neg only, and counts. */
static nn_status evaluate_neg(void *self, nn_op *op, nn_tensor **results) {
  int64_t count;
  ++*(int *)self;
  if (op->code != NN_OP_NEG || !nn_type_static_count(op->out[0]->type, &count)) return NN_FAIL;
  results[0] = nn_tensor_new(op->graph->module, op->out[0]->type);
  for (int64_t i = 0; i < count; i++) {
    double value = nn_load_f64(NN_F32, op->in[0]->tensor->data, (size_t)i);
    nn_store_f64(NN_F32, results[0]->owned, (size_t)i, -value);
  }
  return NN_OK;
}

Test(build, folding_by_evaluation) {
  fixture f = start();
  int calls = 0;
  f.m->env.self = &calls;
  f.m->env.evaluate = evaluate_neg;
  nn_value *x = nn_b_scalar(&f.b, NN_F32, 2.5), *y = nn_b_unary(&f.b, NN_OP_NEG, x);
  cr_expect(y->kind == NN_CONST && nn_load_f64(NN_F32, y->tensor->data, 0) == -2.5);
  cr_expect_eq(nn_b_unary(&f.b, NN_OP_EXP, x)->kind, NN_RESULT, "what cannot be evaluated stays");
  cr_expect_eq(calls, 2);
  nn_dim big[1] = {num(&f, 5000)};
  cr_expect_eq(nn_b_fill(&f.b, NN_F32, 1, 1, big)->kind, NN_RESULT);
  f.b.fold = false;
  cr_expect_eq(nn_b_unary(&f.b, NN_OP_NEG, x)->kind, NN_RESULT);
  cr_expect_eq(calls, 2);
  nn_module_free(f.m);
}

/* f16 constants are rounded by whoever reads them, not on the way: 0.1 + 0.2 is that of f32. */
Test(build, folding_does_not_round_to_f16) {
  fixture f = start();
  int calls = 0;
  f.m->env.self = &calls;
  f.m->env.evaluate = evaluate_neg;
  nn_value *exact = nn_b_unary(&f.b, NN_OP_NEG, nn_b_scalar(&f.b, NN_F16, 2.5));
  cr_expect(exact->kind == NN_CONST && exact->type.dtype == NN_F16 && nn_load_f64(NN_F16, exact->tensor->data, 0) == -2.5);
  nn_value *x = nn_b_scalar(&f.b, NN_F16, 0.1), *y = nn_b_unary(&f.b, NN_OP_NEG, x);
  cr_expect(y->kind == NN_RESULT && y->def->code == NN_OP_CAST && y->type.dtype == NN_F16);
  nn_value *behind = nn_const_behind(y);
  cr_assert(behind && behind->type.dtype == NN_F32);
  cr_expect_eq(nn_load_f64(NN_F32, behind->tensor->data, 0), -(double)0.1f);
  nn_value *settled = nn_b_settle(&f.b, y);
  cr_expect(settled->kind == NN_CONST && nn_load_f64(NN_F16, settled->tensor->data, 0) == nn_round_to(NN_F16, -0.1));
  nn_module_free(f.m);
}

Test(build, elems_of_a_parameter_are_bound) {
  fixture f = start();
  const nn_dim *dims, *again;
  int count;
  nn_value *v = param(&f, NN_I32, 1, num(&f, 2), NULL, NULL), *x = param(&f, NN_F32, 1, f.n, NULL, NULL);
  cr_assert(nn_b_unary(&f.b, NN_OP_NEG, x));
  const nn_dim hints[2] = {NULL, f.k};
  cr_assert_eq(nn_b_elems(&f.b, v, -1, hints, &dims, &count), NN_OK);
  cr_expect_eq(count, 2);
  cr_expect(dims[1] == f.k && dims[0] != f.n);
  int64_t min, max;
  nn_dim_range(dims[0], &min, &max);
  cr_expect_eq(min, -1);
  nn_op *bind = f.g->first->next;
  cr_expect(f.g->first->code == NN_OP_CAST && bind->code == NN_OP_BIND_DIMS && nn_attr_int(bind, "min") == -1);
  cr_assert_eq(nn_b_elems(&f.b, v, 0, NULL, &again, &count), NN_OK);
  cr_expect_eq(again, dims, "bound once");
  cr_expect_eq(count_ops(f.g, NN_OP_CHECK), 1, "a stricter minimum is checked");
  cr_assert_eq(nn_b_elems(&f.b, v, INT64_MIN, NULL, &again, &count), NN_OK);
  cr_expect_eq(count_ops(f.g, NN_OP_CHECK), 1, "no minimum, no check");
  nn_module_free(f.m);
}

Test(build, elems_known_or_refused) {
  fixture f = start();
  const nn_dim *dims;
  int count;
  nn_dim shape[2] = {f.n, num(&f, 3)};
  cr_assert_eq(nn_b_elems(&f.b, nn_b_dims(&f.b, shape, 2), 0, NULL, &dims, &count), NN_OK);
  cr_expect(count == 2 && dims[0] == f.n);
  cr_assert_eq(nn_b_elems(&f.b, nn_b_scalar(&f.b, NN_I64, 7), 0, NULL, &dims, &count), NN_OK);
  cr_expect(count == 1 && nn_dim_is(dims[0], 7));
  cr_expect_eq(nn_b_elems(&f.b, nn_b_scalar(&f.b, NN_I64, -7), 0, NULL, &dims, &count), NN_FAIL);
  cr_expect_eq(nn_b_elems(&f.b, nn_b_scalar(&f.b, NN_F32, 7), 0, NULL, &dims, &count), NN_FAIL);
  cr_expect_eq(nn_b_elems(&f.b, param(&f, NN_I64, 1, f.n, NULL, NULL), 0, NULL, &dims, &count), NN_FAIL);
  cr_expect_eq(nn_b_elems(&f.b, param(&f, NN_I64, 1, num(&f, 1000), NULL, NULL), 0, NULL, &dims, &count), NN_FAIL);
  cr_expect_eq(nn_b_elems(&f.b, param(&f, NN_I64, 2, num(&f, 1), num(&f, 1), NULL), 0, NULL, &dims, &count), NN_FAIL);
  cr_expect_eq(nn_b_elems(&f.b, NULL, 0, NULL, &dims, &count), NN_FAIL);
  nn_module_free(f.m);
}

Test(build, new_ops_go_before_the_return) {
  fixture f = start();
  nn_value *x = param(&f, NN_F32, 1, f.n, NULL, NULL);
  nn_graph_set_return(f.g, &x, 1);
  nn_value *y = nn_b_unary(&f.b, NN_OP_NEG, x);
  cr_expect(f.g->first == y->def && f.g->last->code == NN_OP_RETURN);
  f.b.before = y->def;
  nn_value *z = nn_b_binary(&f.b, NN_OP_ADD, x, param(&f, NN_F32, 1, f.k, NULL, NULL));
  cr_expect(f.g->first->code == NN_OP_CHECK && z->def->next == y->def);
  nn_module_free(f.m);
}
