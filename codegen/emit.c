/* LLVM modules: set up from the prelude's text, finished by attributes, verification and a short list of
   optimisations. The emitter writes vector code itself, so no vectoriser runs; what pays is what cleans
   up after it: memory to registers, common subexpressions, loop invariants. */
#include <stdlib.h>
#include <string.h>

#include <llvm-c/Transforms/PassBuilder.h>

#include "codegen/llvm.h"

/* Rows: optimisation level. */
static const char *const pipelines[] = {
    "globaldce",
    "globaldce,function(sroa,early-cse<memssa>,simplifycfg)",
    "globaldce,function(sroa,early-cse<memssa>,instcombine<no-verify-fixpoint>,simplifycfg,loop-mssa(licm),early-cse<"
    "memssa>,instcombine<no-verify-fixpoint>,simplifycfg)",
    "globaldce,function(sroa,early-cse<memssa>,instcombine<no-verify-fixpoint>,simplifycfg,loop-mssa(licm),gvn,"
    "instcombine<no-verify-fixpoint>,simplifycfg)",
};

/* Every function carries "warn-stack-size"="0", so the code generator tells the size of each frame:
   "stack frame size (N) exceeds limit (0) in function 'F'". There is no other way to it in the C API. */
static bool take_stack_size(nn_emod *e, const char *text) {
  const char *size_text = strstr(text, "stack frame size (");
  if (!size_text) return false;
  int64_t size = strtoll(size_text + strlen("stack frame size ("), NULL, 10);
  const char *name = strstr(text, "in function '");
  int64_t *largest = &e->frames.other;
  if (name && strncmp(name + 13, "nnk_", 4) == 0)
    largest = strstr(name, "__task") ? &e->frames.task : &e->frames.kernel;
  else if (name && strstr(name, "_run'"))
    largest = &e->frames.entry;
  if (size > *largest) *largest = size;
  return true;
}

static void take_diagnostic(LLVMDiagnosticInfoRef info, void *data) {
  nn_emod *e = data;
  LLVMDiagnosticSeverity severity = LLVMGetDiagInfoSeverity(info);
  if (severity != LLVMDSError && severity != LLVMDSWarning) return;
  char *text = LLVMGetDiagInfoDescription(info);
  if (severity == LLVMDSError || !take_stack_size(e, text))
    nn_report(e->diags, severity == LLVMDSError ? NN_ERROR : NN_WARNING, NULL, NULL, NULL, "code generator: %s", text);
  if (severity == LLVMDSError) e->failed = true;
  LLVMDisposeMessage(text);
}

static bool is_embedded(const nn_target *t) {
  return strncmp(t->triple, "thumb", 5) == 0 || strncmp(t->triple, "wasm", 4) == 0;
}

LLVMTargetMachineRef nn_target_machine(const nn_target *t, int level, nn_diags *diags) {
  LLVMTargetRef target;
  char *message = NULL;
  if (LLVMGetTargetFromTriple(t->triple, &target, &message)) {
    nn_report(diags, NN_ERROR, NULL, NULL, NULL, "target '%s': %s", t->triple, message);
    LLVMDisposeMessage(message);
    return NULL;
  }
  LLVMTargetMachineOptionsRef options = LLVMCreateTargetMachineOptions();
  LLVMTargetMachineOptionsSetCPU(options, t->cpu);
  LLVMTargetMachineOptionsSetFeatures(options, t->features);
  LLVMTargetMachineOptionsSetCodeGenOptLevel(options, level <= 0   ? LLVMCodeGenLevelNone
                                                      : level == 1 ? LLVMCodeGenLevelLess
                                                                   : LLVMCodeGenLevelDefault);
  LLVMTargetMachineOptionsSetRelocMode(options, is_embedded(t) ? LLVMRelocStatic : LLVMRelocPIC);
  if (strncmp(t->triple, "riscv64", 7) == 0) LLVMTargetMachineOptionsSetABI(options, "lp64d");
  LLVMTargetMachineRef tm = LLVMCreateTargetMachineWithOptions(target, t->triple, options);
  LLVMDisposeTargetMachineOptions(options);
  if (!tm) nn_report(diags, NN_ERROR, NULL, NULL, NULL, "target '%s' has no code generator", t->triple);
  return tm;
}

