/* Diagnostics, progress and time, as a person at a terminal wants them. */
#include "tools/tools.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int print_diagnostics(FILE *out, const nncc_model *model) {
  static const char *const names[] = {"error", "warning", "note"};
  static const char *const colours[] = {"\033[31m", "\033[33m", "\033[36m"};
  bool colour = is_terminal(out);
  int errors = 0;
  for (int i = 0; i < nncc_model_diagnostics(model); i++) {
    int severity;
    const char *text = nncc_model_diagnostic(model, i, &severity);
    errors += severity == 0;
    fprintf(out, "%s%s%s: %s\n", colour ? colours[severity] : "", names[severity], colour ? "\033[0m" : "", text);
  }
  return errors;
}

/* The line is written from a signal handler, once a second after the first two: with write() alone. */
enum { PATIENCE_S = 2 };
static char progress_what[64];
static volatile sig_atomic_t progress_seconds;

static void write_text(const char *text) {
  ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
  (void)ignored;
}

static void show_progress(int signal_number) {
  (void)signal_number;
  char digits[16], *at = digits + sizeof digits - 1;
  int error = errno;
  if (++progress_seconds < PATIENCE_S) return;
  *at = 0;
  for (unsigned n = (unsigned)progress_seconds; n > 0; n /= 10) *--at = (char)('0' + n % 10);
  write_text("\r");
  write_text(progress_what);
  write_text(" ... ");
  write_text(at);
  write_text(" s");
  errno = error;
}

static void tick(long seconds) {
  const struct itimerval every = {{seconds, 0}, {seconds, 0}};
  setitimer(ITIMER_REAL, &every, NULL);
}

void progress_start(const char *what) {
  if (!isatty(STDERR_FILENO)) return;
  snprintf(progress_what, sizeof progress_what, "%s", what);
  progress_seconds = 0;
  struct sigaction action = {.sa_handler = show_progress, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &action, NULL);
  tick(1);
}

void progress_end(void) {
  if (progress_what[0]) tick(0);
  if (progress_seconds >= PATIENCE_S) write_text("\r\033[K");
  progress_what[0] = 0;
  progress_seconds = 0;
}

double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

double peak_memory_mb(void) {
  struct rusage usage;
  return getrusage(RUSAGE_SELF, &usage) == 0 ? (double)usage.ru_maxrss / 1024 : 0;
}
