#!/bin/sh
# Makes the ssh key that Packer uses to log in to a machine, and the NoCloud seed with which cloud-init
# authorizes this key.
#
#   seed.sh DIRECTORY
#
# By the key's comment, packer_nodebake, clean.sh recognizes the key and removes it from the image.
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
