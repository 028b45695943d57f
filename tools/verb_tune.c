/* nncc tune MODEL -o FILE: measures schedules on this machine (ir/tuning.h) and keeps the best.

   One knob after the other, a compilation for each candidate: all ops take it at once, and since each step of a run is timed, each
   op (by its description) has a time for each candidate. What was found holds while the next knob is tried. */
#include "tools/tools.h"

#include "ir/tuning.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FEWEST_RUNS = 5, MOST_RUNS = 300, FINAL_ROUNDS = 3 };
static const double budget_ms = 300;   /* of the runs of a candidate */
static const double worth = 0.97;      /* a candidate must take at most this part of the time */
static const double least_gain_us = 1; /* and be faster by this: less is noise */

typedef struct tune_args {
  pins pins;
  code_args code;
  const char *model, *out;
  const char *const *files;
  long threads;
  bool bad;
} tune_args;

enum { OPT_THREADS = OPT_OF_VERB };

/* The least time of each step. */
typedef struct clock_of_steps {
  int64_t *best_ns;
  int64_t last_ns;
} clock_of_steps;

/* One compilation, measured. */
typedef struct measured {
  nn_tuning *tuning; /* what was chosen */
  double *us;        /* by choice: of the steps that do its nodes' work */
  double total_us;
} measured;

typedef struct tuner {
  const tune_args *args;
  nn_arena *arena;
  nn_tuning *best;
  char *cpu;         /* as the file says it */
} tuner;

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void on_step(void *data, int32_t step, const int64_t *symbols) {
  clock_of_steps *c = data;
  int64_t now = now_ns();
  (void)symbols;
  if (step >= 0 && now - c->last_ns < c->best_ns[step]) c->best_ns[step] = now - c->last_ns;
  c->last_ns = now_ns();
}

/* ---- one compilation --------------------------------------------------------------------------------- */

static bool does_work_of(const nn_origins *nodes, const nn_choice *c, nn_arena *arena) {
  for (int i = 0; i < nodes->count; i++)
    for (int j = 0; j < c->nlocs; j++)
      if (strcmp(nodes->items[i].node, nn_text_clean(arena, c->locs[j])) == 0) return true;
  return false;
}

/* Of a choice without a node (a model that does not name them): of everything. */
static void add_times(tuner *u, const nn_program *p, const clock_of_steps *clock, measured *r) {
  const nn_tuning *t = r->tuning;
  r->us = NN_NEW_ARRAY(u->arena, double, t->nchoices + 1);
  for (int s = 0; s < p->nsteps; s++) {
    nn_origins nodes = nn_op_origins(p->steps[s].op, u->arena);
    double us = (double)clock->best_ns[s] * 1e-3;
    r->total_us += us;
    for (int i = 0; i < t->nchoices; i++)
      if (t->choices[i]->nlocs == 0 || does_work_of(&nodes, t->choices[i], u->arena)) r->us[i] += us;
  }
}

static bool time_steps(engine *e, const host_tensor *in, clock_of_steps *clock) {
  int n = engine_ninputs(e), nsteps = engine_program(e)->nsteps;
  nncc_rt_tensor *views = calloc((size_t)n + 1, sizeof *views);
  const nncc_rt_tensor *out;
  if (!views) exit(70);
  for (int i = 0; i < n; i++) views[i] = in[i].t;
  bool ok = engine_run(e, views, &out) == 0;
  for (int s = 0; s < nsteps; s++) clock->best_ns[s] = INT64_MAX;
  double start = now_ms();
  for (int run = 0; ok && run < MOST_RUNS && (run < FEWEST_RUNS || now_ms() - start < budget_ms); run++)
    ok = engine_run(e, views, &out) == 0;
  free(views);
  return ok;
}

static int measure_engine(tuner *u, engine *e, clock_of_steps *clock, measured *r) {
  host_tensor *in = read_inputs(e, u->args->files, true, 1);
  if (!in) return EXIT_USAGE;
  bool ok = time_steps(e, in, clock);
  free_inputs(e, in);
  if (ok) {
    add_times(u, engine_program(e), clock, r);
    return EXIT_OK;
  }
  char text[256];
  fprintf(stderr, "nncc: run failed: %s\n", engine_message(e, text, sizeof text));
  return EXIT_RUN;
}

static nn_tuning *copy_entries(nn_arena *arena, const nn_tuning *from) {
  nn_tuning *t = nn_tuning_new(arena);
  for (int i = 0; from && i < from->count; i++) nn_tuning_set(t, from->list[i]->knob, from->list[i]->key, from->list[i]->value, from->list[i]->note);
  return t;
}

