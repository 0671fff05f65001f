# A machine on Azure, from Debian's own image; see "Other machines" in ../README.md.
# After `az login` neither client_id nor client_secret is needed. The user of the build remains in the
# image; add `waagent -force -deprovision+user` as the last step to remove it.

variable "subscription_id" {
  type = string
}

variable "client_id" {
  type    = string
  default = ""
}

variable "client_secret" {
  type      = string
  default   = ""
  sensitive = true
}

variable "tenant_id" {
  type    = string
  default = ""
}

variable "resource_group" {
  type = string
}

variable "location" {
  type    = string
  default = "West Europe"
}

source "azure-arm" "node" {
  subscription_id    = var.subscription_id
  client_id          = var.client_id
  client_secret      = var.client_secret
  tenant_id          = var.tenant_id
  use_azure_cli_auth = var.client_id == ""

  managed_image_name                = "node-${formatdate("YYYYMMDDhhmmss", timestamp())}"
  managed_image_resource_group_name = var.resource_group

  os_type         = "Linux"
  image_publisher = "Debian"
  image_offer     = "debian-12"
  image_sku       = var.arch == "arm64" ? "12-arm64" : "12-gen2"
  location        = var.location
  vm_size         = var.arch == "arm64" ? "Standard_D2ps_v5" : "Standard_B2s"
  ssh_username    = "packer"
}
