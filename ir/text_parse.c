/* Text of the graph IR: parsing. text_print.c writes it; docs/ir.md has the grammar.

     nncc 1
     symbol N min 1 max 8
     const $b : f32[16] = file "net.onnx" 1728
     graph @main(%x: f32[N,16]) -> (f32[N,16]) {
       %0 = add %x, $b1 : f32[N,16] loc "Add_0" "Add"
       return %0
     }
   First a pass over the module's statements notes where graphs begin; then graphs are parsed, a body
   before the op that names it. Every result type is checked against the shape rule of its op. Text is
   untrusted: nothing in it may crash; errors are collected, a line is skipped after each. */
#include "ir/text.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

enum { MAX_GRAPH_NESTING = 64 };

typedef enum progress { NOT_PARSED, IN_PROGRESS, PARSED, BROKEN } progress;

typedef struct graph_entry {
  nn_graph *graph;
  const char *header; /* after the name */
  progress progress;
  struct graph_entry *next;
} graph_entry;

typedef struct parser {
  nn_lexer lex;
  nn_module *m;
  graph_entry *graphs, **last_graph;
  nn_map *graphs_by_name;
  nn_map *numbered_consts; /* "0" -> $0 */
  nn_graph *graph;         /* being parsed */
  nn_map *values;          /* of that graph, by scope_key */
  int nesting;
  nn_value poison; /* stands for results of ops that had errors: its users fail without a report */
} parser;

/* Bare digits name an unnamed value: "%0" and "%\"0\"" are different. */
static bool is_number(const char *name, bool is_quoted) {
  if (is_quoted) return false;
  for (; *name; name++)
    if (!isdigit((unsigned char)*name)) return false;
  return true;
}

static const char *scope_key(parser *p, const char *name, bool is_unnamed) {
  return nn_sprintf(p->m->arena, "%c%s", is_unnamed ? '#' : '=', name);
}

/* ---- symbols ------------------------------------------------------------------------------------ */

static nn_status parse_symbol(parser *p) {
  nn_lexer *lex = &p->lex;
  char *name;
  nn_lex_skip(lex);
  const char *at = lex->at;
  NN_TRY(nn_lex_name(lex, "the name of a symbol", &name, NULL));
  nn_dim d = nn_dim_symbol(p->m, name);
  nn_symbol *symbol = p->m->symbols[d->terms[0].atoms[0]->symbol];
  while (!nn_lex_at_end(lex)) {
    if (nn_lex_take_word(lex, "min"))
      NN_TRY(nn_lex_int(lex, &symbol->min));
    else if (nn_lex_take_word(lex, "max"))
      NN_TRY(nn_lex_int(lex, &symbol->max));
    else if (nn_lex_take_word(lex, "data"))
      symbol->data_dependent = true;
    else
      return nn_lex_fail(lex, lex->at, "expected 'min', 'max' or 'data' after a symbol");
  }
  if (symbol->min <= symbol->max) return NN_OK;
  int64_t min = symbol->min, max = symbol->max;
  symbol->min = 0; /* bounds that contradict each other must not reach the arithmetic */
  symbol->max = INT64_MAX;
  return nn_lex_fail(lex, at, "min %" PRId64 " is above max %" PRId64, min, max);
}

/* ---- constants and states ------------------------------------------------------------------------ */

static nn_status parse_const(parser *p, bool is_state) {
  nn_lexer *lex = &p->lex;
  char *name;
  bool is_quoted;
  nn_type type;
  nn_tensor *tensor = NULL;
  NN_TRY(nn_lex_expect(lex, '$', is_state ? "'state'" : "'const'"));
  const char *at = lex->at;
  NN_TRY(nn_lex_name(lex, "a name", &name, &is_quoted));
  bool is_unnamed = is_number(name, is_quoted);
  if (nn_map_get(is_unnamed ? p->numbered_consts : p->m->names, name))
    return nn_lex_fail(lex, at, "$%s is defined twice", name);
  NN_TRY(nn_lex_expect(lex, ':', "the name"));
  NN_TRY(nn_lex_type(lex, &type));
  if (nn_lex_take(lex, '='))
    NN_TRY(nn_parse_contents(lex, type, &tensor));
  else if (!is_state)
    return nn_lex_fail(lex, lex->at, "a constant without contents, expected '='");
  const char *own_name = is_unnamed ? NULL : name;
  nn_value *v = is_state ? nn_module_state(p->m, own_name, type, tensor) : nn_module_const(p->m, own_name, tensor);
  v->type.layout = type.layout;
  if (is_unnamed) nn_map_put(p->numbered_consts, name, v);
  return nn_lex_end_line(lex);
}

