/* SPDX-License-Identifier: BSD-3-Clause */
/* filter.h - what the files of the filter share.
 *
 * From the bottom up:
 * exports.h    the names of exports
 * config.c     the parameters of the command line
 * keys.c       their names
 * lines.c      every line that is logged
 * report.c     errors of the engine to nbdkit
 * logs.c       what images that are open have to say
 * stack.c      which filters are above and below, and which plugin
 * next.c       calls to the layer below, checked
 * shared.c     contexts that belong to no connection
 * apart.c      work on a thread that belongs to none either
 * durable.c    a flush that has failed is not forgotten
 * nbdkit_io.c  the layer below through a connection's context
 * lanes.c      contexts for background work
 * members.c    connections that lend theirs to it
 * fileid.c     which local file an image is
 * claims.c     which files this process reads, and which it writes
 * locks.c      locks that QEMU understands
 * grow.c       making a local file larger
 * writer.c     the one way to a file that is written to
 * ticker.c     the thread that writes out what is idle
 * views.c      what an image has inside, opened as images
 * disk.c       one open image with all that belongs to it
 * ending.c     what is written when it ends
 * state.c      which connections share one
 * access.c     how a connection gets at an image
 * peek.c       an image that somebody only looks into
 * list.c       the list of exports
 * check.c      a look at the image when the server starts
 * requests.c   what clients ask of an export
 * filter.c     the other callbacks; everything above is put together there
 *
 * What is about the other files of an image is in layers.h.
 */
#ifndef FILTER_H
#define FILTER_H

/* Before the header, so that the compiler checks nbdkit_error's formats
 * although they may use %m.
 */
#define HAVE_VFPRINTF_PERCENT_M 1
#include <nbdkit-filter.h>

#include "exports.h"
#include "qcow2.h"

#include <pthread.h>
#include <sys/types.h>
#include <time.h>

#define NBDKIT_AT_LEAST(major, minor)                                         \
  (NBDKIT_VERSION_MAJOR > (major) ||                                          \
   (NBDKIT_VERSION_MAJOR == (major) && NBDKIT_VERSION_MINOR >= (minor)))

/* ---- config.c --------------------------------------------------------- */

/* Constant after get_ready. */
struct config {
  uint64_t cache_size;          /* 0: the engine's default */
  uint64_t cluster_cache_size;
  uint64_t memory;              /* of all images together */
  struct qcow2_budget *budget;  /* with that bound; not NULL */
  uint64_t readahead;
  enum qcow2_discard discard;
  enum qcow2_overlap_check overlap_check;
  bool grow;                    /* local files, when they are full */
  bool lock;                    /* local files */
  bool check_at_start;
  bool allow_retry;             /* writing over a filter that reopens */
  const char *reopens;          /* that filter, or NULL */
  int thread_model;             /* of the whole server */
  enum export_names names;
  char *file;                   /* absolute, or NULL: a local file below */
  char *dir;                    /* absolute, or NULL */
  char *folder;                 /* absolute, or NULL: that images are in */
  char *label;                  /* what to call the image, or NULL */
  bool descriptor;              /* the plugin has a file of ours open */
};
extern struct config config;

extern int config_parse (nbdkit_next_config *next, nbdkit_backend *nxdata,
                         const char *key, const char *value);
extern int config_complete (nbdkit_next_config_complete *next,
                            nbdkit_backend *nxdata);
/* What only the stack tells, once it has been scanned. */
extern void config_note_stack (void);
extern void config_unload (void);
extern const char config_help[];

/* ---- keys.c ----------------------------------------------------------- */

/* Returns -1 and logs if a parameter is misspelt, or given once too often. */
extern int key_check (const char *key);

/* ---- lines.c ---------------------------------------------------------- */

/* As nbdkit's own, which nobody else calls, but that whatever is in the text
 * it stays one line, and that errors of one format are limited.  They do not
 * change errno.
 */
extern void log_error (const char *format, ...)
  __attribute__ ((__format__ (__printf__, 1, 2)));
extern void log_debug (const char *format, ...)
  __attribute__ ((__format__ (__printf__, 1, 2)));
