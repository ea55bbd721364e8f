variable "PORT" {
  default = 8080
  validation {
    condition = PORT > 1024
    error_message = "too low"
  }
  validation {
    condition = PORT < 65536
    error_message = "The port ${PORT} is too high."
  }
}
variable "NAME" {
  default = "ok"
  validation {
    condition = NAME != "" && length(regexall("^[a-z]+$", NAME)) > 0
    error_message = "bad"
  }
}
target "default" { args = { p = PORT, n = NAME } }
