/* SPDX-License-Identifier: BSD-3-Clause */
/* env.h - what host/ needs from the program that it is a part of.
 *
 * host/ opens files for the engine.  It writes to no log, reads no parameter
 * and serves nothing itself: the program fills in one struct host_env, and
 * everything that host/ does is done for one.
 *
 * The program owns the struct and what it points to.  All of it must stay,
 * unchanged, from the first call for it until everything that was opened for
 * it has been closed.  Any thread may call the functions, several at a time;
 * none may call back into host/ with the same chain of images, and 'log' is
 * called with locks held.
 */
#ifndef HOST_ENV_H
#define HOST_ENV_H

#include "qcow2.h"

#include <stdarg.h>

struct found;
struct place;
struct rules;

enum host_log_level {
  HOST_LOG_DEBUG,
  HOST_LOG_WARNING,
  HOST_LOG_ONCE,                /* not again while nothing else is said */
  HOST_LOG_BUG,                 /* of ours; whoever asked for it */
};

/* What the program's users know things by, in messages. */
struct host_words {
  const char *program;          /* "filter" */
  const char *process;          /* "this server" */
  /* Options, followed by 'sep' where a value follows. */
  const char *sep;
  const char *backing, *backing_format, *data_file, *follow, *passphrase;
  const char *chain_depth;      /* or NULL: there is none */
  /* What to do, instead of "...": */
  const char *read_only;        /* "serve the image with -r" */
  const char *unlocked;         /* the rest of "..., so nothing keeps another
                                   process from writing to it;" */
  const char *reading_busy;     /* what may be said in parentheses after "is
                                   open for writing elsewhere" */
  const char *writing_busy;     /* and after "is open elsewhere" */
};

struct host_env {
  void *opaque;                 /* the program's */
  const struct host_words *words;

  /* Which other files may be opened, and how. */
  const struct rules *rules;
  /* Files are locked as QEMU locks them, or are not opened. */
  bool lock;
  /* There is one image, and all that 'rules' lists is for it.  Else rules of
   * several images may be among them, and one that was not used is no error.
   */
  bool one_image;
  /* How many backing files may be below each other, up to MOST_LAYERS; 0:
   * MAX_LAYERS (chain.h).
   */
  unsigned chain_depth;

  /* One line of text, without newline, that may have any bytes in it.  'name'
   * is what it is about, or "".  All lines of one kind have the same 'format';
   * errno is as at the call, for %m, and whatever becomes of it.
   */
  void (*log) (const struct host_env *env, enum host_log_level level,
               const char *name, const char *format, va_list args)
    __attribute__ ((__format__ (__printf__, 4, 0)));

  /* What a backing image of that name, which stays, is opened with: caches,
   * limits, the keyring.  The format, the passphrase and the way to further
   * files are filled in by host/.
   */
  struct qcow2_options (*options) (const struct host_env *env,
                                   const char *name);
  /* A backing image is going to be closed: a last look at it.  May be NULL. */
  void (*closing) (const struct host_env *env, const char *name,
                   const struct qcow2_image *image);

  /* Other exports of what the program serves (PLACE_EXPORT); both NULL if it
   * has none.  The first fills in id, whose text may be the place's, and
   * folder, with nothing opened but for looking; returns 0, or -1 with *err
   * filled in.  The second opens it for reading, and locks it if that is
   * asked for; NULL with *err filled in.
   */
  int (*find_export) (const struct host_env *env, const struct place *place,
                      struct found *found, struct qcow2_error *err);
  struct other *(*open_export) (const struct host_env *env,
                                const struct place *place,
                                struct qcow2_error *err);
};

/* Log one line; errno stays as it is. */
extern void host_log (const struct host_env *env, enum host_log_level level,
                      const char *name, const char *format, ...)
  __attribute__ ((__format__ (__printf__, 4, 5)));
#define host_warn(env, name, ...)                                             \
  host_log ((env), HOST_LOG_WARNING, (name), __VA_ARGS__)

/* True if 'cond' is.  Else that is a bug of ours, which is logged; the caller
 * goes on in whatever way does no harm.  Where the engine aborts on bugs, so
 * does this; see core/base/assume.h.
 */
#define host_holds(env, cond)                                                 \
  (__builtin_expect (!!(cond), 1) ? true :                                    \
   host_bug_found ((env), #cond, __FILE__, __LINE__))
extern bool host_bug_found (const struct host_env *env, const char *what,
                            const char *file, int line)
  __attribute__ ((__cold__));

#endif /* HOST_ENV_H */
