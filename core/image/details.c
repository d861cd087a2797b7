/* SPDX-License-Identifier: BSD-3-Clause */
/* details.c - what the header of an image says besides its info.
 *
 * Owns      struct qcow2_details, and the bytes that it points to, in one
 *           piece of memory.
 * Method    the names are read again from where the header says they are.
 * Locks     none: the current header is constant.
 */
#include "config.h"

#include "image/image.h"
#include "format/luks.h"

#include "base/assume.h"
#include "base/cleanup.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>

/* Names are in the first cluster. */
#define MAX_NAME (UINT32_C (2) << 20)

struct details {
  struct qcow2_details it;      /* first: it is the same pointer */
  struct qcow2_luks luks;
  char bytes[];
};

static int
read_name (const struct q2_io *io, const struct q2_name *name, char **bytes,
           struct qcow2_name *ret, struct qcow2_error *err)
{
  *ret = (struct qcow2_name) { *bytes, name->len };
  *bytes += name->len;
  return name->len == 0 ? 0
    : q2_io_read (io, *bytes - name->len, name->len, name->offset,
                  QCOW2_IO_HEADER, err);
}

static int
read_luks (const struct q2_io *io, const struct q2_header *h,
           struct details *d, struct qcow2_error *err)
{
  unsigned char bytes[Q2_LUKS_HEADER];

  if (h->luks_bytes < sizeof bytes)
    return 0;
  if (q2_io_read (io, bytes, sizeof bytes, h->luks_offset, QCOW2_IO_HEADER,
                  err) == -1)
    return -1;
  if (q2_luks_describe (bytes, &d->luks))
    d->it.luks = &d->luks;
  return 0;
}

static struct details *
get_details (const struct q2_io *io, const struct q2_header *h,
             struct qcow2_error *err)
{
  Q2_CLEANUP_FREE struct details *d = NULL;
  char *bytes;

  if (h->backing_file.len > MAX_NAME || h->backing_format.len > MAX_NAME ||
      h->data_file.len > MAX_NAME) {
    q2_fail (err, QCOW2_ERR_CORRUPT, QCOW2_NO_OFFSET,
             "the names in the header are larger than any header");
    return NULL;
  }
  d = calloc (1, sizeof *d + h->backing_file.len + h->backing_format.len +
              h->data_file.len + 1);
  if (d == NULL) {
    q2_fail_nomem (err, "details of the image");
    return NULL;
  }
  d->it = (struct qcow2_details) {
    .data_file_raw = h->autoclear & Q2_AUTOCLEAR_DATA_RAW,
    .incompatible = h->incompatible, .compatible = h->compatible,
    .autoclear = h->autoclear, .l1_offset = h->l1_offset,
    .l1_entries = h->l1_entries,
    .refcount_table_offset = h->refcount_table_offset,
  };
  bytes = d->bytes;
  if (read_name (io, &h->backing_file, &bytes, &d->it.backing_file, err)
      == -1 ||
      read_name (io, &h->backing_format, &bytes, &d->it.backing_format,
                 err) == -1 ||
      read_name (io, &h->data_file, &bytes, &d->it.data_file, err) == -1 ||
      read_luks (io, h, d, err) == -1)
    return NULL;
  /* One after the other, and a byte is left for the end. */
  if (!q2_assume (bytes == d->bytes + h->backing_file.len +
                  h->backing_format.len + h->data_file.len, err))
    return NULL;
  return q2_take (d);
}

struct qcow2_details *
qcow2_get_details (struct qcow2_image *image, const struct qcow2_io *host,
                   struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (image, host);
  const bool has_header =
    image->view == NULL && q2_image_info (image).version > 0;
  const struct q2_header h =
    has_header ? q2_image_header (image) : (struct q2_header) { .version = 0 };
  struct details *const d = get_details (&io, &h, err);

  if (q2_check_end (err) == -1) {
    free (d);
    return NULL;
  }
  return (struct qcow2_details *) d;    /* its first member */
}

void
qcow2_details_free (struct qcow2_details *details)
{
  free (details);
}
