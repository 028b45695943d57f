/* nncc.h: models as handles. Loading, diagnostics, the end. The graph builder is in builder.c. */
#include "frontend/builder.h"
#include "frontend/onnx.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A handle around the module. The handle lives in the module's arena, so that freeing the module frees it. */
static nncc_model *wrap(nn_module *m) {
  if (!m) return NULL;
  nncc_model *model = NN_NEW(m->arena, nncc_model);
  model->module = m;
  return model;
}

static nncc_status finish_load(nn_module *m, nn_pass_env *env, nncc_model **model) {
  if (m) memset(&m->env, 0, sizeof m->env); /* it was for folding while reading */
  nn_host_env_free(env);
  *model = wrap(m);
  return m && !m->diags.nerrors ? NNCC_OK : NNCC_ERROR;
}

nncc_status nncc_model_load(const char *path, const nncc_load_options *options, nncc_model **model) {
  nn_pass_env env;
  nncc_load_options o = options ? *options : (nncc_load_options){0};
  if (!model) return NNCC_ERROR;
  *model = NULL;
  if (!path) return NNCC_ERROR;
  nn_host_env_init(&env);
  return finish_load(nn_onnx_load(path, o.dims, o.shapes, &env), &env, model);
}

nncc_status nncc_model_load_memory(const char *name, const void *bytes, size_t size_bytes,
                                   const nncc_load_options *options, nncc_model **model) {
  nn_pass_env env;
  nncc_load_options o = options ? *options : (nncc_load_options){0};
  if (!model) return NNCC_ERROR;
  nn_host_env_init(&env);
  return finish_load(nn_onnx_load_memory(name ? name : "model", bytes, size_bytes, o.dims, o.shapes, &env), &env,
                     model);
}

/* ---- IR text ------------------------------------------------------------------------------------------- */

enum { MAX_TEXT_BYTES = 1 << 30 };

/* The whole file; NULL: *reason says why. */
static char *read_file(nn_arena *arena, const char *path, size_t *length, const char **reason) {
  FILE *file = fopen(path, "rb");
  if (!file) {
    *reason = strerror(errno);
    return NULL;
  }
  size_t cap = 1 << 16;
  char *text = nn_alloc(arena, cap);
  *length = 0;
  for (size_t got; (got = fread(text + *length, 1, cap - *length, file)) > 0;) {
    *length += got;
    if (*length < cap || cap >= MAX_TEXT_BYTES) continue;
    char *more = nn_alloc(arena, cap * 4);
    memcpy(more, text, *length);
    text = more;
    cap *= 4;
  }
  if (ferror(file))
    *reason = strerror(errno);
  else if (*length >= MAX_TEXT_BYTES)
    *reason = "it is larger than 1 GiB";
  fclose(file);
  return *reason ? NULL : text;
}

nncc_status nncc_model_parse(const char *path, nncc_model **model) {
  if (!model) return NNCC_ERROR;
  *model = NULL;
  nn_arena *scratch = path ? nn_arena_new() : NULL;
  if (!scratch) return NNCC_ERROR;
  size_t length = 0;
  const char *reason = NULL, *text = read_file(scratch, path, &length, &reason);
  nn_module *m = text ? nn_text_parse(path, text, length) : nn_module_new(path);
  if (m && !text) nn_report(&m->diags, NN_ERROR, NULL, NULL, NULL, "cannot read the file: %s", reason);
  if (m && !m->diags.nerrors) nn_verify(m);
  nn_arena_free(scratch);
  *model = wrap(m);
  return m && !m->diags.nerrors ? NNCC_OK : NNCC_ERROR;
}

/* ---- diagnostics, the end ------------------------------------------------------------------------------ */

int nncc_model_diagnostics(const nncc_model *model) { return model ? model->module->diags.count : 0; }

const char *nncc_model_diagnostic(const nncc_model *model, int i, int *severity) {
  if (!model || i < 0 || i >= model->module->diags.count) return NULL;
  const nn_diag *d = &model->module->diags.items[i];
  char *text = NULL;
  size_t size_bytes = 0;
  if (severity) *severity = (int)d->severity;
  FILE *out = open_memstream(&text, &size_bytes);
  if (!out) return d->message;
  nn_diag_print(out, d);
  fclose(out);
  while (size_bytes && text[size_bytes - 1] == '\n') size_bytes--;
  const char *copy = nn_strndup(model->module->arena, text, size_bytes);
  free(text);
  return copy;
}

nncc_model *nncc_model_new(const char *name) {
  nncc_model *model = wrap(nn_module_new(name));
  if (model) nn_builder_init(model);
  return model;
}

void nncc_model_free(nncc_model *model) {
  if (!model) return;
  if (model->compiled) model->free_compiled(model->compiled);
  nn_module_free(model->module);
}
