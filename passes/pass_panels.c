/* needs: env.evaluate, weights folded to constants. gives: products with constant weights read them in
   panels as wide as the register tiles of codegen/gemm.c, in the order of use: nothing is packed at run time, and the
   weights stream from memory. Large products, also of two values, may take Strassen's algorithm. breaks: nothing; run
   fold after it, which makes the panels.

     %0 = matmul %x, $w      ->   %0 = reshape $w {dims=[K, N/W, W]}       W columns; $w is padded to whole panels
                                  %1 = transpose %0 {perm=[1, 0, 2]}
                                  %2 = matmul_panels %x, %1 {columns=N}
     transposed weights are      %0 = reshape $w {dims=[N/W, W, K]}
                                  %1 = transpose %0 {perm=[0, 2, 1]}
     in pairs                    %2 = paired_weights %1               W: a vector
                                 %3 = matmul_paired %x, %2 {columns=N}
     %2 = matmul %x, %y      ->   %2 = matmul %x, %y {strassen=ROWS}
*/
#include "passes/passes.h"

enum {
  FEWEST_VECTOR_BYTES = 16,
  FEWEST_ROWS = 20, /* in pairs, of rows whose number is known while running: measured, 17 would be 4 % slower */
  MOST_PADDING = 8 /* at most an eighth of the columns: fold evaluates that */
};

/* Of the product. */
static nn_dim rows_of(const nn_op *op) {
  nn_module *m = op->graph->module;
  nn_type x = op->in[0]->type;
  return nn_type_count(m, nn_type_make(m, NN_I64, x.rank - 1, x.dims));
}

static bool is_matrix(nn_type y) {
  for (int i = 0; i < y.rank - 2; i++)
    if (!nn_dim_is(y.dims[i], 1)) return false;
  return true;
}

/* Weights that others read as they are would be there twice. */
static bool is_candidate(const nn_op *op) {
  if (op->code != NN_OP_MATMUL || nn_attr_int(op, "trans_a") || op->out[0]->type.dtype != NN_F32) return false;
  const nn_value *y = op->in[1];
  int64_t depth, rows;
  if (y->kind != NN_CONST || y->uses->next || !is_matrix(y->type)) return false;
  if (!nn_dim_is_const(op->in[0]->type.dims[op->in[0]->type.rank - 1], &depth) || depth < 1) return false;
  return !nn_dim_is_const(rows_of(op), &rows) || rows > 0;
}

/* The panels' width; 0: they do not suit the number of columns. */
static int64_t width_for(const nn_op *op) {
  nn_pass_env *env = &op->graph->module->env;
  nn_dim last = op->out[0]->type.dims[op->out[0]->type.rank - 1];
  int64_t columns;
  if (!nn_dim_is_const(last, &columns) || columns < 1) return 0;
  int64_t width = env->panel_width(env->self, rows_of(op), last);
  return columns >= width && (width - columns % width) % width <= columns / MOST_PADDING ? width : 0;
}

/* Of a matrix, along `axis`. */
static nn_value *pad_end(nn_builder *b, nn_value *y, int axis, int64_t count) {
  nn_module *m = b->graph->module;
  if (count == 0) return y;
  nn_value *in[] = {y, nn_b_scalar(b, NN_F32, 0)};
  nn_op *pad = nn_b_begin(b, NN_OP_PAD, in, 2, -1);
  nn_dim zero = nn_dim_const(m, 0), more = nn_dim_const(m, count);
  if (pad) {
    nn_set_dims(pad, "before", (nn_dim[]){zero, zero}, 2);
    nn_set_dims(pad, "after", axis == 0 ? (nn_dim[]){more, zero} : (nn_dim[]){zero, more}, 2);
  }
  return nn_b_end(b, pad);
}

/* One transpose in both cases, which fold takes in slices. */
static nn_value *panels_of(nn_builder *b, const nn_op *op, int64_t columns, int64_t width) {
  nn_module *m = b->graph->module;
  nn_value *y = op->in[1];
  int last = y->type.rank - 1;
  bool is_transposed = nn_attr_int(op, "trans_b") != 0;
  int64_t padding = (width - columns % width) % width;
  nn_dim depth = y->type.dims[is_transposed ? last : last - 1];
  nn_dim panels = nn_dim_const(m, (columns + padding) / width), wide = nn_dim_const(m, width);
  y = nn_b_reshape(b, y, 2, y->type.dims + last - 1);
  if (y) y = pad_end(b, y, is_transposed ? 0 : 1, padding);
  if (y) y = nn_b_reshape(b, y, 3, is_transposed ? (nn_dim[]){panels, wide, depth} : (nn_dim[]){depth, panels, wide});
  return y ? nn_b_transpose(b, y, is_transposed ? (int64_t[]){0, 2, 1} : (int64_t[]){1, 0, 2}) : NULL;
}

