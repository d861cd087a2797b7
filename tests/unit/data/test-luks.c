/* SPDX-License-Identifier: BSD-3-Clause */
/* test-luks.c - opening LUKS headers: one that QEMU has made, others with
 * any number of slots, and hostile ones.
 *
 * Owns      the wrappers of mmap and munmap, which allocate all secret memory,
 *           and of q2_pbkdf2.
 * Method    q2_pbkdf2 does only small amounts of work; larger ones are just
 *           counted.
 * Locks     none; one thread.
 */
#include "config.h"

#include "codec/afsplit.h"
#include "codec/pbkdf.h"
#include "format/luks.h"
#include "data/keyring.h"
#include "data/unlock.h"

#include "memory_io.h"
#include "unit.h"

#include <errno.h>
#include <sys/mman.h>

/* ---- What lies between the engine and its libraries -------------------- */

extern void *__real_mmap (void *, size_t, int, int, int, off_t);
extern int __real_munmap (void *, size_t);
extern void *__wrap_mmap (void *, size_t, int, int, int, off_t);
extern int __wrap_munmap (void *, size_t);

static unsigned maps, fail_map_at;
static int live;

void *
__wrap_mmap (void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
  void *p;

  if (++maps == fail_map_at)
    return MAP_FAILED;
  p = __real_mmap (addr, len, prot, flags, fd, off);
  live += p != MAP_FAILED;
  return p;
}

/* What was secret has been wiped. */
int
__wrap_munmap (void *addr, size_t len)
{
  const unsigned char *const p = addr;
  unsigned char any = 0;

  for (size_t i = 0; i < len; ++i)
    any |= p[i];
  CHECK_EQ (any, 0);
  live--;
  return __real_munmap (addr, len);
}

#define MAX_REAL_ROUNDS 1000000

static uint64_t work;           /* rounds that were asked for */

extern int __real_q2_pbkdf2 (enum q2_hash, const void *, size_t,
                             const void *, size_t, uint32_t, void *, size_t,
                             struct q2_work *, struct qcow2_error *);
extern int __wrap_q2_pbkdf2 (enum q2_hash, const void *, size_t,
                             const void *, size_t, uint32_t, void *, size_t,
                             struct q2_work *, struct qcow2_error *);

int
__wrap_q2_pbkdf2 (enum q2_hash hash, const void *secret, size_t secret_len,
                  const void *salt, size_t salt_len, uint32_t iterations,
                  void *ret_key, size_t key_len, struct q2_work *w,
                  struct qcow2_error *err)
{
  const uint64_t rounds = q2_pbkdf2_rounds (hash, iterations, key_len);

  CHECK (iterations > 0);
  work += rounds;
  if (rounds <= MAX_REAL_ROUNDS)
    return __real_q2_pbkdf2 (hash, secret, secret_len, salt, salt_len,
                             iterations, ret_key, key_len, w, err);
  memset (ret_key, 0x5a, key_len);
  return 0;
}

/* ---- An image file with a LUKS header ---------------------------------- */

#define LUKS_OFF 0x10000
#define MAX_LUKS_BYTES 0x90000

static unsigned char file[LUKS_OFF + MAX_LUKS_BYTES];
static unsigned char *const header = file + LUKS_OFF;
static uint64_t luks_bytes;
static struct memory_io m;
static struct q2_io io = { .host = &m.io };
static struct qcow2_keyring *keyring; /* mostly none */

static int
unlock (const char *passphrase, struct q2_cipher **ret,
        struct qcow2_error *err)
{
  work = 0;
  maps = 0;
  memory_io_reset (&m);
  return q2_luks_unlock (&io, LUKS_OFF, luks_bytes, passphrase,
                         strlen (passphrase), keyring, ret, err);
}

static void
put32 (unsigned char *p, uint32_t v)
{
  put_be (p, 4, v);
}

static void
start_file (uint64_t size)
{
  memset (file, 0, sizeof file);
  memory_io_init (&m, file, sizeof file);
  io.file_size = sizeof file;
  luks_bytes = size;
}

#ifdef HAVE_NETTLE

/* For making headers. */
static void
derive (enum q2_hash hash, const void *secret, size_t secret_len,
        const void *salt, size_t salt_len, uint32_t iterations, void *ret_key,
        size_t key_len)
{
  struct q2_work unbounded = q2_work_begin (NULL, UINT64_MAX, "a key");
  struct qcow2_error err;

  REQUIRE (q2_pbkdf2 (hash, secret, secret_len, salt, salt_len, iterations,
                      ret_key, key_len, &unbounded, &err) == 0);
}

