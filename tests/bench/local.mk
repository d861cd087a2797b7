# SPDX-License-Identifier: BSD-3-Clause
# make bench: performance against rivals; never part of make check.

if HAVE_LIBNBD
EXTRA_PROGRAMS += bench/nbdload
bench_nbdload_SOURCES = bench/nbdload.c
bench_nbdload_CFLAGS = $(WARN_CFLAGS) $(LIBNBD_CFLAGS)
bench_nbdload_LDADD = $(LIBNBD_LIBS)

# Tables and plots of all that was measured here.
bench_page = $(PYTHON) $(srcdir)/bench/page.py $(top_builddir)/docs/bench \
	$$(ls $(builddir)/bench/results*.json)
CLEANFILES += bench/results*.json

bench: bench/nbdload
	$(PYTHON) $(srcdir)/bench/bench --nbdload $(builddir)/bench/nbdload \
	    --filter $(abs_top_builddir)/filter/.libs/nbdkit-qcow2-filter.so \
	    --json $(builddir)/bench/results.json $(BENCH_FLAGS)
	$(bench_page)

bench-remote: bench/nbdload
	$(PYTHON) $(srcdir)/bench/bench --nbdload $(builddir)/bench/nbdload \
	    --filter $(abs_top_builddir)/filter/.libs/nbdkit-qcow2-filter.so \
	    --remote --json $(builddir)/bench/results-remote.json $(BENCH_FLAGS)
	$(bench_page)

bench-live: bench/nbdload
	$(PYTHON) $(srcdir)/bench/live.py --nbdload $(builddir)/bench/nbdload \
	    --filter $(abs_top_builddir)/filter/.libs/nbdkit-qcow2-filter.so \
	    --json $(builddir)/bench/results-live.json $(BENCH_FLAGS)
	$(bench_page)

bench-cost: bench/nbdload
	$(PYTHON) $(srcdir)/bench/cost.py --nbdload $(builddir)/bench/nbdload \
	    --filter $(abs_top_builddir)/filter/.libs/nbdkit-qcow2-filter.so \
	    --json $(builddir)/bench/results-cost.json $(BENCH_FLAGS)
	$(bench_page)
bench-edit:
	$(PYTHON) $(srcdir)/bench/edit.py \
	    --qcow2ctl $(top_builddir)/tools/qcow2ctl/qcow2ctl $(BENCH_FLAGS)
else
bench bench-cost bench-edit bench-live bench-remote:
	@echo "make bench needs libnbd: install libnbd-dev and configure again"
	@false
endif

# Imports of an image that is far away; PIPELINES=IMAGE for one of your own.
bench-pipelines:
	top_srcdir=$(abs_top_srcdir) top_builddir=$(abs_top_builddir) \
	    PYTHON=$(PYTHON) $(srcdir)/bench/pipelines $(PIPELINES)

# Ciphers alone, in one thread.
EXTRA_PROGRAMS += bench/cipherbench
bench_cipherbench_CPPFLAGS = $(UNIT_CPPFLAGS)
bench_cipherbench_CFLAGS = $(UNIT_CFLAGS)
bench_cipherbench_LDADD = $(UNIT_LIBS)

bench-ciphers: bench/cipherbench
	$(builddir)/bench/cipherbench

.PHONY: bench bench-ciphers bench-cost bench-edit bench-live bench-pipelines \
	bench-remote

EXTRA_DIST += \
	bench/README.md \
	bench/bench \
	bench/boot_reads.py \
	bench/build-in-root \
	bench/clients.py \
	bench/cost.py \
	bench/edit.py \
	bench/images.py \
	bench/lag.py \
	bench/live.py \
	bench/live_servers.py \
	bench/live_tables.py \
	bench/nbdload.c \
	bench/overview.py \
	bench/page.py \
	bench/pipelines \
	bench/remote.py \
	bench/report.py \
	bench/root.py \
	bench/scatter.py \
	bench/servers.py \
	bench/stats.py \
	bench/web.py \
	bench/workloads.py \
	bench/writes.py \
	$(NULL)
