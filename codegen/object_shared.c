/* Shared objects for x86-64 ELF, written here: a linker would copy all weights, which are in the output file
   already. One object makes one library, so this is the small part of a linker that lays out sections, binds the
   object's references to itself, and leaves those to memcpy and its like to the loader. Addresses are file
   offsets:

     header, segments | weights | .dynsym .dynstr .hash .rela.dyn, read-only | code, stubs | relocated data | data

   No library is named as needed: whatever loads the object has a C library. */
#include <stdlib.h>
#include <string.h>

#include "codegen/elf.h"
#include "codegen/llvm.h"

enum { PAGE = 4096, STUB_BYTES = 16, NDYNAMIC = 10, NSEGMENTS = 6, MAX_ADDRESS = 1 << 30 };
enum {
  PT_LOAD = 1,
  PT_DYNAMIC = 2,
  PT_GNU_STACK = 0x6474e551,
  PT_GNU_RELRO = 0x6474e552,
  PF_X = 1,
  PF_W = 2,
  PF_R = 4
};
enum {
  R_64 = 1,
  R_PC32 = 2,
  R_PLT32 = 4,
  R_GLOB_DAT = 6,
  R_RELATIVE = 8,
  R_GOTPCREL = 9,
  R_PC64 = 24,
  R_GOTPCRELX = 41,
  R_REX_GOTPCRELX = 42
};

typedef enum group { READ, CODE, RELRO, DATA, ZERO, NGROUPS, LEFT_OUT } group;

typedef struct part {
  elf_section header;
  const char *name;
  const unsigned char *bytes; /* copied to its place; NULL: filled in later */
  group group;
} part;

typedef struct shared {
  nn_arena *arena;
  nn_elf file;
  const nn_program *p;
  bool has_weights;
  part *parts; /* number 0 is the null section */
  int nparts, parts_cap;
  int *part_of; /* by section of the file */
  int dynsym, dynstr, hash, rela, plt, dynamic, got;
  uint64_t group_begin[NGROUPS], group_end[NGROUPS];
  elf_symbol *symbols; /* of .dynsym, the null symbol first */
  int nsymbols, symbols_cap;
  char *strings; /* of .dynstr and, behind, the names of sections */
  size_t nstrings, strings_cap;
  int *dynamic_number; /* by symbol of the file; 0: none */
  int *slot;           /* by symbol of the file: its place in .got + 1; 0: none */
  int nslots, nimports;
  elf_rela *relas;
  int nrelas, relas_cap;
  unsigned char *image; /* the file from `origin` on */
  uint64_t origin, end;
} shared;

static uint64_t round_up(uint64_t value, uint64_t step) { return (value + step - 1) / step * step; }

static uint32_t add_string(shared *s, const char *text) {
  size_t length = strlen(text) + 1;
  if (s->nstrings + length > s->strings_cap) {
    char *larger = nn_alloc(s->arena, s->strings_cap = (s->nstrings + length) * 2);
    if (s->nstrings) memcpy(larger, s->strings, s->nstrings);
    s->strings = larger;
  }
  memcpy(s->strings + s->nstrings, text, length);
  s->nstrings += length;
  return (uint32_t)(s->nstrings - length);
}

/* ---- what there is ------------------------------------------------------------------------------------ */

static bool is_weights(const char *name) {
  static const char suffix[] = ".nncc_weights";
  size_t length = strlen(name);
  return length >= sizeof suffix - 1 && strcmp(name + length - (sizeof suffix - 1), suffix) == 0;
}

static group group_of(const elf_section *h, const char *name) {
  bool has_bytes = h->type == SHT_PROGBITS || h->type == SHT_X86_64_UNWIND;
  if (!(h->flags & SHF_ALLOC) || !(has_bytes || h->type == SHT_NOBITS)) return LEFT_OUT;
  if (h->type == SHT_NOBITS) return ZERO;
  if (h->flags & SHF_EXECINSTR) return CODE;
  if (!(h->flags & SHF_WRITE)) return READ;
  return strncmp(name, ".data.rel.ro", 12) == 0 ? RELRO : DATA;
}

