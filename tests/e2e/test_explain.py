"""`ringpost explain`: what holds a queue back, told while it does, with the receiver's share in it."""
from harness import send_message, until
from test_peers import Receiver

TEXT = b'From: a@sender.test\r\nSubject: why\r\n\r\nHello\r\n'


def fill(daemon, domain, count):
    rcpts = [f'{number}@{domain}' for number in range(count)]
    assert send_message(daemon.listen, 'a@sender.test', rcpts, TEXT)[0] == 250


def until_answer(daemon, queue, holds, what):
    """The first answer of which that holds: the next one may be another."""
    def answer():
        told = daemon.ask('explain', queue)
        return told if holds(told) else None

    return until(answer, 20, what)


def until_reason(daemon, queue, words):
    return until_answer(daemon, queue, lambda told: words in told['reason'], words)


def shares(answer):
    return {row['reason']: row['pct'] for row in answer['share']}


def test_a_limit_of_ours(world):
    """One connection to a receiver that takes its time and everything: that limit can be raised."""
    sink = world.sink('--rule', 'dot delay=200')
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n'
                          '    max-smtp-out 1\n    max-rcpt-per-transaction 1\n'
                          '    pipeline-across-messages no\n</domain>\n').start()
    fill(daemon, 'slow.test', 300)
    answer = until_answer(daemon, 'slow.test/v', lambda told: told['sending'] == 1 and
                          'its limit of connections' in told['reason'], 'the limit')
    assert answer['detail'] == 'max-smtp-out allows 1, and 1 are in use'
    assert answer['ready'] > 50 and answer['conn'] == 1
    answer = until_answer(daemon, 'slow.test/v', lambda told: shares(told).get(
        'its limit of connections is reached', 0) > 50, 'half of the time')
    assert answer['raise'] == 'max-smtp-out of the queue'
    assert 99 < sum(shares(answer).values()) < 101
    text = daemon.cli('explain', 'slow.test/v').stdout
    assert 'slow.test/v: ' in text and 'max-smtp-out of the queue can be raised' in text, text


def test_a_limit_that_is_shared(world):
    """What one queue holds and another waits for is named, with who has it."""
    # Long enough to be seen waiting by who asks now and then.
    slow, quick = world.sink('--rule', 'dot delay=3000'), world.sink()
    daemon = world.daemon(f'{{base}}<limit one>\n    max-smtp-out 1\n</limit>\n'
                          f'<domain slow.test>\n    smtp-hosts [{slow.address}]:2525\n'
                          '    max-rcpt-per-transaction 1\n    pipeline-across-messages no\n'
                          f'</domain>\n<domain quick.test>\n    smtp-hosts [{quick.address}]:2525\n'
                          '</domain>\n').start()
    fill(daemon, 'slow.test', 100)
    until(lambda: daemon.ask('explain', 'slow.test/v')['conn'] == 1, 10, 'the connection')
    fill(daemon, 'quick.test', 1)
    answer = until_reason(daemon, 'quick.test/v', 'a limit of connections that it shares')
    assert 'it waits for <limit one>, 1, of which its shard uses ' in answer['detail'], answer
    until(lambda: daemon.ask('explain', 'quick.test/v')['reason'] == 'nothing is waiting', 10,
          'its turn')


