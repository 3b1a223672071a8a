"""TLS with injectors: STARTTLS and TLS that comes first, by Python, openssl and GnuTLS."""
import re
import smtplib
import socket
import ssl
import subprocess

import pytest

from harness import Smtp, until
from papers import Papers
from test_auth import HASH
from test_peers import Receiver, without_received

NAME = 'relay.test'
CONFIG = '''{{base}}
smtp-server-tls-certificate {certificate}
GLOBAL
<source 127.0.0.0/8>
    allow-starttls yes
    log-connections yes
    SOURCE
</source>
<source members>
    always-allow-relaying yes
    require-auth yes
    allow-starttls yes
</source>
<smtp-user anna>
    password "plain words"
    source members
</smtp-user>
<domain *>
    smtp-hosts [{receiver}]:2525
</domain>
'''
BODY = b'Subject: x\r\n\r\nbody\r\n'


@pytest.fixture(scope='module', name='papers')
def papers_fixture(tmp_path_factory):
    papers = Papers(str(tmp_path_factory.mktemp('papers')))
    papers.make(NAME)
    return papers


class Scene:
    def __init__(self, world, papers, top='', source='', certificate=None):
        self.papers = papers
        self.receiver = Receiver(world)
        self.top, self.source = top, source
        self.daemon = world.daemon(self.text(certificate or papers.path(NAME + '.pem')))
        self.daemon.start()

    def text(self, certificate):
        text = CONFIG.format(certificate=certificate, receiver=self.receiver.address)
        return text.replace('GLOBAL', self.top).replace('SOURCE', self.source)

    def trust(self, **options):
        context = ssl.create_default_context(cafile=self.papers.authority)
        for key, value in options.items():
            setattr(context, key, value)
        return context

    def client(self):
        client = Smtp(self.daemon.listen)
        client.offer = client.command('EHLO client.test')[1].split('\n')
        return client

    def secure(self, client, context=None, greet=True):
        """STARTTLS on a connection of the harness."""
        assert client.command('STARTTLS') == (220, '2.0.0 ready to start TLS')
        wrap(client, context or self.trust())
        if greet:
            client.offer = client.command('EHLO client.test')[1].split('\n')
        return client


def wrap(client, context):
    client.file.close()
    client.socket = context.wrap_socket(client.socket, server_hostname=NAME)
    client.file = client.socket.makefile('rb')


@pytest.fixture(name='scene')
def scene_fixture(world, papers):
    return lambda **options: Scene(world, papers, **options)


def test_clients(scene):
    """TLS 1.2 and 1.3, Python, openssl and GnuTLS; what is offered, what stands in the header."""
    at = scene()
    daemon = at.daemon
    client = at.client()
    assert 'STARTTLS' in client.offer and 'AUTH CRAM-MD5' in client.offer
    assert client.command('STARTTLS now')[0] == 501
    assert client.command('AUTH PLAIN AGFubmEAcGxhaW4gd29yZHM=')[0] == 538
    at.secure(client, at.trust(maximum_version=ssl.TLSVersion.TLSv1_2))
    assert client.socket.version() == 'TLSv1.2'
    assert 'STARTTLS' not in client.offer and 'AUTH PLAIN LOGIN CRAM-MD5' in client.offer
    assert client.command('STARTTLS')[0] == 503
    client.envelope('a@sender.test', ['b@one.test'])
    assert client.data(BODY)[0] == 250
    with smtplib.SMTP(daemon.listen, 2525, timeout=60) as other:
        other._host = NAME
        other.starttls(context=at.trust())
        assert other.sock.version() == 'TLSv1.3'
        other.login('anna', 'plain words')
        other.sendmail('a@sender.test', ['c@one.test'], BODY)
    said = 'EHLO client.test\r\nMAIL FROM:<a@sender.test>\r\nRCPT TO:<d@one.test>\r\n' \
           'DATA\r\n' + BODY.decode() + '.\r\nQUIT\r\n'
    peers = [['openssl', 's_client', '-quiet', '-starttls', 'smtp', '-connect',
              f'{daemon.listen}:2525', '-CAfile', at.papers.authority, '-verify_return_error',
              '-verify_hostname', NAME],
             ['gnutls-cli', '--starttls-proto=smtp', '--x509cafile', at.papers.authority,
              '--verify-hostname', NAME, '-p', '2525', daemon.listen]]
    for peer in peers:
        done = subprocess.run(peer, input=said.replace('\r\n', '\n').replace('\n', '\r\n'),
                              capture_output=True, text=True, timeout=60, check=False)
        assert '\n250 2.6.0' in done.stdout or re.search(r'\n250 2\.\d\.\d', done.stdout), \
            f'{peer}: {done.stdout}{done.stderr}'
    contents = [content for _, _, content, _ in at.receiver.wait(4)]
    kinds = sorted(re.search(rb' with (\w+) ', content).group(1) for content in contents)
    assert kinds == [b'ESMTPS', b'ESMTPS', b'ESMTPS', b'ESMTPSA']
    counters = daemon.counters()
    assert counters['tls_handshakes'] == 4 and counters['tls_failures'] == 0
    until(lambda: 'secured by TLSv1.3 TLS_' in daemon.program.log(), 5, 'a line of the log')



