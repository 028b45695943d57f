/* A compiled model, whichever way: the JIT, an object that goes through the linker and dlopen, or the loop
   interpreter (without passes but the one that says where f16 is rounded: the plainest reading of the model; where
   bits are promised to be the same everywhere, the program that would be compiled). */
#include "tools/tools.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COMPILED_LEVEL = 2 };

struct engine {
  engine_kind kind;
  nncc_model *model;
  const nncc_rt_model *compiled;  /* JIT, AOT */
  nncc_rt_session *session;
  nncc_rt_library *library;       /* AOT */
  const nn_program *program;
  nn_target target;
  bool has_target;
  nncc_rt_ctx ctx;
  host_tensor *outputs;
  nncc_rt_tensor *views;
  char *message;                  /* of a failure outside the model */
};

static nn_graph *graph_of(const engine *e) { return e->model->module->main; }

static void *allocate(nncc_rt_ctx *self, size_t size_bytes) {
  (void)self;
  return malloc(size_bytes ? size_bytes : 1);
}

static void release(nncc_rt_ctx *self, void *memory) {
  (void)self;
  free(memory);
}

/* ---- opening -------------------------------------------------------------------------------------------- */

static nncc_compile_options options_of(const engine_options *o) {
  nncc_compile_options options = {.level = o->level};
  if (o->code) {
    options.fp = o->code->fp;
    options.tuning = o->code->tuning;
  }
  return options;
}

static bool open_jit(engine *e, const engine_options *o) {
  nncc_compile_options options = options_of(o);
  options.symbols = o->symbols;
  return nn_model_jit_hooked(e->model, &options, o->hook, &e->program, &e->compiled) == NN_OK;
}

static bool open_library(engine *e, const engine_options *o) {
  char dir[] = "/tmp/nncc-XXXXXX";
  if (!mkdtemp(dir)) return nn_report(&e->model->module->diags, NN_ERROR, NULL, NULL, NULL, "cannot make a folder in /tmp") == NN_OK;
  char path[64];
  snprintf(path, sizeof path, "%s/model.so", dir);
  nncc_compile_options options = options_of(o);
  options.header = "";
  options.name = "model";
  options.weights = NNCC_WEIGHTS_EMBED;
  bool ok = nn_model_compile_hooked(e->model, path, &options, o->hook, &e->program) == NN_OK;
  if (ok && nncc_rt_library_open(path, "model", &e->library, &e->compiled) != NNCC_RT_OK)
    ok = nn_report(&e->model->module->diags, NN_ERROR, NULL, NULL, NULL, "the shared object that was just made cannot be loaded") == NN_OK;
  unlink(path);
  rmdir(dir);
  return ok;
}

static nn_program *plain_program(nn_module *m, const nn_target *t) {
  static const char *const meaning[] = {"widen"};
  if (nn_passes_run(m, meaning, 1, NULL) != NN_OK) return NULL;
  nn_program *p = nn_program_build(m, t);
  return p && nn_plan_memory(p, t) == NN_OK ? p : NULL;
}

static bool open_interpreter(engine *e, const engine_options *o) {
  nn_module *m = e->model->module;
  if (e->model->finish && e->model->finish(e->model) != NN_OK) return false;
  if (nn_target_init(&e->target, NULL, NULL, &m->diags) != NN_OK) return false;
  e->has_target = true;
  if (o->code) e->target.fp = o->code->fp;
  e->program = e->target.fp == NNCC_FP_EXACT ? nn_compile(m, &e->target, COMPILED_LEVEL, NULL, NULL) : plain_program(m, &e->target);
  if (!e->program) return false;
  int n = engine_noutputs(e);
  e->outputs = calloc((size_t)n + 1, sizeof *e->outputs);
  e->views = calloc((size_t)n + 1, sizeof *e->views);
  e->ctx.allocate = allocate;
  e->ctx.release = release;
  return e->outputs && e->views;
}

static bool open_kind(engine *e, const engine_options *o) {
  switch (o->kind) {
    case ENGINE_JIT: return open_jit(e, o);
    case ENGINE_AOT: return open_library(e, o);
    case ENGINE_INTERP: return open_interpreter(e, o);
  }
  return false;
}

engine *engine_open(nncc_model *model, const engine_options *o) {
  engine *e = calloc(1, sizeof *e);
  if (!e) return NULL;
  e->kind = o->kind;
  e->model = model;
  bool ok = open_kind(e, o);
  if (ok && o->kind != ENGINE_INTERP) ok = nncc_rt_session_create(e->compiled, NULL, o->threads, &e->session) == NNCC_RT_OK;
  if (ok && o->large_pages && e->session) nncc_rt_session_large_pages(e->session);
  if (ok) return e;
  engine_close(e);
  return NULL;
}

nn_module *engine_module(const engine *e) { return e->model->module; }

const nn_program *engine_program(const engine *e) { return e->program; }

nncc_rt_ctx *engine_ctx(engine *e) { return e->session ? nncc_rt_session_ctx(e->session) : &e->ctx; }

