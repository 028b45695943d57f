/* Weights in objects and beside them. They are never LLVM constants, and never copied in memory: an ELF
   object is generated with a section that has a size but no bytes (nobits, as .bss has), then the section is
   made an ordinary one at the end of the file, where the bytes are written straight from where the model has them.
   Other object formats and assembly output hold them as numbers, which is only for small models. A side
   file is the header that runtime/load.c reads, then the same bytes. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "codegen/llvm.h"

enum {
  LARGE_SECTION = 1 << 30, /* from here weights lie apart from code: two such models link into one program */
  NUMBERS_LIMIT = 64 << 20 /* bytes that are written as numbers at most */
};

static const char section_name[] = ".rodata.nncc_weights", large_section_name[] = ".lrodata.nncc_weights";

static bool is_weight(const nn_place *place) {
  return place->kind == NN_PLACE_WEIGHT && place->value->tensor && place->value->tensor->data;
}

/* A multiply and a shift for each 8 bytes (the last padded with zeros), each tensor's offset mixed in. */
static uint64_t mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
  return hash ^ (hash >> 32);
}

static uint64_t hash_bytes(uint64_t hash, const unsigned char *bytes, size_t count) {
  size_t i = 0;
  uint64_t word = 0;
  for (; i + 8 <= count; i += 8) {
    memcpy(&word, bytes + i, 8);
    hash = mix(hash, word);
  }
  word = 0;
  if (i < count) memcpy(&word, bytes + i, count - i);
  return mix(hash, word);
}

uint64_t nn_weights_hash(const nn_program *p) {
  uint64_t hash = (uint64_t)p->weights_bytes;
  for (int i = 0; i < p->nplaces; i++) {
    if (!is_weight(p->places[i])) continue;
    const nn_tensor *tensor = p->places[i]->value->tensor;
    hash = hash_bytes(mix(hash, (uint64_t)p->places[i]->offset), tensor->data, tensor->size_bytes);
  }
  return hash;
}

/* ---- assembly --------------------------------------------------------------------------------------------------- */

bool nn_weights_fit_object(const nn_target *t) {
  return strncmp(t->triple, "wasm", 4) != 0 && !strstr(t->triple, "apple") && !strstr(t->triple, "darwin") &&
         !strstr(t->triple, "windows");
}

static const char *section_directive(nn_arena *arena, const nn_program *p, const nn_target *t, bool with_bytes) {
  if (strncmp(t->triple, "wasm", 4) == 0) return ".section .rodata.nncc_weights,\"\",@";
  if (!nn_weights_fit_object(t))
    return strstr(t->triple, "windows") ? ".section .rdata,\"dr\"" : ".section __TEXT,__const";
  bool is_large = p->weights_bytes >= LARGE_SECTION && strncmp(t->triple, "x86_64", 6) == 0;
  const char *type = with_bytes ? "progbits" : "nobits";
  return nn_sprintf(arena, ".section %s,\"%s\",%%%s", is_large ? large_section_name : section_name,
                    is_large ? "al" : "a", type);
}

static void append_assembly(nn_emod *e, const char *text) { LLVMAppendModuleInlineAsm(e->m, text, strlen(text)); }

/* 16 bytes a line, from the tensors laid out as the blob is. */
static void append_numbers(nn_emod *e, const nn_program *p) {
  unsigned char *blob = nn_alloc(e->arena, (size_t)p->weights_bytes);
  for (int i = 0; i < p->nplaces; i++)
    if (is_weight(p->places[i]))
      memcpy(blob + p->places[i]->offset, p->places[i]->value->tensor->data, p->places[i]->value->tensor->size_bytes);
  size_t lines = ((size_t)p->weights_bytes + 15) / 16, used = 0;
  char *text = nn_alloc(e->arena, lines * 96 + 1);
  for (int64_t i = 0; i < p->weights_bytes; i++) {
    bool is_first = i % 16 == 0, is_last = i % 16 == 15 || i + 1 == p->weights_bytes;
    used += (size_t)snprintf(text + used, 16, "%s%u%s", is_first ? ".byte " : "", blob[i], is_last ? "\n" : ",");
  }
  LLVMAppendModuleInlineAsm(e->m, text, used);
}

