/* nncc run MODEL [FILE...]: runs a model once. */
#include "tools/tools.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct run_args {
  strings dims, shapes, dumps, files;
  const char *model, *out_dir, *format, *compare;
  uint64_t seed;
  long threads;
  bool random, bad;
  int interp, aot, check_finite;
} run_args;

enum { OPT_DIM = 1, OPT_SHAPE, OPT_DUMP, OPT_RANDOM, OPT_THREADS };

static void on_option(void *data, int option, const char *value) {
  run_args *a = data;
  long number = 0;
  switch (option) {
    case OPT_DIM: strings_add(&a->dims, value); break;
    case OPT_SHAPE: strings_add(&a->shapes, value); break;
    case OPT_DUMP: strings_add(&a->dumps, value); break;
    case OPT_RANDOM:
      a->random = true;
      a->bad |= parse_int(value, 0, 0x7fffffff, &number) != 0;
      a->seed = (uint64_t)number;
      break;
    case OPT_THREADS: a->bad |= parse_int(value, 1, 256, &a->threads) != 0; break;
    default: break;
  }
}

/* ---- values inside the graph -------------------------------------------------------------------------------- */

static bool load(const run_args *a, nncc_model **model) {
  if (load_model(a->model, &a->dims, &a->shapes, model) == NNCC_OK) return true;
  print_diagnostics(stderr, *model);
  return false;
}

static bool is_result(const nn_op *ret, const nn_value *v) {
  for (const nn_use *u = v->uses; u; u = u->next)
    if (u->user == ret) return true;
  return false;
}

/* Makes further values results of the graph: those named, or every one (names NULL). */
static bool expose(nncc_model *model, const strings *names) {
  nn_module *m = model->module;
  nn_op *ret = nn_graph_return(m->main);
  nn_value **results = NULL;
  const char **labels = NULL;
  int count = 0, cap = 0, nlabels = 0, labels_cap = 0, found = 0;
  for (int i = 0; i < ret->nin; i++) {
    NN_PUSH(m->arena, results, count, cap, ret->in[i]);
    NN_PUSH(m->arena, labels, nlabels, labels_cap, nn_graph_output_name(m->main, i));
  }
  for (nn_op *op = m->main->first; op; op = op->next)
    for (int r = 0; r < op->nout; r++) {
      bool wanted = !names && !is_result(ret, op->out[r]);
      for (int i = 0; names && i < names->count; i++) wanted |= op->out[r]->name && strcmp(op->out[r]->name, names->items[i]) == 0;
      if (!wanted) continue;
      found++;
      NN_PUSH(m->arena, results, count, cap, op->out[r]);
      NN_PUSH(m->arena, labels, nlabels, labels_cap, op->out[r]->name ? op->out[r]->name : op->loc);
    }
  for (int i = 0; names && i < names->count; i++)
    if (found < names->count) {
      fprintf(stderr, "nncc: of the values to dump only %d are in the graph (nncc inspect lists them)\n", found);
      return false;
    }
  nn_set_strs(nn_graph_set_return(m->main, results, count), "names", labels, nlabels);
  return true;
}

static const char *node_of_result(const nncc_model *model, int i) {
  const nn_value *v = nn_graph_return(model->module->main)->in[i];
  return v->kind == NN_RESULT && v->def->loc[0] ? v->def->loc : v->name ? v->name : "(input)";
}

/* ---- output ---------------------------------------------------------------------------------------------------- */

static char *output_path(const run_args *a, const char *name) {
  size_t n = strlen(a->out_dir) + strlen(name) + 8;
  char *path = malloc(n);
  if (!path) exit(70);
  int at = snprintf(path, n, "%s/", a->out_dir);
  for (const char *c = name; *c; c++) path[at++] = isalnum((unsigned char)*c) || *c == '-' || *c == '.' ? *c : '_';
  snprintf(path + at, n - (size_t)at, ".%s", a->format);
  return path;
}

static bool give_outputs(const run_args *a, engine *e, const nncc_rt_tensor *out) {
  bool ok = true;
  for (int i = 0; i < engine_noutputs(e); i++) {
    host_tensor_summary(stdout, engine_output_name(e, i), &out[i]);
    if (!a->out_dir) continue;
    char *path = output_path(a, engine_output_name(e, i));
    ok = host_tensor_write(path, engine_output_name(e, i), &out[i]) && ok;
    free(path);
  }
  return ok;
}

