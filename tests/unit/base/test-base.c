/* SPDX-License-Identifier: BSD-3-Clause */
/* test-base.c - core/base: byte order, bits, errors, printable text. */
#include "config.h"

#include "base/be.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/error.h"

#include "unit.h"

#include <errno.h>

static void
test_be (void)
{
  static const unsigned char distinct[] = {
    0x00, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x81, 0xa3,
  };
  unsigned char out[sizeof distinct];

  for (size_t at = 0; at < 3; ++at) {   /* aligned or not */
    const unsigned char *const p = distinct + at;
    uint64_t v = 0;

    for (size_t i = 0; i < 8; ++i) {
      v = v << 8 | p[i];
      if (i == 1)
        CHECK_EQ (load_be16 (p), v);
      if (i == 3)
        CHECK_EQ (load_be32 (p), v);
    }
    CHECK_EQ (load_be64 (p), v);

    memset (out, 0xee, sizeof out);
    store_be16 (out + at, load_be16 (p));
    CHECK_BYTES (out + at, p, 2);
    CHECK_EQ (out[at + 2], 0xee);
    store_be32 (out + at, load_be32 (p));
    CHECK_BYTES (out + at, p, 4);
    CHECK_EQ (out[at + 4], 0xee);
    store_be64 (out + at, load_be64 (p));
    CHECK_BYTES (out + at, p, 8);
    if (at + 8 < sizeof out)
      CHECK_EQ (out[at + 8], 0xee);
  }
}

static void
test_bits (void)
{
  CHECK (!q2_is_pow2 (0));
  for (unsigned bit = 0; bit < 64; ++bit) {
    const uint64_t p = UINT64_C (1) << bit;

    CHECK (q2_is_pow2 (p));
    CHECK (bit == 0 || !q2_is_pow2 (p | 1));
    CHECK_EQ (q2_ceil_shift (0, bit), 0);
    CHECK_EQ (q2_ceil_shift (p, bit), 1);
    CHECK_EQ (q2_ceil_shift (1, bit), 1);
    CHECK_EQ (q2_ceil_shift (UINT64_MAX, bit),
              bit == 0 ? UINT64_MAX : UINT64_C (1) << (64 - bit));
    if (bit < 63)
      CHECK_EQ (q2_ceil_shift (p + 1, bit), 2);
  }
  for (unsigned bit = 0; bit < 8; ++bit) {
    const uint64_t p = UINT64_C (1) << bit;

    for (uint64_t v = 0; v < 1000; ++v) {
      CHECK_EQ (q2_align_down (v, p), v / p * p);
      CHECK_EQ (q2_align_up (v, p), (v + p - 1) / p * p);
      CHECK_EQ (q2_is_aligned (v, p), v % p == 0);
      CHECK_EQ (q2_ceil_shift (v, bit), (v + p - 1) / p);
    }
  }
  CHECK_EQ (q2_min (3, 4), 3);
  CHECK_EQ (q2_min (UINT64_MAX, 4), 4);
  CHECK_EQ (q2_max (3, UINT64_MAX), UINT64_MAX);
  CHECK_EQ (q2_max (4, 3), 4);
}

static void
test_cleanup (void)
{
  Q2_CLEANUP_FREE char *p = malloc (10);
  char *q = q2_take (p);

  CHECK (p == NULL);
  CHECK (q != NULL);
  free (q);
}

/* ---- Errors ---------------------------------------------------------- */

