/* SPDX-License-Identifier: BSD-3-Clause */
/* test-write-space.c - an image whose file cannot grow can be filled.
 *
 * A device of the size that 'qemu-img measure' prints has room for all
 * clusters of the disk, written in any order, even if tables must move. And
 * while a host request hangs, a write that needs its space waits, and does not
 * fail with ENOSPC.
 */
#include "config.h"

#include "hooked_disk.h"
#include "tag.h"
#include "threads.h"

#include "image/image.h"
#include "write/writer.h"

#include <errno.h>
#include <stdatomic.h>

#define KiB (UINT64_C (1) << 10)

static uint64_t
ceil_div (uint64_t a, uint64_t b)
{
  return (a + b - 1) / b;
}

/* As 'qemu-img measure' counts. */
static uint64_t
measure (uint64_t size, unsigned cluster_bits, unsigned order)
{
  const uint64_t cluster = UINT64_C (1) << cluster_bits;
  const uint64_t data = ceil_div (size, cluster);
  const uint64_t l2 = ceil_div (data, cluster / 8);
  const uint64_t rest = 1 + data + l2 + ceil_div (l2 * 8, cluster);
  uint64_t blocks = 0, table = 0, before;

  do {
    before = blocks + table;
    blocks = ceil_div (rest + before, cluster * 8 >> order);
    table = ceil_div (blocks * 8, cluster);
  } while (blocks + table != before);
  return (rest + blocks + table) * cluster;
}

static void
fill (unsigned cluster_bits, unsigned order, uint64_t size, uint64_t seed)
{
  const uint64_t nr = size >> cluster_bits;
  uint64_t *const at = calloc (nr, sizeof *at);
  struct rng rng = { seed };
  struct hooked_disk d;
  bool ok = true;

  unit_context ("clusters of 2^%u, refcounts of 2^%u bits, %" PRIu64 " KiB, "
                "seed %" PRIu64, cluster_bits, order, size / KiB, seed);
  REQUIRE (at != NULL);
  for (uint64_t i = 0; i < nr; ++i) {
    const uint64_t k = rng_below (&rng, i + 1);

    at[i] = at[k];
    at[k] = i;
  }
  hooked_disk_build (&d, cluster_bits, order, size, 0);
  hooked_disk_serve (&d, &(struct host_spec) {
      .capacity = measure (size, cluster_bits, order) });
  hooked_disk_open (&d);
  for (uint64_t i = 0; ok && i < nr; ++i)
    ok = unit_check (hooked_disk_write (&d, at[i], 'a' + (int) (at[i] % 26)),
                     __FILE__, __LINE__, "write %" PRIu64 " of %" PRIu64
                     ": %s", i, nr, d.err.text);
  for (uint64_t i = 0; ok && i < nr; i += 97)
    hooked_disk_check (&d, i, 'a' + (int) (i % 26));
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
  hooked_disk_free (&d);
  free (at);
}

/* ---- A request that hangs below ----------------------------------------- */

static struct {
  uint64_t host_off;            /* a read of this hangs */
  atomic_bool stopped, go;
} hung;

static void
hang (struct hooked_disk *d, uint32_t count, uint64_t host_off,
      enum qcow2_io_class io_class)
{
  (void) d;
  if (io_class != QCOW2_IO_DATA || hung.host_off < host_off ||
      hung.host_off >= host_off + count ||
      atomic_exchange (&hung.stopped, true))
    return;
  WAIT_UNTIL (hung.go);
}

static void
read_in_thread (void *arg, unsigned nr)
{
  struct hooked_disk *const d = arg;
  struct qcow2_error err;
  unsigned char buf[4096];

  (void) nr;
  CHECK_EQ (qcow2_pread (d->image, &d->host.io, buf, sizeof buf, 0, &err), 0);
  CHECK (buf[0] == 'a');
}

