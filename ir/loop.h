/* The loop IR: what runs. Kernels over flat buffers, and the program that calls them.

   A kernel is a tree of statements over immutable expression nodes. Loops have a kind:
     for       serial
     parallel  iterations are tasks: any order, any worker, disjoint writes
     unroll    constant trip count, copied out by the emitter; the variable is a constant in each copy
     vector    constant trip count = lanes; the body becomes vector code. A load or store whose index has
               stride 1 in the variable is a vector access, stride 0 a broadcast, any other a gather or
               scatter. No value goes from lane to lane. Not nested in another vector loop.
   The interpreter (loop_eval.c) runs all four kinds in order: that is their meaning.

   Element types of expressions: every nn_dtype but complex and string. Registers hold f16, bf16, f8 and
   f4 values as f32 numbers that the type can represent: each arithmetic operation of such a type is the
   f32 operation, then rounding to the type. Sub-byte and 8/16-bit integers wrap at their width. bool is
   0 or 1. Indices and symbols are i64.

   All nodes live in the kernel's module arena. Expressions are built only by the nn_x_ functions, which
   fold constants and intern pure nodes: equal pointers mean equal values. */
#ifndef NN_LOOP_H
#define NN_LOOP_H

#include "ir/ir.h"

typedef enum nn_xop {
  NN_X_CONST,    /* i or f */
  NN_X_VAR,      /* loop variable (i64), let value (any type): var */
  NN_X_SYMBOL,   /* kernel symbol parameter: i = module symbol index */
  NN_X_LOAD,     /* buf[a[0]]; a[1] = mask (bool) or NULL: where false the value is 0 and memory is not read */
  /* arithmetic: both operands and the result have the node's dtype */
  NN_X_ADD, NN_X_SUB, NN_X_MUL,
  NN_X_DIV,      /* ints truncate; x/0 = 0; MIN/-1 = MIN (wraps) */
  NN_X_REM,      /* ints: sign of the dividend; x rem 0 = 0; floats: not allowed (see fmod in codegen/math.c) */
  NN_X_FLOORDIV, NN_X_FLOORMOD, /* ints only; by 0 gives 0 */
  NN_X_MIN, NN_X_MAX,           /* floats: NaN wins; of -0 and 0 either */
  NN_X_LIMIT,    /* floats: a0 where its size is at most a1, else a1 with the sign of a0, also for NaN; a1 is a constant, not negative */
  NN_X_FMA,      /* a0*a1+a2, floats; fused where the target has it, else multiply and add */
  NN_X_NEG, NN_X_ABS, NN_X_SQRT, NN_X_FLOOR, NN_X_CEIL, NN_X_TRUNC, NN_X_ROUND, /* round: half to even */
  NN_X_AND, NN_X_OR, NN_X_XOR, NN_X_NOT, NN_X_SHL, NN_X_SHR, /* ints and bool; shift amount taken modulo width: guard it */
  /* comparisons: operands agree, result bool; ordered: false with NaN, but NE true */
  NN_X_EQ, NN_X_NE, NN_X_LT, NN_X_LE,
  NN_X_SELECT,   /* a0 bool ? a1 : a2 */
  NN_X_CAST,     /* a0 to dtype: float->int truncates and saturates, NaN to 0; int->int wraps; ->bool is != 0; ->float rounds to nearest even,
                    ints to less than f32 through f32; beyond the range of an 8-bit float: infinity in e5m2, NaN in the others */
  NN_X_CAST_SAT, /* to an 8-bit-or-smaller float: overflow gives the largest finite value; elsewhere as CAST */
  NN_X_BITCAST,  /* same width (f16 and bf16: their 16 storage bits) */
  NN_X_LOOKUP,   /* element a0 (i32, taken modulo the count) of the kernel's table i: i32. Where the target has it, one permutation of registers */
  NN_X_INDEX,    /* a0 if 0 <= a0 < a1, else 0 and the run fails with an index error: i64; a2 = mask (bool) or NULL: no check where false */
  NN_X_LANES_SUM, NN_X_LANES_PROD, NN_X_LANES_MAX, NN_X_LANES_MIN, /* over count = i consecutive elements of register array buf from constant index a[0]:
                    tree: halves are combined (j with j + n/2, n a power of two) until one is left. Outside vector loops. */
  NN_XOP_COUNT
} nn_xop;

