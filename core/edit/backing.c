/* SPDX-License-Identifier: BSD-3-Clause */
/* backing.c - which backing image the header names.
 *
 * Owns      the name and the format in the header.
 * Method    one change of the header; no other file is looked at, and no
 *           cluster is touched.
 * Locks     the gate is closed.
 */
#include "config.h"

#include "edit/amend.h"

#include "base/error.h"

#include <string.h>

/* What QEMU's names of formats have room for. */
#define MAX_FORMAT 15u

static int
refuse (struct qcow2_error *err, const char *what)
{
  return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET, "%s", what);
}

static bool
has_nul (const struct qcow2_name *name)
{
  return memchr (name->bytes, '\0', name->len) != NULL;
}

/* Empty is the same as none. */
static bool
is_none (const struct qcow2_name *name)
{
  return name == NULL || name->len == 0;
}

int
q2_backing_check (const struct qcow2_image *image,
                  const struct qcow2_name *file,
                  const struct qcow2_name *format, struct qcow2_error *err)
{
  const struct q2_header h = q2_image_header (image);

  if (is_none (file))
    return is_none (format) ? 0
      : refuse (err, "a backing format needs a backing file");
  if (is_none (format))
    return refuse (err, "a backing file needs its format: if readers had to "
                   "guess, a guest could make a raw disk look like a qcow2 "
                   "image");
  if (file->len > Q2_MAX_BACKING_NAME)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "the name of the backing file has %zu bytes, at most %u "
                    "are possible", file->len, Q2_MAX_BACKING_NAME);
  if (format->len > MAX_FORMAT)
    return refuse (err, "a backing format has at most 15 bytes");
  if (has_nul (file) || has_nul (format))
    return refuse (err, "the name of a backing file, and of its format, "
                   "cannot have a byte 0");
  if (h.autoclear & Q2_AUTOCLEAR_DATA_RAW)
    return refuse (err, "a raw data file and a backing file cannot be used "
                   "together: the data file has to equal the disk");
  return 0;
}

int
q2_backing_set (struct q2_header_parts *parts, const struct qcow2_name *file,
                const struct qcow2_name *format, struct qcow2_error *err)
{
  if (is_none (file))
    return q2_header_set_backing_file (parts, NULL, 0, err);
  if (q2_header_set_backing_file (parts, file->bytes, file->len, err) == -1)
    return -1;
  return q2_header_set_ext (parts, Q2_EXT_BACKING_FORMAT, format->bytes,
                            format->len, err);
}

struct backing {
  const struct qcow2_name *file, *format;
};

static int
edit_header (void *opaque, struct q2_header_parts *parts,
             struct qcow2_error *err)
{
  const struct backing *const b = opaque;

  return q2_backing_set (parts, b->file, b->format, err);
}

int
qcow2_set_backing (struct qcow2_image *image, const struct qcow2_io *host,
                   const struct qcow2_name *file,
                   const struct qcow2_name *format, unsigned flags,
                   struct qcow2_error *err)
{
  static const char what[] = "the backing file cannot be changed";
  struct backing b = { file, format };
  struct q2_edit e;
  int r;

  if (q2_edit_check (image, what, err) == -1 ||
      q2_backing_check (image, file, format, err) == -1 ||
      q2_edit_begin (&e, image, host, Q2_EDIT_IMAGE, what, err) == -1)
    return -1;
  r = q2_edit_switch (&e, edit_header, &b, flags & QCOW2_SET_BACKING_FORCE
                      ? Q2_SUPERBLOCK_FORCE : 0, err);
  return q2_edit_end_last (&e, r, err);
}
