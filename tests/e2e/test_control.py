"""The operator's side: verbs and their answers, what survives a kill, hostile talk on the socket,
accounting files while lives end and consumers take them away."""
import csv
import glob
import json
import os
import random
import re
import signal
import socket
import stat
import subprocess
import time

import pytest

from harness import accounting_rows, final_rows_by_rcpt, say, send_message, until

TEXT = b'From: a@sender.test\r\nSubject: test\r\n\r\nHello\r\n'


def sending(world, sink, more='', name='daemon'):
    return world.daemon(
        f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n    retry-after 1h\n'
        f'</domain>\n{more}', name)


def inject(daemon, *recipients):
    for rcpt in recipients:
        code, text = send_message(daemon.listen, 'a@sender.test', [rcpt], TEXT)
        assert code == 250, text


def queues(daemon, *words):
    return daemon.ask('show', 'queues', *words)['queue']


def talk(daemon, octets):
    """Raw octets to the control socket; what it answers to a whole line."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(daemon.control_path)
        answer = b''
        try:
            client.sendall(octets)
            while b'\n' in octets and (chunk := client.recv(65536)):
                answer += chunk
        except (BrokenPipeError, ConnectionResetError):
            pass
        return answer


def test_pause_holds_mail_and_survives_a_kill(world):
    sink = world.sink()
    daemon = sending(world, sink).start()
    assert 'queues paused: 1' in daemon.cli('pause', 'queue', 'held.test/v').stdout
    inject(daemon, '1@held.test', '2@held.test', '1@free.test')
    daemon.wait_for(10, delivered=1, placed_rcpts=2)
    assert [(queue['name'], queue['rcp'], queue['paused']) for queue in queues(daemon, '--paused')
            ] == [('held.test/v', 2, True)]
    assert len(daemon.ask('list', '--queue=held.test/*')['rcpt']) == 2
    assert daemon.ask('list', '--queue=other.test/*')['rcpt'] == []
    daemon.kill()
    daemon.start()
    daemon.wait_for(10, queued_rcpts=2)
    time.sleep(1)
    assert daemon.counters()['delivered'] == 0
    daemon.cli('resume', 'queue', '*/*')
    daemon.wait_for(10, delivered=2, queued_rcpts=0)
    assert not [queue for queue in queues(daemon) if queue['paused']]


def test_the_mail_of_a_job_is_stopped_shown_and_let_go(world):
    """A refusal holds that job's mail alone; the order survives a kill; its end is a verb."""
    sink = world.sink('--rule', 'dot first=1 451 4.7.28 Unusual rate of mail')
    daemon = world.daemon(
        f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n    retry-after 1h\n'
        '    smtp-pattern-list l\n</domain>\n<smtp-pattern-list l>\n'
        '    reply /unusual rate/ stop=1h scope=job\n</smtp-pattern-list>\n'
        '<source 127.0.0.0/8>\n    always-allow-relaying yes\n    process-x-job yes\n'
        '    default-virtual-mta v\n</source>\n').start()
    for rcpt, job in ('1@a.test', 'bulk'), ('2@a.test', 'bulk'), ('3@a.test', 'mail'):
        text = b'X-Job: ' + job.encode() + b'\r\n' + TEXT
        assert send_message(daemon.listen, 'a@sender.test', [rcpt], text)[0] == 250
        until(lambda: daemon.ask('show', 'orders')['order'], 10, 'an order')
    daemon.wait_for(10, delivered=1, queued_rcpts=2)
    daemon.wait_for_rows(1)
    daemon.kill()
    daemon.start()
    daemon.cli('schedule', '*/*')
    order, = daemon.ask('show', 'orders')['order']
    assert (order['kind'], order['ip'], order['who'].split('/')[1]) == ('job-stop', '-', 'bulk')
    assert 'Unusual rate' in order['reason'] and order['until']
    until(lambda: 'mail of the job bulk is kept from' in daemon.cli('explain', 'a.test/v').stdout,
          10, f'a reason, got {daemon.cli("explain", "a.test/v").stdout}')
    assert daemon.counters()['delivered'] == 0
    assert 'stops ended: 0' in daemon.cli('enable', 'sender-domain', '*').stdout
    assert 'stops ended: 1' in daemon.cli('enable', 'job', 'bulk').stdout
    daemon.cli('schedule', '*/*')
    daemon.wait_for(10, delivered=2, queued_rcpts=0)


