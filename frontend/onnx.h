/* ONNX import. onnx.c walks the model and calls one importer per operator, onnx_<Op> in
   onnx_<family>.c, for every opset version of that operator. Importers build core ops with the nn_b_
   functions; they never see protobuf. */
#ifndef NN_ONNX_H
#define NN_ONNX_H
#include "ir/ir.h"

typedef struct onnx_import onnx_import; /* onnx.c */
typedef struct onnx_node {
  onnx_import *import;
  nn_module *m;
  nn_builder *b;          /* loc is set to this node; folds small constants at once */
  const char *name;       /* node name; for a nameless node "Op_<index>" */
  const char *op;         /* op type */
  const char *domain;     /* "" for ai.onnx */
  int since;              /* opset version of the domain that the model imports */
  int nin, nout;          /* as written, trailing empty names dropped */
  nn_value **in;          /* NULL where the optional input is absent */
  nn_value **out;         /* the importer fills these (all that onnx_wants) */
  const void *proto;
} onnx_node;

typedef nn_status onnx_fn(onnx_node *n);

/* Attributes. Type mismatches are reported by onnx.c against the schema knowledge in the call: asking for an
   int where the file has floats fails the node with a message (checked after the importer returns, or by onnx_failed). */
bool onnx_has(onnx_node *n, const char *name);
int64_t onnx_int(onnx_node *n, const char *name, int64_t fallback);
double onnx_float(onnx_node *n, const char *name, double fallback);
const char *onnx_str(onnx_node *n, const char *name, const char *fallback);
const int64_t *onnx_ints(onnx_node *n, const char *name, int *count);       /* NULL and 0 if absent */
const double *onnx_floats(onnx_node *n, const char *name, int *count);
const char *const *onnx_strs(onnx_node *n, const char *name, int *count);
nn_tensor *onnx_tensor(onnx_node *n, const char *name);                      /* NULL if absent */
bool onnx_failed(onnx_node *n);                                              /* something was reported for this node */

/* Reports and returns NN_FAIL. _unsupported says that nncc lacks it (check counts these apart from faults of the model). */
nn_status onnx_fail(onnx_node *n, const char *format, ...) NN_PRINTF(2, 3);
nn_status onnx_unsupported(onnx_node *n, const char *format, ...) NN_PRINTF(2, 3);

bool onnx_wants(onnx_node *n, int i);       /* output i is named */
nn_status onnx_give(onnx_node *n, int i, nn_value *v); /* sets output i; NN_FAIL if v is NULL */
#define ONNX_GIVE(n, v) return onnx_give((n), 0, (v))

/* Checks. */
nn_status onnx_need(onnx_node *n, int nin_min, int nin_max, int nout_max);   /* counts; and that inputs below nin_min are present */
nn_status onnx_axis(onnx_node *n, int64_t axis, int rank, int *out);         /* normalises -rank..rank-1 */
nn_status onnx_axes(onnx_node *n, const int64_t *axes, int count, int rank, int64_t *out); /* normalised, sorted, no duplicates */
nn_status onnx_same_dtype(onnx_node *n, int first, int last);                /* the given inputs agree */
nn_status onnx_need_float(onnx_node *n, int i);

/* Inputs that hold shapes, axes, counts.
   onnx_const_ints: must be known while compiling (constant or computed from constants); fails with the reason.
   onnx_dims: expressions, known or bound while running (hints: from the declared shape of output 0, entry by
   entry, where use_hints says that entry i of the tensor is dimension i of output 0). */
nn_status onnx_const_ints(onnx_node *n, int i, const int64_t **values, int *count);
bool onnx_is_const(onnx_node *n, int i);                                      /* contents known while compiling */
nn_status onnx_const_floats(onnx_node *n, int i, const double **values, int *count); /* any float or int type */
nn_status onnx_dims(onnx_node *n, int i, int64_t min, bool use_hints, const nn_dim **dims, int *count);
/* The declared shape of output i (value_info or graph output): rank or -1; dims entries NULL where unknown. A hint, never trusted. */
int onnx_hint(onnx_node *n, int i, const nn_dim **dims);

/* A dimension that is only known while running, against the declared one (NULL: not declared): where both are
   there, a check is emitted and the declared one is what to go on with. Otherwise found itself. NULL + report. */
nn_dim onnx_settle(onnx_node *n, nn_dim found, nn_dim hint, const char *what);
nn_status onnx_check_open_axis(onnx_node *n, nn_dim axis, int rank);          /* -rank..rank-1, of an axis known only while running */
bool onnx_is_open(onnx_node *n, nn_dim d);                                    /* it mentions a data-dependent symbol */
/* The declared dims of output i, rank entries, NULL where unknown (all, if another rank is declared). */
const nn_dim *onnx_hints(onnx_node *n, int i, int rank);
/* Whether Squeeze without axes drops dimensions that are symbols. Asking says that the model can be read in both
   ways: where declared ranks speak against the first (false), it is imported once more. onnx.c */
bool onnx_drops_symbols(onnx_node *n);
nn_value *onnx_named_const(onnx_node *n, int i, nn_tensor *t);                /* a constant with the name of output i; NULL in, NULL out */

/* Importers share these. */
nn_value *onnx_cast_like(onnx_node *n, nn_value *x, nn_value *like);
nn_value *onnx_to_i64(onnx_node *n, nn_value *x);
/* ONNX auto_pad / pads / strides / dilations / kernel_shape of a conv or pool with nsp spatial dims: fills
   kernel, strides, dilations (nsp) and pads (2*nsp, expressions: SAME of a symbolic size is one). kernel_from: weight dims or NULL. */
