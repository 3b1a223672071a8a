"""What becomes of mail when the DNS misbehaves: docs/dns.md's table, row by row, with a real
authoritative server (knot) and a real resolver (unbound)."""
import pytest

import dns_servers
from dns_servers import Authority, Mute, Resolver
from harness import final_rows_by_rcpt, send_message, until

TEXT = b'From: a@sender.test\r\nSubject: test\r\n\r\nHello\r\n'
ZONE = 'faults.test'
NO_ANSWER = 'the DNS has no answer about'
NO_NAME = 'does not exist'
NO_HOST = 'has no host with a usable address'

# Domain below faults.test -> what comes of it at the first answer: delivered, returned with this
# status, or waiting with this reason.
DELIVERED = ['ok', 'implicit', 'half', 'half-failing', 'mx-is-alias', 'domain-is-alias',
             'alias-of-plain', 'thousand', 'null-beside-others', 'long-name']
RETURNED = {'null': '5.1.10', 'alias-of-null': '5.1.10'}
NO_ANSWERS = ['servfail', 'silent', 'cut-off', 'loop-one', 'long-loop-3', 'mx-in-loop', 'mx-fails']
BAD = {'gone': (NO_NAME, '5.1.2'), 'alias-of-gone': (NO_NAME, '5.1.2'),
       'nodata': (NO_HOST, '5.4.4'), 'lame': (NO_HOST, '5.4.4'),
       'lame-bare': (NO_HOST, '5.4.4'), 'lame-with-address': (NO_HOST, '5.4.4'),
       'mx-is-address': (NO_HOST, '5.4.4'), 'to-loopback': ('a loopback address', '5.4.4')}


@pytest.fixture(autouse=True)
def need_servers():
    missing = dns_servers.missing('unbound', 'knotd')
    if missing:
        pytest.skip(f'not installed: {missing}')


def records(sink):
    """The zone. Whoever is to be reached is the sink, under its name mx."""
    lines = [f'mx A {sink.address}', 'ok MX 10 mx', f'implicit A {sink.address}',
             'null MX 0 .', f'null A {sink.address}', 'alias-of-null CNAME null',
             'null-beside-others MX 0 .', 'null-beside-others MX 10 mx',
             'half MX 10 nowhere', 'half MX 20 mx',
             'half-failing MX 10 host.servfail', 'half-failing MX 20 mx',
             'mx-is-alias MX 10 alias', 'alias CNAME mx', 'domain-is-alias CNAME ok',
             'alias-of-plain CNAME implicit',
             'alias-of-gone CNAME gone', 'nodata TXT "nothing"', 'bare TXT "nothing"',
             'lame MX 10 nowhere', 'lame-bare MX 10 bare',
             'lame-with-address MX 10 nowhere', f'lame-with-address A {sink.address}',
             'mx-is-address MX 10 192.0.2.1.', 'loop-one CNAME loop-two',
             'loop-two CNAME loop-one', 'mx-in-loop MX 10 loop-one',
             'mx-fails MX 10 host.servfail', 'mx-fails MX 20 host.silent',
             'to-loopback MX 10 here', 'here A 127.0.0.1']
    lines += [f'long-loop-{n} CNAME long-loop-{(n + 1) % 12}' for n in range(12)]
    label = 'l' * 60
    lines += [f'long-name MX 10 {label}.{label}.{label}', f'{label}.{label}.{label} CNAME mx']
    # The best of a thousand stands in the middle. All others refuse connections.
    lines += [f'thousand MX {1 if n == 500 else 10 + n} {"mx" if n == 500 else f"mx{n}"}'
              for n in range(1000)]
    lines += [f'mx{n} A 127.0.0.1' for n in range(1000) if n != 500]
    # Delegated, to servers that the resolver is told of.
    lines += ['servfail NS ns', 'silent NS ns', 'cut-off NS ns']
    return lines


def reasons(daemon):
    return {queue['name'].split('.')[0]: queue['explain']
            for queue in daemon.ask('show', 'queues')['queue'] if queue['retryTime']}


def inject(daemon, names, zone=ZONE):
    for name in names:
        code, text = send_message(daemon.listen, 'a@sender.test', [f'a@{name}.{zone}'], TEXT)
        assert code == 250, text


def config(resolver, more=''):
    return (f'{{base}}name-server {resolver.address}:5353\nallow-loopback-destinations yes\n'
            f'resolver-timeout 5s\n'
            f'<domain *>\n    default-smtp-port 2525\n{more}</domain>\n')


