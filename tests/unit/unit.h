/* SPDX-License-Identifier: BSD-3-Clause */
/* unit.h - checks for the unit tests.
 *
 * A failed CHECK prints its place, the condition and the context, and is
 * counted; the test goes on, so that one run shows several errors.  A failed
 * REQUIRE ends the program.  main returns unit_finish ().
 *
 * Any thread may use CHECK*.  unit_context describes the present test of the
 * calling thread, and is printed with each of its failures.
 */
#ifndef UNIT_H
#define UNIT_H

#include "qcow2.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Exit status of a test that cannot run here. */
#define UNIT_SKIP 77

extern void unit_context (const char *fmt, ...)
  __attribute__ ((__format__ (printf, 1, 2)));
extern bool unit_check (bool ok, const char *file, int line, const char *fmt,
                        ...)
  __attribute__ ((__format__ (printf, 4, 5)));
extern bool unit_check_equal (uint64_t a, uint64_t b, const char *file,
                              int line, const char *a_text,
                              const char *b_text);
extern bool unit_check_bytes (const void *a, const void *b, size_t len,
                              const char *file, int line);
extern bool unit_check_error (const struct qcow2_error *err,
                              enum qcow2_error_kind kind, uint64_t host_off,
                              const char *file, int line);
extern _Noreturn void unit_skip (const char *why);
extern unsigned long unit_failures (void);
extern int unit_finish (void);

/* Scales the number of iterations of a seeded test by the environment variable
 * UNIT_SCALE, in percent; at least 1.
 */
extern unsigned unit_scaled (unsigned iterations);

#define CHECK(cond) unit_check ((cond), __FILE__, __LINE__, "%s", #cond)
#define CHECK_EQ(a, b)                                                        \
  unit_check_equal ((uint64_t) (a), (uint64_t) (b), __FILE__, __LINE__, #a, #b)
#define CHECK_BYTES(a, b, len)                                                \
  unit_check_bytes ((a), (b), (len), __FILE__, __LINE__)
/* The kind and the host offset of an error; its wording is free. */
#define CHECK_ERROR(err, kind, host_off)                                      \
  unit_check_error ((err), (kind), (host_off), __FILE__, __LINE__)
#define REQUIRE(cond)                                                         \
  do {                                                                        \
    if (!CHECK (cond))                                                        \
      exit (unit_finish ());                                                  \
  } while (0)

/* ---- Random numbers -------------------------------------------------- */

/* Seeded, the same on every machine. */
struct rng {
  uint64_t state;
};

static inline uint64_t
rng_next (struct rng *rng)
{
  uint64_t z = rng->state += UINT64_C (0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

/* 0 <= result < n */
static inline uint64_t
rng_below (struct rng *rng, uint64_t n)
{
  return rng_next (rng) % n;
}

extern void rng_fill (struct rng *rng, void *buf, size_t len);

/* ---- Fields ------------------------------------------------------------ */

/* Store a big-endian field of 'len' bytes, 1 to 8. */
static inline void
put_be (unsigned char *p, unsigned len, uint64_t v)
{
  while (len-- > 0) {
    p[len] = (unsigned char) v;
    v >>= 8;
  }
}

#endif /* UNIT_H */
