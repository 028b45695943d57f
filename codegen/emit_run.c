/* NAME_run: everything is checked and symbols are bound before any work; then the steps, in order and
   without loops, each address computed where it is used. An error leaves through one exit, which gives back
   what the run took from the allocator for itself. */
#include <string.h>

#include "codegen/llvm.h"

/* What a run of this program has in hand besides nn_pemit. */
typedef struct run {
  nn_pemit *s;
  const nn_program *p;
  nn_v *in_data, *out_data; /* pointers of the tensors; of outputs that depend on data NULL until first used */
  nn_v workspace, worker, worker_bytes, nworkers, weights;
  nn_v taken;          /* array of pointers from the allocator, or NULL */
  nn_map *taken_index; /* nn_place -> number + 1 */
  nn_v *taken_now;     /* by number: the pointer while it is held */
  nn_place **taken_places;
  int ntaken, taken_cap; /* and one more slot: worker memory of the kernel at hand */
  bool *dims_done;       /* output dims already written, in order */
  nn_v symbols;          /* for a hook: an array of their values */
} run;

static nn_v is_null(nn_emod *e, nn_v p) { return LLVMBuildICmp(e->b, LLVMIntEQ, p, LLVMConstNull(e->ptr), ""); }

static nn_v offset_by(nn_emod *e, nn_v base, nn_v offset) {
  return LLVMBuildInBoundsGEP2(e->b, e->i8, base, &offset, 1, "");
}

static nn_v has_low_bits(nn_emod *e, nn_v p, int64_t low) {
  nn_v bits = LLVMBuildAnd(e->b, LLVMBuildPtrToInt(e->b, p, e->size, ""),
                           LLVMConstInt(e->size, (unsigned long long)low, false), "");
  return LLVMBuildICmp(e->b, LLVMIntNE, bits, LLVMConstInt(e->size, 0, false), "");
}

/* ---- before the first step ---------------------------------------------------------------------------------- */

/* Misaligned data is fine where the machine takes it; elsewhere it would trap or be slow everywhere. */
static void check_data(run *r, nn_v data, nn_dim bytes, nn_dtype dtype, nn_v name) {
  nn_emod *e = r->s->e;
  nn_v size = nn_emit_dim(&r->s->dims, bytes), zero = nn_const_i64(e, 0), one = nn_const_i64(e, 1);
  nn_v needed = LLVMBuildICmp(e->b, LLVMIntNE, size, zero, "");
  nn_fail_if(r->s, LLVMBuildAnd(e->b, is_null(e, data), needed, ""), NNCC_RT_EINVAL, name,
             nn_emit_text(r->s, "data pointer"), zero, one);
  int align = nn_dtype_bits(dtype) / 8;
  if (e->target->unaligned_ok || align < 2) return;
  nn_fail_if(r->s, has_low_bits(e, data, align - 1), NNCC_RT_EINVAL, name, nn_emit_text(r->s, "alignment of data"),
             zero, nn_const_i64(e, align));
}

static bool is_open(run *r, nn_dim d) { return !nn_dims_known(&r->s->dims, d); }

static void load_tensors(run *r) {
  nn_pemit *s = r->s;
  nn_emod *e = s->e;
  for (int i = 0; i < r->p->ninputs; i++) {
    r->in_data[i] = nn_emit_field(e, e->tensor_type, nn_emit_tensor(s, s->in, i), NN_TENSOR_DATA, e->ptr);
    check_data(r, r->in_data[i], r->p->inputs[i]->bytes, r->p->graph->params[i]->type.dtype,
               nn_emit_io_name(s, false, i));
  }
  for (int i = 0; i < r->p->noutputs; i++) {
    if (is_open(r, r->p->outputs[i]->bytes)) continue;
    r->out_data[i] = nn_emit_field(e, e->tensor_type, nn_emit_tensor(s, s->out, i), NN_TENSOR_DATA, e->ptr);
    check_data(r, r->out_data[i], r->p->outputs[i]->bytes, nn_program_output(r->p, i)->type.dtype,
               nn_emit_io_name(s, true, i));
  }
}

