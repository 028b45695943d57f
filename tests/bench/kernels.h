/* The benchmark of single kernels: what its engines share (kernels.c, kernels_dnnl.c). */
#ifndef KERNELS_H
#define KERNELS_H

#include <stdbool.h>
#include <stdint.h>

enum { KERNEL_MAX_ARGS = 12 };

/* What a peer shall do, and on which data. Matrices are dense and row-major. */
typedef struct kernel_case {
  char kind[16];              /* gemm, packed, softmax, norm, gelu, add, transpose, sum, conv, none */
  int64_t n[KERNEL_MAX_ARGS]; /* sizes, as in the table of kernels.py */
  const float *in[2];         /* first operand, second operand or weights */
  float *out;                 /* of the peer; sizes as those of nncc's output */
} kernel_case;

/* Prepares the case; the answer is NULL where oneDNN has no such kernel. */
typedef struct dnnl_kernel dnnl_kernel;
dnnl_kernel *dnnl_kernel_new(const kernel_case *c);
void dnnl_kernel_run(dnnl_kernel *k);
void dnnl_kernel_finish(dnnl_kernel *k); /* the result, in plain order, to the case's `out` */
void dnnl_kernel_free(dnnl_kernel *k);

#endif
