/* SPDX-License-Identifier: BSD-3-Clause */
/* sources.h - the files of an image that does not exist yet.
 *
 * All return an exit code, having said what is wrong.
 */
#ifndef SOURCES_H
#define SOURCES_H

#include "image.h"

#include <sys/types.h>

/* A file to be written over. */
struct target {
  struct image i;
  bool open;
  char *created;                /* its path, if it did not exist before */
  dev_t dev;                    /* and what that was then */
  ino_t ino;
  char *path;                   /* that i.name points to, or NULL */
};

/* Make a file, or open one that is empty, or, if 'force' is set, any. */
extern int target_open (struct target *t, struct ctl *ctl, const char *name,
                        bool force);
/* The same, with a name that is relative to an image's. */
extern int target_open_beside (struct target *t, struct ctl *ctl,
                               const char *image, const char *name,
                               bool force);
/* 'code' is what came of it: after a failure a file that was made is removed,
 * if it is still the one that was made, and nobody else has ever had it.
 * Nothing to do if it was not opened.  Returns the exit code.
 */
extern int target_close (struct target *t, int code);

/* The size of the disk in a backing file, in bytes; 'name' is relative to an
 * image's.
 */
extern int source_size (struct ctl *ctl, const char *image, const char *name,
                        const char *format, uint64_t *ret_size);

/* The path that a name in the header of the image means, or the URI that it
 * is; to be freed.  NULL: no memory.
 */
extern char *source_path (const char *image, const char *name);

/* Whether a header may have that name; 'elsewhere' as for name_to_refuse.
 * Returns an exit code; NULL and "" are no name, which is CODE_OK.
 */
extern int source_check_name (const char *name, bool elsewhere);

/* Whether that name, relative to the image's, is the image itself; whether two
 * are the same file.
 */
extern bool source_is_image (const char *image, const char *name);
extern bool source_is_other (const char *image, const char *name,
                             const char *other);

#endif /* SOURCES_H */
