/* SPDX-License-Identifier: BSD-3-Clause */
/* store.h - where the bytes of data clusters are kept, and how.
 *
 * They lie in the image file or in a data file of their own, in the clear or
 * encrypted; what the image has no bytes for may lie in a backing file below
 * it.  Everything else in the engine says "the bytes of the disk at guest_off,
 * whose place is host_off", and does not know which of these it is.
 *
 * Compressed clusters and tables are not the store's business: they lie in
 * the image file and are never encrypted.
 *
 * Spec: "Encryption", "External data file", "Backing file name".
 */
#ifndef QCOW2_DATA_STORE_H
#define QCOW2_DATA_STORE_H

#include "base/ranges.h"
#include "codec/cipher.h"
#include "format/geometry.h"
#include "io/io.h"

#include <stdatomic.h>

struct q2_reader;

/* Idle buffers that are kept; as many requests of one client run at once. */
#define Q2_STORE_BUFFERS 16

/* All but what guards itself is constant once the image is open. */
struct q2_reader;

/* How the disk of a backing image is read.  read/ fills that in (see
 * q2_reader_backing_ops), which knows how; nothing here includes it.
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

struct q2_store {
  /* Encryption. */
  struct q2_cipher *cipher;     /* NULL: none; owned */
  bool guest_iv;                /* sectors are numbered as on the disk, not as
                                   in the file */
  struct q2_ranges sectors;     /* of the file, being written to: host bytes */
  _Atomic unsigned partial_writers;     /* of parts of sectors, now */
  _Atomic uint64_t partial_writes;      /* that have ever begun */
  pthread_mutex_t buffers_lock; /* guards the next two */
  unsigned nr_buffers;
  void *buffers[Q2_STORE_BUFFERS];

  /* The data file. */
  const struct qcow2_io *data;  /* NULL: the image file */
  bool raw;                     /* it must equal the disk */
  struct q2_io_shared data_shared;

  /* The backing image. */
  struct q2_reader *below;      /* NULL: there is none */
  const struct q2_backing_ops *below_ops;
  const struct q2_store *below_store;
  const struct qcow2_io *below_host;
  struct q2_io_shared *below_shared;
  uint64_t below_file_size;
  uint64_t below_size;          /* bytes of its disk */
};

extern void q2_store_init (struct q2_store *store)
  __attribute__ ((__nonnull__));
extern void q2_store_destroy (struct q2_store *store)
  __attribute__ ((__nonnull__));

/* The way to the file that has the data clusters, given that to the image
 * file.
 */
static inline struct q2_io
q2_store_io (struct q2_store *store, const struct q2_io *io)
{
  if (store->data == NULL)
    return *io;
  return (struct q2_io) {
    store->data, store->data->size, &store->data_shared
  };
}

/* True if some file that a request may need takes long to answer. */
extern bool q2_store_is_slow (const struct q2_store *store,
                              const struct q2_io *io)
  __attribute__ ((__nonnull__));

/* ---- Data clusters ---------------------------------------------------- */

/* A piece of the disk and its place; any alignment, but it is inside clusters
 * that follow each other in the file as they do on the disk.
 */
struct q2_place {
  uint64_t host_off, guest_off;
};

/* Turn bytes that were read from the file, whole sectors, into those of the
 * disk, in place.
 */
static inline void
q2_store_decrypt (const struct q2_store *store, void *buf, uint64_t len,
                  struct q2_place place)
{
  if (store->cipher)
    q2_cipher_decrypt (store->cipher, buf, buf, len,
                       (store->guest_iv ? place.guest_off : place.host_off)
                       / Q2_CRYPT_SECTOR);
}

/* Whether reads of the place must be of whole sectors. */
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

/* Where sectors are encrypted, those that the piece does not cover are read
 * and written back; writers of a sector exclude each other.
 */
extern int q2_store_write (struct q2_store *store, const struct q2_io *io,
                           const void *buf, uint64_t len,
                           struct q2_place place, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Make it read as zeros; may_punch: it need not keep its space. */
extern int q2_store_zero (struct q2_store *store, const struct q2_io *io,
                          uint64_t len, struct q2_place place,
                          bool may_punch, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Give back the space of bytes of the data file, of which there must be one.
 * Until the entries that have let them go are durable a crash brings back the
 * old ones, so what is there must read as zeros, or as it did.
 */
extern void q2_store_trim (struct q2_store *store, uint64_t len,
                           uint64_t host_off) __attribute__ ((__nonnull__));

/* Make durable what was written to the data file, if there is one. */
extern int q2_store_flush (struct q2_store *store, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- The layer below -------------------------------------------------- */

/* Whether unallocated bytes from guest_off on may be anything but zeros. */
static inline bool
q2_store_has_below (const struct q2_store *store, uint64_t guest_off)
{
  return guest_off < store->below_size;
}

/* Read unallocated bytes: what the layer below has, and zeros. */
extern int q2_store_read_below (const struct q2_store *store, void *buf,
                                uint64_t len, uint64_t guest_off,
                                struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Report what unallocated bytes read as; see qcow2_extents.  Succeeds, too, if
 * only the first part of it is known and was reported.
 */
extern int q2_store_extents_below (const struct q2_store *store,
                                   uint64_t len, uint64_t guest_off,
                                   qcow2_extent_fn fn, void *fn_opaque,
                                   struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 4, 6), __warn_unused_result__));

/* Hint that they will be read; does nothing where nobody takes hints. */
extern int q2_store_cache_below (const struct q2_store *store, uint64_t len,
                                 uint64_t guest_off, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_DATA_STORE_H */
