"""A restart changes nothing: not when things are due, not how often they were tried, not what waits."""
import datetime
import time

import pytest

from harness import Smtp, final_rows_by_rcpt, until

TEXT = b'From: a@sender.test\r\nSubject: test\r\n\r\nHello\r\n'
RETRY_S = 30
JITTER = 0.1


def deferring(world):
    """A daemon, and a sink that puts off everything for busy.test once."""
    sink = world.sink('--rule', 'rcpt to=*@busy.test first=20 451 4.2.1 mailbox busy')
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n'
                          f'    retry-after {RETRY_S}s\n</domain>\n').start()
    return daemon, sink


def send(daemon, *recipients):
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    for rcpt in recipients:
        client.envelope('a@sender.test', [rcpt])
        assert client.data(TEXT)[0] == 250
    client.close()


def listed(daemon, *fields):
    """Everything that waits, without the order, which is nobody's promise."""
    return sorted(tuple(row[field] for field in fields)
                  for row in daemon.ask('list', '--queue=*/*', '--maxitems=1000')['rcpt'])


def listing(daemon):
    return listed(daemon, 'queue', 'id', 'timeQueued', 'attempts', 'retryTime')


def restart(daemon, how):
    if how == 'kill':
        daemon.kill()
    else:
        assert daemon.shutdown() == 0
    daemon.start()


def test_retries_are_not_released_early(world):
    """Deferred for 30 s; killed, started, shut down and started: nothing is tried before it is due,
    and then everything is."""
    daemon, sink = deferring(world)
    send(daemon, *[f'{number}@busy.test' for number in range(20)])
    daemon.wait_for(10, deferred=20)
    daemon.wait_for_rows(20, kinds='t')
    before = listing(daemon)
    assert len(before) == 20 and {row[3] for row in before} == {1}
    for how in 'kill', 'kill', 'shutdown':
        restart(daemon, how)
        assert listing(daemon) == before, how
    assert daemon.counters()['connects'] == 0
    # New mail for the queue is no reason to try the old one.
    send(daemon, 'new@busy.test')
    daemon.wait_for(10, delivered=1, queued_rcpts=20)
    # Its row says that the outcome is durable; before that a kill may repeat the delivery.
    daemon.wait_for_rows(1, kinds='d')
    restart(daemon, 'kill')
    assert listing(daemon) == before
    due = min(datetime.datetime.fromisoformat(row[4]).timestamp() for row in before)

    def are_all_delivered():
        delivered = daemon.counters()['delivered']
        assert delivered == 0 or time.time() > due - 1, f'{delivered} before {due}'
        return delivered == 20

    until(are_all_delivered, RETRY_S * (1 + JITTER), 'the retries')
    daemon.wait_for_rows(21)
    rows = daemon.rows()
    assert len([row for row in rows if row['type'] == 't']) == 20
    assert {rcpt: [row['type'] for row in found]
            for rcpt, found in final_rows_by_rcpt(rows).items()} == {
        **{f'{number}@busy.test': ['d'] for number in range(20)}, 'new@busy.test': ['d']}
    assert sink.stop()['messages'] == 21


@pytest.mark.parametrize('how', ['kill', 'shutdown'])
def test_the_queue_is_the_same_afterwards(world, how):
    """Names, counts, ids, attempts and times; twice in a row, because recovery changes
    nothing either."""
    address = world.address()
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{address}]:2525\n'
                          '    retry-after 1h\n</domain>\n').start()
    send(daemon, *[f'{number}@d{number % 7}.test' for number in range(60)])
    until(lambda: daemon.counters()['placed_rcpts'] == 60, 10, 'sixty in queues')
    until(lambda: all(row['retryTime'] for row in daemon.ask('show', 'queues')['queue']), 10,
          'every queue at rest')
    daemon.make_durable()
    before, queues = listing(daemon), daemon.ask('show', 'queues')['queue']
    assert len(before) == 60
    for _ in range(2):
        restart(daemon, how)
        assert listing(daemon) == before
        after = daemon.ask('show', 'queues')['queue']
        for key in 'name', 'rcp', 'kb', 'paused', 'retryTime':
            assert [row[key] for row in after] == [row[key] for row in queues], key
    assert daemon.counters()['connects'] == 0
    world.sink(address=address)
    daemon.ask('schedule', '*/*')
    daemon.wait_for(15, delivered=60, queued_rcpts=0)


def test_addresses_are_listed_after_a_restart(world):
    daemon, _ = deferring(world)
    send(daemon, 'a@busy.test', 'b@busy.test')
    daemon.wait_for(10, deferred=2)
    before = listed(daemon, 'rcpt', 'orig')
    assert before == [('a@busy.test', 'a@sender.test'), ('b@busy.test', 'a@sender.test')]
    restart(daemon, 'kill')
    assert listed(daemon, 'rcpt', 'orig') == before


def test_expiry_counts_from_the_first_acceptance(world):
    """bounce-after goes on while the daemon is away: expired mail is tried once more at most, and
    bounces with 4.4.7."""
    address = world.address()
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{address}]:2525\n'
                          '    retry-after 2s\n    bounce-after 5s\n</domain>\n').start()
    send(daemon, 'old@d.test')
    accepted = time.monotonic()
    daemon.kill()
    assert daemon.rows() == []
    time.sleep(max(0, accepted + 6 - time.monotonic()))
    daemon.start()
    row, = daemon.wait_for_rows(1)
    assert row['type'] == 'b' and '4.4.7' in row['dsnStatus'], row
    assert daemon.counters()['queued_rcpts'] == 0 and daemon.counters()['connects'] <= 1


@pytest.mark.parametrize('allowed, queued', [('yes', 1), ('no', 0)])
def test_a_shutdown_and_a_message_on_its_way(world, allowed, queued):
    """At the end of the grace it is broken off, to be sent again, or may end."""
    # It goes on beyond the grace, however slow the machine.
    sink = world.sink('--rule', f'dot delay={ {"yes": 600000, "no": 5000}[allowed] }')
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n'
                          f'    allow-cancel-during-transfer {allowed}\n    log-commands yes\n'
                          '</domain>\n').start()
    send(daemon, 'a@d.test')
    until(lambda: ' < 354 ' in daemon.program.log(), 20, 'the message to be on its way')
    assert daemon.cli('shutdown', '--grace=1s').returncode == 0
    assert daemon.program.process.wait(100) == 0
    assert f'{queued} deliveries under way are cut off' in daemon.program.last_words()
    daemon.start()
    assert f'{queued} messages and {queued} recipients queued' in daemon.program.last_words()
