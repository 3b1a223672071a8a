"""Checks of who hands mail in, against a real resolver (unbound): SPF, signatures, reverse
names, the sender's domain; what is refused, and what the message says that goes on."""
import re
import subprocess

import dkim
import pytest

import dns_servers
from dkim_mail import Key
from dns_servers import Mute, Resolver
from harness import Smtp, send_message
from test_peers import Receiver

CONFIG = '''{{base}}name-server {resolver}:5353
resolver-timeout 3s
check-mfrom-inbound yes
<source 127.0.0.0/8>
    check-spf-inbound yes
    check-iprev-inbound yes
</source>
<source {strict}>
    trace-spf-check yes
    trace-iprev-check yes
    reject-spf-check-fail yes
    reject-spf-check-permerror yes
    reject-spf-check-temperror yes
    reject-iprev-check-fail yes
    reject-iprev-check-permerror yes
    reject-iprev-check-temperror yes
</source>
<domain *>
    smtp-hosts [{receiver}]:2525
</domain>
'''
MESSAGE = (b'Authentication-Results: other.test; spf=fail\r\n'
           b'Authentication-Results: (nice \\) try) "RELAY.test" 1;\r\n\tspf=pass\r\n'
           b'authentication-results: relay.test (x); dkim=pass\r\n'
           b'Authentication-Results: relay.test.other.test; dkim=pass\r\n'
           b'From: a@sender.test\r\nSubject: x\r\n\r\nbody\r\n')


@pytest.fixture(autouse=True)
def need_servers():
    missing = dns_servers.missing('unbound')
    if missing:
        pytest.skip(f'not installed: {missing}')


def reverse(address):
    return '.'.join(reversed(address.split('.'))) + '.in-addr.arpa'


def send(daemon, client, sender, octets=MESSAGE):
    session = Smtp(daemon.listen, source=client)
    assert session.command('EHLO helo.test')[0] == 250
    session.envelope(sender, ['b@one.test'])
    reply = session.data(octets)
    session.close()
    return reply


def unfold(field):
    return re.sub(r'\s+', ' ', field).strip()


def results(content):
    """The Authentication-Results fields, unfolded, ours first."""
    header = content.split(b'\r\n\r\n')[0].decode()
    return [unfold(value) for value in
            re.findall(r'^authentication-results:((?:.*\r?\n?)(?:[ \t].*\r?\n?)*)', header,
                       re.IGNORECASE | re.MULTILINE)]


@pytest.fixture(name='relay')
def relay_fixture(world):
    """A daemon that checks; its receiver; addresses of clients by what their names are worth."""
    clients = {name: world.address() for name in ['good', 'lying', 'nameless', 'dead', 'lenient',
                                                  'hidden']}
    good, silent = clients['good'], Mute(world)
    texts = {'pass.test': f'v=spf1 ip4:{good} ip4:{clients["lenient"]} -all',
             'fail.test': 'v=spf1 -all', 'broken.test': 'v=spf1 moo',
             'long.test': 'v=spf1' + ' ip4:192.0.2.2' * 16 +
                          f'" " ip4:{good} -all',
             'helo.test': 'v=spf1 a:good.test -all', 'soft.test': 'v=spf1 ~all'}
    lines = ['    local-zone: "127.in-addr.arpa." static',
             '    local-zone: "silent.test." transparent',
             f'    local-zone: "{reverse(clients["dead"])}." transparent',
             *(f"    local-data: '{name}. TXT \"{text}\"'" for name, text in texts.items())]
    records = ['good.test. A ' + good, 'other.test. A 192.0.2.1',
               *(f'{name}. MX 10 good.test.' for name in texts if name != 'fail.test'),
               f'{reverse(good)}. PTR good.test.', f'{reverse(clients["lying"])}. PTR other.test.']
    resolver = Resolver(world, *records, more='\n'.join(lines), stubs={
        'silent.test.': silent.at, f'{reverse(clients["dead"])}.': silent.at})
    receiver = Receiver(world)
    daemon = world.daemon(CONFIG.format(resolver=resolver.address, receiver=receiver.address,
                                        strict=good) +
                          ''.join(f'<source {clients[name]}>\n'
                                  '    reject-iprev-check-fail yes\n'
                                  '    reject-iprev-check-permerror yes\n'
                                  '    reject-iprev-check-temperror yes\n</source>\n'
                                  for name in ['lying', 'nameless', 'dead']) +
                          f'<source {clients["hidden"]}>\n    hide-message-source yes\n</source>\n')
    return daemon.start(), receiver, clients


