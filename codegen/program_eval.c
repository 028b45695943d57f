/* A program run by the loop interpreter: what `run` of compiled code does, in plain C. It is the oracle that
   compiled code is compared with, so it follows nncc_rt.h to the letter: inputs are checked and symbols
   bound before anything else, steps run in order, and the first error ends the run. */
#include "codegen/codegen.h"

#include <string.h>

typedef struct run {
  const nn_program *p;
  const nn_module *m;
  const nncc_rt_tensor *in;
  nncc_rt_tensor *out;
  nncc_rt_ctx *ctx;
  nn_arena *scratch;
  int64_t *symbols; /* by module symbol index */
  bool *is_bound;
  nn_map *memory; /* nn_place of its own -> base */
  char *workspace;
  int step;
} run;

static int fail(run *r, int code, const char *node, const char *what, int64_t found, int64_t expected) {
  r->ctx->error = code;
  r->ctx->error_step = r->step;
  r->ctx->error_node = node;
  r->ctx->error_what = what;
  r->ctx->found = found;
  r->ctx->expected = expected;
  return code;
}

static const char *name_of(const nn_value *v) { return v->name ? v->name : ""; }

/* ---- dimensions ---------------------------------------------------------------------------------- */

static bool is_known(const run *r, nn_dim d) {
  bool *used = NN_NEW_ARRAY(r->scratch, bool, r->m->nsymbols + 1);
  nn_dim_symbols(d, used);
  for (int i = 0; i < r->m->nsymbols; i++)
    if (used[i] && !r->is_bound[i]) return false;
  return true;
}

/* The symbol that d is, or -1. */
static int lone_symbol(nn_dim d) {
  if (d->nterms != 1 || d->terms[0].coefficient != 1 || d->terms[0].natoms != 1) return -1;
  const nn_atom *atom = d->terms[0].atoms[0];
  return atom->kind == NN_ATOM_SYMBOL ? atom->symbol : -1;
}

/* Gives the symbol d its value, or checks that the value is what d says. */
static int bind(run *r, nn_dim d, int64_t value, int code, const char *node, const char *what) {
  int symbol = lone_symbol(d);
  int64_t expected = 0;
  if (symbol >= 0 && !r->is_bound[symbol]) {
    const nn_symbol *s = r->m->symbols[symbol];
    if (value < s->min) return fail(r, code, node, what, value, s->min);
    if (value > s->max) return fail(r, code, node, what, value, s->max);
    r->symbols[symbol] = value;
    r->is_bound[symbol] = true;
    return NNCC_RT_OK;
  }
  if (!is_known(r, d)) return NNCC_RT_OK; /* checked when its symbols are bound */
  if (!nn_dim_eval(d, r->symbols, &expected) || expected != value) return fail(r, code, node, what, value, expected);
  return NNCC_RT_OK;
}

/* ---- inputs and outputs -------------------------------------------------------------------------- */

static int check_kind(run *r, const nncc_rt_tensor *t, const nn_value *v) {
  int dtype = nn_dtype_onnx(v->type.dtype);
  if (t->dtype != dtype) return fail(r, NNCC_RT_EINVAL, name_of(v), "element type", t->dtype, dtype);
  if (t->rank != v->type.rank) return fail(r, NNCC_RT_EINVAL, name_of(v), "rank", t->rank, v->type.rank);
  if (t->rank > 0 && !t->dims) return fail(r, NNCC_RT_EINVAL, name_of(v), "dims is NULL", 0, 1);
  return NNCC_RT_OK;
}

/* Symbols first, then the expressions that are made of them: in the order of inputs each. */
static int bind_input_dims(run *r, bool symbols) {
  for (int i = 0; i < r->p->ninputs; i++) {
    const nn_value *v = r->p->graph->params[i];
    for (int d = 0; d < v->type.rank; d++) {
      if ((lone_symbol(v->type.dims[d]) >= 0) != symbols) continue;
      int code = bind(r, v->type.dims[d], r->in[i].dims[d], NNCC_RT_ESHAPE, name_of(v), "dimension");
      if (code) return code;
    }
  }
  return NNCC_RT_OK;
}

