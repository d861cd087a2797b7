/* SPDX-License-Identifier: BSD-3-Clause */
/* check.c - qcow2_check.
 *
 * Owns      which open images can be checked, and repaired.
 * Method    the check reads all that it needs from the file, the header, too.
 *           Of the image it uses the I/O, and a repair the superblock, through
 *           which it writes to the header.
 * Locks     none: nobody writes to an image that is open for reading, and one
 *           that is opened for a check has no other user.
 */
#include "config.h"

#include "check/check.h"
#include "image/image.h"

#include "base/assume.h"
#include "base/error.h"

static int
check_allowed (const struct qcow2_image *image, enum qcow2_repair repair,
               struct qcow2_error *err)
{
  if (image->view != NULL || q2_image_info (image).version == 0)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                    "only images can be checked, not parts of one, and no "
                    "raw files");
  if (q2_image_info (image).version == 1)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                    "images of version 1 have no refcounts that could be "
                    "checked");
  if (!image->check && q2_image_info (image).writable)
    return q2_fail (err, QCOW2_ERR_REFUSED, QCOW2_NO_OFFSET,
                    "the image is open for writing, so its refcounts may "
                    "change while they are checked");
  if (repair != QCOW2_REPAIR_NONE && !q2_image_info (image).writable)
    return q2_fail (err, QCOW2_ERR_READ_ONLY, QCOW2_NO_OFFSET,
                    "the image cannot be repaired: %s",
                    q2_image_info (image).why_read_only);
  return 0;
}

int
qcow2_check (struct qcow2_image *image, const struct qcow2_io *host,
             const struct qcow2_check_options *options,
             struct qcow2_check_result *ret_result, struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (image, host);
  int r;

  if (check_allowed (image, options->repair, err) == -1)
    return -1;
  r = q2_check_image (&io, &image->superblock, options, ret_result, err);
  if (q2_check_end (err) == -1)
    r = -1;
  return r;
}