#define SLOT(nr) (header + 208 + 48 * (nr))
#define ACTIVE 0x00ac71f3
#define DISABLED 0x0000dead

/* A header without active slots. */
static void
make_header (const char *name, const char *mode, const char *hash,
             unsigned key_bytes)
{
  struct rng rng = { 5 };
  unsigned char key[Q2_MAX_KEY_BYTES];
  enum q2_hash h;

  start_file (0x20000);
  memcpy (header, "LUKS\xba\xbe\0\1", 8);
  strcpy ((char *) header + 8, name);
  strcpy ((char *) header + 40, mode);
  strcpy ((char *) header + 72, hash);
  put32 (header + 104, 4096);
  put32 (header + 108, key_bytes);
  rng_fill (&rng, header + 132, 32);
  put32 (header + 164, 2);
  for (unsigned i = 0; i < 8; ++i) {
    put32 (SLOT (i), DISABLED);
    put32 (SLOT (i) + 40, 8 + i * 16);
    put32 (SLOT (i) + 44, 4000);
  }
  memset (key, 0xc3, sizeof key);
  REQUIRE (q2_hash_decode (hash, &h));
  derive (h, key, key_bytes, header + 132, 32, 2, header + 112, 20);
}

/* The disk's key is full of c3. */
static void
make_slot (unsigned nr, const char *passphrase, uint32_t iterations,
           uint32_t stripes)
{
  struct rng rng = { nr };
  unsigned char *const p = SLOT (nr);
  unsigned char *const material = header + 4096 + nr * 8192;
  const size_t key_bytes = header[111];
  unsigned char *const last = material + (stripes - 1) * key_bytes;
  unsigned char key[Q2_MAX_KEY_BYTES];
  struct q2_cipher_spec spec;
  struct q2_cipher *c;
  struct qcow2_error err;
  enum q2_hash hash;
  size_t size = stripes * key_bytes;

  REQUIRE (size <= 8192);
  size = (size + 511) / 512 * 512;
  REQUIRE (q2_hash_decode ((char *) header + 72, &hash));
  REQUIRE (q2_cipher_spec_decode ((char *) header + 8, (char *) header + 40,
                                  0, &spec, &err) == 0);
  put32 (p, ACTIVE);
  put32 (p + 4, iterations);
  rng_fill (&rng, p + 8, 32);
  put32 (p + 40, 8 + nr * 16);
  put32 (p + 44, stripes);

  rng_fill (&rng, material, size);
  memset (last, 0, key_bytes);
  q2_af_merge (hash, material, key_bytes, stripes, key);
  for (unsigned i = 0; i < key_bytes; ++i)
    last[i] = key[i] ^ 0xc3;
  derive (hash, passphrase, strlen (passphrase), p + 8, 32, iterations,
             key, key_bytes);
  c = q2_cipher_new (&spec, key, key_bytes, &err);
  REQUIRE (c != NULL);
  q2_cipher_encrypt (c, material, material, size, 0);
  q2_cipher_free (c);
}

static void
expect_key (const struct q2_cipher *c)
{
  unsigned char key[Q2_MAX_KEY_BYTES];
  unsigned char a[1024] = { 1 }, b[1024] = { 1 };
  struct q2_cipher_spec spec;
  struct qcow2_error err;
  struct q2_cipher *d;

  memset (key, 0xc3, sizeof key);
  REQUIRE (q2_cipher_spec_decode ((char *) header + 8, (char *) header + 40,
                                  0, &spec, &err) == 0);
  d = q2_cipher_new (&spec, key, header[111], &err);
  REQUIRE (d != NULL);
  q2_cipher_encrypt (c, a, a, sizeof a, 99);
  q2_cipher_encrypt (d, b, b, sizeof b, 99);
  CHECK_BYTES (a, b, sizeof a);
  q2_cipher_free (d);
}

static void
expect_open (const char *passphrase)
{
  struct q2_cipher *c = NULL;
  struct qcow2_error err;

  if (CHECK (unlock (passphrase, &c, &err) == 0)) {
    expect_key (c);
    q2_cipher_free (c);
  }
  else
    fprintf (stderr, "%s\n", err.text);
  CHECK_EQ (live, 0);
}

