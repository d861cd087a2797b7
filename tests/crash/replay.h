/* SPDX-License-Identifier: BSD-3-Clause */
/* replay.h - makes the files that a crash could leave.
 *
 * The input is the log of a host, and that of the data file's host if one is
 * joined.  At every moment, all operations that a flush has made durable are
 * in the file, and any part of the others.  See replay.c.
 */
#ifndef CRASH_REPLAY_H
#define CRASH_REPLAY_H

#include "host.h"

struct state {
  const unsigned char *bytes;   /* constant during the call */
  uint64_t size;
  const unsigned char *data;    /* the data file, NULL: there is none */
  uint64_t data_size;
  uint64_t hash;                /* of all of these */
  uint64_t tick;                /* the crash is just before this */
  const char *how;              /* for messages */
};

/* Returns false to stop. */
typedef bool (*state_fn) (void *opaque, const struct state *state);

struct replay_spec {
  uint64_t seed;
  unsigned all_subsets;         /* all subsets of up to so many operations */
  unsigned subsets;             /* of more: so many random ones */
  unsigned prefix_percent;      /* of the moments */
};

/* Ticks never descend.  Returns false if 'fn' did. */
extern bool replay (const struct host *h, const struct replay_spec *spec,
                    state_fn fn, void *opaque);

#endif /* CRASH_REPLAY_H */
