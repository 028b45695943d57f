/* Between a module and its code: evaluating ops on constants while compiling, and the sequence
   graph -> passes -> program -> plan.

   An op on constants is evaluated by its own lowering. It is copied into a module of its own, whose memory is freed
   at once, and its kernel runs in the loop interpreter when there is little to do, else as machine code
   of this host, whatever the target is. */
#include "codegen/codegen.h"
#include "passes/passes.h"

#include <string.h>
#include <unistd.h>

enum {
  INTERPRETED_WORK = 20000, /* elements: about the time in which a kernel is compiled */
  NEST_WORK = 32,           /* what an element of a nest counts for */
  SLICE_BYTES = 32 << 20,   /* of operands and results: so much is in memory at once */
  THREADED_BYTES = 4 << 20, /* from here threads pay */
  MAX_WORKERS = 16
};

typedef struct evaluator {
  nn_arena *arena;
  const nn_target *target; /* of the compilation */
  nn_target host;
  bool has_host;
  nn_jit *jit; /* made when first needed; NULL with tried_jit: there is none */
  bool tried_jit;
  nn_map *compiled; /* text of a kernel -> compiled_kernel: equal layers have equal kernels */
  nncc_rt_pool *pool; /* made when first needed */
  nn_diags silent; /* a JIT that cannot be had is no error: the interpreter does its work */
} evaluator;

typedef struct compiled_kernel {
  nn_kernel_fn *fn;
} compiled_kernel;

/* ---- the op in a module of its own --------------------------------------------------------------- */

static bool copy_type(nn_module *to, nn_type from, nn_type *copy) {
  int64_t dims[NN_MAX_RANK];
  for (int i = 0; i < from.rank; i++)
    if (!nn_dim_is_const(from.dims[i], &dims[i])) return false;
  *copy = nn_type_static(to, from.dtype, from.rank, dims);
  return true;
}

static bool copy_attr(nn_module *to, const nn_attr *from, nn_attr *copy) {
  *copy = *from;
  if (from->kind == NN_ATTR_GRAPH) return false;
  if (from->kind != NN_ATTR_DIMS || from->count == 0) return true;
  nn_dim *dims = NN_NEW_ARRAY(to->arena, nn_dim, from->count);
  for (int i = 0; i < from->count; i++) {
    int64_t value = 0;
    if (!nn_dim_is_const(from->dims[i], &value)) return false;
    dims[i] = nn_dim_const(to, value);
  }
  copy->dims = dims;
  return true;
}

static nn_value *copy_operand(nn_module *to, const nn_value *v) {
  nn_type type;
  if (v->kind != NN_CONST || !v->tensor || !copy_type(to, v->type, &type)) return NULL;
  nn_tensor *tensor = nn_tensor_borrow(to, type, v->tensor->data, NULL, 0);
  return tensor ? nn_module_const(to, NULL, tensor) : NULL;
}

/* NULL if the op is not on constants of known shape alone. */
static nn_op *copy_op(nn_module *to, const nn_op *op) {
  nn_graph *g = nn_graph_new(to, "main");
  nn_value **in = NN_NEW_ARRAY(to->arena, nn_value *, op->nin + 1);
  for (int i = 0; i < op->nin; i++)
    if (op->in[i] && !(in[i] = copy_operand(to, op->in[i]))) return NULL;
  nn_op *copy = nn_op_new(g, NULL, op->code, in, op->nin, op->nout);
  copy->loc = op->loc;
  copy->loc_op = op->loc_op;
  for (int i = 0; i < nn_op_infos[op->code].nattrs; i++)
    if (!copy_attr(to, &op->attrs[i], &copy->attrs[i])) return NULL;
  for (int i = 0; i < op->nout; i++)
    if (!copy_type(to, op->out[i]->type, &copy->out[i]->type)) return NULL;
  nn_graph_set_return(g, copy->out, op->nout);
  return copy;
}

/* ---- running its kernel -------------------------------------------------------------------------- */

