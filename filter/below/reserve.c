/* SPDX-License-Identifier: BSD-3-Clause */
/* reserve.c - room for commits where every write needs new room.
 *
 * Owns      blocks that are set aside and not used.
 * Method    on a file system that never overwrites, such as btrfs, writing a
 *           table where it is takes new blocks.  When there are none left,
 *           what clients have been told is written could not be committed.  So
 *           some blocks are set aside, far behind the end of the file, where
 *           nothing is ever read or written.  A commit that finds no room has
 *           them given back, and is done once more; from then on guest data is
 *           written only if blocks could be set aside again, perhaps fewer.
 *
 *           What a server that was killed has left there is found by the next
 *           one: the place is always the same.
 * Locks     reserve.lock while blocks are set aside or given back.
 */
#include "config.h"

#include "below/reserve.h"

#include "nbdkit_api.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/vfs.h>

#define BTRFS_MAGIC 0x9123683e  /* of statfs */

/* Files end before this: see growth_extend. */
#define PLACE (INT64_C (1) << 62)
#define MAX_BYTES (INT64_C (16) << 20)
#define MIN_BYTES (INT64_C (1) << 20)

enum { NOT_NEEDED, MISSING, HELD };

void
reserve_init (struct reserve *r, int fd)
{
  struct statfs fs;
  const bool needed = fstatfs (fd, &fs) == 0 &&
    (unsigned long) fs.f_type == BTRFS_MAGIC;

  r->fd = fd;
  atomic_store (&r->state, needed ? MISSING : NOT_NEEDED);
  pthread_mutex_init (&r->lock, NULL);
}

static void
give_back_locked (struct reserve *r)
{
  int err;

  (void) holds (atomic_load (&r->state) == HELD);
  do
    err = fallocate (r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PLACE,
                     MAX_BYTES) == -1 ? errno : 0;
  while (err == EINTR);
  if (err != 0)
    nbdkit_debug ("qcow2: what was set aside for commits stays: %s",
                  strerror (err));
}

void
reserve_destroy (struct reserve *r)
{
  if (atomic_load (&r->state) == HELD)
    give_back_locked (r);
  pthread_mutex_destroy (&r->lock);
}

/* As much as there is; ENOSPC if that is too little.  A file system that
 * cannot do it is not asked again.
 */
static int
set_aside_locked (struct reserve *r)
{
  int err = ENOSPC;

  (void) holds (atomic_load (&r->state) == MISSING);
  for (int64_t bytes = MAX_BYTES; bytes >= MIN_BYTES; bytes /= 2) {
    if (fallocate (r->fd, FALLOC_FL_KEEP_SIZE, PLACE, bytes) == 0) {
      atomic_store (&r->state, HELD);
      return 0;
    }
    err = errno;
    if (err != ENOSPC && err != EDQUOT)
      break;
  }
  if (err == ENOSPC || err == EDQUOT)
    return err;
  if (err != EINTR)
    atomic_store (&r->state, NOT_NEEDED);
  return 0;
}

int
reserve_hold (struct reserve *r)
{
  int err = 0;

  if (atomic_load_explicit (&r->state, memory_order_relaxed) != MISSING)
    return 0;
  pthread_mutex_lock (&r->lock);
  if (atomic_load (&r->state) == MISSING)
    err = set_aside_locked (r);
  pthread_mutex_unlock (&r->lock);
  return err;
}

bool
reserve_spend (struct reserve *r)
{
  bool had;

  pthread_mutex_lock (&r->lock);
  had = atomic_load (&r->state) == HELD;
  if (had) {
    give_back_locked (r);
    atomic_store (&r->state, MISSING);
  }
  pthread_mutex_unlock (&r->lock);
  return had;
}
