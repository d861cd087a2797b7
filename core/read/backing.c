/* SPDX-License-Identifier: BSD-3-Clause */
/* backing.c - how the disk of a backing image is read.
 *
 * Owns      the table through which data/store.c reads the backing image.
 * Method    the store reads the backing image through a reader, and a reader
 *           reads bytes through the store.  With the table they need not
 *           include each other.
 * Locks     none.
 */
#include "config.h"

#include "read/reader.h"

const struct q2_backing_ops q2_reader_backing_ops = {
  .pread = q2_reader_pread,
  .extents = q2_reader_extents,
  .cache = q2_reader_cache,
};
