target "a" {
  cache-from = ["x", "y", "x", "type=registry,ref=y"]
  cache-to = ["type=inline", "type=inline"]
  output = ["type=docker", "type=docker", "type=image"]
  secret = ["id=a,env=HOME", "id=a,env=PATH", "id=b,env=HOME"]
  ssh = ["default", "default"]
  attest = ["type=sbom", "type=sbom,generator=x", "type=provenance"]
  platforms = ["linux/amd64", "linux/amd64"]
  ulimits = ["nofile=1:2", "nofile=1:2"]
  entitlements = ["network.host", "network.host"]
  no-cache-filter = ["a", "", "a"]
}
target "default" {
  inherits = ["a"]
  secret = ["id=b,env=PATH"]
  cache-from = ["z", "x"]
  attest = ["type=provenance,mode=max"]
}
