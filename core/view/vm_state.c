/* SPDX-License-Identifier: BSD-3-Clause */
/* vm_state.c - the memory of a virtual machine that a snapshot has.
 *
 * Owns      which part of a snapshot that is.
 * Method    it lies behind the snapshot's disk, from where the last L2 table
 *           of that ends, in the same way as the disk itself.  So a view of a
 *           snapshot whose disk is larger has it, if it does not look into the
 *           backing image, which has no such thing; and this view shows the
 *           end of that one.
 * Locks     none: a snapshot never changes.
 * Spec      "Snapshots": "VM state".
 */
#include "config.h"

#include "view/snapshot_view.h"
#include "view/view.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>

struct vm_view {
  struct qcow2_image image;     /* first: callers have a pointer to it */
  uint64_t start;               /* of the state, in the base */
};

static uint64_t
place (const struct qcow2_image *view, uint64_t off)
{
  return ((const struct vm_view *) view)->start + off;
}

static int
vm_pread (struct qcow2_image *view, const struct qcow2_io *host, void *buf,
          uint32_t count, uint64_t off, struct qcow2_error *err)
{
  return qcow2_pread (view->base, host, buf, count, place (view, off), err);
}

struct shift {
  qcow2_extent_fn fn;
  void *fn_opaque;
  uint64_t start;
};

static int
on_extent (void *opaque, uint64_t guest_off, uint64_t len,
           enum qcow2_extent_type type)
{
  const struct shift *const s = opaque;

  (void) q2_check (guest_off >= s->start);
  return s->fn (s->fn_opaque, guest_off - s->start, len, type);
}

static int
vm_extents (struct qcow2_image *view, const struct qcow2_io *host,
            uint64_t count, uint64_t off, qcow2_extent_fn fn, void *fn_opaque,
            struct qcow2_error *err)
{
  struct shift shift = { fn, fn_opaque, place (view, 0) };

  return qcow2_extents (view->base, host, count, place (view, off), on_extent,
                        &shift, err);
}

static int
vm_cache (struct qcow2_image *view, const struct qcow2_io *host,
          uint32_t count, uint64_t off, struct qcow2_error *err)
{
  return qcow2_cache (view->base, host, count, place (view, off), err);
}

static void
vm_close (struct qcow2_image *view)
{
  qcow2_close (view->base);
  q2_superblock_destroy (&view->superblock);
  free (view);
}

static const struct q2_view_ops vm_ops = {
  .pread = vm_pread,
  .extents = vm_extents,
  .cache = vm_cache,
  .close = vm_close,
};

/* Where it begins and ends, as if the disk went on until there. */
static int
find_ends (const struct qcow2_image *image, const struct q2_found_snapshot *f,
           uint64_t *ret_start, uint64_t *ret_end, struct qcow2_error *err)
{
  const unsigned shift = image->geo.l1_shift;
  const uint64_t room =
    q2_min (f->s.l1_entries, INT64_MAX >> shift) << shift;
  const uint64_t disk = q2_min (f->s.disk_size, room);
  const uint64_t start = q2_ceil_shift (disk, shift) << shift;

  if (f->s.vm_state_size == 0)
    return q2_fail (err, QCOW2_ERR_NOT_FOUND, f->host_off,
                    "the snapshot has no VM state: it is of the disk alone");
  if (f->s.disk_size > room || f->s.vm_state_size > room - start)
    return q2_fail (err, QCOW2_ERR_CORRUPT, f->host_off,
                    "the snapshot at offset 0x%" PRIx64 " has a VM state of "
                    "%" PRIu64 " bytes, but an L1 table of only %u entries",
                    f->host_off, f->s.vm_state_size, f->s.l1_entries);
  if (!q2_assume (start >= f->s.disk_size &&
                  q2_is_aligned (start, UINT64_C (1) << shift), err))
    return -1;
  *ret_start = start;
  *ret_end = start + f->s.vm_state_size;
  return 0;
}

/* Its base, as far as that is there, is closed with it. */
static struct qcow2_image *
open_state (struct qcow2_image *image, const struct qcow2_io *host,
            const struct q2_found_snapshot *f, struct qcow2_error *err)
{
  struct q2_found_snapshot whole = *f;
  uint64_t start = 0;
  struct vm_view *v;

  if (find_ends (image, f, &start, &whole.s.disk_size, err) == -1)
    return NULL;
  v = calloc (1, sizeof *v);
  if (v == NULL) {
    q2_fail_nomem (err, "a view of a VM state");
    return NULL;
  }
  v->image.view = &vm_ops;
  v->image.parent = image;
  v->start = start;
  v->image.base = q2_snapshot_open (image, host, &whole, err);
  if (v->image.base != NULL) {
    v->image.base->reader.alone = true;
    q2_view_describe (&v->image, f->s.vm_state_size,
                      "it is the state of a virtual machine, which never "
                      "changes");
    return (struct qcow2_image *) v;  /* its first member */
  }
  qcow2_close ((struct qcow2_image *) v);
  return NULL;
}

struct qcow2_image *
q2_vm_state_open (struct qcow2_image *image, const struct qcow2_io *host,
                  const struct qcow2_name *name, bool by_id,
                  struct qcow2_error *err)
{
  struct q2_found_snapshot found;

  if (q2_snapshot_find (image, host, name, by_id, &found, err) == -1)
    return NULL;
  return open_state (image, host, &found, err);
}
