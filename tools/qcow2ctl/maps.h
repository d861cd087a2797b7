/* SPDX-License-Identifier: BSD-3-Clause */
/* maps.h - where the bytes of a disk are, in an image and what is below it. */
#ifndef MAPS_H
#define MAPS_H

#include "ctl.h"

struct layer;
struct layers;

/* A range of the disk. */
struct entry {
  uint64_t start, length;
  unsigned depth;               /* 0: the image itself, 1: its backing file */
  bool present;                 /* allocated in that file */
  bool zero;                    /* reads as zeros */
  bool data;                    /* has a place in that file */
  bool compressed;
  bool has_offset;
  uint64_t offset;              /* in that file, or its data file */
};

/* Returns 0 to go on, or an exit code. */
typedef int (*entry_fn) (void *opaque, const struct entry *entry);

/* What a walk is about. */
struct map {
  struct qcow2_image *image;    /* or a snapshot of it */
  const struct qcow2_io *io;
  const struct layers *layers;  /* that it stands on */
  const char *unknown;          /* a file below that was not given, or NULL */
  bool incomplete;              /* that, or the data file was not given */
  bool alone;                   /* only what the file at that depth has: */
  unsigned depth;
  entry_fn fn;
  void *opaque;
};

/* Call fn for all of the disk, ascending, without gaps, neighbours merged.  If
 * 'alone', the disk is that of the file at that depth, which there must be.
 * Returns 0, what fn has returned if that is not 0, or -1 with *err filled in.
 */
extern int map_walk (const struct map *map, struct qcow2_error *err);

/* The same of a view of a bitmap or of a difference: present where it is set,
 * or differs; zero if that is known to read as zeros.
 */
extern int map_walk_marks (const struct map *map, struct qcow2_error *err);

/* The file at that depth, 1 or more; NULL: there is none. */
extern const struct layer *map_layer (const struct layers *layers,
                                      unsigned depth);

#endif /* MAPS_H */