static int64_t work_of(const nn_op *op) {
  int64_t sum = 0, count = 0;
  for (int i = 0; i < op->nin; i++)
    if (op->in[i] && nn_type_static_count(op->in[i]->type, &count)) sum += count;
  for (int i = 0; i < op->nout; i++)
    if (nn_type_static_count(op->out[i]->type, &count)) sum += count;
  return nn_op_infos[op->code].flags & NN_NEST ? sum * NEST_WORK : sum;
}

static nn_jit *jit_of(evaluator *ev) {
  if (!ev->tried_jit) ev->jit = nn_jit_new(&ev->silent);
  ev->tried_jit = true;
  return ev->jit;
}

/* Memory of operands and results that files have: nobody looks at them for a while. */
static void rest(const nn_op *op, nn_tensor *const *results) {
  const nn_module *m = op->graph->module;
  for (int i = 0; i < op->nin; i++)
    if (op->in[i]) nn_tensor_rest(m, op->in[i]->tensor);
  for (int i = 0; i < op->nout; i++) nn_tensor_rest(m, results[i]);
}

/* The tasks of a kernel in slices, after each of which the memory of what files have is given back: an
   op on weights of any size needs little. */
typedef struct slices {
  nncc_rt_ctx inner; /* runs the tasks of a slice */
  const nn_op *op;   /* of the model, with its results */
  nn_tensor *const *results;
  int64_t bytes;
  nncc_rt_task *fn; /* of the loop that runs, and its first task of this slice */
  void *arg;
  int64_t first;
} slices;

static void run_task(void *arg, int64_t task, int32_t worker) {
  slices *s = arg;
  s->fn(s->arg, s->first + task, worker);
}

static void run_slices(nncc_rt_ctx *self, int64_t ntasks, nncc_rt_task *fn, void *arg) {
  slices *s = self->pool;
  int64_t count = s->bytes / SLICE_BYTES + 1, each = (ntasks + count - 1) / count;
  s->fn = fn;
  s->arg = arg;
  for (s->first = 0; s->first < ntasks; s->first += each) {
    int64_t n = ntasks - s->first < each ? ntasks - s->first : each;
    for (int64_t t = 0; !s->inner.parallel_for && t < n; t++) run_task(s, t, 0);
    if (s->inner.parallel_for) s->inner.parallel_for(&s->inner, n, run_task, s);
    if (count > 1) rest(s->op, s->results);
  }
}

static int64_t bytes_of(const nn_op *op, nn_tensor *const *results) {
  int64_t sum = 0;
  for (int i = 0; i < op->nin; i++)
    if (op->in[i] && op->in[i]->tensor) sum += (int64_t)op->in[i]->tensor->size_bytes;
  for (int i = 0; i < op->nout; i++) sum += (int64_t)results[i]->size_bytes;
  return sum;
}

static nncc_rt_pool *pool_of(evaluator *ev, int threads) {
  long n = threads > 0 ? threads : sysconf(_SC_NPROCESSORS_ONLN);
  if (!ev->pool && n > 1) ev->pool = nncc_rt_pool_create(n > MAX_WORKERS ? MAX_WORKERS : (int32_t)n);
  return ev->pool;
}

static int run_compiled(evaluator *ev, nn_kernel_fn *fn, const nn_kernel *k, slices *s, nn_arena *scratch,
                        void *const *args, nn_eval_error *at) {
  int64_t symbols[1] = {0};
  if (s->bytes >= THREADED_BYTES) nncc_rt_ctx_use_pool(&s->inner, pool_of(ev, s->op->graph->module->env.threads));
  int32_t nworkers = s->inner.nworkers > 0 ? s->inner.nworkers : 1;
  size_t worker_bytes = (size_t)nn_target_worker_bytes(k) * (size_t)nworkers;
  char *memory = nn_alloc(scratch, worker_bytes + NNCC_RT_ALIGN);
  nncc_rt_ctx ctx = {.nworkers = nworkers, .workspace_bytes = worker_bytes, .parallel_for = run_slices, .pool = s};
  ctx.workspace = memory + (NNCC_RT_ALIGN - (uintptr_t)memory % NNCC_RT_ALIGN) % NNCC_RT_ALIGN;
  int code = fn(&ctx, args, symbols);
  at->found = ctx.found;
  at->limit = ctx.expected;
  return code;
}

