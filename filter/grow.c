/* SPDX-License-Identifier: BSD-3-Clause */
/* grow.c - making a local file larger, and cutting it back.
 *
 * Owns      the size of the file, as far as this process has changed it.
 * Method    nbdkit has no way to write beyond the end of what a plugin
 *           serves, so the file is made larger behind the plugin's back, in
 *           large sparse steps, because each needs a new context of the
 *           plugin (writer.c).
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
 * Locks     none: the engine does not grow a file on two threads at once.
 */
#include "config.h"

#include "filter.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIN_STEP (UINT64_C (64) << 20)
#define STEP_ALIGN (UINT64_C (64) << 10)

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
  enum { UNPROVEN, PROVEN, REFUSED } state;
};

struct growth *
growth_new (int fd, const struct file_id *id, const char *exportname,
            const char *name, uint64_t size)
{
  struct growth *g = malloc (sizeof *g);

  if (g != NULL)
    *g = (struct growth) {
      .fd = fd, .id = *id, .exportname = exportname, .name = name,
      .start_size = size, .size = size, .previous_size = size,
    };
  return g;
}

void
growth_free (struct growth *g)
{
  free (g);
}

static int
refuse (struct growth *g, const char *why)
{
  g->state = REFUSED;
  warning (g->name, "the file cannot grow: %s.  To give the image more room, "
           "make the file larger while nbdkit is not running, for example "
           "with 'truncate -s +10G'", why);
  return ENOSPC;
}

/* ---- The proof --------------------------------------------------------- */

static bool
is_the_file (const struct growth *g)
{
  struct file_id now;

  file_id_get (&now, g->exportname);
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
    return refuse (g, "what is written does not reach it (is there a filter "
                   "such as cow below?)");
  }
  g->state = PROVEN;
  return 0;
}

/* ---- Changing the size ------------------------------------------------- */

/* A limit on the size of files (ulimit -f) must be an error, not the end of
 * the server.
 */
int
set_file_size (int fd, uint64_t size)
{
  const struct timespec no_time = { 0, 0 };
  sigset_t xfsz, old, pending;
  int err = 0;

  sigemptyset (&xfsz);
  sigaddset (&xfsz, SIGXFSZ);
  pthread_sigmask (SIG_BLOCK, &xfsz, &old);
  if (ftruncate (fd, size) == -1)
    err = errno;
  if (err != 0 && sigpending (&pending) == 0 &&
      sigismember (&pending, SIGXFSZ))
    sigtimedwait (&xfsz, NULL, &no_time);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
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
  uint64_t step = g->size / 8 > MIN_STEP ? g->size / 8 : MIN_STEP;
  uint64_t size;
  int err;

  do {
    size = round_up (g->size + step);
    if (size < min_size || step < STEP_ALIGN)
      size = min_size;
    err = set_file_size (g->fd, size);
    step /= 2;
  } while (err != 0 && size > min_size);
  if (err == 0) {
    g->previous_size = g->size;
    g->size = size;
  }
  return err;
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
  if (g->state == UNPROVEN && (err = prove (g, io)) != 0)
    return err;
  if (!has_size (g))
    return refuse (g, "another process has changed its size");
  err = extend (g, min_size);
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
  if (has_size (g) && set_file_size (g->fd, g->previous_size) == 0)
    g->size = g->previous_size;
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
  err = set_file_size (g->fd, size);
  if (err != 0)
    return err;
  nbdkit_debug ("qcow2: %s: the file was cut back to %llu bytes", g->name,
                (unsigned long long) size);
  g->size = size;
  return 0;
}
