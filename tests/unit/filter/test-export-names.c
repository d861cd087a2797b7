/* SPDX-License-Identifier: BSD-3-Clause */
/* test-export-names.c - splitting, making and describing names of exports. */
#include "config.h"

#include "exports.h"

#include "unit.h"

#define ACTIVE -1

static const struct {
  const char *text;
  enum export_names names;
  const char *base;
  int kind;
  const char *name;
} cases[] = {
  /* Names are ignored: the view is all of it. */
  { "", NAMES_IGNORED, "", ACTIVE, "" },
  { "disk", NAMES_IGNORED, "disk", ACTIVE, "" },
  { "snapshot", NAMES_IGNORED, "snapshot", ACTIVE, "" },
  { "snapshot/one", NAMES_IGNORED, "", QCOW2_VIEW_SNAPSHOT, "one" },
  { "snapshot/", NAMES_IGNORED, "", QCOW2_VIEW_SNAPSHOT, "" },
  { "snapshot//", NAMES_IGNORED, "", QCOW2_VIEW_SNAPSHOT, "/" },
  { "snapshot/a/b/c", NAMES_IGNORED, "", QCOW2_VIEW_SNAPSHOT, "a/b/c" },
  { "snapshot-id/7", NAMES_IGNORED, "", QCOW2_VIEW_SNAPSHOT_ID, "7" },
  { "bitmap/b", NAMES_IGNORED, "", QCOW2_VIEW_BITMAP, "b" },
  { "diff/a..b", NAMES_IGNORED, "", QCOW2_VIEW_DIFF, "a..b" },
  { "diff/a..", NAMES_IGNORED, "", QCOW2_VIEW_DIFF, "a.." },
  { "Snapshot/one", NAMES_IGNORED, "Snapshot/one", ACTIVE, "" },
  { "snapshots/one", NAMES_IGNORED, "snapshots/one", ACTIVE, "" },
  { "/snapshot/one", NAMES_IGNORED, "/snapshot/one", ACTIVE, "" },
  { "f/snapshot/one", NAMES_IGNORED, "f/snapshot/one", ACTIVE, "" },
  { "snapshot/snapshot/x", NAMES_IGNORED, "", QCOW2_VIEW_SNAPSHOT,
    "snapshot/x" },
  /* Files: up to the first slash. */
  { "f", NAMES_ARE_FILES, "f", ACTIVE, "" },
  { "f/", NAMES_ARE_FILES, "f/", ACTIVE, "" },
  { "f/snapshot/one", NAMES_ARE_FILES, "f", QCOW2_VIEW_SNAPSHOT, "one" },
  { "f/snapshot-id/1", NAMES_ARE_FILES, "f", QCOW2_VIEW_SNAPSHOT_ID, "1" },
  { "f/bitmap/x/y", NAMES_ARE_FILES, "f", QCOW2_VIEW_BITMAP, "x/y" },
  { "f/diff/a..b", NAMES_ARE_FILES, "f", QCOW2_VIEW_DIFF, "a..b" },
  { "snapshot/one", NAMES_ARE_FILES, "snapshot/one", ACTIVE, "" },
  { "snapshot/snapshot/one", NAMES_ARE_FILES, "snapshot",
    QCOW2_VIEW_SNAPSHOT, "one" },
  { "f/g/snapshot/one", NAMES_ARE_FILES, "f/g/snapshot/one", ACTIVE, "" },
  { "f/snapshot/snapshot/x", NAMES_ARE_FILES, "f", QCOW2_VIEW_SNAPSHOT,
    "snapshot/x" },
  { "/snapshot/one", NAMES_ARE_FILES, "/snapshot/one", ACTIVE, "" },
  /* Unknown: at the first place where that is possible. */
  { "a/b", NAMES_UNKNOWN, "a/b", ACTIVE, "" },
  { "snapshot/one", NAMES_UNKNOWN, "", QCOW2_VIEW_SNAPSHOT, "one" },
  { "a/b/snapshot/one", NAMES_UNKNOWN, "a/b", QCOW2_VIEW_SNAPSHOT, "one" },
  { "a/bitmap/b/snapshot/c", NAMES_UNKNOWN, "a", QCOW2_VIEW_BITMAP,
    "b/snapshot/c" },
  { "/a/snapshot/one", NAMES_UNKNOWN, "/a", QCOW2_VIEW_SNAPSHOT, "one" },
  { "/snapshot/one", NAMES_UNKNOWN, "/snapshot/one", ACTIVE, "" },
  { "//snapshot/one", NAMES_UNKNOWN, "/", QCOW2_VIEW_SNAPSHOT, "one" },
};

