/* Memory for a compilation: a bump allocator freed as a whole, growable arrays and maps in it.

   Everything that lives as long as a module is allocated here, so nothing is freed one by one and no
   pointer into a module dangles. Blocks come from calloc, hence the promise of zeroed memory is free. */
#include "ir/ir.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 16, FIRST_BLOCK = 16 * 1024, LARGEST_BLOCK = 1024 * 1024, OUT_OF_MEMORY = 70 };

typedef struct block {
  struct block *next;
  size_t used, size; /* bytes after the header */
} block;

/* Keeps the first byte after the header aligned. */
enum { HEADER = (sizeof(block) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT };

struct nn_arena {
  block *blocks; /* the one in use first */
  size_t next_size;
};

static _Noreturn void die_out_of_memory(void) {
  fputs("nncc: out of memory\n", stderr);
  exit(OUT_OF_MEMORY);
}

nn_arena *nn_arena_new(void) {
  nn_arena *arena = calloc(1, sizeof *arena);
  if (arena) arena->next_size = FIRST_BLOCK;
  return arena;
}

void nn_arena_free(nn_arena *arena) {
  if (!arena) return;
  for (block *b = arena->blocks; b;) {
    block *next = b->next;
    free(b);
    b = next;
  }
  free(arena);
}

static block *new_block(size_t size) {
  if (size > SIZE_MAX - HEADER) die_out_of_memory();
  block *b = calloc(1, HEADER + size);
  if (!b) die_out_of_memory();
  b->size = size;
  return b;
}

/* A block of its own, behind the one in use: the space left in that one stays usable. */
static void *allocate_large(nn_arena *arena, size_t size) {
  block *b = new_block(size);
  b->used = size;
  if (arena->blocks) {
    b->next = arena->blocks->next;
    arena->blocks->next = b;
  } else {
    arena->blocks = b;
  }
  return (char *)b + HEADER;
}

void *nn_alloc(nn_arena *arena, size_t size_bytes) {
  if (size_bytes > SIZE_MAX - ALIGNMENT) die_out_of_memory();
  size_t size = (size_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  if (size == 0) size = ALIGNMENT; /* distinct objects have distinct addresses */
  block *b = arena->blocks;
  if (!b || b->size - b->used < size) {
    if (size > arena->next_size / 4) return allocate_large(arena, size);
    b = new_block(arena->next_size);
    b->next = arena->blocks;
    arena->blocks = b;
    if (arena->next_size < LARGEST_BLOCK) arena->next_size *= 2;
  }
  void *result = (char *)b + HEADER + b->used;
  b->used += size;
  return result;
}

void *nn_alloc_array(nn_arena *arena, size_t count, size_t size_bytes) {
  if (size_bytes != 0 && count > SIZE_MAX / size_bytes) die_out_of_memory();
  return nn_alloc(arena, count * size_bytes);
}

char *nn_strndup(nn_arena *arena, const char *text, size_t length) {
  if (length == SIZE_MAX) die_out_of_memory();
  char *copy = nn_alloc(arena, length + 1);
  if (length) memcpy(copy, text, length);
  return copy;
}

char *nn_strdup(nn_arena *arena, const char *text) { return nn_strndup(arena, text, strlen(text)); }

char *nn_sprintf(nn_arena *arena, const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int length = vsnprintf(NULL, 0, format, args);
  va_end(args);
  if (length < 0) length = 0;
  char *text = nn_alloc(arena, (size_t)length + 1);
  vsnprintf(text, (size_t)length + 1, format, again);
  va_end(again);
  return text;
}

void *nn_memdup(nn_arena *arena, const void *bytes, size_t size_bytes) {
  void *copy = nn_alloc(arena, size_bytes);
  if (size_bytes) memcpy(copy, bytes, size_bytes);
  return copy;
}

void *nn_grow(nn_arena *arena, void *items, size_t count, int *cap, size_t size_bytes) {
  if (*cap > INT_MAX / 2) die_out_of_memory();
  int larger = *cap ? *cap * 2 : 8;
  void *grown = nn_alloc_array(arena, (size_t)larger, size_bytes);
  if (count) memcpy(grown, items, count * size_bytes);
  *cap = larger;
  return grown;
}

/* ---- maps: open addressing, linear probing, at most half full ---------------------------------- */

typedef struct map_entry {
  const void *key; /* a copied string, or the pointer that is the key; meaningless if !is_used */
  void *value;
  uint64_t hash;
  bool is_used, is_text;
} map_entry;

struct nn_map {
  nn_arena *arena;
  map_entry *entries;
  size_t count, size; /* size is a power of two, or 0 */
};

nn_map *nn_map_new(nn_arena *arena) {
  nn_map *map = NN_NEW(arena, nn_map);
  map->arena = arena;
  return map;
}

/* Finalizer of MurmurHash3: spreads close inputs over all bits. */
static uint64_t mix(uint64_t h) {
  h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdu;
  h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53u;
  return h ^ (h >> 33);
}

static uint64_t hash_text(const char *text) {
  uint64_t h = 0xcbf29ce484222325u;
  for (; *text; text++) h = (h ^ (unsigned char)*text) * 0x100000001b3u;
  return mix(h);
}

static uint64_t hash_key(const void *key, bool is_text) {
  return is_text ? hash_text(key) : mix((uint64_t)(uintptr_t)key);
}

/* The entry of a key, or the free one where it belongs. The table is never full. */
static map_entry *find_entry(map_entry *entries, size_t size, const void *key, bool is_text, uint64_t hash) {
  for (size_t i = (size_t)hash & (size - 1);; i = (i + 1) & (size - 1)) {
    map_entry *e = &entries[i];
    if (!e->is_used) return e;
    if (e->hash != hash || e->is_text != is_text) continue;
    if (is_text ? strcmp(e->key, key) == 0 : e->key == key) return e;
  }
}

static void enlarge(nn_map *map) {
  size_t size = map->size ? map->size * 2 : 16;
  map_entry *entries = nn_alloc_array(map->arena, size, sizeof *entries);
  for (size_t i = 0; i < map->size; i++) {
    const map_entry *e = &map->entries[i];
    if (e->is_used) *find_entry(entries, size, e->key, e->is_text, e->hash) = *e;
  }
  map->entries = entries;
  map->size = size;
}

static void put(nn_map *map, const void *key, bool is_text, void *value) {
  if (map->count * 2 >= map->size) enlarge(map);
  uint64_t hash = hash_key(key, is_text);
  map_entry *e = find_entry(map->entries, map->size, key, is_text, hash);
  if (!e->is_used) {
    *e = (map_entry){.hash = hash, .is_used = true, .is_text = is_text};
    e->key = is_text ? nn_strdup(map->arena, key) : key;
    map->count++;
  }
  e->value = value;
}

static void *get(const nn_map *map, const void *key, bool is_text) {
  if (!map->size) return NULL;
  map_entry *e = find_entry(map->entries, map->size, key, is_text, hash_key(key, is_text));
  return e->is_used ? e->value : NULL;
}

void nn_map_put(nn_map *map, const char *key, void *value) { put(map, key, true, value); }
void *nn_map_get(const nn_map *map, const char *key) { return get(map, key, true); }
void nn_map_put_ptr(nn_map *map, const void *key, void *value) { put(map, key, false, value); }
void *nn_map_get_ptr(const nn_map *map, const void *key) { return get(map, key, false); }
