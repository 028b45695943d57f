/* The ABI of compiled models, and the small runtime that may run beside them.

   A compiled model is one descriptor, `const nncc_rt_model NAME`, whether it came from an object file or
   from the JIT. Nothing in a model needs this runtime: a program may fill an nncc_rt_ctx by hand and call
   `run`. libnncc_rt adds a thread pool, loading of weight files and shared objects, and convenience.

   C99 and C++. Sizes are bytes, dimensions int64. */
#ifndef NNCC_RT_H
#define NNCC_RT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

#define NNCC_RT_ABI 2u
#define NNCC_RT_ALIGN 64 /* of the workspace and of a caller's weights */

/* Element types: numbers are those of ONNX's TensorProto.DataType. */
enum {
  NNCC_RT_F32 = 1, NNCC_RT_U8 = 2, NNCC_RT_I8 = 3, NNCC_RT_U16 = 4, NNCC_RT_I16 = 5, NNCC_RT_I32 = 6,
  NNCC_RT_I64 = 7, NNCC_RT_STRING = 8, NNCC_RT_BOOL = 9, NNCC_RT_F16 = 10, NNCC_RT_F64 = 11,
  NNCC_RT_U32 = 12, NNCC_RT_U64 = 13, NNCC_RT_C64 = 14, NNCC_RT_C128 = 15, NNCC_RT_BF16 = 16,
  NNCC_RT_F8E4M3FN = 17, NNCC_RT_F8E4M3FNUZ = 18, NNCC_RT_F8E5M2 = 19, NNCC_RT_F8E5M2FNUZ = 20,
  NNCC_RT_U4 = 21, NNCC_RT_I4 = 22, NNCC_RT_F4E2M1 = 23, NNCC_RT_F8E8M0 = 24, NNCC_RT_U2 = 25, NNCC_RT_I2 = 26
};

/* What run and the runtime's functions return; 0 is success. */
enum {
  NNCC_RT_OK = 0,
  NNCC_RT_EINVAL = 1,     /* NULL or a wrong count, type or rank */
  NNCC_RT_ESHAPE = 2,     /* an input's dimension is not what the model expects; a symbol bound to two values */
  NNCC_RT_EWORKSPACE = 3, /* the workspace is missing, too small or misaligned */
  NNCC_RT_EINDEX = 4,     /* an index in the data is out of range */
  NNCC_RT_EVALUE = 5,     /* another value in the data is not allowed (a negative size, ...) */
  NNCC_RT_EMEMORY = 6,    /* the allocator gave NULL */
  NNCC_RT_EWEIGHTS = 7,   /* no weights, or not those of this model */
  NNCC_RT_EIO = 8,        /* a file cannot be read or is not what it should be */
  NNCC_RT_EABI = 9,       /* the model was compiled for another ABI version */
  NNCC_RT_EINTERNAL = 10
};

/* A dense row-major tensor. data and dims may lie at any address where the machine takes misaligned loads (x86-64,
   AArch64, WebAssembly); elsewhere (Cortex-M, RISC-V) dims may still, data must be aligned to its elements or run gives
   NNCC_RT_EINVAL. dims has rank entries; for outputs the caller provides the array and run writes it. An output whose
   size depends on data may have data = NULL: run then takes the memory from the context's allocator and the caller
   releases it, after an error too. */
typedef struct nncc_rt_tensor {
  void *data;
  int64_t *dims;
  int32_t dtype;
  int32_t rank;
} nncc_rt_tensor;

typedef struct nncc_rt_ctx nncc_rt_ctx;
typedef void nncc_rt_task(void *arg, int64_t task, int32_t worker);

/* One run's environment: everything a model may touch besides its tensors. Zero it, set what is needed.
   A context serves one run at a time; several contexts may run one model at once. */
struct nncc_rt_ctx {
  void *workspace;           /* NNCC_RT_ALIGN-aligned; see nncc_rt_model.workspace_size */
  size_t workspace_bytes;
  const void *weights;       /* NULL: those inside the object */
  /* Runs fn(arg, t, w) for t in 0..ntasks-1, in any order, w < nworkers, no two at once with one w; returns when
     all are done. NULL: the model calls them one after the other with w = 0. */
  void (*parallel_for)(nncc_rt_ctx *self, int64_t ntasks, nncc_rt_task *fn, void *arg);
  void *pool;                /* for parallel_for's use */
  int32_t nworkers;          /* 0 counts as 1 */
  int32_t isa;               /* variant of a multiversioned object; 0: as detected */
  void *(*allocate)(nncc_rt_ctx *self, size_t size_bytes); /* for outputs and temporaries of data-dependent size only */
  void (*release)(nncc_rt_ctx *self, void *memory);
  void *user;                /* the host's */
  /* The first error in program order; valid when run did not return 0. */
  int32_t error;
  int32_t error_step;
  const char *error_node;    /* ONNX node, or tensor name; static text inside the model */
  const char *error_what;
  int64_t found, expected;
  /* Runs fn(arg, step * ntasks + t, w) for t in 0..ntasks-1 of each step in 0..nsteps-1: the tasks of a step as parallel_for
     would, all of them before the first of the next step. NULL: the model calls parallel_for for each step. */
  void (*parallel_steps)(nncc_rt_ctx *self, int64_t nsteps, int64_t ntasks, nncc_rt_task *fn, void *arg);
};

