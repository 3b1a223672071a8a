"""Against programs that others wrote: aiosmtpd and Postfix as receivers, smtp-source as injector.
What went in comes out byte by byte; each recipient gets the fate that its receiver decided.
"""
import csv
import hashlib
import os
import re
import shutil
import socket
import subprocess

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP as SmtpServer

import postfix
from harness import Smtp, final_rows_by_rcpt, send_message, to_crlf, until

CORPUS = os.path.join(os.path.dirname(__file__), '..', '..', '..', 'shared', 'corpora', 'mime')
TEXT = b'From: a@sender.test\r\nSubject: test\r\n\r\nHello\r\n'
ROUTED = '{base}<domain *>\n    smtp-hosts [%s]:2525\n    retry-after 2s\n</domain>\n'
CHUNKED = ROUTED + '<domain *>\n    pipeline-across-messages no\n</domain>\n'


class PatientServer(SmtpServer):
    """aiosmtpd that takes lines of any length: what is too long is then ours to judge."""
    line_length_limit = 1 << 20


class Receiver(Controller):
    """aiosmtpd that remembers every message and answers RCPT by a table."""

    def __init__(self, world, replies=None, **options):
        self.address = world.address()
        self.messages = []
        self.replies = replies or {}
        self.options = options
        super().__init__(self, hostname=self.address, port=2525, ready_timeout=60)
        self.start()
        world.at_end.append(self.stop)

    def factory(self):
        return PatientServer(self, hostname='receiver.test', data_size_limit=1 << 24,
                             **self.options)

    async def handle_RCPT(self, server, session, envelope, address, options):
        reply = self.replies.get(address, '250 2.1.5 fine')
        if reply.startswith('250'):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server, session, envelope):
        self.messages.append((envelope.mail_from, list(envelope.rcpt_tos), envelope.content,
                              list(envelope.mail_options)))
        return '250 2.0.0 taken'

    def wait(self, count, seconds=15):
        until(lambda: len(self.messages) >= count, seconds,
              f'{count} messages at aiosmtpd, got {len(self.messages)}')
        return self.messages


def without_received(content):
    """The message after exactly one Received header of ours."""
    field = re.match(rb'Received: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*', content)
    assert field, f'no Received on top: {content[:200]!r}'
    assert b'by relay.test ' in field.group(0), field.group(0)
    return content[field.end():]


def corpus():
    with open(os.path.join(CORPUS, 'index.tsv'), encoding='utf-8') as index:
        return list(csv.DictReader(index, delimiter='\t'))


def read_corpus(row):
    with open(os.path.join(CORPUS, row['file']), 'rb') as file:
        return file.read()


def inject_by_bdat(daemon, rcpt, octets):
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    client.envelope('a@sender.test', [rcpt])
    third = len(octets) // 3
    reply = client.bdat(octets[:third], octets[third:])
    client.close()
    return reply


@pytest.mark.parametrize('way', ['data', 'bdat'])
def test_bodies_are_byte_identical(world, way):
    """Every well-formed file of the corpus arrives as it was sent; the odd ones are refused with
    5xx or arrive unchanged too, never cut or split."""
    if not os.path.exists(os.path.join(CORPUS, 'index.tsv')):
        pytest.skip('the corpus of MIME messages is not beside the repository')
    receiver = Receiver(world)
    daemon = world.daemon(ROUTED % receiver.address).start()
    sent = {}
    for number, row in enumerate(corpus()):
        wire = to_crlf(read_corpus(row))
        assert hashlib.sha256(wire).hexdigest() == row['wire_sha256'], row['file']
        rcpt = f'n{number}@d{number % 7}.test'
        if way == 'bdat':
            code, text = inject_by_bdat(daemon, rcpt, wire)
        else:
            code, text = send_message(daemon.listen, 'a@sender.test', [rcpt], wire,
                                      ' BODY=8BITMIME')
        if row['kind'] == 'odd' and 500 <= code < 600:
            continue
        assert code == 250, f'{row["file"]}: {code} {text}'
        sent[rcpt] = (row, wire)
    assert len(sent) >= 50
    daemon.wait_for(20, queued_rcpts=0)
    # What the receiver would not take (none of the plain ones) must be told in the accounting.
    bounced = {rcpt for rcpt, rows in final_rows_by_rcpt(daemon.wait_for_rows(len(sent))).items()
               if rows[0]['type'] == 'b'}
    assert not [rcpt for rcpt in bounced if sent[rcpt][0]['kind'] != 'odd']
    arrived = {rcpts[0]: content for _, rcpts, content, _ in receiver.messages}
    assert len(receiver.messages) == len(arrived) == len(sent) - len(bounced)
    for rcpt, content in arrived.items():
        assert without_received(content) == sent[rcpt][1], sent[rcpt][0]['file']