def test_the_mode_of_a_queue_is_set_shown_and_survives_a_kill(world):
    """By a reply and by hand; the twins count while it lasts, wherever the queue is served."""
    sink = world.sink('--rule', 'rcpt first=1 421 4.7.0 Too many messages')
    daemon = world.daemon(
        f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n    retry-after 1s\n'
        f'    smtp-pattern-list l\n    backoff-max-msg-rate 0/h\n    backoff-retry-after 1s\n'
        f'</domain>\n<smtp-pattern-list l>\n    reply /too many/ mode=backoff\n'
        f'</smtp-pattern-list>\n').start()
    names = [f'd{i}.test' for i in range(4)]
    inject(daemon, '1@d0.test')
    until(lambda: queues(daemon, '--mode=backoff'), 10, 'a queue in backoff mode')
    [queue] = queues(daemon, '--mode=backoff')
    assert queue['name'] == 'd0.test/v' and queue['mode'] == 'backoff'
    assert queue['modeReason'].endswith(': 421 4.7.0 Too many messages')
    assert 'backoff' in daemon.cli('show', 'queues').stdout
    assert daemon.ask('set', 'queue', 'd9.test/v', '--mode=backoff')['affected'] == 1
    daemon.kill()
    daemon.start()
    assert {row['name']: row['modeReason'].split(': ')[-1] for row in queues(
        daemon, '--mode=backoff')} == {'d0.test/v': '421 4.7.0 Too many messages',
                                       'd9.test/v': 'set by an operator'}
    # What is refused no more passes at once, and at the rate of backoff mode nothing does.
    inject(daemon, *[f'1@{name}' for name in names[1:]])
    daemon.wait_for(10, delivered=3, placed_rcpts=1)
    assert daemon.ask('set', 'queue', '*/*', '--mode=backoff')['affected'] == 5
    assert len(queues(daemon, '--mode=backoff')) == 5
    inject(daemon, *[f'2@{name}' for name in names])
    daemon.wait_for(10, queued_rcpts=5)
    time.sleep(1.5)
    assert daemon.counters()['delivered'] == 3
    assert daemon.ask('set', 'queue', '*/v', '--mode=normal')['affected'] == 5
    daemon.wait_for(10, delivered=8, queued_rcpts=0)
    assert not queues(daemon, '--mode=backoff')
    daemon.kill()
    daemon.start()
    assert not queues(daemon, '--mode=backoff')


def test_backoff_mode_of_a_provider_is_shown_survives_a_kill_and_ends(world):
    """A refusal of one queue's mail has another one wait too, of the same hosts; neither's own mode
    is meant, so it is a verb of the source address that ends it."""
    sink = world.sink('--rule', 'rcpt first=1 421 4.7.0 Too many messages')
    daemon = world.daemon(
        f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n    retry-after 1s\n'
        f'    smtp-pattern-list l\n    backoff-max-msg-rate 0/h\n    backoff-retry-after 1s\n'
        f'</domain>\n<smtp-pattern-list l>\n'
        f'    reply /too many/ mode=backoff,backoff-to-normal-after=2h scope=source-ip\n'
        f'</smtp-pattern-list>\n').start()
    inject(daemon, '1@d0.test')
    until(lambda: daemon.ask('show', 'orders')['order'], 10, 'an order')
    [order] = daemon.ask('show', 'orders')['order']
    assert order['kind'] == 'backoff' and order['state'] == 'in force' and order['until']
    assert order['reason'].endswith(': 421 4.7.0 Too many messages')
    inject(daemon, '1@d1.test')
    until(lambda: len(queues(daemon, '--mode=backoff')) == 2, 10, 'two queues in backoff mode')
    daemon.make_durable()
    daemon.kill()
    daemon.start()
    until(lambda: len(queues(daemon, '--mode=backoff')) == 2, 10, 'both after a kill')
    for row in queues(daemon, '--mode=backoff'):
        assert row['modeReason'].startswith(f'{order["ip"]} at {order["who"]}: ')
        assert row['modeUntil'] == order['until']
    assert daemon.ask('explain', 'd1.test/v')['mode'] == 'backoff'
    shown = daemon.cli('explain', 'd1.test/v').stdout
    assert f'until {order["until"]}: {order["ip"]} at ' in shown and 'Too many messages' in shown
    daemon.ask('set', 'queue', '*/*', '--mode=normal')
    assert len(queues(daemon, '--mode=backoff')) == 2
    time.sleep(1.5)
    assert daemon.counters()['delivered'] == 0
    assert daemon.ask('enable', 'source', order['ip'], '*/*')['affected'] == 1
    daemon.wait_for(10, delivered=2, queued_rcpts=0)
    assert not queues(daemon, '--mode=backoff')
    daemon.kill()
    daemon.start()
    assert daemon.ask('show', 'orders')['order'] == []


