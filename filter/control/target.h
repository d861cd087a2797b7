/* SPDX-License-Identifier: BSD-3-Clause */
/* target.h - the image that a command is about.
 *
 * One thread owns a target, from target_open to target_close.
 */
#ifndef CONTROL_TARGET_H
#define CONTROL_TARGET_H

#include "qcow2.h"
#include "control/call.h"
#include "share/peek.h"

#include <stdbool.h>

struct disk;

struct target {
  struct qcow2_image *image;
  const struct qcow2_io *io;
  struct disk *disk;            /* NULL: only its header was looked at */
  const char *name;             /* for messages */

  struct peek peek;             /* the rest is target.c's own */
  struct qcow2_io lent;
  bool is_lent;
};

/* The image behind 'device', the name of an export, as clients have it open;
 * if none has, it is opened as the first one would.  With 'change' it can be
 * written to.  Returns false having called call_fail.
 */
extern bool target_open (struct target *t, struct call *call,
                         const char *device, bool change);
extern void target_close (struct target *t);

/* Whether the server was started to read only ('nbdkit -r'). */
extern bool target_server_is_read_only (void);

#endif /* CONTROL_TARGET_H */
