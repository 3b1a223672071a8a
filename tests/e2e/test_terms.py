"""What a message's header says of when and how it is to be tried: it holds over restarts, and what
is not well said is refused with a reason.
"""
import time

from harness import Smtp, send_message, until
from test_peers import Receiver

CONFIG = '''{{base}}
<virtual-mta w>
    smtp-source-host {{daemon.source}} w.relay.test
</virtual-mta>
<source 127.0.0.0/8>
    process-x-schedule yes
    allow-message-settings {keys}
    process-x-virtual-mta yes
    allow-virtual-mta v,w
</source>
<domain *>
    smtp-hosts [{receiver}]:2525
    retry-after 30s
</domain>
<domain dead.test>
    smtp-hosts [{dead}]:2525
    retry-after 1s
    bounce-after 4d
</domain>
'''
BODY = b'Subject: s\r\n\r\nHello\r\n'


def start(world, keys='expiry,retry,virtual-mta'):
    receiver = Receiver(world)
    daemon = world.daemon(CONFIG.format(receiver=receiver.address, dead=world.address(),
                                        keys=keys)).start()
    return daemon, receiver


def send(daemon, header, rcpt='b@one.test'):
    return send_message(daemon.listen, 'a@sender.test', [rcpt], header.encode() + BODY)


def test_a_schedule_holds_over_restarts(world):
    """Not tried before its time, whatever happens to the daemon; other mail of the queue is not
    held; what comes at the wrong time for its second try waits for the next span."""
    daemon, receiver = start(world)
    began = int(time.time())
    first = began + 12  # beyond the first restart, however slow the machine
    span = f'{first}/{first + 3600}'
    # The rows of the header section count, the first of them, and none of them leaves.
    assert send(daemon, f'X-Schedule: {span}\r\nx-schedule: {began}/{began + 60}\r\n')[0] == 250
    assert send(daemon, f'x-schedule: {began - 60}/{began - 30},\r\n {span}\r\n',
                'c@one.test')[0] == 250
    assert send(daemon, '', 'now@one.test')[0] == 250
    daemon.wait_for(10, delivered=1, queued_rcpts=2)
    due = [time.strftime('%Y-%m-%dT%H:%M:%S+00:00', time.gmtime(first))] * 2
    assert [row['retryTime'] for row in daemon.ask('list', '--queue=*/*')['rcpt']] == due
    daemon.wait_for_rows(1)
    daemon.kill()
    daemon.start()
    assert [row['retryTime'] for row in daemon.ask('list', '--queue=*/*')['rcpt']] == due
    # An operator who wants everything tried now does not get round what the sender has said.
    daemon.ask('schedule', '*/*')
    daemon.wait_for(20, delivered=2)
    assert time.time() >= first
    for message in receiver.wait(3):
        assert b'chedule' not in message[2].split(b'\r\n\r\n')[0]
    assert {row['type'] for row in daemon.wait_for_rows(3)} == {'d'}


def test_what_expires_is_never_sent(world):
    """A life of its own is over long before the queue's bounce-after, also behind a dead host."""
    daemon, _ = start(world)
    assert send(daemon, 'x-ringpost-set: expiry=1s\r\n', 'b@dead.test')[0] == 250
    assert send(daemon, '', 'c@dead.test')[0] == 250
    row = daemon.wait_for_rows(1, 20)[0]
    assert (row['rcpt'], row['type'], row['dsnStatus'].split(' ')[0]) == \
        ('b@dead.test', 'b', '4.4.7')
    assert row['bounceCat'] == 'message-expired'
    assert daemon.counters()['queued_rcpts'] == 1
    # One that sleeps over its end is not sent after it either.
    soon = int(time.time()) + 4
    assert send(daemon, f'x-schedule: {soon}/{soon + 1}\r\n')[0] == 250
    daemon.kill()
    time.sleep(max(0, soon + 1.1 - time.time()))
    daemon.start()
    rows = until(lambda: [row for row in daemon.rows() if row['rcpt'] == 'b@one.test'], 20, 'its end')
    assert (rows[0]['type'], rows[0]['bounceCat']) == ('b', 'message-expired')


