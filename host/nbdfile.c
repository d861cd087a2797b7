/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdfile.c - the way to the bytes of another file that is on an NBD server.
 *
 * Owns      struct nbdfile, and what a request does when its connection
 *           breaks.
 * Method    a request takes a connection for itself (nbdpool.c).  A read whose
 *           connection has broken is tried once more with another one.
 *
 *           A write is not: after a connection has broken, nobody knows
 *           whether what was acknowledged on it and not yet flushed is still
 *           there, so from then on every write and flush fails (durable.c).
 * Locks     none: a connection belongs to who has taken it.
 */
#include "config.h"

#include "host/nbdfile.h"

#include "qcow2.h"
#include "host/durable.h"
#include "host/env.h"
#include "host/error.h"
#include "host/other.h"
#include "host/rules.h"

bool
nbdfile_supported (void)
{
#ifdef HAVE_LIBNBD
  return true;
#else
  return false;
#endif
}

#ifndef HAVE_LIBNBD

#include <errno.h>

struct other *
nbdfile_open (const struct host_env *env, const struct place *place,
              bool writing, struct qcow2_error *err)
{
  fail_with (err, QCOW2_ERR_UNSUPPORTED, ENOTSUP,
             "%s needs a %s that was built with libnbd", place->name,
             env->words->program);
  return NULL;
}

#else /* HAVE_LIBNBD */

#include "host/nbdpool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Servers have their limits near this. */
#define MAX_REQUEST (32u << 20)

struct nbdfile {
  struct other other;           /* first: it is the same pointer */
  const struct host_env *env;
  const struct place *place;
  struct nbdpool *pool;
  bool writing;                 /* constant once it is open, like other */
  struct durable durable;
};

/* ---- Requests ---------------------------------------------------------- */

struct request {
  enum { REQ_READ, REQ_EXTENTS, REQ_CACHE, REQ_WRITE, REQ_FLUSH, REQ_ZERO,
         REQ_TRIM } kind;
  void *buf;
  const void *data;
  uint32_t count;
  uint64_t host_off;
  bool may_punch, fast;
  qcow2_host_extent_fn fn;
  void *fn_opaque;
  uint64_t reported;            /* extents: up to here */
  bool stop;
};

