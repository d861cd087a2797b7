/* SPDX-License-Identifier: BSD-3-Clause */
/* test-ahead-after.c - what reading ahead saves once an image is written to.
 *
 * Owns      nothing.
 * Method    counts the requests to a slow host in memory, makes some of them
 *           fail, and looks at the budget.
 * Locks     none; host.lock for the counts.
 */
#include "config.h"

#include "slow_disk.h"
#include "threads.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define MiB (UINT64_C (1) << 20)
#define CLUSTER SLOW_DISK_CLUSTER
#define CLUSTERS SLOW_DISK_CLUSTERS
#define DISK (CLUSTERS * CLUSTER)
#define STEP CLUSTER

/* ---- Requests ------------------------------------------------------------ */

static unsigned long
reads_of (struct hooked_disk *d)
{
  unsigned long n;

  WAIT_UNTIL (slow_disk_borrowed == 0);
  pthread_mutex_lock (&d->host.lock);
  n = d->host.nr[HOST_READ];
  pthread_mutex_unlock (&d->host.lock);
  return n;
}

/* How many requests it takes to read the disk in sequence. */
static unsigned long
read_all (struct hooked_disk *d, bool write_back)
{
  unsigned char *const buf = malloc (STEP);
  unsigned long before;

  REQUIRE (buf != NULL);
  before = reads_of (d);
  qcow2_idle (d->image);        /* nothing is there from before */
  for (uint64_t at = 0; at < DISK; at += STEP) {
    CHECK_EQ (qcow2_pread (d->image, &d->host.io, buf, STEP, at, &d->err), 0);
    for (uint64_t i = 0; i < STEP; ++i)
      if (buf[i] != (unsigned char) ('a' + at / CLUSTER)) {
        CHECK_EQ (buf[i], 'a' + at / CLUSTER);
        break;
      }
    if (write_back)
      CHECK_EQ (qcow2_pwrite (d->image, &d->host.io, buf, STEP, at, false,
                              &d->err), 0);
  }
  free (buf);
  return reads_of (d) - before;
}

/* The least of some attempts, until one needs no more than 'most': a thread
 * that runs late may cost any of them requests.
 */
#define ATTEMPTS 12

static unsigned long
read_best (struct hooked_disk *d, bool write_back, unsigned long most)
{
  unsigned long best = read_all (d, write_back);

  for (unsigned i = 1; i < ATTEMPTS && best > most; ++i) {
    const unsigned long n = read_all (d, write_back);

    if (n < best)
      best = n;
  }
  return best;
}

/* What qcow2-readahead saves before the first write it saves after it. */
static void
as_few_requests_after_a_write (void)
{
  unsigned long before, after, written_back, incoherent;
  struct hooked_disk d;

  unit_context ("%s", __func__);
  slow_disk_serve (&d, CLUSTERS);
  slow_disk_open (&d, NULL, true);
  before = read_best (&d, false, CLUSTERS / 3);
  REQUIRE (hooked_disk_write (&d, 3, 'a' + 3));
  after = read_best (&d, false, CLUSTERS / 3);
  written_back = read_best (&d, true, CLUSTERS / 2);
  slow_disk_end (&d);

  slow_disk_serve (&d, CLUSTERS);
  slow_disk_open (&d, NULL, false);
  REQUIRE (hooked_disk_write (&d, 3, 'a' + 3));
  incoherent = read_all (&d, false);
  slow_disk_end (&d);
  printf ("%u reads: %lu requests before the first write, %lu after it, %lu "
          "if all is written back, %lu if the host is not coherent\n",
          CLUSTERS, before, after, written_back, incoherent);
  CHECK (before <= CLUSTERS / 3);
  CHECK (after <= CLUSTERS / 3);
  CHECK (written_back <= CLUSTERS / 2);
  CHECK (incoherent >= CLUSTERS);
}

