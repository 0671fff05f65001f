# A machine on Google Cloud, from Debian's own image; see "Other machines" in ../README.md.

variable "project_id" {
  type = string
}

variable "zone" {
  type    = string
  default = "europe-west3-a"
}

source "googlecompute" "node" {
  project_id          = var.project_id
  zone                = var.zone
  image_name          = "node-${formatdate("YYYYMMDDhhmmss", timestamp())}"
  image_family        = "node"
  source_image_family = var.arch == "arm64" ? "debian-12-arm64" : "debian-12"

  source_image_project_id = ["debian-cloud"]

  machine_type = var.arch == "arm64" ? "t2a-standard-1" : "e2-medium"
  ssh_username = "packer"
}
