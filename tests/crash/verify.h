/* SPDX-License-Identifier: BSD-3-Clause */
/* verify.h - is everything that was promised still there?
 *
 * Looks at one state after the other: the structure of the image by fsck.h
 * and by QEMU, the disk as the engine reads it, and for some states as QEMU
 * does, against the ledger; and a data file that must be the disk, too.
 */
#ifndef CRASH_VERIFY_H
#define CRASH_VERIFY_H

#include "fsck.h"
#include "ledger.h"
#include "recipe.h"
#include "replay.h"

struct verifier {
  struct ledger_cut cut;
  const char *name;             /* of the workload, for messages */
  unsigned qemu_percent;        /* of the states with new metadata */
  unsigned read_percent;        /* of those: the disk too */
  bool quiet;                   /* count failures, say nothing */
  struct layers *layers;        /* below the image */
  const char *qemu_options;     /* see struct qemu_files */
  bool data_raw;                /* the data file is the disk */

  unsigned long states;         /* that differ */
  unsigned long looks;          /* the same again, with more promised, too */
  unsigned long failures;
  char first[600];              /* the first of them */

  struct seen *states_seen, *metadata_seen;
  unsigned char *disk;
  uint64_t random;
};

extern void verifier_init (struct verifier *v, const struct ledger *l,
                           const char *name, struct recipe_image *image,
                           const struct recipe *r);
extern void verifier_free (struct verifier *v);

/* A state_fn: false after the first failure. */
extern bool verifier_look (void *verifier, const struct state *state);

/* The file after qcow2_end: clean by all accounts, and no leaks but those
 * that were there before; the disk is in v->disk afterwards.
 */
extern bool verifier_look_at_end (struct verifier *v,
                                  const struct state *state,
                                  const struct fsck *before);

#endif /* CRASH_VERIFY_H */
