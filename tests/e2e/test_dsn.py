"""Failure notices, read by a parser that is not ours: who gets them, what they say, who gets none;
and mail to postmaster, copies of what is delivered, notes to operators."""
import email
import email.policy
import os
import socketserver
import threading

from harness import Smtp, send_message, until
from test_peers import Receiver

BODY = b'Subject: s\r\nX-Note: \xc3\xbc\r\n\r\n.dot\r\nHello\r\n'
REFUSAL = '550 5.1.1 no such user'
LONG = 'firstname.and.a.second.one.of.somebody@mail.department.university.test'
REFUSED = (LONG, 'x@d.test', 'y@d.test', 'z@d.test', 'b@nowhere.test')


class Play:
    """A relay whose destination refuses all recipients, and the senders' own host."""

    def __init__(self, world, source='', more=''):
        self.home = Receiver(world)
        self.there = Receiver(world, {rcpt: REFUSAL for rcpt in REFUSED})
        self.daemon = world.daemon(
            f'{{base}}<source 127.0.0.0/8>\nsuppress-local-dsn no\n{source}\n</source>\n{more}\n'
            f'<domain *>\nsmtp-hosts [{self.there.address}]:2525\n</domain>\n'
            f'<domain sender.test>\nsmtp-hosts [{self.home.address}]:2525\n</domain>\n').start()

    def send(self, rcpts, sender='a@sender.test', body=BODY):
        assert send_message(self.daemon.listen, sender, rcpts, body)[0] == 250

    def mail(self, count):
        """(sender, recipients, message) of what the senders' host has got."""
        return [(sender, rcpts, email.message_from_bytes(content, policy=email.policy.SMTP))
                for sender, rcpts, content, _ in self.home.wait(count)]


def reports(message):
    """The fields of the message and of each recipient."""
    assert message.get_content_type() == 'multipart/report'
    assert message.get_param('report-type') == 'delivery-status'
    parts = message.get_payload()
    assert [part.get_content_type() for part in parts[:2]] == \
        ['text/plain', 'message/delivery-status']
    assert not any(part.defects for part in message.walk())
    return parts[1].get_payload()


def test_a_refusal_is_told_once(world):
    """One notice for the recipients of a message that fail together, none for notices and for null
    senders, and the accounting has its rows all the same."""
    play = Play(world)
    play.send(['x@d.test', 'y@d.test'])
    [(sender, rcpts, message)] = play.mail(1)
    assert (sender, rcpts) == ('<>', ['a@sender.test'])
    about, *recipients = reports(message)
    assert about['Reporting-MTA'] == 'dns; relay.test'
    assert sorted(fields['Final-Recipient'] for fields in recipients) == \
        ['rfc822; x@d.test', 'rfc822; y@d.test']
    for fields in recipients:
        assert fields['Action'] == 'failed' and fields['Status'] == '5.1.1'
        assert fields['Diagnostic-Code'] == f'smtp; {REFUSAL}'
        assert play.there.address in fields['Remote-MTA']
    assert message['Auto-Submitted'] == 'auto-replied'
    assert message['From'] == 'Mail Delivery System <postmaster@relay.test>'
    header = message.get_payload()[2]
    assert header.get_content_type() == 'text/rfc822-headers'
    assert 'X-Note: ??' in header.get_payload() and 'Hello' not in header.get_payload()
    play.send(['x@d.test'], sender='')
    play.send(['x@d.test'], sender='b@nowhere.test')  # its notice is refused
    play.daemon.wait_for(20, bounced=5, queued_rcpts=0)
    assert len(play.home.wait(1)) == 1
    rows = play.daemon.wait_for_rows(6)
    assert sorted(row['rcpt'] for row in rows if row['type'] == 'b') == \
        ['b@nowhere.test', 'x@d.test', 'x@d.test', 'x@d.test', 'y@d.test']
    assert play.daemon.shutdown() == 0


