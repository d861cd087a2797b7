/* SPDX-License-Identifier: BSD-3-Clause */
/* qcow2.h - the one public header of the qcow2 engine.
 *
 * The engine turns host I/O (a small table of synchronous functions over
 * the bytes of an image file) into the virtual disk inside that image.  It
 * knows nothing of nbdkit, opens no file, starts no process and prints
 * nothing: the caller supplies the I/O, and gets errors as values.
 *
 * Threads: any number of threads may call the request functions
 * (qcow2_pread to qcow2_idle_commit below, qcow2_get_info) on one image at
 * once, each with a struct qcow2_io of its own or a shared one.
 * qcow2_open, qcow2_end and qcow2_close need the image to themselves.
 *
 * Offsets: "host" offsets count bytes in the image file, "guest" offsets
 * count bytes of the virtual disk.
 */
#ifndef QCOW2_H
#define QCOW2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Errors ---------------------------------------------------------- */

enum qcow2_error_kind {
  QCOW2_ERR_IO,          /* the host I/O failed; errnum is its errno */
  QCOW2_ERR_NOMEM,       /* out of memory */
  QCOW2_ERR_FORMAT,      /* these bytes are not a qcow2 or qcow image */
  QCOW2_ERR_UNSUPPORTED, /* a valid image that needs what we do not do */
  QCOW2_ERR_CORRUPT,     /* the image breaks a rule of the format */
  QCOW2_ERR_RANGE,       /* the caller asked for bytes outside the disk */
  QCOW2_ERR_NO_SPACE,    /* the file has no room left and cannot grow */
  QCOW2_ERR_READ_ONLY,   /* the image cannot be written to */
  QCOW2_ERR_NOT_FAST,    /* QCOW2_ZERO_FAST: it would have to be written */
  QCOW2_ERR_AUTH,        /* encrypted, and the passphrase is missing or
                            wrong */
  QCOW2_ERR_REFUSED,     /* the caller does not let another file be opened */
  QCOW2_ERR_NOT_FOUND,   /* there is no such snapshot or bitmap */
  QCOW2_ERR_TRUNCATED,   /* what is to be changed lies behind the end of the
                            file: a part of it is missing */
  QCOW2_ERR_BUG,         /* what must be true is not: no fault of the image's;
                            it takes no more changes until it has been closed
                            and opened again */
  QCOW2_ERR_ABANDONED,   /* nobody waited for it any more */
  QCOW2_ERR_CANCELLED,   /* the caller's progress function ended it */
  QCOW2_ERR_INVALID,     /* what is asked for contradicts itself, or the
                            format has no such thing */
};

/* Filled in by every function that fails, untouched by those that succeed.
 * 'errnum' is never 0.  'offset' is the host offset the failure is about,
 * or QCOW2_NO_OFFSET.  'text' is one line without newline; control
 * characters from the image are escaped.
 */
#define QCOW2_NO_OFFSET UINT64_MAX
struct qcow2_error {
  enum qcow2_error_kind kind;
  int errnum;
  uint64_t offset;
  char text[512];
};

/* ---- Host I/O -------------------------------------------------------- */

/* What a host request is for: lets callers count, and tests choose. */
enum qcow2_io_class {
  QCOW2_IO_HEADER,
  QCOW2_IO_L1,
  QCOW2_IO_L2,
  QCOW2_IO_REFCOUNT,
  QCOW2_IO_DATA,
  QCOW2_IO_COMPRESSED,
};
#define QCOW2_IO_NR_CLASSES 6

/* Receives one extent of the host file; ranges arrive in ascending order
 * without gaps.  'hole' means it reads as zeros.  Returns 0, or nonzero to
 * stop the enumeration early (which is not an error).
 */
typedef int (*qcow2_host_extent_fn) (void *fn_opaque, uint64_t host_off,
                                     uint64_t len, bool hole);

struct qcow2_io;

struct qcow2_io_ops {
  /* Read exactly [host_off, host_off+count) into buf.  The engine only
   * calls this with 0 < count <= max_block, inside [0, size), and, where
   * min_block > 1, with host_off and count multiples of it (see
   * qcow2_io.min_block about the end of the file).
   * Returns 0, or an errno value (> 0).
   */
  int (*pread) (void *opaque, void *buf, uint32_t count, uint64_t host_off,
                enum qcow2_io_class io_class);

