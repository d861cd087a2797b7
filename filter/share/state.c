/* SPDX-License-Identifier: BSD-3-Clause */
/* state.c - one open image for all the connections that reach its bytes.
 *
 * Owns      the list of images, open, being opened and being closed;
 *           statelist.c says which of them serves whom.
 * Method    connections that reach the same bytes share a state: the same
 *           size under the same export name, or under any name where the
 *           plugin does not look at names, as long as the local file behind
 *           them, if there is one, has not changed (device, inode, size and
 *           times).  Where we cannot tell what names mean, they are taken
 *           to be different images: sharing less is only slower.
 *
 *           That is so for images that are only read.  An image must never
 *           be written to by two states.  So there the file, or the name,
 *           must be the same, whatever the size and the times say; who
 *           only wants to read shares it, too; and where it is not known
 *           what names mean, a second name is refused.
 *
 *           Opening is done once: whoever comes while an image is being
 *           opened waits for it, and tries itself if that fails.  A state
 *           that nobody uses is kept for the next connection, so that a
 *           client that probes, leaves and comes back finds everything in
 *           place; only a few are kept, the latest, none when memory is
 *           short, and none whose file
 *           could change meanwhile without our noticing, such as a device.
 *           What was written to is ended by the last connection; who comes
 *           meanwhile waits, and opens it anew.  So does who comes while its
 *           only user has claimed it, to change it as nobody may meanwhile.
 * Locks     states.lock guards the list and the fields marked (L); it is
 *           never held over I/O.  Who makes a state not ready has it for
 *           himself until it is ready again.
 */
#include "config.h"

#include "share/state.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/fileid.h"
#include "exports.h"
#include "lines.h"
#include "report.h"
#include "settings.h"
#include "below/members.h"
#include "below/nbdkit_io.h"
#include "share/disk.h"
#include "share/diskfile.h"
#include "share/ending.h"
#include "share/statelist.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Most recently used first. */
static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;       /* a state became ready, or is gone */
  struct state *first;
} states = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL };

/* ---- One of them ------------------------------------------------------- */

static void
state_free (struct state *s)
{
  if (s == NULL)
    return;
  disk_close (s->disk);
  free (s->key);
  free (s);
}

static struct state *
state_new (const struct wanted *want)
{
  struct state *s = calloc (1, sizeof *s);

  if (s != NULL && (s->key = strdup (want->key)) != NULL) {
    s->users = 1;
    s->readonly = want->readonly;
    s->id = want->id;
    return s;
  }
  nbdkit_error ("qcow2: out of memory for a connection");
  free (s);
  return NULL;
}

static void
free_surplus (void)
{
  for (;;) {
    struct state *s;

    pthread_mutex_lock (&states.lock);
    s = states_take_surplus_locked (&states.first);
    pthread_mutex_unlock (&states.lock);
    if (s == NULL)
      return;
    state_free (s);
  }
}

/* ---- Acquire ----------------------------------------------------------- */

/* The lock is held on entry and on return, but not in between. */
static struct state *
open_locked (struct state *s, const struct wanted *want)
{
  struct disk *disk;
  int saved_errno;

  (void) holds (states_find_locked (states.first, want) == NULL);
  states_mark_stale_locked (states.first, want);
  states_push_locked (&states.first, s);
  pthread_mutex_unlock (&states.lock);
  disk = disk_open (want->key, &want->id, want->own, want->readonly,
                    want->alone);
  saved_errno = errno;
  pthread_mutex_lock (&states.lock);
  (void) holds (!s->ready && s->disk == NULL && s->users > 0);
  if (disk != NULL) {
    s->disk = disk;
    s->id = disk->id;
    s->stale = disk->id.changing;
    s->ready = true;
  }
  else {
    states_unlink_locked (&states.first, s);
    state_free (s);
    s = NULL;
    errno = saved_errno;
  }
  pthread_cond_broadcast (&states.changed);
  return s;
}

static struct state *
open_new_locked (const struct wanted *want)
{
  const struct state *const other =
    states_find_conflict_locked (states.first, want);
  struct state *s;

  if (other != NULL) {
    /* acquire_locked has waited for it. */
    warning (holds (other->ready) ? other->disk->name : "", "%s",
             other->readonly
             ? "is open read-only, and cannot be opened for writing until "
               "all clients have gone"
             : "is open for writing under another export name, and it is "
               "not known whether the plugin has another image under this "
               "one");
    errno = EBUSY;
    return NULL;
  }
  s = state_new (want);
  return s ? open_locked (s, want) : NULL;
}

/* Returns 0, -1 if that fails, or 1 if it is of no use any more.  The lock
 * is held on entry and on return, but not in between.
 */
static int
wake_locked (struct state *s)
{
  enum disk_relocked r;

  (void) holds (s->ready && s->users == 0);
  s->users++;
  s->ready = false;
  pthread_mutex_unlock (&states.lock);
  r = disk_relock (s->disk);
  pthread_mutex_lock (&states.lock);
  (void) holds (!s->ready);
  s->ready = true;
  pthread_cond_broadcast (&states.changed);
  if (r == DISK_UNCHANGED)
    return 0;
  (void) holds (s->users == 1);
  s->users--;
  s->stale |= r == DISK_CHANGED;
  return r == DISK_CHANGED ? 1 : -1;
}

