/* SPDX-License-Identifier: BSD-3-Clause */
/* test-clusters.c - the cache of decompressed clusters.
 *
 * Linked with wrappers: the test counts threads that start to wait and the
 * memory of clusters, and makes allocations fail.
 */
#include "config.h"

#include "threads.h"

#include "read/clusters.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>

extern int __real_pthread_cond_wait (pthread_cond_t *, pthread_mutex_t *);
extern int __wrap_pthread_cond_wait (pthread_cond_t *, pthread_mutex_t *);
extern void *__real_malloc (size_t);
extern void *__wrap_malloc (size_t);
extern void *__real_calloc (size_t, size_t);
extern void *__wrap_calloc (size_t, size_t);

#define CLUSTER 4096

static atomic_uint waits;       /* calls of pthread_cond_wait */
static atomic_uint mallocs;     /* that hold a cluster */
static atomic_int allocations_left = INT_MAX;

int
__wrap_pthread_cond_wait (pthread_cond_t *cond, pthread_mutex_t *lock)
{
  waits++;
  return __real_pthread_cond_wait (cond, lock);
}

void *
__wrap_malloc (size_t size)
{
  mallocs += size >= CLUSTER;
  return allocations_left-- > 0 ? __real_malloc (size) : NULL;
}

void *
__wrap_calloc (size_t n, size_t size)
{
  return allocations_left-- > 0 ? __real_calloc (n, size) : NULL;
}

static struct q2_clusters *
new_clusters (uint64_t max_bytes)
{
  struct qcow2_error err;
  struct q2_clusters *const c = q2_clusters_new (max_bytes, CLUSTER, &err);

  REQUIRE (c != NULL);
  mallocs = waits = 0;
  return c;
}

/* The contents of the cluster with this key. */
static void
make_bytes (unsigned char *bytes, struct q2_cluster_key key)
{
  struct rng rng = { key.host_off * 31 + key.csize };

  rng_fill (&rng, bytes, CLUSTER);
}

/* ---- Reads and what they should do ----------------------------------- */

struct filler {
  struct q2_cluster_key key;
  atomic_uint calls, inside;
  atomic_uint failures;         /* so many first calls fail */
  atomic_bool *go;              /* wait for it */
  unsigned gather;              /* wait until so many are inside at once */
  atomic_uint arrived;
};

static int
fill (void *arg, void *buf, struct qcow2_error *err)
{
  struct filler *const f = arg;
  const unsigned call = f->calls++;

  f->inside++;
  if (f->go)
    WAIT_UNTIL (*f->go);
  if (call < f->failures) {
    memset (buf, 0xdd, CLUSTER);
    err->kind = QCOW2_ERR_IO;
    err->errnum = EIO;
    err->offset = f->key.host_off;
    snprintf (err->text, sizeof err->text, "broken");
    f->inside--;
    return -1;
  }
  f->arrived++;
  if (f->gather)
    WAIT_UNTIL (f->arrived >= f->gather);
  make_bytes (buf, f->key);
  f->inside--;
  return 0;
}

/* Returns what the read does; checks the bytes and the error. */
static int
read_part (struct q2_clusters *c, struct filler *f, size_t skip, size_t len)
{
  unsigned char expected[CLUSTER], out[CLUSTER + 1];
  struct qcow2_error err = { .errnum = -1 };
  int r;

  out[len] = 0x5a;
  r = q2_clusters_read (c, &f->key, skip, out, len, fill, f, &err);
  CHECK_EQ (out[len], 0x5a);
  if (r == 0) {
    make_bytes (expected, f->key);
    CHECK_BYTES (out, expected + skip, len);
    CHECK_EQ (err.errnum, -1);
  }
  return r;
}

/* Read the cluster with this key, expecting so many calls of fill. */
static void
read_key (struct q2_clusters *c, uint64_t host_off, uint64_t csize,
          unsigned fills)
{
  struct filler f = { .key = { host_off, csize } };

  unit_context ("cluster at %" PRIu64 ", %" PRIu64 " bytes", host_off,
                csize);
  CHECK_EQ (read_part (c, &f, 100, 200), 0);
  CHECK_EQ (f.calls, fills);
  unit_context ("%s", "");
}

