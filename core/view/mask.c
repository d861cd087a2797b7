/* SPDX-License-Identifier: BSD-3-Clause */
/* mask.c - bytes and extents of a disk through a mask.
 *
 * Owns      the views, each with its mask.
 * Method    the mask cuts a range into runs.  Those that are set become
 *           requests to the base, which is an ordinary image; the rest is
 *           zeros.  The base is also asked which of the set bytes are zeros;
 *           where its mapping is corrupt they count as data.  A mask that can
 *           become stale is checked before a request, to fail early, and after
 *           it: if it is valid then, it was valid all the time.
 * Locks     none: a view is constant; the mask and the base guard themselves.
 * Does not  know how a mask is made.
 */
#include "config.h"

#include "view/mask.h"
#include "view/view.h"

#include "base/assume.h"
#include "base/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RUNS 64

struct mask_view {
  struct qcow2_image image;     /* first: callers have a pointer to it */
  struct q2_mask *mask;
};

static struct q2_mask *
mask_of (struct qcow2_image *view)
{
  return ((struct mask_view *) view)->mask;
}

static int
check (struct q2_mask *mask, struct qcow2_error *err)
{
  return mask->ops->check ? mask->ops->check (mask, err) : 0;
}

/* ---- Runs one by one ------------------------------------------------ */

/* Takes one run; the next may be of the same kind.  Returns 0 to go on, 1 to
 * stop, or -1.
 */
typedef int (*run_fn) (void *arg, const struct q2_mask_run *run,
                       uint64_t guest_off, struct qcow2_error *err);

static int
walk (struct qcow2_image *view, const struct q2_io *io, uint64_t count,
      uint64_t guest_off, bool scan, run_fn fn, void *arg,
      struct qcow2_error *err)
{
  struct q2_mask *const mask = mask_of (view);
  const uint64_t end = guest_off + count;

  while (guest_off < end) {
    struct q2_mask_run run[MAX_RUNS];
    struct q2_mask_runs runs = { run, 0, MAX_RUNS };

    if (mask->ops->runs (mask, io, guest_off, end - guest_off, scan, &runs,
                         err) == -1 && runs.nr == 0)
      return -1;
    if (!q2_assume (runs.nr > 0 && runs.nr <= runs.max, err))
      return -1;
    for (size_t i = 0; i < runs.nr; ++i) {
      int r;

      if (!q2_assume (run[i].len > 0 && run[i].len <= end - guest_off, err))
        return -1;
      r = fn (arg, &run[i], guest_off, err);
      if (r != 0)
        return r;
      guest_off += run[i].len;
    }
  }
  return 0;
}

/* ---- Bytes ---------------------------------------------------------- */

struct reading {
  struct qcow2_image *base;
  const struct qcow2_io *host;
  unsigned char *buf;           /* for the next bytes, ... */
  uint64_t left;                /* ... so many */
};

static int
read_run (void *arg, const struct q2_mask_run *run, uint64_t guest_off,
          struct qcow2_error *err)
{
  struct reading *const r = arg;
  unsigned char *const buf = r->buf;

  if (!q2_assume (run->len <= r->left, err))
    return -1;
  r->left -= run->len;
  r->buf += run->len;
  if (run->set)
    return qcow2_pread (r->base, r->host, buf, (uint32_t) run->len,
                        guest_off, err);
  memset (buf, 0, run->len);
  return 0;
}

static int
mask_pread (struct qcow2_image *view, const struct qcow2_io *host, void *buf,
            uint32_t count, uint64_t guest_off, struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (view, host);
  struct reading r = { view->base, host, buf, count };

  if (check (mask_of (view), err) == -1 ||
      walk (view, &io, count, guest_off, false, read_run, &r, err) == -1 ||
      !q2_assume (r.left == 0, err))
    return -1;
  return check (mask_of (view), err);
}

static int
cache_run (void *arg, const struct q2_mask_run *run, uint64_t guest_off,
           struct qcow2_error *err)
{
  const struct reading *const r = arg;

  return !run->set ? 0 :
    qcow2_cache (r->base, r->host, (uint32_t) run->len, guest_off, err);
}

static int
mask_cache (struct qcow2_image *view, const struct qcow2_io *host,
            uint32_t count, uint64_t guest_off, struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (view, host);
  struct reading r = { view->base, host, NULL, 0 };

  if (check (mask_of (view), err) == -1)
    return -1;
  return walk (view, &io, count, guest_off, false, cache_run, &r, err);
}

/* ---- Extents -------------------------------------------------------- */

/* An extent is reported when one of another type follows. */
struct report {
  struct qcow2_image *base;
  const struct qcow2_io *host;
  qcow2_extent_fn fn;
  void *fn_opaque;
  uint64_t guest_off, len;      /* len == 0: none yet */
  enum qcow2_extent_type type;
  bool reported;                /* fn was called */
  int result;                   /* of fn: 0 go on, 1 stop, -1 failed */
  int errnum;                   /* if it failed */
};

