/* SPDX-License-Identifier: BSD-3-Clause */
/* map.c - qcow2_map: what an image itself has.
 *
 * Owns      nothing; map/map.c walks the tables.
 * Method    a walk that reads no data and does not push others' tables out of
 *           the cache.
 * Locks     none: a request like a read.
 */
#include "config.h"

#include "image/request.h"

#include "base/error.h"
#include "map/map.h"

#define MAX_RUNS 64

static enum qcow2_piece_kind
kind_of (enum q2_run_kind kind)
{
  switch (kind) {
  case Q2_RUN_UNALLOCATED:
    return QCOW2_PIECE_UNALLOCATED;
  case Q2_RUN_ZERO:
    return QCOW2_PIECE_ZERO;
  case Q2_RUN_DATA:
    return QCOW2_PIECE_DATA;
  case Q2_RUN_COMPRESSED:
    return QCOW2_PIECE_COMPRESSED;
  }
  return QCOW2_PIECE_DATA;
}

static int
map_pieces (struct qcow2_image *image, const struct q2_io *io, uint64_t count,
            uint64_t guest_off, qcow2_piece_fn fn, void *fn_opaque,
            struct qcow2_error *err)
{
  struct q2_run runs[MAX_RUNS];
  size_t nr;

  while (count > 0) {
    if (q2_map_scan (image->reader.tables, io, guest_off, count, runs,
                     MAX_RUNS, &nr, err) == -1)
      return -1;
    for (size_t i = 0; i < nr; ++i) {
      const struct qcow2_piece piece = {
        .kind = kind_of (runs[i].kind), .guest_off = runs[i].guest_off,
        .len = runs[i].len, .host_off = runs[i].host_off,
      };

      if (fn (fn_opaque, &piece) != 0)
        return 0;
      guest_off += piece.len;
      count -= piece.len;
    }
  }
  return 0;
}

int
qcow2_map (struct qcow2_image *image, const struct qcow2_io *host,
           uint64_t count, uint64_t guest_off, qcow2_piece_fn fn,
           void *fn_opaque, struct qcow2_error *err)
{
  struct q2_request req;

  if (image->base != NULL)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                    "a bitmap or a difference has no mapping of its own");
  if (q2_request_begin (&req, image, host, Q2_REQUEST_READ, count, guest_off,
                        err) == -1)
    return -1;
  return q2_request_end (&req, map_pieces (image, &req.io, count, guest_off,
                                           fn, fn_opaque, err), err);
}
