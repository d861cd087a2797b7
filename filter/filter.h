/* SPDX-License-Identifier: BSD-3-Clause */
/* filter.h - what the files of the filter share.
 *
 * config.c     the parameters of the command line
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

/* Constant after config_complete. */
struct config {
  uint64_t cache_size;          /* 0: the engine's default */
  enum export_names names;
  char *file;                   /* absolute, or NULL: a local file below */
  char *dir;                    /* absolute, or NULL */
  char *label;                  /* what to call the image, or NULL */
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

/* What is known about the layer below a connection, asked once: later
 * calls through 'next' require that it has been asked.
 */
struct below {
  uint64_t size;
  uint32_t min_block, max_block;
  bool can_extents;
  int can_cache;
};

/* To be called from .prepare. Returns -1 and logs on error. */
extern int below_prepare (struct below *below, nbdkit_next *next);

/* The engine's way to the layer below during one call. */
extern struct qcow2_io below_io (const struct below *below,
                                 nbdkit_next *next);

/* ---- state.c ---------------------------------------------------------- */

/* Which local file an image is, as far as that can be told. */
struct file_id {
  bool known;
  bool changing;                /* it was replaced while it was opened */
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
extern void state_release (struct state *state);
extern struct qcow2_image *state_image (struct state *state);
/* For messages; may be empty. */
extern const char *state_name (const struct state *state);
/* Free what was kept for later connections. */
extern void state_unload (void);

#endif /* FILTER_H */
