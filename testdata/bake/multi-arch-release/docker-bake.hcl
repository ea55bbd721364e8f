variable "VERSION" { default = "1.4.2" }
variable "PLATFORMS" { default = ["linux/amd64", "linux/arm64", "linux/arm/v7"] }
function "semver_tags" {
  params = [repo, v]
  result = [
    "${repo}:${v}",
    "${repo}:${join(".", slice(split(".", v), 0, 2))}",
    "${repo}:${split(".", v)[0]}",
  ]
}
target "image" {
  platforms = PLATFORMS
  tags = semver_tags("example/app", VERSION)
  attest = ["type=provenance,mode=max", "type=sbom"]
}
target "image-local" {
  inherits = ["image"]
  platforms = []
  output = ["type=docker"]
}
target "binaries" {
  target = "binaries"
  output = ["./bin"]
  platforms = [for p in PLATFORMS : p if p != "linux/arm/v7"]
}
group "default" { targets = ["image-local"] }
group "release" { targets = ["image", "binaries"] }
