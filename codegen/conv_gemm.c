/* Convolution as products over register tiles, without im2col.

   Output pixels are numbered n = (z*Hq + y)*Wq + x with rows and planes a little too long (Wq = W + what the
   kernel overhangs). If the input has the same pitch, tap (kz, ky, kx) of pixel n is simply the input's
   element n + offset(tap): every row of B is a contiguous piece of a channel. The few columns between rows
   are computed and not stored. So the input is copied once into planes that have this pitch and zeros all
   around (`padded`), and B is read in place, all taps from the same lines of cache.

   With stride s the copy separates the phases (x mod s): tap kx then reads phase kx mod s at offset kx / s,
   again contiguous along n. Phases that no tap uses are not copied. A convolution with stride 1 and
   without padding needs no copy at all.

   Where the input is larger than a core's cache, its lines would come from far, a few at a time, while the product
   waits: then each task copies the rows that it needs, halo included, to memory of its own and works there.

   A is the weights, rows m = output channels of the group, k = (channel, tap) contiguous. */
#include "codegen/codegen.h"

enum {
  UNROLLED_TAPS = 16,
  IMAGE_FLOPS = 1 << 23,
  IMAGES_ENOUGH = 32,
  IMAGE_BYTES = 1 << 22,
  ROW_GAP = 16,
  COPY_PAYS = 256,
  MOST_PLANE = 1 << 28
};

typedef struct conv_run {
  const nn_conv *c;
  nn_tile tile;
  enum { IN_PLACE, WHOLE, LOCAL } form; /* B is x itself, the padded image, or the rows of a task */
  bool images_are_tasks;
  int64_t phases[NN_SPATIAL]; /* of each axis */
  int64_t nphases;
  nn_dim pitch[NN_SPATIAL]; /* dims of a plane */
  nn_dim plane, pixels;     /* elements of a plane; columns n */
  nn_dim reach;             /* of the farthest tap along n */
  bool flat;                /* pitch is the output's own: n is the flat pixel */
  nn_buf *b, *w;            /* padded planes or x; weights */
  nn_x *w_pitch;            /* between rows of w */
  nn_buf *y;                /* plain output, or NULL */
  nn_x *image, *group;
  nn_x *image_base;
  nn_x *plane_x;         /* elements of a plane of b */
  nn_x *origin;          /* LOCAL: n of the first element of b */
  int64_t local;         /* LOCAL: elements of a plane of b */
  nn_x *row_lo, *row_hi; /* to copy: rows, all axes but the last flattened, and columns */
  nn_x *column_lo, *column_hi;
} conv_run;

/* ---- geometry -------------------------------------------------------------------------------------------- */

static void set_geometry(nn_lower *L, conv_run *r) {
  nn_module *m = L->module;
  const nn_conv *c = r->c;
  r->plane = nn_dim_const(m, 1);
  r->pixels = nn_dim_const(m, 1);
  r->reach = nn_dim_const(m, 0);
  r->nphases = 1;
  r->flat = true;
  for (int d = 0; d < c->nd; d++) {
    int64_t s = c->stride[d], reach = c->kernel[d] > 0 ? (c->kernel[d] - 1) * c->dilation[d] : 0;
    r->phases[d] = c->kernel[d] < s ? c->kernel[d] : s; /* a phase for each tap, or for each residue */
    r->nphases *= r->phases[d];
    r->pitch[d] = nn_dim_add(m, c->out[d], nn_dim_const(m, reach / s));
    r->plane = nn_dim_mul(m, r->plane, r->pitch[d]);
    /* the last pixel + 1, Horner's rule over (out - 1) */
    nn_dim last = nn_dim_sub(m, r->pixels, nn_dim_const(m, 1));
    r->pixels = nn_dim_add(m, nn_dim_mul(m, last, r->pitch[d]), c->out[d]);
    r->reach = nn_dim_add(m, nn_dim_mul(m, r->reach, r->pitch[d]), nn_dim_const(m, reach / s));
    if (d > 0 && reach / s > 0) r->flat = false;
  }
}

