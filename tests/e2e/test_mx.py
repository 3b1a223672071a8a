"""The way from a domain to a receiver, through a real DNS server: unbound with zones of ours."""
import signal
import socket

import pytest

import dns_servers
from dns_servers import Resolver
from harness import final_rows_by_rcpt, send_message, until

TEXT = b'From: a@sender.test\r\nSubject: test\r\n\r\nHello\r\n'


@pytest.fixture(autouse=True)
def need_unbound():
    missing = dns_servers.missing('unbound')
    if missing:
        pytest.skip(f'not installed: {missing}')


def resolving(world, server, loopback='yes', more=''):
    return world.daemon(
        f'{{base}}name-server {server.address}:5353\nallow-loopback-destinations {loopback}\n'
        f'resolver-timeout 5s\n'
        f'<domain *>\n    default-smtp-port 2525\n    retry-after 2s\n'
        f'{more}</domain>\n').start()


def inject(daemon, *recipients):
    for rcpt in recipients:
        code, text = send_message(daemon.listen, 'a@sender.test', [rcpt], TEXT)
        assert code == 250, text


def test_second_mx_takes_over(world):
    """The first MX refuses connections, the second one greets with 421, the third one takes."""
    dead = world.address()
    busy = world.sink('--rule', 'connect 421 4.3.2 Not now', name='busy')
    alive = world.sink(name='alive')
    server = Resolver(world, 'd.test. MX 10 first.test.', 'd.test. MX 20 second.test.',
                      'd.test. MX 30 third.test.', f'first.test. A {dead}',
                      f'second.test. A {busy.address}', f'third.test. A {alive.address}')
    daemon = resolving(world, server, more='    smtp-421-means-mx-unavailable yes\n')
    inject(daemon, *[f'{number}@d.test' for number in range(20)])
    daemon.wait_for(30, delivered=20, queued_rcpts=0)
    assert alive.stop()['messages'] == 20
    assert busy.stop()['messages'] == 0
    row = daemon.wait_for_rows(20)[0]
    assert row['dsnMta'] == f'third.test ({alive.address})'


def test_preference_decides(world):
    """While the best MX takes mail, nobody else is called."""
    best = world.sink(name='best')
    other = world.sink(name='other')
    server = Resolver(world, 'd.test. MX 20 other.test.', 'd.test. MX 10 best.test.',
                      f'best.test. A {best.address}', f'other.test. A {other.address}')
    daemon = resolving(world, server)
    inject(daemon, *[f'{number}@d.test' for number in range(20)])
    daemon.wait_for(20, delivered=20)
    assert best.stop()['messages'] == 20
    assert other.stop()['connections'] == 0


def test_no_mx_means_the_address_of_the_domain(world):
    """Implicit MX (RFC 5321 5.1)."""
    sink = world.sink()
    server = Resolver(world, f'plain.test. A {sink.address}')
    daemon = resolving(world, server)
    inject(daemon, 'a@plain.test')
    daemon.wait_for(20, delivered=1)
    assert sink.stop()['messages'] == 1


def test_null_mx_bounces(world):
    """RFC 7505: at once, with 556 and 5.1.10; other domains go on."""
    sink = world.sink()
    server = Resolver(world, 'null.test. MX 0 .', f'null.test. A {sink.address}',
                      'd.test. MX 1 mx.test.', f'mx.test. A {sink.address}')
    daemon = resolving(world, server)
    inject(daemon, 'a@null.test', 'b@d.test')
    rows = final_rows_by_rcpt(daemon.wait_for_rows(2))
    assert rows['a@null.test'][0]['type'] == 'b'
    assert rows['a@null.test'][0]['dsnStatus'].startswith('5.1.10')
    assert '556' in rows['a@null.test'][0]['dsnDiag']
    assert rows['b@d.test'][0]['type'] == 'd'
    assert sink.stop()['messages'] == 1


def test_domain_that_does_not_exist(world):
    """NXDOMAIN with bounce-upon-no-mx: a bounce at once, and never a connection."""
    server = Resolver(world, 'd.test. A 127.0.0.1')
    daemon = resolving(world, server, more='    bounce-upon-no-mx yes\n')
    inject(daemon, 'a@gone.test')
    row, = daemon.wait_for_rows(1)
    assert row['type'] == 'b' and row['dsnStatus'].startswith('5.1.2')
    assert daemon.counters()['connects'] == 0


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(('::1', 0))
        return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason='no IPv6 on the loopback')
