/* SPDX-License-Identifier: BSD-3-Clause */
/* space.c - the refcounts of an image that is written to.
 *
 * Owns      the life of struct q2_space, getting what functions of refcounts.h
 *           need, and what a commit does with refcounts.
 * Method    a chain of files, each using those before it: refcounts.c, this
 *           one, windows.c, cover.c, search.c, hand_out.c.
 * Locks     see space_impl.h.
 */
#include "config.h"

#include "alloc/space_impl.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* ---- Life ----------------------------------------------------------- */

/* As for L2 tables: in the file, all of it, and used once. */
static int
add_block (struct q2_space *s, const struct q2_io *io, uint64_t host_off,
           struct qcow2_error *err)
{
  const uint64_t size = s->geo->cluster_size;

  if (host_off >= q2_io_size (io) ||
      q2_overlap_class (s->overlap, host_off) == Q2_META_REFCOUNT_BLOCK)
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR,
                           host_off,
                           "the refcount block at offset 0x%" PRIx64 " is not "
                           "in the file, or used twice", host_off);
  if (q2_overlap_add (s->overlap, host_off, size, Q2_META_REFCOUNT_BLOCK,
                      err) == -1)
    return -1;
  return q2_io_grow (io, host_off + size, err);
}

static int
add_blocks (struct q2_space *s, const struct q2_io *io,
            struct qcow2_error *err)
{
  const struct q2_refcounts *const rc = &s->rc;

  for (uint64_t i = 0; i < rc->table_entries; ++i)
    if (rc->table[i] != 0 && add_block (s, io, rc->table[i], err) == -1)
      return -1;
  return 0;
}

struct q2_space *
q2_space_new (const struct q2_geometry *geo, const struct q2_header *h,
              struct q2_overlap *overlap, struct q2_flight *flight,
              const struct q2_io *io, struct qcow2_error *err)
{
  struct q2_space *s = calloc (1, sizeof *s);

  if (s == NULL) {
    q2_fail_nomem (err, "the refcounts");
    return NULL;
  }
  s->geo = geo;
  s->overlap = overlap;
  s->flight = flight;
  s->lowest_freed = s->lowest_skipped = Q2_SPACE_NONE;
  s->never_used = q2_ceil_shift (q2_io_size (io), geo->cluster_bits);
  q2_mutex_init (&s->claim_lock, 1, "claim_lock");
  q2_mutex_init (&s->solid_lock, 2, "solid_lock");
  q2_mutex_init (&s->lock, 5, "space.lock");
  if (q2_known_init (&s->known, err) == -1 ||
      q2_refcounts_init (&s->rc, geo, h, io, err) == -1 ||
      add_blocks (s, io, err) == -1) {
    q2_space_free (s);
    return NULL;
  }
  return s;
}

void
q2_space_free (struct q2_space *s)
{
  if (s == NULL)
    return;
  q2_refcounts_destroy (&s->rc);
  q2_known_destroy (&s->known);
  q2_mutex_destroy (&s->lock);
  q2_mutex_destroy (&s->solid_lock);
  q2_mutex_destroy (&s->claim_lock);
  free (s);
}

/* ---- Refcounts ------------------------------------------------------ */

static int
make_solid (struct q2_space *s, const struct q2_io *io,
            const struct q2_need *need, struct qcow2_error *err)
{
  int r;

  q2_mutex_lock (&s->solid_lock);
  r = q2_refcounts_make_solid (&s->rc, io, need, &s->lock, err);
  q2_mutex_unlock (&s->solid_lock);
  return r;
}

int
q2_space_load (struct q2_space *s, const struct q2_io *io,
               const struct q2_need *need, struct qcow2_error *err)
{
  enum q2_put put = Q2_PUT_DONE;

  if (need->solid)
    return make_solid (s, io, need, err);
  /* What is out of date once was read with too much around it: a slice that
   * is written and missing has been all of that while it was read.  What could
   * not be read may be something else, too.
   */
  do {
    const bool wide = put == Q2_PUT_DONE;
    struct q2_need_bytes bytes;

    put = Q2_PUT_OUT_OF_DATE;
    if (q2_refcounts_read (&s->rc, io, need, wide, &bytes, err) == -1) {
      if (wide && q2_io_is_slow (io) && err->errnum == EIO)
        continue;
      return -1;
    }
    q2_mutex_lock (&s->lock);
    put = q2_refcounts_put_locked (&s->rc, &bytes);
    q2_mutex_unlock (&s->lock);
  } while (put == Q2_PUT_OUT_OF_DATE);
  return put == Q2_PUT_NO_ROOM ? Q2_SPACE_COMMIT_FIRST : 0;
}

