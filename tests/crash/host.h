/* SPDX-License-Identifier: BSD-3-Clause */
/* host.h - a writable file in memory with a log of its operations.
 *
 * A struct qcow2_io that checks every call against the promises of struct
 * qcow2_io_ops, grows up to a capacity or has a fixed one, fails on demand,
 * and logs every change of the file: start and end of each operation, with its
 * data, on a clock that guest requests use, too.
 *
 * Threads: the ops may be called by any number of them.
 */
#ifndef CRASH_HOST_H
#define CRASH_HOST_H

#include "qcow2.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum host_op_kind {
  HOST_READ,                    /* not in the log */
  HOST_WRITE,
  HOST_ZERO,
  HOST_TRIM,
  HOST_FLUSH,
  HOST_GROW,
  HOST_CUT,
};
#define HOST_NR_KINDS 7

struct host_op {
  enum host_op_kind kind;
  enum qcow2_io_class io_class;
  uint64_t host_off;            /* grow, cut: the new size */
  uint64_t len;
  unsigned char *data;          /* the new bytes; NULL: zeros */
  uint64_t start, end;          /* ticks; end is TICK_NEVER while it runs */
  bool failed;                  /* a flush: see replay.c */
  bool unclear;                 /* failed, but may be done: a write later,
                                   growth and cut at once */
  bool never;                   /* see late.h */
  unsigned file;                /* 1: of a data file, see host_join */
};

/* The contents of trimmed bytes. */
enum host_trim { HOST_TRIM_GARBAGE, HOST_TRIM_ZEROS };

/* Abilities of the host. */
struct host_spec {
  uint64_t capacity;            /* the file can never be larger */
  bool grows;                   /* ops->grow and cut; else the file has that
                                   size from the start, with garbage after the
                                   image */
  uint64_t step;                /* it becomes larger by so much at least; 0: by
                                   what is needed, or a little more */
  uint32_t min_block;           /* 0 counts as 1 */
  uint32_t max_block;
  bool in_turn;                 /* not concurrent, which is checked */
  bool no_zero, no_trim;        /* not supported */
  bool holes;                   /* reports them: blocks of 4096 zeros */
  enum host_trim trim;
  unsigned delay_us;            /* of each operation, at most */
  unsigned flaky;               /* so many of a thousand operations, except
                                   flushes, fail with EIO until host_steady */
  unsigned flaky_tables;        /* so many more writes to tables, and three
                                   times as many to the header */
  unsigned stingy;              /* so many of a thousand writes to tables find
                                   no room until host_steady; after ops->spend
                                   all do for three flushes, so for a commit */
  unsigned mean;                /* so many of a thousand times ops->spend has
                                   nothing to give */
  unsigned long bad_flush;      /* that flush (1 = first) fails, 0: none */
  unsigned room;                /* a sparse file on a medium with so many free
                                   blocks of 4096; 0: any number */
};

struct host {
  struct qcow2_io io;           /* pass &h->io to the engine */
  struct qcow2_io_ops ops;
  struct host_spec spec;

  _Atomic uint64_t own_clock, *clock;   /* that, or the image file's */
  struct host *data;            /* of an image file: see host_join */

  pthread_mutex_t lock;         /* of all below */
  unsigned char *bytes;         /* spec.capacity of them */
  uint64_t size;
  unsigned file;
  uint64_t most;                /* maximum size; 0: no limit */
  uint64_t random;
  unsigned inside;              /* operations running */
  unsigned generous;            /* spec.stingy: room for so many flushes */
  unsigned long spent;          /* successful calls of ops->spend */
  struct host_op **late;        /* see late.h */
  size_t nr_late;

  bool *solid;                  /* by block: it is allocated on the medium;
                                   NULL: spec.room is 0 */

  bool record;
  unsigned char *initial;       /* the bytes when recording began */
  uint64_t initial_size;
  struct host_op **log;         /* in the order of their start */
  size_t nr_log, log_room;

  /* The fail_at-th (1 = next) operation of a kind that is set in fail_kinds
   * fails, and fail_more after it.  A failed write or zeroing is done in part.
   */
  unsigned fail_kinds;          /* 1 << kind */
  unsigned long fail_at, fail_more;
  int fail_errnum;
  uint64_t bad_start, bad_end;  /* reading any of this fails with EIO, until
                                   all of it is written to, as on a disk */
  unsigned long failed;         /* so many have */
  unsigned long nr[HOST_NR_KINDS];
};

/* Copies 'image'. */
extern void host_init (struct host *h, const struct host_spec *spec,
                       const void *image, uint64_t size);
extern void host_free (struct host *h);

/* Make 'data' the host of the data file of h's image, with one clock for both
 * logs.  They are recorded, reopened and made steady together.  Call it before
 * all of that; 'data' must not move.
 */
extern void host_join (struct host *h, struct host *data);

/* Make a new I/O handle, with the present size.  Call it before each opening.
 */
extern void host_reopen (struct host *h);

/* Log everything from now on; forgets what was in the log. */
extern void host_record (struct host *h);

/* Advance the clock and return it; the present tick. */
extern uint64_t host_tick (struct host *h);
extern uint64_t host_now (const struct host *h);

/* Inject faults from now on; 'at' = 0: none. */
extern void host_fail (struct host *h, unsigned kinds, unsigned long at,
                       unsigned long more, int errnum);

/* No operation is flaky or stingy from now on. */
extern void host_steady (struct host *h);

/* Late sectors land now, or never. */
extern void host_settle (struct host *h);

/* For late.c, with the lock: a random number; a new entry of the log. */
extern uint64_t host_random_locked (struct host *h);
extern struct host_op *host_log_locked (struct host *h,
                                        const struct host_op *op);

/* Write the present file to 'path'. */
extern void host_save (struct host *h, const char *path);

#endif /* CRASH_HOST_H */
