/* A program as one object in memory. Each few kernels are a module of their own, with its own LLVM context, compiled
   by whichever thread is free; the program's module calls them by name, and all are merged in a fixed order. So the
   bytes do not depend on the number of threads, and no context ever holds much. Small programs, and targets whose
   objects cannot be merged, get one module of all. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "build_id.h"
#include "codegen/elf.h"
#include "codegen/kernel_cache.h"
#include "codegen/llvm.h"

enum {
  MAX_THREADS = 64,
  BATCH_NODES = 256, /* expressions of a module's kernels: about 25 ms, of which the module itself takes 2 */
  RETURN_BYTES = 64  /* of each call: return address and what it saves outside its frame */
};

typedef struct job {
  const nn_target *target;
  nn_kernel *const *kernels; /* consecutive ones of a program */
  int nkernels, nnodes;
  nn_diags diags; /* threads do not share the module's */
  nn_object object;
  nn_status status;
} job;

typedef struct jobs {
  int level;
  nn_cache *cache; /* or NULL */
  job *items;
  int *order; /* the longest first, so that none is left over at the end */
  int count;
  atomic_int next;
} jobs;

void nn_object_free(nn_object *object) {
  free(object->bytes);
  *object = (nn_object){0};
}

/* ---- stack -------------------------------------------------------------------------------------------- */

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static void take_frames(nn_frames *to, const nn_frames *from) {
  to->entry = larger(to->entry, from->entry);
  to->kernel = larger(to->kernel, from->kernel);
  to->task = larger(to->task, from->task);
  to->other = larger(to->other, from->other);
}

int64_t nn_frames_stack(const nn_frames *f) {
  return f->entry + f->kernel + f->task + 2 * f->other + 6 * (int64_t)RETURN_BYTES;
}

/* ---- what modules share ------------------------------------------------------------------------------- */

static bool is_of_prelude(nn_v v) {
  size_t length;
  return LLVMGetLinkage(v) == LLVMInternalLinkage && strncmp(LLVMGetValueName2(v, &length), "nn_", 3) == 0 &&
         LLVMGetFirstUse(v);
}

static void expose(nn_v v) {
  LLVMSetLinkage(v, LLVMExternalLinkage);
  LLVMSetVisibility(v, LLVMHiddenVisibility);
}

static nn_v take_place(nn_v old, nn_v declared) {
  size_t length;
  const char *name = LLVMGetValueName2(old, &length);
  char copy[64];
  snprintf(copy, sizeof copy, "%.*s", (int)length, name);
  LLVMReplaceAllUsesWith(old, declared);
  LLVMSetValueName2(old, "", 0);
  LLVMSetValueName2(declared, copy, strlen(copy));
  expose(declared);
  return old;
}

/* A kernel's module only declares what it uses of the prelude. */
static void declare_prelude(nn_emod *e) {
  for (nn_v fn = LLVMGetFirstFunction(e->m), next; fn; fn = next) {
    next = LLVMGetNextFunction(fn);
    if (is_of_prelude(fn)) LLVMDeleteFunction(take_place(fn, LLVMAddFunction(e->m, "", LLVMGlobalGetValueType(fn))));
  }
  for (nn_v v = LLVMGetFirstGlobal(e->m), next; v; v = next) {
    next = LLVMGetNextGlobal(v);
    if (is_of_prelude(v)) LLVMDeleteGlobal(take_place(v, LLVMAddGlobal(e->m, LLVMGlobalGetValueType(v), "")));
  }
}

/* And the program's module defines what any kernel declares. */
static void define_needed(nn_emod *e, const nn_map *needed) {
  size_t length;
  for (nn_v fn = LLVMGetFirstFunction(e->m); fn; fn = LLVMGetNextFunction(fn))
    if (LLVMGetLinkage(fn) == LLVMInternalLinkage && nn_map_get(needed, LLVMGetValueName2(fn, &length))) expose(fn);
  for (nn_v v = LLVMGetFirstGlobal(e->m); v; v = LLVMGetNextGlobal(v))
    if (LLVMGetLinkage(v) == LLVMInternalLinkage && nn_map_get(needed, LLVMGetValueName2(v, &length))) expose(v);
}

static void declare_kernels(nn_emod *e, const nn_program *p) {
  for (; p; p = p->narrower)
    for (int i = 0; i < p->nkernels; i++) {
      nn_v fn = LLVMAddFunction(e->m, p->kernels[i]->name, nn_kernel_type(e, p->kernels[i]));
      expose(fn);
      nn_map_put_ptr(e->functions, p->kernels[i], fn);
    }
}

/* ---- kernels ------------------------------------------------------------------------------------------ */

