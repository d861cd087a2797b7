/* SPDX-License-Identifier: BSD-3-Clause */
/* replay.c - see replay.h.
 *
 * Owns      the rules for the states after a crash:
 *           - an operation that had ended before a completed flush of the
 *             same file started is there;
 *           - any other that has started may be there, or not, or some of its
 *             sectors of 512 bytes, which are never torn;
 *           - a write that failed may be there or not, sector by sector,
 *             from then until it lands or is overwritten (late.h);
 *           - the host forgets all operations that a failed flush should have
 *             made durable: no later flush does it.
 * Method    'base' has all durable operations.  A state is made in 'scratch'
 *           by adding operations in the order of their ends, and undone by
 *           copying the touched sectors from 'base'.  For each moment there is
 *           the state with all operations that had ended ("prefix"), and that
 *           plus one that was under way, whole and torn.  Before the end of a
 *           flush there are subsets of all operations that are not durable:
 *           all subsets if there are few operations; else by kind of metadata,
 *           all but one, only one, and random ones.  If there is a data file a
 *           state is a pair of files: each has its own 'base', and one list
 *           has the operations on both that are not durable.
 *           The hash of a state is the sum of its sectors' hashes.
 * Does not  look at the contents of the states.
 */
#include "config.h"

#include "replay.h"

#include "ledger.h"
#include "tag.h"
#include "unit.h"

struct event {
  uint64_t tick;
  struct host_op *op;
  bool end;
};

/* One of the two files. */
struct file {
  const struct host *h;         /* NULL: there is no such file */
  unsigned char *base, *scratch;
  uint64_t base_size, scratch_size;
  uint64_t doubtful;            /* operations that ended before this are never
                                   durable */
  uint32_t *touched;            /* sectors in which they differ */
  size_t nr_touched, touched_room;
};

#define NR_FILES 2

struct replayer {
  const struct host *h;         /* the image's */
  const struct replay_spec *spec;
  state_fn fn;
  void *opaque;
  struct rng rng;
  bool stopped;

  struct event *events;
  size_t nr_events;
  struct host_op **pending;     /* begun, not durable; by end */
  size_t nr_pending;
  unsigned char *choice;        /* for each: its part in a state */

  struct file files[NR_FILES];
  uint64_t hash;
  char how[200];
};

/* ---- A state ----------------------------------------------------------- */

enum choice { NOTHING, ALL, TORN };

static uint64_t
hash_sector (const struct file *f, const unsigned char *bytes,
             uint64_t sector)
{
  uint64_t h =
    (sector + ((uint64_t) f->h->file << 40)) * UINT64_C (0x9e3779b97f4a7c15);
  uint64_t any = 0;

  for (unsigned i = 0; i < SECTOR; i += 8) {
    uint64_t v;

    memcpy (&v, bytes + sector * SECTOR + i, 8);
    any |= v;
    h = (h ^ v) * UINT64_C (0x9fb21c651e98df25);
    h ^= h >> 29;
  }
  return any ? h : 0;
}

static void
touch (struct file *f, uint64_t sector)
{
  if (f->nr_touched == f->touched_room) {
    f->touched_room = f->touched_room ? 2 * f->touched_room : 1024;
    f->touched = realloc (f->touched, f->touched_room * sizeof *f->touched);
    REQUIRE (f->touched != NULL);
  }
  f->touched[f->nr_touched++] = (uint32_t) sector;
}

/* The part of [host_off, +len) that lies in one sector; data NULL: zeros. */
static void
put_sector (struct replayer *r, struct file *f, uint64_t host_off,
            uint64_t len, const unsigned char *data)
{
  const uint64_t sector = host_off / SECTOR;

  touch (f, sector);
  r->hash -= hash_sector (f, f->scratch, sector);
  if (data != NULL)
    memcpy (f->scratch + host_off, data, len);
  else
    memset (f->scratch + host_off, 0, len);
  r->hash += hash_sector (f, f->scratch, sector);
}

