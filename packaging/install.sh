#!/bin/sh
# Installs rbuild below a folder of yours, without root:
#
#     sh install.sh                      into ~/.local (root: into /usr/local)
#     sh install.sh --prefix DIR         into DIR/bin and DIR/share
#     sh install.sh --uninstall          removes what it installed there, and nothing else
#     sh install.sh --from URL|DIR       fetches the archive from there
#
# Images and the cache are not touched: `rbuild prune --all` empties the store before you uninstall.
#
# A release's copy of this script has the digests of its archives in it; packaging/dist/make puts them in. An archive that
# has another one is not unpacked.
set -eu

version='@VERSION@'
from='@URL@'
sums='@SUMS@'

fail() {
  echo "error: $1" >&2
  [ $# -lt 2 ] || echo "  = help: $2" >&2
  exit 1
}

has() {
  command -v "$1" >/dev/null 2>&1
}

main() {
  uninstall=no
  prefix=
  while [ $# -gt 0 ]; do
    case $1 in
      --prefix | --from) [ $# -gt 1 ] || fail "\`$1\` wants a value" ;;
    esac
    case $1 in
      --prefix) prefix=$2; shift ;;
      --prefix=*) prefix=${1#*=} ;;
      --from) from=$2; shift ;;
      --from=*) from=${1#*=} ;;
      --uninstall) uninstall=yes ;;
      *) fail "unknown option \`$1\`" "there are --prefix DIR, --from URL, --uninstall" ;;
    esac
    shift
  done
  if [ -z "$prefix" ]; then
    if [ "$(id -u)" = 0 ]; then
      prefix=/usr/local
    else
      [ -n "${HOME:-}" ] || fail 'there is no place to install to: $HOME is not set' 'name one with `--prefix DIR`'
      prefix=$HOME/.local
    fi
  fi
  case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac
  list=$prefix/share/rbuild/installed
  if [ $uninstall = yes ]; then
    [ -e "$list" ] || fail "nothing in $prefix was installed by this script" 'name the folder with `--prefix DIR`'
    remove
    echo "rbuild is gone from $prefix"
  else
    install
  fi
}

# What the list names: files, and folders (`bin/`), the inner ones first, which go only when nothing else is in them.
remove() {
  mv "$list" "$list.old"
  while IFS= read -r file; do
    case $file in */) ;; *) rm -f "$prefix/$file" ;; esac
  done <"$list.old"
  folders=$(grep '/$' "$list.old" || true)
  rm -f "$list.old"
  printf '%s\n' "$folders" | while IFS= read -r folder; do
    [ -z "$folder" ] || rmdir "$prefix/$folder" 2>/dev/null || true
  done
}

# Makes a folder of the prefix with those above it, and lists which were not there.
make_folder() {
  [ ! -d "$prefix/$1" ] || return 0
  case $1 in */*) make_folder "${1%/*}" ;; esac
  mkdir "$prefix/$1"
  echo "$1/" >>"$made"
}

install() {
  [ "$(uname -s)" = Linux ] || fail "rbuild is for Linux; this is $(uname -s)"
  case $(uname -m) in
    x86_64 | amd64) target=x86_64-unknown-linux-musl ;;
    aarch64 | arm64) target=aarch64-unknown-linux-musl ;;
    *) fail "there is no program for $(uname -m)" 'compile one: `cargo build --release` in the repository' ;;
  esac
  case $version in @*) fail 'this copy of the script belongs to no release' 'take that of a release, or see README to compile rbuild' ;; esac
  [ -n "$from" ] || fail 'it is not known where to fetch from' 'name it with `--from URL`, or a folder that has the archive'
  name=rbuild-$version-$target
  expected=$(printf '%s\n' "$sums" | while read -r sum file; do [ "$file" != "$name.tar.gz" ] || echo "$sum"; done)
  [ -n "$expected" ] || fail "release $version has no archive for $target"

  has tar || fail "tar is not here, which unpacks the archive"
  temporary=$(mktemp -d)
  trap 'rm -rf "$temporary"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  fetch "$from/$name.tar.gz" "$temporary/archive"
  found=$(digest "$temporary/archive")
  [ "$found" = "$expected" ] ||
    fail "$from/$name.tar.gz is not what was released: its SHA-256 is $found, that of the release $expected" 'try again; if it stays so, do not use it'
  tar -xzf "$temporary/archive" -C "$temporary"
  "$temporary/$name/bin/rbuild" --version >/dev/null ||
    fail "the program does not run from $temporary" 'if programs may not run there (noexec), name another folder: `TMPDIR=DIR`'

  new=$temporary/installed
  made=$temporary/folders
  : >"$made"
  mkdir -p "$prefix" 2>/dev/null && [ -w "$prefix" ] && make_folder bin 2>/dev/null && make_folder share/rbuild 2>/dev/null && [ -w "$prefix/bin" ] ||
    fail "cannot write to $prefix" 'name another folder with `--prefix DIR`'
  (cd "$temporary/$name" && find bin share -type f | sort) >"$new"
  # Files of an older version that this one has not.
  if [ -e "$list" ]; then
    while IFS= read -r file; do
      case $file in */) continue ;; esac
      grep -qxF "$file" "$new" || rm -f "$prefix/$file"
    done <"$list"
  fi
  # Each appears whole: a build that runs keeps the program that it has.
  while IFS= read -r file; do
    make_folder "${file%/*}"
    cp "$temporary/$name/$file" "$prefix/$file.new"
    mv -f "$prefix/$file.new" "$prefix/$file"
  done <"$new"
  # Folders that this or an earlier version made.
  if [ -e "$list" ]; then grep '/$' "$list" >>"$made" || true; fi
  sort -ru "$made" >>"$new"
  cp "$new" "$list.new"
  mv -f "$list.new" "$list"

  echo "rbuild $version is in $prefix/bin"
  case :$PATH: in
    *:"$prefix/bin":*) ;;
    *) echo "your shell does not look there yet:  export PATH=\"$prefix/bin:\$PATH\"" ;;
  esac
  echo "what RUN needs on this machine:  rbuild doctor"
  echo "to remove it again, with this script:  sh install.sh --uninstall --prefix \"$prefix\""
}

fetch() {
  case $1 in
    *://*) ;;
    *) cp "$1" "$2" || fail "there is no $1"; return ;;
  esac
  if has curl; then
    curl --fail --silent --show-error --location --retry 2 --output "$2" "$1" || fail "cannot fetch $1"
  elif has wget; then
    wget -q -O "$2" "$1" || fail "cannot fetch $1"
  else
    fail "neither curl nor wget is here" 'fetch the archive by hand, and name its folder with `--from DIR`'
  fi
}

digest() {
  if has sha256sum; then
    sha256sum <"$1" | cut -d ' ' -f 1
  elif has shasum; then
    shasum -a 256 <"$1" | cut -d ' ' -f 1
  elif has openssl; then
    openssl dgst -sha256 -r <"$1" | cut -d ' ' -f 1
  else
    fail "neither sha256sum nor shasum nor openssl is here, so that nothing can be verified"
  fi
}

# All of it was read before the first line runs: half a script does nothing.
main "$@"
