/* SPDX-License-Identifier: BSD-3-Clause */
/* arguments.h - which arguments a command, or an action, takes. */
#ifndef CONTROL_ARGUMENTS_H
#define CONTROL_ARGUMENTS_H

#include "control/call.h"

#include <jansson.h>
#include <stdbool.h>

struct argument {
  const char *name;             /* NULL: the last one */
  json_type type;               /* JSON_TRUE: a boolean; JSON_NULL: any */
  bool optional;
};

/* 'given' (an object, or NULL) has those that it must have, and no others.
 * Returns false having called call_fail.
 */
extern bool arguments_check (const struct argument *table,
                             const json_t *given, struct call *call);

#endif /* CONTROL_ARGUMENTS_H */
