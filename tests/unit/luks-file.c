/* SPDX-License-Identifier: BSD-3-Clause */
/* luks-file.c - decrypts the disk of an encrypted image file; for tests that
 * compare with QEMU.
 *
 * usage: luks-file IMAGE PASSPHRASE OUT
 *
 * Writes the disk to OUT.  What a backing file or compressed clusters would
 * have is left out.  Exit status 1 if the passphrase does not open the image,
 * 2 if anything else fails.
 */
#include "config.h"

#include "base/bits.h"
#include "base/error.h"
#include "format/header.h"
#include "map/map.h"
#include "meta/luks.h"
#include "meta/tables.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CACHE (UINT64_C (4) << 20)
#define PIECE (UINT64_C (1) << 20)
#define RUNS 16

static int
file_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
            enum qcow2_io_class class)
{
  const int fd = *(const int *) opaque;

  (void) class;
  while (count > 0) {
    const ssize_t n = pread (fd, buf, count, (off_t) host_off);

    if (n <= 0)
      return n == 0 ? EIO : errno;
    buf = (char *) buf + n;
    count -= (uint32_t) n;
    host_off += (uint64_t) n;
  }
  return 0;
}

static const struct qcow2_io_ops ops = { .pread = file_pread };

static _Noreturn void
die (const struct qcow2_error *err)
{
  fprintf (stderr, "luks-file: %s\n", err->text);
  exit (err->kind == QCOW2_ERR_AUTH ? 1 : 2);
}

static _Noreturn void
die_errno (const char *what)
{
  perror (what);
  exit (2);
}

static void
read_header (const struct q2_io *io, struct q2_header *h,
             struct q2_geometry *geo)
{
  const size_t len = UINT64_C (1) << Q2_MAX_CLUSTER_BITS;
  unsigned char *const area = malloc (len);
  struct qcow2_error err;

  if (area == NULL)
    abort ();
  if (q2_io_read (io, area, len, 0, QCOW2_IO_HEADER, &err) == -1 ||
      q2_header_decode (area, len, h, geo, &err) == -1)
    die (&err);
  free (area);
}

static struct q2_cipher *
unlock (const struct q2_io *io, const struct q2_header *h,
        const char *passphrase)
{
  const size_t len = strlen (passphrase);
  struct q2_cipher *cipher;
  struct qcow2_error err;

  if (h->crypt == Q2_CRYPT_NONE) {
    fprintf (stderr, "luks-file: the image is not encrypted\n");
    exit (2);
  }
  if (h->crypt == Q2_CRYPT_AES) {
    cipher = q2_cipher_aes_legacy (passphrase, len, &err);
    if (cipher == NULL)
      die (&err);
  }
  else if (q2_luks_unlock (io, h->luks_offset, h->luks_bytes, passphrase,
                           len, &cipher, &err) == -1)
    die (&err);
  return cipher;
}

/* Copy one run to where it belongs in the output, which is full of holes. */
static void
copy_run (const struct q2_io *io, const struct q2_header *h,
          const struct q2_cipher *cipher, const struct q2_run *run, int out)
{
  static unsigned char buf[PIECE];
  struct qcow2_error err;

  if (run->kind != Q2_RUN_DATA)
    return;
  for (uint64_t done = 0; done < run->len; done += PIECE) {
    const uint64_t guest_off = run->guest_off + done;
    const uint64_t host_off = run->host_off + done;
    const uint64_t n = q2_min (PIECE, run->len - done);
    const uint64_t sectors = q2_align_up (n, Q2_CRYPT_SECTOR);

    if (q2_io_read (io, buf, sectors, host_off, QCOW2_IO_DATA, &err) == -1)
      die (&err);
    q2_cipher_decrypt (cipher, buf, buf, sectors,
                       (h->crypt == Q2_CRYPT_LUKS ? host_off : guest_off) /
                       Q2_CRYPT_SECTOR);
    if (pwrite (out, buf, n, (off_t) guest_off) != (ssize_t) n)
      die_errno ("pwrite");
  }
}

static void
copy_disk (const struct q2_io *io, const struct q2_header *h,
           const struct q2_geometry *geo, const struct q2_cipher *cipher,
           int out)
{
  struct qcow2_error err;
  struct q2_run runs[RUNS];
  struct q2_tables *const tables =
    q2_tables_new (geo, io, h->l1_offset, h->l1_entries, CACHE, &err);
  uint64_t at = 0;
  size_t nr;

  if (tables == NULL)
    die (&err);
  if (ftruncate (out, (off_t) geo->virtual_size) == -1)
    die_errno ("ftruncate");
  while (at < geo->virtual_size) {
    if (q2_map_runs (tables, io, at, geo->virtual_size - at, runs, RUNS, &nr,
                     &err) == -1)
      die (&err);
    for (size_t i = 0; i < nr; ++i)
      copy_run (io, h, cipher, &runs[i], out);
    at = runs[nr - 1].guest_off + runs[nr - 1].len;
  }
  q2_tables_free (tables);
}

int
main (int argc, char *argv[])
{
  struct q2_io_shared shared = { 0 };
  struct qcow2_io host = { .ops = &ops, .min_block = 1 };
  struct q2_io io = { .host = &host, .shared = &shared };
  struct q2_header h;
  struct q2_geometry geo;
  struct q2_cipher *cipher;
  struct stat st;
  int in, out;

  if (argc != 4) {
    fprintf (stderr, "usage: luks-file IMAGE PASSPHRASE OUT\n");
    return 2;
  }
  in = open (argv[1], O_RDONLY | O_CLOEXEC);
  if (in == -1 || fstat (in, &st) == -1)
    die_errno (argv[1]);
  host.opaque = &in;
  host.size = io.file_size = (uint64_t) st.st_size;
  q2_io_shared_init (&shared);
  read_header (&io, &h, &geo);
  cipher = unlock (&io, &h, argv[2]);
  out = open (argv[3], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (out == -1)
    die_errno (argv[3]);
  copy_disk (&io, &h, &geo, cipher, out);
  q2_cipher_free (cipher);
  q2_io_shared_destroy (&shared);
  if (close (out) == -1)
    die_errno (argv[3]);
  close (in);
  return 0;
}