static bool run_once(engine *e, const host_tensor *in, const nncc_rt_tensor **out) {
  int n = engine_ninputs(e);
  nncc_rt_tensor *views = calloc((size_t)n + 1, sizeof *views);
  if (!views) exit(70);
  for (int i = 0; i < n; i++) views[i] = in[i].t;
  int32_t error = engine_run(e, views, out);
  free(views);
  if (!error) return true;
  char text[256];
  fprintf(stderr, "nncc: run failed: %s\n", engine_message(e, text, sizeof text));
  return false;
}

static engine *open_model(const run_args *a, nncc_model *model, engine_kind kind) {
  progress_start("compiling");
  engine *e = engine_open(model, kind, (int)a->threads, -1);
  progress_end();
  if (!e) print_diagnostics(stderr, model);
  return e;
}

static engine_kind kind_of(const run_args *a) { return a->interp ? ENGINE_INTERP : a->aot ? ENGINE_AOT : ENGINE_JIT; }

/* ---- the three ways to run ---------------------------------------------------------------------------------------- */

static int run_plain(const run_args *a) {
  nncc_model *model = NULL;
  engine *e = NULL;
  host_tensor *in = NULL;
  const nncc_rt_tensor *out = NULL;
  int code = EXIT_MODEL;
  if (load(a, &model) && (!a->dumps.count || expose(model, &a->dumps))) e = open_model(a, model, kind_of(a));
  if (e) code = (in = read_inputs(e, &a->files, a->random, a->seed)) ? EXIT_RUN : EXIT_USAGE;
  if (in && run_once(e, in, &out)) code = give_outputs(a, e, out) ? EXIT_OK : EXIT_RUN;
  if (e) free_inputs(e, in);
  engine_close(e);
  nncc_model_free(model);
  return code;
}

static bool is_finite(const nncc_rt_tensor *t) {
  nn_dtype dtype;
  if (!host_tensor_dtype(t, &dtype) || !nn_dtype_is_float(dtype)) return true;
  for (size_t i = 0, n = host_tensor_count(t); i < n; i++)
    if (!isfinite(nn_load_f64(dtype, t->data, i))) return false;
  return true;
}

static int first_not_finite(const nncc_model *model, engine *e, const nncc_rt_tensor *out) {
  for (int i = 0; i < engine_noutputs(e); i++) {
    if (is_finite(&out[i])) continue;
    printf("not finite: node '%s'\n", node_of_result(model, i));
    host_tensor_summary(stdout, engine_output_name(e, i), &out[i]);
    return EXIT_DIFFERENT;
  }
  printf("every value is finite\n");
  return EXIT_OK;
}

static int run_check_finite(const run_args *a) {
  nncc_model *model = NULL, *names = NULL;
  engine *e = NULL;
  host_tensor *in = NULL;
  const nncc_rt_tensor *out = NULL;
  int code = EXIT_MODEL;
  if (load(a, &model) && load(a, &names) && expose(model, NULL) && expose(names, NULL)) e = open_model(a, model, kind_of(a));
  if (e) code = (in = read_inputs(e, &a->files, a->random, a->seed)) ? EXIT_RUN : EXIT_USAGE;
  if (in && run_once(e, in, &out)) code = first_not_finite(names, e, out);
  if (e) free_inputs(e, in);
  engine_close(e);
  nncc_model_free(names);
  nncc_model_free(model);
  return code;
}

static int report_first_difference(const nncc_model *names, engine *e, const nncc_rt_tensor *a, const nncc_rt_tensor *b) {
  for (int i = 0; i < engine_noutputs(e); i++) {
    difference d = host_tensor_compare(&a[i], &b[i], 1e-3, 1e-5);
    if (d.same) continue;
    printf("first difference: node '%s', value '%s': %s\n", node_of_result(names, i), engine_output_name(e, i), d.text);
    return EXIT_DIFFERENT;
  }
  printf("no difference in %d values\n", engine_noutputs(e));
  return EXIT_OK;
}

/* Every value of the compiled model against the interpreter's. */
static int compare_interpreter(const run_args *a) {
  nncc_model *model = NULL, *reference = NULL;
  engine *e = NULL, *oracle = NULL;
  host_tensor *in = NULL;
  const nncc_rt_tensor *out = NULL, *expected = NULL;
  int code = EXIT_MODEL;
  if (load(a, &model) && load(a, &reference) && expose(model, NULL) && expose(reference, NULL)) {
    e = open_model(a, model, kind_of(a));
    oracle = e ? open_model(a, reference, ENGINE_INTERP) : NULL;
  }
  if (oracle) code = (in = read_inputs(e, &a->files, a->random, a->seed)) ? EXIT_RUN : EXIT_USAGE;
  if (in && run_once(e, in, &out) && run_once(oracle, in, &expected)) code = report_first_difference(reference, oracle, out, expected);
  if (e) free_inputs(e, in);
  engine_close(oracle);
  engine_close(e);
  nncc_model_free(reference);
  nncc_model_free(model);
  return code;
}

