/* Bytes that are no ONNX file: each is refused with a message, none crashes. */
#include "load.h"

#include <stdlib.h>
#include <string.h>

static const char *valid = "in x 1 2,3\nnode Relu r x y\nout y 1 2,3";

static void expect_bytes_fail(const void *bytes, size_t size, const char *part) {
  nn_module *m = nn_onnx_load_memory("test", bytes, size, NULL, NULL, NULL);
  cr_expect(m->diags.nerrors >= 1);
  cr_expect(count_diags(m, part) >= 1, "expected: %s\nfound: %s", part, all_diags(m));
  nn_module_free(m);
}

Test(skim, nothing) { expect_bytes_fail("", 0, "the model is empty"); }

Test(skim, text) { expect_bytes_fail("this is no model", 16, "not a valid ONNX"); }

Test(skim, a_message_longer_than_the_file) { expect_bytes_fail("\x3a\x7f", 2, "longer than what is left"); }

Test(skim, a_number_that_does_not_end) { expect_bytes_fail("\x08\xff\xff", 3, "runs past the end"); }

Test(skim, a_number_of_eleven_bytes) {
  expect_bytes_fail("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, "more than 10 bytes");
}

Test(skim, a_group) { expect_bytes_fail("\x0b\x0c", 2, "impossible type"); }

Test(skim, field_zero) { expect_bytes_fail("\x02\x00", 2, "impossible number"); }

Test(skim, a_fixed_number_cut_short) { expect_bytes_fail("\x0d\x00\x00", 3, "runs past the end"); }

Test(skim, a_length_near_2_to_64) {
  expect_bytes_fail("\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "longer than what is left");
}

Test(skim, a_model_without_graph) {
  pb model = {0};
  pb_int(&model, 1, 8);
  expect_bytes_fail(model.data, model.size, "the file holds no graph");
  pb_free(&model);
}

/* Graphs in attributes in nodes, as deep as that: protobuf-c alone would overflow the stack. */
Test(skim, deep_nesting) {
  pb graph = write_graph("");
  for (int i = 0; i < 200; i++) {
    pb attr = {0}, node = {0}, outer = {0};
    pb_message(&attr, 6, graph);
    pb_message(&node, 5, attr);
    pb_message(&outer, 1, node);
    graph = outer;
  }
  nn_module *m = load_pb(write_model_of(graph, 13));
  EXPECT_DIAG(m, "nested deeper than 64");
  free_module(m);
}

Test(skim, deep_types) {
  pb type = {0};
  for (int i = 0; i < 500; i++) {
    pb sequence = {0}, outer = {0};
    pb_message(&sequence, 1, type);
    pb_message(&outer, 4, sequence);
    type = outer;
  }
  pb info = {0}, graph = write_graph(valid);
  pb_str(&info, 1, "deep");
  pb_message(&info, 2, type);
  pb_message(&graph, 13, info);
  nn_module *m = load_pb(write_model_of(graph, 13));
  EXPECT_DIAG(m, "nested deeper than 64");
  free_module(m);
}

/* Every file cut anywhere fails or is a model, and never crashes; so does every file with a byte changed. */
Test(skim, truncated_anywhere) {
  pb model = write_model(valid);
  for (size_t size = 0; size < model.size; size++)
    nn_module_free(nn_onnx_load_memory("test", model.data, size, NULL, NULL, NULL));
  pb_free(&model);
}

Test(skim, one_byte_changed) {
  pb model = write_model("in x 1 N,3\ninit s 7 2 -1 3\nnode Reshape r x,s y\nnode Softmax t y z axis=i:1\nout z 1 ?,3");
  for (size_t at = 0; at < model.size; at++)
    for (int bit = 0; bit < 8; bit++) {
      model.data[at] ^= (uint8_t)(1 << bit);
      nn_module *m = nn_onnx_load_memory("test", model.data, model.size, NULL, NULL, NULL);
      if (!m->diags.nerrors) nn_verify(m);
      nn_module_free(m);
      model.data[at] ^= (uint8_t)(1 << bit);
    }
  pb_free(&model);
}

Test(skim, tensor_bytes_are_not_copied) {
  float values[100] = {1, 2, 3};
  pb t = {0}, graph = write_graph("node Relu r w y\nout y 1 100");
  pb_int(&t, 1, 100);
  pb_int(&t, 2, 1);
  pb_str(&t, 8, "w");
  pb_bytes(&t, 9, values, sizeof values);
  pb_message(&graph, 5, t);
  pb model = write_model_of(graph, 13);
  nn_module *m = nn_onnx_load_memory("test", model.data, model.size, NULL, NULL, NULL);
  EXPECT_OK(m);
  const nn_tensor *w = ((nn_value *)nn_map_get(m->names, "w"))->tensor;
  const uint8_t *data = w->data;
  cr_expect(data > model.data && data < model.data + model.size);
  cr_expect(memcmp(data, values, sizeof values) == 0);
  nn_module_free(m);
  pb_free(&model);
}
