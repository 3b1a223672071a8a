"""Settings that no other test is about: what each changes, against what is there without it."""
import re
import socket
import ssl
import threading

import pytest

import dns_servers
from dkim_mail import Key
from harness import Smtp, accounting_rows, send_message, until
from test_dkim import SIMPLE, Signer
from test_peers import Receiver, without_received
from test_pickup import Folder
from test_tls_out import Papers, Receiver as TlsReceiver, last_error, only_1_2

TEXT = b'From: a@sender.test\r\nSubject: test\r\n\r\nHello\r\n'
CONFIG = '''{{base}}{top}
<source 127.0.0.0/8>
{source}
</source>
<domain *>
    smtp-hosts [{receiver}]:2525
{domain}
</domain>
'''


def start(world, receiver, top='', source='', domain=''):
    return world.daemon(CONFIG.format(top=top, source=source, domain=domain,
                                      receiver=receiver.address)).start()


# ---- What comes in ---------------------------------------------------------------------------------


def test_who_is_not_served(world):
    """smtp-service: of two sources of clients one is not spoken with."""
    other = world.address()
    daemon = world.daemon('{base}' + f'<source {other}>\n    smtp-service no\n</source>\n').start()
    assert Smtp(daemon.listen).greeting[0] == 220
    code, _ = Smtp(daemon.listen, source=other).greeting
    assert code in (0, 421, 554), code


def test_what_is_not_offered_is_not_taken(world):
    """allow-chunking, allow-smtputf8."""
    receiver = Receiver(world)
    daemon = start(world, receiver, source='    allow-chunking no\n    allow-smtputf8 no\n')
    client = Smtp(daemon.listen)
    offers = {line.split()[0] for line in client.command('EHLO client.test')[1].split('\n')}
    assert 'PIPELINING' in offers and not offers & {'CHUNKING', 'SMTPUTF8'}
    assert client.command('MAIL FROM:<a@s.test> SMTPUTF8')[0] // 100 == 5
    client.envelope('a@s.test', ['b@one.test'])
    client.send(b'BDAT 4 LAST\r\n')
    assert client.reply()[0] // 100 == 5


@pytest.mark.parametrize('word', ['yes', 'no'])
def test_domains_without_a_dot(world, word):
    """auto-qualify-domain completes them by domain-suffix."""
    receiver = Receiver(world)
    daemon = start(world, receiver, 'domain-suffix suffix.test\n', f'    auto-qualify-domain {word}\n')
    assert send_message(daemon.listen, 'a@one', ['b@two', 'c@three.test'], TEXT)[0] == 250
    ends = {'yes': '.suffix.test', 'no': ''}[word]
    got = receiver.wait(2)
    assert {sender for sender, _, _, _ in got} == {f'a@one{ends}'}
    assert {rcpt for _, rcpts, _, _ in got for rcpt in rcpts} == {f'b@two{ends}', 'c@three.test'}


def test_our_own_line_on_top(world):
    """add-received-header."""
    receiver = Receiver(world)
    daemon = start(world, receiver, source='    add-received-header no\n')
    assert send_message(daemon.listen, 'a@s.test', ['b@one.test'], TEXT)[0] == 250
    assert receiver.wait(1)[0][2] == TEXT


@pytest.mark.parametrize('word', ['yes', 'no'])
def test_headers_that_were_obeyed(world, word):
    """retain-x-…: they leave with the message, or do not."""
    names = ['x-virtual-mta', 'x-job', 'x-envid', 'x-schedule', 'x-dkim-options']
    values = ['v', 'j1', 'e1', '1700000000/4000000000', 's=s1; d=shop.example']
    receiver = Receiver(world)
    daemon = start(world, receiver, source=''.join(
        f'    process-{name} yes\n    retain-{name} {word}\n' for name in names))
    header = ''.join(f'{name}: {value}\r\n' for name, value in zip(names, values)).encode()
    assert send_message(daemon.listen, 'a@s.test', ['b@one.test'], header + TEXT)[0] == 250
    assert without_received(receiver.wait(1)[0][2]) == (header if word == 'yes' else b'') + TEXT
    row, = daemon.wait_for_rows(1)
    assert (row['jobId'], row['envId'], row['vmta']) == ('j1', 'e1', 'v')


@pytest.mark.parametrize('word', ['yes', 'no'])
def test_the_last_dot_of_a_file(world, word):
    """pickup-remove-dot."""
    folder = Folder(world, f'pickup-remove-dot {word}\n')
    folder.put('one', b'x-sender: a@s.test\nx-receiver: b@one.test\nSubject: s\n\nline\n.\n')
    content = without_received(folder.receiver.wait(1)[0][2])
    assert content.endswith(b'line\r\n' if word == 'yes' else b'line\r\n.\r\n'), content


