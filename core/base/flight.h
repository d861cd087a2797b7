/* SPDX-License-Identifier: BSD-3-Clause */
/* flight.h - have all requests that began before some moment ended?
 *
 * A request that looks up a host offset, and then uses the bytes there without
 * a lock, enters before the lookup and leaves when it is done with the bytes.
 * An unreferenced cluster may be used again once all requests that were inside
 * when it was unreferenced have left.
 *
 * No thread waits here.  Time is counted in epochs: a thread that frees space
 * notes the epoch, and asks later whether it has passed.
 */
#ifndef QCOW2_BASE_FLIGHT_H
#define QCOW2_BASE_FLIGHT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Initialized by zeros. */
struct q2_flight {
  _Atomic uint64_t epoch;
  _Atomic uint64_t inside[2];   /* requests of even and of odd epochs */
};

/* Returns a token for q2_flight_leave. */
static inline unsigned
q2_flight_enter (struct q2_flight *f)
{
  for (;;) {
    const uint64_t epoch = atomic_load (&f->epoch);

    atomic_fetch_add (&f->inside[epoch & 1], 1);
    /* The count is in the right place unless the epoch has changed. */
    if (atomic_load (&f->epoch) == epoch)
      return epoch & 1;
    atomic_fetch_sub (&f->inside[epoch & 1], 1);
  }
}

static inline void
q2_flight_leave (struct q2_flight *f, unsigned token)
{
  atomic_fetch_sub (&f->inside[token], 1);
}

/* The stamp of this moment. */
static inline uint64_t
q2_flight_stamp (struct q2_flight *f)
{
  return atomic_load (&f->epoch);
}

/* True if 'epoch' has been reached.  For a stamp + 2 this means that all
 * requests that were inside at the stamp have left.  Advances nothing, so any
 * thread may call it.
 */
static inline bool
q2_flight_is_past (struct q2_flight *f, uint64_t epoch)
{
  return atomic_load (&f->epoch) >= epoch;
}

/* True if all requests that were inside when 'stamp' was taken have left.
 * Advances the epoch as far as possible: an epoch ends when the last request
 * of the one before it has left, so that its counter is free again.  Only one
 * thread at a time may call it.
 */
static inline bool
q2_flight_has_passed (struct q2_flight *f, uint64_t stamp)
{
  for (;;) {
    const uint64_t epoch = atomic_load (&f->epoch);

    if (epoch >= stamp + 2)
      return true;
    if (atomic_load (&f->inside[(epoch + 1) & 1]) != 0)
      return false;
    atomic_store (&f->epoch, epoch + 1);
  }
}

#endif /* QCOW2_BASE_FLIGHT_H */
