/* An instance of a model with everything a run needs: context, pool, workspace, output buffers. The
   workspace and the outputs grow when shapes grow and are kept. */
#include "runtime/nncc_rt.h"

#include <stdlib.h>
#include <string.h>

typedef struct output {
  void *memory;    /* the session's; NULL when the last run allocated the output itself */
  size_t capacity;
  void *from_run;  /* allocated by the run, to release before the next */
} output;

struct nncc_rt_session {
  const nncc_rt_model *model;
  nncc_rt_ctx ctx;
  nncc_rt_pool *pool;
  nncc_rt_file *weights;
  nncc_rt_tensor *tensors; /* outputs */
  output *outputs;
  int64_t *dims;           /* of all outputs, one after the other */
};

static void *allocate(nncc_rt_ctx *self, size_t size_bytes) {
  (void)self;
  return malloc(size_bytes ? size_bytes : 1);
}

static void release(nncc_rt_ctx *self, void *memory) {
  (void)self;
  free(memory);
}

static int32_t create_outputs(nncc_rt_session *s) {
  size_t ndims = 0, n = (size_t)s->model->noutputs;
  for (size_t i = 0; i < n; i++) ndims += (size_t)s->model->outputs[i].rank;
  s->tensors = calloc(n + 1, sizeof *s->tensors);
  s->outputs = calloc(n + 1, sizeof *s->outputs);
  s->dims = calloc(ndims + 1, sizeof *s->dims);
  if (!s->tensors || !s->outputs || !s->dims) return NNCC_RT_EMEMORY;
  int64_t *dims = s->dims;
  for (size_t i = 0; i < n; i++) {
    s->tensors[i] = (nncc_rt_tensor){NULL, dims, s->model->outputs[i].dtype, s->model->outputs[i].rank};
    dims += s->model->outputs[i].rank;
  }
  return NNCC_RT_OK;
}

/* A single worker has a pool, too: no threads, but repeated work changes its direction (threads.c). */
static int32_t create_rest(nncc_rt_session *s, const char *weights_path, int32_t nworkers) {
  int32_t error = create_outputs(s);
  if (error == NNCC_RT_OK && weights_path)
    error = nncc_rt_load_weights(s->model, weights_path, &s->weights, &s->ctx.weights);
  if (error == NNCC_RT_OK && !(s->pool = nncc_rt_pool_create(nworkers))) error = NNCC_RT_EMEMORY;
  if (error != NNCC_RT_OK) return error;
  nncc_rt_ctx_use_pool(&s->ctx, s->pool);
  s->ctx.allocate = allocate;
  s->ctx.release = release;
  return NNCC_RT_OK;
}

int32_t nncc_rt_session_create(const nncc_rt_model *model, const char *weights_path, int32_t nworkers, nncc_rt_session **session) {
  if (!model || !session) return NNCC_RT_EINVAL;
  *session = NULL;
  if (model->abi != NNCC_RT_ABI) return NNCC_RT_EABI;
  nncc_rt_session *s = calloc(1, sizeof *s);
  if (!s) return NNCC_RT_EMEMORY;
  s->model = model;
  int32_t error = create_rest(s, weights_path, nworkers);
  if (error != NNCC_RT_OK) {
    nncc_rt_session_destroy(s);
    return error;
  }
  *session = s;
  return NNCC_RT_OK;
}

size_t nncc_rt_session_large_pages(nncc_rt_session *s) {
  if (!s) return 0;
  const void *weights = s->ctx.weights ? s->ctx.weights : s->model->weights;
  return weights ? nncc_rt_move_to_large_pages(weights, s->model->weights_bytes) : 0;
}

static void release_run_outputs(nncc_rt_session *s) {
  for (int32_t i = 0; s->outputs && i < s->model->noutputs; i++) {
    free(s->outputs[i].from_run);
    s->outputs[i].from_run = NULL;
  }
}

void nncc_rt_session_destroy(nncc_rt_session *s) {
  if (!s) return;
  release_run_outputs(s);
  for (int32_t i = 0; s->outputs && i < s->model->noutputs; i++) free(s->outputs[i].memory);
  nncc_rt_pool_destroy(s->pool);
  nncc_rt_file_close(s->weights);
  free(s->ctx.workspace);
  free(s->tensors);
  free(s->outputs);
  free(s->dims);
  free(s);
}

static int32_t fail(nncc_rt_session *s, int32_t error) {
  if (s->ctx.error == NNCC_RT_OK) s->ctx.error = error;
  return error;
}

