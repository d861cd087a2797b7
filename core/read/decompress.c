/* SPDX-License-Identifier: BSD-3-Clause */
/* decompress.c - reads one compressed cluster.
 *
 * Owns      reading a compressed run into the caller's buffer.
 * Method    a request for the whole cluster is decompressed straight into the
 *           caller's buffer.  For a smaller one the cluster goes through the
 *           cache of decompressed clusters, since its other parts are likely
 *           to be asked for next.  If the ahead buffers have the stream, it is
 *           used in place.
 * Locks     none held over I/O or decompression; a codec may be held while
 *           its stream is being read.
 */
#include "config.h"

#include "read/reader.h"

#include "base/bits.h"
#include "base/error.h"
#include "codec/fault.h"

#include <errno.h>
#include <inttypes.h>

struct cluster {
  struct q2_reader *reader;
  const struct q2_io *io;
  const struct q2_run *run;
};

/* A stream that makes no sense is no fault of the image's structures: these
 * bytes of the disk are lost, as behind a bad sector.  So it is no reason to
 * mark the image as corrupt when a client writes to a part of such a cluster.
 */
static int
fail_decompress (const struct cluster *c, const char *fault,
                 struct qcow2_error *err)
{
  const struct q2_run *const run = c->run;
  const uint64_t cluster_size =
    q2_tables_geometry (c->reader->tables)->cluster_size;
  const uint64_t size = q2_io_size (c->io);

  if (fault == q2_codec_no_memory)
    return q2_fail_nomem (err, "decompression");
  if (fault == q2_codec_no_library)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, run->host_off,
                    "the cluster at disk offset 0x%" PRIx64 " is compressed, "
                    "and this program was built without the library that "
                    "decompresses it (zlib)",
                    q2_align_down (run->guest_off, cluster_size));
  return q2_fail_io (err, EIO, run->host_off,
                     "the compressed cluster of at most %" PRIu64 " bytes at "
                     "offset 0x%" PRIx64 " (disk offset 0x%" PRIx64 ") cannot "
                     "be decompressed: %s%s", run->csize, run->host_off,
                     q2_align_down (run->guest_off, cluster_size),
                     run->host_off + run->csize <= size ? ""
                     : run->host_off < size
                     ? "the file ends in it, so it may be cut off: "
                     : "it lies past the end of the file, which is cut off: ",
                     fault);
}

static int
decompress (const struct cluster *c, struct q2_codec *codec,
            const void *stream, void *out, struct qcow2_error *err)
{
  const uint64_t cluster_size =
    q2_tables_geometry (c->reader->tables)->cluster_size;
  const char *const fault =
    q2_codec_decompress (codec, stream, c->run->csize, out, cluster_size);

  /* csize is an upper bound, so the last stream may be shorter. */
  if (fault)
    return fail_decompress (c, fault, err);
  atomic_fetch_add_explicit (&c->reader->inflated_bytes, cluster_size,
                             memory_order_relaxed);
  return 0;
}

/* Use the codec's own buffer: the stream crosses a border between ahead
 * buffers, or is read from the host.
 */
static int
read_and_decompress (const struct cluster *c, struct q2_codec *codec,
                     void *out, struct qcow2_error *err)
{
  const struct q2_run *const run = c->run;
  unsigned char *const in = q2_codec_in (codec);
  uint64_t done = 0;

  if (in == NULL)
    return q2_fail_nomem (err, "a compressed cluster");
  if (q2_ahead_any (c->reader->ahead))
    done = q2_ahead_copy (c->reader->ahead, in, run->csize, run->host_off);
  if (done < run->csize &&
      q2_io_read (c->io, in + done, run->csize - done, run->host_off + done,
                  QCOW2_IO_COMPRESSED, err) == -1)
    return -1;
  return decompress (c, codec, in, out, err);
}

static int
with_codec (const struct cluster *c, const void *stream, void *out,
            struct qcow2_error *err)
{
  struct q2_codec *const codec = q2_codec_get (c->reader->codecs, err);
  int ret;

  if (codec == NULL)
    return -1;
  ret = stream ? decompress (c, codec, stream, out, err)
    : read_and_decompress (c, codec, out, err);
  q2_codec_put (c->reader->codecs, codec);
  return ret;
}

/* Decompress the whole cluster to 'out'. */
static int
make_cluster (void *arg, void *out, struct qcow2_error *err)
{
  const struct cluster *const c = arg;
  struct q2_ahead *const ahead = c->reader->ahead;
  struct q2_ahead_buf *pinned;
  const unsigned char *stream = NULL;
  int ret;

  /* Wait for a buffer before taking a codec, since there are few codecs. */
  if (q2_ahead_any (ahead))
    stream = q2_ahead_pin (ahead, c->run->csize, c->run->host_off, &pinned);
  ret = with_codec (c, stream, out, err);
  if (stream)
    q2_ahead_unpin (ahead, pinned);
  return ret;
}

int
q2_decompress_run (struct q2_reader *r, const struct q2_io *io,
                   const struct q2_run *run, void *buf,
                   struct qcow2_error *err)
{
  const uint64_t cluster_size = q2_tables_geometry (r->tables)->cluster_size;
  const uint64_t skip = run->guest_off & (cluster_size - 1);
  const struct q2_cluster_key key = { run->host_off, run->csize };
  struct cluster c = { r, io, run };

  if (run->len == cluster_size)
    return q2_clusters_lookup (r->clusters, &key, 0, buf, cluster_size)
      ? 0 : make_cluster (&c, buf, err);
  return q2_clusters_read (r->clusters, &key, skip, buf, run->len,
                           make_cluster, &c, err);
}
