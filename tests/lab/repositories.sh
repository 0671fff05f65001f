# shellcheck shell=bash disable=SC2154 # part sets here, work and what lab.sh holds
# Part `repositories`: signed apt and dnf repositories of packages in the shape of Docker's
# containerd.io, made of the lab's own archives, and what else a repository may be: tampered with,
# unsigned, with packages that fail, take their time or start what they must not.
#
#   keys/     key.{asc,gpg} signs all; other.{asc,gpg} nothing that is served but what says so;
#             expired.{asc,gpg} is over; each with its fingerprint in NAME.fingerprint
#   deb/      suites bookworm and trixie, component stable; all other deb-* are flat (suite ./)
#   rpm/      one folder with repodata, and likewise rpm-*
#
# Packages are Docker's in name, dependencies, places, conffile and maintainer scripts; the binaries
# in them are Debian's (artifacts.sh), and everything is amd64.

# Time to be interrupted in: says that it is there, and waits for a minute or until it may go.
slow_script='touch /var/lib/lab-slow
for _ in $(seq 600); do [ ! -e /var/lib/lab-go ] || break; sleep 0.1; done
rm -f /var/lib/lab-slow /var/lib/lab-go'

# repositories FOLDER
repositories() {
  out=$1
  mkdir "$out"
  make_keys
  apt_repositories
  dnf_repositories
  # a daemon that gpg started
  gpgconf --kill all
}

# --- keys: the secret ones are gone with $work ----------------------------------------------------

make_keys() {
  export GNUPGHOME=$work/gnupg
  mkdir -m 700 "$GNUPGHOME"
  mkdir "$out/keys"
  make_key key never
  make_key other never
  make_key expired 1d --faked-system-time 20200101T000000!
}

# make_key NAME EXPIRES OPTION…: RSA, which every rpm and apt takes
make_key() {
  local name=$1 file=$out/keys/$1
  sign_with "${@:3}" --passphrase '' --quick-generate-key "lab $name <$name@lab.invalid>" rsa3072 sign "$2"
  sign_with --export "$name@lab.invalid" >"$file.gpg"
  sign_with --armor --export "$name@lab.invalid" >"$file.asc"
  sign_with --with-colons --fingerprint "$name@lab.invalid" | awk -F: '$1 == "fpr" {print $10; exit}' >"$file.fingerprint"
}

# clear_sign NAME FOLDER OPTION…: FOLDER/Release becomes FOLDER/InRelease
clear_sign() {
  sign_with "${@:3}" --local-user "$1@lab.invalid" --clear-sign --output "$2/InRelease" "$2/Release"
}

sign_with() {
  gpg --batch --yes --quiet --no-auto-check-trustdb --trust-model always "$@" 2>"$work/gpg.log" ||
    fail "gpg: $(<"$work/gpg.log")"
}

# --- apt ------------------------------------------------------------------------------------------

apt_repositories() {
  local folder
  for suite in bookworm trixie; do
    local number=12 runc=bookworm
    [[ $suite == bookworm ]] || number=13 runc=''
    folder=$out/deb/pool/$suite
    mkdir -p "$folder"
    deb_containerd "$folder" "1.7.24-1~debian.$number~$suite" 1.7 "$runc"
    deb_containerd "$folder" "2.1.9-1~debian.$number~$suite" 2.1 "$runc"
    index_suite "$suite"
  done
  # what differs is in the scripts and the control file
  one=$work/one && mkdir "$one"
  deb_containerd "$one" 1.7.24-1 1.7 bookworm
  variant deb-eager 1.7.24-2 eager
  variant deb-slow 1.7.24-3 slow
  variant deb-failing 1.7.24-4 failing
  # what it needs is in Debian, and in none of the lab's roots
  variant deb-needy 1.7.24-5 quiet ', libnl-3-200, libnl-genl-3-200'
  variant deb-broken 1.7.24-6 quiet ', lab-has-no-such-package'
  evil_repositories
}