static void
expect_fail (const char *passphrase, enum qcow2_error_kind kind,
             uint64_t host_off)
{
  struct q2_cipher *c = NULL;
  struct qcow2_error err;

  if (!CHECK (unlock (passphrase, &c, &err) == -1))
    return;
  CHECK_ERROR (&err, kind, host_off);
  CHECK (c == NULL);
  CHECK_EQ (live, 0);
}

/* ---- Tests ------------------------------------------------------------- */

/* See unit/make-luks-fixture. */
#define QEMU_MATERIAL 4096
#define QEMU_MATERIAL_BYTES 64000
#define QEMU_SECTOR 548864

static void
test_qemu (void)
{
  const char *const srcdir = getenv ("top_srcdir");
  unsigned char sector[512], want[512];
  struct q2_cipher *c = NULL;
  struct qcow2_error err;
  char path[4096];
  FILE *f;

  start_file (528384);
  snprintf (path, sizeof path, "%s/tests/unit/luks-aes-128-cbc.bin",
            srcdir ? srcdir : ".");
  f = fopen (path, "rb");
  REQUIRE (f != NULL);
  REQUIRE (fread (header, 592, 1, f) == 1);
  REQUIRE (fread (header + QEMU_MATERIAL, QEMU_MATERIAL_BYTES, 1, f) == 1);
  REQUIRE (fread (sector, 512, 1, f) == 1);
  fclose (f);

  REQUIRE (unlock ("sesame", &c, &err) == 0);
  CHECK_EQ (memory_io_total_reads (&m), 2);
  q2_cipher_decrypt (c, sector, sector, 512, QEMU_SECTOR / 512);
  memset (want, 'Z', sizeof want);
  CHECK_BYTES (sector, want, sizeof want);
  q2_cipher_free (c);
  CHECK_EQ (live, 0);
  expect_fail ("sesame ", QCOW2_ERR_AUTH, LUKS_OFF);
  expect_fail ("", QCOW2_ERR_AUTH, LUKS_OFF);
  /* Each byte of the material counts. */
  header[QEMU_MATERIAL + 33333] ^= 1;
  expect_fail ("sesame", QCOW2_ERR_AUTH, LUKS_OFF);
}

/* Keys of all lengths, longer and shorter than digests, with a last stripe
 * that ends in the middle of a sector.
 */
static void
test_kinds (void)
{
  static const char *const hashes[] = {
    "md5", "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160", "sm3"
  };
  static const struct {
    const char *name, *mode;
    unsigned key_bytes;
  } ciphers[] = {
    { "aes", "xts-plain64", 64 }, { "aes", "xts-plain", 48 },
    { "serpent", "cbc-essiv:sha256", 24 }, { "twofish", "ctr-plain64", 32 },
    { "cast5", "cbc-plain", 16 }, { "aes", "ecb", 32 },
  };

  for (unsigned i = 0; i < sizeof ciphers / sizeof ciphers[0]; ++i)
    for (unsigned j = 0; j < sizeof hashes / sizeof hashes[0]; ++j) {
      unit_context ("%s %s %s", ciphers[i].name, ciphers[i].mode, hashes[j]);
      make_header (ciphers[i].name, ciphers[i].mode, hashes[j],
                   ciphers[i].key_bytes);
      make_slot (0, "open", 3, 1 + j * 15);
      expect_open ("open");
      expect_fail ("shut", QCOW2_ERR_AUTH, LUKS_OFF);
    }
  unit_context ("%s", "");
}

static void
test_slots (void)
{
  char passphrase[300];

  make_header ("aes", "xts-plain64", "sha256", 64);
  expect_fail ("p0", QCOW2_ERR_AUTH, LUKS_OFF);
  CHECK_EQ (work, 0);
  for (unsigned i = 0; i < 8; ++i) {
    snprintf (passphrase, sizeof passphrase, "p%u", i);
    make_slot (i, passphrase, 1 + i, 128);
  }
  for (unsigned i = 0; i < 8; ++i) {
    snprintf (passphrase, sizeof passphrase, "p%u", i);
    expect_open (passphrase);
    CHECK_EQ (memory_io_total_reads (&m), 2 + i);
    CHECK_EQ (m.reads[QCOW2_IO_HEADER], 2 + i);
  }
  /* A slot that is switched off, and its material wiped or not. */
  put32 (SLOT (3), DISABLED);
  expect_fail ("p3", QCOW2_ERR_AUTH, LUKS_OFF);
  expect_open ("p4");
  CHECK_EQ (memory_io_total_reads (&m), 1 + 4);
  /* Whatever is in it then. */
  memset (SLOT (3) + 4, 0xff, 44);
  expect_open ("p7");
  memset (SLOT (3) + 4, 0, 44);
  expect_open ("p7");
  /* Destroyed material is a slot less. */
  memset (header + 4096 + 5 * 8192, 0, 512);
  expect_fail ("p5", QCOW2_ERR_AUTH, LUKS_OFF);
  expect_open ("p6");
  /* Any bytes may be a passphrase, any number of them. */
  memset (passphrase, 0xff, sizeof passphrase);
  passphrase[299] = '\0';
  make_slot (5, passphrase, 3, 128);
  expect_open (passphrase);
  passphrase[298] = '\0';
  expect_fail (passphrase, QCOW2_ERR_AUTH, LUKS_OFF);
  make_slot (5, "", 3, 128);
  expect_open ("");
}