#define nbdkit_error log_error
#define nbdkit_debug log_debug

/* With the name of an image, unless that is empty.  Lines of one name, format
 * and number are limited.  There is no nbdkit function for warnings; an error
 * only logs.
 */
extern void log_warning (unsigned number, const char *name,
                         const char *format, ...)
  __attribute__ ((__format__ (__printf__, 3, 4)));
#define warning(name, ...) log_warning (0, (name), __VA_ARGS__)

/* What this thread warns of from now on is of no interest to most people. */
extern void report_quietly (bool quietly);
extern bool report_is_quiet (void);

/* Say how many lines have been left out; 'all': also of the last minute. */
extern void log_summaries (bool all);

/* ---- report.c --------------------------------------------------------- */

/* Log the error, with the name of the image if there is one, and return the
 * errno value to give to nbdkit, never 0.
 */
extern int report (const char *name, const struct qcow2_error *error);

/* What to do about an error of the engine: the end of a sentence, after a
 * semicolon, or "".
 */
extern const char *advice_words (enum qcow2_advice advice);

/* True if 'cond' is.  Else that is a bug of ours, which is logged; the caller
 * goes on in whatever way does no harm, for the sake of all other clients.
 * Where the engine aborts on bugs, so does this; see core/base/assume.h.
 */
