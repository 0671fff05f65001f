rm usr/bin/sh
