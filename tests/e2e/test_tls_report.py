"""Reports about TLS (RFC 8460): what happened to connections is what their receivers are told, by
mail that other programs can read, with a signature that holds."""
import email
import gzip
import json
import os
import re
import shutil
import signal
import threading

import pytest

import dns_servers
from dkim_mail import Key, verdicts
from dns_servers import Authority, Mute, Resolver
from harness import until
from sts_hosts import PolicyHost, ReportHost, policy
from test_dane import names_it
from test_peers import Receiver as Mailbox
from test_sts import helper_of
from test_tls_out import Papers, Receiver, send

ADDRESS = 'tls-reports@relay.test'


@pytest.fixture(autouse=True)
def need_unbound():
    missing = dns_servers.missing('unbound')
    if missing:
        pytest.skip(f'not installed: {missing}')


def config(world, server, more=''):
    key = Key(world.program('ringpost'), world.path(''), '2048')
    return key, (
        f'{{base}}name-server {server.address}:5353\nallow-loopback-destinations yes\n'
        f'tls-report-from {ADDRESS}\ntls-report-organization "Relay Test"\n'
        f'domain-key r1,relay.test,{key.path}\n'
        '<virtual-mta reports>\n    smtp-source-host {daemon.source} r.relay.test\n</virtual-mta>\n'
        'tls-report-virtual-mta reports\n'
        '<domain *>\n    default-smtp-port 2525\n    retry-after 1h\n'
        '    retry-after-dns-error 1s\n    max-msg-per-connection 1\n'
        '    dkim-sign yes\n    dkim-missing-key send\n</domain>\n' + more)


def rows(daemon, *words):
    return {(row['domain'], row['policy']): row
            for row in daemon.ask('show', 'tls-report', *words)['tlsReport']}


def wait_for_rows(daemon, wanted, but=None):
    """Until these (domain, policy) have these counts of successes and failures, and no other domain
    has any, but for one."""
    def reached():
        found = {key: (row['successful'], row['failed']) for key, row in rows(daemon).items()
                 if key[0] != but}
        return found == wanted or None

    try:
        until(reached, 60, wanted)
    except AssertionError:
        raise AssertionError(f'wanted {wanted}, got {rows(daemon)}') from None


class Report:
    """A mail with a report, taken apart."""

    def __init__(self, message, key):
        self.sender, self.rcpts, self.octets = message[:3]
        assert self.sender == '<>'
        assert verdicts(self.octets, {'r1._domainkey.relay.test': key.record}) == [True]
        mail = email.message_from_bytes(self.octets)
        self.mail = mail
        assert mail.get_content_type() == 'multipart/report'
        assert mail.get_param('report-type') == 'tlsrpt'
        text, content = mail.get_payload()
        assert text.get_content_type() == 'text/plain'
        assert content.get_content_type() == 'application/tlsrpt+gzip'
        self.file_name = content.get_filename()
        self.data = json.loads(gzip.decompress(content.get_payload(decode=True)))
        self.domain = mail['TLS-Report-Domain']
        assert mail['TLS-Report-Submitter'] == 'relay.test'
        assert mail['From'] == ADDRESS and mail['TLS-Required'] == 'No'
        subject = ' '.join(mail['Subject'].split())
        assert subject == (f'Report Domain: {self.domain} Submitter: relay.test '
                           f'Report-ID: <{self.data["report-id"]}>')

    def policy(self):
        policy, = self.data['policies']
        return policy


def reports(mailbox, key, count):
    found = [Report(message, key) for message in mailbox.wait(count, 60)]
    return {report.domain: report for report in found}