/* NULL if there is no JIT. */
static nn_kernel_fn *compiled(evaluator *ev, const nn_kernel *k) {
  if (!jit_of(ev)) return NULL;
  if (!ev->compiled) ev->compiled = nn_map_new(ev->arena);
  char *key = nn_kernel_key(ev->arena, k);
  compiled_kernel *known = nn_map_get(ev->compiled, key);
  if (known) return known->fn;
  known = NN_NEW(ev->arena, compiled_kernel);
  if (nn_jit_kernel(ev->jit, &ev->host, k, &known->fn) != NN_OK) known->fn = NULL;
  nn_map_put(ev->compiled, key, known);
  return known->fn;
}

static int run_kernel(evaluator *ev, const nn_kernel *k, slices *s, nn_arena *scratch, void *const *args,
                      nn_eval_error *at) {
  nn_kernel_fn *fn = work_of(s->op) > INTERPRETED_WORK ? compiled(ev, k) : NULL;
  if (fn) return run_compiled(ev, fn, k, s, scratch, args, at);
  return nn_kernel_eval(k, args, NULL, at);
}

static void *result_memory(const nn_op *op, const nn_value *v, nn_tensor *const *results) {
  for (int i = 0; i < op->nout; i++)
    if (op->out[i] == v) return (void *)(uintptr_t)results[i]->data;
  return NULL;
}

static void *temp_memory(nn_arena *scratch, const nn_buf *buf) {
  size_t bytes = nn_dtype_bytes(buf->dtype, (uint64_t)nn_dim_value(buf->count));
  char *memory = nn_alloc(scratch, bytes + NNCC_RT_ALIGN);
  return memory + (NNCC_RT_ALIGN - (uintptr_t)memory % NNCC_RT_ALIGN) % NNCC_RT_ALIGN;
}

/* `copy` stands in the module of its own; results are tensors of the caller's module. */
static nn_status run_op(evaluator *ev, nn_op *op, nn_op *copy, nn_tensor **results) {
  nn_module *own = copy->graph->module;
  nn_value **values = NULL;
  int nvalues = 0, nargs = 0;
  nn_kernel *k = nn_lower_op(own, &ev->host, copy, &values, &nvalues);
  if (!k) return NN_FAIL;
  void **args = NN_NEW_ARRAY(own->arena, void *, k->nbufs + 1);
  for (int i = 0; i < nvalues; i++)
    args[nargs++] = values[i]->kind == NN_CONST ? (void *)(uintptr_t)values[i]->tensor->data
                                                : result_memory(copy, values[i], results);
  for (int i = 0; i < k->nbufs; i++)
    if (k->bufs[i]->space == NN_BUF_WORKSPACE) args[nargs++] = temp_memory(own->arena, k->bufs[i]);
  nn_eval_error at = {0};
  slices s = {.op = op, .results = results, .bytes = bytes_of(op, results)};
  int code = run_kernel(ev, k, &s, own->arena, args, &at);
  if (code == NNCC_RT_OK) return NN_OK;
  if (code == NNCC_RT_EINDEX)
    return nn_fail(op, "index %lld in a constant is out of range, expected less than %lld", (long long)at.found,
                   (long long)at.limit);
  return nn_fail(op, "cannot be evaluated on these constants: run-time error %d", code);
}

static void forward_diags(const nn_module *from, nn_op *op) {
  for (int i = 0; i < from->diags.count; i++)
    if (from->diags.items[i].severity == NN_ERROR) nn_fail(op, "%s", from->diags.items[i].message);
}

