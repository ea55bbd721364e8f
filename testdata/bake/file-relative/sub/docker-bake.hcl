target "default" {
  context = "ctx"
  contexts = { other = "../other", img = "docker-image://x" }
}
target "nothing" {}
target "ref" { context = target.default.context }
