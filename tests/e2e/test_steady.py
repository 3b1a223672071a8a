"""A daemon in steady work asks the heap for nothing: its memory was made ready while it warmed up."""
MESSAGES = 3000


def pass_on(world, daemon, sink_messages):
    """One round of load; returns the allocations made since the daemon's start."""
    world.generator(daemon.listen, '--messages', str(MESSAGES), '--sessions', '20',
                    '--domains', '50', name=f'gen{sink_messages}').wait()
    counters = daemon.wait_for(30, delivered=sink_messages, queued_rcpts=0, sessions_in=0)
    return counters['allocations']


def test_no_allocation_per_message(world):
    """The second and third thousand messages may cost an answer to us (rows, text), never one
    allocation each: what grows with messages would be thousands."""
    sink = world.sink()
    daemon = world.daemon(f'{{base}}<domain *>\n    smtp-hosts [{sink.address}]:2525\n'
                          '</domain>\n').start()
    warm = pass_on(world, daemon, MESSAGES)
    assert warm > 0, 'nothing is counted'
    second = pass_on(world, daemon, 2 * MESSAGES)
    third = pass_on(world, daemon, 3 * MESSAGES)
    assert third - second < MESSAGES // 100, (warm, second, third)
