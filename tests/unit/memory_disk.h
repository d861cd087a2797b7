/* SPDX-License-Identifier: BSD-3-Clause */
/* memory_disk.h - a writable file in memory that can show what a crash could
 * leave.
 *
 * Checks on every call that the engine keeps the rules of struct qcow2_io_ops.
 * Bytes past the stored ones read as zeros, so a file may claim any size.
 */
#ifndef MEMORY_DISK_H
#define MEMORY_DISK_H

#include "io/io.h"

struct disk_write {
  uint64_t host_off;
  uint32_t len;
  unsigned char *bytes;
};

struct memory_disk {
  struct qcow2_io host;
  struct q2_io_shared shared;
  struct q2_io io;              /* pass &d.io to the engine */

  unsigned char *bytes;         /* present contents */
  uint64_t stored;              /* bytes of them */
  uint64_t size;                /* of the file */
  uint64_t first_size;          /* at the start */
  uint64_t capacity;            /* it cannot grow past this */

  unsigned char *durable;       /* as of the last flush */
  uint64_t durable_stored;
  struct disk_write *pending;   /* since then, in order */
  size_t nr_pending;

  /* A range that extents reports as a hole although it has bytes. */
  uint64_t lie_start, lie_end;

  unsigned long reads, read_bytes, writes, flushes;
  unsigned long changes;        /* writes, flushes, growths and cuts */
  unsigned long fail_at;        /* change number this (1 = next), 0: none */
  int fail_errnum;

  /* Optional: called before each change. */
  void (*before_change) (struct memory_disk *disk, void *opaque);
  void *opaque;
};

/* A copy of the bytes. */
extern void memory_disk_init (struct memory_disk *disk, const void *bytes,
                              uint64_t size);
extern void memory_disk_free (struct memory_disk *disk);

/* All of its present bytes; the caller frees them. */
extern unsigned char *memory_disk_copy (const struct memory_disk *disk);

/* The file claims another size; nothing is stored for it. */
extern void memory_disk_resize (struct memory_disk *disk, uint64_t size);

/* Make a disk with the durable bytes and random ones of the pending writes;
 * rng NULL: all of them.  One write may be torn at 512 bytes.
 */
struct rng;
extern void memory_disk_crash (const struct memory_disk *disk,
                               struct rng *rng, struct memory_disk *ret_disk);

#endif /* MEMORY_DISK_H */
