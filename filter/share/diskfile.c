/* SPDX-License-Identifier: BSD-3-Clause */
/* diskfile.c - the local file of a disk: claims, locks, and how large it is.
 *
 * Owns      the descriptor of a struct disk, which holds the locks, and its
 *           claim.
 * Method    the image is opened with the locks of a reader, which keep
 *           others from writing; if it turns out that it can be written to,
 *           those of a writer are taken on top of them.
 * Locks     none: one thread at a time, as in disk.c.
 */
#include "config.h"

#include "share/diskfile.h"

#include "nbdkit_api.h"
#include "host/claims.h"
#include "host/fileid.h"
#include "host/locks.h"
#include "create.h"
#include "embed.h"
#include "lines.h"
#include "report.h"
#include "settings.h"
#include "stack.h"
#include "below/exportid.h"
#include "below/grow.h"
#include "below/next.h"
#include "below/writer.h"
#include "share/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A sector: what an image is created with first. */
#define LEAST_BYTES 512

static bool
may_be_read (int errnum)
{
  return errnum == EACCES || errnum == EPERM || errnum == EROFS ||
    errnum == ETXTBSY;
}

static int
fail_open (const struct disk *d, const char *what)
{
  const int errnum = errno;

  warning (d->name, "the file cannot be %s (%m), so it is not known whether "
           "another process writes to it; give qcow2-lock=off if you are "
           "sure that none does", what);
  errno = errnum;
  return -1;
}

/* -1: error.  There may be no local file, or none to be locked: the plugin
 * may serve a part of it, or make something else of it.  Then the file is no
 * image to anybody else, and its locks are not ours; but it may become one.
 */
static int
open_file (struct disk *d, bool writing)
{
  int is_image;

  if (!d->id.known && !d->id.device)
    return 0;
  d->fd = export_id_open (&d->id, d->exportname, writing ? O_RDWR : O_RDONLY);
  if (d->fd == -1 && writing && may_be_read (errno))
    d->fd = export_id_open (&d->id, d->exportname, O_RDONLY);
  if (d->fd == -1)
    return config.lock ? fail_open (d, "opened to be locked") : 0;
  is_image = file_is_image (d->fd);
  if (is_image == -1 && config.lock)
    return fail_open (d, "looked at");
  if (is_image == 1 || (writing && create_wanted ()))
    return 0;
  close (d->fd);
  d->fd = -1;
  return 0;
}

/* In this process. */
static int
claim_file (struct disk *d)
{
  const struct identity id = identity_of_export (&d->id, d->exportname);

  /* It could be any file, which somebody else is writing to. */
  if (d->id.errnum != 0) {
    errno = d->id.errnum;
    warning (d->name, "the file cannot be looked at: %m");
    errno = d->id.errnum;
    return -1;
  }
  if (claim_take (&filter_env, &d->claim, &id, false))
    return 0;
  warning (d->name, "is open for writing in this server, as the data file "
           "of an image or as an image of its own");
  errno = EBUSY;
  return -1;
}

/* Nothing can be read from a file without bytes, so it cannot be proven to be
 * what is served (grow.c), and not every plugin serves it; a hole is as good.
 * The caller has the lock for writing, if there are locks; another program
 * that takes none may write meanwhile, so this never makes a file smaller.
 */
static int
fill_empty (const struct disk *d)
{
  struct stat st;
  int errnum;

  if (fstat (d->fd, &st) == -1 || !S_ISREG (st.st_mode) || st.st_size != 0 ||
      (fcntl (d->fd, F_GETFL) & O_ACCMODE) != O_RDWR)
    return 0;
  errnum = posix_fallocate (d->fd, 0, LEAST_BYTES);
  if (errnum == 0)
    return 0;
  warning (d->name, "the empty file cannot be made larger: %s",
           strerror (errnum));
  errno = errnum;
  return -1;
}

/* Only where a local file can be made larger is an empty one of use. */
static int
prepare_empty (const struct disk *d)
{
  struct stat st;

  if (!create_wanted () || !config.grow || config.dir || d->fd == -1 ||
      !stack_is_plugin_alone ("file") || fstat (d->fd, &st) == -1 ||
      st.st_size != 0)
    return 0;
  if (config.lock && lock_for_writing (&filter_env, d->fd, d->name) == -1)
    return -1;
  return fill_empty (d);
}

int
diskfile_open (struct disk *d, bool writing)
{
  struct file_id now;

  (void) holds (d->fd == -1 && !d->unlocked && !d->writable);
  if (claim_file (d) == -1)
    return -1;
  if (!config.lock && !(config.grow && writing))
    return 0;
  if (open_file (d, writing) == -1)
    return -1;
  if (writing && prepare_empty (d) == -1)
    return -1;
  if (d->fd == -1 || !config.lock)
    return 0;
  if (lock_for_reading (&filter_env, d->fd, d->name) == -1)
    return -1;
  /* From here on nobody writes to it, but somebody may have. */
  export_id_get (&now, d->exportname);
  if (!file_id_equal (&now, &d->id))
    d->id.changing = true;
  return 0;
}

struct growth *
diskfile_growth (const struct disk *d)
{
  const uint64_t size = writer_abilities (d->writer)->size;
  struct stat st;

  if (!config.grow || d->fd == -1 ||
      (fcntl (d->fd, F_GETFL) & O_ACCMODE) != O_RDWR ||
      fstat (d->fd, &st) == -1 || !S_ISREG (st.st_mode) ||
      (uint64_t) st.st_size != size)
    return NULL;
  return growth_new (d->fd, &d->id, d->exportname, d->name, size);
}

/* Nobody else uses the file from here on, in this process or another. */
int
diskfile_become_writer (struct disk *d)
{
  (void) holds (!d->unlocked && !d->had_fd);
  if (!claim_upgrade (&d->claim)) {
    warning (d->name, "cannot be opened for writing, because an image that "
             "is open in this server stands on it, or because it is open "
             "read-only (use -r to serve it read-only)");
    errno = EBUSY;
    return -1;
  }
  return config.lock && d->fd != -1
    ? lock_for_writing_too (&filter_env, d->fd, d->name) : 0;
}

/* ---- While nobody uses it ---------------------------------------------- */

/* Others may write to a file that nobody reads. */
void
disk_unlock (struct disk *d)
{
  (void) holds (!d->writable && d->writer == NULL);
  if (d->fd != -1) {
    close (d->fd);
    d->had_fd = true;
  }
  d->fd = -1;
  claim_release (&d->claim);
  d->unlocked = true;
}

static enum disk_relocked
relock_file (struct disk *d)
{
  struct file_id now;

  (void) holds (d->fd == -1);
  d->fd = export_id_open (&d->id, d->exportname, O_RDONLY);
  if (d->fd == -1)
    return DISK_CHANGED;
  if (config.lock && lock_for_reading (&filter_env, d->fd, d->name) == -1)
    return DISK_IN_USE;
  export_id_get (&now, d->exportname);
  return file_id_equal (&now, &d->id) ? DISK_UNCHANGED : DISK_CHANGED;
}

enum disk_relocked
disk_relock (struct disk *d)
{
  enum disk_relocked r;

  if (!d->unlocked)
    return DISK_UNCHANGED;
  if (claim_file (d) == -1)
    return DISK_IN_USE;
  r = d->had_fd ? relock_file (d) : DISK_UNCHANGED;
  if (r == DISK_IN_USE)
    disk_unlock (d);
  else
    d->unlocked = false;
  return r;
}
