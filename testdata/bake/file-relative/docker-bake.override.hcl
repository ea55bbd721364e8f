target "nothing" {
  contexts = { here = "x" }
}
