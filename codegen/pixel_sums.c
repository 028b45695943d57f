/* The sum over the pixels of what a nest gives, as one more result of its kernel (squeeze and excite; pools over the whole image):
   to read the image again would be a pass over memory.

   The nest gives [images, blocks, rows, columns, block] line by line. What nn_write gives is added up in registers, which are kept
   at the end of a line; after all lines their sums are added up row by row. So the order depends on the shape alone. */
#include "codegen/codegen.h"

enum { LIKELY_ROWS = 56 };

struct nn_sums {
  nn_value *x, *y;  /* what is added up; [images, blocks, 1, 1, block], or without the ones */
  nn_buf *lines;    /* [images, blocks, rows, block] */
  nn_type lines_type;
  nn_buf *line;     /* of the present line, in registers; NULL: none is open */
};

void nn_sums_open(nn_lower *L) {
  const nn_op *op = nn_group_of(L)->sums;
  if (!op) return;
  nn_module *m = L->module;
  nn_sums *s = L->sums = NN_NEW(m->arena, nn_sums);
  s->x = op->in[0];
  s->y = op->out[0];
  const nn_dim *dims = s->x->type.dims;
  s->lines_type = nn_type_make(m, s->y->type.dtype, 4, (nn_dim[]){dims[0], dims[1], dims[2], dims[4]});
  s->lines = nn_temp(L, NN_BUF_WORKSPACE, s->y->type.dtype, nn_type_count(m, s->lines_type));
}

void nn_sums_start(nn_lower *L, int lanes) {
  if (L->sums) L->sums->line = nn_row_regs(L, nn_zero(L, L->sums->y->type.dtype), 1, lanes);
}

void nn_sums_take(nn_lower *L, nn_x *const *index) {
  nn_sums *s = L->sums;
  if (!s || !s->line) return;
  nn_kernel *k = L->kernel;
  nn_var *lane = nn_current_vector_var(k);
  nn_x *at = lane ? nn_varinfo_of(lane)->node : nn_x_int(k, 0), *sum = nn_x_load(k, s->line, at, NULL);
  nn_store(k, s->line, at, nn_x_binary(k, NN_X_ADD, sum, nn_read(L, s->x, index)), NULL);
}

void nn_sums_keep(nn_lower *L, nn_x *image, nn_x *block, nn_x *row, nn_x *lane0, int lanes) {
  nn_sums *s = L->sums;
  if (!s) return;
  nn_kernel *k = L->kernel;
  nn_x *l = nn_lanes_begin(L, lanes), *index[4] = {image, block, row, nn_xi_add(k, lane0, l)};
  nn_store(k, s->lines, nn_flat_index(L, s->lines_type, index), nn_x_load(k, s->line, l, NULL), NULL);
  nn_lanes_end(L, lanes);
  s->line = NULL;
}

/* Of `lanes` channels from i on. */
static void add_lines(nn_lower *L, nn_x *const *at, nn_x *i, int lanes) {
  nn_sums *s = L->sums;
  nn_kernel *k = L->kernel;
  nn_buf *sum = nn_row_regs(L, nn_zero(L, s->y->type.dtype), 1, lanes), *to = s->lines;
  nn_x *row = nn_loop_begin(k, NN_FOR, "row", nn_x_int(k, 0), nn_dim_x(L, s->lines_type.dims[2]));
  nn_x *l = nn_lanes_begin(L, lanes), *line[4] = {at[0], at[1], row, nn_xi_add(k, i, l)};
  nn_row_take(L, NN_X_ADD, sum, nn_x_int(k, 0), l, lanes, nn_x_load(k, to, nn_flat_index(L, s->lines_type, line), NULL));
  nn_lanes_end(L, lanes);
  nn_end(k);
  l = nn_lanes_begin(L, lanes);
  nn_x *zero = nn_x_int(k, 0), *lane = nn_xi_add(k, i, l);
  nn_x *with_ones[5] = {at[0], at[1], zero, zero, lane}, *without[3] = {at[0], at[1], lane};
  nn_write(L, s->y, s->y->type.rank == 5 ? with_ones : without, nn_let(k, nn_x_load(k, sum, l, NULL)));
  nn_lanes_end(L, lanes);
}

static void add_block(nn_lower *L, nn_x *const *at, void *data) {
  nn_kernel *k = L->kernel;
  int64_t block = *(const int64_t *)data;
  int lanes = nn_target_lanes(L->target, NN_F32);
  if (lanes > block) lanes = (int)block;
  nn_x *v = nn_loop_range(k, NN_FOR, "v", block / lanes);
  add_lines(L, at, nn_xi_mulc(k, v, lanes), lanes);
  nn_end(k);
}

void nn_sums_close(nn_lower *L) {
  if (!L->sums) return;
  const nn_dim *dims = L->sums->lines_type.dims;
  int64_t block = nn_dim_value(dims[3]);
  nn_parallel_rows(L, dims, 2, nn_dim_guess(dims[2], LIKELY_ROWS) * block, add_block, &block);
}
