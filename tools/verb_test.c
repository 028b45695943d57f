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
} test_args;

typedef enum verdict { PASSED, FAILED, SKIPPED } verdict;

typedef struct result {
  verdict verdict;
  double worst;    /* error in units of the tolerance */
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

static int compare_names(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static void find_cases(const char *dir, int depth, strings *cases) {
  char *model = join(dir, "model.onnx");
  bool is_case = exists(model);
  free(model);
  if (is_case) {
    strings_add(cases, strdup(dir));
    return;
  }
  DIR *d = depth > 0 ? opendir(dir) : NULL;
  strings names = {0};
  for (struct dirent *entry; d && (entry = readdir(d));)
    if (entry->d_name[0] != '.') strings_add(&names, strdup(entry->d_name));
  if (d) closedir(d);
  if (names.count) qsort(names.items, (size_t)names.count, sizeof *names.items, compare_names);
  for (int i = 0; i < names.count; i++) {
    char *child = join(dir, names.items[i]);
    struct stat st;
    if (stat(child, &st) == 0 && S_ISDIR(st.st_mode)) find_cases(child, depth - 1, cases);
    free(child);
    free((void *)names.items[i]);
  }
  free(names.items);
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
      snprintf(line, sizeof line, "%s%s%s: %s", d->op ? d->op : "", d->node ? " " : "", d->node ? d->node : "", d->message);
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
    if (!ok) return NULL;
  }
  return tensors;
}

static bool compare_outputs(engine *e, const nncc_rt_tensor *out, host_tensor *expected, double rtol, double atol, result *r) {
  for (int i = 0; i < engine_noutputs(e); i++) {
    retag_bits(&expected[i].t, out[i].dtype);
    difference d = host_tensor_compare(&out[i], &expected[i].t, rtol, atol);
    if (d.worst > r->worst) r->worst = d.worst;
    if (d.max_abs > r->max_abs) r->max_abs = d.max_abs;
    if (d.same) continue;
    r->verdict = FAILED;
    snprintf(r->text, sizeof r->text, "output '%.100s': %s", engine_output_name(e, i), d.text);
    return false;
  }
  return true;
}

static bool run_set(engine *e, const char *dir, double rtol, double atol, result *r) {
  int nin = engine_ninputs(e);
  host_tensor *in = read_set(dir, "input", nin, r), *expected = in ? read_set(dir, "output", engine_noutputs(e), r) : NULL;
  if (!expected) return false;
  nncc_rt_tensor *views = calloc((size_t)nin + 1, sizeof *views);
  for (int i = 0; i < nin; i++) {
    retag_bits(&in[i].t, engine_input_dtype(e, i));
    views[i] = in[i].t;
  }
  const nncc_rt_tensor *out = NULL;
  int32_t error = engine_run(e, views, &out);
  if (error) {
    char text[256];
    r->verdict = FAILED;
    snprintf(r->text, sizeof r->text, "run failed: %s", engine_message(e, text, sizeof text));
    return false;
  }
  return compare_outputs(e, out, expected, rtol, atol, r);
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
    e = engine_open(model, a->interp ? ENGINE_INTERP : a->aot ? ENGINE_AOT : ENGINE_JIT, (int)a->threads, (int)a->level);
  free(path);
  if (e) run_sets(e, dir, r);
  else judge_diagnostics(r, model);
  engine_close(e);
  nncc_model_free(model);
}

/* ---- processes ------------------------------------------------------------------------------------------------- */

typedef struct child {
  pid_t pid;
  int fd;
  int index;      /* of the case */
  double start_ms;
} child;

static child start_case(const char *dir, int index, const test_args *a) {
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
    run_case(dir, a, &r);
    ssize_t n = write(fds[1], &r, sizeof r);
    _exit(n == (ssize_t)sizeof r ? 0 : 70);
  }
  close(fds[1]);
  return (child){pid, fds[0], index, now_ms()};
}

static void finish_case(const child *c, result *r) {
  int status = 0;
  ssize_t n = read(c->fd, r, sizeof *r);
  close(c->fd);
  while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR) {}
  if (n == (ssize_t)sizeof *r) return;
  memset(r, 0, sizeof *r);
  r->verdict = FAILED;
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) snprintf(r->text, sizeof r->text, "TIMEOUT");
  else if (WIFSIGNALED(status)) snprintf(r->text, sizeof r->text, "CRASH: %s", strsignal(WTERMSIG(status)));
  else snprintf(r->text, sizeof r->text, "CRASH: exit status %d", WEXITSTATUS(status));
}

