/* SPDX-License-Identifier: BSD-3-Clause */
/* test-write-races.c - two writers at a critical moment.
 *
 * Owns      one function for each race that has lost data, starved a reader or
 *           failed a request without need; its comment says how.
 * Method    hooks of the host stop a thread in the middle of an operation
 *           until the others have done the critical step.  If the progress of
 *           another thread can only be guessed, a wrong guess makes the test
 *           pass, never fail.
 * Locks     none; the threads talk through atomic flags.
 */
#include "config.h"

#include "hooked_disk.h"
#include "threads.h"

#include "base/be.h"

#include <stdatomic.h>

#define KiB (UINT64_C (1) << 10)
#define MiB (UINT64_C (1) << 20)

/* How long another thread gets for what nobody can see it do. */
#define MOMENT_MS 50

static void
flush_in_thread (void *arg, unsigned nr)
{
  struct hooked_disk *const d = arg;
  struct qcow2_error err;

  (void) nr;
  CHECK_EQ (qcow2_flush (d->image, &d->host.io, &err), 0);
}

static uint64_t
commits (struct hooked_disk *d)
{
  struct qcow2_stats stats;

  qcow2_get_stats (d->image, &stats);
  return stats.commits;
}

static void
end_disk (struct hooked_disk *d)
{
  CHECK_EQ (qcow2_end (d->image, &d->host.io, &d->err), 0);
  hooked_disk_free (d);
}

/* ---- Refcounts that were read before a commit --------------------------- */

/* With clusters of 512 bytes and refcounts of 64 bits a block counts 64
 * clusters, and is what is cached; more of them than the cache has room for.
 */
#define SMALL UINT64_C (512)
#define PER_BLOCK UINT64_C (64)
#define BLOCKS UINT64_C (16384)
#define IN_BLOCK_1 PER_BLOCK
#define LAST (BLOCKS * PER_BLOCK - 1)

static struct {
  uint64_t block;               /* whose reader is stopped; 0: nobody's */
  atomic_bool stopped, go;
} late;

static void
stop_late_reader (struct hooked_disk *d, uint32_t count, uint64_t host_off,
                  enum qcow2_io_class io_class)
{
  (void) d;
  (void) count;
  if (io_class != QCOW2_IO_REFCOUNT || host_off != late.block ||
      atomic_exchange (&late.stopped, true))
    return;
  WAIT_UNTIL (late.go);
}

/* The refcounts of BLOCKS * PER_BLOCK clusters, all in use. */
static void
build_full (struct hooked_disk *d)
{
  const uint64_t nr_table = BLOCKS * 8 / SMALL;
  uint64_t table, blocks;

  hooked_disk_build (d, 9, 6, PER_BLOCK * SMALL, 0);
  for (unsigned i = 0; i < 60; ++i) {
    unsigned char cluster[SMALL];

    memset (cluster, 'a', sizeof cluster);
    builder_data (&d->b, i, cluster);
  }
  /* The data of the first guest clusters begin in block 0. */
  builder_alloc (&d->b, 2 * PER_BLOCK - d->b.size / SMALL);
  table = builder_alloc (&d->b, nr_table);
  blocks = builder_alloc (&d->b, BLOCKS);
  for (uint64_t i = 0; i < BLOCKS; ++i)
    hooked_disk_put (d, table + 8 * i, blocks + i * SMALL);
  for (uint64_t i = 0; i < BLOCKS * PER_BLOCK; ++i)
    hooked_disk_put (d, blocks + 8 * i, 1);
  hooked_disk_put (d, 48, table);
  store_be32 (d->b.bytes + 56, (uint32_t) nr_table);
}

/* The one of the first guest clusters whose data is first in block 1. */
static uint64_t
guest_in_block_1 (struct hooked_disk *d, uint64_t *ret_cluster)
{
  for (uint64_t i = 0; i < 60; ++i) {
    uint64_t entry, bitmap;

    builder_get_entry (&d->b, i, &entry, &bitmap);
    *ret_cluster = (entry & HOOKED_OFFSET) / SMALL;
    if (*ret_cluster >= IN_BLOCK_1)
      return i;
  }
  REQUIRE (false);
  return 0;
}

