/* SPDX-License-Identifier: BSD-3-Clause */
/* test-keys.c - encrypted images that we create, and their key slots.
 *
 * Method    QEMU and cryptsetup open what we made, and we what QEMU made;
 *           after a crash at any moment of a change one of the passphrases
 *           that it is about opens the image.
 */
#include "config.h"

#include "fsck.h"
#include "memory_disk.h"
#include "qemu.h"
#include "unit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MiB (UINT32_C (1) << 20)
#define DISK MiB
#define OLD QEMU_PASSPHRASE

static unsigned char content[DISK];

/* ---- Images ------------------------------------------------------------- */

static const struct qcow2_create_options luks = {
  .virtual_size = DISK, .encryption = QCOW2_ENCRYPTION_LUKS,
  .luks = { .iter_time_ms = 1 }, .passphrase = OLD,
  .passphrase_len = sizeof OLD - 1,
};

static struct qcow2_image *
open_with (struct memory_disk *d, const char *passphrase, bool writable,
           struct qcow2_error *err)
{
  d->host.size = d->size;
  return qcow2_open (&d->host, &(struct qcow2_options) {
      .writable = writable, .passphrase = passphrase,
      .passphrase_len = strlen (passphrase) }, err);
}

static bool
opens_with (struct memory_disk *d, const char *passphrase)
{
  struct qcow2_error err;
  struct qcow2_image *const image = open_with (d, passphrase, false, &err);

  if (image == NULL)
    CHECK_EQ (err.kind, QCOW2_ERR_AUTH);
  qcow2_close (image);
  return image != NULL;
}

/* It reads as zeros, and then is filled. */
static void
fill (struct memory_disk *d)
{
  static unsigned char buf[DISK], zeros[DISK];
  struct qcow2_error err;
  struct qcow2_image *const image = open_with (d, OLD, true, &err);

  if (!CHECK (image != NULL)) {
    printf ("%s\n", err.text);
    return;
  }
  CHECK_EQ (qcow2_pread (image, &d->host, buf, DISK, 0, &err), 0);
  CHECK_BYTES (buf, zeros, DISK);
  CHECK_EQ (qcow2_pwrite (image, &d->host, content, DISK, 0, false, &err), 0);
  CHECK_EQ (qcow2_end (image, &d->host, &err), 0);
  qcow2_close (image);
}

static void
save (const struct memory_disk *d, const char *name, uint64_t from)
{
  unsigned char *const bytes = memory_disk_copy (d);

  qemu_save (name, bytes + from, d->size - from);
  free (bytes);
}

static void
check_sound (const struct memory_disk *d)
{
  unsigned char *const bytes = memory_disk_copy (d);

  fsck_check (bytes, d->size, false);
  free (bytes);
}

/* QEMU finds the same bytes. */
static void
give_to_qemu (const struct memory_disk *d, const char *options,
              const char *what)
{
  const struct qemu_files files = { .options = options };
  unsigned char *const bytes = memory_disk_copy (d);

  qemu_submit (bytes, d->size, &files, QEMU_CLEAN, content, DISK, what);
  free (bytes);
}

#define QEMU_KEY ",encrypt.key-secret=" QEMU_SECRET

static void
create (const struct qcow2_create_options *o, const char *what)
{
  struct qcow2_error err;
  struct memory_disk d;

  unit_context ("%s", what);
  memory_disk_init (&d, "", 0);
  if (!CHECK_EQ (qcow2_create (&d.host, o, &err), 0))
    printf ("%s\n", err.text);
  else {
    check_sound (&d);
    CHECK (o->encryption == QCOW2_ENCRYPTION_AES || !opens_with (&d, "crash1"));
    fill (&d);
    check_sound (&d);
    give_to_qemu (&d, QEMU_KEY, what);
  }
  memory_disk_free (&d);
}

