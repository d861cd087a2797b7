/* SPDX-License-Identifier: BSD-3-Clause */
/* rawfile.c - the file behind a raw disk, while clients use it.
 *
 * Owns      the list of these files, with a claim and QEMU's locks on each.
 * Method    requests go straight to the plugin, through the context of each
 *           connection; but nobody else may write to the file meanwhile, or
 *           read it while it is written to: no image of this server that
 *           stands on it, nor another process.  Connections share one claim
 *           and one descriptor, since those of two would be in each other's
 *           way.
 *
 *           The file is locked once: who comes while that is being done waits
 *           for it, and fails with it.
 * Locks     rawfiles.lock guards the list, and 'users' and 'result' of what is
 *           in it; it is never held over I/O.
 */
#include "config.h"

#include "share/rawfile.h"

#include "nbdkit_api.h"
#include "host/claims.h"
#include "host/fileid.h"
#include "host/locks.h"
#include "embed.h"
#include "lines.h"
#include "report.h"
#include "settings.h"
#include "below/exportid.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct rawfile {
  struct rawfile *next;         /* (L) */
  unsigned users;               /* (L) connections, and who waits */
  int result;                   /* (L) BEING_LOCKED, 0, or an errno value */
  bool writing;                 /* constant, as all that follows, at 0 */
  struct file_id id;
  char *exportname, *name;
  struct claim claim;
  int fd;                       /* holds the locks; or -1 */
};
#define BEING_LOCKED (-1)

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;       /* a result is there */
  struct rawfile *first;
} rawfiles = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL };

/* ---- One file ---------------------------------------------------------- */

static void
rawfile_free (struct rawfile *f)
{
  if (f->fd != -1)
    close (f->fd);
  claim_release (&f->claim);
  free (f->exportname);
  free (f->name);
  free (f);
}

static struct rawfile *
rawfile_new (const char *exportname, const struct file_id *id, bool readonly)
{
  struct rawfile *const f = calloc (1, sizeof *f);

  if (f != NULL) {
    f->fd = -1;
    f->users = 1;
    f->result = BEING_LOCKED;
    f->writing = !readonly;
    f->id = *id;
    f->exportname = strdup (exportname);
    if (asprintf (&f->name, "%s/%s", config.dir, exportname) == -1)
      f->name = NULL;
    if (f->exportname != NULL && f->name != NULL)
      return f;
    rawfile_free (f);
  }
  nbdkit_error ("qcow2: out of memory for a connection");
  errno = ENOMEM;
  return NULL;
}

/* What we may not write to, the plugin may not either. */
static int
open_file (struct rawfile *f)
{
  f->fd = export_id_open (&f->id, f->exportname,
                          f->writing ? O_RDWR : O_RDONLY);
  if (f->fd == -1 && f->writing &&
      (errno == EACCES || errno == EPERM || errno == EROFS)) {
    f->writing = false;
    f->fd = export_id_open (&f->id, f->exportname, O_RDONLY);
  }
  if (f->fd != -1)
    return 0;
  warning (f->name, "cannot be opened to be locked: %m");
  return -1;
}

static int
claim_file (struct rawfile *f)
{
  const struct identity id = identity_of_export (&f->id, f->exportname);

  if (claim_take (&filter_env, &f->claim, &id, f->writing))
    return 0;
  warning (f->name, f->writing
           ? "cannot be served as a raw disk that can be written to, because "
           "an image that is open in this server uses it, or is it (use -r to "
           "serve it read-only)"
           : "cannot be served as a raw disk, because an image that is open "
           "in this server writes to it");
  errno = EBUSY;
  return -1;
}

static int
lock_it (struct rawfile *f)
{
  return f->writing ? lock_for_writing (&filter_env, f->fd, f->name)
    : lock_for_reading (&filter_env, f->fd, f->name);
}

/* Returns 0 or an errno value.  Where there is no file the plugin will say
 * so, or knows better.
 */
