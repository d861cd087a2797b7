/* SPDX-License-Identifier: BSD-3-Clause */
/* qcow2.h - the one public header of the qcow2 engine.
 *
 * The engine turns host I/O (a small table of synchronous functions over the
 * bytes of an image file) into the virtual disk inside that image.  It calls
 * nothing of nbdkit, opens no file, starts no process and logs only through a
 * callback: the caller supplies the I/O, and gets errors as values.
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
  QCOW2_ERR_IO,          /* the host I/O failed; errnum is its errno; or a
                            cluster cannot be decompressed (EIO) */
  QCOW2_ERR_NOMEM,       /* out of memory */
  QCOW2_ERR_FORMAT,      /* these bytes are not a qcow2 or qcow image */
  QCOW2_ERR_UNSUPPORTED, /* the image is valid, but needs a feature that is
                            missing here */
  QCOW2_ERR_CORRUPT,     /* the image breaks a rule of the format */
  QCOW2_ERR_RANGE,       /* the caller asked for bytes outside the disk */
  QCOW2_ERR_NO_SPACE,    /* the file has no room left and cannot grow */
  QCOW2_ERR_READ_ONLY,   /* the image cannot be written to */
  QCOW2_ERR_NOT_FAST,    /* QCOW2_ZERO_FAST: it would have to be written */
  QCOW2_ERR_AUTH,        /* encrypted, and the passphrase is missing or
                            wrong */
  QCOW2_ERR_REFUSED,     /* the caller does not allow another file to be
                            opened */
  QCOW2_ERR_NOT_FOUND,   /* there is no such snapshot or bitmap */
  QCOW2_ERR_EXISTS,      /* there is one already */
  QCOW2_ERR_BUSY,        /* somebody else uses what is to be changed */
  QCOW2_ERR_TRUNCATED,   /* the bytes to be changed lie past the end of the
                            file: a part of it is missing */
  QCOW2_ERR_BUG,         /* an assumption of the engine is broken; no fault of
                            the image, which takes no more changes until it is
                            closed and opened again */
  QCOW2_ERR_ABANDONED,   /* no client waited for it any more */
  QCOW2_ERR_CANCELLED,   /* the caller's progress function ended it */
  QCOW2_ERR_INVALID,     /* what is asked for contradicts itself, or the
                            format has no such thing */
};

/* What to do about an error or a line of the log.  The engine says what is
 * the case; only its caller knows the programs, parameters and connections
 * that a remedy is made of.
 */
enum qcow2_advice {
  QCOW2_ADVICE_NONE,
  QCOW2_ADVICE_CHECK,           /* check the image */
  QCOW2_ADVICE_REPAIR,          /* repair the image */
  QCOW2_ADVICE_REBUILD,         /* repair it with QCOW2_REPAIR_REBUILD */
  QCOW2_ADVICE_COMPLETE,        /* get the rest of the file, or repair it */
  QCOW2_ADVICE_COPY,            /* get the rest, or copy what there is */
  QCOW2_ADVICE_CREATE,          /* create an image first */
  QCOW2_ADVICE_DOWNLOAD,        /* get the file once more */
  QCOW2_ADVICE_REOPEN,          /* close the image and open it again */
  QCOW2_ADVICE_NEW_HANDLE,      /* use a new I/O handle */
  QCOW2_ADVICE_ROUND_UP,        /* make the file end with a whole block */
  QCOW2_ADVICE_CACHE,           /* give qcow2_options.cache_size more */
  QCOW2_ADVICE_PROTECT_LESS,    /* another qcow2_options.overlap_check, more
                                   memory, or open it for reading */
  QCOW2_ADVICE_PROTECT_MORE,    /* QCOW2_OVERLAP_ALL */
  QCOW2_ADVICE_FEWER_SNAPSHOTS, /* delete snapshots, or open it for reading */
  QCOW2_ADVICE_PASSPHRASE,      /* give a passphrase */
  QCOW2_ADVICE_OTHER_PASSPHRASE,
  QCOW2_ADVICE_KEY_SLOTS,       /* another one, or slots that cost less */
  QCOW2_ADVICE_NEW_BITMAP,      /* copy all, and add a new bitmap */
  QCOW2_ADVICE_END_BITMAP,      /* disable it, while the image is open */
  QCOW2_ADVICE_REMOVE_BITMAP,   /* copy all, and remove the bitmap */
  QCOW2_ADVICE_REMOVE_BROKEN,   /* remove the bitmaps that are broken */
  QCOW2_ADVICE_BITMAP_READ_ONLY,        /* copy all, and open it for reading
                                           while a bitmap is used */
  QCOW2_ADVICE_NO_COMPRESSION,  /* write without compression */
  QCOW2_ADVICE_NO_LAZINESS,     /* another qcow2_options.lazy_refcounts */
  QCOW2_ADVICE_LIST_BITMAPS,    /* see which bitmaps there are */
  QCOW2_ADVICE_LIST_SNAPSHOTS,
  QCOW2_ADVICE_CLOSE_VIEWS,     /* nothing has changed; close them, and try
                                   again */
  QCOW2_ADVICE_RAW,             /* a raw disk needs no qcow2 engine */
  QCOW2_ADVICE_VMDK,            /* convert the image; from which format */
  QCOW2_ADVICE_VPC,
  QCOW2_ADVICE_VHDX,
  QCOW2_ADVICE_VDI,
  QCOW2_ADVICE_QED,
  QCOW2_ADVICE_PARALLELS,
  QCOW2_ADVICE_GZIP,            /* unpack the file; with what */
  QCOW2_ADVICE_XZ,
  QCOW2_ADVICE_BZIP2,
  QCOW2_ADVICE_LZIP,
  QCOW2_ADVICE_ZSTD,
  QCOW2_ADVICE_ZIP,
  QCOW2_ADVICE_TAR,
  QCOW2_ADVICE_LUKS,            /* decrypt the file */
};
#define QCOW2_NR_ADVICES (QCOW2_ADVICE_LUKS + 1)

/* What is known of a change of an image, or of its part in qcow2_transact. */
enum qcow2_outcome {
  QCOW2_OUTCOME_NOT_DONE,          /* it is as it was */
  QCOW2_OUTCOME_DONE,              /* it has all of it, durably */
  QCOW2_OUTCOME_UNKNOWN,           /* writing its header has failed: one or the
                                   other, and nothing is written any more; of
                                   a key slot or a commit, see there */
};

/* A function that fails fills it in, one that succeeds leaves it alone.
 * 'errnum' is never 0.  'offset' is the host offset the failure is about, or
 * QCOW2_NO_OFFSET.  'text' is one line without newline; control characters
 * from the image are escaped.
 */
#define QCOW2_NO_OFFSET UINT64_MAX
struct qcow2_error {
  enum qcow2_error_kind kind;
  int errnum;
  uint64_t offset;
  enum qcow2_advice advice;     /* what the text does not say */
  enum qcow2_outcome outcome;   /* of a function that changes an image: DONE:
                                   what failed only frees what nobody needs */
  char text[512];
};

/* ---- Host I/O -------------------------------------------------------- */

