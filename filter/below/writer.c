/* SPDX-License-Identifier: BSD-3-Clause */
/* writer.c - the one way to a file that is written to.
 *
 * Owns      the I/O handle that all connections of an image read and write it
 *           with.
 * Method    what is written through one context of a plugin need not be
 *           seen, or be flushed, through another one, so there is one for
 *           all (ways.c); and it does not end with any connection.
 *           Connections have none of their own then: plugins may not be able
 *           to open the same thing twice, or not for writing.
 *
 *           If the file has become larger, from here or, if it cannot grow,
 *           because somebody else has extended it, a new context takes the
 *           place of the one before.  All flushes, whoever asks for them, go
 *           through durable.c.
 * Locks     writer.extend_lock guards what is known of a file that cannot
 *           grow, and is held while a new context becomes the current one.
 */
#include "config.h"

#include "below/writer.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/durable.h"
#include "host/env.h"
#include "exports.h"
#include "lines.h"
#include "report.h"
#include "settings.h"
#include "below/grow.h"
#include "below/next.h"
#include "below/ways.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

struct writer {
  struct qcow2_io io;           /* opaque is us; constant */
  struct qcow2_io_ops ops;
  struct ways ways;
  struct growth *growth;        /* or NULL */
  struct durable durable;
  pthread_mutex_t extend_lock;
  uint64_t reached;             /* bytes of a file that cannot grow */
};

bool
writer_possible (void)
{
  return config.names == NAMES_IGNORED || NBDKIT_AT_LEAST (1, 44);
}

/* ---- Requests ----------------------------------------------------------- */

static int
writer_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
              enum qcow2_io_class class)
{
  struct writer *const w = opaque;
  struct way *const way = way_enter (&w->ways);
  const int r = next_pread (way->next, buf, count, host_off, class);

  way_leave (&w->ways, way);
  return r;
}

static int
writer_extents (void *opaque, uint32_t count, uint64_t host_off,
                qcow2_host_extent_fn fn, void *fn_opaque)
{
  struct writer *const w = opaque;
  struct way *const way = way_enter (&w->ways);
  const int r = next_extents (way->next, count, host_off, fn, fn_opaque);

  way_leave (&w->ways, way);
  return r;
}

static int
writer_cache (void *opaque, uint32_t count, uint64_t host_off)
{
  struct writer *const w = opaque;
  struct way *const way = way_enter (&w->ways);
  const int r = next_cache (way->next, count, host_off);

  way_leave (&w->ways, way);
  return r;
}

static int
writer_pwrite (void *opaque, const void *buf, uint32_t count,
               uint64_t host_off, enum qcow2_io_class class)
{
  struct writer *const w = opaque;
  struct way *way;
  int r = 0;

  if (durable_is_lost (&w->durable))
    return EIO;
  if (w->growth && class == QCOW2_IO_DATA)
    r = growth_hold (w->growth);
  if (r != 0)
    return r;
  if (w->growth)
    growth_reserve (w->growth, host_off + count);
  way = way_enter (&w->ways);
  r = next_pwrite (way->next, buf, count, host_off, class);
  way_leave (&w->ways, way);
  return r;
}

static int
writer_zero (void *opaque, uint32_t count, uint64_t host_off, bool may_punch,
             enum qcow2_io_class class)
{
  struct writer *const w = opaque;
  struct way *way;
  int r;

  if (durable_is_lost (&w->durable))
    return EIO;
  way = way_enter (&w->ways);
  r = next_zero (way->next, count, host_off, may_punch, class);
  way_leave (&w->ways, way);
  return r;
}

static int
writer_trim (void *opaque, uint32_t count, uint64_t host_off)
{
  struct writer *const w = opaque;
  struct way *way;
  int r;

  if (durable_is_lost (&w->durable))
    return EIO;
  way = way_enter (&w->ways);
  r = next_trim (way->next, count, host_off);
  way_leave (&w->ways, way);
  return r;
}

/* Background work uses the same way.  It ends before the image is closed,
 * and the writer ends after that, so nobody needs to count.
 */
static int
writer_borrow (void *opaque, struct qcow2_io *ret_io)
{
  const struct writer *const w = opaque;

  *ret_io = w->io;
  return 0;
}

static void
writer_give_back (struct qcow2_io *io)
{
}

/* ---- Flush and growth -------------------------------------------------- */

