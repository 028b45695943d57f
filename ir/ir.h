/* The graph IR: tensors, operations on them, and the module that holds both.

   SSA values with an element type and a shape; a dimension is a number or an integer expression of
   symbols. Core ops only: the ONNX operator set is lowered to these by frontend/, and only these have
   shape rules (ir/ops/), lowerings (codegen/) and gradients. Text form: text_print.c, text_parse.c.

   Lifetimes: everything here lives in the module's arena unless a field says otherwise. */
#ifndef NN_IR_H
#define NN_IR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#if defined(__GNUC__)
#define NN_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define NN_PRINTF(fmt, args)
#endif

enum { NN_MAX_RANK = 12 };

/* ---- arena.c ---------------------------------------------------------------------------------- */

typedef struct nn_arena nn_arena;

nn_arena *nn_arena_new(void);              /* NULL when out of memory */
void nn_arena_free(nn_arena *arena);       /* NULL is fine */
/* Zeroed, 16-byte aligned. Never NULL: when memory runs out the process prints one line and exits with
   status 70, since a compiler without memory can do nothing else; sizes that come from a file are
   checked against the file's own size before they get here. */
void *nn_alloc(nn_arena *arena, size_t size_bytes);
void *nn_alloc_array(nn_arena *arena, size_t count, size_t size_bytes); /* checks the product */
char *nn_strdup(nn_arena *arena, const char *text);
char *nn_strndup(nn_arena *arena, const char *text, size_t length);
char *nn_sprintf(nn_arena *arena, const char *format, ...) NN_PRINTF(2, 3);
void *nn_memdup(nn_arena *arena, const void *bytes, size_t size_bytes);
#define NN_NEW(arena, type) ((type *)nn_alloc((arena), sizeof(type)))
#define NN_NEW_ARRAY(arena, type, count) ((type *)nn_alloc_array((arena), (size_t)(count), sizeof(type)))

/* Growable arrays of pointers or small structs: NN_PUSH(arena, items, count, cap, item). */
void *nn_grow(nn_arena *arena, void *items, size_t count, int *cap, size_t size_bytes);
#define NN_PUSH(arena, items, count, cap, item)                                                        \
  do {                                                                                                 \
    if ((count) == (cap)) (items) = nn_grow((arena), (items), (size_t)(count), &(cap), sizeof *(items)); \
    (items)[(count)++] = (item);                                                                       \
  } while (0)

/* A map from strings or pointers to pointers, insert-only, in an arena. */
typedef struct nn_map nn_map;
nn_map *nn_map_new(nn_arena *arena);
void nn_map_put(nn_map *map, const char *key, void *value);      /* copies the key; replaces */
void *nn_map_get(const nn_map *map, const char *key);            /* NULL if absent */
void nn_map_put_ptr(nn_map *map, const void *key, void *value);
void *nn_map_get_ptr(const nn_map *map, const void *key);

/* ---- diag.c ----------------------------------------------------------------------------------- */

typedef enum nn_status { NN_OK = 0, NN_FAIL = 1 } nn_status;
#define NN_TRY(call)                       \
  do {                                     \
    if ((call) != NN_OK) return NN_FAIL;   \
  } while (0)

typedef enum nn_severity { NN_ERROR, NN_WARNING, NN_NOTE } nn_severity;

typedef struct nn_diag {
  nn_severity severity;
  const char *file;    /* model or text file, or NULL */
  const char *node;    /* ONNX node name, or NULL */
  const char *op;      /* ONNX op type or core op, or NULL */
  const char *message; /* what was found and what was expected */
  const char *hint;    /* what to do about it, or NULL */
} nn_diag;

typedef struct nn_diags {
  nn_arena *arena;
  const char *file; /* default for items */
  nn_diag *items;
  int count, cap;
  int nerrors;
} nn_diags;

/* Appends; always returns NN_FAIL for NN_ERROR, else NN_OK. node, op, hint may be NULL. */
nn_status nn_report(nn_diags *diags, nn_severity severity, const char *node, const char *op,
                    const char *hint, const char *format, ...) NN_PRINTF(6, 7);
nn_status nn_vreport(nn_diags *diags, nn_severity severity, const char *node, const char *op,
                     const char *hint, const char *format, va_list args);
/* "file: node 'X' (Op): message" and, if there is one, "\n  hint: ..."; no colours. */
void nn_diag_print(FILE *out, const nn_diag *item);

/* ---- type.c: element types -------------------------------------------------------------------- */

