/* SPDX-License-Identifier: BSD-3-Clause */
/* qemu.c - see qemu.h.
 *
 * Owns      the folder, and threads that take jobs, write their files and wait
 *           for the processes.
 * Method    a queue of a few jobs.  Submitting waits while it is full, so
 *           memory is bounded, and states come no faster than QEMU can check
 *           them.
 * Locks     'lock', of the queue and the counters.
 */
#include "config.h"

#include "qemu.h"

#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_THREADS 3
#define QUEUE 8

struct job {
  unsigned char *bytes, *data, *disk;
  uint64_t size, data_size, disk_size;
  char options[512];
  enum qemu_want want;
  char what[256];
};

static char folder[128];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct job *queue[QUEUE];
static unsigned nr_queued, nr_running, nr_kept;
static unsigned long nr_checks, nr_reads;
static pthread_t threads[NR_THREADS];
static bool started, stopping;

extern char **environ;

/* ---- Processes --------------------------------------------------------- */

void
qemu_path (char *buf, size_t len, const char *name)
{
  REQUIRE ((size_t) snprintf (buf, len, "%s/%s", folder, name) < len);
}

/* Output goes to 'log' (NULL: nowhere); returns the exit status. */
static int
spawn (const char *command, const char *log)
{
  char *const argv[] = { (char *) "sh", (char *) "-c", (char *) command,
                         NULL };
  posix_spawn_file_actions_t actions;
  pid_t pid;
  int status;

  posix_spawn_file_actions_init (&actions);
  posix_spawn_file_actions_addopen (&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen (&actions, 1, log ? log : "/dev/null",
                                    O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2 (&actions, 1, 2);
  REQUIRE (posix_spawn (&pid, "/bin/sh", &actions, NULL, argv, environ) == 0);
  posix_spawn_file_actions_destroy (&actions);
  while (waitpid (pid, &status, 0) == -1)
    REQUIRE (errno == EINTR);
  return WIFEXITED (status) ? WEXITSTATUS (status) : 128 + WTERMSIG (status);
}

static void
show (const char *path)
{
  char line[256];
  FILE *const f = fopen (path, "r");
  unsigned n = 0;

  if (f == NULL)
    return;
  while (n++ < 12 && fgets (line, sizeof line, f) != NULL)
    fprintf (stderr, "    %s", line);
  fclose (f);
}

static int
run_in_folder (char *command, size_t len, const char *fmt, va_list args)
{
  const int n = snprintf (command, len, "cd '%s' && exec ", folder);

  REQUIRE (n > 0 && (size_t) n < len);
  REQUIRE ((size_t) vsnprintf (command + n, len - (size_t) n, fmt, args) <
           len - (size_t) n);
  return 0;
}

int
qemu_status (const char *fmt, ...)
{
  char command[4096];
  va_list args;

  va_start (args, fmt);
  run_in_folder (command, sizeof command, fmt, args);
  va_end (args);
  return spawn (command, NULL);
}

void
qemu_run (int expect, const char *fmt, ...)
{
  char command[4096], log[160];
  va_list args;
  int status;

  va_start (args, fmt);
  run_in_folder (command, sizeof command, fmt, args);
  va_end (args);
  qemu_path (log, sizeof log, "log");
  status = spawn (command, log);
  if (!unit_check (status == expect, __FILE__, __LINE__,
                   "exit status %d: %s", status, command))
    show (log);
}

const char *
qemu_image (char *buf, size_t len, const char *name, const char *options,
            const char *data)
{
  const int n =
    snprintf (buf, len, QEMU_OBJECT " --image-opts driver=qcow2,"
              "file.filename=%s%s%s%s", name, options,
              data ? ",data-file.driver=file,data-file.filename=" : "",
              data ? data : "");

  REQUIRE ((size_t) n < len);
  return buf;
}

/* ---- Files ------------------------------------------------------------- */

static void
save (const char *path, const void *bytes, uint64_t size)
{
  FILE *const f = fopen (path, "wb");

  REQUIRE (f != NULL);
  REQUIRE (fwrite (bytes, 1, size, f) == size);
  REQUIRE (fclose (f) == 0);
}

void
qemu_save (const char *name, const void *bytes, uint64_t size)
{
  char path[256];

  qemu_path (path, sizeof path, name);
  save (path, bytes, size);
}

unsigned char *
qemu_make (const char *commands, uint64_t *ret_size)
{
  qemu_save ("make.sh", commands, strlen (commands));
  qemu_run (0, "rm -f i");
  qemu_run (0, "sh -e make.sh >/dev/null");
  return qemu_load ("i", ret_size);
}

unsigned char *
qemu_load (const char *name, uint64_t *ret_size)
{
  char path[256];
  unsigned char *bytes;
  struct stat st;
  FILE *f;

  qemu_path (path, sizeof path, name);
  f = fopen (path, "rb");
  REQUIRE (f != NULL && fstat (fileno (f), &st) == 0);
  *ret_size = (uint64_t) st.st_size;
  bytes = malloc (*ret_size + 1);
  REQUIRE (bytes != NULL);
  REQUIRE (fread (bytes, 1, *ret_size, f) == *ret_size);
  fclose (f);
  return bytes;
}

/* ---- Jobs -------------------------------------------------------------- */

/* Keep the files of a failed job for inspection. */
static void
failed (const struct job *job, const char *image, const char *log,
        const char *problem, int status)
{
  const char *const dir = getenv ("CRASH_KEEP");
  char kept[512] = "not kept, set CRASH_KEEP to a folder";

  pthread_mutex_lock (&lock);
  if (dir != NULL) {
    snprintf (kept, sizeof kept, "%s/qemu-%d-%u.qcow2", dir, (int) getpid (),
              nr_kept++);
    save (kept, job->bytes, job->size);
    if (job->data != NULL) {
      char data[600];

      snprintf (data, sizeof data, "%s.data", kept);
      save (data, job->data, job->data_size);
    }
  }
  pthread_mutex_unlock (&lock);
  (void) image;
  unit_check (false, __FILE__, __LINE__, "qemu-img %s (%d): %s; image: %s",
              problem, status, job->what, kept);
  show (log);
}

/* The paths of a job's files. */
struct paths {
  char image[160], data[160], raw[160], log[160];
  char target[QEMU_IMAGE];
};

static void
save_files (const struct job *job, struct paths *p, unsigned nr)
{
  snprintf (p->image, sizeof p->image, "%s/job-%u.qcow2", folder, nr);
  snprintf (p->data, sizeof p->data, "%s/job-%u.data", folder, nr);
  snprintf (p->raw, sizeof p->raw, "%s/job-%u.raw", folder, nr);
  snprintf (p->log, sizeof p->log, "%s/job-%u.log", folder, nr);
  qemu_image (p->target, sizeof p->target, p->image, job->options,
              job->data ? p->data : NULL);
  save (p->image, job->bytes, job->size);
  if (job->data != NULL)
    save (p->data, job->data, job->data_size);
}

static void
compare (const struct job *job, const struct paths *p)
{
  char command[1536];
  int status;

  save (p->raw, job->disk, job->disk_size);
  snprintf (command, sizeof command,
            "exec qemu-img compare %s driver=raw,file.filename=%s",
            p->target, p->raw);
  status = spawn (command, p->log);
  if (!CHECK (status == 0))
    failed (job, p->image, p->log, "compare", status);
}

static void
run_job (const struct job *job, unsigned nr)
{
  char command[4096];
  struct paths p;
  int status;

  save_files (job, &p, nr);
  if (job->disk != NULL)
    compare (job, &p);
  snprintf (command, sizeof command, "exec qemu-img check %s", p.target);
  if (job->want == QEMU_REPAIRED)
    snprintf (command, sizeof command,
              "qemu-img check -r all %s; exec qemu-img check %s", p.target,
              p.target);
  status = spawn (command, p.log);
  switch (job->want) {
  case QEMU_SOUND:
    status = status == 3 ? 0 : status;
    break;
  case QEMU_CORRUPT:
    status = status == 1 || status == 2 ? 0 : status + 100;
    break;
  case QEMU_CLEAN:
  case QEMU_REPAIRED:
    break;
  }
  if (!CHECK (status == 0))
    failed (job, p.image, p.log, "check", status);
  /* A repaired image reads as before. */
  else if (job->disk != NULL && job->want == QEMU_REPAIRED)
    compare (job, &p);
}

static void *
work (void *arg)
{
  const unsigned nr = (unsigned) (uintptr_t) arg;

  pthread_mutex_lock (&lock);
  for (;;) {
    struct job *job;

    while (nr_queued == 0 && !stopping)
      pthread_cond_wait (&changed, &lock);
    if (nr_queued == 0)
      break;
    job = queue[--nr_queued];
    nr_running++;
    nr_checks++;
    nr_reads += job->disk != NULL;
    pthread_cond_broadcast (&changed);
    pthread_mutex_unlock (&lock);
    run_job (job, nr);
    free (job->bytes);
    free (job->data);
    free (job->disk);
    free (job);
    pthread_mutex_lock (&lock);
    nr_running--;
    pthread_cond_broadcast (&changed);
  }
  pthread_mutex_unlock (&lock);
  return NULL;
}

static void *
copy_of (const void *bytes, uint64_t size)
{
  void *const p = malloc (size);

  REQUIRE (p != NULL);
  memcpy (p, bytes, size);
  return p;
}

void
qemu_submit (const void *bytes, uint64_t size,
             const struct qemu_files *files, enum qemu_want want,
             const void *disk, uint64_t disk_size, const char *what)
{
  struct job *const job = calloc (1, sizeof *job);

  REQUIRE (job != NULL);
  job->bytes = copy_of (bytes, size);
  job->size = size;
  if (files != NULL) {
    snprintf (job->options, sizeof job->options, "%s", files->options);
    if (files->data != NULL)
      job->data = copy_of (files->data, files->data_size);
    job->data_size = files->data_size;
  }
  job->want = want;
  if (disk != NULL)
    job->disk = copy_of (disk, disk_size);
  job->disk_size = disk_size;
  snprintf (job->what, sizeof job->what, "%s", what);
  pthread_mutex_lock (&lock);
  if (!started)
    for (unsigned i = 0; i < NR_THREADS; ++i)
      REQUIRE (pthread_create (&threads[i], NULL, work,
                               (void *) (uintptr_t) i) == 0);
  started = true;
  while (nr_queued == QUEUE)
    pthread_cond_wait (&changed, &lock);
  queue[nr_queued++] = job;
  pthread_cond_broadcast (&changed);
  pthread_mutex_unlock (&lock);
}

void
qemu_wait (void)
{
  pthread_mutex_lock (&lock);
  while (nr_queued > 0 || nr_running > 0)
    pthread_cond_wait (&changed, &lock);
  pthread_mutex_unlock (&lock);
}

unsigned long
qemu_checks (void)
{
  return nr_checks;
}

unsigned long
qemu_reads (void)
{
  return nr_reads;
}

/* ---- Life -------------------------------------------------------------- */

void
qemu_init (void)
{
  const char *dir = getenv ("TMPDIR");

  if (dir == NULL)
    dir = access ("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  snprintf (folder, sizeof folder, "%s/crash-XXXXXX", dir);
  REQUIRE (mkdtemp (folder) != NULL);
  atexit (qemu_finish);
  if (qemu_status ("qemu-img --version") != 0)
    unit_skip ("needs qemu-img");
}

void
qemu_finish (void)
{
  char command[256];

  if (folder[0] == '\0')
    return;
  pthread_mutex_lock (&lock);
  stopping = true;
  pthread_cond_broadcast (&changed);
  pthread_mutex_unlock (&lock);
  for (unsigned i = 0; started && i < NR_THREADS; ++i)
    pthread_join (threads[i], NULL);
  started = false;
  stopping = false;
  snprintf (command, sizeof command, "exec rm -rf '%s'", folder);
  folder[0] = '\0';
  spawn (command, NULL);
}
