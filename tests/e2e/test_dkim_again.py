"""Signatures made again when a message leaves: what they are looked at for, and what they cost."""
import glob
import os

import pytest
from dkim_mail import Key, verdicts
from harness import send_message, until
from test_dkim import SIMPLE, Signer, signature_of

RCPT = 'b@one.test'
LATER = '451 4.2.0 later'
ED = 'dkim-algorithm ed25519-sha256\n'
LINE = b'0123456789 abcdefghijklmnopqrstuvwxyz \r\n'


class Waiting:
    """A message that was accepted and signed, and waits for its next attempt."""

    def __init__(self, world, message=SIMPLE, **parts):
        self.signer = Signer(world, **parts)
        self.receiver, self.daemon = self.signer.receiver, self.signer.daemon
        self.refused = 0
        self.accept(message)

    def accept(self, message=SIMPLE, rcpts=(RCPT,)):
        self.receiver.replies[RCPT] = LATER
        assert self.signer.send(message, rcpts)[0] == 250
        self.refused += 1
        self.daemon.wait_for_rows(self.refused, kinds='t')

    def counted(self):
        counters = self.daemon.counters()
        return counters['dkim_signatures'], counters['dkim_signatures_again']

    def refuse(self):
        """One more attempt that the receiver puts off."""
        self.refused += 1
        self.daemon.cli('schedule', '*/*')
        self.daemon.wait_for_rows(self.refused, kinds='t')

    def deliver(self, count=1):
        """The content that the receiver takes now."""
        del self.receiver.replies[RCPT]
        self.daemon.cli('schedule', '*/*')
        return self.signer.content(count)


def keys_of(world, *names, kind='ed25519'):
    return [Key(world.program('ringpost'), world.path(''), kind, name) for name in names]


def one_signature(content):
    return content.lower().split(b'\r\n\r\n')[0].count(b'dkim-signature:') == 1


def test_what_is_as_it_was_is_not_signed_again(world):
    a, = keys_of(world, 'a')
    waiting = Waiting(world, keys=f'domain-key s1,*,{a.path}', domain=ED)
    waiting.refuse()
    waiting.signer.reload()
    # A restart, and a part of the configuration that is about other things.
    waiting.signer.reload(domain=ED + 'max-smtp-out 5')
    assert waiting.daemon.shutdown() == 0
    waiting.daemon.start()
    content = waiting.deliver()
    assert verdicts(content, {'s1._domainkey.shop.example': a.record}) == [True]
    assert waiting.counted() == (0, 0), 'counted since the restart'


@pytest.mark.parametrize('restarts', [False, True])
def test_the_key_in_force_signs_what_waited(world, restarts):
    """After a rotation, once the old line is gone; its file too, and with all of it in the log."""
    old, new = keys_of(world, 'old', 'new')
    waiting = Waiting(world, keys=f'domain-key s1,*,{old.path}', domain=ED)
    os.unlink(old.path)
    waiting.signer.reload(keys=f'domain-key s2,*,{new.path}')
    if restarts:
        assert waiting.daemon.shutdown() == 0
        waiting.daemon.start()
    content = waiting.deliver()
    assert one_signature(content) and b's=s2;' in signature_of(content)
    assert verdicts(content, {'s2._domainkey.shop.example': new.record}) == [True]
    assert content.endswith(SIMPLE)
    assert waiting.counted() == (1 + (not restarts), 1)
    # What was accepted under the new key is as it was.
    waiting.accept()
    waiting.deliver(2)
    assert waiting.counted() == (2 + (not restarts), 1)


def test_a_key_of_the_same_selector(world):
    """Another key in the same file: the log has the id of the one that signed."""
    old, new = keys_of(world, 'old', 'new')
    waiting = Waiting(world, keys=f'domain-key s1,*,{old.path}', domain=ED)
    os.replace(new.path, old.path)
    waiting.signer.reload()
    content = waiting.deliver()
    assert one_signature(content)
    assert verdicts(content, {'s1._domainkey.shop.example': new.record}) == [True]
    assert waiting.counted()[1] == 1