/* The purpose of a host request, for statistics and for tests. */
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

  /* Optional (NULL, both or none): an I/O handle to the same file for
   * background work.  It may outlive the call that 'opaque' was passed to, and
   * is used by one thread at a time.  borrow fills in *ret_io and returns 0,
   * or an errno value if there is none to spare.  Before the owner destroys an
   * I/O handle it waits until all handles borrowed through it have been given
   * back.
   */
  int (*borrow) (void *opaque, struct qcow2_io *ret_io);
  void (*give_back) (struct qcow2_io *io);

  /* Optional, pwrite and flush both or none: without them the image is
   * read-only.  The constraints on ranges are those of pread.  All return 0 or
   * an errno value (> 0); a request that failed may have been done in part.
   * The engine does without an optional function that fails: EINVAL means that
   * it may work with a range that is aligned better, ENOTSUP (EOPNOTSUPP,
   * ENOSYS, ENOTTY, ENODEV) that it never will, and any other error that it
   * may work the next time.  flush makes all writes durable that were
   * acknowledged before it was called, through any I/O handle of this file.
   */
  int (*pwrite) (void *opaque, const void *buf, uint32_t count,
                 uint64_t host_off, enum qcow2_io_class io_class);
  int (*flush) (void *opaque);

  /* Optional (NULL): make the range read as zeros, faster than by writing
   * them; may_punch: the host may free its space.
   */
  int (*zero) (void *opaque, uint32_t count, uint64_t host_off,
               bool may_punch, enum qcow2_io_class io_class);

  /* Optional (NULL): the same, but fail with ENOTSUP if it would take as long
   * as writing zeros.
   */
  int (*fast_zero) (void *opaque, uint32_t count, uint64_t host_off,
                    bool may_punch, enum qcow2_io_class io_class);

  /* Optional (NULL): the bytes of the range are no longer needed; reading them
   * afterwards gives undefined bytes.
   */
  int (*trim) (void *opaque, uint32_t count, uint64_t host_off);

  /* Optional (NULL; no cut without grow): make the file at least min_size
   * bytes long; the added bytes read as zeros.  On success *ret_size is the
   * new size, and every I/O handle of the file that has this function reaches
   * all of it from now on.  Only one thread at a time calls it.  cut removes
   * space at the end that grow has added, down to 'size' but not below the
   * size at the start; only qcow2_end and qcow2_create call it.
   */
  int (*grow) (void *opaque, uint64_t min_size, uint64_t *ret_size);
  int (*cut) (void *opaque, uint64_t size);

  /* Optional (NULL): make the file 'size' bytes long, if it is longer, for
   * good: also below its size at the start.  Only qcow2_resize,
   * qcow2_make_empty and qcow2_create call it, as the last thing they do with
   * the file.
   */
  int (*shorten) (void *opaque, uint64_t size);

  /* Optional (NULL): a commit has found no space; release the space that was
   * reserved for this case, if any.
   */
  int (*spend) (void *opaque);
};

/* An I/O handle: reaches the bytes of one file.  The engine never changes it,
 * and uses it only during the call that it is passed to.
 */
struct qcow2_io {
  const struct qcow2_io_ops *ops;
  void *opaque;

  /* Bytes that can be read through this handle.  If it is smaller than the
   * size the image was opened with, reads between the two fail with EIO: only
   * bytes past the end of the image file itself read as zeros.  Where
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

  /* What is written through any handle of the file is read through all of them
   * as soon as the write has ended.  Otherwise nothing is read ahead of an
   * image any more once it has been written to.
   */
  bool coherent;
};

/* ---- Images ---------------------------------------------------------- */

struct qcow2_image;
struct qcow2_keyring;

/* ---- Budgets ----------------------------------------------------------- */

/* Bounds the memory that all images of a program use together, and tells when
 * a call has been abandoned.  Any number of threads may use it at once.
 */
struct qcow2_budget;

/* Long work calls it now and then, on the thread of the call that it belongs
 * to: true if no client waits for that call any more.
 */
typedef bool (*qcow2_abandoned_fn) (void *opaque);

/* At most 'max_bytes'.  'remedy' ends the message if that is too little, and
 * says what to do; it must outlive the budget.  'abandoned' may be NULL.
 * Returns NULL if there is no memory.
 */
extern struct qcow2_budget *qcow2_budget_new (uint64_t max_bytes,
                                              const char *remedy,
                                              qcow2_abandoned_fn abandoned,
                                              void *opaque)
  __attribute__ ((__nonnull__ (2), __warn_unused_result__));

/* All images must have been closed.  NULL is allowed. */
extern void qcow2_budget_free (struct qcow2_budget *budget);

/* Account for memory that the caller uses on behalf of clients.  Taking fails
 * (false) if less than 'bytes' is left.
 */
extern bool qcow2_budget_take (struct qcow2_budget *budget, uint64_t bytes)
  __attribute__ ((__warn_unused_result__));
extern void qcow2_budget_give (struct qcow2_budget *budget, uint64_t bytes);

/* Bytes in use now. */
extern uint64_t qcow2_budget_used (const struct qcow2_budget *budget)
  __attribute__ ((__nonnull__));

/* ---- Other files ------------------------------------------------------ */

/* A name in a header that refers to another file.  The engine opens none: the
 * caller of qcow2_open decides which file the name means, and whether it may
 * be opened at all.
 */
enum qcow2_reference_kind { QCOW2_BACKING_FILE, QCOW2_DATA_FILE };

struct qcow2_reference {
  enum qcow2_reference_kind kind;
  const char *name;             /* as it is in the header: any bytes, not
                                   terminated */
  size_t name_len;              /* at most 1023 for a backing file; may be 0
                                   for a data file */
  const char *format;           /* of a backing file, as in the header, not
                                   terminated */
  size_t format_len;            /* 0: the header does not say */
  bool writing;                 /* a data file that will be written to */
  bool raw;                     /* a data file that must equal the disk */
  bool encrypted;               /* the image with the reference is */
};

/* The file that a reference means.  The caller owns it, and keeps it open
 * until the image with the reference is closed.
 */
struct qcow2_file {
  struct qcow2_image *image;    /* a backing file: an image opened with
                                   qcow2_open, perhaps a raw one, or NULL: it
                                   is not to be had, and only layer 0 of the
                                   image is to be read (QCOW2_VIEW_LAYER); a
                                   data file: NULL */
  const struct qcow2_io *io;    /* reaches its bytes; any thread may use it at
                                   any time: concurrent is true */
};

/* Returns 0, or -1 with *err filled in: which file could not be opened, why,
 * and what to do about it.
 */
typedef int (*qcow2_open_file_fn) (void *opaque,
                                   const struct qcow2_reference *reference,
                                   struct qcow2_file *ret_file,
                                   struct qcow2_error *err);

enum qcow2_log_level { QCOW2_LOG_DEBUG, QCOW2_LOG_WARNING };

/* Receives one line, and what to do about it. */
typedef void (*qcow2_log_fn) (void *log_opaque, enum qcow2_log_level level,
                              const char *text, enum qcow2_advice advice);

/* An image that is open for writing was found to be corrupt, as 'why' says. */
typedef void (*qcow2_corrupt_fn) (void *opaque, const struct qcow2_error *why);

/* The fate of clusters that a trim, or a zero request with
 * QCOW2_ZERO_MAY_TRIM, makes unnecessary; not of what snapshots had, see
 * keep_snapshot_space.
 */
enum qcow2_discard {
  QCOW2_DISCARD_UNMAP,          /* freed, and trimmed on the host */
  QCOW2_DISCARD_IGNORE,         /* trims do nothing, zeroing keeps space */
  QCOW2_DISCARD_NO_UNREF,       /* reads as zeros, keeps its space */
};

/* Against which metadata writes are checked. */
enum qcow2_overlap_check {
  QCOW2_OVERLAP_NONE,           /* writes in place are not checked */
  QCOW2_OVERLAP_CONSTANT,       /* here the same as CACHED, which costs */
  QCOW2_OVERLAP_CACHED,         /*   no more */
  QCOW2_OVERLAP_ALL,            /* refuse an image with too much metadata to
                                   check, which CACHED leaves out */
};

/* What becomes of enabled persistent bitmaps when the disk changes. */
enum qcow2_bitmaps {
  QCOW2_BITMAPS_INVALIDATE,     /* marked as in use before the first change;
                                   they stay so, and can only be removed */
  QCOW2_BITMAPS_LAZY,           /* the same, but kept up in memory, and stored
                                   by qcow2_end; after a crash they stay so */
  QCOW2_BITMAPS_DURABLE,        /* true in the file at any moment, and exact
                                   there after qcow2_end */
};

/* Result of reading all tables of an image that was not closed cleanly and is
 * opened for writing.
 */
struct qcow2_scan {
  uint64_t ns;                  /* how long it took */
  bool failed;                  /* so the image cannot be written to */
  struct qcow2_error error;
};

/* What becomes of zeros that are written. */
enum qcow2_detect_zeroes {
  QCOW2_DETECT_ZEROES_OFF,      /* the same as of other bytes */
  QCOW2_DETECT_ZEROES_ON,       /* the same as of qcow2_zero */
  QCOW2_DETECT_ZEROES_UNMAP,    /* ... with QCOW2_ZERO_MAY_TRIM */
};

/* Refcounts in the file when a crash comes. */
enum qcow2_refcounts {
  QCOW2_REFCOUNTS_EXACT,        /* those of clusters that are being written may
                                   be raised, and no others */
  QCOW2_REFCOUNTS_AHEAD,        /* so may those of free clusters, up to 16 MiB,
                                   and flushes of new clusters cost less:
                                   docs/ORDERING.md, ONE-2 */
};

/* 0: as it is in the image. */
enum qcow2_setting { QCOW2_SETTING_KEEP, QCOW2_SETTING_OFF, QCOW2_SETTING_ON };

