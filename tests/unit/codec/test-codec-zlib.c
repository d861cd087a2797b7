/* SPDX-License-Identifier: BSD-3-Clause */
/* test-codec-zlib.c - raw deflate streams of all kinds of writers, and broken
 * ones.
 */
#include "config.h"

#include "codec/deflate.h"

#include "unit.h"

#ifdef HAVE_ZLIB
#include <zlib.h>

#define MAX_CLUSTER (2 << 20)

static unsigned char plain[MAX_CLUSTER + 1], packed[MAX_CLUSTER * 2];
static unsigned char out[MAX_CLUSTER + 16];
static struct q2_inflater *inflater;

/* Window bits as for deflateInit2: negative for raw streams. */
static size_t
pack (size_t len, int window_bits, int level)
{
  z_stream zs = { 0 };

  REQUIRE (deflateInit2 (&zs, level, Z_DEFLATED, window_bits, 9,
                         Z_DEFAULT_STRATEGY) == Z_OK);
  zs.next_in = plain;
  zs.avail_in = (uInt) len;
  zs.next_out = packed;
  zs.avail_out = sizeof packed;
  REQUIRE (deflate (&zs, Z_FINISH) == Z_STREAM_END);
  deflateEnd (&zs);
  return zs.total_out;
}

/* In a buffer of exactly this length, for sanitizers; with a guard behind
 * the output.
 */
static const char *
inflate_exactly (const void *in, size_t in_len, size_t out_len)
{
  unsigned char *const copy = malloc (in_len + 1);
  const char *problem;

  REQUIRE (copy != NULL);
  memcpy (copy + 1, in, in_len);
  memset (out, 0x77, out_len + 16);
  problem = q2_inflate (inflater, copy + 1, in_len, out, out_len);
  for (unsigned i = 0; i < 16; ++i)
    CHECK_EQ (out[out_len + i], 0x77);
  free (copy);
  return problem;
}

static void
fill_plain (struct rng *rng, size_t len, unsigned kind)
{
  memset (plain, 0, len);
  if (kind == 0)
    return;
  rng_fill (rng, plain, len);
  if (kind == 1)                /* matches as far back as they can be */
    for (size_t i = 32768; i < len; ++i)
      plain[i] = plain[i - 32500];
  if (kind == 2)
    for (size_t i = 0; i < len; ++i)
      plain[i] &= 3;
}

static void
test_streams (void)
{
  static const size_t lens[] = { 512, 4096, 65536, 131072 };
  struct rng rng = { 3 };

  for (size_t l = 0; l < sizeof lens / sizeof lens[0]; ++l)
    for (unsigned kind = 0; kind < 4; ++kind)
      for (int bits = 9; bits <= 15; bits += lens[l] > 4096 ? 3 : 1)
        for (int level = 0; level <= 9; level += lens[l] > 4096 ? 3 : 1) {
          const size_t len = lens[l];
          size_t n;

          unit_context ("%zu bytes, kind %u, window %d, level %d", len, kind,
                        bits, level);
          fill_plain (&rng, len, kind);
          n = pack (len, -bits, level);
          CHECK (inflate_exactly (packed, n, len) == NULL);
          CHECK_BYTES (out, plain, len);
          /* What is behind it in its last sector. */
          rng_fill (&rng, packed + n, 600);
          CHECK (inflate_exactly (packed, n + 1 + rng_below (&rng, 600), len)
                 == NULL);
          CHECK_BYTES (out, plain, len);
          /* The stream is longer than the cluster: cut. */
          CHECK (inflate_exactly (packed, n, len - 1) == NULL);
          CHECK_BYTES (out, plain, len - 1);
          CHECK (inflate_exactly (packed, n, len / 2) == NULL);
          CHECK_BYTES (out, plain, len / 2);
          /* It is shorter. */
          CHECK (inflate_exactly (packed, n, len + 1) != NULL);
          /* Its end is missing. */
          CHECK (inflate_exactly (packed, n / 2, len) != NULL);
          CHECK (inflate_exactly (packed, 0, len) != NULL);
        }
}

static void
test_other_wrappers (void)
{
  struct rng rng = { 4 };

  fill_plain (&rng, 65536, 2);
  unit_context ("%s", "zlib header");
  CHECK (inflate_exactly (packed, pack (65536, 15, 6), 65536) != NULL);
  unit_context ("%s", "gzip header");
  CHECK (inflate_exactly (packed, pack (65536, 15 + 16, 6), 65536) != NULL);
}

/* Any damage gives a problem or other bytes, never a crash; and the next
 * stream is not affected by the last one.
 */
static void
test_corrupt (void)
{
  struct rng rng = { 8 };
  unsigned refused = 0;

  for (unsigned n = 0; n < 1000; ++n) {
    const size_t len = 4096;
    size_t packed_len;
    uint64_t at;
    unsigned char bit;

    unit_context ("damage %u", n);
    fill_plain (&rng, len, 2 + n % 2);
    packed_len = pack (len, -12, 6);
    at = rng_below (&rng, packed_len);
    bit = (unsigned char) (1u << rng_below (&rng, 8));
    packed[at] ^= bit;
    if (inflate_exactly (packed, packed_len, len) != NULL)
      refused++;
    packed[at] ^= bit;
    CHECK (inflate_exactly (packed, packed_len, len) == NULL);
    CHECK_BYTES (out, plain, len);
  }
  CHECK (refused > 50);
  for (unsigned n = 0; n < 1000; ++n) {
    unit_context ("random bytes %u", n);
    rng_fill (&rng, packed, 300);
    packed[0] &= 0xfe;          /* not a last block */
    if (inflate_exactly (packed, 300, 4096) == NULL)
      CHECK (true);
  }
}

int
main (void)
{
  inflater = q2_inflater_new ();
  REQUIRE (inflater != NULL);
  test_streams ();
  test_other_wrappers ();
  test_corrupt ();
  q2_inflater_free (inflater);
  q2_inflater_free (NULL);
  return unit_finish ();
}

#else /* !HAVE_ZLIB */

int
main (void)
{
  unit_skip ("built without zlib");
}

#endif
