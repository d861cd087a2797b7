/* SPDX-License-Identifier: BSD-3-Clause */
/* call.h - a command that runs: what it was given, and what it says.
 *
 * The thread of a peer, or of a job, owns its call.
 */
#ifndef CONTROL_CALL_H
#define CONTROL_CALL_H

#include "qcow2.h"

#include <jansson.h>
#include <stdbool.h>

struct job;

struct call {
  const char *name;             /* of the command */
  json_t *arguments;            /* an object; borrowed */
  struct job *job;              /* whose thread this is; NULL: a peer's */
  const char *class;            /* of the error, QMP's; or NULL */
  const char *kind;             /* of it, for programs: "busy", "name" (there
                                   is no such thing, or one already),
                                   "unchecked" (no check is possible), or NULL
                                   */
  enum qcow2_outcome outcome;   /* of a change of one image that has failed */
  json_t *outcomes;             /* of several: members of the error, or NULL */
  char desc[1200];              /* of the error, UTF-8 or not */
};

/* These return NULL.  An error of the engine has its advice added. */
extern json_t *call_fail (struct call *call, const char *format, ...)
  __attribute__ ((__format__ (__printf__, 2, 3)));
/* A command that cannot be given, or not now. */
#define call_fail_not_found(call, ...)                                        \
  ((call)->class = "CommandNotFound", call_fail ((call), __VA_ARGS__))
extern json_t *call_fail_engine (struct call *call, const char *name,
                                 const struct qcow2_error *err);

/* After these: some of several images have changed.  Takes an object of lists
 * of their names.
 */
extern void call_add_outcomes (struct call *call, json_t *lists);

/* A string argument; NULL if it was not given. */
extern const char *call_text (const struct call *call, const char *name);
/* Text from an image: what is no UTF-8 is replaced. */
extern json_t *call_bytes (const char *bytes, size_t len);
/* One line, to be freed, or NULL; takes the object, which may be NULL. */
extern char *call_line (json_t *json);
/* Tell all peers; takes 'data', an object. */
extern void call_event (const char *name, json_t *data);

#endif /* CONTROL_CALL_H */