/* Sizes follow from input shapes; a shape that the model cannot take may make one negative. */
static void check_sizes(run *r) {
  nn_emod *e = r->s->e;
  nn_map *seen = nn_map_new(e->arena);
  nn_v least = nn_const_i64(e, 0), zero = least;
  for (int i = 0; i < r->p->nplaces; i++) {
    nn_dim bytes = r->p->places[i]->bytes;
    if (nn_dim_is_const(bytes, NULL) || is_open(r, bytes) || nn_map_get_ptr(seen, bytes)) continue;
    nn_map_put_ptr(seen, bytes, r);
    least = nn_call2(e, "llvm.smin", least, nn_emit_dim(&r->s->dims, bytes));
  }
  nn_v bad = LLVMBuildICmp(e->b, LLVMIntSLT, least, zero, "");
  nn_fail_if(r->s, bad, NNCC_RT_ESHAPE, nn_emit_text(r->s, ""), nn_emit_text(r->s, "size of a tensor"), least, zero);
}

static void check_workspace(run *r) {
  nn_pemit *s = r->s;
  nn_emod *e = s->e;
  nn_v need_fixed = nn_emit_dim(&s->dims, r->p->workspace_bytes), zero = nn_const_i64(e, 0);
  r->worker_bytes = nn_emit_dim(&s->dims, nn_program_worker_bytes(r->p));
  r->nworkers = LLVMBuildSExt(e->b, nn_emit_field(e, e->ctx_type, s->ctx, NN_CTX_NWORKERS, e->i32), e->i64, "");
  nn_v need = nn_emit_total(&s->dims, need_fixed, r->worker_bytes, r->nworkers);
  nn_v text = nn_emit_text(s, "workspace"), none = nn_emit_text(s, "");
  nn_fail_if(s, s->dims.overflow, NNCC_RT_EWORKSPACE, none, nn_emit_text(s, "size"), zero, nn_const_i64(e, INT64_MAX));
  s->dims.overflow = NULL;
  r->workspace = nn_emit_field(e, e->ctx_type, s->ctx, NN_CTX_WORKSPACE, e->ptr);
  nn_v have = LLVMBuildZExt(e->b, nn_emit_field(e, e->ctx_type, s->ctx, NN_CTX_WORKSPACE_BYTES, e->size), e->i64, "");
  have = LLVMBuildSelect(e->b, is_null(e, r->workspace), zero, have, "");
  nn_fail_if(s, LLVMBuildICmp(e->b, LLVMIntULT, have, need, ""), NNCC_RT_EWORKSPACE, none, text, have, need);
  nn_v used = LLVMBuildICmp(e->b, LLVMIntNE, need, zero, "");
  nn_v crooked = LLVMBuildAnd(e->b, used, has_low_bits(e, r->workspace, NNCC_RT_ALIGN - 1), "");
  nn_fail_if(s, crooked, NNCC_RT_EWORKSPACE, none, nn_emit_text(s, "alignment of the workspace"), zero,
             nn_const_i64(e, NNCC_RT_ALIGN));
  r->worker = offset_by(e, r->workspace, need_fixed);
}

