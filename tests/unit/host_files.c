/* SPDX-License-Identifier: BSD-3-Clause */
/* host_files.c - see host_files.h. */
#include "config.h"

#include "host_files.h"

#include "image_builder.h"
#include "unit.h"

#include "host/gate.h"
#include "host/layers.h"
#include "host/localfile.h"
#include "host/other.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXT_FORMAT 0xe2792aca
#define EXT_DATA_FILE 0x44415441

/* ---- The program -------------------------------------------------------- */

static void __attribute__ ((__format__ (__printf__, 4, 0)))
note_line (const struct host_env *env, enum host_log_level level,
           const char *name, const char *format, va_list args)
{
  struct host_files *const h = env->opaque;
  size_t len;

  CHECK (level != HOST_LOG_BUG);
  if (level == HOST_LOG_DEBUG)
    return;
  pthread_mutex_lock (&h->lock);
  len = strlen (h->log);
  len += snprintf (h->log + len, sizeof h->log - len, "%s: ", name);
  if (len < sizeof h->log)
    vsnprintf (h->log + len, sizeof h->log - len, format, args);
  pthread_mutex_unlock (&h->lock);
}

static _Thread_local bool has_met;

void
host_files_meet_again (void)
{
  has_met = false;
}

/* Called when a layer is known to be opened, and is not open yet. */
static struct qcow2_options
options (const struct host_env *env, const char *name)
{
  struct host_files *const h = env->opaque;

  (void) name;
  if (h->meet && !has_met) {
    has_met = true;
    pthread_barrier_wait (h->meet);
  }
  return (struct qcow2_options) { .cache_size = 0 };
}

static void
closing (const struct host_env *env, const char *name,
         const struct qcow2_image *image)
{
  struct host_files *const h = env->opaque;

  (void) name;
  CHECK (image != NULL);
  ++h->closed;
}

static const struct host_words words = {
  .program = "filter", .process = "this server", .sep = "=",
  .backing = "qcow2-backing", .backing_format = "qcow2-backing-format",
  .data_file = "qcow2-data-file", .follow = "qcow2-follow",
  .passphrase = "qcow2-passphrase", .read_only = "serve the image with -r",
  .unlocked = "give qcow2-lock=off", .reading_busy = "-r", .writing_busy = "-r",
};

void
host_files_init (struct host_files *h)
{
  char name[] = "/tmp/test-host-XXXXXX";

  *h = (struct host_files) {
    .rules = { .follow_fd = -1 },
    .env = {
      .opaque = h, .words = &words, .rules = &h->rules, .lock = true, .one_image = true,
      .log = note_line, .options = options, .closing = closing,
    },
  };
  pthread_mutex_init (&h->lock, NULL);
  REQUIRE (mkdtemp (name) != NULL);
  h->folder = realpath (name, NULL);
  REQUIRE (h->folder != NULL);
}

static int
remove_one (const char *path, const struct stat *st, int type,
            struct FTW *ftw)
{
  (void) st;
  (void) type;
  (void) ftw;
  return remove (path);
}

void
host_files_destroy (struct host_files *h)
{
  if (h->rules.follow_fd != -1)
    close (h->rules.follow_fd);
  CHECK (nftw (h->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0);
  pthread_mutex_destroy (&h->lock);
  free (h->folder);
}

void
host_files_follow (struct host_files *h)
{
  h->rules.follow = h->rules.follow_given = h->folder;
  h->rules.follow_fd = open (h->folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
  REQUIRE (h->rules.follow_fd != -1);
}

void
host_files_forget_log (struct host_files *h)
{
  pthread_mutex_lock (&h->lock);
  h->log[0] = '\0';
  pthread_mutex_unlock (&h->lock);
}

bool
host_files_logged (struct host_files *h, const char *text)
{
  bool found;

  pthread_mutex_lock (&h->lock);
  found = strstr (h->log, text) != NULL;
  pthread_mutex_unlock (&h->lock);
  return found;
}

/* ---- Files -------------------------------------------------------------- */

const char *
host_path (const struct host_files *h, const char *name)
{
  static _Thread_local char paths[4][4200];
  static _Thread_local unsigned next;
  char *const path = paths[next++ % 4];

  snprintf (path, sizeof paths[0], "%s/%s", h->folder, name);
  return path;
}

static void
write_file (const struct host_files *h, const char *name, const void *bytes,
            size_t len)
{
  FILE *const f = fopen (host_path (h, name), "w");

  REQUIRE (f != NULL);
  REQUIRE (fwrite (bytes, 1, len, f) == len);
  REQUIRE (fclose (f) == 0);
}

void
host_write_raw (const struct host_files *h, const char *name,
                unsigned char byte)
{
  static unsigned char bytes[HOST_DISK_SIZE];

  memset (bytes, byte, sizeof bytes);
  write_file (h, name, bytes, sizeof bytes);
}

static void
start_image (struct image_builder *b)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = 16, .refcount_order = 4,
    .virtual_size = HOST_DISK_SIZE,
  };

  builder_init (b, &spec);
}

