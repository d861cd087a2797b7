/* SPDX-License-Identifier: BSD-3-Clause */
/* clusters.c - the cache of decompressed clusters.
 *
 * Owns      its entries, each with the bytes of one cluster.
 * Method    a chained hash table, and a list from the most to the least
 *           recently used.  A miss inserts an entry that is being filled, in
 *           new memory or in that of the least recently used entry, and
 *           readers of the same key wait for it.  A reference keeps an entry
 *           from being reused while its bytes are filled, waited for or
 *           copied.  If a fill fails the entry leaves the table at once, and
 *           the last waiting thread frees it; each of them then fills a buffer
 *           of its own, so that a broken I/O handle fails only its own
 *           request.  The same happens if all entries are in use.  An entry
 *           that is dropped stays until its memory is wanted, but is not found
 *           any more.
 * Locks     clusters.lock guards the table, the list and the states, and is
 *           not held while bytes are filled or copied.  References are taken
 *           under the lock; those to a ready entry are dropped without it,
 *           since only entries without references are reused.
 * Does not  know how clusters are read or decompressed, or resist scans.
 */
#include "config.h"

#include "read/clusters.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/lock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BUCKETS (1U << 20)

/* Memory for clusters that find no place in the cache. */
#define PRIVATE_BYTES (UINT64_C (8) << 20)

enum state {
  FILLING,
  READY,
  FAILED,                       /* not in the table */
};

struct entry {
  struct q2_cluster_key key;
  struct entry *next;           /* in the chain of its hash bucket */
  struct entry *newer, *older;
  enum state state;
  bool dropped;                 /* it is in the table, and never found */
  atomic_uint refs;
  unsigned char bytes[];
};

struct q2_clusters {
  size_t cluster_size;
  uint64_t max_entries;
  unsigned bucket_bits;

  struct q2_mutex lock;
  pthread_cond_t filled;        /* an entry is not FILLING any more */
  struct entry **buckets;
  struct entry *newest, *oldest;
  _Atomic uint64_t nr_entries;  /* including failed ones not yet freed */
  pthread_cond_t private_ended;
  unsigned nr_private, max_private;     /* buffers outside of the cache */
  uint64_t hits, misses;
};

/* ---- Life ----------------------------------------------------------- */

struct q2_clusters *
q2_clusters_new (uint64_t max_bytes, size_t cluster_size,
                 struct qcow2_error *err)
{
  struct q2_clusters *c = calloc (1, sizeof *c);

  if (c == NULL)
    goto nomem;
  c->cluster_size = cluster_size;
  c->max_entries = max_bytes / cluster_size;
  c->max_private =
    (unsigned) q2_max (q2_min (PRIVATE_BYTES / cluster_size, 64), 2);
  c->bucket_bits = 1;
  while ((1U << c->bucket_bits) < q2_min (c->max_entries, MAX_BUCKETS))
    c->bucket_bits++;
  c->buckets = calloc ((size_t) 1 << c->bucket_bits, sizeof (struct entry *));
  if (c->buckets == NULL)
    goto nomem;
  q2_mutex_init (&c->lock, 3, "clusters.lock");
  pthread_cond_init (&c->filled, NULL);
  pthread_cond_init (&c->private_ended, NULL);
  return c;

 nomem:
  free (c);
  q2_fail_nomem (err, "the cache of decompressed clusters");
  return NULL;
}

void
q2_clusters_free (struct q2_clusters *c)
{
  if (c == NULL)
    return;
  while (c->newest) {
    struct entry *const e = c->newest;

    c->newest = e->older;
    /* A leak is better than freeing an entry in use. */
    if (q2_check (atomic_load (&e->refs) == 0))
      q2_buffer_free (e, sizeof *e + c->cluster_size);
  }
  free (c->buckets);
  pthread_cond_destroy (&c->private_ended);
  pthread_cond_destroy (&c->filled);
  q2_mutex_destroy (&c->lock);
  free (c);
}

/* ---- The table and the list ----------------------------------------- */

static struct entry **
bucket_of (const struct q2_clusters *c, const struct q2_cluster_key *key)
{
  const uint64_t h = (key->host_off + key->csize * UINT64_C (0x100000001b3)) *
    UINT64_C (0x9e3779b97f4a7c15);

  return &c->buckets[h >> (64 - c->bucket_bits)];
}

static struct entry *
find_locked (const struct q2_clusters *c, const struct q2_cluster_key *key)
{
  struct entry *e = *bucket_of (c, key);

  q2_mutex_check_held (&c->lock);
  while (e && (e->dropped || e->key.host_off != key->host_off ||
               e->key.csize != key->csize))
    e = e->next;
  return e;
}

