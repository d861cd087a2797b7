/* SPDX-License-Identifier: BSD-3-Clause */
/* test-codec-pool.c - the limit on decompression contexts, and waiting. */
#include "config.h"

#include "codec/pool.h"

#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define CLUSTER (2 << 20)
#define MAX_CSIZE (4 << 20)
#define LIMIT 4                 /* 16 MiB of buffers of 4 MiB each */

static atomic_int waiting, served;

static void *
take_and_return (void *opaque)
{
  struct q2_codec_pool *const pool = opaque;
  struct q2_codec *codec;
  struct qcow2_error err;

  waiting++;
  codec = q2_codec_get (pool, &err);
  REQUIRE (codec != NULL);
  served++;
  q2_codec_put (pool, codec);
  return NULL;
}

static void
test_limit (void)
{
  struct q2_codec *codecs[LIMIT];
  struct qcow2_error err;
  struct q2_codec_pool *const pool =
    q2_codec_pool_new (QCOW2_COMPRESSION_ZLIB, MAX_CSIZE, &err);
  pthread_t threads[3];

  REQUIRE (pool != NULL);
  for (unsigned i = 0; i < LIMIT; ++i) {
    codecs[i] = q2_codec_get (pool, &err);
    REQUIRE (codecs[i] != NULL);
    for (unsigned j = 0; j < i; ++j)
      CHECK (codecs[i] != codecs[j]);
  }

  for (unsigned i = 0; i < 3; ++i)
    REQUIRE (pthread_create (&threads[i], NULL, take_and_return, pool) == 0);
  while (waiting < 3)
    usleep (1000);
  usleep (30000);
  CHECK_EQ (served, 0);         /* none left */
  q2_codec_put (pool, codecs[0]);
  for (unsigned i = 0; i < 3; ++i)
    pthread_join (threads[i], NULL);
  CHECK_EQ (served, 3);         /* one after the other with the same one */
  for (unsigned i = 1; i < LIMIT; ++i)
    q2_codec_put (pool, codecs[i]);
  q2_codec_pool_free (pool);
  q2_codec_pool_free (NULL);
}

/* A codec that was put back comes again, with its buffer. */
static void
test_reuse (void)
{
  struct qcow2_error err;
  struct q2_codec_pool *const pool =
    q2_codec_pool_new (QCOW2_COMPRESSION_ZLIB, 1024, &err);
  struct q2_codec *const codec = q2_codec_get (pool, &err);
  void *const in = q2_codec_in (codec);

  CHECK (in != NULL);
  memset (in, 1, 1024);         /* a sanitizer sees if they are smaller */
  q2_codec_put (pool, codec);
  CHECK (q2_codec_get (pool, &err) == codec);
  CHECK (q2_codec_in (codec) == in);
  q2_codec_put (pool, codec);
  q2_codec_pool_free (pool);
}

/* Many threads, few codecs: nobody shares one. */
static struct q2_codec_pool *shared_pool;

static void *
hammer (void *opaque)
{
  const unsigned char mark = (unsigned char) (uintptr_t) opaque;

  for (unsigned i = 0; i < 300; ++i) {
    struct qcow2_error err;
    struct q2_codec *const codec = q2_codec_get (shared_pool, &err);
    unsigned char *in;

    REQUIRE (codec != NULL);
    in = q2_codec_in (codec);
    REQUIRE (in != NULL);
    memset (in, mark, 4096);
    if (i % 16 == 0)
      usleep (10);
    for (unsigned j = 0; j < 4096; j += 512)
      CHECK_EQ (in[j], mark);
    q2_codec_put (shared_pool, codec);
  }
  return NULL;
}

static void
test_hammer (void)
{
  struct qcow2_error err;
  pthread_t threads[8];

  shared_pool =
    q2_codec_pool_new (QCOW2_COMPRESSION_ZLIB, MAX_CSIZE, &err);
  REQUIRE (shared_pool != NULL);
  for (uintptr_t i = 0; i < 8; ++i)
    REQUIRE (pthread_create (&threads[i], NULL, hammer, (void *) i) == 0);
  for (unsigned i = 0; i < 8; ++i)
    pthread_join (threads[i], NULL);
  q2_codec_pool_free (shared_pool);
}

int
main (void)
{
  test_limit ();
  test_reuse ();
  test_hammer ();
  return unit_finish ();
}
