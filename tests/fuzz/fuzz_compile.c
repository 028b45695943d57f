/* Fuzz target: what the importer accepts is compiled into memory and, if it is small, run on zeros. A model may be
   refused, and a run may end in an error; nothing else may go wrong. */
#include "ir/nncc.h"

#include <stdbool.h>
#include <stdlib.h>

enum { MAX_TENSORS = 32, MAX_RANK = 12, MAX_BYTES = 1 << 16, SYMBOL = 2 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An input of zeros, symbolic dimensions being 2; false if it is not small. */
static bool fill_input(const nncc_rt_io *io, int64_t *dims, nncc_rt_tensor *t) {
  uint64_t count = 1;
  if (io->rank > MAX_RANK) return false;
  for (int i = 0; i < io->rank; i++) {
    dims[i] = io->dims[i] < 0 ? SYMBOL : io->dims[i];
    if (dims[i] > MAX_BYTES || (count *= (uint64_t)dims[i]) > MAX_BYTES) return false;
  }
  size_t bytes = nncc_rt_dtype_bytes(io->dtype, count);
  if (bytes > MAX_BYTES) return false;
  *t = (nncc_rt_tensor){calloc(bytes + 1, 1), dims, io->dtype, io->rank};
  return t->data != NULL;
}

static bool is_small(const nncc_rt_model *m, const nncc_rt_tensor *in) {
  int64_t dims[MAX_TENSORS][MAX_RANK];
  nncc_rt_tensor out[MAX_TENSORS] = {{0}};
  nncc_rt_ctx ctx = {0};
  if (m->workspace_size(in, 1) > MAX_BYTES || m->weights_bytes > MAX_BYTES) return false;
  for (int i = 0; i < m->noutputs; i++) {
    if (m->outputs[i].rank > MAX_RANK) return false;
    out[i] = (nncc_rt_tensor){NULL, dims[i], m->outputs[i].dtype, m->outputs[i].rank};
  }
  if (m->output_dims(&ctx, in, out)) return false;
  for (int i = 0; i < m->noutputs; i++) {
    uint64_t count = 1;
    for (int d = 0; d < out[i].rank; d++)
      if (out[i].dims[d] > MAX_BYTES || (count *= (uint64_t)(out[i].dims[d] < 0 ? SYMBOL : out[i].dims[d])) > MAX_BYTES)
        return false;
  }
  return true;
}

static void run(const nncc_rt_model *m) {
  int64_t dims[MAX_TENSORS][MAX_RANK];
  nncc_rt_tensor in[MAX_TENSORS] = {{0}};
  const nncc_rt_tensor *out;
  nncc_rt_session *session;
  bool ok = m->ninputs <= MAX_TENSORS && m->noutputs <= MAX_TENSORS;
  for (int i = 0; ok && i < m->ninputs; i++) ok = fill_input(&m->inputs[i], dims[i], &in[i]);
  if (ok && is_small(m, in) && nncc_rt_session_create(m, NULL, 1, &session) == NNCC_RT_OK) {
    nncc_rt_session_run(session, in, &out);
    nncc_rt_session_destroy(session);
  }
  for (int i = 0; i < MAX_TENSORS; i++) free(in[i].data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  nncc_model *model;
  const nncc_rt_model *compiled;
  nncc_compile_options options = {.level = 1};
  if (nncc_model_load_memory("fuzz.onnx", data, size, NULL, &model) == NNCC_OK &&
      nncc_model_jit(model, &options, &compiled) == NNCC_OK)
    run(compiled);
  nncc_model_free(model);
  return 0;
}
