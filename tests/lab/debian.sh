# shellcheck shell=bash disable=SC2154 # part sets here, work and what lab.sh holds
# Debian's archive, through the mirror that this machine's apt is configured with. apt does the
# fetching, so proxies, credentials and signatures are its business. The mirror's name is read
# when it is needed and goes to no file that outlives the run.

keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# mirror: prints its base URL. `--print-uris` reads every form of sources, with or without lists.
mirror() {
  local base=${LAB_MIRROR:-}
  [[ -n $base ]] || base=$(apt-get update --print-uris 2>/dev/null |
    sed -nE "s#^'(.*/debian)/+dists/[^/]+/(In)?Release' .*#\1#p" | sort -u | sed 1q)
  [[ -n $base ]] || fail "no source of this machine's apt ends in /debian: name a mirror in LAB_MIRROR"
  echo "${base%/}"
}

# deb PACKAGE POOL ARCH SUITE VERSION SHA256: prints the path of the package, its digest checked.
# The recorded package answers as long as the pool holds it. A rebuild or a point release takes it
# away: then the suite's index knows what came in its place.
deb() {
  local package=$1 pool=$2 arch=$3 suite=$4 version=$5 sha256=$6 row path digest
  download "$pool/${package}_${version}_$arch.deb" "$sha256" && return
  read_index "$suite"
  row=$(awk -v a="$arch" -v p="$package" '$1 == a && $2 == p {print $3, $4}' "$work/index.$suite")
  [[ -n $row ]] || fail "the mirror's $suite has no $package for $arch"
  read -r path digest <<<"$row"
  [[ $(upstream_version "$path") == $(upstream_version "_$version") ]] ||
    say "$package $(upstream_version "_$version") has left Debian: taking $(upstream_version "$path")"
  download "$path" "$digest" || fail "could not download $path from the mirror"
}

download() {
  local file
  file=$work/$(basename "$1")
  /usr/lib/apt/apt-helper -o Acquire::Retries=3 -o APT::Sandbox::User= -qq \
    download-file "$(mirror)/$1" "$file" "SHA256:$2" >/dev/null 2>&1 && echo "$file"
}

# upstream_version NAME_VERSION_ARCH.deb: 2.1.9 of containerd_2.1.9+ds1-5_amd64.deb
upstream_version() {
  local version
  version=$(basename "$1")
  version=${version#*_}
  echo "${version%%[~+_-]*}"
}

# read_index SUITE: $work/index.SUITE has architecture, package, path and SHA-256 of what the lab may ask
# for. Read by an apt with a state of its own: this machine's lists and packages play no part.
read_index() {
  local suite=$1 base list log
  [[ ! -e $work/index.$suite ]] || return 0
  base=$(mirror)
  mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial"
  touch "$work/apt/status"
  echo "deb [arch=amd64,arm64 target=Packages signed-by=$keyring] $base $suite main" >"$work/apt/sources.list"
  cat >"$work/apt.conf" <<END
Dir::State "$work/apt";
Dir::State::Status "$work/apt/status";
Dir::Cache "$work/apt";
Dir::Etc::SourceList "$work/apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
pkgCacheFile::Generate "false";
END
  say "reading the package index of Debian's $suite"
  log=$(apt-get -c "$work/apt.conf" -qq update --error-on=any 2>&1) ||
    fail "the mirror does not answer as a Debian archive (LAB_MIRROR names another one): $(hide_hosts <<<"$log")"
  for list in "$work"/apt/lists/*_dists_"$suite"_main_binary-*_Packages*; do
    [[ $list =~ _binary-([a-z0-9]+)_Packages ]]
    /usr/lib/apt/apt-helper cat-file "$list" |
      awk -v arch="${BASH_REMATCH[1]}" '
        $1 == "Package:" {package = $2}
        $1 == "Filename:" {path = $2}
        $1 == "SHA256:" && package ~ /^(containerd|runc|containernetworking-plugins|goss)$/ {print arch, package, path, $2}'
  done >"$work/index.new"
  mv "$work/index.new" "$work/index.$suite"
}

# What this machine's apt needs to reach its mirror: proxies and leniency.
acquire_configuration() {
  apt-config dump | grep -E '^Acquire::(https?::(Proxy|CaInfo|Verify)|Check-|Retries)' || true
}

hide_hosts() { sed -E 's#(https?://)[^/ ]+#\1…#g'; }
