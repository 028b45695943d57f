/* The compiling half of nncc.h: a model to a file, or to code in memory. */
#include "codegen/codegen.h"
#include "codegen/elf.h"
#include "ir/model.h"
#include "passes/passes.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_LEVEL = 2 };
static const int64_t embed_limit = INT64_C(1) << 30; /* weights up to this size go into the object */

/* ---- options ------------------------------------------------------------------------------------- */

static const nncc_compile_options defaults = {.level = -1};

static int level_of(const nncc_compile_options *o) { return o->level < 0 || o->level > 3 ? DEFAULT_LEVEL : o->level; }

static const char *cache_of(const nncc_compile_options *o) { return o->cache ? o->cache : getenv("NNCC_CACHE"); }

/* The last part of a path, and where its suffix begins in it (its end if there is none). */
static const char *stem_of(const char *path, size_t *length) {
  const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path, *dot = strrchr(base, '.');
  *length = dot && dot != base ? (size_t)(dot - base) : strlen(base);
  return base;
}

static const char *name_of(nn_arena *arena, const nncc_compile_options *o, const char *out) {
  if (o->name && *o->name) return nn_c_name(arena, o->name, strlen(o->name));
  if (!out) return "model";
  size_t length = 0;
  const char *stem = stem_of(out, &length);
  return nn_c_name(arena, stem, length);
}

static bool kind_of(const char *out, nn_output_kind *kind) {
  static const struct {
    const char *suffix;
    nn_output_kind kind;
  } rows[] = {
      {".o", NN_OUT_OBJECT}, {".a", NN_OUT_ARCHIVE}, {".so", NN_OUT_SHARED}, {".s", NN_OUT_ASM}, {".ll", NN_OUT_LLVM}};
  size_t length = 0;
  const char *suffix = stem_of(out, &length) + length;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (strcmp(suffix, rows[i].suffix) == 0) {
      *kind = rows[i].kind;
      return true;
    }
  return false;
}

/* out with its suffix replaced. */
static const char *beside(nn_arena *arena, const char *out, const char *suffix) {
  size_t length = 0;
  const char *stem = stem_of(out, &length);
  return nn_sprintf(arena, "%.*s%s", (int)((size_t)(stem - out) + length), out, suffix);
}

static bool is_embedded(const nncc_compile_options *o, const nn_program *p) {
  if (o->weights == NNCC_WEIGHTS_AUTO) return p->weights_bytes <= embed_limit;
  return o->weights == NNCC_WEIGHTS_EMBED;
}

/* ---- from a model to a program ------------------------------------------------------------------- */

/* What the file of the options says, for this CPU. */
static nn_status use_tuning(nn_module *m, const nn_target *t, const nncc_compile_options *o) {
  if (!o->tuning) return NN_OK;
  m->tuning = nn_tuning_read(o->tuning, nn_tuning_cpu(m->arena, t), m->arena, &m->diags);
  return m->tuning ? NN_OK : NN_FAIL;
}

static void tell_tuning(nn_module *m, const nncc_compile_options *o) {
  if (o->tuning)
    nn_report(&m->diags, NN_NOTE, NULL, NULL, NULL, "%s: %d of %d entries are for ops of this model", o->tuning, nn_tuning_used(m->tuning), m->tuning->count);
}

static nn_program *make_program(nncc_model *model, const nn_target *t, const nncc_compile_options *o) {
  nn_module *m = model->module;
  nn_pass_options passes = {
      .print_after = o->print_after, .print_to = stderr, .time_passes = o->time_passes != 0, .no_winograd = o->no_winograd != 0,
      .threads = o->threads};
  if (m->diags.nerrors > 0) return NULL; /* it did not load: said already */
  if (model->finish && !model->is_optimised && model->finish(model) != NN_OK) return NULL;
  model->is_optimised = true;
  if (use_tuning(m, t, o) != NN_OK) return NULL;
  nn_program *p = nn_compile(m, t, level_of(o), o->aliases, &passes);
  if (p) tell_tuning(m, o);
  return p;
}

/* Constants that are made while compiling go into the file that the weights are written to, if that is known
   beforehand and its format allows it. */
static nn_spill *open_spill(nncc_model *model, const nn_target *t, const char *out, nn_output_kind kind,
                            const nncc_compile_options *o) {
  int64_t base = nn_weights_base(t, kind, o->weights == NNCC_WEIGHTS_FILE);
  return base < 0 ? NULL
                  : nn_spill_open(nn_sprintf(model->module->arena, "%s.%ld.constants", out, (long)getpid()), base);
}

/* Code for several CPUs is compiled in parts, which only objects can hold. */
static nn_status check_variants(nncc_model *model, const nn_variants *v, nn_output_kind kind, bool is_tuned) {
  bool is_text = kind == NN_OUT_ASM || kind == NN_OUT_LLVM;
  if (v->count > 1 && is_tuned) return nn_report(&model->module->diags, NN_ERROR, NULL, NULL, "name one CPU", "a tuning is of one CPU");
  if (v->count == 1 || (!is_text && nn_objects_can_merge(&v->items[0]))) return NN_OK;
  return nn_report(&model->module->diags, NN_ERROR, NULL, NULL, "name one CPU",
                   "code for several CPUs goes into .o, .a and .so files of ELF targets only");
}

