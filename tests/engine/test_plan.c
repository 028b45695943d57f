/* Workspace plans: what is in use at one step never overlaps, places are taken over, and sizes are told. */
#include "tests/codegen/run_case.h"
#include "tests/engine/random_graph.h"

static int64_t value_at(nn_dim d, int64_t n) {
  int64_t symbols[CASE_SYMBOLS], value = 0;
  for (int i = 0; i < CASE_SYMBOLS; i++) symbols[i] = n;
  cr_assert(nn_dim_eval(d, symbols, &value));
  return value;
}

static bool takes_over(const nn_program *p, const nn_place *a, const nn_place *b) {
  const nn_step *step = &p->steps[b->first];
  for (int i = 0; i < step->nargs; i++)
    if (step->args[i] == b && step->in_place && step->in_place[i] >= 0 && step->args[step->in_place[i]] == a)
      return true;
  return false;
}

static bool is_within(const nn_place *part, const nn_place *whole) {
  for (; part; part = part->within)
    if (part == whole) return true;
  return false;
}

/* A part of a concat lives as long as the concat. */
static int last_use(const nn_place *place) {
  int last = place->last;
  for (; place->within; place = place->within)
    if (place->within->last > last) last = place->within->last;
  return last;
}

static void check_plan(const nn_program *p, int64_t n, uint64_t seed) {
  int64_t total = value_at(p->workspace_bytes, n);
  for (int i = 0; i < p->nplaces; i++) {
    const nn_place *a = p->places[i];
    if (a->kind != NN_PLACE_WORKSPACE || a->first < 0) continue;
    int64_t begin = value_at(a->offset_dim, n), end = begin + value_at(a->bytes, n);
    cr_assert(begin >= 0 && (a->within || begin % 64 == 0) && end <= total, "seed %llu", (unsigned long long)seed);
    for (int k = 0; k < p->nplaces; k++) {
      const nn_place *b = p->places[k];
      if (is_within(a, b) || b->kind != NN_PLACE_WORKSPACE || b->first < a->first || b->first > last_use(a)) continue;
      int64_t from = value_at(b->offset_dim, n), to = from + value_at(b->bytes, n);
      if (is_within(b, a)) {
        cr_assert(from >= begin && to <= end, "seed %llu: a part is not in the whole", (unsigned long long)seed);
        continue;
      }
      bool is_apart = to <= begin || end <= from;
      cr_assert(is_apart || (b->first == a->last && takes_over(p, a, b)), "seed %llu: places overlap",
                (unsigned long long)seed);
    }
  }
}

static void try_plans(uint64_t first, int count, const random_options *o, int64_t n) {
  nn_target t = case_target();
  for (uint64_t seed = first; seed < first + (uint64_t)count; seed++) {
    nn_module *m = random_graph(seed, o);
    nn_program *p = nn_program_build(m, &t);
    cr_assert(p && nn_plan_memory(p, &t) == NN_OK);
    check_plan(p, n, seed);
    cr_assert(p->planned_peak <= value_at(p->workspace_bytes, n) || o->symbolic);
    nn_module_free(m);
  }
}

Test(plan, static_places_do_not_overlap) { try_plans(7000, 60, &(random_options){.nops = 40}, 1); }
Test(plan, symbolic_places_do_not_overlap) {
  try_plans(8000, 30, &(random_options){.nops = 25, .symbolic = true}, 2);
  try_plans(8000, 30, &(random_options){.nops = 25, .symbolic = true}, 9);
}

Test(plan, a_chain_of_pointwise_ops_works_in_one_place) {
  run_case c = case_open("nncc 1\ngraph @main(%x: f32[1000]) -> (f32[1000]) {\n  %0 = neg %x : f32[1000]\n  %1 = abs "
                         "%0 : f32[1000]\n  %2 = neg %1 : f32[1000]\n"
                         "  %3 = exp %2 : f32[1000]\n  return %3\n}\n",
                         false, 1);
  cr_assert_lt(value_at(c.p->workspace_bytes, 1), 2 * 4000);
  cr_assert_eq(c.p->planned_peak, 4000);
  cr_assert_eq(c.p->planned_sum, 12000);
  case_run(&c);
  for (int k = 0; k < 1000; k++) cr_assert(fabs(case_out(&c, 0, k) - exp(-k)) < 1e-6);
  case_close(&c);
}

Test(plan, an_operand_read_elsewhere_keeps_its_place) {
  run_case c = case_open("nncc 1\ngraph @main(%x: f32[30,30]) -> (f32[30,30]) {\n  %0 = neg %x : f32[30,30]\n  %1 = "
                         "transpose %0 {perm=[1,0]} : f32[30,30]\n"
                         "  %2 = add %1, %0 : f32[30,30]\n  %3 = neg %2 : f32[30,30]\n  return %3\n}\n",
                         true, 1);
  case_run(&c);
  for (int k = 0; k < 900; k++) cr_assert_eq(case_out(&c, 0, k), k + k % 30 * 30 + k / 30);
  case_close(&c);
}

