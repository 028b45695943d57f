/* Contents of tensors: every way to store them, and the ways to get it wrong. */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A model with the initializer w (taken), whose contents its output is. */
static nn_module *load_initializer(pb tensor, int type) {
  pb graph = write_graph("node Identity r w y");
  pb_message(&graph, 12, write_info("y", type, "?"));
  pb_message(&graph, 5, tensor);
  return load_pb(write_model_of(graph, 13));
}

static const nn_tensor *contents(nn_module *m) {
  nn_value *w = nn_map_get(m->names, "w");
  return w ? w->tensor : NULL;
}

static pb begin_tensor(int type, int64_t dim) {
  pb t = {0};
  pb_int(&t, 1, dim);
  pb_int(&t, 2, type);
  pb_str(&t, 8, "w");
  return t;
}

static void expect_fault(pb tensor, const char *part) {
  nn_module *m = load_initializer(tensor, 1);
  EXPECT_DIAG(m, part);
  free_module(m);
}

/* Two elements through int32_data: what is stored, and the numbers that they are. */
static void expect_typed(int type, int64_t stored0, int64_t stored1, double value0, double value1) {
  pb t = begin_tensor(type, 2);
  pb_int(&t, 5, stored0);
  pb_int(&t, 5, stored1);
  nn_module *m = load_initializer(t, type);
  EXPECT_OK(m);
  const nn_tensor *w = contents(m);
  cr_assert(w && nn_dtype_onnx(w->dtype) == type);
  cr_expect_float_eq(nn_load_f64(w->dtype, w->data, 0), value0, 0, "type %d: %g", type,
                     nn_load_f64(w->dtype, w->data, 0));
  cr_expect_float_eq(nn_load_f64(w->dtype, w->data, 1), value1, 0, "type %d: %g", type,
                     nn_load_f64(w->dtype, w->data, 1));
  free_module(m);
}

Test(onnx_tensor, types_in_int32_data) {
  expect_typed(2, 200, 3, 200, 3);       /* u8 */
  expect_typed(3, -5, 3, -5, 3);         /* i8 */
  expect_typed(4, 65535, 3, 65535, 3);   /* u16 */
  expect_typed(5, -300, 3, -300, 3);     /* i16 */
  expect_typed(6, -70000, 3, -70000, 3); /* i32 */
  expect_typed(9, 1, 0, 1, 0);           /* bool */
  expect_typed(9, 7, 0, 1, 0);
  expect_typed(10, 0x3c00, 0xc000, 1, -2); /* f16 */
  expect_typed(16, 0x3f80, 0xc000, 1, -2); /* bf16 */
  expect_typed(17, 0x38, 0xc0, 1, -2);     /* f8e4m3fn */
  expect_typed(19, 0x3c, 0xc0, 1, -2);     /* f8e5m2 */
}

Test(onnx_tensor, packed_4_and_2_bit_types) {
  pb t = begin_tensor(22, 3);
  pb_int(&t, 5, 0xf1); /* 1, -1 */
  pb_int(&t, 5, 0x07);
  nn_module *m = load_initializer(t, 22);
  EXPECT_OK(m);
  const int signed4[] = {1, -1, 7}, unsigned2[] = {0, 1, 2, 3, 1};
  for (size_t i = 0; i < 3; i++) cr_expect(nn_load_i64(NN_I4, contents(m)->data, i) == signed4[i]);
  free_module(m);
  t = begin_tensor(25, 5);
  pb_bytes(&t, 9, "\xe4\x01", 2); /* 0 1 2 3, 1 */
  m = load_initializer(t, 25);
  EXPECT_OK(m);
  for (size_t i = 0; i < 5; i++) cr_expect(nn_load_i64(NN_U2, contents(m)->data, i) == unsigned2[i]);
  free_module(m);
}

