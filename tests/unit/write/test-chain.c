/* SPDX-License-Identifier: BSD-3-Clause */
/* test-chain.c - chains of backing images.
 *
 * Usage: test-chain [FIRST-SEED [RUNS]]
 *
 * Owns      the model: the contents of the chain.
 * Method    chains of 1 to 8 images, each with its own version, cluster size,
 *           length, compression and encryption.  Half of them are built in
 *           memory, with odd lengths, and the source of each byte is known;
 *           QEMU makes the others, and reads them.  All are read, mapped, and
 *           written to at the top; layers.c checks that backing images are not
 *           written to.  Then the requests of a copy on write are counted.
 */
#include "config.h"

#include "fsck.h"
#include "guest.h"
#include "qemu.h"
#include "random_image.h"
#include "stops.h"

#define KiB (UINT64_C (1) << 10)
#define MAX_SIZE (UINT64_C (384) << 10)
#define PATTERN 4099u           /* a prime: it is nowhere the same */

struct chain {
  struct rng rng;
  unsigned nr;                  /* layers */
  struct layers layers;         /* all but the uppermost */
  unsigned char *bytes;         /* that one */
  uint64_t size;
  bool by_qemu;
  char name[64], format[8];     /* of the uppermost so far */
  char options[512];            /* what QEMU must be told to open it */

  /* What it reads as. */
  uint64_t disk_size, below_size;
  unsigned char *disk;
  bool *unknown;                /* built: no layer has these bytes */
};

/* ---- Layers built in memory -------------------------------------------- */

static void
forget_disk (struct chain *c)
{
  free (c->disk);
  free (c->unknown);
  c->disk = NULL;
  c->unknown = NULL;
}

/* A window that begins with the disk, and clusters that are not large. */
static void
make_random (struct random_image *r, struct rng *rng, bool bottom)
{
  for (;;) {
    const struct image_spec spec = random_spec (rng);

    if (spec.cluster_bits > 16 || (spec.version == 1 && !bottom))
      continue;
    random_image_init (r, rng, &spec, 1 + rng_below (rng, MAX_SIZE));
    if (r->base == 0)
      return;
    random_image_free (r);
  }
}

/* The name lies at the end of the first cluster. */
static void
name_backing (struct image_builder *b, const struct chain *c, bool format)
{
  const size_t len = strlen (c->name);
  const uint64_t off = b->cluster_size - len;

  memcpy (b->bytes + off, c->name, len);
  for (unsigned i = 0; i < 8; ++i)
    b->bytes[8 + i] = (unsigned char) (off >> 8 * (7 - i));
  b->bytes[19] = (unsigned char) len;
  if (format)
    builder_extension (b, 0xe2792aca, c->format,
                       (uint32_t) strlen (c->format));
}

/* Put its bytes over those of the disk so far. */
static void
add_to_disk (struct chain *c, const struct random_image *r)
{
  unsigned char *const disk = calloc (1, r->len);
  bool *const unknown = calloc (r->len, sizeof *unknown);

  REQUIRE (disk != NULL && unknown != NULL);
  for (uint64_t i = 0; i < r->len; ++i) {
    const bool below = r->sectors[i / 512].kind == SECTOR_UNALLOCATED;

    if (!below)
      disk[i] = r->disk[i];
    else if (i < c->disk_size)
      disk[i] = c->disk[i];
    unknown[i] = r->sectors[i / 512].kind == SECTOR_ZERO ||
      (below && (i >= c->disk_size || c->unknown[i]));
  }
  forget_disk (c);
  c->disk = disk;
  c->unknown = unknown;
  c->below_size = c->disk_size;
  c->disk_size = r->len;
}

/* What was the top gets something above it. */
static void
bury_top (struct chain *c)
{
  layers_add (&c->layers, c->name, strcmp (c->format, "raw") == 0, c->bytes,
              c->size);
}

static void
build_raw (struct chain *c)
{
  c->size = c->disk_size = 1 + rng_below (&c->rng, MAX_SIZE);
  c->bytes = malloc (c->size);
  c->disk = malloc (c->size);
  c->unknown = calloc (c->size, sizeof *c->unknown);
  REQUIRE (c->bytes != NULL && c->disk != NULL && c->unknown != NULL);
  rng_fill (&c->rng, c->bytes, c->size);
  if (rng_below (&c->rng, 2))
    memset (c->bytes + c->size / 3, 0, c->size / 3);
  memcpy (c->disk, c->bytes, c->size);
}

