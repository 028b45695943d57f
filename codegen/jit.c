/* The JIT: compiles a module to an object in memory, with the same code as object.c does to a file, and
   has ORC link it into this process. Kernels are kept by their canonical text, so that one which comes
   again costs nothing. Descriptors and functions live until the JIT is freed. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <llvm-c/LLJIT.h>
#include <llvm-c/Orc.h>

#include "codegen/llvm.h"

struct nn_jit {
  LLVMOrcLLJITRef lljit;
  nn_diags *diags;
  nn_arena *arena;
  nn_map *kernels; /* canonical text -> kernel_entry */
  int count;       /* numbers the modules */
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

/* The finished module as an object in memory; NULL after an error. */
static LLVMMemoryBufferRef make_object(nn_emod *e) {
  LLVMMemoryBufferRef object = NULL;
  char *message = NULL;
  if (nn_emod_finish(e) != NN_OK) return NULL;
  if (LLVMTargetMachineEmitToMemoryBuffer(e->tm, e->m, LLVMObjectFile, &message, &object)) {
    nn_report(e->diags, NN_ERROR, NULL, NULL, NULL, "JIT: %s", message);
    LLVMDisposeMessage(message);
    return NULL;
  }
  if (!e->failed) return object;
  LLVMDisposeMemoryBuffer(object);
  return NULL;
}

/* Takes the object. */
static nn_status add_object(nn_jit *jit, LLVMMemoryBufferRef object) {
  if (!object) return NN_FAIL;
  LLVMErrorRef error = LLVMOrcLLJITAddObjectFile(jit->lljit, LLVMOrcLLJITGetMainJITDylib(jit->lljit), object);
  return error ? report(jit, error) : NN_OK;
}

