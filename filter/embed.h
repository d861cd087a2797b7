/* SPDX-License-Identifier: BSD-3-Clause */
/* embed.h - what host/ is told by this filter. */
#ifndef EMBED_H
#define EMBED_H

#include "host/env.h"

/* The only one.  Constant once embed_complete has been called. */
extern struct host_env filter_env;

/* Take over what the parameters have set; by the main thread, after them. */
extern void embed_complete (void);

#endif /* EMBED_H */