def test_a_source_address_is_disabled_and_enabled_and_survives_a_kill(world):
    """By a reply and by hand; the queue waits, and explain says for what."""
    sink = world.sink('--rule', 'rcpt first=1 421 4.7.1 Your address is listed')
    daemon = world.daemon(
        f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n    retry-after 1s\n'
        f'    smtp-pattern-list l\n</domain>\n'
        f'<smtp-pattern-list l>\n    reply /is listed/ disable-source-ip\n'
        f'</smtp-pattern-list>\n').start()
    inject(daemon, '1@d0.test')
    until(lambda: daemon.ask('show', 'orders')['order'], 10, 'a disabled source')
    [order] = daemon.ask('show', 'orders')['order']
    address = order['ip']
    assert order['kind'] == 'source-off' and order['who'] == 'd0.test/v'
    assert order['reason'].endswith(': 421 4.7.1 Your address is listed')
    assert daemon.ask('disable', 'source', address, 'd1.test/v')['affected'] == 1
    daemon.kill()
    daemon.start()
    assert sorted(row['who'] for row in daemon.ask('show', 'orders')['order']) == [
        'd0.test/v', 'd1.test/v']
    inject(daemon, '1@d1.test', '1@d2.test')
    daemon.wait_for(10, delivered=1, placed_rcpts=2)
    assert daemon.ask('explain', 'd1.test/v')['detail'] == (
        f'{address} is kept from d1.test/v: set by an operator')
    assert 'is listed' in daemon.cli('show', 'orders').stdout
    assert daemon.ask('enable', 'source', address, '*/*')['affected'] == 2
    daemon.wait_for(10, delivered=3, queued_rcpts=0)
    daemon.kill()
    daemon.start()
    assert daemon.ask('show', 'orders')['order'] == []


def test_a_pause_finds_queues_that_another_shard_owns(world):
    """Each queue begins at the shard of its name and moves to that of its route; the order goes
    after it, and after a restart the pause is where the queue begins."""
    sink = world.sink()
    daemon = sending(world, sink).start()
    names = [f'd{i}.test' for i in range(12)]
    inject(daemon, *[f'1@{name}' for name in names])
    daemon.wait_for(10, delivered=12, queued_rcpts=0)
    assert 0 < daemon.counters()['queues_moved'] <= 12
    assert daemon.ask('pause', 'queue', '*/v')['affected'] == 12
    assert len(queues(daemon, '--paused')) == 12
    inject(daemon, *[f'2@{name}' for name in names])
    daemon.wait_for(10, queued_rcpts=12)
    time.sleep(1)
    assert daemon.counters()['delivered'] == 12
    assert len(queues(daemon, '--paused')) == 12
    daemon.kill()
    daemon.start()
    daemon.wait_for(10, queued_rcpts=12)
    assert len(queues(daemon, '--paused')) == 12
    assert daemon.ask('resume', 'queue', '*/v')['affected'] == 12
    daemon.wait_for(10, delivered=12, queued_rcpts=0)


