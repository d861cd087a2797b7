/* SPDX-License-Identifier: BSD-3-Clause */
/* embed.h - what host/ is told by this program. */
#ifndef EMBED_H
#define EMBED_H

struct ctl;

/* Fills in ctl->env. */
extern void embed_init (struct ctl *ctl);

#endif /* EMBED_H */
