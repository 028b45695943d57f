/* Graph IR to loop IR to machine code.

   lower.c turns an op, or a fused group of ops, into one kernel. How an op becomes loops is in
   lower_<family>.c: an element op answers "what is your result at these indices" (elem_<op>), a nest op
   writes its own loops (lower_<op>), reading operands with nn_read and giving results with nn_write; both
   take logical indices, so a fused producer is inlined by nn_read and fused consumers by nn_write, and no
   lowering knows about fusion or layouts. */
#ifndef NN_CODEGEN_H
#define NN_CODEGEN_H

#include "ir/ir.h"
#include "ir/loop.h"
#include "ir/nncc.h"
#include "ir/tuning.h"
#include "runtime/nncc_rt.h"

/* ---- target.c: the machine as data --------------------------------------------------------------- */

typedef struct nn_target {
  char *triple, *cpu, *features;  /* for LLVM */
  const char *name;               /* "x86-64-v3", "cortex-m4", ... for messages and headers */
  int level;                      /* within its architecture; x86-64: 1 to 4 as v1 to v4 */
  int pointer_bits;
  int vector_bytes;               /* widest useful vector: 16, 32, 64; 4 = none (scalar code) */
  int vector_registers;
  bool adds_aside;                /* additions do not take the multipliers' time */
  bool half_vectors;              /* the multipliers are half as wide as vectors: a half takes half the time */
  bool has_fma;                   /* f32 and f64 */
  bool has_lookup;                /* a vector of elements of a table (NN_X_LOOKUP) is one instruction */
  bool has_f16_convert;           /* f16 <-> f32 in hardware */
  bool has_masked_memory;         /* masked vector loads and stores of 32- and 64-bit lanes */
  bool has_round;                 /* floor, ceil, trunc, rint in hardware, f32 */
  bool has_sqrt_f64;              /* and f64 arithmetic in hardware (cortex-m4: no) */
  bool unaligned_ok;
  bool is_little_endian;
  int l1_bytes, l2_bytes, l3_bytes; /* data caches of a core (l3: what one core may count on) */
  nncc_fp fp;                     /* strict until set */
} nn_target;

/* NULL triple: the host's. NULL cpu: the host's own when triple is NULL ("native"), else the baseline.
   x86-64-v1..v4 and LLVM CPU names. Errors into diags. */
nn_status nn_target_init(nn_target *t, const char *triple, const char *cpu, nn_diags *diags);
void nn_target_free(nn_target *t);
/* The machine that loops are made for: t, but where results must be the same on all targets one that is none of them, so that all run the
   same loops. In the arena, or t; the texts are t's. */
const nn_target *nn_target_of_loops(const nn_target *t, nn_arena *arena);
const char *nn_tuning_cpu(nn_arena *arena, const nn_target *t); /* what a file of nncc tune calls it */
const char *nn_fp_name(nncc_fp fp);                  /* "strict", ... */
bool nn_fp_from_name(const char *name, nncc_fp *fp);
int nn_target_lanes(const nn_target *t, nn_dtype dtype); /* vector_bytes / element size as held in registers (f16 as f32); at least 1 */

/* ---- lower.c: one kernel ------------------------------------------------------------------------- */

typedef struct nn_sums nn_sums;

typedef struct nn_lower {
  nn_module *module;
  const nn_target *target;
  nn_kernel *kernel;
  nn_op *op;                 /* the op being lowered: nn_fail's place */
  nn_graph *group;           /* body of a fused op, or NULL */
  struct nn_lower_state *state; /* lower.c */
  nn_sums *sums;             /* pixel_sums.c; NULL: none */
} nn_lower;

/* The value v at these indices (rank entries, i64, in range), as an expression that is bound (nn_let)
   at the insertion point. A producer inside the group is inlined, otherwise it is a load under the
   current guard. Reading one value at the same indices twice in one open block gives the same node. */
nn_x *nn_read(nn_lower *L, nn_value *v, nn_x *const *index);
/* Gives element `index` of result v of the nest op: evaluates fused consumers and stores. Exactly once for
   each element, with the final value, under the current guard. */
void nn_write(nn_lower *L, nn_value *v, nn_x *const *index, nn_x *value);
/* Says what element `index` of a result of an inner nest (scores, softmax) is, for reads in the block that is open now. */
void nn_given(nn_lower *L, nn_value *v, nn_x *const *index, nn_x *value);
/* Loads and stores between push and pop happen only where cond holds; a guarded read gives 0 elsewhere. */
void nn_guard_push(nn_lower *L, nn_x *cond);
void nn_guard_pop(nn_lower *L);
nn_x *nn_guard(nn_lower *L);                 /* the conjunction, NULL if none */
/* True if v is a plain dense buffer of this kernel (no producer to inline): then *buf is its buffer and a
   nest may load from it directly with row-major flat indices. */