def test_senders_with_their_recipient_in_them_are_told(world):
    """Such a sender's local part has more than 64 octets soon, whoever made it; and it is an address
    whatever the recipient is."""
    play = Play(world, source='verp-default yes')
    play.send([LONG], sender='newsletter@sender.test')
    play.send(['x@d.test'], sender=f'newsletter-{"n" * 64}@sender.test')
    play.send(['x@d.test'], sender='"news letter"@sender.test')
    long = LONG.replace('@', '=')
    assert sorted(rcpts[0] for _, rcpts, _ in play.mail(3)) == sorted([
        f'newsletter-{long}@sender.test', f'newsletter-{"n" * 64}-x=d.test@sender.test',
        '"news letter"@sender.test'])
    play.send([f'x@[{play.there.address}]'], sender='newsletter@sender.test')
    row, = [row for row in play.daemon.wait_for_rows(7) if row['rcpt'].startswith('x@[')]
    assert (row['type'], row['orig']) == ('d', 'newsletter@sender.test')
    assert play.daemon.shutdown() == 0


def test_how_notices_are_written(world):
    """Templates, the whole message back, and a report that survives filters."""
    body = os.path.join(world.directory, 'body.txt')
    with open(body, 'w', encoding='ascii') as file:
        file.write('Dear {sender}\n.{recipient} says {diagnostic}\n')
    play = Play(world, 'dsn-return-default full',
                'dsn-failed-from-template Bounces <bounces@{{host}}>\n'
                'dsn-failed-subject-template {{recipient}}: {{status}}\n'
                f'dsn-failed-body-template-from {body}\n')
    play.send(['x@d.test'])
    [(_, _, message)] = play.mail(1)
    assert message['From'] == 'Bounces <bounces@relay.test>'
    assert message['Subject'] == 'x@d.test: 5.1.1'
    text, _, original = message.get_payload()
    assert f'Dear a@sender.test\r\n.x@d.test says {REFUSAL}\r\n' in text.get_payload()
    assert original.get_content_type() == 'message/rfc822'
    content = original.get_payload()[0]
    assert content['Subject'] == 's' and content.get_payload().endswith('.dot\r\nHello\r\n')
    reports(message)

    play.daemon.write(play_text(play, 'dsn-format plain-text'))
    assert play.daemon.cli('reload').returncode == 0
    play.send(['x@d.test'])
    message = play.mail(2)[1][2]
    assert message.get_content_type() == 'text/plain'
    assert 'Final-Recipient: rfc822; x@d.test\r\nAction: failed\r\n' in message.get_payload()


def play_text(play, domain):
    with open(play.daemon.config_path, encoding='utf-8') as file:
        text = file.read().replace('{', '{{').replace('}', '}}')
    return text + f'<domain sender.test>\n{domain}\n</domain>\n'


def test_who_wants_none(world):
    """suppress-local-dsn of the source, deliver-local-dsn of the sender's domain."""
    play = Play(world, 'suppress-local-dsn yes')
    play.send(['x@d.test'])
    play.daemon.wait_for(20, bounced=1, queued_rcpts=0)
    text = play_text(play, 'deliver-local-dsn no').replace('suppress-local-dsn yes', '')
    play.daemon.write(text)
    assert play.daemon.cli('reload').returncode == 0
    play.send(['x@d.test'])
    play.daemon.wait_for(20, bounced=2, queued_rcpts=0)
    play.daemon.write(text.replace('deliver-local-dsn no', 'deliver-local-dsn yes'))
    assert play.daemon.cli('reload').returncode == 0
    play.send(['z@d.test'])
    [(_, _, message)] = play.mail(1)
    assert reports(message)[1]['Final-Recipient'] == 'rfc822; z@d.test'


