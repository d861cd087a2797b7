/* SPDX-License-Identifier: BSD-3-Clause */
/* zero.c - zeroing and trimming.
 *
 * Owns      what becomes of entries then, for each version and policy.
 * Method    what reads as zeros already is passed over, whole L1 entries at
 *           a time where there is no table.  Of the rest, whole clusters (of
 *           extended entries, subclusters) change their entries, a slice of
 *           the table at a time; what is left of the range at its ends, and
 *           what cannot be said in an entry, is written as zeros.  With a
 *           layer below, what is unallocated is not known to be zeros, and
 *           entries must say so.  A data file that must equal the disk is
 *           zeroed itself, whatever entries say, and they stay as they are:
 *           after a crash it may hold what was written under an entry that
 *           says zeros, since the entry comes last.
 * Locks     w->clusters for the clusters of the slice that is being changed.
 */
#include "config.h"

#include "write/writer.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>

static const unsigned char zeros[65536];

enum action {
  ACT_NONE,                     /* the entry is as it should be */
  ACT_LET_GO,                   /* reads as zeros, without space */
  ACT_KEEP,                     /* reads as zeros, keeps its space */
  ACT_WRITE,                    /* zeros have to be written */
};

/* What is being done to a range. */
struct zeroing {
  bool trim;                    /* only whole clusters, only if told so */
  bool let_go;                  /* space need not be kept */
  bool fast;                    /* only look whether it would be written */
};

/* Whether they read as zeros now; 'below': unallocated ones may not. */
static bool
are_zeros (const struct q2_entry *e, uint32_t mask, bool below)
{
  return below ? (e->zero & mask) == mask : (e->alloc & mask) == 0;
}

/* What becomes of the subclusters 'mask' of a cluster. */
static enum action
choose (const struct q2_writer *w, const struct zeroing *z,
        const struct q2_entry *e, uint32_t mask, bool below)
{
  const bool whole = mask == Q2_ALL_SUBCLUSTERS;
  const bool kept = e->copied;
  /* What no entry can say: that it does not read as what is below. */
  const bool stuck = w->geo->version < 3 && below;

  if (e->m.kind == Q2_CLUSTER_COMPRESSED)
    return whole && !stuck ? ACT_LET_GO : z->trim ? ACT_NONE : ACT_WRITE;
  if (are_zeros (e, mask, below) &&
      (!z->let_go || !whole || !e->m.placed))
    return ACT_NONE;            /* reads as zeros, and has no more space
                                   than it may have */
  if (stuck)
    return z->trim ? ACT_NONE : ACT_WRITE;
  if (whole && (z->let_go || !kept))
    return ACT_LET_GO;
  if (w->geo->version < 3)      /* no entry says "zeros, with space" */
    return z->trim ? ACT_NONE : ACT_WRITE;
  return ACT_KEEP;
}

static bool
has_below (const struct q2_writer *w, uint64_t cluster)
{
  return q2_store_has_below (w->store, cluster << w->geo->cluster_bits);
}

/* ---- Entries -------------------------------------------------------- */

static void
store (const struct q2_writer *w, enum action action,
       const struct q2_entry *e, uint32_t mask, unsigned char *raw)
{
  const struct q2_geometry *const geo = w->geo;
  const uint32_t zero =
    geo->version < 3 ? 0 : action == ACT_LET_GO ? Q2_ALL_SUBCLUSTERS
    : e->zero | mask;

  if (action == ACT_LET_GO)
    q2_entry_store (geo, raw, 0, false, 0, zero);
  else
    q2_entry_store (geo, raw, e->m.host_off, e->copied, e->alloc & ~mask,
                    zero);
}

/* Clusters of a data file have lost their entries, but are nobody else's, now
 * or later: there is nothing to wait for.  The caller holds them.
 */
