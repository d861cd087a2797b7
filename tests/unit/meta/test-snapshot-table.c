/* SPDX-License-Identifier: BSD-3-Clause */
/* test-snapshot-table.c - entries of the snapshot table, and walking tables
 * of any shape.
 */
#include "config.h"

#include "meta/snapshots.h"

#include "base/be.h"

#include "memory_disk.h"
#include "memory_io.h"
#include "unit.h"

static const struct q2_geometry geo = {
  .version = 3, .virtual_size = 12345 * 512, .cluster_bits = 16,
  .cluster_size = 65536,
};

/* What an entry is made of, and what comes out. */
struct entry {
  uint64_t l1_offset;
  uint32_t l1_entries, vm_state32, extra_len;
  uint16_t id_len, name_len;
};

/* Returns its length. */
static size_t
put_entry (unsigned char *p, const struct entry *e, unsigned seed)
{
  struct rng rng = { seed };
  const size_t len = 40 + e->extra_len + e->id_len + e->name_len;

  memset (p, 0, (len + 7) / 8 * 8);
  rng_fill (&rng, p, len);
  store_be64 (p, e->l1_offset);
  store_be32 (p + 8, e->l1_entries);
  store_be16 (p + 12, e->id_len);
  store_be16 (p + 14, e->name_len);
  store_be32 (p + 16, 0x11223344);
  store_be32 (p + 20, 0x55667788);
  store_be64 (p + 24, UINT64_C (0x99aabbccddeeff00));
  store_be32 (p + 32, e->vm_state32);
  store_be32 (p + 36, e->extra_len);
  if (e->extra_len >= 8)
    store_be64 (p + 40, UINT64_C (0x100000001));
  if (e->extra_len >= 16)
    store_be64 (p + 48, UINT64_C (0x200000002));
  if (e->extra_len >= 24)
    store_be64 (p + 56, UINT64_C (0x300000003));
  return (len + 7) / 8 * 8;
}

static void
test_fields (void)
{
  static const struct entry cases[] = {
    { 0x50000, 1, 7, 24, 1, 3 }, { 0x50000, 1, 7, 16, 0, 0 },
    { 0x50000, 1, 7, 8, 2, 0 }, { 0x50000, 1, 7, 0, 5, 9 },
    { 0x50000, 1, 7, 1024, 65535, 65535 }, { 0, 0, 0, 33, 1, 1 },
  };
  unsigned char *const p = malloc (Q2_SNAPSHOT_MAX_ENTRY);

  REQUIRE (p != NULL);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
    const struct entry *const e = &cases[i];
    const size_t len = put_entry (p, e, 1);
    const size_t packed = 40 + e->extra_len + e->id_len + e->name_len;
    struct q2_snapshot s;
    struct qcow2_error err;

    unit_context ("case %zu", i);
    REQUIRE (len <= Q2_SNAPSHOT_MAX_ENTRY);
    CHECK_EQ (q2_snapshot_entry_len (p), len);
    REQUIRE (q2_snapshot_decode (&geo, p, len, 4096, &s, &err) == 0);
    CHECK_EQ (s.entry_len, len);
    CHECK_EQ (s.l1_offset, e->l1_offset);
    CHECK_EQ (s.l1_entries, e->l1_entries);
    CHECK_EQ (s.date_sec, 0x11223344);
    CHECK_EQ (s.date_nsec, 0x55667788);
    CHECK_EQ (s.vm_clock_ns, UINT64_C (0x99aabbccddeeff00));
    CHECK_EQ (s.vm_state_size,
              e->extra_len >= 8 ? UINT64_C (0x100000001) : e->vm_state32);
    CHECK_EQ (s.disk_size, e->extra_len >= 16 ? UINT64_C (0x200000002)
              : geo.virtual_size);
    CHECK_EQ (s.icount,
              e->extra_len >= 24 ? UINT64_C (0x300000003) : UINT64_MAX);
    CHECK_EQ (s.extra_len, e->extra_len);
    CHECK (s.id == (char *) p + 40 + e->extra_len);
    CHECK_EQ (s.id_len, e->id_len);
    CHECK (s.name == s.id + e->id_len);
    CHECK_EQ (s.name_len, e->name_len);

    /* Cut anywhere it is refused, and nothing behind the cut is read. */
    for (size_t n = 0; n < packed; n += packed > 2000 ? 997 : 1) {
      unsigned char *const cut = malloc (n ? n : 1);

      REQUIRE (cut != NULL);
      memcpy (cut, p, n);
      unit_context ("case %zu cut to %zu", i, n);
      CHECK (q2_snapshot_decode (&geo, cut, n, 4096, &s, &err) == -1);
      CHECK_ERROR (&err, QCOW2_ERR_CORRUPT, 4096);
      free (cut);
    }
    CHECK (q2_snapshot_decode (&geo, p, packed, 4096, &s, &err) == 0);
  }
  free (p);
}