typedef struct nn_x nn_x;
typedef struct nn_buf nn_buf;
typedef struct nn_var nn_var;
typedef struct nn_stmt nn_stmt;
typedef struct nn_kernel nn_kernel;

struct nn_var {
  const char *name;  /* unique in the kernel */
  int id;            /* dense number in the kernel: emitters and interpreters index by it */
  nn_dtype dtype;
  bool is_loop;      /* loop variable, else let */
  int64_t min, max;  /* of a loop variable, inclusive, where known (else 0, INT64_MAX) */
};

struct nn_x {
  nn_xop op;
  nn_dtype dtype;
  int id;            /* dense in the kernel */
  nn_x *a[3];
  int64_t i;
  double f;
  nn_buf *buf;
  nn_var *var;
};

typedef enum nn_buf_space {
  NN_BUF_PARAM,      /* argument of the kernel: read-only (is_output false) or written */
  NN_BUF_WORKSPACE,  /* temporary of this call, one for all workers; placed by the memory plan */
  NN_BUF_WORKER,     /* temporary of each worker; contents are lost between parallel iterations, but for what NN_S_KEEP makes */
  NN_BUF_REG         /* registers: count is constant, indices are constant after unrolling, or + the lane */
} nn_buf_space;

struct nn_buf {
  const char *name;
  int id;            /* dense in the kernel */
  nn_buf_space space;
  nn_dtype dtype;
  bool is_output;    /* PARAM */
  nn_dim count;      /* elements */
};

enum { NN_TABLE_MOST = 32 }; /* elements of a table */

/* Constants that a kernel looks up by number. */
typedef struct nn_table {
  const char *name;  /* unique in the kernel */
  const int32_t *values;
  int count;         /* a power of two */
} nn_table;

enum { NN_SQUARE_MOST = 64 }; /* side of a square that is transposed */
enum { NN_AHEAD_MOST = 64, NN_AHEAD_LINE = 64 }; /* lines that one statement fetches; bytes of a line */

typedef enum nn_stmt_kind { NN_S_LOOP, NN_S_IF, NN_S_WHILE, NN_S_KEEP, NN_S_LET, NN_S_STORE, NN_S_PREFETCH, NN_S_AHEAD, NN_S_TRANSPOSE, NN_S_FAIL } nn_stmt_kind;
typedef enum nn_loop_kind { NN_FOR, NN_PARALLEL, NN_UNROLL, NN_VECTOR } nn_loop_kind;

typedef struct nn_block { nn_stmt *first, *last; } nn_block;

struct nn_stmt {
  nn_stmt_kind kind;
  nn_stmt *next;
  nn_loop_kind loop;
  int unroll_by;         /* hint for NN_FOR; 0 none */
  nn_var *var;           /* LOOP: variable; LET: the value's name */
  nn_x *lo, *hi;         /* LOOP: lo <= var < hi, step 1. PARALLEL and FOR: any i64; UNROLL, VECTOR: constants with lo 0 */
  nn_block body, other;  /* LOOP, IF (then, else), WHILE, KEEP */
  nn_x *value;           /* LET, STORE: value; IF, WHILE: condition (WHILE: evaluated anew each time); FAIL: error code constant.
                            AHEAD: lines of 64 bytes, a constant: so many of what the call's step says are fetched here, a hint without effect.
                            KEEP: the key, not negative. The body makes in worker buffers what depends on the key alone; it may be left out where
                            this worker has run it in this parallel loop with the same key, and with no other since */
  nn_buf *buf;           /* STORE, PREFETCH; KEEP: i64[1] of the worker, for the last key; TRANSPOSE: a square in registers, row by row, whose side is a power of two */
  nn_x *index;           /* STORE, PREFETCH: the element soon read; a hint without effect, and it may lie outside of the buffer */
  bool is_near;          /* PREFETCH: into L1, else L2 */
  nn_x *mask;            /* STORE: bool or NULL. In a vector loop an IF whose condition varies becomes masks. */
};

