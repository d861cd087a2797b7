# SPDX-License-Identifier: BSD-3-Clause
# qcow2ctl, judged by qemu-img.

tools_tests = \
	tools/test-ctl-bitmap.sh \
	tools/test-ctl-chain.sh \
	tools/test-ctl-checkpoint.sh \
	tools/test-ctl-outcomes.sh \
	tools/test-ctl-apply-backing.sh \
	tools/test-ctl-check.sh \
	tools/test-ctl-dry-run.sh \
	tools/test-ctl-errors.sh \
	tools/test-ctl-help.sh \
	tools/test-ctl-key.sh \
	tools/test-ctl-nbd.sh \
	tools/test-ctl-qemu.sh \
	tools/test-ctl-rebase.sh \
	tools/test-ctl-sequences.sh \
	tools/test-ctl-snapshot.sh \
	tools/test-ctl-socket.sh \
	tools/test-ctl-resize.sh \
	tools/test-ctl-stop.sh \
	tools/test-ctl-unread.sh \
	tools/test-ctl-vmstate.sh \
	$(NULL)

TESTS += $(tools_tests)
LONG_TESTS += tools/test-ctl-rebase-long.sh
LONG_TESTS += tools/test-ctl-qemu-long.sh tools/test-ctl-sequences-long.sh

EXTRA_DIST += \
	$(tools_tests) \
	tools/ask.py \
	tools/compare.py \
	tools/dry_run.py \
	tools/functions.sh \
	tools/sequences.py \
	$(NULL)
