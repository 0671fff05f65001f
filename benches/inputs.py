"""What `run` measures with: releases, specs, filesystems, a web server and a playbook, all in one directory."""

import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target")).resolve()
LAB = TARGET / "lab"
NODEBAKE = TARGET / "x86_64-unknown-linux-musl/release/nodebake"
FLOORS = TARGET / "x86_64-unknown-linux-musl/release/examples/floors"
COMPONENTS = ("containerd", "runc", "cni-plugins")
GZIP_LEVEL = 6  # as upstream's


def checked(command, **options):
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if ran.returncode:
        sys.exit(f"bench: {command}: {ran.stdout}{ran.stderr}")
    return ran.stdout


@dataclass
class Inputs:
    """A directory with everything, made anew by `prepare`."""

    work: Path
    #: Path of each release directory, by name: current, older, mixed, large.
    releases: dict

    def release_files(self, name="current", archives_only=False):
        endings = (".gz", ".tgz") if archives_only else (".gz", ".tgz", ".amd64")
        return sorted(path for path in self.releases[name].iterdir() if path.name.endswith(endings))

    def spec(self, name):
        return self.work / "specs" / name / "nodebake.yaml"

    @property
    def bundle(self):
        """The current release in one file."""
        return self.work / "current.tar"

    @property
    def installed(self):
        """A root that was baked from the current release: its files are the floors' measure."""
        return self.work / "installed"

    def installed_files(self):
        return [path for path in self.installed.rglob("*") if path.is_file() and not path.is_symlink()]

    @property
    def listed(self):
        """The digests of `installed`'s files, for sha256sum."""
        return self.work / "installed.sha256"


def prepare(work):
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    inputs = Inputs(work, {name: work / name for name in ("current", "older", "mixed", "large")})
    release(inputs, "current", LAB / "artifacts/2.1")
    release(inputs, "older", LAB / "artifacts/1.7")
    release(inputs, "mixed", LAB / "artifacts/2.1", containerd=LAB / "artifacts/1.7")
    # The same once more, with a lock beside it.
    shutil.copytree(inputs.spec("current").parent, inputs.spec("locked").parent)
    checked([NODEBAKE, "-q", "lock", "--spec", inputs.spec("locked")])
    checked([NODEBAKE, "-q", "bundle", "create", "--spec", inputs.spec("current"), "--output", inputs.bundle])
    inputs.installed.mkdir()
    checked([NODEBAKE, "-q", "apply", "--root", inputs.installed, "--spec", inputs.spec("current")])
    receipt = json.loads((inputs.installed / "var/lib/nodebake/receipt.json").read_text())
    with open(inputs.listed, "w") as listed:
        for path, owned in receipt["paths"].items():
            if "sha256" in owned:
                print(f"{owned['sha256']}  {inputs.installed}{path}", file=listed)
    files = work / "files"
    files.mkdir()
    shutil.copy(inputs.installed / "usr/local/lib/systemd/system/containerd.service", files)
    shutil.copy(inputs.installed / "etc/containerd/config.toml", files)
    return inputs


def release(inputs, name, made_from, containerd=None):
    """Links to the lab's archives, with the checksums that a user would verify and the spec."""
    versions = json.loads((made_from / "versions.json").read_text())
    folders = dict.fromkeys(COMPONENTS, made_from)
    if containerd:
        versions["containerd"] = json.loads((containerd / "versions.json").read_text())["containerd"]
        folders["containerd"] = containerd
    into = inputs.releases[name]
    into.mkdir()
    for component, folder in folders.items():
        os.link(folder / versions[component]["file"], into / versions[component]["file"])
    pin(inputs, name, versions)


def pin(inputs, name, versions):
    into, components = inputs.releases[name], {}
    with open(into / "SHA256SUMS", "w") as sums:
        for component in COMPONENTS:
            file = versions[component]["file"]
            digest = hashlib.sha256((into / file).read_bytes()).hexdigest()
            print(f"{digest}  {file}", file=sums)
            components[component] = {"version": versions[component]["version"], "sha256": digest}
    # JSON is YAML.
    spec = {"arch": "amd64", "source": str(into), "components": components}
    inputs.spec(name).parent.mkdir(parents=True, exist_ok=True)
    inputs.spec(name).write_text(json.dumps(spec))


def make_large(inputs):
    """Releases whose executables are ten times as long: what follows an ELF file's own bytes is ignored."""
    made_from = LAB / "artifacts/2.1"
    versions = json.loads((made_from / "versions.json").read_text())
    into = inputs.releases["large"]
    into.mkdir(exist_ok=True)
    for component in COMPONENTS:
        file = versions[component]["file"]
        if file.endswith("gz"):
            grow_archive(made_from / file, into / file)
        else:
            (into / file).write_bytes((made_from / file).read_bytes() * 10)
    pin(inputs, "large", versions)


def grow_archive(old, new):
    with tarfile.open(old) as members, gzip.open(new, "wb", 1) as out, tarfile.open(fileobj=out, mode="w") as grown:
        for member in members:
            if not member.isfile():
                grown.addfile(member)
                continue
            content = members.extractfile(member).read() * 10
            member.size = len(content)
            grown.addfile(member, io.BytesIO(content))


@contextmanager
def mounted(inputs, filesystem):
    """A new filesystem of 8 GiB in a file."""
    image, mount = inputs.work / f"{filesystem}.img", inputs.work / filesystem
    with open(image, "wb") as file:
        file.truncate(8 << 30)
    checked([f"mkfs.{filesystem}", "-q", image])
    mount.mkdir()
    checked(["mount", "-o", "loop", image, mount])
    try:
        yield mount
    finally:
        checked(["umount", mount])
        image.unlink()


@dataclass
class Server:
    """URLs of the current release; `slow` gives 30 MiB/s to each connection."""

    http: str
    https: str
    slow: str
    large: str
    #: The certificate to trust.
    authority: Path


NGINX = """
daemon off; user root; pid {work}/pid; error_log {work}/error.log; worker_processes 2;
events {{ }}
http {{
  access_log off; sendfile on; tcp_nopush on;
  client_body_temp_path {work}; proxy_temp_path {work}; fastcgi_temp_path {work}; uwsgi_temp_path {work};
  scgi_temp_path {work};
  server {{
    listen 127.0.0.1:{http};
    listen 127.0.0.1:{https} ssl;
    ssl_certificate {work}/server.pem; ssl_certificate_key {work}/server.key;
    # A mirror keeps upstream's paths; here one directory holds all files.
    location ~ ^/current/(?:.*/)?([^/]+)$ {{ alias {current}/$1; }}
    location ~ ^/large/(?:.*/)?([^/]+)$ {{ alias {large}/$1; }}
    location ~ ^/slow/(?:.*/)?([^/]+)$ {{ alias {current}/$1; limit_rate 30m; }}
  }}
}}
"""


@contextmanager
def server(inputs, http=18080, https=18443):
    work = inputs.work / "nginx"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    checked([TOP / "tests/lab/certificate", work])
    text = NGINX.format(work=work, http=http, https=https, **inputs.releases)
    (work / "nginx.conf").write_text(text)
    running = subprocess.Popen(["nginx", "-p", work, "-c", work / "nginx.conf"])
    try:
        answers(https, running)
        yield Server(
            f"http://127.0.0.1:{http}/current",
            f"https://127.0.0.1:{https}/current",
            f"https://127.0.0.1:{https}/slow",
            f"https://127.0.0.1:{https}/large",
            work / "ca.pem",
        )
    finally:
        running.terminate()
        running.wait()


def answers(port, running):
    for _ in range(100):
        if running.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit("bench: nginx does not answer")
