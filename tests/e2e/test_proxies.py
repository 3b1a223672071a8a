"""Connections that go through proxies: what the proxy is told, whose address counts, and the way
past a proxy that cannot be reached."""
import socket
import threading

from harness import send_message, until
from test_peers import Receiver


class Proxy:
    """Takes connections, reads the header, and passes octets between client and target."""

    def __init__(self, address):
        self.address = address
        self.headers = []
        self.peers = []
        self.open = self.open_max = 0
        self.listener = socket.create_server((address, 5000))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, peer = self.listener.accept()
            self.peers.append(peer[0])
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        header = b''
        while len(header) < 16 or (header[:1] == b'P' and not header.endswith(b'\r\n')) or \
                (header[:1] != b'P' and len(header) < 16 + header[15]):
            octet = client.recv(1)
            if not octet:
                return
            header += octet
        self.headers.append(header)
        if header.startswith(b'PROXY '):
            _, family, source, target, _, port = header.decode().split()
            assert family == 'TCP4'
            port = int(port)
        else:
            assert header[:12] == b'\r\n\r\n\0\r\nQUIT\n' and header[12:16] == b'\x21\x11\0\x0c'
            source, target = socket.inet_ntoa(header[16:20]), socket.inet_ntoa(header[20:24])
            port = int.from_bytes(header[26:28], 'big')
        self.open += 1
        self.open_max = max(self.open, self.open_max)
        upstream = socket.create_connection((target, port), source_address=(source, 0))
        back = threading.Thread(target=self.pass_on, args=(upstream, client), daemon=True)
        back.start()
        self.pass_on(client, upstream)
        back.join()
        self.open -= 1

    @staticmethod
    def pass_on(source, to):
        try:
            while octets := source.recv(65536):
                to.sendall(octets)
        except OSError:
            pass
        try:
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass


CONFIG = '''{{base}}
<domain *>
    smtp-hosts [{receiver}]:2525
    max-smtp-out 20
</domain>
<source 127.0.0.0/8>
    default-virtual-mta p
</source>
<virtual-mta p>
    smtp-source-host {local} ignored.test
{more}
</virtual-mta>
{top}
'''


def start(world, more, top=''):
    receiver = Receiver(world)
    local = world.address()
    daemon = world.daemon(CONFIG.format(receiver=receiver.address, local=local, more=more, top=top))
    return daemon.start(), receiver, local


def send(daemon, number):
    assert send_message(daemon.listen, 'a@sender.test', [f'b{number}@d{number}.test'],
                        b'Subject: s\r\n\r\nx\r\n')[0] == 250


def test_a_proxy_of_a_section(world):
    """Version 2; the client's address and name stand in the row; one connection by its limit."""
    proxy, client = Proxy(world.address()), world.address()
    daemon, receiver, local = start(
        world, '    use-proxy one\n    max-smtp-out 1',
        f'<proxy one>\n    server {proxy.address}:5000\n    client {client} c.proxy.test\n'
        '    protocol-version 2\n</proxy>\n')
    for number in range(5):
        send(daemon, number)
    rows = daemon.wait_for_rows(5)
    assert {(row['type'], row['dlvSourceIp'], row['vmta']) for row in rows} == {('d', client, 'p')}
    assert len(receiver.wait(5)) == 5
    assert set(proxy.peers) == {local}
    assert {header[16:20] for header in proxy.headers} == {socket.inet_aton(client)}
    assert {header[20:28] for header in proxy.headers} == \
        {socket.inet_aton(receiver.address) + b'\0\0' + (2525).to_bytes(2, 'big')}


def test_the_next_proxy_while_the_first_is_gone(world):
    """In order: nobody listens on the first one, and no message bounces or waits for it."""
    dead, proxy = world.address(), Proxy(world.address())
    clients = [world.address() for _ in range(2)]
    daemon, _, _ = start(
        world, '    use-proxy first,second',
        f'<proxy first>\n    server {dead}:5000\n    client {clients[0]}\n</proxy>\n'
        f'<proxy second>\n    server {proxy.address}:5000\n    client {clients[1]}\n</proxy>\n')
    for number in range(3):
        send(daemon, number)
    rows = daemon.wait_for_rows(3)
    assert {(row['type'], row['dlvSourceIp']) for row in rows} == {('d', clients[1])}
    assert {header.split()[2] for header in proxy.headers} == {clients[1].encode()}


def test_a_source_that_lives_on_a_proxy(world):
    """smtp-proxy-source-host, in turn with the address of this machine; version 1."""
    proxy, client, here = Proxy(world.address()), world.address(), world.address()
    daemon, receiver, local = start(
        world, f'    smtp-proxy-source-host {here} {proxy.address}:5000 {client} c.proxy.test\n'
               '    <domain *>\n        max-msg-per-connection 1\n    </domain>')
    for _ in range(8):
        send(daemon, 0)
    rows = daemon.wait_for_rows(8)
    assert {row['dlvSourceIp'] for row in rows} == {client, local}
    assert set(proxy.peers) == {here}
    until(lambda: proxy.headers, 5, 'a header')
    assert set(proxy.headers) == {f'PROXY TCP4 {client} {receiver.address} 0 2525\r\n'.encode()}


def test_the_next_proxy_rests_while_the_first_works(world):
    """Each message by a connection of its own: all come from the first one's client."""
    proxy, clients = Proxy(world.address()), [world.address() for _ in range(2)]
    daemon, _, _ = start(
        world, '    use-proxy first,second\n    <domain *>\n        max-msg-per-connection 1\n'
        '    </domain>', ''.join(
            f'<proxy {name}>\n    server {proxy.address}:5000\n    client {client}\n</proxy>\n'
            for name, client in zip(('first', 'second'), clients)))
    for _ in range(6):
        send(daemon, 0)
    assert {row['dlvSourceIp'] for row in daemon.wait_for_rows(6)} == {clients[0]}
