variable "ON" { default = true }
target "default" {
  tags = ON ? ["a", "b"] : []
  cache-from = ON ? [] : ["x"]
  platforms = ON ? concat(["linux/amd64"], ["linux/arm64"]) : null
  args = ON ? { A = 1 } : {}
  output = [ON ? "type=registry" : "type=docker"]
  labels = merge({ a = "1" }, ON ? { b = "2" } : {})
  contexts = { c = ON ? "" : "docker-image://x" }
}