static bool reads_in_place(nn_lower *L, conv_run *r) {
  const nn_conv *c = r->c;
  if (c->x->type.dtype != c->acc || !nn_read_is_plain(L, c->x, &r->b)) return false;
  for (int d = 0; d < c->nd; d++)
    if (c->stride[d] != 1 || !nn_dim_is(c->before[d], 0) || r->pitch[d] != c->in[d]) return false;
  return true;
}

/* Images side by side when each is little work or there are many of them (then each worker has padded planes of
   its own); else the tasks are within one. */
static bool images_as_tasks(const conv_run *r) {
  const nn_conv *c = r->c;
  int64_t images, flops = 2 * c->groups, bytes = r->nphases * nn_dtype_bits(c->acc) / 8;
  int64_t factors[3] = {nn_dim_guess(c->group_in, 64), nn_dim_guess(r->pixels, 256), nn_dim_guess(c->group_out, 64)};
  if (nn_dim_is(c->batch, 1)) return false;
  for (int d = 0; d < c->nd; d++)
    if (flops < IMAGE_FLOPS) flops *= c->kernel[d];
  for (int i = 0; i < 3; i++) {
    if (flops < IMAGE_FLOPS) flops *= factors[i];
    if (bytes < IMAGE_BYTES && i < 2) bytes *= factors[i];
  }
  bool many = nn_dim_is_const(c->batch, &images) && images >= IMAGES_ENOUGH;
  return flops < IMAGE_FLOPS || (many && (r->form != WHOLE || bytes * c->groups < IMAGE_BYTES));
}

/* ---- the padded input ------------------------------------------------------------------------------------- */

typedef struct row_copy {
  const conv_run *r;
  nn_x *index[NN_MAX_RANK]; /* of x; the last is set within the row */
  nn_x *to, *first;         /* element of `padded` of the row, and where the input starts in it */
  nn_x *residue;            /* of the row's phase */
  nn_x *count;              /* elements of the input in it */
} row_copy;

static void copy_block(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  const row_copy *row = data;
  const conv_run *r = row->r;
  const nn_conv *c = r->c;
  nn_kernel *k = L->kernel;
  int last = c->nd - 1;
  nn_x *index[NN_MAX_RANK];
  for (int d = 0; d < 1 + c->nd; d++) index[d] = row->index[d];
  nn_x *l = nn_lanes_begin(L, lanes);
  nn_x *j = nn_xi_add(k, row->first, nn_xi_add(k, i, l));
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, j, c->stride[last]), row->residue);
  index[1 + c->nd] = nn_xi_sub(k, at, nn_dim_x(L, c->before[last]));
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, nn_xi_add(k, i, l), row->count));
  nn_x *value = nn_x_cast(k, nn_read(L, c->x, index), c->acc);
  nn_store(k, r->b, nn_xi_add(k, row->to, j), value, nn_guard(L));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

static void zero_range(nn_lower *L, const row_copy *row, nn_x *from, nn_x *to) {
  nn_kernel *k = L->kernel;
  nn_x *j = nn_loop_begin(k, NN_FOR, "j", from, to);
  nn_store(k, row->r->b, nn_xi_add(k, row->to, j), nn_zero(L, row->r->c->acc), NULL);
  nn_end(k);
}

/* The phase of a tap, and the residue modulo the stride of a phase. */
static nn_x *phase_of(nn_lower *L, const nn_conv *c, int d, nn_x *tap) {
  nn_kernel *k = L->kernel;
  if (c->kernel[d] < c->stride[d]) return tap;
  return nn_xi_mod(k, nn_xi_mulc(k, tap, c->dilation[d]), nn_x_int(k, c->stride[d]));
}

static nn_x *residue_of(nn_lower *L, const nn_conv *c, int d, nn_x *phase) {
  nn_kernel *k = L->kernel;
  if (c->kernel[d] >= c->stride[d] || c->dilation[d] == 1) return phase;
  return nn_let(k, nn_xi_mod(k, nn_xi_mulc(k, phase, c->dilation[d]), nn_x_int(k, c->stride[d])));
}

