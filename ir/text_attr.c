/* Text of the graph IR: attributes, "{name=value, ..}". The kind of each value is known from ops.def, so
   the text carries no kinds; attributes that have their default are not printed. */
#include "ir/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- printing ----------------------------------------------------------------------------------- */

static bool has_default(const nn_attr *attr, const nn_attr_info *info) {
  switch (info->kind) {
  case NN_ATTR_INT: return *info->fallback && attr->i == strtoll(info->fallback, NULL, 10);
  case NN_ATTR_FLOAT: {
    double fallback = strtod(info->fallback, NULL);
    return memcmp(&fallback, &attr->f, sizeof fallback) == 0;
  }
  case NN_ATTR_STR: return !attr->s || strcmp(attr->s, info->fallback) == 0;
  case NN_ATTR_GRAPH: return !attr->graph;
  case NN_ATTR_DTYPE: return false;
  default: return attr->count == 0;
  }
}

static void print_item(nn_printer *p, const nn_attr *attr, int i) {
  switch (attr->kind) {
  case NN_ATTR_INTS: fprintf(p->out, "%" PRId64, attr->ints[i]); break;
  case NN_ATTR_FLOATS: nn_print_float(p->out, NN_F64, attr->floats[i]); break;
  case NN_ATTR_STRS: fputs(nn_text_quote(p->scratch, attr->strs[i]), p->out); break;
  case NN_ATTR_DIMS: nn_print_dim(p, attr->dims[i]); break;
  default: break;
  }
}

static void print_list(nn_printer *p, const nn_attr *attr) {
  fputc('[', p->out);
  for (int i = 0; i < attr->count; i++) {
    if (i) fputs(", ", p->out);
    print_item(p, attr, i);
  }
  fputc(']', p->out);
}

static const char *graph_name(nn_printer *p, const nn_graph *g) {
  const char *name = nn_map_get_ptr(p->graph_names, g);
  return name ? name : nn_print_name(p, '@', g->name);
}

static void print_value(nn_printer *p, const nn_attr *attr) {
  switch (attr->kind) {
  case NN_ATTR_INT: fprintf(p->out, "%" PRId64, attr->i); break;
  case NN_ATTR_FLOAT: nn_print_float(p->out, NN_F64, attr->f); break;
  case NN_ATTR_STR: fputs(nn_text_quote(p->scratch, attr->s), p->out); break;
  case NN_ATTR_DTYPE:
    fputs(attr->i >= 0 && attr->i < NN_DTYPE_COUNT ? nn_dtype_name((nn_dtype)attr->i) : "?", p->out);
    break;
  case NN_ATTR_GRAPH: fputs(graph_name(p, attr->graph), p->out); break;
  default: print_list(p, attr); break;
  }
}

void nn_print_attrs(nn_printer *p, const nn_op *op) {
  const nn_op_info *info = &nn_op_infos[op->code];
  const char *separator = " {";
  for (int i = 0; i < info->nattrs; i++) {
    const nn_attr *attr = &op->attrs[i];
    if (!attr->is_set || has_default(attr, &info->attrs[i])) continue;
    fprintf(p->out, "%s%s=", separator, info->attrs[i].name);
    print_value(p, attr);
    separator = ", ";
  }
  if (*separator == ',') fputc('}', p->out);
}

/* ---- parsing ------------------------------------------------------------------------------------ */

/* Lists of one kind, collected before they are copied into the op. */
typedef struct list {
  int64_t *ints;
  double *floats;
  const char **strs;
  nn_dim *dims;
  int count, cap;
} list;

static nn_status parse_item(nn_lexer *lex, nn_attr_kind kind, list *l) {
  nn_arena *arena = lex->m->arena;
  int64_t i = 0;
  double f = 0;
  char *s = NULL;
  nn_dim d = NULL;
  switch (kind) {
  case NN_ATTR_INTS:
    NN_TRY(nn_lex_int(lex, &i));
    NN_PUSH(arena, l->ints, l->count, l->cap, i);
    break;
  case NN_ATTR_FLOATS:
    NN_TRY(nn_lex_float(lex, &f));
    NN_PUSH(arena, l->floats, l->count, l->cap, f);
    break;
  case NN_ATTR_STRS:
    NN_TRY(nn_lex_string(lex, "a string", &s));
    NN_PUSH(arena, l->strs, l->count, l->cap, s);
    break;
  default:
    NN_TRY(nn_lex_dim(lex, &d));
    NN_PUSH(arena, l->dims, l->count, l->cap, d);
    break;
  }
  return NN_OK;
}