static int
flush_all (void *opaque)
{
  struct writer *const w = opaque;

  return ways_flush (&w->ways);
}

static int
writer_flush (void *opaque)
{
  struct writer *const w = opaque;

  return durable_flush (&w->durable, flush_all, w);
}

static int
writer_grow (void *opaque, uint64_t min_size, uint64_t *ret_size)
{
  struct writer *const w = opaque;
  uint64_t size = ways_size (&w->ways);
  int r;

  if (min_size <= size) {
    *ret_size = size;
    return 0;
  }
  r = growth_extend (w->growth, &w->io, min_size, &size);
  if (r != 0)
    return r;
  (void) holds (size >= min_size);
  if (ways_renew (&w->ways, size, size) == 0) {
    growth_undo (w->growth, "the layer below does not notice it");
    return ENOSPC;
  }
  *ret_size = size;
  return 0;
}

static void
extend_locked (struct writer *w, uint64_t size)
{
  const uint64_t reached = size <= w->reached ? 0
    : ways_renew (&w->ways, w->reached + 1, UINT64_MAX);

  if (reached == 0)
    return;
  w->reached = reached;
  nbdkit_debug ("qcow2: %s: was extended to %" PRIu64 " bytes", w->ways.name,
                reached);
}

uint64_t
writer_look_again (struct writer *w, uint64_t size)
{
  uint64_t reached;

  if (w->growth != NULL)
    return 0;
  pthread_mutex_lock (&w->extend_lock);
  extend_locked (w, size);
  reached = w->reached;
  pthread_mutex_unlock (&w->extend_lock);
  return reached;
}

static int
writer_spend (void *opaque)
{
  const struct writer *const w = opaque;

  return growth_spend (w->growth) ? 0 : ENOSPC;
}

static int
writer_cut (void *opaque, uint64_t size)
{
  struct writer *const w = opaque;
  const int r = writer_flush (w);

  return r != 0 ? r : growth_cut (w->growth, size);
}

/* ---- Making one -------------------------------------------------------- */

static void
set_ops (struct writer *w)
{
  const struct abilities *const can = &w->ways.can;

  w->ops = (struct qcow2_io_ops) {
    .pread = writer_pread,
    .extents = can->extents ? writer_extents : NULL,
    .cache = writer_cache,
    .pwrite = can->write && can->flush ? writer_pwrite : NULL,
    .flush = can->write && can->flush ? writer_flush : NULL,
    .zero = can->zero ? writer_zero : NULL,
    .trim = can->trim ? writer_trim : NULL,
  };
  /* With the slower models the plugin may not expect a request while
   * another connection comes or goes.
   */
  if (config.thread_model >= NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS) {
    w->ops.borrow = writer_borrow;
    w->ops.give_back = writer_give_back;
  }
  w->io = (struct qcow2_io) {
    .ops = &w->ops, .opaque = w, .size = can->size,
    .min_block = can->min_block, .max_block = can->max_block,
    .concurrent = !w->ways.one_at_a_time, .coherent = true,
  };
}

struct writer *
writer_new (const struct host_env *env, const char *exportname,
            const char *name)
{
  struct writer *w = calloc (1, sizeof *w);

  if (w == NULL) {
    warning (name, "out of memory");
    return NULL;
  }
  if (ways_init (&w->ways, exportname, name) == -1) {
    free (w);
    return NULL;
  }
  pthread_mutex_init (&w->extend_lock, NULL);
  w->reached = w->ways.can.size;
  durable_init (&w->durable, env, name);
  set_ops (w);
  return w;
}

void
writer_free (struct writer *w)
{
  if (w == NULL)
    return;
  ways_destroy (&w->ways);
  growth_free (w->growth);
  pthread_mutex_destroy (&w->extend_lock);
  durable_destroy (&w->durable);
  free (w);
}

void
writer_use_growth (struct writer *w, struct growth *growth)
{
  if (growth == NULL)
    return;
  (void) holds (w->growth == NULL);
  w->growth = growth;
  w->ops.grow = writer_grow;
  w->ops.cut = writer_cut;
  w->ops.spend = writer_spend;
}

const struct qcow2_io *
writer_io (const struct writer *w)
{
  return &w->io;
}

const struct abilities *
writer_abilities (const struct writer *w)
{
  return &w->ways.can;
}

struct durable *
writer_durable (struct writer *w)
{
  return &w->durable;
}
