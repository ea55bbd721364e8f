variable "v" { default = "outer" }
function "f" {
  params = [v]
  result = "${v}-${w}"
}
variable "w" { default = "w" }
target "default" {
  matrix = { v = ["m1", "m2"] }
  name = "t-${v}"
  args = {
    own = v
    fn = f("p")
    inner = join(",", [for v in ["i"] : v])
    ctx = w
  }
}
