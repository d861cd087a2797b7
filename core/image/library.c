/* SPDX-License-Identifier: BSD-3-Clause */
/* library.c - what this build of the engine is and has.
 *
 * Owns      the answers that configure has found.
 * Locks     none.
 */
#include "config.h"

#include "qcow2.h"

const char *
qcow2_version (void)
{
  return PACKAGE_VERSION;
}

bool
qcow2_has_zlib (void)
{
#ifdef HAVE_ZLIB
  return true;
#else
  return false;
#endif
}

bool
qcow2_has_libdeflate (void)
{
#ifdef HAVE_LIBDEFLATE
  return true;
#else
  return false;
#endif
}

bool
qcow2_has_nettle (void)
{
#ifdef HAVE_NETTLE
  return true;
#else
  return false;
#endif
}

bool
qcow2_has_zstd (void)
{
#ifdef HAVE_ZSTD
  return true;
#else
  return false;
#endif
}
