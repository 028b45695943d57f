/* nncc opt FILE --passes=a,b: runs passes on IR text (.nn) or an ONNX model, prints the IR. */
#include "tools/tools.h"

#include <stdlib.h>
#include <string.h>

typedef struct opt_args {
  const char *passes, *print_after, *target, *cpu;
  int time_passes, list, loops, verify;
  pins pins;
} opt_args;

static int print_passes(void) {
  for (int i = 0; i < nn_npasses; i++) printf("  %-8s %s\n", nn_passes[i].name, nn_passes[i].summary);
  return EXIT_OK;
}

static strings split(const char *list) {
  strings names = {0};
  char *copy = strdup(list), *state = NULL;
  for (char *name = strtok_r(copy, ",", &state); name; name = strtok_r(NULL, ",", &state)) strings_add(&names, name);
  free(copy);
  return names;
}

static nn_status run_passes(nn_module *m, const nn_target *target, const char *list, const nn_pass_options *options) {
  nn_pass_env outer = m->env;
  nn_env_init(&m->env, target, &m->diags);
  strings names = list ? split(list) : (strings){0};
  nn_status status =
      list ? nn_passes_run(m, strings_list(&names), names.count, options) : nn_pipeline_infer(m, options);
  nn_env_free(&m->env);
  strings_free(&names);
  m->env = outer;
  return status;
}

/* The loop IR of every kernel, and the program that calls them. */
static nn_status print_loops(nn_module *m, const nn_target *target) {
  nn_program *program = nn_program_build(m, target);
  nn_status status = program && nn_plan_memory(program, target) == NN_OK ? NN_OK : NN_FAIL;
  if (status == NN_OK) nn_program_print(stdout, program);
  return status;
}

static nn_status optimise_module(nn_module *m, const opt_args *a) {
  nn_target target;
  nn_pass_options options = {.print_after = a->print_after,
                             .print_to = stderr,
                             .time_passes = a->time_passes != 0,
                             .verify_each = a->verify != 0};
  if (nn_target_init(&target, a->target, a->cpu, &m->diags) != NN_OK) return NN_FAIL;
  nn_status status = run_passes(m, &target, a->passes, &options);
  if (status == NN_OK && a->loops)
    status = print_loops(m, &target);
  else if (status == NN_OK)
    nn_text_print(stdout, m);
  nn_target_free(&target);
  return status;
}

static int optimise(const char *path, const opt_args *a) {
  nncc_model *model = NULL;
  nncc_status loaded = load_model(path, &a->pins, &model);
  nn_status status = loaded == NNCC_OK ? optimise_module(model->module, a) : NN_FAIL;
  print_diagnostics(stderr, model);
  nncc_model_free(model);
  return status == NN_OK ? EXIT_OK : EXIT_MODEL;
}

static void on_option(void *data, int option, const char *value) {
  opt_args *a = data;
  pins_take(&a->pins, option, value);
}

int verb_opt(int argc, const char **argv) {
  opt_args a = {0};
  strings rest = {0};
  const struct poptOption table[] = {
      {"passes", 0, POPT_ARG_STRING, &a.passes, 0, "these, in this order (default: as for a compile; empty: none)",
       "a,b"},
      {"target", 0, POPT_ARG_STRING, &a.target, 0, "LLVM triple (default: this machine's)", "TRIPLE"},
      {"mcpu", 0, POPT_ARG_STRING, &a.cpu, 0, "native, x86-64-v3, cortex-m4, ...", "CPU"},
      {"list", 0, POPT_ARG_NONE, &a.list, 0, "list the passes", NULL},
      {"loops", 0, POPT_ARG_NONE, &a.loops, 0, "print the loop IR instead of the graph", NULL},
      {"print-after", 0, POPT_ARG_STRING, &a.print_after, 0, "print the IR after this pass, or all", "PASS"},
      {"time-passes", 0, POPT_ARG_NONE, &a.time_passes, 0, "print what the passes took", NULL},
      {"verify-each", 0, POPT_ARG_NONE, &a.verify, 0, "verify, and print -> parse -> print, after each pass", NULL},
      PIN_OPTIONS,
      POPT_TABLEEND};
  int code = EXIT_USAGE;
  bool ok = parse_args(argc, argv, table, "FILE [--passes=a,b]", &rest, on_option, &a);
  if (ok && a.list)
    code = print_passes();
  else if (ok && rest.count != 1)
    fprintf(stderr, "nncc opt: expected one file; usage: nncc opt FILE [--passes=a,b]\n");
  else if (ok)
    code = optimise(rest.items[0], &a);
  free_option_texts(table);
  pins_free(&a.pins);
  strings_free(&rest);
  return code;
}