/* loads and stores to sub-byte types: the index counts elements. A vector or parallel loop over 4-bit
   stores must cover whole bytes in one task: lowerings give such tensors to serial loops. */

struct nn_kernel {
  nn_module *module;
  const char *name;      /* nnk_<op>[_<fused>]_... */
  const char *loc;       /* first ONNX node */
  nn_buf **bufs;         /* params first, in argument order */
  int nbufs, bufs_cap;
  int nparams;
  int *symbols;          /* module symbol indices, in argument order */
  int nsymbols, symbols_cap;
  nn_table *tables;
  int ntables, tables_cap;
  nn_block body;
  int nvars, nxs;
  bool is_unfused;       /* a multiply-add is made as two operations, on every target */
  bool can_fail;         /* has NN_X_INDEX or NN_S_FAIL */
  bool looks_ahead;      /* has NN_S_AHEAD */
  struct nn_x_table *table; /* interning */
  struct nn_lb *builder;
  int walk;              /* stamp of the last walk over nodes */
};

/* ---- loop_build.c: expressions ---------------------------------------------------------------- */

nn_kernel *nn_kernel_new(nn_module *m, const char *name);
nn_buf *nn_kernel_buf(nn_kernel *k, const char *name, nn_buf_space space, nn_dtype dtype, nn_dim count, bool is_output); /* params before others */

int nn_kernel_table(nn_kernel *k, const char *name, const int32_t *values, int count); /* its number; an equal one is found again. Borrows values */

nn_x *nn_x_int(nn_kernel *k, int64_t value);                        /* i64 */
nn_x *nn_x_const(nn_kernel *k, nn_dtype t, double value);           /* rounded to t; NaN and inf too */
nn_x *nn_x_iconst(nn_kernel *k, nn_dtype t, int64_t value);         /* integer types and bool, wrapped */
nn_x *nn_x_dim(nn_kernel *k, nn_dim d);                             /* the expression over symbols; adds them to the kernel */
nn_x *nn_x_unary(nn_kernel *k, nn_xop op, nn_x *a);
nn_x *nn_x_binary(nn_kernel *k, nn_xop op, nn_x *a, nn_x *b);       /* comparisons give bool */
nn_x *nn_x_fma(nn_kernel *k, nn_x *a, nn_x *b, nn_x *c);
nn_x *nn_x_select(nn_kernel *k, nn_x *cond, nn_x *yes, nn_x *no);
nn_x *nn_x_cast(nn_kernel *k, nn_x *a, nn_dtype to);
nn_x *nn_x_cast_sat(nn_kernel *k, nn_x *a, nn_dtype to);
nn_x *nn_x_bitcast(nn_kernel *k, nn_x *a, nn_dtype to);
nn_x *nn_x_load(nn_kernel *k, nn_buf *buf, nn_x *index, nn_x *mask); /* never interned: memory changes. Bind it with nn_let where it is to happen once */
nn_x *nn_x_index(nn_kernel *k, nn_x *index, nn_x *limit, nn_x *mask);
nn_x *nn_x_lookup(nn_kernel *k, int table, nn_x *index);
nn_x *nn_x_lanes(nn_kernel *k, nn_xop op, nn_buf *reg, nn_x *first, int count);

