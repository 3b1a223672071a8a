"""Disks that are full, read-only, slow, or fail their syncs, under load: clients get clear 4xx, nothing
is lost, and when the disk is well again everything goes on without a restart."""
import errno
import os
import re
import signal
import threading
import time

import load
from disks import disk, place_on  # noqa: F401 (disk is a fixture)
from harness import Smtp, final_rows_by_rcpt, say, send_message, until, verify

TEXT = b'From: a@sender.test\r\nSubject: test\r\n\r\nHello\r\n'
FOR_EVER = 1000000000
NO_SPACE = (452, '4.3.1 too little disk space, try again later')
NO_DISK = (451, '4.3.0 the disk takes no mail at present, try again later')
NOT_STORED = (451, '4.3.0 could not be stored, try again later')
HUNG_UP = (0, '')
LOAD = ['--survive', '--sessions', '20', '--rate', '1500', '--messages', '1000000',
        '--sizes', '2k:95,20k:5', '--domains', '20']


class Probe:
    """A client beside the generator that notes how it is answered: at which step, code and text."""

    def __init__(self, daemon):
        self.listen = daemon.listen
        self.seen = {}  # answer -> how often
        self.ends = False
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def once(self):
        """('stored' or the step that failed, code, text)"""
        client = None
        try:
            client = Smtp(self.listen)
            for step in ('EHLO probe.test', 'MAIL FROM:<a@sender.test>', 'RCPT TO:<a@probe.test>',
                         'DATA'):
                code, text = client.command(step)
                if code // 100 > 3 or code == 0:
                    return step[:4], code, text
            client.send(TEXT + b'.\r\n')
            code, text = client.reply()
            return ('stored', code, '') if code == 250 else ('dot', code, text)
        except ConnectionError:
            return 'dot', *HUNG_UP
        finally:
            if client:
                client.close()

    def work(self):
        while not self.ends:
            answer = self.once()
            self.seen[answer] = self.seen.get(answer, 0) + 1
            time.sleep(0.02)

    def refusals(self, *wanted):
        """Ends; all that was not stored was refused like this."""
        self.ends = True
        self.thread.join(60)
        refusals = {answer: count for answer, count in self.seen.items() if answer[0] != 'stored'}
        say(f'refusals: {refusals}')
        strange = refusals.keys() - set(wanted)
        assert not strange, refusals
        assert any(answer[0] == 'stored' for answer in self.seen)
        return refusals


def spool_status(daemon):
    status = daemon.ask('show', 'status')
    return status['status']['spool'], status['warning']


def until_health(daemon, health, seconds=30):
    try:
        return until(lambda: spool_status(daemon)[0]['health'] == health, seconds, health,
                     pause=0.05)
    except AssertionError:
        raise AssertionError(f'{health} is wanted: {spool_status(daemon)}\n'
                             f'{daemon.counters()}\n{daemon.program.last_words()}') from None


def grows(daemon, counter, by=50, seconds=20):
    before = daemon.counters()[counter]
    until(lambda: daemon.counters()[counter] >= before + by, seconds, f'{counter} to grow')


TRIED = ('accepted_messages', 'delivered', 'bounced', 'deferred')


def hold_still(daemon, seconds=0.5):
    """What was under way ends; then nothing is accepted and nothing is tried."""
    def tried():
        counters = daemon.counters()
        return [counters[key] for key in TRIED]

    def is_still():
        before = tried()
        time.sleep(1)
        return before == tried()

    until(is_still, 10, 'stillness')
    before = tried()
    time.sleep(seconds)
    assert before == tried()


def not_yet_durable(daemon):
    """Outcomes that a crash would forget: each is a delivery that is repeated, or a deferral."""
    counters = daemon.counters()
    return sum(counters[key] for key in TRIED[1:]) - counters['outcomes']


def begin(world, disk, rules=load.RULES):
    sink = world.sink(*rules)
    daemon = place_on(world.daemon(), disk, load.CONFIG % sink.address)
    generator = world.generator(daemon.listen, *LOAD)
    until(lambda: sink.arrived() > 300, 20, 'the load')
    return sink, daemon, generator


def finish(world, disk, daemon, sink, generator, doubled_max=0, least=300):
    """The last life ends; nothing was lost, or doubled more often than it may."""
    load.settle(daemon, generator)
    verdict = load.check_ledger(world, sink, generator, least=least)
    load.check_accounting(daemon, generator)
    assert verdict['duplicates'] <= doubled_max, verdict
    say(f'disk: {disk.counters()}')
    until(lambda: not_yet_durable(daemon) == 0, 10, 'the last outcomes in the log')
    counters = daemon.counters()
    assert daemon.shutdown() == 0
    return counters


