/* The emitter's own header: the one include of llvm-c, and what emit*.c, jit.c and object.c share.

   nn_emod is one LLVM module; nn_emit is the emission of one kernel into it. Every value that a kernel's
   code can name from outside an expression (context, buffers, symbols, variables) is a numbered cell of a
   frame. The kernel's function is frame 0; the body of a parallel loop is a function of its own, frame 1,
   which fetches an outer cell from the captured values when it first needs it. */
#ifndef NN_LLVM_H
#define NN_LLVM_H

#include <llvm-c/Analysis.h>
#include <llvm-c/Core.h>
#include <llvm-c/IRReader.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>

#include "codegen/codegen.h"

typedef LLVMValueRef nn_v;

/* ---- emit.c: modules --------------------------------------------------------------------------------- */

typedef struct nn_emod {
  const nn_target *target;
  nn_diags *diags;
  nn_arena *arena;   /* lives as long as the emission */
  nn_map *functions; /* nn_kernel -> LLVM function */
  nn_map *texts;     /* string -> its constant */
  int level;
  LLVMContextRef c;
  LLVMModuleRef m;
  LLVMBuilderRef b;
  LLVMTargetMachineRef tm;
  LLVMTypeRef i1, i8, i16, i32, i64, size, f32, f64, ptr, none;
  LLVMTypeRef ctx_type, tensor_type, io_type, model_type;
  nn_v zeros;  /* read in place of masked-off memory: NN_ZERO_BYTES zeros */
  bool failed; /* an error went to diags */
  nn_frames frames;
} nn_emod;

enum { NN_ZERO_BYTES = 1024 };
/* Fields of %nn_ctx, as in nncc_rt_ctx. */
enum {
  NN_CTX_WORKSPACE,
  NN_CTX_WORKSPACE_BYTES,
  NN_CTX_WEIGHTS,
  NN_CTX_PARALLEL_FOR,
  NN_CTX_POOL,
  NN_CTX_NWORKERS,
  NN_CTX_ISA,
  NN_CTX_ALLOCATE,
  NN_CTX_RELEASE,
  NN_CTX_USER,
  NN_CTX_ERROR,
  NN_CTX_ERROR_STEP,
  NN_CTX_ERROR_NODE,
  NN_CTX_ERROR_WHAT,
  NN_CTX_FOUND,
  NN_CTX_EXPECTED,
  NN_CTX_PARALLEL_STEPS
};
enum { NN_TENSOR_DATA, NN_TENSOR_DIMS, NN_TENSOR_DTYPE, NN_TENSOR_RANK };

nn_status nn_emod_init(nn_emod *e, const nn_target *t, nn_diags *diags, int level);
void nn_emod_free(nn_emod *e);
/* Attributes of all functions, verification, optimisation. */
nn_status nn_emod_finish(nn_emod *e);
LLVMTargetMachineRef nn_target_machine(const nn_target *t, int level, nn_diags *diags); /* NULL + diag */
nn_v nn_emod_function(nn_emod *e, const char *name);                                    /* of the prelude */
nn_v nn_emod_text(nn_emod *e, const char *text); /* an internal constant string */
nn_v nn_emit_field(nn_emod *e, LLVMTypeRef type, nn_v base, int field, LLVMTypeRef field_type); /* loads it */
void nn_emit_set_field(nn_emod *e, LLVMTypeRef type, nn_v base, int field, nn_v value);
/* The finished module as code in memory. */
nn_status nn_emod_code(nn_emod *e, LLVMCodeGenFileType type, nn_object *code);
char *nn_prelude_text(nn_arena *arena, const nn_target *t, const char *layout); /* emit_prelude.c */

/* ---- emit_kernel.c: kernels ---------------------------------------------------------------------------- */

/* The kernel as i32 NAME(ctx, worker memory, worker size, what to fetch and bytes of it (of those that look ahead), params.., workspace temporaries.., symbols of
   nn_kernel_symbols..); found or emitted. NULL after an error. */
nn_v nn_emit_kernel(nn_emod *e, const nn_kernel *k);
LLVMTypeRef nn_kernel_type(nn_emod *e, const nn_kernel *k);
/* All symbols a kernel needs, those of its buffers' sizes too: module symbol indices in order. */
const int *nn_kernel_symbols(nn_emod *e, const nn_kernel *k, int *count);
int nn_kernel_nargs(const nn_kernel *k);           /* params and workspace temporaries */
nn_dim nn_kernel_worker_bytes(const nn_kernel *k); /* memory of each worker, a multiple of 64 */

