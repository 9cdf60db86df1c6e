#!/usr/bin/env bash
# Installs what the real servers of the tests need: Debian packages (as root) and Maven's jars (as anyone).
#
# Only what is missing is installed (kcat is for people: `kcat -b ADDRESS -L`), and no service of the system is started: the tests run processes of their own.
# Usage: tests/servers/install.sh
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
repo="$(cd "$here/../.." && pwd)"
python="${PYTHON:-python3}"

# The package that brings each command which is missing here.
missing_packages() {
  command -v redis-server > /dev/null || echo redis-server
  command -v redis-cli > /dev/null || echo redis-tools
  command -v kcat > /dev/null || echo kcat
  command -v prometheus > /dev/null || echo prometheus
  command -v javac > /dev/null || echo default-jdk-headless # 17 or later
  command -v mvn > /dev/null || echo maven
  command -v node > /dev/null || echo nodejs
  command -v npm > /dev/null || echo npm
  compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null || echo postgresql
}

install_packages() {
  local policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then # exit code 101 forbids package scripts to start services (invoke-rc.d's policy)
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

mapfile -t packages < <(missing_packages)
if ((${#packages[@]})); then
  if [[ $(id -u) != 0 ]]; then
    echo "run this as root, or install by hand: apt-get install ${packages[*]}" >&2
    exit 1
  fi
  echo "tests/servers: installing ${packages[*]}"
  install_packages "${packages[@]}" > /dev/null
else
  echo "tests/servers: no Debian package is missing"
fi

echo "tests/servers: fetching the jars of Kafka, OpenSearch and DynamoDB Local"
cd "$repo"
"$python" -m tests.servers.jars

echo "tests/servers: fetching kinesis-mock"
"$python" -m tests.servers.kinesis
