/* Times single kernels: nncc's shared objects beside OpenBLAS and oneDNN, interleaved in one process, and the machine's
   peak in the same run. kernels.py drives it.

     kernels THREADS WEIGHTS BATCH_MS ROUNDS wall|cpu

   WEIGHTS: a file of f32 numbers, from whose beginning constant operands are taken, here and in the objects. Obeys
   lines on stdin, and answers each with one line:
     machine                     fma GFLOP/s, read GB/s
     case OBJECT KIND n0 n1 ...  "ENGINE median_us min_us" of each engine that has the kernel, and "error E", the worst
                                 max|a-b| / max|b| of nncc's result against the peers' */
#include "kernels.h"
#include "runtime/nncc_rt.h"

#include <cblas.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SAMPLES = 4096, MAX_THREADS = 64, MAX_RANK = 8 };

static _Noreturn void die(const char *what) {
  fprintf(stderr, "kernels: %s\n", what);
  exit(1);
}

static clockid_t the_clock = CLOCK_MONOTONIC; /* set once, by main */

static double now(void) {
  struct timespec t;
  clock_gettime(the_clock, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static float *new_floats(size_t count) {
  float *data = aligned_alloc(4096, (count * sizeof *data + 4095) / 4096 * 4096);
  if (!data) die("out of memory");
  return data;
}

static void fill(float *data, size_t count, uint32_t seed) {
  for (size_t i = 0; i < count; i++) {
    seed = seed * 1664525u + 1013904223u;
    data[i] = (float)(seed >> 8) * 0x1p-23f - 1;
  }
}

/* ---- the machine ------------------------------------------------------------------------------------------ */

#if defined(__AVX512F__)
enum { VECTOR = 64 };
#elif defined(__AVX__)
enum { VECTOR = 32 };
#else
enum { VECTOR = 16 };
#endif
enum { LANES = VECTOR / 4 };
typedef float vec __attribute__((vector_size(VECTOR)));

/* Multiply-adds of registers: GFLOP/s. The barrier keeps the sums in registers. */
#define SUM(i) s##i = s##i * x + y
#define SUMS SUM(0), SUM(1), SUM(2), SUM(3), SUM(4), SUM(5), SUM(6), SUM(7), SUM(8), SUM(9), SUM(10), SUM(11)
static double fma_once(void) {
  vec x = {0}, y = {0}, s0 = {0}, s1 = s0 + 1, s2 = s0 + 2, s3 = s0 + 3, s4 = s0 + 4, s5 = s0 + 5, s6 = s0 + 6,
      s7 = s0 + 7;
  vec s8 = s0 + 8, s9 = s0 + 9, s10 = s0 + 10, s11 = s0 + 11;
  x += 0.999f;
  y += 0.001f;
  __asm__("" : "+x"(x), "+x"(y)); /* known ones would fold one sum away */
  int64_t count = 4000000;
  double start = now();
  for (int64_t i = 0; i < count; i++) {
    SUMS, SUMS;
    __asm__ volatile("" ::: "memory");
  }
  double seconds = now() - start;
  vec all = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11;
  volatile float keep = all[0];
  (void)keep;
  return (double)count * 2 * 12 * 2 * LANES / seconds * 1e-9;
}

typedef struct reader {
  const float *data;
  size_t count;
} reader;

static void *read_all(void *arg) {
  const reader *r = arg;
  vec a = {0}, b = a, c = a, d = a;
  const vec *v = (const vec *)r->data;
  for (size_t i = 0; i < r->count / LANES; i += 4) a += v[i], b += v[i + 1], c += v[i + 2], d += v[i + 3];
  a += b + c + d;
  volatile float keep = a[0];
  (void)keep;
  return NULL;
}

static double read_once(const float *data, size_t count, int threads) {
  pthread_t ids[MAX_THREADS];
  reader parts[MAX_THREADS];
  size_t part = count / (size_t)threads / 1024 * 1024;
  double start = now();
  for (int i = 0; i < threads; i++) {
    parts[i] = (reader){data + part * (size_t)i, part};
    if (i && pthread_create(&ids[i], NULL, read_all, &parts[i])) die("no thread");
  }
  read_all(&parts[0]);
  for (int i = 1; i < threads; i++) pthread_join(ids[i], NULL);
  return (double)part * (double)threads * sizeof(float) / (now() - start) * 1e-9;
}

static void answer_machine(int threads) {
  size_t count = (size_t)64 << 20;
  float *data = new_floats(count);
  fill(data, count, 1);
  double fma = 0, bandwidth = 0;
  for (int i = 0; i < 10; i++) {
    fma = fmax(fma, fma_once());
    bandwidth = fmax(bandwidth, read_once(data, count, threads));
  }
  free(data);
  printf("%.2f %.2f\n", fma * threads, bandwidth);
}

/* ---- engines ---------------------------------------------------------------------------------------------- */

typedef struct bench {
  kernel_case c;
  nncc_rt_session *session;
  nncc_rt_tensor in[4];
  const nncc_rt_tensor *out;
  dnnl_kernel *dnnl;
} bench;

static bool run_nncc(bench *b) { return nncc_rt_session_run(b->session, b->in, &b->out) == 0; }

static bool run_openblas(bench *b) {
  const kernel_case *c = &b->c;
  int m = (int)c->n[0], n = (int)c->n[1], k = (int)c->n[2];
  bool trans_a = c->n[3] != 0, trans_b = c->n[4] != 0;
  cblas_sgemm(CblasRowMajor, trans_a ? CblasTrans : CblasNoTrans, trans_b ? CblasTrans : CblasNoTrans, m, n, k, 1, c->in[0],
              trans_a ? m : k, c->in[1], trans_b ? k : n, 0, c->out, n);
  return true;
}

static bool run_dnnl(bench *b) {
  dnnl_kernel_run(b->dnnl);
  return true;
}

static bool has_nncc(const bench *b) { return b->session != NULL; }
static bool has_openblas(const bench *b) { return strcmp(b->c.kind, "gemm") == 0 || strcmp(b->c.kind, "packed") == 0; }
static bool has_dnnl(const bench *b) { return b->dnnl != NULL; }

typedef struct engine {
  const char *name;
  bool (*has)(const bench *b);
  bool (*run)(bench *b);
} engine;

static const engine engines[] = {
    {"nncc", has_nncc, run_nncc}, {"openblas", has_openblas, run_openblas}, {"onednn", has_dnnl, run_dnnl}};
enum { ENGINES = sizeof engines / sizeof engines[0] };

/* ---- one case --------------------------------------------------------------------------------------------- */

static size_t count_of(const nncc_rt_io *io) {
  size_t count = 1;
  for (int i = 0; i < io->rank; i++) count *= (size_t)io->dims[i];
  return count;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Sets the samples' count; each is one call, or the mean of many short ones. */
static void time_case(bench *b, double batch_s, int rounds) {
  static double samples[ENGINES][MAX_SAMPLES];
  int nsamples[ENGINES] = {0}, calls[ENGINES], batches[ENGINES];
  for (int e = 0; e < ENGINES; e++) {
    if (!engines[e].has(b)) continue;
    if (!engines[e].run(b)) die("a run failed");
    double start = now();
    engines[e].run(b);
    double once = now() - start;
    calls[e] = once < 20e-6 ? (int)(20e-6 / once) + 1 : 1;
    batches[e] = (int)fmin(fmax(batch_s / (once * calls[e]), 1), MAX_SAMPLES / rounds);
  }
  for (int r = 0; r < rounds; r++)
    for (int e = 0; e < ENGINES; e++) {
      if (!engines[e].has(b)) continue;
      engines[e].run(b); /* the caches are its own */
      for (int i = 0; i < batches[e]; i++) {
        double start = now();
        for (int j = 0; j < calls[e]; j++) engines[e].run(b);
        samples[e][nsamples[e]++] = (now() - start) / calls[e];
      }
    }
  for (int e = 0; e < ENGINES; e++) {
    if (!nsamples[e]) continue;
    qsort(samples[e], (size_t)nsamples[e], sizeof(double), compare);
    printf("%s %.3f %.3f ", engines[e].name, samples[e][nsamples[e] / 2] * 1e6, samples[e][0] * 1e6);
  }
}

static double error_of(const bench *b, size_t count) {
  const float *found = b->out[0].data, *expected = b->c.out;
  double worst = 0, largest = 0;
  for (size_t i = 0; i < count; i++) {
    worst = fmax(worst, fabs((double)found[i] - (double)expected[i]));
    largest = fmax(largest, fabs((double)expected[i]));
  }
  return largest > 0 ? worst / largest : worst;
}

static double compare_peers(bench *b, size_t count) {
  double worst = 0;
  for (int e = 1; e < ENGINES; e++) {
    if (!engines[e].has(b)) continue;
    memset(b->c.out, 0, count * sizeof(float));
    engines[e].run(b);
    if (engines[e].run == run_dnnl) dnnl_kernel_finish(b->dnnl);
    worst = fmax(worst, error_of(b, count));
  }
  return worst;
}

static void answer_case(char *line, int threads, const float *weights, double batch_s, int rounds) {
  bench b = {0};
  nncc_rt_library *library = NULL;
  const nncc_rt_model *model;
  char *path = strtok(line, " "), *kind = strtok(NULL, " ");
  if (!kind || strlen(kind) >= sizeof b.c.kind) die("expected case OBJECT KIND n0 n1 ...");
  strcpy(b.c.kind, kind);
  int n = 0;
  for (char *word; n < KERNEL_MAX_ARGS && (word = strtok(NULL, " "));) b.c.n[n++] = atoll(word);
  if (nncc_rt_library_open(path, "kernel", &library, &model) || model->ninputs > 4) die("cannot open the object");
  if (nncc_rt_session_create(model, NULL, threads, &b.session)) die("cannot prepare the object");
  for (int i = 0; i < model->ninputs; i++) {
    size_t count = count_of(&model->inputs[i]);
    float *data = new_floats(count);
    fill(data, count, (uint32_t)i + 7);
    b.in[i] = (nncc_rt_tensor){data, (int64_t *)(uintptr_t)model->inputs[i].dims, model->inputs[i].dtype,
                               model->inputs[i].rank};
    if (i < 2) b.c.in[i] = data;
  }
  if (model->ninputs < 2) b.c.in[1] = weights;
  size_t results = count_of(&model->outputs[0]);
  b.c.out = new_floats(results);
  b.dnnl = dnnl_kernel_new(&b.c);
  time_case(&b, batch_s, rounds);
  printf("error %.2e\n", compare_peers(&b, results));
  dnnl_kernel_free(b.dnnl);
  for (int i = 0; i < model->ninputs; i++) free(b.in[i].data);
  free(b.c.out);
  nncc_rt_session_destroy(b.session);
  nncc_rt_library_close(library);
}

static const float *map_weights(const char *path) {
  struct stat st;
  int file = open(path, O_RDONLY);
  if (file < 0 || fstat(file, &st) != 0) die("cannot open the weights");
  const float *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, file, 0);
  if (data == MAP_FAILED) die("cannot map the weights");
  close(file);
  return data;
}

int main(int argc, char **argv) {
  if (argc != 6) die("usage: kernels THREADS WEIGHTS BATCH_MS ROUNDS wall|cpu");
  if (strcmp(argv[5], "cpu") == 0) the_clock = CLOCK_PROCESS_CPUTIME_ID;
  int threads = atoi(argv[1]), rounds = atoi(argv[4]);
  if (threads < 1 || threads > MAX_THREADS || rounds < 1) die("THREADS or ROUNDS out of range");
  const float *weights = map_weights(argv[2]);
  char line[4096];
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = 0;
    if (strcmp(line, "machine") == 0)
      answer_machine(threads);
    else if (strncmp(line, "case ", 5) == 0)
      answer_case(line + 5, threads, weights, atof(argv[3]) * 1e-3, rounds);
    else
      die("expected machine or case");
    fflush(stdout);
  }
  return 0;
}
