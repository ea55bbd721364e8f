variable "PHP_VERSIONS" { default = "8.2,8.3" }
variable "VARIANTS" { default = ["cli", "fpm"] }
function "is_latest" {
  params = [v]
  result = equal(v, element(reverselist(split(",", PHP_VERSIONS)), 0))
}
target "default" {
  name = "php-${replace(php, ".", "-")}-${variant}-${os.name}"
  matrix = {
    php = split(",", PHP_VERSIONS)
    variant = VARIANTS
    os = [{ name = "alpine", tag = "3.20" }, { name = "bookworm", tag = "slim" }]
  }
  contexts = { php-base = "docker-image://php:${php}-${variant}-${os.name}" }
  args = { PHP_VERSION = php, OS = "${os.name}-${os.tag}" }
  tags = flatten([
    "app:${php}-${variant}-${os.name}",
    is_latest(php) ? ["app:${variant}-${os.name}"] : [],
  ])
}
