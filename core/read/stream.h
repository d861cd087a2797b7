/* SPDX-License-Identifier: BSD-3-Clause */
/* stream.h - detects sequential readers among the requests of an image.
 *
 * Requests of one reader arrive out of order: clients keep many in flight and
 * the server runs them on many threads.  So a stream is a region of which
 * requests cover most.
 */
#ifndef QCOW2_READ_STREAM_H
#define QCOW2_READ_STREAM_H

#include "base/lock.h"

#include <stdbool.h>
#include <stdint.h>

#define Q2_STREAMS 16

struct q2_stream {
  uint64_t start;               /* guest offset where counting began */
  uint64_t bytes;               /* requested since */
  uint64_t pos;                 /* end of the furthest request */
  uint64_t frontier;            /* read ahead up to here */
  uint64_t window;              /* how far to read ahead of pos */
  uint64_t last_use;            /* 0: slot is free */
  unsigned requests;
};

struct q2_streams {
  struct q2_mutex lock;         /* guards everything below */
  uint64_t clock;
  uint64_t max_window;
  struct q2_stream streams[Q2_STREAMS];
};

/* 'max_window' is how far to read ahead at most, in bytes; 0 turns it off. */
extern void q2_streams_init (struct q2_streams *streams, uint64_t max_window)
  __attribute__ ((__nonnull__));
extern void q2_streams_destroy (struct q2_streams *streams)
  __attribute__ ((__nonnull__));

/* What to do about a request. */
struct q2_stream_advice {
  bool sequential;
  size_t stream;                /* index of its stream */
  uint64_t from, to;            /* read ahead this now; empty: nothing */
};

/* Note a request for [guest_off, guest_off+count) of a disk of 'disk_size'
 * bytes.  The advice reaches at most 'max_window' from it.  If the request
 * must wait for the reading ahead ('waits'), the advice covers the request
 * itself, and comes only when all earlier bytes have been used.
 */
extern struct q2_stream_advice
q2_streams_note (struct q2_streams *streams, uint64_t guest_off,
                 uint64_t count, uint64_t disk_size, uint64_t max_window,
                 bool waits)
  __attribute__ ((__nonnull__));

/* Tell the stream that the advice was followed only up to 'done'. */
extern void q2_streams_fell_short (struct q2_streams *streams,
                                   const struct q2_stream_advice *advice,
                                   uint64_t done)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_READ_STREAM_H */
