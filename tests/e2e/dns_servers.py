"""Name servers for the tests: knot with zones of ours, unbound as the resolver in front of it, and
one that only ever says that its answer was cut off."""
import os
import shutil
import socket
import subprocess
import threading

from harness import Program, until

UNBOUND = '''server:
    interface: {address}@5353
    access-control: 127.0.0.0/8 allow
    chroot: ""
    username: ""
    directory: "{path}"
    pidfile: "{path}/unbound.pid"
    use-syslog: no
    do-daemonize: no
    num-threads: 1
    module-config: "iterator"
    do-not-query-localhost: no
    local-zone: "test." {zone}
    cache-max-negative-ttl: 1
{more}
remote-control:
    control-enable: no
'''

KNOT = '''server:
    rundir: "{path}"
    listen: {address}@5354
    udp-max-payload: 1232
database:
    storage: "{path}"
log:
  - target: stderr
    any: info
zone:
  - domain: {zone}
    file: "{path}/zone"
    dnssec-signing: {signing}
    zonefile-sync: -1
'''

SOA = '''$ORIGIN {zone}.
$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 5
@ NS ns
ns A {address}
'''


def missing(*programs):
    """Which of these a test needs and are not installed; '' when all are there."""
    return ', '.join(name for name in programs if not shutil.which(name, path='/usr/sbin'))


class Resolver:
    """unbound. records: it knows these below test., and that nothing else is there. stubs: domain ->
    'address@port' of the server to ask about it."""

    def __init__(self, world, *records, stubs=None, more='', name='unbound'):
        self.world = world
        self.address = world.address()
        self.path = world.path(name)
        os.makedirs(self.path)
        lines = [*(f'    local-data: "{record}"' for record in records), more]
        sections = ''.join(f'stub-zone:\n    name: "{domain}"\n    stub-addr: {at}\n'
                           for domain, at in (stubs or {}).items())
        with open(os.path.join(self.path, 'unbound.conf'), 'w', encoding='utf-8') as config:
            config.write(UNBOUND.format(address=self.address, path=self.path,
                                        zone='static' if records else 'nodefault',
                                        more='\n'.join(lines)) + sections)
        self.start()

    def start(self):
        self.program = Program(['/usr/sbin/unbound', '-c',
                                os.path.join(self.path, 'unbound.conf')],
                               os.path.join(self.path, 'log'))
        self.world.programs.append(self.program)
        until(lambda: 'start of service' in self.program.log() or not self.program.is_alive(), 60,
              'unbound to start')
        assert self.program.is_alive(), self.program.log()


class Authority:
    """knot with one zone; records are lines of a zone file, names relative to the zone. Of one that
    is signed, anchor() says whom to trust."""

    def __init__(self, world, zone, records, name='knot', is_signed=False):
        self.zone = zone
        self.address = world.address()
        path = world.path(name)
        os.makedirs(path)
        with open(os.path.join(path, 'zone'), 'w', encoding='utf-8') as file:
            file.write(SOA.format(zone=zone, address=self.address) + '\n'.join(records) + '\n')
        with open(os.path.join(path, 'knot.conf'), 'w', encoding='utf-8') as config:
            config.write(KNOT.format(path=path, address=self.address, zone=zone,
                                     signing='on' if is_signed else 'off'))
        # Its control socket stands in rundir; ours may be a longer path than a socket's can be.
        program = Program(['/usr/sbin/knotd', '-c', os.path.join(path, 'knot.conf'), '-s',
                           os.path.join(world.short_path, f'{name}.sock')],
                          os.path.join(path, 'log'))
        world.programs.append(program)
        until(lambda: 'server started' in program.log() or not program.is_alive(), 60,
              'knot to start')
        assert program.is_alive(), program.log()
        self.at = f'{self.address}@5354'
        self.program = program
        self.path = path
        if is_signed:
            until(lambda: 'successfully signed' in program.log(), 10, 'knot to sign the zone')

    def anchor(self):
        """A file with the DS records of the zone's keys."""
        told = subprocess.run(['/usr/sbin/keymgr', '-c', os.path.join(self.path, 'knot.conf'),
                               self.zone, 'ds'], check=True, capture_output=True, timeout=60)
        file = os.path.join(self.path, 'anchor')
        with open(file, 'wb') as anchor:
            anchor.write(told.stdout)
        return file


class Mute:
    """A UDP port that takes questions and says nothing, or only that the answer was cut off (TC):
    nobody listens on TCP."""

    def __init__(self, world, says_truncated=False):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        address = world.address()
        self.socket.bind((address, 5354))
        self.at = f'{address}@5354'
        self.questions = 0
        self.says_truncated = says_truncated
        threading.Thread(target=self.serve, daemon=True).start()
        world.at_end.append(self.socket.close)

    def serve(self):
        while True:
            try:
                question, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            self.questions += 1
            if self.says_truncated:
                # Answer, authoritative, truncated; one question, no record.
                header = question[:2] + b'\x86\x00' + b'\0\1\0\0\0\0\0\0'
                end = question.index(b'\0', 12) + 5
                self.socket.sendto(header + question[12:end], peer)
