/* nncc bench MODEL: times a model on random inputs. */
#include "tools/tools.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

typedef struct bench_args {
  strings dims, shapes, files;
  const char *model;
  long threads, runs, level;
  int json, aot, profile;
  bool bad;
} bench_args;

typedef struct timing {
  double compile_ms, median_ms, min_ms, gflop, peak_mb;
  int runs;
} timing;

enum { OPT_DIM = 1, OPT_SHAPE, OPT_THREADS, OPT_RUNS, OPT_LEVEL };

static void on_option(void *data, int option, const char *value) {
  bench_args *a = data;
  if (option == OPT_DIM) strings_add(&a->dims, value);
  if (option == OPT_SHAPE) strings_add(&a->shapes, value);
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

static bool time_runs(const bench_args *a, engine *e, const nncc_rt_tensor *in, timing *t, profile *p) {
  const nncc_rt_tensor *out;
  if (engine_run(e, in, &out) != 0) return false;
  double start = now_ms();
  if (engine_run(e, in, &out) != 0) return false;
  t->runs = choose_runs(a, now_ms() - start);
  double *ms = malloc((size_t)t->runs * sizeof *ms);
  if (!ms) return false;
  for (int i = 0; i < t->runs; i++) {
    start = now_ms();
    if (engine_run(e, in, &out) != 0) break;
    ms[i] = now_ms() - start;
    if (a->profile) profile_take(p);
  }
  qsort(ms, (size_t)t->runs, sizeof *ms, compare_doubles);
  t->median_ms = ms[t->runs / 2];
  t->min_ms = ms[0];
  free(ms);
  return true;
}

static void print_json(const bench_args *a, const timing *t) {
  cJSON *root = cJSON_CreateObject();
  cJSON_AddStringToObject(root, "model", a->model);
  cJSON_AddNumberToObject(root, "threads", (double)a->threads);
  cJSON_AddNumberToObject(root, "runs", t->runs);
  cJSON_AddNumberToObject(root, "median_ms", t->median_ms);
  cJSON_AddNumberToObject(root, "min_ms", t->min_ms);
  cJSON_AddNumberToObject(root, "gflop", t->gflop);
  cJSON_AddNumberToObject(root, "gflop_per_s", t->gflop / (t->median_ms * 1e-3));
  cJSON_AddNumberToObject(root, "compile_ms", t->compile_ms);
  cJSON_AddNumberToObject(root, "peak_mb", t->peak_mb);
  char *text = cJSON_Print(root);
  if (text) printf("%s\n", text);
  free(text);
  cJSON_Delete(root);
}

static void print_table(const timing *t) {
  printf("median     %10.3f ms of %d runs\nminimum    %10.3f ms\noperations %10.3f GFLOP, %.1f GFLOP/s at the median\n"
         "compile    %10.1f ms\npeak       %10.1f MB\n",
         t->median_ms, t->runs, t->min_ms, t->gflop, t->gflop / (t->median_ms * 1e-3), t->compile_ms, t->peak_mb);
}

static bool finish_profile(engine *e, const nncc_rt_tensor *in, int threads, profile *p) {
  nn_module *m = engine_module(e);
  bool *bound = NN_NEW_ARRAY(m->arena, bool, m->nsymbols + 1);
  if (!machine_measure(&p->machine, threads, &m->diags)) return false;
  profile_finish(p, m->arena, engine_symbols(e, in, bound));
  return true;
}

static int bench_engine(const bench_args *a, engine *e, timing *t, profile *p) {
  host_tensor *in = read_inputs(e, &a->files, true, 1);
  if (!in) return EXIT_USAGE;
  int n = engine_ninputs(e);
  nncc_rt_tensor *views = calloc((size_t)n + 1, sizeof *views);
  if (!views) exit(70);
  for (int i = 0; i < n; i++) views[i] = in[i].t;
  if (a->profile) profile_open(p, e);
  bool ok = time_runs(a, e, views, t, p);
  if (!ok) {
    char text[256];
    fprintf(stderr, "nncc: run failed: %s\n", engine_message(e, text, sizeof text));
  }
  t->peak_mb = peak_memory_mb();
  if (ok && a->profile) ok = finish_profile(e, views, (int)a->threads, p);
  free(views);
  free_inputs(e, in);
  return ok ? EXIT_OK : EXIT_RUN;
}

int verb_bench(int argc, const char **argv) {
  bench_args a = {.threads = 1, .level = -1};
  strings rest = {0};
  const struct poptOption table[] = {
      {"threads", 0, POPT_ARG_STRING, NULL, OPT_THREADS, "threads (default 1)", "N"},
      {"runs", 0, POPT_ARG_STRING, NULL, OPT_RUNS, "number of runs (default: about two seconds' worth)", "N"},
      {"dim", 0, POPT_ARG_STRING, NULL, OPT_DIM, "fix a symbolic dimension (else inputs take 1)", "N=4"},
      {"shape", 0, POPT_ARG_STRING, NULL, OPT_SHAPE, "fix an input's shape", "x=1,3,224,224"},
      {"level", 'O', POPT_ARG_STRING, NULL, OPT_LEVEL, "0 to 3 (default 2)", "LEVEL"},
      {"aot", 0, POPT_ARG_NONE, &a.aot, 0, "through object, linker and dlopen", NULL},
      {"profile", 0, POPT_ARG_NONE, &a.profile, 0, "time of each step of the program, beside what the machine could do", NULL},
      {"json", 0, POPT_ARG_NONE, &a.json, 0, "print JSON", NULL},
      POPT_TABLEEND};
  if (!parse_args(argc, argv, table, "MODEL [FILE|NAME=FILE]... [options]", &rest, on_option, &a)) return EXIT_USAGE;
  if (a.bad || rest.count < 1 || (a.aot && a.profile)) {
    fprintf(stderr, "nncc bench: %s\n", rest.count < 1 ? "expected a model" : a.bad ? "a number is not understood" : "a profile is of code in memory, without --aot");
    return EXIT_USAGE;
  }
  a.model = rest.items[0];
  for (int i = 1; i < rest.count; i++) strings_add(&a.files, rest.items[i]);
  nncc_model *model = NULL;
  timing t = {0};
  double start = now_ms();
  int code = EXIT_MODEL;
  engine *e = NULL;
  profile p;
  profile_init(&p);
  if (load_model(a.model, &a.dims, &a.shapes, &model) == NNCC_OK) {
    int64_t *ones = NN_NEW_ARRAY(model->module->arena, int64_t, model->module->nsymbols + 1);
    for (int i = 0; i < model->module->nsymbols; i++) ones[i] = 1;
    t.gflop = graph_flops(model->module->main, ones) * 1e-9;
    progress_start("compiling");
    e = engine_open_hooked(model, a.aot ? ENGINE_AOT : ENGINE_JIT, (int)a.threads, (int)a.level, a.profile ? &p.hook : NULL);
    progress_end();
  }
  t.compile_ms = now_ms() - start;
  if (e) code = bench_engine(&a, e, &t, &p);
  else print_diagnostics(stderr, model);
  if (code == EXIT_OK && a.json) print_json(&a, &t);
  else if (code == EXIT_OK) print_table(&t);
  if (code == EXIT_OK && a.profile) profile_print(stdout, &p);
  profile_free(&p);
  engine_close(e);
  nncc_model_free(model);
  return code;
}
