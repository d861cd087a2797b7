/* SPDX-License-Identifier: BSD-3-Clause */
/* find.h - from a name in a header to the file that it may open.
 *
 * Who calls find_file owns what it has found, until found_free.
 */
#ifndef HOST_FIND_H
#define HOST_FIND_H

#include "qcow2.h"
#include "host/claims.h"
#include "host/rules.h"

/* The file that a reference may open. */
struct found {
  struct identity id;
  enum layer_format format;     /* of a backing file */
  const struct place *place;    /* from a parameter; or NULL: followed */
  int fd;                       /* O_PATH, or -1: not a local file */
  char *name;                   /* for messages */
  char *folder;                 /* that it is in, or NULL */
};

struct gate;
/* Returns 0, or -1 with *err filled in, and nothing opened but for looking:
 * it may be a file that must not be used.
 */
extern int find_file (const struct gate *gate,
                      const struct qcow2_reference *reference,
                      struct found *found, struct qcow2_error *err);
extern void found_free (struct found *found);

#endif /* HOST_FIND_H */
