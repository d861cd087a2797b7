/* SPDX-License-Identifier: BSD-3-Clause */
/* allocate.c - what writing needs when entries have to change.
 *
 * Owns      finding space for a request, L2 tables that may be changed, new
 *           entries, and the bytes around a write that come with a cluster.
 * Method    a write that changes entries first puts all bytes of its
 *           clusters into the file, in one request where that is not much
 *           larger than the write, then links them.  What surrounds the
 *           written range is what the disk reads as: zeros, or bytes that
 *           are read like any others, so that copying from compressed or
 *           shared clusters, or from the layer below, is no case of its own.
 *
 *           In a data file a cluster needs no space: it has its place.
 * Locks     the caller holds the clusters; w->l1 is taken here for the L1
 *           entry, link_lock for the moment of linking.
 */
#include "config.h"

#include "engine/writer.h"

#include "alloc/recount.h"

#include "base/cleanup.h"
#include "base/error.h"
#include "base/plant.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Larger writes are not copied to make one request of them. */
#define MAX_BOUNCE (UINT64_C (256) << 10)

/* More than a commit can leave to be tried. */
#define MAX_TRIES 100

/* How long to wait for others to let go of space, in total. */
#define MAX_WAIT_MS 10000

/* ---- Space ---------------------------------------------------------- */

static bool
may_get_space (struct q2_writer *w)
{
  bool unlinked;

  pthread_mutex_lock (&w->link_lock);
  unlinked = w->unlinked.nr > 0;
  pthread_mutex_unlock (&w->link_lock);
  return unlinked || atomic_load (&w->nr_committing) > 0 ||
    atomic_load (&w->nr_pending) > 0;
}

/* Commit and release; if others still use what could be released, give them
 * a moment.
 */
static int
make_space (struct q2_writer *w, const struct q2_io *io,
            struct qcow2_error *err)
{
  const uint64_t before = atomic_load (&w->nr_pending);
  const struct timespec moment = { .tv_nsec = 1000000 };

  if (before == 0 && q2_writer_commit (w, io, err) == -1)
    return -1;
  if (q2_writer_release (w, io, err) == -1)
    return -1;
  if (before != 0 && atomic_load (&w->nr_pending) >= before) {
    nanosleep (&moment, NULL);
    return q2_writer_commit (w, io, err);
  }
  return 0;
}

int
q2_writer_alloc (struct q2_change *c, uint64_t stream, uint64_t want,
                 struct q2_space_run *ret, struct qcow2_error *err)
{
  for (unsigned waited = 0;; ++waited) {
    const uint64_t releases = atomic_load (&c->w->releases);
    struct qcow2_error why;
    int r = q2_space_alloc (c->w->space, c->io, stream, want, ret, &why);

    if (r == 0)
      return 0;
    if (r == -1 && (why.kind != QCOW2_ERR_NO_SPACE ||
                    waited > MAX_WAIT_MS ||
                    (!may_get_space (c->w) &&
                     /* nor has somebody just got it while we looked */
                     atomic_load (&c->w->releases) == releases))) {
      *err = why;
      return -1;
    }
    q2_change_leave (c);
    r = r == -1 ? make_space (c->w, c->io, err)
      : q2_writer_commit (c->w, c->io, err);
    q2_change_enter (c);
    if (r == -1)
      return -1;
  }
}

int
q2_writer_check_in_file (struct q2_change *c, uint64_t host_off,
                         uint64_t len, struct qcow2_error *err)
{
  const unsigned bits = c->w->geo->cluster_bits;
  const uint64_t size = q2_io_size (c->io);
  const uint64_t last = (host_off + len - 1) >> bits;
  bool good;

  if (host_off + len <= size)
    return 0;
  good = last - q2_min (last, size >> bits) <= Q2_RECOUNT_PAST_END;
  if (good && q2_space_is_counted (c->w->space, c->io, last, &good, err)
      == -1)
    return -1;
  return good ? 0
    : q2_fail (err, QCOW2_ERR_CORRUPT, last << bits,
               "the cluster at offset 0x%" PRIx64 " is in use, but lies far "
               "behind the end of the file or has no refcount; repair the "
               "image with 'qemu-img check -r all'", last << bits);
}

/* ---- Entries -------------------------------------------------------- */

static uint64_t
l1_index_of (const struct q2_geometry *geo, uint64_t guest_cluster)
{
  return guest_cluster >> geo->l2_bits;
}

