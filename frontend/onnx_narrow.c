/* Where a model with f16 or bf16 values rounds.

   No target that nncc knows computes in these types, so operators compute in f32, and their results stay f32 on the way
   to the next one: rounding them would cost time and precision. Values are rounded where the model stores them: at
   outputs of the graph, and around the operators of onnx_narrow.def, which take and give the narrow type. Such an
   operator between others that compute in f32 follows them ("surrounded"): a Reshape between two MatMul moves f32.

   The lines are those of ONNX Runtime on CPUs without f16 arithmetic, so that a network gives the numbers that its
   author knows, to the tolerance of f32. Here ops are marked; passes/pass_widen.c does the work. */
#include "frontend/onnx_import.h"

#include <string.h>

static const struct {
  const char *domain, *op;
  int since;
} narrow_ops[] = {
#define ONNX_NARROW(domain, name, since) {domain, #name, since},
#include "frontend/onnx_narrow.def"
#undef ONNX_NARROW
};

/* How nodes use a name; kept in scope->traffic. */
enum { GIVEN_NARROW = 1, GIVEN_BY_CAST = 2, READ = 4, READ_NARROW = 8 };

static bool is_narrow(const nn_value *v) { return v && nn_dtype_is_narrow(v->type.dtype); }

static bool is_narrow_op(const onnx_import *I, const onnx_scope *scope, const Onnx__NodeProto *node) {
  const char *domain = onnx_canonical_domain(node->domain);
  if (!node->op_type) return false;
  for (size_t i = 0; i < sizeof narrow_ops / sizeof *narrow_ops; i++)
    if (strcmp(node->op_type, narrow_ops[i].op) == 0 && strcmp(domain, narrow_ops[i].domain) == 0)
      return onnx_scope_opset(I, scope, domain) >= narrow_ops[i].since;
  return false;
}

static bool is_cast(const Onnx__NodeProto *node) {
  return node->op_type && (strcmp(node->op_type, "Cast") == 0 || strcmp(node->op_type, "CastLike") == 0);
}

static unsigned traffic(const onnx_scope *scope, const char *name) {
  return (unsigned)(uintptr_t)nn_map_get(scope->traffic, name);
}

static void note(onnx_scope *scope, const char *name, unsigned bits) {
  if (name && *name) nn_map_put(scope->traffic, name, (void *)(uintptr_t)(traffic(scope, name) | bits));
}

/* What sub-graphs capture. */
static void note_captures(onnx_scope *scope, const Onnx__GraphProto *g) {
  for (size_t i = 0; i < g->n_node; i++) {
    const Onnx__NodeProto *node = g->node[i];
    for (size_t k = 0; k < node->n_input; k++) note(scope, node->input[k], READ | READ_NARROW);
    for (size_t a = 0; a < node->n_attribute; a++)
      if (node->attribute[a]->g) note_captures(scope, node->attribute[a]->g);
  }
}

static void note_node(onnx_import *I, onnx_scope *scope, const Onnx__NodeProto *node) {
  bool cast = is_cast(node), narrow = cast || is_narrow_op(I, scope, node);
  unsigned given = (narrow ? GIVEN_NARROW : 0) | (cast ? GIVEN_BY_CAST : 0), read = READ | (narrow ? READ_NARROW : 0);
  for (size_t i = 0; i < node->n_input; i++) note(scope, node->input[i], read);
  for (size_t i = 0; i < node->n_output; i++) note(scope, node->output[i], given);
  for (size_t i = 0; i < node->n_attribute; i++)
    if (node->attribute[i]->g) note_captures(scope, node->attribute[i]->g);
}

void onnx_note_traffic(onnx_import *I, onnx_scope *scope, Onnx__NodeProto *const *nodes, size_t count) {
  const Onnx__GraphProto *g = I->model->graph;
  bool is_main = nodes == g->node;
  scope->traffic = nn_map_new(I->scratch);
  for (size_t i = 0; i < count; i++) note_node(I, scope, nodes[i]);
  for (size_t i = 0; i < g->n_output && is_main; i++) note(scope, g->output[i]->name, READ | READ_NARROW);
}

/* All narrow values that it reads from nodes, and all that it gives to nodes, are on their way between operators that
   compute in f32; and there are some of both. */
static bool is_surrounded(const onnx_site *site) {
  const onnx_node *n = &site->n;
  int nread = 0, ngiven = 0;
  for (int i = 0; i < n->nin; i++) {
    if (!is_narrow(n->in[i]) || n->in[i]->kind != NN_RESULT) continue;
    if (traffic(site->scope, site->proto->input[i]) & GIVEN_NARROW) return false;
    nread++;
  }
  for (int i = 0; i < n->nout; i++) {
    unsigned uses = traffic(site->scope, site->proto->output[i]);
    if (!is_narrow(n->out[i]) || !(uses & READ)) continue;
    if (uses & READ_NARROW) return false;
    ngiven++;
  }
  return nread && ngiven;
}

static bool touches_narrow(const onnx_node *n) {
  for (int i = 0; i < n->nin; i++)
    if (is_narrow(n->in[i])) return true;
  for (int i = 0; i < n->nout; i++)
    if (is_narrow(n->out[i])) return true;
  return false;
}

/* A model that casts to f16 and at once back wants the rounding; one that casts to f16 for the sake of an operator does
   not: there a Cast is as any operator that computes. */
static bool is_cast_of_cast(const onnx_site *site) {
  return is_cast(site->proto) && traffic(site->scope, site->proto->input[0]) & GIVEN_BY_CAST;
}

void onnx_mark_rounding(onnx_site *site, nn_op *first) {
  bool narrow = is_narrow_op(site->n.import, site->scope, site->proto);
  if (!touches_narrow(&site->n) || (!is_cast_of_cast(site) && (!narrow || is_surrounded(site)))) return;
  for (nn_op *op = first; op; op = op->next) op->rounds = true;
}
