/* SPDX-License-Identifier: BSD-3-Clause */
/* ctl.h - what a command is, and what it is given.
 *
 * A new command is a file cmd_NAME.c with one struct command, a line in the
 * table of main.c, and a section in docs/qcow2ctl.pod.
 *
 * Everything here lives as long as the program.  The program has one thread of
 * its own; the engine may use more inside of a call.
 */
#ifndef CTL_H
#define CTL_H

#include "qcow2.h"
#include "host/env.h"
#include "host/rules.h"

#include <stdbool.h>
#include <stddef.h>

/* What the program returns. */
enum exit_code {
  CODE_OK = 0,
  CODE_FAILED = 1,
  CODE_CORRUPT = 2,             /* check: corruptions, perhaps leaks, too */
  CODE_LEAKS = 3,               /* check: leaks only */
  CODE_BUSY = 4,                /* somebody else has it, or a lock on it */
  CODE_NAME = 5,                /* there is no such thing, or there is one
                                   already */
  CODE_CHANGED = 6,             /* it has failed, but an image is changed, or
                                   may be */
  CODE_UNCHECKED = 63,          /* check: not for this kind of image */
};

/* What all commands have in common. */
struct ctl {
  bool quiet;                   /* nothing but errors */
  bool progress;
  bool json;                    /* --output json */
  bool lock;                    /* files are locked as QEMU locks them */
  bool no_lock;                 /* --no-lock was given */
  const char *socket;           /* -S: a server's control socket, or NULL */
  struct rules rules;           /* other files that may be opened */
  struct host_env env;
};

/* ---- Options ------------------------------------------------------------ */

/* The value of one that takes none is "". */
struct option_spec {
  const char *name;             /* long, without dashes; NULL: the last one */
  char letter;                  /* or 0 */
  const char *value;            /* how --help calls it; NULL: takes none */
  const char *help;             /* lines of at most 53 columns */
};

/* Groups of options that many commands take. */
#define TAKES_LAYERS   1u       /* which other files may be opened */
#define TAKES_SHARE    2u       /* -U: without locks, for reading */
#define TAKES_NO_LOCK  4u       /* --no-lock, for changes */
#define TAKES_SOCKET   8u       /* -S: an image that a server has open */
#define TAKES_LAST     TAKES_SOCKET
#define NEEDS_SOCKET   16u      /* is no group: only with -S */

struct args;

struct command {
  const char *name;             /* "info", "snapshot list" */
  const char *operands;         /* as --help shows them: "IMAGE [SIZE]" */
  unsigned min_operands, max_operands;
  unsigned takes;               /* the groups */
  const struct option_spec *options;    /* of its own, or NULL */
  const char *more_help;        /* lines behind the options, or NULL */
  const char *summary;          /* one line for the list of commands */
  /* Returns one of enum exit_code, having said what is wrong. */
  int (*run) (struct ctl *ctl, const struct args *args);
};

struct args {
  const struct command *command;
  const char **operands;
  size_t nr_operands;
  const struct option_spec **specs;     /* of what was given, in order */
  const char **values;
  size_t nr_options;
};

/* The value that was given last for an option of the command, or NULL. */
extern const char *args_value (const struct args *args, const char *name);
/* One after the other, in the order given: 'i' begins with 0. */
extern const char *args_next (const struct args *args, const char *name,
                              size_t *i);

/* ---- Errors ------------------------------------------------------------- */

/* All go to stderr, one line each, and return an exit code.
 *
 * An error of the engine, or of host/; name is what it is about, or NULL.
 */
extern int fail_error (const char *name, const struct qcow2_error *err);
/* The command line makes no sense. */
extern int fail_usage (const struct command *command, const char *format, ...)
  __attribute__ ((__format__ (__printf__, 2, 3)));
extern int fail_code (int code, const char *format, ...)
  __attribute__ ((__format__ (__printf__, 2, 3)));
extern void warn_line (const char *format, ...)
  __attribute__ ((__format__ (__printf__, 1, 2)));
/* What to do about it, or "". */
extern const char *advice_words (enum qcow2_advice advice);

#endif /* CTL_H */
