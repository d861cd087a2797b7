/* SPDX-License-Identifier: BSD-3-Clause */
/* test-gather.c - the host ranges to fetch for a set of runs.
 *
 * Method    random runs against a model that marks the sectors to be covered;
 *           all ranges are multiples of a sector.  Odd and huge ranges have
 *           separate tests.
 */
#include "config.h"

#include "unit.h"

#include "read/reader.h"

#define SECTOR 512
#define MODEL_SECTORS 65536     /* 32 MiB */
#define CHUNK (Q2_PIECE_BYTES / SECTOR)

/* ---- Gathering ---------------------------------------------------------- */

static bool
takes_part (const struct q2_run *run, bool data, uint64_t file_size)
{
  return run->host_off < file_size &&
    (run->kind == Q2_RUN_COMPRESSED || (run->kind == Q2_RUN_DATA && data));
}

static uint64_t
host_len (const struct q2_run *run)
{
  return run->kind == Q2_RUN_COMPRESSED ? run->csize : run->len;
}

static void
mark_needed (unsigned char *map, const struct q2_run *run, bool widen,
             uint64_t file_size)
{
  uint64_t from = run->host_off / SECTOR;
  uint64_t to = (run->host_off + host_len (run)) / SECTOR;

  if (widen) {
    from = from / CHUNK * CHUNK;
    to = (to + CHUNK - 1) / CHUNK * CHUNK;
  }
  for (uint64_t i = from; i < to && i < file_size / SECTOR; ++i)
    map[i] = 1;
}

/* What holds for every result. */
static void
check_pieces (const struct q2_pieces *p, uint64_t file_size)
{
  CHECK (p->nr <= Q2_MAX_PIECES);
  for (size_t i = 0; i < p->nr; ++i) {
    const struct q2_piece *const piece = &p->piece[i];

    CHECK (piece->start < piece->end);
    CHECK (piece->end <= file_size);
    CHECK (piece->end - piece->start <= Q2_PIECE_BYTES);
  }
}

static struct q2_run
random_run (struct rng *rng, uint64_t after)
{
  static const enum q2_run_kind kinds[] = {
    Q2_RUN_UNALLOCATED, Q2_RUN_ZERO, Q2_RUN_DATA, Q2_RUN_COMPRESSED,
    Q2_RUN_COMPRESSED, Q2_RUN_DATA,
  };
  const uint64_t most = rng_below (rng, 8) ? 64 : 6000;
  struct q2_run run = { .kind = kinds[rng_below (rng, 6)] };

  /* Behind the one before, near it, or anywhere. */
  switch (rng_below (rng, 3)) {
  case 0: run.host_off = after; break;
  case 1: run.host_off = after + SECTOR * rng_below (rng, 64); break;
  default: run.host_off = SECTOR * rng_below (rng, MODEL_SECTORS);
  }
  if (run.host_off >= SECTOR * (MODEL_SECTORS - 8192))
    run.host_off = SECTOR * rng_below (rng, MODEL_SECTORS / 2);
  run.len = SECTOR * (1 + rng_below (rng, most));
  run.csize = SECTOR * (1 + rng_below (rng, most));
  return run;
}

static void
check_model (const struct q2_run *runs, size_t nr, bool data, bool widen,
             uint64_t file_size)
{
  static unsigned char needed[MODEL_SECTORS], got[MODEL_SECTORS];
  struct q2_pieces p = { .nr = 0 };

  memset (needed, 0, sizeof needed);
  memset (got, 0, sizeof got);
  for (size_t i = 0; i < nr; ++i)
    if (takes_part (&runs[i], data, file_size))
      mark_needed (needed, &runs[i], widen, file_size);
  q2_gather (runs, nr, data, widen, file_size, &p);
  check_pieces (&p, file_size);
  for (size_t i = 0; i < p.nr; ++i) {
    CHECK (p.piece[i].start % SECTOR == 0 && p.piece[i].end % SECTOR == 0);
    if (widen)
      CHECK_EQ (p.piece[i].start % Q2_PIECE_BYTES, 0);
    memset (got + p.piece[i].start / SECTOR, 1,
            (p.piece[i].end - p.piece[i].start) / SECTOR);
  }
  /* All of it, or, where there were too many, nothing else. */
  if (p.nr < Q2_MAX_PIECES)
    CHECK_BYTES (got, needed, sizeof got);
  else
    for (size_t i = 0; i < MODEL_SECTORS; ++i)
      if (got[i] > needed[i]) {
        CHECK (!"a piece of something nobody needs");
        break;
      }
}

