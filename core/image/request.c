/* SPDX-License-Identifier: BSD-3-Clause */
/* request.c - what all requests of an open image begin and end with.
 *
 * Owns      the checks that every request starts with, who is in flight and
 *           inside the gate, and what becomes of errors that say more than
 *           that a request has failed.
 * Method    see request.h.
 * Locks     none is held when a request begins, or waits for the gate.
 */
#include "config.h"

#include "image/request.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

#include <inttypes.h>

static int
check_range (const struct qcow2_image *image, uint64_t count,
             uint64_t guest_off, struct qcow2_error *err)
{
  const uint64_t size = q2_image_info (image).virtual_size;

  if (!q2_assume (!image->inspect, err))
    return -1;
  if (image->store.below_missing)
    return q2_fail (err, QCOW2_ERR_REFUSED, QCOW2_NO_OFFSET,
                    "the backing file of the image is missing, so only what "
                    "the image itself has can be read");
  if (!q2_assume (size <= INT64_MAX, err))
    return -1;
  if (guest_off > size || count > size - guest_off)
    return q2_fail (err, QCOW2_ERR_RANGE, QCOW2_NO_OFFSET,
                    "request for %" PRIu64 " bytes at disk offset 0x%" PRIx64
                    " is outside the disk of %" PRIu64 " bytes", count,
                    guest_off, size);
  return 0;
}

/* ---- Beginning ------------------------------------------------------ */

static int
begin_read (struct q2_request *r, uint64_t count, uint64_t guest_off,
            struct qcow2_error *err)
{
  if (check_range (r->image, count, guest_off, err) == -1)
    return q2_request_end_reading (&r->io, -1, err);
  if (r->image->view == NULL)
    r->token = q2_flight_enter (&r->image->writer.flight);
  return 0;
}

static int
begin_change (struct q2_request *r, uint64_t count, uint64_t guest_off,
              struct qcow2_error *err)
{
  struct qcow2_image *const image = r->image;
  const struct qcow2_info info = q2_image_info (image);

  if (!q2_assume (!info.writable || image->view == NULL, err))
    return -1;
  if (!info.writable)
    return q2_fail_advise (err, QCOW2_ERR_READ_ONLY,
                           info.read_only_advice, QCOW2_NO_OFFSET,
                           "the image is read-only: %s", info.why_read_only);
  if (check_range (image, count, guest_off, err) == -1)
    return q2_request_end_reading (&r->io, -1, err);
  /* What prepares the image is a change, too. */
  q2_gate_enter_counted (&image->gate);
  if (q2_writer_begin (&image->writer, &r->io, Q2_FOR_DISK, err) == 0 &&
      (Q2_PLANTED (Q2_PLANT_BITMAPS_SET_LATE) ||
       q2_writer_track (&image->writer, &r->io, count, guest_off, err) == 0))
    return 0;
  q2_gate_leave (&image->gate);
  return q2_request_end_reading (&r->io, -1, err);
}

int
q2_request_begin (struct q2_request *r, struct qcow2_image *image,
                  const struct qcow2_io *host, enum q2_request_kind kind,
                  uint64_t count, uint64_t guest_off,
                  struct qcow2_error *err)
{
  *r = (struct q2_request) {
    .image = image, .io = q2_image_io (image, host), .kind = kind,
    .count = count, .guest_off = guest_off,
  };
  switch (kind) {
  case Q2_REQUEST_READ:
    return begin_read (r, count, guest_off, err);
  case Q2_REQUEST_CHANGE:
    return begin_change (r, count, guest_off, err);
  case Q2_REQUEST_FLUSH:
    break;
  }
  return 0;
}

/* ---- Ending --------------------------------------------------------- */

static int
take_bug (int result, struct qcow2_error *err)
{
  return q2_check_end (err) == -1 ? -1 : result;
}

int
q2_request_end_reading (const struct q2_io *io, int result,
                        struct qcow2_error *err)
{
  result = take_bug (result, err);
  if (result == -1)
    q2_io_note_bug (io, err);
  return result;
}

int
q2_request_end_change (struct q2_request *r, int result, bool fua,
                       struct qcow2_error *err)
{
  struct q2_writer *const w = &r->image->writer;

  (void) q2_check (r->kind == Q2_REQUEST_FLUSH ||
                   (r->kind == Q2_REQUEST_CHANGE && r->image->view == NULL));
  result = take_bug (result, err);
  if (r->kind == Q2_REQUEST_CHANGE) {
    if (result == 0 && Q2_PLANTED (Q2_PLANT_BITMAPS_SET_LATE))
      result = q2_writer_track (w, &r->io, r->count, r->guest_off, err);
    q2_gate_leave (&r->image->gate);
  }
  if (result == 0 && fua)
    result = take_bug (q2_writer_commit (w, &r->io, err), err);
  if (result == -1)
    q2_writer_note_error (w, &r->io, err);
  return result;
}

int
q2_request_end (struct q2_request *r, int result, struct qcow2_error *err)
{
  if (r->kind != Q2_REQUEST_READ)
    return q2_request_end_change (r, result, false, err);
  if (r->image->view == NULL)
    q2_flight_leave (&r->image->writer.flight, r->token);
  return q2_request_end_reading (&r->io, result, err);
}