def test_dots_and_large_bodies(world):
    """Lines of dots, and a body of many segments' blocks, in random pieces."""
    receiver = Receiver(world)
    daemon = world.daemon(ROUTED % receiver.address).start()
    head = b'Subject: dots\r\n\r\n'
    bodies = [head + b'.\r\n..\r\n...x\r\n.\r\n',
              head + b'.' * 900 + b'\r\n',
              head + b''.join(b'.%d %s\r\n' % (i, b'x' * (i % 300)) for i in range(9000))]
    for number, body in enumerate(bodies):
        code, text = send_message(daemon.listen, 'a@sender.test', [f'{number}@d.test'], body)
        assert code == 250, text
    messages = {rcpts[0]: content for _, rcpts, content, _ in receiver.wait(len(bodies))}
    for number, body in enumerate(bodies):
        assert without_received(messages[f'{number}@d.test']) == body


def test_mixed_replies_of_one_transaction(world):
    """250, 450 and 550 in one transaction: each recipient has a fate of its own."""
    receiver = Receiver(world, {'later@d.test': '450 4.2.1 mailbox busy',
                                'never@d.test': '550 5.1.1 no such user'})
    daemon = world.daemon(ROUTED % receiver.address).start()
    code, text = send_message(daemon.listen, 'a@sender.test',
                              ['good1@d.test', 'later@d.test', 'never@d.test', 'good2@d.test'],
                              TEXT)
    assert code == 250, text
    message_id = text.split('id=')[1].split()[0]
    receiver.wait(1)
    assert sorted(receiver.messages[0][1]) == ['good1@d.test', 'good2@d.test']
    transient = daemon.wait_for_rows(1, kinds='t')
    assert transient[0]['rcpt'] == 'later@d.test'
    assert transient[0]['dsnAction'] == 'delayed'
    assert transient[0]['dsnStatus'].startswith('4.2.1 (')
    assert daemon.counters()['queued_rcpts'] == 1
    receiver.replies.pop('later@d.test')
    rows = final_rows_by_rcpt(daemon.wait_for_rows(4, seconds=15))
    assert {rcpt: [row['type'] for row in found] for rcpt, found in rows.items()} == {
        'good1@d.test': ['d'], 'good2@d.test': ['d'], 'later@d.test': ['d'],
        'never@d.test': ['b']}
    never = rows['never@d.test'][0]
    assert never['dsnStatus'].startswith('5.1.1 (') and never['dsnAction'] == 'failed'
    assert never['dsnDiag'] == 'smtp;550 5.1.1 no such user'
    good = rows['good1@d.test'][0]
    assert good['dsnAction'] == 'relayed' and good['dlvSourceIp'] == daemon.source
    assert good['dlvDestinationIp'] == receiver.address and good['queue'] == 'd.test/v'
    assert [rcpts for _, rcpts, _, _ in receiver.messages[1:]] == [['later@d.test']]
    assert b' id ' + message_id.encode() + b';' in receiver.messages[0][2].split(b'\r\n\r\n')[0]


def test_8bitmime(world):
    """Said on to a receiver that offers it, and only for messages that need it."""
    receiver = Receiver(world)
    daemon = world.daemon(ROUTED % receiver.address).start()
    eight = b'Subject: 8\r\n\r\nGr\xc3\xbc\xc3\x9fe \xff\r\n'
    assert send_message(daemon.listen, 'a@s.test', ['b@d.test'], eight, ' BODY=8BITMIME')[0] == 250
    (_, _, content, options), = receiver.wait(1)
    assert without_received(content) == eight
    assert 'BODY=8BITMIME' in options


def test_smtputf8(world):
    """Passed on where it is offered; 5.6.7 where it is needed and not offered."""
    able = Receiver(world, enable_SMTPUTF8=True)
    unable = Receiver(world, enable_SMTPUTF8=False)
    daemon = world.daemon(
        f'{{base}}<domain able.test>\n    smtp-hosts [{able.address}]:2525\n</domain>\n'
        f'<domain unable.test>\n    smtp-hosts [{unable.address}]:2525\n</domain>\n').start()
    for domain in 'able.test', 'unable.test':
        code, text = send_message(daemon.listen, 'müller@s.test', [f'größe@{domain}'], TEXT,
                                  ' SMTPUTF8')
        assert code == 250, text
        code, text = send_message(daemon.listen, 'a@s.test', [f'plain@{domain}'], TEXT,
                                  ' SMTPUTF8')
        assert code == 250, text
    rows = final_rows_by_rcpt(daemon.wait_for_rows(4))
    assert rows['größe@able.test'][0]['type'] == 'd'
    assert rows['größe@unable.test'][0]['type'] == 'b'
    assert rows['größe@unable.test'][0]['dsnStatus'].startswith('5.6.7')
    assert rows['plain@unable.test'][0]['type'] == 'd'
    senders = {rcpts[0]: (sender, options) for sender, rcpts, _, options in able.messages}
    assert senders['größe@able.test'][0] == 'müller@s.test'
    assert 'SMTPUTF8' in senders['größe@able.test'][1]


