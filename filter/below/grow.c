/* SPDX-License-Identifier: BSD-3-Clause */
/* grow.c - making a local file larger, and cutting it back.
 *
 * Owns      the size of the file, as far as this process has changed it.
 * Method    nbdkit has no way to write beyond the end of what a plugin
 *           serves, so the file is made larger behind the plugin's back, in
 *           large sparse steps, because each needs a new context of the
 *           plugin (ways.c).
 *
 *           That must not happen to a file that is not what is written to:
 *           a filter below, such as cow, may keep it as it is, or show a
 *           part of it, and another plugin's file= may be something else.
 *           So first it must be proven that
 *             - path and descriptor are the same file, of the same size as
 *               what lies below;
 *             - the first bytes are the same;
 *             - writing these bytes once more, as they are, moves the file's
 *               time of modification.  This changes nothing, whoever looks,
 *               and an overlay does not do it.
 *           If another process wrote to the file at that very moment we
 *           could be fooled; what then happens is that the file becomes
 *           larger by a hole, and smaller again in the end.
 *
 *           What has been added is a hole at first.  Writing into a hole
 *           costs a file system more than writing into blocks that it has
 *           set aside for the file, by 10 to 20 % of all that a server does
 *           for a random write, so some blocks are kept set aside in front
 *           of what is written.  Not all of what was added: the host may
 *           have better use for that.
 * Locks     growth.lock is held while the size changes and while blocks are
 *           set aside, and guards 'reserved'.  The engine does not grow or
 *           cut a file on two threads at once, so whoever does that may look
 *           at all the rest, which nobody else changes; those who write
 *           meanwhile look at the size with the lock.
 */
#include "config.h"

#include "below/grow.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/fileid.h"
#include "host/filelimit.h"
#include "lines.h"
#include "report.h"
#include "settings.h"
#include "stack.h"
#include "below/exportid.h"
#include "below/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define MIN_STEP (UINT64_C (64) << 20)
#define STEP_ALIGN (UINT64_C (64) << 10)

/* Blocks are set aside in steps as large as what was set aside before, or as
 * a write needs, within these limits: so a small disk does not take much more
 * than it needs, and the host is not asked often for a large one.
 */
#define MIN_RESERVE (UINT64_C (1) << 20)
#define MAX_RESERVE (UINT64_C (64) << 20)
#define EXT4_MAGIC 0xef53       /* of statfs */
#define XFS_MAGIC 0x58465342
#define NEVER UINT64_MAX

/* Magic and version: no writer ever changes them, so that writing them once
 * more cannot undo what somebody else does at the same moment.
 */
#define PROBE_BYTES 8

/* How long the clock behind times of files may stand still. */
#define TICK_MS 12
#define FINE_CLOCK_MS 60
#define COARSE_CLOCK_MS 2200

struct growth {
  int fd;
  struct file_id id;
  const char *exportname, *name;
  uint64_t start_size;          /* when the image was opened */
  uint64_t size;                /* that we have given it last */
  uint64_t previous_size;
  uint64_t reserved;            /* blocks from start_size to here are set
                                   aside */
  _Atomic uint64_t trigger;     /* who writes beyond this sets more aside;
                                   NEVER: nobody does */
  struct reserve reserve;
  _Atomic bool may_hold;        /* it has been PROVEN */
  pthread_mutex_t lock;
  enum { UNPROVEN, PROVEN, REFUSED } state;
};

/* Where setting blocks aside is little work, and makes less of it later.  On
 * tmpfs, or where every write goes to a new place, it is the other way round.
 */
static bool
can_reserve (int fd)
{
  struct statfs fs;

  return fstatfs (fd, &fs) == 0 &&
    (fs.f_type == EXT4_MAGIC || fs.f_type == XFS_MAGIC);
}

struct growth *
growth_new (int fd, const struct file_id *id, const char *exportname,
            const char *name, uint64_t size)
{
  struct growth *g = malloc (sizeof *g);

  if (g == NULL)
    return NULL;
  *g = (struct growth) {
    .fd = fd, .id = *id, .exportname = exportname, .name = name,
    .start_size = size, .size = size, .previous_size = size,
    .reserved = size, .trigger = can_reserve (fd) ? size : NEVER,
  };
  reserve_init (&g->reserve, fd);
  pthread_mutex_init (&g->lock, NULL);
  return g;
}

void
growth_free (struct growth *g)
{
  if (g == NULL)
    return;
  reserve_destroy (&g->reserve);
  pthread_mutex_destroy (&g->lock);
  free (g);
}

static int
refuse_saying (struct growth *g, const char *why, const char *remedy)
{
  g->state = REFUSED;
  warning (g->name, "the file cannot grow: %s.  %s", why, remedy);
  return ENOSPC;
}

static int
refuse (struct growth *g, const char *why)
{
  return refuse_saying (g, why, "To give the image more room, make the file "
                        "larger while nbdkit is not running, for example "
                        "with 'truncate -s +10G'");
}

