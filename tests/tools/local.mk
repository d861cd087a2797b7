# SPDX-License-Identifier: BSD-3-Clause
# qcow2ctl, judged by qemu-img.

tools_tests = \
	tools/test-ctl-help.sh \
	tools/test-ctl-snapshot.sh \
	tools/test-ctl-resize.sh \
	$(NULL)

TESTS += $(tools_tests)

EXTRA_DIST += \
	$(tools_tests) \
	tools/functions.sh \
	$(NULL)
