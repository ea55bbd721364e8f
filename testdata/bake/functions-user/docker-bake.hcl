function "increment" {
  params = [number]
  result = number + 1
}
function "add3" {
  params = [n]
  result = increment(increment(increment(n)))
}
function "tag" {
  params = [name]
  variadic_params = extra
  result = concat(["${PREFIX}/${name}"], [for e in extra : "${PREFIX}/${name}:${e}"])
}
variable "PREFIX" { default = "me" }
target "default" {
  args = { n = add3(39) }
  tags = tag("app", "1", "2")
}
target "none" { tags = tag("none") }
