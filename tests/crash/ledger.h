/* SPDX-License-Identifier: BSD-3-Clause */
/* ledger.h - what a guest has been promised.
 *
 * Every request of the guest with its begin and end, in the ticks of the
 * host's log.  Tells what a sector may hold after a crash at some tick, or
 * what a read may return.
 *
 * A write is settled if it was acknowledged before a flush began that has
 * been acknowledged (or, for a read, before the read began).  A sector
 * holds what any of its writes has put there, unless that write had ended
 * before a settled one began.
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
  bool flush;                   /* no sectors; all else is unused */
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
  /* Of each sector its ops, as indexes, in the order of their start. */
  struct sector_ops {
    uint32_t *op;
    uint32_t nr, room;
  } *sectors;
};

extern void ledger_init (struct ledger *l, uint64_t nr_sectors);
extern void ledger_free (struct ledger *l);

/* Before the guest begins: what the sector holds; any of these, if it is
 * called again.
 */
extern void ledger_initial (struct ledger *l, uint64_t sector, uint32_t id);

/* Has the guest never been asked to change the sector, which may hold any of
 * several?
 */
extern bool ledger_is_open (const struct ledger *l, uint64_t sector);

extern uint32_t ledger_first (const struct ledger *l, uint64_t sector);

/* A number for a write. */
extern uint32_t ledger_new_id (struct ledger *l);

/* A request begins at tick 'start', which the caller takes from the host
 * before it calls the engine; returns its index for ledger_end, called with
 * a tick taken after the engine has returned.
 */
extern size_t ledger_begin (struct ledger *l, const struct guest_op *op);
extern void ledger_end (struct ledger *l, size_t index, uint64_t end,
                        bool acked);

/* It failed, and says that it has changed nothing. */
extern void ledger_refused (struct ledger *l, size_t index);

/* May a read from tick 'start' to tick 'end' find this? */
extern bool ledger_may_read (struct ledger *l, uint64_t sector, uint32_t id,
                             uint64_t start, uint64_t end);

/* For cuts at ascending ticks, after all requests have ended: just before
 * what happened at that tick.
 */
struct ledger_cut {
  const struct ledger *l;
  uint64_t tick;
  uint64_t generation;          /* changes with what is promised */
  uint64_t *settled;            /* of each sector: the latest start of a
                                   settled write */
  struct settling *events;      /* what settles what, by tick */
  size_t nr_events, next_event;
};
extern void ledger_cut_init (struct ledger_cut *c, const struct ledger *l);
extern void ledger_cut_free (struct ledger_cut *c);
extern void ledger_cut_move (struct ledger_cut *c, uint64_t tick);
extern bool ledger_cut_allows (const struct ledger_cut *c, uint64_t sector,
                               uint32_t id);
/* For messages: what is known about the sector. */
extern void ledger_cut_explain (const struct ledger_cut *c, uint64_t sector,
                                char *buf, size_t len);

#endif /* CRASH_LEDGER_H */
