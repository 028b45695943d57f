/* The entry points' common part: inputs are checked against the model and symbols take their values from
   input shapes, before any work. One internal function does it for all entry points. */
#include "codegen/llvm.h"

/* ---- functions of one exit -------------------------------------------------------------------------------- */

void nn_begin_function(nn_pemit *s, const char *name, LLVMTypeRef type, bool is_global) {
  nn_emod *e = s->e;
  s->fn = LLVMAddFunction(e->m, name, type);
  if (!is_global) LLVMSetLinkage(s->fn, LLVMInternalLinkage);
  LLVMBasicBlockRef entry = LLVMAppendBasicBlockInContext(e->c, s->fn, "entry");
  s->leave = LLVMAppendBasicBlockInContext(e->c, s->fn, "leave");
  LLVMPositionBuilderAtEnd(e->b, s->leave);
  s->code = LLVMBuildPhi(e->b, e->i32, "code");
  LLVMPositionBuilderAtEnd(e->b, entry);
  s->dims = nn_dims_new(e, s->p->module);
  s->step = -1;
}

void nn_leave(nn_pemit *s, nn_v code) {
  LLVMBasicBlockRef here = LLVMGetInsertBlock(s->e->b);
  LLVMAddIncoming(s->code, &code, &here, 1);
  LLVMBuildBr(s->e->b, s->leave);
}

void nn_end_function(nn_pemit *s) {
  nn_leave(s, LLVMConstInt(s->e->i32, 0, false));
  LLVMMoveBasicBlockAfter(s->leave, LLVMGetInsertBlock(s->e->b));
  LLVMPositionBuilderAtEnd(s->e->b, s->leave);
}

static LLVMBasicBlockRef branch_away(nn_pemit *s, nn_v bad) {
  nn_emod *e = s->e;
  LLVMBasicBlockRef away = LLVMAppendBasicBlockInContext(e->c, s->fn, "bad"),
                    next = LLVMAppendBasicBlockInContext(e->c, s->fn, "");
  LLVMBuildCondBr(e->b, bad, away, next);
  LLVMPositionBuilderAtEnd(e->b, away);
  return next;
}

void nn_leave_if(nn_pemit *s, nn_v bad, nn_v code) {
  LLVMBasicBlockRef next = branch_away(s, bad);
  nn_leave(s, code);
  LLVMPositionBuilderAtEnd(s->e->b, next);
}

void nn_fail_if(nn_pemit *s, nn_v bad, int code, nn_v node, nn_v what, nn_v found, nn_v expected) {
  nn_emod *e = s->e;
  int64_t known;
  if (nn_const_of(bad, &known) && !known) return;
  LLVMBasicBlockRef next = branch_away(s, bad);
  nn_v fn = nn_emod_function(e, "nn_fail_at"), step = LLVMConstInt(e->i32, (unsigned long long)(int64_t)s->step, true);
  nn_v args[] = {s->ctx, LLVMConstInt(e->i32, (unsigned long long)code, false), step, node, what, found, expected};
  nn_leave(s, LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, 7, ""));
  LLVMPositionBuilderAtEnd(e->b, next);
}

/* ---- tensors ------------------------------------------------------------------------------------------------ */

const nn_value *nn_program_output(const nn_program *p, int i) { return nn_graph_return(p->graph)->in[i]; }

nn_v nn_emit_text(nn_pemit *s, const char *text) { return nn_emod_text(s->e, text); }

nn_v nn_emit_io_name(nn_pemit *s, bool is_output, int i) {
  const char *input = is_output ? NULL : s->p->graph->params[i]->name;
  return nn_emit_text(s, is_output ? nn_graph_output_name(s->p->graph, i) : input ? input : "");
}

static nn_v element(nn_pemit *s, LLVMTypeRef type, nn_v base, int i) {
  nn_v index = LLVMConstInt(s->e->i32, (unsigned long long)i, false);
  return LLVMBuildInBoundsGEP2(s->e->b, type, base, &index, 1, "");
}

nn_v nn_emit_tensor(nn_pemit *s, nn_v base, int i) { return element(s, s->e->tensor_type, base, i); }