struct qcow2_options {
  /* The file is not a qcow2 image but the disk itself, as a backing file may
   * be.  The engine does not probe it.
   */
  bool raw;

  /* Open the image only to list its contents: read nothing but the header,
   * decrypt nothing, open no other file.  Then only qcow2_get_info,
   * qcow2_list_snapshots and qcow2_list_bitmaps can be used.
   */
  bool inspect;

  /* Only for qcow2_check: as with 'inspect', and faulty fields of the header
   * do not keep the image from being opened where a check can do without
   * them: refcount table, snapshot table, bitmaps.
   */
  bool check;

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
  /* Where keys are looked up and remembered; NULL: nowhere. */
  struct qcow2_keyring *keyring;

  /* The budget of all images, which must outlive this one; NULL: none. */
  struct qcow2_budget *budget;

  /* Upper bound for the memory that the image and its views take for L1 tables
   * and caches, in bytes.  0 = 256 MiB plus four times the bounds of the
   * image's own caches.  'memory_remedy' (NULL: nothing) ends the message if
   * that is too little, and must outlive the image.
   */
  uint64_t memory;
  const char *memory_remedy;

  /* Upper bound for cached mapping tables, in bytes.  0 = 32 MiB. */
  uint64_t cache_size;

  /* Upper bound for decompressed clusters kept for requests smaller than a
   * cluster, in bytes.  0 = none.
   */
  uint64_t cluster_cache_size;

  /* How far to read ahead of sequential readers, and how much to fetch at once
   * around a compressed cluster, in bytes; only used on slow hosts.  0 = read
   * only what was asked for.
   */
  uint64_t readahead;

  /* Count requests to the host, for qcow2_get_stats. */
  bool count;

  /* Open for writing, if the image and 'io' allow it; see qcow2_info.writable.
   */
  bool writable;
  enum qcow2_discard discard;
  bool keep_snapshot_space;     /* what only a snapshot had is not trimmed on
                                   the host when the image lets go of it */
  enum qcow2_overlap_check overlap_check;
  enum qcow2_bitmaps bitmaps;

  /* Whether the dirty bit is set while the image is written to, so that its
   * refcounts are counted anew after a crash: what the header says of lazy
   * refcounts, or something else.  ON: an image of version 2, which has no
   * such bit, is not opened for writing: QCOW2_ERR_UNSUPPORTED.
   */
  enum qcow2_setting lazy_refcounts;
  enum qcow2_refcounts refcounts;

  /* Compress all whole clusters of what is written, as
   * qcow2_pwrite_compressed does.  An image that cannot have compressed
   * clusters is not opened for writing: QCOW2_ERR_UNSUPPORTED.
   */
  bool compress;
  unsigned compress_level;      /* 1 (fast) to 12, with zstd to 19; higher ones
                                   are the highest; 0: the usual one */
  enum qcow2_detect_zeroes detect_zeroes;

  /* An earlier result of qcow2_get_scan for the same, unchanged image, or
   * NULL.  A scan that failed counts as failed again, without a repetition.
   * One that succeeded is repeated only before the first change.
   */
  const struct qcow2_scan *known_scan;

  /* Optional (NULL): receives one line of the log, on any thread that is
   * inside a call to the engine.
   */
  qcow2_log_fn log;
  void *log_opaque;

  /* Optional (NULL): called once at most, after which nothing is written to
   * the image any more; on any thread that is inside a call to the engine,
   * which must not be called from there.
   */
  qcow2_corrupt_fn corrupt;
  void *corrupt_opaque;
};

enum qcow2_compression { QCOW2_COMPRESSION_ZLIB, QCOW2_COMPRESSION_ZSTD };

enum qcow2_encryption {
  QCOW2_ENCRYPTION_NONE,
  QCOW2_ENCRYPTION_AES,         /* obsolete: only the length of the passphrase
                                   protects it, and a wrong one goes
                                   unnoticed */
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
  bool corrupt;                  /* a writer has found corruption */
  bool lazy_refcounts;
  uint32_t nr_snapshots;
  uint32_t nr_bitmaps;
  enum qcow2_encryption encryption;
  bool has_backing_file;
  bool backing_missing;          /* there is none to be had: qcow2_file */
  bool has_data_file;
  bool writable;                 /* qcow2_pwrite and the like may be called */
  const char *why_read_only;     /* NULL if writable; else a constant string */
  enum qcow2_advice read_only_advice;    /* what to do about that */
};

/* Open the image that 'io' reaches, of io->size bytes.  Reads the header and
 * the L1 table, and all other tables if the image is opened for writing and
 * was not closed cleanly.  Never writes: the first change of the disk prepares
 * the image for changes.  The image keeps no reference to 'io' or 'options'.
 * Returns NULL on error.
 */
extern struct qcow2_image *qcow2_open (const struct qcow2_io *io,
                                       const struct qcow2_options *options,
                                       struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3), __warn_unused_result__));

/* Returns false if opening did no scan, or if its result would say nothing
 * about the next: it was abandoned, memory was short, or reading failed.
 */
extern bool qcow2_get_scan (const struct qcow2_image *image,
                            struct qcow2_scan *ret_scan)
  __attribute__ ((__nonnull__));

/* A keyring remembers the keys of the last 64 LUKS images that were opened
 * with it, until it is freed.  Finding a key takes seconds of computing, on
 * purpose, to make guesses slow; with a keyring, a caller that knows the
 * passphrase pays for this only once.  Any number of threads may use it at
 * once.
 *
 * Returns NULL if there is no memory.
 */
extern struct qcow2_keyring *qcow2_keyring_new (void)
  __attribute__ ((__warn_unused_result__));

/* Wipes the keys.  No qcow2_open may be using it.  NULL is allowed. */
extern void qcow2_keyring_free (struct qcow2_keyring *keyring);

/* True if the image, or all images of its budget, use most of their memory:
 * then images kept only for a client that may return should be closed.
 */
extern bool qcow2_is_short_of_memory (const struct qcow2_image *image)
  __attribute__ ((__nonnull__));

/* Free the image.  No request may be in flight.  NULL is allowed. */
extern void qcow2_close (struct qcow2_image *image);

/* No client uses the image at present: free memory that only running clients
 * need.  Requests may be in flight all the same.
 */
extern void qcow2_idle (struct qcow2_image *image)
  __attribute__ ((__nonnull__));

/* Forget tables that nobody has read since the last call of this, and give
 * their memory back: those of all images, views and layers of the process that
 * are open.  For a thread that does this every few minutes.  Never waits for
 * a host.
 */
extern void qcow2_forget_unused_tables (void);

/* What is known of the image now; one call gives fields that belong together.
 * Strings are constant.
 */
extern struct qcow2_info
qcow2_get_info (const struct qcow2_image *image) __attribute__ ((__nonnull__));

/* Any bytes, not terminated. */
struct qcow2_name {
  const char *bytes;
  size_t len;
};

/* What else the header says; all but the file that it refers to.  It belongs
 * to the caller.
 */
#define QCOW2_NR_KEY_SLOTS 8
struct qcow2_key_slot {
  bool active;
  uint32_t iterations, stripes; /* 0 if it is not active */
  uint64_t key_offset;          /* bytes, from the start of the LUKS header */
};

struct qcow2_luks {
  char cipher[33], mode[33], hash[33], uuid[41];        /* as they are there,
                                   but that they are printable ASCII */
  uint32_t key_bytes;
  uint32_t digest_iterations;
  uint64_t payload_offset;      /* bytes; means nothing in an image */
  struct qcow2_key_slot slots[QCOW2_NR_KEY_SLOTS];
};

struct qcow2_details {
  struct qcow2_name backing_file, backing_format, data_file;    /* length 0:
                                   there is none */
  bool data_file_raw;           /* it must always equal the disk */
  uint64_t incompatible, compatible, autoclear;         /* feature bits */
  uint64_t refcount_table_offset, l1_offset;            /* host offsets */
  uint32_t l1_entries;
  const struct qcow2_luks *luks;        /* NULL: none, or what is there is no
                                   LUKS header */
};

/* Not for views.  Returns NULL on error. */
extern struct qcow2_details *qcow2_get_details (struct qcow2_image *image,
                                                const struct qcow2_io *io,
                                                struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* NULL is allowed. */
extern void qcow2_details_free (struct qcow2_details *details);

/* Read 'count' bytes of the disk at 'guest_off' into 'buf'.  The range must
 * lie inside the disk.  On error the contents of 'buf' are undefined.
 */
extern int qcow2_pread (struct qcow2_image *image, const struct qcow2_io *io,
                        void *buf, uint32_t count, uint64_t guest_off,
                        struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 6), __warn_unused_result__));

