/* SPDX-License-Identifier: BSD-3-Clause */
/* extents.c - reports which parts of the disk are data and which are zeros.
 *
 * Owns      merging runs into extents, and finding data clusters that are
 *           holes of the image file: those of a preallocated image, or of
 *           one that ends in the middle of a cluster.
 * Method    runs come from the map in batches; one extent is kept pending
 *           until one of another type follows.
 *
 *           Asking the host costs a system call or a round trip each time, so
 *           it is asked only about long runs: preallocation makes runs as long
 *           as an L2 table allows.  It is not asked about encrypted data,
 *           since holes do not decrypt to zeros.
 * Locks     none.
 */
#include "config.h"

#include "read/reader.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Runs mapped at a time; a fragmented disk has one per cluster. */
#define MAX_RUNS 128

/* The host is asked about runs of at least this length, or of what one L2
 * table maps if that is less.
 */
#define MIN_ASK_HOST (UINT64_C (1) << 20)

struct pending {
  qcow2_extent_fn fn;
  void *fn_opaque;
  uint64_t guest_off, len;      /* len == 0: nothing pending */
  enum qcow2_extent_type type;
  int result;                   /* of fn: 0 go on, 1 stop, -1 failed */
  int errnum;                   /* if it failed */
  bool reported;                /* fn was called at least once */
  bool gap;                     /* a run did not begin where the last ended */
};

static void
report (struct pending *p)
{
  if (p->len == 0 || p->result != 0)
    return;
  p->result = p->fn (p->fn_opaque, p->guest_off, p->len, p->type);
  p->errnum = p->result == -1 ? errno : 0;
  p->reported = true;
}

/* Returns nonzero if the walk should stop; then extents are dropped. */
static int
add (struct pending *p, uint64_t guest_off, uint64_t len,
     enum qcow2_extent_type type)
{
  if (p->result == 0 && p->guest_off + p->len != guest_off) {
    p->gap = true;
    p->result = -1;
  }
  if (p->result != 0)
    return p->result;
  if (p->len > 0 && p->type == type) {
    p->len += len;
    return 0;
  }
  report (p);
  if (p->result != 0)
    return p->result;
  p->guest_off = guest_off;
  p->len = len;
  p->type = type;
  return 0;
}

/* ---- Data runs that may be holes of the file ------------------------ */

struct host_walk {
  struct pending *pending;
  uint64_t guest_minus_host;
};

static int
add_host_extent (void *opaque, uint64_t host_off, uint64_t len, bool hole)
{
  const struct host_walk *hw = opaque;

  return add (hw->pending, host_off + hw->guest_minus_host, len,
              hole ? QCOW2_EXTENT_ZERO_ALLOCATED : QCOW2_EXTENT_DATA);
}

static bool
worth_asking (const struct q2_reader *r, const struct q2_io *data,
              const struct q2_run *run)
{
  const unsigned table_bits = q2_tables_geometry (r->tables)->l1_shift;

  return data->host->ops->extents != NULL &&
    run->len >= q2_min (MIN_ASK_HOST, UINT64_C (1) << table_bits);
}

static int
add_data (const struct q2_reader *r, const struct q2_io *io,
          struct pending *p, const struct q2_run *run,
          struct qcow2_error *err)
{
  const struct q2_io data = q2_store_io (r->store, io);
  const uint64_t size = q2_io_size (&data);
  const uint64_t room = size > run->host_off ? size - run->host_off : 0;
  const uint64_t inside = q2_min (run->len, room);

  if (r->store->cipher) {
    add (p, run->guest_off, run->len, QCOW2_EXTENT_DATA);
    return 0;
  }
  if (worth_asking (r, &data, run)) {
    struct host_walk hw = { p, run->guest_off - run->host_off };

    return q2_io_extents (&data, run->len, run->host_off, add_host_extent, &hw,
                          err);
  }
  if (inside > 0)
    add (p, run->guest_off, inside, QCOW2_EXTENT_DATA);
  if (inside < run->len)
    add (p, run->guest_off + inside, run->len - inside,
         QCOW2_EXTENT_ZERO_ALLOCATED);
  return 0;
}

/* ---- Runs that the backing image answers ---------------------------- */

