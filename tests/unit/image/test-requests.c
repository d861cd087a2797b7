/* SPDX-License-Identifier: BSD-3-Clause */
/* test-requests.c - the gate that changes of an open image go through.
 *
 * Method    what waits is only given a moment to show that it does not; a
 *           change that is stopped in the middle is held by a hook of the
 *           host.
 */
#include "config.h"

#include "hooked_disk.h"
#include "threads.h"

#include "image/image.h"

#include <errno.h>
#include <stdatomic.h>

#define CLUSTER 4096u
#define MOMENT_MS 50

static struct {
  struct hooked_disk d;
  atomic_uint done;             /* changes that have ended */
  atomic_uint begun;            /* threads of which one has */
  atomic_bool stopped, go, stop;
} t;

static void
build (void)
{
  hooked_disk_build (&t.d, 12, 4, 1 << 20, 8);
  hooked_disk_serve (&t.d, &(struct host_spec) {
      .capacity = 4 << 20, .grows = true });
  t.done = t.begun = 0;
  t.stopped = t.go = t.stop = false;
}

static void
end (void)
{
  CHECK_EQ (qcow2_end (t.d.image, &t.d.host.io, &t.d.err), 0);
  hooked_disk_free (&t.d);
}

static struct q2_gate *
gate (void)
{
  return &t.d.image->gate;
}

/* ---- Who waits, and who does not ---------------------------------------- */

/* One of each kind of change: in place, allocating, durable, zero, trim. */
static void
change (void *arg, unsigned nr)
{
  struct qcow2_image *const image = t.d.image;
  const struct qcow2_io *const io = &t.d.host.io;
  unsigned char buf[CLUSTER];
  struct qcow2_error err;
  int r = -1;

  (void) arg;
  memset (buf, 'z', sizeof buf);
  if (nr < 3)
    r = qcow2_pwrite (image, io, buf, CLUSTER, (nr == 1 ? 16 : nr) * CLUSTER,
                      nr == 2, &err);
  else if (nr == 3)
    r = qcow2_zero (image, io, CLUSTER, 3 * CLUSTER, 0, &err);
  else
    r = qcow2_trim (image, io, CLUSTER, 4 * CLUSTER, true, &err);
  CHECK_EQ (r, 0);
  atomic_fetch_add (&t.done, 1);
}

static int
ignore_extent (void *opaque, uint64_t guest_off, uint64_t count,
               enum qcow2_extent_type type)
{
  (void) opaque;
  (void) guest_off;
  (void) count;
  (void) type;
  return 0;
}

/* Everything that changes nothing, on the thread that has closed the gate. */
static void
use_without_changing (void)
{
  struct qcow2_image *const image = t.d.image;
  const struct qcow2_io *const io = &t.d.host.io;
  struct qcow2_error err;

  for (unsigned i = 0; i < 8; ++i)
    hooked_disk_check (&t.d, i, 'a' + (int) i);
  hooked_disk_check (&t.d, 16, 0);
  CHECK_EQ (qcow2_extents (image, io, 1 << 20, 0, ignore_extent, NULL, &err),
            0);
  CHECK_EQ (qcow2_cache (image, io, CLUSTER, 0, &err), 0);
  CHECK_EQ (qcow2_flush (image, io, &err), 0);
  CHECK_EQ (qcow2_idle_commit (image, io, &err), 0);
}

/* Whether or not the image is prepared for changes. */
static void
changes_wait_and_reads_go_on (bool active)
{
  struct threads threads;

  unit_context ("%s, %s", __func__, active ? "active" : "not active");
  build ();
  hooked_disk_open (&t.d);
  if (active)
    CHECK (hooked_disk_write (&t.d, 7, 'h'));
  REQUIRE (q2_gate_close (gate (), 0) == 0);
  threads_start (&threads, 5, change, NULL);
  use_without_changing ();
  sleep_ms (MOMENT_MS);
  use_without_changing ();
  CHECK_EQ (t.done, 0);
  CHECK_EQ (t.d.image->writer.prepared, active);
  q2_gate_open (gate ());
  threads_join (&threads);
  CHECK_EQ (t.done, 5);
  for (unsigned i = 0; i < 3; ++i)
    hooked_disk_check (&t.d, i == 1 ? 16 : i, 'z');
  hooked_disk_check (&t.d, 3, 0);
  hooked_disk_check (&t.d, 4, 0);
  end ();
}

/* ---- Those that have begun ---------------------------------------------- */

static void
stop_write (struct hooked_disk *d, uint32_t count, uint64_t host_off,
            enum qcow2_io_class class)
{
  (void) d;
  (void) count;
  (void) host_off;
  (void) class;
  if (!atomic_exchange (&t.stopped, true))
    WAIT_UNTIL (t.go);
}

static void
close_in_thread (void *arg, unsigned nr)
{
  (void) arg;
  (void) nr;
  CHECK_EQ (q2_gate_close (gate (), 0), 0);
  /* Not before the write could end; its thread counts that a moment later. */
  CHECK (t.go);
  q2_gate_open (gate ());
  atomic_fetch_add (&t.done, 10);
}