static void
check_parse (void)
{
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
    struct export_name n;

    unit_context ("\"%s\", names %d", cases[i].text, cases[i].names);
    export_name_parse (&n, cases[i].text, cases[i].names);
    CHECK_EQ (n.base_len, strlen (cases[i].base));
    CHECK_BYTES (cases[i].text, cases[i].base, n.base_len);
    if (!CHECK ((n.view == NULL) == (cases[i].kind == ACTIVE)) ||
        n.view == NULL)
      continue;
    CHECK_EQ (n.kind, cases[i].kind);
    CHECK_EQ (n.name.len, strlen (cases[i].name));
    CHECK (strcmp (n.name.bytes, cases[i].name) == 0);
    CHECK (n.view > cases[i].text + n.base_len || n.base_len == 0);
  }
}

static bool
format (char *out, const char *base, const char *name, size_t len,
        enum export_names names)
{
  const struct qcow2_name n = { name, len };

  unit_context ("format %zu bytes \"%.20s\" of \"%.20s\"", len, name, base);
  return export_name_format (out, base, QCOW2_VIEW_SNAPSHOT, &n, names);
}

#define FORMAT(base, name, names)                                             \
  format (out, base, name, sizeof name - 1, names)

static void
check_format (void)
{
  char out[EXPORT_NAME_MAX + 1];
  char *const longest = malloc (70000);
  const size_t room = EXPORT_NAME_MAX - strlen ("snapshot/");

  CHECK (FORMAT ("", "one", NAMES_IGNORED));
  CHECK (strcmp (out, "snapshot/one") == 0);
  CHECK (FORMAT ("f", "a b/c", NAMES_ARE_FILES));
  CHECK (strcmp (out, "f/snapshot/a b/c") == 0);
  CHECK (FORMAT ("", "snapshot/x", NAMES_UNKNOWN));
  CHECK (FORMAT ("a/b", "bitmap/x", NAMES_UNKNOWN));

  /* What would be split in another way. */
  CHECK (!FORMAT ("f", "one", NAMES_IGNORED));
  CHECK (!FORMAT ("", "one", NAMES_ARE_FILES));
  CHECK (!FORMAT ("a/b", "one", NAMES_ARE_FILES));
  CHECK (!FORMAT ("a/snapshot/b", "one", NAMES_UNKNOWN));
  CHECK (!FORMAT ("snapshot/b", "one", NAMES_UNKNOWN));

  /* UTF-8, all of it and nothing else. */
  CHECK (FORMAT ("", "\u00e4 \u20ac \U0001f4be \U0010ffff \u00a0",
                 NAMES_IGNORED));
  CHECK (!FORMAT ("", "", NAMES_IGNORED));
  CHECK (!FORMAT ("", "a\0b", NAMES_IGNORED));
  CHECK (!FORMAT ("", "a\nb", NAMES_IGNORED));
  CHECK (!FORMAT ("", "\x1b[31m", NAMES_IGNORED));
  CHECK (!FORMAT ("", "\x7f", NAMES_IGNORED));
  CHECK (!FORMAT ("", "\xc2\x85", NAMES_IGNORED));
  CHECK (!FORMAT ("", "\xe4", NAMES_IGNORED));
  CHECK (!FORMAT ("", "\xe2\x82", NAMES_IGNORED));
  CHECK (!FORMAT ("", "\x80", NAMES_IGNORED));
  CHECK (!FORMAT ("", "\xc0\xaf", NAMES_IGNORED));
  CHECK (!FORMAT ("", "\xe0\x80\xaf", NAMES_IGNORED));
  CHECK (!FORMAT ("", "\xed\xa0\x80", NAMES_IGNORED));
  CHECK (!FORMAT ("", "\xf4\x90\x80\x80", NAMES_IGNORED));
  CHECK (!FORMAT ("", "\xf8\x88\x80\x80\x80", NAMES_IGNORED));

  /* Lengths. */
  memset (longest, 'x', 70000);
  CHECK (format (out, "", longest, room, NAMES_IGNORED));
  CHECK_EQ (strlen (out), EXPORT_NAME_MAX);
  CHECK (!format (out, "", longest, room + 1, NAMES_IGNORED));
  CHECK (format (out, "f", longest, room - 2, NAMES_ARE_FILES));
  CHECK (!format (out, "f", longest, room - 1, NAMES_ARE_FILES));
  CHECK (!format (out, "", longest, 65535, NAMES_IGNORED));
  free (longest);
}

