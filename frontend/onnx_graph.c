/* Graphs: names, the order of nodes, and the way of one node through its importer.

   Every problem of a model is reported in one go: a node that fails poisons its outputs, what reads a
   poisoned value is skipped without a word, and the rest is imported as if nothing had happened. So that a
   chain of unsupported operators is reported whole, a node's operator is looked up before its inputs. */
#include "frontend/onnx_import.h"

#include <string.h>

/* ---- scopes -------------------------------------------------------------------------------------------- */

void onnx_scope_init(onnx_import *I, onnx_scope *scope, onnx_scope *parent) {
  if (parent) *scope = *parent;
  scope->parent = parent;
  scope->slots = nn_map_new(I->scratch);
  scope->declared = nn_map_new(I->scratch);
}

onnx_slot *onnx_scope_find(const onnx_scope *scope, const char *name) {
  for (; scope; scope = scope->parent) {
    onnx_slot *slot = nn_map_get(scope->slots, name);
    if (slot) return slot;
  }
  return NULL;
}

bool onnx_scope_defines(const onnx_scope *scope, const char *name) { return nn_map_get(scope->slots, name) != NULL; }

void onnx_scope_put(onnx_import *I, onnx_scope *scope, const char *name, onnx_slot_state state, nn_value *v) {
  onnx_slot *slot = NN_NEW(I->scratch, onnx_slot);
  *slot = (onnx_slot){state, v};
  nn_map_put(scope->slots, name, slot);
}

const char *onnx_canonical_domain(const char *domain) {
  return !domain || strcmp(domain, "ai.onnx") == 0 ? "" : domain;
}

int64_t onnx_scope_opset(const onnx_import *I, const onnx_scope *scope, const char *domain) {
  for (size_t i = 0; i < scope->nopsets; i++)
    if (strcmp(onnx_canonical_domain(scope->opsets[i]->domain), domain) == 0) return scope->opsets[i]->version;
  for (size_t i = 0; i < I->model->n_opset_import; i++)
    if (strcmp(onnx_canonical_domain(I->model->opset_import[i]->domain), domain) == 0)
      return I->model->opset_import[i]->version;
  return 0;
}

const char *onnx_unique_name(onnx_import *I, const char *prefix, const char *name) {
  const char *whole = nn_sprintf(I->m->arena, "%s%s", prefix, name), *unique = whole;
  for (int k = 2; nn_map_get(I->value_names, unique); k++) unique = nn_sprintf(I->m->arena, "%s_%d", whole, k);
  nn_map_put(I->value_names, unique, (void *)(uintptr_t)unique);
  return unique;
}

const char *onnx_unique_const_name(nn_module *m, const char *name) {
  const char *unique = name;
  for (int k = 2; nn_map_get(m->names, unique); k++) unique = nn_sprintf(m->arena, "%s_%d", name, k);
  return unique;
}

/* Results get the ONNX name; a value that has one already (Identity of an input) keeps it. */
static void name_result(onnx_import *I, const onnx_scope *scope, nn_value *v, const char *name) {
  if (v->kind == NN_RESULT && !v->name) v->name = onnx_unique_name(I, scope->prefix, name);
}

static const char *node_name(onnx_import *I, const onnx_scope *scope, const Onnx__NodeProto *node, size_t index) {
  if (node->name && *node->name) return nn_sprintf(I->m->arena, "%s%s", scope->prefix, node->name);
  return nn_sprintf(I->m->arena, "%s%s_%zu", scope->prefix, node->op_type ? node->op_type : "node", index);
}

/* ---- initializers and declarations --------------------------------------------------------------------- */

static void put_initializer(onnx_import *I, onnx_scope *scope, const char *name, nn_tensor *t) {
  const char *unique = onnx_unique_const_name(I->m, nn_sprintf(I->m->arena, "%s%s", scope->prefix, name));
  onnx_scope_put(I, scope, name, t ? ONNX_SLOT_VALUE : ONNX_SLOT_POISONED, t ? nn_module_const(I->m, unique, t) : NULL);
}