static bool read_reference(const run_args *a, const char *name, host_tensor *t) {
  static const char *const formats[] = {"npy", "pb"};
  for (int k = 0; k < 2; k++) {
    run_args where = {.out_dir = a->compare, .format = formats[k]};
    char *path = output_path(&where, name);
    bool found = access(path, R_OK) == 0 && host_tensor_read(path, t);
    free(path);
    if (found) return true;
  }
  return false;
}

static int compare_references(const run_args *a, const nncc_model *names, engine *e, const nncc_rt_tensor *out) {
  int compared = 0;
  for (int i = 0; i < engine_noutputs(e); i++) {
    host_tensor t;
    if (!read_reference(a, engine_output_name(e, i), &t)) continue;
    difference d = host_tensor_compare(&out[i], &t.t, 1e-3, 1e-5);
    host_tensor_free(&t);
    compared++;
    if (d.same) continue;
    printf("first difference: node '%s', value '%s': %s\n", node_of_result(names, i), engine_output_name(e, i), d.text);
    return EXIT_DIFFERENT;
  }
  printf("no difference in the %d values that %s holds\n", compared, a->compare);
  return compared ? EXIT_OK : EXIT_USAGE;
}

static int compare_folder(const run_args *a) {
  nncc_model *model = NULL, *names = NULL;
  engine *e = NULL;
  host_tensor *in = NULL;
  const nncc_rt_tensor *out = NULL;
  int code = EXIT_MODEL;
  if (load(a, &model) && load(a, &names) && expose(model, NULL) && expose(names, NULL)) e = open_model(a, model, kind_of(a));
  if (e) code = (in = read_inputs(e, &a->files, a->random, a->seed)) ? EXIT_RUN : EXIT_USAGE;
  if (in && run_once(e, in, &out)) code = compare_references(a, names, e, out);
  if (e) free_inputs(e, in);
  engine_close(e);
  nncc_model_free(names);
  nncc_model_free(model);
  return code;
}

int verb_run(int argc, const char **argv) {
  run_args a = {.format = "npy", .threads = 1};
  strings rest = {0};
  const struct poptOption table[] = {
      {"random", 0, POPT_ARG_STRING, NULL, OPT_RANDOM, "random contents for inputs that no file gives; symbolic sizes are 1", "SEED"},
      {"output-dir", 'o', POPT_ARG_STRING, &a.out_dir, 0, "write each output to DIR/NAME.npy", "DIR"},
      {"format", 0, POPT_ARG_STRING, &a.format, 0, "npy (default) or pb", "FORMAT"},
      {"dump", 0, POPT_ARG_STRING, NULL, OPT_DUMP, "treat this inner value as an output too", "VALUE"},
      {"check-finite", 0, POPT_ARG_NONE, &a.check_finite, 0, "name the first node with a NaN or infinity in its result", NULL},
      {"compare", 0, POPT_ARG_STRING, &a.compare, 0, "name the first node that differs from the interpreter, or from DIR/VALUE.npy", "interp|DIR"},
      {"dim", 0, POPT_ARG_STRING, NULL, OPT_DIM, "fix a symbolic dimension", "N=4"},
      {"shape", 0, POPT_ARG_STRING, NULL, OPT_SHAPE, "fix an input's shape", "x=1,3,224,224"},
      {"threads", 0, POPT_ARG_STRING, NULL, OPT_THREADS, "threads (default 1)", "N"},
      {"interp", 0, POPT_ARG_NONE, &a.interp, 0, "by the loop interpreter", NULL},
      {"aot", 0, POPT_ARG_NONE, &a.aot, 0, "through object, linker and dlopen", NULL},
      POPT_TABLEEND};
  if (!parse_args(argc, argv, table, "MODEL [FILE|NAME=FILE]... [options]", &rest, on_option, &a)) return EXIT_USAGE;
  if (a.bad || rest.count < 1 || (strcmp(a.format, "npy") != 0 && strcmp(a.format, "pb") != 0)) {
    fprintf(stderr, "nncc run: %s\n", rest.count < 1 ? "expected a model" : "a number or --format is not understood (nncc run --help)");
    return EXIT_USAGE;
  }
  a.model = rest.items[0];
  for (int i = 1; i < rest.count; i++) strings_add(&a.files, rest.items[i]);
  if (a.check_finite) return run_check_finite(&a);
  if (a.compare) return strcmp(a.compare, "interp") == 0 ? compare_interpreter(&a) : compare_folder(&a);
  return run_plain(&a);
}
