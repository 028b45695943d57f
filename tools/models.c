/* Reading a model, whichever form it has. */
#include "tools/tools.h"

#include <string.h>

static bool is_text(const char *path) {
  size_t n = strlen(path);
  return n > 3 && strcmp(path + n - 3, ".nn") == 0;
}

nncc_status load_model(const char *path, const pins *p, nncc_model **model) {
  nncc_load_options options = {strings_list(&p->dims), strings_list(&p->shapes)};
  if (!is_text(path)) return nncc_model_load(path, &options, model);
  nncc_status status = nncc_model_parse(path, model);
  if (status != NNCC_OK || (p->dims.count == 0 && p->shapes.count == 0)) return status;
  nn_report(&(*model)->module->diags, NN_ERROR, NULL, NULL, "write the sizes into the text",
            "--dim and --shape fix sizes of ONNX models, this is IR text");
  return NNCC_ERROR;
}
