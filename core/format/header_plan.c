/* SPDX-License-Identifier: BSD-3-Clause */
/* header_plan.c - the sectors of the first cluster to write, in order.
 *
 * Owns      the question whether a change of the header can be torn.
 * Method    a sector is in use if decoding reads a byte of it.  A step from
 *           one area to another is safe if at most one of the sectors that
 *           differ is in use before: the others are written first and flushed,
 *           and that one switches.  If more differ, two such steps go by way
 *           of a copy in spare sectors.
 * Locks     none; pure.
 */
#include "config.h"

#include "format/ext.h"
#include "format/header_plan.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SECTORS ((1u << Q2_MAX_CLUSTER_BITS) / Q2_HEADER_SECTOR)

/* A header area: whole sectors, zero after the last byte in use. */
struct area {
  const unsigned char *bytes;
  uint32_t nr;                  /* sectors */
  uint64_t used[MAX_SECTORS / 64];
};

static bool
is_used (const struct area *a, uint32_t sector)
{
  return a->used[sector / 64] >> sector % 64 & 1;
}

static void
use (struct area *a, uint64_t off, uint64_t end)
{
  /* q2_header_decode has seen that all of it is in the area. */
  if (!q2_check (end <= (uint64_t) a->nr * Q2_HEADER_SECTOR))
    return;
  for (uint64_t s = off / Q2_HEADER_SECTOR; s * Q2_HEADER_SECTOR < end; ++s)
    a->used[s / 64] |= UINT64_C (1) << s % 64;
}

/* 'bytes' is a valid header area. */
static int
area_init (struct area *a, const unsigned char *bytes, size_t len,
           struct qcow2_error *err)
{
  struct q2_ext_walk walk;
  struct q2_header h;
  struct q2_geometry geo;
  struct q2_ext e;
  uint64_t from = 0;
  int r;

  memset (a, 0, sizeof *a);
  a->bytes = bytes;
  a->nr = (uint32_t) (len / Q2_HEADER_SECTOR);
  if (!q2_assume (a->nr <= MAX_SECTORS, err))
    return -1;
  if (q2_header_decode (bytes, len, &h, &geo, err) == -1)
    return -1;
  q2_ext_walk_init (&walk, bytes, len, &h);
  while ((r = q2_ext_next (&walk, &e, err)) == 1) {
    if (e.type == Q2_EXT_TYPE_JUMP) {
      use (a, from, e.data_off);
      from = walk.off;
    }
  }
  use (a, from, q2_min (walk.off, len));
  use (a, h.backing_file.offset, h.backing_file.offset + h.backing_file.len);
  return r;
}

/* True if the sector may differ: the contents of an unused one are unknown. */
static bool
differs (const struct area *from, const struct area *to, uint32_t sector)
{
  const size_t off = (size_t) sector * Q2_HEADER_SECTOR;

  return is_used (to, sector) &&
    (!is_used (from, sector) ||
     memcmp (from->bytes + off, to->bytes + off, Q2_HEADER_SECTOR) != 0);
}

/* ---- Writes ----------------------------------------------------------- */

static void
add_write (struct q2_header_plan *plan, const struct area *to,
           uint32_t sector, uint32_t nr)
{
  assert (plan->nr_writes < Q2_HEADER_MAX_WRITES);
  plan->writes[plan->nr_writes++] = (struct q2_header_write) {
    .off = sector * Q2_HEADER_SECTOR, .len = nr * Q2_HEADER_SECTOR,
    .bytes = to->bytes + (size_t) sector * Q2_HEADER_SECTOR,
  };
}

/* Add a write of all sectors that differ, except 'last', from the first of
 * them to the last.  Sectors in between are equal and in use by 'to', or
 * 'last'.
 */
static void
add_others (struct q2_header_plan *plan, const struct area *from,
            const struct area *to, uint32_t last)
{
  uint32_t begin = 0, end = 0;

  for (uint32_t s = 0; s < to->nr; ++s) {
    if (s == last || !differs (from, to, s))
      continue;
    if (end > 0 && (s > end && (last >= begin && last < s))) {
      add_write (plan, to, begin, end - begin);
      end = 0;
    }
    if (end == 0)
      begin = s;
    end = s + 1;
  }
  if (end > 0)
    add_write (plan, to, begin, end - begin);
}

/* True if a crash on the way leaves one or the other.  *ret_last is the sector
 * that decides, to be written last.
 */
static bool
is_safe (const struct area *from, const struct area *to, uint32_t *ret_last)
{
  uint32_t nr = 0;

  *ret_last = 0;
  for (uint32_t s = 0; s < to->nr; ++s) {
    if (differs (from, to, s) && is_used (from, s)) {
      *ret_last = s;
      ++nr;
    }
  }
  return nr <= 1;
}

