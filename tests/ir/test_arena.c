/* Arena, growable arrays, maps and diagnostics. */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "ir/ir.h"

Test(arena, memory_is_zeroed_and_aligned_whatever_the_size) {
  nn_arena *arena = nn_arena_new();
  for (size_t size = 0; size < 100000; size = size * 3 + 1) {
    unsigned char *bytes = nn_alloc(arena, size);
    cr_assert_eq((uintptr_t)bytes % 16, 0u);
    for (size_t i = 0; i < size; i++) cr_assert_eq(bytes[i], 0);
    memset(bytes, 0xff, size);
  }
  nn_arena_free(arena);
  nn_arena_free(NULL);
}

Test(arena, push_keeps_what_was_pushed) {
  nn_arena *arena = nn_arena_new();
  int *items = NULL, count = 0, cap = 0;
  for (int i = 0; i < 1000; i++) NN_PUSH(arena, items, count, cap, i * 7);
  cr_assert_eq(count, 1000);
  for (int i = 0; i < 1000; i++) cr_assert_eq(items[i], i * 7);
  nn_arena_free(arena);
}

Test(arena, sprintf_has_room_for_any_length) {
  nn_arena *arena = nn_arena_new();
  char *text = nn_sprintf(arena, "%05d|%s|%3000s", 42, "x", "y");
  cr_assert_eq(strlen(text), 5u + 1 + 1 + 1 + 3000);
  nn_arena_free(arena);
}

Test(map, finds_every_key_and_no_other) {
  nn_arena *arena = nn_arena_new();
  nn_map *map = nn_map_new(arena);
  static int values[5000];
  cr_assert_null(nn_map_get(map, "k0"));
  for (int i = 0; i < 5000; i++) {
    nn_map_put(map, nn_sprintf(arena, "k%d", i), &values[i]);
    nn_map_put_ptr(map, &values[i], &values[4999 - i]);
  }
  for (int i = 0; i < 5000; i++) {
    cr_assert_eq(nn_map_get(map, nn_sprintf(arena, "k%d", i)), &values[i]);
    cr_assert_eq(nn_map_get_ptr(map, &values[i]), &values[4999 - i]);
  }
  cr_assert_null(nn_map_get(map, "k5000"));
  cr_assert_null(nn_map_get(map, ""));
  nn_map_put(map, "k7", &values[0]);
  cr_assert_eq(nn_map_get(map, "k7"), &values[0]);
  nn_arena_free(arena);
}

static char *printed(const nn_diag *item) {
  char *text = NULL;
  size_t length = 0;
  FILE *out = open_memstream(&text, &length);
  nn_diag_print(out, item);
  fclose(out);
  return text;
}

Test(diag, text_names_file_node_and_op) {
  nn_module *m = nn_module_new("net.onnx");
  cr_assert_eq(nn_report(&m->diags, NN_ERROR, "Conv_0", "Conv", "fix it", "found %d, expected %d", 3, 4), NN_FAIL);
  cr_assert_eq(nn_report(&m->diags, NN_WARNING, NULL, "Conv", NULL, "odd"), NN_OK);
  cr_assert_eq(m->diags.nerrors, 1);
  char *first = printed(&m->diags.items[0]), *second = printed(&m->diags.items[1]);
  cr_assert_str_eq(first, "net.onnx: node 'Conv_0' (Conv): found 3, expected 4\n  hint: fix it\n");
  cr_assert_str_eq(second, "net.onnx: Conv: odd\n");
  free(first);
  free(second);
  nn_module_free(m);
  nn_module_free(NULL);
}

Test(type, bytes_of_packed_types_and_overflow) {
  cr_assert_eq(nn_dtype_bytes(NN_I4, 3), 2u);
  cr_assert_eq(nn_dtype_bytes(NN_U2, 5), 2u);
  cr_assert_eq(nn_dtype_bytes(NN_U2, 0), 0u);
  cr_assert_eq(nn_dtype_bytes(NN_C128, 2), 32u);
  cr_assert_eq(nn_dtype_bytes(NN_F64, UINT64_MAX / 4), SIZE_MAX);
  cr_assert_gt(nn_dtype_bytes(NN_I4, UINT64_MAX), SIZE_MAX / 2 - 1);
}

Test(type, every_dtype_is_found_by_name_and_number) {
  for (int t = 0; t < NN_DTYPE_COUNT; t++) {
    nn_dtype found;
    const char *name = nn_dtype_name((nn_dtype)t);
    cr_assert(nn_dtype_from_name(name, strlen(name), &found) && (int)found == t);
    cr_assert(nn_dtype_from_onnx(nn_dtype_onnx((nn_dtype)t), &found) && (int)found == t);
    cr_assert_not(nn_dtype_from_name(name, strlen(name) - 1, &found) && (int)found == t);
  }
}

Test(type, count_of_static_types) {
  nn_module *m = nn_module_new(NULL);
  int64_t count, big[] = {INT64_C(1) << 40, INT64_C(1) << 40, 0};
  cr_assert(nn_type_static_count(nn_type_static(m, NN_F32, 0, NULL), &count) && count == 1);
  cr_assert(nn_type_static_count(nn_type_static(m, NN_F32, 3, big), &count) && count == 0);
  cr_assert_not(nn_type_static_count(nn_type_static(m, NN_F32, 2, big), &count));
  cr_assert(nn_dim_is_overflow(nn_type_count(m, nn_type_static(m, NN_F32, 2, big))));
  cr_assert(nn_dim_is(nn_type_count(m, nn_type_static(m, NN_F32, 3, big)), 0));
  nn_module_free(m);
}

Test(tensor, what_cannot_be_made_is_reported) {
  nn_module *m = nn_module_new(NULL);
  int64_t big[] = {INT64_C(1) << 40, INT64_C(1) << 40}, negative[] = {-1}, fine[] = {3};
  nn_dim symbol = nn_dim_symbol(m, "N");
  cr_assert_null(nn_tensor_new(m, nn_type_static(m, NN_F32, 2, big)));
  cr_assert_null(nn_tensor_new(m, nn_type_static(m, NN_F32, 1, negative)));
  cr_assert_null(nn_tensor_new(m, nn_type_make(m, NN_F32, 1, &symbol)));
  cr_assert_eq(m->diags.nerrors, 3);
  nn_tensor *t = nn_tensor_new(m, nn_type_static(m, NN_I4, 1, fine));
  cr_assert(t && t->size_bytes == 2 && nn_load_i64(NN_I4, t->data, 2) == 0);
  nn_module_free(m);
}
