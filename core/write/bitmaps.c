/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmaps.c - bitmaps while the disk changes, as far as the writer is
 * concerned.
 *
 * Owns      giving durable bitmaps clusters for all of their bits, before the
 *           first change; what becomes of the image if a bitmap can neither be
 *           kept up nor marked.
 * Method    an entry of a bitmap table without a cluster says that all bits
 *           are alike.  It gets a cluster with just these bits; when that, and
 *           its refcount, are durable the entry is written, in place.  Old and
 *           new entry mean the same, so nothing has to switch (ORDER-1, -3,
 *           -4).  From then on bits are written where they are
 *           (track/zones.c).
 * Locks     none of its own.  Clusters are given while no change of the disk
 *           is running.
 * Spec      "Bitmap table".
 */
#include "config.h"

#include "write/writer.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/plant.h"
#include "meta/bitmaps.h"
#include "track/tracked.h"

#include <inttypes.h>

/* So many bytes of bits at once, at least a cluster. */
#define CHUNK (UINT64_C (1) << 20)

struct filling {
  struct q2_writer *w;
  const struct q2_io *io;
  struct q2_tracked *t;
  unsigned char *table;         /* as it is to be; t->clusters is as it was */
  bool named;                   /* by entries of the file, perhaps */
};

static uint64_t
cluster_size (const struct filling *f)
{
  return f->w->geo->cluster_size;
}

/* ---- What is there ---------------------------------------------------- */

/* It is written in place, so it must stay what it is, and belong to nobody
 * else: a repair of an image with such a cluster counts each owner.
 */
static int
check_cluster (const struct filling *f, uint64_t host_off,
               struct qcow2_error *err)
{
  const uint64_t cluster = host_off >> f->w->geo->cluster_bits;
  uint64_t refcount;
  int r;

  while ((r = q2_space_get (f->w->space, f->io, cluster, &refcount, err)) > 0)
    if (q2_writer_commit (f->w, f->io, err) == -1)
      return -1;
  if (r == -1 || refcount == 1)
    return r;
  return q2_fail (err, QCOW2_ERR_CORRUPT, host_off,
                  "its cluster at offset 0x%" PRIx64 " %s", host_off,
                  refcount > 0 ? "is shared" : "has no refcount");
}

static int
check_table (const struct filling *f, uint64_t len, struct qcow2_error *err)
{
  const uint64_t off = f->t->table_offset;

  for (uint64_t i = 0; i < len; i += cluster_size (f))
    if (check_cluster (f, off + i, err) == -1)
      return -1;
  return 0;
}

static int
claim_cluster (struct filling *f, uint64_t host_off, struct qcow2_error *err)
{
  if (check_cluster (f, host_off, err) == -1)
    return -1;
  return q2_overlap_add (f->w->overlap, host_off, cluster_size (f),
                         Q2_META_BITMAP_BITS, err);
}

static int
load_table (struct filling *f, struct qcow2_error *err)
{
  struct q2_tracked *const t = f->t;
  const uint64_t len = (uint64_t) t->table_entries * 8;

  if (check_table (f, len, err) == -1 ||
      q2_overlap_add (f->w->overlap, t->table_offset, len,
                      Q2_META_BITMAP_TABLE, err) == -1 ||
      q2_io_read (f->io, f->table, len, t->table_offset, QCOW2_IO_HEADER, err)
      == -1)
    return -1;
  /* They follow the rules: all bits were read. */
  for (uint32_t i = 0; i < t->table_entries; ++i) {
    t->clusters[i] = q2_bitmap_table_cluster (load_be64 (f->table + 8 * i));
    if (t->clusters[i] != 0 && claim_cluster (f, t->clusters[i], err) == -1)
      return -1;
  }
  return 0;
}

/* ---- What is missing -------------------------------------------------- */

/* Clusters that follow each other, 'nr' of them or one. */
static int
alloc (struct filling *f, uint32_t *nr, uint64_t *ret_host_off,
       struct qcow2_error *err)
{
  struct q2_writer *const w = f->w;
  const unsigned bits = w->geo->cluster_bits;
  uint64_t cluster;
  int r;

  while ((r = q2_space_alloc_run (w->space, f->io, *nr, &cluster, err)) != 0) {
    if (r == -1 && (err->kind != QCOW2_ERR_NO_SPACE || *nr == 1))
      return -1;
    if (r == -1)
      *nr = 1;
    else if (q2_writer_commit (w, f->io, err) == -1)
      return -1;
  }
  *ret_host_off = cluster << bits;
  r = q2_overlap_add (w->overlap, *ret_host_off, (uint64_t) *nr << bits,
                      Q2_META_BITMAP_BITS, err);
  if (r == -1)
    q2_space_undo (w->space, f->io, cluster, *nr);
  return r;
}

