/* oneDNN 2's kernels for the benchmark of single kernels. Layouts are left to oneDNN wherever the case leaves them to
   nncc, too: constant weights, and both ends of a convolution inside a network. */
#include "kernels.h"

#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TENSORS = 4 };

struct dnnl_kernel {
  dnnl_primitive_t primitive;
  dnnl_exec_arg_t args[MAX_TENSORS];
  int nargs;
  dnnl_memory_t plain_out, result; /* the user's order, and the kernel's */
};

static dnnl_engine_t engine;
static dnnl_stream_t stream;

static void check(dnnl_status_t status, const char *what) {
  if (status == dnnl_success) return;
  fprintf(stderr, "kernels: oneDNN: %s failed (%d)\n", what, (int)status);
  exit(1);
}

static dnnl_memory_desc_t plain(int rank, const int64_t *dims) {
  dnnl_memory_desc_t d;
  dnnl_dims_t strides;
  int64_t stride = 1;
  for (int i = rank - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= dims[i];
  }
  check(dnnl_memory_desc_init_by_strides(&d, rank, dims, dnnl_f32, strides), "a tensor");
  return d;
}

static dnnl_memory_desc_t any(int rank, const int64_t *dims) {
  dnnl_memory_desc_t d;
  check(dnnl_memory_desc_init_by_tag(&d, rank, dims, dnnl_f32, dnnl_format_tag_any), "a tensor");
  return d;
}

static dnnl_memory_t memory_of(const dnnl_memory_desc_t *d, const void *data) {
  dnnl_memory_t m;
  check(dnnl_memory_create(&m, d, engine, data ? (void *)(uintptr_t)data : DNNL_MEMORY_ALLOCATE), "memory");
  return m;
}

static void copy(dnnl_memory_t from, dnnl_memory_t to) {
  const dnnl_memory_desc_t *a, *b;
  dnnl_primitive_desc_t pd;
  dnnl_primitive_t p;
  dnnl_memory_get_memory_desc(from, &a);
  dnnl_memory_get_memory_desc(to, &b);
  check(dnnl_reorder_primitive_desc_create(&pd, a, engine, b, engine, NULL), "a copy");
  check(dnnl_primitive_create(&p, pd), "a copy");
  dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
  check(dnnl_primitive_execute(p, stream, 2, args), "a copy");
  dnnl_stream_wait(stream);
  dnnl_primitive_destroy(p);
  dnnl_primitive_desc_destroy(pd);
}

/* The operand in the layout that the kernel wants; data is in plain order. */
static void bind_input(dnnl_kernel *k, dnnl_primitive_desc_t pd, dnnl_query_t what, int arg,
                       const dnnl_memory_desc_t *user, const float *data) {
  const dnnl_memory_desc_t *wanted = dnnl_primitive_desc_query_md(pd, what, 0);
  dnnl_memory_t m = memory_of(user, data);
  if (!dnnl_memory_desc_equal(user, wanted)) {
    dnnl_memory_t packed = memory_of(wanted, NULL);
    copy(m, packed);
    dnnl_memory_destroy(m);
    m = packed;
  }
  k->args[k->nargs++] = (dnnl_exec_arg_t){arg, m};
}

static void bind_output(dnnl_kernel *k, dnnl_primitive_desc_t pd, const dnnl_memory_desc_t *user, float *data) {
  const dnnl_memory_desc_t *given = dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0);
  k->plain_out = memory_of(user, data);
  k->result = dnnl_memory_desc_equal(user, given) ? k->plain_out : memory_of(given, NULL);
  k->args[k->nargs++] = (dnnl_exec_arg_t){DNNL_ARG_DST, k->result};
}

static dnnl_primitive_desc_t describe(const void *desc) {
  dnnl_primitive_desc_t pd;
  check(dnnl_primitive_desc_create(&pd, desc, NULL, engine, NULL), "the choice of a kernel");
  return pd;
}

