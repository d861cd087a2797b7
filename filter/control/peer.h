/* SPDX-License-Identifier: BSD-3-Clause */
/* peer.h - one connection to the control socket.
 *
 * Its own thread calls this.
 */
#ifndef CONTROL_PEER_H
#define CONTROL_PEER_H

struct peer;

/* Talk to it until it leaves, does not behave, or is to leave. */
extern void peer_serve (struct peer *p);

#endif /* CONTROL_PEER_H */