/* One field at a time. */
static void
test_fields (void)
{
  static const struct {
    unsigned at;
    uint32_t value;
    enum qcow2_error_kind kind;
    unsigned blamed;            /* offset in the header */
  } edits[] = {
    { 0, 0x4c554b54, QCOW2_ERR_CORRUPT, 0 },      /* LUKT */
    { 4, 0xbabe0002, QCOW2_ERR_UNSUPPORTED, 6 },  /* version */
    { 4, 0xbabe0000, QCOW2_ERR_UNSUPPORTED, 6 },
    { 4, 0xbabf0001, QCOW2_ERR_CORRUPT, 0 },
    { 8, 0x61657340, QCOW2_ERR_UNSUPPORTED, 0 },  /* aes@ */
    { 40, 0x78747a2d, QCOW2_ERR_UNSUPPORTED, 0 }, /* xtz- */
    { 72, 0x73686120, QCOW2_ERR_UNSUPPORTED, 72 }, /* sha */
    { 108, 0, QCOW2_ERR_CORRUPT, 108 },           /* key */
    { 108, 16, QCOW2_ERR_CORRUPT, 108 },
    { 108, 63, QCOW2_ERR_CORRUPT, 108 },
    { 108, 65, QCOW2_ERR_CORRUPT, 108 },
    { 108, 128, QCOW2_ERR_CORRUPT, 108 },
    { 108, UINT32_MAX, QCOW2_ERR_CORRUPT, 108 },
    { 108, 0x80000040, QCOW2_ERR_CORRUPT, 108 },
    { 112, 0x01020304, QCOW2_ERR_AUTH, 0 },       /* digest */
    { 132, 0x01020304, QCOW2_ERR_AUTH, 0 },       /* its salt */
    { 164, 0, QCOW2_ERR_CORRUPT, 164 },           /* its iterations */
    { 164, 3, QCOW2_ERR_AUTH, 0 },
    { 208, 0, QCOW2_ERR_CORRUPT, 208 },           /* state */
    { 208, 0x00ac71f2, QCOW2_ERR_CORRUPT, 208 },
    { 256, 0, QCOW2_ERR_CORRUPT, 256 },
    { 212, 0, QCOW2_ERR_CORRUPT, 208 },           /* iterations */
    { 212, 4, QCOW2_ERR_AUTH, 0 },
    { 216, 0, QCOW2_ERR_AUTH, 0 },                /* salt */
    { 248, 0, QCOW2_ERR_CORRUPT, 208 },           /* place: in the header */
    { 248, 1, QCOW2_ERR_CORRUPT, 208 },
    { 248, 2, QCOW2_ERR_AUTH, 0 },
    { 248, 0x100 - 15, QCOW2_ERR_CORRUPT, 208 },  /* one sector too far */
    { 248, 0x100 - 16, QCOW2_ERR_AUTH, 0 },
    { 248, 0x800000, QCOW2_ERR_CORRUPT, 208 },    /* 2^32 bytes */
    { 248, UINT32_MAX, QCOW2_ERR_CORRUPT, 208 },
    { 252, 0, QCOW2_ERR_CORRUPT, 208 },           /* stripes */
    { 252, 127, QCOW2_ERR_AUTH, 0 },
    { 252, 16001, QCOW2_ERR_CORRUPT, 208 },
    { 252, 2000, QCOW2_ERR_CORRUPT, 208 },        /* longer than the area */
    { 252, UINT32_MAX, QCOW2_ERR_CORRUPT, 208 },
    { 252, 0x4000000, QCOW2_ERR_CORRUPT, 208 },   /* 2^32 bytes */
  };
  unsigned char copy[592];

  make_header ("aes", "xts-plain64", "sha256", 64);
  make_slot (0, "open", 3, 128);
  memcpy (copy, header, sizeof copy);
  for (unsigned i = 0; i < sizeof edits / sizeof edits[0]; ++i) {
    unit_context ("%u := 0x%x", edits[i].at, edits[i].value);
    put32 (header + edits[i].at, edits[i].value);
    expect_fail ("open", edits[i].kind, LUKS_OFF + edits[i].blamed);
    memcpy (header, copy, sizeof copy);
  }
  unit_context ("%s", "");
  /* Fields that readers ignore. */
  put32 (header + 104, UINT32_MAX);
  memset (header + 168, 0xff, 40);
  expect_open ("open");
}

