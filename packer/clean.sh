#!/bin/sh
# Takes from an image what must be different on every machine made of it, and what only the build
# needed; then looks again, and fails if something of it is left.
#
#   NODEBAKE_ROOT   the root filesystem; default: this machine's
#   NODEBAKE_FILES  directory in /tmp that the build still needs
#
# nodebake's own state in /var/lib/nodebake is part of the image. Files are removed and nothing of the
# root is run: the same steps serve a machine and a directory, of any architecture.
set -eu

[ "$(id -u)" -eq 0 ] || exec sudo -E sh "$0" "$@"

main() {
  root=$(cd -P "${NODEBAKE_ROOT:-/}" && pwd)
  root=${root%/}
  # in the machine's own /tmp
  keep=. script=.
  [ -n "$root" ] || { keep=$(basename "${NODEBAKE_FILES:-.}") script=$(basename "$0"); }
  [ -n "$root" ] || [ ! -d /run/systemd/system ] || settle
  complaints=$(clean && look)
  [ -z "$complaints" ] || { printf '%s\n' "$complaints"; exit 1; }
  echo 'clean.sh: the image is clean'
}

# On a running machine: nobody writes again what goes away below, not even as it shuts down.
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

  # What cloud-init knows of this instance. `cloud-init clean` would take part handlers and scripts
  # too, which somebody put into the image.
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
  # directories stay: daemons own them, and journald keeps a journal where there is one
  remove /var/log/journal '*'
  in_root /var/log find . -xdev ! -type d -delete
  for folder in /tmp /var/tmp; do
    in_root $folder find . -xdev -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' \
      ! -name "$keep" ! -name "$script" -exec rm -rf {} +
  done
}

# Empty and not missing: systemd fills it, and does not take this for a first boot, which resets every
# unit to its preset. A link leads to where nothing is kept.
empty_machine_id() {
  # shellcheck disable=SC2016 # expanded by the inner shell
  in_root /etc sh -c '[ -L machine-id ] || : >machine-id'
  # shellcheck disable=SC2016
  in_root /var/lib/dbus sh -c '[ -L machine-id ] || rm -f machine-id'
}

# Packer's temporary keys, and seed.sh's, say `packer_…` where others say whose they are.
remove_build_key() {
  in_root "$1/.ssh" sh -c '[ -L authorized_keys ] || [ ! -f authorized_keys ] || sed -i "/ packer_[^ ]*\$/d" authorized_keys'
}

# sshd starts on no machine of an image without keys, unless something makes them there.
makes_host_keys() {
  [ -x "$root/usr/bin/cloud-init" ] ||
    grep -rqs -e 'ssh-keygen -A' -e sshd-keygen "$root/etc/systemd/system" "$root/usr/lib/systemd/system" "$root/lib/systemd/system"
}

# Prints what is not as it should be.
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

# in_root DIRECTORY COMMAND…: in that directory of the root, if it has it. A link there may be
# absolute, and would lead to this machine's own files.
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
