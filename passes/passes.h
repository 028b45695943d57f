/* Graph-to-graph rewrites. Each is a function nn_status pass_NAME(nn_module *m, bool *changed) in
   pass_NAME.c: linear in the graph, prints nothing, reports into m->diags, sets *changed. The manager
   (pass.c) verifies, prints and times; the orders and the reasons for them are in pipeline.c. */
#ifndef NN_PASSES_H
#define NN_PASSES_H
#include "ir/ir.h"

typedef nn_status nn_pass_fn(nn_module *m, bool *changed);
#define PASS(name, summary) nn_pass_fn pass_##name;
#include "passes/passes.def"
#undef PASS

typedef struct nn_pass_info { const char *name; const char *summary; nn_pass_fn *run; } nn_pass_info;
extern const nn_pass_info nn_passes[];
extern const int nn_npasses;
const nn_pass_info *nn_pass_find(const char *name);

typedef struct nn_pass_options {
  const char *print_after; /* pass name or "all" (only what changed), or NULL */
  FILE *print_to;
  bool time_passes;        /* table on print_to at the end */
  bool no_winograd;        /* products by their definition */
  bool verify_each;        /* verify, and print -> parse -> print, after each pass */
  int threads;             /* that evaluate constants; 0: one for each processor */
} nn_pass_options;

nn_status nn_passes_run(nn_module *m, const char *const *names, int count, const nn_pass_options *options);
/* Drops constants without uses and frees their memory (pass_dce.c). */
void nn_consts_sweep(nn_module *m, bool *changed);
/* layout_form.c, layout_conv.c: how pass_layout rewrites a convolution. */
typedef enum nn_conv_form_kind { NN_FORM_PLANAR, NN_FORM_BLOCKED, NN_FORM_PAIRED, NN_FORM_WINOGRAD, NN_FORM_DEPTHWISE, NN_FORM_MATMUL } nn_conv_form_kind;
typedef struct nn_conv_form {
  nn_conv_form_kind kind;
  int64_t tile; /* of Winograd's form */
  bool is_paired; /* its products are made in pairs */
  int64_t few, many; /* if not 0: fewer than `many` images take tiles of `few` */
} nn_conv_form;
nn_conv_form nn_layout_form(const nn_op *op, int64_t block, bool is_blocked, double weight_flops); /* is_blocked: its operand is */
double nn_layout_weight_flops(const nn_module *m);              /* what a byte of weights costs to read */
int64_t nn_layout_width(const nn_op *conv, int64_t block);      /* of its panels */
nn_value *nn_layout_conv(nn_builder *b, nn_map *weights, nn_op *conv, nn_value *x, nn_conv_form form, int64_t block); /* x: blocked, or planar; weights: made so far in this graph */
bool nn_layout_is_paired(const nn_op *conv, nn_conv_form form, int64_t block); /* of an x in blocks */
nn_value *nn_layout_matmul(nn_builder *b, nn_op *conv, nn_value *x); /* x[N,C,1,1] planar; so is the result */
nn_value *nn_layout_pad(nn_builder *b, nn_value *v, int axis, int64_t size); /* zeros at the end of axis */
#define NN_SAME(i) (-1 - (i))
nn_value *nn_layout_reshape(nn_builder *b, nn_value *v, int rank, const int64_t *sizes); /* NN_SAME(i): v's dimension i */
/* strassen.c: from how many rows on the product of op takes Strassen's form; 0: it does not. width: of its panels; packs: B is packed while running;
   copied: the plain form would copy A. */
int64_t nn_strassen_rows(const nn_op *op, nn_dim rows, int64_t depth, int64_t columns, int64_t width, bool packs, bool copied);
/* paired.c: whether the product of op, by constant weights, is made in pairs. width: of its panels */
bool nn_paired_pays(const nn_op *op, nn_dim rows, int64_t depth, int64_t padded, int64_t columns, int64_t width); /* padded: the depth, in pairs */
/* Pairs of panels that do: about half of the panels. */
int64_t nn_strassen_pairs(int64_t columns, int64_t width);
/* From how many rows on (a chunk's) its tasks have rows of one half, the first half's before the second's. */
int64_t nn_strassen_half_rows(int64_t depth, int64_t columns, bool packs);
bool nn_is_unit_reshape(const nn_op *op); /* only adds or drops dimensions of 1: pass_sink.c */
bool nn_splat_of(const nn_value *v, double *value); /* v is this number everywhere, a constant: splat.c */
nn_status nn_pipeline_infer(nn_module *m, const nn_pass_options *options); /* the order for inference */
#endif
