/* SPDX-License-Identifier: BSD-3-Clause */
/* info.c - what one file is, printed.
 *
 * Owns      how it looks: qemu-img's fields and words; what qemu-img does not
 *           have is in an object "nbdkit-qcow2".
 * Method    everything comes from the header, the snapshot table and the
 *           bitmap directory; no other file is opened.
 * Locks     none.
 */
#include "config.h"

#include "info.h"

#include "lists.h"
#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- Both ways ---------------------------------------------------------- */

/* Bytes that a local file takes on its disk; false: that is not known. */
static bool
space_taken (const struct subject *s, uint64_t *ret)
{
  struct stat st;

  if (s->path == NULL || stat (s->path, &st) == -1 || S_ISBLK (st.st_mode))
    return false;
  *ret = (uint64_t) st.st_blocks * 512;
  return true;
}

/* The path that a relative name in the header stands for, as qemu-img says it:
 * beside the image.  To be freed.
 */
static char *
full_name (const struct subject *s, const struct qcow2_name *name)
{
  const char *const slash = s->path ? strrchr (s->path, '/') : NULL;
  const size_t colon = strcspn (name->bytes, ":/");
  char *full = NULL;

  if (slash == NULL || name->bytes[0] == '/' ||
      (colon < name->len && name->bytes[colon] == ':'))
    full = strndup (name->bytes, name->len);
  else if (asprintf (&full, "%.*s/%.*s", (int) (slash - s->path), s->path,
                     (int) name->len, name->bytes) == -1)
    full = NULL;
  return full;
}

/* LUKS names a key of two halves by its whole length. */
static unsigned
cipher_bits (const struct qcow2_luks *luks)
{
  const unsigned bits = 8 * luks->key_bytes;

  return strncmp (luks->mode, "xts", 3) == 0 ? bits / 2 : bits;
}

/* "xts-plain64", "cbc-essiv:sha256" */
struct mode {
  char text[33];
  const char *mode, *iv, *iv_hash;      /* the last one may be NULL */
};

static void
split_mode (const struct qcow2_luks *luks, struct mode *m)
{
  char *p;

  snprintf (m->text, sizeof m->text, "%s", luks->mode);
  m->mode = m->text;
  m->iv = "";
  m->iv_hash = NULL;
  p = strchr (m->text, '-');
  if (p == NULL)
    return;
  *p = '\0';
  m->iv = p + 1;
  p = strchr (p + 1, ':');
  if (p == NULL)
    return;
  *p = '\0';
  m->iv_hash = p + 1;
}

static const char *
compression_name (const struct qcow2_info *info)
{
  return info->compression == QCOW2_COMPRESSION_ZSTD ? "zstd" : "zlib";
}

/* ---- JSON --------------------------------------------------------------- */

static struct value *
slots_json (const struct qcow2_luks *luks)
{
  struct value *const slots = value_array ();

  for (size_t n = 0; n < QCOW2_NR_KEY_SLOTS; ++n) {
    const struct qcow2_key_slot *const s = &luks->slots[n];
    struct value *const slot = value_object ();

    value_set (slot, "active", value_bool (s->active));
    if (s->active) {
      value_set (slot, "iters", value_number (s->iterations));
      value_set (slot, "stripes", value_number (s->stripes));
    }
    value_set (slot, "key-offset", value_number (s->key_offset));
    value_append (slots, slot);
  }
  return slots;
}

static struct value *
encrypt_json (const struct qcow2_info *info, const struct qcow2_luks *luks)
{
  struct value *const v = value_object ();
  char cipher[60];
  struct mode m;

  value_set (v, "format", value_text (info->encryption == QCOW2_ENCRYPTION_AES
                                      ? "aes" : "luks"));
  if (luks == NULL)
    return v;
  split_mode (luks, &m);
  snprintf (cipher, sizeof cipher, "%s-%u", luks->cipher, cipher_bits (luks));
  value_set (v, "cipher-alg", value_text (cipher));
  value_set (v, "cipher-mode", value_text (m.mode));
  value_set (v, "ivgen-alg", value_text (m.iv));
  if (m.iv_hash)
    value_set (v, "ivgen-hash-alg", value_text (m.iv_hash));
  value_set (v, "hash-alg", value_text (luks->hash));
  value_set (v, "uuid", value_text (luks->uuid));
  value_set (v, "payload-offset", value_number (luks->payload_offset));
  value_set (v, "master-key-iters", value_number (luks->digest_iterations));
  value_set (v, "slots", slots_json (luks));
  return v;
}

