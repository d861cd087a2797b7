#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Keys: all key slots, made by QEMU and by cryptsetup; passphrases of all
# kinds, and where they must not appear; headers with errors, and ones that ask
# for endless work.
# shellcheck source=luks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/luks.sh"

# amend OPTIONS [qemu-img amend's options...]: change key slots.
amend ()
{
    quick qemu-img amend "${key[@]}" "${@:2}" --image-opts "$(opened)" \
        -o "$1"
}

# add_key SLOT PASSPHRASE
add_key ()
{
    amend "encrypt.state=active,encrypt.new-secret=new,encrypt.keyslot=$1,encrypt.iter-time=10" \
        --object "secret,id=new,data=$2"
}

# opens_with PARAMETER...: clients read the expected disk.
opens_with ()
{
    start_nbdkit -v --filter="$filter" file "$image" "$@"
    same_over_nbd
    stop_nbdkit
}

# refuses_with REGEX PARAMETER...: clients are refused, with this message.
refuses_with ()
{
    local regex=$1

    shift
    start_nbdkit -v --filter="$filter" file "$image" "$@"
    nbdtool fails "$uri" >/dev/null || fail "was not refused: $*"
    grep -E -q -e "error: qcow2: .*$regex" "$log" ||
        fail "no message like '$regex': $(grep error: "$log")"
    stop_nbdkit
}

none='no key slot of the image opens with the passphrase given'

# ---- Key slots -----------------------------------------------------------

echo "eight key slots, one passphrase for each"
encrypt 2M "$luks"
by_qemu 'write -q -P 90 0 1M'
cp "$secret" "$tmp/slot-0"
for slot in 1 2 3 4 5 6 7; do
    printf 'of slot %s' $slot >"$tmp/slot-$slot"
    add_key $slot "of slot $slot"
done
for slot in 0 1 2 3 4 5 6 7; do
    opens_with qcow2-passphrase=+"$tmp/slot-$slot"
    ! grep -q "$(cat "$tmp/slot-$slot")" "$log" || fail "it was logged"
done
refuses_with "$none" qcow2-passphrase='of slot 8'

echo "some are switched off, one is made anew"
for slot in 3 0; do
    key=(--object "secret,id=key,file=$tmp/slot-1")
    amend "encrypt.state=inactive,encrypt.keyslot=$slot"
done
key=(--object "secret,id=key,file=$tmp/slot-7")
for slot in 3 0; do
    refuses_with "$none" qcow2-passphrase=+"$tmp/slot-$slot"
done
for slot in 1 2 4 5 6 7; do
    opens_with qcow2-passphrase=+"$tmp/slot-$slot"
done
add_key 3 'another one'
refuses_with "$none" qcow2-passphrase=+"$tmp/slot-3"
opens_with qcow2-passphrase='another one'

if [ -n "$(type -P cryptsetup)" ]; then
    echo "a slot made by cryptsetup"
    find_header
    tail -c +$((header_at + 1)) "$image" 2>/dev/null |
        head -c "$header_bytes" >"$tmp/header" || :
    # cryptsetup takes any bytes as a passphrase, QEMU does not.
    printf '\xff\xfe, not UTF-8' >"$tmp/slot-0"
    cryptsetup luksAddKey --batch-mode --key-slot 0 \
        --pbkdf-force-iterations 1234 --key-file "$tmp/slot-7" \
        "$tmp/header" "$tmp/slot-0"
    dd if="$tmp/header" of="$image" bs=512 seek=$((header_at / 512)) conv=notrunc \
        status=none
    opens_with qcow2-passphrase=+"$tmp/slot-0"
    opens_with qcow2-passphrase=+"$tmp/slot-5"
    judged
else
    echo "cryptsetup is not here: left out"
fi

# ---- Headers with errors ---------------------------------------------------

echo "headers with one thing wrong"
key=(--object "secret,id=key,file=$secret")
encrypt 1M "$luks"
by_qemu 'write -q -P 90 0 1M'
add_key 1 second
add_key 7 last
printf second >"$tmp/second"
mkdir "$tmp/images"
# In bounded memory, if no other check needs much.
server=$NBDKIT
if [ -z "$instrumented" ]; then
    printf '%s\n' '#!/bin/bash' 'ulimit -v 2000000' "exec '$NBDKIT' \"\$@\"" \
        >"$tmp/limited"
    chmod +x "$tmp/limited"
    server=$tmp/limited
fi
NBDKIT=$server start_nbdkit -v -t 4 --filter="$filter" file dir="$tmp/images" \
    qcow2-passphrase=+"$tmp/second"
"$PYTHON" "$nbddir/luks_headers.py" "$image" "$sock" "$log" "$tmp/images" \
    "$tmp/second" $((patience / 2))

echo "while one image takes long to open, others do not"
cp "$image" "$tmp/images/slow"
cp "$image" "$tmp/images/sound"
find_header
# Some 2^25 rounds.
printf '\x00\xff\xff\xff' | dd of="$tmp/images/slow" bs=1 \
    seek=$((header_at + 208 + 4)) conv=notrunc status=none
nbdtool size "$(export_uri slow)" >/dev/null &
client=$!
sleep 0.3
timeout "$patience" nbdcopy "$(export_uri sound)" "$tmp/copy" ||
    fail "no answer while another image is being opened"
cmp "$tmp/copy" "$raw"
wait "$client" || fail "the slow one was not served"
client=
grep -o -E 's[a-z]+: opened: version' "$log" | tail -n 2 >"$tmp/order"
[ "$(head -n 1 "$tmp/order")" = 'sound: opened: version' ] ||
    fail "opened one after the other"
