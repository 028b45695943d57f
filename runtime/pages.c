/* Memory in large pages, where the system has them (Linux, transparent huge pages on request). With pages of 4 KiB a core
   that streams weights waits for address translation much of the time: measured on a virtual machine, it reads 16 to
   18 GB/s so, and 30 with pages of 2 MiB.

   Memory of the file system's cache cannot be in large pages. So weights move to private memory, chunk by chunk: a copy is made
   beside each chunk and then takes its address, which the kernel does at once for all threads. */
#ifdef __linux__
#define _GNU_SOURCE /* mremap */
#endif
#include "runtime/nncc_rt.h"

#include <stdint.h>

#if defined(__linux__)
#include <string.h>
#include <sys/mman.h>

enum { LARGE_PAGE = 2 << 20 };

/* The whole large pages of a range: their first address, and bytes. */
static unsigned char *inner_pages(const void *memory, size_t bytes, size_t *inner) {
  uintptr_t first = ((uintptr_t)memory + LARGE_PAGE - 1) & ~(uintptr_t)(LARGE_PAGE - 1);
  uintptr_t end = ((uintptr_t)memory + bytes) & ~(uintptr_t)(LARGE_PAGE - 1);
  *inner = end > first ? (size_t)(end - first) : 0;
  return (unsigned char *)memory + (first - (uintptr_t)memory);
}

void nncc_rt_want_large_pages(void *memory, size_t bytes) {
  size_t inner;
  void *first = inner_pages(memory, bytes, &inner);
  if (inner) madvise(first, inner, MADV_HUGEPAGE);
}

/* Room for one large page at an address that is a multiple of its size. */
static unsigned char *map_large_page(void) {
  size_t inner;
  unsigned char *room = mmap(NULL, 2 * (size_t)LARGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) return NULL;
  unsigned char *page = inner_pages(room, 2 * (size_t)LARGE_PAGE, &inner);
  if (page > room) munmap(room, (size_t)(page - room));
  munmap(page + LARGE_PAGE, (size_t)(room + 2 * (size_t)LARGE_PAGE - page) - LARGE_PAGE);
  return page;
}

static int move_chunk(unsigned char *chunk) {
  unsigned char *page = map_large_page();
  if (!page) return 0;
  madvise(page, LARGE_PAGE, MADV_HUGEPAGE);
  memcpy(page, chunk, LARGE_PAGE);
  if (mprotect(page, LARGE_PAGE, PROT_READ) == 0 &&
      mremap(page, LARGE_PAGE, LARGE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, chunk) != MAP_FAILED)
    return 1;
  munmap(page, LARGE_PAGE);
  return 0;
}

size_t nncc_rt_move_to_large_pages(const void *memory, size_t bytes) {
  size_t inner, moved = 0;
  unsigned char *first = inner_pages(memory, bytes, &inner);
  while (moved < inner && move_chunk(first + moved)) moved += LARGE_PAGE;
  return moved;
}

#else

void nncc_rt_want_large_pages(void *memory, size_t bytes) { (void)memory, (void)bytes; }

size_t nncc_rt_move_to_large_pages(const void *memory, size_t bytes) {
  (void)memory, (void)bytes;
  return 0;
}

#endif