/* Padding of one dimension for auto_pad SAME_UPPER (upper) or SAME_LOWER. */
void onnx_same_pads(nn_module *m, nn_dim size, int64_t kernel, int64_t stride, int64_t dilation, bool upper, nn_dim *before, nn_dim *after);
nn_status onnx_window(onnx_node *n, nn_type x, int nsp, const nn_dim *kernel_from, int64_t *kernel, int64_t *strides, int64_t *dilations, nn_dim *pads);

/* Compositions that the operator importers share (onnx_compose.c). NULL in, NULL out. */
enum { ONNX_FLOAT = 1, ONNX_INT = 2, ONNX_BOOL = 4, ONNX_NUMBER = ONNX_FLOAT | ONNX_INT };
nn_status onnx_need_kind(onnx_node *n, int i, unsigned kinds);               /* input i has an element type of one of these kinds */
nn_status onnx_need_rank(onnx_node *n, int i, int min, int max);             /* max -1: no limit */
nn_status onnx_need_size(onnx_node *n, int i, nn_dim count);                 /* input i is a vector of count elements (checked while running where open) */
void onnx_warn(onnx_node *n, const char *format, ...) NN_PRINTF(2, 3);
nn_dtype onnx_compute_dtype(nn_dtype t);                                     /* f32 for narrower floats, else t */
nn_value *onnx_wide(onnx_node *n, nn_value *x);                              /* cast to onnx_compute_dtype */
nn_value *onnx_as_scalar(onnx_node *n, nn_value *x);                         /* one element of any rank -> rank 0 */
nn_value *onnx_as_channel(onnx_node *n, nn_value *x, int rank, int axis);    /* [C] -> [1,..,C at axis,..,1] */
nn_value *onnx_as_matrix(onnx_node *n, nn_value *x, int axis);               /* dims before axis kept, the rest as one */
nn_value *onnx_count(onnx_node *n, nn_type x, const int64_t *axes, int naxes, nn_dtype t); /* elements along axes, rank 0 */
nn_value *onnx_mean(onnx_node *n, nn_value *x, const int64_t *axes, int naxes, bool keepdims);
nn_value *onnx_gelu(onnx_node *n, nn_value *x, bool by_tanh);
nn_value *onnx_square(onnx_node *n, nn_value *x);
nn_value *onnx_scale(onnx_node *n, nn_value *x, double factor);              /* x * factor; x itself for 1 */
nn_value *onnx_clamp(onnx_node *n, nn_value *x, double low, double high);
nn_value *onnx_matmul_trans(onnx_node *n, nn_value *x, nn_value *y, bool trans_x, bool trans_y); /* equal ranks >= 2 */
nn_value *onnx_equals_index(onnx_node *n, nn_value *index, nn_type like, int axis); /* bool: position along axis == index (broadcast) */

/* A convolution's attributes (onnx_conv.c). transposed: w is [C,M/g,..], else [M,C/g,..]. */
typedef struct onnx_conv {
  int nsp;
  int64_t kernel[3], strides[3], dilations[3], groups;
  nn_dim pads[6]; /* before.., after.. */
} onnx_conv;
nn_status onnx_conv_read(onnx_node *n, nn_type x, nn_type w, bool transposed, onnx_conv *c);
nn_value *onnx_conv_make(onnx_node *n, nn_value *x, nn_value *w, const onnx_conv *c);
nn_value *onnx_pad_space(onnx_node *n, nn_value *x, nn_value *fill, const onnx_conv *c); /* op pad by c->pads */
/* A pool op over x with the node's window attributes, not yet inferred (onnx_pool.c). */
nn_status onnx_pool_begin(onnx_node *n, nn_opcode code, nn_value *x, int nsp, nn_op **op);

/* Quantised values (onnx_quant.c): scale and zero broadcast to x and may be NULL: 1 and 0. Both compute in f32. */
nn_value *onnx_dequantize(onnx_node *n, nn_value *x, nn_value *scale, nn_value *zero);
nn_value *onnx_quantize(onnx_node *n, nn_value *x, nn_value *scale, nn_value *zero, nn_dtype to);
nn_value *onnx_cast_saturate(onnx_node *n, nn_value *x, nn_dtype to, bool saturate); /* onnx_cast.c */
nn_status onnx_normalize(onnx_node *n, nn_value *x, int axis, double epsilon, nn_value **results); /* op normalize; onnx_norm.c */

nn_status onnx_attend(onnx_node *n); /* Attention of ONNX itself; onnx_sdpa.c */

/* onnx_ops.def: ONNX_OP(domain, Name) */
#define ONNX_OP(domain, name) onnx_fn onnx_##name;
#include "frontend/onnx_ops.def"
#undef ONNX_OP

/* The import itself (onnx.c). dims, shapes: as in nncc_load_options. The module is never NULL; its diags tell. */
nn_module *nn_onnx_load(const char *path, const char *const *dims, const char *const *shapes, const nn_pass_env *env);
nn_module *nn_onnx_load_memory(const char *name, const void *bytes, size_t size_bytes, const char *const *dims, const char *const *shapes, const nn_pass_env *env);
/* A TensorProto file (input_0.pb): tools use it. NULL + diags. */
nn_tensor *nn_onnx_load_tensor(nn_module *m, const char *path, const char **name);

#endif
