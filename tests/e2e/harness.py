"""What every end-to-end test stands on: addresses, the daemon, the bench's sink and generator, a
bare SMTP client, and the reading of accounting files. Everything started here ends with the test,
and every wait has an end.
"""
import csv
import ctypes
import glob
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

PR_SET_PDEATHSIG = 1
FINAL_TYPES = ('d', 'b')
ENDS = ('delivered', 'bounced', 'deleted')
FIGURES = []
# How much longer than a quiet machine a busy one may take: a bound is for what hangs.
PATIENCE = 4


def until(condition, seconds, what, pause=0.02):
    """Asks until the answer is true, which it returns; fails when that takes far longer than the
    seconds that it may take on a quiet machine."""
    seconds *= PATIENCE
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f'not within {seconds} s: {what}')
        time.sleep(pause)


def say(text):
    """A figure that belongs in the log even when the test passes; printed at the end."""
    test = os.environ.get('PYTEST_CURRENT_TEST', '').split('::')[-1].split(' ')[0]
    FIGURES.append(f'{test}: {text}')


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Program:
    """A child process with its output in a file."""

    def __init__(self, argv, log_path, stdout=subprocess.DEVNULL, before=None):
        def prepare():
            die_with_parent()
            if before:
                before()

        self.log_path = log_path
        self.log_start = os.path.getsize(log_path) if os.path.exists(log_path) else 0
        with open(log_path, 'ab') as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stdout,
                                            stderr=log, preexec_fn=prepare)

    def log(self):
        """What it said in this life."""
        with open(self.log_path, 'rb') as log:
            log.seek(self.log_start)
            return log.read().decode('utf-8', 'replace')

    def last_words(self):
        return self.log()[-2000:]

    def is_alive(self):
        return self.process.poll() is None

    def wait_for_line(self, line, seconds):
        def said():
            if line in self.log().split('\n'):
                return True
            assert self.is_alive(), f'{self.process.args[0]} ended:\n{self.last_words()}'
            return False

        until(said, seconds, f'"{line}" from {self.process.args[0]}')

    def end(self, number=signal.SIGKILL, seconds=60):
        """Sends the signal and returns the exit code."""
        if self.is_alive():
            self.process.send_signal(number)
        return self.process.wait(seconds)


