"""Two machines on one wire that loses packets: network namespaces, a veth pair, nftables. All of it
is gone with the processes that hold the namespaces.
"""
import ctypes
import os
import shutil
import subprocess

import pytest

from harness import Program, until

CLONE_NEWNET = 0x40000000
WIRE = 'rpwire'


class Machine:
    """A network namespace, held by a sleeping process."""

    def __init__(self, world, name):
        self.program = Program(['unshare', '-n', 'sleep', '900'], world.path(f'{name}.log'))
        world.programs.append(self.program)
        self.path = f'/proc/{self.program.process.pid}/ns/net'
        own = os.readlink('/proc/self/ns/net')

        def stands():
            if not self.program.is_alive():
                pytest.skip(f'no network namespace: {self.program.last_words().strip()}')
            return os.readlink(self.path) != own

        until(stands, 10, 'a network namespace')
        self.run('ip', 'link', 'set', 'lo', 'up')

    def enter(self):
        """For a child process before it becomes another program."""
        net = os.open(self.path, os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(net, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), 'setns')
        os.close(net)

    def try_run(self, *argv, text=None):
        return subprocess.run(argv, preexec_fn=self.enter, input=text, capture_output=True,
                              text=True, timeout=60, check=False)

    def run(self, *argv, text=None):
        answer = self.try_run(*argv, text=text)
        assert answer.returncode == 0, f'{argv}: {answer.stderr}'
        return answer.stdout

    def tcp(self):
        """The kernel's own counters of TCP here."""
        found = {}
        for name in ('snmp', 'netstat'):
            with open(f'/proc/{self.program.process.pid}/net/{name}', encoding='ascii') as table:
                lines = [line.split() for line in table]
            for names, values in zip(lines[::2], lines[1::2]):
                if names[0] in ('Tcp:', 'TcpExt:'):
                    found.update(zip(names[1:], map(int, values[1:])))
        return found


class Wires:
    """The sender's machine and the receivers'; addresses by the last figure."""

    def __init__(self, world):
        if os.geteuid() != 0:
            pytest.skip('network namespaces need root')
        for tool in ('unshare', 'ip', 'ss', 'nft'):
            if shutil.which(tool) is None:
                pytest.skip(f'no program {tool}')
        self.sender = Machine(world, 'sender')
        self.receiver = Machine(world, 'receiver')
        made = self.sender.try_run('ip', 'link', 'add', WIRE, 'type', 'veth', 'peer', 'name', WIRE,
                                   'netns', str(self.receiver.program.process.pid))
        if made.returncode != 0:
            pytest.skip(f'no veth pair: {made.stderr.strip()}')
        for machine, figures in ((self.sender, range(1, 10)), (self.receiver, range(100, 110))):
            for figure in figures:
                machine.run('ip', 'addr', 'add', f'{self.v4(figure)}/24', 'dev', WIRE)
                machine.run('ip', 'addr', 'add', f'{self.v6(figure)}/64', 'dev', WIRE, 'nodad')
            machine.run('ip', 'link', 'set', WIRE, 'up')

    @staticmethod
    def v4(figure):
        return f'10.99.0.{figure}'

    @staticmethod
    def v6(figure):
        return f'fd99::{figure}'

    def lose(self, percent):
        """Both ways, at random, where packets arrive: no sender is told."""
        for machine, port in ((self.sender, 'sport'), (self.receiver, 'dport')):
            self.filter(machine, f'tcp {port} 2525 numgen random mod 100 < {percent} drop')

    def swallow(self, figure):
        """Nothing that is sent to this address arrives."""
        self.filter(self.receiver, f'ip daddr {self.v4(figure)} drop')

    @staticmethod
    def filter(machine, rule):
        answer = machine.try_run('nft', '-f', '-', text=f'''
            table inet wires {{
                chain arriving {{
                    type filter hook input priority 0
                    iifname {WIRE} {rule}
                }}
            }}
            ''')
        if answer.returncode != 0:
            pytest.skip(f'nftables cannot do it here: {answer.stderr.strip()}')
