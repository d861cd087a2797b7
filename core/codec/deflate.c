/* SPDX-License-Identifier: BSD-3-Clause */
/* deflate.c - raw deflate by libdeflate, with zlib as the fallback.
 *
 * Owns      the two libraries' contexts.
 * Method    libdeflate is more than twice as fast, but requires that the
 *           stream ends inside the input and the output.  The format promises
 *           neither, and zlib requires neither: zlib decides about each stream
 *           that libdeflate refuses.
 * Locks     none; one context per thread.
 */
#include "config.h"

#include "codec/deflate.h"

#include "codec/fault.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>

#ifdef HAVE_ZLIB
#define ZLIB_CONST
#include <zlib.h>
#endif
#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif

struct q2_inflater {
#ifdef HAVE_ZLIB
  z_stream zs;
  bool zs_ready;                /* inflateInit2 was called, at the first use */
#endif
#ifdef HAVE_LIBDEFLATE
  struct libdeflate_decompressor *fast;
#endif
  char unused_;                 /* avoids an empty struct */
};

struct q2_inflater *
q2_inflater_new (void)
{
  struct q2_inflater *inflater = calloc (1, sizeof *inflater);

  if (inflater == NULL)
    return NULL;
#ifdef HAVE_LIBDEFLATE
  inflater->fast = libdeflate_alloc_decompressor ();
  if (inflater->fast == NULL) {
    free (inflater);
    return NULL;
  }
#endif
  return inflater;
}

void
q2_inflater_free (struct q2_inflater *inflater)
{
  if (inflater == NULL)
    return;
#ifdef HAVE_ZLIB
  if (inflater->zs_ready)
    inflateEnd (&inflater->zs);
#endif
#ifdef HAVE_LIBDEFLATE
  libdeflate_free_decompressor (inflater->fast);
#endif
  free (inflater);
}

#ifdef HAVE_ZLIB
static const char *
inflate_zlib (struct q2_inflater *inflater, const void *in, size_t in_len,
              void *out, size_t out_len)
{
  z_stream *const zs = &inflater->zs;
  int r;

  if (in_len > UINT_MAX || out_len > UINT_MAX)
    return "the stream is too long";
  /* The largest window: writers other than QEMU use it. */
  if (!inflater->zs_ready) {
    if (inflateInit2 (zs, -15) != Z_OK)
      return q2_codec_no_memory;
    inflater->zs_ready = true;
  }
  else
    inflateReset (zs);

  zs->next_in = in;
  zs->avail_in = (uInt) in_len;
  zs->next_out = out;
  zs->avail_out = (uInt) out_len;
  r = inflate (zs, Z_FINISH);
  if (r == Z_MEM_ERROR)
    return q2_codec_no_memory;
  if (zs->avail_out == 0 && (r == Z_STREAM_END || r == Z_BUF_ERROR))
    return NULL;
  if (r == Z_STREAM_END || r == Z_BUF_ERROR)
    return "the deflate stream ends before the cluster is full";
  return "invalid deflate stream";
}
#endif

const char *
q2_inflate (struct q2_inflater *inflater, const void *in, size_t in_len,
            void *out, size_t out_len)
{
#ifdef HAVE_LIBDEFLATE
  size_t used, made;

  if (libdeflate_deflate_decompress_ex (inflater->fast, in, in_len, out,
                                        out_len, &used, &made)
      == LIBDEFLATE_SUCCESS && made == out_len)
    return NULL;
#endif
#ifdef HAVE_ZLIB
  return inflate_zlib (inflater, in, in_len, out, out_len);
#else
  (void) inflater; (void) in; (void) in_len; (void) out; (void) out_len;
  return q2_codec_no_library;
#endif
}
