/* What the verbs of the nncc program share. */
#ifndef NN_TOOLS_H
#define NN_TOOLS_H

#include "codegen/codegen.h"
#include "ir/model.h"
#include "ir/nncc.h"
#include "passes/passes.h"

#include <popt.h>

/* Exit codes, documented in --help and the man page. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_MODEL = 3, EXIT_RUN = 4, EXIT_DIFFERENT = 5 };

/* ---- args.c ------------------------------------------------------------------------------------------ */

typedef struct strings { char **items; int count, cap; } strings; /* NULL-terminated; owned */
void strings_add(strings *s, const char *item); /* copies */
const char *const *strings_list(const strings *s); /* NULL if there is none */
void strings_free(strings *s);
/* Parses argv with popt; adds --help. Positional arguments go to rest. Calls on_option for options with a
   val (may be NULL); the value lives for the call only. Returns false after printing what is wrong. */
typedef void option_fn(void *data, int option, const char *value);
bool parse_args(int argc, const char **argv, const struct poptOption *options, const char *usage, strings *rest, option_fn *on_option, void *data);
void free_option_texts(const struct poptOption *options); /* what rows of POPT_ARG_STRING hold: no defaults there */

/* A verb of one model and no other argument: parses, and gives act's exit code; frees the texts of the options. */
typedef int model_fn(const char *model, const void *data);
int run_on_model(const char *verb, int argc, const char **argv, const struct poptOption *options, option_fn *on_option, model_fn *act, void *data);

/* What fixes sizes of a model while it is loaded: the options that all verbs have which load one. */
typedef struct pins { strings dims, shapes; } pins;
enum { OPT_DIM = 1, OPT_SHAPE, OPT_FP, OPT_TUNING, OPT_OF_VERB }; /* a verb's own numbers begin at the last */
#define PIN_OPTIONS                                                                   \
  {"dim", 0, POPT_ARG_STRING, NULL, OPT_DIM, "fix a symbolic dimension", "N=4"},      \
  {"shape", 0, POPT_ARG_STRING, NULL, OPT_SHAPE, "fix an input's shape", "x=1,3,224,224"}
bool pins_take(pins *p, int option, const char *value); /* whether the option is one of them */
void pins_free(pins *p);

/* What decides how a model is compiled, in the verbs that do so. */
typedef struct code_args { nncc_fp fp; char *tuning; bool bad; } code_args; /* tuning: owned */
#define FP_OPTION                                                                                                      \
  {"fp", 0, POPT_ARG_STRING, NULL, OPT_FP,                                                                             \
   "floating point. strict (default): the same bits for any number of threads; exact: and on every CPU; fast: approximate", "MODE"}
#define CODE_OPTIONS                                                                                                   \
  FP_OPTION, {"tuning", 0, POPT_ARG_STRING, NULL, OPT_TUNING, "schedules that nncc tune measured on this CPU", "FILE"}
bool code_take(code_args *c, const char *verb, int option, const char *value); /* whether it is one of them; says what is wrong, and sets bad */
void code_free(code_args *c);
int parse_int(const char *text, long min, long max, long *value); /* 0 if good */
bool is_terminal(FILE *f);
int finish_output(int code); /* code, but EXIT_RUN if stdout could not be written (a full disk): says so */

/* ---- models.c ------------------------------------------------------------------------------------------ */

/* An ONNX model, or IR text if the path ends in .nn. */
nncc_status load_model(const char *path, const pins *p, nncc_model **model);

/* ---- report.c ---------------------------------------------------------------------------------------- */

/* All diagnostics of a model, errors in red on a terminal; returns the number of errors. */
int print_diagnostics(FILE *out, const nncc_model *model);
void progress_start(const char *what); /* on a terminal, once two seconds have passed: what, and the seconds so far */
void progress_end(void);
double now_ms(void);
double peak_memory_mb(void);

/* ---- tensors.c: tensors in files ---------------------------------------------------------------------- */

typedef struct host_tensor {
  char *name;          /* owned, or NULL */
  nncc_rt_tensor t;    /* data and dims are owned */
} host_tensor;

void host_tensor_free(host_tensor *t);
size_t host_tensor_count(const nncc_rt_tensor *t);
bool host_tensor_alloc(host_tensor *t, int32_t dtype, int32_t rank, const int64_t *dims); /* zeroed */
/* .npy, .pb; false after printing the reason. */
bool host_tensor_read(const char *path, host_tensor *t);
bool host_tensor_write(const char *path, const char *name, const nncc_rt_tensor *t);
/* An .npz archive: its tensors, named by their entries; count or -1 after printing. */
int host_tensors_read_npz(const char *path, host_tensor **tensors);
/* Deterministic contents for a type: floats uniform in [-1, 1), integers in [0, 8), bools alternating at random. */
void host_tensor_random(nncc_rt_tensor *t, uint64_t seed);
void host_tensor_summary(FILE *out, const char *name, const nncc_rt_tensor *t);
bool host_tensor_dtype(const nncc_rt_tensor *t, nn_dtype *dtype);

typedef struct difference {
  bool same;           /* within the tolerance, with equal type and shape */
  double max_abs;      /* largest |a - b| */
  double worst;        /* largest |a - b| / (atol + rtol |b|); > 1 is too much */
  char text[160];      /* what is different */
} difference;
difference host_tensor_compare(const nncc_rt_tensor *a, const nncc_rt_tensor *b, double rtol, double atol);

/* ---- engine.c: a compiled model, whichever way -------------------------------------------------------- */

typedef enum engine_kind { ENGINE_JIT, ENGINE_AOT, ENGINE_INTERP } engine_kind;
typedef struct engine engine;