static void
list_add_locked (struct q2_clusters *c, struct entry *e)
{
  q2_mutex_check_held (&c->lock);
  e->newer = NULL;
  e->older = c->newest;
  *(e->older ? &e->older->newer : &c->oldest) = e;
  c->newest = e;
}

static void
list_remove_locked (struct q2_clusters *c, struct entry *e)
{
  q2_mutex_check_held (&c->lock);
  *(e->newer ? &e->newer->older : &c->newest) = e->older;
  *(e->older ? &e->older->newer : &c->oldest) = e->newer;
}

static void
remove_locked (struct q2_clusters *c, struct entry *e)
{
  struct entry **link = bucket_of (c, &e->key);

  q2_mutex_check_held (&c->lock);
  while (*link != NULL && *link != e)
    link = &(*link)->next;
  if (!q2_check (*link == e))
    return;
  *link = e->next;
  list_remove_locked (c, e);
}

/* Memory for a new entry, or NULL. */
static struct entry *
get_entry_locked (struct q2_clusters *c)
{
  struct entry *e;

  q2_mutex_check_held (&c->lock);
  if (c->nr_entries < c->max_entries) {
    e = q2_buffer_alloc (sizeof *e + c->cluster_size);
    if (e) {
      c->nr_entries++;
      return e;
    }
  }
  /* Acquire: all copies of these bytes have finished. */
  for (e = c->oldest; e; e = e->newer)
    if (atomic_load_explicit (&e->refs, memory_order_acquire) == 0) {
      remove_locked (c, e);
      return e;
    }
  return NULL;
}

/* Add an entry for the key, which the caller fills. */
static struct entry *
add_locked (struct q2_clusters *c, const struct q2_cluster_key *key)
{
  struct entry *const e = get_entry_locked (c);
  struct entry **bucket;

  q2_mutex_check_held (&c->lock);
  if (e == NULL)
    return NULL;
  bucket = bucket_of (c, key);
  e->key = *key;
  e->state = FILLING;
  e->dropped = false;
  atomic_init (&e->refs, 1);
  e->next = *bucket;
  *bucket = e;
  list_add_locked (c, e);
  return e;
}

static void
use_locked (struct q2_clusters *c, struct entry *e)
{
  q2_mutex_check_held (&c->lock);
  atomic_fetch_add_explicit (&e->refs, 1, memory_order_relaxed);
  if (e != c->newest) {
    list_remove_locked (c, e);
    list_add_locked (c, e);
  }
}

static void
unref_failed_locked (struct q2_clusters *c, struct entry *e)
{
  q2_mutex_check_held (&c->lock);
  (void) q2_check (e->state == FAILED && atomic_load (&e->refs) > 0);
  if (atomic_fetch_sub (&e->refs, 1) == 1) {
    c->nr_entries--;
    q2_buffer_free (e, sizeof *e + c->cluster_size);
  }
}

/* ---- Reading -------------------------------------------------------- */

/* Takes over a reference to a ready entry, and drops it. */
static void
copy_and_unref (struct entry *e, size_t skip, void *buf, size_t len)
{
  memcpy (buf, e->bytes + skip, len);
  atomic_fetch_sub_explicit (&e->refs, 1, memory_order_release);
}

bool
q2_clusters_lookup (struct q2_clusters *c, const struct q2_cluster_key *key,
                    size_t skip, void *buf, size_t len)
{
  struct entry *e;

  if (!q2_check (skip + len <= c->cluster_size))
    return false;
  q2_mutex_lock (&c->lock);
  e = find_locked (c, key);
  if (e && e->state != READY)
    e = NULL;
  if (e)
    use_locked (c, e);
  q2_mutex_unlock (&c->lock);
  if (e)
    copy_and_unref (e, skip, buf, len);
  return e != NULL;
}

/* Wait for another thread's fill; false, and the reference is dropped, if it
 * fails.
 */
static bool
wait_locked (struct q2_clusters *c, struct entry *e)
{
  q2_mutex_check_held (&c->lock);
  while (e->state == FILLING)
    q2_cond_wait (&c->filled, &c->lock);
  if (e->state == READY)
    return true;
  unref_failed_locked (c, e);
  return false;
}

/* The caller's fill has ended; if it failed, drop the reference. */
static void
end_fill (struct q2_clusters *c, struct entry *e, bool ok)
{
  q2_mutex_lock (&c->lock);
  (void) q2_check (e->state == FILLING);
  e->state = ok ? READY : FAILED;
  if (!ok) {
    remove_locked (c, e);
    unref_failed_locked (c, e);
  }
  pthread_cond_broadcast (&c->filled);
  q2_mutex_unlock (&c->lock);
}

/* Take a share of the memory for buffers outside of the cache; with large
 * clusters, many clients have to take turns.
 */
