/* SPDX-License-Identifier: BSD-3-Clause */
/* owning.c - entries of the disk that are alone become COPIED, while guests
 * write.
 *
 * Owns      nothing.
 * Method    it is a change of entries like any other: with the clusters held
 *           they are looked at, replaced in the table cache, and written by a
 *           commit.  As long as they are held nobody lets go of what they
 *           refer to.
 * Locks     the clusters, as a request that changes them.
 */
#include "config.h"

#include "write/owning.h"

#include "base/assume.h"

int
q2_owning_get (struct q2_owning *o, uint64_t cluster, uint64_t *ret_refcount,
               struct qcow2_error *err)
{
  if (cluster < o->first || cluster - o->first >= o->nr) {
    o->nr = 0;
    if (q2_writer_refcounts (o->w, o->io, cluster, Q2_MAX_ENTRIES, o->values,
                             &o->nr, err) == -1)
      return -1;
    o->first = cluster;
  }
  *ret_refcount = o->values[cluster - o->first];
  return 0;
}

/* Returns how many entries could become COPIED, in *ret_nr, with all of them
 * as they are to be in 'raw'.
 */
static int
choose (struct q2_owning *o, const struct q2_entry *e, uint64_t nr,
        unsigned char *raw, uint64_t *ret_nr, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = o->w->geo;

  *ret_nr = 0;
  for (uint64_t i = 0; i < nr; ++i) {
    uint64_t refcount;

    if (!q2_owning_may (&e[i]))
      continue;
    if (q2_owning_get (o, e[i].m.host_off >> geo->cluster_bits, &refcount, err)
        == -1)
      return -1;
    if (refcount != 1)
      continue;
    q2_entry_store (geo, raw + (i << geo->entry_bits), e[i].m.host_off, true,
                    e[i].alloc, e[i].zero);
    ++*ret_nr;
  }
  return 0;
}

/* Runs of them that become COPIED; the others are left alone. */
static int
link_chosen (struct q2_change *c, uint64_t guest_cluster,
             const struct q2_entry *e, uint64_t nr, const unsigned char *raw,
             struct qcow2_error *err)
{
  static const bool let_go[Q2_MAX_ENTRIES];
  const struct q2_geometry *const geo = c->w->geo;
  uint64_t i = 0;

  while (i < nr) {
    uint64_t n = 0;

    while (i + n < nr && load_be64 (raw + ((i + n) << geo->entry_bits)) != 0)
      n++;
    if (n > 0) {
      const struct q2_link link = {
        .guest_cluster = guest_cluster + i, .nr = n,
        .raw = raw + (i << geo->entry_bits), .old = e + i, .let_go = let_go,
      };

      if (q2_writer_link (c, &link, err) == -1)
        return -1;
    }
    i += n + 1;
  }
  return 0;
}

/* The clusters are held. */
static int
own_held (struct q2_owning *o, struct q2_change *c, uint64_t guest_cluster,
          uint64_t nr, struct qcow2_error *err)
{
  unsigned char raw[Q2_MAX_ENTRIES * 8] = { 0 };
  struct q2_entry e[Q2_MAX_ENTRIES];
  uint64_t loaded, chosen;
  bool owned;

  if (q2_writer_load (c, guest_cluster, nr, e, &loaded, &owned, err) == -1)
    return -1;
  o->nr = 0;                    /* as they are now */
  if (!owned || choose (o, e, loaded, raw, &chosen, err) == -1)
    return owned ? -1 : 0;
  return chosen == 0 ? 0
    : link_chosen (c, guest_cluster, e, loaded, raw, err);
}

int
q2_owning_entries (struct q2_owning *o, uint64_t guest_cluster, uint64_t nr,
                   struct qcow2_error *err)
{
  struct q2_change c = { .w = o->w, .io = o->io };
  struct q2_range range;
  int r;

  if (!q2_assume (nr > 0 && nr <= Q2_MAX_ENTRIES, err))
    return -1;
  q2_change_enter (&c);
  while (!q2_change_hold (&c, &range, guest_cluster, guest_cluster + nr))
    ;
  r = own_held (o, &c, guest_cluster, nr, err);
  q2_ranges_unlock (&o->w->clusters, &range);
  q2_change_leave (&c);
  return r;
}