static void
test_limits (void)
{
  unsigned char p[40 + 1200];
  const struct entry e = { 0x50000, 1, 0, 24, 1, 1 };
  struct q2_snapshot s;
  struct qcow2_error err;

  unit_context ("%s", "limits");
  memset (p, 0, sizeof p);
  put_entry (p, &e, 1);
  store_be32 (p + 36, 1025);
  CHECK (q2_snapshot_decode (&geo, p, sizeof p, 8, &s, &err) == -1);
  CHECK_ERROR (&err, QCOW2_ERR_CORRUPT, 8);
  store_be32 (p + 36, UINT32_MAX);
  CHECK_EQ (q2_snapshot_entry_len (p),
            (UINT64_C (40) + UINT32_MAX + 2 + 7) & ~UINT64_C (7));
  CHECK (q2_snapshot_decode (&geo, p, sizeof p, 8, &s, &err) == -1);

  put_entry (p, &e, 1);
  REQUIRE (q2_snapshot_decode (&geo, p, sizeof p, 8, &s, &err) == 0);
  CHECK (q2_snapshot_check_l1 (&geo, &s, 8, &err) == 0);
  s.l1_entries = (32 << 20) / 8;
  CHECK (q2_snapshot_check_l1 (&geo, &s, 8, &err) == 0);
  s.l1_entries++;
  CHECK (q2_snapshot_check_l1 (&geo, &s, 8, &err) == -1);
  CHECK_ERROR (&err, QCOW2_ERR_CORRUPT, 8);
  s.l1_entries = 1;
  s.l1_offset = 0x50200;
  CHECK (q2_snapshot_check_l1 (&geo, &s, 8, &err) == -1);
  s.l1_offset = UINT64_C (1) << 63;
  CHECK (q2_snapshot_check_l1 (&geo, &s, 8, &err) == -1);
  s.l1_offset = UINT64_C (0x7fffffffffff0000);
  CHECK (q2_snapshot_check_l1 (&geo, &s, 8, &err) == 0);
  s.l1_entries = 65536;
  CHECK (q2_snapshot_check_l1 (&geo, &s, 8, &err) == -1);
}

/* ---- Walking ----------------------------------------------------------- */

struct seen {
  unsigned n;
  uint64_t next;                /* where the next entry must be */
};

static int
see (void *opaque, const struct q2_snapshot *s, uint64_t host_off,
     struct qcow2_error *err)
{
  struct seen *const seen = opaque;

  CHECK_EQ (host_off, seen->next);
  CHECK_EQ (s->l1_entries, seen->n); /* they are numbered */
  seen->n++;
  seen->next += s->entry_len;
  (void) err;
  return 0;
}

#define START 65536
#define SLACK 65536                    /* behind the table */

