/* SPDX-License-Identifier: BSD-3-Clause */
/* repair-file.c - scans an image file as if it had not been closed cleanly,
 * and repairs it; for tests that compare with QEMU.
 *
 * usage: repair-file [-n|-b] FILE...
 *
 * Prints one line for each file.  -n: only scan, and flags and refcounts that
 * are wrong do not matter; -b: the same, on a host that cannot tell what is a
 * hole.  Otherwise the files must have the dirty bit.
 * Exit status 1 if a file could not be scanned or repaired, 2 if it cannot be
 * read at all.
 */
#include "config.h"

#include "check/repair.h"
#include "base/bits.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int
file_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
            enum qcow2_io_class class)
{
  const int fd = *(const int *) opaque;

  (void) class;
  while (count > 0) {
    const ssize_t n = pread (fd, buf, count, (off_t) host_off);

    if (n <= 0)
      return n == 0 ? EIO : errno;
    buf = (char *) buf + n;
    count -= (uint32_t) n;
    host_off += (uint64_t) n;
  }
  return 0;
}

static int
file_pwrite (void *opaque, const void *buf, uint32_t count,
             uint64_t host_off, enum qcow2_io_class class)
{
  const int fd = *(const int *) opaque;

  (void) class;
  while (count > 0) {
    const ssize_t n = pwrite (fd, buf, count, (off_t) host_off);

    if (n < 0)
      return errno;
    buf = (const char *) buf + n;
    count -= (uint32_t) n;
    host_off += (uint64_t) n;
  }
  return 0;
}

static int
file_flush (void *opaque)
{
  (void) opaque;
  return 0;                     /* nobody pulls the plug */
}

static int
file_grow (void *opaque, uint64_t min_size, uint64_t *ret_size)
{
  if (ftruncate (*(const int *) opaque, (off_t) min_size) == -1)
    return errno;
  *ret_size = min_size;
  return 0;
}

static int
file_cut (void *opaque, uint64_t size)
{
  return ftruncate (*(const int *) opaque, (off_t) size) == -1 ? errno : 0;
}

static int
file_extents (void *opaque, uint32_t count, uint64_t host_off,
              qcow2_host_extent_fn fn, void *fn_opaque)
{
  const int fd = *(const int *) opaque;
  const uint64_t end = host_off + count;

  while (host_off < end) {
    const off_t data = lseek (fd, (off_t) host_off, SEEK_DATA);
    const off_t hole = data == -1 ? -1 : lseek (fd, data, SEEK_HOLE);
    const uint64_t from = data == -1 ? end : q2_min ((uint64_t) data, end);
    const uint64_t to = hole == -1 ? end : q2_min ((uint64_t) hole, end);

    if ((from > host_off && fn (fn_opaque, host_off, from - host_off, true))
        || (to > from && fn (fn_opaque, from, to - from, false)))
      return 0;
    host_off = to;
  }
  return 0;
}

static struct qcow2_io_ops ops = {
  .pread = file_pread,
  .extents = file_extents,
  .pwrite = file_pwrite,
  .flush = file_flush,
  .grow = file_grow,
  .cut = file_cut,
};

static void
print_line (void *opaque, enum qcow2_log_level level, const char *text,
            enum qcow2_advice advice)
{
  (void) advice;
  (void) level;
  printf ("%s: %s\n", (const char *) opaque, text);
}

static int
read_header (const struct q2_io *io, struct q2_header *h,
             struct q2_geometry *geo, struct qcow2_error *err)
{
  const size_t len = UINT64_C (1) << Q2_MAX_CLUSTER_BITS;
  unsigned char *const area = malloc (len);
  int r;

  if (area == NULL)
    abort ();
  r = q2_io_read (io, area, len, 0, QCOW2_IO_HEADER, err);
  if (r == 0)
    r = q2_header_decode (area, len, h, geo, err);
  free (area);
  return r;
}

static int
handle (const char *name, const struct q2_io *io, bool only_scan)
{
  struct qcow2_error err;
  struct q2_header h;
  struct q2_geometry geo;
  struct q2_repair *repair;
  int r = 0;

  if (read_header (io, &h, &geo, &err) == -1 ||
      (repair = q2_repair_scan (io, &h, &geo, print_line,
                                (void *) (uintptr_t) name, &err)) == NULL)
    goto fail;
  if (!only_scan && !(h.incompatible & Q2_INCOMPAT_DIRTY)) {
    fprintf (stderr, "%s: the dirty bit is not set\n", name);
    exit (2);
  }
  if (!only_scan)
    r = q2_repair_write (repair, io, &h, &geo, &err);
  q2_repair_free (repair);
  if (r == 0)
    return 0;
 fail:
  fprintf (stderr, "%s: %s\n", name, err.text);
  return 1;
}

static int
handle_file (const char *name, bool only_scan)
{
  int fd = open (name, (only_scan ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  struct q2_io_shared shared = { 0 };
  struct qcow2_io host = { .ops = &ops, .opaque = &fd, .min_block = 1 };
  struct q2_io io = { .host = &host, .shared = &shared };
  struct stat st;
  int r;

  if (fd == -1 || fstat (fd, &st) == -1) {
    perror (name);
    exit (2);
  }
  host.size = io.file_size = (uint64_t) st.st_size;
  q2_io_shared_init (&shared);
  r = handle (name, &io, only_scan);
  q2_io_shared_destroy (&shared);
  close (fd);
  return r;
}

int
main (int argc, char *argv[])
{
  const bool blind = argc > 1 && strcmp (argv[1], "-b") == 0;
  const bool only_scan = blind || (argc > 1 && strcmp (argv[1], "-n") == 0);
  int r = 0;

  if (blind)
    ops.extents = NULL;
  for (int i = only_scan ? 2 : 1; i < argc; ++i)
    r |= handle_file (argv[i], only_scan);
  return r;
}