/* The bits of these entries, into clusters that follow each other. */
static int
write_bits (struct filling *f, uint32_t first, uint32_t nr, uint64_t host_off,
            struct qcow2_error *err)
{
  const uint64_t len = nr * cluster_size (f);
  const uint64_t from = first * cluster_size (f);
  unsigned char *const buf = q2_buffer_alloc (len);
  int r;

  if (buf == NULL)
    return q2_fail_nomem (err, "a bitmap");
  for (uint64_t i = 0; i < len; ++i)
    buf[i] = from + i < f->t->len ? f->t->bits[from + i] : 0;
  r = q2_io_write (f->io, buf, len, host_off, QCOW2_IO_HEADER, err);
  q2_buffer_free (buf, len);
  return r;
}

/* Entries [first, first + *nr) get clusters; they may be fewer. */
static int
make_clusters (struct filling *f, uint32_t first, uint32_t *nr,
               struct qcow2_error *err)
{
  uint64_t host_off;

  if (!q2_assume (*nr > 0 && *nr <= f->t->table_entries - first, err) ||
      alloc (f, nr, &host_off, err) == -1)
    return -1;
  for (uint32_t i = 0; i < *nr; ++i)
    store_be64 (f->table + 8 * (uint64_t) (first + i),
                host_off + i * cluster_size (f));
  return write_bits (f, first, *nr, host_off, err);
}

static uint64_t
new_cluster (const struct filling *f, uint32_t i)
{
  return q2_bitmap_table_cluster (load_be64 (f->table + 8 * (uint64_t) i));
}

/* Nothing in the file names what was made. */
static void
undo (struct filling *f)
{
  const unsigned bits = f->w->geo->cluster_bits;

  for (uint32_t i = 0; i < f->t->table_entries; ++i) {
    const uint64_t host_off = new_cluster (f, i);

    if (f->t->clusters[i] != 0 || host_off == 0)
      continue;
    q2_overlap_remove (f->w->overlap, host_off, cluster_size (f));
    q2_space_undo (f->w->space, f->io, host_off >> bits, 1);
  }
}

/* Entries without a cluster that follow each other, from 'first' on. */
static uint32_t
count_missing (const struct filling *f, uint32_t first)
{
  const uint32_t most = (uint32_t) q2_max (CHUNK / cluster_size (f), 1);
  uint32_t nr = 0;

  while (nr < most && first + nr < f->t->table_entries &&
         f->t->clusters[first + nr] == 0)
    ++nr;
  return nr;
}

static int
make_missing (struct filling *f, uint32_t *ret_first, uint32_t *ret_end,
              struct qcow2_error *err)
{
  *ret_first = *ret_end = 0;
  for (uint32_t i = 0; i < f->t->table_entries;) {
    uint32_t nr = count_missing (f, i);

    if (nr > 0) {
      if (make_clusters (f, i, &nr, err) == -1)
        return -1;
      if (*ret_end == 0)
        *ret_first = i;
      *ret_end = i + nr;
    }
    i += nr > 0 ? nr : 1;
  }
  return 0;
}

/* What was made is durable before an entry names it; nothing else has changed
 * between the first and the last of them.
 */
static int
link_clusters (struct filling *f, uint32_t first, uint32_t end,
               struct qcow2_error *err)
{
  const uint64_t off = 8 * (uint64_t) first;
  const uint64_t len = 8 * (uint64_t) (end - first);

  if (!q2_assume (first < end && end <= f->t->table_entries, err))
    return -1;
  f->named = true;
  return q2_io_write (f->io, f->table + off, len, f->t->table_offset + off,
                      QCOW2_IO_HEADER, err);
}

static int
fill_table (struct filling *f, struct qcow2_error *err)
{
  uint32_t first, end;
  int r;

  if (load_table (f, err) == -1)
    return -1;
  r = make_missing (f, &first, &end, err);
  if (r == 0 && end > 0 && !Q2_PLANTED (Q2_PLANT_BITMAPS_EARLY_ENTRY))
    r = q2_writer_commit (f->w, f->io, err);
  if (r == 0 && end > 0)
    r = link_clusters (f, first, end, err);
  if (r == -1 && !f->named)
    undo (f);
  for (uint32_t i = 0; r == 0 && i < f->t->table_entries; ++i) {
    f->t->clusters[i] = new_cluster (f, i);
    if (!q2_assume (f->t->clusters[i] != 0, err))
      r = -1;
  }
  return r;
}