static void
put_range (struct replayer *r, struct file *f, const struct host_op *op,
           enum choice choice)
{
  const uint64_t end = op->host_off + op->len;
  /* Torn: a beginning, an end, or sectors here and there. */
  const uint64_t how = choice == TORN ? rng_next (&r->rng) : 0;
  const uint64_t edge = op->len ? how / 4 % op->len + op->host_off : 0;

  for (uint64_t at = op->host_off, next; at < end; at = next) {
    next = (at / SECTOR + 1) * SECTOR;
    if (next > end)
      next = end;
    if (choice == TORN && (how % 4 == 0 ? at > edge :
                           how % 4 == 1 ? at <= edge :
                           rng_next (&r->rng) % 2))
      continue;
    put_sector (r, f, at, next - at,
                op->data ? op->data + (at - op->host_off) : NULL);
    if (f->scratch_size < next)
      f->scratch_size = next;
  }
}

static void
put (struct replayer *r, const struct host_op *op, enum choice choice)
{
  struct file *const f = &r->files[op->file];

  if (choice == NOTHING)
    return;
  switch (op->kind) {
  case HOST_WRITE:
  case HOST_ZERO:
  case HOST_TRIM:
    put_range (r, f, op, choice);
    break;
  case HOST_GROW:
    if (f->scratch_size < op->host_off)
      f->scratch_size = op->host_off;
    break;
  case HOST_CUT:
    if (f->scratch_size > op->host_off) {
      const struct host_op rest = {
        .kind = HOST_ZERO, .host_off = op->host_off,
        .len = f->scratch_size - op->host_off,
      };

      put_range (r, f, &rest, ALL);
      f->scratch_size = op->host_off;
    }
    break;
  case HOST_READ:
  case HOST_FLUSH:
    break;
  }
}

static void
take_back (struct replayer *r, struct file *f)
{
  for (size_t i = 0; i < f->nr_touched; ++i) {
    const uint64_t sector = f->touched[i];

    r->hash -= hash_sector (f, f->scratch, sector);
    memcpy (f->scratch + sector * SECTOR, f->base + sector * SECTOR, SECTOR);
    r->hash += hash_sector (f, f->scratch, sector);
  }
  f->nr_touched = 0;
  f->scratch_size = f->base_size;
}

/* The state that r->choice describes. */
static void
emit (struct replayer *r, uint64_t tick, const char *what)
{
  const struct file *const image = &r->files[0], *const data = &r->files[1];
  struct state state;
  unsigned nr = 0;

  if (r->stopped)
    return;
  for (size_t i = 0; i < r->nr_pending; ++i) {
    put (r, r->pending[i], r->choice[i]);
    nr += r->choice[i] != NOTHING;
  }
  snprintf (r->how, sizeof r->how, "before tick %" PRIu64 ": %s, %u of %zu "
            "operations that are not durable", tick, what, nr,
            r->nr_pending);
  state = (struct state) {
    .bytes = image->scratch, .size = image->scratch_size,
    .data = data->scratch, .data_size = data->scratch_size,
    .hash = r->hash + image->scratch_size * UINT64_C (0x2545f4914f6cdd1d) +
      data->scratch_size * UINT64_C (0xd6e8feb86659fd93),
    .tick = tick, .how = r->how,
  };
  if (!r->fn (r->opaque, &state))
    r->stopped = true;
  for (unsigned i = 0; i < NR_FILES; ++i)
    take_back (r, &r->files[i]);
}

/* ---- Which states ------------------------------------------------------ */

static void
choose_ended (struct replayer *r)
{
  for (size_t i = 0; i < r->nr_pending; ++i)
    r->choice[i] = r->pending[i]->end != TICK_NEVER ? ALL : NOTHING;
}

/* Groups: each class of writes, zeroing, trimming, the size; all operations on
 * the data file.
 */
static unsigned
group_of (const struct host_op *op)
{
  if (op->file != 0)
    return QCOW2_IO_NR_CLASSES + 3;
  switch (op->kind) {
  case HOST_WRITE:
    return op->io_class;
  case HOST_ZERO:
    return QCOW2_IO_NR_CLASSES;
  case HOST_TRIM:
    return QCOW2_IO_NR_CLASSES + 1;
  case HOST_GROW:
  case HOST_CUT:
  case HOST_READ:
  case HOST_FLUSH:
    break;
  }
  return QCOW2_IO_NR_CLASSES + 2;
}