/* Batches that wait for it; runs of clusters in them. */
static size_t
waiting (struct hooked_disk *d, size_t *ret_runs)
{
  struct q2_writer *const w = &d->image->writer;
  size_t batches = 0;

  *ret_runs = 0;
  q2_mutex_lock (&w->commit_lock);
  for (const struct q2_batch *b = w->first_batch; b != NULL; b = b->next) {
    *ret_runs += b->frees.nr;
    batches++;
  }
  q2_mutex_unlock (&w->commit_lock);
  return batches;
}

static void
begin_hung (struct hooked_disk *d, struct threads *t, bool grows,
            unsigned room)
{
  uint64_t entry, bitmap;

  hooked_disk_build (d, 12, 4, 4096 * KiB, 4);
  builder_get_entry (&d->b, 0, &entry, &bitmap);
  hung.host_off = entry & HOOKED_OFFSET;
  hung.stopped = hung.go = false;
  hooked_disk_serve (d, &(struct host_spec) {
      .capacity = grows ? 16384 * KiB : d->b.size + room * 4 * KiB,
      .grows = grows });
  hooked_disk_open (d);
  CHECK (hooked_disk_trim (d, 3));      /* and it is prepared for writing */
  CHECK (hooked_disk_write (d, 3, 'w'));
  d->after_read = hang;
  threads_start (t, 1, read_in_thread, d);
  WAIT_UNTIL (hung.stopped);
}

static void
end_hung (struct hooked_disk *d, struct threads *t)
{
  hung.go = true;
  threads_join (t);
  CHECK_EQ (qcow2_end (d->image, &d->host.io, &d->err), 0);
  hooked_disk_free (d);
}

/* The space is there, and the error does not say that there is none. */
static void
full_device_while_a_request_hangs (void)
{
  struct hooked_disk d;
  struct threads t;

  unit_context ("%s", __func__);
  begin_hung (&d, &t, false, 0);
  CHECK (hooked_disk_trim (&d, 1));
  d.image->writer.patience_ms = 300;
  CHECK (!hooked_disk_write (&d, 8, 'w'));
  CHECK_EQ (d.err.kind, QCOW2_ERR_IO);
  CHECK_EQ (d.err.errnum, EIO);
  d.image->writer.patience_ms = Q2_WRITER_PATIENCE_MS;
  hung.go = true;
  CHECK (hooked_disk_write (&d, 8, 'w'));
  hooked_disk_check (&d, 8, 'w');
  end_hung (&d, &t);
}

/* Who can make the file larger does not wait, and what is let go meanwhile
 * takes no memory for each commit.
 */
static void
many_commits_while_a_request_hangs (void)
{
  struct hooked_disk d;
  struct threads t;
  size_t runs;

  unit_context ("%s", __func__);
  begin_hung (&d, &t, true, 0);
  for (unsigned i = 0; i < 500; ++i) {
    CHECK (hooked_disk_write (&d, 8, 'x'));
    CHECK (hooked_disk_trim (&d, 8));
    CHECK (hooked_disk_flush (&d));
  }
  CHECK (waiting (&d, &runs) <= 4);
  CHECK (runs <= 16);
  end_hung (&d, &t);
}

/* A refcount becomes 0, so that a cluster is not made a table before everybody
 * has left.
 */
static void
free_a_cluster (struct hooked_disk *d)
{
  host_fail (&d->host, 1u << HOST_WRITE, 1, 0, EIO);
  CHECK (!hooked_disk_write (d, 8, 'x'));
  CHECK_EQ (d->err.errnum, EIO);
}

/* A file that can grow has room for a table that was never anything else. */
static void
table_is_made_while_a_request_hangs (void)
{
  struct hooked_disk d;
  struct threads t;

  unit_context ("%s", __func__);
  begin_hung (&d, &t, true, 0);
  free_a_cluster (&d);
  d.image->writer.patience_ms = 0;
  CHECK (hooked_disk_write (&d, 512, 't'));
  hooked_disk_check (&d, 512, 't');
  CHECK (hooked_disk_flush (&d));
  /* What was passed over is found later. */
  for (unsigned i = 8; i < 256; ++i)
    CHECK (hooked_disk_write (&d, i, 'w'));
  CHECK (d.asked <= d.b.size + 2048 * KiB);
  end_hung (&d, &t);
}

