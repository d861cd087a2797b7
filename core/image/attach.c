/* SPDX-License-Identifier: BSD-3-Clause */
/* attach.c - what an image needs besides its own file.
 *
 * Owns      opening the backing file and the data file that the header
 *           names, through whoever opens the image, and unlocking what is
 *           encrypted.
 * Method    names are read from the header as they are; what they mean is
 *           for options->open_file to say.  Without that an image that needs
 *           another file is refused.
 * Locks     none: nobody else knows the image yet.
 * Does not  open files, or keep the passphrase.
 * Spec      "Backing file name", "External data file name string",
 *           "Backing file format name", "Encryption".
 */
#include "config.h"

#include "image/image.h"
#include "data/unlock.h"

#include "base/assume.h"
#include "base/cleanup.h"
#include "base/error.h"

#include <inttypes.h>

/* ---- Encryption ------------------------------------------------------- */

static int
fail_no_passphrase (const struct q2_header *h, struct qcow2_error *err)
{
  return q2_fail_advise (err, QCOW2_ERR_AUTH, QCOW2_ADVICE_PASSPHRASE,
                         h->version == 1 ? 36 : 32,
                         "the image is encrypted with %s",
                         h->crypt == Q2_CRYPT_AES ? "AES" : "LUKS");
}

static int
unlock (struct q2_store *s, const struct q2_io *io,
        const struct q2_header *h, const struct qcow2_options *options,
        struct qcow2_error *err)
{
  if (h->crypt == Q2_CRYPT_NONE)
    return 0;
  if (options->passphrase == NULL)
    return fail_no_passphrase (h, err);
  if (h->crypt == Q2_CRYPT_AES) {
    s->guest_iv = true;
    s->cipher = q2_cipher_aes_legacy (options->passphrase,
                                      options->passphrase_len, err);
    return s->cipher ? 0 : -1;
  }
  if (h->luks_bytes == 0)
    return q2_fail (err, QCOW2_ERR_CORRUPT, 32,
                    "the image is encrypted with LUKS, but has no encryption "
                    "header, so nobody can decrypt it");
  return q2_luks_unlock (io, h->luks_offset, h->luks_bytes,
                         options->passphrase, options->passphrase_len,
                         options->keyring, &s->cipher, err);
}

/* ---- Names ------------------------------------------------------------ */

/* Formats are names of QEMU's drivers; longer ones are none. */
#define MAX_NAME 4096

/* The bytes of a name, in a new buffer; NULL and *err on failure. */
static char *
read_name (const struct q2_io *io, const struct q2_name *name,
           struct qcow2_error *err)
{
  Q2_CLEANUP_FREE char *bytes = NULL;

  if (name->len > MAX_NAME) {
    q2_fail (err, QCOW2_ERR_UNSUPPORTED, name->offset,
             "the name of another file in the header, at offset 0x%" PRIx64
             ", has %" PRIu32 " bytes", name->offset, name->len);
    return NULL;
  }
  bytes = calloc (1, (size_t) name->len + 1);
  if (bytes == NULL) {
    q2_fail_nomem (err, "the name of another file");
    return NULL;
  }
  if (q2_io_read (io, bytes, name->len, name->offset, QCOW2_IO_HEADER, err)
      == -1)
    return NULL;
  return q2_take (bytes);
}

static int
fail_refused (const struct qcow2_reference *ref, struct qcow2_error *err)
{
  char text[300];

  return q2_fail (err, QCOW2_ERR_REFUSED, QCOW2_NO_OFFSET,
                  "the image needs %s '%s', and files that an image names "
                  "are not opened",
                  ref->kind == QCOW2_BACKING_FILE ? "the backing file"
                  : "the data file",
                  q2_printable (text, sizeof text, ref->name,
                                ref->name_len));
}

static int
open_file (const struct qcow2_options *options,
           const struct qcow2_reference *ref, struct qcow2_file *ret,
           struct qcow2_error *err)
{
  if (options->open_file == NULL)
    return fail_refused (ref, err);
  return options->open_file (options->open_file_opaque, ref, ret, err);
}

/* ---- The backing file -------------------------------------------------- */

static int
attach_backing (struct q2_store *s, const struct q2_io *io,
                const struct q2_header *h,
                const struct qcow2_options *options, struct qcow2_error *err)
{
  Q2_CLEANUP_FREE char *name = NULL, *format = NULL;
  struct qcow2_reference ref = { .kind = QCOW2_BACKING_FILE };
  struct qcow2_file file = { .image = NULL };

  if (h->backing_file.len == 0)
    return 0;
  if ((name = read_name (io, &h->backing_file, err)) == NULL ||
      (format = read_name (io, &h->backing_format, err)) == NULL)
    return -1;
  ref.name = name;
  ref.name_len = h->backing_file.len;
  ref.format = format;
  ref.format_len = h->backing_format.len;
  ref.encrypted = h->crypt != Q2_CRYPT_NONE;
  if (open_file (options, &ref, &file, err) == -1)
    return -1;
  s->below_missing = file.image == NULL;
  if (s->below_missing)
    return 0;
  s->below = &file.image->reader;
  s->below_ops = &q2_reader_backing_ops;
  s->below_store = &file.image->store;
  s->below_host = file.io;
  s->below_shared = &file.image->shared;
  s->below_file_size = file.image->file_size;
  s->below_size = q2_image_info (file.image).virtual_size;
  s->below_reach = s->below_size;
  return 0;
}

/* ---- The data file ------------------------------------------------------ */

static int
attach_data (struct q2_store *s, const struct q2_io *io,
             const struct q2_header *h, const struct qcow2_options *options,
             struct qcow2_error *err)
{
  Q2_CLEANUP_FREE char *name = NULL;
  struct qcow2_reference ref = {
    .kind = QCOW2_DATA_FILE, .format = "", .writing = options->writable,
    .raw = h->autoclear & Q2_AUTOCLEAR_DATA_RAW,
    .encrypted = h->crypt != Q2_CRYPT_NONE,
  };
  struct qcow2_file file = { .image = NULL };

  if (!(h->incompatible & Q2_INCOMPAT_DATA_FILE))
    return 0;
  if ((name = read_name (io, &h->data_file, err)) == NULL)
    return -1;
  ref.name = name;
  ref.name_len = h->data_file.len;
  if (open_file (options, &ref, &file, err) == -1)
    return -1;
  s->data = file.io;
  s->raw = ref.raw;
  return 0;
}

int
q2_attach (struct q2_store *s, const struct q2_io *io,
           const struct q2_header *h, const struct qcow2_options *options,
           struct qcow2_error *err)
{
  if (!q2_assume (s->cipher == NULL && s->data == NULL && s->below == NULL,
                  err))
    return -1;
  if (unlock (s, io, h, options, err) == -1 ||
      attach_data (s, io, h, options, err) == -1 ||
      attach_backing (s, io, h, options, err) == -1)
    return -1;
  return 0;
}
