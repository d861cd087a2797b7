# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# serve-options.sh - sourced by scripts/serve, whose variables it sets: parses
# the command line into arguments for nbdkit.  Options of nbdkit that make no
# sense here are refused; serve handles some itself.
#
# shellcheck disable=SC2034         # They are used there.

# Asks for the value of a parameter KEY=-.  nbdkit cannot ask itself, since it
# does not have the terminal.
ask ()
{
    local key=$1 answer

    [ -t 0 ] || fail "$key=- asks on a terminal, and there is none:" \
                     "use $key=+FILE"
    read -r -s -p "$key: " answer || :
    echo >&2
    # Not as an argument of a command, which all users can see.
    exec {secret}< <(printf '%s\n' "$answer")
    parameters+=("$key=-$secret")
}

# Handles an option of nbdkit, by its name with dashes; "$2" is its value.
option ()
{
    case $1 in
    -h | --help) usage; exit 0 ;;
    -w | --writable) writable=yes ;;
    -r | --readonly | --read-only) readonly=yes ;;
    -f | --foreground | --exit-with-parent | -n | --new*) ;;
    -U | --unix) [ "$2" = - ] || socket=$(realpath -m -- "$2") ;;
    -e | --export*) export=$2 ;;
    --filter)
        if [ "$2" = qcow2 ]; then
            filters+=(--filter="$so")
            placed=yes
        else
            filters+=(--filter="$2")
        fi ;;
    -t | --threads) threads=$2 ;;
    --log) log=$2; options+=(--log="$2") ;;
    -p | --port | -i | --ip* | --vsock | -s | --single | --run | --tls* | \
        -P | --pid* | -o | --old* | --swap | -V | --version | --dump-*)
        fail "$1 is for nbdkit itself, this script serves on a Unix socket:" \
             "nbdkit -r $1 ... --filter=$so file IMAGE" ;;
    --*) options+=("$1${2:+=$2}") ;;
    *) options+=("$1${2:+$2}") ;;
    esac
}

# True if the next word is the value of this option.
has_value ()
{
    case $1 in
    -[DegiPptUu] | --debug | --export | --exportname | --export-name | \
        --filter | --group | --ipaddr | --ip-addr | --log | \
        --mask-handshake | --pidfile | --pid-file | --port | --run | \
        --selinux-label | --threads | --timeout | --tls | \
        --tls-certificates | --tls-psk | --unix | --user | --keepalive)
        return 0 ;;
    esac
    return 1
}

# A word that is not an option: a parameter of nbdkit if it looks like one and
# no file has that name, else an image.
operand ()
{
    if [ ! -e "$1" ] && [[ $1 =~ ^[A-Za-z][A-Za-z0-9._-]*= ]]; then
        case $1 in
        file=* | dir=* | directory=*) set_image "${1#*=}" ;;
        fd=* | dirfd=*) fail "$1: give the file's name" ;;
        *=-) ask "${1%%=*}" ;;
        *) parameters+=("$1") ;;
        esac
    elif [[ $1 =~ ^[a-z0-9+]+:// ]]; then
        fail "$1: this script serves local files; with one of nbdkit's" \
             "plugins: nbdkit -r --filter=$so curl $1"
    else
        set_image "$1"
    fi
}

set_image ()
{
    [ -e "$1" ] || fail "$1: no such file"
    [ -r "$1" ] || fail "$1: cannot be read"
    [ -z "$image" ] ||
        fail "$shown and $1: one image at a time; images in one folder are" \
             "served together if you give the folder"
    image=$(realpath -- "$1")
    shown=$1
    if [ -d "$1" ]; then
        folder=yes
    fi
}

# An option whose value is the next word, which is passed with a mark before it
# if there is one.
option_with_next ()
{
    [ -n "$2" ] || fail "$1 needs a value"
    option "$1" "${2#=}"
    used=yes
}

# The options of one word: -rv is -r -v, -t1 is -t 1.
short_options ()
{
    local word=$1 next=$2 i name

    for ((i = 1; i < ${#word}; i++)); do
        name=-${word:i:1}
        if has_value "$name"; then
            if [ $((i + 1)) -lt ${#word} ]; then
                option "$name" "${word:i+1}"
            else
                option_with_next "$name" "$next"
            fi
            return
        fi
        option "$name" ""
    done
}

parse ()
{
    local word used

    while [ $# -gt 0 ]; do
        word=$1
        shift
        used=
        case $word in
        --)
            while [ $# -gt 0 ]; do operand "$1"; shift; done ;;
        --*=*) option "${word%%=*}" "${word#*=}" ;;
        --*)
            if has_value "$word"; then
                option_with_next "$word" "${1+=$1}"
            else
                option "$word" ""
            fi ;;
        -?*) short_options "$word" "${1+=$1}" ;;
        *) operand "$word" ;;
        esac
        [ -z "$used" ] || shift
    done
    [ -z "$writable" ] || [ -z "$readonly" ] ||
        fail "--writable and -r exclude each other"
}