static nn_status compile_kernels(nn_emod *e, const job *j, nn_object *object) {
  for (int i = 0; i < j->nkernels; i++) {
    nn_v fn = nn_emit_kernel(e, j->kernels[i]);
    if (!fn) return NN_FAIL;
    expose(fn);
  }
  declare_prelude(e);
  NN_TRY(nn_emod_finish(e));
  return nn_emod_code(e, LLVMObjectFile, object);
}

/* All that the object of a job depends on. */
static nn_cache_key key_of(const jobs *all, const job *j) {
  unsigned major, minor, patch;
  const nn_target *t = j->target;
  nn_arena *arena = j->diags.arena;
  LLVMGetVersion(&major, &minor, &patch);
  char *text = nn_sprintf(arena, "%s %u.%u.%u\n%s %s %s\n%d %s", NN_BUILD_ID, major, minor, patch, t->triple, t->cpu,
                          t->features, all->level, nn_fp_name(t->fp));
  for (int i = 0; i < j->nkernels; i++)
    text = nn_sprintf(arena, "%s\n%s\n%s", text, j->kernels[i]->name, nn_kernel_key(arena, j->kernels[i]));
  return nn_cache_key_of(text);
}

static void run_job(const jobs *all, job *j) {
  nn_emod e;
  nn_cache_key key = {0};
  if (all->cache) key = key_of(all, j);
  if (all->cache && nn_cache_find(all->cache, &key, &j->object)) return;
  j->status = nn_emod_init(&e, j->target, &j->diags, all->level);
  if (j->status == NN_OK) j->status = compile_kernels(&e, j, &j->object);
  nn_emod_free(&e);
  if (all->cache && j->status == NN_OK) nn_cache_store(all->cache, &key, &j->object);
}

static void *run_jobs(void *data) {
  jobs *all = data;
  for (int i; (i = atomic_fetch_add(&all->next, 1)) < all->count;) run_job(all, &all->items[all->order[i]]);
  return NULL;
}

static int thread_count(int wanted, int njobs) {
  long n = wanted > 0 ? wanted : sysconf(_SC_NPROCESSORS_ONLN);
  if (n > njobs) n = njobs;
  return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : (int)n;
}

static void run_threads(jobs *all, int nthreads) {
  pthread_t threads[MAX_THREADS];
  int started = 0;
  while (started < nthreads - 1 && pthread_create(&threads[started], NULL, run_jobs, all) == 0) started++;
  run_jobs(all);
  for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
}

/* Insertion sort by the number of expressions: stable, and there are some hundred at most. */
static void order_jobs(jobs *all) {
  for (int i = 0; i < all->count; i++) {
    int k = i;
    for (; k > 0 && all->items[all->order[k - 1]].nnodes < all->items[i].nnodes; k--) all->order[k] = all->order[k - 1];
    all->order[k] = i;
  }
}

/* The kernels of one program. */
static void add_jobs(jobs *all, const nn_program *p, const nn_target *t, const char *file) {
  job *last = NULL;
  for (int i = 0; i < p->nkernels; i++) {
    if (!last || last->nnodes + p->kernels[i]->nxs > BATCH_NODES) {
      last = &all->items[all->count++];
      *last = (job){.target = t, .kernels = &p->kernels[i], .diags = {.arena = nn_arena_new(), .file = file}};
    }
    last->nkernels++;
    last->nnodes += p->kernels[i]->nxs;
  }
}

static void make_jobs(jobs *all, const nn_program *p, const nn_target *t, nn_arena *arena, const char *file) {
  int count = 0;
  for (const nn_program *v = p; v; v = v->narrower) count += v->nkernels;
  all->items = NN_NEW_ARRAY(arena, job, count + 1);
  all->order = NN_NEW_ARRAY(arena, int, count + 1);
  for (const nn_program *v = p; v; v = v->narrower) add_jobs(all, v, p->narrower ? v->target : t, file);
  order_jobs(all);
}

static nn_status take_diags(nn_diags *to, const jobs *all) {
  nn_status status = NN_OK;
  for (int i = 0; i < all->count; i++) {
    const job *j = &all->items[i];
    for (int k = 0; k < j->diags.count; k++)
      nn_report(to, j->diags.items[k].severity, j->diags.items[k].node, j->diags.items[k].op, j->diags.items[k].hint,
                "%s", j->diags.items[k].message);
    if (j->status != NN_OK) status = NN_FAIL;
  }
  return status;
}

static void free_jobs(jobs *all) {
  for (int i = 0; i < all->count; i++) {
    nn_object_free(&all->items[i].object);
    nn_arena_free(all->items[i].diags.arena);
  }
}

/* ---- the program -------------------------------------------------------------------------------------- */

