target "app-one" {}
target "app-two" {}
target "lib" {}
group "app-all" { targets = ["lib"] }
