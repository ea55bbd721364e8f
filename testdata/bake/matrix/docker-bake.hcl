target "app" {
  name = "app-${tgt}-${replace(version, ".", "-")}"
  matrix = {
    tgt = ["lint", "build"]
    version = ["1.0", "2.0"]
  }
  target = tgt
  args = { VERSION = version }
  tags = ["app:${tgt}-${version}"]
}
group "default" { targets = ["app"] }
