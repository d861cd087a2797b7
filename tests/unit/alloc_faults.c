/* SPDX-License-Identifier: BSD-3-Clause */
/* alloc_faults.c - see alloc_faults.h. */
#include "config.h"

#include "alloc_faults.h"

#include <stddef.h>

_Atomic unsigned long alloc_count, alloc_fail_at;
_Atomic bool alloc_fail_on;
_Atomic long alloc_live;

extern void *__real_malloc (size_t);
extern void *__real_calloc (size_t, size_t);
extern void *__real_realloc (void *, size_t);
extern void __real_free (void *);
extern void *__wrap_malloc (size_t);
extern void *__wrap_calloc (size_t, size_t);
extern void *__wrap_realloc (void *, size_t);
extern void __wrap_free (void *);

static bool
alloc_fails (void)
{
  const unsigned long n = ++alloc_count;

  return alloc_fail_at != 0 &&
    (n == alloc_fail_at || (alloc_fail_on && n > alloc_fail_at));
}

static void *
count_live (void *p)
{
  alloc_live += p != NULL;
  return p;
}

void *
__wrap_malloc (size_t size)
{
  return alloc_fails () ? NULL : count_live (__real_malloc (size));
}

void *
__wrap_calloc (size_t nr, size_t size)
{
  return alloc_fails () ? NULL : count_live (__real_calloc (nr, size));
}

void *
__wrap_realloc (void *p, size_t size)
{
  if (alloc_fails ())
    return NULL;
  if (p != NULL)
    return __real_realloc (p, size);
  return count_live (__real_realloc (NULL, size));
}

void
__wrap_free (void *p)
{
  alloc_live -= p != NULL;
  __real_free (p);
}