static void
test_ciphers (void)
{
  static const struct qcow2_luks_options kinds[] = {
    { .iter_time_ms = 1 },
    { .cipher_alg = "aes-128", .hash_alg = "sha1" },
    { .cipher_alg = "aes-192", .hash_alg = "sha512" },
    { .cipher_alg = "aes-256", .cipher_mode = "cbc", .ivgen_alg = "essiv" },
    { .cipher_alg = "aes-256", .cipher_mode = "ecb", .hash_alg = "sha224" },
    { .cipher_alg = "aes-128", .cipher_mode = "ctr", .ivgen_alg = "plain" },
    { .cipher_alg = "serpent-256", .hash_alg = "ripemd160" },
    { .cipher_alg = "serpent-128", .cipher_mode = "cbc" },
    { .cipher_alg = "twofish-128", .cipher_mode = "cbc" },
    { .cipher_alg = "twofish-256", .hash_alg = "sha384" },
    { .cipher_alg = "cast5-128", .cipher_mode = "cbc", .ivgen_alg = "essiv",
      .ivgen_hash_alg = "md5" },
  };
  char what[80];

  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; ++i) {
    struct qcow2_create_options o = luks;

    o.luks = kinds[i];
    o.luks.iter_time_ms = 1;
    snprintf (what, sizeof what, "%s %s",
              kinds[i].cipher_alg ? kinds[i].cipher_alg : "defaults",
              kinds[i].cipher_mode ? kinds[i].cipher_mode : "");
    create (&o, what);
  }
}

static void
test_kinds (void)
{
  static const unsigned sizes[] = { 512, 4096, 65536, 2 * MiB };
  char what[80];

  for (unsigned n = 0; n < 2 * 4 * 2 * 4; ++n) {
    struct qcow2_create_options o = luks;

    o.encryption = n % 2 ? QCOW2_ENCRYPTION_LUKS : QCOW2_ENCRYPTION_AES;
    o.cluster_size = sizes[n / 2 % 4];
    o.version = 2 + n / 8 % 2;
    o.preallocation = (enum qcow2_preallocation) (n / 16);
    o.extended_l2 = o.version == 3 && o.cluster_size >= 16384 && n / 16 % 2;
    if (o.version == 2 && o.preallocation != QCOW2_PREALLOCATE_OFF)
      continue;
    snprintf (what, sizeof what, "%u: method %u, clusters of %u, version %u, "
              "preallocation %u", n, o.encryption, sizes[n / 2 % 4],
              o.version, o.preallocation);
    create (&o, what);
  }
}

/* What no other program could open, or what contradicts itself. */
static void
test_no_such_cipher (void)
{
  static const struct {
    struct qcow2_luks_options luks;
    const char *text;
  } bad[] = {
    { { .cipher_alg = "aes" }, "no cipher 'aes'" },
    { { .cipher_alg = "des" }, "no cipher 'des'" },
    { { .cipher_alg = "aes-192", .cipher_mode = "cbc" }, "192 bits" },
    { { .cipher_mode = "gcm" }, "no mode 'gcm-plain64'" },
    { { .cipher_mode = "" }, "no mode ''" },
    { { .cipher_alg = "cast5-128" }, "no mode 'xts-plain64'" },
    { { .ivgen_alg = "plain128" }, "no mode 'xts-plain128'" },
    { { .ivgen_alg = "essiv", .ivgen_hash_alg = "sha1" }, "essiv:sha1" },
    { { .hash_alg = "crc32" }, "no hash 'crc32'" },
  };

  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
    struct qcow2_create_options o = luks;
    struct qcow2_error err;
    struct memory_disk d;

    unit_context ("%s", bad[i].text);
    o.luks = bad[i].luks;
    memory_disk_init (&d, "", 0);
    if (CHECK_EQ (qcow2_create (&d.host, &o, &err), -1)) {
      CHECK_EQ (err.kind, QCOW2_ERR_INVALID);
      if (!CHECK (strstr (err.text, bad[i].text) != NULL))
        printf ("%s\n", err.text);
    }
    CHECK_EQ (d.changes, 0);
    memory_disk_free (&d);
  }
}

/* ---- Keys ---------------------------------------------------------------- */

static void
new_image (struct memory_disk *d)
{
  struct qcow2_error err;

  memory_disk_init (d, "", 0);
  REQUIRE (qcow2_create (&d->host, &luks, &err) == 0);
  fill (d);
}

