# shellcheck shell=bash disable=SC2154 # part sets here, work and what lab.sh holds
# Part `roots`: Debian root filesystems as plain directories. Tests bake into
# copies or overlays of them.

# root FOLDER NAME. A root that has more than another one is made from a copy of it, which parts.mk has
# made before.
root() {
  case $2 in
    bookworm | trixie) native_root "$1" "$2" ;;
    trixie-arm64) foreign_root "$1" trixie ;;
    rocky) dnf_root "$1" bookworm bookworm ;;
    bookworm-vm | trixie-vm) vm_root "$1" "${2%-vm}" "${2%-vm}" ;;
    bookworm-cloud) cloud_root "$1" bookworm bookworm-vm ;;
    *) fail "unknown root" ;;
  esac
}

# systemd to enable units in and to boot, iptables and iproute2 for pods; apt comes with the
# variant, for `install: package`.
native_root() {
  debootstrap "$2" "$1" --variant=apt --architectures=amd64 \
    --include=systemd,systemd-sysv,udev,dbus,iptables,kmod,iproute2,ca-certificates,netbase,procps
}

# more_of FOLDER SUITE ROOT OPTION…: a copy of ROOT with more packages. What mmdebstrap has already
# put into FOLDER is apt's sources, which ROOT has not.
more_of() {
  # shellcheck disable=SC2016 # expanded by the shell of the hook
  debootstrap "$2" "$1" --variant=apt --architectures=amd64 --setup-hook='
    sources=$(cat "$1/etc/apt/sources.list")
    cp -a --reflink=auto "$LAB/roots/'"$3"'/." "$1"
    echo "$sources" >"$1/etc/apt/sources.list"' "${@:4}"
}

# Stands for Rocky Linux 9, whose packages no mirror of Debian has: its os-release, its presets, and
# real dnf and rpm with a database and repositories of their own. All else is Debian's bookworm: the
# base system is no package of rpm's but base-stub, which provides what packages ask of it. So this
# shows what dnf and rpm do, and no SELinux, no systemd of EL's, no package of EL's.
dnf_root() {
  more_of "$@" --include=dnf,rpm,dnf-plugins-core
  as_root chroot "$1" dpkg --purge --force-all apt >/dev/null
  as_root rm -rf "$1"/usr/bin/{apt,dpkg}* "$1"/usr/lib/apt "$1"/etc/{apt,dpkg} "$1"/var/{lib,cache}/{apt,dpkg} \
    "$1"/var/log/{apt,dpkg.log}
  as_root tee "$1/usr/lib/os-release" >/dev/null <<'END'
NAME="Rocky Linux"
VERSION="9.4 (Blue Onyx)"
ID="rocky"
ID_LIKE="rhel centos fedora"
VERSION_ID="9.4"
PLATFORM_ID="platform:el9"
PRETTY_NAME="Rocky Linux 9.4 (Blue Onyx)"
END
  # EL has this plugin in a package of its own, and it keeps packages
  as_root rm "$1"/usr/lib/python3/dist-packages/dnf-plugins/local.py "$1/etc/dnf/plugins/local.conf"
  # where EL has its database; Debian's rpm has one in each home
  as_root mkdir -p "$1"/etc/{rpm,yum.repos.d,pki/rpm-gpg} "$1/var/lib/rpm"
  as_root tee "$1/etc/rpm/macros.lab" >/dev/null <<<'%_dbpath /var/lib/rpm'
  as_root tee "$1/etc/dnf/dnf.conf" >/dev/null <<'END'
[main]
gpgcheck=1
installonly_limit=3
clean_requirements_on_remove=True
best=True
skip_if_unavailable=False
END
  # what EL turns on is what its presets name
  as_root tee "$1/usr/lib/systemd/system-preset/99-default-disable.preset" >/dev/null <<<'disable *'
  base_stub "$work/stub"
  as_root cp "$work/stub/base-stub.rpm" "$1/base-stub.rpm"
  as_root chroot "$1" rpm --install --force-debian /base-stub.rpm
  as_root rm "$1/base-stub.rpm"
  [[ $(as_root chroot "$1" rpm --query --all) == base-stub-* && ! -e $1/root/.rpmdb ]] || fail "rpm keeps its database elsewhere"
}

