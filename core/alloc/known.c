/* SPDX-License-Identifier: BSD-3-Clause */
/* known.c - which clusters are known to have a refcount that is not 0.
 *
 * Owns      the table.
 * Method    a word for each group of clusters, in a table of fixed size where
 *           a group has one place: who comes later takes it.  It has two bits
 *           for a cluster, so it is larger than what a table cache of the
 *           usual size maps, and memory is only used for what is asked about.
 *           A word is read and written as a whole; who reads one that is just
 *           being forgotten began before that, which the owner waits for
 *           (q2_flight_stamp): hence the sequential consistency.
 * Locks     see known.h.
 */
#include "config.h"

#include "alloc/known.h"

#include "base/error.h"

#include <stdlib.h>

#define PLACE_BITS 20           /* 8 MiB, for 32 Mi clusters */

#define GROUP_SHIFT 5
_Static_assert (1 << GROUP_SHIFT == Q2_KNOWN_GROUP, "a word has 32 bits");
/* 47 bits of a cluster's number: 5 are in the group, 20 in the place. */
_Static_assert (47 - GROUP_SHIFT - PLACE_BITS <= 32, "a tag has 32 bits");

int
q2_known_init (struct q2_known *k, struct qcow2_error *err)
{
  k->words = calloc ((size_t) 1 << PLACE_BITS, sizeof *k->words);
  return k->words ? 0 : q2_fail_nomem (err, "the refcounts");
}

void
q2_known_destroy (struct q2_known *k)
{
  free (k->words);
}

static _Atomic uint64_t *
word_of (const struct q2_known *k, uint64_t cluster)
{
  const uint64_t group = cluster >> GROUP_SHIFT;

  return &k->words[group & ((UINT64_C (1) << PLACE_BITS) - 1)];
}

static uint64_t
tag_of (uint64_t cluster)
{
  return cluster >> GROUP_SHIFT >> PLACE_BITS << 32;
}

static uint64_t
bit_of (uint64_t cluster)
{
  return UINT64_C (1) << (cluster & (Q2_KNOWN_GROUP - 1));
}

/* The bits of a word, if it is that of the cluster's group. */
static uint64_t
bits_in (uint64_t word, uint64_t cluster)
{
  return (word ^ tag_of (cluster)) >> 32 == 0 ? word & UINT32_MAX : 0;
}

bool
q2_known_has (const struct q2_known *k, uint64_t cluster)
{
  return bits_in (atomic_load (word_of (k, cluster)), cluster) &
    bit_of (cluster);
}

void
q2_known_note_locked (struct q2_known *k, uint64_t cluster)
{
  _Atomic uint64_t *const word = word_of (k, cluster);
  const uint64_t old = bits_in (atomic_load (word), cluster);

  if (!(old & bit_of (cluster)))
    atomic_store (word, tag_of (cluster) | old | bit_of (cluster));
}

void
q2_known_forget_locked (struct q2_known *k, uint64_t cluster)
{
  _Atomic uint64_t *const word = word_of (k, cluster);
  const uint64_t old = bits_in (atomic_load (word), cluster);

  if (old & bit_of (cluster))
    atomic_store (word, tag_of (cluster) | (old & ~bit_of (cluster)));
}
