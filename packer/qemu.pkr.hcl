# A machine in QEMU that boots Debian's cloud image or another disk with cloud-init.

variable "disk" {
  type        = string
  default     = ""
  description = "The disk to boot: a path or a URL; default: Debian 12's cloud image."
}

variable "disk_checksum" {
  type        = string
  default     = ""
  description = "Such as sha512:…, file:URL or none; default: the checksum of Debian's image."
}

variable "seed" {
  type        = string
  default     = "seed"
  description = "The directory that seed.sh has written."
}

variable "ssh_username" {
  type        = string
  default     = "debian"
  description = "The user of the image; must be able to become root with sudo."
}

variable "format" {
  type        = string
  default     = "qcow2"
  description = "Format of the disk and of the result: qcow2 or raw."
}

variable "accelerator" {
  type        = string
  default     = "kvm"
  description = "Such as kvm or hvf; tcg is emulation, which takes minutes."
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
  description = "More options for QEMU's command line. An option replaces Packer's own option of the same name."
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
  cpus         = var.accelerator == "tcg" ? 1 : 2 # two emulated CPUs sometimes panic
  memory       = 2048
  net_device   = "virtio-net"
  headless     = true
  qemuargs     = var.qemuargs

  # cloud-init authorizes the key that seed.sh has made
  cd_files             = ["${var.seed}/user-data", "${var.seed}/meta-data"]
  cd_label             = "cidata"
  ssh_username         = var.ssh_username
  ssh_private_key_file = "${var.seed}/key"
  ssh_timeout          = "10m"
  boot_wait            = "-1s"
  shutdown_command     = "sudo systemctl poweroff"
}
