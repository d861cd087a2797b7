#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The image of packaging/container/Containerfile is built, and does what its
# README says, run by each of podman, docker and chroot that works here.
#
# The base is a root that scripts/make-root made, so no registry is needed.
# podman builds the image, and docker gets it from podman.  Where there is no
# podman, the steps of the Containerfile are taken in a root, for chroot.
#
# QCOW2_CONTAINER_WAYS chooses ways; one that is named there must work.
# QCOW2_CONTAINER_IMAGE is a file in which the image is kept from one run to the
# next, for work on this test.

# shellcheck source=tests/packaging/roots.sh
. "$(dirname "$0")/roots.sh"
# shellcheck source=tests/packaging/containers.sh
. "$(dirname "$0")/containers.sh"
requires nbdinfo nbdcopy nsenter jq ip openssl python3
requires_build
python=${PYTHON:-/usr/bin/python3}
"$python" -c 'import nbd' 2>/dev/null || skip "needs libnbd's Python module"

suite=${QCOW2_CONTAINER_SUITE:-trixie}
containers=$top_srcdir/packaging/container
qcow2ctl=$top_builddir/tools/qcow2ctl/qcow2ctl
read -r -a ways <<< "${QCOW2_CONTAINER_WAYS:-podman docker chroot}"

# ---- The image -------------------------------------------------------------

# size_of NAME: of an image, in MB.
size_of ()
{
    pod image inspect --format '{{.Size}}' "localhost/$1" |
        awk '{ printf "%.0f MB", $1 / 1e6 }'
}

# In the machine's network, which fetches packages.
pod_here ()
{
    podman --root="$tmp/storage" --runroot="$tmp/run" \
        --storage-driver=vfs --cgroup-manager=cgroupfs "$@"
}

build_with_podman ()
{
    if [ -s "${QCOW2_CONTAINER_IMAGE-}" ]; then
        quiet pod image load --input "$QCOW2_CONTAINER_IMAGE"
        echo "not built: $QCOW2_CONTAINER_IMAGE is used"
        look_at_image
        return
    fi
    quiet tar -C "$root" --one-file-system -cf "$tmp/base.tar" .
    quiet pod_here import "$tmp/base.tar" localhost/base
    rm "$tmp/base.tar"
    quiet copy_source "$tmp/context"
    quiet pod_here build --isolation=chroot --network=host --format=docker \
        --build-arg BASE=localhost/base \
        --ignorefile "$containers/Containerfile.dockerignore" \
        --file "$containers/Containerfile" \
        --tag localhost/nbdkit-qcow2 "$tmp/context"
    [ -z "${QCOW2_CONTAINER_IMAGE-}" ] ||
        quiet pod image save --format=docker-archive \
            --output "$QCOW2_CONTAINER_IMAGE" localhost/nbdkit-qcow2
    look_at_image
    echo "ok: built with podman: $(size_of nbdkit-qcow2)," \
         "$(size_of base) of that are the base"
}

