"""By which queue mail goes: queue-to, reroute-to-virtual-mta, over reloads and restarts."""
from harness import Smtp, until

TEXT = b'From: a@sender.test\r\nSubject: test\r\n\r\nHello\r\n'


def inject(daemon, *recipients):
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    for rcpt in recipients:
        client.envelope('a@sender.test', [rcpt])
        assert client.data(TEXT)[0] == 250
    client.close()


def queues(daemon):
    return {row['name']: row['rcp'] for row in daemon.ask('show', 'queues')['queue']
            if row['rcp'] > 0}


def test_domains_share_a_queue(world):
    """Its block says where and how; each recipient keeps its own domain; a restart and another
    configuration find the mail where it belongs."""
    sink = world.sink()
    nowhere = world.address()
    merged = ''.join(f'<domain {name}.test>\n    queue-to All.Queue\n    smtp-hosts [{nowhere}]\n'
                     '</domain>\n' for name in ['one', 'two', 'three'])
    route = (f'<domain all.queue>\n    smtp-hosts [{sink.address}]:2525\n    max-smtp-out 1\n'
             '</domain>\n')
    daemon = world.daemon('{base}' + merged + route).start()
    daemon.cli('pause', 'queue', 'all.queue/v')
    everyone = [f'{number}@{name}.test' for number in range(10) for name in ['one', 'two', 'three']]
    inject(daemon, *everyone)
    until(lambda: queues(daemon) == {'all.queue/v': 30}, 10, f'one queue, got {queues(daemon)}')
    daemon.kill()
    daemon.start()
    until(lambda: queues(daemon) == {'all.queue/v': 30}, 10, f'one queue, got {queues(daemon)}')
    daemon.cli('resume', 'queue', 'all.queue/v')
    rows = daemon.wait_for_rows(30)
    assert {row['queue'] for row in rows} == {'all.queue/v'}
    assert sorted(row['rcpt'] for row in rows) == sorted(everyone)
    assert {row['type'] for row in rows} == {'d'}
    assert sink.stop()['connections'] <= 2


def test_waiting_mail_follows_a_reload(world):
    """Mail that waits in one queue goes to another virtual MTA, then to another queue."""
    sink = world.sink()
    nowhere, second = world.address(), world.address()
    vmta = f'<virtual-mta w>\n    smtp-source-host {second} w.relay.test\n</virtual-mta>\n'
    block = f'<domain d.test>\n    smtp-hosts [{nowhere}]:2525\n    retry-after 1h\n'
    daemon = world.daemon('{base}' + vmta + block + '</domain>\n').start()
    inject(daemon, *[f'{number}@d.test' for number in range(40)])
    until(lambda: queues(daemon) == {'d.test/v': 40}, 10, 'a queue that waits')
    daemon.cli('pause', 'queue', 'd.test/w')
    daemon.write('{base}' + vmta + block + '    reroute-to-virtual-mta w\n</domain>\n')
    assert daemon.cli('reload').returncode == 0
    until(lambda: queues(daemon) == {'d.test/w': 40}, 10, f'all at w, got {queues(daemon)}')
    inject(daemon, *[f'{number}@d.test' for number in range(40, 50)])
    until(lambda: queues(daemon) == {'d.test/w': 50}, 10, f'new mail too, got {queues(daemon)}')
    daemon.write('{base}' + vmta + block + '    reroute-to-virtual-mta w\n    queue-to e.queue\n'
                 f'</domain>\n<domain e.queue>\n    smtp-hosts [{sink.address}]:2525\n'
                 '    reroute-to-virtual-mta w\n</domain>\n')
    assert daemon.cli('reload').returncode == 0
    rows = daemon.wait_for_rows(50, seconds=20)
    assert {(row['queue'], row['dlvSourceIp']) for row in rows} == {('e.queue/w', second)}
    assert sorted(row['rcpt'] for row in rows) == sorted(f'{n}@d.test' for n in range(50))
    sink.stop()


def test_a_circle_is_refused(world):
    daemon = world.daemon().start()
    daemon.write('{base}<domain a.test>\n    queue-to b.test\n</domain>\n'
                 '<domain b.test>\n    queue-to a.test\n</domain>\n')
    answer = daemon.cli('reload')
    assert answer.returncode == 1
    assert 'go round in a circle' in answer.stdout
    assert daemon.counters()["queued_rcpts"] == 0
