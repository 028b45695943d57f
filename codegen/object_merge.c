/* Several relocatable ELF objects as one: what `ld -r` does, as far as the code generator's objects need it.
   Sections of one name and kind are laid one behind the other; references between the objects are resolved by
   name, and what is hidden becomes local, so that only the model's own symbols can be seen from outside.

   For 64-bit little-endian files whose relocations hold their addends, which is what x86-64, AArch64 and
   RISC-V have. Everything is read with bounds checked: objects
   may come from a cache on disk. */
#include <stdlib.h>
#include <string.h>

#include "codegen/elf.h"
#include "codegen/llvm.h"

enum { MAX_ALIGN = 1 << 16 };

/* One section of the result. */
typedef struct joined {
  const char *name;
  elf_section header; /* offset is set last */
  unsigned char *bytes;
  size_t capacity;
  elf_rela *relas;
  int nrelas, relas_cap;
  int symbol; /* of the section itself */
} joined;

typedef struct input {
  nn_elf file;
  int *target;      /* by section: its joined section, -1 none */
  uint64_t *offset; /* and where it begins there */
  int *symbols;     /* by symbol: its number in the result */
} input;

typedef struct merger {
  nn_arena *arena;
  input *inputs;
  int ninputs;
  joined *out;
  int nout, out_cap;
  elf_symbol *locals, *globals;
  int nlocals, locals_cap, nglobals, globals_cap;
  nn_map *defined;  /* name -> number of a local + 1, or of a global as -(number + 1) */
  nn_map *sections; /* name and kind -> number + 1 */
  char *strings;
  size_t nstrings, strings_cap;
  bool has_file;
} merger;

/* ---- sections ----------------------------------------------------------------------------------------- */

static bool is_content(uint32_t type) {
  return type == SHT_PROGBITS || type == SHT_NOBITS || type == SHT_X86_64_UNWIND || type == SHT_RISCV_ATTRIBUTES;
}

static bool is_known(uint32_t type) {
  return is_content(type) || type == SHT_NULL || type == SHT_SYMTAB || type == SHT_STRTAB || type == SHT_RELA ||
         type == SHT_LLVM_ADDRSIG;
}

static int joined_section(merger *m, const char *name, const elf_section *s) {
  const char *key = nn_sprintf(m->arena, "%s %x %llx %llx", name, s->type, (unsigned long long)s->flags,
                               (unsigned long long)s->entsize);
  int known = (int)(intptr_t)nn_map_get(m->sections, key);
  if (known) return known - 1;
  joined new_one = {.name = nn_strdup(m->arena, name), .header = *s};
  new_one.header.size = 0;
  NN_PUSH(m->arena, m->out, m->nout, m->out_cap, new_one);
  nn_map_put(m->sections, key, (void *)(intptr_t)m->nout);
  return m->nout - 1;
}

/* Room for `size` more bytes at an aligned place, which is returned; what lies between is zero. */
static uint64_t extend(merger *m, joined *to, uint64_t align, uint64_t size) {
  if (align == 0) align = 1;
  if (align > to->header.align) to->header.align = align;
  uint64_t begin = (to->header.size + align - 1) / align * align;
  if (to->header.type != SHT_NOBITS && begin + size > to->capacity) {
    size_t capacity = (size_t)(begin + size) * 2;
    unsigned char *larger = nn_alloc(m->arena, capacity);
    if (to->header.size) memcpy(larger, to->bytes, (size_t)to->header.size);
    memset(larger + to->header.size, 0, capacity - (size_t)to->header.size);
    to->bytes = larger;
    to->capacity = capacity;
  }
  to->header.size = begin + size;
  return begin;
}

static bool join_section(merger *m, input *in, int i) {
  const elf_section *s = &in->file.sections[i];
  in->target[i] = -1;
  if (!is_known(s->type)) return false;
  if (!is_content(s->type)) return true;
  const char *name = nn_elf_section_name(&in->file, i);
  if (!name || s->align > MAX_ALIGN || s->size > UINT64_MAX / 8) return false;
  int number = joined_section(m, name, s);
  joined *to = &m->out[number];
  in->target[i] = number;
  if (s->type == SHT_RISCV_ATTRIBUTES && to->header.size > 0) return true; /* they are equal */
  in->offset[i] = extend(m, to, s->align, s->size);
  if (s->type != SHT_NOBITS && s->size) memcpy(to->bytes + in->offset[i], in->file.bytes + s->offset, (size_t)s->size);
  return true;
}

