target default {
  args = {
    "with-dash" = 1
    under_score = 2
    "dot.ted" = 3
  }
  labels = { "${"a"}.b" = "c", (upper("k")) = "v" }
}
