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

static const struct {
  size_t offset;
  const char *magic;
  size_t len;
  const char *text;
  enum qcow2_advice advice;
} formats[] = {
  { 0, Q2_CREATION_MARK, sizeof Q2_CREATION_MARK - 1,
    "one was to be created here, which was interrupted",
    QCOW2_ADVICE_CREATE },
  { 0, "KDMV", 4, "it is a VMDK image", QCOW2_ADVICE_VMDK },
  { 0, "COWD", 4, "it is a VMDK image", QCOW2_ADVICE_VMDK },
  { 0, "# Disk DescriptorFile", 21, "it is a VMDK image",
    QCOW2_ADVICE_VMDK },
  { 0, "con" "ectix", 8, "it is a VHD image", QCOW2_ADVICE_VPC },
  { 0, "vhdxfile", 8, "it is a VHDX image", QCOW2_ADVICE_VHDX },
  { 64, "\x7f\x10\xda\xbe", 4, "it is a VDI image", QCOW2_ADVICE_VDI },
  { 0, "QED\0", 4, "it is a QED image", QCOW2_ADVICE_QED },
  { 0, "WithoutFreeSpace", 16, "it is a Parallels image",
    QCOW2_ADVICE_PARALLELS },
  { 0, "WithouFreSpacExt", 16, "it is a Parallels image",
    QCOW2_ADVICE_PARALLELS },
  { 0, "\x1f\x8b", 2, "it is compressed with gzip", QCOW2_ADVICE_GZIP },
  { 0, "\xfd" "7zXZ\0", 6, "it is compressed with xz", QCOW2_ADVICE_XZ },
  { 0, "BZh", 3, "it is compressed with bzip2", QCOW2_ADVICE_BZIP2 },
  { 0, "LZIP", 4, "it is compressed with lzip", QCOW2_ADVICE_LZIP },
  { 0, "\x28\xb5\x2f\xfd", 4, "it is compressed with zstd",
    QCOW2_ADVICE_ZSTD },
  { 0, "PK\3\4", 4, "it is a ZIP archive", QCOW2_ADVICE_ZIP },
  { 257, "ustar", 5, "it is a tar archive (as OVA files are)",
    QCOW2_ADVICE_TAR },
  { 0, "LUKS\xba\xbe", 6, "it is encrypted as a whole with LUKS",
    QCOW2_ADVICE_LUKS },
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

static const char *
find_magic (const unsigned char *bytes, size_t len,
            enum qcow2_advice *ret_advice)
{
  for (size_t i = 0; i < sizeof formats / sizeof formats[0]; ++i)
    if (formats[i].offset + formats[i].len <= len &&
        memcmp (bytes + formats[i].offset, formats[i].magic,
                formats[i].len) == 0) {
      *ret_advice = formats[i].advice;
      return formats[i].text;
    }
  return NULL;
}

const char *
q2_foreign_describe (const unsigned char *bytes, size_t len,
                     enum qcow2_advice *ret_advice)
{
  const char *const text = find_magic (bytes, len, ret_advice);

  if (text != NULL)
    return text;
  if (begins_with_nocase (bytes, len, "<!doctype") ||
      begins_with_nocase (bytes, len, "<html")) {
    *ret_advice = QCOW2_ADVICE_DOWNLOAD;
    return "it is a web page, perhaps one that came in place of the file";
  }
  *ret_advice = QCOW2_ADVICE_RAW;
  if (is_all_zero (bytes, len))
    return "it begins with zeros; a download that was not finished may look "
      "like that, and so may a raw disk";
  return "the file does not start with the magic bytes 'QFI\\xfb'";
}