/* What a range of the disk holds. */
enum qcow2_extent_type {
  QCOW2_EXTENT_DATA,            /* may have any contents */
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

/* What an image itself has of a range of its disk, whatever is below it. */
enum qcow2_piece_kind {
  QCOW2_PIECE_UNALLOCATED,      /* reads from the backing image, or zeros */
  QCOW2_PIECE_ZERO,             /* reads as zeros */
  QCOW2_PIECE_DATA,             /* the bytes of the file at host_off */
  QCOW2_PIECE_COMPRESSED,       /* bytes of a compressed cluster at host_off */
};
struct qcow2_piece {
  enum qcow2_piece_kind kind;
  uint64_t guest_off, len;      /* len > 0 */
  uint64_t host_off;            /* DATA, COMPRESSED: in the image file, or the
                                   data file if there is one */
};

/* Returns 0 to go on, 1 to stop, which is not an error. */
typedef int (*qcow2_piece_fn) (void *fn_opaque,
                               const struct qcow2_piece *piece);

/* Report the pieces of [guest_off, guest_off+count), a range inside the disk
 * with count > 0, ascending and without gaps.  Reads tables only.  Not for
 * bitmaps and differences.  Fails where the mapping is corrupt or unreadable,
 * after what comes before was reported.
 */
extern int qcow2_map (struct qcow2_image *image, const struct qcow2_io *io,
                      uint64_t count, uint64_t guest_off, qcow2_piece_fn fn,
                      void *fn_opaque, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 5, 7), __warn_unused_result__));

/* Load the mapping of the range and pass io->ops->cache (which must not be
 * NULL) the host ranges that it maps to.
 */
extern int qcow2_cache (struct qcow2_image *image, const struct qcow2_io *io,
                        uint32_t count, uint64_t guest_off,
                        struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 5), __warn_unused_result__));

/* ---- Writing ----------------------------------------------------------- */

/* All of these need info->writable; ranges must lie inside the disk.
 *
 * Every later call sees the effect of a call that succeeded.  It survives a
 * crash after a qcow2_flush that began after the call returned, or if the call
 * had 'fua' set.  A call that failed may have been done in part.  Requests
 * that overlap and run at once take effect in any order.
 *
 * After a flush of the host has failed it is unknown what is durable: all of
 * these fail until the image is closed and opened again.  The same holds after
 * a QCOW2_ERR_BUG; but if a read caused that, a flush still makes acknowledged
 * changes durable.
 */
extern int qcow2_pwrite (struct qcow2_image *image,
                         const struct qcow2_io *io, const void *buf,
                         uint32_t count, uint64_t guest_off, bool fua,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 7), __warn_unused_result__));

/* Write whole clusters (the last one of the disk may be shorter), compressed,
 * by several threads at once.  Clusters of zeros take no space, and those that
 * do not become smaller are stored as they are.  What was there before is let
 * go, also if it was compressed.  Each call takes the memory for up to 2 MiB,
 * or a cluster, of compressed bytes.  Fails with QCOW2_ERR_INVALID if it is no
 * whole clusters, with QCOW2_ERR_UNSUPPORTED if the image cannot have
 * compressed clusters: it is encrypted, has a data file, or the program has no
 * such compressor.
 */
extern int qcow2_pwrite_compressed (struct qcow2_image *image,
                                    const struct qcow2_io *io,
                                    const void *buf, uint32_t count,
                                    uint64_t guest_off, bool fua,
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

/* The bytes are no longer needed: whole clusters of the range read as zeros
 * afterwards and their space is freed, as options.discard says.  Partial
 * clusters are left alone.
 */
extern int qcow2_trim (struct qcow2_image *image, const struct qcow2_io *io,
                       uint64_t count, uint64_t guest_off, bool fua,
                       struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 6), __warn_unused_result__));