static uint64_t
host_cluster (struct hooked_disk *d, uint64_t guest_cluster)
{
  const uint64_t l2 = hooked_disk_get (d, d->b.l1_off) & HOOKED_OFFSET;

  return (hooked_disk_get (d, l2 + 8 * guest_cluster) & HOOKED_OFFSET) /
    SMALL;
}

/* A flush that releases a cluster reads its refcounts, and is late with
 * them.  Meanwhile a free cluster that is counted there is handed out, that
 * is committed, and the refcounts have left the cache.  When the old ones
 * were put in their place, the cluster was free once more, and became
 * somebody else's, too.
 */
static void
refcounts_read_before_a_commit (void)
{
  struct hooked_disk d;
  struct threads a, b;
  uint64_t guest, cluster, free_cluster, count_off, before;

  unit_context ("%s", __func__);
  build_full (&d);
  guest = guest_in_block_1 (&d, &cluster);
  free_cluster = 2 * PER_BLOCK - 1;
  REQUIRE (cluster < free_cluster);
  count_off = hooked_disk_refcount_off (&d, free_cluster * SMALL);
  hooked_disk_put (&d, count_off, 0);
  /* Found by a search that has seen all blocks. */
  hooked_disk_put (&d, hooked_disk_refcount_off (&d, LAST * SMALL), 0);
  hooked_disk_serve (&d, &(struct host_spec) {
      .capacity = BLOCKS * PER_BLOCK * SMALL + MiB, .grows = true });
  d.host.size = BLOCKS * PER_BLOCK * SMALL;
  late.block = hooked_disk_block_off (&d, cluster * SMALL);
  late.stopped = late.go = false;
  hooked_disk_open (&d);

  CHECK (hooked_disk_trim (&d, guest));
  d.after_read = stop_late_reader;
  threads_start (&a, 1, flush_in_thread, &d);
  WAIT_UNTIL (late.stopped);
  CHECK (hooked_disk_write (&d, 62, 'P'));
  before = commits (&d);
  threads_start (&b, 1, flush_in_thread, &d);
  WAIT_UNTIL (commits (&d) > before && host_cluster (&d, 62) != 0);
  sleep_ms (MOMENT_MS);
  CHECK_EQ (host_cluster (&d, 62), free_cluster);
  CHECK_EQ (hooked_disk_get (&d, count_off), 1);
  CHECK (hooked_disk_write (&d, 63, 'Q'));
  late.go = true;
  threads_join (&a);
  threads_join (&b);

  for (uint64_t i = 60; i < 62; ++i)
    CHECK (hooked_disk_write (&d, i, 'X'));
  CHECK (hooked_disk_flush (&d));
  hooked_disk_check (&d, 62, 'P');
  hooked_disk_check (&d, 63, 'Q');
  CHECK_EQ (hooked_disk_get (&d, count_off), 1);
  for (uint64_t i = 0; i < PER_BLOCK; ++i)
    CHECK (i == 62 || host_cluster (&d, i) != free_cluster);
  end_disk (&d);
}

/* ---- Commits during a read ---------------------------------------------- */

/* More than anybody may need. */
#define MANY 50

static struct {
  uint64_t table;               /* a read of this has commits in it */
  bool new_cluster;             /* that write entries of another table */
  atomic_uint reads;
} busy;

static void
write_in_thread (void *arg, unsigned nr)
{
  struct hooked_disk *const d = arg;
  const uint32_t size = (uint32_t) d->b.cluster_size;
  struct qcow2_error err;
  unsigned char *const buf = calloc (1, size);

  REQUIRE (buf != NULL);
  CHECK_EQ (qcow2_pwrite (d->image, &d->host.io, buf, size, nr * size, true,
                          &err), 0);
  if (busy.new_cluster)
    CHECK_EQ (qcow2_pwrite (d->image, &d->host.io, buf, size,
                            (16 + busy.reads) * size, true, &err), 0);
  free (buf);
}

