variable "N" { default = null }
target "default" {
  target = N
  tags = N
  args = { A = N, B = "b" }
  dockerfile = null
  pull = null
}
