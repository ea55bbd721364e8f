variable "V" { default = "v" }
target "app" {
  args = { B = "hcl-${V}" }
  platforms = ["linux/arm64"]
}
target "extra" { inherits = ["app"] }
