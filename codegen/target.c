/* The machine as data: from a triple and a CPU name to the few facts that schedules and the emitter ask
   for. CPU names are rows of a table, because LLVM itself only prints a warning for a name it does not
   know; the facts follow from the row's level. The host's level comes from its feature list. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/llvm.h"

typedef enum arch { X86_64, AARCH64, THUMB, RISCV64, WASM32, ARCH_COUNT } arch;

/* What every CPU of an architecture shares. */
typedef struct arch_row {
  const char *prefix;   /* of the triple's first part */
  const char *alias;    /* accepted in place of a triple */
  const char *triple;   /* what the alias means */
  const char *baseline; /* CPU when none is named */
  const char *features; /* always added */
  int pointer_bits;
  bool unaligned_ok;
  int l1_bytes, l2_bytes, l3_bytes;
} arch_row;

static const arch_row arches[ARCH_COUNT] = {
    [X86_64] = {"x86_64", "x86-64", "x86_64-unknown-linux-gnu", "x86-64", "", 64, true, 32 << 10, 512 << 10, 2 << 20},
    [AARCH64] = {"aarch64", "arm64", "aarch64-unknown-linux-gnu", "generic", "", 64, true, 32 << 10, 512 << 10,
                 1 << 20},
    [THUMB] = {"thumb", "cortex-m", "thumbv7em-none-eabihf", "cortex-m4", "", 32, false, 16 << 10, 64 << 10, 64 << 10},
    [RISCV64] = {"riscv64", "riscv", "riscv64-unknown-linux-gnu", "generic-rv64", "+m,+a,+f,+d,+c", 64, false, 32 << 10,
                 256 << 10, 1 << 20},
    [WASM32] = {"wasm32", "wasm", "wasm32-unknown-unknown", "generic", "+simd128", 32, true, 32 << 10, 256 << 10,
                1 << 20},
};

/* CPUs that do the same. Levels: x86-64 has its v1 to v4; thumb: 1 single precision FPv4, 2 single precision
   FPv5, 3 double precision FPv5; the others have one level. */
typedef struct cpu_row {
  arch arch;
  int level;
  const char *names;
} cpu_row;

static const cpu_row cpus[] = {
    {X86_64, 1, "x86-64 core2 penryn"},
    {X86_64, 2, "x86-64-v2 nehalem westmere sandybridge ivybridge silvermont goldmont goldmont-plus tremont btver2"},
    {X86_64, 3,
     "x86-64-v3 haswell broadwell skylake alderlake raptorlake meteorlake arrowlake lunarlake gracemont sierraforest "
     "bdver4 znver1 znver2 znver3"},
    {X86_64, 4,
     "x86-64-v4 skylake-avx512 cascadelake cooperlake icelake-client icelake-server tigerlake rocketlake "
     "sapphirerapids emeraldrapids graniterapids znver4 znver5"},
    {AARCH64, 1,
     "generic cortex-a53 cortex-a55 cortex-a57 cortex-a72 cortex-a73 cortex-a75 cortex-a76 cortex-a78 cortex-a510 "
     "cortex-a710 cortex-x1 cortex-x2 neoverse-n1 neoverse-n2 neoverse-v1 neoverse-v2 apple-a14 ampere1 a64fx"},
    {THUMB, 1, "cortex-m4"},
    {THUMB, 2, "cortex-m33 cortex-m35p"},
    {THUMB, 3, "cortex-m7 cortex-m55 cortex-m85"},
    {RISCV64, 1, "generic-rv64 sifive-u54 sifive-u74 sifive-s76 rocket-rv64"},
    {WASM32, 1, "generic bleeding-edge"},
};
enum { NCPUS = (int)(sizeof cpus / sizeof cpus[0]) };

static char *copy_text(const char *text) {
  size_t size = strlen(text) + 1;
  char *copy = malloc(size);
  if (copy) memcpy(copy, text, size);
  return copy;
}