static bool join_sections(merger *m, input *in) {
  in->target = NN_NEW_ARRAY(m->arena, int, in->file.header.shnum);
  in->offset = NN_NEW_ARRAY(m->arena, uint64_t, in->file.header.shnum);
  for (int i = 0; i < in->file.header.shnum; i++)
    if (!join_section(m, in, i)) return false;
  return true;
}

/* ---- symbols ------------------------------------------------------------------------------------------ */

static uint32_t add_string(merger *m, const char *text) {
  size_t length = strlen(text) + 1;
  if (m->nstrings + length > m->strings_cap) {
    size_t capacity = (m->nstrings + length) * 2;
    char *larger = nn_alloc(m->arena, capacity);
    if (m->nstrings) memcpy(larger, m->strings, m->nstrings);
    m->strings = larger;
    m->strings_cap = capacity;
  }
  memcpy(m->strings + m->nstrings, text, length);
  m->nstrings += length;
  return (uint32_t)(m->nstrings - length);
}

/* A symbol in a section of an input as one of the result. */
static bool move_symbol(const merger *m, const input *in, elf_symbol *s) {
  if (s->section == SHN_UNDEF || s->section == SHN_ABS) return true;
  if (s->section >= in->file.header.shnum || in->target[s->section] < 0) return false;
  s->value += in->offset[s->section];
  s->section = (uint16_t)(in->target[s->section] + 1);
  return m->nout < SHN_SPECIAL / 2;
}

static int add_local(merger *m, elf_symbol s, const char *name) {
  s.name = *name ? add_string(m, name) : 0;
  s.info = (unsigned char)nn_elf_type(&s);
  NN_PUSH(m->arena, m->locals, m->nlocals, m->locals_cap, s);
  return m->nlocals - 1;
}

static int add_global(merger *m, elf_symbol s, const char *name) {
  s.name = add_string(m, name);
  NN_PUSH(m->arena, m->globals, m->nglobals, m->globals_cap, s);
  return -m->nglobals;
}

/* Numbers of globals are negative until the locals are counted. */
static void define(merger *m, const char *name, int number) {
  nn_map_put(m->defined, name, (void *)(intptr_t)(number < 0 ? number : number + 1));
}

static bool find_defined(const merger *m, const char *name, int *number) {
  intptr_t found = (intptr_t)nn_map_get(m->defined, name);
  *number = (int)(found > 0 ? found - 1 : found);
  return found != 0;
}

static bool add_definition(merger *m, input *in, uint64_t i) {
  elf_symbol s = nn_elf_symbol(&in->file, i);
  const char *name = nn_elf_symbol_name(&in->file, &s);
  int number;
  if (!name) return false;
  if (nn_elf_type(&s) == STT_SECTION || s.section == SHN_UNDEF) return true;
  if (nn_elf_type(&s) == STT_FILE) {
    in->symbols[i] = 0;
    if (!m->has_file) add_local(m, s, name);
    m->has_file = true;
    return true;
  }
  if (!move_symbol(m, in, &s)) return false;
  bool is_local = nn_elf_binding(&s) == STB_LOCAL, is_hidden = (s.other & 3) == STV_HIDDEN;
  if (!is_local && find_defined(m, name, &number)) return false; /* twice */
  in->symbols[i] = is_local || is_hidden ? add_local(m, s, name) : add_global(m, s, name);
  if (!is_local) define(m, name, in->symbols[i]);
  return true;
}

static bool add_definitions(merger *m, input *in) {
  in->symbols = NN_NEW_ARRAY(m->arena, int, nn_elf_symbol_count(&in->file) + 1);
  for (uint64_t i = 1; i < nn_elf_symbol_count(&in->file); i++)
    if (!add_definition(m, in, i)) return false;
  return true;
}

/* What the inputs need: from one another, or from outside. */
static bool resolve(merger *m, input *in) {
  for (uint64_t i = 1; i < nn_elf_symbol_count(&in->file); i++) {
    elf_symbol s = nn_elf_symbol(&in->file, i);
    const char *name = nn_elf_symbol_name(&in->file, &s);
    if (nn_elf_type(&s) == STT_SECTION) {
      if (s.section >= in->file.header.shnum || in->target[s.section] < 0) return false;
      in->symbols[i] = m->out[in->target[s.section]].symbol;
    } else if (s.section == SHN_UNDEF && !find_defined(m, name, &in->symbols[i])) {
      s.other = 0;
      in->symbols[i] = add_global(m, s, name);
      define(m, name, in->symbols[i]);
    }
  }
  return true;
}

