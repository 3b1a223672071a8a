"""Messages from a folder: taken durable and then removed; what is broken goes to the other folder."""
import contextlib
import os
import time

from harness import until
from test_peers import Receiver

CONFIG = '''{{base}}
pickup {inbox} {bad}
<source {{{{pickup}}}}>
    process-x-job yes
</source>
<domain *>
    smtp-hosts [{receiver}]:2525
</domain>
'''
MESSAGE = (b'x-sender: a@sender.test\nX-Receiver: <b@one.test>\nx-job: j1\nx-receiver: c@two.test\n'
           b'Subject: s\n\nfirst\n.second\n..\nlast\n.\n')


class Folder:
    def __init__(self, world, more=''):
        self.inbox, self.bad = world.path('inbox'), world.path('bad')
        for path in (self.inbox, self.bad):
            os.makedirs(path)
        self.receiver = Receiver(world)
        self.daemon = world.daemon(CONFIG.format(inbox=self.inbox, bad=self.bad,
                                                 receiver=self.receiver.address) + more).start()

    def put(self, name, octets, age=10):
        """Moved in, as it is wanted; last altered so many seconds ago."""
        path = os.path.join(os.path.dirname(self.inbox), name)
        with open(path, 'wb') as file:
            file.write(octets)
        os.utime(path, (time.time() - age,) * 2)
        os.rename(path, os.path.join(self.inbox, name))

    def is_empty(self):
        return os.listdir(self.inbox) == []


def test_files_become_messages(world):
    """Envelope, job, lines that end in LF, dots and a last dot that does not count; many of them."""
    folder = Folder(world)
    # Nobody writes to the pipe: who opened it to read would wait for good, and the shard with it.
    os.mkfifo(os.path.join(folder.inbox, 'pipe'))
    os.makedirs(os.path.join(folder.inbox, 'folder'))
    folder.put('one', MESSAGE)
    rows = {row['rcpt']: row for row in folder.daemon.wait_for_rows(2)}
    assert set(rows) == {'b@one.test', 'c@two.test'}
    for row in rows.values():
        assert (row['type'], row['orig'], row['jobId'], row['srcType']) == \
            ('d', 'a@sender.test', 'j1', 'pickup')
    content = folder.receiver.wait(2)[0][2]
    assert content.startswith(b'Received: from pickup (127.0.0.1)')
    assert content.endswith(b'Subject: s\r\n\r\nfirst\r\n.second\r\n..\r\nlast\r\n')
    for number in range(200):
        folder.put(f'many{number}', b'x-sender:\r\nx-receiver: d%d@one.test\r\n\r\ntext\r\n' %
                   number)
    folder.put('large', b'x-sender: a@sender.test\nx-receiver: large@one.test\n\n' +
               (b'0123456789' * 7 + b'\n') * 20000)
    folder.daemon.wait_for_rows(203, 30)
    until(lambda: sorted(os.listdir(folder.inbox)) == ['folder', 'pipe'], 10, 'files are gone')
    assert os.listdir(folder.bad) == []
    assert os.listdir(folder.bad) == []


def test_broken_files_go_to_the_bad_folder(world):
    """With the reason in the log; what is still being written, hidden or a folder stays."""
    folder = Folder(world)
    broken = {
        'no-sender': (b'x-receiver: b@one.test\n\nx\n', 'no x-sender before x-receiver'),
        'no-receiver': (b'x-sender: a@sender.test\n\nx\n', 'does not begin with'),
        'no-envelope': (b'Subject: s\n\nx\n', 'does not begin with'),
        'bad-address': (b'x-sender: a@sender.test\nx-receiver: b@@one\n\nx\n', 'bad address in x-rec'),
        'two-senders': (b'x-sender: a@b.test\nx-sender: a@b.test\n', 'two x-sender'),
        'empty': (b'', 'it is empty'),
        'long-line': (b'x-sender: a@b.test\nx-receiver: b@one.test\n\n' + b'x' * 2000, 'too long'),
    }
    for name, (octets, _) in broken.items():
        folder.put(name, octets)
    os.makedirs(os.path.join(folder.inbox, 'sub'))
    folder.put('.hidden', MESSAGE)
    until(lambda: sorted(os.listdir(folder.bad)) == sorted(broken), 10, 'all are moved')

    def told(name):
        """The word that follows the move."""
        return [line for line in folder.daemon.program.log().split('\n')
                if f'pickup: {name} was moved' in line]

    for name, (octets, why) in broken.items():
        line, = until(lambda name=name: told(name), 10, 'a line of the log')
        assert why in line
        with open(os.path.join(folder.bad, name), 'rb') as file:
            assert file.read() == octets
    # Somebody writes: as long as that goes on the file is not looked at.
    folder.put('growing', MESSAGE[:40], age=0)
    for _ in range(20):
        time.sleep(0.1)
        with open(os.path.join(folder.inbox, 'growing'), 'ab') as file:
            os.utime(file.fileno())
    assert sorted(os.listdir(folder.inbox)) == ['.hidden', 'growing', 'sub']
    with open(os.path.join(folder.inbox, 'growing'), 'ab') as file:
        file.write(MESSAGE[40:])
    folder.daemon.wait_for_rows(2)
    until(lambda: sorted(os.listdir(folder.inbox)) == ['.hidden', 'sub'], 10, 'it is taken')


