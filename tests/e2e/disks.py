"""A disk that does what a test says: it loses its power, is full, read-only, broken or slow (the file
system fuse/droppable.c, where its orders are described)."""
import json
import os
import subprocess

import pytest

from harness import Program, until


class Droppable:
    """The mounted file system."""

    def __init__(self, world, name='disk'):
        program = os.path.join(world.build, 'tests', 'e2e', 'droppable')
        if not os.path.exists(program):
            pytest.skip('droppable was not built: no libfuse3')
        if not os.access('/dev/fuse', os.R_OK | os.W_OK):
            pytest.skip('FUSE is not available here')
        self.path = world.path(name)
        os.makedirs(self.path)
        self.program = Program([program, self.path], world.path(f'{name}.log'))
        world.programs.append(self.program)
        world.at_end.append(self.unmount)
        until(lambda: os.path.ismount(self.path) or not self.program.is_alive(), 10, 'the mount')
        assert self.program.is_alive(), self.program.log()

    def order(self, text):
        control = os.open(os.path.join(self.path, '.control'), os.O_WRONLY)
        os.write(control, text.encode())
        os.close(control)

    def counters(self):
        with open(os.path.join(self.path, '.control'), encoding='ascii') as control:
            return json.load(control)

    def unmount(self):
        subprocess.run(['umount', '-l', self.path] if os.geteuid() == 0 else
                       ['fusermount3', '-uz', self.path], check=False, timeout=20,
                       stderr=subprocess.DEVNULL)


@pytest.fixture
def disk(world):
    return Droppable(world)


def place_on(daemon, disk, more):
    """Spool and accounting both live on the disk that loses its power."""
    daemon.spool_path = os.path.join(disk.path, 'spool')
    daemon.acct_path = os.path.join(disk.path, 'acct.csv')
    daemon.write('{base}' + more)
    return daemon.start()
