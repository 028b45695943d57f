/* A run's inputs: from files, by name or in order, or random. */
#include "tools/tools.h"

#include <stdlib.h>
#include <string.h>

/* Symbolic dimensions of a random input are 1. */
static bool random_input(const engine *e, int i, uint64_t seed, host_tensor *t) {
  const int64_t *dims;
  int64_t sizes[NN_MAX_RANK];
  int rank = engine_input_dims(e, i, &dims);
  for (int d = 0; d < rank; d++) sizes[d] = dims[d] < 0 ? 1 : dims[d];
  if (!host_tensor_alloc(t, engine_input_dtype(e, i), rank, sizes)) {
    fprintf(stderr, "nncc: input '%s' is too large\n", engine_input_name(e, i));
    return false;
  }
  host_tensor_random(&t->t, seed + (uint64_t)i);
  return true;
}

static int find_input(const engine *e, const char *name) {
  for (int i = 0; i < engine_ninputs(e); i++)
    if (strcmp(engine_input_name(e, i), name) == 0) return i;
  return -1;
}

/* The input that a file's tensor is for; -1 after printing why there is none. */
static int choose_input(const engine *e, const host_tensor *in, const char *file, const char *name, int *next) {
  int i = name ? find_input(e, name) : -1;
  if (name && i < 0 && strchr(file, '=')) {
    fprintf(stderr, "nncc: %s: the model has no input '%s'\n", file, name);
    return -1;
  }
  if (i < 0) { /* a tensor's own name that is no input's: by position */
    while (*next < engine_ninputs(e) && in[*next].t.data) (*next)++;
    i = *next;
  }
  if (i < engine_ninputs(e) && !in[i].t.data) return i;
  fprintf(stderr, "nncc: %s: %s\n", file,
          i >= engine_ninputs(e) ? "more files than inputs" : "this input is given twice");
  return -1;
}

/* Takes t. */
static bool place(const engine *e, host_tensor *in, const char *file, const char *name, host_tensor *t, int *next) {
  int i = choose_input(e, in, file, name, next);
  if (i < 0)
    host_tensor_free(t);
  else
    in[i] = *t;
  return i >= 0;
}

static bool read_archive(const engine *e, host_tensor *in, const char *file, const char *path, int *next) {
  host_tensor *tensors;
  int count = host_tensors_read_npz(path, &tensors);
  bool ok = count >= 0;
  for (int i = 0; i < count; i++) {
    if (ok)
      ok = place(e, in, file, tensors[i].name, &tensors[i], next);
    else
      host_tensor_free(&tensors[i]);
  }
  if (count >= 0) free(tensors);
  return ok;
}

/* file: PATH or NAME=PATH; an archive gives all its tensors by name. */
static bool read_file(const engine *e, host_tensor *in, const char *file, int *next) {
  const char *equals = strchr(file, '='), *path = equals ? equals + 1 : file;
  size_t n = strlen(path);
  if (n > 4 && strcmp(path + n - 4, ".npz") == 0) return read_archive(e, in, file, path, next);
  char *name = equals ? strndup(file, (size_t)(equals - file)) : NULL;
  host_tensor t;
  bool ok = host_tensor_read(path, &t) && place(e, in, file, name ? name : t.name, &t, next);
  free(name);
  return ok;
}

host_tensor *read_inputs(const engine *e, const char *const *files, bool random, uint64_t seed) {
  int n = engine_ninputs(e), next = 0;
  host_tensor *in = calloc((size_t)n + 1, sizeof *in);
  bool ok = in != NULL;
  for (; ok && *files; files++) ok = read_file(e, in, *files, &next);
  for (int i = 0; ok && i < n; i++) {
    if (in[i].t.data) continue;
    if (!random) {
      fprintf(stderr, "nncc: input '%s' is not given (a file, or --random SEED)\n", engine_input_name(e, i));
      ok = false;
    } else {
      ok = random_input(e, i, seed, &in[i]);
    }
  }
  if (ok) return in;
  free_inputs(e, in);
  return NULL;
}

void free_inputs(const engine *e, host_tensor *in) {
  for (int i = 0; in && i < engine_ninputs(e); i++) host_tensor_free(&in[i]);
  free(in);
}
