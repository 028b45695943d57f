/* nncc MODEL -o OUT: load, compile, write object and header. */
#include "tools/tools.h"

#include <string.h>

typedef struct compile_args {
  const char *out, *weights;
  pins pins;
  code_args code;
  strings aliases;
  nncc_compile_options options;
  long level, threads;
  bool bad;
} compile_args;

enum { OPT_LEVEL = OPT_OF_VERB, OPT_ALIAS, OPT_THREADS };

static void on_option(void *data, int option, const char *value) {
  compile_args *a = data;
  pins_take(&a->pins, option, value);
  code_take(&a->code, "compile", option, value);
  if (option == OPT_ALIAS) strings_add(&a->aliases, value);
  if (option == OPT_LEVEL && parse_int(value, 0, 3, &a->level) != 0) {
    fprintf(stderr, "nncc: -O %s: expected 0, 1, 2 or 3\n", value);
    a->bad = true;
  }
  if (option == OPT_THREADS && parse_int(value, 1, 1024, &a->threads) != 0) {
    fprintf(stderr, "nncc: --threads %s: expected 1 to 1024\n", value);
    a->bad = true;
  }
}

static bool parse_weights(compile_args *a) {
  if (!a->weights) return true;
  if (strcmp(a->weights, "embed") == 0)
    a->options.weights = NNCC_WEIGHTS_EMBED;
  else if (strcmp(a->weights, "file") == 0)
    a->options.weights = NNCC_WEIGHTS_FILE;
  else {
    fprintf(stderr, "nncc: --weights=%s: expected embed or file\n", a->weights);
    return false;
  }
  return true;
}

/* With the CPU that the code is for: by default it may not run on another. */
static void print_done(const compile_args *a, nncc_model *model, double ms) {
  nn_variants v;
  printf("%s: compiled in %.2f s", a->out, ms * 1e-3);
  if (nn_variants_init(&v, a->options.target, a->options.cpu, &model->module->diags) == NN_OK) {
    for (int i = 0; i < v.count; i++) printf("%s%s", i ? ", " : " for ", v.items[i].cpu);
    nn_variants_free(&v);
  }
  printf(", floating point %s\n", nn_fp_name(a->options.fp));
}

static int compile(const char *path, compile_args *a) {
  a->options.level = (int)a->level;
  a->options.threads = (int)a->threads;
  a->options.fp = a->code.fp;
  a->options.tuning = a->code.tuning;
  a->options.aliases = strings_list(&a->aliases);
  nncc_model *model = NULL;
  double start = now_ms();
  progress_start("compiling");
  nncc_status status = load_model(path, &a->pins, &model);
  if (status == NNCC_OK) status = nncc_model_compile(model, a->out, &a->options);
  progress_end();
  print_diagnostics(stderr, model);
  if (status == NNCC_OK) print_done(a, model, now_ms() - start);
  nncc_model_free(model);
  return status == NNCC_OK ? EXIT_OK : EXIT_MODEL;
}

static bool is_complete(const compile_args *a, const strings *rest) {
  if (rest->count == 1 && a->out) return true;
  fprintf(stderr, "nncc: %s; usage: nncc MODEL -o OUT [options]\n",
          rest->count != 1 ? "expected one model" : "-o OUT is missing");
  return false;
}

int verb_compile(int argc, const char **argv) {
  compile_args a = {.level = -1};
  strings rest = {0};
  nncc_compile_options *o = &a.options;
  const struct poptOption table[] = {
      {"output", 'o', POPT_ARG_STRING, &a.out, 0, "what to write: .o .a .so .s or .ll by its suffix", "OUT"},
      {"name", 0, POPT_ARG_STRING, &o->name, 0, "prefix of the symbols (default: from OUT)", "NAME"},
      {"header", 0, POPT_ARG_STRING, &o->header, 0, "path of the C header (default: OUT with .h)", "FILE"},
      {"map", 0, POPT_ARG_STRING, &o->map, 0, "write which kernels do the work of which nodes, as JSON", "FILE"},
      {"target", 0, POPT_ARG_STRING, &o->target, 0, "LLVM triple (default: this machine's)", "TRIPLE"},
      {"mcpu", 0, POPT_ARG_STRING, &o->cpu, 0,
       "native, x86-64-v3, cortex-m4, ... (default: native, or the target's baseline); several levels of x86-64 with "
       "commas: the object picks one",
       "CPU"},
      {"weights", 0, POPT_ARG_STRING, &a.weights, 0,
       "embed, or file: OUT.weights beside the object (default: embed up to 1 GiB)", "WHERE"},
      PIN_OPTIONS,
      CODE_OPTIONS,
      {"alias", 0, POPT_ARG_STRING, NULL, OPT_ALIAS, "the output may be the same memory as the input (again for more)",
       "IN=OUT"},
      {"level", 'O', POPT_ARG_STRING, NULL, OPT_LEVEL, "0 to 3 (default 2)", "LEVEL"},
      {"no-winograd", 0, POPT_ARG_NONE, &o->no_winograd, 0,
       "convolutions and products by their definition: not in Winograd's or Strassen's form, not in pairs", NULL},
      {"threads", 0, POPT_ARG_STRING, NULL, OPT_THREADS, "threads that compile (default: one for each processor)", "N"},
      {"cache", 0, POPT_ARG_STRING, &o->cache, 0,
       "keep compiled kernels in this folder (default: $NNCC_CACHE, else nowhere)", "DIR"},
      {"print-after", 0, POPT_ARG_STRING, &o->print_after, 0, "print the IR after this pass, or all", "PASS"},
      {"time-passes", 0, POPT_ARG_NONE, &o->time_passes, 0, "print what the passes took", NULL},
      POPT_TABLEEND};
  bool ok = parse_args(argc, argv, table, "MODEL -o OUT [options]", &rest, on_option, &a) && !a.bad && !a.code.bad;
  int code = ok && is_complete(&a, &rest) && parse_weights(&a) ? compile(rest.items[0], &a) : EXIT_USAGE;
  free_option_texts(table);
  strings_free(&a.aliases);
  code_free(&a.code);
  pins_free(&a.pins);
  strings_free(&rest);
  return code;
}
