target "a" {}
target "b" { output = ["type=image,name=x", "type=docker"] }
target "c" { output = ["type=local,dest=out"] }
target "d" { output = ["type=registry"] }
group "default" { targets = ["a", "b", "c", "d"] }
