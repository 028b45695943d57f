/* A whole model: the descriptor and what it points to. Only NAME and NAME_* are global. */
#include <string.h>

#include "codegen/llvm.h"

static nn_v constant(nn_emod *e, const char *name, nn_v value) {
  nn_v global = LLVMAddGlobal(e->m, LLVMTypeOf(value), name);
  LLVMSetInitializer(global, value);
  LLVMSetGlobalConstant(global, true);
  LLVMSetLinkage(global, LLVMInternalLinkage);
  return global;
}

static nn_v c32(nn_emod *e, int64_t value) { return LLVMConstInt(e->i32, (unsigned long long)value, true); }

/* ---- inputs and outputs ------------------------------------------------------------------------------------------ */

static nn_v dims_constant(nn_emod *e, nn_type type) {
  if (type.rank == 0) return LLVMConstNull(e->ptr);
  nn_v dims[NN_MAX_RANK];
  for (int d = 0; d < type.rank; d++) {
    int64_t value;
    dims[d] = nn_const_i64(e, nn_dim_is_const(type.dims[d], &value) ? value : -1);
  }
  return constant(e, "nn_dims", LLVMConstArray2(e->i64, dims, (uint64_t)type.rank));
}

static nn_v dim_texts(nn_emod *e, nn_type type) {
  if (type.rank == 0) return LLVMConstNull(e->ptr);
  nn_v texts[NN_MAX_RANK];
  for (int d = 0; d < type.rank; d++)
    texts[d] = nn_dim_is_const(type.dims[d], NULL) ? LLVMConstNull(e->ptr)
                                                   : nn_emod_text(e, nn_dim_text(e->arena, type.dims[d]));
  return constant(e, "nn_dim_texts", LLVMConstArray2(e->ptr, texts, (uint64_t)type.rank));
}

static nn_v io_constant(nn_emod *e, const nn_value *v, const char *name) {
  nn_v fields[] = {nn_emod_text(e, name ? name : ""), c32(e, nn_dtype_onnx(v->type.dtype)), c32(e, v->type.rank),
                   dims_constant(e, v->type), dim_texts(e, v->type)};
  return LLVMConstNamedStruct(e->io_type, fields, 5);
}

static void make_ios(nn_pemit *s) {
  nn_emod *e = s->e;
  int nin = s->p->ninputs, nout = s->p->noutputs;
  nn_v *items = NN_NEW_ARRAY(e->arena, nn_v, (nin > nout ? nin : nout) + 1);
  for (int i = 0; i < nin; i++) items[i] = io_constant(e, s->p->graph->params[i], s->p->graph->params[i]->name);
  s->inputs = constant(e, "nn_inputs", LLVMConstArray2(e->io_type, items, (uint64_t)nin));
  for (int i = 0; i < nout; i++)
    items[i] = io_constant(e, nn_program_output(s->p, i), nn_graph_output_name(s->p->graph, i));
  s->outputs = constant(e, "nn_outputs", LLVMConstArray2(e->io_type, items, (uint64_t)nout));
}

/* ---- weights --------------------------------------------------------------------------------------------------------
 */

enum { NEAR_WEIGHTS = 1 << 28 }; /* more may be farther from the code than a 32-bit displacement reaches */

static const char *weights_name(nn_pemit *s) { return nn_sprintf(s->e->arena, "%s_weights", s->linkage->symbol); }

static nn_v weights_global(nn_pemit *s) {
  const char *name = weights_name(s);
  nn_v global = LLVMGetNamedGlobal(s->e->m, name);
  if (global) return global;
  global = LLVMAddGlobal(s->e->m, s->e->i8, name);
  LLVMSetAlignment(global, NNCC_RT_ALIGN);
  LLVMSetVisibility(global, LLVMHiddenVisibility);
  LLVMSetGlobalConstant(global, true);
  return global;
}

/* Large weights are reached through a pointer in memory, which is not constant for LLVM only, so that it
   does not see through it. */
nn_v nn_emit_weights_symbol(nn_pemit *s) {
  nn_emod *e = s->e;
  if (s->p->weights_bytes <= NEAR_WEIGHTS) return weights_global(s);
  nn_v at = LLVMGetNamedGlobal(e->m, "nn_weights_at");
  if (!at) {
    at = LLVMAddGlobal(e->m, e->ptr, "nn_weights_at");
    LLVMSetInitializer(at, weights_global(s));
    LLVMSetLinkage(at, LLVMInternalLinkage);
  }
  return LLVMBuildLoad2(e->b, e->ptr, at, "weights");
}

