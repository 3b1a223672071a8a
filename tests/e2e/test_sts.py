"""MTA-STS (RFC 8461): the helper program that fetches policies, and mail to domains that have one."""
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import threading

import pytest

import dns_servers
from dns_servers import Authority, Resolver
from harness import until
from sts_hosts import PATH, PolicyHost, ReportHost, policy
from test_dane import names_it
from test_tls_out import Papers, Receiver, last_error, send


@pytest.fixture(autouse=True)
def need_programs(world):
    missing = dns_servers.missing('unbound')
    if missing:
        pytest.skip(f'not installed: {missing}')
    if not os.path.exists(world.program('ringpost-sts')):
        pytest.skip('built without libcurl')
    with socket.socket() as probe:
        try:
            probe.bind((world.address(), 443))
        except PermissionError:
            pytest.skip('port 443 takes root')


@pytest.fixture(name='papers')
def papers_fixture(world):
    return Papers(world)


class Helper:
    """The program alone, as the daemon starts it; with so many descriptors."""

    def __init__(self, world, papers, server, descriptors=None, more=('--allow-loopback',)):
        ours, its = socket.socketpair()
        self.program = subprocess.Popen(
            [world.program('ringpost-sts'), '--ca-file', papers.authority, '--name-server',
             f'{server.address}@5353', *more], stdin=its, stdout=its, stderr=its,
            preexec_fn=descriptors and (lambda: resource.setrlimit(
                resource.RLIMIT_NOFILE, (descriptors, descriptors))))
        its.close()
        world.at_end.append(self.program.kill)
        ours.settimeout(60)
        self.socket = ours
        self.file = ours.makefile('rb')

    def post(self, number, uri, octets):
        """(result, octets), while nothing else is asked."""
        self.socket.sendall(f'{number} report {len(octets)} {uri}\n'.encode() + octets)
        answered, result, count = self.file.readline().split()
        assert int(answered) == number
        return result.decode(), self.file.read(int(count)).decode()

    def ask(self, *domains):
        """domain -> (result, octets)"""
        self.socket.sendall(b''.join(f'{number} {domain}\n'.encode()
                                     for number, domain in enumerate(domains)))
        answers = {}
        for _ in domains:
            number, result, octets = self.file.readline().split()
            answers[domains[int(number)]] = (result.decode(), self.file.read(int(octets)))
        return answers


def test_helper(world, papers):
    """Only a policy that comes at the first attempt, from a host whose certificate holds, as plain
    text and not too long, is one; one host that does not answer holds nobody up."""
    plain = {'Content-Type': 'text/plain'}
    good = policy('enforce', 'mx.good.test')
    host = PolicyHost(world, papers, {
        'good.test': good,
        'moved.test': (301, {'Location': f'https://mta-sts.good.test{PATH}', **plain}, b''),
        'long.test': (200, plain, b'x' * 65537),
        'longest.test': (200, plain, b'x' * 65536),
        'html.test': (200, {'Content-Type': 'text/html'}, good.encode()),
        'nothing.test': (404, plain, good.encode()),
        'self.test': good,
        'silent.test': good,
    }, distrusted=('self.test',))
    host.gates['silent.test'] = threading.Event()
    server = Resolver(world, *(f'mta-sts.{domain}. A {host.address}' for domain in host.domains),
                      f'mta-sts.closed.test. A {world.address()}')
    helper = Helper(world, papers, server)
    helper.socket.sendall(b'99 silent.test\n')
    got = helper.ask(*(domain for domain in host.domains if domain != 'silent.test'),
                     'closed.test', 'unknown.test')
    assert got['good.test'] == ('policy', good.encode())
    assert got['longest.test'] == ('policy', b'x' * 65536)
    assert got['moved.test'] == ('unreached', b'the host answers with HTTP status 301')
    assert got['nothing.test'] == ('unreached', b'the host answers with HTTP status 404')
    assert got['long.test'] == ('unfit', b'the policy is longer than 65,536 octets')
    assert got['html.test'] == ('unfit', b'the policy is not of the type text/plain')
    assert got['self.test'][0] == 'distrusted'
    assert got['closed.test'][0] == 'unreached'
    assert got['unknown.test'] == ('unreached', b'the host has no address')
    assert host.asked.count('good.test') == 1
    host.gates['silent.test'].set()
    assert helper.file.readline() == f'99 policy {len(good)}\n'.encode()
    # What is no request ends it, and so does the end of the input.
    helper.socket.sendall(b'1 /etc/passwd\n')
    assert helper.program.wait(100) == 0
    other = Helper(world, papers, server)
    other.socket.shutdown(socket.SHUT_WR)
    assert other.program.wait(100) == 0


