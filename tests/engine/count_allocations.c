/* Counts calls of the allocator while a compiled model runs: there are none. Replaces malloc and its kin with
   counting versions around glibc's own.

     count_allocations MODEL.so NAME WORKERS */
#include "runtime/nncc_rt.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static atomic_int counting, calls;

static void count(void) {
  if (atomic_load(&counting)) atomic_fetch_add(&calls, 1);
}

void *malloc(size_t size) { return count(), __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return count(), __libc_calloc(n, size); }
void *realloc(void *memory, size_t size) { return count(), __libc_realloc(memory, size); }
void *aligned_alloc(size_t alignment, size_t size) { return count(), __libc_memalign(alignment, size); }
int posix_memalign(void **memory, size_t alignment, size_t size) {
  count();
  *memory = __libc_memalign(alignment, size);
  return *memory ? 0 : 12;
}

static nncc_rt_tensor zero_tensor(const nncc_rt_io *io) {
  nncc_rt_tensor t = {NULL, calloc((size_t)io->rank + 1, sizeof(int64_t)), io->dtype, io->rank};
  uint64_t n = 1;
  for (int i = 0; i < io->rank; i++) {
    t.dims[i] = io->dims[i] < 0 ? 1 : io->dims[i];
    n *= (uint64_t)t.dims[i];
  }
  t.data = calloc(nncc_rt_dtype_bytes(io->dtype, n) + 1, 1);
  return t;
}

int main(int argc, char **argv) {
  if (argc != 4) return fprintf(stderr, "usage: count_allocations MODEL.so NAME WORKERS\n"), 2;
  nncc_rt_library *library;
  const nncc_rt_model *m;
  if (nncc_rt_library_open(argv[1], argv[2], &library, &m) != NNCC_RT_OK) return fprintf(stderr, "cannot open %s\n", argv[1]), 1;
  int32_t workers = atoi(argv[3]);
  nncc_rt_ctx ctx = {0};
  nncc_rt_pool *pool = nncc_rt_pool_create(workers);
  nncc_rt_ctx_use_pool(&ctx, pool);
  nncc_rt_tensor *in = calloc((size_t)m->ninputs + 1, sizeof *in), *out = calloc((size_t)m->noutputs + 1, sizeof *out);
  for (int i = 0; i < m->ninputs; i++) in[i] = zero_tensor(&m->inputs[i]);
  for (int i = 0; i < m->noutputs; i++) out[i] = zero_tensor(&m->outputs[i]);
  ctx.workspace_bytes = m->workspace_size(in, workers);
  ctx.workspace = aligned_alloc(NNCC_RT_ALIGN, (ctx.workspace_bytes + NNCC_RT_ALIGN) / NNCC_RT_ALIGN * NNCC_RT_ALIGN);
  int32_t error = m->run(&ctx, in, out); /* the first run may fault pages in; it may not allocate either, but threads start up */
  atomic_store(&counting, 1);
  for (int k = 0; k < 3 && !error; k++) error = m->run(&ctx, in, out);
  atomic_store(&counting, 0);
  printf("%s: error %d, %d allocations\n", argv[2], error, atomic_load(&calls));
  return error != 0 || atomic_load(&calls) != 0;
}
