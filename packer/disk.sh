#!/bin/sh
# Makes a raw disk image from a root filesystem, without a loop device and without a mount. Executes
# nothing of the root.
#
#   disk.sh ROOT DISK SIZE KERNEL_ARGUMENTS
#
# If the root has a kernel and systemd-boot (Debian's package systemd-boot-efi), the disk boots with
# UEFI: it has a GPT, an EFI partition with systemd-boot, kernel and initramfs, and the root as ext4 in
# the last partition, which can grow. Otherwise the disk is a bare ext4 filesystem, and the user
# provides the kernel or the boot loader. If SIZE is empty, the disk has room for 1 GiB more than the
# content of the root.
#
# Needs e2fsprogs. A disk that boots also needs dosfstools, mtools and sfdisk (Debian's package fdisk).
set -eu

mib=1048576
esp_mib=256

main() {
  root=$1 disk=$2 size=$3 arguments=$4
  content=$(du -sxm "$root" | cut -f 1)
  rm -f "$disk"
  truncate -s "${size:-$((content + 1024 + esp_mib))M}" "$disk"
  mib_in_all=$(($(stat -c %s "$disk") / mib))
  if find_boot; then
    bootable_disk
  else
    echo 'disk.sh: the root has no kernel, or no systemd-boot: a filesystem without partitions'
    filesystem 0 "$mib_in_all"
  fi
}

find_boot() {
  kernel=$(find "$root/boot" -maxdepth 1 -type f -name 'vmlinuz-*' 2>/dev/null | sort -V | tail -n 1)
  loader=$(find "$root/usr/lib/systemd/boot/efi" -name 'systemd-boot*.efi' 2>/dev/null | head -n 1)
  case $loader in
    *x64.efi) firmware_name=BOOTX64.EFI root_type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709 ;;
    *aa64.efi) firmware_name=BOOTAA64.EFI root_type=B921B045-1DF0-41C3-AF44-4C6F280D3FAE ;;
    *) return 1 ;;
  esac
  [ -n "$kernel" ]
}

bootable_disk() {
  for tool in sfdisk mkfs.vfat mcopy; do
    command -v $tool >/dev/null || fail "$tool is missing: install fdisk, dosfstools and mtools"
  done
  root_id=$(cat /proc/sys/kernel/random/uuid)
  sfdisk --quiet "$disk" <<END
label: gpt
start=1MiB, size=${esp_mib}MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=esp
start=$((1 + esp_mib))MiB, type=$root_type, uuid=$root_id, name=root
END
  efi_partition
  # the last MiB holds the backup GPT
  filesystem $((1 + esp_mib)) $((mib_in_all - 2 - esp_mib))
}

efi_partition() {
  esp=$disk.esp
  rm -f "$esp"
  truncate -s ${esp_mib}M "$esp"
  mkfs.vfat -F 32 -s 1 -n ESP "$esp" >/dev/null
  mmd -i "$esp" ::EFI ::EFI/BOOT ::loader ::loader/entries
  mcopy -i "$esp" "$loader" "::EFI/BOOT/$firmware_name"
  version=${kernel##*/vmlinuz-}
  initramfs=$root/boot/initrd.img-$version
  mcopy -i "$esp" "$kernel" ::linux
  [ ! -f "$initramfs" ] || mcopy -i "$esp" "$initramfs" ::initramfs
  {
    echo "title Linux $version"
    echo 'linux /linux'
    [ ! -f "$initramfs" ] || echo 'initrd /initramfs'
    echo "options root=PARTUUID=$root_id rw $arguments"
  } | mcopy -i "$esp" - ::loader/entries/linux.conf
  echo 'timeout 0' | mcopy -i "$esp" - ::loader/loader.conf
  dd if="$esp" of="$disk" bs=$mib seek=1 conv=notrunc,sparse status=none
  rm "$esp"
}

# filesystem START SIZE: writes the root as ext4 at that offset of the disk; both in MiB
filesystem() {
  mkfs.ext4 -q -F -L root -E "offset=$(($1 * mib)),lazy_itable_init=0" -d "$root" "$disk" "$(($2 * 1024))k" 2>&1 |
    { grep -v '^$' || true; }
}

fail() { printf 'disk.sh: error: %s\n' "$1" && exit 1; }

main "$@"
