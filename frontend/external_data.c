/* Mapped files: the model itself, and the files beside it that hold tensor data.

   A model is untrusted, so the files that it names must lie in its own folder: each component of the path
   is opened from the folder of the one before, never through a symbolic link, and "..", absolute paths and
   what is not a regular file are refused. A file is mapped once and stays until the module is freed,
   since tensors borrow its bytes. */
#include "frontend/onnx_import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void release_files(void *mapping) {
  for (onnx_file *f = mapping; f; f = f->next)
    if (f->size_bytes) munmap((void *)(uintptr_t)f->bytes, f->size_bytes);
}

/* Maps what fd is open on; closes fd. what is "the model file" or like. NULL: *reason says why. */
static const onnx_file *map_descriptor(nn_module *m, int fd, const char *path, const char **reason) {
  struct stat st;
  onnx_file *file = NULL;
  void *bytes = NULL;
  if (fstat(fd, &st) != 0)
    *reason = nn_strdup(m->arena, strerror(errno));
  else if (!S_ISREG(st.st_mode))
    *reason = "is not a regular file";
  else if (st.st_size > 0 && (bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
    *reason = nn_strdup(m->arena, strerror(errno));
  else {
    file = NN_NEW(m->arena, onnx_file);
    *file = (onnx_file){nn_strdup(m->arena, path), bytes, (size_t)st.st_size, m->file_mapping};
    m->file_mapping = file;
    m->release_files = release_files;
  }
  close(fd);
  return file;
}

const onnx_file *onnx_file_map(nn_module *m, const char *path) {
  const char *reason = NULL;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    nn_report(&m->diags, NN_ERROR, NULL, NULL, NULL, "cannot open the file: %s", strerror(errno));
    return NULL;
  }
  const onnx_file *file = map_descriptor(m, fd, path, &reason);
  if (!file)
    nn_report(&m->diags, NN_ERROR, NULL, NULL, NULL, "cannot read the file: %s", reason);
  else if (file->size_bytes == 0)
    nn_report(&m->diags, NN_ERROR, NULL, NULL, NULL, "the file is empty");
  return file && file->size_bytes ? file : NULL;
}

/* Opens location below the folder, component by component. -1: *reason says why. */
static int open_below(nn_arena *arena, const char *folder, const char *location, const char **reason) {
  int dir = open(*folder ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const char *at = location;
  while (dir >= 0) {
    size_t length = strcspn(at, "/");
    bool is_last = at[length] == '\0';
    const char *part = nn_strndup(arena, at, length);
    int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | (is_last ? 0 : O_DIRECTORY);
    int next = openat(dir, part, flags);
    int error = errno;
    struct stat st;
    bool is_link = next < 0 && fstatat(dir, part, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
    close(dir);
    errno = is_link ? ELOOP : error; /* a link to a folder gives another error */
    if (is_last && next >= 0) return next;
    dir = next;
    at += length + 1;
  }
  *reason =
      errno == ELOOP ? "is a symbolic link, or behind one" : nn_sprintf(arena, "cannot be opened: %s", strerror(errno));
  return -1;
}

/* NULL, or why a location cannot be inside the model's folder. */
static const char *refuse_location(const char *location) {
  if (!*location) return "is empty";
  if (*location == '/') return "is an absolute path";
  for (const char *at = location;; at++) {
    size_t length = strcspn(at, "/");
    if (length == 0) return "has an empty path component";
    if (length == 2 && strncmp(at, "..", 2) == 0) return "leaves the model's folder";
    at += length;
    if (!*at) return NULL;
  }
}

static const onnx_file *find_file(onnx_import *I, const char *location, const char **reason) {
  const onnx_file *file = nn_map_get(I->external, location);
  if (file) return file;
  if (!I->folder) {
    *reason = "cannot be read: the model came from memory, not from a folder";
    return NULL;
  }
  if ((*reason = refuse_location(location))) return NULL;
  int fd = open_below(I->scratch, I->folder, location, reason);
  if (fd < 0) return NULL;
  const char *path = *I->folder ? nn_sprintf(I->scratch, "%s/%s", I->folder, location) : location;
  file = map_descriptor(I->m, fd, path, reason);
  if (file) nn_map_put(I->external, location, (void *)(uintptr_t)file);
  return file;
}

static const char *find_entry(const Onnx__TensorProto *t, const char *key) {
  for (size_t i = 0; i < t->n_external_data; i++) {
    const Onnx__StringStringEntryProto *e = t->external_data[i];
    if (e->key && e->value && strcmp(e->key, key) == 0) return e->value;
  }
  return NULL;
}

/* A decimal number; false if it is none. Absent gives the fallback. */
static bool parse_size(const char *text, uint64_t fallback, uint64_t *value) {
  *value = fallback;
  if (!text) return true;
  if (*text < '0' || *text > '9') return false;
  char *end;
  errno = 0;
  *value = strtoull(text, &end, 10);
  return errno == 0 && *end == '\0';
}

nn_status onnx_external_bytes(onnx_import *I, const Onnx__TensorProto *t, const char *role, const char *node,
                              const char *op, size_t need_bytes, const uint8_t **data, const onnx_file **file) {
  nn_diags *d = &I->m->diags;
  const char *location = find_entry(t, "location"), *reason = NULL;
  uint64_t offset, length;
  if (!location) return nn_report(d, NN_ERROR, node, op, NULL, "%s: its data is external, but has no location", role);
  if (!parse_size(find_entry(t, "offset"), 0, &offset) || !parse_size(find_entry(t, "length"), need_bytes, &length))
    return nn_report(d, NN_ERROR, node, op, NULL, "%s: offset or length of its external data is not a number", role);
  if (length != need_bytes)
    return nn_report(d, NN_ERROR, node, op, NULL, "%s: its external data has %llu bytes, its type and shape need %zu",
                     role, (unsigned long long)length, need_bytes);
  *file = find_file(I, location, &reason);
  if (!*file)
    return nn_report(d, NN_ERROR, node, op, "external data must be a plain file in the model's folder",
                     "%s: external data '%s' %s", role, location, reason);
  if (offset > (*file)->size_bytes || need_bytes > (*file)->size_bytes - offset)
    return nn_report(d, NN_ERROR, node, op, "is the file complete?",
                     "%s: its data is bytes %llu to %llu of '%s', which has %zu", role, (unsigned long long)offset,
                     (unsigned long long)(offset + need_bytes), location, (*file)->size_bytes);
  *data = (*file)->bytes + offset;
  return NN_OK;
}
