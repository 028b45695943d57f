/* The JIT: compiles a module to an object in memory, with the same code as object.c does to a file, and
   has ORC link it into this process. Kernels are kept by their canonical text, so that one which comes
   again costs nothing. Descriptors and functions live until the JIT is freed. */
#include <stdlib.h>
#include <string.h>

#include <llvm-c/LLJIT.h>
#include <llvm-c/LLJITUtils.h>
#include <llvm-c/Orc.h>

#include "codegen/llvm.h"

struct nn_jit {
  LLVMOrcLLJITRef lljit;
  nn_diags *diags;
  nn_arena *arena;
  nn_map *kernels; /* canonical text -> kernel_entry */
  int count;       /* numbers the modules */
  bool tells_gdb;
};

typedef struct kernel_entry {
  nn_kernel_fn *fn;
} kernel_entry;

static nn_status report(nn_jit *jit, LLVMErrorRef error) {
  char *text = LLVMGetErrorMessage(error);
  nn_report(jit->diags, NN_ERROR, NULL, NULL, NULL, "JIT: %s", text);
  LLVMDisposeErrorMessage(text);
  return NN_FAIL;
}

/* The only functions that compiled code may call. */
static LLVMErrorRef define_functions(nn_jit *jit) {
  const struct {
    const char *name;
    uintptr_t address;
  } functions[] = {
#define FUNCTION(name) {#name, (uintptr_t)name}
      FUNCTION(memcpy),
      FUNCTION(memmove),
      FUNCTION(memset),
      FUNCTION(memcmp),
#undef FUNCTION
  };
  enum { COUNT = (int)(sizeof functions / sizeof functions[0]) };
  LLVMOrcCSymbolMapPair pairs[COUNT];
  for (int i = 0; i < COUNT; i++) {
    pairs[i].Name = LLVMOrcLLJITMangleAndIntern(jit->lljit, functions[i].name);
    pairs[i].Sym.Address = functions[i].address;
    pairs[i].Sym.Flags = (LLVMJITSymbolFlags){LLVMJITSymbolGenericFlagsExported | LLVMJITSymbolGenericFlagsCallable, 0};
  }
  return LLVMOrcJITDylibDefine(LLVMOrcLLJITGetMainJITDylib(jit->lljit), LLVMOrcAbsoluteSymbols(pairs, COUNT));
}

static nn_status start(nn_jit *jit) {
  LLVMInitializeNativeTarget();
  LLVMInitializeNativeAsmPrinter();
  LLVMErrorRef error = LLVMOrcCreateLLJIT(&jit->lljit, NULL);
  if (error) return report(jit, error);
  error = define_functions(jit);
  return error ? report(jit, error) : NN_OK;
}

nn_jit *nn_jit_new(nn_diags *diags) {
  nn_arena *arena = nn_arena_new();
  if (!arena) {
    nn_report(diags, NN_ERROR, NULL, NULL, NULL, "out of memory");
    return NULL;
  }
  nn_jit *jit = NN_NEW(arena, nn_jit);
  *jit = (nn_jit){.diags = diags, .arena = arena, .kernels = nn_map_new(arena)};
  if (start(jit) == NN_OK) return jit;
  nn_jit_free(jit);
  return NULL;
}

void nn_jit_free(nn_jit *jit) {
  if (!jit) return;
  LLVMErrorRef error = jit->lljit ? LLVMOrcDisposeLLJIT(jit->lljit) : NULL;
  if (error) LLVMConsumeError(error);
  nn_arena_free(jit->arena);
}

/* Links the object and gives the address of one of its symbols. */
static nn_status link_object(nn_jit *jit, const nn_object *object, const char *symbol, void **address) {
  LLVMMemoryBufferRef buffer =
      LLVMCreateMemoryBufferWithMemoryRangeCopy((const char *)object->bytes, object->size, symbol);
  LLVMErrorRef error = LLVMOrcLLJITAddObjectFile(jit->lljit, LLVMOrcLLJITGetMainJITDylib(jit->lljit), buffer);
  if (error) return report(jit, error);
  LLVMOrcExecutorAddress at = 0;
  error = LLVMOrcLLJITLookup(jit->lljit, &at, symbol);
  if (error) return report(jit, error);
  *address = (void *)(uintptr_t)at;
  return NN_OK;
}

/* i32 symbol(ctx, args, symbols): fetches what the kernel's function takes. Worker memory is the context's
   workspace. */
