#include "load.h"

#include <stdlib.h>
#include <string.h>

/* The bytes of the models that live, found by module: a model is loaded from memory that must stay. */
static struct {
  nn_module *m;
  pb bytes;
} loaded[16];

static nn_module *keep(nn_module *m, pb bytes) {
  for (size_t i = 0; i < sizeof loaded / sizeof *loaded; i++) {
    if (loaded[i].m) continue;
    loaded[i].m = m;
    loaded[i].bytes = bytes;
    return m;
  }
  cr_assert_fail("too many models at once");
  return m;
}

nn_module *load_pb(pb model) {
  return keep(nn_onnx_load_memory("test", model.data, model.size, NULL, NULL, NULL), model);
}

nn_module *load_pinned(const char *text, const char *const *dims, const char *const *shapes) {
  pb model = write_model(text);
  return keep(nn_onnx_load_memory("test", model.data, model.size, dims, shapes, NULL), model);
}

nn_module *load_text(const char *text) { return load_pinned(text, NULL, NULL); }

void free_module(nn_module *m) {
  for (size_t i = 0; i < sizeof loaded / sizeof *loaded; i++) {
    if (loaded[i].m != m) continue;
    nn_module_free(m);
    pb_free(&loaded[i].bytes);
    loaded[i].m = NULL;
  }
}

int count_diags(const nn_module *m, const char *part) {
  int count = 0;
  for (int i = 0; i < m->diags.count; i++) count += strstr(m->diags.items[i].message, part) != NULL;
  return count;
}

const char *all_diags(nn_module *m) {
  const char *text = m->diags.count ? "" : "nothing";
  for (int i = 0; i < m->diags.count; i++) {
    const nn_diag *d = &m->diags.items[i];
    text = nn_sprintf(m->arena, "%s\n  %s (%s): %s", text, d->node ? d->node : "-", d->op ? d->op : "-", d->message);
  }
  return text;
}

const char *result_type(nn_module *m, int i) {
  nn_op *op = m->main ? nn_graph_return(m->main) : NULL;
  return op && i < op->nin ? nn_type_text(m->arena, op->in[i]->type) : "no result";
}

bool has_op(const nn_module *m, const char *op) {
  for (const nn_op *o = m->main->first; o; o = o->next)
    if (strcmp(nn_op_infos[o->code].text, op) == 0) return true;
  return false;
}

void expect_failure(const char *text, const char *part) {
  nn_module *m = load_text(text);
  cr_expect(m->diags.nerrors == 1, "expected one error: %s\nfound: %s", part, all_diags(m));
  EXPECT_DIAG(m, part);
  free_module(m);
}

void expect_type(const char *text, const char *type) {
  nn_module *m = load_text(text);
  EXPECT_OK(m);
  if (!m->diags.nerrors) {
    cr_expect(nn_verify(m) == NN_OK, "%s", all_diags(m));
    cr_expect_str_eq(result_type(m, 0), type, "%s: expected %s", result_type(m, 0), type);
  }
  free_module(m);
}