Test(onnx_tensor, wide_types) {
  pb t = begin_tensor(13, 2);
  pb_int(&t, 11, -1);
  pb_int(&t, 11, 5);
  nn_module *m = load_initializer(t, 13);
  EXPECT_OK(m);
  cr_expect(((const uint64_t *)contents(m)->data)[0] == UINT64_MAX);
  free_module(m);
  t = begin_tensor(12, 2);
  pb_int(&t, 11, 4000000000);
  pb_int(&t, 11, 5);
  m = load_initializer(t, 12);
  EXPECT_OK(m);
  cr_expect(nn_load_i64(NN_U32, contents(m)->data, 0) == 4000000000);
  free_module(m);
}

Test(onnx_tensor, bools_are_0_or_1) {
  pb t = begin_tensor(9, 4);
  pb_bytes(&t, 9, "\x00\x01\x02\xff", 4);
  nn_module *m = load_initializer(t, 9);
  EXPECT_OK(m);
  cr_expect(memcmp(contents(m)->data, "\x00\x01\x01\x01", 4) == 0);
  free_module(m);
}

Test(onnx_tensor, empty) {
  nn_module *m = load_initializer(begin_tensor(1, 0), 1);
  EXPECT_OK(m);
  cr_expect(contents(m)->size_bytes == 0);
  free_module(m);
}

Test(onnx_tensor, faults) {
  pb t = begin_tensor(1, 3);
  pb_float(&t, 4, 1);
  expect_fault(t, "initializer 'w': has 1 entries of data, f32[3] needs 3");
  t = begin_tensor(1, 3);
  pb_bytes(&t, 9, "12345678901", 11);
  expect_fault(t, "initializer 'w': its data has 11 bytes, f32[3] needs 12");
  expect_fault(begin_tensor(1, 3), "has 0 entries of data");
  expect_fault(begin_tensor(77, 3), "element type 77 is not one of ONNX's");
  expect_fault(begin_tensor(8, 3), "unsupported: initializer 'w' holds strings");
  expect_fault(begin_tensor(1, -3), "dimension 0 is -3");
  t = begin_tensor(1, INT64_C(1) << 40);
  pb_int(&t, 1, INT64_C(1) << 40);
  expect_fault(t, "have a product that overflows");
  expect_fault(begin_tensor(1, INT64_C(1) << 62), "its size overflows");
  t = begin_tensor(1, 1);
  for (int i = 0; i < 20; i++) pb_int(&t, 1, 1);
  expect_fault(t, "has rank 21, at most 12 is possible");
}

Test(onnx_tensor, sparse) {
  pb graph = write_graph("in x 1 2,3\nnode Add a x,w y\nout y 1 2,3"), sparse = {0};
  pb_message(&sparse, 1, write_tensor("w", 1, "2", "5 7"));
  pb_message(&sparse, 2, write_tensor(NULL, 7, "2,2", "0 1 1 2"));
  pb_int(&sparse, 3, 2);
  pb_int(&sparse, 3, 3);
  pb_message(&graph, 15, sparse);
  nn_module *m = load_pb(write_model_of(graph, 13));
  EXPECT_OK(m);
  const float dense[] = {0, 5, 0, 0, 0, 7};
  cr_expect(memcmp(contents(m)->data, dense, sizeof dense) == 0);
  free_module(m);
}

Test(onnx_tensor, sparse_index_outside) {
  pb graph = write_graph("in x 1 6\nnode Add a x,w y\nout y 1 6"), sparse = {0};
  pb_message(&sparse, 1, write_tensor("w", 1, "1", "5"));
  pb_message(&sparse, 2, write_tensor(NULL, 7, "1", "6"));
  pb_int(&sparse, 3, 6);
  pb_message(&graph, 15, sparse);
  nn_module *m = load_pb(write_model_of(graph, 13));
  EXPECT_DIAG(m, "index 0 lies outside of the tensor");
  free_module(m);
}

/* ---- external data ------------------------------------------------------------------------------- */

static void write_file(const char *path, const void *bytes, size_t size) {
  FILE *f = fopen(path, "wb");
  cr_assert(f != NULL);
  fwrite(bytes, 1, size, f);
  fclose(f);
}