def test_helper_posts(world, papers):
    """A report is posted once, as it is, with its type; who says 2xx has taken it. No redirect is
    followed, no certificate that does not hold overlooked; hosts that do not answer hold up neither
    other reports, beyond their places, nor policies."""
    octets = bytes(range(256)) * 256
    host = ReportHost(world, papers, 'a.test', 'slow.test', port=8443)
    wrong = ReportHost(world, papers, 'elsewhere.test')
    own = ReportHost(world, papers, 'own.test', is_distrusted=True)
    policies = PolicyHost(world, papers, {'good.test': policy('enforce', 'mx.good.test')})
    host.answers = {'/busy': [503], '/made': [201], '/moved': [301], '/gone': [404]}
    gate = host.gates['slow.test:8443'] = threading.Event()
    server = Resolver(world, *(f'{name}.test. A {host.address}' for name in ('a', 'slow')),
                      f'wrong.test. A {wrong.address}', f'own.test. A {own.address}',
                      f'closed.test. A {world.address()}', f'mta-sts.good.test. A {policies.address}',
                      'private.test. A 10.1.2.3', 'mapped.test. AAAA ::ffff:192.0.2.1',
                      'multicast.test. A 224.0.0.1')
    helper = Helper(world, papers, server)
    assert helper.post(7, 'https://a.test:8443/v1?x=%2C', octets) == (
        'taken', 'the host answers with HTTP status 200')
    (name, path, headers, came), = host.posts
    assert (name, path, came) == ('a.test:8443', '/v1?x=%2C', octets)
    assert headers.get_all('Content-Type') == ['application/tlsrpt+gzip']
    assert helper.post(8, 'https://a.test:8443/made', b'')[0] == 'taken'
    # What else it says is nobody's business; a second post would be one too many.
    assert helper.post(8, 'https://a.test:8443/cut', b'x') == (
        'taken', 'the host answers with HTTP status 200')
    for number, path in ((503, '/busy'), (404, '/gone'), (301, '/moved')):
        assert helper.post(number, f'https://a.test:8443{path}', b'x') == (
            'unreached', f'the host answers with HTTP status {number}')
    assert len(host.posts) == 6
    assert helper.post(9, 'https://wrong.test/', b'x')[0] == 'distrusted'
    assert helper.post(9, 'https://own.test/', b'x')[0] == 'distrusted'
    assert helper.post(9, 'https://closed.test/', b'x')[0] == 'unreached'
    assert helper.post(9, 'https://unknown.test/', b'x') == ('unreached', 'the host has no address')
    assert wrong.posts == own.posts == []
    # All places of reports but one are taken by a host that does not answer.
    for number in range(100, 115):
        helper.socket.sendall(f'{number} report 1 https://slow.test:8443/\nx'.encode())
    until(lambda: len(host.posts) == 21, 60, 'the host to have them')
    assert helper.post(10, 'https://a.test:8443/', b'x')[0] == 'taken'
    assert helper.ask('good.test')['good.test'][0] == 'policy'
    gate.set()
    # What mail would not go to is not used.
    careful = Helper(world, papers, server, more=())
    assert careful.post(1, 'https://a.test:8443/', b'x') == (
        'unreached', f'{host.address} is a loopback address: see allow-loopback-destinations')
    assert careful.ask('good.test')['good.test'][0] == 'unreached'
    hidden = Helper(world, papers, server, more=('--refuse-private',))
    for number, (name, why) in enumerate((
            ('private', '10.1.2.3 is a private address: see allow-private-destinations'),
            ('mapped', '::ffff:192.0.2.1 is no address that a host can have'),
            ('multicast', '224.0.0.1 is no address that a host can have'))):
        assert hidden.post(number, f'https://{name}.test/', b'x') == ('unreached', why)
    # What is no request ends it.
    careful.socket.sendall(b'1 report 1 http://a.test/\nx')
    assert careful.program.wait(100) == 0


