/* needs: env.evaluate, weights folded to constants. gives: convolutions, and what lies between them, on channels in blocks of one vector:
   x[N,C,H,W] as [N,ceil(C/B),H,W,B]. The layout is a shape like any other, so that every pass after this one and every lowering works on
   it; where an op has no such form, its operands are turned back. Each convolution is in the form that is estimated to be
   the fastest (layout_form.c). Images, height and width may be symbols. breaks: passes that look for conv; run fold after it, which makes the weights.

     %0 = conv %x, $w                    ->   %0 = ..$w padded, reshaped, transposed..
     %1 = relu %0 : f32[1,64,9,9]             %1 = conv_blocked %x, %0 {channels=3, outputs=64, block=8} : f32[1,8,9,9,8]
     %2 = conv %1, $v {pads=[1,1,1,1]}        %2 = relu %1
                                              %3 = winograd_weights $v {tile=4, width=16}
                                              %4 = conv_winograd %2, %3 {tile=4, outputs=64, pads=[1,1,1,1]} : f32[1,8,9,9,8]

   Lanes of the last block beyond C hold anything: no form lets them flow into others, and turning back drops them. */
#include "passes/passes.h"

#include <string.h>

enum { FEWEST_VECTOR_BYTES = 16 };

typedef struct layout {
  nn_builder b;
  nn_map *blocked, *planar;   /* value of the graph -> the same in blocks; that turned back */
  nn_map *weights;            /* layout_conv.c */
  int64_t block;
  double weight_flops;
  bool *changed;
} layout;

static int64_t channels_of(const nn_value *v) { return nn_dim_value(v->type.dims[1]); }

static int64_t blocks_of(int64_t channels, int64_t block) { return channels / block + (channels % block != 0); }

static bool is_image(const nn_value *v) {
  return v->type.rank == 4 && nn_dim_is_const(v->type.dims[1], NULL);
}

static bool is_pixel(const nn_value *v) { return nn_dim_is(v->type.dims[2], 1) && nn_dim_is(v->type.dims[3], 1); }

/* ---- there and back ------------------------------------------------------------------------------------------ */

/* v[n,C,h,w] -> [n,C/B,h,w,B]; of one channel, which all lanes share: [n,1,h,w,1] */
static nn_value *make_blocked(layout *s, nn_value *v) {
  nn_builder *b = &s->b;
  int64_t channels = channels_of(v), blocks = blocks_of(channels, s->block);
  if (channels == 1) return nn_layout_reshape(b, v, 5, (int64_t[]){NN_SAME(0), 1, NN_SAME(2), NN_SAME(3), 1});
  nn_value *padded = nn_layout_pad(b, v, 1, blocks * s->block);
  if (is_pixel(v)) return nn_layout_reshape(b, padded, 5, (int64_t[]){NN_SAME(0), blocks, 1, 1, s->block});
  padded = nn_layout_reshape(b, padded, 5, (int64_t[]){NN_SAME(0), blocks, s->block, NN_SAME(2), NN_SAME(3)});
  return padded ? nn_b_transpose(b, padded, (int64_t[]){0, 1, 3, 4, 2}) : NULL;
}

/* blocked[n,C/B,h,w,B] -> [n,channels,h,w] */
static nn_value *make_planar(layout *s, nn_value *v, int64_t channels) {
  nn_builder *b = &s->b;
  nn_module *m = b->graph->module;
  int64_t blocks = channels_of(v);
  if (!is_pixel(v)) v = nn_b_transpose(b, v, (int64_t[]){0, 1, 4, 2, 3});
  int h = is_pixel(v) ? 2 : 3;
  v = nn_layout_reshape(b, v, 4, (int64_t[]){NN_SAME(0), blocks * s->block, NN_SAME(h), NN_SAME(h + 1)});
  if (!v || blocks * s->block == channels) return v;
  return nn_b_slice(b, v, 1, nn_dim_const(m, 0), nn_dim_const(m, channels), nn_dim_const(m, 1));
}

static nn_value *blocked_of(const layout *s, const nn_value *v) { return nn_map_get_ptr(s->blocked, v); }

/* An operand as it was; of values that are in blocks now, turned back once, where they are made. */
static nn_value *planar_of(layout *s, nn_value *v) {
  nn_value *blocked = blocked_of(s, v), *known = nn_map_get_ptr(s->planar, v);
  if (!blocked || known) return known ? known : v;
  nn_builder here = s->b;
  if (blocked->kind == NN_RESULT) s->b.before = blocked->def->next;
  known = make_planar(s, blocked, channels_of(v));
  s->b = here;
  if (known) nn_map_put_ptr(s->planar, v, known);
  return known;
}

