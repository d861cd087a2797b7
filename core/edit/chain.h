/* SPDX-License-Identifier: BSD-3-Clause */
/* chain.h - which image of a chain has a piece of the disk. */
#ifndef QCOW2_EDIT_CHAIN_H
#define QCOW2_EDIT_CHAIN_H

#include "image/image.h"

/* An image of a chain, as the one above it sees it; constant. */
struct q2_link_down {
  struct q2_reader *reader;
  struct q2_io io;
  uint64_t size;                /* bytes of its disk */
};

/* The image itself, and the one below 'l'; false: there is none. */
extern struct q2_link_down q2_chain_top (struct qcow2_image *image,
                                         const struct qcow2_io *host)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern bool q2_chain_down (const struct q2_link_down *l,
                           struct q2_link_down *ret_below)
  __attribute__ ((__nonnull__));

/* True if the image is below 'l', anywhere. */
extern bool q2_chain_has (const struct q2_link_down *l,
                          const struct qcow2_image *image)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* An error that was met in another image of the chain, 'which': say so.  It is
 * nothing against the image that is changed.  Returns -1.
 */
extern int q2_chain_fail (const char *which, struct qcow2_error *err)
  __attribute__ ((__nonnull__));

/* What the images of the chain have, from 'top' down to the one above 'base',
 * of the first part of [guest_off, guest_off+len): *ret_len bytes are alike.
 * UNALLOCATED: none of them has any of it, so it reads as in 'base'.  What is
 * behind the end of an image that is shorter than the one above it is zeros.
 */
extern int q2_chain_look (const struct q2_link_down *top,
                          const struct qcow2_image *base, uint64_t guest_off,
                          uint64_t len, enum q2_run_kind *ret_kind,
                          uint64_t *ret_len, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_EDIT_CHAIN_H */
