/* Text of the graph IR: printing. docs/ir.md has the grammar; text_parse.c reads it back.

   Names come from the model, so they are made unique here where they clash. Values without a name are
   numbered; a name that is all digits is quoted, to tell it from a number. Printing reads the module only,
   except that it may add dims to the module's store. */
#include "ir/text.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- names -------------------------------------------------------------------------------------- */

static bool is_number(const char *name) {
  for (; *name; name++)
    if (!isdigit((unsigned char)*name)) return false;
  return true;
}

const char *nn_print_name(nn_printer *p, char sigil, const char *name) {
  bool is_plain = nn_text_is_name(name) && !is_number(name);
  return nn_sprintf(p->scratch, "%c%s", sigil, is_plain ? name : nn_text_quote(p->scratch, name));
}

/* Takes name, or name.1, name.2 .. for the scope whose names are in p->taken. */
static const char *take_name(nn_printer *p, const char *name) {
  const char *unique = name;
  for (int i = 1; nn_map_get(p->taken, unique); i++) unique = nn_sprintf(p->scratch, "%s.%d", name, i);
  nn_map_put(p->taken, unique, p); /* any pointer: a set */
  return unique;
}

static void name_value(nn_printer *p, char sigil, const nn_value *v, int *number) {
  const char *text =
      v->name ? nn_print_name(p, sigil, take_name(p, v->name)) : nn_sprintf(p->scratch, "%c%d", sigil, (*number)++);
  nn_map_put_ptr(p->value_names, v, (void *)(uintptr_t)text);
}

static void name_module(nn_printer *p) {
  int number = 0;
  p->taken = nn_map_new(p->scratch);
  for (int i = 0; i < p->m->nconsts; i++) name_value(p, '$', p->m->consts[i], &number);
  p->taken = nn_map_new(p->scratch);
  for (const nn_graph *g = p->m->graphs; g; g = g->next)
    nn_map_put_ptr(p->graph_names, g, (void *)(uintptr_t)nn_print_name(p, '@', take_name(p, g->name)));
}

static void name_graph(nn_printer *p, const nn_graph *g) {
  int number = 0;
  p->taken = nn_map_new(p->scratch);
  for (int i = 0; i < g->nparams; i++) name_value(p, '%', g->params[i], &number);
  for (const nn_op *op = g->first; op; op = op->next)
    for (int i = 0; i < op->nout; i++) name_value(p, '%', op->out[i], &number);
}

/* "%?" is what only a broken graph prints: a value of nowhere, or one that is defined later. */
static const char *value_name(nn_printer *p, const nn_value *v) {
  if (!v) return "_";
  const char *name = nn_map_get_ptr(p->value_names, v);
  return name ? name : "%?";
}

/* ---- types -------------------------------------------------------------------------------------- */

/* A dim made before its symbols got their bounds may simplify now; the text shows the form that parsing
   gives, so that text stays the same when it is parsed and printed again. */
void nn_print_dim(nn_printer *p, nn_dim d) { fputs(nn_dim_text(p->scratch, nn_dim_substitute(p->m, d, NULL)), p->out); }

static void print_type(nn_printer *p, nn_type t) {
  fprintf(p->out, "%s[", nn_dtype_name(t.dtype));
  for (int i = 0; i < t.rank; i++) {
    if (i) fputc(',', p->out);
    nn_print_dim(p, t.dims[i]);
  }
  fputc(']', p->out);
  if (t.layout) fprintf(p->out, "/%s", nn_text_is_name(t.layout) ? t.layout : nn_text_quote(p->scratch, t.layout));
}

/* ---- statements --------------------------------------------------------------------------------- */

static void print_symbol(nn_printer *p, const nn_symbol *s) {
  if (s->min == 0 && s->max == INT64_MAX && !s->data_dependent) return;
  fprintf(p->out, "symbol %s", nn_dim_text(p->scratch, nn_dim_symbol(p->m, s->name)));
  if (s->min != 0) fprintf(p->out, " min %" PRId64, s->min);
  if (s->max != INT64_MAX) fprintf(p->out, " max %" PRId64, s->max);
  fprintf(p->out, "%s\n", s->data_dependent ? " data" : "");
}