static int add_part(shared *s, part new_one) {
  NN_PUSH(s->arena, s->parts, s->nparts, s->parts_cap, new_one);
  return s->nparts - 1;
}

static int add_own(shared *s, const char *name, uint32_t type, group g, uint64_t size, uint64_t entsize) {
  uint64_t flags = SHF_ALLOC | (g == CODE ? SHF_EXECINSTR : g == RELRO ? SHF_WRITE : 0);
  part own = {.header = {.type = type, .flags = flags, .size = size, .align = 16, .entsize = entsize},
              .name = name,
              .group = g};
  return add_part(s, own);
}

static bool add_sections(shared *s) {
  s->part_of = NN_NEW_ARRAY(s->arena, int, s->file.header.shnum);
  for (int i = 1; i < s->file.header.shnum; i++) {
    const elf_section *h = &s->file.sections[i];
    const char *name = nn_elf_section_name(&s->file, i);
    if (!name) return false;
    group g = group_of(h, name);
    bool is_loaded = (h->flags & SHF_ALLOC) != 0, is_blob = is_weights(name);
    if (is_loaded && g == LEFT_OUT) return false; /* thread-local data, constructors: not of ours */
    if (g == ZERO && !(h->flags & SHF_WRITE) && !is_blob) return false;
    if (g == LEFT_OUT) continue;
    part copy = {.header = *h, .name = name, .group = is_blob ? LEFT_OUT : g};
    if (g != ZERO) copy.bytes = s->file.bytes + h->offset;
    if (is_blob) copy.header.type = SHT_PROGBITS;
    copy.header.link = copy.header.info = 0;
    if (is_blob) copy.header.addr = copy.header.offset = NN_WEIGHTS_BASE;
    s->part_of[i] = add_part(s, copy);
  }
  return true;
}

static void add_dynamic_symbol(shared *s, uint64_t i, elf_symbol symbol) {
  symbol.name = add_string(s, nn_elf_symbol_name(&s->file, &symbol));
  NN_PUSH(s->arena, s->symbols, s->nsymbols, s->symbols_cap, symbol);
  s->dynamic_number[i] = s->nsymbols - 1;
}

/* Imports first; each has a place in .got, and a stub that jumps there. */
static bool add_symbols(shared *s) {
  uint64_t count = nn_elf_symbol_count(&s->file);
  s->dynamic_number = NN_NEW_ARRAY(s->arena, int, count + 1);
  s->slot = NN_NEW_ARRAY(s->arena, int, count + 1);
  add_string(s, "");
  NN_PUSH(s->arena, s->symbols, s->nsymbols, s->symbols_cap, (elf_symbol){0});
  for (int pass = 0; pass < 2; pass++)
    for (uint64_t i = 1; i < count; i++) {
      elf_symbol symbol = nn_elf_symbol(&s->file, i);
      bool is_import = symbol.section == SHN_UNDEF;
      if (nn_elf_binding(&symbol) == STB_LOCAL || is_import != (pass == 0)) continue;
      if (!nn_elf_symbol_name(&s->file, &symbol)) return false;
      add_dynamic_symbol(s, i, symbol);
      if (is_import) s->slot[i] = ++s->nslots;
    }
  s->nimports = s->nslots;
  return true;
}

/* Counts what the loader has to do, and checks that everything else can be done here. */
static bool scan_relocations(shared *s, int *nrelas) {
  uint64_t count = nn_elf_symbol_count(&s->file);
  for (int i = 0; i < s->file.header.shnum; i++) {
    const elf_section *table = &s->file.sections[i];
    if (table->type != SHT_RELA || table->info >= s->file.header.shnum || !s->part_of[table->info]) continue;
    for (uint64_t k = 0; k < table->size / sizeof(elf_rela); k++) {
      elf_rela r;
      memcpy(&r, s->file.bytes + table->offset + k * sizeof r, sizeof r);
      uint64_t symbol = r.info >> 32, target = s->file.sections[table->info].size;
      uint32_t kind = (uint32_t)r.info;
      bool is_got = kind == R_GOTPCREL || kind == R_GOTPCRELX || kind == R_REX_GOTPCRELX;
      if (!s->parts[s->part_of[table->info]].bytes || symbol == 0 || symbol >= count || r.offset > target ||
          target - r.offset < (kind == R_64 || kind == R_PC64 ? 8 : 4))
        return false;
      if (is_got && !s->slot[symbol]) s->slot[symbol] = ++s->nslots;
      if (!is_got && kind != R_64 && kind != R_PC32 && kind != R_PLT32 && kind != R_PC64) return false;
      *nrelas += kind == R_64;
    }
  }
  *nrelas += s->nslots;
  return true;
}

