/* SPDX-License-Identifier: BSD-3-Clause */
/* test-codec-zstd.c - zstd frames of all kinds of writers, and broken or
 * hostile ones.
 */
#include "config.h"

#include "codec/zstd.h"

#include "unit.h"

#ifdef HAVE_ZSTD
#include <malloc.h>
#include <zstd.h>

#define LEN 65536

static unsigned char plain[2 * LEN], packed[4 * LEN], out[2 * LEN + 16];
static struct q2_unzstd *unzstd;

static size_t
pack (void *to, const void *from, size_t len, int level, bool streaming,
      bool checksum)
{
  ZSTD_CCtx *const ctx = ZSTD_createCCtx ();
  ZSTD_inBuffer in = { from, len, 0 };
  ZSTD_outBuffer dst = { to, 2 * LEN, 0 };

  REQUIRE (ctx != NULL);
  ZSTD_CCtx_setParameter (ctx, ZSTD_c_compressionLevel, level);
  ZSTD_CCtx_setParameter (ctx, ZSTD_c_checksumFlag, checksum);
  /* Without the size of the contents in the frame, as QEMU does. */
  if (!streaming)
    ZSTD_CCtx_setPledgedSrcSize (ctx, len);
  REQUIRE (ZSTD_compressStream2 (ctx, &dst, &in, ZSTD_e_flush) == 0);
  REQUIRE (ZSTD_compressStream2 (ctx, &dst, &in, ZSTD_e_end) == 0);
  ZSTD_freeCCtx (ctx);
  return dst.pos;
}

static const char *
unpack (const void *in, size_t in_len, size_t out_len)
{
  unsigned char *const copy = malloc (in_len + 1);
  const char *problem;

  REQUIRE (copy != NULL);
  memcpy (copy + 1, in, in_len);
  memset (out, 0x77, out_len + 16);
  problem = q2_unzstd (unzstd, copy + 1, in_len, out, out_len);
  for (unsigned i = 0; i < 16; ++i)
    CHECK_EQ (out[out_len + i], 0x77);
  free (copy);
  return problem;
}

static void
expect_ok (size_t in_len, size_t out_len, int line)
{
  const char *const problem = unpack (packed, in_len, out_len);

  unit_context ("line %d: %s", line, problem ? problem : "");
  CHECK (problem == NULL);
  CHECK_BYTES (out, plain, out_len);
  unit_context ("%s", "");
}
#define EXPECT_OK(in_len, out_len) expect_ok (in_len, out_len, __LINE__)

static size_t
skippable (unsigned char *to, size_t len)
{
  memcpy (to, "\x50\x2a\x4d\x18", 4);
  to[4] = (unsigned char) len;
  to[5] = (unsigned char) (len >> 8);
  to[6] = to[7] = 0;
  memset (to + 8, 0xff, len);
  return len + 8;
}

static void
test_frames (void)
{
  size_t n;

  for (int level = 1; level <= 19; level += 3)
    for (unsigned flags = 0; flags < 4; ++flags) {
      n = pack (packed, plain, LEN, level, flags & 1, flags & 2);
      EXPECT_OK (n, LEN);
      /* The rest of the last sector: zeros, or another stream. */
      memset (packed + n, 0, 512);
      EXPECT_OK (n + 300, LEN);
      memset (packed + n, 0xb7, 512);
      EXPECT_OK (n + 511, LEN);

      /* Too short, too long, cut. */
      CHECK (unpack (packed, n, LEN + 1) != NULL);
      CHECK (unpack (packed, n, LEN - 1) != NULL);
      CHECK (unpack (packed, n / 2, LEN) != NULL);
      CHECK (unpack (packed, n - 5, LEN) != NULL);
      CHECK (unpack (packed, 3, LEN) != NULL);
      CHECK (unpack (packed, 0, LEN) != NULL);
      /* The context is not left in the middle of that. */
      EXPECT_OK (n, LEN);
    }
}

static void
test_many_frames (void)
{
  size_t n = 0;

  for (size_t done = 0; done < LEN; done += LEN / 8)
    n += pack (packed + n, plain + done, LEN / 8, 3, done % 2, true);
  EXPECT_OK (n, LEN);
  memset (packed + n, 0, 512);
  EXPECT_OK (n + 512, LEN);
  /* Seven of eight. */
  CHECK (unpack (packed, n - 20, LEN) != NULL);
  /* The output ends between two frames: so does the input. */
  EXPECT_OK (n, LEN / 8);

  /* Frames to be skipped, before and between. */
  n = skippable (packed, 40);
  n += skippable (packed + n, 0);
  n += pack (packed + n, plain, LEN / 2, 3, false, false);
  n += skippable (packed + n, 400);
  n += pack (packed + n, plain + LEN / 2, LEN / 2, 3, true, false);
  EXPECT_OK (n, LEN);
  /* Nothing but those. */
  n = skippable (packed, 400);
  CHECK (unpack (packed, n, LEN) != NULL);
  /* An empty frame first. */
  n = pack (packed, plain, 0, 3, false, false);
  n += pack (packed + n, plain, LEN, 3, false, false);
  EXPECT_OK (n, LEN);
}

/* A frame may declare a window of up to 2 TiB. */
static void
test_huge_window (void)
{
  struct mallinfo2 before, after;

  for (unsigned exponent = 14; exponent < 32; ++exponent) {
    memcpy (packed, "\x28\xb5\x2f\xfd\x00", 5);
    packed[5] = (unsigned char) (exponent << 3);
    memset (packed + 6, 0, 500);
    packed[6] = 0x02;           /* an RLE block that is not the last */
    unit_context ("window 2^%u", exponent + 10);
    before = mallinfo2 ();
    CHECK (unpack (packed, 500, LEN) != NULL);
    after = mallinfo2 ();
    CHECK (after.uordblks + after.hblkhd <
           before.uordblks + before.hblkhd + (64 << 20));
  }
  unit_context ("%s", "");
}

static void
test_corrupt (void)
{
  struct rng rng = { 8 };
  unsigned refused = 0;
  const size_t n = pack (packed, plain, LEN, 3, true, false);

  for (unsigned i = 0; i < 500; ++i) {
    const uint64_t at = rng_below (&rng, i % 2 ? n : 40);
    const unsigned char bit = (unsigned char) (1u << rng_below (&rng, 8));

    packed[at] ^= bit;
    if (unpack (packed, n, LEN) != NULL)
      refused++;
    packed[at] ^= bit;
  }
  CHECK (refused > 20);
  EXPECT_OK (n, LEN);
  for (unsigned i = 0; i < 500; ++i) {
    rng_fill (&rng, packed + 4, 300);
    if (unpack (packed, 300, LEN) == NULL)
      CHECK (true);
  }
  CHECK (unpack ("\x78\x9c\x63\x60\x18\x05", 6, LEN) != NULL); /* zlib */
}

int
main (void)
{
  struct rng rng = { 77 };

  unzstd = q2_unzstd_new ();
  REQUIRE (unzstd != NULL);
  for (size_t i = 0; i < sizeof plain; ++i)
    plain[i] = (unsigned char) (i / 7 + (rng_below (&rng, 9) == 0));
  test_frames ();
  test_many_frames ();
  test_huge_window ();
  test_corrupt ();
  q2_unzstd_free (unzstd);
  q2_unzstd_free (NULL);
  return unit_finish ();
}

#else /* !HAVE_ZSTD */

int
main (void)
{
  unit_skip ("built without zstd");
}

#endif
