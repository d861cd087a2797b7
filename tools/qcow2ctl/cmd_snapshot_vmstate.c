/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_snapshot_vmstate.c - "snapshot vmstate": what a virtual machine had in
 * memory when a snapshot was taken.
 *
 * Owns      the file that it is copied to.
 * Method    a new file, or standard output unless that is a terminal: the
 *           state is binary.  A file that could not be written completely is
 *           removed.
 * Locks     none of its own.
 */
#include "config.h"

#include "commands.h"

#include "ctl.h"
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE (UINT32_C (1) << 20)

struct target {
  const char *path;             /* NULL: standard output */
  int fd;
};

static int
fail_target (const struct target *t, const char *what)
{
  return fail_code (errno == EEXIST ? CODE_NAME : CODE_FAILED, "%s: %s: %s",
                    t->path ? t->path : "standard output", what,
                    strerror (errno));
}

static int
target_open (struct target *t)
{
  t->fd = STDOUT_FILENO;
  if (t->path == NULL && isatty (t->fd))
    return fail_code (CODE_FAILED, "a VM state is nothing for a terminal; "
                      "give --output-file FILE, or write it to a pipe");
  if (t->path != NULL)
    t->fd = open (t->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  return t->fd == -1 ? fail_target (t, "cannot be created") : CODE_OK;
}

static int
target_write (const struct target *t, const unsigned char *buf, size_t len)
{
  while (len > 0) {
    const ssize_t n = write (t->fd, buf, len);

    if (n == -1 && errno != EINTR)
      return fail_target (t, "cannot be written to");
    if (n > 0) {
      buf += n;
      len -= (size_t) n;
    }
  }
  return CODE_OK;
}

static int
target_close (const struct target *t, int code)
{
  if (t->path == NULL)
    return code;
  if (code == CODE_OK && fsync (t->fd) == -1)
    code = fail_target (t, "cannot be made durable");
  if (close (t->fd) == -1 && code == CODE_OK)
    code = fail_target (t, "cannot be closed");
  if (code != CODE_OK)
    unlink (t->path);
  return code;
}

static int
copy (const struct image *i, struct qcow2_image *state,
      const struct target *t)
{
  const uint64_t size = qcow2_get_info (state).virtual_size;
  unsigned char *const buf = malloc (PIECE);
  int code = CODE_OK;

  if (buf == NULL)
    return fail_code (CODE_FAILED, "out of memory");
  for (uint64_t at = 0; at < size && code == CODE_OK; at += PIECE) {
    const uint32_t n = (uint32_t) (size - at < PIECE ? size - at : PIECE);
    struct qcow2_error err;

    code = qcow2_pread (state, i->io, buf, n, at, &err) == -1
      ? fail_error (i->name, &err) : target_write (t, buf, n);
  }
  free (buf);
  return code;
}

static int
run (struct ctl *ctl, const struct args *args)
{
  const char *const text = args->operands[1];
  const struct qcow2_name name = { text, strlen (text) };
  struct target t = { .path = args_value (args, "output-file") };
  struct qcow2_image *state;
  struct qcow2_error err;
  struct image i;
  int code = image_open (ctl, &i, args->operands[0], OPEN_TO_MAP);

  if (code != CODE_OK)
    return code;
  state = qcow2_open_vm_state (i.image, i.io, &name,
                               args_value (args, "by-id") != NULL, &err);
  if (state == NULL)
    return image_close (&i, fail_error (i.name, &err));
  code = target_open (&t);
  if (code == CODE_OK)
    code = target_close (&t, copy (&i, state, &t));
  qcow2_close (state);
  return image_close (&i, code);
}

static const struct option_spec options[] = {
  { "by-id", 0, NULL, "NAME is its id" },
  { "output-file", 0, "FILE",
    "write it to a new file (default: standard\noutput)" },
  { NULL, 0, NULL, NULL }
};

const struct command cmd_snapshot_vmstate = {
  .name = "snapshot vmstate", .operands = "IMAGE NAME",
  .min_operands = 2, .max_operands = 2,
  .takes = TAKES_LAYERS | TAKES_SHARE, .options = options,
  .summary = "Read the VM state of a snapshot", .run = run,
};
