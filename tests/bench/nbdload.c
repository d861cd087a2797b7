/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdload: a load generator for NBD servers, used by the benchmark.
 *
 * What it owns: one libnbd handle per connection, each driven by one
 * thread that keeps exactly --depth commands in flight through libnbd's
 * asynchronous API.  Every thread has its own slots (buffer, offset, start
 * time) and its own histogram of latencies; they are added up once all
 * threads are joined, so nothing is shared while the clock runs except the
 * read-only options and the list of offsets.
 *
 * A run touches "the area": the whole disk, --start/--length of it, or the
 * pieces of --span bytes at the offsets listed in --offsets FILE (one
 * number per line), which is how a sparse 1 TiB disk is read only where
 * it has data.  The area is numbered in blocks of --block bytes; --pattern
 * says whether block numbers are drawn at random or in order.  In order,
 * each connection walks its own share of the blocks.
 *
 * With --verify a read must return the pattern --mode write stores (a
 * function of the offset and of --salt), with --verify-zero zeros; with
 * --verify-against FILE it must return the bytes FILE has there.  All cost
 * client CPU: do not time such a run.  The same options and --seed touch the
 * same blocks in the same order, whatever --mode and --depth.
 *
 * With --flush-every N each connection sends a flush behind every N commands
 * of its own, as one more command in flight.  A flush is not counted as a
 * command.
 *
 * With --list it loads nothing, but asks for the list of exports, and with
 * --open connects to each of them, one after the other, for its first block.
 *
 * It does not retry, reconnect or do TLS: any failed command ends the run
 * with exit status 1.
 *
 * Build: cc -O2 -o nbdload nbdload.c -lnbd -lpthread    (libnbd >= 1.14)
 */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <libnbd.h>

/* Latencies go to buckets of 1/32 of a power of two: 3 % precision. */
#define SUB_BITS 5
#define NR_BUCKETS (64 << SUB_BITS)

struct options {
  const char *uri, *offsets_file, *against;
  enum { READ, WRITE, ZERO, TRIM, NR_MODES } mode;
  bool sequential, verify, verify_zero, flush, list, open;
  uint64_t block, span, start, length, ops, seed, salt, flush_every;
  unsigned depth, connections;
  double seconds;
};

static const char *const modes[NR_MODES] = {
  [READ] = "read", [WRITE] = "write", [ZERO] = "zero", [TRIM] = "trim",
};

static struct options opt = {
  .block = 4096, .span = 65536, .seed = 1, .depth = 1, .connections = 1,
};
static uint64_t *offsets;       /* NULL: the area is one range */
static uint64_t nr_offsets;
static int against_fd = -1;
static pthread_barrier_t barrier;

struct worker;

struct slot {
  struct worker *w;
  char *buf;
  bool is_flush;
  uint64_t offset, issued_ns;
};

struct worker {
  unsigned index;
  pthread_t thread;
  struct nbd_handle *nbd;
  struct slot *slots;
  struct slot **idle;           /* stack of slots not in flight */
  unsigned nr_idle;
  char *check;                  /* what --verify-against expects */
  uint64_t size;                /* of the disk */
  uint64_t blocks;              /* blocks in the area */
  uint64_t next, end, first;    /* this worker's share when sequential */
  uint64_t rng;
  uint64_t budget;              /* commands this worker may issue */
  uint64_t ops, flushes;
  uint64_t unflushed;           /* commands since the last flush */
  uint64_t begin_ns, end_ns, connect_ns, first_ns, max_ns, sum_ns;
  uint64_t histogram[NR_BUCKETS];
};

static void __attribute__ ((noreturn, format (printf, 1, 2)))
die (const char *fmt, ...)
{
  va_list ap;

  va_start (ap, fmt);
  fprintf (stderr, "nbdload: ");
  vfprintf (stderr, fmt, ap);
  fputc ('\n', stderr);
  va_end (ap);
  exit (EXIT_FAILURE);
}

static void *
xcalloc (size_t n, size_t size)
{
  void *p = calloc (n, size);

  if (p == NULL)
    die ("out of memory");
  return p;
}

static uint64_t
now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/*---- histogram ----*/

