/* SPDX-License-Identifier: BSD-3-Clause */
/* hooked_disk.h - a writable image on a host with hooks.
 *
 * A struct host with an image that a test has built, and perhaps damaged.
 * Hooks stop a thread at a critical moment, which random runs would hardly
 * ever hit; trims are recorded.
 */
#ifndef HOOKED_DISK_H
#define HOOKED_DISK_H

#include "host.h"
#include "image_builder.h"
#include "unit.h"

#define HOOKED_COPIED (UINT64_C (1) << 63)
#define HOOKED_OFFSET UINT64_C (0x00fffffffffffe00)
#define HOOKED_MAX_TRIMS 4096

struct hooked_disk {
  struct host host;             /* first: the host gets a pointer to it */
  struct qcow2_io_ops inner;    /* the host's own */
  struct image_builder b;
  enum qcow2_setting lazy_refcounts;    /* of the next opening */
  enum qcow2_refcounts refcounts;
  struct qcow2_image *image;
  struct qcow2_error err;       /* of the last request of the main thread */

  /* Optional.  Called after a read, before a flush or a write. */
  void (*after_read) (struct hooked_disk *d, uint32_t count,
                      uint64_t host_off, enum qcow2_io_class io_class);
  void (*before_flush) (struct hooked_disk *d);
  void (*before_trim) (struct hooked_disk *d);
  void (*before_write) (struct hooked_disk *d, uint32_t count,
                        uint64_t host_off, enum qcow2_io_class io_class);

  uint64_t asked;               /* the largest size to grow to */
  struct { uint64_t host_off, len; } trims[HOOKED_MAX_TRIMS];
  size_t nr_trims;
};

/* Version 3, with a data cluster filled with 'a' + n for each guest cluster
 * n of the first 'nr'.
 */
extern void hooked_disk_build (struct hooked_disk *d, unsigned cluster_bits,
                               unsigned refcount_order,
                               uint64_t virtual_size, unsigned nr);
/* The same, with a free cluster in front of each of those: to count their
 * references takes more memory than if they lay side by side.
 */
extern void hooked_disk_build_apart (struct hooked_disk *d,
                                     unsigned cluster_bits,
                                     unsigned refcount_order,
                                     uint64_t virtual_size, unsigned nr);
/* Put the image on a host, and open it. */
extern void hooked_disk_serve (struct hooked_disk *d,
                               const struct host_spec *spec);
extern void hooked_disk_open (struct hooked_disk *d);
extern void hooked_disk_free (struct hooked_disk *d);

/* Fields of the image being built or, once it is served, of the file. */
extern uint64_t hooked_disk_get (struct hooked_disk *d, uint64_t host_off);
extern void hooked_disk_put (struct hooked_disk *d, uint64_t host_off,
                             uint64_t value);

/* Where the refcount block is that counts the cluster at this offset, and the
 * refcount in it, which has 8 bits or more; before the image is served, or
 * after that.
 */
extern uint64_t hooked_disk_block_off (struct hooked_disk *d,
                                       uint64_t host_off);
extern uint64_t hooked_disk_refcount_off (struct hooked_disk *d,
                                          uint64_t host_off);

/* Write all of a guest cluster.  False: see d->err. */
extern bool hooked_disk_write (struct hooked_disk *d, uint64_t guest_cluster,
                               int byte);
extern bool hooked_disk_trim (struct hooked_disk *d, uint64_t guest_cluster);
extern bool hooked_disk_flush (struct hooked_disk *d);
/* Check that the cluster is full of that byte. */
extern void hooked_disk_check (struct hooked_disk *d, uint64_t guest_cluster,
                               int byte);

/* How often the cluster at this offset was trimmed. */
extern unsigned hooked_disk_trims_of (const struct hooked_disk *d,
                                      uint64_t host_off);

#endif /* HOOKED_DISK_H */