static void
build_layer (struct chain *c, unsigned nr)
{
  const bool raw = nr == 0 && c->nr > 1 && rng_below (&c->rng, 3) == 0;
  struct random_image r;

  if (raw)
    build_raw (c);
  else {
    make_random (&r, &c->rng, nr == 0);
    if (nr > 0) {
      name_backing (&r.b, c, rng_below (&c->rng, 2));
      bury_top (c);
    }
    add_to_disk (c, &r);
    c->bytes = r.b.bytes;
    c->size = r.b.size;
    r.b.bytes = NULL;
    random_image_free (&r);
  }
  snprintf (c->name, sizeof c->name, "layer-%u", nr);
  snprintf (c->format, sizeof c->format, raw ? "raw" :
            c->bytes[7] == 1 ? "qcow" : "qcow2");
}

/* ---- Layers made by QEMU ----------------------------------------------- */

struct made {
  uint64_t cluster;
  bool v2, v1;
  char own[64];                 /* options that this layer needs itself */
};

static void
choose_options (struct chain *c, struct made *m, bool bottom, char *buf,
                size_t len, bool *ret_luks)
{
  struct rng *const rng = &c->rng;
  const unsigned bits = 9 + (unsigned) rng_below (rng, 8);
  const uint64_t secret = qcow2_has_nettle () ? rng_below (rng, 5) : 5;
  const char *aes = "";

  m->v1 = bottom && rng_below (rng, 5) == 0;
  m->v2 = !m->v1 && rng_below (rng, 4) == 0;
  m->cluster = m->v1 ? 4096 : UINT64_C (1) << bits;
  *ret_luks = secret == 1 && !m->v1;
  m->own[0] = '\0';
  if (secret <= 1 && (secret == 0 || *ret_luks))
    snprintf (m->own, sizeof m->own, ",encrypt.key-secret=" QEMU_SECRET);
  if (secret == 0)
    aes = ",encrypt.format=aes,encrypt.key-secret=" QEMU_SECRET;
  if (m->v1)
    snprintf (buf, len, "%s", aes[0] ? aes + 1 : "");
  else
    snprintf (buf, len, "compat=%s,cluster_size=%" PRIu64 "%s%s",
              m->v2 ? "0.10" : "1.1", m->cluster,
              !m->v2 && bits >= 14 && rng_below (rng, 2) ?
              ",extended_l2=on" : "", aes);
}

/* The options of a layer that comes on top of all. */
static void
add_options (struct chain *c, const char *own)
{
  char below[sizeof c->options];
  size_t n = 0;

  /* Each of those so far is one layer further down. */
  for (const char *p = c->options; *p != '\0'; ++p)
    n += (size_t) snprintf (below + n, sizeof below - n, "%c%s", *p,
                            *p == ',' ? "backing." : "");
  below[n] = '\0';
  n = (size_t) snprintf (c->options, sizeof c->options, "%s%s", own, below);
  REQUIRE (n < sizeof c->options);
}

/* Commands for qemu-io, and what they do to the disk. */
struct changes {
  const struct made *m;
  unsigned char pattern[PATTERN];
  char text[1400];
  size_t used;
};

static void
add_command (struct changes *ch, const char *command, uint64_t off,
             uint64_t len)
{
  ch->used += (size_t) snprintf (ch->text + ch->used,
                                 sizeof ch->text - ch->used, " -c '%s %"
                                 PRIu64 " %" PRIu64 "'", command, off, len);
  REQUIRE (ch->used < sizeof ch->text);
}

static void
write_pattern (struct chain *c, struct changes *ch, const char *command,
               uint64_t off, uint64_t len)
{
  for (uint64_t i = 0; i < len; ++i)
    c->disk[off + i] = ch->pattern[i % PATTERN];
  add_command (ch, command, off, len);
}

/* Only where there is nothing yet; in an encrypted image, too. */
static void
add_compressed (struct chain *c, struct changes *ch)
{
  const uint64_t cluster = ch->m->cluster;
  uint64_t at = 0;

  for (unsigned i = 0; i < 3; ++i) {
    at += cluster * rng_below (&c->rng, 4);
    if (at + cluster > c->disk_size)
      return;
    write_pattern (c, ch, "write -c -s pattern", at, cluster);
    at += cluster;
  }
}

