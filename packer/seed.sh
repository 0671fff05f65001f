#!/bin/sh
# Makes the key with which Packer enters a machine, and the NoCloud seed by which cloud-init lets it in.
#
#   seed.sh DIRECTORY
#
# The comment tells clean.sh that the key is the build's: it is not in the image.
set -eu

directory=$1
umask 077
mkdir -p "$directory"
[ -f "$directory/key" ] || ssh-keygen -q -t ed25519 -N '' -C packer_nodebake -f "$directory/key"
cat >"$directory/user-data" <<END
#cloud-config
ssh_authorized_keys: ["$(cat "$directory/key.pub")"]
END
echo 'instance-id: packer' >"$directory/meta-data"