def test_settings_are_bounded_by_the_source(world):
    """First of each counts, all fields are looked at, none leaves, and a mistake is told."""
    daemon, receiver = start(world)
    assert send(daemon, 'X-Ringpost-Set: virtual-mta=w; retry=1h\r\nx-ringpost-set: source=v\r\n'
                        'x-ringpost-set:\r\n expiry=1d\r\n')[0] == 250
    assert daemon.wait_for_rows(1)[0]['vmta'] == 'w'
    assert b'ingpost-set' not in receiver.wait(1)[0][2].lower()
    # x-virtual-mta says more of the way than a setting.
    assert send(daemon, 'x-ringpost-set: source=w\r\nx-virtual-mta: v\r\n')[0] == 250
    assert daemon.wait_for_rows(2)[1]['vmta'] == 'v'
    for header, wanted in [('x-ringpost-set: source=x', '550 5.7.1'),
                           ('x-ringpost-set: source={default}', '550 5.7.1'),
                           ('x-ringpost-set: tls=required', '554 5.6.0'),
                           ('x-ringpost-set: priority=9', '554 5.6.0'),
                           ('x-ringpost-set: expiry=1d; priority=9', '554 5.6.0'),
                           ('x-ringpost-set: expiry', '554 5.6.0'),
                           ('x-ringpost-set: expiry=soon', '554 5.6.0'),
                           ('x-ringpost-set:' + '\r\n expiry=1d;' * 300, '554 5.6.0'),
                           ('x-schedule: tomorrow', '554 5.6.0'),
                           ('x-schedule: 5/6', '554 5.6.0')]:
        code, text = send(daemon, header + '\r\n')
        assert f'{code} {text}'.startswith(wanted), (header, code, text)
    # Behind the header they are text.
    assert send(daemon, 'A: b\r\n\r\nx-ringpost-set: nonsense\r\n')[0] == 250
    daemon.wait_for(10, delivered=3)
    # A source that lists less allows less.
    daemon.write(CONFIG.format(receiver=receiver.address, dead=receiver.address, keys='retry'))
    daemon.cli('reload')
    assert send(daemon, 'x-ringpost-set: expiry=1d\r\n')[0] == 554
    assert send(daemon, 'x-ringpost-set: retry=5m\r\n')[0] == 250


PRIORITIES = '''{{base}}
<virtual-mta w>
    smtp-source-host {{daemon.source}} w.relay.test
</virtual-mta>
<pattern-list ranks>
    mail-from /^low@/ recipient-priority=5
    rcpt-to /^high-/ virtual-mta=v,recipient-priority=95
    mail-from /@sender/ virtual-mta=v
</pattern-list>
<source 127.0.0.0/8>
    pattern-list ranks
    allow-message-settings {keys}
</source>
<domain *>
    smtp-hosts [{receiver}]:2525
    max-msg-rate 10/s
    max-smtp-out 1
</domain>
'''


def test_priorities_have_turns_in_their_queue(world):
    """By header or by list, kept over a restart, shown, and with weight: of two ranks that are two
    steps apart sixteen of seventeen are the higher one's, and the lower one has some."""
    receiver = Receiver(world)
    daemon = world.daemon(PRIORITIES.format(receiver=receiver.address, keys='priority')).start()
    daemon.ask('pause', 'queue', 'one.test/v')
    for number in range(40):
        for name in 'high', 'normal':
            assert send_message(daemon.listen, 'a@sender.test', [f'{name}-{number}@one.test'],
                                BODY)[0] == 250
    assert send_message(daemon.listen, 'low@sender.test', ['low-a@one.test', 'low-b@one.test'],
                        BODY)[0] == 250
    assert send_message(daemon.listen, 'low@sender.test', ['own@one.test'],
                        b'x-ringpost-set: priority=100\r\n' + BODY)[0] == 250
    assert send_message(daemon.listen, 'a@sender.test', ['bad@one.test'],
                        b'x-ringpost-set: priority=101\r\n' + BODY)[0] == 554
    # What a list ranks differently comes in transactions of its own.
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    client.envelope('a@sender.test', ['normal-x@one.test'])
    assert client.command('RCPT TO:<high-x@one.test>')[0] == 452

    def priorities():
        rows = daemon.ask('list', '--queue=*/*')['rcpt']
        return {row['rcpt'].split('@')[0]: row['priority'] for row in rows}

    expected = {f'{name}-{number}': priority for number in range(40)
                for name, priority in (('high', 95), ('normal', 50))}
    expected |= {'low-a': 5, 'low-b': 5, 'own': 100}
    assert priorities() == expected
    daemon.kill()
    daemon.start()
    assert priorities() == expected
    daemon.ask('resume', 'queue', 'one.test/v')
    first = [row['rcpt'] for row in daemon.wait_for_rows(83, 40)[:34]]
    assert 30 <= sum(rcpt.startswith(('high', 'own')) for rcpt in first) <= 33, first
    assert any(rcpt.startswith('normal') for rcpt in first), first
