"""`ringpost show ips` against the kernel's own counters, over a wire that loses packets; and what it
shows where BPF may not be used."""
import ctypes
import glob
import os
import re

import pytest

from harness import say, until
from wires import Wires

PR_CAPBSET_DROP = 24
CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 12, 21, 38, 39
WITHIN = 0.02
FROM_BPF = 'figures per source address come from BPF'
NOT_FROM_BPF = 'figures per source address come from TCP_INFO, not from BPF: '


def need_bpf(world):
    """Only what this machine cannot do is skipped; everything else must work."""
    with open('/proc/self/status', encoding='ascii') as status:
        effective = int(re.search(r'^CapEff:\s*(\w+)$', status.read(), re.M).group(1), 16)
    for number in (CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF):
        if not effective & (1 << number):
            pytest.skip(f'BPF needs capability {number}')
    if not os.path.exists('/sys/kernel/btf/vmlinux'):
        pytest.skip('the kernel has no BTF')
    with open('/proc/self/mounts', encoding='utf-8') as mounts:
        if ' cgroup2 ' not in mounts.read():
            pytest.skip('no cgroup version 2 is mounted')
    with open(world.program('ringpostd'), 'rb') as program:
        if b'built without BPF' in program.read():
            pytest.skip('built without BPF')


def forbid_bpf():
    for number in (CAP_BPF, CAP_SYS_ADMIN):
        assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == 0


def sender(world, wires, name='daemon', sources=(1, 2), domains='', more=''):
    """A daemon that sends from these addresses to the receivers' number 100."""
    hosts = ''.join(f'    smtp-source-host {address(figure)} relay.test\n' for figure in sources
                    for address in (wires.v4, wires.v6))
    return world.daemon(
        f'host-name relay.test\ncontrol-socket {{daemon.control_path}}\nshards 2\n'
        f'smtp-listener {{daemon.listen}}:2525\n'
        f'<source 127.0.0.0/8>\n    always-allow-relaying yes\n    suppress-local-dsn yes\n    default-virtual-mta v\n'
        f'</source>\n<virtual-mta v>\n{hosts}</virtual-mta>\n'
        f'<spool {{daemon.spool_path}}>\n    segment-size 2m\n</spool>\n'
        f'<acct-file {{daemon.acct_path}}>\n    records d,b\n</acct-file>\n{domains}'
        f'<domain *>\n    smtp-hosts [{wires.v4(100)}]:2525\n    retry-after 1h\n{more}'
        f'</domain>\n', name)


def six(wires):
    """Two of the generator's domains go by IPv6."""
    return ''.join(f'<domain d{number}.test>\n    smtp-hosts [IPv6:{wires.v6(100)}]:2525\n'
                   f'</domain>\n' for number in (0, 1))


def sockets(wires):
    """Open connections to receivers, as ss sees them: state, octets that wait, address, details."""
    text = wires.sender.run('ss', '-tinOH', 'state', 'all', 'dport = :2525')
    found = []
    for line in text.split('\n'):
        fields = line.split()
        if len(fields) < 5 or fields[3].startswith('127.'):
            continue
        local = fields[3].rsplit(':', 1)[0].strip('[]')
        found.append({'state': fields[0], 'waiting': int(fields[2]), 'ip': local, 'text': line})
    return found


def detail(socket, name):
    match = re.search(rf'\b{name}:(\d+)(?:/(\d+))?', socket['text'])
    return int(match.group(2) or match.group(1)) if match else 0


def is_quiet(wires):
    """Nothing is under way between the machines any more."""
    found = [socket for socket in sockets(wires) if socket['state'] not in ('TIME-WAIT', 'LISTEN')]
    return all(socket['state'] == 'ESTAB' and socket['waiting'] == 0 for socket in found)


def total(rows, name):
    return sum(row[name] for row in rows)


def is_close(figure, wanted):
    return abs(figure - wanted) <= WITHIN * wanted


def deliver(world, wires, daemon, messages):
    """Through the daemon over the wire; what the kernel counted meanwhile, the injector left out."""
    before = wires.sender.tcp()
    sums = world.generator(daemon.listen, '--messages', str(messages), '--sessions', '4',
                           '--domains', '10', '--sizes', '20k', before=wires.sender.enter).wait()
    daemon.wait_for(60, delivered=messages, queued_rcpts=0)
    until(lambda: is_quiet(wires), 60, 'the wire to be quiet', pause=0.1)
    after = wires.sender.tcp()
    counted = {name: after[name] - before[name] for name in after}
    counted['ActiveOpens'] -= sums['connections']
    return counted


