/* SPDX-License-Identifier: BSD-3-Clause */
/* filter.h - what the files of the filter share.
 *
 * config.c     the parameters of the command line
 * lanes.c      contexts for background work
 * nbdkit_io.c  calls to the layer below, checked
 * report.c     errors of the engine to nbdkit
 * state.c      one open image shared by all its connections
 * filter.c     the callbacks; everything above is put together there
 */
#ifndef FILTER_H
#define FILTER_H

/* Before the header, so that the compiler checks nbdkit_error's formats
 * although they may use %m.
 */
#define HAVE_VFPRINTF_PERCENT_M 1
#include <nbdkit-filter.h>

#include "qcow2.h"

#include <pthread.h>
#include <sys/types.h>
#include <time.h>

#define NBDKIT_AT_LEAST(major, minor)                                         \
  (NBDKIT_VERSION_MAJOR > (major) ||                                          \
   (NBDKIT_VERSION_MAJOR == (major) && NBDKIT_VERSION_MINOR >= (minor)))

/* ---- config.c --------------------------------------------------------- */

/* What the export name means to the plugin below us.  A filter is not told
 * which plugin that is, so this is concluded from the plugin's parameters,
 * and UNKNOWN where they do not tell.
 */
enum export_names {
  NAMES_IGNORED,                /* every name is the same image */
  NAMES_ARE_FILES,              /* a file of that name in config.dir */
  NAMES_UNKNOWN,
};

/* Constant after get_ready. */
struct config {
  uint64_t cache_size;          /* 0: the engine's default */
  uint64_t cluster_cache_size;
  uint64_t readahead;
  int thread_model;             /* of the whole server */
  enum export_names names;
  char *file;                   /* absolute, or NULL: a local file below */
  char *dir;                    /* absolute, or NULL */
  char *label;                  /* what to call the image, or NULL */
  bool descriptor;              /* the plugin has a file of ours open */
};
extern struct config config;

extern int config_parse (nbdkit_next_config *next, nbdkit_backend *nxdata,
                         const char *key, const char *value);
extern int config_complete (nbdkit_next_config_complete *next,
                            nbdkit_backend *nxdata);
extern void config_unload (void);
extern const char config_help[];

/* ---- report.c --------------------------------------------------------- */

/* Log the error, with the name of the image if there is one, and return the
 * errno value to give to nbdkit, never 0.
 */
extern int report (const char *name, const struct qcow2_error *error);

/* ---- nbdkit_io.c ------------------------------------------------------ */

struct lanes;

/* The layer below, through one nbdkit context: a connection's, or a lane's.
 * What is known about it is asked once, since later calls through 'next'
 * require that it has been asked.
 */
struct below {
  nbdkit_next *next;
  struct qcow2_io io;           /* what the engine gets; opaque is us */
  struct qcow2_io_ops ops;
  int can_cache;

  /* Background work that still uses this context. */
  pthread_mutex_t lock;         /* guards the rest */
  pthread_cond_t returned;
  unsigned borrowed;
  _Atomic bool closing;         /* read without the lock, too */
  struct lanes *lanes;          /* constant; NULL: this context is lent */
};

/* Names of enum qcow2_io_class, for the log. */
extern const char *const io_class_names[QCOW2_IO_NR_CLASSES];

/* To be called from .prepare, or on a manual context that is prepared.
 * Returns -1 and logs on error.
 */
extern int below_prepare (struct below *below, nbdkit_next *next);

/* From now on the context is not lent; background work uses the lanes. */
extern void below_use_lanes (struct below *below, struct lanes *lanes);

/* Wait until nothing uses the context any more. */
extern void below_drain (struct below *below);

/* ---- lanes.c ---------------------------------------------------------- */

/* A few contexts of its own that an image uses for background work where
 * one context may only be used by one request at a time.
 */
extern struct lanes *lanes_new (const char *exportname, uint64_t size);
/* All borrowed ones must have been given back. */
extern void lanes_free (struct lanes *lanes);
/* Nobody uses the image for now: close what is open.  NULL is allowed. */
extern void lanes_idle (struct lanes *lanes);
/* See struct qcow2_io_ops; block sizes are taken from 'like'. */
extern int lanes_borrow (struct lanes *lanes, const struct qcow2_io *like,
                         struct qcow2_io *ret_io);

/* Whether the server and the plugin allow lanes. */
extern bool lanes_possible (void);
/* The layer below us, for opening contexts. */
extern void lanes_set_backend (nbdkit_backend *backend);

/* ---- state.c ---------------------------------------------------------- */

/* Which local file an image is, as far as that can be told. */
struct file_id {
  bool known;
  bool changing;                /* it was replaced while it was opened */
  bool perishable;              /* may change without a trace */
  dev_t dev;
  ino_t ino;
  off_t size;
  struct timespec mtime, ctime;
};

/* Identity of the local file behind an export name now; not known if there
 * is none.
 */
extern void file_id_get (struct file_id *id, const char *exportname);
extern bool file_id_equal (const struct file_id *a, const struct file_id *b);

struct state;

/* The image behind an export, opening it if nobody has it open.  'id' is
 * the file the connection is known to have opened.  Returns NULL and logs
 * on error.  Every state acquired must be released.
 */
extern struct state *state_acquire (const char *exportname,
                                    const struct file_id *id,
                                    const struct qcow2_io *io);
/* Where background work of this image may be done, or NULL. */
extern struct lanes *state_lanes (struct state *state);
extern void state_release (struct state *state);
extern struct qcow2_image *state_image (struct state *state);
/* For messages; may be empty. */
extern const char *state_name (const struct state *state);
/* Free what was kept for later connections. */
extern void state_cleanup (void);

#endif /* FILTER_H */
