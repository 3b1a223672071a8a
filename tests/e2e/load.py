"""Load with crashes in between, and what must hold afterwards: shared by kills and power cuts."""
import math
import random
import time

from harness import final_rows_by_rcpt, ledger_lines, say, until, verify

CONNECTIONS_MAX = 16
OUTCOME_HOLD_S = 0.020

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


class Crashes:
    """Crashes the daemon again and again, and computes what each crash may double: what has arrived
    and is not, by the daemon's own count of what its log holds, durable. No clock has a say in that,
    so a slow machine doubles more and may."""

    def __init__(self, daemon, sink, crash):
        self.daemon = daemon
        self.crash = crash
        self.arrivals = Arrivals(sink.ledger)
        self.arrived_before = 0  # this life
        self.allowed = {}
        self.dice = random.Random(30)
        self.commits = 0
        self.commits_expected = 0

    def one(self, least_s, most_s):
        """A crash after a time between these two, shorter ones being as likely as longer ones."""
        began, first = time.monotonic(), self.daemon.counters()
        time.sleep(math.exp(self.dice.uniform(math.log(least_s), math.log(most_s))))
        before = self.daemon.counters()
        lasted_s = time.monotonic() - began
        after = self.daemon.counters()
        self.crash()
        # Of what the log held in the end at most so much was no delivery.
        others = after['bounced'] + after['deferred'] + after['deleted']
        self.count(max(before['outcomes'] - others, 0))
        commits = before['outcome_commits'] - first['outcome_commits']
        all_commits = before['outcome_commits'] + before['message_commits']
        commit_s = before['commit_ns_total'] / max(all_commits, 1) / 1e9
        self.commits += commits
        self.commits_expected += lasted_s / (OUTCOME_HOLD_S + commit_s)

    def while_starting(self):
        """The daemon was killed before anybody could ask it: all that arrived may come again."""
        self.count(0)

    def count(self, durable):
        """The end of a life whose log held so many deliveries."""
        until(lambda: self.arrivals.read() - self.arrived_before >= durable and self.is_quiet(), 20,
              'the sink to write down what it had got')
        arrived = self.arrivals.read() - self.arrived_before
        self.allowed[self.arrivals.life] = arrived - durable + CONNECTIONS_MAX
        self.arrived_before += arrived
        self.arrivals.crashed()

    def is_quiet(self):
        before = self.arrivals.read()
        time.sleep(0.05)
        return self.arrivals.read() == before

    def check(self):
        """No crash doubled more than it may; called after everything has arrived."""
        self.arrivals.read()
        doubled = self.arrivals.doubled
        say(f'{len(self.allowed)} crashes, {self.arrivals.count} arrivals, doubled '
            f'{sum(doubled.values())}, most by one crash {max(doubled.values(), default=0)}, '
            f'allowed on average {sum(self.allowed.values()) / len(self.allowed):.0f}; '
            f'{self.commits} commits of outcomes of {self.commits_expected:.0f} that the hold and '
            'the time of a commit have room for')
        wrong = {life: (count, self.allowed.get(life, 0)) for life, count in doubled.items()
                 if count > self.allowed.get(life, 0)}
        assert not wrong, f'crash: (doubled, allowed) {wrong}'
        # Outcomes that are held too long would be forgiven above.
        assert self.commits >= self.commits_expected / 4, 'outcomes wait too long for their commit'


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
            k, dot, number = rcpt.split('@')[0].partition('.')
            if dot:  # not what a test sent beside the load
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
