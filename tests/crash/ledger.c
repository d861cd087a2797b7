/* SPDX-License-Identifier: BSD-3-Clause */
/* ledger.c - see ledger.h.
 *
 * Owns      the guest's requests, and the rule for the contents of a sector.
 * Method    a sector has few writes, so searching all of them is cheap. One
 *           number per sector is enough for settled writes, since only the
 *           latest start of one matters.
 * Locks     ledger.lock while requests run; constant afterwards.
 */
#include "config.h"

#include "ledger.h"

#include "tag.h"
#include "unit.h"

/* A flush or a FUA write that was acknowledged at 'tick' settles all writes
 * (FUA: op number 'only') that had ended before 'before'.
 */
struct settling {
  uint64_t tick, before;
  uint32_t only;
};
#define NOT_ONE UINT32_MAX

void
ledger_init (struct ledger *l, uint64_t nr_sectors)
{
  memset (l, 0, sizeof *l);
  pthread_mutex_init (&l->lock, NULL);
  l->nr_sectors = nr_sectors;
  l->sectors = calloc (nr_sectors, sizeof *l->sectors);
  l->next_id = TAG_ZERO + 1;
  REQUIRE (l->sectors != NULL);
}

void
ledger_free (struct ledger *l)
{
  for (uint64_t i = 0; i < l->nr_sectors; ++i)
    free (l->sectors[i].op);
  free (l->sectors);
  free (l->ops);
  pthread_mutex_destroy (&l->lock);
}

static void
add_to_sector (struct sector_ops *s, size_t index)
{
  if (s->nr == s->room) {
    s->room = s->room ? 2 * s->room : 4;
    s->op = realloc (s->op, s->room * sizeof *s->op);
    REQUIRE (s->op != NULL);
  }
  s->op[s->nr++] = (uint32_t) index;
}

static size_t
add_locked (struct ledger *l, const struct guest_op *op)
{
  if (l->nr_ops == l->room) {
    l->room = l->room ? 2 * l->room : 64;
    l->ops = realloc (l->ops, l->room * sizeof *l->ops);
    REQUIRE (l->ops != NULL);
  }
  l->ops[l->nr_ops] = *op;
  if (!op->flush)
    for (uint64_t i = 0; i < op->count; ++i)
      add_to_sector (&l->sectors[op->sector + i], l->nr_ops);
  return l->nr_ops++;
}

void
ledger_initial (struct ledger *l, uint64_t sector, uint32_t id)
{
  /* Ended at 1: after 0, when nothing is settled yet. */
  const struct guest_op op = {
    .id = id, .acked = true, .sector = sector, .count = 1, .end = 1,
  };

  pthread_mutex_lock (&l->lock);
  add_locked (l, &op);
  pthread_mutex_unlock (&l->lock);
}

bool
ledger_is_open (const struct ledger *l, uint64_t sector)
{
  const struct sector_ops *const s = &l->sectors[sector];
  uint32_t initial = 0;

  for (uint32_t i = 0; i < s->nr; ++i) {
    const struct guest_op *const op = &l->ops[s->op[i]];

    if (op->end == 1)
      ++initial;
    else if (op->start != TICK_NEVER)   /* not one that was refused */
      return false;
  }
  return initial > 1;
}

uint32_t
ledger_first (const struct ledger *l, uint64_t sector)
{
  return l->ops[l->sectors[sector].op[0]].id;
}

uint32_t
ledger_new_id (struct ledger *l)
{
  uint32_t id;

  pthread_mutex_lock (&l->lock);
  id = l->next_id++;
  pthread_mutex_unlock (&l->lock);
  return id;
}

size_t
ledger_begin (struct ledger *l, const struct guest_op *op)
{
  struct guest_op running = *op;
  size_t index;

  running.end = TICK_NEVER;
  running.acked = false;
  pthread_mutex_lock (&l->lock);
  index = add_locked (l, &running);
  pthread_mutex_unlock (&l->lock);
  return index;
}

void
ledger_end (struct ledger *l, size_t index, uint64_t end, bool acked)
{
  pthread_mutex_lock (&l->lock);
  l->ops[index].end = end;
  l->ops[index].acked = acked;
  pthread_mutex_unlock (&l->lock);
}

void
ledger_refused (struct ledger *l, size_t index)
{
  pthread_mutex_lock (&l->lock);
  l->ops[index].start = l->ops[index].end = TICK_NEVER;
  pthread_mutex_unlock (&l->lock);
}