/* kernels: NULL, and the kernels are in the program's module; else what they leave undefined. */
static nn_status emit_program(nn_emod *e, const nn_program *p, const nn_emit_options *options,
                              const nn_linkage *linkage, const nn_map *needed) {
  bool has_weights = linkage->embedded && p->weights_bytes > 0;
  if (has_weights) NN_TRY(nn_weights_assembly(e, p, linkage->symbol, !linkage->is_reserved));
  if (needed) declare_kernels(e, p);
  NN_TRY(nn_emit_program(e, p, options, linkage));
  if (needed) define_needed(e, needed);
  return nn_emod_finish(e);
}

static nn_status compile_program(const nn_program *p, const nn_target *t, const nn_emit_options *options,
                                 const nn_linkage *linkage, const nn_map *needed, nn_diags *diags, nn_object *object) {
  nn_emod e;
  nn_status status = nn_emod_init(&e, t, diags, options->level);
  if (status == NN_OK) status = emit_program(&e, p, options, linkage, needed);
  if (status == NN_OK) status = nn_emod_code(&e, LLVMObjectFile, object);
  nn_emod_free(&e);
  return status;
}

static nn_status merge_all(const jobs *all, const nn_object *program, nn_arena *arena, nn_diags *diags,
                           nn_object *object) {
  nn_object *parts = NN_NEW_ARRAY(arena, nn_object, all->count + 1);
  parts[0] = *program;
  for (int i = 0; i < all->count; i++) parts[1 + i] = all->items[i].object;
  NN_TRY(nn_objects_merge(parts, all->count + 1, object, diags));
  for (int i = 0; i <= all->count; i++) take_frames(&object->frames, &parts[i].frames);
  return NN_OK;
}

/* What every CPU that an object is for can run. */
static const nn_target *common_target(const nn_program *p, const nn_target *t) {
  if (!p->narrower) return t;
  while (p->narrower) p = p->narrower;
  return p->target;
}

static nn_status build_parts(const nn_program *p, const nn_target *t, const nn_emit_options *options,
                             const nn_linkage *linkage, nn_diags *diags, nn_arena *arena, nn_object *object) {
  jobs all = {.level = options->level, .cache = nn_cache_open(arena, options->cache, diags)};
  nn_object program = {0};
  nn_map *needed = nn_map_new(arena);
  make_jobs(&all, p, t, arena, diags->file);
  run_threads(&all, thread_count(options->threads, all.count));
  nn_status status = take_diags(diags, &all);
  for (int i = 0; status == NN_OK && i < all.count; i++)
    if (!nn_object_needs(&all.items[i].object, arena, needed))
      status = nn_report(diags, NN_ERROR, NULL, NULL, NULL, "internal: a generated object cannot be read");
  if (status == NN_OK) status = compile_program(p, common_target(p, t), options, linkage, needed, diags, &program);
  if (status == NN_OK) status = merge_all(&all, &program, arena, diags, object);
  nn_object_free(&program);
  free_jobs(&all);
  return status;
}

/* One module is enough. */
static bool is_small(const nn_program *p) {
  int nnodes = 0;
  for (int i = 0; i < p->nkernels; i++) nnodes += p->kernels[i]->nxs;
  return nnodes <= BATCH_NODES && !p->narrower;
}

nn_status nn_program_object(const nn_program *p, const nn_target *t, const nn_emit_options *options,
                            const nn_linkage *linkage, nn_diags *diags, nn_object *object) {
  if (!nn_objects_can_merge(t) || is_small(p)) return compile_program(p, t, options, linkage, NULL, diags, object);
  nn_arena *arena = nn_arena_new();
  if (!arena) return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "out of memory");
  nn_status status = build_parts(p, t, options, linkage, diags, arena, object);
  nn_arena_free(arena);
  return status;
}

static nn_status print_ir(nn_emod *e, nn_object *text) {
  char *printed = LLVMPrintModuleToString(e->m);
  text->bytes = (unsigned char *)strdup(printed);
  text->size = strlen(printed);
  LLVMDisposeMessage(printed);
  return text->bytes ? NN_OK : nn_report(e->diags, NN_ERROR, NULL, NULL, NULL, "out of memory");
}

nn_status nn_program_text(const nn_program *p, const nn_target *t, const nn_emit_options *options,
                          const nn_linkage *linkage, nn_output_kind kind, nn_diags *diags, nn_object *text) {
  nn_emod e;
  nn_status status = nn_emod_init(&e, t, diags, options->level);
  if (status == NN_OK) status = emit_program(&e, p, options, linkage, NULL);
  if (status == NN_OK) status = kind == NN_OUT_LLVM ? print_ir(&e, text) : nn_emod_code(&e, LLVMAssemblyFile, text);
  nn_emod_free(&e);
  return status;
}