static void set_blocked(layout *s, nn_value *v, nn_value *blocked) {
  nn_map_put_ptr(s->blocked, v, blocked);
  *s->changed = true;
}

/* ---- ops between convolutions --------------------------------------------------------------------------------- */

/* A broadcast to an image, in blocks: of what it repeats. */
static nn_value *broadcast_in_blocks(layout *s, nn_op *op) {
  nn_module *m = s->b.graph->module;
  nn_value *from = op->in[0], *image = op->out[0];
  nn_dim dims[5] = {image->type.dims[0], nn_dim_const(m, blocks_of(channels_of(image), s->block)), image->type.dims[2],
                    image->type.dims[3], nn_dim_const(m, s->block)};
  nn_dim sizes[4];
  int missing = 4 - from->type.rank;
  for (int i = 0; i < 4; i++) sizes[i] = i < missing ? nn_dim_const(m, 1) : from->type.dims[i - missing];
  nn_value *blocked = blocked_of(s, from);
  if (!blocked) {
    nn_value *u = from->type.rank == 0 ? from : nn_b_reshape(&s->b, planar_of(s, from), 4, sizes);
    blocked = !u || from->type.rank == 0 ? u : is_image(u) ? make_blocked(s, u) : NULL;
  }
  return blocked ? nn_b_broadcast(&s->b, blocked, 5, dims) : NULL;
}

static nn_value *operand_in_blocks(layout *s, nn_value *v) {
  nn_value *blocked = blocked_of(s, v);
  if (blocked) return blocked;
  if (v->kind == NN_RESULT && v->def->code == NN_OP_BROADCAST) return broadcast_in_blocks(s, v->def);
  return make_blocked(s, v);
}

/* The number of channels is known. */
static bool may_broadcast(const nn_op *op) {
  nn_type from = op->in[0]->type;
  return from.rank < 3 || nn_dim_is_const(from.dims[from.rank - 3], NULL);
}

/* Pointwise, over an image in blocks. */
static bool is_pointwise_in_blocks(const layout *s, const nn_op *op) {
  bool is_any = false;
  if (!(nn_op_infos[op->code].flags & NN_POINTWISE) || op->nout != 1 || !is_image(op->out[0])) return false;
  for (int i = 0; i < op->nin; i++) {
    const nn_value *v = op->in[i];
    if (blocked_of(s, v)) is_any = true;
    else if (channels_of(v) == 1) return false;
    else if (v->kind == NN_RESULT && v->def->code == NN_OP_BROADCAST && !may_broadcast(v->def)) return false;
  }
  return is_any;
}

/* The op on other operands. */
static nn_op *begin_copy(layout *s, nn_op *op, nn_value *const *in) {
  for (int i = 0; i < op->nin; i++)
    if (!in[i]) return NULL;
  nn_op *copy = nn_b_begin(&s->b, op->code, in, op->nin, op->nout);
  if (copy) memcpy(copy->attrs, op->attrs, (size_t)nn_op_infos[op->code].nattrs * sizeof *op->attrs);
  return copy;
}

static nn_value *pointwise_in_blocks(layout *s, nn_op *op) {
  nn_value **in = NN_NEW_ARRAY(s->b.graph->module->arena, nn_value *, op->nin);
  for (int i = 0; i < op->nin; i++) in[i] = operand_in_blocks(s, op->in[i]);
  return nn_b_end(&s->b, begin_copy(s, op, in));
}

/* A pool over an image is one over a volume of which the lanes are the last axis. */
static void add_axis(nn_op *copy, const nn_op *pool, const char *name, int64_t last) {
  int count;
  const int64_t *values = nn_attr_ints(pool, name, &count);
  if (count == 2) nn_set_ints(copy, name, (int64_t[]){values[0], values[1], last}, 3);
}

