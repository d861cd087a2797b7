/* SPDX-License-Identifier: BSD-3-Clause */
/* fsck.h - checks an image.
 *
 * Counts all references of an image to its clusters and compares them with the
 * refcounts.  Written from the format's specification; shares no code with the
 * engine, and agrees with 'qemu-img check' (test-fsck.c).  Fast enough to be
 * run on each of a hundred thousand states.
 *
 * Knows versions 2 and 3, every width of refcounts, extended L2 tables,
 * snapshots, bitmaps, compressed clusters, the LUKS header, and entries that
 * refer to a data file.
 */
#ifndef CRASH_FSCK_H
#define CRASH_FSCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fsck {
  unsigned corruptions;
  unsigned mixed;               /* ... of them: one cluster for two uses,
                                   which QEMU accepts if it is counted twice */
  unsigned leaks;               /* clusters with a refcount too high */
  unsigned past_end;            /* clusters counted past the file's end */
  bool dirty;                   /* the dirty bit: refcounts are not checked */
  bool trusted;                 /* a bitmap or an unknown feature bit says
                                   that the disk has not been written to */
  uint64_t metadata;            /* a hash of all metadata */
  char text[256];               /* the first corruption */
  char leak_text[128];          /* the first leak */
};

extern void fsck_image (const unsigned char *bytes, uint64_t size,
                        struct fsck *ret);

/* Check that it finds no corruptions, and no leaks unless they are allowed;
 * print what it has found.  Returns whether that is so.
 */
extern bool fsck_check (const unsigned char *bytes, uint64_t size,
                        bool leaks_allowed);

/* The same, and for each of the first 'nr' clusters what may lose data,
 * whatever else is wrong.
 */
#define FSCK_TOO_LOW 1          /* a lower refcount than it has users */
#define FSCK_SHARED 2           /* COPIED, and several users */
#define FSCK_EARLY 4            /* COPIED, and a refcount of more than one */
extern void fsck_clusters (const unsigned char *bytes, uint64_t size,
                           struct fsck *ret, unsigned char *risks,
                           uint64_t nr);

#endif /* CRASH_FSCK_H */
