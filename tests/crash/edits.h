/* SPDX-License-Identifier: BSD-3-Clause */
/* edits.h - changes of an image itself, each with what must come of it.
 *
 * A case is an image made by QEMU, and one operation of qcow2.h.  The disk
 * before and after it is known, and so are the snapshots.
 */
#ifndef CRASH_EDITS_H
#define CRASH_EDITS_H

#include "host.h"
#include "recipe.h"

#include "qcow2.h"

struct edit_scene;

struct edit_case {
  const char *name;
  struct recipe recipe;
  const char *commands;         /* of QEMU, before the operation; "%s" is the
                                   image; NULL: none */
  const char *snapshot;         /* which these take; NULL: none */
  const char *checks;           /* ... of the new image: must succeed */
  int (*run) (struct qcow2_image *image, const struct qcow2_io *io,
              const struct edit_scene *s, struct qcow2_error *err);
  uint64_t size;                /* of the disk afterwards */
  enum qcow2_bitmaps bitmaps;   /* how they are kept up, if at all */
  unsigned arg;                 /* for 'run' */
  bool (*is_new) (const struct edit_scene *s, const unsigned char *bytes);
                                /* of an image in which the old disk and the
                                   new one read alike; NULL: they do not */
  bool empty;                   /* the disk is what is below it, afterwards */
  bool device;                  /* the file neither grows nor is cut */
};

extern const struct edit_case edit_cases[];
extern const size_t nr_edit_cases;

/* The image of a case, with its files. */
struct edit_scene {
  const struct edit_case *c;
  struct recipe_image image;
  struct host h, data;          /* data: if the image has a data file */
  bool no_trim;                 /* the host cannot; it takes memory for that */
  unsigned char *frozen;        /* c->snapshot */
  unsigned char *after;         /* the disk then, of c->size bytes */
};

extern void edit_scene_init (struct edit_scene *s, const struct edit_case *c,
                             uint64_t seed);
extern void edit_scene_free (struct edit_scene *s);
/* Fresh files in the scene. */
extern void edit_scene_reset (struct edit_scene *s);

/* Open the image in the scene's files and do the operation. */
extern int edit_scene_run (struct edit_scene *s, struct qcow2_error *err);

/* What is wrong with an image in these files, or NULL: it is neither the old
 * nor the new one; *ret_new says which.
 */
extern const char *edit_scene_judge (struct edit_scene *s,
                                     const unsigned char *bytes,
                                     uint64_t size, const unsigned char *data,
                                     uint64_t data_size, bool *ret_new);

#endif /* CRASH_EDITS_H */