static unsigned
bucket_of (uint64_t ns)
{
  unsigned top;

  if (ns < 1 << SUB_BITS)
    return ns;
  top = 63 - __builtin_clzll (ns);
  return ((top - SUB_BITS + 1) << SUB_BITS)
    + ((ns >> (top - SUB_BITS)) & ((1 << SUB_BITS) - 1));
}

/* The middle of a bucket, in nanoseconds. */
static double
bucket_value (unsigned b)
{
  unsigned group = b >> SUB_BITS, sub = b & ((1 << SUB_BITS) - 1);

  if (group == 0)
    return sub;
  return ((double) ((1 << SUB_BITS) + sub) + 0.5)
    * (double) (UINT64_C (1) << (group - 1));
}

static double
percentile_us (const uint64_t *histogram, uint64_t total, double p)
{
  uint64_t seen = 0;
  unsigned b;

  for (b = 0; b < NR_BUCKETS; b++) {
    seen += histogram[b];
    if (seen > 0 && (double) seen >= p * (double) total)
      return bucket_value (b) / 1000.0;
  }
  return 0;
}

/*---- contents ----*/

/* The 64-bit word stored at a (multiple of 8) offset.  Never zero, so that
 * a hole served in place of data is noticed. */
static uint64_t
pattern_word (uint64_t offset)
{
  return ((offset + 8) ^ opt.salt << 48) * UINT64_C (0x9e3779b97f4a7c15) | 1;
}

static void
fill_pattern (char *buf, uint64_t len, uint64_t offset)
{
  uint64_t i, word;

  for (i = 0; i < len; i += 8) {
    word = pattern_word (offset + i);
    memcpy (buf + i, &word, 8);
  }
}

static void
verify (struct slot *slot)
{
  uint64_t i, word;
  ssize_t r;

  if (against_fd >= 0) {
    r = pread (against_fd, slot->w->check, opt.block, (off_t) slot->offset);
    if (r != (ssize_t) opt.block)
      die ("%s: short read at %" PRIu64, opt.against, slot->offset);
    if (memcmp (slot->w->check, slot->buf, opt.block) != 0)
      die ("wrong data in the block at %" PRIu64, slot->offset);
  }
  for (i = 0; (opt.verify || opt.verify_zero) && i < opt.block; i += 8) {
    memcpy (&word, slot->buf + i, 8);
    if (word != (opt.verify ? pattern_word (slot->offset + i) : 0))
      die ("wrong data at %" PRIu64, slot->offset + i);
  }
}

/*---- one connection ----*/

static uint64_t
random_u64 (struct worker *w)
{
  /* xorshift64*: quick, and good enough to scatter offsets. */
  w->rng ^= w->rng >> 12;
  w->rng ^= w->rng << 25;
  w->rng ^= w->rng >> 27;
  return w->rng * UINT64_C (0x2545f4914f6cdd1d);
}

static uint64_t
pick_offset (struct worker *w)
{
  uint64_t n, per;

  if (opt.sequential) {
    n = w->next++;
    if (w->next == w->end)
      w->next = w->first;
  }
  else
    n = (uint64_t) (((__uint128_t) random_u64 (w) * w->blocks) >> 64);

  if (offsets == NULL)
    return opt.start + n * opt.block;
  per = opt.span / opt.block;
  return offsets[n / per] + n % per * opt.block;
}

/* libnbd calls this with the handle's lock held, so it only notes the
 * result; the next command is issued by the thread's own loop.  Returning 1
 * retires the command. */
static int
completed (void *opaque, int *error)
{
  struct slot *slot = opaque;
  struct worker *w = slot->w;
  uint64_t now = now_ns (), ns = now - slot->issued_ns;

  if (*error && slot->is_flush)
    die ("flush: %s", strerror (*error));
  if (*error)
    die ("%s of %" PRIu64 " at %" PRIu64 ": %s", modes[opt.mode],
         opt.block, slot->offset, strerror (*error));
  w->end_ns = now;
  w->idle[w->nr_idle++] = slot;
  if (slot->is_flush) {
    w->flushes++;
    return 1;
  }
  w->histogram[bucket_of (ns)]++;
  w->sum_ns += ns;
  if (ns > w->max_ns)
    w->max_ns = ns;
  if (w->ops++ == 0)
    w->first_ns = ns;
  if (opt.mode == READ)
    verify (slot);
  return 1;
}

