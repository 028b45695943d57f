/* Verification of the graph IR: what every pass may rely on, checked after each of them in debug runs and
   once after import.

   Structure first (links, operands defined before their use, use lists, attribute kinds, types that are
   whole), then, for ops whose structure is sound, the shape rule again on a copy of the op. All problems
   are reported, each at its op. Nothing here trusts a pointer that an earlier check has found wrong. */
#include "ir/ir.h"

#include <string.h>

typedef struct verifier {
  nn_module *m;
  nn_arena *scratch;
  nn_map *visible; /* values defined so far -> their graph; constants and states -> the module */
  nn_map *graphs;  /* set of the module's graphs */
  nn_map *names;   /* taken in the graph */
  const nn_graph *graph;
} verifier;

static nn_status fail(verifier *v, const char *format, ...) NN_PRINTF(2, 3);

/* A problem that is no op's: of the module, or of a graph's head. */
static nn_status fail(verifier *v, const char *format, ...) {
  va_list args;
  va_start(args, format);
  const char *node = v->graph ? nn_sprintf(v->scratch, "@%s", v->graph->name) : NULL;
  nn_status status = nn_vreport(&v->m->diags, NN_ERROR, node, NULL, NULL, format, args);
  va_end(args);
  return status;
}

static void put(nn_map *set, const void *key) { nn_map_put_ptr(set, key, set); }
static bool has(const nn_map *set, const void *key) { return nn_map_get_ptr(set, key) != NULL; }

static void show(verifier *v, const nn_value *value) {
  nn_map_put_ptr(v->visible, value, v->graph ? (void *)(uintptr_t)v->graph : v->m);
}

static bool is_visible(const verifier *v, const nn_value *value) {
  const void *owner = nn_map_get_ptr(v->visible, value);
  return owner && (owner == v->graph || owner == v->m);
}

static const char *name_of(const nn_value *value) { return value->name ? value->name : "?"; }

/* ---- types -------------------------------------------------------------------------------------- */

/* What is wrong with a type, or NULL. */
static const char *find_type_problem(nn_type t) {
  if ((int)t.dtype < 0 || t.dtype >= NN_DTYPE_COUNT) return "has an element type that does not exist";
  if (t.rank < 0 || t.rank > NN_MAX_RANK) return "has a rank out of range";
  if (t.rank && !t.dims) return "has no dims";
  for (int i = 0; i < t.rank; i++) {
    int64_t value;
    if (!t.dims[i]) return "has a dimension that is not set";
    if (nn_dim_is_overflow(t.dims[i])) return "has a dimension that overflows 64 bits";
    if (nn_dim_is_const(t.dims[i], &value) && value < 0) return "has a negative dimension";
  }
  return nn_type_fits(t) ? NULL : "has a size in bytes that overflows 64 bits";
}

/* Every use on the list must point back at it, and its slot must read the value. Links that agree in both
   directions cannot form a cycle. A slot that is on the wrong list is found by that list's value. */
static bool has_sound_uses(const nn_value *value) {
  for (nn_use *const *link = &value->uses; *link; link = &(*link)->next) {
    const nn_use *use = *link;
    if (use->link != link || !use->user || use->index < 0 || use->index >= use->user->nin) return false;
    if (use->user->in[use->index] != value) return false;
  }
  return true;
}

static const char *const bad_uses = "has a list of uses that names an operand that does not read it";

/* ---- constants and states ------------------------------------------------------------------------ */

