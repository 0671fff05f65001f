#part-handler
"""Lets user-data and vendor-data carry a nodebake spec as a part of the type text/x-nodebake.

cloud-init calls this early, when there is neither network nor containerd. So it only writes the
spec down, and a script that applies it in the final stage, before the user's own scripts and
`runcmd`. That script also tells what is wrong with the parts: cloud-init swallows an exception
of a handler, while a script that fails makes `cloud-init status` say error.
"""

import os

from cloudinit import util

SPEC = "/etc/nodebake/nodebake.yaml"
# In the instance's scripts/, by whose order it comes before part-001 and runcmd
SCRIPT = "00-nodebake"

APPLY = f"""#!/bin/sh
set -e
if [ -d /opt/nodebake/artifacts ]; then set -- --source /opt/nodebake/artifacts --offline; fi
exec nodebake apply --root / --spec {SPEC} --start "$@"
"""

REFUSE = """#!/bin/sh
echo 'nodebake: error: {count} parts of the type text/x-nodebake; a node has one spec' >&2
echo '  help: merge them, or keep one' >&2
exit 3
"""

# A version 2 handler takes the frequency; this one runs once for an instance, not at every boot
handler_version = 2
frequency = "once-per-instance"

specs = []


def list_types():
    return ["text/x-nodebake"]


def handle_part(data, content_type, _filename, payload, _frequency):
    if content_type == "__begin__":
        specs.clear()
    elif content_type == "__end__":
        finish(os.path.join(data.get_ipath_cur("scripts"), SCRIPT))
    else:
        specs.append(payload)


def finish(script):
    """Called once for user-data, then once for vendor-data: the user's spec wins."""
    if not specs or os.path.exists(script):
        return
    if len(specs) > 1:
        util.write_file(script, REFUSE.format(count=len(specs)), 0o700)
        return
    # The script first: without a spec it fails and says so
    util.write_file(script, APPLY, 0o700)
    spec = specs[0]
    if isinstance(spec, str):
        spec = spec.encode("utf-8", "surrogateescape")
    # Headers, keys and proxy passwords may stand in it
    util.write_file(SPEC, spec, 0o600)