/* One that cannot has none: the request waits, but not for ever. */
static void
table_on_a_device_while_a_request_hangs (void)
{
  struct hooked_disk d;
  struct threads t;

  unit_context ("%s", __func__);
  begin_hung (&d, &t, false, 8);
  free_a_cluster (&d);
  d.image->writer.patience_ms = 300;
  CHECK (!hooked_disk_write (&d, 512, 't'));
  CHECK_EQ (d.err.kind, QCOW2_ERR_IO);
  CHECK_EQ (d.err.errnum, EIO);
  CHECK (strstr (d.err.text, "has not ended") != NULL);
  CHECK (hooked_disk_write (&d, 3, 'v'));
  d.image->writer.patience_ms = Q2_WRITER_PATIENCE_MS;
  hung.go = true;
  CHECK (hooked_disk_write (&d, 512, 't'));
  hooked_disk_check (&d, 512, 't');
  end_hung (&d, &t);
}

/* ---- Somebody else's commit, or trim, hangs below ----------------------- */

static struct {
  atomic_bool armed, stopped, go, gave_up;
} other;

/* Not for ever, so that a test that fails ends. */
static void
hang_once (struct hooked_disk *d)
{
  (void) d;
  if (!atomic_exchange (&other.armed, false))
    return;
  other.stopped = true;
  for (unsigned i = 0; !other.go; ++i) {
    sleep_ms (1);
    if (i > 20000) {
      other.gave_up = true;
      return;
    }
  }
}

static void
trim_in_thread (void *arg, unsigned nr)
{
  struct hooked_disk *const d = arg;
  struct qcow2_error err;

  (void) nr;
  CHECK_EQ (qcow2_trim (d->image, &d->host.io, 4 * KiB, 4 * KiB, false,
                        &err), 0);
  CHECK_EQ (qcow2_flush (d->image, &d->host.io, &err), 0);
}

/* A device that is full, and a thread that hangs while it makes room. */
static void
begin_other (struct hooked_disk *d, struct threads *t, bool in_trim)
{
  hooked_disk_build (d, 12, 4, 4096 * KiB, 4);
  hooked_disk_serve (d, &(struct host_spec) { .capacity = d->b.size });
  hooked_disk_open (d);
  CHECK (hooked_disk_write (d, 3, 'w'));        /* it is prepared */
  CHECK (hooked_disk_flush (d));
  other.stopped = other.go = other.gave_up = false;
  other.armed = true;
  d->before_trim = in_trim ? hang_once : NULL;
  d->before_flush = in_trim ? NULL : hang_once;
  threads_start (t, 1, trim_in_thread, d);
  WAIT_UNTIL (other.stopped);
  d->image->writer.patience_ms = 300;
}

static void
end_other (struct hooked_disk *d, struct threads *t)
{
  CHECK (!other.gave_up);
  other.go = true;
  threads_join (t);
  d->image->writer.patience_ms = Q2_WRITER_PATIENCE_MS;
  CHECK (hooked_disk_write (d, 8, 'w'));
  hooked_disk_check (d, 8, 'w');
  CHECK_EQ (qcow2_end (d->image, &d->host.io, &d->err), 0);
  hooked_disk_free (d);
}

/* Who needs the space waits, but not for ever, and is told what for. */
static void
check_hung (struct hooked_disk *d, uint64_t cluster, const char *what)
{
  CHECK (!hooked_disk_write (d, cluster, 'x'));
  CHECK_EQ (d->err.kind, QCOW2_ERR_IO);
  CHECK_EQ (d->err.errnum, EIO);
  unit_check (strstr (d->err.text, what) != NULL, __FILE__, __LINE__,
              "it says: %s", d->err.text);
}