typedef enum nn_dtype {
#define DTYPE(name, text, bits, kind, onnx) NN_##name,
#include "ir/dtype.def"
#undef DTYPE
  NN_DTYPE_COUNT
} nn_dtype;

typedef enum nn_dtype_kind { NN_KIND_FLOAT, NN_KIND_INT, NN_KIND_UINT, NN_KIND_BOOL, NN_KIND_COMPLEX, NN_KIND_STRING } nn_dtype_kind;

const char *nn_dtype_name(nn_dtype t);
int nn_dtype_bits(nn_dtype t);
nn_dtype_kind nn_dtype_kind_of(nn_dtype t);
int nn_dtype_onnx(nn_dtype t);
bool nn_dtype_from_onnx(int onnx, nn_dtype *out);
bool nn_dtype_from_name(const char *name, size_t length, nn_dtype *out);
bool nn_dtype_is_float(nn_dtype t);
bool nn_dtype_is_int(nn_dtype t); /* signed or unsigned, not bool */
bool nn_dtype_is_narrow(nn_dtype t); /* f16, bf16: arithmetic is f32, see passes/pass_widen.c */
/* Bytes of n dense elements (4- and 2-bit types are packed, low bits first, last byte padded);
   SIZE_MAX on overflow. */
size_t nn_dtype_bytes(nn_dtype t, uint64_t n);
/* One element as a double / int64 from storage (element index, sub-byte types too), and back with the
   type's rounding (to nearest even; f8 saturate; integers wrap). value.c */
double nn_load_f64(nn_dtype t, const void *data, size_t index);
int64_t nn_load_i64(nn_dtype t, const void *data, size_t index);
void nn_store_f64(nn_dtype t, void *data, size_t index, double value);
void nn_store_i64(nn_dtype t, void *data, size_t index, int64_t value);
double nn_round_to(nn_dtype t, double value); /* the nearest value of a float type, RNE, overflow as the type does */

/* ---- dim.c: symbolic dimensions --------------------------------------------------------------- */

/* An integer expression, hash-consed in the module and kept in a normal form (a polynomial with integer
   coefficients over atoms; an atom is a symbol, floordiv, mod, min or max), so equal pointers mean equal
   and different pointers mean "not known to be equal". Arithmetic that overflows int64 on constants
   yields the module's overflow dimension, which nn_verify reports. */
typedef struct nn_expr nn_expr;
typedef const nn_expr *nn_dim;
typedef struct nn_module nn_module;

typedef struct nn_symbol {
  const char *name;
  int index;           /* in module->symbols */
  int64_t min, max;    /* bounds, inclusive; max = INT64_MAX if unknown */
  bool data_dependent; /* bound by a bind_dims op while running, not by an input's shape */
} nn_symbol;

nn_dim nn_dim_const(nn_module *m, int64_t value);
nn_dim nn_dim_symbol(nn_module *m, const char *name);           /* finds or makes, min 0 */
nn_dim nn_dim_fresh(nn_module *m, const char *prefix);          /* a new data-dependent symbol */
nn_dim nn_dim_add(nn_module *m, nn_dim a, nn_dim b);
nn_dim nn_dim_sub(nn_module *m, nn_dim a, nn_dim b);
nn_dim nn_dim_mul(nn_module *m, nn_dim a, nn_dim b);
nn_dim nn_dim_floordiv(nn_module *m, nn_dim a, nn_dim b);       /* rounds to -inf; by 0 gives 0 */
nn_dim nn_dim_ceildiv(nn_module *m, nn_dim a, nn_dim b);
nn_dim nn_dim_mod(nn_module *m, nn_dim a, nn_dim b);            /* a - floordiv(a,b)*b */
nn_dim nn_dim_min(nn_module *m, nn_dim a, nn_dim b);
nn_dim nn_dim_max(nn_module *m, nn_dim a, nn_dim b);
nn_dim nn_dim_is_eq(nn_module *m, nn_dim a, nn_dim b);          /* 1 or 0, built of min and max */
nn_dim nn_dim_is_lt(nn_module *m, nn_dim a, nn_dim b);          /* 1 or 0 */
nn_dim nn_dim_select(nn_module *m, nn_dim cond01, nn_dim yes, nn_dim no);
nn_dim nn_dim_broadcast(nn_module *m, nn_dim a, nn_dim b);      /* min(max(a,b), a*b), simplified */
nn_dim nn_dim_product(nn_module *m, const nn_dim *dims, int count);
bool nn_dim_divides(nn_module *m, nn_dim a, nn_dim b, nn_dim *quotient); /* exact polynomial division a/b */
bool nn_dim_is_const(nn_dim d, int64_t *value);                 /* value may be NULL */
bool nn_dim_is(nn_dim d, int64_t value);
int64_t nn_dim_value(nn_dim d);                                 /* constant only (asserts) */
bool nn_dim_is_overflow(nn_dim d);
void nn_dim_range(nn_dim d, int64_t *min, int64_t *max);        /* from the symbols' bounds, conservative */
bool nn_dim_known_lt(nn_module *m, nn_dim a, nn_dim b);         /* a < b for all symbol values */
/* Value for given symbol values (indexed by symbol index); false on overflow. */
bool nn_dim_eval(nn_dim d, const int64_t *symbols, int64_t *value);
int64_t nn_dim_likely(nn_module *m, nn_dim d, int64_t symbol);  /* for estimates: the value if all symbols were this one, as far as their bounds allow; 1 at least */
nn_dim nn_dim_substitute(nn_module *m, nn_dim d, const nn_dim *by_symbol_index); /* NULL entries stay */
/* Marks in used[symbol index] the symbols of d. */
void nn_dim_symbols(nn_dim d, bool *used);
char *nn_dim_text(nn_arena *arena, nn_dim d);                   /* "2*N*H + 3", "N floordiv 2", "min(N, 4)" */
nn_dim nn_dim_parse(nn_module *m, const char **cursor);         /* NULL on a syntax error */

