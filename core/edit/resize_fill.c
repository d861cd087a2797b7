/* SPDX-License-Identifier: BSD-3-Clause */
/* resize_fill.c - allocates clusters that read as zeros.
 *
 * Owns      preallocation for a disk that grows, and the size of its data
 *           file.
 * Method    a slice of a table at a time: clusters are handed out, made to
 *           read as zeros in the way that was asked for, and linked.  What is
 *           encrypted is written in any case, since zeros of the file decrypt
 *           to noise.  A cluster that has space already keeps it.
 * Locks     none: the caller is alone with the image.
 */
#include "config.h"

#include "edit/resize.h"

#include "base/bits.h"

/* Bytes of the disk at once, so that there is progress to tell. */
#define STEP (UINT64_C (256) << 20)

int
q2_resize_grow_data (struct q2_resize *r, struct qcow2_error *err)
{
  const struct q2_io data = q2_store_io (r->edit.w->store, &r->edit.io);

  r->old_data_end = q2_io_size (&data);
  return q2_io_grow (&data, r->new_geo.virtual_size, err);
}

/* Clusters next to each other, in the file as well. */
struct piece {
  uint64_t cluster, nr;
  struct q2_space_run run;
  const struct q2_entry *e;
};

static int
fill_data (const struct q2_resize *r, const struct piece *p,
           struct qcow2_error *err)
{
  struct q2_store *const store = r->edit.w->store;
  const struct q2_io data = q2_store_io (store, &r->edit.io);
  const unsigned bits = r->new_geo.cluster_bits;
  const struct q2_place place = { p->run.cluster << bits, p->cluster << bits };
  /* A data file need not be longer than the disk. */
  const uint64_t end = r->new_geo.data_file ? r->new_geo.virtual_size
    : UINT64_MAX;
  const uint64_t len = q2_min (p->nr << bits, end - place.guest_off);

  if (store->cipher != NULL)
    return q2_store_zero (store, &r->edit.io, len, place, false, err);
  switch (r->preallocation) {
  case QCOW2_PREALLOCATE_FULL:
    return q2_io_write_zeros (&data, len, place.host_off, QCOW2_IO_DATA, err);
  case QCOW2_PREALLOCATE_FALLOC:
    return q2_io_zero (&data, len, place.host_off, false, QCOW2_IO_DATA, err);
  case QCOW2_PREALLOCATE_METADATA:
  case QCOW2_PREALLOCATE_OFF:
    break;
  }
  return p->run.zero ? 0
    : q2_io_zero (&data, len, place.host_off, true, QCOW2_IO_DATA, err);
}

static int
link_piece (struct q2_change *c, const struct piece *p,
            struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  unsigned char raw[Q2_MAX_ENTRIES * 8];
  bool let_go[Q2_MAX_ENTRIES] = { false };
  const struct q2_link link = {
    .guest_cluster = p->cluster, .nr = p->nr, .raw = raw, .old = p->e,
    .let_go = let_go,
  };

  for (uint64_t i = 0; i < p->nr; ++i)
    q2_entry_store (geo, raw + (i << geo->entry_bits),
                    (p->run.cluster + i) << geo->cluster_bits, true,
                    Q2_ALL_SUBCLUSTERS, 0);
  return q2_writer_link (c, &link, err);
}

static int
allocate (const struct q2_resize *r, struct q2_change *c, struct piece *p,
          struct qcow2_error *err)
{
  const unsigned bits = c->w->geo->cluster_bits;

  if (c->w->geo->data_file)
    p->run = (struct q2_space_run) {
      p->cluster, p->nr, p->cluster << bits >= r->old_data_end, false,
    };
  else if (q2_writer_alloc (c, p->cluster, p->nr, &p->run, err) == -1)
    return -1;
  p->nr = p->run.nr;
  if (fill_data (r, p, err) == 0 && link_piece (c, p, err) == 0)
    return 0;
  if (!c->w->geo->data_file)
    q2_space_undo (c->w->space, c->io, p->run.cluster, p->run.nr);
  return -1;
}

/* The first clusters of those, as many as are done at once. */
static int
fill_some (const struct q2_resize *r, struct q2_change *c, uint64_t cluster,
           uint64_t max, uint64_t *ret_nr, struct qcow2_error *err)
{
  struct q2_entry e[Q2_MAX_ENTRIES];
  struct piece p = { .cluster = cluster, .e = e };
  uint64_t nr;
  bool owned;

  if (q2_writer_own_table (c, cluster >> c->w->geo->l2_bits, err) == -1 ||
      q2_writer_load (c, cluster, max, e, &nr, &owned, err) == -1)
    return -1;
  while (p.nr < nr && !e[p.nr].m.placed)
    ++p.nr;
  if (p.nr > 0 && allocate (r, c, &p, err) == -1)
    return -1;
  *ret_nr = q2_max (p.nr, 1);
  return 0;
}

int
q2_resize_fill (struct q2_resize *r, uint64_t from, uint64_t to,
                struct qcow2_error *err)
{
  struct q2_writer *const w = r->edit.w;
  const unsigned bits = w->geo->cluster_bits;
  struct q2_change c = { .w = w, .io = &r->edit.io };

  while (from < to) {
    const uint64_t max = q2_min ((q2_min (to - from, STEP) >> bits) + 1,
                                 (to - from) >> bits);
    uint64_t nr = 0;
    int result;

    if (q2_writer_is_pressed (w) && q2_edit_commit (&r->edit, err) == -1)
      return -1;
    q2_change_enter (&c);
    result = fill_some (r, &c, from >> bits, max, &nr, err);
    q2_change_leave (&c);
    if (result == -1 ||
        q2_progress_add (&r->progress, nr << bits, Q2_RESIZE_CANCELLED, err)
        == -1)
      return -1;
    from += nr << bits;
  }
  return 0;
}