/* shorthand for i64 index arithmetic, with algebra (x+0, x*1, (a*c)*d, a/c and a%c by known ranges) */
nn_x *nn_xi_add(nn_kernel *k, nn_x *a, nn_x *b);
nn_x *nn_xi_sub(nn_kernel *k, nn_x *a, nn_x *b);
nn_x *nn_xi_mul(nn_kernel *k, nn_x *a, nn_x *b);
nn_x *nn_xi_addc(nn_kernel *k, nn_x *a, int64_t b);
nn_x *nn_xi_mulc(nn_kernel *k, nn_x *a, int64_t b);
nn_x *nn_xi_floordiv(nn_kernel *k, nn_x *a, nn_x *b);
nn_x *nn_xi_mod(nn_kernel *k, nn_x *a, nn_x *b);
nn_x *nn_xi_min(nn_kernel *k, nn_x *a, nn_x *b);
nn_x *nn_xi_max(nn_kernel *k, nn_x *a, nn_x *b);
bool nn_x_is_const(const nn_x *x, int64_t *value);  /* integer constant */
void nn_x_range(const nn_x *x, int64_t *min, int64_t *max); /* of an i64 expression, from loop variables' bounds */
/* Linear in var: index = base + stride*var. True and *stride set (a constant) if so. */
bool nn_x_stride(const nn_x *x, const nn_var *var, int64_t *stride);
bool nn_x_uses_var(const nn_x *x, const nn_var *var);

/* ---- loop_build.c: statements, appended at the kernel's insertion point ------------------------- */

nn_x *nn_let(nn_kernel *k, nn_x *value);                    /* a named value computed here; constants and vars come back as they are */
nn_x *nn_loop_begin(nn_kernel *k, nn_loop_kind kind, const char *name, nn_x *lo, nn_x *hi); /* the variable; open until nn_end */
nn_x *nn_loop_range(nn_kernel *k, nn_loop_kind kind, const char *name, int64_t count);      /* 0..count */
void nn_loop_unroll_by(nn_kernel *k, int count);            /* of the innermost open loop */
void nn_if_begin(nn_kernel *k, nn_x *cond);
void nn_else(nn_kernel *k);
void nn_while_begin(nn_kernel *k, nn_x *cond);              /* cond loads from memory or registers what the body changes */
void nn_keep_begin(nn_kernel *k, nn_buf *last, nn_x *key);  /* last: what this statement alone uses */
void nn_end(nn_kernel *k);                                  /* closes the innermost open statement */
void nn_store(nn_kernel *k, nn_buf *buf, nn_x *index, nn_x *value, nn_x *mask);
void nn_prefetch(nn_kernel *k, nn_buf *buf, nn_x *index);   /* into L2; not of registers */
void nn_prefetch_near(nn_kernel *k, nn_buf *buf, nn_x *index); /* into L1, which loses what it holds: of little that is read soon */
void nn_ahead(nn_kernel *k, int lines);                     /* 1 to NN_AHEAD_MOST; outside of vector loops */
void nn_transpose(nn_kernel *k, nn_buf *square);            /* outside of vector loops */
int64_t nn_square_side(const nn_buf *buf);                  /* of what is to be transposed; 0: it is no such square, or larger than NN_SQUARE_MOST */
void nn_fail_stmt(nn_kernel *k, int code);
nn_var *nn_current_vector_var(nn_kernel *k);                /* of the open vector loop, or NULL */
int nn_open_depth(nn_kernel *k);                            /* number of open statements; grows and shrinks with begin/end */
int nn_open_serial(nn_kernel *k, int depth);                /* number of the block open at depth (0: the kernel's body, nn_open_depth: the innermost); begin and
                                                               else start a new one, so equal numbers mean: the same block, still open */

/* ---- the program -------------------------------------------------------------------------------- */

/* Where a value lives while the model runs. */
typedef enum nn_place_kind { NN_PLACE_INPUT, NN_PLACE_OUTPUT, NN_PLACE_WEIGHT, NN_PLACE_WORKSPACE } nn_place_kind;

typedef struct nn_place {
  nn_place_kind kind;
  int index;            /* INPUT, OUTPUT: position */
  nn_value *value;      /* WEIGHT: the constant or state */
  nn_dim bytes;         /* size */
  int first, last;      /* WORKSPACE: first and last step that touches it */
  int slot;             /* WORKSPACE: slot of the plan (plan.c) */
  int64_t offset;       /* WEIGHT: byte offset in the weight blob. Static WORKSPACE: byte offset (plan.c) */
  nn_dim offset_dim;    /* WORKSPACE: the offset as an expression */
  struct nn_place *within; /* WORKSPACE: the place that this is a part of (an operand of a concat), or NULL */
  nn_dim delta;         /* and where it begins in it, in bytes */
} nn_place;

