/* SPDX-License-Identifier: BSD-3-Clause */
/* below.c - the files that an image stands on, one by one, to inspect them.
 *
 * Owns      each of the files while it is looked at; all stay open, and
 *           locked, until the walk has ended.
 * Method    host/find.c says which file a name means, if it may be opened.
 *           Nothing is decrypted, so this needs no passphrase.  A file that
 *           comes twice ends the walk.
 * Locks     QEMU's locks on local files, for reading.
 */
#include "config.h"

#include "below.h"

#include "host/error.h"
#include "host/find.h"
#include "host/follow.h"
#include "host/gate.h"
#include "host/localfile.h"
#include "host/locks.h"
#include "host/nbdfile.h"
#include "host/other.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct step {
  struct step *above;
  struct found found;
  struct gate gate;
  struct other *other;
  struct qcow2_image *image;
};

static int
open_bytes (const struct host_env *env, struct step *s,
            struct qcow2_error *err)
{
  int fd;

  if (s->found.fd == -1) {
    s->other = nbdfile_open (env, s->found.place, false, err);
    return s->other ? 0 : -1;
  }
  fd = follow_open (s->found.fd, O_RDONLY);
  if (fd == -1)
    return fail_with (err, QCOW2_ERR_IO, errno, "%s cannot be opened: %s",
                      s->found.name, follow_why_not_open (errno));
  if (lock_file (env, fd, s->found.name, false, err) == -1) {
    close (fd);
    return -1;
  }
  s->other = localfile_new (env, fd, s->found.name, false, err);
  return s->other ? 0 : -1;
}

static int
check_twice (const struct image *image, const struct step *s,
             struct qcow2_error *err)
{
  unsigned depth = 1;

  for (const struct step *a = s->above; a; a = a->above, ++depth)
    if (identity_equal (&a->found.id, &s->found.id))
      return fail_with (err, QCOW2_ERR_REFUSED, ELOOP, "%s is already in the "
                        "chain of files of this image, which so would never "
                        "end", s->found.name);
  if (identity_equal (&image->id, &s->found.id))
    return fail_with (err, QCOW2_ERR_REFUSED, ELOOP, "the image is its own "
                      "backing file (%s)", s->found.name);
  if (depth > MAX_LAYERS)
    return fail_with (err, QCOW2_ERR_UNSUPPORTED, ENOTSUP,
                      "the image has more than %d backing files below each "
                      "other", MAX_LAYERS);
  return 0;
}

static int
open_step (const struct image *image, struct step *s, struct qcow2_error *err)
{
  const struct host_env *const env = &image->ctl->env;
  struct qcow2_options options = env->options (env, s->found.name);

  if (check_twice (image, s, err) == -1 || open_bytes (env, s, err) == -1)
    return -1;
  if (s->found.format == FORMAT_RAW)
    return 0;
  options.inspect = true;
  s->image = qcow2_open (&s->other->io, &options, err);
  return s->image ? 0 : fail_in (err, "%s: ", s->found.name);
}

static void
free_steps (struct step *s)
{
  while (s) {
    struct step *const above = s->above;

    qcow2_close (s->image);
    if (s->other)
      s->other->close (s->other);
    found_free (&s->found);
    free (s);
    s = above;
  }
}

/* The file below, in *ret; NULL if there is none.  'gate' is that of the image
 * with the reference.
 */
static int
find_below (const struct gate *gate, struct qcow2_image *image,
            const struct qcow2_io *io, struct step **ret,
            struct qcow2_error *err)
{
  struct qcow2_details *const d = qcow2_get_details (image, io, err);
  const bool is_last = d && d->backing_file.len == 0;
  struct step *const s = calloc (1, sizeof *s);
  int r = -1;

  *ret = NULL;
  if (s == NULL)
    fail_with (err, QCOW2_ERR_NOMEM, ENOMEM, "out of memory");
  else if (is_last)
    r = 0;
  else if (d) {
    const struct qcow2_reference reference = {
      .kind = QCOW2_BACKING_FILE,
      .name = d->backing_file.bytes, .name_len = d->backing_file.len,
      .format = d->backing_format.bytes, .format_len = d->backing_format.len,
    };

    r = find_file (gate, &reference, &s->found, err);
    if (r == 0)
      *ret = s;
  }
  if (*ret == NULL)
    free (s);
  qcow2_details_free (d);
  return r;
}

int
below_walk (const struct image *image, below_fn fn, void *opaque,
            struct qcow2_error *err)
{
  struct qcow2_image *current = image->image;
  const struct qcow2_io *io = image->io;
  struct step *last = NULL, *s;
  struct gate gate;
  unsigned depth = 0;
  int r = 0;

  gate_init (&gate, &image->ctl->env, &image->id, image->folder);
  while (r == 0 && current != NULL) {
    r = find_below (&gate, current, io, &s, err);
    if (r == -1 || s == NULL)
      break;
    s->above = last;
    last = s;
    r = open_step (image, s, err);
    if (r == -1)
      break;
    current = s->image;
    io = &s->other->io;
    gate_init (&gate, &image->ctl->env, &s->found.id, s->found.folder);
    gate.depth = ++depth;
    r = fn (opaque, &(struct subject) {
        .name = s->found.name, .image = s->image, .io = io,
        .path = s->found.fd != -1 ? s->found.name : NULL,
      }, err);
  }
  free_steps (last);
  return r;
}
