variable "GITHUB_SHA" { default = "0000000000" }
variable "GITHUB_REF_NAME" { default = "feature/x" }
variable "REGISTRY" { default = "ghcr.io/org" }
variable "LATEST" { default = true }
function "tags_for" {
  params = [image]
  result = compact([
    "${REGISTRY}/${image}:sha-${substr(GITHUB_SHA, 0, 7)}",
    "${REGISTRY}/${image}:${sanitize(GITHUB_REF_NAME)}",
    LATEST ? "${REGISTRY}/${image}:latest" : "",
  ])
}
target "docker-metadata-action" {}
target "_labels" {
  labels = {
    "org.opencontainers.image.revision" = GITHUB_SHA
    "org.opencontainers.image.source" = "https://example.com/${REGISTRY}"
  }
}
target "api" {
  inherits = ["docker-metadata-action", "_labels"]
  context = "services/api"
  tags = tags_for("api")
  cache-from = ["type=gha,scope=api"]
  cache-to = ["type=gha,scope=api,mode=max"]
}
target "worker" {
  inherits = ["api"]
  context = "services/worker"
  tags = tags_for("worker")
}
group "default" { targets = ["api", "worker"] }
