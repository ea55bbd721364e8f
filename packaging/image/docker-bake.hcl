# The images of a release, for all platforms, from what packaging/dist/make made: in the folder of the repository
#
#     VERSION=1.2.3 IMAGE=registry.example/rbuild rbuild bake -f packaging/image/docker-bake.hcl --push
#
# rbuild:1.2.3, :1.2 and :latest are the target `rbuild`; the others have its name: :1.2.3-debug, :1.2-debug and :debug. A version with
# a `-` (1.2.3-rc.1) gets its own name alone, and no version the short one alone.

variable "IMAGE" {
  default = "rbuild"
}

variable "VERSION" {
  default = ""
}

variable "DEBIAN" {
  default = "docker.io/library/debian:bookworm-slim"
}

# The tag of that target: VERSION-TARGET, where either may be missing.
function "tag" {
  params = [version, target]
  result = "${IMAGE}:${version}${version != "" && target != "rbuild" ? "-" : ""}${target != "rbuild" ? target : (version == "" ? "latest" : "")}"
}

target "image" {
  name = image
  matrix = {
    image = ["rbuild", "debug", "executor", "job", "worker"]
  }
  context    = "."
  dockerfile = "packaging/image/Dockerfile"
  target     = image
  platforms  = ["linux/amd64", "linux/arm64"]
  contexts   = { releases = "dist" }
  args       = { PROGRAM = "released", DEBIAN = DEBIAN }
  labels = {
    "org.opencontainers.image.title"    = "rbuild"
    "org.opencontainers.image.version"  = VERSION == "" ? null : VERSION
    "org.opencontainers.image.licenses" = "Apache-2.0"
  }
  tags = VERSION == "" ? [tag("", image)] : (length(split("-", VERSION)) > 1 ? [tag(VERSION, image)] : [
    tag(VERSION, image), tag(join(".", slice(split(".", VERSION), 0, 2)), image), tag("", image),
  ])
  attest = ["type=sbom", "type=provenance,mode=max"]
}

group "default" {
  targets = ["image"]
}