static void
test_errors (void)
{
  static const struct { enum qcow2_error_kind kind; int errnum; } kinds[] = {
    { QCOW2_ERR_IO, EIO }, { QCOW2_ERR_NOMEM, ENOMEM },
    { QCOW2_ERR_FORMAT, EINVAL }, { QCOW2_ERR_UNSUPPORTED, ENOTSUP },
    { QCOW2_ERR_CORRUPT, EIO }, { QCOW2_ERR_RANGE, EINVAL },
    { QCOW2_ERR_TRUNCATED, EIO },
  };
  struct qcow2_error err;
  char name[1000];

  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; ++i) {
    memset (&err, 0x77, sizeof err);
    CHECK_EQ (q2_fail (&err, kinds[i].kind, 1234, "a %s %d", "b", 5), -1);
    CHECK_ERROR (&err, kinds[i].kind, 1234);
    CHECK_EQ (err.errnum, kinds[i].errnum);
    CHECK (strcmp (err.text, "a b 5") == 0);
  }

  CHECK_EQ (q2_fail_io (&err, ETIMEDOUT, 99, "x"), -1);
  CHECK_ERROR (&err, QCOW2_ERR_IO, 99);
  CHECK_EQ (err.errnum, ETIMEDOUT);
  /* A host that answers nonsense must not become success or an abort. */
  q2_fail_io (&err, 0, 99, "x");
  CHECK_EQ (err.errnum, EIO);
  q2_fail_io (&err, -5, 99, "x");
  CHECK_EQ (err.errnum, EIO);

  CHECK_EQ (q2_fail_nomem (&err, "things"), -1);
  CHECK_ERROR (&err, QCOW2_ERR_NOMEM, QCOW2_NO_OFFSET);
  CHECK_EQ (err.errnum, ENOMEM);
  CHECK (strstr (err.text, "things") != NULL);

  /* Too long: cut, not overrun. */
  memset (name, 'n', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  q2_fail (&err, QCOW2_ERR_IO, 0, "%s", name);
  CHECK_EQ (strlen (err.text), sizeof err.text - 1);
}

/* ---- Printable text -------------------------------------------------- */

static bool
needs_escape (unsigned c)
{
  return c < ' ' || c > '~' || c == '\\' || c == '\'';
}

static void
test_printable_bytes (void)
{
  for (unsigned c = 0; c < 256; ++c) {
    const unsigned char byte = (unsigned char) c;
    char out[32], expect[32];

    unit_context ("byte 0x%02x", c);
    snprintf (expect, sizeof expect, needs_escape (c) ? "\\x%02x" : "%c", c);
    CHECK (q2_printable (out, sizeof out, &byte, 1) == out);
    CHECK (strcmp (out, expect) == 0);
  }
  unit_context ("%s", "");
}

/* Every size of the output against every length of the input: what comes
 * out is the whole text, or a prefix of it cut between characters and
 * marked; and nothing behind the buffer is touched.
 */
static void
test_printable_cut (void)
{
  static const unsigned char in[] = "ab\x01" "cd'\\e\x7f\xff" "fgh\n\0ijklm";
  const size_t in_len = sizeof in - 1;

  for (size_t size = 8; size <= 80; ++size)
    for (size_t len = 0; len <= in_len; ++len) {
      char whole[200], out[100];
      size_t n, w = 0;

      unit_context ("size %zu, len %zu", size, len);
      for (size_t i = 0; i < len; ++i)
        w += (size_t) sprintf (whole + w, needs_escape (in[i]) ? "\\x%02x"
                               : "%c", in[i]);
      whole[w] = '\0';
      memset (out, 0x66, sizeof out);
      q2_printable (out, size, in, len);
      for (size_t i = size; i < sizeof out; ++i)
        CHECK_EQ (out[i], 0x66);
      n = strnlen (out, size);
      CHECK (n < size);
      if (strcmp (out, whole) == 0)
        continue;
      CHECK (n >= 3 && strcmp (out + n - 3, "...") == 0);
      CHECK (strncmp (out, whole, n - 3) == 0);
      /* Not shorter than it must be: one more character would not fit. */
      CHECK (n - 3 + 4 + 4 > size - 1);
    }
  unit_context ("%s", "");
}

int
main (void)
{
  test_be ();
  test_bits ();
  test_cleanup ();
  test_errors ();
  test_printable_bytes ();
  test_printable_cut ();
  return unit_finish ();
}
