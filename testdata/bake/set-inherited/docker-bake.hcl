target "base" { args = { A = "1" } }
target "child" {
  inherits = ["base"]
  args = { B = "2" }
}
