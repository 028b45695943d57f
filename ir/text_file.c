/* Text of the graph IR: constants whose bytes lie in a file beside the text.

   The text is untrusted: the file must be a regular one inside the folder of the text (also after symbolic
   links), and the bytes must be there. Files are mapped once and stay mapped with the module. */
#include "ir/text.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct mapping {
  void *bytes; /* NULL for an empty file */
  size_t size_bytes;
  const char *path;
  struct mapping *next;
} mapping;

static void release_mappings(void *file_mapping) {
  for (const mapping *f = file_mapping; f; f = f->next)
    if (f->bytes) munmap(f->bytes, f->size_bytes);
}

static bool has_parent_component(const char *name) {
  for (const char *at = name; at; at = strchr(at, '/')) {
    if (*at == '/') at++;
    if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || at[2] == 0)) return true;
  }
  return false;
}

/* The folder of the text with a '/' at the end, or "" for the current one. */
static char *folder_of(nn_arena *arena, const char *file) {
  const char *slash = file ? strrchr(file, '/') : NULL;
  return slash ? nn_strndup(arena, file, (size_t)(slash - file) + 1) : nn_strdup(arena, "");
}

static bool is_inside(const char *folder, const char *path) {
  char real_folder[PATH_MAX], real_path[PATH_MAX];
  if (!realpath(*folder ? folder : ".", real_folder) || !realpath(path, real_path)) return false;
  size_t length = strlen(real_folder);
  if (length == 1) return true; /* the root */
  return strncmp(real_folder, real_path, length) == 0 && real_path[length] == '/';
}

/* Why it cannot be mapped, or NULL. O_NONBLOCK: opening a pipe must not wait. */
static const char *map_file(const char *path, mapping *f) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return "cannot be opened";
  struct stat info;
  const char *problem = NULL;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    problem = "is not a regular file";
  } else if (info.st_size > 0) {
    f->size_bytes = (size_t)info.st_size;
    f->bytes = mmap(NULL, f->size_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (f->bytes == MAP_FAILED) problem = "cannot be mapped";
  }
  close(fd);
  return problem;
}

static mapping *find_mapping(nn_lexer *lex, const char *at, const char *name) {
  nn_arena *arena = lex->m->arena;
  mapping *known = nn_map_get(lex->files, name);
  if (known) return known;
  if (!*name || *name == '/' || has_parent_component(name)) {
    nn_lex_fail(lex, at, "file '%s' is not a relative path without '..'", name);
    return NULL;
  }
  const char *folder = folder_of(arena, lex->file);
  mapping made = {.path = nn_sprintf(arena, "%s%s", folder, name), .next = lex->m->file_mapping};
  const char *problem =
      is_inside(folder, made.path) ? map_file(made.path, &made) : "is not there, or leaves the folder of the text";
  if (problem) {
    nn_lex_fail(lex, at, "file '%s' %s", made.path, problem);
    return NULL;
  }
  known = nn_memdup(arena, &made, sizeof made);
  lex->m->file_mapping = known;
  lex->m->release_files = release_mappings;
  nn_map_put(lex->files, name, known);
  return known;
}

const void *nn_text_map_file(nn_lexer *lex, const char *at, const char *name, uint64_t offset, size_t size_bytes) {
  const mapping *f = find_mapping(lex, at, name);
  if (!f) return NULL;
  if (offset > f->size_bytes || size_bytes > f->size_bytes - offset) {
    nn_lex_fail(lex, at, "file '%s' has %zu bytes, expected %zu at offset %llu", f->path, f->size_bytes, size_bytes,
                (unsigned long long)offset);
    return NULL;
  }
  return f->bytes ? (const char *)f->bytes + offset : "";
}
