/* SPDX-License-Identifier: BSD-3-Clause */
/* chain.c - which image of a chain has a piece of the disk.
 *
 * Owns      nothing.
 * Method    from the top downwards, as far as a piece is unallocated: only
 *           tables are read.
 * Locks     none: nobody changes the images meanwhile.
 */
#include "config.h"

#include "edit/chain.h"

#include "map/map.h"

#include "base/assume.h"
#include "base/bits.h"

#include <stdio.h>
#include <string.h>

struct q2_link_down
q2_chain_top (struct qcow2_image *image, const struct qcow2_io *host)
{
  return (struct q2_link_down) {
    &image->reader, q2_image_io (image, host),
    q2_image_info (image).virtual_size,
  };
}

bool
q2_chain_down (const struct q2_link_down *l, struct q2_link_down *ret)
{
  const struct q2_store *const s = l->reader->store;

  if (s->below == NULL)
    return false;
  *ret = (struct q2_link_down) {
    s->below, {
      .host = s->below_host, .file_size = s->below_file_size,
      .shared = s->below_shared,
    },
    s->below_size,
  };
  return true;
}

bool
q2_chain_has (const struct q2_link_down *l, const struct qcow2_image *image)
{
  struct q2_link_down at = *l;

  while (q2_chain_down (&at, &at))
    if (at.reader == &image->reader)
      return true;
  return false;
}

int
q2_chain_look (const struct q2_link_down *top, const struct qcow2_image *base,
               uint64_t guest_off, uint64_t len, enum q2_run_kind *ret_kind,
               uint64_t *ret_len, struct qcow2_error *err)
{
  struct q2_link_down at = *top;

  *ret_kind = Q2_RUN_UNALLOCATED;
  *ret_len = len;
  do {
    struct q2_run run;
    size_t nr;

    if (at.reader == &base->reader)
      return 0;
    if (guest_off >= at.size)
      break;
    *ret_len = q2_min (*ret_len, at.size - guest_off);
    if (q2_map_scan (at.reader->tables, &at.io, guest_off, *ret_len, &run, 1,
                     &nr, err) == -1 ||
        !q2_assume (nr == 1 && run.len > 0, err))
      return -1;
    *ret_len = q2_min (*ret_len, run.len);
    *ret_kind = run.kind;
    if (run.kind != Q2_RUN_UNALLOCATED)
      return 0;
  } while (q2_chain_down (&at, &at));
  *ret_kind = Q2_RUN_ZERO;
  return 0;
}

int
q2_chain_fail (const char *which, struct qcow2_error *err)
{
  char text[sizeof err->text];

  memcpy (text, err->text, sizeof text);
  snprintf (err->text, sizeof err->text, "in the %s: %.*s", which,
            (int) (sizeof text - 40), text);
  if (err->kind == QCOW2_ERR_CORRUPT)
    err->kind = QCOW2_ERR_IO;
  err->offset = QCOW2_NO_OFFSET;
  return -1;
}
