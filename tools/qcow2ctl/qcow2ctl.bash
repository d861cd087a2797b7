# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# Completion of qcow2ctl for bash.  The program itself says which commands and
# options there are: "qcow2ctl --complete" prints a line for each command, its
# name, a tab, and its options, which end with "=" if they take a value.

# The commands that begin with the words already typed, and the next word of
# each; or, if these are a whole command, its options.
_qcow2ctl_words ()
{
    local typed=$1 name options

    while IFS=$'\t' read -r name options; do
        if [ "$name" = "$typed" ]; then
            echo "options $options"
        elif [ -z "$typed" ] || [[ $name == "$typed "* ]]; then
            name=${name#"$typed"}
            name=${name# }
            echo "word ${name%% *}"
        fi
    done < <("${COMP_WORDS[0]}" --complete 2>/dev/null)
}

_qcow2ctl ()
{
    local cur=${COMP_WORDS[COMP_CWORD]} typed='' kind words i
    local -a commands=() options=()

    # The words of the command: the first two that are no options.
    for (( i = 1; i < COMP_CWORD; i++ )); do
        case ${COMP_WORDS[i]} in
        -* | = | human | json) continue ;;
        esac
        while read -r kind words; do
            if [ "$kind" = word ] && [ "$words" = "${COMP_WORDS[i]}" ]; then
                typed="${typed:+$typed }$words"
                break
            fi
        done < <(_qcow2ctl_words "$typed")
    done
    while read -r kind words; do
        case $kind in
        word) commands+=("$words") ;;
        options) read -r -a options <<< "$words" ;;
        esac
    done < <(_qcow2ctl_words "$typed")
    if [ ${#commands[@]} -gt 0 ] && [[ $cur != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "${commands[*]}" -- "$cur" |
                                     sort -u)
    elif [[ $cur == -* ]]; then
        [ ${#options[@]} -gt 0 ] ||
            options=(--help --output= --progress --quiet --version)
        mapfile -t COMPREPLY < <(compgen -W "${options[*]}" -- "$cur")
        [[ ${COMPREPLY[0]:-} != *= ]] || compopt -o nospace 2>/dev/null
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        compopt -o filenames 2>/dev/null
    fi
}

complete -F _qcow2ctl qcow2ctl
