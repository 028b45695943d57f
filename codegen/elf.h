/* 64-bit little-endian ELF files as structures (System V ABI, Object Files), for object_merge.c and
   object_shared.c. */
#ifndef NN_ELF_H
#define NN_ELF_H

#include "codegen/codegen.h"

typedef struct elf_header {
  unsigned char ident[16];
  uint16_t type, machine;
  uint32_t version;
  uint64_t entry, phoff, shoff;
  uint32_t flags;
  uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
} elf_header;

typedef struct elf_segment {
  uint32_t type, flags;
  uint64_t offset, vaddr, paddr, filesz, memsz, align;
} elf_segment;

typedef struct elf_section {
  uint32_t name, type;
  uint64_t flags, addr, offset, size;
  uint32_t link, info;
  uint64_t align, entsize;
} elf_section;

typedef struct elf_symbol {
  uint32_t name;
  unsigned char info, other;
  uint16_t section;
  uint64_t value, size;
} elf_symbol;

typedef struct elf_rela {
  uint64_t offset, info;
  int64_t addend;
} elf_rela;

typedef struct elf_dynamic {
  uint64_t tag, value;
} elf_dynamic;

enum { ET_REL = 1, ET_DYN = 3 };
enum { MACHINE_X86_64 = 62, MACHINE_AARCH64 = 183, MACHINE_RISCV = 243 };
enum {
  SHT_NULL = 0,
  SHT_PROGBITS = 1,
  SHT_SYMTAB = 2,
  SHT_STRTAB = 3,
  SHT_RELA = 4,
  SHT_HASH = 5,
  SHT_DYNAMIC = 6,
  SHT_NOBITS = 8,
  SHT_DYNSYM = 11,
  SHT_LLVM_ADDRSIG = 0x6fff4c03,
  SHT_X86_64_UNWIND = 0x70000001,
  SHT_RISCV_ATTRIBUTES = 0x70000003
};
enum { SHF_WRITE = 1, SHF_ALLOC = 2, SHF_EXECINSTR = 4, SHF_INFO_LINK = 0x40 };
enum { STB_LOCAL = 0, STB_GLOBAL = 1, STT_OBJECT = 1, STT_FUNC = 2, STT_SECTION = 3, STT_FILE = 4, STV_HIDDEN = 2 };
enum { SHN_UNDEF = 0, SHN_SPECIAL = 0xff00, SHN_ABS = 0xfff1 };

/* A relocatable file that was read. */
typedef struct nn_elf {
  const unsigned char *bytes;
  size_t size;
  elf_header header;
  elf_section *sections;
  const elf_section *symtab; /* or NULL */
  const char *strings;       /* of symbols */
  uint64_t strings_size;
} nn_elf;

/* Checks that every section lies within the file. */
bool nn_elf_read(nn_arena *arena, nn_elf *f, const void *bytes, size_t size);
const char *nn_elf_section_name(const nn_elf *f, int i); /* NULL: it has none that ends */
uint64_t nn_elf_symbol_count(const nn_elf *f);
elf_symbol nn_elf_symbol(const nn_elf *f, uint64_t i);
const char *nn_elf_symbol_name(const nn_elf *f, const elf_symbol *s); /* NULL: it has none that ends */
static inline int nn_elf_binding(const elf_symbol *s) { return s->info >> 4; }
static inline int nn_elf_type(const elf_symbol *s) { return s->info & 15; }

/* object_merge.c: several objects as one. What is hidden becomes local. */
bool nn_objects_can_merge(const nn_target *t);
nn_status nn_objects_merge(const nn_object *objects, int count, nn_object *result, nn_diags *diags);
/* Adds the names that the object leaves undefined; false if it is no such object. */
bool nn_object_needs(const nn_object *object, nn_arena *arena, nn_map *names);

/* object_shared.c: the object as a shared object; false if this is not for such objects: it takes a linker. */
bool nn_shared_write(const nn_program *p, const nn_object *object, bool has_weights, nn_out_file to, nn_diags *diags,
                     nn_status *status);

#endif