def two_machines(world, percent):
    wires = Wires(world)
    wires.lose(percent)
    world.sink('--listen', f'[{wires.v6(100)}]:2525', address=wires.v4(100),
               before=wires.receiver.enter)
    return wires


def assert_sane(rows, wires):
    assert {row['ip'] for row in rows} == {address(figure) for figure in (1, 2)
                                           for address in (wires.v4, wires.v6)}
    for row in rows:
        assert row['connects'] >= row['established'] > 0
        assert 0 < row['srtt_min_us'] <= row['srtt_mean_us']
        assert row['srtt_last_us'] >= row['srtt_min_us']


def test_bpf_agrees_with_nstat_when_five_percent_are_lost(world):
    """Many short connections: everything about them has ended when it is compared."""
    need_bpf(world)
    wires = two_machines(world, 5)
    daemon = sender(world, wires, domains=six(wires),
                    more='    max-msg-per-connection 2\n    connection-idle-timeout 1s\n')
    daemon.start(before=wires.sender.enter)
    assert FROM_BPF in daemon.program.log()
    counted = deliver(world, wires, daemon, 180)
    until(lambda: not [socket for socket in sockets(wires) if socket['state'] == 'ESTAB'], 30,
          'all connections to end', pause=0.1)
    until(lambda: is_quiet(wires), 60, 'the wire to be quiet', pause=0.1)
    data = daemon.ask('show', 'ips')
    rows = data['ip']
    retransmits = wires.sender.tcp()['RetransSegs']
    assert data['source'] == 'bpf' and {row['source'] for row in rows} == {'bpf'}
    assert_sane(rows, wires)
    say(f'5 % lost: connects {total(rows, "connects")}, kernel {counted["ActiveOpens"]}; '
        f'retransmits {total(rows, "retransmits")}, kernel {retransmits}')
    assert counted['ActiveOpens'] >= 80 and retransmits >= 50, 'too little to compare'
    assert is_close(total(rows, 'connects'), counted['ActiveOpens'])
    assert is_close(total(rows, 'retransmits'), retransmits)
    assert total(rows, 'established') == total(rows, 'connects')
    assert total(rows, 'bytes_sent') > 180 * 20000


def test_bpf_agrees_with_ss_when_one_percent_is_lost(world):
    """Connections that stay open: each one's figures can be compared."""
    need_bpf(world)
    wires = two_machines(world, 1)
    daemon = sender(world, wires, domains=six(wires), more='    connection-idle-timeout 5m\n')
    daemon.start(before=wires.sender.enter)
    counted = deliver(world, wires, daemon, 800)
    rows = daemon.ask('show', 'ips')['ip']
    found = sockets(wires)
    assert_sane(rows, wires)
    say(f'1 % lost: connects {total(rows, "connects")}, kernel {counted["ActiveOpens"]}; '
        f'retransmits {total(rows, "retransmits")}, kernel {counted["RetransSegs"]}')
    assert counted['RetransSegs'] >= 20, 'too little to compare'
    assert is_close(total(rows, 'connects'), counted['ActiveOpens'])
    assert is_close(total(rows, 'retransmits'), counted['RetransSegs'])
    assert len(found) == total(rows, 'established'), 'all of them are still open'
    for row in rows:
        own = [socket for socket in found if socket['ip'] == row['ip']]
        assert len(own) == row['connects']
        for name in ('bytes_sent', 'bytes_received'):
            seen = sum(detail(socket, name) for socket in own)
            assert is_close(row[name], seen), (name, row, own)
        seen = sum(detail(socket, 'retrans') for socket in own)
        assert abs(row['retransmits'] - seen) <= max(1, WITHIN * seen)


def test_without_permission_tcp_info_tells(world):
    """The same run where BPF is forbidden: one line says so, and the figures are there."""
    wires = two_machines(world, 5)

    def prepare():
        wires.sender.enter()
        forbid_bpf()

    daemon = sender(world, wires, domains=six(wires),
                    more='    max-msg-per-connection 2\n    connection-idle-timeout 1s\n')
    daemon.start(before=prepare)
    assert daemon.program.log().count(NOT_FROM_BPF) == 1 and FROM_BPF not in daemon.program.log()
    counted = deliver(world, wires, daemon, 60)
    until(lambda: daemon.counters()['connections_out'] == 0, 30, 'all connections to end')
    data = daemon.ask('show', 'ips')
    rows = data['ip']
    assert data['source'] == 'tcp_info' and {row['source'] for row in rows} == {'tcp_info'}
    assert_sane(rows, wires)
    kernel = wires.sender.tcp()['RetransSegs']
    say(f'5 % lost, TCP_INFO: connects {total(rows, "connects")}, kernel {counted["ActiveOpens"]}; '
        f'retransmits {total(rows, "retransmits")}, kernel {kernel}')
    assert total(rows, 'connects') == daemon.counters()['connects']
    assert is_close(total(rows, 'connects'), counted['ActiveOpens'])
    # What is sent again after a connection was closed is not seen this way.
    assert 0 < total(rows, 'retransmits') <= kernel
    assert total(rows, 'bytes_sent') > 60 * 20000


