/* SPDX-License-Identifier: BSD-3-Clause */
/* image.c - opening the image that a command is about.
 *
 * Owns      the order: find out what the name is, claim it in this process,
 *           open and lock it, then the image in it, and last the files that
 *           this stands on.
 * Method    a local file is opened just to look first, so that no FIFO is
 *           waited for and no device touched.  An NBD server has no locks, so
 *           an image on one is changed only if the user says that nobody else
 *           uses it.
 * Locks     QEMU's locks on local files, held until image_close: for reading
 *           unless the image is changed.
 */
#include "config.h"

#include "image.h"

#include "host/follow.h"
#include "host/gate.h"
#include "host/given.h"
#include "host/layers.h"
#include "host/localfile.h"
#include "host/locks.h"
#include "host/names.h"
#include "host/nbdfile.h"
#include "host/other.h"
#include "holders.h"
#include "rehearsal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct rule_words place_words = { .program = "program" };

static int
fail_errno (const struct image *i, const char *what)
{
  const int code = errno == ENOENT ? CODE_NAME
    : errno == EBUSY ? CODE_BUSY : CODE_FAILED;

  return fail_code (code, "%s: %s%s", i->name, what, strerror (errno));
}

/* ---- Local files -------------------------------------------------------- */

static int
fail_kind (const struct image *i, mode_t mode)
{
  return fail_code (CODE_FAILED, "%s is %s, and an image can only be in a "
                    "regular file or on a block device", i->name,
                    S_ISDIR (mode) ? "a folder" : S_ISFIFO (mode) ? "a pipe"
                    : S_ISSOCK (mode) ? "a socket; an NBD server on it is "
                    "nbd+unix:///?socket=PATH"
                    : "a character device");
}

static int
identify (struct image *i, int fd)
{
  struct stat st;

  if (fstat (fd, &st) == -1)
    return fail_errno (i, "");
  return identity_of_file (&st, &i->id) ? CODE_OK
    : fail_kind (i, st.st_mode);
}

static int
lock (const struct image *i, int fd, bool writing)
{
  if (!i->ctl->lock)
    return CODE_OK;
  if ((writing ? lock_for_writing (&i->ctl->env, fd, i->name)
       : lock_for_reading (&i->ctl->env, fd, i->name)) == 0)
    return CODE_OK;
  if (errno != EBUSY)           /* which was logged */
    return CODE_FAILED;
  holders_print (fd, i->name);
  return CODE_BUSY;
}

static int
open_local (struct image *i, bool writing)
{
  struct qcow2_error err;
  int fd = open (i->place.text, O_PATH | O_CLOEXEC);
  int code, path_fd = fd;

  if (fd == -1)
    return fail_errno (i, "");
  code = identify (i, fd);
  if (code == CODE_OK) {
    fd = follow_open (path_fd, writing ? O_RDWR : O_RDONLY);
    if (fd == -1)
      code = fail_code (errno == EBUSY ? CODE_BUSY : CODE_FAILED, "%s: %s%s",
                        i->name, writing ? "it cannot be written to: " : "",
                        follow_why_not_open (errno));
  }
  close (path_fd);
  if (code != CODE_OK)
    return code;
  code = lock (i, fd, writing);
  if (code != CODE_OK) {
    close (fd);
    return code;
  }
  i->folder = folder_of (i->place.text);
  i->other = localfile_new (&i->ctl->env, fd, i->name, writing, &err);
  return i->other ? CODE_OK : fail_error (NULL, &err);
}

/* ---- NBD servers -------------------------------------------------------- */

static int
open_nbd (struct image *i, bool writing)
{
  struct qcow2_error err;

  if (writing && !i->ctl->no_lock)
    return fail_code (CODE_FAILED, "%s: NBD has no locks, so nothing would "
                      "keep others from writing to the image meanwhile; give "
                      "--no-lock if nobody else has it open", i->name);
  i->id = (struct identity) { .kind = ID_URI, .text = i->place.text };
  i->other = nbdfile_open (&i->ctl->env, &i->place, writing, &err);
  if (i->other == NULL)
    return fail_error (i->name, &err);
  if (writing && i->other->ops.pwrite == NULL)
    return fail_code (CODE_FAILED, "%s cannot be written to", i->name);
  return CODE_OK;
}

