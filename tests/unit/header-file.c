/* SPDX-License-Identifier: BSD-3-Clause */
/* header-file.c - changes the header of an image file step by step; for tests
 * in which QEMU reads the states after a crash on the way.
 *
 * usage: header-file IMAGE STATE CHANGE [VALUE]
 *
 * Changes: backing NAME, no-bitmaps, reorder (nothing, in our own layout).
 * STATE is the state of the file: "after", or a number of sectors that were
 * written.  Writes of the plan come in order, each sector by sector in both
 * directions.  Prints "more" if there are more states, else "last".
 */
#include "config.h"

#include "base/bits.h"
#include "format/header_plan.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int
edit (struct q2_header_parts *parts, char **change, struct qcow2_error *err)
{
  if (strcmp (change[0], "backing") == 0 && change[1])
    return q2_header_set_backing_file (parts, change[1], strlen (change[1]),
                                       err);
  if (strcmp (change[0], "no-bitmaps") == 0)
    return q2_header_set_bitmaps (parts, 0, 0, 0, err);
  if (strcmp (change[0], "reorder") == 0)
    return 0;
  fprintf (stderr, "header-file: unknown change '%s'\n", change[0]);
  exit (EXIT_FAILURE);
}

static void
write_sector (int fd, const struct q2_header_write *w, uint32_t n)
{
  const size_t off = (size_t) n * Q2_HEADER_SECTOR;

  if (pwrite (fd, w->bytes + off, Q2_HEADER_SECTOR, (off_t) (w->off + off))
      != Q2_HEADER_SECTOR) {
    perror ("header-file: pwrite");
    exit (EXIT_FAILURE);
  }
}

/* Each write twice: what has been written from its start up to a sector, and
 * from its end down to one.
 */
static bool
leave_state (int fd, const struct q2_header_plan *plan, unsigned long state)
{
  for (size_t i = 0; i < plan->nr_writes; ++i) {
    const struct q2_header_write *const w = &plan->writes[i];
    const uint32_t nr = w->len / Q2_HEADER_SECTOR;

    if (state < 2 * nr) {
      for (uint32_t n = 0; n <= state % nr; ++n)
        write_sector (fd, w, state < nr ? n : nr - 1 - n);
      return true;
    }
    state -= 2 * nr;
    for (uint32_t n = 0; n < nr; ++n)
      write_sector (fd, w, n);
  }
  return false;
}

int
main (int argc, char **argv)
{
  static unsigned char bytes[UINT32_C (1) << Q2_MAX_CLUSTER_BITS];
  struct q2_header_parts parts;
  struct q2_header_plan plan;
  struct qcow2_error err;
  bool more;
  int fd;

  if (argc < 4) {
    fprintf (stderr, "usage: header-file IMAGE STATE CHANGE [VALUE]\n");
    return EXIT_FAILURE;
  }
  fd = open (argv[1], O_RDWR | O_CLOEXEC);
  if (fd == -1 || pread (fd, bytes, sizeof bytes, 0) < Q2_HEADER_PROBE) {
    perror (argv[1]);
    return EXIT_FAILURE;
  }
  if (q2_header_parts_load (&parts, bytes, q2_header_area (bytes, sizeof bytes),
                            &err) == -1 ||
      edit (&parts, argv + 3, &err) == -1 ||
      q2_header_plan (&plan, bytes,
                      (size_t) 1 << parts.fields.cluster_bits, &parts, &err)
      == -1 || !plan.atomic) {
    fprintf (stderr, "header-file: %s\n", err.text);
    return EXIT_FAILURE;
  }
  more = leave_state (fd, &plan, strcmp (argv[2], "after") == 0 ? ULONG_MAX
                      : strtoul (argv[2], NULL, 10));
  printf ("%s\n", more ? "more" : "last");
  q2_header_plan_free (&plan);
  q2_header_parts_free (&parts);
  return close (fd) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