stop_nbdkit

# ---- Passphrases -------------------------------------------------------------

# made_with FILE: an image whose passphrase is the whole file.
made_with ()
{
    cp "$1" "$secret"
    encrypt 1M "$luks"
    by_qemu 'write -q -P 91 100k 100k'
}

echo "one line of a file, without its end; for QEMU it is all of the file"
printf 'one line' >"$tmp/bare"
printf 'one line\n' >"$tmp/line"
printf 'one line\r\n' >"$tmp/dos"
printf 'one line\nand another' >"$tmp/lines"
printf 'one line\0and more\n' >"$tmp/nul"
made_with "$tmp/bare"
for file in bare line lines nul; do
    opens_with qcow2-passphrase=+"$tmp/$file"
    opens_with qcow2-passphrase=-9 9<"$tmp/$file"
    ! grep -q -e 'one line' "$log" || fail "it was logged"
done
refuses_with "$none" qcow2-passphrase=+"$tmp/dos"
refuses_with "$none" qcow2-passphrase=-9 9<"$tmp/dos"
# The newline is part of the passphrase, which no file can express to us.
made_with "$tmp/line"
refuses_with "$none" qcow2-passphrase=+"$tmp/line"
refuses_with "$none" qcow2-passphrase=+"$tmp/bare"
opens_with qcow2-passphrase=$'one line\n'
# The manual's remedy; QEMU finds an unused slot.
quick qemu-img amend "${key[@]}" --object "secret,id=new,file=$tmp/bare" \
    -o encrypt.state=active,encrypt.new-secret=new,encrypt.iter-time=10 \
    --image-opts "$(opened)"
opens_with qcow2-passphrase=+"$tmp/line"

echo "long ones, others, and none at all"
head -c 1024 /dev/zero | tr '\0' k >"$tmp/long"
made_with "$tmp/long"
opens_with qcow2-passphrase=+"$tmp/long"
opens_with qcow2-passphrase=-9 9<"$tmp/long"
head -c 1023 "$tmp/long" >"$tmp/shorter"
refuses_with "$none" qcow2-passphrase=+"$tmp/shorter"
# shellcheck disable=SC1003
printf 'Schl\xc3\xbcssel \xe2\x82\xac +,=%%"'"'"'\\' >"$tmp/special"
made_with "$tmp/special"
opens_with qcow2-passphrase=+"$tmp/special"
opens_with qcow2-passphrase="$(cat "$tmp/special")"
printf '+x' >"$tmp/plus"
made_with "$tmp/plus"
opens_with qcow2-passphrase=+"$tmp/plus"
refused 'passphrase, x, cannot be opened' --filter="$filter" file "$image" qcow2-passphrase=+x
: >"$tmp/empty"
echo >"$tmp/empty-line"
made_with "$tmp/empty"
opens_with qcow2-passphrase=
opens_with qcow2-passphrase=+"$tmp/empty"
opens_with qcow2-passphrase=+"$tmp/empty-line"
refuses_with "$none" qcow2-passphrase=x
refuses_with 'is encrypted with LUKS; give its passphrase'

echo "of the legacy AES 16 bytes count, and any passphrase opens it"
printf 'sixteen bytes and more' >"$secret"
for driver in qcow2 qcow; do
    encrypt 1M "$legacy"
    by_qemu 'write -q -P 92 100k 100k'
    opens_with qcow2-passphrase=+"$secret"
    opens_with qcow2-passphrase='sixteen bytes ankle'
    refuses_with 'is encrypted with AES; give its passphrase'
    start_nbdkit --filter="$filter" file "$image" qcow2-passphrase=sixteen
    nbdcopy "$uri" "$tmp/copy"
    ! cmp -s "$tmp/copy" "$raw" || fail "opens with half of the passphrase"
    stop_nbdkit
done
driver=qcow2

echo "the passphrases of a chain, none of which is logged"
cd "$tmp"
qemu-img create -q -f qcow2 plain.qcow2 3M
# layer NAME SECRET OPTIONS BACKING BYTE PLACE
layer ()
{
    printf '%s' "$2" >"$secret"
    image=$1
    encrypt 3M "$3"
    with_key "write -q -P $5 $6 1M"
    "$PYTHON" "$nbddir/set_names.py" "$1" --backing "$4" --format qcow2
    printf '%s\nrest' "$2" >"$1.secret"
}
layer 3.qcow2 third-secret "$luks,cluster_size=4k" plain.qcow2 93 0
layer 2.qcow2 second-secret "$legacy,compat=0.10" 3.qcow2 94 1M
layer 1.qcow2 first-secret "$luks,encrypt.cipher-alg=serpent-256" 2.qcow2 95 2M
for byte in 135 136 137; do
    # shellcheck disable=SC1003         # tr's escape.
    head -c 1M /dev/zero | tr '\0' '\'"$byte"
done >"$raw"
exec 7<1.qcow2.secret
opens_with qcow2-follow=. qcow2-passphrase=-7 \
    qcow2-passphrase=+2.qcow2.secret qcow2-passphrase=+3.qcow2.secret
! grep -e '-secret' "$log" | grep -v 'config key' || fail "one was logged"
refuses_with '3.qcow2: .*no key slot' qcow2-follow=. \
    qcow2-passphrase=+1.qcow2.secret qcow2-passphrase=+2.qcow2.secret
! grep -e '-secret' "$log" | grep -v 'config key' || fail "one was logged"
