/* Schedules from a file: what is written is read back, entries are found by the op, trials override them. */
#include "ir/tuning.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static nn_op *conv_of(nn_module *m, int64_t channels) {
  nn_graph *g = nn_graph_new(m, "main");
  nn_value *x = nn_graph_param(g, "x", nn_type_static(m, NN_F32, 4, (int64_t[]){1, channels, 9, 9}));
  nn_value *w = nn_graph_param(g, "w", nn_type_static(m, NN_F32, 4, (int64_t[]){8, channels, 3, 3}));
  nn_op *op = nn_op_new(g, NULL, NN_OP_CONV, (nn_value *[]){x, w}, 2, 1);
  op->loc = "node";
  op->out[0]->type = nn_type_static(m, NN_F32, 4, (int64_t[]){1, 8, 7, 7});
  return op;
}

static int64_t ask(nn_op *op, int64_t fallback) { return nn_schedule(op->graph->module, op, NN_KNOB_CONV_TILE, fallback, 1, 4); }

Test(tuning, round_trip) {
  char path[] = "/tmp/nncc-tuning-XXXXXX";
  int fd = mkstemp(path);
  cr_assert(fd >= 0);
  close(fd);
  nn_module *m = nn_module_new("t");
  nn_op *a = conv_of(m, 4), *b = conv_of(m, 5);
  cr_expect_eq(ask(a, 2), 2, "without a tuning the cost model decides");
  m->tuning = nn_tuning_new(m->arena);
  cr_expect_eq(ask(a, 2), 2);
  ask(b, 4);
  cr_assert_eq(m->tuning->nchoices, 2);
  nn_choice *c = m->tuning->choices[0];
  cr_expect_str_eq(c->key, "conv f32[1,4,9,9], f32[8,4,3,3] -> f32[1,8,7,7]");
  cr_expect(c->ncandidates == 2 && c->candidates[0] == 1 && c->candidates[1] == 4);
  cr_expect(c->nlocs == 1 && strcmp(c->locs[0], "node") == 0);
  nn_tuning_set(m->tuning, NN_KNOB_CONV_TILE, c->key, 4, "a note");
  nn_tuning_set(m->tuning, NN_KNOB_CONV_TILE, "conv of nothing", 1, NULL);
  nn_tuning_set(m->tuning, NN_KNOB_TILE_ROWS, c->key, 3, NULL);
  cr_assert(nn_tuning_write(m->tuning, path, "cpu triple", "a comment"));
  m->tuning = nn_tuning_read(path, "cpu triple", m->arena, &m->diags);
  cr_assert(m->tuning && m->tuning->count == 3);
  cr_expect_eq(ask(a, 2), 4, "as the file says");
  cr_expect_eq(ask(b, 2), 2, "no entry");
  cr_expect_eq(nn_schedule(m, a, NN_KNOB_CONV_TILE, 2, 1, 3), 2, "an entry that is impossible here");
  cr_expect_eq(nn_tuning_used(m->tuning), 1);
  m->tuning->trial_knob = NN_KNOB_CONV_TILE;
  m->tuning->trial = 0;
  cr_expect_eq(ask(a, 2), 1, "a trial");
  cr_expect_null(nn_tuning_read(path, "another triple", m->arena, &m->diags));
  cr_expect_eq(m->diags.nerrors, 1);
  unlink(path);
  cr_assert_eq(mkdir(path, 0700), 0);
  cr_expect_not(nn_tuning_write(nn_tuning_new(m->arena), path, "cpu triple", "a comment"), "a folder is in the way");
  char temporary[64];
  snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid());
  cr_expect(access(temporary, F_OK) != 0, "nothing half-written is left");
  cr_expect_eq(rmdir(path), 0);
  nn_module_free(m);
}
