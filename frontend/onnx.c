/* ONNX import: from a file, or bytes, to a module.

   The bytes are mapped, skimmed (skim.c) and unpacked by protobuf-c; then come the opsets, the functions
   (onnx_function.c), the initializers, inputs and nodes (onnx_graph.c), each operator through its importer in
   onnx_<family>.c, and the outputs. A model whose ranks depend on symbols being 1 (Squeeze without axes) is read
   with all of them kept; where that fails or misses the declared ranks of its outputs, it is read again with
   all of them dropped, and that reading is taken if it does better. Models are untrusted: whatever the bytes say, the
   result is a module whose diagnostics tell everything that is wrong. */
#include "frontend/onnx_import.h"

#include <string.h>

enum { NEWEST_OPSET = 28 }; /* of the default domain: the operators' definitions up to here are known */

/* Sets up all of the import that does not depend on the bytes. */
static void init_import(onnx_import *I, nn_module *m, const char *const *dims, const char *const *shapes) {
  static const struct {
    const char *key;
    onnx_entry entry;
  } rows[] = {
#define ONNX_OP(domain, name) {domain ":" #name, {onnx_##name}},
#include "frontend/onnx_ops.def"
#undef ONNX_OP
  };
  nn_arena *scratch = nn_arena_new();
  *I = (onnx_import){.m = m, .scratch = scratch, .dim_pins = dims, .shape_pins = shapes};
  if (!scratch) return;
  I->external = nn_map_new(scratch);
  I->importers = nn_map_new(scratch);
  I->functions = nn_map_new(scratch);
  I->value_names = nn_map_new(scratch);
  I->dim_params = nn_map_new(scratch);
  I->symbol_names = nn_map_new(scratch);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    nn_map_put(I->importers, rows[i].key, (void *)(uintptr_t)&rows[i].entry);
  size_t ndims = 0, nshapes = 0;
  while (dims && dims[ndims]) ndims++;
  while (shapes && shapes[nshapes]) nshapes++;
  I->dim_pin_used = NN_NEW_ARRAY(scratch, bool, ndims + 1);
  I->shape_pin_used = NN_NEW_ARRAY(scratch, bool, nshapes + 1);
}

static nn_status check_opsets(onnx_import *I) {
  nn_diags *d = &I->m->diags;
  if (!I->model->n_opset_import)
    return nn_report(d, NN_ERROR, NULL, NULL, NULL, "the model does not say which opset it uses (no opset_import)");
  for (size_t i = 0; i < I->model->n_opset_import; i++) {
    const Onnx__OperatorSetIdProto *o = I->model->opset_import[i];
    bool is_default = *onnx_canonical_domain(o->domain) == '\0';
    if (o->version < 1 || (is_default && o->version > NEWEST_OPSET))
      nn_report(d, NN_ERROR, NULL, NULL,
                o->version < 1 ? NULL : "convert the model to an older opset (onnx.version_converter)",
                "opset %lld of domain '%s' is unknown, expected 1 to %d", (long long)o->version,
                onnx_canonical_domain(o->domain), NEWEST_OPSET);
  }
  return d->nerrors ? NN_FAIL : NN_OK;
}

/* Inputs that are initializers too are constants: what older files write for every weight. */
static void import_inputs(onnx_import *I, onnx_scope *scope, const Onnx__GraphProto *g) {
  nn_map *seen = nn_map_new(I->scratch);
  for (size_t i = 0; i < g->n_input; i++) {
    const Onnx__ValueInfoProto *info = g->input[i];
    if (!info->name || !*info->name) {
      nn_report(&I->m->diags, NN_ERROR, NULL, NULL, NULL, "graph input %zu has no name", i);
      continue;
    }
    if (nn_map_get(seen, info->name)) {
      nn_report(&I->m->diags, NN_ERROR, NULL, NULL, NULL, "the name '%s' is defined twice, again by a graph input",
                info->name);
      continue;
    }
    nn_map_put(seen, info->name, I);
    if (onnx_scope_defines(scope, info->name)) continue;
    nn_value *v = onnx_import_input(I, info);
    if (v) onnx_pin_value(I, v);
    onnx_scope_put(I, scope, info->name, v ? ONNX_SLOT_VALUE : ONNX_SLOT_POISONED, v);
  }
  onnx_check_pins(I);
}

