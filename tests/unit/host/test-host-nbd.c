/* SPDX-License-Identifier: BSD-3-Clause */
/* test-host-nbd.c - the bytes of a file on an NBD server, which is nbdkit with
 * its memory plugin.  Skipped where there is none, or no libnbd.
 */
#include "config.h"

#include "host_files.h"
#include "unit.h"

#include "host/nbdfile.h"
#include "host/other.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SIZE (1024 * 1024)

static struct host_files h;
static char uri[400];
static struct place place = { .kind = PLACE_URI, .text = uri, .name = uri };

static pid_t
start_server (void)
{
  const char *const socket = host_path (&h, "socket");
  const pid_t pid = fork ();

  REQUIRE (pid != -1);
  if (pid == 0) {
    execlp ("nbdkit", "nbdkit", "-f", "--exit-with-parent", "-U", socket,
            "memory", "1M", (char *) NULL);
    _exit (127);
  }
  snprintf (uri, sizeof uri, "nbd+unix:///?socket=%s", socket);
  for (unsigned n = 0; n < 3000; ++n) {
    const struct timespec pause = { 0, 10 * 1000 * 1000 };

    if (access (socket, F_OK) == 0)
      return pid;
    if (waitpid (pid, NULL, WNOHANG) == pid)
      unit_skip ("nbdkit does not start");
    nanosleep (&pause, NULL);
  }
  REQUIRE (!"nbdkit has no socket");
  return -1;
}

static void
end_server (pid_t pid)
{
  kill (pid, SIGKILL);
  waitpid (pid, NULL, 0);
}

static void
requests (struct other *file)
{
  const struct qcow2_io *const io = &file->io;
  unsigned char bytes[4096], got[4096];

  memset (bytes, 0x5a, sizeof bytes);
  CHECK_EQ (io->size, SIZE);
  CHECK (io->concurrent);
  REQUIRE (io->ops->pwrite != NULL && io->ops->flush != NULL);
  CHECK_EQ (io->ops->pwrite (io->opaque, bytes, sizeof bytes, 8192,
                             QCOW2_IO_DATA), 0);
  CHECK_EQ (io->ops->flush (io->opaque), 0);
  CHECK_EQ (io->ops->pread (io->opaque, got, sizeof got, 8192,
                            QCOW2_IO_DATA), 0);
  CHECK_BYTES (got, bytes, sizeof got);
  CHECK_EQ (io->ops->pread (io->opaque, got, sizeof got, 0, QCOW2_IO_DATA),
            0);
  CHECK_EQ (got[0], 0);
}

int
main (void)
{
  struct qcow2_error err = { .text = "" };
  struct other *reader, *writer;
  unsigned char byte;
  pid_t pid;

  if (!nbdfile_supported ())
    unit_skip ("built without libnbd");
  signal (SIGPIPE, SIG_IGN);
  host_files_init (&h);
  snprintf (uri, sizeof uri, "nbd+unix:///?socket=%s",
            host_path (&h, "nobody"));
  CHECK (nbdfile_open (&h.env, &place, false, &err) == NULL);
  CHECK (strstr (err.text, "cannot be opened") != NULL);

  pid = start_server ();
  writer = nbdfile_open (&h.env, &place, true, &err);
  REQUIRE (writer != NULL);
  requests (writer);
  reader = nbdfile_open (&h.env, &place, false, &err);
  REQUIRE (reader != NULL);
  CHECK (reader->io.ops->pwrite == NULL);
  CHECK_EQ (reader->io.ops->pread (reader->io.opaque, &byte, 1, 8192,
                                   QCOW2_IO_DATA), 0);
  CHECK_EQ (byte, 0x5a);

  /* A writer whose connection is lost writes nothing more, not even when there
   * is a server again; a reader connects again.
   */
  end_server (pid);
  REQUIRE (unlink (host_path (&h, "socket")) == 0);
  pid = start_server ();
  CHECK (writer->io.ops->pwrite (writer->io.opaque, &byte, 1, 0,
                                 QCOW2_IO_DATA) != 0);
  CHECK (host_files_logged (&h, "the connection was lost"));
  CHECK_EQ (writer->io.ops->flush (writer->io.opaque), EIO);
  CHECK_EQ (reader->io.ops->pread (reader->io.opaque, &byte, 1, 8192,
                                   QCOW2_IO_DATA), 0);
  CHECK_EQ (byte, 0);
  writer->close (writer);
  reader->close (reader);
  end_server (pid);
  host_files_destroy (&h);
  return unit_finish ();
}