/* First place of a padded row (or axis) that holds input, and the first after it. */
static void filled_range(nn_lower *L, const conv_run *r, int d, nn_x *residue, nn_x **lo, nn_x **hi) {
  nn_kernel *k = L->kernel;
  const nn_conv *c = r->c;
  nn_x *shift = nn_xi_sub(k, nn_dim_x(L, c->before[d]), residue), *pitch = nn_dim_x(L, r->pitch[d]),
       *zero = nn_x_int(k, 0);
  nn_x *from = nn_ceildiv_x(L, shift, c->stride[d]);
  nn_x *to = nn_ceildiv_x(L, nn_xi_add(k, nn_dim_x(L, c->in[d]), shift), c->stride[d]);
  *lo = nn_let(k, nn_xi_min(k, nn_xi_max(k, from, zero), pitch));
  *hi = nn_let(k, nn_xi_max(k, *lo, nn_xi_min(k, to, pitch)));
}

static nn_x *clamp_x(nn_lower *L, nn_x *x, nn_x *low, nn_x *high) {
  return nn_let(L->kernel, nn_xi_max(L->kernel, nn_xi_min(L->kernel, x, high), low));
}

static void copy_row(nn_lower *L, row_copy *row, nn_x *inside) {
  nn_kernel *k = L->kernel;
  const conv_run *r = row->r;
  nn_x *lo, *hi;
  filled_range(L, r, r->c->nd - 1, row->residue, &lo, &hi);
  lo = clamp_x(L, lo, r->column_lo, r->column_hi);
  hi = clamp_x(L, hi, lo, r->column_hi);
  if (inside) nn_if_begin(k, inside);
  zero_range(L, row, r->column_lo, lo);
  row->first = lo;
  row->count = nn_let(k, nn_xi_sub(k, hi, lo));
  nn_block_loops(L, row->count, nn_target_lanes(L->target, r->c->acc), copy_block, row);
  zero_range(L, row, hi, r->column_hi);
  if (!inside) return;
  nn_else(k);
  zero_range(L, row, r->column_lo, r->column_hi);
  nn_end(k);
}

/* The place of a flattened row along the outer axes: sets row->index; whether it is in the input (NULL: always). */
static nn_x *place_row(nn_lower *L, const conv_run *r, nn_x *flat, nn_x *const *residue, row_copy *row) {
  nn_kernel *k = L->kernel;
  const nn_conv *c = r->c;
  nn_x *inside = NULL;
  for (int d = c->nd - 2; d >= 0; d--) {
    nn_x *lo, *hi, *pitch = nn_dim_x(L, r->pitch[d]);
    nn_x *j = d ? nn_let(k, nn_xi_mod(k, flat, pitch)) : flat;
    flat = d ? nn_let(k, nn_xi_floordiv(k, flat, pitch)) : flat;
    filled_range(L, r, d, residue[d], &lo, &hi);
    nn_x *in = nn_x_binary(k, NN_X_AND, nn_x_binary(k, NN_X_LE, lo, j), nn_x_binary(k, NN_X_LT, j, hi));
    inside = inside ? nn_x_binary(k, NN_X_AND, inside, in) : in;
    nn_x *at = nn_xi_add(k, nn_xi_mulc(k, j, c->stride[d]), residue[d]);
    row->index[2 + d] = nn_let(k, nn_xi_sub(k, at, nn_dim_x(L, c->before[d])));
  }
  return inside;
}

/* All phases and the wanted rows of one channel, to plane number `plane` and those after it. */
static void pad_channel(nn_lower *L, const conv_run *r, nn_x *channel, nn_x *plane) {
  const nn_conv *c = r->c;
  nn_kernel *k = L->kernel;
  row_copy row = {.r = r, .index = {r->image, channel}};
  nn_x *residue[NN_SPATIAL];
  for (int d = 0; d < c->nd; d++) {
    nn_x *phase = r->phases[d] > 1 ? nn_loop_range(k, NN_FOR, "phase", r->phases[d]) : nn_x_int(k, 0);
    residue[d] = residue_of(L, c, d, phase);
    plane = nn_xi_add(k, nn_xi_mulc(k, plane, r->phases[d]), phase);
  }
  row.residue = residue[c->nd - 1];
  nn_x *flat = nn_loop_begin(k, NN_FOR, "row", r->row_lo, r->row_hi);
  nn_x *inside = place_row(L, r, flat, residue, &row);
  nn_x *n = nn_xi_sub(k, nn_xi_mul(k, flat, nn_dim_x(L, r->pitch[c->nd - 1])), r->origin);
  row.to = nn_let(k, nn_xi_add(k, nn_xi_mul(k, plane, r->plane_x), n));
  copy_row(L, &row, inside);
  nn_end(k);
  for (int d = 0; d < c->nd; d++)
    if (r->phases[d] > 1) nn_end(k);
}

