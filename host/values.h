/* SPDX-License-Identifier: BSD-3-Clause */
/* values.h - values of options, as people write them. */
#ifndef HOST_VALUES_H
#define HOST_VALUES_H

#include "qcow2.h"

/* The option must have one of these, as a phrase; always returns -1. */
extern int fail_choice (struct qcow2_error *err, const char *key,
                        const char *value, const char *words)
  __attribute__ ((__nonnull__));

/* A size in bytes, with the suffixes of QEMU: b, k, M, G, T, P, E, powers of
 * 1024 whatever their case, and decimal fractions as in 1.5G.
 */
extern int parse_size (const char *text, uint64_t *ret_size,
                       struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same for any number; false: it is none. */
extern bool parse_number (const char *text, uint64_t *ret)
  __attribute__ ((__nonnull__, __warn_unused_result__));

extern int parse_switch (const char *key, const char *value, bool *ret,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The index of the value in the list, which ends with NULL, or -1. */
extern int parse_choice (const char *key, const char *value,
                         const char *const words[], struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* HOST_VALUES_H */