def test_what_libraries_complain_of_is_no_answer(world, papers):
    """The resolver's library writes to the standard error of the helper, which is the daemon's
    socket: it must not be taken for answers, or the helper would be ended for it."""
    server = Resolver(world)
    helper = Helper(world, papers, server, descriptors=12)
    domains = [f'd{number}.test' for number in range(8)]
    assert set(helper.ask(*domains).values()) == {('unreached', b'the host has no address')}


class Scene:
    """Receivers, policies and the DNS of test. receivers: host below test -> Receiver; domains:
    domain below test -> (MX hosts, what its policy host says); id: of all policies. retry: after so
    long mail is tried again."""

    def __init__(self, world, papers, receivers, domains, id=1, distrusted=(), retry='1h'):
        self.retry = retry
        self.world = world
        self.papers = papers
        self.receivers = receivers
        self.domains = domains
        self.host = PolicyHost(world, papers, {f'{domain}.test': said for domain, (_, said)
                                               in domains.items() if said}, distrusted)
        self.server = None
        self.publish(id)

    def publish(self, id):
        """The DNS, with records of that id; none if it is None."""
        if self.server:
            self.server.program.end()
        records = [f'{name}.test. A {receiver.address}' for name, receiver in
                   self.receivers.items()]
        texts = []
        for domain, (hosts, said) in self.domains.items():
            records += [f'{domain}.test. MX {10 * number} {name}.test.'
                        for number, name in enumerate(hosts)]
            if said:
                records.append(f'mta-sts.{domain}.test. A {self.host.address}')
            if said and id:
                texts.append(f"    local-data: '_mta-sts.{domain}.test. TXT \"v=STSv1; id={id};\"'")
        self.server = Resolver(self.world, *records, more='\n'.join(texts),
                               name=f'unbound-{self.world.address()}')

    def config(self):
        """A question to the DNS that was lost is asked again soon."""
        return (f'{{base}}name-server {self.server.address}:5353\n'
                f'allow-loopback-destinations yes\nmta-sts-ca-file {self.papers.authority}\n'
                f'<domain *>\n    default-smtp-port 2525\n    retry-after {self.retry}\n'
                '    retry-after-dns-error 1s\n'
                '    max-msg-per-connection 1\n    use-mta-sts yes\n</domain>\n')

    def daemon(self):
        return self.world.daemon(self.config()).start()

    def send(self, daemon):
        """A message to each domain, the next one when what becomes of its policy is known: mail waits
        10 s for a policy and goes without it then, which all at once could need on a busy machine."""
        for domain, (_, said) in self.domains.items():
            send(daemon, f'x@{domain}.test')
            until(lambda: not said or any(row['fetched'] or row['failed'] for row in
                                          show(daemon, f'{domain}.test')[0].values()), 60,
                  f'word of the policy of {domain}.test')


def show(daemon, domain=None):
    """The rows of show mta-sts by domain, and how often the helper was started again."""
    told = json.loads(daemon.cli('show', 'mta-sts', *([domain] if domain else []), '--json').stdout)
    return {row['domain']: row for row in told['data']['policy']}, told['data']['helperRestarts']