static void pad_one_channel(nn_lower *L, nn_x *const *channel, void *data) {
  pad_channel(L, data, channel[0], channel[0]);
}

/* The image as a whole, before the product. */
static void pad_image(nn_lower *L, conv_run *r) {
  nn_kernel *k = L->kernel;
  const nn_conv *c = r->c;
  const nn_dim *channels = &c->x->type.dims[1];
  r->row_lo = r->column_lo = nn_x_int(k, 0);
  r->row_hi = nn_dim_x(L, nn_dim_product(L->module, r->pitch, c->nd - 1));
  r->column_hi = nn_dim_x(L, r->pitch[c->nd - 1]);
  if (r->images_are_tasks) {
    nn_x *channel = nn_loop_begin(k, NN_FOR, "channel", nn_x_int(k, 0), nn_dim_x(L, *channels));
    pad_channel(L, r, channel, channel);
    nn_end(k);
    return;
  }
  int64_t cost = nn_dim_guess(r->plane, 4096);
  nn_parallel_rows(L, channels, 1, (cost < (1 << 20) ? cost : 1 << 20) * r->nphases, pad_one_channel, r);
}

/* What the columns first .. end of a task read, at its start: whole rows, or of a single row the piece. */
static void pad_task(nn_lower *L, void *data, nn_x *first, nn_x *end) {
  conv_run *r = data;
  nn_kernel *k = L->kernel;
  const nn_conv *c = r->c;
  nn_x *pitch = nn_dim_x(L, r->pitch[c->nd - 1]), *last = nn_xi_add(k, end, nn_dim_x(L, r->reach));
  if (c->nd == 1) {
    r->row_lo = nn_x_int(k, 0);
    r->row_hi = nn_x_int(k, 1);
    r->column_lo = r->origin = first;
    r->column_hi = nn_let(k, nn_xi_min(k, last, pitch));
  } else {
    nn_x *rows = nn_dim_x(L, nn_dim_product(L->module, r->pitch, c->nd - 1));
    r->row_lo = nn_let(k, nn_xi_floordiv(k, first, pitch));
    r->row_hi = nn_let(k, nn_xi_min(k, rows, nn_xi_floordiv(k, nn_xi_addc(k, nn_xi_add(k, last, pitch), -1), pitch)));
    r->origin = nn_let(k, nn_xi_mul(k, r->row_lo, pitch));
    r->column_lo = nn_x_int(k, 0);
    r->column_hi = pitch;
  }
  nn_x *channel = nn_loop_begin(k, NN_FOR, "channel", nn_x_int(k, 0), nn_dim_x(L, c->group_in));
  pad_channel(L, r, nn_xi_add(k, nn_xi_mul(k, r->group, nn_dim_x(L, c->group_in)), channel), channel);
  nn_end(k);
}

/* ---- operands of the tiles ----------------------------------------------------------------------------------- */

static nn_x *weight_at(nn_lower *L, void *data, nn_x *m, nn_x *const *ks) {
  const conv_run *r = data;
  nn_kernel *k = L->kernel;
  nn_x *at = ks[0];
  for (int d = 0; d < r->c->nd; d++)
    if (r->c->kernel[d] != 1) at = nn_xi_add(k, nn_xi_mulc(k, at, r->c->kernel[d]), ks[1 + d]);
  nn_x *row = nn_xi_add(k, nn_xi_mul(k, r->group, nn_dim_x(L, r->c->group_out)), m);
  return nn_x_cast(k, nn_x_load(k, r->w, nn_xi_add(k, nn_xi_mul(k, row, r->w_pitch), at), NULL), r->c->acc);
}