static int
specific_json (const struct subject *s, const struct qcow2_details *d,
               struct value **ret, struct qcow2_error *err)
{
  const struct qcow2_info info = qcow2_get_info (s->image);
  struct value *const v = value_object (), *const data = value_object ();
  struct value *bitmaps;

  *ret = v;
  value_set (v, "type", value_text ("qcow2"));
  value_set (v, "data", data);
  value_set (data, "compat", value_text (info.version == 2 ? "0.10" : "1.1"));
  value_set (data, "compression-type", value_text (compression_name (&info)));
  value_set (data, "refcount-bits", value_number (info.refcount_bits));
  if (info.version > 2) {
    value_set (data, "lazy-refcounts", value_bool (info.lazy_refcounts));
    value_set (data, "corrupt", value_bool (info.corrupt));
    value_set (data, "extended-l2", value_bool (info.extended_l2));
  }
  if (info.has_data_file) {
    if (d->data_file.len > 0)
      value_set (data, "data-file",
                 value_bytes (d->data_file.bytes, d->data_file.len));
    value_set (data, "data-file-raw", value_bool (d->data_file_raw));
  }
  if (info.encryption != QCOW2_ENCRYPTION_NONE)
    value_set (data, "encrypt", encrypt_json (&info, d->luks));
  if (info.nr_bitmaps == 0)
    return 0;
  if (bitmaps_json (s->image, s->io, &bitmaps, err) == -1) {
    value_free (v);
    return -1;
  }
  value_set (data, "bitmaps", bitmaps);
  return 0;
}

static struct value *
ours_json (const struct subject *s, const struct qcow2_details *d)
{
  struct value *const v = value_object (), *const bits = value_object ();

  value_set (v, "file-size", value_number (s->io->size));
  value_set (bits, "incompatible", value_number (d->incompatible));
  value_set (bits, "compatible", value_number (d->compatible));
  value_set (bits, "autoclear", value_number (d->autoclear));
  value_set (v, "feature-bits", bits);
  return v;
}

static int
qcow2_json (const struct subject *s, struct value *v,
            const struct qcow2_details *d, struct qcow2_error *err)
{
  const struct qcow2_info info = qcow2_get_info (s->image);
  struct value *list;

  if (info.encryption != QCOW2_ENCRYPTION_NONE)
    value_set (v, "encrypted", value_bool (true));
  if (d->backing_file.len > 0) {
    char *const full = full_name (s, &d->backing_file);

    value_set (v, "backing-filename",
               value_bytes (d->backing_file.bytes, d->backing_file.len));
    value_set (v, "full-backing-filename",
               full ? value_text (full) : NULL);
    free (full);
  }
  if (d->backing_format.len > 0)
    value_set (v, "backing-filename-format",
               value_bytes (d->backing_format.bytes, d->backing_format.len));
  if (info.nr_snapshots > 0) {
    if (snapshots_json (s->image, s->io, &list, err) == -1)
      return -1;
    value_set (v, "snapshots", list);
  }
  if (info.version == 1)
    return 0;
  if (specific_json (s, d, &list, err) == -1)
    return -1;
  value_set (v, "format-specific", list);
  value_set (v, "nbdkit-qcow2", ours_json (s, d));
  return 0;
}

/* NULL if it is no image. */
static const struct qcow2_info *
get_info (const struct subject *s, struct qcow2_info *ret)
{
  if (s->image == NULL)
    return NULL;
  *ret = qcow2_get_info (s->image);
  return ret;
}

int
info_json (const struct subject *s, struct value **ret,
           struct qcow2_error *err)
{
  struct qcow2_info of_image;
  const struct qcow2_info *const info = get_info (s, &of_image);
  struct value *const v = *ret = value_object ();
  struct qcow2_details *d;
  uint64_t space;
  int r;

  value_set (v, "filename", value_text (s->name));
  value_set (v, "format", value_text (info == NULL ? "raw"
                                      : info->version == 1 ? "qcow"
                                      : "qcow2"));
  value_set (v, "virtual-size",
             value_number (info ? info->virtual_size : s->io->size));
  if (space_taken (s, &space))
    value_set (v, "actual-size", value_number (space));
  value_set (v, "dirty-flag", value_bool (info && info->dirty));
  if (info == NULL)
    return 0;
  value_set (v, "cluster-size", value_number (info->cluster_size));
  d = qcow2_get_details (s->image, s->io, err);
  r = d ? qcow2_json (s, v, d, err) : -1;
  qcow2_details_free (d);
  if (r == -1)
    value_free (v);
  return r;
}

/* ---- For people --------------------------------------------------------- */

static const char *
yes (bool is)
{
  return is ? "true" : "false";
}