static void
commit_during_read (struct hooked_disk *d, uint32_t count, uint64_t host_off,
                    enum qcow2_io_class io_class)
{
  struct threads t;

  if (io_class != QCOW2_IO_L2 || host_off > busy.table ||
      busy.table >= host_off + count)
    return;
  /* Then it has been seen that it does not end. */
  if (atomic_fetch_add (&busy.reads, 1) >= MANY)
    return;
  threads_start (&t, 1, write_in_thread, d);
  threads_join (&t);
}

/* Each commit threw away what was being read of any table, although it had
 * not written that, or nothing at all: a reader was at it for as long as
 * another client went on flushing.
 */
static void
reader_while_others_commit (void)
{
  for (unsigned new_cluster = 0; new_cluster < 2; ++new_cluster) {
    const uint64_t span = 512;
    unsigned char cluster[4096];
    struct hooked_disk d;

    unit_context ("%s: %s", __func__,
                  new_cluster ? "to another table" : "in place");
    hooked_disk_build (&d, 12, 4, 4 * MiB, 4);
    memset (cluster, 'r', sizeof cluster);
    builder_data (&d.b, span, cluster);
    builder_finish (&d.b);
    hooked_disk_serve (&d, &(struct host_spec) {
        .capacity = 8 * MiB, .grows = true });
    busy.table = hooked_disk_get (&d, d.b.l1_off + 8) & HOOKED_OFFSET;
    busy.new_cluster = new_cluster;
    busy.reads = 0;
    hooked_disk_open (&d);
    CHECK (hooked_disk_write (&d, 0, 'w'));
    CHECK (hooked_disk_flush (&d));
    d.after_read = commit_during_read;
    hooked_disk_check (&d, span, 'r');
    CHECK (busy.reads >= 1 && busy.reads <= 2);
    end_disk (&d);
  }
}

/* ---- Space that is on its way ------------------------------------------- */

static struct {
  atomic_bool stopped, go, written;
} slow;

static void
stop_first_flush (struct hooked_disk *d)
{
  (void) d;
  if (!atomic_exchange (&slow.stopped, true))
    WAIT_UNTIL (slow.go);
}

static void
write_8_in_thread (void *arg, unsigned nr)
{
  struct hooked_disk *const d = arg;

  (void) nr;
  unit_check (hooked_disk_write (d, 8, 'w'), __FILE__, __LINE__, "%s",
              d->err.text);
  slow.written = true;
}

/* What is free as soon as a running commit has ended counted for nothing
 * while it ran: a full device failed writes with ENOSPC although there was
 * space.
 */
static void
full_device_while_space_is_committed (void)
{
  struct hooked_disk d;
  struct threads a, b;

  unit_context ("%s", __func__);
  hooked_disk_build (&d, 12, 4, 1 * MiB, 4);
  hooked_disk_serve (&d, &(struct host_spec) { .capacity = d.b.size });
  slow.stopped = slow.go = slow.written = false;
  hooked_disk_open (&d);
  CHECK (!hooked_disk_write (&d, 8, 'w'));
  CHECK_EQ (d.err.kind, QCOW2_ERR_NO_SPACE);
  CHECK (hooked_disk_trim (&d, 0));
  d.before_flush = stop_first_flush;
  threads_start (&a, 1, flush_in_thread, &d);
  WAIT_UNTIL (slow.stopped);
  threads_start (&b, 1, write_8_in_thread, &d);
  sleep_ms (MOMENT_MS);
  CHECK (!slow.written);        /* there is nothing yet */
  slow.go = true;
  threads_join (&a);
  threads_join (&b);
  hooked_disk_check (&d, 0, 0);
  hooked_disk_check (&d, 1, 'b');
  hooked_disk_check (&d, 8, 'w');
  end_disk (&d);
}

/* ---- Space that others let go ------------------------------------------- */

static struct {
  pthread_t releaser;
  unsigned trims;
} endless;

static void
let_go_in_thread (void *arg, unsigned nr)
{
  struct hooked_disk *const d = arg;
  struct qcow2_error err;

  CHECK_EQ (qcow2_pwrite (d->image, &d->host.io, "new", 3, 0, false, &err), 0);
  CHECK_EQ (qcow2_trim (d->image, &d->host.io, d->b.cluster_size, 0, false,
                        &err), 0);
  flush_in_thread (arg, nr);
}