typedef enum nn_step_kind { NN_STEP_CALL, NN_STEP_BIND, NN_STEP_CHECK, NN_STEP_COPY } nn_step_kind;

typedef struct nn_step {
  nn_step_kind kind;
  nn_op *op;            /* where it came from (for errors, profile) */
  nn_kernel *kernel;    /* CALL */
  nn_place **args;      /* CALL: one for each kernel param, then one for each NN_BUF_WORKSPACE buf in order. BIND: [0] the i64 tensor. COPY: from, to */
  int nargs;
  const nn_dim *dims;   /* BIND: element i binds the symbol dims[i], or checks that it equals the expression */
  int ndims;
  int64_t min;          /* BIND: least value allowed */
  const char *check;    /* CHECK: kind eq, le, broadcast */
  nn_dim found, expected;
  const char *what;     /* CHECK: for the message */
  const int *in_place;  /* CALL: for each arg -1, or (of a result) the arg whose place it may take over, since each element is read before it is written */
  const nn_place *ahead; /* CALL: the weights from whose byte ahead_from on ahead_bytes are fetched meanwhile, which may go on into */
  int64_t ahead_from, ahead_bytes; /* the weights behind them; ahead.c. NULL: none */
} nn_step;

typedef struct nn_alias { int input, output; } nn_alias; /* the output may be the same memory as the input */

typedef struct nn_program {
  nn_module *module;
  nn_graph *graph;
  nn_kernel **kernels;  /* distinct ones */
  int nkernels, kernels_cap;
  nn_step *steps;
  int nsteps, steps_cap;
  nn_place **places;
  int nplaces, places_cap;
  nn_place **inputs, **outputs; /* by position */
  int ninputs, noutputs;
  nn_alias *aliases;
  int naliases, aliases_cap;
  nn_dim workspace_bytes;        /* plan.c */
  nn_dim worker_bytes;           /* the largest kernel's need; multiple of 64 */
  int64_t weights_bytes;
  int64_t planned_peak, planned_sum; /* static models: for reports */
  int64_t stack_bytes;           /* of run, an upper bound; nn_object_write */
  const struct nn_target *target;      /* codegen/variants.c: that the kernels are for; NULL: nobody says */
  struct nn_program *narrower, *widest; /* of an object for several CPUs: the next variant; the first one, of all others */
} nn_program;

/* ---- loop_print.c, loop_parse.c, loop_verify.c, loop_eval.c ------------------------------------- */

void nn_kernel_print(FILE *out, const nn_kernel *k);
void nn_program_print(FILE *out, const nn_program *p);
nn_kernel *nn_kernel_parse(nn_module *m, const char *file, const char *text, size_t length); /* NULL + diags */
nn_status nn_kernel_verify(const nn_kernel *k, nn_diags *diags);

/* A canonical text of the kernel without its name and locations, for finding identical ones. */
char *nn_kernel_key(nn_arena *arena, const nn_kernel *k);

/* Runs one kernel: args as in nn_step (params, then workspace temporaries); symbols by module symbol
   index. Worker buffers are allocated here. Returns 0 or an NNCC_RT_E code; *at (may be NULL) tells what
   index was found and what limit expected. Buffer accesses are checked against counts: out of bounds
   gives NNCC_RT_EINTERNAL with a message on stderr, since it is a bug of ours. */
typedef struct nn_eval_error { int64_t found, limit; } nn_eval_error;
int nn_kernel_eval(const nn_kernel *k, void *const *args, const int64_t *symbols, nn_eval_error *at);

/* ---- shared by the loop_*.c files and emitters that fold ------------------------------------------- */

/* loop_scalar.c: a value in a register: i for integers and bool (sign- or zero-extended), f for f64, s for
   every other float type. One function says what each operation means; folding and the interpreter use it.
   t is the result's type, from the operands' (comparisons, casts). */