static int64_t
send_command (struct worker *w, struct slot *slot)
{
  nbd_completion_callback cb = { .callback = completed, .user_data = slot };

  switch (opt.mode) {
  case READ:
    return nbd_aio_pread (w->nbd, slot->buf, opt.block, slot->offset, cb, 0);
  case WRITE:
    return nbd_aio_pwrite (w->nbd, slot->buf, opt.block, slot->offset, cb,
                           0);
  case ZERO:
    return nbd_aio_zero (w->nbd, opt.block, slot->offset, cb, 0);
  default:
    return nbd_aio_trim (w->nbd, opt.block, slot->offset, cb, 0);
  }
}

static bool
is_time_to_flush (const struct worker *w)
{
  return opt.flush_every > 0 && w->unflushed == opt.flush_every;
}

static void
issue_flush (struct worker *w)
{
  struct slot *slot = w->idle[--w->nr_idle];
  nbd_completion_callback cb = { .callback = completed, .user_data = slot };

  w->unflushed = 0;
  slot->is_flush = true;
  if (nbd_aio_flush (w->nbd, cb, 0) == -1)
    die ("%s", nbd_get_error ());
}

static void
issue (struct worker *w)
{
  struct slot *slot = w->idle[--w->nr_idle];

  w->budget--;
  w->unflushed++;
  slot->is_flush = false;
  slot->offset = pick_offset (w);
  if (opt.mode == WRITE)
    fill_pattern (slot->buf, opt.block, slot->offset);
  slot->issued_ns = now_ns ();
  if (send_command (w, slot) == -1)
    die ("%s", nbd_get_error ());
}

static void
connect_worker (struct worker *w)
{
  uint64_t t = now_ns ();

  w->nbd = nbd_create ();
  if (w->nbd == NULL || nbd_connect_uri (w->nbd, opt.uri) == -1)
    die ("%s", nbd_get_error ());
  w->connect_ns = now_ns () - t;
  /* Every byte read is either overwritten or the run dies. */
  nbd_set_pread_initialize (w->nbd, false);
}

static void
share_area (struct worker *w)
{
  uint64_t each;

  w->size = (uint64_t) nbd_get_size (w->nbd);
  if (offsets != NULL)
    w->blocks = nr_offsets * (opt.span / opt.block);
  else {
    if (opt.start >= w->size)
      die ("--start is beyond the end of the disk");
    if (opt.length == 0 || opt.length > w->size - opt.start)
      opt.length = w->size - opt.start;
    w->blocks = opt.length / opt.block;
  }
  each = w->blocks / opt.connections;
  if (each == 0)
    die ("the area has fewer blocks than there are connections");
  w->first = w->next = each * w->index;
  w->end = w->index == opt.connections - 1 ? w->blocks : w->first + each;
  w->rng = (opt.seed + w->index + 1) * UINT64_C (0x9e3779b97f4a7c15);
  w->budget = opt.ops == 0 ? UINT64_MAX
    : opt.ops / opt.connections + (w->index < opt.ops % opt.connections);
}

static void
allocate_slots (struct worker *w)
{
  unsigned i;

  w->slots = xcalloc (opt.depth, sizeof *w->slots);
  w->idle = xcalloc (opt.depth, sizeof *w->idle);
  for (i = 0; i < opt.depth; i++) {
    w->slots[i].w = w;
    if (opt.mode == READ || opt.mode == WRITE) {
      w->slots[i].buf = xcalloc (1, opt.block);
      /* calloc'd pages are not there yet: take the faults before the run. */
      memset (w->slots[i].buf, 0xa5, opt.block);
    }
    w->idle[w->nr_idle++] = &w->slots[i];
  }
  if (opt.against)
    w->check = xcalloc (1, opt.block);
}

