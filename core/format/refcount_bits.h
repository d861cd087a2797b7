/* SPDX-License-Identifier: BSD-3-Clause */
/* refcount_bits.h - one refcount of 1 to 64 bits inside a refcount block.
 *
 * Refcounts of 8 bits and more are big-endian; narrower ones are packed from
 * the least significant bit of each byte up.
 *
 * Spec: "Reference counts".
 */
#ifndef QCOW2_FORMAT_REFCOUNT_BITS_H
#define QCOW2_FORMAT_REFCOUNT_BITS_H

#include "base/be.h"

#include <stddef.h>

/* Entry 'idx' of a block whose refcounts are 1 << order bits wide. */
static inline uint64_t
q2_refcount_get (const void *block, unsigned order, size_t idx)
{
  const unsigned char *p = block;

  switch (order) {
  case 6: return load_be64 (p + 8 * idx);
  case 5: return load_be32 (p + 4 * idx);
  case 4: return load_be16 (p + 2 * idx);
  case 3: return p[idx];
  default: {
    const size_t bit = idx << order;
    const unsigned mask = (1u << (1u << order)) - 1;

    return (p[bit / 8] >> (bit % 8)) & mask;
  }
  }
}

/* Store 'value', which must fit, as entry 'idx'. */
static inline void
q2_refcount_set (void *block, unsigned order, size_t idx, uint64_t value)
{
  unsigned char *p = block;

  switch (order) {
  case 6: store_be64 (p + 8 * idx, value); break;
  case 5: store_be32 (p + 4 * idx, (uint32_t) value); break;
  case 4: store_be16 (p + 2 * idx, (uint16_t) value); break;
  case 3: p[idx] = (unsigned char) value; break;
  default: {
    const size_t bit = idx << order;
    const unsigned mask = (1u << (1u << order)) - 1;

    p[bit / 8] = (unsigned char) ((p[bit / 8] & ~(mask << (bit % 8))) |
                                  ((unsigned) value << (bit % 8)));
  }
  }
}

#endif /* QCOW2_FORMAT_REFCOUNT_BITS_H */