static nn_value *pool_in_blocks(layout *s, nn_op *op) {
  nn_value *x = blocked_of(s, op->in[0]);
  nn_op *copy = begin_copy(s, op, &x);
  int count;
  const nn_dim *pads = nn_attr_dims(op, "pads", &count);
  if (!copy) return NULL;
  add_axis(copy, op, "kernel", 1);
  add_axis(copy, op, "strides", 1);
  add_axis(copy, op, "dilations", 1);
  nn_dim zero = nn_dim_const(s->b.graph->module, 0);
  if (count == 4) nn_set_dims(copy, "pads", (const nn_dim[]){pads[0], pads[1], zero, pads[2], pads[3], zero}, 6);
  return nn_b_end(&s->b, copy);
}

static bool is_pool_in_blocks(const layout *s, const nn_op *op) {
  if (op->code == NN_OP_MAX_POOL && nn_value_nuses(op->out[1])) return false;
  return (op->code == NN_OP_MAX_POOL || op->code == NN_OP_AVG_POOL) && blocked_of(s, op->in[0]) && is_image(op->out[0]);
}

/* A reduction over the pixels. */
static bool is_reduction_in_blocks(const layout *s, const nn_op *op) {
  if (op->code != NN_OP_REDUCE_SUM && op->code != NN_OP_REDUCE_PROD && op->code != NN_OP_REDUCE_MAX && op->code != NN_OP_REDUCE_MIN) return false;
  int count;
  const int64_t *axes = nn_attr_ints(op, "axes", &count);
  return blocked_of(s, op->in[0]) && count == 2 && axes[0] == 2 && axes[1] == 3;
}

static nn_value *reduction_in_blocks(layout *s, nn_op *op) {
  nn_value *x = blocked_of(s, op->in[0]);
  nn_op *copy = begin_copy(s, op, &x);
  if (copy) nn_set_int(copy, "keepdims", 1);
  nn_value *y = nn_b_end(&s->b, copy);
  if (!y || nn_attr_int(op, "keepdims")) return y;
  int64_t channels = channels_of(op->in[0]);
  nn_value *planar = make_planar(s, y, channels);
  planar = nn_layout_reshape(&s->b, planar, 2, (int64_t[]){NN_SAME(0), channels});
  if (planar) nn_value_replace(op->out[0], planar);
  return NULL;
}

/* Channels one behind the other, all in whole blocks. */
static bool is_concat_in_blocks(const layout *s, const nn_op *op) {
  if (op->code != NN_OP_CONCAT || op->out[0]->type.rank != 4 || nn_attr_int(op, "axis") != 1) return false;
  for (int i = 0; i < op->nin; i++)
    if (!blocked_of(s, op->in[i]) || channels_of(op->in[i]) % s->block) return false;
  return true;
}

static nn_value *concat_in_blocks(layout *s, nn_op *op) {
  nn_value **in = NN_NEW_ARRAY(s->b.graph->module->arena, nn_value *, op->nin);
  for (int i = 0; i < op->nin; i++) in[i] = blocked_of(s, op->in[i]);
  return nn_b_end(&s->b, begin_copy(s, op, in));
}

/* ---- lines -------------------------------------------------------------------------------------------------------- */

static nn_value *with_row(nn_builder *b, nn_value *v) {
  const nn_dim *d = v->type.dims;
  return nn_b_reshape(b, v, 4, (nn_dim[]){d[0], d[1], nn_dim_const(b->graph->module, 1), d[2]});
}

static void add_row(nn_op *copy, const nn_op *conv, const char *name) {
  int count;
  const int64_t *values = nn_attr_ints(conv, name, &count);
  if (count == 1) nn_set_ints(copy, name, (int64_t[]){1, values[0]}, 2);
}

/* A convolution along a line is one of an image of one row. */
static nn_value *conv_of_row(nn_op *conv) {
  nn_builder b = {conv->graph, conv, conv->loc, conv->loc_op, false};
  nn_value *x = with_row(&b, conv->in[0]), *w = x ? with_row(&b, conv->in[1]) : NULL;
  nn_op *op = w ? nn_b_begin(&b, NN_OP_CONV, (nn_value *[]){x, w}, 2, -1) : NULL;
  if (!op) return NULL;
  int count;
  const nn_dim *pads = nn_attr_dims(conv, "pads", &count);
  nn_dim zero = nn_dim_const(conv->graph->module, 0);
  if (count == 2) nn_set_dims(op, "pads", (const nn_dim[]){zero, pads[0], zero, pads[1]}, 4);
  add_row(op, conv, "strides");
  add_row(op, conv, "dilations");
  nn_set_int(op, "groups", nn_attr_int(conv, "groups"));
  nn_value *y = nn_b_end(&b, op);
  return y ? nn_b_reshape(&b, y, 3, conv->out[0]->type.dims) : NULL;
}

