target "one" {
  tags = ["one:1"]
  args = { A = "a", B = "b" }
  platforms = ["linux/amd64"]
  output = ["type=docker"]
  secret = ["id=x,env=HOME"]
}
target "two" {
  tags = concat(target.one.tags, ["two:1"])
  args = merge(target.one.args, { B = "bb" })
  platforms = target.one.platforms
  output = target.one.output
  secret = target.one.secret
  dockerfile = "${target.one.args.A}.Dockerfile"
  description = target.one.name
}
group "default" { targets = concat(group.base.targets, ["two"]) }
group "base" { targets = ["one"] }
