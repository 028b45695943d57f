/* Times one model in one engine, on demand, so that a driver can interleave engines.

     peer LIBRARY MODEL THREADS NAME=FILE:DTYPE:d0,d1,... ...

   LIBRARY is what the engine needs (a compiled model's name; ONNX Runtime's shared object). Prints "ready" with the
   milliseconds that opening took, then obeys lines on stdin:
     run N       runs N times; prints the N times in ms
     cpu N       the same in CPU time of the process, for a machine that is shared
     write DIR   writes the outputs of the last run as DIR/<index>.bin; prints NAME:DTYPE:d0,d1,... of each */
#include "peer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Noreturn void peer_die(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fputs("peer: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
  exit(1);
}

size_t peer_tensor_bytes(const peer_tensor *t) {
  size_t n = t->dtype == 7 ? 8 : 4;
  for (int i = 0; i < t->rank; i++) n *= (size_t)t->dims[i];
  return n;
}

static double now_ms(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void read_file(const char *path, void *data, size_t size) {
  FILE *f = fopen(path, "rb");
  if (!f || fread(data, 1, size, f) != size) peer_die("cannot read %zu bytes of %s", size, path);
  fclose(f);
}

static void write_file(const char *folder, int index, const void *data, size_t size) {
  char path[4096];
  if (snprintf(path, sizeof path, "%s/%d.bin", folder, index) >= (int)sizeof path) peer_die("%s: too long", folder);
  FILE *f = fopen(path, "wb");
  if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0) peer_die("cannot write %s", path);
}

/* NAME=FILE:DTYPE:DIMS; cuts the argument into its parts. */
static peer_tensor read_input(char *spec) {
  char *file = strchr(spec, '='), *dtype = strrchr(spec, ':');
  if (!file || !dtype) peer_die("expected NAME=FILE:DTYPE:DIMS, found %s", spec);
  char *dims = dtype + 1;
  *dtype = 0;
  dtype = strrchr(file, ':');
  if (!dtype) peer_die("expected NAME=FILE:DTYPE:DIMS, found %s", spec);
  *file++ = 0;
  *dtype++ = 0;
  peer_tensor t = {.name = spec, .dtype = atoi(dtype)};
  for (char *d = strtok(dims, ","); d && t.rank < PEER_MAX_RANK; d = strtok(NULL, ",")) t.dims[t.rank++] = atoll(d);
  size_t size = peer_tensor_bytes(&t);
  t.data = aligned_alloc(64, (size + 63) / 64 * 64);
  if (!t.data) peer_die("out of memory");
  read_file(file, t.data, size);
  return t;
}

static void time_runs(int n, clockid_t clock) {
  for (int i = 0; i < n; i++) {
    double start = now_ms(clock);
    engine_run();
    printf(" %.6f", now_ms(clock) - start);
  }
  printf("\n");
}

static void write_outputs(const char *folder) {
  peer_tensor out[PEER_MAX_IO];
  int n = engine_outputs(out);
  for (int i = 0; i < n; i++) {
    write_file(folder, i, out[i].data, peer_tensor_bytes(&out[i]));
    printf(" %s:%d:", out[i].name, out[i].dtype);
    for (int k = 0; k < out[i].rank; k++) printf("%s%lld", k ? "," : "", (long long)out[i].dims[k]);
  }
  printf("\n");
}

int main(int argc, char **argv) {
  if (argc < 4 || argc - 4 > PEER_MAX_IO) peer_die("usage: peer LIBRARY MODEL THREADS NAME=FILE:DTYPE:DIMS...");
  peer_tensor in[PEER_MAX_IO];
  for (int i = 4; i < argc; i++) in[i - 4] = read_input(argv[i]);
  double start = now_ms(CLOCK_MONOTONIC);
  engine_open(argv[1], argv[2], atoi(argv[3]), in, argc - 4);
  printf("ready %.3f\n", now_ms(CLOCK_MONOTONIC) - start);
  fflush(stdout);
  char line[4096];
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = 0;
    if (strncmp(line, "run ", 4) == 0)
      time_runs(atoi(line + 4), CLOCK_MONOTONIC);
    else if (strncmp(line, "cpu ", 4) == 0)
      time_runs(atoi(line + 4), CLOCK_PROCESS_CPUTIME_ID);
    else if (strncmp(line, "write ", 6) == 0)
      write_outputs(line + 6);
    else
      peer_die("expected run, cpu or write, found %s", line);
    fflush(stdout);
  }
  return 0;
}