static void
emit_groups (struct replayer *r, uint64_t tick)
{
  unsigned present = 0;

  for (size_t i = 0; i < r->nr_pending; ++i)
    present |= 1u << group_of (r->pending[i]);
  for (unsigned set = present;; set = (set - 1) & present) {
    for (size_t i = 0; i < r->nr_pending; ++i)
      r->choice[i] = set & 1u << group_of (r->pending[i]) ? ALL : NOTHING;
    emit (r, tick, "some kinds of operations");
    if (set == 0)
      break;
  }
}

static void
emit_random (struct replayer *r, uint64_t tick)
{
  static const unsigned of_eight[] = { 1, 4, 7, 4 };
  const uint64_t way = rng_below (&r->rng, 6);

  if (way < 2) {
    /* All but one; one alone. */
    memset (r->choice, way == 0 ? ALL : NOTHING, r->nr_pending);
    r->choice[rng_below (&r->rng, r->nr_pending)] ^= ALL;
    emit (r, tick, way == 0 ? "all but one" : "only one");
    return;
  }
  for (size_t i = 0; i < r->nr_pending; ++i)
    r->choice[i] = rng_below (&r->rng, 8) < of_eight[way - 2] ?
      (rng_below (&r->rng, 8) == 0 ? TORN : ALL) : NOTHING;
  emit (r, tick, "random operations");
}

static void
emit_subsets (struct replayer *r, uint64_t tick)
{
  const unsigned max = r->spec->all_subsets;

  if (r->nr_pending == 0)
    return;
  if (r->nr_pending <= max) {
    for (uint64_t set = 0; set < UINT64_C (1) << r->nr_pending; ++set) {
      for (size_t i = 0; i < r->nr_pending; ++i)
        r->choice[i] = set >> i & 1 ? ALL : NOTHING;
      emit (r, tick, "a subset");
    }
    memset (r->choice, ALL, r->nr_pending);
    r->choice[rng_below (&r->rng, r->nr_pending)] = TORN;
    emit (r, tick, "one torn");
    return;
  }
  emit_groups (r, tick);
  for (unsigned i = 0; i < r->spec->subsets; ++i)
    emit_random (r, tick);
}

/* ---- Through the log --------------------------------------------------- */

static int
by_tick (const void *a, const void *b)
{
  const struct event *const x = a, *const y = b;

  return x->tick < y->tick ? -1 : x->tick > y->tick;
}

static void
list_file (struct replayer *r, const struct host *h)
{
  for (size_t i = 0; i < h->nr_log; ++i) {
    struct host_op *const op = h->log[i];

    REQUIRE (op->end != TICK_NEVER);
    r->events[r->nr_events++] = (struct event) { op->start, op, false };
    r->events[r->nr_events++] = (struct event) { op->end, op, true };
  }
}

static void
list_events (struct replayer *r)
{
  size_t nr = 1;

  for (unsigned i = 0; i < NR_FILES && r->files[i].h != NULL; ++i)
    nr += r->files[i].h->nr_log;
  r->events = calloc (2 * nr, sizeof *r->events);
  r->pending = calloc (nr, sizeof *r->pending);
  r->choice = calloc (nr, 1);
  REQUIRE (r->events != NULL && r->pending != NULL && r->choice != NULL);
  for (unsigned i = 0; i < NR_FILES && r->files[i].h != NULL; ++i)
    list_file (r, r->files[i].h);
  qsort (r->events, r->nr_events, sizeof *r->events, by_tick);
}

/* It has ended: move it after all that have ended, before all that run. */
static void
move_to_its_end (struct replayer *r, const struct host_op *op)
{
  size_t from = 0, to = 0;
  struct host_op *moved;

  while (r->pending[from] != op)
    ++from;
  moved = r->pending[from];
  memmove (r->pending + from, r->pending + from + 1,
           (r->nr_pending - from - 1) * sizeof *r->pending);
  while (to < r->nr_pending - 1 && r->pending[to]->end < moved->end)
    ++to;
  memmove (r->pending + to + 1, r->pending + to,
           (r->nr_pending - 1 - to) * sizeof *r->pending);
  r->pending[to] = moved;
}

