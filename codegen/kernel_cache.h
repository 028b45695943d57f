/* Compiled kernels in a folder: kernel_cache.c. */
#ifndef NN_KERNEL_CACHE_H
#define NN_KERNEL_CACHE_H

#include "codegen/codegen.h"

typedef struct nn_cache nn_cache;
typedef struct nn_cache_key {
  uint64_t words[2];
} nn_cache_key;

/* Makes the folder if there is none; NULL, with a warning, if it cannot be used. NULL or "": no cache. */
nn_cache *nn_cache_open(nn_arena *arena, const char *folder, nn_diags *diags);
nn_cache_key nn_cache_key_of(const char *text); /* text: all that the object depends on */
bool nn_cache_find(const nn_cache *cache, const nn_cache_key *key, nn_object *object);
void nn_cache_store(nn_cache *cache, const nn_cache_key *key, const nn_object *object);

#endif
