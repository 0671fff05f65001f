# shellcheck shell=bash disable=SC2034,SC2154 # what this has in common with the script that sources it
# What the guests of `nspawn`, `qemu` and `boot` have in common: a throw-away tree, and the proof:
# the test's script, run once the guest is up, which then ends.

# make_tree ROOT: an overlay of it at $scratch/root, which is $tree
make_tree() {
  tree=$scratch/root
  cd "$scratch" || exit
  mkdir lower upper work root
  # bound and relative: overlay's option string takes no colon or comma in a path
  mount --bind "$1" lower
  mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay root
  # there is nobody to ask
  rm -f "$tree/etc/resolv.conf"
  touch "$tree/etc/resolv.conf"
}

# It is pulled in by the kernel command line or what stands for it: no preset and no first boot
# takes it away, and it is nobody's enablement link. multi-user.target is reached whether containerd
# is there, comes up or fails; cloud-final.service comes after that and counts where there is a seed.
proof_argument=systemd.wants=lab-proof.service

# add_proof SCRIPT RESULT CODE END…: what SCRIPT prints goes to RESULT in the guest and its exit
# code to CODE, then the guest runs END.
add_proof() {
  local folder=$tree/usr/lib/lab
  mkdir -p "$folder" "$tree/usr/lib/systemd/system"
  cp "$1" "$folder/script"
  proof >"$folder/proof"
  # without the default dependencies it would come before multi-user.target
  cat >"$tree/usr/lib/systemd/system/lab-proof.service" <<END
[Unit]
Description=The lab's proof
DefaultDependencies=no
Requires=sysinit.target
After=sysinit.target multi-user.target containerd.service network-online.target cloud-final.service
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=exec
Environment=HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/bin/bash /usr/lib/lab/proof ${*:2}
END
}

proof() {
  cat <<'END'
result=$1 where=$2
shift 2
for port in "$result" "$where"; do
  [[ ! -c $port ]] || stty -F "$port" raw
done
# what comes after the targets, such as a record of the runlevel
timeout 30 systemctl is-system-running --wait >/dev/null
boot=$(($(cat /usr/lib/lab/boots 2>/dev/null || echo 0) + 1))
echo "$boot" >/usr/lib/lab/boots
code=0
bash /usr/lib/lab/script "$boot" </dev/null >"$result" 2>&1 || code=$?
[[ ! -c $result ]] || stty -F "$result" raw # returns when all has been sent
echo "$code" >"$where"
exec "$@"
END
}
