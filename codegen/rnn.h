/* Recurrent cells: what lower_rnn.c (states and steps), rnn_cell.c (the formulas), rnn_product.c (the product with
   the recurrent weights) and rnn_ahead.c (that of the input) share. */
#ifndef NN_CODEGEN_RNN_H
#define NN_CODEGEN_RNN_H

#include "codegen/codegen.h"

/* The input's projection, where the layer has it. A column is a vector of units of one gate; a panel has some. While a
   block of steps runs, the next block is projected: each step does `part` values of k of one column, for all steps of
   that block. */
typedef struct nn_rnn_ahead {
  nn_value *w, *bias;   /* w: NULL, xw is given; bias: may be NULL */
  int64_t depth, lanes; /* of a column */
  int64_t columns;      /* of a panel */
  int64_t rows;         /* steps of a block, a multiple of columns */
  int64_t lead;         /* of the first one: what the others leave */
  int64_t parts, part;  /* steps that share a column, values of k of one of them */
  int64_t tile_rows;    /* less than rows: too few registers, the tiles run by themselves */
  nn_buf *x;            /* of the block that is projected: [rows][pitch]; NULL: read as it is */
  int64_t pitch;
  nn_buf *inputs; /* of two blocks: [2][panels][rows][columns * lanes] */
} nn_rnn_ahead;

/* One direction of one layer while it is lowered. */
typedef struct nn_rnn {
  nn_op *op;
  nn_value *xw, *r, *lengths, *peephole, *bias; /* the last three: NULL if not given; xw: x, if it is to be projected */
  nn_rnn_ahead ahead;
  nn_value *y, *last[2]; /* NULL if not used */
  nn_dtype acc;
  nn_dim time, batch, hidden;
  int ngates;
  bool is_reversed, input_forget, linear_before_reset;
  nn_buf *state[2]; /* h, c: [B][pitch] of type acc; h may be there twice */
  nn_dim pitch;
  nn_x *h_from, *h_to; /* where this step finds and leaves h */
  nn_buf *reset, *mix; /* gru with two products: r * h and z, [B][pitch] */
  int64_t width;       /* of r's panels; 0: r is read as it is */
  nn_buf *panels;      /* NULL: nn_read gives them */
  nn_buf *steps;       /* lengths that have been checked: i64[B]; NULL: there are none */
  nn_x *step;          /* of the time loop */
} nn_rnn;

/* One product a step, of all or some gates: sums[b, gate, j] = sum over k of a[b, k] * r[gate * H + j, k]. */
typedef struct nn_rnn_product {
  int first, ngates;
  nn_buf *a;    /* [B][pitch] */
  nn_tile tile; /* with panels */
  nn_buf *sums; /* without: [B][ngates * H] */
} nn_rnn_product;

typedef struct nn_rnn_unit nn_rnn_unit;
typedef void nn_rnn_cell(nn_lower *L, const nn_rnn_unit *u);

/* The product of one step and what follows it. */
typedef struct nn_rnn_step {
  nn_rnn *rec;
  const nn_rnn_product *p;
  nn_rnn_cell *cell;
  int64_t panels; /* of a task */
  nn_x *back;     /* this step goes through the panels backwards: 0 or 1 */
} nn_rnn_step;

/* Where the loops are: a row of the batch, a unit of the hidden state (perhaps a lane). */
struct nn_rnn_unit {
  nn_rnn *rec;
  const nn_rnn_product *product;
  nn_x *b, *j;
  nn_x *t;       /* of xw and y */
  nn_x *is_live; /* the row's sequence is not over; NULL: there are no lengths */
  nn_buf *sums;
  nn_x *sum, *gate_stride; /* index of its first gate's sum, from gate to gate */
  nn_x *input;             /* the same of its input, among those projected ahead; NULL: it is in xw */
};

/* ---- rnn_cell.c: the formulas, each after the product of its gates --------------------------------------- */

nn_rnn_cell nn_rnn_lstm, nn_rnn_plain;
nn_rnn_cell nn_rnn_gru;                          /* linear_before_reset: one product */
nn_rnn_cell nn_rnn_gru_gates, nn_rnn_gru_update; /* else after the first and the second */

/* State i of the unit as this step finds it. */
nn_x *nn_rnn_state(nn_lower *L, const nn_rnn_unit *u, int i);
nn_x *nn_rnn_state_index(nn_lower *L, const nn_rnn *rec, nn_x *base, nn_x *b, nn_x *j);

/* ---- rnn_product.c --------------------------------------------------------------------------------------- */

/* How r is read: sets rec's width and panels. most: gates of its largest product. */
void nn_rnn_choose_panels(nn_lower *L, nn_rnn *rec, int most);
/* Packs the product's part of r, before the first step, if it is to be in panels and is not. */
nn_rnn_product nn_rnn_product_new(nn_lower *L, const nn_rnn *rec, nn_buf *a, int first, int ngates);
/* The product of this step, and the cell for every unit. A cell may run before other sums are there: it changes
   nothing that the product reads. */
void nn_rnn_product_emit(nn_lower *L, nn_rnn *rec, const nn_rnn_product *p, nn_rnn_cell *cell);

/* Elements of h, and of r in panels: column j of the gates of a panel, for this k. */
nn_x *nn_rnn_h(nn_lower *L, const nn_rnn_step *s, nn_x *m, nn_x *k);
nn_x *nn_rnn_weight(nn_lower *L, const nn_rnn_step *s, nn_x *panel, nn_x *k, nn_x *j);
/* The cells of row m of a panel, whose sums begin at sums[at], and its inputs, if they were projected ahead, at
 * `input`. */
void nn_rnn_cells(nn_lower *L, const nn_rnn_step *s, nn_x *panel, nn_x *m, nn_buf *sums, nn_x *at, nn_x *input);

/* ---- rnn_ahead.c ----------------------------------------------------------------------------------------- */

/* Finds the weights among the op's operands. */
void nn_rnn_ahead_find(nn_rnn *rec);
/* Projects the first block. */
void nn_rnn_ahead_start(nn_lower *L, nn_rnn *rec, const nn_rnn_product *p);
/* The step's product beside a part of the next block's projection, and the cells. */
void nn_rnn_ahead_step(nn_lower *L, const nn_rnn_step *s);

#endif