# Hashes, signatures and keys that do not fit.
evil_repositories() {
  local folder
  evil deb-evil-package && flip_byte "$folder/containerd.io_1.7.24-1_amd64.deb"
  evil deb-evil-index && sed -i 's/^Section: devel/Section: evils/' "$folder/Packages"
  evil deb-evil-release && sed -i 's/^Suite: .*/Suite: evil/' "$folder/InRelease"
  evil deb-unsigned && rm "$folder/InRelease"
  evil deb-other && clear_sign other "$folder"
  evil deb-expired && clear_sign expired "$folder" --faked-system-time '20200101T010000!'
}

# evil NAME: a good flat repository, which is $folder
evil() {
  folder=$out/$1
  mkdir "$folder"
  ln "$one"/*.deb "$folder/"
  index_flat "$folder"
}

# variant NAME VERSION POSTINST [DEPENDS]
variant() {
  local name=$1 version=$2 folder=$out/$1
  mkdir "$folder"
  deb_containerd "$folder" "$version" 1.7 bookworm "$3" "${4:-}"
  index_flat "$folder"
}

# deb_containerd FOLDER VERSION GENERATION RUNC [POSTINST] [DEPENDS]: runc is the generation's, or
# `bookworm`, which runs in every root
deb_containerd() {
  local folder=$1 version=$2 tree postinst=${5:-quiet} depends=${6:-}
  tree=$(mktemp -d "$work/deb.XXXXXX")
  chmod 755 "$tree"
  package_files "$tree" "$3" "$4"
  mkdir "$tree/DEBIAN"
  echo /etc/containerd/config.toml >"$tree/DEBIAN/conffiles"
  cat >"$tree/DEBIAN/control" <<END
Package: containerd.io
Version: $version
Architecture: amd64
Installed-Size: $(du -sk --apparent-size "$tree" | cut -f1)
Maintainer: The lab <lab@lab.invalid>
Section: devel
Priority: optional
Depends: libc6 (>= 2.34), libseccomp2 (>= 2.5.0)$depends
Provides: containerd, runc
Conflicts: containerd, runc
Replaces: containerd, runc
Homepage: https://containerd.io
Description: An open and reliable container runtime
 In the shape of Docker's package; the binaries are Debian's.
END
  deb_scripts "$tree/DEBIAN" "$postinst"
  dpkg-deb --root-owner-group -Zzstd -z1 --build "$tree" "$folder/containerd.io_${version}_amd64.deb" >/dev/null
  rm -rf "$tree"
}

# What debhelper makes of `dh_installsystemd`, and a line for what is wrong with a variant.
deb_scripts() {
  local folder=$1
  cat >"$folder/postinst" <<'END'
#!/bin/sh
set -e
if [ "$1" = "configure" ] || [ "$1" = "abort-upgrade" ] || [ "$1" = "abort-deconfigure" ] || [ "$1" = "abort-remove" ] ; then
	deb-systemd-helper unmask 'containerd.service' >/dev/null || true
	if deb-systemd-helper --quiet was-enabled 'containerd.service'; then
		deb-systemd-helper enable 'containerd.service' >/dev/null || true
	else
		deb-systemd-helper update-state 'containerd.service' >/dev/null || true
	fi
	if [ -d /run/systemd/system ]; then
		systemctl --system daemon-reload >/dev/null || true
		if [ -n "$2" ]; then
			_dh_action=restart
		else
			_dh_action=start
		fi
		deb-systemd-invoke $_dh_action 'containerd.service' >/dev/null || true
	fi
fi
END
  case $2 in
    quiet) ;;
    # starts whatever it can, and leaves something in the background
    eager) cat ;;
    slow) echo "$slow_script" ;;
    failing) echo 'echo "lab: this postinst fails" >&2; exit 3' ;;
  esac >>"$folder/postinst" <<'END'
systemctl start containerd.service || true
invoke-rc.d containerd start || true
service containerd start || true
nohup sleep 1000 >/dev/null 2>&1 &
setsid sleep 1000 >/dev/null 2>&1 </dev/null &
END
  cat >"$folder/prerm" <<'END'
#!/bin/sh
set -e
if [ -z "${DPKG_ROOT:-}" ] && [ "$1" = remove ] && [ -d /run/systemd/system ] ; then
	deb-systemd-invoke stop 'containerd.service' >/dev/null || true
fi
END
  cat >"$folder/postrm" <<'END'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ] ; then
	systemctl --system daemon-reload >/dev/null || true
fi
if [ "$1" = "purge" ]; then
	if [ -x "/usr/bin/deb-systemd-helper" ]; then
		deb-systemd-helper purge 'containerd.service' >/dev/null || true
	fi
fi
END
  chmod 755 "$folder"/{postinst,prerm,postrm}
}

index_suite() {
  local suite=$1 dist=$out/deb/dists/$1
  mkdir -p "$dist/stable/binary-amd64"
  (cd "$out/deb" && apt-ftparchive packages "pool/$suite") >"$dist/stable/binary-amd64/Packages"
  gzip -nk "$dist/stable/binary-amd64/Packages"
  apt-ftparchive -o APT::FTPArchive::Release::Origin=Lab -o "APT::FTPArchive::Release::Suite=$suite" \
    -o "APT::FTPArchive::Release::Codename=$suite" -o APT::FTPArchive::Release::Architectures=amd64 \
    -o APT::FTPArchive::Release::Components=stable release "$dist" >"$work/Release"
  mv "$work/Release" "$dist/Release"
  clear_sign key "$dist"
  rm "$dist/Release"
}

# index_flat FOLDER
index_flat() {
  (cd "$1" && apt-ftparchive packages . >Packages)
  apt-ftparchive -o APT::FTPArchive::Release::Suite=lab release "$1" >"$work/Release"
  mv "$work/Release" "$1/Release"
  clear_sign key "$1"
}

# package_files TREE GENERATION RUNC: what every containerd.io has, in Docker's places
package_files() {
  local tree=$1 artifacts=$LAB/artifacts/$2
  mkdir -p "$tree"/{usr/bin,usr/lib/systemd/system,etc/containerd}
  tar -xzf "$artifacts"/containerd-*.tar.gz -C "$tree/usr"
  [[ $3 != bookworm ]] || artifacts=$LAB/artifacts/runc-bookworm
  install -m 755 "$artifacts/runc.amd64" "$tree/usr/bin/runc"
  cat >"$tree/usr/lib/systemd/system/containerd.service" <<'END'
[Unit]
Description=containerd container runtime
Documentation=https://containerd.io
After=network.target dbus.service
Wants=dbus.service

[Service]
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/bin/containerd

Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
END
  cat >"$tree/etc/containerd/config.toml" <<'END'
#   Licensed under the Apache License, Version 2.0

disabled_plugins = ["cri"]

#root = "/var/lib/containerd"
#state = "/run/containerd"
#subreaper = true
#oom_score = 0

#[grpc]
#  address = "/run/containerd/containerd.sock"
END
  [[ $2 == 1.* ]] || sed -i 's/^#subreaper.*/#imports = []/' "$tree/etc/containerd/config.toml"
  chmod -R u=rwX,go=rX "$tree"
}

