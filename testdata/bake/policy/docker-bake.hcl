target "default" {
  policy = [{ filename = "x.rego", strict = true }, "disabled=true", "reset=true,log-level=debug"]
}
