"""MTA-STS (RFC 8461): the helper program that fetches policies, and mail to domains that have one."""
import os
import socket
import subprocess
import threading

import pytest

import dns_servers
from dns_servers import Resolver
from sts_hosts import PATH, PolicyHost, policy
from test_tls_out import Papers


@pytest.fixture(autouse=True)
def need_programs(world):
    missing = dns_servers.missing('unbound')
    if missing:
        pytest.skip(f'not installed: {missing}')
    if not os.path.exists(world.program('ringpost-sts')):
        pytest.skip('built without libcurl')
    with socket.socket() as probe:
        try:
            probe.bind((world.address(), 443))
        except PermissionError:
            pytest.skip('port 443 takes root')


@pytest.fixture(name='papers')
def papers_fixture(world):
    return Papers(world)


class Helper:
    """The program alone, as the daemon starts it."""

    def __init__(self, world, papers, server):
        ours, its = socket.socketpair()
        self.program = subprocess.Popen(
            [world.program('ringpost-sts'), '--ca-file', papers.authority, '--name-server',
             f'{server.address}@5353'], stdin=its, stdout=its, stderr=subprocess.DEVNULL)
        its.close()
        world.at_end.append(self.program.kill)
        ours.settimeout(60)
        self.socket = ours
        self.file = ours.makefile('rb')

    def ask(self, *domains):
        """domain -> (result, octets)"""
        self.socket.sendall(b''.join(f'{number} {domain}\n'.encode()
                                     for number, domain in enumerate(domains)))
        answers = {}
        for _ in domains:
            number, result, octets = self.file.readline().split()
            answers[domains[int(number)]] = (result.decode(), self.file.read(int(octets)))
        return answers


def test_helper(world, papers):
    """Only a policy that comes at the first attempt, from a host whose certificate holds, as plain
    text and not too long, is one; one host that does not answer holds nobody up."""
    plain = {'Content-Type': 'text/plain'}
    good = policy('enforce', 'mx.good.test')
    host = PolicyHost(world, papers, {
        'good.test': good,
        'moved.test': (301, {'Location': f'https://mta-sts.good.test{PATH}', **plain}, b''),
        'long.test': (200, plain, b'x' * 65537),
        'longest.test': (200, plain, b'x' * 65536),
        'html.test': (200, {'Content-Type': 'text/html'}, good.encode()),
        'nothing.test': (404, plain, good.encode()),
        'self.test': good,
        'silent.test': good,
    }, distrusted=('self.test',))
    host.gates['silent.test'] = threading.Event()
    server = Resolver(world, *(f'mta-sts.{domain}. A {host.address}' for domain in host.domains),
                      f'mta-sts.closed.test. A {world.address()}')
    helper = Helper(world, papers, server)
    helper.socket.sendall(b'99 silent.test\n')
    got = helper.ask(*(domain for domain in host.domains if domain != 'silent.test'),
                     'closed.test', 'unknown.test')
    assert got['good.test'] == ('policy', good.encode())
    assert got['longest.test'] == ('policy', b'x' * 65536)
    assert got['moved.test'] == ('unreached', b'the host answers with HTTP status 301')
    assert got['nothing.test'] == ('unreached', b'the host answers with HTTP status 404')
    assert got['long.test'] == ('unfit', b'the policy is longer than 65,536 octets')
    assert got['html.test'] == ('unfit', b'the policy is not of the type text/plain')
    assert got['self.test'][0] == 'distrusted'
    assert got['closed.test'][0] == 'unreached'
    assert got['unknown.test'] == ('unreached', b'the host has no address')
    assert host.asked.count('good.test') == 1
    host.gates['silent.test'].set()
    assert helper.file.readline() == f'99 policy {len(good)}\n'.encode()
    # What is no request ends it, and so does the end of the input.
    helper.socket.sendall(b'1 /etc/passwd\n')
    assert helper.program.wait(20) == 0
    other = Helper(world, papers, server)
    other.socket.shutdown(socket.SHUT_WR)
    assert other.program.wait(20) == 0
