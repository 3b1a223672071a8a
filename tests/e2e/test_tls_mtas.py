"""TLS with whole MTAs that others wrote: Exim (GnuTLS) both ways, OpenSMTPD (OpenSSL, libtls) as a
client, and as the receiver that offers STARTTLS and cannot do it.
"""
import re
import socket

import pytest

from foreign import Exim, OpenSmtpd, lacks
from harness import accounting_rows, send_message, until
from test_peers import Receiver, without_received
from test_tls_out import Papers, last_error

VERSIONS = {'old.test': 'TLSv1.2', 'new.test': 'TLSv1.3'}
OTHERS = {'old.test': ('1.1', '1.3'), 'new.test': ('1.1', '1.2')}
TEXT = b'From: a@sender.test\r\nSubject: to %s\r\n\r\n.dot\r\nline %d\r\n'
COUNT = 5


@pytest.fixture(params=[Exim, OpenSmtpd], ids=lambda kind: kind.name)
def kind(request):
    why = lacks(request.param.name)
    if why:
        pytest.skip(why)
    return request.param


def only(domain, prefix):
    """Settings that leave no version but the domain's."""
    return ''.join(f'    {prefix}tls-allow-tlsv{other} no\n' for other in OTHERS[domain])


def start(kind, world, papers, routes=None):
    address = world.address()
    # OpenSMTPD's process for keys does not get along with elliptic curves of OpenSSL 3.
    papers.make('mx', address, is_rsa=True)
    mta = kind(world, address, world.path('mx.pem'), papers.authority + '.crt', routes or {})
    until(lambda: is_listening(mta), 20, f'{kind.name} to listen')
    return mta


def is_listening(mta):
    assert mta.running.is_alive(), mta.running.last_words()
    with socket.socket() as probe:
        return probe.connect_ex((mta.inside, 2525)) == 0


def test_exim_takes_mail(world):
    """Verified TLS 1.2 and 1.3 into its mailbox, the body octet by octet; what we say of a
    connection is what it says of it."""
    papers = Papers(world)
    mta = start(Exim, world, papers)
    path = world.path('tls.csv')
    daemon = world.daemon(
        '{base}' + f'<acct-file {path}>\n    records d\n    record-fields d rcpt,dlvTlsProtocol\n'
        '</acct-file>\n' + ''.join(
            f'<domain {domain}>\n    smtp-hosts [{mta.address}]:2525\n    require-starttls yes\n'
            f'    smtp-tls-ca-file {papers.authority}.crt\n{only(domain, "smtp-")}</domain>\n'
            for domain in VERSIONS)).start()
    for number in range(COUNT):
        for domain in VERSIONS:
            code, text = send_message(daemon.listen, 'a@sender.test', [f'x@{domain}'],
                                      TEXT % (domain.encode(), number))
            assert code == 250, text
    found = set()
    for content in mta.mail(COUNT * 2):
        text = content.replace(b'\r\n', b'\n').decode()
        domain, number = re.search(r'Subject: to (\S+)\n\n\.dot\nline (\d)\n$', text).groups()
        assert re.search(rf'with ESMTPS.*TLSv?{VERSIONS[domain][4:]}', text, re.S | re.I), text
        found.add((domain, int(number)))
    assert found == {(domain, number) for domain in VERSIONS for number in range(COUNT)}
    rows = until(lambda: len(accounting_rows(path)) == COUNT * 2 and accounting_rows(path), 10,
                 'rows of all')
    assert {(row['rcpt'], row['dlvTlsProtocol']) for row in rows} == \
        {(f'x@{domain}', version) for domain, version in VERSIONS.items()}
    daemon.wait_for(10, queued_rcpts=0)
    counters = daemon.counters()
    assert counters['deferred'] == 0 and counters['bounced'] == 0


def test_opensmtpd_cannot_do_what_it_offers(world):
    """Every handshake fails at its end. Opportunistic mail comes in the clear, at the next attempt;
    mail that needs TLS waits with the reason."""
    mta = start(OpenSmtpd, world, Papers(world))
    daemon = world.daemon('{base}' + ''.join(
        f'<domain {domain}.test>\n    smtp-hosts [{mta.address}]:2525\n    retry-after 2s\n'
        f'    require-starttls {word}\n</domain>\n'
        for domain, word in {'may': 'no', 'must': 'yes'}.items())).start()
    for number in range(COUNT):
        for rcpt in 'x@may.test', 'x@must.test':
            code, text = send_message(daemon.listen, 'a@sender.test', [rcpt],
                                      TEXT % (b'may.test', number))
            assert code == 250, text
    numbers = {re.search(rb'Subject: to may.test\n\n\.dot\nline (\d)\n$', content).group(1)
               for content in mta.mail(COUNT)}
    assert len(numbers) == COUNT
    last_error(daemon, 'must.test', 'starting TLS')
    counters = daemon.wait_for(10, delivered=COUNT, queued_rcpts=COUNT)
    assert counters['bounced'] == 0


@pytest.mark.parametrize('kind', [Exim, OpenSmtpd], ids=lambda kind: kind.name)
def test_they_send_mail(world, kind):
    """They hand mail on to us, by verified TLS alone; a listener of ours for each version."""
    papers = Papers(world)
    receiver = Receiver(world)
    doors = {domain: world.address() for domain in VERSIONS}
    sections = ''
    for number, (domain, door) in enumerate(doors.items()):
        papers.make(f'door{number}', door)
        sections += (f'<smtp-listener {door}:2525>\n    tls-certificate {world.path(f"door{number}.pem")}\n'
                     f'{only(domain, "")}</smtp-listener>\n')
    daemon = world.daemon('{base}' + sections + '<source 127.0.0.0/8>\n    allow-starttls yes\n'
                          '    log-connections yes\n</source>\n'
                          f'<domain *>\n    smtp-hosts [{receiver.address}]:2525\n</domain>\n')
    daemon.start()
    mta = start(kind, world, papers, doors)
    for number in range(COUNT):
        for domain in VERSIONS:
            code, text = send_message(mta.inside, 'a@sender.test', [f'x@{domain}'],
                                      TEXT % (domain.encode(), number))
            assert code == 250, text
    found = set()
    for _, rcpts, content, _ in receiver.wait(COUNT * 2, seconds=40):
        body = without_received(content)
        domain = rcpts[0].split('@')[1]
        number = re.search(rb'\r\n\r\n\.dot\r\nline (\d)\r\n$', body).group(1)
        assert b' with ESMTPS ' in content[:len(content) - len(body)], content
        found.add((domain, int(number)))
    assert found == {(domain, number) for domain in VERSIONS for number in range(COUNT)}
    counters = daemon.counters()
    assert counters['tls_handshakes'] >= 2 and counters['tls_failures'] == 0
    for version in VERSIONS.values():
        assert f'secured by {version} ' in daemon.program.log()