static bool
lookup (struct q2_clusters *c, uint64_t host_off, uint64_t csize)
{
  const struct q2_cluster_key key = { host_off, csize };
  unsigned char expected[CLUSTER], out[CLUSTER];

  memset (out, 0x11, sizeof out);
  if (!q2_clusters_lookup (c, &key, 7, out, 1000)) {
    memset (expected, 0x11, sizeof expected);
    CHECK_BYTES (out, expected, sizeof out);
    return false;
  }
  make_bytes (expected, key);
  CHECK_BYTES (out, expected + 7, 1000);
  return true;
}

/* ---- One thread ------------------------------------------------------ */

/* Runs of clusters of 1024 bytes: only streams that lie in them are dropped,
 * wherever they begin and end.
 */
static void
test_drop (void)
{
  struct q2_free_run runs[] = { { 1, 2 }, { 5, 1 }, { 100, 1000 } };
  const struct q2_frees list = { .runs = runs, .nr = 3, .max = 3 };
  const struct q2_frees none = { .nr = 0 };
  static const struct { uint64_t host_off, csize; bool gone; } streams[] = {
    { 0, 1024, false }, { 0, 1025, true }, { 1023, 1, false },
    { 1023, 2, true }, { 1500, 100, true }, { 3071, 1, true },
    { 3071, 2000, true }, { 3072, 2048, false }, { 3072, 2049, true },
    { 4000, 5000, true }, { 6144, 96256, false }, { 6144, 96257, true },
    { 1126399, 9, true }, { 1126400, 9, false },
  };
  const size_t nr = sizeof streams / sizeof *streams;
  struct q2_clusters *const c = new_clusters (20 * CLUSTER);

  CHECK (q2_clusters_is_empty (c));
  for (size_t i = 0; i < nr; ++i)
    read_key (c, streams[i].host_off, streams[i].csize, 1);
  CHECK (!q2_clusters_is_empty (c));
  q2_clusters_drop (c, &none, 10);
  for (size_t i = 0; i < nr; ++i)
    CHECK (lookup (c, streams[i].host_off, streams[i].csize));
  q2_clusters_drop (c, &list, 10);
  for (size_t i = 0; i < nr; ++i) {
    CHECK_EQ (lookup (c, streams[i].host_off, streams[i].csize),
              !streams[i].gone);
    read_key (c, streams[i].host_off, streams[i].csize, streams[i].gone);
    CHECK (lookup (c, streams[i].host_off, streams[i].csize));
  }
  /* The memory of what was dropped is used again. */
  for (unsigned i = 0; i < 100; ++i)
    read_key (c, 10000000 + i, 1, 1);
  CHECK_EQ (mallocs, 20);
  q2_clusters_free (c);
}

static void
test_hits (void)
{
  struct q2_clusters *const c = new_clusters (10 * CLUSTER);
  struct filler f = { .key = { 1000, 50 } };

  CHECK (!lookup (c, 1000, 50));
  CHECK_EQ (read_part (c, &f, 0, CLUSTER), 0);
  CHECK (lookup (c, 1000, 50));
  CHECK_EQ (read_part (c, &f, 0, 1), 0);
  CHECK_EQ (read_part (c, &f, CLUSTER - 1, 1), 0);
  CHECK_EQ (read_part (c, &f, 0, CLUSTER), 0);
  CHECK_EQ (read_part (c, &f, 512, 0), 0);
  CHECK_EQ (f.calls, 1);

  /* Both numbers count. */
  CHECK (!lookup (c, 1000, 51));
  CHECK (!lookup (c, 1001, 50));
  read_key (c, 1000, 51, 1);
  read_key (c, 1001, 50, 1);
  read_key (c, 50, 1000, 1);
  read_key (c, 1000, 51, 0);
  read_key (c, 1001, 50, 0);
  read_key (c, 1000, 50, 0);
  read_key (c, 50, 1000, 0);
  q2_clusters_free (c);
  q2_clusters_free (NULL);
}