bool nn_read_is_plain(nn_lower *L, nn_value *v, nn_buf **buf);
/* The same, or v is computed by a pointwise op of one, which has its elements in the same places. */
bool nn_read_stems_from(nn_lower *L, nn_value *v, nn_buf **buf);
/* The op that computes the elements of v where this kernel reads them; NULL: they are in memory or a nest's. */
nn_op *nn_read_op(const nn_lower *L, const nn_value *v);
/* True if nn_write of v only stores to one plain dense buffer. */
bool nn_write_is_plain(nn_lower *L, nn_value *v, nn_buf **buf);
/* True if reads of v along dim cost a vector load (stride 1 or 0 in memory, as far as can be told). */
bool nn_read_is_unit(nn_lower *L, nn_value *v, int dim);

nn_x *nn_dim_x(nn_lower *L, nn_dim d);                                  /* dimension as expression */
nn_x *nn_flat_index(nn_lower *L, nn_type type, nn_x *const *index);     /* row-major */
void nn_unflatten(nn_lower *L, nn_type type, nn_x *flat, nn_x **index); /* the reverse */
nn_buf *nn_temp(nn_lower *L, nn_buf_space space, nn_dtype dtype, nn_dim count);
nn_buf *nn_regs(nn_lower *L, nn_dtype dtype, int64_t count);

/* Loops over a box of nd dims: outer dims parallel in tasks of a useful size (chosen from shape and cost alone), the last one vectorised
   by `lanes` with a scalar loop for the rest. body gets one index per dim; it is called once per emitted copy.
   cost: rough operations per element. lanes 1: no vector loop. */
typedef void nn_body(nn_lower *L, nn_x *const *index, void *data);
void nn_box_loops(nn_lower *L, const nn_dim *dims, int nd, int lanes, int64_t cost, nn_body *body, void *data);
/* The same in a parallel loop over the outer product only: body loops over the rest itself. ntasks from cost. */
void nn_parallel_rows(nn_lower *L, const nn_dim *dims, int nd, int64_t cost, nn_body *body, void *data);
/* nn_box_loops for several boxes, one of them after the other, and all of that a few times over: *repetition is set to the number. All
   tasks run side by side. */
typedef struct nn_box { const nn_dim *dims; void *data; } nn_box;
typedef struct nn_boxes {
  const nn_box *boxes;
  int count, nd, lanes;
  int64_t cost, repetitions;
  nn_body *body;
} nn_boxes;
void nn_boxes_loops(nn_lower *L, const nn_boxes *all, nn_x **repetition);
/* for i in 0..n, vector part and scalar rest; serial. */
void nn_vector_loops(nn_lower *L, nn_x *n, int lanes, void (*body)(nn_lower *L, nn_x *i, void *data), void *data);

typedef nn_x *nn_elem_fn(nn_lower *L, nn_op *op, nn_x *const *index);
typedef nn_status nn_nest_fn(nn_lower *L, nn_op *op);
typedef struct nn_lower_row { nn_elem_fn *elem; nn_nest_fn *nest; } nn_lower_row;
extern const nn_lower_row nn_lower_rows[NN_OP_COUNT]; /* lower_table.c, from ops.def; checks flags */

/* elem_<op>, lower_<op> of every op: those that its flags do not promise are declared but never defined. */
#define OP(code, text, nin_min, nin_max, nout, flags, family) nn_elem_fn elem_##text; nn_nest_fn lower_##text;
#define ATTR(code, name, kind, fallback)
#include "ir/ops.def"
#undef OP
#undef ATTR

/* One op or fused op as a kernel; the kernel's params are the op's distinct non-NULL operands in order,
   then its used results in order: *args has these values (arena). NULL after an error. */
nn_kernel *nn_lower_op(nn_module *m, const nn_target *t, nn_op *op, nn_value ***args, int *nargs);

/* ---- shared by the lower*.c files ----------------------------------------------------------------- */

nn_x *nn_number(nn_lower *L, nn_dtype dtype, double value); /* a constant of any element type */
nn_x *nn_bind(nn_lower *L, nn_x *x);                        /* nn_let, once for each expression and open block */
bool nn_has_packed_output(const nn_lower *L);               /* writes elements smaller than a byte: serial scalar loops only */

/* The part of a concat that the open loops run over, where the index along its axis is this one. */
typedef struct nn_part { const nn_op *concat; const nn_x *index; int number; } nn_part;
void nn_part_set(nn_lower *L, nn_part part);
int nn_part_of(const nn_lower *L, const nn_op *concat, const nn_x *index); /* -1: not known */

/* What one kernel computes: element and nest ops in order, and the values that come in and go out. The
   ops may be copies that stand in no graph (lower_collapse.c). */
typedef struct nn_group {
  nn_op **ops;
  int nops;
  nn_value **inner, **outer; /* operands: as the ops read them, and the value of the calling graph */
  int ninputs, inputs_cap;
  nn_value **results;        /* results of the ops (or operands passed through), one for each of `targets` */
  nn_value **targets;        /* used results of the op */
  int nresults;
  nn_op *nest;               /* at most one; NULL in an element group. Of attention: the second product */
  nn_op *scores, *softmax;   /* of attention (lower_attention.c): what the nest reads is computed from these nests; else NULL */
  nn_op *sums;               /* adds up what the nest gives (pixel_sums.c), or NULL */
} nn_group;

