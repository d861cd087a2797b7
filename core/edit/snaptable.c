/* SPDX-License-Identifier: BSD-3-Clause */
/* snaptable.c - the snapshot table of an image, in memory, to be changed.
 *
 * Owns      which entries it has; the format of one is format/snapshot.c's.
 * Method    the table (at most 64 MiB) is walked once to check it and to know
 *           how long it is, then read as a whole.  It never changes where it
 *           is: what comes of it is written to new clusters.
 * Locks     none; nobody changes the image meanwhile.
 */
#include "config.h"

#include "edit/snaptable.h"

#include "meta/snapshots.h"

#include "base/assume.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int
accept_entry (void *opaque, const struct q2_snapshot *s, uint64_t host_off,
              struct qcow2_error *err)
{
  (void) opaque;
  (void) s;
  (void) host_off;
  (void) err;
  return 0;
}

int
q2_snaptable_load (struct q2_snaptable *t, struct q2_edit *e,
                   struct qcow2_error *err)
{
  const struct q2_header h = q2_image_header (e->image);
  uint64_t len;

  *t = (struct q2_snaptable) {
    .nr = h.nr_snapshots, .disk_size = h.virtual_size,
  };
  if (q2_snapshots_walk (&e->io, &h, e->w->geo, accept_entry, t, &len, err)
      == -1)
    return -1;
  t->len = len;
  t->bytes = malloc (len + 1);
  if (t->bytes == NULL)
    return q2_fail_nomem (err, "the snapshot table");
  if (len == 0)
    return 0;
  t->host_off = h.snapshots_offset;
  t->host_len = len;
  if (q2_io_read (&e->io, t->bytes, len, t->host_off, QCOW2_IO_HEADER, err)
      == 0)
    return 0;
  q2_snaptable_free (t);
  return -1;
}

void
q2_snaptable_free (struct q2_snaptable *t)
{
  free (t->bytes);
  t->bytes = NULL;
}

/* ---- Looking ----------------------------------------------------------- */

/* The entry at 'pos'; false at the end. */
static bool
entry_at (const struct q2_snaptable *t, const struct q2_geometry *geo,
          size_t pos, struct q2_snapshot *ret)
{
  struct qcow2_error ignored;

  /* It was walked before. */
  return pos < t->len &&
    q2_check (q2_snapshot_decode (geo, t->bytes + pos, t->len - pos, 0, ret,
                                  &ignored) == 0);
}

static bool
is_name (const struct qcow2_name *name, const char *bytes, size_t len)
{
  return name == NULL ||
    (name->len == len && (len == 0 || memcmp (name->bytes, bytes, len) == 0));
}

bool
q2_snaptable_find (const struct q2_snaptable *t, const struct q2_geometry *geo,
                   const struct qcow2_name *id, const struct qcow2_name *name,
                   struct q2_snapshot *ret, size_t *ret_pos)
{
  size_t pos;

  for (pos = 0; entry_at (t, geo, pos, ret); pos += ret->entry_len)
    if (is_name (id, ret->id, ret->id_len) &&
        is_name (name, ret->name, ret->name_len)) {
      *ret_pos = pos;
      if (ret->extra_len < Q2_SNAPSHOT_LEAST_EXTRA)
        ret->disk_size = t->disk_size;
      return true;
    }
  return false;
}

/* As strtoul would read it; 0 if it is no number. */
static uint64_t
number_of (const char *id, size_t len)
{
  uint64_t n = 0;

  for (size_t i = 0; i < len && id[i] >= '0' && id[i] <= '9'; ++i) {
    const uint64_t digit = (uint64_t) (id[i] - '0');

    n = n > (UINT64_MAX - digit) / 10 ? UINT64_MAX : 10 * n + digit;
  }
  return n;
}