class Daemon:
    """ringpostd: its configuration, its lives, its operator."""

    def __init__(self, world, text, name='daemon'):
        self.world = world
        self.path = world.path(name)
        os.makedirs(self.path, exist_ok=True)
        self.config_path = os.path.join(self.path, 'ringpost.conf')
        self.control_path = os.path.join(world.short_path, f'{name}.control')
        self.spool_path = os.path.join(self.path, 'spool')
        self.acct_path = os.path.join(self.path, 'acct.csv')
        self.segment_size = '2m'
        self.listen = world.address()
        self.source = world.address()
        self.program = None
        self.write(text)

    def write(self, text):
        """The configuration; {names} in it stand for what the test cannot know."""
        text = text.format(daemon=self, base=self.base())
        with open(self.config_path, 'w', encoding='utf-8') as config:
            config.write(text)

    def base(self):
        return (f'host-name relay.test\ncontrol-socket {self.control_path}\nshards 2\n'
                f'smtp-listener {self.listen}:2525\ntotal-max-smtp-in 1000\n'
                f'<source 127.0.0.0/8>\n    always-allow-relaying yes\n    suppress-local-dsn yes\n    default-virtual-mta v\n'
                f'</source>\n'
                f'<virtual-mta v>\n    smtp-source-host {self.source} v.relay.test\n'
                f'</virtual-mta>\n'
                f'<spool {self.spool_path}>\n    segment-size {self.segment_size}\n</spool>\n'
                f'<acct-file {self.acct_path}>\n    records d,b,t\n</acct-file>\n')

    def launch(self, before=None):
        self.program = Program([self.world.program('ringpostd'), '--config', self.config_path,
                                '--foreground'], os.path.join(self.path, 'log'), before=before)
        self.world.programs.append(self.program)

    def start(self, before=None):
        self.launch(before)
        self.program.wait_for_line('ready', 30)
        self.wait_for_the_queue()
        return self

    def wait_for_the_queue(self):
        """What a start finds in the log is handed to its queues over the first turns; until then a
        verb does not meet all of it."""
        found = re.search(' messages and ([0-9]+) recipients queued', self.program.log())

        def is_there():
            counters = self.counters()
            return sum(counters[key] for key in ('placed_rcpts', *ENDS)) >= int(found.group(1))

        until(is_there, 20, 'what was recovered to be in its queues')

    def make_durable(self):
        """What the daemon has seen outlasts a kill from here on. Outcomes, and what a reply or a
        failure begins (orders, modes, rests), are logged up to outcome-commit-interval later; a pause
        is answered when it is durable, and so is what came before it."""
        self.ask('pause', 'queue', 'nobody.invalid/v')

    def kill(self):
        self.program.end(signal.SIGKILL)

    def shutdown(self, seconds=100):
        """By the operator's verb; the exit code."""
        answer = self.cli('shutdown')
        assert answer.returncode == 0, answer.stderr
        return self.program.process.wait(seconds)

    def cli(self, *words):
        return subprocess.run([self.world.program('ringpost'), '--socket', self.control_path,
                               *words], capture_output=True, text=True, timeout=70, check=False)

    def ask(self, *words):
        """The data of an answer in JSON."""
        answer = self.cli('--json', *words)
        assert answer.returncode == 0, f'{words}: {answer.stdout}{answer.stderr}'
        tree = json.loads(answer.stdout)
        assert tree['status'] == 'success', tree
        return tree['data']

    def counters(self):
        """Straight over the control socket: a program for each look would be a load of its own."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(self.control_path)
            client.sendall(b'show status --json\n')
            answer = client.makefile('rb').read()
        first, _, tree = answer.partition(b'\n')
        assert first == b'ok', answer
        return json.loads(tree)['data']['counters']

    def wait_for(self, seconds, **wanted):
        """Until these counters have these values."""
        def reached():
            counters = self.counters()
            return counters if all(counters[key] == wanted[key] for key in wanted) else None

        try:
            return until(reached, seconds, wanted, pause=0.05)
        except AssertionError:
            counters = self.counters()
            raise AssertionError(f'wanted {wanted}, got {counters}\n'
                                 f'{self.program.last_words()}') from None

    def state(self, queues_max=20):
        """What the operator would look at: why each queue waits, and the last lines of the log."""
        if not self.program or not self.program.is_alive():
            return f'{self.config_path}: does not run\n'
        names = [row['name'] for row in self.ask('show', 'queues')['queue'][:queues_max]]
        told = [self.cli('explain', name).stdout for name in names]
        return '\n'.join([*told, self.program.last_words()])

    def rows(self):
        return accounting_rows(self.acct_path)

    def wait_for_rows(self, count, seconds=10, kinds=FINAL_TYPES):
        def enough():
            rows = [row for row in self.rows() if row['type'] in kinds]
            return rows if len(rows) >= count else None

        return until(enough, seconds, f'{count} rows, got {self.rows()}', pause=0.05)


class Sink:
    """ringpost-bench sink on one address."""

    def __init__(self, world, *options, address=None, name='sink', before=None):
        self.address = address or world.address()
        self.ledger = world.path(f'{name}.ledger')
        self.output = world.path(f'{name}.json')
        with open(self.output, 'wb') as output:
            self.program = Program([world.program('ringpost-bench'), 'sink', '--listen',
                                    f'{self.address}:2525', '--ledger', self.ledger, '--quiet',
                                    '--json', *options], world.path(f'{name}.log'), stdout=output,
                                   before=before)
        world.programs.append(self.program)
        self.program.wait_for_line('ready', 30)

    def stop(self):
        """Its sums."""
        code = self.program.end(signal.SIGTERM)
        assert code == 0, self.program.log()
        with open(self.output, encoding='utf-8') as output:
            return json.load(output)

    def arrived(self):
        return len(ledger_lines(self.ledger, 'd'))


class Generator:
    """ringpost-bench gen, in the background."""

    def __init__(self, world, to, *options, name='gen', before=None):
        self.ledger = world.path(f'{name}.ledger')
        self.output = world.path(f'{name}.json')
        with open(self.output, 'wb') as output:
            self.program = Program([world.program('ringpost-bench'), 'gen', '--to', f'{to}:2525',
                                    '--ledger', self.ledger, '--json', *options],
                                   world.path(f'{name}.log'), stdout=output, before=before)
        world.programs.append(self.program)

    def wait(self, seconds=200):
        """Its sums, once it is through."""
        code = self.program.process.wait(seconds)
        assert code == 0, self.program.log()
        with open(self.output, encoding='utf-8') as output:
            return json.load(output)


def ledger_lines(path, letters):
    """(run, number, k) of the records of these kinds; a last line without its end never counted."""
    found = []
    if not os.path.exists(path):
        return found
    with open(path, encoding='ascii') as ledger:
        for line in ledger.read().split('\n')[:-1]:
            letter, *record = line.split(' ')
            if letter in letters:
                found.append(tuple(record))
    return found


def verify(world, *ledgers):
    """The bench's verdict over ledgers."""
    argv = [world.program('ringpost-bench'), 'verify', '--json']
    for ledger in ledgers:
        argv += ['--file', ledger]
    answer = subprocess.run(argv, capture_output=True, text=True, timeout=200, check=False)
    assert answer.stdout, answer.stderr
    return json.loads(answer.stdout)


