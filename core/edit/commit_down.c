/* SPDX-License-Identifier: BSD-3-Clause */
/* commit_down.c - what an image has goes into an image below it.
 *
 * Owns      the order: all of it is durable there before the image lets go of
 *           anything.
 * Method    the tables of the image, and of those between the two, say what
 *           they have; that is written below like a guest writes, zeros as
 *           zeros.  Wherever it stops, the image reads as before, since it has
 *           all of this itself.
 *
 *           The disk of the image does not change, so its bitmaps stay true.
 *           That of the image below does.
 * Locks     none: nobody else uses any of the images.
 */
#include "config.h"

#include "edit/chain.h"
#include "edit/empty.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/plant.h"

#include <inttypes.h>

/* Data at once; zeros, or what is not there, at once. */
#define PIECE (UINT64_C (4) << 20)
#define STEP (UINT64_C (256) << 20)
/* So much of data that is zeros is written as zeros. */
#define UNIT (UINT64_C (64) << 10)

#define CANCELLED \
  "the commit was cancelled; the image still has all that it had, and the " \
  "backing file may have some of it"

struct commit {
  struct q2_link_down top;
  struct qcow2_image *base;
  struct q2_io base_io;
  bool raw;                     /* the base is */
  bool begun;                   /* it may have changed */
  unsigned char *bytes;         /* PIECE */
  struct q2_progress progress;  /* in bytes of the disk */
};

static const char base_name[] = "backing file";

/* ---- The base ----------------------------------------------------------- */

static int
put_zeros (const struct commit *c, uint64_t pos, uint64_t len,
           struct qcow2_error *err)
{
  const int r = c->raw
    ? q2_io_zero (&c->base_io, len, pos, true, QCOW2_IO_DATA, err)
    : qcow2_zero (c->base, c->base_io.host, len, pos, QCOW2_ZERO_MAY_TRIM,
                  err);

  return r == -1 ? q2_chain_fail (base_name, err) : 0;
}

static int
put_data (const struct commit *c, const unsigned char *bytes, uint64_t pos,
          uint64_t len, struct qcow2_error *err)
{
  const int r = c->raw
    ? q2_io_write (&c->base_io, bytes, len, pos, QCOW2_IO_DATA, err)
    : qcow2_pwrite (c->base, c->base_io.host, bytes, (uint32_t) len, pos,
                    false, err);

  return r == -1 ? q2_chain_fail (base_name, err) : 0;
}

static int
put (const struct commit *c, uint64_t pos, uint64_t len,
     struct qcow2_error *err)
{
  uint64_t done = 0, n;

  if (!q2_assume (len > 0 && len <= PIECE, err))
    return -1;
  for (uint64_t start = 0; start < len; start = done) {
    const bool zeros = q2_all_are (c->bytes + start, 0,
                                   q2_min (UNIT, len - start));
    int r;

    do {
      done += q2_min (UNIT, len - done);
      n = q2_min (UNIT, len - done);
    } while (n > 0 && q2_all_are (c->bytes + done, 0, n) == zeros);
    r = zeros ? put_zeros (c, pos + start, done - start, err)
      : put_data (c, c->bytes + start, pos + start, done - start, err);
    if (r == -1)
      return -1;
  }
  return 0;
}

/* Everything, and the base is closed cleanly. */
static int
make_durable (const struct commit *c, struct qcow2_error *err)
{
  const int r = c->raw ? q2_io_flush (&c->base_io, err)
    : qcow2_end (c->base, c->base_io.host, err);

  return r == -1 ? q2_chain_fail (base_name, err) : 0;
}

/* ---- Copying ------------------------------------------------------------ */

static int
copy_some (const struct commit *c, uint64_t pos, uint64_t max,
           uint64_t *ret_len, struct qcow2_error *err)
{
  enum q2_run_kind kind;

  if (q2_chain_look (&c->top, c->base, pos, max, &kind, ret_len, err) == -1)
    return -1;
  switch (kind) {
  case Q2_RUN_UNALLOCATED:
    return 0;
  case Q2_RUN_ZERO:
    return put_zeros (c, pos, *ret_len, err);
  case Q2_RUN_DATA:
  case Q2_RUN_COMPRESSED:
    break;
  }
  *ret_len = q2_min (*ret_len, PIECE);
  if (q2_reader_pread (c->top.reader, &c->top.io, c->bytes, *ret_len, pos,
                       err) == -1)
    return -1;
  return put (c, pos, *ret_len, err);
}

static int
copy (struct commit *c, struct qcow2_error *err)
{
  c->begun = true;
  for (uint64_t pos = 0, n; pos < c->top.size; pos += n)
    if (copy_some (c, pos, q2_min (STEP, c->top.size - pos), &n, err) == -1 ||
        !q2_assume (n > 0 && n <= c->top.size - pos, err) ||
        q2_progress_add (&c->progress, n, CANCELLED, err) == -1)
      return -1;
  return 0;
}