def log_lines(daemon, word):
    return [line for line in daemon.program.log().split('\n') if word in line]


def test_read_only_and_back(world, disk):
    """As after an error of the disk: all that writes fails. Nothing is taken or tried until it can
    be written down again; then all goes on. The second time the power fails before that."""
    sink, daemon, generator = begin(world, disk)
    probe = Probe(daemon)
    disk.order(f'fail change all {errno.EROFS} {FOR_EVER}')
    until_health(daemon, 'stalled')
    hold_still(daemon)
    spool, warnings = spool_status(daemon)
    assert spool['reason'] == 'Read-only file system' and spool['since']
    assert any(re.match('the spool is stalled since [0-9]+ s, nothing is accepted', text)
               for text in warnings), warnings
    assert probe.once() == ('MAIL', *NO_DISK)
    until(lambda: probe.seen.get(('MAIL', *NO_DISK), 0) > 5, 10, 'refusals')
    disk.order('well')
    until_health(daemon, 'healthy')
    grows(daemon, 'delivered')
    grows(daemon, 'accepted_messages')
    assert spool_status(daemon)[0]['reason'] is None
    probe.refusals(('MAIL', *NO_DISK), ('dot', *NOT_STORED), ('dot', *NO_DISK), ('dot', *HUNG_UP))
    assert len(log_lines(daemon, 'the spool')) <= 8, daemon.program.log()
    assert verify(world, generator.ledger, sink.ledger)['duplicates'] == 0

    disk.order(f'fail change all {errno.EROFS} {FOR_EVER}')
    until_health(daemon, 'stalled')
    hold_still(daemon, 0.3)
    in_memory = not_yet_durable(daemon)
    disk.order('cut 7')
    daemon.kill()
    disk.order('on')
    disk.order('well')
    daemon.start()
    grows(daemon, 'delivered')
    finish(world, disk, daemon, sink, generator, doubled_max=in_memory)


def wait_for_faults(disk, count, seconds=20):
    until(lambda: disk.counters()['faults'] >= count, seconds, f'{count} faults')


def test_failed_syncs(world, disk):
    """Of messages, of outcomes, of all; once, a few times, for seconds. A failed one poisons its
    segment, its mail is refused by a void, and what follows goes on in a fresh one."""
    sink, daemon, generator = begin(world, disk)
    faults = 0
    for files, count, seconds in (('messages', 1, 0), ('outcomes', 1, 0), ('all', 3, 0),
                                  ('other', 4, 0), ('messages', FOR_EVER, 1.2),
                                  ('outcomes', FOR_EVER, 1.2)):
        probe = Probe(daemon)
        before = daemon.counters()
        disk.order(f'fail sync {files} {errno.EIO} {count}')
        wait_for_faults(disk, faults + min(count, 4))
        time.sleep(seconds)
        disk.order('well')
        faults = disk.counters()['faults']
        until_health(daemon, 'healthy')
        grows(daemon, 'delivered')
        grows(daemon, 'accepted_messages')
        after = daemon.counters()
        may_hang_up = [('dot', *HUNG_UP)] if files in ('outcomes', 'all') else []
        probe.refusals(('MAIL', *NO_DISK), ('dot', *NOT_STORED), ('dot', *NO_DISK), *may_hang_up)
        failed = after['failed_commits'] - before['failed_commits']
        say(f'{files} {count}: {failed} failed commits')
        if count == 1:
            assert failed == 1 and after['voids'] - before['voids'] == 1
        # Each costs a file, so one that fails for ever is tried ever less often.
        assert failed <= 6
    assert len(log_lines(daemon, 'the spool')) <= 16, daemon.program.log()
    assert len(log_lines(daemon, ' accounting: ')) <= 14, daemon.program.log()
    assert verify(world, generator.ledger, sink.ledger)['duplicates'] == 0
    # What was answered so far lasts: not even a cut takes it back.
    disk.order(f'fail sync outcomes {errno.EIO} {FOR_EVER}')
    until_health(daemon, 'stalled')
    hold_still(daemon, 0.3)
    in_memory = not_yet_durable(daemon)
    assert in_memory > 0
    disk.order('cut 3')
    daemon.kill()
    disk.order('on')
    disk.order('well')
    daemon.start()
    grows(daemon, 'delivered')
    finish(world, disk, daemon, sink, generator, doubled_max=in_memory)