static void add_own_parts(shared *s, int nrelas) {
  uint64_t n = (uint64_t)s->nsymbols;
  s->dynsym = add_own(s, ".dynsym", SHT_DYNSYM, READ, n * sizeof(elf_symbol), sizeof(elf_symbol));
  s->dynstr = add_own(s, ".dynstr", SHT_STRTAB, READ, s->nstrings, 0);
  s->hash = add_own(s, ".hash", SHT_HASH, READ, 4 * (2 + 2 * n), 4);
  s->rela = add_own(s, ".rela.dyn", SHT_RELA, READ, (uint64_t)nrelas * sizeof(elf_rela), sizeof(elf_rela));
  s->plt = add_own(s, ".plt", SHT_PROGBITS, CODE, (uint64_t)s->nimports * STUB_BYTES, STUB_BYTES);
  s->dynamic = add_own(s, ".dynamic", SHT_DYNAMIC, RELRO, NDYNAMIC * sizeof(elf_dynamic), sizeof(elf_dynamic));
  s->got = add_own(s, ".got", SHT_PROGBITS, RELRO, (uint64_t)s->nslots * 8, 8);
  s->parts[s->dynsym].header.link = s->parts[s->dynamic].header.link = (uint32_t)s->dynstr;
  s->parts[s->dynsym].header.info = 1;
  s->parts[s->hash].header.link = s->parts[s->rela].header.link = (uint32_t)s->dynsym;
}

/* ---- where it lies ------------------------------------------------------------------------------------ */

static bool lay_out(shared *s) {
  uint64_t at = s->origin = round_up(NN_WEIGHTS_BASE + (s->has_weights ? (uint64_t)s->p->weights_bytes : 0), PAGE);
  for (group g = READ; g < NGROUPS; g++) {
    if (g != ZERO) at = round_up(at, PAGE); /* memory of other rights; zeros follow the data directly */
    s->group_begin[g] = at;
    for (int i = 1; i < s->nparts; i++) {
      elf_section *h = &s->parts[i].header;
      if (s->parts[i].group != g) continue;
      if (h->size > MAX_ADDRESS || h->align > PAGE) return false;
      at = round_up(at, h->align ? h->align : 1);
      h->addr = h->offset = at;
      at += h->size;
    }
    s->group_end[g] = at;
  }
  s->end = s->group_end[DATA];
  return s->group_end[ZERO] - s->origin < MAX_ADDRESS;
}

static uint64_t address_of(const shared *s, int number) { return s->parts[number].header.addr; }

static uint64_t symbol_address(const shared *s, uint64_t i) {
  elf_symbol symbol = nn_elf_symbol(&s->file, i);
  if (symbol.section == SHN_UNDEF) return address_of(s, s->plt) + (uint64_t)(s->dynamic_number[i] - 1) * STUB_BYTES;
  return symbol.section < s->file.header.shnum ? address_of(s, s->part_of[symbol.section]) + symbol.value
                                               : symbol.value;
}

static bool is_import(const shared *s, uint64_t i) { return nn_elf_symbol(&s->file, i).section == SHN_UNDEF; }

static void put(shared *s, uint64_t address, const void *bytes, size_t size) {
  if (size) memcpy(s->image + (address - s->origin), bytes, size);
}

/* ---- what the loader does ----------------------------------------------------------------------------- */

static void add_relative(shared *s, uint64_t at, uint64_t value) {
  elf_rela r = {at, R_RELATIVE, (int64_t)value};
  NN_PUSH(s->arena, s->relas, s->nrelas, s->relas_cap, r);
}