static void *
work (void *opaque)
{
  struct worker *w = opaque;
  uint64_t deadline = UINT64_MAX;

  allocate_slots (w);
  pthread_barrier_wait (&barrier);
  w->begin_ns = w->end_ns = now_ns ();
  if (opt.seconds > 0)
    deadline = w->begin_ns + (uint64_t) (opt.seconds * 1e9);

  for (;;) {
    bool more = now_ns () < deadline;

    while (more && w->nr_idle > 0 && w->budget > 0) {
      if (is_time_to_flush (w))
        issue_flush (w);
      else
        issue (w);
    }
    if (w->nr_idle == opt.depth)
      break;
    if (nbd_poll (w->nbd, -1) == -1)
      die ("%s", nbd_get_error ());
  }
  if (opt.flush) {
    if (nbd_flush (w->nbd, 0) == -1)
      die ("%s", nbd_get_error ());
    w->flushes++;
    w->end_ns = now_ns ();
  }
  return NULL;
}

/*---- the run ----*/

static void
read_offsets (void)
{
  FILE *fp = fopen (opt.offsets_file, "r");
  uint64_t off, room = 0;

  if (fp == NULL)
    die ("%s: %s", opt.offsets_file, strerror (errno));
  while (fscanf (fp, "%" SCNu64, &off) == 1) {
    if (nr_offsets == room) {
      room = room ? room * 2 : 1024;
      offsets = realloc (offsets, room * sizeof *offsets);
      if (offsets == NULL)
        die ("out of memory");
    }
    offsets[nr_offsets++] = off;
  }
  fclose (fp);
  if (nr_offsets == 0)
    die ("%s: no offsets", opt.offsets_file);
}

static void
report (struct worker *workers)
{
  static uint64_t histogram[NR_BUCKETS];
  uint64_t begin = UINT64_MAX, end = 0, ops = 0, sum = 0, max = 0, conn = 0;
  uint64_t flushes = 0, slow = 0;       /* slow: those of 10 ms and more */
  double seconds;
  unsigned i, b;

  for (i = 0; i < opt.connections; i++) {
    struct worker *w = &workers[i];

    for (b = 0; b < NR_BUCKETS; b++)
      histogram[b] += w->histogram[b];
    begin = w->begin_ns < begin ? w->begin_ns : begin;
    end = w->end_ns > end ? w->end_ns : end;
    max = w->max_ns > max ? w->max_ns : max;
    conn = w->connect_ns > conn ? w->connect_ns : conn;
    ops += w->ops;
    flushes += w->flushes;
    sum += w->sum_ns;
  }
  for (b = 0; b < NR_BUCKETS; b++)
    if (bucket_value (b) >= 1e7)
      slow += histogram[b];
  seconds = (double) (end - begin) / 1e9;
  printf ("{\"ops\": %" PRIu64 ", \"seconds\": %.6f, \"iops\": %.1f, "
          "\"mib_s\": %.2f,\n \"mean_us\": %.2f, \"p50_us\": %.2f, "
          "\"p99_us\": %.2f, \"p999_us\": %.2f, \"max_us\": %.2f, "
          "\"slow\": %" PRIu64 ",\n \"connect_us\": %.2f, "
          "\"first_us\": %.2f, \"size\": %" PRIu64 ", \"flushes\": %" PRIu64
          "}\n", ops, seconds,
          (double) ops / seconds,
          (double) (ops * opt.block) / seconds / 1048576.0,
          ops ? (double) sum / (double) ops / 1e3 : 0.0,
          percentile_us (histogram, ops, 0.50),
          percentile_us (histogram, ops, 0.99),
          percentile_us (histogram, ops, 0.999), (double) max / 1e3, slow,
          (double) conn / 1e3, (double) workers[0].first_ns / 1e3,
          workers[0].size, flushes);
}

static void
run (void)
{
  struct worker *workers = xcalloc (opt.connections, sizeof *workers);
  unsigned i;

  pthread_barrier_init (&barrier, NULL, opt.connections);
  for (i = 0; i < opt.connections; i++) {
    workers[i].index = i;
    connect_worker (&workers[i]);
    share_area (&workers[i]);
  }
  for (i = 0; i < opt.connections; i++)
    if (pthread_create (&workers[i].thread, NULL, work, &workers[i]) != 0)
      die ("cannot start a thread");
  for (i = 0; i < opt.connections; i++)
    pthread_join (workers[i].thread, NULL);
  report (workers);
  for (i = 0; i < opt.connections; i++) {
    nbd_shutdown (workers[i].nbd, 0);
    nbd_close (workers[i].nbd);
  }
}

