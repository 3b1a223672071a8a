"""DKIM keys and the records that belong to them: what the DNS has, and which key signs meanwhile."""
import json
import shutil

import pytest
from dkim_mail import Key, verdicts
from dns_servers import Resolver
from harness import until
from test_dkim import SIMPLE, Signer, signature_of

if not shutil.which('unbound', path='/usr/sbin'):
    pytest.skip('unbound is not installed', allow_module_level=True)


class Zone:
    """A resolver of ours; records may be published while it runs."""

    def __init__(self, world):
        self.world, self.records, self.resolver = world, {}, None
        self.address = None
        self.publish()

    def publish(self, **records):
        """SELECTOR=RECORD below shop.example; None takes it away."""
        self.records.update(records)
        lines = '    local-zone: "shop.example." static\n' + ''.join(
            f"    local-data: '{name}._domainkey.shop.example. 60 TXT \"{record.decode()}\"'\n"
            for name, record in self.records.items() if record)
        if self.resolver is None:
            self.resolver = Resolver(self.world, 'a.test. A 192.0.2.1', more=lines)
            self.config = self.resolver.path + '/unbound.conf'
            self.text = open(self.config, encoding='utf-8').read().replace(lines, '{lines}')
            return
        self.resolver.program.end()
        with open(self.config, 'w', encoding='utf-8') as file:
            file.write(self.text.replace('{lines}', lines))
        self.resolver.start()

    def line(self):
        return f'name-server {self.resolver.address}:5353\n'


def keys_of(world, *names):
    return [Key(world.program('ringpost'), world.path(''), 'ed25519', name) for name in names]


def check(signer, *words):
    """The exit code and the rows of ringpost check dkim."""
    answer = signer.daemon.cli('check', 'dkim', *words, '--json')
    assert answer.stdout, answer.stderr
    return answer.returncode, json.loads(answer.stdout)['data'].get('key')


def test_the_verb_compares_records_and_keys(world):
    a, b = keys_of(world, 'a', 'b')
    zone = Zone(world)
    lines = zone.line()
    signer = Signer(world, lines + f'domain-key s1,shop.example,{a.path}\n',
                    'dkim-algorithm ed25519-sha256')
    until(lambda: 'key s1,shop.example: the record s1._domainkey.shop.example is missing' in
          signer.daemon.program.log(), 10, 'a line at the start')
    assert check(signer)[0] == 1
    zone.publish(s1=a.record)
    # That there is no record is remembered for some seconds on the way.
    until(lambda: check(signer, 's1,shop.example')[0] == 0, 20, 'the record to be seen')
    assert [row['record'] for row in check(signer, 'all')[1]] == ['matches']
    text = signer.daemon.cli('check', 'dkim')
    assert text.returncode == 0 and 's1' in text.stdout and 'matches' in text.stdout
    zone.publish(s1=None, s2=b.record, s3=b'v=DKIM1; k=ed25519; p=', s4=b'v=DKIM1; p=AQAB')
    signer.reload(keys=lines + ''.join(f'domain-key s{i},shop.example,{a.path}\n'
                                       for i in range(1, 5)))
    code, rows = check(signer, 'all')
    assert code == 1 and [row['record'] for row in rows[1:]] == ['other-key', 'revoked', 'unfit']
    assert [row['signs'] for row in rows] == ['s1', '', '', '']


def test_the_old_key_signs_until_the_new_record_is_there(world):
    old, new = keys_of(world, 'old', 'new')
    zone = Zone(world)
    lines = zone.line()
    zone.publish(s1=old.record)
    records = {'s1._domainkey.shop.example': old.record, 's2._domainkey.shop.example': new.record}
    signer = Signer(world, lines + f'domain-key s1,shop.example,{old.path}\n',
                    'dkim-algorithm ed25519-sha256')
    signer.reload(keys=lines + f'domain-key s2,shop.example,{new.path}\n')
    assert signer.send(SIMPLE)[0] == 250
    assert b's=s1;' in signature_of(signer.content(1))
    assert verdicts(signer.content(1), records) == [True]
    until(lambda: 's1 signs until it is there' in signer.daemon.program.log(), 10, 'a line')
    assert signer.status()['keysWaiting'] == 1
    code, rows = check(signer)
    assert code == 1 and rows[0]['signs'] == 's1' and rows[0]['record'] == 'missing', rows
    zone.publish(s2=new.record)
    until(lambda: check(signer)[0] == 0, 20, 'the record to be seen')
    until(lambda: signer.status()['keysWaiting'] == 0, 10, 'the end of the wait')
    assert signer.send(SIMPLE)[0] == 250
    assert b's=s2;' in signature_of(signer.content(2))
    assert verdicts(signer.content(2), records) == [True]
    assert 'the record of key s2,shop.example is there' in signer.daemon.program.log()
    # What waits keeps its signature while its key signs, and gets the new one's then.
    signer.receiver.replies['b@one.test'] = '451 4.2.0 later'
    assert signer.send(SIMPLE)[0] == 250
    signer.daemon.wait_for_rows(1, kinds='t')
    signer.reload(keys=lines + f'domain-key s4,shop.example,{old.path}\n')
    signer.daemon.cli('schedule', '*/*')
    signer.daemon.wait_for_rows(2, kinds='t')
    assert signer.daemon.counters()['dkim_signatures_again'] == 0
    zone.publish(s4=old.record)
    until(lambda: check(signer)[0] == 0 and signer.status()['keysWaiting'] == 0, 20, 'the record')
    signer.receiver.replies.clear()
    signer.daemon.cli('schedule', '*/*')
    records['s4._domainkey.shop.example'] = old.record
    assert b's=s4;' in signature_of(signer.content(3))
    assert verdicts(signer.content(3), records) == [True]
    assert signer.daemon.counters()['dkim_signatures_again'] == 1
    # Without the wait.
    signer.reload(keys=lines + 'dkim-wait-for-record no\n' +
                  f'domain-key s3,shop.example,{old.path}\n')
    assert signer.send(SIMPLE)[0] == 250
    assert b's=s3;' in signature_of(signer.content(4))
    assert signer.daemon.shutdown() == 0
