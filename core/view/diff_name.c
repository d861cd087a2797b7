/* SPDX-License-Identifier: BSD-3-Clause */
/* diff_name.c - the two snapshots that "A..B" names.
 *
 * Owns      splitting the text.
 * Method    names of snapshots may hold any bytes, even two dots, so every
 *           ".." of the text may be the one between A and B.  One walk through
 *           the snapshot table finds which of them have a snapshot on the
 *           left, and one or nothing on the right: each name is compared with
 *           the start and with the end of the text.  It is an error if two
 *           pairs fit, since a guess could make a wrong backup.
 * Locks     none.
 */
#include "config.h"

#include "view/diff.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

/* Two names as long as names can be. */
#define MAX_TEXT (2 * 65535 + 2)

/* The two sides of a ".." of the text. */
struct split {
  bool a_found;                 /* and ".." follows it */
  bool b_found;
  struct q2_found_snapshot a, b;
};

struct search {
  const char *text;
  size_t len;
  struct split *at;             /* indexed by position of the ".." */
};

static bool
is_split (const struct search *search, size_t at)
{
  return memcmp (search->text + at, "..", 2) == 0;
}

static void
look_left (struct search *search, const struct q2_snapshot *s,
           uint64_t host_off)
{
  struct split *const split = &search->at[s->name_len];

  if (!split->a_found && is_split (search, s->name_len) &&
      memcmp (search->text, s->name, s->name_len) == 0) {
    split->a_found = true;
    q2_snapshot_keep (s, host_off, &split->a);
  }
}

static void
look_right (struct search *search, const struct q2_snapshot *s,
            uint64_t host_off)
{
  const size_t from = search->len - s->name_len;
  struct split *const split = &search->at[from - 2];

  if (!split->b_found &&
      memcmp (search->text + from, s->name, s->name_len) == 0) {
    split->b_found = true;
    q2_snapshot_keep (s, host_off, &split->b);
  }
}

static int
look_at (void *opaque, const struct q2_snapshot *s, uint64_t host_off,
         struct qcow2_error *err)
{
  struct search *const search = opaque;

  (void) err;
  if (s->name_len + (size_t) 2 <= search->len) {
    look_left (search, s, host_off);
    look_right (search, s, host_off);
  }
  return 0;
}

static bool
has_splits (const struct search *search)
{
  for (size_t i = 0; i + 2 <= search->len; ++i)
    if (is_split (search, i))
      return true;
  return false;
}

static int
fail (const struct qcow2_name *name, enum qcow2_error_kind kind,
      const char *why, struct qcow2_error *err)
{
  char text[200];

  return q2_fail_advise (err, kind, QCOW2_ADVICE_LIST_SNAPSHOTS,
                         QCOW2_NO_OFFSET, "'%s' %s",
                         q2_printable (text, sizeof text, name->bytes,
                                       name->len), why);
}

/* If there is only one split, or only one whose half fits, the other half of
 * that is wrong; else NULL.
 */
static const struct split *
nearest (const struct search *search)
{
  const struct split *only = NULL, *half = NULL;
  size_t nr_splits = 0, nr_halves = 0;

  for (size_t i = 0; i + 2 <= search->len; ++i) {
    const struct split *const split = &search->at[i];

    if (!is_split (search, i))
      continue;
    only = split;
    nr_splits++;
    if (split->a_found || split->b_found) {
      half = split;
      nr_halves++;
    }
  }
  return nr_halves == 1 ? half : nr_splits == 1 ? only : NULL;
}

static int
fail_name (const struct search *search, const struct split *split,
           const struct qcow2_name *name, struct qcow2_error *err)
{
  const size_t at = (size_t) (split - search->at);
  const char *const bad = split->a_found ? name->bytes + at + 2 : name->bytes;
  const size_t len = split->a_found ? name->len - at - 2 : at;
  char all[200], part[200];

  return q2_fail_advise (err, QCOW2_ERR_NOT_FOUND, QCOW2_ADVICE_LIST_SNAPSHOTS,
                         QCOW2_NO_OFFSET,
                         "'%s' names no difference: the image has no snapshot "
                         "'%s'", q2_printable (all, sizeof all, name->bytes,
                                               name->len),
                         q2_printable (part, sizeof part, bad, len));
}

static int
choose (const struct search *search, const struct qcow2_name *name,
        struct q2_diff_pair *ret, struct qcow2_error *err)
{
  size_t nr = 0;

  for (size_t i = 0; i + 2 <= search->len; ++i) {
    const struct split *const split = &search->at[i];
    const bool active = i + 2 == search->len; /* even if a snapshot is called
                                                 "" */

    if (split->a_found && (split->b_found || active)) {
      *ret = (struct q2_diff_pair) { split->a, split->b, active };
      nr++;
    }
  }
  if (nr == 0 && nearest (search) != NULL)
    return fail_name (search, nearest (search), name, err);
  if (nr == 0)
    return fail (name, QCOW2_ERR_NOT_FOUND,
                 "names no difference: it must be A..B with the names of two "
                 "snapshots, or A.. for what has changed since A", err);
  if (nr > 1)
    return fail (name, QCOW2_ERR_NOT_FOUND,
                 "can be taken apart in more than one way into names of "
                 "snapshots, so nobody knows which difference is meant; take "
                 "snapshots under names without '..'", err);
  return 0;
}

int
q2_diff_find_pair (struct qcow2_image *image, const struct qcow2_io *host,
                   const struct qcow2_name *name, struct q2_diff_pair *ret,
                   struct qcow2_error *err)
{
  const uint64_t number = q2_image_header (image).number;
  struct search search = { .text = name->bytes, .len = name->len };
  int r = 0;

  if (name->len > MAX_TEXT)
    search.len = 0;
  search.at = calloc (search.len + 1, sizeof *search.at);
  if (search.at == NULL)
    return q2_fail_nomem (err, "the names of two snapshots");
  if (has_splits (&search))
    r = q2_image_walk_snapshots (image, host, look_at, &search, err);
  if (r == 0)
    r = choose (&search, name, ret, err);
  ret->a.header_number = ret->b.header_number = number;
  free (search.at);
  return r;
}
