/* SPDX-License-Identifier: BSD-3-Clause */
/* bounce.c - reads from local files through bounce buffers.
 *
 * Owns      the buffers, for all files of the process, and the decision
 *           whether they are of use.
 * Method    the kernel copies from a page of the file with one instruction,
 *           rep movsb, on processors that claim to do that fast.  Those of AMD
 *           with Zen 3 do it at a sixth of their speed if the destination's
 *           place in its page is 1 to 31 bytes after that of the source;
 *           anything else is fast, whatever its alignment.  So only reads with
 *           such places use a buffer, and begin half a page away there.
 *
 *           The buffers of requests would have such a place nearly always, as
 *           glibc returns large blocks.  It is made to return most of them
 *           elsewhere, so that few reads need a buffer.
 *
 *           Which processors and kernels are slow cannot be listed for long,
 *           so one file in memory is read in both ways, once in a process.
 *           Each way counts by its quickest time: others running at the same
 *           moment can only make it slower.
 *
 *           A read borrows a buffer from a pool rather than having one of its
 *           thread, since threads are the server's: nobody could free theirs
 *           when this module is unloaded.  There are no more than MAX_BUFFERS;
 *           a read that finds none is done directly.  A buffer is a mapping,
 *           of which only the pages that were read into take memory.
 * Holds     bytes as they are in the file.  Those of encrypted images are
 *           decrypted above, in the memory of the request, so buffers need
 *           not be wiped.
 * Locks     bounce.lock guards the list and the number of buffers, for a few
 *           instructions.
 */
#include "config.h"

#include "host/bounce.h"

#include "qcow2.h"
#include "host/copy.h"
#include "host/env.h"
#include "host/filelimit.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX_BUFFERS 16

/* Of the kernel's cache; its pages may be larger, and then begin with one of
 * these.
 */
#define PAGE UINT64_C (4096)

/* Destinations less than this after the source, within a page, are slow. */
#define SLOW_DISTANCE 32

/* libnbd's tools ask for 256 KiB.  What malloc keeps of freed memory in each
 * heap may be twice as large.
 */
#define SPREAD_BYTES ((size_t) 1 << 20)

/* What is measured: reads of this size.  Where it pays, this is done in half a
 * millisecond.
 */
#define SAMPLE ((size_t) 64 << 10)
#define MAX_ROUNDS 8
#define MAX_NS 2000000          /* begin no round after that */

static struct {
  enum bounce_mode mode;
  const struct host_env *env;
  struct qcow2_budget *budget;
  unsigned max_buffers;
} setup = { .max_buffers = MAX_BUFFERS };       /* constant */

static struct {
  pthread_mutex_t lock;
  void *idle[MAX_BUFFERS];
  unsigned nr_idle, nr_all;
} bounce = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* malloc maps large blocks, each of which then begins 16 bytes past a page.
 * Those below a threshold come from its heaps, at any multiple of 16, so that
 * one of 256 has the slow place.  Freeing a mapped block makes its size the
 * threshold, see mallopt(3): what clients mostly ask for is below that.
 * mallopt would do the same, but would overrule the user's environment.
 */
static void
spread_blocks (void)
{
  char *block = malloc (SPREAD_BYTES);

  /* So that the compiler does not leave both out. */
  if (block)
    *(volatile char *) block = 0;
  free (block);
}

void
bounce_setup (enum bounce_mode mode, const struct host_env *env,
              struct qcow2_budget *budget, uint64_t max_bytes)
{
  const uint64_t max = max_bytes / BOUNCE_BYTES;

  setup.mode = mode;
  setup.env = env;
  setup.budget = budget;
  setup.max_buffers = max < MAX_BUFFERS ? (unsigned) max : MAX_BUFFERS;
  if (mode == BOUNCE_AUTO)
    spread_blocks ();
}

/* ---- Measuring --------------------------------------------------------- */

/* Two reads, each of which begins somewhere in a page. */
#define SAMPLE_BYTES (2 * SAMPLE + 2 * PAGE)

struct sample {
  int fd;
  unsigned char *memory;        /* of SAMPLE_BYTES */
  uint64_t direct, through;     /* ns, the quickest */
};

static uint64_t
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static bool
fill_sample (const struct sample *s)
{
  sigset_t old;
  bool ok;

  filelimit_begin (&old);
  ok = pwrite (s->fd, s->memory, SAMPLE, 0) == (ssize_t) SAMPLE;
  filelimit_end (&old, !ok);
  return ok;
}