/* ---- Both --------------------------------------------------------------- */

static void
release (struct image *i)
{
  qcow2_close (i->image);
  qcow2_close (i->nothing);
  layers_release (&i->layers);
  rehearsal_free (i->rehearsal);
  if (i->other)
    i->other->close (i->other);
  claim_release (&i->claim);
  free (i->folder);
  place_clear (&i->place);
  i->image = i->nothing = NULL;
  i->other = NULL;
  i->rehearsal = NULL;
}

int
image_open_bytes (struct ctl *ctl, struct image *i, const char *name,
                  bool writing)
{
  struct qcow2_error err;
  int code;

  *i = (struct image) { .ctl = ctl, .name = name, .failed = -1 };
  ctl->env.lock = ctl->lock;
  if (place_parse (&i->place, &place_words, name, name, false, &err) == -1) {
    place_clear (&i->place);
    return fail_error (NULL, &err);
  }
  /* Paths as they were given, URIs without secrets. */
  if (i->place.kind == PLACE_URI)
    i->name = i->place.name;
  code = i->place.kind == PLACE_URI ? open_nbd (i, writing)
    : open_local (i, writing);
  if (code == CODE_OK && !claim_take (&ctl->env, &i->claim, &i->id, writing))
    code = fail_code (CODE_BUSY, "%s is open twice", i->name);
  if (code != CODE_OK) {
    release (i);
    return code;
  }
  i->io = &i->other->io;
  return CODE_OK;
}

/* Stands for a file that is not needed: nothing is read from it.  What it has
 * is not known, so it is as long as a file can be: the engine takes nothing
 * that an image does not have for zeros.
 */
static int
read_nothing (void *opaque, void *buf, uint32_t count, uint64_t host_off,
              enum qcow2_io_class class)
{
  (void) opaque;
  (void) buf;
  (void) count;
  (void) host_off;
  (void) class;
  return EIO;
}

static int
write_nothing (void *opaque, const void *buf, uint32_t count,
               uint64_t host_off, enum qcow2_io_class class)
{
  (void) opaque;
  (void) buf;
  (void) count;
  (void) host_off;
  (void) class;
  return EIO;
}

static int
flush_nothing (void *opaque)
{
  (void) opaque;
  return 0;
}

static const struct qcow2_io_ops no_ops = {
  .pread = read_nothing, .pwrite = write_nothing, .flush = flush_nothing,
};
static const struct qcow2_io no_io = {
  .ops = &no_ops, .size = INT64_MAX, .min_block = 1, .concurrent = true,
};

/* Opens what options name, and nothing in the place of the rest. */
struct given_gate {
  struct gate gate;             /* host/gate.h */
  struct image *i;
  bool alone;                   /* no backing file */
};

static int
open_given (void *opaque, const struct qcow2_reference *reference,
              struct qcow2_file *ret_file, struct qcow2_error *err)
{
  struct given_gate *const g = opaque;
  const struct rules *const rules = &g->i->ctl->rules;
  const struct qcow2_options raw = { .raw = true };
  const bool given = rules->follow != NULL ||
    (reference->kind == QCOW2_DATA_FILE ? rules->data_file != NULL
     : rules->nr_backing > 0);
  const bool unwanted = g->alone && reference->kind == QCOW2_BACKING_FILE;

  if (given && !unwanted)
    return gate_open_file (&g->gate, reference, ret_file, err);
  *ret_file = (struct qcow2_file) { .io = &no_io };
  if (reference->kind == QCOW2_DATA_FILE) {
    g->i->no_data = true;
    return 0;
  }
  g->i->unknown = reference_kind (reference);
  g->i->nothing = qcow2_open (&no_io, &raw, err);
  ret_file->image = g->i->nothing;
  return ret_file->image ? 0 : -1;
}