extern int qcow2_flush (struct qcow2_image *image, const struct qcow2_io *io,
                        struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Tell the engine that a flush of the image's file failed elsewhere: from now
 * on all changes and flushes of the image fail, as after a failed flush of its
 * own.  Does nothing to an image that is not writable.
 */
extern void qcow2_flush_has_failed (struct qcow2_image *image)
  __attribute__ ((__nonnull__));

/* Somebody else has made the image's file larger: from now on it has 'size'
 * bytes, and all handles that the image is used with reach them.  What has
 * been added may hold anything.  Does nothing if it is known to have as many.
 */
extern void qcow2_file_is_larger (struct qcow2_image *image, uint64_t size)
  __attribute__ ((__nonnull__));

/* As qcow2_flush, for who may be the last one, though he cannot end the image:
 * no refcount in the file stays higher than need be (docs/ORDERING.md, ONE-2),
 * if nobody changes the disk meanwhile.
 */
extern int qcow2_settle (struct qcow2_image *image,
                         const struct qcow2_io *io, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Call it every few seconds: commits pending changes if nothing has changed
 * since the last call, or if the last few calls saw no commit.
 */
extern int qcow2_idle_commit (struct qcow2_image *image,
                              const struct qcow2_io *io,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The last use of a writable image before qcow2_close: everything becomes
 * durable, nothing is leaked, the file is cut back, the image is marked as
 * closed cleanly, and bitmaps that were kept up are stored (without success if
 * that fails, with a warning).  Does nothing if nothing was ever written.  On
 * failure the
 * image is as after a crash, which loses nothing that was flushed.
 */
extern int qcow2_end (struct qcow2_image *image, const struct qcow2_io *io,
                      struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- Views ------------------------------------------------------------- */

/* A view is an image that shows a part of another one: a snapshot, a bitmap, a
 * difference or a layer.  It supports qcow2_pread, qcow2_extents, qcow2_cache,
 * qcow2_get_info and qcow2_get_stats, with any I/O handle of the image's file,
 * while the image itself is being written to.  It must be closed before the
 * image.
 */

struct qcow2_snapshot {
  struct qcow2_name id, name;   /* valid during the call */
  uint32_t date_sec, date_nsec; /* since 1970, when it was taken */
  uint64_t disk_size;           /* bytes */
  uint64_t vm_state_size;       /* bytes of saved memory, 0: none */
  uint64_t vm_clock_ns;
  uint64_t icount;              /* UINT64_MAX: not known */
};

/* Called for each snapshot in the order of the table.  Returns 0 to go on, 1
 * to stop, which is not an error.
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
  bool enabled;                 /* writers must keep it up to date */
  bool in_use;                  /* somebody who did so has not stored it: it
                                   can only be removed, if not 'kept_up' */
  bool kept_up;                 /* enabled, and all changes of the disk are in
                                   it: in the file, or, as only
                                   qcow2_list_bitmaps_kept knows of one that is
                                   in use, in memory, to be stored at the end
                                   */
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

/* The same, with what is kept up in memory, waiting until no edit of the image
 * is under way; edits wait for 'fn'.
 */
extern int qcow2_list_bitmaps_kept (struct qcow2_image *image,
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

  /* The active disk where the bitmap of that name is set: data or, where that
   * is known to read as zeros, QCOW2_EXTENT_ZERO_ALLOCATED.  All else is
   * QCOW2_EXTENT_ZERO.  If the bitmap is enabled, requests fail with EIO from
   * the first write to the image on, since the bitmap does not record it.  A
   * disabled bitmap stays as it is, and shows the disk's present contents.
   *
   * "B@S": the same of snapshot S, the first of that name, where bitmap B is
   * set; the disk must have had the same size.  An error if the name can mean
   * more than one thing.
   */
  QCOW2_VIEW_BITMAP,

  /* "A..B": snapshot B, or the active disk if B is empty, where it differs, as
   * far as tables tell, from snapshot A: data or zeros, as above.  All else is
   * QCOW2_EXTENT_ZERO.  The size is B's; past its end, A counts as zeros.  The
   * text must fit only one pair of names.
   */
  QCOW2_VIEW_DIFF,

  /* "N", a decimal number: what one file of a chain has itself of its disk,
   * whatever is below; 0 is the image, 1 its backing image, and so on.  The
   * size is that of its disk.  QCOW2_EXTENT_ZERO is what it has not allocated,
   * and reads as zeros; _ZERO_ALLOCATED is what it says is zeros, or a data
   * cluster that is a hole of the file.  All of a raw file is allocated.
   */
  QCOW2_VIEW_LAYER,
};

/* How many layers there are: 1 if it has no backing image, or if that is not
 * to be had.
 */
extern unsigned qcow2_count_layers (const struct qcow2_image *image)
  __attribute__ ((__nonnull__));

/* Returns NULL on error: QCOW2_ERR_NOT_FOUND if there is no such snapshot,
 * bitmap or layer.
 */
extern struct qcow2_image *
qcow2_open_view (struct qcow2_image *image, const struct qcow2_io *io,
                 enum qcow2_view_kind kind, const struct qcow2_name *name,
                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* A view of the memory of a virtual machine that was saved with the first
 * snapshot of that name, or id: it has vm_state_size bytes.  The backing image
 * may be missing.  QCOW2_ERR_NOT_FOUND if there is no such snapshot, or it is
 * of a disk alone.
 */
extern struct qcow2_image *
qcow2_open_vm_state (struct qcow2_image *image, const struct qcow2_io *io,
                     const struct qcow2_name *name, bool by_id,
                     struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Counters of an image.  All but latency_us only grow. */
struct qcow2_stats {
  struct {
    uint64_t requests, bytes;   /* reads of the host */
    uint64_t writes, written;   /* writes and zeroings, and their bytes */
  } io[QCOW2_IO_NR_CLASSES];
  uint64_t host_flushes, commits;
  uint64_t short_commits;       /* of these: changed tables with one flush */
  uint64_t table_hits, table_misses;      /* L2 slices */
  uint64_t cluster_hits, cluster_misses;  /* decompressed clusters */
  uint64_t ahead_requests, ahead_bytes;   /* of the reads: before needed */
  uint64_t ahead_used_bytes;              /* of those: needed in the end */
  uint64_t inflated_bytes;                /* made by decompression */
  uint32_t latency_us;                    /* of a host read, lately */
  uint64_t holds;               /* how often changes of the disk were held back
                                   for one of the image */
  uint64_t held_us, longest_hold_us;    /* for how long: all, the longest */
  uint64_t held_requests;       /* changes of the disk that had to wait then */
  uint64_t shared_by_writes;    /* L2 tables that a write had to share with a
                                   snapshot that was being taken */
};
extern void qcow2_get_stats (const struct qcow2_image *image,
                             struct qcow2_stats *ret_stats)
  __attribute__ ((__nonnull__));

/* ---- Snapshots --------------------------------------------------------- */

/* Changes of an image that is open for writing.  They are synchronous, and
 * durable when they return.  Changes of the disk wait meanwhile, but while a
 * snapshot is taken or deleted only for a moment in which nothing is read or
 * written; reads go on.  One such change at a time: a second one waits for the
 * first.
 *
 * A crash, at any moment, leaves the image of before or of after, perhaps with
 * refcounts that are too high: in version 3 with the dirty bit, so that
 * whoever opens it next counts anew; in version 2 'leaks', and COPIED flags
 * that are not set, which 'qemu-img check -r leaks' repairs.
 */

/* Called now and then by the thread that called the function; 'fn' NULL, or no
 * struct: not wanted.  If it returns false the function fails with
 * QCOW2_ERR_CANCELLED, as long as the image of before can still be had.
 */
struct qcow2_progress {
  bool (*fn) (void *opaque, unsigned percent);
  void *opaque;
  /* Called once, right before the step after which there is no way back, by
   * functions that have one; not by qcow2_snapshot_delete, which cannot be
   * cancelled, and qcow2_commit.  The same if it returns false.  NULL: not
   * wanted.
   */
  bool (*last) (void *opaque);
};

/* What a virtual machine has in memory, to be saved with a snapshot. */
struct qcow2_vm_state {
  uint64_t size;                /* bytes, at least one */
  /* Fill in all of 'buf', with the bytes at 'off'; called from the front to
   * the back, after the moment that the snapshot shows.  -1: *err says why,
   * and no snapshot is taken.
   */
  int (*read) (void *opaque, void *buf, uint32_t count, uint64_t off,
               struct qcow2_error *err);
  void *opaque;
};

struct qcow2_snapshot_options {
  struct qcow2_name name;       /* at most 65535 bytes, perhaps none */
  struct qcow2_name id;         /* empty: one more than the largest number that
                                   is an id, as QEMU chooses it */
  bool unique_name;             /* fail if there is one of that name; QEMU
                                   takes any number of them */
  uint32_t date_sec, date_nsec; /* since 1970 */
  uint64_t vm_clock_ns;
  uint64_t icount;              /* UINT64_MAX: not known */
  const struct qcow2_vm_state *vm_state;        /* NULL: of the disk alone */

  /* Optional (NULL), see struct qcow2_progress. */
  bool (*progress) (void *progress_opaque, unsigned percent);
  void *progress_opaque;
};

/* Take a snapshot of the disk.  Fails, and changes nothing, with
 * QCOW2_ERR_EXISTS if there is one of that id; QCOW2_ERR_UNSUPPORTED if the
 * image has a data file, 65,536 snapshots, or a cluster with as many
 * references as its refcount can tell, or no room for the VM state: 32 MiB of
 * L1 table are for that and the disk, and in version 2 it has 32 bits for its
 * size.
 */
extern int qcow2_snapshot_create (struct qcow2_image *image,
                                  const struct qcow2_io *io,
                                  const struct qcow2_snapshot_options *options,
                                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Delete the first snapshot of that name, or id; what only it had is free, and
 * trimmed unless options.keep_snapshot_space.  QCOW2_ERR_NOT_FOUND;
 * QCOW2_ERR_BUSY while a view of it, or of a difference with it, is open.  It
 * cannot be cancelled.  A failure after the snapshot is gone leaves what a
 * crash could leave.
 */
extern int qcow2_snapshot_delete (struct qcow2_image *image,
                                  const struct qcow2_io *io,
                                  const struct qcow2_name *name, bool by_id,
                                  const struct qcow2_progress *progress,
                                  struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 6), __warn_unused_result__));

/* The disk becomes what it was when that snapshot was taken, with the size it
 * had then; what was written since is lost.  Bitmaps that are enabled, and
 * true, record all that differs (SNAP-9); if the size changes all of them get
 * it.  QCOW2_ERR_UNSUPPORTED if the size changes and one is in use, or cannot
 * be of that size; QCOW2_ERR_BUSY while any view of the image is open; else as
 * qcow2_snapshot_delete, but it can be cancelled until the disk has changed.
 *
 * The image is ended, as by qcow2_end, if it succeeds.  Nobody else may use it
 * during the call, and after it, unless that failed with the disk as before,
 * only qcow2_close may be called.
 */
extern int qcow2_snapshot_apply (struct qcow2_image *image,
                                 const struct qcow2_io *io,
                                 const struct qcow2_name *name, bool by_id,
                                 const struct qcow2_progress *progress,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 6), __warn_unused_result__));

/* Give entries of the snapshot table that lack fields which version 3 demands
 * what a reader takes for them: see qcow2_check_result.short_snapshots.
 * QCOW2_ERR_BUSY if a view of the image is open.
 */
extern int qcow2_snapshots_complete (struct qcow2_image *image,
                                     const struct qcow2_io *io,
                                     struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- Checking and repairing ------------------------------------------ */

enum qcow2_severity {
  QCOW2_FINDING_CORRUPTION,     /* data is lost, or may get lost */
  QCOW2_FINDING_LEAK,           /* space is lost, nothing else */
  QCOW2_FINDING_WARNING,        /* breaks the format; nobody suffers */
  QCOW2_FINDING_ERROR,          /* a part that could not be checked */
};
#define QCOW2_NR_SEVERITIES 4
/* As programs are told: "corruption", "leak", "warning", "error". */
extern const char *qcow2_severity_name (enum qcow2_severity severity);

enum qcow2_finding_kind {
  QCOW2_FINDING_HEADER,         /* a field of the header, or an extension */
  QCOW2_FINDING_MISALIGNED,     /* does not begin at a cluster */
  QCOW2_FINDING_PAST_END,       /* lies past the end of the file */
  QCOW2_FINDING_RESERVED,       /* reserved bits of an entry are set */
  QCOW2_FINDING_ENTRY,          /* an entry that the format does not have */
  QCOW2_FINDING_OVERLAP,        /* a cluster with two uses */
  QCOW2_FINDING_TOO_MANY,       /* more users than a refcount can tell */
  QCOW2_FINDING_REFCOUNT,       /* differs from the users that there are */
  QCOW2_FINDING_COPIED,         /* the COPIED flag contradicts them */
  QCOW2_FINDING_REFCOUNT_BLOCK, /* cannot be used as one */
  QCOW2_FINDING_SNAPSHOT_TABLE,
  QCOW2_FINDING_BITMAP_DIRECTORY,
  QCOW2_FINDING_UNREADABLE,     /* the host could not read it */
  QCOW2_FINDING_SHORT_SNAPSHOT, /* its entry lacks fields of version 3 */
};
#define QCOW2_NR_FINDINGS 14

/* One thing that a check has found; there only during the call.  Offsets are
 * QCOW2_NO_OFFSET where they mean nothing.
 */
#define QCOW2_FINDING_TEXT 600
struct qcow2_finding {
  enum qcow2_finding_kind kind;
  enum qcow2_severity severity;
  uint64_t host_off, length;    /* what is wrong; length 0: unknown */
  uint64_t table_off;           /* the table with the entry that says so */
  uint64_t index;               /* ... and which of its entries */
  uint64_t expected, actual;    /* REFCOUNT: users that were counted, and the
                                   refcount; COPIED: the flag as it should be
                                   and as it is */
  bool unsure;                  /* a LEAK: references may have been missed, or
                                   may be found to have been, so
                                   it may be in use, and nothing frees it */
  const char *text;             /* one line, with all of this */
};

typedef void (*qcow2_finding_fn) (void *opaque,
                                  const struct qcow2_finding *finding);

enum qcow2_repair {
  QCOW2_REPAIR_NONE,
  QCOW2_REPAIR_LEAKS,           /* lower refcounts; only in an image that has
                                   no corruption also correct COPIED flags */
  QCOW2_REPAIR_ALL,             /* and raise them, replace what is no refcount
                                   block or table, and clear the marks of an
                                   image that was not closed or is corrupt */
  QCOW2_REPAIR_REBUILD,         /* and write all refcounts anew, even if not
                                   all references can be found: what had a
                                   refcount, or may have had one, keeps it */
};

struct qcow2_check_options {
  enum qcow2_repair repair;
  /* Upper bound for the memory of the counts, in bytes, besides what budgets
   * allow: one byte for each cluster in use.  0 = 1088 MiB.  An image that
   * needs more is checked in parts, for each of which all tables are read.
   * QCOW2_ERR_NOMEM if it is too little for that.
   */
  uint64_t memory;
  /* Optional (NULL): called for the first max_findings (0 = 1000) findings,
   * before anything is repaired.
   */
  qcow2_finding_fn finding;
  uint64_t max_findings;
  /* Optional (NULL): called now and then.  If it returns false the check ends
   * with QCOW2_ERR_CANCELLED.  What has been repaired until then stays.
   */
  bool (*progress) (void *opaque, unsigned percent);
  void *opaque;
};

/* With a repair: as it is afterwards, from counting once more. */
struct qcow2_check_result {
  uint64_t corruptions, leaks, warnings;
  uint64_t check_errors;        /* parts that could not be checked */
  uint64_t corruptions_fixed, leaks_fixed;
  uint64_t findings_left_out;   /* not passed on: there were too many */
  uint64_t total_clusters;      /* of the disk */
  uint64_t allocated_clusters;  /* ... of which the image has data, or space */
  uint64_t compressed_clusters; /* ... compressed */
  uint64_t image_end;           /* host offset where the last cluster ends
                                   that is used or has a refcount */
  bool incomplete;              /* not all references could be found; see
                                   below */
  uint64_t short_snapshots;     /* corruptions that qcow2_snapshots_complete
                                   sees to, and no repair */
  bool refcounts_unusable;      /* the refcount table, or a block of it; it
                                   may be that it cannot be read */
  bool rebuilt;                 /* all refcounts were written anew */
  uint64_t rebuilt_at;          /* ... from this host offset on */
  uint64_t windows;             /* parts of the file that were looked at one
                                   after the other, for want of memory */
  uint64_t undecided;           /* qcow2_check_live: clusters of which nothing
                                   is said, since they did not stay the same
                                   for long enough */
};

/* Count all references of an image of version 2 or 3 and compare: with the
 * refcounts, the COPIED flags, the limits of the format.  A fault does not end
 * it.  The image must have been opened with qcow2_options.check, or for
 * reading.
 *
 * A repair needs an image that was opened with 'check' and 'writable', which
 * nobody else uses; its other functions must not be called any more then.  It
 * changes refcounts, COPIED flags and the header, never the guest's data nor
 * what an entry points to.  Wherever it is interrupted, no refcount is lower
 * than the references there are, unless it was before.  If the refcount table
 * cannot be used or read, or one of its blocks, a new one with new blocks is
 * written behind all that is in use, or behind the file if the table cannot be
 * read, which needs room there: QCOW2_ERR_NO_SPACE.  Without QCOW2_REPAIR_ALL
 * nothing is repaired then.
 *
 * Some faults mean that references are unknown: another table that could not
 * be read, or is something else as well, or a snapshot table that breaks off.
 * Then no refcount is lowered, nothing that seems free is used, and the
 * faults themselves stay.
 *
 * Returns 0 if it has been done, whatever came of it, or -1.
 */
extern int qcow2_check (struct qcow2_image *image, const struct qcow2_io *io,
                        const struct qcow2_check_options *options,
                        struct qcow2_check_result *ret_result,
                        struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same for an image that is open for writing, and in use: other threads
 * may call any function that they could call otherwise.  Of one that is open
 * for reading this is qcow2_check.
 *
 * What it says was true at a moment during the call.  It never takes a change
 * that is under way for a fault; an image without faults has no findings.
 * Requests that change the disk wait once in a while until those have ended
 * that are running then, as for a snapshot.  An edit of the image (a snapshot,
 * bitmaps) does not wait for it; what was counted meanwhile is counted again.
 *
 * 'repair' is QCOW2_REPAIR_NONE or QCOW2_REPAIR_LEAKS, which lowers refcounts
 * if all references were found, and then sets COPIED flags that follow from
 * that.  'memory' is 64 MiB if it is 0.  Numbers of clusters are estimates.
 * Of faulty entries at most 1000 are passed to 'finding'; all are counted.
 * QCOW2_ERR_BUSY: another check of it is running, or it is edited again and
 * again.
 */
extern int qcow2_check_live (struct qcow2_image *image,
                             const struct qcow2_io *io,
                             const struct qcow2_check_options *options,
                             struct qcow2_check_result *ret_result,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- New images ------------------------------------------------------- */

/* What is allocated when an image is created. */
enum qcow2_preallocation {
  QCOW2_PREALLOCATE_OFF,        /* nothing */
  QCOW2_PREALLOCATE_METADATA,   /* all tables; a place in the file for all
                                   data, but no space of the host */
  QCOW2_PREALLOCATE_FALLOC,     /* and space, as the host sets it aside */
  QCOW2_PREALLOCATE_FULL,       /* and all data is written, as zeros */
};

/* How a new LUKS header encrypts, in the words of QEMU's options; NULL or 0 is
 * the default.
 */
struct qcow2_luks_options {
  const char *cipher_alg;       /* "aes-256" */
  const char *cipher_mode;      /* "xts" */
  const char *ivgen_alg;        /* "plain64" */
  const char *ivgen_hash_alg;   /* "sha256"; for "essiv" */
  const char *hash_alg;         /* "sha256" */
  unsigned iter_time_ms;        /* 2000: how long a guess is to take */
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
  enum qcow2_encryption encryption;     /* with it, a passphrase */
  struct qcow2_luks_options luks;
  const char *passphrase;
  size_t passphrase_len;

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

/* What is in a file in which an image is to be created. */
enum qcow2_content {
  QCOW2_CONTENT_NOTHING,        /* it has no bytes, or all read as zeros */
  QCOW2_CONTENT_UNFINISHED,     /* qcow2_create was interrupted there */
  QCOW2_CONTENT_IMAGE,          /* it begins as an image does */
  QCOW2_CONTENT_OTHER,
};

/* Where the host does not say what is a hole all of the file is read, as long
 * as that is zeros.
 */
extern int qcow2_look_at (const struct qcow2_io *io,
                          enum qcow2_content *ret_content,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Create an image in the file, whatever has been in it: the caller asks
 * whether that may be lost (qcow2_look_at).  A crash, or a failure, leaves no
 * image, or all of it, and it is durable when this returns 0.
 */
extern int qcow2_create (const struct qcow2_io *io,
                         const struct qcow2_create_options *options,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- Keys of encrypted images ----------------------------------------- */

/* These functions need an image with LUKS that is open in any way, also with
 * qcow2_options.inspect, which needs no passphrase, and an I/O handle for
 * writing.  One of them at a time.  qcow2_get_details tells which slots there
 * are.
 */
#define QCOW2_ANY_SLOT (-1)

/* Add a key slot that opens with a new passphrase; 'passphrase' opens the
 * image now.  'slot' is the number of one that is not active, or
 * QCOW2_ANY_SLOT.  It is active, durably, when this returns 0; a crash leaves
 * it inactive or active, and so does a failure whose outcome is unknown.
 */
extern int qcow2_add_key (struct qcow2_image *image,
                          const struct qcow2_io *io, const char *passphrase,
                          size_t passphrase_len, const char *new_passphrase,
                          size_t new_len, int slot, unsigned iter_time_ms,
                          unsigned *ret_slot, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Remove the slots that open with the passphrase or, if 'slot' is a number,
 * that one; their key material is overwritten.  The last slot is removed only
 * with 'force': nobody can read the disk then.  A crash leaves a slot active,
 * or inactive, perhaps with its key material.  *ret_removed has a bit for
 * each.  If it fails with another outcome than NOT_DONE, some of them may be
 * inactive; DONE: one is, but its key material is not overwritten.
 */
extern int qcow2_remove_key (struct qcow2_image *image,
                             const struct qcow2_io *io,
                             const char *passphrase, size_t passphrase_len,
                             int slot, bool force, unsigned *ret_removed,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 7, 8), __warn_unused_result__));

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

/* ---- Bitmaps ---------------------------------------------------------- */

enum qcow2_bitmap_verb {
  QCOW2_BITMAP_ADD,             /* a new one, of which no bit is set */
  QCOW2_BITMAP_REMOVE,
  QCOW2_BITMAP_CLEAR,           /* no bit is set any more */
  QCOW2_BITMAP_ENABLE,          /* writers must keep it up to date from now
                                   on */
  QCOW2_BITMAP_DISABLE,         /* its bits are as they are */
  QCOW2_BITMAP_MERGE,           /* set what is set in any of the sources */
};

/* A bitmap to be merged into another one, whatever its granularity: parts of
 * the disk that it touches are set.  Disabled or enabled.
 */
struct qcow2_bitmap_source {
  struct qcow2_name name;
  struct qcow2_image *image;    /* of the same size, that nobody writes to;
                                   NULL: the image that is changed */
  const struct qcow2_io *io;    /* of 'image' */
};

struct qcow2_bitmap_action {
  enum qcow2_bitmap_verb verb;
  struct qcow2_name name;       /* 1 .. 1023 bytes */

  /* ADD: bytes of the disk for each bit, a power of two, 512 .. 2 GiB; 0: the
   * cluster size, but at least 4 and at most 64 KiB.
   */
  uint64_t granularity;
  bool disabled;                /* ADD */

  const struct qcow2_bitmap_source *sources;    /* MERGE */
  size_t nr_sources;
};

/* Called now and then; false: the caller cancels. */
typedef bool (*qcow2_progress_fn) (void *progress_opaque, unsigned percent);

/* Change the persistent bitmaps of a writable image of version 3.  Each action
 * finds what the one before it has left; all of them take effect at once, and
 * durably, or, on failure or after a crash, none.  Changes of the disk wait
 * meanwhile.  If the image is written to later, bitmaps that are enabled are
 * marked as in use (see qcow2_list_bitmaps).  Those that are kept up in memory
 * (QCOW2_BITMAPS_LAZY) can be used as any other.  The caller's names need to
 * last for the call only.  'progress' may be NULL.
 *
 * Errors: QCOW2_ERR_NOT_FOUND or _EXISTS; _INVALID for a name, a granularity
 * or a number that cannot be; _REFUSED for a bitmap whose bits mean nothing,
 * because it is in use, has extra data or does not fit the disk: those can
 * only be removed; _BUSY if a view is open of one that would lose its bits;
 * _UNSUPPORTED for an image of version 2; _CORRUPT if the directory has an
 * entry that breaks a rule: see qcow2_remove_broken_bitmaps.
 *
 * Bitmaps that a program without support for them has made meaningless, by
 * writing to the image, are not found; adding one forgets them for good.
 */
extern int qcow2_edit_bitmaps (struct qcow2_image *image,
                               const struct qcow2_io *io,
                               const struct qcow2_bitmap_action *actions,
                               size_t nr_actions, qcow2_progress_fn progress,
                               void *progress_opaque,
                               struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 7), __warn_unused_result__));

/* ---- Several changes at one point in time ------------------------------ */

/* What is done to one image. */
struct qcow2_part {
  struct qcow2_image *image;
  const struct qcow2_io *io;
  const struct qcow2_bitmap_action *actions;    /* as qcow2_edit_bitmaps */
  size_t nr_actions;
  const struct qcow2_snapshot_options *snapshot; /* or NULL: none */
  qcow2_progress_fn progress;   /* of the actions, or NULL */
  void *progress_opaque;
  enum qcow2_outcome outcome;   /* set by qcow2_transact */
};

#define QCOW2_MAX_PARTS 64

/* Change bitmaps of images, and take snapshots, at one point in time: changes
 * of all their disks wait meanwhile, for those that have begun at most as long
 * as one of these functions alone would.  All that is done to one image takes
 * effect in one step.  The images must be different ones.
 *
 * Everything is made ready for all images before the first of them changes; a
 * failure until then leaves all as they were.  Then they change one after
 * another, durably; if that fails, or after a crash, some may have changed:
 * 'outcome' says which; that of an image in which nothing had to change is
 * always QCOW2_OUTCOME_NOT_DONE.  -1 although all others are
 * QCOW2_OUTCOME_DONE: something that is not needed any more was not released.
 * *ret_failed: to which of them *err belongs.  Errors are those of
 * qcow2_edit_bitmaps and qcow2_snapshot_create, and QCOW2_ERR_INVALID for
 * bitmaps of other images as sources where there are several images.
 */
extern int qcow2_transact (struct qcow2_part *parts, size_t nr,
                           size_t *ret_failed, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* A bitmap that is removed because it is broken; valid during the call. */
struct qcow2_broken_bitmap {
  struct qcow2_name name;       /* empty: not known */
  uint64_t host_off;            /* of its entry in the directory */
  const char *why;              /* without full stop */
};
typedef void (*qcow2_broken_bitmap_fn) (void *fn_opaque,
                                        const struct qcow2_broken_bitmap *b);

/* Remove the bitmaps because of which QEMU refuses to open the image, or
 * qcow2_edit_bitmaps to change it: their directory entries, tables or bits
 * break a rule, or they share clusters.  All others stay as they are.  fn
 * (NULL: nobody is told) is called for each before anything is changed;
 * 'dry_run': that is all.  Space of what is removed is leaked until the image
 * is repaired, since nobody knows whose it is.
 */
extern int qcow2_remove_broken_bitmaps (struct qcow2_image *image,
                                        const struct qcow2_io *io,
                                        bool dry_run,
                                        qcow2_broken_bitmap_fn fn,
                                        void *fn_opaque,
                                        struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 6), __warn_unused_result__));


/* ---- Changes of the image itself --------------------------------------- */

/* These need info->writable, and an image that nobody else uses, with no view
 * of it open.  When they return 0 the change is durable and the image is ended
 * (qcow2_end): it must be closed, and can be opened again.  A failure, or a
 * crash, leaves the old image or the new one, at worst with leaked clusters;
 * the error text says so where it is the new one.  After a failure the image
 * is to be closed, too.
 */

/* Change the size of the disk to 'new_size' bytes, rounded up to 512.
 *
 * What is added reads as zeros, whatever is behind the old end in the file or
 * in a backing image.  'preallocation' is what is allocated of it; a data file
 * that must equal the disk has at least QCOW2_PREALLOCATE_METADATA.
 *
 * A smaller size needs QCOW2_RESIZE_SHRINK, else QCOW2_ERR_INVALID: what is
 * behind the new end is lost.  Until the size has changed all of it is there.
 * Afterwards the rest of the last cluster is zeroed, the space of all others
 * is freed, and the file is cut, as far as io->ops->shorten is there.
 *
 * Snapshots keep their sizes; an image of version 2 cannot say so and is
 * refused with QCOW2_ERR_UNSUPPORTED if it has any.  Bitmaps get the new size,
 * nothing of what is added is set; one that is in use is refused, as is any
 * that would get too large.  A data file gets the size of the disk.
 */
#define QCOW2_RESIZE_SHRINK 1u
extern int qcow2_resize (struct qcow2_image *image, const struct qcow2_io *io,
                         uint64_t new_size, unsigned flags,
                         enum qcow2_preallocation preallocation,
                         const struct qcow2_progress *progress,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 7), __warn_unused_result__));

/* Make the disk larger while other threads use it: they may call any function
 * that they could call otherwise.  Nothing is preallocated; else as above.
 * The tables of a data file that must equal the disk are made before changes
 * wait; 'progress' is told of that, and can cancel it.
 *
 * When it returns 0 the change is durable, qcow2_get_info has the new size,
 * and all of that can be read and written.  The image and its views stay open;
 * views have their old sizes.  Changes of the disk wait meanwhile.  After a
 * failure qcow2_get_info says which size the disk has; one after it has grown
 * leaves what a crash could leave.
 *
 * QCOW2_ERR_INVALID: it would become smaller.  QCOW2_ERR_BUSY: a bitmap of it
 * is open, or being merged into that of another image, and needs another table
 * then; or a request has not ended for too long.  QCOW2_ERR_UNSUPPORTED: also
 * if its data file must equal the disk, and there would be more than a GiB of
 * new tables.
 */
extern int qcow2_grow (struct qcow2_image *image, const struct qcow2_io *io,
                       uint64_t new_size,
                       const struct qcow2_progress *progress,
                       struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 5), __warn_unused_result__));

/* Let the header name another backing image, 'file' with the format 'format',
 * or none (NULL or empty, both).  No byte of the disk is looked at: where the
 * image has nothing of its own it reads as what the new file has there.  The
 * format is needed; it is never guessed.  The old file need not be there:
 * options.open_file may answer with any image, such as an empty raw one.
 *
 * A name has at most 1023 bytes and has to fit into the first cluster.  If the
 * old header and the new one do not fit in there together QCOW2_ERR_NO_SPACE
 * says so, unless QCOW2_SET_BACKING_FORCE is set: then a crash in the middle
 * may destroy the header.
 */
#define QCOW2_SET_BACKING_FORCE 1u
extern int qcow2_set_backing (struct qcow2_image *image,
                              const struct qcow2_io *io,
                              const struct qcow2_name *file,
                              const struct qcow2_name *format, unsigned flags,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 6), __warn_unused_result__));