static void check_weights(run *r) {
  nn_pemit *s = r->s;
  nn_emod *e = s->e;
  if (r->p->weights_bytes == 0 || s->linkage->absolute) return;
  nn_v given = nn_emit_field(e, e->ctx_type, s->ctx, NN_CTX_WEIGHTS, e->ptr), zero = nn_const_i64(e, 0),
       none = nn_emit_text(s, "");
  nn_fail_if(s, has_low_bits(e, given, NNCC_RT_ALIGN - 1), NNCC_RT_EWEIGHTS, none,
             nn_emit_text(s, "alignment of the weights"), zero, nn_const_i64(e, NNCC_RT_ALIGN));
  if (s->linkage->embedded)
    r->weights = LLVMBuildSelect(e->b, is_null(e, given), nn_emit_weights_symbol(s), given, "");
  else
    nn_fail_if(s, is_null(e, given), NNCC_RT_EWEIGHTS, none, nn_emit_text(s, "weights"), zero, nn_const_i64(e, 1));
  if (!r->weights) r->weights = given;
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

static nn_v call_allocate(run *r, nn_v bytes, const nn_op *op) {
  nn_pemit *s = r->s;
  nn_emod *e = s->e;
  nn_v fn = nn_emit_field(e, e->ctx_type, s->ctx, NN_CTX_ALLOCATE, e->ptr), node = nn_emit_text(s, op->loc),
       what = nn_emit_text(s, "memory");
  nn_fail_if(s, is_null(e, fn), NNCC_RT_EMEMORY, node, what, nn_const_i64(e, 0), bytes);
  if (e->target->pointer_bits < 64) {
    nn_v limit = nn_const_i64(e, INT32_MAX);
    nn_fail_if(s, LLVMBuildICmp(e->b, LLVMIntUGT, bytes, limit, ""), NNCC_RT_EMEMORY, node, what, limit, bytes);
  }
  LLVMTypeRef types[] = {e->ptr, e->size};
  nn_v args[] = {s->ctx, LLVMBuildTruncOrBitCast(e->b, bytes, e->size, "")};
  nn_v memory = LLVMBuildCall2(e->b, LLVMFunctionType(e->ptr, types, 2, false), fn, args, 2, "");
  nn_fail_if(s, is_null(e, memory), NNCC_RT_EMEMORY, node, what, nn_const_i64(e, 0), bytes);
  return memory;
}

/* The size in bytes of something that depends on data, where it must be neither negative nor overflow;
   times the number of workers if that is given. */
static nn_v checked_size(run *r, nn_dim bytes, nn_v nworkers, const nn_op *op) {
  nn_pemit *s = r->s;
  nn_emod *e = s->e;
  nn_dims d = nn_dims_new(e, r->p->module);
  memcpy(d.symbols, s->dims.symbols, sizeof(nn_v) * (size_t)r->p->module->nsymbols);
  d.overflow = LLVMConstInt(e->i1, 0, false);
  nn_v zero = nn_const_i64(e, 0), size = nn_emit_dim(&d, bytes);
  if (nworkers) size = nn_emit_total(&d, zero, size, nworkers);
  nn_v bad = LLVMBuildOr(e->b, d.overflow, LLVMBuildICmp(e->b, LLVMIntSLT, size, zero, ""), "");
  nn_fail_if(s, bad, NNCC_RT_EVALUE, nn_emit_text(s, op->loc), nn_emit_text(s, "size"), size, zero);
  return size;
}

/* An output whose size depends on data: the caller's memory, or now the allocator's. */
static nn_v open_output(run *r, int i, const nn_op *op) {
  nn_pemit *s = r->s;
  nn_emod *e = s->e;
  nn_v tensor = nn_emit_tensor(s, s->out, i), size = checked_size(r, r->p->outputs[i]->bytes, NULL, op);
  nn_v given = nn_emit_field(e, e->tensor_type, tensor, NN_TENSOR_DATA, e->ptr);
  nn_v needed =
      LLVMBuildAnd(e->b, is_null(e, given), LLVMBuildICmp(e->b, LLVMIntSGT, size, nn_const_i64(e, 0), ""), "");
  LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b), take = LLVMAppendBasicBlockInContext(e->c, s->fn, "take");
  LLVMBasicBlockRef next = LLVMAppendBasicBlockInContext(e->c, s->fn, "taken");
  LLVMBuildCondBr(e->b, needed, take, next);
  LLVMPositionBuilderAtEnd(e->b, take);
  nn_v memory = call_allocate(r, size, op);
  nn_emit_set_field(e, e->tensor_type, tensor, NN_TENSOR_DATA, memory);
  LLVMBasicBlockRef last = LLVMGetInsertBlock(e->b);
  LLVMBuildBr(e->b, next);
  LLVMPositionBuilderAtEnd(e->b, next);
  nn_v data = LLVMBuildPhi(e->b, e->ptr, "");
  LLVMAddIncoming(data, &given, &before, 1);
  LLVMAddIncoming(data, &memory, &last, 1);
  return data;
}

