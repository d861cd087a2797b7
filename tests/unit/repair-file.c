/* SPDX-License-Identifier: BSD-3-Clause */
/* repair-file.c - scans an image file as after an unclean end, and repairs it;
 * for tests that compare with QEMU.
 *
 * usage: repair-file [-n|-b] FILE...
 *
 * Prints one line for each file.  -n: only scan, and ignore wrong flags and
 * refcounts; -b: the same, on a host that does not report holes.  Otherwise
 * the files must have the dirty bit.  Exit status 1 if a file could not be
 * scanned or repaired, 2 if it cannot be read at all.
 */
#include "config.h"

#include "check/repair.h"

#include "local_file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
  struct q2_superblock sb;
  const struct qcow2_info none = { .version = 0 };
  int r = 0;

  if (read_header (io, &h, &geo, &err) == -1 ||
      (repair = q2_repair_scan (io, &h, &geo, print_line,
                                (void *) (uintptr_t) name, &err)) == NULL)
    goto fail;
  if (!only_scan && !(h.incompatible & Q2_INCOMPAT_DIRTY)) {
    fprintf (stderr, "%s: the dirty bit is not set\n", name);
    exit (2);
  }
  if (!only_scan) {
    q2_superblock_init (&sb, &h, &none);
    r = q2_repair_write (repair, io, &sb, &geo, &err);
    q2_superblock_destroy (&sb);
  }
  q2_repair_free (repair);
  if (r == 0)
    return 0;
 fail:
  fprintf (stderr, "%s: %s\n", name, err.text);
  return 1;
}

static int
handle_file (const char *name, bool only_scan, bool blind)
{
  struct q2_io_shared shared = { 0 };
  struct local_file f;
  struct q2_io io = { .host = &f.io, .shared = &shared };
  int r;

  if (!local_file_open (&f, name, only_scan ? O_RDONLY : O_RDWR)) {
    perror (name);
    exit (2);
  }
  if (blind)
    f.io.ops = &local_file_blind_ops;
  io.file_size = f.io.size;
  q2_io_shared_init (&shared);
  r = handle (name, &io, only_scan);
  q2_io_shared_destroy (&shared);
  local_file_close (&f);
  return r;
}

int
main (int argc, char *argv[])
{
  const bool blind = argc > 1 && strcmp (argv[1], "-b") == 0;
  const bool only_scan = blind || (argc > 1 && strcmp (argv[1], "-n") == 0);
  int r = 0;

  for (int i = only_scan ? 2 : 1; i < argc; ++i)
    r |= handle_file (argv[i], only_scan, blind);
  return r;
}
