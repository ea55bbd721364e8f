variable "X" { default = "x" }
variable "L" { default = ["a", "b", "c"] }
target "default" {
  args = {
    esc = "$${X} %%{if}"
    uni = "\u00e9\t\"q\" \\"
    heredoc = <<EOT
line ${X}
  two
EOT
    flush = <<-EOT
      one
        two ${X}
      three
    EOT
    cond = "%{ if X == "x" }yes%{ else }no%{ endif }"
    loop = "%{ for i, v in L }${i}=${v};%{ endfor }"
    trim = "a ${~ X ~} b"
    trimh = <<EOT
%{ for v in L ~}
- ${v}
%{ endfor ~}
end
EOT
    nested = "${upper("${X}-${"lit"}")}"
    wrap = "${3}"
  }
  dockerfile-inline = <<-EOF
    FROM alpine
    RUN echo "$${HOME}" && \
        true
  EOF
}