static nn_status write_files(nncc_model *model, const nn_variants *v, const char *out, nn_output_kind kind,
                             const nncc_compile_options *o, const nn_step_hook *hook, const nn_program **program) {
  nn_arena *arena = model->module->arena;
  const nn_target *t = &v->items[v->count - 1];
  nn_program *p = make_program(model, t, o);
  if (!p || nn_variants_build(p, v, o->aliases) != NN_OK) return NN_FAIL;
  nn_emit_options emit = {.name = name_of(arena, o, out),
                          .level = level_of(o),
                          .threads = o->threads,
                          .cache = cache_of(o),
                          .weights_in_object = is_embedded(o, p),
                          .hook = hook};
  *program = p;
  const char *weights = emit.weights_in_object ? NULL : beside(arena, out, ".weights");
  const char *header = o->header ? o->header : beside(arena, out, ".h");
  NN_TRY(nn_object_write(p, t, &emit, kind, out, weights));
  bool ok = !*header || nn_header_write(p, t, &emit, header, weights) == NN_OK;
  if (ok && o->map) ok = nn_map_write(p, t, &emit, o->map) == NN_OK;
  if (ok) return NN_OK;
  remove(out);
  if (*header) remove(header);
  if (weights) remove(weights);
  return NN_FAIL;
}

nn_status nn_model_compile_hooked(nncc_model *model, const char *out, const nncc_compile_options *options, const nn_step_hook *hook,
                                  const nn_program **program) {
  const nncc_compile_options *o = options ? options : &defaults;
  nn_diags *diags = &model->module->diags;
  nn_output_kind kind = NN_OUT_OBJECT;
  nn_variants variants;
  if (!kind_of(out, &kind)) {
    nn_report(diags, NN_ERROR, NULL, NULL, "give it one of these suffixes",
              "output '%s': expected .o, .a, .so, .s or .ll", out);
    return NN_FAIL;
  }
  NN_TRY(nn_variants_init(&variants, o->target, o->cpu, diags));
  for (int i = 0; i < variants.count; i++) variants.items[i].fp = o->fp;
  nn_status status = check_variants(model, &variants, kind, o->tuning != NULL);
  if (!model->module->spill && status == NN_OK)
    model->module->spill = open_spill(model, &variants.items[0], out, kind, o);
  if (status == NN_OK) status = write_files(model, &variants, out, kind, o, hook, program);
  nn_spill_finish(model->module->spill);
  nn_variants_free(&variants);
  return status;
}

nncc_status nncc_model_compile(nncc_model *model, const char *out, const nncc_compile_options *options) {
  const nn_program *program;
  if (!model || !out) return NNCC_ERROR;
  return nn_model_compile_hooked(model, out, options, NULL, &program) == NN_OK ? NNCC_OK : NNCC_ERROR;
}

/* ---- code in memory ------------------------------------------------------------------------------ */

static void free_jit(void *compiled) { nn_jit_free(compiled); }

static nn_status compile_in_memory(nncc_model *model, const nn_target *t, const nncc_compile_options *o,
                                   const nn_step_hook *hook, const nn_program **program,
                                   const nncc_rt_model **compiled) {
  nn_module *m = model->module;
  nn_program *p = make_program(model, t, o);
  if (!p) return NN_FAIL;
  *program = p;
  if (!model->compiled) {
    model->compiled = nn_jit_new(&m->diags);
    model->free_compiled = free_jit;
  }
  if (!model->compiled) return NN_FAIL;
  nn_emit_options emit = {.name = name_of(m->arena, o, NULL),
                          .level = level_of(o),
                          .threads = o->threads,
                          .cache = cache_of(o),
                          .weights_in_object = true,
                          .hook = hook,
                          .symbols = o->symbols != 0};
  return nn_jit_program(model->compiled, t, p, &emit, compiled);
}

nn_status nn_model_jit_hooked(nncc_model *model, const nncc_compile_options *options, const nn_step_hook *hook,
                              const nn_program **program, const nncc_rt_model **compiled) {
  const nncc_compile_options *o = options ? options : &defaults;
  nn_target target = {0};
  NN_TRY(nn_target_init(&target, NULL, o->cpu, &model->module->diags));
  target.fp = o->fp;
  nn_status status = compile_in_memory(model, &target, o, hook, program, compiled);
  nn_target_free(&target);
  return status;
}

nncc_status nncc_model_jit(nncc_model *model, const nncc_compile_options *options, const nncc_rt_model **compiled) {
  const nn_program *program;
  if (!model || !compiled) return NNCC_ERROR;
  *compiled = NULL;
  return nn_model_jit_hooked(model, options, NULL, &program, compiled) == NN_OK ? NNCC_OK : NNCC_ERROR;
}