def test_pipelined_injection(world):
    """Two whole transactions with everything in as few packets as RFC 2920 allows."""
    receiver = Receiver(world)
    daemon = world.daemon(ROUTED % receiver.address).start()
    client = Smtp(daemon.listen)
    client.send(b'EHLO client.test\r\n')
    code, text = client.reply()
    assert code == 250
    for offer in ['PIPELINING', 'SIZE', '8BITMIME', 'SMTPUTF8', 'ENHANCEDSTATUSCODES', 'CHUNKING']:
        assert offer in text.split('\n') or f'{offer} ' in text.replace('\n', ' '), text
    flight = b'MAIL FROM:<a@s.test>\r\nRCPT TO:<%s@d.test>\r\nRCPT TO:<@>\r\nDATA\r\n'
    client.send(flight % b'one')
    assert [client.reply()[0] for _ in range(4)] == [250, 250, 501, 354]
    client.send(TEXT + b'.\r\n' + flight % b'two')
    assert [client.reply()[0] for _ in range(5)] == [250, 250, 250, 501, 354]
    client.send(TEXT + b'.\r\nQUIT\r\n')
    assert [client.reply()[0] for _ in range(3)] == [250, 221, 0]
    client.close()
    messages = receiver.wait(2)
    assert sorted(rcpts[0] for _, rcpts, _, _ in messages) == ['one@d.test', 'two@d.test']
    assert {without_received(content) for _, _, content, _ in messages} == {TEXT}


def test_chunks_of_every_kind(world):
    """BDAT: empty and tiny chunks, a border between CR and LF, an abandoned transaction."""
    receiver = Receiver(world)
    daemon = world.daemon(ROUTED % receiver.address).start()
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    client.envelope('a@s.test', ['gone@d.test'])
    client.send(b'BDAT 5\r\nSubje')
    assert client.reply()[0] == 250
    assert client.command('RSET')[0] == 250
    body = b'Subject: chunks\r\n\r\n.\r\nline\r\n.dot\r\n'
    client.envelope('a@s.test', ['here@d.test'])
    assert client.bdat(body[:16], body[16:17], b'', *[bytes([c]) for c in body[17:]], b'')[0] == 250
    client.close()
    (_, rcpts, content, _), = receiver.wait(1)
    assert rcpts == ['here@d.test'] and without_received(content) == body
    assert daemon.counters()['accepted_messages'] == 1


def test_small_messages_go_as_chunks(world):
    """The sink takes BDAT. Once a first message by DATA has shown how it answers, each attempt with a
    message that is small and has no dot to be doubled goes as a chunk, no other does, and every
    octet arrives."""
    receiver = world.sink('--rule', 'offer pipelining chunking 8bitmime size',
                          '--rule', 'dot every=10 451 4.3.0 Later')
    daemon = world.daemon(CHUNKED % receiver.address).start()
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    client.envelope('a@s.test', ['first@d.test'])
    assert client.data(TEXT)[0] == 250
    assert daemon.wait_for(10, delivered=1)['sent_chunked'] == 0
    small = set()
    for number, body in enumerate([TEXT, TEXT + b'.dot\r\n', TEXT + b'x' * 900 + b'\r\n',
                                   TEXT + (b'y' * 78 + b'\r\n') * 1000] * 10):
        rcpt = f'u{number}@d.test'
        client.envelope('a@s.test', [rcpt])
        assert client.data(body)[0] == 250
        if number % 2 == 0:
            small.add(rcpt)
    client.close()
    counters = daemon.wait_for(30, delivered=41, queued_rcpts=0)
    figures = receiver.stop()
    assert figures['messages'] == 41 and figures['damaged'] == 0
    assert counters['deferred'] > 0 and counters['bounced'] == 0
    attempts = [row['rcpt'] for row in daemon.wait_for_rows(41 + counters['deferred'], kinds='dt')]
    assert counters['sent_chunked'] == len([rcpt for rcpt in attempts if rcpt in small])