static bool is_taken(const nn_place *place) { return place->kind == NN_PLACE_WORKSPACE && place->slot < 0; }

static int taken_number(run *r, const nn_place *place) {
  return (int)(intptr_t)nn_map_get_ptr(r->taken_index, place) - 1;
}

static nn_v taken_slot(run *r, int number) {
  nn_v index = LLVMConstInt(r->s->e->i32, (unsigned long long)number, false);
  return LLVMBuildInBoundsGEP2(r->s->e->b, r->s->e->ptr, r->taken, &index, 1, "");
}

static nn_v take(run *r, const nn_place *place, const nn_op *op) {
  nn_emod *e = r->s->e;
  int number = taken_number(r, place);
  if (r->taken_now[number]) return r->taken_now[number];
  nn_v size = nn_call2(e, "llvm.smax", checked_size(r, place->bytes, NULL, op), nn_const_i64(e, 1));
  nn_v memory = call_allocate(r, size, op);
  LLVMBuildStore(e->b, memory, taken_slot(r, number));
  return r->taken_now[number] = memory;
}

static void release_slot(run *r, int number) {
  nn_emod *e = r->s->e;
  nn_v fn = nn_emod_function(e, "nn_release_all"),
       args[] = {r->s->ctx, taken_slot(r, number), LLVMConstInt(e->i32, 1, false)};
  LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, 3, "");
  LLVMBuildStore(e->b, LLVMConstNull(e->ptr), args[1]);
}

static void give_back(run *r, int step) {
  for (int i = 0; i < r->ntaken; i++) {
    if (r->taken_places[i]->last != step || !r->taken_now[i]) continue;
    release_slot(r, i);
    r->taken_now[i] = NULL;
  }
}

static bool is_worker_open(const run *r, const nn_kernel *k) {
  return nn_dim_depends_on_data(r->p->module, nn_kernel_worker_bytes(k));
}

static void count_taken(run *r) {
  nn_emod *e = r->s->e;
  r->taken_index = nn_map_new(e->arena);
  for (int i = 0; i < r->p->nplaces; i++) {
    if (!is_taken(r->p->places[i])) continue;
    NN_PUSH(e->arena, r->taken_places, r->ntaken, r->taken_cap, r->p->places[i]);
    nn_map_put_ptr(r->taken_index, r->p->places[i], (void *)(intptr_t)r->ntaken);
  }
  r->taken_now = NN_NEW_ARRAY(e->arena, nn_v, r->ntaken + 1);
  bool takes_worker_memory = false;
  for (int i = 0; i < r->p->nkernels; i++)
    if (is_worker_open(r, r->p->kernels[i])) takes_worker_memory = true;
  if (r->ntaken == 0 && !takes_worker_memory) return;
  LLVMTypeRef type = LLVMArrayType2(e->ptr, (uint64_t)r->ntaken + 1);
  r->taken = nn_emit_local(r->s, type, "taken");
  LLVMBuildStore(e->b, LLVMConstNull(type), r->taken);
}

static nn_v weight_address(run *r, const nn_place *place) {
  nn_emod *e = r->s->e;
  if (r->p->weights_bytes == 0) return e->zeros; /* all weights are empty */
  if (!r->s->linkage->absolute) return offset_by(e, r->weights, nn_const_i64(e, place->offset));
  uintptr_t at = (uintptr_t)place->value->tensor->data;
  return LLVMConstIntToPtr(LLVMConstInt(e->size, (unsigned long long)at, false), e->ptr);
}