/* ---- graphs: where they are ---------------------------------------------------------------------- */

static nn_status note_graph(parser *p) {
  nn_lexer *lex = &p->lex;
  char *name;
  NN_TRY(nn_lex_expect(lex, '@', "'graph'"));
  const char *at = lex->at;
  NN_TRY(nn_lex_name(lex, "the name of a graph", &name, NULL));
  if (nn_map_get(p->graphs_by_name, name)) return nn_lex_fail(lex, at, "graph @%s is defined twice", name);
  graph_entry *entry = NN_NEW(p->m->arena, graph_entry);
  entry->graph = nn_graph_new(p->m, name);
  entry->header = lex->at;
  nn_map_put(p->graphs_by_name, name, entry);
  *p->last_graph = entry;
  p->last_graph = &entry->next;
  return NN_OK;
}

/* To the line of the closing brace, which starts a line. */
static nn_status skip_body(parser *p, const char *start) {
  nn_lexer *lex = &p->lex;
  for (nn_lex_next_line(lex); lex->at < lex->end; nn_lex_next_line(lex)) {
    nn_lex_skip(lex);
    if (*lex->at == '}') return NN_OK;
  }
  return nn_lex_fail(lex, start, "the text ends before the '}' of this graph");
}

static void parse_statement(parser *p) {
  nn_lexer *lex = &p->lex;
  if (nn_lex_at_end(lex)) return;
  const char *start = lex->at;
  if (nn_lex_take_word(lex, "symbol")) {
    parse_symbol(p);
  } else if (nn_lex_take_word(lex, "const")) {
    parse_const(p, false);
  } else if (nn_lex_take_word(lex, "state")) {
    parse_const(p, true);
  } else if (nn_lex_take_word(lex, "graph")) {
    note_graph(p);
    skip_body(p, start);
  } else {
    nn_lex_fail(lex, start, "expected 'symbol', 'const', 'state' or 'graph'");
  }
}

static nn_status parse_magic(parser *p) {
  nn_lexer *lex = &p->lex;
  while (lex->at < lex->end && nn_lex_at_end(lex)) nn_lex_next_line(lex);
  int64_t version;
  if (!nn_lex_take_word(lex, "nncc"))
    return nn_lex_fail(lex, lex->at, "this is no IR text: expected 'nncc 1' in its first line");
  NN_TRY(nn_lex_int(lex, &version));
  if (version != 1) return nn_lex_fail(lex, lex->at, "found version %" PRId64 ", expected 1", version);
  return nn_lex_end_line(lex);
}

static void parse_module(parser *p) {
  nn_lexer *lex = &p->lex;
  if (parse_magic(p) != NN_OK) return;
  for (nn_lex_next_line(lex); lex->at < lex->end && !nn_lex_too_many_errors(lex); nn_lex_next_line(lex))
    parse_statement(p);
}

/* ---- operands and results ------------------------------------------------------------------------ */

static nn_status define(parser *p, const char *at, const char *name, bool is_unnamed, nn_value *v) {
  const char *key = scope_key(p, name, is_unnamed);
  if (nn_map_get(p->values, key)) return nn_lex_fail(&p->lex, at, "%%%s is defined twice", name);
  nn_map_put(p->values, key, v);
  return NN_OK;
}

/* NN_FAIL without a report for a value whose own definition had an error. */
static nn_status parse_operand(parser *p, nn_value **value) {
  nn_lexer *lex = &p->lex;
  char *name;
  bool is_quoted;
  nn_lex_skip(lex);
  const char *at = lex->at;
  *value = NULL;
  if (nn_lex_take_word(lex, "_")) return NN_OK;
  char sigil = *lex->at;
  if (!nn_lex_take(lex, '%') && !nn_lex_take(lex, '$'))
    return nn_lex_fail(lex, at, "expected an operand: %%name, $name or _");
  NN_TRY(nn_lex_name(lex, "a name", &name, &is_quoted));
  bool is_unnamed = is_number(name, is_quoted);
  if (sigil == '%')
    *value = nn_map_get(p->values, scope_key(p, name, is_unnamed));
  else
    *value = nn_map_get(is_unnamed ? p->numbered_consts : p->m->names, name);
  if (!*value) return nn_lex_fail(lex, at, "%c%s is not defined before its use", sigil, name);
  return *value == &p->poison ? NN_FAIL : NN_OK;
}

