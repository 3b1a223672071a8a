"""The configuration is read anew under load: by verb, by SIGHUP, with errors."""
import os
import pathlib
import signal

from harness import Smtp, send_message, until, verify

TEXT = b'From: a@sender.test\r\nSubject: test\r\n\r\nHello\r\n'
MESSAGES = 4000


def configuration(daemon):
    return daemon.ask('show', 'status')['configuration']


def route(sink, more=''):
    return (f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n    retry-after 1s\n{more}'
            '</domain>\n')


def reasons(daemon):
    return {queue['name']: queue['reason'] for queue in daemon.ask('show', 'queues')['queue']}


def test_routes_and_limits_change_under_load(world):
    """Slow receivers, so that most is queued when the route changes; nothing is lost or doubled,
    what was not sent yet goes the new way, and each old snapshot is freed."""
    first = world.sink('--rule', 'dot delay=20')
    # The load must outlast what is done meanwhile, on a busy machine too.
    second = world.sink('--rule', 'dot delay=200', name='second')
    daemon = world.daemon(route(first, '    max-smtp-out 1\n')).start()
    generator = world.generator(daemon.listen, '--messages', str(MESSAGES), '--sessions', '20',
                                '--domains', '4')
    until(lambda: first.arrived() >= 100, 20, 'mail at the first receiver')
    assert daemon.counters()['connections_out'] <= 4
    daemon.write(route(second, '    max-smtp-out 30\n'))
    answer = daemon.cli('reload')
    assert (answer.returncode, answer.stdout) == (0, 'configuration reloaded\n'), answer
    # What is with the first receiver now ends there; nothing new begins.
    until(lambda: second.arrived() >= 100, 20, 'mail at the second receiver')
    settled = first.arrived()
    until(lambda: daemon.counters()['connections_out'] > 4, 20, 'more connections')
    daemon.write(route(second, '    max-smtp-out 30\n') + 'total-max-smtp-out 3\n')
    assert daemon.cli('reload').returncode == 0
    until(lambda: daemon.counters()['connections_out'] <= 3, 20, 'fewer connections')
    assert daemon.counters()['queued_rcpts'] > 0, 'the load was over too soon'
    daemon.write(route(second, '    max-smtp-out 30\n'))
    assert daemon.cli('reload').returncode == 0
    sums = generator.wait()
    daemon.wait_for(60, queued_rcpts=0, sessions_in=0)
    assert first.arrived() <= settled + 4
    assert settled < MESSAGES / 2
    verdict = verify(world, generator.ledger, first.ledger, second.ledger)
    assert verdict['accepted'] == MESSAGES and verdict['lost'] == 0, (verdict, sums)
    assert first.arrived() + second.arrived() == MESSAGES, verdict
    assert configuration(daemon)['snapshots'] == 1


def test_a_bad_file_is_refused_and_a_signal_reads_the_good_one(world):
    first, second = world.sink(), world.sink(name='second')
    daemon = world.daemon(route(first)).start()
    daemon.write(route(second) + '<domain x.test>\n    max-smtp-out many\n</domain>\n')
    line = open(daemon.config_path, encoding='utf-8').read().split('\n').index(
        '    max-smtp-out many') + 1
    answer = daemon.cli('reload')
    assert answer.returncode == 1
    assert answer.stdout.startswith(f'{daemon.config_path}:{line}: '), answer
    daemon.program.process.send_signal(signal.SIGHUP)
    until(lambda: configuration(daemon)['refused'] == 2, 10, 'a second refusal')
    assert f'{daemon.config_path}:{line}: ' in daemon.program.log()
    world.generator(daemon.listen, '--messages', '1').wait()
    until(lambda: first.arrived() == 1, 10, 'delivery by the running configuration')
    daemon.write(route(second) + 'committer-thread yes\n')
    daemon.program.process.send_signal(signal.SIGHUP)
    until(lambda: configuration(daemon)['reloads'] == 1, 10, 'a reload')
    assert 'committer-thread: a change counts after a restart' in daemon.program.log()
    world.generator(daemon.listen, '--messages', '1', name='gen2').wait()
    until(lambda: second.arrived() == 1, 10, 'delivery by the new one')
    assert configuration(daemon)['snapshots'] == 1


def test_mail_of_a_removed_virtual_mta_waits_for_it(world):
    sink = world.sink()
    daemon = world.daemon(route(sink)).start()
    daemon.cli('pause', 'queue', 'd.test/v')
    send_message(daemon.listen, 'a@sender.test', ['1@d.test'], TEXT)
    daemon.wait_for(10, placed_rcpts=1)
    good = open(daemon.config_path, encoding='utf-8').read()
    with open(daemon.config_path, 'w', encoding='utf-8') as config:
        config.write(good.replace('<virtual-mta v>', '<virtual-mta w>')
                     .replace('default-virtual-mta v', 'default-virtual-mta w'))
    assert daemon.cli('reload').returncode == 0
    daemon.cli('resume', 'queue', '*/*')
    until(lambda: 'not in the configuration' in reasons(daemon)['d.test/v'], 10, 'the reason')
    send_message(daemon.listen, 'a@sender.test', ['2@d.test'], TEXT)
    daemon.wait_for(10, delivered=1, queued_rcpts=1)
    # A restart changes nothing about it. The row says that the delivery would not be repeated.
    daemon.wait_for_rows(1)
    daemon.kill()
    daemon.start()
    until(lambda: 'not in the configuration' in reasons(daemon).get('d.test/v', ''), 10,
          'the reason')
    with open(daemon.config_path, 'w', encoding='utf-8') as config:
        config.write(good)
    assert daemon.cli('reload').returncode == 0
    daemon.wait_for(10, delivered=1, queued_rcpts=0)