static void print_result(const char *dir, const result *r) {
  static const char *const names[] = {"passed ", "FAILED ", "skipped"};
  const char *name = strrchr(dir, '/') ? strrchr(dir, '/') + 1 : dir;
  if (r->verdict == PASSED) printf("%s %-60s error %.2g (%.2g of tolerance)\n", names[r->verdict], name, r->max_abs, r->worst);
  else printf("%s %-60s %s\n", names[r->verdict], name, r->text);
  fflush(stdout);
}

/* Index of a running child whose pipe has news. */
static int wait_any(const child *running, int n) {
  struct pollfd fds[64];
  for (int i = 0; i < n; i++) fds[i] = (struct pollfd){running[i].fd, POLLIN, 0};
  while (poll(fds, (nfds_t)n, -1) < 0 && errno == EINTR) {}
  for (int i = 0; i < n; i++)
    if (fds[i].revents) return i;
  return 0;
}

/* Runs all cases, `jobs` at once, printing in order. */
static void run_cases(const strings *cases, const test_args *a, int counts[3]) {
  result *results = calloc((size_t)cases->count + 1, sizeof *results);
  bool *done = calloc((size_t)cases->count + 1, sizeof *done);
  child running[64];
  int nrunning = 0, next = 0, printed = 0;
  while (results && done && printed < cases->count) {
    while (nrunning < a->jobs && next < cases->count) {
      running[nrunning++] = start_case(cases->items[next], next, a);
      next++;
    }
    int i = wait_any(running, nrunning);
    finish_case(&running[i], &results[running[i].index]);
    done[running[i].index] = true;
    running[i] = running[--nrunning];
    for (; printed < cases->count && done[printed]; printed++) {
      print_result(cases->items[printed], &results[printed]);
      counts[results[printed].verdict]++;
    }
  }
  free(results);
  free(done);
}

static void filter_cases(strings *cases, const char *filter) {
  int kept = 0;
  for (int i = 0; i < cases->count; i++)
    if (!filter || strstr(cases->items[i], filter)) cases->items[kept++] = cases->items[i];
  cases->count = kept;
}

static bool read_numbers(const char *threads, const char *jobs, const char *timeout, test_args *a) {
  if (parse_int(threads, 1, 256, &a->threads) == 0 && parse_int(jobs, 1, 64, &a->jobs) == 0 && parse_int(timeout, 1, 100000, &a->timeout_s) == 0)
    return true;
  fprintf(stderr, "nncc test: --threads, --jobs and --timeout take positive numbers\n");
  return false;
}

int verb_test(int argc, const char **argv) {
  test_args a = {.level = -1};
  const char *threads = "1", *jobs = "2", *timeout = "600";
  strings rest = {0}, cases = {0};
  const struct poptOption table[] = {
      {"aot", 0, POPT_ARG_NONE, &a.aot, 0, "through object, linker and dlopen instead of the JIT", NULL},
      {"interp", 0, POPT_ARG_NONE, &a.interp, 0, "by the loop interpreter", NULL},
      {"filter", 0, POPT_ARG_STRING, &a.filter, 0, "only cases whose path contains this", "TEXT"},
      {"threads", 0, POPT_ARG_STRING, &threads, 0, "threads of a run (default 1)", "N"},
      {"jobs", 'j', POPT_ARG_STRING, &jobs, 0, "cases at once (default 2)", "N"},
      {"timeout", 0, POPT_ARG_STRING, &timeout, 0, "seconds for one case (default 600)", "S"},
      {"verbose", 'v', POPT_ARG_NONE, &a.verbose, 0, "show what the cases write to stderr", NULL},
      POPT_TABLEEND};
  if (!parse_args(argc, argv, table, "DIR... [options]", &rest, NULL, NULL) || !read_numbers(threads, jobs, timeout, &a)) return EXIT_USAGE;
  for (int i = 0; i < rest.count; i++) find_cases(rest.items[i], 3, &cases);
  filter_cases(&cases, a.filter);
  if (cases.count == 0) {
    fprintf(stderr, "nncc test: no case (a folder with model.onnx) found\n");
    return EXIT_USAGE;
  }
  int counts[3] = {0};
  run_cases(&cases, &a, counts);
  printf("%d passed, %d failed, %d skipped\n", counts[PASSED], counts[FAILED], counts[SKIPPED]);
  return counts[FAILED] ? EXIT_FAILED : EXIT_OK;
}
