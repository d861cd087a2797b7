/* SPDX-License-Identifier: BSD-3-Clause */
/* open.c - from the first bytes of a file to an image that can be read.
 *
 * Owns      the order in which an image is read and its parts are made, and
 *           how many requests that takes.
 * Method    one request brings the head of the file, with the header, and
 *           mostly the L1 and first L2 table and first clusters too: it is
 *           kept, and answers whatever lies in it.  On a slow host a second
 *           request brings those tables if they lie elsewhere.
 *           Other files are opened before the tables are read: an image that
 *           is refused costs nothing more.
 * Locks     none: nobody else knows the image yet.
 */
#include "config.h"

#include "image/image.h"
#include "format/header.h"
#include "meta/header_read.h"

#include "base/be.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* Read in one request when an image is opened: header, refcounts, L1 and
 * first L2 table, and the first data clusters, of an image as qemu-img makes
 * it with clusters of 64 KiB.
 */
#define HEAD_BYTES (UINT64_C (512) << 10)

/* Bytes of guest data that a second request brings along. */
#define FIRST_DATA_BYTES (UINT64_C (64) << 10)

/* Threads that wait for a slow host. */
#define MAX_WORKERS 256

/* Read [start, end) of the file, as far as there is such a thing, and keep
 * it: whatever lies in there costs no request again.  If the host cannot read
 * it all, that concerns whoever needs the part that it cannot.
 */
static int
keep_window (struct qcow2_image *image, const struct qcow2_io *host,
             unsigned i, uint64_t start, uint64_t end,
             struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (image, host);
  struct q2_window *const w = &image->shared.windows[i];
  Q2_CLEANUP_FREE unsigned char *bytes = NULL;

  end = q2_min (end, image->file_size);
  /* A partial last block cannot be read with some hosts; leave it to whom
   * it concerns.
   */
  end = q2_align_down (end, host->min_block);
  if (start >= end)
    return 0;
  bytes = malloc (end - start);
  if (bytes == NULL)
    return q2_fail_nomem (err, "the head of the image");
  if (q2_io_read (&io, bytes, end - start, start, QCOW2_IO_HEADER, err)
      == -1)
    return err->kind == QCOW2_ERR_IO ? 0 : -1;
  *w = (struct q2_window) { q2_take (bytes), start, end };
  return 0;
}

/* On a slow host, a second request that brings what the head did not: the
 * L1 table, or the first L2 table, with what qemu-img puts behind it.
 */
static int
keep_second_window (struct qcow2_image *image, const struct qcow2_io *host,
                    const struct q2_header *h, struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (image, host);
  const uint64_t cluster_size = image->geo.cluster_size;
  const uint64_t head_end = image->shared.windows[0].end;
  const uint64_t l1_end = h->l1_offset + image->geo.l1_needed * 8;
  unsigned char l1e[8];
  uint64_t l2;

  if (!q2_io_is_slow (&io) || image->geo.l1_needed == 0)
    return 0;
  if (l1_end > head_end) {
    if (l1_end - h->l1_offset > cluster_size)
      return 0;                 /* a large table is read by itself */
    return keep_window (image, host, 1, h->l1_offset, h->l1_offset +
                        2 * cluster_size + FIRST_DATA_BYTES, err);
  }
  if (q2_io_read (&io, l1e, sizeof l1e, h->l1_offset, QCOW2_IO_L1, err)
      == -1)
    return -1;
  l2 = q2_l1e_table (&image->geo, load_be64 (l1e));
  if (l2 == 0 || l2 >= image->file_size ||
      l2 + image->geo.l2_table_size <= head_end)
    return 0;
  return keep_window (image, host, 1, l2, l2 + image->geo.l2_table_size +
                      FIRST_DATA_BYTES, err);
}

static const char *
why_data_read_only (const struct qcow2_image *image,
                    const struct q2_header *h)
{
  const struct qcow2_io *const data = image->store.data;

  if (data == NULL)
    return NULL;
  if (data->ops->pwrite == NULL || data->ops->flush == NULL)
    return "its data file cannot be written and flushed";
  if (data->min_block > image->geo.cluster_size)
    return "the minimum block size of its data file is larger than a cluster";
  if (image->store.raw && image->store.below != NULL)
    return "it has both a data file that must equal the disk and a backing "
      "file, which cannot be";
  if (h->nr_snapshots > 0)
    return "it has both a data file and snapshots, which would change with it";
  return NULL;
}

/* Why the image cannot be written to, and what to do about it; NULL if it
 * can.
 */
