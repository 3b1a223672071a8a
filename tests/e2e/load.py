"""Load with crashes in between, and what must hold afterwards: shared by kills and power cuts."""
import math
import random
import statistics
import time

from harness import final_rows_by_rcpt, ledger_lines, say, until, verify

CONNECTIONS_MAX = 16
OUTCOME_HOLD_S = 0.020
USUAL_MOST_S = 0.080
SEEN_S = 0.010  # what happens is seen so much later

# Every connection carries one message at a time, so the limit is also what may be in flight.
CONFIG = (f'total-max-smtp-out {CONNECTIONS_MAX}\n'
          '<domain *>\n    smtp-hosts [%s]:2525\n    retry-after 1s\n</domain>\n')
RULES = ['--rule', 'rcpt percent=1 550 5.1.1 no such user',
         '--rule', 'rcpt percent=1 451 4.2.1 mailbox busy']


class Arrivals:
    """Reads the sink's ledger as it grows, and knows in which life something arrived first."""

    def __init__(self, path):
        self.file = open(path, 'rb')
        self.rest = b''
        self.life = 0
        self.last_life = {}
        self.count = 0
        self.doubled = {}  # crash -> recipients that it made arrive again

    def read(self):
        lines = (self.rest + self.file.read()).split(b'\n')
        self.rest = lines.pop()
        for line in lines:
            if not line.startswith(b'd '):
                continue
            self.count += 1
            before = self.last_life.get(line)
            if before is not None:
                self.doubled[before] = self.doubled.get(before, 0) + 1
            self.last_life[line] = self.life
        return self.count

    def crashed(self):
        self.read()
        self.life += 1


def unsafe_s(samples, killed, commit_s):
    """How long before the crash an outcome may still not have been durable: the hold and one
    commit. Usually that is the average commit; but a disk that stalls makes one commit long, which
    shows in the time since the last one ended and in the gap before it.
    """
    ends = [before[0] for before, after in zip(samples, samples[1:]) if after[1] != before[1]]
    ends = [samples[0][0]] * (2 - len(ends)) + ends
    last_commit_s = max(commit_s, ends[-1] - ends[-2] - OUTCOME_HOLD_S)
    return SEEN_S + max(OUTCOME_HOLD_S + commit_s, killed - ends[-1] + last_commit_s)


class Crashes:
    """Crashes the daemon again and again, and computes what each crash may double."""

    def __init__(self, daemon, sink, crash):
        self.daemon = daemon
        self.crash = crash
        self.arrivals = Arrivals(sink.ledger)
        self.allowed = {}
        self.dice = random.Random(30)
        self.unsafe_s = []

    def watch(self, seconds):
        """(time, outcome commits so far, arrivals so far), seen again and again; closely towards
        the end. And what a commit took on average."""
        samples = []
        end = time.monotonic() + seconds
        while True:
            counters = self.daemon.counters()
            samples.append((time.monotonic(), counters['outcome_commits'], self.arrivals.read()))
            if samples[-1][0] > end:
                break
            time.sleep(0.003 if end - samples[-1][0] < 0.1 else 0.03)
        commits = counters['message_commits'] + counters['outcome_commits']
        return samples, counters['commit_ns_total'] / max(commits, 1) / 1e9

    def one(self, least_s, most_s):
        """A crash after a time between these two, shorter ones being as likely as longer ones."""
        samples, commit_s = self.watch(
            math.exp(self.dice.uniform(math.log(least_s), math.log(most_s))))
        killed = time.monotonic()
        self.crash()
        time.sleep(0.05)  # what had been sent before is still written down
        window_s = unsafe_s(samples, killed, commit_s)
        recent = self.arrivals.read() - max(
            (count for when, _, count in samples if when <= killed - window_s),
            default=samples[0][2])
        self.unsafe_s.append(window_s)
        self.allowed[self.arrivals.life] = CONNECTIONS_MAX + recent
        self.arrivals.crashed()

    def check(self):
        """No crash doubled more than it may; called after everything has arrived."""
        self.arrivals.read()
        doubled = self.arrivals.doubled
        usual_s = statistics.median(self.unsafe_s)
        say(f'{len(self.allowed)} crashes, {self.arrivals.count} arrivals, doubled '
            f'{sum(doubled.values())}, most by one crash {max(doubled.values(), default=0)}, '
            f'allowed on average {sum(self.allowed.values()) / len(self.allowed):.0f}, '
            f'unsafe time median {usual_s * 1000:.0f} ms, longest {max(self.unsafe_s) * 1000:.0f} ms')
        # Stalls of the disk excuse some commits, not all of them.
        assert usual_s < USUAL_MOST_S, 'outcomes wait too long for their commit'
        wrong = {life: (count, self.allowed.get(life, 0)) for life, count in doubled.items()
                 if count > self.allowed.get(life, 0)}
        assert not wrong, f'crash: (doubled, allowed) {wrong}'


def settle(daemon, generator, seconds=60):
    """No more injection; everything is delivered."""
    generator.program.end(15)
    daemon.wait_for(seconds, queued_rcpts=0)


def check_ledger(world, sink, generator, least):
    """Nothing lost; duplicates are the crashes' business."""
    verdict = verify(world, generator.ledger, sink.ledger)
    say(f'ledger: {verdict}')
    assert verdict['accepted'] >= least, verdict
    assert verdict['lost'] == 0, verdict
    assert verdict['unexpected'] == 0, verdict
    return verdict


def check_accounting(daemon, generator):
    """Exactly one final row for each recipient that was accepted, and at most one for others, of
    which the injector never heard."""
    accepted = {(number, k) for _, number, k in ledger_lines(generator.ledger, 'a')}
    in_doubt = {(number, k) for _, number, k in ledger_lines(generator.ledger, 'i')}

    def rows():
        found = {}
        for rcpt, final in final_rows_by_rcpt(daemon.rows()).items():
            k, number = rcpt.split('@')[0].split('.')
            found[(number, k)] = final
        return found if accepted <= found.keys() else None

    try:
        found = until(rows, 10, 'a row for each recipient', pause=0.5)
    except AssertionError:
        found = final_rows_by_rcpt(daemon.rows())
        raise AssertionError(f'{len(accepted)} accepted, rows for {len(found)}') from None
    several = {key: len(final) for key, final in found.items() if len(final) != 1}
    assert not several, f'{len(several)} recipients with several final rows: ' \
                        f'{list(several.items())[:5]}'
    strangers = found.keys() - accepted - in_doubt
    assert not strangers, f'rows of mail that nobody sent: {list(strangers)[:5]}'
    say(f'accounting: one final row for each of {len(found)} recipients')
