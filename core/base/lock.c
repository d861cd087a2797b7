/* SPDX-License-Identifier: BSD-3-Clause */
/* lock.c - checks the order of locks in debug builds.
 *
 * Owns      the list of locks that a thread has.
 * Locks     none: each thread has a list of its own.
 */
#include "config.h"

#include "base/lock.h"

#ifdef DEBUG_ASSERTIONS

#include <stdio.h>
#include <stdlib.h>

/* A thread may have the gates of 64 images (qcow2_transact), and some more. */
#define MAX_LOCKS 96

static _Thread_local struct {
  const struct q2_rank *ranks[MAX_LOCKS];
  unsigned nr;
} mine;

void
q2_rank_check (const struct q2_rank *rank)
{
  for (unsigned i = 0; i < mine.nr; ++i)
    if (mine.ranks[i]->rank >= rank->rank) {
      fprintf (stderr, "lock order: a thread that has %s (rank %u) waits for "
               "%s (rank %u); see docs/LOCKING.md\n", mine.ranks[i]->name,
               mine.ranks[i]->rank, rank->name, rank->rank);
      abort ();
    }
}

void
q2_rank_push (const struct q2_rank *rank)
{
  if (mine.nr == MAX_LOCKS) {
    fprintf (stderr, "lock order: a thread has %u locks and takes %s\n",
             mine.nr, rank->name);
    abort ();
  }
  mine.ranks[mine.nr++] = rank;
}

void
q2_rank_check_held (const struct q2_rank *rank)
{
  for (unsigned i = 0; i < mine.nr; ++i)
    if (mine.ranks[i] == rank)
      return;
  fprintf (stderr, "lock order: a function that needs %s is called without "
           "it\n", rank->name);
  abort ();
}

/* Not always the last one. */
void
q2_rank_pop (const struct q2_rank *rank)
{
  unsigned i = mine.nr;

  while (i > 0 && mine.ranks[i - 1] != rank)
    --i;
  if (i == 0) {
    fprintf (stderr, "lock order: a thread gives back %s, which it does not "
             "have\n", rank->name);
    abort ();
  }
  for (; i < mine.nr; ++i)
    mine.ranks[i - 1] = mine.ranks[i];
  --mine.nr;
}

#endif