/* Large ones ask for large pages: the first touch of a page costs more than a small model's run. */
static void *take_workspace(size_t bytes) {
  const size_t page = (size_t)2 << 20;
  if (bytes < page) return aligned_alloc(NNCC_RT_ALIGN, bytes);
  void *memory = NULL;
  if (posix_memalign(&memory, page, bytes) != 0) return NULL;
  nncc_rt_want_large_pages(memory, bytes);
  return memory;
}

/* At least `bytes`; contents need not survive. */
static int32_t grow_workspace(nncc_rt_session *s, size_t bytes) {
  if (bytes <= s->ctx.workspace_bytes && s->ctx.workspace) return NNCC_RT_OK;
  if (bytes > SIZE_MAX - NNCC_RT_ALIGN) return NNCC_RT_EMEMORY;
  bytes = (bytes + NNCC_RT_ALIGN - 1) / NNCC_RT_ALIGN * NNCC_RT_ALIGN;
  if (bytes == 0) bytes = NNCC_RT_ALIGN;
  free(s->ctx.workspace);
  s->ctx.workspace_bytes = 0;
  s->ctx.workspace = take_workspace(bytes);
  if (!s->ctx.workspace) return NNCC_RT_EMEMORY;
  s->ctx.workspace_bytes = bytes;
  return NNCC_RT_OK;
}

/* Dense bytes of a tensor; SIZE_MAX on overflow, 0 with *is_open when a dim depends on data. */
static size_t tensor_bytes(const nncc_rt_tensor *t, int *is_open) {
  uint64_t count = 1;
  *is_open = 0;
  for (int32_t i = 0; i < t->rank; i++) {
    if (t->dims[i] < 0) {
      *is_open = 1;
      return 0;
    }
    if (t->dims[i] != 0 && count > UINT64_MAX / (uint64_t)t->dims[i]) return SIZE_MAX;
    count *= (uint64_t)t->dims[i];
  }
  return nncc_rt_dtype_bytes(t->dtype, count);
}

static int32_t grow_output(nncc_rt_session *s, int32_t i) {
  int is_open;
  size_t bytes = tensor_bytes(&s->tensors[i], &is_open);
  output *o = &s->outputs[i];
  s->tensors[i].data = NULL;
  if (is_open) return NNCC_RT_OK;
  if (bytes == SIZE_MAX) return NNCC_RT_EMEMORY;
  if (bytes > o->capacity || !o->memory) {
    free(o->memory);
    o->capacity = 0;
    o->memory = malloc(bytes ? bytes : 1);
    if (!o->memory) return NNCC_RT_EMEMORY;
    o->capacity = bytes;
  }
  s->tensors[i].data = o->memory;
  return NNCC_RT_OK;
}

static int32_t prepare(nncc_rt_session *s, const nncc_rt_tensor *in) {
  const nncc_rt_model *m = s->model;
  int32_t error = m->output_dims(&s->ctx, in, s->tensors);
  if (error != NNCC_RT_OK) return error;
  int32_t nworkers = s->ctx.nworkers > 0 ? s->ctx.nworkers : 1;
  size_t bytes = m->workspace_size(in, nworkers);
  if (bytes == SIZE_MAX) return fail(s, NNCC_RT_EMEMORY);
  if ((error = grow_workspace(s, bytes)) != NNCC_RT_OK) return fail(s, error);
  for (int32_t i = 0; i < m->noutputs; i++)
    if ((error = grow_output(s, i)) != NNCC_RT_OK) return fail(s, error);
  return NNCC_RT_OK;
}

int32_t nncc_rt_session_run(nncc_rt_session *s, const nncc_rt_tensor *in, const nncc_rt_tensor **out) {
  if (!s || (!in && s->model->ninputs > 0) || !out) return NNCC_RT_EINVAL;
  release_run_outputs(s);
  s->ctx.error = NNCC_RT_OK;
  s->ctx.error_node = s->ctx.error_what = NULL;
  int32_t error = prepare(s, in);
  if (error == NNCC_RT_OK) error = s->model->run(&s->ctx, in, s->tensors);
  for (int32_t i = 0; i < s->model->noutputs; i++)
    if (s->tensors[i].data != s->outputs[i].memory) s->outputs[i].from_run = s->tensors[i].data;
  *out = s->tensors;
  return error;
}

nncc_rt_ctx *nncc_rt_session_ctx(nncc_rt_session *s) { return &s->ctx; }