def test_what_is_accepted_says_what_was_found_out(relay):
    daemon, receiver, clients = relay
    good, lenient = clients['good'], clients['lenient']
    spf = 'smtp.mailfrom='
    for client, sender, wanted in [
            (good, 'a@pass.test', [f'spf=pass (ip4:{good}) {spf}pass.test',
                                   f'iprev=pass (good.test) policy.iprev={good}',
                                   f'x-mfrom=pass {spf}pass.test']),
            (good, 'a@long.test', [f'spf=pass (ip4:{good}) {spf}long.test',
                                   f'iprev=pass (good.test) policy.iprev={good}',
                                   f'x-mfrom=pass {spf}long.test']),
            (good, '', ['spf=pass (a:good.test) smtp.helo=helo.test',
                        f'iprev=pass (good.test) policy.iprev={good}']),
            (lenient, 'a@fail.test', [f'spf=fail (-all) {spf}fail.test',
                                      f'iprev=permerror policy.iprev={lenient}',
                                      f'x-mfrom=fail {spf}fail.test']),
            (lenient, 'a@nowhere.test', [f'spf=none {spf}nowhere.test',
                                         f'iprev=permerror policy.iprev={lenient}',
                                         f'x-mfrom=fail {spf}nowhere.test']),
            (lenient, 'a@broken.test', [
                f'spf=permerror (the record is not well-formed) {spf}broken.test',
                f'iprev=permerror policy.iprev={lenient}', f'x-mfrom=pass {spf}broken.test']),
            (lenient, 'a@[192.0.2.1]', [f'spf=none {spf}"[192.0.2.1]"',
                                        f'iprev=permerror policy.iprev={lenient}',
                                        f'x-mfrom=fail {spf}"[192.0.2.1]"']),
            (clients['hidden'], 'a@pass.test', [f'spf=fail {spf}pass.test', 'iprev=permerror',
                                                f'x-mfrom=pass {spf}pass.test']),
            (clients['hidden'], '', ['spf=fail', 'iprev=permerror'])]:
        before = len(receiver.messages)
        code, text = send(daemon, client, sender)
        assert code == 250, text
        content = receiver.wait(before + 1)[-1][2]
        assert content.startswith(b'Authentication-Results: relay.test;\r\n\t')
        # Ours on top, forged ones gone, those of others whole.
        assert results(content) == ['; '.join(['relay.test', *wanted]), 'other.test; spf=fail',
                                    'relay.test.other.test; dkim=pass'], content
        assert clients['hidden'].encode() not in content
    log = daemon.program.log()
    assert f'SPF of pass.test: ip4:{good} matches' in log
    assert f'SPF pass: ip4:{good}' in log and 'iprev name: good.test leads back' in log
    assert 'SPF of fail.test' not in log


def test_what_is_refused(relay):
    daemon, receiver, clients = relay
    for name, sender, wanted in [('good', 'a@fail.test', (550, '5.7.23 ')),
                                 ('good', 'a@broken.test', (550, '5.7.24 ')),
                                 ('good', 'a@silent.test', (451, '4.7.24 ')),
                                 ('lying', 'a@fail.test', (550, '5.7.25 ')),
                                 ('nameless', 'a@pass.test', (550, '5.7.25 ')),
                                 ('dead', 'a@pass.test', (451, '4.7.25 '))]:
        code, text = send(daemon, clients[name], sender)
        assert (code, text[:7]) == wanted, (name, sender, code, text)
    # What is none of these reasons is no reason.
    assert send(daemon, clients['good'], 'a@soft.test')[0] == 250
    assert len(receiver.wait(1)) == 1
    assert daemon.counters()['refused_messages'] == 6


def test_a_long_message_waits_for_the_answers(relay):
    """The header stands still while the body comes: nothing is lost or told twice, in chunks too."""
    daemon, receiver, clients = relay
    body = b''.join(b'%070d\r\n' % line for line in range(6000))
    session = Smtp(daemon.listen, source=clients['lenient'], timeout=40)
    assert session.command('EHLO helo.test')[0] == 250
    for way in range(2):
        session.envelope(f'a@{way}.silent.test', ['b@one.test'])
        if way:
            octets = MESSAGE + body
            code, text = session.bdat(octets[:100], octets[100:300000], octets[300000:])
        else:
            code, text = session.data(MESSAGE + body)
        assert code == 250, text
        content = receiver.wait(way + 1)[-1][2]
        assert results(content)[0].startswith('relay.test; spf=temperror (')
        assert content.split(b'\r\n\r\n', 1)[1] == b'body\r\n' + body
    session.close()
    # One who does not wait leaves nothing behind.
    session = Smtp(daemon.listen, source=clients['lenient'])
    session.command('EHLO helo.test')
    session.envelope('a@silent.test', ['b@one.test'])
    session.command('DATA')
    session.send(MESSAGE + body[:5000])
    session.close()
    assert daemon.shutdown() == 0


