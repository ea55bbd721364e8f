target "base" {
  name = "base-${v}"
  matrix = { v = ["a", "b"] }
  args = { V = v }
}
target "default" {
  inherits = ["base-b"]
  args = { W = "w" }
}
