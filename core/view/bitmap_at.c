/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap_at.c - the bitmap and the snapshot that "B@S" names.
 *
 * Owns      splitting the text.
 * Method    names may hold any bytes, so every "@" of the text may be the one
 *           between B and S.  One walk through the bitmaps and one through the
 *           snapshots find which of them have both: each name is compared with
 *           the start, or with the end, of the text.  If two pairs fit, or the
 *           text is the name of a bitmap, too, it is an error, since a guess
 *           could make a wrong backup.
 * Locks     none.
 */
#include "config.h"

#include "view/bitmap_view.h"

#include "meta/bitmaps.h"

#include "base/assume.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

/* Two names as long as names can be. */
#define MAX_TEXT (Q2_BITMAP_MAX_NAME + 1 + 65535)

/* The two sides of an "@" of the text. */
struct split {
  bool bitmap_found, snapshot_found;
  struct q2_found_snapshot snapshot;
};

struct search {
  const char *text;
  size_t len;
  bool is_name;                 /* of a bitmap */
  struct split *at;             /* indexed by position of the "@" */
};

static int
look_left (void *opaque, const struct q2_bitmap *b, uint64_t host_off,
           struct qcow2_error *err)
{
  struct search *const search = opaque;
  const size_t len = b->name_len;

  (void) host_off;
  (void) err;
  if (len > search->len || memcmp (search->text, b->name, len) != 0)
    return 0;
  if (len == search->len)
    search->is_name = true;
  else if (search->text[len] == '@')
    search->at[len].bitmap_found = true;
  return 0;
}

/* The first of that name, as everywhere. */
static int
look_right (void *opaque, const struct q2_snapshot *s, uint64_t host_off,
            struct qcow2_error *err)
{
  struct search *const search = opaque;
  struct split *split;
  size_t from;

  (void) err;
  if (s->name_len + (size_t) 1 > search->len)
    return 0;
  from = search->len - s->name_len;
  split = &search->at[from - 1];
  if (!split->snapshot_found && search->text[from - 1] == '@' &&
      memcmp (search->text + from, s->name, s->name_len) == 0) {
    split->snapshot_found = true;
    q2_snapshot_keep (s, host_off, &split->snapshot);
  }
  return 0;
}

static int
choose (const struct search *search, struct q2_bitmap_at *ret,
        struct qcow2_error *err)
{
  size_t nr = 0;
  char text[200];

  for (size_t i = 0; i < search->len; ++i)
    if (search->at[i].bitmap_found && search->at[i].snapshot_found) {
      if (!q2_assume (search->text[i] == '@', err))
        return -1;
      *ret = (struct q2_bitmap_at) {
        .found = true, .bitmap = { search->text, i },
        .snapshot = search->at[i].snapshot,
      };
      nr++;
    }
  if (nr + search->is_name <= 1)
    return 0;
  return q2_fail_advise (err, QCOW2_ERR_NOT_FOUND, QCOW2_ADVICE_LIST_BITMAPS,
                         QCOW2_NO_OFFSET, "'%s' can be the name of a bitmap, "
                         "or of a bitmap and a snapshot, in more than one "
                         "way, so nobody knows what is meant; use names "
                         "without '@'",
                         q2_printable (text, sizeof text, search->text,
                                       search->len));
}

int
q2_bitmap_at_find (struct qcow2_image *image, const struct qcow2_io *host,
                   const struct qcow2_name *name, struct q2_bitmap_at *ret,
                   struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (image, host);
  const struct q2_header header = q2_image_header (image);
  struct search search = { .text = name->bytes, .len = name->len };
  int r;

  *ret = (struct q2_bitmap_at) { .found = false };
  if (name->len > MAX_TEXT || name->len == 0 ||
      memchr (name->bytes, '@', name->len) == NULL)
    return 0;
  search.at = calloc (search.len, sizeof *search.at);
  if (search.at == NULL)
    return q2_fail_nomem (err, "the names of a bitmap and a snapshot");
  r = q2_bitmaps_walk (&io, &header, &image->geo, look_left, &search, err);
  if (r == 0)
    r = q2_image_walk_snapshots (image, host, look_right, &search, err);
  if (r == 0)
    r = choose (&search, ret, err);
  ret->snapshot.header_number = header.number;
  free (search.at);
  return r;
}