static nn_v address_of(run *r, const nn_place *place, const nn_op *op) {
  switch (place->kind) {
  case NN_PLACE_INPUT: return r->in_data[place->index];
  case NN_PLACE_OUTPUT:
    if (!r->out_data[place->index]) r->out_data[place->index] = open_output(r, place->index, op);
    return r->out_data[place->index];
  case NN_PLACE_WEIGHT: return weight_address(r, place);
  case NN_PLACE_WORKSPACE: break;
  }
  if (is_taken(place)) return take(r, place, op);
  return offset_by(r->s->e, r->workspace, nn_emit_dim(&r->s->dims, place->offset_dim));
}

/* ---- steps ---------------------------------------------------------------------------------------------------- */

/* Worker memory whose size depends on data is taken for this call alone. */
static void take_worker(run *r, const nn_step *step, nn_v *memory, nn_v *bytes) {
  nn_emod *e = r->s->e;
  nn_dim need = nn_kernel_worker_bytes(step->kernel);
  nn_v size = nn_call2(e, "llvm.smax", checked_size(r, need, r->nworkers, step->op), nn_const_i64(e, 1));
  *memory = call_allocate(r, size, step->op);
  *bytes = nn_emit_dim(&r->s->dims, need);
  LLVMBuildStore(e->b, *memory, taken_slot(r, r->ntaken));
}

/* Weights that are read where they lie in this process may have anything behind them. */
static int64_t ahead_bytes(const run *r, const nn_step *step) {
  if (!step->ahead) return 0;
  int64_t own = (int64_t)step->ahead->value->tensor->size_bytes - step->ahead_from;
  return r->s->linkage->absolute && own < step->ahead_bytes ? own : step->ahead_bytes;
}

static void emit_call(run *r, const nn_step *step) {
  nn_emod *e = r->s->e;
  nn_v worker = r->worker, worker_bytes = r->worker_bytes;
  bool takes_worker = is_worker_open(r, step->kernel);
  if (takes_worker) take_worker(r, step, &worker, &worker_bytes);
  nn_v kernel = nn_emit_kernel(e, step->kernel);
  if (!kernel) return;
  int nsymbols, n = 0;
  const int *symbols = nn_kernel_symbols(e, step->kernel, &nsymbols);
  nn_v *args = NN_NEW_ARRAY(e->arena, nn_v, NN_CELL_TASKS + step->nargs + nsymbols);
  args[n++] = r->s->ctx;
  args[n++] = worker;
  args[n++] = worker_bytes;
  if (step->kernel->looks_ahead) {
    args[n++] = step->ahead ? offset_by(e, weight_address(r, step->ahead), nn_const_i64(e, step->ahead_from)) : LLVMConstNull(e->ptr);
    args[n++] = nn_const_i64(e, ahead_bytes(r, step));
  }
  for (int i = 0; i < step->nargs; i++) args[n++] = address_of(r, step->args[i], step->op);
  for (int i = 0; i < nsymbols; i++)
    args[n++] = nn_emit_dim(&r->s->dims, nn_dim_symbol(r->p->module, r->p->module->symbols[symbols[i]]->name));
  nn_v code = LLVMBuildCall2(e->b, nn_kernel_type(e, step->kernel), kernel, args, (unsigned)n, "");
  if (takes_worker) release_slot(r, r->ntaken);
  if (!step->kernel->can_fail) return;
  LLVMBasicBlockRef bad = LLVMAppendBasicBlockInContext(e->c, r->s->fn, "failed"),
                    next = LLVMAppendBasicBlockInContext(e->c, r->s->fn, "");
  LLVMBuildCondBr(e->b, LLVMBuildICmp(e->b, LLVMIntNE, code, LLVMConstInt(e->i32, 0, false), ""), bad, next);
  LLVMPositionBuilderAtEnd(e->b, bad);
  nn_v fn = nn_emod_function(e, "nn_fail_step"),
       fail_args[] = {r->s->ctx, LLVMConstInt(e->i32, (unsigned long long)r->s->step, false),
                      nn_emit_text(r->s, step->op->loc)};
  nn_v failure = LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, fail_args, 3, "");
  nn_leave(r->s, failure);
  LLVMPositionBuilderAtEnd(e->b, next);
}