def test_a_limit_of_a_job(world):
    """A job has a connection of its own; its queue is said to wait for that, and other mail goes."""
    sink = world.sink('--rule', 'dot delay=1000')
    daemon = world.daemon(f'{{base}}<source 127.0.0.1>\n    process-x-job yes\n</source>\n'
                          '<limit one>\n    scope job\n    job bulk*\n    max-smtp-out 1\n'
                          f'</limit>\n<domain *>\n    smtp-hosts [{sink.address}]:2525\n'
                          '    max-rcpt-per-transaction 1\n    pipeline-across-messages no\n'
                          '</domain>\n').start()
    rcpts = [f'{number}@slow.test' for number in range(40)]
    assert send_message(daemon.listen, 'a@sender.test', rcpts, b'X-Job: bulk7\r\n' + TEXT)[0] == 250
    # Between two messages nothing stands in line for a moment.
    until_answer(daemon, 'slow.test/v', lambda told: told['conn'] == 1 and
                 'a limit of connections that it shares' in told['reason'] and
                 'it waits for <limit one>, 1, of which its shard uses 1' in told['detail'],
                 'the limit')
    fill(daemon, 'slow.test', 30)
    detail = until_answer(daemon, 'slow.test/v',
                          lambda told: told['conn'] > 1 and ' of its recip' in told['detail'],
                          'connections of other mail')['detail']
    assert ' of its recipients wait for <limit one>, 1, of which its shard uses 1' in detail, detail
    assert 'most of them slow.test/v with 1' in detail, detail
    until(lambda: daemon.ask('explain', 'slow.test/v')['ready'] < 35, 10, 'other mail is gone')


def test_a_rate(world):
    sink = world.sink()
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n'
                          '    max-msg-rate 2/min\n</domain>\n').start()
    fill(daemon, 'rate.test', 20)
    answer = until_reason(daemon, 'rate.test/v', 'its message rate is reached')
    assert answer['detail'] == 'max-msg-rate allows 2 in 60 s'
    assert answer['again'] is not None
    until_answer(daemon, 'rate.test/v', lambda told: told['raise'] == 'max-msg-rate', 'the advice')


def test_a_rate_of_backoff_mode(world):
    """The directive is named that counts in the mode; and nobody is told to raise it meanwhile."""
    sink = world.sink()
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n'
                          '    max-msg-rate 1000/s\n    backoff-max-msg-rate 2/min\n'
                          '</domain>\n').start()
    assert daemon.ask('set', 'queue', 'rate.test/v', '--mode=backoff')['affected'] == 1
    fill(daemon, 'rate.test', 20)
    answer = until_reason(daemon, 'rate.test/v', 'its message rate is reached')
    assert answer['detail'] == 'backoff-max-msg-rate allows 2 in 60 s'
    answer = until_answer(daemon, 'rate.test/v', lambda told: shares(told).get(
        'its message rate is reached', 0) > 50, 'half of the time')
    assert answer['raise'] is None


def test_a_receiver_that_is_away_and_an_operator(world):
    """What is not ours is never said to be a limit that can be raised."""
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{world.address()}]:2525\n'
                          '    retry-after 1h\n</domain>\n').start()
    fill(daemon, 'away.test', 3)
    answer = until_reason(daemon, 'away.test/v', 'resting')
    assert answer['ready'] == 3 and answer['again'] is not None and answer['lastError'] != ''
    assert answer['raise'] is None
    # What stands behind the rest is tried by the verb, and told.
    assert daemon.ask('schedule', 'away.test/v')['affected'] == 3
    until_reason(daemon, 'away.test/v', 'resting')
    daemon.ask('pause', 'queue', 'away.test/v')
    assert 'paused' in until_reason(daemon, 'away.test/v', 'paused')['reason']
    assert daemon.ask('explain', 'other.test')['reason'] == 'nothing is waiting'
    assert daemon.ask('explain', 'other.test/v')['detail'] == ''
    # A domain alone is asked for when its mail waits by a virtual MTA.
    assert '`show queues away.test`' in daemon.ask('explain', 'away.test')['detail']
    assert daemon.ask('explain', 'away.test/w')['detail'] == 'there is no virtual MTA "w"'


def test_connections_that_are_busy(world):
    """A queue whose recipients are all being sent stands in no line; its connections are told."""
    sink = world.sink('--rule', 'dot delay=1500')
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n'
                          '    max-rcpt-per-transaction 1\n    max-smtp-out 50\n'
                          '</domain>\n').start()
    fill(daemon, 'slow.test', 60)
    busy = []

    def is_done():
        told = daemon.ask('explain', 'slow.test/v')
        if told['conn'] > 0 and told['reason'] == 'all connections are busy':
            busy.append(told['detail'])
        return daemon.counters()['delivered'] == 60

    until(is_done, 60, 'deliveries')
    assert busy and not [detail for detail in busy if detail.startswith('0 ')], busy