static void
add_step (struct q2_header_plan *plan, const struct area *from,
          const struct area *to, uint32_t last)
{
  add_others (plan, from, to, last);
  if (differs (from, to, last))
    add_write (plan, to, last, 1);
}

/* ---- Areas ------------------------------------------------------------ */

/* Encode the parts into whole sectors, filled up with zeros.  *ret_bytes is
 * NULL if they do not fit.
 */
static int
encode (const struct q2_header_parts *parts, uint64_t spare_off,
        unsigned char **ret_bytes, size_t *ret_len, struct qcow2_error *err)
{
  const uint64_t end = q2_header_encoded_len (parts, spare_off);
  const uint64_t cluster_size = UINT64_C (1) << parts->fields.cluster_bits;
  unsigned char *bytes;

  *ret_bytes = NULL;
  *ret_len = 0;
  if (end > cluster_size)
    return 0;
  *ret_len = q2_align_up (end, Q2_HEADER_SECTOR);
  bytes = calloc (1, *ret_len);
  if (bytes == NULL)
    return q2_fail_nomem (err, "the image header");
  q2_header_encode (parts, spare_off, bytes);
  *ret_bytes = bytes;
  return 0;
}

/* The offset of the first 'nr' sectors, except sector 0, that neither area
 * uses; 0: none.
 */
static uint64_t
find_spare (const struct area *a, const struct area *b, uint32_t nr,
            uint32_t max)
{
  uint32_t run = 0;

  for (uint32_t s = 1; s < max; ++s) {
    run = is_used (a, s) || is_used (b, s) ? 0 : run + 1;
    if (run == nr)
      return (uint64_t) (s + 1 - nr) * Q2_HEADER_SECTOR;
  }
  return 0;
}

/* Plan two steps by way of spare sectors: 0 if there are too few, else 1. */
static int
plan_detour (struct q2_header_plan *plan, const struct area *from,
             const struct area *to, const struct q2_header_parts *parts,
             struct qcow2_error *err)
{
  const uint64_t far = UINT64_C (1) << Q2_MAX_CLUSTER_BITS;
  const uint64_t end = q2_header_encoded_len (parts, far);
  const uint32_t max =
    (UINT32_C (1) << parts->fields.cluster_bits) / Q2_HEADER_SECTOR;
  struct area between;
  uint64_t spare_off;
  uint32_t last;
  size_t len;

  if (end == UINT64_MAX || end <= far)
    return 0;
  spare_off = find_spare (from, to, (uint32_t) q2_ceil_shift (end - far, 9),
                          max);
  if (spare_off == 0)
    return 0;
  if (encode (parts, spare_off, &plan->between, &len, err) == -1)
    return -1;
  if (plan->between == NULL)    /* cannot be: the spare sectors have room */
    return 0;
  if (area_init (&between, plan->between, len, err) == -1)
    return -1;
  /* Both steps are safe: the areas share only the first sector. */
  if (is_safe (from, &between, &last))
    add_step (plan, from, &between, last);
  if (is_safe (&between, to, &last))
    add_step (plan, &between, to, last);
  return 1;
}

static int
plan_writes (struct q2_header_plan *plan, const struct area *from,
             const struct area *to, const struct q2_header_parts *parts,
             struct qcow2_error *err)
{
  uint32_t last;
  int r;

  plan->atomic = true;
  if (is_safe (from, to, &last)) {
    add_step (plan, from, to, last);
    return 0;
  }
  r = plan_detour (plan, from, to, parts, err);
  if (r != 0)
    return r == 1 ? 0 : -1;
  plan->atomic = false;
  add_step (plan, from, to, 0);
  return 0;
}

int
q2_header_plan (struct q2_header_plan *plan, const void *bytes, size_t len,
                const struct q2_header_parts *parts, struct qcow2_error *err)
{
  struct area from, to;

  memset (plan, 0, sizeof *plan);
  if (encode (parts, 0, &plan->after, &plan->len, err) == -1)
    return -1;
  if (plan->after == NULL)
    return q2_fail (err, QCOW2_ERR_NO_SPACE, 0,
                    "the header needs %" PRIu64 " bytes, but the first "
                    "cluster has %u; shorten the names of other files",
                    q2_header_encoded_len (parts, 0),
                    1u << parts->fields.cluster_bits);
  if (area_init (&from, bytes, len, err) == 0 &&
      area_init (&to, plan->after, plan->len, err) == 0 &&
      plan_writes (plan, &from, &to, parts, err) == 0)
    return 0;
  q2_header_plan_free (plan);
  return -1;
}

void
q2_header_plan_free (struct q2_header_plan *plan)
{
  free (plan->after);
  free (plan->between);
  memset (plan, 0, sizeof *plan);
}
