#!/bin/sh
# Cleans an image: removes what must be different on every machine that is made from it, and what only
# the build needed. Then checks the result and fails if something is left.
#
#   NODEBAKE_ROOT   the root filesystem; default: that of this machine
#   NODEBAKE_FILES  directory in /tmp that the build still needs
#
# nodebake's own state in /var/lib/nodebake is kept: it is part of the image. The script only removes
# files and executes nothing of the root, so it works on a machine and on a directory, of any
# architecture.
set -eu

[ "$(id -u)" -eq 0 ] || exec sudo -E sh "$0" "$@"

main() {
  root=$(cd -P "${NODEBAKE_ROOT:-/}" && pwd)
  root=${root%/}
  # what is kept in the machine's own /tmp
  keep=. script=.
  [ -n "$root" ] || { keep=$(basename "${NODEBAKE_FILES:-.}") script=$(basename "$0"); }
  [ -n "$root" ] || [ ! -d /run/systemd/system ] || settle
  complaints=$(clean && look)
  [ -z "$complaints" ] || { printf '%s\n' "$complaints"; exit 1; }
  echo 'clean.sh: the image is clean'
}

# On a running machine: stops the services that would write removed files again, even at shutdown.
settle() {
  journalctl --relinquish-var 2>/dev/null || true
  for unit in rsyslog.service syslog.socket systemd-random-seed.service walinuxagent.service; do
    systemctl stop "$unit" 2>/dev/null || true
  done
}

clean() {
  empty_machine_id
  remove /var/lib/systemd random-seed credential.secret
  for loader in /boot/loader /boot/efi/loader /efi/loader; do remove $loader random-seed; done

  ! makes_host_keys || remove /etc/ssh 'ssh_host_*_key*'
  homes | while read -r home; do
    remove_build_key "$home"
    remove "$home" .bash_history .sudo_as_admin_successful
  done

  # What cloud-init has stored about this instance. `cloud-init clean` would also remove part handlers
  # and scripts, which somebody has put into the image on purpose.
  remove /var/lib/cloud data instance instances sem
  remove /var/lib/waagent '*'
  remove /etc/netplan 50-cloud-init.yaml
  remove /etc/network/interfaces.d 50-cloud-init
  remove /etc/systemd/network '10-cloud-init-*'
  remove /etc/ssh/sshd_config.d 50-cloud-init.conf
  for leases in dhcp dhclient NetworkManager; do remove "/var/lib/$leases" '*'; done
  remove /etc/udev/rules.d 70-persistent-net.rules

  remove /var/lib/apt/lists '*'
  remove /var/cache/apt '*.bin'
  remove /var/cache/apt/archives '*.deb'
  remove /var/cache/dnf '*'
  # directories are kept: daemons own them, and journald writes to /var/log/journal only if it exists
  remove /var/log/journal '*'
  in_root /var/log find . -xdev ! -type d -delete
  for folder in /tmp /var/tmp; do
    in_root $folder find . -xdev -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' \
      ! -name "$keep" ! -name "$script" -exec rm -rf {} +
  done
}

# Makes /etc/machine-id empty, but does not remove it: systemd fills an empty file. Without the file
# systemd assumes a first boot and resets every unit to its preset. A symlink is left alone, because
# it leads to a place that is not kept.
empty_machine_id() {
  # shellcheck disable=SC2016 # expanded by the inner shell
  in_root /etc sh -c '[ -L machine-id ] || : >machine-id'
  # shellcheck disable=SC2016
  in_root /var/lib/dbus sh -c '[ -L machine-id ] || rm -f machine-id'
}

# Removes the build's keys: the comment of Packer's temporary keys and of seed.sh's key is `packer_…`.
remove_build_key() {
  in_root "$1/.ssh" sh -c '[ -L authorized_keys ] || [ ! -f authorized_keys ] || sed -i "/ packer_[^ ]*\$/d" authorized_keys'
}

# Whether something makes new host keys at boot: without host keys sshd does not start.
makes_host_keys() {
  [ -x "$root/usr/bin/cloud-init" ] ||
    grep -rqs -e 'ssh-keygen -A' -e sshd-keygen "$root/etc/systemd/system" "$root/usr/lib/systemd/system" "$root/lib/systemd/system"
}

# Prints what is not clean.
look() {
  [ -L "$root/etc/machine-id" ] || [ -z "$(in_root /etc cat machine-id)" ] || complain /etc/machine-id 'is not empty'
  if makes_host_keys; then
    none /etc/ssh 'ssh_host_*_key'
  elif in_root /etc/ssh ls | grep -q '^ssh_host_.*_key$'; then
    complain /etc/ssh "holds host keys, and nothing makes others at boot: install cloud-init, or a unit that runs ssh-keygen -A"
  fi
  homes | while read -r home; do
    in_root "$home/.ssh" sh -c '! grep -qs " packer_[^ ]*\$" authorized_keys' ||
      complain "$home/.ssh/authorized_keys" "lets in the build's key"
  done
  none /var/lib/systemd random-seed
  none /var/lib/cloud instance data/instance-id
  none /var/log/journal '*'
  none /var/lib/apt/lists '*_Packages'
  for folder in /tmp /var/tmp; do none $folder 'packer*'; done
  in_root /var/log find . -xdev -type f -size +0 | while read -r log; do
    complain "/var/log/${log#./}" 'is there again'
  done
}

# none DIRECTORY PATTERN…
none() {
  where=$1
  shift
  for pattern in "$@"; do
    # shellcheck disable=SC2016 # as in `remove`
    found=$(in_root "$where" sh -c 'IFS=; ls -d -- $1' sh "$pattern" 2>/dev/null) || true
    [ -z "$found" ] || complain "$where/$found" 'is still there'
  done
}

complain() { printf 'clean.sh: error: %s %s\n' "$1" "$2"; }

# remove DIRECTORY PATTERN…
remove() {
  # shellcheck disable=SC2016,SC2086 # the inner shell expands the patterns where it is
  in_root "$1" sh -c 'shift; IFS=; rm -rf -- $*' sh "$@"
}

homes() {
  echo /root
  for home in "$root"/home/*/; do echo "${home#"$root"}"; done
}

# in_root DIRECTORY COMMAND…: runs the command in that directory of the root, if it exists. A symlink in
# the root can be absolute and lead to this machine's own files: such a directory is refused.
in_root() (
  cd -P "$root$1" 2>/dev/null || exit 0
  case $PWD/ in
    "$root"/*) ;;
    *) complain "$1" 'is a link that leads out of the root, and was not cleaned' && exit 0 ;;
  esac
  shift
  "$@"
)

main "$@"