def test_what_is_counted_is_reported(world):
    """Successes, no STARTTLS, a handshake that fails; who wants a report gets one, and counting
    begins anew. A domain without a record, or with schemes that there are not, gets none."""
    papers = Papers(world)
    secure, clear, broken, foul = (Receiver(world, papers.make('own', '127.9.9.9')),
                                   *(Receiver(world, manner=manner)
                                     for manner in ('none', 'garbage', 'inject')))
    mailbox = Mailbox(world)
    hosts = {'good': secure, 'clear': clear, 'broken': broken, 'foul': foul, 'unasked': secure,
             'other': secure, 'twice': secure, 'reports': mailbox}
    wants = {'good': 'v=TLSRPTv1; rua=http://good.test/r,mailto:tls%2Bgood@reports.test',
             'clear': 'v=TLSRPTv1;rua=mailto:a@reports.test , mailto:b@reports.test?x=y',
             'broken': 'v=TLSRPTv1; rua=mailto:tls@reports.test;',
             'other': 'v=TLSRPTv1; rua=http://good.test/r,https://127.0.0.1/r'}
    server = Resolver(
        world, *(f'{domain}.test. MX 10 mx.{domain}.test.' for domain in hosts),
        *(f'mx.{domain}.test. A {receiver.address}' for domain, receiver in hosts.items()),
        more='\n'.join(f"    local-data: '_smtp._tls.{domain}.test. TXT \"{text}\"'"
                       for domain, text in [*wants.items(), ('twice', wants['broken']),
                                            ('twice', wants['clear'])]))
    key, text = config(world, server,
                       f'<domain routed.test>\n    smtp-hosts [{secure.address}]:2525\n</domain>\n')
    daemon = world.daemon(text).start()
    for _ in range(3):
        send(daemon, 'x@good.test')
        daemon.wait_for(60, queued_rcpts=0)
    for domain in ('clear', 'unasked', 'other', 'twice', 'routed'):
        send(daemon, f'x@{domain}.test')
    send(daemon, 'x@broken.test')
    send(daemon, 'x@foul.test')
    broken_was, foul_was = (('broken.test', 'no-policy-found'), ('foul.test', 'no-policy-found'))
    counted = {('good.test', 'no-policy-found'): (3, 0), ('clear.test', 'no-policy-found'): (0, 1),
               ('unasked.test', 'no-policy-found'): (1, 0), ('other.test', 'no-policy-found'): (1, 0),
               ('twice.test', 'no-policy-found'): (1, 0), broken_was: (0, 1), foul_was: (0, 1)}
    wait_for_rows(daemon, counted)
    for was in (broken_was, foul_was):
        assert rows(daemon)[was]['results'] == {'validation-failure': 1}
    assert list(rows(daemon, 'good.test')) == [('good.test', 'no-policy-found')]
    assert 'starttls-not-supported 1' in daemon.cli('show', 'tls-report').stdout

    # Over an orderly end, and what a life has counted goes with what the next one counts.
    assert daemon.shutdown() == 0
    daemon.start()
    wait_for_rows(daemon, counted)
    send(daemon, 'y@good.test')
    wait_for_rows(daemon, counted | {('good.test', 'no-policy-found'): (4, 0)})

    assert daemon.ask('tls-report', 'send')['affected'] == 7
    found = reports(mailbox, key, 3)
    assert set(found) == {'good.test', 'clear.test', 'broken.test'}
    good = found['good.test']
    assert good.rcpts == ['tls+good@reports.test']
    assert good.data['organization-name'] == 'Relay Test'
    assert good.data['contact-info'] == ADDRESS
    assert good.policy() == {
        'policy': {'policy-type': 'no-policy-found', 'policy-domain': 'good.test'},
        'summary': {'total-successful-session-count': 4, 'total-failure-session-count': 0}}
    times = good.data['date-range']
    assert all(re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ', time) for time in times.values())
    assert times['start-datetime'] <= times['end-datetime']
    assert re.fullmatch(r'relay\.test!good\.test!\d+!\d+\.json\.gz', good.file_name)
    clear_one = found['clear.test']
    assert sorted(clear_one.rcpts) == ['a@reports.test', 'b@reports.test']
    assert clear_one.policy()['failure-details'] == [
        {'result-type': 'starttls-not-supported', 'sending-mta-ip': daemon.source,
         'receiving-mx-hostname': 'mx.clear.test', 'failed-session-count': 1}]
    detail, = found['broken.test'].policy()['failure-details']
    assert detail['result-type'] == 'validation-failure' and detail['failure-reason-code']

    # The mail of the reports is in none, and nothing is sent twice.
    until(lambda: daemon.ask('show', 'tls-report')['waiting'] == 0, 60, 'all domains to be asked')
    daemon.wait_for(60, queued_rcpts=0)
    assert rows(daemon) == {}
    assert daemon.ask('tls-report', 'send')['affected'] == 0
    assert len(mailbox.messages) == 3


def test_reports_are_for_who_asked_for_them(world):
    """Without tls-report-from nothing is counted; without a DKIM key nothing is sent."""
    receiver, mailbox = Receiver(world, manner='none'), Mailbox(world)
    server = Resolver(world, 'a.test. MX 10 mx.a.test.', f'mx.a.test. A {receiver.address}',
                      f'reports.test. A {mailbox.address}', more='''
    local-data: '_smtp._tls.a.test. TXT "v=TLSRPTv1; rua=mailto:tls@reports.test"'
''')
    _, text = config(world, server)
    daemon = world.daemon(text.replace(f'tls-report-from {ADDRESS}', '')).start()
    send(daemon, 'x@a.test')
    daemon.wait_for(60, delivered=1)
    assert rows(daemon) == {}
    assert 'tls-report-from' in daemon.cli('tls-report', 'send').stdout
    daemon.write(text)
    assert 'tls-report' not in daemon.cli('test', 'config', daemon.config_path).stdout
    daemon.write('\n'.join(line for line in text.split('\n') if 'domain-key' not in line))
    assert 'no domain-key for relay.test' in daemon.cli('test', 'config', daemon.config_path).stdout
    assert daemon.cli('reload').returncode == 0
    send(daemon, 'y@a.test')
    wait_for_rows(daemon, {('a.test', 'no-policy-found'): (0, 1)})
    assert daemon.ask('tls-report', 'send')['affected'] == 1
    until(lambda: 'no DKIM key to sign it' in daemon.program.log(), 60, 'a line in the log')
    assert daemon.ask('show', 'tls-report')['waiting'] == 0
    assert mailbox.messages == [] and daemon.counters()['queued_rcpts'] == 0


def test_dane(world):
    """The records are told as the policy, of each host, and what did not fit them."""
    missing = dns_servers.missing('knotd', 'keymgr')
    if missing:
        pytest.skip(f'not installed: {missing}')
    papers = Papers(world)
    own = papers.make('own', '127.9.9.9', host='ee.test')
    other = papers.make('other', '127.9.9.9', host='other.test')
    receiver, clear = Receiver(world, own), Receiver(world, manner='none')
    mailbox = Mailbox(world)
    hosts = {'ee': receiver, 'misfit': receiver, 'useless': receiver, 'clear': clear,
             'reports': mailbox}
    domains = {'match': 'ee', 'mismatch': 'misfit', 'unusable': 'useless', 'stripped': 'clear'}
    zone = Authority(world, 'test', [
        *(f'{host} A {receiver.address}' for host, receiver in hosts.items()),
        *(f'{domain} MX 10 {host}' for domain, host in domains.items()),
        'silenced MX 10 silent', 'silenced MX 20 ee', f'silent A {receiver.address}',
        names_it('silent', 3, own),
        *(f'_smtp._tls.{domain} TXT "v=TLSRPTv1; rua=mailto:tls@reports.test"'
          for domain in [*domains, 'silenced']),
        names_it('ee', 3, own), names_it('misfit', 3, other), names_it('useless', 1, own),
        names_it('clear', 3, own)], is_signed=True)
    server = Resolver(world, stubs={'test': zone.at, '_tcp.silent.test': Mute(world).at})
    key, text = config(world, server, f'dnssec-trust-anchor {zone.anchor()}\nresolver-timeout 3s\n')
    daemon = world.daemon(text).start()
    for domain in domains:
        send(daemon, f'x@{domain}.test')
    send(daemon, 'x@silenced.test')
    receiver.wait('x@silenced.test')
    wait_for_rows(daemon, {('match.test', 'tlsa'): (1, 0), ('mismatch.test', 'tlsa'): (0, 1),
                           ('unusable.test', 'tlsa'): (0, 1), ('stripped.test', 'tlsa'): (0, 1)},
                  but='silenced.test')
    assert rows(daemon)[('match.test', 'tlsa')]['host'] == 'ee.test'

    def are_sent():
        """A domain that a busy DNS knows nothing of just now would wait for an hour."""
        daemon.ask('tls-report', 'send')
        return len(mailbox.messages) >= 5

    until(are_sent, 60, 'the reports', pause=1)
    found = reports(mailbox, key, 5)
    # How often the domain was looked up is nobody's business.
    told = {policy['policy'].get('mx-host', [''])[0]: policy
            for policy in found.pop('silenced.test').data['policies']}
    assert told['ee.test']['summary']['total-successful-session-count'] == 1
    detail, = told['silent.test']['failure-details']
    assert detail['result-type'] == 'dnssec-invalid' and detail['failed-session-count'] > 0
    results = {domain: report.policy().get('failure-details', [{}])[0].get('result-type')
               for domain, report in found.items()}
    assert results == {'match.test': None, 'mismatch.test': 'validation-failure',
                       'unusable.test': 'tlsa-invalid', 'stripped.test': 'starttls-not-supported'}
    record = names_it('ee', 3, own).split('TLSA ')[1]
    assert found['match.test'].policy()['policy'] == {
        'policy-type': 'tlsa', 'policy-string': [record], 'policy-domain': 'match.test',
        'mx-host': ['ee.test']}


def test_mta_sts(world):
    """The policy that was applied is told with what it did; of one that is only tried out too, and
    why one could not be had."""
    if not os.path.exists(world.program('ringpost-sts')) or os.geteuid() != 0:
        pytest.skip('built without libcurl, or port 443 cannot be had')
    papers = Papers(world)
    good = Receiver(world, papers.make('good', '127.9.9.9', host='good.test'))
    wrong = Receiver(world, papers.make('wrong', '127.9.9.9', host='elsewhere.test'))
    mailbox = Mailbox(world)
    hosts = {'good': good, 'wrong': wrong, 'reports': mailbox}
    domains = {'kept': ('good', policy('enforce', 'good.test')),
               'trial': ('wrong', policy('testing', 'wrong.test')),
               'strict': ('wrong', policy('enforce', 'wrong.test')),
               'unnamed': ('good', policy('testing', 'nobody.test')),
               'gone': ('good', (404, {}, b'')), 'self': ('good', policy('none'))}
    host = PolicyHost(world, papers, {f'{domain}.test': said for domain, (_, said)
                                      in domains.items()}, distrusted=('self.test',))
    server = Resolver(
        world, *(f'{name}.test. A {receiver.address}' for name, receiver in hosts.items()),
        *(f'{domain}.test. MX 10 {mx}.test.' for domain, (mx, _) in domains.items()),
        *(f'mta-sts.{domain}.test. A {host.address}' for domain in domains),
        more='\n'.join(line for domain in domains for line in (
            f"    local-data: '_mta-sts.{domain}.test. TXT \"v=STSv1; id=1;\"'",
            f"    local-data: '_smtp._tls.{domain}.test. TXT "
            '"v=TLSRPTv1; rua=mailto:r@reports.test"\'')))
    key, text = config(world, server, f'mta-sts-ca-file {papers.authority}\n'
                       '<domain *>\n    use-mta-sts yes\n</domain>\n')
    daemon = world.daemon(text).start()
    for domain in domains:
        send(daemon, f'x@{domain}.test')
        # Mail waits 10 s for a policy and goes without it then, which all at once could need.
        until(lambda: any(row['fetched'] or row['failed'] for row in
                          daemon.ask('show', 'mta-sts', f'{domain}.test')['policy']), 60,
              f'word of the policy of {domain}.test')
    results = {'kept': {}, 'trial': {'certificate-host-mismatch'},
               'strict': {'certificate-host-mismatch'}, 'unnamed': {'validation-failure'},
               'gone': {'sts-policy-fetch-error'}, 'self': {'sts-webpki-invalid'}}

    def told():
        found = rows(daemon)
        return all((f'{domain}.test', 'sts') in found and
                   set(found[f'{domain}.test', 'sts']['results']) == set(wanted)
                   for domain, wanted in results.items())

    until(told, 60, 'the results')
    daemon.wait_for(60, delivered=5, queued_rcpts=1)
    daemon.ask('tls-report', 'send')
    found = reports(mailbox, key, 6)
    kept = found['kept.test'].policy()
    lines = kept['policy'].pop('policy-string')
    assert sorted(lines) == sorted(domains['kept'][1].split('\r\n')[:-1])
    assert kept == {
        'policy': {'policy-type': 'sts', 'policy-domain': 'kept.test', 'mx-host': ['good.test']},
        'summary': {'total-successful-session-count': 1, 'total-failure-session-count': 0}}
    detail, = found['strict.test'].policy()['failure-details']
    assert detail['receiving-mx-hostname'] == 'wrong.test'
    assert detail['sending-mta-ip'] == daemon.source and 'mismatch' in detail['failure-reason-code']
    # What went without a policy is told beside why there was none.
    kinds = [policy['policy']['policy-type'] for policy in found['gone.test'].data['policies']]
    assert sorted(kinds) == ['no-policy-found', 'sts']


# ---- By https ------------------------------------------------------------------------------------

def need_helper(world):
    if not os.path.exists(world.program('ringpost-sts')) or os.geteuid() != 0:
        pytest.skip('built without libcurl, or port 443 cannot be had')


class Scene:
    """Domains whose mail one receiver takes, and the rua of their records, where they want their
    reports; hosts: name -> what is there; records, more: besides, of the DNS and the
    configuration."""

    def __init__(self, world, wants, hosts, records=(), more=''):
        self.papers = world.papers
        self.receiver, self.mailbox = Receiver(world, manner='none'), Mailbox(world)
        hosts = {'mx.test': self.receiver, 'reports.test': self.mailbox, **hosts}
        self.server = Resolver(
            world, *(f'{name}. A {host.address}' for name, host in hosts.items()),
            *(f'{domain}.test. MX 10 mx.test.' for domain in wants),
            more='\n'.join(f"    local-data: '{record}'" for record in [*records, *(
                f'_smtp._tls.{domain}.test. TXT "v=TLSRPTv1; rua={rua}"'
                for domain, rua in wants.items())]))
        self.key, text = config(world, self.server,
                                f'mta-sts-ca-file {self.papers.authority}\n{more}')
        self.config = text
        self.daemon = world.daemon(text).start()
        # One after the other: a connection to the host counts for the domain it was opened for.
        for number, domain in enumerate(wants):
            send(self.daemon, f'x@{domain}.test')
            self.daemon.wait_for(60, delivered=number + 1)
        wait_for_rows(self.daemon, {(f'{domain}.test', 'no-policy-found'): (0, 1)
                                    for domain in wants})

    def state(self):
        """(reports by mail, by https, given up), and domain -> what is said of those that wait."""
        said = self.daemon.ask('show', 'tls-report')
        return ((said['sent'], said['posted'], said['givenUp']),
                {row['domain'].removesuffix('.test'): row for row in said['byHttps']})

    def send(self, count):
        assert self.daemon.ask('tls-report', 'send')['affected'] == count

    def wait(self, counts, waiting):
        """Until these are the counts, and these domains wait, after so many tries that failed."""
        def reached():
            found, rows = self.state()
            return found == counts and {domain: row['failed'] for domain, row in rows.items()
                                        if row['next']} == waiting == {
                                            domain: row['failed'] for domain, row in rows.items()}

        try:
            until(reached, 60, 'these counts')
        except AssertionError:
            raise AssertionError(f'wanted {counts}, {waiting}, got {self.state()}; '
                                 f'{self.daemon.program.log()}') from None


def content(octets, domain):
    """Of a report as it was posted: the policies."""
    data = json.loads(gzip.decompress(octets))
    assert data['organization-name'] == 'Relay Test'
    assert f'.{domain}@' in data['report-id']
    return data['policies']


def test_reports_by_https(world):
    """Each address of a record gets the report; what is not taken is tried again there alone, over a
    restart too, with nothing else sent twice. MTA-STS need not be used for it."""
    need_helper(world)
    world.papers = papers = Papers(world)
    host = ReportHost(world, papers, 'a.test', 'b.test')
    other = ReportHost(world, papers, 'c.test', port=8443)
    own = ReportHost(world, papers, 'own.test', is_distrusted=True)
    host.answers = {'/busy': [503, 503]}
    scene = Scene(world, {
        'only': 'https://a.test/only',
        'both': 'mailto:both@reports.test,https://a.test/both,https://c.test:8443/v1?x=y',
        'busy': 'https://a.test/busy , mailto:busy@reports.test',
        'half': 'https://b.test/half,https://own.test/half',
        'nobody': 'http://a.test/nobody,https://user@a.test/nobody,https://a.test:0/nobody',
    }, {'a.test': host, 'b.test': host, 'c.test': other, 'own.test': own})
    scene.send(5)
    scene.wait((2, 2, 0), {'busy': 1, 'half': 1})
    assert sorted((post[0], post[1]) for post in host.posts) == [
        ('a.test', '/both'), ('a.test', '/busy'), ('a.test', '/only'), ('b.test', '/half')]
    (_, path, headers, octets), = other.posts
    assert path == '/v1?x=y' and headers['Content-Type'] == 'application/tlsrpt+gzip'
    summary, = content(octets, 'both.test')
    assert summary['summary'] == {'total-successful-session-count': 0,
                                  'total-failure-session-count': 1}
    found = reports(scene.mailbox, scene.key, 2)
    assert [policy['summary'] for policy in found['both.test'].data['policies']] == [
        summary['summary']]
    rows = scene.state()[1]
    assert '503' in rows['busy']['why'] and rows['busy']['taken'] == 0
    assert 'certificate' in rows['half']['why'] and rows['half']['taken'] == 1
    assert 'HTTP status 503' in scene.daemon.cli('show', 'tls-report').stdout
    scene.send(2)
    scene.wait((2, 2, 0), {'busy': 2, 'half': 2})
    daemon = scene.daemon
    assert daemon.shutdown() == 0
    daemon.start()
    # Nothing is due because of the restart.
    scene.wait((0, 0, 0), {'busy': 2, 'half': 2})
    assert len(host.posts) == 5
    scene.send(2)
    scene.wait((0, 1, 0), {'half': 3})
    assert [post[1] for post in host.posts[4:]] == ['/busy', '/busy']
    assert content(host.posts[-1][3], 'busy.test') == content(host.posts[-2][3], 'busy.test')
    assert len(scene.mailbox.messages) == 2 and len(other.posts) == 1 and own.posts == []


def test_hosts_that_hang_keep_no_policy_away(world):
    """All places of reports are held by hosts that do not answer: policies of MTA-STS are fetched
    nevertheless. One host alone cannot have all of them."""
    need_helper(world)
    world.papers = papers = Papers(world)
    names = ('slow.test', 'slower.test')
    host = ReportHost(world, papers, *names)
    gate = threading.Event()
    host.gates = dict.fromkeys(names, gate)
    good = Receiver(world, papers.make('good', '127.9.9.9', host='good.test'))
    policies = PolicyHost(world, papers, {'kept.test': policy('enforce', 'good.test')})
    scene = Scene(world, {f'd{number}': f'https://{names[number % 2]}/{number}'
                          for number in range(20)},
                  {**dict.fromkeys(names, host), 'good.test': good, 'mta-sts.kept.test': policies},
                  ['kept.test. MX 10 good.test.', '_mta-sts.kept.test. TXT "v=STSv1; id=1;"'],
                  '<domain kept.test>\n    use-mta-sts yes\n</domain>\n')
    daemon = scene.daemon
    scene.send(20)
    until(lambda: len(host.posts) >= 16, 60, 'the hosts to hold all places')
    send(daemon, 'x@kept.test')
    assert good.wait('x@kept.test')[0][1]
    assert daemon.ask('show', 'mta-sts')['policy'][0]['mode'] == 'enforce'
    # A helper that dies over reports costs time: the next one is asked for the same.
    held = len(host.posts)
    os.kill(helper_of(daemon), signal.SIGKILL)
    until(lambda: len(host.posts) >= held + 16, 60, 'the hosts to hold all places again')
    assert daemon.ask('show', 'mta-sts')['helperRestarts'] == 1
    until(lambda: len(scene.state()[1]) == 20, 60, 'all reports to be begun')
    assert scene.state()[0] == (0, 0, 0)
    gate.set()

    def all_taken():
        # On a machine that was so busy that some were given up for the time being.
        daemon.ask('tls-report', 'send')
        return scene.state()[0][1] == 20

    until(all_taken, 60, 'the reports to be taken')


def test_without_the_helper_reports_go_by_mail(world):
    """The log says it once, and who names https addresses alone gets none."""
    need_helper(world)
    world.papers = Papers(world)
    folder = world.path('alone')
    os.makedirs(folder)
    shutil.copy(world.program('ringpostd'), folder)
    program, world.program = world.program, lambda name: (
        os.path.join(folder, name) if name == 'ringpostd' else program(name))
    host = ReportHost(world, world.papers, 'a.test')
    scene = Scene(world, {'only': 'https://a.test/r', 'both': 'https://a.test/r,mailto:r@reports.test'},
                  {'a.test': host})
    scene.send(2)
    scene.wait((1, 0, 2), {})
    assert set(reports(scene.mailbox, scene.key, 1)) == {'both.test'}
    assert 'ringpost-sts cannot be started' in scene.daemon.cli('show', 'tls-report').stdout
    assert scene.daemon.program.log().count('no reports about TLS by https') == 1
    assert host.posts == []


def test_a_helper_that_cannot_be_started_now_is_started_later(world):
    """Nothing is given up for it, as it is where there is no helper."""
    need_helper(world)
    world.papers = Papers(world)
    folder = world.path('alone')
    os.makedirs(folder)
    shutil.copy(world.program('ringpostd'), folder)
    helper = os.path.join(folder, 'ringpost-sts')
    with open(helper, 'wb') as file:
        file.write(b'half of a program')
    os.chmod(helper, 0o755)
    whole = world.program('ringpost-sts')
    program, world.program = world.program, lambda name: (
        os.path.join(folder, name) if name == 'ringpostd' else program(name))
    host = ReportHost(world, world.papers, 'a.test')
    scene = Scene(world, {'only': 'https://a.test/r'}, {'a.test': host})
    scene.send(1)
    scene.wait((0, 0, 0), {'only': 1})
    assert scene.state()[1]['only']['why'] == 'the helper program cannot be started'
    shutil.copy(whole, helper)
    scene.send(1)
    scene.wait((0, 1, 0), {})
    assert len(host.posts) == 1


def test_a_reload_counts_for_the_helper(world):
    """It runs since before, and was told which addresses it may use."""
    need_helper(world)
    world.papers = Papers(world)
    host = ReportHost(world, world.papers, 'a.test')
    host.answers = {'/r': [503]}
    scene = Scene(world, {'only': 'https://a.test/r'}, {'a.test': host})
    scene.send(1)
    scene.wait((0, 0, 0), {'only': 1})
    scene.daemon.write(scene.config.replace('allow-loopback-destinations yes', ''))
    assert scene.daemon.cli('reload').returncode == 0
    scene.send(1)
    scene.wait((0, 0, 0), {'only': 2})
    assert scene.state()[1]['only']['why'] == (
        f'{host.address} is a loopback address: see allow-loopback-destinations')
    scene.daemon.write(scene.config)
    assert scene.daemon.cli('reload').returncode == 0
    scene.send(1)
    scene.wait((0, 1, 0), {})
    assert len(host.posts) == 2
    assert scene.daemon.ask('show', 'mta-sts')['helperRestarts'] == 0
