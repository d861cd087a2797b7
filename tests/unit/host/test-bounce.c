/* SPDX-License-Identifier: BSD-3-Clause */
/* test-bounce.c - reads through bounce buffers: which, how many, and that the
 * bytes are right.
 */
#include "config.h"

#include "host_files.h"
#include "threads.h"
#include "unit.h"

#include "host/bounce.h"
#include "host/copy.h"
#include "host/localfile.h"
#include "host/other.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define KIB UINT32_C (1024)
#define GUARD 64

/* ---- Copying ------------------------------------------------------------ */

static unsigned char from[130 * KIB], to[130 * KIB], want[130 * KIB];

/* All of 'to' is compared: nothing else may have changed. */
static void
copy_one (size_t to_off, size_t from_off, size_t len, size_t span)
{
  unit_context ("%zu bytes from +%zu to +%zu", len, from_off, to_off);
  memset (to, 0xa5, span);
  memset (want, 0xa5, span);
  memcpy (want + to_off, from + from_off, len);
  copy_bytes (to + to_off, from + from_off, len);
  if (memcmp (to, want, span) != 0)
    CHECK_BYTES (to, want, span);
}

static void
copies (void)
{
  static const size_t lengths[] = {
    511, 512, 4095, 4096, 4097, 65536 + 7, 128 * 1024,
  };
  struct rng rng = { 1 };

  rng_fill (&rng, from, sizeof from);
  for (size_t t = 0; t < 64; ++t)
    for (size_t f = 0; f < 64; f += 1 + t % 3)
      for (size_t len = 0; len < 4 * GUARD; len += 1 + f % 2)
        copy_one (t, f, len, t + len + GUARD);
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; ++i)
    for (size_t t = 0; t < 68; t += 1 + t % 4)
      for (size_t f = 0; f < 68; f += 17)
        copy_one (t, f, lengths[i], t + lengths[i] + GUARD);
  unit_context ("%s", "");
}

/* ---- Which reads -------------------------------------------------------- */

/* As malloc returns large pieces. */
static unsigned char memory[4096 + BOUNCE_MAX + 4096]
  __attribute__ ((__aligned__ (4096)));
static unsigned char *const buf = memory + 16;

static bool
is_used (unsigned char *p, uint32_t count, uint64_t host_off, bool local)
{
  unsigned char *const got = bounce_get (p, count, host_off, local);
  const bool used = got != p;

  /* A place in its page that is far from both others. */
  if (used)
    CHECK_EQ ((uintptr_t) got % 4096, (host_off + 2048) % 4096);
  bounce_put (got, p, count, false);
  return used;
}

static void
sizes (void)
{
  bounce_setup (BOUNCE_LOCAL, NULL, NULL, UINT64_MAX);
  CHECK (is_used (buf, BOUNCE_MIN, 0, true));
  CHECK (is_used (buf, BOUNCE_MAX, 0, true));
  CHECK (!is_used (buf, BOUNCE_MIN - 1, 0, true));
  CHECK (!is_used (buf, BOUNCE_MAX + 1, 0, true));
  CHECK (!is_used (buf, BOUNCE_MIN, 0, false));

  bounce_setup (BOUNCE_ALL, NULL, NULL, UINT64_MAX);
  CHECK (is_used (buf, 1, 0, false));
  CHECK (is_used (memory, BOUNCE_MAX, 4095, false));
  CHECK (!is_used (memory, BOUNCE_MAX + 1, 0, false));

  bounce_setup (BOUNCE_NEVER, NULL, NULL, UINT64_MAX);
  CHECK (!is_used (buf, BOUNCE_MAX, 0, true));
  bounce_trim ();
}

/* Those 1 to 31 bytes after the place of the source in its page. */
static void
places (void)
{
  bounce_setup (BOUNCE_LOCAL, NULL, NULL, UINT64_MAX);
  for (unsigned at = 0; at < 4096; at += at < 70 || at > 4000 ? 1 : 97)
    for (unsigned distance = 0; distance < 4096; ++distance) {
      const uint64_t host_off =
        UINT64_C (0x123456789000) + at - distance;

      if (is_used (memory + at, 4096, host_off, true) !=
          (distance >= 1 && distance <= 31)) {
        unit_context ("to %u, %u after the source", at, distance);
        CHECK (false);
      }
    }
  bounce_trim ();
}

/* What was measured is logged once, and is what happens. */
static unsigned lines;
static char line[500];

