"""TLS with receivers: Python's ssl module (OpenSSL) and Postfix as receivers, with certificates that
hold or do not, and receivers whose STARTTLS leads nowhere, at each level.
"""
import os
import socket
import ssl
import subprocess
import threading

import pytest

import dns_servers
import postfix
from dns_servers import Resolver
from harness import accounting_rows, send_message, until

TEXT = b'From: a@sender.test\r\nSubject: test\r\n\r\nHello\r\n'


def openssl(*words):
    subprocess.run(['openssl', *words], check=True, capture_output=True, timeout=60)


class Papers:
    """An authority, and certificates that it has signed, or somebody else; PEM files."""

    def __init__(self, world):
        self.world = world
        self.authority = self.sign('authority', '/CN=authority', 3650, issuer=None,
                                   extension='basicConstraints=critical,CA:TRUE')
        self.key = self.authority

    def sign(self, name, subject, days, issuer, extension, is_rsa=False):
        path = self.world.path(f'{name}.pem')
        key, request, paper = path + '.key', path + '.csr', path + '.crt'
        if is_rsa:
            openssl('genrsa', '-out', key, '2048')
        else:
            openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', key)
        openssl('req', '-new', '-key', key, '-subj', subject, '-out', request)
        with open(path + '.ext', 'w', encoding='utf-8') as file:
            file.write(extension + '\n')
        by = ['-signkey', key] if issuer is None else ['-CA', issuer, '-CAkey', issuer,
                                                       '-CAcreateserial']
        openssl('x509', '-req', '-in', request, *by, '-days', str(days), '-extfile', path + '.ext',
                '-out', paper)
        with open(path, 'w', encoding='utf-8') as file:
            for part in (paper, key):
                with open(part, encoding='utf-8') as text:
                    file.write(text.read())
        return path

    def make(self, name, address, days=30, is_self_signed=False, host='mx.test', is_rsa=False):
        return self.sign(name, '/CN=leaf', days, None if is_self_signed else self.authority,
                         f'subjectAltName=IP:{address},DNS:{host}', is_rsa)