/* An overlay: nobody wants the file to be changed. */
static int
refuse_overlay (struct growth *g)
{
  if (stack_has_filter ("cow"))
    return refuse_saying (g, "the cow filter below keeps what is written "
                          "from it", "Put that filter above, --filter=cow "
                          "--filter=qcow2, where it does not need room in "
                          "the image");
  return refuse_saying (g, "what is written does not reach it, but goes to "
                        "something in between", "Put a filter such as cow "
                        "above, --filter=cow --filter=qcow2; or give the "
                        "image more room there");
}

/* ---- The proof --------------------------------------------------------- */

static bool
is_the_file (const struct growth *g)
{
  struct file_id now;

  export_id_get (&now, g->exportname);
  return file_id_same_file (&now, &g->id);
}

static bool
has_size (const struct growth *g)
{
  struct stat st;

  return fstat (g->fd, &st) == 0 && (uint64_t) st.st_size == g->size;
}

static void
nap (unsigned ms)
{
  const struct timespec ts = { 0, ms * 1000000L };

  nanosleep (&ts, NULL);
}

/* 1 if the time of modification moves when 'probe' is written, 0 if not, -1
 * if writing fails.
 */
static int
write_moves_mtime (const struct growth *g, const struct qcow2_io *io,
                   const void *probe)
{
  unsigned waited = 0, limit;
  struct stat before, after;

  do {
    if (waited > 0)
      nap (TICK_MS);
    waited += TICK_MS;
    if (fstat (g->fd, &before) == -1 ||
        io->ops->pwrite (io->opaque, probe, PROBE_BYTES, 0,
                         QCOW2_IO_HEADER) != 0 ||
        io->ops->flush (io->opaque) != 0 || fstat (g->fd, &after) == -1)
      return -1;
    if (before.st_mtim.tv_sec != after.st_mtim.tv_sec ||
        before.st_mtim.tv_nsec != after.st_mtim.tv_nsec)
      return 1;
    limit = before.st_mtim.tv_nsec == 0 ? COARSE_CLOCK_MS : FINE_CLOCK_MS;
  } while (waited < limit);
  return 0;
}

static int
prove (struct growth *g, const struct qcow2_io *io)
{
  char below[PROBE_BYTES], here[PROBE_BYTES];

  if (!is_the_file (g))
    return refuse (g, "it has been replaced by another one");
  if (!has_size (g))
    return refuse (g, "another process has changed its size");
  if (io->min_block > 1)
    return refuse (g, "the layer below has a minimum block size");
  /* Whoever flushes writes what all have written, also through a context that
   * knows the old size only; nbdkit would abort.
   */
  if (stack_has_filter ("cache"))
    return refuse (g, "the cache filter below cannot take a file that becomes "
                   "larger");
  if (io->ops->pread (io->opaque, below, PROBE_BYTES, 0,
                      QCOW2_IO_HEADER) != 0)
    return EIO;
  if (pread (g->fd, here, PROBE_BYTES, 0) != PROBE_BYTES ||
      memcmp (below, here, PROBE_BYTES) != 0)
    return refuse (g, "it is not what a filter or the plugin below serves");
  switch (write_moves_mtime (g, io, below)) {
  case -1:
    return EIO;
  case 0:
    return refuse_overlay (g);
  }
  (void) holds (g->state == UNPROVEN && g->size == g->start_size);
  g->state = PROVEN;
  atomic_store (&g->may_hold, true);
  return 0;
}

/* ---- Changing the size ------------------------------------------------- */

/* What is behind the new end is no more set aside. */
static int
resize (struct growth *g, uint64_t size)
{
  int err;

  /* What was there when the image was opened stays. */
  if (!holds (size >= g->start_size))
    return EIO;
  pthread_mutex_lock (&g->lock);
  err = set_file_size (g->fd, size);
  if (err == 0)
    g->size = size;
  if (err == 0 && g->reserved > size) {
    g->reserved = size;
    if (atomic_load (&g->trigger) != NEVER)
      atomic_store (&g->trigger, size);
  }
  (void) holds (g->start_size <= g->reserved && g->reserved <= g->size);
  pthread_mutex_unlock (&g->lock);
  return err;
}

static uint64_t
round_up (uint64_t size)
{
  return (size + STEP_ALIGN - 1) / STEP_ALIGN * STEP_ALIGN;
}

/* What does not fit may fit with a smaller step. */
static int
extend (struct growth *g, uint64_t min_size)
{
  const uint64_t old_size = g->size;
  uint64_t step = old_size / 8 > MIN_STEP ? old_size / 8 : MIN_STEP;
  uint64_t size;
  int err;

  do {
    size = round_up (old_size + step);
    if (size < min_size || step < STEP_ALIGN)
      size = min_size;
    err = resize (g, size);
    step /= 2;
  } while (err != 0 && size > min_size);
  if (err == 0 && holds (g->size >= min_size))
    g->previous_size = old_size;
  return err;
}

