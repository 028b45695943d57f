/* nncc opt FILE --passes=a,b: runs passes on IR text (.nn) or an ONNX model, prints the IR. */
#include "tools/tools.h"

#include <stdlib.h>
#include <string.h>

static void print_passes(void) {
  for (int i = 0; i < nn_npasses; i++) printf("  %-8s %s\n", nn_passes[i].name, nn_passes[i].summary);
}

static strings split(const char *list) {
  strings names = {0};
  char *copy = strdup(list), *state = NULL;
  for (char *name = strtok_r(copy, ",", &state); name; name = strtok_r(NULL, ",", &state)) strings_add(&names, name);
  return names;
}

static nn_status run_passes(nn_module *m, const nn_target *target, const char *list, const nn_pass_options *options) {
  nn_pass_env outer = m->env;
  nn_env_init(&m->env, target, &m->diags);
  strings names = list ? split(list) : (strings){0};
  nn_status status = list ? nn_passes_run(m, names.items, names.count, options) : nn_pipeline_infer(m, options);
  nn_env_free(&m->env);
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

static nn_status optimise(nn_module *m, const char *triple, const char *cpu, const char *passes, bool loops, const nn_pass_options *options) {
  nn_target target;
  if (nn_target_init(&target, triple, cpu, &m->diags) != NN_OK) return NN_FAIL;
  nn_status status = run_passes(m, &target, passes, options);
  if (status == NN_OK && loops) status = print_loops(m, &target);
  else if (status == NN_OK) nn_text_print(stdout, m);
  nn_target_free(&target);
  return status;
}

int verb_opt(int argc, const char **argv) {
  const char *passes = NULL, *print_after = NULL, *triple = NULL, *cpu = NULL;
  int time_passes = 0, list = 0, loops = 0, verify = 0;
  strings rest = {0};
  const struct poptOption table[] = {
      {"passes", 0, POPT_ARG_STRING, &passes, 0, "these, in this order (default: as for a compile; empty: none)", "a,b"},
      {"target", 0, POPT_ARG_STRING, &triple, 0, "target triple (default: the host's)", "TRIPLE"},
      {"mcpu", 0, POPT_ARG_STRING, &cpu, 0, "CPU of the target (default: the host's)", "CPU"},
      {"list", 0, POPT_ARG_NONE, &list, 0, "list the passes", NULL},
      {"loops", 0, POPT_ARG_NONE, &loops, 0, "print the loop IR instead of the graph", NULL},
      {"print-after", 0, POPT_ARG_STRING, &print_after, 0, "print the IR after this pass, or all", "PASS"},
      {"time-passes", 0, POPT_ARG_NONE, &time_passes, 0, "print what the passes took", NULL},
      {"verify-each", 0, POPT_ARG_NONE, &verify, 0, "verify, and print -> parse -> print, after each pass", NULL},
      POPT_TABLEEND};
  if (!parse_args(argc, argv, table, "FILE [--passes=a,b]", &rest, NULL, NULL)) return EXIT_USAGE;
  if (list) {
    print_passes();
    return EXIT_OK;
  }
  if (rest.count != 1) {
    fprintf(stderr, "nncc opt: expected one file; usage: nncc opt FILE [--passes=a,b]\n");
    return EXIT_USAGE;
  }
  nncc_model *model = NULL;
  nncc_status loaded = load_model(rest.items[0], NULL, NULL, &model);
  nn_pass_options options = {.print_after = print_after, .print_to = stderr, .time_passes = time_passes != 0, .verify_each = verify != 0};
  nn_status status = loaded == NNCC_OK ? optimise(model->module, triple, cpu, passes, loops != 0, &options) : NN_FAIL;
  print_diagnostics(stderr, model);
  nncc_model_free(model);
  return status == NN_OK ? EXIT_OK : EXIT_MODEL;
}
