# shellcheck shell=bash disable=SC2154 # prepare sets here, and what lab.sh holds
# Debian packages and Rust targets that something needs and this machine lacks. A set names all that it
# needs itself, so that a machine with nothing but Rust, gcc and make installs no more than that.

demo_packages=(
  mmdebstrap debian-archive-keyring     # a root
  gzip jq python3 busybox-static        # archives, images
  iproute2 mount procps util-linux      # node
  systemd                               # an offline look with systemctl
)
boot_packages=(
  "${demo_packages[@]}"
  qemu-system-x86 e2fsprogs fdisk       # a machine and its disk
)
dist_packages=(
  musl-tools gcc-aarch64-linux-gnu libc6-dev-arm64-cross # C code in crates is compiled for both
)
tests_packages=(
  "${boot_packages[@]}"
  curl xz-utils zstd                    # archives
  skopeo docker-registry                # a registry that serves the images
  openssl                               # a private CA
  file                                  # what a binary says of itself
  strace                                # system calls seen, and made to fail
  xfsprogs btrfs-progs                  # power cuts and quotas on filesystems of their own
  g++                                   # the fuzzer's engine
  valgrind                              # instructions counted
  systemd-container                     # nspawn
  genisoimage                           # a seed for cloud-init
  packer xorriso openssh-client         # sshd, and the builds of packer/:
  dosfstools mtools ovmf                # disks that boot by UEFI
  apt-utils gnupg rpm createrepo-c      # repositories and their signatures
)
bench_packages=(
  debian-archive-keyring gzip jq python3 # archives
  hyperfine strace time                 # measuring
  curl mount openssl e2fsprogs xfsprogs # inputs
  isal libarchive-tools                 # the fastest gzip; bsdtar
  ansible-core nginx-light
)
dist_targets=(x86_64-unknown-linux-musl aarch64-unknown-linux-musl)

declare -A package_sets=(
  [demo]=${demo_packages[*]}
  [boot]=${boot_packages[*]}
  [dist]=${dist_packages[*]}
  [tests]=${tests_packages[*]}
  [bench]=${bench_packages[*]}
)

# install_sets SET…: packages by one apt, and beside it the Rust targets
install_sets() {
  local packages targets
  mapfile -t packages < <(missing_packages "$@")
  targets=$(missing_targets "$@")
  mapfile -t targets <<<"$targets"
  [[ -n ${targets[*]} ]] || targets=()
  add_rust_targets "${targets[@]}" &
  local adding=$!
  install_packages "${packages[@]}" &
  local installing=$!
  wait "$installing" || { wait "$adding" || true; exit 1; }
  wait "$adding" || fail "could not add Rust targets: see above"
}

missing_packages() {
  local set package
  for set in "$@"; do
    for package in ${package_sets[$set]}; do
      is_installed "$package" || echo "$package"
    done
  done | sort -u
}

missing_targets() {
  local installed target
  [[ " $* " == *' dist '* ]] && command -v rustup >/dev/null || return 0
  installed=$(rustup target list --installed) || fail "rustup can't list its targets"
  for target in "${dist_targets[@]}"; do
    [[ $'\n'$installed$'\n' == *$'\n'$target$'\n'* ]] || echo "$target"
  done
}

add_rust_targets() {
  (($#)) || return 0
  cd "$top" || exit
  say "adding Rust targets $*"
  rustup --quiet target add "$@"
}

install_packages() {
  local log
  (($#)) || return 0
  say "installing $*"
  log=$(as_root apt-get -q update 2>&1) || fail "apt-get update: $log"
  log=$(install_or_downgrade "$@") || fail "apt-get install: $log"
  leave_no_service "$@"
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
