/* Compiled kernels in a folder, from one compilation to the next. A file's name is the hash of all that the object
   depends on; the file holds a checksum. Files are written under another name and renamed, so any number of
   compilers may use one folder; one that is damaged is written anew. Whoever can write into the
   folder decides what the models do: it should be the user's own. */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codegen/kernel_cache.h"

enum { MAX_BYTES = 1 << 28 };

struct nn_cache {
  const char *folder;
  atomic_int serial; /* of temporary names */
};

typedef struct entry_header {
  char magic[8];
  nn_cache_key key;
  uint64_t size, checksum;
  nn_frames frames;
} entry_header;

static const char magic[8] = "NNCCKRN";

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size) {
  const unsigned char *at = bytes;
  for (size_t i = 0; i < size; i++) {
    hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    hash ^= hash >> 29;
  }
  return hash;
}

nn_cache_key nn_cache_key_of(const char *text) {
  size_t size = strlen(text);
  return (nn_cache_key){{hash_bytes(UINT64_C(0xcbf29ce484222325), text, size), hash_bytes(size, text, size)}};
}

nn_cache *nn_cache_open(nn_arena *arena, const char *folder, nn_diags *diags) {
  struct stat st;
  if (!folder || !*folder) return NULL;
  if (mkdir(folder, 0777) != 0 && errno != EEXIST)
    nn_report(diags, NN_WARNING, NULL, NULL, NULL, "cache '%s': %s; nothing is kept", folder, strerror(errno));
  else if (stat(folder, &st) != 0 || !S_ISDIR(st.st_mode))
    nn_report(diags, NN_WARNING, NULL, NULL, NULL, "cache '%s' is not a folder; nothing is kept", folder);
  else {
    nn_cache *cache = NN_NEW(arena, nn_cache);
    cache->folder = nn_strdup(arena, folder);
    return cache;
  }
  return NULL;
}

static void entry_path(const nn_cache *cache, const nn_cache_key *key, char *path, size_t size) {
  snprintf(path, size, "%s/%016" PRIx64 "%016" PRIx64 ".kernel", cache->folder, key->words[0], key->words[1]);
}

static bool is_header_good(const entry_header *h, const nn_cache_key *key) {
  return memcmp(h->magic, magic, sizeof magic) == 0 && memcmp(&h->key, key, sizeof *key) == 0 && h->size > 0 &&
         h->size <= MAX_BYTES;
}

static bool read_entry(FILE *f, const nn_cache_key *key, nn_object *object) {
  entry_header h;
  if (fread(&h, sizeof h, 1, f) != 1 || !is_header_good(&h, key)) return false;
  *object = (nn_object){.bytes = malloc((size_t)h.size), .size = (size_t)h.size, .frames = h.frames};
  return object->bytes && fread(object->bytes, 1, object->size, f) == object->size && fgetc(f) == EOF &&
         hash_bytes(h.size, object->bytes, object->size) == h.checksum;
}

bool nn_cache_find(const nn_cache *cache, const nn_cache_key *key, nn_object *object) {
  char path[4096];
  entry_path(cache, key, path, sizeof path);
  FILE *f = fopen(path, "rb");
  if (!f) return false;
  bool is_good = read_entry(f, key, object);
  fclose(f);
  if (!is_good) nn_object_free(object);
  return is_good;
}

void nn_cache_store(nn_cache *cache, const nn_cache_key *key, const nn_object *object) {
  char path[4096], temporary[4096];
  entry_header h = {.key = *key, .size = object->size, .frames = object->frames};
  memcpy(h.magic, magic, sizeof magic);
  h.checksum = hash_bytes(h.size, object->bytes, object->size);
  entry_path(cache, key, path, sizeof path);
  snprintf(temporary, sizeof temporary, "%s/%ld-%d.tmp", cache->folder, (long)getpid(),
           atomic_fetch_add(&cache->serial, 1));
  FILE *f = fopen(temporary, "wb");
  if (!f) return; /* a cache that takes nothing only makes the next compilation slower */
  bool ok = fwrite(&h, sizeof h, 1, f) == 1 && fwrite(object->bytes, 1, object->size, f) == object->size;
  if (fclose(f) != 0 || !ok || rename(temporary, path) != 0) remove(temporary);
}