/*---- exports ----*/

static char **exports;
static unsigned nr_exports;

static int
note_export (void *opaque, const char *name, const char *description)
{
  (void) opaque;
  (void) description;
  exports = realloc (exports, (nr_exports + 1) * sizeof *exports);
  if (exports == NULL || (exports[nr_exports++] = strdup (name)) == NULL)
    die ("out of memory");
  return 0;
}

static void
list_exports (void)
{
  nbd_list_callback cb = { .callback = note_export };
  struct nbd_handle *nbd = nbd_create ();

  if (nbd == NULL || nbd_set_opt_mode (nbd, true) == -1 ||
      nbd_connect_uri (nbd, opt.uri) == -1 ||
      nbd_opt_list (nbd, cb) == -1 || nbd_opt_abort (nbd) == -1)
    die ("%s", nbd_get_error ());
  nbd_close (nbd);
}

static void
open_export (const char *name, char *buf)
{
  struct nbd_handle *nbd = nbd_create ();

  if (nbd == NULL || nbd_set_opt_mode (nbd, true) == -1 ||
      nbd_connect_uri (nbd, opt.uri) == -1 ||
      nbd_set_export_name (nbd, name) == -1 || nbd_opt_go (nbd) == -1 ||
      nbd_pread (nbd, buf, opt.block, 0, 0) == -1 ||
      nbd_shutdown (nbd, 0) == -1)
    die ("export '%s': %s", name, nbd_get_error ());
  nbd_close (nbd);
}

static void
run_list (void)
{
  const uint64_t begin = now_ns ();
  char *buf = xcalloc (1, opt.block);
  uint64_t listed, end;
  unsigned i;

  list_exports ();
  listed = now_ns ();
  for (i = 0; opt.open && i < nr_exports; i++)
    open_export (exports[i], buf);
  end = now_ns ();
  printf ("{\"exports\": %u, \"list_s\": %.6f, \"open_s\": %.6f}\n",
          nr_exports, (double) (listed - begin) / 1e9,
          (double) (end - listed) / 1e9);
  for (i = 0; i < nr_exports; i++)
    free (exports[i]);
  free (exports);
  free (buf);
}

/*---- options ----*/

static const char usage[] =
  "usage: nbdload --uri URI (--seconds T | --ops N) [options]\n"
  "       nbdload --uri URI --list [--open]\n"
  "  --mode read|write|zero|trim    what to do (read)\n"
  "  --pattern rand|seq         in which order (rand)\n"
  "  --block BYTES              size of each command (4096)\n"
  "  --depth N                  commands in flight per connection (1)\n"
  "  --connections N            connections, one thread each (1)\n"
  "  --seconds T, --ops N       stop after T seconds or N commands in all\n"
  "  --start BYTES --length BYTES   only this part of the disk\n"
  "  --offsets FILE --span BYTES    only --span (65536) bytes at each of the\n"
  "                             offsets in FILE, one number per line\n"
  "  --seed N                   for --pattern rand (1)\n"
  "  --salt N                   another pattern to write (0)\n"
  "  --verify                   reads must return what --mode write stores\n"
  "  --verify-zero              reads must return zeros\n"
  "  --verify-against FILE      reads must return what this raw file has\n"
  "  --flush                    end with a flush, and count its time\n"
  "  --flush-every N            a flush behind every N commands\n"
  "BYTES may end in k, M, G or T.\n";

static uint64_t
parse_size (const char *s)
{
  char *end;
  uint64_t n;
  const char *units = "kMGT", *unit;

  errno = 0;
  n = strtoull (s, &end, 0);
  if (errno || end == s)
    die ("%s: not a number", s);
  if (*end && (unit = strchr (units, *end)) != NULL) {
    n <<= 10 * (unit - units + 1);
    end++;
  }
  if (*end)
    die ("%s: not a number", s);
  return n;
}