/* 'n' entries whose lengths depend on the seed. */
static void
walk (unsigned n, uint64_t seed)
{
  struct rng rng = { seed };
  unsigned char *const p = calloc (1, START + n * Q2_SNAPSHOT_MAX_ENTRY);
  struct q2_header h = { .nr_snapshots = n, .snapshots_offset = START };
  struct seen seen = { 0, START };
  struct memory_disk d;
  struct qcow2_error err;
  uint64_t bytes = 1, size = START, last = START;

  REQUIRE (p != NULL);
  unit_context ("%u snapshots, seed %" PRIu64, n, seed);
  for (unsigned i = 0; i < n; ++i) {
    const bool big = rng_below (&rng, 4) == 0;
    const struct entry e = {
      0x50000, i, 0, (uint32_t) rng_below (&rng, big ? 1025 : 30),
      (uint16_t) rng_below (&rng, big ? 65536 : 5),
      (uint16_t) rng_below (&rng, big ? 65536 : 20),
    };

    last = size;
    size += put_entry (p + size, &e, i);
  }
  memory_disk_init (&d, p, size);
  CHECK (q2_snapshots_walk (&d.io, &h, &geo, see, &seen, &bytes, &err) == 0);
  CHECK_EQ (seen.n, n);
  CHECK_EQ (bytes, size - START);
  /* Each byte about once. */
  CHECK (d.read_bytes <= (size - START) * 2 + 300000);

  if (n > 0) {                  /* the last one is not all there */
    memory_disk_resize (&d, last + 32);
    seen = (struct seen) { 0, START };
    CHECK (q2_snapshots_walk (&d.io, &h, &geo, see, &seen, &bytes, &err)
           == -1);
    CHECK_EQ (seen.n, n - 1);
    CHECK_ERROR (&err, QCOW2_ERR_CORRUPT, last);
  }
  memory_disk_free (&d);
  free (p);
}

static int
count_only (void *opaque, const struct q2_snapshot *s, uint64_t host_off,
            struct qcow2_error *err)
{
  (void) s;
  (void) host_off;
  (void) err;
  ++*(unsigned *) opaque;
  return 0;
}

/* The file cannot be read from 'bad' on: that is no matter behind the table. */
static void
walk_with_bad_end (unsigned n)
{
  const size_t len = 80;
  unsigned char *const p = calloc (1, START + n * len + SLACK);
  const struct entry e = { 0x50000, 1, 0, 24, 1, 8 };
  struct q2_header h = { .nr_snapshots = n, .snapshots_offset = START };
  struct memory_io m;
  struct q2_io io;
  struct qcow2_error err;

  REQUIRE (p != NULL);
  for (unsigned i = 0; i < n; ++i)
    REQUIRE (put_entry (p + START + i * len, &e, i) == len);
  memory_io_init (&m, p, START + n * len + SLACK);
  io = (struct q2_io) { .host = &m.io, .file_size = m.io.size };
  for (unsigned i = 0; i <= n; ++i) {
    unsigned seen = 0;
    uint64_t bytes;
    int r;

    unit_context ("%u snapshots, %u readable", n, i);
    m.bad_start = START + i * len;
    m.bad_end = m.io.size;
    r = q2_snapshots_walk (&io, &h, &geo, count_only, &seen, &bytes, &err);
    CHECK_EQ (r, i < n ? -1 : 0);
    CHECK_EQ (seen, i);
  }
  free (p);
}

static int
stop_after (void *opaque, const struct q2_snapshot *s, uint64_t host_off,
            struct qcow2_error *err)
{
  unsigned *const left = opaque;

  (void) s;
  (void) host_off;
  (void) err;
  return --*left == 0;
}

/* Entries as QEMU writes them: few requests, and none for what nobody asks
 * for.  The file ends with the table, or goes on with something else, whose
 * last block no request can reach.
 */