def test_a_receiver_that_offers_chunking_and_does_not_know_it(world):
    """Its messages come by DATA at once: no attempt is lost, and nothing comes twice."""
    class Liar(Receiver):
        async def handle_EHLO(self, server, session, envelope, hostname, responses):
            session.host_name = hostname
            return [responses[0], '250-PIPELINING', '250-CHUNKING', *responses[1:]]

    receiver = Liar(world)
    daemon = world.daemon(CHUNKED % receiver.address).start()
    for number in range(5):
        assert send_message(daemon.listen, 'a@s.test', [f'u{number}@d.test'], TEXT)[0] == 250
    messages = receiver.wait(5)
    counters = daemon.wait_for(10, delivered=5, queued_rcpts=0)
    assert sorted(rcpts[0] for _, rcpts, _, _ in messages) == [f'u{n}@d.test' for n in range(5)]
    assert {without_received(content) for _, _, content, _ in messages} == {TEXT}
    assert 1 <= counters['sent_chunked'] <= 2 and counters['deferred'] == 0


def test_smtp_source_injects(world):
    """Postfix's generator: 400 messages, 2 recipients each, over 10 sessions."""
    program = shutil.which('smtp-source', path='/usr/sbin:/usr/bin')
    if not program:
        pytest.skip('smtp-source of Postfix is not installed')
    receiver = world.sink()
    daemon = world.daemon(ROUTED % receiver.address).start()
    subprocess.run([program, '-c', '-m', '400', '-s', '10', '-r', '2', '-l', '3000', '-f',
                    'a@s.test', '-t', 'rcpt@d.test', f'{daemon.listen}:2525'], check=True,
                   timeout=60, stdout=subprocess.DEVNULL)
    daemon.wait_for(20, accepted_messages=400, delivered=800, queued_rcpts=0)
    assert len(daemon.wait_for_rows(800)) == 800
    assert receiver.stop()['messages'] == 400


def test_postfix_receives(world):
    """A Postfix of our own takes 300 messages into mailboxes, and refuses whom it does not know: 100,
    so few that no breaker takes them for a storm.
    Where nothing is sent ahead, those without a dot to be doubled come as chunks, once a message by
    DATA has shown how it answers."""
    if not postfix.is_installed():
        pytest.skip('Postfix is not installed')
    server = postfix.Postfix(world, ['known.test', 'chunks.test'], ['alice', 'bob'])
    daemon = world.daemon(ROUTED % server.address + '<domain chunks.test>\n'
                          '    pipeline-across-messages no\n</domain>\n').start()
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    bodies = [b'Subject: to Postfix\r\n\r\n.dot\r\nnumber %d\r\n',
              b'Subject: to Postfix\r\n\r\nline\r\nnumber %d\r\n']
    for number in range(300):
        domain = 'chunks.test' if number % 4 < 2 else 'known.test'
        client.envelope('a@sender.test', [f'{user}@{domain}'
                                          for user in ['alice', 'bob']
                                          + ['stranger'] * (number % 3 == 0)])
        assert client.data(bodies[number % 2] % number)[0] == 250
    client.close()
    daemon.wait_for(60, delivered=600, bounced=100, queued_rcpts=0)
    rows = daemon.wait_for_rows(700)
    strangers = [row for row in rows if row['type'] == 'b']
    assert {row['rcpt'] for row in strangers} == {'stranger@known.test', 'stranger@chunks.test'}
    assert all(row['dsnStatus'].startswith('5.1.1') for row in strangers)
    for user in 'alice', 'bob':
        messages = until(lambda: server.mail(user, 300), 60, f'300 messages for {user}')
        found = [re.search(rb'\n(\.dot|line)\nnumber (\d+)\n$', text) for text in messages]
        assert sorted((int(match.group(2)), match.group(1)) for match in found) == \
            [(number, [b'.dot', b'line'][number % 2]) for number in range(300)]
    counters = daemon.counters()
    assert 50 <= counters['sent_chunked'] <= 75 and counters['deferred'] == 0
    assert not [row for row in rows if row['type'] == 'd' and 'PIPELINING' not in
                row['dlvEsmtpAvailable']]


def test_a_receiver_that_refuses_connections_is_tried_again(world):
    """Nobody listens at first; what waits is delivered once somebody does."""
    address = world.address()
    daemon = world.daemon(ROUTED % address).start()
    assert send_message(daemon.listen, 'a@s.test', ['b@d.test'], TEXT)[0] == 250
    until(lambda: daemon.counters()['connect_failures'] >= 1, 10, 'a failed connection')
    assert daemon.counters()['queued_rcpts'] == 1
    with socket.socket() as probe:
        assert probe.connect_ex((address, 2525)) != 0
    world.sink(address=address)
    daemon.wait_for(15, delivered=1, queued_rcpts=0)
