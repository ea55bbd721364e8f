target "base" { platforms = ["linux/amd64", "linux/arm64"] }
target "mid" { contexts = { base = "target:base" } }
target "default" {
  contexts = { mid = "target:mid", base = "target:base" }
  platforms = ["linux/arm64"]
}
