target "app" {
  args = { A = "1", B = "2" }
  tags = ["app:1"]
  platforms = ["linux/amd64"]
}
target "lib" {}
group "default" { targets = ["app", "lib"] }
