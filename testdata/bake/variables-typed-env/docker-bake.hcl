variable "S" {
  type = string
  default = 5
}
variable "L" {
  type = list(string)
  default = ["a", "b"]
}
variable "M" {
  type = map(number)
  default = { x = 1 }
}
variable "B" {
  type = bool
}
variable "O" {
  type = object({ name = string, port = optional(number), tags = list(string) })
  default = { name = "n", tags = ["t"], extra = true }
}
variable "T" {
  type = tuple([string, number])
  default = ["x", 7]
}
variable "SET" {
  type = set(string)
  default = ["b", "a", "b"]
}
variable "ANY" {
  type = any
  default = [1, "x"]
}
target "default" {
  args = {
    s = S
    l = join(",", L)
    m = M.x
    b = B == null ? "unset" : B
    o = O.name
    port = O.port == null ? "none" : O.port
    t = T[1]
    set = join(",", SET)
    any = length(ANY)
    js = jsonencode({ l = L, m = M, o = O, t = T, s = SET })
  }
}