static void
space_while_a_trim_hangs (void)
{
  struct hooked_disk d;
  struct threads t;

  unit_context ("%s", __func__);
  begin_other (&d, &t, true);
  check_hung (&d, 8, "has not ended");
  /* Nor does a flush wait for space that somebody else gives back. */
  CHECK (hooked_disk_write (&d, 2, 'v'));
  CHECK (hooked_disk_flush (&d));
  end_other (&d, &t);
}

static void
space_while_a_commit_hangs (void)
{
  struct hooked_disk d;
  struct threads t;

  unit_context ("%s", __func__);
  begin_other (&d, &t, false);
  check_hung (&d, 8, "has not ended");
  CHECK (hooked_disk_write (&d, 2, 'v'));
  end_other (&d, &t);
}

/* ---- Compressed clusters that are freed ---------------------------------- */

/* What was decompressed of a cluster is not found any more when its place can
 * be somebody else's; nor before that is it lost.
 */
static void
freed_streams_are_forgotten (void)
{
  const struct qcow2_options options = {
    .writable = true, .cluster_cache_size = 64 * KiB,
  };
  struct q2_cluster_key key;
  struct hooked_disk d;
  unsigned char cluster[4096], buf[100];

  unit_context ("%s", __func__);
  hooked_disk_build (&d, 12, 4, 1024 * KiB, 4);
  memset (cluster, 'c', sizeof cluster);
  if (!builder_compressed (&d.b, 16, cluster, &key.host_off, &key.csize)) {
    builder_free (&d.b);
    return;
  }
  builder_finish (&d.b);
  hooked_disk_serve (&d, &(struct host_spec) {
      .capacity = 4096 * KiB, .grows = true });
  host_reopen (&d.host);
  d.image = qcow2_open (&d.host.io, &options, &d.err);
  REQUIRE (d.image != NULL);
  for (unsigned freed = 0; freed < 2; ++freed) {
    CHECK_EQ (qcow2_pread (d.image, &d.host.io, buf, sizeof buf, 16 * 4096,
                           &d.err), 0);
    if (freed)
      CHECK (hooked_disk_trim (&d, 16));
    CHECK (q2_clusters_lookup (d.image->reader.clusters, &key, 0, buf,
                               sizeof buf));
    CHECK (hooked_disk_write (&d, 1, 'w'));
    CHECK (hooked_disk_trim (&d, 2));
    CHECK (hooked_disk_flush (&d));
    CHECK_EQ (q2_clusters_lookup (d.image->reader.clusters, &key, 0, buf,
                                  sizeof buf), !freed);
  }
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
  hooked_disk_free (&d);
}

int
main (void)
{
  static const struct {
    unsigned cluster_bits, order;
    uint64_t kib;
  } images[] = {
    { 9, 6, 2000 }, { 9, 6, 2300 }, { 9, 6, 4500 }, { 9, 6, 9000 },
    { 9, 5, 4500 }, { 9, 5, 8800 }, { 9, 4, 8600 }, { 9, 0, 1000 },
    { 10, 6, 17000 }, { 12, 6, 8000 }, { 16, 4, 32000 },
  };

  threads_watchdog ();
  for (size_t i = 0; i < sizeof images / sizeof images[0]; ++i)
    for (uint64_t seed = 1; seed <= 2; ++seed)
      fill (images[i].cluster_bits, images[i].order, images[i].kib * KiB,
            seed);
  full_device_while_a_request_hangs ();
  many_commits_while_a_request_hangs ();
  table_is_made_while_a_request_hangs ();
  table_on_a_device_while_a_request_hangs ();
  space_while_a_trim_hangs ();
  space_while_a_commit_hangs ();
  freed_streams_are_forgotten ();
  return unit_finish ();
}
