/* Functions that a model brings along, and branches: their nodes are imported in place of the node that
   uses them, under its name as a prefix. */
#include "frontend/onnx_import.h"

#include <string.h>

static const char *function_key(nn_arena *arena, const char *domain, const char *name, const char *overload) {
  return nn_sprintf(arena, "%s:%s:%s", onnx_canonical_domain(domain), name ? name : "", overload ? overload : "");
}

/* The overload: field 13 of FunctionProto and 8 of NodeProto, newer than the schema that protobuf-c was given. */
static const char *overload_of(nn_arena *arena, const ProtobufCMessage *message, unsigned tag) {
  size_t size_bytes;
  const uint8_t *bytes = onnx_unknown_field(message, tag, 0, &size_bytes);
  return bytes && size_bytes ? nn_strndup(arena, (const char *)bytes, size_bytes) : "";
}

void onnx_collect_functions(onnx_import *I) {
  for (size_t i = 0; i < I->model->n_functions; i++) {
    Onnx__FunctionProto *f = I->model->functions[i];
    const char *key = function_key(I->scratch, f->domain, f->name, overload_of(I->scratch, &f->base, 13));
    if (nn_map_get(I->functions, key))
      nn_report(&I->m->diags, NN_ERROR, NULL, NULL, NULL, "function '%s' of domain '%s' is defined twice",
                f->name ? f->name : "", onnx_canonical_domain(f->domain));
    else
      nn_map_put(I->functions, key, f);
  }
}

const Onnx__FunctionProto *onnx_find_function(const onnx_import *I, const Onnx__NodeProto *node) {
  const char *overload = overload_of(I->scratch, &node->base, 8);
  return nn_map_get(I->functions, function_key(I->scratch, node->domain, node->op_type, overload));
}

static nn_status check_recursion(onnx_site *site, const Onnx__FunctionProto *f, onnx_frame *frame) {
  *frame = (onnx_frame){f, site->scope->frame, 1};
  if (frame->caller) frame->depth = frame->caller->depth + 1;
  for (const onnx_frame *c = frame->caller; c; c = c->caller)
    if (c->function == f) return onnx_fail(&site->n, "function '%s' calls itself", site->n.op);
  if (frame->depth > ONNX_MAX_NESTING)
    return onnx_unsupported(&site->n, "functions call each other more than %d deep", ONNX_MAX_NESTING);
  return NN_OK;
}

/* Defaults (attribute_proto, field 11, newer than the schema), then what the call gives. */
static nn_status bind_attributes(onnx_site *site, const Onnx__FunctionProto *f, onnx_scope *body) {
  onnx_import *I = site->n.import;
  body->attrs = nn_map_new(I->scratch);
  size_t size_bytes;
  const uint8_t *bytes;
  for (int k = 0; (bytes = onnx_unknown_field(&f->base, 11, k, &size_bytes)); k++) {
    Onnx__AttributeProto *a = (Onnx__AttributeProto *)onnx_unpack(
        I->scratch, &I->m->diags, &onnx__attribute_proto__descriptor, bytes, size_bytes);
    if (!a) return NN_FAIL;
    if (a->name) nn_map_put(body->attrs, a->name, a);
  }
  for (size_t i = 0; i < site->proto->n_attribute; i++) {
    const char *name = site->proto->attribute[i]->name;
    const Onnx__AttributeProto *a = name ? onnx_find_attr(site, name, NULL) : NULL;
    if (a) nn_map_put(body->attrs, name, (void *)(uintptr_t)a);
  }
  return NN_OK;
}

/* The scope's value of each name becomes an output of the node. */
static nn_status take_outputs(onnx_site *site, onnx_scope *scope, char *const *names, size_t count) {
  onnx_node *n = &site->n;
  if ((size_t)n->nout > count) return onnx_fail(n, "has %d outputs, '%s' gives %zu", n->nout, n->op, count);
  for (int i = 0; i < n->nout; i++) {
    if (!onnx_wants(n, i)) continue;
    onnx_slot *slot = onnx_scope_find(scope, names[i]);
    if (!slot) return onnx_fail(n, "'%s' has an output '%s' that nothing inside gives", n->op, names[i]);
    if (slot->state == ONNX_SLOT_POISONED) site->is_poisoned = true;
    if (slot->state == ONNX_SLOT_ABSENT)
      return onnx_fail(n, "output '%s' is an input of '%s' that was not given", names[i], n->op);
    n->out[i] = slot->value;
  }
  return site->is_poisoned ? NN_FAIL : NN_OK;
}

nn_status onnx_inline_function(onnx_site *site, const Onnx__FunctionProto *f) {
  onnx_node *n = &site->n;
  onnx_import *I = n->import;
  onnx_frame frame;
  NN_TRY(check_recursion(site, f, &frame));
  if ((size_t)n->nin > f->n_input)
    return onnx_fail(n, "has %d inputs, function '%s' takes %zu", n->nin, n->op, f->n_input);
  onnx_scope body = {.opsets = f->opset_import, .nopsets = f->n_opset_import, .frame = &frame};
  body.prefix = nn_sprintf(I->m->arena, "%s/", n->name);
  onnx_scope_init(I, &body, NULL);
  NN_TRY(bind_attributes(site, f, &body));
  for (size_t i = 0; i < f->n_input; i++) {
    nn_value *v = i < (size_t)n->nin ? n->in[i] : NULL;
    onnx_scope_put(I, &body, f->input[i], v ? ONNX_SLOT_VALUE : ONNX_SLOT_ABSENT, v);
  }
  onnx_import_nodes(I, &body, f->node, f->n_node);
  return take_outputs(site, &body, f->output, f->n_output);
}

nn_status onnx_inline_graph(onnx_site *site, const Onnx__GraphProto *g) {
  onnx_import *I = site->n.import;
  onnx_scope body = {0};
  char **names = NN_NEW_ARRAY(I->scratch, char *, g->n_output + 1);
  onnx_scope_init(I, &body, site->scope);
  body.prefix = nn_sprintf(I->m->arena, "%s/", site->n.name);
  if (g->n_input) return onnx_fail(&site->n, "a branch has %zu inputs, expected none", g->n_input);
  onnx_declare(I, &body, g);
  onnx_import_initializers(I, &body, g);
  onnx_import_nodes(I, &body, g->node, g->n_node);
  for (size_t i = 0; i < g->n_output; i++) names[i] = g->output[i]->name ? g->output[i]->name : (char *)(uintptr_t) "";
  return take_outputs(site, &body, names, g->n_output);
}