  /* Optional (NULL): report which parts of the range are holes.  Same
   * constraints on the range, but count may be up to 1 GiB.
   */
  int (*extents) (void *opaque, uint32_t count, uint64_t host_off,
                  qcow2_host_extent_fn fn, void *fn_opaque);

  /* Optional (NULL): hint that the range will be read soon. */
  int (*cache) (void *opaque, uint32_t count, uint64_t host_off);

  /* Optional (NULL, both or none): a way to the same bytes for background
   * work, which may outlive the call that 'opaque' was passed to and is
   * used by one thread at a time.  borrow fills in *ret_io and returns 0,
   * or an errno value if there is none to spare.  Whoever ends a way to the
   * file waits until everything borrowed through it has been given back.
   */
  int (*borrow) (void *opaque, struct qcow2_io *ret_io);
  void (*give_back) (struct qcow2_io *io);

  /* Optional, pwrite and flush both or none: without them the image is
   * read-only.  The constraints on ranges are those of pread.  All return 0
   * or an errno value (> 0); a request that failed may have been done in
   * part.  What is optional and fails is done without: EINVAL means that it
   * may do with a range that is aligned better, ENOTSUP (EOPNOTSUPP, ENOSYS,
   * ENOTTY, ENODEV) that it never will, and all else that it may do the next
   * time.  flush makes everything durable that was acknowledged before it was
   * called, through whichever way to this file.
   */
  int (*pwrite) (void *opaque, const void *buf, uint32_t count,
                 uint64_t host_off, enum qcow2_io_class io_class);
  int (*flush) (void *opaque);

  /* Optional (NULL): make the range read as zeros, faster than by writing
   * them; may_punch: it need not stay allocated.
   */
  int (*zero) (void *opaque, uint32_t count, uint64_t host_off,
               bool may_punch, enum qcow2_io_class io_class);

  /* Optional (NULL): the same, but fail with ENOTSUP where that would take as
   * long as writing them.
   */
  int (*fast_zero) (void *opaque, uint32_t count, uint64_t host_off,
                    bool may_punch, enum qcow2_io_class io_class);

  /* Optional (NULL): nobody needs the bytes of the range any more; what
   * they read as afterwards is undefined.
   */
  int (*trim) (void *opaque, uint32_t count, uint64_t host_off);

  /* Optional (NULL; no cut without grow): make the file at least min_size
   * bytes long; what is added reads as zeros.  On success *ret_size is the new
   * size, and every way to the file that has this function reaches all of
   * it from now on.  Not called by two threads at once.  cut gives back
   * space at the end that grow has added, down to 'size' and no further
   * than the size at the start; only qcow2_end calls it.
   */
  int (*grow) (void *opaque, uint64_t min_size, uint64_t *ret_size);
  int (*cut) (void *opaque, uint64_t size);

  /* Optional (NULL): a commit finds no room.  Give it what has been kept for
   * that, if there is anything.
   */
  int (*spend) (void *opaque);
};

/* One way to reach the bytes of the image; the engine never changes it.
 * It must stay valid only during the call it is passed to.
 */
struct qcow2_io {
  const struct qcow2_io_ops *ops;
  void *opaque;

  /* Bytes that can be read through this way.  If it is smaller than the
   * size the image was opened with, reads between the two fail with EIO:
   * only bytes past the end of the image file itself read as zeros.  Where
   * ops->grow is set this is the size before the file was ever grown.
   */
  uint64_t size;

  /* Smallest unit of a request, a power of two, 1 if there is none.  When
   * 'size' is not a multiple of it, the bytes of the last partial block
   * cannot be reached by any legal request and reading them is an error.
   */
  uint32_t min_block;

  /* Largest request, a multiple of min_block; 0 means 32 MiB, which is also
   * the upper limit.
   */
  uint32_t max_block;

  /* The ops may be called with this 'opaque' by several threads at once. */
  bool concurrent;
};

/* ---- Images ---------------------------------------------------------- */

struct qcow2_image;
struct qcow2_keyring;

/* ---- Budgets ----------------------------------------------------------- */

/* A bound for the memory that all images of a program use together, and a way
 * to find out that work is in vain.  Any number of threads may use it at once.
 */
struct qcow2_budget;

/* Asked now and then, by work that takes long, on the thread that was called
 * to do it: true if nobody waits for that call any more.
 */
typedef bool (*qcow2_abandoned_fn) (void *opaque);

