/* nncc.h's graph builder: layers, weights, errors. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "ir/model.h"

static const char *errors_of(nncc_model *model) {
  int severity;
  return nncc_model_diagnostics(model) ? nncc_model_diagnostic(model, 0, &severity) : "no error";
}

static void expect_type(nncc_model *model, nncc_tensor *t, const char *type) {
  cr_assert(t != NULL, "%s", errors_of(model));
  const char *found = nn_type_text(model->module->arena, ((nn_value *)t)->type);
  cr_expect_str_eq(found, type, "%s, expected %s", found, type);
}

static void expect_error(nncc_model *model, const char *part) {
  cr_expect(nncc_model_diagnostics(model) == 1 && strstr(errors_of(model), part), "expected: %s\nfound: %s", part,
            errors_of(model));
  nncc_model_free(model);
}

/* The ten-layer network of Keras' CIFAR-10 example. */
static nncc_tensor *cifar(nncc_model *m) {
  const int64_t dims[] = {-1, 3, 32, 32};
  nncc_tensor *x = nncc_input(m, "image", NNCC_RT_F32, 4, dims);
  x = nncc_conv2d(m, x, "conv1", 32, 3, 1, NNCC_SAME, NNCC_RELU);
  x = nncc_conv2d(m, x, "conv2", 32, 3, 1, NNCC_VALID, NNCC_RELU);
  x = nncc_dropout(m, nncc_max_pool2d(m, x, 2, 2), 0.25);
  x = nncc_conv2d(m, x, "conv3", 64, 3, 1, NNCC_SAME, NNCC_RELU);
  x = nncc_conv2d(m, x, "conv4", 64, 3, 1, NNCC_VALID, NNCC_RELU);
  x = nncc_dropout(m, nncc_max_pool2d(m, x, 2, 2), 0.25);
  x = nncc_dense(m, nncc_flatten(m, x), "dense1", 512, NNCC_RELU);
  x = nncc_dense(m, nncc_dropout(m, x, 0.5), "dense2", 10, NNCC_SOFTMAX);
  nncc_output(m, "class", x);
  return x;
}

Test(builder, cifar) {
  nncc_model *m = nncc_model_new("cifar");
  nncc_tensor *y = cifar(m);
  expect_type(m, y, "f32[N,10]");
  cr_expect(m->finish(m) == NN_OK);
  cr_expect(nn_verify(m->module) == NN_OK, "%s", errors_of(m));
  const nn_value *w = nn_map_get(m->module->names, "dense1/weight");
  cr_expect_str_eq(nn_type_text(m->module->arena, w->type), "f32[2304,512]"); /* [in, units] */
  cr_expect_str_eq(nn_op_attr(nn_graph_return(m->module->main), "names")->strs[0], "class");
  nncc_model_free(m);
}

Test(builder, weights_are_he_uniform_and_reproducible) {
  nncc_model *m = nncc_model_new("a"), *again = nncc_model_new("b"), *other = nncc_model_new("c");
  nncc_model_seed(other, 7);
  cifar(m), cifar(again), cifar(other);
  const nn_tensor *w = ((nn_value *)nn_map_get(m->module->names, "dense1/weight"))->tensor;
  const nn_tensor *same = ((nn_value *)nn_map_get(again->module->names, "dense1/weight"))->tensor;
  const nn_tensor *differs = ((nn_value *)nn_map_get(other->module->names, "dense1/weight"))->tensor;
  cr_expect(memcmp(w->data, same->data, w->size_bytes) == 0);
  cr_expect(memcmp(w->data, differs->data, w->size_bytes) != 0);
  double limit = sqrt(6.0 / 2304), sum = 0, square = 0;
  size_t count = w->size_bytes / sizeof(float);
  const float *v = w->data;
  for (size_t i = 0; i < count; i++) {
    cr_assert(fabs((double)v[i]) <= limit);
    sum += (double)v[i];
    square += (double)v[i] * (double)v[i];
  }
  cr_expect_float_eq(sum / (double)count / limit, 0, 0.01);
  cr_expect_float_eq(square / (double)count, limit * limit / 3, 0.01 * limit * limit);
  nncc_model_free(m), nncc_model_free(again), nncc_model_free(other);
}