static void
trim_data (struct q2_change *c, const struct q2_entry *e, uint64_t cluster,
           const bool *let_go, uint64_t nr)
{
  const unsigned bits = c->w->geo->cluster_bits;

  for (uint64_t i = 0, n; i < nr; i += n) {
    for (n = 0; i + n < nr && let_go[i + n] && e[i + n].m.placed;)
      ++n;
    if (n > 0)
      q2_store_trim (c->w->store, n << bits, (cluster + i) << bits);
    else
      n = 1;
  }
}

/* Change the first entries of a slice that take the same way; the clusters
 * are held and the table may be changed.
 */
static int
change_entries (struct q2_change *c, const struct zeroing *z,
                const struct q2_entry *e, uint64_t cluster, uint64_t nr,
                const uint32_t *masks, uint64_t *ret_nr,
                struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  unsigned char raw[Q2_MAX_ENTRIES * 8];
  bool let_go[Q2_MAX_ENTRIES];
  struct q2_link link = {
    .guest_cluster = cluster, .raw = raw, .old = e, .let_go = let_go,
    /* They refer to nothing new; but a data file may be read without them. */
    .fresh = !c->w->geo->data_file,
  };

  if (!q2_assume (nr <= Q2_MAX_ENTRIES, err))
    return -1;
  for (; link.nr < nr; ++link.nr) {
    const enum action action =
      choose (c->w, z, &e[link.nr], masks[link.nr],
              has_below (c->w, cluster + link.nr));

    if (action == ACT_NONE || action == ACT_WRITE)
      break;
    let_go[link.nr] = action == ACT_LET_GO;
    store (c->w, action, &e[link.nr], masks[link.nr],
           raw + (link.nr << geo->entry_bits));
  }
  *ret_nr = link.nr;
  if (link.nr == 0)
    return 0;
  if (q2_writer_link (c, &link, err) == -1)
    return -1;
  if (c->w->geo->data_file)
    trim_data (c, e, cluster, let_go, link.nr);
  return 0;
}

/* ---- A piece of the range ------------------------------------------- */

/* Part of the range: clusters under one slice of a table.  Large: only the
 * first two fields are set before load_piece fills in the rest.
 */
struct piece {
  uint64_t guest_off, end;
  uint64_t cluster, nr;
  struct q2_entry e[Q2_MAX_ENTRIES];
  uint32_t masks[Q2_MAX_ENTRIES];
  bool owned;
};

static uint64_t
cluster_end (const struct q2_geometry *geo, uint64_t guest_off)
{
  return q2_align_down (guest_off, geo->cluster_size) + geo->cluster_size;
}

static int
load_piece (struct q2_change *c, struct piece *p, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  const unsigned bits = geo->cluster_bits;
  const uint64_t wanted = ((p->end - 1) >> bits) - (p->guest_off >> bits) + 1;
  uint64_t pos = p->guest_off;

  if (!q2_assume (p->guest_off < p->end, err))
    return -1;
  p->cluster = p->guest_off >> bits;
  if (q2_writer_load (c, p->cluster, q2_min (wanted, Q2_MAX_ENTRIES), p->e,
                      &p->nr, &p->owned, err) == -1)
    return -1;
  p->end = q2_min (p->end, (p->cluster + p->nr) << bits);
  for (uint64_t i = 0; i < p->nr; ++i) {
    const uint64_t next = cluster_end (geo, pos);
    /* Behind the end of the disk nothing has to stay. */
    const uint64_t end = p->end == geo->virtual_size ? next : p->end;

    p->masks[i] = q2_entry_mask (geo, pos, q2_min (next, end) - pos);
    pos = next;
  }
  return 0;
}

/* How many clusters from the first on need what the first needs. */
static uint64_t
count_alike (const struct q2_writer *w, const struct zeroing *z,
             const struct piece *p, enum action *ret_action)
{
  uint64_t n;

  *ret_action =
    choose (w, z, &p->e[0], p->masks[0], has_below (w, p->cluster));
  for (n = 1; n < p->nr; ++n) {
    const enum action a =
      choose (w, z, &p->e[n], p->masks[n], has_below (w, p->cluster + n));

    /* Letting go and keeping are done together. */
    if ((a == ACT_NONE) != (*ret_action == ACT_NONE) ||
        (a == ACT_WRITE) != (*ret_action == ACT_WRITE))
      break;
  }
  return n;
}

