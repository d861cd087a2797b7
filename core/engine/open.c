/* SPDX-License-Identifier: BSD-3-Clause */
/* open.c - opening and closing images; the public functions of qcow2.h.
 *
 * Owns      struct qcow2_image: which parts an image consists of, the order
 *           they are made in, and the checks every public call starts with.
 * Locks     none: everything in the image is constant after qcow2_open, or
 *           guards itself.
 */
#include "config.h"

#include "engine/reader.h"
#include "format/header.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/error.h"

#include <inttypes.h>
#include <string.h>

#define DEFAULT_CACHE_SIZE (UINT64_C (32) << 20)

struct qcow2_image {
  struct q2_geometry geo;
  struct qcow2_info info;
  uint64_t file_size;
  struct q2_tables *tables;
  struct q2_codec_pool *codecs;
  struct q2_reader reader;
};

/* ---- Opening --------------------------------------------------------- */

static void
fill_info (struct qcow2_image *image, const struct q2_header *h)
{
  image->info = (struct qcow2_info) {
    .version = h->version,
    .virtual_size = h->virtual_size,
    .cluster_size = image->geo.cluster_size,
    .refcount_bits = h->version == 1 ? 0 : 1u << h->refcount_order,
    .extended_l2 = image->geo.extended_l2,
    .compression = h->compression,
    .dirty = h->incompatible & Q2_INCOMPAT_DIRTY,
    .corrupt = h->incompatible & Q2_INCOMPAT_CORRUPT,
    .lazy_refcounts = h->compatible & Q2_COMPAT_LAZY_REFCOUNTS,
    .nr_snapshots = h->nr_snapshots,
    .nr_bitmaps = h->nr_bitmaps,
  };
}

/* Read the header area into a new buffer. */
static unsigned char *
read_header_area (const struct q2_io *io, size_t *ret_len,
                  struct qcow2_error *err)
{
  unsigned char probe[Q2_HEADER_PROBE];
  Q2_CLEANUP_FREE unsigned char *area = NULL;
  size_t len;

  if (q2_io_read (io, probe, sizeof probe, 0, QCOW2_IO_HEADER, err) == -1)
    return NULL;
  len = q2_header_area (probe);
  area = malloc (len);
  if (area == NULL) {
    q2_fail_nomem (err, "the image header");
    return NULL;
  }
  memcpy (area, probe, q2_min (len, sizeof probe));
  if (len > sizeof probe &&
      q2_io_read (io, area + sizeof probe, len - sizeof probe, sizeof probe,
                  QCOW2_IO_HEADER, err) == -1)
    return NULL;
  *ret_len = len;
  return q2_take (area);
}

static void
log_oddities (const struct qcow2_image *image,
              const struct qcow2_options *options)
{
  if (options->log == NULL)
    return;
  if (image->info.corrupt)
    options->log (options->log_opaque, QCOW2_LOG_WARNING,
                  "the image is marked corrupt; it is served read-only, and "
                  "what cannot be read is an error for that request");
  if (image->info.dirty)
    options->log (options->log_opaque, QCOW2_LOG_DEBUG,
                  "the image was not closed cleanly; its refcounts are not "
                  "used for reading");
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

static int
open_parts (struct qcow2_image *image, const struct q2_io *io,
            const struct qcow2_options *options, struct qcow2_error *err)
{
  Q2_CLEANUP_FREE unsigned char *area = NULL;
  struct q2_header h;
  size_t area_len;

  area = read_header_area (io, &area_len, err);
  if (area == NULL ||
      q2_header_decode (area, area_len, &h, &image->geo, err) == -1 ||
      q2_header_check_served (&h, area, area_len, err) == -1 ||
      check_codec (&h, err) == -1)
    return -1;
  fill_info (image, &h);

  image->tables =
    q2_tables_new (&image->geo, io, h.l1_offset, h.l1_entries,
                   options->cache_size ? options->cache_size
                   : DEFAULT_CACHE_SIZE, err);
  if (image->tables == NULL)
    return -1;
  image->codecs =
    q2_codec_pool_new (h.compression, image->geo.cluster_size,
                       q2_geometry_max_csize (&image->geo), err);
  if (image->codecs == NULL)
    return -1;
  image->reader = (struct q2_reader) { image->tables, image->codecs };
  log_oddities (image, options);
  return 0;
}

struct qcow2_image *
qcow2_open (const struct qcow2_io *host, const struct qcow2_options *options,
            struct qcow2_error *err)
{
  const struct q2_io io = { host, host->size };
  struct qcow2_image *image = calloc (1, sizeof *image);

  if (image == NULL) {
    q2_fail_nomem (err, "the image");
    return NULL;
  }
  image->file_size = host->size;
  if (open_parts (image, &io, options, err) == -1) {
    qcow2_close (image);
    return NULL;
  }
  return image;
}

void
qcow2_close (struct qcow2_image *image)
{
  if (image == NULL)
    return;
  q2_codec_pool_free (image->codecs);
  q2_tables_free (image->tables);
  free (image);
}

const struct qcow2_info *
qcow2_get_info (const struct qcow2_image *image)
{
  return &image->info;
}

/* ---- Requests -------------------------------------------------------- */

static int
check_range (const struct qcow2_image *image, uint64_t count,
             uint64_t guest_off, struct qcow2_error *err)
{
  const uint64_t size = image->info.virtual_size;

  if (guest_off > size || count > size - guest_off)
    return q2_fail (err, QCOW2_ERR_RANGE, QCOW2_NO_OFFSET,
                    "request for %" PRIu64 " bytes at disk offset 0x%" PRIx64
                    " is outside the disk of %" PRIu64 " bytes", count,
                    guest_off, size);
  return 0;
}

int
qcow2_pread (struct qcow2_image *image, const struct qcow2_io *host,
             void *buf, uint32_t count, uint64_t guest_off,
             struct qcow2_error *err)
{
  const struct q2_io io = { host, image->file_size };

  if (check_range (image, count, guest_off, err) == -1)
    return -1;
  return q2_reader_pread (&image->reader, &io, buf, count, guest_off, err);
}

int
qcow2_extents (struct qcow2_image *image, const struct qcow2_io *host,
               uint64_t count, uint64_t guest_off, qcow2_extent_fn fn,
               void *fn_opaque, struct qcow2_error *err)
{
  const struct q2_io io = { host, image->file_size };

  if (check_range (image, count, guest_off, err) == -1)
    return -1;
  return q2_reader_extents (&image->reader, &io, count, guest_off, fn,
                            fn_opaque, err);
}

int
qcow2_cache (struct qcow2_image *image, const struct qcow2_io *host,
             uint32_t count, uint64_t guest_off, struct qcow2_error *err)
{
  const struct q2_io io = { host, image->file_size };

  if (check_range (image, count, guest_off, err) == -1)
    return -1;
  return q2_reader_cache (&image->reader, &io, count, guest_off, err);
}

/* ---- The library ------------------------------------------------------ */

const char *
qcow2_version (void)
{
  return PACKAGE_VERSION;
}

bool
qcow2_has_zlib (void)
{
#ifdef HAVE_ZLIB
  return true;
#else
  return false;
#endif
}

bool
qcow2_has_libdeflate (void)
{
#ifdef HAVE_LIBDEFLATE
  return true;
#else
  return false;
#endif
}

bool
qcow2_has_zstd (void)
{
#ifdef HAVE_ZSTD
  return true;
#else
  return false;
#endif
}
