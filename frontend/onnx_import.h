/* What the files of the importer share among themselves: the protobuf side of frontend/onnx.h, and the one
   include of protobuf-c. Operator importers (onnx_<family>.c) do not include this; onnx_control.c and
   Constant, which look into attributes that hold graphs and tensors, do.

   Lifetimes: protobuf messages, scopes and maps live in import->scratch and die with the import; whatever
   the module keeps (names, tensors, types) is in the module's arena. Tensor bytes stay in the mapped file. */
#ifndef NN_ONNX_IMPORT_H
#define NN_ONNX_IMPORT_H

#include "frontend/onnx.h"
#include "onnx.pb-c.h"

enum {
  ONNX_MAX_NESTING = 64, /* of protobuf messages, and of function calls */
  ONNX_MAX_INLINED =
      1 << 18,           /* nodes of functions and branches: functions that call functions can grow exponentially */
  ONNX_MAX_ERRORS = 1000 /* after so many, bodies are not looked into any more */
};

/* ---- skim.c ------------------------------------------------------------------------------------- */

typedef struct onnx_blob {
  const uint8_t *data; /* inside the skimmed bytes */
  size_t size_bytes;
} onnx_blob;

typedef enum onnx_root { ONNX_ROOT_MODEL, ONNX_ROOT_TENSOR } onnx_root;

/* A protobuf message whose every raw_data field holds, in place of its bytes, the 8-byte little-endian
   index of an entry of blobs. */
typedef struct onnx_skim {
  uint8_t *bytes;
  size_t size_bytes;
  onnx_blob *blobs;
  size_t nblobs;
} onnx_skim;

/* Checks the wire format of all that protobuf-c will recurse into, and makes the small copy. */
nn_status onnx_skim_bytes(nn_arena *arena, nn_diags *diags, onnx_root root, const uint8_t *bytes, size_t size_bytes,
                          onnx_skim *out);
/* The message, unpacked in the arena; NULL + diag. */
ProtobufCMessage *onnx_unpack(nn_arena *arena, nn_diags *diags, const ProtobufCMessageDescriptor *type,
                              const uint8_t *bytes, size_t size_bytes);
/* The payload of unknown field `tag` number k (0 first) when it is length-delimited; NULL if there is none.
   For fields newer than the schema that protobuf-c was given. */
const uint8_t *onnx_unknown_field(const ProtobufCMessage *message, unsigned tag, int k, size_t *size_bytes);

/* ---- external_data.c ----------------------------------------------------------------------------- */

typedef struct onnx_file {
  const char *path;
  const uint8_t *bytes;
  size_t size_bytes;
  struct onnx_file *next;
} onnx_file;

/* Maps a file for the life of the module. NULL + diag. */
const onnx_file *onnx_file_map(nn_module *m, const char *path);

/* ---- the import's state -------------------------------------------------------------------------- */

typedef enum onnx_slot_state { ONNX_SLOT_VALUE, ONNX_SLOT_POISONED, ONNX_SLOT_ABSENT } onnx_slot_state;

/* What a value name stands for. Poisoned: what should give it failed and was reported. Absent: an optional
   input of a function that the caller did not give. */
typedef struct onnx_slot {
  onnx_slot_state state;
  nn_value *value;
} onnx_slot;

/* A function body being inlined; the chain guards against recursion. */
typedef struct onnx_frame {
  const Onnx__FunctionProto *function;
  const struct onnx_frame *caller;
  int depth;
} onnx_frame;

/* Where names are looked up: the main graph, a function body, or a branch (whose parent it captures from). */
typedef struct onnx_scope {
  struct onnx_scope *parent;
  nn_map *slots;    /* value name -> onnx_slot */
  nn_map *declared; /* value name -> Onnx__ValueInfoProto */
  nn_map *traffic;  /* value name -> how nodes use it; onnx_narrow.c */
  nn_map *attrs;    /* in a function body: attribute name -> Onnx__AttributeProto; NULL in a model's graph */
  Onnx__OperatorSetIdProto *const *opsets;
  size_t nopsets;
  const char *prefix; /* of node and value names: "" in the main graph, "Call/" in what is inlined */
  const onnx_frame *frame;
} onnx_scope;

struct onnx_import {
  nn_module *m;
  nn_arena *scratch;
  const onnx_file *file; /* the mapped model, NULL when it came from memory */
  const char *folder;    /* of the model file: external data stays inside; NULL: external data is refused */
  nn_map *external;      /* location -> onnx_file, so that a file is mapped once */
  onnx_skim skim;
  const uint8_t *base; /* the skimmed bytes: offsets of blobs are from here */
  const Onnx__ModelProto *model;
  nn_map *importers;             /* "domain:Op" -> onnx_entry */
  nn_map *functions;             /* "domain:Op:overload" -> Onnx__FunctionProto */
  nn_map *value_names;           /* names taken by results and params */
  nn_map *dim_params;            /* dim_param -> nn_dim: of the graph's inputs, so bound before anything runs */
  nn_map *symbol_names;          /* names taken by symbols */
  const char *const *dim_pins;   /* "N=4" */
  const char *const *shape_pins; /* "x=1,3" */
  bool *dim_pin_used, *shape_pin_used;
  bool drops_symbols;      /* the second reading of a model in which Squeeze meets symbols, see onnx.c */
  bool is_ambiguous;       /* Squeeze met symbols: there is a second reading */
  bool has_declared_ranks; /* of all graph outputs that declare one */
  int64_t ninlined;        /* nodes of functions and branches so far */
  nn_builder builder;
};