size_t
q2_snaptable_next_id (const struct q2_snaptable *t,
                      const struct q2_geometry *geo,
                      char ret_id[Q2_SNAPTABLE_ID])
{
  struct q2_snapshot s;
  uint64_t last = 0;

  for (size_t pos = 0; entry_at (t, geo, pos, &s); pos += s.entry_len)
    last = q2_max (last, number_of (s.id, s.id_len));
  return last == UINT64_MAX ? 0
    : (size_t) snprintf (ret_id, Q2_SNAPTABLE_ID, "%" PRIu64, last + 1);
}

/* ---- Changing ---------------------------------------------------------- */

/* Have room for an entry at the end. */
static int
make_room (struct q2_snaptable *t, size_t more, struct qcow2_error *err)
{
  unsigned char *bytes;

  if (t->nr >= Q2_SNAPSHOT_MAX_ENTRIES)
    return q2_fail_advise (err, QCOW2_ERR_UNSUPPORTED,
                           QCOW2_ADVICE_FEWER_SNAPSHOTS, QCOW2_NO_OFFSET,
                           "the image has %" PRIu32 " snapshots, and cannot "
                           "have more", t->nr);
  if (more > Q2_SNAPSHOT_MAX_TABLE - q2_min (t->len, Q2_SNAPSHOT_MAX_TABLE))
    return q2_fail_advise (err, QCOW2_ERR_UNSUPPORTED,
                           QCOW2_ADVICE_FEWER_SNAPSHOTS, QCOW2_NO_OFFSET,
                           "the snapshot table would be longer than %" PRIu64
                           " MiB", Q2_SNAPSHOT_MAX_TABLE >> 20);
  bytes = realloc (t->bytes, t->len + more);
  if (bytes == NULL)
    return q2_fail_nomem (err, "the snapshot table");
  t->bytes = bytes;
  return 0;
}

int
q2_snaptable_check_room (struct q2_snaptable *t, const struct q2_snapshot *s,
                         struct qcow2_error *err)
{
  return make_room (t, q2_snapshot_encoded_len (s), err);
}

int
q2_snaptable_add (struct q2_snaptable *t, const struct q2_snapshot *s,
                  struct qcow2_error *err)
{
  const size_t more = q2_snapshot_encoded_len (s);

  if (!q2_assume (q2_is_aligned (t->len, 8) && q2_is_aligned (more, 8), err))
    return -1;
  if (make_room (t, more, err) == -1)
    return -1;
  q2_snapshot_encode (s, t->bytes + t->len);
  t->len += more;
  t->nr++;
  return 0;
}

int
q2_snaptable_copy (struct q2_snaptable *t, const unsigned char *entry,
                   struct qcow2_error *err)
{
  const size_t more = q2_snapshot_entry_len (entry);

  if (make_room (t, more, err) == -1)
    return -1;
  memcpy (t->bytes + t->len, entry, more);
  t->len += more;
  t->nr++;
  return 0;
}

void
q2_snaptable_remove (struct q2_snaptable *t, size_t pos)
{
  size_t len;

  if (!q2_check (t->nr > 0 && pos < t->len))
    return;
  len = q2_snapshot_entry_len (t->bytes + pos);
  if (!q2_check (pos + len <= t->len))
    return;
  memmove (t->bytes + pos, t->bytes + pos + len, t->len - pos - len);
  t->len -= len;
  t->nr--;
}

int
q2_snaptable_write (const struct q2_snaptable *t, struct q2_edit *e,
                    uint64_t *ret_host_off, struct qcow2_error *err)
{
  *ret_host_off = 0;
  if (!q2_assume ((t->nr == 0) == (t->len == 0) &&
                  t->nr <= Q2_SNAPSHOT_MAX_ENTRIES, err))
    return -1;
  if (t->nr == 0)
    return 0;
  if (q2_edit_alloc (e, t->len, Q2_META_SNAPSHOT_TABLE, ret_host_off, err)
      == -1)
    return -1;
  return q2_edit_write (e, t->bytes, t->len, *ret_host_off,
                        Q2_META_SNAPSHOT_TABLE, err);
}