static void check_tensor(nn_pemit *s, nn_v tensor, nn_v io, bool with_dims) {
  nn_emod *e = s->e;
  nn_v fn = nn_emod_function(e, "nn_check_tensor"),
       args[] = {s->ctx, tensor, io, LLVMConstInt(e->i1, with_dims, false)};
  nn_v code = LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, 4, "");
  nn_leave_if(s, LLVMBuildICmp(e->b, LLVMIntNE, code, LLVMConstInt(e->i32, 0, false), ""), code);
}

void nn_emit_check_outputs(nn_pemit *s) {
  for (int i = 0; i < s->p->noutputs; i++)
    check_tensor(s, nn_emit_tensor(s, s->out, i), element(s, s->e->io_type, s->outputs, i), false);
}

static nn_v dims_of(nn_pemit *s, nn_v tensor) {
  return nn_emit_field(s->e, s->e->tensor_type, tensor, NN_TENSOR_DIMS, s->e->ptr);
}

/* Arrays of dims are the caller's, at any address: on machines that must align their loads these are bytes. */
static nn_v load_dim(nn_pemit *s, nn_v dims, int d) {
  nn_v value = LLVMBuildLoad2(s->e->b, s->e->i64, element(s, s->e->i64, dims, d), "");
  LLVMSetAlignment(value, 1);
  return value;
}

static void store_dim(nn_pemit *s, nn_v dims, int d, nn_v value) {
  LLVMSetAlignment(LLVMBuildStore(s->e->b, value, element(s, s->e->i64, dims, d)), 1);
}

void nn_emit_output_dims_now(nn_pemit *s, bool *done, bool all) {
  nn_emod *e = s->e;
  for (int i = 0, n = 0; i < s->p->noutputs; i++) {
    const nn_value *v = nn_program_output(s->p, i);
    nn_v dims = NULL;
    for (int d = 0; d < v->type.rank; d++, n++) {
      bool is_known = !done[n] && nn_dims_known(&s->dims, v->type.dims[d]);
      if (done[n] || (!is_known && !all)) continue;
      if (!dims) dims = dims_of(s, nn_emit_tensor(s, s->out, i));
      nn_v value = is_known ? nn_emit_dim(&s->dims, v->type.dims[d]) : nn_const_i64(e, -1);
      store_dim(s, dims, d, value);
      done[n] = is_known;
    }
  }
}

/* ---- symbols -------------------------------------------------------------------------------------------------- */

static nn_v dim_text(nn_pemit *s, int d) {
  nn_v texts = LLVMGetNamedGlobal(s->e->m, "nn_text_dim"),
       index[] = {LLVMConstInt(s->e->i32, 0, false), LLVMConstInt(s->e->i32, (unsigned long long)d, false)};
  return LLVMConstInBoundsGEP2(LLVMGlobalGetValueType(texts), texts, index, 2);
}

static void bind_symbol(nn_pemit *s, const nn_symbol *symbol, nn_v value, nn_v node, nn_v what) {
  nn_emod *e = s->e;
  nn_v min = nn_const_i64(e, symbol->min), max = nn_const_i64(e, symbol->max);
  if (symbol->min > 0)
    nn_fail_if(s, LLVMBuildICmp(e->b, LLVMIntSLT, value, min, ""), NNCC_RT_ESHAPE, node, what, value, min);
  if (symbol->max != INT64_MAX)
    nn_fail_if(s, LLVMBuildICmp(e->b, LLVMIntSGT, value, max, ""), NNCC_RT_ESHAPE, node, what, value, max);
  LLVMBuildStore(e->b, value, element(s, e->i64, LLVMGetParam(s->fn, 2), symbol->index));
  s->dims.symbols[symbol->index] = value;
  s->from_inputs[symbol->index] = true;
}

