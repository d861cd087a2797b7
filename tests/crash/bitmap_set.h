/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap_set.h - the persistent bitmaps of an image.
 *
 * Reads them as the format's specification says; shares no code with the
 * engine.
 */
#ifndef CRASH_BITMAP_SET_H
#define CRASH_BITMAP_SET_H

#include "qcow2.h"

#define BITMAP_IN_USE 1u
#define BITMAP_AUTO 2u

struct bitmap_seen {
  char name[1024];              /* terminated */
  uint32_t flags;
  unsigned granularity_bits;
  uint64_t nr_bits;
  unsigned char *bits;          /* the first is the lowest of the first byte */
};

#define BITMAP_SET_MAX 32

struct bitmap_set {
  struct bitmap_seen bitmap[BITMAP_SET_MAX];
  size_t nr;
  char problem[200];            /* empty: there is none */
};

/* All bitmaps of an image, or none if the autoclear bit says that they mean
 * nothing.  If a rule is broken 'problem' says so.  The caller frees the set.
 */
extern void bitmap_set_load (struct bitmap_set *set,
                             const unsigned char *bytes, uint64_t size);
extern void bitmap_set_free (struct bitmap_set *set);

extern void bitmap_set_copy (struct bitmap_set *set,
                             const struct bitmap_set *from);

/* NULL: there is none. */
extern struct bitmap_seen *bitmap_set_find (struct bitmap_set *set,
                                            const char *name);

/* The same bitmaps in the same order, with the same bits. */
extern bool bitmap_set_equal (const struct bitmap_set *a,
                              const struct bitmap_set *b);

/* What an action makes of it, which must be possible.  Sources of other images
 * are looked for in 'other'.
 */
extern void bitmap_set_apply (struct bitmap_set *set,
                              const struct qcow2_bitmap_action *action,
                              uint64_t disk_size, uint64_t cluster_size,
                              struct bitmap_set *other);

/* Bytes [at, at + len) of the disk have changed: what enabled ones must have.
 */
extern void bitmap_set_note (struct bitmap_set *set, uint64_t at,
                             uint64_t len);

extern bool bitmap_has (const struct bitmap_seen *b, uint64_t bit);

/* The part of the disk that the bit is for differs between the two. */
extern bool bitmap_part_differs (const struct bitmap_seen *b, uint64_t bit,
                                 const unsigned char *disk,
                                 const unsigned char *other,
                                 uint64_t disk_size);

/* For messages. */
extern void bitmap_set_print (const struct bitmap_set *set);

#endif /* CRASH_BITMAP_SET_H */
