/* SPDX-License-Identifier: BSD-3-Clause */
/* map.c - builds runs from L1 and L2 entries.
 *
 * Owns      the walk over a guest range and the merging of runs.
 * Method    L1 entry by L1 entry; an empty one answers its whole range.
 *           Otherwise raw L2 entries are copied out in batches and decoded one
 *           by one, except that stretches of all-zero entries, the bulk of a
 *           sparse disk, are only counted.
 * Locks     none; the table cache has its own.
 * Does not  read data, or know about backing images.
 */
#include "config.h"

#include "map/map.h"

#include "format/l2e.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>

struct walk {
  struct q2_tables *tables;
  const struct q2_geometry *geo;
  const struct q2_io *io;
  uint64_t guest_off, end;      /* the rest that is to be mapped */
  bool scan;
  struct q2_run *runs;
  size_t nr, max;
};

/* Add a run of 'len' bytes at w->guest_off; false if there is no room. */
static bool
add_run (struct walk *w, enum q2_run_kind kind, uint64_t len,
         uint64_t host_off, uint64_t csize)
{
  struct q2_run *const last = w->nr ? &w->runs[w->nr - 1] : NULL;

  if (!q2_check (len > 0 && len <= w->end - w->guest_off))
    return false;
  if (last && last->kind == kind && kind != Q2_RUN_COMPRESSED &&
      (kind != Q2_RUN_DATA || last->host_off + last->len == host_off))
    last->len += len;
  else {
    if (w->nr == w->max)
      return false;
    w->runs[w->nr++] = (struct q2_run) {
      .kind = kind, .guest_off = w->guest_off, .len = len,
      .host_off = host_off, .csize = csize,
    };
  }
  w->guest_off += len;
  return true;
}

static bool
add_subclusters (struct walk *w, const struct q2_mapping *m, uint64_t len)
{
  const unsigned bits = w->geo->subcluster_bits;
  const uint64_t end = w->guest_off + len;

  while (w->guest_off < end) {
    const uint64_t in_cluster = w->guest_off & (w->geo->cluster_size - 1);
    const uint32_t bit = UINT32_C (1) << (in_cluster >> bits);
    const uint64_t next =
      q2_align_down (w->guest_off, UINT64_C (1) << bits) +
      (UINT64_C (1) << bits);
    const enum q2_run_kind kind =
      m->alloc_bits & bit ? Q2_RUN_DATA
      : m->zero_bits & bit ? Q2_RUN_ZERO : Q2_RUN_UNALLOCATED;

    if (!add_run (w, kind, q2_min (next, end) - w->guest_off,
                  kind == Q2_RUN_DATA ? m->host_off + in_cluster : 0, 0))
      return false;
  }
  return true;
}

/* Add the part of one cluster from w->guest_off on. */
static bool
add_cluster (struct walk *w, const struct q2_mapping *m)
{
  const uint64_t in_cluster = w->guest_off & (w->geo->cluster_size - 1);
  const uint64_t len =
    q2_min (w->geo->cluster_size - in_cluster, w->end - w->guest_off);

  switch (m->kind) {
  case Q2_CLUSTER_UNALLOCATED:
    return add_run (w, Q2_RUN_UNALLOCATED, len, 0, 0);
  case Q2_CLUSTER_ZERO:
    return add_run (w, Q2_RUN_ZERO, len, 0, 0);
  case Q2_CLUSTER_DATA:
    return add_run (w, Q2_RUN_DATA, len, m->host_off + in_cluster, 0);
  case Q2_CLUSTER_COMPRESSED:
    return add_run (w, Q2_RUN_COMPRESSED, len, m->host_off, m->csize);
  case Q2_CLUSTER_SUBCLUSTERS:
    return add_subclusters (w, m, len);
  case Q2_CLUSTER_INVALID:
    break;
  }
  return false;
}

int
q2_map_fail_invalid (const struct q2_tables *tables, uint64_t guest_off,
                     const struct q2_mapping *m, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = q2_tables_geometry (tables);
  const uint64_t host_off =
    q2_tables_l2_entry_off (tables, q2_l1_index (geo, guest_off),
                            q2_l2_index (geo, guest_off));

  return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_CHECK, host_off,
                         "the L2 entry at offset 0x%" PRIx64 " (disk offset "
                         "0x%" PRIx64 ") is corrupt: %s", host_off, guest_off,
                         m->problem);
}

/* Number of entries at the start of the batch that are all zero. */
static uint64_t
count_zero_entries (const uint64_t *raw, uint64_t nr, unsigned words)
{
  const uint64_t total = nr * words;
  uint64_t i = 0;

  while (i < total && raw[i] == 0)
    ++i;
  return i / words;
}