/* Names without a final zero byte. */
static void
test_endless_names (void)
{
  unsigned char copy[592];

  make_header ("aes", "xts-plain64", "sha256", 64);
  make_slot (0, "open", 3, 128);
  memcpy (copy, header, sizeof copy);
  for (unsigned at = 8; at < 104; at += 32) {
    unit_context ("name at %u", at);
    memset (header + at, 'a', 32);
    expect_fail ("open", QCOW2_ERR_CORRUPT, LUKS_OFF + at);
    memcpy (header, copy, sizeof copy);
  }
  unit_context ("%s", "");
}

/* Two key slots that overlap: by a sector, or wholly. */
static void
test_overlapping_slots (void)
{
  make_header ("aes", "xts-plain64", "sha256", 64);
  make_slot (0, "open", 3, 128);
  make_slot (1, "two", 3, 128);
  put32 (SLOT (1) + 40, 8 + 15);
  expect_fail ("open", QCOW2_ERR_CORRUPT, LUKS_OFF + 256);
  put32 (SLOT (1) + 40, 8);
  expect_fail ("open", QCOW2_ERR_CORRUPT, LUKS_OFF + 256);
  put32 (SLOT (0), DISABLED);
  put32 (SLOT (1) + 40, 8 + 16);
  expect_open ("two");
}

static void
test_sizes (void)
{
  make_header ("aes", "xts-plain64", "sha256", 64);
  make_slot (0, "open", 3, 128);
  luks_bytes = 4096 + 8192;
  expect_open ("open");
  luks_bytes--;
  expect_fail ("open", QCOW2_ERR_CORRUPT, LUKS_OFF + 208);
  luks_bytes = 591;
  expect_fail ("open", QCOW2_ERR_CORRUPT, LUKS_OFF);
  luks_bytes = 0;
  expect_fail ("open", QCOW2_ERR_CORRUPT, LUKS_OFF);
  luks_bytes = Q2_LUKS_MAX_BYTES;
  expect_open ("open");
  /* The file ends where the last byte is, and before. */
  m.io.size = io.file_size = LUKS_OFF + 4096 + 8192;
  expect_open ("open");
  m.io.size = io.file_size = LUKS_OFF + 4096 + 8192 - 512;
  expect_fail ("open", QCOW2_ERR_AUTH, LUKS_OFF);
  m.io.size = io.file_size = LUKS_OFF;
  expect_fail ("open", QCOW2_ERR_CORRUPT, LUKS_OFF);
}

/* However much work is asked for, little is done. */
static void
test_bombs (void)
{
  make_header ("aes", "xts-plain64", "sha256", 64);
  for (unsigned i = 0; i < 8; ++i)
    make_slot (i, "open", 3, 128);
  /* 2^33 rounds each: none is tried. */
  for (unsigned i = 0; i < 8; ++i)
    put32 (SLOT (i) + 4, UINT32_MAX);
  expect_fail ("open", QCOW2_ERR_AUTH, LUKS_OFF);
  CHECK_EQ (work, 0);
  /* They do not get into the way of the one that can be tried. */
  put32 (SLOT (6) + 4, 3);
  expect_open ("open");
  CHECK (work < 100);
  /* As much as is allowed, and a bit: two of 2^26, which is 2^27 rounds,
   * less what the digest costs.
   */
  for (unsigned i = 0; i < 8; ++i)
    put32 (SLOT (i) + 4, (1u << 26) - 1);
  expect_fail ("open", QCOW2_ERR_AUTH, LUKS_OFF);
  CHECK_EQ (work, Q2_LUKS_MAX_ROUNDS);
  for (unsigned i = 0; i < 8; ++i)
    put32 (SLOT (i) + 4, 1u << 26);
  expect_fail ("open", QCOW2_ERR_AUTH, LUKS_OFF);
  CHECK (work <= Q2_LUKS_MAX_ROUNDS / 2 + 2);
  /* The digest asks for it. */
  for (unsigned i = 0; i < 8; ++i)
    put32 (SLOT (i) + 4, 3);
  put32 (header + 164, UINT32_MAX);
  expect_fail ("open", QCOW2_ERR_AUTH, LUKS_OFF);
  CHECK_EQ (work, 0);
  put32 (header + 164, 1u << 26);
  expect_fail ("open", QCOW2_ERR_AUTH, LUKS_OFF);
  CHECK (work <= Q2_LUKS_MAX_ROUNDS);
  /* What the fastest machines make of 2 seconds, in all slots. */
  put32 (header + 164, 2500000);
  for (unsigned i = 0; i < 8; ++i)
    put32 (SLOT (i) + 4, 10000000);
  expect_fail ("open", QCOW2_ERR_AUTH, LUKS_OFF);
  CHECK_EQ (work, 8 * (2 * 10000000 + 2500000));
}

