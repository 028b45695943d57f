/* Convolutions on channels in blocks: the ops, and their weights in the order of use. Weights are made by ops on constants,
   which fold evaluates. */
#include "passes/passes.h"

#include <string.h>

static int64_t blocks_of(int64_t n, int64_t block) { return n / block + (n % block != 0); }

nn_value *nn_layout_pad(nn_builder *b, nn_value *v, int axis, int64_t size) {
  nn_module *m = b->graph->module;
  nn_dim before[NN_MAX_RANK], after[NN_MAX_RANK];
  if (!v || nn_dim_is(v->type.dims[axis], size)) return v;
  for (int i = 0; i < v->type.rank; i++) before[i] = after[i] = nn_dim_const(m, 0);
  after[axis] = nn_dim_sub(m, nn_dim_const(m, size), v->type.dims[axis]);
  nn_op *pad = nn_b_begin(b, NN_OP_PAD, (nn_value *[]){v, nn_b_scalar(b, v->type.dtype, 0)}, 2, -1);
  if (pad) {
    nn_set_dims(pad, "before", before, v->type.rank);
    nn_set_dims(pad, "after", after, v->type.rank);
  }
  return nn_b_end(b, pad);
}

nn_value *nn_layout_reshape(nn_builder *b, nn_value *v, int rank, const int64_t *sizes) {
  nn_dim dims[NN_MAX_RANK];
  if (!v) return NULL;
  for (int i = 0; i < rank; i++)
    dims[i] = sizes[i] < 0 ? v->type.dims[NN_SAME(sizes[i])] : nn_dim_const(b->graph->module, sizes[i]);
  return nn_b_reshape(b, v, rank, dims);
}

/* w[K,C,kh,kw] -> [P,C/inner,kh,kw,inner,width] */
static nn_value *panels_of(nn_builder *b, nn_value *w, int64_t inner, int64_t width) {
  const nn_dim *dims = w->type.dims;
  int64_t panels = blocks_of(nn_dim_value(dims[0]), width), blocks = blocks_of(nn_dim_value(dims[1]), inner);
  const int64_t sizes[] = {panels, width, blocks, inner, nn_dim_value(dims[2]), nn_dim_value(dims[3])};
  w = nn_layout_pad(b, nn_layout_pad(b, w, 0, panels * width), 1, blocks * inner);
  w = nn_layout_reshape(b, w, 6, sizes);
  return w ? nn_b_transpose(b, w, (int64_t[]){0, 2, 4, 5, 3, 1}) : NULL;
}

/* Channels that a tap has in a product in pairs: its units must be whole, unless there is one tap. */
static int64_t channels_of_tap(const nn_value *w, int64_t block) {
  int64_t channels = nn_dim_value(w->type.dims[1]);
  bool is_point = nn_dim_is(w->type.dims[2], 1) && nn_dim_is(w->type.dims[3], 1);
  return is_point ? channels : blocks_of(channels, block) * block;
}

/* w[K,C,kh,kw] -> [K/block,kh kw C + 2,block], C of a tap */
static nn_value *paired_weights(nn_builder *b, nn_value *w, int64_t block) {
  int64_t channels = channels_of_tap(w, block), depth = channels * nn_dim_value(w->type.dims[2]) * nn_dim_value(w->type.dims[3]);
  w = nn_layout_pad(b, w, 1, channels);
  if (w && depth != channels) w = nn_b_transpose(b, w, (int64_t[]){0, 2, 3, 1});
  w = nn_layout_reshape(b, w, 2, (int64_t[]){NN_SAME(0), depth});
  nn_op *op = w ? nn_b_begin(b, NN_OP_PAIRED_WEIGHTS, &w, 1, -1) : NULL;
  if (op) nn_set_int(op, "width", block);
  return nn_b_end(b, op);
}

/* w[C,1,kh,kw] -> [C/block,kh,kw,block] */
static nn_value *depthwise_weights(nn_builder *b, nn_value *w, int64_t block) {
  const nn_dim *dims = w->type.dims;
  int64_t blocks = blocks_of(nn_dim_value(dims[0]), block);
  const int64_t sizes[] = {blocks, block, nn_dim_value(dims[2]), nn_dim_value(dims[3])};
  w = nn_layout_reshape(b, nn_layout_pad(b, w, 0, blocks * block), 4, sizes);
  return w ? nn_b_transpose(b, w, (int64_t[]){0, 2, 3, 1}) : NULL;
}

typedef struct made_weights {
  nn_conv_form form;
  int64_t inner, width;
  nn_value *value;
  struct made_weights *next;
} made_weights;