static int measure_model(tuner *u, nncc_model *model, measured *r) {
  const tune_args *a = u->args;
  nn_module *m = model->module;
  clock_of_steps clock = {0};
  m->tuning = r->tuning;
  engine *e = engine_open(model, &(engine_options){.kind = ENGINE_JIT, .threads = (int)a->threads, .level = -1, .code = &a->code,
                                                   .hook = &(nn_step_hook){on_step, &clock}});
  if (!e) return EXIT_MODEL;
  clock.best_ns = NN_NEW_ARRAY(u->arena, int64_t, engine_program(e)->nsteps + 1);
  int code = measure_engine(u, e, &clock, r);
  engine_close(e);
  return code;
}

/* With the entries of `entries`; knob -1: no trial. */
static int measure(tuner *u, const nn_tuning *entries, int knob, int trial, measured *r) {
  nncc_model *model = NULL;
  *r = (measured){.tuning = copy_entries(u->arena, entries)};
  r->tuning->trial_knob = knob;
  r->tuning->trial = trial;
  char what[64];
  snprintf(what, sizeof what, knob < 0 ? "tuning" : "tuning %s, candidate %d", knob < 0 ? "" : nn_knob_infos[knob].name, trial + 1);
  progress_start(what);
  int code = load_model(u->args->model, &u->args->pins, &model) == NNCC_OK ? measure_model(u, model, r) : EXIT_MODEL;
  progress_end();
  if (code != EXIT_OK) print_diagnostics(stderr, model);
  nncc_model_free(model);
  return code;
}

/* ---- one knob ------------------------------------------------------------------------------------------ */

static int most_candidates(const measured *base, nn_knob knob) {
  int most = 0;
  for (int i = 0; i < base->tuning->nchoices; i++) {
    const nn_choice *c = base->tuning->choices[i];
    if (c->knob == knob && c->ncandidates > most) most = c->ncandidates;
  }
  return most;
}

/* Index of this choice; -1: it was not asked. */
static int find_choice(const measured *r, const nn_choice *wanted) {
  for (int i = 0; i < r->tuning->nchoices; i++)
    if (r->tuning->choices[i]->knob == wanted->knob && strcmp(r->tuning->choices[i]->key, wanted->key) == 0) return i;
  return -1;
}

/* A line of the table: all candidates of one op, the best one marked; keeps it. */
static void judge(tuner *u, const measured *base, int which, const measured *trials) {
  const nn_choice *c = base->tuning->choices[which];
  double best_us = base->us[which] * worth;
  int best = -1;
  for (int j = 0; j < c->ncandidates; j++) {
    int at = find_choice(&trials[j], c);
    if (at < 0 || trials[j].us[at] > best_us || trials[j].us[at] > base->us[which] - least_gain_us) continue;
    best_us = trials[j].us[at];
    best = j;
  }
  printf("%-16s %5lld%s %9.1f", nn_knob_infos[c->knob].name, (long long)c->fallback, best < 0 ? "*" : " ", base->us[which]);
  for (int j = 0; j < c->ncandidates; j++) {
    int at = find_choice(&trials[j], c);
    printf("  %5lld%s %9.1f", (long long)c->candidates[j], j == best ? "*" : " ", at < 0 ? 0 : trials[j].us[at]);
  }
  printf("  %s\n", c->key);
  if (best < 0) return;
  char note[128];
  snprintf(note, sizeof note, "%.1f us, by default (%lld) %.1f us", best_us, (long long)c->fallback, base->us[which]);
  nn_tuning_set(u->best, c->knob, c->key, c->candidates[best], note);
}

static int tune_knob(tuner *u, nn_knob knob) {
  measured base, trials[NN_KNOB_VALUES];
  int code = measure(u, u->best, -1, 0, &base), count = code == EXIT_OK ? most_candidates(&base, knob) : 0;
  for (int j = 0; code == EXIT_OK && j < count; j++) code = measure(u, u->best, (int)knob, j, &trials[j]);
  for (int i = 0; code == EXIT_OK && i < base.tuning->nchoices; i++) {
    const nn_choice *c = base.tuning->choices[i];
    if (c->knob == knob && c->ncandidates > 0) judge(u, &base, i, trials);
  }
  fflush(stdout);
  return code;
}

/* ---- the whole ------------------------------------------------------------------------------------------ */

/* In turns, without and with what was found: the least total of each. */
static int compare(tuner *u, double *before_us, double *after_us) {
  int code = EXIT_OK;
  *before_us = *after_us = 1e30;
  for (int i = 0; code == EXIT_OK && i < 2 * FINAL_ROUNDS; i++) {
    measured r;
    double *us = i % 2 ? after_us : before_us;
    code = measure(u, i % 2 ? u->best : NULL, -1, 0, &r);
    if (code == EXIT_OK && r.total_us < *us) *us = r.total_us;
  }
  return code;
}

