# Bakes a root filesystem on the build host, without a machine, into a tar and a raw disk. This takes
# seconds and works for any architecture. Needs root, or a sudo that asks for no password.

variable "rootfs" {
  type        = string
  default     = ""
  description = "A root filesystem: a directory, which is not changed, or a tar."
}

variable "output" {
  type        = string
  default     = "output"
  description = "Directory for the results: node.tar and node.raw, or machine/node.qcow2."
}

variable "disk_size" {
  type        = string
  default     = ""
  description = "Such as 10G; default: 1 GiB more than the content, or the size of the disk that a machine boots from."
}

variable "kernel_arguments" {
  type        = string
  default     = "console=tty0 console=ttyS0,115200"
  description = "Kernel arguments of the boot entry of node.raw, in addition to root=."
}

locals {
  root = "${var.output}/rootfs/root"
  on_host = concat(local.environment, [
    "NODEBAKE_FILES=${var.output}/rootfs/files",
    "NODEBAKE_ROOT=${local.root}",
    "ROOTFS=${var.rootfs}",
    "OUTPUT=${var.output}",
    "BINARIES=${var.nodebake}",
    "SPEC_FILES=${join("\n", local.spec_files)}",
    "ARTIFACTS=${local.source_is_here ? var.source : ""}",
    "DISK_SIZE=${var.disk_size}",
    "KERNEL_ARGUMENTS=${var.kernel_arguments}",
  ])
}

source "null" "rootfs" {
  communicator = "none"
}

build {
  name    = "rootfs"
  sources = ["source.null.rootfs"]

  provisioner "shell-local" {
    script           = "${path.root}/rootfs.sh"
    environment_vars = local.on_host
    execute_command  = ["/bin/sh", "-c", "{{ .Vars }} sh {{ .Script }} unpack"]
  }

  provisioner "shell-local" {
    script           = "${path.root}/nodebake.sh"
    environment_vars = local.on_host
    execute_command  = ["/bin/sh", "-c", "{{ .Vars }} sh {{ .Script }} apply"]
  }

  # Your own steps go here: the root is in $NODEBAKE_ROOT.

  provisioner "shell-local" {
    script           = "${path.root}/clean.sh"
    environment_vars = local.on_host
    execute_command  = ["/bin/sh", "-c", "{{ .Vars }} sh {{ .Script }}"]
  }

  # last, after everything that can have changed the root
  provisioner "shell-local" {
    script           = "${path.root}/nodebake.sh"
    environment_vars = local.on_host
    execute_command  = ["/bin/sh", "-c", "{{ .Vars }} sh {{ .Script }} verify"]
  }

  provisioner "shell-local" {
    script           = "${path.root}/rootfs.sh"
    environment_vars = local.on_host
    execute_command  = ["/bin/sh", "-c", "{{ .Vars }} sh {{ .Script }} pack"]
  }

  post-processors {
    post-processor "artifice" {
      files = ["${var.output}/node.tar", "${var.output}/node.raw"]
    }
    post-processor "checksum" {
      checksum_types = ["sha256"]
      output         = "${var.output}/SHA256SUMS"
    }
  }
}
