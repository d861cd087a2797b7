/* SPDX-License-Identifier: BSD-3-Clause */
/* guest.h - clients that read and write a disk at random, and remember.
 *
 * All of a guest's requests are in whole sectors, are entered in the
 * ledger, and what it reads must be what the ledger allows.
 */
#ifndef CRASH_GUEST_H
#define CRASH_GUEST_H

#include "host.h"
#include "ledger.h"
#include "recipe.h"
#include "unit.h"

enum pattern {
  PATTERN_RANDOM,               /* anywhere, of any length */
  PATTERN_SEQUENTIAL,           /* each client its own stream */
  PATTERN_HOT,                  /* in a few clusters, again and again */
};

struct workload {
  const char *name;
  struct recipe recipe;
  struct host_spec host;
  enum qcow2_discard discard;
  uint64_t cache_size;          /* 0: of the engine's choice */
  enum pattern pattern;
  unsigned clients;             /* threads */
  unsigned requests;            /* of each */
  /* Of each kind, as parts of their sum. */
  unsigned write, zero, trim, read, flush, idle;
  unsigned fua_percent;
  unsigned max_sectors;         /* of a request; 0: four clusters */
  bool may_fill;                /* that there is no space is no failure */
};

/* What a guest begins with. */
struct guest_files {
  const void *image;
  uint64_t size;
  const void *data;             /* the data file; NULL: there is none */
  uint64_t data_size;
  const unsigned char *disk;    /* what they hold, sector by sector */
  struct layers *layers;        /* below; not the guest's */
};

struct guest {
  const struct workload *w;
  uint64_t seed;
  struct host host;
  struct host data;             /* joined to it, if there is a data file */
  struct attach attach;
  uint64_t stuck;               /* sectors before this cannot be trimmed */
  struct ledger ledger;
  struct qcow2_image *image;
  /* Errors of these kinds (1 << kind) are no failures of the test. */
  unsigned tolerated;
  atomic_ulong errors;          /* tolerated ones */
  bool commits_lack_space;      /* that is a fault of the host's here */
  uint64_t next_sequential;
};

/* The files are copied, but not the layers. */
extern void guest_init (struct guest *g, const struct workload *w,
                        uint64_t seed, const struct guest_files *files);
extern struct guest_files guest_files_of (struct recipe_image *image);
/* Where a data file lies beside such an image; it is copied. */
extern void guest_init_data (struct host *h, const struct workload *w,
                             const void *data, uint64_t size);
extern void guest_free (struct guest *g);

/* Opens the image for writing. */
extern void guest_open (struct guest *g);
/* Runs all clients to their end. */
extern void guest_run (struct guest *g);
/* One request; 'rng' belongs to the client. */
extern void guest_request (struct guest *g, struct rng *rng);
/* All of the disk, compared with the ledger. */
extern void guest_read_all (struct guest *g);
/* qcow2_end (if that is wanted) and qcow2_close. */
extern bool guest_close (struct guest *g, bool end);

#endif /* CRASH_GUEST_H */
