/* SPDX-License-Identifier: BSD-3-Clause */
/* store.h - reads and writes data clusters in the right file, encrypted or
 * not.
 *
 * Data clusters lie in the image file or in a data file, in the clear or
 * encrypted; unallocated ranges are read from the backing image.  The rest of
 * the engine says "the bytes of the disk at guest_off, which lie at host_off",
 * and does not know which of these it is.
 *
 * Compressed clusters and tables do not go through the store: they lie in the
 * image file and are never encrypted.
 *
 * Spec: "Encryption", "External data file", "Backing file name".
 */
#ifndef QCOW2_DATA_STORE_H
#define QCOW2_DATA_STORE_H

#include "base/lock.h"
#include "base/ranges.h"
#include "codec/cipher.h"
#include "format/geometry.h"
#include "io/io.h"

#include <stdatomic.h>

struct q2_reader;

/* How many idle buffers are kept: as many requests of a client run at once. */
#define Q2_STORE_BUFFERS 16

struct q2_reader;

/* How to read the disk of a backing image.  read/ fills in the table (see
 * q2_reader_backing_ops), so that this room need not include read/.
 */
struct q2_backing_ops {
  int (*pread) (struct q2_reader *reader, const struct q2_io *io, void *buf,
                uint64_t count, uint64_t guest_off, struct qcow2_error *err);
  int (*extents) (struct q2_reader *reader, const struct q2_io *io,
                  uint64_t count, uint64_t guest_off, qcow2_extent_fn fn,
                  void *fn_opaque, bool *ret_all, struct qcow2_error *err);
  int (*cache) (struct q2_reader *reader, const struct q2_io *io,
                uint64_t count, uint64_t guest_off, struct qcow2_error *err);
};

/* Constant once the image is open, except locks and what they guard. */
struct q2_store {
  /* Encryption. */
  struct q2_cipher *cipher;     /* NULL: none; owned */
  bool guest_iv;                /* sectors are numbered by guest offset, not by
                                   host offset */
  struct q2_ranges sectors;     /* being written; host bytes */
  _Atomic unsigned partial_writers;     /* writers of parts of sectors */
  _Atomic uint64_t partial_writes;      /* how many have ever begun */
  struct q2_mutex buffers_lock; /* guards the next two */
  unsigned nr_buffers;
  void *buffers[Q2_STORE_BUFFERS];

  /* The data file. */
  const struct qcow2_io *data;  /* NULL: the image file */
  bool raw;                     /* it must equal the disk */
  struct q2_io_shared data_shared;

  /* The backing image. */
  struct q2_reader *below;      /* NULL: none */
  const struct q2_backing_ops *below_ops;
  const struct q2_store *below_store;
  const struct qcow2_io *below_host;
  struct q2_io_shared *below_shared;
  uint64_t below_file_size;
  uint64_t below_size;          /* bytes of its disk */
  uint64_t below_reach;         /* the same, or more: below that, entries that
                                   are zeros must say so, since there is going
                                   to be another backing image; raised only
                                   while nobody else uses the image */
  bool below_missing;           /* there should be one, but it was not to be
                                   had: nobody knows what is unallocated */
};

extern void q2_store_init (struct q2_store *store)
  __attribute__ ((__nonnull__));
extern void q2_store_destroy (struct q2_store *store)
  __attribute__ ((__nonnull__));

/* The I/O handle of the file with the data clusters; 'io' is that of the image
 * file.
 */
static inline struct q2_io
q2_store_io (struct q2_store *store, const struct q2_io *io)
{
  if (store->data == NULL)
    return *io;
  return (struct q2_io) {
    .host = store->data, .file_size = store->data->size,
    .shared = &store->data_shared,
  };
}

/* True if some file that a request may need is on a slow host. */
extern bool q2_store_is_slow (const struct q2_store *store,
                              const struct q2_io *io)
  __attribute__ ((__nonnull__));

/* ---- Data clusters ---------------------------------------------------- */

/* A piece of the disk and its place, with any alignment.  Its clusters must be
 * contiguous in the file.
 */
struct q2_place {
  uint64_t host_off, guest_off;
};

/* Decrypt whole sectors that were read from the file, in place. */
static inline void
q2_store_decrypt (const struct q2_store *store, void *buf, uint64_t len,
                  struct q2_place place)
{
  if (store->cipher)
    q2_cipher_decrypt (store->cipher, buf, buf, len,
                       (store->guest_iv ? place.guest_off : place.host_off)
                       / Q2_CRYPT_SECTOR);
}

/* True if the place must be read in whole sectors, but is not. */
static inline bool
q2_store_is_unaligned (const struct q2_store *store, uint64_t len,
                       struct q2_place place)
{
  return store->cipher != NULL &&
    ((place.host_off | len) & (Q2_CRYPT_SECTOR - 1)) != 0;
}

extern int q2_store_read (struct q2_store *store, const struct q2_io *io,
                          void *buf, uint64_t len, struct q2_place place,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Write the piece.  Encrypted sectors that it covers only partly are read and
 * written back; writers of a sector exclude each other.
 */
extern int q2_store_write (struct q2_store *store, const struct q2_io *io,
                           const void *buf, uint64_t len,
                           struct q2_place place, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Make the piece read as zeros; may_punch: the host may free its space. */
extern int q2_store_zero (struct q2_store *store, const struct q2_io *io,
                          uint64_t len, struct q2_place place,
                          bool may_punch, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Free space of the data file, of which there must be one.  Until the changed
 * entries are durable a crash may restore the old ones, so the range must read
 * as zeros, or as before.
 */
extern void q2_store_trim (struct q2_store *store, uint64_t len,
                           uint64_t host_off) __attribute__ ((__nonnull__));

/* Make earlier writes to the data file durable, if there is one. */
extern int q2_store_flush (struct q2_store *store, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- The backing image -------------------------------------------------- */

/* True if unallocated bytes from guest_off on may be anything but zeros. */
static inline bool
q2_store_has_below (const struct q2_store *store, uint64_t guest_off)
{
  return guest_off < store->below_reach;
}

/* Read unallocated bytes: those of the backing image, and zeros past its end.
 */
extern int q2_store_read_below (const struct q2_store *store, void *buf,
                                uint64_t len, uint64_t guest_off,
                                struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Report the extents of unallocated bytes; see qcow2_extents.  Succeeds, too,
 * if only a first part was known and reported.
 */
extern int q2_store_extents_below (const struct q2_store *store,
                                   uint64_t len, uint64_t guest_off,
                                   qcow2_extent_fn fn, void *fn_opaque,
                                   struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 4, 6), __warn_unused_result__));

/* Hint that unallocated bytes will be read; does nothing if the host takes no
 * hints.
 */
extern int q2_store_cache_below (const struct q2_store *store, uint64_t len,
                                 uint64_t guest_off, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_DATA_STORE_H */
