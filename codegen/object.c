/* Writing compiled models. Everything goes to temporary files next to the outputs, which are renamed when
   all is done: nobody sees half an object. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "codegen/elf.h"
#include "codegen/llvm.h"

typedef struct writing {
  nn_program *p;
  const nn_target *target;
  const nn_emit_options *options;
  nn_output_kind kind;
  nn_out_file out, weights; /* weights.path NULL: embedded */
  nn_diags *diags;
  nn_arena *arena;
  bool is_linked;     /* the output is there without a linker */
  nn_out_file object; /* what the code generator writes: out, or what out is made from */
} writing;

static bool is_identifier(const char *name) {
  if (!name || !*name || (*name >= '0' && *name <= '9')) return false;
  return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == strlen(name);
}

static bool holds_numbers(const writing *w) {
  return w->kind == NN_OUT_ASM || w->kind == NN_OUT_LLVM || !nn_weights_fit_object(w->target);
}

/* The object, or at once the shared object that it makes. */
static nn_status write_code(writing *w, nn_object *object, bool has_weights) {
  nn_status status = NN_OK;
  w->is_linked = w->kind == NN_OUT_SHARED && nn_weights_fit_object(w->target) &&
                 nn_shared_write(w->p, object, has_weights, w->out, w->diags, &status);
  if (w->is_linked) return status;
  return has_weights ? nn_weights_append(w->p, object->bytes, object->size, w->object, w->diags)
                     : nn_file_write(w->object, object->bytes, object->size, w->diags);
}

/* LLVM writes to memory only: on a full disk it would end the process. */
static nn_status emit(writing *w, uint64_t hash) {
  nn_linkage linkage = {
      .symbol = w->options->name, .embedded = !w->weights.path, .is_reserved = !holds_numbers(w), .hash = hash};
  bool is_text = w->kind == NN_OUT_ASM || w->kind == NN_OUT_LLVM,
       has_weights = linkage.embedded && w->p->weights_bytes > 0;
  nn_object object = {0};
  nn_status status = is_text ? nn_program_text(w->p, w->target, w->options, &linkage, w->kind, w->diags, &object)
                             : nn_program_object(w->p, w->target, w->options, &linkage, w->diags, &object);
  if (status == NN_OK) status = write_code(w, &object, has_weights && linkage.is_reserved);
  w->p->stack_bytes = nn_frames_stack(&object.frames);
  nn_object_free(&object);
  return status;
}

static nn_status wrap(writing *w) {
  const char *name = w->options->name;
  const char *symbols[6] = {name, nn_sprintf(w->arena, "%s_run", name),
                            nn_sprintf(w->arena, "%s_workspace_size", name),
                            nn_sprintf(w->arena, "%s_output_dims", name)};
  int nsymbols = 4;
  if (nn_program_is_plain(w->p)) symbols[nsymbols++] = nn_sprintf(w->arena, "%s_infer", name);
  if (w->p->narrower) symbols[nsymbols++] = nn_sprintf(w->arena, "%s_init", name);
  if (w->kind == NN_OUT_ARCHIVE) return nn_archive_write(w->object.temporary, w->out, symbols, nsymbols, w->diags);
  return nn_shared_link(w->object.temporary, w->out, w->target, w->diags);
}

static nn_status finish_file(writing *w, nn_out_file file) {
  return rename(file.temporary, file.path) == 0 ? NN_OK : nn_out_failed(w->diags, file);
}

static nn_status write_all(writing *w) {
  uint64_t hash = w->weights.path ? nn_weights_hash(w->p) : 0;
  NN_TRY(emit(w, hash));
  if (w->object.temporary != w->out.temporary && !w->is_linked) NN_TRY(wrap(w));
  if (!w->weights.path) return finish_file(w, w->out);
  NN_TRY(nn_weights_write_file(w->p, hash, w->weights, w->diags));
  NN_TRY(finish_file(w, w->weights));
  if (finish_file(w, w->out) == NN_OK) return NN_OK;
  remove(w->weights.path); /* all or nothing */
  return NN_FAIL;
}

/* In the same folder, so that it can be renamed; the process number keeps two compilers apart. */
static const char *temporary_name(writing *w, const char *path, const char *suffix) {
  return path ? nn_sprintf(w->arena, "%s.%ld.%s", path, (long)getpid(), suffix) : NULL;
}

static void remove_file(const char *path) {
  if (path) remove(path);
}

nn_status nn_object_write(nn_program *p, const nn_target *t, const nn_emit_options *options, nn_output_kind kind,
                          const char *path, const char *weights_path) {
  nn_diags *diags = &p->module->diags;
  if (!is_identifier(options->name))
    return nn_report(diags, NN_ERROR, NULL, NULL, NULL,
                     "model name '%s': expected letters, digits and _, no digit first",
                     options->name ? options->name : "");
  if (p->weights_bytes == 0) weights_path = NULL;
  writing w = {.p = p, .target = t, .options = options, .kind = kind, .diags = diags, .arena = nn_arena_new()};
  if (!w.arena) return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "out of memory");
  bool is_wrapped = kind == NN_OUT_ARCHIVE || kind == NN_OUT_SHARED;
  w.out = (nn_out_file){path, temporary_name(&w, path, "tmp")};
  w.object = is_wrapped ? (nn_out_file){path, temporary_name(&w, path, "o")} : w.out;
  w.weights = (nn_out_file){weights_path, temporary_name(&w, weights_path, "tmp")};
  nn_status status = write_all(&w);
  if (status != NN_OK) {
    remove_file(w.out.temporary);
    remove_file(w.weights.temporary);
  }
  if (is_wrapped) remove_file(w.object.temporary);
  nn_arena_free(w.arena);
  return status;
}

static nn_status emit_assembly(nn_emod *e, const nn_kernel *k, nn_arena *arena, char **text) {
  nn_v fn = nn_emit_kernel(e, k);
  if (!fn) return NN_FAIL;
  LLVMSetLinkage(fn, LLVMExternalLinkage); /* nobody calls it here */
  nn_object code = {0};
  NN_TRY(nn_emod_finish(e));
  NN_TRY(nn_emod_code(e, LLVMAssemblyFile, &code));
  *text = nn_strndup(arena, (const char *)code.bytes, code.size);
  nn_object_free(&code);
  return NN_OK;
}

nn_status nn_kernel_assembly(const nn_target *t, const nn_kernel *k, nn_arena *arena, char **text) {
  nn_emod e;
  nn_status status = nn_emod_init(&e, t, &k->module->diags, 2);
  if (status == NN_OK) status = emit_assembly(&e, k, arena, text);
  nn_emod_free(&e);
  return status;
}