/* Change the entries of the piece's first clusters. */
static int
change_piece (struct q2_change *c, const struct zeroing *z, struct piece *p,
              uint64_t n, uint64_t *ret_n, struct qcow2_error *err)
{
  struct q2_writer *const w = c->w;
  struct q2_range range;
  int r;

  *ret_n = 0;
  if (!q2_assume (n > 0 && n <= p->nr, err))
    return -1;
  if (!q2_change_hold (c, &range, p->cluster, p->cluster + n))
    return 0;
  r = q2_writer_own_table (c, p->cluster >> w->geo->l2_bits, err);
  if (r == 0)                   /* they may have changed before we had them */
    r = load_piece (c, p, err);
  if (r == 0)
    r = change_entries (c, z, p->e, p->cluster, q2_min (n, p->nr), p->masks,
                        ret_n, err);
  q2_ranges_unlock (&w->clusters, &range);
  return r;
}

/* ---- Ranges --------------------------------------------------------- */

static int
write_zeros (struct q2_writer *w, const struct q2_io *io,
             uint64_t guest_off, uint64_t end, struct qcow2_error *err)
{
  while (guest_off < end) {
    const uint64_t n = q2_min (end - guest_off, sizeof zeros);

    if (q2_writer_pwrite (w, io, zeros, n, guest_off, err) == -1)
      return -1;
    guest_off += n;
  }
  return 0;
}

static int
fail_not_fast (uint64_t guest_off, struct qcow2_error *err)
{
  return q2_fail (err, QCOW2_ERR_NOT_FAST, QCOW2_NO_OFFSET,
                  "zeros would have to be written at disk offset 0x%" PRIx64,
                  guest_off);
}

/* Do the first part of the range, up to *ret_end, unless *ret_action says that
 * zeros have to be written there.  Every byte of it may be zeroed by its
 * entry, as far as alignment is concerned.
 */
static int
step (struct q2_change *c, const struct zeroing *z, uint64_t pos,
      uint64_t end, enum action *ret_action, uint64_t *ret_end,
      struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  struct piece p;
  uint64_t n;

  if (q2_tables_l1_is_empty (c->w->tables, q2_l1_index (geo, pos)) &&
      !q2_store_has_below (c->w->store, pos)) {
    *ret_action = ACT_NONE;
    *ret_end =
      q2_min (end, (q2_l1_index (geo, pos) + 1) << geo->l1_shift);
    return 0;
  }
  p.guest_off = pos;
  p.end = end;
  if (load_piece (c, &p, err) == -1)
    return -1;
  n = count_alike (c->w, z, &p, ret_action);
  if (!z->fast && (*ret_action == ACT_LET_GO || *ret_action == ACT_KEEP)) {
    if (change_piece (c, z, &p, n, &n, err) == -1)
      return -1;
    if (n == 0) {
      *ret_end = pos;
      return 0;
    }
  }
  *ret_end = q2_min (p.end, (p.cluster + n) << geo->cluster_bits);
  return 0;
}

/* A range of whole clusters or subclusters. */
static int
zero_units (struct q2_writer *w, const struct q2_io *io,
            const struct zeroing *z, uint64_t guest_off, uint64_t end,
            struct qcow2_error *err)
{
  struct q2_change c = { .w = w, .io = io };

  while (guest_off < end) {
    enum action action = ACT_NONE;
    uint64_t next = guest_off;
    int r;

    if (!z->fast && q2_writer_is_pressed (w) &&
        q2_writer_commit (w, io, err) == -1)
      return -1;
    q2_change_enter (&c);
    r = step (&c, z, guest_off, end, &action, &next, err);
    q2_change_leave (&c);
    if (r == -1 || !q2_assume (next >= guest_off && next <= end, err))
      return -1;
    if (action == ACT_WRITE && z->fast)
      return fail_not_fast (guest_off, err);
    if (action == ACT_WRITE &&
        write_zeros (w, io, guest_off, next, err) == -1)
      return -1;
    guest_off = next;
  }
  return 0;
}

