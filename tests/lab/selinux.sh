# shellcheck shell=bash disable=SC2154 # part sets here, work and what lab.sh holds
# Part `selinux`: Debian's SELinux policy and the tools that judge labels by it.
#
# Nothing is installed: policycoreutils has a machine without SELinux marked for a relabelling at every
# boot, and selinux-policy-default loads its policy where there is SELinux.

# selinux DIR: the policy in DIR/etc/selinux/default, made as the postinst of its package does, setfiles in
# DIR/sbin and matchpathcon in DIR/usr/sbin.
selinux() {
  local package modules log
  mkdir -p "$1/var/lib/selinux" "$work/selinux"
  log=$(fetch_packages policycoreutils selinux-utils selinux-policy-default) ||
    fail "apt-get download: $(hide_hosts <<<"$log")"
  for package in "$work"/selinux/*.deb; do dpkg-deb --extract "$package" "$1"; done
  cat >"$1/etc/selinux/semanage.conf" <<END
module-store = direct
compiler-directory = $1/usr/libexec/selinux/hll
[setfiles]
path = $1/sbin/setfiles
args = -q -c \$@ \$<
[end]
[sefcontext_compile]
path = $1/usr/sbin/sefcontext_compile
args = \$@
[end]
END
  mapfile -t modules <"$1/usr/share/selinux/default/.modules"
  modules=("${modules[@]/%/.pp.bz2}")
  log=$(cd "$1/usr/share/selinux/default" &&
    "$1/usr/sbin/semodule" --path "$1" --noreload --store default "${modules[@]/#/--install=}" 2>&1) ||
    fail "semodule: $log"
  rm -r "$1/var/lib/selinux" "$1/usr/share"
}

# fetch_packages PACKAGE…: into $work/selinux, as this machine's apt would install them.
fetch_packages() {
  cd "$work/selinux"
  # A machine that is new has no lists.
  apt-get -q -o APT::Sandbox::User= download "$@" 2>&1 || {
    as_root apt-get -q update 2>&1
    apt-get -q -o APT::Sandbox::User= download "$@" 2>&1
  }
}
