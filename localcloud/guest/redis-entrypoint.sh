#!/bin/sh
# The entrypoint of our Redis image: as Docker's official `redis` image, arguments that begin with a dash or end in
# .conf go to redis-server, which runs as the user redis on /data.
set -eu

if [ "${1#-}" != "${1:-}" ] || [ "${1%.conf}" != "${1:-}" ]; then
  set -- redis-server "$@"
fi
if [ "${1:-}" = redis-server ] && [ "$(id -u)" = 0 ]; then
  find . \! -user redis -exec chown redis '{}' +
  exec setpriv --reuid=redis --regid=redis --clear-groups -- "$@"
fi
exec "$@"