def test_log_tls(scene):
    """It tells how connections are secured, and nothing else of them."""
    at = scene(source='log-connections no\n    log-tls yes')
    at.secure(at.client()).close()
    log = until(lambda: 'secured by TLSv1.3 ' in at.daemon.program.log() and at.daemon.program.log(),
                5, 'a line of the log')
    assert ' connected' not in log


def test_words_behind_starttls(scene):
    """What comes in the clear behind STARTTLS is never acted on: in the same segment, or later."""
    at = scene()
    for words in [b'NOOP\r\n', b'MAIL FROM:<evil@sender.test>\r\nRCPT TO:<b@one.test>\r\n', b'N']:
        client = at.client()
        client.send(b'STARTTLS\r\n' + words)
        assert client.reply() == (0, '')
    client = at.client()
    assert client.command('STARTTLS')[0] == 220
    client.send(b'MAIL FROM:<evil@sender.test>\r\n')
    # An alert at most, and the end.
    assert b'250' not in client.file.read() and at.daemon.wait_for(10, tls_failures=1)
    # In the middle of a transaction nothing is changed over.
    client = at.client()
    client.envelope('a@sender.test', ['b@one.test'])
    assert client.command('STARTTLS')[0] == 503
    assert client.command('DATA')[0] == 503
    at.secure(client, greet=False)
    assert client.command('MAIL FROM:<a@sender.test>')[0] == 503
    assert at.daemon.counters()['accepted_messages'] == 0


def test_the_login_is_forgotten(scene):
    """RFC 3207 4.2; and where it is said so, AUTH is for later only."""
    at = scene(source='always-allow-relaying no\nrequire-starttls-before-auth no')
    with smtplib.SMTP(at.daemon.listen, 2525, timeout=60) as client:
        client.login('anna', 'plain words')
        assert client.mail('a@sender.test')[0] == 250 and client.rcpt('b@one.test')[0] == 250
        client.rset()
        client._host = NAME
        client.starttls(context=at.trust())
        client.ehlo('client.test')
        assert client.has_extn('auth')
        assert client.mail('a@sender.test')[0] == 250 and client.rcpt('b@one.test')[0] == 550
        client.rset()
        client.login('anna', 'plain words')
        assert client.mail('a@sender.test')[0] == 250 and client.rcpt('b@one.test')[0] == 250
    at.source = 'require-starttls-before-auth yes\nallow-unencrypted-plain-auth yes'
    at.daemon.write(at.text(at.papers.path(NAME + '.pem')))
    at.daemon.ask('reload')
    client = at.client()
    assert not [line for line in client.offer if line.startswith('AUTH')]
    assert client.command('AUTH CRAM-MD5')[0] == 538
    at.secure(client)
    assert 'AUTH PLAIN LOGIN CRAM-MD5' in client.offer