# ---- What goes out ---------------------------------------------------------------------------------


class Slow:
    """A receiver in threads that notes, for each command, whether more had come along with it; the
    replies of a table, "" for none at all, behind which it waits."""

    OFFER = '250-mx.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 100000'

    def __init__(self, world, **replies):
        self.address = world.address()
        self.replies = replies
        self.commands = []  # number of the connection, line, whether more came with it
        self.connections = 0
        self.listener = socket.create_server((self.address, 2525))
        world.at_end.append(self.listener.close)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.guarded, args=(peer, self.connections), daemon=True).start()

    def guarded(self, peer, number):
        try:
            with peer:
                peer.settimeout(60)
                self.talk(peer, number)
        except OSError:
            pass

    def answer(self, peer, key, usual):
        reply = self.replies.get(key, usual)
        if reply:
            peer.sendall(reply.encode() + b'\r\n')
        return reply

    def talk(self, peer, number):
        rest, is_body = b'', False
        self.answer(peer, 'greeting', '220 mx.test')
        while octets := peer.recv(65536):
            rest += octets
            while b'\r\n' in rest:
                line, _, rest = rest.partition(b'\r\n')
                if is_body:
                    is_body = line != b'.'
                    if not is_body:
                        self.answer(peer, 'dot', '250 2.0.0 taken')
                    continue
                self.commands.append((number, line.decode(), bool(rest)))
                verb = line.split()[0].decode().upper()
                key = next((key for key in self.replies if key.encode() in line), verb)
                usual = {'EHLO': self.OFFER, 'DATA': '354 go', 'QUIT': '221 bye'}.get(verb, '250 ok')
                reply = self.answer(peer, key, usual)
                is_body = verb == 'DATA' and (reply or '').startswith('354')
                if verb == 'QUIT' or (reply or '').startswith('421'):
                    return

    def lines(self, verb):
        return [(number, line, more) for number, line, more in list(self.commands)
                if line.upper().startswith(verb)]


def test_offers_that_are_not_heeded(world):
    """ignore-8bitmime and ignore-pipelining: BODY= is not said, and each command waits for its reply."""
    plain, wary = Slow(world), Slow(world)
    daemon = world.daemon(
        '{base}' + f'<domain plain.test>\n    smtp-hosts [{plain.address}]:2525\n</domain>\n'
        f'<domain wary.test>\n    smtp-hosts [{wary.address}]:2525\n    ignore-8bitmime yes\n'
        '    ignore-pipelining yes\n</domain>\n').start()
    eight = b'Subject: 8\r\n\r\n\xc3\xbc\r\n'
    for domain in 'plain.test', 'wary.test':
        code, text = send_message(daemon.listen, 'a@s.test', [f'{n}@{domain}' for n in range(3)],
                                  eight, ' BODY=8BITMIME')
        assert code == 250, text
    daemon.wait_for(15, delivered=6, queued_rcpts=0)
    assert 'BODY=8BITMIME' in plain.lines('MAIL')[0][1] and plain.lines('MAIL')[0][2]
    assert 'BODY' not in wary.lines('MAIL')[0][1]
    assert not [line for _, line, more in wary.commands if more]


@pytest.mark.parametrize('limit, connections', [('1', 3), ('unlimited', 1)])
def test_connections_with_refusals(world, limit, connections):
    """max-errors-per-connection."""
    receiver = Slow(world, **{'bad': '550 5.1.1 no such user'})
    daemon = start(world, receiver, domain=f'    max-errors-per-connection {limit}\n'
                   '    pipeline-across-messages no\n    connection-idle-timeout 1m\n')
    for number in range(3):
        assert send_message(daemon.listen, 'a@s.test', [f'bad{number}@one.test'], TEXT)[0] == 250
        daemon.wait_for(15, bounced=number + 1)
    assert receiver.connections == connections


@pytest.mark.parametrize('word', ['yes', 'no'])
def test_what_stood_before_a_421(world, word):
    """replace-smtp-421-service-response."""
    receiver = Slow(world, first='450 4.2.2 mailbox full', second='421 4.3.2 closing')
    daemon = start(world, receiver, domain=f'    replace-smtp-421-service-response {word}\n'
                   '    ignore-pipelining yes\n    retry-after 1h\n')
    code, _ = send_message(daemon.listen, 'a@s.test', ['first@one.test', 'second@one.test'], TEXT)
    assert code == 250
    rows = until(lambda: {row['rcpt']: row['dsnDiag'] for row in daemon.rows() if row['type'] == 't'},
                 15, 'rows of what was put off')
    assert rows['first@one.test'] == 'smtp;450 4.2.2 mailbox full'
    said = daemon.ask('explain', 'one.test/v')['lastError']
    assert ('mailbox full' in said) == (word == 'yes'), said


