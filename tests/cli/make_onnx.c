/* Writes an ONNX file from the lines of tests/frontend/onnx_writer.h on standard input.

     make_onnx OUT [DEPTH]      DEPTH: the graph lies inside so many graphs, each an attribute of a node */
#include <stdio.h>
#include <stdlib.h>

#include "tests/frontend/onnx_writer.h"

static pb nest(pb graph, long depth) {
  for (; depth > 0; depth--) {
    pb attribute = {0}, node = {0}, outer = {0};
    pb_message(&attribute, 6, graph);
    pb_message(&node, 5, attribute);
    pb_message(&outer, 1, node);
    graph = outer;
  }
  return graph;
}

int main(int argc, char **argv) {
  static char text[1 << 16];
  int opset = 13, skip = 0;
  if (argc < 2) return 2;
  text[fread(text, 1, sizeof text - 1, stdin)] = 0;
  if (sscanf(text, "opset %d\n%n", &opset, &skip) < 1) skip = 0;
  pb model = write_model_of(nest(write_graph(text + skip), argc > 2 ? strtol(argv[2], NULL, 10) : 0), opset);
  FILE *out = fopen(argv[1], "wb");
  int failed = !out || fwrite(model.data, 1, model.size, out) != model.size;
  if (out) failed |= fclose(out) != 0;
  pb_free(&model);
  return failed;
}
