/* SPDX-License-Identifier: BSD-3-Clause */
/* views.h - common functions of the tests of views. */
#ifndef UNIT_VIEWS_H
#define UNIT_VIEWS_H

#include "unit.h"

/* A name from a string. */
extern struct qcow2_name view_name (const char *name);

/* Open a view, which must succeed. */
extern struct qcow2_image *view_open (struct qcow2_image *image,
                                      const struct qcow2_io *io,
                                      enum qcow2_view_kind kind,
                                      const char *name);

/* Opening a view must fail in that way, with a text that contains 'part'. */
extern void view_refuse (struct qcow2_image *image,
                         const struct qcow2_io *io,
                         enum qcow2_view_kind kind, const char *name,
                         enum qcow2_error_kind error, const char *part);

/* The view must have these bytes at [base, base+len): read and mapped in
 * pieces of any length.  Other ranges are not checked.
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

/* True if a view must show the byte as data; *ret_end: up to where the answer
 * is the same.
 */
typedef bool (*view_expect_fn) (void *arg, uint64_t guest_off,
                                uint64_t *ret_end);

/* For views through a mask: all of [base, base+len) must be data or zeros
 * according to 'fn', in the longest possible extents, and data must read as
 * 'bytes'.
 */
extern void view_check_mask (struct qcow2_image *view,
                             const struct qcow2_io *io, struct rng *rng,
                             view_expect_fn fn, void *arg,
                             const unsigned char *bytes, uint64_t base,
                             uint64_t len);

#endif /* UNIT_VIEWS_H */
