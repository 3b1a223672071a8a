"""The bounce breaker as its operator has it: what it holds, and the verbs, also after a restart."""
import pytest

from harness import Smtp, until

TEXT = b'From: a@sender.test\r\nSubject: test\r\n\r\nHello\r\n'
REFUSAL = '550 5.1.1 no such user here'
COUNT = 200


def storm(world):
    """A receiver that refuses everybody: the rest of COUNT is held and waits for an hour. Bounces
    have no sender, so the only breaker is the receiver's."""
    sink = world.sink('--rule', f'rcpt {REFUSAL}')
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n'
                          '    retry-after 1h\n</domain>\n').start()
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    for number in range(COUNT):
        client.envelope('', [f'{number}@d.test'])
        assert client.data(TEXT)[0] == 250
    client.close()
    counters = until(lambda: settled(daemon), 20, 'the end of the storm')
    assert counters['bounced'] >= 100
    return daemon, sink


def settled(daemon):
    counters = daemon.counters()
    done = counters['bounced'] + counters['deferred']
    return counters if done == COUNT and counters['deferred'] > 0 else None


def key_of(daemon):
    orders = [order for order in daemon.ask('show', 'orders')['order'] if order['kind'] == 'hold']
    assert len(orders) == 1 and orders[0]['reason'] == REFUSAL
    return orders[0]['who']


def restart(daemon, how):
    if how == 'kill':
        daemon.kill()
    elif how == 'shutdown':
        assert daemon.shutdown() == 0
    if how != 'at once':
        daemon.start()


@pytest.mark.parametrize('how', ['at once', 'kill', 'shutdown'])
def test_release(world, how):
    """What waits is tried now, also what nobody has looked up the hosts of since a restart."""
    daemon, sink = storm(world)
    held = daemon.counters()['deferred']
    sink.stop()
    world.sink(address=sink.address, name='cured')
    restart(daemon, how)
    done = daemon.cli('breaker', 'release', key_of(daemon))
    assert done.returncode == 0 and done.stdout == 'breakers closed: 1\n'
    daemon.wait_for(20, delivered=held, queued_rcpts=0)
    assert not [order for order in daemon.ask('show', 'orders')['order'] if order['kind'] == 'hold']


def test_bounce(world):
    """What waits is returned with the verdict that it gets now, and so is what comes within a day."""
    daemon, _ = storm(world)
    done = daemon.cli('breaker', 'bounce', key_of(daemon))
    assert done.returncode == 0 and done.stdout == 'breakers off for a day: 1\n'
    daemon.wait_for(20, bounced=COUNT, queued_rcpts=0)
    rows = daemon.wait_for_rows(COUNT)
    assert {(row['type'], row['bounceCat']) for row in rows} == {('b', 'bad-mailbox')}


def test_reclassify(world):
    """Refusals of that code and status are transient, after a restart too; others are believed."""
    daemon, sink = storm(world)
    done = daemon.cli('breaker', 'reclassify', key_of(daemon))
    assert done.returncode == 0
    restart(daemon, 'kill')
    orders = [order for order in daemon.ask('show', 'orders')['order'] if order['kind'] == 'transient']
    assert len(orders) == 1
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    client.envelope('', ['late@d.test'])
    assert client.data(TEXT)[0] == 250
    daemon.wait_for(20, deferred=1)
    sink.stop()
    world.sink('--rule', 'rcpt 550 5.7.1 not you', address=sink.address, name='other')
    client.envelope('', ['later@d.test'])
    assert client.data(TEXT)[0] == 250
    client.close()
    daemon.wait_for(20, bounced=1)