#define holds(cond)                                                           \
  (__builtin_expect (!!(cond), 1) ? true :                                    \
   bug_found (#cond, __FILE__, __LINE__))
extern bool bug_found (const char *what, const char *file, int line)
  __attribute__ ((__cold__));

/* ---- logs.c ----------------------------------------------------------- */

/* For qcow2_options; opaque is the name. */
extern void log_from_engine (void *opaque, enum qcow2_log_level level,
                             const char *text, enum qcow2_advice advice);
/* -D qcow2.stats=1, and what comes of it. */
extern bool log_counts (void);
extern void log_stats (const char *name, const struct qcow2_image *image,
                       bool writing);
/* A warning that is worth saying only once in a row, however often clients
 * cause it.
 */
extern void log_once (const char *name, const char *text);
/* Why clients cannot write to an image. */
extern void log_read_only (const char *name, const char *why);

/* Whether nbdkit is ending, or the client of the calling thread's connection,
 * if it has one, has gone; for qcow2_budget_new.
 */
extern bool nobody_waits (void *ignored);
/* Then this thread does not wait for long work any longer; 0: it does. */
extern void wait_at_most (unsigned seconds);
/* Whether it came to that. */
extern bool waited_in_vain (void);

/* ---- stack.c ---------------------------------------------------------- */

/* To be called once, in .get_ready. */
extern void stack_scan (void);
extern void stack_unload (void);
/* It is certain that a filter of that name is below us. */
extern bool stack_has_filter (const char *name);
extern bool stack_has_filter_above (const char *name);
/* It is certain that nothing is between us and the plugin of that name. */
extern bool stack_is_plugin_alone (const char *name);

/* ---- next.c ----------------------------------------------------------- */

/* What the layer below can do.  It is asked once, since calls through
 * 'next' require that it has been asked.
 */
struct abilities {
  uint64_t size;
  uint32_t min_block, max_block;        /* as in struct qcow2_io */
  int cache;                            /* NBDKIT_CACHE_* */
  bool extents;
  bool write, flush, zero, trim;        /* false: not asked, perhaps */
  bool multi_conn;
  bool rotational;
};

/* Returns -1 and logs on error. */
extern int next_ask (nbdkit_next *next, bool writing,
                     struct abilities *abilities);

/* Whether clients can be allowed to write to what can do that. */
extern bool next_is_writable (const struct abilities *abilities);

/* As in struct qcow2_io_ops. */
extern int next_pread (nbdkit_next *next, void *buf, uint32_t count,
                       uint64_t host_off, enum qcow2_io_class io_class);
extern int next_extents (nbdkit_next *next, uint32_t count,
                         uint64_t host_off, qcow2_host_extent_fn fn,
                         void *fn_opaque);
extern int next_cache (nbdkit_next *next, uint32_t count, uint64_t host_off);
extern int next_pwrite (nbdkit_next *next, const void *buf, uint32_t count,
                        uint64_t host_off, enum qcow2_io_class io_class);
extern int next_flush (nbdkit_next *next);
extern int next_zero (nbdkit_next *next, uint32_t count, uint64_t host_off,
                      bool may_punch, enum qcow2_io_class io_class);
extern int next_trim (nbdkit_next *next, uint32_t count, uint64_t host_off);

/* Names of enum qcow2_io_class, for the log. */
extern const char *const io_class_names[QCOW2_IO_NR_CLASSES];

/* ---- shared.c --------------------------------------------------------- */

/* The layer below us, for opening contexts. */
extern void shared_set_backend (nbdkit_backend *backend);

/* A context that any thread may use, prepared; NULL and logs on error. */
extern nbdkit_next *shared_open (const char *exportname, bool readonly);
extern void shared_close (nbdkit_next *next);

/* ---- apart.c ---------------------------------------------------------- */

/* Call the function on a thread that belongs to no connection, and wait. */
extern void run_apart (void (*fn) (void *opaque), void *opaque);

/* ---- durable.c -------------------------------------------------------- */

/* Of one file that is written to. */
struct durable {
  pthread_mutex_t lock;
  const char *name;             /* for messages; constant */
  struct qcow2_image *_Atomic image;    /* that is told, or NULL */
  _Atomic bool lost;            /* once */
};

/* The name must stay. */
extern void durable_init (struct durable *d, const char *name);
extern void durable_destroy (struct durable *d);
/* Whether what was written may be lost: then nothing must be written. */
extern bool durable_is_lost (const struct durable *d);
/* It may; logs, once. */
extern void durable_lose (struct durable *d, const char *why);
/* Every flush of the file; 'flush' does it.  Returns 0 or an errno value. */
extern int durable_flush (struct durable *d, int (*flush) (void *opaque),
                          void *opaque);
/* To be called before the file, a descriptor of it or -1, is closed: if a
 * flush has failed, what is read from it next is what is on the disk.
 */
extern void durable_forget (const struct durable *d, int fd);

/* ---- nbdkit_io.c ------------------------------------------------------ */

struct lanes;

/* The layer below, through one nbdkit context: a connection's, or a
 * lane's.
 */
struct below {
  nbdkit_next *next;
  struct qcow2_io io;           /* what the engine gets; opaque is us */
  struct qcow2_io_ops ops;
  struct abilities can;

  /* Background work that still uses this context. */
  pthread_mutex_t lock;         /* guards the rest */
  pthread_cond_t returned;
  unsigned borrowed;
  _Atomic bool closing;         /* read without the lock, too */
  struct lanes *lanes;          /* constant; NULL: this context is lent */

  struct below *next_member;    /* members.c */
  bool settled;                 /* members.c */
  struct durable *durable;      /* the image's, of a member; or NULL */
  bool one_at_a_time;           /* a member, below the parallel model */
  pthread_mutex_t serial;
  _Atomic bool unflushed;       /* something was written since the last flush
                                   through this context began */
};

/* To be called from .prepare, or on a manual context that is prepared.
 * Returns -1 and logs on error.
 */
extern int below_prepare (struct below *below, nbdkit_next *next,
                          bool writing);

/* From now on the context is not lent; background work uses the lanes. */
extern void below_use_lanes (struct below *below, struct lanes *lanes);

/* Wait until nothing but the calling thread uses the context any more. */
extern void below_drain (struct below *below);

/* From now on the context belongs to a member.  No request may be under
 * way.
 */
extern void below_become_member (struct below *below,
                                 struct durable *durable);
/* Lend the context of a member, below any thread model; false if it is about
 * to go.  below_take_back ends it.
 */
extern bool below_lend (struct below *below);
extern void below_take_back (struct below *below);

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

/* ---- members.c -------------------------------------------------------- */

struct members {
  pthread_mutex_t flush_lock;
  pthread_mutex_t lock;
  struct below *first;
};

extern void members_init (struct members *m);
extern void members_destroy (struct members *m);
extern void members_add (struct members *m, struct below *below);
extern bool members_has (struct members *m, const struct below *below);
/* Does nothing if it is not there. */
extern void members_remove (struct members *m, struct below *below);
/* Flush each context through which something was written. */
extern void members_flush (struct members *m);
/* As in struct qcow2_io_ops; opaque is the struct members. */
extern int members_borrow (void *opaque, struct qcow2_io *ret_io);

/* ---- fileid.c --------------------------------------------------------- */

/* Which local file an image is, as far as that can be told. */
struct file_id {
  bool known;                   /* a regular file */
  bool device;                  /* a block device; dev is its number */
  bool changing;                /* it changed while it was being opened */
  bool replaced;                /* it became another file meanwhile */
  bool perishable;              /* may change without a trace */
  int errnum;                   /* it cannot be looked at, for this reason */
  dev_t dev;
  ino_t ino;
  off_t size;
  struct timespec mtime, ctime;
};

/* Identity of the local file behind an export name now; not known if there
 * is none.
 */
extern void file_id_get (struct file_id *id, const char *exportname);
/* The same, and unchanged. */
extern bool file_id_equal (const struct file_id *a, const struct file_id *b);
/* The same, whatever it holds now. */
extern bool file_id_same_file (const struct file_id *a,
                               const struct file_id *b);
/* An open file descriptor of it.  -1 if there is no such file, with errno
 * ENOENT, or if 'id' is not what it is now, ESTALE, or on error.
 */
extern int file_id_open (const struct file_id *id, const char *exportname,
                         int flags);

/* ---- claims.c --------------------------------------------------------- */

/* Which file something is, wherever that can be told. */
struct identity {
  enum { ID_UNKNOWN, ID_FILE, ID_DEVICE, ID_URI, ID_EXPORT } kind;
  dev_t dev;
  ino_t ino;
  const char *text;             /* whoever made it owns it */
};
extern bool identity_equal (const struct identity *a,
                            const struct identity *b);
/* What is below us under an export name. */
extern struct identity identity_of_export (const struct file_id *id,
                                           const char *exportname);

/* Somebody in this process uses a file.  All can read it, or one can write
 * to it.  All zeros: nobody does.
 */
struct claim {
  struct claim *next;
  struct identity id;
  bool writing;
};
/* Returns false if somebody else's claim is in the way. */
extern bool claim_take (struct claim *claim, const struct identity *id,
                        bool writing);
/* From reading to writing. */
extern bool claim_upgrade (struct claim *claim);
/* Nothing to do if it was not taken. */
extern void claim_release (struct claim *claim);

/* 1 if the file begins as images do, 0 if not, -1 if it cannot be read. */
extern int file_is_image (int fd);

/* ---- locks.c ---------------------------------------------------------- */

/* QEMU's locks on the file: for reading, or for writing on top of that.
 * Return -1 and log if another process is in the way, with errno EBUSY, or
 * if they cannot be had.  They are gone when the descriptor is closed.
 */
extern int lock_for_reading (int fd, const char *name);
extern int lock_for_writing (int fd, const char *name);
/* Whether another process keeps readers out now.  Takes no lock. */
extern bool lock_is_taken (int fd);

/* ---- reserve.c --------------------------------------------------------- */

/* Blocks set aside for commits, where every write needs new ones. */
struct reserve {
  int fd;
  _Atomic int state;
  pthread_mutex_t lock;
};
extern void reserve_init (struct reserve *r, int fd);
extern void reserve_destroy (struct reserve *r);

/* Before guest data is written: there is a reserve, if one is needed; else
 * an errno value.
 */
extern int reserve_hold (struct reserve *r);

/* Give it back to the file system; false if there was none. */
extern bool reserve_spend (struct reserve *r);

/* ---- grow.c ----------------------------------------------------------- */

struct growth;

/* 'fd' is open for reading and writing, and stays the caller's.  NULL if
 * there is no memory.
 */
extern struct growth *growth_new (int fd, const struct file_id *id,
                                  const char *exportname, const char *name,
                                  uint64_t size);
extern void growth_free (struct growth *g);
/* Make the file at least min_size bytes long, having made sure that it is
 * what 'io' writes to.  Returns 0 or an errno value.
 */
extern int growth_extend (struct growth *g, const struct qcow2_io *io,
                          uint64_t min_size, uint64_t *ret_size);
/* The last extension is of no use; never extend it again. */
extern void growth_undo (struct growth *g, const char *why);
extern int growth_cut (struct growth *g, uint64_t size);
/* Somebody is going to write up to 'end', which is inside of the file.  Any
 * number of threads may call this.
 */
extern void growth_reserve (struct growth *g, uint64_t end);

/* Where every write needs new blocks: keep some for commits, and give them to
 * one (see reserve.c).  Only once the file is proven to be what is written to.
 */
extern int growth_hold (struct growth *g);
extern bool growth_spend (struct growth *g);
/* ftruncate, without signals.  Returns 0 or an errno value. */
extern int set_file_size (int fd, uint64_t size);

/* ---- writer.c --------------------------------------------------------- */

struct writer;

/* Whether an image can be reached by one shared way. */
extern bool writer_possible (void);
/* Returns NULL and logs on error.  The growth becomes the writer's. */
extern struct writer *writer_new (const char *exportname, const char *name);
extern void writer_free (struct writer *w);
extern void writer_use_growth (struct writer *w, struct growth *growth);
extern const struct qcow2_io *writer_io (const struct writer *w);
extern const struct abilities *writer_abilities (const struct writer *w);
extern struct durable *writer_durable (struct writer *w);

/* ---- ticker.c --------------------------------------------------------- */

struct ticker;

/* Writes out what is pending when the image is idle, through what is
 * borrowed for that.  NULL if there are no threads to be had.
 */
extern struct ticker *
ticker_start (struct qcow2_image *image,
              int (*borrow) (void *opaque, struct qcow2_io *ret_io),
              void *opaque, const char *name);
extern void ticker_stop (struct ticker *ticker);
/* To be called after each change where there is no ticker. */
struct disk;
extern void ticker_instead (struct disk *d, const struct qcow2_io *io);

/* ---- views.c ---------------------------------------------------------- */

/* The views of a disk, which is open. */
struct views {
  pthread_mutex_t lock;
  pthread_cond_t changed;       /* one became ready, or is gone */
  struct view *first;
};
struct view;

extern void views_init (struct views *v);
extern void views_destroy (struct views *v);
/* Nobody uses any of them any more. */
extern void views_close (struct views *v);

/* The view that the name means, opening it if nobody has it open.  'io' is
 * the connection's way to the file.  Returns NULL and logs on error.  Must be
 * released before the disk's state is.
 */
extern struct view *view_acquire (struct disk *d, const struct qcow2_io *io,
                                  const struct export_name *name);
extern void view_release (struct disk *d, struct view *view);
extern struct qcow2_image *view_image (const struct view *view);
/* For people; empty if that is not to be had. */
extern void view_describe (const struct view *view, struct disk *d,
                           const struct qcow2_io *io,
                           char ret[EXPORT_DESCRIPTION_SIZE]);
/* What to call it in messages. */
extern const char *view_label (const struct view *view);

/* ---- disk.c ----------------------------------------------------------- */

/* What the references of an image led to; see layers.h. */
struct layer;
struct layers {
  struct layer *backing;        /* or NULL */
  struct layer *data_file;      /* or NULL */
};

/* An open image. */
struct disk {
  char *exportname;             /* as it was when the image was opened */
  char *name;                   /* for messages */
  struct file_id id;
  uint64_t size;                /* of the file, when it was opened */
  int fd;                       /* the local file, or -1; holds our locks */
  struct claim claim;
  struct layers layers;
  struct qcow2_image *image;
  struct lanes *lanes;          /* or NULL */
  struct writer *writer;        /* or NULL: connections use their own way */
  struct members members;       /* if there is no writer */
  struct durable durable;       /* of these */
  struct ticker *ticker;        /* or NULL */
  _Atomic uint64_t last_tick_ms; /* ticker.c; 0: never */
  struct views views;
  bool writable;
  bool unlocked;                /* asleep: nothing is claimed */
  bool had_fd;                  /* and locked before */
  const char *why_read_only;    /* or NULL; constant once it is open */
  _Atomic bool said_read_only;
  _Atomic bool explained;       /* why there is no space */
};

/* What all images are opened with; the name must stay. */
extern struct qcow2_options disk_options (const char *name);
/* Open the image.  With 'own' it is reached by a connection's way; without,
 * by a shared one, which is kept if the image can be written to, and which
 * must be possible.  Returns NULL and logs on error.
 */
extern struct disk *disk_open (const char *exportname,
                               const struct file_id *id,
                               const struct below *own, bool readonly);
/* ending.c: write out everything; the last use before disk_close.  'own' may
 * be NULL if the connection's way is gone.
 */
extern void disk_end (struct disk *d, const struct qcow2_io *own);
extern void disk_close (struct disk *d);
/* To be called for each connection that would like to write: log why it
 * cannot, once for each time that the image is opened.
 */
extern void disk_say_read_only (struct disk *d);
/* A connection comes, and goes, which may be used for writing.  'io' is NULL
 * if nothing can be written through its context any more.
 */
extern void disk_join (struct disk *d, struct below *own);
extern void disk_leave (struct disk *d, struct below *own,
                        const struct qcow2_io *io);
/* ending.c: a connection goes that others may have written after; see
 * disk.c.
 */
extern void disk_flush (struct disk *d, const struct qcow2_io *own);
/* What it has written and not flushed cannot be flushed any more. */
extern void disk_abandon (struct disk *d, const struct below *own);
/* Nobody uses the image for now.  It may be in use all the same. */
extern void disk_idle (struct disk *d);
/* Nobody uses the image any more, until it is locked again.  Only for disks
 * that are not writable.
 */
enum disk_relocked {
  DISK_UNCHANGED,
  DISK_CHANGED,                 /* of no use any more */
  DISK_IN_USE,                  /* by another process; logs */
};
extern void disk_unlock (struct disk *d);
extern enum disk_relocked disk_relock (struct disk *d);
/* The way to the file for a request of a connection, and what is known
 * about it.
 */
extern const struct qcow2_io *disk_io (const struct disk *d,
                                       const struct below *own);
extern const struct abilities *disk_abilities (const struct disk *d,
                                               const struct below *own);
/* Through which what is written to the image's file is flushed. */
extern struct durable *disk_durable (struct disk *d);
/* Log the error of a request; returns the errno value. */
extern int disk_report (struct disk *d, const struct qcow2_error *error);

/* ---- scans.c ---------------------------------------------------------- */

/* What the last scan of this very file has found, which took long and is not
 * long ago.
 */
extern bool scans_find (const char *exportname, const struct file_id *id,
                        struct qcow2_scan *ret_scan);
/* Remember it, if it took long.  'id' is from before the scan. */
extern void scans_note (const char *exportname, const struct file_id *id,
                        const struct qcow2_scan *scan);
extern void scans_unload (void);

/* ---- state.c ---------------------------------------------------------- */

struct state;

/* The image behind an export, opening it if nobody has it open.  'id' is
 * the file the connection is known to have opened, and 'own' its way to it;
 * or it has none yet: see disk_open.  Returns NULL and logs on error.  Every
 * state acquired must be released.
 */
extern struct state *state_acquire (const char *exportname,
                                    const struct file_id *id,
                                    const struct below *own, bool readonly);
/* Whether a state that was acquired without 'own' is what 'own' reaches. */
extern bool state_fits (const struct state *state, const struct file_id *id,
                        const struct below *own);
/* 'own' as above, or NULL if it cannot be used any more. */
extern void state_release (struct state *state, const struct qcow2_io *own);
extern struct disk *state_disk (struct state *state);
/* Write out and free what is left. */
extern void state_cleanup (void);

/* ---- access.c --------------------------------------------------------- */

/* An image, and the way to its file, of a connection or of who only looks. */
struct access {
  char *exportname;             /* of the image */
  struct file_id id;            /* of the file, before it was opened */
  struct below below;
  bool readonly;                /* whatever the image allows */
  struct state *state;          /* NULL before access_prepare, which see, and
                                   after access_end */
  struct disk *disk;            /* the state's */
  const struct qcow2_io *io;    /* the way to the file */
};

/* A context of the layer below, for access_prepare. */
enum access_needs {
  ACCESS_FAILED,                /* has been logged */
  ACCESS_NEEDS_NOTHING,
  ACCESS_NEEDS_READER,
  ACCESS_NEEDS_WRITER,
};

/* 'exportname' has 'len' bytes.  Returns -1 and logs on error. */
extern int access_init (struct access *a, const char *exportname, size_t len,
                        bool readonly);
extern enum access_needs access_open (struct access *a);
/* 'next' is what was needed, or NULL.  Returns -1 and logs on error. */
extern int access_prepare (struct access *a, nbdkit_next *next);
/* Make durable what was written through the context, unless 'own' is NULL, and
 * wait for background work that uses it.
 */
extern void access_drain (struct access *a, const struct qcow2_io *own);
/* 'own' is &a->below.io, or NULL if the context cannot be used any more. */
extern void access_end (struct access *a, const struct qcow2_io *own);
/* At any time after access_init. */
extern void access_destroy (struct access *a);

/* ---- peek.c ----------------------------------------------------------- */

/* An image that somebody looks into, without a connection to it. */
struct other;
struct peek {
  struct access access;
  nbdkit_next *next;            /* a context of our own, or NULL */
  struct other *file;           /* the file itself, or NULL; see layers.h */
  char *path;                   /* of that file */
  const char *name;             /* for messages */
  struct qcow2_image *inspected; /* ours, or NULL */
  struct qcow2_image *image;    /* only for what options.inspect allows */
  bool no_image;                /* after a failure: it is something else */
  const struct qcow2_io *io;
};

/* Returns -1 if the image cannot be opened. */
extern int peek_open (struct peek *p, const char *exportname, bool readonly);
/* The same for an export of a plugin that ignores names, for its header
 * alone: no other file is opened.  Logs on error.
 */
extern int peek_header (struct peek *p, const char *exportname);
extern void peek_close (struct peek *p);

/* ---- list.c ----------------------------------------------------------- */

extern int list_exports (nbdkit_next_list_exports *next,
                         nbdkit_backend *nxdata, int readonly, int is_tls,
                         struct nbdkit_exports *exports);

/* ---- check.c ---------------------------------------------------------- */

/* In .get_ready: returns -1 and logs if the image is a local file that no
 * client could be served.
 */
extern int check_file (void);
/* In .after_fork: logs why clients would be refused, if they would. */
extern void check_image (void);

/* ---- requests.c ------------------------------------------------------- */

/* One per connection. */
struct handle {
  struct access access;
  char *name;                   /* of the export */
  struct export_name parsed;    /* points into it */
  struct view *view;            /* or NULL: the active disk */
  struct qcow2_image *image;    /* the disk's, or the view's */
  char description[EXPORT_DESCRIPTION_SIZE];
};

/* nbdkit's callbacks. */
extern int request_pread (nbdkit_next *next, void *handle, void *buf,
                          uint32_t count, uint64_t offset, uint32_t flags,
                          int *err);
extern int request_extents (nbdkit_next *next, void *handle, uint32_t count,
                            uint64_t offset, uint32_t flags,
                            struct nbdkit_extents *extents, int *err);
extern int request_cache (nbdkit_next *next, void *handle, uint32_t count,
                          uint64_t offset, uint32_t flags, int *err);
extern int request_pwrite (nbdkit_next *next, void *handle, const void *buf,
                           uint32_t count, uint64_t offset, uint32_t flags,
                           int *err);
extern int request_zero (nbdkit_next *next, void *handle, uint32_t count,
                         uint64_t offset, uint32_t flags, int *err);
extern int request_trim (nbdkit_next *next, void *handle, uint32_t count,
                         uint64_t offset, uint32_t flags, int *err);
extern int request_flush (nbdkit_next *next, void *handle, uint32_t flags,
                          int *err);

#endif /* FILTER_H */
