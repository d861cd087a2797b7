/* SPDX-License-Identifier: BSD-3-Clause */
/* create.h - the parts of qcow2_create. */
#ifndef QCOW2_EDIT_CREATE_H
#define QCOW2_EDIT_CREATE_H

#include "edit/layout.h"
#include "edit/progress.h"
#include "edit/slot.h"
#include "format/header_parts.h"
#include "io/io.h"

/* Check what is asked for, and fill in its geometry: see qcow2_create. */
extern int q2_create_check (const struct qcow2_create_options *options,
                            struct q2_geometry *ret_geo,
                            struct q2_luks *ret_luks,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* An image that is being made. */
struct q2_create {
  const struct qcow2_create_options *options;
  struct q2_geometry geo;
  struct q2_luks luks;          /* what its header is to say; key_bytes is 0
                                   if there is none */
  struct q2_layout layout;
  struct q2_io io;
  struct q2_io data_io;         /* of the data file, if there is one */
  uint64_t old_size;            /* bytes of the file before: nothing is known
                                   of what is in them */
  struct q2_progress progress;  /* in bytes */
};

/* content.c: what the first sector of a file has while an image is created in
 * it.
 */
extern void q2_creation_mark (unsigned char sector[Q2_HEADER_SECTOR])
  __attribute__ ((__nonnull__));

/* Bytes of the LUKS header, 0 if there is none. */
extern uint64_t q2_create_luks_bytes (const struct qcow2_create_options *o,
                                      const struct q2_luks *luks)
  __attribute__ ((__nonnull__));

/* Encode the header area of the new image; the caller frees it. */
extern int q2_create_header (const struct q2_create *c,
                             unsigned char **ret_bytes, uint64_t *ret_len,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* What is left when the caller cancels. */
#define Q2_CREATE_CANCELLED                                                   \
  "creating the image was cancelled; there is none now"

/* Write the refcount table and blocks, the L1 and the L2 tables. */
extern int q2_create_tables (struct q2_create *c, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_EDIT_CREATE_H */