def test_modes(world, papers):
    """enforce: only to hosts that the policy names, by TLS with a certificate that holds, or not at
    all, and nobody else is held up by what fails then; testing and none: as if there were none."""
    good = Receiver(world, papers.make('good', '127.9.9.9', host='good.test'))
    wrong = Receiver(world, papers.make('wrong', '127.9.9.9', host='elsewhere.test'))
    clear = Receiver(world, manner='none')
    enforce = policy('enforce', 'good.test', 'wrong.test', 'clear.test')
    scene = Scene(world, papers, {'good': good, 'wrong': wrong, 'clear': clear}, {
        'right': (['good'], enforce),
        'misnamed': (['wrong'], enforce),
        'stripped': (['clear'], enforce),
        'unnamed': (['good'], policy('enforce', 'other.test', '*.good.test')),
        'second': (['clear', 'good'], policy('enforce', 'good.test')),
        'third': (['wrong', 'good'], enforce),
        'trial': (['wrong'], policy('testing', 'wrong.test')),
        'trial2': (['clear'], policy('testing', 'nobody.test')),
        'nothing': (['clear'], policy('none')),
        'free': (['wrong'], None),
        'failing': (['clear'], (404, {}, b'')),
        'moved': (['clear'], (302, {'Location': 'https://mta-sts.right.test' + PATH}, b'')),
        'long': (['clear'], (200, {'Content-Type': 'text/plain'}, enforce.encode() + b'x' * 65536)),
        'self': (['clear'], enforce),
    }, distrusted=('self.test',))
    daemon = scene.daemon()
    scene.send(daemon)
    got = good.wait('x@right.test', 'x@second.test', 'x@third.test')
    assert all(message[1] and message[3] == 'good.test' for message in got), got
    got = wrong.wait('x@trial.test', 'x@free.test')
    assert all(message[1] for message in got), got
    clear.wait('x@trial2.test', 'x@nothing.test', 'x@failing.test', 'x@moved.test', 'x@long.test',
               'x@self.test')
    last_error(daemon, 'misnamed.test', 'Hostname mismatch')
    last_error(daemon, 'stripped.test', 'does not offer STARTTLS')
    last_error(daemon, 'unnamed.test', 'no MX host of unnamed.test is one that its MTA-STS policy')
    daemon.wait_for(60, delivered=11, queued_rcpts=3)
    assert sorted(m[0] for r in (good, wrong, clear) for m in r.messages) == sorted(
        f'x@{domain}.test' for domain in scene.domains
        if domain not in ('misnamed', 'stripped', 'unnamed'))
    rows, _ = show(daemon)
    assert rows['right.test']['mode'] == 'enforce' and rows['right.test']['id'] == '1'
    assert rows['right.test']['mx'] == ['good.test', 'wrong.test', 'clear.test']
    assert rows['trial.test']['mode'] == 'testing' and rows['nothing.test']['mode'] == 'none'
    for domain, why in (('failing', 'HTTP status 404'), ('moved', 'HTTP status 302'),
                        ('long', 'longer than'), ('self', 'certificate')):
        row, = show(daemon, f'{domain}.test')[0].values()
        assert why in row['why'] and row['mode'] == '', row
    assert 'free.test' not in rows
    # A reload lets mail go that a policy has held up.
    daemon.write(scene.config() + '<domain misnamed.test>\n    use-mta-sts no\n</domain>\n')
    assert daemon.cli('reload').returncode == 0
    daemon.ask('schedule', 'misnamed.test/v')
    wrong.wait('x@misnamed.test')


def test_a_policy_outlives_its_host_and_the_daemon(world, papers):
    """What is known counts for its time though record and host have gone, over a restart; another id
    has it fetched again."""
    wrong = Receiver(world, papers.make('wrong', '127.9.9.9', host='elsewhere.test'))
    scene = Scene(world, papers, {'wrong': wrong},
                  {'kept': (['wrong'], policy('enforce', 'wrong.test'))}, retry='5s')
    daemon = scene.daemon()
    send(daemon, 'x@kept.test')
    last_error(daemon, 'kept.test', 'Hostname mismatch')
    daemon.shutdown()
    assert scene.host.asked == ['kept.test']
    scene.host.stop()
    for id in (None, 2):
        scene.publish(id)
        daemon.write(scene.config())
        daemon.start()
        daemon.ask('schedule', 'kept.test/v')
        send(daemon, 'y@kept.test')
        last_error(daemon, 'kept.test', 'Hostname mismatch')
        assert show(daemon)[0]['kept.test']['id'] == '1'
        daemon.shutdown()
    assert not wrong.messages
    # The host is back, and says something else.
    scene.host.domains['kept.test'] = policy('none')
    scene.host.start()
    scene.publish(3)
    daemon.write(scene.config())
    daemon.start()
    daemon.ask('schedule', 'kept.test/v')
    wrong.wait('x@kept.test', 'y@kept.test')
    assert show(daemon)[0]['kept.test']['id'] == '3'


def test_a_book_that_cannot_be_written_is_written_later(world, papers):
    """Nothing else has to change meanwhile."""
    wrong = Receiver(world, papers.make('wrong', '127.9.9.9', host='elsewhere.test'))
    scene = Scene(world, papers, {'wrong': wrong},
                  {'kept': (['wrong'], policy('enforce', 'wrong.test'))})
    daemon = scene.daemon()
    in_the_way = os.path.join(daemon.spool_path, 'mta-sts.new')
    os.mkdir(in_the_way)
    send(daemon, 'x@kept.test')
    last_error(daemon, 'kept.test', 'Hostname mismatch')
    until(lambda: 'a restart would not know of all policies' in daemon.program.log(), 30,
          'the attempt to write it')
    os.rmdir(in_the_way)
    until(lambda: os.path.exists(os.path.join(daemon.spool_path, 'mta-sts')), 30, 'the file')


