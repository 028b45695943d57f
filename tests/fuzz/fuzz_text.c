/* Fuzz target: the parser of graph IR text; what it accepts must print and parse again, and compile or be refused. */
#include "codegen/codegen.h"
#include "passes/passes.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compile(nn_module *m) {
  nn_pass_options options = {.verify_each = true};
  nn_target target;
  if (nn_target_init(&target, NULL, NULL, &m->diags) != NN_OK) return;
  nn_compile(m, &target, 2, NULL, &options);
  nn_target_free(&target);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  nn_module *m = nn_text_parse("fuzz.nn", (const char *)data, size);
  if (m->diags.nerrors == 0 && m->main && nn_verify(m) == NN_OK) {
    char *text = nn_text_string(m->arena, m);
    nn_module *again = nn_text_parse("again.nn", text, strlen(text));
    if (again->diags.nerrors) abort();
    nn_module_free(again);
    compile(m);
  }
  nn_module_free(m);
  return 0;
}
