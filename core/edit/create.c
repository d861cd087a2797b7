/* SPDX-License-Identifier: BSD-3-Clause */
/* create.c - makes a new image.
 *
 * Owns      the order in which an image comes to be.
 * Method    the magic is in the first sector, which is written last, once all
 *           else is durable: a crash leaves no image, or all of it.  Before
 *           anything else that sector gets a mark, durably, which says that
 *           the rest means nothing (content.c): there is no old image any
 *           more, and whoever finds the mark may begin anew.
 * Invariant the disk of a new image reads as zeros, or as its backing image,
 *           or as a raw data file that is kept: preallocated clusters that
 *           may hold old bytes of the file are zeroed.
 * Locks     none; the image is nobody else's yet.
 */
#include "config.h"

#include "edit/create.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Space is allocated in steps, so that there is progress to tell. */
#define STEP (UINT64_C (256) << 20)

/* ---- Data ------------------------------------------------------------ */

static int
prepare_piece (const struct q2_create *c, const struct q2_io *io,
               uint64_t count, uint64_t host_off, struct qcow2_error *err)
{
  switch (c->options->preallocation) {
  case QCOW2_PREALLOCATE_FULL:
    return q2_io_write_zeros (io, count, host_off, QCOW2_IO_DATA, err);
  case QCOW2_PREALLOCATE_FALLOC:
    return q2_io_zero (io, count, host_off, false, QCOW2_IO_DATA, err);
  case QCOW2_PREALLOCATE_METADATA:
  case QCOW2_PREALLOCATE_OFF:
    break;
  }
  return q2_io_zero (io, count, host_off, true, QCOW2_IO_DATA, err);
}

/* Allocate the space of a range, as far as the options say so, and make it
 * read as zeros; the file has had 'old_size' bytes.
 */
static int
prepare_range (struct q2_create *c, const struct q2_io *io,
               uint64_t host_off, uint64_t len, uint64_t old_size,
               struct qcow2_error *err)
{
  /* What is added to a file reads as zeros. */
  const uint64_t end = c->options->preallocation > QCOW2_PREALLOCATE_METADATA
    ? host_off + len : q2_min (host_off + len, old_size);

  if (q2_io_grow (io, host_off + len, err) == -1)
    return -1;
  for (uint64_t off = host_off; off < end; off += STEP) {
    const uint64_t n = q2_min (end - off, STEP);

    if (prepare_piece (c, io, n, off, err) == -1 ||
        q2_progress_add (&c->progress, n, Q2_CREATE_CANCELLED, err) == -1)
      return -1;
  }
  return 0;
}

static int
prepare_data (struct q2_create *c, struct qcow2_error *err)
{
  const struct q2_region *const data = &c->layout.data;

  return prepare_range (c, &c->io, data->first << c->geo.cluster_bits,
                        data->nr << c->geo.cluster_bits, c->old_size, err);
}

static int
prepare_data_file (struct q2_create *c, struct qcow2_error *err)
{
  const struct qcow2_create_options *const o = c->options;

  if (o->data_io == NULL)
    return 0;
  if ((o->keep_data
       ? q2_io_grow (&c->data_io, c->geo.virtual_size, err)
       : prepare_range (c, &c->data_io, 0, c->geo.virtual_size,
                        o->data_io->size, err)) == -1)
    return -1;
  return q2_io_flush (&c->data_io, err);
}

/* ---- The image ------------------------------------------------------- */

/* What there has been is no image any more, and this is no other file. */
static int
write_mark (struct q2_create *c, struct qcow2_error *err)
{
  unsigned char sector[Q2_HEADER_SECTOR];

  q2_creation_mark (sector);
  /* With a minimum block, a partial one at the end cannot be read. */
  if (c->io.host->ops->grow != NULL &&
      q2_io_grow (&c->io, q2_max (c->old_size, sizeof sector), err) == -1)
    return -1;
  if (q2_io_write (&c->io, sector, sizeof sector, 0, QCOW2_IO_HEADER, err)
      == -1)
    return -1;
  return q2_io_flush (&c->io, err);
}

/* With its slots; what is secret in there is encrypted. */
static int
write_luks (struct q2_create *c, struct qcow2_error *err)
{
  const struct qcow2_create_options *const o = c->options;
  const uint64_t len = q2_create_luks_bytes (o, &c->luks);
  unsigned char *bytes;
  int r;

  if (len == 0)
    return 0;
  if (!q2_assume (len <= c->layout.luks.nr << c->geo.cluster_bits, err))
    return -1;
  bytes = q2_buffer_alloc (len);
  if (bytes == NULL)
    return q2_fail_nomem (err, "the LUKS header");
  r = q2_luks_make (&o->luks, o->passphrase, o->passphrase_len, bytes, err);
  if (r == 0)
    r = q2_io_write (&c->io, bytes, len, c->layout.luks.first <<
                     c->geo.cluster_bits, QCOW2_IO_HEADER, err);
  q2_buffer_free (bytes, len);
  return r;
}