/* Whatever was made is split as it was put together. */
static void
check_round_trips (void)
{
  static const char *const parts[] = {
    "snapshot", "snapshot-id", "bitmap", "diff", "/", "/", "/", "a", ".", "",
  };
  static const enum qcow2_view_kind kinds[] = {
    QCOW2_VIEW_SNAPSHOT, QCOW2_VIEW_SNAPSHOT_ID, QCOW2_VIEW_BITMAP,
    QCOW2_VIEW_DIFF,
  };
  struct rng rng = { 1 };

  for (unsigned i = 0; i < unit_scaled (20000); ++i) {
    const enum export_names names = rng_below (&rng, 3);
    const enum qcow2_view_kind kind = kinds[rng_below (&rng, 4)];
    char text[2][100] = { "", "" }, out[EXPORT_NAME_MAX + 1];
    struct export_name n;
    struct qcow2_name name;

    for (unsigned j = rng_below (&rng, 12); j > 0; --j)
      strcat (text[rng_below (&rng, 2)], parts[rng_below (&rng, 10)]);
    name = (struct qcow2_name) { text[1], strlen (text[1]) };
    unit_context ("\"%s\" of \"%s\", names %d", text[1], text[0], names);
    if (!export_name_format (out, text[0], kind, &name, names))
      continue;
    export_name_parse (&n, out, names);
    REQUIRE (n.view != NULL);
    CHECK_EQ (n.kind, kind);
    CHECK_EQ (n.base_len, strlen (text[0]));
    CHECK (strcmp (n.name.bytes, text[1]) == 0);
  }
}

static void
check_escape (const char *bytes, size_t len, size_t size, const char *wanted)
{
  char out[100];

  unit_context ("escape, wanted \"%s\"", wanted);
  memset (out, 'X', sizeof out);
  export_escape (out, size, bytes, len);
  CHECK (strcmp (out, wanted) == 0);
  CHECK (out[size] == 'X');
}

static void
check_descriptions (void)
{
  char out[EXPORT_DESCRIPTION_SIZE], name[70000];
  struct qcow2_snapshot s = {
    .id = { "1", 1 }, .name = { "on\ne", 4 }, .date_sec = 1700000000,
    .disk_size = 1 << 20,
  };
  struct qcow2_bitmap b = { .granularity = 65536, .enabled = true };

  check_escape ("a\\\nb", 4, 99, "a\\x5c\\x0ab");
  check_escape ("\xff\xc3\xa4\0", 4, 99, "\\xff\u00e4\\x00");
  check_escape ("abcdefgh", 8, 12, "abcdefgh");
  check_escape ("abcdefgh", 8, 8, "abcd...");
  check_escape ("\n\n\n\n", 4, 10, "\\x0a...");
  check_escape ("", 0, 4, "");

  unit_context ("descriptions");
  export_describe_snapshot (out, &s, false);
  CHECK (strcmp (out, "snapshot of 2023-11-14T22:13:20Z, disk 1048576 bytes")
         == 0);
  s.vm_state_size = 77;
  export_describe_snapshot (out, &s, true);
  CHECK (strcmp (out, "snapshot \"on\\x0ae\" of 2023-11-14T22:13:20Z, disk "
                 "1048576 bytes, VM state 77 bytes") == 0);
  memset (name, '\n', sizeof name);
  s = (struct qcow2_snapshot) {
    .name = { name, 65535 }, .date_sec = UINT32_MAX,
    .disk_size = UINT64_MAX, .vm_state_size = UINT64_MAX,
  };
  export_describe_snapshot (out, &s, true);
  CHECK (strstr (out, "2106-02-07T06:28:15Z") != NULL);
  CHECK (strstr (out, "18446744073709551615 bytes, VM state "
                 "18446744073709551615 bytes") != NULL);
  export_describe_bitmap (out, &b);
  CHECK (strcmp (out, "bitmap, granularity 65536 bytes, enabled") == 0);
  b.enabled = false;
  export_describe_bitmap (out, &b);
  CHECK (strcmp (out, "bitmap, granularity 65536 bytes, disabled") == 0);
}

int
main (void)
{
  check_parse ();
  check_format ();
  check_round_trips ();
  check_descriptions ();
  return unit_finish ();
}
