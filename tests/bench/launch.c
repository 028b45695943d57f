/* Measures how a program starts: runs it, sends it lines, and notes when its answers come.

     launch N COMMAND...   writes "run 1" and "run N" to the command, which is a peer (peer.c)

   Prints the milliseconds from its start to the answer to the first run, the median of the N runs, and the
   process's peak memory in KB. A program of its own, since a large parent's start of a child takes milliseconds and
   shows in the child's peak. */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { LINE_BYTES = 1 << 20, MAX_RUNS = 10000 };

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

_Noreturn static void die(const char *what) {
  fprintf(stderr, "launch: %s\n", what);
  exit(1);
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(char *line) {
  static double times[MAX_RUNS];
  int n = 0;
  for (char *t = strtok(line, " \n"); t && n < MAX_RUNS; t = strtok(NULL, " \n")) times[n++] = atof(t);
  if (n == 0) die("no times");
  qsort(times, (size_t)n, sizeof *times, by_value);
  return times[n / 2];
}

static pid_t start(char **command, int in, int out) {
  posix_spawn_file_actions_t actions;
  pid_t pid;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in, 0);
  posix_spawn_file_actions_adddup2(&actions, out, 1);
  if (posix_spawn(&pid, command[0], &actions, NULL, command, environ) != 0) die("cannot start the command");
  return pid;
}

int main(int argc, char **argv) {
  int in[2], out[2], length;
  char request[64];
  static char line[LINE_BYTES];
  struct rusage usage;
  if (argc < 3 || pipe(in) != 0 || pipe(out) != 0) die("usage: launch N COMMAND...");
  length = snprintf(request, sizeof request, "run 1\nrun %d\n", atoi(argv[1]));
  if (write(in[1], request, (size_t)length) != length) die("cannot write");
  close(in[1]);
  double begin = now_ms();
  pid_t pid = start(argv + 2, in[0], out[1]);
  close(out[1]);
  FILE *answers = fdopen(out[0], "r");
  if (!answers || !fgets(line, sizeof line, answers) || !fgets(line, sizeof line, answers)) die("no answer");
  double first_ms = now_ms() - begin;
  if (!fgets(line, sizeof line, answers)) die("no second answer");
  int status = 0;
  if (wait4(pid, &status, 0, &usage) != pid || status != 0) die("the command failed");
  printf("%.3f %.3f %ld\n", first_ms, median(line), usage.ru_maxrss);
  return 0;
}
