rm bin sbin lib
mkdir bin sbin lib
mv usr/bin/sh bin/sh