static nn_x *pixel_at(nn_lower *L, void *data, nn_x *const *ks, nn_x *n0, nn_x *j) {
  const conv_run *r = data;
  const nn_conv *c = r->c;
  nn_kernel *k = L->kernel;
  nn_x *plane = ks[0], *offset = nn_x_int(k, 0);
  if (r->form != LOCAL) plane = nn_xi_add(k, nn_xi_mul(k, r->group, nn_dim_x(L, c->group_in)), plane);
  for (int d = 0; d < c->nd; d++) {
    nn_x *reach = nn_xi_mulc(k, ks[1 + d], c->dilation[d]), *s = nn_x_int(k, c->stride[d]);
    plane = nn_xi_add(k, nn_xi_mulc(k, plane, r->phases[d]), phase_of(L, c, d, ks[1 + d]));
    offset = nn_xi_add(k, nn_xi_mul(k, offset, nn_dim_x(L, r->pitch[d])), nn_xi_floordiv(k, reach, s));
  }
  nn_x *at = nn_xi_add(k, nn_xi_add(k, r->image_base, nn_xi_mul(k, plane, r->plane_x)), offset);
  n0 = nn_xi_sub(k, n0, r->origin);
  return nn_x_load(k, r->b, nn_xi_add(k, nn_xi_add(k, at, n0), j), nn_guard(L));
}

/* ---- results ---------------------------------------------------------------------------------------------------- */

static void write_pixel(nn_lower *L, const conv_run *r, nn_x *m, nn_x *const *place, nn_x *value) {
  nn_kernel *k = L->kernel;
  nn_x *index[NN_MAX_RANK] = {r->image, nn_xi_add(k, nn_xi_mul(k, r->group, nn_dim_x(L, r->c->group_out)), m)};
  for (int d = 0; d < r->c->nd; d++) index[2 + d] = place[d];
  nn_write(L, r->c->y, index, nn_x_cast(k, value, r->c->y->type.dtype));
}

static nn_x *sum_at(nn_lower *L, nn_buf *src, nn_x *at, nn_x *l) {
  return nn_let(L->kernel, nn_x_load(L->kernel, src, nn_xi_add(L->kernel, at, l), NULL));
}

/* n is the flat pixel. */
static void store_flat(nn_lower *L, const conv_run *r, nn_x *m, nn_x *n, int lanes, bool is_tail, nn_buf *src,
                       nn_x *at) {
  nn_kernel *k = L->kernel;
  const nn_conv *c = r->c;
  nn_type pixels = nn_type_make(L->module, NN_I64, c->nd, c->out);
  nn_x *place[NN_SPATIAL], *l = nn_lanes_begin(L, lanes), *pixel = nn_xi_add(k, n, l);
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, pixel, nn_dim_x(L, r->pixels)));
  nn_x *value = sum_at(L, src, at, l);
  if (r->y) {
    nn_x *channels = nn_xi_mul(k, r->image, nn_dim_x(L, c->y->type.dims[1]));
    nn_x *channel = nn_xi_add(k, nn_xi_add(k, channels, nn_xi_mul(k, r->group, nn_dim_x(L, c->group_out))), m);
    nn_x *flat = nn_xi_add(k, nn_xi_mul(k, channel, nn_dim_x(L, r->pixels)), pixel);
    nn_store(k, r->y, flat, nn_x_cast(k, value, c->y->type.dtype), nn_guard(L));
  } else {
    nn_unflatten(L, pixels, pixel, place);
    write_pixel(L, r, m, place, value);
  }
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

