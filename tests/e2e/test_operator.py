"""What an operator does: looks, pauses, deletes, schedules, stops; and what others try on the way."""
import json
import os
import pwd
import random
import resource
import socket
import subprocess
import time

import pytest

import load
from harness import Smtp, accounting_rows, final_rows_by_rcpt, send_message, until, verify

TEXT = b'From: a@sender.test\r\nSubject: test\r\n\r\nHello\r\n'


def nowhere(world, more=''):
    """A daemon whose receiver does not listen yet, and that receiver's address."""
    address = world.address()
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{address}]:2525\n'
                          f'    retry-after 1h\n{more}</domain>\n').start()
    return daemon, address


def fill(daemon, **domains):
    """So many messages for each domain NAME.test."""
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    for domain, count in domains.items():
        for number in range(count):
            client.envelope('a@sender.test', [f'{number}@{domain}.test'])
            assert client.data(TEXT)[0] == 250
    client.close()
    wait_for_rest(daemon, sum(domains.values()))


def wait_for_rest(daemon, count):
    """Until so many wait for a receiver that is not there, and nothing is on its way to another
    shard any more, where nobody sees it."""
    def rests():
        rows = daemon.ask('show', 'queues')['queue']
        return sum(row['rcp'] for row in rows) == count and all(row['retryTime'] for row in rows)

    until(rests, 10, f'{count} in queues that rest')


def by_name(rows):
    return {row['name']: row for row in rows}


