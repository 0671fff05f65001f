"""The targets for the speed of nodebake, and the report: the text of BENCH.md."""

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from inputs import NODEBAKE, TARGET, checked


@dataclass
class Target:
    """A figure, its upper limit, and the measurement: two commands of one group, or one."""

    what: str
    most: float
    group: str
    name: str
    beside: str | None = None
    #: "ratio" of wall times, "memory" in MiB.
    kind: str = "ratio"

    def measured(self, groups):
        group = groups.get(self.group)
        if group is None:
            return None
        return group.peaks[self.name] if self.kind == "memory" else group.ratio(self.name, self.beside)


def ratio(what, most, group, name, beside):
    return Target(what, most, group, name, beside)


SHELL, BAKE, SLOW = "shell, sync -f", "Fresh bake", "30 MiB/s for each connection, over TLS"
DIRTY = "Without a flush, beside 2 GiB that another program has not flushed"
LOCKED = "nodebake, members in its lock"
NETWORK, AGAIN, LARGE = "Over the network", "Nothing to do", "Archives ten times the size"

TARGETS = [
    ratio("fresh bake, verified and durable / shell with `sync -f`", 0.20, BAKE, "nodebake", SHELL),
    ratio("fresh bake / the best shell", 0.50, BAKE, "nodebake", "igzip, two at once, sync -f"),
    ratio("fresh bake / inflating alone", 1.5, BAKE, "nodebake", "floor: inflate"),
    ratio("fresh bake with pinned members / shell with `sync -f`", 0.20, BAKE, LOCKED, SHELL),
    ratio("fresh bake with pinned members / the best shell", 0.50, BAKE, LOCKED, "igzip, two at once, sync -f"),
    ratio("fresh bake with pinned members / inflating alone", 1.5, BAKE, LOCKED, "floor: inflate"),
    ratio("fresh bake / the same without a flush", 1.2, "Without a flush", "nodebake", "nodebake without a flush"),
    ratio("fresh bake beside 2 GiB of another program / the same without a flush", 1.25, DIRTY, "nodebake", "nodebake without a flush"),
    ratio("fresh bake with 20 ms for a flush, by strace / shell", 0.40, "A disk that takes 20 ms for a flush", "nodebake", SHELL),
    ratio("http bake / curl, sha256sum, tar", 0.25, NETWORK, "nodebake", "curl, sha256sum, tar, sync -f"),
    ratio("https bake / http bake", 1.25, NETWORK, "nodebake over TLS", "nodebake"),
    ratio("bake at 30 MiB/s for a connection / three curls", 1.20, SLOW, "nodebake", "three curls side by side, nothing kept"),
    ratio("bake with pinned members at 30 MiB/s for a connection / three curls", 1.20, SLOW, LOCKED, "three curls side by side, nothing kept"),
    ratio("re-run with nothing to do / `sha256sum -c`", 0.25, AGAIN, "nodebake apply", "sha256sum -c"),
    ratio("`verify` / `sha256sum -c`", 0.25, AGAIN, "nodebake verify", "sha256sum -c"),
    ratio("16 roots on xfs / one root", 1.3, "Many roots on xfs", "nodebake, 16 roots", "nodebake, 1 root"),
    ratio("16 roots on btrfs / one root", 1.3, "Many roots on btrfs", "nodebake, 16 roots", "nodebake, 1 root"),
    ratio("16 roots on ext4 / tar once and 15 `cp -a`", 0.60, "Many roots on ext4", "nodebake, 16 roots", "tar once and cp -a, 16 roots"),
    ratio("fresh bake / Ansible", 0.05, "Ansible doing the same, over the network", "nodebake", "ansible-playbook"),
    Target("peak memory, MiB", 16, BAKE, "nodebake", kind="memory"),
    Target("peak memory over TLS, MiB", 32, NETWORK, "nodebake over TLS", kind="memory"),
    Target("peak memory, archives ten times the size, MiB", 16, LARGE, "nodebake", kind="memory"),
    Target("peak memory over TLS, archives ten times the size, MiB", 32, LARGE, "nodebake over TLS", kind="memory"),
    ratio("process start / `/bin/true`", 2, "Process start", "nodebake --version", "/bin/true"),
]

