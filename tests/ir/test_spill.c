/* The file where constants lie while compiling: ranges do not overlap, come back, and hold what was written. */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "ir/ir.h"

static const char path[] = "/tmp/nncc-test-spill";

static nn_spill *open_spill(int64_t base, char *name) {
  snprintf(name, 64, "%s-%ld-%lld", path, (long)getpid(), (long long)base);
  nn_spill *s = nn_spill_open(name, base);
  cr_assert(s);
  return s;
}

static int64_t offset_of(const nn_spill *s, const void *memory) {
  int64_t offset = -1;
  cr_assert(nn_spill_find(s, memory, &offset));
  return offset;
}

Test(spill, ranges_come_back_and_gaps_are_filled) {
  char name[64];
  nn_spill *s = open_spill(64, name);
  unsigned char *a = nn_spill_take(s, 100000), *b = nn_spill_take(s, 50000), *c = nn_spill_take(s, 1);
  cr_assert(a && b && c);
  int64_t first = offset_of(s, a), second = offset_of(s, b), third = offset_of(s, c);
  cr_expect(first % 64 == 0 && second >= first + 100000 && third >= second + 50000);
  nn_spill_give(s, b);
  cr_expect_not(nn_spill_find(s, b, &(int64_t){0}));
  cr_expect_eq(nn_spill_reserve(s, 10), 0, "before the first page is room for what needs no mapping");
  cr_expect_eq(nn_spill_reserve(s, first - 64), 64);
  int64_t large = nn_spill_reserve(s, 40000);
  cr_expect(large % 64 == 0 && large >= first + 100000 && large + 40000 <= third);
  unsigned char *d = nn_spill_take(s, 4096);
  cr_expect(offset_of(s, d) > first);
  cr_expect_eq(offset_of(s, d + 5), offset_of(s, d) + 5);
  nn_spill_close(s);
  cr_expect_neq(access(name, F_OK), 0, "a file that nobody took is removed");
}

Test(spill, the_file_holds_what_was_written) {
  char name[64], to[80], found[3000];
  nn_spill *s = open_spill(4096, name);
  unsigned char *garbage = nn_spill_take(s, 8192), *kept = nn_spill_take(s, 3000);
  memset(garbage, 7, 8192);
  memset(kept, 9, 3000);
  nn_pages_rest(kept, 3000);
  cr_expect_eq(kept[2999], 9);
  nn_spill_give(s, garbage);
  int64_t at = offset_of(s, kept);
  snprintf(to, sizeof to, "%s.out", name);
  cr_assert(nn_spill_move(s, to));
  cr_expect_not(nn_spill_move(s, to), "only once");
  nn_spill_finish(s);
  cr_expect_null(nn_spill_take(s, 10));
  FILE *f = fopen(to, "rb");
  cr_assert(f);
  cr_assert_eq(fseek(f, 4096, SEEK_SET), 0);
  cr_expect_eq(fgetc(f), 0, "what was given back is zeros");
  cr_assert_eq(fseek(f, 4096 + (long)at, SEEK_SET), 0);
  cr_assert_eq(fread(found, 1, sizeof found, f), sizeof found);
  cr_expect_arr_eq(found, kept, sizeof found);
  fclose(f);
  unlink(to);
  nn_spill_close(s);
}

Test(spill, gaps_are_closed) {
  char name[64];
  nn_spill *s = open_spill(64, name);
  unsigned char *a = nn_spill_take(s, 300000), *b = nn_spill_take(s, 10000), *c = nn_spill_take(s, 200000),
                *d = nn_spill_take(s, 90000);
  cr_assert(a && b && c && d);
  for (int i = 0; i < 200000; i++) c[i] = (unsigned char)(i * 7);
  memset(d, 5, 90000);
  int64_t first = offset_of(s, a);
  nn_spill_give(s, a);
  nn_spill_compact(s);
  cr_expect_eq(offset_of(s, d), first);
  cr_expect(offset_of(s, c) > first && offset_of(s, c) < offset_of(s, b));
  for (int i = 0; i < 200000; i++) cr_assert_eq(c[i], (unsigned char)(i * 7));
  for (int i = 0; i < 90000; i++) cr_assert_eq(d[i], 5);
  int64_t before = offset_of(s, c);
  nn_spill_give(s, d);
  nn_spill_compact(s);
  cr_expect(offset_of(s, c) < before && before < offset_of(s, c) + 200000, "it moved to a place that overlaps its own");
  for (int i = 0; i < 200000; i++) cr_assert_eq(c[i], (unsigned char)(i * 7));
  nn_spill_close(s);
}

Test(spill, an_unwritable_folder_gives_none) { cr_expect_null(nn_spill_open("/nonexistent/folder/file", 64)); }
