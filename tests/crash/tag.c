/* SPDX-License-Identifier: BSD-3-Clause */
/* tag.c - see tag.h.
 *
 * Owns      the content of a sector: a number that depends on the sector
 *           and the write, then eight bytes made from both, repeated with
 *           a counter so that each 8-byte word is in its place.  Of some
 *           writes a part does not become smaller when it is compressed.
 */
#include "config.h"

#include "tag.h"

#include <string.h>

#define WORDS (SECTOR / 8)
#define MAGIC UINT64_C (0x7461674000000000)

static uint64_t
mix (uint64_t z)
{
  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static void
fill_sector (uint64_t *words, uint64_t sector, uint32_t id)
{
  const uint64_t filler =
    mix (sector * UINT64_C (0x9e3779b97f4a7c15) + id) | 1;
  const int noise = (sector / 8 + id) % 4 == 3;

  words[0] = MAGIC | id;
  words[1] = sector;
  for (unsigned i = 2; i < WORDS; ++i)
    words[i] = noise ? mix (filler + i) : filler + (i & 7);
}

void
tag_fill (void *buf, uint64_t sector, uint64_t count, uint32_t id)
{
  uint64_t words[WORDS];

  for (uint64_t i = 0; i < count; ++i) {
    unsigned char *const p = (unsigned char *) buf + i * SECTOR;

    if (id == TAG_ZERO)
      memset (p, 0, SECTOR);
    else {
      fill_sector (words, sector + i, id);
      memcpy (p, words, SECTOR);
    }
  }
}

uint32_t
tag_read (const void *buf, uint64_t sector)
{
  static const unsigned char zeros[SECTOR];
  uint64_t words[WORDS], first;
  uint32_t id;

  memcpy (&first, buf, sizeof first);
  if (first == 0)
    return memcmp (buf, zeros, SECTOR) == 0 ? TAG_ZERO : TAG_FOREIGN;
  id = (uint32_t) first;
  if (first != (MAGIC | id) || id == TAG_ZERO || id == TAG_FOREIGN)
    return TAG_FOREIGN;
  fill_sector (words, sector, id);
  return memcmp (buf, words, SECTOR) == 0 ? id : TAG_FOREIGN;
}

void
tag_garbage (void *buf, size_t len, uint64_t seed)
{
  for (size_t i = 0; i < len; i += 8) {
    /* All bytes are odd: no word is zero or a valid entry of a table. */
    const uint64_t word = mix (seed + i) | UINT64_C (0x0101010101010101);

    memcpy ((unsigned char *) buf + i, &word, 8);
  }
}