static void bind_element(run *r, const nn_step *step, nn_dim dim, nn_v value) {
  nn_pemit *s = r->s;
  nn_emod *e = s->e;
  nn_v node = nn_emit_text(s, step->op->loc), what = nn_emit_text(s, "dimension"), min = nn_const_i64(e, step->min);
  nn_fail_if(s, LLVMBuildICmp(e->b, LLVMIntSLT, value, min, ""), NNCC_RT_EVALUE, node, what, value, min);
  int symbol = nn_dim_lone_symbol(dim);
  if (symbol >= 0 && !s->dims.symbols[symbol]) {
    const nn_symbol *known = r->p->module->symbols[symbol];
    nn_v least = nn_const_i64(e, known->min), most = nn_const_i64(e, known->max);
    if (known->min > step->min)
      nn_fail_if(s, LLVMBuildICmp(e->b, LLVMIntSLT, value, least, ""), NNCC_RT_EVALUE, node, what, value, least);
    if (known->max != INT64_MAX)
      nn_fail_if(s, LLVMBuildICmp(e->b, LLVMIntSGT, value, most, ""), NNCC_RT_EVALUE, node, what, value, most);
    s->dims.symbols[symbol] = value;
    return;
  }
  if (is_open(r, dim)) return;
  nn_v expected = nn_emit_dim(&s->dims, dim);
  nn_fail_if(s, LLVMBuildICmp(e->b, LLVMIntNE, value, expected, ""), NNCC_RT_EVALUE, node, what, value, expected);
}

static void emit_bind(run *r, const nn_step *step) {
  nn_emod *e = r->s->e;
  nn_v values = address_of(r, step->args[0], step->op);
  for (int i = 0; i < step->ndims; i++) {
    nn_v at = offset_by(e, values, nn_const_i64(e, 8 * (int64_t)i)), value = LLVMBuildLoad2(e->b, e->i64, at, "");
    LLVMSetAlignment(value, e->target->unaligned_ok ? 1 : 8);
    bind_element(r, step, step->dims[i], value);
  }
  nn_emit_output_dims_now(r->s, r->dims_done, false);
}

static void emit_check(run *r, const nn_step *step) {
  nn_pemit *s = r->s;
  nn_emod *e = s->e;
  nn_v found = nn_emit_dim(&s->dims, step->found), expected = nn_emit_dim(&s->dims, step->expected);
  nn_v bad = LLVMBuildICmp(e->b, strcmp(step->check, "le") == 0 ? LLVMIntSGT : LLVMIntNE, found, expected, "");
  if (strcmp(step->check, "broadcast") == 0)
    bad = LLVMBuildAnd(e->b, bad, LLVMBuildICmp(e->b, LLVMIntNE, found, nn_const_i64(e, 1), ""), "");
  nn_fail_if(s, bad, NNCC_RT_ESHAPE, nn_emit_text(s, step->op->loc), nn_emit_text(s, step->what ? step->what : ""),
             found, expected);
}

static void emit_copy(run *r, const nn_step *step) {
  nn_emod *e = r->s->e;
  nn_v from = address_of(r, step->args[0], step->op), to = address_of(r, step->args[1], step->op);
  nn_v bytes = nn_call2(e, "llvm.smax", nn_emit_dim(&r->s->dims, step->args[1]->bytes), nn_const_i64(e, 0));
  LLVMBuildMemMove(e->b, to, 1, from, 1, LLVMBuildTruncOrBitCast(e->b, bytes, e->size, ""));
}

