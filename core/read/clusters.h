/* SPDX-License-Identifier: BSD-3-Clause */
/* clusters.h - a cache of decompressed clusters.
 *
 * It serves requests smaller than a cluster, which would otherwise decompress
 * the whole cluster for each of its pieces.
 */
#ifndef QCOW2_READ_CLUSTERS_H
#define QCOW2_READ_CLUSTERS_H

#include "alloc/frees.h"

#include "qcow2.h"

struct q2_clusters;

/* A cache of at most 'max_bytes' of clusters of 'cluster_size' bytes each.  It
 * takes memory as clusters come in.  If not even one fits, it keeps nothing.
 */
extern struct q2_clusters *q2_clusters_new (uint64_t max_bytes,
                                            size_t cluster_size,
                                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_clusters_free (struct q2_clusters *clusters);

/* Identifies a cluster by the place of its stream.  It takes both numbers,
 * since a corrupt image may have two entries that differ only in one.
 */
struct q2_cluster_key {
  uint64_t host_off, csize;
};

/* Make the cluster_size bytes of the cluster at 'buf'. */
typedef int (*q2_cluster_fill_fn) (void *arg, void *buf,
                                   struct qcow2_error *err);

/* Copy [skip, skip+len) of the cluster to 'buf', calling 'fill' first if it
 * is not in the cache.  Threads that need the same missing cluster wait for
 * the first one's fill; if that fails, each of them calls its own.  No lock
 * is held while fill runs or bytes are copied.
 */
extern int q2_clusters_read (struct q2_clusters *clusters,
                             const struct q2_cluster_key *key, size_t skip,
                             void *buf, size_t len, q2_cluster_fill_fn fill,
                             void *fill_arg, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 4, 6, 8), __warn_unused_result__));

/* Streams that lie in these clusters of the file, in order and without
 * overlaps, are no more: what was made of them is not found any more.  Called
 * when nobody reads them, and before something else is put there.
 */
extern void q2_clusters_drop (struct q2_clusters *clusters,
                              const struct q2_frees *runs,
                              unsigned cluster_bits)
  __attribute__ ((__nonnull__));

/* The same for a sorted list, which may have a cluster more than once. */
extern int q2_clusters_forget (struct q2_clusters *clusters,
                               const struct q2_frees *sorted,
                               unsigned cluster_bits, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Whether there is anything to drop; cheap. */
extern bool q2_clusters_is_empty (struct q2_clusters *clusters)
  __attribute__ ((__nonnull__));

/* Copy if the cluster is there, without waiting. */
extern bool q2_clusters_lookup (struct q2_clusters *clusters,
                                const struct q2_cluster_key *key,
                                size_t skip, void *buf, size_t len)
  __attribute__ ((__nonnull__, __warn_unused_result__));

extern void q2_clusters_get_stats (struct q2_clusters *clusters,
                                   uint64_t *ret_hits, uint64_t *ret_misses)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_READ_CLUSTERS_H */
