/* nncc check MODEL: everything that would stop a compile, at once. */
#include "tools/tools.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

typedef struct check_args {
  int json;
  const char *target, *cpu;
  pins pins;
} check_args;

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
static bool check_lowering(nncc_model *model, const check_args *a) {
  nn_module *m = model->module;
  nn_target target;
  if (nn_target_init(&target, a->target, a->cpu, &m->diags) != NN_OK) return false;
  nn_pass_options options = {.print_to = stderr};
  bool ok = nn_compile(m, &target, 2, NULL, &options) != NULL;
  nn_target_free(&target);
  return ok;
}

static int check(const char *path, const void *data) {
  const check_args *a = data;
  nncc_model *model = NULL;
  bool ok = load_model(path, &a->pins, &model) == NNCC_OK && check_lowering(model, a);
  if (a->json) {
    print_json(path, model, ok);
  } else {
    int errors = print_diagnostics(stdout, model);
    if (ok)
      printf("%s: nothing stops a compile\n", path);
    else
      printf("%s: %d problem%s\n", path, errors, errors == 1 ? "" : "s");
  }
  nncc_model_free(model);
  return ok ? EXIT_OK : EXIT_MODEL;
}

static void on_option(void *data, int option, const char *value) {
  check_args *a = data;
  pins_take(&a->pins, option, value);
}

int verb_check(int argc, const char **argv) {
  check_args a = {0};
  const struct poptOption table[] = {
      {"json", 0, POPT_ARG_NONE, &a.json, 0, "print the diagnostics as JSON", NULL},
      {"target", 0, POPT_ARG_STRING, &a.target, 0, "LLVM triple (default: this machine's)", "TRIPLE"},
      {"mcpu", 0, POPT_ARG_STRING, &a.cpu, 0, "native, x86-64-v3, cortex-m4, ...", "CPU"},
      PIN_OPTIONS,
      POPT_TABLEEND};
  int code = run_on_model("check", argc, argv, table, on_option, check, &a);
  pins_free(&a.pins);
  return code;
}