def test_orders_reach_queues_that_are_just_moving(world):
    """Each reload names another receiver and so sends most queues to another shard; orders are given
    at once, before they have arrived. A pause holds all of them whatever moves, a resume frees all
    of them, and each recipient is delivered once."""
    rounds, names = 6, [f'd{number}.test' for number in range(30)]
    routes = [world.address() for _ in range(2 * rounds + 1)]
    sink = world.sink(*[word for address in routes[1:] for word in ('--listen', f'{address}:2525')],
                      address=routes[0])
    daemon = world.daemon()

    def follow_next_route():
        daemon.write(daemon.base().replace('shards 2', 'shards 4') +
                     f'<domain *>\n    smtp-hosts [{routes.pop()}]:2525\n'
                     '    retry-after 1h\n</domain>\n')
        if daemon.program:
            assert daemon.cli('reload').returncode == 0

    def send(number):
        code, text = send_message(daemon.listen, 'a@sender.test',
                                  [f'{number}@{name}' for name in names], TEXT)
        assert code == 250, text

    follow_next_route()
    daemon.start()
    send('first')
    sent, moved = len(names), 0
    daemon.wait_for(20, delivered=sent, queued_rcpts=0)
    for number in range(rounds):
        assert daemon.ask('pause', 'queue', '*/v')['affected'] == len(names)
        send(f'{number}a')
        before = daemon.counters()['queues_moved']
        follow_next_route()
        assert len(queues(daemon, '--paused')) == len(names)
        send(f'{number}b')
        assert daemon.ask('schedule', '*/*')['affected'] == 0
        daemon.wait_for(20, delivered=sent, placed_rcpts=2 * len(names))
        follow_next_route()
        assert daemon.ask('resume', 'queue', '*/v')['affected'] == len(names)
        sent += 2 * len(names)
        daemon.wait_for(20, delivered=sent, queued_rcpts=0)
        assert not queues(daemon, '--paused')
        moved += daemon.counters()['queues_moved'] - before
    say(f'{moved} times a queue moved in {rounds} rounds')
    # Four shards: one new route of four leads to the same one.
    assert moved > len(names)
    assert len(final_rows_by_rcpt(daemon.wait_for_rows(sent))) == sink.stop()['recipients'] == sent
    assert daemon.shutdown() == 0


def test_schedule_and_delete(world):
    sink = world.sink('--rule', 'rcpt 451 4.2.1 Not now')
    daemon = sending(world, sink).start()
    inject(daemon, '1@d.test', '2@d.test', '1@e.test')
    daemon.wait_for(10, deferred=3, waiting_rcpts=3)
    assert daemon.ask('schedule', 'd.test/v')['affected'] == 2
    daemon.wait_for(10, deferred=5, waiting_rcpts=3)
    [queue] = queues(daemon, 'e.test')
    assert 'Not now' in queue['event'][0]['text'] and 'Not now' in queue['explain']
    assert daemon.ask('delete', '--queue=d.test/*', '--older-than=1h')['affected'] == 0
    assert daemon.ask('delete', '--queue=d.test/*')['affected'] == 2
    daemon.wait_for(10, deleted=2, bounced=0, queued_rcpts=1)
    rows = daemon.wait_for_rows(2)
    assert sorted(row['rcpt'] for row in rows) == ['1@d.test', '2@d.test']
    assert {row['type'] for row in rows} == {'b'}
    daemon.kill()
    daemon.start()
    daemon.wait_for(10, queued_rcpts=1)


def test_forms_and_exit_codes(world):
    """What scripts rely on: columns, dom lines, the envelope, the exit code."""
    sink = world.sink('--rule', 'rcpt 451 4.2.1 Not now')
    daemon = sending(world, sink).start()
    inject(daemon, '1@d.test', '2@d.test', '1@e.test')
    daemon.wait_for(10, waiting_rcpts=3)
    lines = daemon.cli('show', 'vmtas').stdout.split('\n')
    assert lines[0].split() == ['name', 'domains', '#rcpt', '%total', 'kbytes', 'conn']
    found = {line.split()[0]: line.split()[2] for line in lines[2:] if line}
    assert found == {'v': '3', '{default}': '0'}
    answer = daemon.cli('--dom', 'show', 'status')
    assert answer.returncode == 0
    assert re.search(r'^status\.traffic\.lastMin\.in\.rcp="3"$', answer.stdout, re.M)
    assert re.search(r'^status\.traffic\.total\.out\.rcp="0"$', answer.stdout, re.M)
    assert 'queue[0].name="d.test/v"\n' in daemon.cli('--dom', 'show', 'topq').stdout
    refused = daemon.cli('show', 'nonsense')
    assert refused.returncode == 2 and 'nonsense' in refused.stderr
    assert daemon.cli('--help').returncode == 0
    daemon.shutdown()
    gone = daemon.cli('show', 'status')
    assert gone.returncode == 2 and gone.stdout == '' and 'is ringpostd running' in gone.stderr
    assert not os.path.exists(daemon.control_path)


