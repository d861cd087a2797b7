/* SPDX-License-Identifier: BSD-3-Clause */
/* foreign.c - recognizes other formats, for messages.
 *
 * Owns      the magic bytes of other formats, and the remedy for each.
 * Method    compares magic bytes.  The result appears only in messages and
 *           decides nothing.
 * Locks     none.
 */
#include "config.h"

#include "format/foreign.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define CONVERT(name, driver)                                                 \
  "it is a " name " image, which the qcow2 filter does not read; convert "    \
  "it with 'qemu-img convert -f " driver " -O qcow2 FILE NEW.qcow2'"
#define UNPACK(name, filter)                                                  \
  "it is compressed with " name "; put nbdkit's " filter " filter below, "    \
  "--filter=qcow2 --filter=" filter ", or unpack it"

static const struct {
  size_t offset;
  const char *magic;
  size_t len;
  const char *text;
} formats[] = {
  { 0, "KDMV", 4, CONVERT ("VMDK", "vmdk") },
  { 0, "COWD", 4, CONVERT ("VMDK", "vmdk") },
  { 0, "# Disk DescriptorFile", 21, CONVERT ("VMDK", "vmdk") },
  { 0, "con" "ectix", 8, CONVERT ("VHD", "vpc") },
  { 0, "vhdxfile", 8, CONVERT ("VHDX", "vhdx") },
  { 64, "\x7f\x10\xda\xbe", 4, CONVERT ("VDI", "vdi") },
  { 0, "QED\0", 4, CONVERT ("QED", "qed") },
  { 0, "WithoutFreeSpace", 16, CONVERT ("Parallels", "parallels") },
  { 0, "WithouFreSpacExt", 16, CONVERT ("Parallels", "parallels") },
  { 0, "\x1f\x8b", 2, UNPACK ("gzip", "gzip") },
  { 0, "\xfd" "7zXZ\0", 6, UNPACK ("xz", "xz") },
  { 0, "BZh", 3, UNPACK ("bzip2", "bzip2") },
  { 0, "LZIP", 4, UNPACK ("lzip", "lzip") },
  { 0, "\x28\xb5\x2f\xfd", 4, "it is compressed with zstd; unpack it with "
    "'zstd -d'" },
  { 0, "PK\3\4", 4, "it is a ZIP archive; unpack it with 'unzip'" },
  { 257, "ustar", 5, "it is a tar archive (as OVA files are); put nbdkit's "
    "tar filter below, --filter=qcow2 --filter=tar, with tar-entry=NAME" },
  { 0, "LUKS\xba\xbe", 6, "it is encrypted as a whole with LUKS; put "
    "nbdkit's luks filter below, --filter=qcow2 --filter=luks, or, if it is "
    "a raw disk, in the place of the qcow2 filter" },
};

static bool
begins_with_nocase (const unsigned char *bytes, size_t len, const char *word)
{
  return len >= strlen (word) &&
    strncasecmp ((const char *) bytes, word, strlen (word)) == 0;
}

static bool
is_all_zero (const unsigned char *bytes, size_t len)
{
  for (size_t i = 0; i < len; ++i)
    if (bytes[i] != 0)
      return false;
  return true;
}

const char *
q2_foreign_describe (const unsigned char *bytes, size_t len)
{
  for (size_t i = 0; i < sizeof formats / sizeof formats[0]; ++i)
    if (formats[i].offset + formats[i].len <= len &&
        memcmp (bytes + formats[i].offset, formats[i].magic,
                formats[i].len) == 0)
      return formats[i].text;
  if (begins_with_nocase (bytes, len, "<!doctype") ||
      begins_with_nocase (bytes, len, "<html"))
    return "it is a web page, perhaps what a server has sent in the place of "
      "a file; download the image again";
  if (is_all_zero (bytes, len))
    return "it begins with zeros; a download that was not finished may look "
      "like that, and so may a raw disk, for which the qcow2 filter must be "
      "left out";
  return "the file does not start with the magic bytes 'QFI\\xfb'; to serve "
    "a raw disk, leave out the qcow2 filter";
}