/* True if the name is there and free; reports. */
static bool check_new_name(onnx_import *I, const onnx_scope *scope, const char *name, const char *what) {
  if (!name || !*name) {
    nn_report(&I->m->diags, NN_ERROR, NULL, NULL, NULL, "%s without a name", what);
    return false;
  }
  if (!onnx_scope_defines(scope, name)) return true;
  nn_report(&I->m->diags, NN_ERROR, NULL, NULL, NULL, "the name '%s' is defined twice, again by %s", name, what);
  return false;
}

void onnx_import_initializers(onnx_import *I, onnx_scope *scope, const Onnx__GraphProto *g) {
  for (size_t i = 0; i < g->n_initializer; i++) {
    const Onnx__TensorProto *t = g->initializer[i];
    if (!check_new_name(I, scope, t->name, "an initializer")) continue;
    const char *role = nn_sprintf(I->m->arena, "initializer '%s'", t->name);
    put_initializer(I, scope, t->name, onnx_decode_tensor(I, t, role, NULL, NULL));
  }
  for (size_t i = 0; i < g->n_sparse_initializer; i++) {
    const Onnx__SparseTensorProto *t = g->sparse_initializer[i];
    const char *name = t->values ? t->values->name : NULL; /* the name of the whole, by ONNX's rule */
    if (!check_new_name(I, scope, name, "a sparse initializer")) continue;
    const char *role = nn_sprintf(I->m->arena, "sparse initializer '%s'", name);
    put_initializer(I, scope, name, onnx_decode_sparse(I, t, role, NULL, NULL));
  }
}

static void declare_list(onnx_scope *scope, Onnx__ValueInfoProto *const *list, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (list[i]->name && *list[i]->name) nn_map_put(scope->declared, list[i]->name, list[i]);
}

void onnx_declare(onnx_import *I, onnx_scope *scope, const Onnx__GraphProto *g) {
  (void)I;
  declare_list(scope, g->value_info, g->n_value_info);
  declare_list(scope, g->output, g->n_output);
}

/* ---- the order of nodes -------------------------------------------------------------------------------- */

typedef struct sorter {
  onnx_import *I;
  onnx_scope *scope;
  Onnx__NodeProto *const *nodes;
  size_t count;
  nn_map *producers;  /* value name -> index + 1 of the node that gives it */
  size_t *nwaiting;   /* per node: inputs whose producer is not yet placed */
  size_t *first_edge; /* per node, and one more: where its edges start */
  size_t *edges;      /* users of each node */
  size_t user;        /* the node whose uses are visited */
  bool is_sorted;
} sorter;

typedef void visit_fn(sorter *s, size_t producer);

/* Every name that a node reads and another node here gives; names that its sub-graphs capture included. */
static void visit_uses(sorter *s, const Onnx__NodeProto *node, visit_fn *visit) {
  for (size_t i = 0; i < node->n_input; i++) {
    size_t producer = (size_t)(uintptr_t)nn_map_get(s->producers, node->input[i]);
    if (producer) visit(s, producer - 1);
  }
  for (size_t a = 0; a < node->n_attribute; a++) {
    const Onnx__AttributeProto *attr = node->attribute[a];
    for (size_t k = 0; attr->g && k < attr->g->n_node; k++) visit_uses(s, attr->g->node[k], visit);
    for (size_t g = 0; g < attr->n_graphs; g++)
      for (size_t k = 0; k < attr->graphs[g]->n_node; k++) visit_uses(s, attr->graphs[g]->node[k], visit);
  }
}

static void check_order(sorter *s, size_t producer) { s->is_sorted &= producer < s->user; }
static void count_edge(sorter *s, size_t producer) {
  s->first_edge[producer + 1]++;
  s->nwaiting[s->user]++;
}
static void add_edge(sorter *s, size_t producer) { s->edges[--s->first_edge[producer + 1]] = s->user; }

static void visit_all(sorter *s, visit_fn *visit) {
  for (s->user = 0; s->user < s->count; s->user++) visit_uses(s, s->nodes[s->user], visit);
}

