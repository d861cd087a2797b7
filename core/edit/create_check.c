/* SPDX-License-Identifier: BSD-3-Clause */
/* create_check.c - which images can be created.
 *
 * Owns      the rules between options, and their messages.
 * Method    first what each version can have, then which options contradict
 *           each other; the rest is format/geometry.c's.
 * Locks     none; pure.
 */
#include "config.h"

#include "edit/create.h"

#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>

#define DEFAULT_CLUSTER_SIZE 65536
#define DEFAULT_REFCOUNT_BITS 16

/* Of a power of two. */
static unsigned
log2_of (uint64_t v)
{
  return (unsigned) __builtin_ctzll (v);
}

static int
refuse (struct qcow2_error *err, const char *what)
{
  return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET, "%s", what);
}

static int
check_version (const struct qcow2_create_options *o, struct qcow2_error *err)
{
  if (o->version != 0 && o->version != 2 && o->version != 3)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "no image of version %u can be created, only of 2 and 3",
                    o->version);
  if (o->version != 2)
    return 0;
  if (o->refcount_bits != 0 && o->refcount_bits != DEFAULT_REFCOUNT_BITS)
    return refuse (err, "refcounts of another width than 16 bits need "
                   "version 3");
  if (o->lazy_refcounts)
    return refuse (err, "lazy refcounts need version 3");
  if (o->extended_l2)
    return refuse (err, "extended L2 entries need version 3");
  if (o->compression != QCOW2_COMPRESSION_ZLIB)
    return refuse (err, "zstd compression needs version 3");
  if (o->data_file.len > 0)
    return refuse (err, "a data file needs version 3");
  return 0;
}

static int
check_files (const struct qcow2_create_options *o, struct qcow2_error *err)
{
  if (o->backing_file.len > Q2_MAX_BACKING_NAME)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "the name of the backing file has %zu bytes, at most %u "
                    "are possible", o->backing_file.len, Q2_MAX_BACKING_NAME);
  if (o->backing_file.len > 0 && o->backing_format.len == 0)
    return refuse (err, "a backing file needs its format: if readers had to "
                   "guess, a guest could make a raw disk look like a qcow2 "
                   "image");
  if (o->backing_file.len == 0 && o->backing_format.len > 0)
    return refuse (err, "a backing format needs a backing file");
  if (o->backing_format.len > 15)
    return refuse (err, "a backing format has at most 15 bytes");
  if (o->data_io != NULL && o->data_file.len == 0)
    return refuse (err, "a data file is open, but the image is to have none");
  if (o->keep_data && !o->data_file_raw)
    return refuse (err, "only the contents of a raw data file can be kept");
  if (o->data_file_raw && o->data_file.len == 0)
    return refuse (err, "a raw data file needs a data file");
  if (o->data_file_raw && o->backing_file.len > 0)
    return refuse (err, "a raw data file and a backing file cannot be used "
                   "together: the data file has to equal the disk");
  if (o->data_file.len > 0 && o->compression != QCOW2_COMPRESSION_ZLIB)
    return refuse (err, "an image with a data file has no compressed "
                   "clusters, so it needs no compression type");
  if (o->preallocation != QCOW2_PREALLOCATE_OFF && o->backing_file.len > 0 &&
      !o->extended_l2)
    return refuse (err, "preallocation and a backing file need extended L2 "
                   "entries: allocated clusters would hide the backing file");
  if (o->preallocation > QCOW2_PREALLOCATE_METADATA &&
      o->data_file.len > 0 && o->data_io == NULL)
    return refuse (err, "to allocate the space of the data file it has to be "
                   "open");
  return 0;
}

static int
check_encryption (const struct qcow2_create_options *o, struct q2_luks *luks,
                  struct qcow2_error *err)
{
  *luks = (struct q2_luks) { .key_bytes = 0 };
  if (o->encryption == QCOW2_ENCRYPTION_NONE)
    return 0;
  if (o->data_file.len > 0)
    return refuse (err, "an image with a data file cannot be encrypted: only "
                   "the image file would be");
  if (o->version == 2 && o->preallocation != QCOW2_PREALLOCATE_OFF)
    return refuse (err, "a preallocated image that is encrypted needs version "
                   "3: in version 2 no allocated cluster reads as zeros");
  return o->encryption == QCOW2_ENCRYPTION_LUKS
    ? q2_luks_choose (&o->luks, luks, err) : 0;
}

uint64_t
q2_create_luks_bytes (const struct qcow2_create_options *o,
                      const struct q2_luks *luks)
{
  return o->encryption == QCOW2_ENCRYPTION_LUKS
    ? q2_luks_bytes (luks->key_bytes) : 0;
}

int
q2_create_check (const struct qcow2_create_options *o,
                 struct q2_geometry *ret_geo, struct q2_luks *ret_luks,
                 struct qcow2_error *err)
{
  const uint64_t cluster_size =
    o->cluster_size ? o->cluster_size : DEFAULT_CLUSTER_SIZE;
  const unsigned refcount_bits =
    o->refcount_bits ? o->refcount_bits : DEFAULT_REFCOUNT_BITS;

  if (check_version (o, err) == -1 || check_files (o, err) == -1 ||
      check_encryption (o, ret_luks, err) == -1)
    return -1;
  if (!q2_is_pow2 (cluster_size) ||
      cluster_size < 1u << Q2_MIN_CLUSTER_BITS ||
      cluster_size > 1u << Q2_MAX_CLUSTER_BITS)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "invalid cluster size %" PRIu64 ": it must be a power of "
                    "two from 512 bytes to 2 MiB", cluster_size);
  if (!q2_is_pow2 (refcount_bits) || refcount_bits > 64)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "invalid refcount width of %u bits: it must be a power "
                    "of two from 1 to 64", refcount_bits);
  if (o->virtual_size > INT64_MAX - 511)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "virtual disk size %" PRIu64 " is too big",
                    o->virtual_size);
  return q2_geometry_init (ret_geo, &(struct q2_geometry_params) {
      .version = o->version ? o->version : 3,
      .virtual_size = q2_align_up (o->virtual_size, 512),
      .cluster_bits = log2_of (cluster_size),
      .extended_l2 = o->extended_l2, .data_file = o->data_file.len > 0,
      .refcount_order = log2_of (refcount_bits) }, err);
}