static void add_import(shared *s, uint64_t at, uint64_t symbol, uint64_t kind, int64_t addend) {
  elf_rela r = {at, (uint64_t)s->dynamic_number[symbol] << 32 | kind, addend};
  NN_PUSH(s->arena, s->relas, s->nrelas, s->relas_cap, r);
}

static bool put_difference(shared *s, uint64_t at, uint64_t value, int size) {
  int64_t difference = (int64_t)(value - at);
  int32_t narrow = (int32_t)difference;
  if (size == 4 && narrow != difference) return false; /* too far for the instruction */
  put(s, at, size == 4 ? (void *)&narrow : (void *)&difference, (size_t)size);
  return true;
}

static bool relocate(shared *s, const elf_section *table, const elf_rela *r) {
  uint64_t symbol = r->info >> 32, at = address_of(s, s->part_of[table->info]) + r->offset;
  uint64_t addend = (uint64_t)r->addend;
  switch ((uint32_t)r->info) {
  case R_64:
    if (is_import(s, symbol))
      add_import(s, at, symbol, R_64, r->addend);
    else
      add_relative(s, at, symbol_address(s, symbol) + addend);
    return true;
  case R_PC64: return put_difference(s, at, symbol_address(s, symbol) + addend, 8);
  case R_PC32:
  case R_PLT32: return put_difference(s, at, symbol_address(s, symbol) + addend, 4);
  default: return put_difference(s, at, address_of(s, s->got) + (uint64_t)(s->slot[symbol] - 1) * 8 + addend, 4);
  }
}

static bool relocate_all(shared *s) {
  for (int i = 0; i < s->file.header.shnum; i++) {
    const elf_section *table = &s->file.sections[i];
    if (table->type != SHT_RELA || !s->part_of[table->info]) continue;
    for (uint64_t k = 0; k < table->size / sizeof(elf_rela); k++) {
      elf_rela r;
      memcpy(&r, s->file.bytes + table->offset + k * sizeof r, sizeof r);
      if (!relocate(s, table, &r)) return false;
    }
  }
  return true;
}

static bool fill_slots(shared *s) {
  static const unsigned char stub[STUB_BYTES] = {0xff, 0x25, 0, 0, 0, 0, 0xcc, 0xcc}; /* jmp *displacement(%rip) */
  for (uint64_t i = 1; i < nn_elf_symbol_count(&s->file); i++) {
    if (!s->slot[i]) continue;
    uint64_t at = address_of(s, s->got) + (uint64_t)(s->slot[i] - 1) * 8;
    if (!is_import(s, i)) {
      add_relative(s, at, symbol_address(s, i));
      continue;
    }
    uint64_t code = symbol_address(s, i);
    add_import(s, at, i, R_GLOB_DAT, 0);
    put(s, code, stub, sizeof stub);
    if (!put_difference(s, code + 2, at - 4, 4)) return false;
  }
  return true;
}

static uint32_t hash_name(const char *name) {
  uint32_t h = 0;
  for (const unsigned char *c = (const unsigned char *)name; *c; c++) {
    h = (h << 4) + *c;
    h = (h ^ (h >> 28 << 4)) & 0x0fffffff;
  }
  return h;
}

static void fill_hash(shared *s) {
  uint32_t n = (uint32_t)s->nsymbols, *table = NN_NEW_ARRAY(s->arena, uint32_t, 2 + 2 * n);
  table[0] = table[1] = n;
  for (uint32_t i = 1; i < n; i++) {
    uint32_t *bucket = &table[2 + hash_name(s->strings + s->symbols[i].name) % n];
    table[2 + n + i] = *bucket;
    *bucket = i;
  }
  put(s, address_of(s, s->hash), table, 4 * (2 + 2 * (size_t)n));
}

static void fill_symbols(shared *s) {
  for (uint64_t i = 1; i < nn_elf_symbol_count(&s->file); i++) {
    elf_symbol *symbol = &s->symbols[s->dynamic_number[i]];
    if (!s->dynamic_number[i] || symbol->section == SHN_UNDEF) continue;
    symbol->value = symbol_address(s, i);
    if (symbol->section < s->file.header.shnum) symbol->section = (uint16_t)s->part_of[symbol->section];
  }
  put(s, address_of(s, s->dynsym), s->symbols, (size_t)s->nsymbols * sizeof *s->symbols);
  put(s, address_of(s, s->dynstr), s->strings, (size_t)s->parts[s->dynstr].header.size);
}