/* The row of output numbered `row` in pitched planes: its place, and whether it is one (NULL: always). */
static nn_x *row_place(nn_lower *L, const conv_run *r, nn_x *row, nn_x **place) {
  nn_kernel *k = L->kernel;
  nn_x *valid = NULL;
  for (int d = r->c->nd - 2; d >= 0; d--) {
    nn_x *pitch = nn_dim_x(L, r->pitch[d]);
    place[d] = d ? nn_let(k, nn_xi_mod(k, row, pitch)) : row;
    row = d ? nn_let(k, nn_xi_floordiv(k, row, pitch)) : row;
    nn_x *in = nn_x_binary(k, NN_X_LT, place[d], nn_dim_x(L, r->c->out[d]));
    valid = valid ? nn_x_binary(k, NN_X_AND, valid, in) : in;
  }
  return valid;
}

/* The lanes of a vector that fall into one row: x from `x0`, negative lanes belong to earlier rows. */
static void store_piece(nn_lower *L, const conv_run *r, nn_x *m, nn_x **place, nn_x *x0, int lanes, bool masked,
                        nn_buf *src, nn_x *at) {
  nn_kernel *k = L->kernel;
  int last = r->c->nd - 1;
  nn_x *l = nn_lanes_begin(L, lanes);
  place[last] = nn_xi_add(k, x0, l);
  if (masked) {
    nn_x *low = nn_x_binary(k, NN_X_LE, nn_x_int(k, 0), place[last]);
    nn_guard_push(L, nn_x_binary(k, NN_X_AND, low, nn_x_binary(k, NN_X_LT, place[last], nn_dim_x(L, r->c->out[last]))));
  }
  write_pixel(L, r, m, place, sum_at(L, src, at, l));
  if (masked) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

/* A vector of pitched pixels: inside one row in the common case, else a masked piece for each row it touches. */
static void store_pitched(nn_lower *L, const conv_run *r, nn_x *m, nn_x *n, int lanes, nn_buf *src, nn_x *at) {
  nn_kernel *k = L->kernel;
  int last = r->c->nd - 1;
  nn_x *place[NN_SPATIAL], *pitch = nn_dim_x(L, r->pitch[last]);
  nn_x *row = nn_let(k, nn_xi_floordiv(k, n, pitch)), *x0 = nn_let(k, nn_xi_mod(k, n, pitch));
  nn_x *valid = row_place(L, r, row, place);
  nn_x *whole = nn_x_binary(k, NN_X_LE, nn_xi_addc(k, x0, lanes), nn_dim_x(L, r->c->out[last]));
  nn_if_begin(k, nn_x_binary(k, NN_X_AND, whole, valid));
  store_piece(L, r, m, place, x0, lanes, false, src, at);
  nn_else(k);
  nn_x *rows = nn_xi_addc(k, nn_xi_floordiv(k, nn_xi_addc(k, x0, lanes - 1), pitch), 1);
  nn_x *p = nn_loop_begin(k, NN_FOR, "p", nn_x_int(k, 0), nn_let(k, rows));
  valid = row_place(L, r, nn_let(k, nn_xi_add(k, row, p)), place);
  nn_if_begin(k, valid);
  store_piece(L, r, m, place, nn_let(k, nn_xi_sub(k, x0, nn_xi_mul(k, p, pitch))), lanes, true, src, at);
  nn_end(k);
  nn_end(k);
  nn_end(k);
}

static void store_vector(nn_lower *L, void *data, nn_x *m, nn_x *n, int lanes, bool is_tail, nn_buf *src, nn_x *at) {
  const conv_run *r = data;
  if (r->flat)
    store_flat(L, r, m, n, lanes, is_tail, src, at);
  else
    store_pitched(L, r, m, n, lanes, src, at);
}

/* ---- the whole ------------------------------------------------------------------------------------------------ */

typedef struct weight_row {
  const conv_run *r;
  nn_x *row;
  nn_type type;
  nn_x *count;
} weight_row;

static void copy_weight_block(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  const weight_row *row = data;
  const nn_conv *c = row->r->c;
  nn_kernel *k = L->kernel;
  nn_x *index[NN_MAX_RANK] = {row->row}, *at = nn_xi_add(k, i, nn_lanes_begin(L, lanes));
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, at, row->count));
  nn_unflatten(L, row->type, at, index + 1);
  nn_x *value = nn_x_cast(k, nn_read(L, c->w, index), c->acc);
  nn_store(k, row->r->w, nn_xi_add(k, nn_xi_mul(k, row->row, row->r->w_pitch), at), value, nn_guard(L));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