/* True if a write of 'id' to the sector had started before 'tick' and had not
 * ended before 'settled'.
 */
static bool
allows (const struct ledger *l, uint64_t sector, uint32_t id, uint64_t tick,
        uint64_t settled)
{
  const struct sector_ops *const s = &l->sectors[sector];

  for (uint32_t i = s->nr; i-- > 0;) {
    const struct guest_op *const op = &l->ops[s->op[i]];

    if (op->id == id && op->start < tick && op->end > settled)
      return true;
  }
  return false;
}

bool
ledger_may_read (struct ledger *l, uint64_t sector, uint32_t id,
                 uint64_t start, uint64_t end)
{
  const struct sector_ops *const s = &l->sectors[sector];
  uint64_t settled = 0;
  bool ok;

  pthread_mutex_lock (&l->lock);
  for (uint32_t i = 0; i < s->nr; ++i) {
    const struct guest_op *const op = &l->ops[s->op[i]];

    if (op->acked && op->end <= start && op->start > settled)
      settled = op->start;
  }
  ok = allows (l, sector, id, end, settled);
  pthread_mutex_unlock (&l->lock);
  return ok;
}

/* ---- Cuts -------------------------------------------------------------- */

static int
by_tick (const void *a, const void *b)
{
  const struct settling *const x = a, *const y = b;

  return x->tick < y->tick ? -1 : x->tick > y->tick;
}

void
ledger_cut_init (struct ledger_cut *c, const struct ledger *l)
{
  memset (c, 0, sizeof *c);
  c->l = l;
  c->settled = calloc (l->nr_sectors, sizeof *c->settled);
  c->events = calloc (l->nr_ops + 1, sizeof *c->events);
  REQUIRE (c->settled != NULL && c->events != NULL);
  for (size_t i = 0; i < l->nr_ops; ++i) {
    const struct guest_op *const op = &l->ops[i];

    if (op->acked && (op->flush || op->fua))
      c->events[c->nr_events++] = (struct settling) {
        .tick = op->end,
        .before = op->start,
        .only = op->flush ? NOT_ONE : (uint32_t) i,
      };
  }
  qsort (c->events, c->nr_events, sizeof *c->events, by_tick);
}

void
ledger_cut_free (struct ledger_cut *c)
{
  free (c->settled);
  free (c->events);
}

static void
settle (struct ledger_cut *c, const struct guest_op *op)
{
  for (uint64_t i = op->sector; i < op->sector + op->count; ++i)
    if (op->start > c->settled[i])
      c->settled[i] = op->start;
}

void
ledger_cut_move (struct ledger_cut *c, uint64_t tick)
{
  REQUIRE (tick >= c->tick);
  c->tick = tick;
  while (c->next_event < c->nr_events &&
         c->events[c->next_event].tick < tick) {
    const struct settling *const e = &c->events[c->next_event++];

    c->generation++;
    if (e->only != NOT_ONE)
      settle (c, &c->l->ops[e->only]);
    else
      for (size_t i = 0; i < c->l->nr_ops; ++i) {
        const struct guest_op *const op = &c->l->ops[i];

        if (!op->flush && op->acked && op->end <= e->before)
          settle (c, op);
      }
  }
}

bool
ledger_cut_allows (const struct ledger_cut *c, uint64_t sector, uint32_t id)
{
  return allows (c->l, sector, id, c->tick, c->settled[sector]);
}

void
ledger_cut_explain (const struct ledger_cut *c, uint64_t sector, char *buf,
                    size_t len)
{
  const struct sector_ops *const s = &c->l->sectors[sector];
  size_t used = 0;
  int n;

  n = snprintf (buf, len, "cut at %" PRIu64 ", settled from %" PRIu64
                "; writes (id:begin-end):", c->tick, c->settled[sector]);
  for (uint32_t i = 0; i < s->nr; ++i) {
    const struct guest_op *const op = &c->l->ops[s->op[i]];

    used += (size_t) n;
    if (used >= len || op->start >= c->tick)
      return;
    n = snprintf (buf + used, len - used, " %" PRIu32 ":%" PRIu64 "-%" PRId64
                  "%s%s", op->id, op->start, (int64_t) op->end,
                  op->acked ? "" : " failed", op->fua ? " FUA" : "");
  }
}