static void collect_producers(sorter *s) {
  for (size_t i = 0; i < s->count; i++)
    for (size_t k = 0; k < s->nodes[i]->n_output; k++) {
      const char *name = s->nodes[i]->output[k];
      if (!*name) continue;
      size_t other = (size_t)(uintptr_t)nn_map_get(s->producers, name);
      if (other || onnx_scope_defines(s->scope, name))
        nn_report(&s->I->m->diags, NN_ERROR, node_name(s->I, s->scope, s->nodes[i], i), s->nodes[i]->op_type, NULL,
                  "output '%s' is defined twice, before by %s '%s'", name, other ? "node" : "an input or initializer",
                  other ? node_name(s->I, s->scope, s->nodes[other - 1], other - 1) : name);
      else
        nn_map_put(s->producers, name, (void *)(uintptr_t)(i + 1));
    }
}

/* Kahn's algorithm; users that become ready are placed in their order in the file. Returns how many nodes
   could be placed: fewer than all when there is a cycle. */
static size_t place_nodes(sorter *s, size_t *order) {
  nn_arena *arena = s->I->scratch;
  s->nwaiting = NN_NEW_ARRAY(arena, size_t, s->count);
  s->first_edge = NN_NEW_ARRAY(arena, size_t, s->count + 2);
  visit_all(s, count_edge);
  for (size_t i = 0; i < s->count; i++) s->first_edge[i + 1] += s->first_edge[i];
  s->edges = NN_NEW_ARRAY(arena, size_t, s->first_edge[s->count] + 1);
  size_t end_of_edges = s->first_edge[s->count];
  visit_all(s, add_edge); /* now first_edge[i + 1] is where the edges of i start */
  s->first_edge[s->count + 1] = end_of_edges;
  size_t nplaced = 0;
  for (size_t i = 0; i < s->count; i++)
    if (s->nwaiting[i] == 0) order[nplaced++] = i;
  for (size_t next = 0; next < nplaced; next++)
    for (size_t e = s->first_edge[order[next] + 2]; e-- > s->first_edge[order[next] + 1];)
      if (--s->nwaiting[s->edges[e]] == 0) order[nplaced++] = s->edges[e];
  return nplaced;
}

/* ---- cycles -------------------------------------------------------------------------------------------- */

typedef struct chase {
  sorter s; /* first: a sorter * is a chase * */
  size_t waits_for;
} chase;

static void note_waiting(sorter *s, size_t producer) {
  if (s->nwaiting[producer]) ((chase *)s)->waits_for = producer;
}

/* Goes from a node that cannot be placed to one that it waits for, until one comes twice: that is a cycle. */
static void report_cycle(sorter *s) {
  chase c = {.s = *s};
  bool *seen = NN_NEW_ARRAY(s->I->scratch, bool, s->count);
  size_t at = 0;
  while (!s->nwaiting[at]) at++;
  while (!seen[at]) {
    seen[at] = true;
    visit_uses(&c.s, s->nodes[at], note_waiting);
    at = c.waits_for;
  }
  const char *text = "";
  size_t start = at, length = 0;
  do {
    if (length++ < 8)
      text = nn_sprintf(s->I->scratch, "%s'%s' needs ", text, node_name(s->I, s->scope, s->nodes[at], at));
    visit_uses(&c.s, s->nodes[at], note_waiting);
    at = c.waits_for;
  } while (at != start);
  nn_report(&s->I->m->diags, NN_ERROR, node_name(s->I, s->scope, s->nodes[at], at), s->nodes[at]->op_type, NULL,
            "nodes need each other's results, in a cycle of %zu: %s%s'%s'", length, text, length > 8 ? ".. " : "",
            node_name(s->I, s->scope, s->nodes[start], start));
}

/* ---- one node ------------------------------------------------------------------------------------------ */

static void poison_outputs(onnx_import *I, onnx_scope *scope, const Onnx__NodeProto *node) {
  for (size_t i = 0; i < node->n_output; i++)
    if (*node->output[i] && !onnx_scope_defines(scope, node->output[i]))
      onnx_scope_put(I, scope, node->output[i], ONNX_SLOT_POISONED, NULL);
}

