/* SPDX-License-Identifier: BSD-3-Clause */
/* roster.h - who is connected to the control socket.
 *
 * The thread that serves a peer owns it, but for what is marked (C).
 * control.lock (docs/LOCKING.md) guards that and the places; it is never held
 * over I/O.
 */
#ifndef CONTROL_ROSTER_H
#define CONTROL_ROSTER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROSTER_PLACES 8
/* Bytes of events that wait for a peer. */
#define ROSTER_MAX_EVENTS ((size_t) 65536)

struct peer {
  int fd;                       /* -1: this place is free */
  int wake[2];                  /* a pipe: look at what is marked (C) */
  pthread_t thread;             /* server.c's */
  bool ended;                   /* (C) its thread only needs to be joined */
  bool leave;                   /* (C) to make room, or the server ends */
  bool busy;                    /* (C) a command runs */
  uint64_t idle_since;          /* (C) ms, else */
  bool negotiated;              /* (C) written by its own thread only */
  char *events;                 /* (C) lines to be sent: ROSTER_MAX_EVENTS */
  size_t events_len;            /* (C) */

  char *input;                  /* peer.c's: FRAME_MAX_BYTES + 1 */
  size_t input_len;
  uint64_t input_since;         /* ms: when the first of it came */
};

/* Milliseconds of a clock that only goes forward. */
extern uint64_t roster_clock (void);

/* ---- Pipes that wake threads, which never block ------------------------ */

extern int roster_pipe (int ends[2]);
extern void roster_close_pipe (const int ends[2]);
extern void roster_ring (const int ends[2]);
extern void roster_empty (const int ends[2]);

/* ---- For the thread that accepts, which alone adds and removes --------- */

extern void roster_open (void);
/* Free, or NULL. */
extern struct peer *roster_free_place (void);
/* Takes 'fd' and 'input', unless it returns -1. */
extern int roster_add (struct peer *p, int fd, char *input);
/* Its thread has been joined, or was never there. */
extern void roster_remove (struct peer *p);
/* One whose thread ends, or has ended, or NULL; with 'all', any. */
extern struct peer *roster_next_to_join (bool all);
/* Tell the one that has been idle for longest to go; false: all are busy. */
extern bool roster_ask_for_room (void);
/* From now on the server is ending, and all are to leave. */
extern void roster_dismiss (void);

/* ---- For threads that serve a peer ------------------------------------- */

/* Empties the pipe.  Returns false if the peer is to leave. */
extern bool roster_heed (struct peer *p);
/* A command begins, or has ended.  Returns false if the peer is to leave. */
extern bool roster_set_busy (struct peer *p, bool busy);
extern void roster_set_negotiated (struct peer *p);
extern void roster_set_ended (struct peer *p);
/* What it is to be told: copies that to 'buf', which has ROSTER_MAX_EVENTS
 * bytes, and returns how many there are.
 */
extern size_t roster_take_events (struct peer *p, char *buf);

/* ---- For all ----------------------------------------------------------- */

/* After roster_dismiss. */
extern bool roster_is_dismissed (void);
/* Long work is to be cancelled: the server ends, or was told to. */
extern bool roster_is_ending (void);
/* All peers that have negotiated get this line, when they are next idle. */
extern void roster_tell_all (const char *text);

#endif /* CONTROL_ROSTER_H */
