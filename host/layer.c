/* SPDX-License-Identifier: BSD-3-Clause */
/* layer.c - one backing file or data file: opening it, closing it.
 *
 * Owns      the order in which that is done.
 * Method    a file is claimed in this process, opened, and locked against
 *           others; then there is a way to its bytes; and for a backing file
 *           the image on top of that, which opens what it stands on itself.
 *           Closing goes the other way: the image first, because its
 *           background work uses the rest.
 *
 *           Which thread opens a layer, and when it is closed, layers.c
 *           decides.
 * Locks     none: one thread has it for itself while it is opened, and when
 *           it is closed; in between it is constant.
 */
#include "config.h"

#include "host/layer.h"

#include "qcow2.h"
#include "host/chain.h"
#include "host/claims.h"
#include "host/env.h"
#include "host/error.h"
#include "host/fileid.h"
#include "host/find.h"
#include "host/follow.h"
#include "host/localfile.h"
#include "host/locks.h"
#include "host/nbdfile.h"
#include "host/other.h"
#include "host/rules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int
fail_claim (const struct layer *l, struct qcow2_error *err)
{
  if (l->key.writing)
    return fail_with (err, QCOW2_ERR_REFUSED, EBUSY,
                      "%s cannot be opened for writing, because %s has it "
                      "open for another image", l->name,
                      l->env->words->process);
  return fail_with (err, QCOW2_ERR_REFUSED, EBUSY,
                    "%s is open for writing in %s", l->name,
                    l->env->words->process);
}

/* An image that names another image as its data file is after that one's
 * header, however much is allowed to be followed.
 */
static int
check_writable (const struct host_env *env, int fd, const struct found *found,
                bool writing, struct qcow2_error *err)
{
  const bool data_file = found->format == FORMAT_UNKNOWN;
  const int is_image =
    writing && data_file && found->place == NULL ? file_is_image (fd) : 0;

  if (is_image == -1)
    return fail_with (err, QCOW2_ERR_IO, errno, "the data file %s cannot be "
                      "looked at: %s", found->name, strerror (errno));
  if (is_image == 0)
    return 0;
  return fail_with (err, QCOW2_ERR_REFUSED, EPERM,
                    "the data file that the image names, %s, is a qcow2 "
                    "image itself, and is not written to because an image "
                    "says so; give %s if it is meant, or %s", found->name,
                    env->words->data_file, env->words->read_only);
}

/* A stranger's image could name anybody's raw disk. */
static int
check_device (const struct layer *l, const struct found *found,
              struct qcow2_error *err)
{
  const struct host_words *const words = l->env->words;

  return !l->key.writing || found->place != NULL ||
    found->id.kind != ID_DEVICE ? 0
    : fail_with (err, QCOW2_ERR_REFUSED, EPERM, "%s, which the image names, "
                 "is a device, and is not written to because an image says "
                 "so; give %s if it is meant, or %s", found->name,
                 found->format == FORMAT_UNKNOWN ? words->data_file
                 : words->backing, words->read_only);
}

static struct other *
open_local (struct layer *l, struct found *found,
            struct qcow2_error *err)
{
  bool writing = l->key.writing;
  int fd;

  if (check_device (l, found, err) == -1)
    return NULL;
  fd = follow_open (found->fd, writing ? O_RDWR : O_RDONLY);
  if (fd == -1 && writing &&
      (errno == EACCES || errno == EROFS || errno == EPERM)) {
    host_warn (l->env, l->name, "cannot be written to: %m");
    writing = false;
    fd = follow_open (found->fd, O_RDONLY);
  }
  if (fd == -1) {
    fail_with (err, QCOW2_ERR_IO, errno, "%s cannot be opened: %s", l->name,
               follow_why_not_open (errno));
    return NULL;
  }
  if (check_writable (l->env, fd, found, writing, err) == -1 ||
      lock_file (l->env, fd, l->name, writing, err) == -1) {
    close (fd);
    return NULL;
  }
  /* Below this one there may be hundreds more. */
  close (found->fd);
  found->fd = -1;
  return localfile_new (l->env, fd, l->name, writing, err);
}

static struct other *
open_other (struct layer *l, struct found *found,
            struct qcow2_error *err)
{
  if (found->fd != -1)
    return open_local (l, found, err);
  /* What has no descriptor was named by a parameter. */
  if (!host_holds (l->env, found->place != NULL &&
                   found->place->kind != PLACE_FILE)) {
    fail_with (err, QCOW2_ERR_IO, EIO, "%s cannot be opened", l->name);
    return NULL;
  }
  if (found->place->kind == PLACE_EXPORT)
    return l->env->open_export (l->env, found->place, err);
  return nbdfile_open (l->env, found->place, l->key.writing, err);
}

static bool
said_by_parameter (const struct gate *gate)
{
  const struct rules *const rules = gate->env->rules;

  return gate->depth < rules->nr_formats &&
    rules->formats[gate->depth] == FORMAT_QCOW2;
}

