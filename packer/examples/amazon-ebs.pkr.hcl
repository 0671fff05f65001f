# A machine on AWS, from Debian's own AMI; see "Other machines" in ../README.md.

variable "region" {
  type    = string
  default = "eu-central-1"
}

source "amazon-ebs" "node" {
  region   = var.region
  ami_name = "node-${formatdate("YYYYMMDDhhmmss", timestamp())}"

  source_ami_filter {
    filters = {
      name                = "debian-12-${var.arch}-*"
      virtualization-type = "hvm"
      root-device-type    = "ebs"
    }
    owners      = ["136693071363"] # Debian
    most_recent = true
  }

  instance_type = var.arch == "arm64" ? "t4g.small" : "t3.small"
  ssh_username  = "admin"
}