const nn_group *nn_group_of(const nn_lower *L);
void nn_store_result(nn_lower *L, int r, nn_x *const *index, nn_x *value); /* group.results[r] */
/* lower_group.c: the loops of a group without a nest. */
nn_status nn_lower_elements(nn_lower *L);

/* pixel_sums.c: the sums of nn_group.sums, for a nest that gives [images, blocks, rows, columns, block] by lines. They do nothing where there are none. */
void nn_sums_open(nn_lower *L);                         /* before the nest's loops */
void nn_sums_start(nn_lower *L, int lanes);             /* of a line: so many channels of its block, whose pixels are written in vector loops */
void nn_sums_take(nn_lower *L, nn_x *const *index);     /* nn_write has made this element */
void nn_sums_keep(nn_lower *L, nn_x *image, nn_x *block, nn_x *row, nn_x *lane0, int lanes); /* the line's end */
void nn_sums_close(nn_lower *L);                        /* after the loops: gives the result */

/* lower_collapse.c: the same group with neighbouring dimensions merged wherever every access allows it. */
void nn_group_collapse(nn_module *m, nn_group *group);

/* lower_move.c: moves *i and *j over the next dimensions of a reshape's operand and result whose products
   agree, as few as can be told. */
void nn_reshape_run(nn_module *m, nn_type from, nn_type to, int *i, int *j);

/* ---- math.c: elementary functions as loop IR, f32 and f64 (f16, bf16, f8: through f32) --------------- */
/* Each states its bound in ULP; the table is docs/math.md. x is float; bind operands before. */
nn_x *nn_math(nn_lower *L, nn_opcode code, nn_x *x);            /* EXP LOG EXPM1 LOG1P SIN ... SIGMOID SOFTPLUS ERF TANH */
nn_x *nn_math_gate(nn_lower *L, nn_x *y, nn_x *x);              /* y * sigmoid(x), of f32 or f64 */
nn_x *nn_math_pow(nn_lower *L, nn_x *x, nn_x *y);
nn_x *nn_math_fmod(nn_lower *L, nn_x *x, nn_x *y);              /* C fmod, exact */

/* ---- gemm.c, gemm_thin.c: register-tiled matrix products, used by matmul, conv and recurrent cells ---- */

/* A register tile: mr rows by nv vectors of `lanes` columns. */
typedef struct nn_tile { int lanes, nv, mr; } nn_tile;
/* The tile for the target; m and n may shrink or flatten it. */
nn_tile nn_tile_choose(const nn_target *t, nn_dtype acc, nn_dim m, nn_dim n);

/* gemm_tile.c: one step of k of a tile; a gives what is multiplied with a row, b (in a vector loop) the element in column j. */
typedef struct nn_tile_step {
  int rows, nv, lanes;
  nn_x *rows_now;       /* NULL, or how many of the rows there are, known while running: 1 at least */
  nn_x *(*a)(nn_lower *L, const void *data, nn_x *row);
  nn_x *(*b)(nn_lower *L, const void *data, nn_x *j);
  const void *data;
} nn_tile_step;
nn_x *nn_tile_vector(nn_kernel *k, nn_x *index, int lanes, nn_x *l); /* index * lanes + l */
nn_buf *nn_tile_clear(nn_lower *L, nn_dtype acc, int vectors, int lanes); /* registers, zeros: [rows][nv][lanes] */
/* Each row of a tile, in code of its own. If their number is known while running, each row asks whether there is one more: the code is that of one
   tile, and one jump leaves it. rows_now: NULL, or 1 at least. */
typedef void nn_tile_row_body(nn_lower *L, nn_x *row, void *data);
void nn_tile_rows(nn_lower *L, int rows, nn_x *rows_now, nn_tile_row_body *body, void *data);
void nn_tile_move(nn_lower *L, const nn_tile_step *tile, nn_buf *from, nn_buf *to); /* the rows there are */
void nn_tile_ahead(nn_lower *L, int lines); /* here is time to fetch lines of what later steps need (ahead.c) */
int nn_tile_unroll(int vectors); /* steps of k that are copied out: what is around them counts for little */
void nn_tile_add(nn_lower *L, const nn_tile_step *s, nn_buf *b, nn_buf *sums); /* b: registers for nv vectors */

enum { NN_TILE_LOOPS = 4 };
/* C[o, m, n] = sum over the k loops of A(o, m, k..) * B(o, k.., n) over register tiles, in parallel tasks
   cut by shape alone. The sum runs over the k loops in order. */
