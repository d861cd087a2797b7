/* SPDX-License-Identifier: BSD-3-Clause */
/* server.h - the threads behind the control socket.
 *
 * Only the main thread calls these.
 */
#ifndef CONTROL_SERVER_H
#define CONTROL_SERVER_H

/* Serve the socket, which becomes the server's.  Returns -1 and logs on error.
 */
extern int server_start (int fd);
/* Ends all that runs, and waits for it; nothing if it was not started. */
extern void server_stop (void);

#endif /* CONTROL_SERVER_H */
