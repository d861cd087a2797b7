/* SPDX-License-Identifier: BSD-3-Clause */
/* recipe.h - images made by QEMU with known disks. */
#ifndef CRASH_RECIPE_H
#define CRASH_RECIPE_H

#include "layers.h"

#include "qcow2.h"

#include <stdbool.h>
#include <stdint.h>

/* Filled sectors are from this write (tag.h); those of the backing file from
 * the next one, and so on.
 */
#define RECIPE_ID 1u

struct recipe {
  const char *options;          /* for qemu-img -o */
  unsigned cluster_bits;        /* as in the options */
  uint64_t disk_size;           /* a multiple of 512 */
  unsigned fill_percent;        /* of the clusters */
  bool compressed;              /* those are */
  unsigned snapshots;           /* taken at the end */
  unsigned zero_percent;        /* of the clusters, after that: "write -z" */
  unsigned leak_percent;        /* of the data clusters that are the disk's
                                   alone: they count as if shared */
  bool vm_state;                /* a snapshot has one ... */
  uint64_t vm_state_size;       /* ... that large; 0 counts as 9216 */
  bool bitmap;                  /* a persistent one */
  bool autoclear;               /* an unknown feature bit */
  bool no_tail;                 /* the file's last cluster is cut short */
  enum qcow2_encryption encryption;
  bool data_file;
  bool data_raw;                /* it must equal the disk */
  bool data_short;              /* and ends where the last filled cluster
                                   does */
  const struct recipe *below;   /* the backing file; NULL: there is none */
  bool raw;                     /* a backing file that is not an image; only
                                   disk_size, which need not be a multiple of
                                   512, and fill_percent apply */
};

struct recipe_image {
  unsigned char *bytes;
  uint64_t size;
  uint64_t full_size;           /* with the zeros that no_tail cuts off */
  unsigned char *disk;
  unsigned char *snapshot;      /* the disk when they were taken */
  uint64_t disk_size;
  unsigned char *data;          /* the data file; NULL: there is none */
  uint64_t data_size;
  struct layers layers;         /* its backing files, also in the folder of
                                   qemu.h */
  char qemu_options[256];       /* for QEMU to open a copy of the image: see
                                   struct qemu_files */
};

/* Call qemu_init first.  Makes the same bytes each time, except dates and
 * encrypted data.  The struct must not move.
 */
extern void recipe_make (struct recipe_image *image, const struct recipe *r,
                         uint64_t seed);
/* Waits until QEMU has checked the images that need the layers. */
extern void recipe_free (struct recipe_image *image);

/* Encrypt an image in the folder that has no data yet, with LUKS. */
extern void recipe_encrypt (const char *name);

/* True if everything needed to make and open it is here. */
extern bool recipe_is_possible (const struct recipe *r);

#endif /* CRASH_RECIPE_H */