/* Why some operators of ONNX are not there. */
static const char *why_unsupported(const char *op) {
  static const struct {
    const char *op, *why;
  } reasons[] = {
      {"Loop", "loops over sub-graphs are not imported"},
      {"Scan", "loops over sub-graphs are not imported"},
      {"SequenceMap", "sequences of tensors are not imported"},
      {"SequenceConstruct", "sequences of tensors are not imported"},
      {"SequenceEmpty", "sequences of tensors are not imported"},
      {"SplitToSequence", "sequences of tensors are not imported"},
      {"SequenceAt", "sequences of tensors are not imported"},
      {"ConcatFromSequence", "sequences of tensors are not imported"},
      {"Optional", "optional values are not imported"},
      {"OptionalGetElement", "optional values are not imported"},
      {"StringNormalizer", "strings are not imported"},
      {"TfIdfVectorizer", "strings are not imported"},
  };
  for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
    if (strcmp(reasons[i].op, op) == 0) return reasons[i].why;
  return NULL;
}

/* What imports the node: an importer or a function of the model; false after a report. */
static bool find_importer(onnx_site *site, onnx_fn **run, const Onnx__FunctionProto **function) {
  onnx_node *n = &site->n;
  onnx_import *I = n->import;
  onnx_entry *entry = nn_map_get(I->importers, nn_sprintf(I->scratch, "%s:%s", n->domain, n->op));
  *run = entry ? entry->run : NULL;
  *function = entry ? NULL : onnx_find_function(I, site->proto);
  if (*function || (entry && n->since > 0)) return true;
  if (n->since <= 0)
    onnx_fail(n, "the model imports no version of domain '%s' (in opset_import)", n->domain);
  else
    nn_report(&n->m->diags, NN_ERROR, n->name, n->op, why_unsupported(n->op),
              "unsupported operator '%s' (domain '%s', opset %d)", n->op, n->domain, n->since);
  return false;
}

typedef enum resolved { READY, POISONED, UNDEFINED } resolved;

static resolved resolve_inputs(onnx_site *site) {
  onnx_node *n = &site->n;
  resolved result = READY;
  n->in = NN_NEW_ARRAY(n->m->arena, nn_value *, n->nin + 1);
  for (int i = 0; i < n->nin; i++) {
    const char *name = site->proto->input[i];
    if (!*name) continue;
    onnx_slot *slot = onnx_scope_find(site->scope, name);
    if (!slot) {
      onnx_fail(n, "input '%s' is given by no node, input or initializer", name);
      onnx_scope_put(n->import, site->scope, name, ONNX_SLOT_POISONED, NULL); /* one report for each name */
      result = UNDEFINED;
    } else if (slot->state == ONNX_SLOT_POISONED) {
      if (result == READY) result = POISONED;
    } else {
      n->in[i] = slot->value; /* NULL when absent */
    }
  }
  while (n->nin > 0 && !n->in[n->nin - 1]) n->nin--;
  return result;
}

static int count_names(char *const *names, size_t count) {
  while (count > 0 && !*names[count - 1]) count--;
  return (int)count;
}

static void init_site(onnx_site *site, onnx_import *I, onnx_scope *scope, const Onnx__NodeProto *node, size_t index) {
  const char *domain = onnx_canonical_domain(node->domain);
  int64_t since = onnx_scope_opset(I, scope, domain);
  *site = (onnx_site){.proto = node, .scope = scope};
  site->n = (onnx_node){.import = I,
                        .m = I->m,
                        .b = &I->builder,
                        .name = node_name(I, scope, node, index),
                        .op = nn_strdup(I->m->arena, node->op_type ? node->op_type : ""),
                        .domain = nn_strdup(I->m->arena, domain),
                        .since = since > 0 && since < INT32_MAX ? (int)since : 0,
                        .nin = count_names(node->input, node->n_input),
                        .nout = count_names(node->output, node->n_output),
                        .proto = node};
  site->n.out = NN_NEW_ARRAY(I->m->arena, nn_value *, node->n_output + 1);
  I->builder.loc = site->n.name;
  I->builder.loc_op = site->n.op;
}