/* The weights in place if they are a plain buffer, else a copy of their rows. */
static void set_weights(nn_lower *L, conv_run *r) {
  nn_kernel *k = L->kernel;
  nn_module *m = L->module;
  const nn_type w = r->c->w->type;
  nn_dim depth = nn_dim_product(m, w.dims + 1, w.rank - 1);
  if (nn_read_is_plain(L, r->c->w, &r->w)) {
    r->w_pitch = nn_let(k, nn_dim_x(L, depth));
    return;
  }
  nn_dim pitch = nn_dim_add(m, depth, nn_dim_const(m, ROW_GAP));
  r->w = nn_temp(L, NN_BUF_WORKSPACE, r->c->acc, nn_dim_mul(m, pitch, w.dims[0]));
  r->w_pitch = nn_let(k, nn_dim_x(L, pitch));
  weight_row row = {r, nn_task_loop(L, false, "row", nn_dim_x(L, w.dims[0])),
                    nn_type_make(m, NN_I64, w.rank - 1, w.dims + 1), NULL};
  row.count = nn_dim_x(L, depth);
  nn_block_loops(L, row.count, nn_target_lanes(L->target, r->c->acc), copy_weight_block, &row);
  nn_end(k);
}

static void set_k_loops(const conv_run *r, nn_tiles *t) {
  const nn_conv *c = r->c;
  int64_t taps = 1;
  for (int d = 0; d < c->nd; d++) taps = taps > UNROLLED_TAPS ? taps : taps * c->kernel[d];
  t->kcount[0] = c->group_in;
  t->nk = taps == 1 ? 1 : 1 + c->nd;
  for (int d = 0; d < c->nd; d++) {
    t->kcount[1 + d] = c->kernel_dim[d];
    bool last = d == c->nd - 1;
    t->kunroll[1 + d] = c->kernel[d] > 0 && (taps <= UNROLLED_TAPS || (last && c->kernel[d] <= UNROLLED_TAPS));
  }
}

static nn_x *weight_of_point(nn_lower *L, void *data, nn_x *m, nn_x *const *ks) {
  nn_x *zero = nn_x_int(L->kernel, 0), *all[NN_TILE_LOOPS] = {ks[0], zero, zero, zero};
  return weight_at(L, data, m, all);
}

static nn_x *pixel_of_point(nn_lower *L, void *data, nn_x *const *ks, nn_x *n0, nn_x *j) {
  nn_x *zero = nn_x_int(L->kernel, 0), *all[NN_TILE_LOOPS] = {ks[0], zero, zero, zero};
  return pixel_at(L, data, all, n0, j);
}

static nn_tiles make_tiles(nn_lower *L, conv_run *r) {
  const nn_conv *c = r->c;
  nn_tiles t = {.tile = r->tile,
                .m = c->group_out,
                .n = r->pixels,
                .acc = c->acc,
                .b_padded = r->form != IN_PLACE,
                .store = store_vector,
                .store_direct = r->flat && r->y,
                .store_checks = !r->flat,
                .outer = nn_dim_const(L->module, c->groups),
                .outer_index = &r->group,
                .data = r,
                .in_parallel = r->images_are_tasks};
  set_k_loops(r, &t);
  t.a = t.nk == 1 ? weight_of_point : weight_at;
  t.b = t.nk == 1 ? pixel_of_point : pixel_at;
  return t;
}

/* Elements of one plane that `panels` panels read. */
static int64_t local_plane(const conv_run *r, int64_t panels) {
  int64_t pitch = nn_dim_value(r->pitch[r->c->nd - 1]),
          count = panels * r->tile.nv * r->tile.lanes + nn_dim_value(r->reach);
  return r->c->nd == 1 ? count : ((count + pitch - 1) / pitch + 1) * pitch;
}