/* In pairs: panels of one vector; or such as few rows want, which may come. */
static nn_value *in_pairs(nn_builder *b, nn_op *op, int64_t columns, int64_t width) {
  int64_t fewest, most, vector = op->graph->module->env.vector_bytes / (int64_t)sizeof(float);
  nn_dim_range(rows_of(op), &fewest, &most);
  bool may_be_few = fewest < FEWEST_ROWS && fewest < most;
  if (!may_be_few) width = vector;
  nn_value *panels = panels_of(b, op, columns, width);
  nn_value *w = panels ? nn_b_end(b, nn_b_begin(b, NN_OP_PAIRED_WEIGHTS, &panels, 1, -1)) : NULL;
  nn_op *product = w ? nn_b_begin(b, NN_OP_MATMUL_PAIRED, (nn_value *[]){op->in[0], w}, 2, -1) : NULL;
  if (product) nn_set_int(product, "columns", columns);
  if (product && may_be_few) nn_set_int(product, "least", FEWEST_ROWS);
  return product ? nn_b_end(b, product) : NULL;
}

static nn_value *in_panels(nn_op *op, int64_t width) {
  nn_builder b = {op->graph, op, op->loc, op->loc_op, false};
  int64_t columns = nn_dim_value(op->out[0]->type.dims[op->out[0]->type.rank - 1]), vector = op->graph->module->env.vector_bytes / (int64_t)sizeof(float);
  int64_t depth = nn_dim_value(op->in[0]->type.dims[op->in[0]->type.rank - 1]);
  if (nn_paired_pays(op, rows_of(op), depth, depth, columns, vector)) return in_pairs(&b, op, columns, width);
  nn_value *panels = panels_of(&b, op, columns, width);
  if (!panels) return NULL;
  nn_op *product = nn_b_begin(&b, NN_OP_MATMUL_PANELS, (nn_value *[]){op->in[0], panels}, 2, -1);
  if (product) nn_set_int(product, "columns", columns);
  nn_type x = op->in[0]->type;
  int64_t rows = nn_strassen_rows(op, rows_of(op), nn_dim_value(x.dims[x.rank - 1]), columns, width, false, false);
  if (product && rows) nn_set_int(product, "strassen", rows);
  return nn_b_end(&b, product);
}

/* Both operands come while running. */
static bool set_strassen(nn_op *op) {
  if (op->code != NN_OP_MATMUL || op->out[0]->type.dtype != NN_F32 || nn_attr_int(op, "strassen")) return false;
  nn_module *m = op->graph->module;
  nn_type x = op->in[0]->type, r = op->out[0]->type;
  int last = r.rank - 1;
  bool trans_a = nn_attr_int(op, "trans_a") != 0;
  int64_t depth, columns;
  if (!nn_dim_is_const(x.dims[trans_a ? last - 1 : last], &depth) || !nn_dim_is_const(r.dims[last], &columns)) return false;
  nn_dim rows = is_matrix(op->in[1]->type) && !trans_a ? rows_of(op) : r.dims[last - 1];
  int64_t width = m->env.panel_width(m->env.self, rows, r.dims[last]), least = nn_strassen_rows(op, rows, depth, columns, width, true, false);
  if (least) nn_set_int(op, "strassen", least);
  return least != 0;
}

nn_status pass_panels(nn_module *m, bool *changed) {
  if (!m->env.evaluate || !m->env.panel_width || m->env.vector_bytes < FEWEST_VECTOR_BYTES) return NN_OK;
  for (nn_graph *g = m->graphs; g; g = g->next)
    for (nn_op *op = g->first, *next; op; op = next) {
      next = op->next;
      int64_t width = is_candidate(op) ? width_for(op) : 0;
      nn_value *v = width ? in_panels(op, width) : NULL;
      if (!v) {
        *changed |= set_strassen(op);
        continue;
      }
      nn_value_replace(op->out[0], v);
      nn_op_remove(op);
      *changed = true;
    }
  return m->diags.nerrors ? NN_FAIL : NN_OK;
}
