/* Diagnostics, progress and time, as a person at a terminal wants them. */
#include "tools/tools.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
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

/* The line is written from a signal handler, so its text is prepared beforehand. */
static char progress_text[160];
static volatile sig_atomic_t progress_shown;

static void show_progress(int signal_number) {
  (void)signal_number;
  progress_shown = 1;
  ssize_t ignored = write(STDERR_FILENO, progress_text, strlen(progress_text));
  (void)ignored;
}

void progress_start(const char *what) {
  if (!isatty(STDERR_FILENO)) return;
  snprintf(progress_text, sizeof progress_text, "\r%s ...", what);
  progress_shown = 0;
  struct sigaction action = {.sa_handler = show_progress, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &action, NULL);
  alarm(2);
}

void progress_end(void) {
  alarm(0);
  if (progress_shown) fprintf(stderr, "\r%*s\r", (int)strlen(progress_text), "");
  progress_shown = 0;
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
