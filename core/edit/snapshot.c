/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot.c - what changes of snapshots share.
 *
 * Owns      which images may have snapshots, finding one, and keeping views
 *           off.
 * Locks     none.  Views count themselves, then look whether they are
 *           forbidden; who forbids them looks at the count afterwards.  Both
 *           are sequentially consistent, so one of the two gives way.
 */
#include "config.h"

#include "edit/snapshot.h"

#include "base/assume.h"
#include "base/error.h"

int
q2_snapshots_check_possible (const struct qcow2_image *image, const char *what,
                             struct qcow2_error *err)
{
  if (!q2_image_info (image).has_data_file)
    return 0;
  return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                  "%s: the data of the image is in another file, whose "
                  "clusters cannot be shared", what);
}

int
q2_snaptable_get (const struct q2_snaptable *t, const struct q2_edit *e,
                  const struct qcow2_name *name, bool by_id,
                  struct q2_snapshot *ret, size_t *ret_pos,
                  struct qcow2_error *err)
{
  char text[200];

  if (q2_snaptable_find (t, e->w->geo, by_id ? name : NULL,
                         by_id ? NULL : name, ret, ret_pos))
    return q2_snapshot_check_l1 (e->w->geo, ret, t->host_off + *ret_pos, err);
  return q2_fail_advise (err, QCOW2_ERR_NOT_FOUND,
                         QCOW2_ADVICE_LIST_SNAPSHOTS, QCOW2_NO_OFFSET,
                         "the image has no snapshot with the %s '%s'",
                         by_id ? "id" : "name",
                         q2_printable (text, sizeof text, name->bytes,
                                       name->len));
}

int
q2_views_forbid (struct qcow2_image *image, const char *what,
                 struct qcow2_error *err)
{
  atomic_fetch_add (&image->views_forbidden, 1);
  if (atomic_load (&image->views) == 0)
    return 0;
  q2_views_allow (image);
  return q2_fail_advise (err, QCOW2_ERR_BUSY, QCOW2_ADVICE_CLOSE_VIEWS,
                         QCOW2_NO_OFFSET, "%s, because a snapshot, bitmap or "
                         "difference of the image is open", what);
}

void
q2_views_allow (struct qcow2_image *image)
{
  q2_check (atomic_fetch_sub (&image->views_forbidden, 1) > 0);
}