def test_a_disk_that_fills(world, disk):
    """Mail is refused before the disk is full; what is in the queue goes out through the reserve, and
    with that there is room again."""
    address = world.address()
    daemon = place_on(world.daemon(), disk, load.CONFIG % address)
    disk.order('room 12000000')
    probe = Probe(daemon)
    until(lambda: probe.seen, 10, 'the first answer')
    fills = world.generator(daemon.listen, '--sessions', '20', '--messages', '5000', '--sizes',
                            '20k', '--domains', '20', '--give-up', '60')
    until_health(daemon, 'low-space')
    until(lambda: ('MAIL', *NO_SPACE) in probe.seen, 10, 'a refusal')
    probe.refusals(('MAIL', *NO_SPACE), ('dot', *NO_SPACE))

    def is_refused():
        before = daemon.counters()['accepted_messages']
        time.sleep(1)
        return before == daemon.counters()['accepted_messages']

    until(is_refused, 10, 'the load to be refused as well')
    spool, warnings = spool_status(daemon)
    assert spool['reason'] == 'too little free disk space' and spool['since']
    assert any('the spool is low-space since' in text for text in warnings), warnings
    assert disk.counters()['refused_space'] == 0, 'the disk was full before mail was refused'
    # Nobody was hung up on.
    fills.program.end(signal.SIGTERM)
    sums = fills.wait()
    assert sums['lost_connections'] == 0 and sums['deferred'] > 0 and sums['accepted'] > 100, sums
    daemon.kill()
    daemon.start()
    assert daemon.counters()['queued_rcpts'] >= sums['accepted']

    def is_refused_at_once():
        """Behind the dot until that there is no room has been found out anew."""
        step, *reply = probe.once()
        assert tuple(reply) == NO_SPACE, (step, reply)
        return step == 'MAIL'

    until(is_refused_at_once, 10, 'a refusal at MAIL')
    sink = world.sink(address=address)
    assert daemon.cli('schedule', '*/*').returncode == 0
    daemon.wait_for(60, queued_rcpts=0)
    until_health(daemon, 'healthy')
    assert probe.once()[:2] == ('stored', 250)
    follows = world.generator(daemon.listen, '--sessions', '20', '--messages', '1000',
                              '--first', '10000', name='follows')
    assert follows.wait()['accepted'] == 1000
    daemon.wait_for(60, queued_rcpts=0)
    verdict = verify(world, fills.ledger, follows.ledger, sink.ledger)
    assert (verdict['lost'], verdict['duplicates'], verdict['unexpected']) == (0, 0, 0), verdict

    def all_rows():
        rows = final_rows_by_rcpt(daemon.rows())
        return rows if len(rows) > verdict['accepted'] else None

    rows = until(all_rows, 10, 'a row for each recipient, and for those of the probe', pause=0.1)
    del rows['a@probe.test']
    assert len(rows) == verdict['accepted'] and {len(found) for found in rows.values()} == {1}
    assert daemon.shutdown() == 0


def test_accounting_on_a_full_disk(world, disk):
    """Rows cannot be written, so the log keeps the outcomes; when it can keep no more, mail is refused,
    then nothing is tried any more. With room again all rows follow, each once."""
    room = ['--rcpts', '20', '--messages', '1000']
    sink = world.sink(*room, '--rule', 'rcpt 451 4.2.1 ' + 'later ' * 80)
    daemon = world.daemon()
    daemon.segment_size = '1m'
    place_on(daemon, disk, load.CONFIG % sink.address)
    generator = world.generator(daemon.listen, '--sessions', '5', '--messages', '400',
                                '--rcpts', '20', '--domains', '5')
    assert generator.wait()['accepted'] == 400
    disk.order('room 1500000')
    probe = Probe(daemon)
    accounting = until(lambda: next((file for file in daemon.ask('show', 'status')['accounting']
                                     if file['error']), None), 20, 'the stall of accounting')
    assert accounting['error'] == 'No space left on device', accounting
    until(lambda: ('MAIL', *NO_SPACE) in probe.seen, 30, 'a refusal')
    until_health(daemon, 'stalled', 60)
    hold_still(daemon)
    assert 'outcomes cannot be written to the log' in daemon.cli('show', 'queues').stdout
    assert len(log_lines(daemon, ' accounting: ')) == 1, daemon.program.log()
    disk.order('well')
    until_health(daemon, 'healthy')
    probe.refusals(('MAIL', *NO_SPACE), ('dot', *NO_SPACE))
    sink.stop()
    behaving = world.sink(*room, address=sink.address, name='behaving')
    assert daemon.cli('schedule', '*/*').returncode == 0
    counters = finish(world, disk, daemon, behaving, generator)
    tries = [row for row in daemon.rows() if row['type'] == 't']
    say(f'{len(tries)} rows of tries that failed')
    assert len(tries) == counters['deferred']


