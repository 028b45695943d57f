/* Recurrent cells: what lower_rnn.c (states and steps), rnn_cell.c (the formulas) and rnn_product.c (the product with
   the recurrent weights) share. */
#ifndef NN_CODEGEN_RNN_H
#define NN_CODEGEN_RNN_H

#include "codegen/codegen.h"

/* One direction of one layer while it is lowered. */
typedef struct nn_rnn {
  nn_op *op;
  nn_value *xw, *r, *lengths, *peephole, *bias; /* the last three: NULL if not given */
  nn_value *y, *last[2];                        /* NULL if not used */
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

/* Where the loops are: a row of the batch, a unit of the hidden state (perhaps a lane). */
typedef struct nn_rnn_unit {
  nn_rnn *rec;
  const nn_rnn_product *product;
  nn_x *b, *j;
  nn_x *t;       /* of xw and y */
  nn_x *is_live; /* the row's sequence is not over; NULL: there are no lengths */
  nn_buf *sums;
  nn_x *sum, *gate_stride; /* index of its first gate's sum, from gate to gate */
} nn_rnn_unit;

/* ---- rnn_cell.c: the formulas, each after the product of its gates --------------------------------------- */

typedef void nn_rnn_cell(nn_lower *L, const nn_rnn_unit *u);
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

#endif
