target "web" {
  matrix = {
    item = [
      { name = "one", port = 80, tags = ["x"] },
      { name = "two", port = 81, tags = [] },
    ]
  }
  name = "web_${item.name}"
  args = { PORT = item.port, N = length(item.tags) }
  inherits = ["_common"]
}
target "_common" { args = { C = "c" } }