static void
test_faults (void)
{
  struct q2_cipher *c = NULL;
  struct qcow2_error err;
  unsigned nr;

  make_header ("aes", "cbc-essiv:sha256", "sha1", 32);
  make_slot (0, "one", 3, 128);
  make_slot (1, "two", 3, 128);
  m.fail_errnum = EDEADLK;
  for (unsigned i = 1; i <= 3; ++i) {
    m.fail_at = i;
    CHECK (unlock ("two", &c, &err) == -1);
    CHECK_EQ (err.kind, QCOW2_ERR_IO);
    CHECK_EQ (err.errnum, EDEADLK);
    CHECK_EQ (live, 0);
    m.fail_at = 0;
  }
  REQUIRE (unlock ("two", &c, &err) == 0);
  q2_cipher_free (c);
  c = NULL;
  nr = maps;
  CHECK (nr >= 4);
  for (unsigned i = 1; i <= nr; ++i) {
    fail_map_at = i;
    CHECK (unlock ("two", &c, &err) == -1);
    CHECK_ERROR (&err, QCOW2_ERR_NOMEM, QCOW2_NO_OFFSET);
    CHECK_EQ (live, 0);
    fail_map_at = 0;
  }
  CHECK (c == NULL);
  expect_open ("two");
}

/* Any header at all is refused, or can be tried. */
static void
test_any (void)
{
  struct rng rng = { 17 };
  unsigned char copy[592];
  unsigned opened = 0, kinds[16] = { 0 };

  make_header ("aes", "xts-plain64", "sha256", 64);
  make_slot (0, "open", 3, 128);
  make_slot (7, "other", 3, 128);
  memcpy (copy, header, sizeof copy);
  for (unsigned i = 0; i < 592 * 8 + unit_scaled (4000); ++i) {
    struct q2_cipher *c = NULL;
    struct qcow2_error err;

    if (i < 592 * 8)
      header[i / 8] ^= (unsigned char) (1u << i % 8);
    else
      for (unsigned n = 0; n <= rng_below (&rng, 6); ++n)
        header[104 + rng_below (&rng, 488)] = (unsigned char)
          rng_below (&rng, 256);
    unit_context ("change %u", i);
    if (unlock ("open", &c, &err) == 0)
      opened++;
    else
      kinds[err.kind]++;
    q2_cipher_free (c);
    CHECK (work <= Q2_LUKS_MAX_ROUNDS);
    CHECK_EQ (live, 0);
    memcpy (header, copy, sizeof copy);
  }
  unit_context ("%s", "");
  CHECK (opened > 0);
  CHECK (kinds[QCOW2_ERR_CORRUPT] > 0);
  CHECK (kinds[QCOW2_ERR_UNSUPPORTED] > 0);
  CHECK (kinds[QCOW2_ERR_AUTH] > 0);
  CHECK_EQ (kinds[QCOW2_ERR_IO] + kinds[QCOW2_ERR_NOMEM], 0);
}

/* With the keyring; nothing but the header is read then. */
static void
expect_known (const char *passphrase)
{
  struct q2_cipher *c = NULL;
  struct qcow2_error err;

  REQUIRE (unlock (passphrase, &c, &err) == 0);
  CHECK_EQ (work, 0);
  CHECK_EQ (memory_io_total_reads (&m), 1);
  expect_key (c);
  q2_cipher_free (c);
}

