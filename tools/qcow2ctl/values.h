/* SPDX-License-Identifier: BSD-3-Clause */
/* values.h - what the values of options mean.
 *
 * All return CODE_OK, or another exit code, having said what is wrong with the
 * option 'what'.
 */
#ifndef VALUES_H
#define VALUES_H

#include "ctl.h"

#include "qcow2.h"

/* For the engine; NULL: an empty one.  It lasts as long as the text. */
extern struct qcow2_name value_name (const char *text);

/* Bytes, with qemu-img's suffixes: k, M, G, T, P, E, of 1024, in either case;
 * "1.5G" is one, too.  At most INT64_MAX.
 */
extern int value_size (const struct command *command, const char *what,
                       const char *text, uint64_t *ret);
/* A size for --granularity: not 0.  The engine knows which ones there are. */
extern int value_granularity (const struct command *command, const char *text,
                              uint64_t *ret);
extern int value_unsigned (const struct command *command, const char *what,
                           const char *text, unsigned *ret);
/* on/off, true/false, yes/no. */
extern int value_on_off (const struct command *command, const char *what,
                         const char *text, bool *ret);
/* Which of the words it is; the list ends with NULL. */
extern int value_word (const struct command *command, const char *what,
                       const char *text, const char *const *words,
                       unsigned *ret);

/* "key=value,key=value", where ",," stands for a comma, and "key" alone for
 * "key=on".  Calls fn for each; ends with what that returns if it is not
 * CODE_OK.  Key and value last as long as the program.
 */
typedef int (*value_pair_fn) (void *opaque, const char *key,
                              const char *value);
extern int value_pairs (const char *text, value_pair_fn fn, void *opaque);

#endif /* VALUES_H */
