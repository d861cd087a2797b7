/* SPDX-License-Identifier: BSD-3-Clause */
/* recipe.c - see recipe.h.
 *
 * Owns      files in the folder of qemu.h.  Each recipe has another number in
 *           their names, since QEMU may still check those of the last.
 * Method    makes the disk in memory, converts it with qemu-img, and changes
 *           it with qemu-io if a conversion does not do.  Backing files come
 *           first.  An overlay is converted without a backing file and then
 *           rebased: zeros of its own part of the disk become unallocated.
 *
 *           QEMU spends a second on measuring when it makes a LUKS header.  So
 *           one is made, and copied to each encrypted image: all have the same
 *           key.
 */
#include "config.h"

#include "recipe.h"

#include "qemu.h"
#include "tag.h"
#include "unit.h"

/* An image, or a backing file, in the making. */
struct making {
  const struct recipe *r;
  struct rng *rng;
  unsigned nr, depth;           /* of the recipe; 0: the image, 1: its backing
                                   file */
  char name[64], data_name[64], below[64];
  char image[QEMU_IMAGE];       /* QEMU's arguments to open it */
  unsigned char *disk;          /* the expected contents */
};

static unsigned nr_made;

static bool
has_option (const struct recipe *r, const char *option)
{
  return r->options != NULL && strstr (r->options, option) != NULL;
}

/* ---- The disk ---------------------------------------------------------- */

/* In whole sectors. */
static unsigned char *
new_disk (const struct recipe *r)
{
  unsigned char *const disk = calloc (1, r->disk_size + SECTOR);

  REQUIRE (disk != NULL);
  return disk;
}

/* The image's own data. */
static unsigned char *
fill (struct making *m)
{
  const struct recipe *const r = m->r;
  const uint64_t cluster = UINT64_C (1) << r->cluster_bits;
  unsigned char *const own = new_disk (r);

  for (uint64_t at = 0; at < r->disk_size; at += cluster) {
    const uint64_t left = r->disk_size - at;
    const uint64_t len = left < cluster ? left : cluster;

    if (rng_below (m->rng, 100) >= r->fill_percent)
      continue;
    tag_fill (own + at, at / SECTOR, (len + SECTOR - 1) / SECTOR,
              RECIPE_ID + m->depth);
    memset (own + at + len, 0, cluster < left ? 0 : SECTOR - 1);
    memcpy (m->disk + at, own + at, len);
  }
  return own;
}

static void
make_zero_clusters (struct making *m)
{
  const struct recipe *const r = m->r;
  const uint64_t cluster = UINT64_C (1) << r->cluster_bits;

  for (uint64_t at = 0; at + cluster <= r->disk_size; at += cluster)
    if (rng_below (m->rng, 100) < r->zero_percent) {
      qemu_run (0, "qemu-io -c 'write -z %s %" PRIu64 " %" PRIu64 "' %s",
                rng_next (m->rng) % 2 ? "-u" : "", at, cluster, m->image);
      memset (m->disk + at, 0, cluster);
    }
}

/* ---- LUKS -------------------------------------------------------------- */

#define EXT_LUKS 0x0537be77u
#define EXT_FEATURE_NAMES 0x6803f857u

static uint64_t
get (const unsigned char *p, unsigned len)
{
  uint64_t v = 0;

  for (unsigned i = 0; i < len; ++i)
    v = v << 8 | p[i];
  return v;
}

static void
put (unsigned char *p, uint64_t v, unsigned len)
{
  put_be (p, len, v);
}

/* The header extensions begin here. */
static uint64_t
extensions (const unsigned char *bytes)
{
  return get (bytes + 4, 4) == 2 ? 72 : get (bytes + 100, 4);
}

/* Made once, never freed. */
static const unsigned char *
luks_header (uint64_t *ret_len)
{
  static unsigned char *header;
  static uint64_t len;
  unsigned char *bytes;
  uint64_t size, at;

  *ret_len = len;
  if (header != NULL)
    return header;
  /* QEMU cannot time sha256 where that is faster than the kernel's tick. */
  qemu_run (0, "qemu-img create -q -f qcow2 " QEMU_OBJECT " -o "
            "encrypt.format=luks,encrypt.hash-alg=sha512,"
            "encrypt.iter-time=1,encrypt.key-secret=" QEMU_SECRET
            " luks.qcow2 64k");
  bytes = qemu_load ("luks.qcow2", &size);
  for (at = extensions (bytes); get (bytes + at, 4) != EXT_LUKS;
       at += 8 + ((get (bytes + at + 4, 4) + 7) & ~UINT64_C (7)))
    REQUIRE (get (bytes + at, 4) != 0);
  *ret_len = len = get (bytes + at + 16, 8);
  header = malloc (len);
  REQUIRE (header != NULL && get (bytes + at + 8, 8) + len <= size);
  memcpy (header, bytes + get (bytes + at + 8, 8), len);
  free (bytes);
  return header;
}

