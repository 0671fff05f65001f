#part-handler
"""Handles nodebake specs in user-data and vendor-data: parts of the type text/x-nodebake.

cloud-init calls the handler early, before there is a network or a containerd. The handler therefore
only writes two files: the spec, and a script that applies the spec in the final stage, before the
user's own scripts and `runcmd`. The script also reports errors in the parts, because cloud-init
ignores exceptions of a handler, while a script that fails makes `cloud-init status` say error.
"""

import os

from cloudinit import util

SPEC = "/etc/nodebake/nodebake.yaml"
# In the instance's scripts/ directory. Scripts run in the order of their names: this one before
# part-001 and runcmd
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

# Version 2 handlers can set a frequency: this one runs once for an instance, not at every boot
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
    """Called once for user-data, then once for vendor-data: the user's spec has precedence."""
    if not specs or os.path.exists(script):
        return
    if len(specs) > 1:
        util.write_file(script, REFUSE.format(count=len(specs)), 0o700)
        return
    # The script is written first: if writing the spec fails, the script fails and says so
    util.write_file(script, APPLY, 0o700)
    spec = specs[0]
    if isinstance(spec, str):
        spec = spec.encode("utf-8", "surrogateescape")
    # The spec can contain headers, keys and proxy passwords
    util.write_file(SPEC, spec, 0o600)
