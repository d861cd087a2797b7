# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# apt.sh - sourced by scripts that install packages: what is missing, apt
# without surprises, and output that is shown only if something fails.
#
# The script sets 'me', its name in messages, 'packages', the list of what it
# needs, and 'log', the file for the output of commands; and perhaps 'optional',
# packages that this release may lack.
#
# shellcheck disable=SC2034,SC2154  # Variables of both.

say ()
{
    echo "$me: $*"
}

fail ()
{
    echo "$me: $*" >&2
    exit 1
}

# Prints those of the packages that are not installed.
missing ()
{
    dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
        awk -v want="$*" '
            $1 == "installed" { have[$2] = 1 }
            END {
                n = split (want, w, " ")
                for (i = 1; i <= n; ++i)
                    if (! (w[i] in have)) print w[i]
            }' || :
}

# Runs as root; its first argument are the packages that may be left out, in one
# word, the others those that are wanted.  Keeps packages from starting services, and disables those that
# they enable, with or without systemd.  Prints the packages and the progress;
# the rest goes to stderr.
# shellcheck disable=SC2016         # Expanded by the shell that runs it.
readonly install_program='
    set -e
    me=$0
    may_lack=" $1 "
    shift
    say () { echo "$me: $*" >&3; }
    exec 3>&1 1>&2
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap "rm -f $policy" EXIT
        printf "#!/bin/sh\nexit 101\n" > "$policy"
        chmod 755 "$policy"
    fi
    # The contents of a folder, on one line.
    names () { (cd "$1" 2>/dev/null && printf "%s " *) || :; }
    had_units=$(names /lib/systemd/system)
    had_scripts=$(names /etc/init.d)
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C
    # A fresh machine may be installing updates at the moment.
    options=(--no-install-recommends -o DPkg::Lock::Timeout=300)

    say "updating the lists of packages"
    apt-get update -q ||
        say "not all lists could be updated, going on"
    for name; do
        shift
        case $may_lack in
        *" $name "*)
            apt-cache policy "$name" | grep -q "Candidate: [^(]" || {
                say "this release has no $name"
                continue
            } ;;
        esac
        set -- "$@" "$name"
    done
    [ $# -gt 0 ] || exit 0
    # Prints what it would do, without doing it.
    { apt-get install --assume-no "${options[@]}" "$@" 2>&1 || :; } |
        while IFS= read -r line; do
            echo "$line"
            case $line in
            *" newly installed"* | "Need to get"* | "After this operation"* | \
                "Download size"* | "Space needed"*) say "$line" ;;
            esac
        done
    # Lines are dlstatus:NUMBER:PERCENT:TEXT or pmstatus:PACKAGE:PERCENT:TEXT.
    exec 5> >(
        last=
        while IFS=: read -r kind _ percent _; do
            percent=${percent%%.*}
            case $kind in
            dlstatus) text="downloading: ${percent%?}0%" ;;
            pmstatus) text="installing: ${percent%?}0%" ;;
            *) continue ;;
            esac
            [ "$text" = "$last" ] || say "$text"
            last=$text
        done)
    apt-get install -q -y "${options[@]}" -o APT::Status-Fd=5 "$@"
    exec 5>&-
    for name in $(names /lib/systemd/system); do
        case " $had_units" in
        *" $name "*) ;;
        *)  # It wants to be called from a package.
            DPKG_MAINTSCRIPT_PACKAGE=$me deb-systemd-helper disable "$name" ||
                : ;;
        esac
    done
    for name in $(names /etc/init.d); do
        case " $had_scripts" in
        *" $name "*) ;;
        *) update-rc.d "$name" disable || : ;;
        esac
    done
'

# Installs missing packages; sets 'installed' if there were any.
install_missing ()
{
    local -a want as_root=()

    if ! command -v dpkg-query >/dev/null ||
            ! command -v apt-get >/dev/null; then
        say "this is not Debian: nothing is installed, needed are" \
            "${packages[*]}${optional:+ ${optional[*]}}"
        return
    fi
    mapfile -t want < <(missing "${packages[@]}" ${optional:+"${optional[@]}"})
    [ ${#want[@]} -gt 0 ] || return 0

    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null ||
            fail "packages are missing (${want[*]}): run this as root," \
                 "install sudo, or install them yourself"
        as_root=(sudo)
    fi
    say "installing ${want[*]}"
    # Its stdout is for the user.
    ${as_root[@]+"${as_root[@]}"} bash -c "$install_program" \
        "$me" "${optional:+${optional[*]}}" "${want[@]}" 2>> "$log" ||
        failed "installing packages"
    mapfile -t want < <(missing "${packages[@]}")
    [ ${#want[@]} -eq 0 ] || fail "still missing: ${want[*]}"
    installed=yes
}

failed ()
{
    tail -n 60 "$log" >&2
    fail "failed: $1 (all output is in $log)"
}

# Runs a command; its output is shown only if it fails.
run ()
{
    "$@" >> "$log" 2>&1 || failed "$1"
}