typedef struct operands {
  nn_value **items;
  int count, cap;
} operands;

/* None if there is no operand here. After one whose definition failed, the others are still read. */
static nn_status parse_operands(parser *p, operands *in) {
  nn_lexer *lex = &p->lex;
  nn_status status = NN_OK;
  nn_lex_skip(lex);
  if (*lex->at != '%' && *lex->at != '$' && *lex->at != '_') return NN_OK;
  do {
    nn_value *v;
    int before = lex->m->diags.count;
    if (parse_operand(p, &v) != NN_OK) {
      status = NN_FAIL;
      if (lex->m->diags.count != before) return NN_FAIL;
    }
    NN_PUSH(p->m->arena, in->items, in->count, in->cap, v);
  } while (nn_lex_take(lex, ','));
  return status;
}

typedef struct result_name {
  const char *at, *name;
  bool is_unnamed;
} result_name;
typedef struct result_names {
  result_name *items;
  int count, cap;
} result_names;

static nn_status parse_result_names(parser *p, result_names *names) {
  nn_lexer *lex = &p->lex;
  nn_lex_skip(lex);
  if (*lex->at != '%') return NN_OK;
  do {
    char *name;
    bool is_quoted;
    nn_lex_skip(lex);
    const char *at = lex->at;
    NN_TRY(nn_lex_expect(lex, '%', "','"));
    NN_TRY(nn_lex_name(lex, "a name", &name, &is_quoted));
    result_name item = {at, name, is_number(name, is_quoted)};
    NN_PUSH(p->m->arena, names->items, names->count, names->cap, item);
  } while (nn_lex_take(lex, ','));
  return nn_lex_expect(lex, '=', "the results");
}

/* ---- ops ----------------------------------------------------------------------------------------- */

static nn_status parse_opcode(parser *p, nn_opcode *code) {
  nn_lexer *lex = &p->lex;
  char *name;
  nn_lex_skip(lex);
  const char *at = lex->at;
  NN_TRY(nn_lex_name(lex, "an operation", &name, NULL));
  if (nn_opcode_find(name, strlen(name), code)) return NN_OK;
  return nn_lex_fail(lex, at, "there is no operation '%s'", name);
}

static nn_status parse_result_types(parser *p, nn_op *op) {
  nn_lexer *lex = &p->lex;
  if (!op->nout) return NN_OK;
  NN_TRY(nn_lex_expect(lex, ':', "the operands and attributes, before the result types"));
  for (int i = 0; i < op->nout; i++) {
    if (i) NN_TRY(nn_lex_expect(lex, ',', "a result type"));
    NN_TRY(nn_lex_type(lex, &op->out[i]->type));
  }
  return NN_OK;
}

static nn_status parse_loc(parser *p, nn_op *op) {
  nn_lexer *lex = &p->lex;
  char *text;
  if (!nn_lex_take_word(lex, "loc")) return NN_OK;
  NN_TRY(nn_lex_string(lex, "a node name", &text));
  op->loc = text;
  op->rounds = nn_lex_take_word(lex, "rounds");
  if (op->rounds || nn_lex_at_end(lex)) return NN_OK;
  NN_TRY(nn_lex_string(lex, "an op type", &text));
  op->loc_op = text;
  op->rounds = nn_lex_take_word(lex, "rounds");
  return NN_OK;
}

/* Declared types are in the results; the shape rule overwrites them. */
static nn_status check_result_types(parser *p, nn_op *op, const char *start, const char *types_at) {
  nn_arena *arena = p->m->arena;
  nn_type *declared = NN_NEW_ARRAY(arena, nn_type, op->nout);
  int first = p->m->diags.count;
  for (int i = 0; i < op->nout; i++) declared[i] = op->out[i]->type;
  nn_status status = nn_op_infer(op);
  nn_lex_locate(&p->lex, first, start);
  for (int i = 0; i < op->nout; i++) {
    if (status == NN_OK && !nn_type_equal(op->out[i]->type, declared[i]))
      status = nn_lex_fail(&p->lex, types_at, "result %d is declared %s, expected %s by the rule of %s", i,
                           nn_type_text(arena, declared[i]), nn_type_text(arena, op->out[i]->type),
                           nn_op_infos[op->code].text);
  }
  for (int i = 0; status != NN_OK && i < op->nout; i++) op->out[i]->type = declared[i];
  return status;
}

