# A machine on vSphere, installed from Debian's netinst image with your own preseed.cfg. The preseed.cfg
# must create the user `ssh_username`, give it a sudo that asks for no password, and install sudo,
# openssh-server, cloud-init and open-vm-tools. See "Other machines" in ../README.md.

variable "vcenter_server" {
  type = string
}

variable "username" {
  type = string
}

variable "password" {
  type      = string
  sensitive = true
}

variable "datacenter" {
  type = string
}

variable "cluster" {
  type = string
}

variable "datastore" {
  type = string
}

variable "network" {
  type    = string
  default = "VM Network"
}

variable "iso" {
  type        = string
  description = "The path in a datastore, such as [datastore] iso/debian-12-amd64-netinst.iso."
}

variable "preseed" {
  type        = string
  description = "A directory with preseed.cfg; Packer serves it to the installer."
}

variable "ssh_username" {
  type    = string
  default = "packer"
}

variable "ssh_password" {
  type      = string
  sensitive = true
}

source "vsphere-iso" "node" {
  vcenter_server = var.vcenter_server
  username       = var.username
  password       = var.password
  datacenter     = var.datacenter
  cluster        = var.cluster
  datastore      = var.datastore

  vm_name              = "node"
  guest_os_type        = "debian11_64Guest"
  firmware             = "efi"
  CPUs                 = 2
  RAM                  = 2048
  disk_controller_type = ["pvscsi"]
  storage {
    disk_size             = 10240
    disk_thin_provisioned = true
  }
  network_adapters {
    network      = var.network
    network_card = "vmxnet3"
  }

  iso_paths      = [var.iso]
  http_directory = var.preseed
  boot_wait      = "5s"
  boot_command = [
    "<wait>c<wait>",
    "linux /install.amd/vmlinuz auto=true priority=critical url=http://{{ .HTTPIP }}:{{ .HTTPPort }}/preseed.cfg ---<enter>",
    "initrd /install.amd/initrd.gz<enter>",
    "boot<enter>",
  ]

  ssh_username        = var.ssh_username
  ssh_password        = var.ssh_password
  ssh_timeout         = "30m"
  shutdown_command    = "sudo systemctl poweroff"
  convert_to_template = true
}
