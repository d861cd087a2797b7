/* SPDX-License-Identifier: BSD-3-Clause */
/* header_read.c - reads the header area of an image.
 *
 * Owns      how much of the file that is.
 * Method    extensions tell where they end, so the first read covers what most
 *           images have, and another one what is left.  If the host cannot
 *           read all of that the beginning may do: what follows a header in a
 *           small cluster is something else.
 * Locks     none.
 */
#include "config.h"

#include "meta/header_read.h"

#include "base/cleanup.h"
#include "base/error.h"

/* Where header extensions usually end, even of 2 MiB clusters. */
#define PROBE_BYTES 65536

unsigned char *
q2_header_read (const struct q2_io *io, size_t *ret_len,
                struct qcow2_error *err)
{
  size_t len = PROBE_BYTES;
  bool failed = false;

  for (;;) {
    Q2_CLEANUP_FREE unsigned char *area = malloc (len);
    size_t need;

    if (area == NULL) {
      q2_fail_nomem (err, "the image header");
      return NULL;
    }
    if (q2_io_read (io, area, len, 0, QCOW2_IO_HEADER, err) == -1) {
      if (failed || err->kind != QCOW2_ERR_IO)
        return NULL;
      failed = true;
      len = Q2_HEADER_PROBE;
      continue;
    }
    need = q2_header_area (area, len);
    if (need <= len) {
      *ret_len = need;
      return q2_take (area);
    }
    /* Extensions do not end so soon. */
    len = failed ? q2_min (need, 4 * len) : need;
  }
}
