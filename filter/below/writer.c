/* SPDX-License-Identifier: BSD-3-Clause */
/* writer.c - the one way to a file that is written to.
 *
 * Owns      the shared contexts through which all connections of an image
 *           read and write it.
 * Method    what is written through one context of a plugin need not be
 *           seen, or be flushed, through another one, so there is one for
 *           all; and it does not end with any connection.  Connections
 *           have none of their own then: plugins may not be able to open
 *           the same thing twice, or not for writing.  Below the parallel
 *           thread model requests are made one at a time, since
 *           the server does not see to that for shared contexts.
 *
 *           A context never learns that the file has grown, from here or, if
 *           it cannot, because somebody else has extended it.  So then a new
 *           one is opened and becomes the current one; requests that began
 *           before go on in the old one, which is retired.  A flush includes
 *           the retired ones, because what was written through them is
 *           acknowledged, and closes those that nobody uses any more.  All
 *           flushes, whoever asks for them, go through durable.c.
 *
 *           Requests take and leave the current context without a lock.
 *           Who takes it counts himself in, then looks whether it still is
 *           the current one; who closes a retired one, which was retired
 *           before it was looked at, so finds either the count, or nobody
 *           who is going to use it.  The memory stays until the end.
 * Locks     writer.lock guards the lists of retired and closed contexts.  It
 *           is held while they are flushed and closed, where nobody but the
 *           file that grows again waits for it; durable.lock is taken
 *           before it.
 *           writer.extend_lock guards what is known of a file that cannot
 *           grow, and is held while a new context becomes the current one.
 *           writer.serial is held over each request, below the parallel
 *           model.
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
#include "below/shared.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* One context, with the size that it knows. */
struct way {
  nbdkit_next *next;
  _Atomic unsigned users;
  struct way *link;             /* in one of the lists below */
};

struct writer {
  struct qcow2_io io;           /* opaque is us; constant */
  struct qcow2_io_ops ops;
  struct abilities can;         /* of the first context */
  const char *exportname;
  const char *name;
  struct growth *growth;        /* or NULL */
  struct durable durable;
  bool one_at_a_time;
  pthread_mutex_t serial;
  struct way *_Atomic current;
  pthread_mutex_t lock;
  struct way *retired;
  struct way *closed;           /* only their memory is left */
  _Atomic unsigned nr_retired;  /* read without the lock, too */
  pthread_mutex_t extend_lock;
  uint64_t reached;             /* bytes of a file that cannot grow */
  uint64_t looked_for;          /* the most that there may have been */
};

bool
writer_possible (void)
{
  return config.names == NAMES_IGNORED || NBDKIT_AT_LEAST (1, 44);
}

/* ---- Taking and leaving a context -------------------------------------- */

static struct way *
enter (struct writer *w)
{
  struct way *way;

  for (;;) {
    way = atomic_load (&w->current);
    atomic_fetch_add (&way->users, 1);
    if (atomic_load (&w->current) == way)
      break;
    (void) holds (atomic_fetch_sub (&way->users, 1) > 0);
  }
  if (w->one_at_a_time)
    pthread_mutex_lock (&w->serial);
  return way;
}

static void
leave (struct writer *w, struct way *way)
{
  if (w->one_at_a_time)
    pthread_mutex_unlock (&w->serial);
  (void) holds (atomic_fetch_sub (&way->users, 1) > 0);
}

/* ---- Requests ----------------------------------------------------------- */

static int
writer_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
              enum qcow2_io_class class)
{
  struct writer *const w = opaque;
  struct way *const way = enter (w);
  const int r = next_pread (way->next, buf, count, host_off, class);

  leave (w, way);
  return r;
}

static int
writer_extents (void *opaque, uint32_t count, uint64_t host_off,
                qcow2_host_extent_fn fn, void *fn_opaque)
{
  struct writer *const w = opaque;
  struct way *const way = enter (w);
  const int r = next_extents (way->next, count, host_off, fn, fn_opaque);

  leave (w, way);
  return r;
}

