/* SPDX-License-Identifier: BSD-3-Clause */
/* zstd.c - zstd frames by libzstd's streaming decoder.
 *
 * Owns      the library's context.
 * Method    the one-shot call cannot be used: it wants to know where the
 *           frames end, and the size of a compressed cluster is only known
 *           to sector precision.  The stream decoder stops by itself, and
 *           when a whole frame is in the input and there is room for its
 *           output it takes the same fast path.
 * Locks     none; one context per thread.
 */
#include "config.h"

#include "codec/zstd.h"

#include <stdlib.h>

#ifdef HAVE_ZSTD
#include <zstd.h>

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
  /* A frame whose window is larger than any cluster would make the decoder
   * allocate what a stranger wrote into the frame's header.
   */
  ZSTD_DCtx_setParameter (unzstd->ctx, ZSTD_d_windowLogMax, 23);
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

const char *
q2_unzstd (struct q2_unzstd *unzstd, const void *in, size_t in_len,
           void *out, size_t out_len)
{
  ZSTD_inBuffer src = { in, in_len, 0 };
  ZSTD_outBuffer dst = { out, out_len, 0 };
  size_t left = 1;              /* 0: at the end of a frame */

  ZSTD_DCtx_reset (unzstd->ctx, ZSTD_reset_session_only);
  while (dst.pos < dst.size) {
    const size_t src_before = src.pos, dst_before = dst.pos;

    left = ZSTD_decompressStream (unzstd->ctx, &dst, &src);
    if (ZSTD_isError (left))
      return "invalid zstd frame";
    if (src.pos == src_before && dst.pos == dst_before)
      return "the zstd frames end before the cluster is full";
  }
  return left == 0 ? NULL : "the zstd frame does not end with the cluster";
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
  return "this program was built without zstd";
}

#endif