static void make_rows(nn_graph *g, bool *changed) {
  for (nn_op *op = g->first, *next; op; op = next) {
    next = op->next;
    if (op->code != NN_OP_CONV || op->in[0]->type.rank != 3 || op->in[1]->kind != NN_CONST) continue;
    nn_value *v = conv_of_row(op);
    if (!v) continue;
    nn_value_replace(op->out[0], v);
    nn_op_remove(op);
    *changed = true;
  }
}

/* ---- the walk --------------------------------------------------------------------------------------------------- */

static nn_value *conv_in_blocks(layout *s, nn_op *op, nn_conv_form form) {
  nn_value *x = blocked_of(s, op->in[0]);
  if (!x) x = form.kind == NN_FORM_WINOGRAD || nn_layout_is_paired(op, form, s->block) ? make_blocked(s, op->in[0]) : op->in[0];
  if (!x) return NULL;
  if (form.kind != NN_FORM_MATMUL) return nn_layout_conv(&s->b, s->weights, op, x, form, s->block);
  nn_value *y = nn_layout_matmul(&s->b, op, planar_of(s, op->in[0]));
  if (!y) return NULL;
  if (channels_of(y) % s->block == 0) return make_blocked(s, y);
  nn_value_replace(op->out[0], y);
  *s->changed = true;
  return NULL;
}

/* The op's result in blocks; NULL: it stays as it is. */
static nn_value *in_blocks(layout *s, nn_op *op) {
  if (op->code == NN_OP_CONV) {
    nn_conv_form form = nn_layout_form(op, s->block, blocked_of(s, op->in[0]) != NULL, s->weight_flops);
    return form.kind == NN_FORM_PLANAR ? NULL : conv_in_blocks(s, op, form);
  }
  if (is_pointwise_in_blocks(s, op)) return pointwise_in_blocks(s, op);
  if (is_pool_in_blocks(s, op)) return pool_in_blocks(s, op);
  if (is_reduction_in_blocks(s, op)) return reduction_in_blocks(s, op);
  if (is_concat_in_blocks(s, op)) return concat_in_blocks(s, op);
  return NULL;
}

static void visit(layout *s, nn_op *op) {
  s->b.before = op;
  s->b.loc = op->loc;
  s->b.loc_op = op->loc_op;
  nn_value *blocked = in_blocks(s, op);
  if (blocked) {
    blocked->name = op->out[0]->name; /* moves: names are unique, and the op may have users yet */
    op->out[0]->name = NULL;
    set_blocked(s, op->out[0], blocked);
    return;
  }
  bool is_used = nn_op_infos[op->code].flags & NN_EFFECT;
  for (int i = 0; i < op->nout; i++) is_used |= op->out[i]->uses != NULL;
  for (int i = 0; i < op->nin && is_used && op->code != NN_OP_BROADCAST; i++)
    if (op->in[i] && blocked_of(s, op->in[i])) nn_op_set_input(op, i, planar_of(s, op->in[i]));
}

static void visit_graph(nn_graph *g, layout s) {
  s.b.graph = g;
  s.blocked = nn_map_new(g->module->arena);
  s.planar = nn_map_new(g->module->arena);
  s.weights = nn_map_new(g->module->arena);
  for (nn_op *op = g->first; op; op = op->next) visit(&s, op);
  /* broadcasts last: those of images in blocks have no users any more */
  for (nn_op *op = g->last, *prev; op; op = prev) {
    prev = op->prev;
    if (op->code != NN_OP_BROADCAST || !blocked_of(&s, op->in[0])) continue;
    s.b.before = op;
    s.b.loc = op->loc;
    s.b.loc_op = op->loc_op;
    nn_op_set_input(op, 0, planar_of(&s, op->in[0]));
  }
}

nn_status pass_layout(nn_module *m, bool *changed) {
  if (!m->env.evaluate || m->env.vector_bytes < FEWEST_VECTOR_BYTES) return NN_OK;
  layout s = {.block = m->env.vector_bytes / 4, .weight_flops = nn_layout_weight_flops(m), .changed = changed};
  for (nn_graph *g = m->graphs; g; g = g->next) {
    make_rows(g, changed);
    visit_graph(g, s);
  }
  return m->diags.nerrors ? NN_FAIL : NN_OK;
}