typedef struct nn_tiles {
  nn_tile tile;
  nn_dim m, n;
  nn_x *m_now, *n_now, *k_now;               /* rows, columns, steps of the outermost k loop, at most m, n, kcount[0], known while running; NULL: these */
  nn_dtype acc;                              /* f32, f64, i32 ... */
  int nk;                                    /* k loops, outermost first */
  nn_dim kcount[NN_TILE_LOOPS];
  bool kunroll[NN_TILE_LOOPS];               /* static count, copied out */
  nn_x *(*a)(nn_lower *L, void *data, nn_x *m, nn_x *const *k);  /* of type acc */
  /* of type acc, column n0 + j, where n0 is the panel's first; under a guard n0 + j < N in the last panel unless b_padded */
  nn_x *(*b)(nn_lower *L, void *data, nn_x *const *k, nn_x *n0, nn_x *j);
  bool b_padded;                             /* b may be asked for columns beyond N, up to a whole panel */
  /* Stores src[at + l] as element (m, n + l), l < lanes; is_tail: where n + l < N only. lanes may be 1. */
  void (*store)(nn_lower *L, void *data, nn_x *m, nn_x *n, int lanes, bool is_tail, nn_buf *src, nn_x *at);
  /* Instead of store: all columns of a row, src[at + j] is column n0 + j; it leaves out what is beyond N. */
  void (*store_row)(nn_lower *L, void *data, nn_x *m, nn_x *n0, nn_buf *src, nn_x *at);
  bool store_direct;                         /* the store is cheap: straight from the registers, code copied out */
  bool rows_padded;                          /* a may be asked for rows beyond M, up to a whole tile, and a direct store given them */
  bool store_checks;                         /* the store itself leaves out what is beyond N, whatever is_tail says */
  void (*pack)(nn_lower *L, void *data, nn_x *n0); /* before a task's row tiles of a panel: makes B ready; may be NULL */
  /* Instead of pack, for a whole panel, while its first row tile runs: gives B's element of row k, column n0 + j, and keeps it. NULL: pack */
  nn_x *(*pack_line)(nn_lower *L, void *data, nn_x *k, nn_x *n0, nn_x *j);
  /* Prefetches B's element of row k, column n0 + j (it may not exist), for a panel's only row tile or the one that packs; NULL: none. One k loop */
  void (*ahead_row)(nn_lower *L, void *data, nn_x *k, nn_x *n0, nn_x *j);
  int ahead_step;                            /* of an only row tile: it asks for every so many-th line of a row. 0: 1 */
  void (*prepare)(nn_lower *L, void *data, nn_x *first, nn_x *end); /* the same once in a task, for all its columns */
  void (*ahead)(nn_lower *L, void *data, nn_x *n0, nn_x *at); /* prefetches element `at` of the panel after n0's (it may not exist); NULL: none. One k loop */
  void (*ahead_a)(nn_lower *L, void *data, nn_x *m, nn_x *at); /* prefetches element `at` behind row m's first in memory; NULL: none. One k loop */
  int64_t first_panel;                       /* those before it are left out */
  int64_t panels;                            /* of a task; 0: by work */
  int64_t most_panels;                       /* of a task; it takes so many if there are tasks enough. 0: by work */
  nn_dim outer;                              /* independent products: groups, ... */
  nn_x **outer_index;                        /* set before a, b, store are called */
  void *data;
  bool in_parallel;                          /* already inside a parallel loop */
} nn_tiles;
void nn_tiles_emit(nn_lower *L, const nn_tiles *t);
int64_t nn_tiles_panels(const nn_lower *L, const nn_tiles *t);     /* of a task */
int64_t nn_tiles_row_blocks(const nn_lower *L, const nn_tiles *t); /* tasks that share a panel */
bool nn_tiles_pack_pays(const nn_lower *L, const nn_tiles *t); /* few tasks would pack one panel, for enough rows */

/* C[m, n] = sum over k of A(m, k) * B(k, n), through callbacks that give loop IR values, so any layout,
   fused producer or implicit im2col is an operand. See gemm.c. */
