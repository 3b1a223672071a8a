"""Hosts of MTA-STS policies for the tests: HTTPS with Python's ssl on port 443."""
import http.server
import ssl
import threading

PATH = '/.well-known/mta-sts.txt'


def policy(mode, *mx, max_age=604800):
    lines = ['version: STSv1', f'mode: {mode}', *(f'mx: {name}' for name in mx),
             f'max_age: {max_age}']
    return ''.join(line + '\r\n' for line in lines)


class PolicyHost:
    """papers: an authority and what it signs, as test_tls_out has it. domains: domain -> what its
    host says, a policy or (status, headers, octets); a domain of `distrusted` has a certificate of
    its own making. A domain of `gates` is not answered before its gate is set."""

    def __init__(self, world, papers, domains, distrusted=()):
        self.address = world.address()
        self.world = world
        self.papers = papers
        self.domains = dict(domains)
        self.distrusted = distrusted
        self.gates = {}
        self.asked = []  # domains, as they came
        self.server = None
        self.start()

    def start(self):
        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass

        self.server = Server((self.address, 443), self.handler())
        context = self.context('trusted', [name for name in self.domains
                                           if name not in self.distrusted])
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        self.world.at_end.append(self.stop)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
        self.server = None

    def context(self, name, domains):
        """A certificate for the policy hosts of the domains."""
        names = ',DNS:'.join(f'mta-sts.{domain}' for domain in domains)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.papers.make(f'sts-{name}', '127.9.9.9', host=names,
                                                 is_self_signed=name == 'distrusted'))
        if name == 'trusted' and self.distrusted:
            other = self.context('distrusted', self.distrusted)

            def choose(sock, asked, _context):
                if (asked or '').removeprefix('mta-sts.') in self.distrusted:
                    sock.context = other

            context.sni_callback = choose
        return context

    def handler(self):
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                domain = self.headers['Host'].removeprefix('mta-sts.')
                host.asked.append(domain)
                if domain in host.gates:
                    host.gates[domain].wait(60)
                said = host.domains.get(domain, '') if self.path == PATH else ''
                if isinstance(said, str):
                    said = (200 if said else 404, {'Content-Type': 'text/plain; charset=utf-8'},
                            said.encode())
                self.send_response(said[0])
                for name, value in said[1].items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said[2])

            def log_message(self, *_):
                pass

        return Handler
