/* SPDX-License-Identifier: BSD-3-Clause */
/* output.h - what goes to stdout, for programs and for people.
 *
 * A struct value is a piece of JSON.  All functions take NULL for one that
 * could not be made, and there are only such ones without jansson; if memory
 * was short, output_finish says so in the end.
 */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether this was built with jansson. */
extern bool output_has_json (void);
/* Flushes stdout.  Returns 'code', or CODE_FAILED having said that what was
 * printed is incomplete.
 */
extern int output_finish (int code);

struct value;

extern struct value *value_object (void);
extern struct value *value_array (void);
extern struct value *value_number (uint64_t number);
extern struct value *value_bool (bool is);
extern struct value *value_text (const char *text);
/* Any bytes; those that are no UTF-8 are replaced. */
extern struct value *value_bytes (const char *bytes, size_t len);
/* These take over 'value'. */
extern void value_set (struct value *object, const char *key,
                       struct value *value);
extern void value_append (struct value *array, struct value *value);
extern void value_print (struct value *value);
/* Instead of being printed; NULL is allowed. */
extern void value_free (struct value *value);
/* One of a list that is not kept in memory: 'nr' of those before, which begins
 * with 0.  The end must be printed, too.
 */
extern void value_print_item (struct value *value, uint64_t nr);
extern void value_print_end (uint64_t nr);

/* "64 MiB", as qemu-img prints sizes; returns 'out'. */
#define SIZE_TEXT 24
extern const char *size_text (char out[SIZE_TEXT], uint64_t bytes);
/* Bytes of an image, for people: what would change the terminal is escaped.
 */
extern void print_bytes (const char *bytes, size_t len);

#endif /* OUTPUT_H */