static void make_types(nn_emod *e) {
  e->i1 = LLVMInt1TypeInContext(e->c);
  e->i8 = LLVMInt8TypeInContext(e->c);
  e->i16 = LLVMInt16TypeInContext(e->c);
  e->i32 = LLVMInt32TypeInContext(e->c);
  e->i64 = LLVMInt64TypeInContext(e->c);
  e->size = e->target->pointer_bits == 64 ? e->i64 : e->i32;
  e->f32 = LLVMFloatTypeInContext(e->c);
  e->f64 = LLVMDoubleTypeInContext(e->c);
  e->ptr = LLVMPointerTypeInContext(e->c, 0);
  e->none = LLVMVoidTypeInContext(e->c);
  e->ctx_type = LLVMGetTypeByName2(e->c, "nn_ctx");
  e->tensor_type = LLVMGetTypeByName2(e->c, "nn_tensor");
  e->io_type = LLVMGetTypeByName2(e->c, "nn_io");
  e->model_type = LLVMGetTypeByName2(e->c, "nn_model");
  e->zeros = LLVMGetNamedGlobal(e->m, "nn_zeros");
}

static nn_status parse_prelude(nn_emod *e) {
  LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(e->tm);
  char *layout_text = LLVMCopyStringRepOfTargetData(layout);
  char *text = nn_prelude_text(e->arena, e->target, layout_text), *message = NULL;
  LLVMDisposeMessage(layout_text);
  LLVMDisposeTargetData(layout);
  LLVMMemoryBufferRef buffer = LLVMCreateMemoryBufferWithMemoryRangeCopy(text, strlen(text), "prelude");
  if (!LLVMParseIRInContext(e->c, buffer, &e->m, &message)) return NN_OK;
  nn_report(e->diags, NN_ERROR, NULL, NULL, NULL, "internal: %s", message);
  LLVMDisposeMessage(message);
  e->m = NULL;
  return NN_FAIL;
}

nn_status nn_emod_init(nn_emod *e, const nn_target *t, nn_diags *diags, int level) {
  memset(e, 0, sizeof *e);
  e->target = t;
  e->diags = diags;
  e->level = level < 0 ? 0 : level > 3 ? 3 : level;
  e->arena = nn_arena_new();
  if (!e->arena) return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "out of memory");
  e->functions = nn_map_new(e->arena);
  e->texts = nn_map_new(e->arena);
  e->tm = nn_target_machine(t, e->level, diags);
  if (!e->tm) return NN_FAIL;
  e->c = LLVMContextCreate();
  LLVMContextSetDiagnosticHandler(e->c, take_diagnostic, e);
  NN_TRY(parse_prelude(e));
  e->b = LLVMCreateBuilderInContext(e->c);
  make_types(e);
  return NN_OK;
}

void nn_emod_free(nn_emod *e) {
  if (e->b) LLVMDisposeBuilder(e->b);
  if (e->m) LLVMDisposeModule(e->m);
  if (e->c) LLVMContextDispose(e->c);
  if (e->tm) LLVMDisposeTargetMachine(e->tm);
  if (e->arena) nn_arena_free(e->arena);
  memset(e, 0, sizeof *e);
}

static void add_attribute(nn_emod *e, nn_v fn, const char *name, const char *value) {
  LLVMAttributeRef a = LLVMCreateStringAttribute(e->c, name, (unsigned)strlen(name), value, (unsigned)strlen(value));
  LLVMAddAttributeAtIndex(fn, LLVMAttributeFunctionIndex, a);
}

