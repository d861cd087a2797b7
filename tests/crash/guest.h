/* SPDX-License-Identifier: BSD-3-Clause */
/* guest.h - clients that read and write a disk at random, with a ledger.
 *
 * A guest's requests are in whole sectors and are entered in the ledger; reads
 * must return what the ledger allows.
 */
#ifndef CRASH_GUEST_H
#define CRASH_GUEST_H

#include "host.h"
#include "ledger.h"
#include "recipe.h"
#include "unit.h"

enum pattern {
  PATTERN_RANDOM,               /* anywhere, of any length */
  PATTERN_SEQUENTIAL,           /* a stream for each client */
  PATTERN_HOT,                  /* in a few clusters, again and again */
};

struct workload {
  const char *name;
  struct recipe recipe;
  struct host_spec host;
  enum qcow2_discard discard;
  uint64_t cache_size;          /* 0: the engine's default */
  bool compress;                /* what is written, and keep decompressed
                                   clusters */
  enum qcow2_detect_zeroes detect_zeroes;
  enum qcow2_bitmaps bitmaps;
  enum qcow2_refcounts refcounts;
  unsigned zeros_percent;       /* of writes */
  unsigned pack_percent;        /* of writes: qcow2_pwrite_compressed */
  enum pattern pattern;
  unsigned clients;             /* threads */
  unsigned requests;            /* of each */
  /* Of each kind, as parts of their sum. */
  unsigned write, zero, trim, read, flush, idle;
  unsigned check;               /* of the image, and repairs of leaks */
  unsigned fua_percent;
  unsigned max_sectors;         /* of a request; 0: four clusters */
  bool may_fill;                /* lack of space is no failure */
};

/* The initial files of a guest. */
struct guest_files {
  const void *image;
  uint64_t size;
  const void *data;             /* the data file; NULL: there is none */
  uint64_t data_size;
  const unsigned char *disk;    /* the expected contents */
  struct layers *layers;        /* backing files; not owned */
};

struct guest {
  const struct workload *w;
  uint64_t seed;
  struct host host;
  struct host data;             /* joined to it, if there is a data file */
  struct attach attach;
  enum qcow2_refcounts refcounts;       /* at first the workload's */
  uint64_t stuck;               /* sectors before this cannot be trimmed */
  struct ledger ledger;
  struct qcow2_image *image;
  /* Errors of these kinds (1 << kind) are no failures of the test. */
  uint64_t shorts;              /* at the end: see struct qcow2_stats */
  unsigned tolerated;
  atomic_ulong errors;          /* tolerated ones */
  bool commits_lack_space;      /* the host causes this */
  uint64_t next_sequential;
};

/* Copies the files, but not the layers. */
extern void guest_init (struct guest *g, const struct workload *w,
                        uint64_t seed, const struct guest_files *files);
extern struct guest_files guest_files_of (struct recipe_image *image);
/* The host of a data file for such an image; copies 'data'. */
extern void guest_init_data (struct host *h, const struct workload *w,
                             const void *data, uint64_t size);
extern void guest_free (struct guest *g);

/* Opens the image for writing. */
extern void guest_open (struct guest *g);
/* Runs all clients to their end. */
extern void guest_run (struct guest *g);
/* One request; 'rng' belongs to the client. */
extern void guest_request (struct guest *g, struct rng *rng);
/* Read all of the disk and compare it with the ledger. */
extern void guest_read_all (struct guest *g);
/* qcow2_end (if 'end') and qcow2_close. */
extern bool guest_close (struct guest *g, bool end);

#endif /* CRASH_GUEST_H */
