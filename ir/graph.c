/* Values, operations and graphs: making them, linking operands, moving and removing.

   Every operand slot of an op is a node in a doubly linked list of the value it reads (nn_use), so
   changing one operand, or all uses of a value, needs no search. Removed ops stay in the arena. */
#include "ir/ir.h"

#include <assert.h>
#include <string.h>

/* ---- use lists ------------------------------------------------------------------------------------ */

static void link_use(nn_use *use, nn_value *v) {
  use->next = v->uses;
  use->link = &v->uses;
  if (v->uses) v->uses->link = &use->next;
  v->uses = use;
}

static void unlink_use(nn_use *use) {
  if (!use->link) return;
  *use->link = use->next;
  if (use->next) use->next->link = use->link;
  use->next = NULL;
  use->link = NULL;
}

void nn_op_set_input(nn_op *op, int i, nn_value *v) {
  assert(i >= 0 && i < op->nin);
  unlink_use(&op->in_use[i]);
  op->in[i] = v;
  if (v) link_use(&op->in_use[i], v);
}

void nn_value_replace(nn_value *old, nn_value *replacement) {
  assert(old != replacement);
  while (old->uses) nn_op_set_input(old->uses->user, old->uses->index, replacement);
}

int nn_value_nuses(const nn_value *v) {
  int count = 0;
  for (const nn_use *use = v->uses; use; use = use->next) count++;
  return count;
}

/* ---- constants and states ------------------------------------------------------------------------- */

/* A name that no constant or state of the module has yet; NULL stays NULL. */
static const char *claim_name(nn_module *m, const char *name, nn_value *v) {
  if (!name) return NULL;
  const char *unique = name;
  for (int i = m->nconsts; nn_map_get(m->names, unique); i++) unique = nn_sprintf(m->arena, "%s_%d", name, i);
  nn_map_put(m->names, unique, v);
  return unique == name ? nn_strdup(m->arena, name) : unique;
}

/* The contents of a small integer or bool tensor; NULL for others, and for u64 beyond int64. */
static const nn_dim *elems_of_tensor(nn_module *m, nn_type type, const nn_tensor *t) {
  int64_t count;
  if (!nn_dtype_is_int(t->dtype) && t->dtype != NN_BOOL) return NULL;
  if (!nn_type_static_count(type, &count) || count > NN_MAX_ELEMS || !t->data) return NULL;
  nn_dim *elems = NN_NEW_ARRAY(m->arena, nn_dim, count ? count : 1);
  for (int64_t i = 0; i < count; i++) {
    int64_t value = nn_load_i64(t->dtype, t->data, (size_t)i);
    if (t->dtype == NN_U64 && value < 0) return NULL;
    elems[i] = nn_dim_const(m, t->dtype == NN_BOOL ? value != 0 : value);
  }
  return elems;
}

static nn_value *new_module_value(nn_module *m, nn_value_kind kind, const char *name, nn_type type, nn_tensor *tensor) {
  nn_value *v = NN_NEW(m->arena, nn_value);
  v->kind = kind;
  v->type = type;
  v->name = claim_name(m, name, v);
  v->tensor = tensor;
  NN_PUSH(m->arena, m->consts, m->nconsts, m->consts_cap, v);
  return v;
}

nn_value *nn_module_const(nn_module *m, const char *name, nn_tensor *tensor) {
  nn_type type = nn_type_static(m, tensor->dtype, tensor->rank, tensor->dims);
  nn_value *v = new_module_value(m, NN_CONST, name, type, tensor);
  v->elems = elems_of_tensor(m, type, tensor);
  return v;
}

nn_value *nn_module_state(nn_module *m, const char *name, nn_type type, nn_tensor *init) {
  return new_module_value(m, NN_STATE, name, type, init);
}

/* ---- ops ------------------------------------------------------------------------------------------ */

static void insert_op(nn_graph *g, nn_op *op, nn_op *before) {
  op->next = before;
  op->prev = before ? before->prev : g->last;
  if (op->prev)
    op->prev->next = op;
  else
    g->first = op;
  if (before)
    before->prev = op;
  else
    g->last = op;
}

static void detach_op(nn_op *op) {
  nn_graph *g = op->graph;
  if (op->prev)
    op->prev->next = op->next;
  else
    g->first = op->next;
  if (op->next)
    op->next->prev = op->prev;
  else
    g->last = op->prev;
  op->prev = op->next = NULL;
}

static void make_results(nn_op *op, int nout) {
  nn_arena *arena = op->graph->module->arena;
  op->nout = nout;
  op->out = NN_NEW_ARRAY(arena, nn_value *, nout);
  for (int i = 0; i < nout; i++) {
    nn_value *v = NN_NEW(arena, nn_value);
    v->kind = NN_RESULT;
    v->def = op;
    v->index = i;
    op->out[i] = v;
  }
}

static void make_operands(nn_op *op, nn_value *const *in, int nin) {
  nn_arena *arena = op->graph->module->arena;
  op->nin = nin;
  op->in = NN_NEW_ARRAY(arena, nn_value *, nin);
  op->in_use = NN_NEW_ARRAY(arena, nn_use, nin);
  for (int i = 0; i < nin; i++) {
    op->in_use[i].user = op;
    op->in_use[i].index = i;
    nn_op_set_input(op, i, in[i]);
  }
}