/* ---- emit_dim.c: dimension expressions ------------------------------------------------------------------ */

/* A set of symbol values in one function and the expressions already computed from them. */
typedef struct nn_dims {
  nn_emod *e;
  const nn_module *m;
  nn_v *symbols; /* by module symbol index; NULL: not bound */
  nn_map *done;  /* nn_dim -> value */
  nn_v overflow; /* i1, or NULL: overflow is not looked for */
} nn_dims;
nn_dims nn_dims_new(nn_emod *e, const nn_module *m);
nn_v nn_emit_dim(nn_dims *d, nn_dim dim); /* i64, at the builder's position */
nn_v nn_emit_total(nn_dims *d, nn_v workspace, nn_v worker_bytes,
                   nn_v nworkers);                /* workspace of a run; fewer workers than 1 count as 1 */
bool nn_dims_known(const nn_dims *d, nn_dim dim); /* all its symbols are bound */
int nn_dim_lone_symbol(nn_dim d);                 /* the symbol that d is, or -1 */

/* ---- emission of one kernel ----------------------------------------------------------------------------- */

/* Cells: context, this worker's memory, bytes of each worker's memory, what to fetch meanwhile, bytes of it, tasks of the parallel loop at hand, then buffers, symbols, variables. */
enum { NN_CELL_CTX, NN_CELL_WORKER, NN_CELL_WORKER_BYTES, NN_CELL_AHEAD, NN_CELL_AHEAD_BYTES, NN_CELL_TASKS, NN_CELL_BUFS };

typedef struct nn_frame {
  struct nn_frame *outer;
  nn_v fn;
  LLVMBasicBlockRef entry; /* where allocas and captured values go; ends in a branch set last */
  nn_v *cells;
  nn_v arg;       /* frame 1: the captured values */
  nn_v *captured; /* frame 1: the outer values, in order */
  int ncaptured, captured_cap;
  nn_v ahead, ahead_end; /* a variable: what is to be fetched next; where that ends. NULL: not asked for yet */
} nn_frame;

typedef struct nn_memo {
  nn_v v;
  int frame, stamp;
} nn_memo; /* stamp: 0 for pure values */
typedef struct nn_undo {
  int index;
  nn_memo old;
} nn_undo;
typedef struct nn_linear {
  int stamp;
  bool known;
  int64_t stride;
} nn_linear; /* holds for one statement */
typedef struct nn_lane0 {
  nn_v v;
  bool known;
  int64_t stride;
} nn_lane0; /* of a let variable of a vector loop */

typedef struct nn_emit {
  nn_emod *e;
  LLVMBuilderRef b;
  const nn_kernel *k;
  nn_arena *arena; /* freed when the kernel is done */
  nn_frame *frame;
  int frame_serial, nframes; /* number of the current frame: memos of others do not count */
  int cell_symbols, cell_vars, ncells;
  const int *symbols; /* module index of each symbol cell */
  int nsymbols;
  nn_memo *memo; /* by node id; lane-0 values at nxs + id */
  nn_undo *undo;
  int nundo, undo_cap;
  int stamp;             /* of the statement at hand: loads are shared within one */
  unsigned char *impure; /* by node id: 0 unknown, 1 pure, 2 reads memory */
  nn_linear *linear;     /* by node id */
  nn_lane0 *lane0;       /* by var id */
  const nn_var *vvar;    /* of the open vector loop, or NULL */
  int lanes;
  nn_v mask; /* of the vector loop: <lanes x i1>, or NULL */
  bool in_parallel;
} nn_emit;

/* emit_kernel.c */
nn_v nn_emit_cell(nn_emit *s, int cell);
nn_v nn_emit_buffer(nn_emit *s, const nn_buf *buf); /* its base address */
nn_v nn_emit_alloca(nn_emit *s, LLVMTypeRef type, int align);
LLVMBasicBlockRef nn_emit_block(nn_emit *s, const char *name); /* a new one in the current function */
bool nn_emit_is_open(nn_emit *s);                              /* the current block has no terminator yet */

