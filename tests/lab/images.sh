# shellcheck shell=bash disable=SC2154 # part sets here, work and what lab.sh holds
# Part `images`: three container images of one megabyte each, made here from Debian's busybox.

# image FILE NAME
image() {
  case $2 in
    tiny.tar) busybox "$1" docker.io/library/tiny:1 --command /bin/echo 'hello from tiny' ;;
    # a stand-in for the sandbox images that containerd 1.6, 1.7 and 2.1 ask for
    pause.tar) busybox "$1" registry.k8s.io/pause:{3.6,3.8,3.10} --command /bin/sleep 2147483647 ;;
    nginx.tar)
      busybox "$1" docker.io/library/nginx:alpine \
        --file /usr/share/nginx/html/index.html='hello from nginx' --command /bin/httpd -f -p 80 -h /usr/share/nginx/html
      ;;
    *) fail "unknown image" ;;
  esac
}

busybox() { python3 "$here/mkimage.py" --busybox /bin/busybox "$@"; }