static nn_status verify_contents(verifier *v, const nn_value *value) {
  const nn_tensor *t = value->tensor;
  const char *name = name_of(value);
  int64_t count;
  if (!nn_type_static_count(value->type, &count)) return fail(v, "$%s holds contents, expected a static type", name);
  if (t->dtype != value->type.dtype || t->rank != value->type.rank)
    return fail(v, "$%s is %s, its contents are %s of rank %d", name, nn_type_text(v->scratch, value->type),
                nn_dtype_name(t->dtype), t->rank);
  for (int i = 0; i < t->rank; i++)
    if (!nn_dim_is(value->type.dims[i], t->dims[i]))
      return fail(v, "$%s is %s, dimension %d of its contents is %lld", name, nn_type_text(v->scratch, value->type), i,
                  (long long)t->dims[i]);
  size_t size_bytes = nn_dtype_bytes(t->dtype, (uint64_t)count);
  if (t->size_bytes != size_bytes) return fail(v, "$%s has %zu bytes, expected %zu", name, t->size_bytes, size_bytes);
  return t->data || !size_bytes ? NN_OK : fail(v, "$%s has no data", name);
}

static void verify_const(verifier *v, const nn_value *value) {
  if (value->kind != NN_CONST && value->kind != NN_STATE) {
    fail(v, "value '%s' is among the module's constants, but is none", name_of(value));
    return;
  }
  show(v, value);
  if (value->name && nn_map_get(v->names, value->name))
    fail(v, "two constants or states have the name '%s'", value->name);
  if (value->name) nn_map_put(v->names, value->name, v);
  if (!has_sound_uses(value)) fail(v, "$%s %s", name_of(value), bad_uses);
  const char *problem = find_type_problem(value->type);
  if (problem)
    fail(v, "$%s %s", name_of(value), problem);
  else if (value->tensor)
    verify_contents(v, value);
  else if (value->kind == NN_CONST)
    fail(v, "$%s has no contents", name_of(value));
}

/* ---- ops: structure ------------------------------------------------------------------------------ */

static nn_status verify_links(const verifier *v, nn_op *op) {
  if (op->graph != v->graph) return nn_fail(op, "the operation does not know the graph it is in");
  const nn_op *expected = op->prev ? op->prev->next : v->graph->first;
  if (expected != op) return nn_fail(op, "the operation is not linked to the one before it");
  return op->next || v->graph->last == op ? NN_OK : nn_fail(op, "the last operation is not the graph's last");
}

/* Why an operand cannot be read here, or NULL. */
static const char *find_operand_problem(const verifier *v, const nn_value *value) {
  if (is_visible(v, value)) return NULL;
  switch (value->kind) {
  case NN_PARAM: return "is a parameter of another graph";
  case NN_RESULT:
    return value->def && value->def->graph == v->graph ? "is used before its definition" : "belongs to another graph";
  default: return "is a constant that the module does not have";
  }
}

static nn_status verify_operand(const verifier *v, nn_op *op, int i) {
  const nn_value *value = op->in[i];
  const nn_use *use = &op->in_use[i];
  if (!value) return use->link ? nn_fail(op, "operand %d is missing, but is on a list of uses", i) : NN_OK;
  const char *problem = find_operand_problem(v, value);
  if (problem) return nn_fail(op, "operand %d ('%s') %s", i, name_of(value), problem);
  if (use->user != op || use->index != i || !use->link || *use->link != use)
    return nn_fail(op, "operand %d ('%s') is not on its value's list of uses", i, name_of(value));
  return NN_OK;
}

static nn_status verify_result(verifier *v, nn_op *op, int i) {
  const nn_value *value = op->out[i];
  if (!value) return nn_fail(op, "result %d does not exist", i);
  if (value->kind != NN_RESULT || value->def != op || value->index != i)
    return nn_fail(op, "result %d ('%s') does not know its operation", i, name_of(value));
  if (is_visible(v, value)) return nn_fail(op, "result %d ('%s') is defined twice", i, name_of(value));
  nn_status status = has_sound_uses(value) ? NN_OK : nn_fail(op, "result %d ('%s') %s", i, name_of(value), bad_uses);
  const char *problem = find_type_problem(value->type);
  if (problem) status = nn_fail(op, "result %d ('%s') %s", i, name_of(value), problem);
  if (value->name && nn_map_get(v->names, value->name))
    status = nn_fail(op, "two values have the name '%s'", value->name);
  if (value->name) nn_map_put(v->names, value->name, v);
  return status;
}

