target "default" {
  tags = ["a:1"]
  platforms = ["linux/amd64"]
  cache-from = ["one"]
  output = ["type=docker"]
  secret = [{ id = "s", env = "HOME" }]
}