static int
on_extents (void *opaque, const char *context, uint64_t offset,
            uint32_t *entries, size_t nr_entries, int *error)
{
  struct request *const r = opaque;
  const uint64_t end = r->host_off + r->count;

  if (strcmp (context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 ||
      offset != r->reported)
    return 0;
  for (size_t i = 0; i + 1 < nr_entries; i += 2) {
    const uint64_t len = entries[i] < end - r->reported
      ? entries[i] : end - r->reported;

    if (!qcow2_holds (r->reported <= end) || r->stop || len == 0)
      break;
    r->stop = r->fn (r->fn_opaque, r->reported, len,
                     entries[i + 1] & LIBNBD_STATE_ZERO) != 0;
    r->reported += len;
  }
  return 0;
}

static int
run_extents (struct nbd_handle *nbd, struct request *r)
{
  const uint64_t end = r->host_off + r->count;

  while (!r->stop && r->reported < end) {
    const uint64_t before = r->reported;
    const nbd_extent_callback callback = {
      .callback = on_extents, .user_data = r,
    };

    if (nbd_block_status (nbd, end - before, before, callback, 0) == -1)
      return -1;
    /* The server has nothing to say. */
    if (r->reported == before) {
      r->fn (r->fn_opaque, before, end - before, false);
      break;
    }
  }
  return 0;
}

static int
run (struct nbd_handle *nbd, struct request *r)
{
  switch (r->kind) {
  case REQ_READ:
    return nbd_pread (nbd, r->buf, r->count, r->host_off, 0);
  case REQ_EXTENTS:
    return run_extents (nbd, r);
  case REQ_CACHE:
    return nbd_cache (nbd, r->count, r->host_off, 0);
  case REQ_WRITE:
    return nbd_pwrite (nbd, r->data, r->count, r->host_off, 0);
  case REQ_FLUSH:
    return nbd_flush (nbd, 0);
  case REQ_ZERO:
    return nbd_zero (nbd, r->count, r->host_off,
                     (r->may_punch ? 0 : LIBNBD_CMD_FLAG_NO_HOLE) |
                     (r->fast ? LIBNBD_CMD_FLAG_FAST_ZERO : 0));
  case REQ_TRIM:
    return nbd_trim (nbd, r->count, r->host_off, 0);
  }
  return -1;
}

/* What went wrong, before libnbd is asked anything else. */
static int
note_error (const struct nbdfile *f, char *text, size_t size)
{
  const int err = nbd_get_errno ();

  snprintf (text, size, "%s", nbdpool_message (f->place));
  return err > 0 ? err : EIO;
}

/* Returns 0, or an errno value. */
static int
request (struct nbdfile *f, struct request *r)
{
  const bool reading = r->kind <= REQ_CACHE;

  if (!host_holds (f->env, reading || f->writing))
    return EIO;
  for (unsigned tries = 0; tries < 2; ++tries) {
    struct connection *c;
    char text[200];
    int err;

    if (!reading && durable_is_lost (&f->durable))
      break;
    c = nbdpool_take (f->pool);
    if (c == NULL || !host_holds (f->env, c->nbd != NULL))
      break;
    if (run (c->nbd, r) == 0) {
      nbdpool_put_back (f->pool, c);
      return 0;
    }
    err = note_error (f, text, sizeof text);
    if (nbd_aio_is_ready (c->nbd) == 1) {
      nbdpool_put_back (f->pool, c);
      return err;
    }
    host_warn (f->env, f->place->name, "%s", text);
    if (f->writing)
      durable_lose (&f->durable, "the connection was lost");
    nbdpool_drop (f->pool, c);
    if (!reading)
      break;
  }
  return EIO;
}

static int
nbd_file_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
                enum qcow2_io_class class)
{
  struct request r = {
    .kind = REQ_READ, .buf = buf, .count = count, .host_off = host_off,
  };

  return request (opaque, &r);
}

static int
nbd_file_extents (void *opaque, uint32_t count, uint64_t host_off,
                  qcow2_host_extent_fn fn, void *fn_opaque)
{
  struct request r = {
    .kind = REQ_EXTENTS, .count = count, .host_off = host_off, .fn = fn,
    .fn_opaque = fn_opaque, .reported = host_off,
  };

  return request (opaque, &r);
}

static int
nbd_file_cache (void *opaque, uint32_t count, uint64_t host_off)
{
  struct request r = {
    .kind = REQ_CACHE, .count = count, .host_off = host_off,
  };

  return request (opaque, &r);
}

static int
no_cache (void *opaque, uint32_t count, uint64_t host_off)
{
  return 0;
}

static int
nbd_file_pwrite (void *opaque, const void *buf, uint32_t count,
                 uint64_t host_off, enum qcow2_io_class class)
{
  struct request r = {
    .kind = REQ_WRITE, .data = buf, .count = count, .host_off = host_off,
  };

  return request (opaque, &r);
}

static int
flush_server (void *opaque)
{
  struct request r = { .kind = REQ_FLUSH };

  return request (opaque, &r);
}

static int
nbd_file_flush (void *opaque)
{
  struct nbdfile *const f = opaque;

  return durable_flush (&f->durable, flush_server, f);
}

static int
nbd_file_zero (void *opaque, uint32_t count, uint64_t host_off,
               bool may_punch, enum qcow2_io_class class)
{
  struct request r = {
    .kind = REQ_ZERO, .count = count, .host_off = host_off,
    .may_punch = may_punch,
  };

  return request (opaque, &r);
}