static int write_file(tuner *u, const nn_tuning *t, double before_us, double after_us) {
  const tune_args *a = u->args;
  const char *comment = nn_sprintf(u->arena, "%ld thread%s, floating point %s; %s: %.3f ms, by default %.3f ms", a->threads, a->threads > 1 ? "s" : "",
                                   nn_fp_name(a->code.fp), nn_text_clean(u->arena, a->model), after_us * 1e-3, before_us * 1e-3);
  if (nn_tuning_write(t, a->out, u->cpu, comment)) return EXIT_OK;
  fprintf(stderr, "nncc tune: cannot write '%s': %s\n", a->out, strerror(errno));
  return EXIT_RUN;
}

static int finish(tuner *u) {
  double before_us = 0, after_us = 0;
  int code = compare(u, &before_us, &after_us);
  if (code != EXIT_OK) return code;
  bool pays = u->best->count > 0 && after_us < before_us;
  printf("by default %.3f ms, tuned %.3f ms\n%s: %d entries%s\n", before_us * 1e-3, after_us * 1e-3, u->args->out, pays ? u->best->count : 0,
         pays || u->best->count == 0 ? "" : " (what was found for single ops did not make the model faster)");
  return write_file(u, pays ? u->best : nn_tuning_new(u->arena), before_us, pays ? after_us : before_us);
}

/* Before time is spent; leaves the file as it is. */
static bool can_write(const char *path) {
  bool existed = access(path, F_OK) == 0;
  FILE *f = fopen(path, "ab");
  if (!f) return false;
  fclose(f);
  if (!existed) remove(path);
  return true;
}

static int tune(const tune_args *a) {
  if (!can_write(a->out)) {
    fprintf(stderr, "nncc tune: cannot write '%s': %s\n", a->out, strerror(errno));
    return EXIT_RUN;
  }
  tuner u = {.args = a, .arena = nn_arena_new()};
  nn_target target;
  nn_diags diags = {.arena = u.arena};
  if (!u.arena) exit(70);
  int code = nn_target_init(&target, NULL, NULL, &diags) == NN_OK ? EXIT_OK : EXIT_MODEL;
  if (code == EXIT_OK) {
    u.cpu = nn_sprintf(u.arena, "%s", nn_tuning_cpu(u.arena, &target));
    nn_target_free(&target);
  }
  u.best = nn_tuning_new(u.arena);
  printf("%-16s microseconds by default, and with other values; * is taken\n", "knob");
  for (int k = 0; code == EXIT_OK && k < NN_KNOB_COUNT; k++) code = tune_knob(&u, (nn_knob)k);
  if (code == EXIT_OK) code = finish(&u);
  nn_arena_free(u.arena);
  return code;
}

static void on_option(void *data, int option, const char *value) {
  tune_args *a = data;
  pins_take(&a->pins, option, value);
  code_take(&a->code, "tune", option, value);
  if (option == OPT_THREADS) a->bad |= parse_int(value, 1, 256, &a->threads) != 0;
}

static const char *complaint(const tune_args *a, const strings *rest) {
  if (rest->count < 1) return "expected a model";
  if (!a->out) return "-o FILE is missing";
  return a->bad ? "--threads takes a number from 1 to 256" : NULL;
}

int verb_tune(int argc, const char **argv) {
  tune_args a = {.threads = 1};
  strings rest = {0};
  const struct poptOption table[] = {
      {"output", 'o', POPT_ARG_STRING, &a.out, 0, "the file to write, for --tuning", "FILE"},
      {"threads", 0, POPT_ARG_STRING, NULL, OPT_THREADS, "threads of the runs that are measured (default 1)", "N"},
      PIN_OPTIONS,
      FP_OPTION,
      POPT_TABLEEND};
  int code = EXIT_USAGE;
  if (parse_args(argc, argv, table, "MODEL [FILE|NAME=FILE]... -o FILE [options]", &rest, on_option, &a) && !a.code.bad) {
    const char *wrong = complaint(&a, &rest);
    if (wrong) {
      fprintf(stderr, "nncc tune: %s\n", wrong);
    } else {
      a.model = rest.items[0];
      a.files = strings_list(&rest) + 1;
      code = tune(&a);
    }
  }
  free_option_texts(table);
  code_free(&a.code);
  pins_free(&a.pins);
  strings_free(&rest);
  return code;
}