static int64_t bytes_now(const run *r, nn_dim bytes) {
  int64_t value = 0;
  return nn_dim_eval(bytes, r->symbols, &value) ? value : -1;
}

static int check_inputs(run *r) {
  for (int i = 0; i < r->p->ninputs; i++) {
    int code = check_kind(r, &r->in[i], r->p->graph->params[i]);
    if (code) return code;
  }
  int code = bind_input_dims(r, true);
  if (!code) code = bind_input_dims(r, false);
  for (int i = 0; i < r->p->ninputs && !code; i++)
    if (!r->in[i].data && bytes_now(r, r->p->inputs[i]->bytes) != 0)
      code = fail(r, NNCC_RT_EINVAL, name_of(r->p->graph->params[i]), "data is NULL", 0, 1);
  return code;
}

static const nn_value *output_value(const run *r, int i) { return nn_graph_return(r->p->graph)->in[i]; }

static int check_outputs(run *r) {
  for (int i = 0; i < r->p->noutputs; i++) {
    const nn_value *v = output_value(r, i);
    int code = check_kind(r, &r->out[i], v);
    if (code) return code;
    nn_dim bytes = r->p->outputs[i]->bytes;
    if (!r->out[i].data && is_known(r, bytes) && bytes_now(r, bytes) != 0)
      return fail(r, NNCC_RT_EINVAL, name_of(v), "data is NULL", 0, 1);
  }
  return NNCC_RT_OK;
}

static void write_output_dims(run *r) {
  for (int i = 0; i < r->p->noutputs; i++) {
    const nn_value *v = output_value(r, i);
    for (int d = 0; d < v->type.rank; d++)
      if (!is_known(r, v->type.dims[d]) || !nn_dim_eval(v->type.dims[d], r->symbols, &r->out[i].dims[d]))
        r->out[i].dims[d] = -1;
  }
}

/* ---- memory -------------------------------------------------------------------------------------- */

static void *own_memory(run *r, nn_place *place) {
  void *memory = nn_map_get_ptr(r->memory, place);
  if (memory) return memory;
  int64_t bytes = bytes_now(r, place->bytes);
  memory = nn_alloc(r->scratch, bytes > 0 ? (size_t)bytes : 1);
  nn_map_put_ptr(r->memory, place, memory);
  return memory;
}

static void *output_memory(run *r, nn_place *place) {
  nncc_rt_tensor *t = &r->out[place->index];
  int64_t bytes = bytes_now(r, place->bytes);
  if (!t->data && bytes > 0 && r->ctx->allocate) t->data = r->ctx->allocate(r->ctx, (size_t)bytes);
  return t->data;
}

static void *memory_of(run *r, nn_place *place) {
  switch (place->kind) {
  case NN_PLACE_INPUT: return r->in[place->index].data;
  case NN_PLACE_OUTPUT: return output_memory(r, place);
  case NN_PLACE_WEIGHT: return (void *)(uintptr_t)place->value->tensor->data;
  default: return place->slot < 0 ? own_memory(r, place) : r->workspace + bytes_now(r, place->offset_dim);
  }
}

static int reserve_workspace(run *r) {
  int64_t bytes = bytes_now(r, r->p->workspace_bytes);
  if (bytes < 0) return fail(r, NNCC_RT_EWORKSPACE, "", "workspace", INT64_MAX, 0);
  r->workspace = nn_alloc(r->scratch, (size_t)bytes + 1);
  return NNCC_RT_OK;
}

/* ---- steps --------------------------------------------------------------------------------------- */