def test_versions(scene):
    """A floor holds; without the directive 1.1 is spoken still, as PowerMTA does, and 1.0 not."""
    at = scene()

    def version_of(version):
        context = at.trust(maximum_version=ssl.TLSVersion.TLSv1_3)
        context.set_ciphers('DEFAULT:@SECLEVEL=0')
        context.minimum_version = context.maximum_version = version
        client = at.client()
        try:
            return at.secure(client, context).socket.version()
        except (ssl.SSLError, ConnectionError):
            return None

    assert version_of(ssl.TLSVersion.TLSv1) is None
    assert version_of(ssl.TLSVersion.TLSv1_1) == 'TLSv1.1'
    at.top = 'smtp-server-tls-allow-tlsv1.1 no\nsmtp-server-tls-allow-tlsv1.2 no'
    at.daemon.write(at.text(at.papers.path(NAME + '.pem')))
    at.daemon.ask('reload')
    assert version_of(ssl.TLSVersion.TLSv1_1) is None
    assert version_of(ssl.TLSVersion.TLSv1_2) is None
    assert version_of(ssl.TLSVersion.TLSv1_3) == 'TLSv1.3'
    assert at.daemon.counters()['tls_failures'] == 3


def test_a_new_certificate(scene, papers):
    """A reload shows it to who comes next; who is there stays. A bad one changes nothing."""
    at = scene()
    before = at.secure(at.client())
    new = papers.join('renewed.pem', papers.make(NAME + '.', password='let me in'))
    papers.openssl('x509', '-in', new, '-noout')
    at.daemon.write(at.text(f'{new} "let me in"'))
    at.daemon.ask('reload')
    after = at.client()
    context = at.trust(check_hostname=False)
    at.secure(after, context)
    assert before.socket.getpeercert(True) != after.socket.getpeercert(True)
    assert before.command('NOOP')[0] == 250
    lone = papers.join('lone.pem', papers.path(NAME + '.crt'))
    strange = papers.join('strange.pem', papers.path(NAME + '.crt'), papers.path('authority.key'))
    for value, why in [(f'{new} "let me out"', 'the password is not that of the private key'),
                       (new, 'the private key needs a password'),
                       (papers.path('nowhere.pem'), 'No such file'),
                       (lone, 'there is no private key in it'),
                       (strange, 'the private key does not belong to the first certificate'),
                       (papers.path('authority.key'), 'there is no certificate in it')]:
        at.daemon.write(at.text(value))
        refused = at.daemon.cli('reload')
        assert refused.returncode != 0
        told = refused.stdout + refused.stderr
        assert why in told and re.search(r'line \d+ of |ringpost.conf:\d+', told), told
        assert 'let me' not in told
    again = at.client()
    at.secure(again, context)
    assert again.socket.getpeercert(True) == after.socket.getpeercert(True)
    shown = at.daemon.cli('config', 'show').stdout
    assert 'smtp-server-tls-certificate (secret)' in shown and 'password (secret)' in shown
    changed = at.daemon.cli('config', 'diff').stdout
    assert '+smtp-server-tls-certificate (secret)' in changed
    told = at.daemon.program.log() + shown + changed + at.daemon.cli('config', 'history').stdout
    assert 'let me' not in told and 'plain words' not in told and 'BEGIN' not in told
    assert before.command('NOOP')[0] == 250


def test_ends_in_the_middle(scene):
    """A message is whole or not there: TLS that ends within it, with a word and without (A10)."""
    at = scene()

    def in_body(command, octets):
        client = at.secure(at.client())
        client.envelope('a@sender.test', ['b@one.test'])
        if command:
            assert client.command(command)[0] == 354
        client.send(octets)
        return client

    for command, octets in [('DATA', BODY), (None, b'BDAT 100 LAST\r\n' + BODY)]:
        client = in_body(command, octets)
        client.socket.shutdown(socket.SHUT_RDWR)
        client.close()
        client = in_body(command, octets)
        # Close-notify, and then the end in the clear.
        plain = client.socket.unwrap()
        try:
            plain.sendall(b'.\r\n')
        except ConnectionError:
            pass
        client.file.close()
        plain.close()
    counters = at.daemon.wait_for(10, sessions_in=0, tls_connections=0)
    assert counters['accepted_messages'] == 0 and counters['tls_handshakes'] == 4


