/* SPDX-License-Identifier: BSD-3-Clause */
/* pool.c - the decompression contexts of one image.
 *
 * Owns      the contexts, which it lends (base/lending.h): up to MAX_CODECS of
 *           them, or MAX_BYTES of buffers, until the image is closed.
 * Locks     lending.lock.
 */
#include "config.h"

#include "codec/deflate.h"
#include "codec/pool.h"
#include "codec/zstd.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/lending.h"

#include <stdlib.h>

/* All buffers of one image's contexts together.  It is enough for four of the
 * largest clusters, 2 MiB, whose streams may claim to have twice that.
 */
#define MAX_BYTES (UINT64_C (16) << 20)
#define MAX_CODECS 64

struct q2_codec {
  struct q2_lent lent;          /* first */
  const struct q2_codec_pool *pool;
  struct q2_inflater *inflater;
  struct q2_unzstd *unzstd;
  void *in;                     /* allocated by the first q2_codec_in */
};

struct q2_codec_pool {
  enum qcow2_compression compression;
  size_t max_csize;
  struct q2_lending lending;
};

struct q2_codec_pool *
q2_codec_pool_new (enum qcow2_compression compression, size_t max_csize,
                   struct qcow2_error *err)
{
  struct q2_codec_pool *pool = calloc (1, sizeof *pool);

  if (pool == NULL) {
    q2_fail_nomem (err, "decompression");
    return NULL;
  }
  pool->compression = compression;
  pool->max_csize = max_csize;
  q2_lending_init (&pool->lending, (unsigned)
                   q2_min (MAX_BYTES / max_csize, MAX_CODECS));
  return pool;
}

static void
codec_free (void *lent)
{
  struct q2_codec *const codec = lent;

  q2_inflater_free (codec->inflater);
  q2_unzstd_free (codec->unzstd);
  q2_buffer_free (codec->in, codec->pool->max_csize);
  free (codec);
}

void
q2_codec_pool_free (struct q2_codec_pool *pool)
{
  if (pool == NULL)
    return;
  q2_lending_destroy (&pool->lending, codec_free);
  free (pool);
}

static void *
codec_new (const void *owner)
{
  const struct q2_codec_pool *const pool = owner;
  struct q2_codec *codec = calloc (1, sizeof *codec);

  if (codec == NULL)
    return NULL;
  codec->pool = pool;
  if (pool->compression == QCOW2_COMPRESSION_ZSTD)
    codec->unzstd = q2_unzstd_new ();
  else
    codec->inflater = q2_inflater_new ();
  if (codec->unzstd == NULL && codec->inflater == NULL) {
    free (codec);
    return NULL;
  }
  return codec;
}

struct q2_codec *
q2_codec_get (struct q2_codec_pool *pool, struct qcow2_error *err)
{
  struct q2_codec *const codec =
    q2_lending_borrow (&pool->lending, codec_new, pool);

  if (codec == NULL)
    q2_fail_nomem (err, "decompression");
  return codec;
}

void
q2_codec_put (struct q2_codec_pool *pool, struct q2_codec *codec)
{
  (void) q2_check (codec->pool == pool);
  q2_lending_return (&pool->lending, &codec->lent);
}

void *
q2_codec_in (struct q2_codec *codec)
{
  if (codec->in == NULL)
    codec->in = q2_buffer_alloc (codec->pool->max_csize);
  return codec->in;
}

const char *
q2_codec_decompress (struct q2_codec *codec, const void *in, size_t in_len,
                     void *out, size_t out_len)
{
  (void) q2_check ((codec->unzstd == NULL) != (codec->inflater == NULL));
  (void) q2_check (in_len <= codec->pool->max_csize);
  return codec->unzstd
    ? q2_unzstd (codec->unzstd, in, in_len, out, out_len)
    : q2_inflate (codec->inflater, in, in_len, out, out_len);
}