static const char *
why_read_only (const struct qcow2_image *image, const struct qcow2_io *host,
               const struct q2_header *h, const struct qcow2_options *options,
               enum qcow2_advice *ret_advice)
{
  *ret_advice = QCOW2_ADVICE_NONE;
  if (options->inspect)
    return "it was opened only to see what is inside";
  if (!options->writable)
    return "it was opened for reading";
  if (host->ops->pwrite == NULL || host->ops->flush == NULL)
    return "what holds it cannot be written and flushed";
  if (options->check)           /* a repair does not mind the rest */
    return NULL;
  if (image->store.below_missing)
    return "its backing file is missing";
  if (h->version == 1)
    return "images of version 1 are only read";
  if (h->incompatible & Q2_INCOMPAT_CORRUPT) {
    *ret_advice = QCOW2_ADVICE_REPAIR;
    return "it is marked corrupt";
  }
  if (host->min_block > image->geo.cluster_size)
    return "the minimum block size of what holds it is larger than a cluster";
  return why_data_read_only (image, h);
}

static void
make_superblock (struct qcow2_image *image, const struct qcow2_io *host,
                 const struct q2_header *h,
                 const struct qcow2_options *options)
{
  enum qcow2_advice advice;
  const char *const why = why_read_only (image, host, h, options, &advice);
  const struct qcow2_info info = {
    .writable = why == NULL, .why_read_only = why, .read_only_advice = advice,
    .backing_missing = image->store.below_missing,
  };

  q2_superblock_init (&image->superblock, h, &info);
}

static int
check_lazy (const struct q2_writer *w, struct qcow2_error *err)
{
  return w->lazy != QCOW2_SETTING_ON || w->geo->version >= 3 ? 0
    : q2_fail_advise (err, QCOW2_ERR_UNSUPPORTED, QCOW2_ADVICE_NO_LAZINESS,
                      QCOW2_NO_OFFSET, "lazy refcounts need an image of "
                      "version 3, and this one has version %u",
                      w->geo->version);
}

static int
make_writer (struct qcow2_image *image, const struct qcow2_io *host,
             const struct q2_header *h, const struct qcow2_options *options,
             struct qcow2_error *err)
{
  struct q2_writer *const w = &image->writer;

  w->geo = &image->geo;
  w->superblock = &image->superblock;
  w->reader = &image->reader;
  w->tables = image->reader.tables;
  w->store = &image->store;
  w->discard = options->discard;
  w->keep_snapshot_space = options->keep_snapshot_space;
  w->overlap_check = options->overlap_check;
  w->lazy = options->lazy_refcounts;
  w->ahead = options->refcounts == QCOW2_REFCOUNTS_AHEAD;
  w->track.mode = options->bitmaps;
  w->track.geo = w->geo;
  w->track.superblock = w->superblock;
  w->track.log = options->log;
  w->track.log_opaque = options->log_opaque;
  w->log = options->log;
  w->log_opaque = options->log_opaque;
  w->corrupt = options->corrupt;
  w->corrupt_opaque = options->corrupt_opaque;
  w->compress = options->compress;
  w->detect_zeroes = options->detect_zeroes;
  w->budget = &image->budget;
  if (q2_image_info (image).writable) {
    const struct q2_io io = q2_image_io (image, host);

    if (check_lazy (w, err) == -1 ||
        (options->compress && q2_writer_can_compress (w, err) == -1) ||
        (w->compressors =
         q2_compressors_new (h->compression, options->compress_level,
                             image->reader.cpus, err)) == NULL)
      return -1;
    q2_writer_first_scan (w, &io, options->known_scan);
  }
  return 0;
}

/* Images may end in the middle of their last table, but not before one. */
static void
log_cut_off (const struct qcow2_image *image, const struct q2_header *h,
             const struct qcow2_options *options)
{
  const uint64_t size = image->file_size;
  const uint64_t l1_end = h->l1_offset + image->geo.l1_needed * 8;
  const bool no_l1 = image->geo.l1_needed > 0 && l1_end > size;
  const bool no_refcounts =
    h->version > 1 && h->refcount_table_offset + 8 > size;
  char text[300];

  if (!no_l1 && !no_refcounts)
    return;
  snprintf (text, sizeof text, "the file is cut off: it has %" PRIu64
            " bytes, and its %s at offset 0x%" PRIx64 " lies past the end; "
            "was it downloaded or copied as a whole?  What is missing reads "
            "as zeros", size, no_l1 ? "L1 table" : "refcount table",
            no_l1 ? h->l1_offset : h->refcount_table_offset);
  options->log (options->log_opaque, QCOW2_LOG_WARNING, text,
                QCOW2_ADVICE_NONE);
}

