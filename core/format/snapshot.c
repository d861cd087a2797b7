/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot.c - decodes and encodes entries of the snapshot table.
 *
 * Owns      the layout of an entry and its limits.
 * Method    the fixed part gives the lengths of the three parts that follow
 *           it; the sizes are 64 bit sums of small fields and cannot wrap. Old
 *           writers leave extra data out or short; missing fields follow from
 *           the fixed part and the image.
 * Locks     none; pure.
 * Spec      "Snapshots".
 */
#include "config.h"

#include "format/snapshot.h"

#include "base/be.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>
#include <string.h>

/* What we write, as QEMU does. */
#define EXTRA 24

static uint64_t
packed_len (const unsigned char *p)
{
  return (uint64_t) Q2_SNAPSHOT_FIXED + load_be32 (p + 36) +
    load_be16 (p + 12) + load_be16 (p + 14);
}

uint64_t
q2_snapshot_entry_len (const void *fixed)
{
  return q2_align_up (packed_len (fixed), 8);
}

int
q2_snapshot_decode (const struct q2_geometry *geo, const void *bytes,
                    size_t len, uint64_t host_off,
                    struct q2_snapshot *ret_snapshot,
                    struct qcow2_error *err)
{
  const unsigned char *const p = bytes;
  const unsigned char *const extra = p + Q2_SNAPSHOT_FIXED;
  struct q2_snapshot s;

  if (len < Q2_SNAPSHOT_FIXED)
    goto cut;
  s = (struct q2_snapshot) {
    .l1_offset = load_be64 (p), .l1_entries = load_be32 (p + 8),
    .id_len = load_be16 (p + 12), .name_len = load_be16 (p + 14),
    .date_sec = load_be32 (p + 16), .date_nsec = load_be32 (p + 20),
    .vm_clock_ns = load_be64 (p + 24), .vm_state_size = load_be32 (p + 32),
    .extra_len = load_be32 (p + 36), .disk_size = geo->virtual_size,
    .icount = UINT64_MAX,
  };
  if (s.extra_len > Q2_SNAPSHOT_MAX_EXTRA)
    return q2_fail (err, QCOW2_ERR_CORRUPT, host_off,
                    "the snapshot table entry at offset 0x%" PRIx64 " has "
                    "%u bytes of extra data, at most %u are allowed",
                    host_off, s.extra_len, Q2_SNAPSHOT_MAX_EXTRA);
  if (len < packed_len (p))
    goto cut;
  if (s.extra_len >= 8)
    s.vm_state_size = load_be64 (extra);
  if (s.extra_len >= Q2_SNAPSHOT_LEAST_EXTRA)
    s.disk_size = load_be64 (extra + 8);
  if (s.extra_len >= 24)
    s.icount = load_be64 (extra + 16);
  s.id = (const char *) extra + s.extra_len;
  s.name = s.id + s.id_len;
  s.entry_len = q2_snapshot_entry_len (p);
  *ret_snapshot = s;
  return 0;

 cut:
  return q2_fail (err, QCOW2_ERR_CORRUPT, host_off,
                  "the snapshot table entry at offset 0x%" PRIx64 " does "
                  "not end inside the table", host_off);
}

size_t
q2_snapshot_encoded_len (const struct q2_snapshot *s)
{
  return q2_align_up ((uint64_t) Q2_SNAPSHOT_FIXED + EXTRA + s->id_len +
                      s->name_len, 8);
}

void
q2_snapshot_encode (const struct q2_snapshot *s, unsigned char *p)
{
  unsigned char *const id = p + Q2_SNAPSHOT_FIXED + EXTRA;

  memset (p, 0, q2_snapshot_encoded_len (s));
  store_be64 (p, s->l1_offset);
  store_be32 (p + 8, s->l1_entries);
  store_be16 (p + 12, s->id_len);
  store_be16 (p + 14, s->name_len);
  store_be32 (p + 16, s->date_sec);
  store_be32 (p + 20, s->date_nsec);
  store_be64 (p + 24, s->vm_clock_ns);
  if (s->vm_state_size <= UINT32_MAX)
    store_be32 (p + 32, (uint32_t) s->vm_state_size);
  store_be32 (p + 36, EXTRA);
  store_be64 (p + 40, s->vm_state_size);
  store_be64 (p + 48, s->disk_size);
  store_be64 (p + 56, s->icount);
  if (s->id_len > 0)
    memcpy (id, s->id, s->id_len);
  if (s->name_len > 0)
    memcpy (id + s->id_len, s->name, s->name_len);
}

int
q2_snapshot_check_l1 (const struct q2_geometry *geo,
                      const struct q2_snapshot *s, uint64_t host_off,
                      struct qcow2_error *err)
{
  const uint64_t bytes = (uint64_t) s->l1_entries * 8;

  if (bytes > Q2_MAX_L1_BYTES)
    return q2_fail (err, QCOW2_ERR_CORRUPT, host_off,
                    "the snapshot at offset 0x%" PRIx64 " of the snapshot "
                    "table has an L1 table of %u entries, at most 32 MiB "
                    "are allowed", host_off, s->l1_entries);
  if (!q2_is_aligned (s->l1_offset, geo->cluster_size) ||
      s->l1_offset > INT64_MAX - bytes)
    return q2_fail (err, QCOW2_ERR_CORRUPT, host_off,
                    "the snapshot at offset 0x%" PRIx64 " of the snapshot "
                    "table has its L1 table at offset 0x%" PRIx64 ", where "
                    "no table can be", host_off, s->l1_offset);
  return 0;
}
