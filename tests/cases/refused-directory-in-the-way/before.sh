mkdir -p usr/local/sbin/runc