typedef struct onnx_entry {
  onnx_fn *run;
} onnx_entry;

/* One node on its way through its importer: onnx_node with what importers do not see. */
typedef struct onnx_site {
  onnx_node n; /* first: an onnx_node * is an onnx_site * */
  const Onnx__NodeProto *proto;
  onnx_scope *scope;
  bool failed;
  bool is_poisoned; /* what it inlines failed, and was reported there */
  bool quiet_attrs; /* an attribute mismatch was reported: once per node */
} onnx_site;

/* ---- onnx_graph.c -------------------------------------------------------------------------------- */

onnx_slot *onnx_scope_find(const onnx_scope *scope, const char *name); /* parents too; NULL if undefined */
void onnx_scope_put(onnx_import *I, onnx_scope *scope, const char *name, onnx_slot_state state, nn_value *v);
bool onnx_scope_defines(const onnx_scope *scope, const char *name); /* parents not looked at */
void onnx_scope_init(onnx_import *I, onnx_scope *scope, onnx_scope *parent);
int64_t onnx_scope_opset(const onnx_import *I, const onnx_scope *scope, const char *domain); /* 0: not imported */
const char *onnx_unique_name(onnx_import *I, const char *prefix,
                             const char *name);                     /* for results and params; module arena */
const char *onnx_unique_const_name(nn_module *m, const char *name); /* name, or name_2 .. */
const char *onnx_canonical_domain(const char *domain);              /* "" for ai.onnx and NULL */
/* Nodes in any order; failures are reported and poison what depends on them. */
void onnx_import_nodes(onnx_import *I, onnx_scope *scope, Onnx__NodeProto *const *nodes, size_t count);
/* value_info, initializers. what: "graph" or "branch", for messages. */
void onnx_import_initializers(onnx_import *I, onnx_scope *scope, const Onnx__GraphProto *g);
void onnx_declare(onnx_import *I, onnx_scope *scope, const Onnx__GraphProto *g);

/* ---- onnx_narrow.c ------------------------------------------------------------------------------- */

/* Before the nodes of a scope are imported: who gives and reads each value. */
void onnx_note_traffic(onnx_import *I, onnx_scope *scope, Onnx__NodeProto *const *nodes, size_t count);
/* Marks the ops of an imported node, from `first` to the last of the graph, where it stores f16 or bf16 (nn_op.rounds). */
void onnx_mark_rounding(onnx_site *site, nn_op *first);

/* ---- onnx_function.c ----------------------------------------------------------------------------- */

void onnx_collect_functions(onnx_import *I);
const Onnx__FunctionProto *onnx_find_function(const onnx_import *I, const Onnx__NodeProto *node);
/* Inlines the body in place of the node; outputs go to site->n.out. */
nn_status onnx_inline_function(onnx_site *site, const Onnx__FunctionProto *f);
/* Inlines a graph without inputs, that captures from the node's scope (a branch of If). */
nn_status onnx_inline_graph(onnx_site *site, const Onnx__GraphProto *g);

/* ---- onnx_attr.c --------------------------------------------------------------------------------- */

/* The attribute with references to the calling function's attributes resolved; NULL if absent. */
const Onnx__AttributeProto *onnx_find_attr(const onnx_site *site, const char *name, bool *by_reference);
const Onnx__GraphProto *onnx_graph_attr(onnx_node *n, const char *name); /* NULL + report unless it is one */

/* ---- onnx_tensor.c ------------------------------------------------------------------------------- */

/* The contents; reports at node and op (may be NULL). role: "initializer 'w'", "attribute 'value'". NULL + diag. */
nn_tensor *onnx_decode_tensor(onnx_import *I, const Onnx__TensorProto *t, const char *role, const char *node,
                              const char *op);
nn_tensor *onnx_decode_sparse(onnx_import *I, const Onnx__SparseTensorProto *t, const char *role, const char *node,
                              const char *op);
/* The bytes of a tensor whose data_location is EXTERNAL; external_data.c. */
nn_status onnx_external_bytes(onnx_import *I, const Onnx__TensorProto *t, const char *role, const char *node,
                              const char *op, size_t need_bytes, const uint8_t **data, const onnx_file **file);

/* ---- onnx_type.c --------------------------------------------------------------------------------- */

/* Makes the parameter of a graph input. NULL + diag. */
nn_value *onnx_import_input(onnx_import *I, const Onnx__ValueInfoProto *info);
/* "sr=16000" among the pinned dimensions, where sr is an input of one integer: its value is taken as known, and
   checked when the model runs. */
void onnx_pin_value(onnx_import *I, nn_value *input);
void onnx_check_pins(onnx_import *I); /* reports pins that matched nothing */
/* The declared shape as far as it is known and usable: rank (dims entries NULL where unknown) or -1. */
int onnx_declared_dims(onnx_import *I, const Onnx__ValueInfoProto *info, const nn_dim **dims);
/* An imported value against its declaration: another dtype is an error, another static shape a warning. */
nn_status onnx_check_declared(onnx_import *I, const Onnx__ValueInfoProto *info, const nn_value *v, const char *node,
                              const char *op);

#endif
