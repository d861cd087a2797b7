#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What packaging/README.md says about SELinux, with the policy of Debian and no
# kernel that enforces it: the commands for the socket are accepted, and then
# the files have these labels, and confined machines may connect.
#
# Debian 13 is enough; others are chosen with QCOW2_COMPAT_SUITES, see roots.sh.

# shellcheck source=tests/packaging/roots.sh
. "$(dirname "$0")/roots.sh"
read -r -a suites <<< "${QCOW2_COMPAT_SUITES:-trixie}"
readme=$top_srcdir/packaging/README.md

# documented TEXT: the command of README that begins with it, without its
# prompt.  Only a machine with SELinux can load a policy: -N, and -n.
documented ()
{
    grep -m 1 "^# $1" "$readme" | sed -e 's/^# //' -e 's/ -a / -a -N /' \
        -e 's/^semodule /semodule -n /' -e "s/TYPE/$server/g" |
        grep . || fail "README has no '$1'"
}

# rule SOURCE TARGET CLASS PERMISSION: succeeds if the policy allows it.
rule ()
{
    # shellcheck disable=SC2016     # The shell in the root expands it.
    in_root sh -c 'sesearch -A -s "$0" ${1:+-t "$1"} -c "$2" -p "$3" \
        /etc/selinux/default/policy/policy.*' "$@" > "$tmp/rules"
    grep -q '^allow' "$tmp/rules"
}

# labelled PATH TYPE
labelled ()
{
    in_root matchpathcon "$1" > "$tmp/log"
    grep -q ":$2:" "$tmp/log" || { cat "$tmp/log"; fail "$suite: $1"; }
}

try ()
{
    new_root "$1" "selinux-$1" --minimal || return $?
    quiet in_root apt-get update -q
    quiet in_root apt-get install -q -y --no-install-recommends setools \
        selinux-policy-default policycoreutils-python-utils
    sed -i -e 's/^SELINUX=.*/SELINUX=permissive/' \
        -e 's/^SELINUXTYPE=.*/SELINUXTYPE=default/' "$root/etc/selinux/config"

    # What systemd runs is nbdkit's type, which here is not confined.
    labelled /usr/bin/nbdkit bin_t
    in_root sh -c 'sesearch -T -s init_t -t bin_t -c process \
        /etc/selinux/default/policy/policy.*' > "$tmp/log"
    server=$(sed -n 's/^type_transition .*:process \(.*\);/\1/p' "$tmp/log")
    [ -n "$server" ] || { cat "$tmp/log"; fail "$suite: no type of services"; }
    rule "$server" var_lib_t file write || fail "$suite: $server is confined"
    rule init_t "$server" process2 nnp_transition ||
        fail "$suite: no nnp_transition"
    rule svirt_t '' tcp_socket name_connect || fail "$suite: no TCP"
    grep -q 'port_type:tcp_socket' "$tmp/rules" || fail "$suite: some ports"
    echo "$suite: services run as $server"

    quiet in_root sh -c "$(documented 'semanage fcontext -a -t TYPE' |
                               sed "s/-t [a-z_]*/-t virt_image_t/")"
    labelled /srv/images/disk.qcow2 virt_image_t
    quiet in_root sh -c "$(documented 'semanage fcontext -a -t svirt')"
    labelled /run/nbdkit-qcow2 svirt_image_t
    labelled /run/nbdkit-qcow2/disk.sock svirt_image_t
    rule svirt_t svirt_image_t sock_file write || fail "$suite: sock_file"
    ! rule svirt_t var_run_t sock_file write || fail "$suite: not needed"
    echo "$suite: the file of the socket"

    ! rule svirt_t "$server" unix_stream_socket connectto ||
        fail "$suite: no module is needed"
    quiet in_root sh -e -c "cd /tmp; $(documented echo)
        $(documented semodule)"
    rule svirt_t "$server" unix_stream_socket connectto ||
        fail "$suite: the module allows nothing"
    echo "$suite: the socket itself"
    clean_root "selinux-$1"
}

each_suite try