static void
add_change (struct chain *c, struct changes *ch)
{
  struct rng *const rng = &c->rng;
  const uint64_t off = rng_below (rng, c->disk_size);
  uint64_t n = 1 + rng_below (rng, rng_below (rng, 2) ? 4 * ch->m->cluster :
                              MAX_SIZE / 8);

  if (n > c->disk_size - off)
    n = c->disk_size - off;
  if (rng_below (rng, 4) > 0 || ch->m->v1) {
    write_pattern (c, ch, "write -s pattern", off, n);
    return;
  }
  memset (c->disk + off, 0, n);
  add_command (ch, rng_below (rng, 2) ? "write -z -u" : "write -z", off, n);
}

static void
change_layer (struct chain *c, const struct made *m, const char *image)
{
  const size_t half = PATTERN / 2;
  struct changes ch = { .m = m };

  rng_fill (&c->rng, ch.pattern, half);
  memcpy (ch.pattern + half, ch.pattern, half);
  qemu_save ("pattern", ch.pattern, sizeof ch.pattern);
  if (!m->v1 && qcow2_has_zlib ())
    add_compressed (c, &ch);
  for (unsigned i = 0; i < 6; ++i)
    add_change (c, &ch);
  qemu_run (0, "qemu-io %s %s", ch.text, image);
}

static void
resize_disk (struct chain *c, uint64_t size)
{
  c->disk = realloc (c->disk, size);
  REQUIRE (c->disk != NULL);
  if (size > c->disk_size)
    memset (c->disk + c->disk_size, 0, size - c->disk_size);
  c->below_size = c->disk_size;
  c->disk_size = size;
}

static void
make_raw (struct chain *c)
{
  resize_disk (c, 1 + rng_below (&c->rng, MAX_SIZE));
  rng_fill (&c->rng, c->disk, c->disk_size);
  qemu_save (c->name, c->disk, c->disk_size);
}

/* QEMU's programs are to open the layer so, with such options. */
static void
describe (const struct chain *c, const char *options, char *buf, size_t len)
{
  REQUIRE ((size_t) snprintf (buf, len, QEMU_OBJECT " --image-opts driver=%s,"
                              "file.filename=%s%s", c->format, c->name,
                              options) < len);
}

static void
make_image (struct chain *c, unsigned nr, const char *name)
{
  char options[200], below[2 * sizeof c->name], image[QEMU_IMAGE];
  struct made m;
  bool luks;

  choose_options (c, &m, nr == 0, options, sizeof options, &luks);
  resize_disk (c, 512 * (1 + rng_below (&c->rng, MAX_SIZE / 512)));
  snprintf (below, sizeof below, "-b %s -F %s", c->name, c->format);
  snprintf (c->name, sizeof c->name, "%s", name);
  snprintf (c->format, sizeof c->format, m.v1 ? "qcow" : "qcow2");
  qemu_run (0, "qemu-img create -q -f %s " QEMU_OBJECT " %s%s%s %s %"
            PRIu64, c->format, options[0] ? "-o '" : "", options,
            options[0] ? "'" : "", c->name, c->disk_size);
  if (luks)
    recipe_encrypt (c->name);
  if (nr > 0) {
    describe (c, m.own, image, sizeof image);
    qemu_run (0, "qemu-img rebase -u %s %s", below, image);
  }
  add_options (c, m.own);
  describe (c, c->options, image, sizeof image);
  change_layer (c, &m, image);
}

static void
make_layer (struct chain *c, unsigned nr)
{
  const bool raw = nr == 0 && c->nr > 1 && rng_below (&c->rng, 3) == 0;
  char name[64];

  snprintf (name, sizeof name, "layer-%u", nr);
  if (nr > 0)
    bury_top (c);
  if (raw) {
    snprintf (c->name, sizeof c->name, "%s", name);
    snprintf (c->format, sizeof c->format, "raw");
    make_raw (c);
  }
  else
    make_image (c, nr, name);
  c->bytes = qemu_load (c->name, &c->size);
}

/* ---- Requests ----------------------------------------------------------- */

struct run {
  struct chain *c;
  struct host host;
  struct attach attach;
  struct qcow2_image *image;
  unsigned char *buf;
  uint64_t cluster, next;       /* next: for extents */
  bool exact;
};

static void
compare (struct run *r, uint64_t off, uint64_t len)
{
  struct qcow2_error err;

  memset (r->buf, 0xa7, len);
  if (unit_check (qcow2_pread (r->image, &r->host.io, r->buf, (uint32_t) len,
                               off, &err) == 0, __FILE__, __LINE__,
                  "read failed"))
    CHECK_BYTES (r->buf, r->c->disk + off, len);
}

