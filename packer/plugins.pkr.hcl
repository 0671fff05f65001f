# What `packer init` installs, for Packer 1.7 and later. Older versions have it built in and don't
# know this block: they run without this file.

packer {
  required_plugins {
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = ">= 1.1.0"
    }
  }
}
