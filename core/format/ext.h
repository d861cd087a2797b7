/* SPDX-License-Identifier: BSD-3-Clause */
/* ext.h - header extensions and feature bits of versions 2 and 3.
 *
 * Spec: "Header extensions", "Feature name table".
 */
#ifndef QCOW2_FORMAT_EXT_H
#define QCOW2_FORMAT_EXT_H

#include "format/header.h"

/* Where the feature name table lies in the header area, if there is one. */
struct q2_features {
  const unsigned char *table;
  size_t len;
};

/* Walk the extensions; fills in the fields of *header that come from them
 * and *ret_features, which points into 'bytes'.
 */
extern int q2_ext_decode (const void *bytes, size_t len,
                          struct q2_header *header,
                          struct q2_features *ret_features,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Where the extensions that begin at 'off' end, just behind the end marker;
 * UINT64_MAX if that is not within the first 'len' bytes.
 */
extern uint64_t q2_ext_end (const void *bytes, size_t len, uint64_t off)
  __attribute__ ((__nonnull__));

/* Fail if an incompatible feature bit is set that nobody here knows; the
 * message has the names the image gives them.
 */
extern int q2_features_check (const struct q2_header *header,
                              const struct q2_features *features,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_FORMAT_EXT_H */
