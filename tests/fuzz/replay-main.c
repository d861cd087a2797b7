/* SPDX-License-Identifier: BSD-3-Clause */
/* replay-main.c - runs a fuzz target over files, without libFuzzer.
 *
 * Arguments are files; without any, all files of the corpus in the source
 * tree.  Each input is in a buffer of its own size, so that a sanitizer sees
 * reads past its end.
 */
#include "config.h"

#include "unit.h"

#include <dirent.h>
#include <unistd.h>

extern int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
replay (const char *path)
{
  FILE *const f = fopen (path, "rb");
  unsigned char *bytes;
  long size = -1;

  printf ("%s\n", path);
  fflush (stdout);              /* before it crashes */
  REQUIRE (f != NULL);
  REQUIRE (fseek (f, 0, SEEK_END) == 0 && (size = ftell (f)) >= 0);
  rewind (f);
  bytes = malloc (size > 0 ? (size_t) size : 1);
  REQUIRE (bytes != NULL);
  REQUIRE (fread (bytes, 1, (size_t) size, f) == (size_t) size);
  fclose (f);
  unit_context ("%s", path);
  CHECK_EQ (LLVMFuzzerTestOneInput (bytes, (size_t) size), 0);
  free (bytes);
}

static void
replay_corpus (void)
{
  const char *const srcdir = getenv ("top_srcdir");
  char path[4096];
  unsigned nr = 0;
  struct dirent *entry;
  DIR *dir;

  snprintf (path, sizeof path, "%s/tests/fuzz/corpus", srcdir ? srcdir : ".");
  dir = opendir (path);
  REQUIRE (dir != NULL);
  while ((entry = readdir (dir)) != NULL) {
    if (entry->d_name[0] == '.')
      continue;
    snprintf (path, sizeof path, "%s/tests/fuzz/corpus/%s",
              srcdir ? srcdir : ".", entry->d_name);
    replay (path);
    nr++;
  }
  closedir (dir);
  CHECK (nr >= 40);
}

int
main (int argc, char **argv)
{
  alarm (240);
  if (argc < 2)
    replay_corpus ();
  for (int i = 1; i < argc; ++i)
    replay (argv[i]);
  return unit_finish ();
}
