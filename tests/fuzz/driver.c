/* A plain driver for the fuzz targets, where libFuzzer is not: mutates seed files for a while.

     fuzz_X SECONDS SEED FILE...     (SECONDS 0: runs the files as they are)

   A long run by hand: cmake --preset asan && cmake --build build/asan, then in an empty folder
     .../build/asan/tests/fuzz_onnx 600 1 /usr/share/libonnx-testdata/data/node/test_*_expanded/model.onnx
   With clang, the preset fuzz gives the same targets libFuzzer's main (fuzz_onnx -max_total_time=600 FOLDER).

   Mutations: flipped bits, set bytes, removed, repeated and swapped stretches, spliced files. The seed is printed and the
   input that is being run lies in fuzz_last.bin, so a crash can be repeated. An input that takes longer than two seconds of
   processor time is a failure, too. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SLOW_S = 2 };

typedef struct bytes {
  uint8_t *data;
  size_t size;
} bytes;

static uint64_t state;

static uint64_t draw(uint64_t limit) {
  uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return limit ? (z ^ (z >> 31)) % limit : 0;
}

static bytes read_file(const char *path) {
  bytes b = {NULL, 0};
  FILE *f = fopen(path, "rb");
  if (!f) return b;
  fseek(f, 0, SEEK_END);
  long size = ftell(f);
  rewind(f);
  b.data = malloc(size > 0 ? (size_t)size : 1);
  if (b.data) b.size = fread(b.data, 1, size > 0 ? (size_t)size : 0, f);
  fclose(f);
  return b;
}

static void mutate(bytes *b, const bytes *other) {
  size_t at = draw(b->size), length = 1 + draw(b->size < 64 ? b->size : 64);
  if (at + length > b->size) length = b->size - at;
  switch (draw(6)) {
    case 0: b->data[at] ^= (uint8_t)(1u << draw(8)); break;
    case 1: b->data[at] = (uint8_t)draw(draw(2) ? 256 : 10); break; /* sizes, axes and types are small numbers */
    case 2: b->data[at] = draw(2) ? 0xff : 0x80; break;
    case 3:
      memmove(b->data + at, b->data + at + length, b->size - at - length);
      b->size -= length;
      break;
    case 4: memmove(b->data + draw(b->size - length + 1), b->data + at, length); break;
    default:
      if (other->size == 0) break;
      size_t from = draw(other->size), n = length < other->size - from ? length : other->size - from;
      memcpy(b->data + at, other->data + from, n);
  }
}

static void run_one(const uint8_t *data, size_t size) {
  clock_t start = clock();
  LLVMFuzzerTestOneInput(data, size);
  double s = (double)(clock() - start) / CLOCKS_PER_SEC;
  if (s <= SLOW_S) return;
  fprintf(stderr, "slow: %.1f s, expected at most %d s\n", s, SLOW_S);
  exit(1);
}

static void run_mutant(const bytes *seed, const bytes *other) {
  bytes b = {malloc(seed->size), seed->size};
  if (!b.data) exit(70);
  memcpy(b.data, seed->data, seed->size);
  for (uint64_t n = 1 + draw(8); n > 0 && b.size > 0; n--) mutate(&b, other);
  FILE *f = fopen("fuzz_last.bin", "wb");
  if (f) {
    fwrite(b.data, 1, b.size, f);
    fclose(f);
  }
  uint8_t *exact = malloc(b.size ? b.size : 1); /* so that the sanitizer sees reads past the end */
  if (!exact) exit(70);
  memcpy(exact, b.data, b.size);
  run_one(exact, b.size);
  free(exact);
  free(b.data);
}

int main(int argc, char **argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: %s SECONDS SEED FILE...\n", argv[0]);
    return 2;
  }
  int nfiles = argc - 3;
  bytes *files = calloc((size_t)nfiles, sizeof *files);
  if (!files) return 70;
  for (int i = 0; i < nfiles; i++) files[i] = read_file(argv[i + 3]);
  for (int i = 0; i < nfiles; i++) run_one(files[i].data, files[i].size);
  state = strtoull(argv[2], NULL, 10);
  time_t end = time(NULL) + atol(argv[1]);
  long runs = 0;
  while (time(NULL) < end) {
    const bytes *seed = &files[draw((uint64_t)nfiles)];
    if (seed->size == 0) continue;
    run_mutant(seed, &files[draw((uint64_t)nfiles)]);
    runs++;
  }
  printf("%ld mutants of %d files, seed %s: clean\n", runs, nfiles, argv[2]);
  for (int i = 0; i < nfiles; i++) free(files[i].data);
  free(files);
  remove("fuzz_last.bin");
  return 0;
}
