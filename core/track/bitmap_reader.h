/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap_reader.h - the bits of a bitmap, piece by piece. */
#ifndef QCOW2_TRACK_BITMAP_READER_H
#define QCOW2_TRACK_BITMAP_READER_H

#include "format/bitmap.h"
#include "io/io.h"

/* Reads bits in ascending order, mostly. */
struct q2_bitmap_reader {
  const struct q2_geometry *geo;
  struct q2_io io;
  struct q2_bitmap b;
  uint64_t nr_bits;             /* that the disk has, and the table as well */
  char name[80];                /* printable */
  unsigned char *table;         /* a piece of it, and of the bits */
  unsigned char *bits;
  uint64_t table_index;         /* the first entry of that piece */
  uint64_t bits_off;            /* host offset of that; 0: none */
  uint64_t charge;              /* of the budget */
  const unsigned char *memory;  /* all bits are here; NULL: in the file */
  uint64_t memory_len;
};

/* Bytes of bits that are all there, or all alike. */
struct q2_bitmap_piece {
  const unsigned char *bytes;   /* NULL: all of them are equal to 'set' */
  bool set;
  uint64_t len;
};

/* On success the caller destroys it. */
extern int q2_bitmap_reader_init (struct q2_bitmap_reader *reader,
                                  const struct q2_geometry *geo,
                                  const struct q2_io *io,
                                  const struct q2_bitmap *bitmap,
                                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* All zero is allowed. */
extern void q2_bitmap_reader_destroy (struct q2_bitmap_reader *reader)
  __attribute__ ((__nonnull__));

/* A piece from byte 'off' of the bits on, valid until the next call.  Its
 * length is not 0, and may exceed the bits.
 */
extern int q2_bitmap_reader_get (struct q2_bitmap_reader *reader,
                                 uint64_t off, struct q2_bitmap_piece *ret,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same for bits in memory, 'len' bytes that outlive it. */
extern void q2_bitmap_reader_init_memory (struct q2_bitmap_reader *reader,
                                          const struct q2_geometry *geo,
                                          const struct q2_io *io,
                                          const struct q2_bitmap *bitmap,
                                          const unsigned char *bits,
                                          uint64_t len)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_TRACK_BITMAP_READER_H */