/* Of an op whose results' count is open, there are as many as names. */
static nn_status check_result_count(parser *p, nn_opcode code, int count, const char *at) {
  int nout = nn_op_infos[code].nout;
  if (nout < 0 || nout == count) return NN_OK;
  return nn_lex_fail(&p->lex, at, "%d results of %s, expected %d", count, nn_op_infos[code].text, nout);
}

static nn_status parse_op_rest(parser *p, nn_op *op, const char *start) {
  nn_lexer *lex = &p->lex;
  NN_TRY(nn_parse_attrs(lex, op));
  nn_lex_skip(lex);
  const char *types_at = lex->at;
  NN_TRY(parse_result_types(p, op));
  NN_TRY(parse_loc(p, op));
  NN_TRY(nn_lex_end_line(lex));
  return check_result_types(p, op, start, types_at);
}

static nn_status parse_op_named(parser *p, const result_names *names) {
  nn_lexer *lex = &p->lex;
  nn_opcode code;
  operands in = {0};
  nn_lex_skip(lex);
  const char *start = lex->at;
  NN_TRY(parse_opcode(p, &code));
  NN_TRY(check_result_count(p, code, names->count, start));
  NN_TRY(parse_operands(p, &in));
  nn_op *op = nn_op_new(p->graph, NULL, code, in.items, in.count, names->count);
  for (int i = 0; i < op->nout; i++) op->out[i]->name = names->items[i].is_unnamed ? NULL : names->items[i].name;
  NN_TRY(parse_op_rest(p, op, start));
  for (int i = 0; i < op->nout; i++)
    NN_TRY(define(p, names->items[i].at, names->items[i].name, names->items[i].is_unnamed, op->out[i]));
  return NN_OK;
}

static nn_status parse_op(parser *p) {
  result_names names = {0};
  nn_status status = parse_result_names(p, &names);
  if (status == NN_OK) status = parse_op_named(p, &names);
  if (status == NN_OK) return NN_OK;
  for (int i = 0; i < names.count; i++) {
    const char *key = scope_key(p, names.items[i].name, names.items[i].is_unnamed);
    if (!nn_map_get(p->values, key)) nn_map_put(p->values, key, &p->poison);
  }
  return NN_FAIL;
}

/* ---- graphs: their contents ---------------------------------------------------------------------- */

static nn_status parse_param(parser *p) {
  nn_lexer *lex = &p->lex;
  char *name;
  bool is_quoted;
  nn_type type;
  nn_lex_skip(lex);
  const char *at = lex->at;
  NN_TRY(nn_lex_expect(lex, '%', "'('"));
  NN_TRY(nn_lex_name(lex, "a name", &name, &is_quoted));
  NN_TRY(nn_lex_expect(lex, ':', "a parameter"));
  NN_TRY(nn_lex_type(lex, &type));
  bool is_unnamed = is_number(name, is_quoted);
  return define(p, at, name, is_unnamed, nn_graph_param(p->graph, is_unnamed ? NULL : name, type));
}

typedef struct types {
  nn_type *items;
  int count, cap;
} types;

static nn_status parse_header(parser *p, types *results) {
  nn_lexer *lex = &p->lex;
  NN_TRY(nn_lex_expect(lex, '(', "the name of the graph"));
  for (int count = 0; !nn_lex_take(lex, ')'); count++) {
    if (count) NN_TRY(nn_lex_expect(lex, ',', "a parameter"));
    NN_TRY(parse_param(p));
  }
  NN_TRY(nn_lex_expect(lex, '-', "the parameters"));
  NN_TRY(nn_lex_expect(lex, '>', "'-'"));
  NN_TRY(nn_lex_expect(lex, '(', "'->'"));
  while (!nn_lex_take(lex, ')')) {
    nn_type type;
    if (results->count) NN_TRY(nn_lex_expect(lex, ',', "a result type"));
    NN_TRY(nn_lex_type(lex, &type));
    NN_PUSH(p->m->arena, results->items, results->count, results->cap, type);
  }
  NN_TRY(nn_lex_expect(lex, '{', "the result types"));
  return nn_lex_end_line(lex);
}

