/* The nncc program: dispatch to verbs. `nncc MODEL -o OUT` without a verb compiles. */
#include "tools/tools.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

typedef struct verb {
  const char *name;
  int (*run)(int argc, const char **argv);
  const char *summary;
} verb;

static const verb verbs[] = {
    {"compile", verb_compile, "compile to .o, .a, .so, .s or .ll, and a C header (the default verb)"},
    {"run", verb_run, "run a model on inputs from files, or random ones"},
    {"test", verb_test, "run ONNX test-case folders and compare the outputs"},
    {"bench", verb_bench, "time a model"},
    {"check", verb_check, "list everything that would stop a compile"},
    {"tune", verb_tune, "measure schedules on this machine, for --tuning"},
    {"inspect", verb_inspect, "table of nodes, shapes, parameters, operations, memory"},
    {"opt", verb_opt, "run passes on IR text or a model and print the IR"},
};
enum { NVERBS = sizeof verbs / sizeof *verbs };

static void print_help(FILE *out) {
  fprintf(out, "nncc %s: compiles neural networks (ONNX) to machine code\n\n", NNCC_VERSION);
  fprintf(out, "usage: nncc MODEL -o OUT [options]     compile\n       nncc VERB [options] ...         (nncc VERB "
               "--help tells more)\n\nverbs:\n");
  for (int i = 0; i < NVERBS; i++) fprintf(out, "  %-8s %s\n", verbs[i].name, verbs[i].summary);
  fprintf(out,
          "\nexit codes: 0 success, 1 test cases failed, 2 wrong usage, 3 the model cannot be loaded or compiled,\n"
          "            4 a run failed or its output cannot be written, 5 results differ, 70 out of memory\n");
}

int main(int argc, char **argv) {
  const char **args = (const char **)argv;
  signal(SIGXFSZ, SIG_IGN); /* a file that grows too large is an error like any other */
  if (argc < 2) {
    print_help(stderr);
    return EXIT_USAGE;
  }
  if (strcmp(argv[1], "--version") == 0) {
    printf("nncc %s\n", NNCC_VERSION);
    return finish_output(EXIT_OK);
  }
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0 || strcmp(argv[1], "-?") == 0) {
    print_help(stdout);
    return finish_output(EXIT_OK);
  }
  for (int i = 0; i < NVERBS; i++)
    if (strcmp(argv[1], verbs[i].name) == 0) return finish_output(verbs[i].run(argc - 1, args + 1));
  return finish_output(verb_compile(argc, args));
}