void engine_close(engine *e) {
  if (!e) return;
  nncc_rt_session_destroy(e->session);
  nncc_rt_library_close(e->library);
  for (int i = 0; e->outputs && i < engine_noutputs(e); i++) host_tensor_free(&e->outputs[i]);
  free(e->outputs);
  free(e->views);
  if (e->has_target) nn_target_free(&e->target);
  free(e);
}

/* ---- what it takes and gives ------------------------------------------------------------------------------- */

int engine_ninputs(const engine *e) { return e->compiled ? e->compiled->ninputs : graph_of(e)->nparams; }

int engine_noutputs(const engine *e) { return e->compiled ? e->compiled->noutputs : nn_graph_return(graph_of(e))->nin; }

const char *engine_input_name(const engine *e, int i) { return e->compiled ? e->compiled->inputs[i].name : graph_of(e)->params[i]->name; }

const char *engine_output_name(const engine *e, int i) {
  if (e->compiled) return e->compiled->outputs[i].name;
  return nn_graph_output_name(graph_of(e), i);
}

int32_t engine_input_dtype(const engine *e, int i) {
  return e->compiled ? e->compiled->inputs[i].dtype : nn_dtype_onnx(graph_of(e)->params[i]->type.dtype);
}

static int param_dims(const engine *e, int i, const int64_t **dims) {
  nn_type t = graph_of(e)->params[i]->type;
  int64_t *values = NN_NEW_ARRAY(e->model->module->arena, int64_t, t.rank + 1);
  for (int d = 0; d < t.rank; d++)
    if (!nn_dim_is_const(t.dims[d], &values[d])) values[d] = -1;
  *dims = values;
  return t.rank;
}

int engine_input_dims(const engine *e, int i, const int64_t **dims) {
  if (!e->compiled) return param_dims(e, i, dims);
  *dims = e->compiled->inputs[i].dims;
  return e->compiled->inputs[i].rank;
}

/* ---- running -------------------------------------------------------------------------------------------------- */

int64_t *engine_symbols(const engine *e, const nncc_rt_tensor *in, bool *bound) {
  nn_module *m = e->model->module;
  int64_t *symbols = NN_NEW_ARRAY(m->arena, int64_t, m->nsymbols + 1);
  for (int i = 0; i < graph_of(e)->nparams; i++) {
    nn_type t = graph_of(e)->params[i]->type;
    for (int d = 0; d < t.rank && d < in[i].rank; d++) {
      nn_dim dim = t.dims[d];
      if (dim->nterms != 1 || dim->terms[0].coefficient != 1 || dim->terms[0].natoms != 1) continue;
      const nn_atom *atom = dim->terms[0].atoms[0];
      if (atom->kind != NN_ATOM_SYMBOL) continue;
      symbols[atom->symbol] = in[i].dims[d];
      bound[atom->symbol] = true;
    }
  }
  return symbols;
}

/* Memory for the outputs whose size follows from the inputs' shapes; the others are the run's to allocate. */
static bool prepare_outputs(engine *e, const nncc_rt_tensor *in) {
  nn_module *m = e->model->module;
  bool *bound = NN_NEW_ARRAY(m->arena, bool, m->nsymbols + 1);
  int64_t *symbols = engine_symbols(e, in, bound);
  for (int i = 0; i < engine_noutputs(e); i++) {
    nn_type t = nn_graph_return(graph_of(e))->in[i]->type;
    bool *used = NN_NEW_ARRAY(m->arena, bool, m->nsymbols + 1), is_open = false;
    int64_t dims[NN_MAX_RANK] = {0};
    for (int d = 0; d < t.rank; d++) nn_dim_symbols(t.dims[d], used);
    for (int s = 0; s < m->nsymbols; s++) is_open |= used[s] && !bound[s];
    for (int d = 0; d < t.rank && !is_open; d++)
      if (!nn_dim_eval(t.dims[d], symbols, &dims[d])) return false;
    host_tensor_free(&e->outputs[i]);
    if (!host_tensor_alloc(&e->outputs[i], nn_dtype_onnx(t.dtype), t.rank, dims)) return false;
    if (is_open) {
      free(e->outputs[i].t.data);
      e->outputs[i].t.data = NULL;
    }
    e->views[i] = e->outputs[i].t;
  }
  return true;
}

static int32_t run_interpreter(engine *e, const nncc_rt_tensor *in, const nncc_rt_tensor **out) {
  e->ctx.error = NNCC_RT_OK;
  if (!prepare_outputs(e, in)) return e->ctx.error = NNCC_RT_EMEMORY;
  int32_t error = nn_program_eval(e->program, in, e->views, &e->ctx);
  for (int i = 0; i < engine_noutputs(e); i++) e->outputs[i].t.data = e->views[i].data;
  *out = e->views;
  return error;
}

int32_t engine_run(engine *e, const nncc_rt_tensor *in, const nncc_rt_tensor **out) {
  return e->kind == ENGINE_INTERP ? run_interpreter(e, in, out) : nncc_rt_session_run(e->session, in, out);
}

const char *engine_message(engine *e, char *buffer, size_t size_bytes) {
  return nncc_rt_ctx_message(engine_ctx(e), buffer, size_bytes);
}