static bool has_missing_items(const nn_attr *attr) {
  if (attr->count < 0) return true;
  for (int i = 0; i < attr->count; i++) {
    if (attr->kind == NN_ATTR_STRS && (!attr->strs || !attr->strs[i])) return true;
    if (attr->kind == NN_ATTR_DIMS && (!attr->dims || !attr->dims[i])) return true;
  }
  if (!attr->count) return false;
  return (attr->kind == NN_ATTR_INTS && !attr->ints) || (attr->kind == NN_ATTR_FLOATS && !attr->floats);
}

static bool has_overflow(const nn_attr *attr) {
  for (int i = 0; attr->kind == NN_ATTR_DIMS && i < attr->count; i++)
    if (nn_dim_is_overflow(attr->dims[i])) return true;
  return false;
}

static nn_status verify_attr(const verifier *v, nn_op *op, int i) {
  const nn_attr_info *info = &nn_op_infos[op->code].attrs[i];
  const nn_attr *attr = &op->attrs[i];
  if (attr->kind != info->kind) return nn_fail(op, "attribute '%s' is of another kind than ops.def says", info->name);
  if (has_missing_items(attr) || (attr->kind == NN_ATTR_STR && !attr->s))
    return nn_fail(op, "attribute '%s' has no value", info->name);
  if (has_overflow(attr)) return nn_fail(op, "attribute '%s' has a dimension that overflows 64 bits", info->name);
  if (attr->kind == NN_ATTR_DTYPE && attr->is_set && (attr->i < 0 || attr->i >= NN_DTYPE_COUNT))
    return nn_fail(op, "attribute '%s' is %lld, expected an element type", info->name, (long long)attr->i);
  if (attr->kind == NN_ATTR_GRAPH && attr->graph && !has(v->graphs, attr->graph))
    return nn_fail(op, "attribute '%s' names a graph that the module does not have", info->name);
  if (attr->kind == NN_ATTR_GRAPH && attr->graph == v->graph)
    return nn_fail(op, "attribute '%s' names its own graph", info->name);
  return NN_OK;
}

/* NN_FAIL after any report; all are made. */
static nn_status verify_structure(verifier *v, nn_op *op) {
  nn_status status = verify_links(v, op);
  for (int i = 0; i < op->nin; i++)
    if (verify_operand(v, op, i) != NN_OK) status = NN_FAIL;
  for (int i = 0; i < nn_op_infos[op->code].nattrs; i++)
    if (verify_attr(v, op, i) != NN_OK) status = NN_FAIL;
  for (int i = 0; i < op->nout; i++)
    if (verify_result(v, op, i) != NN_OK) status = NN_FAIL;
  if (op->code == NN_OP_RETURN && op->next) status = nn_fail(op, "operations follow the return");
  return status;
}

/* ---- ops: types ---------------------------------------------------------------------------------- */

/* The rule runs on a copy with results of its own, and must not note checks: those were made long ago. */
static void verify_types(verifier *v, nn_op *op) {
  nn_op copy = *op;
  nn_value *results = NN_NEW_ARRAY(v->scratch, nn_value, op->nout);
  copy.out = NN_NEW_ARRAY(v->scratch, nn_value *, op->nout);
  for (int i = 0; i < op->nout; i++) {
    results[i] = (nn_value){.kind = NN_RESULT, .def = &copy, .index = i};
    copy.out[i] = &results[i];
  }
  if (nn_op_check_row(&copy) != NN_OK || nn_op_infos[op->code].shape(&copy) != NN_OK) return;
  for (int i = 0; i < op->nout; i++) {
    nn_type found = op->out[i]->type, expected = results[i].type;
    if (found.dtype == expected.dtype && nn_type_same_shape(found, expected)) continue;
    nn_fail(op, "result %d ('%s') is %s, expected %s by the rule of %s", i, name_of(op->out[i]),
            nn_type_text(v->scratch, found), nn_type_text(v->scratch, expected), nn_op_infos[op->code].text);
  }
}

