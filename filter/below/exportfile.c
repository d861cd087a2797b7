/* SPDX-License-Identifier: BSD-3-Clause */
/* exportfile.c - the way to the bytes of another export of the same plugin.
 *
 * Owns      one shared context, for reading; and a descriptor of the local
 *           file that the export is, if it is to be locked.
 * Method    a shared context has an export name of its own from nbdkit 1.44
 *           on; before that, parameters that would need one are refused.
 *           Below the parallel thread model requests are made one at a
 *           time, since the server does not see to that for shared contexts.
 * Locks     serial is held over each request, below the parallel model.
 */
#include "config.h"

#include "below/exportfile.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/env.h"
#include "host/error.h"
#include "host/fileid.h"
#include "host/find.h"
#include "host/locks.h"
#include "host/other.h"
#include "host/rules.h"
#include "report.h"
#include "settings.h"
#include "below/exportid.h"
#include "below/next.h"
#include "below/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct exportfile {
  struct other other;           /* first: it is the same pointer */
  nbdkit_next *next;
  struct abilities can;
  int lock_fd;                  /* of its local file, or -1 */
  bool one_at_a_time;
  pthread_mutex_t serial;
};

bool
exportfile_supported (void)
{
  return NBDKIT_AT_LEAST (1, 44);
}

static void
enter (struct exportfile *f)
{
  if (f->one_at_a_time)
    pthread_mutex_lock (&f->serial);
}

static void
leave (struct exportfile *f)
{
  if (f->one_at_a_time)
    pthread_mutex_unlock (&f->serial);
}

static int
export_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
              enum qcow2_io_class class)
{
  struct exportfile *const f = opaque;
  int r;

  enter (f);
  r = next_pread (f->next, buf, count, host_off, class);
  leave (f);
  return r;
}

static int
export_extents (void *opaque, uint32_t count, uint64_t host_off,
                qcow2_host_extent_fn fn, void *fn_opaque)
{
  struct exportfile *const f = opaque;
  int r;

  enter (f);
  r = next_extents (f->next, count, host_off, fn, fn_opaque);
  leave (f);
  return r;
}

static int
export_cache (void *opaque, uint32_t count, uint64_t host_off)
{
  struct exportfile *const f = opaque;
  int r;

  enter (f);
  r = next_cache (f->next, count, host_off);
  leave (f);
  return r;
}

static void
export_close (struct other *other)
{
  struct exportfile *const f = (struct exportfile *) other;

  (void) holds (f->next != NULL || f->other.io.ops == NULL);
  if (f->next)
    shared_close (f->next);
  if (f->lock_fd != -1)
    close (f->lock_fd);
  pthread_mutex_destroy (&f->serial);
  free (f);
}

static void
set_io (struct exportfile *f)
{
  f->other.ops = (struct qcow2_io_ops) {
    .pread = export_pread,
    .extents = f->can.extents ? export_extents : NULL,
    .cache = export_cache,
  };
  /* As in ways.c. */
  if (config.thread_model >= NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS) {
    f->other.ops.borrow = other_borrow;
    f->other.ops.give_back = other_give_back;
  }
  f->other.io = (struct qcow2_io) {
    .ops = &f->other.ops, .opaque = f, .size = f->can.size,
    .min_block = f->can.min_block, .max_block = f->can.max_block,
    .concurrent = true,
  };
}

int
exportfile_find (const struct host_env *env, const struct place *place,
                 struct found *found, struct qcow2_error *err)
{
  struct file_id id;

  export_id_get (&id, place->text);
  if (id.errnum != 0)
    return fail_with (err, QCOW2_ERR_IO, id.errnum, "%s cannot be looked at: "
                      "%s", place->name, strerror (id.errnum));
  found->id = identity_of_export (&id, place->text);
  found->folder = config.dir ? strdup (config.dir) : NULL;
  return 0;
}

/* The local file that it is, if it is one and is to be locked. */
static int
lock (struct exportfile *f, const struct host_env *env,
      const struct place *place, struct qcow2_error *err)
{
  struct file_id id;

  export_id_get (&id, place->text);
  if (id.errnum != 0)
    return fail_with (err, QCOW2_ERR_IO, id.errnum, "%s cannot be looked at: "
                      "%s", place->name, strerror (id.errnum));
  if (!env->lock || (!id.known && !id.device))
    return 0;
  f->lock_fd = export_id_open (&id, place->text, O_RDONLY);
  if (f->lock_fd == -1)
    return fail_with (err, QCOW2_ERR_IO, errno, "%s cannot be opened to be "
                      "locked: %s", place->name, strerror (errno));
  return lock_file (env, f->lock_fd, place->name, false, err);
}

static int
open_context (struct exportfile *f, const struct place *place,
              struct qcow2_error *err)
{
  (void) holds (f->next == NULL && exportfile_supported ());
  f->next = shared_open (place->text, true);
  if (f->next != NULL && next_ask (f->next, false, &f->can) == 0)
    return 0;
  return fail_with (err, QCOW2_ERR_IO, EIO, "%s cannot be opened",
                    place->name);
}

struct other *
exportfile_open (const struct host_env *env, const struct place *place,
                 struct qcow2_error *err)
{
  struct exportfile *const f = calloc (1, sizeof *f);

  if (f == NULL) {
    fail_with (err, QCOW2_ERR_IO, EIO, "%s cannot be opened", place->name);
    return NULL;
  }
  f->lock_fd = -1;
  pthread_mutex_init (&f->serial, NULL);
  f->other.close = export_close;
  if (lock (f, env, place, err) == -1 || open_context (f, place, err) == -1) {
    export_close (&f->other);
    return NULL;
  }
  f->one_at_a_time = config.thread_model != NBDKIT_THREAD_MODEL_PARALLEL;
  set_io (f);
  return &f->other;
}
