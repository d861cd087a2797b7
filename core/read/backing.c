/* SPDX-License-Identifier: BSD-3-Clause */
/* backing.c - how the disk of a backing image is read.
 *
 * Owns      the table through which data/store.c gets at the image below.
 * Method    the store decides that bytes come from the backing image, and a
 *           reader asks the store for bytes; the table is what keeps the two
 *           from including each other.
 * Locks     none.
 */
#include "config.h"

#include "read/reader.h"

const struct q2_backing_ops q2_reader_backing_ops = {
  .pread = q2_reader_pread,
  .extents = q2_reader_extents,
  .cache = q2_reader_cache,
};