def accounting_rows(path):
    """All rows of all files of an accounting file, as dictionaries; checks their form on the way."""
    stem, extension = os.path.splitext(path)
    rows = []
    for name in sorted(glob.glob(f'{stem}-*{extension}')):
        with open(name, 'rb') as file:
            data = file.read()
        data = data[:data.rfind(b'\r\n') + 2] if b'\r\n' in data else b''
        assert data.count(b'\n') == data.count(b'\r\n'), f'{name}: a lone LF'
        rows += csv.DictReader(data.decode('utf-8').splitlines())
    return rows


def final_rows_by_rcpt(rows):
    """recipient -> its rows of type d and b."""
    found = {}
    for row in rows:
        if row['type'] in FINAL_TYPES:
            found.setdefault(row['rcpt'], []).append(row)
    return found


class Smtp:
    """An SMTP client that sends just what it is told to."""

    def __init__(self, address, port=2525, timeout=60, source=None, wait=True):
        """From an address, where that matters; without wait the greeting is read later."""
        self.socket = socket.create_connection((address, port), timeout=timeout,
                                               source_address=(source, 0) if source else None)
        self.file = self.socket.makefile('rb')
        self.greeting = self.reply() if wait else None

    def reply(self):
        """(code, text) of one reply; (0, '') when the connection ended."""
        lines = []
        while True:
            line = self.file.readline()
            if not line:
                return 0, ''
            lines.append(line[4:].rstrip(b'\r\n').decode('utf-8', 'replace'))
            if line[3:4] != b'-':
                return int(line[:3]), '\n'.join(lines)

    def send(self, octets):
        self.socket.sendall(octets)

    def command(self, line):
        self.send((line if isinstance(line, bytes) else line.encode()) + b'\r\n')
        return self.reply()

    def envelope(self, sender, recipients, parameters=''):
        for line, wanted in [(f'MAIL FROM:<{sender}>{parameters}', 250),
                             *[(f'RCPT TO:<{rcpt}>', 250) for rcpt in recipients]]:
            code, text = self.command(line)
            assert code == wanted, f'{line}: {code} {text}'

    def data(self, octets):
        """DATA with these octets, which end in CRLF."""
        code, text = self.command('DATA')
        assert code == 354, f'DATA: {code} {text}'
        stuffed = octets.replace(b'\r\n.', b'\r\n..')
        if stuffed.startswith(b'.'):
            stuffed = b'.' + stuffed
        self.send(stuffed + b'.\r\n')
        return self.reply()

    def bdat(self, *chunks):
        """BDAT, the last chunk marked so; the last reply."""
        for place, chunk in enumerate(chunks):
            last = ' LAST' if place == len(chunks) - 1 else ''
            self.send(b'BDAT %d%s\r\n' % (len(chunk), last.encode()) + chunk)
            code, text = self.reply()
            if code != 250:
                break
        return code, text

    def close(self):
        self.file.close()
        self.socket.close()


def send_message(address, sender, recipients, octets, parameters=''):
    """One message over a connection of its own; the reply to it."""
    client = Smtp(address)
    try:
        assert client.command('EHLO client.test')[0] == 250
        client.envelope(sender, recipients, parameters)
        return client.data(octets)
    finally:
        client.close()


def to_crlf(octets):
    """Line ends as SMTP wants them: LF becomes CRLF, the last line ends, a lone CR stays."""
    octets = octets.replace(b'\r\n', b'\n').replace(b'\n', b'\r\n')
    return octets if octets.endswith(b'\r\n') else octets + b'\r\n'


class World:
    """One test: a directory on a real disk, addresses nobody else uses, and what was started."""

    # Never from a seed: runs side by side would meet on one listener.
    dice = random.SystemRandom()
    used_addresses = set()

    def __init__(self, build, name):
        self.build = build
        self.directory = os.path.join(build, 'e2e', name)
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)
        # Paths of Unix sockets are short, those of build directories need not be.
        self.short_path = tempfile.mkdtemp(prefix='rp-e2e-')
        self.programs = []
        self.daemons = []
        self.at_end = []

    def path(self, name):
        return os.path.join(self.directory, name)

    def program(self, name):
        return os.path.join(self.build, 'cmd', name)

    def address(self):
        """An address in 127.0.0.0/8 of this test's own: then ports need no choosing."""
        while True:
            address = '127.' + '.'.join(str(self.dice.randint(2, 250)) for _ in range(3))
            if address in self.used_addresses:
                continue
            self.used_addresses.add(address)
            return address

    def daemon(self, text='{base}', name='daemon'):
        self.daemons.append(Daemon(self, text, name))
        return self.daemons[-1]

    def sink(self, *options, address=None, name='sink', before=None):
        return Sink(self, *options, address=address, name=name, before=before)

    def generator(self, to, *options, name='gen', before=None):
        return Generator(self, to, *options, name=name, before=before)

    def close(self):
        for program in self.programs:
            program.end(signal.SIGKILL)
        for action in reversed(self.at_end):
            action()
        shutil.rmtree(self.short_path, ignore_errors=True)
