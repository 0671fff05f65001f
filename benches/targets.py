"""What the speed of nodebake is measured against, and the report: the text of BENCH.md."""

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from inputs import NODEBAKE, TARGET, checked


@dataclass
class Target:
    """A figure, the most that it may be, and where it comes from: two commands of one group, or one."""

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
    ratio("the same / the best shell", 0.50, BAKE, "nodebake", "igzip, two at once, sync -f"),
    ratio("the same / inflating alone", 1.5, BAKE, "nodebake", "floor: inflate"),
    ratio("… its members pinned by `nodebake lock` / shell with `sync -f`", 0.20, BAKE, LOCKED, SHELL),
    ratio("… the same / the best shell", 0.50, BAKE, LOCKED, "igzip, two at once, sync -f"),
    ratio("… the same / inflating alone", 1.5, BAKE, LOCKED, "floor: inflate"),
    ratio("fresh bake / itself without a flush", 1.2, "Without a flush", "nodebake", "nodebake without a flush"),
    ratio("… beside 2 GiB of another program", 1.25, DIRTY, "nodebake", "nodebake without a flush"),
    ratio("… at 20 ms a flush, by strace / shell", 0.40, "A disk that takes 20 ms for a flush", "nodebake", SHELL),
    ratio("http bake / curl, sha256sum, tar", 0.25, NETWORK, "nodebake", "curl, sha256sum, tar, sync -f"),
    ratio("https bake / http bake", 1.25, NETWORK, "nodebake over TLS", "nodebake"),
    ratio("bake at 30 MiB/s a connection / three curls", 1.20, SLOW, "nodebake", "three curls side by side, nothing kept"),
    ratio("… its members pinned / three curls", 1.20, SLOW, LOCKED, "three curls side by side, nothing kept"),
    ratio("re-run with nothing to do / `sha256sum -c`", 0.25, AGAIN, "nodebake apply", "sha256sum -c"),
    ratio("`verify` / `sha256sum -c`", 0.25, AGAIN, "nodebake verify", "sha256sum -c"),
    ratio("16 roots on xfs / one", 1.3, "Many roots on xfs", "nodebake, 16 roots", "nodebake, 1 root"),
    ratio("16 roots on btrfs / one", 1.3, "Many roots on btrfs", "nodebake, 16 roots", "nodebake, 1 root"),
    ratio("16 roots on ext4 / tar once and 15 `cp -a`", 0.60, "Many roots on ext4", "nodebake, 16 roots", "tar once and cp -a, 16 roots"),
    ratio("fresh bake / Ansible", 0.05, "Ansible doing the same, over the network", "nodebake", "ansible-playbook"),
    Target("peak memory, MiB", 16, BAKE, "nodebake", kind="memory"),
    Target("peak memory over TLS, MiB", 32, NETWORK, "nodebake over TLS", kind="memory"),
    Target("… archives ten times the size, MiB", 16, LARGE, "nodebake", kind="memory"),
    Target("… and over TLS, MiB", 32, LARGE, "nodebake over TLS", kind="memory"),
    ratio("start / `/bin/true`", 2, "Process start", "nodebake --version", "/bin/true"),
]

# Why a target may be missed, by its row, and what the next factor would take. The figures in it were
# measured once, on two cores with SHA-NI.
HASHING = """Half of a bake's processor time and more inflates; a third is SHA-256: of each archive before it is
parsed, of what is parsed (a source that others can write to may have changed in between), and of each installed
file for the receipt. What is left over the bound of two processors, (inflate + hash + write) / 2, is less than a
tenth. With an idle processor, as where one archive is upgraded or there are more processors than archives, hashing
and writing are done there, and cost nothing more; here both are busy. Where `nodebake lock` has pinned the members'
digests the third hash is not done again: the rows with pinned members. The next factors: a read lease on the source
in place of the second hash (it needs unsafe code), and a faster inflate than zlib-rs. Tried and not worth it: two
SHA-256 streams in turn, block by block, on one thread (0.97 to 1.30 times as fast, by the machine)."""
WAITING = """Decoding begins when the last byte has come and the digest has matched. Both archives come at the
same pace, so that what is left to do then is to inflate and write them, which takes as long as the row of inflating
alone says: with pinned members nothing else is left. The next factor: two range requests for each archive, which
halves the wait on a connection that is limited; or decoding as bytes arrive, which parses what is not verified."""
FLUSHING = """Every file and every directory in every root is flushed by itself, 63 a root, since a flush of the
whole filesystem waits for other programs' data; on btrfs each is a commit of its log. The next factor: one flush of
the filesystem where it is the image's own; and an allocator with more than musl's one lock for all threads (mimalloc:
0.9 of the time on btrfs and ext4, but 23 MiB in place of 6)."""
COPYING = """ext4 can't share extents: each of the other fifteen roots is 176 MB that the kernel copies and the disk
writes, for `cp -a` as well, and the disk's pace decides. The next factor: xfs or btrfs, which share them."""
WHY = [
    (HASHING, ("shell with", "best shell", "inflating alone")),
    (WAITING, ("30 MiB/s", "three curls")),
    (FLUSHING, ("on xfs", "on btrfs")),
    (COPYING, ("on ext4",)),
]


def report(groups, load):
    by_title = {group.title: group for group in groups}
    lines = ["# Speed", "", *machine(load), "", "## Targets", "", "| what | at most | measured | |", "| --- | --- | --- | --- |"]
    size = NODEBAKE.stat().st_size / 1e6
    rows = [(target.what, target.most, target.measured(by_title)) for target in TARGETS]
    rows.append(("static binary for amd64, MB", 8, size))
    for what, most, measured in rows:
        if measured is not None:
            verdict = "met" if measured <= most else "**missed**"
            lines.append(f"| {what} | {most:g} | {measured:.3f} | {verdict} |")
    missed = [what for what, most, measured in rows if measured is not None and measured > most]
    lines += ["", "## What stands between", ""] if missed else []
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