static void
walk_usual (unsigned n, unsigned max_reads)
{
  const struct entry e = { 0x50000, 1, 0, 24, 4, 10 };
  const size_t size = START + n * (size_t) 80;
  unsigned char *const p = calloc (1, size);
  const struct q2_header h = {
    .nr_snapshots = n, .snapshots_offset = START
  };
  uint64_t bytes;

  REQUIRE (p != NULL);
  for (unsigned i = 0; i < n; ++i)
    REQUIRE (put_entry (p + START + i * (size_t) 80, &e, i) == 80);
  for (unsigned more = 0; more < 3; ++more) {
    struct memory_disk d;
    struct qcow2_error err;
    unsigned seen = 0, left = (n + 1) / 2;

    unit_context ("%u usual snapshots, variant %u", n, more);
    memory_disk_init (&d, p, size);
    if (more > 0)
      memory_disk_resize (&d, size + (5 << 20) + 77);
    if (more == 2)
      d.host.min_block = 4096;
    CHECK (q2_snapshots_walk (&d.io, &h, &geo, count_only, &seen, &bytes,
                              &err) == 0);
    CHECK_EQ (seen, n);
    CHECK_EQ (bytes, size - START);
    unit_check (d.reads <= max_reads, __FILE__, __LINE__, "%lu reads",
                d.reads);

    d.reads = 0;
    CHECK (q2_snapshots_walk (&d.io, &h, &geo, stop_after, &left, &bytes,
                              &err) == 0);
    CHECK_EQ (left, 0);
    CHECK (d.reads <= max_reads);
    memory_disk_free (&d);
  }
  free (p);
}

/* Random bytes: whatever it is, it ends. */
static void
walk_noise (uint64_t seed)
{
  struct rng rng = { seed };
  const size_t size = START + 5000;
  unsigned char *const p = calloc (1, size);
  const struct q2_header h = {
    .nr_snapshots = 65536, .snapshots_offset = START
  };
  struct memory_disk d;
  struct qcow2_error err = { .kind = QCOW2_ERR_IO };
  uint64_t bytes;
  unsigned n = 0;

  REQUIRE (p != NULL);
  rng_fill (&rng, p + START, 5000);
  for (size_t i = START; i + 40 <= size; i += 8)
    if (rng_below (&rng, 2))    /* likely to be accepted */
      memset (p + i, 0, 8);
  unit_context ("noise %" PRIu64, seed);
  memory_disk_init (&d, p, size);
  CHECK (q2_snapshots_walk (&d.io, &h, &geo, count_only, &n, &bytes, &err)
         == -1);
  CHECK (err.kind == QCOW2_ERR_CORRUPT);
  memory_disk_free (&d);
  free (p);
}

/* The longest table that is allowed, and one entry more. */
static void
test_table_limit (void)
{
  const size_t size = START + (66 << 20);
  unsigned char *const p = calloc (1, size);
  const struct entry e = { 0, 0, 0, 1024, 65535, 65535 };
  const size_t len = Q2_SNAPSHOT_MAX_ENTRY;
  const unsigned fit = (64 << 20) / len;
  struct q2_header h = { .snapshots_offset = START };
  struct memory_disk d;
  struct qcow2_error err;
  uint64_t bytes;
  unsigned n = 0;

  REQUIRE (p != NULL);
  unit_context ("%s", "largest table");
  for (unsigned i = 0; i <= fit; ++i)
    REQUIRE (put_entry (p + START + i * len, &e, i) == len);
  memory_disk_init (&d, p, size);
  h.nr_snapshots = fit;
  CHECK (q2_snapshots_walk (&d.io, &h, &geo, count_only, &n, &bytes, &err)
         == 0);
  CHECK_EQ (n, fit);
  h.nr_snapshots = fit + 1;
  CHECK (q2_snapshots_walk (&d.io, &h, &geo, count_only, &n, &bytes, &err)
         == -1);
  CHECK_ERROR (&err, QCOW2_ERR_CORRUPT, START + fit * (uint64_t) len);
  memory_disk_free (&d);
  free (p);
}

int
main (void)
{
  test_fields ();
  test_limits ();
  for (uint64_t seed = 0; seed < 20; ++seed)
    walk ((unsigned) seed * 3, seed);
  walk_usual (1, 1);
  walk_usual (1000, 1);
  walk_usual (65536, 11);       /* 5 MiB */
  walk_with_bad_end (5);
  for (uint64_t seed = 0; seed < unit_scaled (200); ++seed)
    walk_noise (seed);
  test_table_limit ();
  return unit_finish ();
}
