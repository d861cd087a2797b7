/* SPDX-License-Identifier: BSD-3-Clause */
/* request.h - what all requests of an open image begin and end with.
 *
 *      READ     in flight (base/flight.h), so that what it looks up stays
 *               true; a request of a view is not, since what it leads to never
 *               changes, or it makes requests of the parent
 *      CHANGE   inside the gate (base/gate.h); the image is prepared for it;
 *               in flight as far as the writer says so (write/writer.h)
 *      FLUSH    neither
 *
 * While the gate is closed new changes wait, those that have begun end, and
 * reads and flushes go on.  A change that is durable when it ends (FUA) leaves
 * the gate before its commit, as a flush is outside of it.
 *
 * Whatever kind it is, a bug that has shown on the thread meanwhile fails the
 * request (base/assume.h).
 */
#ifndef QCOW2_IMAGE_REQUEST_H
#define QCOW2_IMAGE_REQUEST_H

#include "image/image.h"

enum q2_request_kind { Q2_REQUEST_READ, Q2_REQUEST_CHANGE, Q2_REQUEST_FLUSH };

/* On the stack of its thread. */
struct q2_request {
  struct qcow2_image *image;
  struct q2_io io;
  enum q2_request_kind kind;
  unsigned token;               /* READ: see q2_flight_enter */
  uint64_t count, guest_off;    /* CHANGE */
};

/* Ranges are checked, for a change also whether the image can be changed.
 * -1: it has not begun.
 */
extern int q2_request_begin (struct q2_request *request,
                             struct qcow2_image *image,
                             const struct qcow2_io *host,
                             enum q2_request_kind kind, uint64_t count,
                             uint64_t guest_off, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* 'result' is what came of it, and *err belongs to it.  Returns what the
 * caller is to return.
 */
extern int q2_request_end (struct q2_request *request, int result,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same for a change that, if 'fua', is to be durable. */
extern int q2_request_end_change (struct q2_request *request, int result,
                                  bool fua, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* A use of the image that is none of these is over, or could not begin. */
extern int q2_request_end_reading (const struct q2_io *io, int result,
                                   struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_IMAGE_REQUEST_H */