def test_show_in_all_formats(world):
    """status, queues, topqueues, domains and vmtas agree with each other in text, JSON and DOM."""
    daemon, _ = nowhere(world)
    fill(daemon, one=1, two=2, three=3)
    status = daemon.ask('show', 'status')
    assert status['status']['queue']['smtp'] == {
        'rcp': 6, 'dom': 3, 'kb': status['counters']['queued_bytes'] // 1024}
    assert status['status']['traffic']['total']['in'] == {
        'rcp': 6, 'msg': 6, 'kb': status['counters']['accepted_bytes'] // 1024}
    queues = by_name(daemon.ask('show', 'queues')['queue'])
    assert {name: row['rcp'] for name, row in queues.items()} == {
        'one.test/v': 1, 'two.test/v': 2, 'three.test/v': 3}
    top = daemon.ask('show', 'topqueues', '--maxitems=2')['queue']
    assert [row['name'] for row in top] == ['three.test/v', 'two.test/v']
    assert {name: row['rcp'] for name, row in by_name(daemon.ask('show', 'domains')['domain']).items()
            } == {'one.test': 1, 'two.test': 2, 'three.test': 3}
    assert by_name(daemon.ask('show', 'vmtas')['vmta'])['v']['rcp'] == 6
    assert [row['name'] for row in daemon.ask('show', 'queues', 'two.test')['queue']] == \
        ['two.test/v']
    for what in ['queues', 'topqueues', 'domains', 'vmtas']:
        lines = daemon.cli('show', what).stdout.splitlines()
        assert len(lines) >= 3, lines
        assert all(len(line.split()) >= 3 for line in lines[2:]), lines
    three = [line.split() for line in daemon.cli('show', 'queues').stdout.splitlines()
             if line.startswith('three.test/v')]
    assert three[0][1] == '3'
    dom = daemon.cli('--dom', 'show', 'queues').stdout.splitlines()
    assert 'queue[1].name="three.test/v"' in dom and 'queue[1].rcp="3"' in dom
    assert 'status.queue.smtp.rcp="6"' in daemon.cli('show', 'status', '--dom').stdout.splitlines()
    assert 'relay.test' in daemon.cli('show', 'status').stdout
    settings = {row['name']: row for row in daemon.ask('show', 'settings', 'one.test/v')['setting']
                if row['section'] == 'domain'}
    assert settings['bounce-upon-5xx-greeting']['from'] == 'default'
    file, line = settings['smtp-hosts']['from'].rsplit(':', 1)
    assert file == daemon.config_path
    with open(file, encoding='utf-8') as config:
        assert config.readlines()[int(line) - 1].split() == [
            'smtp-hosts', settings['smtp-hosts']['value']]


def test_a_message_to_several_counts_once(world):
    """Recipients are counted one by one, messages and their octets as often as they go out; what
    waits, by recipient."""
    daemon, address = nowhere(world)
    text = TEXT + b'x' * 70 + b'\r\n'
    text += (b'y' * 998 + b'\r\n') * 30
    rcpts = ['1@one.test', '2@one.test', '3@one.test', '1@two.test']
    assert send_message(daemon.listen, 'a@s.test', rcpts, text)[0] == 250
    wait_for_rest(daemon, 4)
    size = daemon.counters()['queued_bytes'] // 4
    assert len(text) <= size <= (len(text) + 2000) * 17 // 16
    status = daemon.ask('show', 'status')['status']
    assert status['queue']['smtp']['kb'] == size * 4 // 1024
    kilobytes = {row['name']: row['kb'] for row in daemon.ask('show', 'queues')['queue']}
    assert kilobytes == {'one.test/v': size * 3 // 1024, 'two.test/v': size // 1024}
    assert f'{size * 4 // 1024} ' in next(
        line for line in daemon.cli('show', 'status').stdout.splitlines()
        if line.startswith('smtp '))
    sink = world.sink(address=address)
    daemon.ask('schedule', '*/*')
    daemon.wait_for(15, delivered=4, queued_rcpts=0, queued_bytes=0)
    traffic = daemon.ask('show', 'status')['status']['traffic']['total']
    assert (traffic['in']['rcp'], traffic['in']['msg']) == (4, 1)
    assert (traffic['out']['rcp'], traffic['out']['msg']) == (4, 2)
    assert len(text) * 2 // 1024 <= traffic['out']['kb'] <= size * 2 // 1024
    assert sink.stop()['messages'] == 2


def test_wrong_commands(world):
    """Told why, with an exit code of its own; without a daemon too."""
    daemon, _ = nowhere(world)
    for words in ['bogus'], ['show', 'bogus'], ['delete'], ['list'], ['show', 'queues', '--sort=x']:
        answer = daemon.cli(*words)
        assert answer.returncode != 0 and answer.stderr, words
    assert daemon.cli('show', 'version').returncode == 0
    daemon.kill()
    answer = daemon.cli('show', 'status')
    assert answer.returncode == 2 and answer.stderr


def test_pause_survives_a_restart(world):
    """A paused queue delivers nothing, also after a crash; others go on; resuming is enough."""
    daemon, address = nowhere(world)
    fill(daemon, held=5, free=5)
    assert daemon.ask('pause', 'queue', 'held.test/v') == {'affected': 1}
    daemon.kill()
    daemon.start()
    assert by_name(daemon.ask('show', 'queues')['queue'])['held.test/v']['paused'] is True
    assert [row['name'] for row in daemon.ask('show', 'queues', '--paused=yes')['queue']] == \
        ['held.test/v']
    sink = world.sink(address=address)
    daemon.ask('schedule', '*/*')
    daemon.wait_for(10, delivered=5, queued_rcpts=5)
    assert send_message(daemon.listen, 'a@s.test', ['more@held.test'], TEXT)[0] == 250
    time.sleep(1)
    assert daemon.counters()['delivered'] == 5
    daemon.ask('resume', 'queue', 'held.test/v')
    daemon.ask('schedule', 'held.test/v')
    daemon.wait_for(10, delivered=11, queued_rcpts=0)
    assert sink.stop()['messages'] == 11
    assert daemon.shutdown() == 0


DELETED = ('b', 'a@sender.test', 'failed', '5.0.0 (undefined status)',
           'smtp;550 5.0.0 deleted by an operator', 'other', '', '')


def deleted(row):
    """What tells a record of a deletion; none of it reads as a receiver's refusal."""
    return tuple(row[field] for field in ('type', 'orig', 'dsnAction', 'dsnStatus', 'dsnDiag',
                                          'bounceCat', 'dlvSourceIp', 'dlvSize'))


def test_list_and_delete(world):
    """What is deleted gets a bounce record each, does not come back, and the rest stays."""
    daemon, _ = nowhere(world)
    fill(daemon, keep=3, drop=4)
    listed = daemon.ask('list', '--queue=drop.test/v')['rcpt']
    assert sorted(row['rcpt'] for row in listed) == [f'{n}@drop.test' for n in range(4)]
    assert {row['orig'] for row in listed} == {'a@sender.test'}
    assert daemon.ask('delete', '--queue=drop.test/v', '--older-than=1h') == {'affected': 0}
    assert daemon.ask('delete', '--queue=drop.test/v') == {'affected': 4}
    rows = final_rows_by_rcpt(daemon.wait_for_rows(4))
    assert sorted(rows) == [f'{n}@drop.test' for n in range(4)]
    assert {deleted(row) for found in rows.values() for row in found} == {DELETED}
    counters = daemon.counters()
    assert (counters['deleted'], counters['bounced'], counters['delivered']) == (4, 0, 0)
    daemon.kill()
    daemon.start()
    assert daemon.counters()['queued_rcpts'] == 3
    assert daemon.ask('list', '--queue=drop.test/v')['rcpt'] == []
    assert len(daemon.ask('list', '--queue=*/*', '--maxitems=2')['rcpt']) == 2
    assert len(daemon.wait_for_rows(4)) == 4
    # What is no longer in memory leaves the same record.
    assert daemon.ask('delete', '--queue=*/*') == {'affected': 3}
    rows = final_rows_by_rcpt(daemon.wait_for_rows(7))
    assert {deleted(rows[f'{n}@keep.test'][0]) for n in range(3)} == {DELETED}
    daemon.wait_for(10, queued_rcpts=0, deleted=3, bounced=0)


def test_shutdown_under_load_loses_nothing(world):
    """Exit code 0 in the middle of traffic, and the next life has what was left."""
    sink = world.sink('--rule', 'dot delay=5')
    daemon = world.daemon('{base}' + load.CONFIG % sink.address).start()
    generator = world.generator(daemon.listen, '--survive', '--sessions', '10', '--rate', '1000',
                                '--messages', '100000')
    for _ in range(3):
        until(lambda: daemon.counters()['delivered'] > 200, 10, 'traffic')
        assert daemon.shutdown() == 0
        daemon.start()
    load.settle(daemon, generator)
    verdict = verify(world, generator.ledger, sink.ledger)
    assert verdict['accepted'] > 600
    # An orderly end waits for what is under way: nothing is sent twice.
    assert (verdict['lost'], verdict['duplicates'], verdict['unexpected']) == (0, 0, 0), verdict
    load.check_accounting(daemon, generator)


def test_sigterm_is_an_orderly_end(world):
    daemon, _ = nowhere(world)
    fill(daemon, d=3)
    daemon.program.process.terminate()
    assert daemon.program.process.wait(100) == 0
    daemon.start()
    assert daemon.counters()['queued_rcpts'] == 3


def test_config_errors_have_file_and_line(world):
    """Both from the check and from the daemon's start."""
    included = world.path('included.conf')
    with open(included, 'w', encoding='utf-8') as config:
        config.write('# fine\n<domain *>\n    max-smtp-out many\n</domain>\n')
    path = world.path('broken.conf')
    with open(path, 'w', encoding='utf-8') as config:
        config.write(f'host-name relay.test\nno-such-keyword 1\ninclude {included}\n'
                     '<virtual-mta v>\n')
    checked = subprocess.run([world.program('ringpost'), 'test', 'config', path],
                             capture_output=True, text=True, timeout=60, check=False)
    text = checked.stdout + checked.stderr
    assert checked.returncode == 1
    assert f'Error in line 2 of {path}' in text, text
    assert f'Error in line 3 of {included}' in text, text
    assert f'Error in line 4 of {path}: <virtual-mta> is never closed' in text, text
    assert f'{path} is refused: ' in text, text
    started = subprocess.run([world.program('ringpostd'), '--config', path, '--foreground'],
                             capture_output=True, text=True, timeout=60, check=False)
    assert started.returncode == 1
    assert f'{path}:2: ' in started.stderr and f'{included}:3: ' in started.stderr
    daemon = world.daemon()
    fine = subprocess.run([world.program('ringpost'), 'test', 'config', daemon.config_path],
                          capture_output=True, text=True, timeout=60, check=False)
    assert fine.returncode == 0, fine.stdout + fine.stderr


def test_A34_garbage_on_the_control_socket(world):
    """Random bytes, endless lines and clients that hang: the daemon answers the next one."""
    daemon, _ = nowhere(world)
    assert os.stat(daemon.control_path).st_mode & 0o777 == 0o600
    dice = random.Random(34)
    hanging = []
    for number in range(300):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(5)
        client.connect(daemon.control_path)
        garbage = [dice.randbytes(dice.randrange(2000)), b'\0\n', b'\n' * 50, b'x' * 100000 + b'\n',
                   b'show status --json --json=\xff"\n', b'"' * 99 + b'\n'][number % 6]
        try:
            client.sendall(garbage)
            if b'\n' in garbage:
                assert client.recv(100)[:5] in (b'error', b''), garbage[:50]
        except OSError:
            pass
        if number % 10 == 0:
            hanging.append(client)
        else:
            client.close()
    assert daemon.cli('show', 'status').returncode == 0
    assert daemon.program.is_alive()


def test_A34_only_root_and_the_daemons_user(world):
    """Also where somebody opened the socket's mode, the peer's uid decides."""
    if os.geteuid() != 0:
        pytest.skip('becoming another user takes root')
    daemon, _ = nowhere(world)
    os.chmod(world.short_path, 0o755)
    os.chmod(daemon.control_path, 0o666)
    nobody = pwd.getpwnam('nobody').pw_uid

    def ask_as(user):
        script = (f'import socket; s = socket.socket(socket.AF_UNIX); '
                  f's.connect({daemon.control_path!r}); s.sendall(b"shutdown\\n"); '
                  f'print(s.makefile().read())')
        return subprocess.run(['/usr/bin/python3', '-c', script], user=user, capture_output=True,
                              text=True, timeout=60, check=False)

    answer = ask_as(nobody)
    assert 'ok' not in answer.stdout.split('\n')[0], answer
    time.sleep(0.3)
    assert daemon.program.is_alive() and daemon.cli('show', 'status').returncode == 0
    assert 'ok' in ask_as(0).stdout.split('\n')[0]
    assert daemon.program.process.wait(100) == 0


def cpu_s(pid):
    with open(f'/proc/{pid}/stat', encoding='ascii') as stat:
        fields = stat.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def test_A40_out_of_descriptors(world):
    """With few descriptors more clients than that are turned away or wait, nobody spins, and all
    goes on once some have left."""
    daemon = world.daemon()
    daemon.start(before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120)))
    clients = []
    for _ in range(200):
        client = socket.create_connection((daemon.listen, 2525), timeout=60)
        clients.append(client)
    time.sleep(1)
    before = cpu_s(daemon.program.process.pid)
    time.sleep(2)
    assert cpu_s(daemon.program.process.pid) - before < 0.5, 'it spins'
    greetings = []
    for client in clients:
        client.settimeout(0.05)
        try:
            greetings.append(client.recv(4)[:3])
        except OSError:
            greetings.append(b'')
    assert greetings.count(b'220') >= 20
    assert set(greetings) <= {b'220', b'421', b''}
    assert daemon.program.is_alive()
    for client in clients:
        client.close()

    def works_again():
        try:
            return send_message(daemon.listen, 'a@s.test', ['b@[127.0.0.1]'], TEXT)[0] in (250, 550)
        except (OSError, AssertionError):
            return False

    until(works_again, 20, 'acceptance after the clients left', pause=0.2)


def test_accounting_files_are_numbered_and_complete(world):
    """Several lives write on; each file begins with the header; a moved file is whole."""
    sink = world.sink()
    moved = world.path('moved')
    os.makedirs(moved)
    daemon = world.daemon(
        '{base}' + load.CONFIG % sink.address +
        f'<acct-file {moved}/../second.csv>\n    records d\n    move-to {moved}\n'
        '    move-interval 1s\n</acct-file>\n').start()
    for number in range(3):
        assert send_message(daemon.listen, 'a@s.test', [f'{number}@d.test'], TEXT)[0] == 250
        daemon.wait_for_rows(number + 1)
        time.sleep(1.2)
        daemon.kill()
        daemon.start()

    def all_moved():
        rows = accounting_rows(os.path.join(moved, 'second.csv'))
        return rows if len(rows) >= 3 else None

    rows = until(all_moved, 15, 'all rows in moved files')
    assert sorted(row['rcpt'] for row in rows) == [f'{n}@d.test' for n in range(3)]
    assert json.dumps(daemon.ask('show', 'status')['accounting'])