static uint64_t
l2_index_of (const struct q2_geometry *geo, uint64_t guest_cluster)
{
  return guest_cluster & ((UINT64_C (1) << geo->l2_bits) - 1);
}

static int
fail_entry (const struct q2_writer *w, uint64_t guest_cluster,
            const struct q2_entry *e, struct qcow2_error *err)
{
  const uint64_t host_off =
    q2_tables_l2_entry_off (w->tables, l1_index_of (w->geo, guest_cluster),
                            l2_index_of (w->geo, guest_cluster));

  return q2_fail (err, QCOW2_ERR_CORRUPT, host_off,
                  "the L2 entry at offset 0x%" PRIx64 " is corrupt: %s; "
                  "repair the image with 'qemu-img check -r all'", host_off,
                  e->m.problem);
}

int
q2_writer_load (struct q2_change *c, uint64_t guest_cluster, uint64_t max,
                struct q2_entry *e, uint64_t *ret_nr, bool *ret_owned,
                struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  const uint64_t l1_index = l1_index_of (geo, guest_cluster);
  const uint64_t l2_index = l2_index_of (geo, guest_cluster);
  const uint64_t per_slice = q2_tables_slice_entries (c->w->tables);
  const uint64_t l1e = q2_tables_l1_entry (c->w->tables, l1_index);
  unsigned char raw[Q2_MAX_ENTRIES * 8];

  max = q2_min (q2_min (max, sizeof raw >> geo->entry_bits),
                per_slice - (l2_index & (per_slice - 1)));
  *ret_nr = max;
  *ret_owned = q2_l1e_table (geo, l1e) != 0 && (l1e & Q2_ENTRY_COPIED);
  if (q2_l1e_table (geo, l1e) == 0)
    memset (raw, 0, max << geo->entry_bits);
  else if (q2_tables_read_l2 (c->w->tables, c->io, l1_index, l2_index, max,
                              false, raw, sizeof raw, ret_nr, err) == -1)
    return -1;
  for (uint64_t i = 0; i < *ret_nr; ++i) {
    q2_entry_load (geo, raw + (i << geo->entry_bits), &e[i]);
    q2_mapping_check_place (geo, (guest_cluster + i) << geo->cluster_bits,
                            &e[i].m);
    if (e[i].m.kind == Q2_CLUSTER_INVALID) {
      if (i == 0)
        return fail_entry (c->w, guest_cluster, &e[0], err);
      *ret_nr = i;
    }
  }
  return 0;
}

/* Under link_lock: change the entries and note what they let go. */
static bool
try_link_locked (struct q2_writer *w, const struct q2_link *l)
{
  const struct q2_geometry *const geo = w->geo;

  if (!q2_tables_update_l2 (w->tables, l1_index_of (geo, l->guest_cluster),
                            l2_index_of (geo, l->guest_cluster), l->raw,
                            l->nr))
    return false;
  for (uint64_t i = 0; i < l->nr; ++i) {
    uint64_t first, nr;

    if (!l->let_go[i])
      continue;
    nr = q2_entry_clusters (geo, &l->old[i], &first);
    if (nr > 0)
      q2_frees_add (&w->unlinked, first, nr);
  }
  return true;
}

/* What is let go is no metadata: its refcount is going to be lowered, and its
 * space used for something else.
 */
static int
check_let_go (struct q2_writer *w, const struct q2_link *l,
              struct qcow2_error *err)
{
  const unsigned bits = w->geo->cluster_bits;

  for (uint64_t i = 0; i < l->nr; ++i) {
    uint64_t first, nr;

    if (!l->let_go[i])
      continue;
    nr = q2_entry_clusters (w->geo, &l->old[i], &first);
    if (q2_overlap_check (w->overlap, first << bits, nr << bits,
                          Q2_META_NONE, err) == -1)
      return -1;
  }
  return 0;
}

enum linked { LINKED, MISSING, NO_MEMORY };

static enum linked
try_link (struct q2_writer *w, const struct q2_link *l)
{
  enum linked linked;

  pthread_mutex_lock (&w->link_lock);
  if (!q2_frees_reserve (&w->unlinked, l->nr))
    linked = NO_MEMORY;
  else
    linked = try_link_locked (w, l) ? LINKED : MISSING;
  pthread_mutex_unlock (&w->link_lock);
  return linked;
}