static void print_const(nn_printer *p, const nn_value *v) {
  fprintf(p->out, "%s %s : ", v->kind == NN_STATE ? "state" : "const", value_name(p, v));
  print_type(p, v->type);
  if (v->tensor) nn_print_contents(p, v->tensor);
  fputc('\n', p->out);
}

static void print_operands(nn_printer *p, const nn_op *op) {
  for (int i = 0; i < op->nin; i++) fprintf(p->out, "%s%s", i ? ", " : " ", value_name(p, op->in[i]));
}

static void print_loc(nn_printer *p, const nn_op *op) {
  bool has_loc = op->loc && *op->loc;
  if (!has_loc && !op->loc_op && !op->rounds) return;
  fprintf(p->out, " loc %s", nn_text_quote(p->scratch, has_loc ? op->loc : ""));
  if (op->loc_op) fprintf(p->out, " %s", nn_text_quote(p->scratch, op->loc_op));
  if (op->rounds) fputs(" rounds", p->out);
}

static void print_op(nn_printer *p, const nn_op *op) {
  fputs("  ", p->out);
  for (int i = 0; i < op->nout; i++) fprintf(p->out, "%s%s", i ? ", " : "", value_name(p, op->out[i]));
  fprintf(p->out, "%s%s", op->nout ? " = " : "", nn_op_infos[op->code].text);
  print_operands(p, op);
  nn_print_attrs(p, op);
  for (int i = 0; i < op->nout; i++) {
    fputs(i ? ", " : " : ", p->out);
    print_type(p, op->out[i]->type);
  }
  print_loc(p, op);
  fputc('\n', p->out);
}

static void print_header(nn_printer *p, const nn_graph *g) {
  fprintf(p->out, "\ngraph %s(", (const char *)nn_map_get_ptr(p->graph_names, g));
  for (int i = 0; i < g->nparams; i++) {
    fprintf(p->out, "%s%s: ", i ? ", " : "", value_name(p, g->params[i]));
    print_type(p, g->params[i]->type);
  }
  fputs(") -> (", p->out);
  const nn_op *results = g->last && g->last->code == NN_OP_RETURN ? g->last : NULL;
  for (int i = 0; results && i < results->nin; i++) {
    if (i) fputs(", ", p->out);
    if (results->in[i]) print_type(p, results->in[i]->type);
  }
  fputs(") {\n", p->out);
}

static void print_graph(nn_printer *p, const nn_graph *g) {
  name_graph(p, g);
  print_header(p, g);
  for (const nn_op *op = g->first; op; op = op->next) print_op(p, op);
  fputs("}\n", p->out);
}

/* ---- exported ----------------------------------------------------------------------------------- */

void nn_text_print(FILE *out, nn_module *m) {
  nn_printer p = {.out = out, .m = m, .scratch = nn_arena_new()};
  if (!p.scratch) return;
  nn_c_locale saved = nn_enter_c_locale();
  p.graph_names = nn_map_new(p.scratch);
  p.value_names = nn_map_new(p.scratch);
  name_module(&p);
  fputs("nncc 1\n", out);
  for (int i = 0; i < m->nsymbols; i++) print_symbol(&p, m->symbols[i]);
  for (int i = 0; i < m->nconsts; i++) print_const(&p, m->consts[i]);
  if (m->main) print_graph(&p, m->main);
  for (const nn_graph *g = m->graphs; g; g = g->next)
    if (g != m->main) print_graph(&p, g);
  nn_leave_c_locale(saved);
  nn_arena_free(p.scratch);
}

char *nn_text_string(nn_arena *arena, nn_module *m) {
  char *text = NULL;
  size_t length = 0;
  FILE *out = open_memstream(&text, &length);
  if (!out) return nn_strdup(arena, "");
  nn_text_print(out, m);
  fclose(out);
  char *copy = text ? nn_strndup(arena, text, length) : nn_strdup(arena, "");
  free(text);
  return copy;
}