static void init_llvm(arch a) {
  switch (a) {
#define INIT(code, NAME)                                                                                               \
  case code:                                                                                                           \
    LLVMInitialize##NAME##TargetInfo();                                                                                \
    LLVMInitialize##NAME##Target();                                                                                    \
    LLVMInitialize##NAME##TargetMC();                                                                                  \
    LLVMInitialize##NAME##AsmPrinter();                                                                                \
    LLVMInitialize##NAME##AsmParser();                                                                                 \
    break;
    INIT(X86_64, X86)
    INIT(AARCH64, AArch64)
    INIT(THUMB, ARM)
    INIT(RISCV64, RISCV)
    INIT(WASM32, WebAssembly)
#undef INIT
  case ARCH_COUNT: break;
  }
}

/* The architecture of a triple or alias; ARCH_COUNT if it is none of ours. */
static arch find_arch(const char *triple, bool *is_alias) {
  arch found = ARCH_COUNT;
  *is_alias = false;
  for (int a = 0; a < ARCH_COUNT; a++) {
    if (strncmp(triple, arches[a].prefix, strlen(arches[a].prefix)) == 0) found = (arch)a;
    if (strcmp(triple, arches[a].alias) != 0 && strcmp(triple, arches[a].prefix) != 0) continue;
    *is_alias = true;
    return (arch)a;
  }
  return found;
}

static bool has_word(const char *words, const char *word) {
  size_t n = strlen(word);
  for (const char *at = words; (at = strstr(at, word)) != NULL; at++)
    if ((at == words || at[-1] == ' ') && (at[n] == ' ' || at[n] == 0)) return true;
  return false;
}

/* ARCH_COUNT: of any. */
static const cpu_row *find_cpu(arch a, const char *name) {
  if (*name == 0 || strchr(name, ' ')) return NULL;
  for (int i = 0; i < NCPUS; i++)
    if ((a == ARCH_COUNT || cpus[i].arch == a) && has_word(cpus[i].names, name)) return &cpus[i];
  return NULL;
}

static bool has_feature(const char *features, const char *name) {
  size_t n = strlen(name);
  for (const char *at = features; (at = strchr(at, '+')) != NULL; at++)
    if (strncmp(at + 1, name, n) == 0 && (at[n + 1] == ',' || at[n + 1] == 0)) return true;
  return false;
}

static bool has_features(const char *features, const char *const *names) {
  for (; *names; names++)
    if (!has_feature(features, *names)) return false;
  return true;
}

static int level_of_features(arch a, const char *features) {
  static const char *const v4[] = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd", NULL};
  static const char *const v3[] = {"avx2", "fma", "f16c", "bmi2", NULL};
  static const char *const v2[] = {"sse4.1", "ssse3", "popcnt", NULL};
  if (a != X86_64) return 1;
  if (has_features(features, v3)) return has_features(features, v4) ? 4 : 3;
  return has_features(features, v2) ? 2 : 1;
}

/* CPUs that take two steps for a vector of their widest kind. */
static bool multiplies_in_halves(const char *cpu) {
  static const char *const names[] = {"znver1", "znver4"};
  for (size_t i = 0; cpu && i < sizeof names / sizeof *names; i++)
    if (strcmp(cpu, names[i]) == 0) return true;
  return false;
}

/* CPUs that add in units beside those that multiply, both as wide as vectors are fast. With 16 registers there is no use for it. Measured on znver4;
   of znver5 its documentation says so. */
static bool adds_aside(const char *cpu) {
  static const char *const names[] = {"znver4", "znver5"};
  for (size_t i = 0; cpu && i < sizeof names / sizeof *names; i++)
    if (strcmp(cpu, names[i]) == 0) return true;
  return false;
}

static void set_x86_facts(nn_target *t, int level) {
  t->vector_bytes = level >= 4 ? 64 : level >= 3 ? 32 : 16;
  t->vector_registers = level >= 4 ? 32 : 16;
  t->half_vectors = multiplies_in_halves(t->cpu);
  t->adds_aside = level >= 4 && adds_aside(t->cpu);
  t->has_fma = t->has_f16_convert = t->has_masked_memory = level >= 3;
  t->has_lookup = level >= 4;
  t->has_round = level >= 2;
  t->has_sqrt_f64 = true;
}