/* What a file has got by growing is read ahead as well. */
static void
after_growth (void)
{
  struct hooked_disk d;
  unsigned long reads;
  uint64_t size;

  unit_context ("%s", __func__);
  slow_disk_serve (&d, 8);
  slow_disk_open (&d, NULL, true);
  size = d.host.size;
  slow_disk_hurry = true;
  for (unsigned i = 8; i < CLUSTERS; ++i)
    REQUIRE (hooked_disk_write (&d, i, 'a' + (int) i));
  slow_disk_hurry = false;
  CHECK (d.host.size > size + (CLUSTERS - 9) * CLUSTER);
  reads = read_best (&d, false, CLUSTERS / 3);
  printf ("%u reads after growth: %lu requests\n", CLUSTERS, reads);
  CHECK (reads <= CLUSTERS / 3);
  slow_disk_end (&d);
}

/* ---- Writers that are in the way ------------------------------------------ */

#define MANY 2000
#define SLOW_US 300             /* more than Q2_SLOW_US */

static uint64_t first_data;     /* host offset of cluster 0 */
static atomic_uint spoilt;

/* Somebody writes, as it is, a cluster of what is being read ahead. */
static void
write_what_is_read (struct hooked_disk *d, uint32_t count, uint64_t host_off,
                    enum qcow2_io_class io_class)
{
  const uint64_t i = (host_off + count / 2 - first_data) / CLUSTER;
  static _Thread_local unsigned char buf[CLUSTER];
  struct qcow2_error err;

  (void) io_class;
  usleep (SLOW_US);
  if (count < 2 * CLUSTER || i >= CLUSTERS || host_off < first_data ||
      spoilt >= MANY)
    return;
  spoilt++;
  memset (buf, (int) ('a' + i), CLUSTER);
  CHECK_EQ (qcow2_pwrite (d->image, &d->host.io, buf, CLUSTER, i * CLUSTER,
                          false, &err), 0);
}

/* What was read in vain is not read ahead again and again: the client's own
 * requests, which no write spoils, read it.
 */
static void
reads_end_although_each_meets_a_write (void)
{
  struct hooked_disk d;
  unsigned long reads;

  unit_context ("%s", __func__);
  slow_disk_serve (&d, CLUSTERS);
  slow_disk_open (&d, NULL, true);
  REQUIRE (hooked_disk_write (&d, 3, 'a' + 3));
  first_data = hooked_disk_get (&d, hooked_disk_get (&d, d.b.l1_off) &
                                HOOKED_OFFSET) & HOOKED_OFFSET;
  d.after_read = write_what_is_read;
  reads = read_all (&d, false);
  printf ("%u reads, %u of them beside a write: %lu requests\n", CLUSTERS,
          spoilt, reads);
  CHECK (spoilt > 0 && spoilt < MANY);
  CHECK (reads <= 2 * CLUSTERS);
  slow_disk_end (&d);
}

/* ---- Failures ------------------------------------------------------------ */

/* Cluster 0 to 31 have been read, the rest is in ahead buffers. */
static void
read_some (struct hooked_disk *d)
{
  unsigned char buf[4096];

  for (uint64_t at = 0; at < 32 * CLUSTER; at += sizeof buf)
    CHECK_EQ (qcow2_pread (d->image, &d->host.io, buf, sizeof buf, at,
                           &d->err), 0);
  WAIT_UNTIL (slow_disk_borrowed == 0);
}

/* A write that fails may have reached the file all the same, or a part of it
 * may: reads say what is there, again and again.
 */