def txt(record):
    """The words of a TXT record, which have 255 octets at most."""
    text = record.decode()
    return ' '.join(f'"{text[at:at + 250]}"' for at in range(0, len(text), 250))


def results_of_signatures(content):
    return re.findall(r'dkim=(\w+)(?: header.d=(\S+) header.s=(\w+) header.b=\S+)?(?=;|$)',
                      results(content)[0])


def test_signatures(world):
    """Signatures of another implementation, whole and spoilt, of small mail and of mail in chunks;
    keys that are there, gone, revoked, of another kind or not to be had."""
    receiver, silent, ringpost = Receiver(world), Mute(world), world.program('ringpost')
    rsa, ed25519 = (Key(ringpost, world.path(''), kind) for kind in ('2048', 'ed25519'))
    keys = {'rsa': rsa.record, 'ed': ed25519.record, 'revoked': b'v=DKIM1; p=',
            'other': ed25519.record, 'strict': rsa.record.replace(b'p=', b't=s; p=')}
    lines = ['    local-zone: "silent.test." transparent',
             *(f"    local-data: '{name}._domainkey.sender.test. TXT {txt(record)}'"
               for name, record in keys.items())]
    resolver = Resolver(world, 'any.test. A 192.0.2.1', stubs={'silent.test.': silent.at},
                        more='\n'.join(lines))
    daemon = world.daemon('{base}' + f'name-server {resolver.address}:5353\nresolver-timeout 3s\n'
                          '<source 127.0.0.0/8>\n    check-dkim-inbound yes\n'
                          '    trace-dkim-check yes\n</source>\n'
                          f'<domain *>\n    smtp-hosts [{receiver.address}]:2525\n'
                          '</domain>\n').start()
    private = open(rsa.path, 'rb').read()

    def sign(message, selector='rsa', domain='sender.test', canon=b'relaxed', **options):
        return dkim.sign(message, selector.encode(), domain.encode(), private,
                         canonicalize=(canon, canon), **options) + message

    def sign_ed(message):
        return subprocess.run([ringpost, 'dkim-sign', '--key', ed25519.path, '--selector', 'ed',
                               '--domain', 'sender.test', '--canon', 'simple/simple'],
                              input=message, check=True, capture_output=True).stdout

    mail = (b'From: a@sender.test\r\nSubject:  odd \t words\r\n folded\r\nTo: b@one.test\r\n\r\n'
            b'.dot\r\nwords  and \t more \r\n\r\n\r\n')
    large = mail + b''.join(b'%070d\r\n' % line for line in range(3000))
    good = ('pass', 'sender.test', 'rsa')
    fail = ('fail', 'sender.test', 'rsa')
    for message, wanted in [
            (mail, [('none', '', '')]),
            (sign(mail), [good]),
            (sign(mail, canon=b'simple'), [good]),
            (sign(large), [good]),
            (sign_ed(sign(mail)), [('pass', 'sender.test', 'ed'), good]),
            (sign(mail, length=True) + b'added\r\n', [good]),
            (sign(mail).replace(b'words  and', b'words and'), [good]),
            (sign(mail).replace(b'words and', b'swords and').replace(b'words  and', b'swords  and'),
             [fail]),
            (sign(large).replace(b'%070d' % 2999, b'%070d' % 3999), [fail]),
            (sign(mail, canon=b'simple').replace(b'odd \t words', b'odd words'), [fail]),
            (sign(mail).replace(b'a@sender.test', b'x@sender.test'), [fail]),
            (sign(mail, 'revoked'), [('permerror', 'sender.test', 'revoked')]),
            (sign(mail, 'missing'), [('permerror', 'sender.test', 'missing')]),
            (sign(mail, 'other'), [('permerror', 'sender.test', 'other')]),
            (sign(mail, 'strict', identity=b'@sender.test'), [('pass', 'sender.test', 'strict')]),
            (sign(mail, 'strict', identity=b'@x.sender.test'),
             [('permerror', 'sender.test', 'strict')]),
            (sign(mail, 's', 'silent.test'), [('temperror', 'silent.test', 's')]),
            (b'DKIM-Signature: v=1; a=rsa-sha256; b=\r\n' + mail, [('neutral', '', '')])]:
        before = len(receiver.messages)
        code, text = send_message(daemon.listen, 'a@sender.test', ['b@one.test'], message)
        assert code == 250, text
        content = receiver.wait(before + 1)[-1][2]
        assert results_of_signatures(content) == wanted, content[:2000]
        # What was signed is as it came.
        assert content.endswith(message)
    six = b''.join(sign(mail)[:-len(mail)] for _ in range(6)) + mail
    assert send_message(daemon.listen, 'a@sender.test', ['b@one.test'], six)[0] == 250
    assert results_of_signatures(receiver.wait(before + 2)[-1][2]) == [good] * 5
    log = daemon.program.log()
    assert 'DKIM signature of sender.test: pass' in log
    assert 'DKIM signature of sender.test: permerror, the key is revoked' in log


