# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# containers.sh - sourced by test-container-long.sh: the ways to run an image,
# which are podman, docker, and chroot for where neither can run.
#
# All of it is in a network of the test's own, 'net', with the addresses of
# that: ports published there meet nobody else's, and 192.0.2.1 is the test
# itself, seen from each container.
#
# Nothing is kept in the machine's own storage: podman gets folders in 'tmp',
# docker a daemon of its own.
#
# The caller has 'tmp', quiet (), fail (), 'image' (the root for chroot) and
# $tmp/config (what the Containerfile says about running).

# ---- The network -----------------------------------------------------------

start_network ()
{
    unshare --net -- sleep infinity &
    net=$!
    until [ "$(readlink "/proc/$net/ns/net")" != \
            "$(readlink /proc/self/ns/net)" ]; do
        sleep 0.1
    done
    client ip link set lo up
    client ip address add 192.0.2.1/32 dev lo
}

# client PROGRAM ARGUMENT...: where containers publish their ports.
client ()
{
    nsenter --net="/proc/$net/ns/net" -- "$@"
}

# ---- Podman and docker -----------------------------------------------------

pod_global=()
pod_run=()

pod ()
{
    client podman --root="$tmp/storage" --runroot="$tmp/run" \
        --storage-driver=vfs --cgroup-manager=cgroupfs \
        ${pod_global[@]+"${pod_global[@]}"} "$@"
}

# engine COMMAND ARGUMENT...: of podman or docker, as 'way' says.
engine ()
{
    case $way in
    podman) pod "$@" ;;
    docker) docker --host="unix://$tmp/docker/sock" "$@" ;;
    esac
}

# try_podman IMAGE: sets the options with which podman runs here, the usual
# ones first.  Without CAP_SYS_RESOURCE limits cannot be raised, as podman does;
# crun refuses groups of processes in the "hybrid" way of systemd.
try_podman ()
{
    local global run
    local -a limits=(--ulimit nofile=1024:1024 --ulimit nproc=1024:1024)

    for global in "" --runtime=runc; do
        for run in "" limits groups; do
            pod_global=(${global:+"$global"})
            pod_run=(--log-driver=none)
            [ -z "$run" ] || pod_run+=("${limits[@]}")
            [ "$run" != groups ] || pod_run+=(--cgroups=disabled)
            ! pod run --rm "${pod_run[@]}" -p 127.0.0.1:10809:10809 \
                --entrypoint true "$1" > "$tmp/log" 2>&1 || return 0
        done
    done
    return 1
}

# In the network of the test, so it changes no rule of the machine's firewall.
start_docker ()
{
    local pid

    command -v dockerd > /dev/null && command -v docker > /dev/null ||
        { echo "there is no docker" > "$tmp/log"; return 1; }
    mkdir "$tmp/docker"
    nsenter --net="/proc/$net/ns/net" -- dockerd \
        --host="unix://$tmp/docker/sock" --data-root="$tmp/docker/data" \
        --exec-root="$tmp/docker/exec" --pidfile="$tmp/docker/pid" \
        --storage-driver=vfs > "$tmp/log" 2>&1 &
    pid=$!
    for _ in {1..300}; do
        ! docker --host="unix://$tmp/docker/sock" version > /dev/null 2>&1 ||
            { docker=$pid; return 0; }
        kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.1
    done
    kill "$pid"
    return 1
}

stop_docker ()
{
    kill "$docker"
    wait "$docker" || :
    docker=
}

# ---- An image, started and stopped -----------------------------------------
#
# run USER ENTRYPOINT ARGUMENT...: until it ends; its output is its own.
# serve USER ARGUMENT...: sets 'pid' once it serves.  Without a user it is the
# image's own.
# stop SECONDS: sets 'status', with which it ended.
#
# In it, disk.qcow2 is /disk.qcow2, and /images/disk.qcow2, where it is
# read-only; /tls has keys.

