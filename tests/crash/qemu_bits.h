/* SPDX-License-Identifier: BSD-3-Clause */
/* qemu_bits.h - QEMU reads the bits of persistent bitmaps.
 *
 * qemu-nbd exports one, and qemu-img asks it for the bits.
 */
#ifndef CRASH_QEMU_BITS_H
#define CRASH_QEMU_BITS_H

#include <stdint.h>

/* One of the enabled bitmaps of the image, chosen by 'which', has in QEMU just
 * the bits that bitmap_set_load finds.  Before that QEMU repairs a copy that
 * has the dirty bit, as it would before it writes to the disk.  Bitmaps in
 * use, which QEMU does not export, are left out.  A failure is a failed CHECK
 * with 'what' in it.
 */
extern void qemu_check_bits (const unsigned char *bytes, uint64_t size,
                             uint64_t which, const char *what);
/* How often that was done. */
extern unsigned long qemu_bits_checks (void);

#endif /* CRASH_QEMU_BITS_H */
