/* libnncc: load or build a model, compile it, run it. C99 and C++.

   Handles are opaque. A function that can fail returns nncc_status; every problem found is then in the
   handle's diagnostics. Strings returned are owned by the handle. One handle is used by one thread at a
   time; different handles are independent. */
#ifndef NNCC_H
#define NNCC_H

#include <stddef.h>
#include <stdint.h>
#include "nncc_rt.h"

#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

#define NNCC_VERSION "0.1.0"

typedef enum nncc_status { NNCC_OK = 0, NNCC_ERROR = 1 } nncc_status;

/* ---- models -------------------------------------------------------------------------------------- */

typedef struct nncc_model nncc_model;

typedef struct nncc_load_options {
  /* Pins symbolic dimensions: "N=4". Pins an input's shape: "x=1,3,224,224". NULL-terminated lists or NULL. */
  const char *const *dims;
  const char *const *shapes;
} nncc_load_options;

/* Reads an ONNX file. Always gives a model, unless memory is out (NULL); when loading failed the model
   holds the diagnostics and nothing else may be done with it. options may be NULL. */
nncc_status nncc_model_load(const char *path, const nncc_load_options *options, nncc_model **model);
/* The same from memory, which must stay until the model is freed. name is for messages. External data is refused. */
nncc_status nncc_model_load_memory(const char *name, const void *bytes, size_t size_bytes, const nncc_load_options *options, nncc_model **model);
nncc_status nncc_model_parse(const char *path, nncc_model **model);  /* IR text, see docs/ir.md */
void nncc_model_free(nncc_model *model);                             /* NULL is fine */
/* Diagnostics so far: count, and the i-th as text ("file: node 'x' (Op): ..."); severity 0 error, 1 warning, 2 note. */
int nncc_model_diagnostics(const nncc_model *model);
const char *nncc_model_diagnostic(const nncc_model *model, int i, int *severity);

/* ---- the graph builder ----------------------------------------------------------------------------- */

/* A model under construction. Layers append to it; each gives a tensor handle, or NULL after an error
   (reported into the diagnostics; NULL operands are passed through, so check once at the end). */
typedef struct nncc_tensor nncc_tensor;

nncc_model *nncc_model_new(const char *name);
/* dims: rank entries; -1 is the symbolic dimension "N" (batch). */
nncc_tensor *nncc_input(nncc_model *model, const char *name, int32_t dtype, int rank, const int64_t *dims);
nncc_tensor *nncc_constant(nncc_model *model, const char *name, int32_t dtype, int rank, const int64_t *dims, const void *data); /* copies data */
nncc_status nncc_output(nncc_model *model, const char *name, nncc_tensor *t);

typedef enum nncc_activation { NNCC_LINEAR, NNCC_RELU, NNCC_SIGMOID, NNCC_TANH, NNCC_GELU, NNCC_SILU, NNCC_SOFTMAX } nncc_activation;
typedef enum nncc_padding { NNCC_VALID, NNCC_SAME } nncc_padding;

/* Weights of layers are He-uniform from the model's seed until set (nncc_weight_set); names are LAYER/weight, LAYER/bias. */
void nncc_model_seed(nncc_model *model, uint64_t seed);
nncc_tensor *nncc_conv2d(nncc_model *model, nncc_tensor *x, const char *name, int filters, int kernel, int stride, nncc_padding padding, nncc_activation activation); /* x[N,C,H,W] */
nncc_tensor *nncc_dense(nncc_model *model, nncc_tensor *x, const char *name, int units, nncc_activation activation);   /* x[N,F] */
nncc_tensor *nncc_max_pool2d(nncc_model *model, nncc_tensor *x, int kernel, int stride);
nncc_tensor *nncc_avg_pool2d(nncc_model *model, nncc_tensor *x, int kernel, int stride);
nncc_tensor *nncc_global_avg_pool(nncc_model *model, nncc_tensor *x);                                   /* [N,C,..] -> [N,C] */
nncc_tensor *nncc_batch_norm(nncc_model *model, nncc_tensor *x, const char *name, double epsilon);
nncc_tensor *nncc_layer_norm(nncc_model *model, nncc_tensor *x, const char *name, double epsilon);      /* last axis */
nncc_tensor *nncc_flatten(nncc_model *model, nncc_tensor *x);
nncc_tensor *nncc_dropout(nncc_model *model, nncc_tensor *x, double rate);                              /* identity at inference */
nncc_tensor *nncc_activate(nncc_model *model, nncc_tensor *x, nncc_activation activation);
nncc_tensor *nncc_add(nncc_model *model, nncc_tensor *a, nncc_tensor *b);   /* numpy broadcast; also sub, mul, div */
nncc_tensor *nncc_sub(nncc_model *model, nncc_tensor *a, nncc_tensor *b);
nncc_tensor *nncc_mul(nncc_model *model, nncc_tensor *a, nncc_tensor *b);
nncc_tensor *nncc_div(nncc_model *model, nncc_tensor *a, nncc_tensor *b);
nncc_tensor *nncc_matmul(nncc_model *model, nncc_tensor *a, nncc_tensor *b);
nncc_tensor *nncc_concat(nncc_model *model, nncc_tensor *const *parts, int count, int axis);
nncc_tensor *nncc_reshape(nncc_model *model, nncc_tensor *x, int rank, const int64_t *dims); /* one -1 */
nncc_tensor *nncc_transpose(nncc_model *model, nncc_tensor *x, const int *perm);
/* Any core op of ir/ops.def by its text name, with attributes as text: nncc_op(m, "reduce_sum", &x, 1, "axes=[1], keepdims=0"). First result. */
nncc_tensor *nncc_op(nncc_model *model, const char *op, nncc_tensor *const *in, int nin, const char *attributes);
nncc_status nncc_weight_set(nncc_model *model, const char *name, const void *data, size_t size_bytes);

