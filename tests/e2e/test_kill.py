"""SIGKILL under load, again and again, with a ledger outside: nothing answered with 250 is lost,
little is doubled, and the accounting knows of every recipient exactly once.
"""
import random
import time

import load

KILLS = 30
KILLS_WHILE_STARTING = 6


def kill_while_starting(daemon):
    """Recovery can be killed too, and begins anew."""
    daemon.launch()
    time.sleep(random.uniform(0.01, 0.3))
    daemon.kill()


def test_kills_lose_nothing(world):
    sink = world.sink(*load.RULES)
    daemon = world.daemon('{base}' + load.CONFIG % sink.address).start()
    generator = world.generator(daemon.listen, '--survive', '--sessions', '20', '--rate', '3000',
                                '--messages', '1000000', '--sizes', '2k:95,20k:5',
                                '--domains', '20')
    crashes = load.Crashes(daemon, sink, daemon.kill)
    for number in range(KILLS):
        crashes.one(0.05, 2.0)
        if number % (KILLS // KILLS_WHILE_STARTING) == 2:
            kill_while_starting(daemon)
            crashes.while_starting()
        daemon.start()
    time.sleep(0.5)
    load.settle(daemon, generator)
    load.check_ledger(world, sink, generator, least=10000)
    crashes.check()
    load.check_accounting(daemon, generator)
    assert daemon.shutdown() == 0
