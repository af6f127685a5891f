#!/usr/bin/env bash
# Guess: SSLContext.load_cert_chain with a certificate and a key that do not fit raises ssl.SSLError and changes nothing: a
#   server that tries a renewed pair on its live context goes on with the former one.
# Happens: it raises, and the context then holds the new certificate and no key. Every handshake from then on fails with
#   NO_SHARED_CIPHER. A renewal that writes certificate and key one after the other, read in between, ends the service.
#   Load the pair into a context that is thrown away first (inference/serving/listen.py).
# Source: docs.python.org/3/library/ssl.html says only that an SSLError is raised; seen with CPython 3.11 and OpenSSL 3.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for name in former renewed; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
        -keyout $name.key -out $name.pem 2>/dev/null
done
python3 - <<'PYTHON'
import socket
import ssl
import sys
import threading

print("Python", sys.version.split()[0], ssl.OPENSSL_VERSION)
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain("former.pem", "former.key")
client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
client.check_hostname, client.verify_mode = False, ssl.CERT_NONE


def served() -> bool:
    ours, theirs = socket.socketpair()

    def answer() -> None:
        try:
            server.wrap_socket(ours, server_side=True).close()
        except ssl.SSLError as error:
            print("server:", error.reason)
            ours.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        client.wrap_socket(theirs).close()
        return True
    except (ssl.SSLError, OSError):
        return False
    finally:
        theirs.close()
        thread.join()


assert served()
try:
    server.load_cert_chain("renewed.pem", "former.key")
except ssl.SSLError as error:
    print("refused:", error.reason)
else:
    raise SystemExit("it is taken")
assert not served(), "the former certificate is served still"
PYTHON