/* Runs the importer. Everything that fails has been reported when this returns. */
static void run_importer(onnx_site *site, onnx_fn *run, const Onnx__FunctionProto *function) {
  onnx_node *n = &site->n;
  int nerrors = n->m->diags.nerrors;
  nn_status status = function ? onnx_inline_function(site, function) : run(n);
  site->failed |= status != NN_OK;
  for (int i = 0; i < n->nout && !site->failed; i++)
    if (onnx_wants(n, i) && !n->out[i]) site->failed = true;
  if (site->failed && !site->is_poisoned && n->m->diags.nerrors == nerrors)
    onnx_unsupported(n, "the operator cannot be imported in this form");
}

static void define_outputs(onnx_site *site) {
  onnx_node *n = &site->n;
  onnx_import *I = n->import;
  for (int i = 0; i < n->nout; i++) {
    const char *name = site->proto->output[i];
    nn_value *v = site->failed ? NULL : n->out[i];
    if (!*name || !v || onnx_scope_defines(site->scope, name)) continue;
    name_result(I, site->scope, v, name);
    if (onnx_check_declared(I, nn_map_get(site->scope->declared, name), v, n->name, n->op) == NN_OK)
      onnx_scope_put(I, site->scope, name, ONNX_SLOT_VALUE, v);
  }
  poison_outputs(I, site->scope, site->proto); /* those that are still undefined */
}

static void import_node(onnx_import *I, onnx_scope *scope, const Onnx__NodeProto *node, size_t index) {
  onnx_site site;
  onnx_fn *run;
  const Onnx__FunctionProto *function;
  nn_builder outer = I->builder; /* of the call, when this node is inside a function */
  init_site(&site, I, scope, node, index);
  nn_op *last = I->builder.graph->last;
  if (find_importer(&site, &run, &function) && resolve_inputs(&site) == READY)
    run_importer(&site, run, function);
  else
    site.failed = true;
  if (!site.failed) onnx_mark_rounding(&site, last ? last->next : I->builder.graph->first);
  define_outputs(&site);
  I->builder.loc = outer.loc;
  I->builder.loc_op = outer.loc_op;
}

/* False when functions that call functions have grown beyond all measure (reported once), or are full of errors. */
static bool may_inline(onnx_import *I, const onnx_scope *scope, size_t count) {
  if (!*scope->prefix) return true; /* the main graph */
  bool was_full = I->ninlined > ONNX_MAX_INLINED;
  I->ninlined += (int64_t)(count < ONNX_MAX_INLINED ? count : ONNX_MAX_INLINED) + 1;
  if (I->m->diags.nerrors > ONNX_MAX_ERRORS) return false;
  if (I->ninlined <= ONNX_MAX_INLINED) return true;
  if (!was_full)
    nn_report(&I->m->diags, NN_ERROR, NULL, NULL, NULL,
              "unsupported: more than %d nodes, functions and branches inlined", ONNX_MAX_INLINED);
  return false;
}

void onnx_import_nodes(onnx_import *I, onnx_scope *scope, Onnx__NodeProto *const *nodes, size_t count) {
  sorter s = {
      .I = I, .scope = scope, .nodes = nodes, .count = count, .producers = nn_map_new(I->scratch), .is_sorted = true};
  size_t nplaced = count, *order = NN_NEW_ARRAY(I->scratch, size_t, count + 1);
  if (!may_inline(I, scope, count)) nplaced = 0;
  collect_producers(&s);
  if (nplaced) onnx_note_traffic(I, scope, nodes, count);
  visit_all(&s, check_order);
  for (size_t i = 0; i < count; i++) order[i] = i;
  if (!s.is_sorted && nplaced && (nplaced = place_nodes(&s, order)) < count) {
    report_cycle(&s);
    for (size_t i = 0; i < count; i++)
      if (s.nwaiting[i]) poison_outputs(I, scope, nodes[i]);
  }
  for (size_t i = 0; i < nplaced; i++) import_node(I, scope, nodes[order[i]], order[i]);
  if (!nplaced)
    for (size_t i = 0; i < count; i++) poison_outputs(I, scope, nodes[i]);
}