static bool
is_zero (const unsigned char *p, uint64_t len)
{
  return p[0] == 0 && memcmp (p, p + 1, len - 1) == 0;
}

/* What is built is known exactly, but for zeros that were stored. */
static int
see_extent (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  struct run *const r = opaque;
  const struct chain *const c = r->c;

  CHECK_EQ (guest_off, r->next);
  r->next = guest_off + len;
  if (type != QCOW2_EXTENT_DATA)
    CHECK (is_zero (c->disk + guest_off, len));
  for (uint64_t i = guest_off; r->exact && i < guest_off + len; ++i)
    if (!unit_check (c->unknown[i] ? type == QCOW2_EXTENT_ZERO :
                     type == QCOW2_EXTENT_DATA || c->disk[i] == 0, __FILE__,
                     __LINE__, "byte %" PRIu64 ", %sknown, is of type %d", i,
                     c->unknown[i] ? "un" : "", type))
      return 1;
  return 0;
}

static void
map (struct run *r, uint64_t off, uint64_t len)
{
  struct qcow2_error err;

  r->next = off;
  CHECK_EQ (qcow2_extents (r->image, &r->host.io, len, off, see_extent, r,
                           &err), 0);
  CHECK_EQ (r->next, off + len);
}

static void
choose_range (const struct run *r, uint64_t *off, uint64_t *len)
{
  struct rng *const rng = &r->c->rng;

  *off = rng_below (rng, r->c->disk_size);
  if (rng_below (rng, 3) == 0)
    *off -= *off % r->cluster;
  *len = rng_below (rng, 3) == 0 ? r->cluster :
    1 + rng_below (rng, 3 * r->cluster);
  if (*len > r->c->disk_size - *off)
    *len = r->c->disk_size - *off;
}

static void
trim (struct run *r, uint64_t off, uint64_t len)
{
  const struct chain *const c = r->c;
  uint64_t from = (off + r->cluster - 1) / r->cluster * r->cluster;
  uint64_t to = off + len;
  struct qcow2_error err;

  if (to < c->disk_size)
    to -= to % r->cluster;
  /* An entry of version 2 cannot say that it is not what is below. */
  while (qcow2_get_info (r->image).version == 2 && c->layers.nr > 0 &&
         from < c->below_size)
    from += r->cluster;
  CHECK_EQ (qcow2_trim (r->image, &r->host.io, len, off, false, &err), 0);
  if (to > from)
    memset (c->disk + from, 0, to - from);
}

static void
change (struct run *r)
{
  struct chain *const c = r->c;
  struct qcow2_error err;
  uint64_t off, len;
  unsigned flags;

  choose_range (r, &off, &len);
  switch (rng_below (&c->rng, 8)) {
  case 0 ... 3:
    rng_fill (&c->rng, r->buf, len);
    CHECK_EQ (qcow2_pwrite (r->image, &r->host.io, r->buf, (uint32_t) len,
                            off, false, &err), 0);
    memcpy (c->disk + off, r->buf, len);
    break;
  case 4:
    flags = (unsigned) rng_below (&c->rng, 2) * QCOW2_ZERO_MAY_TRIM;
    CHECK_EQ (qcow2_zero (r->image, &r->host.io, len, off, flags, &err), 0);
    memset (c->disk + off, 0, len);
    break;
  case 5:
    trim (r, off, len);
    break;
  case 6:
    map (r, off, len);
    break;
  default:
    compare (r, off, len);
    break;
  }
}

static void
open_run (struct run *r, bool writable)
{
  struct qcow2_options options = {
    .writable = writable, .overlap_check = QCOW2_OVERLAP_CACHED,
    .cluster_cache_size = rng_below (&r->c->rng, 2) * 256 * KiB,
  };
  struct qcow2_error err;

  r->attach.layers = &r->c->layers;
  attach_options (&r->attach, &options);
  host_reopen (&r->host);
  r->image = qcow2_open (&r->host.io, &options, &err);
  if (!unit_check (r->image != NULL, __FILE__, __LINE__, "open: %s",
                   r->image ? "" : err.text))
    exit (unit_finish ());
  r->cluster = qcow2_get_info (r->image).cluster_size;
  CHECK_EQ (qcow2_get_info (r->image).virtual_size, r->c->disk_size);
  CHECK_EQ (qcow2_get_info (r->image).has_backing_file, r->c->nr > 1);
}