static int
writer_cache (void *opaque, uint32_t count, uint64_t host_off)
{
  struct writer *const w = opaque;
  struct way *const way = enter (w);
  const int r = next_cache (way->next, count, host_off);

  leave (w, way);
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
  way = enter (w);
  r = next_pwrite (way->next, buf, count, host_off, class);
  leave (w, way);
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
  way = enter (w);
  r = next_zero (way->next, count, host_off, may_punch, class);
  leave (w, way);
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
  way = enter (w);
  r = next_trim (way->next, count, host_off);
  leave (w, way);
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
flush_way (struct writer *w, struct way *way)
{
  int r;

  if (w->one_at_a_time)
    pthread_mutex_lock (&w->serial);
  r = next_flush (way->next);
  if (w->one_at_a_time)
    pthread_mutex_unlock (&w->serial);
  return r;
}

/* One that cannot be flushed stays where it is. */
static int
flush_retired (struct writer *w)
{
  struct way **link = &w->retired, *way;
  int r = 0;

  pthread_mutex_lock (&w->lock);
  while (r == 0 && (way = *link) != NULL) {
    const bool unused = atomic_load (&way->users) == 0;

    r = flush_way (w, way);
    if (r == 0 && unused) {
      /* Nobody takes it any more. */
      (void) holds (way != atomic_load (&w->current));
      shared_close (way->next);
      (void) holds (atomic_fetch_sub (&w->nr_retired, 1) > 0);
      *link = way->link;
      way->link = w->closed;
      w->closed = way;
    }
    else
      link = &way->link;
  }
  (void) holds (w->retired == NULL || atomic_load (&w->nr_retired) > 0);
  pthread_mutex_unlock (&w->lock);
  return r;
}

static int
flush_all (void *opaque)
{
  struct writer *const w = opaque;
  struct way *const way = enter (w);
  int r = next_flush (way->next);

  leave (w, way);
  if (r == 0 && atomic_load (&w->nr_retired) > 0)
    r = flush_retired (w);
  return r;
}

static int
writer_flush (void *opaque)
{
  struct writer *const w = opaque;

  return durable_flush (&w->durable, flush_all, w);
}

/* A context that is going to be the current one; NULL and logs on error. */
static struct way *
way_open (struct writer *w, struct abilities *can)
{
  struct way *way = calloc (1, sizeof *way);

  if (way == NULL) {
    warning (w->name, "out of memory");
    return NULL;
  }
  way->next = shared_open (w->exportname, false);
  if (way->next != NULL && next_ask (way->next, true, can) == 0)
    return way;
  if (way->next != NULL)
    shared_close (way->next);
  free (way);
  return NULL;
}

static bool
serves_as_well (const struct abilities *new, const struct abilities *old)
{
  return new->write && new->flush && new->zero >= old->zero &&
    new->trim >= old->trim && new->extents >= old->extents &&
    new->min_block == old->min_block && new->max_block == old->max_block;
}

/* In this order: a flush that finds the new one to be the current one must
 * find the old one retired.
 */
static void
replace_current (struct writer *w, struct way *way)
{
  struct way *const old = w->current;

  (void) holds (old != way && way->link == NULL &&
                atomic_load (&way->users) == 0);
  pthread_mutex_lock (&w->lock);
  old->link = w->retired;
  w->retired = old;
  atomic_fetch_add (&w->nr_retired, 1);
  atomic_store (&w->current, way);
  pthread_mutex_unlock (&w->lock);
}

static void
way_free (struct way *way)
{
  if (way)
    shared_close (way->next);
  free (way);
}

static int
writer_grow (void *opaque, uint64_t min_size, uint64_t *ret_size)
{
  struct writer *const w = opaque;
  struct abilities can;
  struct way *way;
  uint64_t size;
  int r;

  /* Nobody else changes what is current. */
  size = w->current->next->get_size (w->current->next);
  if (min_size <= size) {
    *ret_size = size;
    return 0;
  }
  r = growth_extend (w->growth, &w->io, min_size, &size);
  if (r != 0)
    return r;
  (void) holds (size >= min_size);
  way = way_open (w, &can);
  if (way == NULL || can.size != size || !serves_as_well (&can, &w->can)) {
    way_free (way);
    growth_undo (w->growth, "the layer below does not notice it");
    return ENOSPC;
  }
  replace_current (w, way);
  *ret_size = size;
  return 0;
}

/* Each size is looked for once: the plugin may serve a part of the file. */
static uint64_t
extend_locked (struct writer *w, uint64_t size)
{
  struct abilities can;
  struct way *way;

  if (size <= w->reached || size <= w->looked_for)
    return 0;
  w->looked_for = size;
  way = way_open (w, &can);
  if (way == NULL || can.size <= w->reached ||
      !serves_as_well (&can, &w->can)) {
    way_free (way);
    return 0;
  }
  replace_current (w, way);
  w->reached = can.size;
  return can.size;
}

uint64_t
writer_look_again (struct writer *w, uint64_t size)
{
  uint64_t reached;

  if (w->growth != NULL)
    return 0;
  pthread_mutex_lock (&w->extend_lock);
  reached = extend_locked (w, size);
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
  const struct abilities *const can = &w->can;

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
    .concurrent = !w->one_at_a_time,
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
  w->exportname = exportname;
  w->name = name;
  w->one_at_a_time =
    config.thread_model != NBDKIT_THREAD_MODEL_PARALLEL;
  w->current = way_open (w, &w->can);
  if (w->current == NULL) {
    free (w);
    return NULL;
  }
  pthread_mutex_init (&w->serial, NULL);
  pthread_mutex_init (&w->lock, NULL);
  pthread_mutex_init (&w->extend_lock, NULL);
  w->reached = w->can.size;
  durable_init (&w->durable, env, name);
  set_ops (w);
  return w;
}

static void
free_list (struct way *way)
{
  struct way *next;

  for (; way; way = next) {
    next = way->link;
    free (way);
  }
}

void
writer_free (struct writer *w)
{
  unsigned nr_retired = 0;

  if (w == NULL)
    return;
  (void) holds (atomic_load (&w->current->users) == 0);
  shared_close (w->current->next);
  for (struct way *way = w->retired; way; way = way->link) {
    (void) holds (atomic_load (&way->users) == 0);
    shared_close (way->next);
    nr_retired++;
  }
  (void) holds (nr_retired == atomic_load (&w->nr_retired));
  free (w->current);
  free_list (w->retired);
  free_list (w->closed);
  growth_free (w->growth);
  pthread_mutex_destroy (&w->serial);
  pthread_mutex_destroy (&w->lock);
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
  return &w->can;
}

struct durable *
writer_durable (struct writer *w)
{
  return &w->durable;
}