nn_status nn_weights_assembly(nn_emod *e, const nn_program *p, const char *symbol, bool with_bytes) {
  if (with_bytes && p->weights_bytes > NUMBERS_LIMIT)
    return nn_report(e->diags, NN_ERROR, NULL, NULL, "put the weights into a file of their own",
                     "%" PRId64 " bytes of weights are too many to write as numbers, at most %d", p->weights_bytes,
                     (int)NUMBERS_LIMIT);
  bool is_elf = nn_weights_fit_object(e->target), is_wasm = strncmp(e->target->triple, "wasm", 4) == 0;
  append_assembly(e, nn_sprintf(e->arena, "%s\n%s.p2align 6\n%s_weights:\n",
                                section_directive(e->arena, p, e->target, with_bytes),
                                is_wasm ? nn_sprintf(e->arena, ".type %s_weights,@object\n", symbol) : "", symbol));
  if (with_bytes)
    append_numbers(e, p);
  else
    append_assembly(e, nn_sprintf(e->arena, ".zero %" PRId64 "\n", p->weights_bytes));
  if (is_elf || is_wasm)
    append_assembly(e, nn_sprintf(e->arena, ".size %s_weights, %" PRId64 "\n", symbol, p->weights_bytes));
  append_assembly(e, is_elf ? ".text\n" : "");
  return NN_OK;
}

/* ---- writing ------------------------------------------------------------------------------------------------------
 */

static nn_status io_error(nn_diags *diags, const char *path) {
  return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "cannot write '%s': %s", path, strerror(errno));
}

/* A full disk may show at the close only. */
static nn_status close_file(int fd, bool ok, const char *path, nn_diags *diags) {
  int error = errno;
  if (close(fd) != 0 && ok) return io_error(diags, path);
  errno = error;
  return ok ? NN_OK : io_error(diags, path);
}

static bool write_at(int fd, const void *bytes, size_t count, int64_t offset) {
  const char *at = bytes;
  while (count > 0) {
    ssize_t done = pwrite(fd, at, count, (off_t)offset);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    at += done;
    offset += done;
    count -= (size_t)done;
  }
  return true;
}

static bool write_tensors(const nn_program *p, int fd, int64_t offset) {
  for (int i = 0; i < p->nplaces; i++) {
    if (!is_weight(p->places[i])) continue;
    const nn_tensor *tensor = p->places[i]->value->tensor;
    if (!write_at(fd, tensor->data, tensor->size_bytes, offset + p->places[i]->offset)) return false;
  }
  return true;
}

/* ---- ELF ----------------------------------------------------------------------------------------------------------
 */

/* Where the fields of headers are, for 32- and 64-bit files (System V ABI, Object Files). */
typedef struct elf_layout {
  size_t shoff, shentsize, shnum, shstrndx; /* in the file header */
  size_t type, offset, size;                /* in a section header; its name is at 0 */
  size_t word;                              /* bytes of an address, offset or size */
} elf_layout;

static const elf_layout elf32 = {32, 46, 48, 50, 4, 16, 20, 4}, elf64 = {40, 58, 60, 62, 4, 24, 32, 8};

typedef struct elf {
  const elf_layout *layout;
  const unsigned char *bytes;
  size_t size;
} elf;

static uint64_t get(const unsigned char *at, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; i++) value |= (uint64_t)at[i] << (8 * i);
  return value;
}

static void put(unsigned char *at, size_t count, uint64_t value) {
  for (size_t i = 0; i < count; i++) at[i] = (unsigned char)(value >> (8 * i));
}