static void
expect_unknown (const char *passphrase)
{
  struct q2_cipher *c = NULL;
  struct qcow2_error err;

  REQUIRE (unlock (passphrase, &c, &err) == 0);
  CHECK (work > 0);
  expect_key (c);
  q2_cipher_free (c);
}

static void
test_keyring (void)
{
  struct q2_cipher *c = NULL;
  struct qcow2_error err;

  make_header ("aes", "xts-plain64", "sha256", 64);
  make_slot (0, "open", 3, 128);
  make_slot (5, "five", 3, 128);
  keyring = qcow2_keyring_new ();
  REQUIRE (keyring != NULL);
  expect_unknown ("open");
  expect_known ("open");
  expect_known ("open");
  CHECK_EQ (live, 1);
  /* Another one that opens it as well, and those that do not: these are
   * tried each time.
   */
  expect_unknown ("five");
  expect_known ("five");
  for (unsigned i = 0; i < 2; ++i) {
    static const char *const wrong[] = { "", "ope", "open ", "oqen" };

    for (unsigned j = 0; j < 4; ++j) {
      CHECK (unlock (wrong[j], &c, &err) == -1);
      CHECK_ERROR (&err, QCOW2_ERR_AUTH, LUKS_OFF);
      CHECK (work > 0);
    }
  }
  CHECK_EQ (live, 2);
  /* Slots that are destroyed, and one that is closed. */
  memset (header + 4096, 0, 8192);
  expect_known ("open");
  put32 (SLOT (0), DISABLED);
  CHECK (unlock ("open", &c, &err) == -1);
  CHECK_ERROR (&err, QCOW2_ERR_AUTH, LUKS_OFF);
  expect_unknown ("five");
  qcow2_keyring_free (keyring);
  keyring = NULL;
  CHECK_EQ (live, 0);
}

static void
expect_refused (const char *passphrase, bool works, struct qcow2_error *err)
{
  struct q2_cipher *c = NULL;

  CHECK (unlock (passphrase, &c, err) == -1);
  CHECK_EQ (work > 0, works);
}

static bool
is_gone (void *opaque)
{
  return *(const bool *) opaque;
}

/* Who waits for somebody else's work leaves when his client does. */
static void
test_keyring_wait (void)
{
  static const unsigned char some_header[Q2_LUKS_HEADER] = { 1 };
  const struct q2_keyring_query query = { some_header, "a", 1 };
  struct q2_keyring_try first = { .query = &query }, second = first;
  struct qcow2_keyring *const k = qcow2_keyring_new ();
  bool gone = true;
  struct qcow2_budget *const budget =
    qcow2_budget_new (UINT64_MAX, "", is_gone, &gone);
  unsigned char key[Q2_MAX_KEY_BYTES] = { 0 };
  struct qcow2_error err;

  REQUIRE (k != NULL && budget != NULL);
  CHECK_EQ (q2_keyring_begin (k, &first, budget, key, &err), 0);
  CHECK_EQ (q2_keyring_begin (k, &second, budget, key, &err), -1);
  CHECK_ERROR (&err, QCOW2_ERR_ABANDONED, QCOW2_NO_OFFSET);
  q2_keyring_end (k, &first, key, 0, &err);
  CHECK_EQ (q2_keyring_begin (k, &second, budget, key, &err), 1);
  qcow2_budget_free (budget);
  qcow2_keyring_free (k);
}

/* What was much work and in vain is not done again for a while; what was given
 * up is.
 */
static void
test_keyring_failures (void)
{
  struct q2_io_shared shared = { .file = NULL };
  struct qcow2_error err, again;
  bool gone = false;

  q2_io_shared_init (&shared);
  shared.budget = qcow2_budget_new (UINT64_MAX, "", is_gone, &gone);
  make_header ("aes", "xts-plain64", "sha256", 64);
  make_slot (0, "open", 3, 128);
  keyring = qcow2_keyring_new ();
  REQUIRE (keyring != NULL && shared.budget != NULL);
  put32 (SLOT (0) + 4, 1 << 21);
  expect_refused ("a", true, &err);
  CHECK_ERROR (&err, QCOW2_ERR_AUTH, LUKS_OFF);
  expect_refused ("a", false, &again);
  CHECK (strcmp (err.text, again.text) == 0 && err.kind == again.kind);
  expect_refused ("b", true, &err);
  expect_refused ("b", false, &err);
  expect_refused ("a", false, &err);
  SLOT (0)[8] ^= 1;             /* another slot */
  expect_refused ("a", true, &err);
  expect_refused ("a", false, &err);

  put32 (SLOT (0) + 4, 1 << 18);
  gone = true;
  io.shared = &shared;
  expect_refused ("a", true, &err);
  CHECK_ERROR (&err, QCOW2_ERR_ABANDONED, QCOW2_NO_OFFSET);
  gone = false;
  expect_refused ("a", true, &err);
  CHECK_ERROR (&err, QCOW2_ERR_AUTH, LUKS_OFF);
  io.shared = NULL;
  qcow2_keyring_free (keyring);
  keyring = NULL;
  qcow2_budget_free (shared.budget);
  q2_io_shared_destroy (&shared);
  CHECK_EQ (live, 0);
}

