/* SPDX-License-Identifier: BSD-3-Clause */
/* memory_io.h - a struct qcow2_io over bytes in memory.
 *
 * Checks on every call that the engine keeps the rules of struct qcow2_io_ops,
 * counts requests, and fails or delays them on demand.  Can lend I/O handles
 * for background work.
 */
#ifndef MEMORY_IO_H
#define MEMORY_IO_H

#include "qcow2.h"

#include <stdatomic.h>

struct memory_io {
  struct qcow2_io io;           /* pass &m.io to the engine */
  const unsigned char *bytes;   /* io.size of them; not owned */

  atomic_ulong reads[QCOW2_IO_NR_CLASSES];
  atomic_ulong read_bytes;
  atomic_ulong extents_calls, cache_calls, cache_bytes;
  atomic_ulong calls;           /* of any kind */
  atomic_ulong failed_reads;

  /* Set between calls of the engine. */
  unsigned long fail_at;        /* fail call number this (1 = next), 0 none */
  bool fail_on;                 /* ... and all that follow */
  unsigned fail_every;          /* every so many-th call; 0 none */
  int fail_errnum;
  uint64_t bad_start, bad_end;  /* reads of any of that fail with EIO */
  unsigned delay_us;            /* of each read; 1 more for each KiB */
  /* Report holes where whole 'hole_size' blocks of bytes are zero; one call
   * reports at most max_extents (0: all), as a server may.
   */
  uint32_t hole_size;
  unsigned max_extents;

  /* I/O handles lent and not given back: must be 0 when the engine has closed
   * the image.  They share faults and counters.
   */
  atomic_uint borrowed;
  atomic_ulong lent;            /* ever */
  unsigned max_borrowed;        /* more is EBUSY; 0: any number */
  bool fail_lent;               /* fail all reads through lent handles */

  /* Optional, not owned: how often each sector of 512 bytes was read, and how
   * often such a read was made to fail.
   */
  atomic_uint *sector_reads, *sector_faults;

  /* If io.concurrent is false, two reads at once, through this handle or
   * through a lent one, are a failed check.
   */
  bool in_turn;
  atomic_int inside;            /* reads through this handle running now */
};

/* An I/O handle to 'size' bytes without limits and faults; adjust the fields
 * of m->io and of *m afterwards.
 */
extern void memory_io_init (struct memory_io *m, const void *bytes,
                            uint64_t size);

/* From now on lend I/O handles like m->io, at most 'max' at a time (0: any
 * number).  Sets m->in_turn.
 */
extern void memory_io_lend (struct memory_io *m, unsigned max);

/* Zero the counters. */
extern void memory_io_reset (struct memory_io *m);

/* Reads of all classes. */
extern unsigned long memory_io_total_reads (const struct memory_io *m);

#endif /* MEMORY_IO_H */
