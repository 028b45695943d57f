/* Reading ELF objects with bounds checked: they may come from a cache on disk. */
#include "codegen/elf.h"

#include <string.h>

static bool lies_within(const nn_elf *f, uint64_t offset, uint64_t size) {
  return offset <= f->size && size <= f->size - offset;
}

static const char *string_at(const char *strings, uint64_t size, uint64_t at) {
  return at < size && memchr(strings + at, 0, (size_t)(size - at)) ? strings + at : NULL;
}

const char *nn_elf_section_name(const nn_elf *f, int i) {
  const elf_section *names = &f->sections[f->header.shstrndx];
  if (names->type != SHT_STRTAB) return NULL;
  return string_at((const char *)f->bytes + names->offset, names->size, f->sections[i].name);
}

uint64_t nn_elf_symbol_count(const nn_elf *f) { return f->symtab ? f->symtab->size / sizeof(elf_symbol) : 0; }

elf_symbol nn_elf_symbol(const nn_elf *f, uint64_t i) {
  elf_symbol s;
  memcpy(&s, f->bytes + f->symtab->offset + i * sizeof s, sizeof s);
  return s;
}

const char *nn_elf_symbol_name(const nn_elf *f, const elf_symbol *s) {
  return string_at(f->strings, f->strings_size, s->name);
}

static bool is_machine_known(uint16_t machine) {
  return machine == MACHINE_X86_64 || machine == MACHINE_AARCH64 || machine == MACHINE_RISCV;
}

static bool read_header(nn_elf *f) {
  static const unsigned char magic[] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
  if (f->size < sizeof f->header) return false;
  memcpy(&f->header, f->bytes, sizeof f->header);
  const elf_header *h = &f->header;
  return memcmp(h->ident, magic, sizeof magic) == 0 && h->type == ET_REL && is_machine_known(h->machine) &&
         h->shentsize == sizeof(elf_section) && h->shnum > 0 && h->shnum < SHN_SPECIAL && h->shstrndx < h->shnum &&
         lies_within(f, h->shoff, (uint64_t)h->shnum * sizeof(elf_section));
}

static bool read_sections(nn_arena *arena, nn_elf *f) {
  size_t count = f->header.shnum;
  f->sections = NN_NEW_ARRAY(arena, elf_section, count);
  memcpy(f->sections, f->bytes + f->header.shoff, count * sizeof(elf_section));
  for (size_t i = 0; i < count; i++) {
    const elf_section *s = &f->sections[i];
    if (s->type == SHT_NULL || s->type == SHT_NOBITS) continue;
    if (!lies_within(f, s->offset, s->size)) return false;
    if (s->type == SHT_SYMTAB) f->symtab = s;
  }
  return true;
}

static bool read_strings(nn_elf *f) {
  if (!f->symtab) return true;
  if (f->symtab->link >= f->header.shnum) return false;
  const elf_section *strings = &f->sections[f->symtab->link];
  f->strings = (const char *)f->bytes + strings->offset;
  f->strings_size = strings->size;
  return strings->type == SHT_STRTAB;
}

static bool is_host_little_endian(void) {
  const uint16_t one = 1;
  unsigned char first;
  memcpy(&first, &one, 1);
  return first == 1;
}

bool nn_elf_read(nn_arena *arena, nn_elf *f, const void *bytes, size_t size) {
  *f = (nn_elf){.bytes = bytes, .size = size};
  return is_host_little_endian() && read_header(f) && read_sections(arena, f) && read_strings(f);
}
