mkdir -p var/usrlocal/bin var/opt srv/containerd
ln -s /var/usrlocal usr/local
ln -s var/opt opt
ln -s ../srv/containerd etc/containerd
