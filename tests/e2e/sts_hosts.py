"""Hosts of MTA-STS policies, and of reports about TLS, for the tests: HTTPS with Python's ssl."""
import http.server
import ssl
import threading

PATH = '/.well-known/mta-sts.txt'


def policy(mode, *mx, max_age=604800):
    lines = ['version: STSv1', f'mode: {mode}', *(f'mx: {name}' for name in mx),
             f'max_age: {max_age}']
    return ''.join(line + '\r\n' for line in lines)


class HttpsHost:
    """Serves by HTTPS from start to stop, which are its own and the world's end's. A subclass has
    handler(), a class, and tls(), a context."""

    def __init__(self, world, port=443):
        self.address = world.address()
        self.port = port
        self.world = world
        self.gates = {}  # name of a host -> an event before which it does not answer
        self.server = None

    def start(self):
        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 100

            def handle_error(self, request, client_address):
                pass

        self.server = Server((self.address, self.port), self.handler())
        self.server.socket = self.tls().wrap_socket(self.server.socket, server_side=True,
                                                    do_handshake_on_connect=False)
        self.world.at_end.append(self.stop)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
        self.server = None


class PolicyHost(HttpsHost):
    """papers: an authority and what it signs, as test_tls_out has it. domains: domain -> what its
    host says, a policy or (status, headers, octets); a domain of `distrusted` has a certificate of
    its own making. A domain of `gates` is not answered before its gate is set."""

    def __init__(self, world, papers, domains, distrusted=()):
        super().__init__(world)
        self.papers = papers
        self.domains = dict(domains)
        self.distrusted = distrusted
        self.asked = []  # domains, as they came
        self.start()

    def tls(self):
        return self.context('trusted', [name for name in self.domains
                                        if name not in self.distrusted])

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


class ReportHost(HttpsHost):
    """Takes what is posted to any of `names`. answers: path -> statuses that it gives there, one
    after the other; then, and elsewhere, 200. What it says at the path /cut breaks off."""

    def __init__(self, world, papers, *names, port=443, is_distrusted=False):
        super().__init__(world, port)
        self.paper = papers.make(f'reports-{self.address}', '127.9.9.9', host=',DNS:'.join(names),
                                 is_self_signed=is_distrusted)
        self.answers = {}
        self.posts = []  # (host, path, headers, octets), as they came
        self.start()

    def tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.paper)
        return context

    def handler(self):
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                name, octets = self.headers['Host'], b''
                if 'Content-Length' in self.headers:
                    octets = self.rfile.read(int(self.headers['Content-Length']))
                host.posts.append((name, self.path, self.headers, octets))
                if name in host.gates:
                    host.gates[name].wait(120)
                answers = host.answers.get(self.path, [])
                status = answers.pop(0) if answers else 200
                self.send_response(status)
                if status // 100 == 3:
                    self.send_header('Location', f'https://{name}/elsewhere')
                self.send_header('Content-Length', '5')
                self.end_headers()
                self.wfile.write(b's' if self.path == '/cut' else b'said\n')

            def log_message(self, *_):
                pass

        return Handler
