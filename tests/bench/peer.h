/* The runners of the benchmark: one main program (peer.c), linked with one engine (peer_nncc.c or peer_ort.c). */
#ifndef PEER_H
#define PEER_H

#include <stddef.h>
#include <stdint.h>

enum { PEER_MAX_IO = 64, PEER_MAX_RANK = 8 };

/* dtype: ONNX's numbers; only f32 (1) and i64 (7) occur in the benchmark's models. */
typedef struct peer_tensor {
  const char *name;
  void *data;
  int64_t dims[PEER_MAX_RANK];
  int rank, dtype;
} peer_tensor;

size_t peer_tensor_bytes(const peer_tensor *t);
_Noreturn void peer_die(const char *format, ...);

/* ---- an engine ------------------------------------------------------------------------------------------- */

/* Prepares `model` for runs on these inputs, which stay valid and unchanged. Dies on failure. */
void engine_open(const char *library, const char *model, int threads, const peer_tensor *in, int nin);
void engine_run(void);
/* The outputs of the last run, in the model's order; the answer is their number. */
int engine_outputs(peer_tensor *out);

#endif