static void
test_model (void)
{
  for (unsigned seed = 1; seed <= unit_scaled (3000); ++seed) {
    struct rng rng = { seed };
    const size_t nr = 1 + rng_below (&rng, rng_below (&rng, 4) ? 32 : 80);
    const bool data = rng_below (&rng, 2), widen = rng_below (&rng, 2);
    const uint64_t file_size = SECTOR * (1 + rng_below (&rng, MODEL_SECTORS));
    struct q2_run runs[80];
    uint64_t after = 0;

    unit_context ("seed %u, %zu runs%s%s, file of %" PRIu64, seed, nr,
                  data ? ", data" : "", widen ? ", widened" : "", file_size);
    for (size_t i = 0; i < nr; ++i) {
      runs[i] = random_run (&rng, after);
      after = runs[i].host_off + host_len (&runs[i]);
    }
    check_model (runs, nr, data, widen, file_size);
  }
}

/* Streams that follow each other are few pieces, not one each; and one call
 * goes on where the one before ended.
 */
static void
test_joined (void)
{
  struct q2_pieces p = { .nr = 0 };
  uint64_t host_off = 12345;

  unit_context ("%s", "joined");
  for (unsigned i = 0; i < 300; ++i) {
    const struct q2_run run = {
      .kind = Q2_RUN_COMPRESSED, .host_off = host_off,
      .csize = 30000 + i,       /* overlaps the next one by a few bytes */
    };

    q2_gather (&run, 1, false, false, UINT64_MAX / 2, &p);
    host_off += run.csize - i % 100;
  }
  check_pieces (&p, host_off + 1000);
  CHECK (p.nr >= 9 && p.nr <= 10);
  CHECK_EQ (p.piece[0].start, 12345);
  for (size_t i = 1; i < p.nr; ++i)
    CHECK (p.piece[i].start <= p.piece[i - 1].end);
}

/* The first 64 pieces stay what they are, whatever comes. */
static void
test_full (void)
{
  struct q2_pieces p = { .nr = 0 };

  unit_context ("%s", "full");
  for (uint64_t i = 0; i < 200; ++i) {
    const struct q2_run run = {
      .kind = Q2_RUN_DATA, .host_off = i << 24, .len = 100 + i,
    };

    q2_gather (&run, 1, true, false, UINT64_MAX / 2, &p);
  }
  CHECK_EQ (p.nr, Q2_MAX_PIECES);
  for (uint64_t i = 0; i < p.nr; ++i) {
    CHECK_EQ (p.piece[i].start, i << 24);
    CHECK_EQ (p.piece[i].end, (i << 24) + 100 + i);
  }
}

/* A long run is cut; the last bytes of a file are a piece of their own
 * length; nothing is fetched from behind the end.
 */
