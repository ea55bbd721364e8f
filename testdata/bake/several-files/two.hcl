variable "V" { default = "two" }
target "default" {
  args = { A = "two" }
  tags = ["two"]
  secret = ["id=z,env=HOME"]
}
group "extra" { targets = ["default"] }