static nn_status parse_list(nn_lexer *lex, nn_op *op, const nn_attr_info *info) {
  list l = {0};
  NN_TRY(nn_lex_expect(lex, '[', "'='"));
  while (!nn_lex_take(lex, ']')) {
    if (l.count) NN_TRY(nn_lex_expect(lex, ',', "an item"));
    NN_TRY(parse_item(lex, info->kind, &l));
  }
  switch (info->kind) {
  case NN_ATTR_INTS: nn_set_ints(op, info->name, l.ints, l.count); break;
  case NN_ATTR_FLOATS: nn_set_floats(op, info->name, l.floats, l.count); break;
  case NN_ATTR_STRS: nn_set_strs(op, info->name, l.strs, l.count); break;
  default: nn_set_dims(op, info->name, l.dims, l.count); break;
  }
  return NN_OK;
}

static nn_status parse_graph(nn_lexer *lex, nn_op *op, const char *attr_name) {
  char *name;
  nn_lex_skip(lex);
  const char *at = lex->at;
  NN_TRY(nn_lex_expect(lex, '@', "'='"));
  NN_TRY(nn_lex_name(lex, "the name of a graph", &name, NULL));
  int first = lex->m->diags.count;
  nn_graph *graph = lex->find_graph(lex, name);
  if (!graph && lex->m->diags.count == first) return nn_lex_fail(lex, at, "graph @%s has errors of its own", name);
  if (!graph) return NN_FAIL;
  nn_set_graph(op, attr_name, graph);
  return NN_OK;
}

static nn_status parse_value(nn_lexer *lex, nn_op *op, const nn_attr_info *info) {
  int64_t i;
  double f;
  char *s;
  nn_dtype t;
  switch (info->kind) {
  case NN_ATTR_INT:
    NN_TRY(nn_lex_int(lex, &i));
    nn_set_int(op, info->name, i);
    return NN_OK;
  case NN_ATTR_FLOAT:
    NN_TRY(nn_lex_float(lex, &f));
    nn_set_float(op, info->name, f);
    return NN_OK;
  case NN_ATTR_STR:
    NN_TRY(nn_lex_string(lex, "a string", &s));
    nn_set_str(op, info->name, s);
    return NN_OK;
  case NN_ATTR_DTYPE:
    NN_TRY(nn_lex_dtype(lex, &t));
    nn_set_int(op, info->name, t);
    return NN_OK;
  case NN_ATTR_GRAPH: return parse_graph(lex, op, info->name);
  default: return parse_list(lex, op, info);
  }
}

static const nn_attr_info *find_attr(const nn_op *op, const char *name, int *index) {
  const nn_op_info *info = &nn_op_infos[op->code];
  for (*index = 0; *index < info->nattrs; ++*index)
    if (strcmp(info->attrs[*index].name, name) == 0) return &info->attrs[*index];
  return NULL;
}

static const char *attr_names(nn_arena *arena, const nn_op *op) {
  const nn_op_info *info = &nn_op_infos[op->code];
  const char *names = info->nattrs ? "" : "none";
  for (int i = 0; i < info->nattrs; i++) names = nn_sprintf(arena, "%s%s%s", names, i ? " " : "", info->attrs[i].name);
  return names;
}

static nn_status parse_attr(nn_lexer *lex, nn_op *op) {
  char *name;
  int index;
  nn_lex_skip(lex);
  const char *at = lex->at;
  NN_TRY(nn_lex_name(lex, "an attribute", &name, NULL));
  const nn_attr_info *info = find_attr(op, name, &index);
  if (!info)
    return nn_lex_fail(lex, at, "%s has no attribute '%s', expected one of: %s", nn_op_infos[op->code].text, name,
                       attr_names(lex->m->arena, op));
  if (op->attrs[index].is_set) return nn_lex_fail(lex, at, "attribute '%s' is given twice", name);
  NN_TRY(nn_lex_expect(lex, '=', "the attribute"));
  return parse_value(lex, op, info);
}

nn_status nn_parse_attrs(nn_lexer *lex, nn_op *op) {
  if (!nn_lex_take(lex, '{')) return NN_OK;
  for (int count = 0; !nn_lex_take(lex, '}'); count++) {
    if (count) NN_TRY(nn_lex_expect(lex, ',', "an attribute"));
    NN_TRY(parse_attr(lex, op));
  }
  return NN_OK;
}

static nn_graph *refuse_graph(nn_lexer *lex, const char *name) {
  nn_lex_fail(lex, lex->at, "graph @%s: an attribute given on its own cannot name a graph", name);
  return NULL;
}

nn_status nn_text_parse_attrs(nn_op *op, const char *text) {
  nn_module *m = op->graph->module;
  nn_lexer lex = {.m = m, .text = nn_sprintf(m->arena, "{%s}", text), .find_graph = refuse_graph};
  lex.at = lex.text;
  lex.end = lex.text + strlen(lex.text);
  nn_c_locale saved = nn_enter_c_locale();
  nn_status status = nn_parse_attrs(&lex, op);
  if (status == NN_OK) status = nn_lex_end_line(&lex);
  nn_leave_c_locale(saved);
  return status;
}
