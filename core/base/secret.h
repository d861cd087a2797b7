/* SPDX-License-Identifier: BSD-3-Clause */
/* secret.h - memory for keys.
 *
 * Keys have pages of their own.  These stay out of swap, as far as the limit
 * of locked memory allows, and out of core dumps, and are wiped before they
 * are unmapped.
 */
#ifndef QCOW2_BASE_SECRET_H
#define QCOW2_BASE_SECRET_H

#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

/* 'size' > 0 bytes, all zero, aligned to a page; NULL if there is no memory.
 */
static inline void *
q2_secret_alloc (size_t size)
{
  void *const p = mmap (NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  if (p == MAP_FAILED)
    return NULL;
  /* Failures are ignored: a container may allow no locked memory. */
  (void) mlock (p, size);
#ifdef MADV_DONTDUMP
  (void) madvise (p, size, MADV_DONTDUMP);
#endif
  return p;
}

/* 'size' is the size at allocation.  NULL is allowed. */
static inline void
q2_secret_free (void *p, size_t size)
{
  if (p == NULL)
    return;
  explicit_bzero (p, size);
  munmap (p, size);
}

#endif /* QCOW2_BASE_SECRET_H */
