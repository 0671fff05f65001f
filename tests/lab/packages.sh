# shellcheck shell=bash disable=SC2154 # prepare sets here, work and what lab.sh holds
# Step `packages`: what the tests need from Debian and rustup, and this machine lacks. Step `bench`:
# what `make bench` needs beside that.

debian_packages=(
  mmdebstrap debian-archive-keyring     # roots
  curl gzip jq python3 xz-utils zstd    # archives, images
  busybox-static skopeo docker-registry # images and the registry that serves them
  openssl                               # a private CA
  file                                  # what a binary says of itself
  iproute2 procps strace systemd        # node; offline checks with systemctl and systemd-analyze
  xfsprogs btrfs-progs                  # power cuts and quotas on filesystems of their own
  g++                                   # the fuzzer's engine
  valgrind                              # instructions counted
  systemd-container                     # nspawn
  qemu-system-x86 e2fsprogs genisoimage # qemu: disks and a seed for cloud-init
  packer xorriso openssh-client         # sshd, and the builds of packer/:
  dosfstools fdisk mtools ovmf          # disks that boot by UEFI
  apt-utils gnupg rpm createrepo-c      # repositories and their signatures
  musl-tools                            # static binaries: C code in crates is compiled for both
  gcc-aarch64-linux-gnu libc6-dev-arm64-cross
)
bench_packages=(
  hyperfine time                        # measuring
  isal libarchive-tools                 # the fastest gzip; bsdtar
  ansible-core nginx-light
)
rust_targets=(x86_64-unknown-linux-musl aarch64-unknown-linux-musl)

packages() {
  install_packages "${debian_packages[@]}"
  add_rust_targets
}

bench() { install_packages "${bench_packages[@]}"; }

install_packages() {
  local missing=() package log
  for package in "$@"; do
    is_installed "$package" || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  log=$(as_root apt-get -q update 2>&1) || fail "apt-get update: $log"
  log=$(install_or_downgrade "${missing[@]}") || fail "apt-get install: $log"
  leave_no_service "${missing[@]}"
}

# Nothing of this machine goes away for the lab: apt would remove a qemu-utils from elsewhere that
# is too new for the suite's qemu-system. It gets the version that goes with it instead.
install_or_downgrade() {
  local log utils
  log=$(apt_install "$@") && return
  utils=$(apt-cache madison qemu-utils | awk 'NR == 1 {print $3}')
  if [[ " $* " != *' qemu-system-x86 '* || -z $utils ]] || ! is_installed qemu-utils; then
    echo "$log"
    return 1
  fi
  say "qemu-utils $(dpkg-query -W -f '${Version}' qemu-utils) does not go with this qemu-system-x86: taking $utils"
  apt_install --allow-downgrades "qemu-utils=$utils" "$@"
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -q install -y --no-install-recommends --no-remove "$@" 2>&1 </dev/null
}

is_installed() {
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# Debian starts a daemon as it is installed. The tests run their own, on their own ports; one that
# someone had installed before is theirs and is left alone.
leave_no_service() {
  local package unit now=()
  [[ ! -d /run/systemd/system ]] || now=(--now)
  for package in "$@"; do
    case $package in
      docker-registry) unit=docker-registry.service ;;
      nginx-light) unit=nginx.service ;;
      *) continue ;;
    esac
    as_root systemctl --quiet disable "${now[@]}" "$unit" 2>/dev/null || say "could not disable $unit"
  done
}

add_rust_targets() {
  local missing=() target
  command -v rustup >/dev/null || return 0
  cd "$top" || exit # rust-toolchain.toml decides whose targets these are
  for target in "${rust_targets[@]}"; do
    rustup target list --installed | grep -qx "$target" || missing+=("$target")
  done
  ((${#missing[@]})) || return 0
  say "adding Rust targets ${missing[*]}"
  rustup --quiet target add "${missing[@]}"
}
