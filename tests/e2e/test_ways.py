"""By which queue mail goes, over reloads and restarts, and what a <domain> block makes of it."""
import time

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


def test_discarded_mail(world):
    """It ends without a connection, within the rates, as delivered or bounced; no row where none
    is wanted; paused mail waits."""
    rates = {'fast.test': '', 'paced.test': '    max-msg-rate 50/s\n',
             'bounced.test': '    discard-as-bounce yes\n',
             'silent.test': '    disable-acct-records d,b\n'}
    daemon = world.daemon('{base}' + ''.join(f'<domain {name}>\n    type discard\n{more}</domain>\n'
                                             for name, more in rates.items())).start()
    daemon.cli('pause', 'queue', 'fast.test/v')
    everyone = [f'{number}@{name}' for number in range(30) for name in rates]
    inject(daemon, *everyone)
    rows = daemon.wait_for_rows(60)
    daemon.wait_for(10, queued_rcpts=30)
    assert {(row['queue'], row['type']) for row in rows} == {
        ('paced.test/v', 'd'), ('bounced.test/v', 'b')}
    daemon.cli('resume', 'queue', 'fast.test/v')
    daemon.wait_for(10, queued_rcpts=0)
    rows = daemon.wait_for_rows(90)
    assert sorted(row['rcpt'] for row in rows) == sorted(
        rcpt for rcpt in everyone if not rcpt.endswith('@silent.test'))
    assert {row['dlvType'] for row in rows} == {'discard'}
    assert {row['dlvSourceIp'] for row in rows} == {''}
    counters = daemon.counters()
    assert (counters['delivered'], counters['bounced'], counters['connects']) == (90, 30, 0)


def test_transfers_that_fail(world):
    """A message whose receiver hangs up in it bounces where that is wanted, one whose receiver is
    silent after it counts as delivered; a recipient that is put off comes back by its own waits."""
    drops = world.sink('--rule', 'dot drop', name='drops')
    hangs = world.sink('--rule', 'dot hang', name='hangs')
    busy = world.sink('--rule', 'rcpt first=1 450 4.2.1 Busy', name='busy')
    daemon = world.daemon(
        '{base}<domain *>\n    retry-after 1h\n    ignore-chunking yes\n</domain>\n'
        f'<domain drops.test>\n    smtp-hosts [{drops.address}]:2525\n'
        '    bounce-upon-transfer-failure yes\n</domain>\n'
        f'<domain hangs.test>\n    smtp-hosts [{hangs.address}]:2525\n'
        '    smtp-data-termination-timeout 1s\n'
        '    assume-delivery-upon-data-termination-timeout yes\n</domain>\n'
        f'<domain busy.test>\n    smtp-hosts [{busy.address}]:2525\n'
        '    retry-recipients-after 1s\n</domain>\n').start()
    inject(daemon, 'a@hangs.test', 'a@drops.test', 'a@busy.test')
    rows = {row['queue']: row for row in daemon.wait_for_rows(3)}
    assert {name: row['type'] for name, row in rows.items()} == {
        'drops.test/v': 'b', 'hangs.test/v': 'd', 'busy.test/v': 'd'}
    assert [row['queue'] for row in daemon.rows() if row['type'] == 't'] == ['busy.test/v']


def test_new_mail_ends_the_wait(world):
    """Of two queues that rest for an hour the one that is told so tries again for new mail."""
    address, other = world.address(), world.address()
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{other}]:2525\n'
                          '    retry-after 1h\n</domain>\n'
                          f'<domain eager.test>\n    smtp-hosts [{address}]:2525\n'
                          '    retry-upon-new-mail yes\n</domain>\n').start()
    inject(daemon, '1@eager.test', '1@patient.test')
    until(lambda: {row['name'] for row in daemon.ask('show', 'queues')['queue']
                   if 'resting' in row['reason']} == {'eager.test/v', 'patient.test/v'},
          10, f'two queues at rest, got {daemon.ask("show", "queues")}')
    sink = world.sink(address=address)
    world.sink(address=other, name='other')
    inject(daemon, '2@patient.test')
    until(lambda: queues(daemon).get('patient.test/v') == 2, 10, 'mail that waits')
    assert daemon.counters()['delivered'] == 0
    # The time of acceptance counts in seconds.
    time.sleep(1.1)
    inject(daemon, '2@eager.test')
    rows = daemon.wait_for_rows(2)
    assert {row['queue'] for row in rows} == {'eager.test/v'}
    sink.stop()
