#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The image of packaging/container/Containerfile is built, and serves the disk
# that is mounted in it, as a user without rights, as its README says.
#
# The base is a root that scripts/make-root made, so no registry is needed.
# Where there is no podman, the steps of the Containerfile are taken in a root;
# where podman builds but cannot run (as in another container), what it has
# built is run with chroot.

# shellcheck source=tests/packaging/roots.sh
. "$(dirname "$0")/roots.sh"
requires nbdinfo nbdcopy nsenter jq ip
requires_build

suite=${QCOW2_CONTAINER_SUITE:-trixie}
containers=$top_srcdir/packaging/container

# ---- What the server must do, however it is run ----------------------------

# client PROGRAM ARGUMENT...: in the network of the server 'pid'.
client ()
{
    nsenter --net --target "$pid" -- "$@"
}

wait_for_server ()
{
    for _ in {1..600}; do
        ! client nbdinfo --list nbd://localhost > /dev/null 2>&1 || return 0
        kill -0 "$pid" || fail "the server is gone"
        sleep 0.1
    done
    [ ! -s "$tmp/server" ] || cat "$tmp/server"
    fail "no server on port 10809"
}

check_user ()
{
    # 10809 in the container; the number outside is the same for root.
    [ "$(stat -c %u:%g "/proc/$pid")" = "$1:$1" ] ||
        fail "it runs as $(stat -c %u:%g "/proc/$pid")"
    grep -q '^CapEff:.0*$' "/proc/$pid/status" ||
        fail "it has $(grep CapEff "/proc/$pid/status")"
}

# What a client writes is read again.
check_writes ()
{
    head -c 3M /dev/urandom > "$tmp/data"
    quiet client nbdcopy -- "$tmp/data" nbd://localhost
    quiet client nbdcopy -- nbd://localhost "$tmp/copy"
    cmp -n 3145728 "$tmp/data" "$tmp/copy" || fail "the disk differs"
    [ "$(client nbdinfo --size nbd://localhost)" = 104857600 ] ||
        fail "another size"
}

# check_readonly [EXPORT]
check_readonly ()
{
    client nbdinfo "nbd://localhost/${1-}" > "$tmp/info"
    grep -q 'is_read_only: true' "$tmp/info" ||
        { cat "$tmp/info"; fail "clients may write"; }
}

# ---- The image -------------------------------------------------------------

# Storage of its own: that of the machine is left alone.
pod ()
{
    podman --root="$tmp/storage" --runroot="$tmp/run" --storage-driver=vfs \
        --cgroup-manager=cgroupfs "$@"
}

# size_of NAME: of an image, in MB.
size_of ()
{
    pod image inspect --format '{{.Size}}' "localhost/$1" |
        awk '{ printf "%.0f MB", $1 / 1e6 }'
}

build_with_podman ()
{
    quiet tar -C "$root" --one-file-system -cf "$tmp/base.tar" .
    quiet pod import "$tmp/base.tar" localhost/base
    rm "$tmp/base.tar"
    quiet copy_source "$tmp/context"
    quiet pod build --isolation=chroot --network=host --format=docker \
        --build-arg BASE=localhost/base \
        --ignorefile "$containers/Containerfile.dockerignore" \
        --file "$containers/Containerfile" \
        --tag localhost/nbdkit-qcow2 "$tmp/context"
    pod image inspect localhost/nbdkit-qcow2 | jq '.[0].Config' \
        > "$tmp/config"
    echo "ok: built with podman: $(size_of nbdkit-qcow2)," \
         "$(size_of base) of that are the base"
}

# The steps; what the Containerfile says about running is taken from it.
build_in_root ()
{
    quiet copy_source "$root/src"
    quiet in_root /src/packaging/container/steps build /src /out
    mkdir "$tmp/out"
    cp "$root/out"/*.deb "$tmp/out/"
    new_root "$suite" image --minimal
    cp -R "$tmp/out" "$root/out"
    mkdir "$root/steps"
    cp "$containers/steps" "$root/steps/"
    quiet in_root /steps/steps install /out
    image=$root
    sed -nE 's/^(USER) (.*)/"\1": "\2"/p; s/^(ENTRYPOINT|CMD) /"\1": /p' \
        "$containers/Containerfile" | paste -sd, | sed 's/.*/{ & }/' |
        jq '{ User: .USER, Entrypoint: .ENTRYPOINT, Cmd: .CMD }' \
        > "$tmp/config"
    echo "ok: the steps of the Containerfile"
}

# ---- Ways to run it --------------------------------------------------------
#
# run_WAY USER ENTRYPOINT ARGUMENT...: until it ends; its output is its own.
# serve_WAY USER ARGUMENT...: sets 'pid' once it serves.
# In it, disk.qcow2 is /disk.qcow2, or /images/disk.qcow2, which is read-only.