/* At most 'max_bytes'.  'remedy', which must stay, ends the message when that
 * is too little: what to do about it.  'abandoned' may be NULL.  Returns NULL
 * if there is no memory.
 */
extern struct qcow2_budget *qcow2_budget_new (uint64_t max_bytes,
                                              const char *remedy,
                                              qcow2_abandoned_fn abandoned,
                                              void *opaque)
  __attribute__ ((__nonnull__ (2), __warn_unused_result__));

/* All images must have been closed.  NULL is allowed. */
extern void qcow2_budget_free (struct qcow2_budget *budget);

/* For memory that the caller uses on behalf of clients: take it, which fails
 * if there is not so much left, and give it back.
 */
extern bool qcow2_budget_take (struct qcow2_budget *budget, uint64_t bytes)
  __attribute__ ((__warn_unused_result__));
extern void qcow2_budget_give (struct qcow2_budget *budget, uint64_t bytes);

/* Bytes in use now. */
extern uint64_t qcow2_budget_used (const struct qcow2_budget *budget)
  __attribute__ ((__nonnull__));

/* ---- Other files ------------------------------------------------------ */

/* A name in a header that leads to another file.  The engine never opens
 * one: whoever opens the image decides what the name means, and whether that
 * may be opened at all.
 */
enum qcow2_reference_kind { QCOW2_BACKING_FILE, QCOW2_DATA_FILE };

struct qcow2_reference {
  enum qcow2_reference_kind kind;
  const char *name;             /* as it is in the header: any bytes, not
                                   terminated */
  size_t name_len;              /* at most 1023 for a backing file; may be 0
                                   for a data file */
  const char *format;           /* of a backing file, as the header says, not
                                   terminated */
  size_t format_len;            /* 0: the header does not say */
  bool writing;                 /* a data file that is to be written to */
  bool raw;                     /* a data file that must equal the disk */
  bool encrypted;               /* the image that refers to it is */
};

/* What a reference led to.  It stays the caller's, who keeps it until the
 * image that refers to it is closed.
 */
struct qcow2_file {
  struct qcow2_image *image;    /* a backing file: an image opened with
                                   qcow2_open, perhaps a raw one; a data
                                   file: NULL */
  const struct qcow2_io *io;    /* the way to its bytes, which any thread may
                                   use at any time: concurrent is true */
};

/* Returns 0, or -1 with *err filled in: what could not be opened, why, and
 * what to do about it.
 */
typedef int (*qcow2_open_file_fn) (void *opaque,
                                   const struct qcow2_reference *reference,
                                   struct qcow2_file *ret_file,
                                   struct qcow2_error *err);

enum qcow2_log_level { QCOW2_LOG_DEBUG, QCOW2_LOG_WARNING };

/* What happens to the space of clusters that a trim, or a zero request that
 * allows it, lets go.
 */
enum qcow2_discard {
  QCOW2_DISCARD_UNMAP,          /* it becomes free and is trimmed below */
  QCOW2_DISCARD_IGNORE,         /* trims do nothing, zeroing keeps space */
  QCOW2_DISCARD_NO_UNREF,       /* reads as zeros, keeps its space */
};

/* Which metadata a write is checked not to land on. */
enum qcow2_overlap_check {
  QCOW2_OVERLAP_NONE,           /* writes in place are not checked */
  QCOW2_OVERLAP_CONSTANT,       /* for us the same as the next, which costs */
  QCOW2_OVERLAP_CACHED,         /*   no more: all but what ALL adds */
  QCOW2_OVERLAP_ALL,            /* and fails, where that leaves out what is
                                   too much to look for */
};

/* What came of looking at all tables of an image that was not closed, and is
 * to be written to.
 */
struct qcow2_scan {
  uint64_t ns;                  /* how long it took */
  bool failed;                  /* nothing can be written, because of that */
  struct qcow2_error error;
};

struct qcow2_options {
  /* The file is no qcow2 image but the disk itself, as a backing file may
   * be.  Nothing is read to find out.
   */
  bool raw;

  /* Only to see what is inside: nothing is read but the header, nothing is
   * unlocked, and no other file is opened.  Then only qcow2_get_info,
   * qcow2_list_snapshots and qcow2_list_bitmaps can be used.
   */
  bool inspect;

  /* Opens backing files and data files; NULL: images that need one are
   * refused with QCOW2_ERR_REFUSED.  Only called by qcow2_open.
   */
  qcow2_open_file_fn open_file;
  void *open_file_opaque;

