#!/usr/bin/env python3
"""Makes a container image of one layer with busybox in it, as an OCI archive that readers of
docker archives accept too. Same arguments, same bytes.

    mkimage.py OUT.tar NAME… --busybox FILE [--file /PATH=LINE]… --command COMMAND [ARG…]
"""

import argparse
import gzip
import hashlib
import io
import json
import tarfile

APPLETS = "sh cat echo env hostname httpd id ip ls mount nslookup ping printenv sleep true uname wget".split()
CREATED = "2024-01-01T00:00:00Z"
MEDIA_TYPE = "application/vnd.oci.image."


def main():
    options = arguments()
    layer = layer_tar(options.busybox.read(), options.file)
    packed = gzip.compress(layer, 9, mtime=0)
    config = as_json(image_config(options.command, layer))
    manifest = as_json({
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE + "manifest.v1+json",
        "config": descriptor("config.v1+json", config),
        "layers": [descriptor("layer.v1.tar+gzip", packed)],
    })
    with tarfile.open(options.out, "w", format=tarfile.GNU_FORMAT) as out:
        add(out, "oci-layout", as_json({"imageLayoutVersion": "1.0.0"}))
        add(out, "index.json", as_json(index(options.names, manifest)))
        for blob in (config, packed, manifest):
            add(out, blob_path(blob), blob)
        # what `docker load` and older importers read
        add(out, "manifest.json", as_json([
            {"Config": blob_path(config), "RepoTags": options.names, "Layers": [blob_path(packed)]}]))


def arguments():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("out")
    parser.add_argument("names", nargs="+")
    parser.add_argument("--busybox", type=argparse.FileType("rb"), required=True)
    parser.add_argument("--file", action="append", default=[])
    parser.add_argument("--command", nargs=argparse.REMAINDER, required=True)
    return parser.parse_args()


def layer_tar(busybox, files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as layer:
        for folder in "bin dev etc proc root sys tmp".split():
            add(layer, folder, kind=tarfile.DIRTYPE, mode=0o1777 if folder == "tmp" else 0o755)
        add(layer, "bin/busybox", busybox, mode=0o755)
        for applet in APPLETS:
            add(layer, "bin/" + applet, kind=tarfile.SYMTYPE, mode=0o777, link="busybox")
        add(layer, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        add(layer, "etc/group", b"root:x:0:\n")
        for path, line in (file.split("=", 1) for file in files):
            add(layer, path.lstrip("/"), line.encode() + b"\n")
    return data.getvalue()


def add(archive, name, data=b"", *, kind=tarfile.REGTYPE, mode=0o644, link=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname, entry.size = kind, mode, link, len(data)
    archive.addfile(entry, io.BytesIO(data))


def image_config(command, layer):
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": CREATED,
        "config": {"Env": ["PATH=/bin"], "Entrypoint": command, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        "history": [{"created": CREATED, "created_by": "mkimage.py"}],
    }


def index(names, manifest):
    """One entry a name: containerd's importer takes the whole name from its own annotation."""
    return {
        "schemaVersion": 2,
        "manifests": [
            descriptor("manifest.v1+json", manifest) | {
                "platform": {"architecture": "amd64", "os": "linux"},
                "annotations": {
                    "io.containerd.image.name": name,
                    "org.opencontainers.image.ref.name": name.rsplit(":", 1)[1],
                },
            }
            for name in names
        ],
    }


def descriptor(kind, data):
    return {"mediaType": MEDIA_TYPE + kind, "digest": digest(data), "size": len(data)}


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def blob_path(data):
    return "blobs/" + digest(data).replace(":", "/")


def as_json(value):
    return json.dumps(value).encode()


if __name__ == "__main__":
    main()
