/* SPDX-License-Identifier: BSD-3-Clause */
/* pack.h - clusters that are compressed together and written with one request.
 */
#ifndef QCOW2_WRITE_PACK_H
#define QCOW2_WRITE_PACK_H

#include "write/writer.h"

/* Memory for streams of one request; or one cluster, if that is larger. */
#define Q2_PACK_BYTES (UINT64_C (2) << 20)
#define Q2_PACK_CLUSTERS Q2_MAX_ENTRIES

/* Clusters of the disk under one slice of an L2 table.  Large. */
struct q2_pack {
  struct q2_writer *w;
  const struct q2_io *io;
  uint64_t first, nr;           /* the clusters */
  const unsigned char *buf;     /* their bytes; the last one of the disk may be
                                   shorter than a cluster */
  uint64_t len;
  unsigned char *out;           /* what they are compressed to */

  /* Of each cluster. */
  uint32_t size[Q2_PACK_CLUSTERS];      /* of its stream; 0: none */
  bool zero[Q2_PACK_CLUSTERS];  /* it becomes an entry that says so */

  /* The streams, one behind the other at 'out', and behind the last of them
   * zeros for the rest of a block.
   */
  uint32_t stream[Q2_PACK_CLUSTERS];    /* their sizes */
  uint32_t of[Q2_PACK_CLUSTERS];        /* of which cluster, from 'first' on */
  size_t nr_streams;
  size_t put;                   /* so many of them are in the file */
  bool too_far;                 /* no entry can name the place for the next */
};

/* No two requests may write to the same one. */
static inline uint64_t
q2_pack_block (const struct q2_io *io)
{
  return q2_max (512, io->host->min_block);
}

/* pack_put.c: put the streams into the file and link them, until all are
 * there, or too far.
 */
extern int q2_pack_put (struct q2_pack *pack, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_WRITE_PACK_H */
