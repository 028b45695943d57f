/* The benchmark's runner of a shared object made by nncc; LIBRARY is the model's name inside it. With PEER_LINKED
   the model, named `model`, is linked into the program. */
#include "peer.h"
#include "runtime/nncc_rt.h"

#include <string.h>

static const nncc_rt_model *compiled;
static nncc_rt_session *session;
static nncc_rt_tensor inputs[PEER_MAX_IO];
static int64_t input_dims[PEER_MAX_IO][PEER_MAX_RANK];
static const nncc_rt_tensor *outputs;

#ifdef PEER_LINKED
extern const nncc_rt_model model;

static int32_t open_model(const char *library, const char *path) {
  (void)library, (void)path;
  compiled = &model;
  return 0;
}
#else
static int32_t open_model(const char *library, const char *path) {
  nncc_rt_library *opened = NULL;
  return nncc_rt_library_open(path, library, &opened, &compiled);
}
#endif

static const peer_tensor *find_input(const peer_tensor *in, int nin, const char *name) {
  for (int i = 0; i < nin; i++)
    if (strcmp(in[i].name, name) == 0) return &in[i];
  peer_die("no input for '%s'", name);
}

void engine_open(const char *library, const char *path, int threads, const peer_tensor *in, int nin) {
  int32_t error = open_model(library, path);
  if (error == 0) error = nncc_rt_session_create(compiled, NULL, threads, &session);
  if (error != 0) peer_die("%s: %s", path, nncc_rt_error_text(error));
#ifndef PEER_LINKED
  nncc_rt_session_large_pages(session);
#endif
  if (compiled->ninputs > PEER_MAX_IO || compiled->noutputs > PEER_MAX_IO)
    peer_die("%s: more than %d inputs or outputs", path, PEER_MAX_IO);
  for (int i = 0; i < compiled->ninputs; i++) {
    const peer_tensor *t = find_input(in, nin, compiled->inputs[i].name);
    memcpy(input_dims[i], t->dims, sizeof input_dims[i]);
    inputs[i] = (nncc_rt_tensor){.data = t->data, .dims = input_dims[i], .dtype = t->dtype, .rank = t->rank};
  }
}

void engine_run(void) {
  if (nncc_rt_session_run(session, inputs, &outputs) == 0) return;
  char text[512];
  peer_die("%s", nncc_rt_ctx_message(nncc_rt_session_ctx(session), text, sizeof text));
}

int engine_outputs(peer_tensor *out) {
  for (int i = 0; i < compiled->noutputs; i++) {
    out[i] = (peer_tensor){
        .name = compiled->outputs[i].name, .data = outputs[i].data, .rank = outputs[i].rank, .dtype = outputs[i].dtype};
    for (int k = 0; k < outputs[i].rank && k < PEER_MAX_RANK; k++) out[i].dims[k] = outputs[i].dims[k];
  }
  return compiled->noutputs;
}