static nn_value *winograd_weights(nn_builder *b, nn_value *w, const made_weights *like) {
  nn_op *op = nn_b_begin(b, NN_OP_WINOGRAD_WEIGHTS, &w, 1, -1);
  if (op) {
    nn_set_int(op, "tile", like->form.tile);
    nn_set_int(op, "width", like->width);
  }
  nn_value *u = nn_b_end(b, op);
  if (!u || !like->form.is_paired) return u;
  int64_t panels = nn_dim_value(u->type.dims[0]), area = nn_dim_value(u->type.dims[1]), channels = nn_dim_value(u->type.dims[2]);
  u = nn_layout_reshape(b, u, 3, (int64_t[]){panels * area, channels, like->width});
  u = u ? nn_b_end(b, nn_b_begin(b, NN_OP_PAIRED_WEIGHTS, &u, 1, -1)) : NULL;
  return u ? nn_layout_reshape(b, u, 4, (int64_t[]){panels, area, NN_SAME(1), like->width}) : NULL;
}

static void copy_window(nn_op *to, nn_op *conv, bool has_strides) {
  static const char *const names[] = {"strides", "dilations"};
  int count;
  const nn_dim *pads = nn_attr_dims(conv, "pads", &count);
  if (count) nn_set_dims(to, "pads", pads, count);
  for (int i = 0; i < 2 && has_strides; i++) {
    const int64_t *values = nn_attr_ints(conv, names[i], &count);
    if (count) nn_set_ints(to, names[i], values, count);
  }
}

static nn_value *make_weights(nn_builder *b, nn_value *w, const made_weights *like) {
  switch (like->form.kind) {
  case NN_FORM_DEPTHWISE: return depthwise_weights(b, w, like->inner);
  case NN_FORM_PAIRED: return paired_weights(b, w, like->width);
  case NN_FORM_WINOGRAD: return winograd_weights(b, w, like);
  default: return panels_of(b, w, like->inner, like->width);
  }
}

/* Convolutions that share weights share those that are made of them. known: of this graph, by the weights. */
static nn_value *weights_for(nn_builder *b, nn_map *known, nn_value *w, made_weights like) {
  made_weights *first = nn_map_get_ptr(known, w);
  for (made_weights *m = first; m; m = m->next)
    if (m->form.kind == like.form.kind && m->form.tile == like.form.tile && m->form.is_paired == like.form.is_paired && m->inner == like.inner && m->width == like.width) return m->value;
  made_weights *made = NN_NEW(b->graph->module->arena, made_weights);
  *made = like;
  made->value = make_weights(b, w, &like);
  made->next = first;
  if (made->value) nn_map_put_ptr(known, w, made);
  return made->value;
}

/* Pixels of all images. */
static nn_dim pixels_of(const nn_op *conv) {
  nn_type y = conv->out[0]->type;
  return nn_type_count(conv->graph->module, nn_type_make(conv->graph->module, NN_I64, 3, (nn_dim[]){y.dims[0], y.dims[2], y.dims[3]}));
}

/* Multiplied with numbers that the network computes of it: no epilogue of what makes it, so it is copied (squeeze and excite). */
static bool is_scaled(const nn_value *x) {
  if (x->kind != NN_RESULT || x->def->code != NN_OP_MUL || nn_value_nuses(x) > 1) return false;
  for (int i = 0; i < 2; i++) {
    const nn_value *v = x->def->in[i];
    if (v->kind == NN_RESULT && v->def->code == NN_OP_BROADCAST && v->def->in[0]->kind == NN_RESULT) return true;
  }
  return false;
}

/* A product: a convolution of one point, of an image in blocks. */
static bool is_product(const nn_op *conv, const nn_value *x) {
  nn_type w = conv->in[1]->type;
  int npads;
  const nn_dim *pads = nn_attr_dims(conv, "pads", &npads);
  for (int i = 0; i < npads; i++)
    if (!nn_dim_is(pads[i], 0)) return false;
  return x->type.rank == 5 && nn_dim_is(w.dims[2], 1) && nn_dim_is(w.dims[3], 1) && nn_attr_int(conv, "groups") == 1;
}

/* On whole blocks: from how many rows on in Strassen's form. */
static int64_t strassen_rows(const nn_op *conv, const nn_value *x, int64_t block) {
  nn_type w = conv->in[1]->type;
  int64_t depth = nn_dim_value(w.dims[1]), width = nn_layout_width(conv, block);
  if (!is_product(conv, x) || depth % block) return 0;
  return nn_strassen_rows(conv, pixels_of(conv), depth, nn_dim_value(w.dims[0]), width, false, is_scaled(x));
}

static nn_value *blocked_conv(nn_builder *b, nn_op *conv, nn_value *x, nn_value *w, int64_t block) {
  int64_t channels = nn_dim_value(conv->in[0]->type.dims[1]);
  nn_op *op = w ? nn_b_begin(b, NN_OP_CONV_BLOCKED, (nn_value *[]){x, w}, 2, -1) : NULL;
  if (!op) return NULL;
  nn_set_int(op, "channels", channels);
  nn_set_int(op, "outputs", nn_dim_value(conv->in[1]->type.dims[0]));
  nn_set_int(op, "block", block);
  nn_set_int(op, "groups", nn_attr_int(conv, "groups"));
  int64_t rows = strassen_rows(conv, x, block);
  if (rows) nn_set_int(op, "strassen", rows);
  copy_window(op, conv, true);
  return nn_b_end(b, op);
}