/* The same, and the disk reads as before: wherever the image has nothing of
 * its own, and the new backing image 'below' differs from what there was, the
 * old bytes become the image's own, durably, before the header changes.  Until
 * then, and after a failure or a crash, it is the old image, perhaps with more
 * bytes of its own, which it had from the old backing image before.
 *
 * 'below' must be open as long as this runs, with any image that nobody writes
 * to: also one that 'image' stands on already.  NULL, or with the image NULL,
 * and no name: the image needs no backing image any more.  Both images may be
 * of any size.
 *
 * Bitmaps stay as they are.  An image with snapshots is refused with
 * QCOW2_ERR_UNSUPPORTED: they would read differently.
 */
extern int qcow2_rebase (struct qcow2_image *image, const struct qcow2_io *io,
                         const struct qcow2_name *file,
                         const struct qcow2_name *format,
                         const struct qcow2_file *below, unsigned flags,
                         const struct qcow2_progress *progress,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 8), __warn_unused_result__));

/* Write all that the image has, and those between it and 'base', into 'base',
 * which must be the image that open_file has answered with somewhere in the
 * chain.  It is written to, so it was opened for writing, or, a raw file, its
 * 'io' can be; it is ended (qcow2_end) when this returns, whatever came of it.
 * Nobody else uses any of these images.
 *
 * Then everything is durable there, and only then does the image let go of it,
 * as by qcow2_make_empty, but for its bitmaps, which stay true; with
 * QCOW2_COMMIT_KEEP it stays as it is, is not ended, and can be used on.  That
 * is the only way if 'base' is not right below it.  The disk of the image
 * reads the same all the time; those of all other images that stand on 'base'
 * do not.
 *
 * If it fails with the outcome UNKNOWN, some of it may be in 'base', and the
 * image still has everything; if with DONE, all of it is there, and the image
 * has it, too, or nothing any more.
 *
 * A raw base that is smaller than the disk grows; one that cannot is
 * QCOW2_ERR_NO_SPACE, and a smaller image as base QCOW2_ERR_INVALID (see
 * qcow2_resize).  An image with snapshots is QCOW2_ERR_UNSUPPORTED.
 */
