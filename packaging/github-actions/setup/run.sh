#!/bin/sh
# What action.yml does, with its inputs in INPUT_… and the files and variables of GitHub's runners.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
nl='
'

refuse() {
  echo "::error::$1"
  exit 1
}
# Known words alone: a build that checks or pushes nothing because of a letter looks like one that did.
case $INPUT_PUSH in true | false | '') ;; *) refuse "\`push\` is true or false, not \`$INPUT_PUSH\`" ;; esac
case $INPUT_CHECK in error | warn | '') ;; *) refuse "\`check\` is error or warn, not \`$INPUT_CHECK\`" ;; esac
case $INPUT_CACHE in *"$nl"*) refuse "\`cache\` is one line" ;; esac

if [ -n "$INPUT_FROM" ]; then
  prefix=${RUNNER_TEMP:-${TMPDIR:-/tmp}}/rbuild
  mkdir -p "$prefix"
  case $INPUT_FROM in
    *://*) curl --fail --silent --show-error --location --retry 2 --output "$prefix/install.sh" "$INPUT_FROM/install.sh" ;;
    *) cp "$INPUT_FROM/install.sh" "$prefix/install.sh" ;;
  esac
  sh "$prefix/install.sh" --prefix "$prefix" --from "$INPUT_FROM"
  echo "$prefix/bin" >>"$GITHUB_PATH"
  PATH=$prefix/bin:$PATH
  # Ubuntu since 23.10 gives user namespaces, which RUN needs, to programs with a profile alone; root of the runner may load one.
  known=/proc/sys/kernel/apparmor_restrict_unprivileged_userns
  restricted=${RBUILD_ACTION_RESTRICTED:-$(cat "$known" 2>/dev/null || echo 0)}
  if [ "$restricted" = 1 ] && [ "$(id -u)" != 0 ] || [ -n "${RBUILD_ACTION_RESTRICTED:-}" ]; then
    printf 'abi <abi/4.0>,\ninclude <tunables/global>\nprofile rbuild-action "%s/bin/rbuild" flags=(unconfined) {\n  userns,\n}\n' "$prefix" |
      sudo -n apparmor_parser --replace ||
      echo "::warning::RUN may not work here: no profile of AppArmor's could be loaded that lets rbuild make user namespaces (\`rbuild doctor\`)"
  fi
fi
command -v rbuild >/dev/null || refuse "rbuild is not installed: give the action \`from\`, where a release is"
# Errors of every later step that calls rbuild are shown at their lines, too.
echo "::add-matcher::$here/problem-matcher.json"

if [ -n "$INPUT_REGISTRY" ]; then
  printf '%s' "$INPUT_PASSWORD" | rbuild login "$INPUT_REGISTRY" -u "$INPUT_USERNAME" --password-stdin
fi
if [ -n "$INPUT_CACHE" ]; then
  export RBUILD_CACHE_FROM="$INPUT_CACHE"
  echo "RBUILD_CACHE_FROM=$INPUT_CACHE" >>"$GITHUB_ENV"
  # What a fork's pull request made is read by nobody else.
  if [ "${GITHUB_EVENT_NAME:-}" = push ]; then
    export RBUILD_CACHE_TO="$INPUT_CACHE"
    echo "RBUILD_CACHE_TO=$INPUT_CACHE" >>"$GITHUB_ENV"
  fi
fi
[ -n "$INPUT_CONTEXT" ] || exit 0

# One word for each line of the input.
set --
add_lines() {
  old_ifs=$IFS
  IFS=$nl
  set -f
  for line in $2; do
    [ -z "$line" ] || words="$words$nl$1$line"
  done
  set +f
  IFS=$old_ifs
}
words=
[ -z "$INPUT_FILE" ] || words="$words$nl--file=$INPUT_FILE"
[ -z "$INPUT_TARGET" ] || words="$words$nl--target=$INPUT_TARGET"
[ -z "$INPUT_PLATFORMS" ] || words="$words$nl--platform=$INPUT_PLATFORMS"
add_lines --build-arg= "$INPUT_BUILD_ARGS"
add_lines '' "$INPUT_OPTIONS"
checked=$words
add_lines --tag= "$INPUT_TAGS"
[ "$INPUT_PUSH" != true ] || words="$words$nl--push"

# Runs rbuild with the words of a list.
call() {
  list=$1
  shift
  old_ifs=$IFS
  IFS=$nl
  set -f
  # shellcheck disable=SC2086 # a word for each line is what is wanted
  set -- "$@" $list
  set +f
  IFS=$old_ifs
  rbuild build "$@" "$INPUT_CONTEXT"
}

# A build says what it found, too.
[ "$INPUT_CHECK" != error ] || call "$checked" --call=check,error=true
digest=$(mktemp)
call "$words" --progress=plain --metadata-file="$digest"
found=$(sed -n 's/.*"containerimage.digest": *"\([^"]*\)".*/\1/p' "$digest" | head -n 1)
rm -f "$digest"
echo "digest=$found" >>"$GITHUB_OUTPUT"
{
  echo "### Image"
  echo
  echo "| | |"
  echo "|---|---|"
  echo "| digest | \`$found\` |"
  printf '%s\n' "$INPUT_TAGS" | while IFS= read -r tag; do [ -z "$tag" ] || echo "| name | \`$tag\` |"; done
} >>"$GITHUB_STEP_SUMMARY"