/* The slice that is to be changed is not in the cache. */
static int
fetch_slice (struct q2_change *c, const struct q2_link *l, unsigned tries,
             struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  unsigned char raw[16];
  uint64_t nr;
  int r;

  if (tries > MAX_TRIES)
    return q2_fail_io (err, EIO, QCOW2_NO_OFFSET,
                       "a piece of an L2 table does not stay in memory; "
                       "give the filter a larger qcow2-cache-size");
  /* It does not stay: its part of the cache is full of changed ones. */
  if (tries > 2) {
    q2_change_leave (c);
    r = q2_writer_commit (c->w, c->io, err);
    q2_change_enter (c);
    if (r == -1)
      return -1;
  }
  return q2_tables_read_l2 (c->w->tables, c->io,
                            l1_index_of (geo, l->guest_cluster),
                            l2_index_of (geo, l->guest_cluster), 1, false,
                            raw, sizeof raw, &nr, err);
}

#ifdef Q2_PLANTS
static void
plant_reuse (struct q2_change *c)
{
  struct q2_frees frees;
  struct qcow2_error ignored;

  pthread_mutex_lock (&c->w->link_lock);
  frees = c->w->unlinked;
  c->w->unlinked = (struct q2_frees) { .nr = 0 };
  pthread_mutex_unlock (&c->w->link_lock);
  if (q2_space_release (c->w->space, c->io, &frees, true, &ignored) != 0)
    abort ();
  q2_frees_destroy (&frees);
}
#endif

int
q2_writer_link (struct q2_change *c, const struct q2_link *l,
                struct qcow2_error *err)
{
  if (check_let_go (c->w, l, err) == -1)
    return -1;
  for (unsigned tries = 0;; ++tries) {
    switch (try_link (c->w, l)) {
    case LINKED:
#ifdef Q2_PLANTS
      if (Q2_PLANTED (Q2_PLANT_REUSE))
        plant_reuse (c);
#endif
      return 0;
    case NO_MEMORY:
      return q2_fail_nomem (err, "a list of clusters");
    case MISSING:
      if (fetch_slice (c, l, tries, err) == -1)
        return -1;
    }
  }
}

/* ---- Tables --------------------------------------------------------- */

static int
copy_table (struct q2_change *c, uint64_t l1_index, uint64_t host_off,
            struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  const uint64_t entries = UINT64_C (1) << geo->l2_bits;
  Q2_CLEANUP_FREE unsigned char *table = malloc (geo->l2_table_size);
  uint64_t nr;

  if (table == NULL)
    return q2_fail_nomem (err, "an L2 table");
  for (uint64_t i = 0; i < entries; i += nr)
    if (q2_tables_read_l2 (c->w->tables, c->io, l1_index, i, entries - i,
                           false, table + (i << geo->entry_bits),
                           (entries - i) << geo->entry_bits, &nr, err) == -1)
      return -1;
  return q2_io_write (c->io, table, geo->l2_table_size, host_off,
                      QCOW2_IO_L2, err);
}

/* Write the new table: nothing points to it yet, and the commit that links
 * it makes it durable before (ORDER-3).
 */
static int
fill_table (struct q2_change *c, uint64_t l1_index, uint64_t old,
            const struct q2_space_run *run, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  const uint64_t host_off = run->cluster << geo->cluster_bits;

  if (q2_overlap_add (c->w->overlap, host_off, geo->cluster_size, Q2_META_L2,
                      err) == -1)
    return -1;
  if (old != 0)
    return copy_table (c, l1_index, host_off, err);
  if (run->zero)
    return 0;
  return q2_io_zero (c->io, geo->cluster_size, host_off, false, QCOW2_IO_L2,
                     err);
}

/* A table that is not ours to change is a snapshot's, if it is one. */
static int
check_shared_table (struct q2_writer *w, uint64_t table,
                    struct qcow2_error *err)
{
  const enum q2_meta_class class =
    table == 0 ? Q2_META_NONE : q2_overlap_class (w->overlap, table);

  if (class == Q2_META_INACTIVE_L2)
    return 0;
  return table == 0 ? 0
    : q2_overlap_check (w->overlap, table, w->geo->cluster_size,
                        Q2_META_NONE, err);
}

