# The plugins that `packer init` installs, for Packer 1.7 and later. Older versions have the plugins
# built in and do not know this block: remove this file for them.

packer {
  required_plugins {
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = ">= 1.1.0"
    }
  }
}
