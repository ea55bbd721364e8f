# UNTRIED: no Homebrew was at hand. A formula for a tap, which takes the archives of a release; `@…@` stand for what packaging/dist/make prints.
class Rbuild < Formula
  desc "Builds OCI images from Dockerfiles without daemon or root"
  homepage "@URL@"
  version "@VERSION@"
  license "Apache-2.0"
  depends_on :linux

  on_intel do
    url "@URL@/rbuild-@VERSION@-x86_64-unknown-linux-musl.tar.gz"
    sha256 "@SHA256_X86_64@"
  end
  on_arm do
    url "@URL@/rbuild-@VERSION@-aarch64-unknown-linux-musl.tar.gz"
    sha256 "@SHA256_AARCH64@"
  end

  def install
    bin.install "bin/rbuild"
    man1.install Dir["share/man/man1/*"]
    bash_completion.install "share/bash-completion/completions/rbuild"
    zsh_completion.install "share/zsh/site-functions/_rbuild"
    fish_completion.install "share/fish/vendor_completions.d/rbuild.fish"
  end

  test do
    (testpath/"Dockerfile").write "FROM scratch\nCOPY Dockerfile /\n"
    system bin/"rbuild", "--root", testpath/"store", "-t", "hello", testpath
  end
end