  /* For an encrypted image, any bytes; NULL: it is refused with
   * QCOW2_ERR_AUTH.  Not kept.
   */
  const char *passphrase;
  size_t passphrase_len;
  /* Where keys are looked up first, and remembered; NULL: nowhere. */
  struct qcow2_keyring *keyring;

  /* Of all images together, which must outlive the image; NULL: none. */
  struct qcow2_budget *budget;

  /* Upper bound for the memory that the image and its views take for L1
   * tables and caches, in bytes; see docs/ARCHITECTURE.md.  0 = 256 MiB more
   * than four times what the caches of the image itself may take.
   * 'memory_remedy' (NULL: nothing) ends the message when that is too little,
   * and must stay.
   */
  uint64_t memory;
  const char *memory_remedy;

  /* Upper bound for cached mapping tables, in bytes.  0 = 32 MiB. */
  uint64_t cache_size;

  /* Upper bound for decompressed clusters kept for requests smaller than a
   * cluster, in bytes.  0 = none.
   */
  uint64_t cluster_cache_size;

  /* How far to read ahead of sequential readers, and how much may be
   * fetched at once around a compressed cluster, in bytes; only used where
   * the host is slow to answer.  0 = never read what was not asked for.
   */
  uint64_t readahead;

  /* Count requests to the host, for qcow2_get_stats. */
  bool count;

  /* The image is going to be written to, if it and the io that it is opened
   * with allow that; see qcow2_info.writable.
   */
  bool writable;
  enum qcow2_discard discard;
  enum qcow2_overlap_check overlap_check;

  /* What qcow2_get_scan has told of the same image, if it has not changed
   * since, or NULL.  A scan that failed is not repeated: it is as if it had
   * failed again.  One that did not is put off until something is written.
   */
  const struct qcow2_scan *known_scan;

  /* Optional (NULL): receives one line about things worth knowing, from
   * any thread that is inside a call to the engine.
   */
  void (*log) (void *log_opaque, enum qcow2_log_level level,
               const char *text);
  void *log_opaque;
};

enum qcow2_compression { QCOW2_COMPRESSION_ZLIB, QCOW2_COMPRESSION_ZSTD };

enum qcow2_encryption {
  QCOW2_ENCRYPTION_NONE,
  QCOW2_ENCRYPTION_AES,         /* of old; only the passphrase's length
                                   protects it, and a wrong one is noticed
                                   by nobody */
  QCOW2_ENCRYPTION_LUKS,
};

struct qcow2_info {
  unsigned version;              /* 1, 2 or 3; 0: raw */
  uint64_t virtual_size;         /* bytes of the disk, exact */
  uint64_t cluster_size;         /* bytes, a power of two, 512 .. 2 MiB */
  unsigned refcount_bits;        /* 1 .. 64; 0 for version 1 */
  bool extended_l2;
  enum qcow2_compression compression;
  bool dirty;                    /* refcounts may be stale; data is fine */
  bool corrupt;                  /* some writer has seen corruption */
  bool lazy_refcounts;
  uint32_t nr_snapshots;
  uint32_t nr_bitmaps;
  enum qcow2_encryption encryption;
  bool has_backing_file;
  bool has_data_file;
  bool writable;                 /* qcow2_pwrite and the like may be called */
  const char *why_read_only;     /* NULL if it is; else a constant string */
};

/* Open the image that 'io' reaches, of io->size bytes.  Reads the header and
 * the L1 table (and all other tables, if the image is to be written and was
 * not closed cleanly), never writes: the first request that changes the disk
 * prepares the image for that.  The image keeps no reference to 'io' or
 * 'options'.  Returns NULL on error.
 */
extern struct qcow2_image *qcow2_open (const struct qcow2_io *io,
                                       const struct qcow2_options *options,
                                       struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3), __warn_unused_result__));

/* Returns false if opening the image needed no scan, or did not do one, or
 * what came of it says nothing about the next: it was given up, or there was
 * no memory, or it could not be read.
 */
extern bool qcow2_get_scan (const struct qcow2_image *image,
                            struct qcow2_scan *ret_scan)
  __attribute__ ((__nonnull__));

/* To find the key of a LUKS image takes seconds of computing, on purpose: so
 * guesses are slow.  Whoever opens the same images again and again, knowing
 * the passphrase, need not pay for that each time: a keyring remembers the
 * keys of the last 64 images that were opened with it, until it is freed.
 * Any number of threads may use it at once.
 *
 * Returns NULL if there is no memory.
 */
