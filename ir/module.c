/* The module: what a compilation owns, and the contents of its static tensors. */
#include "ir/ir.h"
#include "runtime/nncc_rt.h"

#include <stdlib.h>

nn_module *nn_module_new(const char *file) {
  nn_arena *arena = nn_arena_new();
  if (!arena) return NULL;
  nn_module *m = NN_NEW(arena, nn_module);
  m->arena = arena;
  m->diags.arena = arena;
  m->diags.file = file ? nn_strdup(arena, file) : NULL;
  m->names = nn_map_new(arena);
  return m;
}

void nn_module_free(nn_module *m) {
  if (!m) return;
  for (nn_tensor *t = m->owned_tensors; t; t = t->next_owned) nn_tensor_release(m, t);
  nn_spill_close(m->spill);
  if (m->release_files) m->release_files(m->file_mapping);
  nn_arena_free(m->arena); /* m itself lives there */
}

/* Dims and size of a tensor of this type; NULL after a report. */
static nn_tensor *describe(nn_module *m, nn_type type) {
  int64_t count;
  size_t size_bytes = SIZE_MAX;
  if (nn_type_static_count(type, &count)) size_bytes = nn_dtype_bytes(type.dtype, (uint64_t)count);
  if (size_bytes > PTRDIFF_MAX) {
    nn_report(&m->diags, NN_ERROR, NULL, NULL, NULL,
              "tensor of type %s: found a size that is not known or does not fit in memory, expected static dims",
              nn_type_text(m->arena, type));
    return NULL;
  }
  nn_tensor *t = NN_NEW(m->arena, nn_tensor);
  int64_t *dims = NN_NEW_ARRAY(m->arena, int64_t, type.rank);
  for (int i = 0; i < type.rank; i++) dims[i] = nn_dim_value(type.dims[i]);
  *t = (nn_tensor){.dtype = type.dtype, .rank = type.rank, .dims = dims, .size_bytes = size_bytes};
  return t;
}

static void own(nn_module *m, nn_tensor *t, void *memory) {
  t->data = t->owned = memory;
  t->next_owned = m->owned_tensors;
  m->owned_tensors = t;
}

nn_tensor *nn_tensor_new(nn_module *m, nn_type type) {
  nn_tensor *t = describe(m, type);
  if (!t) return NULL;
  void *memory = calloc(t->size_bytes ? t->size_bytes : 1, 1);
  if (!memory) {
    nn_report(&m->diags, NN_ERROR, NULL, NULL, NULL, "tensor of type %s: no memory for its %zu bytes",
              nn_type_text(m->arena, type), t->size_bytes);
    return NULL;
  }
  nncc_rt_want_large_pages(memory, t->size_bytes);
  own(m, t, memory);
  return t;
}

nn_tensor *nn_tensor_new_spilled(nn_module *m, nn_type type) {
  enum { LARGE_BYTES = 1 << 18 };
  int64_t count;
  if (!m->spill || !nn_type_static_count(type, &count) || count < LARGE_BYTES / 8) return nn_tensor_new(m, type);
  nn_tensor *t = describe(m, type);
  if (!t) return NULL;
  void *memory = t->size_bytes >= LARGE_BYTES ? nn_spill_take(m->spill, t->size_bytes) : NULL;
  if (!memory) return nn_tensor_new(m, type);
  t->is_spilled = true;
  own(m, t, memory);
  return t;
}

void nn_tensor_release(nn_module *m, nn_tensor *t) {
  if (t->is_spilled)
    nn_spill_give(m->spill, t->owned);
  else
    free(t->owned);
  t->owned = NULL;
  t->data = NULL;
}

void nn_tensor_rest(const nn_module *m, const nn_tensor *t) {
  int64_t offset;
  if (t->file || nn_spill_find(m->spill, t->data, &offset)) nn_pages_rest(t->data, t->size_bytes);
}

nn_tensor *nn_tensor_borrow(nn_module *m, nn_type type, const void *data, const char *file, uint64_t offset) {
  nn_tensor *t = describe(m, type);
  if (!t) return NULL;
  t->data = data;
  t->file = file;
  t->offset = offset;
  return t;
}