static void
print_name (const char *what, const struct qcow2_name *name)
{
  printf ("%s: ", what);
  print_bytes (name->bytes, name->len);
  printf ("\n");
}

static void
print_luks (const struct qcow2_luks *luks)
{
  struct mode m;

  split_mode (luks, &m);
  printf ("        cipher alg: %s-%u\n        cipher mode: %s\n"
          "        ivgen alg: %s\n", luks->cipher, cipher_bits (luks), m.mode,
          m.iv);
  if (m.iv_hash)
    printf ("        ivgen hash alg: %s\n", m.iv_hash);
  printf ("        hash alg: %s\n        uuid: %s\n"
          "        payload offset: %" PRIu64 "\n"
          "        master key iters: %" PRIu32 "\n        slots:\n",
          luks->hash, luks->uuid, luks->payload_offset,
          luks->digest_iterations);
  for (size_t n = 0; n < QCOW2_NR_KEY_SLOTS; ++n) {
    const struct qcow2_key_slot *const s = &luks->slots[n];

    printf ("            [%zu]:\n                active: %s\n", n,
            yes (s->active));
    if (s->active)
      printf ("                iters: %" PRIu32 "\n"
              "                stripes: %" PRIu32 "\n", s->iterations,
              s->stripes);
    printf ("                key offset: %" PRIu64 "\n", s->key_offset);
  }
}

static void
print_specific (const struct qcow2_info *info, const struct qcow2_details *d)
{
  printf ("Format specific information:\n    compat: %s\n"
          "    compression type: %s\n    refcount bits: %u\n",
          info->version == 2 ? "0.10" : "1.1", compression_name (info),
          info->refcount_bits);
  if (info->version > 2)
    printf ("    lazy refcounts: %s\n    corrupt: %s\n    extended l2: %s\n",
            yes (info->lazy_refcounts), yes (info->corrupt),
            yes (info->extended_l2));
  if (info->has_data_file) {
    print_name ("    data file", &d->data_file);
    printf ("    data file raw: %s\n", yes (d->data_file_raw));
  }
  if (info->encryption != QCOW2_ENCRYPTION_NONE)
    printf ("    encrypt:\n        format: %s\n",
            info->encryption == QCOW2_ENCRYPTION_AES ? "aes" : "luks");
  if (d->luks)
    print_luks (d->luks);
}

static int
print_qcow2 (const struct subject *s, const struct qcow2_details *d,
             struct qcow2_error *err)
{
  const struct qcow2_info info = qcow2_get_info (s->image);

  if (info.encryption != QCOW2_ENCRYPTION_NONE)
    printf ("encrypted: yes\n");
  printf ("cluster_size: %" PRIu64 "\n", info.cluster_size);
  if (info.dirty)
    printf ("cleanly shut down: no\n");
  if (d->backing_file.len > 0) {
    char *const full = full_name (s, &d->backing_file);
    const struct qcow2_name name = { full, full ? strlen (full) : 0 };

    printf ("backing file: ");
    print_bytes (d->backing_file.bytes, d->backing_file.len);
    if (full && (name.len != d->backing_file.len ||
                 memcmp (full, d->backing_file.bytes, name.len) != 0)) {
      printf (" (actual path: ");
      print_bytes (name.bytes, name.len);
      printf (")");
    }
    printf ("\n");
    free (full);
  }
  if (d->backing_format.len > 0)
    print_name ("backing file format", &d->backing_format);
  if (snapshots_print (s->image, s->io, err) == -1 ||
      bitmaps_print (s->image, s->io, err) == -1)
    return -1;
  if (info.version > 1)
    print_specific (&info, d);
  return 0;
}

int
info_print (const struct subject *s, struct qcow2_error *err)
{
  struct qcow2_info of_image;
  const struct qcow2_info *const info = get_info (s, &of_image);
  const uint64_t size = info ? info->virtual_size : s->io->size;
  char text[SIZE_TEXT];
  struct qcow2_details *d;
  uint64_t space;
  int r;

  printf ("image: %s\nfile format: %s\n", s->name, info == NULL ? "raw"
          : info->version == 1 ? "qcow" : "qcow2");
  printf ("virtual size: %s (%" PRIu64 " bytes)\n", size_text (text, size),
          size);
  if (space_taken (s, &space))
    printf ("disk size: %s\n", size_text (text, space));
  if (info == NULL)
    return 0;
  d = qcow2_get_details (s->image, s->io, err);
  if (d == NULL)
    return -1;
  r = print_qcow2 (s, d, err);
  qcow2_details_free (d);
  return r;
}
