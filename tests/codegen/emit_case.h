/* One kernel run by the loop interpreter and as machine code: every buffer must come out the same, bit for
   bit, but for which NaN a NaN is. */
#ifndef TEST_EMIT_CASE_H
#define TEST_EMIT_CASE_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/codegen.h"

enum { EMIT_BUFS = 96, EMIT_WORKERS = 3, EMIT_SYMBOLS = 8 };

typedef struct emit_case {
  nn_module *m;
  nn_kernel *k;
  nn_target target;
  nn_jit *jit;
  void *data[EMIT_BUFS]; /* initial contents of params and temporaries, in order */
  size_t bytes[EMIT_BUFS];
  int64_t symbols[EMIT_SYMBOLS];
  uint64_t random;
  int code; /* what the run gave */
  int64_t found, expected;
} emit_case;

static inline uint64_t emit_random(emit_case *c) {
  c->random ^= c->random << 13;
  c->random ^= c->random >> 7;
  return c->random ^= c->random << 17;
}

static inline void emit_print_diags(const nn_module *m) {
  for (int i = 0; i < m->diags.count; i++) nn_diag_print(stderr, &m->diags.items[i]), fputc('\n', stderr);
}

static inline emit_case emit_begin(const char *cpu) {
  emit_case c = {.m = nn_module_new("test"), .random = 88172645463325252u};
  cr_assert_eq(nn_target_init(&c.target, NULL, cpu, &c.m->diags), NN_OK);
  c.jit = nn_jit_new(&c.m->diags);
  cr_assert(c.jit);
  c.k = nn_kernel_new(c.m, "nnk_test");
  return c;
}

static inline void emit_end(emit_case *c) {
  for (int i = 0; i < EMIT_BUFS; i++) free(c->data[i]);
  nn_jit_free(c->jit);
  nn_target_free(&c->target);
  nn_module_free(c->m);
}

static inline nn_dim emit_dim(emit_case *c, int64_t n) { return nn_dim_const(c->m, n); }

static inline nn_buf *emit_param(emit_case *c, nn_dtype t, int64_t count, bool is_output) {
  return nn_kernel_buf(c->k, is_output ? "y" : "x", NN_BUF_PARAM, t, emit_dim(c, count), is_output);
}

/* Numbers that make trouble among random ones. */
static inline void emit_fill(emit_case *c, nn_dtype t, void *data, int64_t count) {
  static const double floats[] = {
      0,     -0.0, 1,    -1,      0.5,    -0.5,  1.5,   2.5,  -2.5,  3,          1e-3,         255,    256,     -129,
      448,   464,  465,  57344,   61440,  65504, 65520, 1e10, -1e10, 2147483647, 2147483648.0, 9.3e18, -9.3e18, 1.9e19,
      1e-40, 6e-8, 1e-5, 8388609, 3.4e38, 0.25,  0.125, 6,    5,     -6,         100,          -100};
  static const int64_t ints[] = {
      0, 1,  -1, 2, -2, 3, 7, -8, 8, 127, -128, 255, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, INT64_MIN + 1,
      5, -3, 10};
  int nfloats = (int)(sizeof floats / sizeof floats[0]), nints = (int)(sizeof ints / sizeof ints[0]);
  for (int64_t i = 0; i < count; i++) {
    uint64_t r = emit_random(c);
    int kind = (int)(r % 8);
    if (nn_dtype_is_float(t)) {
      double v = kind == 0   ? (r & 256 ? INFINITY : -INFINITY)
                 : kind == 1 ? NAN
                 : kind < 6  ? floats[r / 8 % (unsigned)nfloats]
                             : (double)(int64_t)emit_random(c) * pow(2, (double)(r / 8 % 80) - 110);
      nn_store_f64(t, data, (size_t)i, v);
    } else {
      nn_store_i64(t, data, (size_t)i,
                   t == NN_BOOL ? (int64_t)(r >> 20 & 1)
                   : kind < 6   ? ints[r / 8 % (unsigned)nints]
                                : (int64_t)emit_random(c));
    }
  }
}

static inline int64_t emit_count(const emit_case *c, const nn_buf *buf) {
  int64_t count = 0;
  cr_assert(nn_dim_eval(buf->count, c->symbols, &count));
  return count;
}

/* Contents for every argument that has none. */
static inline void emit_make_data(emit_case *c) {
  int n = 0;
  for (int i = 0; i < c->k->nbufs; i++) {
    const nn_buf *buf = c->k->bufs[i];
    if (buf->space != NN_BUF_PARAM && buf->space != NN_BUF_WORKSPACE) continue;
    if (!c->data[n]) {
      int64_t count = emit_count(c, buf);
      c->bytes[n] = nn_dtype_bytes(buf->dtype, (uint64_t)count);
      c->data[n] = calloc(1, c->bytes[n] + 1);
      if (!buf->is_output) emit_fill(c, buf->dtype, c->data[n], count);
    }
    n++;
  }
}

static inline void *emit_copy(const void *data, size_t bytes, int offset) {
  char *copy = aligned_alloc(64, (bytes + 64 + 63) / 64 * 64 + 64);
  memcpy(copy + offset, data, bytes);
  return copy + offset;
}