#define QCOW2_COMMIT_KEEP 1u
extern int qcow2_commit (struct qcow2_image *image, const struct qcow2_io *io,
                         const struct qcow2_file *base, unsigned flags,
                         const struct qcow2_progress *progress,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 6), __warn_unused_result__));

/* Whether that would be refused, apart from a base that is too small: nothing
 * is changed by this, nor ended.  So whoever makes the base larger asks first.
 */
extern int qcow2_check_commit (struct qcow2_image *image,
                               const struct qcow2_io *io,
                               const struct qcow2_file *base, unsigned flags,
                               struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Let go of everything that the image has of its disk, which then reads as its
 * backing image, or as zeros: as after all of it was copied there.  Snapshots
 * and their space stay; enabled bitmaps are marked as in use, as by any change
 * of the disk.  A raw data file is refused with QCOW2_ERR_UNSUPPORTED.
 */
extern int qcow2_make_empty (struct qcow2_image *image,
                             const struct qcow2_io *io,
                             const struct qcow2_progress *progress,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 4), __warn_unused_result__));

/* What is to be changed; 0 and NULL leave it as it is. */
struct qcow2_amend_options {
  unsigned version;             /* 2 or 3 */
  unsigned refcount_bits;       /* 1 .. 64; version 2 has 16 */
  enum qcow2_setting lazy_refcounts;
  const struct qcow2_name *backing_file, *backing_format;       /* as for
                                   qcow2_set_backing; an empty name: none */
  const struct qcow2_name *data_file;   /* another name of the same file, in an
                                           image that has one */
  enum qcow2_setting data_file_raw;     /* can only be switched off */
  bool force;                   /* see QCOW2_SET_BACKING_FORCE */
};

