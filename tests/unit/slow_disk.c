/* SPDX-License-Identifier: BSD-3-Clause */
/* slow_disk.c - see slow_disk.h.
 *
 * Owns      how long requests take: a read when it has the bytes, a write
 *           before it changes them.  So what reads and writes of the same
 *           place do to each other shows.
 * Locks     none; counters are atomics.
 */
#include "config.h"

#include "slow_disk.h"

#include <unistd.h>

#define MiB (UINT64_C (1) << 20)
#define DISK (SLOW_DISK_CLUSTERS * SLOW_DISK_CLUSTER)

#define READ_US 1500            /* much more than Q2_SLOW_US, whoever runs */
#define CHANGE_US 600           /* at most */

static _Thread_local struct rng rng;
atomic_bool slow_disk_hurry;
atomic_uint slow_disk_borrowed;

static void
read_takes_long (struct hooked_disk *d, uint32_t count, uint64_t host_off,
                 enum qcow2_io_class io_class)
{
  (void) d;
  (void) count;
  (void) host_off;
  (void) io_class;
  usleep (READ_US + (useconds_t) rng_below (&rng, 200));
}

static void
write_takes_long (struct hooked_disk *d, uint32_t count, uint64_t host_off,
                  enum qcow2_io_class io_class)
{
  (void) d;
  (void) count;
  (void) host_off;
  (void) io_class;
  if (!slow_disk_hurry)
    usleep ((useconds_t) rng_below (&rng, CHANGE_US));
}

static int
borrow (void *opaque, struct qcow2_io *ret_io)
{
  struct hooked_disk *const d = opaque;

  slow_disk_borrowed++;
  *ret_io = d->host.io;
  return 0;
}

static void
give_back (struct qcow2_io *io)
{
  (void) io;
  slow_disk_borrowed--;
}

static const struct host_spec spec = {
  .capacity = 4 * DISK, .grows = true,
};

void
slow_disk_open (struct hooked_disk *d, struct qcow2_budget *budget,
                bool coherent)
{
  const struct qcow2_options options = {
    .writable = true, .readahead = 2 * MiB, .cluster_cache_size = MiB,
    .budget = budget, .count = true,
  };

  host_reopen (&d->host);
  d->host.io.coherent = coherent;
  d->image = qcow2_open (&d->host.io, &options, &d->err);
  REQUIRE (d->image != NULL && qcow2_get_info (d->image).writable);
}

void
slow_disk_serve (struct hooked_disk *d, unsigned nr)
{
  hooked_disk_build (d, 16, 4, DISK, nr);
  hooked_disk_serve (d, &spec);
  d->host.ops.borrow = borrow;
  d->host.ops.give_back = give_back;
  d->after_read = read_takes_long;
  d->before_write = write_takes_long;
}

void
slow_disk_end (struct hooked_disk *d)
{
  CHECK_EQ (qcow2_end (d->image, &d->host.io, &d->err), 0);
  hooked_disk_free (d);
  CHECK_EQ (slow_disk_borrowed, 0);
}