def test_mail_to_postmaster(world):
    """Everybody may write to postmaster here; it goes to who the configuration names."""
    play = Play(world, 'always-allow-relaying no', 'postmaster one@sender.test\n'
                'postmaster two@sender.test\n')
    play.send(['PostMaster@relay.test'])
    until(lambda: len(play.home.messages) >= 1, 20, 'the mail')
    play.daemon.wait_for(20, delivered=2, queued_rcpts=0)
    assert sorted(rcpt for _, rcpts, *_ in play.home.messages for rcpt in rcpts) == \
        ['one@sender.test', 'two@sender.test']


def test_copy_upon_delivery(world):
    """What is delivered is copied once, and copies are not copied."""
    play = Play(world, '', '<domain *>\nbcc-upon-delivery copy@sender.test\n</domain>\n')
    play.send(['taken@d.test'])
    play.daemon.wait_for(20, delivered=2, queued_rcpts=0)
    [(sender, rcpts, message)] = play.mail(1)
    assert (sender, rcpts) == ('<>', ['copy@sender.test'])
    assert message['Subject'] == 's' and message.get_payload().endswith('.dot\r\nHello\r\n')


def test_operators_are_told(world):
    """Backoff mode and disabled source addresses: what comes together is told together."""
    play = Play(world, '', '<domain d.test>\nbackoff-notify ops@sender.test,two@sender.test\n'
                'disabled-source-ip-notify ops@sender.test,two@sender.test\n</domain>\n'
                'custom-dsn-from-header The Relay <relay@relay.test>\n')
    play.send(['taken@d.test'])
    play.daemon.wait_for(20, delivered=1, queued_rcpts=0)
    for words in [('set', 'queue', '--mode=backoff', 'd.test/v'),
                  ('set', 'queue', '--mode=normal', 'd.test/v'),
                  ('disable', 'source', play.daemon.source, 'd.test/v')]:
        assert play.daemon.cli(*words).returncode == 0, words
    # The order may belong to the other shard, which writes a note of its own.
    for line in ['d.test/v went into backoff mode: set by an operator\r\n',
                 'd.test/v is in normal mode again\r\n',
                 f'{play.daemon.source} for d.test/v is disabled']:
        until(lambda line=line: line in told(play), 20, line)
    for sender, rcpts, message in play.mail(1):
        assert (sender, rcpts) == ('<>', ['ops@sender.test', 'two@sender.test'])
        assert message['From'] == 'The Relay <relay@relay.test>'
        assert message['To'] == 'ops@sender.test, two@sender.test'
        assert message['Auto-Submitted'] == 'auto-generated'
        assert message['Subject'].startswith(('d.test/v went into', f'{play.daemon.source} for'))


def told(play):
    return ''.join(message.get_payload() for _, _, message in play.mail(0))


class Teller(socketserver.ThreadingTCPServer):
    """A receiver that offers DSN, takes everything, and remembers what MAIL and RCPT said."""
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, world):
        self.address = world.address()
        self.said = []
        super().__init__((self.address, 2525), TellerSession)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        world.at_end.append(self.shutdown)


class TellerSession(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b'220 teller.test\r\n')
        in_data = False
        for line in self.rfile:
            line = line.decode().rstrip('\r\n')
            if in_data:
                in_data = line != '.'
                if in_data:
                    continue
            in_data |= line == 'DATA'
            if line.startswith(('MAIL', 'RCPT')):
                self.server.said.append(line)
            self.wfile.write(b'250-teller.test\r\n250-8BITMIME\r\n250 DSN\r\n' if line.startswith('EHLO') else
                             b'354 go\r\n' if line == 'DATA' else b'250 2.0.0 ok\r\n')


def ask(play, mail, rcpts):
    """A message with these parameters of MAIL; rcpts: lines of RCPT behind "TO:"."""
    client = Smtp(play.daemon.listen)
    assert 'DSN' in client.command('EHLO client.test')[1]
    assert client.command(f'MAIL FROM:<a@sender.test>{mail}')[0] == 250
    for rcpt in rcpts:
        assert client.command(f'RCPT TO:{rcpt}')[0] == 250, rcpt
    assert client.data(BODY)[0] == 250
    client.close()