def helper_of(daemon):
    """The process id of the daemon's helper; None when there is none."""
    for pid in os.listdir('/proc'):
        try:
            with open(f'/proc/{pid}/stat', encoding='ascii') as file:
                fields = file.read().rsplit(' ', 50)
        except (OSError, ValueError):
            continue
        if '(ringpost-sts)' in fields[0] and int(fields[2]) == daemon.program.process.pid:
            return int(pid)
    return None


def test_a_helper_that_dies_or_hangs_costs_time(world, papers):
    """What it was asked for is asked of the next one; one that is stopped holds no mail for ever, and
    the mail goes without a policy that is not known."""
    good = Receiver(world, papers.make('good', '127.9.9.9', host='good.test'))
    enforce = policy('enforce', 'good.test')
    scene = Scene(world, papers, {'good': good}, {
        'first': (['good'], enforce), 'second': (['good'], enforce), 'third': (['good'], enforce)})
    gate = scene.host.gates['second.test'] = threading.Event()
    daemon = scene.daemon()
    send(daemon, 'x@first.test')
    good.wait('x@first.test')
    send(daemon, 'x@second.test')
    until(lambda: 'second.test' in scene.host.asked, 60, 'the policy to be asked for')
    os.kill(helper_of(daemon), signal.SIGKILL)
    gate.set()
    assert good.wait('x@second.test')[0][1]
    until(lambda: show(daemon)[0]['second.test']['mode'] == 'enforce', 60, 'the policy')
    assert show(daemon)[1] == 1
    assert scene.host.asked.count('second.test') == 2
    helper = helper_of(daemon)
    os.kill(helper, signal.SIGSTOP)
    send(daemon, 'x@third.test')
    good.wait('x@third.test')
    assert show(daemon)[0]['third.test']['mode'] == ''
    assert daemon.shutdown() == 0
    until(lambda: not os.path.exists(f'/proc/{helper}'), 60, 'the helper to end with the daemon')


def test_tlsa_records_go_before_a_policy(world, papers):
    """A host with TLSA records is judged by these, whatever the policy says of it (RFC 8461 2)."""
    missing = dns_servers.missing('knotd', 'keymgr')
    if missing:
        pytest.skip(f'not installed: {missing}')
    own = papers.make('own', '127.9.9.9', is_self_signed=True, host='elsewhere.test')
    good = papers.make('good', '127.9.9.9', host='other.test')
    plain, named = Receiver(world, own), Receiver(world, good)
    host = PolicyHost(world, papers, {'match.test': policy('enforce', 'nobody.test'),
                                      'mismatch.test': policy('enforce', 'other.test')})
    zone = Authority(world, 'test', [
        f'ee A {plain.address}', f'other A {named.address}', 'match MX 10 ee', 'mismatch MX 10 other',
        *(f'mta-sts.{domain} A {host.address}' for domain in ('match', 'mismatch')),
        *(f'_mta-sts.{domain} TXT "v=STSv1; id=1;"' for domain in ('match', 'mismatch')),
        names_it('ee', 3, own), names_it('other', 3, own)], is_signed=True)
    server = Resolver(world, stubs={'test': zone.at})
    daemon = world.daemon(
        f'{{base}}name-server {server.address}:5353\nallow-loopback-destinations yes\n'
        f'mta-sts-ca-file {papers.authority}\ndnssec-trust-anchor {zone.anchor()}\n'
        '<domain *>\n    default-smtp-port 2525\n    retry-after 1h\n    use-mta-sts yes\n'
        '</domain>\n').start()
    send(daemon, 'x@match.test')
    send(daemon, 'x@mismatch.test')
    assert plain.wait('x@match.test')[0][1]
    last_error(daemon, 'mismatch.test', 'no certificate is the one that TLSA records name')
    assert len(host.asked) == 2 and not named.messages


