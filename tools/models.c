/* Reading a model, whichever form it has. */
#include "tools/tools.h"

#include <string.h>

static bool is_text(const char *path) {
  size_t n = strlen(path);
  return n > 3 && strcmp(path + n - 3, ".nn") == 0;
}

nncc_status load_model(const char *path, const strings *dims, const strings *shapes, nncc_model **model) {
  nncc_load_options options = {dims ? dims->items : NULL, shapes ? shapes->items : NULL};
  return is_text(path) ? nncc_model_parse(path, model) : nncc_model_load(path, &options, model);
}