/* Part of a cluster or subcluster. */
static int
zero_part (struct q2_writer *w, const struct q2_io *io, bool fast,
           uint64_t guest_off, uint64_t end, struct qcow2_error *err)
{
  struct q2_change c = { .w = w, .io = io };
  struct piece p;
  int r;

  if (guest_off >= end)
    return 0;
  p.guest_off = guest_off;
  p.end = end;
  q2_change_enter (&c);
  r = load_piece (&c, &p, err);
  q2_change_leave (&c);
  if (r == -1)
    return -1;
  if (are_zeros (&p.e[0], p.masks[0], has_below (w, p.cluster)))
    return 0;
  return fast ? fail_not_fast (guest_off, err)
    : write_zeros (w, io, guest_off, end, err);
}

static int
zero_range (struct q2_writer *w, const struct q2_io *io,
            const struct zeroing *z, uint64_t guest_off, uint64_t count,
            struct qcow2_error *err)
{
  const uint64_t unit = UINT64_C (1) << w->geo->subcluster_bits;
  const uint64_t end = guest_off + count;
  const uint64_t body = q2_min (q2_align_up (guest_off, unit), end);
  /* The last cluster ends where the disk does. */
  const uint64_t body_end = end == w->geo->virtual_size ? end
    : q2_max (body, q2_align_down (end, unit));

  if (zero_part (w, io, z->fast, guest_off, body, err) == -1 ||
      zero_part (w, io, z->fast, body_end, end, err) == -1)
    return -1;
  return body < body_end ? zero_units (w, io, z, body, body_end, err) : 0;
}

/* Of a data file that must equal the disk; behind its end it does. */
static int
zero_data (struct q2_writer *w, const struct q2_io *io,
           const struct zeroing *z, uint64_t guest_off, uint64_t end,
           struct qcow2_error *err)
{
  const struct q2_io data = q2_store_io (w->store, io);
  const struct q2_place place = { guest_off, guest_off };

  end = q2_min (end, q2_io_size (&data));
  if (guest_off >= end)
    return 0;
  if (z->fast && w->store->cipher != NULL)
    return fail_not_fast (guest_off, err);
  if (z->fast)
    return q2_io_fast_zero (&data, end - guest_off, guest_off, z->let_go,
                            err);
  return q2_store_zero (w->store, io, end - guest_off, place, z->let_go, err);
}

int
q2_writer_zero (struct q2_writer *w, const struct q2_io *io, uint64_t count,
                uint64_t guest_off, unsigned flags, struct qcow2_error *err)
{
  struct zeroing z = {
    .let_go = (flags & QCOW2_ZERO_MAY_TRIM) &&
      w->discard == QCOW2_DISCARD_UNMAP,
    .fast = flags & QCOW2_ZERO_FAST,
  };

  if (w->store->raw)
    return zero_data (w, io, &z, guest_off, guest_off + count, err);
  /* First a look: nothing may have changed if it fails. */
  if (z.fast && zero_range (w, io, &z, guest_off, count, err) == -1)
    return -1;
  z.fast = false;
  return zero_range (w, io, &z, guest_off, count, err);
}

int
q2_writer_trim (struct q2_writer *w, const struct q2_io *io, uint64_t count,
                uint64_t guest_off, struct qcow2_error *err)
{
  const uint64_t unit = w->geo->cluster_size;
  const struct zeroing z = {
    .trim = true, .let_go = w->discard == QCOW2_DISCARD_UNMAP,
  };
  const uint64_t end = guest_off + count;
  const uint64_t body = q2_align_up (guest_off, unit);
  const uint64_t body_end =
    end == w->geo->virtual_size ? end : q2_align_down (end, unit);

  if (w->discard == QCOW2_DISCARD_IGNORE || body >= body_end)
    return 0;
  if (w->store->raw)
    return zero_data (w, io, &z, body, body_end, err);
  return zero_units (w, io, &z, body, body_end, err);
}
