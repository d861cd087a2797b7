#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Shell scripts work with any awk (gawk, mawk, busybox), and with bash 5.1
# (Debian 11) and newer.
#
# Each awk parses every awk program of the scripts, so programs must be written
# in a form that find-awk.py finds.  Then the check with the longest program
# runs with each awk; tests/scripts does that with scripts/.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires gawk mawk busybox "${PYTHON:-/usr/bin/python3}"

awks=("gawk --posix" gawk mawk "busybox awk")

# The scripts of a tree, each with a NUL after it.
scripts_of ()
{
    (
        cd "$1"
        grep -rlIZE --exclude='*.log' --exclude='*.trs' --exclude='*.py' \
            --exclude=Makefile --exclude=Makefile.in --exclude='test-awk.sh' \
            -e '^#!.*/(ba)?sh' -e '^# shellcheck shell=' \
            packaging scripts tests .ci 2>/dev/null || :
    )
}

# Programs must be found, and each awk must take each of them.
check_awk_programs ()
{
    local program awk status=0 command

    rm -rf "$tmp/programs"
    mkdir "$tmp/programs"
    (cd "$1" && scripts_of . | xargs -0 "${PYTHON:-/usr/bin/python3}" \
        "$top_srcdir/tests/style/find-awk.py" "$tmp/programs") || status=1
    for program in "$tmp/programs"/*; do
        [ -e "$program" ] || continue
        for awk in "${awks[@]}"; do
            read -r -a command <<< "$awk"
            # Without input: this only tests parsing.  Some exit with 1 since
            # they found nothing.
            "${command[@]}" -f "$program" < /dev/null \
                2> "$tmp/said" > "$tmp/printed" || :
            if [ -s "$tmp/said" ]; then
                echo "$(head -n 1 "$program"): $awk says:"
                cat "$tmp/said"
                status=1
            fi
        done
    done
    return "$status"
}

# Features that bash got after 5.1, as far as a pattern can tell, and & in the
# replacement of a pattern, whose meaning changed in 5.2.
check_bash ()
{
    local new='\$\{[^}]*@k\}|\$\{ |\$\{\||printf[^|;]*%Q'
    new+='|\<(SRANDOM|BASH_MONOSECONDS|BASH_TRAPSIG|GLOBSORT)\>'
    new+='|\<shopt\>.*(patsub_replacement|globskipdots|varredir_close'
    new+='|noexpand_translation|array_expand_once|bash_source_fullpath)'
    new+='|\<compgen\>.* -V|\<source -p|\<read\>.* -E'
    new+='|\$\{[A-Za-z_0-9]+(\[[^]]*\])?//?[^}"\\]*/[^}"\\]*&'

    if (cd "$1" && scripts_of . | xargs -0 grep -nE "$new"); then
        echo "the lines above need a bash newer than 5.1"
        return 1
    fi
}

# The check that failed where awk was gawk, with each of them as 'awk'.
check_with_each_awk ()
{
    local awk

    for awk in "${awks[@]}"; do
        rm -rf "${tmp:?}/bin"
        mkdir "$tmp/bin"
        printf '#!/bin/sh\nexec %s "$@"\n' "$awk" > "$tmp/bin/awk"
        chmod +x "$tmp/bin/awk"
        PATH=$tmp/bin:$PATH bash "$1/tests/style/test-layers.sh" \
            > "$tmp/said" 2>&1 || {
            echo "test-layers.sh, where awk is $awk:"
            cat "$tmp/said"
            return 1
        }
    done
}

plant ()
{
    mkdir -p "$tmp/tree/scripts"
    printf '#!/bin/bash\n%s\n' "$2" > "$tmp/tree/scripts/bad"
    planted "$1" "$3" "$4" "$tmp/tree"
}

clean check_awk_programs "$top_srcdir"
[ "$(find "$tmp/programs" -type f | wc -l)" -ge 10 ] ||
    fail "programs were not found"
clean check_bash "$top_srcdir"
clean check_with_each_awk "$top_srcdir"

# shellcheck disable=SC2016         # That is what is looked for.
{
    plant "a space in a call" \
          "awk 'function f(x) { print x } { f (\$1) }'" \
          "scripts/bad:2" check_awk_programs
    plant "a function of gawk's" \
          "x | awk -F '|' -v y=\"\$x\" '{ print gensub(/a/, \"b\", 1) }'" \
          "mawk says" check_awk_programs
    plant "repetitions, unknown to some mawk" "awk '/^a{2,3}\$/'" \
          "repetition" check_awk_programs
    plant "a program in double quotes" 'awk "{ print $x }"' \
          "cannot find the program" check_awk_programs
    plant "an ampersand in a replacement" 'echo ${x//a/&amp;}' \
          "newer than 5.1" check_bash
    plant "a new transformation" 'echo "${x[@]@k}"' \
          "newer than 5.1" check_bash
}
rm -rf "$tmp/tree"
copy_source "$tmp/tree"
sed -i 's/\<bad("/bad ("/' "$tmp/tree/tests/style/test-layers.sh"
planted "the calls that only mawk takes" "where awk is gawk" \
        check_with_each_awk "$tmp/tree"
