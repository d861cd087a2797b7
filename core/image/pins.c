/* SPDX-License-Identifier: BSD-3-Clause */
/* pins.c - structures of the file that somebody reads.
 *
 * Owns      the list of pins.
 * Method    who opens a view looks up a structure, then pins it, if the header
 *           that led there is still the current one.  Who removes a structure
 *           looks for pins and switches the header under the same lock.  So
 *           either the view is seen, or it sees the new header.
 * Locks     pins.lock.
 */
#include "config.h"

#include "image/image.h"

#include "base/assume.h"
#include "base/error.h"

int
q2_pin (struct qcow2_image *image, struct q2_pin *pin, enum q2_pinned kind,
        uint64_t host_off, uint64_t header_number,
        struct qcow2_error *err)
{
  int r = 0;

  q2_mutex_lock (&image->pins.lock);
  if (q2_image_header (image).number == header_number)
    *pin = (struct q2_pin) { kind, host_off, image->pins.first };
  else
    r = q2_fail (err, QCOW2_ERR_BUSY, host_off, "the image was changed while "
                 "a view of it was opened");
  (void) q2_check (image->pins.first != pin);
  if (r == 0 && host_off != 0)
    image->pins.first = pin;
  q2_mutex_unlock (&image->pins.lock);
  return r;
}

void
q2_unpin (struct qcow2_image *image, struct q2_pin *pin)
{
  struct q2_pin **p = &image->pins.first;

  if (pin->host_off == 0)
    return;
  q2_mutex_lock (&image->pins.lock);
  while (*p != NULL && *p != pin)
    p = &(*p)->next;
  if (q2_check (*p != NULL))
    *p = pin->next;
  q2_mutex_unlock (&image->pins.lock);
  pin->host_off = 0;
}

bool
q2_is_pinned_locked (const struct qcow2_image *image, uint64_t host_off)
{
  const struct q2_pin *p = image->pins.first;

  q2_mutex_check_held (&image->pins.lock);
  while (p != NULL && p->host_off != host_off)
    p = p->next;
  return p != NULL;
}

bool
q2_is_any_pinned_locked (const struct qcow2_image *image, enum q2_pinned kind)
{
  const struct q2_pin *p = image->pins.first;

  q2_mutex_check_held (&image->pins.lock);
  while (p != NULL && p->kind != kind)
    p = p->next;
  return p != NULL;
}