static void
report_extent (struct report *p)
{
  if (p->len == 0 || p->result != 0)
    return;
  p->reported = true;
  p->result = p->fn (p->fn_opaque, p->guest_off, p->len, p->type);
  p->errnum = p->result == -1 ? errno : 0;
}

/* Returns nonzero if no more is wanted. */
static int
add_extent (struct report *p, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  (void) q2_check (len > 0 &&
                   (p->len == 0 || p->guest_off + p->len == guest_off));
  if (p->len > 0 && p->type == type) {
    p->len += len;
    return 0;
  }
  report_extent (p);
  p->guest_off = guest_off;
  p->len = len;
  p->type = type;
  return p->result != 0;
}

/* The base is asked about [at, end), and has told up to 'at'. */
struct question {
  struct report *report;
  uint64_t at;
};

static int
on_base_extent (void *opaque, uint64_t guest_off, uint64_t len,
                enum qcow2_extent_type type)
{
  struct question *const q = opaque;

  (void) q2_check (guest_off == q->at);
  q->at = guest_off + len;
  return add_extent (q->report, guest_off, len, type == QCOW2_EXTENT_DATA
                     ? type : QCOW2_EXTENT_ZERO_ALLOCATED);
}

static int
report_set (struct report *p, uint64_t guest_off, uint64_t len,
            struct qcow2_error *err)
{
  const uint64_t end = guest_off + len;
  struct question q = { p, guest_off };

  while (p->result == 0 && q.at < end) {
    const uint64_t before = q.at;

    if (qcow2_extents (p->base, p->host, end - q.at, q.at, on_base_extent, &q,
                       err) == 0) {
      if (!q2_assume ((q.at > before || p->result != 0) && q.at <= end, err))
        return -1;
      continue;
    }
    if (err->kind != QCOW2_ERR_CORRUPT)
      return -1;
    return add_extent (p, q.at, end - q.at, QCOW2_EXTENT_DATA);
  }
  return p->result != 0;
}

static int
report_run (void *arg, const struct q2_mask_run *run, uint64_t guest_off,
            struct qcow2_error *err)
{
  if (run->set)
    return report_set (arg, guest_off, run->len, err);
  return add_extent (arg, guest_off, run->len, QCOW2_EXTENT_ZERO);
}

static int
mask_extents (struct qcow2_image *view, const struct qcow2_io *host,
              uint64_t count, uint64_t guest_off, qcow2_extent_fn fn,
              void *fn_opaque, struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (view, host);
  struct q2_mask *const mask = mask_of (view);
  struct report p = {
    .base = view->base, .host = host, .fn = fn, .fn_opaque = fn_opaque,
  };
  int r;

  if (check (mask, err) == -1)
    return -1;
  if (q2_io_is_slow (&io) && mask->ops->preload)
    mask->ops->preload (mask, &io, guest_off, count);
  r = walk (view, &io, count, guest_off, true, report_run, &p, err);

  /* As for other images, report the extents before a failure. */
  report_extent (&p);
  if (p.result == -1)
    return q2_fail_io (err, p.errnum, QCOW2_NO_OFFSET,
                       "reporting an extent failed: %s", strerror (p.errnum));
  if (r == -1 && !p.reported)
    return -1;
  return check (mask, err);
}

/* ---- The view ------------------------------------------------------- */

static void
mask_close (struct qcow2_image *view)
{
  struct q2_mask *const mask = mask_of (view);

  mask->ops->free (mask);
  if (view->base != view->parent)
    qcow2_close (view->base);
  q2_superblock_destroy (&view->superblock);
  free (view);
}

static const struct q2_view_ops mask_ops = {
  .pread = mask_pread,
  .extents = mask_extents,
  .cache = mask_cache,
  .close = mask_close,
};

struct qcow2_image *
q2_mask_open (struct qcow2_image *parent, struct qcow2_image *base,
              struct q2_mask *mask, const char *why_read_only,
              struct qcow2_error *err)
{
  struct mask_view *const v = calloc (1, sizeof *v);

  (void) q2_check (mask->ops->runs != NULL);
  if (v == NULL) {
    q2_fail_nomem (err, "a view");
    mask->ops->free (mask);
    if (base != parent)
      qcow2_close (base);
    return NULL;
  }
  v->mask = mask;
  v->image.view = &mask_ops;
  v->image.parent = parent;
  v->image.base = base;
  q2_view_describe (&v->image, q2_image_info (base).virtual_size,
                    why_read_only);
  return (struct qcow2_image *) v;      /* its first member */
}