nn_op *nn_op_new(nn_graph *g, nn_op *before, nn_opcode code, nn_value *const *in, int nin, int nout) {
  assert(code >= 0 && code < NN_OP_COUNT && nin >= 0);
  assert(!before || before->graph == g);
  nn_op *op = NN_NEW(g->module->arena, nn_op);
  int own_nout = nn_op_infos[code].nout;
  op->code = code;
  op->graph = g;
  op->loc = "";
  make_operands(op, in, nin);
  make_results(op, nout >= 0 ? nout : own_nout >= 0 ? own_nout : 0);
  op->attrs = nn_attrs_default(g->module->arena, code);
  insert_op(g, op, before);
  return op;
}

void nn_op_remove(nn_op *op) {
  for (int i = 0; i < op->nout; i++) assert(!op->out[i]->uses);
  for (int i = 0; i < op->nin; i++) nn_op_set_input(op, i, NULL);
  detach_op(op);
}

void nn_op_move_before(nn_op *op, nn_op *before) {
  assert(op->graph == before->graph);
  if (op == before || op->next == before) return;
  detach_op(op);
  insert_op(op->graph, op, before);
}

/* ---- graphs --------------------------------------------------------------------------------------- */

nn_graph *nn_graph_new(nn_module *m, const char *name) {
  nn_graph *g = NN_NEW(m->arena, nn_graph);
  g->module = m;
  g->name = nn_strdup(m->arena, name);
  if (m->last_graph)
    m->last_graph->next = g;
  else
    m->graphs = g;
  m->last_graph = g;
  if (!m->main) m->main = g;
  return g;
}

nn_value *nn_graph_param(nn_graph *g, const char *name, nn_type type) {
  nn_arena *arena = g->module->arena;
  nn_value *v = NN_NEW(arena, nn_value);
  v->kind = NN_PARAM;
  v->type = type;
  v->name = name ? nn_strdup(arena, name) : NULL;
  v->index = g->nparams;
  v->graph = g;
  NN_PUSH(arena, g->params, g->nparams, g->params_cap, v);
  return v;
}

nn_op *nn_graph_return(nn_graph *g) { return g->last && g->last->code == NN_OP_RETURN ? g->last : NULL; }

const char *nn_graph_output_name(nn_graph *g, int i) {
  nn_op *op = nn_graph_return(g);
  const nn_attr *names = nn_op_attr(op, "names");
  if (i < names->count && names->strs[i][0]) return names->strs[i];
  return op->in[i]->name && op->in[i]->name[0] ? op->in[i]->name : nn_sprintf(g->module->arena, "output_%d", i);
}

nn_op *nn_graph_set_return(nn_graph *g, nn_value *const *results, int n) {
  nn_op *old = nn_graph_return(g);
  nn_op *op = nn_op_new(g, NULL, NN_OP_RETURN, results, n, 0);
  if (old) nn_op_remove(old);
  return op;
}

/* ---- cloning -------------------------------------------------------------------------------------- */

static nn_value *clone_param(nn_graph *to, const nn_value *v) {
  nn_value *copy = nn_graph_param(to, v->name, v->type);
  copy->elems = v->elems;
  return copy;
}

static void clone_attrs(nn_op *copy, const nn_op *op, const char *name) {
  nn_arena *arena = copy->graph->module->arena;
  for (int i = 0; i < nn_op_infos[op->code].nattrs; i++) {
    copy->attrs[i] = op->attrs[i];
    nn_graph *body = op->attrs[i].graph;
    if (body) copy->attrs[i].graph = nn_graph_clone(body, nn_sprintf(arena, "%s.%s", name, body->name));
  }
}

/* Operands that the map does not know are constants and states: both copies read the same. */
static void clone_op(nn_graph *to, const nn_op *op, nn_map *values) {
  nn_arena *arena = to->module->arena;
  nn_value **in = NN_NEW_ARRAY(arena, nn_value *, op->nin);
  for (int i = 0; i < op->nin; i++) {
    nn_value *copy = op->in[i] ? nn_map_get_ptr(values, op->in[i]) : NULL;
    in[i] = copy ? copy : op->in[i];
  }
  nn_op *copy = nn_op_new(to, NULL, op->code, in, op->nin, op->nout);
  copy->loc = op->loc;
  copy->loc_op = op->loc_op;
  copy->rounds = op->rounds;
  clone_attrs(copy, op, to->name);
  for (int i = 0; i < op->nout; i++) {
    copy->out[i]->type = op->out[i]->type;
    copy->out[i]->name = op->out[i]->name;
    copy->out[i]->elems = op->out[i]->elems;
    nn_map_put_ptr(values, op->out[i], copy->out[i]);
  }
}

nn_graph *nn_graph_clone(nn_graph *g, const char *name) {
  nn_graph *copy = nn_graph_new(g->module, name);
  nn_map *values = nn_map_new(g->module->arena);
  for (int i = 0; i < g->nparams; i++) nn_map_put_ptr(values, g->params[i], clone_param(copy, g->params[i]));
  for (const nn_op *op = g->first; op; op = op->next) clone_op(copy, op, values);
  return copy;
}
