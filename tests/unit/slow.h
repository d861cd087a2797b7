/* SPDX-License-Identifier: BSD-3-Clause */
/* slow.h - images on a slow host, for tests of reading ahead and parallel
 * reads.
 *
 * The images are larger than those of random_image.h, with clusters of 64 KiB
 * and one L2 table, in the layouts of real programs.
 */
#ifndef SLOW_H
#define SLOW_H

#include "memory_io.h"
#include "random_image.h"

#define SLOW_CLUSTER UINT64_C (65536)
#define SLOW_DELAY_US 260       /* of each read; more than Q2_SLOW_US */

enum slow_layout {
  SLOW_PLAIN,                   /* data in the order of the disk */
  SLOW_SCATTERED,               /* data in any order */
  SLOW_HOLES,                   /* data, zero and unallocated clusters */
  SLOW_PACKED,                  /* compressed, in the order of the disk */
  SLOW_PACKED_SCATTERED,        /* compressed, in any order */
  SLOW_MIXED,                   /* packed; some could not be compressed */
};
#define SLOW_NR_LAYOUTS 6

/* Abilities of the host. */
enum slow_mode {
  SLOW_CONCURRENT,              /* one I/O handle for all, lent at will */
  SLOW_SERIAL,                  /* at most 3 I/O handles, one thread in each */
  SLOW_NOTHING_LENT,            /* one thread, nothing in the background */
};
#define SLOW_NR_MODES 3

struct slow {
  struct random_image r;        /* bytes, and the model */
  enum slow_mode mode;
  struct memory_io m;
  atomic_uint *sector_reads, *sector_faults;
  struct qcow2_image *image;    /* NULL: not open */
};

extern void slow_init_layout (struct slow *s, enum slow_layout layout,
                              enum slow_mode mode, uint64_t nr_clusters);
extern void slow_init_random (struct slow *s, struct rng *rng,
                              enum slow_mode mode, uint64_t max_len);
extern void slow_free (struct slow *s);

/* Start again with another host; the image must be closed. */
extern void slow_set_mode (struct slow *s, enum slow_mode mode);

/* Another I/O handle for s, and its end, which waits for lent handles. */
extern void slow_way_init (struct slow *s, struct memory_io *m);
extern void slow_way_end (struct memory_io *m);

/* Open with s->m, which must succeed; close and check the state after that. */
extern void slow_open (struct slow *s, uint64_t readahead);
extern void slow_close (struct slow *s);

/* Wait until nothing runs in the background. */
extern void slow_settle (struct slow *s);
/* Settle, and reset the records of sectors and all counters. */
extern void slow_forget (struct slow *s);

/* Read a range inside the window (offset 0 is its start); the bytes must be
 * right.  Returns an errno value, or 0.
 */
extern int slow_read (struct slow *s, struct memory_io *m, uint64_t at,
                      uint64_t len);
/* Read the whole window in order; no read may fail. */
extern void slow_copy (struct slow *s, struct memory_io *m, uint64_t step);

/* Walk the extents of a range of the window, which must be true.  Returns an
 * errno value, or 0; *ret_end is the end of the last one.
 */
extern int slow_extents (struct slow *s, struct memory_io *m, uint64_t at,
                         uint64_t len, uint64_t *ret_end);

/* Call fn for the host sectors that a range of the window needs: its L2
 * entries, data, and streams.
 */
typedef void (*slow_sector_fn) (void *arg, uint64_t host_sector);
extern void slow_needed (const struct slow *s, uint64_t at, uint64_t len,
                         slow_sector_fn fn, void *arg);

extern const char *slow_mode_name (enum slow_mode mode);
extern const char *slow_layout_name (enum slow_layout layout);

#endif /* SLOW_H */
