"""The segment log of a running daemon: its size under a tail of deferred mail, and what damage costs."""
import glob
import os
import re

import load
from harness import final_rows_by_rcpt, say, until, verify

MESSAGES = 9000
SEGMENT = 1 << 20
# A second: files are freed by checkpoints, one for each dozen segments of mail, and a stream that is
# over within a second would be over before the first of them.
RATE = '1000'


def segments_of(daemon):
    counters = daemon.counters()
    return counters['segments_total'], counters['segments_total'] - counters['segments_free']


def test_a_tail_of_deferred_mail_pins_no_disk(world):
    """One message in forty stays while the others pass by: without compaction each segment ever
    written would stay for its few. Also when the daemon is killed in the middle of that."""
    sink = world.sink('--rule', 'rcpt to=*@d0.test 451 4.2.1 not now')
    daemon = world.daemon()
    daemon.segment_size = '1m'
    daemon.write(f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n    retry-after 1h\n'
                 '</domain>\n')
    daemon.start()
    generator = world.generator(daemon.listen, '--survive', '--sessions', '20', '--messages',
                                str(MESSAGES), '--sizes', '6k', '--domains', '40', '--rate', RATE)
    until(lambda: daemon.counters()['evacuations'] > 3, 30, 'compaction')
    daemon.kill()
    daemon.start()
    sums = generator.wait()
    assert sums['accepted'] + sums['in_doubt'] == MESSAGES, sums
    until(lambda: daemon.counters()['queued_rcpts'] < MESSAGES // 30, 30, 'only the tail')
    until(lambda: daemon.counters()['connections_out'] == 0, 30, 'the end of deliveries')
    stay = daemon.counters()['queued_rcpts']
    total, used = segments_of(daemon)
    written = MESSAGES * 6 * 1024 // SEGMENT
    say(f'{stay} messages stay of {written} segments written; {used} in use, {total} files')
    assert MESSAGES // 40 - 20 <= stay <= MESSAGES // 40 + 20
    # Segments are left alone for sixteen serials; all that is older is emptied at the pace of mail.
    assert total <= 40 < written * 4 // 5
    assert len(glob.glob(os.path.join(daemon.spool_path, '*.seg'))) == total
    daemon.kill()
    daemon.start()
    sink.stop()
    behaving = world.sink(address=sink.address, name='behaving')
    assert daemon.cli('schedule', '*/*').returncode == 0
    daemon.wait_for(30, queued_rcpts=0)
    verdict = verify(world, generator.ledger, sink.ledger, behaving.ledger)
    assert verdict['lost'] == 0 and verdict['unexpected'] == 0, verdict
    assert behaving.stop()['messages'] == stay
    load.check_accounting(daemon, generator)
    assert daemon.shutdown() == 0


def spoil(path, offset):
    with open(path, 'r+b') as file:
        file.seek(offset)
        file.write(os.urandom(512))


def test_damage_costs_what_it_touches(world):
    """A sector in the middle of the mail is lost while the daemon is down: the start says where, and
    all other mail is delivered."""
    address = world.address()
    daemon = world.daemon()
    daemon.write(f'{{base}}<domain *>\n    smtp-hosts [{address}]:2525\n    retry-after 1s\n'
                 '</domain>\n')
    daemon.start()
    generator = world.generator(daemon.listen, '--sessions', '5', '--messages', '300')
    assert generator.wait()['accepted'] == 300
    daemon.kill()
    sector = 200 * 1024
    path, = [path for path in glob.glob(os.path.join(daemon.spool_path, '*.seg'))
             if b'X-Bench' in open(path, 'rb').read()[sector:sector + 65536]]
    spoil(path, sector)
    daemon.start()
    name = os.path.basename(path)
    told = [line for line in daemon.program.log().split('\n') if name in line]
    assert told and all(re.search('ERROR spool: ' + name + ', offset [0-9]+: ', line)
                        for line in told), daemon.program.log()
    offset = int(re.search('offset ([0-9]+)', told[0])[1])
    assert sector - 4096 <= offset <= sector + 512
    survive = daemon.counters()['queued_rcpts']
    assert 298 <= survive < 300
    sink = world.sink(address=address)
    daemon.wait_for(20, queued_rcpts=0)
    verdict = verify(world, generator.ledger, sink.ledger)
    say(f'{verdict}; told: {told[0]}')
    assert verdict['lost'] == 300 - survive and verdict['duplicates'] == 0
    assert len(final_rows_by_rcpt(daemon.wait_for_rows(survive))) == survive
    # It is told of once: the next start finds nothing that is needed there.
    assert daemon.shutdown() == 0
    assert daemon.start() and daemon.counters()['queued_rcpts'] == 0