/* A host's function, where it lies in this process. */
static void call_hook(run *r, int step) {
  const nn_step_hook *hook = r->s->options->hook;
  nn_emod *e = r->s->e;
  if (!hook) return;
  for (int i = 0; i < r->p->module->nsymbols; i++) {
    nn_v index = LLVMConstInt(e->i32, (unsigned long long)i, false), value = r->s->dims.symbols[i];
    if (value) LLVMBuildStore(e->b, value, LLVMBuildInBoundsGEP2(e->b, e->i64, r->symbols, &index, 1, ""));
  }
  LLVMTypeRef types[] = {e->ptr, e->i32, e->ptr};
  nn_v fn = LLVMConstIntToPtr(LLVMConstInt(e->size, (uintptr_t)hook->fn, false), e->ptr),
       args[] = {LLVMConstIntToPtr(LLVMConstInt(e->size, (uintptr_t)hook->data, false), e->ptr),
                 LLVMConstInt(e->i32, (unsigned long long)step, true), r->symbols};
  LLVMBuildCall2(e->b, LLVMFunctionType(e->none, types, 3, false), fn, args, 3, "");
}

static void emit_steps(run *r) {
  nn_emod *e = r->s->e;
  if (r->s->options->hook)
    r->symbols = nn_emit_local(r->s, LLVMArrayType2(e->i64, (uint64_t)r->p->module->nsymbols + 1), "symbols");
  call_hook(r, -1);
  for (int i = 0; i < r->p->nsteps && !e->failed; i++) {
    const nn_step *step = &r->p->steps[i];
    r->s->step = i;
    switch (step->kind) {
    case NN_STEP_CALL: emit_call(r, step); break;
    case NN_STEP_BIND: emit_bind(r, step); break;
    case NN_STEP_CHECK: emit_check(r, step); break;
    case NN_STEP_COPY: emit_copy(r, step); break;
    }
    if (r->ntaken > 0) give_back(r, i);
    call_hook(r, i);
  }
}

/* ---- the function ------------------------------------------------------------------------------------------------ */

static int count_output_dims(const nn_program *p) {
  int n = 0;
  for (int i = 0; i < p->noutputs; i++) n += nn_program_output(p, i)->type.rank;
  return n;
}

static void check_arguments(run *r) {
  nn_pemit *s = r->s;
  nn_emod *e = s->e;
  nn_leave_if(s, is_null(e, s->ctx), LLVMConstInt(e->i32, NNCC_RT_EINVAL, false));
  nn_emit_set_field(e, e->ctx_type, s->ctx, NN_CTX_ERROR, LLVMConstInt(e->i32, 0, false));
  if (r->p->noutputs > 0)
    nn_fail_if(s, is_null(e, s->out), NNCC_RT_EINVAL, nn_emit_text(s, ""), nn_emit_text(s, "array of outputs"),
               nn_const_i64(e, 0), nn_const_i64(e, 1));
}

static void end_run(run *r) {
  nn_emod *e = r->s->e;
  nn_end_function(r->s);
  if (r->taken) {
    nn_v fn = nn_emod_function(e, "nn_release_all"),
         args[] = {r->s->ctx, r->taken, LLVMConstInt(e->i32, (unsigned long long)r->ntaken + 1, false)};
    LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, 3, "");
  }
  LLVMBuildRet(e->b, r->s->code);
}

