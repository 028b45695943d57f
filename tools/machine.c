/* What this machine can do at most, measured: multiply-adds of the widest vectors with everything in registers, and
   reads of sets that lie in each level of memory. Both are kernels in loop IR, compiled like those of a model. */
#include "tools/tools.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  ATTEMPTS = 8, /* at least; and for so many milliseconds, since other programs may hold a core for a while */
  ATTEMPTS_MS = 40,
  FMA_STEPS = 20000,    /* multiply-adds of each accumulator in an attempt */
  READ_STREAMS = 16,    /* vectors that one step reads */
  READ_BYTES = 32 << 20 /* at least so much is read in an attempt */
};
static const double memory_bytes = 256e6; /* more than any cache of a core's share */

/* Two registers hold the factors; more accumulators than latency times pipes, if the registers are enough. */
static int accumulators(const nn_target *t) { return t->vector_registers > 16 ? 24 : t->vector_registers - 4; }

static char *fma_text(nn_arena *arena, const nn_target *t, int threads) {
  int lanes = nn_target_lanes(t, NN_F32), count = accumulators(t);
  return nn_sprintf(
      arena,
      "kernel @peak_fma {\n  param %%x : f32[%d]\n  out %%y : f32[%d]\n"
      "  reg %%a : f32[%d]\n  reg %%f : f32[%d]\n"
      "  parallel %%t in 0..%d {\n"
      "    vector %%l in 0..%d {\n      %%f[%%l] = %%x[%%l]\n    }\n"
      "    unroll %%i in 0..%d { \n      vector %%m in 0..%d {\n        %%a[%%i*%d + %%m] = 0.0\n      }\n    }\n"
      "    for %%k in 0..%d {\n      unroll %%j in 0..%d {\n        vector %%n in 0..%d {\n"
      "          %%a[%%j*%d + %%n] = fma(%%a[%%j*%d + %%n], %%f[%%n], %%f[%%n])\n        }\n      }\n    }\n"
      "    unroll %%o in 0..%d {\n      vector %%p in 0..%d {\n        %%y[%%t*%d + %%o*%d + %%p] = %%a[%%o*%d + "
      "%%p]\n      }\n    }\n"
      "  }\n}\n",
      lanes, threads * count * lanes, count * lanes, lanes, threads, lanes, count, lanes, lanes, FMA_STEPS, count,
      lanes, lanes, lanes, count, lanes, count * lanes, lanes, lanes);
}

/* Each thread sums its own `steps` times READ_STREAMS vectors, `sweeps` times. */
static char *read_text(nn_arena *arena, const nn_target *t, int threads, int64_t steps, int64_t sweeps) {
  int lanes = nn_target_lanes(t, NN_F32), width = READ_STREAMS * lanes;
  long long share = (long long)steps * width;
  return nn_sprintf(
      arena,
      "kernel @peak_read {\n  param %%x : f32[%lld]\n  out %%y : f32[%d]\n  reg %%a : f32[%d]\n"
      "  parallel %%t in 0..%d {\n"
      "    unroll %%i in 0..%d { \n      vector %%m in 0..%d {\n        %%a[%%i*%d + %%m] = 0.0\n      }\n    }\n"
      "    for %%s in 0..%lld {\n      for %%k in 0..%lld {\n        unroll %%j in 0..%d {\n          vector %%n in "
      "0..%d {\n"
      "            %%a[%%j*%d + %%n] = %%a[%%j*%d + %%n] + %%x[%%t*%lld + %%k*%d + %%j*%d + %%n]\n          }\n        "
      "}\n      }\n    }\n"
      "    unroll %%o in 0..%d {\n      vector %%p in 0..%d {\n        %%y[%%t*%d + %%o*%d + %%p] = %%a[%%o*%d + "
      "%%p]\n      }\n    }\n"
      "  }\n}\n",
      share * threads, threads * width, width, threads, READ_STREAMS, lanes, lanes, (long long)sweeps, (long long)steps,
      READ_STREAMS, lanes, lanes, lanes, share, width, lanes, READ_STREAMS, lanes, width, lanes, lanes);
}

typedef struct bench {
  nn_module *module;
  nn_target target;
  nn_jit *jit;
  nncc_rt_ctx ctx;
  nncc_rt_pool *pool;
  char *x, *y; /* memory_bytes; results */
} bench;