def test_senders_get_what_they_ask_for(world):
    """RET, ENVID, NOTIFY and ORCPT, where the receiver does not offer DSN."""
    play = Play(world)
    ask(play, ' RET=FULL ENVID=Q+2B1',
        ['<x@d.test> NOTIFY=NEVER', '<z@d.test> NOTIFY=SUCCESS,DELAY', '<quiet@d.test>',
         '<y@d.test> NOTIFY=FAILURE ORCPT=rfc822;old+2By@e.test',
         '<taken@d.test> NOTIFY=SUCCESS ORCPT=rfc822;new@e.test'])
    told = {reports(message)[1]['Action']: message for *_, message in play.mail(2)}
    assert sorted(told) == ['failed', 'relayed']
    for action, orcpt, last in [('failed', 'rfc822;old+y@e.test', 'message/rfc822'),
                                ('relayed', 'rfc822;new@e.test', 'text/rfc822-headers')]:
        about, fields = reports(told[action])
        assert about['Original-Envelope-Id'] == 'Q+1'
        assert fields['Original-Recipient'] == orcpt
        assert told[action].get_payload()[2].get_content_type() == last
    play.daemon.wait_for(20, bounced=3, delivered=4, queued_rcpts=0)
    assert len(play.home.wait(2)) == 2
    rows = play.daemon.wait_for_rows(5)
    assert {row['envId'] for row in rows if row['rcpt'].endswith('@d.test')} == {'Q+1'}
    assert [row['orcpt'] for row in rows if row['rcpt'] == 'y@d.test'] == ['rfc822;old+y@e.test']


def test_receivers_that_offer_it_are_told(world):
    """They see to the notices then; with ignore-dsn we do."""
    play = Play(world)
    teller = Teller(world)
    more = (f'<domain t.test>\nsmtp-hosts [{teller.address}]:2525\n%s\n</domain>\n')
    with open(play.daemon.config_path, encoding='utf-8') as file:
        text = file.read().replace('{', '{{').replace('}', '}}')
    play.daemon.write(text + more % '')
    assert play.daemon.cli('reload').returncode == 0
    asked = ['<b@t.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;c+2Bd@e.test', '<e@t.test>']
    ask(play, ' RET=HDRS ENVID=Q+2B1', asked)
    play.daemon.wait_for(20, delivered=2, queued_rcpts=0)
    assert teller.said == ['MAIL FROM:<a@sender.test> BODY=8BITMIME RET=HDRS ENVID=Q+2B1',
                           *(f'RCPT TO:{line}' for line in asked)]
    assert not play.home.messages
    play.daemon.write(text + more % 'ignore-dsn yes')
    assert play.daemon.cli('reload').returncode == 0
    ask(play, ' RET=HDRS ENVID=Q+2B1', asked)
    assert reports(play.mail(1)[0][2])[1]['Action'] == 'relayed'
    assert teller.said[-3:] == ['MAIL FROM:<a@sender.test> BODY=8BITMIME', 'RCPT TO:<b@t.test>',
                                'RCPT TO:<e@t.test>']


def test_who_waits_is_told(world):
    """NOTIFY=DELAY: once for the interval that ends before the next attempt; others are not."""
    play = Play(world, '', '<domain d.test>\nretry-after 1h\nnotify-of-delay-every 30m\n</domain>\n')
    play.there.replies['late@d.test'] = '450 4.2.1 mailbox busy'
    play.there.replies['later@d.test'] = '450 4.2.1 mailbox busy'
    ask(play, '', ['<late@d.test> NOTIFY=DELAY', '<later@d.test> NOTIFY=FAILURE'])
    [(_, _, message)] = play.mail(1)
    _, fields = reports(message)
    assert (fields['Action'], fields['Final-Recipient']) == ('delayed', 'rfc822; late@d.test')
    assert fields['Status'] == '4.2.1'
    play.daemon.wait_for(20, queued_rcpts=2, delivered=1)
    assert play.daemon.shutdown() == 0
    assert len(play.home.messages) == 1
