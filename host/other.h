/* SPDX-License-Identifier: BSD-3-Clause */
/* other.h - a way to the bytes of another file.
 *
 * Who opens one owns it until 'close'; any thread may use 'io' meanwhile.
 */
#ifndef HOST_OTHER_H
#define HOST_OTHER_H

#include "qcow2.h"

/* A way to the bytes of another file, for any thread. */
struct other {
  struct qcow2_io io;           /* concurrent */
  struct qcow2_io_ops ops;
  void (*close) (struct other *other);
};

#endif /* HOST_OTHER_H */
