"""What leaves, and where to: headers without some of their fields, files and programs."""
import fcntl
import os
import re
import signal
import time

from dkim_mail import Key, verdicts
from harness import Smtp, send_message, until
from test_peers import Receiver

REMOVES = '''{{base}}
domain-key r1,*,{key}
<domain kept.test>
    smtp-hosts [{kept}]:2525
    remove-header ""
</domain>
<domain *>
    smtp-hosts [{receiver}]:2525
    remove-header x-gone, Received,List-Id
    dkim-sign yes
    dkim-headers X-Gone,X-Kept
    dkim-disallow-adding-headers List-Id
</domain>
'''
HEADER = b'From: a@shop.example\r\nX-GONE: 1\r\n\tfolded\r\nSubject: x-gone: s\r\n' \
    b'X-Gone-Not: 2\r\nlist-id: <l>\r\nX-Kept: \xe4\r\nX-gone: 3\r\n'
LEFT = b'From: a@shop.example\r\nSubject: x-gone: s\r\nX-Gone-Not: 2\r\nX-Kept: \xe4\r\n'


def test_headers_are_removed_at_delivery(world):
    """By DATA and BDAT, small and in chunks, after a restart too; others of the same message keep
    them, and a signature does not speak of what its queue removes."""
    receiver, kept = Receiver(world), Receiver(world)
    key = Key(world.program('ringpost'), world.path(''), '2048')
    records = {'r1._domainkey.shop.example': key.record}
    config = REMOVES.format(key=key.path, receiver=receiver.address, kept=kept.address)
    daemon = world.daemon(config).start()
    line = b'X-Gone: body %d\r\n'
    bodies = [b'\r\n' + b''.join(line % i for i in range(count)) for count in (3, 500, 60000)]
    sent = 0
    for body in bodies:
        assert send_message(daemon.listen, 'a@shop.example', ['b@one.test', 'c@kept.test'],
                            HEADER + body)[0] == 250
        sent += 1
        arrived = receiver.wait(sent)[-1][2]
        assert arrived.endswith(LEFT + body) and not arrived.startswith(b'Received')
        assert verdicts(arrived, records) == [True] == verdicts(kept.wait(sent)[-1][2], records)
        assert kept.wait(sent)[-1][2].endswith(HEADER + body)
    # The receiver has shown what it is by now: BDAT.
    for _ in range(3):
        client = Smtp(daemon.listen)
        client.command('EHLO client.test')
        client.envelope('a@shop.example', ['b@one.test'])
        assert client.bdat(HEADER[:50], HEADER[50:] + bodies[0])[0] == 250
        client.close()
        sent += 1
        assert receiver.wait(sent)[-1][2].endswith(LEFT + bodies[0])
    # What waits gets what the configuration says when it leaves. What has left does not come again.
    daemon.wait_for_rows(sent + len(bodies))
    daemon.cli('pause', 'queue', 'one.test/*')
    for body in bodies:
        assert send_message(daemon.listen, 'a@shop.example', ['b@one.test'], HEADER + body)[0] == 250
    daemon.kill()
    daemon.start()
    daemon.cli('resume', 'queue', 'one.test/*')
    got = receiver.wait(sent + 3)[sent:]
    for body in bodies:
        assert [True for mail in got if mail[2].endswith(LEFT + body)]


# ---- Files ---------------------------------------------------------------------------------------

FILES = '''{{base}}
<domain *>
    type file
    file-destination {folder}/$domain
    max-smtp-out 5
    retry-after 1s
</domain>
<domain pickup.test>
    file-format newfile-pickup
</domain>
<domain box.test>
    file-format append-mbox
    file-destination {folder}/box/$user
</domain>
'''


