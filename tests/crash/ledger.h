/* SPDX-License-Identifier: BSD-3-Clause */
/* ledger.h - what a guest may find on its disk.
 *
 * Records every request of the guest with its start and end, in ticks of the
 * host's log.  Tells which contents a sector may have after a crash at some
 * tick, or in a read.
 *
 * A write is settled if it was acknowledged before the start of a flush that
 * was acknowledged (or, for a read, before the read started).  A sector may
 * have the contents of any of its writes, except those that had ended before a
 * settled one started.
 */
#ifndef CRASH_LEDGER_H
#define CRASH_LEDGER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TICK_NEVER UINT64_MAX

struct guest_op {
  uint32_t id;                  /* as in tag.h; TAG_ZERO: zeros */
  bool flush;                   /* no sectors; other fields are unused */
  bool fua, acked;
  uint64_t sector, count;
  uint64_t start, end;
};

struct ledger {
  pthread_mutex_t lock;         /* of all below, while requests run */
  uint64_t nr_sectors;
  struct guest_op *ops;
  size_t nr_ops, room;
  uint32_t next_id;
  /* For each sector the indexes of its ops, in the order of their start. */
  struct sector_ops {
    uint32_t *op;
    uint32_t nr, room;
  } *sectors;
};

extern void ledger_init (struct ledger *l, uint64_t nr_sectors);
extern void ledger_free (struct ledger *l);

/* Before the guest starts: the contents of the sector; repeated calls give
 * alternatives.
 */
extern void ledger_initial (struct ledger *l, uint64_t sector, uint32_t id);

/* True if the sector has alternatives and was never to be changed. */
extern bool ledger_is_open (const struct ledger *l, uint64_t sector);

extern uint32_t ledger_first (const struct ledger *l, uint64_t sector);

/* A new number for a write. */
extern uint32_t ledger_new_id (struct ledger *l);

/* Enter a request that starts at tick 'start', taken from the host before the
 * engine is called.  Returns its index for ledger_end, which gets a tick taken
 * after the engine has returned.
 */
extern size_t ledger_begin (struct ledger *l, const struct guest_op *op);
extern void ledger_end (struct ledger *l, size_t index, uint64_t end,
                        bool acked);

/* It failed without changing anything. */
extern void ledger_refused (struct ledger *l, size_t index);

/* True if a read from tick 'start' to tick 'end' may return this. */
extern bool ledger_may_read (struct ledger *l, uint64_t sector, uint32_t id,
                             uint64_t start, uint64_t end);

/* For power cuts at ascending ticks, after all requests have ended: just
 * before the events of that tick.
 */
struct ledger_cut {
  const struct ledger *l;
  uint64_t tick;
  uint64_t generation;          /* changes with the guarantees */
  uint64_t *settled;            /* for each sector: the latest start of a
                                   settled write */
  struct settling *events;      /* flushes and FUA writes, by tick */
  size_t nr_events, next_event;
};
extern void ledger_cut_init (struct ledger_cut *c, const struct ledger *l);
extern void ledger_cut_free (struct ledger_cut *c);
extern void ledger_cut_move (struct ledger_cut *c, uint64_t tick);
extern bool ledger_cut_allows (const struct ledger_cut *c, uint64_t sector,
                               uint32_t id);
/* Describe the sector, for messages. */
extern void ledger_cut_explain (const struct ledger_cut *c, uint64_t sector,
                                char *buf, size_t len);

#endif /* CRASH_LEDGER_H */
