/* SPDX-License-Identifier: BSD-3-Clause */
/* image.h - what an open image consists of, or a view of one.  For open.c,
 * attach.c, request.c, image.c, and those who make views, in core/view/.
 */
#ifndef QCOW2_IMAGE_IMAGE_H
#define QCOW2_IMAGE_IMAGE_H

#include "base/gate.h"
#include "meta/superblock.h"
#include "read/reader.h"
#include "write/writer.h"

#define Q2_DEFAULT_CACHE_SIZE (UINT64_C (32) << 20)

/* How requests of a view are done.  Ranges lie inside the view; the rest is
 * as for the functions of the same names in qcow2.h.
 */
struct q2_view_ops {
  int (*pread) (struct qcow2_image *view, const struct qcow2_io *host,
                void *buf, uint32_t count, uint64_t guest_off,
                struct qcow2_error *err);
  int (*extents) (struct qcow2_image *view, const struct qcow2_io *host,
                  uint64_t count, uint64_t guest_off, qcow2_extent_fn fn,
                  void *fn_opaque, struct qcow2_error *err);
  int (*cache) (struct qcow2_image *view, const struct qcow2_io *host,
                uint32_t count, uint64_t guest_off, struct qcow2_error *err);
  void (*close) (struct qcow2_image *view);
};

/* Somebody reads a structure of the file, which must stay what it is. */
enum q2_pinned {
  Q2_PINNED_BITMAP,             /* the table of a bitmap, by a view */
  Q2_PINNED_SOURCE,             /* the same, while it is merged elsewhere: with
                                   the size that the disk has */
  Q2_PINNED_SNAPSHOT,           /* the L1 table of a snapshot */
};
struct q2_pin {
  enum q2_pinned kind;
  uint64_t host_off;            /* where it begins; 0: not pinned */
  struct q2_pin *next;
};

struct q2_pins {
  struct q2_mutex lock;         /* held over I/O while the header switches;
                                   guards: */
  struct q2_pin *first;
};

/* Everything is constant after q2_image_init, or guards itself. */
struct qcow2_image {
  struct q2_geometry geo;
  struct q2_superblock superblock;      /* info, and the header; a view has
                                           info only */
  bool inspect;                 /* there is nothing but the superblock */
  bool check;                   /* ... because it is only for qcow2_check */
  uint64_t cache_size;          /* of options, or what that stands for */
  uint64_t file_size;
  struct qcow2_budget budget;   /* a view uses its parent's */
  uint64_t clusters_charge;     /* of it: decompressed clusters */
  struct q2_io_shared shared;   /* a view uses its parent's */
  struct q2_store store;        /* and this */
  struct q2_reader reader;
  struct q2_writer writer;      /* used if it is writable, and so is: */
  struct q2_gate gate;          /* that changes go through */
  _Atomic uint64_t edits;       /* of the image, which have begun; changes only
                                   while the gate is closed, and so does: */
  _Atomic bool editing;         /* one goes on beside changes of the disk */
  _Atomic bool live_check;      /* one is running */
  struct q2_pins pins;

  /* Of the last call of qcow2_idle_commit: */
  struct {
    _Atomic uint64_t changes;   /* how many had begun */
    _Atomic uint64_t commits;
    _Atomic unsigned busy_calls;        /* since the last commit */
  } idle;

  _Atomic unsigned views;       /* of it that are open, or being opened */
  _Atomic unsigned views_forbidden;     /* changes that allow none */

  /* The rest is NULL in an image that is no view. */
  const struct q2_view_ops *view;
  struct qcow2_image *parent;   /* which outlives the view */
  struct qcow2_image *base;     /* of a view without a reader of its own:
                                   whose disk it shows parts of */
  bool counted;                 /* in parent->views */
  struct q2_pin pin;            /* of the snapshot that it shows */
};

static inline struct qcow2_info
q2_image_info (const struct qcow2_image *image)
{
  return q2_superblock_info (&image->superblock);
}

static inline struct q2_header
q2_image_header (const struct qcow2_image *image)
{
  return q2_superblock_header (&image->superblock);
}

static inline struct q2_io
q2_image_io (struct qcow2_image *image, const struct qcow2_io *host)
{
  struct qcow2_image *const owner = image->parent ? image->parent : image;

  return (struct q2_io) {
    .host = host, .file_size = owner->file_size, .shared = &owner->shared,
    .patient = owner->check,
  };
}

/* pins.c: pin the structure that the header, current when it was looked up,
 * leads to; fails with QCOW2_ERR_BUSY if the header is another one now.  At
 * offset 0 there is none, and nothing is pinned.
 */
extern int q2_pin (struct qcow2_image *image, struct q2_pin *pin,
                   enum q2_pinned kind, uint64_t host_off,
                   uint64_t header_number, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* Does nothing if it is not pinned. */
extern void q2_unpin (struct qcow2_image *image, struct q2_pin *pin)
  __attribute__ ((__nonnull__));
/* With the lock: that structure is, or any of that kind. */
extern bool q2_is_pinned_locked (const struct qcow2_image *image,
                                 uint64_t host_off)
  __attribute__ ((__nonnull__));
extern bool q2_is_any_pinned_locked (const struct qcow2_image *image,
                                     enum q2_pinned kind)
  __attribute__ ((__nonnull__));

/* attach.c: open what the header refers to, and unlock the image. */
extern int q2_attach (struct q2_store *store, const struct q2_io *io,
                      const struct q2_header *header,
                      const struct qcow2_options *options,
                      struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Fill in an image, of which only file_size and counting are set, from the
 * file.  On error what was made so far stays in it for qcow2_close.
 */
extern int q2_image_init (struct qcow2_image *image,
                          const struct qcow2_io *host,
                          const struct qcow2_options *options,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_IMAGE_IMAGE_H */