typedef struct nn_gemm {
  nn_dim m, n, k;
  nn_dtype acc;                                   /* f32, f64, i32 */
  nn_x *(*a)(nn_lower *L, void *data, nn_x *m, nn_x *k);   /* value of A, of type acc */
  nn_x *(*b)(nn_lower *L, void *data, nn_x *k, nn_x *n);
  void (*store)(nn_lower *L, void *data, nn_x *m, nn_x *n, nn_x *value);
  int64_t products;      /* about so many, one after the other, each with a B of its own; 0: 1 */
  nn_buf *a_plain; nn_x *a_base, *a_stride_m, *a_stride_k; /* if A is addressable without packing: flat = base + m*sm + k*sk */
  nn_buf *b_plain; nn_x *b_base, *b_stride_k, *b_stride_n;
  nn_buf *b_panels; int64_t panel_width;          /* or NULL: B in panels [N / width][k][width] of type acc, padded */
  int64_t panel_more;                             /* lines of a panel behind those of k */
  int64_t first_column;                           /* with panels: columns from here on, where a panel begins */
  int64_t strassen;                               /* from so many rows on seven products of half the size in place of eight, if it fits; 0: never */
  int64_t a_block;                                /* of Strassen's form: neighbouring rows lie together in blocks of so many elements; 0: rows of k */
  int64_t a_run;                                  /* of products in pairs: A's rows are runs of so many steps of k that lie alike; 0: one run */
  bool a_unit_k, b_unit_k;                        /* callbacks read vectors along k rather than along m, n */
  bool store_direct;                              /* store only stores: no epilogue worth a loop of its own */
  void *data;
  bool in_parallel;                               /* already inside a parallel loop: do not open one */
} nn_gemm;
void nn_gemm_emit(nn_lower *L, const nn_gemm *g);
/* gemm_strassen.c: the first columns, as many as it says. */
bool nn_gemm_strassen_fits(const nn_lower *L, const nn_gemm *g);   /* with B in panels as they are, or to be packed */
int64_t nn_gemm_strassen_width(const nn_lower *L, const nn_gemm *g); /* of its panels */
int64_t nn_gemm_strassen_columns(const nn_gemm *g);
void nn_gemm_strassen(nn_lower *L, const nn_gemm *g);
/* gemm_paired.c: B in panels of paired_weights. */
void nn_gemm_paired(nn_lower *L, const nn_gemm *g);
int64_t nn_gemm_b_bytes(const nn_gemm *g);         /* about */
/* A whole panel from column n0 on: to b[at] on, [k][the tile's columns]. */
void nn_gemm_pack_panel(nn_lower *L, const nn_gemm *g, const nn_tile *tile, nn_buf *b, nn_x *at, nn_x *n0);
void nn_gemm_axpy(nn_lower *L, const nn_gemm *g);  /* gemm_thin.c: few rows, B read once along n */
void nn_gemm_dot(nn_lower *L, const nn_gemm *g);   /* gemm_thin.c: few rows, B read once along k */
nn_x *nn_gemm_a(nn_lower *L, const nn_gemm *g, nn_x *m, nn_x *k); /* the element, from the buffer if plain */
nn_x *nn_gemm_b(nn_lower *L, const nn_gemm *g, nn_x *k, nn_x *n);

/* lower_matmul.c: elements of a matmul's operands in one matrix of the batch, of the type that is summed in. */
nn_x *nn_matmul_a(nn_lower *L, nn_op *op, nn_x *const *batch, nn_x *m, nn_x *k);
nn_x *nn_matmul_b(nn_lower *L, nn_op *op, nn_x *const *batch, nn_x *k, nn_x *n);
/* lower_attention.c: three nests of one group. */
nn_status nn_lower_attention(nn_lower *L, nn_op *scores, nn_op *softmax, nn_op *product);

/* ---- lower_conv.c, conv_gemm.c, conv_direct.c ------------------------------------------------------- */

enum { NN_SPATIAL = 3 };
/* One convolution; spatial arrays have nd entries. */
typedef struct nn_conv {
  nn_value *x, *w, *y;
  int nd;
  bool static_kernel;
  int64_t kernel[NN_SPATIAL];                        /* if static_kernel */
  int64_t stride[NN_SPATIAL], dilation[NN_SPATIAL];
  nn_dim kernel_dim[NN_SPATIAL], in[NN_SPATIAL], out[NN_SPATIAL], before[NN_SPATIAL];
  int64_t groups;
  nn_dim batch, group_in, group_out;                 /* images; channels of a group */
  nn_dtype acc;
} nn_conv;
void nn_conv_gemm(nn_lower *L, const nn_conv *c);    /* products over register tiles; needs static_kernel */
void nn_conv_direct(nn_lower *L, const nn_conv *c);  /* sums along rows of the output: depthwise, and anything else */

/* conv_strassen.c: the first panels of a conv_blocked in Strassen's form, where the op says so and w suits it. Gives the first panel that is left. */
nn_x *nn_conv_strassen(nn_lower *L, nn_op *op, nn_buf *w, bool store_direct);

/* conv_tile.c: the register tile of convolutions in blocked layout. The k loops are as in nn_tiles. */
typedef struct nn_conv_tile {
  int nv, lanes;
  int nk;                                            /* k loops, outermost first */
  nn_x *count[NN_TILE_LOOPS];
  bool is_copied[NN_TILE_LOOPS];                     /* a static count, copied out */
  nn_x *(*place)(nn_lower *L, void *data, nn_x *row, nn_x *const *k);    /* the number of a place, f32 */
  nn_x *(*weight)(nn_lower *L, void *data, nn_x *const *k, nn_x *j);     /* of output channel j of the panel */
  void *data;
  nn_buf *ahead;                                     /* may be NULL: where `lines` lines from element `from` on are prefetched meanwhile; constant counts */
  nn_x *from;
  int64_t lines;
} nn_conv_tile;
/* `count` places as tiles of at most `most`: `extra` tiles of rows + 1, then those of rows. */
typedef struct nn_tile_cut { int64_t tiles, rows, extra; } nn_tile_cut;
nn_tile_cut nn_tile_cut_rows(int64_t count, int most);
/* A tile of such a cut, or of places whose number is known while running: */
typedef struct nn_tile_span {
  nn_x *pass, *first;  /* number of the tile, first place */
  int rows;
  nn_x *rows_now;      /* of the places after the last whole tile: how many of the rows they are; else NULL */
} nn_tile_span;
typedef void nn_tile_body(nn_lower *L, const nn_tile_span *span, void *data);
void nn_tile_cut_loops(nn_lower *L, nn_tile_cut cut, nn_tile_body *body, void *data);
/* The same for any `count`: whole tiles, and one of what is left. */
void nn_tile_any_loops(nn_lower *L, nn_x *count, int most, nn_tile_body *body, void *data);
int nn_conv_tile_rows(const nn_target *t, int nv);   /* places that fit the registers */
nn_buf *nn_conv_tile_clear(nn_lower *L, const nn_conv_tile *t, int rows); /* registers [rows][nv][lanes], zeros */
void nn_conv_tile_move(nn_lower *L, const nn_conv_tile *t, const nn_tile_span *span, nn_buf *from, nn_buf *to);
void nn_conv_tile_add(nn_lower *L, nn_conv_tile *t, const nn_tile_span *span, nn_buf *acc);
/* Panels of `size` elements lie one behind the other, and `passes` row tiles each read one: together they prefetch the next one. The next
   nn_conv_tile_add of t, which has row tile number `pass`, does its part. */
