/* Weights in objects and beside them. They are never LLVM constants, and never copied in memory: an ELF
   object is generated with a section that has a size but no bytes (nobits, as .bss has), then the section is
   made an ordinary one, where the bytes are written straight from where the model has them.
   What was made while compiling is in the output file already (ir/spill.c). Other object formats and assembly output
   hold them as numbers, which is only for small models. A side file is the header that runtime/load.c reads, then the
   same bytes. */
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

int64_t nn_weights_base(const nn_target *t, nn_output_kind kind, bool is_beside) {
  if (is_beside) return NN_WEIGHTS_HEADER;
  return kind == NN_OUT_ASM || kind == NN_OUT_LLVM || !nn_weights_fit_object(t) ? -1 : NN_WEIGHTS_BASE;
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

nn_status nn_out_failed(nn_diags *diags, nn_out_file to) {
  return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "cannot write '%s': %s", to.path, strerror(errno));
}

static int open_empty(nn_out_file to) { return open(to.temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666); }

/* A full disk may show at the close only. */
static nn_status close_file(int fd, bool ok, nn_out_file to, nn_diags *diags) {
  int error = errno;
  if (close(fd) != 0 && ok) return nn_out_failed(diags, to);
  errno = error;
  return ok ? NN_OK : nn_out_failed(diags, to);
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

/* In pieces, so that a mapped file is never in memory as a whole. */
static bool write_tensor(const nn_module *m, const nn_tensor *t, int fd, int64_t offset) {
  enum { PIECE = 8 << 20 };
  for (size_t done = 0, n; done < t->size_bytes; done += n) {
    const unsigned char *at = (const unsigned char *)t->data + done;
    n = t->size_bytes - done < PIECE ? t->size_bytes - done : PIECE;
    if (!write_at(fd, at, n, offset + (int64_t)done)) return false;
    if (t->file) nn_pages_rest(at, n);
  }
  nn_tensor_rest(m, t);
  return true;
}

/* in_place: those of the module's spill are there already. */
static bool write_tensors(const nn_program *p, int fd, int64_t offset, bool in_place) {
  for (int i = 0; i < p->nplaces; i++) {
    if (!is_weight(p->places[i])) continue;
    const nn_tensor *tensor = p->places[i]->value->tensor;
    int64_t spilled;
    if (in_place && nn_spill_find(p->module->spill, tensor->data, &spilled) && spilled == p->places[i]->offset)
      continue;
    if (!write_tensor(p->module, tensor, fd, offset + p->places[i]->offset)) return false;
  }
  return true;
}

/* The file for the weights from `base` on. The module's spill is that file already if it begins there. */
static int open_output(const nn_program *p, const char *path, int64_t base, bool *in_place) {
  nn_spill *spill = p->module->spill;
  *in_place = spill && nn_spill_base(spill) == base && nn_spill_move(spill, path);
  return open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (*in_place ? 0 : O_TRUNC), 0666);
}

/* ---- ELF ----------------------------------------------------------------------------------------------------------
 */

/* Where the fields of headers are, for 32- and 64-bit files (System V ABI, Object Files). */
typedef struct elf_layout {
  size_t shoff, shentsize, shnum, shstrndx; /* in the file header */
  size_t type, offset, size;                /* in a section header; its name is at 0 */
  size_t word;                              /* bytes of an address, offset or size */
  size_t header;                            /* bytes of the file header */
} elf_layout;

static const elf_layout elf32 = {32, 46, 48, 50, 4, 16, 20, 4, 52}, elf64 = {40, 58, 60, 62, 4, 24, 32, 8, 64};

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

/* Weights from NN_WEIGHTS_BASE on, between the beginning of the file and the rest. */
static bool write_image(const nn_program *p, const nn_image *image, int fd, bool in_place) {
  return (!image->has_weights || write_tensors(p, fd, NN_WEIGHTS_BASE, in_place)) &&
         write_at(fd, image->head, image->head_bytes, 0) &&
         write_at(fd, image->body, image->body_bytes, image->body_at) &&
         ftruncate(fd, (off_t)(image->body_at + (int64_t)image->body_bytes)) == 0;
}

nn_status nn_weights_write_image(const nn_program *p, const nn_image *image, nn_out_file to, nn_diags *diags) {
  bool in_place = false;
  int fd = image->has_weights ? open_output(p, to.temporary, NN_WEIGHTS_BASE, &in_place)
                              : open_empty(to);
  if (fd < 0) return nn_out_failed(diags, to);
  return close_file(fd, write_image(p, image, fd, in_place), to, diags);
}

/* Moves all sections by `at`, and says where the weights are. */
static void move_sections(elf *f, unsigned char *object, size_t weights, int64_t at, int64_t base) {
  enum { SHT_PROGBITS = 1 };
  const elf_layout *l = f->layout;
  for (uint64_t i = 1, count = get(object + l->shnum, 2); i < count; i++) {
    size_t header = section_header(f, i);
    if (header) put(object + header + l->offset, l->word, get(object + header + l->offset, l->word) + (uint64_t)at);
  }
  put(object + weights + l->type, 4, SHT_PROGBITS);
  put(object + weights + l->offset, l->word, (uint64_t)base);
}

/* Weights come first in the file, where a spill has them, so that they never move; the object behind them, with a copy
   of its header at the beginning. */
nn_status nn_weights_append(const nn_program *p, unsigned char *object, size_t size, nn_out_file to,
                            nn_diags *diags) {
  enum { ALIGN = 64 };
  elf f = {is_little_elf(object, size) && object[4] == 1 ? &elf32 : &elf64, object, size};
  size_t header = is_little_elf(object, size) ? find_weights(&f, (uint64_t)p->weights_bytes) : 0;
  if (!header)
    return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "internal: the object has no section for the weights");
  const elf_layout *l = f.layout;
  int64_t at = (NN_WEIGHTS_BASE + p->weights_bytes + ALIGN - 1) / ALIGN * ALIGN;
  move_sections(&f, object, header, at, NN_WEIGHTS_BASE);
  put(object + l->shoff, l->word, get(object + l->shoff, l->word) + (uint64_t)at);
  nn_image image = {true, object, l->header, object, size, at};
  return nn_weights_write_image(p, &image, to, diags);
}

nn_status nn_file_write(nn_out_file to, const void *bytes, size_t size, nn_diags *diags) {
  int fd = open_empty(to);
  if (fd < 0) return nn_out_failed(diags, to);
  return close_file(fd, write_at(fd, bytes, size, 0), to, diags);
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

nn_status nn_weights_write_file(const nn_program *p, uint64_t hash, nn_out_file to, nn_diags *diags) {
  unsigned char header[NN_WEIGHTS_HEADER];
  bool in_place = false;
  make_header(header, p, hash);
  int fd = open_output(p, to.temporary, NN_WEIGHTS_HEADER, &in_place);
  if (fd < 0) return nn_out_failed(diags, to);
  bool ok = write_at(fd, header, sizeof header, 0) && write_tensors(p, fd, NN_WEIGHTS_HEADER, in_place) &&
            ftruncate(fd, (off_t)(NN_WEIGHTS_HEADER + p->weights_bytes)) == 0;
  return close_file(fd, ok, to, diags);
}