static void
test_too_small (void)
{
  struct q2_clusters *const c = new_clusters (CLUSTER - 1);
  struct filler f = { .key = { 1000, 50 } };

  read_key (c, 1000, 50, 1);
  read_key (c, 1000, 50, 1);
  CHECK (!lookup (c, 1000, 50));
  CHECK_EQ (read_part (c, &f, 0, CLUSTER), 0);
  f.failures = 100;
  CHECK_EQ (read_part (c, &f, 0, CLUSTER), -1);
  CHECK_EQ (read_part (c, &f, 1, 10), -1);
  q2_clusters_free (c);
}

static void
test_failure (void)
{
  struct q2_clusters *const c = new_clusters (2 * CLUSTER);

  read_key (c, 1, 1, 1);
  /* More failures than entries: none may stay behind. */
  for (unsigned i = 0; i < 10; ++i) {
    struct filler f = { .key = { 5000 + i / 2, 50 }, .failures = 1 };
    struct qcow2_error err = { .errnum = 0 };
    char out[10];

    CHECK_EQ (q2_clusters_read (c, &f.key, 0, out, 10, fill, &f, &err), -1);
    CHECK_ERROR (&err, QCOW2_ERR_IO, 5000 + i / 2);
    CHECK_EQ (f.calls, 1);
    CHECK (!lookup (c, 5000 + i / 2, 50));
  }
  CHECK (lookup (c, 1, 1));
  read_key (c, 5000, 50, 1);
  read_key (c, 5000, 50, 0);
  CHECK (lookup (c, 1, 1));
  q2_clusters_free (c);
}

/* What is in the cache, the most recently used first. */
#define MODEL_MAX 9

struct model {
  struct q2_cluster_key keys[MODEL_MAX + 1];
  unsigned nr, max;
  uint64_t hits, misses;
};

static bool
model_use (struct model *m, struct q2_cluster_key key, bool add)
{
  unsigned i = 0;

  while (i < m->nr && (m->keys[i].host_off != key.host_off ||
                       m->keys[i].csize != key.csize))
    ++i;
  if (i == m->nr && !add)
    return false;
  add = i == m->nr;
  memmove (m->keys + 1, m->keys, i * sizeof key);
  m->keys[0] = key;
  if (add && m->nr < m->max)
    m->nr++;
  return !add;
}

static void
test_model (unsigned max)
{
  struct q2_clusters *const c = new_clusters (max * CLUSTER + CLUSTER / 2);
  struct model m = { .max = max };
  struct rng rng = { max };

  for (unsigned i = 0; i < unit_scaled (5000); ++i) {
    const struct q2_cluster_key key = {
      .host_off = rng_below (&rng, 7),
      .csize = rng_below (&rng, 2),
    };
    uint64_t hits, misses;

    unit_context ("step %u with %u entries", i, max);
    if (rng_below (&rng, 3) == 0)
      CHECK_EQ (lookup (c, key.host_off, key.csize),
                model_use (&m, key, false));
    else {
      const bool hit = model_use (&m, key, true);

      m.hits += hit;
      m.misses += !hit;
      read_key (c, key.host_off, key.csize, !hit);
    }
    q2_clusters_get_stats (c, &hits, &misses);
    CHECK_EQ (hits, m.hits);
    CHECK_EQ (misses, m.misses);
  }
  /* Memory is used as clusters come in, and used again. */
  CHECK_EQ (mallocs, max);
  q2_clusters_free (c);
}

/* Far apart, close together, all the same in some bits: all are found. */
static void
test_many_keys (void)
{
  struct q2_clusters *const c = new_clusters (1000 * CLUSTER);

  for (unsigned fills = 2; fills-- > 0;)
    for (uint64_t i = 0; i < 330; ++i) {
      read_key (c, i << 50, i, fills);
      read_key (c, 1 + i, UINT64_C (1) << 40, fills);
      read_key (c, 3 + (i << 16), 77, fills);
    }
  CHECK_EQ (mallocs, 990);
  q2_clusters_free (c);
}