/* The caller holds the L1 entry, which is not ours to change. */
static int
make_table (struct q2_change *c, uint64_t l1_index, struct qcow2_error *err)
{
  struct q2_writer *const w = c->w;
  const unsigned bits = w->geo->cluster_bits;
  const uint64_t old =
    q2_l1e_table (w->geo, q2_tables_l1_entry (w->tables, l1_index));
  struct q2_space_run run;
  bool room;

  if (check_shared_table (w, old, err) == -1 ||
      q2_writer_alloc (c, Q2_SPACE_NO_STREAM, 1, &run, err) == -1)
    return -1;
  if (fill_table (c, l1_index, old, &run, err) == -1)
    goto undo;
  /* What is read from now on is the table; what was read of the cluster
   * before, by whoever is late with it, is not kept.
   */
  q2_tables_forget (w->tables, run.cluster << bits);
  pthread_mutex_lock (&w->link_lock);
  room = q2_frees_reserve (&w->unlinked, 1);
  if (room) {
    q2_tables_set_l1 (w->tables, l1_index,
                      run.cluster << bits | Q2_ENTRY_COPIED);
    if (old != 0)
      q2_frees_add (&w->unlinked, old >> bits, 1);
  }
  pthread_mutex_unlock (&w->link_lock);
  if (!room) {
    q2_fail_nomem (err, "a list of clusters");
    goto undo;
  }
  return 0;

 undo:
  q2_overlap_remove (w->overlap, run.cluster << bits, w->geo->cluster_size);
  q2_space_undo (w->space, c->io, run.cluster, run.nr);
  return -1;
}

static bool
is_owned (const struct q2_writer *w, uint64_t l1_index)
{
  const uint64_t l1e = q2_tables_l1_entry (w->tables, l1_index);

  return q2_l1e_table (w->geo, l1e) != 0 && (l1e & Q2_ENTRY_COPIED);
}

int
q2_writer_own_table (struct q2_change *c, uint64_t l1_index,
                     struct qcow2_error *err)
{
  struct q2_writer *const w = c->w;
  struct q2_range range;
  int r;

  if (is_owned (w, l1_index))
    return 0;
  q2_change_leave (c);
  q2_ranges_lock (&w->l1, &range, l1_index, l1_index + 1);
  q2_change_enter (c);
  r = is_owned (w, l1_index) ? 0 : make_table (c, l1_index, err);
  q2_ranges_unlock (&w->l1, &range);
  return r;
}

/* ---- New clusters --------------------------------------------------- */

/* A write into clusters that get new space, or into space that the cluster
 * has but that does not count yet.
 */
struct fill {
  uint64_t guest_cluster, nr;   /* the clusters */
  uint64_t host_off;            /* of the first */
  uint64_t start, end;          /* what is written of the disk: the request */
  uint64_t from, to;            /*   and what comes with it */
  const struct q2_entry *first, *last;
};

/* All of the cluster that the byte at guest_off is in. */
static bool
reads_as_zeros (const struct q2_writer *w, const struct q2_entry *e,
                uint64_t guest_off)
{
  return e->alloc == 0 &&
    (e->zero == Q2_ALL_SUBCLUSTERS || Q2_PLANTED (Q2_PLANT_FORGET_BELOW) ||
     !q2_store_has_below (w->store,
                          q2_align_down (guest_off, w->geo->cluster_size)));
}

/* How much around the request has to be written: of a cluster that has data
 * elsewhere all, else what the touched subclusters need.
 */
static void
choose_edges (const struct q2_geometry *geo, bool new_space, struct fill *f)
{
  const uint64_t sub = UINT64_C (1) << geo->subcluster_bits;
  const uint64_t left =
    new_space && f->first->alloc ? geo->cluster_size : sub;
  const uint64_t right =
    new_space && f->last->alloc ? geo->cluster_size : sub;

  f->from = q2_align_down (f->start, left);
  f->to = q2_align_up (f->end, right);
  if (geo->data_file)           /* which need not be longer than the disk */
    f->to = q2_min (f->to, geo->virtual_size);
  if (new_space)
    return;
  /* Subclusters that are data in this very place stay as they are. */
  if (f->first->alloc & q2_entry_mask (geo, f->start, 1))
    f->from = f->start;
  if (f->last->alloc & q2_entry_mask (geo, f->end - 1, 1))
    f->to = f->end;
}

/* The bytes of the disk at guest_off, as they are before the write. */
static int
old_bytes (struct q2_change *c, const struct q2_entry *e, unsigned char *buf,
           uint64_t len, uint64_t guest_off, struct qcow2_error *err)
{
  const uint64_t size = c->w->geo->virtual_size;
  const uint64_t inside =
    guest_off < size ? q2_min (len, size - guest_off) : 0;

  if (len == 0)
    return 0;
  if (reads_as_zeros (c->w, e, guest_off)) {
    memset (buf, 0, len);
    return 0;
  }
  memset (buf + inside, 0, len - inside);
  if (inside == 0)
    return 0;
  return q2_reader_pread (c->w->reader, c->io, buf, inside, guest_off, err);
}

