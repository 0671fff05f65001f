# e_machine of the ELF header: EM_AARCH64
printf '\267' | dd of=usr/bin/sh bs=1 seek=18 conv=notrunc status=none