static void
look (struct run *r)
{
  uint64_t off, len;

  for (unsigned i = 0; i < 30; ++i) {
    choose_range (r, &off, &len);
    compare (r, off, len);
    choose_range (r, &off, &len);
    map (r, off, len);
  }
  compare (r, 0, r->c->disk_size);
  map (r, 0, r->c->disk_size);
  stops_check (r->image, &r->host.io, r->c->disk_size, 0);
  choose_range (r, &off, &len);
  stops_check (r->image, &r->host.io, len, off);
}

static void
write_to_top (struct run *r, const struct fsck *before)
{
  struct qcow2_error err;
  struct fsck after;

  r->exact = false;             /* from the first write on */
  open_run (r, true);
  for (unsigned i = 0; i < 60; ++i)
    change (r);
  look (r);
  unit_check (qcow2_end (r->image, &r->host.io, &err) == 0, __FILE__,
              __LINE__, "end failed");
  qcow2_close (r->image);
  fsck_image (r->host.bytes, r->host.size, &after);
  unit_check (after.corruptions == 0 && after.leaks <= before->leaks,
              __FILE__, __LINE__, "%s%s", after.text, after.leak_text);
}

static void
submit (const struct run *r, const char *what)
{
  const struct qemu_files files = { .options = r->c->options };

  if (r->c->by_qemu)
    qemu_submit (r->host.bytes, r->host.size, &files, QEMU_SOUND, r->c->disk,
                 r->c->disk_size, what);
}

static void
test_chain (uint64_t seed)
{
  static struct chain c;
  struct run r = { .c = &c };
  struct fsck before = { 0 };
  bool writable;

  memset (&c, 0, sizeof c);
  c.rng.state = seed;
  c.layers.passphrase = QEMU_PASSPHRASE;
  c.nr = 1 + (unsigned) rng_below (&c.rng, LAYERS_MAX);
  c.by_qemu = seed % 2;
  unit_context ("seed %" PRIu64 ", %u layers%s", seed, c.nr,
                c.by_qemu ? " made by QEMU" : "");
  for (unsigned i = 0; i < c.nr; ++i)
    if (c.by_qemu)
      make_layer (&c, i);
    else
      build_layer (&c, i);
  host_init (&r.host, &(struct host_spec) {
      .capacity = c.size + 8 * MAX_SIZE, .grows = true,
      .min_block = seed % 3 ? 1 : 512, .holes = seed % 4 == 0,
    }, c.bytes, c.size);
  r.buf = malloc (2 * MAX_SIZE);
  REQUIRE (r.buf != NULL);
  r.exact = !c.by_qemu;
  open_run (&r, false);
  look (&r);
  qcow2_close (r.image);
  writable = c.bytes[7] != 1;
  if (writable) {
    submit (&r, "before");
    fsck_image (c.bytes, c.size, &before);
    write_to_top (&r, &before);
    submit (&r, "after");
  }
  if (c.by_qemu)
    qemu_wait ();
  layers_free (&c.layers);
  host_free (&r.host);
  free (r.buf);
  free (c.bytes);
  forget_disk (&c);
}

/* ---- What a copy on write costs ----------------------------------------- */

struct cost {
  uint64_t reads, read_bytes, writes, written;
};

static struct cost
cost_of (const struct run *r)
{
  const struct memory_io *const below = &r->attach.layers->layer[0].m;
  struct qcow2_stats stats;

  qcow2_get_stats (r->image, &stats);
  return (struct cost) {
    .reads = memory_io_total_reads (below), .read_bytes = below->read_bytes,
    .writes = stats.io[QCOW2_IO_DATA].writes,
    .written = stats.io[QCOW2_IO_DATA].written,
  };
}

/* Write, and see what that has cost below and above. */
static void
check_cost (struct run *r, const char *what, uint64_t off, uint64_t len,
            const struct cost *allowed)
{
  const struct cost before = cost_of (r);
  struct qcow2_error err;
  struct cost after;

  rng_fill (&r->c->rng, r->buf, len);
  CHECK_EQ (qcow2_pwrite (r->image, &r->host.io, r->buf, (uint32_t) len, off,
                          false, &err), 0);
  memcpy (r->c->disk + off, r->buf, len);
  after = cost_of (r);
  after.reads -= before.reads;
  after.read_bytes -= before.read_bytes;
  after.writes -= before.writes;
  after.written -= before.written;
  unit_check (after.reads <= allowed->reads &&
              after.read_bytes <= allowed->read_bytes &&
              after.writes <= allowed->writes &&
              after.written <= allowed->written, __FILE__, __LINE__,
              "%s: %" PRIu64 " reads below, %" PRIu64 " bytes; %" PRIu64
              " writes, %" PRIu64 " bytes", what, after.reads,
              after.read_bytes, after.writes, after.written);
}

