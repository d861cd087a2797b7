# SPDX-License-Identifier: BSD-3-Clause
# End to end: the filter in a real server, real images, plugins and clients.

slow_nbd_tests = \
	nbd/test-write-enospc.sh \
	nbd/test-write-model.sh \
	nbd/test-write-errors.sh \
	nbd/test-real-disk.sh \
	nbd/test-luks-matrix.sh \
	nbd/test-write-layers.sh \
	nbd/test-write-kill.sh \
	nbd/test-exports-many.sh \
	nbd/test-write-fs.sh \
	nbd/test-exports-views.sh \
	nbd/test-remote-failures.sh \
	nbd/test-repair-qemu.sh \
	nbd/test-layers-hostile.sh \
	nbd/test-chains.sh \
	nbd/test-remote-memory.sh \
	nbd/test-hostile.sh \
	nbd/test-luks-keys.sh \
	nbd/test-remote-s3.sh \
	$(NULL)

nbd_tests = \
	nbd/test-bitflip.sh \
	nbd/test-block-minimum.sh \
	nbd/test-block-size.sh \
	nbd/test-bounce.sh \
	nbd/test-bugs.sh \
	nbd/test-budget.sh \
	nbd/test-cache.sh \
	nbd/test-check-at-start.sh \
	nbd/test-check-flips.sh \
	nbd/test-check-qemu.sh \
	nbd/test-compress.sh \
	nbd/test-control-kill.sh \
	nbd/test-control-snapshots.sh \
	nbd/test-control-socket.sh \
	nbd/test-dump-plugin.sh \
	nbd/test-error-below.sh \
	nbd/test-exports-apply.sh \
	nbd/test-exports-device.sh \
	nbd/test-exports-dir.sh \
	nbd/test-exports-ignored.sh \
	nbd/test-exports-layers.sh \
	nbd/test-exports-links.sh \
	nbd/test-exports-list.sh \
	nbd/test-exports-names.sh \
	nbd/test-exports-orders.sh \
	nbd/test-exports-raw.sh \
	nbd/test-exports-replaced.sh \
	nbd/test-exports-unknown.sh \
	nbd/test-exports-vmstate.sh \
	nbd/test-exports-writing.sh \
	nbd/test-extents-one.sh \
	nbd/test-extents.sh \
	nbd/test-filters-above.sh \
	nbd/test-filters-below.sh \
	nbd/test-header-qemu.sh \
	nbd/test-largest.sh \
	nbd/test-layers-backing.sh \
	nbd/test-layers-data-file.sh \
	nbd/test-layers-deep.sh \
	nbd/test-layers-export.sh \
	nbd/test-layers-follow.sh \
	nbd/test-layers-locks.sh \
	nbd/test-layers-nbd.sh \
	nbd/test-layers-passphrase.sh \
	nbd/test-layers-refused.sh \
	nbd/test-layers-shared.sh \
	nbd/test-locks-refused.sh \
	nbd/test-log-lines.sh \
	nbd/test-luks-abandoned.sh \
	nbd/test-luks-openssl.sh \
	nbd/test-matrix-clusters.sh \
	nbd/test-matrix-eof.sh \
	nbd/test-matrix-extl2.sh \
	nbd/test-matrix-huge.sh \
	nbd/test-matrix-other.sh \
	nbd/test-matrix-prealloc.sh \
	nbd/test-matrix-refcounts.sh \
	nbd/test-matrix-sizes.sh \
	nbd/test-matrix-v1.sh \
	nbd/test-matrix-zlib.sh \
	nbd/test-matrix-zstd.sh \
	nbd/test-memory.sh \
	nbd/test-new-image.sh \
	nbd/test-once.sh \
	nbd/test-parameters.sh \
	nbd/test-plugin-curl.sh \
	nbd/test-plugin-data.sh \
	nbd/test-plugin-eval.sh \
	nbd/test-plugin-file.sh \
	nbd/test-plugin-memory.sh \
	nbd/test-plugin-nbd.sh \
	nbd/test-plugin-python.sh \
	nbd/test-plugin-split.sh \
	nbd/test-plugin-ssh.sh \
	nbd/test-random-images.sh \
	nbd/test-readonly.sh \
	nbd/test-remote-backends.sh \
	nbd/test-remote-compressed.sh \
	nbd/test-remote-http.sh \
	nbd/test-remote-lanes.sh \
	nbd/test-remote-layers.sh \
	nbd/test-remote-map.sh \
	nbd/test-remote-open.sh \
	nbd/test-remote-readahead.sh \
	nbd/test-remote-scattered.sh \
	nbd/test-remote-serial.sh \
	nbd/test-remote-stats.sh \
	nbd/test-remote-web-server.sh \
	nbd/test-repair-hostile.sh \
	nbd/test-requests.sh \
	nbd/test-stack.sh \
	nbd/test-symbols.sh \
	nbd/test-thread-models.sh \
	nbd/test-truncate.sh \
	nbd/test-write-bitmaps.sh \
	nbd/test-write-broken-base.sh \
	nbd/test-write-end.sh \
	nbd/test-write-fio.sh \
	nbd/test-write-flush.sh \
	nbd/test-write-full.sh \
	nbd/test-write-growth.sh \
	nbd/test-write-idle.sh \
	nbd/test-write-locks.sh \
	nbd/test-write-loop.sh \
	nbd/test-write-parameters.sh \
	nbd/test-write-powercut.sh \
	nbd/test-write-probe.sh \
	nbd/test-write-readonly.sh \
	nbd/test-write-reopen.sh \
	nbd/test-wrong-files.sh \
	$(NULL)