/* Somebody has made it larger: as if it had been opened so.  What he has added
 * is not cut off in the end.  Without locks he may be another writer.
 */
static void
take_over (struct growth *g)
{
  struct stat st;
  uint64_t size;

  if (!config.lock || fstat (g->fd, &st) == -1 ||
      (uint64_t) st.st_size <= g->size)
    return;
  size = (uint64_t) st.st_size;
  pthread_mutex_lock (&g->lock);
  g->start_size = g->size = g->previous_size = g->reserved = size;
  if (atomic_load (&g->trigger) != NEVER)
    atomic_store (&g->trigger, size);
  pthread_mutex_unlock (&g->lock);
  nbdkit_debug ("qcow2: %s: somebody has made the file larger", g->name);
}

int
growth_extend (struct growth *g, const struct qcow2_io *io,
               uint64_t min_size, uint64_t *ret_size)
{
  int err;

  if (g->state == REFUSED)
    return ENOSPC;
  if (min_size > INT64_MAX / 2)
    return EFBIG;
  if (!has_size (g))
    take_over (g);
  if (g->state == UNPROVEN && (err = prove (g, io)) != 0)
    return err;
  /* Proving takes its time. */
  if (!has_size (g))
    return refuse (g, "another process has changed its size");
  (void) holds (g->state == PROVEN);
  err = min_size > g->size ? extend (g, min_size) : 0;
  if (err != 0) {
    nbdkit_debug ("qcow2: %s: the file cannot grow to %llu bytes: %s",
                  g->name, (unsigned long long) min_size, strerror (err));
    return err;
  }
  nbdkit_debug ("qcow2: %s: the file has grown to %llu bytes", g->name,
                (unsigned long long) g->size);
  *ret_size = g->size;
  return 0;
}

void
growth_undo (struct growth *g, const char *why)
{
  (void) holds (g->previous_size >= g->start_size &&
                g->previous_size <= g->size);
  if (has_size (g))
    resize (g, g->previous_size);
  refuse (g, why);
}

int
growth_cut (struct growth *g, uint64_t size)
{
  int err;

  if (size < g->start_size)
    size = g->start_size;
  if (size >= g->size)
    return 0;
  if (!has_size (g)) {
    nbdkit_debug ("qcow2: %s: not cut back: another process has changed the "
                  "file's size", g->name);
    return 0;
  }
  err = resize (g, size);
  if (err != 0)
    return err;
  nbdkit_debug ("qcow2: %s: the file was cut back to %llu bytes", g->name,
                (unsigned long long) size);
  return 0;
}

/* ---- Setting blocks aside ----------------------------------------------- */

/* A file system that cannot do it never will; if it had no room, or was
 * interrupted, it may do it later.
 */
static void
note_refusal_locked (struct growth *g, uint64_t end, int err)
{
  const bool never = err == EOPNOTSUPP || err == ENOTSUP || err == ENOSYS ||
    err == ENODEV || err == EINVAL;

  nbdkit_debug ("qcow2: %s: no blocks are set aside: %s", g->name,
                strerror (err));
  atomic_store (&g->trigger, never ? NEVER : end + MIN_RESERVE);
}

/* Nothing depends on it, so there are no errors. */
static void
reserve_locked (struct growth *g, uint64_t end)
{
  uint64_t step = g->reserved - g->start_size;

  if (!holds (g->start_size <= g->reserved && g->reserved <= g->size))
    return;
  if (step < MIN_RESERVE)
    step = MIN_RESERVE;
  if (end > g->reserved + step)
    step = end - g->reserved;
  if (step > MAX_RESERVE)
    step = MAX_RESERVE;
  if (step > g->size - g->reserved)
    step = g->size - g->reserved;
  if (step == 0)
    return;
  if (fallocate (g->fd, FALLOC_FL_KEEP_SIZE, g->reserved, step) == -1) {
    note_refusal_locked (g, end, errno);
    return;
  }
  g->reserved += step;
  (void) holds (g->reserved <= g->size);
  /* Not when all is used up: those who write meanwhile would meet a hole. */
  atomic_store (&g->trigger, g->reserved -
                (g->reserved < g->size ? step / 4 : 0));
}

void
growth_reserve (struct growth *g, uint64_t end)
{
  if (end <= atomic_load_explicit (&g->trigger, memory_order_relaxed) ||
      pthread_mutex_trylock (&g->lock) != 0)
    return;
  if (end > atomic_load (&g->trigger))
    reserve_locked (g, end);
  pthread_mutex_unlock (&g->lock);
}

int
growth_hold (struct growth *g)
{
  return atomic_load_explicit (&g->may_hold, memory_order_relaxed)
    ? reserve_hold (&g->reserve) : 0;
}

bool
growth_spend (struct growth *g)
{
  return reserve_spend (&g->reserve);
}