enum walked { WALK_ON, WALK_FULL, WALK_FAILED };

static enum walked
add_entries (struct walk *w, const uint64_t *raw, uint64_t nr,
             struct qcow2_error *err)
{
  const unsigned words = w->geo->extended_l2 ? 2 : 1;

  for (uint64_t i = 0; i < nr;) {
    const uint64_t zeros =
      count_zero_entries (raw + i * words, nr - i, words);

    if (zeros > 0) {
      const uint64_t stop =
        q2_align_down (w->guest_off, w->geo->cluster_size) +
        (zeros << w->geo->cluster_bits);

      if (!add_run (w, Q2_RUN_UNALLOCATED,
                    q2_min (stop, w->end) - w->guest_off, 0, 0))
        return WALK_FULL;
      i += zeros;
    }
    else {
      struct q2_mapping m;

      q2_l2e_decode (w->geo, be64toh (raw[i * words]),
                     words == 2 ? be64toh (raw[i * words + 1]) : 0, &m);
      q2_mapping_check_place (w->geo, w->guest_off, &m);
      if (m.kind == Q2_CLUSTER_INVALID) {
        q2_map_fail_invalid (w->tables, w->guest_off, &m, err);
        return WALK_FAILED;
      }
      if (!add_cluster (w, &m))
        return WALK_FULL;
      ++i;
    }
  }
  return WALK_ON;
}

/* Map the rest of the range under one L1 entry, or a batch of it. */
static enum walked
walk_l1_entry (struct walk *w, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = w->geo;
  const uint64_t l1_index = q2_l1_index (geo, w->guest_off);
  const uint64_t end =
    q2_min (w->end, (l1_index + 1) << geo->l1_shift);
  uint64_t raw[512];
  const struct q2_l2_read read = {
    .l1_index = l1_index, .l2_index = q2_l2_index (geo, w->guest_off),
    .count =
      q2_ceil_shift (end - q2_align_down (w->guest_off, geo->cluster_size),
                     geo->cluster_bits),
    .scan = w->scan, .buf = raw, .size = sizeof raw,
  };
  uint64_t nr;

  if (q2_tables_l1_is_empty (w->tables, l1_index))
    return add_run (w, Q2_RUN_UNALLOCATED, end - w->guest_off, 0, 0)
      ? WALK_ON : WALK_FULL;
  if (q2_tables_read_l2 (w->tables, w->io, &read, &nr, err) == -1)
    return WALK_FAILED;
  /* It was read.buf. */
  /* cppcheck-suppress uninitvar */
  return add_entries (w, raw, nr, err);
}

static int
walk (struct walk *w, size_t *ret_nr, struct qcow2_error *err)
{
  enum walked walked = WALK_ON;

  if (!q2_assume (w->max > 0 && w->guest_off < w->end &&
                  w->end <= q2_tables_reach (w->tables), err))
    return -1;
  if (w->geo->version == 0)     /* raw */
    add_run (w, Q2_RUN_DATA, w->end - w->guest_off, w->guest_off, 0);
  while (w->guest_off < w->end && walked == WALK_ON)
    walked = walk_l1_entry (w, err);
  if (walked == WALK_FAILED && w->nr == 0)
    return -1;
  /* The runs have no gaps, and callers rely on the last one. */
  if (!q2_assume (w->nr > 0 && w->nr <= w->max && w->guest_off <= w->end &&
                  w->runs[w->nr - 1].guest_off + w->runs[w->nr - 1].len
                  == w->guest_off, err))
    return -1;
  *ret_nr = w->nr;
  return 0;
}

static int
map (struct q2_tables *tables, const struct q2_io *io, uint64_t guest_off,
     uint64_t len, bool scan, struct q2_run *ret_runs, size_t max,
     size_t *ret_nr, struct qcow2_error *err)
{
  struct walk w = {
    .tables = tables, .geo = q2_tables_geometry (tables), .io = io,
    .guest_off = guest_off, .end = guest_off + len, .scan = scan,
    .runs = ret_runs, .max = max,
  };

  return walk (&w, ret_nr, err);
}

int
q2_map_runs (struct q2_tables *tables, const struct q2_io *io,
             uint64_t guest_off, uint64_t len, struct q2_run *ret_runs,
             size_t max, size_t *ret_nr, struct qcow2_error *err)
{
  return map (tables, io, guest_off, len, false, ret_runs, max, ret_nr, err);
}

int
q2_map_scan (struct q2_tables *tables, const struct q2_io *io,
             uint64_t guest_off, uint64_t len, struct q2_run *ret_runs,
             size_t max, size_t *ret_nr, struct qcow2_error *err)
{
  return map (tables, io, guest_off, len, true, ret_runs, max, ret_nr, err);
}