READING = """A ratio compares wall times. It is the median of the ratios of the single rounds. "Pinned members" are digests
of an archive's members in `nodebake.lock`, written by `nodebake lock`."""

# Why a target may be missed, by row, and possible next steps. The figures in these texts were measured
# once, on two cores with SHA-NI.
HASHING = """More than half of a bake's processor time is spent on inflating. A third is spent on SHA-256. There are
three hashes: of each archive before it is parsed, of the bytes while they are parsed (a source that others can write
to may have changed in between), and of each installed file for the receipt. The lower bound on two processors is
(inflate + hash + write) / 2, all three hashes included, and a bake takes less than a tenth longer. If a processor is
idle, hashing and writing run there at no extra time: when one archive is upgraded, or when there are more processors
than archives. In this measurement both processors are busy. If `nodebake lock` has pinned the digests of the members,
the third hash is skipped, as in the rows with pinned members. Possible next steps: a read lease on the source instead
of the second hash (this needs unsafe code), and an inflate that is faster than zlib-rs. Tried without enough gain:
two interleaved SHA-256 streams on one thread (0.97 to 1.30 times as fast, depending on the machine)."""
WAITING = """Decoding begins when the last byte has arrived and the digest has matched. Both archives arrive at the
same rate, so inflating and writing them remains to be done at the end. This takes as long as the row "floor: inflate"
says; with pinned members nothing else remains. Possible next steps: two range requests for each archive, which halves
the wait on a limited connection, or decoding while bytes arrive, which would parse bytes that are not verified."""
FLUSHING = """Every file and every directory of every root is flushed separately, 63 flushes for each root, because
a flush of the whole filesystem waits for the data of other programs. On btrfs each flush is a commit of its log.
Possible next steps: a single flush of the filesystem if it belongs to the image alone, and an allocator without
musl's single lock for all threads (mimalloc: 0.9 of the time on btrfs and ext4, but 23 MiB instead of 6)."""
COPYING = """ext4 can't share extents. For each of the other fifteen roots the kernel copies and the disk writes
176 MB, for `cp -a` as well, so the speed of the disk decides. Possible next step: xfs or btrfs, which share
extents."""
WHY = [
    (HASHING, ("shell with", "best shell", "inflating alone")),
    (WAITING, ("30 MiB/s", "three curls")),
    (FLUSHING, ("on xfs", "on btrfs")),
    (COPYING, ("on ext4",)),
]


def report(groups, load):
    by_title = {group.title: group for group in groups}
    lines = ["# Speed", "", *machine(load), "", "## Targets", "", " ".join(READING.split()), ""]
    lines += ["| what | at most | measured | |", "| --- | --- | --- | --- |"]
    size = NODEBAKE.stat().st_size / 1e6
    rows = [(target.what, target.most, target.measured(by_title)) for target in TARGETS]
    rows.append(("static binary for amd64, MB", 8, size))
    for what, most, measured in rows:
        if measured is not None:
            verdict = "met" if measured <= most else "**missed**"
            lines.append(f"| {what} | {most:g} | {measured:.3f} | {verdict} |")
    missed = [what for what, most, measured in rows if measured is not None and measured > most]
    lines += ["", "## Why targets are missed", ""] if missed else []
    for why, words in WHY:
        rows_of_it = [what for what in missed if any(word in what for word in words)]
        if rows_of_it:
            lines += [f"{'; '.join(rows_of_it)}:", "", " ".join(why.split()), ""]
    lines += ["## Measurements", ""]
    for group in groups:
        lines += group.table()
    return "\n".join(lines)


def machine(load):
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    filesystem = checked(["findmnt", "-no", "FSTYPE", "-T", TARGET]).strip()
    versions = [checked([*command, "--version"]).split("\n")[0] for command in (["hyperfine"], ["tar"], ["rustc"])]
    yield (
        f"Written by `make bench` on a machine with {os.cpu_count()} processors ({model[1] if model else platform.machine()}),"
        f" Linux {platform.release()}, {filesystem}; load before: {load:.2f}. {', '.join(versions)}."
    )