static nn_value *paired_conv(nn_builder *b, nn_op *conv, nn_value *x, nn_value *w) {
  nn_op *op = w ? nn_b_begin(b, NN_OP_CONV_PAIRED, (nn_value *[]){x, w}, 2, -1) : NULL;
  if (!op) return NULL;
  const nn_dim *dims = conv->in[1]->type.dims;
  const int64_t kernel[2] = {nn_dim_value(dims[2]), nn_dim_value(dims[3])};
  nn_set_int(op, "channels", nn_dim_value(dims[1]));
  nn_set_int(op, "outputs", nn_dim_value(dims[0]));
  if (kernel[0] > 1 || kernel[1] > 1) nn_set_ints(op, "kernel", kernel, 2);
  copy_window(op, conv, true);
  return nn_b_end(b, op);
}

static nn_value *depthwise_conv(nn_builder *b, nn_op *conv, nn_value *x, nn_value *w) {
  nn_op *op = w ? nn_b_begin(b, NN_OP_CONV_DEPTHWISE, (nn_value *[]){x, w}, 2, -1) : NULL;
  if (op) copy_window(op, conv, true);
  return op ? nn_b_end(b, op) : NULL;
}

static nn_value *winograd_conv(nn_builder *b, nn_op *conv, nn_value *x, nn_value *u, nn_value *few, nn_conv_form form) {
  bool is_whole = u && (few || !form.many);
  nn_op *op = is_whole ? nn_b_begin(b, NN_OP_CONV_WINOGRAD, (nn_value *[]){x, u, few}, few ? 3 : 2, -1) : NULL;
  if (!op) return NULL;
  nn_set_int(op, "tile", form.tile);
  if (form.is_paired) nn_set_int(op, "paired", 1);
  if (few) nn_set_int(op, "many", form.many);
  nn_set_int(op, "outputs", nn_dim_value(conv->in[1]->type.dims[0]));
  copy_window(op, conv, false);
  return nn_b_end(b, op);
}

bool nn_layout_is_paired(const nn_op *conv, nn_conv_form form, int64_t block) {
  const nn_value *w = conv->in[1];
  int64_t taps = nn_dim_value(w->type.dims[2]) * nn_dim_value(w->type.dims[3]), channels = nn_dim_value(w->type.dims[1]);
  if (form.kind != NN_FORM_BLOCKED || nn_attr_int(conv, "groups") != 1 || channels < block) return false;
  return nn_paired_pays(conv, pixels_of(conv), channels * taps, channels_of_tap(w, block) * taps, nn_dim_value(w->type.dims[0]), block);
}

/* Rows are tiles, in each position. */
static bool winograd_is_paired(const nn_op *conv, int64_t block) {
  const nn_dim *w = conv->in[1]->type.dims;
  int64_t channels = nn_dim_value(w[1]);
  return nn_paired_pays(conv, pixels_of(conv), channels, channels, nn_dim_value(w[0]), block);
}

nn_value *nn_layout_conv(nn_builder *b, nn_map *weights, nn_op *conv, nn_value *x, nn_conv_form form, int64_t block) {
  bool pairs = x->type.rank == 5 && nn_layout_is_paired(conv, form, block);
  if (pairs) form.kind = NN_FORM_PAIRED;
  if (form.kind == NN_FORM_WINOGRAD) pairs = form.is_paired = winograd_is_paired(conv, block);
  made_weights like = {form, x->type.rank == 4 ? nn_dim_value(x->type.dims[1]) : block, pairs ? block : nn_layout_width(conv, block), NULL, NULL};
  nn_value *w = weights_for(b, weights, conv->in[1], like), *few = NULL;
  like.form.tile = form.few;
  if (form.many) few = weights_for(b, weights, conv->in[1], like);
  switch (form.kind) {
  case NN_FORM_PAIRED: return paired_conv(b, conv, x, w);
  case NN_FORM_DEPTHWISE: return depthwise_conv(b, conv, x, w);
  case NN_FORM_WINOGRAD: return winograd_conv(b, conv, x, w, few, form);
  default: return blocked_conv(b, conv, x, w, block);
  }
}

/* A convolution of one pixel: x[N,C,1,1] -> [N,K,1,1]. */
nn_value *nn_layout_matmul(nn_builder *b, nn_op *conv, nn_value *x) {
  nn_type w = conv->in[1]->type;
  int64_t channels = nn_dim_value(w.dims[1]), outputs = nn_dim_value(w.dims[0]);
  x = nn_layout_reshape(b, x, 2, (int64_t[]){NN_SAME(0), channels});
  nn_value *matrix = nn_layout_reshape(b, conv->in[1], 2, (int64_t[]){outputs, channels});
  if (matrix) matrix = nn_b_transpose(b, matrix, (int64_t[]){1, 0});
  nn_value *y = x && matrix ? nn_b_matmul(b, x, matrix) : NULL;
  return nn_layout_reshape(b, y, 4, (int64_t[]){NN_SAME(0), outputs, 1, 1});
}
