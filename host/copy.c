/* SPDX-License-Identifier: BSD-3-Clause */
/* copy.c - copies bytes with ordinary loads and stores.
 *
 * Owns      nothing.
 * Method    vectors of 16 bytes, which every 64-bit processor has, or which
 *           the compiler makes of words; stores are aligned, loads need not
 *           be.  memcpy of glibc uses the same string instruction of the
 *           processor as the kernel, and so is slow where the kernel is
 *           (bounce.c).  Four vectors at a time are no pattern of which
 *           compilers make a call of memcpy.
 * Locks     none.
 */
#include "config.h"

#include "host/copy.h"

#include <stdint.h>
#include <string.h>

#define VECTOR 16
#define AT_ONCE (4 * VECTOR)

typedef unsigned char vector
  __attribute__ ((__vector_size__ (VECTOR), __may_alias__));
typedef unsigned char loose_vector
  __attribute__ ((__vector_size__ (VECTOR), __may_alias__,
                  __aligned__ (1)));

void
copy_bytes (void *restrict to, const void *restrict from, size_t len)
{
  unsigned char *t = to;
  const unsigned char *f = from;
  const size_t head = -(uintptr_t) t % VECTOR;

  if (len >= head + AT_ONCE) {
    memcpy (t, f, head);
    t += head;
    f += head;
    len -= head;
  }
  for (; len >= AT_ONCE && (uintptr_t) t % VECTOR == 0; len -= AT_ONCE) {
    const loose_vector *const v = (const loose_vector *) f;
    const loose_vector a = v[0], b = v[1], c = v[2], d = v[3];
    vector *const w = (vector *) t;

    w[0] = a;
    w[1] = b;
    w[2] = c;
    w[3] = d;
    t += AT_ONCE;
    f += AT_ONCE;
  }
  memcpy (t, f, len);
}
