# shellcheck shell=bash disable=SC2034,SC2054,SC2154 # what this has in common with the script that sources it
# A machine in QEMU: its disk and its parts. A stock kernel boots under emulation in half a minute, with KVM in
# seconds.

# Of the root's partition: a seed is a disk as well, and the kernel gives them their names in the order
# in which they answer.
partition=PARTUUID=6c616221-01

# make_disk: fills the file of descriptor $disk, which has no name, so that nothing stays after a
# kill, with a filesystem of $tree.
make_disk() {
  local file size start=1 # in MiB
  file=$(mktemp "$LAB/.disk.XXXXXX")
  exec {disk}<>"$file"
  rm "$file"
  size=$(($(du -sm "$tree" | cut -f1) + 1024))
  truncate -s "$((start + size))M" "/dev/fd/$disk"
  sfdisk --quiet --no-reread --no-tell-kernel "/dev/fd/$disk" <<END
label: dos
label-id: 0x6c616221
start=${start}MiB, type=83
END
  mkfs.ext4 -q -F -O ^has_journal -E "offset=$((start << 20)),lazy_itable_init=0,nodiscard" -m 0 -N 60000 \
    -d "$tree" "/dev/fd/$disk" "${size}M"
}

# add_file SOURCE DEST: resolved inside the tree, where a link may be absolute
add_file() {
  local mode
  mode=$(stat -c %a "$1")
  # shellcheck disable=SC2016 # expanded by the inner shell
  chroot "$tree" /bin/sh -c 'mkdir -p "${1%/*}" && cat >"$1" && chmod "$2" "$1"' sh "$2" "$mode" <"$1"
}

# machine KERNEL_ARGUMENT…: fills `machine`, QEMU's command line.
#
# A disk on NVMe needs no initramfs, with Debian's cloud kernels. A panic is a reboot at once, and a reboot the
# end. A first boot asks nothing on the console, and does not make anew what follows from /usr (ldconfig's cache
# and the like). Nobody attacks the guest, and without what the kernel does against that an emulated boot takes
# a fifth less.
machine() {
  local words=(
    root=$partition rootfstype=ext4 rw console=ttyS0 panic=-1 quiet systemd.show_status=yes
    systemd.firstboot=no systemd.condition-needs-update=no mitigations=off "$@"
  )
  processor
  machine=(
    "${processor[@]}" -m "$memory"
    -nodefaults -no-user-config -display none -no-reboot
    -drive "if=none,id=root,file=/dev/fd/$disk,format=raw,cache=unsafe" -device nvme,drive=root,serial=root
    -kernel "$(newest_kernel)"
    -append "${words[*]}"
  )
}

# Fills `processor`, QEMU and the options of what it runs on: LAB_ACCEL, or else KVM where the processor has what
# that needs, or else emulation.
#
# q35, since microvm hangs now and then. QEMU 7.2 emulates cmpxchg16b in a way that makes Linux 6.12 panic; and
# of two processors one now and then runs into an int3 that is not there any more while the kernel patches itself.
processor() {
  local accelerator=${LAB_ACCEL:-tcg} cpu=max,-cx16 cpus=1
  [[ -n ${LAB_ACCEL:-} ]] || ! has_kvm || accelerator=kvm
  [[ $accelerator == tcg ]] || { cpu=host && cpus=2; }
  processor=(qemu-system-x86_64 -accel "$accelerator" -M q35 -cpu "$cpu" -smp "$cpus")
}

# A /dev/kvm that is not the processor's own may be there, and boots no stock kernel.
has_kvm() { { : <>/dev/kvm; } 2>/dev/null && grep -qwE '^flags.*(vmx|svm)' /proc/cpuinfo; }

newest_kernel() {
  local kernels
  kernels=$(find "$tree/boot/" -name 'vmlinuz-*' | sort --version-sort)
  [[ -n $kernels ]] || fail "there is no kernel in the root's /boot"
  tail -n 1 <<<"$kernels"
}
