/* Weight files and shared objects. A weight file is a 64-byte header, then the weights as the object's
   kernels read them:

     offset 0  "NNCCWTS1"   8  u32 ABI   12  u32 0x01020304 (byte order)   16  u64 bytes   24  u64 hash   32  zeros */
#include "runtime/nncc_rt.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_BYTES = 64 };
static const char magic[8] = {'N', 'N', 'C', 'C', 'W', 'T', 'S', '1'};

struct nncc_rt_file {
  void *map;
  size_t bytes;
};

static uint32_t read_u32(const unsigned char *p) {
  uint32_t v;
  memcpy(&v, p, sizeof v);
  return v;
}

static uint64_t read_u64(const unsigned char *p) {
  uint64_t v;
  memcpy(&v, p, sizeof v);
  return v;
}

static int32_t map_file(const char *path, nncc_rt_file *file) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return NNCC_RT_EIO;
  struct stat st;
  int32_t error = NNCC_RT_EIO;
  if (fstat(fd, &st) == 0 && st.st_size > 0) {
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map != MAP_FAILED) {
      *file = (nncc_rt_file){map, (size_t)st.st_size};
      error = NNCC_RT_OK;
    }
  }
  close(fd);
  return error;
}

static int32_t check_header(const nncc_rt_model *model, const nncc_rt_file *file) {
  const unsigned char *p = file->map;
  if (file->bytes < HEADER_BYTES || memcmp(p, magic, sizeof magic) != 0) return NNCC_RT_EWEIGHTS;
  if (read_u32(p + 8) != NNCC_RT_ABI) return NNCC_RT_EABI;
  if (read_u32(p + 12) != 0x01020304u) return NNCC_RT_EWEIGHTS;
  if (read_u64(p + 16) != model->weights_bytes || file->bytes - HEADER_BYTES < model->weights_bytes) return NNCC_RT_EWEIGHTS;
  return read_u64(p + 24) == model->weights_hash ? NNCC_RT_OK : NNCC_RT_EWEIGHTS;
}

int32_t nncc_rt_load_weights(const nncc_rt_model *model, const char *path, nncc_rt_file **file, const void **weights) {
  if (!model || !path || !file || !weights) return NNCC_RT_EINVAL;
  *file = NULL;
  nncc_rt_file *f = calloc(1, sizeof *f);
  if (!f) return NNCC_RT_EMEMORY;
  int32_t error = map_file(path, f);
  if (error == NNCC_RT_OK) error = check_header(model, f);
  if (error != NNCC_RT_OK) {
    nncc_rt_file_close(f);
    return error;
  }
  *file = f;
  *weights = (const unsigned char *)f->map + HEADER_BYTES;
  return NNCC_RT_OK;
}

void nncc_rt_file_close(nncc_rt_file *file) {
  if (!file) return;
  if (file->map) munmap(file->map, file->bytes);
  free(file);
}

struct nncc_rt_library {
  void *handle;
};

int32_t nncc_rt_library_open(const char *path, const char *name, nncc_rt_library **library, const nncc_rt_model **model) {
  if (!path || !name || !library || !model) return NNCC_RT_EINVAL;
  *library = NULL;
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!handle) return NNCC_RT_EIO;
  const nncc_rt_model *found = dlsym(handle, name);
  int32_t error = !found ? NNCC_RT_EIO : found->abi != NNCC_RT_ABI ? NNCC_RT_EABI : NNCC_RT_OK;
  nncc_rt_library *l = error == NNCC_RT_OK ? calloc(1, sizeof *l) : NULL;
  if (!l) {
    dlclose(handle);
    return error == NNCC_RT_OK ? NNCC_RT_EMEMORY : error;
  }
  l->handle = handle;
  *library = l;
  *model = found;
  return NNCC_RT_OK;
}

void nncc_rt_library_close(nncc_rt_library *library) {
  if (!library) return;
  dlclose(library->handle);
  free(library);
}