/* Seconds of the fastest attempt; 0 after an error. */
static double time_kernel(bench *b, const char *text) {
  nn_kernel_fn *fn = NULL;
  nn_kernel *k = nn_kernel_parse(b->module, "machine", text, strlen(text));
  if (!k || nn_jit_kernel(b->jit, &b->target, k, &fn) != NN_OK) return 0;
  void *args[] = {b->x, b->y};
  int64_t symbols[1] = {0};
  double best = 0, first = now_ms();
  for (int i = 0; i < ATTEMPTS || now_ms() - first < ATTEMPTS_MS; i++) {
    double start = now_ms();
    if (fn(&b->ctx, args, symbols) != 0) return 0;
    double ms = now_ms() - start;
    if (i == 0 || ms < best) best = ms;
  }
  return best * 1e-3;
}

static double measure_fma(bench *b, int threads) {
  int count = accumulators(&b->target), lanes = nn_target_lanes(&b->target, NN_F32);
  double seconds = time_kernel(b, fma_text(b->module->arena, &b->target, threads));
  return seconds > 0 ? 2.0 * FMA_STEPS * count * lanes * threads / seconds * 1e-9 : 0;
}

/* Of a set of `bytes` for all threads together. */
static double measure_read(bench *b, int threads, double bytes) {
  double step = READ_STREAMS * b->target.vector_bytes;
  int64_t steps = (int64_t)(bytes / threads / step), sweeps = (int64_t)(READ_BYTES / bytes) + 1;
  if (steps < 1) steps = 1;
  double seconds = time_kernel(b, read_text(b->module->arena, &b->target, threads, steps, sweeps));
  return seconds > 0 ? (double)steps * (double)sweeps * step * threads / seconds * 1e-9 : 0;
}

static bool measure(bench *b, machine *m) {
  const struct machine_level levels[MACHINE_LEVELS] = {{"L1", b->target.l1_bytes, 0},
                                                       {"L2", b->target.l2_bytes, 0},
                                                       {"L3", b->target.l3_bytes, 0},
                                                       {"memory", memory_bytes, 0}};
  m->gflops = measure_fma(b, m->threads);
  bool ok = m->gflops > 0;
  for (int i = 0; i < MACHINE_LEVELS && ok; i++) {
    m->levels[i] = levels[i];
    bool is_cache = i + 1 < MACHINE_LEVELS;
    if (is_cache) m->levels[i].bytes *= m->threads;
    if (m->levels[i].bytes <= 0) continue; /* there is no such cache */
    m->levels[i].gb_per_s = measure_read(b, m->threads, is_cache ? m->levels[i].bytes * 0.7 : memory_bytes);
    ok = m->levels[i].gb_per_s > 0;
  }
  return ok;
}

static bool open_bench(bench *b, int threads, nn_diags *diags) {
  b->module = nn_module_new(NULL);
  if (!b->module || nn_target_init(&b->target, NULL, NULL, diags) != NN_OK) return false;
  b->jit = nn_jit_new(diags);
  if (threads > 1) b->pool = nncc_rt_pool_create(threads);
  nncc_rt_ctx_use_pool(&b->ctx, b->pool);
  size_t results = (size_t)threads * 64 * (size_t)b->target.vector_bytes;
  if (posix_memalign((void **)&b->x, 4096, (size_t)memory_bytes) != 0) b->x = NULL;
  if (posix_memalign((void **)&b->y, 4096, results) != 0) b->y = NULL;
  if (b->x) {
    nncc_rt_want_large_pages(b->x, (size_t)memory_bytes); /* or address translation is what is measured */
    memset(b->x, 0, (size_t)memory_bytes);
  }
  return b->jit && b->x && b->y && (threads == 1 || b->pool);
}

bool machine_measure(machine *m, int threads, nn_diags *diags) {
  bench b = {0};
  *m = (machine){.threads = threads};
  bool ok = open_bench(&b, threads, diags) && measure(&b, m);
  free(b.x);
  free(b.y);
  nncc_rt_pool_destroy(b.pool);
  nn_jit_free(b.jit);
  nn_target_free(&b.target);
  nn_module_free(b.module);
  return ok;
}

double machine_gb_per_s(const machine *m, double bytes) {
  for (int i = 0; i + 1 < MACHINE_LEVELS; i++)
    if (m->levels[i].gb_per_s > 0 && bytes <= m->levels[i].bytes) return m->levels[i].gb_per_s;
  return m->levels[MACHINE_LEVELS - 1].gb_per_s;
}