/* An input or output as compiled. dims[i] >= 0 is a number; -1 an expression, whose text is in dim_texts[i]. */
typedef struct nncc_rt_io {
  const char *name;          /* as in the ONNX model */
  int32_t dtype;
  int32_t rank;
  const int64_t *dims;
  const char *const *dim_texts;
} nncc_rt_io;

typedef struct nncc_rt_model {
  uint32_t abi;              /* NNCC_RT_ABI */
  uint32_t flags;            /* NNCC_RT_MODEL_* */
  const char *name;
  int32_t ninputs, noutputs;
  const nncc_rt_io *inputs, *outputs;
  size_t workspace_bytes;    /* of a static model, without workers; SIZE_MAX: ask workspace_size */
  size_t worker_bytes;       /* for each worker */
  size_t weights_bytes;
  const void *weights;       /* inside the object, or NULL: they are in a side file */
  uint64_t weights_hash;
  /* Checks everything, runs; 0 or an NNCC_RT_E code with the context's error fields filled. */
  int32_t (*run)(nncc_rt_ctx *ctx, const nncc_rt_tensor *in, nncc_rt_tensor *out);
  /* Bytes of workspace for these input shapes (data may be NULL) and number of workers; SIZE_MAX on
     overflow or when the shapes do not fit. */
  size_t (*workspace_size)(const nncc_rt_tensor *in, int32_t nworkers);
  /* Writes the output dims for these input shapes, -1 where they depend on data. */
  int32_t (*output_dims)(nncc_rt_ctx *ctx, const nncc_rt_tensor *in, nncc_rt_tensor *out);
} nncc_rt_model;

enum { NNCC_RT_MODEL_SYMBOLIC = 1, NNCC_RT_MODEL_DATA_DEPENDENT = 2, NNCC_RT_MODEL_ALLOCATES = 4 };

/* ---- libnncc_rt: optional ------------------------------------------------------------------------ */

const char *nncc_rt_error_text(int32_t error);
size_t nncc_rt_dtype_bytes(int32_t dtype, uint64_t count); /* dense bytes of count elements; 0 for strings; SIZE_MAX on overflow */
/* "node 'Gather_3': index 7, expected less than 5"; returns buffer. */
const char *nncc_rt_ctx_message(const nncc_rt_ctx *ctx, char *buffer, size_t size_bytes);

/* A pool of nworkers threads, the caller being one of them; it may serve several contexts and models at
   once. Idle threads spin briefly, then sleep. NULL when out of memory or threads. */
typedef struct nncc_rt_pool nncc_rt_pool;
nncc_rt_pool *nncc_rt_pool_create(int32_t nworkers);
void nncc_rt_pool_destroy(nncc_rt_pool *pool);          /* NULL is fine */
int32_t nncc_rt_pool_nworkers(const nncc_rt_pool *pool);
void nncc_rt_ctx_use_pool(nncc_rt_ctx *ctx, nncc_rt_pool *pool); /* sets parallel_for, parallel_steps, pool, nworkers; NULL: none */
/* parallel_steps on top of any parallel_for that runs its tasks on threads. */
void nncc_rt_parallel_steps(nncc_rt_ctx *self, int64_t nsteps, int64_t ntasks, nncc_rt_task *fn, void *arg);

/* Weights beside an object (OUT.weights): mapped read-only and checked against the model's hash. */
typedef struct nncc_rt_file nncc_rt_file;
int32_t nncc_rt_load_weights(const nncc_rt_model *model, const char *path, nncc_rt_file **file, const void **weights);
void nncc_rt_file_close(nncc_rt_file *file);            /* NULL is fine */

/* An instance: model + workspace + pool + output buffers, for programs that want no bookkeeping. */
typedef struct nncc_rt_session nncc_rt_session;
int32_t nncc_rt_session_create(const nncc_rt_model *model, const char *weights_path, int32_t nworkers, nncc_rt_session **session);
void nncc_rt_session_destroy(nncc_rt_session *session); /* NULL is fine */
/* Runs; sizes the workspace (grown when shapes grow) and the outputs. *out: noutputs tensors owned by the
   session, valid until the next run. */
int32_t nncc_rt_session_run(nncc_rt_session *session, const nncc_rt_tensor *in, const nncc_rt_tensor **out);
nncc_rt_ctx *nncc_rt_session_ctx(nncc_rt_session *session);

/* Moves the weights to private memory in large pages, where the system has them: the program may then read them from memory
   nearly twice as fast. Takes about 1 ms for a MiB, once, and may be done while the model runs; for programs that
   run a large model many times. The bytes moved; 0 where there are no large pages. */
size_t nncc_rt_session_large_pages(nncc_rt_session *session);

/* The same for any read-only memory, such as a caller's weights; and a hint for memory that is still untouched. */
size_t nncc_rt_move_to_large_pages(const void *memory, size_t bytes);
void nncc_rt_want_large_pages(void *memory, size_t bytes);

/* A shared object made by `nncc -o NAME.so`: finds the descriptor NAME. */
typedef struct nncc_rt_library nncc_rt_library;
int32_t nncc_rt_library_open(const char *path, const char *name, nncc_rt_library **library, const nncc_rt_model **model);
void nncc_rt_library_close(nncc_rt_library *library);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
