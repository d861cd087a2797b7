/* SPDX-License-Identifier: BSD-3-Clause */
/* test-write-small.c - tables of small clusters come many at a time.
 *
 * Owns      counters of the writes of tables that the host gets.
 * Method    with clusters of 512 bytes each 32 KiB of the disk need a new L2
 *           table, which is written as zeros before anything points to it.
 *           That must not cost a request for each of them; and whoever gets a
 *           cluster instead of a table finds what he has written there.
 */
#include "config.h"

#include "fsck.h"
#include "hooked_disk.h"
#include "threads.h"

#include <errno.h>
#include <unistd.h>

#define KiB UINT64_C (1024)
#define PIECE (64 * KiB)

static unsigned long single, many;      /* writes of one table, of several */

/* A write of several tables. */
static bool
is_many (const struct hooked_disk *d, uint32_t len,
         enum qcow2_io_class io_class)
{
  return io_class == QCOW2_IO_L2 && len > d->b.cluster_size;
}

static void
count (struct hooked_disk *d, uint32_t len, uint64_t host_off,
       enum qcow2_io_class io_class)
{
  (void) host_off;
  single += io_class == QCOW2_IO_L2 && len == d->b.cluster_size;
  many += is_many (d, len, io_class);
}

static void
begin (struct hooked_disk *d, unsigned cluster_bits)
{
  hooked_disk_build (d, cluster_bits, 4, 16 * 1024 * KiB, 1);
  hooked_disk_serve (d, &(struct host_spec) {
      .capacity = 40 * 1024 * KiB, .grows = true });
  hooked_disk_open (d);
  CHECK (hooked_disk_write (d, 0, 'a'));
  CHECK (hooked_disk_flush (d));
}

static int
byte_of (uint64_t guest_off)
{
  return (int) ('A' + guest_off / PIECE % 26);
}

static bool
write_piece (struct hooked_disk *d, uint64_t guest_off)
{
  unsigned char buf[PIECE];
  struct qcow2_error err;

  memset (buf, byte_of (guest_off), sizeof buf);
  return qcow2_pwrite (d->image, &d->host.io, buf, sizeof buf, guest_off,
                       false, &err) == 0;
}

static void
check_piece (struct hooked_disk *d, uint64_t guest_off)
{
  unsigned char buf[PIECE];
  size_t i = 0;

  CHECK_EQ (qcow2_pread (d->image, &d->host.io, buf, sizeof buf, guest_off,
                         &d->err), 0);
  while (i < sizeof buf && buf[i] == byte_of (guest_off))
    ++i;
  unit_check (i == sizeof buf, __FILE__, __LINE__,
              "the piece at 0x%" PRIx64 " is wrong", guest_off);
}

/* All is there when the image has been opened again, and nothing is leaked. */
static void
end (struct hooked_disk *d, unsigned first, unsigned nr, unsigned step)
{
  struct fsck fsck;

  CHECK_EQ (qcow2_end (d->image, &d->host.io, &d->err), 0);
  qcow2_close (d->image);
  fsck_image (d->host.bytes, d->host.size, &fsck);
  unit_check (fsck.corruptions == 0 && fsck.leaks == 0, __FILE__, __LINE__,
              "%s%s", fsck.text, fsck.leak_text);
  d->before_write = NULL;
  hooked_disk_open (d);
  for (unsigned i = 0; i < nr; ++i)
    check_piece (d, (first + i * step) * PIECE);
  CHECK_EQ (qcow2_end (d->image, &d->host.io, &d->err), 0);
  hooked_disk_free (d);
}

/* 4 MiB, piece after piece: so many tables. */
static void
fill_in_order (unsigned cluster_bits, unsigned tables)
{
  struct hooked_disk d;

  unit_context ("%s: %u bits", __func__, cluster_bits);
  begin (&d, cluster_bits);
  single = many = 0;
  d.before_write = count;
  for (unsigned i = 1; i <= 64; ++i)
    CHECK (write_piece (&d, i * PIECE));
  unit_check (single < tables / 2, __FILE__, __LINE__,
              "%lu writes of one table, %lu of many", single, many);
  end (&d, 1, 64, 1);
}

/* ---- The write of many fails -------------------------------------------- */

static void
fail_many (struct hooked_disk *d, uint32_t len, uint64_t host_off,
           enum qcow2_io_class io_class)
{
  count (d, len, host_off, io_class);
  if (is_many (d, len, io_class))
    host_fail (&d->host, 1u << HOST_WRITE, 1, 0, EIO);
}

/* That was only to save requests: then each is written on its own. */
static void
many_fail (void)
{
  struct hooked_disk d;

  unit_context ("%s", __func__);
  begin (&d, 9);
  single = many = 0;
  d.before_write = fail_many;
  for (unsigned i = 1; i <= 64; ++i)
    CHECK (write_piece (&d, i * PIECE));
  CHECK (many > 3);
  CHECK (d.host.failed > 0);
  CHECK (single > 100);
  d.before_write = NULL;
  host_fail (&d.host, 0, 0, 0, 0);
  end (&d, 1, 64, 1);
}

/* ---- The write of many takes its time ----------------------------------- */

static struct {
  _Atomic bool armed, stopped, done;
} slow;

/* As long as others could overtake it, if they did not wait for it. */
static void
slow_many (struct hooked_disk *d, uint32_t len, uint64_t host_off,
           enum qcow2_io_class io_class)
{
  (void) host_off;
  if (!is_many (d, len, io_class) || !atomic_exchange (&slow.armed, false))
    return;
  slow.stopped = true;
  for (unsigned i = 0; i < 200 && !slow.done; ++i)
    usleep (1000);
}

static void
write_others (struct hooked_disk *d, uint64_t first)
{
  for (unsigned i = 0; i < 16; ++i)
    CHECK (write_piece (d, (first + 2 * i) * PIECE));
}

static void
write_in_thread (void *arg, unsigned nr)
{
  (void) nr;
  write_others (arg, 1);
}

/* Who needs a table meanwhile does not get one that zeros are still on their
 * way to.
 */
static void
many_are_slow (void)
{
  struct hooked_disk d;
  struct threads t;

  unit_context ("%s", __func__);
  begin (&d, 9);
  slow.stopped = slow.done = false;
  slow.armed = true;
  d.before_write = slow_many;
  threads_start (&t, 1, write_in_thread, &d);
  WAIT_UNTIL (slow.stopped);
  write_others (&d, 2);
  CHECK (hooked_disk_flush (&d));
  slow.done = true;
  threads_join (&t);
  end (&d, 1, 32, 1);
}

int
main (void)
{
  fill_in_order (9, 128);
  fill_in_order (10, 32);
  many_fail ();
  many_are_slow ();
  return unit_finish ();
}
