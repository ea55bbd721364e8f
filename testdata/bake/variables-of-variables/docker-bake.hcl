variable "A" { default = "${B}-a" }
variable "B" { default = upper(C) }
variable "C" { default = "c" }
variable "REPO" { default = "reg/${A}" }
target "default" { tags = [ "${REPO}:${B}", format("%s:%s", REPO, C) ] }