static int
add_extent_below (void *opaque, uint64_t guest_off, uint64_t len,
                  enum qcow2_extent_type type)
{
  return add (opaque, guest_off, len, type);
}

/* Fails if the backing image cannot answer for all of the run. */
static int
add_below (const struct q2_reader *r, struct pending *p,
           const struct q2_run *run, struct qcow2_error *err)
{
  if (q2_store_extents_below (r->store, run->len, run->guest_off,
                              add_extent_below, p, err) == -1)
    return -1;
  if (p->result == 0 && p->guest_off + p->len < run->guest_off + run->len)
    return q2_fail_io (err, EIO, QCOW2_NO_OFFSET,
                       "the extents of the backing file are not known at "
                       "disk offset 0x%" PRIx64, p->guest_off + p->len);
  return 0;
}

static int
add_run (const struct q2_reader *r, const struct q2_io *io,
         struct pending *p, const struct q2_run *run, struct qcow2_error *err)
{
  switch (run->kind) {
  case Q2_RUN_UNALLOCATED:
    if (!r->alone)
      return add_below (r, p, run, err);
    add (p, run->guest_off, run->len, QCOW2_EXTENT_ZERO);
    return 0;
  case Q2_RUN_ZERO:
    add (p, run->guest_off, run->len, r->alone ? QCOW2_EXTENT_ZERO_ALLOCATED
         : QCOW2_EXTENT_ZERO);
    return 0;
  case Q2_RUN_DATA:
    return add_data (r, io, p, run, err);
  case Q2_RUN_COMPRESSED:
    add (p, run->guest_off, run->len, QCOW2_EXTENT_DATA);
    return 0;
  }
  return 0;
}

static int
walk (const struct q2_reader *r, const struct q2_io *io, uint64_t count,
      uint64_t guest_off, struct pending *p, struct qcow2_error *err)
{
  struct q2_run runs[MAX_RUNS];

  while (count > 0 && p->result == 0) {
    size_t nr;

    if (q2_map_scan (r->tables, io, guest_off, count, runs, MAX_RUNS, &nr,
                     err) == -1)
      return -1;
    for (size_t i = 0; i < nr && p->result == 0; ++i) {
      if (add_run (r, io, p, &runs[i], err) == -1)
        return -1;
      guest_off += runs[i].len;
      count -= runs[i].len;
    }
  }
  return 0;
}

/* Load the tables of the range at once, and those of the next two ranges in
 * the background: clients walk the disk in steps.
 */
static void
load_tables (struct q2_reader *r, const struct q2_io *io, uint64_t count,
             uint64_t guest_off)
{
  const uint64_t size = q2_tables_geometry (r->tables)->virtual_size;
  const uint64_t end = guest_off + count;
  const uint64_t last =
    atomic_exchange_explicit (&r->map_pos, end, memory_order_relaxed);

  if (last == guest_off)
    q2_prefetch_tables (r, io, end, q2_min (end + 2 * count, size));
  q2_tables_preload (r->tables, io, r->workers, guest_off, count);
}

int
q2_reader_extents (struct q2_reader *r, const struct q2_io *io,
                   uint64_t count, uint64_t guest_off, qcow2_extent_fn fn,
                   void *fn_opaque, bool *ret_all, struct qcow2_error *err)
{
  struct pending p = {
    .fn = fn, .fn_opaque = fn_opaque, .guest_off = guest_off,
  };
  int ret;

  if (q2_io_is_slow (io) && q2_tables_geometry (r->tables)->version > 0)
    load_tables (r, io, count, guest_off);
  ret = walk (r, io, count, guest_off, &p, err);
  if (ret == 0 && !q2_assume (p.result != 0 || p.guest_off + p.len ==
                              guest_off + count, err))
    return -1;

  /* Report the part mapped before a failure: the client asks again for the
   * rest and gets the error then.
   */
  report (&p);
  if (!q2_assume (!p.gap, err))
    return -1;
  if (p.result == -1)
    return q2_fail_io (err, p.errnum, QCOW2_NO_OFFSET,
                       "reporting an extent failed: %s", strerror (p.errnum));
  if (ret == -1 && !p.reported)
    return -1;
  *ret_all = ret == 0 && p.result == 0;
  return 0;
}
