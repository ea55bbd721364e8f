variable "TAG" { default = "latest" }
variable "EMPTY" {}
variable "NUM" { default = 3 }
variable "FLAG" { default = false }
variable "NUL" { default = null }
TOP = "top-${TAG}"
target "default" {
  args = {
    tag = TAG
    empty = EMPTY
    num = NUM + 1
    flag = FLAG ? "on" : "off"
    nul = NUL == null ? "null" : "set"
    top = TOP
    ctx = BAKE_CMD_CONTEXT
    plat = BAKE_LOCAL_PLATFORM == "" ? "none" : "some"
  }
  tags = ["app:${TAG}", notequal("", EMPTY) ? "app:${EMPTY}" : ""]
}
