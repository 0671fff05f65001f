# A machine in QEMU, from a Debian cloud image or another disk with cloud-init.

variable "disk" {
  type        = string
  default     = ""
  description = "The disk to boot: a path or a URL; default: Debian 12's cloud image."
}

variable "disk_checksum" {
  type        = string
  default     = ""
  description = "Such as sha512:…, file:URL or none; default: that of Debian's image."
}

variable "seed" {
  type        = string
  default     = "seed"
  description = "The directory that seed.sh has made."
}

variable "ssh_username" {
  type        = string
  default     = "debian"
  description = "The image's own user, who may become root by sudo."
}

variable "format" {
  type        = string
  default     = "qcow2"
  description = "Of the disk and of the result: qcow2 or raw."
}

variable "accelerator" {
  type        = string
  default     = "kvm"
  description = "Such as kvm or hvf; tcg emulates, which takes minutes."
}

variable "machine_type" {
  type    = string
  default = "pc"
}

variable "disk_interface" {
  type    = string
  default = "virtio"
}

variable "qemuargs" {
  type        = list(list(string))
  default     = []
  description = "More for QEMU's command line. What Packer gives by itself is replaced by an option of the same name."
}

locals {
  images = "https://cloud.debian.org/images/cloud/bookworm/latest"
}

source "qemu" "node" {
  disk_image       = true
  iso_url          = var.disk == "" ? "${local.images}/debian-12-generic-${var.arch}.qcow2" : var.disk
  iso_checksum     = var.disk_checksum == "" ? "file:${local.images}/SHA512SUMS" : var.disk_checksum
  disk_size        = var.disk_size
  skip_resize_disk = var.disk_size == ""
  format           = var.format
  disk_interface   = var.disk_interface
  output_directory = "${var.output}/machine"
  vm_name          = "node.${var.format}"

  qemu_binary  = var.arch == "arm64" ? "qemu-system-aarch64" : "qemu-system-x86_64"
  accelerator  = var.accelerator
  machine_type = var.machine_type
  cpus         = var.accelerator == "tcg" ? 1 : 2 # two that are emulated now and then panic
  memory       = 2048
  net_device   = "virtio-net"
  headless     = true
  qemuargs     = var.qemuargs

  # cloud-init lets Packer in by the key of seed.sh
  cd_files             = ["${var.seed}/user-data", "${var.seed}/meta-data"]
  cd_label             = "cidata"
  ssh_username         = var.ssh_username
  ssh_private_key_file = "${var.seed}/key"
  ssh_timeout          = "10m"
  boot_wait            = "-1s"
  shutdown_command     = "sudo systemctl poweroff"
}