static void
log_oddities (const struct qcow2_image *image, const struct q2_header *h,
              const struct qcow2_options *options)
{
  if (options->log == NULL)
    return;
  log_cut_off (image, h, options);
  if (q2_image_info (image).corrupt)
    options->log (options->log_opaque, QCOW2_LOG_WARNING,
                  "the image is marked corrupt; it is only read, and what "
                  "cannot be read is an error for that request",
                  QCOW2_ADVICE_REPAIR);
  if (q2_image_info (image).dirty)
    options->log (options->log_opaque, QCOW2_LOG_DEBUG,
                  "the image was not closed cleanly; its refcounts are not "
                  "used for reading", QCOW2_ADVICE_NONE);
}

static int
check_codec (const struct q2_header *h, struct qcow2_error *err)
{
  if (h->compression == QCOW2_COMPRESSION_ZSTD && !qcow2_has_zstd ())
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, 104,
                    "the image is compressed with zstd, which this program "
                    "was built without");
  return 0;
}

static unsigned
count_cpus (void)
{
  const long n = sysconf (_SC_NPROCESSORS_ONLN);

  return n < 1 ? 1 : n > 64 ? 64 : (unsigned) n;
}

/* Everything that requests need. */
static int
make_reader (struct qcow2_image *image, const struct q2_io *io,
             const struct q2_header *h, const struct qcow2_options *options,
             struct qcow2_error *err)
{
  struct q2_reader *const r = &image->reader;

  image->cache_size =
    options->cache_size ? options->cache_size : Q2_DEFAULT_CACHE_SIZE;
  image->clusters_charge =
    q2_budget_take_some (&image->budget, 0, options->cluster_cache_size);
  r->cpus = count_cpus ();
  r->store = &image->store;
  q2_streams_init (&r->streams, options->readahead);
  if ((r->tables =
       q2_tables_new (&image->geo, io, h->l1_offset, h->l1_entries,
                      image->cache_size, err)) == NULL ||
      (r->codecs =
       q2_codec_pool_new (h->compression,
                          q2_geometry_max_csize (&image->geo), err))
      == NULL ||
      (r->clusters =
       q2_clusters_new (image->clusters_charge,
                        image->geo.cluster_size, err)) == NULL ||
      (r->ahead = q2_ahead_new (Q2_MAX_AHEAD_BYTES, &image->budget, err))
      == NULL ||
      (r->workers = q2_workers_new (MAX_WORKERS, err)) == NULL)
    return -1;
  image->shared.ahead = r->ahead;
  return 0;
}

static int
init_raw (struct qcow2_image *image, const struct q2_io *io,
          const struct qcow2_options *options, struct qcow2_error *err)
{
  const struct q2_header none = { .version = 0 };
  struct qcow2_info info = {
    .virtual_size = image->file_size,
    .why_read_only = "raw files are only read",
  };

  if (image->file_size > INT64_MAX)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                    "the file is too large: %" PRIu64 " bytes",
                    image->file_size);
  q2_geometry_init_raw (&image->geo, image->file_size);
  info.cluster_size = image->geo.cluster_size;
  if (make_reader (image, io, &none, options, err) == -1)
    return -1;
  q2_superblock_init (&image->superblock, &none, &info);
  return 0;
}

/* Those who check an image hear of its faults from the check. */
static int
decode_header (struct qcow2_image *image, const unsigned char *area,
               size_t len, struct q2_header *h, struct qcow2_error *err)
{
  if (image->check)
    return q2_header_decode_faulty (area, len, h, &image->geo, NULL, NULL,
                                    err);
  if (q2_header_decode (area, len, h, &image->geo, err) == -1)
    return -1;
  return check_codec (h, err);
}

int
q2_image_init (struct qcow2_image *image, const struct qcow2_io *host,
               const struct qcow2_options *options, struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (image, host);
  const uint64_t head =
    options->readahead > 0 && !image->inspect ? HEAD_BYTES : 0;
  Q2_CLEANUP_FREE unsigned char *area = NULL;
  struct q2_header h;
  size_t area_len;

  if (options->raw)
    return init_raw (image, &io, options, err);
  if (image->file_size == 0)
    return q2_fail_advise (err, QCOW2_ERR_FORMAT, QCOW2_ADVICE_CREATE, 0,
                           "not a qcow2 image: the file is empty");
  if (keep_window (image, host, 0, 0, head, err) == -1 ||
      (area = q2_header_read (&io, &area_len, err)) == NULL ||
      decode_header (image, area, area_len, &h, err) == -1 ||
      (head > 0 && keep_second_window (image, host, &h, err) == -1))
    return -1;
  if (image->inspect) {
    make_superblock (image, host, &h, options);
    return 0;
  }
  if (q2_attach (&image->store, &io, &h, options, err) == -1 ||
      make_reader (image, &io, &h, options, err) == -1)
    return -1;
  make_superblock (image, host, &h, options);
  if (make_writer (image, host, &h, options, err) == -1)
    return -1;
  log_oddities (image, &h, options);
  return 0;
}