/* A raw base gets the size of the disk, if it is smaller. */
static int
grow_raw (struct commit *c, struct qcow2_error *err)
{
  const uint64_t size = q2_io_size (&c->base_io);

  if (!c->raw || size >= c->top.size)
    return 0;
  c->begun = c->base_io.host->ops->grow != NULL;
  if (c->begun)
    return q2_io_grow (&c->base_io, c->top.size, err);
  return q2_fail (err, QCOW2_ERR_NO_SPACE, QCOW2_NO_OFFSET,
                  "the disk of the image has %" PRIu64 " bytes, but its "
                  "backing file has %" PRIu64 " and cannot grow",
                  c->top.size, size);
}

static int
copy_all (struct commit *c, struct qcow2_error *err)
{
  struct qcow2_error ignored;
  int r;

  c->bytes = q2_buffer_alloc (PIECE);
  if (c->bytes == NULL)
    return q2_fail_nomem (err, "a commit");
  r = grow_raw (c, err);
  if (r == 0)
    r = copy (c, err);
  q2_buffer_free (c->bytes, PIECE);
  if (r == 0)
    return Q2_PLANTED (Q2_PLANT_EMPTY_EARLY) ? 0 : make_durable (c, err);
  if (make_durable (c, &ignored) == -1) {
    /* What has been written is no harm, only the base may need a repair. */
  }
  return -1;
}

/* ---- What can be done --------------------------------------------------- */

static int
check_size (const struct commit *c, struct qcow2_error *err)
{
  const uint64_t size = q2_image_info (c->base).virtual_size;

  return c->raw || size >= c->top.size ? 0
    : q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
               "the disk of the image has %" PRIu64 " bytes, and that of its "
               "backing image only %" PRIu64 "; it has to be resized first",
               c->top.size, size);
}

static int
check_base (const struct commit *c, struct qcow2_error *err)
{
  if (!c->raw)
    return q2_edit_check (c->base, "the backing image cannot be written to",
                          err);
  return c->base_io.host->ops->pwrite != NULL ? 0
    : q2_fail (err, QCOW2_ERR_READ_ONLY, QCOW2_NO_OFFSET,
               "the backing file cannot be written to");
}

static int
check (const struct commit *c, const struct qcow2_image *image,
       unsigned flags, struct qcow2_error *err)
{
  if (!q2_chain_has (&c->top, c->base))
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "the image does not stand on that backing image");
  if (!(flags & QCOW2_COMMIT_KEEP) && c->top.reader->store->below !=
      &c->base->reader)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "an image can be emptied only if all of it goes into the "
                    "image right below it");
  if (q2_image_header (image).nr_snapshots > 0)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                    "the image has snapshots, which read what they do not "
                    "have themselves from the backing file: they would "
                    "change with it");
  return check_base (c, err);
}

/* Everything but sizes. */
static int
prepare (struct commit *c, struct qcow2_image *image,
         const struct qcow2_io *host, const struct qcow2_file *base,
         unsigned flags, struct qcow2_error *err)
{
  static const char what[] = "the image cannot be committed";

  *c = (struct commit) {
    .base = base->image, .base_io = q2_image_io (base->image, base->io),
    .raw = q2_image_info (base->image).version == 0,
  };
  if (q2_edit_check (image, what, err) == -1 ||
      (!(flags & QCOW2_COMMIT_KEEP) && q2_empty_check (image, err) == -1))
    return -1;
  c->top = q2_chain_top (image, host);
  c->progress.total = c->top.size;
  return check (c, image, flags, err);
}

int
qcow2_check_commit (struct qcow2_image *image, const struct qcow2_io *host,
                    const struct qcow2_file *base, unsigned flags,
                    struct qcow2_error *err)
{
  struct commit c;

  return prepare (&c, image, host, base, flags, err);
}

int
qcow2_commit (struct qcow2_image *image, const struct qcow2_io *host,
              const struct qcow2_file *base, unsigned flags,
              const struct qcow2_progress *progress, struct qcow2_error *err)
{
  struct commit c;

  if (prepare (&c, image, host, base, flags, err) == -1 ||
      check_size (&c, err) == -1)
    return -1;
  q2_progress_init (&c.progress, progress);
  if (copy_all (&c, err) == -1) {
    if (!c.begun)
      return -1;
    if (err->kind != QCOW2_ERR_CANCELLED)
      return q2_fail_outcome (err, QCOW2_OUTCOME_UNKNOWN, "the backing file "
                              "may have some of it, and the image still has "
                              "everything");
    err->outcome = QCOW2_OUTCOME_UNKNOWN;       /* it says so itself */
    return -1;
  }
  if (!(flags & QCOW2_COMMIT_KEEP) &&
      q2_empty (image, host, Q2_EDIT_IMAGE, NULL, err) == -1)
    return q2_fail_outcome (err, QCOW2_OUTCOME_DONE, "the backing file has "
                            "everything now, but the image could not be "
                            "emptied");
  return Q2_PLANTED (Q2_PLANT_EMPTY_EARLY) ? make_durable (&c, err) : 0;
}