Test(plan, several_results_may_share_the_operands_place) {
  run_case c = case_open("nncc 1\ngraph @main(%x: f32[40]) -> (f32[40], f32[40]) {\n  %0 = neg %x : f32[40]\n  %r, %s "
                         "= fused %0 {body=@k} : f32[40], f32[40]\n"
                         "  %1 = neg %r : f32[40]\n  %2 = neg %s : f32[40]\n  return %1, %2\n}\n"
                         "graph @k(%a: f32[40]) -> (f32[40], f32[40]) {\n  %0 = exp %a : f32[40]\n  %1 = abs %a : "
                         "f32[40]\n  return %0, %1\n}\n",
                         false, 1);
  case_run(&c);
  cr_assert_eq(c.code, 0);
  for (int k = 0; k < 40; k++) cr_assert(case_out(&c, 1, k) == -k && fabs(case_out(&c, 0, k) + exp(-k)) < 1e-6);
  case_close(&c);
}

Test(
    plan,
    results_of_a_nest_may_share_the_operands_place) { /* seed 4387: a residual was read after it had been overwritten */
  run_case c = case_open("nncc 1\ngraph @main(%x: f32[6,4]) -> (f32[6,4], f32[6,4]) {\n  %0 = neg %x : f32[6,4]\n  %1 "
                         "= abs %x : f32[6,4]\n"
                         "  %r, %s = fused %0, %1 {body=@k} : f32[6,4], f32[6,4]\n  %2 = neg %r : f32[6,4]\n  %3 = neg "
                         "%s : f32[6,4]\n  return %2, %3\n}\n"
                         "graph @k(%a: f32[6,4], %b: f32[6,4]) -> (f32[6,4], f32[6,4]) {\n  %0 = cum_sum %a {axis=1} : "
                         "f32[6,4]\n  %1 = neg %0 : f32[6,4]\n"
                         "  %2 = add %1, %b : f32[6,4]\n  return %1, %2\n}\n",
                         false, 1);
  case_run(&c);
  cr_assert_eq(c.code, 0);
  for (int k = 0; k < 24; k++) {
    int sum = 0;
    for (int i = 0; i <= k % 4; i++) sum += k / 4 * 4 + i;
    cr_assert(case_out(&c, 0, k) == -sum && case_out(&c, 1, k) == -(sum + k));
  }
  case_close(&c);
}

Test(plan, operands_of_a_concat_are_made_in_its_place) {
  run_case c = case_open("nncc 1\ngraph @main(%x: f32[1,3,50]) -> (f32[1,9,50]) {\n  %0 = neg %x : f32[1,3,50]\n"
                         "  %1 = abs %x : f32[1,3,50]\n  %2 = concat %0, %1 {axis=1} : f32[1,6,50]\n"
                         "  %3 = concat %x, %2 {axis=1} : f32[1,9,50]\n  %4 = neg %3 : f32[1,9,50]\n  return %4\n}\n",
                         false, 1);
  cr_assert_eq(c.p->nsteps, 4); /* neg, abs, copy of %x, neg */
  case_run(&c);
  cr_assert_eq(c.code, 0);
  for (int k = 0; k < 450; k++) {
    double x = k % 150;
    cr_assert_eq(case_out(&c, 0, k), k < 150 || k >= 300 ? -x : x);
  }
  case_close(&c);
}

Test(plan, an_operand_of_two_concats_is_copied_once) {
  run_case c = case_open(
      "nncc 1\ngraph @main(%x: f32[4]) -> (f32[8], f32[8], f32[4]) {\n  %0 = neg %x : f32[4]\n"
      "  %1 = abs %x : f32[4]\n  %2 = concat %0, %1 {axis=0} : f32[8]\n  %3 = concat %1, %1 {axis=0} : f32[8]\n"
      "  %4 = neg %2 : f32[8]\n  %5 = neg %3 : f32[8]\n  %6 = neg %0 : f32[4]\n  return %4, %5, %6\n}\n",
      false, 1);
  case_run(&c);
  cr_assert_eq(c.code, 0);
  for (int k = 0; k < 8; k++) {
    cr_assert_eq(case_out(&c, 0, k), k < 4 ? k : -(k - 4));
    cr_assert_eq(case_out(&c, 1, k), -(k % 4));
  }
  for (int k = 0; k < 4; k++) cr_assert_eq(case_out(&c, 2, k), k);
  case_close(&c);
}