/* Change what kind of image it is, all of it in one step; the disk and its
 * snapshots read as before.
 *
 * In version 2 nothing says "zeros": such clusters become unallocated, or are
 * written as zeros where there is a backing image or space was kept, in
 * snapshots, too.  It has no data file, extended L2 entries, compression but
 * zlib, bitmaps, or refcounts of other than 16 bits, and no snapshot in it has
 * a disk of another size or a VM state of 4 GiB or more: an image with one of
 * these is QCOW2_ERR_UNSUPPORTED.  So is a width too small for one of the
 * refcounts.  What contradicts itself is QCOW2_ERR_INVALID.
 */
extern int qcow2_amend (struct qcow2_image *image, const struct qcow2_io *io,
                        const struct qcow2_amend_options *options,
                        const struct qcow2_progress *progress,
                        struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 5), __warn_unused_result__));

/* ---- The library itself ---------------------------------------------- */

/* Version of this package, and which libraries were built in. */
extern const char *qcow2_version (void);
extern bool qcow2_has_zlib (void);
extern bool qcow2_has_libdeflate (void);
extern bool qcow2_has_zstd (void);
extern bool qcow2_has_nettle (void);      /* encrypted images */

/* True if a bug aborts the program instead of failing a request with
 * QCOW2_ERR_BUG: debug assertions were built in, or QCOW2_ABORT_ON_BUGS is in
 * the environment.
 */
extern bool qcow2_aborts_on_bugs (void);

/* An assumption of code around the engine, about what that code itself has
 * done: true if 'cond' is.  Else it is a bug, which aborts the program where
 * qcow2_aborts_on_bugs; the caller goes on in whatever way does no harm, and
 * the next function of this header that returns errors and that this thread
 * calls, or that it is inside of, fails with QCOW2_ERR_BUG.  That says what is
 * not true; here nothing is logged.
 */
#define qcow2_holds(cond)                                                     \
  (__builtin_expect (!!(cond), 1) ? true :                                    \
   qcow2_bug (#cond, __FILE__, __LINE__))
/* For such macros: always returns false. */
extern bool qcow2_bug (const char *what, const char *file, int line)
  __attribute__ ((__nonnull__, __cold__));

#ifdef __cplusplus
}
#endif

#endif /* QCOW2_H */
