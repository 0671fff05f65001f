#!/bin/sh
# The first and the last step of rootfs.pkr.hcl.
#
#   rootfs.sh unpack   copies or unpacks ROOTFS, a directory or a tar, to NODEBAKE_ROOT, and puts the files
#                      that nodebake.sh needs into NODEBAKE_FILES
#   rootfs.sh pack     packs NODEBAKE_ROOT into OUTPUT/node.tar and OUTPUT/node.raw, and removes it
#
# The same ROOTFS and the same spec give the same node.tar, byte for byte.
set -eu

# before sudo: Packer itself also writes there, as the user
mkdir -p "$OUTPUT"
[ "$(id -u)" -eq 0 ] || exec sudo -E sh "$0" "$@"

main() {
  work=$(dirname "$NODEBAKE_ROOT")
  case ${1:-} in
    unpack) unpack ;;
    pack) pack ;;
    *) fail 'usage: rootfs.sh unpack | pack' ;;
  esac
}

unpack() {
  [ -n "${ROOTFS:-}" ] || fail "set \`rootfs\` to a root filesystem: a directory or a tar"
  # remove what a failed build has left, and the results of an earlier build
  rm -rf --one-file-system "$work"
  rm -f "$OUTPUT/node.tar" "$OUTPUT/node.raw" "$OUTPUT/SHA256SUMS"
  mkdir -p "$NODEBAKE_ROOT"
  if [ -d "$ROOTFS" ]; then
    cp -a --reflink=auto --one-file-system -T "$ROOTFS" "$NODEBAKE_ROOT"
  else
    tar --extract --file "$ROOTFS" --directory "$NODEBAKE_ROOT" --numeric-owner --same-permissions --xattrs --xattrs-include='*'
  fi
  # times in node.tar are clamped to the newest one in ROOTFS, or to SOURCE_DATE_EPOCH
  newest=$(find "$NODEBAKE_ROOT" -xdev -printf '%T@\n' | sort -n | tail -n 1)
  echo "${SOURCE_DATE_EPOCH:-${newest%.*}}" >"$work/epoch"
  gather_files
}

gather_files() {
  mkdir "$NODEBAKE_FILES"
  ln -s "$(realpath -e "$BINARIES")" "$NODEBAKE_FILES/bin"
  [ -z "$ARTIFACTS" ] || ln -s "$(realpath -e "$ARTIFACTS")" "$NODEBAKE_FILES/$NODEBAKE_SOURCE"
  [ -z "$SPEC_FILES" ] || printf '%s\n' "$SPEC_FILES" | while read -r file; do
    cp "$file" "$NODEBAKE_FILES/"
  done
}

pack() {
  echo "rootfs.sh: writing $OUTPUT/node.tar"
  tar --create --file "$OUTPUT/node.tar" --directory "$NODEBAKE_ROOT" --one-file-system \
    --sort=name --numeric-owner --mtime="@$(cat "$work/epoch")" --clamp-mtime --xattrs --xattrs-include='*' \
    --format=posix --pax-option='exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime' .
  echo "rootfs.sh: writing $OUTPUT/node.raw"
  sh "$(dirname "$0")/disk.sh" "$NODEBAKE_ROOT" "$OUTPUT/node.raw" "$DISK_SIZE" "$KERNEL_ARGUMENTS"
  rm -rf --one-file-system "$work"
}

fail() { printf 'rootfs.sh: error: %s\n' "$1" && exit 1; }

main "$@"