def body_of(number, octets=300):
    """Dots, From_ lines, 8-bit."""
    line = b'From me %d\r\n..\r\n>From \xe4\r\n.dot\r\n' % number
    return b'Subject: number %d\r\n\r\n' % number + line * (octets // len(line) + 1) + b'end'


def own_content(octets):
    """Behind the Received field."""
    assert octets.startswith(b'Received: '), octets[:80]
    return octets[octets.index(b'Subject:'):]


def as_sent(number, octets=300):
    return body_of(number, octets) + b'\r\n'


def read_all(folder):
    got = {}
    for name in os.listdir(folder):
        assert not name.startswith('.'), 'a draft is left'
        with open(os.path.join(folder, name), 'rb') as file:
            got[name] = file.read()
    return got


def read_box(path):
    with open(path, 'rb') as file:
        octets = file.read()
    assert octets.startswith(b'From ') and octets.endswith(b'\n\n') and b'\r' not in octets
    parts = re.split(rb'(?:^|(?<=\n\n))From [^ ]+ \w{3} \w{3} \d\d [\d:]{8} \d{4}\n', octets)
    assert parts[0] == b''
    return [re.sub(rb'(?m)^>(>*From )', rb'\1', part)[:-1].replace(b'\n', b'\r\n')
            for part in parts[1:]]


def put(daemon, rcpts, number, octets=300):
    assert send_message(daemon.listen, 'a@shop.example', rcpts, as_sent(number, octets))[0] == 250


def test_files(world):
    """Each format, small and in chunks, before and after a restart; what it says in accounting."""
    folder = world.path('out')
    os.makedirs(folder + '/pickup.test')
    os.makedirs(folder + '/box')
    daemon = world.daemon(FILES.format(folder=folder)).start()
    put(daemon, ['x@later.test'], 1)
    row = daemon.wait_for_rows(1, kinds='t')[-1]
    assert row['dlvType'] == 'file' and row['dsnStatus'].startswith('4.3.0')
    assert 'later.test' in row['dsnDiag'] and 'No such file' in row['dsnDiag'], row
    os.makedirs(folder + '/later.test')
    row = daemon.wait_for_rows(1, kinds='d')[-1]
    assert (row['dlvType'], row['rcpt']) == ('file', 'x@later.test')
    assert [own_content(octets) for octets in read_all(folder + '/later.test').values()] == \
        [as_sent(1)]
    sizes = (300, 90_000, 1_500_000)
    for number, octets in enumerate(sizes):
        put(daemon, ['a@box.test', 'b@box.test', '"../../e"@box.test', 'p@pickup.test'], number,
            octets)
    rows = daemon.wait_for_rows(1 + 4 * len(sizes), kinds='d')
    assert {row['dlvType'] for row in rows} == {'file'}
    wanted = sorted(as_sent(*pair) for pair in enumerate(sizes))
    for user in ('a', 'b', '"....e"'):
        assert sorted(own_content(part) for part in read_box(f'{folder}/box/{user}')) == wanted
    got = read_all(folder + '/pickup.test').values()
    start = b'x-sender: a@shop.example\r\nx-receiver: p@pickup.test\r\n'
    assert all(octets.startswith(start) for octets in got)
    assert sorted(own_content(octets[len(start):]) for octets in got) == wanted
    # A mailbox that another program has locked waits; and what waits goes on after a restart.
    with open(folder + '/box/a', 'rb') as box:
        fcntl.flock(box, fcntl.LOCK_EX)
        put(daemon, ['a@box.test'], 7, 1_000_000)
        put(daemon, ['b@box.test'], 8)
        daemon.wait_for_rows(2 + 4 * len(sizes), kinds='d')
        daemon.kill()
    daemon.start()
    daemon.wait_for_rows(3 + 4 * len(sizes), kinds='d')
    assert own_content(read_box(folder + '/box/a')[-1]) == as_sent(7, 1_000_000)
    assert own_content(read_box(folder + '/box/b')[-1]) == as_sent(8)


def test_files_over_crashes(world):
    """Killed again and again in the middle: what counts as delivered is there, whole; what is not
    yet delivered will be."""
    folder = world.path('out')
    os.makedirs(folder + '/new.test')
    os.makedirs(folder + '/box')
    daemon = world.daemon(FILES.format(folder=folder)).start()
    count = 0
    for life in range(4):
        for number in range(count, count + 25):
            put(daemon, ['a@new.test', 'a@box.test'], number, 300 if number % 4 else 40_000)
        count += 25
        time.sleep(0.02 * life)
        daemon.kill()
        daemon.start()
    rows = daemon.wait_for_rows(2 * count, seconds=30, kinds='d')
    assert len(rows) == 2 * count
    wanted = {as_sent(number, 300 if number % 4 else 40_000) for number in range(count)}
    got = [own_content(octets) for octets in read_all(folder + '/new.test').values()]
    assert sorted(got) == sorted(wanted), 'each once: a name stands for a message'
    box = {part[part.find(b'Subject:'):] for part in read_box(folder + '/box/a')}
    assert wanted <= box


def test_files_of_two_spools(world):
    """Each counts its messages anew, as one does that was made anew: what another one has left in
    the folder is no earlier attempt."""
    folder = world.path('out')
    os.makedirs(folder + '/new.test')
    for number, name in enumerate(('first', 'second')):
        daemon = world.daemon(name=name)
        daemon.write(FILES.format(folder=folder).format(
            base=daemon.base().replace('shards 2', 'shards 1')))
        daemon.start()
        put(daemon, ['a@new.test'], number)
        assert daemon.wait_for_rows(1, kinds='d')[0]['dlvType'] == 'file'
        assert daemon.shutdown() == 0
    got = [own_content(octets) for octets in read_all(folder + '/new.test').values()]
    assert sorted(got) == sorted([as_sent(0), as_sent(1)])


def test_bad_destinations_are_refused(world):
    daemon = world.daemon('{base}')
    for text, why in (('file-destination var/mail', 'slash'),
                      ('file-destination /m/$rcpt', 'behind $'),
                      ('file-destination /' + 'm' * 1100, 'longer')):
        daemon.write(f'{{base}}<domain x.test>\n    {text}\n</domain>\n')
        answer = daemon.cli('test', 'config', daemon.config_path)
        assert answer.returncode != 0 and why in answer.stdout + answer.stderr, answer


# ---- Programs ------------------------------------------------------------------------------------

SCRIPT = r'''#!/bin/sh
# FOLDER TO FROM USER: keeps what it was given, and ends as the user's name says.
mkdir "$1/run.$$"
ls -d "$1"/run.* 2>/dev/null | wc -l >"$1/count.$$"
printf '%s\n' "$@" >"$1/args.$$"
case "$4" in
    deaf) rmdir "$1/run.$$"; exit 0 ;;
    hang) exec sleep 60 ;;
esac
cat >"$1/part.$$"
mv "$1/part.$$" "$1/in.$$"
[ "$4" = slow ] && sleep 0.3
rmdir "$1/run.$$"
echo noise; echo "said $4"; echo
case "$4" in
    exit*) exit ${4#exit} ;;
    signal) kill -9 $$ ;;
esac
'''
PROGRAMS = '''{{base}}
<domain *>
    type pipe
    command {script} {folder} $to "$from" $user "x $bodytype"
    max-smtp-out 3
    retry-after 1h
    data-send-timeout 5s
    smtp-data-termination-timeout 5s
</domain>
<domain none.test>
    command /nowhere/at/all
</domain>
'''


def test_programs(world):
    """What a program is given, octet by octet, and what its end means."""
    folder, script = world.path('out'), world.path('take')
    os.makedirs(folder)
    with open(script, 'w', encoding='ascii') as file:
        file.write(SCRIPT)
    os.chmod(script, 0o755)
    daemon = world.daemon(PROGRAMS.format(folder=folder, script=script)).start()
    odd = '"$(touch x)`id`; $to *"@p.test'
    put(daemon, ['deaf@p.test', 'hang@p.test', 'exit0@p.test', 'exit67@p.test', 'exit75@p.test',
                 'exit1@p.test', 'exit127@p.test', 'signal@p.test', 'x@none.test', odd], 1)
    put(daemon, ['large@p.test'], 2, 1_500_000)
    put(daemon, ['hang@q.test', 'deaf@q.test'], 3, 1_500_000)
    put(daemon, [f'slow@p{i}.test' for i in range(3)] + [f'slow@s.test'] * 1, 4)
    rows = {row['rcpt']: row for row in daemon.wait_for_rows(17, seconds=40, kinds='dbt')}
    wanted = {'deaf@p.test': ('d', '2.0.0', 'taken by the program'),
              'hang@p.test': ('t', '4.3.0', 'took too long'),
              'exit0@p.test': ('d', '2.0.0', 'said exit0'),
              'exit67@p.test': ('b', '5.1.1', 'exited with 67: said exit67'),
              'exit75@p.test': ('t', '4.3.0', 'exited with 75: said exit75'),
              'exit1@p.test': ('b', '5.3.0', 'exited with 1: said exit1'),
              'exit127@p.test': ('t', '4.3.5', 'exited with 127'),
              'signal@p.test': ('t', '4.3.0', 'signal 9'),
              'x@none.test': ('t', '4.3.5', 'No such file'),
              odd: ('d', '2.0.0', 'said "$(touch x)`id`; $to *"'),
              'large@p.test': ('d', '2.0.0', 'said large'),
              'hang@q.test': ('t', '4.3.0', 'took too long'),
              'deaf@q.test': ('d', '2.0.0', 'taken')}
    for rcpt, (kind, status, text) in wanted.items():
        row = rows[rcpt]
        assert (row['type'], row['dsnStatus'].split()[0], row['dlvType']) == (kind, status, 'pipe'), row
        assert text in row['dsnDiag'], row
    given = {}
    for name in os.listdir(folder):
        if name.startswith('args.'):
            with open(f'{folder}/{name}', encoding='utf-8') as file:
                arguments = file.read().split('\n')
            try:
                with open(f'{folder}/in.{name[5:]}', 'rb') as file:
                    given[arguments[1]] = (arguments, file.read())
            except FileNotFoundError:
                assert arguments[1].split('@')[0] in ('hang', 'deaf'), arguments
    assert given[odd][0] == [folder, odd, 'a@shop.example', odd.split('@')[0], 'x 8BITMIME', '']
    assert own_content(given[odd][1]) == as_sent(1).replace(b'\r\n', b'\n')
    assert own_content(given['large@p.test'][1]) == as_sent(2, 1_500_000).replace(b'\r\n', b'\n')


def test_programs_are_bounded_and_end_with_the_daemon(world):
    folder, script = world.path('out'), world.path('take')
    os.makedirs(folder)
    with open(script, 'w', encoding='ascii') as file:
        file.write(SCRIPT)
    os.chmod(script, 0o755)
    config = PROGRAMS.format(folder=folder, script=script)
    daemon = world.daemon(config.replace('timeout 5s', 'timeout 10m')).start()
    for number in range(8):
        put(daemon, ['slow@p.test'], number)
    daemon.wait_for_rows(8, kinds='d')
    counts = [int(open(f'{folder}/{name}', encoding='ascii').read())
              for name in os.listdir(folder) if name.startswith('count.')]
    assert len(counts) == 8 and max(counts) <= 3
    put(daemon, ['hang@p.test'], 9)
    until(lambda: any(name.startswith('run.') for name in os.listdir(folder)), 10, 'a program runs')
    assert daemon.cli('shutdown', '--grace=1s').returncode == 0
    assert daemon.program.process.wait(100) == 0


# ---- Accounting to a program ---------------------------------------------------------------------

CONSUMER = r'''#!/bin/sh
echo $$ >"$1/pid.part"
mv "$1/pid.part" "$1/pid"
exec cat >>"$1/rows"
'''
CONSUMED = '''{{base}}
<acct-file "|{script} {folder}">
    records d
    retry-interval 1s
    write-timeout 5s
</acct-file>
<domain *>
    type discard
</domain>
'''


def test_accounting_to_a_program(world):
    """It dies, it hangs, it is not there, the daemon is killed: no row is lost, and each comes once
    unless somebody died."""
    folder, script = world.path('out'), world.path('consume')
    os.makedirs(folder)

    def install():
        with open(script + '.new', 'w', encoding='ascii') as file:
            file.write(CONSUMER)
        os.chmod(script + '.new', 0o755)
        os.rename(script + '.new', script)

    def pid():
        with open(folder + '/pid', encoding='ascii') as file:
            return int(file.read())

    def lines():
        try:
            with open(folder + '/rows', encoding='utf-8', newline='') as file:
                return file.read().split('\r\n')[:-1]
        except FileNotFoundError:
            return []

    def rcpts():
        return [line.split(',')[4] for line in lines() if not line.startswith('type,')]

    def send(count):
        for _ in range(count):
            sent.append(f'r{len(sent)}@x.test')
            put(daemon, [sent[-1]], 1)

    def all_are_there(what):
        until(lambda: set(rcpts()) == set(sent), 15, what)

    def came_once():
        """In whatever order: two shards take the mail in."""
        return sorted(rcpts()) == sorted(sent)

    sent = []
    install()
    daemon = world.daemon(CONSUMED.format(folder=folder, script=script)).start()
    send(5)
    all_are_there('five rows')
    assert came_once() and sum(line.startswith('type,') for line in lines()) == 1
    # It dies with rows that it has not read.
    os.kill(pid(), signal.SIGSTOP)
    send(5)
    os.kill(pid(), signal.SIGKILL)
    all_are_there('what it had not read')
    assert came_once() and sum(line.startswith('type,') for line in lines()) == 2
    # It reads no more: the daemon ends it.
    os.kill(pid(), signal.SIGSTOP)
    send(3)
    all_are_there('rows after write-timeout')
    # There is none for a while, and the daemon dies too.
    os.rename(script, script + '.gone')
    os.kill(pid(), signal.SIGKILL)
    send(3)
    until(lambda: 'cannot be written' in daemon.program.log(), 10, 'a word in the log')
    daemon.kill()
    daemon.start()
    send(1)
    time.sleep(0.3)
    assert set(rcpts()) != set(sent)
    install()
    all_are_there('rows of two lives')
    assert daemon.shutdown() == 0