def test_a_disk_of_accounting_that_hangs(world, disk):
    """Operators are answered, who are told of it, and mail goes on. It hangs longer than any test."""
    sink = world.sink()
    daemon = world.daemon()
    daemon.acct_path = os.path.join(disk.path, 'acct.csv')
    daemon.write('{base}' + load.CONFIG % sink.address)
    daemon.start()

    def send(count):
        assert send_message(daemon.listen, 'a@sender.test', ['a@probe.test'], TEXT)[0] == 250
        daemon.wait_for(60, delivered=count)

    # The beginning of a file waits for its disk, whose name is the last of it that is synced.
    before = disk.counters()['directory_syncs']
    send(1)
    until(lambda: disk.counters()['directory_syncs'] > before, 60, 'the file to have begun')
    daemon.wait_for_rows(1, 60)
    disk.order('slow 3600000')
    send(2)
    row = until(lambda: next((file for file in daemon.ask('show', 'status')['accounting']
                              if file['error']), None), 60, 'word of the disk')
    assert row['error'] == 'the disk takes too long', row
    assert f'{row["path"]} cannot be written since' in daemon.cli('show', 'status').stdout
    send(3)


def test_a_disk_that_files_go_to_hangs(world, disk):
    """Likewise; only what goes to files and programs waits, and the daemon's end does not wait for it."""
    folder = os.path.join(disk.path, 'mail')
    os.mkdir(folder)
    sink = world.sink()
    daemon = world.daemon()
    daemon.write('{base}' + load.CONFIG % sink.address +
                 f'<domain file.test>\n    type file\n    file-format append-mbox\n'
                 f'    file-destination {folder}/box\n</domain>\n')
    daemon.start()

    def send(rcpt):
        assert send_message(daemon.listen, 'a@sender.test', [rcpt], TEXT)[0] == 250

    send('1@file.test')
    daemon.wait_for(60, delivered=1)
    disk.order('slow 3600000')
    send('2@file.test')
    until(lambda: 'a sync takes its time' in disk.program.log(), 60, 'the disk to hang')
    send('1@probe.test')
    daemon.wait_for(60, delivered=2, queued_rcpts=1)
    answer = daemon.cli('shutdown', '--grace=1s')
    assert answer.returncode == 0, answer.stderr
    until(lambda: 'while a file system hangs' in daemon.program.log(), 100, 'the end')
    # The kernel lets no process go whose request such a file system is at.
    disk.program.end()
    assert daemon.program.process.wait(60) == 0


def test_a_slow_disk(world, disk):
    """A commit of outcomes that takes long stops deliveries after one second: so much, and what the
    connections carry, is what a crash would repeat."""
    address = world.address()
    daemon = world.daemon()
    daemon.spool_path = os.path.join(disk.path, 'spool')
    # One queue with all the connections that it may have: what goes on there is sent ahead.
    daemon.write('{base}' + load.CONFIG % address +
                 '<domain d0.test>\n    max-smtp-out 8\n</domain>\n')
    daemon.start()
    generator = world.generator(daemon.listen, '--sessions', '20', '--messages', '1500',
                                '--domains', '1')
    assert generator.wait()['accepted'] == 1500
    # Far longer than is looked: a busy machine must not see the next commit's deliveries.
    disk.order('slow 12000')
    sink = world.sink('--rule', 'dot delay=20', address=address)
    until(sink.arrived, 40, 'the first delivery')
    time.sleep(2)
    first = sink.arrived()
    time.sleep(1)
    second = sink.arrived()
    say(f'{first} arrivals in two seconds, {second - first} in the third')
    assert first < 1200 and second - first <= load.CONNECTIONS_MAX
    disk.order('well')
    finish(world, disk, daemon, sink, generator)