/* As many as one slice has. */
static uint64_t
set_some_locked (struct q2_space *s, uint64_t cluster, uint64_t nr,
                 uint64_t value, struct q2_need *need)
{
  struct q2_refcount_run counts;

  q2_mutex_check_held (&s->lock);
  if (!q2_refcounts_copy_locked (&s->rc, cluster, nr, &counts, need))
    return 0;
  for (uint64_t i = 0; i < counts.nr; ++i)
    q2_refcount_run_set (&counts, i, value);
  if (!q2_refcounts_store_locked (&s->rc, &counts, counts.nr, need))
    return 0;
  for (uint64_t i = 0; i < counts.nr; ++i)
    if (value > 0)
      q2_known_note_locked (&s->known, cluster + i);
    else
      q2_known_forget_locked (&s->known, cluster + i);
  return counts.nr;
}

uint64_t
q2_space_set_run_locked (struct q2_space *s, uint64_t cluster, uint64_t nr,
                         uint64_t value, struct q2_need *need)
{
  uint64_t done = 0, n;

  q2_mutex_check_held (&s->lock);
  while (done < nr &&
         (n = set_some_locked (s, cluster + done, nr - done, value, need)) > 0)
    done += n;
  /* Who knew it until now is inside. */
  if (done > 0 && value == 0)
    s->freed_stamp = q2_flight_stamp (s->flight) + 2;
  return done;
}

void
q2_space_end_packing_locked (struct q2_space *s, uint64_t cluster,
                             uint64_t nr)
{
  const uint64_t packed = s->packed_off >> s->geo->cluster_bits;

  q2_mutex_check_held (&s->lock);
  if (packed >= cluster && packed - cluster < nr)
    s->packed_off = 0;
}

void
q2_space_note_freed_locked (struct q2_space *s, uint64_t cluster,
                            uint64_t nr)
{
  q2_mutex_check_held (&s->lock);
  q2_check (nr > 0);
  if (cluster < s->cursor)
    s->lowest_freed = q2_min (s->lowest_freed, cluster);
  q2_space_end_packing_locked (s, cluster, nr);
}

/* ---- Commit --------------------------------------------------------- */

bool
q2_space_is_pressed (struct q2_space *s)
{
  return q2_cache_nr_dirty (s->rc.cache) >
    q2_cache_capacity (s->rc.cache) / 4;
}

bool
q2_space_is_settled (struct q2_space *s)
{
  bool settled;

  q2_mutex_lock (&s->lock);
  settled = q2_flight_is_past (s->flight, s->freed_stamp);
  q2_mutex_unlock (&s->lock);
  return settled;
}

bool
q2_space_is_filling (struct q2_space *s)
{
  return q2_cache_nr_dirty (s->rc.cache) >
    q2_cache_capacity (s->rc.cache) / 8;
}

bool
q2_space_is_dirty (struct q2_space *s)
{
  bool dirty;

  q2_mutex_lock (&s->lock);
  dirty = q2_refcounts_is_dirty_locked (&s->rc);
  q2_mutex_unlock (&s->lock);
  return dirty;
}

bool
q2_space_has_old_table (struct q2_space *s)
{
  bool has;

  q2_mutex_lock (&s->lock);
  has = s->rc.nr_old > 0;
  q2_mutex_unlock (&s->lock);
  return has;
}

int
q2_space_write (struct q2_space *s, const struct q2_refcounts_dirty *d,
                const struct q2_io *io, struct qcow2_error *err)
{
  return q2_refcounts_write (&s->rc, d, io, err);
}

void
q2_space_end_gather (struct q2_space *s, struct q2_refcounts_dirty *d,
                     enum q2_commit_progress progress, struct q2_frees *frees)
{
  struct q2_refcounts *const rc = &s->rc;
  const bool linked = progress >= Q2_PROGRESS_2B;

  q2_mutex_lock (&s->lock);
  q2_check (d->nr_old <= rc->nr_old);   /* more may have moved meanwhile */
  for (unsigned i = 0; linked && i < d->nr_old; ++i) {
    const uint64_t off = rc->old[i].host_off;
    const uint32_t nr = rc->old[i].clusters;

    q2_check (off != rc->table_host_off && nr > 0);
    q2_overlap_remove (s->overlap, off, (uint64_t) nr << s->geo->cluster_bits);
    if (q2_frees_reserve (frees, 1))
      q2_frees_add (frees, off >> s->geo->cluster_bits, nr);
  }
  if (linked) {
    for (unsigned i = d->nr_old; i < rc->nr_old; ++i)
      rc->old[i - d->nr_old] = rc->old[i];
    rc->nr_old -= d->nr_old;
  }
  q2_refcounts_end_gather_locked (rc, d, progress);
  q2_mutex_unlock (&s->lock);
}
