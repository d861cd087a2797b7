/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot_complete.c - completes entries of the snapshot table.
 *
 * Owns      qcow2_snapshots_complete.
 * Method    entries that lack fields which version 3 demands get them: what a
 *           reader takes for them anyway.  The new table is durable before
 *           one sector of the header names it; then the old one is let go.
 * Locks     the gate is closed (edit.h), and no view is open.
 */
#include "config.h"

#include "edit/snapshot.h"

#include "base/assume.h"
#include "base/error.h"

static const char what[] = "the snapshot table cannot be completed";

struct complete {
  struct q2_edit edit;
  struct q2_snaptable old, new;
  uint64_t table_off;
};

/* All entries, in their order. */
static int
copy_entries (struct complete *c, struct qcow2_error *err)
{
  struct q2_snapshot s;

  for (size_t pos = 0; pos < c->old.len; pos += s.entry_len) {
    if (q2_snapshot_decode (c->edit.w->geo, c->old.bytes + pos,
                            c->old.len - pos, c->old.host_off + pos, &s, err)
        == -1)
      return -1;
    if (s.extra_len < Q2_SNAPSHOT_LEAST_EXTRA) {
      s.disk_size = c->old.disk_size;
      if (q2_snaptable_add (&c->new, &s, err) == -1)
        return -1;
    }
    else if (q2_snaptable_copy (&c->new, c->old.bytes + pos, err) == -1)
      return -1;
  }
  return 0;
}

static int
name_table (void *opaque, struct q2_header_parts *parts,
            struct qcow2_error *err)
{
  const struct complete *const c = opaque;

  (void) err;
  parts->fields.snapshots_offset = c->table_off;
  return 0;
}

static int
complete (struct complete *c, struct qcow2_error *err)
{
  struct q2_edit *const e = &c->edit;

  if (q2_edit_settle (e, what, err) == -1 ||
      q2_snaptable_load (&c->old, e, err) == -1 ||
      copy_entries (c, err) == -1)
    return -1;
  if (!q2_assume (c->new.nr == c->old.nr && c->new.len >= c->old.len, err))
    return -1;
  if (c->new.nr == 0 || c->new.len == c->old.len)
    return 0;                   /* no entry has become longer */
  if (q2_snaptable_write (&c->new, e, &c->table_off, err) == -1 ||
      q2_edit_switch (e, name_table, c, 0, err) == -1)
    return -1;
  q2_edit_let_go_bytes (e, c->old.host_off, c->old.host_len);
  return 0;
}

int
qcow2_snapshots_complete (struct qcow2_image *image,
                          const struct qcow2_io *host,
                          struct qcow2_error *err)
{
  struct complete c = { .table_off = 0 };
  int r;

  if (q2_views_forbid (image, what, err) == -1)
    return -1;
  r = q2_edit_begin (&c.edit, image, host, Q2_EDIT_IMAGE, what, err);
  if (r == 0)
    r = q2_edit_end (&c.edit, complete (&c, err), err);
  q2_snaptable_free (&c.old);
  q2_snaptable_free (&c.new);
  q2_views_allow (image);
  return r;
}