static nn_status make_results(nn_op *op, nn_tensor **results) {
  for (int i = 0; i < op->nout; i++) {
    results[i] = nn_tensor_new_spilled(op->graph->module, op->out[i]->type);
    if (!results[i]) return NN_FAIL;
  }
  return NN_OK;
}

static nn_status evaluate_copy(evaluator *ev, nn_op *op, nn_module *own, nn_tensor **results) {
  nn_op *copy = copy_op(own, op);
  if (!copy) return nn_fail(op, "internal error: evaluated on operands that are not constants");
  NN_TRY(make_results(op, results));
  if (run_op(ev, op, copy, results) == NN_OK) return NN_OK;
  forward_diags(own, op);
  return NN_FAIL;
}

/* A reshape of a constant is the same bytes. */
static bool share_bytes(nn_op *op, nn_tensor **results) {
  if (op->code != NN_OP_RESHAPE && op->code != NN_OP_COPY && op->code != NN_OP_BITCAST) return false;
  const nn_tensor *from = op->in[0]->tensor;
  if (op->in[0]->kind != NN_CONST || !from || !nn_type_is_static(op->out[0]->type)) return false;
  results[0] = nn_tensor_borrow(op->graph->module, op->out[0]->type, from->data, from->file, from->offset);
  return results[0] != NULL;
}

static nn_status evaluate(void *self, nn_op *op, nn_tensor **results) {
  evaluator *ev = self;
  if (share_bytes(op, results)) return NN_OK;
  if (!ev->has_host) return nn_fail(op, "internal error: no description of this machine");
  nn_module *own = nn_module_new(NULL);
  if (!own) return nn_fail(op, "out of memory");
  nn_status status = evaluate_copy(ev, op, own, results);
  nn_module_free(own);
  if (status == NN_OK) rest(op, results);
  return status;
}

static int64_t panel_width(void *self, nn_dim rows, nn_dim columns) {
  nn_tile tile = nn_tile_choose(((const evaluator *)self)->target, NN_F32, rows, columns);
  return (int64_t)tile.nv * tile.lanes;
}

void nn_env_init(nn_pass_env *env, const nn_target *t, nn_diags *diags) {
  memset(env, 0, sizeof *env);
  nn_arena *arena = nn_arena_new();
  if (!arena) return;
  evaluator *ev = NN_NEW(arena, evaluator);
  ev->arena = arena;
  ev->target = nn_target_of_loops(t, arena);
  ev->silent.arena = arena;
  ev->has_host = nn_target_init(&ev->host, NULL, NULL, diags) == NN_OK;
  ev->host.fp = t->fp;
  env->vector_bytes = ev->target->vector_bytes;
  env->vector_registers = ev->target->vector_registers;
  env->adds_aside = ev->target->adds_aside;
  env->has_lookup = ev->target->has_lookup;
  env->level = 2;
  env->self = ev;
  env->evaluate = evaluate;
  env->panel_width = panel_width;
}

void nn_env_free(nn_pass_env *env) {
  evaluator *ev = env->self;
  if (ev) {
    nn_jit_free(ev->jit);
    nncc_rt_pool_destroy(ev->pool);
    if (ev->has_host) nn_target_free(&ev->host);
    nn_arena_free(ev->arena);
  }
  memset(env, 0, sizeof *env);
}

nn_program *nn_compile(nn_module *m, const nn_target *t, int level, const char *const *aliases, const nn_pass_options *options) {
  nn_pass_env outer = m->env;
  nn_env_init(&m->env, t, &m->diags);
  m->env.level = level;
  m->env.threads = options ? options->threads : 0;
  m->env.no_winograd = t->fp == NNCC_FP_EXACT || (options && options->no_winograd);
  nn_status status = nn_pipeline_infer(m, options);
  nn_env_free(&m->env);
  m->env = outer;
  if (status != NN_OK) return NULL;
  nn_program *p = nn_program_build_aliased(m, t, aliases);
  return p && nn_plan_memory(p, t) == NN_OK ? p : NULL;
}
