# A private PostgreSQL on the node's address. Pods reach it like a managed one: with a password, and with an owner who
# may create roles and is not a superuser. It shares nothing with the machine's own server.
# shellcheck shell=bash

postgres() {
  local programs password as_postgres enter
  in_node
  as_postgres=("${enter[@]}" setpriv --reuid=postgres --regid=postgres --clear-groups)
  programs=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -n 1)
  chown postgres:postgres "$run/postgres"
  # In the node, this folder is /var/lib/postgresql, which the server can reach, wherever CLUSTER_DIR is.
  "${as_postgres[@]}" "$programs/initdb" --pgdata=/var/lib/postgresql/data --username=postgres --auth-local=trust --auth-host=scram-sha-256 \
    --encoding=UTF8 --locale=C --no-sync
  echo 'host all all all scram-sha-256' >>"$run/postgres/data/pg_hba.conf"
  start_as postgres "${as_postgres[@]}" "$programs/postgres" -D /var/lib/postgresql/data -k /var/lib/postgresql -c listen_addresses="$NODE_IP" \
    -c max_connections=200 -c password_encryption=scram-sha-256 -c dynamic_shared_memory_type=sysv -c fsync=off -c full_page_writes=off
  until_ok 30 "PostgreSQL" "$programs/pg_isready" --quiet --host="$NODE_IP"
  password=$(openssl rand -hex 24)
  # On standard input, because ps shows command lines.
  "${as_postgres[@]}" psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --host=/var/lib/postgresql postgres <<Q
create role warble login createrole password '$password';
create database warble owner warble;
Q
  (umask 077; printf %s "postgres://warble:$password@$NODE_IP:5432/warble?sslmode=disable" >"$run/database.url")
}