/* Keys are changed by whoever knows a passphrase, not by who has opened it. */
static struct qcow2_image *
inspect (struct memory_disk *d)
{
  struct qcow2_image *image;
  struct qcow2_error err;

  d->host.size = d->size;
  image = qcow2_open (&d->host, &(struct qcow2_options) { .inspect = true },
                      &err);
  REQUIRE (image != NULL);
  return image;
}

static int
add (struct memory_disk *d, const char *passphrase, const char *more,
     int slot, unsigned *ret_slot, struct qcow2_error *err)
{
  struct qcow2_image *const image = inspect (d);
  const int r = qcow2_add_key (image, &d->host, passphrase,
                               strlen (passphrase), more, strlen (more), slot,
                               1, ret_slot, err);

  qcow2_close (image);
  return r;
}

static int
drop (struct memory_disk *d, const char *passphrase, int slot, bool force,
      unsigned *ret_removed, struct qcow2_error *err)
{
  struct qcow2_image *const image = inspect (d);
  const int r = qcow2_remove_key (image, &d->host, passphrase,
                                  passphrase ? strlen (passphrase) : 0, slot,
                                  force, ret_removed, err);

  qcow2_close (image);
  return r;
}

static unsigned
active_slots (struct memory_disk *d)
{
  struct qcow2_image *const image = inspect (d);
  const struct qcow2_luks *header;
  struct qcow2_details *details;
  struct qcow2_error err;
  unsigned active = 0;

  details = qcow2_get_details (image, &d->host, &err);
  REQUIRE (details != NULL && details->luks != NULL);
  header = details->luks;
  CHECK (strcmp (header->cipher, "aes") == 0);
  CHECK (strcmp (header->mode, "xts-plain64") == 0);
  CHECK (strcmp (header->hash, "sha256") == 0);
  CHECK_EQ (header->key_bytes, 64);
  CHECK_EQ (strlen (header->uuid), 36);
  for (unsigned i = 0; i < QCOW2_NR_KEY_SLOTS; ++i) {
    active |= (unsigned) header->slots[i].active << i;
    CHECK (!header->slots[i].active || header->slots[i].iterations >= 1000);
  }
  qcow2_details_free (details);
  qcow2_close (image);
  return active;
}

