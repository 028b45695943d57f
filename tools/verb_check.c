/* nncc check MODEL: everything that would stop a compile, at once. */
#include "tools/tools.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

static void add_diagnostic(cJSON *list, const nn_diag *d) {
  static const char *const names[] = {"error", "warning", "note"};
  cJSON *item = cJSON_CreateObject();
  cJSON_AddStringToObject(item, "severity", names[d->severity]);
  if (d->node) cJSON_AddStringToObject(item, "node", d->node);
  if (d->op) cJSON_AddStringToObject(item, "op", d->op);
  cJSON_AddStringToObject(item, "message", d->message);
  if (d->hint) cJSON_AddStringToObject(item, "hint", d->hint);
  cJSON_AddItemToArray(list, item);
}

static void print_json(const char *path, const nncc_model *model, bool ok) {
  const nn_diags *diags = &model->module->diags;
  cJSON *root = cJSON_CreateObject();
  cJSON_AddStringToObject(root, "model", path);
  cJSON_AddBoolToObject(root, "ok", ok);
  cJSON *list = cJSON_AddArrayToObject(root, "diagnostics");
  for (int i = 0; i < diags->count; i++) add_diagnostic(list, &diags->items[i]);
  char *text = cJSON_Print(root);
  if (text) printf("%s\n", text);
  free(text);
  cJSON_Delete(root);
}

/* Lowers without emitting code: the stage at which the last problems show. */
static bool check_lowering(nncc_model *model) {
  nn_module *m = model->module;
  nn_target target;
  if (nn_target_init(&target, NULL, NULL, &m->diags) != NN_OK) return false;
  nn_pass_options options = {.print_to = stderr};
  bool ok = nn_compile(m, &target, 2, NULL, &options) != NULL;
  nn_target_free(&target);
  return ok;
}

int verb_check(int argc, const char **argv) {
  int json = 0;
  strings rest = {0};
  const struct poptOption table[] = {{"json", 0, POPT_ARG_NONE, &json, 0, "print the diagnostics as JSON", NULL}, POPT_TABLEEND};
  if (!parse_args(argc, argv, table, "MODEL [options]", &rest, NULL, NULL)) return EXIT_USAGE;
  if (rest.count != 1) {
    fprintf(stderr, "nncc check: expected one model; usage: nncc check MODEL\n");
    return EXIT_USAGE;
  }
  nncc_model *model = NULL;
  bool ok = load_model(rest.items[0], NULL, NULL, &model) == NNCC_OK && check_lowering(model);
  if (json) {
    print_json(rest.items[0], model, ok);
  } else {
    int errors = print_diagnostics(stdout, model);
    if (ok) printf("%s: nothing stops a compile\n", rest.items[0]);
    else printf("%s: %d problem%s\n", rest.items[0], errors, errors == 1 ? "" : "s");
  }
  nncc_model_free(model);
  return ok ? EXIT_OK : EXIT_MODEL;
}