static void
begin_private (struct q2_clusters *c)
{
  q2_mutex_lock (&c->lock);
  while (c->nr_private == c->max_private)
    q2_cond_wait (&c->private_ended, &c->lock);
  c->nr_private++;
  q2_mutex_unlock (&c->lock);
}

static void
end_private (struct q2_clusters *c)
{
  q2_mutex_lock (&c->lock);
  if (q2_check (c->nr_private > 0))
    c->nr_private--;
  pthread_cond_signal (&c->private_ended);
  q2_mutex_unlock (&c->lock);
}

static int
read_private (const struct q2_clusters *c, size_t skip, void *buf,
              size_t len, q2_cluster_fill_fn fill, void *fill_arg,
              struct qcow2_error *err)
{
  unsigned char *const bytes = q2_buffer_alloc (c->cluster_size);
  int r;

  if (bytes == NULL)
    return q2_fail_nomem (err, "a compressed cluster");
  r = fill (fill_arg, bytes, err);
  if (r == 0)
    memcpy (buf, bytes + skip, len);
  q2_buffer_free (bytes, c->cluster_size);
  return r;
}

static int
read_past_cache (struct q2_clusters *c, size_t skip, void *buf, size_t len,
                 q2_cluster_fill_fn fill, void *fill_arg,
                 struct qcow2_error *err)
{
  int r;

  if (len == c->cluster_size)
    return fill (fill_arg, buf, err);
  begin_private (c);
  r = read_private (c, skip, buf, len, fill, fill_arg, err);
  end_private (c);
  return r;
}

int
q2_clusters_read (struct q2_clusters *c, const struct q2_cluster_key *key,
                  size_t skip, void *buf, size_t len,
                  q2_cluster_fill_fn fill, void *fill_arg,
                  struct qcow2_error *err)
{
  struct entry *e;
  bool ours = false;

  if (!q2_assume (skip + len <= c->cluster_size, err))
    return -1;
  q2_mutex_lock (&c->lock);
  e = find_locked (c, key);
  if (e) {
    use_locked (c, e);
    c->hits++;
    if (!wait_locked (c, e))
      e = NULL;
  }
  else {
    e = add_locked (c, key);
    ours = e != NULL;
    c->misses++;
  }
  q2_mutex_unlock (&c->lock);

  if (e == NULL)
    return read_past_cache (c, skip, buf, len, fill, fill_arg, err);
  if (ours) {
    const bool ok = fill (fill_arg, e->bytes, err) == 0;

    end_fill (c, e, ok);
    if (!ok)
      return -1;
  }
  copy_and_unref (e, skip, buf, len);
  return 0;
}

/* ---- Dropping ------------------------------------------------------- */

/* Whether a stream lies in one of the runs, at least in part: the last one
 * that begins before its end decides.
 */
static bool
lies_in (const struct q2_cluster_key *key, const struct q2_frees *runs,
         unsigned cluster_bits)
{
  const uint64_t first = key->host_off >> cluster_bits;
  const uint64_t last =
    (key->host_off + q2_max (key->csize, 1) - 1) >> cluster_bits;
  size_t low = 0, high = runs->nr;

  while (low < high) {
    const size_t mid = low + (high - low) / 2;

    if (runs->runs[mid].cluster <= last)
      low = mid + 1;
    else
      high = mid;
  }
  return low > 0 &&
    runs->runs[low - 1].cluster + runs->runs[low - 1].nr > first;
}

bool
q2_clusters_is_empty (struct q2_clusters *c)
{
  return atomic_load_explicit (&c->nr_entries, memory_order_relaxed) == 0;
}

void
q2_clusters_drop (struct q2_clusters *c, const struct q2_frees *runs,
                  unsigned cluster_bits)
{
  q2_mutex_lock (&c->lock);
  for (struct entry *e = c->newest; e; e = e->older)
    e->dropped |= lies_in (&e->key, runs, cluster_bits);
  q2_mutex_unlock (&c->lock);
}

int
q2_clusters_forget (struct q2_clusters *c, const struct q2_frees *sorted,
                    unsigned cluster_bits, struct qcow2_error *err)
{
  struct q2_frees runs;

  if (q2_clusters_is_empty (c))
    return 0;
  if (!q2_frees_union (sorted, &runs))
    return q2_fail_nomem (err, "a list of clusters");
  q2_clusters_drop (c, &runs, cluster_bits);
  q2_frees_destroy (&runs);
  return 0;
}

void
q2_clusters_get_stats (struct q2_clusters *c, uint64_t *ret_hits,
                       uint64_t *ret_misses)
{
  q2_mutex_lock (&c->lock);
  *ret_hits = c->hits;
  *ret_misses = c->misses;
  q2_mutex_unlock (&c->lock);
}
