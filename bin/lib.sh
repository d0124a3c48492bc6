# Shared by the commands in bin/: sourced, never run. Expects `set -euo pipefail`.
# shellcheck shell=bash

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$project/.venv
work=$project/.memo-server # git-ignored: SSH key, logs, locks of this checkout
oldest_python=11           # 3.N; ansible-core's oldest that the lock file carries
newest_python=14

say() { printf '%s\n' "$*"; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# step TITLE COMMAND...: a heading, the command's own output, the seconds it took.
step() {
  local title=$1 started=$SECONDS
  shift
  say "==> $title"
  "$@"
  say "    $title: $((SECONDS - started)) s"
}

# quietly TITLE COMMAND...: like step for commands that say too much: their output goes to a log,
# which is shown when they fail; a line every ten seconds tells that they are still at work.
quietly() {
  local title=$1 log=$work/last-command.log started=$SECONDS pid status=0 shown=0
  shift
  mkdir -p "$work"
  say "==> $title"
  "$@" >"$log" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    if ((SECONDS - started >= shown + 10)); then
      shown=$((SECONDS - started))
      say "    … $shown s: $(tail -n 1 "$log" | cut -c1-100)"
    fi
    # Half a second is how often we look whether the command has ended; the command itself sets the pace.
    read -r -t 0.5 <> <(:) || true
  done
  wait "$pid" || status=$?
  if ((status != 0)); then
    tail -n 40 "$log" >&2
    fail "$title failed with status $status; the whole output is in $log"
  fi
  say "    $title: $((SECONDS - started)) s"
}

# side_by_side MOST FUNCTION...: each once, begun in this order, at most so many at once. The output of each goes to a
# log, which is shown whole when it ends; a line every ten seconds tells what is under way. One that fails ends the
# others, as Ctrl-C does; its output comes last.
side_by_side() (
  # A subshell: its traps and job control end with it.
  local most=$1
  shift
  local -a waiting=("$@")
  declare -A names=() logs=()
  mkdir -p "$work"
  end_all() {
    trap '' INT TERM
    local pid patience=$((SECONDS + 120))
    # As Ctrl-C would: what tests have started they also end. Each job is a process group of its own.
    for pid in "${!names[@]}"; do kill -INT -- "-$pid" 2>/dev/null || true; done
    for pid in "${!names[@]}"; do
      while kill -0 "$pid" 2>/dev/null && ((SECONDS < patience)); do
        read -r -t 0.2 <> <(:) || true
      done
      kill -KILL -- "-$pid" 2>/dev/null || true
      wait "$pid" 2>/dev/null || true
      tail -n 20 "${logs[$pid]}"
      say "    ${names[$pid]} was ended; its whole output is in ${logs[$pid]}"
    done
  }
  local name pid status interrupted=0 shown=$SECONDS
  # In a trap bash takes note of no child's end, so the work is the loop's.
  trap 'interrupted=130' INT
  trap 'interrupted=143' TERM
  say "==> at most $most at once: $*"
  while ((${#names[@]} + ${#waiting[@]})); do
    if ((interrupted)); then
      end_all
      exit "$interrupted"
    fi
    while ((${#waiting[@]} && ${#names[@]} < most)); do
      name=${waiting[0]}
      waiting=("${waiting[@]:1}")
      # With job control each is a process group, and does not ignore Ctrl-C as a shell's background jobs otherwise do.
      set -m
      (set -e; "$name") 9>&- </dev/null >"$work/$name.log" 2>&1 &
      set +m
      names[$!]=$name logs[$!]=$work/$name.log
    done
    for pid in "${!names[@]}"; do
      kill -0 "$pid" 2>/dev/null && continue
      status=0
      wait "$pid" || status=$?
      name=${names[$pid]}
      unset "names[$pid]"
      ((status == 0)) || end_all
      cat "${logs[$pid]}"
      ((status == 0)) || fail "$name failed with status $status; its output is above"
    done
    if ((${#names[@]} && SECONDS >= shown + 10)); then
      shown=$SECONDS
      for pid in "${!names[@]}"; do
        say "    … $SECONDS s: ${names[$pid]}: $(tail -n 1 "${logs[$pid]}" | sed 's/\x1b\[[0-9;]*m//g' | cut -c1-100)"
      done
    fi
    read -r -t 0.5 <> <(:) || true
  done
)

# as_root COMMAND...: the command as root, through sudo where needed.
as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "this needs root and there is no sudo here; run it as root"
  fi
}

# missing_packages FILE...: the packages of these lists that are not installed.
missing_packages() {
  local package
  sed 's/#.*//' "$@" | while read -r package; do
    [[ -z $package ]] && continue
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || say "$package"
  done
}

# install_packages FILE...: installs what is missing of these lists, after saying so.
install_packages() {
  local -a missing
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  say "These packages will be installed with apt-get: ${missing[*]}"
  quietly "Refresh the package lists" as_root apt-get update
  quietly "Install packages" as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}

# python_works COMMAND: does it run, is it of a supported version, and can it make a virtual environment?
python_works() {
  "$1" -c "
import sys, venv, ensurepip, ssl, ctypes
sys.exit(not (3, $oldest_python) <= sys.version_info[:2] <= (3, $newest_python))" >/dev/null 2>&1
}

# find_python: the newest Python that works; on PATH first, then pyenv's.
find_python() {
  local minor candidate
  for ((minor = newest_python; minor >= oldest_python; minor--)); do
    for candidate in "python3.$minor" "/usr/bin/python3.$minor" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python; do
      if command -v "$candidate" >/dev/null && python_works "$candidate"; then
        command -v "$candidate"
        return 0
      fi
    done
  done
  return 1
}

# ensure_python: sets $python; installs Debian's python3-venv where no Python can make an environment.
ensure_python() {
  if ! python=$(find_python); then
    quietly "Refresh the package lists" as_root apt-get update
    quietly "Install Python" as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 python3-venv
    python=$(find_python) ||
      fail "no Python between 3.$oldest_python and 3.$newest_python works here; install one, e.g. apt-get install python3.12-venv"
  fi
}

# ensure_venv: the virtual environment holds exactly what the lock file says. A stamp tells a finished
# one from one whose making was interrupted.
ensure_venv() {
  local stamp=$venv/.complete wanted
  wanted=$(sha256sum "$project/requirements.txt" | cut -d' ' -f1)
  if [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && "$venv/bin/python" -c '' 2>/dev/null; then
    return 0
  fi
  ensure_python
  rm -rf "$venv"
  quietly "Make a virtual environment with $("$python" --version)" "$python" -m venv "$venv"
  quietly "Install the locked Python packages" "$venv/bin/python" -m pip install --disable-pip-version-check --require-hashes -r "$project/requirements.txt"
  say "$wanted" >"$stamp"
}

# ensure_web_tools: the checkers that come from npm, exactly as the lock file says; Node.js is in the virtual environment.
# A stamp tells a finished folder from one whose making was interrupted.
ensure_web_tools() {
  local source=$project/tests/web folder=$work/web-tools wanted
  wanted=$(cat "$source/package.json" "$source/package-lock.json" | sha256sum | cut -d' ' -f1)
  if [[ -f $folder/.complete && $(<"$folder/.complete") == "$wanted" ]]; then
    return 0
  fi
  rm -rf "$folder"
  mkdir -p "$folder"
  cp "$source/package.json" "$source/package-lock.json" "$source/.npmrc" "$folder"
  quietly "Install the locked npm packages" env PATH="$venv/bin:$PATH" npm ci --ignore-scripts --prefix "$folder"
  say "$wanted" >"$folder/.complete"
}

# check_system: the kinds of machine that were tried.
check_system() {
  local id version
  [[ -r /etc/os-release ]] || fail "this is not Debian or Ubuntu: there is no /etc/os-release"
  id=$(. /etc/os-release && say "${ID:-}")
  version=$(. /etc/os-release && say "${VERSION_ID:-}")
  case "$id $version" in
    "debian 12" | "debian 13" | "ubuntu 24.04") ;;
    debian\ * | ubuntu\ *) say "note: $id $version has not been tried; Debian 12, 13 and Ubuntu 24.04 have been thought of" ;;
    *) fail "this needs Debian 12 or 13 or Ubuntu 24.04; here is '$id $version'" ;;
  esac
}

# one_at_a_time: a second command that changes the machine waits for nobody; it says who is at work.
one_at_a_time() {
  mkdir -p "$work"
  exec 9>"$work/lock"
  flock -n 9 || fail "another bin/up, bin/down or bin/test is at work in this checkout; wait for it or end it"
}

# prepare FILE...: the packages of these lists and the virtual environment.
prepare() {
  check_system
  install_packages "$@"
  ensure_venv
}

# localcloud ARGUMENT...: the local cloud's command, also where the virtual environment is gone.
localcloud() {
  local interpreter=$venv/bin/python
  [[ -x $interpreter ]] || interpreter=$(find_python) || fail "no Python works here; run bin/up once"
  (cd "$project" && exec "$interpreter" -m localcloud "$@")
}
