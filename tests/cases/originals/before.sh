chmod 0755 usr/local/sbin/runc opt/cni/bin/flannel
chmod 0700 etc/cni/net.d
mkdir -p -m 0711 var/lib/containerd
mkdir -p etc/systemd/system/multi-user.target.wants
ln -s /usr/lib/systemd/system/containerd.service etc/systemd/system/multi-user.target.wants/containerd.service
ln -s /dev/null etc/crictl.yaml
mkdir -p usr/local/bin
ln -s /opt/containerd/bin/ctr usr/local/bin/ctr