static void set_attributes(nn_emod *e) {
  unsigned nounwind = LLVMGetEnumAttributeKindForName("nounwind", 8);
  for (nn_v fn = LLVMGetFirstFunction(e->m); fn; fn = LLVMGetNextFunction(fn)) {
    if (LLVMIsDeclaration(fn)) continue;
    LLVMAddAttributeAtIndex(fn, LLVMAttributeFunctionIndex, LLVMCreateEnumAttribute(e->c, nounwind, 0));
    add_attribute(e, fn, "target-cpu", e->target->cpu);
    add_attribute(e, fn, "warn-stack-size", "0");
    if (e->target->features[0]) add_attribute(e, fn, "target-features", e->target->features);
    /* LLVM prefers 256 bits on some CPUs with 512: the schedules were made for the full width */
    if (e->target->vector_bytes == 64) add_attribute(e, fn, "prefer-vector-width", "512");
  }
}

static nn_status verify(nn_emod *e) {
  char *message = NULL;
  nn_status status = NN_OK;
  if (LLVMVerifyModule(e->m, LLVMReturnStatusAction, &message))
    status = nn_report(e->diags, NN_ERROR, NULL, NULL, NULL, "internal: invalid LLVM IR: %.400s", message);
  LLVMDisposeMessage(message);
  return status;
}

nn_status nn_emod_finish(nn_emod *e) {
  if (e->failed) return NN_FAIL;
  nn_v keep = LLVMGetNamedGlobal(e->m, "nn_keep_types");
  if (keep) LLVMDeleteGlobal(keep);
  set_attributes(e);
  NN_TRY(verify(e));
  LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
  LLVMErrorRef error = LLVMRunPasses(e->m, pipelines[e->level], e->tm, options);
  LLVMDisposePassBuilderOptions(options);
  if (!error) return e->failed ? NN_FAIL : NN_OK;
  char *text = LLVMGetErrorMessage(error);
  nn_report(e->diags, NN_ERROR, NULL, NULL, NULL, "internal: %s", text);
  LLVMDisposeErrorMessage(text);
  return NN_FAIL;
}

nn_status nn_emod_code(nn_emod *e, LLVMCodeGenFileType type, nn_object *code) {
  LLVMMemoryBufferRef buffer = NULL;
  char *message = NULL;
  if (LLVMTargetMachineEmitToMemoryBuffer(e->tm, e->m, type, &message, &buffer)) {
    nn_report(e->diags, NN_ERROR, NULL, NULL, NULL, "cannot generate code: %s", message);
    LLVMDisposeMessage(message);
    return NN_FAIL;
  }
  size_t size = LLVMGetBufferSize(buffer);
  unsigned char *bytes = malloc(size + 1);
  if (bytes) memcpy(bytes, LLVMGetBufferStart(buffer), size);
  LLVMDisposeMemoryBuffer(buffer);
  if (!bytes) return nn_report(e->diags, NN_ERROR, NULL, NULL, NULL, "out of memory");
  *code = (nn_object){.bytes = bytes, .size = size, .frames = e->frames};
  if (!e->failed) return NN_OK;
  nn_object_free(code);
  return NN_FAIL;
}

nn_v nn_emod_function(nn_emod *e, const char *name) { return LLVMGetNamedFunction(e->m, name); }

nn_v nn_emod_text(nn_emod *e, const char *text) {
  nn_v known = nn_map_get(e->texts, text);
  if (known) return known;
  nn_v chars = LLVMConstStringInContext2(e->c, text, strlen(text), false);
  nn_v global = LLVMAddGlobal(e->m, LLVMTypeOf(chars), "nn_text");
  LLVMSetInitializer(global, chars);
  LLVMSetLinkage(global, LLVMPrivateLinkage);
  LLVMSetGlobalConstant(global, true);
  LLVMSetUnnamedAddress(global, LLVMGlobalUnnamedAddr);
  nn_map_put(e->texts, text, global);
  return global;
}

nn_v nn_emit_field(nn_emod *e, LLVMTypeRef type, nn_v base, int field, LLVMTypeRef field_type) {
  return LLVMBuildLoad2(e->b, field_type, LLVMBuildStructGEP2(e->b, type, base, (unsigned)field, ""), "");
}

void nn_emit_set_field(nn_emod *e, LLVMTypeRef type, nn_v base, int field, nn_v value) {
  LLVMBuildStore(e->b, value, LLVMBuildStructGEP2(e->b, type, base, (unsigned)field, ""));
}