extern struct qcow2_keyring *qcow2_keyring_new (void)
  __attribute__ ((__warn_unused_result__));

/* Wipes the keys.  No qcow2_open may be using it.  NULL is allowed. */
extern void qcow2_keyring_free (struct qcow2_keyring *keyring);

/* Whether the image, or all images of its budget, use most of the memory that
 * they may: what is only kept in case that somebody comes back should go.
 */
extern bool qcow2_is_short_of_memory (const struct qcow2_image *image)
  __attribute__ ((__nonnull__));

/* Free the image.  No request may be in flight.  NULL is allowed. */
extern void qcow2_close (struct qcow2_image *image);

/* Nobody is going to use the image for a while: give back memory that only
 * running clients have use for.  Requests may be in flight all the same.
 */
extern void qcow2_idle (struct qcow2_image *image)
  __attribute__ ((__nonnull__));

/* The struct belongs to the image and never changes. */
extern const struct qcow2_info *
qcow2_get_info (const struct qcow2_image *image) __attribute__ ((__nonnull__));

/* Read 'count' bytes of the disk at 'guest_off' into 'buf'.  The range must
 * lie inside the disk.  On error the contents of 'buf' are undefined.
 */
extern int qcow2_pread (struct qcow2_image *image, const struct qcow2_io *io,
                        void *buf, uint32_t count, uint64_t guest_off,
                        struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 6), __warn_unused_result__));

/* What a range of the disk holds. */
enum qcow2_extent_type {
  QCOW2_EXTENT_DATA,            /* must be read to know */
  QCOW2_EXTENT_ZERO,            /* reads as zeros: the image says so */
  QCOW2_EXTENT_ZERO_ALLOCATED,  /* reads as zeros: a data cluster, but a hole
                                   of the image file, or past its end */
};

/* Returns 0 to go on, 1 to stop here (not an error), -1 on failure with
 * errno set.
 */
typedef int (*qcow2_extent_fn) (void *fn_opaque, uint64_t guest_off,
                                uint64_t len, enum qcow2_extent_type type);

/* Report the extents of [guest_off, guest_off+count), a range inside the
 * disk with count > 0: ascending, without gaps, never past the end of the
 * range, neighbours of the same type merged.  If a part of the mapping is
 * corrupt or unreadable, what comes before it is reported and the call
 * succeeds; it fails if nothing could be reported.
 */
extern int qcow2_extents (struct qcow2_image *image,
                          const struct qcow2_io *io, uint64_t count,
                          uint64_t guest_off, qcow2_extent_fn fn,
                          void *fn_opaque, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 5, 7), __warn_unused_result__));

/* Load the mapping of the range and pass io->ops->cache (which must not be
 * NULL) the host ranges behind it.
 */
extern int qcow2_cache (struct qcow2_image *image, const struct qcow2_io *io,
                        uint32_t count, uint64_t guest_off,
                        struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 5), __warn_unused_result__));

/* ---- Writing ----------------------------------------------------------- */

/* All of these need info->writable; ranges must lie inside the disk.
 *
 * What a call that succeeded has done is seen by every later call, but
 * survives a crash only after a qcow2_flush that began after it returned, or
 * if it was called with 'fua'.  A call that failed may have been done in
 * part.  Requests that overlap and run at once are done in any order.
 *
 * After a flush of the host has failed nobody knows what is durable: then all
 * of these fail until the image has been closed and opened again.  So they do
 * after a QCOW2_ERR_BUG; but if that was an error of reading, a flush still
 * makes durable what had been acknowledged.
 */
extern int qcow2_pwrite (struct qcow2_image *image,
                         const struct qcow2_io *io, const void *buf,
                         uint32_t count, uint64_t guest_off, bool fua,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 7), __warn_unused_result__));

/* Make the range read as zeros. */
#define QCOW2_ZERO_MAY_TRIM 1u   /* space need not stay allocated */
#define QCOW2_ZERO_FAST     2u   /* fail with QCOW2_ERR_NOT_FAST if zeros
                                    would have to be written to the host */
#define QCOW2_ZERO_FUA      4u
extern int qcow2_zero (struct qcow2_image *image, const struct qcow2_io *io,
                       uint64_t count, uint64_t guest_off, unsigned flags,
                       struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 6), __warn_unused_result__));