def test_test_config_names_lines(world):
    daemon = world.daemon('{base}no-such-thing yes\n')
    line = 1 + open(daemon.config_path, encoding='utf-8').read().split('\n').index(
        'no-such-thing yes')
    answer = daemon.cli('test', 'config', daemon.config_path)
    assert answer.returncode == 1
    assert f'Error in line {line} of {daemon.config_path}: ' in answer.stdout
    assert '1 errors' in answer.stdout
    daemon.write('{base}')
    answer = daemon.cli('test', 'config', daemon.config_path)
    assert answer.returncode == 0 and 'accepted' in answer.stdout


def test_a34_garbage_on_the_socket(world):
    sink = world.sink()
    daemon = sending(world, sink).start()
    dice = random.Random(34)
    for _ in range(300):
        talk(daemon, dice.randbytes(dice.choice([0, 1, 10, 100, 5000, 100000])))
        talk(daemon, dice.choice([b'show status\n', b'show', b'\n', b'\0\n', b'"\n', b'-- --\n',
                                  b'show queues --json' * 300 + b'\n']))
    assert daemon.program.is_alive()
    until(lambda: talk(daemon, b'version\n').startswith(b'ok\nringpost '), 15, 'an answer')
    idle = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    for client in idle:
        client.connect(daemon.control_path)
    time.sleep(0.2)
    for client in idle:
        client.close()
    until(lambda: daemon.cli('version').returncode == 0, 15, 'room for a connection again')
    inject(daemon, '1@d.test')
    daemon.wait_for(10, delivered=1)


def test_the_socket_is_for_root_and_the_daemon(world):
    if os.geteuid() != 0:
        pytest.skip('needs root to be somebody else')
    daemon = sending(world, world.sink()).start()
    assert stat.S_IMODE(os.stat(daemon.control_path).st_mode) == 0o600
    os.chmod(daemon.control_path, 0o666)
    os.chmod(world.short_path, 0o755)
    client = ('import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);'
              's.sendall(b"shutdown\\n"); sys.stdout.buffer.write(s.recv(100))')
    answer = subprocess.run(['/usr/bin/python3', '-c', client, daemon.control_path],
                            user=65534, group=65534, extra_groups=[], capture_output=True,
                            timeout=60, check=False)
    assert answer.stdout == b''
    assert daemon.cli('version').returncode == 0


def test_orders_end_in_order(world):
    """shutdown answers, lets the last rows be written, and removes its socket."""
    sink = world.sink()
    daemon = sending(world, sink).start()
    inject(daemon, *[f'{number}@d.test' for number in range(50)])
    assert daemon.shutdown() == 0
    rows = [row for row in daemon.rows() if row['type'] == 'd']
    assert len({row['rcpt'] for row in rows}) == len(rows)
    daemon.start()
    daemon.wait_for(10, queued_rcpts=0)
    until(lambda: len(daemon.rows()) == 50, 10, 'a row for each')


class Consumer:
    """Takes finished accounting files away, as a loader would."""

    def __init__(self, directory):
        self.directory = directory
        self.names = []
        self.rows = []

    def take(self):
        for path in sorted(glob.glob(os.path.join(self.directory, '*.csv'))):
            assert os.path.basename(path) not in self.names
            self.names.append(os.path.basename(path))
            with open(path, encoding='utf-8', newline='') as file:
                self.rows += csv.DictReader(file)
            os.unlink(path)