/* The keys of 64 images are kept, and those that are used stay. */
static void
test_keyring_is_bounded (void)
{
  struct qcow2_error err;
  struct q2_cipher *c = NULL;

  make_header ("aes", "xts-plain64", "sha256", 64);
  make_slot (0, "open", 3, 128);
  keyring = qcow2_keyring_new ();
  REQUIRE (keyring != NULL);
  for (uint32_t i = 0; i < 200; ++i) {
    put32 (header + 176, i);    /* the uuid */
    expect_unknown ("open");
    if (i % 60 == 0) {
      put32 (header + 176, 0);
      expect_known ("open");
    }
  }
  CHECK_EQ (live, 64);
  put32 (header + 176, 0);
  expect_known ("open");
  put32 (header + 176, 199 - 62);
  expect_known ("open");
  put32 (header + 176, 199 - 63);
  expect_unknown ("open");

  /* No memory to remember a key is no reason to fail. */
  put32 (header + 176, 1000);
  REQUIRE (unlock ("open", &c, &err) == 0);
  q2_cipher_free (c);
  put32 (header + 176, 1001);
  fail_map_at = maps - 1;       /* the last one is the cipher */
  expect_unknown ("open");
  fail_map_at = 0;
  expect_unknown ("open");
  expect_known ("open");
  qcow2_keyring_free (keyring);
  keyring = NULL;
  CHECK_EQ (live, 0);
  qcow2_keyring_free (NULL);
}

/* Whatever is changed, a keyring that knows the image makes no difference. */
static void
test_keyring_any (void)
{
  struct qcow2_keyring *const with = qcow2_keyring_new ();

  REQUIRE (with != NULL);
  make_header ("aes", "xts-plain64", "sha256", 64);
  make_slot (0, "open", 3, 128);
  for (unsigned i = 0; i < 592 * 8; ++i) {
    struct q2_cipher *c[2] = { NULL, NULL };
    struct qcow2_error err[2];

    unit_context ("bit %u", i);
    keyring = with;
    if (i == 0)
      expect_unknown ("open");
    else
      expect_known ("open");
    header[i / 8] ^= (unsigned char) (1u << i % 8);
    for (unsigned j = 0; j < 2; ++j) {
      keyring = j == 0 ? with : NULL;
      if (unlock ("open", &c[j], &err[j]) == 0)
        err[j].kind = QCOW2_ERR_IO;
    }
    CHECK ((c[0] != NULL) == (c[1] != NULL));
    CHECK_EQ (err[0].kind, err[1].kind);
    if (c[0] != NULL)
      expect_key (c[0]);
    q2_cipher_free (c[0]);
    q2_cipher_free (c[1]);
    header[i / 8] ^= (unsigned char) (1u << i % 8);
  }
  unit_context ("%s", "");
  keyring = NULL;
  qcow2_keyring_free (with);
  CHECK_EQ (live, 0);
}

int
main (void)
{
  test_qemu ();
  test_kinds ();
  test_slots ();
  test_fields ();
  test_endless_names ();
  test_overlapping_slots ();
  test_sizes ();
  test_bombs ();
  test_faults ();
  test_any ();
  test_keyring ();
  test_keyring_failures ();
  test_keyring_wait ();
  test_keyring_is_bounded ();
  test_keyring_any ();
  return unit_finish ();
}

#else /* !HAVE_NETTLE */

int
main (void)
{
  struct q2_cipher *c = NULL;
  struct qcow2_error err;

  start_file (65536);
  put32 (header, 0);
  CHECK (unlock ("open", &c, &err) == -1);
  CHECK_ERROR (&err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET);
  CHECK (strstr (err.text, "nettle") != NULL);
  return unit_finish ();
}

#endif
