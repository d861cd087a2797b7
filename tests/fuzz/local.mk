# SPDX-License-Identifier: BSD-3-Clause
# fuzz/: libFuzzer targets.  make check replays their seeds; run-fuzz and
# make check-long look for more.

TESTS += fuzz/fuzz-edit fuzz/fuzz-open-read
check_PROGRAMS += fuzz/fuzz-edit fuzz/fuzz-open-read
fuzz_fuzz_edit_SOURCES = fuzz/fuzz-edit.c fuzz/replay-main.c
fuzz_fuzz_edit_CPPFLAGS = $(UNIT_CPPFLAGS) -DFUZZ_ALL
fuzz_fuzz_edit_CFLAGS = $(UNIT_CFLAGS)
fuzz_fuzz_edit_LDADD = unit/libunit.la

fuzz_fuzz_open_read_SOURCES = fuzz/fuzz-open-read.c fuzz/replay-main.c
fuzz_fuzz_open_read_CPPFLAGS = $(UNIT_CPPFLAGS)
fuzz_fuzz_open_read_CFLAGS = $(UNIT_CFLAGS)
fuzz_fuzz_open_read_LDADD = unit/libunit.la

# Made by hand: make -C tests fuzz/fuzz-make-corpus
EXTRA_PROGRAMS += fuzz/fuzz-make-corpus
fuzz_fuzz_make_corpus_SOURCES = fuzz/fuzz-make-corpus.c
fuzz_fuzz_make_corpus_CPPFLAGS = $(UNIT_CPPFLAGS)
fuzz_fuzz_make_corpus_CFLAGS = $(UNIT_CFLAGS)
fuzz_fuzz_make_corpus_LDADD = unit/libunit.la

EXTRA_DIST += fuzz/corpus fuzz/run-fuzz
LONG_TESTS += fuzz/test-fuzz-edit-long.sh fuzz/test-fuzz-long.sh
