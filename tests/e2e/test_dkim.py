"""DKIM signatures, verified by python3-dkim, which shares no code with ours."""
import glob
import json
import os
import random
import signal
import subprocess
import threading
import time

import pytest
from dkim_mail import Key, random_message, verdicts
from harness import Smtp, send_message, until
from test_peers import Receiver

CORPUS = os.path.join(os.path.dirname(__file__), '../../../shared/corpora/dkim/sign')


def sign(world, message, *options, code=0):
    done = subprocess.run([world.program('ringpost'), 'dkim-sign', *options], input=message,
                          capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


@pytest.mark.parametrize('kind', ['2048', 'ed25519'])
def test_signed_by_hand(world, kind):
    """Random messages in all canonical forms, and a message that is altered."""
    key = Key(world.program('ringpost'), world.path(''), kind)
    records = {'s1._domainkey.shop.example': key.record}
    rng = random.Random(6376)
    for i in range(40):
        message = random_message(rng)
        canon = rng.choice(['relaxed', 'simple']) + '/' + rng.choice(['relaxed', 'simple'])
        options = rng.choice([[], ['--time', '1700000000'], ['--identity', '@mail.shop.example'],
                              ['--oversign', 'Subject,To,Cc'], ['--body-length'],
                              ['--more-headers', 'X-Odd,Comments']])
        signed = sign(world, message, '--key', key.path, '--selector', 's1', '--domain',
                      'shop.example', '--canon', canon, *options)
        assert signed.endswith(message), 'nothing but the field is added'
        assert verdicts(signed, records) == [True], (i, canon, options, signed)
        assert verdicts(signed.replace(b'From:', b'From: x'), records) != [True]
    assert not any(secret in signed for secret in key.secrets())


def test_options_are_obeyed(world):
    key = Key(world.program('ringpost'), world.path(''), 'ed25519')
    base = ['--key', key.path, '--selector', 's1', '--domain', 'shop.example']
    message = b'From: a@shop.example\nSubject: x\n\nbody\nmore\n'
    field = sign(world, message, *base, '--time', '17', '--expires', '4000000000', '--query',
                 'dns/txt', '--body-limit', '6', '--headers', 'subject,from,Subject',
                 '--field-only').replace(b'\r\n', b'')
    for part in (b't=0000000017;', b'x=4000000000;', b'q=dns/txt;', b'l=0000000006;',
                 b'h=subject:from:Subject;', b'a=ed25519-sha256;', b'c=relaxed/relaxed;'):
        assert part in field, field
    whole = sign(world, message, *base, '--body-limit', '6')
    assert verdicts(whole + b'added', {'s1._domainkey.shop.example': key.record}) == [True]
    assert b'rsa-sha1' in sign(world, message, *base, '--algorithm', 'rsa-sha1', code=1)
    assert b'i= is not' in sign(world, message, *base, '--identity', '@else.example', code=1)
    assert b'From' in sign(world, message, *base, '--headers', 'subject', code=1)
    sign(world, message, '--key', key.path, '--nonsense', code=2)
    os.chmod(key.path, 0o640)
    refusal = sign(world, message, *base, code=1)
    assert b'chmod 600' in refusal
    assert not any(secret in refusal for secret in key.secrets())


def test_vectors(world):
    """Step three of the corpus: the field is built by us, and verified by python3-dkim."""
    if not os.path.isdir(CORPUS):
        pytest.skip(f'no vectors at {CORPUS}')
    signed_count = 0
    for path in sorted(glob.glob(CORPUS + '/*.json')):
        vector = json.load(open(path, encoding='utf-8'))
        # python3-dkim wants no blank in front of a colon.
        if vector['algorithm'] == 'rsa-sha1' or 'error' in vector['expected'] or \
           any(' :' in field.split(':')[0] + ':' for field in vector['headers']):
            continue
        key_path = world.path('vector.key')
        with open(key_path, 'w', encoding='ascii') as file:
            file.write(vector.get('private_key_pem') or vector['private_key_seed_base64'])
        os.chmod(key_path, 0o600)
        message = ''.join(field + '\r\n' for field in vector['headers']) + '\r\n' + \
            ''.join(vector['body_chunks'])
        options = ['--key', key_path, '--selector', vector['selector'], '--domain',
                   vector['domain'], '--canon',
                   f"{vector['canon_header']}/{vector['canon_body']}", '--headers',
                   ','.join(vector['expected']['signed_headers']), '--algorithm',
                   vector['algorithm'], '--time', str(vector['time'])]
        if vector.get('identity'):
            options += ['--identity', vector['identity']]
        record = sign(world, b'', '--key', key_path, '--record').strip()
        signed = sign(world, message.encode(), *options)
        name = f"{vector['selector']}._domainkey.{vector['domain']}"
        assert verdicts(signed, {name: record}) == [True], (path, signed)
        bh = vector['expected']['bh']
        assert f'bh={bh};'.encode() in signed, path
        signed_count += 1
    assert signed_count >= 10


# ---- The daemon ----------------------------------------------------------------------------------

CONFIG = '''{{base}}
dkim-sign-with {with_}
{keys}
<virtual-mta w>
    smtp-source-host {{daemon.source}} w.relay.test
    {vmta}
</virtual-mta>
<source 127.0.0.0/8>
    process-x-virtual-mta yes
    add-message-id-header yes
    {source}
</source>
<domain *>
    smtp-hosts [{receiver}]:2525
    dkim-sign yes
    {domain}
</domain>
'''


class Signer:
    """A daemon that signs, its receiver, and what a verifier says."""

    def __init__(self, world, keys='', domain='', vmta='', source='', with_='auto'):
        self.receiver = Receiver(world)
        self.parts = {'keys': keys, 'domain': domain, 'vmta': vmta, 'source': source,
                      'with_': with_}
        self.daemon = world.daemon(self.config())
        self.daemon.start()

    def config(self):
        return CONFIG.format(receiver=self.receiver.address, **self.parts)

    def reload(self, **parts):
        self.parts.update(parts)
        self.daemon.write(self.config())
        answer = self.daemon.cli('reload')
        assert answer.returncode == 0, answer.stdout + answer.stderr

    def send(self, message, rcpts=('b@one.test',)):
        return send_message(self.daemon.listen, 'a@shop.example', list(rcpts), message)

    def content(self, count):
        """What the receiver got last, of so many messages."""
        until(lambda: len(self.receiver.messages) >= count, 10, f'{count} messages')
        return self.receiver.messages[count - 1][2]


    def status(self):
        """What show status says of signing."""
        return json.loads(self.daemon.cli('show', 'status', '--json').stdout)['data']['signing']

    def helpers(self):
        """Their process ids."""
        parent, found = self.daemon.program.process.pid, []
        for line in os.listdir('/proc'):
            try:
                fields = open(f'/proc/{line}/stat', encoding='ascii').read().rpartition(')')
            except (OSError, ValueError):
                continue
            if fields[0].endswith('(ringpost-sign') and int(fields[2].split()[1]) == parent:
                found.append(int(line))
        return found


def signature_of(content):
    field = content.split(b'DKIM-Signature:', 1)[1].split(b'\r\nX-End', 1)[0]
    return b''.join(field.split(b';\r\n\tb=')[0].split())


SIMPLE = b'From: a@shop.example\r\nSubject: x\r\nX-End: y\r\n\r\nbody\r\n'


def test_random_messages_through_the_daemon(world):
    """8-bit, long lines, empty bodies, odd headers; RSA and Ed25519 side by side."""
    folder = world.path('')
    rsa, ed = Key(world.program('ringpost'), folder, '2048'), \
        Key(world.program('ringpost'), folder, 'ed25519')
    signer = Signer(world, f'domain-key r1,shop.example,{rsa.path}\n'
                           f'domain-key e1,shop.example,{ed.path}',
                    'dkim-add-timestamp yes\ndkim-expire-after 1d\nsecond-dkim-sign yes\n'
                    'second-dkim-algorithm ed25519-sha256\nsecond-dkim-headers-canon simple\n'
                    'second-dkim-body-canon simple\nsecond-dkim-add-body-limit yes\n'
                    'dkim-disallow-adding-headers Subject,To,List-Unsubscribe')
    records = {'r1._domainkey.shop.example': rsa.record, 'e1._domainkey.shop.example': ed.record}
    rng = random.Random(8463)
    for i in range(60):
        message = random_message(rng)
        assert signer.send(message)[0] == 250
        content = signer.content(i + 1)
        assert verdicts(content, records) == [True, True], content
        assert content.endswith(message), 'nothing of the message is altered'
        assert b'i=news@mail.shop.example;' in b''.join(content.split())
    # A header that does not end with an empty line gets one, and verifiers agree.
    for i, odd in enumerate((b'From: a@shop.example\r\nno field here\r\nbody\r\n',
                             b'From: a@shop.example\r\n'), 61):
        assert signer.send(odd)[0] == 250
        content = signer.content(i)
        assert verdicts(content, records) == [True, True], content
    assert signer.daemon.counters()['dkim_signatures'] == 124


def test_large_messages(world):
    """Of more than a chunk: the first chunk waits for the signature; after a restart too."""
    key = Key(world.program('ringpost'), world.path(''), '2048')
    signer = Signer(world, f'domain-key r1,*,{key.path}')
    records = {'r1._domainkey.shop.example': key.record}
    line = b'0123456789 abcdefghijklmnopqrstuvwxyz \r\n'
    for i, size in enumerate((100_000, 500_000, 1_500_000, 5_000_000)):
        message = SIMPLE + line * (size // len(line)) + b'.\r\n..\r\n'
        reply = signer.send(message)
        assert reply[0] == 250, (size, reply, signer.daemon.program.process.poll())
        content = signer.content(i + 1)
        assert content.endswith(message)
        assert verdicts(content, records) == [True]


def test_whose_key(world):
    """The narrowest domain wins, the virtual MTA's before the top level's, its pool between."""
    keys = {name: Key(world.program('ringpost'), world.path(''), 'ed25519', name)
            for name in ('any', 'shop', 'sub', 'vmta')}
    signer = Signer(world, '\n'.join(f'domain-key {name},{domain},{keys[name].path}'
                                     for name, domain in (('any', '*'), ('shop', 'shop.example'),
                                                          ('sub', 'sub.shop.example'))),
                    'dkim-algorithm ed25519-sha256', f'domain-key vmta,shop.example,{keys["vmta"].path}')
    cases = [(b'a@shop.example', b'', b's=shop;', b'd=shop.example;'),
             (b'a@SHOP.example', b'', b's=shop;', b'd=shop.example;'),
             (b'"A B" <a@x.sub.shop.example>', b'', b's=sub;', b'd=sub.shop.example;'),
             (b'a@workshop.example', b'', b's=any;', b'd=workshop.example;'),
             (b'a@sub.shop.example', b'x-virtual-mta: w\r\n', b's=vmta;', b'd=shop.example;'),
             (b'a@else.example', b'x-virtual-mta: w\r\n', b's=any;', b'd=else.example;'),
             (b'a@else.example\r\nSender: b@shop.example', b'', b's=shop;', b'i=b@shop.example;')]
    for i, (sender, more, *wanted) in enumerate(cases):
        assert signer.send(more + b'From: ' + sender + b'\r\nX-End: y\r\n\r\nx\r\n')[0] == 250
        content = signer.content(i + 1)
        for part in wanted:
            assert part in signature_of(content), (sender, content)
        name, domain = wanted[0][2:-1].decode(), signature_of(content).split(b';d=')[1].split(b';')[0]
        assert verdicts(content, {f'{name}._domainkey.{domain.decode()}': keys[name].record}) == \
            [True], content


def test_a_missing_key_is_never_silent(world):
    key = Key(world.program('ringpost'), world.path(''), 'ed25519')
    signer = Signer(world, f'domain-key s1,else.example,{key.path}',
                    'dkim-algorithm ed25519-sha256')
    assert signer.send(SIMPLE)[0] == 451
    assert 'no DKIM key to sign for the domain shop.example' in signer.daemon.program.log()
    assert signer.daemon.counters()['dkim_keys_missing'] == 1
    signer.reload(domain='dkim-algorithm ed25519-sha256\ndkim-missing-key reject')
    assert signer.send(SIMPLE)[0] == 550
    signer.reload(domain='dkim-algorithm ed25519-sha256\ndkim-missing-key send')
    assert signer.send(SIMPLE)[0] == 250
    assert b'DKIM-Signature' not in signer.content(1)
    signer.reload(domain='dkim-algorithm ed25519-sha256\ndkim-identity-fallback @else.example')
    assert signer.send(SIMPLE)[0] == 250
    assert b'i=@else.example;' in signature_of(signer.content(2))


def test_rotation_by_reload(world):
    """The next message has the new key; a file that others may read is refused and nothing changes."""
    old, new = (Key(world.program('ringpost'), world.path(''), 'ed25519', name)
                for name in ('old', 'new'))
    signer = Signer(world, f'domain-key s1,*,{old.path}', 'dkim-algorithm ed25519-sha256')
    signer.send(SIMPLE)
    assert b's=s1;' in signature_of(signer.content(1))
    signer.reload(keys=f'domain-key s2,*,{new.path}')
    signer.send(SIMPLE)
    content = signer.content(2)
    assert verdicts(content, {'s2._domainkey.shop.example': new.record}) == [True]
    os.chmod(new.path, 0o644)
    answer = signer.daemon.cli('reload')
    assert answer.returncode == 1 and 'chmod 600' in answer.stdout + answer.stderr
    signer.send(SIMPLE)
    assert b's=s2;' in signature_of(signer.content(3))
    # Nowhere: not in the log, in what the operator sees, nor in what is kept of configurations.
    seen = signer.daemon.program.log().encode() + answer.stdout.encode() + \
        signer.daemon.cli('show', 'status').stdout.encode()
    for path in glob.glob(signer.daemon.path + '/**', recursive=True):
        if os.path.isfile(path):
            seen += open(path, 'rb').read()
    for secret in old.secrets() + new.secrets():
        assert secret not in seen


def test_x_dkim_headers(world):
    """A message may choose, and bring its own key, where the source lets it; neither leaves."""
    keys = [Key(world.program('ringpost'), world.path(''), 'ed25519', name) for name in 'abc']
    signer = Signer(world, f'domain-key a,shop.example,{keys[0].path}\n'
                           f'domain-key b,shop.example,{keys[1].path}',
                    'dkim-algorithm ed25519-sha256\ndkim-sign if-x-dkim-options-present',
                    source='process-x-dkim-options yes\nprocess-x-dkim-key yes')
    signer.send(SIMPLE)
    assert b'DKIM-Signature' not in signer.content(1)
    signer.send(b'x-dkim-options: s=b; d=shop.example;\r\n i=@news.shop.example; q=dns/txt\r\n' + SIMPLE)
    content = signer.content(2)
    assert verdicts(content, {'b._domainkey.shop.example': keys[1].record}) == [True]
    assert b'i=@news.shop.example;' in signature_of(content) and b'q=dns/txt;' in content
    pem = open(keys[2].path, 'rb').read().strip().replace(b'\n', b'\r\n ')
    signer.send(b'x-dkim-options: s=c; d=own.example; i=@own.example\r\nx-dkim-key: ' + pem +
                b'\r\n' + SIMPLE)
    content = signer.content(3)
    assert verdicts(content, {'c._domainkey.own.example': keys[2].record}) == [True]
    for i in (1, 2):
        assert b'x-dkim' not in signer.receiver.messages[i][2]
    assert signer.send(b'x-dkim-options: nonsense\r\n' + SIMPLE)[0] == 554
    assert signer.send(b'x-dkim-options: s=c\r\nx-dkim-key: none\r\n' + SIMPLE)[0] == 554


def test_key_lists(world):
    """<domain-key-list>: only what asks for a list is signed by it, and by nothing else."""
    keys = {name: Key(world.program('ringpost'), world.path(''), 'ed25519', name) for name in 'abc'}
    lists = f'<domain-key-list one>\n    domain-key a,shop.example,{keys["a"].path}\n' \
            f'    b,*,{keys["b"].path}\n</domain-key-list>\n'
    signer = Signer(world, lists + f'domain-key c,shop.example,{keys["c"].path}',
                    'dkim-algorithm ed25519-sha256', source='process-x-dkim-options yes')
    for count, (options, wanted) in enumerate([
            (b'', 'c'), (b'x-dkim-options: key-list=ONE\r\n', 'a'),
            (b'x-dkim-options: key-list=one; s=b\r\n', 'b')], 1):
        assert signer.send(options + SIMPLE)[0] == 250
        content = signer.content(count)
        assert verdicts(content, {f'{wanted}._domainkey.shop.example': keys[wanted].record}) == \
            [True], content
    assert signer.send(b'x-dkim-options: key-list=two\r\n' + SIMPLE)[0] == 451
    # What waits is signed again by the list's key then.
    signer.receiver.replies['b@one.test'] = '451 4.2.0 later'
    signer.send(b'x-dkim-options: key-list=one; s=b\r\n' + SIMPLE)
    signer.daemon.wait_for_rows(1, kinds='t')
    signer.reload(keys=f'<domain-key-list one>\n    b,*,{keys["a"].path}\n</domain-key-list>\n')
    signer.receiver.replies.clear()
    signer.daemon.cli('schedule', '*/*')
    assert verdicts(signer.content(4), {'b._domainkey.shop.example': keys['a'].record}) == [True]


def test_notices_are_signed(world):
    """What ringpost writes itself is signed as other mail to that domain; without a key it goes all
    the same, and that is counted."""
    keys = {kind: Key(world.program('ringpost'), world.path(''), kind) for kind in ('2048', 'ed25519')}
    signer = Signer(world, f'domain-key r1,relay.test,{keys["2048"].path}\n'
                           f'domain-key e1,relay.test,{keys["ed25519"].path}\n'
                           f'domain-key s1,shop.example,{keys["ed25519"].path}',
                    'dkim-missing-key send\nsecond-dkim-sign yes\n'
                    'second-dkim-algorithm ed25519-sha256\nsecond-dkim-body-canon simple',
                    source='suppress-local-dsn no\ndefault-virtual-mta v')
    signer.receiver.replies['bad@one.test'] = '550 5.1.1 nobody of that name'
    records = {'r1._domainkey.relay.test': keys['2048'].record,
               'e1._domainkey.relay.test': keys['ed25519'].record}
    assert signer.send(SIMPLE + b'.a line\r\n', ['bad@one.test'])[0] == 250
    notice = signer.content(1)
    assert b'multipart/report' in notice and b'5.1.1' in notice
    assert signer.receiver.messages[0][:2] == ('<>', ['a@shop.example']), signer.receiver.messages
    assert verdicts(notice, records) == [True, True], notice
    assert verdicts(notice.replace(b'nobody of that name', b'Nobody of that name'), records) != \
        [True, True]
    before = signer.daemon.counters()['dkim_keys_missing']
    signer.reload(keys=f'domain-key s1,shop.example,{keys["ed25519"].path}')
    signer.send(SIMPLE, ['bad@one.test'])
    assert b'DKIM-Signature' not in signer.content(2).split(b'\r\n\r\n')[0]
    assert signer.daemon.counters()['dkim_keys_missing'] > before


# ---- The helper ----------------------------------------------------------------------------------


class Load:
    """Sessions that send until they are told to stop, and count what was not accepted."""

    def __init__(self, signer, sessions=4):
        self.signer, self.is_over, self.refused, self.sent = signer, False, [], 0
        self.threads = [threading.Thread(target=self.run) for _ in range(sessions)]
        for thread in self.threads:
            thread.start()

    def run(self):
        client = Smtp(self.signer.daemon.listen)
        client.command('EHLO client.test')
        while not self.is_over:
            client.envelope('a@shop.example', ['b@one.test'])
            reply = client.data(SIMPLE)
            self.sent += 1
            if reply[0] != 250:
                self.refused.append(reply)
            time.sleep(0.03)
        client.close()

    def stop(self):
        self.is_over = True
        for thread in self.threads:
            thread.join()


def test_helpers_that_die_or_hang_cost_no_message(world):
    """kill -9 and SIGSTOP in the middle of load: the daemon signs meanwhile, others take their place."""
    if not os.path.exists(world.program('ringpost-sign')):
        pytest.skip('built without OpenSSL')
    key = Key(world.program('ringpost'), world.path(''), '2048')
    signer = Signer(world, f'domain-key r1,*,{key.path}', with_='helper')
    until(lambda: signer.status()['helpers'] == 2, 20, 'two helpers')
    load = Load(signer)
    helped = lambda: signer.daemon.counters()['dkim_signatures_helped']  # noqa: E731
    for blow in (signal.SIGKILL, signal.SIGSTOP):
        before = helped()
        until(lambda: helped() > before + 5, 10, 'signatures by the helpers')  # noqa: B023
        restarted = signer.status()['helpersRestarted']
        for process in signer.helpers():
            os.kill(process, blow)
        # More where one that was only slow was taken for one that hangs.
        until(lambda: signer.status()['helpersRestarted'] >= restarted + 2 and  # noqa: B023
              signer.status()['helpers'] == 2, 30, 'two new helpers')
    before = helped()
    until(lambda: helped() > before + 5, 10, 'signatures by the helpers')
    load.stop()
    assert load.refused == []
    signer.content(load.sent)
    counters = signer.daemon.counters()
    assert counters['dkim_signatures'] == load.sent > counters['dkim_signatures_helped'] > 0
    records = {'r1._domainkey.shop.example': key.record}
    assert len(signer.receiver.messages) == load.sent
    assert all(verdicts(message[2], records) == [True] for message in signer.receiver.messages)
    signer.reload(with_='daemon')
    until(lambda: signer.helpers() == [], 10, 'no helpers')
    assert signer.status()['rsa']['backend'] == 'boringssl'
    seen = signer.daemon.program.log() + signer.daemon.cli('show', 'status').stdout
    assert not any(secret.decode() in seen for secret in key.secrets())
    assert signer.daemon.shutdown() == 0


def test_the_faster_one_signs(world):
    """By what both measured; a key file that has changed since the load is not used by the helper."""
    if not os.path.exists(world.program('ringpost-sign')):
        pytest.skip('built without OpenSSL')
    first, other = (Key(world.program('ringpost'), world.path(''), '2048', name) for name in 'ab')
    signer = Signer(world, f'domain-key r1,*,{first.path}')
    until(lambda: signer.status()['rsa']['opensslRate'] > 1, 20, 'rates')
    until(lambda: '; ed25519 ' in signer.daemon.program.log(), 20, 'a line of the log')
    for kind in ('rsa', 'ed25519'):
        status = signer.status()[kind]
        is_faster = status['opensslRate'] * 100 > status['boringsslRate'] * 110
        until(lambda: signer.status()[kind]['backend'] ==  # noqa: B023
              ('openssl' if is_faster else 'boringssl'), 10, signer.status())  # noqa: B023
    os.replace(other.path, first.path)
    records = {'r1._domainkey.shop.example': first.record}
    for i in range(3):
        assert signer.send(SIMPLE)[0] == 250
        assert verdicts(signer.content(i + 1), records) == [True]
    assert signer.daemon.counters()['dkim_signatures_helped'] == 0
    signer.reload()
    for i in range(3, 30):
        signer.send(SIMPLE)
        assert verdicts(signer.content(i + 1), {'r1._domainkey.shop.example': other.record}) == [True]
    helped = signer.daemon.counters()['dkim_signatures_helped']
    assert (helped > 0) == (signer.status()['rsa']['backend'] == 'openssl')