static void
parse_mode (const char *s)
{
  for (opt.mode = 0; opt.mode < NR_MODES; opt.mode++)
    if (strcmp (s, modes[opt.mode]) == 0)
      return;
  die ("%s: must be read, write, zero or trim", s);
}

static bool
parse_choice (const char *s, const char *no, const char *yes)
{
  if (strcmp (s, yes) == 0)
    return true;
  if (strcmp (s, no) != 0)
    die ("%s: must be %s or %s", s, no, yes);
  return false;
}

static const struct option long_options[] = {
  { "uri", 1, NULL, 'u' }, { "mode", 1, NULL, 'm' },
  { "pattern", 1, NULL, 'p' }, { "block", 1, NULL, 'b' },
  { "depth", 1, NULL, 'd' }, { "connections", 1, NULL, 'c' },
  { "seconds", 1, NULL, 't' }, { "ops", 1, NULL, 'n' },
  { "start", 1, NULL, 's' }, { "length", 1, NULL, 'l' },
  { "offsets", 1, NULL, 'o' }, { "span", 1, NULL, 'S' },
  { "seed", 1, NULL, 'r' }, { "verify", 0, NULL, 'v' },
  { "verify-against", 1, NULL, 'a' }, { "flush", 0, NULL, 'f' },
  { "verify-zero", 0, NULL, 'z' }, { "flush-every", 1, NULL, 'F' },
  { "salt", 1, NULL, 'x' }, { "list", 0, NULL, 'L' },
  { "open", 0, NULL, 'O' },
  { "help", 0, NULL, 'h' }, { NULL, 0, NULL, 0 },
};

static void
parse_option (int c, const char *arg)
{
  switch (c) {
  case 'u': opt.uri = arg; break;
  case 'm': parse_mode (arg); break;
  case 'p': opt.sequential = parse_choice (arg, "rand", "seq"); break;
  case 'b': opt.block = parse_size (arg); break;
  case 'd': opt.depth = (unsigned) parse_size (arg); break;
  case 'c': opt.connections = (unsigned) parse_size (arg); break;
  case 't': opt.seconds = strtod (arg, NULL); break;
  case 'n': opt.ops = parse_size (arg); break;
  case 's': opt.start = parse_size (arg); break;
  case 'l': opt.length = parse_size (arg); break;
  case 'o': opt.offsets_file = arg; break;
  case 'S': opt.span = parse_size (arg); break;
  case 'r': opt.seed = parse_size (arg); break;
  case 'v': opt.verify = true; break;
  case 'a': opt.against = arg; break;
  case 'f': opt.flush = true; break;
  case 'F': opt.flush_every = parse_size (arg); break;
  case 'x': opt.salt = parse_size (arg); break;
  case 'L': opt.list = true; break;
  case 'O': opt.open = true; break;
  case 'z': opt.verify_zero = true; break;
  case 'h': fputs (usage, stdout); exit (EXIT_SUCCESS);
  default: fputs (usage, stderr); exit (EXIT_FAILURE);
  }
}

static void
check_options (void)
{
  if (opt.uri == NULL || (!opt.list && (opt.ops == 0) == (opt.seconds <= 0)))
    die ("--uri and one of --seconds and --ops are needed, see --help");
  if (opt.block == 0 || opt.block % 8 || opt.start % 8)
    die ("--block and --start must be multiples of 8");
  if (opt.depth == 0 || opt.connections == 0)
    die ("--depth and --connections cannot be 0");
  if (opt.offsets_file && (opt.span == 0 || opt.span % opt.block))
    die ("--span must be a multiple of --block");
}

int
main (int argc, char *argv[])
{
  int c;

  while ((c = getopt_long (argc, argv, "h", long_options, NULL)) != -1)
    parse_option (c, optarg);
  check_options ();
  if (opt.offsets_file)
    read_offsets ();
  if (opt.against && (against_fd = open (opt.against, O_RDONLY)) == -1)
    die ("%s: %s", opt.against, strerror (errno));
  if (opt.list)
    run_list ();
  else
    run ();
  return EXIT_SUCCESS;
}