@pytest.mark.parametrize('setting, silent', [('smtp-greeting-timeout', 'greeting'),
                                             ('smtp-command-timeout', 'MAIL'),
                                             ('smtp-data-timeout', 'DATA'),
                                             ('smtp-data-termination-timeout', 'dot')])
def test_a_receiver_that_falls_silent(world, setting, silent):
    """Each wait has a time of its own."""
    receiver = Slow(world, **{silent: ''})
    daemon = start(world, receiver, domain=f'    {setting} 1s\n    retry-after 1h\n'
                   '    ignore-pipelining yes\n')
    assert send_message(daemon.listen, 'a@s.test', ['b@one.test'], TEXT)[0] == 250
    last_error(daemon, 'one.test', 'in time')
    assert daemon.counters()['queued_rcpts'] == 1


@pytest.mark.parametrize('word, queues', [('yes', {'one.test/v', 'two.test/v'}),
                                          ('no', {'all.rollup/v'})])
def test_domains_of_one_mx_host(world, word, queues):
    """disable-mx-rollup."""
    if dns_servers.missing('unbound'):
        pytest.skip('unbound is not installed')
    receiver = Receiver(world)
    server = dns_servers.Resolver(world, 'one.test. MX 1 mx.host.test.',
                                  'two.test. MX 1 mx.host.test.',
                                  f'mx.host.test. A {receiver.address}')
    daemon = world.daemon(
        f'{{base}}name-server {server.address}:5353\nallow-loopback-destinations yes\n'
        '<mx-rollup-list>\n    mx mx.host.test all.rollup\n</mx-rollup-list>\n'
        f'<domain all.rollup>\n    smtp-hosts [{receiver.address}]:2525\n</domain>\n'
        f'<domain *>\n    default-smtp-port 2525\n    disable-mx-rollup {word}\n</domain>\n').start()
    for domain in 'one.test', 'two.test':
        assert send_message(daemon.listen, 'a@s.test', [f'b@{domain}'], TEXT)[0] == 250
    assert {row['queue'] for row in daemon.wait_for_rows(2)} == queues


def test_cipher_suites(world):
    """smtp-tls-ciphers, of a receiver that speaks 1.2."""
    papers, address = Papers(world), world.address()
    receiver = TlsReceiver(world, papers.make('mx', address), address=address, tune=only_1_2)
    path = world.path('tls.csv')
    daemon = start(world, receiver, f'<acct-file {path}>\n    records d\n'
                   '    record-fields d rcpt,dlvTlsCipher\n</acct-file>\n',
                   domain='    smtp-tls-ciphers ECDHE-ECDSA-CHACHA20-POLY1305\n')
    assert send_message(daemon.listen, 'a@s.test', ['b@one.test'], TEXT)[0] == 250
    rows = until(lambda: accounting_rows(path), 15, 'a row')
    assert 'CHACHA20' in rows[0]['dlvTlsCipher']


# ---- The second signature --------------------------------------------------------------------------


def test_the_second_signature_has_terms_of_its_own(world):
    """second-dkim-…, and dkim-query-method."""
    one, two = (Key(world.program('ringpost'), world.path(''), 'ed25519', name) for name in 'ab')
    signer = Signer(world, f'domain-key s1,shop.example,{one.path}\n'
                    f'domain-key s2,esp.example,{two.path}\n', '''dkim-algorithm ed25519-sha256
    dkim-query-method dns/txt
    second-dkim-sign yes
    second-dkim-algorithm ed25519-sha256
    second-dkim-identity @absent.example
    second-dkim-identity-fallback @esp.example
    second-dkim-add-timestamp yes
    second-dkim-expire-after 1d
    second-dkim-query-method dns/txt
    second-dkim-disallow-adding-headers Subject''')
    assert signer.send(SIMPLE)[0] == 250
    fields = [re.sub(rb'\s+', b'', field) for field in re.findall(
        rb'DKIM-Signature:((?:.*\r\n)(?:[ \t].*\r\n)*)', signer.content(1))]
    by_domain = {re.search(rb';d=([^;]+)', field).group(1): field for field in fields}
    first, second = by_domain[b'shop.example'], by_domain[b'esp.example']
    assert b'q=dns/txt' in first and b'q=dns/txt' in second
    assert b';t=' not in first and b';x=' not in first
    times = [int(re.search(rb';%c=(\d+)' % key, second).group(1)) for key in b'tx']
    assert times[1] - times[0] in (86400, 86401)
    names = {field: re.search(rb';h=([^;]+)', field).group(1).lower().split(b':')
             for field in (first, second)}
    assert names[first].count(b'subject') == 1 and names[second].count(b'subject') == 2
    assert b'i=@esp.example' in second
