/* SPDX-License-Identifier: BSD-3-Clause */
/* tag.h - sectors of a disk that name the write that they are from.
 *
 * The contents of a sector follow from its number and its write, so that bytes
 * in the wrong place, or of an old file, are recognized.  Compressible.
 */
#ifndef CRASH_TAG_H
#define CRASH_TAG_H

#include <stddef.h>
#include <stdint.h>

#define SECTOR 512u

/* The contents of a sector: one of these, or the number of a write. */
#define TAG_ZERO 0u
#define TAG_FOREIGN UINT32_MAX

/* Sectors 'sector' to sector+count-1 as write 'id' (TAG_ZERO: zeros). */
extern void tag_fill (void *buf, uint64_t sector, uint64_t count,
                      uint32_t id);

/* The write of a sector; checks all 512 bytes. */
extern uint32_t tag_read (const void *buf, uint64_t sector);

/* Bytes of a foreign file; 'len' is a multiple of 8. */
extern void tag_garbage (void *buf, size_t len, uint64_t seed);

#endif /* CRASH_TAG_H */