def test_a_session_follows_when_its_way_out_is_gone(world):
    sink = world.sink()
    daemon = world.daemon(route(sink)).start()
    daemon.cli('pause', 'queue', 'd.test/v')
    session = Smtp(daemon.listen)
    session.command('EHLO client.test')
    session.envelope('a@sender.test', ['1@d.test'])
    assert session.data(TEXT)[0] == 250
    daemon.wait_for(10, placed_rcpts=1)
    good = open(daemon.config_path, encoding='utf-8').read()
    with open(daemon.config_path, 'w', encoding='utf-8') as config:
        config.write(good.replace('<virtual-mta v>', '<virtual-mta w>')
                     .replace('default-virtual-mta v', 'default-virtual-mta w'))
    assert daemon.cli('reload').returncode == 0
    session.envelope('a@sender.test', ['2@d.test'])
    assert session.data(TEXT)[0] == 250
    session.close()
    daemon.wait_for(10, delivered=1, queued_rcpts=1)
    [row] = daemon.wait_for_rows(1)
    assert (row['rcpt'], row['vmta']) == ('2@d.test', 'w'), row


def threads_and_sockets(daemon):
    process = f'/proc/{daemon.program.process.pid}'
    links = [os.readlink(f'{process}/fd/{fd}') for fd in os.listdir(f'{process}/fd')]
    assert daemon.config_path not in links
    names = [pathlib.Path(f'{process}/task/{task}/comm').read_text()
             for task in os.listdir(f'{process}/task')]
    # The kernel makes and ends workers of io_uring as it likes.
    threads = sum(not name.startswith('iou-') for name in names)
    return threads, sum(link.startswith('socket:') for link in links)


def test_a41_many_reloads_under_load_leak_nothing(world):
    """Half of them broken; sockets, threads and snapshots are as many as before."""
    sink = world.sink()
    daemon = world.daemon(route(sink)).start()
    before = threads_and_sockets(daemon)
    generator = world.generator(daemon.listen, '--messages', '3000', '--sessions', '20',
                                '--domains', '20')
    until(lambda: sink.arrived() >= 100, 20, 'load')
    for number in range(40):
        daemon.write(route(sink, f'    max-smtp-out {number % 7 + 1}\n'
                           '    connection-idle-timeout 1s\n')
                     + f'total-max-smtp-out {number % 5 + 3}\n'
                     + ('unheard-of 1\n' if number % 2 else ''))
        assert daemon.cli('reload').returncode == number % 2
    generator.wait()
    daemon.wait_for(60, queued_rcpts=0, sessions_in=0, delivered=3000)
    until(lambda: daemon.counters()['connections_out'] == 0, 30, 'idle connections to end')
    assert threads_and_sockets(daemon) == before
    assert (configuration(daemon)['reloads'], configuration(daemon)['refused']) == (20, 20)
    assert configuration(daemon)['snapshots'] == 1


def test_an_earlier_configuration_is_back_after_a_restart_too(world):
    """What was in force is kept over SIGKILL, and can be put in force again."""
    first, second = world.sink(), world.sink(name='second')
    daemon = world.daemon(route(first)).start()
    daemon.write(route(second))
    assert daemon.cli('reload').returncode == 0
    daemon.kill()
    daemon.start()
    history = daemon.ask('config', 'history')['configuration']
    assert [(row['number'], row['cause'], row['inForce']) for row in history] == [
        (2, 'reload', True), (1, 'start', False)]
    assert history[0]['uid'] == os.getuid()
    assert f'+    smtp-hosts [{second.address}]:2525' in daemon.cli('config', 'diff', '1').stdout
    answer = daemon.cli('config', 'rollback', '1')
    assert answer.returncode == 0 and 'in force again' in answer.stdout, answer
    world.generator(daemon.listen, '--messages', '1').wait()
    until(lambda: first.arrived() == 1, 10, 'delivery by the first one')
    assert daemon.ask('config', 'history')['configuration'][0]['of'] == 1


def test_an_override_holds_over_a_restart(world):
    """Set by hand above the file, in force before the first message of the next life too."""
    sink = world.sink()
    daemon = world.daemon(route(sink)).start()
    answer = daemon.cli('override', 'd0.test/*', 'smtp-hosts=[127.0.0.1]:1', '--for', '2h',
                        '--reason', 'they asked us to stop')
    assert (answer.returncode, answer.stdout) == (0, 'the override is in force\n'), answer
    daemon.kill()
    daemon.start()
    world.generator(daemon.listen, '--messages', '2', '--domains', '2').wait()
    daemon.wait_for(10, delivered=1, placed_rcpts=1)
    [row] = [row for row in daemon.ask('show', 'settings', 'd0.test/v')['setting']
             if row['name'] == 'smtp-hosts']
    assert row['value'] == '[127.0.0.1]:1' and row['from'].endswith(': they asked us to stop'), row
    assert daemon.ask('show', 'overrides')['override'][0]['uid'] == os.getuid()
    assert daemon.cli('override', 'd0.test/*', '--clear').returncode == 0
    daemon.cli('schedule', '*/*')
    daemon.wait_for(20, delivered=2, queued_rcpts=0)
