variable "V" { default = "one" }
target "default" {
  args = { V = V, A = "one" }
  tags = ["one"]
  context = "ctx"
}