/* ---- compiling --------------------------------------------------------------------------------------- */

/* What is promised of floating-point results; docs/math.md has the bounds.
   STRICT: the same bits for any number of threads, on one target. EXACT: and on every target, at every level: sums in one order, multiply-adds
   in two roundings, neither Winograd nor Strassen nor products in pairs; slower. FAST: sums may be reordered, divisions be products with reciprocals, and
   exp, tanh, sigmoid, erf are good to 1e-5; NaN and infinity stay what they are, the sign of a zero need not. */
typedef enum nncc_fp { NNCC_FP_STRICT, NNCC_FP_EXACT, NNCC_FP_FAST } nncc_fp;

typedef enum nncc_weights { NNCC_WEIGHTS_AUTO, NNCC_WEIGHTS_EMBED, NNCC_WEIGHTS_FILE } nncc_weights;

typedef struct nncc_compile_options {
  const char *name;        /* symbol prefix; NULL: from the output's name, or "model" */
  const char *target;      /* LLVM triple; NULL: the host's */
  const char *cpu;         /* "native", "x86-64-v3", "cortex-m4", ...; NULL: native for the host, else the baseline.
                              Several of x86-64, x86-64-v2, -v3, -v4 with commas: an object that picks the widest that the CPU has */
  const char *header;      /* path of the C header; NULL: OUT with .h; "": none */
  nncc_weights weights;
  int level;               /* 0..3; -1: the default, 2 */
  const char *print_after; /* pass name or "all": IR text on stderr; NULL: none */
  int time_passes;         /* table on stderr */
  /* "input=output" ..., NULL-terminated, or NULL: the output may be the same memory as the input, of the same
     type and shape: a cache that a run updates in place. */
  const char *const *aliases;
  int symbols;             /* code in memory: GDB and perf (by /tmp/perf-PID.map) see the kernels by name */
  const char *map;         /* path of a JSON file: the kernels, and the nodes of the model that they do the work of; NULL: none */
  int threads;             /* that compile: the result is the same for any number. 0: one for each processor */
  int no_winograd;         /* convolutions and products by their definition, neither in Winograd's nor in Strassen's form nor in pairs: slower, of
                              smaller rounding errors, and weights of convolutions keep their size */
  nncc_fp fp;
  const char *tuning;      /* path of a file that nncc tune made: what was measured to be fast on this CPU; NULL: by the cost model */
  const char *cache;       /* folder of compiled kernels, kept from one compilation to the next; NULL: what the
                              environment's NNCC_CACHE says, if anything. Only whom one trusts should be able to write there */
} nncc_compile_options;

/* Writes an object (.o), archive (.a), shared object (.so), assembly (.s) or LLVM IR (.ll), by the
   suffix of out, and the header. Nothing is left behind on failure. options may be NULL. */
nncc_status nncc_model_compile(nncc_model *model, const char *out, const nncc_compile_options *options);
/* Compiles into memory. The descriptor lives until the model is freed. */
nncc_status nncc_model_jit(nncc_model *model, const nncc_compile_options *options, const nncc_rt_model **compiled);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