volumes ()
{
    echo "--volume=$tmp/images/disk.qcow2:/disk.qcow2"
    echo "--volume=$tmp/images:/images:ro"
}

# With as little as a container may have.
pod_run ()
{
    local -a volumes

    mapfile -t volumes < <(volumes)
    pod run --cgroups=disabled --network=none --log-driver=none \
        --read-only --cap-drop=all --security-opt=no-new-privileges \
        "${volumes[@]}" "$@"
}

run_podman ()
{
    local user=$1 program=$2

    shift 2
    pod_run --rm ${user:+--user "$user:$user"} --entrypoint "$program" \
        localhost/nbdkit-qcow2 "$@"
}

serve_podman ()
{
    local user=$1

    shift
    quiet pod_run --detach --name server ${user:+--user "$user:$user"} \
        localhost/nbdkit-qcow2 "$@"
    pid=$(pod inspect --format '{{.State.Pid}}' server)
    [ "$pid" -gt 1 ] || fail "the server does not run"
    wait_for_server
}

stop_podman ()
{
    local status

    quiet pod stop --time 30 server
    status=$(pod inspect --format '{{.State.ExitCode}}' server)
    [ "$status" = 0 ] || fail "the server ends with status $status"
    quiet pod rm server
}

leave_image ()
{
    umount -q "$image/disk.qcow2" "$image/images" "$image/proc" || :
    leave
}

# What podman would do for it; 'image' is the root.
mount_image ()
{
    trap leave_image EXIT
    mount -t proc proc "$image/proc"
    mkdir -p "$image/images"
    touch "$image/disk.qcow2"
    mount --bind "$tmp/images" "$image/images"
    mount -o remount,bind,ro "$image/images"
    mount --bind "$tmp/images/disk.qcow2" "$image/disk.qcow2"
}

# enter USER PROGRAM ARGUMENT...: in a network of its own.
enter ()
{
    local user=${1:-$(jq -r .User "$tmp/config")}

    shift
    # shellcheck disable=SC2016     # The inner shell expands these.
    exec unshare --net -- sh -ec '
        ip link set lo up
        user=$1 image=$2
        shift 2
        exec chroot --userspec="$user" --groups= "$image" "$@"
    ' sh "$user" "$image" "$@"
}

run_chroot ()
{
    ( enter "${1:+$1:$1}" "${@:2}" )
}

serve_chroot ()
{
    local user=$1
    local -a words

    shift
    [ $# -gt 0 ] || mapfile -t words < <(jq -r '.Cmd[]' "$tmp/config")
    mapfile -t words < <(jq -r '.Entrypoint[]' "$tmp/config"
                         printf '%s\n' "${words[@]}" "$@")
    enter "${user:+$user:$user}" "${words[@]}" > "$tmp/server" 2>&1 &
    pid=$!
    wait_for_server
}

stop_chroot ()
{
    kill "$pid"
    wait "$pid" || fail "the server ends with status $?"
}

# ---- What README says ------------------------------------------------------

# try_image WAY
try_image ()
{
    local disk=$tmp/images/disk.qcow2

    "serve_$1" ""
    check_user 10809
    check_writes
    "stop_$1"
    quiet "run_$1" "" qcow2ctl check /disk.qcow2
    echo "ok: it serves the mounted disk"

    "serve_$1" "" -r file dir=/images
    check_readonly disk.qcow2
    "stop_$1"
    echo "ok: a folder"

    # An image of another user, who is not known in the image.
    chown 4242:4242 "$disk"
    chmod 644 "$disk"
    "serve_$1" ""
    check_user 10809
    check_readonly
    "stop_$1"
    "serve_$1" 4242
    check_user 4242
    check_writes
    "stop_$1"
    chmod 600 "$disk"
    if "run_$1" "" qcow2ctl check /disk.qcow2 > "$tmp/log" 2>&1; then
        fail "it reads what its user may not read"
    fi
    grep -q 'disk.qcow2.*Permission denied' "$tmp/log" ||
        { cat "$tmp/log"; fail "it does not say why"; }
    echo "ok: images of other users"
}

new_root "$suite" base --minimal || {
    [ $? -eq 3 ] || fail "no root"
    skip "its packages cannot be fetched"
}
mkdir "$tmp/images"
"$top_builddir/tools/qcow2ctl/qcow2ctl" create "$tmp/images/disk.qcow2" 100M
chown -R 10809:10809 "$tmp/images"
if command -v podman > /dev/null && pod info > "$tmp/log" 2>&1; then
    build_with_podman
    if run_podman "" true > "$tmp/log" 2>&1; then
        try_image podman
        exit 0
    fi
    echo "podman cannot run it here: $(tail -n 1 "$tmp/log")"
    image=$(pod image mount localhost/nbdkit-qcow2)
else
    echo "podman is not installed or does not work here"
    build_in_root
fi
mount_image
try_image chroot