def test_what_ipv6_refuses_goes_by_ipv4(world):
    """With IPv6 first: a refusal by policy there is no bounce, the mail goes by IPv4 at once, and
    what follows does not try IPv6 again."""
    strict = world.sink('--rule', 'mail 550 5.7.1 Does not meet our IPv6 sending guidelines',
                        address='[::1]', name='strict')
    open_minded = world.sink(name='open')
    server = Resolver(world, 'd.test. MX 10 both.test.', f'both.test. A {open_minded.address}',
                      'both.test. AAAA ::1')
    daemon = world.daemon(
        f'{{base}}name-server {server.address}:5353\nallow-loopback-destinations yes\n'
        f'<virtual-mta both>\n    smtp-source-host {{daemon.source}} v.relay.test\n'
        f'    smtp-source-host ::1 v.relay.test\n</virtual-mta>\n'
        f'<source 127.0.0.0/8>\n    default-virtual-mta both\n</source>\n'
        f'<domain *>\n    default-smtp-port 2525\n    smtp-ip-preference ipv6\n</domain>\n')
    daemon.start()
    inject(daemon, 'a@d.test')
    daemon.wait_for(20, delivered=1)
    inject(daemon, *[f'{number}@d.test' for number in range(10)])
    daemon.wait_for(20, delivered=11, bounced=0, deferred=0)
    assert open_minded.stop()['messages'] == 11
    sums = strict.stop()
    assert sums['messages'] == 0 and sums['connections'] >= 1
    daemon.wait_for_rows(11)
    assert {row['type'] for row in daemon.rows()} == {'d'}


def test_first_bad_answer_defers(world):
    """NXDOMAIN, or no host with an address, is no fate yet: the queue rests, also over a restart,
    and the next answer, half an hour too early, changes nothing."""
    server = Resolver(world, 'd.test. MX 1 mx.test.', 'mx.test. A 127.0.0.1',
                      'lame.test. MX 1 nowhere.test.')
    daemon = resolving(world, server)
    commits = daemon.counters()['outcome_commits']
    inject(daemon, 'a@gone.test', 'a@lame.test')

    def errors():
        return {queue['name']: queue['explain'] for queue in daemon.ask('show', 'queues')['queue']
                if queue['retryTime']}

    until(lambda: len(errors()) == 2, 20, 'two deferrals')
    assert 'does not exist' in errors()['gone.test/v']
    assert 'no host with a usable address' in errors()['lame.test/v']
    until(lambda: daemon.counters()['outcome_commits'] > commits, 20, 'the rests in the log')
    daemon.kill()
    daemon.start()
    for name in ('gone.test/v', 'lame.test/v'):
        assert daemon.cli('schedule', name).returncode == 0
    until(lambda: len(errors()) == 2, 20, 'two deferrals again')
    assert daemon.counters()['queued_rcpts'] == 2
    assert daemon.rows() == []


def test_dead_dns_server_defers(world):
    """No answer is no fate: the message waits, also over a restart, and goes once the server is back
    and an operator says so. (The restart spares the test the time that failures are remembered.)"""
    sink = world.sink()
    server = Resolver(world, 'd.test. MX 1 mx.test.', f'mx.test. A {sink.address}')
    daemon = resolving(world, server)
    server.program.process.send_signal(signal.SIGSTOP)
    commits = daemon.counters()['outcome_commits']
    inject(daemon, 'a@d.test')
    until(lambda: any(queue['retryTime'] for queue in daemon.ask('show', 'queues')['queue']), 20,
          'a deferral')
    assert daemon.counters()['queued_rcpts'] == 1
    # The rest is logged with the next commit; a kill before that may lose it, which is no loss.
    until(lambda: daemon.counters()['outcome_commits'] > commits, 20, 'the rest in the log')
    server.program.process.send_signal(signal.SIGCONT)
    daemon.kill()
    daemon.start()
    assert daemon.counters()['queued_rcpts'] == 1
    assert daemon.cli('schedule', 'd.test/v').returncode == 0
    daemon.wait_for(20, delivered=1, queued_rcpts=0)


def test_A27_receivers_that_dns_may_not_name(world):
    """Loopback, unspecified and multicast addresses out of DNS are never called, however they are
    written; what an operator names may be called."""
    sink = world.sink()
    records = {'loop4': f'A {sink.address}', 'loop6': 'AAAA ::1', 'any4': 'A 0.0.0.0',
               'any6': 'AAAA ::', 'mapped': f'AAAA ::ffff:{sink.address}', 'multi': 'A 224.0.0.1',
               'broad': 'A 255.255.255.255', 'alias': f'CNAME mx.loop4.test.'}
    server = Resolver(world, *[f'{name}.test. MX 1 mx.{name}.test.' for name in records],
                      *[f'mx.{name}.test. {record}' for name, record in records.items()],
                      f'direct.test. A {sink.address}')
    daemon = world.daemon(
        f'{{base}}name-server {server.address}:5353\n'
        f'<domain *>\n    default-smtp-port 2525\n    bounce-upon-no-mx yes\n</domain>\n'
        f'<domain named.test>\n    smtp-hosts [{sink.address}]:2525\n</domain>\n').start()
    names = [*records, 'direct']
    inject(daemon, *[f'a@{name}.test' for name in names])
    rows = final_rows_by_rcpt(daemon.wait_for_rows(len(names)))
    assert {rcpt: found[0]['type'] for rcpt, found in rows.items()} == {
        f'a@{name}.test': 'b' for name in names}
    assert {found[0]['dsnStatus'][:5] for found in rows.values()} == {'5.4.4'}
    assert daemon.counters()['connects'] == 0
    inject(daemon, 'a@named.test')
    daemon.wait_for(15, delivered=1)
    assert sink.stop()['messages'] == 1
