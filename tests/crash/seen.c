/* SPDX-License-Identifier: BSD-3-Clause */
/* seen.c - see seen.h.
 *
 * Method    a hash table with open addressing, whose entries are the hashes.
 */
#include "config.h"

#include "seen.h"

#include <stddef.h>

#define TRIES 64

bool
seen_is_new (uint64_t seen[NR_SEEN], uint64_t hash)
{
  const size_t first = hash % NR_SEEN;

  hash |= 1;                    /* 0: free */
  for (size_t i = first; i < first + TRIES; ++i) {
    if (seen[i % NR_SEEN] == hash)
      return false;
    if (seen[i % NR_SEEN] == 0) {
      seen[i % NR_SEEN] = hash;
      return true;
    }
  }
  return true;
}