void nn_conv_tile_prefetch(nn_lower *L, nn_conv_tile *t, nn_buf *w, nn_x *panel, int64_t size, nn_x *pass, int64_t passes);

/* Element (pixel m of all images, channel n) of an image in blocks of channels. */
void nn_write_pixel(nn_lower *L, nn_value *y, nn_x *m, nn_x *n, nn_x *value);

/* conv_cut.c: how a convolution in blocked layout is cut into tasks. */
typedef struct nn_conv_cut {
  int64_t images, rows, width;            /* of results */
  int64_t panels, depth;                  /* of weights; steps of the sums */
  int vectors, tile_rows;                 /* of a panel; of a tile of one, at most */
  int last_vectors, last_tile_rows;       /* of the last panel, where it is smaller; else 0 */
  bool is_flat, is_made;                  /* tiles run over rows; tasks make their panels */
  double row_cycles, task_cycles;         /* for each row of a task, and for each task, beside the products */
  int64_t band, group_panels;             /* the cut: rows and panels of a task, at most */
} nn_conv_cut;
/* Takes a cut that suits a few workers better, if there is one, with bands of at most most_rows. */
void nn_conv_cut_better(nn_conv_cut *c, int64_t most_rows);

/* winograd_transform.c: tiles of m x m results; row-major: w 3 x 3, u, v, d and s (m + 2) x (m + 2), y m x m. */
enum { NN_WINOGRAD_SIDE = 6, NN_WINOGRAD_AREA = NN_WINOGRAD_SIDE * NN_WINOGRAD_SIDE }; /* at most */
void nn_winograd_weights(nn_lower *L, int64_t m, nn_x *const *w, nn_x **u);
void nn_winograd_input(nn_lower *L, int64_t m, nn_x *const *d, nn_x **v);
void nn_winograd_output(nn_lower *L, int64_t m, nn_x *const *s, nn_x **y);

/* rnn_activation.c: activation number i of a recurrent op (fallback: its name if the op has none); its clip. */
nn_x *nn_rnn_activation(nn_lower *L, nn_op *op, int i, const char *fallback, nn_x *x);
nn_x *nn_rnn_clip(nn_lower *L, nn_op *op, nn_x *x);

/* window.c: rows of a sliding window's results in vectors: direct convolution and pools. For each image and
   channel, each vector of results: open, then tap for each element of the window, then close. */
typedef struct nn_window nn_window;
struct nn_window {
  int nd;
  nn_dim kernel[NN_SPATIAL], in[NN_SPATIAL], out[NN_SPATIAL], before[NN_SPATIAL];
  int64_t stride[NN_SPATIAL], dilation[NN_SPATIAL];
  nn_dim rows[2];                       /* images, channels of the result */
  nn_dim depth;                         /* of a loop around the window's: channels that are summed */
  int lanes;
  int64_t cost;                         /* operations per tap */
  void *data;
  void (*start)(nn_lower *L, nn_window *w);             /* a new channel; may be NULL */
  void (*open)(nn_lower *L, nn_window *w, int lanes);
  nn_x *(*uniform)(nn_lower *L, nn_window *w, nn_x *depth, nn_x *const *tap); /* what all lanes share; may be NULL */
  /* In the vector loop of lane l: the element at place[] of the input; where cond (may be NULL) is false there is none. */
  void (*tap)(nn_lower *L, nn_window *w, nn_x *uniform, nn_x *depth, nn_x *const *place, nn_x *l, nn_x *cond);
  void (*close)(nn_lower *L, nn_window *w, int lanes, bool is_tail);          /* is_tail: only where at[..] + l < out */
  /* set for the callbacks */
  nn_x *at[2 + NN_SPATIAL];             /* image, channel, place of the result; the last one is lane 0's */
  bool is_whole;                        /* code for vectors whose windows lie in the input as a whole */
  nn_x *first;                          /* results before this one are already there; NULL: none */
  bool few_taps, copies_taps;           /* the tap indices are constants after unrolling */
};
void nn_window_emit(nn_lower *L, nn_window *w);
bool nn_window_guard_push(nn_lower *L, const nn_window *w, nn_x *x, bool is_tail); /* for close: result x is to be given; false: no guard */