static void __attribute__ ((__format__ (__printf__, 4, 0)))
note_line (const struct host_env *env, enum host_log_level level,
           const char *name, const char *format, va_list args)
{
  (void) env;
  CHECK_EQ (level, HOST_LOG_DEBUG);
  CHECK (strcmp (name, "bounce buffers") == 0);
  lines++;
  vsnprintf (line, sizeof line, format, args);
}

static void
measured (void)
{
  static const struct host_env env = { .log = note_line };
  bool used;

  bounce_setup (BOUNCE_AUTO, &env, NULL, UINT64_MAX);
  CHECK (!is_used (buf, BOUNCE_MIN, 0, false));
  CHECK (!is_used (buf, BOUNCE_MIN - 1, 0, true));
  CHECK (!is_used (memory, BOUNCE_MAX, 0, true));
  /* None of these needs a measurement. */
  CHECK_EQ (lines, 0);
  used = is_used (buf, BOUNCE_MIN, 4096, true);
  CHECK_EQ (lines, 1);
  printf ("bounce buffers: %s\n", line);
  CHECK_EQ (used, strncmp (line, "used", 4) == 0);
  for (unsigned i = 0; i < 10; ++i)
    CHECK_EQ (is_used (buf, 64 * KIB + i, i << 20, true), used);
  CHECK_EQ (lines, 1);
  bounce_trim ();
}

/* ---- How many buffers --------------------------------------------------- */

#define MANY 40

/* The number of buffers that there are at the same time. */
static unsigned
hold_many (void)
{
  void *got[MANY];
  unsigned n = 0;

  for (unsigned i = 0; i < MANY; ++i) {
    got[i] = bounce_get (buf, 4096, 0, false);
    n += got[i] != buf;
    for (unsigned j = 0; j < i; ++j)
      CHECK (got[i] == buf || got[i] != got[j]);
  }
  for (unsigned i = 0; i < MANY; ++i)
    bounce_put (got[i], buf, 4096, false);
  return n;
}

static void
bounds (void)
{
  struct qcow2_budget *const budget =
    qcow2_budget_new (UINT64_C (1) << 30, "more", NULL, NULL);
  struct qcow2_budget *const small =
    qcow2_budget_new (7 * (uint64_t) BOUNCE_BYTES / 2, "more", NULL, NULL);

  REQUIRE (budget != NULL && small != NULL);
  bounce_setup (BOUNCE_ALL, NULL, budget, UINT64_MAX);
  CHECK_EQ (hold_many (), 16);
  CHECK_EQ (qcow2_budget_used (budget), 16 * (uint64_t) BOUNCE_BYTES);
  CHECK_EQ (hold_many (), 16);
  bounce_trim ();
  CHECK_EQ (qcow2_budget_used (budget), 0);

  bounce_setup (BOUNCE_ALL, NULL, budget, 5 * (uint64_t) BOUNCE_BYTES + 1);
  CHECK_EQ (hold_many (), 5);
  bounce_trim ();
  bounce_setup (BOUNCE_ALL, NULL, budget, BOUNCE_BYTES - 1);
  CHECK_EQ (hold_many (), 0);

  /* There is no more memory than for three. */
  bounce_setup (BOUNCE_ALL, NULL, small, UINT64_MAX);
  CHECK_EQ (hold_many (), 3);
  CHECK_EQ (hold_many (), 3);
  bounce_trim ();
  CHECK_EQ (qcow2_budget_used (budget), 0);
  CHECK_EQ (qcow2_budget_used (small), 0);
  qcow2_budget_free (budget);
  qcow2_budget_free (small);
  bounce_setup (BOUNCE_ALL, NULL, NULL, UINT64_MAX);
}

/* ---- Local files -------------------------------------------------------- */

#define FILE_SIZE (300 * KIB + 5)

static void
check_reads (const struct qcow2_io *io, const unsigned char *bytes)
{
  struct rng rng = { 2 };

  for (unsigned i = 0; i < unit_scaled (300); ++i) {
    const uint32_t len =
      1 + (uint32_t) rng_below (&rng, i % 2 ? FILE_SIZE : 5000);
    const uint64_t off = rng_below (&rng, FILE_SIZE - len + 1);
    unsigned char *const p = memory + rng_below (&rng, 4096);

    unit_context ("%u bytes at %" PRIu64, len, off);
    p[len] = 0x5a;
    CHECK_EQ (io->ops->pread (io->opaque, p, len, off, QCOW2_IO_DATA), 0);
    CHECK_BYTES (p, bytes + off, len);
    CHECK_EQ (p[len], 0x5a);
  }
  unit_context ("%s", "");
}