static void emit_entry(nn_emod *e, const nn_kernel *k, nn_v kernel, const char *symbol) {
  LLVMTypeRef types[] = {e->ptr, e->ptr, e->ptr};
  nn_v fn = LLVMAddFunction(e->m, symbol, LLVMFunctionType(e->i32, types, 3, false));
  LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->c, fn, "entry"));
  int nsymbols, nargs = nn_kernel_nargs(k), n = 0, worker_bytes = nn_target_worker_bytes(k);
  const int *symbols = nn_kernel_symbols(e, k, &nsymbols);
  nn_v *args = NN_NEW_ARRAY(e->arena, nn_v, NN_CELL_TASKS + nargs + nsymbols), ctx = LLVMGetParam(fn, 0);
  nn_emit_set_field(e, e->ctx_type, ctx, NN_CTX_ERROR, LLVMConstInt(e->i32, 0, false));
  args[n++] = ctx;
  args[n++] = nn_emit_field(e, e->ctx_type, ctx, NN_CTX_WORKSPACE, e->ptr);
  args[n++] = nn_const_i64(e, worker_bytes);
  if (k->looks_ahead) args[n++] = LLVMConstNull(e->ptr), args[n++] = nn_const_i64(e, 0);
  for (int i = 0; i < nargs; i++) {
    nn_v index = LLVMConstInt(e->i32, (unsigned long long)i, false);
    args[n++] = LLVMBuildLoad2(e->b, e->ptr, LLVMBuildGEP2(e->b, e->ptr, LLVMGetParam(fn, 1), &index, 1, ""), "");
  }
  for (int i = 0; i < nsymbols; i++) {
    nn_v index = LLVMConstInt(e->i32, (unsigned long long)symbols[i], false);
    args[n++] = LLVMBuildLoad2(e->b, e->i64, LLVMBuildGEP2(e->b, e->i64, LLVMGetParam(fn, 2), &index, 1, ""), "");
  }
  LLVMBuildRet(e->b, LLVMBuildCall2(e->b, nn_kernel_type(e, k), kernel, args, (unsigned)n, ""));
}

static nn_status compile_kernel(nn_jit *jit, nn_emod *e, const nn_kernel *k, nn_kernel_fn **fn) {
  char symbol[32];
  snprintf(symbol, sizeof symbol, "nnjit_%d", jit->count++);
  if (nn_target_worker_bytes(k) < 0)
    return nn_report(jit->diags, NN_ERROR, k->loc, NULL, NULL,
                     "internal: kernel %s alone needs worker memory of a size that is not constant", k->name);
  nn_v kernel = nn_emit_kernel(e, k);
  if (!kernel) return NN_FAIL;
  emit_entry(e, k, kernel, symbol);
  void *address = NULL;
  nn_object object = {0};
  NN_TRY(nn_emod_finish(e));
  NN_TRY(nn_emod_code(e, LLVMObjectFile, &object));
  nn_status status = link_object(jit, &object, symbol, &address);
  nn_object_free(&object);
  NN_TRY(status);
  *fn = (nn_kernel_fn *)(uintptr_t)address;
  return NN_OK;
}

nn_status nn_jit_kernel(nn_jit *jit, const nn_target *t, const nn_kernel *k, nn_kernel_fn **fn) {
  const char *key = nn_kernel_key(jit->arena, k);
  kernel_entry *entry = nn_map_get(jit->kernels, key);
  if (entry) {
    *fn = entry->fn;
    return NN_OK;
  }
  nn_emod e;
  nn_status status = nn_emod_init(&e, t, jit->diags, 2);
  if (status == NN_OK) status = compile_kernel(jit, &e, k, fn);
  nn_emod_free(&e);
  if (status != NN_OK) return status;
  entry = NN_NEW(jit->arena, kernel_entry);
  entry->fn = *fn;
  nn_map_put(jit->kernels, key, entry);
  return NN_OK;
}

/* GDB gets the objects that are linked from now on. */
static nn_status tell_gdb(nn_jit *jit) {
  if (jit->tells_gdb) return NN_OK;
  LLVMErrorRef error = LLVMOrcLLJITEnableDebugSupport(jit->lljit);
  jit->tells_gdb = !error;
  return error ? report(jit, error) : NN_OK;
}

static nn_status link_program(nn_jit *jit, const nn_object *object, const nn_emit_options *options, const char *symbol,
                              const nncc_rt_model **model) {
  void *address = NULL;
  if (options->symbols) NN_TRY(tell_gdb(jit));
  NN_TRY(link_object(jit, object, symbol, &address));
  *model = address;
  if (!options->symbols) return NN_OK;
  return nn_perf_map_add(object, nn_sprintf(jit->arena, "%s_run", symbol), (const void *)(uintptr_t)(*model)->run,
                         jit->diags);
}

nn_status nn_jit_program(nn_jit *jit, const nn_target *t, const nn_program *p, const nn_emit_options *options,
                         const nncc_rt_model **model) {
  nn_linkage linkage = {.symbol = nn_sprintf(jit->arena, "nnjit_%d", jit->count++), .absolute = true};
  nn_object object = {0};
  NN_TRY(nn_program_object(p, t, options, &linkage, jit->diags, &object));
  nn_status status = link_program(jit, &object, options, linkage.symbol, model);
  nn_object_free(&object);
  return status;
}