/* Nobody needs the bytes: whole clusters of the range read as zeros
 * afterwards and their space is given back, as options.discard says; the
 * rest is left as it is.
 */
extern int qcow2_trim (struct qcow2_image *image, const struct qcow2_io *io,
                       uint64_t count, uint64_t guest_off, bool fua,
                       struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 6), __warn_unused_result__));

extern int qcow2_flush (struct qcow2_image *image, const struct qcow2_io *io,
                        struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* A flush of the image's file, which somebody else has made, has failed: from
 * now on all changes and flushes of the image fail, as after one that the
 * engine has made.  Nothing to do for an image that is not writable.
 */
extern void qcow2_flush_has_failed (struct qcow2_image *image)
  __attribute__ ((__nonnull__));

/* To be called every few seconds by somebody: writes out what is pending if
 * nothing has been changed since the last call, or if nothing has been
 * committed during the last few calls.
 */
extern int qcow2_idle_commit (struct qcow2_image *image,
                              const struct qcow2_io *io,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The last use of a writable image before qcow2_close: everything becomes
 * durable, nothing is leaked, the file is cut back, the image is marked as
 * closed cleanly.  Does nothing if nothing was ever written.  On failure the
 * image is as after a crash, which loses nothing that was flushed.
 */
extern int qcow2_end (struct qcow2_image *image, const struct qcow2_io *io,
                      struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- Views ------------------------------------------------------------- */

/* A view is an image that shows something else that an image has inside.  It
 * can be used for qcow2_pread, qcow2_extents, qcow2_cache, qcow2_get_info and
 * qcow2_get_stats, with any io that reaches the image's file, while the image
 * itself is being written to, and must be closed before the image is.
 */

/* Any bytes, not terminated. */
struct qcow2_name {
  const char *bytes;
  size_t len;
};

struct qcow2_snapshot {
  struct qcow2_name id, name;   /* valid during the call */
  uint32_t date_sec, date_nsec; /* since 1970, when it was taken */
  uint64_t disk_size;           /* bytes */
  uint64_t vm_state_size;       /* bytes of saved memory, 0: none */
  uint64_t vm_clock_ns;
};

/* Called for each in the order of the table.  Returns 0 to go on, 1 to stop,
 * which is not an error.
 */
typedef int (*qcow2_snapshot_fn) (void *fn_opaque,
                                  const struct qcow2_snapshot *snapshot);
extern int qcow2_list_snapshots (struct qcow2_image *image,
                                 const struct qcow2_io *io,
                                 qcow2_snapshot_fn fn, void *fn_opaque,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 5), __warn_unused_result__));

struct qcow2_bitmap {
  struct qcow2_name name;       /* valid during the call */
  uint64_t granularity;         /* bytes of the disk per bit */
  bool enabled;                 /* writers of QEMU keep it up */
  const char *why_unusable;     /* NULL, or why no view of it can be opened:
                                   a constant string */
};
typedef int (*qcow2_bitmap_fn) (void *fn_opaque,
                                const struct qcow2_bitmap *bitmap);
extern int qcow2_list_bitmaps (struct qcow2_image *image,
                               const struct qcow2_io *io,
                               qcow2_bitmap_fn fn, void *fn_opaque,
                               struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 5), __warn_unused_result__));

/* What a view shows. */
enum qcow2_view_kind {
  /* The disk as it was when the snapshot of that name, or id, was taken, with
   * the size it had then.  If there are several of one name, the first.
   */
  QCOW2_VIEW_SNAPSHOT,
  QCOW2_VIEW_SNAPSHOT_ID,

  /* The active disk where the bitmap of that name is set: data, even where
   * that reads as zeros.  All else is a hole.  If the bitmap is enabled,
   * requests fail with EIO from the first write to the image on, which it
   * does not know of.  One that is disabled stays as it is, and what is shown
   * is what the disk has now.
   */
  QCOW2_VIEW_BITMAP,

  /* "A..B": snapshot B, or the active disk if B is empty, where it differs,
   * as far as tables tell, from snapshot A: data, even where that reads as
   * zeros.  All else is a hole.  The size is B's.  Behind the end of A the
   * disk A is taken to go on with zeros.  The text must fit only one pair of
   * names.
   */
  QCOW2_VIEW_DIFF,
};

