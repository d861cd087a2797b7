/* SPDX-License-Identifier: BSD-3-Clause */
/* unit.c - counting and reporting of checks; see unit.h.
 *
 * Locks     the counters are atomic; the context belongs to its thread.
 */
#include "config.h"

#include "unit.h"

#include <stdarg.h>
#include <stdatomic.h>

#define MAX_FAILURES 20

static atomic_ulong nr_checks;
static atomic_ulong nr_failures;
static _Thread_local char context[512];

/* A bug that the engine finds in itself ends the test. */
static void __attribute__ ((__constructor__))
abort_on_bugs (void)
{
  setenv ("QCOW2_ABORT_ON_BUGS", "1", 0);
}

void
unit_context (const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  vsnprintf (context, sizeof context, fmt, args);
  va_end (args);
}

static void
fail (const char *file, int line, const char *text)
{
  fprintf (stderr, "%s:%d: FAILED: %s%s%s%s\n", file, line, text,
           context[0] ? " [" : "", context, context[0] ? "]" : "");
  if (atomic_fetch_add (&nr_failures, 1) + 1 >= MAX_FAILURES) {
    fprintf (stderr, "too many failures\n");
    _Exit (1);
  }
}

bool
unit_check (bool ok, const char *file, int line, const char *fmt, ...)
{
  char text[512];
  va_list args;

  atomic_fetch_add_explicit (&nr_checks, 1, memory_order_relaxed);
  if (ok)
    return true;
  va_start (args, fmt);
  vsnprintf (text, sizeof text, fmt, args);
  va_end (args);
  fail (file, line, text);
  return false;
}

bool
unit_check_equal (uint64_t a, uint64_t b, const char *file, int line,
                  const char *a_text, const char *b_text)
{
  if (a == b)
    return unit_check (true, file, line, "%s", a_text);
  return unit_check (false, file, line,
                     "%s == %s: 0x%" PRIx64 " (%" PRIu64 ") is not 0x%"
                     PRIx64 " (%" PRIu64 ")", a_text, b_text, a, a, b, b);
}

bool
unit_check_bytes (const void *a, const void *b, size_t len, const char *file,
                  int line)
{
  const unsigned char *const p = a, *const q = b;
  size_t i = 0;

  if (len == 0 || memcmp (a, b, len) == 0)
    return unit_check (true, file, line, "bytes");
  while (p[i] == q[i])
    ++i;
  return unit_check (false, file, line,
                     "byte %zu of %zu is 0x%02x, it should be 0x%02x", i,
                     len, p[i], q[i]);
}

bool
unit_check_error (const struct qcow2_error *err, enum qcow2_error_kind kind,
                  uint64_t host_off, const char *file, int line)
{
  return unit_check (err->kind == kind && err->offset == host_off &&
                     err->errnum > 0 && err->text[0] != '\0' &&
                     strchr (err->text, '\n') == NULL,
                     file, line,
                     "the error has kind %d, offset 0x%" PRIx64 ", errno %d, "
                     "text '%s'; kind %d and offset 0x%" PRIx64 " were "
                     "expected", (int) err->kind, err->offset, err->errnum,
                     err->text, (int) kind, host_off);
}

_Noreturn void
unit_skip (const char *why)
{
  printf ("skipped: %s\n", why);
  exit (UNIT_SKIP);
}

unsigned long
unit_failures (void)
{
  return nr_failures;
}

int
unit_finish (void)
{
  const unsigned long checks = nr_checks, failures = nr_failures;

  printf ("%lu checks, %lu failures\n", checks, failures);
  /* A test that checked nothing has not passed. */
  return checks == 0 || failures > 0;
}

unsigned
unit_scaled (unsigned iterations)
{
  const char *const scale = getenv ("UNIT_SCALE");
  const uint64_t n =
    scale ? iterations * strtoull (scale, NULL, 10) / 100 : iterations;

  return n > 0 ? (unsigned) n : 1;
}

void
rng_fill (struct rng *rng, void *buf, size_t len)
{
  unsigned char *p = buf;

  while (len > 0) {
    const uint64_t v = rng_next (rng);
    const size_t n = len < sizeof v ? len : sizeof v;

    memcpy (p, &v, n);
    p += n;
    len -= n;
  }
}