static int
nbd_file_fast_zero (void *opaque, uint32_t count, uint64_t host_off,
                    bool may_punch, enum qcow2_io_class class)
{
  struct request r = {
    .kind = REQ_ZERO, .count = count, .host_off = host_off,
    .may_punch = may_punch, .fast = true,
  };

  return request (opaque, &r);
}

static int
nbd_file_trim (void *opaque, uint32_t count, uint64_t host_off)
{
  struct request r = {
    .kind = REQ_TRIM, .count = count, .host_off = host_off,
  };

  return request (opaque, &r);
}

/* ---- Making one -------------------------------------------------------- */

static void
nbd_file_close (struct other *other)
{
  struct nbdfile *const f = (struct nbdfile *) other;

  nbdpool_free (f->pool);
  durable_destroy (&f->durable);
  free (f);
}

static void
set_ops (struct nbdfile *f, struct nbd_handle *nbd)
{
  const bool writable = nbd_is_read_only (nbd) == 0 &&
    nbd_can_flush (nbd) == 1;
  struct qcow2_io_ops *const ops = &f->other.ops;

  ops->pread = nbd_file_pread;
  ops->cache = nbd_can_cache (nbd) == 1 ? nbd_file_cache : no_cache;
  ops->borrow = other_borrow;
  ops->give_back = other_give_back;
  if (nbd_can_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1)
    ops->extents = nbd_file_extents;
  if (f->writing && !writable)
    host_warn (f->env, f->place->name, "cannot be written to: the server %s",
               nbd_is_read_only (nbd) == 1 ? "says that it is read-only"
               : "cannot flush what is written");
  f->writing = f->writing && writable;
  if (!f->writing)
    return;
  ops->pwrite = nbd_file_pwrite;
  ops->flush = nbd_file_flush;
  ops->zero = nbd_can_zero (nbd) == 1 ? nbd_file_zero : NULL;
  ops->fast_zero =
    nbd_can_fast_zero (nbd) == 1 ? nbd_file_fast_zero : NULL;
  ops->trim = nbd_can_trim (nbd) == 1 ? nbd_file_trim : NULL;
}

/* The engine relies on sizes of blocks; a server may say anything. */
static int
set_io (struct nbdfile *f, struct nbd_handle *nbd, struct qcow2_error *err)
{
  const int64_t size = nbd_get_size (nbd);
  int64_t min = nbd_get_block_size (nbd, LIBNBD_SIZE_MINIMUM);
  int64_t max = nbd_get_block_size (nbd, LIBNBD_SIZE_MAXIMUM);

  if (min <= 0)
    min = 1;
  if (max <= 0 || max > MAX_REQUEST)
    max = MAX_REQUEST;
  if (size < 0 || (min & (min - 1)) != 0 || max < min)
    return fail_with (err, QCOW2_ERR_IO, EIO, "%s: the server's size of the "
                      "export, or of blocks, makes no sense",
                      f->place->name);
  f->other.io = (struct qcow2_io) {
    .ops = &f->other.ops, .opaque = f, .size = size, .min_block = min,
    .max_block = max - max % min, .concurrent = true,
  };
  set_ops (f, nbd);
  if (f->writing)
    nbdpool_seal (f->pool);
  return 0;
}

struct other *
nbdfile_open (const struct host_env *env, const struct place *place,
              bool writing, struct qcow2_error *err)
{
  struct nbdfile *const f = calloc (1, sizeof *f);

  if (f == NULL) {
    fail_with (err, QCOW2_ERR_NOMEM, ENOMEM, "out of memory for a layer");
    return NULL;
  }
  f->env = env;
  f->place = place;
  durable_init (&f->durable, env, place->name);
  f->writing = writing;
  f->other.close = nbd_file_close;
  f->pool = nbdpool_new (env, place, err);
  if (f->pool != NULL && set_io (f, nbdpool_first (f->pool), err) == 0)
    return (struct other *) f;  /* its first member */
  nbd_file_close (&f->other);
  return NULL;
}

#endif /* HAVE_LIBNBD */
