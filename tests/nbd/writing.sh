# SPDX-License-Identifier: BSD-3-Clause
# writing.sh - common functions of the tests that write; sourced by each.
# shellcheck shell=bash
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file

writetool ()
{
    "$PYTHON" "$nbddir/writetool.py" "$@"
}

# new_image SIZE [qemu-img create's options...]: an empty $tmp/disk.qcow2, and
# its expected disk, $tmp/disk.raw.
new_image ()
{
    local size=$1

    shift
    rm -f "$tmp/disk.qcow2" "$tmp/disk.raw"
    qemu-img create -q -f qcow2 "$@" "$tmp/disk.qcow2" "$size"
    truncate -s "$size" "$tmp/disk.raw"
}

# Options for QEMU's programs to open an encrypted image, and parameters of the
# filter for other files: see write_layers.sh.
qemu_secrets=()
qemu_options=
# shellcheck disable=SC2034     # By who sources this.
parameters=()

# in_qemu IMAGE: sets the array 'opened', the arguments with which a program of
# QEMU opens it and its other files.
in_qemu ()
{
    opened=("${qemu_secrets[@]}" --image-opts
        "driver=qcow2,file.filename=$1$qemu_options")
}

# check_image_of IMAGE: it has no errors and no leaks, and equals
# $tmp/disk.raw.
check_image_of ()
{
    local -a opened

    in_qemu "$1"
    qemu-img check -q "${opened[@]}" >"$tmp/check" 2>&1 ||
        fail "qemu-img check $1: $(cat "$tmp/check")"
    qemu-img compare -q "${opened[@]}" \
        "driver=raw,file.filename=$tmp/disk.raw" ||
        fail "$1 does not hold what was written"
}

check_image ()
{
    check_image_of "$tmp/disk.qcow2"
}

# kill_nbdkit: kill the last server with SIGKILL.
kill_nbdkit ()
{
    local name

    kill -KILL "$pid"
    wait "$pid" || true
    for name in "${!server_pid[@]}"; do
        if [ "${server_pid[$name]}" = "$pid" ]; then
            unset "server_pid[$name]"
            servers=("${!server_pid[@]}")
        fi
    done
}

# Before the servers, which do not end while a client is connected.
client=
kill_client ()
{
    [ -z "$client" ] || kill "$client" 2>/dev/null
}
trap 'status=$?; set +e; kill_client; (exit $status); at_exit' EXIT

# start_client OPERATION...: in the background, connected until finish_client.
start_client ()
{
    rm -f "$tmp/client-ready" "$tmp/client-go"
    writetool "$uri" --raw "$tmp/disk.raw" "$@" "touch:$tmp/client-ready" \
        "wait:$tmp/client-go" &
    client=$!
    local i

    for ((i = 0; i < patience * 20; i++)); do
        [ ! -e "$tmp/client-ready" ] || return 0
        kill -0 "$client" 2>/dev/null || break
        sleep 0.05
    done
    fail "the client did not get through: $*"
}

finish_client ()
{
    touch "$tmp/client-go"
    wait "$client" || fail "the client ended with status $?"
    client=
}

# has_logged REGEX, has_not_logged REGEX: check the last server's log.
has_logged ()
{
    grep -E -q -e "$1" "$log" || fail "no message like '$1'"
}

has_not_logged ()
{
    ! grep -E -e "$1" "$log" || fail "a message like '$1'"
}
