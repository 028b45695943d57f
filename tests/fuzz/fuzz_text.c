/* Fuzz target: the parser of graph IR text; what it accepts must print and parse again. */
#include "ir/ir.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  nn_module *m = nn_text_parse("fuzz.nn", (const char *)data, size);
  if (m->diags.nerrors == 0 && m->main && nn_verify(m) == NN_OK) {
    char *text = nn_text_string(m->arena, m);
    nn_module *again = nn_text_parse("again.nn", text, strlen(text));
    if (again->diags.nerrors) abort();
    nn_module_free(again);
  }
  nn_module_free(m);
  return 0;
}