static void bind_dim(nn_pemit *s, nn_dim dim, nn_v value, nn_v node, nn_v what) {
  nn_emod *e = s->e;
  int symbol = nn_dim_lone_symbol(dim);
  if (symbol >= 0 && !s->dims.symbols[symbol]) {
    bind_symbol(s, s->p->module->symbols[symbol], value, node, what);
    return;
  }
  if (!nn_dims_known(&s->dims, dim)) return;
  nn_v expected = nn_emit_dim(&s->dims, dim);
  nn_fail_if(s, LLVMBuildICmp(e->b, LLVMIntNE, value, expected, ""), NNCC_RT_ESHAPE, node, what, value, expected);
}

/* Lone symbols first, in the order of inputs, then the expressions that are made of them. */
static void bind_dims(nn_pemit *s, bool lone) {
  for (int i = 0; i < s->p->ninputs; i++) {
    const nn_value *v = s->p->graph->params[i];
    nn_v dims = NULL;
    for (int d = 0; d < v->type.rank; d++) {
      if (nn_dim_is_const(v->type.dims[d], NULL) || (nn_dim_lone_symbol(v->type.dims[d]) >= 0) != lone) continue;
      if (!dims) dims = dims_of(s, nn_emit_tensor(s, s->in, i));
      nn_v value = load_dim(s, dims, d);
      bind_dim(s, v->type.dims[d], value, nn_emit_io_name(s, false, i), dim_text(s, d));
    }
  }
}

void nn_emit_bind_function(nn_pemit *s) {
  nn_emod *e = s->e;
  LLVMTypeRef types[] = {e->ptr, e->ptr, e->ptr};
  s->bind_type = LLVMFunctionType(e->i32, types, 3, false);
  s->from_inputs = NN_NEW_ARRAY(e->arena, bool, s->p->module->nsymbols + 1);
  nn_begin_function(s, nn_sprintf(e->arena, "%s_bind", s->linkage->symbol), s->bind_type, false);
  s->bind = s->fn;
  s->ctx = LLVMGetParam(s->fn, 0);
  s->in = LLVMGetParam(s->fn, 1);
  if (s->p->ninputs > 0) {
    nn_v zero = nn_const_i64(e, 0), missing = LLVMBuildICmp(e->b, LLVMIntEQ, s->in, LLVMConstNull(e->ptr), "");
    nn_fail_if(s, missing, NNCC_RT_EINVAL, nn_emit_text(s, ""), nn_emit_text(s, "array of inputs"), zero,
               nn_const_i64(e, 1));
  }
  for (int i = 0; i < s->p->ninputs; i++)
    check_tensor(s, nn_emit_tensor(s, s->in, i), element(s, e->io_type, s->inputs, i), true);
  bind_dims(s, true);
  bind_dims(s, false);
  nn_end_function(s);
  LLVMBuildRet(e->b, s->code);
}

/* On the stack for the whole call: allocas elsewhere than in the first block would move the stack again. */
nn_v nn_emit_local(nn_pemit *s, LLVMTypeRef type, const char *name) {
  LLVMBuilderRef b = s->e->b;
  LLVMBasicBlockRef here = LLVMGetInsertBlock(b), entry = LLVMGetEntryBasicBlock(s->fn);
  nn_v first = LLVMGetFirstInstruction(entry);
  if (first)
    LLVMPositionBuilderBefore(b, first);
  else
    LLVMPositionBuilderAtEnd(b, entry);
  nn_v place = LLVMBuildAlloca(b, type, name);
  LLVMPositionBuilderAtEnd(b, here);
  return place;
}

void nn_emit_input_symbols(nn_pemit *s, nn_v ctx) {
  nn_emod *e = s->e;
  int n = s->p->module->nsymbols;
  nn_v array = nn_emit_local(s, LLVMArrayType2(e->i64, (uint64_t)(n ? n : 1)), "symbols"), args[] = {ctx, s->in, array};
  nn_v code = LLVMBuildCall2(e->b, s->bind_type, s->bind, args, 3, "");
  nn_leave_if(s, LLVMBuildICmp(e->b, LLVMIntNE, code, LLVMConstInt(e->i32, 0, false), ""), code);
  for (int i = 0; i < n; i++)
    if (s->from_inputs[i])
      s->dims.symbols[i] = LLVMBuildLoad2(e->b, e->i64, element(s, e->i64, array, i), s->p->module->symbols[i]->name);
}