Test(builder, weight_set) {
  nncc_model *m = nncc_model_new("m");
  cifar(m);
  float bias[10] = {1, 2, 3};
  cr_expect(nncc_weight_set(m, "dense2/bias", bias, sizeof bias) == NNCC_OK);
  const nn_tensor *t = ((nn_value *)nn_map_get(m->module->names, "dense2/bias"))->tensor;
  cr_expect(memcmp(t->data, bias, sizeof bias) == 0);
  cr_expect(nncc_weight_set(m, "dense2/bias", bias, 8) == NNCC_ERROR);
  expect_error(m, "weight 'dense2/bias' given as 8 bytes, expected 40: f32[10]");
}

Test(builder, unknown_weight) {
  nncc_model *m = nncc_model_new("m");
  cr_expect(nncc_weight_set(m, "none", "", 0) == NNCC_ERROR);
  expect_error(m, "there is no weight 'none'");
}

Test(builder, other_layers) {
  const int64_t image[] = {2, 8, 9, 7}, rows[] = {-1, 6}, flat[] = {-1, 3};
  const int perm[] = {1, 0};
  nncc_model *m = nncc_model_new("m");
  nncc_tensor *x = nncc_input(m, "x", NNCC_RT_F32, 4, image), *r = nncc_input(m, "r", NNCC_RT_F32, 2, rows);
  expect_type(m, nncc_batch_norm(m, x, "bn", 1e-3), "f32[2,8,9,7]");
  expect_type(m, nncc_layer_norm(m, x, "ln", 1e-5), "f32[2,8,9,7]");
  expect_type(m, nncc_avg_pool2d(m, x, 3, 2), "f32[2,8,4,3]");
  expect_type(m, nncc_global_avg_pool(m, x), "f32[2,8]");
  expect_type(m, nncc_conv2d(m, x, NULL, 4, 3, 2, NNCC_SAME, NNCC_GELU), "f32[2,4,5,4]");
  expect_type(m, nncc_flatten(m, x), "f32[2,504]");
  expect_type(m, nncc_activate(m, r, NNCC_SILU), "f32[N,6]");
  expect_type(m, nncc_transpose(m, r, perm), "f32[6,N]");
  expect_type(m, nncc_reshape(m, r, 2, flat), "f32[2*N,3]");
  nncc_tensor *parts[] = {r, r};
  expect_type(m, nncc_concat(m, parts, 2, -1), "f32[N,12]");
  expect_type(m, nncc_matmul(m, r, nncc_transpose(m, r, perm)), "f32[N,N]");
  expect_type(m, nncc_op(m, "reduce_sum", &x, 1, "axes=[1], keepdims=0"), "f32[2,9,7]");
  expect_type(m, nncc_op(m, "top_k", &r, 1, "k=[2], axis=1"), "f32[N,2]");
  const float one = 1;
  nncc_tensor *c = nncc_constant(m, "one", NNCC_RT_F32, 0, NULL, &one);
  expect_type(m, nncc_div(m, nncc_sub(m, nncc_mul(m, nncc_add(m, r, c), c), c), c), "f32[N,6]");
  nncc_model_free(m);
}

/* One error, then NULL passes through the rest without another. */
Test(builder, errors_pass_through) {
  const int64_t dims[] = {2, 3, 8};
  nncc_model *m = nncc_model_new("m");
  nncc_tensor *x = nncc_input(m, "x", NNCC_RT_F32, 3, dims);
  x = nncc_conv2d(m, x, "conv", 4, 3, 1, NNCC_SAME, NNCC_RELU);
  cr_expect(x == NULL);
  x = nncc_dense(m, nncc_flatten(m, nncc_max_pool2d(m, x, 2, 2)), "dense", 3, NNCC_SOFTMAX);
  x = nncc_add(m, x, x);
  x = nncc_op(m, "relu", &x, 1, NULL);
  cr_expect(nncc_output(m, "y", x) == NNCC_ERROR);
  expect_error(m, "node 'conv' (conv2d): the operand is f32[2,3,8], expected [N,C,H,W] of floats");
}