# Same size, other bytes, and nobody else's file.
flip_byte() {
  cp "$1" "$1.new"
  mv "$1.new" "$1"
  printf '\xff' | dd of="$1" bs=1 seek=$(($(stat -c %s "$1") - 100)) conv=notrunc status=none
}

# --- dnf ------------------------------------------------------------------------------------------

dnf_repositories() {
  local folder=$out/rpm
  rpm_containerd "$folder" 1.7.24 1 1.7
  rpm_containerd "$folder" 2.1.9 1 2.1
  sign_rpms key "$folder"
  index_rpms "$folder"
  rpm_variant rpm-slow 2 "$slow_script"
  rpm_variant rpm-failing 3 'echo "lab: this scriptlet fails" >&2; exit 3'
  rpm_variant rpm-eager 4 'systemctl start containerd.service; nohup sleep 1000 >/dev/null 2>&1 & setsid sleep 1000 </dev/null >/dev/null 2>&1 &'
  rpm_variant rpm-broken 5 '' lab-has-no-such-package
  folder=$out/rpm-unsigned
  rpm_containerd "$folder" 1.7.24 1 1.7
  index_rpms "$folder"
  cp -r "$folder" "$out/rpm-other"
  folder=$out/rpm-other
  sign_rpms other "$folder"
  index_rpms "$folder"
  mkdir "$out/rpm-evil-package"
  cp "$out"/rpm/containerd.io-1.7.24-*.rpm "$out/rpm-evil-package"
  index_rpms "$out/rpm-evil-package"
  flip_byte "$out"/rpm-evil-package/*.rpm
}

# rpm_variant NAME RELEASE POST [REQUIRES]
rpm_variant() {
  local folder=$out/$1
  rpm_containerd "$folder" 1.7.24 "$2" 1.7 "$3" "${4:-}"
  sign_rpms key "$folder"
  index_rpms "$folder"
}

# rpm_containerd FOLDER VERSION RELEASE GENERATION [POST] [REQUIRES]
rpm_containerd() {
  local folder=$1 version=$2 tree requires=${6:+Requires: $6}
  tree=$(mktemp -d "$work/rpm.XXXXXX")
  package_files "$tree/files" "$4" bookworm
  cat >"$tree/package.spec" <<END
%global _build_id_links none
%global __os_install_post %{nil}
%global debug_package %{nil}
%global _binary_payload w1.zstdio
Name: containerd.io
Version: $version
Release: $3.el9
Summary: An industry-standard container runtime
License: ASL 2.0
AutoReqProv: no
Requires: /bin/sh
Requires: systemd
Requires: container-selinux >= 2:2.74
Requires: libseccomp
$requires
Provides: containerd
Provides: runc
Obsoletes: containerd
Obsoletes: runc
Conflicts: containerd
Conflicts: runc
%description
In the shape of Docker's package; the binaries are Debian's.
%install
cp -a $tree/files/. %{buildroot}/
%post -p /bin/sh
if [ \$1 -eq 1 ]; then
  systemctl --no-reload preset containerd.service >/dev/null 2>&1 || :
fi
${5:-}
%preun -p /bin/sh
if [ \$1 -eq 0 ]; then
  systemctl --no-reload disable --now containerd.service >/dev/null 2>&1 || :
fi
%postun -p /bin/sh
if [ \$1 -ge 1 ]; then
  systemctl try-restart containerd.service >/dev/null 2>&1 || :
fi
%files
/usr/bin/*
/usr/lib/systemd/system/containerd.service
%dir /etc/containerd
%config(noreplace) /etc/containerd/config.toml
END
  build_rpm "$tree" "$folder"
}

# base_stub FOLDER: what a real system's own packages provide, for the root `rocky` (roots.sh)
base_stub() {
  local tree
  tree=$(mktemp -d "$work/rpm.XXXXXX")
  cat >"$tree/package.spec" <<'END'
Name: base-stub
Version: 9.4
Release: 1
Summary: stands for the base system, whose files come from elsewhere
License: none
BuildArch: noarch
Provides: /bin/sh
Provides: bash
Provides: systemd = 252
Provides: container-selinux = 3:2.229
Provides: libseccomp = 2.5.2
Provides: system-release = 9.4
Provides: system-release(releasever) = 9
%description
stub
%files
END
  build_rpm "$tree" "$1"
  mv "$1"/base-stub-*.rpm "$1/base-stub.rpm"
}

build_rpm() {
  local tree=$1 folder=$2
  mkdir -p "$folder"
  rpmbuild -bb --quiet --target x86_64 --define "_topdir $tree/top" --define "_rpmdir $tree/rpms" \
    --define '_build_name_fmt %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm' "$tree/package.spec" >"$tree/log" 2>&1 ||
    fail "rpmbuild: $(tail -n 20 "$tree/log")"
  mv "$tree"/rpms/*.rpm "$folder/"
  rm -rf "$tree"
}

sign_rpms() {
  rpmsign --define "_gpg_name $1@lab.invalid" --define "_gpg_path $GNUPGHOME" --define "__gpg $(command -v gpg)" --resign "$2"/*.rpm \
    >"$work/rpmsign.log" 2>&1 || fail "rpmsign: $(<"$work/rpmsign.log")"
}

index_rpms() {
  createrepo_c --quiet --no-database "$1"
  sign_with --local-user key@lab.invalid --armor --detach-sign "$1/repodata/repomd.xml"
}
