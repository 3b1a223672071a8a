"""Messages above 64 KB, which the daemon writes while they arrive and reads while it sends them: whole
or not at all, whatever is killed or breaks off, and never in memory as a whole.
"""
import glob
import hashlib
import os
import random
import socket
import struct
import threading

from harness import Smtp, say, until

LARGE, MIDDLE, SMALL = 30 << 20, 100 << 10, 2000
LARGE_COUNT = 3
HOT_SET = 8 << 20
# What a large message takes at most while it comes or goes: two chunks of 64 KB in the one direction,
# its envelope and one chunk in the other, and as much again for the buffers they are read into.
PASSING = 256 << 10
ROUTE = '<domain %s>\n    smtp-hosts [%s]:2525\n    retry-after 1s\n</domain>\n'
# Five of 256 octets end a line, two are dots: lines of 51 octets, of which some begin with a dot.
LETTERS = bytes([10] * 5 + [46] * 2 + [65 + n % 26 for n in range(249)])


def wire(number, octets):
    """A message that no other is like, as it goes over the wire: dot-stuffed, no final dot."""
    noise = random.Random(f'{number}/{octets}').randbytes(octets).translate(LETTERS)
    text = b'Subject: number %d\r\n\r\n%s\r\n' % (number, noise.replace(b'\n', b'\r\n'))
    return text.replace(b'\n.', b'\n..')


def digest(octets):
    return hashlib.sha256(octets).hexdigest()


class Receiver:
    """Takes everything, but stops to read in the middle of large messages until it is opened."""
    BEFORE_GATE = 4 << 20

    def __init__(self, world):
        self.addresses = [world.address() for _ in range(1 + LARGE_COUNT)]
        self.is_open = threading.Event()
        self.arrived = {}    # recipient -> digests of what ended with a dot
        self.stuck = set()   # recipients whose message waits at the gate
        self.broken = set()  # those whose message ended without a dot
        for address in self.addresses:
            listener = socket.create_server((address, 2525), backlog=100)
            # Or the kernel takes a large message whole.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 << 10)
            world.at_end.append(lambda listener=listener: listener.shutdown(socket.SHUT_RDWR))
            threading.Thread(target=self.accept, args=(listener,), daemon=True).start()
        world.at_end.append(self.is_open.set)

    def accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            try:
                self.talk(connection)
            except OSError:
                pass

    def talk(self, connection):
        rcpt = None
        connection.sendall(b'220 gate.test\r\n')
        with connection.makefile('rb', 1 << 18) as stream:
            for line in stream:
                verb = line[:4].upper()
                if verb == b'DATA':
                    connection.sendall(b'354 go on\r\n')
                    self.take(connection, stream, rcpt)
                elif verb == b'QUIT':
                    connection.sendall(b'221 2.0.0 bye\r\n')
                    return
                else:
                    if verb == b'RCPT':
                        rcpt = line.split(b'<')[1].split(b'>')[0].decode()
                    connection.sendall(b'250 2.1.0 fine\r\n')

    def take(self, connection, stream, rcpt):
        try:
            content = self.content(stream, rcpt)
        except OSError:
            content = None
        if content is None:
            self.broken.add(rcpt)
            raise ConnectionError
        self.arrived.setdefault(rcpt, []).append(content)
        connection.sendall(b'250 2.0.0 taken\r\n')

    def content(self, stream, rcpt):
        """The digest of what stands behind the Received field; None when it has no end. The client
        sends nothing behind the dot until that is answered."""
        summed, count, held = hashlib.sha256(), 0, b''
        while True:
            piece = stream.read1(1 << 18)
            if not piece:
                return None
            if count == 0:
                held += piece
                start = held.find(b'Subject: ')
                if start < 0:
                    continue
                held = held[start:]
            else:
                held += piece
            count += len(piece)
            if held.endswith(b'\r\n.\r\n'):
                summed.update(held[:-3])
                return summed.hexdigest()
            summed.update(held[:-5])
            held = held[-5:]
            if count > self.BEFORE_GATE and not self.is_open.is_set():
                self.stuck.add(rcpt)
                self.is_open.wait(300)


