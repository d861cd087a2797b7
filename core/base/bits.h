/* SPDX-License-Identifier: BSD-3-Clause */
/* bits.h - powers of two, alignment, minimum and maximum; bytes that are all
 * the same.
 *
 * The alignment helpers take a power of two.  q2_align_up can overflow:
 * callers pass only values that are already bounded.
 */
#ifndef QCOW2_BASE_BITS_H
#define QCOW2_BASE_BITS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline bool
q2_is_pow2 (uint64_t v)
{
  return v != 0 && (v & (v - 1)) == 0;
}

static inline uint64_t
q2_align_down (uint64_t v, uint64_t pow2)
{
  return v & ~(pow2 - 1);
}

static inline uint64_t
q2_align_up (uint64_t v, uint64_t pow2)
{
  return (v + pow2 - 1) & ~(pow2 - 1);
}

static inline bool
q2_is_aligned (uint64_t v, uint64_t pow2)
{
  return (v & (pow2 - 1)) == 0;
}

/* ceil (v / 2^bits), without overflow. */
static inline uint64_t
q2_ceil_shift (uint64_t v, unsigned bits)
{
  return (v >> bits) + ((v & ((UINT64_C (1) << bits) - 1)) != 0);
}

static inline uint64_t
q2_min (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

static inline uint64_t
q2_max (uint64_t a, uint64_t b)
{
  return a > b ? a : b;
}

/* Whether each of the bytes is 'byte'. */
static inline bool
q2_all_are (const void *bytes, unsigned char byte, uint64_t len)
{
  const unsigned char *const p = bytes;

  return len == 0 || (p[0] == byte && memcmp (p, p + 1, len - 1) == 0);
}

#endif /* QCOW2_BASE_BITS_H */
