# shellcheck shell=bash disable=SC2154 # part sets here, work and what lab.sh holds
# Part `artifacts`: Debian's builds of containerd, runc and the CNI plugins, in the archives that
# upstream would have released: its file names, members, modes and checksum files. One folder a
# generation, with versions.json for what it holds; gzip's bytes differ from one gzip to the
# next, so no digest of an archive is written down anywhere else.
#
# Unlike upstream's, these binaries need glibc (runc 1.1.15 and 1.3.6 even 2.38, which bookworm
# has not), there is no containerd-stress, and `runc.sha256sum` carries no true signature.

# artifacts FOLDER NAME
artifacts() {
  case $2 in #         arch  containerd runc   cni-plugins
    1.6) generation "$1" amd64 1.6.20 1.1.5 1.1.1 ;;
    1.7) generation "$1" amd64 1.7.24 1.1.15 1.1.1 ;;
    2.1) generation "$1" amd64 2.1.9 1.3.6 1.9.1 ;;
    2.1-arm64) generation "$1" arm64 2.1.9 1.3.6 1.9.1 ;;
    runc-bookworm) bookworm_runc "$1" ;;
    *) fail "unknown artifacts" ;;
  esac
}

# component, version, architecture, and the Debian package it comes from: suite, version, SHA-256
releases() {
  cat <<'END'
containerd  1.6.20 amd64 bookworm 1.6.20~ds1-1+deb12u3 8669d264eeb0fcdb4a0b1ba436ab88ec5dafde4a66e1278ec279d830db4c2216
containerd  1.7.24 amd64 trixie   1.7.24~ds1-6+deb13u1 ed708deb96fe476a3bce4efa5c0538dfbcf717ab9a7c7944ba7260342c25899c
containerd  2.1.9  amd64 sid      2.1.9+ds1-5          2dda86ce7033fd612fc50e136679d8174ccad680eb29cd4611e0d2a1b84cf591
containerd  2.1.9  arm64 sid      2.1.9+ds1-5          43426c2af51f051e86374143d34031830ee5d0ff16bc23f35c6f498f27f8389d
runc        1.1.5  amd64 bookworm 1.1.5+ds1-1+deb12u1  a00351f8c0318de0b424ecf5cd0fdb69880a89f3511cae4f6fff7de3e57881c5
runc        1.1.15 amd64 trixie   1.1.15+ds1-2+b4      fad4f807a369677f0954bd4c61e56ddb2dd8b3f4aec30c3834c3165fc6d3c19f
runc        1.3.6  amd64 sid      1.3.6+ds1-1          8e95d7bdfd22242ae4d48d58e3c277ba2b69dffc4ed8e573b837e6e93925d911
runc        1.3.6  arm64 sid      1.3.6+ds1-1          ca500e0c580e6278f986e342659c7df7654a84e978ec45d1c91f3e7713cc0930
cni-plugins 1.1.1  amd64 bookworm 1.1.1+ds1-3+b5       4cac8143474d1249b19f7b0e80b8d0daaa6dfdaa8bd514bc468d38d4a108099f
cni-plugins 1.9.1  amd64 sid      1.9.1+ds1-1          12857dd3136d61e00bffcc2c8823d14df586e94406098326e02846cfa46a058e
cni-plugins 1.9.1  arm64 sid      1.9.1+ds1-1          f3da010c16eb52e1fe2cbb35ba3c724f2bd2c647b57ffe215d8fad4336d08a53
goss        0.4.9  amd64 trixie   0.4.9-2+b3           6d7fe64e2a1d7c458d619bec0ecb3c551974728f7f6ba1492fa59d44c9284d40
END
}

generation() {
  local out=$1 arch=$2 containerd=$3 runc=$4 plugins=$5
  mkdir "$out"
  pack_containerd "$out" "$arch" "$containerd"
  pack_runc "$out" "$arch" "$runc"
  pack_plugins "$out" "$arch" "$plugins"
  write_versions "$out" "$arch"
}

# The only one of the three that runs on bookworm, for use with any generation.
bookworm_runc() {
  mkdir "$1"
  pack_runc "$1" amd64 1.1.5
  write_versions "$1" amd64
}

# Not a part of a node: it judges one. Needs no more of a root than its libc.
goss() {
  local tree
  tree=$(unpacked goss 0.4.9 amd64)
  install -m 755 "$tree/usr/bin/goss" "$1"
}

pack_containerd() {
  local out=$1 arch=$2 tree version file stage
  tree=$(unpacked containerd "$3" "$arch")
  version=$(<"$tree.version")
  file=containerd-$version-linux-$arch.tar.gz
  stage=$(mktemp -d "$work/stage.XXXXXX")
  mkdir "$stage/bin"
  # the shims of v1 are in 1.x only
  for binary in containerd containerd-shim containerd-shim-runc-v1 containerd-shim-runc-v2 ctr; do
    [[ ! -e $tree/usr/bin/$binary ]] || install -m 755 "$tree/usr/bin/$binary" "$stage/bin/"
  done
  archive "$stage" bin "$out/$file"
  (cd "$out" && sha256sum "$file" >"$file.sha256sum")
  record "$out" containerd "$version" "$file"
}

