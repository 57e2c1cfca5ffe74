#!/bin/sh
# Makes the secrets of compose.yaml, one file each, in the folder given (default: `secrets` beside this script).
# What is there already stays, so it may be run again. The folder is for you alone (0700); the files in it can be read by
# everyone (0444), because Docker mounts them as they are into containers that run as other users.
set -eu
folder=${1:-$(dirname "$0")/secrets}
umask 077
mkdir -p "$folder"
chmod 0700 "$folder"
for name in postgres_password owner_password reader_password history_token gateway_token webhook_key; do
    file=$folder/$name
    [ -s "$file" ] && continue
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "$file.unfinished"
    [ "$(wc -c < "$file.unfinished")" -eq 48 ] || { echo "cannot read /dev/urandom" >&2; exit 1; }
    chmod 0444 "$file.unfinished"
    mv "$file.unfinished" "$file"
done
echo "secrets are in $folder"
