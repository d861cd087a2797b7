/* SPDX-License-Identifier: BSD-3-Clause */
/* views.h - what the tests of views share. */
#ifndef UNIT_VIEWS_H
#define UNIT_VIEWS_H

#include "unit.h"

/* A name from a string. */
extern struct qcow2_name view_name (const char *name);

/* Must succeed. */
extern struct qcow2_image *view_open (struct qcow2_image *image,
                                      const struct qcow2_io *io,
                                      enum qcow2_view_kind kind,
                                      const char *name);

/* Must fail in that way, with a text that has 'part' in it. */
extern void view_refuse (struct qcow2_image *image,
                         const struct qcow2_io *io,
                         enum qcow2_view_kind kind, const char *name,
                         enum qcow2_error_kind error, const char *part);

/* The view is [base, base+len) of zeros and these bytes: read and mapped in
 * pieces of any length.  What it says of the rest is not looked at.
 */
extern void view_compare (struct qcow2_image *view,
                          const struct qcow2_io *io, struct rng *rng,
                          const unsigned char *bytes, uint64_t base,
                          uint64_t len);

/* For a view of a difference: copy its data extents in that window to
 * 'bytes'.
 */
extern void view_apply (struct qcow2_image *view, const struct qcow2_io *io,
                        struct rng *rng, unsigned char *bytes, uint64_t base,
                        uint64_t len);

/* What a view must say of a byte, and up to where that is the same. */
typedef bool (*view_expect_fn) (void *arg, uint64_t guest_off,
                                uint64_t *ret_end);

/* For views through a mask: all of [base, base+len) is data or zeros as 'fn'
 * says, in extents as long as can be, and data reads as 'bytes'.
 */
extern void view_check_mask (struct qcow2_image *view,
                             const struct qcow2_io *io, struct rng *rng,
                             view_expect_fn fn, void *arg,
                             const unsigned char *bytes, uint64_t base,
                             uint64_t len);

#endif /* UNIT_VIEWS_H */
