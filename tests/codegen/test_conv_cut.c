/* How convolutions are cut into few tasks: all rows and panels, evenly for two workers, and no more tasks than that
 * takes. */
#include <criterion/criterion.h>

#include "codegen/codegen.h"

static nn_conv_cut cut_of(int64_t rows, int64_t panels, int last_vectors, bool is_made) {
  nn_conv_cut c = {.images = 1,
                   .rows = rows,
                   .width = 14,
                   .panels = panels,
                   .depth = 480,
                   .vectors = 2,
                   .tile_rows = 14,
                   .is_flat = true};
  c.last_vectors = last_vectors;
  c.last_tile_rows = last_vectors ? 29 : 0;
  c.is_made = is_made;
  c.task_cycles = 1500;
  c.band = rows;
  c.group_panels = 1;
  return c;
}

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Two panels and a half on one band: one worker would have two, or one and a half. */
Test(conv_cut, halves_are_found_for_two_workers) {
  nn_conv_cut c = cut_of(14, 3, 1, true);
  nn_conv_cut_better(&c, 14);
  cr_expect_eq(ceil_div(14, c.band) % 2, 0, "bands of %d rows", (int)c.band);
}

Test(conv_cut, sizes_stay_in_their_limits) {
  for (int64_t rows = 1; rows <= 17; rows++)
    for (int64_t panels = 1; panels <= 7; panels++)
      for (int last = 0; last <= 1; last++) {
        nn_conv_cut c = cut_of(rows, panels, last, panels % 2 == 0);
        nn_conv_cut_better(&c, rows < 5 ? rows : 5);
        cr_expect(c.band >= 1 && c.band <= rows && c.group_panels >= 1 && c.group_panels <= panels);
        cr_expect(ceil_div(rows, c.band) * ceil_div(panels, c.group_panels) <= 64);
      }
}

/* One task costs least where there is little to do. */
Test(conv_cut, little_work_is_one_task) {
  nn_conv_cut c = cut_of(2, 2, 0, false);
  c.width = c.depth = 1;
  nn_conv_cut_better(&c, 2);
  cr_expect(c.band == 2 && c.group_panels == 2);
}

/* Too many tasks are left as they are. */
Test(conv_cut, many_tasks_are_not_looked_at) {
  nn_conv_cut c = cut_of(100, 100, 0, false);
  c.images = 100;
  nn_conv_cut_better(&c, 100);
  cr_expect(c.band == 100 && c.group_panels == 1);
}
