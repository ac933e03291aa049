"""Peers of tls.py that speak something else before TLS: a server that resets, one behind the PROXY
protocol, and one of mail that starts TLS; and their clients.

    tls_peer.py ADDRESS RAW PROXY MAIL NGINX FOLDER    serves
    tls_peer.py raw|proxied|mail ADDRESS PORT NAME     is a client
"""

import socket
import ssl
import struct
import sys
import threading

PROXY = b"PROXY TCP4 192.0.2.1 192.0.2.2 4242 443\r\n"


def reset(connection):
    linger = struct.pack("ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()


def line(connection):
    text = b""
    while not text.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            break
        text += byte
    return text


def serve_raw(connection, _context):
    # The hello, and no answer.
    connection.recv(65536)
    reset(connection)


def serve_tls(connection, context):
    with context.wrap_socket(connection, server_side=True) as tls:
        tls.sendall(tls.recv(100))
        tls.unwrap()


def serve_proxied(connection, context):
    line(connection)
    serve_tls(connection, context)


def serve_mail(connection, context):
    connection.sendall(b"220 mail.lab.example ESMTP\r\n")
    line(connection)
    connection.sendall(b"250-mail.lab.example\r\n250 STARTTLS\r\n")
    line(connection)
    connection.sendall(b"220 go ahead\r\n")
    serve_tls(connection, context)


def guarded(serve, connection, context):
    try:
        serve(connection, context)
    except OSError as error:
        print(error, flush=True)


def listen(address, port, serve, context):
    server = socket.create_server((address, port))
    while True:
        connection, _ = server.accept()
        threading.Thread(target=guarded, args=(serve, connection, context), daemon=True).start()


def main_server(address, raw, proxied, mail, _nginx, folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/rsa.pem", f"{folder}/rsa.key")
    threads = [
        threading.Thread(target=listen, args=(address, int(port), serve, context))
        for port, serve in ((raw, serve_raw), (proxied, serve_proxied), (mail, serve_mail))
    ]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]


def main_client(kind, address, port, name):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = socket.create_connection((address, int(port)))
    if kind == "proxied":
        connection.sendall(PROXY)
    if kind == "mail":
        for said in (b"EHLO client\r\n", b"STARTTLS\r\n"):
            while not line(connection)[3:4] == b" ":
                pass
            connection.sendall(said)
        line(connection)
    with context.wrap_socket(connection, server_hostname=name) as tls:
        tls.sendall(b"hello")
        tls.recv(100)
        tls.unwrap()


if __name__ == "__main__":
    (main_client if sys.argv[1] in ("raw", "proxied", "mail") else main_server)(*sys.argv[1:])