static void finish(dnnl_kernel *k, dnnl_primitive_desc_t pd) {
  check(dnnl_primitive_create(&k->primitive, pd), "making a kernel");
  dnnl_primitive_desc_destroy(pd);
}

/* A matrix that lies as its transpose does. */
static dnnl_memory_desc_t matrix(int64_t rows, int64_t columns, bool is_transposed) {
  dnnl_memory_desc_t d;
  int64_t dims[] = {rows, columns}, strides[] = {is_transposed ? 1 : columns, is_transposed ? rows : 1};
  check(dnnl_memory_desc_init_by_strides(&d, 2, dims, dnnl_f32, strides), "a matrix");
  return d;
}

/* n: M, N, K; whether A and B are transposed. */
static void make_gemm(dnnl_kernel *k, const kernel_case *c, bool is_packed) {
  const int64_t b[] = {c->n[2], c->n[1]};
  dnnl_memory_desc_t ma = matrix(c->n[0], c->n[2], c->n[3]), mb = matrix(c->n[2], c->n[1], c->n[4]);
  dnnl_memory_desc_t my = matrix(c->n[0], c->n[1], false), weights = is_packed ? any(2, b) : mb;
  dnnl_matmul_desc_t d;
  check(dnnl_matmul_desc_init(&d, &ma, &weights, NULL, &my), "matmul");
  dnnl_primitive_desc_t pd = describe(&d);
  bind_input(k, pd, dnnl_query_src_md, DNNL_ARG_SRC, &ma, c->in[0]);
  bind_input(k, pd, dnnl_query_weights_md, DNNL_ARG_WEIGHTS, &mb, c->in[1]);
  bind_output(k, pd, &my, c->out);
  finish(k, pd);
}

/* n: images, C, H, W, O, kernel, stride, padding, groups; square windows. */
static void make_conv(dnnl_kernel *k, const kernel_case *c) {
  const int64_t *n = c->n, g = n[8], out_h = (n[2] + 2 * n[7] - n[5]) / n[6] + 1,
                out_w = (n[3] + 2 * n[7] - n[5]) / n[6] + 1;
  const int64_t x[] = {n[0], n[1], n[2], n[3]}, w4[] = {n[4], n[1], n[5], n[5]},
                w5[] = {g, n[4] / g, n[1] / g, n[5], n[5]};
  const int64_t y[] = {n[0], n[4], out_h, out_w}, strides[] = {n[6], n[6]}, pads[] = {n[7], n[7]};
  int rank = g > 1 ? 5 : 4;
  dnnl_memory_desc_t ux = plain(4, x), uw = plain(rank, g > 1 ? w5 : w4), uy = plain(4, y);
  dnnl_memory_desc_t mx = any(4, x), mw = any(rank, g > 1 ? w5 : w4), my = any(4, y);
  dnnl_convolution_desc_t d;
  check(dnnl_convolution_forward_desc_init(&d, dnnl_forward_inference, dnnl_convolution_auto, &mx, &mw, NULL, &my,
                                           strides, pads, pads),
        "conv");
  dnnl_primitive_desc_t pd = describe(&d);
  bind_input(k, pd, dnnl_query_src_md, DNNL_ARG_SRC, &ux, c->in[0]);
  bind_input(k, pd, dnnl_query_weights_md, DNNL_ARG_WEIGHTS, &uw, c->in[1]);
  bind_output(k, pd, &uy, c->out);
  finish(k, pd);
}

/* One operand and a result of its shape, but for a sum, which leaves one number of each row; n: rows, columns. */
static void make_unary(dnnl_kernel *k, const kernel_case *c, const void *desc, const dnnl_memory_desc_t *x,
                       const dnnl_memory_desc_t *y) {
  dnnl_primitive_desc_t pd = describe(desc);
  bind_input(k, pd, dnnl_query_src_md, DNNL_ARG_SRC, x, c->in[0]);
  bind_output(k, pd, y, c->out);
  finish(k, pd);
}