static void fill_dynamic(shared *s) {
  enum {
    HASH = 4,
    STRTAB = 5,
    SYMTAB = 6,
    RELA = 7,
    RELASZ = 8,
    RELAENT = 9,
    STRSZ = 10,
    SYMENT = 11,
    FLAGS = 30,
    BIND_NOW = 8
  };
  const elf_dynamic entries[NDYNAMIC] = {{HASH, address_of(s, s->hash)},
                                         {STRTAB, address_of(s, s->dynstr)},
                                         {SYMTAB, address_of(s, s->dynsym)},
                                         {STRSZ, s->parts[s->dynstr].header.size},
                                         {SYMENT, sizeof(elf_symbol)},
                                         {RELA, address_of(s, s->rela)},
                                         {RELASZ, (uint64_t)s->nrelas * sizeof(elf_rela)},
                                         {RELAENT, sizeof(elf_rela)},
                                         {FLAGS, BIND_NOW}};
  put(s, address_of(s, s->dynamic), entries, sizeof entries);
  put(s, address_of(s, s->rela), s->relas, (size_t)s->nrelas * sizeof(elf_rela));
}

/* ---- tables for tools --------------------------------------------------------------------------------- */

/* All symbols, for debuggers and profilers, with addresses. */
static int add_symbol_table(shared *s, elf_symbol **table) {
  uint64_t count = nn_elf_symbol_count(&s->file);
  *table = NN_NEW_ARRAY(s->arena, elf_symbol, count + 1);
  uint64_t nlocals = 0;
  for (uint64_t i = 0; i < count; i++) {
    elf_symbol symbol = nn_elf_symbol(&s->file, i);
    if (nn_elf_binding(&symbol) == STB_LOCAL) nlocals = i + 1;
    if (symbol.section != SHN_UNDEF && symbol.section < s->file.header.shnum) {
      symbol.value = symbol_address(s, i);
      symbol.section = (uint16_t)s->part_of[symbol.section];
    }
    (*table)[i] = symbol;
  }
  elf_section h = {
      .type = SHT_SYMTAB, .size = count * sizeof **table, .link = (uint32_t)s->nparts + 1, .info = (uint32_t)nlocals};
  h.align = 8;
  h.entsize = sizeof(elf_symbol);
  int number =
      add_part(s, (part){.header = h, .name = ".symtab", .bytes = (const unsigned char *)*table, .group = LEFT_OUT});
  elf_section strings = {.type = SHT_STRTAB, .size = s->file.strings_size, .align = 1};
  add_part(
      s,
      (part){.header = strings, .name = ".strtab", .bytes = (const unsigned char *)s->file.strings, .group = LEFT_OUT});
  return number;
}

/* Behind everything that is loaded; grows the image. */
static bool append_tables(shared *s, elf_header *header) {
  elf_symbol *symbols;
  int first = add_symbol_table(s, &symbols);
  s->nstrings = 0;
  add_string(s, "");
  int names = add_part(s, (part){.header = {.type = SHT_STRTAB, .align = 1}, .name = ".shstrtab", .group = LEFT_OUT});
  for (int i = 1; i < s->nparts; i++) s->parts[i].header.name = add_string(s, s->parts[i].name);
  s->parts[names].header.size = s->nstrings;
  s->parts[names].bytes = (const unsigned char *)s->strings;
  uint64_t end = s->end;
  for (int i = first; i < s->nparts; i++) {
    s->parts[i].header.offset = round_up(end, 8);
    end = s->parts[i].header.offset + s->parts[i].header.size;
  }
  header->shoff = round_up(end, 8);
  header->shnum = (uint16_t)s->nparts;
  header->shstrndx = (uint16_t)names;
  s->end = header->shoff + (uint64_t)s->nparts * sizeof(elf_section);
  unsigned char *larger = realloc(s->image, (size_t)(s->end - s->origin));
  if (!larger) return false;
  s->image = larger;
  memset(larger + (s->group_end[DATA] - s->origin), 0, (size_t)(s->end - s->group_end[DATA]));
  for (int i = first; i < s->nparts; i++)
    put(s, s->parts[i].header.offset, s->parts[i].bytes, (size_t)s->parts[i].header.size);
  for (int i = 0; i < s->nparts; i++)
    put(s, header->shoff + (uint64_t)i * sizeof(elf_section), &s->parts[i].header, sizeof(elf_section));
  return true;
}

