#!/bin/sh
# Runs the static nodebake for this machine, for the shell provisioners of Packer.
#
#   nodebake.sh apply | verify
#
#   NODEBAKE_FILES      directory with bin/nodebake-linux-* and with the files that the spec names
#   NODEBAKE_ROOT       the root filesystem; default: that of this machine. In this case a successful
#                       `verify` removes NODEBAKE_FILES
#   NODEBAKE_SPEC       name of the spec in NODEBAKE_FILES
#   NODEBAKE_SPEC_TEXT  the text of the spec, if NODEBAKE_SPEC is empty
#   NODEBAKE_SOURCE     name of a directory or a bundle in NODEBAKE_FILES, or the URL of a mirror; default: upstream
#
# Progress is printed in plain lines on one stream, so that Packer keeps their order. If nodebake
# fails, the last line is its error, and the script exits with its exit code.
set -eu

[ "$(id -u)" -eq 0 ] || exec sudo -E sh "$0" "$@"

main() {
  files=$NODEBAKE_FILES
  root=${NODEBAKE_ROOT:-/}
  export NO_COLOR=1
  exec 2>&1
  case ${1:-} in
    apply)
      [ "$root" != / ] || wait_for_cloud_init
      apply
      ;;
    verify)
      nodebake verify --root "$root"
      [ "$root" != / ] || rm -rf "$files"
      ;;
    *) fail 2 "usage: nodebake.sh apply | verify" ;;
  esac
}

# cloud-init may still be creating users and writing mirrors and packages when Packer connects with ssh.
wait_for_cloud_init() {
  [ -d /run/systemd/system ] && command -v cloud-init >/dev/null || return 0
  code=0
  cloud-init status --wait >/dev/null || code=$?
  # 2: done, with recoverable errors
  [ "$code" -eq 0 ] || [ "$code" -eq 2 ] || { cloud-init status --long; fail 1 "cloud-init has failed in this machine"; }
}

apply() {
  spec=${NODEBAKE_SPEC:-}
  if [ -z "$spec" ]; then
    spec=variables.yaml
    printf '%s\n' "${NODEBAKE_SPEC_TEXT:-}" >"$files/$spec"
  fi
  set -- --root "$root" --spec "$files/$spec"
  case ${NODEBAKE_SOURCE:-} in
    '') ;;
    *://*) set -- "$@" --source "$NODEBAKE_SOURCE" ;;
    *) set -- "$@" --source "$files/$NODEBAKE_SOURCE" --offline ;;
  esac
  nodebake apply "$@"
}

nodebake() {
  binary=$files/bin/nodebake-linux-$(machine)
  [ -f "$binary" ] || fail 1 "$binary was not uploaded: does the directory that \`nodebake\` names hold it?"
  [ -x "$binary" ] || chmod +x "$binary"
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  { code=0; "$binary" "$@" 2>&1 || code=$?; echo "$code" >"$scratch/code"; } | tee "$scratch/said"
  read -r code <"$scratch/code"
  [ "$code" -eq 0 ] || fail "$code" "$(grep '^nodebake: error: ' "$scratch/said" | tail -n 1)" "$1"
}

machine() {
  case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64 | arm64) echo arm64 ;;
    *) uname -m ;;
  esac
}

# fail CODE ERROR [COMMAND]
fail() {
  echo "${2:-nodebake: error: $3 ended with exit code $1}"
  exit "$1"
}

main "$@"