static void
end_image (struct image_builder *b, const struct host_files *h,
           const char *name)
{
  builder_finish (b);
  write_file (h, name, b->bytes, b->size);
  builder_free (b);
}

/* The name is in the first cluster, after all extensions. */
#define NAME_OFF 4096

static void
put_backing (struct image_builder *b, const char *backing)
{
  memcpy (b->bytes + NAME_OFF, backing, strlen (backing));
  builder_put (b, 8, 8, NAME_OFF);
  builder_put (b, 16, 4, strlen (backing));
}

void
host_write_overlay (const struct host_files *h, const char *name,
                    const char *backing, const char *format)
{
  struct image_builder b;

  start_image (&b);
  if (format)
    builder_extension (&b, EXT_FORMAT, format, strlen (format));
  if (backing)
    put_backing (&b, backing);
  end_image (&b, h, name);
}

void
host_write_with_data (const struct host_files *h, const char *name,
                      const char *data_file, const char *backing)
{
  struct image_builder b;

  start_image (&b);
  builder_extension (&b, EXT_DATA_FILE, data_file, strlen (data_file));
  if (backing) {
    builder_extension (&b, EXT_FORMAT, "qcow2", 5);
    put_backing (&b, backing);
  }
  builder_put (&b, 72, 8, 4);   /* incompatible: an external data file */
  builder_set_entry (&b, 0, UINT64_C (1) << 63, 0);
  end_image (&b, h, name);
}

/* ---- Images ------------------------------------------------------------- */

int
host_image_open (struct host_image *i, const struct host_files *h,
                 const char *name, bool writable, struct qcow2_error *err)
{
  const char *const path = host_path (h, name);
  const int fd = open (path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  struct qcow2_options opt = { .writable = writable };
  struct identity id = { .kind = ID_FILE };
  struct gate gate;
  struct stat st;

  REQUIRE (fd != -1 && fstat (fd, &st) == 0);
  id.dev = st.st_dev;
  id.ino = st.st_ino;
  i->file = localfile_new (&h->env, fd, "the image", writable, err);
  REQUIRE (i->file != NULL);
  gate_init (&gate, &h->env, &id, h->folder);
  opt.open_file = gate_open_file;
  opt.open_file_opaque = &gate;
  i->image = qcow2_open (&i->file->io, &opt, err);
  i->layers = gate.layers;
  if (i->image && gate_check_unused (&gate, i->image, err) == 0)
    return 0;
  host_image_close (i);
  return -1;
}

void
host_image_close (struct host_image *i)
{
  qcow2_close (i->image);
  layers_release (&i->layers);
  i->file->close (i->file);
}

unsigned char
host_image_byte (const struct host_image *i, unsigned guest_cluster)
{
  struct qcow2_error err = { .text = "" };
  unsigned char byte = 0xee;
  const int r = qcow2_pread (i->image, &i->file->io, &byte, 1,
                             (uint64_t) guest_cluster * HOST_CLUSTER, &err);

  unit_context ("%s", err.text);
  CHECK_EQ (r, 0);
  unit_context ("%s", "");
  return byte;
}