@pytest.mark.parametrize('source', ['bpf', 'tcp_info'])
def test_attempts_that_fail_are_told_apart(world, source):
    """No answer, a refusal, a reset later on; the kernel counts failed attempts and resets too."""
    if source == 'bpf':
        need_bpf(world)
    wires = Wires(world)
    wires.swallow(101)
    world.sink('--rule', 'rcpt reset', address=wires.v4(103), before=wires.receiver.enter)
    # The generator's domains, in turn.
    domains = ''.join(f'<domain d{number}.test>\n    smtp-hosts [{wires.v4(figure)}]:2525\n'
                      f'    connect-timeout 2s\n</domain>\n'
                      for number, figure in enumerate((101, 102, 103)))
    daemon = sender(world, wires, sources=(3,), domains=domains)

    def prepare():
        wires.sender.enter()
        if source == 'tcp_info':
            forbid_bpf()

    daemon.start(before=prepare)
    before = wires.sender.tcp()
    world.generator(daemon.listen, '--messages', '3', '--sessions', '1', '--domains', '3',
                    before=wires.sender.enter).wait()
    daemon.wait_for(20, connects=3, connect_failures=2, deferred=1, connections_out=0)
    after = wires.sender.tcp()
    data = daemon.ask('show', 'ips')
    [row] = data['ip']
    assert (data['source'], row['ip']) == (source, wires.v4(3))
    wanted = {'connects': 3, 'established': 1, 'syn_timeouts': 1, 'refused': 1, 'resets': 1}
    assert {name: row[name] for name in wanted} == wanted
    # The kernel does not count the attempt that we gave up ourselves.
    assert after['AttemptFails'] - before['AttemptFails'] == row['refused']
    assert after['EstabResets'] - before['EstabResets'] == row['resets']
    assert row['retransmits'] == after['RetransSegs'] - before['RetransSegs'] > 0
    lines = daemon.cli('show', 'ips').stdout.split('\n')
    assert lines[0].split()[:3] == ['ip', 'connects', 'established']
    assert lines[2].split()[:3] == [wires.v4(3), '3', '1'] and lines[2].split()[-1] == source
    assert f'ip[0].source="{source}"\n' in daemon.cli('--dom', 'show', 'ips').stdout


def test_every_figure_stands_in_the_docs(world):
    sink = world.sink()
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n</domain>\n')
    daemon.start()
    world.generator(daemon.listen, '--messages', '1', '--sessions', '1').wait()
    daemon.wait_for(10, delivered=1)
    [row] = daemon.ask('show', 'ips')['ip']
    page = os.path.join(os.path.dirname(__file__), '..', '..', 'docs', 'ips.md')
    with open(page, encoding='utf-8') as text:
        named = re.findall(r'^\| `(\w+)` \|', text.read(), re.M)
    assert named == list(row)


def test_daemons_side_by_side_count_for_themselves(world):
    """Each has a cgroup of its own, which goes with it; so do those of daemons that were killed."""
    need_bpf(world)
    sink = world.sink()
    daemons = [world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n</domain>\n',
                            f'daemon{number}').start() for number in range(2)]
    places = [re.search(r'in cgroup (\S+)', daemon.program.log()).group(1) for daemon in daemons]
    assert len(set(places)) == 2 and all(os.path.isdir(place) for place in places)
    for daemon, messages in zip(daemons, (30, 70)):
        world.generator(daemon.listen, '--messages', str(messages), '--sessions', '2',
                        name=f'gen{messages}').wait()
        daemon.wait_for(20, delivered=messages)
    for daemon, messages in zip(daemons, (30, 70)):
        [row] = daemon.ask('show', 'ips')['ip']
        assert row['ip'] == daemon.source and row['connects'] == daemon.counters()['connects']
        assert row['bytes_sent'] > messages * 2000
    daemons[0].kill()
    assert daemons[1].shutdown() == 0
    assert not os.path.exists(places[1])
    daemons[0].start()
    assert not os.path.exists(places[0]), 'what the killed one left behind'
    assert daemons[0].shutdown() == 0
    assert not set(places) & set(glob.glob(os.path.dirname(places[0]) + '/ringpost-*'))