def test_domains_with_a_policy_are_not_rolled_up(world, papers):
    """The queue that others of the MX host go to knows nothing of a policy."""
    wrong = Receiver(world, papers.make('wrong', '127.9.9.9', host='elsewhere.test'))
    scene = Scene(world, papers, {'wrong': wrong}, {
        'strict': (['wrong'], policy('enforce', 'wrong.test')), 'free': (['wrong'], None)})
    daemon = world.daemon(scene.config() + '<mx-rollup-list>\n    mx wrong.test all.rollup\n'
                          '</mx-rollup-list>\n<domain all.rollup>\n'
                          f'    smtp-hosts [{wrong.address}]:2525\n</domain>\n').start()
    send(daemon, 'x@strict.test')
    send(daemon, 'x@free.test')
    wrong.wait('x@free.test')
    last_error(daemon, 'strict.test', 'Hostname mismatch')
    assert len(wrong.messages) == 1
    row, = [row for row in daemon.wait_for_rows(1) if row['rcpt'] == 'x@free.test']
    assert row['queue'] == 'all.rollup/v', row


def test_what_policies_do_is_in_the_reports(world, papers):
    """RFC 8460: what is enforced, what is only tried out, and policies that cannot be had."""
    good = Receiver(world, papers.make('good', '127.9.9.9', host='good.test'))
    wrong = Receiver(world, papers.make('wrong', '127.9.9.9', host='elsewhere.test'))
    scene = Scene(world, papers, {'good': good, 'wrong': wrong}, {
        'right': (['good'], policy('enforce', 'good.test')),
        'misnamed': (['wrong'], policy('enforce', 'wrong.test')),
        'unnamed': (['good'], policy('enforce', 'other.test')),
        'trial': (['wrong'], policy('testing', 'wrong.test')),
        'trial2': (['good'], policy('testing', 'other.test')),
        'failing': (['good'], (404, {}, b'')),
        'self': (['good'], policy('enforce', 'good.test')),
        'html': (['good'], (200, {'Content-Type': 'text/html'}, policy('none').encode())),
    }, distrusted=('self.test',))
    daemon = world.daemon(scene.config() + 'tls-report-from tls-reports@relay.test\n').start()
    scene.send(daemon)
    good.wait('x@right.test', 'x@trial2.test', 'x@failing.test', 'x@self.test', 'x@html.test')
    wrong.wait('x@trial.test')
    last_error(daemon, 'misnamed.test', 'Hostname mismatch')
    last_error(daemon, 'unnamed.test', 'no MX host')

    def told():
        rows = daemon.ask('show', 'tls-report')['tlsReport']
        found = {row['domain'].removesuffix('.test'): (row['successful'], row['results'])
                 for row in rows if row['policy'] == 'sts'}
        # A domain without a host is looked up again each second: how often is nobody's business.
        if 'unnamed' in found:
            found['unnamed'] = (found['unnamed'][0], dict.fromkeys(found['unnamed'][1], 1))
        return found

    wanted = {
        'right': (1, {}),
        'misnamed': (0, {'certificate-host-mismatch': 1}),
        'unnamed': (0, {'validation-failure': 1}),
        'trial': (0, {'certificate-host-mismatch': 1}),
        'trial2': (1, {'validation-failure': 1}),
        'failing': (0, {'sts-policy-fetch-error': 1}),
        'self': (0, {'sts-webpki-invalid': 1}),
        'html': (0, {'sts-policy-invalid': 1}),
    }
    try:
        until(lambda: told() == wanted, 60, 'these counts')
    except AssertionError:
        raise AssertionError(f'wanted {wanted}, got {told()}') from None


def test_without_the_helper_no_policy_is_known(world, papers):
    """Mail goes as if there were none, and the log says why, once."""
    clear = Receiver(world, manner='none')
    enforce = policy('enforce', 'other.test')
    scene = Scene(world, papers, {'clear': clear}, {
        'one': (['clear'], enforce), 'two': (['clear'], enforce)})
    folder = world.path('alone')
    os.makedirs(folder)
    shutil.copy(world.program('ringpostd'), folder)
    program, world.program = world.program, lambda name: (
        os.path.join(folder, name) if name == 'ringpostd' else program(name))
    daemon = scene.daemon()
    for domain in scene.domains:
        send(daemon, f'x@{domain}.test')
        clear.wait(f'x@{domain}.test')
    assert daemon.program.log().count('MTA-STS') == 1, daemon.program.log()
    assert 'cannot be started' in show(daemon)[0]['two.test']['why']