TESTS += $(nbd_tests)

LONG_TESTS += \
	nbd/test-bitflip-long.sh \
	nbd/test-bitmaps-kill-long.sh \
	nbd/test-chains-long.sh \
	nbd/test-check-flips-long.sh \
	nbd/test-check-qemu-long.sh \
	nbd/test-control-kill-long.sh \
	nbd/test-luks-cost-long.sh \
	nbd/test-luks-matrix-long.sh \
	nbd/test-mutants.sh \
	nbd/test-random-images-long.sh \
	nbd/test-write-errors-long.sh \
	nbd/test-write-fio-long.sh \
	nbd/test-write-fs-long.sh \
	nbd/test-write-kill-long.sh \
	nbd/test-write-layers-long.sh \
	nbd/test-write-model-long.sh \
	nbd/test-write-powercut-long.sh \
	nbd/test-remote-rbd-long.sh \
	$(NULL)

EXTRA_DIST += \
	$(slow_nbd_tests) \
	$(nbd_tests) \
	nbd/bitmaps_kill.py \
	nbd/budget_client.py \
	nbd/chain_check.py \
	nbd/check_compare.py \
	nbd/check_flips.py \
	nbd/control.sh \
	nbd/control_hostile.py \
	nbd/control_kill.sh \
	nbd/control_verbs.py \
	nbd/control_writers.py \
	nbd/costly_images.py \
	nbd/damage_check.py \
	nbd/exports.sh \
	nbd/exports_client.py \
	nbd/full.py \
	nbd/full_check.py \
	nbd/functions.sh \
	nbd/hostile_check.py \
	nbd/layers.sh \
	nbd/luks.sh \
	nbd/luks_headers.py \
	nbd/luks_matrix.sh \
	nbd/luks_openssl.py \
	nbd/matrix.sh \
	nbd/matrix_check.py \
	nbd/nbdtool.py \
	nbd/parts.py \
	nbd/plaintext.py \
	nbd/planted.sh \
	nbd/qemu_client.py \
	nbd/qmp_client.py \
	nbd/powercut.py \
	nbd/powercut.sh \
	nbd/powercut_preload.c \
	nbd/random_check.py \
	nbd/refuse_syscalls.c \
	nbd/remote.sh \
	nbd/remote_client.py \
	nbd/remote_images.py \
	nbd/repair_check.py \
	nbd/requests.sh \
	nbd/services.sh \
	nbd/set_names.py \
	nbd/valgrind.supp \
	nbd/write_images.sh \
	nbd/write_kill.py \
	nbd/write_layers.sh \
	nbd/write_model.py \
	nbd/writetool.py \
	nbd/writing.sh \
	$(NULL)

# What test-real-disk.sh keeps.
DISTCLEANFILES += real-disk/*

# Encrypted images that lib/luks.py keeps.
DISTCLEANFILES += luks/*
