/* Attributes of a node by name and kind.

   Each access states the kind it expects; a file that holds another is reported once for the node, and the
   fallback returned. In the body of a function an attribute may refer to one of the calling node's. */
#include "frontend/onnx_import.h"

#include <string.h>

typedef Onnx__AttributeProto attr_proto;

enum {
#define KIND(name) IS_##name = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##name
  KIND(UNDEFINED),
  KIND(FLOAT),
  KIND(INT),
  KIND(STRING),
  KIND(TENSOR),
  KIND(GRAPH),
  KIND(SPARSE_TENSOR),
  KIND(FLOATS),
  KIND(INTS),
  KIND(STRINGS),
  KIND(TENSORS),
  KIND(GRAPHS)
#undef KIND
};

static const char *kind_text(int kind) {
  switch (kind) {
  case IS_FLOAT: return "a float";
  case IS_INT: return "an int";
  case IS_STRING: return "a string";
  case IS_TENSOR: return "a tensor";
  case IS_GRAPH: return "a graph";
  case IS_SPARSE_TENSOR: return "a sparse tensor";
  case IS_FLOATS: return "a list of floats";
  case IS_INTS: return "a list of ints";
  case IS_STRINGS: return "a list of strings";
  case IS_TENSORS: return "a list of tensors";
  case IS_GRAPHS: return "a list of graphs";
  default: return "of an unknown type";
  }
}

/* Files of IR version 1 do not say: the field that is there tells. */
static int kind_of(const attr_proto *a) {
  if (a->has_type && a->type != ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__UNDEFINED) return (int)a->type;
  if (a->has_f) return IS_FLOAT;
  if (a->has_i) return IS_INT;
  if (a->has_s) return IS_STRING;
  if (a->t) return IS_TENSOR;
  if (a->g) return IS_GRAPH;
  if (a->n_floats) return IS_FLOATS;
  if (a->n_ints) return IS_INTS;
  if (a->n_strings) return IS_STRINGS;
  return IS_UNDEFINED;
}

static const attr_proto *find_own(const Onnx__NodeProto *node, const char *name) {
  for (size_t i = 0; i < node->n_attribute; i++)
    if (node->attribute[i]->name && strcmp(node->attribute[i]->name, name) == 0) return node->attribute[i];
  return NULL;
}

const attr_proto *onnx_find_attr(const onnx_site *site, const char *name, bool *by_reference) {
  const attr_proto *a = find_own(site->proto, name);
  bool refers = a && a->ref_attr_name && *a->ref_attr_name;
  if (by_reference) *by_reference = refers;
  if (!refers) return a;
  return site->scope->attrs ? nn_map_get(site->scope->attrs, a->ref_attr_name) : NULL;
}

/* The attribute if it is there and of this kind. */
static const attr_proto *get(onnx_node *n, const char *name, int kind) {
  onnx_site *site = (onnx_site *)n;
  const attr_proto *a = onnx_find_attr(site, name, NULL);
  if (!a || kind_of(a) == kind) return a;
  if (!site->quiet_attrs)
    onnx_fail(n, "attribute '%s' is %s, expected %s", name, kind_text(kind_of(a)), kind_text(kind));
  site->quiet_attrs = site->failed = true;
  return NULL;
}

bool onnx_has(onnx_node *n, const char *name) { return onnx_find_attr((onnx_site *)n, name, NULL) != NULL; }

int64_t onnx_int(onnx_node *n, const char *name, int64_t fallback) {
  const attr_proto *a = get(n, name, IS_INT);
  return a ? a->i : fallback;
}

double onnx_float(onnx_node *n, const char *name, double fallback) {
  const attr_proto *a = get(n, name, IS_FLOAT);
  return a ? (double)a->f : fallback;
}

/* Bytes as a string; a NUL inside would hide what follows, so it fails. */
static const char *copy_bytes(onnx_node *n, const char *name, ProtobufCBinaryData bytes) {
  if (bytes.len && memchr(bytes.data, '\0', bytes.len)) {
    onnx_fail(n, "attribute '%s' holds a NUL byte", name);
    return "";
  }
  return nn_strndup(n->m->arena, bytes.len ? (const char *)bytes.data : "", bytes.len);
}

const char *onnx_str(onnx_node *n, const char *name, const char *fallback) {
  const attr_proto *a = get(n, name, IS_STRING);
  return a ? copy_bytes(n, name, a->s) : fallback;
}

const int64_t *onnx_ints(onnx_node *n, const char *name, int *count) {
  const attr_proto *a = get(n, name, IS_INTS);
  *count = a ? (int)a->n_ints : 0;
  return a ? nn_memdup(n->m->arena, a->ints ? a->ints : (int64_t[1]){0}, (a->n_ints + !a->n_ints) * sizeof *a->ints)
           : NULL;
}

const double *onnx_floats(onnx_node *n, const char *name, int *count) {
  const attr_proto *a = get(n, name, IS_FLOATS);
  *count = a ? (int)a->n_floats : 0;
  if (!a) return NULL;
  double *values = NN_NEW_ARRAY(n->m->arena, double, a->n_floats + 1);
  for (size_t i = 0; i < a->n_floats; i++) values[i] = (double)a->floats[i];
  return values;
}

const char *const *onnx_strs(onnx_node *n, const char *name, int *count) {
  const attr_proto *a = get(n, name, IS_STRINGS);
  *count = a ? (int)a->n_strings : 0;
  if (!a) return NULL;
  const char **values = NN_NEW_ARRAY(n->m->arena, const char *, a->n_strings + 1);
  for (size_t i = 0; i < a->n_strings; i++) values[i] = copy_bytes(n, name, a->strings[i]);
  return values;
}

nn_tensor *onnx_tensor(onnx_node *n, const char *name) {
  onnx_site *site = (onnx_site *)n;
  const attr_proto *a = onnx_find_attr(site, name, NULL);
  const char *role = nn_sprintf(n->m->arena, "attribute '%s'", name);
  nn_tensor *t = NULL;
  if (!a) return NULL;
  if (kind_of(a) == IS_SPARSE_TENSOR && a->sparse_tensor)
    t = onnx_decode_sparse(n->import, a->sparse_tensor, role, n->name, n->op);
  else if (get(n, name, IS_TENSOR) && !a->t)
    onnx_fail(n, "attribute '%s' has no tensor", name);
  else if (a->t)
    t = onnx_decode_tensor(n->import, a->t, role, n->name, n->op);
  if (!t) site->failed = true;
  return t;
}

const Onnx__GraphProto *onnx_graph_attr(onnx_node *n, const char *name) {
  bool by_reference = false;
  if (!onnx_find_attr((onnx_site *)n, name, &by_reference)) {
    onnx_fail(n, "attribute '%s' is missing, expected a graph", name);
    return NULL;
  }
  const attr_proto *a = get(n, name, IS_GRAPH);
  if (by_reference) {
    onnx_unsupported(n, "attribute '%s' is a graph that a function gets from its caller", name);
    return NULL;
  }
  if (a && !a->g) onnx_fail(n, "attribute '%s' has no graph", name);
  return a ? a->g : NULL;
}