static void
test_slots (void)
{
  struct qcow2_error err;
  struct memory_disk d;
  char name[8] = "key0";
  unsigned slot, removed;

  new_image (&d);
  for (unsigned i = 1; i < QCOW2_NR_KEY_SLOTS; ++i) {
    unit_context ("slot %u", i);
    name[3] = (char) ('0' + i);
    CHECK_EQ (active_slots (&d), (1u << i) - 1);
    CHECK_EQ (add (&d, OLD, name, QCOW2_ANY_SLOT, &slot, &err), 0);
    CHECK_EQ (slot, i);
    CHECK (opens_with (&d, name) && opens_with (&d, OLD));
  }
  unit_context ("full");
  CHECK_EQ (add (&d, OLD, "more", QCOW2_ANY_SLOT, &slot, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_NO_SPACE);
  CHECK_EQ (add (&d, OLD, "more", 3, &slot, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_EXISTS);
  unit_context ("by number, and with the passphrase of another slot");
  CHECK_EQ (drop (&d, NULL, 3, false, &removed, &err), 0);
  CHECK (!opens_with (&d, "key3") && opens_with (&d, "key4"));
  CHECK_EQ (add (&d, "key7", OLD, 3, &slot, &err), 0);
  CHECK_EQ (active_slots (&d), 0xff);
  unit_context ("all slots of a passphrase");
  CHECK_EQ (drop (&d, OLD, QCOW2_ANY_SLOT, false, &removed, &err), 0);
  CHECK_EQ (removed, 1u << 0 | 1u << 3);
  CHECK (!opens_with (&d, OLD) && opens_with (&d, "key6"));
  unit_context ("the last one");
  for (int i = 1; i < QCOW2_NR_KEY_SLOTS; ++i)
    if (i != 3 && i != 6)
      CHECK_EQ (drop (&d, NULL, i, false, &removed, &err), 0);
  CHECK_EQ (active_slots (&d), 1u << 6);
  CHECK_EQ (drop (&d, NULL, 6, false, &removed, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_REFUSED);
  CHECK_EQ (drop (&d, "key6", QCOW2_ANY_SLOT, false, &removed, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_REFUSED);
  CHECK (opens_with (&d, "key6"));
  CHECK_EQ (drop (&d, "key6", QCOW2_ANY_SLOT, true, &removed, &err), 0);
  CHECK_EQ (active_slots (&d), 0);
  memory_disk_free (&d);
}

static void
test_refusals (void)
{
  struct qcow2_error err;
  struct memory_disk d;
  unsigned slot;

  unit_context ("refusals");
  new_image (&d);
  CHECK_EQ (add (&d, "wrong", "new", QCOW2_ANY_SLOT, &slot, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_AUTH);
  CHECK_EQ (add (&d, OLD, "", QCOW2_ANY_SLOT, &slot, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_INVALID);
  CHECK_EQ (add (&d, OLD, "new", 8, &slot, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_INVALID);
  CHECK_EQ (drop (&d, NULL, 8, true, &slot, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_INVALID);
  CHECK_EQ (drop (&d, NULL, 5, true, &slot, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_NOT_FOUND);
  CHECK_EQ (drop (&d, "wrong", QCOW2_ANY_SLOT, true, &slot, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_AUTH);
  CHECK_EQ (active_slots (&d), 1);
  memory_disk_free (&d);
  memory_disk_init (&d, "", 0);
  REQUIRE (qcow2_create (&d.host, &(struct qcow2_create_options) {
        .virtual_size = DISK }, &err) == 0);
  CHECK_EQ (add (&d, OLD, "new", QCOW2_ANY_SLOT, &slot, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_INVALID);
  memory_disk_free (&d);
}

/* ---- QEMU and cryptsetup ------------------------------------------------ */

#define QEMU_NEW                                                              \
  "--object secret,id=new0,data=new --image-opts driver=qcow2,"              \
  "encrypt.key-secret=new0,file.filename="

/* A header of QEMU's, which QEMU then reads with a key of ours; it adds one
 * and removes ours.
 */
static void
test_qemu (void)
{
  struct qcow2_error err;
  struct memory_disk d;
  unsigned char *bytes;
  unsigned slot, removed;
  uint64_t size;

  unit_context ("QEMU's header");
  qemu_run (0, "qemu-img create -q -f qcow2 " QEMU_OBJECT " -o "
            "encrypt.format=luks,encrypt.iter-time=1,encrypt.key-secret="
            QEMU_SECRET " theirs.qcow2 1M");
  bytes = qemu_load ("theirs.qcow2", &size);
  memory_disk_init (&d, bytes, size);
  free (bytes);
  CHECK_EQ (active_slots (&d), 1);
  CHECK_EQ (add (&d, OLD, "new", 6, &slot, &err), 0);
  save (&d, "ours.qcow2", 0);
  qemu_run (0, "qemu-io " QEMU_NEW "ours.qcow2 -c 'write -P 9 0 64k'");
  qemu_run (0, "qemu-img check -q " QEMU_NEW "ours.qcow2");
  CHECK_EQ (drop (&d, OLD, QCOW2_ANY_SLOT, false, &removed, &err), 0);
  save (&d, "ours.qcow2", 0);
  qemu_run (0, "qemu-io " QEMU_NEW "ours.qcow2 -c 'read -P 0 0 64k'");
  CHECK (qemu_status ("qemu-io " QEMU_OBJECT " --image-opts driver=qcow2,"
                      "encrypt.key-secret=" QEMU_SECRET
                      ",file.filename=ours.qcow2 -c quit 2>&1 | "
                      "grep -q 'Invalid password'") == 0);
  /* QEMU changes ours. */
  qemu_run (0, "qemu-img amend --object secret,id=new1,data=third "
            QEMU_NEW "ours.qcow2 -o encrypt.state=active,"
            "encrypt.new-secret=new1,encrypt.iter-time=1");
  memory_disk_free (&d);
  bytes = qemu_load ("ours.qcow2", &size);
  memory_disk_init (&d, bytes, size);
  free (bytes);
  CHECK (opens_with (&d, "third") && opens_with (&d, "new"));
  CHECK_EQ (drop (&d, "third", QCOW2_ANY_SLOT, false, &removed, &err), 0);
  CHECK (!opens_with (&d, "third") && opens_with (&d, "new"));
  memory_disk_free (&d);
}

/* The header by itself is what cryptsetup takes for a device. */
static void
test_cryptsetup (void)
{
  const unsigned char *header;
  struct qcow2_error err;
  struct memory_disk d;
  unsigned slot;

  unit_context ("cryptsetup");
  if (qemu_status ("cryptsetup --version >/dev/null 2>&1") != 0) {
    printf ("cryptsetup is not installed\n");
    return;
  }
  new_image (&d);
  CHECK_EQ (add (&d, OLD, "new", 6, &slot, &err), 0);
  header = memmem (d.bytes, d.stored, "LUKS\xba\xbe", 6);
  REQUIRE (header != NULL);
  save (&d, "luks", (uint64_t) (header - d.bytes));
  qemu_run (0, "cryptsetup luksDump luks | grep -q 'Key Slot 6: ENABLED'");
  qemu_run (0, "printf new | cryptsetup open --test-passphrase --key-slot 6 "
            "--key-file - luks");
  qemu_run (0, "printf crash | cryptsetup open --test-passphrase "
            "--key-slot 0 --key-file - luks");
  qemu_run (2, "printf wrong | cryptsetup open --test-passphrase "
            "--key-file - luks 2>/dev/null");
  memory_disk_free (&d);
}

/* ---- Crashes and errors -------------------------------------------------- */

struct crash {
  struct rng rng;
  unsigned long states, with_old, with_new, with_both;
};

static void
check_state (struct memory_disk *d, void *opaque)
{
  struct crash *const c = opaque;
  struct memory_disk left;
  bool with_old, with_new;

  memory_disk_crash (d, &c->rng, &left);
  with_old = opens_with (&left, OLD);
  with_new = opens_with (&left, "new");
  CHECK (with_old || with_new);
  c->states++;
  c->with_old += with_old;
  c->with_new += with_new;
  c->with_both += with_old && with_new;
  memory_disk_free (&left);
}

/* The passphrase is changed: a new slot, then the old one goes. */
static int
change (struct memory_disk *d, unsigned round)
{
  struct qcow2_error err;
  unsigned slot;

  /* The parameters of slot 6 lie in two sectors. */
  if (add (d, OLD, "new", round % 2 ? 6 : QCOW2_ANY_SLOT, &slot, &err) == -1)
    return -1;
  return drop (d, OLD, QCOW2_ANY_SLOT, false, &slot, &err);
}

static void
test_crashes (void)
{
  struct crash c = { .rng = { 1 } };

  for (unsigned n = 0; n < unit_scaled (20); ++n) {
    struct memory_disk d;

    unit_context ("crash %u", n);
    new_image (&d);
    d.before_change = check_state;
    d.opaque = &c;
    CHECK_EQ (change (&d, n), 0);
    check_state (&d, &c);
    memory_disk_free (&d);
  }
  CHECK (c.with_both > 0 && c.with_old < c.states && c.with_new < c.states);
  printf ("%lu states after crashes: %lu open with the old passphrase, %lu "
          "with the new one\n", c.states, c.with_old, c.with_new);
}

static void
test_failures (void)
{
  bool failed = true;

  for (unsigned n = 1; failed; ++n) {
    struct memory_disk d;

    unit_context ("change %u fails", n);
    new_image (&d);
    d.fail_at = d.changes + n;
    d.fail_errnum = EIO;
    failed = change (&d, n) == -1;
    d.fail_at = 0;
    CHECK (opens_with (&d, OLD) || opens_with (&d, "new"));
    memory_disk_free (&d);
    REQUIRE (n < 100);
  }
}

int
main (void)
{
  struct rng rng = { 7 };

  if (!qcow2_has_nettle ())
    return UNIT_SKIP;
  rng_fill (&rng, content, sizeof content);
  qemu_init ();
  test_ciphers ();
  test_kinds ();
  test_no_such_cipher ();
  test_slots ();
  test_refusals ();
  test_qemu ();
  test_cryptsetup ();
  test_crashes ();
  test_failures ();
  qemu_wait ();
  qemu_finish ();
  return unit_finish ();
}
