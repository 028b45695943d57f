/* Fuzz target: the parser of loop IR text; what it accepts and the verifier too must print and parse again. */
#include "ir/loop.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_back(nn_module *m, const nn_kernel *k) {
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (!out) exit(70);
  nn_kernel_print(out, k);
  fclose(out);
  if (!nn_kernel_parse(m, "again.loop", text, size)) abort();
  free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  nn_module *m = nn_module_new("fuzz.loop");
  if (!m) return 0;
  nn_kernel *k = nn_kernel_parse(m, "fuzz.loop", (const char *)data, size);
  if (k && nn_kernel_verify(k, &m->diags) == NN_OK) read_back(m, k);
  nn_module_free(m);
  return 0;
}
