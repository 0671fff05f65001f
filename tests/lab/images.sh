# shellcheck shell=bash disable=SC2154 # prepare sets here, work and what lab.sh holds
# Step `images`: three container images of one megabyte each, made here from Debian's busybox.

images() {
  keep "$LAB/images/tiny.tar" image docker.io/library/tiny:1 --command /bin/echo 'hello from tiny'
  # a stand-in for the sandbox images that containerd 1.6, 1.7 and 2.1 ask for
  keep "$LAB/images/pause.tar" image registry.k8s.io/pause:{3.6,3.8,3.10} --command /bin/sleep 2147483647
  keep "$LAB/images/nginx.tar" image docker.io/library/nginx:alpine \
    --file /usr/share/nginx/html/index.html='hello from nginx' --command /bin/httpd -f -p 80 -h /usr/share/nginx/html
}

image() { python3 "$here/mkimage.py" --busybox /bin/busybox "$@"; }
