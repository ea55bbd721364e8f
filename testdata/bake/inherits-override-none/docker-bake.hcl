target "a" {
  tags = ["x"]
  output = ["type=docker"]
  cache-to = ["type=inline"]
  context = "a"
  target = "t"
}
target "default" {
  inherits = ["a"]
  tags = []
  output = []
  cache-to = []
  context = ""
}