pack_runc() {
  local out=$1 arch=$2 tree version
  tree=$(unpacked runc "$3" "$arch")
  version=$(<"$tree.version")
  install -m 755 "$tree/usr/sbin/runc" "$out/runc.$arch"
  runc_checksums "$3" "$arch" "$tree" >"$out/runc.sha256sum"
  record "$out" runc "$version" "runc.$arch"
}

# One clear-signed list for the whole release, as upstream writes it. What the lab has no file for
# gets a digest that no file has, so that whoever picks the wrong line notices.
runc_checksums() {
  local version=$1 arch=$2 tree=$3 suffix other digest
  printf -- '-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n'
  for suffix in amd64 386 arm64 armel armhf ppc64le riscv64 s390x tar.xz; do
    if [[ $suffix == "$arch" ]]; then
      digest=$(sha256sum <"$tree/usr/sbin/runc")
    elif [[ -n $(release runc "$version" "$suffix") ]]; then
      other=$(unpacked runc "$version" "$suffix")
      digest=$(sha256sum <"$other/usr/sbin/runc")
    else
      digest=$(sha256sum <<<"runc.$suffix is not in the lab")
    fi
    printf '%s  runc.%s\n' "${digest%% *}" "$suffix"
  done
  printf -- '-----BEGIN PGP SIGNATURE-----\n\n%s\n-----END PGP SIGNATURE-----\n' \
    "$(base64 -w 64 <<<'The lab has no key of upstream: this is a signature in shape only.')"
}

# The archive's own `./` entry is upstream's: extracted as root it changes the mode of
# /opt/cni/bin. It was 0775 until 1.4.0; LICENSE and README.md came in 1.4.1.
pack_plugins() {
  local out=$1 arch=$2 tree version file stage
  tree=$(unpacked cni-plugins "$3" "$arch")
  version=$(<"$tree.version")
  file=cni-plugins-linux-$arch-v$version.tgz
  stage=$(mktemp -d "$work/stage.XXXXXX")
  install -m 755 "$tree"/usr/lib/cni/* "$stage/"
  chmod 775 "$stage"
  if printf '1.4.1\n%s\n' "$version" | sort --check --version-sort 2>/dev/null; then
    chmod 755 "$stage"
    install -m 644 /usr/share/common-licenses/Apache-2.0 "$stage/LICENSE"
    install -m 644 /dev/stdin "$stage/README.md" <<<'# Plugins: some CNI network plugins'
  fi
  archive "$stage" . "$out/$file"
  (cd "$out" && sha256sum "$file" >"$file.sha256")
  record "$out" cni-plugins "$version" "$file"
}

# unpacked COMPONENT VERSION ARCH: prints the folder that holds the Debian package's files;
# FOLDER.version says which upstream version it really is.
unpacked() {
  local component=$1 tree=$work/$1-$2-$3 row suite version sha256 pool package deb
  if [[ ! -d $tree ]]; then
    row=$(release "$@")
    read -r suite version sha256 <<<"$row"
    case $component in
      cni-plugins) package=containernetworking-plugins pool=pool/main/g/golang-github-containernetworking-plugins ;;
      *) package=$component pool=pool/main/${component::1}/$component ;;
    esac
    deb=$(deb "$package" "$pool" "$3" "$suite" "$version" "$sha256")
    dpkg-deb --extract "$deb" "$tree"
    upstream_version "$(basename "$deb")" >"$tree.version"
    rm "$deb"
  fi
  echo "$tree"
}

release() {
  releases | awk -v c="$1" -v v="$2" -v a="$3" '$1 == c && $2 == v && $3 == a {print $4, $5, $6}'
}

# archive FOLDER MEMBER FILE: the same bytes for the same input
archive() {
  tar --directory="$1" --create --sort=name --format=gnu --owner=0 --group=0 --numeric-owner \
    --mtime='2024-01-01 00:00:00Z' "$2" | gzip -n -6 >"$3"
}

record() {
  local digest
  digest=$(sha256sum <"$1/$4")
  jq -n --arg component "$2" --arg version "$3" --arg file "$4" --arg sha256 "${digest%% *}" \
    --argjson size "$(stat -c %s "$1/$4")" '{($component): {$version, $file, $size, $sha256}}' >"$1/.$2.json"
}

write_versions() {
  jq --slurp --arg arch "$2" '{$arch} + add' "$1"/.*.json >"$1/versions.json"
  rm "$1"/.*.json
}