look_at_image ()
{
    pod image inspect localhost/nbdkit-qcow2 | jq '.[0].Config' \
        > "$tmp/config"
    image=$(pod image mount localhost/nbdkit-qcow2)
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

# ---- What README says ------------------------------------------------------

check_user ()
{
    # 10809 in the container; the number outside is the same for root.
    [ "$(stat -c %u:%g "/proc/$pid")" = "$1:$1" ] ||
        fail "it runs as $(stat -c %u:%g "/proc/$pid")"
    grep -q '^CapEff:.0*$' "/proc/$pid/status" ||
        fail "it has $(grep CapEff "/proc/$pid/status")"
}

# With docker and podman; chroot has nothing of the kind.
check_confined ()
{
    [ "$way" != chroot ] || return 0
    grep -q '^NoNewPrivs:.1$' "/proc/$pid/status" ||
        fail "it may gain rights"
    ! touch "/proc/$pid/root/usr/x" 2>/dev/null ||
        fail "the container's files can be written"
}

# check_data URI: what a client writes is read again.
check_data ()
{
    head -c 3M /dev/urandom > "$tmp/data"
    quiet client nbdcopy -- "$tmp/data" "$1"
    quiet client nbdcopy -- "$1" "$tmp/copy"
    cmp -n 3145728 "$tmp/data" "$tmp/copy" || fail "the disk differs"
    [ "$(client nbdinfo --size "$1")" = 104857600 ] || fail "another size"
}

# check_readonly [EXPORT]
check_readonly ()
{
    client nbdinfo "nbd://localhost/${1-}" > "$tmp/info"
    grep -q 'is_read_only: true' "$tmp/info" ||
        { cat "$tmp/info"; fail "clients may write"; }
}

# Nobody is connected, so it ends at once, and well.
stop_well ()
{
    stop 30
    [ "$status" -eq 0 ] || fail "the server ends with status $status"
}

# refused TEXT PROGRAM ARGUMENT...: fails and says so.
refused ()
{
    local text=$1

    shift
    if "$@" > "$tmp/log" 2>&1; then fail "not refused: $*"; fi
    grep -q "$text" "$tmp/log" || { cat "$tmp/log"; fail "not said: $text"; }
}

try_disk ()
{
    serve ""
    check_user 10809
    check_confined
    check_data nbd://localhost
    stop_well
    quiet run "" qcow2ctl check /disk.qcow2
    echo "ok: $way: it serves the mounted disk"

    serve "" -r file dir=/images
    check_readonly disk.qcow2
    stop_well
    echo "ok: $way: a folder"
}

try_web ()
{
    serve "" -r --filter=retry curl "http://192.0.2.1:$port/web/disk.qcow2"
    check_readonly
    quiet client nbdcopy -- nbd://localhost "$tmp/copy"
    cmp -n 3145728 "$tmp/data" "$tmp/copy" || fail "the disk differs"
    stop_well
    echo "ok: $way: a web server's"
}

try_tls ()
{
    tls_uri="nbds://localhost?tls-certificates=$tmp/ca"
    serve "" --tls=require --tls-certificates=/tls file /disk.qcow2
    check_data "$tls_uri"
    tls_uri=
    refused 'nbd' client nbdinfo --size nbd://localhost
    stop_well
    echo "ok: $way: TLS"
}

# Images of another user, who is not known in the image.
try_users ()
{
    chown 4242:4242 "$disk"
    chmod 644 "$disk"
    serve ""
    check_user 10809
    check_readonly
    stop_well
    serve 4242
    check_user 4242
    check_data nbd://localhost
    stop_well
    chmod 600 "$disk"
    refused 'disk.qcow2.*Permission denied' run "" qcow2ctl check /disk.qcow2
    chown 10809:10809 "$disk"
    echo "ok: $way: images of other users"
}

# A client that stays.  Nobody outside can change the image meanwhile.  The
# server is killed; what was flushed is there.
try_kill ()
{
    local stays

    serve ""
    nsenter --net="/proc/$net/ns/net" -- "$python" -c '
import nbd, time
h = nbd.NBD()
h.connect_uri("nbd://localhost")
h.pwrite(b"f" * 65536, 50 << 20)
h.flush()
h.pwrite(b"n" * 65536, 60 << 20)
print("flushed", flush=True)
time.sleep(60)' > "$tmp/client" &
    stays=$!
    for _ in {1..200}; do
        [ ! -s "$tmp/client" ] || break
        sleep 0.1
    done
    grep -q flushed "$tmp/client" || fail "the client did not flush"
    refused 'disk.qcow2.*\(use\|lock\)' "$qcow2ctl" resize "$disk" 200M
    stop 2
    kill "$stays" 2>/dev/null || :
    wait "$stays" 2>/dev/null || :
    [ "$status" -eq 137 ] || fail "with a client it ends with status $status"
    serve ""
    client "$python" -c '
import nbd
h = nbd.NBD()
h.connect_uri("nbd://localhost")
assert h.pread(65536, 50 << 20) == b"f" * 65536
h.pwrite(b"g" * 65536, 70 << 20)' || fail "what was flushed is gone"
    stop_well
    quiet run "" qcow2ctl check /disk.qcow2
    echo "ok: $way: stopped while a client is connected, for which" \
         "the image is locked outside"
}

# ---- What is needed for it -------------------------------------------------

make_keys ()
{
    mkdir "$tmp/tls" "$tmp/ca"
    (
        cd "$tmp/tls"
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority \
            -keyout ../ca/key.pem -out ca-cert.pem
        openssl req -newkey rsa:2048 -nodes -subj /CN=localhost \
            -keyout server-key.pem -out ../ca/request
        openssl x509 -req -in ../ca/request -days 2 -CA ca-cert.pem \
            -CAkey ../ca/key.pem -CAcreateserial -CAserial ../ca/serial \
            -extfile <(echo subjectAltName=DNS:localhost) \
            -out server-cert.pem
        cp ca-cert.pem ../ca/
        chmod 755 .
        chmod 644 ./*
    ) > "$tmp/log" 2>&1 || { cat "$tmp/log"; fail "no keys"; }
}

start_web ()
{
    mkdir "$tmp/web"
    nsenter --net="/proc/$net/ns/net" -- "$python" \
        "$top_srcdir/tests/nbd/web_host.py" serve "$tmp/web" "$tmp/web.log" \
        --address 192.0.2.1 > "$tmp/web.port" &
    web=$!
    until [ -s "$tmp/web.port" ]; do
        kill -0 "$web" || fail "no web server"
        sleep 0.1
    done
    port=$(cat "$tmp/web.port")
}

# can_run: whether 'way' works here.
can_run ()
{
    [ "$built" = podman ] ||
        echo "there is no image, which podman would build" > "$tmp/log"
    case $way in
    podman) [ "$built" = podman ] && try_podman localhost/nbdkit-qcow2 ;;
    docker) [ "$built" = podman ] && start_docker &&
                pod image save --format=docker-archive \
                    localhost/nbdkit-qcow2 2>"$tmp/log" |
                    engine load > "$tmp/log" 2>&1 ;;
    chroot) ;;
    esac
}

# What was written is on the web server, too.
try ()
{
    disk=$tmp/images/disk.qcow2
    rm -f "$disk"
    quiet "$qcow2ctl" create "$disk" 100M
    chmod 600 "$disk"
    chown -R 10809:10809 "$tmp/images"
    [ "$way" != chroot ] || mount_image
    try_disk
    cp "$disk" "$tmp/web/"
    try_web
    try_users
    try_tls
    try_kill
}

trap leave_containers EXIT
new_root "$suite" base --minimal || {
    [ $? -eq 3 ] || fail "no root"
    skip "its packages cannot be fetched"
}
start_network
start_web
make_keys
mkdir "$tmp/images"
built=steps
if command -v podman > /dev/null && pod info > "$tmp/log" 2>&1; then
    built=podman
    build_with_podman
else
    echo "podman is not installed or does not work here"
    build_in_root
fi
for way in "${ways[@]}"; do
    if can_run; then
        try
    else
        [ -z "${QCOW2_CONTAINER_WAYS-}" ] || fail "$way does not work"
        echo "not tried: $way: $(tail -n 1 "$tmp/log")"
    fi
    [ "$docker" = "" ] || stop_docker
done
