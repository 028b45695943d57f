/* nncc test DIR...: runs ONNX test-case folders (model.onnx, test_data_set_K/input_N.pb, output_N.pb).
   Each case runs in a process of its own, so that a crash or a hang of one is reported as its result. */
#include "tools/tools.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct test_args {
  int aot, interp, verbose;
  long threads, jobs, timeout_s, level;
  const char *filter;
  code_args code;
  bool bad;
} test_args;

enum { OPT_THREADS = OPT_OF_VERB, OPT_JOBS, OPT_TIMEOUT };

typedef enum verdict { PASSED, FAILED, SKIPPED } verdict;

typedef struct result {
  verdict verdict;
  double worst; /* error in units of the tolerance */
  double max_abs;
  char text[400];
} result;

/* ---- finding cases ---------------------------------------------------------------------------------------- */

static bool exists(const char *path) {
  struct stat st;
  return stat(path, &st) == 0;
}

static char *join(const char *a, const char *b) {
  size_t n = strlen(a) + strlen(b) + 2;
  char *path = malloc(n);
  if (!path) exit(70);
  snprintf(path, n, "%s/%s", a, b);
  return path;
}

static int compare_names(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void find_cases(const char *dir, int depth, strings *cases) {
  char *model = join(dir, "model.onnx");
  bool is_case = exists(model);
  free(model);
  if (is_case) {
    strings_add(cases, dir);
    return;
  }
  DIR *d = depth > 0 ? opendir(dir) : NULL;
  strings names = {0};
  for (struct dirent *entry; d && (entry = readdir(d));)
    if (entry->d_name[0] != '.') strings_add(&names, entry->d_name);
  if (d) closedir(d);
  if (names.count) qsort(names.items, (size_t)names.count, sizeof *names.items, compare_names);
  for (int i = 0; i < names.count; i++) {
    char *child = join(dir, names.items[i]);
    struct stat st;
    if (stat(child, &st) == 0 && S_ISDIR(st.st_mode)) find_cases(child, depth - 1, cases);
    free(child);
  }
  strings_free(&names);
}

/* ---- one case ------------------------------------------------------------------------------------------------ */

static double json_number(const cJSON *root, const char *key, double fallback) {
  const cJSON *item = cJSON_GetObjectItem(root, key);
  return cJSON_IsNumber(item) ? item->valuedouble : fallback;
}

static void read_tolerance(const char *dir, double *rtol, double *atol) {
  *rtol = 1e-3;
  *atol = 1e-7;
  char *path = join(dir, "data.json"), text[4096];
  FILE *f = fopen(path, "r");
  free(path);
  if (!f) return;
  size_t n = fread(text, 1, sizeof text - 1, f);
  fclose(f);
  text[n] = 0;
  cJSON *root = cJSON_Parse(text);
  *rtol = json_number(root, "rtol", *rtol);
  *atol = json_number(root, "atol", *atol);
  cJSON_Delete(root);
}

static void copy_text(result *r, const char *text) {
  size_t n = strcspn(text, "\n");
  snprintf(r->text, sizeof r->text, "%.*s", (int)n, text);
}

/* A model that nncc does not support is skipped, with the reason; anything else that stops it is a failure. */
static void judge_diagnostics(result *r, const nncc_model *model) {
  const nn_diags *diags = &model->module->diags;
  r->verdict = FAILED;
  int unsupported = 0;
  for (int i = 0; i < diags->count; i++) {
    const nn_diag *d = &diags->items[i];
    if (d->severity != NN_ERROR) continue;
    if (unsupported++ == 0) {
      char line[400];
      snprintf(line, sizeof line, "%s%s%s: %s", d->op ? d->op : "", d->node ? " " : "", d->node ? d->node : "",
               d->message);
      copy_text(r, line);
    }
    if (strstr(d->message, "unsupported")) r->verdict = SKIPPED;
  }
  if (!unsupported) copy_text(r, "failed without a diagnostic");
}

/* The official data hold types that numpy lacks as the bits: bfloat16 in uint16, float8 in uint8. */
static void retag_bits(nncc_rt_tensor *t, int32_t dtype) {
  nn_dtype found, wanted;
  if (t->dtype == dtype || !host_tensor_dtype(t, &found) || !nn_dtype_from_onnx(dtype, &wanted)) return;
  bool is_bits = found == NN_U16 || found == NN_U8;
  bool is_exotic = wanted == NN_BF16 || (wanted >= NN_F8E4M3FN && wanted <= NN_F8E8M0);
  if (is_bits && is_exotic && nn_dtype_bits(found) == nn_dtype_bits(wanted)) t->dtype = dtype;
}

static void free_set(host_tensor *tensors, int count) {
  for (int i = 0; tensors && i < count; i++) host_tensor_free(&tensors[i]);
  free(tensors);
}

/* NULL: r says why. */
static host_tensor *read_set(const char *dir, const char *kind, int count, result *r) {
  host_tensor *tensors = calloc((size_t)count + 1, sizeof *tensors);
  for (int i = 0; tensors && i < count; i++) {
    char name[64];
    snprintf(name, sizeof name, "%s_%d.pb", kind, i);
    char *path = join(dir, name);
    bool ok = exists(path) && host_tensor_read(path, &tensors[i]);
    if (!ok) {
      r->verdict = FAILED;
      snprintf(r->text, sizeof r->text, "%.300s cannot be read", path);
    }
    free(path);
    if (ok) continue;
    free_set(tensors, count);
    return NULL;
  }
  return tensors;
}

static void compare_outputs(engine *e, const nncc_rt_tensor *out, host_tensor *expected, double rtol, double atol,
                            result *r) {
  for (int i = 0; i < engine_noutputs(e); i++) {
    retag_bits(&expected[i].t, out[i].dtype);
    difference d = host_tensor_compare(&out[i], &expected[i].t, rtol, atol);
    if (d.worst > r->worst) r->worst = d.worst;
    if (d.max_abs > r->max_abs) r->max_abs = d.max_abs;
    if (d.same) continue;
    r->verdict = FAILED;
    snprintf(r->text, sizeof r->text, "output '%.100s': %s", engine_output_name(e, i), d.text);
    return;
  }
}

static bool fits(const nncc_rt_tensor *t, int32_t dtype, int rank, const int64_t *dims) {
  bool ok = t->dtype == dtype && t->rank == rank;
  for (int d = 0; d < rank && ok; d++) ok = dims[d] < 0 || dims[d] == t->dims[d]; /* negative: open */
  return ok;
}

/* Whether the case's inputs are of the types that its own model declares. Others say nothing about nncc, and no runtime
   takes them: the case is skipped. */
static bool is_fair(const engine *e, const nncc_rt_tensor *in, result *r) {
  for (int i = 0; i < engine_ninputs(e); i++) {
    const int64_t *dims;
    int rank = engine_input_dims(e, i, &dims);
    if (fits(&in[i], engine_input_dtype(e, i), rank, dims)) continue;
    r->verdict = SKIPPED;
    snprintf(r->text, sizeof r->text, "faulty case: the data of input '%.100s' are not of the type that the model declares", engine_input_name(e, i));
    return false;
  }
  return true;
}

static void run_and_compare(engine *e, host_tensor *in, host_tensor *expected, double rtol, double atol, result *r) {
  int nin = engine_ninputs(e);
  nncc_rt_tensor *views = calloc((size_t)nin + 1, sizeof *views);
  if (!views) exit(70);
  for (int i = 0; i < nin; i++) {
    retag_bits(&in[i].t, engine_input_dtype(e, i));
    views[i] = in[i].t;
  }
  const nncc_rt_tensor *out = NULL;
  bool fair = is_fair(e, views, r);
  if (fair && engine_run(e, views, &out)) {
    char text[256];
    r->verdict = FAILED;
    snprintf(r->text, sizeof r->text, "run failed: %s", engine_message(e, text, sizeof text));
  } else if (fair) {
    compare_outputs(e, out, expected, rtol, atol, r);
  }
  free(views);
}

static bool run_set(engine *e, const char *dir, double rtol, double atol, result *r) {
  int nin = engine_ninputs(e), nout = engine_noutputs(e);
  host_tensor *in = read_set(dir, "input", nin, r), *expected = in ? read_set(dir, "output", nout, r) : NULL;
  if (expected) run_and_compare(e, in, expected, rtol, atol, r);
  free_set(in, nin);
  free_set(expected, nout);
  return r->verdict == PASSED;
}

static void run_sets(engine *e, const char *dir, result *r) {
  double rtol, atol;
  read_tolerance(dir, &rtol, &atol);
  int nsets = 0;
  for (int k = 0;; k++) {
    char name[64];
    snprintf(name, sizeof name, "test_data_set_%d", k);
    char *set = join(dir, name);
    bool more = exists(set);
    bool ok = more && run_set(e, set, rtol, atol, r);
    free(set);
    if (!more) break;
    nsets++;
    if (!ok) return;
  }
  if (nsets == 0) {
    r->verdict = FAILED;
    copy_text(r, "no test_data_set_0");
  }
}

static void run_case(const char *dir, const test_args *a, result *r) {
  char *path = join(dir, "model.onnx");
  nncc_model *model = NULL;
  engine *e = NULL;
  if (nncc_model_load(path, NULL, &model) == NNCC_OK)
    e = engine_open(model, &(engine_options){.kind = a->interp ? ENGINE_INTERP : a->aot ? ENGINE_AOT : ENGINE_JIT,
                                             .threads = (int)a->threads,
                                             .level = (int)a->level,
                                             .code = &a->code});
  free(path);
  if (e)
    run_sets(e, dir, r);
  else
    judge_diagnostics(r, model);
  engine_close(e);
  nncc_model_free(model);
}

/* ---- processes ------------------------------------------------------------------------------------------------- */

typedef struct child {
  pid_t pid;
  int fd;
  int index; /* of the case */
  double start_ms;
} child;

typedef struct suite {
  strings cases;   /* folders */
  result *results; /* per case */
  bool *done;
} suite;

static void free_suite(suite *s) {
  strings_free(&s->cases);
  free(s->results);
  free(s->done);
}

static child start_case(suite *s, int index, const test_args *a) {
  int fds[2];
  if (pipe(fds) != 0) exit(70);
  fflush(stdout);
  pid_t pid = fork();
  if (pid < 0) exit(70);
  if (pid == 0) {
    close(fds[0]);
    if (!a->verbose && !freopen("/dev/null", "w", stderr)) _exit(70);
    alarm((unsigned)a->timeout_s);
    result r = {.verdict = PASSED};
    char *dir = strdup(s->cases.items[index]);
    free_suite(s); /* the parent's: a leak checker would take it for lost */
    run_case(dir, a, &r);
    free(dir);
    ssize_t n = write(fds[1], &r, sizeof r);
    exit(n == (ssize_t)sizeof r ? 0 : 70); /* not _exit: what watches for leaks works at exit */
  }
  close(fds[1]);
  return (child){pid, fds[0], index, now_ms()};
}

static void finish_case(const child *c, result *r) {
  int status = 0;
  ssize_t n = read(c->fd, r, sizeof *r);
  close(c->fd);
  while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (n == (ssize_t)sizeof *r && WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  memset(r, 0, sizeof *r);
  r->verdict = FAILED;
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
    snprintf(r->text, sizeof r->text, "TIMEOUT");
  else if (WIFSIGNALED(status))
    snprintf(r->text, sizeof r->text, "CRASH: %s", strsignal(WTERMSIG(status)));
  else
    snprintf(r->text, sizeof r->text, "CRASH: exit status %d", WEXITSTATUS(status));
}

static void print_result(const char *dir, const result *r) {
  static const char *const names[] = {"passed ", "FAILED ", "skipped"};
  const char *name = strrchr(dir, '/') ? strrchr(dir, '/') + 1 : dir;
  if (r->verdict == PASSED)
    printf("%s %-60s error %.2g (%.2g of tolerance)\n", names[r->verdict], name, r->max_abs, r->worst);
  else
    printf("%s %-60s %s\n", names[r->verdict], name, r->text);
  fflush(stdout);
}

/* Index of a running child whose pipe has news. */
static int wait_any(const child *running, int n) {
  struct pollfd fds[64];
  for (int i = 0; i < n; i++) fds[i] = (struct pollfd){running[i].fd, POLLIN, 0};
  while (poll(fds, (nfds_t)n, -1) < 0 && errno == EINTR) {
  }
  for (int i = 0; i < n; i++)
    if (fds[i].revents) return i;
  return 0;
}

/* Prints the results from `printed` on that are there; how many are printed then. */
static int print_results(const suite *s, int printed, int counts[3]) {
  for (; printed < s->cases.count && s->done[printed]; printed++) {
    print_result(s->cases.items[printed], &s->results[printed]);
    counts[s->results[printed].verdict]++;
  }
  return printed;
}

/* Runs all cases, `jobs` at once, printing in order. */
static void run_cases(suite *s, const test_args *a, int counts[3]) {
  s->results = calloc((size_t)s->cases.count + 1, sizeof *s->results);
  s->done = calloc((size_t)s->cases.count + 1, sizeof *s->done);
  if (!s->results || !s->done) exit(70);
  child running[64];
  int nrunning = 0, next = 0, printed = 0;
  while (printed < s->cases.count) {
    while (nrunning < a->jobs && next < s->cases.count) running[nrunning++] = start_case(s, next++, a);
    int i = wait_any(running, nrunning);
    finish_case(&running[i], &s->results[running[i].index]);
    s->done[running[i].index] = true;
    running[i] = running[--nrunning];
    printed = print_results(s, printed, counts);
  }
}

static void filter_cases(strings *cases, const char *filter) {
  int kept = 0;
  for (int i = 0; i < cases->count; i++)
    if (!filter || strstr(cases->items[i], filter))
      cases->items[kept++] = cases->items[i];
    else
      free(cases->items[i]);
  cases->count = kept;
}

static void on_option(void *data, int option, const char *value) {
  test_args *a = data;
  code_take(&a->code, "test", option, value);
  if (option == OPT_THREADS) a->bad |= parse_int(value, 1, 256, &a->threads) != 0;
  if (option == OPT_JOBS) a->bad |= parse_int(value, 1, 64, &a->jobs) != 0;
  if (option == OPT_TIMEOUT) a->bad |= parse_int(value, 1, 100000, &a->timeout_s) != 0;
}

static int test(const strings *dirs, const test_args *a) {
  suite s = {0};
  for (int i = 0; i < dirs->count; i++) find_cases(dirs->items[i], 3, &s.cases);
  filter_cases(&s.cases, a->filter);
  int counts[3] = {0}, ncases = s.cases.count;
  if (ncases == 0) fprintf(stderr, "nncc test: no case (a folder with model.onnx) found\n");
  run_cases(&s, a, counts);
  free_suite(&s);
  if (ncases == 0) return EXIT_USAGE;
  printf("%d passed, %d failed, %d skipped\n", counts[PASSED], counts[FAILED], counts[SKIPPED]);
  return counts[FAILED] ? EXIT_FAILED : EXIT_OK;
}

int verb_test(int argc, const char **argv) {
  test_args a = {.level = -1, .threads = 1, .jobs = 2, .timeout_s = 600};
  strings rest = {0};
  const struct poptOption table[] = {
      {"aot", 0, POPT_ARG_NONE, &a.aot, 0, "through object, linker and dlopen instead of the JIT", NULL},
      {"interp", 0, POPT_ARG_NONE, &a.interp, 0, "by the loop interpreter", NULL},
      CODE_OPTIONS,
      {"filter", 0, POPT_ARG_STRING, &a.filter, 0, "only cases whose path contains this", "TEXT"},
      {"threads", 0, POPT_ARG_STRING, NULL, OPT_THREADS, "threads of a run (default 1)", "N"},
      {"jobs", 'j', POPT_ARG_STRING, NULL, OPT_JOBS, "cases at once (default 2)", "N"},
      {"timeout", 0, POPT_ARG_STRING, NULL, OPT_TIMEOUT, "seconds for one case (default 600)", "S"},
      {"verbose", 'v', POPT_ARG_NONE, &a.verbose, 0, "show what the cases write to stderr", NULL},
      POPT_TABLEEND};
  int code = EXIT_USAGE;
  bool ok = parse_args(argc, argv, table, "DIR... [options]", &rest, on_option, &a);
  if (ok && a.bad)
    fprintf(stderr, "nncc test: --threads, --jobs and --timeout take positive numbers\n");
  else if (ok && !a.code.bad)
    code = test(&rest, &a);
  free_option_texts(table);
  code_free(&a.code);
  strings_free(&rest);
  return code;
}