/* Whether tasks should copy their rows, and how many panels a task then takes. */
static bool tasks_copy(nn_lower *L, conv_run *r, nn_tiles *t) {
  const nn_conv *c = r->c;
  int64_t plane, channels, rows, bytes = nn_dtype_bits(c->acc) / 8, taps = 1, l2 = L->target->l2_bytes;
  if (!nn_dim_is_const(r->plane, &plane) || !nn_dim_is_const(c->group_in, &channels)) return false;
  if (!nn_dim_is_const(c->group_out, &rows) || !nn_read_is_plain(L, c->x, NULL)) return false;
  for (int d = 0; d < c->nd; d++) taps *= c->kernel[d];
  if (taps == 0 || rows < (COPY_PAYS + taps - 1) / taps || channels > l2 / r->nphases || plane < 1 ||
      plane > MOST_PLANE)
    return false;
  int64_t planes = channels * r->nphases;
  if (planes * c->groups <= l2 / bytes / plane) return false;
  int64_t most = 1;
  while (most < 64 && planes * local_plane(r, most + 1) * bytes <= l2 / 4) most++;
  t->most_panels = most;
  if (nn_tiles_row_blocks(L, t) > 1) return false;
  int64_t panels = nn_tiles_panels(L, t), covered = panels * r->tile.nv * r->tile.lanes;
  r->local = local_plane(r, panels);
  return r->local * planes * bytes <= l2 / 2 && r->local <= 4 * covered;
}

static void emit_image(nn_lower *L, conv_run *r, nn_tiles *t) {
  nn_kernel *k = L->kernel;
  const nn_conv *c = r->c;
  r->origin = r->image_base = nn_x_int(k, 0);
  r->plane_x = r->form == LOCAL ? nn_x_int(k, r->local) : nn_let(k, nn_dim_x(L, r->plane));
  if (r->form == IN_PLACE)
    r->image_base = nn_let(k, nn_xi_mul(k, nn_xi_mul(k, r->image, nn_dim_x(L, c->x->type.dims[1])), r->plane_x));
  if (r->form == WHOLE) pad_image(L, r);
  if (r->form == LOCAL) t->prepare = pad_task;
  nn_tiles_emit(L, t);
}

static void make_planes(nn_lower *L, conv_run *r) {
  nn_module *m = L->module;
  nn_dim channels = r->form == LOCAL ? r->c->group_in : r->c->x->type.dims[1];
  nn_dim planes = nn_dim_mul(m, channels, nn_dim_const(m, r->nphases));
  nn_dim slack = nn_dim_const(m, (int64_t)r->tile.nv * r->tile.lanes);
  nn_dim size = nn_dim_mul(m, planes, r->form == LOCAL ? nn_dim_const(m, r->local) : r->plane);
  nn_buf_space space = r->form == LOCAL || r->images_are_tasks ? NN_BUF_WORKER : NN_BUF_WORKSPACE;
  r->b = nn_temp(L, space, r->c->acc, nn_dim_add(m, size, slack));
}

void nn_conv_gemm(nn_lower *L, const nn_conv *c) {
  nn_kernel *k = L->kernel;
  conv_run r = {.c = c, .form = WHOLE};
  set_geometry(L, &r);
  r.tile = nn_tile_choose(L->target, c->acc, c->group_out, r.pixels);
  if (!nn_write_is_plain(L, c->y, &r.y)) r.y = NULL;
  nn_tiles t = make_tiles(L, &r);
  if (tasks_copy(L, &r, &t))
    r.form = LOCAL;
  else if (reads_in_place(L, &r))
    r.form = IN_PLACE;
  r.images_are_tasks = images_as_tasks(&r);
  int64_t panels = t.most_panels;
  t = make_tiles(L, &r);
  if (r.form == LOCAL) t.most_panels = panels;
  if (r.form != IN_PLACE) make_planes(L, &r);
  set_weights(L, &r);
  bool single = nn_dim_is(c->batch, 1);
  r.image = single ? nn_x_int(k, 0)
                   : nn_loop_begin(k, r.images_are_tasks ? NN_PARALLEL : NN_FOR, "image", nn_x_int(k, 0),
                                   nn_dim_x(L, c->batch));
  emit_image(L, &r, &t);
  if (!single) nn_end(k);
}