/* A read that fails leaves the memory alone, and gives the buffer back. */
static void
check_end (const struct qcow2_io *io)
{
  const uint64_t off = FILE_SIZE - 100;

  for (unsigned i = 0; i < MANY; ++i) {
    memset (buf, 0x11, 50 * KIB);
    CHECK_EQ (io->ops->pread (io->opaque, buf, 50 * KIB, off, QCOW2_IO_DATA),
              EIO);
    CHECK_EQ (buf[0], 0x11);
  }
  CHECK_EQ (hold_many (), 16);
}

static void
local_files (void)
{
  struct host_files h;
  struct qcow2_error err;
  struct other *f;
  unsigned char *const bytes = malloc (FILE_SIZE);
  struct rng rng = { 3 };
  int fd;

  REQUIRE (bytes != NULL);
  rng_fill (&rng, bytes, FILE_SIZE);
  host_files_init (&h);
  fd = open (host_path (&h, "local"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  REQUIRE (fd != -1);
  REQUIRE (pwrite (fd, bytes, FILE_SIZE, 0) == (ssize_t) FILE_SIZE);
  f = localfile_new (&h.env, fd, "local", false, &err);
  REQUIRE (f != NULL);
  for (unsigned i = BOUNCE_AUTO; i <= BOUNCE_NEVER; ++i) {
    bounce_setup ((enum bounce_mode) i, NULL, NULL, UINT64_MAX);
    check_reads (&f->io, bytes);
  }
  bounce_setup (BOUNCE_ALL, NULL, NULL, UINT64_MAX);
  check_end (&f->io);
  f->close (f);
  bounce_trim ();
  host_files_destroy (&h);
  free (bytes);
}

/* ---- Threads ------------------------------------------------------------ */

/* More of them than there are buffers. */
#define THREADS 24

static void
read_many (void *arg, unsigned nr)
{
  unsigned char *const p = malloc (40 * KIB);

  (void) arg;
  REQUIRE (p != NULL);
  for (unsigned i = 0; i < unit_scaled (200); ++i) {
    const uint32_t len = 1000 + 37 * (i % 1000);
    unsigned char *const got =
      bounce_get (p + 1, len, i, true);

    memset (got, (int) nr, len);
    got[len / 2] = (unsigned char) i;
    bounce_put (got, p + 1, len, true);
    CHECK (p[1] == nr && p[len] == nr && p[1 + len / 2] == (i & 0xff));
    if (i % 50 == nr)
      bounce_trim ();
  }
  free (p);
}

static void
many_threads (void)
{
  struct threads threads;

  threads_start (&threads, THREADS, read_many, NULL);
  threads_join (&threads);
  CHECK_EQ (hold_many (), 16);
  bounce_trim ();
}

/* ---- Other people's memory ---------------------------------------------- */

#if defined __GLIBC__ && !defined __SANITIZE_ADDRESS__ &&                    \
  !defined __SANITIZE_THREAD__
#define BLOCKS 6

static void *blocks[3 * 2 * BLOCKS];
static unsigned nr_blocks;

/* Of blocks as large as what clients ask for: how many lie right behind the
 * beginning of a page.  They are kept, since freeing one changes where the next
 * ones are.
 */
static unsigned
count_slow_places (void)
{
  unsigned slow = 0;

  for (unsigned i = 0; i < BLOCKS; ++i) {
    void *const block = malloc (256 * KIB);

    slow += (uintptr_t) block % 4096 < 32;
    blocks[nr_blocks++] = block;
    blocks[nr_blocks++] = malloc (777);
  }
  return slow;
}

/* What malloc does is the process's, so this comes first. */
static void
malloc_spreads (void)
{
  const bool usual = getenv ("MALLOC_MMAP_THRESHOLD_") == NULL &&
    getenv ("MALLOC_TRIM_THRESHOLD_") == NULL &&
    getenv ("GLIBC_TUNABLES") == NULL;
  const unsigned slow = count_slow_places ();

  CHECK (!usual || slow == BLOCKS);
  bounce_setup (BOUNCE_NEVER, NULL, NULL, UINT64_MAX);
  CHECK (!usual || count_slow_places () == BLOCKS);
  bounce_setup (BOUNCE_AUTO, NULL, NULL, UINT64_MAX);
  CHECK (!usual || count_slow_places () <= 2);
  while (nr_blocks > 0)
    free (blocks[--nr_blocks]);
}
#else
static void
malloc_spreads (void)
{
}
#endif

int
main (void)
{
  threads_watchdog ();
  malloc_spreads ();
  measured ();
  copies ();
  sizes ();
  places ();
  bounds ();
  local_files ();
  many_threads ();
  return unit_finish ();
}
