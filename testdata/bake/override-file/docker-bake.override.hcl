target "default" {
  args = { A = 2 }
}