/* A model file in a folder of its own, with w = f32[3] in this location. */
static nn_module *load_external(const char *folder, const char *location, const char *offset, const char *length) {
  pb graph = write_graph("node Relu r w y\nout y 1 3");
  char path[300];
  pb_message(&graph, 5, write_external("w", 1, "3", location, offset, length));
  pb model = write_model_of(graph, 13);
  snprintf(path, sizeof path, "%s/model.onnx", folder);
  write_file(path, model.data, model.size);
  pb_free(&model);
  return nn_onnx_load(path, NULL, NULL, NULL);
}

static void expect_external_fault(const char *folder, const char *location, const char *offset, const char *length,
                                  const char *part) {
  nn_module *m = load_external(folder, location, offset, length);
  EXPECT_DIAG(m, part);
  nn_module_free(m);
}

Test(onnx_tensor, external_data) {
  char folder[] = "/tmp/nncc-test-XXXXXX", path[300], link[300];
  cr_assert(mkdtemp(folder) != NULL);
  float values[4] = {9, 1, 2, 3};
  snprintf(path, sizeof path, "%s/w.bin", folder);
  snprintf(link, sizeof link, "%s/link.bin", folder);
  write_file(path, values, sizeof values);
  cr_assert(symlink("w.bin", link) == 0);
  nn_module *m = load_external(folder, "w.bin", "4", "12");
  EXPECT_OK(m);
  cr_expect(memcmp(contents(m)->data, values + 1, 12) == 0);
  cr_expect(contents(m)->offset == 4 && strcmp(contents(m)->file, path) == 0);
  nn_module_free(m);
  expect_external_fault(folder, "none.bin", NULL, NULL, "external data 'none.bin' cannot be opened: No such file");
  expect_external_fault(folder, "link.bin", NULL, NULL, "is a symbolic link");
  expect_external_fault(folder, "/etc/passwd", NULL, NULL, "is an absolute path");
  expect_external_fault(folder, "../w.bin", NULL, NULL, "leaves the model's folder");
  expect_external_fault(folder, "a/../../w.bin", NULL, NULL, "leaves the model's folder");
  expect_external_fault(folder, "", NULL, NULL, "is empty");
  expect_external_fault(folder, ".", NULL, NULL, "is not a regular file");
  expect_external_fault(folder, "w.bin", "8", NULL, "bytes 8 to 20 of 'w.bin', which has 16");
  expect_external_fault(folder, "w.bin", "18446744073709551615", NULL, "which has 16");
  expect_external_fault(folder, "w.bin", "-4", NULL, "is not a number");
  expect_external_fault(folder, "w.bin", "0", "16", "has 16 bytes, its type and shape need 12");
  unlink(path);
  unlink(link);
  snprintf(path, sizeof path, "%s/model.onnx", folder);
  unlink(path);
  rmdir(folder);
}

Test(onnx_tensor, external_data_of_a_model_from_memory) {
  expect_fault(write_external("w", 1, "3", "w.bin", NULL, NULL), "the model came from memory");
}

Test(onnx_tensor, tensor_files) {
  char path[] = "/tmp/nncc-test-XXXXXX";
  int fd = mkstemp(path);
  cr_assert(fd >= 0);
  close(fd);
  pb t = write_tensor("some", 7, "2", "3 -4");
  write_file(path, t.data, t.size);
  pb_free(&t);
  nn_module *m = nn_module_new("test");
  const char *name = NULL;
  nn_tensor *tensor = nn_onnx_load_tensor(m, path, &name);
  cr_assert(tensor != NULL);
  cr_expect_str_eq(name, "some");
  cr_expect(nn_load_i64(NN_I64, tensor->data, 1) == -4);
  write_file(path, "garbage", 7);
  cr_expect(nn_onnx_load_tensor(m, path, &name) == NULL);
  cr_expect(m->diags.nerrors == 1);
  nn_module_free(m);
  unlink(path);
}
