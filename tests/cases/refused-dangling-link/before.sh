ln -s /mnt/local usr/local