/* emit_stmt.c */
void nn_emit_body(nn_emit *s, const nn_block *block);
void nn_emit_scope(nn_emit *s, const nn_block *block); /* what it names and computes is not known behind it */
void nn_emit_let(nn_emit *s, const nn_stmt *st);
void nn_emit_lets(nn_emit *s, const nn_block *block); /* those that it begins with */
/* Records the error and leaves the function where `when` (i1 or lanes; NULL: always) holds. */
void nn_emit_fail(nn_emit *s, nn_v when, int code, nn_v found, nn_v expected);
void nn_emit_leave(nn_emit *s); /* returns from the function at hand with the context's error */
/* emit_braid.c */
int nn_emit_strands(nn_emit *s, const nn_stmt *st); /* copies of the loop's body that should run side by side; 1: it may not */
void nn_emit_braid(nn_emit *s, const nn_stmt *st, const nn_v *values, int count); /* values: of the loop's variable */
/* emit_parallel.c */
void nn_emit_keep(nn_emit *s, const nn_stmt *st);
void nn_emit_parallel(nn_emit *s, const nn_stmt *st, nn_v lo, nn_v hi);
bool nn_emit_is_steps(nn_emit *s, const nn_stmt *st); /* a serial loop around one parallel loop of a known number of tasks */
void nn_emit_steps(nn_emit *s, const nn_stmt *st, nn_v lo, nn_v hi);

/* emit_expr.c */
nn_v nn_emit_x(nn_emit *s, const nn_x *x);                       /* scalar, or vector in a vector loop */
nn_v nn_emit_lane0(nn_emit *s, const nn_x *x);                   /* the value in lane 0 of a linear expression */
bool nn_emit_reads_memory(nn_emit *s, const nn_x *x);
bool nn_emit_stride(nn_emit *s, const nn_x *x, int64_t *stride); /* linear in the vector variable? */
int nn_scope_open(nn_emit *s);
void nn_scope_close(nn_emit *s, int mark);

/* emit_value.c: values, scalar or vector */
LLVMTypeRef nn_reg_type(nn_emod *e, nn_dtype t);    /* of one value in a register */
LLVMTypeRef nn_memory_type(nn_emod *e, nn_dtype t); /* of one element in memory (sub-byte: i8) */
bool nn_is_vector(nn_v v);
int nn_lanes_of(nn_v v);                                         /* 1 for scalars */
LLVMTypeRef nn_like(nn_emod *e, LLVMTypeRef scalar, nn_v shape); /* scalar, or a vector of as many lanes as shape */
nn_v nn_splat(nn_emod *e, nn_v scalar, int lanes);
void nn_unify(nn_emod *e, nn_v *a, nn_v *b);             /* splats the scalar one if the other is a vector */
nn_v nn_const_int(nn_emod *e, nn_v like, int64_t value); /* constants shaped and typed as like */
nn_v nn_const_float(nn_emod *e, nn_v like, double value);
nn_v nn_const_bits(nn_emod *e, nn_v like, uint32_t bits); /* an i32 for each lane of like */
nn_v nn_const_i64(nn_emod *e, int64_t value);
nn_v nn_call(nn_emod *e, const char *intrinsic, LLVMTypeRef *overloads, int noverloads, nn_v *args, int nargs);
nn_v nn_call1(nn_emod *e, const char *intrinsic, nn_v a);
nn_v nn_call2(nn_emod *e, const char *intrinsic, nn_v a, nn_v b);
nn_v nn_select(nn_emod *e, nn_v cond, nn_v yes, nn_v no);
nn_v nn_any(nn_emod *e, nn_v mask);         /* i1: any lane set */
nn_v nn_and(nn_emod *e, nn_v a, nn_v b);    /* masks; NULL is all true */
nn_v nn_lane(nn_emod *e, nn_v v, int lane); /* scalars come back as they are */
bool nn_const_of(nn_v v, int64_t *value);
bool nn_has_wide_ints(const nn_target *t); /* 64-bit division and conversions are instructions */
bool nn_is_sub_byte(nn_dtype t);
bool nn_is_small_float(nn_dtype t); /* held as f32, rounded after each operation */
bool nn_is_signed(nn_dtype t);