def test_accounting_files_through_kills_and_consumers(world):
    """Each delivery has exactly one row in the files that consumers got, and the rest in the last
    one, however often the daemon is killed."""
    done = world.path('done')
    os.makedirs(done)
    more = (f'<acct-file {world.path("moved.csv")}>\n    records d\n    move-to {done}\n'
            f'    move-interval 1s\n    world-readable yes\n</acct-file>\n')
    sink = world.sink()
    daemon = sending(world, sink, more)
    consumer = Consumer(done)
    sent = 0
    for life in range(6):
        daemon.start()
        seen = len(consumer.rows)
        for _ in range(40):
            inject(daemon, f'{sent}@d.test')
            sent += 1
            if sent % 8 == 0:
                consumer.take()
        if life % 2 == 0:
            # Every other life sees a file finished, the rest end anywhere.
            until(lambda: consumer.take() or len(consumer.rows) > seen,  # noqa: B023
                  20, 'a finished file')
        else:
            time.sleep(random.uniform(0, 1.5))
        if life < 5:
            daemon.kill()
    consumer.take()
    seen = len(consumer.rows)
    inject(daemon, f'{sent}@d.test')
    sent += 1
    until(lambda: daemon.counters()['queued_rcpts'] == 0, 30, 'everything delivered')
    until(lambda: consumer.take() or len(consumer.rows) > seen, 20, 'the last finished file')
    assert daemon.shutdown() == 0
    consumer.take()
    assert len(consumer.names) > 3
    left = glob.glob(world.path('moved-*.csv'))
    for path in left:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o644
        with open(path, encoding='utf-8', newline='') as file:
            consumer.rows += csv.DictReader(file)
    # A kill may repeat a delivery whose outcome was not durable; then both files tell of both.
    wanted = sorted(row['rcpt'] for row in daemon.rows() if row['type'] == 'd')
    assert sorted(row['rcpt'] for row in consumer.rows) == wanted
    assert set(wanted) == {f'{number}@d.test' for number in range(sent)}


def test_a_full_accounting_disk_is_told_and_catches_up(world):
    if os.geteuid() != 0:
        pytest.skip('needs root to mount')
    small = world.path('small')
    os.makedirs(small)
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=256k', 'none', small],
                      capture_output=True, check=False).returncode != 0:
        pytest.skip('mounting is not allowed here')
    world.at_end.append(lambda: subprocess.run(['umount', '-l', small], check=False))
    with open(os.path.join(small, 'filler'), 'wb') as filler:
        filler.write(bytes(252 * 1024))
    daemon = sending(world, world.sink(),
                     f'<acct-file {small}/a.csv>\n    records d\n</acct-file>\n').start()
    inject(daemon, *[f'{number}@d.test' for number in range(30)])
    daemon.wait_for(10, delivered=30)

    def is_told():
        return 'WARNING: accounting file' in daemon.cli('show', 'status').stdout

    until(is_told, 20, 'a warning')
    assert len(daemon.wait_for_rows(30)) == 30
    os.unlink(os.path.join(small, 'filler'))
    until(lambda: not is_told(), 20, 'the warning to go')
    until(lambda: len(accounting_rows(f'{small}/a.csv')) == 30, 20, 'all rows there too')


def test_counters_are_whole_numbers_under_their_names(world):
    """Tools of ours read these; a name that goes is an error here."""
    daemon = sending(world, world.sink()).start()
    inject(daemon, '1@d.test')
    counters = daemon.wait_for(10, delivered=1)
    for name in ('accepted_messages', 'accepted_rcpts', 'delivered', 'bounced', 'deferred',
                 'in_doubt', 'queued_rcpts', 'placed_rcpts', 'queued_messages', 'sessions_in',
                 'connections_out', 'system_calls', 'turns', 'message_commits', 'outcome_commits',
                 'commit_ns_total'):
        assert isinstance(counters[name], int), name
    assert counters['system_calls'] > 0 and counters['message_commits'] > 0
    assert counters['spool_health'] == 'healthy'
    envelope = json.loads(daemon.cli('--json', 'show', 'status').stdout)
    assert list(envelope) == ['data', 'status', 'message']
    daemon.program.end(signal.SIGTERM)
