/* Runs IR text with the loop interpreter: inputs hold ramps or given numbers, outputs come back as doubles. */
#ifndef TEST_RUN_CASE_H
#define TEST_RUN_CASE_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/codegen.h"
#include "passes/passes.h"

enum { CASE_IO = 8, CASE_SYMBOLS = 32 };

typedef struct run_case {
  nn_module *m;
  nn_program *p;
  nncc_rt_tensor in[CASE_IO], out[CASE_IO];
  nn_dtype in_dtype[CASE_IO], out_dtype[CASE_IO];
  int nin, nout;
  int code; /* what the run gave */
  nncc_rt_ctx ctx;
} run_case;

static inline nn_target case_target(void) {
  nn_target t = {.name = "test",
                 .triple = "",
                 .cpu = "",
                 .features = "",
                 .pointer_bits = 64,
                 .vector_bytes = 32,
                 .vector_registers = 16,
                 .has_fma = true,
                 .has_masked_memory = true,
                 .has_round = true,
                 .has_sqrt_f64 = true,
                 .unaligned_ok = true,
                 .is_little_endian = true,
                 .l1_bytes = 32768,
                 .l2_bytes = 524288,
                 .l3_bytes = 4 << 20};
  return t;
}

static inline int64_t case_count(const nncc_rt_tensor *t) {
  int64_t count = 1;
  for (int i = 0; i < t->rank; i++) count *= t->dims[i];
  return count;
}

static inline nncc_rt_tensor case_tensor(nn_type t, int64_t n) {
  int64_t symbols[CASE_SYMBOLS];
  for (int i = 0; i < CASE_SYMBOLS; i++) symbols[i] = n;
  nncc_rt_tensor r = {.dtype = nn_dtype_onnx(t.dtype), .rank = t.rank, .dims = calloc(NN_MAX_RANK, sizeof(int64_t))};
  for (int i = 0; i < t.rank; i++) cr_assert(nn_dim_eval(t.dims[i], symbols, &r.dims[i]));
  r.data = calloc(nn_dtype_bytes(t.dtype, (uint64_t)case_count(&r)) + 1, 1);
  return r;
}

/* Parses, fuses if asked, builds; inputs are ramps 0, 1, 2, ... Symbols count as n. */
static inline run_case case_open(const char *text, bool fuses, int64_t n) {
  run_case c = {.m = nn_text_parse("test.nn", text, strlen(text))};
  const char *const fuse[] = {"fuse"};
  nn_pass_options options = {.verify_each = true};
  nn_target t = case_target();
  if (!c.m->diags.nerrors && fuses) nn_passes_run(c.m, fuse, 1, &options);
  if (!c.m->diags.nerrors) c.p = nn_program_build(c.m, &t);
  if (c.p) nn_plan_memory(c.p, &t);
  for (int i = 0; i < c.m->diags.count; i++) nn_diag_print(stderr, &c.m->diags.items[i]);
  cr_assert(c.p && c.m->diags.nerrors == 0, "no program for:\n%s", text);
  for (c.nin = 0; c.nin < c.m->main->nparams; c.nin++) {
    nn_type type = c.m->main->params[c.nin]->type;
    c.in_dtype[c.nin] = type.dtype;
    c.in[c.nin] = case_tensor(type, n);
    for (int64_t k = 0; k < case_count(&c.in[c.nin]); k++)
      nn_store_f64(type.dtype, c.in[c.nin].data, (size_t)k, (double)k);
  }
  nn_op *ret = nn_graph_return(c.m->main);
  for (c.nout = 0; c.nout < ret->nin; c.nout++) {
    c.out_dtype[c.nout] = ret->in[c.nout]->type.dtype;
    c.out[c.nout] = case_tensor(ret->in[c.nout]->type, n);
  }
  return c;
}

static inline void case_run(run_case *c) { c->code = nn_program_eval(c->p, c->in, c->out, &c->ctx); }

static inline double case_out(const run_case *c, int i, int64_t k) {
  return nn_load_f64(c->out_dtype[i], c->out[i].data, (size_t)k);
}

static inline void case_close(run_case *c) {
  for (int i = 0; i < c->nin; i++) free(c->in[i].data), free(c->in[i].dims);
  for (int i = 0; i < c->nout; i++) free(c->out[i].data), free(c->out[i].dims);
  nn_module_free(c->m);
}

/* text is a printf format, expanded into buffer. */
static inline const char *case_text(char *buffer, size_t size, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int length = vsnprintf(buffer, size, format, args);
  va_end(args);
  cr_assert(length >= 0 && (size_t)length < size);
  return buffer;
}

/* The indices of flat element k of a tensor. */
static inline void case_unflatten(const nncc_rt_tensor *t, int64_t k, int64_t *index) {
  for (int i = t->rank - 1; i >= 0; i--) {
    index[i] = k % t->dims[i];
    k /= t->dims[i];
  }
}

static inline int64_t case_flatten(const nncc_rt_tensor *t, const int64_t *index) {
  int64_t flat = 0;
  for (int i = 0; i < t->rank; i++) flat = flat * t->dims[i] + index[i];
  return flat;
}

#endif