/* Helpers of nests (nest.c). */
int64_t nn_percent(const nn_lower *L, nn_knob knob, int64_t value); /* as much of the value as the schedule of the op at hand says */
nn_x *nn_lanes_begin(nn_lower *L, int lanes);       /* a vector loop, or nothing for one lane: then index 0 */
void nn_lanes_end(nn_lower *L, int lanes);
bool nn_epilogue_is_short(const nn_lower *L);       /* what is fused behind the nest: it may be copied out for each register */
nn_x *nn_mul_add(nn_lower *L, nn_x *a, nn_x *b, nn_x *c);       /* a*b + c of any type */
nn_dtype nn_acc_dtype(nn_dtype t);                  /* of products: f16, bf16, f8 in f32, narrow ints in i32 */
nn_x *nn_zero(nn_lower *L, nn_dtype t);
int64_t nn_dim_guess(nn_dim d, int64_t fallback);   /* for costs: the value, or a likely one for a symbolic dimension; 1 << 24 at most */
nn_x *nn_ceildiv_x(nn_lower *L, nn_x *a, int64_t b);
/* Opens a parallel loop over 0..count, or a serial one if there is a parallel one open already. */
nn_x *nn_task_loop(nn_lower *L, bool in_parallel, const char *name, nn_x *count);
/* Of outer * inner tasks, where inner are places in images: those of the first half of the places come first, all with the same `outer`
   one after the other, then those of the second half. The pool gives each worker a range of tasks, so what a worker has written in
   one op he reads in the next: what another core has written may be far away. */
typedef struct nn_split { nn_x *outer, *inner, *first; } nn_split; /* of the task; the first place of its half */
nn_split nn_split_task(nn_lower *L, nn_x *task, nn_x *outer, nn_x *inner);
/* Blocks of `lanes` over 0..count, then the rest: as one masked block (is_tail: body guards i + l < count) where
   the target has masked memory, else one by one (lanes 1). body opens the vector loop. */
typedef void nn_block_body(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data);
void nn_block_loops(nn_lower *L, nn_x *count, int lanes, nn_block_body *body, void *data);
/* The same over first..end for reductions: `vectors` blocks side by side, each with its own slot 0..vectors-1
   (an unrolled variable), then the rest in slot 0. */
typedef void nn_row_body(nn_lower *L, nn_x *i, nn_x *slot, int lanes, bool is_tail, void *data);
void nn_row_loops(nn_lower *L, nn_x *first, nn_x *end, int lanes, int vectors, nn_row_body *body, void *data);
int nn_row_lanes(nn_lower *L, nn_dtype t, nn_dim extent);                              /* the target's, fewer for a short extent */
int nn_row_vectors(int most, int lanes, nn_dim extent);                                /* side by side */
void nn_row_take(nn_lower *L, nn_xop op, nn_buf *acc, nn_x *slot, nn_x *l, int lanes, nn_x *value); /* the slot's lane l becomes op(itself, value) */
nn_buf *nn_row_regs(nn_lower *L, nn_x *start, int vectors, int lanes);                 /* slots, all `start` */
nn_x *nn_row_fold(nn_lower *L, nn_xop op, nn_buf *acc, int vectors, int lanes);         /* ADD MUL MAX MIN: to one number, in a tree */
nn_x *nn_lowest(nn_lower *L, nn_dtype t);                                               /* -inf, or the least integer */
nn_x *nn_highest(nn_lower *L, nn_dtype t);

/* ---- program.c, plan.c --------------------------------------------------------------------------- */

nn_program *nn_program_build(nn_module *m, const nn_target *t);          /* lowers every op of main; NULL + diags */
/* aliases: "input=output" ..., NULL at the end (or NULL): outputs that may be the same memory as an input. */
nn_program *nn_program_build_aliased(nn_module *m, const nn_target *t, const char *const *aliases);
/* The same program for another CPU, on the weights of `widest`; becomes its variant. */
nn_program *nn_program_build_variant(nn_module *m, const nn_target *t, const char *const *aliases, nn_program *widest);
nn_status nn_plan_memory(nn_program *p, const nn_target *t);             /* places, workspace size */
void nn_plan_ahead(nn_program *p, const nn_target *t);                    /* ahead.c: what steps fetch for later ones */
/* Runs with the loop interpreter. in, out as in run; workspace is allocated here. */
int nn_program_eval(const nn_program *p, const nncc_rt_tensor *in, nncc_rt_tensor *out, nncc_rt_ctx *ctx);

/* alias.c: finds the names, before the steps are made; sees to the order of reading and writing, after. */
nn_status nn_aliases_find(nn_program *p, const char *const *texts);
nn_place *nn_aliased_input(const nn_program *p, const nn_place *place);  /* that the output may be; NULL: none */
void nn_aliases_order(nn_program *p);

/* ---- variants.c: one object for several CPUs --------------------------------------------------------- */