typedef struct engine_options {
  engine_kind kind;
  int threads, level;       /* threads >= 1 */
  const code_args *code;    /* NULL: the defaults */
  const nn_step_hook *hook; /* JIT: it is called; or NULL */
  bool symbols;             /* JIT: names for GDB and perf */
  bool large_pages;         /* for the weights and the workspace, where the system has them */
} engine_options;
/* Compiles; the model's diagnostics tell when it gives NULL. */
engine *engine_open(nncc_model *model, const engine_options *o);
void engine_close(engine *e);
nn_module *engine_module(const engine *e);
const nn_program *engine_program(const engine *e);
nncc_rt_ctx *engine_ctx(engine *e);
/* By module symbol index: those that are plainly a dimension of an input; bound tells which. */
int64_t *engine_symbols(const engine *e, const nncc_rt_tensor *in, bool *bound);
int engine_ninputs(const engine *e);
int engine_noutputs(const engine *e);
const char *engine_input_name(const engine *e, int i);
const char *engine_output_name(const engine *e, int i);
int32_t engine_input_dtype(const engine *e, int i);
/* Dims of input i, -1 where symbolic; rank. */
int engine_input_dims(const engine *e, int i, const int64_t **dims);
/* *out: noutputs tensors owned by the engine until the next run. 0 or an NNCC_RT_E code; message tells. */
int32_t engine_run(engine *e, const nncc_rt_tensor *in, const nncc_rt_tensor **out);
const char *engine_message(engine *e, char *buffer, size_t size_bytes);

/* ---- inputs.c ------------------------------------------------------------------------------------------ */

/* One tensor for each input: from files (PATH or NAME=PATH; .npy .pb .npz; NULL-terminated), else random if
   asked. NULL after printing what is wrong. */
host_tensor *read_inputs(const engine *e, const char *const *files, bool random, uint64_t seed);
void free_inputs(const engine *e, host_tensor *in);

/* ---- machine.c: what this machine can do at most --------------------------------------------------------- */

enum { MACHINE_LEVELS = 4 };
typedef struct machine {
  int threads;
  double gflops;         /* f32, the widest multiply-add */
  struct machine_level { const char *name; double bytes, gb_per_s; } levels[MACHINE_LEVELS]; /* reading: the caches of a core times threads, memory */
} machine;
bool machine_measure(machine *m, int threads, nn_diags *diags); /* takes a third of a second */
/* Reads of a set of so many bytes that is swept again and again. */
double machine_gb_per_s(const machine *m, double bytes);

/* ---- profile.c: where the time of a run goes --------------------------------------------------------------- */

typedef struct step_profile {
  const nn_step *step;
  const char *kernel;    /* or what else it is, in brackets */
  nn_origins nodes;      /* of the ONNX model */
  double us;             /* median */
  double busy;           /* share of the threads' time that they had work */
  double flops;
  double weight_bytes, value_bytes; /* that it must read and write at least */
  double limit_us;       /* the least that this machine needs for these */
} step_profile;

typedef struct span { int64_t first, last; } span; /* nanoseconds; last 0: nothing was done */

typedef struct profile_run {
  int64_t *ends;         /* start, then the end of each step; nanoseconds */
  span *workers;         /* [step][worker]: from its first task to its last */
} profile_run;

typedef struct profile {
  nn_step_hook hook;     /* data is the profile */
  int threads;
  machine machine;
  const nn_program *program;
  int nsteps;
  step_profile *steps, **order; /* order: slowest first */
  double us;             /* sum of the medians */
  profile_run now, best; /* best: the fastest that counts */
  int64_t *worked;       /* by worker: in tasks of the step at hand */
  int64_t in_parallel;   /* of the step at hand */
  int step;              /* at hand */
  float *sample, *samples; /* us, busy of each step: now; of all runs that count */
  int nsamples, samples_cap;
  int64_t *symbols;      /* as the last run bound them */
  void (*parallel_for)(nncc_rt_ctx *self, int64_t ntasks, nncc_rt_task *fn, void *arg); /* the session's own */
  void (*parallel_steps)(nncc_rt_ctx *self, int64_t nsteps, int64_t ntasks, nncc_rt_task *fn, void *arg);
} profile;

void profile_init(profile *p, int threads);
void profile_free(profile *p);
void profile_open(profile *p, engine *e);                 /* before the first run */
void profile_take(profile *p);                            /* after a run that counts */
void profile_finish(profile *p, nn_arena *arena);         /* medians, operations and bytes, what the machine could do */

double step_share(const profile *p, const step_profile *s); /* of the time of a run */
double step_gflops(const step_profile *s);
double step_gb_per_s(const step_profile *s);
double step_roof(const step_profile *s);                  /* share of what the machine could do; above 1 where a schedule does less than was counted */

/* What a report says of the whole. */
typedef struct bench_result {
  const char *model;
  int threads, runs;
  double compile_ms, median_ms, min_ms, gflop, peak_mb;
} bench_result;

/* profile_text.c, profile_html.c */
struct cJSON;
void profile_print(FILE *out, const profile *p);          /* table, slowest first */
void profile_add_json(struct cJSON *root, const profile *p);
char *profile_trace(const profile *p);                    /* of the best run, for chrome://tracing and Perfetto; malloced */
char *profile_html(const profile *p, const bench_result *r);

/* ---- verbs ------------------------------------------------------------------------------------------------ */

int verb_compile(int argc, const char **argv);
int verb_run(int argc, const char **argv);
int verb_test(int argc, const char **argv);
int verb_tune(int argc, const char **argv);
int verb_bench(int argc, const char **argv);
int verb_check(int argc, const char **argv);
int verb_inspect(int argc, const char **argv);
int verb_opt(int argc, const char **argv);

#endif