def test_a_stalled_handshake(scene):
    """Who never says hello goes when the time for commands is over."""
    at = scene(source='smtp-command-timeout 2s')
    client = at.client()
    assert client.command('STARTTLS')[0] == 220
    client.send(b'\x16\x03\x01')
    assert client.file.read() == b''
    at.daemon.wait_for(10, sessions_in=0)


def test_a_large_message(scene):
    """Five megabytes, whole, by DATA and by BDAT."""
    at = scene()
    content = b'Subject: large\r\n\r\n' + b''.join(b'line %d\r\n' % n for n in range(400000))
    client = at.secure(at.client())
    client.envelope('a@sender.test', ['b@one.test'])
    assert client.data(content)[0] == 250
    client.envelope('a@sender.test', ['b@one.test'])
    middle = len(content) // 2
    assert client.bdat(content[:middle], content[middle:])[0] == 250
    for _, _, arrived, _ in at.receiver.wait(2, 30):
        assert without_received(arrived) == content


def test_tls_first_and_certificates_of_clients(world, scene, papers):
    """A listener of its own, where clients log in by their certificate."""
    other = world.address()
    secret = HASH.replace('{', '{{').replace('}', '}}')
    papers.make('anna.client')
    papers.make('hans.client')
    at = scene(top=f'<smtp-listener {other}:465>\nimmediate-tls yes\nsource members\n'
                   f'tls-allow-tlsv1.1 no\n</smtp-listener>\n'
                   f'<smtp-user robot>\nauthentication-method certificate\n'
                   f'tls-certificate {papers.path("anna.client.crt")}\nsource members\n'
                   f'</smtp-user>\n<smtp-user hashed>\npassword "{secret}"\n</smtp-user>')

    def connect(name=None):
        client = Smtp(other, 465, wait=False)
        context = at.trust()
        if name:
            context.load_cert_chain(papers.path(name + '.pem'))
        wrap(client, context)
        assert client.reply() == (220, 'relay.test ESMTP ringpost')
        client.offer = client.command('EHLO client.test')[1].split('\n')
        return client

    client = connect()
    assert 'STARTTLS' not in client.offer and 'AUTH PLAIN LOGIN CRAM-MD5' in client.offer
    assert client.command('AUTH EXTERNAL =')[0] == 504
    # He has no password, so none is right, where others have hashed ones too.
    assert client.command('AUTH PLAIN AHJvYm90AHg=') == (535, '5.7.8 user or password is wrong')
    client = connect('hans.client')
    assert 'AUTH PLAIN LOGIN CRAM-MD5 EXTERNAL' in client.offer
    assert client.command('AUTH EXTERNAL =') == (535, '5.7.8 user or password is wrong')
    client = connect('anna.client')
    # "anna", who has a password; then "robot", whose certificate it is.
    assert client.command('AUTH EXTERNAL YW5uYQ==')[0] == 535
    assert client.command('MAIL FROM:<a@sender.test>')[0] == 250
    assert client.command('RCPT TO:<b@one.test>')[0] == 530
    assert client.command('RSET')[0] == 250
    assert client.command('AUTH EXTERNAL cm9ib3Q=')[0] == 235
    client.envelope('a@sender.test', ['b@one.test'])
    assert client.data(BODY)[0] == 250
    client = connect('anna.client')
    assert client.command('AUTH EXTERNAL') == (334, '')
    assert client.command('')[0] == 235
    assert b' with ESMTPSA ' in at.receiver.wait(1)[0][2]
    # In the clear nobody is understood there.
    plain = Smtp(other, 465, wait=False)
    plain.send(b'EHLO client.test\r\n')
    assert b'250' not in plain.file.read()