/* Structure, for those who translate expressions (codegen). A sum of terms coefficient * product. */
typedef enum nn_atom_kind { NN_ATOM_SYMBOL, NN_ATOM_FLOORDIV, NN_ATOM_MOD, NN_ATOM_MIN, NN_ATOM_MAX } nn_atom_kind;
typedef struct nn_atom { nn_atom_kind kind; int symbol; nn_dim a, b; } nn_atom;
typedef struct nn_term { int64_t coefficient; int natoms; const nn_atom *const *atoms; } nn_term; /* natoms 0: the constant */
struct nn_expr { int id; int nterms; const nn_term *terms; bool overflow; }; /* no terms: 0 */
/* For dim_*.c only: everyone else builds dims with the functions above, which simplify. */
nn_dim nn_dim_overflow(nn_module *m);
nn_dim nn_dim_terms(nn_module *m, const nn_term *terms, int count); /* sorted terms, as they are in another nn_expr */
nn_dim nn_dim_atom(nn_module *m, nn_atom_kind kind, nn_dim a, nn_dim b); /* not a symbol; no simplification */
const nn_symbol *nn_atom_symbol(const nn_atom *atom);           /* NULL unless a symbol */
int nn_dim_compare(nn_dim a, nn_dim b);                         /* a total order that does not depend on creation */
int64_t nn_floordiv_i64(int64_t a, int64_t b);                  /* b != 0, not INT64_MIN / -1 */

/* ---- types, tensors --------------------------------------------------------------------------- */

typedef struct nn_type {
  nn_dtype dtype;
  int rank;
  const nn_dim *dims;  /* logical, row-major order; rank entries */
  const char *layout;  /* physical order, NULL = dense row-major; see docs/ir.md "Layouts" */
} nn_type;

nn_type nn_type_make(nn_module *m, nn_dtype dtype, int rank, const nn_dim *dims); /* copies dims */
nn_type nn_type_static(nn_module *m, nn_dtype dtype, int rank, const int64_t *dims);
bool nn_type_equal(nn_type a, nn_type b);
bool nn_type_same_shape(nn_type a, nn_type b);
bool nn_type_is_static(nn_type t);
nn_dim nn_type_count(nn_module *m, nn_type t);                 /* number of elements */
bool nn_type_static_count(nn_type t, int64_t *count);          /* false if symbolic or overflowing */
bool nn_type_fits(nn_type t);                                  /* symbolic, or its bytes are an int64_t */
char *nn_type_text(nn_arena *arena, nn_type t);                /* "f32[N,3,224,224]" */

/* Static tensor contents. data is borrowed from the mapped model file, or lives in the arena, or was
   malloced and is freed with the module (owned). Dense row-major, sub-byte types packed. */
typedef struct nn_tensor {
  nn_dtype dtype;
  int rank;
  const int64_t *dims;
  const void *data;
  size_t size_bytes;
  const char *file;    /* where the bytes are, when mapped: for text form and object writing */
  uint64_t offset;
  void *owned;         /* to free, or NULL */
  bool is_spilled;     /* owned lies in the module's spill */
  struct nn_tensor *next_owned;
} nn_tensor;