/* A file in memory, with bytes: holes are read in another way. */
static bool
make_sample (struct sample *s)
{
  s->memory = mmap (NULL, SAMPLE_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (s->memory == MAP_FAILED)
    return false;
  s->fd = memfd_create ("nbdkit-qcow2-filter", MFD_CLOEXEC);
  if (s->fd != -1 && fill_sample (s))
    return true;
  if (s->fd != -1)
    close (s->fd);
  munmap (s->memory, SAMPLE_BYTES);
  return false;
}

/* Returns false if the file could not be read. */
static bool
time_one (const struct sample *s, bool through, uint64_t *best)
{
  unsigned char *const buffer = s->memory + PAGE / 2;
  /* As malloc returns large pieces. */
  unsigned char *const buf = s->memory + PAGE + SAMPLE + 16;
  const uint64_t start = now ();
  uint64_t ns;

  if (pread (s->fd, through ? buffer : buf, SAMPLE, 0) != (ssize_t) SAMPLE)
    return false;
  if (through)
    copy_bytes (buf, buffer, SAMPLE);
  ns = now () - start;
  if (ns < *best)
    *best = ns;
  return true;
}

static bool
time_both (struct sample *s)
{
  const uint64_t start = now ();
  uint64_t cold = UINT64_MAX;

  /* The first time all pages are new. */
  if (!time_one (s, false, &cold) || !time_one (s, true, &cold))
    return false;
  s->direct = s->through = UINT64_MAX;
  for (int i = 0; i < MAX_ROUNDS && (i < 2 || now () - start < MAX_NS); ++i)
    if (!time_one (s, false, &s->direct) ||
        !time_one (s, true, &s->through))
      return false;
  return true;
}

/* Set by measure. */
static bool is_slow;

/* A gain that is small may be an error of the measurement. */
static void
measure (void)
{
  struct sample s;
  bool known;

  if (!make_sample (&s)) {
    if (setup.env)
      host_log (setup.env, HOST_LOG_DEBUG, "bounce buffers",
                "not used: the time they take cannot be measured");
    return;
  }
  known = time_both (&s);
  close (s.fd);
  munmap (s.memory, SAMPLE_BYTES);
  is_slow = known && s.through < s.direct - s.direct / 8;
  if (setup.env && known)
    host_log (setup.env, HOST_LOG_DEBUG, "bounce buffers",
              "%s: reading %zu KiB takes %" PRIu64 " us, and %" PRIu64
              " us through a buffer", is_slow ? "used" : "not used",
              SAMPLE >> 10, s.direct / 1000, s.through / 1000);
}

static bool
is_faster (void)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;

  pthread_once (&once, measure);
  return is_slow;
}

/* ---- Buffers ----------------------------------------------------------- */

static void *
make_buffer (void)
{
  void *p;

  if (setup.budget && !qcow2_budget_take (setup.budget, BOUNCE_BYTES))
    return NULL;
  p = mmap (NULL, BOUNCE_BYTES, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p != MAP_FAILED)
    return p;
  if (setup.budget)
    qcow2_budget_give (setup.budget, BOUNCE_BYTES);
  return NULL;
}

static void
free_buffer (void *p)
{
  munmap (p, BOUNCE_BYTES);
  if (setup.budget)
    qcow2_budget_give (setup.budget, BOUNCE_BYTES);
}

/* A buffer that was taken, or was to be made, is no more. */
static void
forget_locked (void)
{
  if (qcow2_holds (bounce.nr_all > bounce.nr_idle))
    bounce.nr_all--;
}

/* NULL if there is none. */
static void *
take_buffer (void)
{
  void *p = NULL;
  bool make = false;

  pthread_mutex_lock (&bounce.lock);
  if (bounce.nr_idle > 0)
    p = bounce.idle[--bounce.nr_idle];
  else if (bounce.nr_all < setup.max_buffers) {
    bounce.nr_all++;
    make = true;
  }
  (void) qcow2_holds (bounce.nr_idle <= bounce.nr_all &&
                      bounce.nr_all <= MAX_BUFFERS);
  pthread_mutex_unlock (&bounce.lock);
  if (!make || (p = make_buffer ()) != NULL)
    return p;
  pthread_mutex_lock (&bounce.lock);
  forget_locked ();
  pthread_mutex_unlock (&bounce.lock);
  return NULL;
}

void
bounce_trim (void)
{
  void *p;

  do {
    p = NULL;
    pthread_mutex_lock (&bounce.lock);
    if (bounce.nr_idle > 0) {
      p = bounce.idle[--bounce.nr_idle];
      forget_locked ();
    }
    pthread_mutex_unlock (&bounce.lock);
    if (p)
      free_buffer (p);
  } while (p);
}

/* ---- Reads ------------------------------------------------------------- */

static bool
is_slow_place (const void *buf, uint64_t host_off)
{
  const uint64_t distance = ((uintptr_t) buf - host_off) % PAGE;

  return distance > 0 && distance < SLOW_DISTANCE;
}

static bool
is_worth_it (const void *buf, uint32_t count, uint64_t host_off, bool local)
{
  if (setup.mode == BOUNCE_NEVER || count > BOUNCE_MAX)
    return false;
  if (setup.mode == BOUNCE_ALL)
    return true;
  return local && count >= BOUNCE_MIN && is_slow_place (buf, host_off) &&
    (setup.mode == BOUNCE_LOCAL || is_faster ());
}

void *
bounce_get (void *buf, uint32_t count, uint64_t host_off, bool local)
{
  unsigned char *const p = is_worth_it (buf, count, host_off, local)
    ? take_buffer () : NULL;

  /* Neither copy has two such places. */
  return p ? p + (host_off + PAGE / 2) % PAGE : buf;
}

void
bounce_put (void *got, void *buf, uint32_t count, bool done)
{
  bool fits;

  if (got == buf)
    return;
  /* bounce_get has put it in the first page. */
  if (!qcow2_holds ((uintptr_t) got % PAGE + count <= BOUNCE_BYTES))
    return;
  if (done)
    copy_bytes (buf, got, count);
  pthread_mutex_lock (&bounce.lock);
  fits = bounce.nr_idle < bounce.nr_all && bounce.nr_all <= MAX_BUFFERS;
  if (fits)
    bounce.idle[bounce.nr_idle++] =
      (unsigned char *) got - (uintptr_t) got % PAGE;
  pthread_mutex_unlock (&bounce.lock);
  if (setup.env)
    (void) host_holds (setup.env, fits);
}
