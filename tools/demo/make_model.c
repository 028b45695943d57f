/* Writes the demo's network and image: SqueezeNet 1.1 (Iandola et al. 2016) as an ONNX file with
   deterministic He-scaled weights, and a 224x224 picture as a PPM file.

     make_model MODEL.onnx IMAGE.ppm

   ONNX is protobuf: a message is a run of fields (number << 3 | wire type, then a varint or a length and
   bytes), so writing it takes no library. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- protobuf ------------------------------------------------------------------------------------------ */

typedef struct message {
  unsigned char *bytes;
  size_t size, cap;
} message;

static void put_bytes(message *m, const void *bytes, size_t size) {
  if (m->size + size > m->cap) {
    m->cap = 2 * (m->size + size);
    m->bytes = realloc(m->bytes, m->cap);
    if (!m->bytes) exit(70);
  }
  memcpy(m->bytes + m->size, bytes, size);
  m->size += size;
}

static void put_varint(message *m, uint64_t v) {
  unsigned char byte;
  for (; v >= 128; v >>= 7) {
    byte = (unsigned char)(v | 128);
    put_bytes(m, &byte, 1);
  }
  byte = (unsigned char)v;
  put_bytes(m, &byte, 1);
}

static void put_int(message *m, int field, uint64_t v) {
  put_varint(m, (uint64_t)field << 3);
  put_varint(m, v);
}

static void put_data(message *m, int field, const void *bytes, size_t size) {
  put_varint(m, (uint64_t)field << 3 | 2);
  put_varint(m, size);
  put_bytes(m, bytes, size);
}

static void put_text(message *m, int field, const char *text) { put_data(m, field, text, strlen(text)); }

static void put_message(message *m, int field, message *inner) {
  put_data(m, field, inner->bytes, inner->size);
  free(inner->bytes);
}

/* ---- ONNX: field numbers are those of onnx.proto ---------------------------------------------------------- */

enum { FLOAT_TYPE = 1, ATTRIBUTE_INTS = 7, ATTRIBUTE_INT = 2 };

static void put_value_info(message *graph, int field, const char *name, const int64_t *dims, int rank) {
  message shape = {0}, tensor = {0}, type = {0}, info = {0};
  for (int i = 0; i < rank; i++) {
    message dim = {0};
    put_int(&dim, 1, (uint64_t)dims[i]);
    put_message(&shape, 1, &dim);
  }
  put_int(&tensor, 1, FLOAT_TYPE);
  put_message(&tensor, 2, &shape);
  put_message(&type, 1, &tensor);
  put_text(&info, 1, name);
  put_message(&info, 2, &type);
  put_message(graph, field, &info);
}

static void put_ints(message *node, const char *name, const int64_t *values, int count) {
  message attribute = {0};
  put_text(&attribute, 1, name);
  for (int i = 0; i < count; i++) put_int(&attribute, 8, (uint64_t)values[i]);
  put_int(&attribute, 20, ATTRIBUTE_INTS);
  put_message(node, 5, &attribute);
}

static void put_pair(message *node, const char *name, int64_t value, int count) {
  int64_t values[4] = {value, value, value, value};
  put_ints(node, name, values, count);
}

static void put_int_attribute(message *node, const char *name, int64_t value) {
  message attribute = {0};
  put_text(&attribute, 1, name);
  put_int(&attribute, 3, (uint64_t)value);
  put_int(&attribute, 20, ATTRIBUTE_INT);
  put_message(node, 5, &attribute);
}

static message node_begin(const char *op, const char *name, const char *const *inputs, int count) {
  message node = {0};
  for (int i = 0; i < count; i++) put_text(&node, 1, inputs[i]);
  put_text(&node, 2, name);
  put_text(&node, 3, name);
  put_text(&node, 4, op);
  return node;
}

/* ---- weights ------------------------------------------------------------------------------------------------ */

static uint64_t random_state = 2026;

static double uniform(void) { /* splitmix64, in [-1, 1) */
  uint64_t z = random_state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return (double)((z ^ (z >> 31)) >> 11) * 0x1p-52 - 1;
}

static void put_weight(message *graph, const char *name, const int64_t *dims, int rank, double bound) {
  message tensor = {0};
  size_t count = 1;
  for (int i = 0; i < rank; i++) {
    put_int(&tensor, 1, (uint64_t)dims[i]);
    count *= (size_t)dims[i];
  }
  float *values = malloc(count * sizeof *values);
  if (!values) exit(70);
  for (size_t i = 0; i < count; i++) values[i] = (float)(uniform() * bound);
  put_int(&tensor, 2, FLOAT_TYPE);
  put_text(&tensor, 8, name);
  put_data(&tensor, 9, values, count * sizeof *values);
  free(values);
  put_message(graph, 5, &tensor);
}

/* ---- the network ------------------------------------------------------------------------------------------------ */

/* Appends a node with one input; its value has the node's name. */
static void put_simple(message *graph, const char *op, const char *name, const char *input) {
  message node = node_begin(op, name, &input, 1);
  put_message(graph, 1, &node);
}

