/* Writes ONNX files for tests: protobuf's wire format by hand, and above it models from a few lines of text.

     opset 13
     in x 1 N,3                        name, element type (ONNX number), dims; "-" for none, "?" for an empty dim
     init w 1 2,2 1 2 3 4              a float initializer; of type 7: an i64 one
     external w 1 2,2 w.bin            an initializer in a file
     node Relu relu_0 x y              operator, name ("-": none), inputs, outputs, then attributes:
     node Pad p x,pads y mode=s:edge   i:1  f:0.5  s:text  is:1,2  fs:0.5,1
     out y 1 N,3 */
#ifndef ONNX_WRITER_H
#define ONNX_WRITER_H

#include <stddef.h>
#include <stdint.h>

typedef struct pb {
  uint8_t *data;
  size_t size, cap;
} pb;

void pb_raw(pb *p, const void *bytes, size_t size);
void pb_varint(pb *p, uint64_t value);
void pb_int(pb *p, int field, int64_t value);
void pb_float(pb *p, int field, float value);
void pb_bytes(pb *p, int field, const void *bytes, size_t size);
void pb_str(pb *p, int field, const char *text);
void pb_message(pb *p, int field, pb message); /* frees message */
void pb_free(pb *p);

pb write_info(const char *name, int type, const char *dims);
pb write_tensor(const char *name, int type, const char *dims, const char *values);
pb write_external(const char *name, int type, const char *dims, const char *location, const char *offset,
                  const char *length);
pb write_attr(const char *text);
pb write_node(const char *op, const char *name, const char *in, const char *out,
              const char *attrs); /* attrs: space-separated */
pb write_graph(const char *text); /* lines as above, but for opset */
pb write_model_of(pb graph, int opset);
pb write_model(const char *text);

#endif