OUTBOUND = '''{{base}}name-server {resolver}:5353
resolver-timeout 3s
<domain *>
    smtp-hosts [{receiver}]:2525
    check-spf-outbound yes
    retry-after 2s
</domain>
<domain free.test>
    check-spf-outbound no
</domain>
'''
PLAIN = b'From: a@sender.test\r\nSubject: x\r\n\r\nbody\r\n'


def test_what_the_sender_does_not_allow_does_not_leave(world):
    """Before a message goes, its sender's record is asked about the address it would leave by."""
    silent, receiver, daemon = Mute(world), Receiver(world), world.daemon()
    source = daemon.source
    texts = {'pass.test': f'v=spf1 ip4:{source} -all', 'v.relay.test': f'v=spf1 ip4:{source} -all',
             'fail.test': 'v=spf1 -all', 'soft.test': 'v=spf1 ~all', 'broken.test': 'v=spf1 moo',
             'each.test': 'v=spf1 exists:%{l}.ok.test -all'}
    lines = ['    local-zone: "silent.test." transparent',
             *(f"    local-data: '{name}. TXT \"{text}\"'" for name, text in texts.items())]
    resolver = Resolver(world, 'good.ok.test. A 127.0.0.2', more='\n'.join(lines),
                        stubs={'silent.test.': silent.at})
    daemon.write(OUTBOUND.format(resolver=resolver.address, receiver=receiver.address))
    daemon.start()
    sent = [('a@pass.test', 'one'), ('good@each.test', 'two'), ('', 'three'),
            ('a@fail.test', 'free')]
    refused = {'a@fail.test': ('5.7.23', 'fail (-all)'), 'a@nowhere.test': ('5.7.23', 'none'),
               'a@soft.test': ('5.7.23', 'softfail (~all)'),
               'bad@each.test': ('5.7.23', 'fail (-all)'),
               'a@broken.test': ('5.7.24', 'permerror (the record is not well-formed)')}
    for sender, domain in sent + [(sender, 'one') for sender in refused]:
        assert send_message(daemon.listen, sender, [f'b@{domain}.test'], PLAIN)[0] == 250
    rows = daemon.wait_for_rows(len(sent) + len(refused), 20)
    assert sorted(message[0] for message in receiver.messages) == sorted(way[0] or '<>' for way in sent)
    bounced = {row['orig']: row for row in rows if row['type'] == 'b'}
    assert bounced.keys() == refused.keys()
    for sender, (status, why) in refused.items():
        row = bounced[sender]
        assert row['dsnStatus'].startswith(status), row
        assert row['dsnDiag'].endswith(f' SPF of {sender.partition("@")[2]} for our address '
                                       f'{source} is {why}'), row
        assert row['bounceCat'] == 'policy-related', row
    # What cannot be found out now is tried again, and another sender's mail does not wait for it.
    assert send_message(daemon.listen, 'a@silent.test', ['b@one.test'], PLAIN)[0] == 250
    assert send_message(daemon.listen, 'a@pass.test', ['b@one.test'], PLAIN)[0] == 250
    receiver.wait(len(sent) + 1)
    row = daemon.wait_for_rows(1, 20, kinds=['t'])[0]
    assert row['orig'] == 'a@silent.test' and row['dsnStatus'].startswith('4.7.24'), row
    daemon.wait_for(20, delivered=len(sent) + 1, bounced=len(refused), queued_rcpts=1)
    assert len(receiver.messages) == len(sent) + 1
    assert daemon.shutdown() == 0
