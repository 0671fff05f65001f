# shellcheck shell=bash disable=SC2034,SC2154 # what this has in common with the script that sources it
# Cgroups of its own for what `node` and `nspawn` start, on hosts with either version of them.

# make_cgroups NAME: one cgroup in each hierarchy, which becomes the root that the guest sees: what
# containerd and runc make is below it and can be told from another guest's. Fills `groups`;
# `unified` is the one of version 2.
make_cgroups() {
  local name=$1 controllers path hierarchy parent group
  groups=()
  unified=$scratch # a kernel without version 2: the lines for it go to plain files
  mkdir "$scratch/cgroups"
  while IFS=: read -r _ controllers path; do
    hierarchy=$scratch/cgroups/${controllers:-unified}
    mkdir "$hierarchy"
    if [[ -n $controllers ]]; then
      mount -t cgroup -o "$controllers" none "$hierarchy"
      parent=$hierarchy${path%/}
    else
      # not below this process's own group: in version 2 processes live in leaves only
      mount -t cgroup2 none "$hierarchy"
      parent=$hierarchy
      unified=$hierarchy/$name.$$
    fi
    sweep "$parent" "$name"
    group=$parent/$name.$$
    groups+=("$group") # first: a signal may come between the two
    mkdir "$group"
    case $controllers in
      *cpuset*) copy "$parent" "$group" cpuset.{cpus,mems} ;; # a new one is empty and takes no process
    esac
  done </proc/self/cgroup
}

# What a run that was killed outright left: empty groups, named by its process.
sweep() {
  local group
  for group in "$1/$2".*; do
    [[ ! -d $group || -d /proc/${group##*.} ]] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
}

copy() {
  local file
  for file in "${@:3}"; do cat "$1/$file" >"$2/$file"; done
}

enter_cgroups() {
  local group
  for group in "${groups[@]}"; do echo "$BASHPID" >"$group/cgroup.procs"; done
}

remove_cgroups() {
  local group
  for group in "${groups[@]}"; do
    for _ in {1..50}; do
      [[ -d $group ]] || continue 2
      find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && continue 2
      sleep 0.1 # its last process is on its way out
    done
    say "could not remove $group"
  done
}