nn_tensor *nn_tensor_new(nn_module *m, nn_type type);           /* static type; owned zeroed memory; NULL + diag if too large */
nn_tensor *nn_tensor_new_spilled(nn_module *m, nn_type type);   /* the same in the module's spill if it is large and there is one */
void nn_tensor_release(nn_module *m, nn_tensor *t);             /* gives back what it owns */
void nn_tensor_rest(const nn_module *m, const nn_tensor *t);     /* its bytes leave memory until the next look, if a file has them */
nn_tensor *nn_tensor_borrow(nn_module *m, nn_type type, const void *data, const char *file, uint64_t offset);

/* ---- spill.c: where large results lie while compiling: in the output file -------------------------- */

typedef struct nn_spill nn_spill;
/* Weights begin at `base` of the file, which is made. NULL with errno: it cannot be. */
nn_spill *nn_spill_open(const char *path, int64_t base);
void nn_spill_close(nn_spill *s);                       /* NULL is fine; the file stays */
int64_t nn_spill_base(const nn_spill *s);
void *nn_spill_take(nn_spill *s, size_t size_bytes);    /* contents undefined; NULL: no room, keep it in memory */
void nn_spill_give(nn_spill *s, void *memory);
/* Offset from the base of what take returned, or of a place in it. */
bool nn_spill_find(const nn_spill *s, const void *memory, int64_t *offset);
void nn_spill_compact(nn_spill *s);                     /* closes gaps; addresses stay. Before the first reserve */
int64_t nn_spill_reserve(nn_spill *s, size_t size_bytes); /* an offset from the base, a multiple of 64, to be written later */
bool nn_spill_is_open(const nn_spill *s);               /* takes and reserves; NULL is not open */
bool nn_spill_move(nn_spill *s, const char *path);      /* gives the file its name, with zeros in all gaps; false: nothing was taken, or errno */
void nn_spill_finish(nn_spill *s);                      /* not open from here on; removes the file if it was not moved. NULL is fine */
/* For memory that a file has: it leaves memory until the next look. */
void nn_pages_rest(const void *memory, size_t size_bytes);

/* ---- graph.c: values, ops, graphs ------------------------------------------------------------- */

typedef enum nn_opcode {
#define OP(code, text, nin_min, nin_max, nout, flags, family) NN_OP_##code,
#define ATTR(code, name, kind, fallback)
#include "ir/ops.def"
#undef OP
#undef ATTR
  NN_OP_COUNT
} nn_opcode;

/* What an op is to passes and lowering. */
enum {
  NN_POINTWISE = 1,  /* element at i depends on the inputs' elements at i only; all shapes equal */
  NN_ELEMENT = 2,    /* lowers by elem_<op>: the value of the result at given indices (pointwise ops too) */
  NN_NEST = 4,       /* lowers by lower_<op>: its own loops */
  NN_EFFECT = 8,     /* has no results or must stay in order: never removed or merged */
  NN_COMMUTES = 16,  /* in[0] and in[1] may be swapped */
  NN_STRUCTURE = 32  /* fused, return, control flow: the compiler driver handles it */
};

typedef enum nn_attr_kind { NN_ATTR_INT, NN_ATTR_FLOAT, NN_ATTR_STR, NN_ATTR_INTS, NN_ATTR_FLOATS, NN_ATTR_STRS, NN_ATTR_DIMS, NN_ATTR_GRAPH, NN_ATTR_DTYPE } nn_attr_kind;

typedef struct nn_graph nn_graph;
typedef struct nn_op nn_op;
typedef struct nn_value nn_value;

typedef struct nn_attr {
  nn_attr_kind kind;
  bool is_set;         /* else it has its default */
  int count;           /* of the lists */
  int64_t i;           /* INT, DTYPE */
  double f;
  const char *s;
  const int64_t *ints;
  const double *floats;
  const char *const *strs;
  const nn_dim *dims;
  nn_graph *graph;
} nn_attr;

typedef struct nn_attr_info { const char *name; nn_attr_kind kind; const char *fallback; /* text of the default, "" if none */ } nn_attr_info;
typedef struct nn_op_info {
  const char *text;
  int nin_min, nin_max; /* nin_max -1: any number */
  int nout;             /* -1: any number */
  unsigned flags;
  const nn_attr_info *attrs;
  int nattrs;
  nn_status (*shape)(nn_op *op);
} nn_op_info;

extern const nn_op_info nn_op_infos[NN_OP_COUNT];
bool nn_opcode_find(const char *text, size_t length, nn_opcode *out);

typedef struct nn_use { nn_op *user; int index; struct nn_use *next, **link; } nn_use;

