/* Where conv_blocked.c finds the numbers that its tiles broadcast: in x itself, or in a copy of what the task's band reads, with zeros
   around. What is fused into the reads of x is evaluated while copying. */
#include "codegen/conv_blocked.h"

enum { LINE_ELEMENTS = 16 }; /* of a line of the cache */

static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

static int64_t clamp64(int64_t x, int64_t low, int64_t high) { return x > high ? high : x < low ? low : x; }

/* Pixels of the patch's lines that lie before x. */
static int64_t zeros_before(const nn_blocked *c) {
  int64_t scale = c->is_sampled ? c->stride[1] : 1;
  return ceil_div(clamp64(c->before[1], 0, INT64_MAX - scale), scale);
}

/* Lines of a planar patch lie so that copies fill whole lines of the cache. Tiles that run over rows need them without gaps. */
static int64_t line_unit(const nn_blocked *c) { return c->is_planar && c->is_patch && !c->is_flat ? LINE_ELEMENTS : 1; }

void nn_blocked_set_lead(nn_blocked *c) { c->lead = (line_unit(c) - zeros_before(c) % line_unit(c)) % line_unit(c); }

int64_t nn_blocked_pitch(const nn_blocked *c, int64_t width) { return ceil_div(nn_blocked_reach(c, 1, width), line_unit(c)) * line_unit(c); }

static nn_dim pitch_dim(nn_module *m, const nn_blocked *c) {
  nn_dim unit = nn_dim_const(m, line_unit(c));
  return nn_dim_mul(m, nn_dim_ceildiv(m, nn_blocked_reach_dim(m, c, 1, c->out_dim[1]), unit), unit);
}

nn_x *nn_blocked_pitch_x(nn_lower *L, const nn_blocked *c) {
  return nn_xi_mulc(L->kernel, nn_ceildiv_x(L, nn_blocked_reach_x(L, c, 1, c->out[1]), line_unit(c)), line_unit(c));
}

/* Elements of a patch: of a band that fits, or of one row. */
static nn_dim patch_size(nn_lower *L, const nn_blocked *c) {
  nn_module *m = L->module;
  int64_t column = c->blocks * c->inner * c->groups;
  nn_dim pitch = pitch_dim(m, c), lead = nn_dim_const(m, c->lead);
  if (!nn_blocked_is_symbolic(c)) return nn_dim_add(m, lead, nn_dim_mul(m, pitch, nn_dim_const(m, column * nn_blocked_reach(c, 0, c->likely_band))));
  nn_dim fits = nn_dim_const(m, c->groups * (L->target->l2_bytes / 2 / 4)), row = nn_dim_mul(m, pitch, nn_dim_const(m, column * nn_blocked_reach(c, 0, 1)));
  return nn_dim_add(m, lead, nn_dim_max(m, fits, row));
}

void nn_blocked_place(nn_lower *L, nn_blocked *c) {
  nn_kernel *k = L->kernel;
  nn_x *rows = c->is_patch ? nn_blocked_reach_x(L, c, 0, c->band) : c->in[0], *pitch = c->is_patch ? nn_blocked_pitch_x(L, c) : c->in[1];
  int64_t inner = c->inner * (c->is_planar ? c->groups : 1);
  nn_x *plane = nn_let(k, nn_xi_mul(k, rows, pitch));
  c->step[3] = c->is_planar ? plane : nn_x_int(k, 1);
  c->step[2] = nn_x_int(k, c->is_planar ? 1 : inner);
  c->step[1] = nn_let(k, nn_xi_mul(k, pitch, c->step[2]));
  c->step[0] = nn_let(k, nn_xi_mulc(k, plane, inner));
  if (c->is_patch) c->a = nn_temp(L, NN_BUF_WORKER, NN_F32, patch_size(L, c));
}

typedef struct patch_line {
  const nn_blocked *c;
  nn_x *lo, *hi, *width; /* of a line: pixels lo .. hi lie in x */
  nn_x *outer, *to, *y;  /* channel or block of channels; element of the patch; row of x */
} patch_line;