static nn_status check_return(parser *p, const types *declared, const char *header) {
  nn_arena *arena = p->m->arena;
  nn_op *results = nn_graph_return(p->graph);
  if (!results) return nn_lex_fail(&p->lex, header, "graph @%s does not end with a return", p->graph->name);
  if (results->nin != declared->count)
    return nn_lex_fail(&p->lex, header, "graph @%s returns %d values, its header declares %d", p->graph->name,
                       results->nin, declared->count);
  for (int i = 0; i < results->nin; i++) {
    if (nn_type_equal(results->in[i]->type, declared->items[i])) continue;
    return nn_lex_fail(&p->lex, header, "result %d of graph @%s is declared %s, found %s", i, p->graph->name,
                       nn_type_text(arena, declared->items[i]), nn_type_text(arena, results->in[i]->type));
  }
  return NN_OK;
}

static nn_status parse_body(parser *p) {
  nn_lexer *lex = &p->lex;
  nn_status status = NN_OK;
  for (nn_lex_next_line(lex); lex->at < lex->end; nn_lex_next_line(lex)) {
    if (nn_lex_at_end(lex)) continue;
    if (nn_lex_take(lex, '}')) return nn_lex_end_line(lex) == NN_OK ? status : NN_FAIL;
    if (nn_lex_too_many_errors(lex)) return NN_FAIL;
    if (nn_graph_return(p->graph))
      status = nn_lex_fail(lex, lex->at, "found an operation after the return, expected '}'");
    else if (parse_op(p) != NN_OK)
      status = NN_FAIL;
  }
  return NN_FAIL; /* the missing '}' was reported when the graph was noted */
}

static nn_status parse_graph_at(parser *p, const char *header) {
  types results = {0};
  p->lex.at = header;
  NN_TRY(parse_header(p, &results));
  NN_TRY(parse_body(p));
  return check_return(p, &results, header);
}

/* Graphs name each other through attributes: saves what belongs to the graph in progress. */
static void parse_graph(parser *p, graph_entry *entry) {
  nn_graph *graph = p->graph;
  nn_map *values = p->values;
  const char *at = p->lex.at;
  p->graph = entry->graph;
  p->values = nn_map_new(p->m->arena);
  p->nesting++;
  entry->progress = IN_PROGRESS;
  entry->progress = parse_graph_at(p, entry->header) == NN_OK ? PARSED : BROKEN;
  p->nesting--;
  p->graph = graph;
  p->values = values;
  p->lex.at = at;
}

static nn_graph *find_graph(nn_lexer *lex, const char *name) {
  parser *p = lex->self;
  graph_entry *entry = nn_map_get(p->graphs_by_name, name);
  if (!entry) {
    nn_lex_fail(lex, lex->at, "graph @%s is not defined", name);
  } else if (entry->progress == IN_PROGRESS) {
    nn_lex_fail(lex, lex->at, "graph @%s contains itself", name);
  } else if (entry->progress == NOT_PARSED && p->nesting >= MAX_GRAPH_NESTING) {
    nn_lex_fail(lex, lex->at, "graphs nest deeper than %d", MAX_GRAPH_NESTING);
  } else {
    if (entry->progress == NOT_PARSED) parse_graph(p, entry);
    if (entry->progress == PARSED) return entry->graph;
  }
  return NULL;
}

/* ---- exported ------------------------------------------------------------------------------------ */

nn_module *nn_text_parse(const char *file, const char *text, size_t length) {
  nn_module *m = nn_module_new(file);
  if (!m) return NULL;
  nn_c_locale saved = nn_enter_c_locale();
  parser p = {.m = m, .graphs_by_name = nn_map_new(m->arena), .numbered_consts = nn_map_new(m->arena)};
  p.last_graph = &p.graphs;
  p.lex =
      (nn_lexer){.m = m, .file = m->diags.file, .self = &p, .find_graph = find_graph, .files = nn_map_new(m->arena)};
  p.lex.text = p.lex.at = nn_strndup(m->arena, text, length);
  p.lex.end = p.lex.text + length;
  parse_module(&p);
  for (graph_entry *g = p.graphs; g && !nn_lex_too_many_errors(&p.lex); g = g->next)
    if (g->progress == NOT_PARSED) parse_graph(&p, g);
  if (!m->main && !m->diags.nerrors) nn_lex_fail(&p.lex, p.lex.end, "there is no graph");
  nn_leave_c_locale(saved);
  return m;
}