static int
take_file (struct rawfile *f)
{
  const bool exists = f->id.known || f->id.device;

  errno = f->id.errnum;
  if (f->id.errnum != 0) {
    warning (f->name, "the file cannot be looked at: %m");
    return f->id.errnum;
  }
  errno = EIO;
  if ((exists && open_file (f) == -1) || claim_file (f) == -1 ||
      (exists && config.lock && lock_it (f) == -1))
    return errno > 0 ? errno : EIO;
  return 0;
}

/* ---- The list ---------------------------------------------------------- */

static struct rawfile *
find_locked (const char *exportname, const struct file_id *id)
{
  const bool exists = id->known || id->device;
  struct rawfile *f = rawfiles.first;

  /* Who has failed is not found any more. */
  while (f != NULL && !(exists ? file_id_same_file (&f->id, id)
                        : strcmp (f->exportname, exportname) == 0))
    f = f->next;
  (void) holds (f == NULL || (f->users > 0 && f->result <= 0));
  return f;
}

static void
unlink_locked (struct rawfile *f)
{
  struct rawfile **link = &rawfiles.first;

  while (*link != NULL && *link != f)
    link = &(*link)->next;
  if (holds (*link != NULL))
    *link = f->next;
}

/* Once for all who have asked meanwhile. */
static void
lock_once (struct rawfile *f)
{
  const int result = take_file (f);

  pthread_mutex_lock (&rawfiles.lock);
  (void) holds (f->result == BEING_LOCKED && result >= 0 && f->users > 0);
  f->result = result;
  if (result != 0)
    unlink_locked (f);
  pthread_cond_broadcast (&rawfiles.changed);
  pthread_mutex_unlock (&rawfiles.lock);
}

static int
wait_for_result (struct rawfile *f)
{
  int result;

  pthread_mutex_lock (&rawfiles.lock);
  while (f->result == BEING_LOCKED)
    pthread_cond_wait (&rawfiles.changed, &rawfiles.lock);
  result = f->result;
  pthread_mutex_unlock (&rawfiles.lock);
  return result;
}

/* The caller is its only user who may lock it, if *ret_new. */
static struct rawfile *
find_or_add (const char *exportname, const struct file_id *id, bool readonly,
             bool *ret_new)
{
  struct rawfile *f;

  pthread_mutex_lock (&rawfiles.lock);
  f = find_locked (exportname, id);
  *ret_new = f == NULL;
  if (f != NULL)
    f->users++;
  else if ((f = rawfile_new (exportname, id, readonly)) != NULL) {
    f->next = rawfiles.first;
    rawfiles.first = f;
  }
  pthread_mutex_unlock (&rawfiles.lock);
  return f;
}

struct rawfile *
rawfile_acquire (const char *exportname, const struct file_id *id,
                 bool readonly)
{
  struct rawfile *f;
  bool new;
  int result;

  f = find_or_add (exportname, id, readonly, &new);
  if (f == NULL)
    return NULL;
  if (new)
    lock_once (f);
  result = wait_for_result (f);
  if (result == 0)
    return f;
  rawfile_release (f);
  errno = result;
  return NULL;
}

void
rawfile_release (struct rawfile *f)
{
  bool last = false;

  pthread_mutex_lock (&rawfiles.lock);
  (void) holds (f->result != BEING_LOCKED);
  if (holds (f->users > 0))
    last = --f->users == 0;
  if (last && f->result == 0)
    unlink_locked (f);
  pthread_mutex_unlock (&rawfiles.lock);
  if (last)
    rawfile_free (f);
}

/* ---- Questions --------------------------------------------------------- */

bool
rawfile_is_behind (const struct rawfile *f, const char *exportname)
{
  struct file_id now;

  export_id_get (&now, exportname);
  if ((!f->id.known && !f->id.device && !now.known && !now.device) ||
      file_id_same_file (&f->id, &now))
    return true;
  warning (f->name, "was replaced by another file while it was opened");
  errno = EBUSY;
  return false;
}

bool
rawfile_is_writable (const struct rawfile *f)
{
  return f->writing;
}