def test_outcome_table(world):
    """First answers: what can be delivered is, a null MX returns, everything else waits. With
    `bounce-upon-no-mx yes` the first bad answer is enough; no answer never is."""
    sink = world.sink()
    authority = Authority(world, ZONE, records(sink))
    silent, cut_off = Mute(world), Mute(world, says_truncated=True)
    # For "servfail" knot is asked about a zone that it does not have.
    other = Authority(world, 'other.test', [], name='other')
    resolver = Resolver(world, stubs={ZONE: authority.at, f'servfail.{ZONE}': other.at,
                                      f'silent.{ZONE}': silent.at, f'cut-off.{ZONE}': cut_off.at},
                        more='    local-zone: "1." static')
    daemon = world.daemon(config(resolver)).start()
    waiting = [*NO_ANSWERS, *(name for name in BAD if name != 'to-loopback')]
    inject(daemon, [*DELIVERED, *RETURNED, *waiting])
    rows = final_rows_by_rcpt(daemon.wait_for_rows(len(DELIVERED) + len(RETURNED), seconds=20))
    until(lambda: len(reasons(daemon)) == len(waiting), 20, lambda: reasons(daemon))
    assert {rcpt.split('@')[1].split('.')[0]:
            (found[0]['type'], found[0]['dsnStatus'].split(' ')[0])
            for rcpt, found in rows.items()} == {
        **{name: ('d', '2.0.0') for name in DELIVERED},
        **{name: ('b', status) for name, status in RETURNED.items()}}
    said = reasons(daemon)
    for name in NO_ANSWERS:
        assert NO_ANSWER in said[name], (name, said[name])
    for name in waiting[len(NO_ANSWERS):]:
        assert BAD[name][0] in said[name], (name, said[name])
    assert silent.questions > 0 and cut_off.questions > 0
    assert daemon.counters()['queued_rcpts'] == len(waiting)
    # Nobody but the sink was called: not the worse hosts of a thousand either.
    assert daemon.counters()['connects'] <= len(DELIVERED) + 4
    assert daemon.counters()['connect_failures'] == 0

    # The operator believes the first answer, and allows loopback no more.
    assert daemon.shutdown() == 0
    daemon.write(config(resolver, '    bounce-upon-no-mx yes\n').replace(
        'allow-loopback-destinations yes\n', ''))
    daemon.start()
    inject(daemon, ['to-loopback'])
    for name in waiting:
        assert daemon.cli('schedule', f'{name}.{ZONE}/v').returncode == 0
    rows = final_rows_by_rcpt(daemon.wait_for_rows(
        len(DELIVERED) + len(RETURNED) + len(BAD), seconds=20))
    for name, (reason, status) in BAD.items():
        row = rows[f'a@{name}.{ZONE}'][0]
        assert row['type'] == 'b' and row['dsnStatus'].startswith(status), row
        assert reason in row['dsnDiag'] and row['dsnDiag'].count(status) == 1, row
    until(lambda: len(reasons(daemon)) == len(NO_ANSWERS), 20, lambda: reasons(daemon))
    assert daemon.counters()['queued_rcpts'] == len(NO_ANSWERS)
    assert daemon.counters()['connects'] == 0
    assert sink.stop()['messages'] == len(DELIVERED)


def test_resolver_dead_and_back(world):
    """A resolver that is gone for a while costs nothing but the while."""
    sink = world.sink()
    authority = Authority(world, ZONE, [f'mx A {sink.address}', '*.d MX 10 mx'])
    resolver = Resolver(world, stubs={ZONE: authority.at})
    daemon = world.daemon(config(resolver, '    retry-after-dns-error 2s\n')).start()
    inject(daemon, ['before.d'])
    daemon.wait_for(20, delivered=1)
    resolver.program.end()
    names = [f'n{number}.d' for number in range(60)]
    inject(daemon, names)
    until(lambda: len(reasons(daemon)) >= 20, 20, 'many to wait')
    assert daemon.counters()['bounced'] == 0
    assert daemon.counters()['delivered'] == 1
    resolver.start()
    daemon.wait_for(60, delivered=1 + len(names), queued_rcpts=0)
    assert daemon.counters()['bounced'] == 0
    assert sink.stop()['messages'] == 1 + len(names)


def test_A30_two_that_point_at_each_other(world):
    """A loop that the DNS does not show, between two daemons, ends by itself: at the limit of
    Received fields, with a refusal that returns the message."""
    first, second = (world.daemon(name=name) for name in ('first', 'second'))
    for daemon, other in ((first, second), (second, first)):
        daemon.write(f'{{base}}<source 127.0.0.0/8>\n    max-message-hops 10\n</source>\n'
                     f'<domain *>\n    smtp-hosts [{other.listen}]:2525\n</domain>\n')
        daemon.start()
    code, _ = send_message(first.listen, 'a@sender.test', ['a@loop.test'], TEXT)
    assert code == 250
    row, = until(lambda: [row for row in first.rows() + second.rows() if row['type'] == 'b'], 20,
                 'the end of the loop')
    assert row['dsnStatus'].startswith('5.4.6'), row
    delivered = first.counters()['delivered'] + second.counters()['delivered']
    assert 8 <= delivered <= 11
    assert first.counters()['queued_rcpts'] + second.counters()['queued_rcpts'] == 0