static int
write_all (struct q2_create *c, const unsigned char *header, uint64_t len,
           struct qcow2_error *err)
{
  /* All of the first cluster, and nothing else. */
  if (!q2_assume (len == c->geo.cluster_size &&
                  c->layout.refcount_table.first == 1, err))
    return -1;
  if (write_mark (c, err) == -1 ||
      q2_create_tables (c, err) == -1 ||
      write_luks (c, err) == -1 ||
      prepare_data (c, err) == -1 ||
      prepare_data_file (c, err) == -1)
    return -1;
  if (len > Q2_HEADER_SECTOR &&
      q2_io_write (&c->io, header + Q2_HEADER_SECTOR, len - Q2_HEADER_SECTOR,
                   Q2_HEADER_SECTOR, QCOW2_IO_HEADER, err) == -1)
    return -1;
  if (q2_io_flush (&c->io, err) == -1 ||
      q2_io_write (&c->io, header, Q2_HEADER_SECTOR, 0, QCOW2_IO_HEADER, err)
      == -1)
    return -1;
  return q2_io_flush (&c->io, err);
}

/* The host may have grown the file in larger steps, or there was more in it
 * before.  If that stays it does not matter much.
 */
static void
cut (const struct q2_create *c)
{
  const struct qcow2_io *const host = c->io.host;
  const uint64_t end = q2_max (c->old_size,
                               c->layout.end << c->geo.cluster_bits);

  if (host->ops->cut != NULL && q2_io_size (&c->io) > end)
    host->ops->cut (host->opaque, end);
  else if (host->ops->shorten != NULL)
    host->ops->shorten (host->opaque,
                        c->layout.end << c->geo.cluster_bits);
}

/* A file that cannot hold 'bytes' is left alone. */
static int
check_file (const struct q2_io *io, uint64_t bytes, struct qcow2_error *err)
{
  if (io->host->ops->pwrite == NULL || io->host->ops->flush == NULL)
    return q2_fail (err, QCOW2_ERR_READ_ONLY, 0,
                    "no image can be created: %s cannot be written to",
                    q2_io_file (io));
  if (io->host->ops->grow == NULL && bytes > q2_io_end (io))
    return q2_fail (err, QCOW2_ERR_NO_SPACE, QCOW2_NO_OFFSET,
                    "the new image needs %" PRIu64 " bytes of %s, which has %"
                    PRIu64 " and cannot grow", bytes, q2_io_file (io),
                    q2_io_end (io));
  return 0;
}

static int
check_passphrase (const struct qcow2_create_options *o,
                  struct qcow2_error *err)
{
  if (o->encryption == QCOW2_ENCRYPTION_NONE ||
      (o->passphrase != NULL && o->passphrase_len > 0))
    return 0;
  return q2_fail_advise (err, QCOW2_ERR_INVALID, QCOW2_ADVICE_PASSPHRASE,
                         QCOW2_NO_OFFSET,
                         "an encrypted image needs a passphrase");
}

static int
plan (struct q2_create *c, struct qcow2_error *err)
{
  const struct qcow2_create_options *const o = c->options;
  const bool mapped = o->preallocation != QCOW2_PREALLOCATE_OFF ||
    o->data_file_raw;
  const uint64_t l2_tables = mapped ? c->geo.l1_needed : 0;

  if (q2_layout_init (&c->layout, &c->geo, q2_create_luks_bytes (o, &c->luks),
                      l2_tables, mapped && !c->geo.data_file
                      ? q2_layout_guest_clusters (&c->geo) : 0, err) == -1 ||
      check_file (&c->io, c->layout.end << c->geo.cluster_bits, err) == -1)
    return -1;
  if (o->data_io != NULL &&
      check_file (&c->data_io, c->geo.virtual_size, err) == -1)
    return -1;
  c->progress.total = (c->layout.data.first - 1) << c->geo.cluster_bits;
  if (o->preallocation > QCOW2_PREALLOCATE_METADATA)
    c->progress.total += c->geo.virtual_size;
  return 0;
}

int
qcow2_create (const struct qcow2_io *host,
              const struct qcow2_create_options *options,
              struct qcow2_error *err)
{
  struct q2_io_shared shared = { .file = NULL };
  struct q2_io_shared data_shared = { .file = "the data file" };
  struct q2_create c = {
    .options = options, .old_size = host->size,
    .progress = { .fn = options->progress,
                  .opaque = options->progress_opaque },
    .io = { .host = host, .file_size = host->size, .shared = &shared },
  };
  unsigned char *header = NULL;
  uint64_t len;
  int r = -1;

  q2_io_shared_init (&shared);
  q2_io_shared_init (&data_shared);
  if (options->data_io != NULL)
    c.data_io = (struct q2_io) {
      .host = options->data_io, .file_size = options->data_io->size,
      .shared = &data_shared,
    };
  if (q2_create_check (options, &c.geo, &c.luks, err) == 0 &&
      check_passphrase (options, err) == 0 && plan (&c, err) == 0 &&
      q2_create_header (&c, &header, &len, err) == 0)
    r = write_all (&c, header, len, err);
  if (r == 0)
    cut (&c);
  free (header);
  q2_io_shared_destroy (&data_shared);
  q2_io_shared_destroy (&shared);
  return q2_check_end (err) == -1 ? -1 : r;
}