static void set_facts(nn_target *t, arch a, int level) {
  const arch_row *row = &arches[a];
  t->level = level;
  t->pointer_bits = row->pointer_bits;
  t->unaligned_ok = row->unaligned_ok;
  t->is_little_endian = true;
  t->l1_bytes = row->l1_bytes;
  t->l2_bytes = row->l2_bytes;
  t->l3_bytes = row->l3_bytes;
  t->has_fma = a != WASM32;
  t->vector_bytes = a == AARCH64 || a == WASM32 ? 16 : 4;
  t->vector_registers = a == AARCH64 || a == RISCV64 ? 32 : 16;
  t->has_f16_convert = a == AARCH64 || a == THUMB;
  t->has_round = a == AARCH64 || a == WASM32 || (a == THUMB && level >= 2);
  t->has_sqrt_f64 = a != THUMB || level >= 3;
  if (a == X86_64) set_x86_facts(t, level);
}

static long read_cache_number(int index, const char *what, char *text, size_t size) {
  char path[128];
  snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, what);
  FILE *file = fopen(path, "r");
  if (!file) return -1;
  bool ok = fgets(text, (int)size, file) != NULL;
  fclose(file);
  return ok ? strtol(text, NULL, 10) : -1;
}

/* CPUs in a list such as "0-3,8-11". */
static int count_cpus(const char *list) {
  int count = 0;
  while (*list >= '0' && *list <= '9') {
    char *end;
    long first = strtol(list, &end, 10), last = first;
    if (*end == '-') last = strtol(end + 1, &end, 10);
    if (last < first || last - first > 65535) break;
    count += (int)(last - first) + 1;
    list = *end == ',' ? end + 1 : end;
  }
  return count > 0 ? count : 1;
}

static void read_host_caches(nn_target *t) {
  for (int i = 0; i < 8; i++) {
    char text[256];
    long level = read_cache_number(i, "level", text, sizeof text);
    if (level < 0) break;
    if (read_cache_number(i, "type", text, sizeof text) < 0 || text[0] == 'I') continue;
    long kib = read_cache_number(i, "size", text, sizeof text);
    if (kib <= 0 || kib > INT_MAX / 1024) continue;
    if (strchr(text, 'M')) kib = kib > INT_MAX / 1024 / 1024 ? INT_MAX / 1024 : kib * 1024;
    int sharing = read_cache_number(i, "shared_cpu_list", text, sizeof text) < 0 ? 1 : count_cpus(text);
    int bytes = (int)kib * 1024;
    if (level == 1) t->l1_bytes = bytes;
    if (level == 2) t->l2_bytes = bytes;
    if (level == 3) t->l3_bytes = bytes / sharing;
  }
  /* a cloud guest sees the whole socket's cache but few of the cores that share it */
  if (t->l3_bytes > 16 << 20) t->l3_bytes = 16 << 20;
}

static nn_status init_host(nn_target *t, arch a, nn_diags *diags) {
  char *cpu = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
  if (cpu) t->cpu = copy_text(cpu);
  if (features) t->features = copy_text(features);
  LLVMDisposeMessage(cpu);
  LLVMDisposeMessage(features);
  t->name = "native";
  if (!t->cpu || !t->features)
    return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "cannot tell what CPU this machine has");
  set_facts(t, a, level_of_features(a, t->features));
  read_host_caches(t);
  return NN_OK;
}

static nn_status report_cpu(arch a, const char *triple, const char *cpu, nn_diags *diags) {
  char known[1600] = "known: ";
  for (int i = 0; i < NCPUS; i++) {
    if (cpus[i].arch != a) continue;
    size_t used = strlen(known);
    snprintf(known + used, sizeof known - used, "%s ", cpus[i].names);
  }
  return nn_report(diags, NN_ERROR, NULL, NULL, known, "unknown CPU '%s' for %s", cpu, triple);
}

static nn_status init_named(nn_target *t, arch a, const char *cpu, nn_diags *diags) {
  if (!cpu) cpu = arches[a].baseline;
  if (a == X86_64 && strcmp(cpu, "x86-64-v1") == 0) cpu = "x86-64";
  const cpu_row *row = find_cpu(a, cpu);
  if (!row) return report_cpu(a, t->triple, cpu, diags);
  t->cpu = copy_text(cpu);
  t->features = copy_text(arches[a].features);
  t->name = t->cpu;
  set_facts(t, a, row->level);
  return t->cpu && t->features ? NN_OK : nn_report(diags, NN_ERROR, NULL, NULL, NULL, "out of memory");
}