/* Where section header i is; 0 if the file has no such thing. */
static size_t section_header(const elf *f, uint64_t i) {
  const elf_layout *l = f->layout;
  uint64_t at = get(f->bytes + l->shoff, l->word) + i * get(f->bytes + l->shentsize, 2);
  return at < f->size && f->size - at >= l->size + l->word ? (size_t)at : 0;
}

static const char *section_title(const elf *f, size_t header) {
  size_t strings = section_header(f, get(f->bytes + f->layout->shstrndx, 2));
  if (!strings) return "";
  uint64_t at = get(f->bytes + strings + f->layout->offset, f->layout->word) + get(f->bytes + header, 4);
  return at < f->size && memchr(f->bytes + at, 0, f->size - (size_t)at) ? (const char *)f->bytes + at : "";
}

/* The header of the weights' section, 0 if there is none of that size. */
static size_t find_weights(const elf *f, uint64_t size) {
  for (uint64_t i = 0, count = get(f->bytes + f->layout->shnum, 2); i < count; i++) {
    size_t header = section_header(f, i);
    const char *name = header ? section_title(f, header) : "";
    if (strcmp(name, section_name) != 0 && strcmp(name, large_section_name) != 0) continue;
    if (get(f->bytes + header + f->layout->size, f->layout->word) == size) return header;
  }
  return 0;
}

static bool is_little_elf(const unsigned char *bytes, size_t size) {
  return size >= 64 && memcmp(bytes, "\177ELF", 4) == 0 && bytes[5] == 1;
}

nn_status nn_weights_append(const nn_program *p, unsigned char *object, size_t size, const char *path,
                            nn_diags *diags) {
  enum { SHT_PROGBITS = 1, ALIGN = 64 };
  elf f = {is_little_elf(object, size) && object[4] == 1 ? &elf32 : &elf64, object, size};
  size_t header = is_little_elf(object, size) ? find_weights(&f, (uint64_t)p->weights_bytes) : 0;
  if (!header)
    return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "internal: the object has no section for the weights");
  uint64_t offset = (size + ALIGN - 1) / ALIGN * ALIGN;
  put(object + header + f.layout->type, 4, SHT_PROGBITS);
  put(object + header + f.layout->offset, f.layout->word, offset);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return io_error(diags, path);
  bool ok = write_at(fd, object, size, 0) && ftruncate(fd, (off_t)offset + (off_t)p->weights_bytes) == 0;
  ok = ok && write_tensors(p, fd, (int64_t)offset);
  return close_file(fd, ok, path, diags);
}

nn_status nn_file_write(const char *path, const void *bytes, size_t size, nn_diags *diags) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return io_error(diags, path);
  return close_file(fd, write_at(fd, bytes, size, 0), path, diags);
}

/* ---- the side file
 * ---------------------------------------------------------------------------------------------------- */

static void make_header(unsigned char *header, const nn_program *p, uint64_t hash) {
  uint32_t abi = NNCC_RT_ABI, order = 0x01020304u;
  uint64_t bytes = (uint64_t)p->weights_bytes;
  memset(header, 0, NN_WEIGHTS_HEADER);
  memcpy(header, "NNCCWTS1", 8);
  memcpy(header + 8, &abi, 4);
  memcpy(header + 12, &order, 4);
  memcpy(header + 16, &bytes, 8);
  memcpy(header + 24, &hash, 8);
}

nn_status nn_weights_write_file(const nn_program *p, uint64_t hash, const char *path, nn_diags *diags) {
  unsigned char header[NN_WEIGHTS_HEADER];
  make_header(header, p, hash);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return io_error(diags, path);
  bool ok = write_at(fd, header, sizeof header, 0) && ftruncate(fd, (off_t)(NN_WEIGHTS_HEADER + p->weights_bytes)) == 0;
  ok = ok && write_tensors(p, fd, NN_WEIGHTS_HEADER);
  return close_file(fd, ok, path, diags);
}