def test_what_a_breaker_holds(world):
    """Refusals that are held are told of the queue that has them, not of another in need of an
    attempt."""
    deaf, busy = world.sink('--rule', 'rcpt 550 5.1.1 Nobody'), world.sink(
        '--rule', 'rcpt 451 4.2.1 Not now', name='busy')
    daemon = world.daemon(f'{{base}}<domain deaf.test>\n    smtp-hosts [{deaf.address}]:2525\n'
                          f'</domain>\n<domain busy.test>\n    smtp-hosts [{busy.address}]:2525\n'
                          '</domain>\n').start()
    fill(daemon, 'deaf.test', 300)
    until_reason(daemon, 'deaf.test/v', 'refusals for good are held')
    fill(daemon, 'busy.test', 3)
    answer = until_answer(daemon, 'busy.test/v', lambda told: told['waiting'] == 3, 'refusals')
    assert answer['reason'] == 'recipients wait for their next attempt', answer
    assert 'Nobody' in daemon.ask('explain', 'deaf.test/v')['detail']


def test_what_happened_to_a_queue(world):
    """Errors and changes of its mode, the last three; equal ones in a row are one with a count."""
    nobody = world.address()
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{nobody}]:2525\n'
                          '    retry-after 1s\n    max-events-recorded 3\n</domain>\n').start()
    fill(daemon, 'away.test', 1)
    [event] = until(lambda: [event for event in daemon.ask('explain', 'away.test/v')['event']
                             if event['times'] >= 2], 10, 'two errors that are equal')
    assert event['type'] == 'error' and 'refused' in event['text']
    # Or further errors come in between.
    daemon.ask('pause', 'queue', 'away.test/v')
    for mode in 'backoff', 'normal', 'backoff':
        assert daemon.ask('set', 'queue', 'away.test/v', f'--mode={mode}')['affected'] == 1
    events = daemon.ask('explain', 'away.test/v')['event']
    assert len(events) == 3
    changes = [event['text'] for event in events if event['type'] == 'mode']
    assert changes[-1].startswith('backoff: ') and 'normal' in changes
    assert ' mode, 1 times: backoff: ' in daemon.cli('explain', 'away.test/v').stdout


def test_what_happened_to_recipients(world):
    """track-recipient-events: each kind, the last fifty of them, apart from the queue's own events."""
    receiver = Receiver(world, {'late@d.test': '450 4.2.1 busy', 'never@d.test': '550 5.1.1 no'})
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{receiver.address}]:2525\n'
                          '    retry-after 1h\n    max-events-recorded 0\n'
                          '    track-recipient-events yes\n</domain>\n').start()
    for rcpt in 'late@d.test', 'never@d.test', *(f'{i}@d.test' for i in range(49)):
        assert send_message(daemon.listen, 'a@s.test', [rcpt], TEXT)[0] == 250
        if rcpt == 'never@d.test':
            daemon.wait_for(20, bounced=1, deferred=1)
    daemon.wait_for(20, delivered=49)
    answer = daemon.ask('explain', 'd.test/v')
    assert answer['event'] == []
    events = answer['rcptEvent']
    assert len(events) == 50
    assert [event['type'] for event in events if event['text'].startswith('never@d.test: 550')] + \
        [event['type'] for event in events if event['text'].startswith('late@d.test: 450')] == \
        [{'never': 'bounced', 'late': 'deferred'}[events[0]['text'].split('@')[0]]]
    assert {event['type'] for event in events[1:]} == {'delivered'}
    assert 'delivered, 1 times: 7@d.test: 250' in daemon.cli('explain', 'd.test/v').stdout
