/* SPDX-License-Identifier: BSD-3-Clause */
/* flags.c - finds COPIED flags that contradict the counted references.
 *
 * Owns      the rule: in the active tables an entry has the flag if and only
 *           if what it points to has exactly one user; compressed clusters
 *           and entries that point to nothing never have it.  A check, which
 *           reports what is, asks whether the refcount is 1 instead.
 * Method    the active L1 table again, then the L2 tables that it points to,
 *           in the order of the file.  They are not kept since they were
 *           counted because wrong flags are rare.  Where many were holes,
 *           the host is asked again.  What could not be read then has been
 *           told, and is left out.
 * Locks     none; nothing but fn changes the image meanwhile.
 */
#include "config.h"

#include "check/recount.h"

#include "format/l2e.h"

#include "base/be.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"

#define PIECE (UINT64_C (64) << 10)
/* What cannot be read has been told, and takes long: after so many failures no
 * more flags are looked at.
 */
#define MAX_FAILURES 16u

struct flags {
  const struct q2_io *io;
  const struct q2_geometry *geo;
  struct q2_counts *counts, *odd;
  uint64_t begin, stop;         /* clusters that entries are judged of */
  struct q2_work *work;
  unsigned char *buf;
  bool skip_holes;              /* counting them did, too */
  bool skip_unread;             /* the same */
  unsigned failures;            /* reads of that kind */
  q2_flag_fn fn;
  void *opaque;
};

/* An entry that points to the cluster at 'target', 0 if to none that may
 * have the flag.
 */
static int
check_entry (struct flags *f, uint64_t host_off, uint64_t entry,
             uint64_t target, struct qcow2_error *err)
{
  const uint64_t cluster = target >> f->geo->cluster_bits;
  const bool has_flag = entry & Q2_ENTRY_COPIED;
  const uint32_t count = q2_counts_get (f->counts, cluster).count;
  const bool is_odd = f->odd != NULL &&
    q2_counts_get (f->odd, cluster).count > 0;
  const bool needs_flag = target != 0 && (count == 1) != is_odd;

  if (has_flag == needs_flag || cluster < f->begin || cluster >= f->stop)
    return 0;
  /* Faulty, and so not counted: what it should be is not known. */
  if (target != 0 &&
      (count == 0 || !q2_is_aligned (target, f->geo->cluster_size)))
    return 0;
  return f->fn (f->opaque, host_off, entry ^ Q2_ENTRY_COPIED, err);
}

static int
check_l1_piece (struct flags *f, uint64_t host_off, uint64_t len,
                struct qcow2_error *err)
{
  for (uint64_t i = 0; i < len; i += 8) {
    const uint64_t entry = load_be64 (f->buf + i);

    if (check_entry (f, host_off + i, entry, q2_l1e_table (f->geo, entry),
                     err) == -1)
      return -1;
  }
  return 0;
}

static int
check_l2_piece (struct flags *f, uint64_t host_off, uint64_t len,
                struct qcow2_error *err)
{
  const uint64_t step = UINT64_C (1) << f->geo->entry_bits;

  for (uint64_t i = 0; i < len; i += step) {
    const uint64_t entry = load_be64 (f->buf + i);
    struct q2_mapping m;

    /* In a data file every cluster is the disk's alone, and QEMU's flags
     * always say so.
     */
    if (entry == 0 || f->geo->data_file)
      continue;
    q2_l2e_decode (f->geo, entry, 0, &m);
    if (check_entry (f, host_off + i, entry,
                     m.kind == Q2_CLUSTER_COMPRESSED ? 0 : m.host_off, err)
        == -1)
      return -1;
  }
  return 0;
}

/* A table, piece by piece, as far as the file has it. */
static int
check_data (struct flags *f, uint64_t host_off, uint64_t end,
            enum qcow2_io_class class,
            int (*check_piece) (struct flags *, uint64_t, uint64_t,
                                struct qcow2_error *),
            struct qcow2_error *err)
{
  while (host_off < end && f->failures < MAX_FAILURES) {
    const uint64_t n = q2_min (end - host_off, PIECE);

    if (q2_work_do (f->work, n / 8, err) == -1)
      return -1;
    if (q2_io_read (f->io, f->buf, n, host_off, class, err) == -1) {
      if (!f->skip_unread || !q2_is_medium_fault (err))
        return -1;
      f->failures++;
    }
    else if (check_piece (f, host_off, n, err) == -1)
      return -1;
    host_off += n;
  }
  return 0;
}

/* A hole has no flags that could be wrong. */
static int
check_table (struct flags *f, uint64_t host_off, uint64_t len,
             enum qcow2_io_class class,
             int (*check_piece) (struct flags *, uint64_t, uint64_t,
                                 struct qcow2_error *),
             struct qcow2_error *err)
{
  const uint64_t file_end = q2_align_up (q2_io_size (f->io), 16);
  const uint64_t end = q2_min (host_off + len, file_end);

  while (host_off < end) {
    uint64_t start = host_off, stop = end;

    if (q2_work_do (f->work, Q2_RECOUNT_CLUSTER, err) == -1)
      return -1;
    if (f->skip_holes)
      q2_io_next_data (f->io, host_off, end, &start, &stop);
    start = q2_align_down (start, 16);
    stop = q2_min (q2_align_up (stop, 16), end);
    if (check_data (f, start, stop, class, check_piece, err) == -1)
      return -1;
    host_off = stop;
  }
  return 0;
}

static int
check_tables (struct flags *f, const struct q2_header *h,
              struct qcow2_error *err)
{
  uint64_t cluster;

  if (check_table (f, h->l1_offset, (uint64_t) h->l1_entries * 8,
                   QCOW2_IO_L1, check_l1_piece, err) == -1)
    return -1;
  for (cluster = q2_counts_next (f->counts, 0, Q2_USE_L2);
       cluster != UINT64_MAX && f->failures < MAX_FAILURES;
       cluster = q2_counts_next (f->counts, cluster + 1, Q2_USE_L2)) {
    if (q2_counts_get (f->counts, cluster).flags == 0)
      continue;                 /* only snapshots use it */
    if (check_table (f, cluster << f->geo->cluster_bits,
                     f->geo->cluster_size, QCOW2_IO_L2, check_l2_piece, err)
        == -1)
      return -1;
  }
  return 0;
}

int
q2_recount_flags (struct q2_recount *recount, const struct q2_io *io,
                  const struct q2_header *h, const struct q2_geometry *geo,
                  bool lenient, q2_flag_fn fn, void *opaque,
                  struct qcow2_error *err)
{
  struct flags f = {
    .io = io, .geo = geo, .counts = recount->counts,
    .odd = recount->odd, .begin = recount->begin, .stop = recount->stop,
    .work = &recount->work, .fn = fn, .opaque = opaque,
    .skip_holes = recount->hole_bytes > 0,
    .skip_unread = lenient && recount->skipped > 0,
  };
  int r;

  if (!recount->flags_are_wrong)
    return 0;
  f.buf = q2_buffer_alloc (PIECE);
  if (f.buf == NULL)
    return q2_fail_nomem (err, "checking COPIED flags");
  r = check_tables (&f, h, err);
  q2_buffer_free (f.buf, PIECE);
  return r;
}