static void
test_ends (void)
{
  const uint64_t size = 5 * Q2_PIECE_BYTES + 777;
  const struct q2_run runs[] = {
    { .kind = Q2_RUN_DATA, .host_off = 1, .len = 4 * Q2_PIECE_BYTES },
    { .kind = Q2_RUN_COMPRESSED, .host_off = size - 1, .csize = 4096 },
    { .kind = Q2_RUN_COMPRESSED, .host_off = size, .csize = 4096 },
    { .kind = Q2_RUN_DATA, .host_off = size + 1, .len = 4096 },
  };
  struct q2_pieces p = { .nr = 0 };

  unit_context ("%s", "ends");
  q2_gather (runs, 4, true, false, size, &p);
  check_pieces (&p, size);
  CHECK_EQ (p.nr, 5);
  CHECK_EQ (p.piece[0].start, 1);
  CHECK_EQ (p.piece[3].end, 1 + 4 * Q2_PIECE_BYTES);
  CHECK_EQ (p.piece[4].start, size - 1);
  CHECK_EQ (p.piece[4].end, size);

  p.nr = 0;
  q2_gather (&runs[1], 3, true, true, size, &p);
  CHECK_EQ (p.nr, 1);
  CHECK_EQ (p.piece[0].start, 5 * Q2_PIECE_BYTES);
  CHECK_EQ (p.piece[0].end, size);

  p.nr = 0;
  q2_gather (runs, 1, false, true, size, &p);
  q2_gather (runs, 4, true, true, 0, &p);
  CHECK_EQ (p.nr, 0);
}

/* Offsets and lengths no sane image has. */
static void
test_huge (void)
{
  const uint64_t big = UINT64_C (1) << 62;
  const struct q2_run runs[] = {
    { .kind = Q2_RUN_COMPRESSED, .host_off = big - 1, .csize = big },
    { .kind = Q2_RUN_COMPRESSED, .host_off = 3, .csize = big },
    { .kind = Q2_RUN_DATA, .host_off = big + 5, .len = 4096,
      .guest_off = big },
    { .kind = Q2_RUN_COMPRESSED, .host_off = 2 * big - 513, .csize = 512 },
  };

  for (unsigned widen = 0; widen <= 1; ++widen) {
    struct q2_pieces p = { .nr = 0 };

    unit_context ("huge%s", widen ? ", widened" : "");
    q2_gather (runs, 4, true, widen, 2 * Q2_PIECE_BYTES + 9, &p);
    check_pieces (&p, 2 * Q2_PIECE_BYTES + 9);
    CHECK_EQ (p.piece[0].start, widen ? 0 : 3);
    CHECK_EQ (p.piece[p.nr - 1].end, 2 * Q2_PIECE_BYTES + 9);

    p.nr = 0;
    q2_gather (runs, 1, true, widen, big + 100, &p);
    check_pieces (&p, big + 100);
    CHECK_EQ (p.piece[0].start, widen ? big - Q2_PIECE_BYTES : big - 1);
    CHECK_EQ (p.piece[p.nr - 1].end, big + 100);

    p.nr = 0;
    q2_gather (&runs[3], 1, true, widen, 2 * big - 1, &p);
    check_pieces (&p, 2 * big - 1);
    CHECK_EQ (p.nr, 1);
    CHECK_EQ (p.piece[0].end, 2 * big - 1);
  }
}

/* ---- Packed or not ------------------------------------------------------ */

/* Pairs of neighbours of which b lies behind a with less than a cluster
 * between them, one of the two at least being compressed.
 */
static bool
model_is_packed (uint64_t cluster_size, const struct q2_run *runs, size_t nr)
{
  size_t pairs = 0;

  for (size_t i = 0; i + 1 < nr; ++i) {
    const struct q2_run *const a = &runs[i], *const b = a + 1;
    const bool a_c = a->kind == Q2_RUN_COMPRESSED;
    const bool b_c = b->kind == Q2_RUN_COMPRESSED;

    if ((a_c && (b_c || b->kind == Q2_RUN_DATA)) ||
        (a->kind == Q2_RUN_DATA && b_c))
      pairs += b->host_off > a->host_off &&
        b->host_off < a->host_off + (a_c ? a->csize : a->len) + cluster_size;
  }
  return nr >= 2 && pairs >= nr / 2;
}