#define EXPECT_CALL_ERROR(name, call, part)                                                                            \
  Test(builder, name) {                                                                                                \
    const int64_t dims[] = {-1, 6};                                                                                    \
    nncc_model *m = nncc_model_new("m");                                                                               \
    nncc_tensor *x = nncc_input(m, "x", NNCC_RT_F32, 2, dims);                                                         \
    cr_expect(x != NULL);                                                                                              \
    cr_expect(!(call));                                                                                                \
    expect_error(m, part);                                                                                             \
  }

EXPECT_CALL_ERROR(unknown_op, nncc_op(m, "relux", &x, 1, NULL), "there is no op 'relux'")
EXPECT_CALL_ERROR(structure_op, nncc_op(m, "return", &x, 1, NULL), "op 'return' is not for models")
EXPECT_CALL_ERROR(too_few_operands, nncc_op(m, "add", &x, 1, NULL), "op 'add' with 1 operands, expected 2 to 2")
EXPECT_CALL_ERROR(unknown_attribute, nncc_op(m, "softmax", &x, 1, "axes=1"), "softmax has no attribute 'axes'")
EXPECT_CALL_ERROR(text_behind_attributes, nncc_op(m, "softmax", &x, 1, "axis=1} {"), "expected the end of the line")
EXPECT_CALL_ERROR(bad_axis, nncc_op(m, "softmax", &x, 1, "axis=5"), "axis")
EXPECT_CALL_ERROR(input_twice, nncc_input(m, "x", NNCC_RT_F32, 2, dims), "an input needs a name of its own, not 'x'")
EXPECT_CALL_ERROR(bad_dtype, nncc_input(m, "y", 99, 2, dims), "element type 99")
EXPECT_CALL_ERROR(bad_rank, nncc_input(m, "y", NNCC_RT_F32, 40, dims), "rank 40, expected 0 to 12")
EXPECT_CALL_ERROR(no_units, nncc_dense(m, x, "d", 0, NNCC_RELU), "units is 0, expected at least 1")
EXPECT_CALL_ERROR(layer_twice, nncc_dense(m, nncc_dense(m, x, "d", 6, NNCC_RELU), "d", 6, NNCC_RELU),
                  "the name 'd' is taken")
EXPECT_CALL_ERROR(bad_activation, nncc_activate(m, x, (nncc_activation)99), "activation 99")
EXPECT_CALL_ERROR(bad_rate, nncc_dropout(m, x, 1.5), "rate is 1.5")

Test(builder, a_model_without_outputs) {
  nncc_model *m = nncc_model_new("m");
  cr_expect(m->finish(m) == NN_FAIL);
  expect_error(m, "the model has no outputs");
}

Test(builder, a_loaded_model_is_not_built_on) {
  nncc_model *m = NULL;
  cr_expect(nncc_model_load("/nonexistent.onnx", NULL, &m) == NNCC_ERROR);
  cr_assert(m != NULL);
  cr_expect(strstr(errors_of(m), "/nonexistent.onnx: cannot open the file") != NULL, "%s", errors_of(m));
  cr_expect(nncc_activate(m, NULL, NNCC_RELU) == NULL);
  cr_expect(nncc_model_diagnostics(m) == 2);
  nncc_model_free(m);
}

Test(builder, text_files) {
  nncc_model *m = NULL;
  cr_expect(nncc_model_parse("/nonexistent.nn", &m) == NNCC_ERROR);
  cr_assert(m != NULL);
  expect_error(m, "cannot read the file: No such file");
}

Test(builder, null_is_fine) {
  nncc_model_free(NULL);
  cr_expect(nncc_model_diagnostics(NULL) == 0);
  cr_expect(nncc_model_load(NULL, NULL, NULL) == NNCC_ERROR);
  cr_expect(nncc_input(NULL, "x", NNCC_RT_F32, 0, NULL) == NULL);
}
