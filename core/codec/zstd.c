/* SPDX-License-Identifier: BSD-3-Clause */
/* zstd.c - zstd frames, decompressed by libzstd.
 *
 * Owns      the library's context.
 * Method    the size of a compressed cluster is known only in sectors.  So we
 *           first ask the library where a frame ends, then decompress that
 *           frame with one call, straight into the output.  The streaming
 *           calls would find the end by themselves, but allocate the window
 *           that the frame's header, which is not trusted, asks for: up to 128
 *           MiB per thread.
 * Locks     none; one context per thread.
 */
#include "config.h"

#include "codec/zstd.h"

#include "codec/fault.h"

#include <stdlib.h>

#ifdef HAVE_ZSTD
#include <zstd.h>
#include <zstd_errors.h>

struct q2_unzstd {
  ZSTD_DCtx *ctx;
};

struct q2_unzstd *
q2_unzstd_new (void)
{
  struct q2_unzstd *unzstd = malloc (sizeof *unzstd);

  if (unzstd == NULL)
    return NULL;
  unzstd->ctx = ZSTD_createDCtx ();
  if (unzstd->ctx == NULL) {
    free (unzstd);
    return NULL;
  }
  return unzstd;
}

void
q2_unzstd_free (struct q2_unzstd *unzstd)
{
  if (unzstd == NULL)
    return;
  ZSTD_freeDCtx (unzstd->ctx);
  free (unzstd);
}

static const char *
fault_of (ZSTD_ErrorCode code)
{
  return code == ZSTD_error_memory_allocation ? q2_codec_no_memory
    : code == ZSTD_error_dstSize_tooSmall
    ? "the zstd frame does not end with the cluster"
    : "invalid zstd frame";
}

const char *
q2_unzstd (struct q2_unzstd *unzstd, const void *in, size_t in_len,
           void *out, size_t out_len)
{
  const unsigned char *src = in;
  unsigned char *dst = out;

  while (out_len > 0) {
    const size_t frame = ZSTD_findFrameCompressedSize (src, in_len);
    size_t made;

    if (ZSTD_isError (frame))
      return in_len == 0 || src != in
        ? "the zstd frames end before the cluster is full"
        : "invalid zstd frame";
    made = ZSTD_decompressDCtx (unzstd->ctx, dst, out_len, src, frame);
    if (ZSTD_isError (made))
      return fault_of (ZSTD_getErrorCode (made));
    src += frame;
    in_len -= frame;
    dst += made;
    out_len -= made;
  }
  return NULL;
}

#else /* !HAVE_ZSTD */

struct q2_unzstd {
  char unused_;
};

struct q2_unzstd *
q2_unzstd_new (void)
{
  return malloc (sizeof (struct q2_unzstd));
}

void
q2_unzstd_free (struct q2_unzstd *unzstd)
{
  free (unzstd);
}

const char *
q2_unzstd (struct q2_unzstd *unzstd, const void *in, size_t in_len,
           void *out, size_t out_len)
{
  (void) unzstd; (void) in; (void) in_len; (void) out; (void) out_len;
  return q2_codec_no_library;
}

#endif