static void add_section_symbols(merger *m) {
  for (int i = 0; i < m->nout; i++) {
    elf_symbol s = {.info = STT_SECTION, .section = (uint16_t)(i + 1)};
    m->out[i].symbol = add_local(m, s, "");
  }
}

/* ---- relocations -------------------------------------------------------------------------------------- */

static bool move_rela(merger *m, const input *in, const elf_section *table, uint64_t k) {
  elf_rela r;
  memcpy(&r, in->file.bytes + table->offset + k * sizeof r, sizeof r);
  uint64_t symbol = r.info >> 32, number = 0;
  if (symbol >= nn_elf_symbol_count(&in->file) && symbol != 0) return false;
  if (symbol != 0) {
    elf_symbol s = nn_elf_symbol(&in->file, symbol);
    if (nn_elf_type(&s) == STT_SECTION) r.addend += (int64_t)in->offset[s.section];
    int moved = in->symbols[symbol];
    number = (uint64_t)(moved < 0 ? m->nlocals - moved - 1 : moved);
  }
  joined *to = &m->out[in->target[table->info]];
  r.offset += in->offset[table->info];
  r.info = number << 32 | (r.info & UINT32_MAX);
  NN_PUSH(m->arena, to->relas, to->nrelas, to->relas_cap, r);
  return true;
}

static bool move_relas(merger *m, const input *in) {
  for (int i = 0; i < in->file.header.shnum; i++) {
    const elf_section *table = &in->file.sections[i];
    if (table->type != SHT_RELA) continue;
    if (table->info >= in->file.header.shnum || in->target[table->info] < 0) return false;
    for (uint64_t k = 0; k < table->size / sizeof(elf_rela); k++)
      if (!move_rela(m, in, table, k)) return false;
  }
  return true;
}

/* ---- writing ------------------------------------------------------------------------------------------ */

typedef struct image {
  unsigned char *bytes; /* NULL: only the size is counted */
  uint64_t size;
} image;

static uint64_t put(image *to, const void *bytes, uint64_t size, uint64_t align) {
  uint64_t at = (to->size + align - 1) / align * align;
  if (to->bytes && size) memcpy(to->bytes + at, bytes, (size_t)size);
  to->size = at + size;
  return at;
}

static void put_contents(merger *m, image *to, elf_section *table) {
  for (int i = 0; i < m->nout; i++) {
    elf_section *h = &m->out[i].header;
    bool has_bytes = h->type != SHT_NOBITS;
    h->offset = put(to, m->out[i].bytes, has_bytes ? h->size : 0, h->align ? h->align : 1);
    table[1 + i] = *h;
    table[1 + i].link = table[1 + i].info = 0;
  }
}

static int put_relas(merger *m, image *to, elf_section *table, int next, int symtab) {
  for (int i = 0; i < m->nout; i++) {
    if (m->out[i].nrelas == 0) continue;
    elf_section h = {.type = SHT_RELA, .flags = SHF_INFO_LINK, .link = (uint32_t)symtab, .info = (uint32_t)(1 + i)};
    h.align = 8;
    h.entsize = sizeof(elf_rela);
    h.size = (uint64_t)m->out[i].nrelas * sizeof(elf_rela);
    h.offset = put(to, m->out[i].relas, h.size, 8);
    h.name = add_string(m, nn_sprintf(m->arena, ".rela%s", m->out[i].name));
    table[next++] = h;
  }
  return next;
}

static int relocated_count(const merger *m) {
  int count = 0;
  for (int i = 0; i < m->nout; i++) count += m->out[i].nrelas > 0;
  return count;
}