static struct q2_place
place_of (const struct q2_writer *w, const struct fill *f, uint64_t guest_off)
{
  return (struct q2_place) {
    f->host_off + guest_off - (f->guest_cluster << w->geo->cluster_bits),
    guest_off
  };
}

static int
write_edge (struct q2_change *c, const struct fill *f,
            const struct q2_entry *e, uint64_t from, uint64_t to,
            struct qcow2_error *err)
{
  Q2_CLEANUP_FREE unsigned char *bytes = NULL;

  if (from == to)
    return 0;
  if (reads_as_zeros (c->w, e, from))
    return q2_store_zero (c->w->store, c->io, to - from,
                          place_of (c->w, f, from), false, err);
  bytes = malloc (to - from);
  if (bytes == NULL)
    return q2_fail_nomem (err, "a copy of a cluster");
  if (old_bytes (c, e, bytes, to - from, from, err) == -1)
    return -1;
  return q2_store_write (c->w->store, c->io, bytes, to - from,
                         place_of (c->w, f, from), err);
}

/* What comes with the request on both sides of it; of one cluster, it is read
 * in one go, which costs less than two requests.
 */
static int
old_edges (struct q2_change *c, const struct fill *f, unsigned char *bytes,
           struct qcow2_error *err)
{
  if (f->nr == 1 && f->from < f->start && f->end < f->to)
    return old_bytes (c, f->first, bytes, f->to - f->from, f->from, err);
  if (old_bytes (c, f->first, bytes, f->start - f->from, f->from, err) == -1)
    return -1;
  return old_bytes (c, f->last, bytes + (f->end - f->from), f->to - f->end,
                    f->end, err);
}

static int
write_in_one (struct q2_change *c, const struct fill *f, const void *buf,
              struct qcow2_error *err)
{
  Q2_CLEANUP_FREE unsigned char *bytes = malloc (f->to - f->from);

  if (bytes == NULL)
    return q2_fail_nomem (err, "a copy of a cluster");
  if (old_edges (c, f, bytes, err) == -1)
    return -1;
  memcpy (bytes + (f->start - f->from), buf, f->end - f->start);
  return q2_store_write (c->w->store, c->io, bytes, f->to - f->from,
                         place_of (c->w, f, f->from), err);
}

static int
write_fill (struct q2_change *c, struct fill *f, bool new_space, bool zero,
            const void *buf, struct qcow2_error *err)
{
  choose_edges (c->w->geo, new_space, f);
  if (zero && reads_as_zeros (c->w, f->first, f->start))
    f->from = f->start;
  if (zero && reads_as_zeros (c->w, f->last, f->end - 1))
    f->to = f->end;
  if (f->to - f->from > f->end - f->start && f->to - f->from <= MAX_BOUNCE)
    return write_in_one (c, f, buf, err);
  if (write_edge (c, f, f->first, f->from, f->start, err) == -1 ||
      q2_store_write (c->w->store, c->io, buf, f->end - f->start,
                      place_of (c->w, f, f->start), err) == -1)
    return -1;
  return write_edge (c, f, f->last, f->end, f->to, err);
}

/* ---- Linking what was written --------------------------------------- */

/* The new entry of one of the clusters. */
static void
make_entry (const struct q2_geometry *geo, const struct fill *f, uint64_t i,
            const struct q2_entry *old, unsigned char *raw)
{
  const uint64_t start = (f->guest_cluster + i) << geo->cluster_bits;
  const uint64_t from = q2_max (f->start, start);
  const uint64_t to = q2_min (f->end, start + geo->cluster_size);
  const uint32_t touched = q2_entry_mask (geo, from, to - from);
  const uint32_t alloc = old->alloc | touched;

  q2_entry_store (geo, raw, f->host_off + (i << geo->cluster_bits), true,
                  alloc, old->zero & ~alloc);
}

