/* SPDX-License-Identifier: BSD-3-Clause */
/* state.c - one open image for all the connections that reach its bytes.
 *
 * Owns      the list of images, open and being opened.
 * Method    connections that reach the same bytes share a state: the same
 *           size under the same export name, or under any name where the
 *           plugin does not look at names, as long as the local file behind
 *           them, if there is one, has not changed (device, inode, size and
 *           times).  Where we cannot tell what names mean, they are taken
 *           to be different images: sharing less is only slower.
 *
 *           Opening is done once: whoever comes while an image is being
 *           opened waits for it, and tries itself if that fails.  A state
 *           that nobody uses is kept for the next connection, so that a
 *           client that probes, leaves and comes back finds everything in
 *           place; only a few are kept, the latest, and none whose file
 *           could change meanwhile without our noticing, such as a device.
 * Locks     states.lock guards the list and the fields marked (L); it is
 *           never held over I/O.
 */
#include "config.h"

#include "filter.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_IDLE 4

struct state {
  struct state *next;           /* (L) */
  unsigned users;               /* (L) connections, and who opens it */
  bool ready;                   /* (L) false: being opened */
  bool stale;                   /* (L) no new users: the file has changed,
                                   or it is not sure which one this is */
  char *key;                    /* export name, "" where it means nothing */
  char *name;                   /* for messages */
  uint64_t size;
  struct file_id id;
  struct qcow2_image *image;    /* constant once ready */
  struct lanes *lanes;          /* constant once ready; may be NULL */
};

/* Most recently used first. */
static struct {
  pthread_mutex_t lock;
  pthread_cond_t opened;        /* a state became ready, or failed */
  struct state *first;
} states = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL };

/* ---- Identity of local files ------------------------------------------ */

void
file_id_get (struct file_id *id, const char *exportname)
{
  char path[PATH_MAX];
  struct stat st;

  memset (id, 0, sizeof *id);
  /* Devices and files behind descriptors have no name to look at. */
  id->perishable = config.descriptor;
  if (config.file) {
    if (stat (config.file, &st) == -1)
      return;
  }
  else if (config.dir) {
    if (strchr (exportname, '/') != NULL ||
        snprintf (path, sizeof path, "%s/%s", config.dir, exportname)
        >= (int) sizeof path || stat (path, &st) == -1)
      return;
  }
  else
    return;
  if (!S_ISREG (st.st_mode)) {
    id->perishable = true;
    return;
  }
  *id = (struct file_id) {
    .known = true, .dev = st.st_dev, .ino = st.st_ino, .size = st.st_size,
    .mtime = st.st_mtim, .ctime = st.st_ctim,
  };
}