/* What a parameter says of a file outweighs the header only if the file is
 * given by one, too.
 */
static int
fail_no_image (const struct layer *l, const struct gate *gate,
               struct qcow2_error *err)
{
  const struct host_words *const words = l->env->words;
  const bool by_parameter = said_by_parameter (gate);
  const bool given =
    gate->depth < l->env->rules->nr_backing || by_parameter;

  return fail_with (err, QCOW2_ERR_FORMAT, err->errnum,
                    "the backing file %s is no qcow2 image, although %s says "
                    "so; if it is a raw disk, %sgive %s%s%s%s%sraw", l->name,
                    by_parameter ? words->backing_format : "the image",
                    given ? "" : "correct the image with 'qemu-img rebase -u "
                    "-F raw -b FILE IMAGE', or ",
                    given ? "" : words->backing, given ? "" : words->sep,
                    given ? "" : "FILE with ", words->backing_format,
                    words->sep);
}

/* The image that a backing file is. */
static int
open_image (struct layer *l, const struct gate *gate, size_t nr_encrypted,
            struct qcow2_error *err)
{
  struct gate own = {
    .env = l->env, .open_file = gate->open_file, .above = gate,
    .layer = l, .id = l->key.id, .folder = l->folder, .depth = gate->depth + 1,
    .nr_encrypted = nr_encrypted, .write_to = gate->write_to,
  };
  const struct passphrase passphrase =
    rules_passphrase (l->env->rules, nr_encrypted);
  struct qcow2_options options = l->env->options (l->env, l->name);

  (void) host_holds (l->env, l->key.format != FORMAT_UNKNOWN);
  (void) host_holds (l->env, l->key.depth == 0 || l->key.depth == own.depth);
  options.raw = l->key.format == FORMAT_RAW;
  options.writable = l->key.writing && !options.raw;
  options.open_file = own.open_file;
  options.open_file_opaque = &own;
  options.passphrase = passphrase.bytes;
  options.passphrase_len = passphrase.len;
  l->image = qcow2_open (&l->other->io, &options, err);
  l->layers = own.layers;
  if (l->image == NULL && !own.blamed && err->kind == QCOW2_ERR_FORMAT)
    return fail_no_image (l, gate, err);
  if (l->image == NULL) {
    if (!own.blamed)
      fail_in (err, "backing file %s: ", l->name);
    return -1;
  }
  host_log (l->env, HOST_LOG_DEBUG, l->name, "opened: version %u, disk of "
            "%llu bytes, as a backing file",
            qcow2_get_info (l->image).version,
            (unsigned long long) qcow2_get_info (l->image).virtual_size);
  return 0;
}

int
layer_open (struct layer *l, struct gate *gate, struct found *found,
            const struct qcow2_reference *reference, struct qcow2_error *err)
{
  (void) host_holds (l->env, !l->ready && l->other == NULL &&
                     l->image == NULL);
  if (!claim_take (l->env, &l->claim, &l->key.id, l->key.writing))
    return fail_claim (l, err);
  l->other = open_other (l, found, err);
  if (l->other == NULL)
    return -1;
  if (reference->kind == QCOW2_BACKING_FILE &&
      open_image (l, gate, gate->nr_encrypted + reference->encrypted, err)
      == -1) {
    gate->blamed = true;
    return -1;
  }
  return 0;
}

void
layer_close_image (struct layer *l)
{
  if (l->image && l->env->closing)
    l->env->closing (l->env, l->name, l->image);
  qcow2_close (l->image);
  l->image = NULL;
}

void
layer_free (struct layer *l)
{
  /* They use what is closed here. */
  (void) host_holds (l->env, l->image == NULL && l->layers.backing == NULL &&
                     l->layers.data_file == NULL);
  (void) host_holds (l->env, !l->ready || l->users == 0);
  if (l->other)
    l->other->close (l->other);
  claim_release (&l->claim);
  free (l->name);
  free (l->folder);
  free (l);
}

/* ---- Questions --------------------------------------------------------- */

void
layer_get_file (const struct layer *l, struct qcow2_file *ret_file)
{
  (void) host_holds (l->env, l->other != NULL &&
                     (l->image == NULL) == (l->key.format == FORMAT_UNKNOWN));
  *ret_file = (struct qcow2_file) {
    .image = l->image, .io = &l->other->io,
  };
}

bool
layer_contains (const struct layer *l, const struct identity *id)
{
  for (; l; l = l->layers.backing)
    if (identity_equal (&l->key.id, id) ||
        (l->layers.data_file &&
         identity_equal (&l->layers.data_file->key.id, id)))
      return true;
  return false;
}

unsigned
layers_depth (const struct layers *ls)
{
  return ls->backing ? 1 + layer_depth (ls->backing) : 0;
}

unsigned
layer_depth (const struct layer *l)
{
  return layers_depth (&l->layers);
}
