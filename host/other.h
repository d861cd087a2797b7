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
  struct qcow2_io io;           /* concurrent; its opaque is this struct, which
                                   is the first member of what it is a part
                                   of */
  struct qcow2_io_ops ops;
  void (*close) (struct other *other);
};

/* For 'ops': any thread may use 'io', so all borrow the same. */
extern int other_borrow (void *opaque, struct qcow2_io *ret_io);
extern void other_give_back (struct qcow2_io *io);

#endif /* HOST_OTHER_H */