static int
fill (struct filling *f, struct qcow2_error *err)
{
  const uint64_t len = (uint64_t) f->t->table_entries * 8;
  int r;

  if (!f->w->bitmaps_known || f->w->bitmaps_share)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                    "not all bitmaps of the image were looked at, or some "
                    "share clusters");
  if (q2_budget_take (f->w->budget, len, "the table of a bitmap", err) == -1)
    return -1;
  f->table = q2_buffer_alloc (len);
  r = f->table == NULL ? q2_fail_nomem (err, "the table of a bitmap")
    : fill_table (f, err);
  q2_buffer_free (f->table, len);
  q2_budget_give (f->w->budget, len);
  return r;
}

/* ---- Requests --------------------------------------------------------- */

/* Of what a request has written nobody knows any more whether it is there. */
static int
note_flush (struct q2_writer *w, const struct q2_io *io, int r)
{
  if (r == -1 && io->shared->flush_failed)
    q2_writer_become_failed (w);
  return r;
}

/* Those that are failing, while no change of the disk is running. */
static int
give_up (struct q2_writer *w, const struct q2_io *io, const char *why,
         struct qcow2_error *err)
{
  int r;

  q2_mutex_lock (&w->track.lock);
  r = q2_track_give_up_locked (&w->track, io, why, err);
  q2_mutex_unlock (&w->track.lock);
  return r;
}

int
q2_writer_fill_bitmaps (struct q2_writer *w, const struct q2_io *io,
                        struct qcow2_error *err)
{
  struct qcow2_error why;
  bool failing = false, named = false;
  int r = 0;

  if (w->track.mode != QCOW2_BITMAPS_DURABLE || w->track.first == NULL)
    return 0;
  for (struct q2_tracked *t = w->track.first; t != NULL; t = t->next) {
    struct filling f = { .w = w, .io = io, .t = t };

    t->failing = q2_tracked_is_kept (t) && fill (&f, &why) == -1;
    failing |= t->failing;
    named |= f.named;
  }
  if (failing)
    r = give_up (w, io, why.text, err);
  else if (named)
    r = q2_io_flush (io, err);
  /* What was begun may reach the file later, when others were made. */
  if (r == -1)
    q2_writer_become_failed (w);
  return r;
}

int
q2_writer_track (struct q2_writer *w, const struct q2_io *io, uint64_t count,
                 uint64_t guest_off, struct qcow2_error *err)
{
  if (w->since != NULL && !Q2_PLANTED (Q2_PLANT_FORGET_SINCE))
    q2_since_note (w->since, count, guest_off);
  if (q2_track_set (&w->track, count, guest_off))
    return 0;
  return note_flush (w, io, q2_track_activate (&w->track, io, count,
                                               guest_off, err));
}

bool
q2_writer_may_retire_bitmaps (struct q2_writer *w)
{
  return w->track.mode == QCOW2_BITMAPS_DURABLE && q2_writer_is_for_disk (w) &&
    q2_track_is_due (&w->track);
}

int
q2_writer_retire_bitmaps (struct q2_writer *w, const struct q2_io *io,
                          struct q2_gate *gate, struct qcow2_error *err)
{
  if (!q2_writer_is_for_disk (w) || w->state != Q2_WRITER_ACTIVE)
    return 0;
  return note_flush (w, io, q2_track_retire (&w->track, io, gate, err));
}

int
q2_writer_settle_bitmaps (struct q2_writer *w, const struct q2_io *io,
                          struct qcow2_error *err)
{
  int r;

  if (w->track.mode != QCOW2_BITMAPS_DURABLE || q2_track_is_empty (&w->track))
    return 0;
  if (w->state != Q2_WRITER_ACTIVE)
    return !q2_track_is_failing (&w->track) ? 0
      : q2_fail (err, QCOW2_ERR_IO, QCOW2_NO_OFFSET, "a bitmap could be "
                 "neither written nor marked as in use");
  r = q2_track_settle (&w->track, io, err);
  /* What was written in vain may reach the file later (TRACK-3). */
  if (r == 0 && q2_track_is_failing (&w->track))
    r = give_up (w, io, "its bits could not be written", err);
  return note_flush (w, io, r);
}

int
q2_writer_give_up_bitmaps (struct q2_writer *w, const struct q2_io *io,
                           struct qcow2_error *err)
{
  int r = 0;

  if (w->track.mode == QCOW2_BITMAPS_DURABLE &&
      !q2_track_is_empty (&w->track)) {
    for (struct q2_tracked *t = w->track.first; t != NULL; t = t->next)
      t->failing = true;
    r = give_up (w, io, "the disk becomes another one", err);
  }
  if (r == 0)
    q2_track_forget (&w->track);
  return note_flush (w, io, r);
}
