/* SPDX-License-Identifier: BSD-3-Clause */
/* next.c - calls to the layer below, checked.
 *
 * Owns      every data call through a 'next'.  nbdkit asserts, that is
 *           aborts the whole server, when a request is empty, leaves the
 *           plugin or was not preceded by the right question; the engine
 *           promises not to do that, and here it is checked once more.
 * Method    what the layer below can do is asked by next_ask, also where
 *           the answer is of no interest, because the server remembers that
 *           it was asked.  FUA and FAST_ZERO are never passed on: the engine
 *           flushes, and zeroes only where that is fast.
 * Locks     none.  Who may call when is the callers' business.
 */
#include "config.h"

#include "below/next.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/bounce.h"
#include "logs.h"
#include "stack.h"

#include <errno.h>

/* nbdkit before 1.44 zeroes only the first 64 MiB of a longer request to a
 * plugin that cannot zero, and says that it did it all.
 */
#define MAX_ZERO (32u << 20)

/* -D qcow2.io=1: log every request to the layer below. */
NBDKIT_DLL_PUBLIC int qcow2_debug_io = 0;

/* nbdkit promises an errno value with every failure, and aborts when it
 * gets 0 from us.
 */
static int
failed (int err)
{
  return err > 0 ? err : EIO;
}

static bool
in_range (nbdkit_next *next, uint64_t count, uint64_t host_off)
{
  const int64_t size = next->get_size (next);

  return size >= 0 && count > 0 && host_off <= (uint64_t) size &&
    count <= (uint64_t) size - host_off;
}

static void
log_how (const char *what, const char *class, uint64_t count,
         uint64_t host_off, const char *how)
{
  if (qcow2_debug_io)
    nbdkit_debug ("qcow2: below: %s%s%s count=%llu offset=0x%llx%s", what,
                  class[0] ? " " : "", class, (unsigned long long) count,
                  (unsigned long long) host_off, how);
}

static void
log_io (const char *what, const char *class, uint64_t count,
        uint64_t host_off)
{
  log_how (what, class, count, host_off, "");
}

/* ---- Requests ----------------------------------------------------------- */

/* Of other plugins, and of filters, nobody knows where they have their bytes
 * from.
 */
static bool
is_local (void)
{
  return stack_is_plugin_alone ("file");
}

int
next_pread (nbdkit_next *next, void *buf, uint32_t count, uint64_t host_off,
            enum qcow2_io_class class)
{
  void *const to = bounce_get (buf, count, host_off, is_local ());
  int err = EIO;
  bool done = false;

  log_how ("read", io_class_names[class], count, host_off,
           to == buf ? "" : " bounced");
  if (in_range (next, count, host_off)) {
    err = 0;
    done = next->pread (next, to, count, host_off, 0, &err) != -1;
  }
  bounce_put (to, buf, count, done);
  return done ? 0 : failed (err);
}

int
next_extents (nbdkit_next *next, uint32_t count, uint64_t host_off,
              qcow2_host_extent_fn fn, void *fn_opaque)
{
  const uint64_t end = host_off + count;
  struct nbdkit_extents *extents;
  int err = 0;

  if (!in_range (next, count, host_off))
    return EIO;
  extents = nbdkit_extents_new (host_off, end);
  if (extents == NULL)
    return failed (errno);
  if (next->extents (next, count, host_off, 0, extents, &err) == -1) {
    nbdkit_extents_free (extents);
    return failed (err);
  }
  for (size_t i = 0; i < nbdkit_extents_count (extents); ++i) {
    const struct nbdkit_extent e = nbdkit_get_extent (extents, i);
    const uint64_t len = e.offset + e.length > end
      ? end - e.offset : e.length;

    if (e.offset >= end ||
        fn (fn_opaque, e.offset, len, e.type & NBDKIT_EXTENT_ZERO) != 0)
      break;
  }
  nbdkit_extents_free (extents);
  return 0;
}

