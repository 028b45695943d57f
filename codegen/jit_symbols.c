/* The names of code in memory for perf, which looks into /tmp/perf-PID.map: a line for each function, address, size and
   name. The code generator's object knows where in their section the functions lie; one address says where the section
   went. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "codegen/elf.h"
#include "codegen/llvm.h"

enum { TYPE_FUNCTION = 2, TYPE_MASK = 15 };

static bool find_symbol(const nn_elf *f, const char *name, elf_symbol *found) {
  for (uint64_t i = 0; i < nn_elf_symbol_count(f); i++) {
    *found = nn_elf_symbol(f, i);
    const char *text = nn_elf_symbol_name(f, found);
    if (text && strcmp(text, name) == 0) return true;
  }
  return false;
}

static void put_functions(FILE *out, const nn_elf *f, const elf_symbol *known, uintptr_t address) {
  for (uint64_t i = 0; i < nn_elf_symbol_count(f); i++) {
    elf_symbol s = nn_elf_symbol(f, i);
    const char *name = nn_elf_symbol_name(f, &s);
    if ((s.info & TYPE_MASK) != TYPE_FUNCTION || s.section != known->section || !name) continue;
    fprintf(out, "%" PRIx64 " %" PRIx64 " %s\n", (uint64_t)address + s.value - known->value, s.size, name);
  }
}

/* Others may write to the folder: a link that somebody put there is not followed. */
static FILE *open_map(const char *path) {
  int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
  FILE *out = file < 0 ? NULL : fdopen(file, "a");
  if (!out && file >= 0) close(file);
  return out;
}

nn_status nn_perf_map_add(const nn_object *object, const char *symbol, const void *address, nn_diags *diags) {
  char path[64];
  snprintf(path, sizeof path, "/tmp/perf-%ld.map", (long)getpid());
  nn_arena *arena = nn_arena_new();
  if (!arena) return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "out of memory");
  nn_elf file;
  elf_symbol known;
  bool is_found = nn_elf_read(arena, &file, object->bytes, object->size) && find_symbol(&file, symbol, &known);
  FILE *out = is_found ? open_map(path) : NULL;
  if (out) put_functions(out, &file, &known, (uintptr_t)address);
  bool ok = out && fclose(out) == 0;
  nn_arena_free(arena);
  if (ok) return NN_OK;
  return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "cannot write '%s': %s", path,
                   is_found ? strerror(errno) : "the code is no ELF object");
}
