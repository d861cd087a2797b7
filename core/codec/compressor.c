/* SPDX-License-Identifier: BSD-3-Clause */
/* compressor.c - makes the streams of compressed clusters.
 *
 * Owns      the contexts, which it lends (base/lending.h) until the image is
 *           closed.
 * Method    streams are raw deflate streams, by libdeflate if there is one,
 *           else by zlib, or zstd frames.
 *
 *           Distances go up to 32 KiB.  QEMU writes only up to 4 KiB, and asks
 *           zlib for a window of that size when it reads; but it reads a
 *           stream with one call, and then zlib needs no window.
 * Locks     lending.lock.  Whoever has a context only computes.
 */
#include "config.h"

#include "codec/compressor.h"

#include "base/bits.h"
#include "base/error.h"
#include "base/lending.h"

#include <limits.h>
#include <stdlib.h>

#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#elif defined HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#define MAX_DEFLATE_LEVEL 12
#define MAX_ZLIB_LEVEL 9
#define MAX_ZSTD_LEVEL 19
#define USUAL_DEFLATE_LEVEL 6
#define USUAL_ZSTD_LEVEL 3

struct context {
  struct q2_lent lent;          /* first */
#ifdef HAVE_LIBDEFLATE
  struct libdeflate_compressor *deflate;
#elif defined HAVE_ZLIB
  z_stream zs;
  bool ready;
#endif
#ifdef HAVE_ZSTD
  ZSTD_CCtx *zstd;
#endif
};

struct q2_compressors {
  enum qcow2_compression compression;
  int level;
  struct q2_lending lending;
};

bool
q2_can_compress (enum qcow2_compression compression)
{
  (void) compression;
#if defined HAVE_LIBDEFLATE || defined HAVE_ZLIB
  if (compression == QCOW2_COMPRESSION_ZLIB)
    return true;
#endif
#ifdef HAVE_ZSTD
  if (compression == QCOW2_COMPRESSION_ZSTD)
    return true;
#endif
  return false;
}

static int
choose_level (enum qcow2_compression compression, unsigned level)
{
  if (compression == QCOW2_COMPRESSION_ZSTD)
    return level == 0 ? USUAL_ZSTD_LEVEL
      : (int) q2_min (level, MAX_ZSTD_LEVEL);
#ifdef HAVE_LIBDEFLATE
  return level == 0 ? USUAL_DEFLATE_LEVEL
    : (int) q2_min (level, MAX_DEFLATE_LEVEL);
#else
  return level == 0 ? USUAL_DEFLATE_LEVEL
    : (int) q2_min (level, MAX_ZLIB_LEVEL);
#endif
}

struct q2_compressors *
q2_compressors_new (enum qcow2_compression compression, unsigned level,
                    unsigned max, struct qcow2_error *err)
{
  struct q2_compressors *c = calloc (1, sizeof *c);

  if (c == NULL) {
    q2_fail_nomem (err, "compression");
    return NULL;
  }
  c->compression = compression;
  c->level = choose_level (compression, level);
  q2_lending_init (&c->lending, (unsigned) q2_max (max, 1));
  return c;
}

/* ---- Contexts ------------------------------------------------------- */

static void
context_free (void *lent)
{
  struct context *const x = lent;

#ifdef HAVE_LIBDEFLATE
  if (x->deflate != NULL)
    libdeflate_free_compressor (x->deflate);
#elif defined HAVE_ZLIB
  if (x->ready)
    deflateEnd (&x->zs);
#endif
#ifdef HAVE_ZSTD
  ZSTD_freeCCtx (x->zstd);
#endif
  free (x);
}

void
q2_compressors_free (struct q2_compressors *c)
{
  if (c == NULL)
    return;
  q2_lending_destroy (&c->lending, context_free);
  free (c);
}

/* Make what the method needs; false if there is no memory. */
static bool
prepare (const struct q2_compressors *c, struct context *x)
{
  (void) c;
  (void) x;
#ifdef HAVE_ZSTD
  if (c->compression == QCOW2_COMPRESSION_ZSTD) {
    x->zstd = ZSTD_createCCtx ();
    return x->zstd != NULL;
  }
#endif
#ifdef HAVE_LIBDEFLATE
  x->deflate = libdeflate_alloc_compressor (c->level);
  return x->deflate != NULL;
#elif defined HAVE_ZLIB
  x->ready = deflateInit2 (&x->zs, c->level, Z_DEFLATED, -15, 9,
                           Z_DEFAULT_STRATEGY) == Z_OK;
  return x->ready;
#else
  return false;
#endif
}

static void *
context_new (const void *owner)
{
  struct context *x = calloc (1, sizeof *x);

  if (x == NULL)
    return NULL;
  if (prepare (owner, x))
    return x;
  context_free (x);
  return NULL;
}

/* ---- Compressing ---------------------------------------------------- */

static size_t
deflate_with (struct context *x, const void *in, size_t len, void *out,
              size_t max)
{
#ifdef HAVE_LIBDEFLATE
  return libdeflate_deflate_compress (x->deflate, in, len, out, max);
#elif defined HAVE_ZLIB
  z_stream *const zs = &x->zs;

  if (len > UINT_MAX || deflateReset (zs) != Z_OK)
    return 0;
  zs->next_in = (void *) in;
  zs->avail_in = (uInt) len;
  zs->next_out = out;
  zs->avail_out = (uInt) max;
  return deflate (zs, Z_FINISH) == Z_STREAM_END ? max - zs->avail_out : 0;
#else
  (void) x; (void) in; (void) len; (void) out; (void) max;
  return 0;
#endif
}

static size_t
compress_with (const struct q2_compressors *c, struct context *x,
               const void *in, size_t len, void *out, size_t max)
{
  (void) c;
#ifdef HAVE_ZSTD
  if (c->compression == QCOW2_COMPRESSION_ZSTD) {
    const size_t size =
      ZSTD_compressCCtx (x->zstd, out, max, in, len, c->level);

    return ZSTD_isError (size) ? 0 : size;
  }
#endif
  return deflate_with (x, in, len, out, max);
}

size_t
q2_compress (struct q2_compressors *c, const void *in, size_t len, void *out,
             size_t max)
{
  struct context *const x = q2_lending_borrow (&c->lending, context_new, c);
  size_t size;

  if (x == NULL)
    return 0;
  size = compress_with (c, x, in, len, out, max);
  q2_lending_return (&c->lending, &x->lent);
  return size;
}