static inline bool emit_same(nn_dtype t, const void *a, const void *b, size_t i) {
  if (!nn_dtype_is_float(t)) return nn_load_i64(t, a, i) == nn_load_i64(t, b, i);
  double x = nn_load_f64(t, a, i), y = nn_load_f64(t, b, i);
  if (isnan(x) || isnan(y)) return isnan(x) && isnan(y);
  return x == y && signbit(x) == signbit(y);
}

/* As a pool would, backwards and with changing workers, to show what depends on order. */
static inline void emit_parallel_for(nncc_rt_ctx *self, int64_t ntasks, nncc_rt_task *fn, void *arg) {
  for (int64_t t = ntasks - 1; t >= 0; t--) fn(arg, t, (int32_t)(t % self->nworkers));
}

static inline void emit_parallel_steps(nncc_rt_ctx *self, int64_t nsteps, int64_t ntasks, nncc_rt_task *fn, void *arg) {
  for (int64_t s = 0; s < nsteps; s++)
    for (int64_t t = ntasks - 1; t >= 0; t--) fn(arg, s * ntasks + t, (int32_t)(t % self->nworkers));
}

/* What runs parallel loops: nobody, a host with tasks, or one with steps of tasks, too. */
typedef enum emit_host { EMIT_ALONE, EMIT_TASKS, EMIT_STEPS, EMIT_HOSTS } emit_host;

static inline int emit_run_compiled(emit_case *c, nn_kernel_fn *fn, void **args, emit_host host) {
  int worker_bytes = nn_target_worker_bytes(c->k);
  cr_assert_geq(worker_bytes, 0);
  nncc_rt_ctx ctx = {.nworkers = host ? EMIT_WORKERS : 1, .parallel_for = host ? emit_parallel_for : NULL};
  if (host == EMIT_STEPS) ctx.parallel_steps = emit_parallel_steps;
  ctx.workspace_bytes = (size_t)worker_bytes * EMIT_WORKERS;
  ctx.workspace = aligned_alloc(64, ctx.workspace_bytes + 64);
  memset(ctx.workspace, 0x5a, ctx.workspace_bytes + 64);
  int code = fn(&ctx, args, c->symbols);
  cr_assert_eq(((unsigned char *)ctx.workspace)[ctx.workspace_bytes], 0x5a);
  c->found = ctx.found;
  c->expected = ctx.expected;
  free(ctx.workspace);
  return code;
}

static inline void emit_compare(const emit_case *c, void *const *want, void *const *got, int code, const char *what) {
  int n = 0;
  for (int i = 0; i < c->k->nbufs; i++) {
    const nn_buf *buf = c->k->bufs[i];
    if (buf->space != NN_BUF_PARAM && buf->space != NN_BUF_WORKSPACE) continue;
    for (int64_t e = 0; buf->is_output && code == 0 && e < emit_count(c, buf); e++)
      cr_assert(emit_same(buf->dtype, want[n], got[n], (size_t)e),
                "%s: argument %d (%s), element %lld: %.17g, interpreter %.17g", what, n, nn_dtype_name(buf->dtype),
                (long long)e, nn_load_f64(buf->dtype, got[n], (size_t)e), nn_load_f64(buf->dtype, want[n], (size_t)e));
    n++;
  }
}

static inline void emit_run_once(emit_case *c, nn_kernel_fn *fn, emit_host host, const char *what) {
  void *want[EMIT_BUFS] = {0}, *got[EMIT_BUFS] = {0};
  for (int i = 0; i < EMIT_BUFS && c->data[i]; i++) {
    want[i] = emit_copy(c->data[i], c->bytes[i], 0);
    got[i] = emit_copy(c->data[i], c->bytes[i], c->target.unaligned_ok ? i % 3 : 0);
  }
  nn_eval_error at = {0};
  int code = nn_kernel_eval(c->k, want, c->symbols, &at);
  c->code = emit_run_compiled(c, fn, got, host);
  cr_assert_eq(c->code, code, "%s: code %d, interpreter %d", what, c->code, code);
  if (code == NNCC_RT_EINDEX)
    cr_assert(c->found == at.found && c->expected == at.limit, "%s: index %lld of %lld, interpreter %lld of %lld", what,
              (long long)c->found, (long long)c->expected, (long long)at.found, (long long)at.limit);
  emit_compare(c, want, got, code, what);
  for (int i = 0; i < EMIT_BUFS && c->data[i]; i++) {
    free((void *)((uintptr_t)want[i] / 64 * 64));
    free((void *)((uintptr_t)got[i] / 64 * 64));
  }
}

/* Runs and compares, with all hosts; frees everything. Gives the code of the run. */
static inline int emit_check(emit_case *c, const char *what) {
  nn_kernel_fn *fn = NULL;
  emit_make_data(c);
  cr_assert_eq(nn_kernel_verify(c->k, &c->m->diags), NN_OK, "%s: the kernel is not valid", what);
  nn_status status = nn_jit_kernel(c->jit, &c->target, c->k, &fn);
  if (status != NN_OK) emit_print_diags(c->m);
  cr_assert_eq(status, NN_OK, "%s: not compiled", what);
  for (int host = 0; host < EMIT_HOSTS; host++) emit_run_once(c, fn, (emit_host)host, what);
  int code = c->code;
  emit_end(c);
  return code;
}

#endif
