/* SPDX-License-Identifier: BSD-3-Clause */
/* cipherbench.c - how fast one thread encrypts and decrypts.
 *
 * usage: cipherbench [BYTES...]
 *
 * For each cipher and mode, in MiB/s of CPU time: the best of several runs
 * over requests of so many bytes, by default 4 KiB and 64 KiB.
 */
#include "config.h"

#include "codec/cipher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_BYTES ((size_t) 1 << 21)
#define RUNS 5
#define RUN_SECONDS 0.05

static unsigned char buf[MAX_BYTES];

typedef void crypt_fn (const struct q2_cipher *, void *, const void *, size_t,
                       uint64_t);

static double
now (void)
{
  struct timespec t;

  clock_gettime (CLOCK_THREAD_CPUTIME_ID, &t);
  return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static double
best (crypt_fn *fn, const struct q2_cipher *c, size_t bytes)
{
  double result = 0;

  for (unsigned run = 0; run < RUNS; ++run) {
    const double start = now ();
    double seconds, done = 0;

    do {
      for (unsigned i = 0; i < 4; ++i)
        fn (c, buf, buf, bytes, i);
      done += 4.0 * (double) bytes;
      seconds = now () - start;
    } while (seconds < RUN_SECONDS);
    if (done / seconds > result)
      result = done / seconds;
  }
  return result / (1 << 20);
}

static void
bench (const char *name, const char *mode, size_t key_bytes, size_t bytes)
{
  unsigned char key[Q2_MAX_KEY_BYTES];
  struct q2_cipher_spec spec;
  struct qcow2_error err;
  struct q2_cipher *c = NULL;

  memset (key, 7, sizeof key);
  if (q2_cipher_spec_decode (name, mode, 0, &spec, &err) == 0)
    c = q2_cipher_new (&spec, key, key_bytes, &err);
  if (c == NULL) {
    fprintf (stderr, "cipherbench: %s\n", err.text);
    exit (1);
  }
  printf ("%-8s %-18s %4zu %8zu %9.0f %9.0f\n", name, mode, key_bytes * 8,
          bytes, best (q2_cipher_encrypt, c, bytes),
          best (q2_cipher_decrypt, c, bytes));
  q2_cipher_free (c);
}

static void
bench_all (size_t bytes)
{
  bench ("aes", "xts-plain64", 64, bytes);
  bench ("aes", "xts-plain64", 32, bytes);
  bench ("aes", "cbc-plain64", 16, bytes);
  bench ("aes", "cbc-essiv:sha256", 32, bytes);
  bench ("aes", "ctr-plain64", 32, bytes);
  bench ("aes", "ecb", 32, bytes);
  bench ("serpent", "xts-plain64", 64, bytes);
  bench ("twofish", "xts-plain64", 64, bytes);
  bench ("cast5", "cbc-plain64", 16, bytes);
}

int
main (int argc, char *argv[])
{
  printf ("%-8s %-18s %4s %8s %9s %9s\n", "cipher", "mode", "bits", "bytes",
          "encrypt", "decrypt");
  for (int i = 1; i < argc; ++i) {
    const size_t bytes = strtoul (argv[i], NULL, 0);

    if (bytes == 0 || bytes % Q2_CRYPT_SECTOR != 0 || bytes > MAX_BYTES) {
      fprintf (stderr, "usage: cipherbench [BYTES...]\n");
      return 1;
    }
    bench_all (bytes);
  }
  if (argc == 1) {
    bench_all (4096);
    bench_all (65536);
  }
  return 0;
}