/* ---- the file ----------------------------------------------------------------------------------------- */

static elf_segment segment(uint32_t type, uint32_t flags, uint64_t begin, uint64_t end, uint64_t memory_end) {
  return (elf_segment){type, flags, begin, begin, begin, end - begin, memory_end - begin, type == PT_LOAD ? PAGE : 8};
}

static void make_segments(const shared *s, elf_segment *to) {
  const elf_section *dynamic = &s->parts[s->dynamic].header;
  uint64_t relro = s->group_begin[RELRO], relro_end = s->group_begin[DATA], end = s->group_end[DATA];
  to[0] = segment(PT_LOAD, PF_R, 0, s->group_end[READ], s->group_end[READ]);
  to[1] = segment(PT_LOAD, PF_R | PF_X, s->group_begin[CODE], s->group_end[CODE], s->group_end[CODE]);
  to[2] = segment(PT_LOAD, PF_R | PF_W, relro, end, s->group_end[ZERO]);
  to[3] = segment(PT_DYNAMIC, PF_R | PF_W, dynamic->addr, dynamic->addr + dynamic->size, dynamic->addr + dynamic->size);
  to[4] = segment(PT_GNU_RELRO, PF_R, relro, relro_end, relro_end);
  to[5] = segment(PT_GNU_STACK, PF_R | PF_W, 0, 0, 0);
}

static bool make_image(shared *s) {
  s->image = calloc(1, (size_t)(s->end - s->origin) + 1);
  if (!s->image) return false;
  for (int i = 1; i < s->nparts; i++)
    if (s->parts[i].bytes && s->parts[i].group < ZERO)
      put(s, s->parts[i].header.addr, s->parts[i].bytes, (size_t)s->parts[i].header.size);
  if (!relocate_all(s) || !fill_slots(s)) return false;
  fill_hash(s);
  fill_symbols(s);
  fill_dynamic(s);
  return true;
}

static bool build(shared *s, const nn_object *object) {
  int nrelas = 0;
  if (!nn_elf_read(s->arena, &s->file, object->bytes, object->size) || s->file.header.machine != MACHINE_X86_64)
    return false;
  add_part(s, (part){.name = "", .group = LEFT_OUT});
  if (!add_sections(s) || !add_symbols(s) || !scan_relocations(s, &nrelas)) return false;
  add_own_parts(s, nrelas);
  return lay_out(s) && make_image(s);
}

static nn_status write_shared(shared *s, nn_out_file to, nn_diags *diags) {
  unsigned char head[sizeof(elf_header) + NSEGMENTS * sizeof(elf_segment)];
  elf_header header = s->file.header;
  elf_segment segments[NSEGMENTS];
  header.type = ET_DYN;
  header.phoff = sizeof header;
  header.phentsize = sizeof(elf_segment);
  header.phnum = NSEGMENTS;
  if (!append_tables(s, &header)) return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "out of memory");
  make_segments(s, segments);
  memcpy(head, &header, sizeof header);
  memcpy(head + sizeof header, segments, sizeof segments);
  nn_image image = {s->has_weights, head, sizeof head, s->image, (size_t)(s->end - s->origin), (int64_t)s->origin};
  return nn_weights_write_image(s->p, &image, to, diags);
}

bool nn_shared_write(const nn_program *p, const nn_object *object, bool has_weights, nn_out_file to, nn_diags *diags,
                     nn_status *status) {
  shared s = {.arena = nn_arena_new(), .p = p, .has_weights = has_weights};
  bool can = s.arena && build(&s, object);
  if (can) *status = write_shared(&s, to, diags);
  free(s.image);
  nn_arena_free(s.arena);
  return can;
}