typedef enum nn_value_kind { NN_RESULT, NN_PARAM, NN_CONST, NN_STATE } nn_value_kind;

struct nn_value {
  nn_value_kind kind;
  nn_type type;
  const char *name;       /* ONNX value name where there is one; unique within graph (module for const/state); NULL: numbered when printed */
  nn_op *def;             /* NN_RESULT */
  int index;              /* among def's results, or among the graph's params */
  nn_graph *graph;        /* of a param */
  nn_tensor *tensor;      /* NN_CONST, NN_STATE (initial value, may be NULL) */
  const nn_dim *elems;    /* known contents as expressions (int tensors of at most NN_MAX_ELEMS elements), or NULL */
  nn_use *uses;           /* every operand slot that reads it */
  int id;                 /* scratch for passes and printers */
  void *mark;             /* scratch for passes: reset by whoever uses it */
};
enum { NN_MAX_ELEMS = 256 };

struct nn_op {
  nn_opcode code;
  nn_graph *graph;
  nn_op *prev, *next;
  int nin, nout;
  nn_value **in;          /* NULL: optional input not given. Change only by nn_op_set_input. */
  nn_use *in_use;
  nn_value **out;
  nn_attr *attrs;         /* by position in nn_op_infos[code].attrs */
  const char *loc;        /* ONNX node name it came from (first of several), never NULL ("" if none) */
  const char *loc_op;     /* that node's op type, or NULL */
  bool rounds;            /* that node takes and gives f16 and bf16 values rounded, see passes/pass_widen.c */
  int id;
  void *mark;
};

struct nn_graph {
  nn_module *module;
  const char *name;
  nn_value **params;
  int nparams, params_cap;
  nn_op *first, *last;    /* program order; last is NN_OP_RETURN once the graph is complete */
  nn_graph *next;         /* in module */
};

/* What passes reach from below: codegen fills it, NULL members mean "cannot". */
typedef struct nn_pass_env {
  void *self;
  /* Evaluates an op whose inputs are all constants; writes the results' contents to new tensors. */
  nn_status (*evaluate)(void *self, nn_op *op, nn_tensor **results);
  int vector_bytes;       /* of the target */
  int vector_registers;
  bool adds_aside;        /* additions do not take the multipliers' time */
  bool has_lookup;        /* elements of a table are one instruction */
  /* Columns of a panel of weights, for the target's register tiles of f32 (codegen/gemm.c). */
  int64_t (*panel_width)(void *self, nn_dim rows, nn_dim columns);
  int level;              /* optimisation level */
  bool no_winograd;       /* products by their definition */
  int threads;            /* that evaluate; 0: one for each processor */
} nn_pass_env;

struct nn_module {
  nn_arena *arena;
  nn_diags diags;
  nn_graph *graphs;       /* the first one is main */
  nn_graph *last_graph;   /* end of that list */
  nn_graph *main;
  nn_value **consts;      /* NN_CONST and NN_STATE in order of creation */
  int nconsts, consts_cap;
  nn_symbol **symbols;
  int nsymbols, symbols_cap;
  struct nn_dim_table *dim_table; /* dim.c */
  nn_map *names;          /* of consts and states */
  struct nn_open_checks *open_checks; /* where shape rules note what only run time can tell; NULL: nobody asks */
  nn_map *emitted_checks; /* build_shape.c */
  nn_tensor *owned_tensors;
  nn_spill *spill;        /* or NULL; owned */
  void *file_mapping;     /* external_data.c / onnx.c: list of mapped files, released by nn_module_free through release_files */
  void (*release_files)(void *file_mapping);
  nn_pass_env env;
  struct nn_tuning *tuning; /* ir/tuning.h; or NULL; borrowed */
  const char *producer;   /* for headers and inspect */
};

nn_module *nn_module_new(const char *file); /* file: for diagnostics, may be NULL; copied */
void nn_module_free(nn_module *m);
nn_graph *nn_graph_new(nn_module *m, const char *name);
nn_value *nn_graph_param(nn_graph *g, const char *name, nn_type type);
nn_value *nn_module_const(nn_module *m, const char *name, nn_tensor *tensor); /* fills elems if small int */
nn_value *nn_module_state(nn_module *m, const char *name, nn_type type, nn_tensor *init);

/* A new op at the end of g (before `before`, if not NULL) with nout fresh results without types.
   Attributes have their defaults. nout: -1 takes the op's own. */
