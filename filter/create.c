/* SPDX-License-Identifier: BSD-3-Clause */
/* create.c - an image is created where there is none (qcow2-create).
 *
 * Owns      the parameter, and the rule for what may be replaced by an image:
 *           nothing at all, what reads as zeros, or what an interrupted
 *           creation has left; anything else only with "overwrite".  What is
 *           an image stays one, so a server may be started again and again.
 * Method    the engine looks at the file and creates; disk.c asks for it
 *           before the first opening for writing.
 * Locks     none: constant once the parameters are read, but for where the
 *           passphrase is, which is always the same.
 */
#include "config.h"

#include "create.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/newimage.h"
#include "host/rules.h"
#include "host/values.h"
#include "lines.h"
#include "places.h"
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static struct new_image wanted;
static bool is_wanted, overwrite;

/* ---- The parameter ----------------------------------------------------- */

/* The first word is the size, and "overwrite" is ours. */
static int
take_other (void *opaque, const char *key, const char *value,
            struct qcow2_error *error)
{
  bool *const first = opaque;

  if (*first && value == NULL) {
    *first = false;
    wanted.has_size = true;
    return parse_size (key, &wanted.options.virtual_size, error) == -1
      ? -1 : 1;
  }
  *first = false;
  if (value != NULL || strcmp (key, "overwrite") != 0)
    return 0;
  overwrite = true;
  return 1;
}

static int
check_options (void)
{
  struct qcow2_measurement ignored;
  struct qcow2_error error;

  if (!wanted.has_size) {
    nbdkit_error ("qcow2-create needs the size of the disk, as in "
                  "qcow2-create=10G");
    return -1;
  }
  if (wanted.options.data_file.len > 0) {
    nbdkit_error ("qcow2-create makes no data files; create the image before "
                  "the server is started");
    return -1;
  }
  if (qcow2_measure (&wanted.options, NULL, NULL, &ignored, &error) == 0)
    return 0;
  nbdkit_error ("qcow2-create: %s", error.text);
  return -1;
}

int
create_parse (const char *value)
{
  struct qcow2_error error;
  bool first = true;

  if (new_image_options (&wanted, value, take_other, &first, &error) == -1) {
    nbdkit_error ("qcow2-create: %s", error.text);
    return -1;
  }
  is_wanted = true;
  return check_options ();
}

/* What the new image could not be opened with. */
static const char *
find_contradiction (void)
{
  const bool encrypted = wanted.options.encryption != QCOW2_ENCRYPTION_NONE;
  const bool has_backing = wanted.options.backing_file.len > 0;

  if (encrypted && rules_passphrase (&places, 0).len == 0)
    return "an encrypted image needs qcow2-passphrase";
  if (has_backing && places.nr_backing == 0 && places.follow == NULL)
    return "a backing file needs qcow2-backing or qcow2-follow, too, or "
      "nothing could be served";
  if (!has_backing && places.nr_backing > 0)
    return "qcow2-backing is given, but the new image is to have no "
      "backing_file";
  if (!encrypted && !has_backing && rules_passphrase (&places, 0).len > 0)
    return "qcow2-passphrase is given, but the new image is not to be "
      "encrypted (encrypt.format=luks)";
  return NULL;
}

int
create_complete (void)
{
  const char *const what = is_wanted ? find_contradiction () : NULL;

  if (what == NULL)
    return 0;
  nbdkit_error ("qcow2-create: %s", what);
  return -1;
}

bool
create_wanted (void)
{
  return is_wanted;
}

void
create_unload (void)
{
  new_image_free (&wanted);
}

/* ---- Creating ---------------------------------------------------------- */

int
create_needed (const struct qcow2_io *io, const char *name)
{
  enum qcow2_content content;
  struct qcow2_error error;

  if (!is_wanted)
    return 0;
  if (qcow2_look_at (io, &content, &error) == -1) {
    errno = report (name, &error);
    return -1;
  }
  if (content == QCOW2_CONTENT_IMAGE)
    return 0;
  if (content != QCOW2_CONTENT_OTHER || overwrite)
    return 1;
  warning (name, "no image is created, because the file has something that "
           "is no qcow2 image; if that may be lost, add ',overwrite' to "
           "qcow2-create");
  errno = EEXIST;
  return -1;
}

int
create_now (const struct qcow2_io *io, const char *name)
{
  const struct passphrase passphrase = rules_passphrase (&places, 0);
  struct qcow2_error error;

  (void) holds (is_wanted && wanted.has_size);
  wanted.options.passphrase = passphrase.bytes;
  wanted.options.passphrase_len = passphrase.len;

  if (qcow2_create (io, &wanted.options, &error) == -1) {
    errno = report (name, &error);
    return -1;
  }
  warning (name, "created a new image with a disk of %" PRIu64 " bytes",
           wanted.options.virtual_size);
  return 0;
}