/* Returns NULL on error: QCOW2_ERR_NOT_FOUND if there is no such thing. */
extern struct qcow2_image *
qcow2_open_view (struct qcow2_image *image, const struct qcow2_io *io,
                 enum qcow2_view_kind kind, const struct qcow2_name *name,
                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* What the image has done so far; every field only grows. */
struct qcow2_stats {
  struct {
    uint64_t requests, bytes;   /* reads of the host */
    uint64_t writes, written;   /* writes and zeroings, and their bytes */
  } io[QCOW2_IO_NR_CLASSES];
  uint64_t host_flushes, commits;
  uint64_t table_hits, table_misses;      /* L2 slices */
  uint64_t cluster_hits, cluster_misses;  /* decompressed clusters */
  uint64_t ahead_requests, ahead_bytes;   /* of the reads: before needed */
  uint64_t ahead_used_bytes;              /* of those: needed in the end */
  uint64_t inflated_bytes;                /* made by decompression */
  uint32_t latency_us;                    /* of a host read, lately */
};
extern void qcow2_get_stats (const struct qcow2_image *image,
                             struct qcow2_stats *ret_stats)
  __attribute__ ((__nonnull__));

/* ---- New images ------------------------------------------------------- */

/* What is allocated when an image is created. */
enum qcow2_preallocation {
  QCOW2_PREALLOCATE_OFF,        /* nothing */
  QCOW2_PREALLOCATE_METADATA,   /* all tables; a place in the file for all
                                   data, but no space of the host */
  QCOW2_PREALLOCATE_FALLOC,     /* and space, as the host sets it aside */
  QCOW2_PREALLOCATE_FULL,       /* and all data is written, as zeros */
};

/* Each field may be 0, which is the default. */
struct qcow2_create_options {
  uint64_t virtual_size;        /* bytes; rounded up to 512 */
  unsigned version;             /* 2 or 3; 0: 3 */
  uint64_t cluster_size;        /* bytes; 0: 64 KiB */
  unsigned refcount_bits;       /* 1 .. 64; 0: 16; version 2 has 16 */
  bool lazy_refcounts, extended_l2;     /* version 3 only, as all below */
  enum qcow2_compression compression;
  struct qcow2_name backing_file, backing_format;       /* both or none */
  struct qcow2_name data_file;
  bool data_file_raw;           /* it must always equal the disk; allocates all
                                   tables */
  enum qcow2_preallocation preallocation;

  /* The data file, to be made as large as the disk and to read as zeros; NULL:
   * it is left as it is.  'keep_data': its contents are the new disk.
   */
  const struct qcow2_io *data_io;
  bool keep_data;

  /* Optional (NULL): called now and then.  If it returns false there is no
   * image afterwards, and the error is QCOW2_ERR_CANCELLED.
   */
  bool (*progress) (void *progress_opaque, unsigned percent);
  void *progress_opaque;
};

/* Create an image in the file, whatever has been in it: the caller asks
 * whether that may be lost.  A crash, or a failure, leaves no image, or all of
 * it, and it is durable when this returns 0.
 */
extern int qcow2_create (const struct qcow2_io *io,
                         const struct qcow2_create_options *options,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* How large an image gets, in bytes of its file. */
struct qcow2_measurement {
  uint64_t required;            /* with the data that there is */
  uint64_t fully_allocated;     /* with all of the disk written to */
  uint64_t bitmaps;             /* the source's, in addition */
};

/* Measure an image that would be created with these options, to which the disk
 * of 'image' is then copied; NULL: nothing is.  The disk has
 * options->virtual_size bytes in either case.
 */
extern int qcow2_measure (const struct qcow2_create_options *options,
                          struct qcow2_image *image,
                          const struct qcow2_io *io,
                          struct qcow2_measurement *ret_measurement,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 4, 5), __warn_unused_result__));

/* ---- The library itself ---------------------------------------------- */

/* Version of this package, and which libraries were built in. */
extern const char *qcow2_version (void);
extern bool qcow2_has_zlib (void);
extern bool qcow2_has_libdeflate (void);
extern bool qcow2_has_zstd (void);
extern bool qcow2_has_nettle (void);      /* encrypted images */

/* A bug aborts the program, instead of failing a request with QCOW2_ERR_BUG:
 * so it was built, or QCOW2_ABORT_ON_BUGS is in the environment.
 */
extern bool qcow2_aborts_on_bugs (void);

#ifdef __cplusplus
}
#endif

#endif /* QCOW2_H */