nn_op *nn_op_new(nn_graph *g, nn_op *before, nn_opcode code, nn_value *const *in, int nin, int nout);
/* Runs the op's shape rule, then fills the results' elems (known.c). */
nn_status nn_op_infer(nn_op *op);
void nn_op_set_input(nn_op *op, int i, nn_value *v);
void nn_op_remove(nn_op *op);              /* must have no used results */
void nn_op_move_before(nn_op *op, nn_op *before);
void nn_value_replace(nn_value *old, nn_value *replacement); /* every use */
int nn_value_nuses(const nn_value *v);
nn_op *nn_graph_return(nn_graph *g);       /* NULL while incomplete */
nn_op *nn_graph_set_return(nn_graph *g, nn_value *const *results, int n);
const char *nn_graph_output_name(nn_graph *g, int i); /* of a complete graph: from return's names, else the value's, else "output_<i>" */
nn_graph *nn_graph_clone(nn_graph *g, const char *name);

/* Attributes by name; the name must exist in ops.def (asserts). */
nn_attr *nn_op_attr(nn_op *op, const char *name);
int64_t nn_attr_int(const nn_op *op, const char *name);
double nn_attr_float(const nn_op *op, const char *name);
const char *nn_attr_str(const nn_op *op, const char *name);
const int64_t *nn_attr_ints(const nn_op *op, const char *name, int *count); /* count may be NULL */
const double *nn_attr_floats(const nn_op *op, const char *name, int *count);
const nn_dim *nn_attr_dims(const nn_op *op, const char *name, int *count);
nn_graph *nn_attr_graph(const nn_op *op, const char *name);
void nn_set_int(nn_op *op, const char *name, int64_t value); /* DTYPE too */
void nn_set_float(nn_op *op, const char *name, double value);
void nn_set_str(nn_op *op, const char *name, const char *value);
void nn_set_ints(nn_op *op, const char *name, const int64_t *values, int count);
void nn_set_floats(nn_op *op, const char *name, const double *values, int count);
void nn_set_strs(nn_op *op, const char *name, const char *const *values, int count);
void nn_set_dims(nn_op *op, const char *name, const nn_dim *values, int count);
void nn_set_graph(nn_op *op, const char *name, nn_graph *graph);
bool nn_attrs_equal(const nn_op *a, const nn_op *b);
bool nn_attrs_are_numbers(const nn_op *op); /* no size among the attributes has a symbol */
nn_attr *nn_attrs_default(nn_arena *arena, nn_opcode code); /* one entry per attribute of the op, with its default */

nn_status nn_op_check_row(nn_op *op); /* arity, required operands and attributes, as ops.def says */

/* An error at op: adds file, node and op. */
nn_status nn_fail(nn_op *op, const char *format, ...) NN_PRINTF(2, 3);

/* ---- ops/: shape rules -------------------------------------------------------------------------- */

/* Each op has nn_status shape_<text>(nn_op *op) in ops/op_<family>.c: checks operands and attributes, reports
   with nn_fail, sets the results' types. They share these (ops/shape_rules.c), which report what they miss.
   What symbols leave open (is N equal to M?) is no error: it is noted in module->open_checks, and nn_b_end
   makes check ops of these notes. So every op that the builder makes is checked while running. */