static void
test_no_memory (void)
{
  struct qcow2_error err = { .errnum = 0 };
  struct filler f = { .key = { 1000, 50 } };
  struct q2_clusters *c;
  char out[10];

  for (int i = 0; i < 2; ++i) {
    err = (struct qcow2_error) { .errnum = 0 };
    allocations_left = i;
    CHECK (q2_clusters_new (10 * CLUSTER, CLUSTER, &err) == NULL);
    allocations_left = INT_MAX;
    CHECK_ERROR (&err, QCOW2_ERR_NOMEM, QCOW2_NO_OFFSET);
  }

  c = new_clusters (10 * CLUSTER);
  allocations_left = 0;
  err = (struct qcow2_error) { .errnum = 0 };
  CHECK_EQ (q2_clusters_read (c, &f.key, 0, out, 10, fill, &f, &err), -1);
  CHECK_ERROR (&err, QCOW2_ERR_NOMEM, QCOW2_NO_OFFSET);
  CHECK_EQ (f.calls, 0);
  /* Needs none. */
  CHECK_EQ (read_part (c, &f, 0, CLUSTER), 0);
  CHECK (!lookup (c, 1000, 50));
  allocations_left = INT_MAX;
  read_key (c, 1000, 50, 1);
  read_key (c, 2000, 50, 1);
  /* Room for eight more, but no memory: these two have to do. */
  allocations_left = 0;
  read_key (c, 3000, 50, 1);
  read_key (c, 3000, 50, 0);
  CHECK (!lookup (c, 1000, 50));
  CHECK (lookup (c, 2000, 50));
  allocations_left = INT_MAX;
  read_key (c, 1000, 50, 1);
  CHECK (lookup (c, 3000, 50) && lookup (c, 2000, 50));
  q2_clusters_free (c);
}

/* ---- Many threads, one cluster --------------------------------------- */

#define READERS 8

struct readers {
  struct q2_clusters *c;
  struct filler filler;
  atomic_uint ok, failed;
};

static void
read_one (void *arg, unsigned nr)
{
  struct readers *const r = arg;

  if (read_part (r->c, &r->filler, nr * 100, 100 + nr) == 0)
    r->ok++;
  else
    r->failed++;
}

static void
test_single_flight (void)
{
  atomic_bool go = false;
  struct readers r = {
    .c = new_clusters (4 * CLUSTER),
    .filler = { .key = { 1000, 50 }, .go = &go },
  };
  struct threads threads;

  threads_start (&threads, READERS, read_one, &r);
  WAIT_UNTIL (waits == READERS - 1);
  /* Not there yet, which nobody has to wait to be told; the others are
   * served meanwhile.
   */
  CHECK (!lookup (r.c, 1000, 50));
  read_key (r.c, 2000, 50, 1);
  read_key (r.c, 2000, 50, 0);
  go = true;
  threads_join (&threads);
  CHECK_EQ (r.filler.calls, 1);
  CHECK_EQ (r.ok, READERS);
  CHECK (lookup (r.c, 1000, 50));
  q2_clusters_free (r.c);
}

/* The first one's fill fails: only he does, and the others wait for
 * nobody any more.
 */
static void
test_failed_flight (unsigned failures)
{
  atomic_bool go = false;
  struct readers r = {
    .c = new_clusters (2 * CLUSTER),
    .filler = { .key = { 1000, 50 }, .go = &go, .failures = failures,
                .gather = READERS - failures },
  };
  struct threads threads;

  threads_start (&threads, READERS, read_one, &r);
  WAIT_UNTIL (waits == READERS - 1);
  go = true;
  threads_join (&threads);
  CHECK_EQ (r.filler.calls, READERS);
  CHECK_EQ (r.failed, failures);
  CHECK_EQ (r.ok, READERS - failures);

  /* The room is there again. */
  mallocs = 0;
  read_key (r.c, 1, 1, 1);
  read_key (r.c, 2, 2, 1);
  CHECK_EQ (mallocs, 2);
  CHECK (lookup (r.c, 1, 1) && lookup (r.c, 2, 2));
  q2_clusters_free (r.c);
}

