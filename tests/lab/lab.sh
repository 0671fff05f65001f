# shellcheck shell=bash
# What every script of the lab shares: where the lab lies, how it speaks, how it keeps a result.
set -euo pipefail
shopt -s inherit_errexit

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
LAB=$(realpath -m "${CARGO_TARGET_DIR:-$top/target}")/lab

# Parts are made side by side: a line names its part, and is written at once.
say() { printf 'lab: %s\n' "${making:+$making: }$*" >&2; }
fail() { say "$@"; exit 1; }

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# keep RESULT FUNCTION [ARG…]: FUNCTION fills a path beside RESULT, a path below the lab, which is
# renamed once it is whole: a result that is there is complete, and an interrupted run leaves nothing
# to trust.
keep() {
  local kept=$LAB/$1 new
  new=$(dirname "$kept")/.$(basename "$kept").new
  [[ ! -e $kept ]] || return 0
  say "in the making"
  mkdir -p "$(dirname "$kept")"
  [[ ! -e $new ]] || as_root rm -rf --one-file-system "$new"
  "$2" "$new" "${@:3}"
  mv -T "$new" "$kept"
  say "made in $SECONDS s"
}