/* Header, contents, relocations, symbols, strings, section headers; names of sections must be there already. */
static void put_all(merger *m, image *to, const elf_header *like) {
  int symtab = 1 + m->nout + relocated_count(m), count = symtab + 2;
  elf_section *table = NN_NEW_ARRAY(m->arena, elf_section, count);
  elf_header header = *like;
  to->size = sizeof header;
  put_contents(m, to, table);
  put_relas(m, to, table, 1 + m->nout, symtab);
  elf_section *s = &table[symtab];
  *s = (elf_section){.name = add_string(m, ".symtab"), .type = SHT_SYMTAB, .link = (uint32_t)(symtab + 1)};
  s->info = (uint32_t)m->nlocals;
  s->align = 8;
  s->entsize = sizeof(elf_symbol);
  s->size = (uint64_t)(m->nlocals + m->nglobals) * sizeof(elf_symbol);
  s->offset = put(to, m->locals, (uint64_t)m->nlocals * sizeof(elf_symbol), 8);
  put(to, m->globals, (uint64_t)m->nglobals * sizeof(elf_symbol), 8);
  table[symtab + 1] = (elf_section){.name = add_string(m, ".strtab"), .type = SHT_STRTAB, .align = 1};
  for (int i = 0; i < m->nout; i++) table[1 + i].name = add_string(m, m->out[i].name);
  table[symtab + 1].size = m->nstrings;
  table[symtab + 1].offset = put(to, m->strings, m->nstrings, 1);
  header.shoff = put(to, table, (uint64_t)count * sizeof *table, 8);
  header.shnum = (uint16_t)count;
  header.shstrndx = (uint16_t)(symtab + 1);
  if (to->bytes) memcpy(to->bytes, &header, sizeof header);
}

/* Twice: the first time counts. */
static bool write_image(merger *m, nn_object *result) {
  image counted = {0};
  size_t nstrings = m->nstrings;
  put_all(m, &counted, &m->inputs[0].file.header);
  m->nstrings = nstrings;
  image written = {.bytes = calloc(1, (size_t)counted.size)};
  if (!written.bytes) return false;
  put_all(m, &written, &m->inputs[0].file.header);
  result->bytes = written.bytes;
  result->size = (size_t)written.size;
  return true;
}

static bool merge(merger *m, nn_object *result) {
  for (int i = 0; i < m->ninputs; i++) {
    if (m->inputs[i].file.header.machine != m->inputs[0].file.header.machine) return false;
    if (!join_sections(m, &m->inputs[i])) return false;
  }
  add_string(m, "");
  add_local(m, (elf_symbol){0}, "");
  add_section_symbols(m);
  for (int i = 0; i < m->ninputs; i++)
    if (!add_definitions(m, &m->inputs[i])) return false;
  for (int i = 0; i < m->ninputs; i++)
    if (!resolve(m, &m->inputs[i])) return false;
  for (int i = 0; i < m->ninputs; i++)
    if (!move_relas(m, &m->inputs[i])) return false;
  return write_image(m, result);
}

nn_status nn_objects_merge(const nn_object *objects, int count, nn_object *result, nn_diags *diags) {
  merger m = {.arena = nn_arena_new(), .ninputs = count};
  if (!m.arena) return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "out of memory");
  m.inputs = NN_NEW_ARRAY(m.arena, input, count);
  m.defined = nn_map_new(m.arena);
  m.sections = nn_map_new(m.arena);
  bool ok = count > 0;
  for (int i = 0; ok && i < count; i++) ok = nn_elf_read(m.arena, &m.inputs[i].file, objects[i].bytes, objects[i].size);
  ok = ok && merge(&m, result);
  nn_arena_free(m.arena);
  return ok ? NN_OK : nn_report(diags, NN_ERROR, NULL, NULL, NULL, "internal: generated objects cannot be merged");
}

bool nn_object_needs(const nn_object *object, nn_arena *arena, nn_map *names) {
  nn_elf file;
  if (!nn_elf_read(arena, &file, object->bytes, object->size)) return false;
  for (uint64_t i = 1; i < nn_elf_symbol_count(&file); i++) {
    elf_symbol s = nn_elf_symbol(&file, i);
    const char *name = nn_elf_symbol_name(&file, &s);
    if (!name) return false;
    if (s.section == SHN_UNDEF) nn_map_put(names, name, (void *)names);
  }
  return true;
}

bool nn_objects_can_merge(const nn_target *t) {
  static const char *const names[] = {"x86_64", "aarch64-", "riscv64"};
  if (!nn_weights_fit_object(t) || t->pointer_bits != 64) return false;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strncmp(t->triple, names[i], strlen(names[i])) == 0) return true;
  return false;
}
