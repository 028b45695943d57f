/* Weights in objects and beside them. They are never LLVM constants, and never copied in memory: an ELF
   object gets a section of zeros (`.zero` in module assembly costs next to nothing), and the bytes go into
   the finished file at that section's offset, straight from where the model has them. Other object formats
   and assembly output hold them as numbers, which is only for small models. A side file is the header that
   runtime/load.c reads, then the same bytes. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include <llvm-c/Object.h>

#include "codegen/llvm.h"

enum {
  LARGE_SECTION = 1 << 30,   /* from here weights lie apart from code: two such models link into one program */
  NUMBERS_LIMIT = 64 << 20   /* bytes that are written as numbers at most */
};

static const char section_name[] = ".rodata.nncc_weights", large_section_name[] = ".lrodata.nncc_weights";

static bool is_weight(const nn_place *place) { return place->kind == NN_PLACE_WEIGHT && place->value->tensor && place->value->tensor->data; }

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
  return strncmp(t->triple, "wasm", 4) != 0 && !strstr(t->triple, "apple") && !strstr(t->triple, "darwin") && !strstr(t->triple, "windows");
}

static const char *section_directive(const nn_program *p, const nn_target *t) {
  if (strncmp(t->triple, "wasm", 4) == 0) return ".section .rodata.nncc_weights,\"\",@";
  if (!nn_weights_fit_object(t)) return strstr(t->triple, "windows") ? ".section .rdata,\"dr\"" : ".section __TEXT,__const";
  bool is_large = p->weights_bytes >= LARGE_SECTION && strncmp(t->triple, "x86_64", 6) == 0;
  return is_large ? ".section .lrodata.nncc_weights,\"al\",%progbits" : ".section .rodata.nncc_weights,\"a\",%progbits";
}

static void append_assembly(nn_emod *e, const char *text) { LLVMAppendModuleInlineAsm(e->m, text, strlen(text)); }

/* 16 bytes a line, from the tensors laid out as the blob is. */
static void append_numbers(nn_emod *e, const nn_program *p) {
  unsigned char *blob = nn_alloc(e->arena, (size_t)p->weights_bytes);
  for (int i = 0; i < p->nplaces; i++)
    if (is_weight(p->places[i])) memcpy(blob + p->places[i]->offset, p->places[i]->value->tensor->data, p->places[i]->value->tensor->size_bytes);
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
    return nn_report(e->diags, NN_ERROR, NULL, NULL, "put the weights into a file of their own", "%" PRId64 " bytes of weights are too many to write as numbers, at most %d",
                     p->weights_bytes, (int)NUMBERS_LIMIT);
  bool is_elf = nn_weights_fit_object(e->target), is_wasm = strncmp(e->target->triple, "wasm", 4) == 0;
  append_assembly(e, nn_sprintf(e->arena, "%s\n%s.p2align 6\n%s_weights:\n", section_directive(p, e->target),
                                is_wasm ? nn_sprintf(e->arena, ".type %s_weights,@object\n", symbol) : "", symbol));
  if (with_bytes) append_numbers(e, p);
  else append_assembly(e, nn_sprintf(e->arena, ".zero %" PRId64 "\n", p->weights_bytes));
  if (is_elf || is_wasm) append_assembly(e, nn_sprintf(e->arena, ".size %s_weights, %" PRId64 "\n", symbol, p->weights_bytes));
  append_assembly(e, is_elf ? ".text\n" : "");
  return NN_OK;
}

/* ---- writing ------------------------------------------------------------------------------------------------------ */

static nn_status io_error(nn_diags *diags, const char *path) {
  return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "cannot write '%s': %s", path, strerror(errno));
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

/* Where the weights' section begins in the object file; -1 if there is none of that size. */
static int64_t find_section(LLVMBinaryRef binary, const char *start, uint64_t size) {
  int64_t offset = -1;
  LLVMSectionIteratorRef section = LLVMObjectFileCopySectionIterator(binary);
  for (; !LLVMObjectFileIsSectionIteratorAtEnd(binary, section); LLVMMoveToNextSection(section)) {
    const char *name = LLVMGetSectionName(section);
    if (!name || (strcmp(name, section_name) != 0 && strcmp(name, large_section_name) != 0)) continue;
    if (LLVMGetSectionSize(section) == size) offset = LLVMGetSectionContents(section) - start;
  }
  LLVMDisposeSectionIterator(section);
  return offset;
}

static nn_status locate(const nn_program *p, const char *path, int64_t *offset, nn_diags *diags) {
  LLVMMemoryBufferRef buffer;
  char *message = NULL;
  *offset = -1;
  if (LLVMCreateMemoryBufferWithContentsOfFile(path, &buffer, &message)) {
    nn_report(diags, NN_ERROR, NULL, NULL, NULL, "cannot read '%s': %s", path, message);
    LLVMDisposeMessage(message);
    return NN_FAIL;
  }
  LLVMBinaryRef binary = LLVMCreateBinary(buffer, NULL, &message);
  if (binary) {
    *offset = find_section(binary, LLVMGetBufferStart(buffer), (uint64_t)p->weights_bytes);
    LLVMDisposeBinary(binary);
  }
  LLVMDisposeMessage(message);
  LLVMDisposeMemoryBuffer(buffer);
  return *offset >= 0 ? NN_OK : nn_report(diags, NN_ERROR, NULL, NULL, NULL, "internal: the object has no section for the weights");
}

nn_status nn_weights_patch(const nn_program *p, const char *path, nn_diags *diags) {
  int64_t offset;
  NN_TRY(locate(p, path, &offset, diags));
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return io_error(diags, path);
  bool ok = write_tensors(p, fd, offset);
  if (close(fd) != 0) ok = false;
  return ok ? NN_OK : io_error(diags, path);
}

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
  if (close(fd) != 0) ok = false;
  return ok ? NN_OK : io_error(diags, path);
}