/* Add an extension; drop the feature name table, for which there may be no
 * room then.  The other extensions have names of files, which may be long.
 */
static void
name_luks_header (unsigned char *bytes, uint64_t cluster, uint64_t offset,
                  uint64_t len)
{
  const uint64_t start = extensions (bytes);
  unsigned char old[4096], *const first = bytes + start;
  const uint64_t name = get (bytes + 8, 8);     /* of the backing image */
  const uint64_t room = cluster < sizeof old ? cluster : sizeof old;
  const uint64_t end = name != 0 && name < room ? name : room;
  uint64_t used = 24, at = 0;

  memcpy (old, first, end - start);
  memset (first, 0, end - start);
  put (first, EXT_LUKS, 4);
  put (first + 4, 16, 4);
  put (first + 8, offset, 8);
  put (first + 16, len, 8);
  while (start + at + 8 <= end && get (old + at, 4) != 0) {
    const uint64_t n = 8 + ((get (old + at + 4, 4) + 7) & ~UINT64_C (7));

    REQUIRE (start + at + n <= end);
    if (get (old + at, 4) != EXT_FEATURE_NAMES) {
      REQUIRE (start + used + n <= end);
      memcpy (first + used, old + at, n);
      used += n;
    }
    at += n;
  }
  put (bytes + 32, 2, 4);
}

void
recipe_encrypt (const char *name)
{
  char image[QEMU_IMAGE];
  uint64_t len, size, cluster, offset;
  const unsigned char *const header = luks_header (&len);
  unsigned char *bytes = qemu_load (name, &size);

  cluster = UINT64_C (1) << get (bytes + 20, 4);
  offset = (size + cluster - 1) / cluster * cluster;
  bytes = realloc (bytes, offset + len + cluster);
  REQUIRE (bytes != NULL);
  memset (bytes + size, 0, offset + len + cluster - size);
  memcpy (bytes + offset, header, len);
  name_luks_header (bytes, cluster, offset, len);
  qemu_save (name, bytes, (offset + len + cluster - 1) / cluster * cluster);
  free (bytes);
  /* It counts the header's clusters. */
  qemu_run (0, "qemu-img check -q -r all %s",
            qemu_image (image, sizeof image, name,
                        ",encrypt.key-secret=" QEMU_SECRET, NULL));
}

/* ---- Files ------------------------------------------------------------- */

static void
add_data_file (char *buf, size_t len, const struct making *m)
{
  const size_t n = strlen (buf);

  if (m->r->data_file)
    snprintf (buf + n, len - n, ",data_file=%s%s", m->data_name,
              m->r->data_raw ? ",data_file_raw=on" : "");
}

static void
make_file (struct making *m, const unsigned char *own)
{
  const struct recipe *const r = m->r;
  const bool luks = r->encryption == QCOW2_ENCRYPTION_LUKS;
  char options[512];

  snprintf (options, sizeof options, "%s%s", r->options,
            r->encryption == QCOW2_ENCRYPTION_AES ?
            ",encrypt.format=aes,encrypt.key-secret=" QEMU_SECRET : "");
  add_data_file (options, sizeof options, m);
  if (r->fill_percent > 0)
    qemu_save ("made.raw", own, r->disk_size);
  if (r->fill_percent == 0 || luks)
    qemu_run (0, "qemu-img create -q -f qcow2 " QEMU_OBJECT " -o '%s' %s %"
              PRIu64, options, m->name, r->disk_size);
  if (luks)
    recipe_encrypt (m->name);
  if (r->fill_percent > 0 && luks)
    qemu_run (0, "qemu-img convert -n --target-is-zero -S 512 -f raw "
              QEMU_OBJECT " --target-image-opts made.raw driver=qcow2,"
              "file.filename=%s,encrypt.key-secret=" QEMU_SECRET, m->name);
  else if (r->fill_percent > 0)
    qemu_run (0, "qemu-img convert -S 512 %s -f raw -O qcow2 " QEMU_OBJECT
              " -o '%s' made.raw %s", r->compressed ? "-c" : "", options,
              m->name);
}