int
next_cache (nbdkit_next *next, uint32_t count, uint64_t host_off)
{
  int err = 0;

  if (!in_range (next, count, host_off))
    return EIO;
  return next->cache (next, count, host_off, 0, &err) == -1
    ? failed (err) : 0;
}

int
next_pwrite (nbdkit_next *next, const void *buf, uint32_t count,
             uint64_t host_off, enum qcow2_io_class class)
{
  int err = 0;

  log_io ("write", io_class_names[class], count, host_off);
  if (!in_range (next, count, host_off))
    return EIO;
  return next->pwrite (next, buf, count, host_off, 0, &err) == -1
    ? failed (err) : 0;
}

int
next_flush (nbdkit_next *next)
{
  int err = 0;

  log_io ("flush", "", 0, 0);
  return next->flush (next, 0, &err) == -1 ? failed (err) : 0;
}

int
next_zero (nbdkit_next *next, uint32_t count, uint64_t host_off,
           bool may_punch, enum qcow2_io_class class)
{
  const uint32_t flags = may_punch ? NBDKIT_FLAG_MAY_TRIM : 0;
  int err = 0;

  log_io (may_punch ? "punch" : "zero", io_class_names[class], count,
          host_off);
  if (!in_range (next, count, host_off))
    return EIO;
  while (count > 0) {
    const uint32_t n = count < MAX_ZERO ? count : MAX_ZERO;

    if (next->zero (next, n, host_off, flags, &err) == -1)
      return failed (err);
    host_off += n;
    count -= n;
  }
  return 0;
}

int
next_trim (nbdkit_next *next, uint32_t count, uint64_t host_off)
{
  int err = 0;

  log_io ("trim", "", count, host_off);
  if (!in_range (next, count, host_off))
    return EIO;
  while (count > 0) {
    const uint32_t n = count < MAX_ZERO ? count : MAX_ZERO;

    if (next->trim (next, n, host_off, 0, &err) == -1)
      return failed (err);
    host_off += n;
    count -= n;
  }
  return 0;
}

/* ---- Questions ---------------------------------------------------------- */

static int
ask_block_size (nbdkit_next *next, struct abilities *can)
{
  uint32_t min, preferred, max;

  if (next->block_size (next, &min, &preferred, &max) == -1)
    return -1;
  can->min_block = min > 0 ? min : 1;
  can->max_block = max > 0 && max < UINT32_MAX
    ? max - max % can->min_block : 0;
  return 0;
}

static int
ask_writing (nbdkit_next *next, struct abilities *can)
{
  const int write = next->can_write (next);
  const int flush = next->can_flush (next);
  const int fua = next->can_fua (next);
  const int zero = next->can_zero (next);
  const int fast_zero = next->can_fast_zero (next);
  const int trim = next->can_trim (next);
  const int multi_conn = next->can_multi_conn (next);

  if (write == -1 || flush == -1 || fua == -1 || zero == -1 ||
      fast_zero == -1 || trim == -1 || multi_conn == -1)
    return -1;
  can->write = write;
  can->flush = flush;
  /* Emulated zeroing is writing, which the engine can do itself. */
  can->zero = zero == NBDKIT_ZERO_NATIVE;
  can->trim = trim;
  can->multi_conn = multi_conn;
  return 0;
}

int
next_ask (nbdkit_next *next, bool writing, struct abilities *can)
{
  const int64_t size = next->get_size (next);
  const int extents = next->can_extents (next);
  const int rotational = next->is_rotational (next);

  *can = (struct abilities) {
    .size = size, .extents = extents && !stack_extents_mislead (false),
    .rotational = rotational,
  };
  can->cache = next->can_cache (next);
  if (size == -1 || extents == -1 || rotational == -1 || can->cache == -1 ||
      ask_block_size (next, can) == -1 ||
      (writing && ask_writing (next, can) == -1))
    return -1;
  return 0;
}

/* Without a flush nothing could ever be promised to be durable. */
bool
next_is_writable (const struct abilities *can)
{
  return can->write && can->flush;
}
