/* Tensors that are made while compiling lie in the file that becomes the output, where they are to be in the end:
   made once, written never again, and out of memory as soon as nobody looks at them. A range of the file is taken
   and mapped for each; it is given back when the tensor is gone, and serves the next one. What a plan writes
   into the file later only reserves its range. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ir/ir.h"

typedef struct range {
  int64_t begin, end;    /* in the file */
  unsigned char *memory; /* NULL: only reserved */
} range;

struct nn_spill {
  nn_arena *arena;
  const char *path;
  bool is_open, is_moved;
  int fd;
  int64_t base, page;
  range *ranges; /* in order */
  int nranges, ranges_cap;
  int full; /* no gap before this range is worth a look */
};

enum { ALIGN = 64 };

nn_spill *nn_spill_open(const char *path, int64_t base) {
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  nn_arena *arena = fd >= 0 ? nn_arena_new() : NULL;
  if (!arena) {
    if (fd >= 0) close(fd);
    return NULL;
  }
  nn_spill *s = NN_NEW(arena, nn_spill);
  *s = (nn_spill){.arena = arena,
                  .path = nn_strdup(arena, path),
                  .is_open = true,
                  .fd = fd,
                  .base = base,
                  .page = sysconf(_SC_PAGESIZE)};
  return s;
}

static void unmap(const range *r) {
  if (r->memory) munmap(r->memory, (size_t)(r->end - r->begin));
}

void nn_spill_close(nn_spill *s) {
  if (!s) return;
  nn_spill_finish(s);
  for (int i = 0; i < s->nranges; i++) unmap(&s->ranges[i]);
  close(s->fd);
  nn_arena_free(s->arena);
}

int64_t nn_spill_base(const nn_spill *s) { return s->base; }

bool nn_spill_is_open(const nn_spill *s) { return s && s->is_open; }

static int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

/* Where reserved ranges may begin: at multiples of `align` from `origin` on. */
static int64_t place_from(int64_t from, int64_t origin, int64_t align) {
  return from <= origin ? origin : origin + round_up(from - origin, align);
}

/* The first gap of that size; *at: the range it comes before. */
static int64_t find_gap(nn_spill *s, int64_t bytes, int64_t origin, int64_t align, int *at) {
  int64_t end = s->full ? s->ranges[s->full - 1].end : s->base;
  for (*at = s->full; *at < s->nranges; ++*at) {
    int64_t begin = place_from(end, origin, align);
    if (s->ranges[*at].begin - begin >= bytes) return begin;
    if (*at == s->full && s->ranges[*at].begin - end < ALIGN) s->full++;
    end = s->ranges[*at].end;
  }
  return place_from(end, origin, align);
}

static void insert(nn_spill *s, int at, range r) {
  NN_PUSH(s->arena, s->ranges, s->nranges, s->ranges_cap, r);
  memmove(s->ranges + at + 1, s->ranges + at, sizeof r * (size_t)(s->nranges - 1 - at));
  s->ranges[at] = r;
}

/* A range is written first: a write into a mapping cannot say that the disk is full, and what comes into the file system's
   cache by large writes lies there in large pieces, from which a model that maps the file reads its weights a third faster. */
static bool fill(int fd, int64_t begin, int64_t bytes) {
  static const char zeros[1 << 21];
  for (int64_t done = 0; done < bytes;) {
    int64_t left = bytes - done;
    ssize_t n = pwrite(fd, zeros, left < (int64_t)sizeof zeros ? (size_t)left : sizeof zeros, (off_t)(begin + done));
    if (n <= 0 && errno != EINTR) return false;
    if (n > 0) done += n;
  }
  return true;
}

void *nn_spill_take(nn_spill *s, size_t size_bytes) {
  if (!s->is_open || size_bytes == 0 || size_bytes > INT64_MAX / 4) return NULL;
  int at;
  int64_t bytes = round_up((int64_t)size_bytes, s->page);
  int64_t begin = find_gap(s, bytes, round_up(s->base, s->page), s->page, &at);
  if (posix_fallocate(s->fd, (off_t)begin, (off_t)bytes) != 0 || !fill(s->fd, begin, bytes)) return NULL;
  void *memory = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, (off_t)begin);
  if (memory == MAP_FAILED) return NULL;
  insert(s, at, (range){begin, begin + bytes, memory});
  return memory;
}

/* ---- less room ---------------------------------------------------------------------------------------- */

/* Also to a place before it that overlaps it. */
static bool copy_within(int fd, int64_t from, int64_t to, int64_t bytes) {
  char buffer[1 << 16];
  for (int64_t done = 0; done < bytes;) {
    int64_t left = bytes - done;
    ssize_t n = pread(fd, buffer, left < (int64_t)sizeof buffer ? (size_t)left : sizeof buffer, (off_t)(from + done));
    if (n <= 0 || pwrite(fd, buffer, (size_t)n, (off_t)(to + done)) != n) return false;
    done += n;
  }
  return true;
}

