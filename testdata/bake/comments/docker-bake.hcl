# hash
// slashes
/* block
   comment */
target "default" { # here
  tags = [ // there
    "a", # each
    /* in */ "b",
  ]
  args = {
    A: "colon"
    "quoted" = 1, B = 2
  }
}
