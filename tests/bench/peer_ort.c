/* The benchmark's runner of ONNX Runtime, through its C API, so that no binding adds to a small model's time.
   LIBRARY is libonnxruntime.so.1, as the npm package onnxruntime-node holds it (which has no header). The API is a
   table of functions that only ever grows at its end: the few used here are named by their place in it.
   Outputs of the first run are used again by later ones. */
#include "peer.h"

#include <dlfcn.h>

enum { API_VERSION = 1 }; /* all places below are those of version 1 */

enum api_place {
  GET_ERROR_MESSAGE = 2,
  CREATE_ENV = 3,
  CREATE_SESSION = 7,
  RUN = 9,
  CREATE_SESSION_OPTIONS = 10,
  SET_OPTIMIZATION_LEVEL = 23,
  SET_INTRA_THREADS = 24,
  SET_INTER_THREADS = 25,
  OUTPUT_COUNT = 31,
  OUTPUT_NAME = 37,
  CREATE_TENSOR = 49,
  TENSOR_DATA = 51,
  ELEMENT_TYPE = 60,
  DIMENSIONS_COUNT = 61,
  DIMENSIONS = 62,
  TYPE_AND_SHAPE = 65,
  CREATE_CPU_MEMORY_INFO = 69,
  DEFAULT_ALLOCATOR = 78
};

enum { LOG_ERRORS = 3, OPTIMIZE_ALL = 99, ARENA_ALLOCATOR = 1, DEFAULT_MEMORY = 0 };

typedef void object; /* any of ONNX Runtime's opaque types */
typedef object *status;
typedef void (*function)(void);
typedef struct api_base {
  const function *(*get_api)(uint32_t version);
  const char *(*version)(void);
} api_base;

static const function *api;
static object *session;
static const char *input_names[PEER_MAX_IO], *output_names[PEER_MAX_IO];
static const object *input_values[PEER_MAX_IO];
static object *output_values[PEER_MAX_IO];
static size_t ninputs, noutputs;

/* The function at `place`, called as `type` says; a status that is not NULL is the end. */
#define CALL(place, type, ...) check(((status(*) type)api[place])(__VA_ARGS__))

static void check(status s) {
  if (s) peer_die("onnxruntime: %s", ((const char *(*)(object *))api[GET_ERROR_MESSAGE])(s));
}

static void open_api(const char *library) {
  void *handle = dlopen(library, RTLD_NOW);
  if (!handle) peer_die("%s", dlerror());
  const api_base *(*get_base)(void);
  *(void **)&get_base = dlsym(handle, "OrtGetApiBase");
  if (!get_base || !(api = get_base()->get_api(API_VERSION))) peer_die("%s: no C API", library);
}

static void open_session(const char *model, int threads) {
  object *env, *options;
  CALL(CREATE_ENV, (int, const char *, object **), LOG_ERRORS, "peer", &env);
  CALL(CREATE_SESSION_OPTIONS, (object **), &options);
  CALL(SET_OPTIMIZATION_LEVEL, (object *, int), options, OPTIMIZE_ALL);
  CALL(SET_INTRA_THREADS, (object *, int), options, threads);
  CALL(SET_INTER_THREADS, (object *, int), options, 1);
  CALL(CREATE_SESSION, (object *, const char *, object *, object **), env, model, options, &session);
}

static void make_inputs(const peer_tensor *in, int nin) {
  object *memory;
  CALL(CREATE_CPU_MEMORY_INFO, (int, int, object **), ARENA_ALLOCATOR, DEFAULT_MEMORY, &memory);
  for (int i = 0; i < nin; i++) {
    object *value;
    CALL(CREATE_TENSOR, (object *, void *, size_t, const int64_t *, size_t, int, object **), memory, in[i].data,
         peer_tensor_bytes(&in[i]), in[i].dims, (size_t)in[i].rank, in[i].dtype, &value);
    input_names[i] = in[i].name;
    input_values[i] = value;
  }
  ninputs = (size_t)nin;
}

void engine_open(const char *library, const char *model, int threads, const peer_tensor *in, int nin) {
  open_api(library);
  open_session(model, threads);
  make_inputs(in, nin);
  object *allocator;
  CALL(DEFAULT_ALLOCATOR, (object **), &allocator);
  CALL(OUTPUT_COUNT, (object *, size_t *), session, &noutputs);
  if (noutputs > PEER_MAX_IO) peer_die("%s: more than %d outputs", model, PEER_MAX_IO);
  for (size_t i = 0; i < noutputs; i++)
    CALL(OUTPUT_NAME, (object *, size_t, object *, const char **), session, i, allocator, &output_names[i]);
}

void engine_run(void) {
  CALL(RUN,
       (object *, object *, const char *const *, const object *const *, size_t, const char *const *, size_t, object **),
       session, NULL, input_names, input_values, ninputs, output_names, noutputs, output_values);
}

int engine_outputs(peer_tensor *out) {
  for (size_t i = 0; i < noutputs; i++) {
    object *info;
    size_t rank;
    out[i] = (peer_tensor){.name = output_names[i]};
    CALL(TENSOR_DATA, (object *, void **), output_values[i], &out[i].data);
    CALL(TYPE_AND_SHAPE, (object *, object **), output_values[i], &info);
    CALL(ELEMENT_TYPE, (object *, int *), info, &out[i].dtype);
    CALL(DIMENSIONS_COUNT, (object *, size_t *), info, &rank);
    if (rank > PEER_MAX_RANK) peer_die("output '%s': rank %zu, at most %d", output_names[i], rank, PEER_MAX_RANK);
    CALL(DIMENSIONS, (object *, int64_t *, size_t), info, out[i].dims, rank);
    out[i].rank = (int)rank;
  }
  return (int)noutputs;
}