# With as little as a container may have.
engine_run ()
{
    local -a extra=()

    [ "$way" != podman ] || extra=("${pod_run[@]}")
    engine run ${extra[@]+"${extra[@]}"} -p 127.0.0.1:10809:10809 \
        --read-only --cap-drop=all --security-opt=no-new-privileges \
        -v "$tmp/images/disk.qcow2:/disk.qcow2" -v "$tmp/images:/images:ro" \
        -v "$tmp/tls:/tls:ro" "$@"
}

run ()
{
    local user=$1 program=$2

    shift 2
    case $way in
    chroot) ( enter "$user" "$program" "$@" ) ;;
    *)  engine_run --rm ${user:+--user "$user:$user"} --entrypoint "$program" \
            localhost/nbdkit-qcow2 "$@" ;;
    esac
}

serve ()
{
    local user=$1

    shift
    case $way in
    chroot) serve_chroot "$user" "$@" ;;
    *)  quiet engine_run --detach --name server \
            ${user:+--user "$user:$user"} localhost/nbdkit-qcow2 "$@"
        pid=$(engine inspect --format '{{.State.Pid}}' server)
        [ "$pid" -gt 1 ] || fail "the server does not run" ;;
    esac
    wait_for_server
}

stop ()
{
    case $way in
    chroot) stop_chroot "$1" ;;
    *)  quiet engine stop -t "$1" server
        status=$(engine inspect --format '{{.State.ExitCode}}' server)
        quiet engine rm server ;;
    esac
}

# A port that docker publishes takes connections before the server does.
wait_for_server ()
{
    for _ in {1..600}; do
        ! client nbdinfo --list nbd://localhost > /dev/null 2>&1 || return 0
        # With TLS it tells nothing, but that is an answer, too.
        ! client nbdinfo "$tls_uri" > /dev/null 2>&1 || return 0
        kill -0 "$pid" || { show_server; fail "the server is gone"; }
        sleep 0.1
    done
    show_server
    fail "no server on port 10809"
}

show_server ()
{
    case $way in
    chroot) cat "$tmp/server" ;;
    *) engine logs server || : ;;
    esac
}

# ---- Chroot ----------------------------------------------------------------

# What podman would do for it.
mount_image ()
{
    mount -t proc proc "$image/proc"
    mkdir -p "$image/images" "$image/tls"
    touch "$image/disk.qcow2"
    mount --bind "$tmp/images" "$image/images"
    mount -o remount,bind,ro "$image/images"
    mount --bind "$tmp/tls" "$image/tls"
    mount --bind "$tmp/images/disk.qcow2" "$image/disk.qcow2"
}

# enter USER PROGRAM ARGUMENT...
enter ()
{
    local user=${1:+$1:$1}

    shift
    exec nsenter --net="/proc/$net/ns/net" -- chroot --groups= \
        --userspec="${user:-$(jq -r .User "$tmp/config")}" "$image" "$@"
}

serve_chroot ()
{
    local user=$1
    local -a words

    shift
    [ $# -gt 0 ] || mapfile -t words < <(jq -r '.Cmd[]' "$tmp/config")
    mapfile -t words < <(jq -r '.Entrypoint[]' "$tmp/config"
                         printf '%s\n' ${words[@]+"${words[@]}"} "$@")
    enter "$user" "${words[@]}" > "$tmp/server" 2>&1 &
    pid=$!
}

stop_chroot ()
{
    kill "$pid"
    for ((i = 0; i < $1 * 10; ++i)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || :
    status=0
    wait "$pid" || status=$?
}

# ---- The end ---------------------------------------------------------------

# Also of a test that failed: nothing that it started may live on.
leave_containers ()
{
    local m

    [ "$way" = "" ] || engine rm -f server > /dev/null 2>&1 || :
    [ "$docker" = "" ] || stop_docker
    kill "$net" ${web:+"$web"} 2>/dev/null || :
    awk -v at="$tmp/" 'index($2, at) == 1 { print $2 }' /proc/self/mounts |
        sort -r | while read -r m; do umount "$m" || :; done
    leave
}

docker=
web=
way=
tls_uri=