/* emit_mem.c */
nn_v nn_emit_load(nn_emit *s, const nn_x *x);
void nn_emit_store(nn_emit *s, const nn_stmt *st);
void nn_emit_prefetch(nn_emit *s, const nn_stmt *st);
void nn_emit_prefetch_line(nn_emit *s, nn_v at, bool is_near);
void nn_emit_transpose(nn_emit *s, const nn_stmt *st);
nn_v nn_emit_lanes(nn_emit *s, const nn_x *x);

/* emit_ahead.c */
void nn_emit_ahead(nn_emit *s, const nn_stmt *st);

/* emit_float.c */
nn_v nn_emit_round_to(nn_emod *e, nn_dtype t, nn_v v);     /* an f32 value to the nearest of t, still f32 */
nn_v nn_emit_round_strict(nn_emod *e, nn_dtype t, nn_v v); /* the same, but 8-bit floats do not saturate */
nn_v nn_emit_unpack(nn_emod *e, nn_dtype t, nn_v bits);    /* storage bits (i16, i8) to f32 */
nn_v nn_emit_pack(nn_emod *e, nn_dtype t, nn_v v);         /* f32 that t can represent to storage bits */
nn_v nn_emit_float_op(nn_emod *e, nn_xop op, nn_dtype t, nn_v a, nn_v b, nn_v c);
nn_v nn_emit_minmax(nn_emod *e, bool is_max, nn_v a, nn_v b, bool b_is_number);

/* emit_cast.c */
nn_v nn_emit_cast(nn_emod *e, nn_xop op, nn_dtype to, nn_dtype from, nn_v v);
nn_v nn_emit_bitcast(nn_emod *e, nn_dtype to, nn_dtype from, nn_v v);

/* emit_int.c */
nn_v nn_emit_int_op(nn_emod *e, const nn_x *x, nn_v a, nn_v b);
nn_v nn_emit_lookup(nn_emod *e, const nn_table *table, nn_v index);
nn_v nn_emit_bool_op(nn_emod *e, nn_xop op, nn_v a, nn_v b);
nn_v nn_emit_wrap(nn_emod *e, nn_dtype t, nn_v v);   /* of types narrower than their register */
nn_v nn_emit_floordiv64(nn_emod *e, nn_v a, nn_v b); /* i64 scalars, any values */
nn_v nn_emit_floormod64(nn_emod *e, nn_v a, nn_v b);

/* ---- emit_program.c, emit_bind.c, emit_run.c: whole models ------------------------------------------------ */

/* How the module is named and where its weights are. */
typedef struct nn_linkage {
  const char *symbol; /* prefix of global symbols; the descriptor's own name comes from the options */
  bool absolute;      /* JIT: each weight is read where it lies in this process */
  bool embedded;      /* defined by the module's assembly as SYMBOL_weights */
  bool is_reserved;   /* and there only as a size: the bytes are written into the object later */
  uint64_t hash;      /* of a side file */
} nn_linkage;

typedef struct nn_pemit {
  nn_emod *e;
  const nn_program *p;
  const nn_emit_options *options;
  const nn_linkage *linkage;
  nn_v inputs, outputs; /* arrays of %nn_io */
  nn_v bind;            /* i32 (ctx, in, symbols) */
  LLVMTypeRef bind_type;
  bool *from_inputs; /* by symbol: bound by an input's shape */
  /* the function at hand */
  nn_v fn, ctx, in, out;
  LLVMBasicBlockRef leave; /* the only return, of what the phi got */
  nn_v code;               /* that phi */
  nn_dims dims;
  int step; /* for errors; -1: before the first */
} nn_pemit;

nn_status nn_emit_program(nn_emod *e, const nn_program *p, const nn_emit_options *options, const nn_linkage *linkage);
nn_v nn_emit_weights_symbol(nn_pemit *s); /* the embedded weights */
void nn_emit_bind_function(nn_pemit *s);
nn_v nn_emit_run(nn_pemit *s, const char *name, bool is_global);
nn_v nn_emit_variants(nn_pemit *s);            /* emit_variants.c: NAME_run that chooses, and NAME_init */
nn_v nn_emit_workspace_size(nn_pemit *s);
nn_v nn_emit_output_dims(nn_pemit *s);
void nn_emit_infer(nn_pemit *s);               /* emit_infer.c: NAME_infer over flat pointers, for plain models */
bool nn_program_is_plain(const nn_program *p); /* every size is a constant */