int
image_open_inside (struct image *i, enum opening opening)
{
  struct ctl *const ctl = i->ctl;
  struct qcow2_options options = ctl->env.options (&ctl->env, i->name);
  const struct passphrase passphrase = rules_passphrase (&ctl->rules, 0);
  struct given_gate given_gate = {
    .i = i, .alone = opening == OPEN_TO_MAP_ALONE,
  };
  struct gate *const gate = &given_gate.gate;
  struct qcow2_error err;
  int r = -1;

  gate_init (gate, &ctl->env, &i->id, i->folder);
  gate->write_to = i->write_to;
  gate->write_below = opening == OPEN_TO_COMMIT && i->write_to == NULL;
  i->changing = opening == OPEN_TO_CHANGE || opening == OPEN_TO_COMMIT ||
    opening == OPEN_TO_CHANGE_HEADER;
  options.inspect = opening == OPEN_TO_INSPECT ||
    opening == OPEN_TO_CHANGE_KEYS;
  options.check = opening == OPEN_TO_CHECK || opening == OPEN_TO_REPAIR;
  options.raw = opening == OPEN_TO_READ_RAW;
  options.writable = i->changing || opening == OPEN_TO_REPAIR;
  options.open_file = opening == OPEN_TO_MAP ||
    opening == OPEN_TO_MAP_ALONE || opening == OPEN_TO_CHANGE_HEADER
    ? open_given : gate_open_file;
  options.open_file_opaque = gate;
  options.passphrase = passphrase.bytes;
  options.passphrase_len = passphrase.len;
  i->image = qcow2_open (i->io, &options, &err);
  i->layers = gate->layers;
  if (i->image != NULL)
    r = opening == OPEN_TO_READ || opening == OPEN_TO_READ_RAW ||
      i->changing || opening == OPEN_TO_MAP
      ? gate_check_unused (gate, i->image, &err) : 0;
  if (r == -1) {
    i->failed = err.kind;
    return fail_error (i->name, &err);
  }
  if (options.writable && !qcow2_get_info (i->image).writable) {
    const struct qcow2_info info = qcow2_get_info (i->image);
    const char *const words = advice_words (info.read_only_advice);

    return fail_code (CODE_FAILED, "%s cannot be changed: %s%s%s", i->name,
                      info.why_read_only, words[0] ? "; " : "", words);
  }
  return CODE_OK;
}

static bool
is_for_writing (enum opening opening)
{
  return opening == OPEN_TO_CHANGE || opening == OPEN_TO_CHANGE_HEADER ||
    opening == OPEN_TO_CHANGE_KEYS || opening == OPEN_TO_COMMIT ||
    opening == OPEN_TO_REPAIR;
}

static int
open_for (struct ctl *ctl, struct image *i, const char *name,
          enum opening opening, const struct identity *write_to)
{
  int code;

  if (opening != OPEN_TO_INSPECT)
    rules_lock (&ctl->rules);
  code = image_open_bytes (ctl, i, name, is_for_writing (opening));
  if (code != CODE_OK)
    return code;
  i->write_to = write_to;
  code = image_open_inside (i, opening);
  if (code != CODE_OK)
    release (i);
  return code;
}

int
image_open (struct ctl *ctl, struct image *i, const char *name,
            enum opening opening)
{
  return open_for (ctl, i, name, opening, NULL);
}

int
image_open_to_commit (struct ctl *ctl, struct image *i, const char *name,
                      const struct identity *write_to)
{
  return open_for (ctl, i, name, OPEN_TO_COMMIT, write_to);
}

int
image_end (struct image *i, int code)
{
  struct qcow2_error err;
  const char *words;

  if (!i->changing || qcow2_end (i->image, i->io, &err) == 0 ||
      code != CODE_OK)
    return code;
  words = advice_words (err.advice);
  return fail_code (CODE_CHANGED, "%s is changed, but closing it has failed: "
                    "%s%s%s", i->name, err.text, words[0] ? "; " : "", words);
}

int
image_close (struct image *i, int code)
{
  /* After a failure, too: what was not changed is closed cleanly, unless it
   * cannot be.
   */
  if (i->image != NULL)
    code = image_end (i, code);
  release (i);
  return code;
}