typedef union nn_scalar { int64_t i; double f; float s; } nn_scalar;
nn_scalar nn_scalar_op(nn_xop op, nn_dtype t, nn_dtype from, nn_scalar a, nn_scalar b, nn_scalar c);
nn_scalar nn_scalar_load(nn_dtype t, const void *data, size_t index);
void nn_scalar_store(nn_dtype t, void *data, size_t index, nn_scalar value);
int64_t nn_int_wrap(nn_dtype t, int64_t value);
bool nn_int_limits(nn_dtype t, int64_t *min, int64_t *max); /* false for u64, whose maximum does not fit, and floats */

/* loop_expr.c: every nn_x is the first member of an nn_xinfo, every nn_var of an nn_varinfo. */
typedef struct nn_varset { int count; int ids[]; } nn_varset; /* sorted ids of loop variables */
typedef struct nn_xinfo {
  nn_x x;
  nn_kernel *kernel;
  int64_t min, max;          /* bounds of an integer or bool */
  const nn_varset *deps;     /* loop variables it depends on, through lets; NULL: none */
  bool is_index;             /* i64 made of loop variables, symbols and constants: assumed not to overflow */
  bool has_load;             /* reads memory: not the same value at another place */
  bool stride_ok;            /* memo of nn_x_stride for stride_var */
  const nn_var *stride_var;
  int64_t stride;
  int mark;                  /* stamp of a walk: kernel->walk */
} nn_xinfo;
typedef struct nn_varinfo {
  nn_var v;
  nn_x *node;                /* its VAR node */
  nn_x *value;               /* of a let */
  nn_x *lo, *hi;             /* of a loop variable */
} nn_varinfo;
static inline nn_xinfo *nn_xinfo_of(const nn_x *x) { return (nn_xinfo *)(uintptr_t)x; }
static inline nn_varinfo *nn_varinfo_of(const nn_var *v) { return (nn_varinfo *)(uintptr_t)v; }
nn_x *nn_x_intern(nn_kernel *k, const nn_x *proto);   /* the node as it is, without simplification */
nn_varinfo *nn_var_new(nn_kernel *k, const char *name, nn_dtype dtype, bool is_loop);
bool nn_xi_is_index(const nn_x *x);
const char *nn_xop_name(nn_xop op);
int nn_xop_arity(nn_xop op);                          /* of a[]; optional operands are not counted */

/* loop_simplify.c: NULL if there is nothing simpler than the node itself. */
nn_x *nn_simplify_index(nn_kernel *k, nn_xop op, nn_x *a, nn_x *b);
nn_x *nn_simplify_compare(nn_kernel *k, nn_xop op, nn_x *a, nn_x *b);
nn_x *nn_simplify_bool(nn_kernel *k, nn_xop op, nn_x *a, nn_x *b);
bool nn_known_in(nn_x *x, nn_x *limit);               /* 0 <= x < limit for certain */

bool nn_loop_is_word(const char *word);               /* loop_print.c: a symbol of this name stands in quotes */

/* loop_parse_x.c */
struct nn_lexer;
typedef struct nn_loop_parser {
  struct nn_lexer *lex;
  nn_kernel *k;
  nn_map *bufs, *vars;     /* name -> nn_buf, name -> nn_x */
  nn_map *tables;          /* name -> number + 1 */
  int depth;               /* of nesting, blocks and expressions */
  int noperators;          /* of the statement so far */
} nn_loop_parser;
nn_x *nn_loop_parse_x(nn_loop_parser *p);                     /* NULL after a report */
nn_x *nn_loop_parse_typed(nn_loop_parser *p, nn_dtype t, const char *what);
nn_status nn_loop_parse_name(nn_loop_parser *p, char **name); /* after the sigil */
/* "[index]" or "[index if mask]"; mask may be NULL where none is allowed */
nn_status nn_loop_parse_place(nn_loop_parser *p, nn_x **index, nn_x **mask);

/* loop_build.c */
const char *nn_kernel_unique(nn_kernel *k, const char *name);
bool nn_kernel_has_name(const nn_kernel *k, const char *name);
nn_x *nn_let_named(nn_kernel *k, const char *name, nn_x *value); /* always a statement */
void nn_kernel_symbol(nn_kernel *k, int symbol);      /* adds it to the arguments */

#endif
