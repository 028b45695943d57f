/* NAME_infer: for a model whose sizes are all constants, one C function over flat pointers,
   int32_t NAME_infer(inputs.., outputs.., [const void *weights,] void *workspace), which makes the tensors
   and the context on its stack and calls run with one worker. */
#include <string.h>

#include "codegen/llvm.h"

static bool is_static_type(nn_type t) {
  for (int d = 0; d < t.rank; d++)
    if (!nn_dim_is_const(t.dims[d], NULL)) return false;
  return true;
}

bool nn_program_is_plain(const nn_program *p) {
  for (int i = 0; i < p->ninputs; i++)
    if (!is_static_type(p->graph->params[i]->type)) return false;
  for (int i = 0; i < p->noutputs; i++)
    if (!is_static_type(nn_program_output(p, i)->type)) return false;
  for (int i = 0; i < p->nplaces; i++)
    if (p->places[i]->kind == NN_PLACE_WORKSPACE && p->places[i]->slot < 0) return false;
  return nn_dim_is_const(p->workspace_bytes, NULL) && nn_dim_is_const(nn_program_worker_bytes(p), NULL);
}

static nn_v address(nn_pemit *s, LLVMTypeRef type, nn_v base, int i) {
  nn_v index = LLVMConstInt(s->e->i32, (unsigned long long)i, false);
  return LLVMBuildInBoundsGEP2(s->e->b, type, base, &index, 1, "");
}

static void fill_tensor(nn_pemit *s, nn_v tensor, nn_v data, nn_type type, nn_v dims) {
  nn_emod *e = s->e;
  for (int d = 0; d < type.rank; d++)
    LLVMBuildStore(e->b, nn_const_i64(e, nn_dim_value(type.dims[d])), address(s, e->i64, dims, d));
  nn_emit_set_field(e, e->tensor_type, tensor, NN_TENSOR_DATA, data);
  nn_emit_set_field(e, e->tensor_type, tensor, NN_TENSOR_DIMS, dims);
  nn_emit_set_field(e, e->tensor_type, tensor, NN_TENSOR_DTYPE,
                    LLVMConstInt(e->i32, (unsigned long long)nn_dtype_onnx(type.dtype), false));
  nn_emit_set_field(e, e->tensor_type, tensor, NN_TENSOR_RANK,
                    LLVMConstInt(e->i32, (unsigned long long)type.rank, false));
}

static nn_v make_tensors(nn_pemit *s, bool is_output, int first_param) {
  nn_emod *e = s->e;
  int count = is_output ? s->p->noutputs : s->p->ninputs;
  nn_v tensors = LLVMBuildAlloca(e->b, LLVMArrayType2(e->tensor_type, (uint64_t)(count ? count : 1)), "");
  nn_v dims = LLVMBuildAlloca(e->b, LLVMArrayType2(e->i64, (uint64_t)NN_MAX_RANK * (uint64_t)(count ? count : 1)), "");
  for (int i = 0; i < count; i++) {
    nn_type type = is_output ? nn_program_output(s->p, i)->type : s->p->graph->params[i]->type;
    fill_tensor(s, nn_emit_tensor(s, tensors, i), LLVMGetParam(s->fn, (unsigned)(first_param + i)), type,
                address(s, e->i64, dims, i * NN_MAX_RANK));
  }
  return tensors;
}

static nn_v make_context(nn_pemit *s, nn_v weights, nn_v workspace) {
  nn_emod *e = s->e;
  nn_v ctx = LLVMBuildAlloca(e->b, e->ctx_type, "ctx");
  LLVMBuildStore(e->b, LLVMConstNull(e->ctx_type), ctx);
  int64_t bytes = nn_dim_value(s->p->workspace_bytes) + nn_dim_value(nn_program_worker_bytes(s->p));
  nn_emit_set_field(e, e->ctx_type, ctx, NN_CTX_WORKSPACE, workspace);
  nn_emit_set_field(e, e->ctx_type, ctx, NN_CTX_WORKSPACE_BYTES,
                    LLVMConstInt(e->size, (unsigned long long)bytes, false));
  if (weights) nn_emit_set_field(e, e->ctx_type, ctx, NN_CTX_WEIGHTS, weights);
  return ctx;
}

void nn_emit_infer(nn_pemit *s) {
  nn_emod *e = s->e;
  nn_v run = nn_emod_function(e, nn_sprintf(e->arena, "%s_run", s->linkage->symbol));
  bool takes_weights = !s->linkage->embedded && s->p->weights_bytes > 0;
  int nin = s->p->ninputs, nout = s->p->noutputs, nparams = nin + nout + takes_weights + 1;
  LLVMTypeRef *types = NN_NEW_ARRAY(e->arena, LLVMTypeRef, nparams);
  for (int i = 0; i < nparams; i++) types[i] = e->ptr;
  s->fn = LLVMAddFunction(e->m, nn_sprintf(e->arena, "%s_infer", s->linkage->symbol),
                          LLVMFunctionType(e->i32, types, (unsigned)nparams, false));
  LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->c, s->fn, "entry"));
  nn_v in = make_tensors(s, false, 0), out = make_tensors(s, true, nin);
  nn_v weights = takes_weights ? LLVMGetParam(s->fn, (unsigned)(nin + nout)) : NULL;
  nn_v args[] = {make_context(s, weights, LLVMGetParam(s->fn, (unsigned)nparams - 1)), in, out};
  LLVMBuildRet(e->b, LLVMBuildCall2(e->b, LLVMGlobalGetValueType(run), run, args, 3, ""));
}