bool onnx_drops_symbols(onnx_node *n) {
  n->import->is_ambiguous = true;
  return n->import->drops_symbols;
}

static bool has_declared_rank(onnx_import *I, const Onnx__ValueInfoProto *info, const nn_value *v) {
  const nn_dim *dims;
  int rank = onnx_declared_dims(I, info, &dims);
  return rank < 0 || rank == v->type.rank;
}

static void import_outputs(onnx_import *I, onnx_scope *scope, const Onnx__GraphProto *g) {
  nn_value **results = NN_NEW_ARRAY(I->scratch, nn_value *, g->n_output + 1);
  const char **names = NN_NEW_ARRAY(I->m->arena, const char *, g->n_output + 1);
  nn_map *seen = nn_map_new(I->scratch);
  bool is_complete = true;
  I->has_declared_ranks = true;
  if (!g->n_output) nn_report(&I->m->diags, NN_ERROR, NULL, NULL, NULL, "the graph has no outputs");
  for (size_t i = 0; i < g->n_output; i++) {
    const char *name = g->output[i]->name ? g->output[i]->name : "";
    onnx_slot *slot = onnx_scope_find(scope, name);
    if (!slot)
      nn_report(&I->m->diags, NN_ERROR, NULL, NULL, NULL, "graph output '%s' is given by no node, input or initializer",
                name);
    if (nn_map_get(seen, name))
      nn_report(&I->m->diags, NN_ERROR, NULL, NULL, NULL, "graph output '%s' is listed twice", name);
    nn_map_put(seen, name, I);
    is_complete &= slot && slot->state == ONNX_SLOT_VALUE;
    results[i] = slot ? slot->value : NULL;
    I->has_declared_ranks &= results[i] && has_declared_rank(I, g->output[i], results[i]);
    names[i] = nn_strdup(I->m->arena, name);
  }
  if (!is_complete || I->m->diags.nerrors) return;
  nn_op *op = nn_graph_set_return(I->m->main, results, (int)g->n_output);
  nn_set_strs(op, "names", names, (int)g->n_output); /* a value may be an input, or two outputs: it cannot hold them */
}

static void import_model(onnx_import *I) {
  nn_module *m = I->m;
  const Onnx__GraphProto *g = I->model->graph;
  if (!g) {
    nn_report(&m->diags, NN_ERROR, NULL, NULL, "is this an ONNX model?", "the file holds no graph");
    return;
  }
  if (check_opsets(I) != NN_OK) return;
  if (I->model->producer_name) m->producer = nn_strdup(m->arena, I->model->producer_name);
  onnx_scope scope = {.prefix = "", .opsets = I->model->opset_import, .nopsets = I->model->n_opset_import};
  onnx_scope_init(I, &scope, NULL);
  m->main = m->main ? m->main : nn_graph_new(m, "main");
  I->builder = (nn_builder){.graph = m->main, .loc = "", .fold = true};
  onnx_collect_functions(I);
  onnx_declare(I, &scope, g);
  onnx_import_initializers(I, &scope, g);
  import_inputs(I, &scope, g);
  onnx_import_nodes(I, &scope, g->node, g->n_node);
  import_outputs(I, &scope, g);
}

/* Skims and unpacks; NULL + diag. */
static ProtobufCMessage *read_message(onnx_import *I, onnx_root root, const uint8_t *bytes, size_t size_bytes) {
  const ProtobufCMessageDescriptor *type =
      root == ONNX_ROOT_MODEL ? &onnx__model_proto__descriptor : &onnx__tensor_proto__descriptor;
  I->base = bytes;
  if (onnx_skim_bytes(I->scratch, &I->m->diags, root, bytes, size_bytes, &I->skim) != NN_OK) return NULL;
  return onnx_unpack(I->scratch, &I->m->diags, type, I->skim.bytes, I->skim.size_bytes);
}