static bool
time_equal (const struct timespec *a, const struct timespec *b)
{
  return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool
file_id_equal (const struct file_id *a, const struct file_id *b)
{
  if (!a->known || !b->known)
    return a->known == b->known;
  return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
    time_equal (&a->mtime, &b->mtime) && time_equal (&a->ctime, &b->ctime);
}

/* ---- Statistics --------------------------------------------------------- */

/* -D qcow2.stats=1: count, and log the counters when an image is closed. */
NBDKIT_DLL_PUBLIC int qcow2_debug_stats = 0;

static void
log_stats (const struct state *s)
{
  struct qcow2_stats st;

  if (!qcow2_debug_stats || s->image == NULL)
    return;
  qcow2_get_stats (s->image, &st);
  for (size_t i = 0; i < QCOW2_IO_NR_CLASSES; ++i)
    if (st.io[i].requests > 0)
      nbdkit_debug ("qcow2: stats: %s: read %s: requests=%" PRIu64
                    " bytes=%" PRIu64, s->name, io_class_names[i],
                    st.io[i].requests, st.io[i].bytes);
  nbdkit_debug ("qcow2: stats: %s: tables: hits=%" PRIu64 " misses=%" PRIu64,
                s->name, st.table_hits, st.table_misses);
  nbdkit_debug ("qcow2: stats: %s: decompressed: bytes=%" PRIu64
                " hits=%" PRIu64 " misses=%" PRIu64, s->name,
                st.inflated_bytes, st.cluster_hits, st.cluster_misses);
  nbdkit_debug ("qcow2: stats: %s: read ahead: requests=%" PRIu64
                " bytes=%" PRIu64 " used=%" PRIu64 " latency=%" PRIu32 "us",
                s->name, st.ahead_requests, st.ahead_bytes,
                st.ahead_used_bytes, st.latency_us);
}

/* ---- The list --------------------------------------------------------- */

static void
state_free (struct state *s)
{
  if (s == NULL)
    return;
  /* First the image: its background work uses the lanes. */
  log_stats (s);
  qcow2_close (s->image);
  lanes_free (s->lanes);
  free (s->key);
  free (s->name);
  free (s);
}

static struct state *
state_new (const char *key, const struct file_id *id, uint64_t size)
{
  struct state *s = calloc (1, sizeof *s);

  if (s == NULL)
    goto fail;
  s->users = 1;
  s->size = size;
  s->id = *id;
  s->key = strdup (key);
  if (s->key == NULL)
    goto fail;
  if (config.dir && asprintf (&s->name, "%s/%s", config.dir, key) == -1)
    s->name = NULL;
  if (!config.dir)
    s->name = strdup (config.label ? config.label : key);
  if (s->name == NULL)
    goto fail;
  return s;

 fail:
  nbdkit_error ("qcow2: out of memory for a connection");
  state_free (s);
  return NULL;
}

static void
unlink_locked (struct state *s)
{
  struct state **link;

  for (link = &states.first; *link != s; link = &(*link)->next)
    assert (*link != NULL);
  *link = s->next;
}

static void
push_locked (struct state *s)
{
  s->next = states.first;
  states.first = s;
}

static struct state *
find_locked (const char *key, const struct file_id *id, uint64_t size)
{
  for (struct state *s = states.first; s; s = s->next) {
    if (s->stale || s->size != size || !file_id_equal (&s->id, id))
      continue;
    /* In a directory the same file is the same image under any name. */
    if (strcmp (s->key, key) == 0 ||
        (config.names == NAMES_ARE_FILES && id->known))
      return s;
  }
  return NULL;
}

/* Whoever has this export open now reads a file that is there no more. */
static void
mark_stale_locked (const char *key)
{
  for (struct state *s = states.first; s; s = s->next)
    if (strcmp (s->key, key) == 0)
      s->stale = true;
}

/* Take what nobody needs any more out of the list: states that nobody uses
 * and that are one too many, or stale.
 */
static struct state *
take_surplus_locked (void)
{
  unsigned idle = 0;

  for (struct state *s = states.first; s; s = s->next) {
    if (s->users > 0)
      continue;
    if (s->stale || s->id.perishable || ++idle > MAX_IDLE) {
      unlink_locked (s);
      return s;
    }
  }
  return NULL;
}

static void
free_surplus (void)
{
  for (;;) {
    struct state *s;

    pthread_mutex_lock (&states.lock);
    s = take_surplus_locked ();
    pthread_mutex_unlock (&states.lock);
    if (s == NULL)
      return;
    state_free (s);
  }
}

/* ---- Acquire and release ---------------------------------------------- */

static void
log_from_engine (void *opaque, enum qcow2_log_level level, const char *text)
{
  const struct state *const s = opaque;
  const char *const colon = s->name[0] ? ": " : "";

  /* There is no nbdkit function for warnings; an error only logs. */
  if (level == QCOW2_LOG_WARNING)
    nbdkit_error ("qcow2: %s%swarning: %s", s->name, colon, text);
  else
    nbdkit_debug ("qcow2: %s%s%s", s->name, colon, text);
}

static int
open_image (struct state *s, const struct qcow2_io *io)
{
  const struct qcow2_options options = {
    .cache_size = config.cache_size,
    .cluster_cache_size = config.cluster_cache_size,
    .readahead = config.readahead, .count = qcow2_debug_stats,
    .log = log_from_engine, .log_opaque = s,
  };
  struct qcow2_error error;
  const struct qcow2_info *info;

  s->image = qcow2_open (io, &options, &error);
  if (s->image == NULL) {
    errno = report (s->name, &error);
    return -1;
  }
  if (lanes_possible ())
    s->lanes = lanes_new (s->key, s->size);
  info = qcow2_get_info (s->image);
  nbdkit_debug ("qcow2: %s: opened: version %u, disk of %llu bytes, clusters "
                "of %llu bytes", s->name, info->version,
                (unsigned long long) info->virtual_size,
                (unsigned long long) info->cluster_size);
  return 0;
}

/* The lock is held on entry and on return, but not in between. */
static struct state *
open_state_locked (struct state *s, const struct qcow2_io *io)
{
  int r, saved_errno;

  push_locked (s);
  pthread_mutex_unlock (&states.lock);
  r = open_image (s, io);
  saved_errno = errno;
  pthread_mutex_lock (&states.lock);
  if (r == 0)
    s->ready = true;
  else {
    unlink_locked (s);
    state_free (s);
    s = NULL;
    errno = saved_errno;
  }
  pthread_cond_broadcast (&states.opened);
  return s;
}

static struct state *
use_locked (struct state *s)
{
  s->users++;
  unlink_locked (s);
  push_locked (s);
  return s;
}

struct state *
state_acquire (const char *exportname, const struct file_id *id,
               const struct qcow2_io *io)
{
  const char *const key = config.names == NAMES_IGNORED ? "" : exportname;
  struct state *s;
  int saved_errno;

  pthread_mutex_lock (&states.lock);
  while (!id->changing &&
         (s = find_locked (key, id, io->size)) != NULL) {
    if (s->ready) {
      s = use_locked (s);
      goto out;
    }
    pthread_cond_wait (&states.opened, &states.lock);
  }
  s = state_new (key, id, io->size);
  if (s != NULL) {
    mark_stale_locked (key);
    s->stale = id->changing;
    s = open_state_locked (s, io);
  }
 out:
  saved_errno = errno;
  pthread_mutex_unlock (&states.lock);
  free_surplus ();
  errno = saved_errno;
  return s;
}

void
state_release (struct state *s)
{
  bool idle;

  pthread_mutex_lock (&states.lock);
  assert (s->users > 0);
  idle = s->users == 1;
  pthread_mutex_unlock (&states.lock);
  /* While it is still ours: afterwards it may be freed at any time.  If
   * somebody comes meanwhile, this has cost him a little.
   */
  if (idle) {
    qcow2_idle (s->image);
    lanes_idle (s->lanes);
  }
  pthread_mutex_lock (&states.lock);
  s->users--;
  pthread_mutex_unlock (&states.lock);
  free_surplus ();
}

struct qcow2_image *
state_image (struct state *s)
{
  return s->image;
}

const char *
state_name (const struct state *s)
{
  return s->name;
}

struct lanes *
state_lanes (struct state *s)
{
  return s->lanes;
}

void
state_cleanup (void)
{
  while (states.first) {
    struct state *const s = states.first;

    states.first = s->next;
    state_free (s);
  }
}
