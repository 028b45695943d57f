/* Fuzz target: the importer reads any bytes as an ONNX model; what it accepts must verify. */
#include "frontend/onnx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  nn_module *m = nn_onnx_load_memory("fuzz.onnx", data, size, NULL, NULL, NULL);
  if (m && m->diags.nerrors == 0 && m->main) nn_verify(m);
  nn_module_free(m);
  return 0;
}
