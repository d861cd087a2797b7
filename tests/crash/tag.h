/* SPDX-License-Identifier: BSD-3-Clause */
/* tag.h - sectors of a disk that say who wrote them.
 *
 * The content of a sector follows from its number and from the write that
 * it is part of, so that bytes which appear in another place, or come from
 * a file that was there before, are known for what they are.  Compressible.
 */
#ifndef CRASH_TAG_H
#define CRASH_TAG_H

#include <stddef.h>
#include <stdint.h>

#define SECTOR 512u

/* What a sector holds: one of these, or the number of a write. */
#define TAG_ZERO 0u
#define TAG_FOREIGN UINT32_MAX

/* Sectors 'sector' to sector+count-1 as write 'id' (TAG_ZERO: zeros). */
extern void tag_fill (void *buf, uint64_t sector, uint64_t count,
                      uint32_t id);

/* Which write a sector is from: all 512 bytes are looked at. */
extern uint32_t tag_read (const void *buf, uint64_t sector);

/* Bytes of a file that is none of ours, 'len' a multiple of 8. */
extern void tag_garbage (void *buf, size_t len, uint64_t seed);

#endif /* CRASH_TAG_H */
