/* SPDX-License-Identifier: BSD-3-Clause */
/* flight.h - knowing when all requests that began before some moment ended.
 *
 * A request that looks up where bytes are in the file, and then uses them
 * without a lock, enters before the lookup and leaves when it is done with
 * the bytes.  Space that an entry has let go may be used again once everybody
 * who was inside at that moment has left.
 *
 * Nobody waits here: time is counted in epochs, whoever frees space notes the
 * epoch, and asks later whether it has passed.
 */
#ifndef QCOW2_BASE_FLIGHT_H
#define QCOW2_BASE_FLIGHT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* All zero is a good start. */
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
    /* Counted in the right place, unless the epoch has changed meanwhile. */
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

/* Whether that many epochs have ended; for a stamp + 2, that everybody who was
 * inside then has left.  Moves nothing on, so anybody may ask.
 */
static inline bool
q2_flight_is_past (struct q2_flight *f, uint64_t epoch)
{
  return atomic_load (&f->epoch) >= epoch;
}

/* Whether everybody who was inside when 'stamp' was taken has left.  Moves
 * time on as far as it can be moved: an epoch ends when nobody of the one
 * before it is left, so that its counter can be used again.  Not to be called
 * by two threads at once.
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