/* 64 KiB clusters over a raw file, perhaps with images in between. */
/* The requests to which writes of all alignments lead; 'unit' is the size of
 * what is copied at once.
 */
static void
check_costs (struct run *r, uint64_t unit)
{
  check_cost (r, "a whole cluster",
              15 * 64 * KiB, 64 * KiB,
              &(struct cost) { 0, 0, 1, 64 * KiB });
  /* In the middle: one read, of all of it, and one write. */
  check_cost (r, "in the middle",
              3 * 64 * KiB + unit / 2, 100,
              &(struct cost) { 1, unit, 1, unit });
  /* At the start and at the end: what is not written is read. */
  check_cost (r, "at the start",
              5 * 64 * KiB, unit / 4,
              &(struct cost) { 1, unit - unit / 4, 1, unit });
  check_cost (r, "at the end",
              7 * 64 * KiB - unit / 4, unit / 4,
              &(struct cost) { 1, unit - unit / 4, 1, unit });
  /* Three of them, in part the first and the last. */
  check_cost (r, "three",
              8 * 64 * KiB + unit / 2, 2 * unit,
              &(struct cost) { 2, unit == 64 * KiB ? unit : 3 * unit, 2,
                               3 * unit });
  /* They are there now. */
  check_cost (r, "again",
              8 * 64 * KiB + unit / 4, unit,
              &(struct cost) { 0, 0, 1, unit });
}

static void
test_costs (const char *options, unsigned between, uint64_t unit)
{
  struct recipe middle[LAYERS_MAX];
  const struct recipe raw = {
    .raw = true, .cluster_bits = 16, .disk_size = 1024 * KiB,
    .fill_percent = 100,
  };
  struct recipe top = {
    .options = options, .cluster_bits = 16, .disk_size = 1024 * KiB,
    .below = between ? &middle[0] : &raw,
  };
  static struct chain c;
  struct recipe_image image;
  struct run r = { .c = &c };
  struct qcow2_options open = { .writable = true, .count = true };
  struct qcow2_error err;

  unit_context ("%s, %u in between", options, between);
  for (unsigned i = 0; i < between; ++i)
    middle[i] = (struct recipe) {
      .options = "cluster_size=4k", .cluster_bits = 12,
      .disk_size = 1024 * KiB,
      .below = i + 1 < between ? &middle[i + 1] : &raw,
    };
  recipe_make (&image, &top, 1);
  c.disk = image.disk;
  host_init (&r.host, &(struct host_spec) {
      .capacity = 4096 * KiB, .grows = true }, image.bytes, image.size);
  r.attach.layers = &image.layers;
  attach_options (&r.attach, &open);
  r.image = qcow2_open (&r.host.io, &open, &err);
  r.buf = malloc (1024 * KiB);
  REQUIRE (r.image != NULL && r.buf != NULL);
  /* Tables. */
  compare (&r, 0, 1024 * KiB);
  check_costs (&r, unit);
  compare (&r, 0, 1024 * KiB);
  CHECK_EQ (qcow2_end (r.image, &r.host.io, &err), 0);
  qcow2_close (r.image);
  host_free (&r.host);
  free (r.buf);
  recipe_free (&image);
}

int
main (int argc, char *argv[])
{
  const uint64_t first = argc > 1 ? strtoull (argv[1], NULL, 0) : 1;
  const unsigned runs =
    argc > 2 ? (unsigned) strtoul (argv[2], NULL, 0) : unit_scaled (40);

  qemu_init ();
  for (unsigned i = 0; i < runs && unit_failures () < 3; ++i)
    test_chain (first + i);
  test_costs ("cluster_size=64k", 0, 64 * KiB);
  test_costs ("cluster_size=64k,extended_l2=on", 0, 2 * KiB);
  test_costs ("cluster_size=64k,compat=0.10", 0, 64 * KiB);
  test_costs ("cluster_size=64k", 6, 64 * KiB);
  test_costs ("cluster_size=64k,extended_l2=on", 6, 2 * KiB);
  qemu_wait ();
  qemu_finish ();
  return unit_finish ();
}