/* With only a CPU name, its architecture is the target: "cortex-m4" needs no triple. */
static const char *triple_of_cpu(const char *cpu, const char *host) {
  bool is_alias;
  arch a = find_arch(host, &is_alias);
  if (a != ARCH_COUNT && find_cpu(a, cpu)) return host;
  const cpu_row *row = find_cpu(ARCH_COUNT, cpu);
  return row && row->arch < ARCH_COUNT ? arches[row->arch].triple : host;
}

static nn_status init_triple(nn_target *t, const char *triple, const char *cpu, bool is_native, nn_diags *diags) {
  bool is_alias;
  arch a = find_arch(triple, &is_alias);
  if (a == ARCH_COUNT && find_cpu(THUMB, triple)) { /* --target cortex-m4 */
    a = THUMB;
    is_alias = true;
    if (!cpu) cpu = triple;
  }
  if (a == ARCH_COUNT)
    return nn_report(diags, NN_ERROR, NULL, NULL, "known: x86_64, aarch64, thumbv7em (cortex-m), riscv64, wasm32",
                     "unknown target '%s'", triple);
  t->triple = copy_text(is_alias ? arches[a].triple : triple);
  if (!t->triple) return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "out of memory");
  init_llvm(a);
  return is_native ? init_host(t, a, diags) : init_named(t, a, cpu, diags);
}

nn_status nn_target_init(nn_target *t, const char *triple, const char *cpu, nn_diags *diags) {
  memset(t, 0, sizeof *t);
  char *host = LLVMGetDefaultTargetTriple();
  bool is_native = !triple && (!cpu || strcmp(cpu, "native") == 0);
  if (triple && cpu && strcmp(cpu, "native") == 0) {
    is_native = strcmp(triple, host) == 0;
    if (!is_native) cpu = NULL;
  }
  if (!triple) triple = is_native ? host : triple_of_cpu(cpu, host);
  nn_status status = init_triple(t, triple, cpu, is_native, diags);
  LLVMDisposeMessage(host);
  if (status != NN_OK) nn_target_free(t);
  return status;
}

void nn_target_free(nn_target *t) {
  if (!t) return;
  free(t->triple);
  free(t->cpu);
  free(t->features);
  t->triple = t->cpu = t->features = NULL;
}

/* Vectors that two registers of 16 bytes hold, and the tiles of 16 registers, are good enough for all of x86-64 and aarch64. Tails are
   masked, in code that a target without masks does one by one; f32 functions do without f64, which not every target has. */
const nn_target *nn_target_of_loops(const nn_target *t, nn_arena *arena) {
  if (t->fp != NNCC_FP_EXACT) return t;
  nn_target *seen = NN_NEW(arena, nn_target);
  *seen = *t;
  seen->vector_bytes = 32;
  seen->vector_registers = 16;
  seen->adds_aside = seen->has_fma = seen->has_sqrt_f64 = seen->has_lookup = false;
  seen->has_masked_memory = seen->has_round = seen->has_f16_convert = seen->unaligned_ok = true;
  seen->l1_bytes = 32 << 10;
  seen->l2_bytes = 512 << 10;
  seen->l3_bytes = 2 << 20;
  return seen;
}

const char *nn_tuning_cpu(nn_arena *arena, const nn_target *t) { return nn_sprintf(arena, "%s %s", t->cpu, t->triple); }

static const char *const fp_names[] = {[NNCC_FP_STRICT] = "strict", [NNCC_FP_EXACT] = "exact", [NNCC_FP_FAST] = "fast"};

const char *nn_fp_name(nncc_fp fp) { return fp_names[fp]; }

bool nn_fp_from_name(const char *name, nncc_fp *fp) {
  for (size_t i = 0; i < sizeof fp_names / sizeof *fp_names; i++)
    if (strcmp(name, fp_names[i]) == 0) {
      *fp = (nncc_fp)i;
      return true;
    }
  return false;
}

int nn_target_lanes(const nn_target *t, nn_dtype dtype) {
  int bytes = nn_dtype_bits(dtype) / 8;
  if (nn_dtype_is_float(dtype) && bytes < 4) bytes = 4;
  if (bytes < 1) bytes = 1;
  return t->vector_bytes / bytes > 1 ? t->vector_bytes / bytes : 1;
}