/* Functions of one exit (emit_bind.c). */
void nn_begin_function(nn_pemit *s, const char *name, LLVMTypeRef type, bool is_global);
void nn_end_function(nn_pemit *s);                  /* returns 0 here, and ends the exit block */
void nn_leave(nn_pemit *s, nn_v code);              /* from here; the builder is then at a closed block */
void nn_leave_if(nn_pemit *s, nn_v bad, nn_v code); /* leaves with code where bad holds */
void nn_fail_if(nn_pemit *s, nn_v bad, int code, nn_v node, nn_v what, nn_v found, nn_v expected);
void nn_emit_input_symbols(nn_pemit *s, nn_v ctx); /* calls bind, leaves if it failed, loads the symbols it bound */
nn_v nn_emit_local(nn_pemit *s, LLVMTypeRef type, const char *name);
nn_v nn_emit_tensor(nn_pemit *s, nn_v base, int i); /* address of base[i] */
nn_v nn_emit_text(nn_pemit *s, const char *text);
nn_v nn_emit_io_name(nn_pemit *s, bool is_output, int i);
void nn_emit_check_outputs(nn_pemit *s); /* types, ranks, dims pointers */
void nn_emit_output_dims_now(nn_pemit *s, bool *done,
                             bool all); /* writes those that are known and not done; all: -1 for the others */
const nn_value *nn_program_output(const nn_program *p, int i);
/* The most that a kernel of any variant needs for each worker, leaving out those whose need depends on data: they take
   theirs from the allocator. */
nn_dim nn_program_worker_bytes(const nn_program *p);
bool nn_dim_depends_on_data(const nn_module *m, nn_dim d);

/* ---- object_build.c: a program as one object ----------------------------------------------------------------- */

nn_status nn_program_object(const nn_program *p, const nn_target *t, const nn_emit_options *options,
                            const nn_linkage *linkage, nn_diags *diags, nn_object *object);
/* The same as text. */
nn_status nn_program_text(const nn_program *p, const nn_target *t, const nn_emit_options *options,
                          const nn_linkage *linkage, nn_output_kind kind, nn_diags *diags, nn_object *text);
/* jit_symbols.c: the object's functions, of which one lies at this address. */
nn_status nn_perf_map_add(const nn_object *object, const char *symbol, const void *address, nn_diags *diags);
int64_t nn_frames_stack(const nn_frames *frames); /* the largest stack of an entry point */

/* ---- object_weights.c: weights in objects and beside them ------------------------------------------------------ */

nn_status nn_out_failed(nn_diags *diags, nn_out_file to); /* reports errno */

enum { NN_WEIGHTS_HEADER = 64, NN_WEIGHTS_BASE = 4096 }; /* where they begin in a side file, and in an object */
uint64_t nn_weights_hash(const nn_program *p);
/* Assembly that reserves SYMBOL_weights in an ELF object, or, with_bytes, holds them as numbers. */
nn_status nn_weights_assembly(nn_emod *e, const nn_program *p, const char *symbol, bool with_bytes);
bool nn_weights_fit_object(const nn_target *t); /* ELF: the bytes are written beside the generated object */
/* Writes the generated object, its section for the weights filled in; changes object. */
nn_status nn_weights_append(const nn_program *p, unsigned char *object, size_t size, nn_out_file to, nn_diags *diags);
/* A file with something before and something behind the program's weights at NN_WEIGHTS_BASE. */
typedef struct nn_image {
  bool has_weights;
  const void *head;
  size_t head_bytes;
  const void *body;
  size_t body_bytes;
  int64_t body_at;
} nn_image;
nn_status nn_weights_write_image(const nn_program *p, const nn_image *image, nn_out_file to, nn_diags *diags);
nn_status nn_file_write(nn_out_file to, const void *bytes, size_t size, nn_diags *diags);
nn_status nn_weights_write_file(const nn_program *p, uint64_t hash, nn_out_file to, nn_diags *diags);

/* ---- object_link.c ---------------------------------------------------------------------------------------------- */

nn_status nn_archive_write(const char *object, nn_out_file to, const char *const *symbols, int nsymbols,
                           nn_diags *diags);
nn_status nn_shared_link(const char *object, nn_out_file to, const nn_target *t, nn_diags *diags);

#endif
