/* nncc bench MODEL: times a model on random inputs. */
#include "tools/tools.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct bench_args {
  pins pins;
  code_args code;
  const char *model;
  const char *const *files;
  long threads, runs, level;
  int json, aot, profile, symbols;
  const char *profile_file;
  bool bad;
} bench_args;

enum { OPT_THREADS = OPT_OF_VERB, OPT_RUNS, OPT_LEVEL };

static void on_option(void *data, int option, const char *value) {
  bench_args *a = data;
  pins_take(&a->pins, option, value);
  code_take(&a->code, "bench", option, value);
  if (option == OPT_THREADS) a->bad |= parse_int(value, 1, 256, &a->threads) != 0;
  if (option == OPT_RUNS) a->bad |= parse_int(value, 1, 1000000, &a->runs) != 0;
  if (option == OPT_LEVEL) a->bad |= parse_int(value, 0, 3, &a->level) != 0;
}

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Enough runs for a steady median: about two seconds, at least 5, at most 1000, unless --runs says. */
static int choose_runs(const bench_args *a, double once_ms) {
  if (a->runs) return (int)a->runs;
  double runs = 2000 / (once_ms > 1e-3 ? once_ms : 1e-3);
  return runs < 5 ? 5 : runs > 1000 ? 1000 : (int)runs;
}

static bool time_runs(const bench_args *a, engine *e, const nncc_rt_tensor *in, bench_result *r, profile *p) {
  const nncc_rt_tensor *out;
  if (engine_run(e, in, &out) != 0) return false;
  double start = now_ms();
  if (engine_run(e, in, &out) != 0) return false;
  r->runs = choose_runs(a, now_ms() - start);
  double *ms = malloc((size_t)r->runs * sizeof *ms);
  bool ok = ms != NULL;
  for (int i = 0; ok && i < r->runs; i++) {
    start = now_ms();
    ok = engine_run(e, in, &out) == 0;
    ms[i] = now_ms() - start;
    if (ok && a->profile) profile_take(p);
  }
  if (ok) {
    qsort(ms, (size_t)r->runs, sizeof *ms, compare_doubles);
    r->median_ms = ms[r->runs / 2];
    r->min_ms = ms[0];
  }
  free(ms);
  return ok;
}

/* ---- reports --------------------------------------------------------------------------------------------- */

static char *json_text(const bench_args *a, const bench_result *r, const profile *p) {
  cJSON *root = cJSON_CreateObject();
  cJSON_AddStringToObject(root, "model", r->model);
  cJSON_AddNumberToObject(root, "threads", r->threads);
  cJSON_AddNumberToObject(root, "runs", r->runs);
  cJSON_AddNumberToObject(root, "median_ms", r->median_ms);
  cJSON_AddNumberToObject(root, "min_ms", r->min_ms);
  cJSON_AddNumberToObject(root, "gflop", r->gflop);
  cJSON_AddNumberToObject(root, "gflop_per_s", r->gflop / (r->median_ms * 1e-3));
  cJSON_AddNumberToObject(root, "compile_ms", r->compile_ms);
  cJSON_AddNumberToObject(root, "peak_mb", r->peak_mb);
  if (a->profile) profile_add_json(root, p);
  char *text = cJSON_Print(root);
  cJSON_Delete(root);
  return text;
}

static void print_table(const bench_args *a, const bench_result *r, const profile *p) {
  printf("median     %10.3f ms of %d runs\nminimum    %10.3f ms\noperations %10.3f GFLOP, %.1f GFLOP/s at the median\n"
         "compile    %10.1f ms\npeak       %10.1f MB\n",
         r->median_ms, r->runs, r->min_ms, r->gflop, r->gflop / (r->median_ms * 1e-3), r->compile_ms, r->peak_mb);
  if (a->profile) profile_print(stdout, p);
}

typedef enum file_kind { FILE_JSON, FILE_TRACE, FILE_HTML, FILE_KINDS } file_kind;

static file_kind kind_of(const char *path) {
  static const char *const suffixes[] = {".json", ".trace", ".html"};
  const char *dot = strrchr(path, '.');
  file_kind kind = FILE_JSON;
  while (kind < FILE_KINDS && !(dot && strcmp(dot, suffixes[kind]) == 0)) kind++;
  return kind;
}

static bool write_profile(const bench_args *a, const bench_result *r, const profile *p) {
  file_kind kind = kind_of(a->profile_file);
  char *text = kind == FILE_JSON ? json_text(a, r, p) : kind == FILE_TRACE ? profile_trace(p) : profile_html(p, r);
  FILE *file = text ? fopen(a->profile_file, "w") : NULL;
  bool ok = file && fputs(text, file) >= 0;
  if (file && fclose(file) != 0) ok = false;
  if (!ok) fprintf(stderr, "nncc bench: cannot write '%s': %s\n", a->profile_file, strerror(errno));
  free(text);
  return ok;
}

static int report(const bench_args *a, const bench_result *r, const profile *p) {
  if (a->json) {
    char *text = json_text(a, r, p);
    if (text) printf("%s\n", text);
    free(text);
  } else {
    print_table(a, r, p);
  }
  return !a->profile_file || write_profile(a, r, p) ? EXIT_OK : EXIT_RUN;
}

/* ---- one model ------------------------------------------------------------------------------------------- */