/* ---- the descriptor
 * ---------------------------------------------------------------------------------------------------- */

static bool allocates(const nn_program *p) {
  for (int i = 0; i < p->nplaces; i++) {
    const nn_place *place = p->places[i];
    if (place->kind == NN_PLACE_WORKSPACE
            ? place->slot < 0
            : place->kind == NN_PLACE_OUTPUT && nn_dim_depends_on_data(p->module, place->bytes))
      return true;
  }
  for (int i = 0; i < p->nkernels; i++)
    if (nn_dim_depends_on_data(p->module, nn_kernel_worker_bytes(p->kernels[i]))) return true;
  return false;
}

static int64_t flags_of(nn_pemit *s) {
  int64_t flags = 0;
  for (int i = 0; i < s->p->module->nsymbols; i++)
    if (s->from_inputs[i]) flags |= NNCC_RT_MODEL_SYMBOLIC;
  for (int i = 0; i < s->p->nsteps; i++)
    if (s->p->steps[i].kind == NN_STEP_BIND) flags |= NNCC_RT_MODEL_DATA_DEPENDENT;
  for (const nn_program *p = s->p; p; p = p->narrower)
    if (allocates(p)) flags |= NNCC_RT_MODEL_ALLOCATES;
  return flags;
}

static nn_v size_constant(nn_emod *e, nn_dim d, bool *is_known) {
  int64_t value = -1;
  if (!nn_dim_is_const(d, &value)) *is_known = false;
  return LLVMConstInt(e->size, (unsigned long long)value, true);
}

static nn_v make_model(nn_pemit *s, nn_v run, nn_v workspace_size, nn_v output_dims) {
  nn_emod *e = s->e;
  bool is_static = true, absolute = s->linkage->absolute;
  nn_v worker = size_constant(e, nn_program_worker_bytes(s->p), &is_static),
       workspace = size_constant(e, s->p->workspace_bytes, &is_static);
  if (!is_static) workspace = LLVMConstAllOnes(e->size);
  nn_v fields[] = {c32(e, NNCC_RT_ABI),
                   c32(e, flags_of(s)),
                   nn_emod_text(e, s->options->name),
                   c32(e, s->p->ninputs),
                   c32(e, s->p->noutputs),
                   s->inputs,
                   s->outputs,
                   workspace,
                   worker,
                   LLVMConstInt(e->size, absolute ? 0 : (unsigned long long)s->p->weights_bytes, false),
                   s->linkage->embedded && s->p->weights_bytes > 0 ? weights_global(s) : LLVMConstNull(e->ptr),
                   LLVMConstInt(e->i64, s->linkage->hash, false),
                   run,
                   workspace_size,
                   output_dims};
  nn_v model = LLVMAddGlobal(e->m, e->model_type, s->linkage->symbol);
  LLVMSetInitializer(model, LLVMConstNamedStruct(e->model_type, fields, 15));
  LLVMSetGlobalConstant(model, true);
  return model;
}

nn_dim nn_program_worker_bytes(const nn_program *p) {
  nn_dim most = nn_dim_const(p->module, 0);
  for (const nn_program *v = p->widest ? p->widest : p; v; v = v->narrower)
    for (int i = 0; i < v->nkernels; i++) {
      nn_dim bytes = nn_kernel_worker_bytes(v->kernels[i]);
      if (!nn_dim_depends_on_data(p->module, bytes)) most = nn_dim_max(p->module, most, bytes);
    }
  return most;
}

nn_status nn_emit_program(nn_emod *e, const nn_program *p, const nn_emit_options *options, const nn_linkage *linkage) {
  nn_pemit s = {.e = e, .p = p, .options = options, .linkage = linkage};
  make_ios(&s);
  nn_emit_bind_function(&s);
  nn_v run =
      p->narrower ? nn_emit_variants(&s) : nn_emit_run(&s, nn_sprintf(e->arena, "%s_run", linkage->symbol), true);
  nn_v workspace_size = nn_emit_workspace_size(&s), output_dims = nn_emit_output_dims(&s);
  make_model(&s, run, workspace_size, output_dims);
  if (!linkage->absolute && nn_program_is_plain(p)) nn_emit_infer(&s);
  return e->failed ? NN_FAIL : NN_OK;
}