/* Pixels first .. end of a line in a block of channels: copied, or zeros. */
static void copy_blocks(nn_lower *L, const patch_line *line, nn_x *first, nn_x *end, bool is_inside) {
  const nn_blocked *c = line->c;
  nn_kernel *k = L->kernel;
  int64_t scale = c->is_sampled ? c->stride[1] : 1;
  int lanes = c->tile.lanes;
  nn_x *p = nn_loop_begin(k, NN_FOR, "p", first, end);
  nn_x *v = nn_loop_range(k, NN_UNROLL, "v", c->block / lanes);
  nn_x *l = nn_lanes_begin(L, lanes), *lane = nn_xi_add(k, nn_xi_mulc(k, v, lanes), l);
  nn_x *index[5] = {c->image, line->outer, line->y, nn_xi_addc(k, nn_xi_mulc(k, p, scale), -c->before[1]), lane};
  nn_x *value = is_inside ? nn_read(L, c->x, index) : nn_zero(L, NN_F32);
  nn_store(k, c->a, nn_xi_add(k, nn_xi_add(k, line->to, nn_xi_mul(k, p, c->step[2])), lane), value, NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
  nn_end(k);
}

typedef struct planar_piece {
  const patch_line *line;
  nn_x *first, *count;
  bool is_inside;
} planar_piece;

/* Of a planar x, a vector of pixels. */
static void copy_planar(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  const planar_piece *piece = data;
  const nn_blocked *c = piece->line->c;
  nn_kernel *k = L->kernel;
  int64_t scale = c->is_sampled ? c->stride[1] : 1;
  nn_x *j = nn_xi_add(k, i, nn_lanes_begin(L, lanes)), *p = nn_xi_add(k, j, piece->first);
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, j, piece->count));
  nn_x *index[4] = {c->image, piece->line->outer, piece->line->y, nn_xi_addc(k, nn_xi_mulc(k, p, scale), -c->before[1])};
  nn_x *value = piece->is_inside ? nn_read(L, c->x, index) : nn_zero(L, NN_F32);
  nn_store(k, c->a, nn_xi_add(k, piece->line->to, p), value, nn_guard(L));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

static void copy_pixels(nn_lower *L, const patch_line *line, nn_x *first, nn_x *end, bool is_inside) {
  planar_piece piece = {line, first, nn_let(L->kernel, nn_xi_sub(L->kernel, end, first)), is_inside};
  int64_t count;
  if (nn_x_is_const(piece.count, &count) && count <= 0) return;
  if (!line->c->is_planar) copy_blocks(L, line, first, end, is_inside);
  else nn_block_loops(L, piece.count, line->c->tile.lanes, copy_planar, &piece);
}

static void copy_line(nn_lower *L, const patch_line *line) {
  const nn_blocked *c = line->c;
  nn_kernel *k = L->kernel;
  nn_x *zero = nn_x_int(k, 0), *inside = nn_x_binary(k, NN_X_LT, line->y, c->in[0]);
  nn_if_begin(k, nn_x_binary(k, NN_X_AND, nn_x_binary(k, NN_X_LE, zero, line->y), inside));
  copy_pixels(L, line, zero, line->lo, false);
  copy_pixels(L, line, line->lo, line->hi, true);
  copy_pixels(L, line, line->hi, line->width, false);
  nn_else(k);
  copy_pixels(L, line, zero, line->width, false);
  nn_end(k);
}

/* Pixels lo..hi of the lines of a patch lie in x. */
static void set_ends(nn_lower *L, const nn_blocked *c, patch_line *line) {
  nn_kernel *k = L->kernel;
  int64_t scale = c->is_sampled ? c->stride[1] : 1;
  line->width = nn_let(k, nn_blocked_reach_x(L, c, 1, c->out[1]));
  line->lo = nn_let(k, nn_xi_min(k, nn_x_int(k, zeros_before(c)), line->width));
  nn_x *hi = nn_ceildiv_x(L, nn_xi_addc(k, c->in[1], c->before[1]), scale);
  line->hi = nn_let(k, nn_xi_max(k, line->lo, nn_xi_min(k, hi, line->width)));
}

void nn_blocked_copy(nn_lower *L, nn_blocked *c) {
  nn_kernel *k = L->kernel;
  patch_line line = {.c = c};
  int64_t outer = c->is_planar ? c->channels : c->blocks * c->groups;
  nn_x *rows = nn_let(k, nn_blocked_reach_x(L, c, 0, c->rows));
  set_ends(L, c, &line);
  line.outer = nn_loop_range(k, NN_FOR, "outer", outer);
  nn_x *r = nn_loop_begin(k, NN_FOR, "r", nn_x_int(k, 0), rows);
  nn_x *at = c->is_sampled ? nn_xi_mulc(k, nn_xi_add(k, c->y0, r), c->stride[0]) : nn_xi_add(k, nn_xi_mulc(k, c->y0, c->stride[0]), r);
  line.y = nn_let(k, nn_xi_addc(k, at, -c->before[0]));
  nn_x *step = c->is_planar ? c->step[3] : c->step[0];
  line.to = nn_let(k, nn_xi_addc(k, nn_xi_add(k, nn_xi_mul(k, line.outer, step), nn_xi_mul(k, r, c->step[1])), c->lead));
  copy_line(L, &line);
  nn_end(k);
  nn_end(k);
}
