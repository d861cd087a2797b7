/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot.h - one entry of the snapshot table.
 *
 * Entries have any length and follow each other, each padded to 8 bytes, so
 * the header gives the place of the first one only.
 *
 * Spec: "Snapshots".
 */
#ifndef QCOW2_FORMAT_SNAPSHOT_H
#define QCOW2_FORMAT_SNAPSHOT_H

#include "format/geometry.h"

/* The first bytes of an entry; they give its length. */
#define Q2_SNAPSHOT_FIXED 40
#define Q2_SNAPSHOT_MAX_EXTRA 1024
/* Extra data that version 3 demands: it ends with the size of the disk. */
#define Q2_SNAPSHOT_LEAST_EXTRA 16u
/* Fixed part, extra data, id and name, padded. */
#define Q2_SNAPSHOT_MAX_ENTRY \
  (Q2_SNAPSHOT_FIXED + Q2_SNAPSHOT_MAX_EXTRA + 2 * 65535 + 2)
/* Bytes of the whole table, and its entries. */
#define Q2_SNAPSHOT_MAX_TABLE (UINT64_C (64) << 20)
#define Q2_SNAPSHOT_MAX_ENTRIES 65536u

struct q2_snapshot {
  uint64_t l1_offset;
  uint32_t l1_entries;
  uint32_t date_sec, date_nsec; /* since 1970, when it was taken */
  uint64_t vm_clock_ns;
  uint64_t vm_state_size;       /* 0: no saved memory */
  uint64_t disk_size;           /* bytes of the disk when it was taken */
  uint64_t icount;              /* UINT64_MAX if it is not known */
  uint32_t extra_len;           /* version 3 demands 16, QEMU writes 24 */
  const char *id, *name;        /* point into 'bytes'; any bytes, not
                                   terminated */
  uint16_t id_len, name_len;
  size_t entry_len;             /* to the next entry */
};

/* The length of the entry that begins with these Q2_SNAPSHOT_FIXED bytes; may
 * exceed Q2_SNAPSHOT_MAX_ENTRY if they are broken.
 */
extern uint64_t q2_snapshot_entry_len (const void *fixed)
  __attribute__ ((__nonnull__));

/* Decode the entry at the start of the 'len' bytes at 'bytes'.  'host_off' is
 * their place, for the message.  Fails if the entry is longer, or breaks a
 * limit.  Does not check the place of its L1 table.
 */
extern int q2_snapshot_decode (const struct q2_geometry *geo,
                               const void *bytes, size_t len,
                               uint64_t host_off,
                               struct q2_snapshot *ret_snapshot,
                               struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The mirror of q2_snapshot_decode: with all extra data that QEMU writes.
 * extra_len and entry_len are ignored; 'bytes' has q2_snapshot_encoded_len
 * bytes, which are a multiple of 8.
 */
extern size_t q2_snapshot_encoded_len (const struct q2_snapshot *snapshot)
  __attribute__ ((__nonnull__));
extern void q2_snapshot_encode (const struct q2_snapshot *snapshot,
                                unsigned char *bytes)
  __attribute__ ((__nonnull__));

/* Fail if the snapshot's L1 table is too large or at an impossible place. Like
 * QEMU, check this only when a snapshot is used.
 */
extern int q2_snapshot_check_l1 (const struct q2_geometry *geo,
                                 const struct q2_snapshot *snapshot,
                                 uint64_t host_off, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_FORMAT_SNAPSHOT_H */