/* ---- All entries in use ---------------------------------------------- */

struct stuck {
  struct q2_clusters *c;
  struct filler fillers[2];
};

static void
read_stuck (void *arg, unsigned nr)
{
  struct stuck *const s = arg;

  CHECK_EQ (read_part (s->c, &s->fillers[nr], 0, 10), 0);
}

static void
test_all_in_use (void)
{
  atomic_bool go = false;
  struct stuck s = {
    .c = new_clusters (2 * CLUSTER),
    .fillers = { { .key = { 1, 1 }, .go = &go },
                 { .key = { 2, 2 }, .go = &go } },
  };
  struct filler f = { .key = { 3, 3 } };
  struct threads threads;

  threads_start (&threads, 2, read_stuck, &s);
  WAIT_UNTIL (s.fillers[0].inside && s.fillers[1].inside);
  read_key (s.c, 3, 3, 1);
  CHECK (!lookup (s.c, 3, 3));
  CHECK_EQ (read_part (s.c, &f, 0, CLUSTER), 0);
  CHECK_EQ (f.calls, 1);
  f.failures = 2;
  CHECK_EQ (read_part (s.c, &f, 10, 10), -1);
  CHECK_EQ (waits, 0);
  go = true;
  threads_join (&threads);
  read_key (s.c, 1, 1, 0);
  read_key (s.c, 2, 2, 0);
  read_key (s.c, 3, 3, 1);
  read_key (s.c, 3, 3, 0);
  CHECK (!lookup (s.c, 1, 1));
  q2_clusters_free (s.c);
}

/* ---- All at once ----------------------------------------------------- */

struct hammered {
  struct q2_clusters *c;
  uint64_t keys;
  atomic_uint hits;             /* of all threads: one may have bad luck */
};

static void
hammer (void *arg, unsigned nr)
{
  struct hammered *const h = arg;
  struct rng rng = { 1000 + nr };
  unsigned hits = 0;

  for (unsigned i = 0; i < unit_scaled (5000); ++i) {
    struct filler f = {
      .key = { rng_below (&rng, h->keys), 1 },
      .failures = rng_below (&rng, 5) == 0,
    };
    const size_t skip = rng_below (&rng, CLUSTER);
    struct q2_free_run run = { rng_below (&rng, h->keys), 2 };

    if (rng_below (&rng, 50) == 0)
      q2_clusters_drop (h->c, &(struct q2_frees) { &run, 1, 1 }, 0);
    if (rng_below (&rng, 4) == 0)
      hits += lookup (h->c, f.key.host_off, 1);
    else {
      const int r =
        read_part (h->c, &f, skip, rng_below (&rng, CLUSTER - skip + 1));

      CHECK_EQ (r, f.calls == 1 && f.failures ? -1 : 0);
      CHECK (f.calls <= 1);
      hits += f.calls == 0;
    }
  }
  h->hits += hits;
}

static void
test_hammer (unsigned max, uint64_t keys)
{
  struct hammered h = { .c = new_clusters (max * CLUSTER), .keys = keys };
  struct threads threads;

  threads_start (&threads, 8, hammer, &h);
  threads_join (&threads);
  CHECK (h.hits > 0);

  /* No entry was lost. */
  mallocs = 0;
  for (unsigned pass = 0; pass < 2; ++pass)
    for (unsigned i = 0; i < max; ++i)
      read_key (h.c, 1000 + i, 1, !pass);
  CHECK (mallocs <= max);
  q2_clusters_free (h.c);
}

int
main (void)
{
  threads_watchdog ();
  test_hits ();
  test_drop ();
  test_too_small ();
  test_failure ();
  for (unsigned max = 1; max <= MODEL_MAX; ++max)
    test_model (max);
  test_many_keys ();
  test_no_memory ();
  test_single_flight ();
  test_failed_flight (1);
  test_failed_flight (READERS);
  test_failed_flight (3);
  test_all_in_use ();
  test_hammer (1, 2);
  test_hammer (4, 8);
  test_hammer (16, 20);
  return unit_finish ();
}
