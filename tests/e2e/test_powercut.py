"""Power cuts: the spool lies on a file system of ours that forgets what was not synced (droppable),
so that a missing sync loses mail and shows. A SIGKILL alone could never show it: the page cache
survives the process.
"""
import os
import time

import pytest

import load
from disks import disk, place_on  # noqa: F401 (disk is a fixture)
from harness import say, verify

CUTS = 20


def test_the_file_system_forgets_what_was_not_synced(disk):
    """Its promises, by each of the ways to make something durable."""
    path = os.path.join(disk.path, 'file')
    directory = os.open(disk.path, os.O_RDONLY | os.O_DIRECTORY)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(file, b'a' * 4096, 0)
    os.fdatasync(file)
    os.fsync(directory)
    os.pwritev(file, [b'b' * 512], 512, os.RWF_DSYNC)
    with_flag = os.open(path, os.O_WRONLY | os.O_DSYNC)
    os.pwrite(with_flag, b'c' * 512, 1024)
    os.pwrite(file, b'lost', 0)
    os.pwrite(file, b'lost', 8192)
    unnamed = os.open(os.path.join(disk.path, 'unnamed'), os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(unnamed, b'x')
    os.fsync(unnamed)
    disk.order('cut')
    with pytest.raises(OSError):
        os.pwrite(file, b'x', 0)
    disk.order('on')
    with open(path, 'rb') as survivor:
        content = survivor.read()
    assert content == b'a' * 512 + b'b' * 512 + b'c' * 512 + b'a' * 2560
    assert os.listdir(disk.path) == ['file']
    for descriptor in file, with_flag, unnamed, directory:
        os.close(descriptor)


def test_power_cuts_lose_nothing(world, disk):
    """Twenty cuts under load; half of them tear what was being written."""
    sink = world.sink(*load.RULES)
    daemon = place_on(world.daemon(), disk, load.CONFIG % sink.address)
    generator = world.generator(daemon.listen, '--survive', '--sessions', '20', '--rate', '1500',
                                '--messages', '1000000', '--sizes', '2k:95,20k:5',
                                '--domains', '20')
    seeds = iter(range(1, CUTS + 1))

    def cut():
        seed = next(seeds)
        disk.order(f'cut {seed}' if seed % 2 else 'cut')
        daemon.kill()
        disk.order('on')

    crashes = load.Crashes(daemon, sink, cut)
    for _ in range(CUTS):
        crashes.one(0.05, 2.0)
        daemon.start()
    time.sleep(0.5)
    load.settle(daemon, generator)
    say(f'droppable: {disk.counters()}')
    load.check_ledger(world, sink, generator, least=3000)
    load.check_accounting(daemon, generator)
    crashes.check()
    counters = disk.counters()
    assert counters['cuts'] == CUTS and counters['dropped_sectors'] > 0
    assert daemon.shutdown() == 0


def test_a_disk_that_lies_about_syncs_shows(world, disk):
    """The control experiment: the same ledger does find losses where syncs are missing."""
    sink = world.sink('--rule', 'rcpt 451 4.2.1 mailbox busy')
    daemon = place_on(world.daemon(), disk, load.CONFIG % sink.address)
    honest = world.generator(daemon.listen, '--sessions', '10', '--messages', '100', name='honest')
    assert honest.wait()['accepted'] == 100
    disk.order('lie')
    lied_to = world.generator(daemon.listen, '--sessions', '10', '--messages', '300', name='lied')
    assert lied_to.wait()['accepted'] == 300
    disk.order('cut')
    daemon.kill()
    disk.order('on')
    disk.order('honest')
    daemon.start()
    survivors = daemon.counters()['queued_rcpts']
    sink.stop()
    behaving = world.sink(address=sink.address, name='behaving')
    daemon.wait_for(20, queued_rcpts=0)
    say(f'{survivors} of 100 synced and 300 unsynced messages survived')
    assert survivors == 100
    assert verify(world, honest.ledger, behaving.ledger)['lost'] == 0
    assert verify(world, lied_to.ledger, behaving.ledger)['lost'] == 300


def device_flushes(path):
    """Flush requests that the disk below this path has completed; None where nobody counts."""
    number = os.stat(path).st_dev
    with open('/proc/diskstats', encoding='ascii') as stats:
        for line in stats:
            fields = line.split()
            if (int(fields[0]), int(fields[1])) == (os.major(number), os.minor(number)):
                return int(fields[18]) if len(fields) > 18 else None
    return None


def test_every_commit_reaches_the_device(world):
    """On the real disk: at least as many flushes as commits, or the kernel was never asked.

    First only messages are committed, then only outcomes: the kernel may merge flushes that are
    asked for at the same time.
    """
    if device_flushes(world.directory) is None:
        pytest.skip('the disk below the build directory does not count its flushes')
    address = world.address()
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{address}]:2525\n'
                          '    retry-after 1h\n</domain>\n').start()
    for phase, kind in ('accepting', 'message_commits'), ('delivering', 'outcome_commits'):
        commits_before, before = daemon.counters()[kind], device_flushes(world.directory)
        if phase == 'accepting':
            generator = world.generator(daemon.listen, '--sessions', '5', '--messages', '1000')
            assert generator.wait()['accepted'] == 1000
        else:
            world.sink('--rule', 'connect delay=20', '--rule', 'dot delay=50', address=address)
            assert daemon.cli('schedule', '*/*').returncode == 0
            daemon.wait_for(30, delivered=1000, queued_rcpts=0)
        commits = daemon.counters()[kind] - commits_before
        flushes = device_flushes(world.directory) - before
        say(f'{phase} 1000 messages: {commits} commits, {flushes} flushes of the device')
        assert commits >= 3
        assert flushes >= commits
