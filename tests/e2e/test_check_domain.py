"""ringpost check domain against a real resolver: what receivers see of our addresses."""
import json

import pytest

import dns_servers
from dkim_mail import Key
from dns_servers import Resolver

if dns_servers.missing('unbound'):
    pytest.skip('unbound is not installed', allow_module_level=True)

CONFIG = '''{{base}}name-server {resolver}:5353
domain-key s1,shop.test,{key}
<virtual-mta second>
    smtp-source-host {second} second.shop.test
</virtual-mta>
<domain *>
    dkim-sign yes
    dkim-algorithm ed25519-sha256
</domain>
'''
HEADER = ('From: a@shop.test\nList-Unsubscribe: <https://shop.test/u>\n'
          'List-Unsubscribe-Post: List-Unsubscribe=One-Click\nFeedback-ID: a:b:c:shop\n')


def reverse(address):
    return '.'.join(reversed(address.split('.'))) + '.in-addr.arpa'


def check(daemon, *words):
    answer = daemon.cli('check', 'domain', *words, '--json')
    assert answer.stdout, answer.stderr
    return answer.returncode, json.loads(answer.stdout)


@pytest.fixture(name='daemon')
def daemon_fixture(world):
    """v's address is as it should be; the second one's is not."""
    key, second = Key(world.program('ringpost'), world.path(''), 'ed25519'), world.address()
    daemon = world.daemon()
    texts = {'shop.test': f'v=spf1 ip4:{daemon.source} -all',
             '_dmarc.shop.test': 'v=DMARC1; p=reject; aspf=s; rua=mailto:a@shop.test',
             's1._domainkey.shop.test': key.record.decode()}
    resolver = Resolver(
        world, f'v.relay.test. A {daemon.source}', f'{reverse(daemon.source)}. PTR v.relay.test.',
        'second.shop.test. A 192.0.2.1', 'bounce.shop.test. MX 10 v.relay.test.',
        more='\n'.join(['    local-zone: "127.in-addr.arpa." static',
                        *(f"    local-data: '{name}. TXT \"{text}\"'"
                          for name, text in texts.items())]))
    daemon.write(CONFIG.format(resolver=resolver.address, key=key.path, second=second))
    daemon.second = second
    return daemon.start()


def test_what_receivers_see(daemon):
    code, answer = check(daemon, 'Shop.TEST')
    rows = {row['vmta']: row for row in answer['data']['source']}
    assert code == 1 and answer['status'] == 'error' and set(rows) == {'v', 'second'}
    assert answer['data']['dmarc']['policy'] == 'reject'
    assert answer['data']['dmarc']['aspf'] == 'strict'
    assert [row['record'] for row in answer['data']['key']] == ['matches']
    good, bad = rows['v'], rows['second']
    assert {key: good[key] for key in ('ip', 'name', 'iprev', 'heloLeads', 'spf', 'dkim', 'dmarc',
                                       'wrong')} == {
        'ip': daemon.source, 'name': 'v.relay.test', 'iprev': 'pass', 'heloLeads': 'here',
        'spf': 'pass', 'dkim': 'aligned', 'dmarc': 'pass', 'wrong': ''}
    assert (bad['ip'], bad['iprev'], bad['heloLeads'], bad['spf'], bad['spfBy'], bad['dmarc']) == \
        (daemon.second, 'none', 'elsewhere', 'fail', '-all', 'pass')
    assert bad['wrong'] == 'SPF, reverse name'
    code, answer = check(daemon, 'shop.test/v')
    assert code == 0 and answer['status'] == 'success', answer
    # Another sender's domain has no record of its own, and is not aligned where SPF is strict.
    code, answer = check(daemon, 'shop.test/v', '--sender=bounce.shop.test')
    row, = answer['data']['source']
    assert code == 1 and (row['spf'], row['spfAligned'], row['wrong']) == ('none', False, 'SPF')
    text = daemon.cli('check', 'domain', 'shop.test')
    assert text.returncode == 1
    assert 'DMARC: p=reject by the record of shop.test' in text.stdout
    assert 'SPF, reverse name' in text.stdout and 'matches' in text.stdout
    assert daemon.shutdown() == 0


def test_a_sample(daemon):
    path = daemon.world.path('sample.eml')
    words = ('shop.test/v', f'--sample={path}')

    def write(text):
        with open(path, 'w', encoding='ascii') as file:
            file.write(text)

    write(HEADER + '\nbody\n')
    code, answer = check(daemon, *words)
    assert code == 0 and answer['data']['sample'] == {'signatures': 0, 'wrong': []}
    text = daemon.cli('check', 'domain', *words)
    assert text.returncode == 0 and 'nothing is missing' in text.stdout
    write(HEADER.replace('https:', 'http:').replace('Feedback-ID', 'X-Other') + '\nbody\n')
    code, answer = check(daemon, *words)
    assert code == 1 and answer['status'] == 'success'
    assert len(answer['data']['sample']['wrong']) == 2
    # A signature of its own counts instead of what would be signed.
    write('DKIM-Signature: v=1; a=rsa-sha256; d=shop.test; s=s1; h=From:List-Unsubscribe;\n'
          ' bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\n' + HEADER + '\nbody\n')
    code, answer = check(daemon, *words)
    assert code == 1 and answer['data']['sample']['signatures'] == 1
    assert answer['data']['sample']['wrong'] == ['no signature covers List-Unsubscribe-Post',
                                                 'no signature covers Feedback-ID']
    text = daemon.cli('check', 'domain', *words)
    assert text.returncode == 1 and 'no signature covers Feedback-ID' in text.stdout
    missing = daemon.cli('check', 'domain', 'shop.test', '--sample', path + '.none')
    assert missing.returncode == 2 and 'No such file' in missing.stderr
