target "default" {
  description = "all of it"
  context = "./src"
  contexts = {
    base = "docker-image://alpine:3.20"
    other = "target:other"
    empty = ""
    lib = "../lib"
  }
  dockerfile = "docker/Dockerfile"
  dockerfile-inline = "FROM scratch\nCOPY $${X} /"
  args = { V = "1.2", N = 3, T = true, E = "$${ESC} %%{x}" }
  labels = { "org.label" = "x<y>&z" }
  annotations = ["index:k=v", "manifest[linux/amd64]:k=v", "k=v"]
  attest = ["type=sbom", { type = "provenance", mode = "max", disabled = false }, "type=sbom,generator=g"]
  tags = ["a:1", "b:2"]
  cache-from = ["user/app:cache", "type=local,src=cache", { type = "gha", scope = "s" }, ""]
  cache-to = ["type=inline", { type = "local", dest = "cache" }]
  target = "final"
  secret = ["type=env,id=tok,env=TOKEN", { id = "f", src = "secret.txt" }]
  ssh = ["default", { id = "key", paths = ["key.pem"] }]
  platforms = ["linux/amd64", "linux/arm64"]
  output = ["type=oci,dest=out.tar", { type = "image", name = "x/y", push = "true" }]
  pull = true
  no-cache = false
  network = "host"
  no-cache-filter = ["one", "two"]
  shm-size = "128m"
  ulimits = ["nofile=1024:2048"]
  resources = { memory = "1g", cpu-shares = 512, cpuset-cpus = "0-1" }
  call = "check"
  entitlements = ["security.insecure"]
  extra-hosts = { host = "1.2.3.4", nohost = null }
}
target "other" { entitlements = ["network.host"] }