/* Compiles the module, links it, and gives the address of one of its symbols. */
static nn_status link_module(nn_jit *jit, nn_emod *e, const char *symbol, void **address) {
  NN_TRY(add_object(jit, make_object(e)));
  LLVMOrcExecutorAddress at = 0;
  LLVMErrorRef error = LLVMOrcLLJITLookup(jit->lljit, &at, symbol);
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
  nn_v *args = NN_NEW_ARRAY(e->arena, nn_v, 3 + nargs + nsymbols), ctx = LLVMGetParam(fn, 0);
  nn_emit_set_field(e, e->ctx_type, ctx, NN_CTX_ERROR, LLVMConstInt(e->i32, 0, false));
  args[n++] = ctx;
  args[n++] = nn_emit_field(e, e->ctx_type, ctx, NN_CTX_WORKSPACE, e->ptr);
  args[n++] = nn_const_i64(e, worker_bytes);
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
  NN_TRY(link_module(jit, e, symbol, &address));
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

/* ---- programs ------------------------------------------------------------------------------------------------------
 */

/* Kernels are compiled in batches, each a module of its own, by as many threads as there are processors; the
   program's module calls them by name. */
enum { MAX_THREADS = 16, BATCHES_A_THREAD = 4, FEW_KERNELS = 4 };

typedef struct batch {
  nn_kernel *const *kernels;
  int first, count;
  nn_diags diags; /* threads do not share the module's */
  LLVMMemoryBufferRef object;
} batch;

typedef struct batches {
  const nn_target *target;
  int level;
  const char *symbol; /* prefix of kernel names */
  batch *items;
  int count;
  atomic_int next;
} batches;

static void compile_batch(const batches *all, batch *b) {
  nn_emod e;
  bool ok = nn_emod_init(&e, all->target, &b->diags, all->level) == NN_OK;
  for (int i = b->first; ok && i < b->first + b->count; i++) {
    nn_v fn = nn_emit_kernel(&e, b->kernels[i]);
    ok = fn != NULL;
    if (!ok) break;
    const char *name = nn_sprintf(e.arena, "%s_k%d", all->symbol, i);
    LLVMSetValueName2(fn, name, strlen(name));
    LLVMSetLinkage(fn, LLVMExternalLinkage);
  }
  if (ok) b->object = make_object(&e);
  nn_emod_free(&e);
}

static void *compile_batches(void *data) {
  batches *all = data;
  for (int i; (i = atomic_fetch_add(&all->next, 1)) < all->count;) compile_batch(all, &all->items[i]);
  return NULL;
}

static void run_threads(batches *all, int nthreads) {
  pthread_t threads[MAX_THREADS];
  int started = 0;
  while (started < nthreads - 1 && pthread_create(&threads[started], NULL, compile_batches, all) == 0) started++;
  compile_batches(all);
  for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
}

static void take_diags(nn_diags *to, const nn_diags *from) {
  for (int i = 0; i < from->count; i++) {
    const nn_diag *d = &from->items[i];
    nn_report(to, d->severity, d->node, d->op, d->hint, "%s", d->message);
  }
}

static int thread_count(const nn_program *p) {
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  if (p->nkernels < FEW_KERNELS || n < 2) return 1;
  return n > MAX_THREADS ? MAX_THREADS : (int)n;
}

static nn_status link_batches(nn_jit *jit, batches *all) {
  nn_status status = NN_OK;
  for (int i = 0; i < all->count; i++) {
    batch *b = &all->items[i];
    take_diags(jit->diags, &b->diags);
    if (!b->object)
      status = NN_FAIL;
    else if (status == NN_OK)
      status = add_object(jit, b->object);
    else
      LLVMDisposeMemoryBuffer(b->object);
  }
  return status;
}

static nn_status compile_kernels(nn_jit *jit, const nn_target *t, const nn_program *p, int level, const char *symbol,
                                 int nthreads) {
  batches all = {.target = t, .level = level, .symbol = symbol, .count = nthreads * BATCHES_A_THREAD};
  if (all.count > p->nkernels) all.count = p->nkernels;
  nn_arena *arena = nn_arena_new();
  if (!arena) return nn_report(jit->diags, NN_ERROR, NULL, NULL, NULL, "out of memory");
  all.items = NN_NEW_ARRAY(arena, batch, all.count);
  for (int i = 0; i < all.count; i++) {
    int first = (int)((int64_t)p->nkernels * i / all.count), last = (int)((int64_t)p->nkernels * (i + 1) / all.count);
    all.items[i] = (batch){.kernels = p->kernels,
                           .first = first,
                           .count = last - first,
                           .diags = {.arena = nn_arena_new(), .file = jit->diags->file}};
  }
  run_threads(&all, nthreads);
  nn_status status = link_batches(jit, &all);
  for (int i = 0; i < all.count; i++) nn_arena_free(all.items[i].diags.arena);
  nn_arena_free(arena);
  return status;
}

static void declare_kernels(nn_emod *e, const nn_program *p, const char *symbol) {
  for (int i = 0; i < p->nkernels; i++) {
    nn_v fn = LLVMAddFunction(e->m, nn_sprintf(e->arena, "%s_k%d", symbol, i), nn_kernel_type(e, p->kernels[i]));
    nn_map_put_ptr(e->functions, p->kernels[i], fn);
  }
}

static nn_status compile_program(nn_jit *jit, nn_emod *e, const nn_program *p, const nn_emit_options *options,
                                 const nncc_rt_model **model) {
  nn_linkage linkage = {.symbol = nn_sprintf(jit->arena, "nnjit_%d", jit->count++), .absolute = true};
  int nthreads = thread_count(p);
  if (nthreads > 1) {
    NN_TRY(compile_kernels(jit, e->target, p, options->level, linkage.symbol, nthreads));
    declare_kernels(e, p, linkage.symbol);
  }
  NN_TRY(nn_emit_program(e, p, options, &linkage));
  void *address = NULL;
  NN_TRY(link_module(jit, e, linkage.symbol, &address));
  *model = address;
  return NN_OK;
}

nn_status nn_jit_program(nn_jit *jit, const nn_target *t, const nn_program *p, const nn_emit_options *options,
                         const nncc_rt_model **model) {
  nn_emod e;
  nn_status status = nn_emod_init(&e, t, jit->diags, options->level);
  if (status == NN_OK) status = compile_program(jit, &e, p, options, model);
  nn_emod_free(&e);
  return status;
}