static void load_bytes(onnx_import *I, const uint8_t *bytes, size_t size_bytes) {
  I->model = (const Onnx__ModelProto *)read_message(I, ONNX_ROOT_MODEL, bytes, size_bytes);
  if (I->model) import_model(I);
}

static const char *folder_of(nn_arena *arena, const char *path) {
  const char *slash = strrchr(path, '/');
  if (!slash) return "";
  return slash == path ? "/" : nn_strndup(arena, path, (size_t)(slash - path));
}

/* What a model is made from, and how. bytes NULL: of the file. */
typedef struct source {
  const char *name;
  const void *bytes;
  size_t size_bytes;
  const char *const *dims, *const *shapes;
  const nn_pass_env *env;
} source;

static void import_source(onnx_import *I, const source *s) {
  if (s->bytes) {
    load_bytes(I, s->bytes, s->size_bytes);
    return;
  }
  I->file = onnx_file_map(I->m, s->name);
  I->folder = folder_of(I->scratch, s->name);
  if (I->file) load_bytes(I, I->file->bytes, I->file->size_bytes);
}

/* One reading of the model; *I tells how it went. NULL when memory is out. */
static nn_module *read_model(const source *s, bool drops_symbols, onnx_import *I) {
  nn_module *m = nn_module_new(s->name);
  if (!m) return NULL;
  if (s->env) m->env = *s->env;
  init_import(I, m, s->dims, s->shapes);
  I->drops_symbols = drops_symbols;
  if (I->scratch)
    import_source(I, s);
  else
    nn_report(&m->diags, NN_ERROR, NULL, NULL, NULL, "out of memory");
  nn_arena_free(I->scratch);
  return m;
}

static nn_module *load(const source *s) {
  onnx_import I = {0};
  nn_module *m = read_model(s, false, &I), *other = NULL;
  if (m && I.is_ambiguous && (m->diags.nerrors || !I.has_declared_ranks)) {
    other = read_model(s, true, &I);
    if (other && !other->diags.nerrors && I.has_declared_ranks) {
      nn_module_free(m);
      return other;
    }
  }
  nn_module_free(other);
  return m;
}

nn_module *nn_onnx_load(const char *path, const char *const *dims, const char *const *shapes, const nn_pass_env *env) {
  return load(&(source){.name = path, .dims = dims, .shapes = shapes, .env = env});
}

nn_module *nn_onnx_load_memory(const char *name, const void *bytes, size_t size_bytes, const char *const *dims,
                               const char *const *shapes, const nn_pass_env *env) {
  if (bytes && size_bytes) return load(&(source){name, bytes, size_bytes, dims, shapes, env});
  nn_module *m = nn_module_new(name);
  if (m) nn_report(&m->diags, NN_ERROR, NULL, NULL, NULL, "the model is empty");
  return m;
}

nn_tensor *nn_onnx_load_tensor(nn_module *m, const char *path, const char **name) {
  onnx_import I;
  nn_tensor *t = NULL;
  init_import(&I, m, NULL, NULL);
  if (!I.scratch) return NULL;
  I.file = onnx_file_map(m, path);
  Onnx__TensorProto *proto =
      I.file ? (Onnx__TensorProto *)read_message(&I, ONNX_ROOT_TENSOR, I.file->bytes, I.file->size_bytes) : NULL;
  if (proto) {
    if (name) *name = nn_strdup(m->arena, proto->name ? proto->name : "");
    t = onnx_decode_tensor(&I, proto, nn_sprintf(m->arena, "tensor file '%s'", path), NULL, NULL);
  }
  nn_arena_free(I.scratch);
  return t;
}