static void make_transpose(dnnl_kernel *k, const kernel_case *c) {
  const int64_t dims[] = {c->n[1], c->n[0]}, strides[] = {1, c->n[1]};
  dnnl_memory_desc_t x, y = plain(2, dims);
  dnnl_primitive_desc_t pd;
  check(dnnl_memory_desc_init_by_strides(&x, 2, dims, dnnl_f32, strides), "a tensor");
  check(dnnl_reorder_primitive_desc_create(&pd, &x, engine, &y, engine, NULL), "a transpose");
  bind_input(k, pd, dnnl_query_src_md, DNNL_ARG_FROM, &x, c->in[0]);
  bind_output(k, pd, &y, c->out);
  finish(k, pd);
}

static void make_rows(dnnl_kernel *k, const kernel_case *c) {
  const int64_t one[] = {c->n[0], 1};
  dnnl_memory_desc_t x = plain(2, c->n), row = plain(2, one);
  dnnl_softmax_desc_t softmax;
  dnnl_layer_normalization_desc_t norm;
  dnnl_eltwise_desc_t gelu;
  dnnl_reduction_desc_t sum;
  if (strcmp(c->kind, "softmax") == 0) {
    check(dnnl_softmax_forward_desc_init(&softmax, dnnl_forward_inference, &x, 1), "softmax");
    make_unary(k, c, &softmax, &x, &x);
  } else if (strcmp(c->kind, "norm") == 0) {
    check(dnnl_layer_normalization_forward_desc_init(&norm, dnnl_forward_inference, &x, NULL, 1e-5f, 0),
          "layer normalisation");
    make_unary(k, c, &norm, &x, &x);
  } else if (strcmp(c->kind, "gelu") == 0) {
    check(dnnl_eltwise_forward_desc_init(&gelu, dnnl_forward_inference, dnnl_eltwise_gelu_erf, &x, 0, 0), "gelu");
    make_unary(k, c, &gelu, &x, &x);
  } else {
    check(dnnl_reduction_desc_init(&sum, dnnl_reduction_sum, &x, &row, 0, 0), "a sum");
    make_unary(k, c, &sum, &x, &row);
  }
}

static bool is_any_of(const char *kind, const char *const *kinds) {
  for (; *kinds; kinds++)
    if (strcmp(kind, *kinds) == 0) return true;
  return false;
}

dnnl_kernel *dnnl_kernel_new(const kernel_case *c) {
  static const char *const rows[] = {"softmax", "norm", "gelu", "sum", NULL}, *const others[] = {"gemm", "packed",
                                                                                                 "conv", "transpose",
                                                                                                 NULL};
  if (!is_any_of(c->kind, rows) && !is_any_of(c->kind, others)) return NULL;
  if (!engine) {
    check(dnnl_engine_create(&engine, dnnl_cpu, 0), "an engine");
    check(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "a stream");
  }
  dnnl_kernel *k = calloc(1, sizeof *k);
  if (!k) return NULL;
  if (is_any_of(c->kind, rows))
    make_rows(k, c);
  else if (strcmp(c->kind, "conv") == 0)
    make_conv(k, c);
  else if (strcmp(c->kind, "transpose") == 0)
    make_transpose(k, c);
  else
    make_gemm(k, c, strcmp(c->kind, "packed") == 0);
  return k;
}

void dnnl_kernel_run(dnnl_kernel *k) {
  dnnl_primitive_execute(k->primitive, stream, k->nargs, k->args);
  dnnl_stream_wait(stream);
}

void dnnl_kernel_finish(dnnl_kernel *k) {
  if (k->result != k->plain_out) copy(k->result, k->plain_out);
}

void dnnl_kernel_free(dnnl_kernel *k) {
  if (!k) return;
  dnnl_primitive_destroy(k->primitive);
  for (int i = 0; i < k->nargs; i++) dnnl_memory_destroy(k->args[i].memory);
  if (k->result != k->plain_out) dnnl_memory_destroy(k->plain_out);
  free(k);
}
