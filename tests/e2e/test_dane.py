"""TLSA records (RFC 7672): a zone signed by knot, validated by the daemon, and receivers whose
certificates are what they say, or not."""
import hashlib
import ssl

import pytest

import dns_servers
from dns_servers import Authority, Mute, Resolver
from test_tls_out import Papers, Receiver, last_error, send


@pytest.fixture(autouse=True)
def need_servers():
    missing = dns_servers.missing('unbound', 'knotd', 'keymgr')
    if missing:
        pytest.skip(f'not installed: {missing}')


def certificate(path):
    with open(path, encoding='utf-8') as file:
        text = file.read()
    end = '-----END CERTIFICATE-----'
    return ssl.PEM_cert_to_DER_cert(text[text.index('-----BEGIN CERT'):text.index(end) + len(end)])


def names_it(host, usage, path):
    """A TLSA record: SHA-256 of the whole certificate."""
    digest = hashlib.sha256(certificate(path)).hexdigest()
    return f'_2525._tcp.{host} TLSA {usage} 0 1 {digest}'


def append(path, other):
    """The other certificate goes along with the first."""
    with open(other + '.crt', encoding='utf-8') as file:
        text = file.read()
    with open(path, 'a', encoding='utf-8') as file:
        file.write(text)


def test_outcomes(world):
    """Match, mismatch, unusable, and no answer; usage 2 with the host's name, and with another. Who
    comes by an unsigned zone, or wants no DANE, is not held up by what fails for others."""
    papers = Papers(world)
    own = papers.make('own', '127.9.9.9', days=-1, is_self_signed=True, host='elsewhere.test')
    issued = papers.make('issued', '127.9.9.9', host='ta.test')
    append(issued, papers.authority)
    plain, chained, clear = Receiver(world, own), Receiver(world, issued), Receiver(world,
                                                                                   manner='none')
    hosts = {'ee': plain, 'other': plain, 'useless': plain, 'silent': plain, 'ta': chained,
             'misnamed': chained, 'clear': clear, 'target': plain}
    zone = Authority(world, 'test', [
        *(f'{host} A {receiver.address}' for host, receiver in hosts.items()),
        *(f'{domain} MX 10 {host}' for domain, host in (
            ('match', 'ee'), ('mismatch', 'other'), ('unusable', 'useless'), ('broken', 'silent'),
            ('authority', 'ta'), ('named', 'misnamed'), ('stripped', 'clear'), ('off', 'other'),
            ('aliased', 'alias'), ('second', 'silent'))),
        'second MX 20 ee', 'alias CNAME target',
        names_it('ee', 3, own), names_it('other', 3, issued), names_it('useless', 1, own),
        names_it('ta', 2, papers.authority), names_it('misnamed', 2, papers.authority),
        names_it('clear', 1, own), names_it('target', 3, own), names_it('alias', 3, issued),
        names_it('silent', 3, own),
    ], is_signed=True)
    mute = Mute(world)
    server = Resolver(world, stubs={'test': zone.at, '_tcp.silent.test': mute.at}, more='''
    local-zone: "unsigned." static
    local-data: "unsigned. MX 10 other.test."
''')
    config = (
        f'{{base}}name-server {server.address}:5353\nallow-loopback-destinations yes\n'
        f'dnssec-trust-anchor {zone.anchor()}\nresolver-timeout 5s\n'
        '<domain *>\n    default-smtp-port 2525\n    retry-after 1h\n    max-msg-per-connection 1\n'
        '</domain>\n'
        '<domain off.test>\n    use-dane no\n</domain>\n'
        # One host, and another port, where nobody listens and no record stands.
        '<domain ports.test>\n    smtp-hosts other.test:2526;other.test:2525\n</domain>\n')
    daemon = world.daemon(config).start()
    domains = ['match', 'mismatch', 'unusable', 'broken', 'authority', 'named', 'stripped', 'off',
               'aliased', 'second', 'ports']
    for domain in domains:
        send(daemon, f'x@{domain}.test')
    send(daemon, 'x@unsigned')
    got = plain.wait('x@match.test', 'x@unusable.test', 'x@off.test', 'x@aliased.test',
                     'x@second.test', 'x@unsigned')
    assert all(message[1] for message in got), got
    assert got[0][3] == 'ee.test' and got[3][3] == 'target.test', got
    chained.wait('x@authority.test')
    last_error(daemon, 'mismatch.test', 'no certificate is the one that TLSA records name')
    last_error(daemon, 'ports.test', 'no certificate is the one that TLSA records name')
    last_error(daemon, 'named.test', 'another name')
    last_error(daemon, 'stripped.test', 'does not offer STARTTLS')
    last_error(daemon, 'broken.test', 'TLSA records of broken.test')
    assert mute.questions > 0
    for domain in ('unsigned', 'off.test'):
        send(daemon, f'y@{domain}')
        plain.wait(f'y@{domain}')
    daemon.wait_for(10, delivered=9, queued_rcpts=5)
    assert not [row for row in daemon.rows() if row['type'] == 'b']
    taken = [message[0] for receiver in (plain, chained, clear) for message in receiver.messages]
    assert len(taken) == 9, taken
    # A reload lets mail go that TLSA records have held up.
    daemon.write(config + '<domain mismatch.test>\n    use-dane no\n</domain>\n')
    assert daemon.cli('reload').returncode == 0
    daemon.ask('schedule', 'mismatch.test/v')
    plain.wait('x@mismatch.test')