typedef struct nn_open_check { const char *kind; nn_dim found, expected; const char *what; } nn_open_check; /* as op check */
typedef struct nn_open_checks { nn_open_check *items; int count, cap; } nn_open_checks;
enum { /* sets of element types, by kind */
  NN_SET_FLOAT = 1 << NN_KIND_FLOAT,
  NN_SET_INT = 1 << NN_KIND_INT | 1 << NN_KIND_UINT,
  NN_SET_NUMBER = NN_SET_FLOAT | NN_SET_INT,
  NN_SET_BOOL = 1 << NN_KIND_BOOL,
  NN_SET_ANY = NN_SET_NUMBER | NN_SET_BOOL | 1 << NN_KIND_COMPLEX | 1 << NN_KIND_STRING
};
nn_status nn_need_kind(nn_op *op, int i, unsigned set);            /* operand i is of one of these kinds */
nn_status nn_need_dtype(nn_op *op, int i, nn_dtype dtype);
nn_status nn_need_same_dtype(nn_op *op, int i, int j);
nn_status nn_need_rank(nn_op *op, int i, int min, int max);
nn_status nn_need_dim(nn_op *op, int i, int axis, nn_dim expected); /* dimension of operand i, equal */
nn_status nn_need_check(nn_op *op, const char *kind, nn_dim found, nn_dim expected, const char *what, ...) NN_PRINTF(5, 6); /* kinds of op check */
int nn_check_known(nn_module *m, const char *kind, nn_dim found, nn_dim expected); /* 1 holds, -1 never, 0 run time tells */
nn_status nn_need_axis(nn_op *op, const char *attr, int rank, int *axis); /* -rank..rank-1, normalised */
nn_status nn_need_count(nn_op *op, const char *attr, int expected);
nn_status nn_need_range(nn_op *op, const char *attr, int64_t min, int64_t max);
nn_status nn_need_ints_min(nn_op *op, const char *attr, int64_t min); /* every entry */
nn_status nn_need_one_of(nn_op *op, const char *attr, const char *const *names); /* STR or STRS; NULL-terminated */
nn_status nn_give(nn_op *op, int result, nn_dtype dtype, int rank, const nn_dim *dims);
nn_status nn_product_dtype(nn_op *op, nn_dtype *result);           /* of matmul and conv (op_matmul.c) */
enum { NN_PROJECTED_STEPS = 64 }; /* least number of steps of a layer that projects its input itself */
int nn_projected_operand(nn_opcode code); /* of a recurrent op: the input's weights, behind which their bias is (op_rnn.c) */
int64_t nn_projected_rows(int64_t registers, int64_t columns, int64_t vectors); /* steps of a block; 0: registers are too few (op_rnn.c) */
int64_t nn_recurrent_width(int64_t lanes, nn_dim batch, nn_dim hidden, int64_t ngates); /* units of a panel of recurrent weights; gates of the largest product (op_rnn.c) */
nn_status nn_window_dims(nn_op *op, const nn_dim *kernel, bool ceil, nn_dim *dims); /* spatial dims of conv and pools (op_conv.c) */
nn_dim nn_dim_prefer(nn_module *m, nn_dim a, nn_dim b);            /* of two dims that are equal at run time: the one that says more */

/* ---- build.c: making graphs ------------------------------------------------------------------- */

/* Where new ops go and what they are called. Every nn_b_ function infers types, reports errors into the
   module's diagnostics, and returns NULL after an error; a NULL operand gives NULL without a report, so
   calls compose and the caller checks once. */
typedef struct nn_builder {
  nn_graph *graph;
  nn_op *before;     /* NULL: at the end */
  const char *loc;   /* node name given to new ops */
  const char *loc_op;
  bool fold;         /* evaluate ops on constants at once when small (through module->env) */
} nn_builder;

nn_value *nn_b_op(nn_builder *b, nn_opcode code, nn_value *const *in, int nin); /* no attributes; first result */
/* Two steps when attributes are needed: op = nn_b_begin(..); nn_set_..(op, ..); return nn_b_end(b, op). NULL in, NULL out.
   in[] entries at or after nn_op_infos[code].nin_min may be NULL (optional input not given). */
nn_op *nn_b_begin(nn_builder *b, nn_opcode code, nn_value *const *in, int nin, int nout);
nn_value *nn_b_end(nn_builder *b, nn_op *op);    /* infers; result 0; others are op->out[i] unless folded: nn_b_end_all */
nn_status nn_b_end_all(nn_builder *b, nn_op *op, nn_value **results); /* nout entries */

void nn_b_emit_check(nn_builder *b, nn_open_check check);
nn_status nn_b_fail(nn_builder *b, const char *format, ...) NN_PRINTF(2, 3); /* an error at the node that is being built */

/* build_fold.c. The constant that v is, or that it was rounded from (then f32, and v f16 or bf16); NULL: neither. */
nn_value *nn_const_behind(nn_value *v);
nn_value *nn_b_settle(nn_builder *b, nn_value *v); /* such a v as a constant that is rounded; others as they are */
bool nn_b_fold(nn_builder *b, nn_op *op, nn_value **results); /* evaluates an inferred op, if it is small and on constants */

