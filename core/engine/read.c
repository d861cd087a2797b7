/* SPDX-License-Identifier: BSD-3-Clause */
/* read.c - bytes of the disk, and cache hints.
 *
 * Owns      turning runs into host requests.
 * Method    a data run is one host request straight into the caller's
 *           buffer.  A compressed cluster is read into a codec's buffer and
 *           decompressed into the caller's where the whole cluster was
 *           asked for, else into the codec's and copied.
 * Locks     none held over I/O; a codec may be held while its stream is
 *           being read.
 */
#include "config.h"

#include "engine/reader.h"

#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>
#include <string.h>

/* Runs mapped at a time: enough for a 2 MiB request of scattered 64 KiB
 * clusters, small enough for the stack.
 */
#define MAX_RUNS 32

/* Decompress the cluster behind the run with a codec in hand. */
static int
inflate_run (const struct q2_reader *r, struct q2_codec *codec,
             const struct q2_io *io, const struct q2_run *run, void *buf,
             struct qcow2_error *err)
{
  const uint64_t cluster_size = q2_tables_geometry (r->tables)->cluster_size;
  const uint64_t skip = run->guest_off & (cluster_size - 1);
  const bool whole = run->len == cluster_size;
  void *const in = q2_codec_in (codec);
  void *const out = whole ? buf : q2_codec_out (codec);
  const char *problem;

  if (in == NULL || out == NULL)
    return q2_fail_nomem (err, "a compressed cluster");
  if (q2_io_read (io, in, run->csize, run->host_off, QCOW2_IO_COMPRESSED,
                  err) == -1)
    return -1;
  problem = q2_codec_decompress (codec, run->csize, out, cluster_size);
  if (problem)
    return q2_fail (err, QCOW2_ERR_CORRUPT, run->host_off,
                    "the compressed cluster of at most %" PRIu64 " bytes at "
                    "offset 0x%" PRIx64 " (disk offset 0x%" PRIx64 ") cannot "
                    "be decompressed: %s", run->csize, run->host_off,
                    run->guest_off - skip, problem);
  if (!whole)
    memcpy (buf, (unsigned char *) out + skip, run->len);
  return 0;
}

static int
read_compressed (const struct q2_reader *r, const struct q2_io *io,
                 const struct q2_run *run, void *buf,
                 struct qcow2_error *err)
{
  struct q2_codec *const codec = q2_codec_get (r->codecs, err);
  int ret;

  if (codec == NULL)
    return -1;
  ret = inflate_run (r, codec, io, run, buf, err);
  q2_codec_put (r->codecs, codec);
  return ret;
}

static int
read_run (const struct q2_reader *r, const struct q2_io *io,
          const struct q2_run *run, void *buf, struct qcow2_error *err)
{
  switch (run->kind) {
  case Q2_RUN_UNALLOCATED:
  case Q2_RUN_ZERO:
    memset (buf, 0, run->len);
    return 0;
  case Q2_RUN_DATA:
    return q2_io_read (io, buf, run->len, run->host_off, QCOW2_IO_DATA, err);
  case Q2_RUN_COMPRESSED:
    return read_compressed (r, io, run, buf, err);
  }
  return -1;
}

int
q2_reader_pread (struct q2_reader *r, const struct q2_io *io, void *buf,
                 uint64_t count, uint64_t guest_off, struct qcow2_error *err)
{
  unsigned char *p = buf;

  while (count > 0) {
    struct q2_run runs[MAX_RUNS];
    size_t nr;

    if (q2_map_runs (r->tables, io, guest_off, count, runs, MAX_RUNS, &nr,
                     err) == -1)
      return -1;
    for (size_t i = 0; i < nr; ++i) {
      if (read_run (r, io, &runs[i], p, err) == -1)
        return -1;
      p += runs[i].len;
      guest_off += runs[i].len;
      count -= runs[i].len;
    }
  }
  return 0;
}

int
q2_reader_cache (struct q2_reader *r, const struct q2_io *io, uint64_t count,
                 uint64_t guest_off, struct qcow2_error *err)
{
  while (count > 0) {
    struct q2_run runs[MAX_RUNS];
    size_t nr;

    if (q2_map_runs (r->tables, io, guest_off, count, runs, MAX_RUNS, &nr,
                     err) == -1)
      return -1;
    for (size_t i = 0; i < nr; ++i) {
      const struct q2_run *const run = &runs[i];

      if (run->kind == Q2_RUN_DATA || run->kind == Q2_RUN_COMPRESSED) {
        const uint64_t len =
          run->kind == Q2_RUN_DATA ? run->len : run->csize;

        if (q2_io_cache (io, len, run->host_off, err) == -1)
          return -1;
      }
      guest_off += run->len;
      count -= run->len;
    }
  }
  return 0;
}
