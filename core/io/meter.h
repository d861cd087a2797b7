/* SPDX-License-Identifier: BSD-3-Clause */
/* meter.h - how long the host takes to answer, and counters of requests.
 *
 * Everything is relaxed atomics: the numbers are for users and for decisions
 * about speed; correctness does not depend on them.
 */
#ifndef QCOW2_IO_METER_H
#define QCOW2_IO_METER_H

#include "base/bits.h"
#include "qcow2.h"

#include <stdatomic.h>
#include <time.h>

/* A local file answers from the page cache in a few microseconds, a fast
 * network in several hundred.  From here on, saving a request is worth a copy.
 */
#define Q2_SLOW_US 250

struct q2_meter {
  bool counting;                /* constant: counters are wanted */
  _Atomic uint32_t latency_us;  /* 0: not known yet */
  struct {
    _Atomic uint64_t requests, bytes;
    _Atomic uint64_t writes, written;
  } io[QCOW2_IO_NR_CLASSES];
  _Atomic uint64_t flushes;
};

static inline uint64_t
q2_meter_now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

static inline bool
q2_meter_is_slow (const struct q2_meter *meter)
{
  return atomic_load_explicit (&meter->latency_us, memory_order_relaxed) >=
    Q2_SLOW_US;
}

/* Reading the clock costs as much as looking up a cluster, so only some of the
 * data requests to a fast host are timed.
 */
static inline bool
q2_meter_wants_sample (const struct q2_meter *meter,
                       enum qcow2_io_class class, uint64_t host_off)
{
  return class != QCOW2_IO_DATA || ((host_off >> 12) & 31) == 0 ||
    q2_meter_is_slow (meter);
}

/* A request for 'count' bytes took 'us' microseconds.  The time for moving the
 * bytes, at a GiB per second, is not latency.  A few short times make a host
 * fast, since long ones may come from a busy machine; a single short one may
 * come from a cache on the way.  The first one counts more, since a mistake
 * costs less then than a slow start.
 */
static inline void
q2_meter_sample (struct q2_meter *meter, uint64_t us, uint32_t count)
{
  const uint32_t old =
    atomic_load_explicit (&meter->latency_us, memory_order_relaxed);
  const uint64_t moving = old == 0 ? count >> 12 : count >> 10;
  uint64_t new = us > moving ? us - moving : 1;

  if (old != 0 && new > old)
    new = q2_min (new, (uint64_t) old + old / 2 + 5);
  else
    new = q2_max (new, old / 4);
  new = q2_min (new, UINT32_MAX);
  if (new != old)
    atomic_store_explicit (&meter->latency_us, (uint32_t) new,
                           memory_order_relaxed);
}

static inline void
q2_meter_count (struct q2_meter *meter, enum qcow2_io_class class,
                uint64_t bytes)
{
  if (!meter->counting)
    return;
  atomic_fetch_add_explicit (&meter->io[class].requests, 1,
                             memory_order_relaxed);
  atomic_fetch_add_explicit (&meter->io[class].bytes, bytes,
                             memory_order_relaxed);
}

static inline void
q2_meter_count_write (struct q2_meter *meter, enum qcow2_io_class class,
                      uint64_t bytes)
{
  if (!meter->counting)
    return;
  atomic_fetch_add_explicit (&meter->io[class].writes, 1,
                             memory_order_relaxed);
  atomic_fetch_add_explicit (&meter->io[class].written, bytes,
                             memory_order_relaxed);
}

#endif /* QCOW2_IO_METER_H */
