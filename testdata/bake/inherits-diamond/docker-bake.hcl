target "base" {
  args = { A = "base", B = "base" }
  labels = { l = "base" }
  annotations = ["a=1"]
  no-cache-filter = ["x"]
  cache-from = ["type=registry,ref=base"]
  platforms = ["linux/amd64"]
}
target "left" {
  inherits = ["base"]
  args = { A = "left" }
  annotations = ["b=2"]
  cache-from = ["left"]
}
target "right" {
  inherits = ["base"]
  args = { B = "right" }
  no-cache-filter = ["y", "x"]
  platforms = []
}
target "default" {
  inherits = ["left", "right"]
  args = { C = "own", D = null }
  tags = ["t", "t", "u"]
}
