#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What the engine says names no program, parameter or connection: it does not
# know who uses it.  Advice is a value (enum qcow2_advice), whose words the
# filter has, one for each.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires awk

# Prints the texts in core/ of a tree that name what the engine cannot know;
# fails if there are any.
# shellcheck disable=SC2016         # awk's variables, not ours.
check_texts ()
{
    (cd "$1" && find core -name '*.[ch]' | sort | xargs awk '
    /^[ \t]*(\/\*| \*)/ || /^[ \t]*#[ \t]*include/ { next }
    {
        rest = $0
        sub (/\/\*.*/, "", rest)
        while (match (rest, /"([^"\\]|\\.)*"/)) {
            text = substr (rest, RSTART + 1, RLENGTH - 2)
            rest = substr (rest, RSTART + RLENGTH)
            if (tolower (text) ~ /qemu|nbdkit|--|qcow2-[a-z]|client|connect|the filter|this filter|server/) {
                printf "%s:%d: \"%s\"\n", FILENAME, FNR, text
                found = 1
            }
        }
    }
    END { exit found }')
}

# Prints each kind of advice for which the filter has no words, or that has
# no user in core/.
check_words ()
{
    local advice found=0 all

    mapfile -t all < <(sed -n 's/^ *\(QCOW2_ADVICE_[A-Z_]*\),.*/\1/p' \
                           "$1/core/qcow2.h")
    for advice in "${all[@]}"; do
        if ! grep -rqF "[$advice] =" "$1/filter"; then
            echo "$advice: no words"
            found=1
        fi
        if ! grep -rqwF "$advice" "$1/core" --include='*.c'; then
            echo "$advice: is never given"
            found=1
        fi
    done
    return $found
}

copy ()
{
    rm -rf "$tmp/tree"
    mkdir "$tmp/tree"
    (cd "$top_srcdir" && find core filter -name '*.[ch]' -print0 |
         tar --null -T - -cf -) | tar -C "$tmp/tree" -xf -
    chmod -R u+w "$tmp/tree"
}

clean check_texts "$top_srcdir"
clean check_words "$top_srcdir"

for words in "repair it with 'qemu-img check -r all'" 'give --filter=tar' \
             'raise qcow2-cache-size' 'all clients have left'; do
    copy
    printf 'static const char *const x =\n  "%s";\n' "$words" \
           >> "$tmp/tree/core/io/io.c"
    planted "$words" 'core/io/io.c' check_texts "$tmp/tree"
done
copy
sed -i '/\[QCOW2_ADVICE_REPAIR\]/d' "$tmp"/tree/filter/*.c
planted 'advice without words' QCOW2_ADVICE_REPAIR: check_words "$tmp/tree"
copy
sed -i 's/QCOW2_ADVICE_CREATE\b/QCOW2_ADVICE_NONE/' "$tmp"/tree/core/*/*.c
planted 'advice without a user' QCOW2_ADVICE_CREATE: check_words "$tmp/tree"