static int
link_fill (struct q2_change *c, const struct fill *f, bool new_space,
           struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  unsigned char raw[Q2_MAX_ENTRIES * 8];
  bool let_go[Q2_MAX_ENTRIES];
  const struct q2_link link = {
    .guest_cluster = f->guest_cluster, .nr = f->nr, .raw = raw,
    .old = f->first, .let_go = let_go,
  };

  for (uint64_t i = 0; i < f->nr; ++i) {
    make_entry (geo, f, i, &f->first[i], raw + (i << geo->entry_bits));
    let_go[i] = new_space;
  }
  return q2_writer_link (c, &link, err);
}

/* ---- Writing -------------------------------------------------------- */

static int
check_kept (struct q2_change *c, const struct fill *f,
            struct qcow2_error *err)
{
  const uint64_t size = c->w->geo->cluster_size;

  if (c->w->geo->data_file)     /* nothing else lies there */
    return 0;
  if (q2_overlap_check (c->w->overlap, f->host_off, size, Q2_META_NONE, err)
      == -1)
    return -1;
  return q2_writer_check_in_file (c, f->host_off, size, err);
}

/* One cluster that has space: it only has to count. */
static int
write_kept (struct q2_change *c, struct fill *f, const void *buf,
            struct qcow2_error *err)
{
  f->nr = 1;
  f->last = f->first;
  f->end = q2_min (f->end, (f->guest_cluster + 1)
                   << c->w->geo->cluster_bits);
  f->host_off = f->first->m.host_off;
  if (check_kept (c, f, err) == -1 ||
      write_fill (c, f, false, false, buf, err) == -1)
    return -1;
  return link_fill (c, f, false, err);
}

static int
write_allocated (struct q2_change *c, struct fill *f, const void *buf,
                 struct qcow2_error *err)
{
  const unsigned bits = c->w->geo->cluster_bits;
  struct q2_space_run run;

  if (q2_writer_alloc (c, f->guest_cluster, f->nr, &run, err) == -1)
    return -1;
  f->nr = run.nr;
  f->last = f->first + run.nr - 1;
  f->end = q2_min (f->end, (f->guest_cluster + run.nr) << bits);
  f->host_off = run.cluster << bits;
  /* Zeros in the file are noise on an encrypted disk. */
  run.zero &= c->w->store->cipher == NULL ||
    Q2_PLANTED (Q2_PLANT_ZEROS_ARE_ZEROS);
  if (write_fill (c, f, true, run.zero, buf, err) == 0 &&
      link_fill (c, f, true, err) == 0)
    return 0;
  q2_space_undo (c->w->space, c->io, run.cluster, run.nr);
  return -1;
}

/* In a data file each cluster has its place. */
static int
write_placed (struct q2_change *c, struct fill *f, const void *buf,
              struct qcow2_error *err)
{
  f->last = f->first + f->nr - 1;
  f->host_off = f->guest_cluster << c->w->geo->cluster_bits;
  if (write_fill (c, f, true, false, buf, err) == -1)
    return -1;
  return link_fill (c, f, true, err);
}

static int
write_clusters (struct q2_change *c, struct fill *f, const void *buf,
                struct qcow2_error *err)
{
  if (f->nr == 0)
    return write_kept (c, f, buf, err);
  return c->w->geo->data_file ? write_placed (c, f, buf, err)
    : write_allocated (c, f, buf, err);
}

int
q2_writer_write_new (struct q2_change *c, const void *buf, uint64_t count,
                     uint64_t guest_off, uint64_t *ret_done,
                     struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  struct q2_entry e[Q2_MAX_ENTRIES];
  struct fill f = {
    .guest_cluster = guest_off >> geo->cluster_bits,
    .start = guest_off, .end = guest_off + count, .first = e,
  };
  const uint64_t wanted =
    ((f.end - 1) >> geo->cluster_bits) - f.guest_cluster + 1;
  uint64_t nr;
  bool owned;

  *ret_done = 0;
  if (q2_writer_own_table (c, l1_index_of (geo, f.guest_cluster), err) == -1
      || q2_writer_load (c, f.guest_cluster, wanted, e, &nr, &owned, err)
      == -1)
    return -1;
  assert (nr > 0);
  if (q2_entry_is_in_place (geo, &e[0], guest_off,
                            q2_min (count, geo->cluster_size -
                                    (guest_off & (geo->cluster_size - 1)))))
    return 0;
  while (f.nr < nr && !e[f.nr].copied)
    f.nr++;
  f.end = q2_min (f.end, (f.guest_cluster + q2_max (f.nr, 1))
                  << geo->cluster_bits);
  if (write_clusters (c, &f, buf, err) == -1)
    return -1;
  *ret_done = f.end - guest_off;
  return 0;
}