enum { NN_MAX_VARIANTS = 4 };
typedef struct nn_variants {
  nn_target items[NN_MAX_VARIANTS]; /* the narrowest first */
  int count;
} nn_variants;
/* cpus: as nn_target_init takes it, or several of x86-64, x86-64-v2, .. with commas. */
nn_status nn_variants_init(nn_variants *v, const char *triple, const char *cpus, nn_diags *diags);
void nn_variants_free(nn_variants *v);
/* widest: compiled for the last one; gets the programs of the others. */
nn_status nn_variants_build(nn_program *widest, const nn_variants *v, const char *const *aliases);

/* ---- emit*.c, jit.c, object.c: LLVM ----------------------------------------------------------------- */

/* Called by code in memory, on the thread that runs the model: with -1 before the first step of the program, with
   i after step i, when all its tasks are done. symbols: values by module symbol index, as far as they are bound. */
typedef struct nn_step_hook {
  void (*fn)(void *data, int32_t step, const int64_t *symbols);
  void *data;
} nn_step_hook;

typedef struct nn_emit_options {
  const char *name;        /* of the model: symbol prefix */
  int level;               /* 0..3 */
  int threads;             /* that compile; 0: one for each processor */
  const char *cache;       /* folder of compiled kernels; NULL: none */
  bool weights_in_object;  /* descriptor points at them */
  const nn_step_hook *hook; /* its address in this process; NULL: none */
  bool symbols;             /* JIT only: names for GDB and perf */
} nn_emit_options;

/* An in-memory JIT of whole programs or single kernels. */
typedef struct nn_jit nn_jit;
nn_jit *nn_jit_new(nn_diags *diags);                                     /* for the host; NULL + diags */
void nn_jit_free(nn_jit *jit);
/* fn(ctx, args[], symbols[]): the kernel as nn_kernel_eval takes it; ctx's workspace serves as worker memory
   (worker_bytes each). */
typedef int32_t nn_kernel_fn(nncc_rt_ctx *ctx, void *const *args, const int64_t *symbols);
nn_status nn_jit_kernel(nn_jit *jit, const nn_target *t, const nn_kernel *k, nn_kernel_fn **fn);
nn_status nn_jit_program(nn_jit *jit, const nn_target *t, const nn_program *p, const nn_emit_options *options, const nncc_rt_model **model);

/* Largest stack frames in bytes, as the code generator reports them. */
typedef struct nn_frames {
  int64_t entry, kernel, task, other;
} nn_frames;

/* An object file in memory. */
typedef struct nn_object {
  unsigned char *bytes; /* malloced */
  size_t size;
  nn_frames frames;
} nn_object;
void nn_object_free(nn_object *object);

/* A file that is being written. Until all is done its bytes are in a temporary one. */
typedef struct nn_out_file {
  const char *path; /* as messages say it */
  const char *temporary;
} nn_out_file;

typedef enum nn_output_kind { NN_OUT_OBJECT, NN_OUT_ASM, NN_OUT_LLVM, NN_OUT_ARCHIVE, NN_OUT_SHARED } nn_output_kind;
/* Writes path (through a temporary file and rename). weights_path: NULL embeds them, else the side file. Sets p->stack_bytes. */
nn_status nn_object_write(nn_program *p, const nn_target *t, const nn_emit_options *options, nn_output_kind kind, const char *path, const char *weights_path);
int64_t nn_weights_base(const nn_target *t, nn_output_kind kind, bool is_beside); /* of a spill that becomes the output; -1: none can */
nn_status nn_header_write(const nn_program *p, const nn_target *t, const nn_emit_options *options, const char *path, const char *weights_path);
nn_status nn_map_write(const nn_program *p, const nn_target *t, const nn_emit_options *options, const char *path); /* kernel_map.c */
/* Assembly text of one kernel, to look at and to test. */
nn_status nn_kernel_assembly(const nn_target *t, const nn_kernel *k, nn_arena *arena, char **text);
int nn_target_worker_bytes(const nn_kernel *k); /* static worker scratch of one kernel */

/* c_name.c: text as a C and C++ identifier: other characters become _, and m_ goes before a digit or a keyword. */
char *nn_c_name(nn_arena *arena, const char *text, size_t length);

/* ---- compile.c: everything between a module and its code ---------------------------------------------- */

void nn_env_init(nn_pass_env *env, const nn_target *t, nn_diags *diags); /* evaluate through the interpreter for small ops, the JIT for large ones */
void nn_env_free(nn_pass_env *env);
/* Passes, program, plan. The module is changed: once. aliases: as above. NULL + diags. */
struct nn_pass_options;
nn_program *nn_compile(nn_module *m, const nn_target *t, int level, const char *const *aliases, const struct nn_pass_options *options);

/* api.c: nncc_model_jit and nncc_model_compile for a profiler: code that calls the hook, and the program that it is made of. Such a
   file is of use only while this process lives. */
struct nncc_model;
struct nncc_compile_options;
nn_status nn_model_jit_hooked(struct nncc_model *model, const struct nncc_compile_options *options, const nn_step_hook *hook,
                              const nn_program **program, const nncc_rt_model **compiled);
nn_status nn_model_compile_hooked(struct nncc_model *model, const char *out, const struct nncc_compile_options *options, const nn_step_hook *hook,
                                  const nn_program **program);

#endif
