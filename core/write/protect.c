/* SPDX-License-Identifier: BSD-3-Clause */
/* protect.c - metadata that is found by reading tables of the file.
 *
 * Owns      L2 tables of snapshots, and bitmaps, in the set of meta/overlap.h;
 *           and how much of both is looked for.
 * Method    each L1 table of a snapshot and each table of a bitmap is read
 *           once, before the first change, as long as somebody waits.  An
 *           image can claim so much of it that this would take minutes, so it
 *           has bounds; behind them guest data is not kept off, with a
 *           warning, or, if all was asked for, the image is not written to.
 * Locks     none: the set is not in use yet.
 */
#include "config.h"

#include "write/writer.h"

#include "meta/bitmaps.h"
#include "meta/snapshots.h"

#include "base/bits.h"
#include "base/error.h"


#define PIECE (UINT64_C (64) << 10)

/* What is read, where a request counts as at least a piece, and eight of them
 * on a host that takes long to answer; and the clusters that are noted, as far
 * as the image's budget of memory has room for them.
 */
static const struct { uint64_t bytes, clusters; } limits[] = {
  { UINT64_C (64) << 20, UINT64_C (1) << 20 },
  { UINT64_C (256) << 20, UINT64_C (16) << 20 },        /* all */
};

struct protecting {
  struct q2_writer *w;
  const struct q2_io *io;
  uint64_t bytes, clusters;     /* what may still be read, and noted */
  struct q2_work work;          /* whether somebody waits for it */
  bool full;                    /* that was not enough */
  enum q2_purpose purpose;
};

/* Whether so much may be done; if not, nothing more is. */
static bool
spend (struct protecting *p, uint64_t bytes, uint64_t clusters)
{
  if (bytes > p->bytes || clusters > p->clusters ||
      (clusters > 0 && !q2_overlap_has_room (p->w->overlap, clusters)))
    p->full = true;
  if (p->full)
    return false;
  p->bytes -= bytes;
  p->clusters -= clusters;
  return true;
}

static int
add_entries (struct protecting *p, const unsigned char *entries, uint64_t nr,
             enum q2_meta_class class, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = p->w->geo;

  for (uint64_t i = 0; i < nr; ++i) {
    const uint64_t entry = load_be64 (entries + 8 * i);
    const uint64_t off = class == Q2_META_INACTIVE_L2
      ? q2_l1e_table (geo, entry) : q2_bitmap_table_cluster (entry);

    if (off == 0 || !q2_is_aligned (off, geo->cluster_size))
      continue;
    if (q2_overlap_class (p->w->overlap, off) == class) {
      p->w->bitmaps_share |= class == Q2_META_BITMAP_BITS;
      continue;
    }
    if (!spend (p, 0, 1))
      return 0;
    if (q2_overlap_add (p->w->overlap, off, geo->cluster_size, class, err)
        == -1)
      return -1;
  }
  return 0;
}

/* What the entries of a table, as far as the file has it, lead to. */
static int
add_table (struct protecting *p, uint64_t host_off, uint64_t len,
           enum qcow2_io_class io_class, enum q2_meta_class class,
           struct qcow2_error *err)
{
  const uint64_t cost = q2_io_is_slow (p->io) ? 8 * PIECE : PIECE;
  const uint64_t end =
    q2_min (host_off + len, q2_align_up (q2_io_size (p->io), 8));
  unsigned char buf[PIECE];

  while (host_off < end && spend (p, cost, 0)) {
    const uint64_t n = q2_min (end - host_off, sizeof buf);

    if (q2_work_do (&p->work, n, err) == -1 ||
        q2_io_read (p->io, buf, n, host_off, io_class, err) == -1 ||
        add_entries (p, buf, n / 8, class, err) == -1)
      return -1;
    host_off += n;
  }
  return 0;
}

static int
add_snapshot (void *opaque, const struct q2_snapshot *s, uint64_t host_off,
              struct qcow2_error *err)
{
  struct protecting *const p = opaque;

  (void) host_off;
  if (add_table (p, s->l1_offset, (uint64_t) s->l1_entries * 8, QCOW2_IO_L1,
                 Q2_META_INACTIVE_L2, err) == -1)
    return -1;
  return p->full;
}