def test_a_new_key_of_another_domain_changes_nothing(world):
    a, b = keys_of(world, 'a', 'b')
    waiting = Waiting(world, keys=f'domain-key s1,shop.example,{a.path}', domain=ED)
    waiting.signer.reload(keys=f'domain-key s1,shop.example,{a.path}\n'
                               f'domain-key s2,else.example,{b.path}')
    content = waiting.deliver()
    assert verdicts(content, {'s1._domainkey.shop.example': a.record}) == [True]
    assert waiting.counted() == (1, 0)


def test_another_virtual_mta(world):
    """By reroute-to-virtual-mta: w has a key of its own."""
    a, b = keys_of(world, 'a', 'b')
    waiting = Waiting(world, keys=f'domain-key s1,*,{a.path}', domain=ED,
                      vmta=f'domain-key w1,shop.example,{b.path}')
    waiting.signer.reload(domain=ED + 'reroute-to-virtual-mta w')
    content = waiting.deliver()
    assert one_signature(content) and b's=w1;' in signature_of(content)
    assert verdicts(content, {'w1._domainkey.shop.example': b.record}) == [True]
    assert waiting.counted() == (2, 1)
    # What comes when the way is known has the right one at once.
    assert waiting.signer.send(SIMPLE)[0] == 250
    content = waiting.signer.content(2)
    assert verdicts(content, {'w1._domainkey.shop.example': b.record}) == [True]
    assert waiting.counted() == (3, 1)


def test_a_field_that_is_taken_out(world):
    """remove-header of a field that is signed; one that is not signed breaks nothing."""
    a, = keys_of(world, 'a')
    records = {'s1._domainkey.shop.example': a.record}
    message = b'X-Other: o\r\nComments: signed\r\n' + SIMPLE
    domain = ED + 'dkim-headers Comments\n'
    waiting = Waiting(world, message, keys=f'domain-key s1,*,{a.path}', domain=domain)
    waiting.signer.reload(domain=domain + 'remove-header X-Other')
    content = waiting.deliver()
    assert b'X-Other' not in content and verdicts(content, records) == [True]
    assert waiting.counted() == (1, 0)
    waiting.signer.reload(domain=domain)
    waiting.accept(message)
    waiting.signer.reload(domain=domain + 'remove-header Comments,X-Other')
    content = waiting.deliver(2)
    assert b'Comments' not in content and b'X-Other' not in content
    assert one_signature(content) and verdicts(content, records) == [True], content
    assert waiting.counted() == (3, 1)


def test_one_that_has_run_out(world):
    a, = keys_of(world, 'a')
    domain = ED + 'dkim-expire-after 2s\ndkim-add-timestamp yes\nretry-after 1h\n'
    waiting = Waiting(world, keys=f'domain-key s1,*,{a.path}', domain=domain)
    assert waiting.counted() == (1, 0)

    def is_signed_again():
        waiting.refuse()
        return waiting.counted()[1] >= 1

    until(is_signed_again, 20, 'a signature that has run out', pause=0.5)
    waiting.signer.reload(domain=ED + 'dkim-expire-after 1d\n')
    content = waiting.deliver()
    assert one_signature(content)
    assert verdicts(content, {'s1._domainkey.shop.example': a.record}) == [True]