/* Of the model as it was, whatever the passes made of it: it is read again. Sizes that depend on data count as 1. */
static double count_gflop(const bench_args *a, const engine *e, const nncc_rt_tensor *in) {
  const nn_module *compiled = engine_module(e);
  bool *bound = NN_NEW_ARRAY(compiled->arena, bool, compiled->nsymbols + 1);
  int64_t *symbols = engine_symbols(e, in, bound);
  for (int i = 0; i < compiled->nsymbols; i++)
    if (!bound[i]) symbols[i] = 1;
  nncc_model *model = NULL;
  nncc_status status = load_model(a->model, &a->pins, &model);
  double flops = status == NNCC_OK ? nn_graph_flops(model->module->main, symbols) : 0;
  nncc_model_free(model);
  return flops * 1e-9;
}

static int measure(const bench_args *a, engine *e, const nncc_rt_tensor *in, bench_result *r, profile *p) {
  nn_module *m = engine_module(e);
  if (a->profile) profile_open(p, e);
  if (!time_runs(a, e, in, r, p)) {
    char text[256];
    fprintf(stderr, "nncc: run failed: %s\n", engine_message(e, text, sizeof text));
    return EXIT_RUN;
  }
  r->peak_mb = peak_memory_mb();
  r->gflop = count_gflop(a, e, in);
  if (!a->profile) return EXIT_OK;
  if (!machine_measure(&p->machine, r->threads, &m->diags)) return EXIT_RUN;
  profile_finish(p, m->arena);
  return EXIT_OK;
}

static int bench_engine(const bench_args *a, engine *e, bench_result *r, profile *p) {
  host_tensor *in = read_inputs(e, a->files, true, 1);
  if (!in) return EXIT_USAGE;
  int n = engine_ninputs(e);
  nncc_rt_tensor *views = calloc((size_t)n + 1, sizeof *views);
  if (!views) exit(70);
  for (int i = 0; i < n; i++) views[i] = in[i].t;
  int code = measure(a, e, views, r, p);
  if (code == EXIT_OK) code = report(a, r, p);
  free(views);
  free_inputs(e, in);
  return code;
}

static int bench_model(bench_args *a, const strings *rest) {
  a->model = rest->items[0];
  a->files = strings_list(rest) + 1;
  bench_result r = {.model = a->model, .threads = (int)a->threads};
  nncc_model *model = NULL;
  engine *e = NULL;
  profile p;
  profile_init(&p, r.threads);
  double start = now_ms();
  if (load_model(a->model, &a->pins, &model) == NNCC_OK) {
    progress_start("compiling");
    e = engine_open(model, &(engine_options){.kind = a->aot ? ENGINE_AOT : ENGINE_JIT,
                                             .large_pages = true,
                                             .threads = r.threads,
                                             .level = (int)a->level,
                                             .code = &a->code,
                                             .hook = a->profile ? &p.hook : NULL,
                                             .symbols = a->symbols});
    progress_end();
  }
  r.compile_ms = now_ms() - start;
  int code = e ? bench_engine(a, e, &r, &p) : EXIT_MODEL;
  if (!e || code == EXIT_RUN || a->code.tuning) print_diagnostics(stderr, model);
  profile_free(&p);
  engine_close(e);
  nncc_model_free(model);
  return code;
}

static const char *complaint(const bench_args *a, const strings *rest) {
  if (rest->count < 1) return "expected a model";
  if (a->bad) return "a number is not understood";
  if (a->profile_file && kind_of(a->profile_file) == FILE_KINDS)
    return "--profile-to: expected a .json, .trace or .html file";
  return NULL;
}

int verb_bench(int argc, const char **argv) {
  bench_args a = {.threads = 1, .level = -1};
  strings rest = {0};
  const struct poptOption table[] = {
      {"threads", 0, POPT_ARG_STRING, NULL, OPT_THREADS, "threads (default 1)", "N"},
      {"runs", 0, POPT_ARG_STRING, NULL, OPT_RUNS, "number of runs (default: about two seconds' worth)", "N"},
      PIN_OPTIONS,
      CODE_OPTIONS,
      {"level", 'O', POPT_ARG_STRING, NULL, OPT_LEVEL, "0 to 3 (default 2)", "LEVEL"},
      {"aot", 0, POPT_ARG_NONE, &a.aot, 0, "through object, linker and dlopen", NULL},
      {"profile", 0, POPT_ARG_NONE, &a.profile, 0,
       "the time of each kernel call, and the least that this machine needs for it", NULL},
      {"profile-to", 0, POPT_ARG_STRING, &a.profile_file, 0,
       "the same as .json, as .trace (chrome://tracing, Perfetto) or as a page, .html", "FILE"},
      {"symbols", 0, POPT_ARG_NONE, &a.symbols, 0,
       "GDB and perf (by /tmp/perf-PID.map) see the kernels by name", NULL},
      {"json", 0, POPT_ARG_NONE, &a.json, 0, "print JSON", NULL},
      POPT_TABLEEND};
  int code = EXIT_USAGE;
  if (parse_args(argc, argv, table, "MODEL [FILE|NAME=FILE]... [options]", &rest, on_option, &a) && !a.code.bad) {
    a.profile |= a.profile_file != NULL;
    const char *wrong = complaint(&a, &rest);
    if (wrong)
      fprintf(stderr, "nncc bench: %s\n", wrong);
    else
      code = bench_model(&a, &rest);
  }
  free_option_texts(table);
  code_free(&a.code);
  pins_free(&a.pins);
  strings_free(&rest);
  return code;
}
