"""The cases of tests/sim/golden by the real sink: the same rules, the same sums in the end.

The golden texts say what happens when, in virtual time. Here each case is played once over real
sockets with the messages queued beforehand, and its last line must hold.
"""
import glob
import os
import re

import pytest

from dns_servers import Resolver
from harness import send_message, until
from test_mx import need_unbound  # noqa: F401 (a fixture of every test here)

GOLDEN = os.path.join(os.path.dirname(__file__), '../sim/golden')
TEXT = b'From: a@sender.test\r\nSubject: test\r\n\r\nHello\r\n'
SUMS = {'delivered': 'delivered', 'bounced': 'bounced', 'deferred': 'deferred',
        'in doubt': 'in_doubt', 'sent ahead': 'sent_ahead', 'came back': 'returned',
        'by BDAT': 'sent_chunked'}


class Case:
    """What stands in a golden text."""

    def __init__(self, path):
        with open(path, encoding='utf-8') as golden:
            lines = golden.read().splitlines()
        self.rules = {receiver: [line[3:] for line in lines if line.startswith(f'{receiver}: ')]
                      for receiver in 'AB'}
        self.is_outage = any(line.startswith('B is down for') for line in lines)
        # That A comes back is for hours that are not played here.
        self.is_down = not self.is_outage and any(line.startswith('A is down') for line in lines)
        self.by_route = 'by smtp-hosts A' in lines
        # Of a list, or of the provider whose hosts both are.
        self.has_replies = any(line.startswith(('reply ', 'A and B are hosts of')) for line in lines)
        self.is_brief = any(' messages to each of ' in line for line in lines)
        self.by_chunks = 'nothing is sent ahead' in lines
        self.source_count = 2 if 'two source addresses' in lines else 1
        last = lines[-1].removeprefix('in all: ')
        self.sums = {SUMS[part.rsplit(' ', 1)[0]]: int(part.rsplit(' ', 1)[1])
                     for part in last.split(', ')}
        self.senders = sorted(set(re.findall(r's\d [AB](?=  (?:dot|chunk) of )', '\n'.join(lines))))


def names():
    """What lists of replies lead to has times of its own, and sums that follow from what was there
    at the time; what takes hours is told in short. Those cases are not played here."""
    cases = {os.path.basename(path)[:-len('.txt')]: Case(path)
             for path in sorted(glob.glob(os.path.join(GOLDEN, '*.txt')))}
    return [name for name, case in cases.items() if not case.has_replies and not case.is_brief]


def sink_of(world, case, daemon, receiver, address):
    rules = []
    for rule in case.rules[receiver]:
        rules += ['--rule', rule.replace('10.9.0.1', daemon.source)]
    return world.sink(*rules, address=address, name=receiver)


def start(world, case):
    daemon = world.daemon()
    addresses = {'A': world.address(), 'B': world.address()}
    server = Resolver(world, 'd0.test. MX 10 a.test.', 'd0.test. MX 20 b.test.',
                      f'a.test. A {addresses["A"]}', f'b.test. A {addresses["B"]}')
    sources = ''.join(f'    smtp-source-host {world.address()} other.test\n'
                      for _ in range(case.source_count - 1))
    how = f'pipeline-across-messages {"no" if case.by_chunks else "yes"}'
    if case.by_route:
        how = f'smtp-hosts [{addresses["A"]}]:2525'
    daemon.write(daemon.base().replace('</virtual-mta>', sources + '</virtual-mta>') +
                 f'name-server {server.address}:5353\nallow-loopback-destinations yes\n'
                 f'<domain *>\n    default-smtp-port 2525\n    retry-after 1s\n'
                 f'    max-smtp-out 1\n    {how}\n</domain>\n')

    def start_sinks():
        return {receiver: sink_of(world, case, daemon, receiver, address)
                for receiver, address in addresses.items() if receiver == 'B' or not case.is_down}

    return daemon.start(), start_sinks


@pytest.mark.parametrize('name', names())
def test_timeline(world, name):
    case = Case(os.path.join(GOLDEN, f'{name}.txt'))
    daemon, start_sinks = start(world, case)
    sinks = start_sinks() if not case.is_outage else None
    assert 'queues paused: 1' in daemon.cli('pause', 'queue', 'd0.test/v').stdout
    for number in range(case.sums['delivered'] + case.sums['bounced']):
        code, text = send_message(daemon.listen, 'a@sender.test', [f'u{number + 1}@d0.test'], TEXT)
        assert code == 250, text
    assert daemon.cli('resume', 'queue', 'd0.test/v').returncode == 0
    if case.is_outage:
        until(lambda: daemon.counters()['connect_failures'] >= 2, 20, 'two refused connections')
        sinks = start_sinks()
        case.sums.pop('sent_ahead')  # there were more connections there
    daemon.wait_for(30, delivered=case.sums['delivered'], queued_rcpts=0)
    counters = daemon.counters()
    assert {key: counters[key] for key in case.sums} == case.sums
    served = {receiver for receiver, sink in sinks.items() if sink.stop()['messages'] > 0}
    assert served <= {sender[-1] for sender in case.senders}