static void
test_packed_model (void)
{
  unsigned yes = 0;

  for (unsigned seed = 1; seed <= unit_scaled (20000); ++seed) {
    struct rng rng = { seed };
    const struct q2_geometry geo = {
      .cluster_size = UINT64_C (512) << rng_below (&rng, 13)
    };
    const size_t nr = 1 + rng_below (&rng, rng_below (&rng, 2) ? 3 : 32);
    struct q2_run runs[32];
    uint64_t after = 0;
    bool packed;

    unit_context ("packed, seed %u", seed);
    for (size_t i = 0; i < nr; ++i) {
      runs[i] = random_run (&rng, after);
      if (rng_below (&rng, 3))
        runs[i].kind = Q2_RUN_COMPRESSED;
      after = runs[i].host_off + host_len (&runs[i]);
    }
    packed = q2_is_packed (&geo, runs, nr);
    CHECK_EQ (packed, model_is_packed (geo.cluster_size, runs, nr));
    yes += packed;
  }
  CHECK (yes > unit_scaled (20000) / 10);
  CHECK (yes < unit_scaled (20000) * 9 / 10);
}

static bool
pair_is_packed (enum q2_run_kind a, enum q2_run_kind b, uint64_t b_off)
{
  const struct q2_geometry geo = { .cluster_size = 65536 };
  const struct q2_run runs[2] = {
    { .kind = a, .host_off = 100 << 16, .len = 65536, .csize = 30000 },
    { .kind = b, .host_off = b_off, .len = 65536, .csize = 30000 },
  };

  return q2_is_packed (&geo, runs, 2);
}

static void
test_packed_pairs (void)
{
  const uint64_t at = 100 << 16;

  unit_context ("%s", "pairs");
  CHECK (pair_is_packed (Q2_RUN_COMPRESSED, Q2_RUN_COMPRESSED, at + 30000));
  CHECK (pair_is_packed (Q2_RUN_COMPRESSED, Q2_RUN_COMPRESSED, at + 29990));
  CHECK (pair_is_packed (Q2_RUN_COMPRESSED, Q2_RUN_DATA, at + 65536));
  CHECK (pair_is_packed (Q2_RUN_DATA, Q2_RUN_COMPRESSED, at + 65536));
  CHECK (pair_is_packed (Q2_RUN_COMPRESSED, Q2_RUN_DATA,
                         at + 30000 + 65535));
  CHECK (!pair_is_packed (Q2_RUN_COMPRESSED, Q2_RUN_DATA,
                          at + 30000 + 65536));
  CHECK (!pair_is_packed (Q2_RUN_DATA, Q2_RUN_DATA, at + 65536));
  CHECK (!pair_is_packed (Q2_RUN_COMPRESSED, Q2_RUN_COMPRESSED, at));
  CHECK (!pair_is_packed (Q2_RUN_COMPRESSED, Q2_RUN_COMPRESSED, at - 30000));
  CHECK (!pair_is_packed (Q2_RUN_COMPRESSED, Q2_RUN_ZERO, at + 30000));
  CHECK (!pair_is_packed (Q2_RUN_UNALLOCATED, Q2_RUN_COMPRESSED, at + 1));
}

static void
test_packed_huge (void)
{
  const uint64_t big = UINT64_C (1) << 62;
  const struct q2_geometry geo = { .cluster_size = 2 << 20 };
  const struct q2_run runs[3] = {
    { .kind = Q2_RUN_COMPRESSED, .host_off = big, .csize = big },
    { .kind = Q2_RUN_COMPRESSED, .host_off = 2 * big - 1, .csize = big },
    { .kind = Q2_RUN_COMPRESSED, .host_off = 1, .csize = big },
  };

  unit_context ("%s", "packed, huge");
  CHECK (q2_is_packed (&geo, runs, 2));
  CHECK (!q2_is_packed (&geo, runs + 1, 2));
  CHECK (q2_is_packed (&geo, runs, 3)); /* one of two pairs */
  CHECK (!q2_is_packed (&geo, runs, 1));
  CHECK (!q2_is_packed (&geo, runs, 0));
}

int
main (void)
{
  test_model ();
  test_joined ();
  test_full ();
  test_ends ();
  test_huge ();
  test_packed_model ();
  test_packed_pairs ();
  test_packed_huge ();
  return unit_finish ();
}