static int call(run *r, const nn_step *step) {
  void **args = NN_NEW_ARRAY(r->scratch, void *, step->nargs + 1);
  for (int i = 0; i < step->nargs; i++) {
    args[i] = memory_of(r, step->args[i]);
    if (!args[i] && bytes_now(r, step->args[i]->bytes) != 0)
      return fail(r, NNCC_RT_EMEMORY, step->op->loc, "memory", 0, 0);
  }
  nn_eval_error at = {0};
  int code = nn_kernel_eval(step->kernel, args, r->symbols, &at);
  return code ? fail(r, code, step->op->loc, code == NNCC_RT_EINDEX ? "index" : "value", at.found, at.limit) : code;
}

static int bind_dims(run *r, const nn_step *step) {
  const void *values = memory_of(r, step->args[0]); /* may be an input: of any alignment */
  for (int i = 0; i < step->ndims; i++) {
    int64_t value = nn_load_i64(NN_I64, values, (size_t)i);
    if (value < step->min) return fail(r, NNCC_RT_EVALUE, step->op->loc, "dimension", value, step->min);
    int code = bind(r, step->dims[i], value, NNCC_RT_EVALUE, step->op->loc, "dimension");
    if (code) return code;
  }
  write_output_dims(r);
  return NNCC_RT_OK;
}

static int check(run *r, const nn_step *step) {
  int64_t found = 0, expected = 0;
  bool ok = nn_dim_eval(step->found, r->symbols, &found) && nn_dim_eval(step->expected, r->symbols, &expected);
  if (strcmp(step->check, "le") == 0)
    ok = ok && found <= expected;
  else if (strcmp(step->check, "broadcast") == 0)
    ok = ok && (found == expected || found == 1);
  else
    ok = ok && found == expected;
  return ok ? NNCC_RT_OK : fail(r, NNCC_RT_ESHAPE, step->op->loc, step->what, found, expected);
}

static int copy(run *r, const nn_step *step) {
  void *from = memory_of(r, step->args[0]), *to = memory_of(r, step->args[1]);
  int64_t bytes = bytes_now(r, step->args[1]->bytes);
  if (bytes <= 0) return NNCC_RT_OK;
  if (!to) return fail(r, NNCC_RT_EMEMORY, step->op->loc, "memory", 0, 0);
  memmove(to, from, (size_t)bytes);
  return NNCC_RT_OK;
}

static int run_steps(run *r) {
  for (int i = 0; i < r->p->nsteps; i++) {
    const nn_step *step = &r->p->steps[i];
    int code = NNCC_RT_OK;
    r->step = i;
    switch (step->kind) {
    case NN_STEP_CALL: code = call(r, step); break;
    case NN_STEP_BIND: code = bind_dims(r, step); break;
    case NN_STEP_CHECK: code = check(r, step); break;
    case NN_STEP_COPY: code = copy(r, step); break;
    }
    if (code) return code;
  }
  return NNCC_RT_OK;
}

static int run_all(run *r) {
  int code = check_inputs(r);
  if (!code) code = check_outputs(r);
  if (!code) code = reserve_workspace(r);
  if (code) return code;
  write_output_dims(r);
  return run_steps(r);
}

int nn_program_eval(const nn_program *p, const nncc_rt_tensor *in, nncc_rt_tensor *out, nncc_rt_ctx *ctx) {
  run r = {.p = p, .m = p->module, .in = in, .out = out, .ctx = ctx, .scratch = nn_arena_new(), .step = -1};
  if ((!in && p->ninputs > 0) || (!out && p->noutputs > 0))
    return fail(&r, NNCC_RT_EINVAL, "", "in or out is NULL", 0, 1);
  if (!r.scratch) return fail(&r, NNCC_RT_EMEMORY, "", "memory", 0, 0);
  r.symbols = NN_NEW_ARRAY(r.scratch, int64_t, r.m->nsymbols + 1);
  r.is_bound = NN_NEW_ARRAY(r.scratch, bool, r.m->nsymbols + 1);
  r.memory = nn_map_new(r.scratch);
  ctx->error = NNCC_RT_OK;
  int code = run_all(&r);
  nn_arena_free(r.scratch);
  return code;
}
