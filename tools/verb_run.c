/* nncc run MODEL [FILE...]: runs a model once. */
#include "tools/tools.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct run_args {
  pins pins;
  code_args code;
  strings dumps;
  const char *model, *out_dir, *format, *compare;
  const char *const *files;
  uint64_t seed;
  long threads;
  bool random, bad;
  int interp, aot, check_finite, symbols;
} run_args;

enum { OPT_DUMP = OPT_OF_VERB, OPT_RANDOM, OPT_THREADS };

static void on_option(void *data, int option, const char *value) {
  run_args *a = data;
  long number = 0;
  if (pins_take(&a->pins, option, value) || code_take(&a->code, "run", option, value)) return;
  switch (option) {
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

static bool is_result(const nn_op *ret, const nn_value *v) {
  for (const nn_use *u = v->uses; u; u = u->next)
    if (u->user == ret) return true;
  return false;
}

typedef struct results {
  nn_value **values;
  const char **names;
  int nvalues, values_cap, nnames, names_cap;
} results;

static void add_result(nn_module *m, results *r, nn_value *v, const char *name) {
  NN_PUSH(m->arena, r->values, r->nvalues, r->values_cap, v);
  NN_PUSH(m->arena, r->names, r->nnames, r->names_cap, name);
}

static nn_value *find_value(const nn_graph *g, const char *name) {
  for (nn_op *op = g->first; op; op = op->next)
    for (int r = 0; r < op->nout; r++)
      if (op->out[r]->name && strcmp(op->out[r]->name, name) == 0) return op->out[r];
  return NULL;
}

static bool add_named(nn_module *m, results *r, const strings *names) {
  for (int i = 0; i < names->count; i++) {
    nn_value *v = find_value(m->main, names->items[i]);
    if (!v) {
      fprintf(stderr, "nncc: --dump %s: the model computes no value of this name\n", names->items[i]);
      return false;
    }
    add_result(m, r, v, v->name);
  }
  return true;
}

/* Makes further values results of the graph: those named, or every one (names NULL). */
static bool expose(nncc_model *model, const strings *names) {
  nn_module *m = model->module;
  nn_op *ret = nn_graph_return(m->main);
  results r = {0};
  for (int i = 0; i < ret->nin; i++) add_result(m, &r, ret->in[i], nn_graph_output_name(m->main, i));
  if (names && !add_named(m, &r, names)) return false;
  for (nn_op *op = m->main->first; op && !names; op = op->next)
    for (int i = 0; i < op->nout; i++)
      if (!is_result(ret, op->out[i])) add_result(m, &r, op->out[i], op->out[i]->name ? op->out[i]->name : op->loc);
  nn_set_strs(nn_graph_set_return(m->main, r.values, r.nvalues), "names", r.names, r.nnames);
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

/* ---- a model on its way: loaded, compiled, run ------------------------------------------------------------------ */

typedef struct session {
  nncc_model *model;
  nncc_model *names; /* the same, not compiled: what node each result comes from; where all values are results */
  engine *e;
  const nncc_rt_tensor *out; /* the engine's */
} session;

static bool load(const run_args *a, const strings *names, bool exposes, nncc_model **model) {
  if (load_model(a->model, &a->pins, model) == NNCC_OK) return !exposes || expose(*model, names);
  print_diagnostics(stderr, *model);
  return false;
}

/* all_values: every value inside the graph is a result, else those to dump are. */
static int open_session(session *s, const run_args *a, engine_kind kind, bool all_values) {
  const strings *names = all_values ? NULL : &a->dumps;
  if (!load(a, names, all_values || a->dumps.count, &s->model) || (all_values && !load(a, NULL, true, &s->names)))
    return EXIT_MODEL;
  progress_start("compiling");
  s->e = engine_open(
      s->model, &(engine_options){.kind = kind, .code = &a->code, .threads = (int)a->threads, .level = -1, .symbols = a->symbols});
  progress_end();
  if (!s->e || a->code.tuning) print_diagnostics(stderr, s->model);
  return s->e ? EXIT_OK : EXIT_MODEL;
}

static int run_session(session *s, const host_tensor *in) {
  int n = engine_ninputs(s->e);
  nncc_rt_tensor *views = calloc((size_t)n + 1, sizeof *views);
  if (!views) exit(70);
  for (int i = 0; i < n; i++) views[i] = in[i].t;
  progress_start("running");
  int32_t error = engine_run(s->e, views, &s->out);
  progress_end();
  free(views);
  if (!error) return EXIT_OK;
  char text[256];
  fprintf(stderr, "nncc: run failed: %s\n", engine_message(s->e, text, sizeof text));
  return EXIT_RUN;
}

static void close_session(session *s) {
  engine_close(s->e);
  nncc_model_free(s->names);
  nncc_model_free(s->model);
}

/* ---- what is said of the results ----------------------------------------------------------------------------------
 */

static int give_outputs(const run_args *a, const session *s) {
  bool ok = true;
  for (int i = 0; i < engine_noutputs(s->e); i++) {
    const char *name = engine_output_name(s->e, i);
    host_tensor_summary(stdout, name, &s->out[i]);
    if (!a->out_dir) continue;
    char *path = output_path(a, name);
    ok = host_tensor_write(path, name, &s->out[i]) && ok;
    free(path);
  }
  return ok ? EXIT_OK : EXIT_RUN;
}

static bool is_finite(const nncc_rt_tensor *t) {
  nn_dtype dtype;
  if (!host_tensor_dtype(t, &dtype) || !nn_dtype_is_float(dtype)) return true;
  for (size_t i = 0, n = host_tensor_count(t); i < n; i++)
    if (!isfinite(nn_load_f64(dtype, t->data, i))) return false;
  return true;
}

static int find_not_finite(const session *s) {
  for (int i = 0; i < engine_noutputs(s->e); i++) {
    if (is_finite(&s->out[i])) continue;
    printf("not finite: node '%s'\n", node_of_result(s->names, i));
    host_tensor_summary(stdout, engine_output_name(s->e, i), &s->out[i]);
    return EXIT_DIFFERENT;
  }
  printf("every value is finite\n");
  return EXIT_OK;
}

static bool differs(const session *s, int i, const nncc_rt_tensor *expected) {
  difference d = host_tensor_compare(&s->out[i], expected, 1e-3, 1e-5);
  if (!d.same)
    printf("first difference: node '%s', value '%s': %s\n", node_of_result(s->names, i), engine_output_name(s->e, i),
           d.text);
  return !d.same;
}

static int compare_interpreter(const session *s, const session *oracle) {
  for (int i = 0; i < engine_noutputs(s->e); i++)
    if (differs(s, i, &oracle->out[i])) return EXIT_DIFFERENT;
  printf("no difference in %d values\n", engine_noutputs(s->e));
  return EXIT_OK;
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

static int compare_references(const run_args *a, const session *s) {
  int compared = 0;
  for (int i = 0; i < engine_noutputs(s->e); i++) {
    host_tensor t;
    if (!read_reference(a, engine_output_name(s->e, i), &t)) continue;
    bool bad = differs(s, i, &t.t);
    host_tensor_free(&t);
    compared++;
    if (bad) return EXIT_DIFFERENT;
  }
  printf("no difference in the %d values that %s holds\n", compared, a->compare);
  return compared ? EXIT_OK : EXIT_USAGE;
}

static int run(const run_args *a) {
  session s = {0}, oracle = {0};
  host_tensor *in = NULL;
  bool asks_interpreter = a->compare && strcmp(a->compare, "interp") == 0;
  int code = open_session(&s, a,
                          a->interp ? ENGINE_INTERP
                          : a->aot  ? ENGINE_AOT
                                    : ENGINE_JIT,
                          a->check_finite || a->compare);
  if (code == EXIT_OK && asks_interpreter) code = open_session(&oracle, a, ENGINE_INTERP, true);
  if (code == EXIT_OK && !(in = read_inputs(s.e, a->files, a->random, a->seed))) code = EXIT_USAGE;
  if (code == EXIT_OK) code = run_session(&s, in);
  if (code == EXIT_OK && asks_interpreter) code = run_session(&oracle, in);
  if (code == EXIT_OK)
    code = a->check_finite    ? find_not_finite(&s)
           : asks_interpreter ? compare_interpreter(&s, &oracle)
           : a->compare       ? compare_references(a, &s)
                              : give_outputs(a, &s);
  if (s.e) free_inputs(s.e, in);
  close_session(&oracle);
  close_session(&s);
  return code;
}

static bool is_complete(const run_args *a, const strings *rest) {
  bool has_format = strcmp(a->format, "npy") == 0 || strcmp(a->format, "pb") == 0;
  if (rest->count >= 1 && has_format && !a->bad) return true;
  fprintf(stderr, "nncc run: %s\n",
          rest->count < 1 ? "expected a model" : "a number or --format is not understood (nncc run --help)");
  return false;
}

int verb_run(int argc, const char **argv) {
  run_args a = {.threads = 1};
  strings rest = {0};
  const char *format = NULL;
  const struct poptOption table[] = {
      {"random", 0, POPT_ARG_STRING, NULL, OPT_RANDOM,
       "random contents for inputs that no file gives; symbolic sizes are 1", "SEED"},
      {"output-dir", 'o', POPT_ARG_STRING, &a.out_dir, 0, "write each output to DIR/NAME.npy", "DIR"},
      {"format", 0, POPT_ARG_STRING, &format, 0, "npy (default) or pb", "FORMAT"},
      {"dump", 0, POPT_ARG_STRING, NULL, OPT_DUMP, "treat this inner value as an output too", "VALUE"},
      {"check-finite", 0, POPT_ARG_NONE, &a.check_finite, 0, "name the first node with a NaN or infinity in its result",
       NULL},
      {"compare", 0, POPT_ARG_STRING, &a.compare, 0,
       "name the first node that differs from the interpreter, or from DIR/VALUE.npy", "interp|DIR"},
      PIN_OPTIONS,
      CODE_OPTIONS,
      {"threads", 0, POPT_ARG_STRING, NULL, OPT_THREADS, "threads (default 1)", "N"},
      {"interp", 0, POPT_ARG_NONE, &a.interp, 0, "by the loop interpreter", NULL},
      {"aot", 0, POPT_ARG_NONE, &a.aot, 0, "through object, linker and dlopen", NULL},
      {"symbols", 0, POPT_ARG_NONE, &a.symbols, 0, "GDB and perf (by /tmp/perf-PID.map) see the kernels by name", NULL},
      POPT_TABLEEND};
  int code = EXIT_USAGE;
  bool ok = parse_args(argc, argv, table, "MODEL [FILE|NAME=FILE]... [options]", &rest, on_option, &a);
  a.format = format ? format : "npy";
  if (ok && !a.code.bad && is_complete(&a, &rest)) {
    a.model = rest.items[0];
    a.files = strings_list(&rest) + 1;
    code = run(&a);
  }
  free_option_texts(table);
  strings_free(&a.dumps);
  code_free(&a.code);
  pins_free(&a.pins);
  strings_free(&rest);
  return code;
}
