/* Convolutions in blocked layout while they are lowered: what conv_blocked.c (tiles and panels), conv_patch.c (where x is read) and
   conv_tasks.c (how the work is cut) share. */
#ifndef NN_CODEGEN_CONV_BLOCKED_H
#define NN_CODEGEN_CONV_BLOCKED_H

#include "codegen/codegen.h"

typedef struct nn_blocked {
  nn_op *op;
  nn_value *x, *y;
  nn_buf *w, *far_w;                     /* weights; where they are in memory, if they are */
  nn_buf *far_x;                         /* x, where tiles fetch it ahead; else NULL */
  bool is_planar, is_made;               /* is_made: w is one panel, which the task computes */
  int64_t channels, outputs, block;      /* C, K, B */
  int64_t kernel[2], stride[2], dilation[2], before[2], after[2];
  nn_dim in_dim[2], out_dim[2];
  nn_x *in[2], *out[2];
  int64_t size[2];                       /* of the output, or what is likely */
  int64_t blocks, inner;                 /* of x's channels in a group: blocks, and channels in each */
  int64_t groups, out_blocks, width, panels;
  int mr;
  bool is_patch, is_flat, is_sampled;    /* x is copied; tiles run over rows; the copy has every stride-th pixel */
  nn_buf *a;                             /* x or the patch */
  int64_t lead;                          /* elements of the patch before its first line */
  nn_x *step[4];                         /* in a: from block to block, row to row, pixel to pixel, channel to channel */
  int64_t a_stride[2];                   /* of windows in a */
  int64_t likely_band, likely_bands, group_panels, ngroups; /* tasks */
  nn_x *first_band;                      /* of those that come one after the other with the same panels */
  int64_t bands_together;                /* and how many these are */
  nn_x *first_panel;                     /* those before it are done in Strassen's form */
  nn_x *band, *nbands;                   /* rows of a band, at most; bands of an image */
  nn_buf *stage;                         /* results of a tile, where they do not go to their places from the registers */
  int64_t stage_size;
  bool is_staged;                        /* those of all tiles; else of rests */
  /* of the present task, panel and tile */
  nn_x *image, *y0, *rows, *a_base, *panel, *block0, *row, *pass0, *pass, *first;
  int64_t passes;                        /* row tiles that one panel serves before the next one does; pass0: those before the task */
  bool is_ahead;                         /* they prefetch the panel after theirs */
  bool is_making;                        /* the present tile makes the panel */
  int64_t made_rows;                     /* pixels of the tile that did */
  nn_conv_tile tile;
  int64_t tile_blocks;                   /* of y that a tile writes */
  nn_x *tail_block;                      /* the incomplete block of x's channels, or NULL */
} nn_blocked;

/* conv_blocked.c */
int64_t nn_blocked_reach(const nn_blocked *c, int d, int64_t count); /* pixels of x that `count` results reach along axis d */
nn_dim nn_blocked_reach_dim(nn_module *m, const nn_blocked *c, int d, nn_dim count);
nn_x *nn_blocked_reach_x(nn_lower *L, const nn_blocked *c, int d, nn_x *count);
bool nn_blocked_is_symbolic(const nn_blocked *c);

/* conv_patch.c */
void nn_blocked_set_lead(nn_blocked *c);
int64_t nn_blocked_pitch(const nn_blocked *c, int64_t width); /* of a line of the patch, for so many results; in pixels */
nn_x *nn_blocked_pitch_x(nn_lower *L, const nn_blocked *c);
void nn_blocked_place(nn_lower *L, nn_blocked *c);            /* a and its steps; the tasks are cut */
void nn_blocked_copy(nn_lower *L, nn_blocked *c);             /* the present task's patch */

/* conv_tasks.c */
void nn_blocked_cut(nn_lower *L, nn_blocked *c);
int64_t nn_blocked_panels(const nn_blocked *c);               /* all of them */
int64_t nn_blocked_panels_left(const nn_blocked *c);          /* for tasks, at most */
void nn_blocked_find_task(nn_lower *L, nn_blocked *c, nn_x *task, nn_x *ngroups, nn_x **band, nn_x **group);
void nn_blocked_count_passes(nn_lower *L, nn_blocked *c, nn_x *band);

#endif