/* QEMU's options for the layers, from the top. */
static void
describe (const struct recipe *r, char *buf, size_t len)
{
  char prefix[16 * LAYERS_MAX] = "";
  size_t n = 0;

  buf[0] = '\0';
  for (; r != NULL; r = r->below) {
    if (r->encryption != QCOW2_ENCRYPTION_NONE)
      n += (size_t) snprintf (buf + n, len - n, ",%sencrypt.key-secret="
                              QEMU_SECRET, prefix);
    strcat (prefix, "backing.");
  }
  REQUIRE (n < len);
}

/* Without its backing file. */
static const char *
alone (const struct making *m, char *buf, size_t len)
{
  const struct recipe r = { .encryption = m->r->encryption };
  char options[256];

  describe (&r, options, sizeof options);
  return qemu_image (buf, len, m->name, options, NULL);
}

/* It lies past the end of the disk in the L1 table, and stays there. */
static void
save_vm_state (const struct making *m)
{
  qemu_run (0, "qemu-io -c 'write -b -P 0x56 0 %" PRIu64 "' %s",
            m->r->vm_state_size ? m->r->vm_state_size : 9216, m->image);
  qemu_run (0, "qemu-img snapshot -c vm %s", m->image);
}

static void
take_snapshots (const struct making *m)
{
  char image[QEMU_IMAGE];

  if (m->r->vm_state)
    save_vm_state (m);
  for (unsigned i = 0; i < m->r->snapshots; ++i)
    qemu_run (0, "qemu-img snapshot -c s%u %s", i, m->image);
  if (m->r->bitmap)
    qemu_run (0, "qemu-img bitmap --add -g 4096 %s b0",
              alone (m, image, sizeof image));
}

static void
change_bytes (struct recipe_image *image, const struct recipe *r)
{
  const uint64_t cluster = UINT64_C (1) << r->cluster_bits;
  static const unsigned char zeros[512];

  if (r->autoclear)
    image->bytes[88] |= 0x40;
  if (!r->no_tail)
    return;
  while (image->size > 4 * cluster) {
    const uint64_t last = image->size - 512;

    if (image->size % 512 != 0 || last % cluster == 0 ||
        memcmp (image->bytes + last, zeros, 512) != 0)
      break;
    image->size = last;
  }
}

static void
load_data (struct recipe_image *image, const struct making *m)
{
  static const unsigned char zeros[512];

  if (!m->r->data_file)
    return;
  image->data = qemu_load (m->data_name, &image->data_size);
  while (m->r->data_short && image->data_size >= 512 &&
         memcmp (image->data + image->data_size - 512, zeros, 512) == 0)
    image->data_size -= 512;
  qemu_run (0, "rm -f %s", m->data_name);
}

/* ---- Layers ------------------------------------------------------------ */

static unsigned char *make_layer (struct recipe_image *image,
                                  struct making *m);

/* The disk of the backing file, up to the end of ours. */
static void
make_below (struct recipe_image *image, struct making *m)
{
  const struct recipe *const below = m->r->below;
  struct making b = {
    .r = below, .rng = m->rng, .nr = m->nr, .depth = m->depth + 1,
  };
  unsigned char *disk, *bytes;
  uint64_t size;

  snprintf (b.name, sizeof b.name, "base-%u-%u.%s", m->nr, b.depth,
            below->raw ? "raw" : "qcow2");
  snprintf (m->below, sizeof m->below, "%s", b.name);
  disk = make_layer (image, &b);
  memcpy (m->disk, disk, below->disk_size < m->r->disk_size ?
          below->disk_size : m->r->disk_size);
  free (disk);
  bytes = qemu_load (b.name, &size);
  layers_add (&image->layers, b.name, below->raw, bytes, size);
}

static void
put_on_top (const struct making *m)
{
  char image[QEMU_IMAGE];

  if (m->r->below != NULL)
    qemu_run (0, "qemu-img rebase -u -b %s -F %s %s", m->below,
              m->r->below->raw ? "raw" : "qcow2",
              alone (m, image, sizeof image));
}