static bool has_sound_operand_types(const nn_op *op) {
  for (int i = 0; i < op->nin; i++)
    if (op->in[i] && find_type_problem(op->in[i]->type)) return false; /* reported where it is defined */
  return true;
}

/* Results become visible after the op even when it is wrong: its users are not to blame. */
static void verify_op(verifier *v, nn_op *op) {
  if ((int)op->code < 0 || op->code >= NN_OP_COUNT) {
    fail(v, "an operation has the opcode %d, which does not exist", (int)op->code);
  } else if (verify_structure(v, op) == NN_OK && has_sound_operand_types(op)) {
    verify_types(v, op);
  }
  for (int i = 0; i < op->nout; i++)
    if (op->out[i]) show(v, op->out[i]);
}

/* ---- graphs -------------------------------------------------------------------------------------- */

static void verify_param(verifier *v, const nn_value *value, int i) {
  if (!value) {
    fail(v, "parameter %d does not exist", i);
    return;
  }
  show(v, value);
  if (value->kind != NN_PARAM || value->graph != v->graph || value->index != i)
    fail(v, "parameter %d ('%s') does not know its graph and position", i, name_of(value));
  if (!has_sound_uses(value)) fail(v, "parameter %d ('%s') %s", i, name_of(value), bad_uses);
  const char *problem = find_type_problem(value->type);
  if (problem) fail(v, "parameter %d ('%s') %s", i, name_of(value), problem);
  if (value->name && nn_map_get(v->names, value->name)) fail(v, "two values have the name '%s'", value->name);
  if (value->name) nn_map_put(v->names, value->name, v);
}

/* A list that runs in a circle would be walked for ever: seen ops stop the walk. */
static void verify_ops(verifier *v, const nn_graph *g) {
  nn_map *seen = nn_map_new(v->scratch);
  for (nn_op *op = g->first; op; op = op->next) {
    if (has(seen, op)) {
      fail(v, "the list of operations runs in a circle");
      return;
    }
    put(seen, op);
    verify_op(v, op);
  }
}

static void verify_graph(verifier *v, nn_graph *g) {
  v->graph = g;
  v->names = nn_map_new(v->scratch);
  for (int i = 0; i < g->nparams; i++) verify_param(v, g->params[i], i);
  verify_ops(v, g);
  if (!nn_graph_return(g)) fail(v, "the graph does not end with a return");
}

static void verify_module(verifier *v) {
  const nn_module *m = v->m;
  for (int i = 0; i < m->nconsts; i++) verify_const(v, m->consts[i]);
  for (const nn_graph *g = m->graphs; g && !has(v->graphs, g); g = g->next) put(v->graphs, g);
  if (!m->main)
    fail(v, "the module has no main graph");
  else if (!has(v->graphs, m->main))
    fail(v, "the main graph is not among the module's graphs");
  nn_map *names = nn_map_new(v->scratch), *seen = nn_map_new(v->scratch);
  for (nn_graph *g = m->graphs; g && !has(seen, g); g = g->next) {
    put(seen, g);
    v->graph = NULL;
    if (nn_map_get(names, g->name)) fail(v, "two graphs have the name '%s'", g->name);
    nn_map_put(names, g->name, v);
    verify_graph(v, g);
  }
}

nn_status nn_verify(nn_module *m) {
  verifier v = {.m = m, .scratch = nn_arena_new()};
  if (!v.scratch) return nn_report(&m->diags, NN_ERROR, NULL, NULL, NULL, "no memory to verify the module");
  v.visible = nn_map_new(v.scratch);
  v.graphs = nn_map_new(v.scratch);
  v.names = nn_map_new(v.scratch);
  int nerrors = m->diags.nerrors;
  struct nn_open_checks *open_checks = m->open_checks;
  m->open_checks = NULL;
  verify_module(&v);
  m->open_checks = open_checks;
  nn_arena_free(v.scratch);
  return m->diags.nerrors == nerrors ? NN_OK : NN_FAIL;
}
