/* SPDX-License-Identifier: BSD-3-Clause */
/* statelist.h - which of the images that are open serves a connection.
 *
 * For state.c, which has the list and its lock; the lock guards what is marked
 * (L), and is held by all who call this.
 */
#ifndef SHARE_STATELIST_H
#define SHARE_STATELIST_H

#include "host/fileid.h"

struct below;
struct disk;

struct state {
  struct state *next;           /* (L) */
  unsigned users;               /* (L) connections, and who opens it */
  bool ready;                   /* (L) false: being opened or closed, or */
  bool claimed;                 /* (L) by its only user, for good */
  bool stale;                   /* (L) no new users: the file has changed,
                                   or it is not sure which one this is */
  bool readonly;                /* opened for who only reads; constant */
  char *key;                    /* export name, "" where it means nothing */
  struct file_id id;            /* (L) constant once ready */
  struct disk *disk;            /* constant once ready */
};

/* What a connection is looking for. */
struct wanted {
  const char *key;
  struct file_id id;
  const struct below *own;      /* or NULL */
  bool readonly;
  bool alone;                   /* it may lack its backing file */
  bool *ret_claimed;            /* or NULL: it waits for who has claimed it */
};

extern void states_unlink_locked (struct state **first, struct state *state);
extern void states_push_locked (struct state **first, struct state *state);

/* While it is being opened, assume the best of a state. */
extern bool state_has_size (const struct state *state,
                            const struct below *own);

/* One that serves; NULL: none does. */
extern struct state *states_find_locked (struct state *first,
                                         const struct wanted *want);
/* A state that is in the way of opening another one for 'want'. */
extern struct state *states_find_conflict_locked (struct state *first,
                                                  const struct wanted *want);

/* What is in the list and does not fit has another content, and whoever has it
 * open reads a file that is there no more; except for one that only lacks its
 * backing file.
 */
extern void states_mark_stale_locked (struct state *first,
                                      const struct wanted *want);

/* Take what nobody needs any more out of the list: a state that nobody uses
 * and that is one too many, or stale.  NULL: there is none.
 */
extern struct state *states_take_surplus_locked (struct state **first);

#endif /* SHARE_STATELIST_H */