/* Its address stays. */
static bool move_range(const nn_spill *s, range *r, int64_t begin) {
  int64_t bytes = r->end - r->begin;
  if (!r->memory || !copy_within(s->fd, r->begin, begin, bytes)) return false;
  int how = MAP_SHARED | MAP_FIXED;
  if (mmap(r->memory, (size_t)bytes, PROT_READ | PROT_WRITE, how, s->fd, (off_t)begin) == MAP_FAILED) return false;
  r->begin = begin;
  r->end = begin + bytes;
  return true;
}

/* The last ones into gaps that they fit in. Gives the bytes of the gaps that are left. */
static int64_t fill_gaps(nn_spill *s) {
  int64_t end = round_up(s->base, s->page), left = 0;
  for (int i = 0; i < s->nranges; i++) {
    range last = s->ranges[s->nranges - 1];
    if (s->ranges[i].begin - end >= last.end - last.begin && move_range(s, &last, end)) {
      s->nranges--;
      insert(s, i, last);
    }
    left += s->ranges[i].begin - end;
    end = s->ranges[i].end;
  }
  return left;
}

void nn_spill_compact(nn_spill *s) {
  enum { TOLERATED = 32 }; /* of the whole, one part */
  if (!nn_spill_is_open(s)) return;
  int64_t gaps = fill_gaps(s), end = round_up(s->base, s->page);
  if (s->nranges == 0 || gaps <= (s->ranges[s->nranges - 1].end - s->base) / TOLERATED) return;
  for (int i = 0; i < s->nranges; i++) {
    if (s->ranges[i].begin > end && !move_range(s, &s->ranges[i], end)) return;
    end = s->ranges[i].end;
  }
}

int64_t nn_spill_reserve(nn_spill *s, size_t size_bytes) {
  int at;
  int64_t bytes = round_up((int64_t)size_bytes, ALIGN), begin = find_gap(s, bytes, s->base, ALIGN, &at);
  if (bytes > 0) insert(s, at, (range){begin, begin + bytes, NULL});
  return begin - s->base;
}

static int find_memory(const nn_spill *s, const void *memory) {
  const unsigned char *at = memory;
  for (int i = 0; i < s->nranges; i++)
    if (s->ranges[i].memory && at >= s->ranges[i].memory &&
        at < s->ranges[i].memory + (s->ranges[i].end - s->ranges[i].begin))
      return i;
  return -1;
}

bool nn_spill_find(const nn_spill *s, const void *memory, int64_t *offset) {
  int i = s ? find_memory(s, memory) : -1;
  if (i < 0) return false;
  *offset = s->ranges[i].begin - s->base + ((const unsigned char *)memory - s->ranges[i].memory);
  return true;
}

void nn_spill_give(nn_spill *s, void *memory) {
  int i = find_memory(s, memory);
  if (i < 0) return;
  unmap(&s->ranges[i]);
  memmove(s->ranges + i, s->ranges + i + 1, sizeof *s->ranges * (size_t)(s->nranges - 1 - i));
  s->nranges--;
  if (i < s->full) s->full = i;
}

static bool clear_gaps(nn_spill *s) {
  static const char zeros[1 << 16];
  int64_t end = s->base;
  for (int i = 0; i < s->nranges; i++) {
    while (end < s->ranges[i].begin) {
      int64_t left = s->ranges[i].begin - end;
      ssize_t done = pwrite(s->fd, zeros, left < (int64_t)sizeof zeros ? (size_t)left : sizeof zeros, (off_t)end);
      if (done <= 0 && errno != EINTR) return false;
      if (done > 0) end += done;
    }
    end = s->ranges[i].end;
  }
  return true;
}

bool nn_spill_move(nn_spill *s, const char *path) {
  bool is_used = false;
  for (int i = 0; i < s->nranges; i++) is_used |= s->ranges[i].memory != NULL;
  if (!is_used || !s->is_open || s->is_moved || !clear_gaps(s) || rename(s->path, path) != 0) return false;
  return s->is_moved = true;
}

void nn_spill_finish(nn_spill *s) {
  if (!s || !s->is_open) return;
  if (!s->is_moved) unlink(s->path);
  s->is_open = false;
}

void nn_pages_rest(const void *memory, size_t size_bytes) {
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = ((uintptr_t)memory + page - 1) / page * page;
  uintptr_t end = ((uintptr_t)memory + size_bytes) / page * page;
  if (first < end) madvise((void *)first, end - first, MADV_DONTNEED);
}
