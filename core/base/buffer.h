/* SPDX-License-Identifier: BSD-3-Clause */
/* buffer.h - large buffers that give their memory back.
 *
 * malloc is bad at buffers of hundreds of KiB that one thread allocates and
 * another frees, over and over: it stops mapping them and carves them out of
 * each thread's heap, where they leave holes that stay resident.  A mapping
 * for each buffer costs some page faults, and freeing it returns the memory.
 */
#ifndef QCOW2_BASE_BUFFER_H
#define QCOW2_BASE_BUFFER_H

#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

#define Q2_BUFFER_MAPPED ((size_t) 128 << 10)

/* 'size' bytes, uninitialized; NULL if there is no memory. */
static inline void *
q2_buffer_alloc (size_t size)
{
  void *p;

  if (size < Q2_BUFFER_MAPPED)
    return malloc (size);
  p = mmap (NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
            -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

/* 'size' is the size at allocation.  NULL is allowed. */
static inline void
q2_buffer_free (void *p, size_t size)
{
  if (size < Q2_BUFFER_MAPPED)
    free (p);
  else if (p != NULL)
    munmap (p, size);
}

#endif /* QCOW2_BASE_BUFFER_H */
