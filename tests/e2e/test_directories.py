"""One spool on two disks: both hold mail, a crash of the daemon or of one disk loses nothing, a disk
that fills or fails leaves the mail to the other, and without one of them nothing is started."""
import errno
import glob
import os
import re
import time

import load
from disks import Droppable
from harness import until

LOAD = ['--survive', '--sessions', '20', '--rate', '1500', '--messages', '1000000',
        '--sizes', '2k:94,20k:5,300k:1', '--domains', '20']
FOR_EVER = 1000000000


class TwoDisks:
    """A daemon with a directory of its spool on each of two file systems, under load."""

    def __init__(self, world):
        self.world = world
        self.disks = [Droppable(world, name) for name in ('one', 'two')]
        self.paths = [os.path.join(disk.path, 'spool') for disk in self.disks]
        assert os.stat(self.disks[0].path).st_dev != os.stat(self.disks[1].path).st_dev
        self.sink = world.sink(*load.RULES)
        self.daemon = world.daemon()
        self.configure(*self.paths)
        self.daemon.start()
        self.generator = world.generator(self.daemon.listen, *LOAD)
        until(lambda: self.sink.arrived() > 300, 20, 'the load')

    def configure(self, first, *others):
        self.daemon.spool_path = first
        self.daemon.write('{base}' + load.CONFIG % self.sink.address +
                          ''.join(f'<spool {path}>\n</spool>\n' for path in others))

    def directories(self):
        return self.daemon.ask('show', 'status')['status']['spool']['directory']

    def grows(self, index, by=50):
        """This directory takes mail."""
        before = self.directories()[index]['messages']
        until(lambda: self.directories()[index]['messages'] >= before + by, 20,
              f'directory {index} to take mail')

    def until_state(self, index, state):
        until(lambda: self.directories()[index]['state'] == state, 20, f'{state} of {index}')

    def refuses(self, why, *paths):
        """The daemon does not start with these directories, and one line says why."""
        self.configure(*paths)
        try:
            self.daemon.start()
        except AssertionError:
            pass
        assert self.daemon.program.process.wait(100) != 0
        lines = [line for line in self.daemon.program.log().split('\n') if 'spool' in line]
        assert len(lines) == 1 and re.search(why, lines[0]), lines


def test_two_disks(world):
    two = TwoDisks(world)
    daemon = two.daemon
    crashes = load.Crashes(daemon, two.sink, daemon.kill)
    for _ in range(2):
        crashes.one(0.2, 1.0)
        daemon.start()
        for index, path in enumerate(two.paths):
            assert glob.glob(os.path.join(path, '*.seg'))
            two.grows(index)

    # The second disk fills: the first takes what comes.
    assert daemon.ask('pause', 'queue', '*/*')['affected'] > 0
    two.disks[1].order('room 0')
    two.until_state(1, 'low-space')
    two.grows(0)
    assert daemon.ask('show', 'status')['status']['spool']['health'] == 'healthy'
    # A segment that becomes free is room, for a moment.
    until(lambda: any('takes no mail: it is short of space' in text
                      for text in daemon.ask('show', 'status').get('warning', [])), 20,
          'the warning')
    daemon.ask('resume', 'queue', '*/*')
    two.disks[1].order('well')
    two.until_state(1, 'well')
    two.grows(1)

    # It fails: the same.
    two.disks[1].order(f'fail sync all {errno.EIO} {FOR_EVER}')
    two.until_state(1, 'resting')
    two.grows(0)
    assert daemon.ask('show', 'status')['status']['spool']['health'] == 'healthy'
    two.disks[1].order('well')
    two.until_state(1, 'well')
    two.grows(1)

    # Its power fails, and the daemon is killed with it.
    crashes.one(0.2, 0.5)
    two.disks[1].order('cut 5')
    two.disks[1].order('on')

    # Without it, or with another one in its place, nothing starts and nothing is lost.
    empty = world.path('not-mounted')
    os.makedirs(empty)
    two.refuses('directory number 1 of this spool is missing', two.paths[0])
    two.refuses(f'{empty}: directory number 1 of the spool is missing, and this one is empty',
                two.paths[0], empty)
    two.refuses(f'{empty}: this first directory is empty', empty, two.paths[1])
    two.refuses(f'{two.paths[1]}: this is a further directory of a spool', *reversed(two.paths))
    assert os.listdir(empty) == []
    two.configure(*two.paths)
    daemon.start()
    for index in range(2):
        two.grows(index)
    time.sleep(0.3)
    load.settle(daemon, two.generator)
    load.check_ledger(world, two.sink, two.generator, least=1000)
    crashes.check()
    load.check_accounting(daemon, two.generator)
    assert daemon.shutdown() == 0