/* Then it has been seen that it does not end. */
static void
let_go_during_release (struct hooked_disk *d)
{
  struct threads t;

  if (!pthread_equal (pthread_self (), endless.releaser) ||
      endless.trims++ >= MANY)
    return;
  threads_start (&t, 1, let_go_in_thread, d);
  threads_join (&t);
}

/* Who had begun to release space went on with what others let go meanwhile,
 * one client's flush, or a check, for as long as the others wrote.
 */
static void
others_let_go_while_space_is_released (void)
{
  struct hooked_disk d;

  unit_context ("%s", __func__);
  hooked_disk_build (&d, 12, 4, 1 * MiB, 4);
  hooked_disk_serve (&d, &(struct host_spec) {
      .capacity = 8 * MiB, .grows = true });
  hooked_disk_open (&d);
  endless.releaser = pthread_self ();
  endless.trims = 0;
  CHECK (hooked_disk_trim (&d, 1));
  d.before_trim = let_go_during_release;
  CHECK (hooked_disk_flush (&d));
  CHECK (endless.trims >= 1 && endless.trims <= 2);
  d.before_trim = NULL;
  hooked_disk_check (&d, 0, 0);
  hooked_disk_check (&d, 1, 0);
  hooked_disk_check (&d, 2, 'c');
  end_disk (&d);
}

/* ---- Space that a check has to wait for --------------------------------- */

#define LET_GO 120u             /* clusters, none next to another */

static struct {
  pthread_t checker;
  atomic_uint by_checker, by_others;
  atomic_bool checked;
} gentle;

static void
trim_slowly (struct hooked_disk *d)
{
  (void) d;
  if (pthread_equal (pthread_self (), gentle.checker)) {
    gentle.by_checker++;
    sleep_ms (2);
  }
  else
    gentle.by_others++;
}

static void
flush_until_checked (void *arg, unsigned nr)
{
  WAIT_UNTIL (gentle.by_checker > 0 || gentle.checked);
  while (!gentle.checked) {
    flush_in_thread (arg, nr);
    sleep_ms (1);
  }
}

/* A check may have little of the processor.  It released by itself all that
 * clients had let go, and nobody else could, for minutes on a busy machine.
 */
static void
check_leaves_space_to_clients (void)
{
  const struct qcow2_check_options options = { .memory = MiB };
  struct qcow2_check_result result;
  struct hooked_disk d;
  struct threads t;

  unit_context ("%s", __func__);
  hooked_disk_build (&d, 12, 4, 1 * MiB, 2 * LET_GO);
  hooked_disk_serve (&d, &(struct host_spec) {
      .capacity = 8 * MiB, .grows = true });
  hooked_disk_open (&d);
  for (unsigned i = 0; i < LET_GO; ++i)
    CHECK (hooked_disk_trim (&d, 2 * i));
  gentle.checker = pthread_self ();
  gentle.by_checker = gentle.by_others = 0;
  gentle.checked = false;
  d.before_trim = trim_slowly;
  threads_start (&t, 1, flush_until_checked, &d);
  CHECK_EQ (qcow2_check_live (d.image, &d.host.io, &options, &result, &d.err),
            0);
  gentle.checked = true;
  threads_join (&t);
  d.before_trim = NULL;
  CHECK_EQ (result.leaks + result.corruptions, 0);
  CHECK_EQ (gentle.by_checker + gentle.by_others, LET_GO);
  CHECK (gentle.by_others > 0);
  end_disk (&d);
}

int
main (void)
{
  static void (*const tests[]) (void) = {
    refcounts_read_before_a_commit,
    reader_while_others_commit,
    full_device_while_space_is_committed,
    others_let_go_while_space_is_released,
    check_leaves_space_to_clients,
  };

  threads_watchdog ();
  for (size_t i = 0; i < sizeof tests / sizeof tests[0]; ++i)
    tests[i] ();
  return unit_finish ();
}
