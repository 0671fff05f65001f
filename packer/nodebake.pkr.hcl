# The parts that all builds of a machine share: nodebake's variables, and the steps that bake, clean up
# and verify. The machine itself is a `source` in another file.

variable "nodebake" {
  type        = string
  default     = "target/dist"
  description = "Directory with nodebake-linux-amd64, nodebake-linux-arm64 or both, as `make dist` writes it."
}

variable "arch" {
  type        = string
  default     = "amd64"
  description = "The image's architecture: amd64 or arm64."

  validation {
    condition     = contains(["amd64", "arm64"], var.arch)
    error_message = "The value of arch must be amd64 or arm64."
  }
}

variable "spec" {
  type        = string
  default     = ""
  description = "A nodebake.yaml; a nodebake.lock beside it is used too. If empty, the spec is made from the variables below."
}

variable "spec_files" {
  type        = list(string)
  default     = []
  description = "Files that belong beside the spec: the certificates that it names, and a nodebake.lock for a spec that is made from variables."
}

variable "containerd_version" {
  type        = string
  default     = ""
  description = "Such as 2.3.5; default: the newest version with long-term support that this nodebake knows. This variable and the next three are not used together with spec."
}

variable "runc_version" {
  type        = string
  default     = ""
  description = "Default: the version that this containerd release names."
}

variable "cni_plugins_version" {
  type        = string
  default     = ""
  description = "Default: the newest version that this nodebake knows."
}

variable "registries" {
  type        = map(list(string))
  default     = {}
  description = "Mirrors, in order: { \"docker.io\" = [\"https://mirror.example\"] }; for other settings of a mirror use a spec."
}

variable "source" {
  type        = string
  default     = ""
  description = "Where the archives come from: a local directory or bundle (*.tar), which is uploaded, or an https:// mirror; default: upstream."
}

variable "upload" {
  type        = string
  default     = "/tmp/nodebake"
  description = "Directory in the machine for all uploaded files; it is removed at the end. It must not be mounted noexec."
}

locals {
  versions = {
    "containerd"  = var.containerd_version
    "runc"        = var.runc_version
    "cni-plugins" = var.cni_plugins_version
  }
  spec_of_variables = yamlencode({
    arch       = var.arch
    components = { for name, version in local.versions : name => { version = version } if version != "" }
    registries = { for name, urls in var.registries : name => { mirrors = [for url in urls : { url = url }] } }
  })

  lock       = "${dirname(var.spec)}/nodebake.lock"
  spec_files = concat(compact([var.spec, var.spec != "" && fileexists(local.lock) ? local.lock : ""]), var.spec_files)

  source_is_here = var.source != "" && length(split("://", var.source)) == 1
  # its name in the machine
  source_there = regex_replace(var.source, "[.]tar$", "") != var.source ? "bundle.tar" : "artifacts"

  environment = [
    "NODEBAKE_FILES=${var.upload}",
    "NODEBAKE_SPEC=${var.spec == "" ? "" : basename(var.spec)}",
    "NODEBAKE_SPEC_TEXT=${var.spec == "" ? local.spec_of_variables : ""}",
    "NODEBAKE_SOURCE=${local.source_is_here ? local.source_there : var.source}",
  ]
}

build {
  name    = "nodebake"
  sources = ["source.qemu.node"]

  provisioner "shell" {
    inline = ["mkdir -p -m 0700 ${var.upload} ${var.upload}/bin ${var.upload}/artifacts"]
  }

  provisioner "file" {
    source      = "${var.nodebake}/"
    destination = "${var.upload}/bin"
  }

  dynamic "provisioner" {
    labels   = ["file"]
    for_each = local.source_is_here ? [var.source] : []

    content {
      source      = local.source_there == "artifacts" ? "${provisioner.value}/" : provisioner.value
      destination = "${var.upload}/${local.source_there}"
    }
  }

  dynamic "provisioner" {
    labels   = ["file"]
    for_each = local.spec_files

    content {
      source      = provisioner.value
      destination = "${var.upload}/"
    }
  }

  provisioner "shell" {
    script           = "${path.root}/nodebake.sh"
    environment_vars = local.environment
    execute_command  = "{{ .Vars }} sh {{ .Path }} apply"
  }

  # Your own provisioners go here. What they leave in /tmp and /var/log is cleaned up too.

  provisioner "shell" {
    script           = "${path.root}/clean.sh"
    environment_vars = local.environment
    execute_command  = "{{ .Vars }} sh {{ .Path }}"
  }

  # last, after everything that can have changed the machine
  provisioner "shell" {
    script           = "${path.root}/nodebake.sh"
    environment_vars = local.environment
    execute_command  = "{{ .Vars }} sh {{ .Path }} verify"
  }
}
