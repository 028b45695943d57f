/* Archives and shared objects around a finished object file. An archive is written here: its format is
   three headers, and this way it is the same bytes each time. A shared object is the C compiler's work. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "codegen/llvm.h"

extern char **environ;

/* ---- archives ------------------------------------------------------------------------------------------------------
 */

/* name, date 0, owner 0, mode 644, size: 60 characters. */
static bool write_member_header(FILE *out, const char *name, uint64_t size) {
  return fprintf(out, "%-16s%-12d%-6d%-6d%-8s%-10llu`\n", name, 0, 0, 0, "100644", (unsigned long long)size) == 60;
}

static void write_big_endian(FILE *out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) fputc((int)(value >> shift & 0xff), out);
}

/* The index that linkers ask for: count, each symbol's member offset, the names. */
static void write_index(FILE *out, const char *const *symbols, int nsymbols) {
  uint64_t names = 0;
  for (int i = 0; i < nsymbols; i++) names += strlen(symbols[i]) + 1;
  uint64_t size = 4 + 4 * (uint64_t)nsymbols + names, padded = size + size % 2;
  write_member_header(out, "/", padded);
  write_big_endian(out, (uint32_t)nsymbols);
  for (int i = 0; i < nsymbols; i++) write_big_endian(out, (uint32_t)(8 + 60 + padded));
  for (int i = 0; i < nsymbols; i++) fwrite(symbols[i], 1, strlen(symbols[i]) + 1, out);
  if (size % 2) fputc(0, out);
}

static bool copy_file(FILE *from, FILE *to, uint64_t *size) {
  char buffer[1 << 16];
  size_t n;
  *size = 0;
  while ((n = fread(buffer, 1, sizeof buffer, from)) > 0) {
    if (fwrite(buffer, 1, n, to) != n) return false;
    *size += n;
  }
  return !ferror(from);
}

static bool write_archive(FILE *object, uint64_t size, FILE *out, const char *const *symbols, int nsymbols) {
  uint64_t copied;
  fputs("!<arch>\n", out);
  write_index(out, symbols, nsymbols);
  if (!write_member_header(out, "model.o/", size) || !copy_file(object, out, &copied) || copied != size) return false;
  if (size % 2) fputc('\n', out);
  return fflush(out) == 0 && !ferror(out);
}

nn_status nn_archive_write(const char *object, nn_out_file to, const char *const *symbols, int nsymbols,
                           nn_diags *diags) {
  struct stat st;
  FILE *in = fopen(object, "rb"), *out = in ? fopen(to.temporary, "wb") : NULL;
  bool ok = in && out && fstat(fileno(in), &st) == 0;
  bool is_large = ok && (uint64_t)st.st_size > UINT64_C(9999999999); /* ten digits */
  if (ok && !is_large) ok = write_archive(in, (uint64_t)st.st_size, out, symbols, nsymbols);
  nn_status status = is_large ? nn_report(diags, NN_ERROR, NULL, NULL, "put the weights into a file of their own",
                                          "'%s': an archive member has less than 10^10 bytes", to.path)
                     : ok     ? NN_OK
                              : nn_out_failed(diags, to);
  if (in) fclose(in);
  if (out && fclose(out) != 0 && status == NN_OK) status = nn_out_failed(diags, to);
  return status;
}

/* ---- shared objects
 * -------------------------------------------------------------------------------------------------- */

/* 0 if the program ran well, -1 if there is none of that name, else what it returned. */
static int run_program(const char *const *args) {
  pid_t pid;
  int status;
  if (posix_spawnp(&pid, args[0], NULL, NULL, (char *const *)(uintptr_t)args, environ) != 0) return -1;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return 1;
  if (!WIFEXITED(status)) return 1;
  return WEXITSTATUS(status) == 127 ? -1 : WEXITSTATUS(status);
}

static bool is_host(const nn_target *t) {
  char *host = LLVMGetDefaultTargetTriple();
  size_t n = strcspn(host, "-");
  bool same = strncmp(host, t->triple, n) == 0 && t->triple[n] == '-';
  LLVMDisposeMessage(host);
  return same;
}

nn_status nn_shared_link(const char *object, nn_out_file to, const nn_target *t, nn_diags *diags) {
  const char *const native[] = {"cc", "-shared", "-o", to.temporary, object, NULL};
  const char *const cross[] = {"ld.lld", "-shared", "-o", to.temporary, object, NULL};
  const char *const cross19[] = {"ld.lld-19", "-shared", "-o", to.temporary, object, NULL};
  const char *const *const all[] = {is_host(t) ? native : cross, cross19};
  for (size_t i = 0; i < 2; i++) {
    int result = run_program(all[i]);
    if (result == 0) return NN_OK;
    if (result > 0) return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "'%s' failed to link '%s'", all[i][0], to.path);
  }
  return nn_report(diags, NN_ERROR, NULL, NULL,
                   "install a C compiler, or write an object file (.o) and link it yourself",
                   "'%s': no program to link it with: %s", to.path, all[0][0]);
}
