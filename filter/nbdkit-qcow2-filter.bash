# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# Completion of the filter's parameters for bash, once --filter=qcow2 is on the
# command line of nbdkit.
#
# nbdkit brings a completion of its own, of options and of the plugin's
# parameters, which is loaded when it is first wanted.  This one is loaded
# before, asks that one for its words, and adds ours.

# Parameters and, where these are words, their values.
_nbdkit_qcow2_parameters ()
{
    cat <<'WORDS'
qcow2-allow-retry=on off
qcow2-backing=FILE
qcow2-backing-format=raw qcow2
qcow2-bitmaps=durable lazy invalidate
qcow2-cache-clean-interval=
qcow2-cache-size=
qcow2-chain-depth=
qcow2-check-at-start=on off
qcow2-cluster-cache-size=
qcow2-compress=on off
qcow2-control=FILE
qcow2-create=
qcow2-data-file=FILE
qcow2-detect-zeroes=on off unmap
qcow2-discard=unmap ignore no-unref
qcow2-discard-snapshots=on off
qcow2-follow=FOLDER
qcow2-grow=auto off
qcow2-lazy-refcounts=on off
qcow2-lock=on off
qcow2-memory=
qcow2-overlap-check=none constant cached all
qcow2-passphrase=
qcow2-raw=
qcow2-readahead=
qcow2-refcounts=exact ahead
WORDS
}

# Whether the filter is among the words: "=" may be one of its own.
_nbdkit_qcow2_wanted ()
{
    [[ " ${COMP_WORDS[*]} " =~ \ --filter(=|\ =\ |\ )([^\ ]*/nbdkit-)?qcow2(-filter\.so)?\  ]]
}

# The values of a parameter that begin with 'cur', after 'prefix'.
_nbdkit_qcow2_values ()
{
    local key=$1 cur=$2 prefix=$3 values

    values=$(_nbdkit_qcow2_parameters | sed -n "s/^$key=//p")
    case $values in
    FILE | FOLDER)
        if [ "$values" = FILE ]; then values=-f; else values=-d; fi
        mapfile -t COMPREPLY < <(compgen "$values" -- "$cur")
        compopt -o filenames 2>/dev/null ;;
    *)  mapfile -t COMPREPLY < <(compgen -W "$values" -- "$cur") ;;
    esac
    COMPREPLY=("${COMPREPLY[@]/#/$prefix}")
}

# The words of nbdkit's own completion, which sets itself up for nbdkit.
_nbdkit_qcow2_others ()
{
    local folder

    COMPREPLY=()
    if ! declare -F _nbdkit > /dev/null; then
        while IFS= read -r -d : folder; do
            folder+=/bash-completion/completions
            [ -r "$folder/nbdkit" ] || continue
            # shellcheck source=/dev/null
            . "$folder/nbdkit"
            break
        done <<< "${XDG_DATA_DIRS:-/usr/local/share:/usr/share}:"
        complete -o default -F _nbdkit_qcow2 nbdkit
    fi
    ! declare -F _nbdkit > /dev/null || _nbdkit "$@" 2>/dev/null
}

_nbdkit_qcow2 ()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prefix='' key
    local -a before ours

    # KEY=VALUE is one word, or up to three, of which one is replaced.
    before=("${COMP_WORDS[@]:0:COMP_CWORD}")
    if [ "$cur" = = ]; then
        cur=
    elif [ "${before[-1]}" = = ]; then
        unset 'before[-1]'
    elif [[ $cur == qcow2-*=* ]]; then
        before+=("${cur%%=*}")
        prefix=${cur%%=*}=
        cur=${cur#*=}
    else
        before+=("")
    fi
    key=${before[-1]}
    if ! _nbdkit_qcow2_wanted; then
        _nbdkit_qcow2_others "$@"
    elif [[ $key == qcow2-* ]]; then
        _nbdkit_qcow2_values "$key" "$cur" "$prefix"
    else
        _nbdkit_qcow2_others "$@"
        mapfile -t ours < <(compgen -W "$(_nbdkit_qcow2_parameters |
                                             sed 's/=.*/=/')" -- "$cur")
        COMPREPLY+=("${ours[@]}")
        [[ ${COMPREPLY[*]} != *= ]] || compopt -o nospace 2>/dev/null
    fi
}

complete -o default -F _nbdkit_qcow2 nbdkit