def daemon_of(world, receiver, more=lambda base: base, segment=8 << 20):
    daemon = world.daemon()
    daemon.segment_size = str(segment)
    daemon.write(more(daemon.base()) + f'hot-set-size {HOT_SET}\n' +
                 ''.join(ROUTE % (f'large{number}.test' if number < LARGE_COUNT else '*', address)
                         for number, address in enumerate(receiver.addresses)))
    return daemon.start()


def memory_of(daemon):
    """The most that it has had at once since the last look, in bytes."""
    process = f'/proc/{daemon.program.process.pid}'
    with open(f'{process}/status', encoding='ascii') as status:
        line, = [line for line in status if line.startswith('VmHWM:')]
    with open(f'{process}/clear_refs', 'w', encoding='ascii') as control:
        control.write('5')
    return int(line.split()[1]) << 10


def client_of(daemon):
    client = Smtp(daemon.listen, timeout=60)
    assert client.command('EHLO client.test')[0] == 250
    return client


def send(client, rcpt, content):
    client.envelope('a@s.test', [rcpt])
    assert client.command('DATA')[0] == 354
    client.send(content + b'.\r\n')
    return client.reply()


def send_halves(daemon, count, octets=LARGE // 2):
    """Clients that have sent half of a message, at least until the daemon has taken most of it."""
    content = wire(0, octets)
    clients = [client_of(daemon) for _ in range(count)]
    for client in clients:
        client.envelope('a@s.test', ['half@half.test'])
        assert client.command('DATA')[0] == 354
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    in_threads([lambda client=client: client.send(content) for client in clients])
    return clients


def in_threads(actions):
    """All at once; fails as they fail."""
    failures = []

    def one(action):
        try:
            action()
        except Exception as failure:  # pylint: disable=broad-except
            failures.append(failure)

    threads = [threading.Thread(target=one, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def inject(daemon, sent, jobs):
    """Jobs (kind, size, numbers), each over a connection of its own, all at once."""
    def one(kind, octets, numbers):
        client = client_of(daemon)
        for number in numbers:
            content = wire(number, octets)
            rcpt = f'u{number}@{kind}{number % 7}.test'
            code, text = send(client, rcpt, content)
            assert code == 250, text
            sent[rcpt] = digest(content)
        client.close()

    in_threads([lambda job=job: one(*job) for job in jobs])


def check(receiver, sent):
    """All that was answered 250, nothing else, and every time as it was sent."""
    wrong = [rcpt for rcpt, found in receiver.arrived.items() if set(found) != {sent.get(rcpt)}]
    assert not wrong, f'damaged, or never answered 250: {wrong}'
    assert receiver.arrived.keys() == sent.keys()


def test_large_messages_beside_small_ones(world):
    """Killed while clients are in the middle of a message and each large message is in the middle of
    its delivery: what was answered 250 arrives, nothing arrives damaged, and what a message takes
    of the memory has nothing to do with its size."""
    receiver = Receiver(world)
    daemon = daemon_of(world, receiver)
    memory_of(daemon)
    idle, sent = memory_of(daemon), {}
    inject(daemon, sent, [('large', LARGE, [number]) for number in range(LARGE_COUNT)] +
           [(kind, octets, range(start, 100, 5)) for start in range(5)
            for kind, octets in [('middle', MIDDLE), ('small', SMALL)]])
    halves = send_halves(daemon, LARGE_COUNT)
    large = {rcpt for rcpt in sent if '@large' in rcpt}
    until(lambda: receiver.stuck == large, 30, 'each large message in the middle of its delivery')
    grown, most = memory_of(daemon) - idle, HOT_SET + 2 * LARGE_COUNT * PASSING
    say(f'{LARGE_COUNT} messages of 30 MB come, {LARGE_COUNT} go, memory {grown / 2**20:.1f} MB above '
        f'{idle >> 20} MB, allowed {most / 2**20:.1f}')
    assert grown <= most
    assert not receiver.arrived.keys() & large and not receiver.broken
    daemon.kill()
    receiver.is_open.set()
    until(lambda: receiver.broken == large, 20, 'deliveries that break')
    for half in halves:
        half.close()
    daemon.start()
    memory_of(daemon)
    daemon.wait_for(60, queued_rcpts=0)
    assert memory_of(daemon) - idle <= most
    check(receiver, sent)
    assert daemon.shutdown() == 0


def test_what_breaks_off_leaves_nothing(world):
    """Clients that go in the middle of DATA, in order and without a word, and a daemon that is
    killed there: nothing of theirs is ever sent, and the disk that they filled is used again."""
    receiver = Receiver(world)
    receiver.is_open.set()
    daemon = daemon_of(world, receiver, segment=1 << 20)
    clients, megabytes, written = 8, 2, 0
    for life in range(2):
        for number in range(5):
            halves = send_halves(daemon, clients, megabytes << 20)
            if number == 4 and life == 0:
                break
            for half in halves:
                if number % 2 == 1:
                    half.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                           struct.pack('ii', 1, 0))
                half.close()
            daemon.wait_for(20, sessions_in=0)
        counters = daemon.counters()
        assert counters['accepted_messages'] == counters['queued_messages'] == 0
        written += counters['bytes_written'] >> 20
        daemon.kill()
        daemon.start()
    # What is in the log at once, and twice the dozen segments after which a checkpoint frees files,
    # since one may be under way when the next dozen begins; a few are made ahead in each life.
    most = clients * megabytes + 2 * 12 + 8

    def count():
        return len(glob.glob(os.path.join(daemon.spool_path, '*.seg')))

    until(lambda: count() <= most, 20, 'a checkpoint to free files')
    say(f'{written} segments written, {count()} files, at most {most}')
    assert most < written // 2
    assert not receiver.arrived and not receiver.broken
    assert daemon.shutdown() == 0


def test_what_is_too_large_is_refused_and_the_connection_goes_on(world):
    """552 5.3.4 at MAIL, which says so beforehand, behind the dot, and at the chunk that goes too
    far; a message of just the size that is allowed is taken in between."""
    limit = 512 << 10
    receiver = Receiver(world)
    receiver.is_open.set()
    daemon = daemon_of(world, receiver, lambda base: base.replace(
        'default-virtual-mta v\n', f'default-virtual-mta v\n    max-message-size {limit}\n'))
    client, sent = client_of(daemon), {}
    fits = b'x' * 62 + b'\r\n'
    fits = b'Subject: fits\r\n\r\n' + b'=' * 45 + b'\r\n' + fits * (limit // 64 - 1)
    assert len(fits) == limit
    one_more = fits[:-2] + b'x\r\n'

    def refused(reply):
        assert reply[0] == 552 and reply[1].startswith('5.3.4 '), reply
        rcpt = f'u{len(sent)}@fits.test'
        assert send(client, rcpt, fits)[0] == 250
        sent[rcpt] = digest(fits)

    refused(client.command(f'MAIL FROM:<a@s.test> SIZE={limit + 1}'))
    refused(send(client, 'u@large.test', one_more))
    refused(send(client, 'u@large.test', wire(1, 4 * limit)))
    client.envelope('a@s.test', ['u@large.test'])
    refused(client.bdat(one_more))
    client.envelope('a@s.test', ['u@large.test'])
    assert client.command('BDAT 0')[0] == 250
    refused(client.bdat(one_more[:limit], one_more[limit:]))
    client.close()
    daemon.wait_for(20, accepted_messages=len(sent), delivered=len(sent), queued_rcpts=0)
    check(receiver, sent)
    assert daemon.shutdown() == 0