nn_value *nn_b_scalar(nn_builder *b, nn_dtype t, double value);       /* rank-0 constant */
nn_value *nn_b_ints(nn_builder *b, nn_dtype t, const int64_t *values, int count); /* rank-1 constant */
nn_value *nn_b_const(nn_builder *b, nn_tensor *tensor);
nn_value *nn_b_dims(nn_builder *b, const nn_dim *dims, int count);    /* i64[count] holding expressions (op shape_of) */
nn_value *nn_b_unary(nn_builder *b, nn_opcode code, nn_value *x);
nn_value *nn_b_binary(nn_builder *b, nn_opcode code, nn_value *x, nn_value *y); /* numpy broadcast; dtypes must agree */
nn_value *nn_b_scalar_op(nn_builder *b, nn_opcode code, nn_value *x, double y); /* x op y, y of x's dtype */
nn_value *nn_b_select(nn_builder *b, nn_value *cond, nn_value *x, nn_value *y); /* broadcasts */
nn_value *nn_b_cast(nn_builder *b, nn_value *x, nn_dtype to);
nn_value *nn_b_broadcast(nn_builder *b, nn_value *x, int rank, const nn_dim *dims); /* numpy rules; emits a check where symbols leave it open */
nn_status nn_b_broadcast_all(nn_builder *b, nn_value **values, int count);          /* in place, to the common shape; NULL entries skipped */
nn_value *nn_b_reshape(nn_builder *b, nn_value *x, int rank, const nn_dim *dims);   /* counts must agree, checked at run time where open */
nn_value *nn_b_transpose(nn_builder *b, nn_value *x, const int64_t *perm);
nn_value *nn_b_unsqueeze(nn_builder *b, nn_value *x, int axis);       /* new axis of 1 at this position of the result */
nn_value *nn_b_slice(nn_builder *b, nn_value *x, int axis, nn_dim start, nn_dim count, nn_dim step);
nn_value *nn_b_concat(nn_builder *b, nn_value *const *parts, int count, int axis);
nn_value *nn_b_reduce(nn_builder *b, nn_opcode code, nn_value *x, const int64_t *axes, int naxes, bool keepdims);
nn_value *nn_b_matmul(nn_builder *b, nn_value *x, nn_value *y);       /* numpy matmul, ranks >= 1, batch broadcast */
nn_value *nn_b_iota(nn_builder *b, nn_dtype t, int rank, const nn_dim *dims, int axis); /* the index along axis */
nn_value *nn_b_fill(nn_builder *b, nn_dtype t, double value, int rank, const nn_dim *dims);
nn_status nn_b_check(nn_builder *b, const char *kind, nn_dim found, nn_dim expected, const char *what); /* nothing if known true; error if known false; else op check */

/* The contents of an integer tensor as expressions: known, or bound while running by a bind_dims op to
   fresh symbols (min is the least value allowed, checked). count entries; fails unless rank <= 1 and
   the count is static. hints (may be NULL, entries may be NULL): used in place of fresh symbols and
   checked while running. */
nn_status nn_b_elems(nn_builder *b, nn_value *v, int64_t min, const nn_dim *hints, const nn_dim **dims, int *count);

/* ---- work.c: what an op does at least. symbols: values by module symbol index ---------------------- */

double nn_op_flops(const nn_op *op, const int64_t *symbols);    /* multiply-adds count two; fused ops add up */
double nn_graph_flops(const nn_graph *g, const int64_t *symbols);
bool nn_op_has_work_row(nn_opcode code);
bool nn_op_is_cheap(nn_opcode code);                             /* pointwise, an instruction or two */
typedef struct nn_traffic { double weights, read, written; } nn_traffic;
nn_traffic nn_op_traffic(const nn_op *op, const int64_t *symbols); /* bytes: each operand element that is needed once, each used result */

/* ---- origin.c: the nodes of the model that an op does the work of ---------------------------------- */

typedef struct nn_origin { const char *node, *op; } nn_origin; /* op: its type, or "" */
typedef struct nn_origins { nn_origin *items; int count, cap; } nn_origins;
nn_origins nn_op_origins(const nn_op *op, nn_arena *arena);    /* in order, no doubles */
char *nn_text_clean(nn_arena *arena, const char *text);        /* valid UTF-8 without control characters: ? in place of what is not */

/* ---- known.c, verify.c, text ------------------------------------------------------------------- */

nn_dim nn_known_elem(nn_module *m, nn_opcode code, nn_dtype result, const nn_dim *in, int nin); /* one element of a pointwise op on ints; NULL: unknown */
void nn_op_known_elems(nn_op *op);                 /* fills out[]->elems from in[]->elems where it can */
nn_status nn_verify(nn_module *m);                 /* SSA order, types against shape rules, attributes; reports all */
void nn_text_print(FILE *out, nn_module *m);
char *nn_text_string(nn_arena *arena, nn_module *m);
nn_module *nn_text_parse(const char *file, const char *text, size_t length); /* diags in the module; never NULL */
nn_status nn_text_parse_attrs(nn_op *op, const char *text); /* "axes=[1], keepdims=0"; text_attr.c */
bool nn_text_is_name(const char *text);            /* needs no quotes: [A-Za-z0-9_.]+ */
char *nn_text_quote(nn_arena *arena, const char *text); /* "..." with escapes */
char *nn_text_unquote(nn_arena *arena, const char **cursor); /* at the opening quote; NULL if it does not end in this line */

#endif