class Receiver:
    """A receiver in threads. manner: what comes behind EHLO and STARTTLS."""

    def __init__(self, world, paper=None, manner='tls', address=None, tune=None):
        self.address = address or world.address()
        self.manner = manner
        self.messages = []  # recipient, version, resumed, SNI, number of the connection
        self.starts = 0
        self.connections = 0
        self.peer_subjects = []
        self.lock = threading.Lock()
        self.context = None
        if paper:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(paper)
            self.context.sni_callback = self.note_name
            if tune:
                tune(self.context)
        self.listener = socket.create_server((self.address, 2525))
        world.at_end.append(self.close)
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        """Whoever waits in accept is woken: a call that the kernel starts again would be about the
        next socket of the same number, another test's."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    @staticmethod
    def note_name(sock, name, _context):
        sock.server_hostname_seen = name

    def accept(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                number = self.connections
            threading.Thread(target=self.guarded, args=(peer, number), daemon=True).start()

    def guarded(self, peer, number):
        try:
            with peer:
                peer.settimeout(60)
                self.talk(peer, number)
        except (OSError, ssl.SSLError):
            pass

    def start(self, peer):
        """The socket with TLS, or None when that ends the connection."""
        with self.lock:
            self.starts += 1
        if self.manner == 'inject':
            peer.sendall(b'220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n')
            peer.recv(1000)
            return None
        peer.sendall(b'220 go\r\n')
        if self.manner == 'garbage':
            # In answer to a ClientHello: what comes with the 220 is something else.
            peer.recv(1)
            peer.sendall(b'what is that\r\n')
            peer.recv(1000)
            return None
        if self.manner == 'close':
            return None
        if self.manner == 'stall':
            while peer.recv(1000):
                pass
            return None
        secured = self.context.wrap_socket(peer, server_side=True)
        if secured.getpeercert():
            self.peer_subjects.append(secured.getpeercert()['subject'])
        return secured

    def talk(self, peer, number):
        peer.sendall(b'220 mx.test\r\n')
        lines = peer.makefile('rb')
        rcpt, version = None, None
        while line := lines.readline():
            verb = line.split()[0].upper() if line.split() else b''
            if verb == b'EHLO':
                offers = self.manner != 'none' and not version
                peer.sendall(b'250-mx.test\r\n250-STARTTLS\r\n250 8BITMIME\r\n' if offers
                             else b'250 mx.test\r\n')
            elif verb == b'STARTTLS' and self.manner == '454':
                self.starts += 1
                peer.sendall(b'454 4.7.0 TLS not available due to temporary reason\r\n')
            elif verb == b'STARTTLS':
                peer = self.start(peer)
                if not peer:
                    return
                lines, version = peer.makefile('rb'), peer.version()
            elif verb == b'DATA':
                peer.sendall(b'354 go\r\n')
                while lines.readline() not in (b'.\r\n', b''):
                    pass
                resumed = bool(version) and peer.session_reused
                name = getattr(peer, 'server_hostname_seen', None)
                self.messages.append((rcpt, version, resumed, name, number))
                peer.sendall(b'250 2.0.0 taken\r\n')
            elif verb == b'QUIT':
                peer.sendall(b'221 bye\r\n')
                return
            else:
                if verb == b'RCPT':
                    rcpt = line.split(b'<')[1].split(b'>')[0].decode()
                peer.sendall(b'250 ok\r\n')

    def wait(self, *rcpts):
        """The message of each recipient. The bound is for what hangs."""
        until(lambda: set(rcpts) <= {message[0] for message in self.messages}, 90,
              f'{rcpts} at the receiver, got {self.messages}')
        return [next(m for m in self.messages if m[0] == rcpt) for rcpt in rcpts]


@pytest.fixture(name='papers')
def papers_fixture(world):
    return Papers(world)


def send(daemon, *rcpts):
    for rcpt in rcpts:
        code, text = send_message(daemon.listen, 'a@sender.test', [rcpt], TEXT)
        assert code == 250, text


def last_error(daemon, domain, words):
    until(lambda: words in daemon.ask('explain', f'{domain}/v').get('lastError', ''), 90,
          f'{words} in the last error of {domain}')


def columns(world):
    """An accounting file of its own, and how to read it."""
    path = world.path('tls.csv')
    return (f'<acct-file {path}>\n    records d\n    record-fields d '
            f'rcpt,dlvTlsProtocol,dlvTlsCipher\n</acct-file>\n',
            lambda: {row['rcpt']: row for row in accounting_rows(path)})


def blocks(domains):
    """<domain> blocks: name -> (receiver, settings)."""
    return ''.join(f'<domain {name}>\n    smtp-hosts [{receiver.address}]:2525\n{settings}</domain>\n'
                   for name, (receiver, settings) in domains.items())


STRICT = '    require-starttls yes\n'


def test_certificates_at_each_level(world, papers):
    """No certificate keeps opportunistic mail, or mail that only needs TLS, from being secured; with
    smtp-tls-ca-file only the one that holds is good enough. The versions are those of the peer."""
    kinds = {}
    for kind in ('good', 'old', 'expired', 'wrong', 'self'):
        address = world.address()
        paper = papers.make(kind, '127.9.9.9' if kind == 'wrong' else address,
                            days=-1 if kind == 'expired' else 30, is_self_signed=kind == 'self',
                            host='other.test')
        kinds[kind] = Receiver(world, paper, address=address, tune=only_1_2 if kind == 'old' else None)
    domains = {}
    for kind, receiver in kinds.items():
        domains[f'{kind}.may.test'] = (receiver, '')
        domains[f'{kind}.must.test'] = (receiver, STRICT)
        domains[f'{kind}.ca.test'] = (receiver, STRICT + f'    smtp-tls-ca-file {papers.authority}\n')
    file, rows = columns(world)
    daemon = world.daemon('{base}' + file + blocks(domains)).start()
    for domain in domains:
        send(daemon, f'x@{domain}')
    for kind, receiver in kinds.items():
        wanted = [f'x@{kind}.may.test', f'x@{kind}.must.test']
        if kind in ('good', 'old'):
            wanted.append(f'x@{kind}.ca.test')
        version = 'TLSv1.2' if kind == 'old' else 'TLSv1.3'
        got = receiver.wait(*wanted)
        assert {message[1] for message in got} == {version}, (kind, got)
        # Nobody shares a connection with others' terms.
        assert len({message[4] for message in got}) == len(wanted), (kind, got)
    for kind, words in (('expired', 'certificate has expired'), ('wrong', 'IP address mismatch'),
                        ('self', 'self signed certificate')):
        last_error(daemon, f'{kind}.ca.test', words)
        assert all(message[0] != f'x@{kind}.ca.test' for message in kinds[kind].messages)
    until(lambda: len(rows()) == 12, 10, 'twelve rows')
    assert rows()['x@good.ca.test']['dlvTlsProtocol'] == 'TLSv1.3'
    assert rows()['x@old.may.test']['dlvTlsProtocol'] == 'TLSv1.2'
    assert rows()['x@good.ca.test']['dlvTlsCipher'].startswith('TLS_')
    assert not [row for row in daemon.rows() if row['type'] == 'b']


def only_1_2(context):
    context.maximum_version = ssl.TLSVersion.TLSv1_2


def demand_certificate(context):
    context.verify_mode = ssl.CERT_REQUIRED


def test_where_starttls_leads_nowhere(world, papers):
    """Opportunistic mail goes without, at the next attempt or on the same connection, and the host
    is remembered; mail that needs TLS waits with the reason, and never goes in the clear."""
    manners = {manner: Receiver(world, manner=manner)
               for manner in ('none', '454', 'garbage', 'close', 'stall', 'inject')}
    # With TLS 1.3 its refusal comes when the handshake is over for us.
    manners['demand'] = Receiver(world, papers.make('mx', '127.9.9.9'), manner='demand',
                                 tune=demand_certificate)
    more = '    retry-after 1h\n    smtp-command-timeout 5s\n    max-msg-per-connection 1\n'
    domains = {}
    for manner, receiver in manners.items():
        domains[f'{manner}.may.test'] = (receiver, more)
        domains[f'{manner}.must.test'] = (receiver, more + STRICT)
    file, rows = columns(world)
    daemon = world.daemon('{base}' + file + blocks(domains)).start()
    for domain in domains:
        send(daemon, f'x@{domain}')
    for manner, receiver in manners.items():
        assert receiver.wait(f'x@{manner}.may.test')[0][1] is None
    for manner, words in (('none', 'does not offer STARTTLS'), ('454', '454 4.7.0'),
                          ('garbage', 'TLS could not be begun'), ('close', 'TLS could not be begun'),
                          ('stall', 'no answer in time'), ('inject', 'in the clear behind'),
                          ('demand', 'starting TLS')):
        last_error(daemon, f'{manner}.must.test', words)
    before = {manner: receiver.starts for manner, receiver in manners.items()}
    for manner, receiver in manners.items():
        send(daemon, f'y@{manner}.may.test')
        receiver.wait(f'y@{manner}.may.test')
        assert not [m for m in receiver.messages if 'must' in m[0]]
    assert {manner: receiver.starts for manner, receiver in manners.items() if manner != '454'} == \
        {manner: count for manner, count in before.items() if manner != '454'}
    until(lambda: len(rows()) == 14, 10, 'fourteen rows')
    assert {row['dlvTlsProtocol'] for row in rows().values()} == {''}


def test_sessions_names_and_certificates_of_ours(world, papers):
    """SNI is the name of the MX host, which the certificate must have; sessions are taken up again
    where that is wanted; our certificate is shown to who asks for it; log-tls tells."""
    if dns_servers.missing('unbound'):
        pytest.skip('unbound is not installed')
    address = world.address()
    ours = papers.make('ours', '127.0.0.1', host='relay.test')

    def ask(context):
        context.load_verify_locations(papers.authority)
        context.verify_mode = ssl.CERT_OPTIONAL

    receiver = Receiver(world, papers.make('mx', '127.9.9.9', host='mx.d.test'), address=address,
                        tune=ask)
    server = Resolver(world, 'd.test. MX 1 mx.d.test.', 'e.test. MX 1 other.test.',
                      f'mx.d.test. A {address}', f'other.test. A {address}')
    strict = f'{STRICT}    smtp-tls-ca-file {papers.authority}\n    retry-after 1h\n'
    daemon = world.daemon(
        f'{{base}}name-server {server.address}:5353\nallow-loopback-destinations yes\n'
        f'<domain *>\n    default-smtp-port 2525\n    max-msg-per-connection 1\n'
        f'    reuse-ssl-session yes\n    smtp-client-certificate {ours}\n    log-tls yes\n{strict}'
        '</domain>\n').start()
    for number in range(6):
        send(daemon, f'{number}@d.test')
        receiver.wait(f'{number}@d.test')
    send(daemon, 'x@e.test')
    assert {message[3] for message in receiver.messages} == {'mx.d.test'}
    assert [message[2] for message in receiver.messages].count(True) >= 4, receiver.messages
    assert receiver.peer_subjects and receiver.peer_subjects[0] == ((('commonName', 'leaf'),),)
    last_error(daemon, 'e.test', 'Hostname mismatch')
    assert 'TLSv1.3 TLS_' in daemon.program.log() and ', resumed' in daemon.program.log()


def test_mail_that_asks_for_more_than_its_queue(world, papers):
    """x-ringpost-set: tls=… of a message counts on connections of queues that ask for less, holds over
    a restart, and never takes anything back."""
    good, shady = world.address(), world.address()
    papers_of = {'good': papers.make('good', good),
                 'self': papers.make('self', shady, is_self_signed=True)}
    receivers = {'good': Receiver(world, papers_of['good'], address=good),
                 'self': Receiver(world, papers_of['self'], address=shady),
                 'none': Receiver(world, manner='none')}
    ca = f'    smtp-tls-ca-file {papers.authority}\n'
    more = '    retry-after 1s\n'
    daemon = world.daemon(
        '{base}<source 127.0.0.0/8>\n    allow-message-settings tls\n</source>\n' + blocks({
            'good.test': (receivers['good'], more + ca), 'self.test': (receivers['self'], more + ca),
            'blind.test': (receivers['good'], more), 'none.test': (receivers['none'], more),
            'strict.test': (receivers['none'], more + STRICT)})).start()

    def ask(tls, rcpt):
        code, text = send_message(daemon.listen, 'a@sender.test', [rcpt],
                                  f'x-ringpost-set: tls={tls}\r\n'.encode() + TEXT)
        assert code == 250, text

    for domain in ('good', 'self', 'blind', 'none', 'strict'):
        for tls in ('none', 'opportunistic', 'required', 'verified'):
            ask(tls, f'{tls}@{domain}.test')
        send(daemon, f'plain@{domain}.test')
    goes = {'good': ['none', 'opportunistic', 'plain', 'required', 'verified'],
            'self': ['none', 'opportunistic', 'plain', 'required'],
            'blind': ['none', 'opportunistic', 'plain', 'required'],
            'none': ['none', 'opportunistic', 'plain'], 'strict': []}
    wanted = {f'{name}@{domain}.test' for domain, names in goes.items() for name in names}

    def arrived():
        return {message[0] for receiver in receivers.values() for message in receiver.messages}

    until(lambda: arrived() >= wanted, 20, f'{wanted} at the receivers')
    last_error(daemon, 'none.test', 'since the message asks for TLS: there is none')
    last_error(daemon, 'self.test', 'self signed certificate')
    last_error(daemon, 'blind.test', 'nothing says whose certificate would hold')
    daemon.kill()
    daemon.start()
    # They are tried again, and again in vain.
    until(lambda: daemon.counters()['deferred'] >= 8, 20, 'further attempts')
    assert arrived() == wanted
    daemon.wait_for(20, queued_rcpts=25 - len(wanted))
    assert {message[1] for message in receivers['none'].messages} == {None}
    assert None not in {message[1] for message in receivers['self'].messages}


@pytest.mark.skipif(not postfix.is_installed(), reason='Postfix is not installed, or not root')
def test_postfix(world, papers):
    """A whole conversation with Postfix's smtpd that takes mail by TLS alone."""
    mta = postfix.Postfix(world, ['d.test'], ['x'])
    paper = papers.make('postfix', mta.address)
    mta.write('config/main.cf', open(os.path.join(mta.path, 'config', 'main.cf'), encoding='utf-8')
              .read() + f'smtpd_tls_chain_files = {paper}.key {paper}.crt\n'
              'smtpd_tls_security_level = encrypt\nsmtpd_tls_loglevel = 1\n')
    mta.run('reload')
    daemon = world.daemon(
        f'{{base}}<domain d.test>\n    smtp-hosts [{mta.address}]:2525\n    retry-after 2s\n{STRICT}'
        f'    smtp-tls-ca-file {papers.authority}\n</domain>\n').start()
    for _ in range(5):
        send(daemon, 'x@d.test')
    until(lambda: mta.mail('x', 5), 25, 'five messages in the mailbox')
    assert 'TLS connection established from' in mta.log()
    assert 'TLSv1.3 with cipher' in mta.log()
