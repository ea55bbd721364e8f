group "default" { targets = ["all"] }
group "all" {
  description = "everything"
  targets = ["a", "tests", "a"]
}
group "tests" { targets = ["t1", "a"] }
target "a" { description = "the first" }
target "t1" {}
target "unused" {}