static void
those_that_have_begun_end (void)
{
  struct threads writer, closer;

  unit_context ("%s", __func__);
  build ();
  hooked_disk_open (&t.d);
  CHECK (hooked_disk_write (&t.d, 7, 'h'));
  t.d.before_write = stop_write;
  threads_start (&writer, 1, change, NULL);
  WAIT_UNTIL (t.stopped);
  CHECK_EQ (q2_gate_close (gate (), 10), ETIMEDOUT);
  threads_start (&closer, 1, close_in_thread, NULL);
  sleep_ms (MOMENT_MS);
  CHECK_EQ (t.done, 0);
  hooked_disk_check (&t.d, 5, 'f');
  t.go = true;
  threads_join (&writer);
  threads_join (&closer);
  CHECK_EQ (t.done, 11);
  CHECK (hooked_disk_write (&t.d, 6, 'g'));
  end ();
}

/* Requests that fail have left, whatever they failed by. */
static void
those_that_fail_leave (void)
{
  struct qcow2_error err;
  unsigned char buf[CLUSTER] = { 0 };

  unit_context ("%s", __func__);
  build ();
  hooked_disk_open (&t.d);
  CHECK_EQ (qcow2_pwrite (t.d.image, &t.d.host.io, buf, CLUSTER, 1 << 20,
                          false, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_RANGE);
  /* The first change cannot prepare the image; the next one can. */
  host_fail (&t.d.host, 1u << HOST_READ, 1, 0, EIO);
  CHECK (!hooked_disk_write (&t.d, 16, 'w'));
  host_fail (&t.d.host, 0, 0, 0, 0);
  CHECK_EQ (q2_gate_close (gate (), 1), 0);
  q2_gate_open (gate ());
  CHECK (hooked_disk_write (&t.d, 16, 'w'));
  host_fail (&t.d.host, 1u << HOST_WRITE, 1, 0, EIO);
  CHECK (!hooked_disk_write (&t.d, 17, 'w'));
  host_fail (&t.d.host, 0, 0, 0, 0);
  CHECK_EQ (q2_gate_close (gate (), 1), 0);
  q2_gate_open (gate ());
  end ();
}

/* ---- A point in time ---------------------------------------------------- */

#define WRITERS 4
#define ROUNDS 40

/* Two clusters at once, with the same number in both. */
static void
write_pairs (void *arg, unsigned nr)
{
  unsigned char buf[2 * CLUSTER];
  struct qcow2_error err;

  (void) arg;
  for (unsigned round = 1; !t.stop; ++round) {
    memset (buf, (int) (round & 0xff), sizeof buf);
    CHECK_EQ (qcow2_pwrite (t.d.image, &t.d.host.io, buf, sizeof buf,
                            (uint64_t) nr * 2 * CLUSTER, round % 8 == 0,
                            &err), 0);
    if (round % 16 == 0)
      CHECK_EQ (qcow2_zero (t.d.image, &t.d.host.io, sizeof buf,
                            (uint64_t) nr * 2 * CLUSTER, 0, &err), 0);
    atomic_fetch_add (&t.done, 1);
    atomic_fetch_add (&t.begun, round == 1);
  }
}

static void
read_all (unsigned char *buf)
{
  struct qcow2_error err;

  CHECK_EQ (qcow2_pread (t.d.image, &t.d.host.io, buf, WRITERS * 2 * CLUSTER,
                         0, &err), 0);
}

static void
nothing_changes_while_it_is_closed (void)
{
  static unsigned char first[WRITERS * 2 * CLUSTER], again[sizeof first];
  struct threads threads;

  unit_context ("%s", __func__);
  build ();
  hooked_disk_open (&t.d);
  threads_start (&threads, WRITERS, write_pairs, NULL);
  WAIT_UNTIL (t.begun == WRITERS);
  for (unsigned round = 0; round < ROUNDS; ++round) {
    const unsigned before = t.done;

    REQUIRE (q2_gate_close (gate (), 0) == 0);
    read_all (first);
    for (unsigned i = 0; i < sizeof first; i += 2 * CLUSTER)
      for (unsigned j = 1; j < 2 * CLUSTER; ++j)
        if (!CHECK_EQ (first[i + j], first[i]))
          break;
    sleep_ms (1);
    read_all (again);
    CHECK_BYTES (again, first, sizeof first);
    q2_gate_open (gate ());
    WAIT_UNTIL (t.done > before);
  }
  t.stop = true;
  threads_join (&threads);
  end ();
}

/* ---- What is known of the image ----------------------------------------- */

/* Facts about the header are those of now. */
static void
info_follows_the_header (void)
{
  struct qcow2_info before;

  unit_context ("%s", __func__);
  build ();
  hooked_disk_put (&t.d, 80, 1);        /* lazy refcounts */
  hooked_disk_open (&t.d);
  before = qcow2_get_info (t.d.image);
  CHECK (before.lazy_refcounts && !before.dirty);
  CHECK (hooked_disk_write (&t.d, 16, 'w'));
  CHECK (qcow2_get_info (t.d.image).dirty);
  CHECK_EQ (hooked_disk_get (&t.d, 72), 1);
  CHECK_EQ (qcow2_get_info (t.d.image).virtual_size, before.virtual_size);
  CHECK (qcow2_get_info (t.d.image).writable);
  CHECK_EQ (qcow2_end (t.d.image, &t.d.host.io, &t.d.err), 0);
  CHECK (!qcow2_get_info (t.d.image).dirty);
  CHECK_EQ (hooked_disk_get (&t.d, 72), 0);
  hooked_disk_free (&t.d);
}

int
main (void)
{
  threads_watchdog ();
  changes_wait_and_reads_go_on (true);
  changes_wait_and_reads_go_on (false);
  those_that_have_begun_end ();
  those_that_fail_leave ();
  nothing_changes_while_it_is_closed ();
  info_follows_the_header ();
  return unit_finish ();
}