# With a kernel that has ext4 and NVMe built in, so that it boots without an initramfs, which takes
# longer to make than the rest; and with cloud-init, which without a seed stays out of the way.
vm_root() {
  more_of "$@" --include=linux-image-cloud-amd64,cloud-init,e2fsprogs,fdisk,login,openssh-client \
    --setup-hook='echo path-exclude=/etc/kernel/postinst.d/initramfs-tools >>"$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"'
  # there is one locale, and keys take their time in emulation
  as_root tee "$1/etc/cloud/cloud.cfg.d/90-lab.cfg" <<<'{locale: C.UTF-8, ssh_genkeytypes: [ed25519]}' >/dev/null
}

# What a cloud image has more than that: a network, a way in for Packer, a boot loader for UEFI.
cloud_root() {
  more_of "$@" --include=openssh-server,sudo,systemd-boot-efi \
    --customize-hook='systemctl --quiet --root="$1" enable systemd-networkd'
}

# Only extracted: nothing of it can run here, just as on a build host without binfmt_misc.
foreign_root() {
  debootstrap "$2" "$1" --variant=extract --architectures=arm64 \
    --include=base-files,libc6,bash,dash,coreutils,systemd,systemd-sysv,iptables,kmod,iproute2
  # what base-files makes once it is configured
  as_root mkdir -p "$1"/{media,mnt,opt,srv} "$1"/usr/local/{bin,etc,include,lib,sbin,share,src}
}

# debootstrap SUITE FOLDER OPTION…
debootstrap() {
  local suite=$1 folder=$2 base
  base=$(mirror)
  acquire_configuration >"$work/acquire.conf"
  # A mount namespace of its own, so that an interrupted run leaves no /dev mounted in the tree. Nobody
  # needs the tree of an interrupted run: dpkg waits for no disk.
  as_root env LAB="$LAB" unshare --mount mmdebstrap --mode=root "${@:3}" \
    --aptopt="$work/acquire.conf" --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --setup-hook='echo force-unsafe-io >"$1/etc/dpkg/dpkg.cfg.d/unsafe"' \
    "$suite" "$folder" "deb [signed-by=$keyring] $base $suite main" \
    </dev/null >"$work/mmdebstrap.log" 2>&1 ||
    fail "mmdebstrap: $(tail -n 20 "$work/mmdebstrap.log" | hide_hosts)"
  as_root rm "$folder/etc/dpkg/dpkg.cfg.d/unsafe"
  forget_here "$folder" "${base#*://}"
}

# The trees get copied: no mirror, proxy, resolver or host name of this machine goes with them.
forget_here() {
  local folder=$1 host=${2%%/*}
  as_root rm -rf "$folder"/etc/apt/{sources.list,sources.list.d,apt.conf.d/99mmdebstrap} \
    "$folder"/etc/resolv.conf "$folder"/var/{lib/apt/lists,cache/apt,log/apt}
  as_root mkdir -p "$folder"/etc/apt/sources.list.d "$folder"/var/lib/apt/lists/partial \
    "$folder"/var/cache/apt/archives/partial "$folder"/var/log/apt
  as_root tee "$folder/etc/apt/sources.list" </dev/null
  as_root tee "$folder/etc/hostname" <<<node1 >/dev/null
  # cloud.cfg is as its package has it, with Debian's own name
  if as_root grep -rlF --exclude=cloud.cfg "$host" "$folder"/etc "$folder"/var/{cache,log,lib/apt} >&2; then
    fail "these files still name the mirror"
  fi
}