static struct state *
acquire_locked (struct wanted *want)
{
  for (;;) {
    struct state *s = states_find_locked (states.first, want);
    struct state *const in_the_way =
      s ? s : states_find_conflict_locked (states.first, want);
    int r = 0;

    if (in_the_way != NULL && !in_the_way->ready) {
      if (want->ret_claimed != NULL && in_the_way->claimed) {
        *want->ret_claimed = true;
        errno = EBUSY;
        return NULL;
      }
      pthread_cond_wait (&states.changed, &states.lock);
      continue;
    }
    if (s == NULL)
      return open_new_locked (want);
    if (s->users > 0)
      s->users++;
    else
      r = wake_locked (s);
    if (r == 0) {
      (void) holds (s->ready && s->users > 0 && s->disk != NULL);
      states_unlink_locked (&states.first, s);
      states_push_locked (&states.first, s);
      return s;
    }
    if (r == -1) {
      errno = EBUSY;
      return NULL;
    }
    want->id.changing = true;
  }
}

struct state *
state_acquire (const char *exportname, const struct file_id *id,
               const struct below *own, unsigned flags, bool *ret_claimed)
{
  struct wanted want = {
    .key = config.names == NAMES_IGNORED ? "" : exportname, .id = *id,
    .own = own, .readonly = flags & STATE_READONLY,
    .alone = flags & STATE_ALONE, .ret_claimed = ret_claimed,
  };
  struct state *s;
  int saved_errno;

  if (id->replaced && !want.readonly) {
    nbdkit_error ("qcow2: the image was replaced by another file while it "
                  "was being opened");
    errno = EBUSY;
    return NULL;
  }
  free_surplus ();
  pthread_mutex_lock (&states.lock);
  s = acquire_locked (&want);
  saved_errno = errno;
  pthread_mutex_unlock (&states.lock);
  free_surplus ();
  errno = saved_errno;
  return s;
}

/* ---- Release ----------------------------------------------------------- */

/* The last user of what is written to.  The lock is held on entry. */
static void
end_and_unlock (struct state *s, const struct qcow2_io *own)
{
  struct disk *const disk = s->disk;

  (void) holds (s->ready != s->claimed && s->users == 1);
  s->ready = false;
  s->disk = NULL;
  pthread_mutex_unlock (&states.lock);
  disk_end (disk, own);
  disk_close (disk);
  pthread_mutex_lock (&states.lock);
  /* Who came meanwhile has waited. */
  (void) holds (!s->ready && s->users == 1);
  states_unlink_locked (&states.first, s);
  pthread_cond_broadcast (&states.changed);
  pthread_mutex_unlock (&states.lock);
  state_free (s);
}

/* The last user of what is only read. */
static void
unlock_file_locked (struct state *s)
{
  (void) holds (s->ready && !s->disk->writable);
  s->ready = false;
  pthread_mutex_unlock (&states.lock);
  disk_unlock (s->disk);
  pthread_mutex_lock (&states.lock);
  (void) holds (!s->ready && s->users == 1);
  s->ready = true;
  pthread_cond_broadcast (&states.changed);
}

/* As while it is being opened: nobody else can get at it any more. */
bool
state_claim (struct state *s)
{
  bool claimed;

  pthread_mutex_lock (&states.lock);
  (void) holds (s->ready && s->users > 0 && !s->claimed);
  claimed = s->users == 1 && s->disk->writable;
  if (claimed) {
    s->claimed = true;
    s->ready = false;
  }
  pthread_mutex_unlock (&states.lock);
  if (claimed)
    disk_hush (s->disk);
  return claimed;
}

static bool
is_last (struct state *s)
{
  bool last;

  pthread_mutex_lock (&states.lock);
  last = s->users == 1;
  pthread_mutex_unlock (&states.lock);
  return last;
}

void
state_release (struct state *s, const struct qcow2_io *own)
{
  /* While it is still ours: afterwards it may be freed at any time.  If
   * somebody comes meanwhile, this has cost him a little.
   */
  if (!s->disk->writable && is_last (s))
    disk_idle (s->disk);

  pthread_mutex_lock (&states.lock);
  if (s->users == 1) {
    if (s->disk->writable) {
      end_and_unlock (s, own);
      return;
    }
    unlock_file_locked (s);
  }
  if (holds (s->users > 0))
    s->users--;
  pthread_mutex_unlock (&states.lock);
  free_surplus ();
}

bool
state_fits (const struct state *s, const struct file_id *id,
            const struct below *own)
{
  return !id->changing && state_has_size (s, own) &&
    file_id_equal (&s->id, id);
}

struct disk *
state_disk (struct state *s)
{
  return s->disk;
}

/* ---- For those who have no connection ---------------------------------- */

void
state_each (void (*fn) (void *opaque, const struct disk *disk,
                        unsigned users), void *opaque)
{
  pthread_mutex_lock (&states.lock);
  for (const struct state *s = states.first; s; s = s->next)
    if (s->ready && s->users > 0)
      fn (opaque, s->disk, s->users);
  pthread_mutex_unlock (&states.lock);
}

/* A connection gives its state back when nobody uses its way any more
 * (access_end), so what is lent keeps the disk open.
 */
struct disk *
state_borrow (const char *exportname, struct qcow2_io *ret_io)
{
  struct disk *found = NULL;

  pthread_mutex_lock (&states.lock);
  for (const struct state *s = states.first; s && !found; s = s->next)
    if (s->ready && s->users > 0 && s->disk->writable &&
        strcmp (s->disk->exportname, exportname) == 0 &&
        members_borrow (&s->disk->members, ret_io) == 0)
      found = s->disk;
  pthread_mutex_unlock (&states.lock);
  return found;
}

/* What is still open for writing has lost its last connection without a
 * word.
 */
void
state_cleanup (void)
{
  while (states.first) {
    struct state *const s = states.first;

    states.first = s->next;
    disk_end (s->disk, NULL);
    state_free (s);
  }
}