static void
after_a_failed_write (void)
{
  static unsigned char buf[CLUSTER], there[CLUSTER];
  unsigned torn = 0;

  for (unsigned seed = 1; seed <= 12; ++seed) {
    struct hooked_disk d;

    unit_context ("%s, seed %u", __func__, seed);
    slow_disk_serve (&d, CLUSTERS);
    d.host.random = seed * 1000;
    slow_disk_open (&d, NULL, true);
    REQUIRE (hooked_disk_write (&d, 3, 'a' + 3));
    read_some (&d);
    memset (buf, 'Z', sizeof buf);
    host_fail (&d.host, 1u << HOST_WRITE, 1, 0, EIO);
    CHECK_EQ (qcow2_pwrite (d.image, &d.host.io, buf, CLUSTER, 33 * CLUSTER,
                            false, &d.err), -1);
    host_fail (&d.host, 0, 0, 0, 0);
    CHECK_EQ (qcow2_pread (d.image, &d.host.io, there, CLUSTER, 33 * CLUSTER,
                           &d.err), 0);
    torn += there[0] == 'Z';
    if (there[0] == 'Z')
      for (unsigned i = 0; i < CLUSTER; ++i)
        if (there[i] != 'Z') {
          CHECK_EQ (there[i], (unsigned char) ('a' + 33));
          break;
        }
    read_some (&d);
    CHECK_EQ (qcow2_pread (d.image, &d.host.io, buf, CLUSTER, 33 * CLUSTER,
                           &d.err), 0);
    CHECK_BYTES (buf, there, CLUSTER);
    REQUIRE (hooked_disk_write (&d, 33, 'a' + 33));
    hooked_disk_check (&d, 33, 'a' + 33);
    slow_disk_end (&d);
  }
  CHECK (torn > 0);             /* else this tests nothing */
}

/* The n-th read fails, whatever it was for, beside changes: a request fails,
 * or none does if it was reading ahead, and nothing that is read is wrong.
 */
static void
reads_that_fail (void)
{
  static unsigned char buf[CLUSTER];

  for (unsigned n = 1; n <= 24; ++n) {
    struct hooked_disk d;
    unsigned failed = 0;

    unit_context ("%s, %u", __func__, n);
    slow_disk_serve (&d, CLUSTERS);
    slow_disk_open (&d, NULL, true);
    REQUIRE (hooked_disk_write (&d, 3, 'a' + 3));
    host_fail (&d.host, 1u << HOST_READ, n, 0, EIO);
    for (uint64_t i = 0; i < CLUSTERS; ++i) {
      if (qcow2_pread (d.image, &d.host.io, buf, CLUSTER, i * CLUSTER,
                       &d.err) == -1) {
        CHECK_EQ (d.err.errnum, EIO);
        failed++;
      }
      else
        CHECK_EQ (buf[n], (unsigned char) ('a' + i));
      if (i % 8 == 0 && !hooked_disk_write (&d, i, 'a' + (int) i))
        failed++;
    }
    CHECK (failed <= 1);
    WAIT_UNTIL (slow_disk_borrowed == 0);
    host_fail (&d.host, 0, 0, 0, 0);
    read_all (&d, false);
    slow_disk_end (&d);
  }
}

/* Buffers are in the budget until they are freed, those that changes have
 * taken out of use as well.
 */
static void
memory_is_bounded (void)
{
  struct qcow2_budget *const budget =
    qcow2_budget_new (64 * MiB, "", NULL, NULL);
  struct hooked_disk d;
  uint64_t idle;

  unit_context ("%s", __func__);
  REQUIRE (budget != NULL);
  slow_disk_serve (&d, CLUSTERS);
  slow_disk_open (&d, budget, true);
  REQUIRE (hooked_disk_write (&d, 3, 'a' + 3));
  idle = qcow2_budget_used (budget);
  for (unsigned i = 0; i < 3; ++i) {
    read_all (&d, true);
    CHECK (qcow2_budget_used (budget) <= idle + 25 * MiB);
  }
  WAIT_UNTIL (slow_disk_borrowed == 0);
  qcow2_idle (d.image);
  CHECK (qcow2_budget_used (budget) <= idle + MiB);
  slow_disk_end (&d);
  CHECK_EQ (qcow2_budget_used (budget), 0);
  qcow2_budget_free (budget);
}

int
main (void)
{
  threads_watchdog ();
  as_few_requests_after_a_write ();
  after_growth ();
  reads_end_although_each_meets_a_write ();
  after_a_failed_write ();
  reads_that_fail ();
  memory_is_bounded ();
  return unit_finish ();
}
