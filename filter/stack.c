/* SPDX-License-Identifier: BSD-3-Clause */
/* stack.c - which filters are above and below us, and which plugin.
 *
 * Owns      the list of these, constant once stack_scan has run.
 * Method    nbdkit does not tell.  But it loads the plugin first, and then
 *           the filters from the bottom up, because it makes each of them
 *           with the one below at hand; and the dynamic linker keeps its
 *           list in the order of loading.  So what was loaded before us and
 *           has nbdkit's entry point for filters, or plugins, is below us.
 *           One that is used both above and below was loaded for the use
 *           below.  Filters that were loaded after us are above.
 *
 *           A filter is asked for its name by that entry point, which does
 *           nothing but return a structure, whose layout we know since the
 *           server accepts filters of its own version only.  Entry points of
 *           plugins in other languages may do more, so a plugin's name is
 *           taken from its file.
 *
 *           All this is evidence, and where it is incomplete (something was
 *           preloaded, there is another linker) nothing is known: then
 *           questions are answered with no, so ask those where no is safe.
 * Locks     none: only the main thread scans, before there are others.
 */
#include "config.h"

#include "stack.h"

#include "nbdkit_api.h"
#include "report.h"

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILTERS 64

static struct {
  bool known;
  char *plugin;                 /* "file" */
  struct {
    const char *name;
    bool above;
  } filters[MAX_FILTERS];
  size_t nr_filters, nr_below;
} stack;

/* The names of what is loaded besides us. */
struct objects {
  const char *own;
  bool found_own;
  char **names;
  size_t nr, nr_below;          /* those before us */
  bool failed;
};

static int
collect (struct dl_phdr_info *info, size_t size, void *opaque)
{
  struct objects *const o = opaque;
  char **more;

  if (info->dlpi_name == NULL || info->dlpi_name[0] == '\0')
    return 0;
  if (strcmp (info->dlpi_name, o->own) == 0) {
    o->found_own = true;
    o->nr_below = o->nr;
    return 0;
  }
  more = reallocarray (o->names, o->nr + 1, sizeof *more);
  if (more != NULL)
    o->names = more;
  if (more == NULL || (more[o->nr] = strdup (info->dlpi_name)) == NULL) {
    o->failed = true;
    return 1;
  }
  o->nr++;
  return 0;
}

/* A symbol that the object itself has, and not one that it depends on. */
static void *
own_symbol (void *handle, const char *object, const char *name)
{
  void *const symbol = dlsym (handle, name);
  Dl_info info;

  if (symbol == NULL || dladdr (symbol, &info) == 0 ||
      strcmp (info.dli_fname, object) != 0)
    return NULL;
  return symbol;
}

static void
note_filter (void *entry, bool above)
{
  struct nbdkit_filter *(*init) (void);

  memcpy (&init, &entry, sizeof init);
  if (stack.nr_filters == MAX_FILTERS) {
    stack.known = false;
    return;
  }
  stack.filters[stack.nr_filters].name = init ()->name;
  stack.filters[stack.nr_filters++].above = above;
  stack.nr_below += !above;
  (void) holds (stack.nr_filters <= MAX_FILTERS &&
                stack.nr_below <= stack.nr_filters);
}

/* "file", from ".../nbdkit-file-plugin.so". */
static void
note_plugin (const char *object)
{
  static const char prefix[] = "nbdkit-", suffix[] = "-plugin.so";
  const char *const name = basename (object);
  const size_t len = strlen (name);
  const size_t around = strlen (prefix) + strlen (suffix);

  if (stack.plugin != NULL || len <= around ||
      strncmp (name, prefix, strlen (prefix)) != 0 ||
      strcmp (name + len - strlen (suffix), suffix) != 0 ||
      (stack.plugin = strndup (name + strlen (prefix), len - around)) == NULL)
    stack.known = false;
}

static void
look_at (const char *object, bool above)
{
  void *const handle = dlopen (object, RTLD_LAZY | RTLD_NOLOAD);
  void *filter;

  if (handle == NULL)
    return;                     /* the kernel's, for example */
  filter = own_symbol (handle, object, "filter_init");
  if (filter)
    note_filter (filter, above);
  else if (!above && own_symbol (handle, object, "plugin_init"))
    note_plugin (object);
  dlclose (handle);
}

static void
log_stack (void)
{
  nbdkit_debug ("qcow2: below is the plugin %s", stack.known ? stack.plugin
                : "(unknown)");
  for (size_t i = 0; i < stack.nr_filters; ++i)
    nbdkit_debug ("qcow2: %s is the filter %s",
                  stack.filters[i].above ? "above" : "below",
                  stack.filters[i].name);
}

void
stack_scan (void)
{
  struct objects objects = { .own = NULL };
  Dl_info info;

  if (dladdr (&stack, &info) == 0 || info.dli_fname == NULL)
    return;
  (void) holds (stack.nr_filters == 0 && stack.plugin == NULL);
  objects.own = info.dli_fname;
  dl_iterate_phdr (collect, &objects);
  stack.known = objects.found_own && !objects.failed;
  for (size_t i = 0; i < objects.nr; ++i) {
    if (objects.found_own)
      look_at (objects.names[i], i >= objects.nr_below);
    free (objects.names[i]);
  }
  free (objects.names);
  if (stack.plugin == NULL)
    stack.known = false;
  log_stack ();
}

void
stack_unload (void)
{
  free (stack.plugin);
  stack.plugin = NULL;
  stack.known = false;
  stack.nr_filters = stack.nr_below = 0;
}

static bool
has_filter (const char *name, bool above)
{
  for (size_t i = 0; i < stack.nr_filters; ++i)
    if (stack.filters[i].above == above &&
        strcmp (stack.filters[i].name, name) == 0)
      return true;
  return false;
}

bool
stack_has_filter (const char *name)
{
  return has_filter (name, false);
}

bool
stack_has_filter_above (const char *name)
{
  return has_filter (name, true);
}

/* cache keeps what is written, until it is flushed, and ext2 has another place
 * for each byte; neither says anything of extents itself.
 */
bool
stack_extents_mislead (bool above)
{
  return has_filter ("cache", above) || has_filter ("ext2", above);
}

bool
stack_is_plugin_alone (const char *name)
{
  return stack.known && holds (stack.plugin != NULL) && stack.nr_below == 0 &&
    strcmp (stack.plugin, name) == 0;
}