nn_v nn_emit_run(nn_pemit *s, const char *name, bool is_global) {
  nn_emod *e = s->e;
  LLVMTypeRef types[] = {e->ptr, e->ptr, e->ptr};
  nn_begin_function(s, name, LLVMFunctionType(e->i32, types, 3, false), is_global);
  nn_v fn = s->fn;
  s->ctx = LLVMGetParam(fn, 0);
  s->in = LLVMGetParam(fn, 1);
  s->out = LLVMGetParam(fn, 2);
  run r = {.s = s, .p = s->p};
  r.in_data = NN_NEW_ARRAY(e->arena, nn_v, s->p->ninputs + 1);
  r.out_data = NN_NEW_ARRAY(e->arena, nn_v, s->p->noutputs + 1);
  r.dims_done = NN_NEW_ARRAY(e->arena, bool, count_output_dims(s->p) + 1);
  count_taken(&r);
  check_arguments(&r);
  nn_emit_input_symbols(s, s->ctx);
  nn_emit_check_outputs(s);
  s->dims.overflow = LLVMConstInt(e->i1, 0, false);
  check_sizes(&r);
  load_tensors(&r);
  check_workspace(&r);
  check_weights(&r);
  nn_emit_output_dims_now(s, r.dims_done, true);
  emit_steps(&r);
  end_run(&r);
  return fn;
}

/* size_t NAME_workspace_size(in, nworkers): errors go to a context of its own. */
nn_v nn_emit_workspace_size(nn_pemit *s) {
  nn_emod *e = s->e;
  LLVMTypeRef types[] = {e->ptr, e->i32};
  nn_begin_function(s, nn_sprintf(e->arena, "%s_workspace_size", s->linkage->symbol),
                    LLVMFunctionType(e->size, types, 2, false), true);
  nn_v fn = s->fn, most = LLVMConstAllOnes(e->size);
  s->in = LLVMGetParam(fn, 0);
  bool is_static = nn_dim_is_const(s->p->workspace_bytes, NULL) && nn_dim_is_const(nn_program_worker_bytes(s->p), NULL);
  if (!is_static) {
    s->ctx = nn_emit_local(s, e->ctx_type, "ctx");
    nn_emit_input_symbols(s, s->ctx);
  }
  s->dims.overflow = LLVMConstInt(e->i1, 0, false);
  nn_v fixed = nn_emit_dim(&s->dims, s->p->workspace_bytes),
       each = nn_emit_dim(&s->dims, nn_program_worker_bytes(s->p));
  nn_v total = nn_emit_total(&s->dims, fixed, each, LLVMBuildSExt(e->b, LLVMGetParam(fn, 1), e->i64, ""));
  nn_v limit = nn_const_i64(e, e->target->pointer_bits < 64 ? INT32_MAX : INT64_MAX);
  nn_v bad = LLVMBuildOr(e->b, s->dims.overflow, LLVMBuildICmp(e->b, LLVMIntUGT, total, limit, ""), "");
  LLVMBuildRet(e->b, LLVMBuildSelect(e->b, bad, most, LLVMBuildTruncOrBitCast(e->b, total, e->size, ""), ""));
  if (LLVMCountIncoming(s->code) == 0) {
    LLVMDeleteBasicBlock(s->leave);
    return fn;
  }
  LLVMPositionBuilderAtEnd(e->b, s->leave);
  LLVMBuildRet(e->b, most);
  return fn;
}

nn_v nn_emit_output_dims(nn_pemit *s) {
  nn_emod *e = s->e;
  LLVMTypeRef types[] = {e->ptr, e->ptr, e->ptr};
  nn_begin_function(s, nn_sprintf(e->arena, "%s_output_dims", s->linkage->symbol),
                    LLVMFunctionType(e->i32, types, 3, false), true);
  nn_v fn = s->fn;
  run r = {.s = s, .p = s->p};
  s->ctx = LLVMGetParam(fn, 0);
  s->in = LLVMGetParam(fn, 1);
  s->out = LLVMGetParam(fn, 2);
  check_arguments(&r);
  nn_emit_input_symbols(s, s->ctx);
  nn_emit_check_outputs(s);
  nn_emit_output_dims_now(s, NN_NEW_ARRAY(e->arena, bool, count_output_dims(s->p) + 1), true);
  nn_end_function(s);
  LLVMBuildRet(e->b, s->code);
  return fn;
}