static void put_conv(message *graph, const char *name, const char *input, int in, int out, int kernel, int stride, int pad) {
  char weight[64], bias[64], conv[64];
  snprintf(weight, sizeof weight, "%s.weight", name);
  snprintf(bias, sizeof bias, "%s.bias", name);
  snprintf(conv, sizeof conv, "%s.conv", name);
  const int64_t dims[4] = {out, in, kernel, kernel};
  put_weight(graph, weight, dims, 4, sqrt(6.0 / (in * kernel * kernel)));
  put_weight(graph, bias, dims, 1, 0.05);
  const char *inputs[3] = {input, weight, bias};
  message node = node_begin("Conv", conv, inputs, 3);
  put_pair(&node, "kernel_shape", kernel, 2);
  put_pair(&node, "strides", stride, 2);
  put_pair(&node, "pads", pad, 4);
  put_message(graph, 1, &node);
  put_simple(graph, "Relu", name, conv);
}

static void put_pool(message *graph, const char *name, const char *input) {
  message node = node_begin("MaxPool", name, &input, 1);
  put_pair(&node, "kernel_shape", 3, 2);
  put_pair(&node, "strides", 2, 2);
  put_int_attribute(&node, "ceil_mode", 1);
  put_message(graph, 1, &node);
}

/* A fire module: squeeze to s channels, expand to e by 1x1 and e by 3x3. */
static void put_fire(message *graph, const char *name, const char *input, int in, int s, int e) {
  char squeeze[64], left[64], right[64];
  snprintf(squeeze, sizeof squeeze, "%s.squeeze", name);
  snprintf(left, sizeof left, "%s.expand1x1", name);
  snprintf(right, sizeof right, "%s.expand3x3", name);
  put_conv(graph, squeeze, input, in, s, 1, 1, 0);
  put_conv(graph, left, squeeze, s, e, 1, 1, 0);
  put_conv(graph, right, squeeze, s, e, 3, 1, 1);
  const char *inputs[2] = {left, right};
  message node = node_begin("Concat", name, inputs, 2);
  put_int_attribute(&node, "axis", 1);
  put_message(graph, 1, &node);
}

static message make_graph(void) {
  message graph = {0};
  const int64_t input_dims[4] = {1, 3, 224, 224}, output_dims[2] = {1, 1000};
  put_text(&graph, 2, "squeezenet1_1");
  put_value_info(&graph, 11, "image", input_dims, 4);
  put_value_info(&graph, 12, "probabilities", output_dims, 2);
  put_conv(&graph, "stem", "image", 3, 64, 3, 2, 0);
  put_pool(&graph, "pool1", "stem");
  put_fire(&graph, "fire2", "pool1", 64, 16, 64);
  put_fire(&graph, "fire3", "fire2", 128, 16, 64);
  put_pool(&graph, "pool3", "fire3");
  put_fire(&graph, "fire4", "pool3", 128, 32, 128);
  put_fire(&graph, "fire5", "fire4", 256, 32, 128);
  put_pool(&graph, "pool5", "fire5");
  put_fire(&graph, "fire6", "pool5", 256, 48, 192);
  put_fire(&graph, "fire7", "fire6", 384, 48, 192);
  put_fire(&graph, "fire8", "fire7", 384, 64, 256);
  put_fire(&graph, "fire9", "fire8", 512, 64, 256);
  put_conv(&graph, "head", "fire9", 512, 1000, 1, 1, 0);
  put_simple(&graph, "GlobalAveragePool", "mean", "head");
  put_simple(&graph, "Flatten", "logits", "mean");
  put_simple(&graph, "Softmax", "probabilities", "logits");
  return graph;
}

static int write_model(const char *path) {
  message model = {0}, opset = {0}, graph = make_graph();
  put_int(&opset, 2, 13);
  put_int(&model, 1, 7);
  put_text(&model, 2, "nncc demo");
  put_message(&model, 7, &graph);
  put_message(&model, 8, &opset);
  FILE *f = fopen(path, "wb");
  int failed = !f || fwrite(model.bytes, 1, model.size, f) != model.size;
  if (f && fclose(f) != 0) failed = 1;
  free(model.bytes);
  return failed;
}

/* A red disc on a blue and green gradient. */
static int write_image(const char *path) {
  enum { SIZE = 224 };
  FILE *f = fopen(path, "wb");
  if (!f) return 1;
  fprintf(f, "P6\n%d %d\n255\n", SIZE, SIZE);
  for (int y = 0; y < SIZE; y++)
    for (int x = 0; x < SIZE; x++) {
      int inside = (x - 112) * (x - 112) + (y - 112) * (y - 112) < 60 * 60;
      fputc(inside ? 220 : 20, f);
      fputc(inside ? 30 : y, f);
      fputc(inside ? 30 : x, f);
    }
  return fclose(f) != 0;
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: make_model MODEL.onnx IMAGE.ppm\n");
    return 2;
  }
  if (write_model(argv[1]) || write_image(argv[2])) {
    fprintf(stderr, "make_model: cannot write %s or %s\n", argv[1], argv[2]);
    return 1;
  }
  return 0;
}