static int
add_bitmap (void *opaque, const struct q2_bitmap *b, uint64_t host_off,
            struct qcow2_error *err)
{
  struct protecting *const p = opaque;
  const uint64_t bytes = (uint64_t) b->table_entries * 8;

  (void) host_off;
  if (!spend (p, 0, q2_ceil_shift (bytes, p->w->geo->cluster_bits)))
    return 1;
  p->w->bitmaps_share |=
    q2_overlap_class (p->w->overlap, b->table_offset) == Q2_META_BITMAP_TABLE;
  if (q2_overlap_add (p->w->overlap, b->table_offset, bytes,
                      Q2_META_BITMAP_TABLE, err) == -1 ||
      add_table (p, b->table_offset, bytes, QCOW2_IO_HEADER,
                 Q2_META_BITMAP_BITS, err) == -1)
    return -1;
  return p->full;
}

static int
end (const struct protecting *p, struct qcow2_error *err)
{
  struct q2_writer *const w = p->w;

  if (!p->full)
    return 0;
  if (w->overlap_check == QCOW2_OVERLAP_ALL)
    return q2_fail_advise (err, QCOW2_ERR_UNSUPPORTED,
                           QCOW2_ADVICE_PROTECT_LESS, QCOW2_NO_OFFSET,
                           "the image has too many snapshots and bitmaps to "
                           "protect all of them from being overwritten");
  q2_writer_log (w, QCOW2_LOG_WARNING, "the image has so many snapshots and "
                 "bitmaps that not all of them are protected, if entries of "
                 "the disk should point to them", QCOW2_ADVICE_PROTECT_MORE);
  return 0;
}

/* What is broken is found again, and repaired (edit/bitmap_broken.c). */
static int
forgive (const struct protecting *p, int r, const struct qcow2_error *err)
{
  return r == -1 && p->purpose == Q2_FOR_BITMAPS &&
    err->kind == QCOW2_ERR_CORRUPT ? 0 : r;
}

static int
look_for_bitmaps (struct protecting *p, struct qcow2_error *err)
{
  const struct q2_header h = q2_writer_header (p->w);
  const int r = q2_bitmaps_walk (p->io, &h, p->w->geo, add_bitmap, p, err);

  return forgive (p, r, err);
}

static int
look_for_all (struct protecting *p, struct qcow2_error *err)
{
  const struct q2_header h = q2_writer_header (p->w);
  uint64_t ignored;

  if (q2_snapshots_walk (p->io, &h, p->w->geo, add_snapshot, p, &ignored, err)
      == -1)
    return -1;
  return p->full ? 0 : look_for_bitmaps (p, err);
}

static int
add_directory (const struct protecting *p, struct qcow2_error *err)
{
  const struct q2_header h = q2_writer_header (p->w);
  const uint64_t size = q2_align_up (q2_io_size (p->io), 8);
  int r = 0;

  if (p->purpose == Q2_FOR_BITMAPS &&
      (h.bitmap_dir_offset > size ||
       h.bitmap_dir_bytes > size - h.bitmap_dir_offset))
    return 0;
  if (h.nr_bitmaps > 0)
    r = q2_overlap_add (p->w->overlap, h.bitmap_dir_offset,
                        h.bitmap_dir_bytes, Q2_META_BITMAP_DIRECTORY, err);
  return forgive (p, r, err);
}

int
q2_writer_protect (struct q2_writer *w, const struct q2_io *io,
                   enum q2_purpose purpose, struct qcow2_error *err)
{
  const size_t all = w->overlap_check == QCOW2_OVERLAP_ALL;
  struct protecting p = {
    .w = w, .io = io, .purpose = purpose,
    .bytes = limits[all].bytes, .clusters = limits[all].clusters,
    .work = q2_work_begin (q2_io_budget (io), UINT64_MAX,
                           "looking for snapshots to be protected"),
  };
  int r;

  /* What is soon done is done for who does not wait, too. */
  p.work.look = Q2_WORK_LOOK;
  /* It is written to, so in any case. */
  if (add_directory (&p, err) == -1)
    return -1;
  if (w->overlap_check == QCOW2_OVERLAP_NONE)
    return 0;
  r = look_for_all (&p, err);
  q2_work_end (&p.work);
  w->bitmaps_known = r == 0 && !p.full && purpose != Q2_FOR_BITMAPS;
  return r == -1 ? -1 : end (&p, err);
}