/* It will not happen any more. */
static void
remove_pending (struct replayer *r, const struct host_op *op)
{
  size_t i = 0;

  while (r->pending[i] != op)
    ++i;
  memmove (r->pending + i, r->pending + i + 1,
           (r->nr_pending - i - 1) * sizeof *r->pending);
  r->nr_pending--;
}

/* A flush of the file that began at 'start' has ended. */
static void
make_durable (struct replayer *r, struct file *f, uint64_t start)
{
  size_t kept = 0;

  for (size_t i = 0; i < r->nr_pending; ++i) {
    const struct host_op *const op = r->pending[i];

    if (&r->files[op->file] == f && op->end < start && op->end > f->doubtful)
      put (r, op, ALL);
    else
      r->pending[kept++] = r->pending[i];
  }
  r->nr_pending = kept;
  for (size_t i = 0; i < f->nr_touched; ++i)
    memcpy (f->base + f->touched[i] * (size_t) SECTOR,
            f->scratch + f->touched[i] * (size_t) SECTOR, SECTOR);
  f->nr_touched = 0;
  f->base_size = f->scratch_size;
}

static void
step (struct replayer *r, const struct event *e, uint64_t next_tick)
{
  const bool often =
    rng_below (&r->rng, 100) < r->spec->prefix_percent;

  if (e->end)
    e->op->end = e->tick;
  if (e->op->kind == HOST_FLUSH) {
    if (e->end) {
      emit_subsets (r, e->tick);
      if (e->op->failed)
        r->files[e->op->file].doubtful = e->op->start;
      else
        make_durable (r, &r->files[e->op->file], e->op->start);
    }
    return;
  }
  if (!e->end) {
    r->pending[r->nr_pending++] = e->op;
    if (!often)
      return;
    choose_ended (r);
    r->choice[r->nr_pending - 1] = ALL;
    emit (r, next_tick, "one under way, done");
    if (e->op->len <= SECTOR)
      return;
    choose_ended (r);
    r->choice[r->nr_pending - 1] = TORN;
    emit (r, next_tick, "one under way, torn");
    return;
  }
  if (e->op->never) {
    remove_pending (r, e->op);
    return;
  }
  move_to_its_end (r, e->op);
  if (!often)
    return;
  choose_ended (r);
  emit (r, next_tick, "prefix");
}

static void
init_file (struct replayer *r, struct file *f, const struct host *h)
{
  const uint64_t capacity = h->spec.capacity;

  f->h = h;
  f->base = malloc (capacity);
  f->scratch = malloc (capacity);
  REQUIRE (f->base != NULL && f->scratch != NULL);
  memcpy (f->base, h->initial, capacity);
  memcpy (f->scratch, h->initial, capacity);
  f->base_size = f->scratch_size = h->initial_size;
  for (uint64_t i = 0; i < capacity / SECTOR; ++i)
    r->hash += hash_sector (f, f->base, i);
}

bool
replay (const struct host *h, const struct replay_spec *spec, state_fn fn,
        void *opaque)
{
  struct replayer r = {
    .h = h, .spec = spec, .fn = fn, .opaque = opaque, .rng = { spec->seed },
  };

  init_file (&r, &r.files[0], h);
  if (h->data != NULL)
    init_file (&r, &r.files[1], h->data);
  list_events (&r);
  /* An end is later than any tick until it comes. */
  for (size_t i = 0; i < r.nr_events; ++i)
    if (r.events[i].end)
      r.events[i].op->end = TICK_NEVER;
  for (size_t i = 0; i < r.nr_events; ++i)
    step (&r, &r.events[i],
          i + 1 < r.nr_events ? r.events[i + 1].tick : host_now (h));
  emit_subsets (&r, host_now (h));
  for (unsigned i = 0; i < NR_FILES; ++i) {
    free (r.files[i].base);
    free (r.files[i].scratch);
    free (r.files[i].touched);
  }
  free (r.events);
  free (r.pending);
  free (r.choice);
  return !r.stopped;
}
