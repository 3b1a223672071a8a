"""Reports about TLS (RFC 8460): what happened to connections is what their receivers are told, by
mail that other programs can read, with a signature that holds."""
import email
import gzip
import json
import os
import re

import pytest

import dns_servers
from dkim_mail import Key, verdicts
from dns_servers import Authority, Mute, Resolver
from harness import until
from sts_hosts import PolicyHost, policy
from test_dane import names_it
from test_peers import Receiver as Mailbox
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
        f'resolver-timeout 3s\ntls-report-from {ADDRESS}\ntls-report-organization "Relay Test"\n'
        f'domain-key r1,relay.test,{key.path}\n'
        '<virtual-mta reports>\n    smtp-source-host {daemon.source} r.relay.test\n</virtual-mta>\n'
        'tls-report-virtual-mta reports\n'
        '<domain *>\n    default-smtp-port 2525\n    retry-after 1h\n    max-msg-per-connection 1\n'
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
        until(reached, 15, wanted)
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
    found = [Report(message, key) for message in mailbox.wait(count)]
    return {report.domain: report for report in found}


def test_what_is_counted_is_reported(world):
    """Successes, no STARTTLS, a handshake that fails; who wants a report gets one, and counting
    begins anew. A domain without a record, or with https alone, gets none."""
    papers = Papers(world)
    secure, clear, broken = (Receiver(world, papers.make('own', '127.9.9.9')),
                             Receiver(world, manner='none'), Receiver(world, manner='garbage'))
    mailbox = Mailbox(world)
    hosts = {'good': secure, 'clear': clear, 'broken': broken, 'unasked': secure,
             'https': secure, 'twice': secure, 'reports': mailbox}
    wants = {'good': 'v=TLSRPTv1; rua=https://good.test/r,mailto:tls%2Bgood@reports.test',
             'clear': 'v=TLSRPTv1;rua=mailto:a@reports.test , mailto:b@reports.test?x=y',
             'broken': 'v=TLSRPTv1; rua=mailto:tls@reports.test;',
             'https': 'v=TLSRPTv1; rua=https://good.test/r'}
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
        daemon.wait_for(20, queued_rcpts=0)
    for domain in ('clear', 'unasked', 'https', 'twice', 'routed'):
        send(daemon, f'x@{domain}.test')
    send(daemon, 'x@broken.test')
    broken_was = ('broken.test', 'no-policy-found')
    counted = {('good.test', 'no-policy-found'): (3, 0), ('clear.test', 'no-policy-found'): (0, 1),
               ('unasked.test', 'no-policy-found'): (1, 0), ('https.test', 'no-policy-found'): (1, 0),
               ('twice.test', 'no-policy-found'): (1, 0), broken_was: (0, 1)}
    wait_for_rows(daemon, counted)
    assert rows(daemon)[broken_was]['results'] == {'validation-failure': 1}
    assert list(rows(daemon, 'good.test')) == [('good.test', 'no-policy-found')]
    assert 'starttls-not-supported 1' in daemon.cli('show', 'tls-report').stdout

    # Over an orderly end, and what a life has counted goes with what the next one counts.
    assert daemon.shutdown() == 0
    daemon.start()
    wait_for_rows(daemon, counted)
    send(daemon, 'y@good.test')
    wait_for_rows(daemon, counted | {('good.test', 'no-policy-found'): (4, 0)})

    assert daemon.ask('tls-report', 'send')['affected'] == 6
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
    until(lambda: daemon.ask('show', 'tls-report')['waiting'] == 0, 15, 'all domains to be asked')
    daemon.wait_for(20, queued_rcpts=0)
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
    daemon.wait_for(20, delivered=1)
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
    until(lambda: 'no DKIM key to sign it' in daemon.program.log(), 15, 'a line in the log')
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
    key, text = config(world, server, f'dnssec-trust-anchor {zone.anchor()}\n')
    daemon = world.daemon(text).start()
    for domain in domains:
        send(daemon, f'x@{domain}.test')
    send(daemon, 'x@silenced.test')
    receiver.wait('x@silenced.test')
    wait_for_rows(daemon, {('match.test', 'tlsa'): (1, 0), ('mismatch.test', 'tlsa'): (0, 1),
                           ('unusable.test', 'tlsa'): (0, 1), ('stripped.test', 'tlsa'): (0, 1)},
                  but='silenced.test')
    assert rows(daemon)[('match.test', 'tlsa')]['host'] == 'ee.test'
    daemon.ask('tls-report', 'send')
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
    results = {'kept': {}, 'trial': {'certificate-host-mismatch'},
               'strict': {'certificate-host-mismatch'}, 'unnamed': {'validation-failure'},
               'gone': {'sts-policy-fetch-error'}, 'self': {'sts-webpki-invalid'}}

    def told():
        found = rows(daemon)
        return all((f'{domain}.test', 'sts') in found and
                   set(found[f'{domain}.test', 'sts']['results']) == set(wanted)
                   for domain, wanted in results.items())

    until(told, 20, 'the results')
    daemon.wait_for(20, delivered=5, queued_rcpts=1)
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