@pytest.mark.parametrize('size', [3_000, 200_000, 1_500_000])
def test_another_form_of_the_body(world, size):
    """Its hash is not known: the body is read for it. Where the form is the same it is not needed."""
    a, b = keys_of(world, 'a', 'b', kind='2048')
    message = SIMPLE + LINE * (size // len(LINE)) + b'.\r\n..x  y \r\n\r\n\r\n'
    waiting = Waiting(world, message, keys=f'domain-key s1,*,{a.path}')
    records = {'s1._domainkey.shop.example': a.record, 's2._domainkey.shop.example': b.record}
    assert waiting.daemon.shutdown() == 0
    waiting.daemon.start()
    more = 'dkim-body-canon simple\ndkim-headers-canon simple\ndkim-add-body-limit yes\n' \
           'second-dkim-sign yes\n'
    waiting.signer.reload(domain=more, keys=f'domain-key s2,*,{b.path}')
    content = waiting.deliver()
    assert content.endswith(message)
    assert verdicts(content, records) == [True, True]
    assert waiting.counted() == (2, 2)
    # A new key alone.
    waiting.accept(message)
    waiting.signer.reload(keys=f'domain-key s1,*,{a.path}')
    content = waiting.deliver(2)
    assert content.endswith(message)
    assert verdicts(content, records) == [True, True]
    assert b's=s1;' in signature_of(content)
    assert waiting.counted() == (6, 4)
    # The length, which no signature has said before.
    waiting.signer.reload(domain='')
    waiting.accept(message)
    waiting.signer.reload(domain='dkim-add-body-limit yes\n')
    content = waiting.deliver(3)
    assert content.endswith(message)
    assert verdicts(content, records) == [True]
    assert verdicts(content + b'more', records) == [True]
    assert waiting.counted() == (8, 5)


@pytest.mark.parametrize('restarts', [False, True])
def test_where_the_header_ends(world, restarts):
    """At any place of a chunk or behind it, with a body or without one."""
    old, new = keys_of(world, 'old', 'new')
    waiting = Waiting(world, keys=f'domain-key s1,*,{old.path}', domain=ED)
    messages = [SIMPLE]
    for i, size in enumerate([500, 4000, 16300, *range(64900, 65600, 33), 131000, 200000]):
        fill = b'X-Fill: ' + b'y' * 900 + b'\r\n'
        front = b'From: a@shop.example\r\nX-End: y\r\nX-Number: %d\r\n' % i
        front += fill * ((size - len(front)) // len(fill))
        front += b'X-Rest: ' + b'z' * (size - len(front)) + b'\r\n'
        messages.append(front + [b'', b'\r\n', b'\r\n' + LINE * 5000][i % 3])
        waiting.accept(messages[-1])
    if restarts:
        assert waiting.daemon.shutdown() == 0
        waiting.daemon.start()
    waiting.signer.reload(keys=f'domain-key s2,*,{new.path}',
                          domain=ED + 'dkim-body-canon simple\n')
    waiting.deliver(len(messages))
    contents = [message[2] for message in waiting.receiver.messages]
    records = {'s2._domainkey.shop.example': new.record}
    assert [verdicts(content, records) for content in contents] == [[True]] * len(messages)
    assert all(one_signature(content) for content in contents)
    for message in messages:
        end = message if b'\r\n\r\n' in message else message + b'\r\n'
        assert sum(content.endswith(end) for content in contents) == 1, message[:80]


def test_signed_at_last(world):
    """What was not signed when it came, as its queue did not want it, or had no key."""
    a, = keys_of(world, 'a')
    waiting = Waiting(world, b'From: a@shop.example\r\nno field\r\nbody\r\n',
                      domain=ED + 'dkim-missing-key send\n')
    assert waiting.counted() == (0, 0)
    waiting.signer.reload(keys=f'domain-key s1,*,{a.path}')
    content = waiting.deliver()
    assert one_signature(content)
    assert verdicts(content, {'s1._domainkey.shop.example': a.record}) == [True], content
    assert waiting.counted() == (1, 1)


def test_without_a_field(world):
    """Nothing is there that the new header could stand for."""
    a, = keys_of(world, 'a')
    domain = ED + 'dkim-identity @shop.example\n'
    waiting = Waiting(world, b'no field\r\nbody\r\n', domain=domain + 'dkim-missing-key send\n',
                      source='add-received-header no\nadd-message-id-header no')
    waiting.signer.reload(domain=domain, keys=f'domain-key s1,*,{a.path}')
    content = waiting.deliver()
    assert one_signature(content) and content.endswith(b'\r\n\r\nno field\r\nbody\r\n'), content
    assert verdicts(content, {'s1._domainkey.shop.example': a.record}) == [True], content


def test_without_a_key_it_waits_or_goes(world):
    a, b = keys_of(world, 'a', 'b')
    waiting = Waiting(world, keys=f'domain-key s1,*,{a.path}', domain=ED)
    waiting.signer.reload(keys=f'domain-key s1,else.example,{b.path}',
                          domain=ED + 'dkim-missing-key reject\n')
    waiting.receiver.replies.clear()
    waiting.daemon.cli('schedule', '*/*')
    until(lambda: 'it is put off (dkim-missing-key)' in waiting.daemon.program.log(), 10, 'a line')
    assert 'no DKIM key' in waiting.daemon.cli('explain', 'one.test/v').stdout
    assert waiting.receiver.messages == [] and waiting.daemon.rows()[-1]['type'] == 't'
    waiting.signer.reload(domain=ED + 'dkim-missing-key send\n')
    waiting.daemon.cli('schedule', '*/*')
    content = waiting.signer.content(1)
    assert verdicts(content, {'s1._domainkey.shop.example': a.record}) == [True]
    assert waiting.counted() == (1, 0)


def test_what_the_message_asked_for(world):
    """x-dkim-options counts again; a key that the message brought cannot."""
    a, b, c = keys_of(world, 'a', 'b', 'c')
    lines = f'domain-key a,shop.example,{a.path}\ndomain-key s,shop.example,'
    source = 'process-x-dkim-options yes\nprocess-x-dkim-key yes'
    domain = ED + 'dkim-sign if-x-dkim-options-present\n'
    options = b'x-dkim-options: s=s; i=@news.shop.example; q=dns/txt\r\n'
    waiting = Waiting(world, options + SIMPLE, keys=lines + b.path, source=source, domain=domain)
    pem = open(a.path, 'rb').read().strip().replace(b'\n', b'\r\n ')
    waiting.accept(b'x-dkim-options: s=own; d=shop.example\r\nx-dkim-key: ' + pem + b'\r\n' +
                   SIMPLE)
    waiting.accept()
    waiting.signer.reload(keys=lines + c.path)
    waiting.deliver(3)
    contents = sorted(message[2] for message in waiting.receiver.messages)
    signed = [content for content in contents if b'DKIM-Signature' in content]
    assert len(signed) == 2
    records = {'s._domainkey.shop.example': c.record, 'own._domainkey.shop.example': a.record}
    assert all(verdicts(content, records) == [True] for content in signed), signed
    assert any(b'i=@news.shop.example;' in signature_of(content) for content in signed)
    assert waiting.counted() == (3, 1)


FILES = """{{base}}
{keys}
<domain *>
    type file
    file-destination {folder}/$domain
    max-smtp-out 1
    dkim-sign yes
    dkim-algorithm ed25519-sha256
    retry-after 1h
</domain>
"""


def test_mail_into_files(world):
    """What has no key waits, and what is behind it does not."""
    a, b = keys_of(world, 'a', 'b')
    folder = world.path('mail')
    keys = [f'domain-key s1,{name}.example,{key.path}' for name, key in (('shop', a), ('else', b))]
    daemon = world.daemon(FILES.format(keys='\n'.join(keys), folder=folder)).start()
    for name in (b'shop', b'shop', b'else', b'shop', b'else'):
        message = SIMPLE.replace(b'shop', name)
        assert send_message(daemon.listen, 'a@shop.example', [RCPT], message)[0] == 250
    daemon.wait_for_rows(5, kinds='t')
    daemon.write(FILES.format(keys=keys[1], folder=folder))
    assert daemon.cli('reload').returncode == 0
    os.makedirs(folder + '/one.test')
    daemon.cli('schedule', '*/*')
    daemon.wait_for_rows(2, kinds='d')
    contents = [open(path, 'rb').read() for path in glob.glob(folder + '/one.test/*')]
    records = {'s1._domainkey.else.example': b.record}
    assert [verdicts(content, records) for content in contents] == [[True], [True]]
    assert daemon.counters()['dkim_keys_missing'] == 3
