#!/usr/bin/env bash
# Guess: full text search breaks a title at spaces, slashes, full stops and hyphens: 'Black/White' is found by white, 'iPhone-15' by iphone
#   15, 'Dress.Red' by red; that is what one puts full text search before LIKE for.
# Happens: the parser looks for paths, hosts and numbers in any text. 'Black/White', 'S/M/L' and '256GB/8GB' are each one word, a path;
#   'Dress.Red' is a host; the -15 of 'iPhone-15' and the -40 of '38-40' are numbers below zero. None of the parts is in the index: white
#   does not find the black and white shoe, iphone 15 not the case for it, and no dictionary, synonym or weight brings them back, for
#   these tokens come before dictionaries. Hyphens between letters do break ('T-shirt' is t-shirt, t and shirt), so that a test looks well.
#   Products that the first stage never finds no reranker shows.
# Source: PostgreSQL 15.18; postgresql.org/docs/current/textsearch-parsers.html names the types of tokens (file, host, int), by
#   '/usr/local/foo.txt', 'example.com' and '-1234'. Put spaces for / and for - and . beside letters or digits, in titles and queries
#   alike, before to_tsvector, as examples/postgres/shop.py does. Needs PostgreSQL's programs; another version may be installed.
set -euo pipefail
folder=$(mktemp -d)
programs=$(dirname "$(find /usr/lib/postgresql /usr/local/bin /opt -name initdb 2>/dev/null | head -1)")
[ -x "$programs/initdb" ] || { echo "PostgreSQL is not installed"; exit 2; }
as() { if [ "$(id -u)" = 0 ]; then su nobody -s /bin/bash -c "cd '$folder' && $1"; else bash -c "cd '$folder' && $1"; fi; }
trap 'as "\"$programs/pg_ctl\" -D cluster -m immediate stop" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
[ "$(id -u)" != 0 ] || chown nobody "$folder"
as "'$programs/initdb' -D cluster --no-sync --auth=trust --encoding=UTF8 --locale=C --username=shop" >/dev/null
as "'$programs/pg_ctl' -D cluster -w -l log -o \"-k '$folder' -c listen_addresses= -c fsync=off\" start" >/dev/null
psql -h "$folder" -U shop -d postgres -q -v ON_ERROR_STOP=1 <<'SQL'
SELECT version();
CREATE TABLE found AS
SELECT title, query, to_tsvector('english', title) AS words,
    to_tsvector('english', title) @@ plainto_tsquery('english', query) AS is_found,
    to_tsvector('english', regexp_replace(title, '(?<=\w)[/.-](?=\w)', ' ', 'g')) @@ plainto_tsquery('english', query) AS with_spaces
FROM (VALUES
    ('Running shoe Black/White', 'white shoe'), ('Blouse S/M/L', 'blouse m'), ('Phone 256GB/8GB', 'phone 256gb'),
    ('Case iPhone-15', 'iphone 15'), ('Socks 38-40', 'socks 40'), ('Dress.Red', 'red dress'), ('T-shirt', 'shirt')
) AS shop (title, query);
TABLE found;
SELECT token, alias, description FROM ts_debug('english', 'Black/White iPhone-15 Dress.Red') WHERE alias <> 'blank';
DO $$ BEGIN
    ASSERT (SELECT array_agg(title ORDER BY title) FROM found WHERE is_found) = ARRAY['T-shirt'];
    ASSERT (SELECT bool_and(with_spaces) FROM found);
END $$;
SQL
