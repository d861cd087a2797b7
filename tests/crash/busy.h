/* SPDX-License-Identifier: BSD-3-Clause */
/* busy.h - an image whose snapshots change while a guest writes, and what a
 * crash leaves of it.
 *
 * Of each file that a crash could leave behind must hold: each sector of the
 * disk has what a crash could leave there (ledger.h); the snapshots are those
 * that there may be at that time, and read as they must; no cluster has fewer
 * refcounts than users, and none that may be written in place has several.
 * Then the disk is written to, as a server would after the crash: still every
 * snapshot reads as it must, and the image is clean; in version 2, which has
 * no dirty bit, after a repair of leaks.
 */
#ifndef CRASH_BUSY_H
#define CRASH_BUSY_H

#include "beside.h"
#include "guest.h"
#include "replay.h"

#define BUSY_MAX_DISK (UINT64_C (768) << 10)
#define BUSY_MAX_SNAPSHOTS 4
#define BUSY_MAX_MARKS 16
#define BUSY_MAX_FILE (UINT64_C (6) << 20)
#define BUSY_MAX_CLUSTERS (BUSY_MAX_FILE / 512)

/* For a struct workload. */
#define BUSY_HOST { .capacity = BUSY_MAX_FILE, .grows = true }
#define BUSY_REQUESTS                                                         \
  .write = 60, .zero = 14, .trim = 14, .flush = 5, .idle = 1, .fua_percent = 3

/* Ticks: it may be there from ... until, and must from ... until. */
struct busy_snapshot {
  char name[16];
  uint64_t may_from, must_from, must_until, may_until;
  unsigned char disk[BUSY_MAX_DISK];
};

struct busy {
  const struct workload *w;
  bool planted;                 /* the engine has a bug: it may fail */
  bool only_lowered;            /* refcounts of what had several users: what is
                                   COPIED is counted once at any moment */
  struct recipe_image image;
  unsigned nr_begun;
  unsigned version;
  struct guest guest;
  struct beside beside;
  struct busy_snapshot snapshots[BUSY_MAX_SNAPSHOTS];
  unsigned nr_snapshots;

  void (*wrap) (struct host *h);        /* inside of beside.h, or NULL */
  /* What else must hold of a state with such a disk and these snapshots (1 <<
   * index).  Returns what is wrong, or NULL.
   */
  const char *(*judge) (struct busy *b, const struct state *state,
                        const unsigned char *disk, unsigned shown);
  uint64_t marks[BUSY_MAX_MARKS];       /* ticks at which that changes */
  unsigned nr_marks;

  struct ledger_cut cut;
  char what[120];
  unsigned char risks[BUSY_MAX_CLUSTERS];
  uint64_t *seen;               /* hashes of states */
  unsigned long states, failures;
  unsigned long shown[1 << BUSY_MAX_SNAPSHOTS];         /* states with these */
};

/* Room for what was seen, which lasts. */
extern void busy_init (struct busy *b, bool planted);
extern void busy_free (struct busy *b);

/* A guest of b->image, with the snapshots of the recipe, and a second thread
 * that does its requests; 'nr' of them are done, and the image is closed.
 */
extern void busy_begin (struct busy *b, const struct workload *w,
                        uint64_t seed, unsigned nr);
extern void busy_end (struct busy *b);
extern void busy_open_guest (struct busy *b);

/* Room for one more, which is there for ever. */
extern struct busy_snapshot *busy_add (struct busy *b, const char *name);

extern void busy_failed (struct busy *b, const char *how,
                         const char *problem);

extern struct qcow2_image *busy_open (struct host *h, bool writable);
/* ... and close. */
extern bool busy_end_image (struct host *h, struct qcow2_image *image);

extern bool busy_read_snapshot (const struct busy *b, struct host *h,
                                struct qcow2_image *image, const char *name,
                                unsigned char *ret);

/* The image is used by nobody else.  NULL: all is as it must be. */
extern const char *busy_look_at_snapshots (const struct busy *b,
                                           struct host *h,
                                           struct qcow2_image *image,
                                           uint64_t tick, unsigned *ret_shown);

/* After the run: what the guest sees; metadata of an image that has ended. */
extern void busy_look_at_now (struct busy *b);
extern bool busy_has_leaks (struct busy *b, const struct host *h,
                            const char *how);

/* Look at states that a crash could leave. */
extern void busy_replay (struct busy *b, uint64_t seed);

/* Bugs of base/plant.h, with their names. */
struct busy_plant { int nr; const char *name; };

/* Plant each of them in *planted: 'play' must return more than 0 then.  It runs
 * in a process of its own, since an engine that has a bug may notice first, and
 * abort.
 */
extern void busy_find (int *planted, const struct busy_plant *plants,
                       size_t nr, unsigned long (*play) (void));

#endif /* CRASH_BUSY_H */
