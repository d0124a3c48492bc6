#!/bin/sh
# The entrypoint of our MySQL image: the documented variables of Docker's official `mysql` image ("How to use
# this image", hub page), so that either image can be used: MYSQL_ROOT_PASSWORD_FILE, MYSQL_ROOT_HOST,
# MYSQL_DATABASE, MYSQL_USER, MYSQL_PASSWORD_FILE, /docker-entrypoint-initdb.d/*.sql and *.sh, `mysqld` arguments.
set -eu

data=/var/lib/mysql
socket=/run/mysqld/init.sock

secret() { # secret NAME: the value of NAME_FILE's file, else of NAME
  eval "file=\${$1_FILE:-} value=\${$1:-}"
  if [ -n "$file" ]; then cat "$file"; else printf %s "$value"; fi
}

quoted() { # quoted TEXT: as an SQL string
  printf "'%s'" "$(printf %s "$1" | sed "s/\\\\/\\\\\\\\/g; s/'/''/g")"
}

case "${1:-mysqld}" in
  mysqld | -*) ;;
  *) exec "$@" ;;
esac
[ "${1:-}" = mysqld ] && shift

install -d -o mysql -g mysql -m 0755 /run/mysqld
install -d -o mysql -g mysql -m 0750 "$data" /var/lib/mysql-files

# A marker, not a directory's presence: an initialisation that was killed is begun again.
if [ ! -d "$data/mysql" ] || [ -e "$data/.initializing" ]; then
  root_password=$(secret MYSQL_ROOT_PASSWORD)
  if [ -z "$root_password" ]; then
    echo "mysql: an empty data directory needs a root password: set MYSQL_ROOT_PASSWORD_FILE" >&2
    exit 1
  fi
  echo "mysql: initialising $data" >&2
  find "$data" -mindepth 1 ! -name .initializing -delete
  touch "$data/.initializing"
  mysqld --initialize-insecure --user=mysql --datadir="$data"
  mysqld --user=mysql --datadir="$data" --skip-networking --mysqlx=OFF --socket="$socket" "$@" &
  server=$!
  tries=0
  until mysqladmin --no-defaults --socket="$socket" --user=root ping >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -gt 240 ] || ! kill -0 "$server" 2>/dev/null; then
      echo "mysql: the server for the initialisation did not start" >&2
      exit 1
    fi
    sleep 0.25 # between two looks; the look decides
  done
  {
    echo "ALTER USER 'root'@'localhost' IDENTIFIED BY $(quoted "$root_password");"
    if [ "${MYSQL_ROOT_HOST:-%}" != localhost ]; then
      echo "CREATE USER 'root'@$(quoted "${MYSQL_ROOT_HOST:-%}") IDENTIFIED BY $(quoted "$root_password");"
      echo "GRANT ALL ON *.* TO 'root'@$(quoted "${MYSQL_ROOT_HOST:-%}") WITH GRANT OPTION;"
    fi
    if [ -n "${MYSQL_DATABASE:-}" ]; then
      echo "CREATE DATABASE IF NOT EXISTS \`$MYSQL_DATABASE\`;"
    fi
    if [ -n "${MYSQL_USER:-}" ]; then
      echo "CREATE USER $(quoted "$MYSQL_USER")@'%' IDENTIFIED BY $(quoted "$(secret MYSQL_PASSWORD)");"
      [ -z "${MYSQL_DATABASE:-}" ] || echo "GRANT ALL ON \`$MYSQL_DATABASE\`.* TO $(quoted "$MYSQL_USER")@'%';"
    fi
  } | mysql --no-defaults --socket="$socket" --user=root
  credentials=$(mktemp)
  printf '[client]\nuser=root\npassword="%s"\n' "$root_password" >"$credentials"
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
      *.sql)
        echo "mysql: $file" >&2
        mysql --defaults-extra-file="$credentials" --socket="$socket" ${MYSQL_DATABASE:+"$MYSQL_DATABASE"} <"$file"
        ;;
      *.sh)
        echo "mysql: $file" >&2
        sh "$file"
        ;;
    esac
  done
  mysqladmin --defaults-extra-file="$credentials" --socket="$socket" shutdown
  rm -f "$credentials"
  wait "$server"
  rm -f "$data/.initializing"
  echo "mysql: initialised" >&2
fi

exec mysqld --user=mysql --datadir="$data" "$@"