def test_recipients_that_go_different_ways_are_two_files(world):
    """A client would be told to send the second one by itself: a file cannot, and holds up nobody."""
    folder = Folder(world, '''<source {{pickup}}>
        pattern-list ways
    </source>
    <virtual-mta w>
        smtp-source-host {daemon.source} w.relay.test
    </virtual-mta>
    <pattern-list ways>
        rcpt-to /@two/ virtual-mta=w
    </pattern-list>
    ''')
    folder.put('split', MESSAGE)
    until(lambda: os.listdir(folder.bad) == ['split'], 10, 'it is moved')
    until(lambda: 'pickup: split was moved' in folder.daemon.program.log(), 10, 'a line of the log')
    assert '452 this recipient goes another way' in folder.daemon.program.log()
    folder.put('one', MESSAGE.replace(b'x-receiver: c@two.test\n', b''))
    # A sender and a recipient as long as their paths allow.
    folder.put('long', (b'x-sender: %s@sender.test\nx-receiver: %s@one.test\n\nx\n' %
                        (b's' * 200, b'r' * 100)))
    rows = {row['rcpt']: row for row in folder.daemon.wait_for_rows(2)}
    assert set(rows) == {'b@one.test', 'r' * 100 + '@one.test'}
    until(folder.is_empty, 10, 'the folder is empty')


def test_links_and_names_that_are_used_again(world):
    """A42: what is a file elsewhere is none of ours; and what takes a file's name while that is read is
    mail of its own."""
    folder = Folder(world)
    outside = os.path.join(os.path.dirname(folder.inbox), 'outside')
    folder.put('other', MESSAGE.replace(b'b@one', b'linked@one'))
    folder.daemon.wait_for_rows(2)
    with open(outside, 'wb') as file:
        file.write(MESSAGE)
    os.utime(outside, (1, 1))
    os.symlink(outside, os.path.join(folder.inbox, 'symbolic'))
    os.link(outside, os.path.join(folder.inbox, 'hard'))

    def is_read():
        """Whether the daemon has it open."""
        fds = f'/proc/{folder.daemon.program.process.pid}/fd'
        for fd in os.listdir(fds):
            try:
                if os.readlink(f'{fds}/{fd}').endswith('/inbox/again'):
                    return True
            except FileNotFoundError:
                pass
        return False

    def caught(rcpt):
        """A large file of that name, while it is read; another time, should that be over."""
        large = b'x-sender: a@sender.test\nx-receiver: %s\n\n' % rcpt + b'x' * 70 + b'\n'
        for _ in range(5):
            folder.put('again', large + (b'y' * 70 + b'\n') * 100000)
            until(lambda: is_read() or not os.path.exists(f'{folder.inbox}/again'), 10, 'it is seen')
            if is_read():
                return True
        return False

    assert caught(b'first@one.test')
    folder.put('again', b'x-sender: a@sender.test\nx-receiver: second@one.test\n\nx\n')
    until(lambda: {'first@one.test', 'second@one.test'} <=
          {row['rcpt'] for row in folder.daemon.rows()}, 20, 'both are taken')
    assert caught(b'third@one.test')
    with contextlib.suppress(FileNotFoundError):  # It may have been taken by now.
        os.unlink(f'{folder.inbox}/again')
    folder.put('last', b'x-sender: a@sender.test\nx-receiver: last@one.test\n\nx\n')
    until(lambda: {'third@one.test', 'last@one.test'} <=
          {row['rcpt'] for row in folder.daemon.rows()}, 20, 'both are taken')
    assert sorted(os.listdir(folder.inbox)) == ['hard', 'symbolic']
    os.unlink(outside)
    until(lambda: os.listdir(folder.inbox) == ['symbolic'], 10, 'it has one name now')
    assert os.listdir(folder.bad) == []


def test_what_cannot_be_taken_now_stays(world):
    """While the machine's memory is short; and the end of the daemon loses nothing."""
    folder = Folder(world, 'max-memory-usage-percent 1\n')
    folder.put('one', MESSAGE)
    until(lambda: 'pickup: one cannot be taken now: 452' in folder.daemon.program.log(), 10, 'tried')
    assert os.listdir(folder.inbox) == ['one'] and os.listdir(folder.bad) == []
    assert folder.daemon.shutdown() == 0
    with open(folder.daemon.config_path, encoding='utf-8') as config:
        text = config.read()
    with open(folder.daemon.config_path, 'w', encoding='utf-8') as config:
        config.write(text.replace('percent 1\n', 'percent 100\n'))
    folder.daemon.start()
    assert len(folder.daemon.wait_for_rows(2)) == 2
    until(folder.is_empty, 10, 'the folder is empty')