/* Makes the file in the folder; returns its disk. */
static unsigned char *
make_layer (struct recipe_image *image, struct making *m)
{
  const struct recipe *const r = m->r;
  char options[256];
  unsigned char *own;

  m->disk = new_disk (r);
  if (r->below != NULL)
    make_below (image, m);
  if (has_option (r, "preallocation") && !has_option (r, "extended_l2"))
    memset (m->disk, 0, r->disk_size);
  own = fill (m);
  if (r->raw)
    qemu_save (m->name, own, r->disk_size);
  else {
    make_file (m, own);
    put_on_top (m);
  }
  free (own);
  describe (r, options, sizeof options);
  qemu_image (m->image, sizeof m->image, m->name, options, NULL);
  return m->disk;
}

/* ---- Leaks ------------------------------------------------------------- */

/* Data clusters of the disk alone get a second reference that nobody has, and
 * entries that say so.
 */
static void
leak_some (struct making *m, unsigned char *bytes)
{
  const unsigned bits = (unsigned) get (bytes + 20, 4);
  const uint64_t size = UINT64_C (1) << bits, copied = UINT64_C (1) << 63;
  const uint64_t l1 = get (bytes + 40, 8), l1_entries = get (bytes + 36, 4);
  const uint64_t refcounts = get (bytes + 48, 8);

  for (uint64_t i = 0; i < l1_entries; ++i) {
    const uint64_t l2 = get (bytes + l1 + 8 * i, 8) & ~copied;

    for (uint64_t at = l2; l2 != 0 && at < l2 + size; at += 8) {
      const uint64_t entry = get (bytes + at, 8);
      const uint64_t cluster = (entry & ~copied) >> bits;
      const uint64_t block =
        get (bytes + refcounts + cluster / (size / 2) * 8, 8);

      if (!(entry & copied) || rng_below (m->rng, 100) >= m->r->leak_percent)
        continue;
      put (bytes + at, entry & ~copied, 8);
      put (bytes + block + cluster % (size / 2) * 2, 2, 2);
    }
  }
}

void
recipe_make (struct recipe_image *image, const struct recipe *r,
             uint64_t seed)
{
  struct rng rng = { seed };
  struct making m = { .r = r, .rng = &rng, .nr = nr_made++ };

  memset (image, 0, sizeof *image);
  snprintf (m.name, sizeof m.name, "made-%u.qcow2", m.nr);
  snprintf (m.data_name, sizeof m.data_name, "made-%u.data", m.nr);
  describe (r, image->qemu_options, sizeof image->qemu_options);
  if (image->qemu_options[0] != '\0')
    image->layers.passphrase = QEMU_PASSPHRASE;
  image->disk_size = r->disk_size;
  image->disk = make_layer (image, &m);
  take_snapshots (&m);
  image->snapshot = malloc (r->disk_size);
  REQUIRE (image->snapshot != NULL);
  memcpy (image->snapshot, image->disk, r->disk_size);
  make_zero_clusters (&m);
  image->bytes = qemu_load (m.name, &image->size);
  image->full_size = image->size;
  qemu_run (0, "rm -f %s", m.name);
  /* Clusters of a data file do not count. */
  if (r->leak_percent > 0 && !r->data_file)
    leak_some (&m, image->bytes);
  change_bytes (image, r);
  load_data (image, &m);
}

void
recipe_free (struct recipe_image *image)
{
  if (image->layers.nr > 0)
    qemu_wait ();
  for (unsigned i = 0; i < image->layers.nr; ++i)
    qemu_run (0, "rm -f %s", image->layers.layer[i].name);
  layers_free (&image->layers);
  free (image->bytes);
  free (image->disk);
  free (image->snapshot);
  free (image->data);
}

/* ---- Possible recipes -------------------------------------------------- */

bool
recipe_is_possible (const struct recipe *r)
{
  for (; r != NULL; r = r->below) {
    const bool encrypted = r->encryption != QCOW2_ENCRYPTION_NONE;

    if ((r->compressed && !qcow2_has_zlib ()) ||
        (encrypted && !qcow2_has_nettle ()))
      return false;
    /* QEMU refuses to make them. */
    if ((r->compressed && (encrypted || r->data_file)) ||
        ((r->snapshots > 0 || r->vm_state) && r->data_file) ||
        (r->data_raw && (encrypted || r->below != NULL)) ||
        (r->data_file && has_option (r, "compat=0.10")) ||
        /* There preallocated clusters are noise. */
        (encrypted && has_option (r, "preallocation")))
      return false;
  }
  return true;
}
